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
#include <stddef.h>
#include <stdint.h>

/* The lines "MemTotal" and "MemAvailable" of /proc/meminfo. */
int limit_machine(const char *root, uint64_t *ret_total_bytes, uint64_t *ret_available_bytes);

/*
 * The least memory limit from our control group up to the top that we can see, version 2
 * (memory.max) or 1 (memory.limit_in_bytes), and the file that holds it (below the root).
 * UINT64_MAX: no group on the way has one; the file is then our own group's.
 * -ENOENT: no memory controller can be seen.
 */
int limit_cgroup(const char *root, uint64_t *ret_bytes, char ret_file[PATH_MAX]);

#endif
