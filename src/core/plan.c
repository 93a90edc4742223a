/* SPDX-License-Identifier: MIT */
/*
 * Plan: two hands go round all regions.
 *
 *            front: folds what was touched, judges,               back: whatever is still
 *                   holds the cold ones                                 held here gets stored
 *     ───────────────►│· · · held pages, waiting for a touch · · ·│◄──────────────────────
 *                     └───────────────── the gap ─────────────────┘
 *
 * The gap is how long a held page has to be touched and so to come back for the price of a fault.
 * The back hand stays behind the front one unless somebody waits for room.
 *
 * A step looks at a bounded number of pages. It wants to be called again while it has not found what
 * it needs, but after a whole pass that found nothing it rests: it never spins.
 */
#include "assert.h"
#include "inner.h"

#define FOLD_MAX 4096u              /* ready pages a step folds */
#define LOOK_PAGES (128u * HEAT_BLOCK_PAGES) /* pages a hand looks at in a step: up to one block more */
#define BRIDGE_PAGES 16u            /* pages of no interest that a run may span */
#define REST_NS UINT64_C(10000000)  /* 10 ms */

/* The front hand reads a page's state at most twice, the back hand three times. */
_Static_assert(5 * (LOOK_PAGES + HEAT_BLOCK_PAGES) <= ENGINE_TAPE_ROOM, "a step fits on a tape");

struct plan {
	struct engine *engine;
	struct move *moves;
	size_t nr, max;
	uint64_t room; /* of the hold areas, in pages */
};

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* ---- folding ---- */

/* Fold a page's record into its estimate, if it is ready. */
static void page_fold(struct engine *engine, struct region *region, uint64_t idx)
{
	uint32_t record;

	if (!heat_take(&region->heat[idx], &record))
		return;
	uint16_t estimate = estimate_load(region, idx);
	estimate = heat_class(record) ? place_estimate_touched(&engine->place, estimate)
				      : place_estimate_born(&engine->place);
	estimate_store(region, idx, estimate);
}

/* Fold ready pages of all regions, hottest class first, beginning with another region each time. */
static void ready_fold(struct engine *engine)
{
	uint32_t left = FOLD_MAX;
	uint64_t idx;

	for (uint32_t class = READY_CLASSES; class-- > 0;) {
		struct region *region = engine->reader;
		for (uint64_t i = 0; i < engine->nr_regions; i++, region = region->priv->next) {
			while (left && ready_take_class(&region->priv->ready, class, &idx)) {
				page_fold(engine, region, idx);
				left--;
			}
		}
	}
	engine->reader = engine->reader->priv->next;
}

static void returns_count(struct engine *engine)
{
	uint64_t returns = engine->gone_touches[TOUCH_RETURN];
	const struct region *region = engine->first;

	for (uint64_t i = 0; i < engine->nr_regions; i++, region = region->priv->next)
		returns += atomic_load_explicit(&region->priv->touches[TOUCH_RETURN],
						memory_order_relaxed);
	place_returned(&engine->place, returns - engine->seen_returns);
	engine->seen_returns = returns;
}

/* ---- hands ---- */

/* The end of the block around the hand: blocks are aligned in the address space. */
static uint64_t hand_block_end(const struct hand *hand)
{
	uint64_t vpn = hand->region->first_vpn + hand->idx;
	uint64_t end = hand->idx + HEAT_BLOCK_PAGES - vpn % HEAT_BLOCK_PAGES;

	return end < hand->region->nr_pages ? end : hand->region->nr_pages;
}

static void hand_advance(struct hand *hand, uint64_t to)
{
	hand->idx = to;
	if (to == hand->region->nr_pages)
		*hand = (struct hand){ hand->region->priv->next, 0 };
}

static bool plan_full(const struct plan *plan)
{
	return plan->nr == plan->max || !migrate_room(&plan->engine->migrate);
}

static void plan_add(struct plan *plan, struct region *region, uint64_t first, uint64_t end,
		     enum move_op op)
{
	plan->moves[plan->nr++] = migrate_open(&plan->engine->migrate, region, first,
					       (uint32_t)(end - first), op);
	plan->engine->fruitless_pages = 0;
}

/* ---- the front hand ---- */

enum look { LOOK_OTHER, LOOK_KEEP, LOOK_NEAR, LOOK_COLD };

/* Look at one page as the front hand passes: what is known of it is brought up to date first. */
static enum look page_look(struct engine *engine, struct engine_tape *tape, struct region *region,
			   uint64_t idx)
{
	uint32_t record = atomic_load_explicit(&region->heat[idx], memory_order_relaxed);
	enum page_state state = state_load(tape, region, idx);

	if (state == PAGE_ABSENT) {
		/* A freed page loses its heat, unless it was filled since the record was read. */
		if (record)
			atomic_compare_exchange_strong_explicit(&region->heat[idx], &record, 0,
								memory_order_relaxed,
								memory_order_relaxed);
		if (estimate_load(region, idx))
			estimate_store(region, idx, 0);
		return LOOK_OTHER;
	}
	if (record & HEAT_MASK(READY))
		page_fold(engine, region, idx);
	uint16_t old = estimate_load(region, idx);
	uint16_t estimate = place_estimate_forget(&engine->place, old);
	if (estimate != old)
		estimate_store(region, idx, estimate);
	if (state != PAGE_RESIDENT)
		return LOOK_OTHER;
	switch (place_judge(&engine->place, estimate)) {
	case PLACE_COLD:
		return LOOK_COLD;
	case PLACE_NEAR:
		return LOOK_NEAR;
	case PLACE_KEEP:
		break;
	}
	return LOOK_KEEP;
}

/*
 * The next run of cold pages in looks[*from, nr): begins and ends with a cold one, and may span
 * nearly cold ones, and a few that are not there.
 */
static bool look_run(const uint8_t *looks, uint32_t nr, uint32_t *from, uint32_t *ret_end,
		     uint32_t *ret_pages)
{
	uint32_t first = *from, pages = 0, others = 0, cold_pages = 0, end;

	while (first < nr && looks[first] != LOOK_COLD)
		first++;
	if (first == nr)
		return false;
	*from = end = first;
	for (uint32_t i = first; i < nr && looks[i] != LOOK_KEEP; i++) {
		others = looks[i] == LOOK_OTHER ? others + 1 : 0;
		if (others > BRIDGE_PAGES)
			break;
		pages += looks[i] != LOOK_OTHER;
		if (looks[i] == LOOK_COLD) {
			end = i + 1;
			cold_pages = pages;
		}
	}
	*ret_end = end;
	*ret_pages = cold_pages;
	return true;
}

static void run_unmap(struct engine *engine, struct region *region, uint64_t first, uint64_t end)
{
	struct engine_tape *tape = engine->tape;

	for (uint64_t idx = first; idx < end; idx++)
		if (state_load(tape, region, idx) == PAGE_RESIDENT)
			estimate_store(region, idx,
				       place_estimate_unmapped(&engine->place,
							       estimate_load(region, idx)));
}

/* Judge the rest of the block under the front hand and hold at most about `want` pages of it.
 * Returns how many; the hand stops before the first cold page that did not fit. */
static uint64_t front_block(struct plan *plan, uint64_t want)
{
	struct engine *engine = plan->engine;
	struct engine_tape *tape = engine->tape;
	struct hand *hand = &engine->front;
	struct region *region = hand->region;
	uint64_t base = hand->idx, end = hand_block_end(hand), stop = end, got = 0;
	uint32_t nr = (uint32_t)(end - base), seen = 0, cold = 0, from = 0, to, pages;
	uint8_t looks[HEAT_BLOCK_PAGES];

	for (uint32_t i = 0; i < nr; i++) {
		looks[i] = (uint8_t)page_look(engine, tape, region, base + i);
		seen += looks[i] != LOOK_OTHER;
		cold += looks[i] == LOOK_COLD;
	}
	for (; want && look_run(looks, nr, &from, &to, &pages); from = to) {
		if (got >= want || !plan->room || plan_full(plan)) {
			stop = base + from;
			break;
		}
		if (pages > plan->room)
			to = from + (pages = (uint32_t)plan->room);
		plan->room -= pages;
		run_unmap(engine, region, base + from, base + to);
		plan_add(plan, region, base + from, base + to, MOVE_HOLD);
		got += pages;
	}
	place_seen(&engine->place, seen, cold);
	engine->owed_pages = minus(engine->owed_pages, stop - base);
	hand_advance(hand, stop);
	return got;
}

/* Go on with the front hand: hold about `want` pages, and pass what must be passed anyway. */
static bool front_run(struct plan *plan, uint64_t want)
{
	struct engine *engine = plan->engine;
	uint64_t looked = 0, got = 0;

	while (looked < LOOK_PAGES && ((got < want && !plan_full(plan)) || engine->owed_pages)) {
		uint64_t left = hand_block_end(&engine->front) - engine->front.idx;
		bool may = got < want && !plan_full(plan);
		looked += left;
		engine->fruitless_pages += left;
		got += front_block(plan, may ? want - got : 0);
	}
	return got < want;
}

/* ---- the back hand ---- */

/* Store what is held in the rest of the block under the back hand. */
static uint64_t back_block(struct plan *plan, uint64_t want)
{
	struct engine_tape *tape = plan->engine->tape;
	struct hand *hand = &plan->engine->back;
	struct region *region = hand->region;
	uint64_t at = hand->idx, end = hand_block_end(hand), got = 0;

	while (at < end) {
		if (state_load(tape, region, at) != PAGE_HELD) {
			at++;
			continue;
		}
		if (got >= want || plan_full(plan))
			break;
		uint64_t first = at, last = at;
		for (; at < end && at - last <= BRIDGE_PAGES && got < want; at++) {
			if (state_load(tape, region, at) != PAGE_HELD)
				continue;
			last = at;
			got++;
		}
		at = last + 1;
		plan_add(plan, region, first, at, MOVE_STORE);
	}
	hand_advance(hand, at);
	return got;
}

static bool hands_meet(const struct engine *engine)
{
	return engine->back.region == engine->front.region &&
	       engine->back.idx / HEAT_BLOCK_PAGES == engine->front.idx / HEAT_BLOCK_PAGES;
}

/* Go on with the back hand until about `want` pages are found; returns how many. */
static uint64_t back_run(struct plan *plan, uint64_t want)
{
	struct engine *engine = plan->engine;
	uint64_t looked = 0, got = 0;

	while (looked < LOOK_PAGES && got < want && !plan_full(plan)) {
		if (hands_meet(engine) && !engine->place.urgent && engine->fruitless_pages < engine->nr_pages)
			break;
		uint64_t left = hand_block_end(&engine->back) - engine->back.idx;
		looked += left;
		engine->fruitless_pages += left;
		got += back_block(plan, want - got);
	}
	return got;
}

/* ---- the step ---- */

/* The hand must pass every page before stamps wrap: each beat it owes its share of a pass. */
static void sweep_owe(struct engine *engine)
{
	uint64_t beats = engine->place.beat - engine->last_beat;

	engine->last_beat = engine->place.beat;
	engine->owed_pages += beats * (engine->nr_pages / PLACE_SWEEP_BEATS + 1);
	if (engine->owed_pages > engine->nr_pages)
		engine->owed_pages = engine->nr_pages;
}

size_t engine_step(struct engine *engine, uint64_t now_ns, const struct engine_need *need,
		   struct move *plan_moves, size_t max, bool *ret_again)
{
	struct plan plan = { .engine = engine, .moves = plan_moves, .max = max };
	struct migrate *migrate = &engine->migrate;
	uint64_t stores = 0, lacking = 0;

	*ret_again = false;
	engine->resident_pages = need->resident;
	if (need->store_full)
		migrate_store_stop(migrate, now_ns);
	if (!engine->first)
		return 0;
	ready_fold(engine);
	returns_count(engine);
	sweep_owe(engine);

	uint64_t resident = minus(need->resident, migrate->pending[MOVE_STORE]);
	uint64_t held = minus(need->held + migrate->pending[MOVE_HOLD], migrate->pending[MOVE_STORE]);
	uint64_t excess = place_excess(&engine->place, resident, need->limit, need->filling);
	place_starve(&engine->place, now_ns);
	bool may_store = migrate_may_store(migrate, now_ns);
	bool rested = now_ns >= engine->rest_until_ns;

	if (excess && rested && may_store) {
		uint64_t there = minus(need->held, migrate->pending[MOVE_STORE]);
		lacking = there < excess ? there : excess;
		/* Half a plan is kept for holds: they feed the next stores. */
		plan.max = max - max / 2;
		stores = back_run(&plan, lacking);
		lacking = minus(lacking, stores);
		plan.max = max;
	}
	uint64_t want = 0;
	if (engine->place.pressed && rested) {
		uint64_t left = minus(held, stores), forced = minus(minus(excess, stores), left);
		uint64_t gap = place_gap(&engine->place, need->limit, need->held_max);

		want = minus(minus(excess, stores) + gap, left);
		want = forced + place_tokens(&engine->place, minus(want, forced), now_ns);
		plan.room = minus(need->held_max, need->held + migrate->pending[MOVE_HOLD]);
		want = want < plan.room ? want : plan.room;
	}
	bool short_of = front_run(&plan, want);
	if (engine->fruitless_pages > 2 * engine->nr_pages + LOOK_PAGES) {
		engine->fruitless_pages = 0;
		engine->rest_until_ns = now_ns + REST_NS;
	} else {
		*ret_again = want && (short_of || lacking);
	}
	return plan.nr;
}
