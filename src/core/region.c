/* SPDX-License-Identifier: MIT */
/*
 * The one place where a page's state word changes, and the table of what may follow what.
 *
 *            touch                 installed
 *   ABSENT ─────────► FILLING ─────────────────► RESIDENT ◄──────────────┐
 *     ▲                                          │   ▲  ▲                │
 *     │ removed (from any state)            hold │   │  └── refused ──┐  │
 *     │                                          ▼   │               │  │
 *     │                                        HOLDING ──────────────┘  │
 *     │                                          │ moved out            │
 *     │                      touch               ▼   (from node to node: stays HELD)
 *     ├──────────────── RETURNING ◄──────────── HELD ◄── refused ──┐    │
 *     │                  │     ▲                 │ store           │    │
 *     │                  │     └── touch ─────── STORING ──────────┘    │
 *     │                  │ installed             │ tier confirmed       │
 *     │                  └───────────────────────┼──────────────────────┤
 *     │                                          ▼            installed │
 *     └───────────────────────────────────────  STORED ◄──► LOADING ────┘
 */
#include "region.h"

#include "assert.h"

#define TO(s) (1u << PAGE_##s)

static const uint16_t legal[PAGE_STATE_COUNT] = {
	/* RESIDENT: found present by the scan that adopts a mapping */
	[PAGE_ABSENT] = TO(FILLING) | TO(RESIDENT),
	/* RESIDENT: its shadow was dropped, or it is on another node than was thought; FILLING: it faults,
	 * so look whether it is there at all */
	[PAGE_RESIDENT] = TO(ABSENT) | TO(HOLDING) | TO(FILLING) | TO(RESIDENT),
	/* HELD: moved to another node where it is */
	[PAGE_HELD] = TO(ABSENT) | TO(RETURNING) | TO(STORING) | TO(HELD),
	[PAGE_STORED] = TO(ABSENT) | TO(LOADING),
	[PAGE_FILLING] = TO(ABSENT) | TO(RESIDENT),
	[PAGE_LOADING] = TO(ABSENT) | TO(RESIDENT) | TO(STORED),
	[PAGE_RETURNING] = TO(ABSENT) | TO(RESIDENT) | TO(HELD),
	[PAGE_HOLDING] = TO(ABSENT) | TO(RESIDENT) | TO(HELD),
	[PAGE_STORING] = TO(ABSENT) | TO(RETURNING) | TO(HELD) | TO(STORED),
};

/* Whether nothing but the node differs. */
static bool node_changes(uint64_t from, uint64_t to)
{
	return !page_shadow(from) && page_slow(from) != page_slow(to) &&
	       page_word_on(from, page_slow(to)) == to;
}

bool region_may_change(uint64_t from, uint64_t to)
{
	if (page_state(from) >= PAGE_STATE_COUNT || page_state(to) >= PAGE_STATE_COUNT)
		return false;
	/* Nothing left behind: an absent page names no slot, no hold place, no shadow. */
	if (page_state(to) == PAGE_ABSENT && to != 0)
		return false;
	if (page_state(from) == PAGE_RESIDENT && page_state(to) == PAGE_RESIDENT &&
	    !(page_shadow(from) && !page_shadow(to)) && !node_changes(from, to))
		return false;
	if (page_state(from) == PAGE_HELD && page_state(to) == PAGE_HELD && !node_changes(from, to))
		return false;
	return legal[page_state(from)] >> page_state(to) & 1;
}

bool region_change(_Atomic uint64_t *word, uint64_t from, uint64_t to)
{
	tide_assert(region_may_change(from, to));
	/* Pairs with every acquire load of a state word. */
	return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_acq_rel,
						       memory_order_acquire);
}
