/* SPDX-License-Identifier: MIT */
/*
 * Processes that we start, and those that become ours. For the one thread that waits for children.
 */
#ifndef TIDE_CHILD_H
#define TIDE_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct child_program {
	char *const *argv;        /* looked for in PATH */
	const sigset_t *mask;     /* signals that it begins with blocked */
	int (*prepare)(void *arg); /* in the new process, just before; 0 or -errno, which then is the result */
	void *arg;
};

/* Start a program. -EAGAIN, -ENOMEM, -EMFILE; what exec says of it: -ENOENT, -EACCES, -ENOEXEC ... */
int child_start(const struct child_program *program, pid_t *ret_pid);

/*
 * Call `main` in a process of its own that is nobody's child, so that who waits for all of his does not wait
 * for it: in a session of its own, of the standard streams with standard error only, deaf to what signals can
 * be ignored. It has the descriptors and the memory of the caller, but of the threads only this one; what
 * `main` returns is its exit status. The caller takes in no orphans any more. -EAGAIN, -ENOMEM.
 */
int child_apart(const char *name, int (*main)(void *arg), void *arg);

/* Call `main` in a process of its own, and wait for its end; *ret_status as of waitpid(2). -EAGAIN, -ENOMEM. */
int child_call(int (*main)(void *arg), void *arg, int *ret_status);

/* From now on orphans among our descendants become our children. */
void child_adopt(void);

/*
 * A child that has ended or was stopped, and stays so until it is taken: the process of that number is still
 * this one. *ret_pid 0: none just now. -ECHILD: there are no children at all.
 */
int child_peek(pid_t *ret_pid, bool *ret_ended);
/* *ret_status as of waitpid(2). -ECHILD: it goes on meanwhile. */
int child_take(pid_t pid, int *ret_status);

/* By number: only where it cannot be a stranger's, as with children that have not been taken. -ESRCH; -EPERM. */
int child_signal(pid_t pid, int signal);
/* SIGCONT that is told from that of others: its si_code is SI_QUEUE. */
int child_continue(pid_t pid);

#endif
