/* SPDX-License-Identifier: MIT */
/* The tree of bits; shape and protocol are in ready.h. */
#include "ready.h"

#define WORD_SHIFT 6
#define WORD_BITS 64u

static uint64_t words_of(uint64_t nr_bits)
{
	return (nr_bits + WORD_BITS - 1) >> WORD_SHIFT;
}

size_t ready_bytes(uint64_t nr_pages)
{
	uint64_t nr_words = 0, nr = nr_pages;

	do {
		nr = words_of(nr);
		nr_words += nr;
	} while (nr > 1);
	return (size_t)(nr_words * sizeof(uint64_t) * READY_CLASSES);
}

void ready_init(struct ready *ready, void *zeroed_memory, uint64_t nr_pages)
{
	_Atomic uint64_t *at = zeroed_memory;
	uint64_t nr = nr_pages;

	*ready = (struct ready){ .nr_pages = nr_pages };
	do {
		nr = words_of(nr);
		ready->nr_words[ready->nr_levels++] = nr;
	} while (nr > 1);
	for (unsigned c = 0; c < READY_CLASSES; c++) {
		for (unsigned l = 0; l < ready->nr_levels; l++) {
			ready->classes[c].level[l] = at;
			at += ready->nr_words[l];
		}
	}
}

/* Set bit `bit` of level `from` and of all levels above. */
static void bits_raise(const struct ready *ready, struct ready_class *class, unsigned from,
		       uint64_t bit)
{
	for (unsigned l = from; l < ready->nr_levels; l++, bit >>= WORD_SHIFT) {
		_Atomic uint64_t *word = &class->level[l][bit >> WORD_SHIFT];
		uint64_t mask = UINT64_C(1) << (bit % WORD_BITS);
		/* A look first: a line that is only read stays with every CPU. */
		if (!(atomic_load(word) & mask))
			atomic_fetch_or(word, mask);
	}
}

/* Word `word` of level `from` - 1 was seen empty: clear its bits above while that leaves words empty. */
static void bits_lower(const struct ready *ready, struct ready_class *class, unsigned from,
		       uint64_t word)
{
	for (unsigned l = from; l < ready->nr_levels; l++) {
		_Atomic uint64_t *above = &class->level[l][word >> WORD_SHIFT];
		uint64_t mask = UINT64_C(1) << (word % WORD_BITS);
		uint64_t old = atomic_fetch_and(above, ~mask);

		/* Pairs with bits_raise(): either it sees the bit cleared, or we see its mark here. */
		if (atomic_load(&class->level[l - 1][word])) {
			bits_raise(ready, class, l, word);
			return;
		}
		if (old & ~mask)
			return;
		word >>= WORD_SHIFT;
	}
}

void ready_mark(struct ready *ready, uint32_t class, uint64_t idx)
{
	bits_raise(ready, &ready->classes[class], 0, idx);
}

/* The first bit of level `floor` at or after `from`. */
static bool class_find(const struct ready *ready, struct ready_class *class, unsigned floor,
		       uint64_t from, uint64_t *ret_bit)
{
	uint64_t bit = from, word, bits;
	unsigned l = floor;

	for (;;) {
		/* Up, until something lies ahead of us. */
		for (;; l++, bit = word + 1) {
			if (l == ready->nr_levels)
				return false;
			word = bit >> WORD_SHIFT;
			if (word >= ready->nr_words[l])
				return false;
			bits = atomic_load(&class->level[l][word]) & ~UINT64_C(0) << (bit % WORD_BITS);
			if (bits)
				break;
		}
		/* Down to its first bit. */
		for (;;) {
			bit = word * WORD_BITS + (unsigned)__builtin_ctzll(bits);
			if (l == floor) {
				*ret_bit = bit;
				return true;
			}
			word = bit;
			bits = atomic_load(&class->level[--l][word]);
			if (!bits)
				break;
		}
		/* A bit over an empty word: put it right, and go on behind that word. */
		bits_lower(ready, class, l + 1, word);
		bit = word * WORD_BITS;
	}
}

/*
 * Page `idx` was taken: put the cursor where the next one is likely to be. A word from memory takes longer than a
 * take, so two words ahead are fetched while the caller is busy, and the word above the one after them. Pages
 * marked in between wait for the next round.
 */
static void class_aim(const struct ready *ready, struct ready_class *class, uint64_t idx)
{
	uint64_t next = idx + 1, word = idx >> WORD_SHIFT, above;

	if (next % WORD_BITS && atomic_load(&class->level[0][word]) >> (next % WORD_BITS)) {
		class->cursor = next;
		return;
	}
	if (ready->nr_levels > 1 && class_find(ready, class, 1, word + 1, &word)) {
		__builtin_prefetch((const void *)&class->level[0][word]);
		next = word << WORD_SHIFT;
		if (class_find(ready, class, 1, word + 1, &word))
			__builtin_prefetch((const void *)&class->level[0][word]);
		above = word >> WORD_SHIFT;
		if (ready->nr_levels > 2 && class_find(ready, class, 2, above + 1, &above))
			__builtin_prefetch((const void *)&class->level[1][above]);
	}
	class->cursor = next < ready->nr_pages ? next : 0;
}

bool ready_take_class(struct ready *ready, uint32_t class_nr, uint64_t *ret_idx)
{
	struct ready_class *class = &ready->classes[class_nr];
	uint64_t idx;

	/* A plain look at the top, so that an empty class costs one load. */
	if (!atomic_load(&class->level[ready->nr_levels - 1][0]))
		return false;
	if (!class_find(ready, class, 0, class->cursor, &idx) &&
	    !class_find(ready, class, 0, 0, &idx))
		return false;
	uint64_t mask = UINT64_C(1) << (idx % WORD_BITS);
	uint64_t old = atomic_fetch_and(&class->level[0][idx >> WORD_SHIFT], ~mask);
	if (!(old & ~mask))
		bits_lower(ready, class, 1, idx >> WORD_SHIFT);
	class_aim(ready, class, idx);
	*ret_idx = idx;
	return true;
}

bool ready_take(struct ready *ready, uint64_t *ret_idx, uint32_t *ret_class)
{
	for (uint32_t c = READY_CLASSES; c-- > 0;) {
		if (ready_take_class(ready, c, ret_idx)) {
			*ret_class = c;
			return true;
		}
	}
	return false;
}

bool ready_empty(const struct ready *ready)
{
	for (unsigned c = 0; c < READY_CLASSES; c++)
		if (atomic_load(&ready->classes[c].level[ready->nr_levels - 1][0]))
			return false;
	return true;
}

bool ready_check(const struct ready *ready)
{
	for (unsigned c = 0; c < READY_CLASSES; c++) {
		for (unsigned l = 0; l + 1 < ready->nr_levels; l++) {
			for (uint64_t w = 0; w < ready->nr_words[l]; w++) {
				bool any = atomic_load(&ready->classes[c].level[l][w]) != 0;
				uint64_t above =
					atomic_load(&ready->classes[c].level[l + 1][w / WORD_BITS]);
				if (any && !(above >> (w % WORD_BITS) & 1))
					return false;
			}
		}
	}
	return true;
}
