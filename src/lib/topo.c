/* SPDX-License-Identifier: MIT */
/*
 * tide_topo_fetch(): the map of the nodes as a document.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "ask.h"
#include "json.h"
#include "latency.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)

/* A number, or null where it is not known. */
static json_t *known(uint64_t value, uint64_t unknown)
{
	return value == unknown ? json_null() : json_integer((json_int_t)value);
}

static void key_set(json_t *object, unsigned int id, json_t *value)
{
	char key[16];

	snprintf(key, sizeof(key), "%u", id);
	json_object_set_new(object, key, value);
}

static json_t *access_json(const struct node_access *access)
{
	char initiators[NODESET_TEXT_BYTES];

	return json_pack("{s:o, s:o, s:o, s:o, s:s}",
			 "read_latency_ns", known(access->read_latency_ns, 0),
			 "write_latency_ns", known(access->write_latency_ns, 0),
			 "read_bandwidth_mb_per_s", known(access->read_bandwidth_mbs, 0),
			 "write_bandwidth_mb_per_s", known(access->write_bandwidth_mbs, 0),
			 "initiators", nodeset_format(initiators, &access->initiators));
}

static json_t *distances_json(const struct node_map *map, unsigned int from)
{
	json_t *distances = json_object();

	for (size_t i = 0; i < map->nr; i++) {
		unsigned int to = map->nodes[i].id;

		key_set(distances, to, known(node_distance(map, from, to), 255));
	}
	return distances;
}

/* From each node with CPUs; null where it cannot be measured. */
static json_t *measured_json(const struct node_map *map, const struct node *to)
{
	json_t *measured = json_object();

	for (size_t i = 0; i < map->nr; i++) {
		uint32_t tenths;

		if (!map->nodes[i].has_cpus || !to->has_memory)
			continue;
		int error = latency_measure(map, map->nodes[i].id, to->id, &tenths);
		key_set(measured, map->nodes[i].id, error ? json_null() : json_real(tenths / 10.0));
	}
	return measured;
}

static json_t *node_json(const struct node_map *map, const struct node *node, bool measure)
{
	json_t *one = json_pack("{s:i, s:s?, s:s, s:o, s:i, s:I, s:I, s:o, s:o}",
				"node", (int)node->id,
				"speed", !node->has_memory ? NULL : node->slow ? "slow" : "fast",
				"why", node->why,
				"tier", known(node->tier, NODE_NO_TIER),
				"cpus", (int)node->nr_cpus,
				"total_bytes", (json_int_t)node->total_bytes,
				"free_bytes", (json_int_t)node->free_bytes,
				"distances", distances_json(map, node->id),
				"access", access_json(&node->access));

	if (measure && one)
		json_object_set_new(one, "measured_ns", measured_json(map, node));
	return one;
}

int tide_topo_fetch(bool measure, char **ret_json, char ret_message[TIDE_MESSAGE_MAX])
{
	char fast[NODESET_TEXT_BYTES], slow[NODESET_TEXT_BYTES];
	struct node_map map;
	int error = ask_map(&map, ret_message);

	if (error)
		return error;
	json_t *nodes = json_array();
	for (size_t i = 0; i < map.nr; i++)
		json_array_append_new(nodes, node_json(&map, &map.nodes[i], measure));
	json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:o}", "schema", "pagetide.topo/1",
				 "version", TIDE_VERSION, "fast", nodeset_format(fast, &map.fast),
				 "slow", nodeset_format(slow, &map.slow), "nodes", nodes);
	char *text = document_write(root);

	node_map_free(&map);
	if (!text) {
		MESSAGE("out of memory");
		return -ENOMEM;
	}
	*ret_json = text;
	return 0;
}
