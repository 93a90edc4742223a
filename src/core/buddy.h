/* SPDX-License-Identifier: MIT */
/*
 * Buddy: the one source of 2 MiB blocks and of smaller aligned runs of pages.
 *
 * It hands out page numbers, never addresses, and touches none of the memory it hands out. A run
 * of order k is 2^k pages, aligned to its size; the top order is one block. A free run is either
 *
 *   warm      it may hold memory of the system (it was used and not given back since)
 *   returned  it holds none: never used, or given back to the system
 *
 * and that is a state of the run, not a place in a list. A split gives both halves the state of the
 * whole. Two free halves always merge; the merge is returned only if both halves were, since
 * otherwise some of it still holds memory.
 *
 * Within a state and order the lowest page number goes first, so that high blocks empty.
 *
 * One thread at a time. All memory is the caller's. Nothing is written but what the runs in use
 * need, so a large lazily backed area costs only what is touched.
 */
#ifndef TIDE_BUDDY_H
#define TIDE_BUDDY_H

#include <stddef.h>
#include <stdint.h>

#define BUDDY_ORDER_TOP 9u
#define BUDDY_BLOCK_PAGES (1u << BUDDY_ORDER_TOP)
#define BUDDY_BLOCKS_MAX (1u << 21) /* 4 TiB */
#define BUDDY_LEVELS 5u             /* 64^5 bits: BUDDY_BLOCKS_MAX blocks at order 0 */

enum buddy_state { BUDDY_WARM, BUDDY_RETURNED, BUDDY_STATE_COUNT };

/* A set of run numbers: bit i of level 0 is run i, bit i of level n + 1 says word i of level n is
 * not zero. */
struct buddy_set {
	uint64_t *level[BUDDY_LEVELS];
	unsigned nr_levels;
};

struct buddy {
	struct buddy_set set[BUDDY_STATE_COUNT][BUDDY_ORDER_TOP + 1];
	uint64_t nr_runs[BUDDY_STATE_COUNT][BUDDY_ORDER_TOP + 1]; /* free runs of that order */
	uint64_t nr_free_pages[BUDDY_STATE_COUNT];
	uint64_t nr_pages;
};

/* Bytes of zeroed memory buddy_init() needs for `nr_blocks`, 1 .. BUDDY_BLOCKS_MAX. */
size_t buddy_bytes(uint32_t nr_blocks);

/* All blocks are free and returned. `zeroed_memory` is aligned to 8 and outlives the buddy. */
void buddy_init(struct buddy *buddy, void *zeroed_memory, uint32_t nr_blocks);

/* Take a run of `order` that is in `state`, splitting a larger one where needed.
 * 0, or -ENOSPC: none is free in that state. */
int buddy_take(struct buddy *buddy, enum buddy_state state, unsigned order, uint32_t *ret_page);

/* Give a run back that was taken, whole or in aligned parts. `state` says what it holds now. */
void buddy_give(struct buddy *buddy, enum buddy_state state, unsigned order, uint32_t page);

#endif
