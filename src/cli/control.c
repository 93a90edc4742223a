/* SPDX-License-Identifier: MIT */
/*
 * pagetide status, pause, resume, tune: ask a running `pagetide attach` or `pagetide daemon`.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"
#include "service.h"
#include "text.h"

enum { OPT_CONTROL, OPT_JSON, OPT_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_CONTROL] = { "control", "PATH", "its control socket, if not " TIDE_CONTROL_PATH, 0 },
	[OPT_JSON] = { "json", NULL, "print a JSON document (docs/control.md)", 0 },
};

/* ---- printing ---- */

static void moved_print(const char *what, const json_t *space)
{
	char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];

	printf("%s: promoted %s, demoted %s\n", what,
	       text_size_format(a, document_number(space, "promoted_bytes")),
	       text_size_format(b, document_number(space, "demoted_bytes")));
}

static void process_print(const json_t *space)
{
	char a[TEXT_NUMBER_BYTES];
	const json_t *key;
	size_t i;

	if (json_is_true(json_object_get(space, "ended")))
		return;
	printf("process %" PRIu64 " (%s), weight %" PRIu64, document_number(space, "pid"),
	       document_text(space, "name"), document_number(space, "weight"));
	if (document_number(space, "fast_min_bytes"))
		printf(", fast_min %s", text_size_format(a, document_number(space, "fast_min_bytes")));
	if (json_object_get(space, "fast_max_bytes"))
		printf(", fast_max %s", text_size_format(a, document_number(space, "fast_max_bytes")));
	json_array_foreach(json_object_get(space, "tuned"), i, key)
		printf("%s %s", i ? "," : "; tuned:", json_string_value(key));
	moved_print("", space);
	service_nodes_print(space);
}

/* What is no single process's, and who is not among them any more. */
static void others_print(const json_t *report)
{
	const json_t *gone = json_object_get(report, "gone");
	json_t *shared = service_shared_sum(report);
	char text[64];

	if (shared) {
		moved_print("shared memory and files", shared);
		service_nodes_print(shared);
		json_decref(shared);
	}
	snprintf(text, sizeof text, "processes that are gone (%" PRIu64 ")", document_number(gone, "processes"));
	if (document_number(gone, "processes"))
		moved_print(text, gone);
}

static void head_print(const json_t *root)
{
	const json_t *settings = json_object_get(root, "settings");
	uint64_t rate = document_number(settings, "rate_bytes_per_s");
	char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];

	printf("pagetide %" PRIu64 " is %s\n", document_number(root, "pid"), document_text(root, "state"));
	printf("rate %s a second, stall %s, cpu %.2f%%\n", rate ? text_size_format(a, rate) : "not bounded",
	       text_time_format(b, document_number(settings, "stall_ns")),
	       (double)document_number(settings, "cpu_ppm") / 10000);
}

static void status_print(const json_t *root)
{
	const json_t *report = json_object_get(root, "report"), *space;
	size_t i;

	head_print(root);
	json_array_foreach(json_object_get(report, "spaces"), i, space)
		process_print(space);
	others_print(report);
	service_sensor_print(report);
}

/* ---- asking ---- */

/* Options, then the words; *ret_words: behind the options. */
static int options_read(const struct verb *verb, char **list, const char **ret_path, bool *ret_json,
			char ***ret_words)
{
	struct option_reader reader = { .verb = verb, .words = list };
	int option;

	*ret_path = NULL;
	*ret_json = false;
	while ((option = option_next(&reader)) != OPTION_END) {
		if (option == OPT_CONTROL)
			*ret_path = reader.value;
		else if (option == OPT_JSON)
			*ret_json = true;
		else
			return EXIT_USAGE;
	}
	*ret_words = reader.words;
	return 0;
}

static int ask(const struct verb *verb, char **list, void (*print)(const json_t *root))
{
	char message[TIDE_MESSAGE_MAX] = "", *text = NULL, **words;
	const char *path;
	size_t nr_words = 0;
	bool json;
	int error, status = options_read(verb, list, &path, &json, &words);

	if (status)
		return status;
	while (words[nr_words])
		nr_words++;
	error = tide_control(path, verb->name, (const char *const *)words, nr_words, &text, message);
	if (error)
		return cli_refused(error, message);
	return document_show(text, json, print);
}

static int status_run(char **words) { return ask(&verb_status, words, status_print); }
static int pause_run(char **words) { return ask(&verb_pause, words, head_print); }
static int resume_run(char **words) { return ask(&verb_resume, words, head_print); }
static int tune_run(char **words) { return ask(&verb_tune, words, head_print); }

const struct verb verb_status = {
	.name = "status",
	.usage = "[OPTIONS]",
	.help = "show what a running attach or daemon is doing",
	.detail =
		"Show what a running pagetide attach or pagetide daemon is doing: whether it is paused, its\n"
		"settings, its processes and where their memory is. For its owner and root.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = status_run,
};

const struct verb verb_pause = {
	.name = "pause",
	.usage = "[OPTIONS]",
	.help = "let it neither scan nor move",
	.detail =
		"Let a running pagetide attach or pagetide daemon neither scan nor move, until pagetide resume.\n"
		"It keeps what it knows, and pages stay where they are.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = pause_run,
};

const struct verb verb_resume = {
	.name = "resume",
	.usage = "[OPTIONS]",
	.help = "go on after pause",
	.detail = "Let a paused pagetide attach or pagetide daemon go on.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = resume_run,
};

const struct verb verb_tune = {
	.name = "tune",
	.usage = "[OPTIONS] KEY=VALUE...",
	.help = "change settings while it runs",
	.detail =
		"Change settings of a running pagetide attach or pagetide daemon, all of them or none, until it\n"
		"ends; default (rate=default, weight=PID:default) takes one back:\n"
		"  rate=SIZE             promote at most so much a second; 0: no bound\n"
		"  stall=TIME            how long one call may hold a process up\n"
		"  cpu=PCT               touches that lead to nothing may cost so much of one core\n"
		"  weight=PID:N          how a process counts against others, 0 (leave alone) to 10\n"
		"  fast_min=PID:SIZE     fast memory of a process that others may not take\n"
		"  fast_max=PID:SIZE     the most fast memory it may have; none: no cap",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = tune_run,
};
