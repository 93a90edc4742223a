/* SPDX-License-Identifier: MIT */
#include "arms.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu.h"
#include "file.h"
#include "nodeset.h"

#define ONLINE "/sys/devices/system/cpu/online"
#define ONLINE_BYTES 4096          /* what the kernel writes of it at most */
#define RING_BYTES 65536u          /* some hundred ranges */

struct coming {
	struct arms *arms;
	bool any;
	int error;
};

static struct arms_ring *ring_of(const struct arms *arms, unsigned int cpu)
{
	for (size_t i = 0; i < arms->nr; i++)
		if (arms->list[i].cpu == cpu)
			return &arms->list[i];
	return NULL;
}

/* Of those that are online: whether their rings are still the kernel's. */
static void alive_visit(void *arg, unsigned int first, unsigned int last)
{
	const struct arms *arms = arg;

	for (unsigned int cpu = first; cpu <= last; cpu++) {
		struct arms_ring *ring = ring_of(arms, cpu);
		if (!ring)
			continue;
		uint64_t enabled_ns = perf_ring_enabled_ns(&ring->ring);
		ring->alive = enabled_ns != ring->enabled_ns;
		ring->enabled_ns = enabled_ns;
	}
}

static int ring_add(struct arms *arms, unsigned int cpu)
{
	if (arms->nr == arms->max) {
		size_t max = arms->max ? arms->max * 2 : 16;
		struct arms_ring *more = reallocarray(arms->list, max, sizeof *more);
		if (!more)
			return -ENOMEM;
		arms->list = more;
		arms->max = max;
	}
	struct arms_ring *ring = &arms->list[arms->nr];
	*ring = (struct arms_ring){ .cpu = cpu };
	int error = perf_ring_open_arms(cpu, RING_BYTES, arms->probe_type, &ring->ring);
	arms->nr += !error;
	return error;
}

static void coming_visit(void *arg, unsigned int first, unsigned int last)
{
	struct coming *coming = arg;

	for (unsigned int cpu = first; cpu <= last && !coming->error; cpu++) {
		if (ring_of(coming->arms, cpu))
			continue;
		int error = ring_add(coming->arms, cpu);
		coming->any |= !error;
		if (error != -ENODEV) /* it went just now */
			coming->error = error;
	}
}

bool arms_look(struct arms *arms)
{
	struct coming coming = { .arms = arms };
	char text[ONLINE_BYTES];
	bool gone = false;

	if (!arms->probe_type || file_read(arms->root, text, sizeof text, ONLINE))
		return false;
	for (size_t i = 0; i < arms->nr; i++)
		arms->list[i].alive = false;
	nodeset_list(text, CPUS_MAX - 1, alive_visit, arms);
	for (size_t i = arms->nr; i-- > 0;) {
		if (arms->list[i].alive)
			continue;
		perf_ring_close(&arms->list[i].ring);
		arms->list[i] = arms->list[--arms->nr];
		gone = true;
	}
	nodeset_list(text, CPUS_MAX - 1, coming_visit, &coming);
	if (coming.error) {
		arms_close(arms);
		arms->probe_type = 0;
	}
	return gone || coming.any;
}

void arms_close(struct arms *arms)
{
	while (arms->nr)
		perf_ring_close(&arms->list[--arms->nr].ring);
	free(arms->list);
	arms->list = NULL;
	arms->max = 0;
}
