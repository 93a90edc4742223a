/* SPDX-License-Identifier: MIT */
/* What engine.c and check.c share: the insides of struct engine and struct region_private. */
#ifndef TIDE_INNER_H
#define TIDE_INNER_H

#include "ahead.h"
#include "engine.h"
#include "exchange.h"
#include "migrate.h"
#include "place.h"
#include "ready.h"

struct region_private {
	struct engine *engine;             /* NULL: not added */
	struct region *next, *previous;    /* the ring of regions */
	_Atomic uint32_t *block_epoch;     /* one for HEAT_BLOCK_PAGES pages */
	uint32_t *block_beat;              /* of each block of the address space: when it was freshened last */
	struct ready ready;
	struct ahead ahead;
	/* Own lines: every fault writes them. */
	_Alignas(64) _Atomic uint64_t touches[TOUCH_COUNT];
};

/* A place in the ring of regions, between two pages. */
struct hand {
	struct region *region; /* NULL: there is none */
	uint64_t idx;
};

/* The two hands of one node, see plan.c. */
struct clock {
	struct place place;    /* estimates go by that of the fast node */
	struct hand front;     /* holds cold pages */
	struct hand back;      /* what is still held when it comes by goes to the next tier */
	uint64_t fruitless_pages;          /* looked at since the last move was found */
	uint64_t rest_until_ns;            /* after a whole pass that found nothing */
};

#define CLOCKS 2u /* of the fast node, or of all memory, and of the slow one */

struct engine {
	struct migrate migrate;
	struct clock clocks[CLOCKS];
	struct exchange exchange;
	struct region *reader; /* whose ready pages are next */
	struct region *first;  /* any region */
	uint64_t nr_regions;
	uint64_t nr_pages;     /* of all regions */
	uint64_t now_ns;         /* of the last step */
	uint64_t resident_pages; /* at the last step */
	bool slow_node;          /* there is one, at the last step */
	uint64_t owed_pages;   /* the front hand must pass them before the next beat */
	uint64_t last_beat;
	uint64_t gone_touches[TOUCH_COUNT]; /* of regions removed */
	uint64_t gone_issued, gone_used;
	uint64_t seen_returns; /* at the last step */
	struct engine_tape *tape;
};

uint32_t engine_tape_state(struct engine_tape *tape, uint32_t state);
/* The same for a number, in as many places of the tape as it needs. */
#define ENGINE_TAPE_NUMBER 32u /* most of them */
uint64_t engine_tape_number(struct engine_tape *tape, uint64_t number);

/* How the engine reads the state of a page: enum page_state or enum engine_sight. `tape`: the engine's. */
static inline uint32_t state_load(struct engine_tape *tape, const struct region *region,
					 uint64_t idx)
{
	/* Acquire: pairs with region_change(). */
	uint64_t word = atomic_load_explicit(&region->state[idx], memory_order_acquire);
	uint32_t state = page_state(word);

	if (state == PAGE_RESIDENT && page_slow(word))
		state = SIGHT_RESIDENT_SLOW;
	if (state == PAGE_HELD && page_slow(word))
		state = SIGHT_HELD_SLOW;

	return __builtin_expect(tape != NULL, 0) ? engine_tape_state(tape, state) : state;
}

/* Whether any page of [first, end) is in `state` and looks as `sight`: as state_load() for each would tell, in a
 * quarter of the time. */
static inline bool states_any(struct engine_tape *tape, const struct region *region, uint64_t first, uint64_t end,
			      enum page_state state, uint32_t sight)
{
	for (uint64_t idx = first; idx < end; idx++) {
		uint64_t word = atomic_load_explicit(&region->state[idx], memory_order_relaxed);
		if ((tape || page_state(word) == state) && state_load(tape, region, idx) == sight)
			return true;
	}
	return false;
}

static inline uint16_t estimate_load(const struct region *region, uint64_t idx)
{
	/* Atomic, because engine_forget() runs beside the engine lock. */
	return __atomic_load_n(&region->estimate[idx], __ATOMIC_RELAXED);
}

static inline void estimate_store(struct region *region, uint64_t idx, uint16_t estimate)
{
	__atomic_store_n(&region->estimate[idx], estimate, __ATOMIC_RELAXED);
}

#endif
