/* SPDX-License-Identifier: MIT */
/*
 * The walk: what must hold in the simulated world after every step.
 *
 * Everything is looked at from outside, by its own count: who names a slot, who names a place,
 * where a page's content is and whether it is the right one, who will go on with what is under
 * way.
 */
#include <string.h>

#include "sim_world.h"

static bool content_right(const struct sim_page *page, uint32_t content)
{
	return content == page->now || (page->zero_ok && content == 0);
}

/* Where the server takes a page to be: it may not have heard yet that it moved. */
static uint32_t known_at(const struct sim *sim, uint32_t space, uint32_t at)
{
	for (unsigned i = 0; i < SIM_THREADS; i++) {
		const struct sim_thread *thread = &sim->spaces[space].threads[i];

		if (thread->state == T_EVENT && thread->act == SIM_REMAP && at >= thread->to &&
		    at < (uint32_t)thread->to + thread->nr)
			return at - thread->to + thread->page;
	}
	return at;
}

/* Where the one copy is, and that it is the right one. */
static const char *check_home(struct sim *sim, uint32_t space, uint32_t at)
{
	const struct sim_page *page = sim_page(sim, space, at);
	uint32_t known = known_at(sim, space, at);
	uint64_t word = *sim_word(sim, space, known);
	enum page_state state = page_state(word);

	if (page->mapping == MAP_NONE && page->mapped)
		return "a page is mapped where there is no mapping";
	if (page->mapped && !content_right(page, page->content))
		return "a mapped page has the wrong content";
	if (page->mapping != MAP_MANAGED)
		return NULL; /* what the word still says is about what was there before */
	if (sim_put(sim, space, known)) {
		if (!page->mapped && !content_right(page, 0))
			return "a page of a block went, is not there, and should not be zeros";
	} else if (page_has_hold(word)) {
		if (page->mapped)
			return "a page in the hold area is mapped as well";
		if (!content_right(page,
				   sim_place_content(sim_place(sim, space, page_place(word)))))
			return "a place of the hold area has the wrong content";
	} else if (state == PAGE_STORED || state == PAGE_LOADING) {
		if (page->mapped)
			return "a stored page is mapped as well";
		if (!content_right(page, sim->slots[page_slot(word)].content))
			return "a slot has the wrong content";
	} else if (sim_staged(sim, space, known)) {
		if (page->mapped)
			return "a page in the stage is mapped as well";
		if (!content_right(page, sim_staged(sim, space, known)->content))
			return "the stage has the wrong content";
	} else if (!page->mapped && !content_right(page, 0)) {
		return "a page is nowhere, and should not be zeros";
	}
	return NULL;
}

/* Whoever claimed a page is there to end the claim. */
static const char *check_claim(struct sim *sim, uint32_t space, uint32_t at, uint64_t word)
{
	const struct sim_mover *mover = &sim->world->mover;
	const struct sim_move *move = &mover->moves[mover->at];
	enum page_state state = page_state(word);
	uint32_t idx = sim_idx(sim, space, at);

	if (!page_moving(word) || sim->spaces[space].state == SPACE_GONE)
		return NULL;
	if (state == PAGE_HOLDING || state == PAGE_STORING) {
		if (mover->state == M_IDLE || move->gone || move->space != space ||
		    idx < move->first || idx >= (uint32_t)move->first + move->nr ||
		    !(mover->mine >> (idx - move->first) & 1))
			return "a page is being moved out by nobody";
		return NULL;
	}
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++) {
		const struct sim_handler *handler = &sim->world->handlers[i];

		if (handler->state == H_IDLE || handler->space != space || idx < handler->idx ||
		    idx >= (uint32_t)handler->idx + handler->nr)
			continue;
		if (handler->mine >> (idx - handler->idx) & 1 && handler->words[idx - handler->idx] == word)
			return NULL;
	}
	return "a page is being brought in by nobody";
}

static const char *check_word(struct sim *sim, uint32_t space, uint32_t at)
{
	uint64_t word = *sim_word(sim, space, at);
	const char *wrong;

	if (page_state(word) >= PAGE_STATE_COUNT)
		return "a word has no state";
	if (page_state(word) == PAGE_ABSENT && word != 0)
		return "an absent page names something";
	if (page_has_slot(word)) {
		if (page_slot(word) >= sim->config.nr_slots || page_tier(word) != SIM_TIER)
			return "a word names a slot that cannot be";
		sim->seen[page_slot(word)]++;
	}
	if (page_has_hold(word)) {
		if (page_place(word) >= sim->config.nr_places)
			return "a word names a place that cannot be";
		if (sim_place(sim, space, page_place(word))->use != PLACE_OWNED)
			return "a word names a place that was given up";
	}
	wrong = check_home(sim, space, at);
	return wrong ? wrong : check_claim(sim, space, at, word);
}

static const char *check_places(struct sim *sim, uint32_t space)
{
	uint32_t owned = 0, named = 0;
	uint64_t seen[SIM_PAGES_MAX * 4 / 64] = { 0 };

	for (uint32_t i = 0; i < sim->config.nr_places; i++)
		owned += sim_place(sim, space, i)->use == PLACE_OWNED;
	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		uint64_t word = *sim_word(sim, space, i);
		uint32_t place = page_place(word);

		if (!page_has_hold(word))
			continue;
		if (seen[place / 64] >> (place % 64) & 1)
			return "two pages have one place";
		seen[place / 64] |= UINT64_C(1) << (place % 64);
		named++;
	}
	return owned == named ? NULL : "a place belongs to no page";
}

static const char *check_slots(struct sim *sim)
{
	const struct sim_mover *mover = &sim->world->mover;
	struct tier_usage usage;
	uint64_t used = 0;

	if (mover->state == M_PUBLISH && mover->store_reason == MOVE_OK && !mover->same)
		sim->seen[mover->slot]++;
	for (uint32_t i = 0; i < sim->config.nr_slots; i++) {
		if (sim->seen[i] != sim->slots[i].refs)
			return "a slot's references are not those who name it";
		used += sim->slots[i].refs > 0;
	}
	sim->config.tier->ops->usage(sim->config.tier, &usage);
	return usage.pages == used ? NULL : "the tier holds other slots than are named";
}

/* Whether a page that a handler has in hand is there now. */
static bool has_moved(const struct sim *sim, const struct sim_handler *handler, uint32_t page)
{
	uint32_t idx = sim_idx(sim, handler->space, page);

	return idx >= handler->idx && idx < (uint32_t)handler->idx + handler->nr;
}

/* Nobody sleeps who would not be woken. */
static const char *check_threads(struct sim *sim, uint32_t space)
{
	unsigned events = 0, changing = 0;

	for (unsigned i = 0; i < SIM_THREADS; i++) {
		const struct sim_thread *thread = &sim->spaces[space].threads[i];
		bool awaited = false;

		events += thread->state == T_EVENT;
		changing += thread->state == T_EVENT || thread->state == T_COPIED ||
			    thread->state == T_WOKEN;
		for (uint32_t j = 0; j < sim->config.nr_handlers; j++) {
			const struct sim_handler *handler = &sim->world->handlers[j];
			uint32_t nr = handler->nr ? handler->nr : 1;

			awaited |= handler->state != H_IDLE && handler->space == space &&
				   ((thread->page >= handler->page &&
				     thread->page < handler->page + nr) ||
				    thread->page == handler->asked || has_moved(sim, handler, thread->page));
		}
		if (thread->state == T_READ && !awaited)
			return "a thread sleeps on a fault that nobody serves";
	}
	if (events != sim->spaces[space].nr_events)
		return "a thread sleeps on an event that is not queued";
	if (changing != sim->spaces[space].changing)
		return "mmap_changing is not the number of changes";
	return NULL;
}

static const char *check_engine(struct sim *sim)
{
	struct engine_stats stats;
	const char *wrong = engine_check(sim->config.engine);
	uint64_t ended = 0, moved = 0;

	if (wrong)
		return wrong;
	engine_stats(sim->config.engine, &stats);
	for (unsigned i = 0; i < MOVE_REASON_COUNT; i++)
		ended += stats.ended[i];
	for (unsigned i = 0; i < MOVE_OP_COUNT; i++)
		moved += stats.moved[i];
	if (stats.requested != ended + stats.pending)
		return "requested is not moved + failed + dropped + pending";
	if (moved != stats.ended[MOVE_OK])
		return "moved by operation is not moved";
	for (unsigned i = 0; i < MOVE_REASON_COUNT; i++) {
		uint64_t own = 0;

		for (unsigned j = 0; j < MOVE_OP_COUNT; j++)
			own += sim->counts.reason[j][i];
		if (own != stats.ended[i])
			return "the engine counts other ends of moves than it was told";
	}
	return NULL;
}

/* Huge pages are all there, and every block of the stock is somewhere. */
static const char *check_blocks(struct sim *sim, uint32_t at)
{
	const struct sim_space *space = &sim->spaces[at];
	uint32_t nr_stock = (uint32_t)space->stock_empty + space->stock_ready;

	for (uint32_t i = 0; i < sim->config.nr_pages; i++)
		if (space->huge & sim_block_bit(sim, i) && !sim_page(sim, at, i)->mapped)
			return "a part of a huge page is not there";
	for (uint32_t i = 0; i < sim->config.nr_places; i++)
		if (space->place_huge & sim_block_bit(sim, i) && sim_place(sim, at, i)->use == PLACE_FREE)
			return "a huge page is in places that are free";
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++) {
		const struct sim_handler *handler = &sim->world->handlers[i];

		nr_stock += handler->state >= H_CLAIM && handler->space == at && handler->fills;
	}
	if (sim->config.block_pages && nr_stock != SIM_STOCK_BLOCKS)
		return "a block of the stock is lost, or in two hands";
	return NULL;
}

/* Only a page that is being moved out is in the stage. */
static const char *check_stage(const struct sim *sim)
{
	const struct sim_mover *mover = &sim->world->mover;

	for (uint32_t i = 0; i < sim->config.nr_pages; i++)
		if (sim->stage[i].used && (mover->state < M_STAGE || mover->state > M_HOLD ||
					   !(mover->mine >> i & 1)))
			return "something was left in the stage";
	return NULL;
}

const char *sim_check(struct sim *sim)
{
	const char *wrong = NULL;

	memset(sim->seen, 0, sim->config.nr_slots * sizeof(*sim->seen));
	for (uint32_t i = 0; i < sim->config.nr_spaces && !wrong; i++) {
		if (sim->spaces[i].state == SPACE_NONE || sim->spaces[i].state == SPACE_BORN)
			continue;
		for (uint32_t j = 0; j < sim->config.nr_pages && !wrong; j++)
			wrong = check_word(sim, i, j);
		if (!wrong && sim->spaces[i].state == SPACE_ALIVE)
			wrong = check_places(sim, i);
		if (!wrong && sim->spaces[i].state == SPACE_ALIVE)
			wrong = check_blocks(sim, i);
		if (!wrong)
			wrong = check_threads(sim, i);
	}
	if (!wrong)
		wrong = check_stage(sim);
	if (!wrong)
		wrong = check_slots(sim);
	if (!wrong && sim->config.engine)
		wrong = check_engine(sim);
	return wrong;
}
