/* SPDX-License-Identifier: MIT */
/* Streams of faults; the idea is in ahead.h. */
#include "ahead.h"

#include <stdbool.h>

#define START_SHIFT 20
#define WINDOW_SHIFT 10
#define FIELD_MAX 1023u

static uint64_t stream_pack(uint64_t start, uint32_t window, uint32_t life)
{
	return start << START_SHIFT | (uint64_t)window << WINDOW_SHIFT | life;
}

static uint64_t stream_start(uint64_t stream)
{
	return stream >> START_SHIFT;
}

static uint32_t stream_window(uint64_t stream)
{
	return (uint32_t)(stream >> WINDOW_SHIFT) & FIELD_MAX;
}

static bool word_swap(_Atomic uint64_t *word, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(word, &from, to, memory_order_relaxed,
						       memory_order_relaxed);
}

static _Atomic uint64_t *guess_at(struct ahead *ahead, uint64_t idx)
{
	return &ahead->guesses[idx % AHEAD_GUESSES];
}

/* The window after one that brought in `got` pages and was right. */
static uint32_t window_after(uint64_t got, uint64_t most)
{
	return (uint32_t)(got * 2 < most ? got * 2 : most);
}

static void account(struct ahead *ahead, uint64_t used, uint64_t issued)
{
	if (used)
		atomic_fetch_add_explicit(&ahead->nr_used, used, memory_order_relaxed);
	if (issued)
		atomic_fetch_add_explicit(&ahead->nr_issued, issued, memory_order_relaxed);
}

/* Give a proven stream a place: an empty one, or that of the stream whose life has run out. */
static void stream_settle(struct ahead *ahead, uint64_t stream)
{
	for (unsigned i = 0; i < AHEAD_STREAMS; i++) {
		uint64_t old = atomic_load_explicit(&ahead->streams[i], memory_order_relaxed);
		uint64_t life = old & FIELD_MAX;
		if (!life && word_swap(&ahead->streams[i], old, stream))
			return;
		if (life)
			(void)word_swap(&ahead->streams[i], old, old - 1);
	}
}

static uint32_t stream_continue(struct ahead *ahead, uint64_t idx, uint64_t most)
{
	for (unsigned i = 0; i < AHEAD_STREAMS; i++) {
		uint64_t old = atomic_load_explicit(&ahead->streams[i], memory_order_relaxed);
		/* The fault before was at start - 1 and brought in at most `window` pages. */
		uint64_t got = idx + 1 - stream_start(old);
		if (!old || !got || got > stream_window(old) + AHEAD_GAP)
			continue;
		if (got > stream_window(old))
			got = stream_window(old);
		uint32_t window = window_after(got, most);
		if (!word_swap(&ahead->streams[i], old, stream_pack(idx + 1, window, AHEAD_LIFE)))
			continue;
		account(ahead, got - 1, window - 1);
		return window;
	}
	return 0;
}

uint32_t ahead_window(struct ahead *ahead, uint64_t idx, uint64_t most)
{
	uint32_t window = stream_continue(ahead, idx, most);

	if (window)
		return window;
	uint64_t guess = atomic_load_explicit(guess_at(ahead, idx), memory_order_relaxed);
	/* A guess sits where the fault that proves it would look: at start - 1 + window. */
	if (guess && stream_start(guess) - 1 + stream_window(guess) == idx &&
	    word_swap(guess_at(ahead, idx), guess, 0)) {
		window = window_after(stream_window(guess), most);
		account(ahead, stream_window(guess) - 1, window - 1);
		if (window >= AHEAD_PROVEN) {
			stream_settle(ahead, stream_pack(idx + 1, window, AHEAD_LIFE));
			return window;
		}
	} else {
		window = 1;
	}
	atomic_store_explicit(guess_at(ahead, idx + window), stream_pack(idx + 1, window, 0),
			      memory_order_relaxed);
	return window;
}
