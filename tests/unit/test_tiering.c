/* SPDX-License-Identifier: MIT */
/* The engine for nodes: touches, candidates, targets, room, demotion, results; each rule by itself. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiering.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define PLAN 4096u

enum { FAST, SLOW, FAST_FAR, SLOW_FAR, NR_NODES };

struct world {
	struct tiering tiering;
	struct tiering_space space;
	struct tiering_window *slots[8];
	struct tiering_window *window;
	struct tiering_need need;
	struct tiering_move plan[PLAN];
	uint64_t now_ns;
};

static struct tiering_window *window_new(struct tiering_space *space, uint64_t first_vpn)
{
	void *memory = aligned_alloc(64, (tiering_window_bytes() + 63) & ~(size_t)63);

	assert_non_null(memory);
	memset(memory, 0, tiering_window_bytes());
	struct tiering_window *window = tiering_window_init(memory, first_vpn);
	assert_int_equal(tiering_window_add(space, window), 0);
	return window;
}

static void window_free(struct tiering_window *window)
{
	free(window);
}

static int world_open(void **state)
{
	struct tiering_config config = { .nr_nodes = NR_NODES };
	struct world *w = calloc(1, sizeof *w);

	for (unsigned n = 0; n < NR_NODES; n++) {
		config.nodes[n].fast = n == FAST || n == FAST_FAR;
		config.nodes[n].slow = !config.nodes[n].fast;
		config.nodes[n].latency_ns = config.nodes[n].fast ? 90 : 250;
		for (unsigned k = 0; k < NR_NODES; k++)
			config.nodes[n].distance[k] = n == k ? 10 : n / 2 == k / 2 ? 15 : 30;
		w->need.free_pages[n] = 100000;
	}
	tiering_init(&w->tiering, &config);
	tiering_space_add(&w->tiering, &w->space, w, w->slots, 8);
	w->window = window_new(&w->space, 0);
	w->now_ns = 1000 * SECOND;
	*state = w;
	return 0;
}

static int world_close(void **state)
{
	struct world *w = *state;

	assert_null(tiering_check(&w->tiering));
	while (w->space.nr_windows) {
		assert_true(tiering_windows_remove(&w->tiering, &w->space, 0, UINT64_MAX, window_free));
	}
	tiering_space_remove(&w->tiering, &w->space);
	free(w);
	return 0;
}

static void touch_twice(struct world *w, uint64_t vpn, uint64_t nr)
{
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND)
		for (uint64_t k = 0; k < nr; k++)
			tiering_touch(&w->tiering, &w->space, vpn + k, TIERING_NODE_UNKNOWN, w->now_ns);
}

/* A plan, after what is gathered has waited long enough. */
static size_t step(struct world *w)
{
	bool again;
	size_t nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);

	w->now_ns += SECOND;
	if (!nr)
		nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);
	assert_null(tiering_check(&w->tiering));
	return nr;
}

static void complete(struct world *w, size_t nr, enum reason reason)
{
	for (size_t i = 0; i < nr; i++) {
		w->plan[i].reason = reason;
		w->plan[i].nr_moved = reason == REASON_MOVED ? w->plan[i].nr_pages : 0;
	}
	tiering_complete(&w->tiering, w->plan, nr, w->now_ns);
	assert_null(tiering_check(&w->tiering));
}

static void place(struct world *w, uint64_t vpn, uint64_t nr, uint32_t node, bool huge)
{
	tiering_place(&w->tiering, &w->space, vpn, nr, node, huge, w->now_ns);
}

/* ---- candidates ---- */

static void defect_4b_15_one_touch_moves_nothing(void **state)
{
	struct world *w = *state;

	place(w, 0, 100, SLOW, false);
	for (uint64_t i = 0; i < 100; i++)
		tiering_touch(&w->tiering, &w->space, i, 0, w->now_ns);
	assert_int_equal(step(w), 0);
	/* Nor do two that are far apart. */
	w->now_ns += 60 * SECOND;
	for (uint64_t i = 0; i < 100; i++)
		tiering_touch(&w->tiering, &w->space, i, 0, w->now_ns);
	assert_int_equal(step(w), 0);
}

static void two_touches_move(void **state)
{
	struct world *w = *state;

	place(w, 0, 100, SLOW, false);
	touch_twice(w, 10, 5);
	assert_int_equal(step(w), 5);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(w->plan[i].op, TIERING_PROMOTE);
		assert_int_equal(w->plan[i].vpn, 10 + i);
		assert_int_equal(w->plan[i].from, SLOW);
		assert_int_equal(w->plan[i].to, FAST);
	}
	/* In one plan at a time. */
	touch_twice(w, 10, 5);
	struct tiering_move moves[5];
	memcpy(moves, w->plan, sizeof moves);
	assert_int_equal(step(w), 0);
	memcpy(w->plan, moves, sizeof moves);
	complete(w, 5, REASON_MOVED);
	assert_int_equal(w->space.counts.promoted, 5);
	assert_int_equal(w->space.node_pages[FAST], 5);
	assert_int_equal(w->tiering.pair_pages[SLOW][FAST], 5);
	touch_twice(w, 10, 5);
}

static void a_quick_touch_counts_twice(void **state)
{
	struct world *w = *state;

	place(w, 0, 2048, SLOW, false);
	tiering_armed(&w->space, 0, 1024, w->now_ns);
	w->now_ns += SECOND;
	tiering_touch(&w->tiering, &w->space, 7, 0, w->now_ns);    /* soon */
	tiering_touch(&w->tiering, &w->space, 1500, 0, w->now_ns); /* never armed */
	w->now_ns += 8 * SECOND;
	tiering_armed(&w->space, 0, 1024, w->now_ns); /* 108 is still armed from the first time */
	w->now_ns += SECOND;
	tiering_touch(&w->tiering, &w->space, 108, 0, w->now_ns);    /* late */
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].vpn, 7);
	complete(w, 1, REASON_MOVED);
	/* Touched long ago, armed again by the next pass, touched at once. */
	w->now_ns += 20 * SECOND;
	tiering_armed(&w->space, 0, 1024, w->now_ns);
	w->now_ns += SECOND;
	tiering_touch(&w->tiering, &w->space, 108, 0, w->now_ns);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].vpn, 108);
	complete(w, 1, REASON_MOVED);
	/* Every pass known is later than its touch: it may have been armed for long. */
	for (unsigned i = 0; i < 8; i++, w->now_ns += MS * 100)
		tiering_armed(&w->space, 512, 512, w->now_ns);
	tiering_touch(&w->tiering, &w->space, 600, 0, w->now_ns);
	assert_int_equal(step(w), 0);
	/* One pass is later than the touch, though it was told before it. */
	place(w, 4096, 512, SLOW, false);
	tiering_armed(&w->space, 4096, 512, w->now_ns);
	tiering_armed(&w->space, 4096, 512, w->now_ns + SECOND);
	w->now_ns += SECOND / 2;
	tiering_touch(&w->tiering, &w->space, 4100, 0, w->now_ns);
	w->now_ns += SECOND;
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].vpn, 4100);
	complete(w, 1, REASON_MOVED);
}

static void what_cooled_while_it_waited_stays(void **state)
{
	struct world *w = *state;

	place(w, 0, 100, SLOW, false);
	touch_twice(w, 0, 10);
	w->now_ns += 30 * SECOND;
	assert_int_equal(step(w), 0);
	assert_int_equal(w->space.counts.requested, 0);
}

static void an_unknown_page_is_looked_up_first(void **state)
{
	struct world *w = *state;

	touch_twice(w, 5, 1);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].op, TIERING_LOOK);
	assert_int_equal(w->space.counts.requested, 0);
	/* What is known of it begins now. */
	place(w, 5, 1, SLOW, false);
	assert_int_equal(step(w), 0);
	touch_twice(w, 5, 1);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].op, TIERING_PROMOTE);
	complete(w, 1, REASON_PAGE_GONE);
	assert_int_equal(w->space.counts.ended[REASON_PAGE_GONE], 1);
	assert_int_equal(w->space.node_pages[SLOW], 0);
	/* Where no window is nothing is known. */
	touch_twice(w, UINT64_C(1) << 30, 1);
	assert_int_equal(w->space.counts.strays, 2);
}

/* Memory that is filled once: a fault each, seen whether the page was armed or not, and two for those
 * that were read before. It is found out at any time where they are. */
static void first_touches_move_nothing(void **state)
{
	struct world *w = *state;

	tiering_armed(&w->space, 0, 2048, w->now_ns);
	w->now_ns += SECOND;
	for (uint64_t i = 0; i < 200; i++)
		tiering_touch(&w->tiering, &w->space, i % 100, 0, w->now_ns);
	for (uint64_t i = 512; i < 600; i++)
		tiering_touch(&w->tiering, &w->space, i, 0, w->now_ns);
	place(w, 0, 100, SLOW, false);
	place(w, 512, 100, SLOW, false);
	assert_int_equal(step(w), 0);
	/* Heard of only after that; the last of them is huge. */
	uint64_t found_ns = w->now_ns;
	place(w, 1024, 512, SLOW, true);
	place(w, 700, 100, SLOW, false);
	w->now_ns -= SECOND;
	for (uint64_t i = 0; i < 200; i++)
		tiering_touch(&w->tiering, &w->space, 700 + i % 100, 0, w->now_ns);
	tiering_touch(&w->tiering, &w->space, 1024, 0, w->now_ns);
	w->now_ns = found_ns;
	assert_int_equal(step(w), 0);
	assert_int_equal(w->space.counts.candidates, 0);
	/* Touched again, once: that is use, and soon after it was armed it is enough. */
	tiering_armed(&w->space, 0, 512, w->now_ns);
	w->now_ns += SECOND;
	tiering_touch(&w->tiering, &w->space, 7, 0, w->now_ns);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].op, TIERING_PROMOTE);
	assert_int_equal(w->plan[0].vpn, 7);
	complete(w, 1, REASON_MOVED);
}

/* ---- targets ---- */

static void defect_4b_12_target_follows_the_accessor(void **state)
{
	struct world *w = *state;

	place(w, 0, 100, SLOW, false);
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND)
		tiering_touch(&w->tiering, &w->space, 1, FAST_FAR, w->now_ns);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].to, FAST_FAR);
	complete(w, 1, REASON_MOVED);
	/* Not known: where its threads run. */
	w->space.homes = 1u << FAST_FAR;
	touch_twice(w, 2, 1);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].to, FAST_FAR);
	complete(w, 1, REASON_MOVED);
	/* No room there: the nearest that has. */
	w->need.free_pages[FAST_FAR] = 0;
	touch_twice(w, 3, 1);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].to, FAST);
	complete(w, 1, REASON_MOVED);
}

/* ---- room ---- */

static void demotion_makes_room_first(void **state)
{
	struct world *w = *state;

	place(w, 0, 1000, FAST, false);
	w->now_ns += 600 * SECOND;
	place(w, 2048, 100, SLOW, false);
	w->need.free_pages[FAST] = w->need.free_pages[FAST_FAR] = 0;
	touch_twice(w, 2048, 100);
	size_t nr = step(w);
	assert_true(nr >= 100);
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(w->plan[i].op, TIERING_DEMOTE);
		assert_int_equal(w->plan[i].from, FAST);
		assert_int_equal(w->plan[i].to, SLOW);
	}
	complete(w, nr, REASON_MOVED);
	assert_int_equal(w->space.counts.refused[REASON_NO_ROOM], 1);
	w->need.free_pages[FAST] = nr;
	assert_int_equal(step(w), 100);
	assert_int_equal(w->plan[0].op, TIERING_PROMOTE);
	complete(w, 100, REASON_MOVED);
}

static void a_page_stays_its_least_residence(void **state)
{
	struct world *w = *state;

	place(w, 0, 100, SLOW, false);
	place(w, 512, 100, SLOW, false);
	touch_twice(w, 0, 100);
	size_t nr = step(w);
	complete(w, nr, REASON_MOVED);
	w->need.free_pages[FAST] = w->need.free_pages[FAST_FAR] = 0;
	touch_twice(w, 512, 100);
	assert_int_equal(step(w), 0); /* they only just came */
	touch_twice(w, 512, 100);
	for (unsigned i = 0; i < 20 && !(nr = step(w)); i++)
		touch_twice(w, 512, 100);
	assert_true(nr > 0);
	assert_int_equal(w->plan[0].op, TIERING_DEMOTE);
	assert_true(w->plan[0].vpn < 100);
	complete(w, nr, REASON_MOVED);
}

static void the_cap_of_a_space_is_kept(void **state)
{
	struct world *w = *state;

	w->space.fast_max_pages = 50;
	place(w, 0, 100, SLOW, false);
	touch_twice(w, 0, 100);
	size_t nr = step(w);
	assert_int_equal(nr, 50);
	complete(w, nr, REASON_MOVED);
	assert_int_equal(w->space.node_pages[FAST], 50);
	assert_int_equal(step(w), 0);
	/* Lowered: what is above has to go, for its own. */
	w->space.fast_max_pages = 20;
	w->now_ns += 100 * SECOND;
	nr = step(w);
	assert_int_equal(nr, 30);
	assert_int_equal(w->plan[0].op, TIERING_DEMOTE);
	complete(w, nr, REASON_MOVED);
}

/* Everything above the cap goes. */
static void cap(struct world *w, uint64_t pages, size_t wanted)
{
	w->space.fast_max_pages = pages;
	assert_int_equal(step(w), wanted);
	assert_int_equal(w->plan[0].op, TIERING_DEMOTE);
	complete(w, wanted, REASON_MOVED);
}

/* What was promoted for nothing is counted: it goes again soon, and nobody was seen to use it. */
static void moves_that_never_paid(void **state)
{
	struct world *w = *state;

	place(w, 0, 120, SLOW, false);
	touch_twice(w, 0, 90);
	complete(w, step(w), REASON_MOVED);
	assert_int_equal(w->space.counts.promoted, 90);
	w->now_ns += 40 * SECOND;
	for (uint64_t i = 0; i < 30; i++)
		tiering_touch(&w->tiering, &w->space, i, 0, w->now_ns);
	w->now_ns += 10 * SECOND;
	cap(w, 30, 60);
	assert_int_equal(w->space.counts.wasted, 60);
	/* These were of use. */
	w->now_ns += 40 * SECOND;
	cap(w, 0, 30);
	assert_int_equal(w->space.counts.wasted, 60);
	/* These may have been, for so long. */
	w->space.fast_max_pages = UINT64_MAX;
	touch_twice(w, 90, 30);
	complete(w, step(w), REASON_MOVED);
	assert_int_equal(w->space.counts.promoted, 120);
	w->now_ns += 200 * SECOND;
	cap(w, 0, 30);
	assert_int_equal(w->space.counts.wasted, 60);
}

static void the_guarantee_of_a_space_is_kept(void **state)
{
	struct world *w = *state;

	w->space.fast_min_pages = 80;
	place(w, 0, 100, FAST, false);
	w->now_ns += 1000 * SECOND;
	w->need.free_pages[FAST] = w->need.free_pages[FAST_FAR] = 0;
	w->need.reserve_pages[FAST] = 1000;
	size_t nr = step(w);
	assert_int_equal(nr, 20);
	complete(w, nr, REASON_MOVED);
	assert_int_equal(step(w), 0);
}

static void weight_0_is_left_alone(void **state)
{
	struct world *w = *state;

	w->space.weight = 0;
	place(w, 0, 100, SLOW, false);
	place(w, 512, 100, FAST, false);
	touch_twice(w, 0, 100);
	w->now_ns += 5 * SECOND;
	w->need.reserve_pages[FAST] = 200000;
	assert_int_equal(step(w), 0);
}

/* ---- results ---- */

static void every_reason_has_its_counter(void **state)
{
	struct world *w = *state;
	uint64_t asked = 0;

	for (unsigned r = 0; r < REASON_COUNT; r++) {
		uint64_t vpn = r * 64u;
		place(w, vpn, 1, SLOW, false);
		touch_twice(w, vpn, 1);
		assert_int_equal(step(w), 1);
		assert_int_equal(w->space.counts.pending, 1);
		complete(w, 1, (enum reason)r);
		assert_int_equal(w->space.counts.ended[r], 1);
		assert_int_equal(w->space.counts.pending, 0);
		assert_int_equal(w->space.counts.requested, ++asked);
	}
}

/* Not what was tried, nor what is in use on a fast node already, nor what goes down. */
static void defect_4a_20_promoted_is_only_what_went_from_slow_to_fast(void **state)
{
	struct world *w = *state;

	place(w, 0, 5, FAST, false);
	place(w, 64, 5, FAST_FAR, false);
	touch_twice(w, 0, 5);
	touch_twice(w, 64, 5);
	/* Where they are is looked up again at most. */
	for (size_t nr = step(w), i = 0; i < nr; i++) {
		assert_int_equal(w->plan[i].op, TIERING_LOOK);
		place(w, w->plan[i].vpn, w->plan[i].nr_pages, w->plan[i].vpn < 64 ? FAST : FAST_FAR, false);
	}
	assert_int_equal(w->space.counts.requested, 0);
	place(w, 128, 5, SLOW, false);
	touch_twice(w, 128, 5);
	assert_int_equal(step(w), 5);
	complete(w, 5, REASON_BUSY);
	assert_int_equal(w->space.counts.promoted, 0);
	place(w, 192, 7, SLOW, false);
	touch_twice(w, 192, 7);
	assert_int_equal(step(w), 7);
	complete(w, 7, REASON_MOVED);
	assert_int_equal(w->space.counts.promoted, 7);
	assert_int_equal(w->space.counts.demoted, 0);
	assert_int_equal(w->tiering.pair_pages[SLOW][FAST], 7);
	assert_int_equal(w->tiering.pair_pages[FAST][FAST_FAR] + w->tiering.pair_pages[FAST_FAR][FAST], 0);
}

static void defect_4a_13_a_refused_page_keeps_its_heat_and_waits_longer(void **state)
{
	struct world *w = *state;
	uint64_t waits[4];

	place(w, 0, 1, SLOW, false);
	touch_twice(w, 0, 1);
	assert_int_equal(step(w), 1);
	for (unsigned i = 0; i < 4; i++) {
		complete(w, 1, REASON_BUSY);
		uint64_t since_ns = w->now_ns;
		size_t nr = 0;
		while (!nr) {
			tiering_touch(&w->tiering, &w->space, 0, 0, w->now_ns += 100 * MS);
			nr = step(w);
		}
		waits[i] = w->now_ns - since_ns;
		assert_int_equal(w->plan[0].vpn, 0);
	}
	assert_true(waits[0] >= 2 * SECOND && waits[0] < 5 * SECOND);
	assert_true(waits[3] > 3 * waits[0]);
	complete(w, 1, REASON_MOVED);
}

static void a_window_stays_while_something_of_it_is_under_way(void **state)
{
	struct world *w = *state;

	place(w, 0, 1, SLOW, false);
	touch_twice(w, 0, 1);
	assert_int_equal(step(w), 1);
	assert_int_equal(tiering_windows_remove(&w->tiering, &w->space, 0, UINT64_MAX, window_free), 0);
	tiering_forget(&w->tiering, &w->space, 0, TIERING_WINDOW_PAGES);
	assert_null(tiering_check(&w->tiering));
	complete(w, 1, REASON_RANGE_GONE);
	assert_int_equal(w->space.node_pages[SLOW], 0);
}

/* Those in part of the range stay, with what lies outside of it. */
static void windows_go_with_their_range(void **state)
{
	struct world *w = *state;

	for (uint64_t i = 1; i < 6; i++)
		window_new(&w->space, i * 2 * TIERING_WINDOW_PAGES);
	for (uint64_t i = 0; i < 6; i++)
		place(w, i * 2 * TIERING_WINDOW_PAGES + 5, 3, SLOW, false);
	assert_int_equal(tiering_windows_remove(&w->tiering, &w->space, 1, 8 * TIERING_WINDOW_PAGES + 6,
						window_free), 3);
	assert_int_equal(w->space.nr_windows, 3);
	assert_int_equal(w->space.node_pages[SLOW], 9);
	assert_non_null(tiering_window_find(&w->space, 0));
	assert_non_null(tiering_window_find(&w->space, 8 * TIERING_WINDOW_PAGES));
	assert_non_null(tiering_window_find(&w->space, 10 * TIERING_WINDOW_PAGES));
	tiering_forget(&w->tiering, &w->space, 1, 8 * TIERING_WINDOW_PAGES + 5);
	assert_int_equal(w->space.node_pages[SLOW], 2 + 3);
	assert_null(tiering_check(&w->tiering));
}

/* ---- huge pages ---- */

static void a_huge_page_is_one_record_and_moves_whole(void **state)
{
	struct world *w = *state;

	place(w, 512, 1024, SLOW, true);
	assert_int_equal(w->space.node_pages[SLOW], 1024);
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND)
		tiering_touch(&w->tiering, &w->space, 512 + 77 * (i + 1), 0, w->now_ns);
	assert_int_equal(step(w), 1);
	assert_int_equal(w->plan[0].vpn, 512);
	assert_int_equal(w->plan[0].nr_pages, TIERING_HUGE_PAGES);
	complete(w, 1, REASON_MOVED);
	assert_int_equal(w->space.node_pages[FAST], 512);
	assert_int_equal(w->space.counts.promoted, 512);
	/* Split: the parts are where it was. */
	place(w, 512, 1, FAST, false);
	assert_int_equal(w->space.node_pages[FAST], 512);
	assert_null(tiering_check(&w->tiering));
	/* And a part of the other is unmapped. */
	tiering_forget(&w->tiering, &w->space, 1024, 256);
	assert_int_equal(w->space.node_pages[SLOW], 256);
}

static void a_huge_page_that_was_split_meanwhile(void **state)
{
	struct world *w = *state;

	place(w, 512, 512, SLOW, true);
	touch_twice(w, 512, 1);
	assert_int_equal(step(w), 1);
	w->plan[0].reason = REASON_PAGE_GONE;
	w->plan[0].nr_moved = 1;
	tiering_complete(&w->tiering, w->plan, 1, w->now_ns);
	assert_null(tiering_check(&w->tiering));
	assert_int_equal(w->space.counts.ended[REASON_MOVED], 1);
	assert_int_equal(w->space.counts.ended[REASON_PAGE_GONE], 511);
	assert_int_equal(w->space.node_pages[SLOW] + w->space.node_pages[FAST], 0);
}

/* ---- many spaces, rate ---- */

static void shares_follow_the_weights(void **state)
{
	struct world *w = *state;
	struct tiering_space other;
	struct tiering_window *slots[4];
	uint64_t nr[2] = { 0 };
	bool again;

	tiering_space_add(&w->tiering, &other, NULL, slots, 4);
	window_new(&other, 0);
	w->space.weight = 9;
	other.weight = 1;
	place(w, 0, 4000, SLOW, false);
	tiering_place(&w->tiering, &other, 0, 4000, SLOW, false, w->now_ns);
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND) {
		for (uint64_t k = 0; k < 4000; k++) {
			tiering_touch(&w->tiering, &w->space, k, 0, w->now_ns);
			tiering_touch(&w->tiering, &other, k, 0, w->now_ns);
		}
	}
	size_t moves = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, 2000, &again);
	assert_true(again);
	for (size_t i = 0; i < moves; i++)
		nr[w->plan[i].window->space == &other]++;
	assert_true(nr[0] >= 8 * nr[1] && nr[1] > 50);
	complete(w, moves, REASON_MOVED);
	assert_int_equal(tiering_windows_remove(&w->tiering, &other, 0, UINT64_MAX, window_free), 1);
	tiering_space_remove(&w->tiering, &other);
}

enum { MANY = 7 };

/* The spaces of a plan that moves everything, as bits. */
static unsigned spaces_of_plan(struct world *w, const struct tiering_space *spaces, enum tiering_op op,
			       unsigned *moved)
{
	unsigned found = 0;
	bool again;
	size_t nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);

	for (size_t i = 0; i < nr; i++) {
		unsigned which = (unsigned)(w->plan[i].window->space - spaces);
		assert_true(which < MANY && w->plan[i].op == op);
		found |= 1u << which;
		moved[which]++;
	}
	complete(w, nr, REASON_MOVED);
	return found;
}

/* Where calls are slow a plan is of a few spaces, and all of them have their turn without waiting once more. */
static void a_plan_is_of_few_spaces(void **state)
{
	struct world *w = *state;
	struct tiering_space spaces[MANY];
	struct tiering_window *slots[MANY][4];
	unsigned up[MANY] = { 0 }, down[MANY] = { 0 }, plans = 0;

	for (unsigned s = 0; s < MANY; s++) {
		tiering_space_add(&w->tiering, &spaces[s], NULL, slots[s], 4);
		window_new(&spaces[s], 0);
		tiering_place(&w->tiering, &spaces[s], 0, 20, SLOW, false, w->now_ns);
	}
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND)
		for (unsigned s = 0; s < MANY; s++)
			for (uint64_t k = 0; k < 20; k++)
				tiering_touch(&w->tiering, &spaces[s], k, 0, w->now_ns);
	w->need.max_spaces = 2;
	for (unsigned all = 0; all != (1u << MANY) - 1 && plans < 10; plans++) {
		unsigned found = spaces_of_plan(w, spaces, TIERING_PROMOTE, up);
		assert_true(__builtin_popcount(found) <= 2 && !(found & all));
		all |= found;
	}
	assert_int_equal(plans, (MANY + 1) / 2);
	/* Each has to give up what is above its cap. */
	w->now_ns += 600 * SECOND;
	for (unsigned s = 0; s < MANY; s++) {
		assert_int_equal(up[s], 20);
		spaces[s].fast_max_pages = 5;
	}
	for (plans = 0; plans < 10; plans++)
		assert_true(__builtin_popcount(spaces_of_plan(w, spaces, TIERING_DEMOTE, down)) <= 2);
	for (unsigned s = 0; s < MANY; s++) {
		assert_int_equal(down[s], 15);
		assert_int_equal(tiering_windows_remove(&w->tiering, &spaces[s], 0, UINT64_MAX, window_free), 1);
		tiering_space_remove(&w->tiering, &spaces[s]);
	}
}

static void defect_4a_24_the_rate_is_kept(void **state)
{
	struct world *w = *state;
	uint64_t moved = 0;
	bool again;

	w->tiering.config.rate_pages_per_s = 1000;
	place(w, 0, 8000, SLOW, false);
	uint64_t begin_ns = w->now_ns;
	for (unsigned i = 0; i < 50; i++, w->now_ns += 100 * MS) {
		for (uint64_t k = 0; k < 8000; k++)
			tiering_touch(&w->tiering, &w->space, k, 0, w->now_ns);
		size_t nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);
		complete(w, nr, REASON_MOVED);
		moved += nr;
	}
	uint64_t seconds = (w->now_ns - begin_ns) / SECOND;
	assert_true(moved <= 1000 * seconds + 1000 && moved >= 1000 * (seconds - 1));
	assert_true(w->space.counts.refused[REASON_RATE] > 0);
}

/* Without room, then with room and by the rate: counted once, and refused once for each. */
static void who_waits_is_counted_once(void **state)
{
	struct world *w = *state;
	const struct tiering_counts *counts = &w->space.counts;

	place(w, 0, 512, SLOW, true);
	w->need.free_pages[FAST] = w->need.free_pages[FAST_FAR] = 0;
	touch_twice(w, 0, 1);
	for (unsigned i = 0; i < 10; i++, w->now_ns -= SECOND - 100 * MS)
		assert_int_equal(step(w), 0);
	assert_int_equal(counts->candidates, 512);
	assert_int_equal(counts->waiting, 512);
	assert_int_equal(counts->refused[REASON_NO_ROOM], 512);
	w->need.free_pages[FAST] = 1000;
	w->tiering.config.rate_pages_per_s = 1;
	for (unsigned i = 0; i < 3; i++, w->now_ns -= SECOND - 100 * MS)
		assert_int_equal(step(w), 0);
	assert_int_equal(counts->candidates, 512);
	assert_int_equal(counts->refused[REASON_NO_ROOM], 512);
	assert_int_equal(counts->refused[REASON_RATE], 512);
	w->tiering.config.rate_pages_per_s = 0;
	assert_int_equal(step(w), 1);
	complete(w, 1, REASON_MOVED);
	assert_int_equal(counts->candidates, 512);
	assert_int_equal(counts->promotions, 512);
	assert_int_equal(counts->waiting, 0);
}

/* It cools while it waits, or is unmapped: that is an end, too. */
static void who_waits_in_vain_is_counted(void **state)
{
	struct world *w = *state;
	const struct tiering_counts *counts = &w->space.counts;

	place(w, 0, 4, SLOW, false);
	place(w, 512, 512, SLOW, true);
	w->need.free_pages[FAST] = w->need.free_pages[FAST_FAR] = 0;
	touch_twice(w, 0, 1);
	touch_twice(w, 512, 1);
	assert_int_equal(step(w), 0);
	assert_true(counts->waiting > 0);
	uint64_t waited = counts->waiting;
	assert_int_equal(counts->candidates, waited);
	tiering_forget(&w->tiering, &w->space, 512, 512);
	w->now_ns += 600 * SECOND;
	assert_int_equal(step(w), 0);
	assert_int_equal(counts->waiting, 0);
	assert_int_equal(counts->lapsed, waited);
	assert_int_equal(counts->candidates, waited);
}

/* A hot set twice the size of what is fast: it stops moving, and what is there stays. */
static void it_stops_when_it_thrashes(void **state)
{
	struct world *w = *state;
	uint64_t fast_free = 2000, late = 0;
	bool again;

	w->need.free_pages[FAST_FAR] = 0;
	place(w, 0, 8000, SLOW, false);
	for (unsigned i = 0; i < 3000; i++, w->now_ns += 100 * MS) {
		for (uint64_t k = i % 10; k < 8000; k += 10)
			if (w->window->pages[k].node == (uint8_t)(TIERING_NODE_UNKNOWN - SLOW))
				tiering_touch(&w->tiering, &w->space, k, 0, w->now_ns);
		w->need.free_pages[FAST] = fast_free;
		size_t nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);
		for (size_t k = 0; k < nr; k++) {
			if (w->plan[k].op == TIERING_LOOK)
				continue;
			fast_free += w->plan[k].op == TIERING_DEMOTE ? 1 : UINT64_MAX;
			late += i >= 1500;
		}
		complete(w, nr, REASON_MOVED);
	}
	/* Without the stop it would be about a hundred in each of these 1500 rounds. */
	assert_true(late < 1500 * 10);
	assert_true(w->space.counts.pingpong > 0);
	assert_true(w->space.counts.thrash > 0);
}

static void nodes_tell(struct world *w, const struct tiering_node *nodes, uint32_t nr)
{
	tiering_nodes_set(&w->tiering, nodes, nr);
	assert_null(tiering_check(&w->tiering));
}

/* A node goes with what was on it: nothing is moved to or from it, and its pages are looked for. */
static void a_node_that_went(void **state)
{
	struct world *w = *state;
	struct tiering_node nodes[NR_NODES + 1] = { 0 };

	memcpy(nodes, w->tiering.config.nodes, sizeof w->tiering.config.nodes[0] * NR_NODES);
	place(w, 0, 100, SLOW, false);
	place(w, 512, 512, FAST, true);
	place(w, 1024, 100, FAST, false);
	touch_twice(w, 0, 10);
	nodes[SLOW].slow = nodes[FAST].fast = false;
	nodes_tell(w, nodes, NR_NODES);
	assert_int_equal(w->space.node_pages[SLOW], 0);
	assert_int_equal(w->space.node_pages[FAST], 0);
	assert_int_equal(step(w), 10);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(w->plan[i].op, TIERING_LOOK);
	/* The kernel has put them on another slow node: from there they are promoted, to who is left. */
	place(w, 0, 10, SLOW_FAR, false);
	touch_twice(w, 0, 10);
	assert_int_equal(step(w), 10);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(w->plan[i].to, FAST_FAR);
	/* It goes while they are on their way. */
	nodes[FAST_FAR].fast = false;
	nodes[FAST].fast = true;
	nodes_tell(w, nodes, NR_NODES);
	complete(w, 10, REASON_NO_ROOM);
	assert_int_equal(w->space.counts.ended[REASON_NO_ROOM], 10);
	assert_int_equal(w->space.node_pages[SLOW_FAR], 10);
}

/* A slow node comes, in a place of its own, and what is in use there is promoted. */
static void a_node_that_came(void **state)
{
	struct world *w = *state;
	struct tiering_node nodes[NR_NODES + 1] = { 0 };

	memcpy(nodes, w->tiering.config.nodes, sizeof w->tiering.config.nodes[0] * NR_NODES);
	nodes[NR_NODES] = nodes[SLOW];
	for (unsigned n = 0; n < NR_NODES; n++)
		nodes[NR_NODES].distance[n] = nodes[n].distance[NR_NODES] = n == FAST_FAR ? 11 : 50;
	place(w, 1024, 100, FAST, false);
	nodes_tell(w, nodes, NR_NODES + 1);
	assert_int_equal(w->space.node_pages[FAST], 100);
	place(w, 0, 100, NR_NODES, false);
	touch_twice(w, 0, 10);
	assert_int_equal(step(w), 10);
	assert_int_equal(w->plan[0].from, NR_NODES);
	assert_int_equal(w->plan[0].to, FAST_FAR);
	complete(w, 10, REASON_MOVED);
	assert_int_equal(w->tiering.pair_pages[NR_NODES][FAST_FAR], 10);
}

static void memory_is_at_most_16_bytes_a_page(void **state)
{
	(void)state;
	assert_true(tiering_window_bytes() <= 16 * TIERING_WINDOW_PAGES);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)
	const struct CMUnitTest tests[] = {
		CASE(defect_4b_15_one_touch_moves_nothing),
		CASE(two_touches_move),
		CASE(a_quick_touch_counts_twice),
		CASE(what_cooled_while_it_waited_stays),
		CASE(an_unknown_page_is_looked_up_first),
		CASE(first_touches_move_nothing),
		CASE(defect_4b_12_target_follows_the_accessor),
		CASE(demotion_makes_room_first),
		CASE(a_page_stays_its_least_residence),
		CASE(the_cap_of_a_space_is_kept),
		CASE(moves_that_never_paid),
		CASE(the_guarantee_of_a_space_is_kept),
		CASE(weight_0_is_left_alone),
		CASE(every_reason_has_its_counter),
		CASE(defect_4a_20_promoted_is_only_what_went_from_slow_to_fast),
		CASE(defect_4a_13_a_refused_page_keeps_its_heat_and_waits_longer),
		CASE(a_window_stays_while_something_of_it_is_under_way),
		CASE(windows_go_with_their_range),
		CASE(a_huge_page_is_one_record_and_moves_whole),
		CASE(a_huge_page_that_was_split_meanwhile),
		CASE(shares_follow_the_weights),
		CASE(a_plan_is_of_few_spaces),
		CASE(defect_4a_24_the_rate_is_kept),
		CASE(who_waits_is_counted_once),
		CASE(who_waits_in_vain_is_counted),
		CASE(it_stops_when_it_thrashes),
		CASE(a_node_that_went),
		CASE(a_node_that_came),
		CASE(memory_is_at_most_16_bytes_a_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
