/* SPDX-License-Identifier: MIT */
#include "pidfd.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

int pidfd_get(pid_t pid, int *ret_fd)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	*ret_fd = fd;
	return 0;
}

int pidfd_pid(int fd, pid_t *ret_pid)
{
	char name[48], line[128];
	int pid = 0;

	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(name, "re");
	if (!file)
		return -errno;
	while (!pid && fgets(line, sizeof line, file))
		(void)sscanf(line, "Pid: %d", &pid);
	fclose(file);
	if (pid <= 0)
		return -ESRCH;
	*ret_pid = pid;
	return 0;
}

bool pidfd_ended(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLIN };

	int nr;

	do
		nr = poll(&end, 1, 0);
	while (nr < 0 && errno == EINTR);
	return nr > 0;
}

void pidfd_signal(int fd, int sig)
{
	syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
}
