/* SPDX-License-Identifier: MIT */
#include "rings.h"

#include <errno.h>
#include <stdlib.h>

#include "array.h"
#include "clock.h"
#include "proc.h"

#define RINGS_BYTES (16u << 20) /* of all threads together, about */
#define RING_MOST_BYTES (2u << 20)
#define RING_LEAST_BYTES (64u << 10)
#define LOOK_NS UINT64_C(4000000000) /* at all, in case their news are lost */
#define LOOK_SHARE 100u              /* of the time may go into it: one part */

struct following {
	struct rings *rings;
	struct followed *owner;
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

static int ring_add(struct rings *rings, struct followed *owner, pid_t tid)
{
	struct thread_ring *list = array_room(rings->list, rings->nr, &rings->max, sizeof *list);

	if (!list)
		return -ENOMEM;
	rings->list = list;
	struct thread_ring *thread = &list[rings->nr];
	*thread = (struct thread_ring){ 0 };
	int error = rings->open(rings->arg, owner, tid, ring_bytes(rings->nr), &thread->ring);
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

int rings_follow(struct rings *rings, struct followed *owner)
{
	struct following following = { .rings = rings, .owner = owner };

	for (size_t i = 0; i < rings->nr; i++)
		if (rings->list[i].owner == owner)
			rings->list[i].seen = false;
	int error = proc_threads(owner->target.dir, thread_visit, &following);
	if (!error)
		error = following.error;
	for (size_t i = rings->nr; !error && i-- > 0;)
		if (rings->list[i].owner == owner && !rings->list[i].seen)
			ring_remove(rings, i);
	owner->look &= error != 0;
	return error;
}

void rings_note(struct followed *followed, const struct perf_record *record)
{
	/* That a thread began may be among what was lost. */
	followed->look |= record->kind == PERF_LOST ||
			  (record->kind == PERF_FORK && record->pid == (uint32_t)followed->target.pid);
}

/* Since it was asked for this last. */
static bool has_run(struct followed *followed)
{
	uint64_t before_ns = followed->ran_ns;

	followed->ran_ns = clock_process_cpu_ns(followed->target.pid);
	return !followed->ran_ns || followed->ran_ns != before_ns;
}

void rings_look(struct rings *rings, const struct targets *targets, uint64_t now_ns)
{
	bool all = now_ns - rings->looked_ns >= LOOK_NS, any = false;
	bool due = spend_due(&rings->spend, LOOK_SHARE, now_ns);
	uint64_t begin_ns = clock_thread_cpu_ns();

	if (all)
		rings->looked_ns = now_ns;
	/* A process that cannot be looked at has ended; its owner finds out and removes it. */
	for (struct target *target = targets->first; target; target = target->next) {
		struct followed *followed = (struct followed *)(void *)target;
		followed->look |= all && has_run(followed);
		any |= followed->look;
		if (followed->look && due)
			rings_follow(rings, followed);
	}
	if (any && due)
		rings->spend = (struct spend){ now_ns, clock_thread_cpu_ns() - begin_ns };
}

void rings_drop(struct rings *rings, const struct followed *owner)
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
