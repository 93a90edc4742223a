/* SPDX-License-Identifier: MIT */
/*
 * Kin: who descends from the processes that we look after, as the kernel tells each start of a process anywhere.
 *
 *     one of ours ──► helper ──► service            by its parent nobody finds the service any more: the helper
 *                     (ends)     (parent is 1)      ended between two looks, as of all that daemonize
 *
 * Each CPU has a ring in which it tells who started whom. Descendants wait here until they are asked for: most of what
 * is started ends before it is worth a look. A number that is given anew is no longer theirs.
 *
 * What was not told (records are lost, a CPU came, too many wait, we began) is in doubt: kin_doubt_ns() is when that
 * was last. Where such rings are not permitted everything is, always. One thread at a time.
 */
#ifndef TIDE_KIN_H
#define TIDE_KIN_H

#include "cpu_rings.h"

struct kin_start {
	pid_t pid, parent;
	uint64_t time_ns; /* CLOCK_MONOTONIC: just after it began */
};

struct kin {
	struct cpu_rings rings;
	uint64_t cpus_looked_ns, doubt_ns;
	struct kin_start *news; /* of this reading */
	size_t nr_news, max_news;
	struct kin_start *list; /* who waits, the earliest first */
	size_t nr, max;
};

void kin_begin(struct kin *kin, const char *root);
/* Read who was started. `ours`, asked for each in the order of time: whether its parent is looked after. */
void kin_read(struct kin *kin, bool (*ours)(void *arg, const struct kin_start *start), void *arg, uint64_t now_ns);
/* The next descendant that began before that time, which is not asked for again. -ENOENT: none. */
int kin_take(struct kin *kin, uint64_t before_ns, struct kin_start *ret_start);
/* UINT64_MAX: always. */
uint64_t kin_doubt_ns(const struct kin *kin);
void kin_end(struct kin *kin);

#endif
