/* SPDX-License-Identifier: MIT */
/*
 * What the programs for guests with NUMA nodes share: memory that starts on a node that is asked for,
 * where its pages are, and the kernel's own counters. The system calls are made directly, so that
 * the product is judged by something else than its own wrappers. All of it fails the program (see
 * live_fail) instead of returning an error.
 */
#ifndef VM_H
#define VM_H

#include <stddef.h>
#include <stdint.h>

#include "live.h"

#define BLOCK_BYTES ((size_t)2 << 20)
#define BLOCK_PAGES (BLOCK_BYTES / PAGE_BYTES)

/* Pages that this thread touches first are put on this node, until vm_home_default(). */
void vm_home(unsigned int node);
void vm_home_default(void);

/* Anonymous memory, aligned to 2 MiB, never touched. */
unsigned char *vm_memory(size_t bytes);

/* Move nr pages from base to a node, in calls of `batch` pages; status_ret[i] is a node or -errno. */
void vm_move_pages(const unsigned char *base, size_t nr, unsigned int node, size_t batch,
		   int *status_ret);

/* How many of the pages from base are on a node; how many of those that are listed by number. */
size_t vm_pages_on(const unsigned char *base, size_t nr, unsigned int node);
size_t vm_listed_pages_on(const unsigned char *base, const uint32_t *pages, size_t nr,
			  unsigned int node);

/* A counter of /proc/vmstat; 0 when this kernel has no such line. */
uint64_t vm_counter(const char *name);

/* The bytes of huge pages in the mapping that holds this address. */
size_t vm_huge_bytes(const void *address);

uint64_t vm_now_ns(void);

/* Write a file of /proc, /sys or debugfs; false when it cannot be written. */
bool vm_write(const char *path, const char *text);

#endif
