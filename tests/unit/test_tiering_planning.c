/* SPDX-License-Identifier: MIT */
/*
 * The engine for nodes: where pages go, what makes room for them, and what became of each move. It stops when that
 * does not pay, and goes on when nodes come and go.
 */
#include "tiering_world.h"

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
static void defect_4a_22_a_node_that_went(void **state)
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
static void defect_4a_22_a_node_that_came(void **state)
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

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)
	const struct CMUnitTest tests[] = {
		CASE(defect_4b_12_target_follows_the_accessor),
		CASE(demotion_makes_room_first),
		CASE(a_page_stays_its_least_residence),
		CASE(moves_that_never_paid),
		CASE(every_reason_has_its_counter),
		CASE(defect_4a_20_promoted_is_only_what_went_from_slow_to_fast),
		CASE(it_stops_when_it_thrashes),
		CASE(defect_4a_22_a_node_that_went),
		CASE(defect_4a_22_a_node_that_came),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
