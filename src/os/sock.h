/* SPDX-License-Identifier: MIT */
/*
 * UNIX sequenced-packet sockets and passing descriptors over them. 0 or -errno. Thread-safe.
 */
#ifndef TIDE_SOCK_H
#define TIDE_SOCK_H

#include <stddef.h>
#include <sys/types.h>

#define SOCK_FDS_MAX 4

/* Listen on an abstract name (no file; only reachable in this network namespace). Non-blocking. */
int sock_listen(const char *name, int *ret_fd);
int sock_connect(const char *name, int *ret_fd);
/* -EAGAIN: nobody waits. The peer's process as of its connect(), in our namespaces. */
int sock_accept(int listener, int *ret_fd, pid_t *ret_pid, uid_t *ret_uid);
/* The same of a connection that was accepted before. */
int sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid);
int sock_pair(int ret_fds[2]);

int sock_send(int fd, const void *data, size_t bytes, const int *fds, size_t nr_fds);
/* *ret_bytes 0: the peer closed. Descriptors come with close-on-exec; unused entries are -1. */
int sock_receive(int fd, void *data, size_t room, size_t *ret_bytes, int ret_fds[SOCK_FDS_MAX]);

#endif
