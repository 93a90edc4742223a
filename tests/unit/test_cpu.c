/* SPDX-License-Identifier: MIT */
/* How long CPUs had nothing to do, from recorded trees. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu.h"
#include "tree.h"

#define MS UINT64_C(1000000)

static void idle_and_waiting_for_a_device_count(void **state)
{
	uint64_t idle_ns = 7;
	cpu_set_t cpus;

	(void)state;
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	CPU_SET(2, &cpus);
	assert_int_equal(cpu_idle(root, &cpus, &idle_ns), -ENOENT);
	put("/proc/stat", "intr 1 2 3\n");
	assert_int_equal(cpu_idle(root, &cpus, &idle_ns), -EIO);
	assert_int_equal(idle_ns, 7);
	put("/proc/stat", "cpu  600 0 60 9000 90 0 3 0 0 0\n"
			  "cpu0 300 0 30 4000 40 0 1 0 0 0\ncpu1 200 0 20 3000 30 0 1 0 0 0\n"
			  "cpu2 100 0 10 2000 20 0 1 0 0 0\nintr 5 6 7\nctxt 1\n");
	assert_int_equal(cpu_idle(root, &cpus, &idle_ns), 0);
	assert_int_equal(idle_ns, (4000 + 40 + 2000 + 20) * 10 * MS);
	/* One of them is taken offline: its line goes. */
	put("/proc/stat", "cpu  600 0 60 9000 90 0 3 0 0 0\n"
			  "cpu0 300 0 30 4001 40 0 1 0 0 0\ncpu1 200 0 20 3000 30 0 1 0 0 0\nctxt 1\n");
	assert_int_equal(cpu_idle(root, &cpus, &idle_ns), 0);
	assert_int_equal(idle_ns, (4001 + 40) * 10 * MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(idle_and_waiting_for_a_device_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
