/* SPDX-License-Identifier: MIT */
/*
 * A packed page is a row of sequences: literals, and a match, which is a piece that has been there before.
 *
 *     7      4 3      0
 *    +--------+--------+-----------------+----------+------------+-----------------+
 *    | nr lit | nr - 4 | more of nr lit  | literals | distance   | more of nr - 4  |
 *    +--------+--------+-----------------+----------+------------+-----------------+
 *      15: more follows   255, 255 .. rest            two bytes    as on the left
 *
 * The last sequence has literals alone, at least five of them, and no match begins in the last twelve bytes: so
 * the format wants it. Here none is looked for in the last SAFE_BYTES, and copies may be of whole 16 bytes.
 *
 * What must always hold: nothing outside the page is read, and nothing written past max_bytes and the spill.
 */
#include "packer.h"

#include <string.h>

#define SAFE_BYTES 16u
#define LAST_LITERALS 5u
#define MATCH_MIN 4u
#define SHORT_MAX 15u  /* a length that fits in its half of the token; this one says that more follows */
#define SKIP_LOG 5u    /* every so many places in vain the steps get longer */

_Static_assert(PACKER_SPILL_BYTES >= 2 * SAFE_BYTES, "a short copy may spill from the end");

static inline uint64_t load64(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof word);
	return word;
}

static inline uint32_t load32(const uint8_t *at)
{
	uint32_t word;

	memcpy(&word, at, sizeof word);
	return word;
}

/* Of five bytes: matches of four save one byte and cost as much time as others. */
static inline uint32_t place_of(uint64_t word)
{
	return (uint32_t)((word << 24) * 0x9e3779b185ebca87u >> (64 - PACKER_LOG));
}

/* The next place from `at` on with a match, or NULL. */
static inline const uint8_t *match_find(uint16_t *table, const uint8_t *page, const uint8_t *at, uint32_t distance,
					const uint8_t **ret_match)
{
	const uint8_t *const last = page + TIER_PAGE_BYTES - SAFE_BYTES;
	uint32_t tries = 1u << SKIP_LOG;

	for (; at <= last; at += tries++ >> SKIP_LOG) {
		uint64_t word = load64(at);
		uint16_t *place = &table[place_of(word)];
		const uint8_t *seen = page + *place;
		*place = (uint16_t)(at - page);
		*ret_match = at - distance;
		if (load32(*ret_match) == (uint32_t)word)
			return at;
		*ret_match = seen;
		if (load32(seen) == (uint32_t)word)
			return at;
	}
	return NULL;
}

/* The end of the match whose bytes up to `at` and `match` are alike. */
static inline const uint8_t *match_end(const uint8_t *page, const uint8_t *at, const uint8_t *match)
{
	const uint8_t *const end = page + TIER_PAGE_BYTES - LAST_LITERALS;

	for (; at + sizeof(uint64_t) <= end; at += sizeof(uint64_t), match += sizeof(uint64_t)) {
		uint64_t differ = load64(at) ^ load64(match);
		if (differ)
			return at + __builtin_ctzll(differ) / 8;
	}
	while (at < end && *at == *match) {
		at++;
		match++;
	}
	return at;
}

/* What of a length does not fit in the token. */
static inline uint8_t *length_write(uint8_t *out, uint32_t rest)
{
	for (; rest >= 255; rest -= 255)
		*out++ = 255;
	*out++ = (uint8_t)rest;
	return out;
}

/* In whole pieces: reads and writes up to 15 bytes more. */
static inline uint8_t *literals_write(uint8_t *out, const uint8_t *from, uint32_t nr)
{
	uint8_t *end = out + nr;

	do {
		memcpy(out, from, SAFE_BYTES);
		out += SAFE_BYTES;
		from += SAFE_BYTES;
	} while (out < end);
	return end;
}

static inline uint8_t *sequence_write(uint8_t *out, const uint8_t *literals, uint32_t nr_literals,
				      uint32_t distance, uint32_t match_more)
{
	uint8_t *token = out++;

	*token = (uint8_t)((nr_literals < SHORT_MAX ? nr_literals : SHORT_MAX) << 4 |
			   (match_more < SHORT_MAX ? match_more : SHORT_MAX));
	if (nr_literals >= SHORT_MAX)
		out = length_write(out, nr_literals - SHORT_MAX);
	out = literals_write(out, literals, nr_literals);
	*out++ = (uint8_t)distance;
	*out++ = (uint8_t)(distance >> 8);
	if (match_more >= SHORT_MAX)
		out = length_write(out, match_more - SHORT_MAX);
	return out;
}

/* Bytes of a sequence, at most: never more than it takes together with what must come behind it. */
static inline uint32_t sequence_most(uint32_t nr_literals, uint32_t match_more)
{
	return 1 + nr_literals + 1 + nr_literals / 255 + 2 + 1 + match_more / 255;
}

/* The end of the page; returns where the packed bytes end, or NULL. */
static uint8_t *last_write(uint8_t *out, const uint8_t *end, const uint8_t *literals, uint32_t nr)
{
	uint32_t more = nr >= SHORT_MAX ? 1 + (nr - SHORT_MAX) / 255 : 0;

	if (1 + more + nr > (uint32_t)(end - out))
		return NULL;
	*out++ = (uint8_t)((nr < SHORT_MAX ? nr : SHORT_MAX) << 4);
	if (nr >= SHORT_MAX)
		out = length_write(out, nr - SHORT_MAX);
	memcpy(out, literals, nr);
	return out + nr;
}

uint32_t packer_pack(struct packer *packer, const void *page_bytes, void *packed, uint32_t max_bytes)
{
	const uint8_t *page = page_bytes, *literals = page, *at = page + 1, *match = page;
	uint8_t *out = packed, *const end = out + max_bytes;
	uint32_t distance = 1;

	memset(packer->table, 0, sizeof packer->table);
	while ((at = match_find(packer->table, page, at, distance, &match))) {
		const uint8_t *behind = match_end(page, at + MATCH_MIN, match + MATCH_MIN);
		while (at > literals && match > page && at[-1] == match[-1]) {
			at--;
			match--;
		}
		uint32_t nr_literals = (uint32_t)(at - literals), more = (uint32_t)(behind - at) - MATCH_MIN;
		distance = (uint32_t)(at - match);
		if (sequence_most(nr_literals, more) > (uint32_t)(end - out))
			return 0;
		out = sequence_write(out, literals, nr_literals, distance, more);
		at = literals = behind;
	}
	out = last_write(out, end, literals, (uint32_t)(page + TIER_PAGE_BYTES - literals));
	return out ? (uint32_t)(out - (uint8_t *)packed) : 0;
}
