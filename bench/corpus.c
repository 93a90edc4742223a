/* SPDX-License-Identifier: MIT */
#include "corpus.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

const char *const corpus_names[CORPUS_KINDS] = { "zero", "python", "elf", "redis", "random" };

static uint64_t rng_next(uint64_t *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return *rng;
}

/* Whole pages from a stream, then the same again until all are filled. False for too few. */
static bool fill_from(FILE *stream, unsigned char *pages, size_t nr_pages)
{
	size_t have = stream ? fread(pages, CORPUS_PAGE_BYTES, nr_pages, stream) : 0;

	if (have < 64)
		return false;
	for (size_t i = have; i < nr_pages; i++)
		memcpy(pages + i * CORPUS_PAGE_BYTES, pages + (i % have) * CORPUS_PAGE_BYTES,
		       CORPUS_PAGE_BYTES);
	return true;
}

static bool fill_python(unsigned char *pages, size_t nr_pages)
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
	bool ok = fill_from(stream, pages, nr_pages);

	if (stream)
		pclose(stream);
	return ok;
}

static bool fill_elf(unsigned char *pages, size_t nr_pages)
{
	static const char *const paths[] = { "/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
					     "/usr/bin/python3" };
	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		FILE *stream = fopen(paths[i], "r");
		bool ok = fill_from(stream, pages, nr_pages);

		if (stream)
			fclose(stream);
		if (ok)
			return true;
	}
	return false;
}

static bool fill_redis(unsigned char *pages, size_t nr_pages)
{
	static const char *const cities[] = { "Hamburg", "Saint-Malo", "Bristol", "Halifax", "Seoul" };
	size_t bytes = nr_pages * CORPUS_PAGE_BYTES, at = 0;
	uint64_t rng = 42;

	memset(pages, 0, bytes);
	while (at + 512 < bytes) {
		uint64_t id = rng_next(&rng) % 100000000, r = rng_next(&rng);
		int n = snprintf((char *)pages + at, 512,
				 "{\"id\":%llu,\"email\":\"user%llu@example.org\",\"city\":\"%s\","
				 "\"balance\":%llu.%02llu,\"token\":\"%016llx\",\"active\":%s}",
				 (unsigned long long)id, (unsigned long long)id, cities[r % 5],
				 (unsigned long long)(r >> 8 & 0xffff),
				 (unsigned long long)(r >> 24 & 63),
				 (unsigned long long)rng_next(&rng), r >> 40 & 1 ? "true" : "false");
		at += ((size_t)n + 8 + 15) & ~(size_t)15;
	}
	return true;
}

static bool fill_zero(unsigned char *pages, size_t nr_pages)
{
	memset(pages, 0, nr_pages * CORPUS_PAGE_BYTES);
	return true;
}

static bool fill_random(unsigned char *pages, size_t nr_pages)
{
	uint64_t rng = 43;

	for (size_t i = 0; i < nr_pages * CORPUS_PAGE_BYTES; i += 8) {
		uint64_t word = rng_next(&rng);

		memcpy(pages + i, &word, 8);
	}
	return true;
}

bool corpus_fill(const char *name, unsigned char *pages, size_t nr_pages)
{
	static bool (*const fills[CORPUS_KINDS])(unsigned char *, size_t) = {
		fill_zero, fill_python, fill_elf, fill_redis, fill_random,
	};

	for (size_t i = 0; i < CORPUS_KINDS; i++)
		if (!strcmp(name, corpus_names[i]))
			return fills[i](pages, nr_pages);
	return false;
}
