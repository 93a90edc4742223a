/* SPDX-License-Identifier: MIT */
/*
 * The guard: a process that sees to it that no program outlives the server.
 *
 * Closing the last descriptor of a userfaultfd makes every stored page read as zeros, silently. So
 * the guard holds a copy of each; when the server ends without saying goodbye, programs that touch
 * a stored page wait instead of going on with wrong bytes, and the guard kills them, with a line.
 */
#ifndef TIDE_GUARD_H
#define TIDE_GUARD_H

#include <sys/types.h>

/* Fork the guard. Before threads are started. 0 or -errno. */
int guard_start(int *ret_socket);
/* Hand over a program before its first page is taken out. `pidfd` may be -1. Thread-safe. */
int guard_add(int socket, pid_t pid, int uffd, int pidfd);
/* The server is about to stop together with process `pid`: if that one goes on alone, continue the
 * server too, or it would wait for ever at its next stored page. */
int guard_stopping(int socket, pid_t pid);
/* The server ends in order. */
void guard_leave(int socket);

#endif
