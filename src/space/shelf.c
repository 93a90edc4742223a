/* SPDX-License-Identifier: MIT */
/*
 * Shelves: tracts for small mappings.
 *
 * The tables of a tract have a constant part, and each takes whole pages of ours: a tract for each of a
 * thousand mappings of 256 KiB would cost several times what a page may. So runs of less than
 * TRACT_OWN_PAGES pages stand side by side in a tract of their program's that was made for many, each in
 * an extent of its own:
 *
 *   addresses  ──[ A ]────────[ B ]──[ C ]────────[ D ]──
 *                   │            │      └──┐         │
 *   shelf        [ A    |B   |D       |C   |  free      ]   in granules
 *
 * Beside it is written where each granule was mapped last, so that a page's place is found at once. What
 * is unmapped leaves its granules free; they are counted again when none are left, and a shelf with half
 * of them free is filled once more. One that holds nothing is buried as any tract.
 *
 * What must always hold: a granule is given away only when no extent covers a page of it; its words are
 * ABSENT then. Homes are hints: whoever uses one looks whether the page is there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "program.h"

#define GRANULE_PAGES 16u
#define SHELF_PAGES 8192u /* 32 MiB; unused, its tables are address space only */
#define GRANULES (SHELF_PAGES / GRANULE_PAGES)

struct shelf {
	uint64_t home[GRANULES];  /* vpn of the first page */
	uint64_t used[GRANULES / 64]; /* bitmap; as of the last count, and what was given away since */
	uint32_t next;            /* granule to look at first */
};

size_t shelf_bytes(void)
{
	return sizeof(struct shelf);
}

static bool granule_used(const struct shelf *shelf, uint64_t at)
{
	return shelf->used[at / 64] >> (at % 64) & 1;
}

static void granule_use(struct shelf *shelf, uint64_t at)
{
	shelf->used[at / 64] |= (uint64_t)1 << (at % 64);
}

uint64_t shelf_home(const struct tract *t, uint64_t idx)
{
	return t->shelf->home[idx / GRANULE_PAGES] + idx % GRANULE_PAGES;
}

void shelf_settle(struct tract *t, uint64_t vpn, uint64_t idx, uint64_t nr)
{
	for (uint64_t granule = idx / GRANULE_PAGES; granule * GRANULE_PAGES < idx + nr; granule++)
		t->shelf->home[granule] = vpn + granule * GRANULE_PAGES - idx;
}

/* The shelf with the fewest pages in it, if that is half of them at most, its granules counted; or NULL. */
static struct tract *shelves_count(struct program *p)
{
	struct tract *best = NULL;
	uint64_t least = SHELF_PAGES / 2;

	for (struct tract *t = p->tracts; t; t = t->next) {
		if (!t->shelf || t->nr_mapped > least)
			continue;
		best = t;
		least = t->nr_mapped;
	}
	if (!best)
		return NULL;
	memset(best->shelf->used, 0, sizeof best->shelf->used);
	best->shelf->next = 0;
	for (size_t i = 0; i < p->nr_extents; i++) {
		const struct extent *e = &p->extents[i];
		for (uint64_t at = e->idx / GRANULE_PAGES;
		     e->tract == best && at * GRANULE_PAGES < e->idx + e->nr_pages; at++)
			granule_use(best->shelf, at);
	}
	return best;
}

/* Granules in a row for nr pages. -ENOSPC. */
static int granules_take(struct shelf *shelf, uint64_t nr_pages, uint64_t *ret_idx)
{
	uint32_t want = (uint32_t)((nr_pages + GRANULE_PAGES - 1) / GRANULE_PAGES), run = 0;

	for (uint32_t at = shelf->next; at < GRANULES; at++) {
		run = granule_used(shelf, at) ? 0 : run + 1;
		if (run < want)
			continue;
		shelf->next = at + 1;
		*ret_idx = (uint64_t)(at + 1 - want) * GRANULE_PAGES;
		while (want--)
			granule_use(shelf, at--);
		return 0;
	}
	return -ENOSPC;
}

static int shelf_new(struct program *p, struct tract **ret_tract)
{
	struct shelf *shelf = calloc(1, sizeof *shelf);

	if (!shelf)
		return -ENOMEM;
	int error = tract_new(p, 0, SHELF_PAGES, ret_tract);
	if (error)
		free(shelf);
	else
		(*ret_tract)->shelf = shelf;
	return error;
}

/* The shelf in use, another one with room, or a new one. */
static int shelf_take(struct program *p, uint64_t nr_pages, struct tract **ret_tract, uint64_t *ret_idx)
{
	struct tract *t = p->shelf;

	if (t && !granules_take(t->shelf, nr_pages, ret_idx)) {
		*ret_tract = t;
		return 0;
	}
	t = shelves_count(p);
	if (!t || granules_take(t->shelf, nr_pages, ret_idx)) {
		int error = shelf_new(p, &t);
		if (!error)
			error = granules_take(t->shelf, nr_pages, ret_idx);
		if (error)
			return error;
	}
	*ret_tract = p->shelf = t;
	return 0;
}

int tract_take(struct program *p, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract, uint64_t *ret_idx)
{
	struct tract *t;
	uint64_t idx = 0;
	int error;

	if (nr_pages >= TRACT_OWN_PAGES) {
		error = tract_add(p, vpn, nr_pages, &t);
	} else {
		error = shelf_take(p, nr_pages, &t, &idx);
		if (!error)
			error = extent_add(p, (struct extent){ vpn, nr_pages, t, idx, false });
		if (!error)
			shelf_settle(t, vpn, idx, nr_pages);
	}
	if (error)
		return error;
	t->located = false;
	*ret_tract = t;
	*ret_idx = idx;
	return 0;
}
