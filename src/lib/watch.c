/* SPDX-License-Identifier: MIT */
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"
#include "proc.h"

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12
#define WINDOW_BYTES ((uint64_t)TIERING_WINDOW_PAGES * PAGE_BYTES)
#define WINDOWS_FIRST 64u
#define WALK_SLICES 4u           /* windows that one slice of a walk covers at the start */
#define BATCH 512u

static const struct scan_config walk_config = {
	.period_ns = 100000000,
	.min_ns = 100000000,
	.max_ns = 4000000000,
	.share_ppm = 2000, /* a five hundredth of one core */
};

/* ---- windows ---- */

static int window_open(struct watch *watch, uint64_t first_vpn)
{
	struct tiering_space *space = &watch->space;

	if (tiering_window_find(space, first_vpn))
		return 0;
	if (space->nr_windows == space->max_windows) {
		uint32_t max = space->max_windows ? space->max_windows * 2 : WINDOWS_FIRST;
		struct tiering_window **more = calloc(max, sizeof *more);
		if (!more)
			return -ENOMEM;
		free(tiering_space_grow(space, more, max));
	}
	void *memory = mmap(NULL, tiering_window_bytes(), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	int error = tiering_window_add(space, tiering_window_init(memory, first_vpn));
	if (error)
		munmap(memory, tiering_window_bytes());
	return error;
}

static void window_close(struct watch *watch, struct tiering_window *window)
{
	if (!tiering_window_remove(watch->tiering, window))
		munmap(window, tiering_window_bytes());
}

static void windows_close(struct watch *watch)
{
	while (watch->space.nr_windows)
		window_close(watch, watch->space.windows[watch->space.nr_windows - 1]);
}

/* What is mapped, as one number: most looks find that nothing changed. */
static uint64_t ranges_hash(const struct process_range *ranges, size_t nr)
{
	uint64_t hash = nr + 1;

	for (size_t i = 0; i < nr; i++) {
		hash = (hash ^ ranges[i].start) * UINT64_C(0x9e3779b97f4a7c15);
		hash = (hash ^ ranges[i].end ^ ranges[i].refusal) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	return hash;
}

static bool range_movable(const struct process_range *range)
{
	return range->refusal == REASON_MOVED;
}

/* Forget what lies in [from, to) and has a window; windows wholly in it go. */
static void gap_forget(struct watch *watch, uint64_t from, uint64_t to)
{
	struct tiering_space *space = &watch->space;

	for (uint32_t w = 0; w < space->nr_windows;) {
		struct tiering_window *window = space->windows[w];
		uint64_t start = window->first_vpn << PAGE_SHIFT, end = start + WINDOW_BYTES;
		uint64_t low = start > from ? start : from, high = end < to ? end : to;

		if (low < high && low == start && high == end) {
			window_close(watch, window); /* the next one moved up */
			if (w < space->nr_windows && space->windows[w] == window)
				w++; /* not while something of it is under way */
			continue;
		}
		if (low < high)
			tiering_forget(watch->tiering, space, low >> PAGE_SHIFT,
				       (high - low) >> PAGE_SHIFT);
		w++;
	}
}

static int mappings_follow(struct watch *watch)
{
	uint64_t from = 0;
	int error = process_ranges(watch->process, &watch->ranges, &watch->nr_ranges);

	if (error)
		return error;
	const struct process_range *ranges = watch->ranges;
	size_t nr = watch->nr_ranges;
	uint64_t hash = ranges_hash(ranges, nr);
	if (hash == watch->mappings_hash)
		return 0;
	for (size_t i = 0; i < nr && !error; i++) {
		if (!range_movable(&ranges[i]))
			continue;
		if (ranges[i].start > from)
			gap_forget(watch, from, ranges[i].start);
		from = ranges[i].end;
		for (uint64_t at = ranges[i].start & ~(WINDOW_BYTES - 1);
		     at < ranges[i].end && !error; at += WINDOW_BYTES)
			error = window_open(watch, at >> PAGE_SHIFT);
	}
	if (!error)
		gap_forget(watch, from, UINT64_MAX & ~(WINDOW_BYTES - 1));
	if (!error)
		watch->mappings_hash = hash;
	return error;
}

/* ---- where pages are ---- */

struct walk {
	struct watch *watch;
	const struct node_map *map;
	uint64_t now_ns;
};

uint32_t watch_node(const struct node_map *map, unsigned int id)
{
	const struct node *node = node_find(map, id);

	return node ? (uint32_t)(node - map->nodes) : TIERING_NODE_UNKNOWN;
}

static void run_visit(void *arg, const struct process_run *run)
{
	struct walk *walk = arg;
	bool huge = run->page_bytes == TIERING_HUGE_PAGES * PAGE_BYTES;

	/* Pages of other sizes are left to those who reserved them. */
	if (!huge && run->page_bytes != PAGE_BYTES)
		return;
	tiering_place(walk->watch->tiering, &walk->watch->space, run->start >> PAGE_SHIFT,
		      (run->end - run->start) >> PAGE_SHIFT, watch_node(walk->map, run->node), huge,
		      walk->now_ns);
}

/* The part of window `w` that may be moved. */
static int window_walk(struct watch *watch, const struct node_map *map, uint32_t w, uint64_t now_ns)
{
	struct walk walk = { watch, map, now_ns };
	uint64_t at = watch->space.windows[w]->first_vpn << PAGE_SHIFT, end = at + WINDOW_BYTES;
	int error = 0;

	for (size_t i = 0; i < watch->nr_ranges && !error; i++) {
		const struct process_range *range = &watch->ranges[i];
		uint64_t low = range->start > at ? range->start : at;
		uint64_t high = range->end < end ? range->end : end;
		if (low < high && range_movable(range))
			error = process_where(watch->process, low, high, run_visit, &walk);
	}
	return error;
}

bool watch_walk(struct watch *watch, const struct node_map *map, uint64_t now_ns)
{
	struct tiering_space *space = &watch->space;
	uint64_t begin_ns = clock_thread_cpu_ns();
	uint32_t w = 0, slices = watch->walked ? 1 : WALK_SLICES;

	if (watch->ended || !space->nr_windows || (watch->walked && !scan_due(&watch->walk, now_ns)))
		return false;
	while (w < space->nr_windows && space->windows[w]->first_vpn << PAGE_SHIFT < watch->walk_at)
		w++;
	for (; slices && w < space->nr_windows; slices--, w++)
		if (window_walk(watch, map, w, now_ns))
			break;
	if (w < space->nr_windows) {
		watch->walk_at = space->windows[w]->first_vpn << PAGE_SHIFT;
	} else {
		watch->walk_at = 0;
		watch->walked = true;
	}
	uint64_t cost_ns = clock_thread_cpu_ns() - begin_ns;
	watch->cpu_ns += cost_ns;
	scan_done(&watch->walk, now_ns, cost_ns, 0);
	return !watch->walked;
}

/* ---- the process ---- */

static void homes_look(struct watch *watch)
{
	uint32_t counts[NODESET_MAX] = { 0 };
	uint64_t homes = 0;

	if (process_threads(watch->process, counts))
		return;
	for (uint32_t n = 0; n < watch->tiering->config.nr_nodes; n++)
		if (counts[n])
			homes |= UINT64_C(1) << n;
	watch->space.homes = homes;
}

int watch_look(struct watch *watch)
{
	uint64_t begin_ns = clock_thread_cpu_ns();

	if (watch->ended)
		return -ESRCH;
	int error = process_look(watch->process);
	if (error == -ESTALE) {
		/* Another program: nothing of what was known is true. */
		windows_close(watch);
		watch->nr_ranges = 0;
		watch->mappings_hash = 0;
		watch->walked = false;
		watch->walk_at = 0;
		watch->execs++;
		error = process_renew(watch->process);
	}
	if (!error)
		error = mappings_follow(watch);
	if (!error)
		homes_look(watch);
	if (error == -ESRCH) {
		windows_close(watch);
		watch->ended = true;
	}
	watch->cpu_ns += clock_thread_cpu_ns() - begin_ns;
	return watch->ended ? -ESRCH : error == -ESTALE ? 0 : error;
}

static void name_read(struct watch *watch)
{
	int dir, error = proc_open(watch->pid, &dir);

	if (!error) {
		error = proc_status_text(dir, "Name", watch->name, sizeof watch->name);
		close(dir);
	}
	if (error)
		strcpy(watch->name, "?");
}

int watch_open(pid_t pid, struct tiering *tiering, const struct node_map *map, uint64_t now_ns,
	       struct watch **ret_watch)
{
	static const struct process_options options = { .root = "" };
	struct tiering_window **windows = calloc(WINDOWS_FIRST, sizeof *windows);
	struct watch *watch = calloc(1, sizeof *watch);
	int error = windows && watch ? 0 : -ENOMEM;

	if (!error)
		error = process_open(pid, &options, map, &watch->process);
	if (error) {
		free(windows);
		free(watch);
		return error;
	}
	watch->pid = pid;
	watch->tiering = tiering;
	name_read(watch);
	scan_init(&watch->walk, &walk_config, SCAN_WEIGHT_MAX, now_ns);
	tiering_space_add(tiering, &watch->space, watch, windows, WINDOWS_FIRST);
	*ret_watch = watch;
	return 0;
}

void watch_close(struct watch *watch)
{
	windows_close(watch);
	tiering_space_remove(watch->tiering, &watch->space);
	process_close(watch->process);
	free(watch->space.windows);
	free(watch);
}

/* ---- moves ---- */

static void looks_answer(struct watch *watch, const struct node_map *map,
			 const struct tiering_move *moves, size_t nr, uint64_t now_ns)
{
	for (size_t i = 0; i < nr; i++) {
		struct walk walk = { watch, map, now_ns };
		uint64_t start = moves[i].vpn << PAGE_SHIFT, end = start + PAGE_BYTES;

		/* Neighbours that are asked for too go along. */
		while (i + 1 < nr && moves[i + 1].vpn << PAGE_SHIFT == end) {
			end += PAGE_BYTES;
			i++;
		}
		process_where(watch->process, start, end, run_visit, &walk);
	}
}

void watch_move(struct watch *watch, const struct node_map *map, const struct nodeset *slow,
		struct tiering_move *moves, size_t nr, uint64_t now_ns)
{
	struct process_move batch[BATCH];
	uint64_t begin_ns = clock_thread_cpu_ns();
	size_t done = 0;

	if (moves->op == TIERING_LOOK) {
		looks_answer(watch, map, moves, nr, now_ns);
		done = nr;
	}
	while (done < nr) {
		size_t part = nr - done < BATCH ? nr - done : BATCH;

		for (size_t i = 0; i < part; i++)
			batch[i] = (struct process_move){
				.address = moves[done + i].vpn << PAGE_SHIFT,
				.page_bytes = moves[done + i].nr_pages * PAGE_BYTES,
			};
		process_move(watch->process, batch, part,
			     moves->op == TIERING_PROMOTE ? slow : NULL, map->nodes[moves->to].id,
			     &watch->tally);
		for (size_t i = 0; i < part; i++) {
			struct tiering_move *move = &moves[done + i];
			move->reason = (enum reason)batch[i].reason;
			move->nr_moved = move->reason == REASON_MOVED ? move->nr_pages : 0;
		}
		done += part;
	}
	watch->cpu_ns += clock_thread_cpu_ns() - begin_ns;
}
