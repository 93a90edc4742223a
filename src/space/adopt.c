/* SPDX-License-Identifier: MIT */
/*
 * Adoption: taking a program's mappings into care once memory is tight.
 *
 * Mappings are found in the maps file, so it does not matter which allocator or call made them. Each
 * is registered as a whole: registering a part would split it, and mremap over a split mapping fails.
 * A mapping may change between reading the file and registering, unseen, so the file is read again
 * afterwards, when every change gives an event: what is not as it was is let go.
 *
 * The lock is held exclusively throughout: no event is read between registering a mapping and
 * looking which of its pages are present, so no page is taken for present that is being discarded.
 */
#include <errno.h>
#include <stdlib.h>

#include "assert.h"
#include "proc.h"
#include "program.h"
#include "uffd.h"

struct candidate {
	uint64_t start, end;
	bool huge; /* may have huge pages */
	bool registered, confirmed;
};

struct survey {
	struct program *program;
	struct candidate *list;
	size_t nr, room;
	uint64_t unmanaged[UNMANAGED_COUNT]; /* pages */
	uint64_t taken;                      /* pages */
	bool no_memory;
};

static bool area_own(const struct program *p, uint64_t start, uint64_t end)
{
	uint64_t huge = 2u << 20;

	return p->hold.address && start < p->hold.address + (uint64_t)p->hold.nr_pages * PAGE_BYTES +
						 HELPER_STAGE_BYTES + HELPER_STOCK_BYTES + huge &&
	       end > p->hold.address - huge;
}

static bool remap_pending(const struct program *p, uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < p->nr_remapped; i++) {
		uint64_t from = p->remapped[i].vpn << PAGE_SHIFT;
		if (start < from + (p->remapped[i].nr_pages << PAGE_SHIFT) && end > from)
			return true;
	}
	return p->remapped_lost;
}

/* Pages of [start, end) that no extent covers; visits each such stretch when asked to. */
static uint64_t uncovered(struct program *p, uint64_t start, uint64_t end,
			  int (*visit)(struct program *p, uint64_t vpn, uint64_t nr))
{
	uint64_t vpn = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT, sum = 0;

	while (vpn < last) {
		const struct extent *e = extent_find(p, vpn);
		uint64_t to = last;
		if (e) {
			vpn = e->vpn + e->nr_pages;
			continue;
		}
		for (size_t i = 0; i < p->nr_extents; i++)
			if (p->extents[i].vpn > vpn && p->extents[i].vpn < to)
				to = p->extents[i].vpn;
		sum += to - vpn;
		if (visit && visit(p, vpn, to - vpn))
			break;
		vpn = to;
	}
	return sum;
}

static bool mapping_count(struct survey *s, const struct proc_mapping *m)
{
	uint64_t pages = (m->end - m->start) >> PAGE_SHIFT;
	enum unmanaged why;

	if (m->special || m->pinned_kind)
		why = UNMANAGED_SPECIAL;
	else if (m->shared)
		why = UNMANAGED_SHARED;
	else if (!m->anonymous)
		why = UNMANAGED_FILE;
	else if (m->stack)
		why = UNMANAGED_STACK;
	else if (m->locked)
		why = UNMANAGED_LOCKED;
	else if (pages < ADOPT_MIN_PAGES)
		why = UNMANAGED_SMALL;
	else
		return true;
	s->unmanaged[why] += pages;
	return false;
}

static int candidate_add(struct survey *s, uint64_t start, uint64_t end, bool huge)
{
	if (s->nr == s->room) {
		size_t room = s->room ? s->room * 2 : 64;
		struct candidate *grown = realloc(s->list, room * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		s->list = grown;
		s->room = room;
	}
	s->list[s->nr++] = (struct candidate){ .start = start, .end = end, .huge = huge };
	return 0;
}

static int mapping_survey(void *arg, const struct proc_mapping *m)
{
	struct survey *s = arg;

	struct program *p = s->program;

	if (area_own(p, m->start, m->end) || !mapping_count(s, m))
		return 0;
	program_lock_shared(p);
	bool wanted = !remap_pending(p, m->start, m->end) && uncovered(p, m->start, m->end, NULL);
	pthread_rwlock_unlock(&p->lock);
	return wanted ? candidate_add(s, m->start, m->end, m->thp) : 0;
}

static int mapping_confirm(void *arg, const struct proc_mapping *m)
{
	struct survey *s = arg;

	if (!m->anonymous || m->shared)
		return 0;
	/* Neighbours that are registered alike merge: the mapping may be larger than it was. */
	for (size_t i = 0; i < s->nr; i++)
		if (m->start <= s->list[i].start && m->end >= s->list[i].end)
			s->list[i].confirmed = true;
	return 0;
}

static void page_present(void *arg, uint64_t start, uint64_t end, bool huge)
{
	struct tract *t = arg;
	uint64_t idx = (start >> PAGE_SHIFT) - t->region.first_vpn;
	uint64_t nr = (end - start) >> PAGE_SHIFT;

	/* Where the kernel has put a huge page it would put more. */
	if (huge)
		atomic_store_explicit(&t->huge, true, memory_order_relaxed);
	for (uint64_t i = idx; i < idx + nr; i++) {
		bool mine = page_change(t->program->server, &t->region.state[i], 0,
					page_word(PAGE_RESIDENT, 0, 0, 0, false));
		tide_assert(mine); /* the tract is new and the lock exclusive */
	}
}

static int stretch_take(struct program *p, uint64_t vpn, uint64_t nr)
{
	struct tract *t;
	int error = tract_add(p, vpn, nr, &t);

	/* This change is our own: no reason to survey again. */
	p->seen_map_seq += !error;
	if (!error)
		error = proc_present(p->proc_dir, vpn << PAGE_SHIFT, (vpn + nr) << PAGE_SHIFT,
				     page_present, t);
	return error;
}

static void candidate_take(struct survey *s, const struct candidate *c)
{
	struct program *p = s->program;

	s->taken += uncovered(p, c->start, c->end, stretch_take);
	for (size_t i = 0; c->huge && i < p->nr_extents; i++) {
		const struct extent *e = &p->extents[i];
		if (e->vpn >= c->start >> PAGE_SHIFT && e->vpn < c->end >> PAGE_SHIFT)
			atomic_store_explicit(&e->tract->huge, true, memory_order_relaxed);
	}
}

/*
 * Faults read while draining. They are made to fault again when the lock has been given back: at once
 * they would only come back as messages, for ever.
 */
struct drained {
	struct program *program;
	uint64_t *addresses;
	size_t nr, room;
};

static void fault_note(void *arg, uint64_t address, bool write, uint32_t tid)
{
	struct drained *d = arg;

	(void)write;
	(void)tid;
	if (d->nr == d->room) {
		size_t room = d->room ? d->room * 2 : 64;
		uint64_t *grown = realloc(d->addresses, room * sizeof *grown);
		if (!grown) {
			uffd_wake(d->program->uffd, address, PAGE_BYTES);
			return;
		}
		d->addresses = grown;
		d->room = room;
	}
	d->addresses[d->nr++] = address;
}

/* Take the lock exclusively with no event waiting; and give it back. */
static void program_quiet(struct drained *d)
{
	program_lock_exclusive(d->program);
	while (events_read(d->program, fault_note, d) > 0)
		;
}

static void program_resume(struct drained *d)
{
	pthread_rwlock_unlock(&d->program->lock);
	for (size_t i = 0; i < d->nr; i++)
		uffd_wake(d->program->uffd, d->addresses[i], PAGE_BYTES);
	free(d->addresses);
}

static int survey_adopt(struct survey *s)
{
	struct program *p = s->program;

	for (size_t i = 0; i < s->nr; i++) {
		struct candidate *c = &s->list[i];
		if (remap_pending(p, c->start, c->end)) /* since the survey */
			continue;
		int error = uffd_register(p->uffd, c->start, c->end - c->start);
		c->registered = !error;
		if (error == -EBUSY)
			s->unmanaged[UNMANAGED_FOREIGN] += (c->end - c->start) >> PAGE_SHIFT;
	}
	int error = proc_mappings(p->proc_dir, false, mapping_confirm, s);
	/* A change that is under way may be in the maps already and its event still to come; one that
	 * begins from here on finds our extents and moves them. */
	if (!error && uffd_changing(p->uffd)) {
		atomic_store(&p->unknown, true);
		return -EAGAIN;
	}
	for (size_t i = 0; i < s->nr; i++) {
		struct candidate *c = &s->list[i];
		if (c->registered && c->confirmed && !error)
			candidate_take(s, c);
		else if (c->registered && uncovered(p, c->start, c->end, NULL) ==
						  (c->end - c->start) >> PAGE_SHIFT)
			uffd_unregister(p->uffd, c->start, c->end - c->start);
	}
	return error;
}

static int mapping_registered(void *arg, const struct proc_mapping *m)
{
	struct survey *s = arg;

	return m->uffd && m->anonymous && !m->shared ? candidate_add(s, m->start, m->end, false) : 0;
}

static void piece_drop(void *arg, const struct extent *piece)
{
	(void)arg;
	for (uint64_t i = piece->idx; i < piece->idx + piece->nr_pages; i++)
		page_discard(piece->tract, i);
	if (!piece->tract->nr_mapped)
		tract_bury(piece->tract);
}

/*
 * A child's tables are its parent's as of the reading of the fork's event. An unmapping by another
 * thread of the parent may have come before the fork, and its event after: the child never gets it.
 * So before pages are taken out of a child its extents are held against its own maps.
 */
static int child_verify(struct program *p)
{
	struct survey s = { .program = p };

	struct drained drained = { .program = p };

	program_quiet(&drained);
	int error = proc_mappings(p->proc_dir, true, mapping_registered, &s);
	if (!error && uffd_changing(p->uffd)) {
		atomic_store(&p->unknown, true);
		error = -EAGAIN;
	}
	uint64_t vpn = 0;
	for (size_t i = 0; !error && i <= s.nr; i++) {
		uint64_t to = i < s.nr ? s.list[i].start >> PAGE_SHIFT : UINT64_MAX >> PAGE_SHIFT;
		if (to > vpn)
			extent_cut(p, vpn, to - vpn, piece_drop, p);
		vpn = i < s.nr ? s.list[i].end >> PAGE_SHIFT : to;
	}
	program_resume(&drained);
	free(s.list);
	return error;
}

int program_adopt(struct program *p, uint64_t *ret_pages)
{
	struct survey s = { .program = p };
	/* Flags (mlock) cost a walk of the page tables: only the first time. */
	bool first = !p->surveyed;

	int error = first && p->adopted ? child_verify(p) : 0;
	if (!error)
		error = proc_mappings(p->proc_dir, first, mapping_survey, &s);
	if (!error && s.nr) {
		struct drained drained = { .program = p };
		program_quiet(&drained);
		error = survey_adopt(&s);
		program_resume(&drained);
	}
	p->surveyed |= !error;
	if (!error)
		for (unsigned i = 0; i < UNMANAGED_COUNT; i++)
			p->unmanaged[i] = s.unmanaged[i];
	free(s.list);
	if (!error)
		*ret_pages = s.taken;
	return error;
}
