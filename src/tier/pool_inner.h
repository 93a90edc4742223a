/* SPDX-License-Identifier: MIT */
/* What the parts of the pool share: its head (pool.c) tells how they work together, and who locks what. */
#ifndef TIDE_POOL_INNER_H
#define TIDE_POOL_INNER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "buddy.h"
#include "pool.h"

#define SLOT_BYTES 64u
#define ITEM_MAX_BYTES (TIER_PAGE_BYTES * 3 / 4) /* of a page that may be refused */
#define KEPT_MAX_BYTES (TIER_PAGE_BYTES + 40)    /* of one that may not: what lz4 makes of it at worst, and a header */
#define NR_SIZES ((KEPT_MAX_BYTES + SLOT_BYTES - 1) / SLOT_BYTES)

#define SLAB_BYTES (64u << 10)
#define SLAB_SLOTS (SLAB_BYTES / SLOT_BYTES)
#define SLAB_ORDER 4u
#define BLOCK_BYTES (2u << 20)
#define BLOCK_SLABS (BLOCK_BYTES / SLAB_BYTES)

#define WORD_WAYS 8u
#define WORD_SETS 512u
#define NR_WORDS (WORD_WAYS * WORD_SETS)

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
	_Atomic uint64_t capacity_bytes; /* read without it as well */
	uint64_t used_bytes, peak_bytes, stored_bytes;
	uint64_t nr_items;
	uint64_t nr_blocks_seen; /* blocks below were used at some time */
};

static inline _Atomic uint64_t *item_at(const struct pool *pool, uint32_t slot)
{
	return (_Atomic uint64_t *)(void *)(pool->base + (uint64_t)slot * SLOT_BYTES);
}

/* ---- pages of one repeated word (pool_word.c); they take the lock where it is needed ---- */

bool page_is_word(const void *page, uint64_t *ret_word);
/* A slot for pages of `value`; 0 when the table has no room for it. Zero always has room. */
uint32_t word_store(struct pool *pool, uint64_t value);
void word_ref(struct pool *pool, struct word *word);
void word_unref(struct pool *pool, struct word *word);
void word_fill(const struct pool *pool, uint32_t slot, void *ret_page);

/* ---- slabs and blocks (pool_slab.c): all under the lock ---- */

/* An empty slab for items of `size` slots. -ENOSPC: no block has room for one. */
int slab_new(struct pool *pool, uint32_t size);
/* The item that the next take of `size` gives; 0 when no slab has room. */
uint32_t slab_peek(const struct pool *pool, uint32_t size);
/* An item of `size`, of which some slab has room. */
uint32_t slab_take(struct pool *pool, uint32_t size);
/* Sort in what was freed since. */
void pool_collect(struct pool *pool);
/* One more block of memory. Lets go of the lock meanwhile. -ENOSPC. */
int pool_grow(struct pool *pool, bool must);
/* Give whole free blocks back to the system, but for those worth keeping. Lets go of the lock meanwhile. */
void pool_shrink(struct pool *pool);

#endif
