/* SPDX-License-Identifier: MIT */
#include "sock.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static socklen_t address_make(const char *name, struct sockaddr_un *ret)
{
	size_t length = strnlen(name, sizeof ret->sun_path - 1);

	memset(ret, 0, sizeof *ret);
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path + 1, name, length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

int sock_listen(const char *name, int *ret_fd)
{
	struct sockaddr_un address;
	socklen_t length = address_make(name, &address);

	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 128)) {
		int error = -errno;
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

int sock_connect(const char *name, int *ret_fd)
{
	struct sockaddr_un address;
	socklen_t length = address_make(name, &address);

	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, length)) {
		int error = -errno;
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

int sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid)
{
	struct ucred peer;
	socklen_t length = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return -errno;
	*ret_pid = peer.pid;
	*ret_uid = peer.uid;
	return 0;
}

int sock_accept(int listener, int *ret_fd, pid_t *ret_pid, uid_t *ret_uid)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = sock_peer(fd, ret_pid, ret_uid);
	if (error)
		close(fd);
	else
		*ret_fd = fd;
	return error;
}

int sock_pair(int ret_fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) ? -errno : 0;
}

int sock_send(int fd, const void *data, size_t bytes, const int *fds, size_t nr_fds)
{
	char control[CMSG_SPACE(sizeof(int) * SOCK_FDS_MAX)] __attribute__((aligned(8)));
	struct iovec part = { .iov_base = (void *)(uintptr_t)data, .iov_len = bytes };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (nr_fds > SOCK_FDS_MAX)
		return -EINVAL;
	if (nr_fds) {
		memset(control, 0, sizeof control);
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nr_fds);
	}
	ssize_t n;
	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == bytes ? 0 : -EIO;
}

int sock_receive(int fd, void *data, size_t room, size_t *ret_bytes, int ret_fds[SOCK_FDS_MAX])
{
	char control[CMSG_SPACE(sizeof(int) * SOCK_FDS_MAX)] __attribute__((aligned(8)));
	struct iovec part = { .iov_base = data, .iov_len = room };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control,
	};
	ssize_t n;

	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (int i = 0; i < SOCK_FDS_MAX; i++)
		ret_fds[i] = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(ret_fds, CMSG_DATA(c), sizeof(int) * (nr < SOCK_FDS_MAX ? nr : SOCK_FDS_MAX));
	}
	*ret_bytes = (size_t)n;
	return 0;
}
