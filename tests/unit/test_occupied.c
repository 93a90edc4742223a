/* SPDX-License-Identifier: MIT */
/* Which blocks may hold anything, beside a walk of all words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "occupied.h"
#include "rng.h"

#define BLOCK HEAT_BLOCK_PAGES
#define RESIDENT page_word(PAGE_RESIDENT, 0, 0, 0, false)

static struct region region_new(uint64_t first_vpn, uint64_t nr_pages, void **ret_memory)
{
	size_t bytes = (engine_region_bytes(nr_pages) + 4095) & ~(size_t)4095;
	struct region region;

	*ret_memory = aligned_alloc(4096, bytes);
	assert_non_null(*ret_memory);
	memset(*ret_memory, 0, bytes);
	engine_region_init(&region, *ret_memory, first_vpn, nr_pages, NULL);
	return region;
}

static void page_fill(struct region *region, uint64_t idx)
{
	region_occupy(region, idx, 1);
	region->state[idx] = RESIDENT;
}

/* Where a page's block begins and ends, in the region. */
static uint64_t block_begin(const struct region *region, uint64_t idx)
{
	uint64_t in = (region->first_vpn + idx) % BLOCK;

	return idx > in ? idx - in : 0;
}

static uint64_t block_end(const struct region *region, uint64_t idx)
{
	uint64_t end = idx + BLOCK - (region->first_vpn + idx) % BLOCK;

	return end < region->nr_pages ? end : region->nr_pages;
}

/* The first page from idx on in a block with a page; `end` is behind all. */
static uint64_t next_by_words(const struct region *region, uint64_t idx)
{
	for (uint64_t at = idx; at < region->nr_pages; at = block_end(region, at))
		for (uint64_t k = block_begin(region, at); k < block_end(region, at); k++)
			if (region->state[k])
				return at;
	return region->nr_pages;
}

static void as_the_words_say(uint64_t first_vpn, uint32_t nr_pages, uint64_t *rng)
{
	void *memory;
	struct region region = region_new(first_vpn, nr_pages, &memory);

	for (unsigned round = 0; round < 300; round++) {
		uint32_t first = rng_below(rng, nr_pages), nr = 1 + rng_below(rng, nr_pages - first);
		if (rng_below(rng, 3)) {
			page_fill(&region, first);
		} else {
			for (uint32_t i = first; i < first + nr; i++)
				region.state[i] = 0;
			region_vacate(&region, first, nr);
		}
		for (unsigned i = 0; i < 20; i++) {
			uint64_t idx = rng_below(rng, nr_pages + 1);
			assert_int_equal(region_next(&region, idx), next_by_words(&region, idx));
		}
	}
	free(memory);
}

static void pages_are_found_and_nothing_is_passed(void **state)
{
	uint64_t rng = 7;

	(void)state;
	as_the_words_say(0, 1, &rng);
	as_the_words_say(511, 2, &rng);
	as_the_words_say(511, BLOCK + 2, &rng);
	for (unsigned i = 0; i < 20; i++)
		as_the_words_say(rng_below(&rng, 3 * BLOCK), 1 + rng_below(&rng, 3 * OCCUPIED_WORD_PAGES), &rng);
}

static void a_run_occupies_all_its_blocks(void **state)
{
	void *memory;
	struct region region = region_new(100, 10 * BLOCK, &memory);

	(void)state;
	region_occupy(&region, 0, 0);
	assert_int_equal(region_next(&region, 0), 10 * BLOCK);
	region_occupy(&region, 5 * BLOCK, 2 * BLOCK);
	assert_int_equal(region_next(&region, 0), block_begin(&region, 5 * BLOCK));
	for (uint64_t idx = 5 * BLOCK; idx < 7 * BLOCK; idx++)
		assert_int_equal(region_next(&region, idx), idx);
	assert_int_equal(region_next(&region, block_end(&region, 7 * BLOCK - 1)), 10 * BLOCK);
	free(memory);
}

/* Whoever frees one page must not lose its neighbours. */
static void a_block_with_one_page_left_stays(void **state)
{
	void *memory;
	struct region region = region_new(100, 10 * BLOCK, &memory);

	(void)state;
	page_fill(&region, 900);
	page_fill(&region, 700);
	region.state[900] = 0;
	region_vacate(&region, 900, 1);
	assert_int_equal(region_next(&region, 700), 700);
	region.state[700] = 0;
	region_vacate(&region, 0, 10 * BLOCK);
	assert_int_equal(region_next(&region, 0), 10 * BLOCK);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_found_and_nothing_is_passed),
		cmocka_unit_test(a_run_occupies_all_its_blocks),
		cmocka_unit_test(a_block_with_one_page_left_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
