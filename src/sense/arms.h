/* SPDX-License-Identifier: MIT */
/*
 * A ring for every CPU that is online, in which the kernel tells which ranges become inaccessible there (perf.h).
 *
 * CPUs come and go. The events of one that goes end with it for good, also when it comes back: its ring is closed,
 * and it gets another when it is back. Which are online is looked up now and then; one that went and came back
 * between two looks shows by its events, whose time stands still.
 *
 * All that are online have one, or none has, from then on: a range that is not told would be waited for.
 * One thread at a time.
 */
#ifndef TIDE_ARMS_H
#define TIDE_ARMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "perf.h"

struct arms_ring {
	struct perf_ring ring;
	unsigned int cpu;
	uint64_t enabled_ns; /* as of the last look */
	bool alive;          /* then */
};

/* Begins zeroed but for root and probe_type. */
struct arms {
	const char *root;
	uint32_t probe_type;    /* of the kernel's probes; 0: there are none */
	struct arms_ring *list; /* by no order */
	size_t nr, max;
};

/*
 * Look which CPUs are there. What the rings hold of those that went is lost: read them before. Returns whether
 * any came or went; then the end of a range that was under way may never be told.
 */
bool arms_look(struct arms *arms);
void arms_close(struct arms *arms);

#endif
