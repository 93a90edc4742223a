/* SPDX-License-Identifier: MIT */
/*
 * tide_pages_fetch(): where the memory of a process is, as a document.
 *
 * Nobody who only looks knows what is hot. That is asked of who looks after the process, or found out
 * by watching it for a while, which moves nothing; else those members are null.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "ask.h"
#include "json.h"
#include "share.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define PAGE_BYTES 4096u
#define NAME_BYTES (SHARE_DEVICE_BYTES + 24)

struct place {
	uint64_t bytes, huge_bytes;
	uint64_t kinds[PROCESS_KIND_COUNT];
	uint32_t threads;
};

struct survey {
	const struct node_map *map;
	json_t *heat;                       /* by node, as in a report of attach; NULL: not known */
	json_t *shares;                     /* the same of shared memory, by share_name(), as far as it was not met */
	const char *sensor;                 /* that told it; "unknown" */
	bool slow_only;                     /* nobody knows it of fast nodes */
	const struct process_range *range;  /* that is being looked at */
	struct place *places;               /* of each node of the map */
	uint64_t refused[REASON_COUNT];     /* bytes that no move may touch */
};

/* ---- heat ---- */

static const char *share_name(char name[NAME_BYTES], const char *device, uint64_t inode)
{
	snprintf(name, NAME_BYTES, "%s %" PRIu64, device, inode);
	return name;
}

/* What the report of attach says of shared memory, of whomever. */
static json_t *shares_of(const json_t *report)
{
	json_t *shares = json_object();
	const json_t *share;
	size_t i;

	json_array_foreach(json_object_get(report, "shared"), i, share) {
		const char *device = json_string_value(json_object_get(share, "device"));
		uint64_t inode = (uint64_t)json_integer_value(json_object_get(share, "inode"));
		char name[NAME_BYTES];

		json_object_set(shares, share_name(name, device ? device : "", inode), json_object_get(share, "nodes"));
	}
	return shares;
}

static void heat_add(json_t *heat, json_t *nodes)
{
	json_t *node, *bytes;
	const char *id, *name;

	json_object_foreach(nodes, id, node) {
		json_t *sum = json_object_get(heat, id);

		json_object_foreach(node, name, bytes) {
			json_int_t before = json_integer_value(json_object_get(sum, name));
			json_object_set_new(sum, name, json_integer(before + json_integer_value(bytes)));
		}
	}
}

/* Memory that it shares is counted in full, once. */
static void share_heat_add(struct survey *survey, const struct process_range *range)
{
	char device[SHARE_DEVICE_BYTES], name[NAME_BYTES];

	if (!survey->heat || !share_has(range))
		return;
	share_name(name, share_device_format(device, range->device), range->inode);
	heat_add(survey->heat, json_object_get(survey->shares, name));
	json_object_del(survey->shares, name);
}

/* ---- places ---- */

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
		share_heat_add(survey, &ranges[i]);
		error = process_where(space, ranges[i].start, ranges[i].end, run_count, survey);
	}
	if (!error)
		error = process_threads(space, threads);
	for (size_t i = 0; !error && i < survey->map->nr; i++)
		survey->places[i].threads = threads[i];
	free(threads);
	return error;
}

/* The process in a report of attach, which has one for each child, too, and those that have ended. */
static json_t *space_find(const json_t *report, int pid)
{
	json_t *space;
	size_t i;

	json_array_foreach(json_object_get(report, "spaces"), i, space)
		if (json_integer_value(json_object_get(space, "pid")) == pid &&
		    !json_is_true(json_object_get(space, "ended")))
			return space;
	return NULL;
}

/* Nobody there, where no place was named, is no error: then there is no report. */
static int report_ask(const char *control_path, json_t **ret_report, char ret_message[TIDE_MESSAGE_MAX])
{
	char message[TIDE_MESSAGE_MAX], *text = NULL;
	json_t *status;
	int error = tide_control(control_path, "status", NULL, 0, &text, control_path ? ret_message : message);

	if (error)
		return control_path ? error : 0;
	status = json_loads(text, 0, NULL);
	*ret_report = json_incref(json_object_get(status, "report"));
	json_decref(status);
	free(text);
	return 0;
}

/* What a sensor does not see on fast nodes, attach counts by how long it is there: not so here. */
static int report_watch(int pid, uint64_t watch_ns, json_t **ret_report, bool *ret_slow_only,
			char ret_message[TIDE_MESSAGE_MAX])
{
	struct tide_attach_options options = {
		.size = sizeof options, .pids = &pid, .nr_pids = 1,
		.duration_ns = watch_ns, .dry_run = true, .watch_only = true,
	};
	char *text = NULL;
	int error = tide_attach(&options, &text, ret_message);

	if (error)
		return error;
	json_decref(*ret_report); /* which does not know the process */
	*ret_report = json_loads(text, 0, NULL);
	*ret_slow_only = !json_is_true(json_object_get(json_object_get(*ret_report, "sensor"), "sees_fast"));
	free(text);
	return 0;
}

static json_t *place_json(const struct survey *survey, const struct node *node, const struct place *place)
{
	const json_t *heat = NULL;
	json_t *kinds = json_object();
	char id[16];

	snprintf(id, sizeof id, "%u", node->id);
	if (node->slow || !survey->slow_only)
		heat = json_object_get(survey->heat, id);

	for (unsigned int kind = 0; kind < PROCESS_KIND_COUNT; kind++)
		if (place->kinds[kind])
			number_set(kinds, process_kind_name(kind), place->kinds[kind]);
	return json_pack("{s:i, s:s?, s:I, s:I, s:O?, s:O?, s:O?, s:i, s:o}",
			 "node", (int)node->id,
			 "speed", !node->has_memory ? NULL : node->slow ? "slow" : "fast",
			 "bytes", (json_int_t)place->bytes,
			 "huge_bytes", (json_int_t)place->huge_bytes,
			 "hot_bytes", json_object_get(heat, "hot_bytes"),
			 "warm_bytes", json_object_get(heat, "warm_bytes"),
			 "cold_bytes", json_object_get(heat, "cold_bytes"),
			 "threads", (int)place->threads, "kinds", kinds);
}

static char *survey_text(int pid, const struct survey *survey)
{
	json_t *nodes = json_array(), *refused = json_object();
	uint64_t sum = 0;

	for (size_t i = 0; i < survey->map->nr; i++) {
		json_array_append_new(nodes, place_json(survey, &survey->map->nodes[i], &survey->places[i]));
		sum += survey->places[i].bytes;
	}
	for (unsigned int reason = 0; reason < REASON_COUNT; reason++)
		if (survey->refused[reason])
			number_set(refused, reason_name(reason), survey->refused[reason]);
	json_t *root = json_pack("{s:s, s:s, s:i, s:I, s:s, s:o, s:o}", "schema", "pagetide.pages/1",
				 "version", TIDE_VERSION, "pid", pid, "bytes", (json_int_t)sum,
				 "heat", survey->sensor, "nodes", nodes, "refused_bytes", refused);
	return document_write(root);
}

static int survey_of(int pid, const json_t *report, bool slow_only, char **ret_json,
		     char ret_message[TIDE_MESSAGE_MAX])
{
	const json_t *space = space_find(report, pid);
	json_t *heat = json_object_get(space, "nodes");
	const char *sensor = json_string_value(json_object_get(space, "sensor"));
	struct process_options options = { .root = "" };
	struct process_space *process = NULL;
	struct node_map map;
	struct survey survey = {
		.map = &map, .heat = heat, .sensor = heat && sensor ? sensor : "unknown", .slow_only = slow_only,
	};
	char *text = NULL;
	int error = ask_map(&map, ret_message);

	if (error)
		return error;
	survey.shares = shares_of(report);
	survey.places = calloc(map.nr, sizeof(*survey.places));
	error = survey.places ? process_open(pid, &options, &map, &process) : -ENOMEM;
	if (!error)
		error = survey_take(process, &survey);
	if (!error) {
		text = survey_text(pid, &survey);
		error = text ? 0 : -ENOMEM;
	}
	if (process)
		process_close(process);
	free(survey.places);
	json_decref(survey.shares);
	node_map_free(&map);
	if (error)
		return ask_refuse(pid, error, ret_message);
	*ret_json = text;
	return 0;
}

int tide_pages_fetch(int pid, const char *control_path, uint64_t watch_ns, char **ret_json,
		     char ret_message[TIDE_MESSAGE_MAX])
{
	json_t *report = NULL;
	bool slow_only = false;
	int error = ask_proc(ret_message);

	if (!error)
		error = report_ask(control_path, &report, ret_message);

	if (!error && watch_ns && !space_find(report, pid))
		error = report_watch(pid, watch_ns, &report, &slow_only, ret_message);
	if (!error)
		error = survey_of(pid, report, slow_only, ret_json, ret_message);
	json_decref(report);
	return error;
}
