/* SPDX-License-Identifier: MIT */
/* Who descends from whom: from recorded trees, and of processes of our own. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "family.h"
#include "tree.h"

static int pid_compare(const void *a, const void *b)
{
	return *(const pid_t *)a - *(const pid_t *)b;
}

static void family_put(void)
{
	static const struct {
		const char *path;
		int parent;
	} all[] = {
		{ "/proc/1/stat", 0 },  { "/proc/77/stat", 1 },  { "/proc/80/stat", 77 },
		{ "/proc/12/stat", 80 }, { "/proc/9/stat", 12 }, { "/proc/81/stat", 1 },
		{ "/proc/82/stat", 81 }, { "/proc/90/stat", 77 },
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		stat_put(all[i].path, "x", 'S', all[i].parent, 0);
	put("/proc/meminfo", "");
}

static void descendants(void **state)
{
	pid_t pids[8];
	size_t nr;

	(void)state;
	family_put();
	assert_int_equal(family_descendants(root, (pid_t[]){ 77 }, 1, pids, 8, &nr), 0);
	assert_int_equal(nr, 4);
	qsort(pids, nr, sizeof *pids, pid_compare);
	assert_true(pids[0] == 9 && pids[1] == 12 && pids[2] == 80 && pids[3] == 90);
	assert_int_equal(family_descendants(root, (pid_t[]){ 77 }, 1, pids, 1, &nr), 0);
	assert_int_equal(nr, 4);
	assert_int_equal(family_descendants(root, (pid_t[]){ 9 }, 1, pids, 8, &nr), 0);
	assert_int_equal(nr, 0);
	/* Who is named himself is nobody's child. */
	assert_int_equal(family_descendants(root, (pid_t[]){ 81, 77, 80 }, 3, pids, 8, &nr), 0);
	assert_int_equal(nr, 4);
	qsort(pids, nr, sizeof *pids, pid_compare);
	assert_true(pids[0] == 9 && pids[1] == 12 && pids[2] == 82 && pids[3] == 90);
}

static void without_a_folder_nothing_is_written(void **state)
{
	pid_t pids[8] = { 5 };
	size_t nr = 7;

	(void)state;
	assert_int_equal(family_descendants(root, (pid_t[]){ 77 }, 1, pids, 8, &nr), -ENOENT);
	assert_true(nr == 7 && pids[0] == 5);
}

struct asked {
	pid_t wanted;
	unsigned nr;
};

static bool is_wanted(void *arg, pid_t pid)
{
	struct asked *asked = arg;

	asked->nr++;
	return pid == asked->wanted;
}

static void ancestors_are_asked_for_in_turn(void **state)
{
	struct asked self = { getpid(), 0 }, first = { 1, 0 };
	pid_t child = fork();

	(void)state;
	if (!child) {
		pause();
		_exit(0);
	}
	assert_true(child > 0);
	struct asked down = { child, 0 };
	assert_true(family_has(child, is_wanted, &self));
	assert_int_equal(self.nr, 2);
	assert_false(family_has(getpid(), is_wanted, &down));
	assert_false(family_has(child, is_wanted, &first));
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	self.nr = 0; /* whoever has ended descends from nobody */
	assert_false(family_has(child, is_wanted, &self));
	assert_int_equal(self.nr, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(descendants),
		TREE_TEST(without_a_folder_nothing_is_written),
		cmocka_unit_test(ancestors_are_asked_for_in_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
