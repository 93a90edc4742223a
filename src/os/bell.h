/* SPDX-License-Identifier: MIT */
/*
 * A bell: threads ring it, one waits for it with poll(2), beside other descriptors. Rings before somebody
 * waits are not lost, and count as one. Private to this process. Thread-safe.
 */
#ifndef TIDE_BELL_H
#define TIDE_BELL_H

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* To be closed with close(2). -EMFILE, -ENFILE, -ENOMEM. */
static inline int bell_open(int *ret_fd)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* Never waits. -EBADF is all that can go wrong before it has rung 2^64 times. */
static inline int bell_ring(int fd)
{
	const uint64_t one = 1;

	return write(fd, &one, sizeof one) < 0 ? -errno : 0;
}

/* Have heard it. -EAGAIN: it has not rung. */
static inline int bell_hear(int fd)
{
	uint64_t rings;

	return read(fd, &rings, sizeof rings) < 0 ? -errno : 0;
}

#endif
