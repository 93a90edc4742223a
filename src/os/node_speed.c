/* SPDX-License-Identifier: MIT */
/*
 * Fast or slow: the first of these that tells the nodes apart decides.
 *   1. the kernel's memory tiers: fast is what is at least as fast as the slowest tier with CPUs,
 *      the kernel's own rule, so that its hint faults come from the nodes that we call slow;
 *   2. a node without CPUs whose latency, from HMAT or its driver, is clearly above that of the
 *      nodes with CPUs, without more bandwidth (high-bandwidth memory has no CPUs either);
 *   3. a node without CPUs of which nothing is known.
 */
#include "node_inner.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#define SYS_TIER "/sys/devices/virtual/memory_tiering"
#define LATENCY_CLEARLY_PERCENT 125u

static DIR *tiers_open(const char *root)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s" SYS_TIER, root) < sizeof(path))
		return opendir(path);
	errno = ENAMETOOLONG;
	return NULL;
}

static bool tier_next(DIR *folder, unsigned int *ret_tier)
{
	struct dirent *entry;

	while ((entry = readdir(folder)))
		if (sscanf(entry->d_name, "memory_tier%u", ret_tier) == 1 && *ret_tier != NODE_NO_TIER)
			return true;
	return false;
}

int node_nr_tiers(const char *root, unsigned int *ret_nr)
{
	DIR *folder = tiers_open(root);
	unsigned int nr = 0, tier;

	if (!folder)
		return -errno;
	while (tier_next(folder, &tier))
		nr++;
	closedir(folder);
	*ret_nr = nr;
	return 0;
}

void node_tiers_read(const char *root, struct node_map *map)
{
	DIR *folder = tiers_open(root);
	unsigned int tier;

	while (folder && tier_next(folder, &tier)) {
		struct nodeset members;
		char list[128];

		snprintf(list, sizeof(list), SYS_TIER "/memory_tier%u/nodelist", tier);
		if (node_set_read(root, list, &members))
			continue;
		for (size_t i = 0; i < map->nr; i++)
			if (nodeset_has(&members, map->nodes[i].id))
				map->nodes[i].tier = tier;
	}
	if (folder)
		closedir(folder);
}

/* What the nodes with CPUs have: the slowest tier, the best latency and bandwidth. */
struct yardstick {
	uint32_t tier, latency_ns, bandwidth_mbs;
	bool tiers_differ;
	bool cpus;
};

static struct yardstick yardstick_find(const struct node_map *map)
{
	struct yardstick stick = { .tier = NODE_NO_TIER };
	uint32_t some_tier = NODE_NO_TIER;

	for (size_t i = 0; i < map->nr; i++) {
		const struct node *node = &map->nodes[i];

		if (node->has_memory && node->tier != NODE_NO_TIER) {
			stick.tiers_differ |= some_tier != NODE_NO_TIER && node->tier != some_tier;
			some_tier = node->tier;
		}
		if (!node->has_cpus || !node->has_memory)
			continue;
		stick.cpus = true;
		if (node->tier != NODE_NO_TIER && (stick.tier == NODE_NO_TIER || node->tier > stick.tier))
			stick.tier = node->tier;
		if (node->access.read_latency_ns &&
		    (!stick.latency_ns || node->access.read_latency_ns < stick.latency_ns))
			stick.latency_ns = node->access.read_latency_ns;
		if (node->access.read_bandwidth_mbs > stick.bandwidth_mbs)
			stick.bandwidth_mbs = node->access.read_bandwidth_mbs;
	}
	stick.tiers_differ &= stick.tier != NODE_NO_TIER;
	return stick;
}

#define WHY(...) snprintf(node->why, sizeof(node->why), __VA_ARGS__)

static void node_judge(struct node *node, const struct yardstick *stick)
{
	const struct node_access *access = &node->access;

	if (!node->has_memory) {
		WHY("it has no memory");
	} else if (stick->tiers_differ && node->tier != NODE_NO_TIER) {
		node->slow = node->tier > stick->tier;
		WHY(node->slow ? "memory tier %u is below tier %u of the nodes with CPUs" :
				 "memory tier %u; the slowest tier with CPUs is %u", node->tier, stick->tier);
	} else if (node->has_cpus || !stick->cpus) {
		WHY(node->has_cpus ? "it has CPUs" : "no node has both memory and CPUs");
	} else if (access->read_latency_ns && stick->latency_ns) {
		node->slow = (uint64_t)access->read_latency_ns * 100 >=
			     (uint64_t)stick->latency_ns * LATENCY_CLEARLY_PERCENT &&
			     access->read_bandwidth_mbs <= stick->bandwidth_mbs;
		WHY("no CPUs; latency %u ns, %u ns where CPUs are; bandwidth %u MB/s, there %u",
		    access->read_latency_ns, stick->latency_ns, access->read_bandwidth_mbs,
		    stick->bandwidth_mbs);
	} else {
		node->slow = true;
		WHY("it has no CPUs, and nothing says that it is fast");
	}
}

void node_map_judge(struct node_map *map)
{
	struct yardstick stick = yardstick_find(map);

	for (size_t i = 0; i < map->nr; i++) {
		struct node *node = &map->nodes[i];

		node_judge(node, &stick);
		if (!node->has_memory)
			continue;
		nodeset_add(&map->memory, node->id);
		nodeset_add(node->slow ? &map->slow : &map->fast, node->id);
	}
}
