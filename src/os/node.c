/* SPDX-License-Identifier: MIT */
/* What the kernel says of each node; which of them are slow, and why, is in node_speed.c. */
#include "node_inner.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "file.h"

#define PAGE 4096u
#define SYS_NODE "/sys/devices/system/node"
#define LIST_BYTES 16384
#define DISTANCE_UNKNOWN 255u

static void list_add(void *arg, unsigned int first, unsigned int last)
{
	for (unsigned int node = first; node <= last; node++)
		nodeset_add(arg, node);
}

int node_set_read(const char *root, const char *path, struct nodeset *ret_set)
{
	char text[LIST_BYTES];
	int error = file_read(root, text, sizeof(text), "%s", path);

	if (error)
		return error;
	struct nodeset set = { 0 };
	if (nodeset_list(text, NODESET_MAX - 1, list_add, &set))
		return -EIO;
	*ret_set = set;
	return 0;
}

/* ---- one node -------------------------------------------------------------------------------- */

struct cpu_list {
	struct node_map *map;
	uint16_t node;
	uint32_t count;
	bool failed;
};

static void cpus_add(void *arg, unsigned int first, unsigned int last)
{
	struct cpu_list *list = arg;
	struct node_map *map = list->map;

	if (last >= map->nr_cpus) {
		uint16_t *more = realloc(map->cpu_node, (last + 1) * sizeof(*more));

		if (!more) {
			list->failed = true;
			return;
		}
		memset(more + map->nr_cpus, 0xff, (last + 1 - map->nr_cpus) * sizeof(*more));
		map->cpu_node = more;
		map->nr_cpus = last + 1;
	}
	for (unsigned int cpu = first; cpu <= last; cpu++)
		map->cpu_node[cpu] = list->node;
	list->count += last - first + 1;
}

static int cpus_set(struct node_map *map, struct node *node, const char *text)
{
	struct cpu_list list = { .map = map, .node = node->id };

	if (nodeset_list(text, CPUS_MAX - 1, cpus_add, &list))
		return -EIO;
	node->nr_cpus = list.count;
	node->has_cpus = list.count > 0;
	return list.failed ? -ENOMEM : 0;
}

/* "Node 0 MemTotal:  1234 kB", or without "Node 0" in /proc/meminfo. */
static int memory_set(struct node *node, const char *text)
{
	const char *total = strstr(text, "MemTotal:"), *free = strstr(text, "MemFree:");
	unsigned long long total_kib, free_kib;

	if (!total || !free || sscanf(total, "MemTotal: %llu kB", &total_kib) != 1 ||
	    sscanf(free, "MemFree: %llu kB", &free_kib) != 1 || total_kib > UINT64_MAX / 1024 ||
	    free_kib > total_kib)
		return -EIO;
	node->total_bytes = total_kib * 1024;
	node->free_bytes = free_kib * 1024;
	node->has_memory = total_kib > 0;
	return 0;
}

static uint32_t number_read(const char *root, unsigned int id, unsigned int class, const char *name)
{
	char text[64];
	unsigned long value;

	if (file_read(root, text, sizeof(text), SYS_NODE "/node%u/access%u/initiators/%s", id, class,
		      name) ||
	    sscanf(text, "%lu", &value) != 1 || value > UINT32_MAX)
		return 0;
	return (uint32_t)value;
}

static void initiators_read(const char *root, unsigned int id, unsigned int class,
			    struct nodeset *initiators)
{
	char path[PATH_MAX];
	struct dirent *entry;

	if ((size_t)snprintf(path, sizeof(path), "%s" SYS_NODE "/node%u/access%u/initiators", root, id,
			     class) >= sizeof(path))
		return;
	DIR *folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		unsigned int initiator;

		if (sscanf(entry->d_name, "node%u", &initiator) == 1)
			nodeset_add(initiators, initiator);
	}
	if (folder)
		closedir(folder);
}

/* Class 1 is access by the nearest CPUs, class 0 by the nearest of all initiators. */
static void access_read(const char *root, struct node *node)
{
	for (unsigned int class = 2; class-- > 0;) {
		struct node_access access = {
			.read_latency_ns = number_read(root, node->id, class, "read_latency"),
			.write_latency_ns = number_read(root, node->id, class, "write_latency"),
			.read_bandwidth_mbs = number_read(root, node->id, class, "read_bandwidth"),
			.write_bandwidth_mbs = number_read(root, node->id, class, "write_bandwidth"),
		};

		if (!access.read_latency_ns && !access.read_bandwidth_mbs)
			continue;
		initiators_read(root, node->id, class, &access.initiators);
		node->access = access;
		return;
	}
}

static int node_read(const char *root, struct node_map *map, struct node *node)
{
	char text[LIST_BYTES];
	int error = file_read(root, text, sizeof(text), SYS_NODE "/node%u/meminfo", node->id);

	if (!error)
		error = memory_set(node, text);
	if (!error)
		error = file_read(root, text, sizeof(text), SYS_NODE "/node%u/cpulist", node->id);
	if (!error)
		error = cpus_set(map, node, text);
	if (!error)
		access_read(root, node);
	return error;
}

/* One line of distances to all online nodes, in order. What cannot be read stays unknown. */
static void distances_read(const char *root, struct node_map *map, size_t row)
{
	char text[LIST_BYTES];
	const char *at = text;

	if (file_read(root, text, sizeof(text), SYS_NODE "/node%u/distance", map->nodes[row].id))
		return;
	for (size_t column = 0; column < map->nr; column++) {
		char *end;
		unsigned long distance = strtoul(at, &end, 10);

		if (end == at)
			return;
		at = end;
		map->distances[row * map->nr + column] = distance < DISTANCE_UNKNOWN ? (uint8_t)distance : 0;
	}
}

/* ---- the map --------------------------------------------------------------------------------- */

static int map_reserve(struct node_map *map, const struct nodeset *online)
{
	map->online = *online;
	map->nr = nodeset_count(online);
	map->nodes = calloc(map->nr, sizeof(*map->nodes));
	map->distances = calloc(map->nr, map->nr);
	if (!map->nodes || !map->distances)
		return -ENOMEM;
	struct node *node = map->nodes;
	for nodeset_each(id, online) {
		node->id = (uint16_t)id;
		node->tier = NODE_NO_TIER;
		node++;
	}
	return 0;
}

/* A kernel without NUMA: node 0 is the machine. */
static int machine_read(const char *root, struct node_map *map)
{
	struct nodeset online = { .bits = { 1 } };
	char text[LIST_BYTES];
	int error = map_reserve(map, &online);

	if (!error)
		error = file_read(root, text, sizeof(text), "/proc/meminfo");
	if (!error)
		error = memory_set(&map->nodes[0], text);
	if (!error)
		error = file_read(root, text, sizeof(text), "/sys/devices/system/cpu/online");
	if (!error)
		error = cpus_set(map, &map->nodes[0], text);
	return error;
}

static int nodes_all_read(const char *root, struct node_map *map)
{
	struct nodeset online;
	int error = node_set_read(root, SYS_NODE "/online", &online);

	if (error == -ENOENT)
		return machine_read(root, map);
	if (!error && nodeset_empty(&online))
		error = -EIO;
	if (!error)
		error = map_reserve(map, &online);
	for (size_t i = 0; !error && i < map->nr; i++) {
		error = node_read(root, map, &map->nodes[i]);
		distances_read(root, map, i);
	}
	if (!error)
		node_tiers_read(root, map);
	return error;
}

int node_map_read(const char *root, struct node_map *ret_map)
{
	struct node_map map = { 0 };
	int error = nodes_all_read(root, &map);

	if (error) {
		node_map_free(&map);
		return error == -ENOMEM ? -ENOMEM : -EIO;
	}
	node_map_judge(&map);
	*ret_map = map;
	return 0;
}

void node_map_free(struct node_map *map)
{
	free(map->nodes);
	free(map->distances);
	free(map->cpu_node);
	*map = (struct node_map){ 0 };
}

/* The nodes of `map` in the places that they had in `before`. */
static int map_arrange(const struct node_map *before, const struct node_map *map, struct node_map *ret_map)
{
	struct node_map next = *map;
	size_t room = before->nr + map->nr;

	next.nr = before->nr;
	next.nodes = calloc(room, sizeof(*next.nodes));
	next.distances = calloc(room, room);
	if (!next.nodes || !next.distances) {
		free(next.nodes);
		free(next.distances);
		return -ENOMEM;
	}
	for (size_t i = 0; i < before->nr; i++) {
		const struct node *node = node_find(map, before->nodes[i].id);

		next.nodes[i] = node ? *node : (struct node){
			.id = before->nodes[i].id,
			.tier = NODE_NO_TIER,
			.why = "it has gone",
		};
	}
	for (size_t i = 0; i < map->nr; i++)
		if (!node_find(before, map->nodes[i].id))
			next.nodes[next.nr++] = map->nodes[i];
	for (size_t row = 0; row < next.nr; row++) {
		for (size_t column = 0; column < next.nr; column++) {
			unsigned int distance = node_distance(map, next.nodes[row].id,
							      next.nodes[column].id);
			next.distances[row * next.nr + column] =
				(uint8_t)(distance == DISTANCE_UNKNOWN ? 0 : distance);
		}
	}
	*ret_map = next;
	return 0;
}

int node_map_renew(const char *root, const struct node_map *before, struct node_map *ret_map)
{
	struct node_map map;
	int error = node_map_read(root, &map);

	if (error)
		return error;
	error = map_arrange(before, &map, ret_map);
	/* What remains of the old arrangement. */
	if (error)
		free(map.cpu_node);
	free(map.nodes);
	free(map.distances);
	return error;
}

static bool node_same(const struct node *one, const struct node *other)
{
	const struct node_access *a = &one->access, *b = &other->access;

	return one->id == other->id && one->has_memory == other->has_memory && one->slow == other->slow &&
	       one->tier == other->tier && a->read_latency_ns == b->read_latency_ns &&
	       a->read_bandwidth_mbs == b->read_bandwidth_mbs;
}

bool node_map_same(const struct node_map *one, const struct node_map *other)
{
	if (one->nr != other->nr || one->nr_cpus != other->nr_cpus ||
	    memcmp(one->distances, other->distances, one->nr * one->nr) != 0 ||
	    (one->nr_cpus && memcmp(one->cpu_node, other->cpu_node,
				    one->nr_cpus * sizeof(*one->cpu_node)) != 0))
		return false;
	for (size_t i = 0; i < one->nr; i++)
		if (!node_same(&one->nodes[i], &other->nodes[i]))
			return false;
	return memcmp(&one->online, &other->online, sizeof(one->online)) == 0;
}

const struct node *node_find(const struct node_map *map, unsigned int id)
{
	for (size_t i = 0; i < map->nr; i++)
		if (map->nodes[i].id == id)
			return &map->nodes[i];
	return NULL;
}

unsigned int node_distance(const struct node_map *map, unsigned int from, unsigned int to)
{
	const struct node *a = node_find(map, from), *b = node_find(map, to);

	if (!a || !b)
		return DISTANCE_UNKNOWN;
	uint8_t distance = map->distances[(size_t)(a - map->nodes) * map->nr + (size_t)(b - map->nodes)];
	return distance ? distance : DISTANCE_UNKNOWN;
}

uint16_t node_of_cpu(const struct node_map *map, int cpu)
{
	return cpu >= 0 && (size_t)cpu < map->nr_cpus ? map->cpu_node[cpu] : NODE_NONE;
}

static bool node_nearer(const struct node_map *map, unsigned int from, const struct node *a,
			const struct node *b)
{
	unsigned int distance_a = node_distance(map, from, a->id);
	unsigned int distance_b = node_distance(map, from, b->id);

	if (distance_a != distance_b)
		return distance_a < distance_b;
	if (a->access.read_latency_ns != b->access.read_latency_ns)
		return a->access.read_latency_ns < b->access.read_latency_ns;
	return a->id < b->id;
}

size_t node_order(const struct node_map *map, unsigned int from, const struct nodeset *set,
		  uint16_t *ret_ids, size_t max)
{
	size_t nr = 0;

	for (size_t i = 0; i < map->nr; i++) {
		const struct node *node = &map->nodes[i];
		size_t at = nr;

		if (!nodeset_has(set, node->id))
			continue;
		while (at > 0 && node_nearer(map, from, node, node_find(map, ret_ids[at - 1])))
			at--;
		if (at == max)
			continue;
		nr += nr < max;
		memmove(&ret_ids[at + 1], &ret_ids[at], (nr - 1 - at) * sizeof(*ret_ids));
		ret_ids[at] = node->id;
	}
	return nr;
}

/* ---- room ------------------------------------------------------------------------------------ */

int node_room_read(const char *root, unsigned int id, struct node_room *ret_room)
{
	static const struct {
		const char *name;
		size_t field;
	} fields[] = {
		{ "pages free", offsetof(struct node_room, free_bytes) },
		{ "nr_inactive_file", offsetof(struct node_room, file_bytes) },
		{ "nr_active_file", offsetof(struct node_room, file_bytes) },
		{ "min", offsetof(struct node_room, min_bytes) },
		{ "low", offsetof(struct node_room, low_bytes) },
		{ "high", offsetof(struct node_room, high_bytes) },
		{ "promo", offsetof(struct node_room, promo_bytes) },
		{ "managed", offsetof(struct node_room, total_bytes) },
	};
	struct node_room room = { 0 };
	bool ours = false, found = false;
	char *line = NULL;
	size_t space = 0;
	FILE *file = file_below(root, "/proc/zoneinfo");

	if (!file)
		return -errno;
	while (getline(&line, &space, file) > 0) {
		unsigned int node;
		const char *at = line + strspn(line, " ");

		if (*line == 'N' && sscanf(line, "Node %u, zone", &node) == 1) {
			ours = node == id;
			found |= ours;
		}
		for (size_t i = 0; ours && i < sizeof(fields) / sizeof(*fields); i++) {
			size_t length = strlen(fields[i].name);
			unsigned long long pages;

			if (strncmp(at, fields[i].name, length) == 0 && at[length] == ' ' &&
			    sscanf(at + length, "%llu", &pages) == 1 && pages < UINT64_MAX / PAGE)
				*(uint64_t *)(void *)((char *)&room + fields[i].field) += pages * PAGE;
		}
	}
	free(line);
	fclose(file);
	if (!found)
		return -ENODEV;
	*ret_room = room;
	return 0;
}
