/* SPDX-License-Identifier: MIT */
/* The kernel's counters of moved pages from recorded trees. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tree.h"
#include "vmstat.h"

static void counters_of_a_6_12_kernel(void **state)
{
	struct vmstat found = { .pgdemote = 7 };

	(void)state;
	assert_int_equal(vmstat_read(root, &found), -ENOENT);
	assert_int_equal(found.pgdemote, 7);
	put("/proc/vmstat", "nr_free_pages 230000\nnuma_hint_faults 66560\nnuma_hint_faults_local 0\n"
			    "numa_pages_migrated 20\n"
			    "pgpromote_success 12\npgdemote_kswapd 3\npgdemote_direct 4\n"
			    "pgdemote_khugepaged 5\npgmigrate_success 66546\npgmigrate_fail 2\n"
			    "compact_migrate_scanned 9\ncompact_isolated 1\n");
	assert_int_equal(vmstat_read(root, &found), 0);
	assert_int_equal(found.pgmigrate_success, 66546);
	assert_int_equal(found.pgmigrate_fail, 2);
	assert_int_equal(found.pgpromote_success, 12);
	assert_int_equal(found.pgdemote, 12);
	assert_int_equal(found.numa_hint_faults, 66560);
	assert_int_equal(found.numa_pages_migrated, 20);
	assert_int_equal(found.compact_isolated, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(counters_of_a_6_12_kernel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
