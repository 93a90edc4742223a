/* SPDX-License-Identifier: MIT */
/* What engine.c and check.c share: the insides of struct engine and struct region_private. */
#ifndef TIDE_INNER_H
#define TIDE_INNER_H

#include "ahead.h"
#include "engine.h"
#include "migrate.h"
#include "place.h"
#include "ready.h"

struct region_private {
	struct engine *engine;             /* NULL: not added */
	struct region *next, *previous;    /* the ring of regions */
	_Atomic uint32_t *block_epoch;     /* one for HEAT_BLOCK_PAGES pages */
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

struct engine {
	struct migrate migrate;
	struct place place;
	struct hand front;     /* holds cold pages */
	struct hand back;      /* stores what is still held when it comes by */
	struct region *reader; /* whose ready pages are next */
	struct region *first;  /* any region */
	uint64_t nr_regions;
	uint64_t nr_pages;     /* of all regions */
	uint64_t resident_pages; /* at the last step */
	uint64_t owed_pages;   /* the front hand must pass them before the next beat */
	uint64_t last_beat;
	uint64_t fruitless_pages;          /* looked at since the last move was found */
	uint64_t rest_until_ns;            /* after a whole pass that found nothing */
	uint64_t gone_touches[TOUCH_COUNT]; /* of regions removed */
	uint64_t gone_issued, gone_used;
	uint64_t seen_returns; /* at the last step */
	struct engine_tape *tape;
};

enum page_state engine_tape_state(struct engine_tape *tape, enum page_state state);

/* How the engine reads the state of a page. `tape`: the engine's. */
static inline enum page_state state_load(struct engine_tape *tape, const struct region *region,
					 uint64_t idx)
{
	/* Acquire: pairs with region_change(). */
	enum page_state state =
		page_state(atomic_load_explicit(&region->state[idx], memory_order_acquire));

	return __builtin_expect(tape != NULL, 0) ? engine_tape_state(tape, state) : state;
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
