/* SPDX-License-Identifier: MIT */
/*
 * Adoption: taking a program's mappings into care once memory is tight.
 *
 * Which, survey.c says. Each is registered as a whole: registering a part would split it, and mremap over
 * a split mapping fails. Neighbours are one extent, whatever else tells them apart.
 *
 * The lock is held exclusively throughout. Once it is registered every change gives an event, which moves what the
 * table has there; so what is registered has extents at once, or the event of something that nobody knows would move
 * what others have put in its place. But it may have left before it was registered, and what is there may be managed,
 * come from elsewhere and not told of yet. So its extent is fresh: what is told to come there may be that very
 * mapping (former.c), and nothing is taken out. At the next moment at which nothing is under way what is not registered
 * has its extents no longer. That moment is waited for, but not for long. To begin with, too, one is waited for.
 *
 * A mapping may change between the reading of the file and registering, unseen. So the file is read again: where
 * something else has come that is not ours to have, it is let go; one that has grown in place has been split, and its
 * rest is registered, too.
 */
#include <errno.h>
#include <stdlib.h>

#include "assert.h"
#include "clock.h"
#include "journal.h"
#include "proc.h"
#include "program.h"
#include "survey.h"
#include "uffd.h"

#define CALM_BEFORE_NS 2000000u
#define CALM_AFTER_NS 20000000u
#define CALM_PAUSE_NS 20000u

/* The second reading: what has been passed of the list, which is in the same order. */
struct confirmation {
	struct survey *survey;
	size_t next;
};

static bool candidate_mine(const struct candidate *c)
{
	return c->registered && !c->foreign;
}

/* 0, or as uffd_register(). What was moved since the survey is left alone: -EAGAIN. */
static int range_take(struct program *p, uint64_t start, uint64_t end)
{
	if (moves_pending(&p->moves, start >> PAGE_SHIFT, end >> PAGE_SHIFT))
		return -EAGAIN;
	return uffd_register(p->uffd, start, end - start);
}

/* What has come since right behind one, where nothing was: as a rule it has grown. */
static void candidate_grow(struct survey *s, struct candidate *c, const struct proc_mapping *m)
{
	if (!candidate_mine(c) || c->adjoined || c->end != m->start)
		return;
	if (m->anonymous && !m->shared && !m->special && !m->stack && !survey_own(s->program, m->start, m->end) &&
	    !survey_sparse((m->end - m->start) >> PAGE_SHIFT) && !range_take(s->program, m->start, m->end))
		c->end = m->end;
	c->adjoined = true; /* what is behind that was there, as a rule */
}

static int mapping_confirm(void *arg, const struct proc_mapping *m)
{
	struct confirmation *seen = arg;
	struct survey *s = seen->survey;
	size_t i = seen->next;

	if (i && (i == s->nr || s->list[i].start >= m->end))
		candidate_grow(s, &s->list[i - 1], m);
	for (; i < s->nr && s->list[i].start < m->end; i++)
		s->list[i].foreign |= s->list[i].end > m->start && (!m->anonymous || m->shared);
	while (seen->next < s->nr && s->list[seen->next].end <= m->end)
		seen->next++;
	return 0;
}

/* A stretch that has just become managed, from page `idx` of a tract on. */
struct stretch {
	struct tract *tract;
	uint64_t vpn, idx;
};

static void page_found(void *arg, uint64_t start, uint64_t end, bool huge)
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

int stretch_take(struct program *p, uint64_t vpn, uint64_t nr)
{
	struct stretch stretch = { .vpn = vpn };
	int error = tract_take(p, vpn, nr, &stretch.tract, &stretch.idx);

	if (error)
		return error;
	extent_doubt(p, vpn);
	return pages_find(p, vpn, nr, page_found, &stretch);
}

/* Candidates side by side, from the first to the last. */
static void candidates_take(struct survey *s, const struct candidate *first, const struct candidate *last)
{
	struct program *p = s->program;
	uint64_t seq = atomic_load(&p->map_seq);

	s->taken += survey_uncovered(p, first->start, last->end, stretch_take);
	/* These changes are our own: no reason to survey again. */
	p->seen_map_seq += atomic_load(&p->map_seq) - seq;
	for (const struct candidate *c = first; c <= last; c++) {
		const struct extent *e = extent_next(p, c->start >> PAGE_SHIFT);
		for (; c->huge && e && e < p->extents + p->nr_extents && e->vpn < c->end >> PAGE_SHIFT; e++)
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

/*
 * Read on until nothing is under way, or that time: whether there was such a moment. Threads that change their
 * mappings all the time come to their next fault before long, and wait there; but for those that touch nothing.
 */
static bool program_calm(struct drained *d, uint64_t end_ns)
{
	for (;;) {
		bool late = clock_now_ns() > end_ns; /* before: to follow a fork may take longer */
		if (events_read(d->program, fault_note, d) > 0 && clock_now_ns() < end_ns)
			continue;
		if (!uffd_changing(d->program->uffd)) {
			/* What was done before has nothing to do with what is mapped now. */
			journal_begin(d->program);
			journal_done(d->program);
			if (!journal_open(d->program))
				return true;
		}
		if (late)
			return false;
		clock_sleep_ns(CALM_PAUSE_NS);
	}
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
		int error = range_take(p, c->start, c->end);
		c->registered = !error;
		if (error == -EBUSY)
			s->unmanaged[UNMANAGED_FOREIGN] += (c->end - c->start) >> PAGE_SHIFT;
	}
}

static void page_gone(struct program *p, uint64_t vpn)
{
	extent_cut(p, vpn, 1, piece_drop, NULL);
}

/* Pages that are not registered have no extent; -errno: nobody can tell now. */
static int extents_settle(struct program *p)
{
	uint64_t vpn = 0;
	int yes = 0;

	for (const struct extent *e; yes >= 0 && (e = extent_next(p, vpn)) && e->vpn < LIMBO_VPN;) {
		struct extent piece = *e;
		vpn = e->vpn + e->nr_pages;
		if (piece.fresh)
			yes = range_registered(p, piece.vpn, piece.nr_pages, page_gone);
	}
	return yes < 0 ? yes : 0;
}

/* Find out where what was adopted is, at a moment at which nothing is under way. */
static void program_settle(struct program *p, struct drained *drained, uint64_t end_ns)
{
	int error = -EAGAIN;

	while (error == -EAGAIN && program_calm(drained, end_ns))
		error = extents_settle(p);
	if (error) {
		atomic_store(&p->unknown, true);
		return;
	}
	for (size_t i = 0; i < p->nr_extents; i++)
		p->extents[i].fresh = false;
	p->fresh = false;
}

static int survey_adopt(struct survey *s, struct drained *drained)
{
	struct program *p = s->program;
	struct confirmation seen = { .survey = s };

	if (!program_calm(drained, clock_now_ns() + CALM_BEFORE_NS)) {
		atomic_store(&p->unknown, true);
		return -EAGAIN;
	}
	candidates_register(s);
	int error = proc_mappings(p->proc_dir, false, mapping_confirm, &seen);
	guards_look(p); /* of those to come there is an event now */
	for (size_t i = 0, to; i < s->nr; i = to) {
		struct candidate *c = &s->list[i];
		for (to = i + 1; candidate_mine(c) && to < s->nr && candidate_mine(&s->list[to]) &&
				 s->list[to].start == s->list[to - 1].end;)
			to++;
		if (candidate_mine(c))
			candidates_take(s, c, &s->list[to - 1]);
	}
	program_settle(p, drained, clock_now_ns() + CALM_AFTER_NS);
	for (size_t i = 0; i < s->nr && !p->fresh; i++) {
		const struct candidate *c = &s->list[i];
		if (c->registered && c->foreign &&
		    survey_uncovered(p, c->start, c->end, NULL) == (c->end - c->start) >> PAGE_SHIFT)
			uffd_unregister(p->uffd, c->start, c->end - c->start);
	}
	return error;
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
	int error = -EAGAIN;

	program_lock_exclusive(p);
	if (program_calm(&drained, clock_now_ns() + CALM_BEFORE_NS))
		error = proc_mappings(p->proc_dir, true, mapping_registered, &s);
	if (!error && (p->birth || uffd_changing(p->uffd)))
		error = -EAGAIN;
	if (error == -EAGAIN)
		atomic_store(&p->unknown, true);
	uint64_t vpn = 0;
	for (size_t i = 0; !error && i <= s.nr; i++) {
		uint64_t to = i < s.nr ? s.list[i].start >> PAGE_SHIFT : LIMBO_VPN;
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

	int error = p->checked ? 0 : child_verify(p);
	if (!error)
		error = survey_read(&s);
	program_lock_shared(p);
	bool fresh = p->fresh; /* handlers say so, too */
	rwlock_unlock(&p->lock);
	if (!error && (s.nr || fresh)) {
		struct drained drained = { .program = p };
		program_lock_exclusive(p);
		if (s.nr)
			error = survey_adopt(&s, &drained);
		else
			program_settle(p, &drained, clock_now_ns() + CALM_BEFORE_NS);
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
