/* SPDX-License-Identifier: MIT */
#include "cpu_rings.h"

#include <errno.h>
#include <stdlib.h>

#include "array.h"
#include "cpu.h"
#include "file.h"
#include "nodeset.h"

#define ONLINE "/sys/devices/system/cpu/online"
#define ONLINE_BYTES 4096          /* what the kernel writes of it at most */

struct coming {
	struct cpu_rings *rings;
	bool any;
	int error;
};

static struct cpu_ring *ring_of(const struct cpu_rings *rings, unsigned int cpu)
{
	for (size_t i = 0; i < rings->nr; i++)
		if (rings->list[i].cpu == cpu)
			return &rings->list[i];
	return NULL;
}

/* Of those that are online: whether their rings are still the kernel's. */
static void alive_visit(void *arg, unsigned int first, unsigned int last)
{
	const struct cpu_rings *rings = arg;

	for (unsigned int cpu = first; cpu <= last; cpu++) {
		struct cpu_ring *ring = ring_of(rings, cpu);
		if (!ring)
			continue;
		uint64_t enabled_ns = perf_ring_enabled_ns(&ring->ring);
		ring->alive = enabled_ns != ring->enabled_ns;
		ring->enabled_ns = enabled_ns;
	}
}

static int ring_add(struct cpu_rings *rings, unsigned int cpu)
{
	struct cpu_ring *list = array_room(rings->list, rings->nr, &rings->max, sizeof *list);

	if (!list)
		return -ENOMEM;
	rings->list = list;
	struct cpu_ring *ring = &list[rings->nr];
	*ring = (struct cpu_ring){ .cpu = cpu };
	int error = rings->open(rings->arg, cpu, &ring->ring);
	rings->nr += !error;
	return error;
}

static void coming_visit(void *arg, unsigned int first, unsigned int last)
{
	struct coming *coming = arg;

	for (unsigned int cpu = first; cpu <= last && !coming->error; cpu++) {
		if (ring_of(coming->rings, cpu))
			continue;
		int error = ring_add(coming->rings, cpu);
		coming->any |= !error;
		if (error != -ENODEV) /* it went just now */
			coming->error = error;
	}
}

bool cpu_rings_look(struct cpu_rings *rings)
{
	struct coming coming = { .rings = rings };
	char text[ONLINE_BYTES];
	bool gone = false;

	if (!rings->open || file_read(rings->root, text, sizeof text, ONLINE))
		return false;
	for (size_t i = 0; i < rings->nr; i++)
		rings->list[i].alive = false;
	nodeset_list(text, CPUS_MAX - 1, alive_visit, rings);
	for (size_t i = rings->nr; i-- > 0;) {
		if (rings->list[i].alive)
			continue;
		perf_ring_close(&rings->list[i].ring);
		rings->list[i] = rings->list[--rings->nr];
		gone = true;
	}
	nodeset_list(text, CPUS_MAX - 1, coming_visit, &coming);
	if (coming.error) {
		cpu_rings_close(rings);
		rings->open = NULL;
	}
	return gone || coming.any;
}

void cpu_rings_close(struct cpu_rings *rings)
{
	while (rings->nr)
		perf_ring_close(&rings->list[--rings->nr].ring);
	free(rings->list);
	rings->list = NULL;
	rings->max = 0;
}
