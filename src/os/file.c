/* SPDX-License-Identifier: MIT */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((format(printf, 3, 0)))
static int path_make(char path[PATH_MAX], const char *root, const char *format, va_list args)
{
	int head = snprintf(path, PATH_MAX, "%s", root);
	int tail = head < PATH_MAX ? vsnprintf(path + head, PATH_MAX - (size_t)head, format, args) : 0;

	return head + tail < PATH_MAX ? 0 : -ENAMETOOLONG;
}

__attribute__((format(printf, 2, 0)))
static FILE *file_open(const char *root, const char *format, va_list args)
{
	char path[PATH_MAX];
	int error = path_make(path, root, format, args);

	if (error) {
		errno = -error;
		return NULL;
	}
	return fopen(path, "re");
}

FILE *file_below(const char *root, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	FILE *file = file_open(root, format, args);
	va_end(args);
	return file;
}

DIR *file_folder(const char *root, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	int error = path_make(path, root, format, args);
	va_end(args);
	if (error) {
		errno = -error;
		return NULL;
	}
	return opendir(path);
}

int file_read(const char *root, char *buffer, size_t bytes, const char *format, ...)
{
	va_list args;
	int error = 0;

	va_start(args, format);
	FILE *file = file_open(root, format, args);
	va_end(args);
	if (!file)
		return -errno;
	errno = 0;
	size_t n = fread(buffer, 1, bytes, file);
	if (ferror(file))
		error = errno ? -errno : -EIO;
	else if (n == bytes)
		error = -EFBIG;
	else
		buffer[n] = '\0';
	fclose(file);
	return error;
}

int file_plain(const char *root, const char *path, FILE **ret_file)
{
	char joined[PATH_MAX];
	struct stat there;

	if (snprintf(joined, sizeof joined, "%s%s", root, path) >= PATH_MAX)
		return -ENAMETOOLONG;
	/* That of a pipe would wait for a writer. */
	int fd = open(joined, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = fstat(fd, &there) ? -errno : S_ISREG(there.st_mode) ? 0 : -EEXIST;
	FILE *file = error ? NULL : fdopen(fd, "r");
	if (!file) {
		close(fd);
		return error ? error : -ENOMEM;
	}
	*ret_file = file;
	return 0;
}

int file_may_write(const char *root, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	int error = path_make(path, root, format, args);
	va_end(args);
	return error ? error : access(path, W_OK) ? -errno : 0;
}

int file_put(const char *root, const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	size_t length = strlen(text);
	va_list args;

	va_start(args, format);
	int error = path_make(path, root, format, args);
	va_end(args);
	if (error)
		return error;
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, length);
	error = n < 0 ? -errno : (size_t)n != length ? -EIO : 0;
	if (close(fd) && !error)
		error = -errno;
	return error;
}

static int text_write(int fd, const char *text, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, text, bytes);
		if (n < 0 && errno != EINTR)
			return -errno;
		text += n > 0 ? n : 0;
		bytes -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* A new file in the same folder. */
static int beside_open(char beside[PATH_MAX], const char *path, int *ret_fd)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	if (snprintf(beside, PATH_MAX, "%.*s.%s.%d", (int)(name - path), path, name, (int)getpid()) >= PATH_MAX) {
		*beside = '\0';
		return -ENAMETOOLONG;
	}
	unlink(beside); /* of a predecessor with our number that was killed */
	int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* In the other's place, unless there was an error; then, too, it may still be there. */
static int beside_end(const char *beside, const char *path, int fd, int error)
{
	if (close(fd) && !error)
		error = -errno;
	return error ? error : rename(beside, path) ? -errno : 0;
}

/* A device, a pipe or a link in whose place a file is put is gone. */
static int place_look(const char *path)
{
	struct stat there;

	if (!*path)
		return -ENOENT;
	if (lstat(path, &there))
		return errno == ENOENT ? 0 : -errno;
	return S_ISREG(there.st_mode) ? 0 : S_ISDIR(there.st_mode) ? -EISDIR : -EEXIST;
}

int file_may_replace(const char *path)
{
	char beside[PATH_MAX] = "";
	int fd, error = place_look(path);

	if (!error)
		error = beside_open(beside, path, &fd);
	if (!error) {
		close(fd);
		unlink(beside);
	}
	return error;
}

int file_replace(const char *path, const char *text, size_t bytes)
{
	char beside[PATH_MAX] = "";
	int fd, error = place_look(path);

	if (!error)
		error = beside_open(beside, path, &fd);
	if (error)
		return error;
	error = beside_end(beside, path, fd, text_write(fd, text, bytes));
	if (error)
		unlink(beside);
	return error;
}

/* It may not be put there under another name, but perhaps be written to; EBUSY: it is mounted there. */
static bool as_it_is(int error)
{
	return error == -EACCES || error == -EPERM || error == -EROFS || error == -EBUSY ||
	       error == -ENAMETOOLONG;
}

static int plain_open(const char *path, int *ret_fd)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int file_save_begin(const char *path, struct file_saving *ret_saving)
{
	struct file_saving saving = { .beside = "" };
	char *real = realpath(path, NULL);
	struct stat there = { 0 };

	if (snprintf(saving.target, PATH_MAX, "%s", real ? real : path) >= PATH_MAX) {
		free(real);
		return -ENAMETOOLONG;
	}
	free(real);
	/* A link to nothing is left to open(). */
	bool missing = lstat(saving.target, &there) && errno == ENOENT;
	int error = missing || S_ISREG(there.st_mode) ? beside_open(saving.beside, saving.target, &saving.fd) :
							-EACCES;
	/* Whoever may not read it now may not afterwards. */
	if (!error && !missing && fchmod(saving.fd, there.st_mode & 07777)) {
		error = -errno;
		close(saving.fd);
		unlink(saving.beside);
	}
	if (as_it_is(error)) {
		*saving.beside = '\0';
		error = plain_open(saving.target, &saving.fd);
	}
	if (!error)
		*ret_saving = saving;
	return error;
}

static int content_copy(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
	int error = in < 0 ? -errno : plain_open(to, &out);
	ssize_t n = 1;

	if (!error) {
		while (n > 0 || (n < 0 && errno == EINTR))
			n = sendfile(out, in, NULL, 1u << 20);
		error = n < 0 ? -errno : 0;
		if (close(out) && !error)
			error = -errno;
	}
	if (in >= 0)
		close(in);
	return error;
}

int file_save_end(struct file_saving *saving, int error)
{
	if (!*saving->beside)
		return close(saving->fd) && !error ? -errno : error;
	int result = beside_end(saving->beside, saving->target, saving->fd, error);
	if (!error && as_it_is(result))
		result = content_copy(saving->beside, saving->target);
	unlink(saving->beside);
	return result;
}

int file_save(const char *path, const char *text, size_t bytes)
{
	struct file_saving saving;
	int error = file_save_begin(path, &saving);

	return error ? error : file_save_end(&saving, text_write(saving.fd, text, bytes));
}

int file_link(const char *root, char *buffer, size_t bytes, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	int error = path_make(path, root, format, args);
	va_end(args);
	if (error)
		return error;
	ssize_t n = readlink(path, buffer, bytes);
	if (n < 0)
		return -errno;
	if ((size_t)n == bytes)
		return -EFBIG;
	buffer[n] = '\0';
	return 0;
}

int file_remove(const char *path)
{
	return unlink(path) ? -errno : 0;
}

int file_limit_set(const struct rlimit *limit)
{
	return setrlimit(RLIMIT_NOFILE, limit) ? -errno : 0;
}

int file_limit_raise(struct rlimit *ret_before)
{
	struct rlimit before;

	if (getrlimit(RLIMIT_NOFILE, &before))
		return -errno;
	const struct rlimit raised = { before.rlim_max, before.rlim_max };
	int error = file_limit_set(&raised);
	if (!error)
		*ret_before = before;
	return error;
}
