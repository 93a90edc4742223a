/* SPDX-License-Identifier: MIT */
/*
 * Written: whether processes write to some files, be it what is there already. The kernel tells of each write
 * (inotify), also of those to settings in /proc/sys and debugfs; not of what it changes itself, nor of writes to
 * another mount of proc. What we write is told as well: who does takes it back out of what is told.
 *
 * Not thread-safe.
 */
#ifndef TIDE_WRITTEN_H
#define TIDE_WRITTEN_H

#include <stddef.h>

#define WRITTEN_MAX 16

struct written {
	int fd;                   /* -1: the kernel does not tell */
	int watches[WRITTEN_MAX]; /* of each file; -1: none */
	int held[WRITTEN_MAX];    /* what keeps the file in mind; -1 */
};

/* Nothing is told without inotify, or of a file that cannot be watched. */
void written_begin(struct written *written);
/* `which`, below WRITTEN_MAX, is its place in what is told. */
void written_add(struct written *written, size_t which, const char *root, const char *path);
/* Those that were written to since: a bit for each place. */
unsigned int written_take(const struct written *written);
void written_end(struct written *written);

#endif
