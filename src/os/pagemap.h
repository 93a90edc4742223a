/* SPDX-License-Identifier: MIT */
/*
 * The pages of a process as its page tables have them: /proc/PID/pagemap, read through a descriptor of
 * /proc/PID (see proc.h), or of a recorded copy of it. Thread-safe.
 */
#ifndef TIDE_PAGEMAP_H
#define TIDE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

struct pagemap_page {
	uint64_t address;
	uint64_t pfn;      /* number of its frame, of a huge page the first; 0: we may not know */
	uint32_t bytes;    /* 4096; 2 MiB: mapped by one entry (before Linux 6.7 not told apart) */
	bool soft_dirty;   /* written since it was last cleared, or in a mapping made since then */
};

/* It belongs to the memory map that the process has now, and is empty when that one has ended. -ESRCH;
 * -EACCES. */
int pagemap_open(int dir, int *ret_fd);
/* Whether that map is still there. */
bool pagemap_there(int fd);
/* The first address in [start, end), both multiples of 4096, of a page that is in memory. Next to nothing for
 * what is not there, terabytes included. -ENOENT: none; -EINVAL: that map has ended. */
int pagemap_first(int fd, uint64_t start, uint64_t end, uint64_t *ret_address);
/* Whether one entry maps 2 MiB from `address` on. Before Linux 6.7 none is said to. */
bool pagemap_huge(int fd, uint64_t address);
/* Whether a page is at an address, in memory or swapped out, that is not the one of zeros: 1 or 0. -ENOMEM;
 * -EINVAL: that map has ended. */
int pagemap_own(int fd, uint64_t address);
/* Whether the kernel says of a page that it waits to be written to its file, or is being written. It tells
 * root only: for others no page does. */
bool pagemap_dirty(int fd, uint64_t address);

/*
 * Call `visit` for each page that is in memory in [start, end), in address order. About 50 ns a page,
 * next to nothing for what is not there (before Linux 6.7: 10 ns). A huge page is one page; it is
 * visited when its first address is in the range. -ESRCH; -EACCES; -EIO.
 */
int pagemap_walk(int dir, uint64_t start, uint64_t end,
		 void (*visit)(void *arg, const struct pagemap_page *page), void *arg);

/*
 * From now on soft_dirty tells who is written. Takes the writer's lock of the address space, and each
 * page's next write is a fault. A kernel without the feature does nothing: probe_soft_dirty().
 * -ESRCH; -EACCES.
 */
int pagemap_clear_soft_dirty(int dir);

#endif
