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
 *   tail       a slab's end that no item fits in: at most 1/25 of a slab
 *   room       filling only: one slab not full for each of 48 sizes, and the free slabs of one block
 *              so after stores alone: used <= stored * 25/24 + 48 * 64 KiB + 2 MiB
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
#include "buddy.h"
#include "words.h"

#define SLOT_BYTES 64u
#define ITEM_MAX_BYTES (TIER_PAGE_BYTES * 3 / 4)
#define PACKED_MAX_BYTES (ITEM_MAX_BYTES - (unsigned)sizeof(uint64_t))
#define NR_SIZES (ITEM_MAX_BYTES / SLOT_BYTES)

#define SLAB_BYTES (64u << 10)
#define SLAB_SLOTS (SLAB_BYTES / SLOT_BYTES)
#define SLAB_ORDER 4u
#define BLOCK_BYTES (2u << 20)
#define BLOCK_SLABS (BLOCK_BYTES / SLAB_BYTES)
#define FIRST_ITEM_SLOT (BLOCK_BYTES / SLOT_BYTES)
#define BLOCKS_MAX (1u << 17) /* 256 GiB: what 32-bit slots can name */

#define LENGTH_MASK 0xfffull
#define REF_ONE (1ull << 12)
#define REF_MASK 0xfffff000ull

#define WORD_WAYS 8u
#define WORD_SETS 512u
#define NR_WORDS (WORD_WAYS * WORD_SETS)
#define PAGE_WORDS (TIER_PAGE_BYTES / sizeof(uint64_t))

struct slab {
	uint32_t next, prev; /* slabs of this size with room; slab 0 is none */
	uint16_t size;       /* in slots; 0: not a slab */
	uint16_t nr_used;
	uint16_t hint;       /* words of `free` below are zero */
	uint64_t free[SLAB_SLOTS / 64]; /* bit i: an item that starts at slot i is free */
};

struct ring {
	uint32_t head, tail;
};

/* A word that pages consist of. Free when it has no reference. */
struct word {
	_Atomic uint64_t value;
	_Atomic uint64_t nr_refs;
};

struct pool {
	struct tier tier;
	bool verify;
	unsigned char *base;
	uint64_t nr_blocks;      /* reserved */
	void *meta;
	size_t meta_bytes;
	struct slab *slabs;      /* [nr_blocks * BLOCK_SLABS] */
	struct word *words;      /* [NR_WORDS]; entry 0 is the zero word's for ever */
	_Atomic uint64_t nr_words;
	_Atomic uint32_t freed;  /* stack of freed items: the slot last freed; 0: none */

	pthread_mutex_t lock;    /* over all below */
	struct buddy buddy;
	struct ring rings[NR_SIZES + 1];
	uint64_t capacity_bytes, used_bytes, peak_bytes, stored_bytes;
	uint64_t nr_items;
	uint64_t nr_blocks_seen; /* blocks below were used at some time */
};

/* What a thread needs for itself. Static, so that nothing is allocated where a fault is served. */
struct scratch {
	LZ4_stream_t lz4;
	uint64_t packed[TIER_PAGE_BYTES / sizeof(uint64_t)];
	unsigned char page[TIER_PAGE_BYTES];
};
static _Thread_local struct scratch scratch __attribute__((aligned(64)));

static struct pool *pool_of(struct tier *tier)
{
	return (struct pool *)tier; /* its first member */
}

static _Atomic uint64_t *item_at(const struct pool *pool, uint32_t slot)
{
	return (_Atomic uint64_t *)(void *)(pool->base + (uint64_t)slot * SLOT_BYTES);
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

/* ---- pages of one repeated word --------------------------------------------------------------- */

static bool page_is_word(const void *page, uint64_t *ret_word)
{
	const unsigned char *bytes = page;

	if (memcmp(bytes, bytes + sizeof(uint64_t), TIER_PAGE_BYTES - sizeof(uint64_t)) != 0)
		return false;
	memcpy(ret_word, page, sizeof(*ret_word));
	return true;
}

static void word_ref(struct pool *pool, struct word *word)
{
	if (atomic_fetch_add_explicit(&word->nr_refs, 1, memory_order_relaxed) == 0)
		atomic_fetch_add_explicit(&pool->nr_words, 1, memory_order_relaxed);
}

static void word_unref(struct pool *pool, struct word *word)
{
	/* Release: who finds it free (word_store) may change the value after we were done with it. */
	uint64_t before = atomic_fetch_sub_explicit(&word->nr_refs, 1, memory_order_release);

	tide_assert(before > 0);
	if (before == 1)
		atomic_fetch_sub_explicit(&pool->nr_words, 1, memory_order_relaxed);
}

/* Another reference, unless it has none. */
static bool word_ref_again(struct word *word)
{
	uint64_t refs = atomic_load_explicit(&word->nr_refs, memory_order_relaxed);

	while (refs) {
		if (atomic_compare_exchange_weak_explicit(&word->nr_refs, &refs, refs + 1,
							  memory_order_relaxed,
							  memory_order_relaxed))
			return true;
	}
	return false;
}

/* A slot for pages of `value`; 0 when the table has no room for it. Zero always has room. */
static uint32_t word_store(struct pool *pool, uint64_t value)
{
	uint32_t first = (uint32_t)(value * 0x9e3779b97f4a7c15ull >> 55) * WORD_WAYS;
	uint32_t found = 0;

	if (value == 0) {
		word_ref(pool, &pool->words[0]);
		return 1;
	}
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = first ? first : 1; i < first + WORD_WAYS; i++) {
		struct word *word = &pool->words[i];

		/* Only here, under the lock, does a value change, and only while it is free. */
		if (atomic_load_explicit(&word->value, memory_order_relaxed) == value &&
		    word_ref_again(word)) {
			found = i;
			goto out;
		}
		/* Acquire: pairs with word_unref. */
		if (!found && !atomic_load_explicit(&word->nr_refs, memory_order_acquire))
			found = i;
	}
	if (found) {
		atomic_store_explicit(&pool->words[found].value, value, memory_order_relaxed);
		word_ref(pool, &pool->words[found]);
	}
out:
	pthread_mutex_unlock(&pool->lock);
	return found ? found + 1 : 0;
}

static void word_fill(const struct pool *pool, uint32_t slot, void *ret_page)
{
	uint64_t value =
		atomic_load_explicit(&pool->words[slot - 1].value, memory_order_relaxed);
	unsigned char *at = ret_page;

	for (size_t i = 0; i < PAGE_WORDS; i++)
		memcpy(at + i * sizeof(value), &value, sizeof(value));
}

/* ---- slabs: all under the lock ---------------------------------------------------------------- */

static void ring_add(struct pool *pool, uint32_t number)
{
	struct slab *slab = &pool->slabs[number];
	struct ring *ring = &pool->rings[slab->size];

	slab->next = 0;
	slab->prev = ring->tail;
	if (ring->tail)
		pool->slabs[ring->tail].next = number;
	else
		ring->head = number;
	ring->tail = number;
}

static void ring_remove(struct pool *pool, uint32_t number)
{
	struct slab *slab = &pool->slabs[number];
	struct ring *ring = &pool->rings[slab->size];

	if (slab->prev)
		pool->slabs[slab->prev].next = slab->next;
	else
		ring->head = slab->next;
	if (slab->next)
		pool->slabs[slab->next].prev = slab->prev;
	else
		ring->tail = slab->prev;
}

static bool slab_full(const struct slab *slab)
{
	return slab->nr_used == SLAB_SLOTS / slab->size;
}

static int slab_new(struct pool *pool, uint32_t size)
{
	uint32_t page, number;
	struct slab *slab;
	int err = buddy_take(&pool->buddy, BUDDY_WARM, SLAB_ORDER, &page);

	if (err)
		return err;
	number = page >> SLAB_ORDER;
	slab = &pool->slabs[number];
	*slab = (struct slab){ .size = (uint16_t)size };
	for (uint32_t at = 0; at + size <= SLAB_SLOTS; at += size)
		slab->free[at / 64] |= 1ull << (at % 64);
	ring_add(pool, number);
	return 0;
}

/* The item that the next take of `size` gives; 0 when no slab has room. */
static uint32_t slab_peek(const struct pool *pool, uint32_t size)
{
	uint32_t number = pool->rings[size].head, word;
	const struct slab *slab = &pool->slabs[number];

	if (!number)
		return 0;
	for (word = slab->hint; !slab->free[word]; word++)
		;
	return number * SLAB_SLOTS + word * 64 + (uint32_t)__builtin_ctzll(slab->free[word]);
}

/* An item of `size`, of which some slab has room. */
static uint32_t slab_take(struct pool *pool, uint32_t size)
{
	uint32_t slot = slab_peek(pool, size);
	uint32_t number = slot / SLAB_SLOTS, at = slot % SLAB_SLOTS;
	struct slab *slab = &pool->slabs[number];

	slab->hint = (uint16_t)(at / 64);
	slab->free[at / 64] &= ~(1ull << (at % 64));
	slab->nr_used++;
	if (slab_full(slab))
		ring_remove(pool, number);
	pool->stored_bytes += size * SLOT_BYTES;
	pool->nr_items++;
	return slot;
}

static void slab_give(struct pool *pool, uint32_t slot)
{
	uint32_t number = slot / SLAB_SLOTS, at = slot % SLAB_SLOTS;
	struct slab *slab = &pool->slabs[number];

	tide_assert(slab->size && slab->nr_used && !(slab->free[at / 64] >> (at % 64) & 1));
	pool->stored_bytes -= slab->size * SLOT_BYTES;
	pool->nr_items--;
	if (slab_full(slab))
		ring_add(pool, number);
	slab->nr_used--;
	if (slab->nr_used == 0) {
		ring_remove(pool, number);
		slab->size = 0;
		buddy_give(&pool->buddy, BUDDY_WARM, SLAB_ORDER, number << SLAB_ORDER);
		return;
	}
	slab->free[at / 64] |= 1ull << (at % 64);
	if (slab->hint > at / 64)
		slab->hint = (uint16_t)(at / 64);
}

/* Sort in what was freed since. */
static void pool_collect(struct pool *pool)
{
	uint32_t slot;

	if (!atomic_load_explicit(&pool->freed, memory_order_relaxed))
		return;
	/* Acquire: pairs with the push in item_free; the links and the last uses are seen. */
	slot = atomic_exchange_explicit(&pool->freed, 0, memory_order_acquire);
	while (slot) {
		uint32_t next = (uint32_t)(atomic_load_explicit(item_at(pool, slot),
								memory_order_relaxed) >> 32);
		slab_give(pool, slot);
		slot = next;
	}
}

/* One more block of memory. Lets go of the lock meanwhile. */
static int pool_grow(struct pool *pool)
{
	uint32_t page;
	unsigned char *at;
	int err;

	if (pool->capacity_bytes && pool->used_bytes + BLOCK_BYTES > pool->capacity_bytes)
		return -ENOSPC;
	err = buddy_take(&pool->buddy, BUDDY_RETURNED, BUDDY_ORDER_TOP, &page);
	if (err)
		return err;
	pool->used_bytes += BLOCK_BYTES;
	if (pool->used_bytes > pool->peak_bytes)
		pool->peak_bytes = pool->used_bytes;
	if (pool->nr_blocks_seen <= page >> BUDDY_ORDER_TOP)
		pool->nr_blocks_seen = (page >> BUDDY_ORDER_TOP) + 1;

	pthread_mutex_unlock(&pool->lock);
	at = pool->base + (uint64_t)page * TIER_PAGE_BYTES;
	err = madvise(at, BLOCK_BYTES, MADV_POPULATE_WRITE);
	if (err)
		madvise(at, BLOCK_BYTES, MADV_DONTNEED);
	pthread_mutex_lock(&pool->lock);

	if (err)
		pool->used_bytes -= BLOCK_BYTES;
	buddy_give(&pool->buddy, err ? BUDDY_RETURNED : BUDDY_WARM, BUDDY_ORDER_TOP, page);
	return err ? -ENOSPC : 0;
}

/* Give whole free blocks back to the system, but for those worth keeping. Lets go of the lock. */
static void pool_shrink(struct pool *pool)
{
	for (;;) {
		bool over = pool->capacity_bytes && pool->used_bytes > pool->capacity_bytes;
		uint64_t keep = over ? 0 : POOL_KEEP_BYTES / BLOCK_BYTES;
		uint32_t page;

		if (pool->buddy.nr_runs[BUDDY_WARM][BUDDY_ORDER_TOP] <= keep)
			return;
		if (buddy_take(&pool->buddy, BUDDY_WARM, BUDDY_ORDER_TOP, &page))
			return;
		pthread_mutex_unlock(&pool->lock);
		madvise(pool->base + (uint64_t)page * TIER_PAGE_BYTES, BLOCK_BYTES, MADV_DONTNEED);
		pthread_mutex_lock(&pool->lock);
		buddy_give(&pool->buddy, BUDDY_RETURNED, BUDDY_ORDER_TOP, page);
		pool->used_bytes -= BLOCK_BYTES;
	}
}

/* ---- items ------------------------------------------------------------------------------------ */

/* Also tells which item the next store of this size will likely get; 0: unknown. */
static int item_take(struct pool *pool, uint32_t size, uint32_t *ret_slot, uint32_t *ret_next)
{
	int err = 0;

	pthread_mutex_lock(&pool->lock);
	pool_collect(pool);
	while (!pool->rings[size].head && slab_new(pool, size)) {
		err = pool_grow(pool);
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

	if (!(header & REF_MASK) || length == 0 || length > PACKED_MAX_BYTES)
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

static int pool_store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	struct pool *pool = pool_of(tier);
	uint64_t word;
	uint32_t slot, next = 0;
	int length, err;

	if (page_is_word(page, &word)) {
		slot = word_store(pool, word);
		if (slot) {
			*ret_slot = slot;
			return 0;
		}
	}
	length = LZ4_compress_fast_extState(&scratch.lz4, page, (char *)scratch.packed,
					    TIER_PAGE_BYTES, PACKED_MAX_BYTES, 1);
	if (length <= 0)
		return -E2BIG;
	err = item_take(pool, ((uint32_t)length + 8 + SLOT_BYTES - 1) / SLOT_BYTES, &slot, &next);
	if (err)
		return err;
	item_write(pool, slot, (uint32_t)length, pool->verify ? page_sum(page) : 0);
	item_expect(pool, next, (uint32_t)length);
	*ret_slot = slot;
	return 0;
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
	pool->capacity_bytes = bytes;
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
