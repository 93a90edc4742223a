/* SPDX-License-Identifier: MIT */
/*
 * Memory limits read from recorded trees: each test lays the files of one kind of machine into a
 * fresh folder and asks what the limit is and where it was found.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "limit.h"
#include "tree.h"

#define V1_NONE "9223372036854771712\n"
#define GIB (UINT64_C(1) << 30)

static void expect(uint64_t bytes, const char *file)
{
	uint64_t got_bytes = 0;
	char got_file[PATH_MAX] = "";

	assert_int_equal(limit_cgroup(root, &got_bytes, got_file), 0);
	assert_int_equal(got_bytes, bytes);
	assert_string_equal(got_file, file);
}

static void machine_memory(void **state)
{
	uint64_t total, available;

	(void)state;
	assert_int_equal(limit_machine(root, &total, &available), -ENOENT);
	put("/proc/meminfo", "MemTotal:       24684092 kB\nMemFree:        1 kB\n"
			     "MemAvailable:   20000000 kB\n");
	assert_int_equal(limit_machine(root, &total, &available), 0);
	assert_int_equal(total, UINT64_C(24684092) * 1024);
	assert_int_equal(available, UINT64_C(20000000) * 1024);
}

static void damaged_meminfo_is_an_error(void **state)
{
	uint64_t total = 7, available = 7;

	(void)state;
	put("/proc/meminfo", "MemTotal: lots\n");
	assert_int_equal(limit_machine(root, &total, &available), -EIO);
	put("/proc/meminfo", "MemTotal: 4 kB\nMemAvailable: 5 kB\n");
	assert_int_equal(limit_machine(root, &total, &available), -EIO);
	assert_int_equal(total, 7);
	assert_int_equal(available, 7);
}

static void version_2_own_group(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/user.slice/a\n");
	put("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n");
	put("/sys/fs/cgroup/user.slice/a/memory.max", "2147483648\n");
	put("/sys/fs/cgroup/user.slice/memory.max", "max\n");
	expect(2 * GIB, "/sys/fs/cgroup/user.slice/a/memory.max");
}

static void version_2_parent_is_tighter(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/user.slice/a\n");
	put("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	put("/sys/fs/cgroup/user.slice/a/memory.max", "2147483648\n");
	put("/sys/fs/cgroup/user.slice/memory.max", "1073741824\n");
	expect(GIB, "/sys/fs/cgroup/user.slice/memory.max");
}

static void version_2_without_a_limit(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/a\n");
	put("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
	put("/sys/fs/cgroup/a/memory.max", "max\n");
	expect(UINT64_MAX, "/sys/fs/cgroup/a/memory.max");
}

static void version_2_in_a_container(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/\n");
	put("/proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
	put("/sys/fs/cgroup/memory.max", "1073741824\n");
	expect(GIB, "/sys/fs/cgroup/memory.max");
}

static void version_1_beside_version_2(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "4:cpu,memory:/job/one\n1:name=systemd:/\n0::/job\n");
	put("/proc/self/mountinfo",
	    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n"
	    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
	put("/sys/fs/cgroup/memory/job/one/memory.limit_in_bytes", V1_NONE);
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "536870912\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NONE);
	expect(GIB / 2, "/sys/fs/cgroup/memory/job/memory.limit_in_bytes");
}

static void version_1_without_a_limit(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "4:memory:/job\n");
	put("/proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
	put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", V1_NONE);
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NONE);
	expect(UINT64_MAX, "/sys/fs/cgroup/memory/job/memory.limit_in_bytes");
}

/* The group's name is the host's, the mount shows only what lies below it. */
static void version_1_in_a_container(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "4:memory:/docker/0123\n");
	put("/proc/self/mountinfo",
	    "35 31 0:32 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
	expect(GIB, "/sys/fs/cgroup/memory/memory.limit_in_bytes");
}

static void a_group_outside_of_the_mount_counts_as_its_top(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/../other\n");
	put("/proc/self/mountinfo", "30 20 0:26 /mine /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
	put("/sys/fs/cgroup/memory.max", "1073741824\n");
	expect(GIB, "/sys/fs/cgroup/memory.max");
}

static void odd_names_are_unescaped(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/a b\n");
	put("/proc/self/mountinfo", "30 20 0:26 / /my\\040groups rw - cgroup2 cgroup2 rw\n");
	put("/my groups/a b/memory.max", "1073741824\n");
	expect(GIB, "/my groups/a b/memory.max");
}

struct seen {
	unsigned nr;
	uint64_t limit_bytes[4], used_bytes[4];
};

static void see(void *arg, const struct limit_group *group)
{
	struct seen *seen = arg;

	assert_true(seen->nr < 4);
	seen->limit_bytes[seen->nr] = group->limit_bytes;
	assert_int_equal(limit_group_used(root, group, &seen->used_bytes[seen->nr++]), 0);
}

/* What file pages and slab have can be taken back; shared memory and what is locked cannot. */
static void version_2_what_groups_have(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	put("/proc/self/cgroup", "0::/pod/a\n");
	put("/proc/self/mountinfo", "30 20 0:26 / /g rw - cgroup2 cgroup2 rw\n");
	put("/g/pod/a/memory.max", "max\n");
	put("/g/pod/a/memory.current", "1000000\n");
	put("/g/pod/a/memory.stat", "anon 400000\nfile 500000\nshmem 100000\ninactive_file 300000\n"
				    "active_file 100000\nslab_reclaimable 50000\nslab_unreclaimable 7\n");
	put("/g/pod/memory.max", "1073741824\n");
	put("/g/pod/memory.current", "4096\n");
	put("/g/pod/memory.stat", "inactive_file 8192\n");
	assert_int_equal(limit_groups(root, see, &seen), 0);
	assert_int_equal(seen.nr, 2);
	assert_int_equal(seen.limit_bytes[0], UINT64_MAX);
	assert_int_equal(seen.used_bytes[0], 550000);
	assert_int_equal(seen.limit_bytes[1], GIB);
	assert_int_equal(seen.used_bytes[1], 0); /* counted at two times */
}

static void version_1_what_groups_have(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	put("/proc/self/cgroup", "4:memory:/job\n");
	put("/proc/self/mountinfo", "35 31 0:32 / /m rw - cgroup cgroup rw,memory\n");
	put("/m/job/memory.limit_in_bytes", "1073741824\n");
	put("/m/job/memory.usage_in_bytes", "900000\n");
	put("/m/job/memory.stat", "inactive_file 1\nactive_file 2\ntotal_inactive_file 200000\n"
				  "total_active_file 100000\n");
	assert_int_equal(limit_groups(root, see, &seen), 0);
	assert_int_equal(seen.nr, 1);
	assert_int_equal(seen.limit_bytes[0], GIB);
	assert_int_equal(seen.used_bytes[0], 600000);
}

/* Above memory.high programs are slowed down until they hardly run: it is a limit, too. */
static void version_2_high_counts(void **state)
{
	(void)state;
	put("/proc/self/cgroup", "0::/a\n");
	put("/proc/self/mountinfo", "30 20 0:26 / /g rw - cgroup2 cgroup2 rw\n");
	put("/g/a/memory.max", "2147483648\n");
	put("/g/a/memory.high", "1073741824\n");
	expect(GIB, "/g/a/memory.high");
	put("/g/a/memory.high", "max\n");
	expect(2 * GIB, "/g/a/memory.max");
}

static void no_controller_or_damaged_files(void **state)
{
	uint64_t bytes = 7;
	char file[PATH_MAX];

	(void)state;
	assert_int_equal(limit_cgroup(root, &bytes, file), -ENOENT);
	put("/proc/self/cgroup", "4:memory:/job\nrubbish\n::\n");
	assert_int_equal(limit_cgroup(root, &bytes, file), -ENOENT);
	put("/proc/self/mountinfo", "35\n35 31 0:32 / /m\n35 31 0:32 / /m rw - cgroup\n"
				    "1 2 3 / /m rw - cgroup cgroup rw,memory\n");
	assert_int_equal(limit_cgroup(root, &bytes, file), -ENOENT);
	put("/m/job/memory.limit_in_bytes", "lots\n");
	put("/m/memory.limit_in_bytes", "");
	assert_int_equal(limit_cgroup(root, &bytes, file), -ENOENT);
	assert_int_equal(bytes, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(machine_memory),
		TREE_TEST(damaged_meminfo_is_an_error),
		TREE_TEST(version_2_own_group),
		TREE_TEST(version_2_parent_is_tighter),
		TREE_TEST(version_2_without_a_limit),
		TREE_TEST(version_2_in_a_container),
		TREE_TEST(version_1_beside_version_2),
		TREE_TEST(version_1_without_a_limit),
		TREE_TEST(version_1_in_a_container),
		TREE_TEST(a_group_outside_of_the_mount_counts_as_its_top),
		TREE_TEST(odd_names_are_unescaped),
		TREE_TEST(version_2_what_groups_have),
		TREE_TEST(version_1_what_groups_have),
		TREE_TEST(version_2_high_counts),
		TREE_TEST(no_controller_or_damaged_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
