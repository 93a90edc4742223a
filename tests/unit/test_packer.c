/* SPDX-License-Identifier: MIT */
/* What is packed comes back by the library's own decompressor; nothing outside is touched, and the bound is
 * exact. Pages and packed bytes lie against memory that faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <lz4.h>
#include <string.h>
#include <sys/mman.h>

#include "packer.h"
#include "rng.h"

#define ROOM_BYTES (2 * TIER_PAGE_BYTES)
#define PACKED_MOST 4200u /* a page of which nothing is there twice */

static struct packer packer;

/* Memory with nothing before and behind it; its end is the end of what can be touched. */
static unsigned char *fenced(size_t bytes)
{
	unsigned char *at = mmap(NULL, bytes + 2 * TIER_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(at != MAP_FAILED);
	assert_int_equal(mprotect(at + TIER_PAGE_BYTES, bytes, PROT_READ | PROT_WRITE), 0);
	return at + TIER_PAGE_BYTES;
}

/* Literals and copies of any length and distance, as a seed has them. */
static void page_make(unsigned char *page, uint64_t seed)
{
	uint64_t rng = seed;
	uint32_t at = 0, longest = 1u << (rng_next(&rng) >> 60), far = 1u << (1 + (rng_next(&rng) >> 60) % 12);
	bool structures = rng_next(&rng) >> 63;
	uint32_t distance = 1 + (uint32_t)(rng_next(&rng) >> 40) % far;

	while (at < TIER_PAGE_BYTES) {
		uint32_t nr = 1 + (uint32_t)(rng_next(&rng) >> 40) % longest;
		bool copy = rng_next(&rng) >> 63;
		if (!structures)
			distance = 1 + (uint32_t)(rng_next(&rng) >> 40) % far;
		for (; nr && at < TIER_PAGE_BYTES; nr--, at++)
			page[at] = copy && at >= distance ? page[at - distance] : (unsigned char)(rng_next(&rng) >> 56);
	}
}

static uint32_t pack_and_unpack(const unsigned char *page, unsigned char *room, uint32_t max_bytes)
{
	static unsigned char back[TIER_PAGE_BYTES];
	/* So that all it may write ends where it would fault. */
	unsigned char *packed = room + ROOM_BYTES - max_bytes - PACKER_SPILL_BYTES;
	uint32_t bytes = packer_pack(&packer, page, packed, max_bytes);

	assert_true(bytes <= max_bytes);
	if (bytes) {
		memset(back, 0xa5, sizeof back);
		assert_int_equal(LZ4_decompress_safe((char *)packed, (char *)back, (int)bytes, sizeof back),
				 sizeof back);
		assert_memory_equal(back, page, sizeof back);
	}
	return bytes;
}

static void pages_of_any_kind_come_back_and_the_bound_is_exact(void **state)
{
	unsigned char *page = fenced(TIER_PAGE_BYTES), *room = fenced(ROOM_BYTES);
	uint32_t least = UINT32_MAX, most = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20000; seed++) {
		page_make(page, seed);
		uint32_t bytes = pack_and_unpack(page, room, PACKED_MOST);
		assert_true(bytes > 0);
		assert_int_equal(pack_and_unpack(page, room, bytes), bytes);
		assert_int_equal(pack_and_unpack(page, room, bytes - 1), 0);
		least = bytes < least ? bytes : least;
		most = bytes > most ? bytes : most;
	}
	/* Both ends were met. */
	assert_true(least < TIER_PAGE_BYTES / 16);
	assert_true(most > TIER_PAGE_BYTES);
}

/* The last bytes of a page are literals whatever is there: any end of a match, up to the page's. */
static void a_match_may_end_anywhere(void **state)
{
	unsigned char *page = fenced(TIER_PAGE_BYTES), *room = fenced(ROOM_BYTES);
	uint64_t rng = 7;

	(void)state;
	for (uint32_t start = 8; start < 40; start++)
		for (uint32_t behind = 0; behind < 40; behind++) {
			for (uint32_t i = 0; i < TIER_PAGE_BYTES; i++)
				page[i] = i < start || i >= TIER_PAGE_BYTES - behind
						  ? (unsigned char)(rng_next(&rng) >> 56) : page[i - start];
			uint32_t bytes = pack_and_unpack(page, room, PACKED_MOST);
			assert_true(bytes < 2 * start + behind + 100);
		}
}

/* Structures of one size one behind the other, of which a part differs: what a heap is full of. */
static void structures_take_little_more_than_what_differs(void **state)
{
	unsigned char *page = fenced(TIER_PAGE_BYTES), *room = fenced(ROOM_BYTES);
	uint64_t rng = 11;

	(void)state;
	for (uint32_t i = 0; i < TIER_PAGE_BYTES; i++)
		page[i] = i % 64 < 8 ? (unsigned char)(rng_next(&rng) >> 56) : (unsigned char)(i % 64 * 37);
	uint32_t bytes = pack_and_unpack(page, room, PACKED_MOST);
	assert_true(bytes < TIER_PAGE_BYTES / 64 * (8 + 8));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_of_any_kind_come_back_and_the_bound_is_exact),
		cmocka_unit_test(a_match_may_end_anywhere),
		cmocka_unit_test(structures_take_little_more_than_what_differs),
	};

	return cmocka_run_group_tests_name("packer", tests, NULL, NULL);
}
