/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_SIGNALS 32 /* those with names */

static _Noreturn void program_become(const struct child_program *program, int report)
{
	sigprocmask(SIG_SETMASK, program->mask, NULL);
	int error = program->prepare(program->arg);

	if (!error) {
		execvp(program->argv[0], program->argv);
		error = -errno;
	}
	_exit(write(report, &error, sizeof error) < 0 ? 126 : 127);
}

/* The error of exec comes back through a pipe that exec closes. */
int child_start(const struct child_program *program, pid_t *ret_pid)
{
	int report[2], error = 0;

	if (pipe2(report, O_CLOEXEC))
		return -errno;
	pid_t pid = fork();
	if (!pid)
		program_become(program, report[1]);
	if (pid < 0)
		error = -errno;
	close(report[1]);
	if (!error && TEMP_FAILURE_RETRY(read(report[0], &error, sizeof error)) != sizeof error)
		error = 0;
	close(report[0]);
	if (!error)
		*ret_pid = pid;
	else if (pid > 0)
		(void)TEMP_FAILURE_RETRY(waitpid(pid, NULL, 0));
	return error;
}

static _Noreturn void apart_be(const char *name, int (*main)(void *arg), void *arg)
{
	setsid();
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	prctl(PR_SET_NAME, name);
	for (int sig = 1; sig < NR_SIGNALS; sig++)
		if (sig != SIGCHLD) /* it may have children of its own, and wait for them */
			signal(sig, SIG_IGN);
	_exit(main(arg));
}

int child_apart(const char *name, int (*main)(void *arg), void *arg)
{
	int status = 0;

	prctl(PR_SET_CHILD_SUBREAPER, 0); /* exec keeps it */
	pid_t pid = fork();

	if (!pid) {
		pid_t apart = fork();
		if (!apart)
			apart_be(name, main, arg);
		_exit(apart < 0);
	}
	if (pid < 0)
		return -errno;
	return TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) < 0 || status ? -EAGAIN : 0;
}

int child_call(int (*main)(void *arg), void *arg, int *ret_status)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(main(arg));
	if (pid < 0 || TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) < 0)
		return -errno;
	*ret_status = status;
	return 0;
}

void child_adopt(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int child_peek(pid_t *ret_pid, bool *ret_ended)
{
	siginfo_t info = { .si_pid = 0 };

	if (waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL))
		return -errno;
	*ret_pid = info.si_pid;
	*ret_ended = info.si_code != CLD_STOPPED && info.si_code != CLD_TRAPPED;
	return 0;
}

int child_take(pid_t pid, int *ret_status)
{
	int status;

	if (waitpid(pid, &status, WNOHANG | WUNTRACED | __WALL) != pid)
		return -ECHILD;
	*ret_status = status;
	return 0;
}

int child_signal(pid_t pid, int signal)
{
	return kill(pid, signal) ? -errno : 0;
}

int child_continue(pid_t pid)
{
	return sigqueue(pid, SIGCONT, (union sigval){ 0 }) ? -errno : 0;
}
