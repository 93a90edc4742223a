/* SPDX-License-Identifier: MIT */
#include "page_idle.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

int page_idle_open(const char *root, int *ret_fd)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s" PAGE_IDLE_PATH, root) >= (int)sizeof path)
		return -ENAMETOOLONG;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int page_idle_read(int fd, uint64_t first, uint64_t *words, size_t nr)
{
	ssize_t n = pread(fd, words, nr * sizeof *words, (off_t)(first * sizeof *words));

	return n < 0 ? -errno : (size_t)n == nr * sizeof *words ? 0 : -ENXIO;
}

int page_idle_mark(int fd, uint64_t first, const uint64_t *words, size_t nr)
{
	ssize_t n = pwrite(fd, words, nr * sizeof *words, (off_t)(first * sizeof *words));

	return n < 0 ? -errno : (size_t)n == nr * sizeof *words ? 0 : -ENXIO;
}
