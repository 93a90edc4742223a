/* SPDX-License-Identifier: MIT */
/*
 * Moving pages of a process: first everything that forbids it, in the order below, then calls of
 * about the size that the pace gives, with a look at the process before and after each.
 *
 *   the space is another   SPACE_GONE        the page is not there      PAGE_GONE, RANGE_GONE
 *   not mapped now         RANGE_GONE        it is there already        ALREADY
 *   the range's refusal    LOCKED ...        it is not where it comes from  NOT_SLOW
 *   its policy, the cpuset POLICY            the target is full         NO_ROOM
 */
#include "process_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pagemap.h"
#include "proc.h"

#define UNDECIDED REASON_COUNT
#define HUGE_PARTS (PROCESS_HUGE / PROCESS_PAGE)
#define BATCH MOVE_CALL_PAGES_MAX

/* What one process_move() works with. Too large for a stack. */
struct work {
	struct process_space *space;
	struct process_move *pages;
	size_t nr;
	const struct nodeset *from;
	unsigned int to;
	struct process_tally *tally;
	uint64_t room_bytes;
	size_t nr_batch;
	uint32_t batch_page_bytes;
	size_t index[BATCH];         /* of the batch's pages in `pages` */
	uint64_t addresses[BATCH];
	int nodes[BATCH];
	uint8_t status[BATCH];
};

static void decide(struct work *work, struct process_move *page, enum reason reason)
{
	page->reason = (uint8_t)reason;
	page->moved_bytes = reason == REASON_MOVED ? page->page_bytes : 0;
	work->tally->bytes[reason] += page->page_bytes;
}

/* ---- what forbids it -------------------------------------------------------------------------- */

static enum reason range_rules(const struct work *work, const struct process_move *page)
{
	const struct process_range *range = process_range_find(work->space, page->address);

	if (!range)
		return REASON_RANGE_GONE;
	if (range->refusal != REASON_MOVED)
		return range->refusal;
	if (range->policy == PROCESS_POLICY_BIND && !nodeset_has(&range->policy_nodes, work->to))
		return REASON_POLICY;
	return UNDECIDED;
}

static enum reason place_rules(struct work *work, const struct process_move *page, int node)
{
	if (node == -EFAULT)
		return REASON_RANGE_GONE;
	if (node < 0)
		return REASON_PAGE_GONE;
	if ((unsigned int)node == work->to)
		return REASON_ALREADY;
	if (work->from && !nodeset_has(work->from, (unsigned int)node))
		return REASON_NOT_SLOW;
	if (page->page_bytes > work->room_bytes)
		return REASON_NO_ROOM;
	work->room_bytes -= page->page_bytes;
	return UNDECIDED;
}

static void rules_ranges(struct work *work)
{
	struct nodeset allowed;
	bool forbidden = !process_allowed(work->space, &allowed) && !nodeset_has(&allowed, work->to);

	for (size_t i = 0; i < work->nr; i++) {
		enum reason reason = forbidden ? REASON_POLICY : range_rules(work, &work->pages[i]);

		work->pages[i].reason = (uint8_t)reason;
		if (reason != UNDECIDED)
			decide(work, &work->pages[i], reason);
	}
}

/* The undecided pages from *at on, up to a batch of them. */
static void batch_fill(struct work *work, size_t *at)
{
	work->nr_batch = 0;
	for (; *at < work->nr && work->nr_batch < BATCH; ++*at) {
		if (work->pages[*at].reason != UNDECIDED)
			continue;
		work->index[work->nr_batch] = *at;
		work->addresses[work->nr_batch++] = work->pages[*at].address;
	}
}

static int rules_places(struct work *work)
{
	size_t at = 0;
	int error = 0;

	for (batch_fill(work, &at); work->nr_batch && !error; batch_fill(work, &at)) {
		error = process_query(work->space, work->addresses, work->nr_batch, work->nodes);
		for (size_t i = 0; i < work->nr_batch && !error; i++) {
			struct process_move *page = &work->pages[work->index[i]];
			enum reason reason = place_rules(work, page, work->nodes[i]);

			if (reason != UNDECIDED)
				decide(work, page, reason);
		}
	}
	return error;
}

/* ---- moving ----------------------------------------------------------------------------------- */

static enum reason held_reason(const struct work *work, uint64_t address)
{
	const struct process_range *range = process_range_find(work->space, address);

	return range && range->kind == PROCESS_FILE && pagemap_dirty(work->space->pagemap, address) ?
		REASON_DIRTY_FILE : REASON_PINNED;
}

static enum reason status_reason(const struct work *work, uint64_t address, enum move_status status,
				 int error)
{
	switch (status) {
	case MOVE_DONE:
		return REASON_MOVED;
	case MOVE_NO_PAGE:
		return REASON_PAGE_GONE;
	case MOVE_NO_RANGE:
		return REASON_RANGE_GONE;
	case MOVE_SHARED:
		return REASON_SHARED;
	case MOVE_ISOLATED:
		return REASON_BUSY;
	case MOVE_HELD:
		return held_reason(work, address);
	case MOVE_NO_MEMORY:
		return REASON_NO_ROOM;
	case MOVE_NOT_TRIED:
		break;
	}
	return error == -ENODEV ? REASON_NO_ROOM : error == -EACCES ? REASON_POLICY : REASON_SPACE_GONE;
}

/* A page that is not mapped as one any more, so each of its parts has been moved or not. */
static void split_settle(struct work *work, struct process_move *page)
{
	uint64_t addresses[HUGE_PARTS];
	uint32_t moved = 0, present = 0;
	int nodes[HUGE_PARTS];

	for (uint32_t i = 0; i < HUGE_PARTS; i++)
		addresses[i] = page->address + i * PROCESS_PAGE;
	if (move_query(work->space->pid, addresses, HUGE_PARTS, nodes))
		return;
	for (uint32_t i = 0; i < HUGE_PARTS; i++) {
		present += nodes[i] >= 0;
		moved += nodes[i] >= 0 && (unsigned int)nodes[i] == work->to;
	}
	/* What was freed of it the kernel takes for moved, too. */
	if (page->reason == REASON_MOVED && moved == present)
		return;
	work->tally->bytes[page->reason] -= page->page_bytes;
	if (moved == HUGE_PARTS)
		page->reason = REASON_MOVED;
	else if (page->reason == REASON_MOVED)
		page->reason = REASON_BUSY;
	page->moved_bytes = moved * PROCESS_PAGE;
	work->tally->bytes[REASON_MOVED] += page->moved_bytes;
	work->tally->bytes[page->reason] += page->page_bytes - page->moved_bytes;
}

/* The status of a huge page is that of its first part: all there is to say, unless it was split before its
 * move or, for want of room or of the whole of it, by the kernel in it. */
static void huge_settle(struct work *work)
{
	for (size_t i = 0; i < work->nr_batch; i++)
		if (!pagemap_huge(work->space->pagemap, work->addresses[i]))
			split_settle(work, &work->pages[work->index[i]]);
}

static int batch_move(struct work *work)
{
	struct process_space *space = work->space;
	int error = process_look(space), after;

	if (error)
		return error;
	error = move_to(space->pid, work->addresses, work->nr_batch, work->batch_page_bytes, work->to,
			space->all, &space->pace, work->status);
	after = process_look(space);
	for (size_t i = 0; i < work->nr_batch; i++)
		decide(work, &work->pages[work->index[i]],
		       after ? REASON_SPACE_GONE :
			       status_reason(work, work->addresses[i], work->status[i], error));
	if (!after && !error && work->batch_page_bytes == PROCESS_HUGE)
		huge_settle(work);
	return after ? after : error;
}

/* A batch is of pages of one size, and about as large as one call may be. */
static void batch_take(struct work *work, size_t *at)
{
	uint32_t limit = work->space->pace.pages, used = 0;

	work->nr_batch = 0;
	for (; *at < work->nr && work->nr_batch < BATCH; ++*at) {
		const struct process_move *page = &work->pages[*at];
		uint32_t pages = page->page_bytes / PROCESS_PAGE;

		if (page->reason != UNDECIDED)
			continue;
		if (work->nr_batch && (page->page_bytes != work->batch_page_bytes || used + pages > limit))
			break;
		work->batch_page_bytes = page->page_bytes;
		work->index[work->nr_batch] = *at;
		work->addresses[work->nr_batch++] = page->address;
		used += pages;
	}
}

static int pages_move(struct work *work)
{
	size_t at = 0;
	int error = 0;

	for (batch_take(work, &at); work->nr_batch && !error;) {
		error = batch_move(work);
		if (!error)
			batch_take(work, &at);
	}
	return error;
}

/* The target keeps what its high watermark wants: below it the kernel begins to reclaim there. */
static uint64_t room_find(const struct process_space *space, unsigned int to)
{
	struct node_room room;

	if (node_room_read(space->root, to, &room) || room.free_bytes < room.high_bytes)
		return 0;
	return room.free_bytes - room.high_bytes;
}

static int work_do(struct work *work)
{
	int error = 0;

	if (!nodeset_has(&work->space->map->memory, work->to))
		return -ENODEV;
	if (!work->space->nr_ranges) {
		const struct process_range *ranges;
		size_t nr;

		error = process_ranges(work->space, &ranges, &nr);
	}
	if (!error)
		error = process_look(work->space);
	if (error)
		return error;
	work->room_bytes = room_find(work->space, work->to);
	rules_ranges(work);
	error = rules_places(work);
	return error ? error : pages_move(work);
}

int process_move(struct process_space *space, struct process_move *pages, size_t nr,
		 const struct nodeset *from, unsigned int to, struct process_tally *tally)
{
	struct work *work = malloc(sizeof(*work));
	int error = -ENOMEM;

	for (size_t i = 0; i < nr; i++) {
		pages[i].reason = UNDECIDED;
		pages[i].moved_bytes = 0;
		tally->asked_bytes += pages[i].page_bytes;
	}
	if (work) {
		work->space = space;
		work->pages = pages;
		work->nr = nr;
		work->from = from;
		work->to = to;
		work->tally = tally;
		error = space->live ? work_do(work) : -EOPNOTSUPP;
	}
	for (size_t i = 0; i < nr; i++) {
		if (pages[i].reason != UNDECIDED)
			continue;
		pages[i].reason = error == -ESRCH || error == -ESTALE ? REASON_SPACE_GONE :
				  error == -ENODEV			? REASON_NO_ROOM :
				  error == -EACCES			? REASON_POLICY :
									  REASON_BUSY;
		tally->bytes[pages[i].reason] += pages[i].page_bytes;
	}
	free(work);
	return error;
}
