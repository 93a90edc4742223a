/* SPDX-License-Identifier: MIT */
/*
 * The kernel's own counters of pages moved between nodes, since it was started; and who else moves
 * pages. Read below a root folder, so recorded trees test it. Thread-safe.
 */
#ifndef TIDE_VMSTAT_H
#define TIDE_VMSTAT_H

#include <stdbool.h>
#include <stdint.h>

struct vmstat { /* pages; 0 where the kernel does not count it */
	uint64_t pgmigrate_success, pgmigrate_fail;
	uint64_t pgpromote_success, pgdemote; /* by the kernel itself */
	uint64_t numa_pages_migrated; /* at hint faults, by the kernel itself: those promoted, and others */
	uint64_t numa_hint_faults;
	uint64_t compact_isolated; /* taken by compaction to be moved within a node; those that
				    * were are in pgmigrate_success, too */
};

/* -ENOENT, -EIO ... */
int vmstat_read(const char *root, struct vmstat *ret_vmstat);

/* Whether DAMON is at work with a scheme of sysfs that moves pages to another node. */
bool vmstat_damon_migrates(const char *root);
/* Whether there is a kernel thread of DAMON, whoever started it. */
bool vmstat_damon_thread(const char *root);
/* Whether anonymous memory may be in huge pages of less than 2 MiB (mTHP). */
bool vmstat_large_on(const char *root);
/* Whether reclaim demotes pages to slower nodes by itself. */
bool vmstat_demotion_on(const char *root);

#endif
