/* SPDX-License-Identifier: MIT */
/*
 * Live cases: programs that become others, or start them, while their pages are stored.
 *
 * What is started gets its arguments and variables byte by byte, is looked after itself, and nothing is left of
 * the old one: exec, vfork, spawn, and the shells of system() and popen().
 */
#include "live.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- vfork ----------------------------------------------------------------------------------- */

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

#define NR_MANY 3000

/* With a stack that has no room for as many pointers as there are variables. */
static void *spawn_many_variables(void *arg)
{
	char *const argv[] = { (char *)(uintptr_t)live_self, (char *)(uintptr_t)"many-variables", NULL };
	pid_t pid;

	CHECK(posix_spawn(&pid, live_self, NULL, NULL, argv, arg) == 0);
	live_wait(pid);
	CHECK(posix_spawnp(&pid, live_self, NULL, NULL, argv, arg) == 0);
	live_wait(pid);
	return NULL;
}

static void many_variables(void)
{
	size_t nr = 0;

	while (environ[nr])
		nr++;
	CHECK(nr == NR_MANY && strcmp(environ[NR_MANY - 1], "V2999=x") == 0);
}

static void spawn_from_small_stack(void)
{
	struct arena arena = arena_new(live_pages(), 57);
	char **env = calloc(NR_MANY + 1, sizeof *env);
	pthread_attr_t attr;
	pthread_t thread;

	CHECK(env);
	for (size_t i = 0; i < NR_MANY; i++)
		CHECK(asprintf(&env[i], "V%zu=x", i) > 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 16384) == 0);
	CHECK(pthread_create(&thread, &attr, spawn_many_variables, env) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

/* The program an exec becomes is on tiered memory as well. */
static void exec_then_pressure(void)
{
	char *const argv[] = { (char *)(uintptr_t)live_self,
			       (char *)(uintptr_t)"pressure", NULL };
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

/* All of its memory is used, and goes out, as that of any program. */
static void become_pressure(void)
{
	struct arena arena = arena_new(live_pages(), 36);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- cancellation ---------------------------------------------------------------------------- */

/* Neither fork nor exec is a place where a thread is cancelled: its child goes on, and becomes another program. */
static struct arena inherited;

static void *cancelled_run(void *arg)
{
	CHECK(pthread_cancel(pthread_self()) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		arena_check(&inherited, 0, inherited.nr_pages / 2);
		execl(live_self, live_self, "exit-with-seven", (char *)NULL);
		_exit(9);
	}
	*(pid_t *)arg = pid;
	for (;;)
		pause();
}

static void fork_and_exec_while_cancelled(void)
{
	pthread_t thread;
	pid_t pid = -1;
	void *end;
	int status;

	inherited = arena_new(live_pages(), 71);
	arena_fill(&inherited, 0, inherited.nr_pages, 1);
	arena_cold(&inherited, 0, inherited.nr_pages / 2);
	CHECK(pthread_create(&thread, NULL, cancelled_run, &pid) == 0);
	CHECK(pthread_join(thread, &end) == 0 && end == PTHREAD_CANCELED);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void exit_with_seven(void)
{
	_exit(7);
}

/* ---- many small programs --------------------------------------------------------------------- */

/* One of them: filled before it says so, compared when its end of `go` is closed. */
static void become_one(void)
{
	size_t mib = strtoul(start_arguments[2], NULL, 10);
	int ready = atoi(start_arguments[3]), go = atoi(start_arguments[4]);
	struct arena arena = arena_new(mib * PAGES_PER_MIB, (uint64_t)getpid());
	char byte = 'r';

	arena_fill(&arena, 0, arena.nr_pages, 1);
	CHECK(write(ready, &byte, 1) == 1);
	CHECK(read(go, &byte, 1) == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

static pid_t one_start(const char *mib, const int ready[2], const int go[2])
{
	char ready_text[16], go_text[16];
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	close(go[1]);
	snprintf(ready_text, sizeof ready_text, "%d", ready[1]);
	snprintf(go_text, sizeof go_text, "%d", go[0]);
	execl(live_self, live_self, "one", mib, ready_text, go_text, NULL);
	_exit(9);
}

/* LIVE_MANY programs of LIVE_MIB each at once. With LIVE_WAIT they stay until that interrupt comes. */
static void many_programs(void)
{
	unsigned nr = (unsigned)atoi(getenv("LIVE_MANY")), nr_ready = 0;
	const char *mib = getenv("LIVE_MIB");
	pid_t *pids = calloc(nr, sizeof *pids);
	int ready[2], go[2];
	sigset_t set;
	char byte;

	CHECK(pids && pipe(ready) == 0 && pipe(go) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (unsigned i = 0; i < nr; i++)
		pids[i] = one_start(mib, ready, go);
	close(ready[1]);
	close(go[0]);
	while (nr_ready < nr && read(ready[0], &byte, 1) == 1)
		nr_ready++;
	CHECK(nr_ready == nr);
	if (getenv("LIVE_WAIT")) {
		CHECK(write(STDOUT_FILENO, "ready\n", 6) == 6);
		CHECK(sigwaitinfo(&set, NULL) == SIGINT);
	}
	close(go[1]);
	for (unsigned i = 0; i < nr; i++)
		live_wait(pids[i]);
}

static const struct live_case cases[] = {
	{ "fork-and-exec-while-cancelled", fork_and_exec_while_cancelled },
	{ "exit-with-seven", exit_with_seven },
	{ "many-programs", many_programs },
	{ "vfork-writes-then-exec", vfork_writes_then_exec },
	{ "exec-with-stored-arguments", exec_with_stored_arguments },
	{ "exec-with-stored-environment", exec_with_stored_environment },
	{ "spawn-from-small-stack", spawn_from_small_stack },
	{ "many-variables", many_variables },
	{ "exec-then-pressure", exec_then_pressure },
	{ "exec-then-rest", exec_then_rest },
	{ "posix-spawn-with-stored-arguments", posix_spawn_with_stored_arguments },
	{ "system-and-popen", system_and_popen },
	{ "system-calls-overlap", system_calls_overlap },
	{ "popen-shell-as-without", popen_shell_as_without },
	{ NULL, NULL },
};

static const struct live_case becomes[] = {
	{ "arguments", become_arguments },
	{ "variables", become_variables },
	{ "nothing", become_nothing },
	{ "rest", become_rest },
	{ "full", become_full },
	{ "pressure", become_pressure },
	{ "one", become_one },
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
