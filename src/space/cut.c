/* SPDX-License-Identifier: MIT */
/*
 * Cut: which of its parent's changes of mappings a child has.
 *
 * A fork divides the changes of the parent's threads into those before it and those after it, but is told, as
 * they are, in any order. Changes whose places meet are told in the order in which they were made; of others each
 * thread may be late by one. What tells is where the child has memory: for each part of the changes that it may
 * have (with every change all those before that it meets),
 *
 *   table ──undo all──► l0 ──make some──► layout: where pages are then
 *
 * the layout says at which places there is memory and at which there is none. Those that agree with the child must
 * all have every page at the same place (a thread may have moved it there and back): then it is that. If none
 * agrees, or they differ, nobody can tell. Changes of groups that do not meet are looked at one group at a time.
 * Where other memory has grown since into what was unmapped, that there is memory does not say whose: that it was
 * unmapped is taken for told in time.
 */
#include "cut.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Pages that are now at vpn, and were at `origin` in the table. */
struct piece {
	uint64_t vpn, nr_pages, origin;
};

struct layout {
	struct piece *list;
	size_t nr;
	bool possible;
};

struct answer {
	uint64_t vpn;
	bool registered;
};

struct cut {
	const struct change *changes;
	size_t nr;
	size_t *group;           /* of each change, by its first one */
	size_t *mine, nr_mine;   /* those of the group that is looked at */
	size_t at;               /* of these, made in the table */
	struct layout *layouts;  /* [nr_mine + 1] before each of them is decided, and after the last */
	unsigned *barred;        /* [nr_mine] times: one before that it meets is left out */
	bool *made;              /* [nr_mine] */
	unsigned nr_parts;       /* looked at */
	struct answer *answers;
	size_t nr_answers, room_answers;
	int (*registered)(void *arg, uint64_t vpn);
	void *arg;
	bool *found;             /* [nr] the part that agrees */
	struct layout found_layout;
	bool any;
};

/* More are not looked through. */
#define PARTS_MAX 8192u

static bool ranges_meet(uint64_t a, uint64_t nr_a, uint64_t b, uint64_t nr_b)
{
	return a < b + nr_b && b < a + nr_a;
}

static bool changes_meet(const struct change *a, const struct change *b)
{
	return ranges_meet(a->from, a->nr_pages, b->from, b->nr_pages) ||
	       ranges_meet(a->from, a->nr_pages, b->to, b->nr_pages) ||
	       ranges_meet(a->to, a->nr_pages, b->from, b->nr_pages) ||
	       ranges_meet(a->to, a->nr_pages, b->to, b->nr_pages);
}

static void groups_find(struct cut *c)
{
	for (size_t i = 0; i < c->nr; i++) {
		c->group[i] = i;
		for (size_t j = 0; j < i; j++) {
			size_t old = c->group[j];
			if (old == c->group[i] || !changes_meet(&c->changes[i], &c->changes[j]))
				continue;
			size_t least = old < c->group[i] ? old : c->group[i], most = old + c->group[i] - least;
			for (size_t k = 0; k <= i; k++)
				if (c->group[k] == most)
					c->group[k] = least;
		}
	}
}

/* ---- layouts ---- */

static int piece_add(struct layout *l, uint64_t vpn, uint64_t end, uint64_t origin)
{
	if (vpn >= end)
		return 0;
	/* Room for a power of two of them. */
	if (!(l->nr & (l->nr - 1))) {
		struct piece *grown = realloc(l->list, (l->nr ? 2 * l->nr : 1) * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		l->list = grown;
	}
	l->list[l->nr++] = (struct piece){ vpn, end - vpn, origin };
	return 0;
}

static int piece_compare(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return (x->vpn > y->vpn) - (x->vpn < y->vpn);
}

/* In the order of addresses, and what belongs together in one. */
static void layout_tidy(struct layout *l)
{
	size_t nr = 0;

	if (l->nr)
		qsort(l->list, l->nr, sizeof *l->list, piece_compare);
	for (size_t i = 0; i < l->nr; i++) {
		struct piece *last = nr ? &l->list[nr - 1] : NULL, *p = &l->list[i];
		if (last && last->vpn + last->nr_pages == p->vpn && last->origin + last->nr_pages == p->origin)
			last->nr_pages += p->nr_pages;
		else
			l->list[nr++] = *p;
	}
	/* piece_add() is not called for a layout that is tidy: its room is no longer told by nr. */
	l->nr = nr;
}

static bool layout_covers(const struct layout *l, uint64_t vpn, uint64_t nr_pages)
{
	for (size_t i = 0; i < l->nr; i++)
		if (ranges_meet(l->list[i].vpn, l->list[i].nr_pages, vpn, nr_pages))
			return true;
	return false;
}

/* `before` with the pages at `from` moved; impossible where there are others already. */
static int layout_move(const struct layout *before, uint64_t from, uint64_t to, uint64_t nr_pages,
		       struct layout *ret_after)
{
	uint64_t end = from + nr_pages;
	int error = 0;

	ret_after->possible = before->possible && !layout_covers(before, to, nr_pages);
	for (size_t i = 0; i < before->nr && !error; i++) {
		struct piece p = before->list[i];
		uint64_t last = p.vpn + p.nr_pages, first = p.vpn > from ? p.vpn : from, stop = last < end ? last : end;
		if (first >= stop) {
			error = piece_add(ret_after, p.vpn, last, p.origin);
			continue;
		}
		error = piece_add(ret_after, p.vpn, first, p.origin);
		if (!error)
			error = piece_add(ret_after, first - from + to, stop - from + to, p.origin + (first - p.vpn));
		if (!error)
			error = piece_add(ret_after, stop, last, p.origin + (stop - p.vpn));
	}
	layout_tidy(ret_after);
	return error;
}

static bool layouts_same(const struct layout *a, const struct layout *b)
{
	return a->nr == b->nr && (!a->nr || !memcmp(a->list, b->list, a->nr * sizeof *a->list));
}

/* Whether the group's changes have to do with page vpn; *end: up to where the answer is the same. */
static bool group_touches(const struct cut *c, uint64_t vpn, uint64_t *end)
{
	bool touches = false;

	for (size_t i = 0; i < c->nr_mine; i++) {
		const struct change *change = &c->changes[c->mine[i]];
		uint64_t first[2] = { change->from, change->to };
		for (unsigned k = 0; k < 2; k++) {
			uint64_t last = first[k] + change->nr_pages;
			touches |= first[k] <= vpn && vpn < last;
			if (first[k] > vpn && first[k] < *end)
				*end = first[k];
			if (last > vpn && last < *end)
				*end = last;
		}
	}
	return touches;
}

/* What the table has at the group's places. */
static int layout_begin(const struct cut *c, const struct place *places, size_t nr_places,
			struct layout *ret_layout)
{
	int error = 0;

	ret_layout->possible = true;
	for (size_t i = 0; i < nr_places; i++) {
		uint64_t last = places[i].vpn + places[i].nr_pages;
		for (uint64_t vpn = places[i].vpn, end; vpn < last && !error; vpn = end) {
			end = last;
			if (group_touches(c, vpn, &end))
				error = piece_add(ret_layout, vpn, end, vpn);
		}
	}
	layout_tidy(ret_layout);
	return error;
}

/* Before all changes. */
static int layouts_begin(struct cut *c, const struct place *places, size_t nr_places)
{
	struct layout at = { 0 };
	int error = layout_begin(c, places, nr_places, &at);

	for (size_t k = c->at; k > 0 && !error; k--) {
		const struct change *change = &c->changes[c->mine[k - 1]];
		struct layout before = { 0 };
		error = layout_move(&at, change->to, change->from, change->nr_pages, &before);
		free(at.list);
		at = before;
	}
	c->layouts[0] = at;
	return error;
}

/* ---- parts ---- */

/* Bar those that come after one that is left out, or let them in again. */
static void bar(struct cut *c, size_t i, bool on)
{
	const struct change *out = &c->changes[c->mine[i]];

	for (size_t k = i + 1; k < c->nr_mine; k++) {
		bool meets = changes_meet(out, &c->changes[c->mine[k]]);
		c->barred[k] += meets && on;
		c->barred[k] -= meets && !on;
	}
}

/* With the first i decided, look at all parts: `visit` gets the layout of each. */
static int parts_walk(struct cut *c, size_t i, int (*visit)(struct cut *c, const struct layout *l))
{
	const struct change *change = &c->changes[c->mine[i]];
	int error = 0;

	if (i == c->nr_mine)
		return ++c->nr_parts > PARTS_MAX ? -EUCLEAN : visit(c, &c->layouts[i]);
	struct layout *next = &c->layouts[i + 1];
	c->made[i] = true;
	if (!c->barred[i]) {
		error = layout_move(&c->layouts[i], change->from, change->to, change->nr_pages, next);
		if (!error && next->possible)
			error = parts_walk(c, i + 1, visit);
		free(next->list);
		*next = (struct layout){ 0 };
	}
	if (error || (!c->barred[i] && change_unmaps(change) && !change->emptied))
		return error;
	c->made[i] = false;
	bar(c, i, true);
	size_t to = i + 1;
	while (to < c->nr_mine && c->barred[to])
		c->made[to++] = false;
	/* One between that is barred bars others: in its turn, unless it is the last. */
	to = to == c->nr_mine ? to : i + 1;
	c->layouts[to] = c->layouts[i]; /* it is not changed, and freed by whoever made it */
	error = parts_walk(c, to, visit);
	c->layouts[to] = (struct layout){ 0 };
	bar(c, i, false);
	return error;
}

/* ---- what the child has ---- */

static int answer_add(struct cut *c, uint64_t vpn)
{
	for (size_t i = 0; i < c->nr_answers; i++)
		if (c->answers[i].vpn == vpn)
			return 0;
	if (c->nr_answers == c->room_answers) {
		size_t room = 2 * c->room_answers + 16;
		struct answer *grown = realloc(c->answers, room * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		c->answers = grown;
		c->room_answers = room;
	}
	int yes = c->registered(c->arg, vpn);
	if (yes < 0)
		return yes;
	c->answers[c->nr_answers++] = (struct answer){ vpn, yes };
	return 0;
}

/* Ask for the beginning of every piece. */
static int part_ask(struct cut *c, const struct layout *l)
{
	int error = 0;

	for (size_t i = 0; i < l->nr && !error; i++)
		if (l->list[i].vpn < LIMBO_VPN)
			error = answer_add(c, l->list[i].vpn);
	return error;
}

/* A change that left its old place mapped, and empty; or other memory has grown there since. */
static bool left_mapped(const struct cut *c, uint64_t vpn)
{
	for (size_t i = 0; i < c->nr_mine; i++) {
		const struct change *change = &c->changes[c->mine[i]];
		if (!change->emptied && ranges_meet(change->from, change->nr_pages, vpn, 1))
			return true;
	}
	return false;
}

static bool layout_agrees(const struct cut *c, const struct layout *l)
{
	for (size_t i = 0; i < c->nr_answers && l->possible; i++) {
		bool covered = layout_covers(l, c->answers[i].vpn, 1);
		if (covered != c->answers[i].registered && (covered || !left_mapped(c, c->answers[i].vpn)))
			return false;
	}
	return l->possible;
}

static int part_compare(struct cut *c, const struct layout *l)
{
	if (!layout_agrees(c, l))
		return 0;
	if (c->any)
		return layouts_same(&c->found_layout, l) ? 0 : -EUCLEAN;
	c->any = true;
	c->found_layout.list = calloc(l->nr + 1, sizeof *l->list);
	if (!c->found_layout.list)
		return -ENOMEM;
	if (l->nr)
		memcpy(c->found_layout.list, l->list, l->nr * sizeof *l->list);
	c->found_layout.nr = l->nr;
	for (size_t i = 0; i < c->nr_mine; i++)
		c->found[c->mine[i]] = c->made[i];
	return 0;
}

static int group_decide(struct cut *c)
{
	c->nr_answers = 0;
	c->nr_parts = 0;
	c->any = false;
	int error = c->layouts[0].possible ? parts_walk(c, 0, part_ask) : -EUCLEAN;
	c->nr_parts = 0;
	if (!error)
		error = parts_walk(c, 0, part_compare);
	free(c->found_layout.list);
	c->found_layout = (struct layout){ 0 };
	return error ? error : c->any ? 0 : -EUCLEAN;
}

static void group_take(struct cut *c, size_t group, size_t at)
{
	c->nr_mine = c->at = 0;
	for (size_t i = group; i < c->nr; i++) {
		if (c->group[i] != group)
			continue;
		c->at += i < at;
		c->mine[c->nr_mine++] = i;
	}
	memset(c->layouts, 0, (c->nr_mine + 1) * sizeof *c->layouts);
	memset(c->barred, 0, c->nr_mine * sizeof *c->barred);
}

int cut_find(const struct change *changes, size_t nr, size_t at, const struct place *places, size_t nr_places,
	     int (*registered)(void *arg, uint64_t vpn), void *arg, bool *made)
{
	struct cut c = { .changes = changes, .nr = nr, .registered = registered, .arg = arg, .found = made };
	int error = 0;

	c.group = calloc(nr + 1, sizeof *c.group);
	c.mine = calloc(nr + 1, sizeof *c.mine);
	c.layouts = calloc(nr + 1, sizeof *c.layouts);
	c.barred = calloc(nr + 1, sizeof *c.barred);
	c.made = calloc(nr + 1, sizeof *c.made);
	if (!c.group || !c.mine || !c.layouts || !c.barred || !c.made)
		error = -ENOMEM;
	else
		groups_find(&c);
	for (size_t i = 0; i < nr && !error; i++) {
		if (c.group[i] != i)
			continue;
		group_take(&c, i, at);
		error = layouts_begin(&c, places, nr_places);
		if (!error)
			error = group_decide(&c);
		free(c.layouts[0].list);
	}
	free(c.group);
	free(c.mine);
	free(c.layouts);
	free(c.barred);
	free(c.made);
	free(c.answers);
	return error;
}
