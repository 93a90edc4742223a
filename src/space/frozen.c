/* SPDX-License-Identifier: MIT */
/*
 * Frozen: a helper that does not answer. It may be stopped by a debugger, or with its control group, or have no
 * CPU; at whichever of its steps, and for ever.
 *
 *   command ─► no reply in time ─► revoked: the kernel carries out no more of it, and what was begun is undone ─►
 *   frozen: no other command is given ─► the reply comes after all: what it left is tidied up ─► as before
 *
 * A helper that goes on later would move pages at addresses where something else is by then. To ask it to look
 * first would not do: it may be stopped between that look and its call. So the kernel refuses:
 *
 *   HELPER_MOVE   the stage goes over to the other userfaultfd. Into a range that is not registered with its own,
 *                 UFFDIO_MOVE moves nothing (EINVAL).
 *   HELPER_PUT    one page of the block to be moved is registered differently from the rest: a move of what lies in
 *                 two mappings moves nothing (EINVAL). The helper makes one call for all of the block, no other.
 *
 * Both are changes of the kernel's under the lock that a move takes: when they have been made no move is under way,
 * and none comes. Then where each page is does not change any more, but that pages go on from the stage to the hold
 * area, which both mean that they have left the program. What has left is copied back; if that cannot be, as an event
 * is on its way, to a place of the hold area that is none of the command's.
 *
 * What must always hold: the caller has program.lock shared from its claim until all words are settled, so nobody
 * ever meets a page of an outstanding command. While one is outstanding no places are taken from the hold area for
 * pages to be moved, those of a HELPER_MOVE stay used, and a block of the stock is in nobody's hands. All of
 * it is changed with helper_lock held.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "assert.h"
#include "child.h"
#include "clock.h"
#include "pagemap.h"
#include "proc.h"
#include "program.h"
#include "sock.h"
#include "uffd.h"

#define BLOCK_BYTES ((uint64_t)BLOCK_PAGES * PAGE_BYTES)
#define PLACE_TRIES 8u
#define RECALL_TRIES 20u
#define RECALL_WAIT_NS 5000000u

static uint64_t stage_address(const struct program *p)
{
	return hold_address(p, p->hold.nr_pages);
}

static bool in_hold(const struct program *p, uint64_t address)
{
	return address >= p->hold.address && address < stage_address(p);
}

/* Who stopped it with a signal did not mean us, and nothing of it is to be seen: it goes on. */
char helper_continue(const struct program *p)
{
	char state = 0;

	if (!proc_state(p->helper_pid, &state) && state == 'T')
		(void)child_signal(p->helper_pid, SIGCONT);
	return state;
}

void helper_freeze(struct program *p)
{
	size_t bytes = offsetof(struct helper_command, runs) + p->command.nr_runs * sizeof p->command.runs[0];

	memcpy(&p->overdue, &p->command, bytes);
	atomic_store(&p->frozen, true);
}

/* ---- what a move has taken ---- */

int move_revoke(struct program *p, struct revocation *ret)
{
	uint64_t stage = stage_address(p);
	int fd, error = uffd_unregister(p->uffd, stage, HELPER_STAGE_BYTES);

	if (error)
		return error;
	/* So that a touch of a hole there leaves the page of zeros, which is told from others. */
	(void)uffd_register(p->hold_uffd, stage, HELPER_STAGE_BYTES);
	error = pagemap_open(p->proc_dir, &fd);
	if (error)
		return error;
	const struct helper_command *c = &p->overdue;
	*ret = (struct revocation){
		.program = p, .pagemap = fd, .whole = c->nr_runs == 1 && c->runs[0].bytes == BLOCK_BYTES,
	};
	return 0;
}

void revocation_end(const struct revocation *r)
{
	close(r->pagemap);
}

/* What is in page `at` of the command, if it has left the program. -ENOENT: it has not. */
static int taken_read(const struct revocation *r, uint32_t at, uint64_t dst, void *page)
{
	const struct program *p = r->program;
	uint64_t staged = stage_address(p) + (uint64_t)at * PAGE_BYTES;
	/* On the way that it goes; a huge page has a stage of its own. */
	const uint64_t ways[] = { staged, r->whole ? staged + BLOCK_BYTES : dst, dst };

	for (unsigned i = 0; i < 3; i++) {
		int there = pagemap_own(r->pagemap, ways[i]);
		if (!there)
			continue;
		int error = there < 0 ? there : proc_read(p->helper_pid, ways[i], page, PAGE_BYTES);
		if (error)
			return error;
		there = pagemap_own(r->pagemap, ways[i]);
		if (there) /* it has not gone on meanwhile */
			return there < 0 ? there : 0;
	}
	return -ENOENT;
}

/* Hold a page in a place that is none of the command's. */
static bool taken_hold(struct program *p, const void *page, uint32_t *ret_place)
{
	uint32_t place;
	uint64_t done;

	for (unsigned tries = 0; tries < PLACE_TRIES && hold_take(p, 1, &place); tries++) {
		if (!uffd_copy(p->hold_uffd, hold_address(p, place), page, PAGE_BYTES, &done)) {
			*ret_place = place;
			return true;
		}
		hold_release(p, place); /* the program has touched it */
	}
	return false;
}

enum helper_outcome page_recall(const struct revocation *r, uint32_t at, const struct helper_run *page,
				uint32_t *ret_place)
{
	struct program *p = r->program;
	uint8_t bytes[PAGE_BYTES];
	uint64_t done;
	int error = taken_read(r, at, page->dst, bytes);

	if (error == -ENOENT)
		return HELPER_BUSY;
	if (error)
		return HELPER_LOST;
	/* There may be no memory for a copy just now. */
	for (unsigned tries = 0; tries < RECALL_TRIES; tries++) {
		if (tries)
			clock_sleep_ns(RECALL_WAIT_NS);
		error = uffd_copy(p->uffd, page->src, bytes, sizeof bytes, &done);
		if (!error || error == -EEXIST)
			return HELPER_BUSY;
		if (taken_hold(p, bytes, ret_place))
			return HELPER_MOVED;
		if (error == -ESRCH) /* with all of its memory */
			break;
	}
	return HELPER_LOST;
}

/* ---- what a block has become ---- */

/* The page that keeps a block from being moved: its last, so that the mapping before it goes on as it was. */
static uint64_t bar_address(uint64_t block)
{
	return block + BLOCK_BYTES - PAGE_BYTES;
}

static int bar_set(const struct program *p, uint64_t block, bool barred)
{
	bool registered = in_hold(p, block) != barred;

	return registered ? uffd_register(p->hold_uffd, bar_address(block), PAGE_BYTES)
			  : uffd_unregister(p->hold_uffd, bar_address(block), PAGE_BYTES);
}

int put_revoke(struct program *p)
{
	const struct helper_run *run = &p->overdue.runs[0];
	int fd, error = bar_set(p, run->src, true);

	if (!error)
		error = pagemap_open(p->proc_dir, &fd);
	if (error)
		return error;
	p->reply = (struct helper_reply){ 0 };
	for (uint32_t i = 0; i < BLOCK_PAGES && !error; i++) {
		int there = pagemap_own(fd, run->src + (uint64_t)i * PAGE_BYTES);
		p->reply.outcome[i] = there ? HELPER_BUSY : HELPER_MOVED;
		error = there < 0 ? there : 0;
	}
	close(fd);
	return error;
}

/* ---- the reply, after all ---- */

/* The next command, which tidies up. */
static int command_follow(struct program *p, enum helper_op op)
{
	p->overdue.op = op;
	p->overdue.seq = ++p->helper_seq;
	return helper_send(p, &p->overdue, NULL);
}

/* The places of its pages, and the stage, hold what nobody wants. */
static int move_settle(struct program *p)
{
	struct helper_command *c = &p->overdue;

	tide_assert(c->nr_runs < HELPER_RUNS_MAX);
	c->runs[c->nr_runs++] = (struct helper_run){ .dst = stage_address(p), .bytes = HELPER_STAGE_BYTES };
	return command_follow(p, HELPER_DROP);
}

static int stage_restore(const struct program *p)
{
	int error = uffd_unregister(p->hold_uffd, stage_address(p), HELPER_STAGE_BYTES);

	return error ? error : uffd_register(p->uffd, stage_address(p), HELPER_STAGE_BYTES);
}

static int drop_settle(struct program *p)
{
	const struct helper_command *c = &p->overdue;
	int error = (int)p->reply.result; /* places stay used */

	for (uint32_t i = 0; i < c->nr_runs && !error; i++) {
		const struct helper_run *run = &c->runs[i];
		if (in_hold(p, run->dst))
			hold_untake(p, (uint32_t)((run->dst - p->hold.address) / PAGE_BYTES),
				    (uint32_t)(run->bytes / PAGE_BYTES));
		else if (run->dst == stage_address(p))
			error = stage_restore(p);
		else
			stock_give(p, run->dst, false);
	}
	return error;
}

static int put_settle(struct program *p)
{
	uint64_t block = p->overdue.runs[0].src;
	int error = bar_set(p, block, false);

	if (!in_hold(p, block))
		stock_give(p, block, p->reply.result && p->reply.result != -ENODATA);
	return error;
}

/* -EINPROGRESS: another command has followed. Another error: it is not to get any more. */
static int command_settle(struct program *p)
{
	int error;

	switch (p->overdue.op) {
	case HELPER_MOVE:
		error = move_settle(p);
		return error ? error : -EINPROGRESS;
	case HELPER_MAP:
		if (p->reply.result < 0)
			return 0;
		p->overdue.nr_runs = 0;
		error = command_follow(p, HELPER_UNMAP);
		return error ? error : -EINPROGRESS;
	case HELPER_DROP:
		return drop_settle(p);
	case HELPER_PUT:
		return put_settle(p);
	case HELPER_POPULATE:
		atomic_store(&p->populating, false);
		break;
	default:
		break;
	}
	return 0;
}

bool helper_ready(struct program *p)
{
	struct pollfd reply = { .fd = p->helper_socket, .events = POLLIN };

	if (p->helper_socket < 0)
		return false;
	if (!atomic_load(&p->frozen))
		return true;
	if (poll(&reply, 1, 0) <= 0) {
		(void)helper_continue(p);
		return false;
	}
	int error = helper_receive(p, p->overdue.seq);
	if (!error)
		error = command_settle(p);
	if (error == -EINPROGRESS)
		return false;
	if (error)
		helper_leave(p);
	else
		atomic_store(&p->frozen, false);
	return !error;
}

void helper_thaw(struct program *p)
{
	if (!atomic_load(&p->frozen))
		return;
	helper_lock_take(p);
	(void)helper_ready(p);
	pthread_mutex_unlock(&p->helper_lock);
}
