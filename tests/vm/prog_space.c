/* SPDX-License-Identifier: MIT */
/*
 * Guest cases: another process as a space, its pages moved whatever it does meanwhile: every byte is right, each page
 * has one end, and nothing of a stranger's moves. What is refused is in prog_refusals.c, huge pages in prog_huge.c.
 */
#include "other.h"

#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void quiet_bytes(void)
{
	all_bytes(false, NULL, 1);
}

static void busy_bytes(void)
{
	all_bytes(true, NULL, 1);
}

/* Half of it is unmapped after the ranges were read. */
static void unmapped(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	other_ask(&other, "u");
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES / 2);
	CHECK(tally_pages(&tally, REASON_RANGE_GONE) + tally_pages(&tally, REASON_PAGE_GONE) == NR_PAGES / 2);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

/* It is killed while its pages move: no result is missing, and soon. */
static void killed(void)
{
	for (unsigned int delay_us = 0; delay_us < 400000; delay_us += 50000) {
		struct other other = other_begin(true, NULL);
		struct process_space *space = space_of(other.pid);
		struct found found = look(space, &other);
		struct process_tally tally = { 0 };
		pid_t killer = fork();

		if (killer == 0) {
			usleep(delay_us);
			_exit(kill(other.pid, SIGKILL) != 0);
		}
		int error = process_move(space, moves, found.nr, NULL, 0, &tally);
		tally_print(&tally);
		CHECK(error == 0 || error == -ESRCH);
		CHECK(error == -ESRCH || tally_pages(&tally, REASON_MOVED) > NR_PAGES / 2);
		CHECK(waitpid(killer, NULL, 0) == killer);
		other_end(&other, SIGKILL);
		CHECK(process_look(space) == -ESRCH);
		CHECK(process_move(space, moves, found.nr, NULL, 1, &tally) == -ESRCH);
		process_close(space);
	}
}

static pid_t fork_with(pid_t pid)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&pid,
		.set_tid_size = 1,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* A stranger with the number of one who died is left alone. */
static void number_used_again(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };
	int *status = calloc(NR_PAGES, sizeof(*status));
	uint64_t *addresses = calloc(NR_PAGES, sizeof(*addresses));

	other_end(&other, 0);
	vm_home(1);
	arena_fill(&other.arena, 0, NR_PAGES, 1); /* the same addresses, the stranger's by fork */
	vm_home_default();
	pid_t stranger = fork_with(other.pid);
	if (stranger == 0) {
		pause();
		_exit(0);
	}
	CHECK(stranger == other.pid && status && addresses);
	uint64_t before = vm_counter("pgmigrate_success");
	CHECK(process_look(space) == -ESRCH);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == -ESRCH);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_SPACE_GONE) == NR_PAGES);
	CHECK(vm_counter("pgmigrate_success") == before);
	for (size_t i = 0; i < NR_PAGES; i++)
		addresses[i] = (uint64_t)(uintptr_t)other.arena.base + i * PAGE_BYTES;
	CHECK(syscall(SYS_move_pages, stranger, NR_PAGES, addresses, NULL, status, 0) == 0);
	for (size_t i = 0; i < NR_PAGES; i++)
		CHECK(status[i] == 1);
	kill(stranger, SIGKILL);
	CHECK(waitpid(stranger, NULL, 0) == stranger);
	process_close(space);
	free(status);
	free(addresses);
}

/* Another program by exec: what was known of the old one moves nothing in the new one. */
static void executed(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	const struct process_range *ranges;
	struct process_tally tally = { 0 };
	size_t nr;
	int tries = 0;

	CHECK(write(other.words, "e", 1) == 1);
	while (process_look(space) == 0 && tries++ < 1000)
		usleep(10000);
	CHECK(process_look(space) == -ESTALE);
	CHECK(process_ranges(space, &ranges, &nr) == -ESTALE);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == -ESTALE);
	CHECK(tally_pages(&tally, REASON_SPACE_GONE) == NR_PAGES);
	/* The loader may still be at work, and the image not be what it will be. */
	for (tries = 0; tries < 1000 && (process_renew(space) || process_ranges(space, &ranges, &nr)); tries++)
		usleep(10000);
	CHECK(process_look(space) == 0 && nr > 0);
	CHECK(process_move(space, moves, 1, NULL, 0, &tally) == 0);
	CHECK(moves[0].reason == REASON_RANGE_GONE || moves[0].reason == REASON_PAGE_GONE);
	kill(other.pid, SIGKILL);
	process_close(space);
	other_end(&other, SIGKILL);
}

static void shared(void)
{
	struct other other = other_begin(true, other_share);
	struct process_space *space = space_of(other.pid);
	const struct process_range *range;
	struct process_tally tally = { 0 };
	struct found found = look(space, &other);

	range = process_range_find(space, (uint64_t)(uintptr_t)other.arena.base);
	CHECK(range && range->kind == PROCESS_SHARED_ANON && range->inode != 0);
	for (int tries = 0; tries < 10 && found.on[0] < NR_PAGES; tries++) {
		CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
		found = look(space, &other);
	}
	tally_print(&tally);
	CHECK(found.on[0] == NR_PAGES);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

/* A batch against one page per call: the time for a page, while its owner runs on another CPU. */
static void batched(void)
{
	struct other other = other_begin(true, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };
	struct move_pace pace;
	const size_t nr_single = NR_PAGES / 16;

	CHECK(found.nr == NR_PAGES);
	move_pace_init(&pace, MOVE_STALL_NS);
	uint64_t begin = vm_now_ns();
	for (size_t i = 0; i < nr_single; i++) {
		uint8_t status;

		CHECK(move_to(other.pid, &moves[i].address, 1, PAGE_BYTES, 0, false, &pace, &status) == 0);
	}
	uint64_t single = (vm_now_ns() - begin) / nr_single;
	begin = vm_now_ns();
	CHECK(process_move(space, moves + nr_single, found.nr - nr_single, NULL, 0, &tally) == 0);
	uint64_t batch = (vm_now_ns() - begin) / (found.nr - nr_single);
	tally_print(&tally);
	printf("one page a call %llu ns a page, in batches %llu ns a page, ratio %.1f\n",
	       (unsigned long long)single, (unsigned long long)batch, (double)single / (double)batch);
	pace_print(space);
	process_close(space);
	other_end(&other, 0);
}

static const struct live_case cases[] = {
	{ "quiet-bytes", quiet_bytes },
	{ "busy-bytes", busy_bytes },
	{ "unmapped", unmapped },
	{ "killed", killed },
	{ "number-used-again", number_used_again },
	{ "executed", executed },
	{ "shared", shared },
	{ "batched", batched },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "sleep") == 0)
		return pause();
	return live_main(argc, argv, cases);
}
