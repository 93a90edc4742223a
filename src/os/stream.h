/* SPDX-License-Identifier: MIT */
/*
 * Stream sockets for those who ask from outside: on a path, or on the machine's own loopback address.
 * Nothing here listens to another machine. 0 or -errno. Thread-safe.
 *
 * A socket on a path outlives a process that was killed. Such a one, to which nobody listens any more,
 * is replaced; one that answers is left alone. A file beside it, PATH.lock, is there and locked meanwhile,
 * so that of two who start at once one gets the path and the other hears of it.
 */
#ifndef TIDE_STREAM_H
#define TIDE_STREAM_H

#include <stdint.h>
#include <sys/types.h>

#define STREAM_ADDRESS_MAX 128 /* of an address as text, with its end */

struct stream {
	int fd;                           /* listens, non-blocking */
	char address[STREAM_ADDRESS_MAX]; /* "127.0.0.1:9100", "[::1]:9100", "unix:/run/..." */
	dev_t device;                     /* of the file, so that only our own is removed */
	ino_t inode;
};

/*
 * Listen on a path, whose folder is made when only that is missing. `mode`: who may connect.
 * -EADDRINUSE: somebody answers there; -EEXIST: what is there is no socket, or PATH.lock holds
 * something; -ENAMETOOLONG; -EACCES ...
 */
int stream_listen_path(const char *path, mode_t mode, struct stream *ret_stream);
/*
 * Listen on "HOST:PORT", HOST a loopback address (127.0.0.0/8, [::1], localhost); port 0: any.
 * -EINVAL: not of that form; -EPERM: an address that others can reach; -EADDRINUSE ...
 */
int stream_listen_loopback(const char *address, struct stream *ret_stream);
/* Stop listening, and remove the path. */
void stream_close(struct stream *stream);

/* Who waits: a non-blocking descriptor. -EAGAIN: nobody. *ret_uid: of a peer on a path; else our own. */
int stream_accept(const struct stream *stream, int *ret_fd, uid_t *ret_uid);

/* Ask who listens on a path; calls on the descriptor give up after `wait_ns`. */
int stream_connect(const char *path, uint64_t wait_ns, int *ret_fd);

/* Some bytes, never more than there is room for. 0: the end. -EAGAIN: none for now, or waited too long. */
ssize_t stream_read(int fd, void *data, size_t room);
/* As many bytes as fit. -EAGAIN; -EPIPE, -ECONNRESET: the peer went. */
ssize_t stream_write(int fd, const void *data, size_t bytes);
/* No more is to be written: the peer reads the end. */
void stream_finish(int fd);

#endif
