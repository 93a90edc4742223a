/* SPDX-License-Identifier: MIT */
/*
 * Former: a mapping has been moved to where the table still has another.
 *
 * That one has left before, but its thread has not come as far as to tell: an event is queued after the kernel's lock
 * was given up. It is kept in limbo until it is told where it went. Which message says so? What has come may leave
 * again, by another thread, and that may be queued first. But nobody knows that it came before its mover's call is
 * over, and that call waits for its second message, the unmapping of the old place, to be read. So what is queued
 * before that is read is about the former:
 *
 *   1 ─ leaves X ─ ─ ─ held up ─ ─ ─ queues ▼
 *   2 ─── moves A to X ─ queues ▼ ──────────│── told; A's unmapping queued ─ not read yet ─ ─ ▼ ── goes on
 *                                           └── seen: it sleeps in a call that takes X away ──┘
 *
 * A call in which a thread sleeps says which pages it takes away, but not which of its messages is next. Of
 * every move that is told and whose unmapping is not, one such call is the mover's. And that unmapping, of what had
 * moved away before, may be told at any time: it is the former's only if that leaves by being unmapped, and then
 * of two that are the same it does not matter which is which.
 *
 * An mremap to a given place first tells what it has unmapped there, if that was ours: one that is to move a former may
 * have come no further. What has come instead may then leave first after all. But such a call says where it moves to,
 * and so does the message: one that says otherwise is not the former's; nor, once the unmapping at that place is
 * told, is any unmapping of the former's.
 *
 * Every page of a former that is awaited must be taken away by just one call. Two may be of the former and of
 * something between the two that told of nothing when it came (it had grown there): then nobody can tell.
 *
 * What an MREMAP_DONTUNMAP leaves behind has no pages and is in no table. So where the unmapping of a place that was
 * moved away from is to come, an arrival finds an empty, vague former. Of each such move a thread sleeps in a call that
 * takes the place away: to tell of that unmapping, or, one of them, of what had stayed. Which it is its message says.
 *
 * Memory that was just registered, and of which it is not yet known what is there, is a vague former: it may be the
 * very mapping that is told to have come. If no thread runs, and none sleeps in a call that takes it away, it is.
 */
#include "former.h"

#include <errno.h>
#include <limits.h>

bool former_add(struct formers *f, const struct former *former)
{
	if (!former->nr_pages)
		return true;
	if (f->nr == FORMERS_MAX)
		return false;
	f->list[f->nr++] = *former;
	return true;
}

/* Whether a message may be about a former. */
static bool former_meant(const struct former *former, const struct leaving *told)
{
	const struct leaving *call = &former->call;

	if (former->state != FORMER_QUEUED || !call->to)
		return true;
	return told->moved ? told->vpn == call->vpn && told->to == call->to : !former->cleared;
}

bool formers_meant(const struct formers *f, const struct leaving *told, uint64_t vpn, uint64_t end)
{
	for (unsigned i = 0; i < f->nr; i++) {
		const struct former *former = &f->list[i];
		if (former->vpn < end && vpn < former->vpn + former->nr_pages && former_meant(former, told))
			return true;
	}
	return false;
}

static struct former former_part(const struct former *whole, uint64_t vpn, uint64_t end)
{
	struct former part = *whole;

	part.vpn = vpn;
	part.nr_pages = end > vpn ? end - vpn : 0;
	part.limbo = whole->limbo ? whole->limbo + (vpn - whole->vpn) : 0;
	return part;
}

int former_take(struct formers *f, const struct leaving *told, uint64_t vpn, uint64_t end, struct former *ret_part)
{
	for (unsigned i = 0; i < f->nr; i++) {
		struct former whole = f->list[i];
		uint64_t last = whole.vpn + whole.nr_pages;
		uint64_t from = whole.vpn > vpn ? whole.vpn : vpn, to = last < end ? last : end;
		struct former before = former_part(&whole, whole.vpn, from), after = former_part(&whole, to, last);
		if (from >= to || !former_meant(&whole, told))
			continue;
		if (f->nr == FORMERS_MAX && before.nr_pages && after.nr_pages)
			return -ENOSPC;
		f->list[i] = f->list[--f->nr];
		former_add(f, &before);
		former_add(f, &after);
		*ret_part = former_part(&whole, from, to);
		return 1;
	}
	return 0;
}

bool formers_unmapped(const struct formers *f, uint64_t vpn, uint64_t nr_pages)
{
	for (unsigned i = 0; i < f->nr; i++) {
		const struct leaving *call = &f->list[i].call;
		bool same = call->vpn == vpn && call->nr_pages == nr_pages;
		if (f->list[i].state == FORMER_QUEUED && !call->moved && same)
			return true;
	}
	return false;
}

static bool former_open(const struct former *former)
{
	return former->state == FORMER_AWAITED || former->state == FORMER_VAGUE;
}

void formers_cleared(struct formers *f, uint64_t vpn)
{
	for (unsigned i = 0; i < f->nr; i++)
		if (f->list[i].state == FORMER_QUEUED && f->list[i].call.to == vpn)
			f->list[i].cleared = true;
}

void formers_release(struct formers *f, uint64_t from, uint64_t nr_pages)
{
	for (unsigned i = 0; i < f->nr; i++)
		if (former_open(&f->list[i]) && f->list[i].mover.vpn == from &&
		    f->list[i].mover.nr_pages == nr_pages)
			f->list[i].state = FORMER_DOUBTFUL;
}

void formers_doubt(struct formers *f)
{
	for (unsigned i = 0; i < f->nr; i++)
		if (former_open(&f->list[i]))
			f->list[i].state = FORMER_DOUBTFUL;
}

void formers_drop(struct formers *f)
{
	f->nr = 0;
}

static bool former_empty(const struct former *former, uint64_t vpn, uint64_t nr_pages)
{
	return !former->limbo && former->vpn < vpn + nr_pages && vpn < former->vpn + former->nr_pages;
}

bool formers_empty(const struct formers *f, uint64_t vpn, uint64_t nr_pages)
{
	for (unsigned i = 0; i < f->nr; i++)
		if (former_empty(&f->list[i], vpn, nr_pages))
			return true;
	return false;
}

void formers_drop_empty(struct formers *f, uint64_t vpn, uint64_t nr_pages)
{
	for (unsigned i = f->nr; i-- > 0;)
		if (former_empty(&f->list[i], vpn, nr_pages))
			f->list[i] = f->list[--f->nr];
}

uint64_t formers_limbo(const struct formers *f, uint64_t at, uint64_t *ret_next)
{
	uint64_t end = UINT64_MAX;

	*ret_next = UINT64_MAX;
	for (unsigned i = 0; i < f->nr; i++) {
		if (!f->list[i].limbo || f->list[i].limbo < at || f->list[i].limbo >= end)
			continue;
		end = f->list[i].limbo;
		*ret_next = end + f->list[i].nr_pages;
	}
	return end;
}

static bool leaving_same(const struct leaving *call, const struct leaving *left)
{
	return call->moved && call->vpn == left->vpn && call->nr_pages == left->nr_pages &&
	       (!call->to || call->to == left->to);
}

static bool formers_meet(const struct former *one, const struct former *other)
{
	return one->vpn < other->vpn + other->nr_pages && other->vpn < one->vpn + one->nr_pages;
}

/* Whether a call takes away another former that was at the same place, so not this one. */
static bool call_claimed(const struct formers *f, const struct former *former, const struct leaving *call)
{
	for (unsigned i = 0; i < f->nr; i++) {
		const struct former *other = &f->list[i];
		if (other->state == FORMER_QUEUED && call->to && leaving_same(call, &other->call) &&
		    formers_meet(former, other))
			return true;
	}
	return false;
}

/* The calls that may take a former away; how many. */
static size_t calls_unclaimed(const struct formers *f, const struct former *former, const struct leaving *calls,
			      size_t nr, struct leaving *ret_calls)
{
	size_t nr_free = 0;

	for (size_t i = 0; i < nr && nr_free < FORMERS_MAX; i++)
		if (!call_claimed(f, former, &calls[i]))
			ret_calls[nr_free++] = calls[i];
	return nr_free;
}

static void former_divide(struct formers *f, unsigned i, uint64_t at)
{
	const struct former whole = f->list[i];
	uint64_t last = whole.vpn + whole.nr_pages;

	if (at <= whole.vpn || at >= last)
		return;
	f->list[i] = former_part(&whole, whole.vpn, at);
	if (f->nr == FORMERS_MAX) {
		f->list[i] = whole;
		f->list[i].state = FORMER_DOUBTFUL;
		return;
	}
	f->list[f->nr++] = former_part(&whole, at, last);
}

/* Of each all pages were, or none was, at the place of another whose call is known. */
static void formers_divide(struct formers *f)
{
	for (unsigned i = 0; i < f->nr; i++)
		for (unsigned k = 0; k < f->nr && former_open(&f->list[i]); k++) {
			const struct former other = f->list[k];
			if (other.state != FORMER_QUEUED)
				continue;
			former_divide(f, i, other.vpn);
			former_divide(f, i, other.vpn + other.nr_pages);
		}
}

/* The call of a move: rather one that says where to. `nr`: none. */
static size_t call_find(const struct leaving *calls, size_t nr, const struct leaving *left)
{
	size_t found = nr;

	for (size_t i = 0; i < nr; i++)
		if (leaving_same(&calls[i], left) && (found == nr || calls[i].to))
			found = i;
	return found;
}

size_t calls_told(struct leaving *calls, size_t nr, const struct leaving *left, size_t nr_left)
{
	for (size_t k = 0; k < nr_left; k++) {
		size_t found = call_find(calls, nr, &left[k]);
		if (found < nr) {
			struct leaving told = calls[found];
			calls[found] = calls[--nr];
			calls[nr] = told;
		}
	}
	return nr;
}

/* Whether who moved something over a former sleeps in that call still. */
static bool mover_waits(const struct former *former, const struct leaving *calls, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (leaving_same(&calls[i], &former->mover))
			return true;
	return false;
}

bool formers_concern(const struct formers *f, const struct leaving *call)
{
	for (unsigned i = 0; i < f->nr; i++) {
		const struct former *former = &f->list[i];
		bool meet = former->vpn < call->vpn + call->nr_pages && call->vpn < former->vpn + former->nr_pages;
		if (former_open(former) && (meet || mover_waits(former, call, 1)))
			return true;
	}
	return false;
}

/* How many calls take each page of a former away: the least, and the most. */
static void former_cover(const struct former *former, const struct leaving *calls, size_t nr, unsigned *ret_least,
			 unsigned *ret_most)
{
	uint64_t last = former->vpn + former->nr_pages;

	*ret_least = UINT_MAX;
	*ret_most = 0;
	for (uint64_t vpn = former->vpn, end; vpn < last; vpn = end) {
		unsigned sum = 0;
		end = last;
		for (size_t i = 0; i < nr; i++) {
			uint64_t first = calls[i].vpn, stop = first + calls[i].nr_pages;
			sum += first <= vpn && vpn < stop;
			if (first > vpn && first < end)
				end = first;
			if (stop > vpn && stop < end)
				end = stop;
		}
		*ret_least = sum < *ret_least ? sum : *ret_least;
		*ret_most = sum > *ret_most ? sum : *ret_most;
	}
}

/* The calls that may take a former away, and how many of them take each page of it: the least, and the most. */
struct cover {
	struct leaving calls[FORMERS_MAX];
	size_t nr;
	unsigned least, most;
};

static void cover_find(const struct formers *f, const struct former *former, const struct leaving *all, size_t nr_all,
		       struct cover *ret)
{
	ret->nr = calls_unclaimed(f, former, all, nr_all, ret->calls);
	former_cover(former, ret->calls, ret->nr, &ret->least, &ret->most);
}

/* Each call takes its part of a former away; where none does there was none. */
static void former_settle(struct formers *f, struct former former, const struct cover *c)
{
	uint64_t end = former.vpn + former.nr_pages;
	bool vague = former.state == FORMER_VAGUE; /* what nobody takes away never was */

	former.state = (c->least || vague) && c->most == 1 && f->nr + c->nr <= FORMERS_MAX ? FORMER_QUEUED
											    : FORMER_DOUBTFUL;
	if (former.state == FORMER_DOUBTFUL)
		former_add(f, &former);
	for (size_t i = 0; i < c->nr && former.state == FORMER_QUEUED; i++) {
		uint64_t first = c->calls[i].vpn, last = first + c->calls[i].nr_pages;
		first = first > former.vpn ? first : former.vpn;
		struct former part = former_part(&former, first, last < end ? last : end);
		part.call = c->calls[i];
		former_add(f, &part);
	}
}

/* How many moves away from an empty former's place are to be told unmapped, if that did not stay; at least itself. */
static unsigned leavings_over(const struct former *former, const struct leaving *left, size_t nr_left)
{
	unsigned sum = 0;

	for (size_t i = 0; i < nr_left; i++)
		sum += left[i].covered && left[i].vpn < former->vpn + former->nr_pages &&
		       former->vpn < left[i].vpn + left[i].nr_pages;
	return sum ? sum : 1;
}

/* Either one of the calls takes it away, or they are all about to tell of unmappings. */
static void empty_settle(struct formers *f, struct former former, const struct cover *c, unsigned nr_over)
{
	former.state = c->least == nr_over && c->most == nr_over ? FORMER_QUEUED : FORMER_DOUBTFUL;
	former.call = (struct leaving){ .moved = true };
	former_add(f, &former);
}

bool formers_queued(struct formers *f, struct leaving *calls, size_t nr_calls, bool all, const struct leaving *left,
		    size_t nr_left)
{
	struct cover cover;

	for (unsigned i = 0; i < f->nr; i++)
		if (former_open(&f->list[i]) && !mover_waits(&f->list[i], calls, nr_calls))
			return false;
	size_t nr = calls_told(calls, nr_calls, left, nr_left);
	formers_divide(f);
	for (unsigned i = 0; i < f->nr; i++) {
		if (!former_open(&f->list[i]))
			continue;
		bool empty = !f->list[i].limbo;
		unsigned nr_needed = empty ? leavings_over(&f->list[i], left, nr_left) : 1;
		cover_find(f, &f->list[i], calls, empty ? nr_calls : nr, &cover);
		if (cover.least < nr_needed && !(all && f->list[i].state == FORMER_VAGUE))
			return false;
	}
	for (unsigned i = f->nr; i-- > 0;) {
		struct former former = f->list[i];
		if (!former_open(&former))
			continue;
		f->list[i] = f->list[--f->nr];
		cover_find(f, &former, calls, former.limbo ? nr : nr_calls, &cover);
		if (cover.most && former.limbo)
			former_settle(f, former, &cover);
		else if (cover.most)
			empty_settle(f, former, &cover, leavings_over(&former, left, nr_left));
	}
	return true;
}

/* How many of `list` are from where `from` is; and to there, or any of which there is one in `some`. */
static size_t leavings_count(const struct leaving *list, size_t nr, const struct leaving *from,
			     const struct leaving *some, size_t nr_some)
{
	size_t sum = 0;

	for (size_t i = 0; i < nr; i++) {
		bool same = !nr_some && list[i].to == from->to;
		for (size_t k = 0; k < nr_some && !same; k++)
			same = leaving_same(&list[i], &some[k]);
		sum += same && list[i].vpn == from->vpn && list[i].nr_pages == from->nr_pages;
	}
	return sum;
}

/* Whether there are as many calls as such leavings, or, as some calls do not say where to, as all from there. */
static bool left_called(const struct leaving *l, const struct leaving *left, size_t nr_left,
			const struct leaving *calls, size_t nr_calls)
{
	return leavings_count(calls, nr_calls, l, NULL, 0) >= leavings_count(left, nr_left, l, NULL, 0) ||
	       leavings_count(calls, nr_calls, l, left, nr_left) >=
		       leavings_count(left, nr_left, l, left, nr_left);
}

bool leavings_known(struct leaving *left, size_t nr_left, const struct leaving *calls, size_t nr_calls)
{
	bool all = true;

	for (size_t i = 0; i < nr_left; i++) {
		if (left_called(&left[i], left, nr_left, calls, nr_calls))
			left[i].doubted = false;
		all &= !left[i].doubted;
	}
	return all;
}
