/* SPDX-License-Identifier: MIT */
/*
 * The simulated mover. Per move: claims; then HOLD by way of the stage, under the lock, or STORE page by
 * page in two steps each (the tier keeps it; published if the page is still its own), or DEMOTE likewise
 * (the kernel moves it; it counts as moved if it is still held there); then tells the engine. Beside that
 * it drops what was given up in the hold area, and shadows.
 */
#include <errno.h>
#include <string.h>

#include "assert.h"
#include "sim_world.h"

static uint64_t pages_used(struct sim *sim, uint64_t *ret_held)
{
	uint64_t used = 0;

	*ret_held = 0;
	for (uint32_t i = 0; i < sim->config.nr_spaces * sim->config.nr_pages; i++)
		used += sim->pages[i].mapped;
	for (uint32_t i = 0; i < sim->config.nr_spaces * sim->config.nr_places; i++)
		*ret_held += sim->places[i].use != PLACE_FREE;
	return used + *ret_held;
}

/* What of it is on the slow node, which is not the business of the fast one's budget. */
static void slow_measure(struct sim *sim, struct engine_need *need)
{
	need->slow_max = sim->config.slow_pages;
	for (uint32_t i = 0; need->slow_max && i < sim->config.nr_spaces; i++) {
		bool known = sim->spaces[i].state == SPACE_ALIVE || sim->spaces[i].state == SPACE_GONE;

		for (uint32_t j = 0; known && j < sim->config.nr_pages; j++) {
			uint64_t word = *sim_word(sim, i, j);

			need->slow += page_slow(word);
			need->slow_held += page_slow(word) && page_has_hold(word);
		}
	}
	need->resident -= need->slow < need->resident ? need->slow : need->resident;
	need->held -= need->slow_held < need->held ? need->slow_held : need->held;
	need->held_max -= need->slow_held < need->held_max ? need->slow_held : need->held_max;
}

static bool plan_ask(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct move plan[SIM_PLAN_MAX];
	struct engine_need need = { .limit = sim->config.limit_pages,
				    .store_full = sim->world->store_full };
	bool again;

	need.resident = pages_used(sim, &need.held);
	need.held_max = (uint64_t)sim->config.nr_places * sim->config.nr_spaces;
	slow_measure(sim, &need);
	for (uint32_t i = 0; i < sim->config.nr_spaces; i++)
		for (unsigned j = 0; j < SIM_THREADS; j++)
			need.filling += sim->spaces[i].threads[j].state == T_FAULT;
	sim->world->store_full = false;
	mover->nr_moves = (uint8_t)engine_step(sim->config.engine, sim->now_ns, &need, plan,
					       SIM_PLAN_MAX, &again);
	for (uint32_t i = 0; i < mover->nr_moves; i++)
		mover->moves[i] = (struct sim_move){
			.id = plan[i].id,
			.space = (uint8_t)(plan[i].region - sim->regions),
			.first = (uint16_t)plan[i].first,
			.nr = (uint16_t)plan[i].nr_pages,
			.op = (uint8_t)plan[i].op,
		};
	mover->state = mover->nr_moves ? M_BEGIN : M_IDLE;
	return mover->nr_moves > 0;
}

bool sim_plan_given(struct sim *sim, const struct sim_action *action)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[0];
	uint32_t first = sim_idx(sim, action->space, action->page);

	if (sim->config.engine || mover->state != M_IDLE || action->nr == 0 ||
	    sim->spaces[action->space].state != SPACE_ALIVE ||
	    first + action->nr > sim->config.nr_pages)
		return false;
	memset(mover, 0, sizeof(*mover));
	move->space = (uint8_t)action->space;
	move->first = (uint16_t)first;
	move->nr = (uint16_t)action->nr;
	move->op = (uint8_t)action->op;
	mover->nr_moves = 1;
	mover->state = M_BEGIN;
	return true;
}

static void ends(struct sim_mover *mover, enum move_reason reason, uint32_t nr)
{
	mover->result.nr_pages[reason] += nr;
}

static void move_end(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint32_t sum = 0;

	for (unsigned i = 0; i < MOVE_REASON_COUNT; i++) {
		sum += mover->result.nr_pages[i];
		sim->counts.reason[move->op][i] += mover->result.nr_pages[i];
	}
	tide_assert(sum == move->nr);
	if (sim->config.engine)
		engine_complete(sim->config.engine, move->id, &mover->result, sim->now_ns);
	memset(&mover->result, 0, sizeof(mover->result));
	mover->mine = 0;
	mover->page = 0;
	mover->state = M_BEGIN;
	if (++mover->at < mover->nr_moves)
		return;
	memset(mover, 0, sizeof(*mover));
}

/* Why a page that the plan or the claim named is not there for it any more. */
static enum move_reason lost(uint64_t word, bool claimed)
{
	enum page_state state = page_state(word);

	if (state == PAGE_ABSENT || state == PAGE_FILLING)
		return MOVE_DROP_GONE;
	if (claimed || state == PAGE_RETURNING || state == PAGE_LOADING)
		return MOVE_DROP_TOUCHED;
	return MOVE_DROP_CHANGED;
}

/* Where a page of the move is by now. */
static uint32_t page_at(const struct sim *sim, const struct sim_move *move, uint32_t i)
{
	return sim_at(sim, move->space, move->first + i);
}

static void move_begin(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	enum page_state from = move->op == MOVE_HOLD ? PAGE_RESIDENT : PAGE_HELD;
	enum page_state to = move->op == MOVE_HOLD ? PAGE_HOLDING : PAGE_STORING;

	if (move->op == MOVE_DEMOTE) {
		mover->state = M_DEMOTE;
		return;
	}
	for (uint32_t i = 0; i < move->nr; i++) {
		uint32_t at = page_at(sim, move, i);
		uint64_t word = *sim_word(sim, move->space, at);

		if (page_state(word) != from) {
			ends(mover, lost(word, false), 1);
			continue;
		}
		sim_must_change(sim, move->space, at, word,
				       page_word_as(word, to));
		mover->mine |= UINT64_C(1) << i;
	}
	mover->state = move->op == MOVE_HOLD ? M_CLAIMED : M_STORE;
	if (!mover->mine)
		move_end(sim);
}

static uint32_t places_free(struct sim *sim, uint32_t space)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < sim->config.nr_places; i++)
		nr += sim_place(sim, space, i)->use == PLACE_FREE;
	return nr;
}

static void page_stage(struct sim_page *page, struct sim_stage *ret_stage)
{
	*ret_stage = (struct sim_stage){ .content = page->content, .used = true, .lazy = page->lazy };
	page->mapped = false;
	page->content = 0;
	page->lazy = false;
}

/* A page leaves the program for the stage, or there is a reason why not. */
static enum move_reason page_leave(struct sim *sim, uint32_t space, uint32_t at,
				   struct sim_stage *stage)
{
	struct sim_page *page = sim_page(sim, space, at);
	uint32_t nr_staged = 0;

	for (uint32_t i = 0; i < sim->config.nr_pages; i++)
		nr_staged += sim->stage[i].used;
	if (places_free(sim, space) <= nr_staged)
		return MOVE_FAIL_FULL;
	if (sim_fails(sim, SIM_FAIL_DENIED) || page->denied)
		return MOVE_FAIL_DENIED;
	if (sim_fails(sim, SIM_FAIL_BUSY) || page->cow || page->pinned ||
	    sim->spaces[space].changing > 0)
		return MOVE_FAIL_BUSY;
	if (!page->mapped)
		return MOVE_DROP_CHANGED;
	sim->spaces[space].huge &= ~sim_block_bit(sim, at);
	page_stage(page, stage);
	return MOVE_OK;
}

/* A huge page leaves in one piece, when nothing of it stands in the way; whether it did. */
static bool block_leave(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint32_t nr = sim->config.block_pages, first = page_at(sim, move, mover->page);

	if (mover->page || move->nr != nr || sim->spaces[move->space].changing > 0 ||
	    sim->fail[SIM_FAIL_BUSY] == 1 || sim->fail[SIM_FAIL_DENIED] == 1 ||
	    !sim_block_holdable(sim, move->space, first, mover->mine) ||
	    !sim_in_a_row(sim, move->space, first, nr))
		return false;
	bool unsure = sim_fails(sim, SIM_FAIL_UNREPORTED);
	for (uint32_t i = 0; i < nr; i++) {
		page_stage(sim_page(sim, move->space, first + i), &sim->stage[i]);
		sim->stage[i].unsure = unsure;
		sim->stage[i].whole = true;
	}
	sim->spaces[move->space].huge &= ~sim_block_bit(sim, first);
	mover->page = unsure ? 0 : (uint16_t)nr;
	mover->state = unsure ? M_LOOK : M_STAGE;
	return true;
}

/* A page of the move stays in the program after all. */
static void page_stay(struct sim *sim, uint32_t i, enum move_reason reason)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint32_t at = page_at(sim, move, i);
	uint64_t word = *sim_word(sim, move->space, at);

	sim_must_change(sim, move->space, at, word, page_word_as(word, PAGE_RESIDENT));
	mover->mine &= ~(UINT64_C(1) << i);
	memset(&sim->stage[i], 0, sizeof(sim->stage[i]));
	ends(mover, reason, 1);
}

/* The lock is taken; what an event has taken since the claim is no longer ours. */
static void move_lock(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];

	for (uint32_t i = 0; i < move->nr; i++) {
		if (!(mover->mine >> i & 1) ||
		    page_state(*sim_word(sim, move->space, page_at(sim, move, i))) == PAGE_HOLDING)
			continue;
		mover->mine &= ~(UINT64_C(1) << i);
		ends(mover, MOVE_DROP_GONE, 1);
	}
	mover->state = M_STAGE;
	if (!mover->mine)
		move_end(sim);
}

/* The next page, into the stage. */
static void move_stage(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	enum move_reason reason;

	while (mover->page < move->nr && !(mover->mine >> mover->page & 1))
		mover->page++;
	if (mover->page == move->nr) {
		mover->state = M_HOLD;
		if (!mover->mine)
			move_end(sim);
		return;
	}
	struct sim_stage *stage = &sim->stage[mover->page];
	if (block_leave(sim))
		return;
	if (sim_fails(sim, SIM_FAIL_TOUCHED)) {
		*stage = (struct sim_stage){ .used = true, .zeros = true };
		mover->state = M_LOOK;
		return;
	}
	reason = page_leave(sim, move->space, page_at(sim, move, mover->page), stage);
	if (reason != MOVE_OK)
		page_stay(sim, mover->page, reason);
	else if (sim_fails(sim, SIM_FAIL_UNREPORTED)) {
		mover->state = M_LOOK;
		return;
	}
	mover->page++;
}

/* The place in the stage was taken: by the page itself, or by what the program left there? */
static void move_look(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint32_t i = mover->page++;
	const struct sim_page *page = sim_page(sim, move->space, page_at(sim, move, i));

	sim->stage[i].unsure = false;
	mover->state = mover->page < move->nr && sim->stage[mover->page].unsure ? M_LOOK : M_STAGE;
	if (sim->stage[i].zeros)
		page_stay(sim, i, MOVE_FAIL_IO);
	else /* a page where it was is another one, of a mapping whose event waits for us */
		tide_assert(!page->mapped || sim->spaces[move->space].changing > 0);
}

/* From the stage into the hold area, where nothing stands in the way; known from here on. */
static void move_hold(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	bool whole = sim->stage[0].whole;
	uint32_t place = 0;

	if (whole) {
		struct sim_space *space = &sim->spaces[move->space];
		bool found = sim_block_place(sim, move->space, &place);

		tide_assert(found);
		space->place_huge |= sim_block_bit(sim, place);
		space->place_whole |= sim_block_bit(sim, place);
		sim->counts.held_whole++;
	}
	for (uint32_t i = 0; i < move->nr; i++) {
		uint32_t at = page_at(sim, move, i);
		uint64_t word = *sim_word(sim, move->space, at);

		if (!(mover->mine >> i & 1))
			continue;
		while (sim_place(sim, move->space, place)->use != PLACE_FREE)
			place++;
		*sim_place(sim, move->space, place) = (struct sim_place){
			.content = sim->stage[i].content, .use = PLACE_OWNED,
			.lazy = sim->stage[i].lazy };
		memset(&sim->stage[i], 0, sizeof(sim->stage[i]));
		sim_must_change(sim, move->space, at, word, page_word_held(word, place));
		ends(mover, MOVE_OK, 1);
	}
	move_end(sim);
}

static enum move_reason reason_of(int err)
{
	return err == -ENOSPC ? MOVE_FAIL_FULL : err == -E2BIG ? MOVE_FAIL_REFUSED : MOVE_FAIL_IO;
}

/* Its shadow still holds the same bytes: nothing to write. */
static int shadow_same(struct sim *sim, uint64_t word, bool *ret_same)
{
	int differs;

	*ret_same = false;
	if (!page_shadow(word))
		return 0;
	differs = sim->config.tier->ops->compare(sim->config.tier, page_slot(word), sim->buffer);
	if (differs < 0) {
		sim->counts.compare_error++;
		return differs;
	}
	*ret_same = differs == 0;
	return 0;
}

/* The next page of the move that is still its own: into the tier. */
static void store_page(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint64_t word;
	uint32_t content;
	int err;

	while (mover->page < move->nr && !(mover->mine >> mover->page & 1))
		mover->page++;
	if (mover->page == move->nr) {
		move_end(sim);
		return;
	}
	word = *sim_word(sim, move->space, page_at(sim, move, mover->page));
	if (page_state(word) != PAGE_STORING) {
		ends(mover, lost(word, true), 1);
		mover->mine &= ~(UINT64_C(1) << mover->page++);
		return;
	}
	mover->place = page_place(word);
	content = sim_place_content(sim_place(sim, move->space, mover->place));
	sim_fill(content, sim->buffer);
	err = shadow_same(sim, word, &mover->same);
	if (!err && !mover->same)
		err = sim->config.tier->ops->store(sim->config.tier, sim->buffer, &mover->slot);
	mover->store_reason = (uint8_t)(err ? reason_of(err) : MOVE_OK);
	if (err == -ENOSPC)
		sim->world->store_full = true;
	if (!err && !mover->same) {
		tide_assert(mover->slot < sim->config.nr_slots &&
			    sim->slots[mover->slot].refs == 0);
		sim->slots[mover->slot] = (struct sim_slot){ .content = content, .refs = 1 };
	}
	mover->state = M_PUBLISH;
}

static void publish_stored(struct sim *sim, struct sim_move *move, uint32_t at, uint64_t word)
{
	struct sim_mover *mover = &sim->world->mover;
	uint32_t slot = mover->same ? page_slot(word) : mover->slot;

	sim_must_change(sim, move->space, at, word,
			       page_word(PAGE_STORED, SIM_TIER, 0, slot, false));
	if (page_shadow(word) && !mover->same)
		sim_unref(sim, page_slot(word));
	sim_place(sim, move->space, mover->place)->use = PLACE_DROP;
}

/* Not kept. What will be refused again goes back into the program; the rest stays held. */
static void store_refused(struct sim *sim, struct sim_move *move, uint32_t at, uint64_t word,
			  enum move_reason reason)
{
	struct sim_page *page = sim_page(sim, move->space, at);
	struct sim_place *place = sim_place(sim, move->space, page_place(word));
	uint64_t returning = page_word_as(word, PAGE_RETURNING);

	if (reason != MOVE_FAIL_REFUSED) {
		sim_must_change(sim, move->space, at, word, page_word_as(word, PAGE_HELD));
		return;
	}
	sim_must_change(sim, move->space, at, word, returning);
	if (sim->spaces[move->space].state != SPACE_ALIVE || sim_again(sim, move->space)) {
		sim_must_change(sim, move->space, at, returning, page_word_as(word, PAGE_HELD));
		return;
	}
	tide_assert(page->mapping == MAP_MANAGED && !page->mapped);
	page->mapped = true;
	page->content = sim_place_content(place);
	place->use = PLACE_DROP;
	sim_must_change(sim, move->space, at, returning,
			page_word(PAGE_RESIDENT, page_shadow(word) ? page_tier(word) : 0, 0,
				  page_shadow(word) ? page_slot(word) : 0, page_shadow(word)));
	sim_wake(sim, move->space, at, 1);
}

static void store_publish(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint32_t at = page_at(sim, move, mover->page);
	uint64_t word = *sim_word(sim, move->space, at);
	bool mine = page_state(word) == PAGE_STORING && page_place(word) == mover->place;
	enum move_reason reason = mover->store_reason;

	if (mine && reason == MOVE_OK)
		publish_stored(sim, move, at, word);
	else if (mine)
		store_refused(sim, move, at, word, reason);
	else if (reason == MOVE_OK && !mover->same)
		sim_unref(sim, mover->slot); /* touched or gone meanwhile */
	ends(mover, mine ? reason : lost(word, true), 1);
	mover->mine &= ~(UINT64_C(1) << mover->page++);
	mover->state = M_STORE;
	mover->same = false;
	mover->slot = mover->place = mover->store_reason = 0;
}

/* The next page that is held on the fast node: the kernel moves it. */
static void demote_page(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint64_t word;

	if (mover->page == move->nr) {
		move_end(sim);
		return;
	}
	word = *sim_word(sim, move->space, page_at(sim, move, mover->page));
	if (page_state(word) == PAGE_HELD && !page_slow(word) && !page_shadow(word)) {
		mover->place = page_place(word);
		mover->state = M_DEMOTED;
		return;
	}
	ends(mover, lost(word, false), 1);
	mover->page++;
}

/* It counts as being there, unless it was touched or discarded meanwhile. */
static void demote_publish(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint32_t at = page_at(sim, move, mover->page++);
	uint64_t word = page_word(PAGE_HELD, 0, mover->place, 0, false);

	if (sim_change(sim, move->space, at, word, page_word_on(word, true)))
		ends(mover, MOVE_OK, 1);
	else
		ends(mover, lost(*sim_word(sim, move->space, at), true), 1);
	mover->place = 0;
	mover->state = M_DEMOTE;
}

/* Its space was reaped under it: whatever is left of the move is gone. */
static void move_gone(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;
	struct sim_move *move = &mover->moves[mover->at];
	uint32_t ended = 0;

	for (unsigned i = 0; i < MOVE_REASON_COUNT; i++)
		ended += mover->result.nr_pages[i];
	if (mover->state == M_PUBLISH && mover->store_reason == MOVE_OK && !mover->same)
		sim_unref(sim, mover->slot);
	mover->same = false;
	mover->slot = mover->place = mover->store_reason = 0;
	memset(sim->stage, 0, sim->config.nr_pages * sizeof(*sim->stage));
	ends(mover, MOVE_DROP_GONE, move->nr - ended);
	move_end(sim);
}

bool sim_mover_go_on(struct sim *sim)
{
	struct sim_mover *mover = &sim->world->mover;

	if (mover->state == M_IDLE)
		return sim->config.engine && plan_ask(sim);
	if (mover->moves[mover->at].gone) {
		move_gone(sim);
		return true;
	}
	if (mover->state == M_CLAIMED && sim_handler_helped(sim, mover->moves[mover->at].space))
		return false; /* one command at a time */
	switch ((enum sim_mover_state)mover->state) {
	case M_BEGIN:
		move_begin(sim);
		break;
	case M_CLAIMED:
		move_lock(sim);
		break;
	case M_STAGE:
		move_stage(sim);
		break;
	case M_LOOK:
		move_look(sim);
		break;
	case M_HOLD:
		move_hold(sim);
		break;
	case M_STORE:
		store_page(sim);
		break;
	case M_PUBLISH:
		store_publish(sim);
		break;
	case M_DEMOTE:
		demote_page(sim);
		break;
	case M_DEMOTED:
		demote_publish(sim);
		break;
	case M_IDLE:
		break;
	}
	return true;
}

bool sim_places_drop(struct sim *sim, uint32_t space)
{
	bool any = false;

	if (sim->world->mover.state != M_IDLE || sim_handler_helped(sim, space))
		return false;
	for (uint32_t i = 0; i < sim->config.nr_places; i++) {
		struct sim_place *place = sim_place(sim, space, i);

		if (place->use != PLACE_DROP)
			continue;
		sim->spaces[space].place_huge &= ~sim_block_bit(sim, i);
		memset(place, 0, sizeof(*place));
		any = true;
	}
	return any;
}

bool sim_shadow_drop(struct sim *sim, const struct sim_action *action)
{
	uint64_t word = *sim_word(sim, action->space, action->page);

	if (page_state(word) != PAGE_RESIDENT || !page_shadow(word))
		return false;
	sim_must_change(sim, action->space, action->page, word,
			       page_word(PAGE_RESIDENT, 0, 0, 0, false));
	sim_unref(sim, page_slot(word));
	return true;
}
