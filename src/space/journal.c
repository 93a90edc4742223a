/* SPDX-License-Identifier: MIT */
/*
 * Journal: what a program's threads changed of its mappings of late, for children whose fork is told meanwhile.
 *
 *   changes  ──x──x──x──x──x──x──►   in the order in which they were told
 *                    ▲        ▲
 *                  calm       nr
 *
 * At some moment after change `calm` nothing was under way: every change and every fork had been told. So a fork
 * that is told later came after these. Of the others nobody knows; birth.c finds out. What was unmapped since is
 * kept in limbo, in extents where there are no addresses, and discarded at the next calm moment.
 *
 * A child that is born in between waits for the next calm moment: then all is told that may have come before it. Where
 * something is again by then that was unmapped, its program says what before (limbo_settle() of refusal.c): it was
 * never unmapped, or a neighbour has grown there, of which nothing tells but that it leaves. So what is
 * unmapped of which the table knows nothing is a change, too, to NOTHING_VPN. Nor does it tell of growing where
 * something was moved away; then a child's having memory there says nothing of that move.
 *
 * A journal is its program's and its young children's; it stays until all have left it. Its lock comes after
 * program.lock. Its program holds it from before a message is read until the table is changed for it, so who
 * sees a calm moment with the lock held has seen all that came before.
 */
#include "journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "program.h"
#include "uffd.h"

#define CHANGES_LEAST 16u
#define LIMBO_PAGES_MAX (UINT64_C(1) << 18) /* 1 GiB */
/* A program whose threads change mappings all the time is never seen calm. What was begun before is told by then,
 * or nearly always: its children look at their places afterwards. */
#define CALM_WAIT_NS 100000000u
/* For so long a touch where nothing is known waits for what is in limbo. */
#define DOUBT_NS UINT64_C(2000000000)

struct journal *journal_new(void)
{
	struct journal *j = calloc(1, sizeof *j);

	if (j)
		j->changes = calloc(CHANGES_LEAST, sizeof *j->changes);
	if (!j || !j->changes) {
		free(j);
		return NULL;
	}
	j->room = CHANGES_LEAST;
	pthread_mutex_init(&j->lock, NULL);
	j->uffd = -1;
	j->nr_users = 1;
	j->limbo = LIMBO_VPN;
	return j;
}

/* journal.lock held; given back. */
static void journal_leave(struct journal *j)
{
	bool last = !--j->nr_users;

	pthread_mutex_unlock(&j->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&j->lock);
	free(j->changes);
	free(j);
}

/* Of what one thread has told before it forked all was done, but what the kernel may have refused: not where something
 * has come since. */
static bool birth_wants(const struct birth *b, const struct change *changes, size_t i, bool doubtful)
{
	const struct change *c = &changes[i];
	bool wants = !b->single || (!doubtful && i < b->at && change_unmaps(c) && c->emptied);

	for (size_t k = i + 1; wants && b->single && k < b->at; k++)
		wants = changes[k].to >= c->from + c->nr_pages || c->from >= changes[k].to + changes[k].nr_pages;
	return wants;
}

/* No change from here on has to do with those who wait. */
static void young_known(struct journal *j, bool doubtful)
{
	while (j->young) {
		struct birth *b = j->young;
		size_t at = 0;
		j->young = b->next;
		b->changes = calloc(j->nr - b->from + 1, sizeof *b->changes);
		for (size_t i = b->from; i < j->nr && b->changes; i++) {
			if (!birth_wants(b, j->changes, i, doubtful))
				continue;
			at += i < b->at;
			b->changes[b->nr++] = j->changes[i];
		}
		b->at = at;
		b->doubtful = doubtful && !b->single;
		atomic_store(&b->known, true);
	}
}

static bool journal_calm(const struct journal *j)
{
	return j->uffd >= 0 && !uffd_changing(j->uffd);
}

/* Whether something is again where memory has left: what, its program finds out (journal_begin()). If it has not
 * come to that in `long_enough`, something has grown there. */
static bool journal_replaced(struct journal *j, bool long_enough)
{
	bool some = false;

	for (size_t i = j->calm; i < j->nr && !some; i++) {
		struct change *c = &j->changes[i];
		int there = !change_empties(c) ? 0 : uffd_registered(j->uffd, vpn_address(c->from), PAGE_BYTES);
		if (there > 0 && long_enough)
			c->emptied = false;
		some = there == -EAGAIN || (there > 0 && !long_enough);
	}
	return some;
}

/* Children are to know where other memory has grown into places from which something was moved away. What was
 * unmapped is looked at by limbo_settle(). False: something is under way. */
static bool places_look(struct program *p, struct journal *j)
{
	for (size_t i = 0; i < j->nr && j->young; i++) {
		struct change *c = &j->changes[i];
		if (!change_empties(c) || change_unmaps(c) || extent_find(p, c->from))
			continue;
		int there = uffd_registered(j->uffd, vpn_address(c->from), PAGE_BYTES);
		if (there == -EAGAIN)
			return false;
		c->emptied = there <= 0;
	}
	return true;
}

/* At a calm moment. */
static void journal_known(struct journal *j)
{
	young_known(j, false);
	j->calm = j->nr;
}

/* ---- the program ---- */

void journal_end(struct program *p)
{
	struct journal *j = p->journal;

	pthread_mutex_lock(&j->lock);
	j->uffd = -1;
	young_known(j, true);
	journal_leave(j);
}

void journal_begin(struct program *p)
{
	struct journal *j = p->journal;

	pthread_mutex_lock(&j->lock);
	j->uffd = p->uffd;
	/* What is unsure is followed with what is written here. */
	if (!atomic_load(&j->open) || p->moves.unsure.nr_pages || !journal_calm(j))
		return;
	if (limbo_settle(p, j->changes, j->nr, !j->filled) == -EAGAIN || !places_look(p, j))
		return;
	journal_known(j);
	struct moves_table table = range_table(p);
	j->nr = j->calm = 0;
	j->filled = false;
	moves_settle(&p->moves, &table);
	limbo_clear(p);
	j->limbo_pages = 0;
	atomic_store(&j->open, false);
}

bool journal_open(const struct program *p)
{
	return atomic_load_explicit(&p->journal->open, memory_order_relaxed);
}

bool journal_doubts(struct program *p, uint64_t vpn)
{
	struct journal *j = p->journal;
	bool some = false;

	if (!journal_open(p))
		return false;
	pthread_mutex_lock(&j->lock);
	for (size_t i = 0; i < j->nr && !some; i++) {
		const struct change *c = &j->changes[i];
		some = c->to >= LIMBO_VPN && c->from <= vpn && vpn < c->from + c->nr_pages;
	}
	bool waits = some && clock_now_ns() - j->since_ns < DOUBT_NS;
	j->filled |= some && !waits;
	pthread_mutex_unlock(&j->lock);
	return waits;
}

void journal_fill(struct program *p)
{
	pthread_mutex_lock(&p->journal->lock);
	p->journal->filled = true;
	pthread_mutex_unlock(&p->journal->lock);
}

void journal_done(struct program *p)
{
	pthread_mutex_unlock(&p->journal->lock);
}

bool journal_unsure(const struct program *parent)
{
	return parent->journal->nr > parent->journal->calm;
}

bool journal_stays(const struct program *p, uint64_t vpn, uint64_t end)
{
	const struct journal *j = p->journal;
	bool some = false;

	for (size_t i = j->calm; i < j->nr && !some; i++) {
		const struct change *c = &j->changes[i];
		some = change_unmaps(c) && c->emptied && c->from < end && vpn < c->from + c->nr_pages &&
		       !extent_find(p, c->from);
	}
	return some;
}

uint64_t journal_home(const struct program *p, uint64_t vpn)
{
	const struct journal *j = p->journal;

	for (size_t i = 0; i < j->nr && vpn >= LIMBO_VPN; i++) {
		const struct change *c = &j->changes[i];
		if (change_unmaps(c) && c->to <= vpn && vpn < c->to + c->nr_pages)
			return c->from + (vpn - c->to);
	}
	return vpn;
}

static bool journal_grow(struct journal *j)
{
	size_t room = j->room * 4;
	struct change *grown = room <= CHANGES_MAX ? realloc(j->changes, room * sizeof *grown) : NULL;

	if (!grown)
		return false;
	j->changes = grown;
	j->room = room;
	return true;
}

static void journal_add(struct program *p, struct change change)
{
	struct journal *j = p->journal;

	if (j->nr == j->room && !journal_grow(j)) {
		/* A fork that came before these, and has not been told yet, is given up. */
		young_known(j, true);
		j->nr = j->room / 2;
		j->calm = j->calm > j->nr ? j->calm - j->nr : 0;
		memmove(j->changes, j->changes + j->room - j->nr, j->nr * sizeof *j->changes);
	}
	if (!j->nr)
		j->since_ns = clock_now_ns();
	j->changes[j->nr++] = change;
	atomic_store(&j->open, true);
}

void journal_moved(struct program *p, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	journal_add(p, (struct change){ .from = from, .to = to, .nr_pages = nr_pages, .told = p->journal->told });
}

void journal_emptied(struct program *p, uint64_t from, uint64_t nr_pages)
{
	struct journal *j = p->journal;

	for (size_t i = j->nr; i-- > 0;) {
		struct change *c = &j->changes[i];
		if (c->from != from || c->nr_pages != nr_pages || c->emptied || c->to >= LIMBO_VPN)
			continue;
		c->emptied = true;
		return;
	}
}

void journal_bound(struct program *p)
{
	struct journal *j = p->journal;

	j->told++;
	if (j->limbo_pages <= LIMBO_PAGES_MAX)
		return;
	limbo_clear(p);
	j->limbo_pages = 0;
}

uint64_t journal_unmapped(struct program *p, uint64_t from, uint64_t nr_pages)
{
	struct journal *j = p->journal;
	uint64_t to = j->limbo;

	j->limbo += nr_pages;
	j->limbo_pages += nr_pages;
	journal_add(p, (struct change){ .from = from, .to = to, .nr_pages = nr_pages, .emptied = true,
				       .told = j->told });
	return to;
}

void journal_grown(struct program *p, uint64_t vpn, uint64_t nr_pages, bool unmapped)
{
	struct journal *j = p->journal;

	for (size_t i = 0; i < j->nr; i++) {
		struct change *c = &j->changes[i];
		if (change_empties(c) && c->told != j->told && c->from < vpn + nr_pages && vpn < c->from + c->nr_pages)
			c->emptied = false;
	}
	if (!unmapped)
		return;
	journal_add(p, (struct change){ .from = vpn, .to = j->limbo - LIMBO_VPN + NOTHING_VPN, .nr_pages = nr_pages,
				       .emptied = true, .told = j->told });
	j->limbo += nr_pages;
}

/* ---- its children ---- */

int birth_begin(struct program *child, struct program *parent, bool single)
{
	struct journal *j = parent->journal;
	struct birth *b = calloc(1, sizeof *b);

	if (!b)
		return -ENOMEM;
	b->journal = j;
	b->from = j->calm;
	b->at = j->nr;
	b->single = single;
	b->since_ns = clock_now_ns();
	b->next = j->young;
	j->young = b;
	j->nr_users++;
	/* Only a calm moment from here on will do. */
	atomic_store(&j->open, true);
	atomic_store(&child->birth, b);
	return 0;
}

bool birth_known(struct birth *b)
{
	struct journal *j = b->journal;

	if (atomic_load(&b->known))
		return true;
	pthread_mutex_lock(&j->lock);
	uint64_t waited_ns = clock_now_ns() - b->since_ns;
	if (!journal_calm(j)) {
		if (waited_ns > CALM_WAIT_NS)
			young_known(j, true);
	} else if (!journal_replaced(j, waited_ns > DOUBT_NS)) {
		journal_known(j);
	}
	pthread_mutex_unlock(&j->lock);
	return atomic_load(&b->known);
}

void birth_free(struct program *child)
{
	struct birth *b = atomic_exchange(&child->birth, NULL);
	struct journal *j = b->journal;

	pthread_mutex_lock(&j->lock);
	for (struct birth **at = &j->young; *at; at = &(*at)->next) {
		if (*at != b)
			continue;
		*at = b->next;
		break;
	}
	journal_leave(j);
	for (unsigned i = 0; i < b->nr_early; i++) { /* of one that was ended */
		if (b->early[i].event != UFFD_EVENT_FORK)
			continue;
		/* Nobody has followed that fork: what came of it may not go on. */
		if (uffd_alive((int)b->early[i].arg.fork.ufd))
			atomic_store(&child->server->lost_child, true);
		close((int)b->early[i].arg.fork.ufd);
	}
	free(b->changes);
	free(b);
}
