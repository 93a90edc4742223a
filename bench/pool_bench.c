/* SPDX-License-Identifier: MIT */
/*
 * What the pool costs, in nanoseconds a page, on contents of named kinds.
 *
 *   pool_bench [PAGES [PASSES]]
 *
 * Per corpus one line. `lz4` is the compressor alone over the pages that the pool gives to it,
 * `store` the whole call, `beside` their difference. The two are measured in turn, pass by pass; all
 * times are CPU time of the thread and the best of the passes, since what else runs can only add.
 * `load` and `compare` go in random order over slots that fill far more than a core's cache. `waste`
 * is what is used beyond the stored bytes with everything stored; in `ratio` a refused page counts
 * as a page. Memory is taken from the system in the first pass alone, and never the best one.
 *
 * The python heap is a real one: python3 builds dictionaries and lists and writes its own heap
 * mapping out. ELF is the largest of a few programs that are there. Redis values are records as an
 * application would keep, made from a seed.
 */
#include <errno.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- contents --------------------------------------------------------------------------------- */

/* Whole pages from a stream, then the same again until all are filled. Returns false for too few. */
static bool fill_from(FILE *stream, struct corpus *corpus)
{
	size_t have = stream ? fread(corpus->pages, TIER_PAGE_BYTES, corpus->nr, stream) : 0;

	if (have < 64)
		return false;
	for (size_t i = have; i < corpus->nr; i++)
		memcpy(corpus->pages + i * TIER_PAGE_BYTES,
		       corpus->pages + (i % have) * TIER_PAGE_BYTES, TIER_PAGE_BYTES);
	return true;
}

static bool fill_python(struct corpus *corpus)
{
	static const char *const program =
		"python3 -c '\n"
		"import sys\n"
		"d = {i: {\"name\": \"user-%d\" % i, \"score\": i * 1.5, \"tags\": [i % 7, str(i * 31)]}\n"
		"     for i in range(150000)}\n"
		"for line in open(\"/proc/self/maps\"):\n"
		"    f = line.split()\n"
		"    if f[1] != \"rw-p\" or not (len(f) == 5 or f[5] == \"[heap]\"): continue\n"
		"    a, b = (int(x, 16) for x in f[0].split(\"-\"))\n"
		"    m = open(\"/proc/self/mem\", \"rb\", 0)\n"
		"    m.seek(a)\n"
		"    while a < b:\n"
		"        s = m.read(min(b - a, 1 << 20))\n"
		"        if not s: break\n"
		"        sys.stdout.buffer.write(s)\n"
		"        a += len(s)\n"
		"' 2>/dev/null";
	FILE *stream = popen(program, "r");
	bool ok = fill_from(stream, corpus);

	if (stream)
		pclose(stream);
	return ok;
}

static bool fill_elf(struct corpus *corpus)
{
	static const char *const paths[] = { "/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
					     "/usr/bin/python3" };
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		FILE *stream = fopen(paths[i], "r");
		bool ok = fill_from(stream, corpus);

		if (stream)
			fclose(stream);
		if (ok)
			return true;
	}
	return false;
}

static bool fill_redis(struct corpus *corpus)
{
	static const char *const cities[] = { "Hamburg", "Saint-Malo", "Bristol", "Halifax", "Seoul" };
	size_t bytes = corpus->nr * TIER_PAGE_BYTES, at = 0;

	while (at + 512 < bytes) {
		uint64_t id = rng_next() % 100000000, r = rng_next();
		int n = snprintf((char *)corpus->pages + at, 512,
				 "{\"id\":%llu,\"email\":\"user%llu@example.org\",\"city\":\"%s\","
				 "\"balance\":%llu.%02llu,\"token\":\"%016llx\",\"active\":%s}",
				 (unsigned long long)id, (unsigned long long)id, cities[r % 5],
				 (unsigned long long)(r >> 8 & 0xffff),
				 (unsigned long long)(r >> 24 & 63),
				 (unsigned long long)rng_next(), r >> 40 & 1 ? "true" : "false");
		at += ((size_t)n + 8 + 15) & ~(size_t)15;
	}
	return true;
}

static bool fill_zero(struct corpus *corpus)
{
	memset(corpus->pages, 0, corpus->nr * TIER_PAGE_BYTES);
	return true;
}

static bool fill_random(struct corpus *corpus)
{
	for (size_t i = 0; i < corpus->nr * TIER_PAGE_BYTES; i += 8) {
		uint64_t word = rng_next();

		memcpy(corpus->pages + i, &word, 8);
	}
	return true;
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
	times->ns[times->nr++] = nr_pages ? (double)(now_ns() - start_ns) / (double)nr_pages : 0;
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
	uint64_t start = now_ns();

	for (size_t i = 0; i < corpus->nr; i++) {
		const unsigned char *page = corpus->pages + i * TIER_PAGE_BYTES;

		if (!page_is_word(page))
			LZ4_compress_fast_extState(&lz4, (const char *)page, packed,
						   TIER_PAGE_BYTES, sizeof(packed), 1);
	}
	times_add(&result->lz4, start, corpus->nr);

	result->nr_stored = 0;
	start = now_ns();
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
	start = now_ns();
	for (size_t i = 0; i < nr; i++)
		if (tier->ops->load(tier, slots[i], page))
			abort();
	times_add(&result->load, start, nr);
	start = now_ns();
	for (size_t i = 0; i < nr; i++)
		if (tier->ops->compare(tier, slots[i], page) < 0)
			abort();
	times_add(&result->compare, start, nr);
	tier->ops->usage(tier, &result->usage);
	start = now_ns();
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
	static const struct {
		const char *name;
		bool (*fill)(struct corpus *corpus);
	} kinds[] = { { "zero", fill_zero }, { "python", fill_python }, { "elf", fill_elf },
		      { "redis", fill_redis }, { "random", fill_random } };
	size_t nr = argc > 1 ? strtoul(argv[1], NULL, 10) : 16384;
	unsigned passes = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 9;

	if (nr < 64 || passes < 1 || passes > PASSES_MAX) {
		fprintf(stderr, "usage: pool_bench [PAGES >= 64 [PASSES 1 .. %d]]\n", PASSES_MAX);
		return 2;
	}
	printf("ns a page\n%-7s %-6s %7s %7s %7s %7s %7s %8s %7s %6s %7s %7s\n", "corpus", "kind",
	       "pages", "lz4", "store", "beside", "load", "compare", "unref", "ratio", "waste",
	       "refused");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct corpus corpus = { kinds[i].name, aligned_alloc(4096, nr * TIER_PAGE_BYTES), nr };

		if (!corpus.pages)
			return 1;
		memset(corpus.pages, 0, nr * TIER_PAGE_BYTES);
		if (kinds[i].fill(&corpus)) {
			bench(&corpus, false, passes);
			bench(&corpus, true, passes);
		} else {
			printf("%-7s left out: its source is not here\n", corpus.name);
		}
		free(corpus.pages);
	}
	return 0;
}
