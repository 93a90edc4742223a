/* SPDX-License-Identifier: MIT */
/*
 * Adoption: taking a program's mappings into care once memory is tight.
 *
 * Which, survey.c says. Each is registered as a whole: registering a part would split it, and mremap over
 * a split mapping fails. A mapping may change between reading the file and registering, unseen, so the file
 * is read again afterwards, when every change gives an event: what is not as it was is not adopted, and stays
 * registered until the next survey. Neighbours are one extent, whatever else tells them apart.
 *
 * The lock is held exclusively throughout: no event is read between registering a mapping and
 * looking which of its pages are present, so no page is taken for present that is being discarded.
 */
#include <errno.h>
#include <stdlib.h>

#include "assert.h"
#include "journal.h"
#include "proc.h"
#include "program.h"
#include "survey.h"
#include "uffd.h"

/* The second reading: what has been passed of the list, which is in the same order. */
struct confirmation {
	struct survey *survey;
	size_t next;
};

static int mapping_confirm(void *arg, const struct proc_mapping *m)
{
	struct confirmation *seen = arg;
	struct survey *s = seen->survey;

	for (size_t i = seen->next; i < s->nr && s->list[i].start < m->end; i++)
		s->list[i].foreign |= s->list[i].end > m->start && (!m->anonymous || m->shared);
	/* Neighbours that are registered alike merge: the mapping may be larger than it was. */
	for (; seen->next < s->nr && s->list[seen->next].end <= m->end; seen->next++)
		s->list[seen->next].confirmed =
			m->anonymous && !m->shared && s->list[seen->next].start >= m->start;
	return 0;
}

/* A stretch that has just become managed, from page `idx` of a tract on. */
struct stretch {
	struct tract *tract;
	uint64_t vpn, idx;
};

static void page_present(void *arg, uint64_t start, uint64_t end, bool huge)
{
	const struct stretch *stretch = arg;
	struct tract *t = stretch->tract;
	uint64_t idx = stretch->idx + ((start >> PAGE_SHIFT) - stretch->vpn);
	uint64_t nr = (end - start) >> PAGE_SHIFT;

	/* Where the kernel has put a huge page it would put more. */
	if (huge)
		atomic_store_explicit(&t->huge, true, memory_order_relaxed);
	for (uint64_t i = idx; i < idx + nr; i++) {
		bool mine = page_claim(t, i, page_word(PAGE_RESIDENT, 0, 0, 0, false));
		tide_assert(mine); /* the stretch is new and the lock exclusive */
	}
}

static int stretch_take(struct program *p, uint64_t vpn, uint64_t nr)
{
	struct stretch stretch = { .vpn = vpn };
	int error = tract_take(p, vpn, nr, &stretch.tract, &stretch.idx);

	/* This change is our own: no reason to survey again. */
	p->seen_map_seq += !error;
	if (!error)
		error = proc_present(p->proc_dir, vpn << PAGE_SHIFT, (vpn + nr) << PAGE_SHIFT,
				     page_present, &stretch);
	return error;
}

/* Candidates side by side, from the first to the last. */
static void candidates_take(struct survey *s, const struct candidate *first, const struct candidate *last)
{
	struct program *p = s->program;

	s->taken += survey_uncovered(p, first->start, last->end, stretch_take);
	for (const struct candidate *c = first; c <= last; c++) {
		if (!c->huge)
			continue;
		const struct extent *e = extent_next(p, c->start >> PAGE_SHIFT);
		for (; e && e < p->extents + p->nr_extents && e->vpn < c->end >> PAGE_SHIFT; e++)
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
	rwlock_unlock(&d->program->lock);
	for (size_t i = 0; i < d->nr; i++)
		uffd_wake(d->program->uffd, d->addresses[i], PAGE_BYTES);
	free(d->addresses);
}

static void candidates_register(struct survey *s)
{
	struct program *p = s->program;

	for (size_t i = 0; i < s->nr; i++) {
		struct candidate *c = &s->list[i];
		if (survey_pending(p, c->start, c->end)) /* since the survey */
			continue;
		int error = uffd_register(p->uffd, c->start, c->end - c->start);
		c->registered = !error;
		if (error == -EBUSY)
			s->unmanaged[UNMANAGED_FOREIGN] += (c->end - c->start) >> PAGE_SHIFT;
	}
}

static int survey_adopt(struct survey *s)
{
	struct program *p = s->program;
	struct confirmation seen = { .survey = s };

	candidates_register(s);
	int error = proc_mappings(p->proc_dir, false, mapping_confirm, &seen);
	/* A change that is under way may be in the maps already and its event still to come; one that
	 * begins from here on finds our extents and moves them. */
	if (!error && uffd_changing(p->uffd)) {
		atomic_store(&p->unknown, true);
		error = -EAGAIN;
	}
	guards_look(p); /* of those to come there is an event now */
	/* What is registered stays so: a managed mapping may have moved onto it by now. Unregistered it would tell of
	 * nothing more, and its stored pages would be read as zeros. */
	if (error)
		return error;
	/* A calm moment: what was done before has nothing to do with what is mapped here now. */
	journal_begin(p);
	journal_done(p);
	for (size_t i = 0, to; i < s->nr; i = to) {
		struct candidate *c = &s->list[i];
		for (to = i + 1; c->registered && c->confirmed && to < s->nr &&
				 s->list[to].registered && s->list[to].confirmed &&
				 s->list[to].start == s->list[to - 1].end;)
			to++;
		if (c->registered && c->confirmed)
			candidates_take(s, c, &s->list[to - 1]);
		else if (c->registered && c->foreign &&
			 survey_uncovered(p, c->start, c->end, NULL) == (c->end - c->start) >> PAGE_SHIFT)
			uffd_unregister(p->uffd, c->start, c->end - c->start);
	}
	return 0;
}

static int mapping_registered(void *arg, const struct proc_mapping *m)
{
	struct survey *s = arg;

	return m->uffd && m->anonymous && !m->shared ? survey_add(s, m->start, m->end, false) : 0;
}

/*
 * A child's tables are its parent's as of the reading of the fork's event. An unmapping by another
 * thread of the parent may have come before the fork, and its event after: the child never gets it.
 * What the child has mapped there is not registered, and a page taken out of it would be gone. So before
 * any is taken out of a child its extents are held against its own maps.
 */
static int child_verify(struct program *p)
{
	struct survey s = { .program = p };

	struct drained drained = { .program = p };

	program_quiet(&drained);
	int error = proc_mappings(p->proc_dir, true, mapping_registered, &s);
	if (!error && (p->birth || uffd_changing(p->uffd))) {
		atomic_store(&p->unknown, true);
		error = -EAGAIN;
	}
	uint64_t vpn = 0;
	for (size_t i = 0; !error && i <= s.nr; i++) {
		uint64_t to = i < s.nr ? s.list[i].start >> PAGE_SHIFT : UINT64_MAX >> PAGE_SHIFT;
		if (to > vpn)
			extent_cut(p, vpn, to - vpn, piece_drop, NULL);
		vpn = i < s.nr ? s.list[i].end >> PAGE_SHIFT : to;
	}
	p->checked = !error;
	program_resume(&drained);
	free(s.list);
	return error;
}

int program_adopt(struct program *p, uint64_t *ret_pages)
{
	struct survey s = { .program = p };
	/* Flags (mlock) cost a walk of the page tables: only the first time. */
	bool first = !p->surveyed;

	int error = p->checked ? 0 : child_verify(p);
	if (!error)
		error = survey_read(&s, first);
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
