/* SPDX-License-Identifier: MIT */
#include "rings.h"

#include <errno.h>
#include <stdlib.h>

#include "proc.h"

#define RINGS_BYTES (16u << 20) /* of all threads together, about */
#define RING_MOST_BYTES (2u << 20)
#define RING_LEAST_BYTES (64u << 10)

struct following {
	struct rings *rings;
	void *owner;
	int error;
};

/* Of the ring for one more thread. */
static size_t ring_bytes(size_t nr_threads)
{
	size_t bytes = RING_MOST_BYTES;

	while (bytes > RING_LEAST_BYTES && bytes * (nr_threads + 1) > RINGS_BYTES)
		bytes /= 2;
	return bytes;
}

static int ring_add(struct rings *rings, void *owner, pid_t tid)
{
	if (rings->nr == rings->max) {
		size_t max = rings->max ? rings->max * 2 : 16;
		struct thread_ring *more = reallocarray(rings->list, max, sizeof *more);
		if (!more)
			return -ENOMEM;
		rings->list = more;
		rings->max = max;
	}
	struct thread_ring *thread = &rings->list[rings->nr];
	*thread = (struct thread_ring){ 0 };
	int error = rings->open(rings->arg, tid, ring_bytes(rings->nr), &thread->ring);
	if (error)
		return error == -ESRCH ? 0 : error; /* it ended meanwhile */
	thread->owner = owner;
	thread->seen = true;
	rings->nr++;
	return 0;
}

static void thread_visit(void *arg, pid_t tid, char state, int cpu)
{
	struct following *following = arg;
	struct rings *rings = following->rings;

	(void)state;
	(void)cpu;
	for (size_t i = 0; i < rings->nr; i++) {
		if (rings->list[i].ring.tid == tid && rings->list[i].owner == following->owner) {
			rings->list[i].seen = true;
			return;
		}
	}
	if (!following->error)
		following->error = ring_add(rings, following->owner, tid);
}

static void ring_remove(struct rings *rings, size_t i)
{
	perf_ring_close(&rings->list[i].ring);
	rings->list[i] = rings->list[--rings->nr];
}

int rings_follow(struct rings *rings, int dir, void *owner)
{
	struct following following = { .rings = rings, .owner = owner };

	for (size_t i = 0; i < rings->nr; i++)
		if (rings->list[i].owner == owner)
			rings->list[i].seen = false;
	int error = proc_threads(dir, thread_visit, &following);
	if (!error)
		error = following.error;
	for (size_t i = rings->nr; !error && i-- > 0;)
		if (rings->list[i].owner == owner && !rings->list[i].seen)
			ring_remove(rings, i);
	return error;
}

void rings_drop(struct rings *rings, const void *owner)
{
	for (size_t i = rings->nr; i-- > 0;)
		if (rings->list[i].owner == owner)
			ring_remove(rings, i);
}

void rings_free(struct rings *rings)
{
	while (rings->nr)
		ring_remove(rings, rings->nr - 1);
	free(rings->list);
	rings->list = NULL;
	rings->max = 0;
}
