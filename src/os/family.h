/* SPDX-License-Identifier: MIT */
/*
 * Who descends from whom, as /proc tells. A process whose parent ended has another one since, so who descends from it
 * only by way of that parent is not found any more. Thread-safe.
 */
#ifndef TIDE_FAMILY_H
#define TIDE_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Whether `is` says yes to a process or to one that it descends from; process 1 is not asked for. */
bool family_has(pid_t pid, bool (*is)(void *arg, pid_t pid), void *arg);

/*
 * All descendants of some processes that live now below a root folder (see file.h), in no order, at most `max`;
 * *ret_nr may be larger. Found by one pass over /proc. -ENOMEM, or as the folder's opening.
 */
int family_descendants(const char *root, const pid_t *pids, size_t nr, pid_t *ret_pids, size_t max, size_t *ret_nr);

#endif
