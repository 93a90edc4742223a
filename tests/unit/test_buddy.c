/* SPDX-License-Identifier: MIT */
/* The buddy against a model that keeps one state per page. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buddy.h"
#include "rng.h"

static uint64_t rng_state;

/* ---- a model: each page is taken or free, each maximal aligned free run has one state --------- */

#define NR_BLOCKS 5u
#define NR_PAGES (NR_BLOCKS * BUDDY_BLOCK_PAGES)

struct world {
	struct buddy buddy;
	uint64_t *memory;
	size_t words;
	bool taken[NR_PAGES];
};

static struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	world->words = buddy_bytes(NR_BLOCKS) / 8;
	/* One more word, to see that it keeps to its memory. */
	world->memory = calloc(world->words + 1, 8);
	world->memory[world->words] = 0x5afe;
	buddy_init(&world->buddy, world->memory, NR_BLOCKS);
	return world;
}

static void world_free(struct world *world)
{
	assert_int_equal(world->memory[world->words], 0x5afe);
	free(world->memory);
	free(world);
}

static bool in_set(const struct buddy *buddy, int state, unsigned order, uint32_t run)
{
	return buddy->set[state][order].level[0][run / 64] >> (run % 64) & 1;
}

/* Walks everything: each free page in exactly one free run, no two halves unmerged, sums equal. */
static void world_check(const struct world *world)
{
	static unsigned char covered[NR_PAGES];
	uint64_t nr_free[BUDDY_STATE_COUNT] = { 0 };

	memset(covered, 0, sizeof(covered));
	for (int state = 0; state < BUDDY_STATE_COUNT; state++) {
		for (unsigned order = 0; order <= BUDDY_ORDER_TOP; order++) {
			uint64_t nr_runs = 0;

			for (uint32_t run = 0; run < NR_PAGES >> order; run++) {
				if (!in_set(&world->buddy, state, order, run))
					continue;
				nr_runs++;
				nr_free[state] += 1u << order;
				for (uint32_t i = 0; i < 1u << order; i++)
					covered[(run << order) + i]++;
				if (order == BUDDY_ORDER_TOP)
					continue;
				assert_false(in_set(&world->buddy, 0, order, run ^ 1));
				assert_false(in_set(&world->buddy, 1, order, run ^ 1));
			}
			assert_int_equal(world->buddy.nr_runs[state][order], nr_runs);
		}
		assert_int_equal(world->buddy.nr_free_pages[state], nr_free[state]);
	}
	for (uint32_t page = 0; page < NR_PAGES; page++)
		assert_int_equal(covered[page], !world->taken[page]);
}

static void mark(struct world *world, uint32_t page, unsigned order, bool taken)
{
	for (uint32_t i = 0; i < 1u << order; i++) {
		assert_int_equal(world->taken[page + i], !taken);
		world->taken[page + i] = taken;
	}
}

static void random_life(void **state)
{
	struct world *world = world_new();
	struct {
		uint32_t page;
		unsigned order;
	} held[NR_PAGES];
	unsigned nr = 0;

	(void)state;
	rng_state = 11;
	for (int round = 0; round < 60000; round++) {
		const uint64_t takes = round / 10000 % 2 ? 1 : 3; /* of 4 */

		if (rng_next(&rng_state) % 4 < takes) {
			unsigned order = (unsigned)(rng_next(&rng_state) % (BUDDY_ORDER_TOP + 1));
			enum buddy_state from = (enum buddy_state)(rng_next(&rng_state) % 2);
			uint64_t room = 0;
			int err;

			for (unsigned o = order; o <= BUDDY_ORDER_TOP; o++)
				room += world->buddy.nr_runs[from][o];
			err = buddy_take(&world->buddy, from, order, &held[nr].page);
			assert_int_equal(err, room ? 0 : -ENOSPC);
			if (err)
				continue;
			assert_int_equal(held[nr].page & ((1u << order) - 1), 0);
			held[nr].order = order;
			mark(world, held[nr].page, order, true);
			nr++;
		} else if (nr) {
			unsigned pick = (unsigned)(rng_next(&rng_state) % nr);

			mark(world, held[pick].page, held[pick].order, false);
			buddy_give(&world->buddy, (enum buddy_state)(rng_next(&rng_state) % 2),
				   held[pick].order, held[pick].page);
			held[pick] = held[--nr];
		}
		if (round % 16 == 0)
			world_check(world);
	}
	while (nr--) {
		mark(world, held[nr].page, held[nr].order, false);
		buddy_give(&world->buddy, BUDDY_RETURNED, held[nr].order, held[nr].page);
	}
	world_check(world);
	assert_int_equal(world->buddy.nr_runs[0][BUDDY_ORDER_TOP] +
				 world->buddy.nr_runs[1][BUDDY_ORDER_TOP],
			 NR_BLOCKS);
	world_free(world);
}

static void all_is_returned_at_first(void **state)
{
	struct world *world = world_new();
	uint32_t page;

	(void)state;
	assert_int_equal(world->buddy.nr_runs[BUDDY_RETURNED][BUDDY_ORDER_TOP], NR_BLOCKS);
	assert_int_equal(buddy_take(&world->buddy, BUDDY_WARM, 0, &page), -ENOSPC);
	/* The lowest goes first. */
	for (uint32_t block = 0; block < NR_BLOCKS; block++) {
		assert_int_equal(buddy_take(&world->buddy, BUDDY_RETURNED, BUDDY_ORDER_TOP, &page), 0);
		assert_int_equal(page, block * BUDDY_BLOCK_PAGES);
	}
	assert_int_equal(buddy_take(&world->buddy, BUDDY_RETURNED, 0, &page), -ENOSPC);
	world_free(world);
}

/* 004: a split keeps the state; a merge is returned only if both halves are. */
static void state_over_split_and_merge(void **state)
{
	static const enum buddy_state both[2] = { BUDDY_WARM, BUDDY_RETURNED };

	(void)state;
	for (int first = 0; first < 2; first++) {
		for (int second = 0; second < 2; second++) {
			struct world *world = world_new();
			bool warm = both[first] == BUDDY_WARM || both[second] == BUDDY_WARM;
			const unsigned half = BUDDY_ORDER_TOP - 1;
			uint32_t a, b;

			assert_int_equal(buddy_take(&world->buddy, BUDDY_RETURNED, half, &a), 0);
			assert_int_equal(world->buddy.nr_runs[BUDDY_RETURNED][half], 1);
			assert_int_equal(buddy_take(&world->buddy, BUDDY_RETURNED, half, &b), 0);
			assert_int_equal(b, a + (1u << half));
			buddy_give(&world->buddy, both[first], half, a);
			assert_int_equal(world->buddy.nr_runs[both[first]][half], 1);
			buddy_give(&world->buddy, both[second], half, b);
			assert_int_equal(world->buddy.nr_runs[BUDDY_WARM][BUDDY_ORDER_TOP], warm);
			assert_int_equal(world->buddy.nr_runs[BUDDY_RETURNED][BUDDY_ORDER_TOP],
					 NR_BLOCKS - warm);
			world_check(world);
			if (warm) {
				/* Splitting a warm block leaves warm parts. */
				assert_int_equal(buddy_take(&world->buddy, BUDDY_WARM, 0, &a), 0);
				assert_int_equal(world->buddy.nr_free_pages[BUDDY_WARM],
						 BUDDY_BLOCK_PAGES - 1);
			}
			world_free(world);
		}
	}
}

/* What was taken whole may come back in parts. */
static void given_back_in_parts(void **state)
{
	struct world *world = world_new();
	uint32_t page;

	(void)state;
	assert_int_equal(buddy_take(&world->buddy, BUDDY_RETURNED, BUDDY_ORDER_TOP, &page), 0);
	for (uint32_t i = 0; i < BUDDY_BLOCK_PAGES; i += 2)
		buddy_give(&world->buddy, BUDDY_RETURNED, 0, page + i);
	assert_int_equal(world->buddy.nr_runs[BUDDY_RETURNED][0], BUDDY_BLOCK_PAGES / 2);
	for (uint32_t i = 1; i < BUDDY_BLOCK_PAGES; i += 2)
		buddy_give(&world->buddy, BUDDY_RETURNED, 0, page + i);
	assert_int_equal(world->buddy.nr_runs[BUDDY_RETURNED][BUDDY_ORDER_TOP], NR_BLOCKS);
	world_check(world);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_is_returned_at_first),
		cmocka_unit_test(state_over_split_and_merge),
		cmocka_unit_test(given_back_in_parts),
		cmocka_unit_test(random_life),
	};

	return cmocka_run_group_tests_name("buddy", tests, NULL, NULL);
}
