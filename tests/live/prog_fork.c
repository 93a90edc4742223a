/* SPDX-License-Identifier: MIT */
/*
 * Live cases: how processes come and go while their pages are stored.
 *
 * A child must find every byte as its parent had it, whichever of them writes, moves out or exits
 * first, and however it was made: fork, or a raw clone that no library sees.
 */
#include "live.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- fork ------------------------------------------------------------------------------------ */

static void write_every_other(struct arena *arena, size_t first, uint32_t generation)
{
	for (size_t i = first; i < arena->nr_pages; i += 2)
		arena_fill(arena, i, i + 1, generation);
}

static void fork_then_both_write(void)
{
	struct arena arena = arena_new(live_pages(), 1);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (uint32_t round = 0; round < 2; round++) {
		pid_t pid;

		arena_cold(&arena, 0, arena.nr_pages / 2);
		pid = child_start();
		if (pid == 0) {
			arena_check(&arena, 0, arena.nr_pages / 3);
			write_every_other(&arena, 0, 10 + round);
			live_press();
			arena_check(&arena, 0, arena.nr_pages);
			_exit(0);
		}
		write_every_other(&arena, 1, 20 + round);
		live_press();
		arena_check(&arena, 0, arena.nr_pages);
		live_wait(pid);
		arena_check(&arena, 0, arena.nr_pages);
		arena_fill(&arena, 0, arena.nr_pages, 30 + round);
	}
}

/* After a fork unwritten pages cannot be moved for a while; afterwards all must be as before. */
static void fork_then_pressure_rule18(void)
{
	struct arena arena = arena_new(live_pages(), 2);
	struct arena unwritten = arena_at(arena.base, arena.nr_pages, 2);
	size_t from = arena.nr_pages / 2, to = from + arena.nr_pages / 4;
	int gate[2];
	char byte;
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	/* In memory at the fork: every second of these nobody writes. */
	arena_check(&arena, from, to);
	for (size_t i = from + 1; i < to; i += 2)
		unwritten.generation[i] = 1;
	CHECK(pipe(gate) == 0);
	pid = child_start();
	if (pid == 0) {
		close(gate[1]);
		CHECK(read(gate[0], &byte, 1) == 0);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	close(gate[0]);
	live_press();
	arena_check(&arena, 0, arena.nr_pages);
	write_every_other(&arena, 0, 2);
	live_press();
	arena_check(&arena, 0, arena.nr_pages);
	close(gate[1]);
	live_wait(pid);
	/* The child is gone: pages must leave memory again, also those never written since. */
	arena_cold(&arena, 0, arena.nr_pages);
	arena_cold(&unwritten, from, to);
	arena_check(&arena, 0, arena.nr_pages);
}

/* Once `parent` is gone: check everything, write, move out, check again. */
static void orphan_work(struct arena *arena, pid_t parent)
{
	while (getppid() == parent)
		usleep(1000);
	usleep(50000);
	arena_check(arena, 0, arena->nr_pages);
	arena_fill(arena, 0, arena->nr_pages / 2, 7);
	live_press();
	arena_check(arena, 0, arena->nr_pages);
}

static void fork_parent_exits_first_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 3);
	int report[2];
	char word[3] = "";
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	CHECK(pipe(report) == 0);
	pid = child_start();
	if (pid == 0) {
		arena_fill(&arena, 0, arena.nr_pages / 2, 2);
		arena_cold(&arena, 0, arena.nr_pages / 2);
		pid = getpid();
		if (child_start() != 0)
			_exit(0);
		/* Nobody waits for the orphan, so it answers through the pipe. */
		orphan_work(&arena, pid);
		CHECK(write(report[1], "ok", 2) == 2);
		_exit(0);
	}
	close(report[1]);
	live_wait(pid);
	CHECK(read(report[0], word, 2) == 2 && strcmp(word, "ok") == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

/* A process whose last deed is a fork, many times: what was moved out of it may go with it at once. */
static void fork_and_end_rule04(void)
{
	struct arena arena = arena_new(live_pages() / 2, 5);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned i = 0; i < 5; i++) {
		int report[2];
		char word;
		CHECK(pipe(report) == 0);
		pid_t pid = child_start();
		if (pid == 0) {
			arena_fill(&arena, 0, arena.nr_pages, i + 2);
			arena_cold(&arena, 0, arena.nr_pages);
			if (child_start() != 0)
				_exit(0);
			arena_check(&arena, 0, arena.nr_pages);
			CHECK(write(report[1], "k", 1) == 1);
			_exit(0);
		}
		close(report[1]);
		live_wait(pid);
		CHECK(read(report[0], &word, 1) == 1 && word == 'k');
		close(report[0]);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* The first process of all exits; the driver reads the child's word from standard output. */
static void fork_program_exits_first_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 4);
	pid_t parent = getpid();

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	if (child_start() != 0)
		_exit(0);
	orphan_work(&arena, parent);
	CHECK(write(1, "child ok\n", 9) == 9);
	_exit(0);
}

static void generations_below(struct arena *arena, uint32_t depth)
{
	size_t part = arena->nr_pages / 8;
	pid_t pid;

	if (depth == 5)
		return;
	pid = child_start();
	if (pid == 0) {
		arena_fill(arena, depth * part, (depth + 1) * part, 10 + depth);
		generations_below(arena, depth + 1);
		live_press();
		arena_check(arena, 0, arena->nr_pages);
		_exit(0);
	}
	arena_fill(arena, (depth + 2) * part, (depth + 3) * part, 20 + depth);
	live_wait(pid);
	arena_check(arena, 0, arena->nr_pages);
}

static void grandchildren_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 5);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	generations_below(&arena, 0);
	arena_check(&arena, 0, arena.nr_pages);
}

static void child_is_demoted_too_rule03(void)
{
	struct arena arena = arena_new(live_pages() / 2, 6);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 4);
	child_grows(&arena, 7);
}

static void many_short_children(void)
{
	struct arena arena = arena_new(live_pages(), 8);
	uint64_t state = 8;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	for (unsigned int round = 0; round < 60; round++) {
		pid_t pids[3];

		for (unsigned int i = 0; i < 3; i++) {
			size_t from = live_random(&state) % (arena.nr_pages - 300);

			pids[i] = child_start();
			if (pids[i] == 0) {
				arena_check(&arena, from, from + 200);
				arena_fill(&arena, from + 100, from + 300, 5);
				arena_check(&arena, from, from + 300);
				_exit(0);
			}
			arena_fill(&arena, from + 50, from + 150, 100 + round);
		}
		for (unsigned int i = 0; i < 3; i++)
			live_wait(pids[i]);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* All of them there at the same time. */
static void many_children_at_once(void)
{
	struct arena arena = arena_new(live_pages(), 9);
	pid_t pids[40];
	int gate[2];

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(pipe(gate) == 0);
	for (size_t i = 0; i < 40; i++) {
		char byte;

		pids[i] = child_start();
		if (pids[i])
			continue;
		CHECK(close(gate[1]) == 0 && read(gate[0], &byte, 1) == 0);
		arena_check(&arena, i * 50, i * 50 + 50);
		_exit(0);
	}
	CHECK(close(gate[1]) == 0);
	for (size_t i = 0; i < 40; i++)
		live_wait(pids[i]);
	arena_check(&arena, 0, arena.nr_pages);
}

struct fork_racer {
	struct arena arena;
	atomic_bool *stop;
	pthread_t thread;
};

static void *fork_racer_run(void *argument)
{
	struct fork_racer *racer = argument;
	uint64_t state = racer->arena.seed;
	uint32_t round = 2;

	while (!atomic_load(racer->stop)) {
		size_t from = live_random(&state) % (racer->arena.nr_pages - 64);

		arena_check(&racer->arena, from, from + 64);
		arena_fill(&racer->arena, from, from + 32, round++);
		if (round % 8 == 0) {
			CHECK(madvise(arena_page(&racer->arena, from), 16 * PAGE_BYTES,
				      MADV_DONTNEED) == 0);
			arena_forget(&racer->arena, from, from + 16);
		}
	}
	return NULL;
}

/* Fork while other threads fault, write and discard: the child checks memory that is at rest. */
static void fork_beside_busy_threads(void)
{
	struct arena still = arena_new(live_pages() / 2, 9);
	struct fork_racer racers[3];
	atomic_bool stop = false;

	arena_fill(&still, 0, still.nr_pages, 1);
	for (unsigned int i = 0; i < 3; i++) {
		racers[i].arena = arena_new(live_pages() / 4, 90 + i);
		racers[i].stop = &stop;
		arena_fill(&racers[i].arena, 0, racers[i].arena.nr_pages, 1);
	}
	arena_cold(&still, 0, still.nr_pages);
	for (unsigned int i = 0; i < 3; i++)
		CHECK(pthread_create(&racers[i].thread, NULL, fork_racer_run, &racers[i]) == 0);
	for (unsigned int round = 0; round < 8; round++) {
		pid_t pid = child_start();

		if (pid == 0) {
			arena_check(&still, 0, still.nr_pages);
			arena_fill(&still, 0, still.nr_pages / 4, 3);
			arena_check(&still, 0, still.nr_pages);
			_exit(0);
		}
		arena_check(&still, 0, still.nr_pages / 4);
		live_wait(pid);
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < 3; i++) {
		CHECK(pthread_join(racers[i].thread, NULL) == 0);
		arena_check(&racers[i].arena, 0, racers[i].arena.nr_pages);
	}
	arena_check(&still, 0, still.nr_pages);
}

static void fork_keeps_advice(void)
{
	size_t nr = live_pages(), quarter = nr / 4;
	struct arena arena = arena_new(nr, 10);
	unsigned char seen[1];
	pid_t pid;

	CHECK(madvise(arena_page(&arena, quarter), quarter * PAGE_BYTES, MADV_DONTFORK) == 0);
	CHECK(madvise(arena_page(&arena, 2 * quarter), quarter * PAGE_BYTES, MADV_WIPEONFORK) == 0);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	pid = child_start();
	if (pid == 0) {
		arena_check(&arena, 0, quarter);
		CHECK(mincore(arena_page(&arena, quarter), PAGE_BYTES, seen) < 0 &&
		      errno == ENOMEM);
		arena_forget(&arena, 2 * quarter, 3 * quarter);
		arena_check(&arena, 2 * quarter, nr);
		arena_fill(&arena, 2 * quarter, nr, 2);
		arena_check(&arena, 2 * quarter, nr);
		_exit(0);
	}
	live_wait(pid);
	arena_check(&arena, 0, nr);
}

/* Pages that are just going out or coming in at the fork are as empty in the child as all others. */
static void wiped_while_held(void)
{
	struct arena arena = arena_new(live_pages(), 11);

	CHECK(madvise(arena.base, arena.nr_pages * PAGE_BYTES, MADV_WIPEONFORK) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (uint32_t round = 2; round < 10; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		pid_t pid = child_start();
		if (pid == 0) {
			arena_forget(&arena, 0, arena.nr_pages);
			arena_check(&arena, 0, arena.nr_pages);
			_exit(0);
		}
		live_wait(pid);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* Its helper was killed: its child still gets empty what is to be empty, and the rest as it was. */
static void helper_killed_fork(void)
{
	struct arena arena = arena_new(live_pages(), 12);
	size_t half = arena.nr_pages / 2;
	pid_t pid;

	CHECK(madvise(arena.base, half * PAGE_BYTES, MADV_WIPEONFORK) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, half);
	live_told("helper-killed");
	pid = child_start();
	if (pid == 0) {
		arena_forget(&arena, 0, half);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- clone ------------------------------------------------------------------------------------ */

static void clone_raw_rule01_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 20);
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	pid = clone_raw();
	if (pid == 0) {
		arena_check(&arena, 0, arena.nr_pages);
		write_every_other(&arena, 0, 2);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	write_every_other(&arena, 1, 3);
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
}

/* A grandchild by raw clone whose parents are gone: no hook of ours has run in any of them. */
static void clone_raw_orphan_rule01(void)
{
	struct arena arena = arena_new(live_pages(), 21);
	int report[2];
	char word[3] = "";
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(pipe(report) == 0);
	pid = clone_raw();
	if (pid == 0) {
		write_every_other(&arena, 0, 2);
		if (clone_raw() != 0)
			_exit(0);
		usleep(50000);
		arena_check(&arena, 0, arena.nr_pages);
		write_every_other(&arena, 1, 3);
		arena_check(&arena, 0, arena.nr_pages);
		CHECK(write(report[1], "ok", 2) == 2);
		_exit(0);
	}
	close(report[1]);
	live_wait(pid);
	arena_fill(&arena, 0, arena.nr_pages / 2, 4);
	CHECK(read(report[0], word, 2) == 2 && strcmp(word, "ok") == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

struct survivor {
	struct arena arena;
	pid_t maker;
	int report;
};

static int survivor_main(void *arg)
{
	const struct survivor *survivor = arg;

	while (getppid() == survivor->maker)
		usleep(1000);
	usleep(300000);
	arena_check(&survivor->arena, 0, survivor->arena.nr_pages / 2);
	CHECK(write(survivor->report, "ok", 2) == 2);
	_exit(0);
}

/* A process is killed while another lives in its memory, as a child of vfork does until it execs. */
static void memory_outlives_its_process(void)
{
	static char stack[64 << 10] __attribute__((aligned(64)));
	int report[2], status;
	char word[3] = "";

	CHECK(pipe(report) == 0);
	pid_t pid = child_start();
	if (pid == 0) {
		struct survivor survivor = { arena_new(live_pages(), 36), getpid(), report[1] };
		arena_fill(&survivor.arena, 0, survivor.arena.nr_pages, 1);
		arena_cold(&survivor.arena, 0, survivor.arena.nr_pages / 2);
		CHECK(clone(survivor_main, stack + sizeof(stack), CLONE_VM | SIGCHLD, &survivor) > 0);
		raise(SIGKILL);
	}
	close(report[1]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK(read(report[0], word, 2) == 2 && strcmp(word, "ok") == 0);
}

static int beside_run(void *arg)
{
	(void)arg;
	sleep(4);
	return 0;
}

/* Two processes live in memory that fits: it is looked at meanwhile. */
static void memory_of_two(void)
{
	struct arena arena = arena_new(20 * PAGES_PER_MIB, 56);
	unsigned char *stack = arena_page(&arena, 16);

	arena_fill(&arena, 16, arena.nr_pages, 1);
	pid_t beside = clone(beside_run, stack, CLONE_VM | SIGCHLD, NULL);
	CHECK(beside > 0);
	live_wait(beside);
	arena_check(&arena, 16, arena.nr_pages);
}

static const struct live_case cases[] = {
	{ "fork-then-both-write", fork_then_both_write },
	{ "fork-then-pressure-rule18", fork_then_pressure_rule18 },
	{ "fork-parent-exits-first-rule04", fork_parent_exits_first_rule04 },
	{ "fork-and-end-rule04", fork_and_end_rule04 },
	{ "fork-program-exits-first-rule04", fork_program_exits_first_rule04 },
	{ "grandchildren-rule04", grandchildren_rule04 },
	{ "child-is-demoted-too-rule03", child_is_demoted_too_rule03 },
	{ "many-short-children", many_short_children },
	{ "many-children-at-once", many_children_at_once },
	{ "fork-beside-busy-threads", fork_beside_busy_threads },
	{ "fork-keeps-advice", fork_keeps_advice },
	{ "wiped-while-held", wiped_while_held },
	{ "helper-killed-fork", helper_killed_fork },
	{ "clone-raw-rule01-rule04", clone_raw_rule01_rule04 },
	{ "clone-raw-orphan-rule01", clone_raw_orphan_rule01 },
	{ "memory-of-two", memory_of_two },
	{ "memory-outlives-its-process", memory_outlives_its_process },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
