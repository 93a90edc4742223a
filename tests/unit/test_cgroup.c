/* SPDX-License-Identifier: MIT */
/*
 * Groups of recorded processes, their mounts, and the patterns that name them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cgroup.h"
#include "tree.h"

#define V2 "30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"

static void names_of_both_versions(void **state)
{
	struct cgroup_names names;

	(void)state;
	put("/proc/7/cgroup", "12:cpu,memory:/job/a:b\n3:pids:/other\n1:name=systemd:/x.slice/y.scope\n0::/u\n");
	put("/proc/self/cgroup", "0::/\n");
	assert_int_equal(cgroup_names_read(root, 7, &names), 0);
	assert_string_equal(names.name[CGROUP_MEMORY], "/job/a:b");
	assert_string_equal(names.name[CGROUP_SYSTEMD], "/x.slice/y.scope");
	assert_string_equal(names.name[CGROUP_UNIFIED], "/u");
	assert_int_equal(cgroup_names_read(root, 0, &names), 0);
	assert_string_equal(names.name[CGROUP_UNIFIED], "/");
	assert_string_equal(names.name[CGROUP_MEMORY], "");
	assert_int_equal(cgroup_names_read(root, 8, &names), -ENOENT);
}

static void patterns_name_groups_and_all_below(void **state)
{
	(void)state;
	assert_true(cgroup_fits("/a/b/c", "/a/b"));
	assert_true(cgroup_fits("/a/b/c", "/a/b/c"));
	assert_true(cgroup_fits("/a/b/c", "/a/*"));
	assert_true(cgroup_fits("/a/b/c", "/a/?/c"));
	assert_true(cgroup_fits("/a/b/c", "/[a-c]"));
	assert_true(cgroup_fits("/a/b/c", "/"));
	assert_true(cgroup_fits("/", "/"));
	assert_false(cgroup_fits("/a/b/c", "/b"));
	assert_false(cgroup_fits("/a/bc", "/a/b"));
	assert_false(cgroup_fits("/a/b", "/a/b/c"));
	assert_false(cgroup_fits("/a/b/c", "/*/c")); /* a star does not pass a slash */
	assert_false(cgroup_fits("", "/"));
	assert_false(cgroup_fits("/a", ""));
}

static void units_are_parts_of_the_name(void **state)
{
	const char *web = "/system.slice/system-web.slice/web@1.service/worker";
	char longest[NAME_MAX + 20];

	(void)state;
	assert_true(cgroup_in_unit(web, "web@1"));
	assert_true(cgroup_in_unit(web, "web@*"));
	assert_true(cgroup_in_unit(web, "web@1.service"));
	assert_true(cgroup_in_unit(web, "system.slice"));
	assert_true(cgroup_in_unit(web, "system-*.slice"));
	assert_false(cgroup_in_unit(web, "web"));
	assert_false(cgroup_in_unit(web, "worker"));
	assert_false(cgroup_in_unit(web, "system"));
	/* What is named below a unit, its processes may have named. */
	assert_false(cgroup_in_unit("/user.slice/user-7.slice/user@7.service/app.slice/web.service", "web"));
	assert_true(cgroup_in_unit("/user.slice/user-7.slice/user@7.service/app.slice/web.service", "user@7"));
	assert_false(cgroup_in_unit("/system.slice/docker-1.scope/system.slice/web.service", "web"));
	assert_true(cgroup_in_unit("/system.slice/system-my\\x2djob.slice/a.service", "system-my\\x2djob.slice"));
	assert_true(cgroup_fits("/system.slice/system-my\\x2djob.slice", "/system.slice/system-my\\x2djob.slice"));
	assert_false(cgroup_in_unit("", "web"));
	assert_false(cgroup_in_unit("/", "*"));
	memset(longest, 'x', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	assert_false(cgroup_in_unit(longest, "x*"));
	assert_false(cgroup_in_unit(web, longest));
}

static void expect_pattern(const char *text, const char *pattern)
{
	char got[PATH_MAX];

	assert_int_equal(cgroup_pattern(root, text, got), 0);
	assert_string_equal(got, pattern);
}

static void folders_are_names(void **state)
{
	(void)state;
	expect_pattern("/a/b", "/a/b"); /* nothing is mounted */
	put("/proc/self/mountinfo", V2);
	expect_pattern("/sys/fs/cgroup/a/b*", "/a/b*");
	expect_pattern("/sys/fs/cgroup/a/", "/a");
	expect_pattern("/sys/fs/cgroup", "/");
	expect_pattern("/sys/fs/cgroup/", "/");
	expect_pattern("/sys/fs/cgroupx", "/sys/fs/cgroupx");
	expect_pattern("a/b", "/a/b");
	expect_pattern("/", "/");
	put("/proc/self/mountinfo",
	    "25 20 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	    "35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	    "36 31 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n");
	expect_pattern("/sys/fs/cgroup/memory/a", "/docker/1/a");
	expect_pattern("/sys/fs/cgroup/memory", "/docker/1");
	expect_pattern("/sys/fs/cgroup/systemd/a.service", "/a.service");
	expect_pattern("/sys/fs/cgroup/b", "/b");
}

static void a_path_has_an_end(void **state)
{
	char text[PATH_MAX + 1], got[PATH_MAX] = "x";

	(void)state;
	memset(text, 'a', sizeof text);
	text[PATH_MAX - 1] = '\0';
	assert_int_equal(cgroup_pattern(root, text, got), -ENAMETOOLONG); /* with its slash */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(names_of_both_versions),
		TREE_TEST(patterns_name_groups_and_all_below),
		TREE_TEST(units_are_parts_of_the_name),
		TREE_TEST(folders_are_names),
		TREE_TEST(a_path_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
