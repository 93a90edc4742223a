/* SPDX-License-Identifier: MIT */
/*
 * What a touch of memory that is not there costs, seen from the program.
 *
 *   fault_probe CORPUS_FILE PAGES TOUCHES random|sequential madvise|press PRESS_PAGES
 *
 * The same program runs under `pagetide run` and beside a zram swap. Its pages, filled from the
 * corpus, get out of memory either by MADV_PAGEOUT (madvise) or because other memory is written and
 * then given back, which also leaves room under the budget for what is touched (press). Only pages
 * that /proc/self/pagemap says are missing are touched, in the order of a fixed shuffle or of their
 * addresses; each touch is timed. Afterwards every touched page is compared with what was written.
 *
 * It is driven over standard input: at each stage it prints one JSON line and waits for a line.
 *
 *   begin ─► filled ─► out ─(more)─► out ─(go)─► touched ─► end
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

#define PAGE_BYTES 4096u
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)

/* 6.x's uapi headers have it; older user space may not. */
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

struct probe {
	const uint8_t *corpus;     /* a shared file mapping, so nobody takes it out */
	size_t nr_corpus;
	uint8_t *pages;
	size_t nr_pages, nr_press;
	bool sequential, press;
	uint32_t *order;           /* pages to touch */
	uint32_t *times_ns;
	size_t nr_touches;
};

/* Memory that belongs to the measurement itself: locked, so that it is never taken out. */
static void *locked(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mlock(p, bytes))
		die("mlock");
	return memset(p, 0, bytes);
}

static void *region(size_t nr_pages)
{
	void *p = mmap(NULL, nr_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* Print a line, wait for one; true when it begins with `word`. */
static bool stage(const char *text, const char *word)
{
	char line[64];

	puts(text);
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		exit(1);
	return !strncmp(line, word, strlen(word));
}

static const uint8_t *corpus_page(const struct probe *p, size_t i)
{
	return p->corpus + i % p->nr_corpus * PAGE_BYTES;
}

static void corpus_open(struct probe *p, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st))
		die(path);
	p->nr_corpus = (size_t)st.st_size / PAGE_BYTES;
	p->corpus = mmap(NULL, p->nr_corpus * PAGE_BYTES, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	if (p->corpus == MAP_FAILED)
		die(path);
}

static void pages_fill(const struct probe *p, uint8_t *pages, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		memcpy(pages + i * PAGE_BYTES, corpus_page(p, i), PAGE_BYTES);
}

/* Collect the missing pages into order[]; returns how many there are, and in *ret_swapped how many of
 * them the kernel itself swapped out. */
static size_t missing_collect(struct probe *p, size_t *ret_swapped)
{
	static uint64_t entries[512];
	size_t nr = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("pagemap");
	*ret_swapped = 0;
	for (size_t i = 0; i < p->nr_pages; i += 512) {
		size_t n = p->nr_pages - i < 512 ? p->nr_pages - i : 512;
		off_t at = (off_t)(((uintptr_t)p->pages / PAGE_BYTES + i) * 8);
		if (pread(fd, entries, n * 8, at) != (ssize_t)(n * 8))
			die("pagemap");
		for (size_t k = 0; k < n; k++) {
			if (entries[k] & PAGEMAP_PRESENT)
				continue;
			*ret_swapped += !!(entries[k] & PAGEMAP_SWAPPED);
			p->order[nr++] = (uint32_t)(i + k);
		}
	}
	close(fd);
	return nr;
}

/* Get the pages out; returns the processor time that this thread spent on it. */
static uint64_t pages_out(struct probe *p)
{
	uint64_t start_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	if (p->press) {
		uint8_t *press = region(p->nr_press);
		pages_fill(p, press, p->nr_press);
		munmap(press, p->nr_press * PAGE_BYTES);
	} else if (madvise(p->pages, p->nr_pages * PAGE_BYTES, MADV_PAGEOUT)) {
		die("MADV_PAGEOUT");
	}
	return clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
}

static void order_shuffle(struct probe *p, size_t nr)
{
	uint64_t rng = 88172645463325252u;

	for (size_t i = nr; i > 1; i--) {
		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		size_t j = rng % i;
		uint32_t page = p->order[i - 1];
		p->order[i - 1] = p->order[j];
		p->order[j] = page;
	}
}

static uint64_t pages_touch(struct probe *p)
{
	uint64_t start_ns = clock_ns(CLOCK_MONOTONIC), before_ns = start_ns;

	for (size_t i = 0; i < p->nr_touches; i++) {
		(void)*(volatile uint8_t *)(p->pages + (size_t)p->order[i] * PAGE_BYTES + 64);
		uint64_t after_ns = clock_ns(CLOCK_MONOTONIC);
		uint64_t ns = after_ns - before_ns;
		p->times_ns[i] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
		before_ns = after_ns;
	}
	return before_ns - start_ns;
}

static int time_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void touched_print(struct probe *p, uint64_t whole_ns, char *text, size_t room)
{
	static const unsigned per_10000[] = { 100, 1000, 2500, 5000, 7500, 9000, 9900, 9990 };
	int n = snprintf(text, room, "{\"stage\": \"touched\", \"touches\": %zu, \"whole_ns\": %llu, "
			 "\"ns\": {", p->nr_touches, (unsigned long long)whole_ns);

	qsort(p->times_ns, p->nr_touches, sizeof *p->times_ns, time_compare);
	for (size_t i = 0; i < sizeof per_10000 / sizeof *per_10000; i++)
		n += snprintf(text + n, room - (size_t)n, "\"p%g\": %u, ", per_10000[i] / 100.0,
			      p->times_ns[p->nr_touches * per_10000[i] / 10000]);
	snprintf(text + n, room - (size_t)n, "\"max\": %u}}", p->times_ns[p->nr_touches - 1]);
}

static void pages_compare(const struct probe *p)
{
	for (size_t i = 0; i < p->nr_touches; i++) {
		size_t page = p->order[i];
		if (memcmp(p->pages + page * PAGE_BYTES, corpus_page(p, page), PAGE_BYTES)) {
			fprintf(stderr, "fault_probe: page %zu has wrong bytes\n", page);
			exit(1);
		}
	}
}

static void probe_run(struct probe *p)
{
	char text[512];
	size_t nr, swapped;
	bool more;

	stage("{\"stage\": \"begin\"}", "");
	pages_fill(p, p->pages, p->nr_pages);
	stage("{\"stage\": \"filled\"}", "");
	do {
		uint64_t cpu_ns = pages_out(p);
		nr = missing_collect(p, &swapped);
		snprintf(text, sizeof text,
			 "{\"stage\": \"out\", \"pages\": %zu, \"missing\": %zu, \"swapped\": %zu, "
			 "\"out_cpu_ns\": %llu}",
			 p->nr_pages, nr, swapped, (unsigned long long)cpu_ns);
		more = stage(text, "more");
	} while (more);
	nr = missing_collect(p, &swapped);
	if (!nr) {
		fputs("fault_probe: all pages are in memory\n", stderr);
		exit(1);
	}
	if (!p->sequential)
		order_shuffle(p, nr);
	if (p->nr_touches > nr)
		p->nr_touches = nr;
	touched_print(p, pages_touch(p), text, sizeof text);
	pages_compare(p);
	stage(text, "");
}

int main(int argc, char **argv)
{
	struct probe p = { 0 };

	if (argc == 7) {
		p.nr_pages = strtoul(argv[2], NULL, 10);
		p.nr_touches = strtoul(argv[3], NULL, 10);
		p.sequential = !strcmp(argv[4], "sequential");
		p.press = !strcmp(argv[5], "press");
		p.nr_press = strtoul(argv[6], NULL, 10);
	}
	if (!p.nr_pages || !p.nr_touches || (p.press && !p.nr_press)) {
		fputs("usage: fault_probe CORPUS_FILE PAGES TOUCHES random|sequential "
		      "madvise|press PRESS_PAGES\n", stderr);
		return 2;
	}
	corpus_open(&p, argv[1]);
	p.order = locked(p.nr_pages * sizeof *p.order);
	p.times_ns = locked(p.nr_touches * sizeof *p.times_ns);
	p.pages = region(p.nr_pages);
	probe_run(&p);
	return 0;
}
