/* SPDX-License-Identifier: MIT */
/*
 * Reads records with Zipf-distributed numbers, as fast as it can.
 *
 *   zipf_reads CORPUS_FILE MIB SECONDS...
 *
 * Fills MIB of memory from the corpus, one record to each KiB, then reads for each of SECONDS in
 * turn and prints one JSON line for each. A read adds up all words of a record. Record numbers have
 * exponent 0.99; ranks are scattered over the memory by a fixed shuffle. Sums are checked against
 * the corpus in one read of 64.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "rng.h"

#define PAGE_BYTES 4096u
#define RECORD_BYTES 1024u
#define EXPONENT 0.99
#define BATCH 64u

struct reads {
	const uint8_t *corpus;
	size_t corpus_bytes;
	uint8_t *memory;
	uint64_t nr_records, rng;
	double h_first, h_last, s;
};

/* ---- Zipf by rejection-inversion (Hormann and Derflinger 1996) ---- */

static double h_integral(double x)
{
	return (pow(x, 1 - EXPONENT) - 1) / (1 - EXPONENT);
}

static double h_inverse(double y)
{
	return pow(y * (1 - EXPONENT) + 1, 1 / (1 - EXPONENT));
}

static void zipf_open(struct reads *r)
{
	r->h_first = h_integral(1.5) - 1;
	r->h_last = h_integral((double)r->nr_records + 0.5);
	r->s = 2 - h_inverse(h_integral(2.5) - pow(2, -EXPONENT));
}

static uint64_t zipf_rank(struct reads *r)
{
	for (;;) {
		double u = (double)(rng_next(&r->rng) >> 11) * 0x1p-53;
		double y = r->h_last + u * (r->h_first - r->h_last);
		double x = h_inverse(y), k = floor(x + 0.5);

		k = k < 1 ? 1 : k > (double)r->nr_records ? (double)r->nr_records : k;
		if (k - x <= r->s || y >= h_integral(k + 0.5) - pow(k, -EXPONENT))
			return (uint64_t)k - 1;
	}
}

/* A shuffle without a table: steps of a bijection on the next power of two, until inside. */
static uint64_t record_of(const struct reads *r, uint64_t rank)
{
	unsigned bits = 64u - (unsigned)__builtin_clzll(r->nr_records - 1);
	uint64_t mask = (UINT64_C(1) << bits) - 1, x = rank;

	do {
		x = (x * UINT64_C(0x9e3779b97f4a7c15) + 12345) & mask;
		x ^= x >> (bits / 2);
		x = (x * UINT64_C(0xbf58476d1ce4e5b9)) & mask;
		x ^= x >> (bits / 2);
	} while (x >= r->nr_records);
	return x;
}

/* ---- memory ---- */

static uint64_t record_sum(const uint8_t *record)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < RECORD_BYTES; i += 8) {
		uint64_t word;
		memcpy(&word, record + i, 8);
		sum += word;
	}
	return sum;
}

static void corpus_open(struct reads *r, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st))
		die(path);
	r->corpus_bytes = (size_t)st.st_size / PAGE_BYTES * PAGE_BYTES;
	r->corpus = mmap(NULL, r->corpus_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	if (r->corpus == MAP_FAILED)
		die(path);
}

static void memory_fill(struct reads *r)
{
	size_t bytes = r->nr_records * RECORD_BYTES;

	r->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->memory == MAP_FAILED)
		die("mmap");
	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		memcpy(r->memory + at, r->corpus + at % r->corpus_bytes, PAGE_BYTES);
}

static void reads_run(struct reads *r, double seconds)
{
	uint64_t start_ns = clock_now_ns(), at_ns = start_ns, nr = 0;
	uint64_t end_ns = start_ns + (uint64_t)(seconds * 1e9);
	volatile uint64_t sink = 0;

	while (at_ns < end_ns) {
		for (unsigned i = 0; i < BATCH; i++) {
			size_t at = record_of(r, zipf_rank(r)) * RECORD_BYTES;
			uint64_t sum = record_sum(r->memory + at);

			sink = sink + sum;
			if (!i && sum != record_sum(r->corpus + at % r->corpus_bytes)) {
				fprintf(stderr, "zipf_reads: wrong bytes at %zu\n", at);
				exit(1);
			}
		}
		nr += BATCH;
		at_ns = clock_now_ns();
	}
	printf("{\"operations\": %llu, \"seconds\": %.3f}\n", (unsigned long long)nr,
	       (double)(at_ns - start_ns) / 1e9);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct reads r = { .rng = 7 };
	uint64_t start_ns = clock_now_ns();
	double seconds;

	if (argc >= 4)
		r.nr_records = strtoull(argv[2], NULL, 10) * (1048576 / RECORD_BYTES);
	if (!r.nr_records) {
		fputs("usage: zipf_reads CORPUS_FILE MIB SECONDS...\n", stderr);
		return 2;
	}
	corpus_open(&r, argv[1]);
	zipf_open(&r);
	memory_fill(&r);
	printf("{\"filled_seconds\": %.3f}\n", (double)(clock_now_ns() - start_ns) / 1e9);
	fflush(stdout);
	for (int i = 3; i < argc; i++) {
		seconds = strtod(argv[i], NULL);
		reads_run(&r, seconds);
	}
	return 0;
}
