/* SPDX-License-Identifier: MIT */
/*
 * The compressed pool: a private tier in this process's memory, lz4 per page.
 *
 * Repeated words. A page of one repeated 64-bit word takes no slot memory: its slot number names an
 * entry of a small table, with one reference per store. Pages of the same word share the slot.
 * Refused (-E2BIG), while the pool is bounded: a page that compressed with its 8-byte header takes more than 3/4
 * of a page. A pool without a bound takes every page, at worst as it is.
 * The capacity bounds the memory taken from the system, which comes and goes in blocks of 2 MiB:
 * less than 2 MiB holds repeated words only.
 *
 * Threads. load(), ref() and unref() take no lock and never wait. store() holds a lock for some tens
 * of nanoseconds, and for some tens more per slot that was freed since the lock was last held.
 * Memory goes back to the system in usage() and set_capacity() only: call usage() from time to time,
 * not from a thread that must not wait.
 */
#ifndef TIDE_POOL_H
#define TIDE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "tier.h"

/* Memory of emptied blocks that is kept for the next store, at most, while under the capacity. */
#define POOL_KEEP_BYTES (8u << 20)

/* `capacity_bytes`: 0 for no bound (but 256 GiB). `verify`: keep a checksum of each page and test it
 * on every load. 0, -ENOMEM. */
int pool_open(uint64_t capacity_bytes, bool verify, struct tier **ret_tier);

#endif
