/* SPDX-License-Identifier: MIT */
/*
 * Per state and order one set of free runs, a bitmap under summaries of 64-fold fan-out:
 *
 *   level 2                      1
 *   level 1            1   0   ...   0   1
 *   level 0   0010...0  0...  ...  0...  0000...1     bit i: run [i << order, (i + 1) << order)
 *
 * Finding the lowest run is one step a level; putting in and taking out touch a summary only when a
 * word becomes non-zero or zero.
 *
 * What must always hold: a page is in at most one free run over all states and orders; no two free
 * runs of one order below the top are halves of one run; the counters equal the sets.
 */
#include "buddy.h"

#include <errno.h>
#include <stdbool.h>

#include "assert.h"

static uint64_t words_for(uint64_t nr_bits) { return (nr_bits + 63) / 64; }

static uint64_t set_words(uint64_t nr_bits)
{
	uint64_t nr_words = 0;

	do {
		nr_bits = words_for(nr_bits);
		nr_words += nr_bits;
	} while (nr_bits > 1);
	return nr_words;
}

static uint64_t *set_init(struct buddy_set *set, uint64_t *memory, uint64_t nr_bits)
{
	set->nr_levels = 0;
	do {
		tide_assert(set->nr_levels < BUDDY_LEVELS);
		nr_bits = words_for(nr_bits);
		set->level[set->nr_levels++] = memory;
		memory += nr_bits;
	} while (nr_bits > 1);
	return memory;
}

static bool set_has(const struct buddy_set *set, uint64_t i)
{
	return set->level[0][i / 64] >> (i % 64) & 1;
}

static void set_put(struct buddy_set *set, uint64_t i)
{
	for (unsigned level = 0; level < set->nr_levels; level++, i /= 64) {
		uint64_t *word = &set->level[level][i / 64];
		uint64_t before = *word;

		*word |= 1ull << (i % 64);
		if (before)
			return;
	}
}

static void set_drop(struct buddy_set *set, uint64_t i)
{
	for (unsigned level = 0; level < set->nr_levels; level++, i /= 64) {
		uint64_t *word = &set->level[level][i / 64];

		*word &= ~(1ull << (i % 64));
		if (*word)
			return;
	}
}

/* The lowest member of a set that is not empty. */
static uint64_t set_first(const struct buddy_set *set)
{
	uint64_t i = 0;

	for (unsigned level = set->nr_levels; level-- > 0;)
		i = i * 64 + (unsigned)__builtin_ctzll(set->level[level][i]);
	return i;
}

static void run_put(struct buddy *buddy, enum buddy_state state, unsigned order, uint32_t page)
{
	set_put(&buddy->set[state][order], page >> order);
	buddy->nr_runs[state][order]++;
	buddy->nr_free_pages[state] += 1u << order;
}

static void run_drop(struct buddy *buddy, enum buddy_state state, unsigned order, uint32_t page)
{
	set_drop(&buddy->set[state][order], page >> order);
	buddy->nr_runs[state][order]--;
	buddy->nr_free_pages[state] -= 1u << order;
}

static bool run_is_free(const struct buddy *buddy, enum buddy_state state, unsigned order,
			uint32_t page)
{
	return set_has(&buddy->set[state][order], page >> order);
}

size_t buddy_bytes(uint32_t nr_blocks)
{
	uint64_t nr_words = 0;

	for (unsigned order = 0; order <= BUDDY_ORDER_TOP; order++)
		nr_words += set_words((uint64_t)nr_blocks << (BUDDY_ORDER_TOP - order));
	return nr_words * BUDDY_STATE_COUNT * sizeof(uint64_t);
}

void buddy_init(struct buddy *buddy, void *zeroed_memory, uint32_t nr_blocks)
{
	uint64_t *memory = zeroed_memory;

	tide_assert(nr_blocks > 0 && nr_blocks <= BUDDY_BLOCKS_MAX);
	*buddy = (struct buddy){ .nr_pages = (uint64_t)nr_blocks << BUDDY_ORDER_TOP };
	for (int state = 0; state < BUDDY_STATE_COUNT; state++) {
		for (unsigned order = 0; order <= BUDDY_ORDER_TOP; order++)
			memory = set_init(&buddy->set[state][order], memory,
					  (uint64_t)nr_blocks << (BUDDY_ORDER_TOP - order));
	}
	for (uint32_t block = 0; block < nr_blocks; block++)
		run_put(buddy, BUDDY_RETURNED, BUDDY_ORDER_TOP, block << BUDDY_ORDER_TOP);
}

int buddy_take(struct buddy *buddy, enum buddy_state state, unsigned order, uint32_t *ret_page)
{
	unsigned from = order;
	uint32_t page;

	tide_assert(order <= BUDDY_ORDER_TOP);
	while (!buddy->nr_runs[state][from]) {
		if (++from > BUDDY_ORDER_TOP)
			return -ENOSPC;
	}
	page = (uint32_t)(set_first(&buddy->set[state][from]) << from);
	run_drop(buddy, state, from, page);
	while (from > order) {
		from--;
		run_put(buddy, state, from, page + (1u << from));
	}
	*ret_page = page;
	return 0;
}

void buddy_give(struct buddy *buddy, enum buddy_state state, unsigned order, uint32_t page)
{
	tide_assert(order <= BUDDY_ORDER_TOP && page < buddy->nr_pages);
	tide_assert((page & ((1u << order) - 1)) == 0);
	for (unsigned above = order; above <= BUDDY_ORDER_TOP; above++)
		tide_assert(!run_is_free(buddy, BUDDY_WARM, above, page) &&
			    !run_is_free(buddy, BUDDY_RETURNED, above, page));

	for (; order < BUDDY_ORDER_TOP; order++) {
		uint32_t half = page ^ (1u << order);

		if (run_is_free(buddy, BUDDY_WARM, order, half)) {
			run_drop(buddy, BUDDY_WARM, order, half);
			state = BUDDY_WARM;
		} else if (run_is_free(buddy, BUDDY_RETURNED, order, half)) {
			run_drop(buddy, BUDDY_RETURNED, order, half);
		} else {
			break;
		}
		page &= ~(1u << order);
	}
	run_put(buddy, state, order, page);
}
