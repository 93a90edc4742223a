/* SPDX-License-Identifier: MIT */
/*
 * What the compressed pool promises beyond the contract: repeated words for nothing, refusal by
 * rule, the stated waste, memory that goes back, and order after the system failed it.
 *
 * mmap (mmap64 to the linker), madvise and calloc of the pool are wrapped at link time: each can be made to fail at its
 * k-th call, and the first mapping tells where the slots lie.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <cmocka.h>

#include "pages.h"
#include "pool.h"

#define MIB ((uint64_t)1 << 20)
#define BLOCK (2 * MIB)
#define RULE_BYTES 3072u /* a page and its header, compressed, beyond which it is refused */

/* ---- the system, made to fail ----------------------------------------------------------------- */

static unsigned fail_in;       /* the k-th wrapped call from now fails; 0: none */
static bool fail_all_populate;
static bool failed;
static unsigned char *mapped;  /* what the last large mmap gave */

static bool fails_now(void)
{
	if (fail_in == 0 || --fail_in > 0)
		return false;
	failed = true;
	return true;
}

void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __real_madvise(void *at, size_t bytes, int advice);
int __wrap_madvise(void *at, size_t bytes, int advice);
void *__real_calloc(size_t nr, size_t bytes);
void *__wrap_calloc(size_t nr, size_t bytes);

void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	void *got;

	if (fails_now()) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	got = __real_mmap64(at, bytes, prot, flags, fd, offset);
	if (got != MAP_FAILED && bytes > 16 * BLOCK && !mapped)
		mapped = got;
	return got;
}

int __wrap_madvise(void *at, size_t bytes, int advice)
{
	if (advice == MADV_POPULATE_WRITE && (fail_all_populate || fails_now())) {
		errno = ENOMEM;
		return -1;
	}
	return __real_madvise(at, bytes, advice);
}

void *__wrap_calloc(size_t nr, size_t bytes)
{
	return fails_now() ? NULL : __real_calloc(nr, bytes);
}

static struct tier *open_pool(uint64_t capacity_bytes, bool verify)
{
	struct tier *tier = NULL;

	mapped = NULL;
	assert_int_equal(pool_open(capacity_bytes, verify, &tier), 0);
	return tier;
}

static struct tier_usage usage_of(struct tier *tier)
{
	struct tier_usage usage;

	tier->ops->usage(tier, &usage);
	return usage;
}

static int store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	return tier->ops->store(tier, page, ret_slot);
}

/* `nr_random` bytes that do not compress, then zeros. */
static void prefix_page(unsigned char *page, size_t nr_random, uint64_t seed)
{
	memset(page, 0, TIER_PAGE_BYTES);
	page_random(page, nr_random, &seed);
}

/* ---- repeated words --------------------------------------------------------------------------- */

static void repeated_words_cost_nothing(void **state)
{
	struct tier *tier = open_pool(0, true);
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
	uint32_t zero, again, slots[256];

	(void)state;
	page_words(page, 0);
	assert_int_equal(store(tier, page, &zero), 0);
	assert_int_equal(store(tier, page, &again), 0);
	assert_int_equal(zero, again);
	for (uint64_t i = 0; i < 256; i++) {
		page_words(page, 0x123456789abcdefull * (i + 1));
		assert_int_equal(store(tier, page, &slots[i]), 0);
	}
	assert_int_equal(usage_of(tier).used_bytes, 0);
	assert_int_equal(usage_of(tier).stored_bytes, 0);
	assert_int_equal(usage_of(tier).pages, 257);
	for (uint64_t i = 0; i < 256; i++) {
		page_words(page, 0x123456789abcdefull * (i + 1));
		assert_int_equal(tier->ops->load(tier, slots[i], loaded), 0);
		assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
		tier->ops->unref(tier, slots[i]);
	}
	tier->ops->unref(tier, zero);
	assert_int_equal(usage_of(tier).pages, 1);
	tier->ops->unref(tier, zero);
	assert_int_equal(usage_of(tier).pages, 0);
	tier->ops->close(tier);
}

/* More words than the table takes: the others are stored as any page is, zero is still free. */
static void too_many_words_are_ordinary_pages(void **state)
{
	enum { NR = 20000 };
	struct tier *tier = open_pool(0, true);
	uint32_t *slots = calloc(NR, sizeof(*slots)), zero;
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
	uint64_t stored;

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < NR; i++) {
			page_words(page, (i + 1) << 17);
			assert_int_equal(store(tier, page, &slots[i]), 0);
		}
		stored = usage_of(tier).stored_bytes;
		assert_true(stored > 0 && stored < NR * 64);
		assert_int_equal(usage_of(tier).pages, NR);
		page_words(page, 0);
		assert_int_equal(store(tier, page, &zero), 0);
		assert_int_equal(usage_of(tier).stored_bytes, stored);
		assert_int_equal(tier->ops->load(tier, zero, loaded), 0);
		assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
		for (uint64_t i = 0; i < NR; i++) {
			page_words(page, (i + 1) << 17);
			assert_int_equal(tier->ops->load(tier, slots[i], loaded), 0);
			assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
			assert_int_equal(tier->ops->compare(tier, slots[i], page), 0);
			tier->ops->unref(tier, slots[i]);
		}
		tier->ops->unref(tier, zero);
		assert_int_equal(usage_of(tier).pages, 0);
		assert_int_equal(usage_of(tier).stored_bytes, 0);
	}
	tier->ops->close(tier);
	free(slots);
}

/* ---- the rule --------------------------------------------------------------------------------- */

static void a_bounded_pool_refuses_hardly_compressible_pages(void **state)
{
	struct tier *tier = open_pool(64 << 20, false);
	unsigned char page[TIER_PAGE_BYTES];
	unsigned nr_stored = 0, nr_refused = 0;
	bool refused = false;

	(void)state;
	/* Longer and longer compressed: from some length on all are refused, and none before. */
	for (size_t length = 2900; length < 3200; length++) {
		uint64_t before = usage_of(tier).stored_bytes, bytes;
		uint32_t slot;
		int err;

		prefix_page(page, length, 1);
		err = store(tier, page, &slot);
		if (err) {
			assert_int_equal(err, -E2BIG);
			refused = true;
			nr_refused++;
			continue;
		}
		assert_false(refused);
		nr_stored++;
		bytes = usage_of(tier).stored_bytes - before;
		assert_true(bytes > length && bytes <= RULE_BYTES && bytes % 64 == 0);
		tier->ops->unref(tier, slot);
	}
	assert_true(nr_stored > 100 && nr_refused > 100);
	prefix_page(page, TIER_PAGE_BYTES, 1);
	assert_int_equal(store(tier, page, &(uint32_t){ 0 }), -E2BIG);
	assert_int_equal(usage_of(tier).stored_bytes, 0);
	tier->ops->close(tier);
}

/* Only while it has none: the bound comes and goes with the limits of others. */
static void a_pool_without_bound_takes_every_page(void **state)
{
	enum { NR = 1000 };
	struct tier *tier = open_pool(0, true);
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
	uint32_t slots[NR];

	(void)state;
	for (unsigned i = 0; i < NR; i++) {
		prefix_page(page, TIER_PAGE_BYTES - i, i + 1);
		assert_int_equal(store(tier, page, &slots[i]), 0);
	}
	assert_true(usage_of(tier).stored_bytes < NR * (TIER_PAGE_BYTES + 64));
	tier->ops->set_capacity(tier, 1 << 30);
	prefix_page(page, TIER_PAGE_BYTES, 1);
	assert_int_equal(store(tier, page, &(uint32_t){ 0 }), -E2BIG);
	for (unsigned i = 0; i < NR; i++) {
		prefix_page(page, TIER_PAGE_BYTES - i, i + 1);
		assert_int_equal(tier->ops->load(tier, slots[i], loaded), 0);
		assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
		tier->ops->unref(tier, slots[i]);
	}
	tier->ops->set_capacity(tier, 0);
	prefix_page(page, TIER_PAGE_BYTES, 1);
	assert_int_equal(store(tier, page, slots), 0);
	tier->ops->unref(tier, slots[0]);
	assert_int_equal(usage_of(tier).stored_bytes, 0);
	tier->ops->close(tier);
}

/* ---- waste ------------------------------------------------------------------------------------ */

static void shuffle(uint32_t *slots, uint64_t *seeds, unsigned nr, uint64_t *rng)
{
	for (unsigned i = nr; i > 1; i--) {
		unsigned j = (unsigned)(rng_next(rng) % i);
		uint32_t slot = slots[i - 1];
		uint64_t seed = seeds[i - 1];

		slots[i - 1] = slots[j];
		slots[j] = slot;
		seeds[i - 1] = seeds[j];
		seeds[j] = seed;
	}
}

static void store_sized(struct tier *tier, uint64_t seed, uint32_t *ret_slot)
{
	unsigned char page[TIER_PAGE_BYTES];

	prefix_page(page, 9 + seed % 3000, seed);
	assert_int_equal(store(tier, page, ret_slot), 0);
}

static void waste_stays_within_what_is_stated(void **state)
{
	enum { NR = 12000 };
	struct tier *tier = open_pool(0, false);
	uint32_t *slots = calloc(NR, sizeof(*slots));
	uint64_t *seeds = calloc(NR, sizeof(*seeds)), rng = 3, filled;
	struct tier_usage usage;

	(void)state;
	for (unsigned i = 0; i < NR; i++) {
		seeds[i] = rng_next(&rng);
		store_sized(tier, seeds[i], &slots[i]);
		if (i % 64 == 0) {
			usage = usage_of(tier);
			assert_true(usage.used_bytes <= usage.stored_bytes * 25 / 24 +
							   48 * (64 << 10) + BLOCK);
		}
	}
	filled = usage_of(tier).used_bytes;

	/* Freed at random, and the same sizes stored again, over and over: it never takes more. */
	for (unsigned round = 0; round < 6; round++) {
		unsigned keep = NR * round / 7;

		shuffle(slots, seeds, NR, &rng);
		for (unsigned i = keep; i < NR; i++)
			tier->ops->unref(tier, slots[i]);
		usage = usage_of(tier);
		assert_int_equal(usage.pages, keep);
		assert_true(usage.used_bytes <= keep * BLOCK + POOL_KEEP_BYTES);
		assert_true(usage.used_bytes <= filled);
		for (unsigned i = keep; i < NR; i++)
			store_sized(tier, seeds[i], &slots[i]);
		assert_true(usage_of(tier).used_bytes <= filled + BLOCK);
	}
	assert_true(usage_of(tier).peak_bytes <= filled + BLOCK);

	/* One item a block in the worst case, and the bound says so; then nothing but what is kept. */
	for (unsigned i = 0; i < NR - 3; i++)
		tier->ops->unref(tier, slots[i]);
	assert_true(usage_of(tier).used_bytes <= 3 * BLOCK + POOL_KEEP_BYTES);
	for (unsigned i = NR - 3; i < NR; i++)
		tier->ops->unref(tier, slots[i]);
	usage = usage_of(tier);
	assert_int_equal(usage.stored_bytes, 0);
	assert_true(usage.used_bytes <= POOL_KEEP_BYTES);
	/* Lowering the bound takes the kept memory too. */
	tier->ops->set_capacity(tier, 1);
	assert_int_equal(usage_of(tier).used_bytes, 0);
	tier->ops->close(tier);
	free(slots);
	free(seeds);
}

/* Full of one size, a page of a smaller one still finds the room that a freed item left. */
static void a_full_pool_lends_larger_items(void **state)
{
	struct tier *tier = open_pool(BLOCK, false);
	uint32_t slots[2048], small;
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
	unsigned nr = 0;

	(void)state;
	for (;;) {
		prefix_page(page, 2000, nr);
		if (store(tier, page, &slots[nr]))
			break;
		nr++;
	}
	prefix_page(page, 100, 7);
	assert_int_equal(store(tier, page, &small), -ENOSPC);
	tier->ops->unref(tier, slots[nr / 2]);
	assert_int_equal(store(tier, page, &small), 0);
	assert_int_equal(tier->ops->load(tier, small, loaded), 0);
	assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
	assert_int_equal(usage_of(tier).used_bytes, BLOCK);
	tier->ops->close(tier);
}

/* Memory that the pool says it does not use it does not use: asked of the kernel. */
static void emptied_blocks_go_back_to_the_kernel(void **state)
{
	enum { NR = 16000 };
	struct tier *tier = open_pool(0, false);
	uint32_t *slots = calloc(NR, sizeof(*slots));
	static unsigned char resident[64 * BLOCK / TIER_PAGE_BYTES];
	unsigned char *base = (unsigned char *)(((uintptr_t)mapped + BLOCK - 1) & ~(BLOCK - 1));

	(void)state;
	for (unsigned i = 0; i < NR; i++)
		store_sized(tier, i * 7919, &slots[i]);
	for (int emptied = 0; emptied < 2; emptied++) {
		struct tier_usage usage = usage_of(tier);
		uint64_t nr_resident = 0;

		assert_true(usage.used_bytes <= 60 * BLOCK);
		assert_int_equal(mincore(base, sizeof(resident) * TIER_PAGE_BYTES, resident), 0);
		for (size_t i = 0; i < sizeof(resident); i++)
			nr_resident += resident[i] & 1;
		assert_int_equal(nr_resident * TIER_PAGE_BYTES, usage.used_bytes);
		for (unsigned i = 0; !emptied && i < NR; i++)
			tier->ops->unref(tier, slots[i]);
	}
	tier->ops->close(tier);
	free(slots);
}

/* ---- verify ----------------------------------------------------------------------------------- */

/* Any flipped bit of a stored item gives -EIO, or does not matter; never another content. */
static void verify_finds_every_flipped_bit(void **state)
{
	struct tier *tier = open_pool(0, true);
	unsigned char *base = (unsigned char *)(((uintptr_t)mapped + BLOCK - 1) & ~(BLOCK - 1));
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
	unsigned nr_found = 0;

	(void)state;
	for (uint64_t seed = 0; seed < 6; seed++) {
		unsigned char *item;
		uint64_t bytes;
		uint32_t slot;

		page_make_kind(page, seed % 2 ? KIND_TEXT : KIND_PREFIX, seed);
		if (store(tier, page, &slot))
			continue;
		bytes = usage_of(tier).stored_bytes;
		item = base + (uint64_t)slot * 64;
		for (uint64_t bit = 0; bit < bytes * 8; bit++) {
			item[bit / 8] ^= (unsigned char)(1u << bit % 8);
			if (tier->ops->load(tier, slot, loaded) == -EIO)
				nr_found++;
			else
				assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
			item[bit / 8] ^= (unsigned char)(1u << bit % 8);
		}
		assert_int_equal(tier->ops->load(tier, slot, loaded), 0);
		assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
		tier->ops->unref(tier, slot);
	}
	assert_true(nr_found > 30000);
	tier->ops->close(tier);
}

/* ---- the system fails ------------------------------------------------------------------------- */

static void opening_fails_cleanly_or_not_at_all(void **state)
{
	unsigned k = 0;

	(void)state;
	do {
		struct tier *tier = NULL;
		int err;

		fail_in = ++k;
		failed = false;
		err = pool_open(0, false, &tier);
		fail_in = 0;
		assert_true(err == 0 || err == -ENOMEM);
		assert_true((err == 0) == (tier != NULL));
		/* One refused reservation is met by asking for less. */
		if (tier)
			tier->ops->close(tier);
	} while (failed);
	assert_true(k > 3);
}

/* Where the system has fewer addresses for us, there are fewer slots, and the others are none. */
static void fewer_addresses_are_fewer_slots(void **state)
{
	struct tier *tier;
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
	uint32_t slot;

	(void)state;
	fail_in = 2; /* the first mmap: calloc comes before it */
	tier = open_pool(0, false);
	assert_int_equal(fail_in, 0);
	assert_int_equal(tier->ops->load(tier, UINT32_MAX, loaded), -EIO);
	assert_int_equal(tier->ops->load(tier, 1u << 31, loaded), -EIO);
	page_make_kind(page, KIND_TEXT, 1);
	assert_int_equal(store(tier, page, &slot), 0);
	assert_int_equal(tier->ops->load(tier, slot, loaded), 0);
	assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
	tier->ops->close(tier);
}

static void no_memory_for_a_block_is_no_room(void **state)
{
	(void)state;
	for (unsigned k = 1; k <= 4; k++) {
		struct tier *tier = open_pool(0, true);
		uint32_t slots[4000], slot = 0xdead;
		unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
		unsigned nr = 0, nr_failed = 0;
		struct tier_usage before;

		fail_in = k;
		while (nr < 4000) {
			int err;

			prefix_page(page, 2500, nr);
			before = usage_of(tier);
			err = store(tier, page, &slot);
			if (err) {
				assert_int_equal(err, -ENOSPC);
				assert_int_equal(usage_of(tier).used_bytes, before.used_bytes);
				assert_int_equal(usage_of(tier).stored_bytes, before.stored_bytes);
				nr_failed++;
				continue;
			}
			slots[nr++] = slot;
		}
		assert_int_equal(nr_failed, 1);
		/* And when it stays away, what was stored stays. */
		fail_all_populate = true;
		while (store(tier, page, &slot) == 0)
			tier->ops->ref(tier, slot);
		assert_int_equal(store(tier, page, &slot), -ENOSPC);
		fail_all_populate = false;
		for (unsigned i = 0; i < nr; i++) {
			prefix_page(page, 2500, i);
			assert_int_equal(tier->ops->load(tier, slots[i], loaded), 0);
			assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
		}
		tier->ops->close(tier);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repeated_words_cost_nothing),
		cmocka_unit_test(too_many_words_are_ordinary_pages),
		cmocka_unit_test(a_bounded_pool_refuses_hardly_compressible_pages),
		cmocka_unit_test(a_pool_without_bound_takes_every_page),
		cmocka_unit_test(waste_stays_within_what_is_stated),
		cmocka_unit_test(a_full_pool_lends_larger_items),
		cmocka_unit_test(emptied_blocks_go_back_to_the_kernel),
		cmocka_unit_test(verify_finds_every_flipped_bit),
		cmocka_unit_test(opening_fails_cleanly_or_not_at_all),
		cmocka_unit_test(fewer_addresses_are_fewer_slots),
		cmocka_unit_test(no_memory_for_a_block_is_no_room),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
