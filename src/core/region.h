/* SPDX-License-Identifier: MIT */
/*
 * Region: a run of pages of one space, and the state word of each.
 *
 * A page's state is one 64-bit atomic word. It says where the one valid copy of the page is (its
 * home), and whether somebody is moving it at the moment:
 *
 *      63        32 31       9 8     5   4      3     0
 *     +------------+----------+-------+--------+-------+
 *     |    slot    |   mark   | tier  | shadow | state |
 *     +------------+----------+-------+--------+-------+
 *
 *   slot   place inside a private tier; valid when STORED, STORING or LOADING, or when `shadow` is set
 *   mark   HELD, STORING, RETURNING: place in the hold area, whose upper bits are in the slot field where
 *          that has no slot · LOADING, FILLING: who loads (a cookie that tells two loaders of one page apart)
 *   tier   index of the tier whose slot it is; without a slot, of the node that a page in memory is on:
 *          0 the fast one, 1 the slow one. Contents are found without it, so where the kernel has put a
 *          page elsewhere, counts are wrong by it and nothing else
 *   shadow the page is in memory, yet its old slot is kept: if it proves unwritten, demoting it
 *          again is a drop instead of a write
 *
 * What must always hold: a word changes only through region_change(), which knows the legal
 * transitions (table in region.c) and asserts them; a page whose state is one of the moving ones
 * still has its source intact; all-zero memory is a region of ABSENT pages.
 *
 * A region never grows or shrinks and knows nothing of addresses that change: when the program moves
 * or cuts a mapping, the space that owns the region keeps track of where its pages are now.
 */
#ifndef TIDE_REGION_H
#define TIDE_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum page_state {
	PAGE_ABSENT = 0,    /* never touched or discarded: reads as zero */
	PAGE_RESIDENT,      /* mapped in the program */
	PAGE_HELD,          /* in memory, unmapped from the program: its next touch is seen */
	PAGE_STORED,        /* in slot of a private tier */
	PAGE_FILLING,       /* moving: zeros are being installed; source: none needed */
	PAGE_LOADING,       /* moving: slot -> program; source: the slot */
	PAGE_RETURNING,     /* moving: hold area -> program; source: the hold area */
	PAGE_HOLDING,       /* moving: program -> hold area; source: still mapped in the program */
	PAGE_STORING,       /* moving: hold area -> slot; source: the hold area */
	PAGE_STATE_COUNT
};

/* Why a word changes; the reasons of a move's end are in migrate.h. */
#define PAGE_TIER_MAX 15u
#define PAGE_MARK_BITS 23u
#define PAGE_MARK_MAX ((1u << PAGE_MARK_BITS) - 1)

static inline enum page_state page_state(uint64_t word) { return (enum page_state)(word & 0xf); }
static inline bool page_shadow(uint64_t word) { return (word >> 4) & 1; }
static inline uint32_t page_tier(uint64_t word) { return (uint32_t)(word >> 5) & 0xf; }
static inline uint32_t page_mark(uint64_t word) { return (uint32_t)(word >> 9) & PAGE_MARK_MAX; }
static inline uint32_t page_slot(uint64_t word) { return (uint32_t)(word >> 32); }
static inline bool page_moving(uint64_t word) { return page_state(word) >= PAGE_FILLING; }
/* Whether the word's slot field names a slot that the page holds a reference to. */
static inline bool page_has_slot(uint64_t word)
{
	return page_state(word) == PAGE_STORED || page_state(word) == PAGE_LOADING || page_shadow(word);
}
/* Whether the word names a place in the hold area that the page owns. */
static inline bool page_has_hold(uint64_t word)
{
	return page_state(word) == PAGE_HELD || page_state(word) == PAGE_STORING ||
	       page_state(word) == PAGE_RETURNING;
}
/* That place. One above PAGE_MARK_MAX is for pages without a shadow. */
static inline uint32_t page_place(uint64_t word)
{
	return page_shadow(word) ? page_mark(word) : page_mark(word) | page_slot(word) << PAGE_MARK_BITS;
}

/* Whether the page is in memory, on the slow node. */
static inline bool page_slow(uint64_t word) { return page_tier(word) == 1 && !page_has_slot(word); }

static inline uint64_t page_word(enum page_state state, uint32_t tier, uint32_t mark, uint32_t slot,
				 bool shadow)
{
	return (uint64_t)state | (uint64_t)shadow << 4 | (uint64_t)(tier & 0xf) << 5 |
	       (uint64_t)(mark & PAGE_MARK_MAX) << 9 | (uint64_t)slot << 32;
}
/* The same word, of a page in memory, on the fast or the slow node. */
static inline uint64_t page_word_on(uint64_t word, bool slow)
{
	return (word & ~((uint64_t)0xf << 5)) | (uint64_t)slow << 5;
}
/* A page that was RESIDENT in a place of the hold area, and back in the program. */
static inline uint64_t page_word_held(uint64_t word, uint32_t place)
{
	return page_word(PAGE_HELD, page_tier(word), place & PAGE_MARK_MAX,
			 page_shadow(word) ? page_slot(word) : place >> PAGE_MARK_BITS, page_shadow(word));
}
static inline uint64_t page_word_back(uint64_t word)
{
	return page_word(PAGE_RESIDENT, page_tier(word), 0, page_shadow(word) ? page_slot(word) : 0,
			 page_shadow(word));
}
/* The same word in another state: slot, tier, mark and shadow are kept. */
static inline uint64_t page_word_as(uint64_t word, enum page_state state)
{
	return (word & ~(uint64_t)0xf) | (uint64_t)state;
}

/*
 * Change one state word from `from` to `to`, if it still is `from`.
 * Returns true if it was changed. Asserts that the transition is legal (asserted before the
 * exchange, so a bug is seen even when the exchange loses).
 * Thread-safe; acquire-release on success, so that what was written to the new home before is seen
 * by who finds the new word; acquire on failure.
 */
bool region_change(_Atomic uint64_t *word, uint64_t from, uint64_t to);

/* Whether the table allows it. Exposed for the tests and the walker. */
bool region_may_change(uint64_t from, uint64_t to);

#endif
