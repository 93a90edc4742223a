/* SPDX-License-Identifier: MIT */
/*
 * The guard: a process that sees to it that no program outlives the server.
 *
 * Closing the last descriptor of a userfaultfd makes every stored page read as zeros, silently. So
 * the guard holds a copy of each; when the server ends without saying goodbye, programs that touch
 * a stored page wait instead of going on with wrong bytes, and the guard kills them, with a line.
 *
 *   server ─► guardian ─► guard
 *
 * The guardian only waits for the guard's end: if it was killed there is another one at once, which asks the
 * server for all programs anew. If both are killed the helpers are left, which end their own programs.
 */
#ifndef TIDE_GUARD_H
#define TIDE_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

/* Fork the guard. Before threads are started. 0 or -errno. */
int guard_start(int *ret_socket);
/* Hand over a program before its first page is taken out. `pidfd` may be -1. No error: no guard is left, which
 * guard_lost() tells. Thread-safe. */
int guard_add(int socket, pid_t pid, int uffd, int pidfd);
/* The server is about to stop together with process `pid`: if that one goes on alone, continue the
 * server too, or it would wait for ever at its next stored page. */
int guard_stopping(int socket, pid_t pid);
/* There is something to read on the socket: none is left, or it was killed and its successor is to be given
 * all programs again. Blocks while there is nothing. */
bool guard_lost(int socket);
/* The server ends in order. */
void guard_leave(int socket);

#endif
