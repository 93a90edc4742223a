/* SPDX-License-Identifier: MIT */
/*
 * Where items lie: blocks from the buddy, cut into slabs of one item size each; the slabs of a size with room
 * are a ring, filled in the order in which they got it. All of it under the pool's lock.
 */
#include <errno.h>
#include <sys/mman.h>

#include "assert.h"
#include "pool_inner.h"

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

int slab_new(struct pool *pool, uint32_t size)
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

uint32_t slab_peek(const struct pool *pool, uint32_t size)
{
	uint32_t number = pool->rings[size].head, word;
	const struct slab *slab = &pool->slabs[number];

	if (!number)
		return 0;
	for (word = slab->hint; !slab->free[word]; word++)
		;
	return number * SLAB_SLOTS + word * 64 + (uint32_t)__builtin_ctzll(slab->free[word]);
}

uint32_t slab_take(struct pool *pool, uint32_t size)
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

void pool_collect(struct pool *pool)
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

int pool_grow(struct pool *pool, bool must)
{
	uint32_t page;
	unsigned char *at;
	int err;

	if (!must && pool->capacity_bytes && pool->used_bytes + BLOCK_BYTES > pool->capacity_bytes)
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

void pool_shrink(struct pool *pool)
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
