/* SPDX-License-Identifier: MIT */
/*
 * Simulated huge pages: the stock, and blocks that come in one piece.
 *
 *   a write to a block that is all absent ─┐                       ┌─► put ──► known
 *   a touch of one held in one piece ──────┴► claim, page by page ─┤     └► pieces ─► known
 *                                                                  └─► (spoilt) ─► known
 *
 * The handler has the space's lock shared from the first claim to the last word, and the helper, so that
 * no event is read and no page taken out meanwhile. Program threads, the kernel and a mover that stores go
 * on: between any two steps a page may be written, zapped, or claimed by the mover.
 *
 * What the helper's answer is made of is where the pages are, never what the kernel's call said: a page
 * that is not in its old place has gone.
 */
#include "assert.h"
#include "sim_world.h"

uint32_t sim_block_bit(const struct sim *sim, uint32_t at)
{
	uint32_t nr = sim->config.block_pages;

	return nr ? UINT32_C(1) << at / nr : 0;
}

bool sim_stock_prepare(struct sim *sim, uint32_t at)
{
	struct sim_space *space = &sim->spaces[at];

	if (space->state != SPACE_ALIVE || !space->stock_empty)
		return false;
	if (sim_fails(sim, SIM_FAIL_STOCK))
		return true;
	space->stock_empty--;
	space->stock_ready++;
	return true;
}

bool sim_block_holdable(struct sim *sim, uint32_t space, uint32_t page, uint64_t mine)
{
	uint32_t nr = sim->config.block_pages, place;
	uint64_t all = (UINT64_C(1) << nr) - 1;

	if (!nr || page % nr || (mine & all) != all || !(sim->spaces[space].huge & sim_block_bit(sim, page)) ||
	    !sim_block_place(sim, space, &place))
		return false;
	for (uint32_t i = page; i < page + nr; i++) {
		const struct sim_page *at = sim_page(sim, space, i);

		if (!at->mapped || at->cow || at->pinned || at->denied)
			return false;
	}
	return true;
}

bool sim_block_place(struct sim *sim, uint32_t space, uint32_t *ret_place)
{
	uint32_t nr = sim->config.block_pages, free = 0;

	for (uint32_t i = 0; nr && i < sim->config.nr_places; i++) {
		free = i % nr ? free : 0;
		free += sim_place(sim, space, i)->use == PLACE_FREE;
		if (i % nr == nr - 1 && free == nr) {
			*ret_place = i + 1 - nr;
			return true;
		}
	}
	return false;
}

const struct sim_handler *sim_put(const struct sim *sim, uint32_t space, uint32_t page)
{
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++) {
		const struct sim_handler *handler = &sim->world->handlers[i];

		if (handler->state >= H_PUT && handler->space == space && page >= handler->page &&
		    page < (uint32_t)handler->page + handler->nr &&
		    handler->moved >> (page - handler->page) & 1)
			return handler;
	}
	return NULL;
}

/* ---- claim ---- */

static bool all_absent(struct sim *sim, uint32_t space, uint32_t first)
{
	for (uint32_t i = first; i < first + sim->config.block_pages; i++)
		if (*sim_word(sim, space, i))
			return false;
	return true;
}

static bool held_at(uint64_t word, uint32_t place)
{
	return page_state(word) == PAGE_HELD && page_place(word) == place;
}

static bool all_held(struct sim *sim, uint32_t space, uint32_t first, uint32_t place)
{
	for (uint32_t i = 0; i < sim->config.block_pages; i++)
		if (!held_at(*sim_word(sim, space, first + i), place + i))
			return false;
	return true;
}

/* Whether a page was unmapped, and the server has not heard of it. */
static bool unmapped_unheard(const struct sim *sim, uint32_t space, uint32_t page)
{
	for (unsigned i = 0; i < SIM_THREADS; i++) {
		const struct sim_thread *thread = &sim->spaces[space].threads[i];

		if (thread->state == T_EVENT && (thread->act == SIM_UNMAP || thread->act == SIM_REMAP) &&
		    page >= thread->page &&
		    page < (uint32_t)thread->page + thread->nr)
			return true;
	}
	return false;
}

/* Whether the server takes it for a part of one mapping. */
static bool all_managed(struct sim *sim, uint32_t space, uint32_t first)
{
	for (uint32_t i = first; i < first + sim->config.block_pages; i++)
		if (sim_page(sim, space, i)->mapping != MAP_MANAGED && !unmapped_unheard(sim, space, i))
			return false;
	return sim_in_a_row(sim, space, first, sim->config.block_pages);
}

bool sim_block_begin(struct sim *sim, struct sim_handler *handler, uint64_t word)
{
	struct sim_space *space = &sim->spaces[handler->space];
	uint32_t nr = sim->config.block_pages, first = nr ? handler->asked / nr * nr : 0;
	uint32_t place = page_place(word) - (handler->asked - first);
	bool fills = page_state(word) == PAGE_ABSENT;

	if (!nr || handler->singly || first + nr > sim->config.nr_pages ||
	    !all_managed(sim, handler->space, first))
		return false;
	if (fills && (!space->threads[handler->thread].write || !space->stock_ready ||
		      !all_absent(sim, handler->space, first)))
		return false;
	if (!fills && (page_slow(word) || page_place(word) % nr != handler->asked % nr ||
		       !(space->place_whole & sim_block_bit(sim, place)) ||
		       !all_held(sim, handler->space, first, place)))
		return false;
	if (sim_mover_helped(sim, handler->space) || sim_handler_helped(sim, handler->space)) {
		/* It may be waiting for the lock: look again later. */
		sim_fault_defer(sim, handler);
		sim_handler_rest(handler);
		return true;
	}
	if (sim_fails(sim, SIM_FAIL_HELPER))
		return false;
	space->stock_ready = (uint8_t)(space->stock_ready - fills);
	handler->page = (uint16_t)first;
	handler->idx = (uint16_t)sim_idx(sim, handler->space, first);
	handler->fills = fills;
	handler->place = fills ? 0 : place;
	handler->put = PUT_NOT;
	handler->state = H_CLAIM;
	return true;
}

/* The next page; who finds one changed gives all back. */
void sim_block_claim(struct sim *sim, struct sim_handler *handler)
{
	uint32_t i = handler->nr, page = handler->page + i;
	uint32_t cookie = (uint32_t)(handler - sim->world->handlers) + 1;
	uint64_t word = *sim_word(sim, handler->space, page), claim;

	if (handler->fills ? word != 0 : !held_at(word, handler->place + i)) {
		sim->counts.claimed_part += i > 0;
		handler->state = H_KNOWN;
		return;
	}
	claim = handler->fills ? page_word(PAGE_FILLING, 0, cookie, 0, false) :
				 page_word_as(word, PAGE_RETURNING);
	sim_must_change(sim, handler->space, page, word, claim);
	handler->words[i] = claim;
	handler->mine = (uint8_t)(handler->mine | 1u << i);
	if (++handler->nr == sim->config.block_pages)
		handler->state = H_PUT;
}

/* ---- put ---- */

/* One page goes, if there is nothing where it would go to. */
static bool piece_move(struct sim *sim, struct sim_handler *handler, uint32_t i)
{
	struct sim_page *page = sim_page(sim, handler->space, handler->page + i);

	tide_assert(page->mapping == MAP_MANAGED);
	if (page->mapped)
		return false;
	page->content = 0;
	if (!handler->fills)
		page->content = sim_place_content(sim_place(sim, handler->space, handler->place + i));
	page->mapped = true;
	page->lazy = page->cow = false;
	handler->moved = (uint8_t)(handler->moved | 1u << i);
	return true;
}

static void pieces_begin(struct sim *sim, struct sim_handler *handler)
{
	if (!handler->fills)
		sim->spaces[handler->space].place_huge &= ~sim_block_bit(sim, handler->place);
	handler->put = PUT_DONE;
	handler->state = H_PIECES;
}

/* All at once, as a page table's one entry. */
static void block_move(struct sim *sim, struct sim_handler *handler)
{
	struct sim_space *space = &sim->spaces[handler->space];
	bool unreported = sim_fails(sim, SIM_FAIL_PUT_UNREPORTED);

	for (uint32_t i = 0; i < sim->config.block_pages; i++) {
		bool went = piece_move(sim, handler, i);

		tide_assert(went);
	}
	space->huge |= sim_block_bit(sim, handler->page);
	if (unreported) {
		pieces_begin(sim, handler);
		return;
	}
	handler->whole = true;
	handler->put = PUT_DONE;
	handler->state = H_KNOWN;
}

static bool any_mapped(struct sim *sim, const struct sim_handler *handler)
{
	for (uint32_t i = 0; i < sim->config.block_pages; i++)
		if (sim_page(sim, handler->space, handler->page + i)->mapped)
			return true;
	return false;
}

void sim_block_put(struct sim *sim, struct sim_handler *handler)
{
	struct sim_space *space = &sim->spaces[handler->space];

	handler->state = H_KNOWN;
	if (!handler->fills && !(space->place_huge & sim_block_bit(sim, handler->place))) {
		handler->put = PUT_NONE;
		return;
	}
	if (space->changing > 0 || sim_fails(sim, SIM_FAIL_PUT_AGAIN)) {
		handler->put = PUT_AGAIN;
		return;
	}
	if (sim_fails(sim, SIM_FAIL_PUT))
		return;
	if (sim_fails(sim, SIM_FAIL_PUT_PART)) {
		handler->at = (uint8_t)piece_move(sim, handler, 0);
		pieces_begin(sim, handler);
	} else if (any_mapped(sim, handler)) {
		pieces_begin(sim, handler);
	} else {
		block_move(sim, handler);
	}
}

/* The next of a block that came apart. */
void sim_block_piece(struct sim *sim, struct sim_handler *handler)
{
	uint32_t i = handler->at++;

	if (handler->at == sim->config.block_pages)
		handler->state = H_KNOWN;
	if (handler->moved >> i & 1)
		return; /* not where it was: it went, whatever the call had said */
	if (sim->spaces[handler->space].changing > 0 || sim_fails(sim, SIM_FAIL_PIECE))
		return;
	/* Whatever the answer is: the look tells. */
	(void)sim_fails(sim, SIM_FAIL_PIECE_UNREPORTED);
	piece_move(sim, handler, i);
}

/* ---- known ---- */

static void page_known(struct sim *sim, struct sim_handler *handler, uint32_t i)
{
	uint32_t page = handler->page + i, space = handler->space;
	uint64_t word = handler->words[i];
	bool moved = handler->moved >> i & 1;

	/* No event was read, and nobody else changes a claimed word. */
	if (!moved) {
		sim_must_change(sim, space, page, word,
				handler->fills ? 0 : page_word_as(word, PAGE_HELD));
		return;
	}
	sim_must_change(sim, space, page, word,
			handler->fills ? page_word(PAGE_RESIDENT, 0, 0, 0, false) : page_word_back(word));
	/* Nothing is there any more, and nobody looks: it may be given away. */
	if (!handler->fills)
		*sim_place(sim, space, handler->place + i) = (struct sim_place){ .use = PLACE_FREE };
	if (sim->config.engine)
		engine_touch(&sim->regions[space], handler->idx + i,
			     handler->fills ? TOUCH_FILL : TOUCH_RETURN, HEAT_NO_NODE, sim->now_ns);
}

/* Where the stock's block is now, or what is known of the places. */
static void source_known(struct sim *sim, struct sim_handler *handler)
{
	struct sim_space *space = &sim->spaces[handler->space];

	if (!handler->fills && handler->put != PUT_AGAIN)
		space->place_whole &= ~sim_block_bit(sim, handler->place);
	if (!handler->fills && handler->whole)
		space->place_huge &= ~sim_block_bit(sim, handler->place);
	if (handler->fills && handler->put == PUT_DONE)
		space->stock_empty++;
	else if (handler->fills)
		space->stock_ready++;
}

void sim_block_known(struct sim *sim, struct sim_handler *handler)
{
	uint32_t nr = sim->config.block_pages;
	uint64_t *ends = handler->fills ? sim->counts.filled : sim->counts.returned;
	bool here = handler->moved >> (handler->asked - handler->page) & 1;
	uint16_t asked = handler->asked;

	for (uint32_t i = 0; i < handler->nr; i++)
		page_known(sim, handler, i);
	source_known(sim, handler);
	ends[handler->whole ? SIM_BLOCK_WHOLE : handler->moved ? SIM_BLOCK_PART : SIM_BLOCK_NOT]++;
	sim_wake(sim, handler->space, handler->page, nr);
	if (here || handler->put == PUT_AGAIN) {
		sim_handler_rest(handler);
		return;
	}
	uint8_t space = handler->space, thread = handler->thread;

	sim_handler_rest(handler);
	handler->state = H_READ;
	handler->space = space;
	handler->thread = thread;
	handler->page = handler->asked = asked;
	handler->singly = true;
}
