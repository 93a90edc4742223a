/* SPDX-License-Identifier: MIT */
/* Estimates, marks, tokens and read-ahead, from tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ahead.h"
#include "place.h"

#define MS UINT64_C(1000000)

static void beats_pass(struct place *place, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		place_stored(place, 1000, 64000);
}

/* Level of a page that was away for so many beats; 16 less for each doubling. */
static void level_of_one_interval(void **state)
{
	static const struct { unsigned beats; uint32_t level; } row[] = {
		{ 0, 160 }, { 1, 136 }, { 2, 124 }, { 3, 116 }, { 7, 98 }, { 15, 81 },
		{ 31, 65 }, { 63, 49 }, { 127, 33 }, { 200, 23 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		struct place place;
		place_init(&place);
		uint16_t estimate = place_estimate_unmapped(&place, 0);
		beats_pass(&place, row[i].beats);
		assert_int_equal(place_age(&place, place_stamp(estimate)), row[i].beats);
		estimate = place_estimate_touched(&place, estimate);
		assert_int_equal(place_level(estimate), row[i].level);
		assert_int_equal(place_age(&place, place_stamp(estimate)), 0);
	}
}

static void the_mean_follows_its_samples(void **state)
{
	struct place place;
	uint16_t estimate;
	uint32_t level;

	(void)state;
	place_init(&place);
	estimate = place_estimate_born(&place);
	level = place_level(estimate);
	for (unsigned i = 0; i < 20; i++) { /* comes back at once: rises to the top */
		estimate = place_estimate_touched(&place, place_estimate_unmapped(&place, estimate));
		assert_true(place_level(estimate) >= level);
		level = place_level(estimate);
	}
	assert_true(level > 140);
	for (unsigned i = 0; i < 20; i++) { /* stays away for long: falls */
		estimate = place_estimate_unmapped(&place, estimate);
		beats_pass(&place, 128);
		estimate = place_estimate_touched(&place, estimate);
		assert_true(place_level(estimate) <= level);
		level = place_level(estimate);
	}
	assert_true(level < 40 && level > 0);
}

static void a_stamp_never_looks_younger_than_it_is(void **state)
{
	struct place place;
	uint16_t estimate;

	(void)state;
	place_init(&place);
	estimate = place_estimate(80, place_stamp_now(&place));
	for (unsigned beat = 0; beat < 3000; beat++) {
		uint32_t age = place_age(&place, place_stamp(estimate));
		assert_true(age >= (beat < 255 ? beat : 255) || age == PLACE_AGE_MAX);
		if (beat % PLACE_SWEEP_BEATS == 0) /* as often as the hand comes by at least */
			estimate = place_estimate_forget(&place, estimate);
		beats_pass(&place, 1);
	}
	assert_int_equal(place_level(estimate), 80); /* what was learnt stays */
	assert_int_equal(place_stamp(estimate), 0);
}

/* Beats until the hand, which comes by in time, would try a page again. */
static unsigned beats_put_off(struct place *place, uint16_t *estimate)
{
	unsigned nr = 0;

	for (; place_level(*estimate) > PLACE_LEVEL_TOP; nr++) {
		place->urgent = true;
		assert_int_equal(place_judge(place, *estimate), PLACE_KEEP);
		*estimate = place_estimate_forget(place, *estimate);
		beats_pass(place, 1);
	}
	return nr;
}

/* What does not compress will not compress soon: trying it again and again was most of the work where memory was
 * full of it. */
static void a_page_refused_again_waits_twice_as_long(void **state)
{
	struct place place;
	uint16_t estimate;
	unsigned first, nr;

	(void)state;
	place_init(&place);
	estimate = place_estimate_refused(&place, place_estimate(120, 7));
	first = beats_put_off(&place, &estimate);
	assert_in_range(first, PLACE_FORGET_BEATS, PLACE_FORGET_BEATS + 2);
	for (unsigned i = 1; i < 9; i++) {
		estimate = place_estimate_refused(&place, place_estimate_unmapped(&place, estimate));
		nr = beats_put_off(&place, &estimate);
		unsigned wait = (1u << (i < PLACE_TRIES_MAX ? i : PLACE_TRIES_MAX)) * PLACE_FORGET_BEATS;
		assert_in_range(nr, wait, wait + wait / 64 + 2);
	}
	/* It was in use meanwhile: what is known of it is new. */
	estimate = place_estimate_touched(&place, place_estimate_unmapped(&place, estimate));
	estimate = place_estimate_refused(&place, estimate);
	assert_in_range(beats_put_off(&place, &estimate), PLACE_FORGET_BEATS, PLACE_FORGET_BEATS + 2);
	estimate = place_estimate_busy(&place);
	assert_in_range(beats_put_off(&place, &estimate), PLACE_FORGET_BEATS, PLACE_FORGET_BEATS + 2);
}

static void a_beat_is_a_64th_of_memory(void **state)
{
	struct place place;

	(void)state;
	place_init(&place);
	for (unsigned i = 0; i < 640; i++)
		place_stored(&place, 100, 64000);
	assert_int_equal(place.beat, 1 + 64);
}

static void verdicts(void **state)
{
	struct place place;

	(void)state;
	place_init(&place);
	place.threshold_q8 = 50 * 256;
	beats_pass(&place, 10);
	uint32_t stamp = place_stamp_now(&place);
	/* Just come: spared, unless somebody waits. */
	assert_int_equal(place_judge(&place, place_estimate(20, stamp)), PLACE_KEEP);
	place.urgent = true;
	assert_int_equal(place_judge(&place, place_estimate(20, stamp)), PLACE_COLD);
	place.urgent = false;
	beats_pass(&place, 2);
	assert_int_equal(place_judge(&place, place_estimate(20, stamp)), PLACE_COLD);
	assert_int_equal(place_judge(&place, place_estimate(50, stamp)), PLACE_COLD);
	assert_int_equal(place_judge(&place, place_estimate(55, stamp)), PLACE_NEAR);
	assert_int_equal(place_judge(&place, place_estimate(80, stamp)), PLACE_KEEP);
	/* Unseen for long, it is to be tested again; never known at all, first. */
	beats_pass(&place, 250);
	assert_int_equal(place_judge(&place, place_estimate(64, stamp)), PLACE_COLD);
	assert_int_equal(place_judge(&place, 0), PLACE_COLD);
	assert_true(place_score(&place, place_estimate(160, stamp)) >
		    place_score(&place, place_estimate(64, stamp)));
}

static void defect_4a_24_least_residence(void **state)
{
	struct place place;

	(void)state;
	place_init(&place);
	place.threshold_q8 = 160 * 256; /* all is cold */
	uint16_t estimate = place_estimate_touched(&place, 0);
	assert_int_equal(place_judge(&place, estimate), PLACE_KEEP);
	beats_pass(&place, 1);
	assert_int_equal(place_judge(&place, estimate), PLACE_COLD);
}

static void threshold_follows_the_share(void **state)
{
	struct place place;
	int32_t last;

	(void)state;
	place_init(&place);
	last = place.threshold_q8;
	place_seen(&place, 100000, 0); /* nothing cold: more is */
	assert_true(place.threshold_q8 > last);
	last = place.threshold_q8;
	place_seen(&place, 100000, 100000);
	assert_true(place.threshold_q8 < last);
	last = place.threshold_q8;
	place_seen(&place, 90000, 3000); /* just right */
	assert_int_equal(place.threshold_q8, last);
	for (unsigned i = 0; i < 1000; i++)
		place_seen(&place, 100000, 0);
	/* Bounded: even the hottest is cold then, but no more than that. */
	assert_int_equal(place.threshold_q8, 160 * 256);
}

static void defect_4a_24_watermarks_and_hysteresis(void **state)
{
	static const struct { uint64_t resident, filling, excess; bool pressed, urgent; } row[] = {
		{ 0, 0, 0, false, false },	    { 60000, 0, 0, false, false },
		{ 62500, 0, 0, true, false },	    { 62976, 0, 0, true, false },
		{ 63030, 0, 0, true, false }, /* above low, but not by enough to begin */
		{ 63100, 0, 124, true, false },	    { 62986, 0, 10, true, false },
		{ 62976, 0, 0, true, false },	    { 62986, 0, 0, true, false },
		{ 63489, 0, 513, true, true },	    { 64000, 500, 1524, true, true },
		{ 60000, 1, 0, false, true },
	};
	struct place place;
	uint64_t low, high;

	(void)state;
	place_marks(64000, &low, &high);
	assert_int_equal(low, 62976);
	assert_int_equal(high, 63488);
	place_marks(3200, &low, &high); /* a small budget cannot spare as much */
	assert_int_equal(low, 3100);
	assert_int_equal(high, 3150);
	place_marks(1280000, &low, &high);
	assert_int_equal(low, 1270000);
	place_marks(UINT64_C(1) << 30, &low, &high);
	assert_int_equal(low, (1 << 30) - 16384);
	place_init(&place);
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		assert_int_equal(place_excess(&place, row[i].resident, 64000, row[i].filling),
				 row[i].excess);
		assert_int_equal(place.pressed, row[i].pressed);
		assert_int_equal(place.urgent, row[i].urgent);
	}
}

static void defect_4a_24_token_bucket(void **state)
{
	struct place place;
	uint64_t got = 0;

	(void)state;
	place_init(&place);
	assert_int_equal(place_tokens(&place, 1000000, 0), 16384); /* the burst */
	assert_int_equal(place_tokens(&place, 1000000, 0), 0);
	for (unsigned ms = 1; ms <= 1000; ms++)
		got += place_tokens(&place, 1000000, ms * MS);
	assert_in_range(got, 64800, 65536);
	/* A hold in the stead of a stored page costs nothing. */
	place_stored(&place, 100, 64000);
	assert_int_equal(place_tokens(&place, 1000000, 1000 * MS), 100);
	/* However long nobody asked, and if the clock goes back, no more than the burst. */
	assert_int_equal(place_tokens(&place, UINT64_MAX, UINT64_MAX), 16384);
	assert_int_equal(place_tokens(&place, UINT64_MAX, 0), 0);
}

/* Holding stops by itself when held pages only come back, and starts again when they do not. */
static void defect_4a_24_thrash_stops_holding(void **state)
{
	struct place place;
	uint64_t gap = 1000;

	(void)state;
	place_init(&place);
	assert_int_equal(place_gap(&place, 64000, 1 << 20), gap);
	assert_int_equal(place_gap(&place, 64000, 100), 50);
	for (unsigned i = 0; i < 4; i++) {
		place_returned(&place, 4000);
		place_held(&place, 4096);
		gap /= 2;
		assert_int_equal(place_gap(&place, 64000, 1 << 20), gap);
	}
	for (unsigned i = 0; i < 20; i++) {
		place_returned(&place, 4000);
		place_held(&place, 4096);
	}
	assert_int_equal(place_gap(&place, 64000, 1 << 20), 62); /* never nothing: it must find out */
	for (unsigned i = 0; i < 20; i++)
		place_held(&place, 4096);
	assert_int_equal(place_gap(&place, 64000, 1 << 20), 1000);
}

/* ---- read-ahead ---- */

static void window_grows_while_right(void **state)
{
	static const uint32_t window[] = { 1, 2, 4, 8, 16, 32, 64, 128, 128, 128 };
	struct ahead *ahead = calloc(1, sizeof *ahead);
	uint64_t idx = 1000;

	(void)state;
	for (size_t i = 0; i < sizeof window / sizeof *window; i++) {
		assert_int_equal(ahead_window(ahead, idx, AHEAD_WINDOW_MAX), window[i]);
		idx += window[i];
	}
	/* Elsewhere: wrong, so 1. */
	assert_int_equal(ahead_window(ahead, 500000, AHEAD_WINDOW_MAX), 1);
	assert_int_equal(ahead_window(ahead, 700000, AHEAD_WINDOW_MAX), 1);
	/* The stream itself was not wrong. */
	assert_int_equal(ahead_window(ahead, idx, AHEAD_WINDOW_MAX), AHEAD_WINDOW_MAX);
	assert_true(ahead->nr_used < ahead->nr_issued);
	assert_int_equal(ahead->nr_used, 1 + 3 + 7 + 15 + 31 + 63 + 3 * 127);
	free(ahead);
}

static void window_learns_what_the_caller_brings(void **state)
{
	struct ahead *ahead = calloc(1, sizeof *ahead);
	uint64_t idx = 0;
	uint32_t window = 0;

	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		window = ahead_window(ahead, idx, AHEAD_WINDOW_MAX);
		idx += window < 24 ? window : 24; /* the caller never brings in more */
	}
	assert_int_equal(window, 48);
	free(ahead);
}

/* Pages that are in memory already make no fault: the next one lies beyond the window. */
static void stream_goes_on_behind_pages_that_are_there(void **state)
{
	struct ahead *ahead = calloc(1, sizeof *ahead);
	uint64_t idx = 0;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		uint32_t window = ahead_window(ahead, idx, AHEAD_WINDOW_MAX);
		assert_int_equal(window, i < 7 ? 1u << i : AHEAD_WINDOW_MAX);
		idx += window + (i > 3 ? i % 5 * 4 : 0);
	}
	/* But not far beyond. */
	assert_int_equal(ahead_window(ahead, idx + 64, AHEAD_WINDOW_MAX), 1);
	free(ahead);
}

static void window_ends_with_the_region(void **state)
{
	struct ahead *ahead = calloc(1, sizeof *ahead);
	uint64_t idx = 0;

	(void)state;
	while (idx < 1000) {
		uint64_t left = 1000 - idx;
		uint32_t window = ahead_window(ahead, idx, left < AHEAD_COPY_MAX ? left : AHEAD_COPY_MAX);
		assert_true(window >= 1 && idx + window <= 1000);
		idx += window;
	}
	free(ahead);
}

static void random_faults_read_nothing_ahead(void **state)
{
	struct ahead *ahead = calloc(1, sizeof *ahead);
	uint64_t rng = 3, extra = 0;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		rng = rng * 6364136223846793005u + 1442695040888963407u;
		extra += ahead_window(ahead, rng >> 40, AHEAD_WINDOW_MAX) - 1;
	}
	assert_true(extra < 100);
	/* Nor does a stride. */
	for (uint64_t idx = 0; idx < 1 << 20; idx += 64)
		assert_int_equal(ahead_window(ahead, idx, AHEAD_WINDOW_MAX), 1);
	free(ahead);
}

/* Four streams and random faults between their steps: each stream still grows. */
static void streams_live_side_by_side(void **state)
{
	struct ahead *ahead = calloc(1, sizeof *ahead);
	uint64_t at[4] = { 0, 1000003, 2000003, 3000007 }, rng = 5;
	uint32_t window[4] = { 0 };

	(void)state;
	for (unsigned step = 0; step < 200; step++) {
		for (unsigned s = 0; s < 4; s++) {
			window[s] = ahead_window(ahead, at[s], AHEAD_WINDOW_MAX);
			at[s] += window[s];
		}
		for (unsigned i = 0; i < 8; i++) {
			rng = rng * 6364136223846793005u + 1442695040888963407u;
			ahead_window(ahead, rng >> 40, AHEAD_WINDOW_MAX);
		}
	}
	for (unsigned s = 0; s < 4; s++)
		assert_int_equal(window[s], AHEAD_WINDOW_MAX);
	free(ahead);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(level_of_one_interval),
		cmocka_unit_test(the_mean_follows_its_samples),
		cmocka_unit_test(a_stamp_never_looks_younger_than_it_is),
		cmocka_unit_test(a_page_refused_again_waits_twice_as_long),
		cmocka_unit_test(a_beat_is_a_64th_of_memory),
		cmocka_unit_test(verdicts),
		cmocka_unit_test(defect_4a_24_least_residence),
		cmocka_unit_test(threshold_follows_the_share),
		cmocka_unit_test(defect_4a_24_watermarks_and_hysteresis),
		cmocka_unit_test(defect_4a_24_token_bucket),
		cmocka_unit_test(defect_4a_24_thrash_stops_holding),
		cmocka_unit_test(window_grows_while_right),
		cmocka_unit_test(window_learns_what_the_caller_brings),
		cmocka_unit_test(stream_goes_on_behind_pages_that_are_there),
		cmocka_unit_test(window_ends_with_the_region),
		cmocka_unit_test(random_faults_read_nothing_ahead),
		cmocka_unit_test(streams_live_side_by_side),
	};

	return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
