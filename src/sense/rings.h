/* SPDX-License-Identifier: MIT */
/*
 * One ring of the kernel's records (perf.h) for every thread of the processes that a sensor follows.
 * Threads come and go: rings_follow() opens a ring for new ones, and closes those of ended ones, whose
 * records have been read by then. A record tells that one has come, unless it is lost: so all are looked at now and
 * then, too. However many there are, and come and go, at most a hundredth of the time goes into that.
 */
#ifndef TIDE_RINGS_H
#define TIDE_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "perf.h"
#include "spend.h"
#include "targets.h"

/* A process whose threads are followed. */
struct followed {
	struct target target;
	uint64_t ran_ns; /* its CPU clock when all were looked at last: who does not run starts no thread */
	bool look; /* threads came, or their news was lost */
};

struct thread_ring {
	struct perf_ring ring;
	struct followed *owner;
	bool seen;    /* in the last look at the threads */
	uint64_t guest_address, guest_ns; /* for who reads it: what its guest touched last, and when */
};

struct rings {
	struct thread_ring *list;
	size_t nr, max;
	uint64_t looked_ns; /* at all processes */
	struct spend spend; /* looking */
	/* Open the ring of one thread. -ESRCH: it has ended. */
	int (*open)(void *arg, struct followed *owner, pid_t tid, size_t ring_bytes, struct perf_ring *ret_ring);
	void *arg;
};

/*
 * All threads that a process has now. The first ones get larger rings, so that all together take about 16 MiB.
 * -ESRCH: the process has ended; -ENOMEM; of `open`: the threads before it are followed.
 */
int rings_follow(struct rings *rings, struct followed *owner);
/* What a record of its threads says of them. */
void rings_note(struct followed *followed, const struct perf_record *record);
/* After reading: follow again those of whom there is news, or all when it is time. `targets`: each begins with a
 * struct followed. */
void rings_look(struct rings *rings, const struct targets *targets, uint64_t now_ns);
void rings_drop(struct rings *rings, const struct followed *owner);
void rings_free(struct rings *rings);

#endif
