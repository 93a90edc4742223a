/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing files of /proc and /sys below a root folder ("" for the running system), so that
 * recorded trees test who uses them; and putting a file where others read it. Thread-safe.
 */
#ifndef TIDE_FILE_H
#define TIDE_FILE_H

#include <dirent.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>

/* NULL and errno; ENAMETOOLONG. The path is what `format` makes, with a leading slash. */
__attribute__((format(printf, 2, 3)))
FILE *file_below(const char *root, const char *format, ...);

/* A folder, in the same way. */
__attribute__((format(printf, 2, 3)))
DIR *file_folder(const char *root, const char *format, ...);

/*
 * The whole of a small file as text. 0; -EFBIG: it does not fit into `bytes` with its end; -errno of
 * opening or reading.
 */
__attribute__((format(printf, 4, 5)))
int file_read(const char *root, char *buffer, size_t bytes, const char *format, ...);

/*
 * A file to be read to its end by who must not wait or read for ever. -EEXIST: it is a folder, a device, a pipe;
 * -errno of opening.
 */
int file_plain(const char *root, const char *path, FILE **ret_file);

/* Whether it is there and we may write it. -ENOENT, -EACCES, -EROFS. */
__attribute__((format(printf, 2, 3)))
int file_may_write(const char *root, const char *format, ...);

/* Write all of a text into a file that is there, in one call. -errno of opening or writing. */
__attribute__((format(printf, 3, 4)))
int file_put(const char *root, const char *text, const char *format, ...);

/*
 * Put a text in the place of a file, as a whole: whoever opens it finds the old one or the new one.
 * It is written beside it, under a name that starts with a dot, and renamed. Readable by all. 0; -EISDIR, -EEXIST:
 * there is a folder, or something else that is no plain file, and stays; -errno.
 */
int file_replace(const char *path, const char *text, size_t bytes);

/* -ENOENT: there is none. */
int file_remove(const char *path);

/*
 * Have as many descriptors as we may: the soft limit becomes the hard one. What it was is for programs that we
 * start: they are to find it. 0; -errno.
 */
int file_limit_raise(struct rlimit *ret_before);
int file_limit_set(const struct rlimit *limit);

/*
 * Put a text in a file: in its place as a whole, so that a full disk leaves what was there and nothing that is
 * cut off; behind a link, in the place of what it points to. What is no plain file, or lies in a folder that
 * is closed to us, is written to as it is. 0; -errno.
 */
int file_save(const char *path, const char *text, size_t bytes);

/*
 * The same in pieces: write to `fd` between the two. Until the end it lies beside the other one, under a name
 * that starts with a dot, and stays there if we are killed. An error told to file_save_end() takes it away,
 * and what was there stays; what is written to as it is has then what was written. Of one thread.
 */
struct file_saving {
	int fd;
	char target[PATH_MAX];
	char beside[PATH_MAX]; /* "": the target is written to */
};

int file_save_begin(const char *path, struct file_saving *ret_saving);
/* `error`: 0 or -errno of writing. Returns it, or the first one met here. */
int file_save_end(struct file_saving *saving, int error);

/* Whether file_replace() would succeed; what is there stays. 0; -errno. */
int file_may_replace(const char *path);

/*
 * Where a symbolic link points to, as text. 0; -EFBIG: it does not fit into `bytes` with its end; -errno.
 */
__attribute__((format(printf, 4, 5)))
int file_link(const char *root, char *buffer, size_t bytes, const char *format, ...);

#endif
