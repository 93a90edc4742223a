/* SPDX-License-Identifier: MIT */
/*
 * One step: candidates are judged, hottest class first; room is made for those that lack it.
 *
 * Demotions (tiering_demote.c) stand first in a plan, and what waits for their room is promoted by the
 * next one.
 */
#include "tiering_inner.h"

#include <string.h>

#include "assert.h"
#include "number.h"

#define JUDGE_MAX 8192u              /* ready pages a step judges */
#define GATHER_PAGES 512u
#define GATHER_NS UINT64_C(200000000)
#define RUN_PAGES 16u
#define WANT_MAX 4096u               /* pages that one step makes room for, each space */
#define BURST_SHARE 4u               /* the bucket holds a quarter of a second */
#define TOUCH_ACCESSES 256u          /* what one touch that was seen stands for */
#define HUGE_ACCESSES 2048u
#define PAGE_COST_NS 2000u
#define HUGE_COST_NS 250000u
#define HORIZON_WINDOWS 3u           /* a page is expected to go on for so many windows */
#define JUDGE_NS (5 * SECOND_NS)
#define JUDGE_LEAST_PAGES 512u
#define PAUSE_MIN_NS (10 * SECOND_NS)
#define PAUSE_MAX_NS (160 * SECOND_NS)
#define LOOK_AGAIN_TICKS ((uint32_t)(2 * SECOND_NS / TICK_NS))

/* ---- room and rate ---- */

static void room_look(struct step *step)
{
	for (uint32_t n = 0; n < step->tiering->config.nr_nodes; n++)
		step->room[n] = minus(step->need->free_pages[n], step->need->reserve_pages[n]);
}

static void tokens_look(struct step *step)
{
	struct tiering *t = step->tiering;
	uint64_t rate = t->config.rate_pages_per_s, passed_ns;

	if (!rate) {
		step->tokens = UINT64_MAX;
		return;
	}
	uint64_t most = rate / BURST_SHARE > TIERING_HUGE_PAGES ? rate / BURST_SHARE
								: TIERING_HUGE_PAGES;
	passed_ns = minus(step->now_ns, t->token_time_ns);
	if (passed_ns > SECOND_NS)
		passed_ns = SECOND_NS;
	t->token_time_ns = step->now_ns;
	/* Q20: rates up to 2^40 pages/s fit. */
	t->tokens_q20 += (uint64_t)((unsigned __int128)passed_ns * (rate << 20) / SECOND_NS);
	if (t->tokens_q20 > most << 20)
		t->tokens_q20 = most << 20;
	step->tokens = t->tokens_q20 >> 20;
}

/* ---- thrash ---- */

static void thrash_judge(struct tiering *t, uint64_t now_ns)
{
	if (now_ns - t->judge_ns < JUDGE_NS)
		return;
	bool thrash = t->judge_promoted >= JUDGE_LEAST_PAGES &&
		      t->judge_pingpong * 2 >= t->judge_promoted;
	if (thrash) {
		t->pause_ns = t->pause_ns ? t->pause_ns * 2 : PAUSE_MIN_NS;
		if (t->pause_ns > PAUSE_MAX_NS)
			t->pause_ns = PAUSE_MAX_NS;
		t->pause_until_ns = now_ns + t->pause_ns;
	} else if (t->judge_promoted >= JUDGE_LEAST_PAGES) {
		t->pause_ns = 0;
	}
	t->judge_ns = now_ns;
	t->judge_promoted = t->judge_pingpong = 0;
}

/* ---- candidates ---- */

/* Whether what the page saves while it stays pays for its move, and, where room is short, for that
 * of the page that has to go. */
static bool page_pays(const struct step *step, const struct tiering_page *page, uint32_t record,
		      uint32_t from, uint32_t to)
{
	bool huge = page->flags & PAGE_HUGE;
	uint64_t cost_ns = huge ? step->need->huge_cost_ns : step->need->page_cost_ns;
	uint64_t slow_ns = node_at(step, from)->latency_ns, fast_ns = node_at(step, to)->latency_ns;
	uint32_t touches = record >> HEAT_FREQUENCY_SHIFT & HEAT_MAX(FREQUENCY);

	if (!cost_ns)
		cost_ns = huge ? HUGE_COST_NS : PAGE_COST_NS;
	if (!step->room[to])
		cost_ns *= 2;
	if (touches < CANDIDATE_CLASS + page->strikes && touches < HEAT_MAX(FREQUENCY))
		return false;
	uint64_t gain_ns = slow_ns > fast_ns ? slow_ns - fast_ns : 1;
	return touches * HORIZON_WINDOWS * gain_ns * (huge ? HUGE_ACCESSES : TOUCH_ACCESSES) > cost_ns;
}

/* The nearest fast node to `near` with room for nr pages; else the nearest, *ret_room false. */
static uint32_t target_near(const struct step *step, uint32_t near, uint32_t nr_pages, bool *ret_room)
{
	uint32_t best = TIERING_NODE_UNKNOWN, nearest = TIERING_NODE_UNKNOWN;
	const uint16_t *distance = node_at(step, near)->distance;

	for (uint32_t n = 0; n < step->tiering->config.nr_nodes; n++) {
		if (!node_at(step, n)->fast)
			continue;
		if (nearest == TIERING_NODE_UNKNOWN || distance[n] < distance[nearest])
			nearest = n;
		if (step->room[n] >= nr_pages &&
		    (best == TIERING_NODE_UNKNOWN || distance[n] < distance[best]))
			best = n;
	}
	*ret_room = best != TIERING_NODE_UNKNOWN;
	return *ret_room ? best : nearest;
}

static uint32_t target_choose(const struct step *step, const struct tiering_space *space,
			      uint32_t accessor, uint32_t from, uint32_t nr_pages, bool *ret_room)
{
	uint32_t nr_nodes = step->tiering->config.nr_nodes;

	if (accessor < nr_nodes)
		return target_near(step, accessor, nr_pages, ret_room);
	uint32_t found = TIERING_NODE_UNKNOWN;
	bool room = false;
	/* Of the nodes where its threads run, the first whose nearest fast node has room. */
	for (uint32_t n = 0; n < nr_nodes && !room; n++)
		if (space->homes >> n & 1)
			found = target_near(step, n, nr_pages, &room);
	if (found == TIERING_NODE_UNKNOWN)
		found = target_near(step, from, nr_pages, &room);
	*ret_room = room;
	return found;
}

void move_open(struct step *step, struct tiering_window *window, uint32_t idx,
		      enum tiering_op op, uint32_t to)
{
	struct tiering_page *page = &window->pages[idx];
	uint32_t nr_pages = page_pages(page);

	step->plan[step->nr++] = (struct tiering_move){
		.window = window,
		.vpn = window->first_vpn + idx,
		.nr_pages = nr_pages,
		.op = op,
		.from = (uint8_t)page_node(page),
		.to = (uint8_t)to,
	};
	if (op == TIERING_LOOK) {
		page->flags |= PAGE_LOOKED;
		return;
	}
	page->flags |= PAGE_MOVING;
	window->nr_moving++;
	window->space->counts.requested += nr_pages;
	window->space->counts.pending += nr_pages;
	step->room[to] = minus(step->room[to], nr_pages);
	if (op == TIERING_PROMOTE)
		window->space->moving_in_pages += nr_pages;
	else
		window->space->moving_out_pages += nr_pages;
}

static void promotion_open(struct step *step, struct tiering_window *window, uint32_t idx, uint32_t to)
{
	uint32_t nr_pages = page_pages(&window->pages[idx]);

	page_wait_end(window, idx);
	move_open(step, window, idx, TIERING_PROMOTE, to);
	window->space->counts.promotions += nr_pages;
	if (step->tokens != UINT64_MAX) {
		step->tokens -= nr_pages;
		step->tiering->tokens_q20 -= (uint64_t)nr_pages << 20;
	}
}

enum verdict { VERDICT_PASS, VERDICT_DONE, VERDICT_STOP };

/* What a candidate lacks is counted once for each time it becomes one, room and rate each. */
static void page_wait(struct tiering_window *window, uint32_t idx, enum reason reason)
{
	struct tiering_page *page = &window->pages[idx];
	struct tiering_counts *counts = &window->space->counts;
	uint32_t nr_pages = page_pages(page);
	uint8_t lacks = reason == REASON_RATE ? PAGE_RATE : PAGE_NO_ROOM;

	if (!(page->flags & PAGE_WAITS))
		counts->waiting += nr_pages;
	if (!(page->flags & lacks))
		counts->refused[reason] += nr_pages;
	page->flags |= lacks;
}

/* A page that waits has been counted. */
static void candidate_count(struct tiering_window *window, uint32_t idx, uint32_t nr_pages)
{
	if (!(window->pages[idx].flags & PAGE_WAITS))
		window->space->counts.candidates += nr_pages;
}

/* It will not be promoted now: that is told to one of the counters. */
static enum verdict candidate_drop(struct tiering_window *window, uint32_t idx, uint32_t nr_pages, uint64_t *counter)
{
	page_wait_end(window, idx);
	*counter += nr_pages;
	return VERDICT_PASS;
}

/* On fast nodes when all that is under way has arrived. */
uint64_t fast_pages(const struct tiering *tiering, const struct tiering_space *space)
{
	return minus(tiering_fast_pages(tiering, space) + space->moving_in_pages,
		     space->moving_out_pages);
}

/* The page goes: those beside it that were touched in the same window go along. */
static void neighbours_promote(struct step *step, struct tiering_window *window, uint32_t idx,
			       uint32_t to)
{
	uint32_t first = idx / RUN_PAGES * RUN_PAGES;
	struct heat_moment now = heat_moment_at(step->now_ns);

	if (step->tiering->pause_ns)
		return; /* it thrashed lately */
	for (uint32_t i = first; i < first + RUN_PAGES && step->nr < step->max; i++) {
		struct tiering_page *page = &window->pages[i];
		uint32_t record = atomic_load_explicit(&window->heat[i], memory_order_relaxed);
		uint32_t node = page_node(page);

		if (node == TIERING_NODE_UNKNOWN || !node_at(step, node)->slow || page->backoff ||
		    page->strikes || (page->flags & PAGE_MOVING) || !step->room[to] || !step->tokens ||
		    heat_age_ticks(record, window->block_epoch[i / HEAT_BLOCK_PAGES], now) >
			    HEAT_WINDOW_TICKS)
			continue;
		candidate_count(window, i, 1);
		promotion_open(step, window, i, to);
	}
}

/* Promote the page, or let it wait for what it lacks. */
static enum verdict candidate_promote(struct step *step, struct tiering_window *window, uint32_t idx,
				      uint32_t record)
{
	struct tiering_space *space = window->space;
	struct tiering_page *page = &window->pages[idx];
	uint32_t nr_pages = page_pages(page), from = page_node(page);
	uint32_t accessor = record >> HEAT_NODE_SHIFT & HEAT_MAX(NODE);
	bool room;

	uint32_t to = target_choose(step, space, accessor, from, nr_pages, &room);
	if (to == TIERING_NODE_UNKNOWN || page_backs_off(page, tick_at(step->now_ns) - page->stamp)) {
		page_lapse(window, idx);
		return VERDICT_PASS;
	}
	candidate_count(window, idx, nr_pages);
	if (!page_pays(step, page, record, from, to))
		return candidate_drop(window, idx, nr_pages, &space->counts.unpaid);
	bool capped = fast_pages(step->tiering, space) + nr_pages >
		      space->fast_max_pages;
	/* While it thrashes only what displaces nothing. */
	if (step->now_ns < step->tiering->pause_until_ns && (!room || capped || page->strikes))
		return candidate_drop(window, idx, nr_pages, &space->counts.thrash);
	if (room && !capped && step->tokens >= nr_pages) {
		promotion_open(step, window, idx, to);
		if (nr_pages == 1 && space->fast_max_pages == UINT64_MAX)
			neighbours_promote(step, window, idx, to);
		return VERDICT_DONE;
	}
	if (capped)
		space->exchange_pages += nr_pages;
	else if (!room)
		step->lacking[to] += nr_pages;
	page_wait(window, idx, room && !capped ? REASON_RATE : REASON_NO_ROOM);
	page_keep_ready(window, idx, record);
	return VERDICT_STOP;
}

/* Where it is, if it is anywhere, no slow page is known: somebody else moved it, or it is new. */
static enum verdict candidate_look(struct step *step, struct tiering_window *window, uint32_t idx)
{
	struct tiering_page *page = &window->pages[idx];
	uint32_t node = page_node(page);
	bool unknown = node == TIERING_NODE_UNKNOWN;
	bool lately = (page->flags & PAGE_LOOKED) && tick_at(step->now_ns) - page->stamp < LOOK_AGAIN_TICKS;

	page_lapse(window, idx);
	if (lately || (!unknown && !node_at(step, node)->fast))
		return VERDICT_PASS;
	if (unknown)
		page->stamp = tick_at(step->now_ns);
	move_open(step, window, idx, TIERING_LOOK, TIERING_NODE_UNKNOWN);
	return VERDICT_DONE;
}

static enum verdict candidate_judge(struct step *step, struct tiering_window *window, uint32_t idx)
{
	struct tiering_page *page = &window->pages[idx];
	uint32_t record, node = page_node(page);

	if (page_head(window, idx) != idx)
		return VERDICT_PASS;
	/* What cooled while it waited is no candidate any more. */
	if (!heat_take(&window->heat[idx], &record) || (page->flags & PAGE_MOVING) ||
	    heat_age_ticks(record, window->block_epoch[idx / HEAT_BLOCK_PAGES], heat_moment_at(step->now_ns)) >
		    HEAT_WINDOW_TICKS ||
	    heat_class(record) < CANDIDATE_CLASS) {
		page_lapse(window, idx);
		return VERDICT_PASS;
	}
	if (node == TIERING_NODE_UNKNOWN || !node_at(step, node)->slow)
		return candidate_look(step, window, idx);
	return candidate_promote(step, window, idx, record);
}

/* One had to wait; those marked behind it will want as much. */
static void space_wants(struct step *step, struct tiering_space *space, const uint64_t *lacked)
{
	uint64_t waiting = 0;

	for (uint32_t w = 0; w < space->nr_windows && waiting < WANT_MAX; w++)
		waiting += space->windows[w]->nr_ready;
	if (waiting > WANT_MAX)
		waiting = WANT_MAX;
	for (uint32_t n = 0; n < step->tiering->config.nr_nodes; n++)
		if (step->lacking[n] > lacked[n])
			step->lacking[n] = lacked[n] + waiting;
	if (space->exchange_pages)
		space->exchange_pages = waiting;
}

/* Candidates of one space and class, until `until` of the plan is filled or one has to wait. */
static void space_read(struct step *step, struct tiering_space *space, uint32_t class, size_t until)
{
	for (uint32_t i = 0; i < space->nr_windows; i++) {
		uint32_t w = (space->read_window + i) % space->nr_windows;
		struct tiering_window *window = space->windows[w];
		uint64_t idx;

		while (window->nr_ready && step->nr < until && step->judged < JUDGE_MAX) {
			if (!ready_take_class(&window->ready, class, &idx)) {
				if (ready_empty(&window->ready))
					window->nr_ready = 0;
				break;
			}
			window->nr_ready--;
			step->judged++;
			if (candidate_judge(step, window, (uint32_t)idx) == VERDICT_STOP)
				return;
		}
		if (step->nr == until || step->judged == JUDGE_MAX) {
			space->read_window = w;
			step->again = true;
			return;
		}
	}
}

static bool space_waits(const struct tiering_space *space)
{
	bool waits = false;

	for (uint32_t w = 0; w < space->nr_windows && !waits; w++)
		waits = space->windows[w]->nr_ready;
	return waits && space->weight;
}

/* How many spaces, from the reader on, this plan looks at: all, or until enough of them have something ready. */
static uint32_t spaces_take(const struct step *step, uint32_t *ret_weights)
{
	const struct tiering *t = step->tiering;
	const struct tiering_space *space = t->reader;
	uint32_t nr = 0, waiting = 0;

	*ret_weights = 0;
	for (; nr < t->nr_spaces; nr++, space = space->next) {
		waiting += space_waits(space);
		if (step->need->max_spaces && waiting > step->need->max_spaces)
			break;
		*ret_weights += space->weight;
	}
	return nr;
}

static void promotions_plan(struct step *step)
{
	struct tiering *t = step->tiering;
	uint32_t weights, nr = spaces_take(step, &weights);
	struct tiering_space *space = t->reader;

	/* First each its share by weight, then whoever wants what is left. */
	for (unsigned round = 0; round < 2; round++) {
		space = t->reader;
		for (uint32_t i = 0; i < nr; i++, space = space->next) {
			size_t share = round ? step->max
					     : (step->max - step->promote_at) * space->weight /
						       (weights ? weights : 1) + 1;
			uint64_t lacked[TIERING_NODES_MAX];

			if (!space->weight || !space->nr_windows)
				continue;
			size_t until = round || step->nr + share > step->max ? step->max
									     : step->nr + share;
			memcpy(lacked, step->lacking, sizeof lacked);
			for (uint32_t class = HEAT_CLASSES; class-- > CANDIDATE_CLASS;)
				space_read(step, space, class, until);
			space_wants(step, space, lacked);
		}
		if (nr == 1)
			break;
	}
	t->reader = nr < t->nr_spaces ? space : t->reader->next;
	if (nr == t->nr_spaces || !step->nr)
		return;
	/* The others have waited with these. */
	t->gather_ns = 0;
	step->again = true;
}

/* Whether enough wait for a batch, or long enough. One call for a few pages costs as much as one for
 * hundreds. */
static bool gathered(struct tiering *t, uint64_t now_ns)
{
	uint64_t waiting = 0;
	struct tiering_space *space = t->first;

	for (uint32_t i = 0; i < t->nr_spaces; i++, space = space->next)
		for (uint32_t w = 0; w < space->nr_windows && waiting < GATHER_PAGES; w++)
			waiting += space->windows[w]->nr_ready;
	if (!waiting)
		t->gather_ns = now_ns;
	if (waiting < GATHER_PAGES && now_ns - t->gather_ns < GATHER_NS)
		return false;
	t->gather_ns = now_ns;
	return true;
}

/* ---- the order of the plan ---- */

static bool move_before(const struct tiering_move *a, const struct tiering_move *b)
{
	if (a->op != b->op)
		return a->op == TIERING_DEMOTE || (a->op == TIERING_PROMOTE && b->op == TIERING_LOOK);
	if (a->window->space != b->window->space)
		return (uintptr_t)a->window->space < (uintptr_t)b->window->space;
	return a->to != b->to ? a->to < b->to : a->vpn < b->vpn;
}

/* Heap sort: by op, space, target and address. */
static void plan_sift(struct tiering_move *plan, size_t root, size_t nr)
{
	for (size_t child; (child = 2 * root + 1) < nr; root = child) {
		if (child + 1 < nr && move_before(&plan[child], &plan[child + 1]))
			child++;
		if (!move_before(&plan[root], &plan[child]))
			return;
		struct tiering_move move = plan[root];
		plan[root] = plan[child];
		plan[child] = move;
	}
}

static void plan_sort(struct tiering_move *plan, size_t nr)
{
	for (size_t i = nr / 2; i-- > 0;)
		plan_sift(plan, i, nr);
	for (size_t i = nr; i-- > 1;) {
		struct tiering_move move = plan[0];
		plan[0] = plan[i];
		plan[i] = move;
		plan_sift(plan, 0, i);
	}
}

/* ---- the step ---- */

size_t tiering_step(struct tiering *t, uint64_t now_ns, const struct tiering_need *need,
		    struct tiering_move *plan, size_t max, bool *ret_again)
{
	struct step step = { .tiering = t, .need = need, .now_ns = now_ns, .plan = plan };
	uint64_t excess[TIERING_NODES_MAX];

	*ret_again = false;
	if (!t->first || max < 2)
		return 0;
	struct tiering_space *space = t->first;
	for (uint32_t i = 0; i < t->nr_spaces; i++, space = space->next)
		space->exchange_pages = 0;
	thrash_judge(t, now_ns);
	room_look(&step);
	tokens_look(&step);
	/* Half of the plan is kept for those that have to go. */
	step.max = max / 2;
	if (gathered(t, now_ns))
		promotions_plan(&step);
	step.max = max;
	if (excess_look(&step, excess)) {
		size_t nr = step.nr;
		demotions_plan(&step, excess);
		step.again |= step.nr > nr;
	} else if (t->cold_ns < COLD_NS) {
		t->cold_ns += t->cold_ns / 256;
	}
	plan_sort(plan, step.nr);
	*ret_again = step.again;
	return step.nr;
}
