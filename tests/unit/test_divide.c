/* SPDX-License-Identifier: MIT */
/*
 * What each process of a workload gets of a cap and of a guarantee, also over several looks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "divide.h"

#define CAP 1600u
#define NR(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t max_sum(const struct part *parts, size_t nr)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nr; i++)
		sum += parts[i].max;
	return sum;
}

static void one_has_it_all(void **state)
{
	struct part parts[] = { { .has = 7 } };

	(void)state;
	divide_max(parts, 1, CAP);
	assert_int_equal(parts[0].max, CAP);
	parts[0] = (struct part){ 0 };
	divide_max(parts, 1, CAP);
	assert_int_equal(parts[0].max, CAP);
	divide_max(parts, 0, CAP);
}

static void those_that_begin_get_the_same(void **state)
{
	struct part parts[4] = { { 0 } };

	(void)state;
	divide_max(parts, NR(parts), CAP);
	for (size_t i = 0; i < NR(parts); i++)
		assert_int_equal(parts[i].max, CAP / 4);
}

static void who_has_nothing_can_begin(void **state)
{
	struct part parts[] = { { .has = 800, .touched = 900 }, { 0 } };

	(void)state;
	divide_max(parts, NR(parts), CAP);
	assert_in_range(parts[1].max, 1, CAP / 16);
	assert_in_range(max_sum(parts, NR(parts)), CAP * 9 / 10, CAP);
}

/* Nobody gets what another has not given up yet. */
static void all_together_never_have_more(void **state)
{
	struct part parts[] = { { .has = 1600 }, { .has = 0, .touched = 5000 } };

	(void)state;
	divide_max(parts, NR(parts), CAP);
	assert_in_range(parts[0].max, 0, 1599); /* to be given up */
	assert_int_equal(parts[1].max, 0);
	parts[0].has = 1000;
	divide_max(parts, NR(parts), CAP);
	assert_in_range(parts[1].max, 1, 600);
	/* They had more before there was a cap. */
	parts[0].has = parts[1].has = 3000;
	divide_max(parts, NR(parts), CAP);
	assert_in_range(max_sum(parts, NR(parts)), CAP * 9 / 10, CAP);
}

/* The one rests, the other wants: it has nearly all in a few looks, and at no look more than is free. */
static void a_part_moves_to_who_uses_it(void **state)
{
	struct part parts[] = { { .has = 1600 }, { 0 } };

	(void)state;
	for (int look = 0; look < 12; look++) {
		parts[1].touched = 800;
		divide_max(parts, NR(parts), CAP);
		for (size_t i = 0; i < NR(parts); i++)
			parts[i].has = parts[i].max;
		assert_in_range(parts[0].has + parts[1].has, 0, CAP);
	}
	assert_in_range(parts[1].has, CAP * 7 / 10, CAP);
}

static void a_guarantee_is_of_what_they_have(void **state)
{
	struct part parts[] = { { .has = 900 }, { .has = 300 } };

	(void)state;
	divide_min(parts, NR(parts), 600);
	assert_int_equal(parts[0].min, 450);
	assert_int_equal(parts[1].min, 150);
	divide_min(parts, NR(parts), 1400); /* there is room to grow into */
	assert_int_equal(parts[0].min, 1000);
	assert_int_equal(parts[1].min, 400);
	divide_min(parts, NR(parts), 0);
	assert_int_equal(parts[0].min + parts[1].min, 0);
	divide_min(parts, 0, 600);
}

static void large_numbers_fit(void **state)
{
	uint64_t half = UINT64_C(1) << 50;
	struct part parts[] = { { .has = half, .touched = half }, { .has = half, .touched = half } };

	(void)state;
	divide_max(parts, NR(parts), 2 * half);
	assert_int_equal(parts[0].max, half);
	divide_min(parts, NR(parts), half);
	assert_int_equal(parts[1].min, half / 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_has_it_all),
		cmocka_unit_test(those_that_begin_get_the_same),
		cmocka_unit_test(who_has_nothing_can_begin),
		cmocka_unit_test(all_together_never_have_more),
		cmocka_unit_test(a_part_moves_to_who_uses_it),
		cmocka_unit_test(a_guarantee_is_of_what_they_have),
		cmocka_unit_test(large_numbers_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
