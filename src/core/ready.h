/* SPDX-License-Identifier: MIT */
/*
 * Ready: the set of pages that wait to be looked at, one class for each heat.
 *
 * Each class is a tree of bits, 64 to a word: bit i of level 0 is page i; bit i of level n + 1 says
 * that word i of level n may hold a bit. 2^28 pages are five levels.
 *
 *   level 2                        [..1.............]
 *   level 1           [................][.....1..........][..
 *   level 0  ...[................][...1..1.........][........
 *
 * Marking sets the page's bit and then every bit above it that is not set yet: O(levels), no lock,
 * any number of threads. Taking is for one thread at a time. A set bit always has its ancestors set
 * or a marker on its way to set them, because who empties a word clears the bit above and then looks
 * at the word again; both sides use sequentially consistent operations, so one sees the other.
 *
 * The hottest class goes first. Within a class the search goes on from where it stopped and wraps,
 * so the address of a page does not decide how soon it is served.
 */
#ifndef TIDE_READY_H
#define TIDE_READY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READY_CLASSES 4u
#define READY_LEVELS 6u /* 2^36 pages */

struct ready_class {
	_Atomic uint64_t *level[READY_LEVELS];
	uint64_t cursor;     /* the consumer's */
};

struct ready {
	uint64_t nr_pages;
	uint64_t nr_words[READY_LEVELS];
	unsigned nr_levels;
	struct ready_class classes[READY_CLASSES];
};

size_t ready_bytes(uint64_t nr_pages);
void ready_init(struct ready *ready, void *zeroed_memory, uint64_t nr_pages);

/* Thread-safe, lock-free. A mark that has returned is found by the next ready_take(). */
void ready_mark(struct ready *ready, uint32_t class, uint64_t idx);

/* Take the next page out of the hottest class that has one. One thread at a time. */
bool ready_take(struct ready *ready, uint64_t *ret_idx, uint32_t *ret_class);

/* The same, of one class. */
bool ready_take_class(struct ready *ready, uint32_t class_nr, uint64_t *ret_idx);

bool ready_empty(const struct ready *ready);

/* Whether every set bit has its ancestors set; only with no marker under way. */
bool ready_check(const struct ready *ready);

#endif
