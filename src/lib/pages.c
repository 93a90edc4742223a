/* SPDX-License-Identifier: MIT */
/*
 * tide_pages_fetch(): where the memory of a process is, as a document.
 *
 * Nobody who only looks knows what is hot: those members are null until something that watches the
 * process answers for it.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask.h"
#include "json.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define PAGE_BYTES 4096u

struct place {
	uint64_t bytes, huge_bytes;
	uint64_t kinds[PROCESS_KIND_COUNT];
	uint32_t threads;
};

struct survey {
	const struct node_map *map;
	const struct process_range *range;  /* that is being looked at */
	struct place *places;               /* of each node of the map */
	uint64_t refused[REASON_COUNT];     /* bytes that no move may touch */
};

static void run_count(void *arg, const struct process_run *run)
{
	struct survey *survey = arg;
	const struct node *node = node_find(survey->map, run->node);
	uint64_t bytes = run->end - run->start;

	if (!node)
		return;
	struct place *place = &survey->places[node - survey->map->nodes];
	place->bytes += bytes;
	place->kinds[survey->range->kind] += bytes;
	if (run->page_bytes > PAGE_BYTES)
		place->huge_bytes += bytes;
	if (survey->range->refusal != REASON_MOVED)
		survey->refused[survey->range->refusal] += bytes;
}

static int survey_take(struct process_space *space, struct survey *survey)
{
	const struct process_range *ranges;
	size_t nr;
	uint32_t *threads = calloc(survey->map->nr, sizeof(*threads));
	int error = threads ? process_ranges(space, &ranges, &nr) : -ENOMEM;

	for (size_t i = 0; !error && i < nr; i++) {
		/* What the kernel or a device put there is no memory of the process. */
		if (ranges[i].kind == PROCESS_SPECIAL)
			continue;
		survey->range = &ranges[i];
		error = process_where(space, ranges[i].start, ranges[i].end, run_count, survey);
	}
	if (!error)
		error = process_threads(space, threads);
	for (size_t i = 0; !error && i < survey->map->nr; i++)
		survey->places[i].threads = threads[i];
	free(threads);
	return error;
}

static json_t *place_json(const struct node *node, const struct place *place)
{
	json_t *kinds = json_object();

	for (unsigned int kind = 0; kind < PROCESS_KIND_COUNT; kind++)
		if (place->kinds[kind])
			number_set(kinds, process_kind_name(kind), place->kinds[kind]);
	return json_pack("{s:i, s:s?, s:I, s:I, s:n, s:n, s:n, s:i, s:o}",
			 "node", (int)node->id,
			 "speed", !node->has_memory ? NULL : node->slow ? "slow" : "fast",
			 "bytes", (json_int_t)place->bytes,
			 "huge_bytes", (json_int_t)place->huge_bytes,
			 "hot_bytes", "warm_bytes", "cold_bytes",
			 "threads", (int)place->threads, "kinds", kinds);
}

static char *survey_text(int pid, const struct survey *survey)
{
	json_t *nodes = json_array(), *refused = json_object();
	uint64_t sum = 0;

	for (size_t i = 0; i < survey->map->nr; i++) {
		json_array_append_new(nodes, place_json(&survey->map->nodes[i], &survey->places[i]));
		sum += survey->places[i].bytes;
	}
	for (unsigned int reason = 0; reason < REASON_COUNT; reason++)
		if (survey->refused[reason])
			number_set(refused, reason_name(reason), survey->refused[reason]);
	json_t *root = json_pack("{s:s, s:s, s:i, s:I, s:s, s:o, s:o}", "schema", "pagetide.pages/1",
				 "version", TIDE_VERSION, "pid", pid, "bytes", (json_int_t)sum,
				 "heat", "unknown", "nodes", nodes, "refused_bytes", refused);
	char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;

	json_decref(root);
	return text;
}

int tide_pages_fetch(int pid, char **ret_json, char ret_message[TIDE_MESSAGE_MAX])
{
	struct process_options options = { .root = "" };
	struct process_space *space = NULL;
	struct node_map map;
	struct survey survey = { .map = &map };
	char *text = NULL;
	int error = ask_map(&map, ret_message);

	if (error)
		return error;
	survey.places = calloc(map.nr, sizeof(*survey.places));
	error = survey.places ? process_open(pid, &options, &map, &space) : -ENOMEM;
	if (!error)
		error = survey_take(space, &survey);
	if (!error) {
		text = survey_text(pid, &survey);
		error = text ? 0 : -ENOMEM;
	}
	if (space)
		process_close(space);
	free(survey.places);
	node_map_free(&map);
	if (error)
		return ask_refuse(pid, error, ret_message);
	*ret_json = text;
	return 0;
}
