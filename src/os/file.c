/* SPDX-License-Identifier: MIT */
#include "file.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>

__attribute__((format(printf, 2, 0)))
static FILE *file_open(const char *root, const char *format, va_list args)
{
	char path[PATH_MAX];
	int head = snprintf(path, sizeof(path), "%s", root);
	int tail = head < (int)sizeof(path) ?
		vsnprintf(path + head, sizeof(path) - (size_t)head, format, args) : 0;

	if (head + tail >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
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
