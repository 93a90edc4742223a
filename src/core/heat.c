/* SPDX-License-Identifier: MIT */
/* The record's arithmetic; layout and idea are in heat.h. */
#include "heat.h"

#define TIME_PARITY (1u << (HEAT_TIME_WIDTH - 1))
#define EPOCH_TICKS ((uint64_t)TIME_PARITY)

/* Whether a time belongs to epochs of this one's parity. Stored epochs count from 1. */
static bool time_in_parity(uint32_t time, uint32_t epoch)
{
	return !(time & TIME_PARITY) == ((epoch & 1) == 1);
}

/* Ticks since the beginning of time, of a time that lies in `epoch`. */
static uint64_t ticks_at(uint32_t epoch, uint32_t time)
{
	return (uint64_t)(epoch - 1) * EPOCH_TICKS + (time & (TIME_PARITY - 1));
}

uint64_t heat_age_ticks(uint32_t record, uint32_t block_epoch, struct heat_moment now)
{
	uint32_t time = record >> HEAT_TIME_SHIFT & HEAT_MAX(TIME);

	if (!time || !block_epoch)
		return HEAT_AGE_UNKNOWN;
	uint32_t epoch = time_in_parity(time, block_epoch) ? block_epoch : block_epoch - 1;
	if (!epoch)
		return HEAT_AGE_UNKNOWN;
	uint64_t then = ticks_at(epoch, time), today = ticks_at(now.epoch, now.time);
	/* A touch of another thread may be newer than the caller's clock. */
	return today > then ? today - then : 0;
}

/* Clear the times that would be ambiguous, or wrong, once the block is in epoch `to`. */
static void block_age(_Atomic uint32_t *records, size_t nr_pages, uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < nr_pages; i++) {
		uint32_t old = atomic_load_explicit(&records[i], memory_order_relaxed);
		for (;;) {
			uint32_t time = old >> HEAT_TIME_SHIFT & HEAT_MAX(TIME);
			bool keep = from + 1 == to && time_in_parity(time, from);
			if (!time || keep)
				break;
			if (atomic_compare_exchange_weak_explicit(&records[i], &old,
								  old & ~HEAT_MASK(TIME),
								  memory_order_relaxed,
								  memory_order_relaxed))
				break;
		}
	}
}

bool heat_block_enter(_Atomic uint32_t *records, size_t nr_pages, _Atomic uint32_t *block_epoch,
		      struct heat_moment now)
{
	uint32_t epoch = atomic_load_explicit(block_epoch, memory_order_acquire);

	while (epoch < now.epoch) {
		/*
		 * Age first, then open: who reads the new epoch finds no time that it would take for
		 * a newer one. Two threads may do it at once; the later may clear the time of a touch
		 * that the earlier let in, which makes that page look older, never younger.
		 */
		if (epoch)
			block_age(records, nr_pages, epoch, now.epoch);
		/* Release: pairs with the load above, and with readers of the epoch. */
		if (atomic_compare_exchange_strong_explicit(block_epoch, &epoch, now.epoch,
							    memory_order_acq_rel,
							    memory_order_acquire))
			return true;
	}
	return epoch - now.epoch <= 1;
}

uint32_t heat_publish(_Atomic uint32_t *record, uint32_t block_epoch, struct heat_moment now,
		      bool time_known, uint32_t node, bool born, bool *ret_raised)
{
	uint32_t old = atomic_load_explicit(record, memory_order_relaxed), next;

	do {
		struct heat heat = heat_unpack(old);
		bool habit = heat_age_ticks(old, block_epoch, now) <= HEAT_WINDOW_TICKS;

		if (born)
			heat.frequency = 0;
		else if (!habit || !old)
			heat.frequency = 1;
		else if (heat.frequency < HEAT_MAX(FREQUENCY))
			heat.frequency++;
		heat.ready = true;
		heat.node = node <= HEAT_NODE_MAX ? node : HEAT_NO_NODE;
		heat.time = time_known ? now.time : 0;
		next = heat_pack(heat);
		/* Release: pairs with the acquire in heat_take(). */
	} while (!atomic_compare_exchange_weak_explicit(record, &old, next, memory_order_release,
							memory_order_relaxed));
	*ret_raised = !(old & HEAT_MASK(READY)) || heat_class(next) > heat_class(old);
	return next;
}

bool heat_take(_Atomic uint32_t *record, uint32_t *ret_record)
{
	uint32_t old = atomic_load_explicit(record, memory_order_relaxed);

	do {
		if (!(old & HEAT_MASK(READY)))
			return false;
		/* Acquire: pairs with the release in heat_publish(). */
	} while (!atomic_compare_exchange_weak_explicit(record, &old, old & ~HEAT_MASK(READY),
							memory_order_acquire,
							memory_order_relaxed));
	*ret_record = old;
	return true;
}

void heat_split(_Atomic uint32_t *records, size_t nr_pages)
{
	uint32_t whole = atomic_load_explicit(&records[0], memory_order_relaxed);

	for (size_t i = 1; i < nr_pages; i++)
		atomic_store_explicit(&records[i], whole & ~HEAT_MASK(READY), memory_order_relaxed);
}

void heat_join(_Atomic uint32_t *records, size_t nr_pages, uint32_t block_epoch,
	       struct heat_moment now)
{
	uint32_t best = atomic_load_explicit(&records[0], memory_order_relaxed);
	uint32_t ready = best & HEAT_MASK(READY);

	for (size_t i = 1; i < nr_pages; i++) {
		uint32_t record = atomic_load_explicit(&records[i], memory_order_relaxed);
		uint32_t a = record >> HEAT_FREQUENCY_SHIFT & HEAT_MAX(FREQUENCY);
		uint32_t b = best >> HEAT_FREQUENCY_SHIFT & HEAT_MAX(FREQUENCY);

		ready |= record & HEAT_MASK(READY);
		if (a > b || (a == b && heat_age_ticks(record, block_epoch, now) <
						heat_age_ticks(best, block_epoch, now)))
			best = record;
		heat_forget(&records[i]);
	}
	atomic_store_explicit(&records[0], best | ready, memory_order_relaxed);
}
