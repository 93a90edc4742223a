/* SPDX-License-Identifier: MIT */
/*
 * tide_migrate(): what a process has on some nodes, to others, at once.
 *
 *   ranges ─► runs on the nodes that it comes from ─► chunk ─► nearest target ─► next target ...
 *                                                                 │ busy
 *                                                                 └─► tried again at the end
 *
 * Each page found is counted once, by its last result: requested = moved + failed + dropped + pending; what is
 * pending at the end was not tried any more, for the caller wanted an end.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "clock.h"
#include "json.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define HUGE_PARTS 512u
#define PAGE_BYTES 4096u
#define CHUNK_PAGES 4096u
#define RETRIES 4
#define RETRY_PAUSE_NS UINT64_C(50000000)

struct migration {
	const struct tide_migrate_options *options;
	struct node_map map;
	struct process_space *space;
	struct nodeset from, to;
	uint16_t *targets;             /* of the chunk, nearest to its node first */
	size_t nr_targets;
	const struct process_range *range;
	uint16_t chunk_node;           /* where the pages of the chunk are */
	size_t nr_chunk, nr_busy, room_busy;
	struct process_move *chunk;    /* [CHUNK_PAGES] */
	struct process_move *busy;
	uint64_t found_bytes, done_bytes;
	uint64_t bytes[REASON_COUNT];  /* by last result */
	uint64_t would_bytes;          /* a dry run's */
	uint64_t room_bytes;           /* on all targets, for a dry run */
	int error;                     /* the end of the process, -ECANCELED, or worse */
};

/* ---- results ---------------------------------------------------------------------------------- */

static void page_count(struct migration *m, const struct process_move *page)
{
	m->bytes[REASON_MOVED] += page->moved_bytes;
	m->bytes[page->reason] += page->page_bytes - page->moved_bytes;
	m->done_bytes += page->page_bytes;
}

static bool worth_retrying(enum reason reason)
{
	return reason == REASON_BUSY || reason == REASON_PINNED;
}

/* Kept for another try; without memory for that its result is the last one. */
static void page_keep(struct migration *m, const struct process_move *page)
{
	if (m->nr_busy == m->room_busy) {
		size_t room = m->room_busy ? m->room_busy * 2 : CHUNK_PAGES;
		struct process_move *more = realloc(m->busy, room * sizeof(*more));

		if (!more) {
			page_count(m, page);
			return;
		}
		m->busy = more;
		m->room_busy = room;
	}
	m->busy[m->nr_busy++] = *page;
}

/* Of a huge page that was split in its move the parts that stayed are tried again, each by itself. */
static void parts_keep(struct migration *m, const struct process_move *page)
{
	uint64_t addresses[HUGE_PARTS];
	int nodes[HUGE_PARTS];
	struct process_move done = *page;

	for (uint32_t i = 0; i < HUGE_PARTS; i++)
		addresses[i] = page->address + i * PAGE_BYTES;
	if (process_query(m->space, addresses, HUGE_PARTS, nodes)) {
		page_count(m, page);
		return;
	}
	for (uint32_t i = 0; i < HUGE_PARTS && done.page_bytes > done.moved_bytes; i++)
		if (nodes[i] >= 0 && nodeset_has(&m->from, (unsigned int)nodes[i])) {
			page_keep(m, &(struct process_move){ .address = addresses[i], .page_bytes = PAGE_BYTES,
							     .reason = page->reason });
			done.page_bytes -= PAGE_BYTES;
		}
	done.reason = REASON_PAGE_GONE;
	page_count(m, &done);
}

/* A page whose result is not the last one is kept. */
static void page_settle(struct migration *m, const struct process_move *page, bool last)
{
	if (last || !worth_retrying(page->reason))
		page_count(m, page);
	else if (page->moved_bytes)
		parts_keep(m, page);
	else
		page_keep(m, page);
}

static void stop_look(struct migration *m)
{
	if (!m->error && m->options->stop && m->options->stop(m->options->stop_arg))
		m->error = -ECANCELED;
}

static bool process_gone(const struct migration *m)
{
	return m->error == -ESRCH || m->error == -ESTALE;
}

static void progress(const struct migration *m)
{
	if (m->options->progress)
		m->options->progress(m->options->progress_arg, m->done_bytes, m->found_bytes);
}

/* ---- moving ----------------------------------------------------------------------------------- */

/* Another target can take what this one has no room for, or may not have. */
static bool target_refused(enum reason reason)
{
	return reason == REASON_NO_ROOM || reason == REASON_POLICY;
}

/* Try the targets in turn; what is left over after the last keeps its reason. */
static void pages_move(struct migration *m, struct process_move *pages, size_t nr, bool last)
{
	for (size_t i = 0; nr && i < m->nr_targets && !m->error; i++) {
		struct process_tally tally = { 0 };
		size_t left = 0;

		m->error = process_move(m->space, pages, nr, &m->from, m->targets[i], &tally);
		for (size_t k = 0; k < nr; k++) {
			if (target_refused(pages[k].reason) && !pages[k].moved_bytes && i + 1 < m->nr_targets)
				pages[left++] = pages[k];
			else
				page_settle(m, &pages[k], last);
		}
		nr = left;
	}
	for (size_t k = 0; k < nr; k++)
		page_count(m, &pages[k]);
}

static void chunk_move(struct migration *m)
{
	if (m->nr_chunk)
		stop_look(m);
	if (m->nr_chunk && !m->error)
		pages_move(m, m->chunk, m->nr_chunk, false);
	m->nr_chunk = 0;
	progress(m);
}

static void run_move(void *arg, const struct process_run *run)
{
	struct migration *m = arg;

	if (!nodeset_has(&m->from, run->node) || m->error)
		return;
	if (run->node != m->chunk_node) {
		chunk_move(m);
		m->chunk_node = run->node;
		m->nr_targets = node_order(&m->map, run->node, &m->to, m->targets, m->map.nr);
	}
	for (uint64_t at = run->start; at < run->end && !m->error; at += run->page_bytes) {
		m->chunk[m->nr_chunk++] = (struct process_move){ .address = at,
								 .page_bytes = run->page_bytes };
		if (m->nr_chunk == CHUNK_PAGES)
			chunk_move(m);
	}
}

static void busy_retry(struct migration *m)
{
	for (int try = 1; try <= RETRIES && m->nr_busy && !m->error; try++) {
		struct process_move *pages = m->busy;
		size_t nr = m->nr_busy;

		m->busy = NULL;
		m->nr_busy = m->room_busy = 0;
		clock_sleep_ns(RETRY_PAUSE_NS << try);
		pages_move(m, pages, nr, try == RETRIES);
		free(pages);
		progress(m);
		stop_look(m);
	}
	for (size_t i = 0; i < m->nr_busy; i++)
		page_count(m, &m->busy[i]);
	m->nr_busy = 0;
}

/* ---- finding ---------------------------------------------------------------------------------- */

static enum reason range_reason(const struct migration *m)
{
	const struct process_range *range = m->range;

	if (range->refusal == REASON_MOVED && range->policy == PROCESS_POLICY_BIND &&
	    !nodeset_meet(&range->policy_nodes, &m->to))
		return REASON_POLICY;
	return range->refusal;
}

static void run_find(void *arg, const struct process_run *run)
{
	struct migration *m = arg;
	uint64_t bytes = run->end - run->start;
	enum reason reason = range_reason(m);

	if (!nodeset_has(&m->from, run->node))
		return;
	m->found_bytes += bytes;
	if (!m->options->dry_run)
		return;
	if (reason == REASON_MOVED) {
		uint64_t fits = bytes < m->room_bytes ? bytes : m->room_bytes & ~(uint64_t)(PAGE_BYTES - 1);

		m->would_bytes += fits;
		m->room_bytes -= fits;
		m->bytes[REASON_NO_ROOM] += bytes - fits;
	} else {
		m->bytes[reason] += bytes;
	}
}

static void ranges_walk(struct migration *m, const struct process_range *ranges, size_t nr,
			void (*visit)(void *arg, const struct process_run *run))
{
	for (size_t i = 0; i < nr && !m->error; i++) {
		/* What the kernel or a device put there is no memory of the process. */
		if (ranges[i].kind == PROCESS_SPECIAL)
			continue;
		stop_look(m);
		if (m->error)
			return;
		m->range = &ranges[i];
		int error = process_where(m->space, ranges[i].start, ranges[i].end, visit, m);
		if (!m->error)
			m->error = error;
	}
}

static void room_read(struct migration *m)
{
	for nodeset_each(node, &m->to) {
		struct node_room room;

		if (!node_room_read("", node, &room) && room.free_bytes > room.high_bytes)
			m->room_bytes += room.free_bytes - room.high_bytes;
	}
}

static void migration_do(struct migration *m, const struct process_range *ranges, size_t nr)
{
	struct nodeset allowed;

	room_read(m);
	if (!process_allowed(m->space, &allowed) && !nodeset_meet(&allowed, &m->to))
		m->room_bytes = 0;
	ranges_walk(m, ranges, nr, run_find);
	if (m->options->dry_run)
		return;
	progress(m);
	ranges_walk(m, ranges, nr, run_move);
	chunk_move(m);
	busy_retry(m);
}

/* ---- the call --------------------------------------------------------------------------------- */

static json_t *reasons_json(const struct migration *m, bool dropped)
{
	json_t *reasons = json_object();

	for (unsigned int reason = REASON_MOVED + 1; reason < REASON_COUNT; reason++)
		if (reason_dropped(reason) == dropped && m->bytes[reason])
			number_set(reasons, reason_name(reason), m->bytes[reason] / PAGE_BYTES);
	return reasons;
}

static char *migration_text(const struct migration *m, uint64_t wall_ns)
{
	char from[NODESET_TEXT_BYTES], to[NODESET_TEXT_BYTES];
	const struct move_pace *pace = process_pace(m->space);
	uint64_t requested = m->would_bytes, pending = 0;

	if (m->error == -ECANCELED && !m->options->dry_run && m->found_bytes > m->done_bytes)
		pending = m->found_bytes - m->done_bytes;
	requested += pending;
	for (unsigned int reason = 0; reason < REASON_COUNT; reason++)
		requested += m->bytes[reason];
	json_t *moves = json_pack("{s:I, s:I, s:I, s:o, s:o, s:I}", "requested",
				  (json_int_t)(requested / PAGE_BYTES), "moved",
				  (json_int_t)(m->bytes[REASON_MOVED] / PAGE_BYTES), "would_move",
				  (json_int_t)(m->would_bytes / PAGE_BYTES), "failed",
				  reasons_json(m, false), "dropped", reasons_json(m, true),
				  "pending", (json_int_t)(pending / PAGE_BYTES));
	json_t *stall = json_pack("{s:I, s:I, s:I, s:I}", "calls", (json_int_t)pace->calls, "p50",
				  (json_int_t)move_pace_stall_ns(pace, 50), "p99",
				  (json_int_t)move_pace_stall_ns(pace, 99), "max",
				  (json_int_t)pace->stall_max_ns);
	json_t *root = json_pack("{s:s, s:s, s:i, s:s, s:s, s:b, s:b, s:b, s:I, s:I, s:o, s:o}",
				 "schema", "pagetide.migrate/1", "version", TIDE_VERSION,
				 "pid", m->options->pid, "from", nodeset_format(from, &m->from),
				 "to", nodeset_format(to, &m->to), "dry_run", m->options->dry_run,
				 "ended", process_gone(m), "stopped", m->error == -ECANCELED,
				 "wall_ns", (json_int_t)wall_ns, "page_size", (json_int_t)PAGE_BYTES,
				 "moves", moves, "stall_ns", stall);
	return document_write(root);
}

static int migration_read(struct migration *m, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct tide_migrate_options *o = m->options;
	int error = ask_nodes("--from", o->from, &m->map, &m->from, ret_message);

	if (!error)
		error = ask_nodes("--to", o->to, &m->map, &m->to, ret_message);
	if (error)
		return error;
	/* What is on one of the targets is where it should be. */
	m->from = nodeset_minus(&m->from, &m->to);
	if (nodeset_empty(&m->from)) {
		MESSAGE("--from %.40s --to %.40s: there is nothing to move between: name other nodes",
			o->from, o->to);
		return -EINVAL;
	}
	m->chunk_node = NODE_NONE;
	m->targets = calloc(m->map.nr, sizeof(*m->targets));
	m->chunk = calloc(CHUNK_PAGES, sizeof(*m->chunk));
	if (m->targets && m->chunk)
		return 0;
	MESSAGE("out of memory");
	return -ENOMEM;
}

static int migration_run(struct migration *m, char **ret_json)
{
	struct process_options options = { .root = "" };
	uint64_t begin = clock_now_ns();
	const struct process_range *ranges;
	size_t nr;
	int error = process_open(m->options->pid, &options, &m->map, &m->space);

	if (!error)
		error = process_ranges(m->space, &ranges, &nr);
	if (error)
		return error;
	migration_do(m, ranges, nr);
	/* What was found and not tried any more. */
	if (process_gone(m) && m->found_bytes > m->done_bytes && !m->options->dry_run)
		m->bytes[REASON_SPACE_GONE] += m->found_bytes - m->done_bytes;
	if (m->error && !process_gone(m) && m->error != -ECANCELED)
		return m->error;
	*ret_json = migration_text(m, clock_now_ns() - begin);
	return *ret_json ? 0 : -ENOMEM;
}

int tide_migrate(const struct tide_migrate_options *options, char **ret_json,
		 char ret_message[TIDE_MESSAGE_MAX])
{
	struct migration m = { .options = options };
	char *text = NULL;
	int error = ask_size(options->size, sizeof *options, ret_message);

	if (!error)
		error = ask_proc(ret_message);
	if (!error)
		error = ask_map(&m.map, ret_message);
	if (error)
		return error;
	error = migration_read(&m, ret_message);
	if (!error) {
		error = migration_run(&m, &text);
		if (error)
			error = ask_refuse(options->pid, error, ret_message);
	}
	if (m.space)
		process_close(m.space);
	free(m.busy);
	free(m.chunk);
	free(m.targets);
	node_map_free(&m.map);
	if (!error)
		*ret_json = text;
	return error;
}
