/* SPDX-License-Identifier: MIT */
/*
 * pagetide topo: the machine's nodes, which of them are slow, and why.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"
#include "text.h"

enum { OPT_JSON, OPT_MEASURE, OPT_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_JSON] = { "json", NULL, "print a JSON document (schema pagetide.topo/1)", 0 },
	[OPT_MEASURE] = { "measure", NULL, "measure the time of a load, about a second for each pair", 0 },
};

/* A number, or a dash where the machine does not say. */
static void cell_print(int width, const json_t *value)
{
	char text[32] = "-";

	if (json_is_integer(value))
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(text, sizeof(text), "%.1f", json_real_value(value));
	printf(" %*s", width, text);
}

static void node_print(const json_t *node)
{
	const json_t *access = json_object_get(node, "access");
	char total[TEXT_NUMBER_BYTES], unused[TEXT_NUMBER_BYTES];
	const char *speed = document_text(node, "speed");

	printf("%4" PRIu64 " %-5s", document_number(node, "node"), *speed ? speed : "-");
	cell_print(5, json_object_get(node, "tier"));
	cell_print(5, json_object_get(node, "cpus"));
	printf(" %9s %9s", text_size_format(total, document_number(node, "total_bytes")),
	       text_size_format(unused, document_number(node, "free_bytes")));
	cell_print(10, json_object_get(access, "read_latency_ns"));
	cell_print(11, json_object_get(access, "read_bandwidth_mb_per_s"));
	printf("  %s\n", document_text(node, "why"));
}

/* One row for each node, one column for each key of its object `member`. */
static void matrix_print(const json_t *nodes, const char *member, const char *title)
{
	const json_t *node;
	json_t *value;
	const char *key;
	size_t i;

	printf("\n%s\n    ", title);
	json_object_foreach(json_object_get(json_array_get(nodes, 0), member), key, value)
		printf(" %7s", key);
	printf("\n");
	json_array_foreach(nodes, i, node) {
		printf("%4" PRIu64, document_number(node, "node"));
		json_object_foreach(json_object_get(node, member), key, value)
			cell_print(7, value);
		printf("\n");
	}
}

static void table_print(const json_t *root)
{
	const json_t *nodes = json_object_get(root, "nodes"), *node;
	size_t i;

	printf("node speed  tier  cpus    memory      free latency ns  MB/s (read)  why\n");
	json_array_foreach(nodes, i, node)
		node_print(node);
	printf("\nfast by default: %s; slow: %s\n", document_text(root, "fast"), document_text(root, "slow"));
	if (json_array_size(nodes) > 1)
		matrix_print(nodes, "distances", "distance from a node (row) to a node (column), 10 is near");
	if (json_object_get(json_array_get(nodes, 0), "measured_ns"))
		matrix_print(nodes, "measured_ns",
			     "measured: ns for a load from a node's memory (row) by a node's CPU (column)");
}

static int run(char **words)
{
	struct option_reader reader = { .verb = &verb_topo, .words = words };
	char message[TIDE_MESSAGE_MAX] = "";
	bool json = false, measure = false;
	char *text = NULL;
	int option, error;

	while ((option = option_next(&reader)) != OPTION_END) {
		if (option == OPTION_BAD)
			return EXIT_USAGE;
		json |= option == OPT_JSON;
		measure |= option == OPT_MEASURE;
	}
	if (reader.words[0]) {
		cli_say("topo takes no %s: write pagetide topo [--json] [--measure]", reader.words[0]);
		return EXIT_USAGE;
	}
	error = tide_topo_fetch(measure, &text, message);
	if (error)
		return cli_refused(error, message);
	return document_show(text, json, table_print);
}

const struct verb verb_topo = {
	.name = "topo",
	.usage = "[--json] [--measure]",
	.help = "show the machine's NUMA nodes: fast, slow, why",
	.detail =
		"Show the machine's NUMA nodes: memory, CPUs, distances, the kernel's memory tiers, what the\n"
		"firmware says of latency and bandwidth, which nodes count as slow, and why.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
