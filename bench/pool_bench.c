/* SPDX-License-Identifier: MIT */
/*
 * What the pool costs, in nanoseconds a page, on contents of named kinds.
 *
 *   pool_bench [PAGES [PASSES [CORPUS]]]
 *
 * Per corpus one line. `lz4` is the compressor alone over the pages that the pool gives to it,
 * `store` the whole call, `beside` their difference. The two are measured in turn, pass by pass; all
 * times are CPU time of the thread and the best of the passes, since what else runs can only add.
 * `load` and `compare` go in random order over slots that fill far more than a core's cache. `waste`
 * is what is used beyond the stored bytes with everything stored; in `ratio` a refused page counts
 * as a page. Memory is taken from the system in the first pass alone, and never the best one.
 *
 * The kinds are those of corpus.h.
 */
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "corpus.h"
#include "pool.h"

#define PASSES_MAX 99

struct corpus {
	const char *name;
	unsigned char *pages;
	size_t nr;
};

static uint64_t rng_state = 42;

static uint64_t rng_next(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

/* ---- measuring -------------------------------------------------------------------------------- */

struct times {
	double ns[PASSES_MAX];
	unsigned nr;
};

static double best(const struct times *times)
{
	double least = times->ns[0];

	for (unsigned i = 1; i < times->nr; i++)
		least = times->ns[i] < least ? times->ns[i] : least;
	return least;
}

static void times_add(struct times *times, uint64_t start_ns, size_t nr_pages)
{
	times->ns[times->nr++] = nr_pages ? (double)(clock_thread_cpu_ns() - start_ns) / (double)nr_pages : 0;
}

static bool page_is_word(const unsigned char *page)
{
	return memcmp(page, page + 8, TIER_PAGE_BYTES - 8) == 0;
}

struct result {
	struct times lz4, store, load, compare, unref;
	struct tier_usage usage;
	size_t nr_stored;
};

static void pass_store(const struct corpus *corpus, struct tier *tier, uint32_t *slots,
		       struct result *result)
{
	static LZ4_stream_t lz4;
	static char packed[LZ4_COMPRESSBOUND(TIER_PAGE_BYTES)];
	uint64_t start = clock_thread_cpu_ns();

	for (size_t i = 0; i < corpus->nr; i++) {
		const unsigned char *page = corpus->pages + i * TIER_PAGE_BYTES;

		if (!page_is_word(page))
			LZ4_compress_fast_extState(&lz4, (const char *)page, packed,
						   TIER_PAGE_BYTES, sizeof(packed), 1);
	}
	times_add(&result->lz4, start, corpus->nr);

	result->nr_stored = 0;
	start = clock_thread_cpu_ns();
	for (size_t i = 0; i < corpus->nr; i++) {
		if (!tier->ops->store(tier, corpus->pages + i * TIER_PAGE_BYTES,
				      &slots[result->nr_stored]))
			result->nr_stored++;
	}
	times_add(&result->store, start, corpus->nr);
}

static void pass_others(struct tier *tier, uint32_t *slots, struct result *result)
{
	unsigned char page[TIER_PAGE_BYTES];
	size_t nr = result->nr_stored;
	uint64_t start;

	for (size_t i = nr; i > 1; i--) {
		size_t j = rng_next() % i;
		uint32_t slot = slots[i - 1];

		slots[i - 1] = slots[j];
		slots[j] = slot;
	}
	start = clock_thread_cpu_ns();
	for (size_t i = 0; i < nr; i++)
		if (tier->ops->load(tier, slots[i], page))
			abort();
	times_add(&result->load, start, nr);
	start = clock_thread_cpu_ns();
	for (size_t i = 0; i < nr; i++)
		if (tier->ops->compare(tier, slots[i], page) < 0)
			abort();
	times_add(&result->compare, start, nr);
	tier->ops->usage(tier, &result->usage);
	start = clock_thread_cpu_ns();
	for (size_t i = 0; i < nr; i++)
		tier->ops->unref(tier, slots[i]);
	times_add(&result->unref, start, nr);
}

static void bench(const struct corpus *corpus, bool verify, unsigned passes)
{
	struct result *result = calloc(1, sizeof(*result));
	uint32_t *slots = calloc(corpus->nr, sizeof(*slots));
	struct tier *tier;
	size_t refused;

	if (!result || !slots || pool_open(0, verify, &tier))
		abort();
	for (unsigned pass = 0; pass < passes; pass++) {
		pass_store(corpus, tier, slots, result);
		pass_others(tier, slots, result);
	}
	refused = corpus->nr - result->nr_stored;
	printf("%-7s %-6s %7zu %7.0f %7.0f %7.0f %7.0f %8.0f %7.0f %6.2f %6.1f%% %7zu\n", corpus->name,
	       verify ? "verify" : "plain", corpus->nr, best(&result->lz4), best(&result->store),
	       best(&result->store) - best(&result->lz4), best(&result->load), best(&result->compare),
	       best(&result->unref),
	       (double)(corpus->nr * TIER_PAGE_BYTES) /
		       (double)(result->usage.used_bytes + refused * TIER_PAGE_BYTES + 1),
	       result->usage.stored_bytes ? (double)result->usage.used_bytes * 100 /
						    (double)result->usage.stored_bytes - 100 : 0.0,
	       refused);
	tier->ops->close(tier);
	free(slots);
	free(result);
}

int main(int argc, char **argv)
{
	size_t nr = argc > 1 ? strtoul(argv[1], NULL, 10) : 16384;
	unsigned passes = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 9;

	if (nr < 64 || passes < 1 || passes > PASSES_MAX) {
		fprintf(stderr, "usage: pool_bench [PAGES >= 64 [PASSES 1 .. %d [CORPUS]]]\n", PASSES_MAX);
		return 2;
	}
	printf("ns a page\n%-7s %-6s %7s %7s %7s %7s %7s %8s %7s %6s %7s %7s\n", "corpus", "kind",
	       "pages", "lz4", "store", "beside", "load", "compare", "unref", "ratio", "waste",
	       "refused");
	for (size_t i = 0; i < CORPUS_KINDS; i++) {
		if (argc > 3 && strcmp(argv[3], corpus_names[i]) != 0)
			continue;
		struct corpus corpus = { corpus_names[i], aligned_alloc(4096, nr * TIER_PAGE_BYTES), nr };
		if (!corpus.pages)
			return 1;
		if (corpus_fill(corpus.name, corpus.pages, nr)) {
			bench(&corpus, false, passes);
			bench(&corpus, true, passes);
		} else {
			printf("%-7s left out: its source is not here\n", corpus.name);
		}
		free(corpus.pages);
	}
	return 0;
}
