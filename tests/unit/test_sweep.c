/* SPDX-License-Identifier: MIT */
/* Sweeps against a model of the kernel's scanner: how long looks become, when one is due, when it is over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sweep.h"

#define MIB UINT64_C(1048576)
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define RANGE_PAGES 512u
#define SIZE_MB 1024u
#define BASE UINT64_C(0x7f0000000000)
#define SKIP_NS 60u

/* A process of SIZE_MB, of which some pages in every range are accessible, and what a look at it costs. */
struct world {
	struct sweep sweep;
	struct sweep_process process;
	uint64_t now_ns, offset;
	uint32_t nr_accessible;  /* of each range */
	uint32_t armed_ns;
	uint32_t nr_looks;
};

static void begin(struct world *w, uint32_t nr_accessible, uint32_t armed_ns)
{
	*w = (struct world){ .now_ns = 100 * SECOND, .nr_accessible = nr_accessible, .armed_ns = armed_ns };
	sweep_init(&w->sweep);
	sweep_begin(&w->sweep, SIZE_MB, 0, w->now_ns);
}

/* As the kernel does it: until size_mb of ranges had something to change, or 8 times as much is passed. */
static uint64_t look(struct world *w)
{
	int64_t pages = (int64_t)w->sweep.size_mb * 256, all = pages * 8;
	uint64_t begin_ns = w->now_ns;

	while (pages > 0 && all > 0) {
		sweep_range(&w->sweep, &w->process, BASE + w->offset, RANGE_PAGES, w->now_ns);
		w->now_ns += (uint64_t)RANGE_PAGES * SKIP_NS + (uint64_t)w->nr_accessible * w->armed_ns;
		sweep_range_end(&w->process, w->nr_accessible, w->now_ns);
		pages -= w->nr_accessible ? RANGE_PAGES : 0;
		all -= RANGE_PAGES;
		w->offset += 2 * MIB;
		if (w->offset >= SIZE_MB * MIB) {
			w->offset = 0;
			break; /* the kernel ends a look there */
		}
	}
	w->nr_looks++;
	return w->now_ns - begin_ns;
}

/* A whole sweep, looks so far apart; the longest of them, the first few aside. */
static uint64_t sweep_all(struct world *w, uint64_t apart_ns)
{
	uint64_t longest_ns = 0;

	w->nr_looks = 0;
	while (!sweep_process_over(&w->sweep, &w->process, true, w->now_ns)) {
		uint64_t took_ns = look(w);

		if (w->nr_looks > 4 && took_ns > longest_ns)
			longest_ns = took_ns;
		w->now_ns += apart_ns;
	}
	return longest_ns;
}

/* However many pages of a range there are to make inaccessible, a look takes about as long as it may, and
 * the sweep no more looks than that asks for. */
static void looks_are_as_long_as_they_may(void **state)
{
	static const uint32_t accessible[] = { 512, 128, 16, 1 };

	(void)state;
	for (size_t i = 0; i < sizeof accessible / sizeof *accessible; i++) {
		struct world w;

		begin(&w, accessible[i], 1000);
		uint64_t longest_ns = sweep_all(&w, 62 * MS);
		uint64_t all_ns = SIZE_MB / 2 * (RANGE_PAGES * SKIP_NS + accessible[i] * UINT64_C(1000));
		uint64_t least = all_ns / SWEEP_LOOK_LEAST_NS;
		assert_true(longest_ns <= SWEEP_LOOK_LEAST_NS + 600000); /* one range more */
		assert_true(w.nr_looks <= 2 * least + 40);
		begin(&w, accessible[i], 1000);
		longest_ns = sweep_all(&w, SECOND);
		assert_true(longest_ns <= SWEEP_LOOK_MOST_NS + 600000);
		assert_true(w.nr_looks <= 2 * all_ns / SWEEP_LOOK_MOST_NS + 8);
	}
}

/* On a machine where it costs next to nothing a sweep takes a few seconds, not fewer and fewer. */
static void cheap_looks_are_not_larger_than_wanted(void **state)
{
	struct world w;

	(void)state;
	begin(&w, 512, 20);
	sweep_all(&w, 62 * MS);
	assert_in_range(w.now_ns - w.sweep.begun_ns, SECOND, 4 * SECOND);
}

/* A look that was disturbed makes the next ones hardly shorter. */
static void a_disturbed_look_says_little(void **state)
{
	struct world w;

	(void)state;
	begin(&w, 512, 1000);
	for (int i = 0; i < 20; i++) {
		look(&w);
		w.now_ns += 62 * MS;
	}
	uint64_t before = w.sweep.mb_ns;
	sweep_range(&w.sweep, &w.process, BASE + w.offset, RANGE_PAGES, w.now_ns);
	w.now_ns += 50 * MS;
	sweep_range_end(&w.process, 512, w.now_ns);
	w.now_ns += 62 * MS;
	look(&w);
	assert_true(w.sweep.mb_ns > before && w.sweep.mb_ns <= before + before / 4);
}

/*
 * A thread looked on two CPUs, and the ring of the later look is read first: what the other one tells then is
 * late. It is not taken for the process having come round, nor its times for those of the look under way.
 */
static void what_is_told_late_ends_nothing(void **state)
{
	struct world w;

	(void)state;
	begin(&w, 512, 1000);
	look(&w);
	uint64_t early_ns = w.now_ns + 62 * MS, late_ns = early_ns + 62 * MS, address = BASE + w.offset;
	uint64_t pages = w.process.nr_pages, look_ns = w.process.look_ns;
	sweep_range(&w.sweep, &w.process, address + 4 * MIB, RANGE_PAGES, late_ns);
	sweep_range(&w.sweep, &w.process, address, RANGE_PAGES, early_ns);
	sweep_range_end(&w.process, 512, early_ns + MS);
	assert_false(sweep_process_over(&w.sweep, &w.process, true, late_ns));
	sweep_range_end(&w.process, 512, late_ns + MS);
	assert_true(w.process.look_ns <= look_ns + 2 * MS);
	assert_true(w.process.nr_pages <= pages + 2 * RANGE_PAGES);
}

/* Between sweeps a look is small, and costs more than its pages: the next sweep begins as the last one was. */
static void looks_between_sweeps_say_nothing(void **state)
{
	struct world w;

	(void)state;
	begin(&w, 512, 1000);
	sweep_all(&w, 62 * MS);
	uint64_t size_mb = w.sweep.size_mb;
	sweep_end(&w.sweep);
	for (int i = 0; i < 100; i++) {
		sweep_range(&w.sweep, &w.process, BASE, RANGE_PAGES, w.now_ns);
		w.now_ns += 3 * MS;
		sweep_range_end(&w.process, 0, w.now_ns);
		w.now_ns += SECOND;
	}
	sweep_begin(&w.sweep, SIZE_MB, 100, w.now_ns);
	for (int i = 0; i < 4; i++) {
		assert_in_range(w.sweep.size_mb, size_mb - size_mb / 4, size_mb + size_mb / 4);
		look(&w);
		w.now_ns += 62 * MS;
	}
}

static void over_when_it_comes_round(void **state)
{
	struct world w;

	(void)state;
	begin(&w, 512, 20);
	w.offset = 300 * MIB;
	for (int i = 0; i < 1000 && !w.process.done; i++) {
		assert_false(sweep_process_over(&w.sweep, &w.process, true, w.now_ns));
		look(&w);
		w.now_ns += 10 * MS;
	}
	assert_true(w.process.done);
	assert_true(w.offset >= 300 * MIB);
	/* One with a single range comes round each time. */
	struct sweep_process small = { 0 };
	sweep_range(&w.sweep, &small, BASE, 100, w.now_ns);
	sweep_range_end(&small, 100, w.now_ns + MS);
	assert_false(small.done);
	sweep_range(&w.sweep, &small, BASE, 100, w.now_ns + 70 * MS);
	assert_true(small.done);
	/* One that sleeps is not waited for; one that is half through is, for a while. */
	struct sweep_process sleeps = { 0 }, half = { .begun = true };
	assert_true(sweep_process_over(&w.sweep, &sleeps, true, w.sweep.begun_ns + 5 * SECOND));
	assert_false(sweep_process_over(&w.sweep, &half, true, w.sweep.begun_ns + 5 * SECOND));
	assert_true(sweep_process_over(&w.sweep, &half, true, w.sweep.begun_ns + 30 * SECOND));
	/* Where nobody tells ranges the clock does. */
	assert_true(sweep_process_over(&w.sweep, &half, false, w.sweep.begun_ns + SECOND));
}

/* One that never comes round does not keep dozens from being looked at again; one of a few is waited for. */
static void few_of_many_are_not_waited_for(void **state)
{
	(void)state;
	assert_true(sweep_over(1, 0) && sweep_over(0, 0) && sweep_over(24, 0));
	assert_false(sweep_over(1, 1) || sweep_over(2, 1) || sweep_over(4, 1));
	assert_true(sweep_over(24, 5) && sweep_over(5, 1));
	assert_false(sweep_over(24, 6) || sweep_over(24, 24));
}

/* Seconds after `from_ns` at which a sweep is due, when the touches come as `rate` a second for so long. */
static double due_after(struct sweep *sweep, uint64_t from_ns, uint64_t *touches, uint64_t rate,
			double burst_s)
{
	for (uint64_t ns = 0; ns < 100 * SECOND; ns += 20 * MS) {
		if ((double)ns < burst_s * 1e9)
			*touches += rate / 50;
		if (sweep_due(sweep, SECOND, *touches, from_ns + ns))
			return (double)ns / 1e9;
	}
	return 100;
}

static void due_for_something_new_and_behind_a_burst(void **state)
{
	uint64_t now_ns = 100 * SECOND, touches = 0;
	struct sweep sweep;

	(void)state;
	sweep_init(&sweep);
	assert_true(sweep_due(&sweep, SECOND, 0, now_ns)); /* the first one */
	sweep_begin(&sweep, SIZE_MB, 0, now_ns);
	/* Nothing is touched: after many periods all the same. */
	assert_in_range((uint64_t)due_after(&sweep, now_ns, &touches, 0, 0), 15, 17);
	sweep_begin(&sweep, SIZE_MB, touches, now_ns);
	/* A few touches, once the period is over. */
	double s = due_after(&sweep, now_ns + 5 * SECOND, &touches, 1000, 0.1);
	assert_true(s < 0.5);
	sweep_begin(&sweep, SIZE_MB, touches, now_ns);
	/* A burst of a second is waited for, one that does not end is not. */
	s = due_after(&sweep, now_ns + 5 * SECOND, &touches, 60000, 1);
	assert_true(s >= 1 && s < 1.4);
	sweep_begin(&sweep, SIZE_MB, touches, now_ns);
	s = due_after(&sweep, now_ns + 5 * SECOND, &touches, 60000, 90);
	assert_true(s >= 1.4 && s < 1.8);
	/* Somebody came. */
	sweep_begin(&sweep, SIZE_MB, touches, now_ns);
	sweep.news = true;
	assert_true(due_after(&sweep, now_ns + 2 * SECOND, &touches, 0, 0) < 0.3);
}

/* Threads look in turn, and what the second did between two looks of the first is told after both. */
static void ranges_told_late_are_passed_over(void **state)
{
	struct sweep sweep;
	struct sweep_process process = { 0 };
	static const struct {
		uint64_t mib, ms;
	} told[] = { { 0, 0 }, { 128, 40 }, { 64, 20 }, { 192, 60 } };

	(void)state;
	sweep_init(&sweep);
	sweep_begin(&sweep, SIZE_MB, 0, 100 * SECOND);
	for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
		uint64_t now_ns = 101 * SECOND + told[i].ms * MS;

		sweep_range(&sweep, &process, BASE + told[i].mib * MIB, RANGE_PAGES, now_ns);
		sweep_range_end(&process, RANGE_PAGES, now_ns + MS);
		assert_false(sweep_process_over(&sweep, &process, true, now_ns + MS));
	}
	sweep_range(&sweep, &process, BASE, RANGE_PAGES, 102 * SECOND);
	assert_true(sweep_process_over(&sweep, &process, true, 102 * SECOND));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(looks_are_as_long_as_they_may),
		cmocka_unit_test(cheap_looks_are_not_larger_than_wanted),
		cmocka_unit_test(a_disturbed_look_says_little),
		cmocka_unit_test(what_is_told_late_ends_nothing),
		cmocka_unit_test(looks_between_sweeps_say_nothing),
		cmocka_unit_test(over_when_it_comes_round),
		cmocka_unit_test(few_of_many_are_not_waited_for),
		cmocka_unit_test(ranges_told_late_are_passed_over),
		cmocka_unit_test(due_for_something_new_and_behind_a_burst),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
