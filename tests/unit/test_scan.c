/* SPDX-License-Identifier: MIT */
/* The pace of looks, from tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scan.h"

#define MS UINT64_C(1000000)

static const struct scan_config config = {
	.start_delay_ns = 500 * MS,
	.period_ns = 1000 * MS,
	.min_ns = 100 * MS,
	.max_ns = 5000 * MS,
	.share_ppm = 10000, /* 1 % */
};

static void period_follows_what_is_found(void **state)
{
	static const struct { uint64_t found, period_ms; } row[] = {
		{ 0, 1150 }, { 5, 143 }, { 5, 122 }, { 9, 103 }, { 1, 100 }, { 1, 100 },
		{ 0, 800 }, { 0, 920 }, { 0, 1058 }, { 3, 132 }, { 0, 1058 }, { 0, 1216 },
	};
	struct scan scan;
	uint64_t now_ns = 0;

	(void)state;
	scan_init(&scan, &config, SCAN_WEIGHT_MAX, 0);
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		scan_done(&scan, now_ns, 0, row[i].found);
		assert_int_equal(scan.period_ns / MS, row[i].period_ms);
		assert_int_equal(scan_wait_ns(&scan, now_ns), scan.period_ns);
		assert_false(scan_due(&scan, now_ns + scan.period_ns - 1));
		now_ns += scan.period_ns;
		assert_true(scan_due(&scan, now_ns));
	}
	for (unsigned i = 0; i < 100; i++)
		scan_done(&scan, now_ns, 0, 0);
	assert_int_equal(scan.period_ns, config.max_ns);
}

static void starts_late(void **state)
{
	struct scan scan;

	(void)state;
	scan_init(&scan, &config, 1, 7 * MS);
	assert_false(scan_due(&scan, 506 * MS));
	assert_int_equal(scan_wait_ns(&scan, 7 * MS), 500 * MS);
	assert_true(scan_due(&scan, 507 * MS));
	assert_int_equal(scan_wait_ns(&scan, 600 * MS), 0);
}

static void defect_4b_18_weight_0_is_never_due(void **state)
{
	struct scan scan;

	(void)state;
	scan_init(&scan, &config, 0, 0);
	assert_false(scan_due(&scan, UINT64_MAX));
	assert_int_equal(scan_wait_ns(&scan, UINT64_MAX), UINT64_MAX); /* sleeps, never spins */
}

/* However much there is to find, looks take at most their share. */
static void defect_4a_10_work_is_bounded_by_a_share(void **state)
{
	static const struct { uint32_t weight; uint64_t cost_ms, wait_ms; } row[] = {
		{ 10, 1, 100 }, { 10, 2, 200 }, { 10, 50, 5000 }, { 10, 100, 10000 },
		{ 5, 10, 2000 }, { 1, 10, 10000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		struct scan scan;
		uint64_t now_ns = 0, spent_ns = 0;
		scan_init(&scan, &config, row[i].weight, 0);
		for (unsigned k = 0; k < 50; k++) {
			now_ns += scan_wait_ns(&scan, now_ns);
			scan_done(&scan, now_ns, row[i].cost_ms * MS, 1000);
			spent_ns += row[i].cost_ms * MS;
		}
		assert_int_equal(scan_wait_ns(&scan, now_ns) / MS, row[i].wait_ms);
		now_ns += scan_wait_ns(&scan, now_ns);
		assert_true(spent_ns <= now_ns / 100 * row[i].weight / 10);
	}
}

/* A look that somebody has a reason for comes before its period, never before its share. */
static void a_reason_does_not_pass_the_share(void **state)
{
	struct scan scan;

	(void)state;
	scan_init(&scan, &config, SCAN_WEIGHT_MAX, 0);
	assert_true(scan_may(&scan, 0));
	assert_int_equal(scan_may_wait_ns(&scan, 0), 0);
	scan_done(&scan, 1000 * MS, 3 * MS, 0);
	assert_int_equal(scan_may_wait_ns(&scan, 1100 * MS), 200 * MS);
	assert_false(scan_may(&scan, 1300 * MS - 1));
	assert_true(scan_may(&scan, 1300 * MS));
	assert_false(scan_due(&scan, 1300 * MS));
	scan_init(&scan, &config, 0, 0);
	assert_false(scan_may(&scan, UINT64_MAX));
	assert_true(scan_may_wait_ns(&scan, 0) == UINT64_MAX);
}

/* Bounds that change hold for the wait under way too, in both directions. */
static void bounds_change_the_wait_under_way(void **state)
{
	static const struct { uint32_t share_ppm; uint64_t max_ms, wait_ms; } row[] = {
		{ 10000, 5000, 2000 }, { 100000, 5000, 1150 }, { 100000, 300, 300 },
		{ 250000, 50, 80 }, { 1000000, 50, 50 }, { 1000, 50, 20000 },
	};
	struct scan scan;

	(void)state;
	scan_init(&scan, &config, SCAN_WEIGHT_MAX, 0);
	scan_done(&scan, 0, 20 * MS, 0);
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		scan_bound(&scan, row[i].share_ppm, row[i].max_ms * MS);
		assert_int_equal(scan_wait_ns(&scan, 0) / MS, row[i].wait_ms);
	}
	/* Below the least period: the bound is the period. */
	scan_done(&scan, 0, 0, 0);
	assert_int_equal(scan_wait_ns(&scan, 0), 50 * MS);
	scan_bound(&scan, 1000, 5000 * MS);
	scan_done(&scan, 0, 0, 0);
	assert_int_equal(scan_wait_ns(&scan, 0), 115 * MS); /* begun anew at 100 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(period_follows_what_is_found),
		cmocka_unit_test(starts_late),
		cmocka_unit_test(defect_4b_18_weight_0_is_never_due),
		cmocka_unit_test(defect_4a_10_work_is_bounded_by_a_share),
		cmocka_unit_test(a_reason_does_not_pass_the_share),
		cmocka_unit_test(bounds_change_the_wait_under_way),
	};

	return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
