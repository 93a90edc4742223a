/* SPDX-License-Identifier: MIT */
/*
 * A process that is looked after, a live one: what its memory costs us goes by what is in memory, not by
 * the address space that it reserves.
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "proc.h"
#include "watch.h"

#ifdef __SANITIZE_THREAD__
#define TIB (UINT64_C(1) << 36) /* it has taken most of the address space itself */
#else
#define TIB (UINT64_C(1) << 40)
#endif
#define PAGE 4096u
#define WINDOWS_MAX 1024u /* for what is in use here and there, the shadow of a sanitizer included */
#define ALL_SIDES (PROT_READ | PROT_WRITE)

/* Where the child has it, as it had before the fork. */
struct reserved {
	char *own, *none, *shared;
};

struct world {
	struct reserved reserved;
	struct tiering tiering;
	struct shares shares;
	struct node_map map;
	struct watch *watch;
	pid_t pid;
	int go; /* what is written there lets the child execute another program */
};

/* By the kernel alone: a sanitizer has no room for it. */
static long reserve_asked(uint64_t bytes, int protection, int flags)
{
	return syscall(SYS_mmap, NULL, bytes, protection, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static char *reserve(uint64_t bytes, int protection, int flags)
{
	long memory = reserve_asked(bytes, protection, flags);

	assert_int_not_equal(memory, -1);
	return (char *)memory;
}

static void touch(char *address)
{
	if (syscall(SYS_getrandom, address, 1, 0) != 1)
		_exit(1);
}

/* It touches a few pages a TiB, and tells when it has. */
static void child_run(const struct reserved *reserved, int ready, int go)
{
	char byte;

	for (uint64_t at = 0; at < 4 * TIB; at += TIB)
		touch(reserved->own + at + PAGE);
	touch(reserved->shared + TIB / 2);
	if (write(ready, "", 1) == 1 && read(go, &byte, 1) == 1)
		execl("/bin/sleep", "sleep", "1000", (char *)NULL);
	_exit(1);
}

static int world_open(void **state)
{
	struct tiering_config config = {
		.nr_nodes = 2,
		.nodes = { { .fast = true, .latency_ns = 90 }, { .slow = true, .latency_ns = 250 } },
	};
	struct world *w = calloc(1, sizeof *w);
	int ready[2], go[2];
	char byte;

	*state = w;
	w->reserved.own = reserve(4 * TIB, ALL_SIDES, MAP_PRIVATE);
	w->reserved.none = reserve(4 * TIB, PROT_NONE, MAP_PRIVATE);
	w->reserved.shared = reserve(TIB, ALL_SIDES, MAP_SHARED);
	assert_int_equal(pipe(ready) | pipe(go), 0);
	w->pid = fork();
	if (!w->pid)
		child_run(&w->reserved, ready[1], go[0]);
	w->go = go[1];
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	assert_int_equal(node_map_read("", &w->map), 0);
	tiering_init(&w->tiering, &config);
	shares_init(&w->shares, &w->tiering);
	return 0;
}

static int world_close(void **state)
{
	struct world *w = *state;

	assert_null(tiering_check(&w->tiering));
	if (w->watch)
		watch_close(w->watch);
	shares_close(&w->shares);
	kill(w->pid, SIGKILL);
	waitpid(w->pid, NULL, 0);
	close(w->go);
	syscall(SYS_munmap, w->reserved.own, 4 * TIB);
	syscall(SYS_munmap, w->reserved.none, 4 * TIB);
	syscall(SYS_munmap, w->reserved.shared, TIB);
	node_map_free(&w->map);
	free(w);
	return 0;
}

static void look(struct world *w)
{
	uint64_t now_ns = clock_now_ns();

	assert_int_equal(watch_look(w->watch), 0);
	assert_int_equal(watches_share(w->watch, &w->shares, now_ns), 0);
}

static void watch_begin(struct world *w)
{
	int error = watch_open(w->pid, 0, &w->shares, &w->map, clock_now_ns(), &w->watch);

	if (error == -EPERM || error == -ENOSYS)
		skip(); /* not allowed to look at it, or a kernel without NUMA */
	assert_int_equal(error, 0);
	look(w);
}

static uint32_t windows_all(const struct world *w)
{
	const struct tiering_space *space = w->tiering.first;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < w->tiering.nr_spaces; i++, space = space->next)
		nr += space->nr_windows;
	return nr;
}

static bool known(const struct world *w, const void *address)
{
	return tiering_window_find(&w->watch->space, (uintptr_t)address / PAGE);
}

static void reserved_address_space_has_no_windows(void **state)
{
	struct world *w = *state;

	watch_begin(w);
	assert_true(windows_all(w) < WINDOWS_MAX);
	for (unsigned i = 0; i < 1000 && watch_walk(w->watch, &w->map, clock_now_ns()); i++)
		;
	assert_int_equal(w->watch->walk.passes, 1);
	for (unsigned i = 0; i < 1000 && shares_walk(&w->shares, &w->map, false, clock_now_ns()); i++)
		;
	/* What is in memory was found, be it far from all else. */
	for (uint64_t at = 0; at < 4 * TIB; at += TIB)
		assert_true(known(w, w->reserved.own + at + PAGE));
	assert_false(known(w, w->reserved.own + TIB / 2));
	assert_false(known(w, w->reserved.none));
	assert_true(windows_all(w) < WINDOWS_MAX);
}

/* A touch of something that the walk has not found yet, seen exactly or somewhere in terabytes. */
static void a_touch_brings_windows_for_what_is_in_memory(void **state)
{
	struct world *w = *state;
	char *own;

	watch_begin(w);
	own = w->reserved.own;
	uintptr_t page = (uintptr_t)own + TIB + PAGE;
	watch_touch(w->watch, page + 7, page + 8, 0, clock_now_ns());
	assert_true(known(w, own + TIB + PAGE));
	assert_false(known(w, own + PAGE));
	assert_int_equal(w->watch->space.counts.strays, 0);
	watch_touch(w->watch, (uintptr_t)own, (uintptr_t)own + 3 * TIB, 0, clock_now_ns());
	assert_true(known(w, own + PAGE) && known(w, own + 2 * TIB + PAGE));
	assert_false(known(w, own + 3 * TIB + PAGE));
	assert_true(windows_all(w) < WINDOWS_MAX);
	/* As a sensor says it that goes by ranges. */
	watch_armed(w->watch, (uintptr_t)own, (uintptr_t)own + 4 * TIB, clock_now_ns());
	assert_true(windows_all(w) < WINDOWS_MAX);
}

static void nothing_is_left_of_it_after_an_exec(void **state)
{
	struct world *w = *state;
	char *own;

	watch_begin(w);
	own = w->reserved.own;
	watch_touch(w->watch, (uintptr_t)own, (uintptr_t)own + 4 * TIB, 0, clock_now_ns());
	assert_true(known(w, own + PAGE));
	assert_int_equal(write(w->go, "", 1), 1);
	while (!process_look(w->watch->process))
		usleep(1000);
	assert_false(w->watch->renewed);
	/* In the middle of its exec it may not be looked at: that is no other program yet. */
	while (!w->watch->renewed) {
		look(w);
		usleep(1000);
	}
	assert_false(known(w, own + PAGE));
}

/* Descriptors that we have open now. */
static unsigned int files_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned int nr = 0;

	assert_non_null(folder);
	while (readdir(folder))
		nr++;
	closedir(folder);
	return nr;
}

/* A process that cannot be looked at for want of them is not said to have ended; one that has, is. */
static void without_descriptors_nobody_has_ended(void **state)
{
	struct world *w = *state;
	struct rlimit before, few;

	watch_begin(w);
	getrlimit(RLIMIT_NOFILE, &before);
	few = (struct rlimit){ 3, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(process_look(w->watch->process), -EMFILE);
	watch_wake(w->watch);
	assert_int_equal(watch_look(w->watch), -EMFILE);
	assert_false(w->watch->ended);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	look(w);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	kill(w->pid, SIGKILL);
	waitpid(w->pid, NULL, 0);
	assert_int_equal(watch_look(w->watch), -ESRCH);
	assert_true(w->watch->ended);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* Who does not run is not looked at, until it runs, or others want it looked at; its end is seen. */
static void who_sleeps_is_not_looked_at(void **state)
{
	struct world *w = *state;
	char doing = 0;

	/* It has told that it is ready; if it has not run on since, it only seems to sleep. */
	while (doing != 'S') {
		usleep(1000);
		assert_int_equal(proc_state(w->pid, &doing), 0);
	}
	watch_begin(w);
	if (!clock_process_cpu_ns(w->pid))
		skip(); /* a kernel that does not tell */
	while (!w->watch->asleep) {
		usleep(1000);
		look(w);
	}
	uint64_t looked_ns = w->watch->looked_ns;
	look(w);
	assert_true(w->watch->asleep);
	assert_int_equal(w->watch->looked_ns, looked_ns);
	watch_wake(w->watch);
	look(w);
	assert_false(w->watch->asleep);
	assert_true(w->watch->looked_ns > looked_ns);
	look(w);
	assert_true(w->watch->asleep);
	looked_ns = w->watch->looked_ns;
	assert_int_equal(write(w->go, "", 1), 1);
	while (w->watch->asleep) {
		usleep(1000);
		look(w);
	}
	assert_true(w->watch->looked_ns > looked_ns);
	while (!w->watch->asleep) {
		usleep(1000);
		look(w);
	}
	kill(w->pid, SIGKILL);
	waitpid(w->pid, NULL, 0);
	assert_int_equal(watch_look(w->watch), -ESRCH);
}

static void who_has_ended_keeps_no_descriptors(void **state)
{
	struct world *w = *state;
	unsigned int before = files_open();

	watch_begin(w);
	assert_int_equal(files_open(), before + 3);
	kill(w->pid, SIGKILL);
	waitpid(w->pid, NULL, 0);
	assert_int_equal(watch_look(w->watch), -ESRCH);
	assert_int_equal(files_open(), before);
	assert_int_equal(process_look(w->watch->process), -ESRCH);
}

/* Its number was another's when the process was chosen. */
static void defect_4b_04_19_a_number_that_was_given_away_is_refused(void **state)
{
	struct world *w = *state;
	struct process_options options = { .root = "" };
	struct process_space *process;
	uint64_t late_ns = clock_ns(CLOCK_BOOTTIME);

	watch_begin(w);
	options.before_ns = late_ns - UINT64_C(1000000000) * 60;
	assert_int_equal(process_open(w->pid, &options, &w->map, &process), -ESRCH);
	options.before_ns = late_ns + UINT64_C(1000000000);
	assert_int_equal(process_open(w->pid, &options, &w->map, &process), 0);
	process_close(process);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reserved_address_space_has_no_windows, world_open, world_close),
		cmocka_unit_test_setup_teardown(a_touch_brings_windows_for_what_is_in_memory, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(nothing_is_left_of_it_after_an_exec, world_open, world_close),
		cmocka_unit_test_setup_teardown(without_descriptors_nobody_has_ended, world_open, world_close),
		cmocka_unit_test_setup_teardown(who_sleeps_is_not_looked_at, world_open, world_close),
		cmocka_unit_test_setup_teardown(defect_4b_04_19_a_number_that_was_given_away_is_refused, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(who_has_ended_keeps_no_descriptors, world_open, world_close),
	};
	long space = reserve_asked(8 * TIB, PROT_NONE, MAP_PRIVATE);

	if (space == -1) {
		puts("no address space for 8 TiB, as under valgrind");
		return 77;
	}
	syscall(SYS_munmap, space, 8 * TIB);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
