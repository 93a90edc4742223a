/* SPDX-License-Identifier: MIT */
/*
 * A name for a process that means the same one when its number is used again. Becomes readable to poll(2)
 * when the process ends; closed with close(2). Thread-safe.
 */
#ifndef TIDE_PIDFD_H
#define TIDE_PIDFD_H

#include <stdbool.h>
#include <sys/types.h>

/* -ESRCH: no such process, or the number is that of a thread; -EMFILE. */
int pidfd_get(pid_t pid, int *ret_fd);
/* Its number in our PID namespace. -ESRCH: it has ended and been waited for, or has no number there. */
int pidfd_pid(int fd, pid_t *ret_pid);
/* Whether the process has ended. */
bool pidfd_ended(int fd);
/* Nothing where it has ended. */
void pidfd_signal(int fd, int sig);

#endif
