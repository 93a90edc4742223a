/* SPDX-License-Identifier: MIT */
/*
 * What a program can tell of itself as a process: its stack as the kernel laid it out, and whose child is
 * whose, also where it takes in orphans itself.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "live.h"

static pid_t child_start(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	return pid;
}

/* A program's own, as the sanitizers have them: not made for processes that are not its. */
static _Atomic int own_pid, nr_strangers;

static void caller_look(void)
{
	int pid = own_pid;

	nr_strangers += pid && syscall(SYS_getpid) != pid;
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	void *at = to;

	caller_look();
	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	caller_look();
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}

static void own_memory_functions(void)
{
	struct arena arena = arena_new(live_pages(), 54);

	own_pid = getpid();
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	arena_fill(&arena, 0, arena.nr_pages, 2);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	CHECK(nr_strangers == 0);
}

static int nr_arguments;
static char **first_argument;

/* Before main(), which is given a copy of what a runtime that has no libc finds here. */
__attribute__((constructor)) static void start(int argc, char **argv)
{
	nr_arguments = argc;
	first_argument = argv;
}

/* As Go looks for it: behind the arguments the environment, and behind that the auxiliary vector. */
static void stack_as_laid_out(void)
{
	char **env = first_argument + nr_arguments + 1;
	size_t nr = 0, nr_plain = 0;

	CHECK(!env[-1]);
	for (; env[nr]; nr++) {
		const char *value = strchr(env[nr], '=');
		if (!value) /* room of a variable that is not there any more */
			continue;
		char name[256];
		snprintf(name, sizeof name, "%.*s", (int)(value - env[nr]), env[nr]);
		const char *own = getenv(name);
		if (!own || strcmp(own, value + 1) != 0)
			live_fail("only on the stack: %s", env[nr]);
	}
	const unsigned long *aux = (const unsigned long *)(const void *)(env + nr + 1);
	for (nr = 0; aux[nr] && nr < 128; nr += 2) {
		/* libc makes up others of its own. */
		bool plain = aux[nr] == AT_PAGESZ || aux[nr] == AT_ENTRY || aux[nr] == AT_RANDOM;
		CHECK(!plain || aux[nr + 1] == getauxval(aux[nr]));
		nr_plain += plain;
	}
	CHECK(!aux[nr] && nr_plain == 3);
	for (char **at = environ; *at; at++)
		puts(*at);
}

/* A child and an orphan, in one's own care: both come, and nobody else. */
static void wait_for_two(const struct arena *arena)
{
	pid_t child = child_start();

	if (child == 0) {
		pid_t orphan = child_start();
		if (orphan == 0)
			CHECK(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD);
		arena_check(arena, 0, arena->nr_pages);
		_exit(orphan == 0 ? 5 : 0);
	}
	int status, nr_children = 0, nr_orphans = 0;
	while (waitpid(-1, &status, 0) > 0) {
		CHECK(WIFEXITED(status));
		nr_children += WEXITSTATUS(status) == 0;
		nr_orphans += WEXITSTATUS(status) == 5;
	}
	CHECK(errno == ECHILD && nr_children >= 1 && nr_orphans == 1);
}

static void orphans_taken_in(void)
{
	struct arena arena = arena_new(live_pages(), 50);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	wait_for_two(&arena);
	arena_check(&arena, 0, arena.nr_pages);
}

/* Who takes in orphans does so still when it has executed another program. */
static void takes_in_orphans(void)
{
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	execl(live_self, live_self, "orphans-taken-in", (char *)NULL);
	live_fail("exec: errno %d", errno);
}

/* Memory of a program's own that goes out and comes back. */
static void is_managed(void)
{
	struct arena arena = arena_new(live_pages(), 51);

	CHECK(getpid() < 100);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
}

/*
 * The first process of a PID namespace, as containers have it: it starts a program and waits until nobody
 * is left. Everybody's numbers are others in there, and in use outside. Nothing is taken out of its own memory, so
 * it looks at a part of it only.
 */
static void namespace_begin(const struct arena *arena)
{
	CHECK(getpid() == 1);
	pid_t child = child_start();
	bool ended = false;
	int status;

	if (child == 0) {
		execl(live_self, live_self, "is-managed", (char *)NULL);
		live_fail("exec: errno %d", errno);
	}
	arena_check(arena, 0, arena->nr_pages / 8);
	for (pid_t pid; (pid = waitpid(-1, &status, 0)) > 0;) {
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		ended |= pid == child;
	}
	CHECK(errno == ECHILD && ended);
	arena_check(arena, 0, arena->nr_pages / 8);
	_exit(0);
}

static void pid_namespace(void)
{
	struct arena arena = arena_new(live_pages(), 52);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	if (unshare(CLONE_NEWPID))
		live_skip("no PID namespace of our own: errno %d", errno);
	pid_t first = child_start();
	if (first == 0)
		namespace_begin(&arena);
	live_wait(first);
	arena_check(&arena, 0, arena.nr_pages);
}

/* Another program in the place of who has made a namespace: its first child begins that, none of ours. */
static void pid_namespace_then_exec(void)
{
	if (unshare(CLONE_NEWPID))
		live_skip("no PID namespace of our own: errno %d", errno);
	execl(live_self, live_self, "pid-namespace-begins", (char *)NULL);
	live_fail("exec: errno %d", errno);
}

static void pid_namespace_begins(void)
{
	struct arena arena = arena_new(64, 53);
	pid_t first = child_start();

	if (first == 0)
		namespace_begin(&arena);
	live_wait(first);
	pid_t second = fork(); /* the namespace has ended with its first process */
	CHECK(second < 0 && errno == ENOMEM);
}

static const struct live_case cases[] = {
	{ "stack-as-laid-out", stack_as_laid_out },
	{ "orphans-taken-in", orphans_taken_in },
	{ "own-memory-functions", own_memory_functions },
	{ "takes-in-orphans", takes_in_orphans },
	{ "is-managed", is_managed },
	{ "pid-namespace", pid_namespace },
	{ "pid-namespace-then-exec", pid_namespace_then_exec },
	{ "pid-namespace-begins", pid_namespace_begins },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
