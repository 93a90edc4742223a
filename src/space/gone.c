/* SPDX-License-Identifier: MIT */
/*
 * Gone: what was told to have left a place since nothing was under way last, and where it is by now.
 *
 *   changes   X ─► Y    then  Y ─► Z    then  Z unmapped: in limbo
 *
 * Only what left first since something came there last was there: what leaves after it grew there since, and
 * is none that the table had.
 *
 * And what was told to have come to a place, and is there still, as far as was told.
 */
#include "gone.h"

static bool change_brings(const struct change *c, uint64_t vpn)
{
	return c->to <= vpn && vpn < c->to + c->nr_pages;
}

static bool change_takes(const struct change *c, uint64_t vpn)
{
	return c->from <= vpn && vpn < c->from + c->nr_pages;
}

/* By which change that left which was at a page; nr: none. *ret_once: and nothing was told to leave there later. */
static size_t change_find(const struct change *changes, size_t nr, uint64_t vpn, bool *ret_once)
{
	size_t found = nr, last = nr;

	for (size_t i = nr; i-- > 0;) {
		if (change_brings(&changes[i], vpn))
			break;
		if (!change_takes(&changes[i], vpn))
			continue;
		last = found == nr ? i : last;
		found = i;
	}
	*ret_once = found < nr && changes[found].told == changes[last].told;
	return found < nr && changes[found].to >= NOTHING_VPN ? nr : found;
}

/* Up to where all of [vpn, end) comes or leaves by the same changes. */
static uint64_t changes_alike(const struct change *changes, size_t nr, uint64_t vpn, uint64_t end)
{
	for (size_t i = 0; i < nr; i++) {
		const struct change *c = &changes[i];
		const uint64_t bounds[] = { c->from, c->from + c->nr_pages, c->to, c->to + c->nr_pages };
		for (size_t k = 0; k < sizeof bounds / sizeof *bounds; k++)
			if (vpn < bounds[k] && bounds[k] < end)
				end = bounds[k];
	}
	return end;
}

bool gone_find(const struct change *changes, size_t nr, uint64_t first, uint64_t vpn, uint64_t nr_pages,
	       struct gone *ret)
{
	bool once, below_once;
	size_t found = change_find(changes, nr, vpn, &once), below = change_find(changes, nr, first - 1, &below_once);

	*ret = (struct gone){ .nr_pages = changes_alike(changes, nr, vpn, vpn + nr_pages) - vpn };
	if (found == nr)
		return false;
	ret->at = changes[found].to + (vpn - changes[found].from);
	ret->with_below = once && below_once && below < nr && changes[below].told == changes[found].told;
	for (size_t i = found + 1; i < nr; i++) {
		uint64_t end = changes_alike(&changes[i], 1, ret->at, ret->at + ret->nr_pages);
		ret->nr_pages = end - ret->at;
		if (changes[i].to < NOTHING_VPN && change_takes(&changes[i], ret->at))
			ret->at = changes[i].to + (ret->at - changes[i].from);
	}
	return true;
}

/* By which change that came which is at a page; nr: nobody has told that it came. */
static size_t change_last(const struct change *changes, size_t nr, uint64_t vpn)
{
	for (size_t i = nr; i-- > 0;) {
		if (change_brings(&changes[i], vpn))
			return i;
		if (change_takes(&changes[i], vpn) && changes[i].to < NOTHING_VPN)
			break;
	}
	return nr;
}

static bool told_brings(const struct change *changes, size_t nr, uint32_t told, uint64_t vpn)
{
	bool brings = false;

	for (size_t i = 0; i < nr; i++)
		brings |= changes[i].told == told && change_brings(&changes[i], vpn);
	return brings;
}

/* Whether messages after that of a change tell of what came to [first, end), or left it. */
static bool told_after(const struct change *changes, size_t nr, size_t last, uint64_t first, uint64_t end)
{
	bool some = false;

	for (size_t i = last + 1; i < nr && !some; i++) {
		const struct change *c = &changes[i];
		some = c->told != changes[last].told && ((c->from < end && first < c->from + c->nr_pages) ||
							 (c->to < end && first < c->to + c->nr_pages));
	}
	return some;
}

uint64_t came_find(const struct change *changes, size_t nr, uint64_t first, uint64_t vpn, uint64_t end,
		   struct came *ret_came)
{
	for (uint64_t stop; vpn < end; vpn = stop) {
		size_t last = change_last(changes, nr, vpn);
		stop = changes_alike(changes, nr, vpn, end);
		if (last == nr || told_brings(changes, nr, changes[last].told, first))
			continue;
		*ret_came = (struct came){ .vpn = vpn, .crossed = told_after(changes, nr, last, first, vpn) };
		return stop - vpn;
	}
	return 0;
}
