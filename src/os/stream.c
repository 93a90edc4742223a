/* SPDX-License-Identifier: MIT */
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

static int fail_close(int fd)
{
	int error = -errno;

	close(fd);
	return error;
}

/* ---- on a path ---- */

static int path_address(const char *path, struct sockaddr_un *ret)
{
	size_t length = strlen(path);

	if (!length)
		return -ENOENT;
	if (length >= sizeof ret->sun_path)
		return -ENAMETOOLONG;
	memset(ret, 0, sizeof *ret);
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path, path, length);
	return 0;
}

/* The descriptor, or -errno. */
static int socket_open(int domain, int flags)
{
	int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	return fd < 0 ? -errno : fd;
}

static int folder_make(const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;

	if (length >= sizeof folder)
		return -ENAMETOOLONG;
	snprintf(folder, sizeof folder, "%.*s", (int)length, path);
	return length && mkdir(folder, 0755) && errno != EEXIST ? -errno : 0;
}

/*
 * A file of our own, that others cannot open: whoever can read a folder could lock that. Its owner
 * removes it before the lock goes, so one that is not there any more is nobody's.
 */
static int file_lock(const char *path, int *ret_fd)
{
	struct stat ours, there;
	int error = 0, fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &ours))
		error = -errno;
	else if (!S_ISREG(ours.st_mode) || ours.st_size)
		error = -EEXIST; /* somebody's, and no lock: it is not ours to remove */
	else if (flock(fd, LOCK_EX | LOCK_NB))
		error = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	else if (lstat(path, &there) || there.st_dev != ours.st_dev || there.st_ino != ours.st_ino)
		error = -EADDRINUSE;
	if (error) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

/* Remove a socket that nobody listens to. */
static int stale_remove(const char *path, const struct sockaddr_un *address)
{
	struct stat there;

	if (lstat(path, &there))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(there.st_mode))
		return -EEXIST;
	int fd = socket_open(AF_UNIX, SOCK_NONBLOCK);
	if (fd < 0)
		return fd;
	/* Whatever else it says: somebody holds it. */
	bool stale = connect(fd, (const struct sockaddr *)address, sizeof *address) && errno == ECONNREFUSED;
	close(fd);
	return !stale ? -EADDRINUSE : unlink(path) ? -errno : 0;
}

/* Remove the path, unless somebody else took it. */
static void path_remove(const char *path, const struct stream *stream)
{
	struct stat there;

	if (!lstat(path, &there) && there.st_dev == stream->device && there.st_ino == stream->inode)
		unlink(path);
}

/* Which file became ours; its mode is then that of this file, whatever the path leads to by now. */
static int path_claim(const char *path, mode_t mode, struct stream *ret)
{
	struct stat made;
	char self[32];
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &made))
		return fd < 0 ? -errno : fail_close(fd);
	errno = EADDRINUSE;
	if (!S_ISSOCK(made.st_mode) || made.st_uid != geteuid())
		return fail_close(fd);
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	if ((made.st_mode & 07777) != mode && chmod(self, mode))
		return fail_close(fd);
	close(fd);
	ret->device = made.st_dev;
	ret->inode = made.st_ino;
	return 0;
}

static int path_bind(const char *path, mode_t mode, const struct sockaddr_un *address,
		     struct stream *ret)
{
	int error = stale_remove(path, address);

	if (error)
		return error;
	ret->fd = socket_open(AF_UNIX, SOCK_NONBLOCK);
	if (ret->fd < 0)
		return ret->fd;
	/* The file gets the mode of the socket, at no time a wider one; listening makes it answer. */
	if (fchmod(ret->fd, mode & 0600) || bind(ret->fd, (const struct sockaddr *)address, sizeof *address))
		return fail_close(ret->fd);
	error = path_claim(path, mode, ret);
	if (!error && listen(ret->fd, BACKLOG))
		error = -errno;
	if (error) {
		close(ret->fd);
		path_remove(path, ret);
		return error;
	}
	snprintf(ret->address, sizeof ret->address, "unix:%s", path);
	return 0;
}

int stream_listen_path(const char *path, mode_t mode, struct stream *ret_stream)
{
	struct sockaddr_un address;
	struct stream stream = { .fd = -1 };
	char lock_path[PATH_MAX];
	int lock = -1, error = path_address(path, &address);

	if (!error)
		error = folder_make(path);
	snprintf(lock_path, sizeof lock_path, "%.*s.lock", (int)sizeof address.sun_path, path);
	if (!error)
		error = file_lock(lock_path, &lock);
	if (error)
		return error;
	error = path_bind(path, mode, &address, &stream);
	unlink(lock_path); /* before the lock goes: see file_lock() */
	close(lock);
	if (!error)
		*ret_stream = stream;
	return error;
}

void stream_close(struct stream *stream)
{
	const char *path = stream->address + strlen("unix:");

	if (stream->inode)
		path_remove(path, stream);
	close(stream->fd);
}

int stream_connect(const char *path, uint64_t wait_ns, int *ret_fd)
{
	struct timeval wait = {
		.tv_sec = (time_t)(wait_ns / 1000000000), .tv_usec = (suseconds_t)(wait_ns % 1000000000 / 1000),
	};
	struct sockaddr_un address;
	int error = path_address(path, &address);

	if (error)
		return error;
	int fd = socket_open(AF_UNIX, 0);
	if (fd < 0)
		return fd;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) ||
	    connect(fd, (struct sockaddr *)&address, sizeof address))
		return fail_close(fd);
	*ret_fd = fd;
	return 0;
}

/* ---- on loopback ---- */

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* "HOST:PORT" */
static int loopback_address(const char *text, union address *ret, socklen_t *ret_length)
{
	char host[64], *end;
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;

	if (!length || length >= sizeof host || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (*end || port > UINT16_MAX)
		return -EINVAL;
	snprintf(host, sizeof host, "%.*s", (int)length, text);
	memset(ret, 0, sizeof *ret);
	if (host[0] == '[' && host[length - 1] == ']') {
		host[length - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, &ret->v6.sin6_addr) != 1)
			return -EINVAL;
		ret->v6.sin6_family = AF_INET6;
		ret->v6.sin6_port = htons((uint16_t)port);
		*ret_length = sizeof ret->v6;
		return IN6_IS_ADDR_LOOPBACK(&ret->v6.sin6_addr) ? 0 : -EPERM;
	}
	if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &ret->v4.sin_addr) != 1)
		return -EINVAL;
	ret->v4.sin_family = AF_INET;
	ret->v4.sin_port = htons((uint16_t)port);
	*ret_length = sizeof ret->v4;
	return ntohl(ret->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET ? 0 : -EPERM;
}

static void loopback_name(const union address *address, char ret[STREAM_ADDRESS_MAX])
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host);
		snprintf(ret, STREAM_ADDRESS_MAX, "[%s]:%u", host, ntohs(address->v6.sin6_port));
	} else {
		inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
		snprintf(ret, STREAM_ADDRESS_MAX, "%s:%u", host, ntohs(address->v4.sin_port));
	}
}

int stream_listen_loopback(const char *text, struct stream *ret_stream)
{
	struct stream stream = { .fd = -1 };
	union address address;
	socklen_t length;
	int on = 1, error = loopback_address(text, &address, &length);

	if (error)
		return error;
	stream.fd = socket_open(address.any.sa_family, SOCK_NONBLOCK);
	if (stream.fd < 0)
		return stream.fd;
	/* A connection of a process before us may still be in the kernel's memory. */
	if (setsockopt(stream.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    bind(stream.fd, &address.any, length) || listen(stream.fd, BACKLOG) ||
	    getsockname(stream.fd, &address.any, &length))
		return fail_close(stream.fd);
	loopback_name(&address, stream.address);
	*ret_stream = stream;
	return 0;
}

/* ---- peers ---- */

int stream_accept(const struct stream *stream, int *ret_fd, uid_t *ret_uid)
{
	int fd = accept4(stream->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer = { .uid = getuid() };
	socklen_t length = sizeof peer;

	if (fd < 0)
		return -errno;
	if (stream->inode && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return fail_close(fd);
	*ret_fd = fd;
	*ret_uid = peer.uid;
	return 0;
}

ssize_t stream_read(int fd, void *data, size_t room)
{
	ssize_t n;

	do
		n = recv(fd, data, room, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t stream_write(int fd, const void *data, size_t bytes)
{
	ssize_t n;

	do
		n = send(fd, data, bytes, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

void stream_finish(int fd)
{
	shutdown(fd, SHUT_WR);
}
