/* SPDX-License-Identifier: MIT */
/*
 * One ring of the kernel's records (perf.h) for every thread of the processes that a sensor follows.
 * Threads come and go: rings_follow() opens a ring for new ones, and closes those of ended ones, whose
 * records have been read by then.
 */
#ifndef TIDE_RINGS_H
#define TIDE_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "perf.h"

struct thread_ring {
	struct perf_ring ring;
	void *owner;  /* whoever it was followed for */
	bool seen;    /* in the last look at the threads */
	uint64_t guest_address, guest_ns; /* for who reads it: what its guest touched last, and when */
};

struct rings {
	struct thread_ring *list;
	size_t nr, max;
	/* Open the ring of one thread. -ESRCH: it has ended. */
	int (*open)(void *arg, pid_t tid, size_t ring_bytes, struct perf_ring *ret_ring);
	void *arg;
};

/*
 * All threads that the process of this folder of /proc has now. The first ones get larger rings, so that all
 * together take about 16 MiB. -ESRCH: the process has ended; -ENOMEM; of `open`: the threads before it are
 * followed.
 */
int rings_follow(struct rings *rings, int dir, void *owner);
void rings_drop(struct rings *rings, const void *owner);
void rings_free(struct rings *rings);

#endif
