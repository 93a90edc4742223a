/* SPDX-License-Identifier: MIT */
/*
 * The kernel's bitmap of idle pages (CONFIG_IDLE_PAGE_TRACKING): one bit for each page frame, 64 to a
 * word. A bit that was set goes when the page is accessed. Only pages that are on one of the lists of
 * user memory have one: the bits of others read 0 and cannot be set. Of a large page the first frame's
 * bit speaks for all of it. Looking at a bit costs the kernel a walk through all who map the page.
 */
#ifndef TIDE_PAGE_IDLE_H
#define TIDE_PAGE_IDLE_H

#include <stddef.h>
#include <stdint.h>

#define PAGE_IDLE_PATH "/sys/kernel/mm/page_idle/bitmap"
#define PAGE_IDLE_BITS 64u

/* -ENOENT: this kernel has none; -EACCES, -EPERM: not root. */
int page_idle_open(const char *root, int *ret_fd);
/* Words [first, first + nr). -ENXIO: behind the last frame. */
int page_idle_read(int fd, uint64_t first, uint64_t *words, size_t nr);
/* Set the bits that are 1; the others stay as they are. */
int page_idle_mark(int fd, uint64_t first, const uint64_t *words, size_t nr);

#endif
