/* SPDX-License-Identifier: MIT */
/*
 * pagetide stats: ask a running `pagetide run` what it is doing.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"
#include "text.h"

enum { OPT_JSON, OPT_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_JSON] = { "json", NULL, "print the JSON document (schema pagetide.stats/1)", 0 },
};

static void tiers_print(const json_t *tiers)
{
	char used[TEXT_NUMBER_BYTES], capacity[TEXT_NUMBER_BYTES], peak[TEXT_NUMBER_BYTES];
	const json_t *tier;
	size_t i;

	json_array_foreach(tiers, i, tier) {
		uint64_t bound = document_number(tier, "capacity_bytes");

		printf("tier %-10s %s used of %s, %s at most, %" PRIu64 " pages\n",
		       json_string_value(json_object_get(tier, "name")),
		       text_size_format(used, document_number(tier, "used_bytes")),
		       bound ? text_size_format(capacity, bound) : "no bound",
		       text_size_format(peak, document_number(tier, "peak_bytes")), document_number(tier, "pages"));
	}
}

static void table_print(const json_t *stats)
{
	const json_t *faults = json_object_get(stats, "faults");
	const json_t *moves = json_object_get(stats, "moves");
	const json_t *ahead = json_object_get(stats, "read_ahead");
	const json_t *overhead = json_object_get(stats, "overhead");
	char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES], c[TEXT_NUMBER_BYTES];

	printf("program         %s, for %s\n", json_string_value(json_object_get(stats, "program")),
	       text_time_format(a, document_number(stats, "wall_ns")));
	tiers_print(json_object_get(stats, "tiers"));
	printf("managed         %s, %s at most; %" PRIu64 " pages stored\n",
	       text_size_format(a, document_number(stats, "managed_bytes")),
	       text_size_format(b, document_number(stats, "peak_managed_bytes")),
	       document_number(stats, "stored_pages"));
	printf("faults          %" PRIu64 ", p50 %s, p99 %s, longest %s\n", document_number(faults, "count"),
	       text_time_format(a, document_number(faults, "p50_ns")),
	       text_time_format(b, document_number(faults, "p99_ns")),
	       text_time_format(c, document_number(faults, "max_ns")));
	printf("moves           %" PRIu64 " pages asked for, %" PRIu64 " moved, %" PRIu64 " on their way\n",
	       document_number(moves, "requested"), document_number(moves, "moved"), document_number(moves, "pending"));
	document_counts_print("  failed", json_object_get(moves, "failed"));
	document_counts_print("  dropped", json_object_get(moves, "dropped"));
	printf("promoted        %" PRIu64 " pages; demoted %" PRIu64 "\n",
	       document_number(stats, "promoted_pages"), document_number(stats, "demoted_pages"));
	printf("read ahead      %" PRIu64 " pages, %" PRIu64 " of them used\n", document_number(ahead, "issued"),
	       document_number(ahead, "used"));
	printf("processor time  %s voluntary (%.2f%% of one core), %s forced\n",
	       text_time_format(a, document_number(overhead, "voluntary_cpu_ns")),
	       json_number_value(json_object_get(overhead, "share")) * 100,
	       text_time_format(b, document_number(overhead, "forced_cpu_ns")));
	document_counts_print("unmanaged", json_object_get(stats, "unmanaged"));
}

/* Words before and after the PID may both hold options. */
static int words_read(char **words, int *ret_pid, bool *ret_json)
{
	struct option_reader reader = { .verb = &verb_stats, .words = words };
	const char *pid = NULL;

	for (;;) {
		int option = option_next(&reader);

		if (option == OPTION_BAD)
			return EXIT_USAGE;
		if (option == OPT_JSON) {
			*ret_json = true;
		} else if (!reader.words[0]) {
			break;
		} else if (pid) {
			cli_say("one process at a time: leave out %s", reader.words[0]);
			return EXIT_USAGE;
		} else {
			pid = *reader.words++;
		}
	}
	if (!pid) {
		cli_say("whose statistics? write pagetide stats PID, PID of pagetide run");
		return EXIT_USAGE;
	}
	return cli_pid_read(pid, "stats PID, PID of pagetide run", ret_pid);
}

static int run(char **words)
{
	char message[TIDE_MESSAGE_MAX] = "";
	char *text = NULL;
	bool json = false;
	int error, pid, status = words_read(words, &pid, &json);

	if (status)
		return status;
	error = tide_stats_fetch(pid, &text, message);
	if (error)
		return cli_refused(error, message);
	return document_show(text, json, table_print);
}

const struct verb verb_stats = {
	.name = "stats",
	.usage = "PID [--json]",
	.help = "show what a running pagetide run is doing",
	.detail =
		"Show what a running pagetide run is doing. PID is its own process number, not that of\n"
		"the program it runs.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
