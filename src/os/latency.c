/* SPDX-License-Identifier: MIT */
#include "latency.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "rng.h"

#define LINE_BYTES 64u
#define HUGE_BYTES (UINT64_C(2) << 20)
#define BYTES_MIN (UINT64_C(16) << 20)
#define BYTES_MAX (UINT64_C(1) << 30)
#define LOADS 200000u
#define WALKS 5

/* Twice the last cache: what a walk finds in the cache by chance is little then. */
static uint64_t walk_bytes(const struct node *node)
{
	char text[32];
	uint64_t bytes = BYTES_MIN;
	unsigned long kib;

	for (unsigned int index = 0; index < 8; index++)
		if (!file_read("", text, sizeof(text), "/sys/devices/system/cpu/cpu0/cache/index%u/size",
			       index) &&
		    sscanf(text, "%luK", &kib) == 1 && kib * UINT64_C(2048) > bytes)
			bytes = kib * UINT64_C(2048);
	if (bytes > BYTES_MAX)
		bytes = BYTES_MAX;
	if (bytes > node->free_bytes / 4)
		bytes = node->free_bytes / 4;
	return bytes & ~(HUGE_BYTES - 1);
}

static void *memory_on(unsigned int node, uint64_t bytes)
{
	struct nodeset set = { 0 };
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	nodeset_add(&set, node);
	/* The kernel takes one bit less than it is told. */
	if (syscall(SYS_mbind, memory, bytes, MPOL_BIND, set.bits, (unsigned long)NODESET_MAX + 1, 0)) {
		int error = errno;

		munmap(memory, bytes);
		errno = error;
		return NULL;
	}
	/* Fewer misses of the translation cache in what is measured. */
	madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

/* One ring through all lines in random order (Sattolo's shuffle): each line holds the next one's number. */
static void ring_lay(char *memory, uint64_t nr)
{
	uint64_t random = 0;

	for (uint64_t i = 0; i < nr; i++)
		*(uint64_t *)(void *)(memory + i * LINE_BYTES) = i;
	for (uint64_t i = nr - 1; i > 0; i--) {
		uint64_t *a = (void *)(memory + i * LINE_BYTES);
		uint64_t *b = (void *)(memory + rng_next(&random) % i * LINE_BYTES);
		uint64_t kept = *a;
		*a = *b;
		*b = kept;
	}
}

static uint64_t ring_walk(const char *memory)
{
	uint64_t best = UINT64_MAX, at = 0;

	for (int walk = 0; walk < WALKS; walk++) {
		uint64_t begin = clock_now_ns();

		for (unsigned int i = 0; i < LOADS; i++)
			at = *(const volatile uint64_t *)(const void *)(memory + at * LINE_BYTES);
		uint64_t ns = clock_now_ns() - begin;
		if (ns < best)
			best = ns;
	}
	return best;
}

static int memory_measure(const struct node *node, uint32_t *ret_tenths_ns)
{
	uint64_t bytes = walk_bytes(node);

	if (!bytes)
		return -ENOMEM;
	char *memory = memory_on(node->id, bytes);
	if (!memory)
		return errno == EINVAL ? -ENODEV : -errno;
	ring_lay(memory, bytes / LINE_BYTES);
	*ret_tenths_ns = (uint32_t)(ring_walk(memory) * 10 / LOADS);
	munmap(memory, bytes);
	return 0;
}

/* A CPU of the node that we may run on; -1: none. */
static int cpu_of(const struct node_map *map, unsigned int node, const cpu_set_t *allowed)
{
	for (size_t cpu = 0; cpu < map->nr_cpus && cpu < CPU_SETSIZE; cpu++)
		if (map->cpu_node[cpu] == node && CPU_ISSET(cpu, allowed))
			return (int)cpu;
	return -1;
}

int latency_measure(const struct node_map *map, unsigned int from, unsigned int to,
		    uint32_t *ret_tenths_ns)
{
	const struct node *node = node_find(map, to);
	cpu_set_t before, one;

	if (!node || !node->has_memory)
		return -ENODEV;
	if (from == NODE_NONE)
		return memory_measure(node, ret_tenths_ns);
	if (sched_getaffinity(0, sizeof(before), &before))
		return -errno;
	int cpu = cpu_of(map, from, &before);
	if (cpu < 0)
		return -ENODEV;
	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return -errno;
	int error = memory_measure(node, ret_tenths_ns);
	sched_setaffinity(0, sizeof(before), &before);
	return error;
}
