/* SPDX-License-Identifier: MIT */
/*
 * Pages that are one word again and again: a table of such words, sets of a few ways by the word's hash. A
 * slot is a place in the table. A value changes under the pool's lock alone, and only while nobody refers
 * to it; references come and go without.
 */
#include <string.h>

#include "assert.h"
#include "pool_inner.h"

#define PAGE_WORDS (TIER_PAGE_BYTES / sizeof(uint64_t))

bool page_is_word(const void *page, uint64_t *ret_word)
{
	const unsigned char *bytes = page;

	if (memcmp(bytes, bytes + sizeof(uint64_t), TIER_PAGE_BYTES - sizeof(uint64_t)) != 0)
		return false;
	memcpy(ret_word, page, sizeof(*ret_word));
	return true;
}

void word_ref(struct pool *pool, struct word *word)
{
	if (atomic_fetch_add_explicit(&word->nr_refs, 1, memory_order_relaxed) == 0)
		atomic_fetch_add_explicit(&pool->nr_words, 1, memory_order_relaxed);
}

void word_unref(struct pool *pool, struct word *word)
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

uint32_t word_store(struct pool *pool, uint64_t value)
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

void word_fill(const struct pool *pool, uint32_t slot, void *ret_page)
{
	uint64_t value =
		atomic_load_explicit(&pool->words[slot - 1].value, memory_order_relaxed);
	unsigned char *at = ret_page;

	for (size_t i = 0; i < PAGE_WORDS; i++)
		memcpy(at + i * sizeof(value), &value, sizeof(value));
}
