/* SPDX-License-Identifier: MIT */
/* Where that is by now which was told to have left a place, or to have come there, since nothing was under way last.
 * Pure. */
#ifndef TIDE_GONE_H
#define TIDE_GONE_H

#include "cut.h"

struct gone {
	uint64_t at, nr_pages;
	bool with_below; /* it left with the page below `first`, by one message; and both by no other */
};

/*
 * Of [vpn, vpn + nr_pages): where its first pages are, and how many of them are side by side there. `changes`: in
 * the order in which they were told. false: so many have not left.
 */
bool gone_find(const struct change *changes, size_t nr, uint64_t first, uint64_t vpn, uint64_t nr_pages,
	       struct gone *ret_gone);

struct came {
	uint64_t vpn;
	bool crossed; /* between the first page and these something came or left since, by what was told later */
};

/*
 * Of [vpn, end), which is told to have left with what was at `first`: the next pages that were told to have come, and
 * not with that, and nothing else since. Returns how many, and where; 0: none.
 */
uint64_t came_find(const struct change *changes, size_t nr, uint64_t first, uint64_t vpn, uint64_t end,
		   struct came *ret_came);

#endif
