/* SPDX-License-Identifier: MIT */
/* What the metrics say: docs/metrics.md lists the same families. */
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "expose.h"
#include "metrics.h"
#include "sensing.h"

#define PAGE_BYTES 4096u
#define NR(array) (sizeof(array) / sizeof((array)[0]))
#define NUMBER_BYTES 12 /* of a node or process as text */
#define GAUGE(metric, what) &(const struct expose_family){ .name = metric, .help = what }
#define COUNTER(metric, base, what) \
	&(const struct expose_family){ .name = metric, .type = EXPOSE_COUNTER, .unit = base, .help = what }

static const char *number(char text[NUMBER_BYTES], unsigned value)
{
	snprintf(text, NUMBER_BYTES, "%u", value);
	return text;
}

/* A family of one sample. */
static void one_write(FILE *file, const struct expose_family *family, uint64_t value)
{
	expose_begin(file, family);
	expose_number(file, family, NULL, 0, value);
}

/* A family that says in a label what something is. */
static void info_write(FILE *file, const struct expose_family *family, const char *label, const char *value)
{
	expose_begin(file, family);
	expose_number(file, family, EXPOSE_LABELS({ label, value }), 1);
}

/* ---- itself ---- */

static void processes_write(FILE *file, const struct attach *a)
{
	const struct expose_family *family = GAUGE("pagetide_processes",
						   "Processes by what became of them.");
	static const char *const states[] = { "watched", "failed", "ended", "gone" };
	uint64_t counts[NR(states)] = { 0, 0, 0, a->nr_gone };

	for (const struct watch *w = a->watches; w; w = w->next)
		counts[w->ended ? 2 : w->error ? 1 : 0]++;
	expose_begin(file, family);
	for (size_t i = 0; i < NR(states); i++)
		expose_number(file, family, EXPOSE_LABELS({ "state", states[i] }), counts[i]);
}

static void sensor_write(FILE *file, const struct attach *a)
{
	struct sense_usage usage;

	sensing_usage(a, &usage);
	info_write(file, GAUGE("pagetide_sensor_info", "Who tells which pages are in use."), "sensor",
		   a->sense->ops->name);
	one_write(file, COUNTER("pagetide_sensor_touches", NULL, "Touches of pages that were seen."),
		  usage.nr_touches);
	one_write(file, COUNTER("pagetide_sensor_lost", NULL, "Touches that were seen and lost."),
		  usage.nr_lost);
	one_write(file, COUNTER("pagetide_sensor_lost_ranges", NULL,
				"Events of ranges that became visible, of any process, that were lost."),
		  usage.nr_lost_ranges);
	one_write(file, COUNTER("pagetide_sensor_faults", NULL, "Page faults that it caused, in any process."),
		  usage.nr_faults);
	one_write(file, COUNTER("pagetide_sensor_own_faults", NULL,
				"Of these at most so many in the processes that are looked after."),
		  usage.nr_own_faults);
	one_write(file, COUNTER("pagetide_sensor_passes", NULL, "Passes over all memory of the processes."),
		  usage.nr_passes);
	one_write(file, GAUGE("pagetide_sensor_threads", "Threads that are followed."), usage.nr_threads);
}

/* Looking where pages are. */
static void scan_write(FILE *file, const struct attach *a)
{
	const struct expose_family *seconds = COUNTER("pagetide_scan_seconds", "seconds",
						      "Processor time of looking where pages are.");

	one_write(file, COUNTER("pagetide_scanned_bytes", "bytes", "Memory looked at to find where its pages are."),
		  a->shares.scanned_pages * PAGE_BYTES);
	expose_begin(file, seconds);
	expose_seconds(file, seconds, NULL, 0, a->shares.scan_ns);
}

static void self_write(FILE *file, const struct attach *a)
{
	const struct expose_family *start = &(const struct expose_family){
		.name = "pagetide_start_time_seconds", .unit = "seconds",
		.help = "When it began, since 1970.",
	};
	const struct expose_family *cpu = COUNTER("pagetide_cpu_seconds", "seconds",
						  "Processor time of pagetide itself.");

	info_write(file, GAUGE("pagetide_build_info", "The version that runs."), "version", TIDE_VERSION);
	expose_begin(file, start);
	expose_seconds(file, start, NULL, 0, a->metrics.start_ns);
	expose_begin(file, cpu);
	expose_seconds(file, cpu, NULL, 0, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - a->cpu_start_ns);
	one_write(file, GAUGE("pagetide_paused", "1: it neither scans nor moves."), a->paused);
	one_write(file, GAUGE("pagetide_dry_run", "1: moves are counted and not made."), a->options->dry_run);
	processes_write(file, a);
	sensor_write(file, a);
	scan_write(file, a);
}

/* ---- moves ---- */

static void pairs_write(FILE *file, const struct attach *a)
{
	const struct expose_family *family = COUNTER("pagetide_migrated_bytes", "bytes",
						     "Moved from one node to another.");
	char from_text[NUMBER_BYTES], to_text[NUMBER_BYTES];

	expose_begin(file, family);
	for (size_t from = 0; from < a->map.nr; from++) {
		for (size_t to = 0; to < a->map.nr; to++) {
			const struct tiering_node *nodes = a->tiering.config.nodes;
			uint64_t pages = a->tiering.pair_pages[from][to];
			bool up = nodes[from].slow && nodes[to].fast, down = nodes[from].fast && nodes[to].slow;
			/* What was moved stays counted when one of them went. */
			if (!up && !down && !pages)
				continue;
			expose_number(file, family,
				      EXPOSE_LABELS({ "from", number(from_text, a->map.nodes[from].id) },
						    { "to", number(to_text, a->map.nodes[to].id) },
						    { "reason", nodes[to].fast || nodes[from].slow ? "promotion"
												   : "demotion" }),
				      pages * PAGE_BYTES);
		}
	}
}

static void ended_write(FILE *file, const struct tiering_counts *sum, bool dropped,
			const struct expose_family *family)
{
	expose_begin(file, family);
	for (unsigned r = REASON_MOVED + 1; r < REASON_COUNT; r++) {
		enum reason reason = (enum reason)r;
		if (reason != REASON_RATE && reason_dropped(reason) == dropped)
			expose_number(file, family, EXPOSE_LABELS({ "reason", reason_name(reason) }),
				      sum->ended[r]);
	}
}

static void refused_write(FILE *file, const struct tiering_counts *sum)
{
	const struct expose_family *family = COUNTER("pagetide_migrate_refused_pages", "pages",
						     "Candidates for which nothing was tried.");

	expose_begin(file, family);
	expose_number(file, family, EXPOSE_LABELS({ "reason", reason_name(REASON_NO_ROOM) }),
		      sum->refused[REASON_NO_ROOM]);
	expose_number(file, family, EXPOSE_LABELS({ "reason", reason_name(REASON_RATE) }),
		      sum->refused[REASON_RATE]);
	expose_number(file, family, EXPOSE_LABELS({ "reason", "unpaid" }), sum->unpaid);
	expose_number(file, family, EXPOSE_LABELS({ "reason", "thrash" }), sum->thrash);
	expose_number(file, family, EXPOSE_LABELS({ "reason", "lapsed" }), sum->lapsed);
}

static void moves_write(FILE *file, const struct attach *a)
{
	struct tiering_counts sum;

	attach_total(a, &sum);
	pairs_write(file, a);
	one_write(file, COUNTER("pagetide_migrate_requested_pages", "pages", "Pages that were to move."),
		  sum.requested);
	one_write(file, GAUGE("pagetide_migrate_pending_pages", "Of those, on their way."), sum.pending);
	ended_write(file, &sum, false, COUNTER("pagetide_migrate_failed_pages", "pages",
					       "Of those, held where they are."));
	ended_write(file, &sum, true, COUNTER("pagetide_migrate_dropped_pages", "pages",
					      "Of those, not, or no longer, what was to be moved."));
	refused_write(file, &sum);
	one_write(file, COUNTER("pagetide_candidate_pages", "pages", "Pages in use found on slow nodes."),
		  sum.candidates);
	one_write(file, GAUGE("pagetide_waiting_pages", "Of those, waiting for room or by the rate."), sum.waiting);
	one_write(file, COUNTER("pagetide_pingpong_pages", "pages",
				"Promoted again within two minutes after their demotion."), sum.pingpong);
	one_write(file, COUNTER("pagetide_wasted_pages", "pages",
				"Demoted within two minutes after their promotion, not seen in use since."),
		  sum.wasted);
}

static void stalls_write(FILE *file, const struct attach *a)
{
	static const struct expose_family family = {
		.name = "pagetide_move_call_seconds", .type = EXPOSE_HISTOGRAM, .unit = "seconds",
		.help = "How long one call that moves pages held the process up.",
	};
	enum { NR = 23 }; /* the last of them ends at about 2 s */
	uint64_t bounds_ns[NR], counts[NR] = { 0 }, over = 0;
	struct move_pace sum = a->gone_stalls;

	for (const struct watch *w = a->watches; w; w = w->next)
		move_pace_add(&sum, process_pace(w->process));
	for (unsigned i = 0; i < NR; i++)
		bounds_ns[i] = UINT64_C(250) << (i + 1);
	for (unsigned fine = 0, i = 0; fine < MOVE_BUCKETS; fine++) {
		while (i < NR && bounds_ns[i] < move_bucket_end_ns(fine))
			i++;
		*(i < NR ? &counts[i] : &over) += sum.stalls[fine];
	}
	expose_begin(file, &family);
	expose_histogram(file, &family, bounds_ns, counts, NR, over, sum.stall_sum_ns);
}

/* ---- processes ---- */

/* Of a process, at the beginning of each list of labels; `pid` is where its number goes as text. */
#define PROCESS_LABELS(w, pid)                                                        \
	{ "cgroup", (w)->cgroup ? (w)->cgroup : "" }, { "pid", number(pid, (unsigned)(w)->pid) }, \
		{ "name", (w)->name }

static const char *tier_name(const struct attach *a, size_t n)
{
	const struct tiering_node *node = &a->tiering.config.nodes[n];

	return node->fast ? "fast" : node->slow ? "slow" : "none";
}

static void residence_write(FILE *file, const struct attach *a, const struct expose_family *family)
{
	char pid[NUMBER_BYTES], node[NUMBER_BYTES];

	expose_begin(file, family);
	for (const struct watch *w = a->watches; w; w = w->next) {
		for (size_t n = 0; n < a->map.nr && !w->ended; n++) {
			expose_number(file, family,
				      EXPOSE_LABELS(PROCESS_LABELS(w, pid),
						    { "node", number(node, a->map.nodes[n].id) },
						    { "tier", tier_name(a, n) }),
				      w->space.node_pages[n] * PAGE_BYTES);
		}
	}
}

/* Of all shares together: there may be thousands. */
static void shares_write(FILE *file, const struct attach *a, const struct expose_family *family)
{
	uint64_t pages[TIERING_NODES_MAX] = { 0 };
	char node[NUMBER_BYTES];

	for (size_t b = 0; b < SHARE_BUCKETS; b++)
		for (const struct share *share = a->shares.buckets[b]; share; share = share->next)
			for (size_t n = 0; n < a->map.nr; n++)
				pages[n] += share->space.node_pages[n];
	expose_begin(file, family);
	for (size_t n = 0; n < a->map.nr; n++)
		expose_number(file, family,
			      EXPOSE_LABELS({ "node", number(node, a->map.nodes[n].id) },
					    { "tier", tier_name(a, n) }),
			      pages[n] * PAGE_BYTES);
}

static void heat_write(FILE *file, struct attach *a, uint64_t now_ns, const struct expose_family *family)
{
	static const char *const heats[TIERING_HEATS] = {
		[TIERING_HOT] = "hot", [TIERING_WARM] = "warm", [TIERING_COLD] = "cold",
	};
	char pid[NUMBER_BYTES], node[NUMBER_BYTES];

	expose_begin(file, family);
	for (struct watch *w = a->watches; w; w = w->next) {
		const struct tiering_census *census = w->ended ? NULL : watch_census(w, now_ns);
		for (size_t n = 0; census && n < a->map.nr; n++)
			for (unsigned h = 0; h < TIERING_HEATS; h++)
				expose_number(file, family,
					      EXPOSE_LABELS(PROCESS_LABELS(w, pid),
							    { "node", number(node, a->map.nodes[n].id) },
							    { "heat", heats[h] }),
					      census->pages[n][h] * PAGE_BYTES);
	}
}

/* Of all nodes, by how long ago it was seen in use; `label`: what the family calls that time. */
static void use_write(FILE *file, struct attach *a, uint64_t now_ns, const struct expose_family *family,
		      const char *label, bool used)
{
	char pid[NUMBER_BYTES];

	expose_begin(file, family);
	for (struct watch *w = a->watches; w; w = w->next) {
		const struct tiering_census *census = w->ended ? NULL : watch_census(w, now_ns);
		uint64_t pages = 0;

		for (size_t n = 0; census && n < a->map.nr; n++)
			pages += used ? census->pages[n][TIERING_HOT] + census->pages[n][TIERING_WARM]
				      : census->pages[n][TIERING_COLD];
		if (census)
			expose_number(file, family, EXPOSE_LABELS(PROCESS_LABELS(w, pid), { label, "1m" }),
				      pages * PAGE_BYTES);
	}
}

static uint64_t process_promoted(const struct watch *w) { return w->space.counts.promoted * PAGE_BYTES; }
static uint64_t process_demoted(const struct watch *w) { return w->space.counts.demoted * PAGE_BYTES; }
static uint64_t process_touches(const struct watch *w) { return w->space.counts.touches; }
static uint64_t process_weight(const struct watch *w) { return w->space.weight; }
static uint64_t process_cpu_ns(const struct watch *w) { return w->cpu_ns; }

/* One sample for each process; `seconds`: what `get` gives is nanoseconds. */
static void each_write(FILE *file, const struct attach *a, const struct expose_family *family,
		       uint64_t (*get)(const struct watch *watch), bool seconds)
{
	char pid[NUMBER_BYTES];

	expose_begin(file, family);
	for (const struct watch *w = a->watches; w; w = w->next) {
		if (w->ended)
			continue;
		(seconds ? expose_seconds : expose_number)(
			file, family, EXPOSE_LABELS(PROCESS_LABELS(w, pid)), get(w));
	}
}

static void spaces_write(FILE *file, struct attach *a, uint64_t now_ns)
{
	residence_write(file, a, &(const struct expose_family){
		.name = "pagetide_resident_bytes", .unit = "bytes",
		.help = "Memory of a process alone, known to be on a node.",
	});
	shares_write(file, a, &(const struct expose_family){
		.name = "pagetide_shared_resident_bytes", .unit = "bytes",
		.help = "Memory that several processes may map, known to be on a node.",
	});
	heat_write(file, a, now_ns, &(const struct expose_family){
		.name = "pagetide_heat_bytes", .unit = "bytes",
		.help = "Memory of a process on a node by how it is used.",
	});
	use_write(file, a, now_ns, &(const struct expose_family){
		.name = "pagetide_working_set_bytes", .unit = "bytes",
		.help = "Memory of a process that was seen in use within that time.",
	}, "window", true);
	use_write(file, a, now_ns, &(const struct expose_family){
		.name = "pagetide_cold_bytes", .unit = "bytes",
		.help = "Memory of a process that was not seen in use for that time.",
	}, "age", false);
	each_write(file, a, COUNTER("pagetide_process_promoted_bytes", "bytes", "Moved to fast nodes."),
		   process_promoted, false);
	each_write(file, a, COUNTER("pagetide_process_demoted_bytes", "bytes", "Moved to slow nodes."),
		   process_demoted, false);
	each_write(file, a, COUNTER("pagetide_process_touches", NULL, "Touches of its pages that were seen."),
		   process_touches, false);
	each_write(file, a, COUNTER("pagetide_process_cpu_seconds", "seconds",
				    "Processor time of pagetide spent on a process alone."),
		   process_cpu_ns, true);
	each_write(file, a, GAUGE("pagetide_process_weight", "How it counts against others, 0 to 10."),
		   process_weight, false);
}

char *metrics_text(struct attach *a, uint64_t now_ns, size_t *ret_bytes)
{
	char *text = NULL;
	FILE *file = open_memstream(&text, ret_bytes);

	if (!file)
		return NULL;
	for (struct watch *w = a->watches; w; w = w->next)
		watch_cgroup(w);
	self_write(file, a);
	moves_write(file, a);
	stalls_write(file, a);
	spaces_write(file, a, now_ns);
	expose_end(file);
	if (fclose(file)) {
		free(text);
		return NULL;
	}
	return text;
}
