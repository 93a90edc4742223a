/* SPDX-License-Identifier: MIT */
#include "tiers.h"

#include <errno.h>
#include <stdio.h>

#include "ask.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define LOOK_NS UINT64_C(4000000000)
#define LATENCY_FAST_NS 90u                   /* where the machine does not say */
#define LATENCY_SLOW_NS 250u

/* What is named, of the nodes that have memory now; else as the machine says, or all the others. */
static void tiers_derive(struct attach *a)
{
	bool fast = !nodeset_empty(&a->named_fast), slow = !nodeset_empty(&a->named_slow);

	a->fast = a->map.fast;
	a->slow = a->map.slow;
	if (fast)
		a->fast = nodeset_and(&a->named_fast, &a->map.memory);
	if (slow)
		a->slow = nodeset_and(&a->named_slow, &a->map.memory);
	if (fast && !slow)
		a->slow = nodeset_minus(&a->map.memory, &a->named_fast);
	if (slow && !fast)
		a->fast = nodeset_minus(&a->map.memory, &a->named_slow);
}

int tiers_choose(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct config *c = &a->config;
	char text[NODESET_TEXT_BYTES];
	bool words = a->options->fast || a->options->slow; /* else they are keys of a file */
	int error = 0;

	if (c->fast)
		error = ask_nodes(words ? "--fast" : "fast", c->fast, &a->map, &a->named_fast, ret_message);
	if (!error && c->slow)
		error = ask_nodes(words ? "--slow" : "slow", c->slow, &a->map, &a->named_slow, ret_message);
	if (error)
		return error;
	tiers_derive(a);
	struct nodeset both = nodeset_and(&a->fast, &a->slow);
	if (!nodeset_empty(&both)) {
		MESSAGE("node %.80s is named both fast and slow: name it once",
			nodeset_format(text, &both));
		return -EINVAL;
	}
	if (nodeset_empty(&a->slow) || nodeset_empty(&a->fast)) {
		MESSAGE("no node is %s here (nodes with memory: %.80s): %s",
			nodeset_empty(&a->slow) ? "slow" : "fast", nodeset_format(text, &a->map.memory),
			nodeset_count(&a->map.memory) < 2 ? "with one there is nothing to move between" :
							    "name them with --fast and --slow, or in [tiers]");
		return -ENODEV;
	}
	return 0;
}

/* Each node's is that of its own CPUs: of one that is slow for being far, say, or beside memory of high bandwidth,
 * it is not what moving its pages saves. Who names it says that it is slow, as those are of which nothing is known. */
static uint32_t node_latency_ns(const struct attach *a, const struct node *node)
{
	uint32_t latency_ns = node->access.read_latency_ns ? node->access.read_latency_ns : LATENCY_FAST_NS;
	bool slow = nodeset_has(&a->slow, node->id);

	if (slow && (!node->access.read_latency_ns || !nodeset_has(&a->map.slow, node->id)))
		return (uint32_t)((uint64_t)latency_ns * LATENCY_SLOW_NS / LATENCY_FAST_NS);
	return latency_ns;
}

static void nodes_fill(const struct attach *a, struct tiering_node *nodes)
{
	for (size_t i = 0; i < a->map.nr; i++) {
		const struct node *node = &a->map.nodes[i];
		struct tiering_node *ours = &nodes[i];

		ours->fast = nodeset_has(&a->fast, node->id);
		ours->slow = nodeset_has(&a->slow, node->id);
		ours->latency_ns = node_latency_ns(a, node);
		for (size_t k = 0; k < a->map.nr; k++)
			ours->distance[k] = (uint16_t)node_distance(&a->map, node->id,
								    a->map.nodes[k].id);
	}
}

void tiers_begin(struct attach *a)
{
	struct tiering_config config = {
		.nr_nodes = (uint32_t)a->map.nr,
		.rate_pages_per_s = TIERS_RATE_PAGES_PER_S,
	};

	nodes_fill(a, config.nodes);
	tiering_init(&a->tiering, &config);
	shares_init(&a->shares, &a->tiering);
}

void tiers_look(struct attach *a, uint64_t now_ns)
{
	struct tiering_node nodes[TIERING_NODES_MAX] = { 0 };
	struct node_map map;

	if (now_ns - a->tiers_ns < LOOK_NS)
		return;
	a->tiers_ns = now_ns;
	if (node_map_renew("", &a->map, &map))
		return; /* it changes just now: the next time */
	if (map.nr > TIERING_NODES_MAX || node_map_same(&map, &a->map)) {
		node_map_free(&map);
		return;
	}
	node_map_free(&a->map);
	a->map = map;
	tiers_derive(a);
	nodes_fill(a, nodes);
	tiering_nodes_set(&a->tiering, nodes, (uint32_t)a->map.nr);
	/* What has room is read again at once. */
	a->room_ns = 0;
}
