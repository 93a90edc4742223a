/* SPDX-License-Identifier: MIT */
#include "uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

int uffd_device_open(int *ret_fd)
{
	int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int uffd_api(int fd, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	return ioctl(fd, UFFDIO_API, &api) ? -errno : 0;
}

int uffd_register(int fd, uint64_t address, uint64_t bytes)
{
	struct uffdio_register reg = {
		.range = { .start = address, .len = bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

int uffd_unregister(int fd, uint64_t address, uint64_t bytes)
{
	struct uffdio_range range = { .start = address, .len = bytes };

	return ioctl(fd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

/*
 * COPY and ZEROPAGE report a partial success as EAGAIN with the bytes done in their last field;
 * the true error of the page after that shows when the rest is tried again. ENOENT says that there is no
 * mapping, or that the range lies in more than one: then less of it may do.
 */
static uint64_t range_less(int error, uint64_t bytes)
{
	return error == -ENOENT ? bytes / 2 & ~(uint64_t)4095 : 0;
}

/* What to fill a range with: the bytes at `src`, or zeros (NULL). */
struct fill {
	int fd;
	uint64_t dst, mode;
	const char *src;
};

/* Bytes [at, at + len), once. *ret_bytes: how many were done, meant where there is an error. */
static int fill_once(const struct fill *f, uint64_t at, uint64_t len, int64_t *ret_bytes)
{
	struct uffdio_zeropage zero = { .range = { .start = f->dst + at, .len = len } };
	struct uffdio_copy copy = { .dst = f->dst + at, .len = len, .mode = f->mode };

	if (!f->src) {
		int error = ioctl(f->fd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0;
		*ret_bytes = zero.zeropage;
		return error;
	}
	copy.src = (uint64_t)(uintptr_t)(f->src + at);
	int error = ioctl(f->fd, UFFDIO_COPY, &copy) ? -errno : 0;
	*ret_bytes = copy.copy;
	return error;
}

static int range_fill(const struct fill *f, uint64_t bytes, uint64_t *ret_done)
{
	uint64_t done = 0, len = bytes;
	int error = 0;

	while (done < bytes) {
		int64_t partial = 0;
		error = fill_once(f, done, len, &partial);
		if (error && partial <= 0) {
			len = range_less(error, len);
			if (!len)
				break;
			continue;
		}
		done += error ? (uint64_t)partial : len;
		len = bytes - done;
		error = 0;
	}
	*ret_done = done;
	return error;
}

int uffd_copy(int fd, uint64_t dst, const void *src, uint64_t bytes, uint64_t *ret_done)
{
	return range_fill(&(struct fill){ .fd = fd, .dst = dst, .src = src }, bytes, ret_done);
}

int uffd_copy_quietly(int fd, uint64_t dst, const void *src, uint64_t bytes, uint64_t *ret_done)
{
	return range_fill(&(struct fill){ .fd = fd, .dst = dst, .src = src, .mode = UFFDIO_COPY_MODE_DONTWAKE },
			  bytes, ret_done);
}

int uffd_zero(int fd, uint64_t dst, uint64_t bytes, uint64_t *ret_done)
{
	return range_fill(&(struct fill){ .fd = fd, .dst = dst }, bytes, ret_done);
}

int uffd_wake(int fd, uint64_t address, uint64_t bytes)
{
	struct uffdio_range range = { .start = address, .len = bytes };

	return ioctl(fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

/*
 * Ask for a page of zeros where there is never a mapping of ours: at the very top there is the stack,
 * if anything. (An address that can never be mapped would be refused before the process is looked for.)
 */
static int top_try(int fd)
{
	uint64_t done;

	return uffd_zero(fd, 0x7fffffffe000, 4096, &done);
}

/*
 * Ask for what only shared memory can have: anonymous memory refuses it as soon as it is found, before anything
 * is done there.
 */
int uffd_registered(int fd, uint64_t address, uint64_t bytes)
{
	struct uffdio_continue ask = { .range = { .start = address, .len = bytes } };
	int error = ioctl(fd, UFFDIO_CONTINUE, &ask) ? -errno : 0;

	if (error == -ENOENT)
		return 0;
	return !error || error == -EINVAL || error == -EEXIST ? 1 : error;
}

bool uffd_changing(int fd)
{
	int error = top_try(fd);

	/* Nothing is there, or nobody is left: only that is sure. */
	return error != -ENOENT && error != -ESRCH;
}

bool uffd_alive(int fd)
{
	return top_try(fd) != -ESRCH;
}
