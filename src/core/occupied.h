/* SPDX-License-Identifier: MIT */
/*
 * Occupied: which blocks of a region may hold anything, one bit for each.
 *
 * Programs reserve far more address space than they use: runtimes with a garbage collector, sanitizers,
 * interpreters. Who goes through the pages of a region asks here for the next one worth a look, and passes over
 * 128 MiB of nothing with one load.
 *
 *   set     before a word of the block changes from ABSENT, by whoever changes it
 *   clear   all words of the block are ABSENT
 *
 * Anybody sets a bit, at any time. To clear one is for somebody who keeps all others from changing words from
 * ABSENT while he looks at the block's words and clears it (in the runtime: program.lock, exclusive). So with
 * that lock held, in whichever way, no page is missed. Without, a page may be that is filled just now: the hands
 * of the clock find it when they come round again.
 *
 * What must always hold: a page that is not ABSENT is in a block whose bit is set. A bit may be set for nothing:
 * after a fill that failed.
 */
#ifndef TIDE_OCCUPIED_H
#define TIDE_OCCUPIED_H

#include "engine.h"

#define OCCUPIED_WORD_PAGES (64u * HEAT_BLOCK_PAGES) /* what one word of bits tells of */

/* Bytes of zeroed memory for the bits of a region that begins anywhere in a block. */
size_t occupied_bytes(uint64_t nr_pages);

/* Pages of [first, first + nr_pages) are about to change from ABSENT. Thread-safe, lock-free. */
void region_occupy(struct region *region, uint64_t first, uint64_t nr_pages);

/* Pages of [first, first + nr_pages), nr_pages > 0, have become ABSENT: look which blocks of them hold nothing
 * now. No word of the region may change from ABSENT meanwhile. */
void region_vacate(struct region *region, uint64_t first, uint64_t nr_pages);

/* Blocks of the address space, as bits count them. */
static inline uint64_t region_block(const struct region *region, uint64_t idx)
{
	return (region->first_vpn % HEAT_BLOCK_PAGES + idx) / HEAT_BLOCK_PAGES;
}

static inline bool region_occupied(const struct region *region, uint64_t idx)
{
	uint64_t block = region_block(region, idx);

	return atomic_load_explicit(&region->occupied[block / 64], memory_order_relaxed) >> (block % 64) & 1;
}

/* The first page behind `idx`, which is in a block that holds nothing, that is in one that may; nr_pages: none. */
uint64_t region_leap(const struct region *region, uint64_t idx);

/* The first page from `idx` on that may be anything but ABSENT; nr_pages of the region: there is none. `idx` may
 * be nr_pages. Thread-safe. */
static inline uint64_t region_next(const struct region *region, uint64_t idx)
{
	return idx == region->nr_pages || region_occupied(region, idx) ? idx : region_leap(region, idx);
}

#endif
