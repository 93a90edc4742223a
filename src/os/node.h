/* SPDX-License-Identifier: MIT */
/*
 * The NUMA nodes of the machine: what they have, how far they are from each other, which of them
 * are slow, and why we think so.
 *
 * Read from sysfs and /proc below a root folder ("" for the running system), so recorded trees test
 * it. A map is a picture: nodes come and go (CXL memory onlined, offlined), node_map_renew() takes the next.
 * A map never changes; all calls are thread-safe. 0 or -errno; results on success only.
 */
#ifndef TIDE_NODE_H
#define TIDE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nodeset.h"

#define NODE_WHY_BYTES 160
#define NODE_NO_TIER UINT32_MAX

/* As the firmware (HMAT) or a driver says it, from the best initiator. 0: not known. */
struct node_access {
	uint32_t read_latency_ns, write_latency_ns;
	uint32_t read_bandwidth_mbs, write_bandwidth_mbs; /* MB/s */
	struct nodeset initiators;
};

struct node {
	uint16_t id;
	bool has_memory, has_cpus;
	bool slow;                 /* by default; users may say otherwise */
	char why[NODE_WHY_BYTES];  /* one sentence: why it is fast or slow */
	uint32_t tier;             /* the kernel's memory tier, faster is lower; NODE_NO_TIER */
	uint32_t nr_cpus;
	uint64_t total_bytes, free_bytes; /* when the map was read */
	struct node_access access;
};

struct node_map {
	size_t nr;
	struct node *nodes;        /* [nr], by id: every online node; see node_map_renew() */
	uint8_t *distances;        /* [nr][nr] in the order of `nodes`; 10 is a node to itself; 0 unknown */
	uint16_t *cpu_node;        /* [nr_cpus]: the node of each CPU, NODE_NONE when it has none */
	size_t nr_cpus;
	struct nodeset online;     /* all of `nodes` but those that went */
	struct nodeset memory;     /* those that have memory */
	struct nodeset fast, slow; /* by default; together: memory */
};

/*
 * Read the map. A kernel without NUMA gives one node, 0, with all memory and CPUs.
 * -EIO: what is there cannot be understood; -ENOMEM.
 */
int node_map_read(const char *root, struct node_map *ret_map);
void node_map_free(struct node_map *map);

/* How many tiers of memory the kernel has: with two, some node is slow to it. -ENOENT: it knows of none. */
int node_nr_tiers(const char *root, unsigned int *ret_nr);

/*
 * Read the map again. Each node of `before` keeps its place in `nodes`, also when it went: then it has
 * neither memory nor CPUs. New ones come behind. As node_map_read().
 */
int node_map_renew(const char *root, const struct node_map *before, struct node_map *ret_map);
/* Whether nodes, their CPUs, speeds and distances are the same. How much memory they have is not looked
 * at, only whether they have any. */
bool node_map_same(const struct node_map *one, const struct node_map *other);

/* NULL: there is no such node. */
const struct node *node_find(const struct node_map *map, unsigned int id);
/* 255 when one of them is unknown. */
unsigned int node_distance(const struct node_map *map, unsigned int from, unsigned int to);
/* The node of a CPU; NODE_NONE. */
uint16_t node_of_cpu(const struct node_map *map, int cpu);
/* The nodes of `set` nearest to `from` first, equally near ones by lower latency, then by number. */
size_t node_order(const struct node_map *map, unsigned int from, const struct nodeset *set,
		  uint16_t *ret_ids, size_t max);

/* Memory of one node now, in bytes. Its watermarks are the sums over its zones. */
struct node_room {
	uint64_t total_bytes, free_bytes;
	uint64_t file_bytes;  /* file cache, in use or not */
	uint64_t min_bytes, low_bytes, high_bytes;
	uint64_t promo_bytes; /* 0: this kernel has none */
};
/* -ENODEV: no such node now. About 50 us. */
int node_room_read(const char *root, unsigned int id, struct node_room *ret_room);

#endif
