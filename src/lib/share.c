/* SPDX-License-Identifier: MIT */
#include "share.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "array.h"
#include "clock.h"

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12
#define BATCH 512u
#define ASKED_MAX 64u /* users asked for a page */
#define UNDECIDED REASON_COUNT

/* ---- finding ---- */

bool share_has(const struct process_range *range)
{
	bool sysv = range->device & PROCESS_DEVICE_SYSV; /* the first segment's number is 0 */

	if ((!range->inode && !sysv) || range->kind == PROCESS_SPECIAL)
		return false;
	return range->shared || (range->kind == PROCESS_FILE && !range->own_pages);
}

const char *share_device_format(char text[SHARE_DEVICE_BYTES], uint64_t device)
{
	if (device & PROCESS_DEVICE_SYSV)
		snprintf(text, SHARE_DEVICE_BYTES, "sysv");
	else
		snprintf(text, SHARE_DEVICE_BYTES, "%02x:%02x", (unsigned int)(device >> 32), (unsigned int)device);
	return text;
}

static struct share **bucket_of(const struct shares *shares, uint64_t device, uint64_t inode)
{
	uint64_t hash = (inode ^ device << 40 ^ device >> 24) * UINT64_C(0x9e3779b97f4a7c15);

	return (struct share **)&shares->buckets[hash >> 54 & (SHARE_BUCKETS - 1)];
}

static struct share *share_of(const struct shares *shares, const struct process_range *range)
{
	struct share *share = *bucket_of(shares, range->device, range->inode);

	while (share && (share->inode != range->inode || share->device != range->device))
		share = share->next;
	return share;
}

static uint64_t file_page(const struct process_range *range, uint64_t address)
{
	return (address - range->start + range->offset) >> PAGE_SHIFT;
}

struct share *share_find(const struct shares *shares, const struct process_range *range,
			 uint64_t address, uint64_t *ret_vpn)
{
	struct share *share = share_has(range) ? share_of(shares, range) : NULL;

	if (share)
		*ret_vpn = file_page(range, address);
	return share;
}

/* ---- coming and going ---- */

void shares_init(struct shares *shares, struct tiering *tiering)
{
	*shares = (struct shares){ .tiering = tiering };
}

static int share_new(struct shares *shares, const struct process_range *range, uint64_t now_ns,
		     struct share **ret_share)
{
	struct share **bucket = bucket_of(shares, range->device, range->inode);
	struct share *share = calloc(1, sizeof *share);
	int error = share ? windows_begin(shares->tiering, &share->space, NULL) : -ENOMEM;

	if (error) {
		free(share);
		return error;
	}
	share->tiering = shares->tiering;
	share->device = range->device;
	share->inode = range->inode;
	walk_init(&share->walk, now_ns);
	share->next = *bucket;
	*bucket = share;
	shares->nr++;
	*ret_share = share;
	return 0;
}

static void share_close(struct shares *shares, struct share **at)
{
	struct share *share = *at;

	*at = share->next;
	shares->nr--;
	shares->nr_gone++;
	windows_end(shares->tiering, &share->space);
	tiering_counts_add(&shares->gone, &share->space.counts);
	census_forget(&share->census, &shares->census_ns);
	free(share->users);
	free(share);
}

void shares_close(struct shares *shares)
{
	for (size_t b = 0; b < SHARE_BUCKETS; b++)
		while (shares->buckets[b])
			share_close(shares, &shares->buckets[b]);
}

static int user_add(struct share *share, struct share_process *process,
		    const struct process_range *range)
{
	struct share_user *users = array_room(share->users, share->nr_users, &share->room_users, sizeof *users);

	if (!users)
		return -ENOMEM;
	share->users = users;
	users[share->nr_users++] = (struct share_user){
		.process = process,
		.range = *range,
		.first = file_page(range, range->start),
		.end = file_page(range, range->end),
	};
	share->space.homes |= process->own->homes;
	if (share->space.weight < process->own->weight)
		share->space.weight = process->own->weight;
	return 0;
}

/* ---- rounds ---- */

void shares_begin(struct shares *shares)
{
	for (size_t b = 0; b < SHARE_BUCKETS; b++) {
		for (struct share *share = shares->buckets[b]; share; share = share->next) {
			share->nr_users = 0;
			share->space.weight = 0;
			share->space.homes = 0;
		}
	}
}

int shares_add(struct shares *shares, struct share_process *process,
	       const struct process_range *ranges, size_t nr, uint64_t now_ns)
{
	int error = 0;

	for (size_t i = 0; i < nr && !error; i++) {
		if (!share_has(&ranges[i]))
			continue;
		struct share *share = share_of(shares, &ranges[i]);
		if (!share)
			error = share_new(shares, &ranges[i], now_ns, &share);
		if (!error)
			error = user_add(share, process, &ranges[i]);
	}
	return error;
}

static int user_compare(const void *a, const void *b)
{
	const struct share_user *one = a, *other = b;

	return (one->first > other->first) - (one->first < other->first);
}

static bool user_movable(const struct share_user *user)
{
	return user->range.refusal == REASON_MOVED;
}

/* Windows are only where somebody maps what may be moved; most rounds change nothing. */
static void share_trim(struct shares *shares, struct share *share)
{
	uint64_t layout = 1, from = 0;

	for (size_t i = 0; i < share->nr_users; i++) {
		const struct share_user *user = &share->users[i];
		if (!user_movable(user))
			continue;
		layout = (layout ^ user->first) * UINT64_C(0x9e3779b97f4a7c15);
		layout = (layout ^ user->end ^ layout >> 29) * UINT64_C(0x9e3779b97f4a7c15);
	}
	if (layout == share->layout)
		return;
	for (size_t i = 0; i < share->nr_users; i++) {
		const struct share_user *user = &share->users[i];
		if (!user_movable(user))
			continue;
		if (user->first > from)
			windows_forget(shares->tiering, &share->space, from, user->first);
		if (user->end > from)
			from = user->end;
	}
	windows_forget(shares->tiering, &share->space, from, UINT64_MAX);
	share->layout = layout;
}

void shares_end(struct shares *shares)
{
	for (size_t b = 0; b < SHARE_BUCKETS; b++) {
		for (struct share **at = &shares->buckets[b]; *at;) {
			struct share *share = *at;
			if (!share->nr_users) {
				share_close(shares, at);
				continue;
			}
			qsort(share->users, share->nr_users, sizeof *share->users, user_compare);
			share_trim(shares, share);
			at = &share->next;
		}
	}
}

void shares_leave(struct shares *shares, const struct share_process *process)
{
	for (size_t b = 0; b < SHARE_BUCKETS; b++) {
		for (struct share *share = shares->buckets[b]; share; share = share->next) {
			size_t kept = 0;
			for (size_t i = 0; i < share->nr_users; i++)
				if (share->users[i].process != process)
					share->users[kept++] = share->users[i];
			share->nr_users = kept;
		}
	}
}

/* ---- where its pages are ---- */

struct placing {
	struct share *share;
	const struct share_user *user;
	const struct node_map *map;
	uint64_t nr_asked, nr_found; /* pages */
};

static uint64_t user_address(const struct share_user *user, uint64_t vpn)
{
	return user->range.start + ((vpn - user->first) << PAGE_SHIFT);
}

static bool user_maps(const struct share_user *user, uint64_t vpn, uint64_t nr_pages)
{
	return user->first <= vpn && vpn + nr_pages <= user->end;
}

static void run_place(void *arg, const struct process_run *run)
{
	struct placing *placing = arg;
	const struct process_range *range = &placing->user->range;
	const struct node *node = node_find(placing->map, run->node);
	uint64_t vpn = file_page(range, run->start), nr = (run->end - run->start) >> PAGE_SHIFT;
	bool huge = run->page_bytes == TIERING_HUGE_PAGES * PAGE_BYTES;

	/* Pages of other sizes are left to those who reserved them. */
	if ((!huge && run->page_bytes != PAGE_BYTES) || run->start < range->start ||
	    (huge && vpn % TIERING_HUGE_PAGES))
		return;
	placing->nr_found += nr;
	/* Without memory for its record it stays where it is. */
	windows_cover(&placing->share->space, vpn, vpn + nr);
	tiering_place(placing->share->tiering, &placing->share->space, vpn, nr,
		      node ? (uint32_t)(node - placing->map->nodes) : TIERING_NODE_UNKNOWN, huge,
		      clock_now_ns() /* as in watch.c */);
}

/* As one user has them. */
static void user_look(struct placing *placing, const struct share_user *user, uint64_t first, uint64_t end)
{
	placing->user = user;
	placing->nr_asked += end - first;
	process_where(user->process->process, user_address(user, first), user_address(user, end),
		      run_place, placing);
}

/* The first page from `vpn` on that one of those who are asked has in memory; WALK_END: none. */
static uint64_t present_next(const struct share *share, uint64_t vpn)
{
	uint64_t next = WALK_END;

	for (size_t i = 0; i < share->nr_users && i < ASKED_MAX; i++) {
		const struct share_user *user = &share->users[(i + share->turn) % share->nr_users];
		uint64_t low = user->first > vpn ? user->first : vpn;
		uint64_t high = user->end < next ? user->end : next, found;

		if (low < high && user_movable(user) &&
		    !process_first_present(user->process->process, user_address(user, low),
					   user_address(user, high), &found))
			next = file_page(&user->range, found);
	}
	return next;
}

/* Through as few users as map the window, each time beginning with another: what only others have in
 * their page tables is found in a later pass, or when it is touched. */
static uint64_t window_look(void *arg, uint64_t vpn)
{
	struct placing *placing = arg;
	const struct share *share = placing->share;
	uint64_t next = present_next(share, vpn), seen_first = 0, seen_end = 0;
	uint64_t first = next - next % TIERING_WINDOW_PAGES, end = first + TIERING_WINDOW_PAGES;
	size_t asked = 0;

	if (next == WALK_END)
		return WALK_END;

	for (size_t i = 0; i < share->nr_users && asked < ASKED_MAX; i++) {
		const struct share_user *user = &share->users[(i + share->turn) % share->nr_users];
		uint64_t low = user->first > first ? user->first : first;
		uint64_t high = user->end < end ? user->end : end;

		if (low >= high || (low >= seen_first && high <= seen_end) || !user_movable(user))
			continue;
		user_look(placing, user, low, high);
		asked++;
		bool joins = low <= seen_end && high >= seen_first;
		seen_first = joins && seen_first < low ? seen_first : low;
		seen_end = joins && seen_end > high ? seen_end : high;
	}
	return end;
}

static bool share_walk(struct shares *shares, struct share *share, const struct node_map *map, bool once,
		       uint64_t now_ns)
{
	struct placing placing = { .share = share, .map = map };
	uint64_t passes = share->walk.passes, before_ns = share->cpu_ns;
	bool more;

	if (!share->nr_users || (once && share->walk.passes))
		return false;
	more = walk_slice(&share->walk, window_look, &placing, now_ns, &share->cpu_ns);
	if (share->walk.passes != passes)
		share->turn++;
	shares->scanned_pages += placing.nr_asked;
	shares->scan_ns += share->cpu_ns - before_ns;
	return more;
}

bool shares_walk(struct shares *shares, const struct node_map *map, bool once, uint64_t now_ns)
{
	bool more = false;

	for (size_t b = 0; b < SHARE_BUCKETS; b++)
		for (struct share *share = shares->buckets[b]; share; share = share->next)
			more |= share_walk(shares, share, map, once, now_ns);
	return more;
}

static void looks_answer(struct share *share, const struct node_map *map, const struct tiering_move *moves,
			 size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		struct placing placing = { .share = share, .map = map };
		uint64_t first = moves[i].vpn, end = first + 1;

		/* Neighbours that are asked for too go along. */
		while (i + 1 < nr && moves[i + 1].vpn == end) {
			end++;
			i++;
		}
		for (size_t u = 0; u < share->nr_users && u < ASKED_MAX && placing.nr_found < end - first; u++) {
			const struct share_user *user = &share->users[(u + share->turn) % share->nr_users];
			uint64_t low = user->first > first ? user->first : first;
			uint64_t high = user->end < end ? user->end : end;

			if (low < high && user_movable(user))
				user_look(&placing, user, low, high);
		}
	}
}

/* ---- moves ---- */

/* What a user that maps the page has against its being on a node. */
static enum reason user_forbids(const struct share_user *user, unsigned int to)
{
	const struct process_range *range = &user->range;

	if (range->refusal != REASON_MOVED)
		return range->refusal;
	if (range->policy == PROCESS_POLICY_BIND && !nodeset_has(&range->policy_nodes, to))
		return REASON_POLICY;
	return nodeset_has(&user->process->allowed, to) ? UNDECIDED : REASON_POLICY;
}

static enum reason page_forbidden(const struct share *share, const struct tiering_move *move,
				  unsigned int to)
{
	for (size_t i = 0; i < share->nr_users && share->users[i].first < move->vpn + move->nr_pages; i++) {
		if (share->users[i].end <= move->vpn)
			continue;
		enum reason reason = user_forbids(&share->users[i], to);
		if (reason != UNDECIDED)
			return reason;
	}
	return UNDECIDED;
}

/* Another user may have it. */
static bool reason_passes_on(enum reason reason)
{
	return reason == REASON_SPACE_GONE || reason == REASON_PAGE_GONE || reason == REASON_RANGE_GONE;
}

/* Through one user: what it has of the undecided pages. Returns how many of them are decided by it. */
static size_t user_move(struct share *share, const struct share_user *user, const struct nodeset *from,
			unsigned int to, struct tiering_move *moves, size_t nr)
{
	struct process_move batch[BATCH];
	size_t index[BATCH], nr_batch = 0, decided = 0;

	for (size_t i = 0; i < nr; i++) {
		if (moves[i].reason != UNDECIDED || !user_maps(user, moves[i].vpn, moves[i].nr_pages))
			continue;
		index[nr_batch] = i;
		batch[nr_batch++] = (struct process_move){
			.address = user_address(user, moves[i].vpn),
			.page_bytes = moves[i].nr_pages * PAGE_BYTES,
		};
	}
	if (!nr_batch)
		return 0;
	struct process_space *process = user->process->process;
	struct move_pace before = *process_pace(process);
	process_move(process, batch, nr_batch, from, to, &user->process->tally);
	move_pace_add_between(&share->stalls, &before, process_pace(process));
	for (size_t i = 0; i < nr_batch; i++) {
		struct tiering_move *move = &moves[index[i]];
		if (reason_passes_on((enum reason)batch[i].reason) && !batch[i].moved_bytes)
			continue;
		move->reason = (enum reason)batch[i].reason;
		move->nr_moved = batch[i].moved_bytes / PAGE_BYTES;
		decided++;
	}
	return decided;
}

static void batch_move(struct share *share, const struct nodeset *from, unsigned int to,
		       struct tiering_move *moves, size_t nr)
{
	size_t left = 0;

	for (size_t i = 0; i < nr; i++) {
		moves[i].nr_moved = 0;
		moves[i].reason = page_forbidden(share, &moves[i], to);
		left += moves[i].reason == UNDECIDED;
	}
	for (size_t u = 0; u < share->nr_users && u < ASKED_MAX && left; u++)
		left -= user_move(share, &share->users[(u + share->turn) % share->nr_users], from, to, moves, nr);
	for (size_t i = 0; i < nr; i++)
		if (moves[i].reason == UNDECIDED)
			moves[i].reason = REASON_PAGE_GONE;
}

void share_move(const struct node_map *map, const struct nodeset *slow, struct tiering_move *moves,
		size_t nr)
{
	struct tiering_space *space = moves->window->space;
	struct share *share = (struct share *)(void *)((char *)space - offsetof(struct share, space));
	uint64_t begin_ns = clock_thread_cpu_ns();

	if (moves->op == TIERING_LOOK) {
		looks_answer(share, map, moves, nr);
	} else {
		for (size_t done = 0, part; done < nr; done += part) {
			part = nr - done < BATCH ? nr - done : BATCH;
			batch_move(share, moves->op == TIERING_PROMOTE ? slow : NULL,
				   map->nodes[moves->to].id, moves + done, part);
		}
	}
	share->cpu_ns += clock_thread_cpu_ns() - begin_ns;
}

void shares_total(const struct shares *shares, struct tiering_counts *ret_total)
{
	const struct tiering_space *space = shares->tiering->first;

	*ret_total = shares->gone;
	for (uint32_t i = 0; i < shares->tiering->nr_spaces; i++, space = space->next)
		tiering_counts_add(ret_total, &space->counts);
}

const struct tiering_census *share_census(struct shares *shares, struct share *share, uint64_t now_ns)
{
	return census_look(&share->census, shares->tiering, &share->space, now_ns, &shares->census_ns);
}

static bool share_read_only(const struct share *share)
{
	for (size_t i = 0; i < share->nr_users; i++)
		if (share->users[i].range.write)
			return false;
	return true;
}

uint64_t shares_read_only_pages(const struct shares *shares, size_t node)
{
	uint64_t pages = 0;

	for (size_t b = 0; b < SHARE_BUCKETS; b++)
		for (const struct share *share = shares->buckets[b]; share; share = share->next)
			if (share->space.node_pages[node] && share_read_only(share))
				pages += share->space.node_pages[node];
	return pages;
}
