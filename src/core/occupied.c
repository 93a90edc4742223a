/* SPDX-License-Identifier: MIT */
/* The bits of blocks; their protocol is in occupied.h. */
#include "occupied.h"

#include "assert.h"

static uint64_t nr_words(uint64_t nr_pages)
{
	return nr_pages / OCCUPIED_WORD_PAGES + 2;
}

size_t occupied_bytes(uint64_t nr_pages)
{
	return (size_t)(nr_words(nr_pages) * sizeof(uint64_t));
}

/* The first page of a block, as far as it is the region's. */
static uint64_t block_first(const struct region *region, uint64_t block)
{
	uint64_t first = block * HEAT_BLOCK_PAGES, before = region->first_vpn % HEAT_BLOCK_PAGES;

	first = first > before ? first - before : 0;
	return first < region->nr_pages ? first : region->nr_pages;
}

void region_occupy(struct region *region, uint64_t first, uint64_t nr_pages)
{
	tide_assert(first <= region->nr_pages && nr_pages <= region->nr_pages - first);
	for (uint64_t idx = first; idx < first + nr_pages; idx = block_first(region, region_block(region, idx) + 1)) {
		uint64_t block = region_block(region, idx);
		/* A look first: a line that is only read stays with every CPU. */
		if (!region_occupied(region, idx))
			atomic_fetch_or_explicit(&region->occupied[block / 64], UINT64_C(1) << (block % 64),
						 memory_order_relaxed);
	}
}

static bool block_empty(const struct region *region, uint64_t block)
{
	uint64_t end = block_first(region, block + 1);

	for (uint64_t idx = block_first(region, block); idx < end; idx++)
		if (atomic_load_explicit(&region->state[idx], memory_order_relaxed))
			return false;
	return true;
}

void region_vacate(struct region *region, uint64_t first, uint64_t nr_pages)
{
	uint64_t end = first + nr_pages;

	for (uint64_t idx = region_next(region, first); idx < end;) {
		uint64_t block = region_block(region, idx);
		if (block_empty(region, block))
			atomic_fetch_and_explicit(&region->occupied[block / 64], ~(UINT64_C(1) << (block % 64)),
						  memory_order_relaxed);
		idx = region_next(region, block_first(region, block + 1));
	}
}

uint64_t region_leap(const struct region *region, uint64_t idx)
{
	uint64_t block = region_block(region, idx), end = region_block(region, region->nr_pages - 1) + 1;
	uint64_t word = block / 64, skip = block % 64;

	for (; word * 64 < end; word++, skip = 0) {
		uint64_t bits = atomic_load_explicit(&region->occupied[word], memory_order_relaxed) >> skip << skip;
		if (!bits)
			continue;
		uint64_t first = block_first(region, word * 64 + (unsigned)__builtin_ctzll(bits));
		return first > idx ? first : idx; /* its own block has been occupied just now */
	}
	return region->nr_pages;
}
