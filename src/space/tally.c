/* SPDX-License-Identifier: MIT */
/* Histograms of times with a relative error of at most 1/8, added to without locks. */
#include "program.h"

/* 0..7 as they are, then eight buckets for each power of two. */
static unsigned bucket_of(uint64_t ns)
{
	if (ns < 8)
		return (unsigned)ns;
	unsigned power = 63u - (unsigned)__builtin_clzll(ns);
	unsigned bucket = (power - 2) * 8 + (unsigned)(ns >> (power - 3) & 7);

	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_end(unsigned bucket)
{
	if (bucket < 8)
		return bucket;
	unsigned power = bucket / 8 + 2;

	return ((uint64_t)(8 + bucket % 8 + 1) << (power - 3)) - 1;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	atomic_fetch_add_explicit(&h->count[bucket_of(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
	uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
	while (ns > max && !atomic_compare_exchange_weak_explicit(
				   &h->max_ns, &max, ns, memory_order_relaxed, memory_order_relaxed))
		;
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		sum += atomic_load_explicit(&h->count[i], memory_order_relaxed);
	return sum;
}

uint64_t histogram_quantile(const struct histogram *h, unsigned per_mille)
{
	uint64_t total = histogram_count(h);
	uint64_t rank = total * per_mille / 1000, seen = 0;
	uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += atomic_load_explicit(&h->count[i], memory_order_relaxed);
		if (seen > rank)
			return bucket_end(i) < max ? bucket_end(i) : max;
	}
	return max;
}
