/* SPDX-License-Identifier: MIT */
/*
 * Windows: the memory of the engine's record of one space, and the pace of looking where its pages
 * are. A window of 64 MiB is there wherever something is mapped that may be moved; windows come and go
 * with the mappings. Places are found out in slices, at the start without delay, later within a small
 * share of the processor.
 *
 * A page is named by its number: of an address, or of a place in a file. One thread at a time for all
 * spaces of an engine.
 */
#ifndef TIDE_WINDOWS_H
#define TIDE_WINDOWS_H

#include "scan.h"
#include "tiering.h"

/* Add a space without windows to the engine. -ENOMEM. */
int windows_begin(struct tiering *tiering, struct tiering_space *space, void *owner);
/* All its windows go, and then the space. Nothing of it is under way. */
void windows_end(struct tiering *tiering, struct tiering_space *space);
/* Have windows for all of [first, end). -ENOMEM: for some of it. */
int windows_cover(struct tiering_space *space, uint64_t first_vpn, uint64_t end_vpn);
/* What lies in [first, end) is forgotten; windows wholly in it go. */
void windows_forget(struct tiering *tiering, struct tiering_space *space, uint64_t first_vpn,
		    uint64_t end_vpn);

/* Pages of a space by node and heat, as they were counted last; all zero: never. */
struct census {
	struct tiering_census counts;
	uint64_t at_ns, cost_ns;
};

/*
 * Counted again when that was more than some seconds ago, and longer when counting all spaces takes so long
 * that it would be more than a thousandth of one core. *all_ns: what that takes; begins at 0.
 */
const struct tiering_census *census_look(struct census *census, const struct tiering *tiering,
					 const struct tiering_space *space, uint64_t now_ns,
					 uint64_t *all_ns);
/* The space goes, or nothing of what was counted is true any more. */
void census_forget(struct census *census, uint64_t *all_ns);

/* Looking where the pages of a space are. */
struct walk {
	struct scan scan;
	uint64_t vpn;    /* where it goes on */
	uint64_t passes; /* over all that is mapped */
};

void walk_init(struct walk *walk, uint64_t now_ns);
/*
 * Look at the next slice, if it is time, and add the CPU time it took to *cpu_ns. `look` looks at the first
 * window from `vpn` on where something is in memory, and returns the page behind it; WALK_END: there is none.
 * Returns whether the first pass is not over yet: then there is more at once.
 */
#define WALK_END UINT64_MAX
bool walk_slice(struct walk *walk, uint64_t (*look)(void *arg, uint64_t vpn), void *arg, uint64_t now_ns,
		uint64_t *cpu_ns);

#endif
