/* SPDX-License-Identifier: MIT */
/*
 * Live cases: pages going out and coming back, the heap, locks, and what a program may ask about its memory.
 *
 * Each case compares every byte with what the kernel alone would have given.
 */
#include "live.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- pages: holes, first touch, changes after return ----------------------------------------- */

static void holes_rule15(void)
{
	size_t nr = live_pages() * 2;
	struct arena arena = arena_new(nr, 50);

	for (size_t i = 0; i < nr; i++)
		if (i % 3 == 0 || i % 1024 < 256)
			arena_fill(&arena, i, i + 1, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	for (size_t i = 1; i < nr; i += 7)
		arena_fill(&arena, i, i + 1, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* Of this process, by the kernel; 0: no swap is on. */
static size_t swapped_pages(void)
{
	char line[256];
	unsigned long kib = 0;
	FILE *status = fopen("/proc/self/status", "re");

	CHECK(status);
	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmSwap: %lu", &kib);
	fclose(status);
	return kib * 1024 / PAGE_BYTES;
}

static void kernel_swap_rule16(void)
{
	size_t nr = live_pages(), nr_first = nr / 8;
	struct arena arena = arena_new(nr, 51);

	/* So few that memory is not tight yet: none has gone to a tier, and the kernel has them to swap. */
	arena_fill(&arena, 0, nr_first, 1);
	CHECK(madvise(arena.base, nr_first * PAGE_BYTES, MADV_PAGEOUT) == 0);
	if (!swapped_pages())
		live_skip("no swap is on, or it is full");
	arena_fill(&arena, nr_first, nr, 1);
	CHECK(madvise(arena.base, nr / 2 * PAGE_BYTES, MADV_PAGEOUT) == 0);
	live_press();
	CHECK(madvise(arena.base, nr * PAGE_BYTES, MADV_PAGEOUT) == 0);
	arena_check(&arena, 0, nr);
	arena_fill(&arena, 0, nr, 2);
	CHECK(madvise(arena_page(&arena, nr / 4), nr / 2 * PAGE_BYTES, MADV_PAGEOUT) == 0);
	arena_cold(&arena, 0, nr / 4);
	arena_check(&arena, 0, nr);
}

/* Long runs out and back in order: batches of every length, and whole blocks. */
static void long_runs_rule17(void)
{
	size_t nr = live_pages() + live_pages() / 2;
	struct arena arena = arena_new(nr, 52);

	for (uint32_t round = 1; round < 4; round++) {
		size_t run = 1;

		arena_fill(&arena, 0, nr, round);
		for (size_t i = 0; i < nr; i += 2 * run) {
			run = run < 512 ? run * 2 : 1;
			arena_check(&arena, i, i + run < nr ? i + run : nr);
		}
		arena_cold(&arena, 0, nr / 2);
		arena_check(&arena, 0, nr);
	}
}

/* A page that came back and then changed by one byte must not go back to its old copy. */
static void rewritten_after_return_rule19(void)
{
	size_t nr = live_pages(), last = PAGE_BYTES - 1;
	struct arena arena = arena_new(nr, 53);
	unsigned char *patch = calloc(nr, 1);
	uint64_t state = 53;

	CHECK(patch);
	arena_fill(&arena, 0, nr, 1);
	for (unsigned int round = 1; round < 4; round++) {
		arena_cold(&arena, 0, nr);
		for (size_t i = 0; i < nr; i++) {
			unsigned char *page = arena_page(&arena, i), copy[PAGE_BYTES];

			memcpy(copy, page, PAGE_BYTES);
			copy[last] ^= patch[i];
			page_check(copy, 53, i, 1);
			if (live_random(&state) % 2 == 0) {
				page[last] ^= (unsigned char)round;
				patch[i] ^= (unsigned char)round;
			}
		}
	}
	for (size_t i = 0; i < nr; i++)
		*(arena_page(&arena, i) + last) ^= patch[i];
	arena_check(&arena, 0, nr);
}

/* Faults that we had since this was asked last. */
static size_t faults_new(void)
{
	static size_t before;
	struct rusage usage;

	CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	size_t now = (size_t)(usage.ru_minflt + usage.ru_majflt), nr = now - before;
	before = now;
	return nr;
}

/* Memory that is touched in order for the first time is filled ahead: there is no fault for each page. */
static void first_touch_rule21(void)
{
	size_t nr = live_pages(), quarter = nr / 4;
	struct arena arena = arena_new(nr, 54), fresh = arena_new(quarter, 55);
	unsigned char byte = 0;

	/* Pressure first, so that both are adopted memory before they are touched at all. */
	arena_fill(&arena, 3 * quarter, nr, 1);
	arena_cold(&arena, 3 * quarter, nr);
	faults_new();
	arena_fill(&fresh, 0, quarter, 1);
	size_t writes = faults_new();
	arena_check(&arena, 0, quarter);
	size_t reads = faults_new();
	if (live_budget_bytes && (writes * 8 > quarter || reads * 8 > quarter))
		live_fail("%zu faults for writing %zu pages, %zu for reading them", writes, quarter, reads);
	arena_check(&fresh, 0, quarter);
	arena_fill(&arena, 0, quarter, 1);
	for (size_t i = quarter; i < 2 * quarter; i += 5)
		arena_fill(&arena, i, i + 1, 1);
	for (size_t i = 2 * quarter; i < 3 * quarter; i++)
		byte |= *(volatile unsigned char *)(arena_page(&arena, i) + i % PAGE_BYTES);
	CHECK(byte == 0);
	arena_check(&arena, 0, nr);
	arena_cold(&arena, 0, quarter);
	arena_check(&arena, 0, nr);
}

/* ---- heap, locks, questions about memory ----------------------------------------------------- */

static void brk_grow_shrink_rule11(void)
{
	size_t nr = live_pages(), step = PAGES_PER_MIB, half = nr / 2;
	unsigned char *start = sbrk(0);
	size_t skew = PAGE_BYTES - (size_t)(uintptr_t)start % PAGE_BYTES;
	struct arena arena = arena_at(start + skew, nr, 60);

	/* The record itself may have come from the heap: ask again where it ends. */
	start = sbrk(0);
	skew = PAGE_BYTES - (size_t)(uintptr_t)start % PAGE_BYTES;
	arena.base = start + skew;
	CHECK(sbrk((intptr_t)skew) != (void *)-1);
	for (size_t i = 0; i < nr; i += step) {
		CHECK(sbrk((intptr_t)(step * PAGE_BYTES)) == arena_page(&arena, i));
		arena_check(&arena, i, i + step / 4);
		arena_fill(&arena, i, i + step, 1);
	}
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	CHECK(sbrk(-(intptr_t)(half * PAGE_BYTES)) != (void *)-1);
	arena_check(&arena, 0, half);
	for (size_t i = half; i < nr; i += step)
		CHECK(sbrk((intptr_t)(step * PAGE_BYTES)) == arena_page(&arena, i));
	arena_forget(&arena, half, nr);
	arena_check(&arena, 0, nr);
	arena_fill(&arena, half, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void mlock_stays(void)
{
	size_t nr = live_pages(), from = nr / 4, to = from + 4 * PAGES_PER_MIB;
	struct arena arena = arena_new(nr, 61);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(mlock(arena_page(&arena, from), (to - from) * PAGE_BYTES) == 0);
	CHECK(arena_absent_pages(&arena, from, to) == 0);
	arena_cold(&arena, to, nr);
	CHECK(arena_absent_pages(&arena, from, to) == 0);
	arena_check(&arena, 0, nr);
	arena_fill(&arena, from, to, 2);
	CHECK(munlock(arena_page(&arena, from), (to - from) * PAGE_BYTES) == 0);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* Locked memory that grows and so moves: to where there is room, to a given place, and over memory that is out. */
static unsigned char *locked_grow(struct arena *arena, size_t nr, unsigned char *to)
{
	int flags = MREMAP_MAYMOVE | (to ? MREMAP_FIXED : 0);
	unsigned char *base = mremap(arena->base, arena->nr_pages * PAGE_BYTES, nr * PAGE_BYTES, flags, to);

	CHECK(base != MAP_FAILED && base != arena->base && (!to || base == to));
	struct arena grown = arena_at(base, nr, arena->seed);
	memcpy(grown.generation, arena->generation, arena->nr_pages * sizeof *grown.generation);
	CHECK(arena_absent_pages(&grown, 0, nr) == 0);
	arena_check(&grown, 0, nr);
	arena_fill(&grown, arena->nr_pages, nr, 2);
	free(arena->generation);
	*arena = grown;
	return base;
}

static void mlock_then_grows(void)
{
	size_t nr = live_pages() / 2;
	struct arena beside = arena_new(nr, 62), arena = arena_new(nr, 63), rest = arena;

	arena_fill(&beside, 0, nr, 1);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&beside, 0, nr);
	arena_cold(&arena, 0, nr);
	CHECK(mlock(arena.base, 64 * PAGE_BYTES) == 0);
	arena = arena_at(arena.base, 64, 63);
	memcpy(arena.generation, rest.generation, 64 * sizeof *rest.generation);
	locked_grow(&arena, 128, NULL); /* the rest is behind it */
	locked_grow(&arena, 256, space_reserve(256 * PAGE_BYTES));
	locked_grow(&arena, 512, arena_page(&beside, nr / 2));
	arena_check(&rest, 64, nr);
	arena_check(&beside, 0, nr / 2);
	arena_check(&beside, nr / 2 + 512, nr);
	arena_check(&arena, 0, 512);
}

/* When pages are out already: all come back and stay; what is mapped from then on goes out, and no page is lost. */
static void mlockall_later(void)
{
	struct arena arena = arena_new(live_pages(), 64);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	if (mlockall(MCL_CURRENT))
		live_skip("mlockall: errno %d", errno);
	struct arena later = arena_new(live_pages(), 65);
	arena_fill(&later, 0, later.nr_pages, 1);
	arena_cold(&later, 0, later.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	arena_check(&later, 0, later.nr_pages);
	CHECK(munlockall() == 0);
	arena_fill(&arena, 0, arena.nr_pages / 2, 2);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	arena_check(&later, 0, later.nr_pages);
}

static void mincore_answers(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_new(nr, 62);
	unsigned char *seen = calloc(nr, 1);

	CHECK(seen);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(mincore(arena.base, nr * PAGE_BYTES, seen) == 0);
	arena_check(&arena, 0, nr);
	/* Pages that have just been touched, but for those that went out again while this process had no CPU. */
	size_t nr_there = 0;
	for (unsigned int round = 0; nr_there < 16; round++) {
		CHECK(round < PRESS_ROUNDS);
		arena_check(&arena, 0, 16);
		CHECK(mincore(arena.base, 16 * PAGE_BYTES, seen) == 0);
		nr_there = 0;
		for (size_t i = 0; i < 16; i++)
			nr_there += seen[i] & 1;
	}
	free(seen);
}

/* Nothing of ours may be in the way of a program that walks all its memory (a collector does). */
static void reads_every_mapping_rule26(void)
{
	struct arena arena = arena_new(live_pages(), 63);
	unsigned long from, to, sum = 0, nr_mappings = 0;
	char text[65536], access[8], name[256], *line, *rest;
	size_t length = 0;
	ssize_t got;
	FILE *maps;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	maps = fopen("/proc/self/maps", "re");
	CHECK(maps);
	while (length < sizeof(text) - 1 &&
	       (got = (ssize_t)fread(text + length, 1, sizeof(text) - 1 - length, maps)) > 0)
		length += (size_t)got;
	text[length] = '\0';
	fclose(maps);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		name[0] = '\0';
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, access, name) < 3)
			continue;
		if (access[0] != 'r' || access[3] != 'p' || strncmp(name, "[v", 2) == 0)
			continue;
		nr_mappings++;
		for (unsigned long at = from; at < to; at += PAGE_BYTES)
			sum += *(volatile unsigned char *)at;
	}
	CHECK(nr_mappings > 4 && sum > 0);
	arena_check(&arena, 0, arena.nr_pages);
}

/* Everything that is not private anonymous memory stays where it is, and stays right. */
static void shared_left_alone(void)
{
	size_t nr = live_pages() / 4;
	struct arena arena = arena_new(live_pages(), 64), shared, file;
	int fd = memfd_create("live", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)(nr * PAGE_BYTES)) == 0);
	shared = arena_at(mmap(NULL, nr * PAGE_BYTES, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), nr,
			  65);
	file = arena_at(mmap(NULL, nr * PAGE_BYTES, RW, MAP_PRIVATE, fd, 0), nr, 66);
	CHECK(shared.base != MAP_FAILED && file.base != MAP_FAILED);
	arena_fill(&shared, 0, nr, 1);
	arena_fill(&file, 0, nr / 8, 1);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	CHECK(arena_absent_pages(&shared, 0, nr) == 0);
	CHECK(arena_absent_pages(&file, 0, nr / 8) == 0);
	arena_check(&shared, 0, nr);
	arena_check(&file, 0, nr);
	arena_check(&arena, 0, arena.nr_pages);
	close(fd);
}

/* ---- without a helper ---- */

/* Its helper was killed: nothing leaves its memory any more, but what it has counts, and others have less. */
static void helper_killed_counts(void)
{
	struct arena arena = arena_new(live_pages(), 67);
	size_t kept = arena.nr_pages / 6;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	CHECK(madvise(arena_page(&arena, kept), (arena.nr_pages - kept) * PAGE_BYTES, MADV_DONTNEED) == 0);
	arena_forget(&arena, kept, arena.nr_pages);
	arena_fill(&arena, 0, kept, 2);
	live_told("helper-killed");
	arena_check(&arena, 0, kept);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		execl(live_self, live_self, "fill-beside", (char *)NULL);
		live_fail("exec: errno %d", errno);
	}
	live_wait(pid);
	arena_check(&arena, 0, kept);
}

static void fill_beside(void)
{
	struct arena arena = arena_new(live_pages(), 68);

	for (uint32_t round = 1; round < 12; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		arena_check(&arena, 0, arena.nr_pages);
	}
}

static const struct live_case cases[] = {
	{ "holes-rule15", holes_rule15 },
	{ "kernel-swap-rule16", kernel_swap_rule16 },
	{ "long-runs-rule17", long_runs_rule17 },
	{ "rewritten-after-return-rule19", rewritten_after_return_rule19 },
	{ "first-touch-rule21", first_touch_rule21 },
	{ "brk-grow-shrink-rule11", brk_grow_shrink_rule11 },
	{ "mlock-stays", mlock_stays },
	{ "mlock-then-grows", mlock_then_grows },
	{ "mlockall-later", mlockall_later },
	{ "mincore-answers", mincore_answers },
	{ "reads-every-mapping-rule26", reads_every_mapping_rule26 },
	{ "shared-left-alone", shared_left_alone },
	{ "helper-killed-counts", helper_killed_counts },
	{ "fill-beside", fill_beside },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
