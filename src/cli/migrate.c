/* SPDX-License-Identifier: MIT */
/*
 * pagetide migrate: what a process has on some nodes, to others, now.
 */
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"
#include "text.h"

#define USAGE "migrate -p PID --from NODES --to NODES"

enum { OPT_PID, OPT_FROM, OPT_TO, OPT_DRY_RUN, OPT_JSON, OPT_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_PID] = { "pid", "PID", "the process", 'p' },
	[OPT_FROM] = { "from", "NODES", "where its memory is: 0-1,3, !2 (all but 2) or all", 0 },
	[OPT_TO] = { "to", "NODES", "where it should be; the nearest with room is taken", 0 },
	[OPT_DRY_RUN] = { "dry-run", NULL, "say what would move, move nothing", 0 },
	[OPT_JSON] = { "json", NULL, "print a JSON document (schema pagetide.migrate/1)", 0 },
};

/* ---- signals: the first one ends it with the report, the next one at once ---- */

static volatile sig_atomic_t signalled;

static void signal_note(int number)
{
	signalled = number;
}

static bool stop(void *arg)
{
	(void)arg;
	return signalled;
}

static void signals_take(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	const struct sigaction action = { .sa_handler = signal_note, .sa_flags = (int)SA_RESETHAND | SA_RESTART };
	struct sigaction old;

	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
}

/* ---- words and output ---- */

struct words {
	struct tide_migrate_options migrate;
	bool json;
};

/* One line on a terminal, written again when a hundredth more is done. */
static void progress_show(void *arg, uint64_t done_bytes, uint64_t sum_bytes)
{
	char done[TEXT_NUMBER_BYTES], sum[TEXT_NUMBER_BYTES];
	uint64_t percent = sum_bytes ? done_bytes / 1024 * 100 / (sum_bytes / 1024 + 1) : 0;
	uint64_t *shown = arg;

	if (percent + 1 == *shown)
		return;
	*shown = percent + 1;
	fprintf(stderr, "\rpagetide: %3" PRIu64 "%%, %s of %s  ", percent,
		text_size_format(done, done_bytes), text_size_format(sum, sum_bytes));
}

static uint64_t pages_print(const char *title, const json_t *root, const char *member)
{
	char text[TEXT_NUMBER_BYTES];
	uint64_t pages = document_number(json_object_get(root, "moves"), member);

	printf("%-15s %" PRIu64 " pages, %s\n", title, pages,
	       text_size_format(text, pages * document_number(root, "page_size")));
	return pages;
}

static void table_print(const json_t *root)
{
	const json_t *moves = json_object_get(root, "moves"), *stall = json_object_get(root, "stall_ns");
	char wall[TEXT_NUMBER_BYTES], p50[TEXT_NUMBER_BYTES], p99[TEXT_NUMBER_BYTES];
	char most[TEXT_NUMBER_BYTES];

	printf("process %" PRIu64 ", from nodes %s to %s%s\n", document_number(root, "pid"),
	       document_text(root, "from"), document_text(root, "to"),
	       json_is_true(json_object_get(root, "ended")) ? "; it ended meanwhile" :
	       json_is_true(json_object_get(root, "stopped")) ? "; stopped" : "");
	pages_print("asked for", root, "requested");
	if (json_is_true(json_object_get(root, "dry_run")))
		pages_print("would move", root, "would_move");
	else
		pages_print("moved", root, "moved");
	if (json_is_true(json_object_get(root, "stopped")))
		pages_print("not tried", root, "pending");
	document_counts_print("failed", json_object_get(moves, "failed"));
	document_counts_print("dropped", json_object_get(moves, "dropped"));
	if (!document_number(stall, "calls"))
		return;
	printf("%-15s %s in %" PRIu64 " calls; pages were away for %s (p50), %s (p99), %s at most\n", "took",
	       text_time_format(wall, document_number(root, "wall_ns")), document_number(stall, "calls"),
	       text_time_format(p50, document_number(stall, "p50")),
	       text_time_format(p99, document_number(stall, "p99")),
	       text_time_format(most, document_number(stall, "max")));
}

/* What a rule keeps where it is was not to move; the rest of the failed was. */
static bool all_moved(const json_t *root)
{
	static const char *const rules[] = { "shared_executable", "locked", "policy" };
	json_t *failed = json_object_get(json_object_get(root, "moves"), "failed"), *count;
	const char *name;

	json_object_foreach(failed, name, count) {
		bool rule = false;

		for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
			rule |= strcmp(name, rules[i]) == 0;
		if (!rule && json_integer_value(count))
			return false;
	}
	return true;
}

static int word_take(struct words *words, int option, const char *value)
{
	switch (option) {
	case OPT_PID:
		return cli_pid_read(value, USAGE, &words->migrate.pid);
	case OPT_FROM:
		words->migrate.from = value;
		return 0;
	case OPT_TO:
		words->migrate.to = value;
		return 0;
	case OPT_DRY_RUN:
		words->migrate.dry_run = true;
		return 0;
	case OPT_JSON:
		words->json = true;
		return 0;
	default:
		return EXIT_USAGE;
	}
}

static int words_read(char **given, struct words *words)
{
	struct option_reader reader = { .verb = &verb_migrate, .words = given };
	const struct tide_migrate_options *migrate = &words->migrate;
	int option, error = 0;

	while (!error && (option = option_next(&reader)) != OPTION_END)
		error = word_take(words, option, reader.value);
	if (error)
		return error;
	if (!reader.words[0] && migrate->pid && migrate->from && migrate->to)
		return 0;
	if (reader.words[0])
		cli_say("migrate takes no %s: write pagetide " USAGE, reader.words[0]);
	else
		cli_say("%s is missing: write pagetide " USAGE,
			!migrate->pid ? "--pid" : !migrate->from ? "--from" : "--to");
	return EXIT_USAGE;
}

static int run(char **given)
{
	uint64_t shown = 0;
	struct words words = { .migrate = { .size = sizeof(words.migrate), .progress_arg = &shown, .stop = stop } };
	char message[TIDE_MESSAGE_MAX] = "";
	char *text = NULL;
	int status = words_read(given, &words);

	if (status)
		return status;
	if (isatty(STDERR_FILENO) && !words.migrate.dry_run)
		words.migrate.progress = progress_show;
	signals_take();
	int error = tide_migrate(&words.migrate, &text, message);
	if (shown)
		fprintf(stderr, "\r%*s\r", 60, "");
	if (error)
		return cli_refused(error, message);
	if (words.json)
		puts(text);
	json_t *root = document_read(text);
	if (!root)
		return EXIT_OWN;
	if (!words.json)
		table_print(root);
	status = json_is_true(json_object_get(root, "stopped")) ? EXIT_SIGNAL + signalled :
		 all_moved(root) ? 0 : EXIT_UNABLE;
	json_decref(root);
	return cli_finish(status);
}

const struct verb verb_migrate = {
	.name = "migrate",
	.usage = "-p PID --from NODES --to NODES",
	.help = "move a process's memory between nodes",
	.detail =
		"Move what a process has on some NUMA nodes to others, at once and in batches, while it runs on.\n"
		"What is locked, what a memory policy or a cpuset keeps elsewhere, and code that others run too\n"
		"stay. Exits with 1 when other pages did not move. Ctrl-C ends it with what was moved so far.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
