/* SPDX-License-Identifier: MIT */
/* Starting processes, waiting for them, and their names that last: with real ones. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "pidfd.h"

static sigset_t nothing;

static int nothing_to_do(void *arg)
{
	(void)arg;
	return 0;
}

static int refuse(void *arg)
{
	return *(const int *)arg;
}

static int start(const char *script, pid_t *ret_pid)
{
	const char *argv[] = { "sh", "-c", script, NULL };
	const struct child_program program = {
		.argv = (char *const *)(uintptr_t)argv, .mask = &nothing, .prepare = nothing_to_do,
	};

	return child_start(&program, ret_pid);
}

static void wait_end(pid_t pid, int wanted)
{
	siginfo_t info;
	pid_t seen;
	bool ended;
	int status;

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(child_peek(&seen, &ended), 0);
	assert_int_equal(seen, pid);
	assert_true(ended);
	assert_int_equal(child_take(pid, &status), 0);
	assert_int_equal(status, wanted);
}

static void it_runs_and_its_end_is_told(void **state)
{
	pid_t pid;

	(void)state;
	assert_int_equal(start("exit 7", &pid), 0);
	wait_end(pid, 7 << 8);
	assert_int_equal(start("kill -TERM $$", &pid), 0);
	wait_end(pid, SIGTERM);
}

static void what_exec_says_comes_back(void **state)
{
	char *missing[] = { (char[]){ "no-such-program-anywhere" }, NULL }, *folder[] = { (char[]){ "/" }, NULL };
	struct child_program program = { .argv = missing, .mask = &nothing, .prepare = nothing_to_do };
	int status, refusal = -EDOM;
	pid_t pid = 77;
	bool ended;

	(void)state;
	assert_int_equal(child_start(&program, &pid), -ENOENT);
	program.argv = folder;
	assert_int_equal(child_start(&program, &pid), -EACCES);
	program.prepare = refuse;
	program.arg = &refusal;
	assert_int_equal(child_start(&program, &pid), -EDOM);
	assert_int_equal(pid, 77);
	/* None of them is left behind. */
	assert_int_equal(child_peek(&pid, &ended), -ECHILD);
	assert_int_equal(child_take(1, &status), -ECHILD);
}

static void stopped_is_not_ended(void **state)
{
	siginfo_t info;
	pid_t pid, seen;
	bool ended;
	int status;

	(void)state;
	assert_int_equal(start("kill -STOP $$", &pid), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT), 0);
	assert_int_equal(child_peek(&seen, &ended), 0);
	assert_int_equal(seen, pid);
	assert_false(ended);
	assert_int_equal(child_take(pid, &status), 0);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(child_peek(&seen, &ended), 0);
	assert_int_equal(seen, 0);
	assert_int_equal(child_signal(pid, SIGKILL), 0);
	wait_end(pid, SIGKILL);
	assert_int_equal(child_signal(pid, SIGKILL), -ESRCH);
}

struct said {
	pid_t pid, session, parent;
	char name[16];
	bool in, out, deaf;
};

static int apart_tell(void *arg)
{
	const int *pipe_end = arg;
	struct said said = {
		.pid = getpid(), .session = getsid(0), .parent = getppid(),
		.in = fcntl(STDIN_FILENO, F_GETFD) >= 0, .out = fcntl(STDOUT_FILENO, F_GETFD) >= 0,
	};

	prctl(PR_GET_NAME, said.name);
	kill(getpid(), SIGTERM);
	said.deaf = true;
	return write(*pipe_end, &said, sizeof said) == sizeof said ? 0 : 1;
}

static void apart_it_is_nobodys_child(void **state)
{
	struct said said;
	int ends[2];
	bool ended;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(child_apart("a-name", apart_tell, &ends[1]), 0);
	assert_int_equal(child_peek(&pid, &ended), -ECHILD);
	close(ends[1]);
	assert_int_equal(read(ends[0], &said, sizeof said), sizeof said);
	assert_true(said.deaf && !said.in && !said.out);
	assert_int_equal(said.session, said.pid);
	assert_int_not_equal(said.parent, getpid());
	assert_string_equal(said.name, "a-name");
	close(ends[0]);
}

static volatile sig_atomic_t nr_signals;

static void count(int number)
{
	(void)number;
	nr_signals++;
}

/* A signal in the middle of the question is no end. */
static void a_name_lasts_as_long_as_its_process(void **state)
{
	const struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = count }, before;
	pid_t pid;
	int fd = -1;

	(void)state;
	assert_int_equal(start("exec sleep 1000", &pid), 0);
	int error = pidfd_get(pid, &fd);
	if (error == -ENOSYS) { /* valgrind does not know the call */
		assert_int_equal(child_signal(pid, SIGKILL), 0);
		wait_end(pid, SIGKILL);
		skip();
	}
	assert_int_equal(error, 0);
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &often, NULL);
	unsigned nr_ended = 0;
	while (nr_signals < 400)
		nr_ended += pidfd_ended(fd);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
	pidfd_signal(fd, SIGKILL);
	wait_end(pid, SIGKILL);
	assert_int_equal(nr_ended, 0);
	assert_true(pidfd_ended(fd));
	pidfd_signal(fd, SIGKILL);
	close(fd);
	assert_int_equal(pidfd_get(pid, &fd), -ESRCH);
}

static int kill_oneself(void *arg)
{
	(void)arg;
	raise(SIGKILL);
	return 0;
}

static void called_its_end_is_told(void **state)
{
	int status = 0, result = 7;

	(void)state;
	assert_int_equal(child_call(refuse, &result, &status), 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	assert_int_equal(child_call(kill_oneself, NULL, &status), 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_runs_and_its_end_is_told),
		cmocka_unit_test(what_exec_says_comes_back),
		cmocka_unit_test(stopped_is_not_ended),
		cmocka_unit_test(apart_it_is_nobodys_child),
		cmocka_unit_test(called_its_end_is_told),
		cmocka_unit_test(a_name_lasts_as_long_as_its_process),
	};

	sigemptyset(&nothing);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
