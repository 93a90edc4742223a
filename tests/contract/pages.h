/* SPDX-License-Identifier: MIT */
/* Pages of every kind that a tier treats apart, made from a seed, so that a test can make the same
 * page again to compare with. */
#ifndef TIDE_TEST_PAGES_H
#define TIDE_TEST_PAGES_H

#include <stdint.h>
#include <string.h>

#include "rng.h"
#include "tier.h"

enum page_kind {
	KIND_ZERO,
	KIND_FEW_WORDS,  /* one repeated word, out of few */
	KIND_MANY_WORDS, /* one repeated word, hardly ever the same one */
	KIND_TEXT,
	KIND_PREFIX,     /* random bytes up to a random place, then zeros: any compressed length */
	KIND_EDGE,       /* the same, close to where a pool refuses */
	KIND_SPARSE,     /* zeros with a few random bytes */
	KIND_RANDOM,
	KIND_COUNT
};

static inline void page_random(unsigned char *page, size_t nr_bytes, uint64_t *state)
{
	for (size_t i = 0; i < nr_bytes; i++)
		page[i] = (unsigned char)(rng_next(state) >> 56);
}

static inline void page_words(unsigned char *page, uint64_t word)
{
	for (size_t i = 0; i < TIER_PAGE_BYTES; i += sizeof(word))
		memcpy(page + i, &word, sizeof(word));
}

static inline void page_text(unsigned char *page, uint64_t *state)
{
	static const char *const words[] = { "tide ", "slack ", "moon ", "estuary ", "ebb, ", "and ",
					     "a ",    "neap ",  "the ",  "rises; ",  "42 ",   "\n" };
	size_t at = 0;

	while (at < TIER_PAGE_BYTES) {
		const char *word = words[rng_next(state) % (sizeof(words) / sizeof(*words))];
		size_t length = strlen(word);

		if (length > TIER_PAGE_BYTES - at)
			length = TIER_PAGE_BYTES - at;
		memcpy(page + at, word, length);
		at += length;
	}
}

static inline void page_make_kind(unsigned char *page, enum page_kind kind, uint64_t seed)
{
	uint64_t state = seed;

	memset(page, 0, TIER_PAGE_BYTES);
	switch (kind) {
	case KIND_ZERO:
	case KIND_COUNT:
		break;
	case KIND_FEW_WORDS:
		page_words(page, 0x0101010101010101ull * (seed % 5 + 1));
		break;
	case KIND_MANY_WORDS:
		page_words(page, rng_next(&state));
		break;
	case KIND_TEXT:
		page_text(page, &state);
		break;
	case KIND_PREFIX:
		page_random(page, rng_next(&state) % (TIER_PAGE_BYTES + 1), &state);
		break;
	case KIND_EDGE:
		page_random(page, 3000 + rng_next(&state) % 100, &state);
		break;
	case KIND_SPARSE:
		for (int i = 0; i < 20; i++)
			page[rng_next(&state) % TIER_PAGE_BYTES] = (unsigned char)rng_next(&state);
		break;
	case KIND_RANDOM:
		page_random(page, TIER_PAGE_BYTES, &state);
		break;
	}
}

static inline void page_make(unsigned char *page, uint64_t seed)
{
	uint64_t state = seed ^ 0x5eed;

	page_make_kind(page, (enum page_kind)(rng_next(&state) % KIND_COUNT), seed);
}

#endif
