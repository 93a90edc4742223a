/* SPDX-License-Identifier: MIT */
#include "budget.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "node.h"
#include "nodeset.h"

#define BUDGET_MIN_BYTES (4u << 20)
/* The tool itself has 5 to 9 MiB of it, with a pool as small as that. */
#define MEMORY_MIN_BYTES (16u << 20)
#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define FORM "write --tier node:0,size=2G --tier node:1, and --tier lz4 behind them or not"

/* One node has the memory that is asked of it. */
static int node_look(const struct node_map *map, unsigned id, uint64_t bytes, const struct node **ret_node,
		     char ret_message[TIDE_MESSAGE_MAX])
{
	const struct node *node = node_find(map, id);
	char there[NODESET_TEXT_BYTES];

	if (!node || !node->has_memory) {
		MESSAGE("--tier node:%u: no such node with memory; here there is %.100s", id,
			nodeset_format(there, &map->memory));
		return -EINVAL;
	}
	if (bytes > node->total_bytes) {
		MESSAGE("--tier node:%u: it has only %lluM; give a smaller size", id,
			(unsigned long long)(node->total_bytes >> 20));
		return -EINVAL;
	}
	*ret_node = node;
	return 0;
}

static int nodes_look(const char *root, struct budget *b, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct node *fast, *slow;
	struct node_map map;

	if (!b->nr_nodes)
		return 0;
	int error = node_map_read(root, &map);
	if (error) {
		MESSAGE("cannot find out which nodes there are: %s", strerror(-error));
		return error;
	}
	error = node_look(&map, b->nodes[0], b->dram_bytes, &fast, ret_message);
	if (!error)
		error = node_look(&map, b->nodes[1], b->slow_bytes, &slow, ret_message);
	if (!error && fast->slow && !slow->slow) {
		MESSAGE("--tier node:%u: slower than node %u: name the fastest tier first (pagetide topo shows "
			"which)", b->nodes[0], b->nodes[1]);
		error = -EINVAL;
	}
	if (!error && !b->slow_bytes)
		b->slow_bytes = slow->total_bytes;
	node_map_free(&map);
	return error;
}

static int tiers_order_look(const struct tide_run_options *o, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct tide_tier_spec *t = o->tiers;
	unsigned nr[TIDE_TIER_KIND_COUNT] = { 0 }, nodes;

	for (size_t i = 0; i < o->nr_tiers; i++)
		nr[t[i].kind]++;
	nodes = nr[TIDE_TIER_NODE];
	if (!nodes)
		return 0;
	if (o->memory_bytes)
		MESSAGE("--memory and nodes both bound the memory: leave out --memory");
	else if (nr[TIDE_TIER_DRAM])
		MESSAGE("--tier dram and nodes both bound the memory: " FORM);
	else if (t[0].kind != TIDE_TIER_NODE || (nodes > 1 && t[1].kind != TIDE_TIER_NODE))
		MESSAGE("--tier lz4 comes before a node: name the fastest tier first: " FORM);
	else if (nodes != 2 || nr[TIDE_TIER_LZ4] > 1)
		MESSAGE("nodes come in twos, a fast one and a slow one: " FORM);
	else if (t[0].node == t[1].node)
		MESSAGE("--tier node:%u: a second time: name each tier once", t[1].node);
	else if (!t[0].size_bytes)
		MESSAGE("--tier node:%u: the fast node needs a size: write node:%u,size=2G", t[0].node, t[0].node);
	else if (t[1].size_bytes && t[1].size_bytes < BUDGET_MIN_BYTES)
		MESSAGE("--tier node:%u: a size of %llu bytes holds nothing; give at least 4M", t[1].node,
			(unsigned long long)t[1].size_bytes);
	else
		return 0;
	return -EINVAL;
}

int budget_look(const char *root, const struct tide_run_options *o, struct budget *ret_budget,
		char ret_message[TIDE_MESSAGE_MAX])
{
	struct budget b = { .memory_bytes = o->memory_bytes };

	int error = tiers_order_look(o, ret_message);
	if (error)
		return error;
	for (size_t i = 0; i < o->nr_tiers; i++) {
		const struct tide_tier_spec *t = &o->tiers[i];
		if (t->kind == TIDE_TIER_NODE) {
			b.nodes[b.nr_nodes++] = t->node;
			*(i ? &b.slow_bytes : &b.dram_bytes) = t->size_bytes;
		} else if (t->kind == TIDE_TIER_DRAM) {
			b.dram_bytes = t->size_bytes;
		} else {
			b.pool = true;
			b.pool_bytes = t->size_bytes;
			b.verify = t->verify;
		}
	}
	if (b.dram_bytes && b.dram_bytes < BUDGET_MIN_BYTES) {
		MESSAGE("a budget of %llu bytes cannot run a program; give at least 4M",
			(unsigned long long)b.dram_bytes);
		return -EINVAL;
	}
	if (b.pool_bytes && b.pool_bytes < BUDGET_MIN_BYTES) {
		MESSAGE("--tier lz4: a size of %llu bytes holds nothing; give at least 4M",
			(unsigned long long)b.pool_bytes);
		return -EINVAL;
	}
	if (b.memory_bytes && b.memory_bytes < MEMORY_MIN_BYTES) {
		MESSAGE("--memory: %llu bytes are too few for a program and the tool together; give at least 16M",
			(unsigned long long)b.memory_bytes);
		return -EINVAL;
	}
	error = nodes_look(root, &b, ret_message);
	if (!error)
		*ret_budget = b;
	return error;
}
