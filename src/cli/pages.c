/* SPDX-License-Identifier: MIT */
/*
 * pagetide pages: on which nodes the memory of a process is.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"
#include "text.h"

#define USAGE "pages -p PID [--for TIME] [--control PATH] [--json]"

enum { OPT_PID, OPT_FOR, OPT_CONTROL, OPT_JSON, OPT_COUNT };

struct words {
	int pid;
	const char *control_path;
	uint64_t watch_ns;
	bool json;
};

static const struct option options[OPT_COUNT] = {
	[OPT_PID] = { "pid", "PID", "the process", 'p' },
	[OPT_FOR] = { "for", "TIME", "watch it for 10s, 1m first, to tell what is hot", 0 },
	[OPT_CONTROL] = { "control", "PATH", "whom to ask, if not at " TIDE_CONTROL_PATH, 0 },
	[OPT_JSON] = { "json", NULL, "print a JSON document (schema pagetide.pages/1)", 0 },
};

static void sizes_print(const char *title, const json_t *sizes)
{
	char text[TEXT_NUMBER_BYTES];
	const char *name, *gap = " ";
	json_t *size;

	printf("%s", title);
	json_object_foreach((json_t *)(uintptr_t)sizes, name, size) {
		printf("%s%s %s", gap, name,
		       text_size_format(text, (uint64_t)json_integer_value(size)));
		gap = ", ";
	}
	printf("%s\n", *gap == ' ' ? " nothing" : "");
}

/* Of what was looked at; memory that nobody could watch is in none of the three. */
static void heat_print(const json_t *root)
{
	const char *sensor = document_text(root, "heat");
	char hot[TEXT_NUMBER_BYTES], warm[TEXT_NUMBER_BYTES], cold[TEXT_NUMBER_BYTES];
	json_t *node;
	size_t i;

	if (!strcmp(sensor, "unknown")) {
		printf("\nhot, warm, cold: unknown: only who watches it for a while can tell "
		       "(--for 30s, with slow nodes)\n");
		return;
	}
	printf("\nnode       hot      warm      cold  as sensor %s saw it\n", sensor);
	json_array_foreach(json_object_get(root, "nodes"), i, node) {
		if (json_is_null(json_object_get(node, "hot_bytes")))
			continue;
		printf("%4" PRIu64 " %9s %9s %9s\n", document_number(node, "node"),
		       text_size_format(hot, document_number(node, "hot_bytes")),
		       text_size_format(warm, document_number(node, "warm_bytes")),
		       text_size_format(cold, document_number(node, "cold_bytes")));
	}
}

static void table_print(const json_t *root)
{
	const json_t *nodes = json_object_get(root, "nodes"), *refused, *node;
	char all[TEXT_NUMBER_BYTES], huge[TEXT_NUMBER_BYTES];
	size_t i;

	printf("process %" PRIu64 ": %s in memory\n\n", document_number(root, "pid"),
	       text_size_format(all, document_number(root, "bytes")));
	printf("node speed threads    memory      huge  kinds\n");
	json_array_foreach(nodes, i, node) {
		const char *speed = document_text(node, "speed");

		printf("%4" PRIu64 " %-5s %7" PRIu64 " %9s %9s ", document_number(node, "node"),
		       *speed ? speed : "-", document_number(node, "threads"),
		       text_size_format(all, document_number(node, "bytes")),
		       text_size_format(huge, document_number(node, "huge_bytes")));
		sizes_print("", json_object_get(node, "kinds"));
	}
	refused = json_object_get(root, "refused_bytes");
	if (json_object_size(refused))
		sizes_print("\nnot to be moved:", refused);
	heat_print(root);
}

static int words_read(char **words, struct words *ret_words)
{
	struct option_reader reader = { .verb = &verb_pages, .words = words };
	struct words read = { 0 };
	int option, error = 0;

	while (!error && (option = option_next(&reader)) != OPTION_END) {
		if (option == OPTION_BAD)
			return EXIT_USAGE;
		if (option == OPT_JSON)
			read.json = true;
		else if (option == OPT_CONTROL)
			read.control_path = reader.value;
		else if (option == OPT_FOR)
			error = cli_time_read(reader.value, &read.watch_ns);
		else
			error = cli_pid_read(reader.value, USAGE, &read.pid);
	}
	if (error)
		return error;
	if (reader.words[0] || !read.pid) {
		cli_say(reader.words[0] ? "pages takes no %s: write pagetide %s" :
					  "whose pages%s? write pagetide %s",
			reader.words[0] ? reader.words[0] : "", USAGE);
		return EXIT_USAGE;
	}
	*ret_words = read;
	return 0;
}

static int run(char **words)
{
	char message[TIDE_MESSAGE_MAX] = "";
	char *text = NULL;
	struct words read;
	int error, status = words_read(words, &read);

	if (status)
		return status;
	error = tide_pages_fetch(read.pid, read.control_path, read.watch_ns, &text, message);
	if (error)
		return cli_refused(error, message);
	return document_show(text, read.json, table_print);
}

const struct verb verb_pages = {
	.name = "pages",
	.usage = "-p PID [OPTIONS]",
	.help = "show on which nodes a process's memory is",
	.detail =
		"Show on which NUMA nodes the memory of a process is, of what kinds, how much of it in huge\n"
		"pages, how much of it may not be moved and why, and where its threads run. What is hot, warm and\n"
		"cold is known where attach or daemon looks after it, or when it is watched for some time.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
