/* SPDX-License-Identifier: MIT */
/*
 * The engine: which page should be where, decided from plain memory.
 *
 * The caller (the runtime, a daemon, the simulator) adds regions, reports touches, asks for a plan
 * and reports how each move of it ended. The engine calls nothing: time, seed, limits and results
 * come in as arguments, all memory is the caller's. Same inputs, same plan.
 *
 *   engine_touch()  any thread, no lock, any time: one compare-and-swap of the page's heat record,
 *                   and a ready mark when the page earned one
 *   everything else one thread at a time (the caller's engine lock)
 *
 * What must always hold: every move in a plan ends in exactly one engine_complete(), whose counts
 * sum to the pages of the move; requested = moved + failed + dropped + pending at any time.
 */
#ifndef TIDE_ENGINE_H
#define TIDE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "heat.h"
#include "region.h"

enum engine_touch {
	TOUCH_FILL,   /* first touch: ABSENT -> RESIDENT */
	TOUCH_RETURN, /* touched while HELD (or STORING) */
	TOUCH_LOAD,   /* touched while STORED */
	TOUCH_COUNT
};

enum move_op {
	MOVE_HOLD,  /* RESIDENT -> HELD: unmap, so that the next touch is seen */
	MOVE_STORE, /* HELD -> STORED; with a slow node only from there */
	MOVE_DEMOTE, /* HELD on the fast node -> HELD on the slow one */
	MOVE_OP_COUNT
};

/* Why pages of a move did not move. `dropped` reasons are the page's own doing, `failed` are ours. */
enum move_reason {
	MOVE_OK,
	MOVE_DROP_GONE,     /* unmapped, discarded or its space ended */
	MOVE_DROP_TOUCHED,  /* touched while on its way */
	MOVE_DROP_CHANGED,  /* no longer in the state the plan saw, or its mappings were just changing */
	MOVE_FAIL_BUSY,     /* pinned, shared with a forked child, or under I/O */
	MOVE_FAIL_DENIED,   /* mapping cannot be moved out of: not writable, mlocked, special */
	MOVE_FAIL_FULL,     /* the tier has no room */
	MOVE_FAIL_REFUSED,  /* the tier refused the content (incompressible) */
	MOVE_FAIL_IO,       /* the tier or the system failed */
	MOVE_REASON_COUNT
};

/* One run of pages [first, first + nr_pages) of one region, at most MOVE_RUN_PAGES long. */
#define MOVE_RUN_PAGES 512u
struct move {
	uint64_t id;
	struct region *region;
	uint64_t first;
	uint32_t nr_pages;
	enum move_op op;
};

struct move_result {
	uint32_t nr_pages[MOVE_REASON_COUNT]; /* sums to the move's nr_pages */
};

/* What the caller measured just before it asks for a plan. All in pages. */
struct engine_need {
	uint64_t resident;      /* resident anonymous pages of all spaces, managed or not, held included */
	uint64_t limit;         /* the budget they must stay under */
	uint64_t held;          /* pages now in hold areas */
	uint64_t held_max;      /* room of the hold areas */
	uint64_t filling;       /* faults now waiting for room */
	bool store_full;        /* the last tier refused for want of room since the last step */
	/* With a slow node (slow_max is not 0) all above is of the fast one alone. */
	uint64_t slow;          /* resident pages on the slow node, held included */
	uint64_t slow_held;     /* of those, in hold areas */
	uint64_t slow_max;      /* pages that it may have; 0: there is no slow node */
	uint64_t slow_wait_ns;  /* how long touches of pages held there have taken, from the beginning */
	bool slow_last;         /* nothing comes after it: MOVE_STORE is not planned */
};

/* ---- regions ---------------------------------------------------------------------------------- */

struct region {
	uint64_t first_vpn;          /* address / 4 KiB of page 0 when added; gives 2 MiB alignment */
	uint64_t nr_pages;
	void *owner;                 /* the caller's; the engine never looks */
	const _Atomic bool *paused;  /* the caller's, to set after the initialisation; NULL: never. While it is true
				      * no move of any of its pages is planned; their stamps grow old all the same */
	_Atomic uint64_t *state;     /* [nr_pages], changed by region_change() only */
	_Atomic uint32_t *heat;      /* [nr_pages], changed by heat.h only */
	uint16_t *estimate;          /* [nr_pages], under the engine lock */
	_Atomic uint64_t *occupied;  /* changed by region_occupy() and region_vacate() only */
	/* ready set, read-ahead streams, links: the engine's own, defined in engine.c's headers */
	struct region_private *priv;
};

/* Bytes of zeroed memory that engine_region_init() needs for a region of nr_pages: everything the
 * region keeps (states, heat, estimates, ready set). At most 16 bytes a page plus a constant. */
size_t engine_region_bytes(uint64_t nr_pages);

/* Lay a region out in `memory` (zeroed, page-aligned, lazily backed memory is fine: nothing is
 * written that the pages' use does not need). */
void engine_region_init(struct region *region, void *memory, uint64_t first_vpn, uint64_t nr_pages,
			void *owner);

/* ---- the engine ------------------------------------------------------------------------------- */

struct engine;

struct engine_config {
	uint64_t seed;
	uint32_t max_moves;   /* moves under way at once */
};

size_t engine_bytes(const struct engine_config *config);
struct engine *engine_init(void *zeroed_memory, const struct engine_config *config);

void engine_region_add(struct engine *engine, struct region *region);
/* Moves still under way in it stay owed: complete() takes them, their region pointer unread. */
void engine_region_remove(struct engine *engine, struct region *region);

/* A fault was served at page `idx`. Thread-safe, lock-free, wait-free in practice. `node`: where the
 * accessor ran, HEAT_NO_NODE when unknown. */
void engine_touch(struct region *region, uint64_t idx, enum engine_touch kind, uint32_t node,
		  uint64_t now_ns);

/* Pages were discarded: what was known of them is void. Thread-safe, lock-free. */
void engine_forget(struct region *region, uint64_t first, uint64_t nr_pages);

/*
 * How many pages from `idx` on (itself included, 1 .. MOVE_RUN_PAGES) a fault on it should bring in:
 * grows while the pages brought in ahead are touched in turn, falls to 1 when they are not.
 * The caller may bring in fewer; a stream goes on at the first page that was not brought in, and
 * that is found out from where it faults next. Thread-safe, lock-free.
 */
uint32_t engine_readahead(struct region *region, uint64_t idx, enum engine_touch kind);

/*
 * A page of the slow node is being touched: whether it has earned to come back to the fast one. It has if
 * it was touched before not long ago, and only so many a second have: see exchange.h. Call it before
 * engine_touch(), and only where there is room. Thread-safe, lock-free.
 */
bool engine_promote(struct region *region, uint64_t idx, uint64_t now_ns);

/*
 * Make a plan: at most `max` moves into `plan`, hottest need first, batches for one space together, what
 * leaves the hold areas before what is to be held.
 * Returns their number. Bounded work: looks at no more than a fixed number of pages a call; when it
 * wants to be called again at once, *ret_again is true.
 */
size_t engine_step(struct engine *engine, uint64_t now_ns, const struct engine_need *need,
		   struct move *plan, size_t max, bool *ret_again);

void engine_complete(struct engine *engine, uint64_t id, const struct move_result *result,
		     uint64_t now_ns);

/*
 * The engine sees by calls alone, but for what changes beside it: the states of pages, and where there are none. A
 * tape keeps what it read of that; or gives it to it again, in place of the regions' words: then the same calls in
 * the same order have the same answers.
 */
struct engine_tape {
	uint8_t *states;  /* room for ENGINE_TAPE_ROOM, of enum page_state or enum engine_sight */
	size_t nr;        /* read and kept; the caller sets it to 0. Replay: how many there are to read */
	size_t at;        /* replay: how many were read; more than nr: they were not enough */
	bool replay;
};
/* What the engine sees of a page is its state, but for these two. */
enum engine_sight {
	SIGHT_RESIDENT_SLOW = PAGE_STATE_COUNT, /* RESIDENT, on the slow node */
	SIGHT_HELD_SLOW,
	SIGHT_COUNT
};
#define ENGINE_TAPE_ROOM (10u * 128u * HEAT_BLOCK_PAGES) /* more than one call reads */

/* Lay a tape in, or take it out: NULL. Under the engine lock, or before the first step. */
void engine_tape_set(struct engine *engine, struct engine_tape *tape);

struct engine_stats {
	uint64_t requested, pending;           /* pages */
	uint64_t moved[MOVE_OP_COUNT];
	uint64_t ended[MOVE_REASON_COUNT];     /* [MOVE_OK] = moved, the others by reason */
	uint64_t touches[TOUCH_COUNT];
	uint64_t readahead_issued, readahead_used;
};
void engine_stats(const struct engine *engine, struct engine_stats *ret_stats);

/* Pages in memory, and those of them that are left alone because their tier refused them, or their mapping does not let
 * them go. Walks all pages. Under the engine lock. */
void engine_left_alone(const struct engine *engine, uint64_t *ret_resident, uint64_t *ret_left_alone);

/* Walk everything; returns NULL when all holds, else a static text that names what does not. */
const char *engine_check(const struct engine *engine);

#endif
