/* SPDX-License-Identifier: MIT */
/*
 * The engine for nodes: which pages are to move. What is heard of them and how long that counts, huge pages, which
 * have one record, and windows, which go with their range.
 */
#include "tiering_world.h"

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

/* It is looked for, for others may have moved it; but it is none that waits, is refused, or goes anywhere. */
static void defect_4a_14_what_is_fast_already_is_no_candidate(void **state)
{
	struct world *w = *state;

	place(w, 0, 100, FAST, false);
	touch_twice(w, 0, 100);
	size_t nr = step(w);
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(w->plan[i].op, TIERING_LOOK);
	assert_int_equal(w->space.counts.touches, 200);
	assert_int_equal(w->space.counts.candidates, 0);
	assert_int_equal(w->space.counts.waiting, 0);
	assert_int_equal(w->space.counts.requested, 0);
	for (unsigned r = 0; r < REASON_COUNT; r++)
		assert_int_equal(w->space.counts.refused[r], 0);
	/* Found where it was, it is left alone. */
	place(w, 0, 100, FAST, false);
	assert_int_equal(step(w), 0);
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

/* Until it may be tried again. */
static void touches_of_a_refused_page_tell_nothing(void **state)
{
	struct world *w = *state;

	place(w, 0, 10, SLOW, false);
	touch_twice(w, 0, 10);
	assert_int_equal(w->space.counts.touched, 20);
	assert_int_equal(step(w), 10);
	complete(w, 10, REASON_PINNED);
	touch_twice(w, 0, 10); /* at once, and a second later */
	tiering_touch(&w->tiering, &w->space, 0, 0, w->now_ns - 10 * SECOND); /* told late */
	assert_int_equal(w->space.counts.touched, 20);
	assert_int_equal(w->space.counts.touches, 41);
	touch_twice(w, 0, 10);
	assert_int_equal(w->space.counts.touched, 40);
	assert_int_equal(step(w), 10);
	complete(w, 10, REASON_MOVED);
}

static void defect_4b_03_a_window_stays_while_something_of_it_is_under_way(void **state)
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
		CASE(defect_4a_14_what_is_fast_already_is_no_candidate),
		CASE(what_cooled_while_it_waited_stays),
		CASE(an_unknown_page_is_looked_up_first),
		CASE(first_touches_move_nothing),
		CASE(defect_4a_13_a_refused_page_keeps_its_heat_and_waits_longer),
		CASE(touches_of_a_refused_page_tell_nothing),
		CASE(defect_4b_03_a_window_stays_while_something_of_it_is_under_way),
		CASE(windows_go_with_their_range),
		CASE(a_huge_page_is_one_record_and_moves_whole),
		CASE(a_huge_page_that_was_split_meanwhile),
		CASE(who_waits_is_counted_once),
		CASE(who_waits_in_vain_is_counted),
		CASE(memory_is_at_most_16_bytes_a_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
