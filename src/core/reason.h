/* SPDX-License-Identifier: MIT */
/*
 * Reason: how a page that was to change its node ended. Exactly one of these for each page.
 *
 * MOVED is the good end. The others say who stood in the way: the page's own doing (it went away or
 * changed: dropped) or something that held it (failed). REFUSED_RATE is said by the engine alone,
 * before anything is tried.
 */
#ifndef TIDE_REASON_H
#define TIDE_REASON_H

#include <stdbool.h>
#include <stddef.h>

enum reason {
	REASON_MOVED,
	REASON_SPACE_GONE,   /* the process ended, or is another program by now */
	REASON_PAGE_GONE,    /* nothing is there: freed, never touched, swapped out */
	REASON_RANGE_GONE,   /* not mapped any more */
	REASON_NOT_SLOW,     /* it is on neither of the nodes that the move is from and to */
	REASON_ALREADY,      /* it is on the target */
	REASON_SHARED,       /* mapped by several processes, and no right to move it for all */
	REASON_SHARED_EXEC,  /* a page of a program or library that others run too */
	REASON_DIRTY_FILE,
	REASON_PINNED,       /* somebody holds on to it: direct I/O, a device, a guest */
	REASON_LOCKED,       /* mlock */
	REASON_POLICY,       /* a memory policy or cpuset says otherwise */
	REASON_NO_ROOM,      /* on the target */
	REASON_BUSY,         /* for the moment; trying again can help */
	REASON_RATE,         /* refused by the rate limit */
	REASON_COUNT
};

/* Short and stable, as in JSON: "moved", "space_gone" ... */
static inline const char *reason_name(enum reason reason)
{
	static const char *const names[REASON_COUNT] = {
		"moved",   "space_gone",  "page_gone",  "range_gone", "source_not_slow",
		"already_there", "shared", "shared_executable", "dirty_file", "pinned",
		"locked",  "policy",      "no_room",    "busy",       "rate",
	};
	return names[reason];
}

/* Dropped: the page is not, or no longer, what was to be moved. Everything else but MOVED failed. */
static inline bool reason_dropped(enum reason reason)
{
	return reason >= REASON_SPACE_GONE && reason <= REASON_ALREADY;
}

#endif
