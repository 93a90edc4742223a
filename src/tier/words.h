/* SPDX-License-Identifier: MIT */
/*
 * Copying into and out of memory that another thread may change meanwhile.
 *
 * A load may meet a slot that is being written for its next owner (see the contract in tier.h).
 * It gets some mixture of bytes then and throws it away, but the accesses themselves must be
 * defined: each word is read and written as a relaxed atomic.
 */
#ifndef TIDE_WORDS_H
#define TIDE_WORDS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void words_out(_Atomic uint64_t *shared, const void *from, size_t nr_words)
{
	const unsigned char *at = from;

	for (size_t i = 0; i < nr_words; i++) {
		uint64_t word;

		memcpy(&word, at + i * sizeof(word), sizeof(word));
		atomic_store_explicit(&shared[i], word, memory_order_relaxed);
	}
}

static inline void words_in(void *to, const _Atomic uint64_t *shared, size_t nr_words)
{
	unsigned char *at = to;

	for (size_t i = 0; i < nr_words; i++) {
		uint64_t word = atomic_load_explicit(&shared[i], memory_order_relaxed);

		memcpy(at + i * sizeof(word), &word, sizeof(word));
	}
}

#endif
