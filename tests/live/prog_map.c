/* SPDX-License-Identifier: MIT */
/*
 * Live cases: what a program does to its mappings while their pages are stored elsewhere.
 *
 * Each case brings pages out of memory first, then unmaps, moves or protects them, and compares every byte
 * with what the kernel alone would have given.
 */
#include "live.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static bool range_unmapped(void *base, size_t bytes)
{
	unsigned char seen[1];

	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		if (mincore((char *)base + at, PAGE_BYTES, seen) == 0 || errno != ENOMEM)
			return false;
	return true;
}

/* ---- mremap ---------------------------------------------------------------------------------- */

static void mremap_grow_in_place_rule09(void)
{
	size_t nr = live_pages(), half = nr / 2, step = half / 8;
	unsigned char *space = space_reserve(nr * PAGE_BYTES);
	struct arena arena = arena_at(space, nr, 1);

	space_commit(space, half * PAGE_BYTES);
	arena_fill(&arena, 0, half, 1);
	arena_cold(&arena, 0, half / 2);
	for (size_t end = half; end < nr; end += step) {
		/* Room is made just before, or another mapping would come to lie there. */
		CHECK(munmap(space + end * PAGE_BYTES, step * PAGE_BYTES) == 0);
		CHECK(mremap(space, end * PAGE_BYTES, (end + step) * PAGE_BYTES, 0) == space);
		/* New memory reads as zeros in its first half before anything is written there. */
		arena_check(&arena, end, end + step / 2);
		arena_fill(&arena, end, end + step, 2);
	}
	arena_cold(&arena, half, nr - step);
	arena_check(&arena, 0, nr);
}

static void mremap_move_rule09(void)
{
	size_t nr = live_pages(), bytes = nr * PAGE_BYTES;
	struct arena arena = arena_new(nr, 2);

	arena_fill(&arena, 0, nr, 1);
	for (uint32_t round = 2; round < 5; round++) {
		unsigned char *old = arena.base, *target = space_reserve(bytes);

		arena_cold(&arena, 0, nr / 2);
		CHECK(mremap(old, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
		CHECK(range_unmapped(old, bytes));
		arena.base = target;
		arena_check(&arena, 0, nr / 4);
		arena_fill(&arena, 0, nr / 8, round);
		arena_check(&arena, nr / 4, nr);
	}
	arena_check(&arena, 0, nr);
}

static void mremap_move_and_grow(void)
{
	size_t nr = live_pages() / 2, bytes = nr * PAGE_BYTES;
	struct arena arena = arena_at(space_reserve(3 * bytes), 2 * nr, 3);
	unsigned char *moved;

	space_commit(arena.base, bytes);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr / 2);
	/* What lies behind is reserved, so growing must move. */
	moved = mremap(arena.base, bytes, 2 * bytes, MREMAP_MAYMOVE);
	CHECK(moved != MAP_FAILED && moved != arena.base);
	arena.base = moved;
	arena_check(&arena, 0, 2 * nr);
	arena_fill(&arena, nr, 2 * nr, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, 2 * nr);
}

static void mremap_move_part(void)
{
	size_t nr = live_pages(), part = nr / 4;
	struct arena arena = arena_new(nr, 4);
	unsigned char *source = arena_page(&arena, part), *target;

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, part, 2 * part);
	target = space_reserve(part * PAGE_BYTES);
	CHECK(mremap(source, part * PAGE_BYTES, part * PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED,
		     target) == target);
	CHECK(range_unmapped(source, part * PAGE_BYTES));
	for (size_t i = 0; i < part; i++)
		page_check(target + i * PAGE_BYTES, 4, part + i, 1);
	arena_check(&arena, 0, part);
	arena_check(&arena, 2 * part, nr);
	/* And back into the gap. */
	CHECK(mremap(target, part * PAGE_BYTES, part * PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED,
		     source) == source);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void mremap_dontunmap(void)
{
	size_t nr = live_pages() / 2, bytes = nr * PAGE_BYTES;
	struct arena arena = arena_new(nr, 5), old;
	unsigned char *target;

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr / 2);
	target = mremap(arena.base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	CHECK(target != MAP_FAILED);
	old = arena_at(arena.base, nr, 6);
	arena.base = target;
	arena_check(&old, 0, nr / 2);
	arena_check(&arena, 0, nr);
	arena_fill(&old, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	arena_check(&old, 0, nr);
}

/* The old place of a DONTUNMAP goes in two ways that send other events; memory is moved back there, and unmapped.
 * What is mapped there then is new. */
static void mremap_dontunmap_then(bool moved_on)
{
	size_t nr = live_pages() / 8, bytes = nr * PAGE_BYTES;
	struct arena arena = arena_new(nr, 21), new;
	unsigned char *first = arena.base;
	unsigned char *beside = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	arena.base = mremap(first, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	CHECK(arena.base != MAP_FAILED && beside != MAP_FAILED);
	if (moved_on) {
		CHECK(mremap(first, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, beside) == beside);
	} else {
		CHECK(munmap(first, bytes / 2) == 0);
		CHECK(munmap(first + bytes / 2, bytes - bytes / 2) == 0);
	}
	arena_fill(&arena, 0, nr, 2);
	CHECK(mremap(arena.base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, first) == first);
	arena.base = first;
	arena_fill(&arena, 0, nr, 3); /* resident */
	CHECK(munmap(first, bytes) == 0);
	CHECK(mmap(first, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == first);
	new = arena_at(first, nr, 22);
	arena_fill(&new, 0, nr, 1);
	live_press();
	arena_check(&new, 0, nr);
}

static void mremap_dontunmap_then_in_parts(void)
{
	mremap_dontunmap_then(false);
}

static void mremap_dontunmap_then_on(void)
{
	mremap_dontunmap_then(true);
}

/* More of them than the server remembers: memory that comes later is adopted all the same; the driver judges the
 * budget. */
static void mremap_dontunmap_often(void)
{
	size_t nr = 256, bytes = nr * PAGE_BYTES;
	struct arena arena = arena_new(nr, 23), more = arena_new(live_pages(), 24);

	arena_fill(&arena, 0, nr, 1);
	arena_fill(&more, 0, more.nr_pages / 2, 1);
	live_press();
	for (unsigned i = 0; i < 1100; i++) {
		unsigned char *old = arena.base;
		arena.base = mremap(old, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
		CHECK(arena.base != MAP_FAILED);
		arena_check(&arena, i % nr, i % nr + 1);
	}
	arena_fill(&more, more.nr_pages / 2, more.nr_pages, 1);
	struct arena last = arena_new(live_pages(), 25);
	arena_fill(&last, 0, last.nr_pages, 1);
	live_press();
	sleep(2); /* the bound is judged over a second */
	arena_check(&arena, 0, nr);
	arena_check(&more, 0, more.nr_pages);
	arena_check(&last, 0, last.nr_pages);
}

static void mremap_shrink(void)
{
	size_t nr = live_pages(), half = nr / 2;
	struct arena arena = arena_new(nr, 7);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, half, nr);
	CHECK(mremap(arena.base, nr * PAGE_BYTES, half * PAGE_BYTES, 0) == arena.base);
	CHECK(range_unmapped(arena_page(&arena, half), half * PAGE_BYTES));
	arena_check(&arena, 0, half);
	CHECK(mremap(arena.base, half * PAGE_BYTES, nr * PAGE_BYTES, 0) == arena.base);
	arena_forget(&arena, half, nr);
	arena_check(&arena, 0, nr);
	arena_fill(&arena, half, nr, 2);
	arena_check(&arena, 0, nr);
}

/* Moved into the middle of other memory by the call that makes it smaller; then its old place is mapped anew. */
static void mremap_shrink_to_a_place(void)
{
	size_t nr = live_pages() / 8, kept = nr / 4;
	struct arena arena = arena_new(nr, 8), around = arena_new(2 * nr, 9), anew;
	unsigned char *old = arena.base, *to = arena_page(&around, nr / 2);

	arena_fill(&arena, 0, nr, 1);
	arena_fill(&around, 0, 2 * nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(mremap(old, nr * PAGE_BYTES, kept * PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	arena.base = to;
	for (unsigned int round = 0; round < 2; round++) {
		arena_check(&arena, 0, kept);
		arena_check(&around, 0, nr / 2);
		arena_check(&around, nr / 2 + kept, 2 * nr);
		if (round)
			break;
		CHECK(mmap(old, nr * PAGE_BYTES, RW, ANON | MAP_FIXED, -1, 0) == old);
		anew = arena_at(old, nr, 10);
		arena_fill(&anew, 0, nr, 1);
		live_press();
	}
	arena_check(&anew, 0, nr);
}

struct race {
	struct arena *arena;
	unsigned char *target;
	size_t nr_pages;
	atomic_bool stop;
};

/* Touches the target before, while and after pages are moved over it: zeros or the right word. */
static void *race_reader(void *argument)
{
	struct race *race = argument;
	uint64_t state = 99, expected[PAGE_WORDS], got;

	while (!atomic_load(&race->stop)) {
		size_t i = live_random(&state) % race->nr_pages;
		size_t word = live_random(&state) % PAGE_WORDS;

		memcpy(&got, race->target + i * PAGE_BYTES + word * 8, 8);
		pattern_page(expected, race->arena->seed, i, 1);
		if (got != 0 && got != expected[word]) {
			dprintf(2, "MISMATCH address %p page %zu expected %llx or zero got %llx\n",
				(void *)(race->target + i * PAGE_BYTES + word * 8), i,
				(unsigned long long)expected[word], (unsigned long long)got);
			_exit(1);
		}
	}
	return NULL;
}

static void mremap_target_touched_rule08(void)
{
	size_t nr = live_pages() / 2, bytes = nr * PAGE_BYTES;

	for (unsigned int round = 0; round < 4; round++) {
		struct arena arena = arena_new(nr, 8 + round), before;
		unsigned char *target = space_reserve(bytes);
		struct race race = { .arena = &arena, .target = target, .nr_pages = nr };
		pthread_t reader;

		/* A target that held stored pages itself, dropped by the program: all zeros. */
		space_commit(target, bytes);
		before = arena_at(target, nr, 80);
		arena_fill(&before, 0, nr, 1);
		arena_fill(&arena, 0, nr, 1);
		arena_cold(&arena, 0, nr / 2);
		CHECK(madvise(target, bytes, MADV_DONTNEED) == 0);
		CHECK(pthread_create(&reader, NULL, race_reader, &race) == 0);
		usleep(2000);
		CHECK(mremap(arena.base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target) ==
		      target);
		arena.base = target;
		arena_check(&arena, 0, nr);
		atomic_store(&race.stop, true);
		CHECK(pthread_join(reader, NULL) == 0);
		arena_free(&arena);
		free(before.generation);
	}
}

/* ---- munmap, mmap over ----------------------------------------------------------------------- */

static void munmap_partial(void)
{
	size_t nr = live_pages(), piece = 16;
	struct arena arena = arena_new(nr, 20);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	for (size_t i = 0; i + 4 * piece <= nr / 2; i += 4 * piece)
		CHECK(munmap(arena_page(&arena, i), piece * PAGE_BYTES) == 0);
	CHECK(munmap(arena_page(&arena, nr / 2), nr / 8 * PAGE_BYTES) == 0);
	for (size_t i = 0; i + 4 * piece <= nr / 2; i += 4 * piece) {
		CHECK(range_unmapped(arena_page(&arena, i), piece * PAGE_BYTES));
		arena_check(&arena, i + piece, i + 4 * piece);
	}
	arena_check(&arena, nr / 2 + nr / 8, nr);
	/* The same addresses again are new memory. */
	for (size_t i = 0; i + 4 * piece <= nr / 2; i += 4 * piece) {
		space_commit(arena_page(&arena, i), piece * PAGE_BYTES);
		arena_forget(&arena, i, i + piece);
	}
	space_commit(arena_page(&arena, nr / 2), nr / 8 * PAGE_BYTES);
	arena_forget(&arena, nr / 2, nr / 2 + nr / 8);
	arena_check(&arena, 0, nr);
	arena_fill(&arena, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* More than is kept of what was unmapped, at once and in parts. */
static void munmap_large_in_parts(void)
{
	size_t nr = live_pages() / 2, large = 2048 * MIB, part = 1280 * MIB;
	struct arena arena = arena_new(nr, 75);

	arena_fill(&arena, 0, nr, 1);
	for (unsigned int round = 0; round < 4; round++) {
		unsigned char *at = mmap(NULL, large, RW, ANON | MAP_NORESERVE, -1, 0);
		CHECK(at != MAP_FAILED);
		struct arena ends[2] = { arena_at(at, nr, 76), arena_at(at + large - nr * PAGE_BYTES, nr, 77) };
		arena_fill(&ends[0], 0, nr, 1);
		arena_fill(&ends[1], 0, nr, 1);
		arena_cold(&ends[0], 0, nr);
		arena_check(&ends[1], 0, nr);
		CHECK(munmap(at, part) == 0);
		CHECK(munmap(at + part, large - part) == 0);
	}
	arena_check(&arena, 0, nr);
}

static void mmap_fixed_over_rule09(void)
{
	size_t nr = live_pages(), eighth = nr / 8;
	struct arena arena = arena_new(nr, 21), file, shared;
	int fd = memfd_create("live", MFD_CLOEXEC);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	/* Anonymous, a private file and a shared mapping, each over stored pages. */
	space_commit(arena_page(&arena, eighth), eighth * PAGE_BYTES);
	arena_forget(&arena, eighth, 2 * eighth);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)(eighth * PAGE_BYTES)) == 0);
	file = arena_at(arena_page(&arena, 3 * eighth), eighth, 22);
	for (size_t i = 0; i < eighth; i++) {
		unsigned char page[PAGE_BYTES];

		pattern_page(page, 22, i, 1);
		CHECK(pwrite(fd, page, PAGE_BYTES, (off_t)(i * PAGE_BYTES)) == PAGE_BYTES);
		file.generation[i] = 1;
	}
	CHECK(mmap(file.base, eighth * PAGE_BYTES, RW, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
	      file.base);
	shared = arena_at(arena_page(&arena, 5 * eighth), eighth, 23);
	CHECK(mmap(shared.base, eighth * PAGE_BYTES, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == shared.base);
	arena_check(&file, 0, eighth);
	arena_check(&shared, 0, eighth);
	arena_fill(&shared, 0, eighth, 3);
	arena_fill(&file, 0, eighth / 2, 2);
	for (unsigned int i = 0; i < 8; i++)
		if (i != 3 && i != 5)
			arena_check(&arena, i * eighth, (i + 1) * eighth);
	live_press();
	arena_check(&file, 0, eighth);
	arena_check(&shared, 0, eighth);
	close(fd);
}

/* Neighbours that merge, split and come one by one; each starts as zeros. */
static void many_mappings_rule11(void)
{
	size_t nr = live_pages(), piece = 2 * PAGES_PER_MIB;
	struct arena arena = arena_at(space_reserve(nr * PAGE_BYTES), nr, 24);

	for (size_t i = 0; i < nr; i += piece) {
		int flags = ANON | MAP_FIXED | (i / piece % 3 == 0 ? MAP_NORESERVE : 0);

		CHECK(mmap(arena_page(&arena, i), piece * PAGE_BYTES, RW, flags, -1, 0) ==
		      arena_page(&arena, i));
		arena_fill(&arena, i, i + piece / 2, 1);
		if (i / piece % 5 == 4) {
			CHECK(munmap(arena_page(&arena, i), piece * PAGE_BYTES) == 0);
			space_commit(arena_page(&arena, i), piece * PAGE_BYTES);
			arena_forget(&arena, i, i + piece);
		}
	}
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	arena_fill(&arena, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* ---- mprotect -------------------------------------------------------------------------------- */

static void mprotect_ro_none_back(void)
{
	size_t nr = live_pages(), third = nr / 3;
	struct arena arena = arena_new(nr, 30);
	unsigned char *ro = arena_page(&arena, 0), *none = arena_page(&arena, third);

	segv_catch();
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(mprotect(ro, third * PAGE_BYTES, PROT_READ) == 0);
	CHECK(mprotect(none, third * PAGE_BYTES, PROT_NONE) == 0);
	arena_check(&arena, 0, third / 2);
	arena_check(&arena, 2 * third, nr);
	for (size_t i = 0; i < third; i += 37) {
		CHECK(access_fault(ro + i * PAGE_BYTES, true) == SEGV_ACCERR);
		CHECK(access_fault(none + i * PAGE_BYTES, false) == SEGV_ACCERR);
	}
	live_press();
	arena_check(&arena, 0, third);
	CHECK(mprotect(ro, 2 * third * PAGE_BYTES, RW) == 0);
	arena_check(&arena, 0, nr);
	arena_fill(&arena, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void mprotect_small_pieces(void)
{
	size_t nr = live_pages(), piece = 32;
	struct arena arena = arena_new(nr, 31);

	arena_fill(&arena, 0, nr, 1);
	for (uint32_t round = 2; round < 5; round++) {
		for (size_t i = 0; i + piece <= nr; i += 2 * piece)
			CHECK(mprotect(arena_page(&arena, i), piece * PAGE_BYTES, PROT_READ) == 0);
		arena_cold(&arena, piece, 2 * piece);
		live_press();
		arena_check(&arena, 0, nr);
		for (size_t i = 0; i + piece <= nr; i += 2 * piece)
			CHECK(mprotect(arena_page(&arena, i), piece * PAGE_BYTES, RW) == 0);
		arena_fill(&arena, round * 100, nr / 2, round);
	}
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* ---- small mappings -------------------------------------------------------------------------- */

#define NR_SMALL 2048u

/* Of 256, 128 or 64 KiB, in three: one below its neighbours of another protection, one in two halves, one
 * by itself. No two adjoin. */
static struct arena small_new(size_t i)
{
	size_t pages = (size_t)16 << (i % 3), bytes = pages * PAGE_BYTES;
	unsigned char *space = space_reserve(bytes + 2 * PAGE_BYTES);
	struct arena arena = arena_at(space + PAGE_BYTES, pages, 500 + i);

	space_commit(arena.base, bytes);
	CHECK(munmap(space, PAGE_BYTES) == 0);
	if (i % 5)
		CHECK(munmap(space + PAGE_BYTES + bytes, PAGE_BYTES) == 0);
	arena_fill(&arena, 0, pages, 1);
	if (i % 7 == 0) {
		CHECK(mprotect(arena.base, bytes / 2, PROT_READ) == 0);
		CHECK(mprotect(arena.base, bytes / 2, RW) == 0);
	}
	return arena;
}

/* As V8 has its heap. All that is in memory is in small mappings, seven times the budget. */
static void small_mappings(void)
{
	static struct arena arenas[NR_SMALL];

	for (size_t i = 0; i < NR_SMALL; i++)
		arenas[i] = small_new(i);
	for (uint32_t round = 2; round < 4; round++) {
		for (size_t i = 0; i < NR_SMALL; i++)
			arena_check(&arenas[i], 0, arenas[i].nr_pages);
		for (size_t i = round; i < NR_SMALL; i += 3) {
			arena_free(&arenas[i]);
			arenas[i] = small_new(i + round);
		}
		for (size_t i = 0; i < NR_SMALL; i += 4)
			arena_fill(&arenas[i], 0, arenas[i].nr_pages / 2, round);
		for (size_t i = 1; i < NR_SMALL; i += 64) {
			size_t bytes = arenas[i].nr_pages * PAGE_BYTES;
			unsigned char *to = space_reserve(bytes);
			CHECK(mremap(arenas[i].base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
			arenas[i].base = to;
		}
	}
	for (size_t i = 0; i < NR_SMALL; i++)
		arena_check(&arenas[i], 0, arenas[i].nr_pages);
}

/* As a heap of Go or Java does it: reserve much, commit pieces, give pieces back. */
static void guard_reserve_then_commit(void)
{
	size_t reserve = 1024 * MIB, nr = live_pages(), done = 0, piece = 16, pieces = 0;
	unsigned char *space = space_reserve(reserve);
	struct arena arena = arena_at(space, reserve / PAGE_BYTES, 32);

	for (; done < nr; done += piece, pieces++) {
		piece = (size_t)16 << (pieces % 7);
		CHECK(mprotect(arena_page(&arena, done), piece * PAGE_BYTES, RW) == 0);
		arena_fill(&arena, done, done + piece, 1);
	}
	arena_cold(&arena, 0, done);
	arena_check(&arena, 0, done);
	CHECK(madvise(arena_page(&arena, 64), 4096 * PAGE_BYTES, MADV_DONTNEED) == 0);
	CHECK(mprotect(arena_page(&arena, 64), 4096 * PAGE_BYTES, PROT_NONE) == 0);
	live_press();
	CHECK(mprotect(arena_page(&arena, 64), 4096 * PAGE_BYTES, RW) == 0);
	arena_forget(&arena, 64, 64 + 4096);
	arena_check(&arena, 0, done);
	arena_fill(&arena, 0, done, 3);
	arena_cold(&arena, 0, done);
	arena_check(&arena, 0, done);
}

/* Little address space is left when memory becomes tight: of that the tool takes half at most. */
static void address_space_limited(void)
{
	struct arena arena = arena_new(live_pages(), 33);
	unsigned long pages = 0;
	struct rlimit limit;
	FILE *statm = fopen("/proc/self/statm", "r");

	CHECK(statm && fscanf(statm, "%lu", &pages) == 1 && fclose(statm) == 0);
	CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
	limit.rlim_cur = pages * PAGE_BYTES + 56 * MIB;
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	live_told("limit-is-said");
	arena_check(&arena, 0, arena.nr_pages);
	struct arena rest = arena_new(40 * PAGES_PER_MIB, 34);
	arena_fill(&rest, 0, rest.nr_pages, 1);
	arena_check(&rest, 0, rest.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
}

/* Kernels from 6.12 on tell that the old mappings go although they refuse the new one, and all is as it was. */
static void refuse(void *base, size_t bytes)
{
	struct rlimit limit, none;

	CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
	none = (struct rlimit){ MIB, limit.rlim_max };
	CHECK(setrlimit(RLIMIT_DATA, &none) == 0);
	void *over = mmap(base, bytes, RW, ANON | MAP_FIXED, -1, 0);
	CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
	CHECK(over == MAP_FAILED);
}

static void mmap_fixed_refused(void)
{
	struct arena arena = arena_new(live_pages(), 35);
	size_t half = arena.nr_pages / 2;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, half);
	/* Longer than what is there: so it would be more data. */
	refuse(arena.base, (arena.nr_pages + half) * PAGE_BYTES);
	arena_check(&arena, 0, arena.nr_pages);
	arena_cold(&arena, 0, half);
	arena_check(&arena, 0, arena.nr_pages);
}

/* What is below has just gone; and of what it was to replace a part goes at once. */
static void mmap_fixed_refused_in_part(void)
{
	struct arena arena = arena_new(live_pages(), 36);
	size_t nr = arena.nr_pages, quarter = nr / 4;

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(munmap(arena.base, quarter * PAGE_BYTES) == 0);
	refuse(arena_page(&arena, quarter), nr * PAGE_BYTES);
	arena_check(&arena, quarter, nr);
	arena_cold(&arena, quarter, nr);
	refuse(arena_page(&arena, quarter), nr * PAGE_BYTES);
	CHECK(munmap(arena_page(&arena, quarter), quarter * PAGE_BYTES) == 0);
	arena_check(&arena, 2 * quarter, nr);
	arena_cold(&arena, 2 * quarter, nr);
	arena_check(&arena, 2 * quarter, nr);
}

/* Of what it was to replace a part goes at once, and what is below grows there: that is zeros, the rest as before. */
static void mmap_fixed_refused_then_grown_over(void)
{
	struct arena arena = arena_new(live_pages(), 37);
	size_t nr = arena.nr_pages, quarter = nr / 4;

	for (uint32_t round = 1; round < 4; round++) {
		arena_fill(&arena, 0, nr, round);
		arena_cold(&arena, quarter, 2 * quarter);
		/* Without a page in memory nobody could tell it from what has grown. */
		arena_check(&arena, nr - 64, nr);
		refuse(arena_page(&arena, quarter), nr * PAGE_BYTES);
		CHECK(munmap(arena_page(&arena, quarter), quarter * PAGE_BYTES) == 0);
		CHECK(mremap(arena.base, quarter * PAGE_BYTES, 2 * quarter * PAGE_BYTES, 0) == arena.base);
		arena_forget(&arena, quarter, 2 * quarter);
		arena_check(&arena, 0, nr);
		arena_cold(&arena, 0, quarter);
		arena_check(&arena, 0, nr);
	}
}

/* Pages here and there in far more address space, `together` of them side by side. */
static void noreserve_sparse(size_t gib, size_t together)
{
	size_t nr = gib * 1024 * PAGES_PER_MIB, nr_touched = live_pages();
	unsigned char *base = mmap(NULL, nr * PAGE_BYTES, RW, ANON | MAP_NORESERVE, -1, 0);
	size_t stride = nr / (nr_touched / together);

	CHECK(base != MAP_FAILED);
	for (unsigned int round = 1; round < 3; round++) {
		for (size_t i = 0; i < nr_touched; i++)
			pattern_page(base + (i / together * stride + i % together) * PAGE_BYTES, 33, i, round);
		live_press();
		for (size_t i = 0; i < nr_touched; i++) {
			unsigned char *page = base + (i / together * stride + i % together) * PAGE_BYTES;
			page_check(page, 33, i, round);
			if ((i + 1) % together == 0 && i / together % 16 == 0)
				page_check(page + PAGE_BYTES, 33, i, 0);
		}
	}
}

static void noreserve_8_gib_sparse(void)
{
	noreserve_sparse(8, 1);
}

/* To look at each of its pages would take so long that memory fills faster. */
static void noreserve_256_gib_sparse(void)
{
	noreserve_sparse(256, 16);
}

/* As sanitizers and interpreters have it: address space far beyond the machine's memory, little of it used. */
static void address_space_reserved(void)
{
	const size_t bytes = (size_t)16 << 40;
	struct arena arena = arena_new(live_pages(), 30);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	unsigned char *none = mmap(NULL, bytes, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	unsigned char *used = mmap(NULL, bytes, RW, ANON | MAP_NORESERVE, -1, 0);
	if (none == MAP_FAILED || used == MAP_FAILED)
		live_skip("no 16 TiB to reserve: errno %d", errno);
	for (size_t i = 0; i < 256; i++)
		used[i * (bytes / 256)] = (unsigned char)i;
	CHECK(mprotect(none + bytes / 2, live_pages() * PAGE_BYTES, RW) == 0);
	struct arena part = arena_at(none + bytes / 2, live_pages(), 31);
	arena_fill(&part, 0, part.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_cold(&part, 0, part.nr_pages);
	pid_t pid = fork();
	CHECK(pid >= 0);
	for (size_t i = 0; i < 256; i++)
		CHECK(used[i * (bytes / 256)] == (unsigned char)i);
	arena_check(&part, 0, part.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	if (pid == 0)
		_exit(0);
	live_wait(pid);
	CHECK(munmap(used, bytes / 2) == 0);
	CHECK(used[bytes / 2] == 128);
	arena_check(&arena, 0, arena.nr_pages);
}

static const struct live_case cases[] = {
	{ "address-space-reserved", address_space_reserved },
	{ "mremap-grow-in-place-rule09", mremap_grow_in_place_rule09 },
	{ "mremap-move-rule09", mremap_move_rule09 },
	{ "mremap-move-and-grow", mremap_move_and_grow },
	{ "mremap-move-part", mremap_move_part },
	{ "mremap-dontunmap", mremap_dontunmap },
	{ "mremap-dontunmap-then-in-parts", mremap_dontunmap_then_in_parts },
	{ "mremap-dontunmap-then-on", mremap_dontunmap_then_on },
	{ "mremap-dontunmap-often", mremap_dontunmap_often },
	{ "mremap-shrink", mremap_shrink },
	{ "mremap-shrink-to-a-place", mremap_shrink_to_a_place },
	{ "mremap-target-touched-rule08", mremap_target_touched_rule08 },
	{ "munmap-partial", munmap_partial },
	{ "munmap-large-in-parts", munmap_large_in_parts },
	{ "mmap-fixed-over-rule09", mmap_fixed_over_rule09 },
	{ "mmap-fixed-refused", mmap_fixed_refused },
	{ "mmap-fixed-refused-in-part", mmap_fixed_refused_in_part },
	{ "mmap-fixed-refused-then-grown-over", mmap_fixed_refused_then_grown_over },
	{ "many-mappings-rule11", many_mappings_rule11 },
	{ "mprotect-ro-none-back", mprotect_ro_none_back },
	{ "mprotect-small-pieces", mprotect_small_pieces },
	{ "small-mappings", small_mappings },
	{ "guard-reserve-then-commit", guard_reserve_then_commit },
	{ "address-space-limited", address_space_limited },
	{ "noreserve-8-gib-sparse", noreserve_8_gib_sparse },
	{ "noreserve-256-gib-sparse", noreserve_256_gib_sparse },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
