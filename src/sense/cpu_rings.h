/* SPDX-License-Identifier: MIT */
/*
 * One ring of the kernel's records (perf.h) for every CPU that is online, of all that runs there.
 *
 * CPUs come and go. The events of one that goes end with it for good, also when it comes back: its ring is closed,
 * and it gets another when it is back. Which are online is looked up now and then; one that went and came back
 * between two looks shows by its events, whose time stands still.
 *
 * All that are online have one, or none has, from then on: who reads them relies on having everything.
 * One thread at a time.
 */
#ifndef TIDE_CPU_RINGS_H
#define TIDE_CPU_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "perf.h"

struct cpu_ring {
	struct perf_ring ring;
	unsigned int cpu;
	uint64_t enabled_ns; /* as of the last look */
	bool alive;          /* then */
};

/* Begins zeroed but for root, open and arg. */
struct cpu_rings {
	const char *root;
	/* Open the ring of a CPU. -ENODEV: it is not online. NULL: there are none. */
	int (*open)(void *arg, unsigned int cpu, struct perf_ring *ret_ring);
	void *arg;
	struct cpu_ring *list; /* by no order */
	size_t nr, max;
};

/* Look which CPUs are there. What the rings hold of those that went is lost: read them before. Returns whether any
 * came or went: then something may never be told. */
bool cpu_rings_look(struct cpu_rings *rings);
void cpu_rings_close(struct cpu_rings *rings);

#endif
