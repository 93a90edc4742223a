/* SPDX-License-Identifier: MIT */
/*
 * Events: what the program does to its mappings, as the kernel tells it through the userfaultfd.
 *
 * The program's thread waits in its system call until its event has been read, and goes on the
 * moment it is. So the table must be right before anybody can act on the old state: reading and
 * changing happen under program.lock, exclusive. While an event is waiting to be read, or its thread
 * has not yet woken, every install gives EAGAIN; the fault is then looked at again later.
 *
 *   REMOVE  comes before the pages go (madvise DONTNEED), or without their going (FREE):
 *           discarded either way
 *   UNMAP   after the fact
 *   REMAP   after the fact; an UNMAP of the old place follows, which must not hit what has been
 *           mapped there since. It may overtake another thread's UNMAP of the new place.
 *           Both wake who sleeps in a fault there: a handler that has the page in hand wakes where it
 *           found it and where it is by then, not where it was in between
 *   FORK    brings the child's userfaultfd; its tables start as ours are now
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "intake.h"
#include "journal.h"
#include "proc.h"
#include "program.h"
#include "survey.h"
#include "uffd.h"

#define EVENTS_MAX 16u

void page_discard(struct tract *tract, uint64_t idx)
{
	struct program *p = tract->program;
	_Atomic uint64_t *at = &tract->region.state[idx];
	uint64_t word = atomic_load_explicit(at, memory_order_acquire);

	/* Only claims race with us (a handler or the mover taking the page): try again. */
	while (page_state(word) != PAGE_ABSENT && !page_change(p->server, at, word, 0))
		word = atomic_load_explicit(at, memory_order_acquire);
	if (page_shadow(word))
		atomic_fetch_sub_explicit(&p->server->nr_shadows, 1, memory_order_relaxed);
	if (page_has_slot(word))
		p->server->pool->ops->unref(p->server->pool, page_slot(word));
	/* Who takes a word out of a state that owns a place releases it; STORING: the mover may still
	 * read there, yet it drops places only when it has done. */
	if (page_has_hold(word))
		hold_release(p, page_place(word));
	intake_forget(tract, idx, 1);
}

static void tract_discard(struct tract *t, uint64_t first, uint64_t nr_pages)
{
	struct region *region = &t->region;
	uint64_t end = first + nr_pages;

	for (uint64_t idx = region_next(region, first); idx < end; idx = region_next(region, idx + 1))
		if (atomic_load_explicit(&region->state[idx], memory_order_relaxed))
			page_discard(t, idx);
	region_vacate(region, first, nr_pages);
}

void guards_look(struct program *p)
{
	uint32_t seen;
	pid_t pid = atomic_load(&p->helper_pid);

	if (!p->guarded)
		p->guarded = !pid || proc_read(pid, p->guards, &seen, sizeof seen) || seen == HELPER_GUARDS;
}

/* What is discarded may get guard pages, before which a program says so. */
static void event_remove(struct program *p, uint64_t vpn, uint64_t end)
{
	guards_look(p);
	while (vpn < end) {
		const struct extent *e = extent_next(p, vpn);
		if (!e || e->vpn >= end)
			break;
		if (vpn < e->vpn)
			vpn = e->vpn;
		uint64_t to = e->vpn + e->nr_pages < end ? e->vpn + e->nr_pages : end;
		tract_discard(e->tract, e->idx + (vpn - e->vpn), to - vpn);
		vpn = to;
	}
}

void piece_drop(void *arg, const struct extent *piece)
{
	(void)arg;
	tract_discard(piece->tract, piece->idx, piece->nr_pages);
	if (!piece->tract->nr_mapped)
		tract_bury(piece->tract);
}

/* The moved pages' bytes could no longer be found. */
static void pieces_lost(struct program *p)
{
	program_fail(p, "no memory to follow a moved mapping");
}

/* What is in the program's memory is gone. What we have goes to limbo: a child that was forked before has it
 * still. Where it is there. */
static uint64_t piece_limbo(struct program *p, const struct extent *piece)
{
	struct extent kept = *piece;

	for (uint64_t idx = region_next(&piece->tract->region, piece->idx); idx < piece->idx + piece->nr_pages;
	     idx = region_next(&piece->tract->region, idx + 1)) {
		enum page_state state = page_state(word_load(piece->tract, idx));
		if (state == PAGE_RESIDENT || state == PAGE_HOLDING || state == PAGE_FILLING)
			page_discard(piece->tract, idx);
	}
	kept.vpn = journal_unmapped(p, piece->vpn, piece->nr_pages);
	if (extent_add(p, kept))
		pieces_lost(p);
	else if (kept.tract->shelf)
		shelf_settle(kept.tract, kept.vpn, kept.idx, kept.nr_pages);
	return kept.vpn;
}

static void piece_unmap(void *arg, const struct extent *piece)
{
	piece_limbo(arg, piece);
}

/* An UNMAP of [vpn, end) is to come, of a mapping that has moved away. */
static void remapped_add(struct program *p, uint64_t vpn, uint64_t end)
{
	if (vpn >= end)
		return;
	if (p->nr_remapped == REMAPPED_MAX) {
		p->remapped_lost = true;
		return;
	}
	p->remapped[p->nr_remapped].vpn = vpn;
	p->remapped[p->nr_remapped++].nr_pages = end - vpn;
}

/*
 * Replaced ranges: a mapping was moved to a place before it was told where that went which had been there, for
 * that thread had not come as far as to tell. When it does, and it was unmapped, its event must leave out what
 * is there now; and if it had moved, it is in limbo, and what is there now stays.
 */
static void replaced_add(struct program *p, uint64_t vpn, uint64_t end, uint64_t limbo)
{
	if (vpn >= end)
		return;
	if (p->nr_replaced == REMAPPED_MAX) {
		program_fail(p, "too many mappings moved at once");
		return;
	}
	p->replaced[p->nr_replaced].vpn = vpn;
	p->replaced[p->nr_replaced].limbo = limbo;
	p->replaced[p->nr_replaced++].nr_pages = end - vpn;
}

/* Of a replaced range the part [from, to) is told of now. Where it is in limbo; 0: it is no longer there. */
static uint64_t replaced_take(struct program *p, unsigned i, uint64_t from, uint64_t to)
{
	uint64_t first = p->replaced[i].vpn, last = first + p->replaced[i].nr_pages, limbo = p->replaced[i].limbo;

	p->replaced[i] = p->replaced[--p->nr_replaced];
	replaced_add(p, first, from, limbo);
	replaced_add(p, to, last, limbo ? limbo + (to - first) : 0);
	return limbo ? limbo + (from - first) : 0;
}

static void piece_replace(void *arg, const struct extent *piece)
{
	replaced_add(arg, piece->vpn, piece->vpn + piece->nr_pages, piece_limbo(arg, piece));
}

static void range_unmap(struct program *p, uint64_t vpn, uint64_t end)
{
	for (unsigned i = 0; i < p->nr_replaced; i++) {
		uint64_t first = p->replaced[i].vpn, last = first + p->replaced[i].nr_pages;
		uint64_t from = first > vpn ? first : vpn, to = last < end ? last : end;
		if (from >= to)
			continue;
		replaced_take(p, i, from, to);
		range_unmap(p, vpn, from);
		range_unmap(p, to, end);
		return;
	}
	if (vpn < end)
		extent_cut(p, vpn, end - vpn, piece_unmap, p);
}

/*
 * Of a mapping that moved with MREMAP_DONTUNMAP its old place stays, without pages and without extent, and no
 * UNMAP is to come. Nothing in the REMAP says so. But whatever takes that place away later finds no extent there:
 * then nothing of it is waited for any more.
 */
static int leftover_gone(struct program *p, uint64_t vpn, uint64_t nr_pages)
{
	uint64_t end = vpn + nr_pages;

	for (unsigned i = p->nr_remapped; i-- > 0;) {
		uint64_t first = p->remapped[i].vpn, last = first + p->remapped[i].nr_pages;
		if (first >= end || last <= vpn)
			continue;
		p->remapped[i] = p->remapped[--p->nr_remapped];
		remapped_add(p, first, vpn);
		remapped_add(p, end, last);
	}
	return 0;
}

void moves_settle(struct program *p)
{
	p->nr_remapped = p->nr_replaced = 0;
	p->remapped_lost = false;
}

void limbo_clear(struct program *p)
{
	extent_cut(p, LIMBO_VPN, UINT64_MAX - LIMBO_VPN, piece_drop, NULL);
	for (unsigned i = 0; i < p->nr_replaced; i++)
		p->replaced[i].limbo = 0;
}

static void event_unmap(struct program *p, uint64_t vpn, uint64_t nr_pages)
{
	uffd_wake(p->uffd, vpn_address(vpn), nr_pages * PAGE_BYTES);
	journal_bound(p);
	for (unsigned i = 0; i < p->nr_remapped; i++) {
		if (p->remapped[i].vpn != vpn || p->remapped[i].nr_pages != nr_pages)
			continue;
		p->remapped[i] = p->remapped[--p->nr_remapped];
		journal_emptied(p, vpn, nr_pages);
		return;
	}
	survey_uncovered(p, vpn_address(vpn), vpn_address(vpn + nr_pages), leftover_gone);
	range_unmap(p, vpn, vpn + nr_pages);
}

struct relocation {
	uint64_t from, to;
	struct extent *pieces;
	size_t nr;
};

static void piece_relocate(void *arg, const struct extent *piece)
{
	struct relocation *r = arg;

	r->pieces[r->nr] = *piece;
	r->pieces[r->nr++].vpn = piece->vpn - r->from + r->to;
}

void range_move(struct program *p, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct relocation r = { .from = from, .to = to };
	int error = 0;

	r.pieces = calloc(p->nr_extents + 1, sizeof *r.pieces);
	if (!r.pieces) {
		pieces_lost(p);
		return;
	}
	extent_cut(p, from, nr_pages, piece_relocate, &r);
	for (size_t i = 0; i < r.nr && !error; i++) {
		const struct extent *piece = &r.pieces[i];
		error = extent_add(p, *piece);
		if (piece->tract->shelf)
			shelf_settle(piece->tract, piece->vpn, piece->idx, piece->nr_pages);
	}
	if (error)
		pieces_lost(p);
	free(r.pieces);
}

/* Whether memory of ours is mapped at a page by now. */
struct presence {
	uint64_t address;
	bool there;
};

static int mapping_seek(void *arg, const struct proc_mapping *m)
{
	struct presence *seek = arg;

	seek->there |= m->start <= seek->address && seek->address < m->end && m->uffd;
	return m->end > seek->address;
}

/*
 * A mapping has moved away from where another is told to have been moved since. It is the former, which is told at
 * last, if something is there still: the latter has not moved on then. Else it may be either.
 */
static void former_sure(struct program *p, uint64_t vpn)
{
	struct presence seek = { .address = vpn_address(vpn) };

	if (p->proc_dir < 0 || proc_mappings(p->proc_dir, true, mapping_seek, &seek) < 0 || !seek.there)
		program_fail(p, "its threads move mappings over each other, and nobody can tell which was first");
}

static void range_remap(struct program *p, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	for (unsigned i = 0; i < p->nr_replaced; i++) {
		uint64_t first = p->replaced[i].vpn, last = first + p->replaced[i].nr_pages;
		uint64_t part = first > from ? first : from, end = last < from + nr_pages ? last : from + nr_pages;
		if (part >= end)
			continue;
		former_sure(p, part);
		uint64_t limbo = replaced_take(p, i, part, end);
		if (!limbo)
			pieces_lost(p);
		range_move(p, limbo, to + (part - from), end - part);
		journal_moved(p, limbo, to + (part - from), end - part);
		if (part > from)
			range_remap(p, from, to, part - from);
		if (end < from + nr_pages)
			range_remap(p, end, to + (end - from), from + nr_pages - end);
		return;
	}
	range_move(p, from, to, nr_pages);
	journal_moved(p, from, to, nr_pages);
}

static void event_remap(struct program *p, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	uffd_wake(p->uffd, vpn_address(from), nr_pages * PAGE_BYTES);
	journal_bound(p);
	survey_uncovered(p, vpn_address(from), vpn_address(from + nr_pages), leftover_gone);
	extent_cut(p, to, nr_pages, piece_replace, p);
	range_remap(p, from, to, nr_pages);
	remapped_add(p, from, from + nr_pages);
}

/* Messages that wait; how many, or -errno. */
static ssize_t messages_read(struct program *p, struct uffd_msg *messages)
{
	size_t nr_early = birth_early(p, messages, EVENTS_MAX);
	if (nr_early)
		return (ssize_t)nr_early;
	ssize_t bytes = read(p->uffd, messages, EVENTS_MAX * sizeof *messages);

	if (bytes < 0 && (errno == EMFILE || errno == ENFILE)) {
		/* It would wait in its fork for ever. */
		program_fail(p, "no file descriptor left to follow a fork; raise ulimit -Hn");
		return -EMFILE;
	}
	if (bytes < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return bytes / (ssize_t)sizeof *messages;
}

static int messages_take(struct program *p,
			 void (*take)(void *arg, uint64_t address, bool write, uint32_t tid), void *arg)
{
	struct uffd_msg messages[EVENTS_MAX];
	ssize_t nr = messages_read(p, messages);

	for (ssize_t i = 0; i < nr; i++) {
		const struct uffd_msg *m = &messages[i];
		switch (m->event) {
		case UFFD_EVENT_PAGEFAULT:
			take(arg, m->arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1),
			     m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE,
			     atomic_load_explicit(&p->numbered_apart, memory_order_relaxed)
				     ? 0 : m->arg.pagefault.feat.ptid);
			break;
		case UFFD_EVENT_FORK:
			program_fork(p, (int)m->arg.fork.ufd);
			break;
		case UFFD_EVENT_REMAP:
			event_remap(p, m->arg.remap.from >> PAGE_SHIFT, m->arg.remap.to >> PAGE_SHIFT,
				    m->arg.remap.len >> PAGE_SHIFT);
			break;
		case UFFD_EVENT_REMOVE:
			event_remove(p, m->arg.remove.start >> PAGE_SHIFT,
				     m->arg.remove.end >> PAGE_SHIFT);
			break;
		case UFFD_EVENT_UNMAP:
			event_unmap(p, m->arg.remove.start >> PAGE_SHIFT,
				    (m->arg.remove.end - m->arg.remove.start) >> PAGE_SHIFT);
			break;
		default:
			break;
		}
	}
	return nr < 0 ? (int)nr : nr == EVENTS_MAX;
}

int events_read(struct program *p,
		void (*take)(void *arg, uint64_t address, bool write, uint32_t tid), void *arg)
{
	if (birth_settle(p))
		return -EBUSY;
	journal_begin(p);
	int result = messages_take(p, take, arg);
	journal_done(p);
	return result;
}
