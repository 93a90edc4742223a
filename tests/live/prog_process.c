/* SPDX-License-Identifier: MIT */
/*
 * What a program can tell of itself as a process: its stack as the kernel laid it out, whose child is whose,
 * also where it takes in orphans itself, its threads and limits, and its memory from outside.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "live.h"

/* A program's own, as the sanitizers have them: not made for processes that are not its. */
static _Atomic int own_pid, nr_strangers;

static void caller_look(void)
{
	int pid = own_pid;

	nr_strangers += pid && syscall(SYS_getpid) != pid;
}

__attribute__((visibility("default"))) void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	void *at = to;

	caller_look();
	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

__attribute__((visibility("default"))) void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	caller_look();
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}

/* As thread sanitizer's: it takes who begins so for a child of its own. */
__attribute__((visibility("default"))) int clone(int (*begin)(void *), void *stack, int flags, void *arg, ...)
{
	(void)begin;
	(void)stack;
	(void)flags;
	(void)arg;
	errno = ENOSYS;
	return -1;
}

/* Without a helper nothing would leave its memory. */
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

/* How many pages are out of memory, for who may not open a file to see. */
static size_t nr_out(const struct arena *arena)
{
	unsigned char *there = malloc(arena->nr_pages);
	size_t nr = 0;

	CHECK(there && mincore(arena->base, arena->nr_pages * PAGE_BYTES, there) == 0);
	for (size_t i = 0; i < arena->nr_pages; i++)
		nr += !(there[i] & 1);
	free(there);
	return nr;
}

/* Memory of a child's own leaves it, whatever its parent gave up. */
static void child_without(void (*give_up)(void))
{
	pid_t parent = child_start();

	if (parent != 0) {
		live_wait(parent);
		return;
	}
	give_up();
	pid_t pid = child_start();
	if (pid == 0) {
		struct arena arena = arena_new(live_pages(), 55);
		arena_fill(&arena, 0, arena.nr_pages, 1);
		for (unsigned round = 0; live_budget_bytes && nr_out(&arena) < arena.nr_pages / 2; round++) {
			CHECK(round < PRESS_ROUNDS);
			live_press();
			usleep(5000);
		}
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_wait(pid);
	_exit(0);
}

static void root_left(void)
{
	const char *folder = getenv("LIVE_TMP");

	CHECK(chroot(folder ? folder : "/tmp") == 0 && chdir("/") == 0);
}

static void rights_left(void)
{
	CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
}

static void child_in_another_root(void)
{
	if (geteuid() != 0)
		live_skip("only root can change the root");
	child_without(root_left);
}

static void child_without_rights(void)
{
	if (geteuid() != 0)
		live_skip("only root has rights to drop");
	child_without(rights_left);
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

static const struct live_case cases[] = {
	{ "stack-as-laid-out", stack_as_laid_out },
	{ "orphans-taken-in", orphans_taken_in },
	{ "own-memory-functions", own_memory_functions },
	{ "takes-in-orphans", takes_in_orphans },
	{ "is-managed", is_managed },
	{ "pid-namespace", pid_namespace },
	{ "pid-namespace-then-exec", pid_namespace_then_exec },
	{ "pid-namespace-begins", pid_namespace_begins },
	{ "helper-unseen-rule02", helper_unseen_rule02 },
	{ "limits-lowered", limits_lowered },
	{ "child-in-another-root", child_in_another_root },
	{ "child-without-rights", child_without_rights },
	{ "process-vm-readv-rule24", process_vm_readv_rule24 },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
