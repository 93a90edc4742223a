/* SPDX-License-Identifier: MIT */
/*
 * A large reserved range of addresses, in which a slot number is a place: slot s lies s * 64 bytes
 * from its start.
 *
 *   block 0 (2 MiB)     blocks from buddy, cut into slabs of 64 KiB, each of one item size
 *  +-------------------+--------------------+--------------------+-----
 *  | never memory:     | item item item ... | (free, warm)       | (returned: no memory)
 *  | slots name words  |                    |                    |
 *  +-------------------+--------------------+--------------------+-----
 *
 *   item:  63       32 31    12 11     0
 *         +-----------+--------+--------+------------------------+
 *         | sum/next  |  refs  | length | lz4 bytes              |  a multiple of 64 bytes
 *         +-----------+--------+--------+------------------------+
 *
 * A new block is populated before its first use, so what counts as used is really taken, a full
 * system shows as -ENOSPC, and storing meets no page faults. A block that became wholly free is
 * given back, but for a few kept warm.
 *
 * Freed items. The thread that drops the last reference pushes the item on one lock-free stack, the
 * links in the headers. Who next holds the lock takes the whole stack and sorts it into the slabs.
 * So a fault handler that frees never waits for a thread that stores.
 *
 * A load may meet an item that was freed, rewritten, or given back to the system at any moment. It
 * stays inside the mapping, checks the length it read, copies the bytes away before it looks at
 * them (so that lz4 sees bytes that stand still), and lz4 checks the rest. Every byte that such a
 * load can read is read and written as relaxed atomic words.
 *
 * Waste, at worst:
 *   rounding   an item is rounded up to 64 bytes, with its header of 8
 *   tail       a slab's end that no item fits in: at most 1/25 of a slab (1/20 of one with kept pages)
 *   room       filling only: one slab not full for each of 48 sizes, and the free slabs of one block
 *              so after stores alone: used <= stored * 25/24 + 48 * 64 KiB + 2 MiB.
 *              What is kept though it does not compress has 17 sizes more
 *   holes      nothing is ever moved, so after frees in the worst order each block may be kept by
 *              one item: used <= 2 MiB * slots + kept. Slabs are refilled in the order in which
 *              they got room, which gives the emptier ones time to empty.
 *
 * What must always hold: used bytes are the populated blocks; stored bytes are the sum of the sizes
 * of items that are not free; a slab is in its size's ring exactly when it has room. Nothing but
 * populating and returning blocks takes long while somebody might wait, and both let go of the lock.
 */
#include "pool.h"

#include <errno.h>
#include <lz4.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "assert.h"
#include "pool_inner.h"
#include "words.h"

#define PACKED_MAX_BYTES (ITEM_MAX_BYTES - (unsigned)sizeof(uint64_t))
#define PACKED_KEPT_BYTES (KEPT_MAX_BYTES - (unsigned)sizeof(uint64_t))
#define FIRST_ITEM_SLOT (BLOCK_BYTES / SLOT_BYTES)
#define BLOCKS_MAX (1u << 17) /* 256 GiB: what 32-bit slots can name */

#define EXPECT_BYTES 1536u /* of an item, fetched before it is read: most are not much longer */

#define LENGTH_MASK 0x1fffull
#define REF_ONE (1ull << 13)
#define REF_MASK 0xffffe000ull

_Static_assert(PACKED_KEPT_BYTES >= LZ4_COMPRESSBOUND(TIER_PAGE_BYTES), "any page can be kept");
_Static_assert(KEPT_MAX_BYTES - SLOT_BYTES < TIER_PAGE_BYTES, "the last item ends in the page behind the end");

/* What a thread needs for itself. Static, so that nothing is allocated where a fault is served. */
struct scratch {
	LZ4_stream_t lz4;
	uint64_t packed[PACKED_KEPT_BYTES / sizeof(uint64_t)];
	unsigned char page[TIER_PAGE_BYTES];
};
static _Thread_local struct scratch scratch __attribute__((aligned(64)));

static struct pool *pool_of(struct tier *tier)
{
	return (struct pool *)tier; /* its first member */
}

static bool slot_is_word(uint32_t slot) { return slot <= NR_WORDS; }

static bool slot_is_item(const struct pool *pool, uint32_t slot)
{
	return slot >= FIRST_ITEM_SLOT && slot / FIRST_ITEM_SLOT < pool->nr_blocks;
}

/*
 * A checksum of a page. Each word changes its lane's state by a bijection, so a change within one
 * word is lost only in the final fold, one time in 2^32. Eight lanes keep the multiplier busy;
 * without the unrolling they live in memory and take twice the time.
 */
static uint32_t page_sum(const void *page)
{
	const uint64_t odd = 0x9e3779b97f4a7c15ull;
	const unsigned char *at = page;
	uint64_t lane[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	uint64_t sum = 0;

	for (size_t i = 0; i < TIER_PAGE_BYTES; i += sizeof(lane)) {
#pragma GCC unroll 8
		for (size_t j = 0; j < 8; j++) {
			uint64_t word;

			memcpy(&word, at + i + j * sizeof(word), sizeof(word));
			lane[j] = (lane[j] ^ word) * odd;
			lane[j] = lane[j] << 29 | lane[j] >> 35;
		}
	}
	for (size_t j = 0; j < 8; j++) {
		sum = (sum ^ lane[j]) * odd;
		sum ^= sum >> 29;
	}
	return (uint32_t)(sum >> 32);
}

/* ---- items ------------------------------------------------------------------------------------ */

/* Also tells which item the next store of this size will likely get; 0: unknown. `must`: whatever the capacity. */
static int item_take(struct pool *pool, uint32_t size, bool must, uint32_t *ret_slot, uint32_t *ret_next)
{
	int err = 0;

	pthread_mutex_lock(&pool->lock);
	pool_collect(pool);
	while (!pool->rings[size].head && slab_new(pool, size)) {
		err = pool_grow(pool, must);
		if (err)
			break;
	}
	/* Full: a larger item that is free will do. */
	while (err && !pool->rings[size].head && size < NR_SIZES)
		size++;
	if (pool->rings[size].head) {
		*ret_slot = slab_take(pool, size);
		*ret_next = slab_peek(pool, size);
		err = 0;
	}
	pthread_mutex_unlock(&pool->lock);
	return err;
}

/* Fetch an item that will be written soon: it arrives while the next page is being compressed. */
static void item_expect(const struct pool *pool, uint32_t slot, uint32_t length)
{
	const unsigned char *item = pool->base + (uint64_t)slot * SLOT_BYTES;

	for (uint32_t at = 0; slot && at < length; at += SLOT_BYTES)
		__builtin_prefetch(item + at, 1);
}

/* Nobody holds a reference any more. Items leave the stack all at once, so a push need not care what
 * happened since it looked, so long as the top it saw is the top again. */
static void item_free(struct pool *pool, uint32_t slot)
{
	uint32_t top = atomic_load_explicit(&pool->freed, memory_order_relaxed);

	do {
		atomic_store_explicit(item_at(pool, slot), (uint64_t)top << 32,
				      memory_order_relaxed);
		/* Release: pairs with the exchange in pool_collect. */
	} while (!atomic_compare_exchange_weak_explicit(&pool->freed, &top, slot,
							memory_order_release,
							memory_order_relaxed));
}

static void item_write(struct pool *pool, uint32_t slot, uint32_t length, uint32_t sum)
{
	_Atomic uint64_t *item = item_at(pool, slot);

	words_out(item + 1, scratch.packed, (length + 7) / 8);
	atomic_store_explicit(item, (uint64_t)sum << 32 | REF_ONE | length, memory_order_relaxed);
}

/* Copy the item away and unpack it. The copy cannot change while lz4 looks at it. */
static int item_read(const struct pool *pool, uint32_t slot, void *ret_page)
{
	const _Atomic uint64_t *item = item_at(pool, slot);
	uint64_t header = atomic_load_explicit(item, memory_order_relaxed);
	uint32_t length = (uint32_t)(header & LENGTH_MASK);

	if (!(header & REF_MASK) || length == 0 || length > PACKED_KEPT_BYTES)
		return -EIO;
	words_in(scratch.packed, item + 1, (length + 7) / 8);
	if (LZ4_decompress_safe((const char *)scratch.packed, ret_page, (int)length,
				TIER_PAGE_BYTES) != (int)TIER_PAGE_BYTES)
		return -EIO;
	if (pool->verify && page_sum(ret_page) != header >> 32)
		return -EIO;
	return 0;
}

/* ---- the contract ----------------------------------------------------------------------------- */

/* Compressed to `most` bytes at most, or -E2BIG. */
static int page_pack(struct pool *pool, const void *page, int most, bool must, uint32_t *ret_slot)
{
	uint32_t slot = 0, next = 0;
	int length = LZ4_compress_fast_extState(&scratch.lz4, page, (char *)scratch.packed, TIER_PAGE_BYTES,
						most, 1);

	if (length <= 0)
		return -E2BIG;
	int err = item_take(pool, ((uint32_t)length + 8 + SLOT_BYTES - 1) / SLOT_BYTES, must, &slot, &next);
	if (err)
		return err;
	item_write(pool, slot, (uint32_t)length, pool->verify ? page_sum(page) : 0);
	item_expect(pool, next, (uint32_t)length);
	*ret_slot = slot;
	return 0;
}

static int page_store(struct pool *pool, const void *page, int most, bool must, uint32_t *ret_slot)
{
	uint64_t word;

	if (page_is_word(page, &word)) {
		uint32_t slot = word_store(pool, word);
		if (slot) {
			*ret_slot = slot;
			return 0;
		}
	}
	return page_pack(pool, page, most, must, ret_slot);
}

/* Where memory is bounded, a page that hardly compresses saves nothing here. Where it is not, the page must make
 * room all the same: else pages in use go in its stead. */
static int pool_store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	struct pool *pool = pool_of(tier);
	bool bounded = atomic_load_explicit(&pool->capacity_bytes, memory_order_relaxed);

	return page_store(pool, page, bounded ? PACKED_MAX_BYTES : PACKED_KEPT_BYTES, false, ret_slot);
}

static int pool_keep(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	return page_store(pool_of(tier), page, PACKED_KEPT_BYTES, true, ret_slot);
}

/* An item comes from memory that nobody has looked at for long. How long it is stands in it. */
static void pool_expect(struct tier *tier, uint32_t slot)
{
	const struct pool *pool = pool_of(tier);

	if (slot_is_item(pool, slot))
		for (uint32_t at = 0; at < EXPECT_BYTES; at += SLOT_BYTES)
			__builtin_prefetch(pool->base + (uint64_t)slot * SLOT_BYTES + at);
}

static int pool_load(struct tier *tier, uint32_t slot, void *ret_page)
{
	struct pool *pool = pool_of(tier);

	if (slot_is_item(pool, slot))
		return item_read(pool, slot, ret_page);
	if (slot == 0 || !slot_is_word(slot))
		return -EIO;
	word_fill(pool, slot, ret_page);
	return 0;
}

static int pool_compare(struct tier *tier, uint32_t slot, const void *page)
{
	int err = pool_load(tier, slot, scratch.page);

	return err ? err : memcmp(scratch.page, page, TIER_PAGE_BYTES) != 0;
}

static void pool_ref(struct tier *tier, uint32_t slot)
{
	struct pool *pool = pool_of(tier);
	uint64_t before;

	if (slot_is_word(slot)) {
		tide_assert(slot);
		word_ref(pool, &pool->words[slot - 1]);
		return;
	}
	tide_assert(slot_is_item(pool, slot));
	before = atomic_fetch_add_explicit(item_at(pool, slot), REF_ONE, memory_order_relaxed);
	tide_assert((before & REF_MASK) != 0 && (before & REF_MASK) != REF_MASK);
}

static void pool_unref(struct tier *tier, uint32_t slot)
{
	struct pool *pool = pool_of(tier);
	uint64_t before;

	if (slot_is_word(slot)) {
		tide_assert(slot);
		word_unref(pool, &pool->words[slot - 1]);
		return;
	}
	tide_assert(slot_is_item(pool, slot));
	/* Release and acquire: all uses through other references are over before the item is free. */
	before = atomic_fetch_sub_explicit(item_at(pool, slot), REF_ONE, memory_order_acq_rel);
	tide_assert((before & REF_MASK) != 0);
	if ((before & REF_MASK) == REF_ONE)
		item_free(pool, slot);
}

static void pool_usage(struct tier *tier, struct tier_usage *ret_usage)
{
	struct pool *pool = pool_of(tier);

	pthread_mutex_lock(&pool->lock);
	pool_collect(pool);
	pool_shrink(pool);
	*ret_usage = (struct tier_usage){
		.capacity_bytes = pool->capacity_bytes,
		.used_bytes = pool->used_bytes,
		.peak_bytes = pool->peak_bytes,
		.stored_bytes = pool->stored_bytes,
		/* What lies beyond the blocks seen was never touched and takes no memory. */
		.metadata_bytes = sizeof(*pool) + NR_WORDS * sizeof(struct word) +
				  buddy_bytes((uint32_t)pool->nr_blocks_seen + 1) +
				  pool->nr_blocks / 8 +
				  pool->nr_blocks_seen * BLOCK_SLABS * sizeof(struct slab),
		.pages = pool->nr_items +
			 atomic_load_explicit(&pool->nr_words, memory_order_relaxed),
	};
	pthread_mutex_unlock(&pool->lock);
}

static void pool_set_capacity(struct tier *tier, uint64_t bytes)
{
	struct pool *pool = pool_of(tier);

	pthread_mutex_lock(&pool->lock);
	atomic_store_explicit(&pool->capacity_bytes, bytes, memory_order_relaxed);
	pool_collect(pool);
	pool_shrink(pool);
	pthread_mutex_unlock(&pool->lock);
}

static uint64_t pool_range_bytes(const struct pool *pool)
{
	/* The last item may claim more bytes than it has: a page behind the end, never written. */
	return pool->nr_blocks * BLOCK_BYTES + TIER_PAGE_BYTES;
}

static void pool_close(struct tier *tier)
{
	struct pool *pool = tier ? pool_of(tier) : NULL;

	if (!pool)
		return;
	munmap(pool->base, pool_range_bytes(pool));
	munmap(pool->meta, pool->meta_bytes);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static const struct tier_ops pool_ops = {
	.name = "lz4",
	.store = pool_store,
	.keep = pool_keep,
	.expect = pool_expect,
	.load = pool_load,
	.compare = pool_compare,
	.ref = pool_ref,
	.unref = pool_unref,
	.usage = pool_usage,
	.set_capacity = pool_set_capacity,
	.close = pool_close,
};

/* Addresses only; memory comes with use. NULL when there is no room for them. */
static void *range_reserve(uint64_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* The range, as large as the system lets us have, aligned to blocks so that huge pages fit. */
static int pool_reserve(struct pool *pool)
{
	uint64_t skip;
	unsigned char *at = NULL;

	for (pool->nr_blocks = BLOCKS_MAX; !at && pool->nr_blocks > 8; ) {
		at = range_reserve(pool_range_bytes(pool) + BLOCK_BYTES);
		if (!at)
			pool->nr_blocks /= 2;
	}
	if (!at)
		return -ENOMEM;
	skip = -(uintptr_t)at % BLOCK_BYTES;
	pool->base = at + skip;
	if (skip)
		munmap(at, skip);
	if (skip < BLOCK_BYTES)
		munmap(pool->base + pool_range_bytes(pool), BLOCK_BYTES - skip);
	/* Small pages: the ones that demotion has just freed are warm, while a free huge page often is
	 * not even backed by the host. Both ways were measured on
	 * the development machine; small pages made demotion cheaper. */
	madvise(pool->base, pool->nr_blocks * BLOCK_BYTES, MADV_NOHUGEPAGE);
	return 0;
}

static int pool_init(struct pool *pool)
{
	size_t slabs_bytes, words_bytes = NR_WORDS * sizeof(struct word);
	unsigned char *meta;
	uint32_t page;
	int err = pool_reserve(pool);

	if (err)
		return err;
	slabs_bytes = pool->nr_blocks * BLOCK_SLABS * sizeof(struct slab);
	pool->meta_bytes = slabs_bytes + words_bytes + buddy_bytes((uint32_t)pool->nr_blocks);
	meta = range_reserve(pool->meta_bytes);
	if (!meta) {
		munmap(pool->base, pool_range_bytes(pool));
		return -ENOMEM;
	}
	pool->meta = meta;
	pool->words = (void *)meta;
	pool->slabs = (void *)(meta + words_bytes);
	buddy_init(&pool->buddy, meta + words_bytes + slabs_bytes, (uint32_t)pool->nr_blocks);
	/* Block 0's slot numbers name words; it is never given out. */
	err = buddy_take(&pool->buddy, BUDDY_RETURNED, BUDDY_ORDER_TOP, &page);
	tide_assert(err == 0 && page == 0);
	pthread_mutex_init(&pool->lock, NULL);
	return 0;
}

int pool_open(uint64_t capacity_bytes, bool verify, struct tier **ret_tier)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	int err;

	if (!pool)
		return -ENOMEM;
	pool->tier.ops = &pool_ops;
	pool->verify = verify;
	pool->capacity_bytes = capacity_bytes;
	err = pool_init(pool);
	if (err) {
		free(pool);
		return err;
	}
	*ret_tier = &pool->tier;
	return 0;
}
