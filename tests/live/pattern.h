/* SPDX-License-Identifier: MIT */
/*
 * What a page of a live test holds: bytes that follow from (seed, index, generation) alone.
 *
 * So a page that is lost, stale, torn, or swapped with another one is seen, whichever byte it is.
 * Most pages compress about 3 : 1 (each 64-byte line is 16 fresh bytes and 48 that repeat within
 * the page); some are one repeated word, and some do not compress at all, because a runtime treats
 * those by rules of their own. Generation 0 is memory never written: zeros.
 */
#ifndef LIVE_PATTERN_H
#define LIVE_PATTERN_H

#include <stdint.h>
#include <string.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / 8u)

static inline uint64_t pattern_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline uint64_t pattern_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545f4914f6cdd1du;
}

/* Kinds of content by index: most compress, 1 of 16 is one word, 1 of 64 does not compress. */
static inline void pattern_page(void *page, uint64_t seed, uint64_t index, uint32_t generation)
{
	uint64_t state = pattern_mix(seed ^ pattern_mix(index ^ ((uint64_t)generation << 40))) | 1;
	uint64_t words[8];
	unsigned char *out = page;

	if (generation == 0) {
		memset(out, 0, PAGE_BYTES);
		return;
	}
	for (unsigned int i = 0; i < 8; i++)
		words[i] = pattern_next(&state);
	for (unsigned int i = 0; i < PAGE_WORDS; i += 8) {
		if (index % 64 == 63) {
			for (unsigned int j = 0; j < 8; j++)
				words[j] = pattern_next(&state);
		} else if (index % 16 == 5) {
			for (unsigned int j = 1; j < 8; j++)
				words[j] = words[0];
		} else {
			words[0] = pattern_next(&state);
			words[1] = pattern_next(&state);
		}
		memcpy(out + i * 8, words, sizeof(words));
	}
}

#endif
