/* SPDX-License-Identifier: MIT */
/*
 * The simulated fault handlers. A handler reads a fault; claims a run of pages in one state; for stored
 * pages asks the tier; then, in one step (the shared section), checks that each page is still its own,
 * installs, publishes, wakes. Who finds its page changed throws its work away; who is told EAGAIN gives
 * its claim back.
 */
#include <string.h>

#include "assert.h"
#include "sim_world.h"

bool sim_again(struct sim *sim, uint32_t space)
{
	return sim->spaces[space].changing > 0 || sim_fails(sim, SIM_FAIL_AGAIN);
}

/* Read the message of a fault, or take a deferred one up once the kernel lets pages in again. */
bool sim_fault_read(struct sim *sim, struct sim_handler *handler, const struct sim_action *action)
{
	struct sim_space *space = &sim->spaces[action->space];

	if (handler->state != H_IDLE || space->state != SPACE_ALIVE)
		return false;
	for (unsigned i = 0; i < SIM_THREADS; i++) {
		struct sim_thread *thread = &space->threads[i];

		if (thread->state != T_FAULT &&
		    (thread->state != T_DEFERRED || space->changing > 0))
			continue;
		thread->state = T_READ;
		handler->state = H_READ;
		handler->space = (uint8_t)action->space;
		handler->thread = (uint8_t)i;
		handler->page = handler->asked = thread->page;
		return true;
	}
	return false;
}

static uint64_t claim_word(uint64_t word, uint32_t cookie)
{
	if (page_state(word) == PAGE_ABSENT)
		return page_word(PAGE_FILLING, 0, cookie, 0, false);
	if (page_state(word) == PAGE_STORED)
		return page_word(PAGE_LOADING, page_tier(word), cookie, page_slot(word), false);
	return page_word_as(word, PAGE_RETURNING);
}

static uint64_t give_back_word(uint64_t word)
{
	if (page_state(word) == PAGE_FILLING)
		return 0;
	if (page_state(word) == PAGE_LOADING)
		return page_word(PAGE_STORED, page_tier(word), 0, page_slot(word), false);
	return page_word_as(word, PAGE_HELD);
}

static bool claimable(uint64_t word, enum sim_handler_state kind)
{
	enum page_state state = page_state(word);

	if (kind == H_FILL)
		return state == PAGE_ABSENT;
	if (kind == H_LOAD)
		return state == PAGE_STORED;
	return state == PAGE_HELD || state == PAGE_STORING;
}

/* Claim the page of the fault and those behind it that are alike, as far as read-ahead says. */
static void claim_run(struct sim *sim, struct sim_handler *handler, enum sim_handler_state kind,
		      enum engine_touch touch)
{
	uint32_t cookie = (uint32_t)(handler - sim->world->handlers) + 1, want = 1;
	uint32_t idx = sim_idx(sim, handler->space, handler->page);

	handler->idx = (uint16_t)idx;
	/* Each touch of what is held on the fast node is to be seen. */
	if (sim->config.engine &&
	    (kind != H_RETURN || page_slow(*sim_word(sim, handler->space, handler->page))))
		want = engine_readahead(&sim->regions[handler->space], idx, touch);
	if (want > SIM_RUN_MAX)
		want = SIM_RUN_MAX;
	while (handler->nr < want && handler->page + handler->nr < sim->config.nr_pages) {
		uint32_t page = (uint32_t)handler->page + handler->nr;
		uint64_t word = *sim_word(sim, handler->space, page), claim;

		if (!claimable(word, kind) || sim_idx(sim, handler->space, page) != idx + handler->nr)
			break;
		claim = claim_word(word, cookie);
		sim_must_change(sim, handler->space, page, word, claim);
		handler->words[handler->nr] = claim;
		handler->mine = (uint8_t)(handler->mine | 1u << handler->nr);
		handler->nr++;
	}
	handler->state = (uint8_t)kind;
}

void sim_handler_rest(struct sim_handler *handler)
{
	memset(handler, 0, sizeof(*handler));
}

static void fault_begin(struct sim *sim, struct sim_handler *handler)
{
	uint64_t word = *sim_word(sim, handler->space, handler->page);

	switch (page_state(word)) {
	case PAGE_ABSENT:
		if (sim_block_begin(sim, handler, word))
			return;
		claim_run(sim, handler, H_FILL, TOUCH_FILL);
		return;
	case PAGE_STORED:
		claim_run(sim, handler, H_LOAD, TOUCH_LOAD);
		return;
	case PAGE_HELD:
	case PAGE_STORING:
		if (page_state(word) == PAGE_HELD && sim_block_begin(sim, handler, word))
			return;
		claim_run(sim, handler, H_RETURN, TOUCH_RETURN);
		return;
	case PAGE_RESIDENT:
		handler->state = H_ZERO;
		return;
	case PAGE_HOLDING: /* the mover wakes nobody */
		sim_wake(sim, handler->space, handler->page, 1);
		sim_handler_rest(handler);
		return;
	case PAGE_FILLING:
	case PAGE_LOADING:
	case PAGE_RETURNING:
	case PAGE_STATE_COUNT:
		sim_handler_rest(handler); /* who has it wakes all */
	}
}

void sim_fault_defer(struct sim *sim, const struct sim_handler *handler)
{
	struct sim_thread *threads = sim->spaces[handler->space].threads;

	/* Others who were told to wait for this handler are in the same boat. */
	for (unsigned i = 0; i < SIM_THREADS; i++)
		if (threads[i].state == T_READ && threads[i].page >= handler->page &&
		    threads[i].page < handler->page + (handler->nr ? handler->nr : 1))
			threads[i].state = T_DEFERRED;
}

/* Where a page of the run is by now. */
static uint32_t page_of(const struct sim *sim, const struct sim_handler *handler, uint32_t i)
{
	return sim_at(sim, handler->space, handler->idx + i);
}

/* Whoever touched a page where it is now, while it was ours, was not answered. */
static void give_back(struct sim *sim, struct sim_handler *handler)
{
	for (uint32_t i = 0; i < handler->nr; i++) {
		uint32_t page = page_of(sim, handler, i);

		sim_change(sim, handler->space, page, handler->words[i], give_back_word(handler->words[i]));
		if (page != handler->page + i)
			sim_wake(sim, handler->space, page, 1);
	}
	sim_fault_defer(sim, handler);
	sim_handler_rest(handler);
}

/* Decompress, without a lock: what comes of a slot that went meanwhile is thrown away later. */
static void fault_load(struct sim *sim, struct sim_handler *handler)
{
	for (uint32_t i = 0; i < handler->nr; i++) {
		uint32_t slot = page_slot(handler->words[i]);
		int err = sim->config.tier->ops->load(sim->config.tier, slot, sim->buffer);

		handler->contents[i] = sim->slots[slot].content;
		if (*sim_word(sim, handler->space, page_of(sim, handler, i)) != handler->words[i])
			continue;
		if (err) {
			sim->counts.load_error++;
			give_back(sim, handler);
			return;
		}
		sim_fill(handler->contents[i], sim->expect);
		tide_assert(memcmp(sim->buffer, sim->expect, TIER_PAGE_BYTES) == 0);
	}
	handler->state = H_LOADED;
}

/* The page was there already. */
static void install_exists(struct sim *sim, uint32_t space, uint32_t at, uint64_t word)
{
	/* Mapped, and no word said so: it may be about to be zapped, so nobody may count on it. */
	tide_assert(page_state(word) == PAGE_FILLING);
	sim_change(sim, space, at, word, 0);
}

/* Without an engine every touched page is. */
static bool promoted(struct sim *sim, uint32_t space, uint32_t at)
{
	return !sim->config.engine ||
	       engine_promote(&sim->regions[space], sim_idx(sim, space, at), sim->now_ns);
}

static void install_page(struct sim *sim, struct sim_handler *handler, uint32_t i)
{
	uint32_t at = handler->page + i, space = handler->space;
	uint64_t word = handler->words[i], to = page_word(PAGE_RESIDENT, 0, 0, 0, false);
	struct sim_page *page = sim_page(sim, space, at);
	enum engine_touch touch = TOUCH_FILL;

	if (*sim_word(sim, space, at) != word)
		return;
	if (page->mapping != MAP_MANAGED) { /* no registered mapping there any more */
		tide_assert(page_state(word) == PAGE_FILLING);
		sim_change(sim, space, at, word, 0);
		return;
	}
	if (page->mapped) {
		install_exists(sim, space, at, word);
		return;
	}
	page->content = 0;
	if (page_state(word) == PAGE_LOADING) {
		page->content = handler->contents[i];
		to = page_word(PAGE_RESIDENT, page_tier(word), 0, page_slot(word), true);
		touch = TOUCH_LOAD;
	} else if (page_state(word) == PAGE_RETURNING) {
		page->content = sim_place_content(sim_place(sim, space, page_place(word)));
		sim_place(sim, space, page_place(word))->use = PLACE_DROP;
		to = page_shadow(word) ?
			page_word(PAGE_RESIDENT, page_tier(word), 0, page_slot(word), true) :
			page_word_on(to, page_slow(word) && !promoted(sim, space, at));
		touch = TOUCH_RETURN;
	}
	page->mapped = true;
	page->lazy = false;
	page->cow = false;
	sim_must_change(sim, space, at, word, to);
	if (sim->config.engine)
		engine_touch(&sim->regions[space], handler->idx + i, touch, HEAT_NO_NODE, sim->now_ns);
}

/* Missing though the word says resident: zapped after its event was read, so it is zeros. */
static void install_zero(struct sim *sim, struct sim_handler *handler)
{
	uint32_t space = handler->space, at = handler->page;
	struct sim_page *page = sim_page(sim, space, at);
	uint64_t word = *sim_word(sim, space, at), filling = page_word_as(word, PAGE_FILLING);

	if (page_state(word) != PAGE_RESIDENT)
		return;
	sim_must_change(sim, space, at, word, filling);
	if (page->mapping != MAP_MANAGED || page->mapped) {
		sim_must_change(sim, space, at, filling, word);
		return;
	}
	page->mapped = true;
	page->content = 0;
	page->lazy = false;
	page->cow = false;
	sim_must_change(sim, space, at, filling, page_word(PAGE_RESIDENT, 0, 0, 0, false));
	if (page_shadow(word))
		sim_unref(sim, page_slot(word));
}

/* A mapping has moved since the claim: none of it is installed. */
static bool any_moved(struct sim *sim, const struct sim_handler *handler)
{
	uint64_t nr = 0;

	for (uint32_t i = 0; i < handler->nr; i++)
		nr += page_of(sim, handler, i) != handler->page + i;
	sim->counts.moved_claimed += nr;
	return nr;
}

static void fault_install(struct sim *sim, struct sim_handler *handler)
{
	if (any_moved(sim, handler) || sim_again(sim, handler->space)) {
		give_back(sim, handler);
		return;
	}
	if (handler->state == H_ZERO)
		install_zero(sim, handler);
	for (uint32_t i = 0; i < handler->nr; i++)
		install_page(sim, handler, i);
	sim_wake(sim, handler->space, handler->page, handler->nr ? handler->nr : 1);
	sim_handler_rest(handler);
}

bool sim_handler_go_on(struct sim *sim, struct sim_handler *handler)
{
	if (handler->state != H_IDLE && sim->spaces[handler->space].state != SPACE_ALIVE)
		return false; /* ends when the space is reaped */
	switch ((enum sim_handler_state)handler->state) {
	case H_READ:
		fault_begin(sim, handler);
		return true;
	case H_LOAD:
		fault_load(sim, handler);
		return true;
	case H_ZERO:
	case H_FILL:
	case H_LOADED:
	case H_RETURN:
		fault_install(sim, handler);
		return true;
	case H_CLAIM:
		sim_block_claim(sim, handler);
		return true;
	case H_PUT:
		sim_block_put(sim, handler);
		return true;
	case H_PIECES:
		sim_block_piece(sim, handler);
		return true;
	case H_KNOWN:
		sim_block_known(sim, handler);
		return true;
	case H_IDLE:
		break;
	}
	return false;
}
