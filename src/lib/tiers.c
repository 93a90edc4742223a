/* SPDX-License-Identifier: MIT */
#include "tiers.h"

#include <errno.h>
#include <stdio.h>

#include "ask.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define RATE_PAGES_PER_S (UINT64_C(1) << 18)  /* 1 GiB/s */
#define LATENCY_FAST_NS 90u                   /* where the machine does not say */
#define LATENCY_SLOW_NS 250u

int tiers_choose(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct tide_attach_options *o = a->options;
	char text[NODESET_TEXT_BYTES];
	int error = 0;

	a->fast = a->map.fast;
	a->slow = a->map.slow;
	if (o->fast)
		error = ask_nodes("--fast", o->fast, &a->map, &a->fast, ret_message);
	if (!error && o->slow)
		error = ask_nodes("--slow", o->slow, &a->map, &a->slow, ret_message);
	if (error)
		return error;
	if (o->fast && !o->slow)
		a->slow = nodeset_minus(&a->map.memory, &a->fast);
	if (o->slow && !o->fast)
		a->fast = nodeset_minus(&a->map.memory, &a->slow);
	struct nodeset both = nodeset_and(&a->fast, &a->slow);
	if (!nodeset_empty(&both)) {
		MESSAGE("node %.80s is named both fast and slow: name it once",
			nodeset_format(text, &both));
		return -EINVAL;
	}
	if (nodeset_empty(&a->slow) || nodeset_empty(&a->fast)) {
		MESSAGE("no node is %s here (nodes with memory: %.80s): name them with --fast and --slow",
			nodeset_empty(&a->slow) ? "slow" : "fast", nodeset_format(text, &a->map.memory));
		return -ENODEV;
	}
	return 0;
}

void tiers_begin(struct attach *a)
{
	struct tiering_config config = {
		.nr_nodes = (uint32_t)a->map.nr,
		.rate_pages_per_s = RATE_PAGES_PER_S,
	};

	for (size_t i = 0; i < a->map.nr; i++) {
		const struct node *node = &a->map.nodes[i];
		struct tiering_node *ours = &config.nodes[i];

		ours->fast = nodeset_has(&a->fast, node->id);
		ours->slow = nodeset_has(&a->slow, node->id);
		ours->latency_ns = node->access.read_latency_ns;
		if (!ours->latency_ns)
			ours->latency_ns = ours->slow ? LATENCY_SLOW_NS : LATENCY_FAST_NS;
		for (size_t k = 0; k < a->map.nr; k++)
			ours->distance[k] = (uint16_t)node_distance(&a->map, node->id,
								    a->map.nodes[k].id);
	}
	tiering_init(&a->tiering, &config);
	shares_init(&a->shares, &a->tiering);
}
