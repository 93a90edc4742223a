/* SPDX-License-Identifier: MIT */
/*
 * Slot s is page s of a reserved range; buddy says which are free; an array counts references.
 *
 * What must always hold: a page that buddy calls free holds no memory; used bytes are the pages
 * that are taken.
 */
#include "ram.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "assert.h"
#include "buddy.h"
#include "words.h"

#define NR_BLOCKS (1u << 15) /* 64 GiB */
#define NR_PAGES (NR_BLOCKS * BUDDY_BLOCK_PAGES)
#define PAGES_BYTES ((size_t)NR_PAGES * TIER_PAGE_BYTES)
#define PAGE_WORDS (TIER_PAGE_BYTES / sizeof(uint64_t))

struct ram {
	struct tier tier;
	unsigned char *pages;    /* [NR_PAGES], behind it the counts and buddy's memory */
	_Atomic uint32_t *refs;  /* [NR_PAGES] */
	size_t range_bytes;

	pthread_mutex_t lock;    /* over all below */
	struct buddy buddy;
	uint64_t capacity_bytes, used_bytes, peak_bytes;
	uint32_t nr_seen;        /* slots below were used at some time */
};

static struct ram *ram_of(struct tier *tier)
{
	return (struct ram *)tier; /* its first member */
}

static _Atomic uint64_t *page_at(const struct ram *ram, uint32_t slot)
{
	return (_Atomic uint64_t *)(void *)(ram->pages + (size_t)slot * TIER_PAGE_BYTES);
}

static int page_store(struct ram *ram, const void *page, bool must, uint32_t *ret_slot)
{
	uint32_t slot = 0;
	int err = -ENOSPC;

	pthread_mutex_lock(&ram->lock);
	if (must || !ram->capacity_bytes || ram->used_bytes + TIER_PAGE_BYTES <= ram->capacity_bytes)
		err = buddy_take(&ram->buddy, BUDDY_RETURNED, 0, &slot);
	if (!err) {
		ram->used_bytes += TIER_PAGE_BYTES;
		if (ram->used_bytes > ram->peak_bytes)
			ram->peak_bytes = ram->used_bytes;
		if (ram->nr_seen <= slot)
			ram->nr_seen = slot + 1;
	}
	pthread_mutex_unlock(&ram->lock);
	if (err)
		return err;

	words_out(page_at(ram, slot), page, PAGE_WORDS);
	atomic_store_explicit(&ram->refs[slot], 1, memory_order_relaxed);
	*ret_slot = slot;
	return 0;
}

static int ram_store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	return page_store(ram_of(tier), page, false, ret_slot);
}

/* Refuses nothing anyway. */
static int ram_keep(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	return page_store(ram_of(tier), page, true, ret_slot);
}

static void ram_expect(struct tier *tier, uint32_t slot)
{
	if (slot < NR_PAGES)
		__builtin_prefetch(page_at(ram_of(tier), slot));
}

static int ram_load(struct tier *tier, uint32_t slot, void *ret_page)
{
	struct ram *ram = ram_of(tier);

	if (slot == 0 || slot >= NR_PAGES ||
	    !atomic_load_explicit(&ram->refs[slot], memory_order_relaxed))
		return -EIO;
	words_in(ret_page, page_at(ram, slot), PAGE_WORDS);
	return 0;
}

static int ram_compare(struct tier *tier, uint32_t slot, const void *page)
{
	unsigned char content[TIER_PAGE_BYTES];
	int err = ram_load(tier, slot, content);

	return err ? err : memcmp(content, page, sizeof(content)) != 0;
}

static void ram_ref(struct tier *tier, uint32_t slot)
{
	uint32_t before = atomic_fetch_add_explicit(&ram_of(tier)->refs[slot], 1,
						    memory_order_relaxed);

	tide_assert(slot && before > 0);
}

static void ram_unref(struct tier *tier, uint32_t slot)
{
	struct ram *ram = ram_of(tier);
	/* Release and acquire: uses through other references are over before the page is free. */
	uint32_t before = atomic_fetch_sub_explicit(&ram->refs[slot], 1, memory_order_acq_rel);

	tide_assert(slot && before > 0);
	if (before > 1)
		return;
	madvise(ram->pages + (size_t)slot * TIER_PAGE_BYTES, TIER_PAGE_BYTES, MADV_DONTNEED);
	pthread_mutex_lock(&ram->lock);
	buddy_give(&ram->buddy, BUDDY_RETURNED, 0, slot);
	ram->used_bytes -= TIER_PAGE_BYTES;
	pthread_mutex_unlock(&ram->lock);
}

static void ram_usage(struct tier *tier, struct tier_usage *ret_usage)
{
	struct ram *ram = ram_of(tier);

	pthread_mutex_lock(&ram->lock);
	*ret_usage = (struct tier_usage){
		.capacity_bytes = ram->capacity_bytes,
		.used_bytes = ram->used_bytes,
		.peak_bytes = ram->peak_bytes,
		.stored_bytes = ram->used_bytes,
		.metadata_bytes = sizeof(*ram) + ram->nr_seen * sizeof(*ram->refs) +
				  buddy_bytes(ram->nr_seen / BUDDY_BLOCK_PAGES + 1),
		.pages = ram->used_bytes / TIER_PAGE_BYTES,
	};
	pthread_mutex_unlock(&ram->lock);
}

static void ram_set_capacity(struct tier *tier, uint64_t bytes)
{
	struct ram *ram = ram_of(tier);

	pthread_mutex_lock(&ram->lock);
	ram->capacity_bytes = bytes;
	pthread_mutex_unlock(&ram->lock);
}

static void ram_close(struct tier *tier)
{
	struct ram *ram = tier ? ram_of(tier) : NULL;

	if (!ram)
		return;
	munmap(ram->pages, ram->range_bytes);
	pthread_mutex_destroy(&ram->lock);
	free(ram);
}

static const struct tier_ops ram_ops = {
	.name = "ram",
	.store = ram_store,
	.keep = ram_keep,
	.expect = ram_expect,
	.load = ram_load,
	.compare = ram_compare,
	.ref = ram_ref,
	.unref = ram_unref,
	.usage = ram_usage,
	.set_capacity = ram_set_capacity,
	.close = ram_close,
};

int ram_open(uint64_t capacity_bytes, struct tier **ret_tier)
{
	size_t refs_bytes = NR_PAGES * sizeof(_Atomic uint32_t);
	struct ram *ram = calloc(1, sizeof(*ram));
	uint32_t slot;
	void *at;
	int err;

	if (!ram)
		return -ENOMEM;
	ram->range_bytes = PAGES_BYTES + refs_bytes + buddy_bytes(NR_BLOCKS);
	at = mmap(NULL, ram->range_bytes, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		free(ram);
		return -ENOMEM;
	}
	ram->tier.ops = &ram_ops;
	ram->capacity_bytes = capacity_bytes;
	ram->pages = at;
	ram->refs = (void *)(ram->pages + PAGES_BYTES);
	buddy_init(&ram->buddy, ram->pages + PAGES_BYTES + refs_bytes, NR_BLOCKS);
	pthread_mutex_init(&ram->lock, NULL);
	err = buddy_take(&ram->buddy, BUDDY_RETURNED, 0, &slot); /* slot 0 is no slot */
	tide_assert(err == 0 && slot == 0);
	*ret_tier = &ram->tier;
	return 0;
}
