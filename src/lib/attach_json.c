/* SPDX-License-Identifier: MIT */
/* The report of `pagetide attach`: docs/attach-schema.md says what each field means. */
#include <jansson.h>
#include <stdio.h>

#include "attach.h"
#include "clock.h"
#include "json.h"
#include "sensing.h"

#define PAGE_BYTES 4096u

static json_t *moves_json(const struct tiering_counts *counts)
{
	json_t *moves = json_object(), *failed = json_object(), *dropped = json_object();
	json_t *refused = json_object();

	number_set(moves, "requested", counts->requested);
	number_set(moves, "moved", counts->ended[REASON_MOVED]);
	for (unsigned r = REASON_MOVED + 1; r < REASON_COUNT; r++) {
		enum reason reason = (enum reason)r;
		if (reason != REASON_RATE)
			number_set(reason_dropped(reason) ? dropped : failed, reason_name(reason),
			    counts->ended[r]);
	}
	json_object_set_new(moves, "failed", failed);
	json_object_set_new(moves, "dropped", dropped);
	number_set(moves, "pending", counts->pending);
	number_set(refused, reason_name(REASON_NO_ROOM), counts->refused[REASON_NO_ROOM]);
	number_set(refused, reason_name(REASON_RATE), counts->refused[REASON_RATE]);
	number_set(refused, "unpaid", counts->unpaid);
	number_set(refused, "thrash", counts->thrash);
	number_set(refused, "lapsed", counts->lapsed);
	json_object_set_new(moves, "refused", refused);
	number_set(moves, "candidates", counts->candidates);
	number_set(moves, "promotions", counts->promotions);
	number_set(moves, "waiting", counts->waiting);
	number_set(moves, "ping_pong", counts->pingpong);
	number_set(moves, "wasted", counts->wasted);
	return moves;
}

static json_t *stall_json(const struct move_pace *pace)
{
	json_t *stall = json_object();

	number_set(stall, "calls", pace->calls);
	number_set(stall, "p50", move_pace_stall_ns(pace, 50));
	number_set(stall, "p99", move_pace_stall_ns(pace, 99));
	number_set(stall, "max", pace->stall_max_ns);
	return stall;
}

static json_t *nodes_json(const struct attach *a, const struct tiering_census *census)
{
	static const char *const names[TIERING_HEATS] = {
		[TIERING_HOT] = "hot_bytes", [TIERING_WARM] = "warm_bytes", [TIERING_COLD] = "cold_bytes",
	};
	json_t *nodes = json_object();

	for (size_t i = 0; i < a->map.nr; i++) {
		json_t *node = json_object();
		char name[16];

		snprintf(name, sizeof name, "%u", a->map.nodes[i].id);
		for (unsigned h = 0; h < TIERING_HEATS; h++)
			number_set(node, names[h], census->pages[i][h] * PAGE_BYTES);
		json_object_set_new(nodes, name, node);
	}
	return nodes;
}

/* What every space has. */
static void counts_set(json_t *object, const struct tiering_counts *counts)
{
	number_set(object, "promoted_bytes", counts->promoted * PAGE_BYTES);
	number_set(object, "demoted_bytes", counts->demoted * PAGE_BYTES);
	json_object_set_new(object, "moves", moves_json(counts));
	number_set(object, "touches", counts->touches);
}

/* Which of its settings are its own, not its rule's. */
static json_t *tuned_json(const struct watch *watch)
{
	json_t *tuned = json_array();

	if (watch->tuned.weight)
		json_array_append_new(tuned, json_string("weight"));
	if (watch->tuned.fast_min)
		json_array_append_new(tuned, json_string("fast_min"));
	if (watch->tuned.fast_max)
		json_array_append_new(tuned, json_string("fast_max"));
	return tuned;
}

static void bounds_set(json_t *object, uint64_t max_pages, uint64_t min_pages)
{
	if (max_pages != UINT64_MAX)
		number_set(object, "fast_max_bytes", max_pages * PAGE_BYTES);
	number_set(object, "fast_min_bytes", min_pages * PAGE_BYTES);
}

static json_t *space_json(const struct attach *a, struct watch *watch, uint64_t now_ns)
{
	json_t *space = json_object();

	number_set(space, "pid", (uint64_t)watch->pid);
	json_object_set_new(space, "name", json_string(watch->name));
	json_object_set_new(space, "cgroup", json_string(watch_cgroup(watch)));
	json_object_set_new(space, "rule", json_string(watch->rule ? watch->rule->name : ""));
	number_set(space, "weight", watch->space.weight);
	bounds_set(space, watch->tuned.fast_max ? watch->tuned.fast_max_pages : watch->space.fast_max_pages,
		   watch->tuned.fast_min ? watch->tuned.fast_min_pages : watch->space.fast_min_pages);
	json_object_set_new(space, "tuned", tuned_json(watch));
	json_object_set_new(space, "child", json_boolean(watch->child));
	json_object_set_new(space, "ended", json_boolean(watch->ended));
	json_object_set_new(space, "sensor", json_string(a->sense->ops->name));
	number_set(space, "vcpus", watch->nr_vcpus);
	counts_set(space, &watch->space.counts);
	number_set(space, "cpu_ns", watch->cpu_ns);
	json_object_set_new(space, "stall_ns", stall_json(process_pace(watch->process)));
	json_object_set_new(space, "nodes", nodes_json(a, watch_census(watch, now_ns)));
	return space;
}

/* Those that are not among the spaces any more. */
static json_t *gone_json(const struct attach *a)
{
	json_t *gone = json_object();

	number_set(gone, "processes", a->nr_gone);
	counts_set(gone, &a->gone);
	return gone;
}

static json_t *share_json(struct attach *a, struct share *share, uint64_t now_ns)
{
	json_t *object = json_object();
	char device[SHARE_DEVICE_BYTES];

	json_object_set_new(object, "device", json_string(share_device_format(device, share->device)));
	number_set(object, "inode", share->inode);
	number_set(object, "mappings", share->nr_users);
	json_object_set_new(object, "sensor", json_string(a->sense->ops->name));
	bounds_set(object, share->space.fast_max_pages, share->space.fast_min_pages);
	counts_set(object, &share->space.counts);
	number_set(object, "cpu_ns", share->cpu_ns);
	json_object_set_new(object, "stall_ns", stall_json(&share->stalls));
	json_object_set_new(object, "nodes", nodes_json(a, share_census(&a->shares, share, now_ns)));
	return object;
}

/* Those of which anything was seen, and all that are gone together. */
static void shares_set(json_t *root, struct attach *a, uint64_t now_ns)
{
	json_t *shared = json_array(), *gone = json_object();

	for (size_t b = 0; b < SHARE_BUCKETS; b++) {
		for (struct share *s = a->shares.buckets[b]; s; s = s->next)
			if (s->space.counts.touches || s->space.counts.requested)
				json_array_append_new(shared, share_json(a, s, now_ns));
	}
	json_object_set_new(root, "shared", shared);
	number_set(gone, "number", a->shares.nr_gone);
	counts_set(gone, &a->shares.gone);
	json_object_set_new(root, "shared_gone", gone);
}

/* Why it is not a better one. */
static json_t *refused_json(const struct sensors_choice *choice)
{
	json_t *refused = json_array();

	for (size_t i = 0; i < choice->nr_refused; i++) {
		json_t *one = json_object();

		json_object_set_new(one, "name", json_string(choice->refused[i].name));
		json_object_set_new(one, "reason", json_string(choice->refused[i].why));
		json_array_append_new(refused, one);
	}
	return refused;
}

static uint64_t unseen_bytes(const struct attach *a)
{
	uint64_t pages = 0;

	for (size_t n = 0; a->sense->ops->maps_written_only && n < a->map.nr; n++)
		pages += shares_read_only_pages(&a->shares, n);
	return pages * PAGE_BYTES;
}

static json_t *sensor_json(const struct attach *a)
{
	const struct sensors_choice *choice = &a->sensors;
	const struct sense *sense = choice->sense;
	struct sense_usage usage;
	json_t *sensor = json_object();

	sensing_usage(a, &usage);
	json_object_set_new(sensor, "name", json_string(sense->ops->name));
	json_object_set_new(sensor, "cost", json_string(sense->ops->cost));
	number_set(sensor, "grain_bytes", sense->ops->grain_bytes);
	json_object_set_new(sensor, "regions", json_boolean(sense->ops->regions));
	json_object_set_new(sensor, "knows_cpu", json_boolean(sense->ops->knows_cpu));
	json_object_set_new(sensor, "writes_only", json_boolean(sense->ops->writes_only));
	json_object_set_new(sensor, "sees_fast", json_boolean(sense->ops->sees_fast));
	json_object_set_new(sensor, "refused", refused_json(choice));
	number_set(sensor, "unseen_bytes", unseen_bytes(a));
	number_set(sensor, "unseen_guests", sensing_unseen_guests(a));
	number_set(sensor, "changes", a->nr_sensor_changes);
	number_set(sensor, "touches", usage.nr_touches);
	number_set(sensor, "faults", usage.nr_faults);
	number_set(sensor, "own_faults", usage.nr_own_faults);
	number_set(sensor, "lost", usage.nr_lost);
	number_set(sensor, "lost_ranges", usage.nr_lost_ranges);
	number_set(sensor, "threads", usage.nr_threads);
	number_set(sensor, "passes", usage.nr_passes);
	return sensor;
}

/* What the kernel counted meanwhile, of all processes. */
static json_t *kernel_json(const struct attach *a)
{
	struct vmstat now = a->before;
	json_t *kernel = json_object();

	vmstat_read("", &now);
	number_set(kernel, "pgmigrate_success", now.pgmigrate_success - a->before.pgmigrate_success);
	number_set(kernel, "pgmigrate_fail", now.pgmigrate_fail - a->before.pgmigrate_fail);
	number_set(kernel, "pgpromote_success", now.pgpromote_success - a->before.pgpromote_success);
	number_set(kernel, "numa_pages_migrated", now.numa_pages_migrated - a->before.numa_pages_migrated);
	number_set(kernel, "pgdemote", now.pgdemote - a->before.pgdemote);
	number_set(kernel, "numa_hint_faults", now.numa_hint_faults - a->before.numa_hint_faults);
	number_set(kernel, "compact_isolated", now.compact_isolated - a->before.compact_isolated);
	return kernel;
}

/* Bytes moved for each pair of nodes between which any moved. */
static json_t *pairs_json(const struct attach *a)
{
	json_t *pairs = json_array();

	for (size_t from = 0; from < a->map.nr; from++) {
		for (size_t to = 0; to < a->map.nr; to++) {
			uint64_t pages = a->tiering.pair_pages[from][to];
			if (!pages)
				continue;
			json_t *pair = json_object();
			number_set(pair, "from", a->map.nodes[from].id);
			number_set(pair, "to", a->map.nodes[to].id);
			number_set(pair, "bytes", pages * PAGE_BYTES);
			json_array_append_new(pairs, pair);
		}
	}
	return pairs;
}

json_t *attach_report(struct attach *a, uint64_t now_ns)
{
	json_t *root = json_object(), *spaces = json_array(), *warnings = json_array();
	char text[NODESET_TEXT_BYTES];

	json_object_set_new(root, "schema", json_string("pagetide.attach/1"));
	json_object_set_new(root, "version", json_string(TIDE_VERSION));
	json_object_set_new(root, "dry_run", json_boolean(a->options->dry_run));
	number_set(root, "wall_ns", now_ns - a->start_ns);
	number_set(root, "cpu_ns", clock_ns(CLOCK_PROCESS_CPUTIME_ID) - a->cpu_start_ns);
	number_set(root, "page_size", PAGE_BYTES);
	json_object_set_new(root, "fast", json_string(nodeset_format(text, &a->fast)));
	json_object_set_new(root, "slow", json_string(nodeset_format(text, &a->slow)));
	json_object_set_new(root, "sensor", sensor_json(a));
	for (struct watch *w = a->watches; w; w = w->next)
		json_array_append_new(spaces, space_json(a, w, now_ns));
	json_object_set_new(root, "spaces", spaces);
	json_object_set_new(root, "gone", gone_json(a));
	number_set(root, "refused_processes", a->nr_refused);
	shares_set(root, a, now_ns);
	json_object_set_new(root, "moved_bytes", pairs_json(a));
	json_object_set_new(root, "kernel", kernel_json(a));
	for (size_t i = 0; i < a->nr_warnings; i++)
		json_array_append_new(warnings, json_string(a->warnings[i]));
	json_object_set_new(root, "warnings", warnings);
	return root;
}
