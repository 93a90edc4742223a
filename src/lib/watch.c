/* SPDX-License-Identifier: MIT */
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "clock.h"
#include "proc.h"
#include "text.h"

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12
#define BATCH 512u
#define ASLEEP_NS UINT64_C(120000000000) /* others may change something of who does not run: rarely */
#define HOMES_SHARE 500u /* of the time, one part may go into looking where the threads run */

/* ---- mappings ---- */

/* What is mapped, as one number: most looks find that nothing changed. */
static uint64_t ranges_hash(const struct process_range *ranges, size_t nr)
{
	uint64_t hash = nr + 1;

	for (size_t i = 0; i < nr; i++) {
		hash = (hash ^ ranges[i].start) * UINT64_C(0x9e3779b97f4a7c15);
		hash = (hash ^ ranges[i].end ^ ranges[i].refusal ^ (uint64_t)share_has(&ranges[i]) << 8) *
		       UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	return hash;
}

/* Its own, and it may be moved. */
static bool range_ours(const struct process_range *range)
{
	return range->refusal == REASON_MOVED && !share_has(range);
}

static size_t vcpus_count(const struct process_range *ranges, size_t nr)
{
	size_t vcpus = 0;

	for (size_t i = 0; i < nr; i++)
		vcpus += ranges[i].vcpu;
	return vcpus;
}

static int mappings_follow(struct watch *watch)
{
	uint64_t from = 0;
	int error = process_ranges(watch->process, &watch->ranges, &watch->nr_ranges);

	if (error)
		return error;
	const struct process_range *ranges = watch->ranges;
	size_t nr = watch->nr_ranges;
	watch->nr_vcpus = vcpus_count(ranges, nr);
	uint64_t hash = ranges_hash(ranges, nr);
	if (hash == watch->mappings_hash)
		return 0;
	for (size_t i = 0; i < nr; i++) {
		uint64_t first = ranges[i].start >> PAGE_SHIFT, end = ranges[i].end >> PAGE_SHIFT;

		if (!range_ours(&ranges[i]))
			continue;
		if (first > from)
			windows_forget(watch->tiering, &watch->space, from, first);
		from = end;
	}
	windows_forget(watch->tiering, &watch->space, from, UINT64_MAX);
	watch->mappings_hash = hash;
	return 0;
}

/* ---- where pages are ---- */

struct placing {
	struct watch *watch;
	const struct node_map *map;
};

uint32_t watch_node(const struct node_map *map, unsigned int id)
{
	const struct node *node = node_find(map, id);

	return node ? (uint32_t)(node - map->nodes) : TIERING_NODE_UNKNOWN;
}

static void run_place(void *arg, const struct process_run *run)
{
	struct placing *placing = arg;
	bool huge = run->page_bytes == TIERING_HUGE_PAGES * PAGE_BYTES;

	/* Pages of other sizes are left to those who reserved them. */
	if (!huge && run->page_bytes != PAGE_BYTES)
		return;
	/* Without memory for its record it stays where it is. */
	windows_cover(&placing->watch->space, run->start >> PAGE_SHIFT, run->end >> PAGE_SHIFT);
	/* The clock, not the time of the round: touches before this may be those that brought the page. */
	tiering_place(placing->watch->tiering, &placing->watch->space, run->start >> PAGE_SHIFT,
		      (run->end - run->start) >> PAGE_SHIFT, watch_node(placing->map, run->node), huge,
		      clock_now_ns());
}

/* The first page from `vpn` on that is in memory and may be moved. -ENOENT: none. */
static int present_next(const struct watch *watch, uint64_t vpn, uint64_t *ret_vpn)
{
	uint64_t at = vpn << PAGE_SHIFT;
	int error = -ENOENT;

	for (size_t i = 0; i < watch->nr_ranges && error == -ENOENT; i++) {
		const struct process_range *range = &watch->ranges[i];

		if (range->end > at && range_ours(range))
			error = process_first_present(watch->process, range->start > at ? range->start : at,
						      range->end, &at);
	}
	if (!error)
		*ret_vpn = at >> PAGE_SHIFT;
	return error;
}

/* What of the next window is in memory and may be moved. Nothing is in those before it: they go. */
static uint64_t window_look(void *arg, uint64_t vpn)
{
	struct placing *placing = arg;
	struct watch *watch = placing->watch;
	uint64_t first;
	int error = present_next(watch, vpn, &first);

	if (error) {
		if (error == -ENOENT)
			windows_forget(watch->tiering, &watch->space, vpn, UINT64_MAX);
		return WALK_END;
	}
	first -= first % TIERING_WINDOW_PAGES;
	windows_forget(watch->tiering, &watch->space, vpn, first);
	uint64_t at = first << PAGE_SHIFT, end = (first + TIERING_WINDOW_PAGES) << PAGE_SHIFT;
	for (size_t i = 0; i < watch->nr_ranges; i++) {
		const struct process_range *range = &watch->ranges[i];
		uint64_t low = range->start > at ? range->start : at;
		uint64_t high = range->end < end ? range->end : end;
		if (low >= high || !range_ours(range))
			continue;
		process_where(watch->process, low, high, run_place, placing);
		watch->shares->scanned_pages += (high - low) >> PAGE_SHIFT;
	}
	return first + TIERING_WINDOW_PAGES;
}

bool watch_walk(struct watch *watch, const struct node_map *map, uint64_t now_ns)
{
	struct placing placing = { watch, map };
	uint64_t before_ns = watch->cpu_ns;
	bool still = watch->asleep && watch->walk.passes > watch->looked_passes + 1;
	bool more = !watch->ended && !still && walk_slice(&watch->walk, window_look, &placing, now_ns, &watch->cpu_ns);

	watch->shares->scan_ns += watch->cpu_ns - before_ns;
	return more;
}

/* ---- touches ---- */

/* The first address behind a run that is mapped as one, or that is not mapped. */
static uint64_t run_end(const struct watch *watch, const struct process_range *range, uint64_t address,
			uint64_t end)
{
	uint64_t run = end;

	if (range)
		run = range->end;
	else if (end - address > PAGE_BYTES)
		for (size_t i = 0; i < watch->nr_ranges && run == end; i++)
			if (watch->ranges[i].start > address && watch->ranges[i].start < end)
				run = watch->ranges[i].start;
	return run < end ? run : end;
}

/* Windows for what is in memory of a run that was touched; `vpn`: of its first page. */
static void touch_cover(const struct watch *watch, struct tiering_space *space, uint64_t address, uint64_t end,
			uint64_t vpn)
{
	uint64_t first = address >> PAGE_SHIFT, last = (end - 1) >> PAGE_SHIFT;

	for (uint64_t at = first, page; at <= last; at += TIERING_WINDOW_PAGES - page % TIERING_WINDOW_PAGES) {
		page = at - first + vpn;
		if (tiering_window_find(space, page))
			continue;
		uint64_t found;
		if (process_first_present(watch->process, at << PAGE_SHIFT, (last + 1) << PAGE_SHIFT, &found))
			return;
		at = found >> PAGE_SHIFT;
		page = at - first + vpn;
		windows_cover(space, page, page + 1);
	}
}

void watch_touch(struct watch *watch, uint64_t address, uint64_t end, uint32_t node, uint64_t time_ns)
{
	for (uint64_t next; address < end; address = next) {
		const struct process_range *range = process_range_find(watch->process, address);
		uint64_t vpn = address >> PAGE_SHIFT;
		struct share *share = range ? share_find(watch->shares, range, address, &vpn) : NULL;

		struct tiering_space *space = share ? &share->space : &watch->space;

		next = run_end(watch, range, address, end);
		if (range && range->refusal == REASON_MOVED && (share || !share_has(range)))
			touch_cover(watch, space, address, next, vpn);
		tiering_touch_run(watch->tiering, space, vpn,
				  ((next - 1) >> PAGE_SHIFT) - (address >> PAGE_SHIFT) + 1, node, time_ns);
	}
}

void watch_armed(struct watch *watch, uint64_t address, uint64_t end, uint64_t time_ns)
{
	const struct process_range *range = process_range_find(watch->process, address);
	uint64_t vpn = address >> PAGE_SHIFT;
	struct share *share = range ? share_find(watch->shares, range, address, &vpn) : NULL;

	if (share && end > range->end)
		end = range->end;
	tiering_armed(share ? &share->space : &watch->space, vpn, (end - address) >> PAGE_SHIFT, time_ns);
}

const struct tiering_census *watch_census(struct watch *watch, uint64_t now_ns)
{
	return census_look(&watch->census, watch->tiering, &watch->space, now_ns, &watch->shares->census_ns);
}

/* ---- the process ---- */

static void homes_look(struct watch *watch)
{
	uint32_t counts[NODESET_MAX] = { 0 };
	uint64_t homes = 0, now_ns = clock_now_ns(), begin_ns = clock_thread_cpu_ns();

	if (!spend_due(&watch->homes, HOMES_SHARE, now_ns) || process_threads(watch->process, counts))
		return;
	for (uint32_t n = 0; n < watch->tiering->config.nr_nodes; n++)
		if (counts[n])
			homes |= UINT64_C(1) << n;
	watch->space.homes = homes;
	watch->homes = (struct spend){ now_ns, clock_thread_cpu_ns() - begin_ns };
}

static void watch_let_go(struct watch *watch)
{
	windows_forget(watch->tiering, &watch->space, 0, UINT64_MAX);
	shares_leave(watch->shares, &watch->sharer);
	watch->nr_ranges = 0;
	watch->mappings_hash = 0;
	census_forget(&watch->census, &watch->shares->census_ns);
}

/* Whether all that is known of it still holds. Not all begin at once to be looked at for having slept long. */
static bool sleeps(struct watch *watch)
{
	uint64_t now_ns = clock_now_ns(), ran_ns = clock_process_cpu_ns(watch->pid);
	uint64_t most_ns = ASLEEP_NS + ASLEEP_NS / 64 * ((uint64_t)watch->pid % 64);

	watch->asleep = ran_ns && ran_ns == watch->ran_ns && !watch->lost && !watch->error &&
			now_ns - watch->looked_ns < most_ns;
	watch->ran_ns = ran_ns;
	watch->lost = false;
	if (watch->asleep)
		return true;
	watch->looked_ns = now_ns;
	watch->looked_passes = watch->walk.passes;
	return false;
}

int watch_look(struct watch *watch)
{
	uint64_t begin_ns = clock_thread_cpu_ns();

	if (watch->ended)
		return -ESRCH;
	if (sleeps(watch))
		return 0;
	int error = process_look(watch->process);
	if (error == -ESTALE) {
		/* Another program: nothing of what was known is true. */
		watch_let_go(watch);
		walk_init(&watch->walk, clock_now_ns());
		error = process_renew(watch->process);
		watch->renewed = true;
	}
	if (!error)
		error = mappings_follow(watch);
	if (!error)
		error = process_allowed(watch->process, &watch->sharer.allowed);
	if (!error)
		homes_look(watch);
	if (error == -ESRCH) {
		watch_let_go(watch);
		process_ended(watch->process);
		watch->ended = true;
		watch->ended_ns = clock_now_ns();
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
	text_utf8_clean(watch->name);
}

const char *watch_cgroup(struct watch *watch)
{
	struct cgroup_names names;
	enum cgroup_hierarchy h = CGROUP_UNIFIED;

	if (watch->ended || cgroup_names_read("", watch->pid, &names))
		return watch->cgroup ? watch->cgroup : "";
	/* A machine with version 1 may have version 2 mounted beside it, with everybody at its top. */
	if (!names.name[h][1] && names.name[CGROUP_MEMORY][0])
		h = CGROUP_MEMORY;
	text_utf8_clean(names.name[h]);
	if (!watch->cgroup || strcmp(watch->cgroup, names.name[h])) {
		free(watch->cgroup);
		watch->cgroup = strdup(names.name[h]);
	}
	return watch->cgroup ? watch->cgroup : "";
}

void watch_glance(struct watch *watch)
{
	(void)process_allowed(watch->process, &watch->sharer.allowed); /* it may end just now: that is seen */
}

void watch_wake(struct watch *watch)
{
	watch->ran_ns = 0;
}

int watch_open(pid_t pid, uint64_t before_ns, struct shares *shares, const struct node_map *map, uint64_t now_ns,
	       struct watch **ret_watch)
{
	const struct process_options options = { .root = "", .before_ns = before_ns };
	struct watch *watch = calloc(1, sizeof *watch);
	int error = watch ? process_open(pid, &options, map, &watch->process) : -ENOMEM;

	if (!error) {
		error = windows_begin(shares->tiering, &watch->space, watch);
		if (error)
			process_close(watch->process);
	}
	if (error) {
		free(watch);
		return error;
	}
	watch->pid = pid;
	watch->tiering = shares->tiering;
	watch->shares = shares;
	watch->sharer.process = watch->process;
	watch->sharer.own = &watch->space;
	name_read(watch);
	walk_init(&watch->walk, now_ns);
	*ret_watch = watch;
	return 0;
}

void watch_close(struct watch *watch)
{
	shares_leave(watch->shares, &watch->sharer);
	census_forget(&watch->census, &watch->shares->census_ns);
	windows_end(watch->tiering, &watch->space);
	process_close(watch->process);
	free(watch->cgroup);
	free(watch);
}

int watches_share(struct watch *first, struct shares *shares, uint64_t now_ns)
{
	int error = 0;

	shares_begin(shares);
	for (struct watch *watch = first; watch; watch = watch->next) {
		if (watch->ended)
			continue;
		int failed = shares_add(shares, &watch->sharer, watch->ranges, watch->nr_ranges, now_ns);
		error = error ? error : failed;
	}
	shares_end(shares);
	return error;
}

/* ---- moves ---- */

static void looks_answer(struct watch *watch, const struct node_map *map,
			 const struct tiering_move *moves, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		struct placing placing = { watch, map };
		uint64_t start = moves[i].vpn << PAGE_SHIFT, end = start + PAGE_BYTES;

		/* Neighbours that are asked for too go along. */
		while (i + 1 < nr && moves[i + 1].vpn << PAGE_SHIFT == end) {
			end += PAGE_BYTES;
			i++;
		}
		process_where(watch->process, start, end, run_place, &placing);
	}
}

void watch_move(struct watch *watch, const struct node_map *map, const struct nodeset *slow,
		struct tiering_move *moves, size_t nr)
{
	struct process_move batch[BATCH];
	uint64_t begin_ns = clock_thread_cpu_ns();
	size_t done = 0;

	if (moves->op == TIERING_LOOK) {
		looks_answer(watch, map, moves, nr);
		done = nr;
	}
	while (done < nr) {
		size_t part = nr - done < BATCH ? nr - done : BATCH;

		for (size_t i = 0; i < part; i++)
			batch[i] = (struct process_move){
				.address = moves[done + i].vpn << PAGE_SHIFT,
				.page_bytes = moves[done + i].nr_pages * PAGE_BYTES,
			};
		int error = process_move(watch->process, batch, part,
					 moves->op == TIERING_PROMOTE ? slow : NULL,
					 map->nodes[moves->to].id, &watch->sharer.tally);
		watch->lost |= error == -ESRCH || error == -ESTALE;
		for (size_t i = 0; i < part; i++) {
			struct tiering_move *move = &moves[done + i];
			move->reason = (enum reason)batch[i].reason;
			move->nr_moved = batch[i].moved_bytes / PAGE_BYTES;
		}
		done += part;
	}
	watch->cpu_ns += clock_thread_cpu_ns() - begin_ns;
}
