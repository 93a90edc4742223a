/* SPDX-License-Identifier: MIT */
/*
 * Birth: a child whose parent's threads changed mappings just while it was forked.
 *
 * Its table is its parent's as of the reading of the fork; its mappings are those of the fork itself. Once all is
 * told that may have come before it (journal.c), the child is asked where it has memory (cut.c), and changes that it
 * does not have are undone in its table, others made. Until then nothing is served: its threads wait in
 * their first fault, or for the first of their own events.
 *
 * While an event of its own waits it cannot be asked: that is read then, and kept, and followed afterwards. When it
 * has changed the very places, or has changed so much that no more can be kept, or what it has fits no order, its
 * table stays as it is: what was told in some order was nearly always done in that order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "journal.h"
#include "program.h"
#include "uffd.h"

static int child_registered(void *arg, uint64_t vpn)
{
	const struct program *p = arg;

	return uffd_registered(p->uffd, vpn_address(vpn), PAGE_BYTES);
}

static bool ranges_meet(uint64_t a, uint64_t nr_a, uint64_t b, uint64_t nr_b)
{
	return a < b + nr_b && b < a + nr_a;
}

/* Whether it has changed its own mappings there. */
static bool early_meets(const struct birth *b, uint64_t vpn, uint64_t nr_pages)
{
	for (unsigned i = 0; i < b->nr_early; i++) {
		const struct uffd_msg *m = &b->early[i];
		uint64_t first = m->arg.remove.start >> PAGE_SHIFT, nr = (m->arg.remove.end >> PAGE_SHIFT) - first;
		if (m->event == UFFD_EVENT_UNMAP && ranges_meet(first, nr, vpn, nr_pages))
			return true;
		nr = m->arg.remap.len >> PAGE_SHIFT;
		if (m->event == UFFD_EVENT_REMAP && (ranges_meet(m->arg.remap.from >> PAGE_SHIFT, nr, vpn, nr_pages) ||
						     ranges_meet(m->arg.remap.to >> PAGE_SHIFT, nr, vpn, nr_pages)))
			return true;
	}
	return false;
}

static int early_read(struct program *p, struct birth *b)
{
	ssize_t nr = messages_fetch(p, b->early + b->nr_early, EARLY_MAX - b->nr_early);

	if (nr > 0)
		b->nr_early += (unsigned)nr;
	return b->nr_early == EARLY_MAX ? -EUCLEAN : -EAGAIN;
}

size_t birth_early(struct program *p, struct uffd_msg *messages, size_t max)
{
	struct birth *b = atomic_load(&p->birth);
	size_t nr = !b ? 0 : b->nr_early < max ? b->nr_early : max;

	if (!b)
		return 0;
	memcpy(messages, b->early, nr * sizeof *messages);
	b->nr_early -= (unsigned)nr;
	memmove(b->early, b->early + nr, b->nr_early * sizeof *b->early);
	if (!b->nr_early)
		birth_free(p);
	return nr;
}

/* Undo what it does not have, the last first, and make what it has. */
static void changes_apply(struct program *p, const struct birth *b, const bool *made)
{
	for (size_t i = b->at; i-- > 0;)
		if (!made[i])
			range_move(p, b->changes[i].to, b->changes[i].from, b->changes[i].nr_pages);
	for (size_t i = b->at; i < b->nr; i++)
		if (made[i])
			range_move(p, b->changes[i].from, b->changes[i].to, b->changes[i].nr_pages);
}

static int child_place(struct program *p, struct birth *b)
{
	struct place *places = calloc(p->nr_extents + 1, sizeof *places);
	bool *made = calloc(b->nr + 1, sizeof *made);
	int error = b->changes && places && made ? 0 : -ENOMEM;

	for (size_t i = 0; i < b->nr && !error; i++)
		if (early_meets(b, b->changes[i].from, b->changes[i].nr_pages) ||
		    early_meets(b, b->changes[i].to, b->changes[i].nr_pages))
			error = -EUCLEAN;
	for (size_t i = 0; i < p->nr_extents && !error; i++)
		places[i] = (struct place){ p->extents[i].vpn, p->extents[i].nr_pages };
	if (!error)
		error = cut_find(b->changes, b->nr, b->at, places, p->nr_extents, child_registered, p, made);
	if (!error) {
		changes_apply(p, b, made);
		limbo_clear(p);
	}
	free(places);
	free(made);
	return error;
}

/* Whether stored pages are all where the child has memory. */
static int extent_verify(struct program *p, const struct birth *b, const struct extent *e)
{
	for (uint64_t i = 0, run; i < e->nr_pages; i += run) {
		for (run = 0; i + run < e->nr_pages && page_has_slot(word_load(e->tract, e->idx + i + run)); run++)
			;
		if (!run || early_meets(b, e->vpn + i, run)) {
			run += !run;
			continue;
		}
		int yes = range_registered(p, e->vpn + i, run, NULL);
		if (yes <= 0)
			return yes < 0 ? yes : -EUCLEAN;
	}
	return 0;
}

static int child_verify_places(struct program *p, const struct birth *b)
{
	int error = 0;

	for (size_t i = 0; i < p->nr_extents && !error; i++)
		error = extent_verify(p, b, &p->extents[i]);
	return error;
}

/* The order in which it was told is taken for the one in which it was done, as it is nearly always. */
static void order_trust(struct program *p, struct birth *b)
{
	limbo_clear(p);
	b->placed = true;
	b->doubtful = false;
}

/* 0: the table is right, as far as can be told. */
static int birth_try(struct program *p, struct birth *b)
{
	int error = 0;

	if (!b->placed)
		error = child_place(p, b);
	b->placed |= !error;
	if (error == -EUCLEAN || error == -ESRCH) {
		order_trust(p, b);
		return 0;
	}
	if (!error && b->doubtful)
		error = child_verify_places(p, b);
	if (error == -EAGAIN && early_read(p, b) == -EUCLEAN) {
		order_trust(p, b);
		return 0;
	}
	return error;
}

int birth_settle(struct program *p)
{
	struct birth *b = atomic_load(&p->birth);

	if (!b || b->settled)
		return 0;
	if (atomic_load(&p->gone) || !birth_known(b))
		return -EAGAIN;
	int error = birth_try(p, b);
	if (error == -EAGAIN)
		return error;
	if (error && error != -ESRCH) { /* that: it has ended */
		program_fail(p, "its parent moved memory just while it was forked: nobody can tell where it is now");
		return -EAGAIN;
	}
	b->settled = true;
	if (!b->nr_early)
		birth_free(p);
	return 0;
}
