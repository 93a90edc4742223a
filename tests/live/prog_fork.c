/* SPDX-License-Identifier: MIT */
/*
 * Live cases: how processes come, go and become others while their pages are stored.
 *
 * A child must find every byte as its parent had it, whichever of them writes, moves out or exits
 * first, and however it was made: fork, vfork, a raw clone that no library sees, exec, spawn.
 */
#include "live.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t child_start(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	return pid;
}

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
	int gate[2];
	char byte;
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
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

/* A child with memory of its own that outgrows the budget; both find all of theirs right. */
static void child_grows(struct arena *arena, uint64_t seed)
{
	pid_t pid = child_start();

	if (pid == 0) {
		struct arena own = arena_new(live_pages(), seed);

		arena_fill(&own, 0, own.nr_pages, 1);
		arena_cold(&own, 0, own.nr_pages);
		arena_check(&own, 0, own.nr_pages);
		arena_check(arena, 0, arena->nr_pages);
		_exit(0);
	}
	live_wait(pid);
	arena_check(arena, 0, arena->nr_pages);
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
	live_helper_killed();
	pid = child_start();
	if (pid == 0) {
		arena_forget(&arena, 0, half);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- clone and vfork ------------------------------------------------------------------------- */

static pid_t clone_raw(void)
{
	long pid = syscall(SYS_clone, (unsigned long)SIGCHLD, 0ul, 0ul, 0ul, 0ul);

	CHECK(pid >= 0);
	return (pid_t)pid;
}

/* Children that change their mappings before anything else. */
static void child_changes_at_once(void)
{
	struct arena arena = arena_new(live_pages(), 13);
	size_t part = arena.nr_pages / 8;

	for (uint32_t round = 1; round < 9; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		pid_t pid = round % 2 ? clone_raw() : child_start();
		if (pid == 0) {
			size_t from = round % 7 * part + part;
			CHECK(madvise(arena_page(&arena, from), part * PAGE_BYTES, MADV_DONTNEED) == 0);
			CHECK(munmap(arena.base, part * PAGE_BYTES) == 0);
			arena_forget(&arena, from, from + part);
			arena_check(&arena, part, arena.nr_pages);
			_exit(0);
		}
		live_wait(pid);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

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

/* The child of vfork lives in the parent's memory until it execs. */
static void vfork_writes_then_exec(void)
{
	struct arena arena = arena_new(live_pages(), 22);
	char *const argv[] = { (char *)(uintptr_t)live_self, (char *)(uintptr_t)"nothing", NULL };

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (uint32_t round = 2; round < 10; round++) {
		size_t from = round * 64;
		pid_t pid;

		arena_cold(&arena, 0, arena.nr_pages / 2);
		pid = vfork();
		if (pid == 0) {
			pattern_page(arena_page(&arena, from), arena.seed, from, round);
			execv(live_self, argv);
			_exit(9);
		}
		CHECK(pid > 0);
		arena.generation[from] = round;
		live_wait(pid);
		arena_check(&arena, 0, arena.nr_pages);
	}
}

/* ---- exec and spawn with arguments in stored pages ------------------------------------------- */

#define NR_ARGUMENTS 1500

/* Text number i, 20 to 819 characters, the same in parent and child. */
static void argument_text(char text[1024], size_t i)
{
	uint64_t state = pattern_mix(i + 77) | 1;
	size_t length = 20 + live_random(&state) % 800;

	for (size_t at = 0; at < length; at++)
		text[at] = (char)('a' + (int)(live_random(&state) % 7));
	text[length] = '\0';
}

/* Strings one to a page, so that each is a fault of its own; argv itself lies there as well. */
static char **arguments_stored(struct arena *arena, const char *first, const char *second)
{
	char **argv, text[1024];

	*arena = arena_new(live_pages(), 30);
	arena_fill(arena, 0, arena->nr_pages, 1);
	argv = (char **)(void *)arena_page(arena, 8);
	for (size_t i = 0; i < NR_ARGUMENTS; i++) {
		argument_text(text, i);
		argv[i + 2] = (char *)arena_page(arena, 32 + 4 * i) + 17;
		strcpy(argv[i + 2], text);
	}
	argv[0] = strcpy((char *)arena_page(arena, 16), first);
	argv[1] = strcpy((char *)arena_page(arena, 20), second);
	argv[NR_ARGUMENTS + 2] = NULL;
	CHECK(32 + 4 * NR_ARGUMENTS < arena->nr_pages);
	arena_cold(arena, 32, 32 + 4 * NR_ARGUMENTS);
	return argv;
}

static void arguments_compare(char **got)
{
	char text[1024];

	for (size_t i = 0; i < NR_ARGUMENTS; i++) {
		argument_text(text, i);
		if (!got[i] || strcmp(got[i], text) != 0)
			live_fail("MISMATCH in argument or variable %zu", i);
	}
	if (got[NR_ARGUMENTS])
		live_fail("MISMATCH: more arguments than were given");
}

static void exec_with_stored_arguments(void)
{
	struct arena arena;
	char **argv = arguments_stored(&arena, live_self, "arguments");

	execv(live_self, argv);
	live_fail("exec: errno %d", errno);
}

static void exec_with_stored_environment(void)
{
	struct arena arena;
	char **argv = arguments_stored(&arena, live_self, "variables");
	char *short_argv[3] = { argv[0], argv[1], NULL };
	char budget[64] = "LIVE_NONE=0";

	if (live_budget_bytes)
		snprintf(budget, sizeof(budget), "LIVE_BUDGET_MIB=%zu", live_budget_bytes / MIB);
	/* Two variables of our own in front, the stored texts after them. */
	argv[0] = budget;
	argv[1] = (char *)(uintptr_t)"LIVE_SECOND=2";
	execve(live_self, short_argv, argv);
	live_fail("exec: errno %d", errno);
}

static void posix_spawn_with_stored_arguments(void)
{
	struct arena arena;
	char **argv = arguments_stored(&arena, live_self, "arguments");
	pid_t pid;

	CHECK(posix_spawn(&pid, live_self, NULL, NULL, argv, environ) == 0);
	live_wait(pid);
	arena_check(&arena, 32 + 4 * NR_ARGUMENTS, arena.nr_pages);
}

/* The program an exec becomes is on tiered memory as well. */
static void exec_then_pressure(void)
{
	char *const argv[] = { (char *)(uintptr_t)live_self,
			       (char *)(uintptr_t)"child-is-demoted-too-rule03", NULL };
	struct arena arena = arena_new(live_pages(), 31);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	execv(live_self, argv);
	live_fail("exec: errno %d", errno);
}

/* The program an exec becomes needs little: all that was stored is the old one's. The driver looks. */
static void exec_then_rest(void)
{
	char *const argv[] = { (char *)(uintptr_t)live_self, (char *)(uintptr_t)"rest", NULL };
	struct arena arena = arena_new(live_pages(), 33);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	execv(live_self, argv);
	live_fail("exec: errno %d", errno);
}

static void system_and_popen(void)
{
	struct arena arena = arena_new(live_pages(), 32);
	char *command = (char *)arena_page(&arena, 3), line[64];
	FILE *stream;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	strcpy(command, "exit 7");
	CHECK(WEXITSTATUS(system(command)) == 7);
	strcpy(command, "echo one; echo two");
	arena_cold(&arena, 4, arena.nr_pages);
	stream = popen(command, "re");
	CHECK(stream && fgets(line, sizeof(line), stream) && strcmp(line, "one\n") == 0);
	CHECK(fgets(line, sizeof(line), stream) && strcmp(line, "two\n") == 0);
	CHECK(pclose(stream) == 0);
	arena_check(&arena, 4, arena.nr_pages);
	arena_check(&arena, 0, 3);
}

struct shell_call {
	pthread_t thread;
	char command[64];
	int begun[2], end[2];
};

static void *shell_call_run(void *arg)
{
	struct shell_call *call = arg;

	CHECK(WEXITSTATUS(system(call->command)) == 5);
	return NULL;
}

static void shell_call_start(struct shell_call *call)
{
	char byte;

	CHECK(pipe(call->begun) == 0 && pipe(call->end) == 0);
	snprintf(call->command, sizeof(call->command), "echo >/dev/fd/%d; read x </dev/fd/%d; exit 5",
		 call->begun[1], call->end[0]);
	CHECK(pthread_create(&call->thread, NULL, shell_call_run, call) == 0);
	CHECK(read(call->begun[0], &byte, 1) == 1);
}

static void shell_call_end(struct shell_call *call)
{
	CHECK(write(call->end[1], "\n", 1) == 1);
	CHECK(pthread_join(call->thread, NULL) == 0);
}

/* Two calls, the one that began first ends first; the environment is the program's all the while. */
static void system_calls_overlap(void)
{
	struct arena arena = arena_new(live_pages(), 34);
	struct shell_call one, two;
	char **before = environ;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);

	shell_call_start(&one);
	shell_call_start(&two);
	CHECK(environ == before && !getenv("LD_PRELOAD"));
	CHECK(setenv("LIVE_MEANWHILE", "yes", 1) == 0);
	before = environ;
	shell_call_end(&one);
	CHECK(environ == before);
	shell_call_end(&two);
	CHECK(environ == before && strcmp(getenv("LIVE_MEANWHILE"), "yes") == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

static void popen_reads(const char *command, const char *expected)
{
	char text[256];
	FILE *stream = popen(command, "re");

	CHECK(stream);
	size_t bytes = fread(text, 1, sizeof(text) - 1, stream);
	text[bytes] = '\0';
	CHECK(pclose(stream) == 0);
	if (strcmp(text, expected))
		live_fail("%s: said %s, not %s", command, text, expected);
}

/* The shell is called, and quotes, as without; its environment is the program's; it is looked after, too. */
static void popen_shell_as_without(void)
{
	struct arena arena = arena_new(live_pages(), 35);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(setenv("LIVE_ODD", "it's \"$HOME\"", 1) == 0);
	popen_reads("echo $0 $#", "sh 0\n");
	popen_reads("echo 'a  b' \"it's\" \\' '\n'\necho \"$LIVE_ODD\"", "a  b it's ' \n\nit's \"$HOME\"\n");
	popen_reads("env | grep -c -e LD_PRELOAD -e PAGETIDE_; exit 0", "0\n");
	popen_reads("grep -q pagetide-inject /proc/$$/maps && echo yes || echo no",
		    live_budget_bytes ? "yes\n" : "no\n");
	CHECK(WEXITSTATUS(system("cd /nonexistent 2>/dev/null")) != 0 && system(NULL) != 0);
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- what a program may ask about itself ----------------------------------------------------- */

static long status_number(const char *key)
{
	char line[256];
	long number = -1;
	FILE *status = fopen("/proc/self/status", "re");

	CHECK(status);
	while (fgets(line, sizeof(line), status))
		if (strncmp(line, key, strlen(key)) == 0)
			number = strtol(line + strlen(key), NULL, 10);
	fclose(status);
	return number;
}

static void *thread_of_mine(void *argument)
{
	CHECK(status_number("Threads:") == 2);
	return argument;
}

static void helper_unseen_rule02(void)
{
	struct arena arena = arena_new(live_pages(), 40);
	pthread_t thread;
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
	CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
	CHECK(waitpid(-1, NULL, WNOHANG | (int)__WCLONE) < 0 && errno == ECHILD);
	CHECK(status_number("Threads:") == 1);
	CHECK(pthread_create(&thread, NULL, thread_of_mine, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	pid = child_start();
	if (pid == 0) {
		CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
		CHECK(status_number("Threads:") == 1);
		if (unshare(CLONE_NEWUSER) != 0 && errno != EPERM && errno != ENOSPC)
			live_fail("unshare(CLONE_NEWUSER) in a child: errno %d", errno);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_wait(pid);
	/* EPERM and ENOSPC are this machine's rules; EINVAL would be a thread of ours. */
	if (unshare(CLONE_NEWUSER) != 0 && errno != EPERM && errno != ENOSPC)
		live_fail("unshare(CLONE_NEWUSER): errno %d", errno);
	arena_check(&arena, 0, arena.nr_pages);
	arena_fill(&arena, 0, arena.nr_pages, 2);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
}

static void limits_lowered(void)
{
	static const __rlimit_resource_t which[] = { RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_CORE,
						     RLIMIT_STACK };
	struct arena arena = arena_new(live_pages(), 41);
	struct rlimit small = { MIB / 4, MIB / 4 };

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++) {
		struct rlimit limit = { 8, 8 };

		if (which[i] == RLIMIT_STACK)
			limit.rlim_cur = limit.rlim_max = MIB;
		CHECK(setrlimit(which[i], &limit) == 0);
	}
	/* No file may grow large: our pool is one, and must not be bound by it. */
	CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 2);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	arena_check(&arena, 0, arena.nr_pages);
	child_grows(&arena, 42);
}

/* The child reads the parent's stored pages from outside. */
static void process_vm_readv_rule24(void)
{
	struct arena arena = arena_new(live_pages(), 43);
	pid_t pid, parent = getpid();

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	pid = child_start();
	if (pid == 0) {
		unsigned char *copy = malloc(64 * PAGE_BYTES);

		CHECK(copy);
		for (size_t i = 0; i < arena.nr_pages; i += 64) {
			struct iovec to = { copy, 64 * PAGE_BYTES };
			struct iovec from = { arena_page(&arena, i), 64 * PAGE_BYTES };

			CHECK(process_vm_readv(parent, &to, 1, &from, 1, 0) == 64 * PAGE_BYTES);
			for (size_t j = 0; j < 64; j++)
				page_check(copy + j * PAGE_BYTES, 43, i + j, 1);
		}
		_exit(0);
	}
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- programs an exec becomes ---------------------------------------------------------------- */

static char **start_arguments;

static void become_arguments(void)
{
	arguments_compare(start_arguments + 2);
}

static void become_variables(void)
{
	arguments_compare(environ + 2);
}

static void become_nothing(void)
{
}

static void become_rest(void)
{
	CHECK(write(1, "rest\n", 5) == 5);
	pause();
}

/* Memory that is filled at once and read again when we are told to. */
static void become_full(void)
{
	struct arena arena = arena_new(768, 10);
	char go[512];

	CHECK(snprintf(go, sizeof go, "%s/go", getenv("LIVE_TMP")) < (int)sizeof go);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	while (access(go, F_OK))
		usleep(50000);
	arena_check(&arena, 0, arena.nr_pages);
	CHECK(write(1, "full\n", 5) == 5);
}

static const struct live_case cases[] = {
	{ "fork-then-both-write", fork_then_both_write },
	{ "fork-then-pressure-rule18", fork_then_pressure_rule18 },
	{ "fork-parent-exits-first-rule04", fork_parent_exits_first_rule04 },
	{ "fork-program-exits-first-rule04", fork_program_exits_first_rule04 },
	{ "grandchildren-rule04", grandchildren_rule04 },
	{ "child-is-demoted-too-rule03", child_is_demoted_too_rule03 },
	{ "many-short-children", many_short_children },
	{ "many-children-at-once", many_children_at_once },
	{ "fork-beside-busy-threads", fork_beside_busy_threads },
	{ "fork-keeps-advice", fork_keeps_advice },
	{ "wiped-while-held", wiped_while_held },
	{ "helper-killed-fork", helper_killed_fork },
	{ "child-changes-at-once", child_changes_at_once },
	{ "clone-raw-rule01-rule04", clone_raw_rule01_rule04 },
	{ "clone-raw-orphan-rule01", clone_raw_orphan_rule01 },
	{ "memory-outlives-its-process", memory_outlives_its_process },
	{ "vfork-writes-then-exec", vfork_writes_then_exec },
	{ "exec-with-stored-arguments", exec_with_stored_arguments },
	{ "exec-with-stored-environment", exec_with_stored_environment },
	{ "exec-then-pressure", exec_then_pressure },
	{ "exec-then-rest", exec_then_rest },
	{ "posix-spawn-with-stored-arguments", posix_spawn_with_stored_arguments },
	{ "system-and-popen", system_and_popen },
	{ "system-calls-overlap", system_calls_overlap },
	{ "popen-shell-as-without", popen_shell_as_without },
	{ "helper-unseen-rule02", helper_unseen_rule02 },
	{ "limits-lowered", limits_lowered },
	{ "process-vm-readv-rule24", process_vm_readv_rule24 },
	{ NULL, NULL },
};

static const struct live_case becomes[] = {
	{ "arguments", become_arguments },
	{ "variables", become_variables },
	{ "nothing", become_nothing },
	{ "rest", become_rest },
	{ "full", become_full },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	start_arguments = argv;
	for (const struct live_case *c = becomes; argc >= 2 && c->name; c++) {
		if (strcmp(argv[1], c->name) == 0) {
			c->run();
			return 0;
		}
	}
	return live_main(argc, argv, cases);
}
