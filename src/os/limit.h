/* SPDX-License-Identifier: MIT */
/*
 * How much memory there is for us: the machine's, and the bound of our control group.
 *
 * All read files below a root folder ("" for the running system), so recorded trees test them.
 * 0 or -errno; nothing here changes anything. Thread-safe.
 */
#ifndef TIDE_LIMIT_H
#define TIDE_LIMIT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The lines "MemTotal" and "MemAvailable" of /proc/meminfo. */
int limit_machine(const char *root, uint64_t *ret_total_bytes, uint64_t *ret_available_bytes);

/* How much address space a process may have (RLIMIT_AS), in bytes; UINT64_MAX: any. -ESRCH, -EPERM. */
int limit_address_space(pid_t pid, uint64_t *ret_bytes);

/* A group with a limit, as limit_groups() finds it; good until `visit` returns. */
struct limit_group {
	const char *file;     /* that holds the limit, below the root */
	uint64_t limit_bytes; /* UINT64_MAX: none */
	const char *folder;
	bool unified;         /* version 2 */
};

/*
 * Call `visit` for our control group and each above it, up to the top that we can see: version 2
 * (memory.max and memory.high, of which the lesser counts) or 1 (memory.limit_in_bytes).
 * -ENOENT: no memory controller can be seen.
 */
int limit_groups(const char *root, void (*visit)(void *arg, const struct limit_group *group), void *arg);

/*
 * What is charged to a group and those below it and cannot be taken back when memory is short: all but
 * file pages and slab that can be reclaimed.
 */
int limit_group_used(const char *root, const struct limit_group *group, uint64_t *ret_bytes);

/*
 * The least limit of limit_groups(), and the file that holds it. UINT64_MAX: no group has one; the file is
 * then our own group's. -ENOENT.
 */
int limit_cgroup(const char *root, uint64_t *ret_bytes, char ret_file[PATH_MAX]);

#endif
