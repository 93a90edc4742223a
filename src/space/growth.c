/* SPDX-License-Identifier: MIT */
/*
 * Growth: locked memory that is made larger and moves, all in one mremap.
 *
 *   mremap:  moves ─ the mappings change ─► fills what has come, page by page ─► queues its REMAP ─► goes on
 *                                               └─ faults to us; EAGAIN for whatever we install
 *
 * The kernel fills it before it tells of the move, and until that is told it installs nothing for the userfaultfd
 * that is to be told: all would wait for ever. The hold area's userfaultfd is of the same memory and is told of
 * nothing. What it installs comes wherever memory is registered, so its zeros are what the thread waits for.
 *
 * Elsewhere that EAGAIN keeps a moved page from being taken for zeros. So it must be the very thread that fills, at a
 * place that has just come. A fault that was read may be an old one: its thread has been interrupted, and makes
 * other memory larger. So when a thread is seen in such a call it is let fault again. What is read later comes of one
 * who waits there, and if its thread sleeps in that same call, it was touched in that call, which touches nothing but
 * what has come. Until the REMAP is read the thread cannot have gone on; that needs program.lock, exclusive, as does
 * all here.
 */
#include <sys/mman.h>

#include "journal.h"
#include "program.h"
#include "uffd.h"

/* Whether the thread of a fault is in a call that may be filling there. */
static bool call_find(const struct deferred *fault, struct proc_remap *ret_call)
{
	struct proc_remap call;

	if (!fault->tid || proc_remap((pid_t)fault->tid, &call) || call.bytes <= call.old_bytes)
		return false;
	if (call.flags & MREMAP_FIXED &&
	    (fault->address < call.to + call.old_bytes || fault->address >= call.to + call.bytes))
		return false;
	*ret_call = call;
	return true;
}

static bool call_same(const struct proc_remap *one, const struct proc_remap *other)
{
	return one->from == other->from && one->old_bytes == other->old_bytes && one->bytes == other->bytes &&
	       one->flags == other->flags && one->to == other->to && one->stack == other->stack;
}

bool growth_awaited(const struct program *p, const struct deferred *fault)
{
	struct proc_remap call;

	return p->hold_uffd >= 0 && uffd_changing(p->uffd) && call_find(fault, &call);
}

/* How much is still to come from there on: one page, where it is not known where all of it is. */
static uint64_t growth_bytes(const struct proc_remap *call, uint64_t address)
{
	uint64_t left = call->flags & MREMAP_FIXED ? call->to + call->bytes - address : PAGE_BYTES;

	return left < FAULT_RUN_PAGES * PAGE_BYTES ? left : FAULT_RUN_PAGES * PAGE_BYTES;
}

static void growth_fill(struct program *p, uint64_t address, uint64_t bytes)
{
	uint64_t done;

	journal_fill(p);
	room_take(p->server, bytes / PAGE_BYTES);
	(void)uffd_zero(p->hold_uffd, address, bytes, &done); /* what is there already is, too */
	room_landed(p->server, bytes / PAGE_BYTES, done / PAGE_BYTES);
	uffd_wake(p->uffd, address, bytes);
}

static bool growth_step(struct program *p, const struct deferred *fault)
{
	struct growth *g = &p->growth;
	struct proc_remap call, other;
	struct deferred owner = { .address = g->address, .tid = g->tid };

	if (!call_find(fault, &call))
		return false;
	if (g->tid == fault->tid && call_same(&g->call, &call)) {
		if (g->nr == fault->growth)
			growth_fill(p, fault->address, growth_bytes(&call, fault->address));
		else
			uffd_wake(p->uffd, fault->address, PAGE_BYTES);
		return true;
	}
	if (call_find(&owner, &other) && call_same(&g->call, &other))
		return false; /* one after the other */
	*g = (struct growth){ fault->tid, g->nr + 1, fault->address, call };
	uffd_wake(p->uffd, fault->address, PAGE_BYTES);
	return true;
}

bool growth_serve(struct program *p, const struct deferred *fault)
{
	if (!growth_awaited(p, fault))
		return false;
	program_lock_exclusive(p);
	bool served = growth_step(p, fault);
	rwlock_unlock(&p->lock);
	return served;
}

void growth_told(struct program *p, uint64_t from)
{
	if (p->growth.call.from == vpn_address(from))
		p->growth.tid = 0;
}
