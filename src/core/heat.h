/* SPDX-License-Identifier: MIT */
/*
 * Heat: the 32-bit access record of a page, the intake of the engine.
 *
 *      31                14 13      11 10        1    0
 *     +--------------------+----------+-----------+-------+
 *     |        time        | frequency|   node    | ready |
 *     +--------------------+----------+-----------+-------+
 *
 *   ready      the page waits to be looked at; set by a touch that earned it, cleared by the take
 *   node       where the last accessor ran; HEAT_NO_NODE is a value of its own
 *   frequency  touches, each within HEAT_WINDOW_NS of the one before; saturates; 0: only born yet
 *   time       when it was touched last, in ticks of 2^24 ns; 0: no time, or too long ago
 *
 * The word 0 is the record of a page nobody touched. A record is published and taken by one
 * compare-and-swap of the whole word, so no reader ever sees parts of two touches.
 *
 * Time wraps after two epochs (73 minutes), yet an idle page never looks recent: the top bit of
 * `time` is the parity of the epoch, and every block of 512 pages has a 32-bit counter of the epoch
 * in which it was last touched. All times of a block are of that epoch or the one before. The touch
 * that opens a new epoch first clears the times that would become ambiguous (heat_block_enter), so
 * the parity says exactly which of the two a time belongs to, however long nobody came by.
 *
 * What it relies on: a thread does not stop between reading the clock and the end of
 * heat_publish() for longer than an epoch (36 minutes).
 */
#ifndef TIDE_HEAT_H
#define TIDE_HEAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAT_READY_WIDTH 1
#define HEAT_NODE_WIDTH 10
#define HEAT_FREQUENCY_WIDTH 3
#define HEAT_TIME_WIDTH 18

#define HEAT_READY_SHIFT 0
#define HEAT_NODE_SHIFT (HEAT_READY_SHIFT + HEAT_READY_WIDTH)
#define HEAT_FREQUENCY_SHIFT (HEAT_NODE_SHIFT + HEAT_NODE_WIDTH)
#define HEAT_TIME_SHIFT (HEAT_FREQUENCY_SHIFT + HEAT_FREQUENCY_WIDTH)

_Static_assert(HEAT_TIME_SHIFT + HEAT_TIME_WIDTH == 32, "the fields fill the record");

#define HEAT_MAX(FIELD) ((1u << HEAT_##FIELD##_WIDTH) - 1u)
#define HEAT_MASK(FIELD) (HEAT_MAX(FIELD) << HEAT_##FIELD##_SHIFT)

_Static_assert((HEAT_MASK(READY) ^ HEAT_MASK(NODE) ^ HEAT_MASK(FREQUENCY) ^ HEAT_MASK(TIME)) ==
		       UINT32_MAX, "no two fields overlap");

#define HEAT_NO_NODE HEAT_MAX(NODE)
#define HEAT_NODE_MAX (HEAT_NO_NODE - 1)
#define HEAT_TICK_SHIFT 24                               /* 16.8 ms */
#define HEAT_EPOCH_SHIFT (HEAT_TICK_SHIFT + HEAT_TIME_WIDTH - 1)
#define HEAT_WINDOW_TICKS 600u                           /* 10 s: two touches within it are a habit */
#define HEAT_BLOCK_PAGES 512u
#define HEAT_AGE_UNKNOWN UINT64_MAX

struct heat {
	bool ready;
	uint32_t node;       /* 0 .. HEAT_NODE_MAX, or HEAT_NO_NODE */
	uint32_t frequency;
	uint32_t time;
};

static inline uint32_t heat_pack(struct heat heat)
{
	return (uint32_t)heat.ready << HEAT_READY_SHIFT |
	       (heat.node & HEAT_MAX(NODE)) << HEAT_NODE_SHIFT |
	       (heat.frequency & HEAT_MAX(FREQUENCY)) << HEAT_FREQUENCY_SHIFT |
	       (heat.time & HEAT_MAX(TIME)) << HEAT_TIME_SHIFT;
}

static inline struct heat heat_unpack(uint32_t record)
{
	return (struct heat){
		.ready = record >> HEAT_READY_SHIFT & HEAT_MAX(READY),
		.node = record >> HEAT_NODE_SHIFT & HEAT_MAX(NODE),
		.frequency = record >> HEAT_FREQUENCY_SHIFT & HEAT_MAX(FREQUENCY),
		.time = record >> HEAT_TIME_SHIFT & HEAT_MAX(TIME),
	};
}

/* A moment as records see it. Epochs count from 1, so 0 is "never". */
struct heat_moment {
	uint32_t epoch;
	uint32_t time;
};

static inline struct heat_moment heat_moment_at(uint64_t now_ns)
{
	uint32_t time = (uint32_t)(now_ns >> HEAT_TICK_SHIFT) & HEAT_MAX(TIME);
	return (struct heat_moment){
		/* The parity of the stored epoch is the top bit of the time, shifted by one. */
		.epoch = (uint32_t)(now_ns >> HEAT_EPOCH_SHIFT) + 1,
		.time = time + !time, /* 0 means no time */
	};
}

/*
 * Ticks from the record's last touch to `now`; HEAT_AGE_UNKNOWN when it has no time, or none that
 * can be known. `block_epoch` is the epoch counter of the record's block.
 */
uint64_t heat_age_ticks(uint32_t record, uint32_t block_epoch, struct heat_moment now);

/*
 * Before a touch at `now` in a block of nr_pages records: bring the block into the epoch of `now`.
 * Returns false when the block is already more than an epoch ahead, and the touch too old to have a
 * time. One load when the epoch is the block's. Thread-safe.
 */
bool heat_block_enter(_Atomic uint32_t *records, size_t nr_pages, _Atomic uint32_t *block_epoch,
		      struct heat_moment now);

/*
 * Record a touch. `born`: the page begins a new life now, and what was known is void. `time_known`
 * and `block_epoch` as heat_block_enter() left them. Returns the new record; *ret_raised is true
 * when the caller must mark the page ready: it just became so, or rose to a hotter class.
 * Thread-safe, lock-free.
 */
uint32_t heat_publish(_Atomic uint32_t *record, uint32_t block_epoch, struct heat_moment now,
		      bool time_known, uint32_t node, bool born, bool *ret_raised);

/* Take a ready record: clears `ready` and keeps the rest. False when it was not ready. */
bool heat_take(_Atomic uint32_t *record, uint32_t *ret_record);

/* The page was freed: its heat is lost. */
static inline void heat_forget(_Atomic uint32_t *record)
{
	atomic_store_explicit(record, 0, memory_order_relaxed);
}

/* Ready classes: 0 born, 1 touched, 2 a habit (two touches in a window), 3 hot. */
#define HEAT_CLASSES 4u
static inline uint32_t heat_class(uint32_t record)
{
	static const uint8_t class_of[HEAT_MAX(FREQUENCY) + 1] = { 0, 1, 2, 2, 3, 3, 3, 3 };
	return class_of[record >> HEAT_FREQUENCY_SHIFT & HEAT_MAX(FREQUENCY)];
}

/* A block held as one has one record, its first page's. Split: all pages get it, none is ready but
 * the first if it was. Join: the first page gets the hottest (frequency, then recency). */
void heat_split(_Atomic uint32_t *records, size_t nr_pages);
void heat_join(_Atomic uint32_t *records, size_t nr_pages, uint32_t block_epoch,
	       struct heat_moment now);

#endif
