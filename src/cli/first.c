/* SPDX-License-Identifier: MIT */
/*
 * The first process of a PID namespace, as in a container.
 *
 * All orphans there become its children, for whom it has to wait: under `run` the tool's own guard as well, for which
 * the tool would wait for ever. No signal ends it, one that comes before it has handlers is lost; and nobody is found
 * to descend from it. So who runs long (run, attach, daemon) is its child. It passes signals on, waits for whoever has
 * ended, and ends when the tool does, with which the namespace ends.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

#define OTHERS_PAUSE_NS 50000000
#define OTHERS_PAUSES 60u

/* A terminal has told all of its foreground, the tool as well. */
static bool from_terminal(const siginfo_t *info)
{
	int sig = info->si_signo;

	return info->si_code == SI_KERNEL && (sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP || sig == SIGTTIN ||
					      sig == SIGTTOU || sig == SIGWINCH);
}

/* With the number of who sent it: what the program sends to all of its group it has got already, by which the tool
 * knows that. A SIGCONT that is queued would be the guard's. */
static void signal_pass(pid_t tool, const siginfo_t *info)
{
	siginfo_t same = { .si_signo = info->si_signo, .si_code = SI_QUEUE };

	same.si_pid = info->si_pid;
	same.si_uid = info->si_uid;
	if (info->si_signo == SIGCONT || syscall(SYS_rt_sigqueueinfo, tool, info->si_signo, &same))
		kill(tool, info->si_signo);
}

/* The wait status of the tool. */
static int tool_await(pid_t tool)
{
	sigset_t all;
	siginfo_t info;
	int status;

	sigfillset(&all);
	for (;;) {
		int sig = sigwaitinfo(&all, &info);
		for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
			if (pid == tool)
				return status;
		if (sig > 0 && sig != SIGCHLD && !from_terminal(&info))
			signal_pass(tool, &info);
	}
}

/* The tool was killed: its guard ends the program, and keeps what that has stored from reading as zeros until then. */
static void others_await(void)
{
	const struct timespec pause = { .tv_nsec = OTHERS_PAUSE_NS };

	for (unsigned i = 0; i < OTHERS_PAUSES; i++) {
		pid_t pid;
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0)
			return;
		nanosleep(&pause, NULL);
	}
}

static bool above;

bool first_is_above(void)
{
	return above;
}

bool first_waits(int *ret_status)
{
	struct sigaction child_before;
	sigset_t all, before;

	if (getpid() != 1)
		return false;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, &child_before);
	pid_t tool = fork();
	if (!tool) {
		above = true;
		sigaction(SIGCHLD, &child_before, NULL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		return false;
	}
	if (tool < 0) {
		cli_say("cannot start a process: free memory or processes and try again");
		*ret_status = EXIT_OWN;
		return true;
	}
	prctl(PR_SET_NAME, "tide-first");
	int status = tool_await(tool);
	if (WIFSIGNALED(status))
		others_await();
	*ret_status = WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
	return true;
}
