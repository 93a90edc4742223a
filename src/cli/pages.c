/* SPDX-License-Identifier: MIT */
/*
 * pagetide pages: on which nodes the memory of a process is.
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

#define USAGE "pages -p PID [--json]"

enum { OPT_PID, OPT_JSON, OPT_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_PID] = { "pid", "PID", "the process", 'p' },
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
	printf("\nhot, warm, cold: %s: only who watches the process over some time can tell\n",
	       document_text(root, "heat"));
}

static int words_read(char **words, int *ret_pid, bool *ret_json)
{
	struct option_reader reader = { .verb = &verb_pages, .words = words };
	int option, error = 0, pid = 0;

	while (!error && (option = option_next(&reader)) != OPTION_END) {
		if (option == OPTION_BAD)
			return EXIT_USAGE;
		if (option == OPT_JSON)
			*ret_json = true;
		else
			error = cli_pid_read(reader.value, USAGE, &pid);
	}
	if (error)
		return error;
	if (reader.words[0] || !pid) {
		cli_say(reader.words[0] ? "pages takes no %s: write pagetide %s" :
					  "whose pages%s? write pagetide %s",
			reader.words[0] ? reader.words[0] : "", USAGE);
		return EXIT_USAGE;
	}
	*ret_pid = pid;
	return 0;
}

static int run(char **words)
{
	char message[TIDE_MESSAGE_MAX] = "";
	char *text = NULL;
	bool json = false;
	int error, pid, status = words_read(words, &pid, &json);

	if (status)
		return status;
	error = tide_pages_fetch(pid, &text, message);
	if (error)
		return cli_refused(error, message);
	return document_show(text, json, table_print);
}

const struct verb verb_pages = {
	.name = "pages",
	.usage = "-p PID [--json]",
	.help = "show on which nodes a process's memory is",
	.detail =
		"Show on which NUMA nodes the memory of a process is, of what kinds, how much of it in huge\n"
		"pages, how much of it may not be moved and why, and where its threads run.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
