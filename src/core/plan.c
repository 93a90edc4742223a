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
 * With a slow node there are two such clocks. What is still held when the back hand of the fast node's
 * comes by goes to the slow node, held. Of the slow node's clock, the back hand stores the coldest that
 * is held, when the node gets full. Its front hand holds whatever is mapped there, in turn and at a
 * bounded rate: only so can a touch be seen, and a page that is touched again and again return to the
 * fast node.
 *
 * Where there is nothing the hands leap over it (occupied.h): it counts as passed, and costs next to nothing.
 * A step looks at a bounded number of pages, and puts a page into a plan once: only the move changes how it looks, so
 * a hand that came round to it again would find it as before. It wants to be called again while it has not found what
 * it needs, but after a whole pass that found nothing it rests: it never spins.
 */
#include "assert.h"
#include "inner.h"
#include "number.h"
#include "occupied.h"

#define FOLD_MAX 4096u              /* ready pages a step folds */
#define LOOK_PAGES (128u * HEAT_BLOCK_PAGES) /* pages a hand looks at in a step: up to one block more */
#define SLOW_LOOK_BLOCKS 16u        /* a hand of the slow node's clock */
#define SLOW_LOOK_PAGES (SLOW_LOOK_BLOCKS * HEAT_BLOCK_PAGES)
#define GAP_PAGES 16u               /* to leap over a gap takes as long as to look at so many, */
#define PASS_SHARE 4u               /* and to pass a block as to look at this share of it */
#define BRIDGE_PAGES 16u            /* pages of no interest that a run may span */
#define REST_NS UINT64_C(10000000)  /* 10 ms */
#define FRESH_BEATS 24u             /* stamps of a block with nothing in memory are not looked at sooner again */

/* A stamp is looked at before it wraps: the hand comes by every so often, and passes over a block at most once. */
_Static_assert(PLACE_FORGET_BEATS + FRESH_BEATS + PLACE_SWEEP_BEATS < PLACE_STAMPS, "stamps do not wrap unseen");

/* The front hand reads a page's state at most three times, the back hand four times, and it may be a block by
 * itself. */
_Static_assert(8 * (LOOK_PAGES + SLOW_LOOK_PAGES + 2 * HEAT_BLOCK_PAGES) <= ENGINE_TAPE_ROOM, "a step fits on a tape");
_Static_assert(ENGINE_TAPE_NUMBER <= 8 * GAP_PAGES, "and a gap takes no more of it than pages do");

struct plan {
	struct engine *engine;
	struct clock *clock; /* whose hands go now */
	bool slow;           /* that is the slow node's */
	struct move *moves;
	size_t nr, max;
	uint64_t room; /* of the hold areas, in pages */
	/* Of the hand that goes now: */
	uint64_t looked; /* pages, as to the time it takes */
	uint64_t passed; /* pages, since it put its first move into the plan */
	size_t nr_before; /* moves that were there */
};

/* ---- folding ---- */

/* Fold a page's record into its estimate, if it is ready. */
static void page_fold(struct engine *engine, struct region *region, uint64_t idx)
{
	uint32_t record;

	if (!heat_take(&region->heat[idx], &record))
		return;
	uint16_t estimate = estimate_load(region, idx);
	const struct place *place = &engine->clocks[0].place;
	estimate = heat_class(record) ? place_estimate_touched(place, estimate)
				      : place_estimate_born(place);
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
	place_returned(&engine->clocks[0].place, returns - engine->seen_returns);
	engine->seen_returns = returns;
}

/* ---- hands ---- */

static void clock_choose(struct plan *plan, bool slow)
{
	plan->clock = &plan->engine->clocks[slow];
	plan->slow = slow;
}

static uint64_t look_pages(const struct plan *plan)
{
	return plan->slow ? SLOW_LOOK_PAGES : LOOK_PAGES;
}

/* How pages look that are resident where the clock is. */
static uint32_t sight_resident(const struct plan *plan)
{
	return plan->slow ? (uint32_t)SIGHT_RESIDENT_SLOW : (uint32_t)PAGE_RESIDENT;
}

static void hand_begin(struct plan *plan)
{
	plan->looked = plan->passed = 0;
	plan->nr_before = plan->nr;
}

/* Once round from its first move on, or it would put the same pages into the plan again: they look as they did. */
static uint64_t round_left(const struct plan *plan)
{
	return minus(plan->engine->nr_pages, plan->passed);
}

/* The end of the block around the hand: blocks are aligned in the address space. */
static uint64_t hand_block_end(const struct hand *hand)
{
	uint64_t vpn = hand->region->first_vpn + hand->idx;
	uint64_t end = hand->idx + HEAT_BLOCK_PAGES - vpn % HEAT_BLOCK_PAGES;

	return end < hand->region->nr_pages ? end : hand->region->nr_pages;
}

/* What of it the hand is to look at now. */
static uint64_t hand_look_end(const struct plan *plan, const struct hand *hand)
{
	uint64_t end = hand_block_end(hand), most = hand->idx + round_left(plan);

	return end < most ? end : most;
}

static void hand_advance(struct plan *plan, struct hand *hand, uint64_t to)
{
	if (plan->nr > plan->nr_before)
		plan->passed += to - hand->idx;
	hand->idx = to;
	if (to == hand->region->nr_pages)
		*hand = (struct hand){ hand->region->priv->next, 0 };
}

/*
 * Pages from the hand on that hold nothing, or of which nothing can move now, and that it can pass at once; 0: look at
 * its block. The hand behind `other` stops there. Of what is paused stamps grow old all the same: the fast node's front
 * hand passes it block by block.
 */
static uint64_t hand_gap(const struct plan *plan, const struct hand *hand, const struct hand *other)
{
	struct engine_tape *tape = plan->engine->tape;
	uint64_t left = hand->region->nr_pages - hand->idx;
	const _Atomic bool *paused = hand->region->paused;
	uint64_t gap = left;

	if (!paused || !atomic_load_explicit(paused, memory_order_relaxed))
		gap = region_next(hand->region, hand->idx) - hand->idx;
	else if (hand == &plan->engine->clocks[0].front)
		gap = hand_block_end(hand) - hand->idx;
	if (tape)
		gap = engine_tape_number(tape, gap);
	if (gap > left)
		gap = left;
	if (other->region == hand->region && other->idx > hand->idx && gap > other->idx - hand->idx)
		gap = other->idx - hand->idx;
	return gap;
}

/* The hand leaps over a gap: for what it looks at, too, a word each is read. */
static void gap_pass(struct plan *plan, uint64_t gap)
{
	plan->looked += GAP_PAGES + gap / OCCUPIED_WORD_PAGES;
	plan->clock->fruitless_pages += gap;
}

/* It comes to a block, and looks at its pages or passes them. */
static void block_looked(struct plan *plan, uint64_t pages, bool passed)
{
	plan->looked += passed ? (pages + PASS_SHARE - 1) / PASS_SHARE : pages;
	plan->clock->fruitless_pages += pages;
}

/* Whether a whole pass, and more, found nothing. */
static bool clock_fruitless(const struct plan *plan)
{
	return plan->clock->fruitless_pages > 2 * plan->engine->nr_pages + LOOK_PAGES;
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
	plan->clock->fruitless_pages = 0;
}

/* ---- the front hand ---- */

/* ELSEWHERE: in memory, on the other node. Its own clock decides about it: no run spans it, for it would go along. */
enum look { LOOK_OTHER, LOOK_ELSEWHERE, LOOK_KEEP, LOOK_NEAR, LOOK_COLD };

/* Look at one page as a hand passes: what is known of it is brought up to date. Returns its state. */
static uint32_t page_freshen(struct engine *engine, struct engine_tape *tape, struct region *region,
			     uint64_t idx)
{
	uint32_t record = atomic_load_explicit(&region->heat[idx], memory_order_relaxed);
	uint32_t state = state_load(tape, region, idx);

	if (state == PAGE_ABSENT) {
		/* A freed page loses its heat, unless it was filled since the record was read. */
		if (record)
			atomic_compare_exchange_strong_explicit(&region->heat[idx], &record, 0,
								memory_order_relaxed,
								memory_order_relaxed);
		if (estimate_load(region, idx))
			estimate_store(region, idx, 0);
		return state;
	}
	if (record & HEAT_MASK(READY))
		page_fold(engine, region, idx);
	uint16_t old = estimate_load(region, idx);
	uint16_t estimate = place_estimate_forget(&engine->clocks[0].place, old);
	if (estimate != old)
		estimate_store(region, idx, estimate);
	return state;
}

/* Look at one page as the front hand passes. */
static enum look page_look(const struct plan *plan, struct engine_tape *tape, struct region *region,
			   uint64_t idx)
{
	uint32_t state = page_freshen(plan->engine, tape, region, idx);

	if (state != sight_resident(plan))
		return state == PAGE_RESIDENT || state == SIGHT_RESIDENT_SLOW ? LOOK_ELSEWHERE : LOOK_OTHER;
	uint16_t estimate = estimate_load(region, idx);
	if (plan->slow) /* all in turn, but for what would not move */
		return place_level(estimate) > PLACE_LEVEL_TOP ? LOOK_KEEP : LOOK_COLD;
	switch (place_judge(&plan->clock->place, estimate)) {
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
	for (uint32_t i = first; i < nr && looks[i] != LOOK_KEEP && looks[i] != LOOK_ELSEWHERE; i++) {
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

static void run_unmap(const struct plan *plan, struct region *region, uint64_t first, uint64_t end)
{
	struct engine_tape *tape = plan->engine->tape;
	const struct place *place = &plan->engine->clocks[0].place;

	for (uint64_t idx = first; idx < end; idx++)
		if (state_load(tape, region, idx) == sight_resident(plan))
			estimate_store(region, idx,
				       place_estimate_unmapped(place, estimate_load(region, idx)));
}

/* The front hand passes the rest of a block of which no page is in memory, or nothing can move now. Most blocks of a
 * program that is far beyond its budget are like that, and looking at each of their pages would cost more than all
 * else in a plan: all there is to do is to forget old stamps in time. What of it is freed has lost its heat when that
 * was told, or loses it by the first touch of its new life. */
static void block_pass(const struct plan *plan, uint64_t end)
{
	const struct place *place = &plan->engine->clocks[0].place;
	struct region *region = plan->clock->front.region;
	uint64_t first = plan->clock->front.idx, vpn = region->first_vpn + first;
	uint32_t *beat = &region->priv->block_beat[vpn / HEAT_BLOCK_PAGES - region->first_vpn / HEAT_BLOCK_PAGES];

	if ((uint32_t)place->beat - *beat < FRESH_BEATS)
		return;
	for (uint64_t idx = first; idx < end; idx++) {
		uint16_t old = estimate_load(region, idx), estimate = place_estimate_forget(place, old);
		if (estimate != old)
			estimate_store(region, idx, estimate);
	}
	if (!first || vpn % HEAT_BLOCK_PAGES == 0)
		*beat = (uint32_t)place->beat;
}

/* The front hand goes on to page `to` of its region. */
static void front_pass(struct plan *plan, uint64_t to)
{
	struct engine *engine = plan->engine;
	struct hand *hand = &plan->clock->front;
	uint64_t pages = to - hand->idx;

	if (plan->slow)
		exchange_passed(&engine->exchange, pages, engine->nr_pages, engine->now_ns);
	else
		engine->owed_pages = minus(engine->owed_pages, pages);
	hand_advance(plan, hand, to);
}

/* Judge the rest of the block under the front hand and hold at most about `want` pages of it.
 * Returns how many; the hand stops before the first cold page that did not fit. */
static uint64_t front_block(struct plan *plan, uint64_t want)
{
	struct engine *engine = plan->engine;
	struct engine_tape *tape = engine->tape;
	struct hand *hand = &plan->clock->front;
	struct region *region = hand->region;
	uint64_t base = hand->idx, end = hand_look_end(plan, hand), stop = end, got = 0;
	uint32_t nr = (uint32_t)(end - base), seen = 0, cold = 0, from = 0, to, pages;
	uint8_t looks[HEAT_BLOCK_PAGES];

	bool pass = !states_any(tape, region, base, end, PAGE_RESIDENT, sight_resident(plan));
	block_looked(plan, nr, pass);
	if (pass) {
		block_pass(plan, end);
		nr = 0;
	}
	for (uint32_t i = 0; i < nr; i++) {
		looks[i] = (uint8_t)page_look(plan, tape, region, base + i);
		seen += looks[i] >= LOOK_KEEP;
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
		run_unmap(plan, region, base + from, base + to);
		plan_add(plan, region, base + from, base + to, MOVE_HOLD);
		got += pages;
	}
	if (!plan->slow)
		place_seen(&plan->clock->place, seen, cold);
	front_pass(plan, stop);
	return got;
}

/* Go on with the front hand: hold about `want` pages, and pass what must be passed anyway. */
static bool front_run(struct plan *plan, uint64_t want)
{
	struct clock *clock = plan->clock;
	const uint64_t *owed = &plan->engine->owed_pages;
	uint64_t got = 0;

	hand_begin(plan);
	while (plan->looked < look_pages(plan) && round_left(plan)) {
		bool may = got < want && !plan_full(plan) && !clock_fruitless(plan);
		if (!may && (plan->slow || !*owed))
			break;
		uint64_t gap = hand_gap(plan, &clock->front, &clock->front);
		if (gap) {
			uint64_t to = clock->front.idx + gap;
			gap_pass(plan, gap);
			/* A recording does not tell what was paused: nor is it asked here. */
			if (to == hand_block_end(&clock->front))
				block_pass(plan, to);
			front_pass(plan, to);
			continue;
		}
		got += front_block(plan, may ? want - got : 0);
	}
	return got < want;
}

/* ---- the back hand ---- */

/* A page is to leave the fast node: was it in use not long ago? */
static void page_leaves(struct engine *engine, const struct region *region, uint64_t idx)
{
	uint32_t record = atomic_load_explicit(&region->heat[idx], memory_order_relaxed);
	uint32_t epoch = atomic_load_explicit(&region->priv->block_epoch[idx / HEAT_BLOCK_PAGES],
					      memory_order_relaxed);
	uint64_t age = heat_age_ticks(record, epoch, heat_moment_at(engine->now_ns));

	exchange_left(&engine->exchange, heat_class(record) > 1 && age <= HEAT_WINDOW_TICKS);
}

/* What is still held in the rest of the block under the back hand goes on. */
static uint64_t back_block(struct plan *plan, uint64_t want, enum move_op op)
{
	struct engine_tape *tape = plan->engine->tape;
	struct hand *hand = &plan->clock->back;
	struct region *region = hand->region;
	uint64_t at = hand->idx, end = hand_look_end(plan, hand), got = 0;

	bool pass = !states_any(tape, region, at, end, PAGE_HELD, PAGE_HELD);
	block_looked(plan, end - at, pass);
	if (pass)
		at = end;
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
			if (op == MOVE_DEMOTE)
				page_leaves(plan->engine, region, at);
		}
		at = last + 1;
		plan_add(plan, region, first, at, op);
	}
	hand_advance(plan, hand, at);
	return got;
}

/* The same on the slow node: only its coldest. What is there stays for long, so where it lies says
 * nothing about how long it has been untouched. */
static uint64_t back_block_slow(struct plan *plan, uint64_t want)
{
	struct engine *engine = plan->engine;
	struct engine_tape *tape = engine->tape;
	struct hand *hand = &plan->clock->back;
	struct region *region = hand->region;
	uint64_t at = hand->idx, end = hand_look_end(plan, hand), first = at, got = 0;
	uint32_t seen = 0, cold = 0;

	block_looked(plan, end - at, false);
	for (; at < end && got < want && !plan_full(plan); at++) {
		bool held = page_freshen(engine, tape, region, at) == SIGHT_HELD_SLOW;
		bool goes = held && place_judge(&plan->clock->place, estimate_load(region, at)) == PLACE_COLD;
		seen += held;
		cold += goes;
		got += goes;
		if (goes)
			continue;
		if (at > first)
			plan_add(plan, region, first, at, MOVE_STORE);
		first = at + 1;
	}
	if (at > first)
		plan_add(plan, region, first, at, MOVE_STORE);
	place_seen(&plan->clock->place, seen, cold);
	hand_advance(plan, hand, at);
	return got;
}

static bool hands_meet(const struct clock *clock)
{
	return clock->back.region == clock->front.region &&
	       clock->back.idx / HEAT_BLOCK_PAGES == clock->front.idx / HEAT_BLOCK_PAGES;
}

/* Go on with the back hand until about `want` pages are found; returns how many. */
static uint64_t back_run(struct plan *plan, uint64_t want, enum move_op op)
{
	struct clock *clock = plan->clock;
	uint64_t got = 0;

	hand_begin(plan);
	while (plan->looked < look_pages(plan) && round_left(plan) && got < want && !plan_full(plan) &&
	       !clock_fruitless(plan)) {
		if (!plan->slow && hands_meet(clock) && !clock->place.urgent &&
		    clock->fruitless_pages < plan->engine->nr_pages)
			break;
		uint64_t gap = hand_gap(plan, &clock->back, &clock->front);
		if (gap) {
			gap_pass(plan, gap);
			hand_advance(plan, &clock->back, clock->back.idx + gap);
			continue;
		}
		got += plan->slow ? back_block_slow(plan, want - got)
				  : back_block(plan, want - got, op);
	}
	return got;
}

/* ---- the step ---- */

/* The hand must pass every page before stamps wrap: each beat it owes its share of a pass. */
static void sweep_owe(struct engine *engine)
{
	uint64_t beats = engine->clocks[0].place.beat - engine->last_beat;

	engine->last_beat = engine->clocks[0].place.beat;
	engine->owed_pages += beats * (engine->nr_pages / PLACE_SWEEP_BEATS + 1);
	if (engine->owed_pages > engine->nr_pages)
		engine->owed_pages = engine->nr_pages;
}

/* Whether a whole pass found nothing: rest then. */
static bool clock_rests(struct plan *plan, uint64_t now_ns)
{
	struct clock *clock = plan->clock;

	if (!clock_fruitless(plan))
		return false;
	clock->fruitless_pages = 0;
	clock->rest_until_ns = now_ns + REST_NS;
	return true;
}

/* What is left of the fast node's pages, as what leaves it does. */
struct surplus {
	uint64_t excess;  /* beyond the budget */
	uint64_t held;    /* pages */
	uint64_t lacking; /* of those that were to leave: they were not found */
};

/* What has been held for long enough goes on to the next tier, as far as there is too much and that has room. */
static struct surplus fast_leave(struct plan *plan, const struct engine_need *need, uint64_t now_ns)
{
	const struct migrate *migrate = &plan->engine->migrate;
	struct clock *clock = plan->clock;
	enum move_op op = need->slow_max ? MOVE_DEMOTE : MOVE_STORE;
	uint64_t pending = migrate->pending[op], there = minus(need->held, pending);
	uint64_t room = need->slow_max ? minus(need->slow_max, need->slow + pending) : UINT64_MAX;
	struct surplus left = { .held = minus(need->held + migrate->pending[MOVE_HOLD], pending) };
	size_t max = plan->max;

	left.excess = place_excess(&clock->place, minus(need->resident, pending), need->limit, need->filling);
	place_starve(&clock->place, now_ns);
	if (!left.excess || !room || now_ns < clock->rest_until_ns || !migrate_may(migrate, op, now_ns))
		return left;
	uint64_t want = there < left.excess ? there : left.excess;
	want = want < room ? want : room;
	/* Half a plan is kept for holds: they feed the next stores. */
	plan->max = max - max / 2;
	uint64_t got = back_run(plan, want, op);
	plan->max = max;
	left.lacking = minus(want, got);
	left.excess = minus(left.excess, got);
	left.held = minus(left.held, got);
	return left;
}

/* Hold what its excess lacks, and of the gap between the hands as much as the rate allows. Returns whether more is to
 * be found. */
static bool fast_hold(struct plan *plan, const struct engine_need *need, const struct surplus *left, uint64_t now_ns)
{
	struct clock *clock = plan->clock;
	uint64_t want = 0;

	plan->room = minus(need->held_max, need->held + plan->engine->migrate.pending[MOVE_HOLD]);
	if (clock->place.pressed && now_ns >= clock->rest_until_ns) {
		uint64_t forced = minus(left->excess, left->held);
		uint64_t gap = place_gap(&clock->place, need->limit, need->held_max);

		want = minus(left->excess + gap, left->held);
		want = forced + place_tokens(&clock->place, minus(want, forced), now_ns);
		want = want < plan->room ? want : plan->room;
	}
	bool short_of = front_run(plan, want);
	return !clock_rests(plan, now_ns) && want && (short_of || left->lacking);
}

/*
 * The slow node gets full: its coldest held pages go to the next tier. Returns how many pages of the
 * node must be held for this to go on.
 */
static uint64_t slow_leave(struct plan *plan, const struct engine_need *need, uint64_t now_ns)
{
	struct engine *engine = plan->engine;
	struct clock *clock = plan->clock;
	uint64_t pending = engine->migrate.pending[MOVE_STORE];
	size_t max = plan->max;

	clock->place.beat = engine->clocks[0].place.beat;
	if (need->slow_last)
		return 0;
	uint64_t excess = place_excess(&clock->place, minus(need->slow, pending), need->slow_max, 0);
	uint64_t there = minus(need->slow_held, pending);
	uint64_t want = there < excess ? there : excess, got = 0;
	if (now_ns >= clock->rest_until_ns && migrate_may(&engine->migrate, MOVE_STORE, now_ns)) {
		plan->max = max - max / 4;
		got = back_run(plan, want, MOVE_STORE);
		plan->max = max;
	}
	return minus(minus(excess, got), minus(there, got));
}

/* Hold what is mapped on the slow node: `forced` pages, and what the rate allows to see who is used. Returns whether
 * more is to be found. */
static bool slow_hold(struct plan *plan, uint64_t forced, uint64_t now_ns)
{
	struct exchange *exchange = &plan->engine->exchange;
	uint64_t want = forced + exchange_probes(exchange, plan->room);

	want = want < plan->room ? want : plan->room;
	if (want && now_ns >= plan->clock->rest_until_ns)
		front_run(plan, want);
	return !clock_rests(plan, now_ns) && forced;
}

/* What the caller needs, and what was touched since the last step. */
static void step_begin(struct engine *engine, uint64_t now_ns, const struct engine_need *need)
{
	engine->now_ns = now_ns;
	engine->resident_pages = need->resident;
	engine->slow_node = need->slow_max;
	if (need->store_full)
		migrate_stop(&engine->migrate, MOVE_STORE, now_ns);
	if (need->slow_max)
		exchange_refill(&engine->exchange, now_ns, need->slow_wait_ns);
	if (!engine->first)
		return;
	ready_fold(engine);
	returns_count(engine);
	sweep_owe(engine);
}

size_t engine_step(struct engine *engine, uint64_t now_ns, const struct engine_need *need,
		   struct move *plan_moves, size_t max, bool *ret_again)
{
	struct plan plan = { .engine = engine, .moves = plan_moves, .max = max };
	uint64_t slow_forced = 0;

	*ret_again = false;
	step_begin(engine, now_ns, need);
	if (!engine->first)
		return 0;
	clock_choose(&plan, false);
	struct surplus left = fast_leave(&plan, need, now_ns);
	if (need->slow_max) {
		clock_choose(&plan, true);
		slow_forced = slow_leave(&plan, need, now_ns);
		clock_choose(&plan, false);
	}
	*ret_again = fast_hold(&plan, need, &left, now_ns);
	if (need->slow_max) {
		clock_choose(&plan, true);
		*ret_again |= slow_hold(&plan, slow_forced, now_ns);
	}
	return plan.nr;
}
