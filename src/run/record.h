/* SPDX-License-Identifier: MIT */
/*
 * Record: a run as the core saw it, in a file.
 *
 * The core decides from calls alone, but for the states of pages, which change beside it. The file
 * holds every call in the order in which they took effect, the states that each call read, and what it
 * answered: given the calls and the states again, the core must answer the same.
 *
 *     RECORD_MAGIC │ frame │ frame │ ... │ frame that ends with RECORD_END
 *
 *     frame: bytes of the payload (32 bits) │ check (64 bits) │ payload: whole events
 *
 * The check goes on from frame to frame, so none can be changed, lost, added or moved unseen; a file
 * without RECORD_END is not whole. Integers of frames are little-endian, all others as in pack.h; a
 * time is a change against the time before. Regions are numbered from 0 in the order of RECORD_ADD.
 *
 * States: how many, then runs: the state (or enum engine_sight) in 4 bits, the length less one above; 15
 * there means that a number follows, which is to be added to it.
 */
#ifndef TIDE_RECORD_H
#define TIDE_RECORD_H

#include "engine.h"

#define RECORD_MAGIC "pagetide record 1\n"
#define RECORD_MAGIC_BYTES (sizeof(RECORD_MAGIC) - 1)
#define RECORD_HEAD_BYTES 12u
#define RECORD_FRAME_MAX (4u << 20)
/* No event is longer: the states of a step, and as much again for all else. */
#define RECORD_EVENT_MAX (2 * ENGINE_TAPE_ROOM)
#define RECORD_MOVES_MAX 4096u

enum record_event {
	RECORD_BEGIN,    /* seed, max_moves */
	RECORD_ADD,      /* first_vpn, nr_pages */
	RECORD_REMOVE,   /* region */
	RECORD_TOUCH,    /* region, idx, kind, time */
	RECORD_FORGET,   /* region, first, nr_pages */
	RECORD_AHEAD,    /* region, idx, kind; answer */
	RECORD_STEP,     /* time, resident, limit, held, held_max, filling, store_full, max; states; number
			  * of moves, again, of each move: id, region, first, nr_pages, op */
	RECORD_COMPLETE, /* id, time, nr_pages of each reason; states */
	RECORD_END,      /* number of events before it */
	/* With a slow node. */
	RECORD_SLOW,     /* before RECORD_STEP: slow, slow_held, slow_max, slow_last, slow_wait_ns */
	RECORD_PROMOTE,  /* region, idx, time; answer */
	RECORD_EVENT_COUNT
};

#endif
