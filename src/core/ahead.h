/* SPDX-License-Identifier: MIT */
/*
 * Ahead: how many pages a fault should bring in at once.
 *
 * A stream is a run of faults, each at the first page that the one before did not bring in. Every
 * fault leaves a guess in a table: "a fault at this page would go on where I stopped". A fault that
 * finds its guess doubles the window; one that does not starts with a window of 1. So the window
 * grows while it is right and is 1 when it was wrong, and nobody has to say which stream a fault
 * belongs to. The caller may bring in fewer pages than the window: streams that proved right twice
 * also match anywhere inside their last window, and go on from what was really brought in; and a
 * little behind it, for pages that are there already are passed over without a fault.
 *
 * Proven streams live in a table of their own, so that random faults between two steps of a
 * stream do not end it. Each entry is one 64-bit word, changed by one compare-and-swap:
 *
 *      63         20 19      10 9    0
 *     +-------------+----------+------+
 *     |   start     |  window  | life |     0: empty; start is the page after the fault's own
 *     +-------------+----------+------+
 */
#ifndef TIDE_AHEAD_H
#define TIDE_AHEAD_H

#include <stdatomic.h>
#include <stdint.h>

#define AHEAD_GUESSES 128u
#define AHEAD_STREAMS 8u
#define AHEAD_WINDOW_MAX 128u /* of stored pages */
#define AHEAD_COPY_MAX 64u    /* of others, which come in one piece: 256 KiB stay in the cache */
#define AHEAD_PROVEN 4u      /* a window this large has been right twice */
#define AHEAD_GAP 16u        /* pages passed over */
#define AHEAD_LIFE 8u        /* streams that want a place before an idle one gives up its own */

struct ahead {
	_Atomic uint64_t guesses[AHEAD_GUESSES];
	_Atomic uint64_t streams[AHEAD_STREAMS];
	_Atomic uint64_t nr_issued, nr_used;   /* pages ahead of the fault's own */
};

/* The window for a fault at `idx`, `most` pages (1 .. AHEAD_WINDOW_MAX) at most. Thread-safe, lock-free. */
uint32_t ahead_window(struct ahead *ahead, uint64_t idx, uint64_t most);

#endif
