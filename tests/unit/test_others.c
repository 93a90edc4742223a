/* SPDX-License-Identifier: MIT */
/* Who else moves pages: each of them on a recorded tree, alone, and what looks like it and is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "others.h"
#include "tree.h"

#define BALANCING "/proc/sys/kernel/numa_balancing"
#define DEMOTION "/sys/kernel/mm/numa/demotion_enabled"
#define HUGE "/sys/kernel/mm/transparent_hugepage/"
#define KDAMONDS "/sys/kernel/mm/damon/admin/kdamonds/"

static void nobody(void **state)
{
	(void)state;
	assert_int_equal(others_look(root, false), 0);
	put(BALANCING, "0\n");
	put(DEMOTION, "false\n");
	put(KDAMONDS "nr_kdamonds", "0\n");
	assert_int_equal(others_look(root, false), 0);
}

static void balancing_and_tiering(void **state)
{
	(void)state;
	put(BALANCING, "1\n");
	assert_int_equal(others_look(root, false), OTHERS_BALANCING);
	put(BALANCING, "2\n");
	assert_int_equal(others_look(root, false), OTHERS_TIERING);
	put(BALANCING, "3\n");
	assert_int_equal(others_look(root, false), OTHERS_BALANCING | OTHERS_TIERING);
	/* By the sensor that reads its faults. */
	assert_int_equal(others_look(root, true), 0);
}

static void demotion(void **state)
{
	(void)state;
	put(DEMOTION, "true\n");
	assert_int_equal(others_look(root, false), OTHERS_DEMOTION);
	put(DEMOTION, "1\n");
	assert_int_equal(others_look(root, true), OTHERS_DEMOTION);
}

/* The second thread runs, and its second context has a second scheme. */
static void damon(void **state)
{
	(void)state;
	put(KDAMONDS "nr_kdamonds", "2\n");
	put(KDAMONDS "0/state", "off\n");
	put(KDAMONDS "0/contexts/nr_contexts", "1\n");
	put(KDAMONDS "0/contexts/0/schemes/nr_schemes", "1\n");
	put(KDAMONDS "0/contexts/0/schemes/0/action", "migrate_hot\n");
	put(KDAMONDS "1/state", "on\n");
	put(KDAMONDS "1/contexts/nr_contexts", "2\n");
	put(KDAMONDS "1/contexts/0/schemes/nr_schemes", "0\n");
	put(KDAMONDS "1/contexts/1/schemes/nr_schemes", "2\n");
	put(KDAMONDS "1/contexts/1/schemes/0/action", "stat\n");
	put(KDAMONDS "1/contexts/1/schemes/1/action", "pageout\n");
	assert_int_equal(others_look(root, false), 0);
	put(KDAMONDS "1/contexts/1/schemes/1/action", "migrate_cold\n");
	assert_int_equal(others_look(root, false), OTHERS_DAMON);
	put(KDAMONDS "1/contexts/1/schemes/1/action", "migrate_hot\n");
	assert_int_equal(others_look(root, false), OTHERS_DAMON);
	put(KDAMONDS "1/state", "off\n");
	assert_int_equal(others_look(root, false), 0);
}

/* Moving a page of them moves more. */
static void huge_pages_of_other_sizes(void **state)
{
	(void)state;
	put(HUGE "enabled", "always [madvise] never\n");
	put(HUGE "hugepages-2048kB/enabled", "always [inherit] madvise never\n");
	put(HUGE "hugepages-64kB/enabled", "always inherit madvise [never]\n");
	assert_int_equal(others_look(root, true), 0);
	put(HUGE "hugepages-64kB/enabled", "always [inherit] madvise never\n");
	assert_int_equal(others_look(root, true), OTHERS_LARGE);
	put(HUGE "enabled", "always madvise [never]\n");
	assert_int_equal(others_look(root, true), 0);
	put(HUGE "hugepages-1024kB/enabled", "always inherit [madvise] never\n");
	assert_int_equal(others_look(root, true), OTHERS_LARGE);
}

static void each_is_said(void **state)
{
	static const char *const words[] = { "NUMA balancing", "tiering", "demotes", "DAMON",
					    "another pagetide", "huge pages of less" };

	(void)state;
	for (unsigned int i = 0; 1u << i < OTHERS_END; i++)
		assert_non_null(strstr(others_warning((enum others)(1u << i)), words[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(nobody),
		TREE_TEST(balancing_and_tiering),
		TREE_TEST(demotion),
		TREE_TEST(damon),
		TREE_TEST(huge_pages_of_other_sizes),
		cmocka_unit_test(each_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
