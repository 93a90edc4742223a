/* SPDX-License-Identifier: MIT */
/*
 * The parts of the probes that do not depend on the machine: children that end in every way, and
 * the kernel's files read from recorded trees. What the probes find is tested in tests/cli.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "probe.h"
#include "tree.h"

static void work_done(void *arg)
{
	*(int *)arg = 42;
}

static void work_crashes(void *arg)
{
	(void)arg;
	raise(SIGSEGV);
}

static void work_exits(void *arg)
{
	(void)arg;
	_exit(3);
}

static void work_times_out(void *arg)
{
	(void)arg;
	/* What the deadline does, without waiting for it. */
	raise(SIGALRM);
}

static void a_child_ends_in_every_way(void **state)
{
	int *cell = probe_memory(sizeof(*cell));

	(void)state;
	assert_non_null(cell);
	assert_int_equal(probe_in_child(work_done, cell), 0);
	assert_int_equal(*cell, 42);
	assert_int_equal(probe_in_child(work_crashes, NULL), -ECANCELED);
	assert_int_equal(probe_in_child(work_exits, NULL), -ECANCELED);
	assert_int_equal(probe_in_child(work_times_out, NULL), -ETIMEDOUT);
	probe_memory_free(cell, sizeof(*cell));
}

static void work_looks_at_signals(void *arg)
{
	sigset_t blocked;
	struct sigaction action;
	int *clean = arg;

	sigprocmask(SIG_SETMASK, NULL, &blocked);
	sigaction(SIGUSR1, NULL, &action);
	*clean = !sigismember(&blocked, SIGUSR1) && action.sa_handler == SIG_DFL;
}

/* The child starts without the caller's handlers and mask; the caller keeps both. */
static void signals_stay_the_callers(void **state)
{
	int *clean = probe_memory(sizeof(*clean));
	struct sigaction ignore = { .sa_handler = SIG_IGN }, action;
	sigset_t usr1, blocked;

	(void)state;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	assert_int_equal(sigaction(SIGUSR1, &ignore, NULL), 0);
	assert_int_equal(sigprocmask(SIG_BLOCK, &usr1, NULL), 0);
	assert_int_equal(probe_in_child(work_looks_at_signals, clean), 0);
	assert_int_equal(*clean, 1);
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	assert_true(sigismember(&blocked, SIGUSR1));
	assert_false(sigismember(&blocked, SIGUSR2));
	sigaction(SIGUSR1, NULL, &action);
	assert_true(action.sa_handler == SIG_IGN);
	probe_memory_free(clean, sizeof(*clean));
}

static void huge_page_modes(void **state)
{
	static const char *const files[][2] = {
		{ "[always] madvise never\n", "always" },
		{ "always [madvise] never\n", "madvise" },
		{ "always madvise [never]\n", "never" },
	};
	const char *path = "/sys/kernel/mm/transparent_hugepage/enabled";
	char mode[16] = "untouched";

	(void)state;
	assert_int_equal(probe_huge_pages(root, mode), -ENOENT);
	put(path, "rubbish\n");
	assert_int_equal(probe_huge_pages(root, mode), -EIO);
	put(path, "[much-too-long-for-a-mode]\n");
	assert_int_equal(probe_huge_pages(root, mode), -EIO);
	put(path, "");
	assert_int_equal(probe_huge_pages(root, mode), -EIO);
	assert_string_equal(mode, "untouched");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		put(path, files[i][0]);
		assert_int_equal(probe_huge_pages(root, mode), 0);
		assert_string_equal(mode, files[i][1]);
	}
}

static void overcommit_modes(void **state)
{
	const char *path = "/proc/sys/vm/overcommit_memory";
	int mode = 7;

	(void)state;
	assert_int_equal(probe_overcommit(root, &mode), -ENOENT);
	put(path, "x\n");
	assert_int_equal(probe_overcommit(root, &mode), -EIO);
	assert_int_equal(mode, 7);
	put(path, "2\n");
	assert_int_equal(probe_overcommit(root, &mode), 0);
	assert_int_equal(mode, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_child_ends_in_every_way),
		cmocka_unit_test(signals_stay_the_callers),
		TREE_TEST(huge_page_modes),
		TREE_TEST(overcommit_modes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
