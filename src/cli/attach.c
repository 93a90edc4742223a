/* SPDX-License-Identifier: MIT */
/*
 * pagetide attach: look after running processes.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"
#include "service.h"
#include "text.h"

#define PIDS_MAX 256
#define WORDS_MAX 32

enum {
	OPT_PID,
	OPT_CGROUP,
	OPT_EXE,
	OPT_FAST,
	OPT_SLOW,
	OPT_TIERS,
	OPT_FOR,
	OPT_SERVICE,
	OPT_COUNT = OPT_SERVICE + SERVICE_COUNT
};

static const struct option options[OPT_COUNT] = {
	[OPT_PID] = { "pid", "PID[,...]", "the processes, and all they start", 'p' },
	[OPT_CGROUP] = { "cgroup", "PATH", "instead those in these control groups, and below", 0 },
	[OPT_EXE] = { "exe", "REGEX", "those whose program has a path like this", 0 },
	[OPT_FAST] = { "fast", "NODES", "where pages in use belong: 0-1,3, !2 or all", 0 },
	[OPT_SLOW] = { "slow", "NODES", "where the others may be", 0 },
	[OPT_TIERS] = { "tiers", "FILE", "a file that says so in its section [tiers]", 0 },
	[OPT_FOR] = { "for", "TIME", "stop after 30s, 5m, 1h; else when they end, or at Ctrl-C", 0 },
	SERVICE_OPTIONS(OPT_SERVICE),
};

struct words {
	struct service_words service;
	int pids[PIDS_MAX];
	const char *cgroups[WORDS_MAX], *exes[WORDS_MAX];
};

static void moves_print(const json_t *space)
{
	const json_t *moves = json_object_get(space, "moves");
	char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];

	printf("  promoted %s, demoted %s\n", text_size_format(a, document_number(space, "promoted_bytes")),
	       text_size_format(b, document_number(space, "demoted_bytes")));
	printf("  moves: %" PRIu64 " pages asked for, %" PRIu64 " moved\n", document_number(moves, "requested"),
	       document_number(moves, "moved"));
	document_counts_print("  failed", json_object_get(moves, "failed"));
	document_counts_print("  dropped", json_object_get(moves, "dropped"));
}

static void space_print(const json_t *space)
{
	const json_t *stall = json_object_get(space, "stall_ns");
	char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES], c[TEXT_NUMBER_BYTES];

	printf("process %" PRIu64 " (%s)%s\n", document_number(space, "pid"),
	       document_text(space, "name"),
	       json_is_true(json_object_get(space, "ended")) ? ", ended" : "");
	moves_print(space);
	if (document_number(stall, "calls"))
		printf("  a batch took %s (p50), %s (p99), %s at most\n",
		       text_time_format(a, document_number(stall, "p50")),
		       text_time_format(b, document_number(stall, "p99")),
		       text_time_format(c, document_number(stall, "max")));
	service_nodes_print(space);
}

/* What is no single process's, and who is not among them any more. */
static void others_print(const json_t *report)
{
	const json_t *gone = json_object_get(report, "gone");
	json_t *shared = service_shared_sum(report);

	if (shared) {
		printf("shared memory and files\n");
		moves_print(shared);
		service_nodes_print(shared);
		json_decref(shared);
	}
	if (document_number(gone, "processes")) {
		printf("processes that are gone (%" PRIu64 ")\n", document_number(gone, "processes"));
		moves_print(gone);
	}
}

static void report_print(const json_t *report)
{
	const json_t *space;
	size_t i;

	if (json_is_true(json_object_get(report, "dry_run")))
		printf("nothing was moved: this is what would have been\n");
	json_array_foreach(json_object_get(report, "spaces"), i, space)
		space_print(space);
	others_print(report);
	service_sensor_print(report);
}

/* "12,34" */
static int pids_read(const char *text, struct words *words)
{
	for (const char *at = text;; at++) {
		char *end;
		long pid;

		errno = 0;
		pid = strtol(at, &end, 10);
		if (errno || end == at || *at < '0' || *at > '9' || pid < 1 || pid > INT32_MAX ||
		    (*end && *end != ',')) {
			cli_say("--pid %s: not a list of process numbers: write 1234 or 1234,1250", text);
			return EXIT_USAGE;
		}
		if (words->service.attach.nr_pids == PIDS_MAX) {
			cli_say("--pid: more than %d processes: children need not be named", PIDS_MAX);
			return EXIT_USAGE;
		}
		words->pids[words->service.attach.nr_pids++] = (int)pid;
		at = end;
		if (!*at)
			return 0;
	}
}

static int word_add(const char *option, const char *word, const char **list, size_t *nr)
{
	if (!*word || *nr == WORDS_MAX) {
		cli_say(*word ? "--%s: more than %d: write a file for pagetide daemon"
			      : "--%s is empty: leave it out", option, WORDS_MAX);
		return EXIT_USAGE;
	}
	list[(*nr)++] = word;
	return 0;
}

/* What must not, or only, stand together. */
static int words_agree(const struct tide_attach_options *o)
{
	bool selects = o->nr_cgroups || o->nr_exes;

	if (!o->nr_pids && !selects)
		cli_say("which processes? write pagetide attach -p PID, --cgroup PATH or --exe REGEX");
	else if (o->nr_pids && selects)
		cli_say("--pid names the processes: leave out --cgroup and --exe, or --pid");
	else if (o->tiers_path && (o->fast || o->slow))
		cli_say("--tiers says what is fast and slow: leave out --fast and --slow, or --tiers");
	else
		return 0;
	return EXIT_USAGE;
}

static int option_take(struct words *words, int option, const char *value)
{
	struct tide_attach_options *attach = &words->service.attach;

	switch (option) {
	case OPT_PID:
		return pids_read(value, words);
	case OPT_CGROUP:
		return word_add("cgroup", value, words->cgroups, &attach->nr_cgroups);
	case OPT_EXE:
		return word_add("exe", value, words->exes, &attach->nr_exes);
	case OPT_TIERS:
		attach->tiers_path = value;
		return 0;
	case OPT_FAST:
		attach->fast = value;
		return 0;
	case OPT_SLOW:
		attach->slow = value;
		return 0;
	case OPT_FOR:
		return cli_time_read(value, &attach->duration_ns);
	default:
		return service_option_read(option - OPT_SERVICE, value, &words->service);
	}
}

static int words_read(char **list, struct words *words)
{
	struct option_reader reader = { .verb = &verb_attach, .words = list };
	int option, status = 0;

	while (!status && (option = option_next(&reader)) != OPTION_END)
		status = option_take(words, option, reader.value);
	if (!status && reader.words[0]) {
		cli_say("attach takes no %s: write pagetide attach -p PID", reader.words[0]);
		status = EXIT_USAGE;
	}
	return status ? status : words_agree(&words->service.attach);
}

static int run(char **list)
{
	struct words words = { .service.attach.size = sizeof(struct tide_attach_options) };
	struct tide_attach_options *attach = &words.service.attach;
	char message[TIDE_MESSAGE_MAX] = "";
	char *text = NULL;
	int error, status = words_read(list, &words);

	if (status)
		return status;
	attach->pids = words.pids;
	attach->cgroups = words.cgroups;
	attach->exes = words.exes;
	if (first_waits(&status))
		return status;
	error = tide_attach(attach, &text, message);
	if (error)
		return cli_refused(error, message);
	return document_show(text, words.service.json, report_print);
}

const struct verb verb_attach = {
	.name = "attach",
	.usage = "-p PID | --cgroup PATH | --exe REGEX",
	.help = "move pages in use of running processes to fast nodes",
	.detail =
		"Look after running processes: pages in use on slow nodes are moved to fast ones, and\n"
		"pages not in use make room for them. Processes that are named are looked after with their\n"
		"children; those that are selected by their group or program are found as they come.\n"
		"--cgroup and --exe may be repeated; given both, both must fit. Which nodes are fast the\n"
		"machine says, or --fast and --slow do. Ends after --for, when the processes have ended, or\n"
		"at Ctrl-C, with a report; pages stay where they are then, and the kernel's settings are put\n"
		"back. Needs root.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
