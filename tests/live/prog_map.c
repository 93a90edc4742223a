/* SPDX-License-Identifier: MIT */
/*
 * Live cases: what a program does to its mappings while their pages are stored elsewhere.
 *
 * Each case brings pages out of memory first, then unmaps, moves, protects or discards them, and
 * compares every byte with what the kernel alone would have given.
 */
#include "live.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Address space that nothing else has; nobody may touch it. */
static unsigned char *space_reserve(size_t bytes)
{
	void *base = mmap(NULL, bytes, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);

	CHECK(base != MAP_FAILED);
	return base;
}

/* Readable and writable zeros at a place of our own choice. */
static void space_commit(void *base, size_t bytes)
{
	CHECK(mmap(base, bytes, RW, ANON | MAP_FIXED, -1, 0) == base);
}

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

static sigjmp_buf segv_jump;
static volatile sig_atomic_t segv_code;

static void segv_note(int signal_number, siginfo_t *info, void *context)
{
	(void)signal_number;
	(void)context;
	segv_code = info->si_code;
	siglongjmp(segv_jump, 1);
}

static bool access_faults(volatile unsigned char *at, bool write)
{
	if (sigsetjmp(segv_jump, 1))
		return true;
	if (write)
		*at = *at;
	else
		(void)*at;
	return false;
}

static void segv_catch(void)
{
	struct sigaction action = { .sa_sigaction = segv_note, .sa_flags = SA_SIGINFO };

	CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

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
		CHECK(access_faults(ro + i * PAGE_BYTES, true) && segv_code == SEGV_ACCERR);
		CHECK(access_faults(none + i * PAGE_BYTES, false) && segv_code == SEGV_ACCERR);
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

static void noreserve_8_gib_sparse(void)
{
	size_t nr = 8192 * PAGES_PER_MIB, nr_touched = live_pages();
	unsigned char *base = mmap(NULL, nr * PAGE_BYTES, RW, ANON | MAP_NORESERVE, -1, 0);
	size_t stride = nr / nr_touched;

	CHECK(base != MAP_FAILED);
	for (unsigned int round = 1; round < 3; round++) {
		for (size_t i = 0; i < nr_touched; i++)
			pattern_page(base + i * stride * PAGE_BYTES, 33, i, round);
		live_press();
		for (size_t i = 0; i < nr_touched; i++) {
			page_check(base + i * stride * PAGE_BYTES, 33, i, round);
			if (i % 16 == 0)
				page_check(base + (i * stride + 1) * PAGE_BYTES, 33, i, 0);
		}
	}
}

/* ---- madvise --------------------------------------------------------------------------------- */

static void dontneed(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_new(nr, 40);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(madvise(arena_page(&arena, nr / 4), nr / 4 * PAGE_BYTES, MADV_DONTNEED) == 0);
	arena_forget(&arena, nr / 4, nr / 2);
	for (size_t i = nr / 2; i + 8 <= nr; i += 32) {
		CHECK(madvise(arena_page(&arena, i), 8 * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, i, i + 8);
	}
	arena_check(&arena, 0, nr);
	live_press();
	arena_check(&arena, 0, nr);
	arena_fill(&arena, nr / 4, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* Readers touch the same pages while they are thrown away; once thrown away they are zeros. */
struct drop_race {
	struct arena *arena;
	atomic_size_t at;    /* pages below were dropped before this was published */
	atomic_size_t limit; /* touch pages below this only; 0: rest */
	atomic_uint nr_inside;
	atomic_bool stop;
};

/* One touch close around the place where pages are being dropped now. */
static void drop_touch(const struct drop_race *race, uint64_t *state)
{
	size_t dropped = atomic_load(&race->at), limit = atomic_load(&race->limit);
	size_t i = dropped + live_random(state) % 64;

	i = i < 24 ? 0 : i - 24;
	if (i >= limit)
		return;
	if (i < dropped)
		page_check(arena_page(race->arena, i), 41, i, 0);
	else
		(void)*(volatile unsigned char *)(arena_page(race->arena, i) +
						  live_random(state) % PAGE_BYTES);
}

static void *drop_reader(void *argument)
{
	struct drop_race *race = argument;
	uint64_t state = 41;

	while (!atomic_load(&race->stop)) {
		atomic_fetch_add(&race->nr_inside, 1);
		drop_touch(race, &state);
		atomic_fetch_sub(&race->nr_inside, 1);
		if (atomic_load(&race->limit) == 0)
			usleep(100);
	}
	return NULL;
}

static void dontneed_with_readers_rule06(void)
{
	size_t nr = live_pages(), piece = 8;
	struct arena arena = arena_new(nr, 41);
	struct drop_race race = { .arena = &arena };
	pthread_t readers[4];

	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_create(&readers[i], NULL, drop_reader, &race) == 0);
	for (uint32_t round = 1; round < 4; round++) {
		arena_fill(&arena, 0, nr, round);
		arena_cold(&arena, 0, nr / 2);
		atomic_store(&race.at, 0);
		atomic_store(&race.limit, nr);
		for (size_t i = 0; i + piece <= nr; i += piece) {
			CHECK(madvise(arena_page(&arena, i), piece * PAGE_BYTES, MADV_DONTNEED) == 0);
			arena_forget(&arena, i, i + piece);
			atomic_store(&race.at, i + piece);
			arena_check(&arena, i, i + piece);
		}
		arena_check(&arena, 0, nr);
		atomic_store(&race.limit, 0);
		/* Readers still at the last pages must be out before these are written. */
		while (atomic_load(&race.nr_inside))
			usleep(100);
	}
	atomic_store(&race.stop, true);
	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_join(readers[i], NULL) == 0);
}

static void *press_until(void *argument)
{
	atomic_bool *stop = argument;

	while (!atomic_load(stop))
		live_press();
	return NULL;
}

/* Pages are thrown away just when they are the ones being moved out. */
static void dontneed_while_demoted_rule07(void)
{
	size_t nr = live_pages(), chunk = 256;
	struct arena arena = arena_new(nr, 42);
	atomic_bool stop = false;
	uint64_t state = 42;
	pthread_t presser;

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(pthread_create(&presser, NULL, press_until, &stop) == 0);
	for (uint32_t round = 2; round < 300; round++) {
		size_t from = live_random(&state) % (nr / chunk) * chunk;
		size_t some = 1 + live_random(&state) % chunk;

		arena_check(&arena, from, from + chunk);
		CHECK(madvise(arena_page(&arena, from), some * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, from, from + some);
		arena_check(&arena, from, from + chunk);
		if (round % 4)
			arena_fill(&arena, from, from + chunk, round);
	}
	atomic_store(&stop, true);
	CHECK(pthread_join(presser, NULL) == 0);
	arena_check(&arena, 0, nr);
}

/* After MADV_FREE a page is old or zeros, whole; once written again it stays. */
static void madv_free_rule07(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_new(nr, 43);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, nr / 2, nr / 2 + nr / 8);
	CHECK(madvise(arena_page(&arena, nr / 4), nr / 2 * PAGE_BYTES, MADV_FREE) == 0);
	arena_fill(&arena, nr / 4, nr / 4 + nr / 8, 2);
	live_press();
	arena_check(&arena, 0, nr / 4 + nr / 8);
	arena_check(&arena, nr / 4 + nr / 2, nr);
	for (size_t i = nr / 4 + nr / 8; i < nr / 4 + nr / 2; i++) {
		const unsigned char *page = arena_page(&arena, i);
		unsigned char zeros[PAGE_BYTES] = { 0 };

		page_check(page, 43, i, memcmp(page, zeros, PAGE_BYTES) == 0 ? 0 : 1);
	}
	arena_fill(&arena, nr / 4 + nr / 8, nr / 4 + nr / 2, 3);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void hugepage_rule22(void)
{
	size_t nr = live_pages(), block = 2 * PAGES_PER_MIB;
	unsigned char *space = space_reserve((nr + block) * PAGE_BYTES);
	size_t over = (size_t)(uintptr_t)space % (block * PAGE_BYTES);
	struct arena arena = arena_at(space + (block * PAGE_BYTES - over), nr, 44);

	space_commit(arena.base, nr * PAGE_BYTES);
	CHECK(madvise(arena.base, nr * PAGE_BYTES, MADV_HUGEPAGE) == 0);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	/* One page of a huge page is thrown away, one written, one block collapsed by hand. */
	for (size_t i = 0; i < nr; i += block) {
		CHECK(madvise(arena_page(&arena, i + 7), PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, i + 7, i + 8);
		arena_fill(&arena, i + 9, i + 10, 2);
		(void)madvise(arena_page(&arena, i), block * PAGE_BYTES, MADV_COLLAPSE);
	}
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	CHECK(madvise(arena.base, nr / 2 * PAGE_BYTES, MADV_NOHUGEPAGE) == 0);
	arena_fill(&arena, 0, nr, 3);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void guard_install_rule10(void)
{
	size_t nr = live_pages(), piece = 64;
	struct arena arena = arena_new(nr, 45);

	segv_catch();
	arena_fill(&arena, 0, nr, 1);
	if (madvise(arena.base, PAGE_BYTES, MADV_GUARD_INSTALL) != 0)
		live_skip("this kernel has no MADV_GUARD_INSTALL");
	CHECK(madvise(arena.base, PAGE_BYTES, MADV_GUARD_REMOVE) == 0);
	arena_forget(&arena, 0, 1);
	arena_cold(&arena, 0, nr);
	for (size_t i = piece; i + piece <= nr; i += 4 * piece) {
		CHECK(madvise(arena_page(&arena, i), piece * PAGE_BYTES, MADV_GUARD_INSTALL) == 0);
		arena_forget(&arena, i, i + piece);
		CHECK(access_faults(arena_page(&arena, i), false));
		CHECK(access_faults(arena_page(&arena, i + piece - 1), true));
	}
	live_press();
	for (size_t i = piece; i + piece <= nr; i += 4 * piece) {
		CHECK(access_faults(arena_page(&arena, i), false));
		CHECK(madvise(arena_page(&arena, i), piece * PAGE_BYTES, MADV_GUARD_REMOVE) == 0);
	}
	arena_check(&arena, 0, nr);
	arena_fill(&arena, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void odd_mappings_rule14(void)
{
	static const int advice[] = { MADV_DONTFORK, MADV_MERGEABLE, MADV_DONTDUMP,
				      MADV_WIPEONFORK, MADV_RANDOM, MADV_SEQUENTIAL };
	size_t nr = live_pages(), part = nr / 8;
	struct arena arena = arena_new(nr, 46);

	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++)
		/* KSM may be missing from the kernel; the rest must work. */
		CHECK(madvise(arena_page(&arena, (i + 1) * part), part * PAGE_BYTES, advice[i]) ==
			      0 || advice[i] == MADV_MERGEABLE);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	CHECK(madvise(arena_page(&arena, part), part * PAGE_BYTES, MADV_DOFORK) == 0);
	CHECK(madvise(arena_page(&arena, 4 * part), part * PAGE_BYTES, MADV_KEEPONFORK) == 0);
	arena_fill(&arena, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void populate(void)
{
	size_t nr = live_pages(), part = nr / 8;
	struct arena arena = arena_new(nr, 47);

	arena_fill(&arena, 0, nr / 2, 1);
	arena_cold(&arena, 0, nr / 2);
	CHECK(madvise(arena.base, part * PAGE_BYTES, MADV_POPULATE_READ) == 0);
	CHECK(madvise(arena_page(&arena, part), part * PAGE_BYTES, MADV_POPULATE_WRITE) == 0);
	CHECK(madvise(arena_page(&arena, 6 * part), part * PAGE_BYTES, MADV_POPULATE_WRITE) == 0);
	(void)madvise(arena.base, nr * PAGE_BYTES, MADV_WILLNEED);
	(void)madvise(arena.base, part * PAGE_BYTES, MADV_COLD);
	arena_check(&arena, 0, nr);
}

/* Several threads throw away, map and move at once; nothing may hang and nothing may mix. */
static void *storm(void *argument)
{
	size_t nr = 512;
	uint64_t seed = (uint64_t)(uintptr_t)argument, state = seed;
	struct arena arena = arena_new(nr, seed);

	for (uint32_t round = 1; round < 150; round++) {
		size_t from = live_random(&state) % (nr - 16);
		unsigned char *target;

		arena_fill(&arena, 0, nr, round);
		CHECK(madvise(arena_page(&arena, from), 16 * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, from, from + 16);
		arena_check(&arena, 0, nr);
		if (round % 5)
			continue;
		target = space_reserve(nr * PAGE_BYTES);
		CHECK(mremap(arena.base, nr * PAGE_BYTES, nr * PAGE_BYTES,
			     MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
		arena.base = target;
		arena_check(&arena, 0, nr);
	}
	arena_free(&arena);
	return NULL;
}

static void madvise_storm_rule12(void)
{
	struct arena arena = arena_new(live_pages(), 48);
	pthread_t threads[4];

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, storm, (void *)(480 + i)) == 0);
	arena_check(&arena, 0, arena.nr_pages);
	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

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

static void kernel_swap_rule16(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_new(nr, 51);
	char line[256];
	FILE *swaps = fopen("/proc/swaps", "re");
	bool have = swaps && fgets(line, sizeof(line), swaps) && fgets(line, sizeof(line), swaps);

	if (swaps)
		fclose(swaps);
	if (!have)
		live_skip("no swap is on");
	arena_fill(&arena, 0, nr, 1);
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

static void first_touch_rule21(void)
{
	size_t nr = live_pages(), quarter = nr / 4;
	struct arena arena = arena_new(nr, 54);
	unsigned char byte = 0;

	/* Pressure first, so that the arena is adopted memory before it is touched at all. */
	arena_fill(&arena, 3 * quarter, nr, 1);
	arena_cold(&arena, 3 * quarter, nr);
	arena_check(&arena, 0, quarter);
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
	arena_check(&arena, 0, 16);
	CHECK(mincore(arena.base, 16 * PAGE_BYTES, seen) == 0);
	for (size_t i = 0; i < 16; i++)
		CHECK(seen[i] & 1);
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

static const struct live_case cases[] = {
	{ "mremap-grow-in-place-rule09", mremap_grow_in_place_rule09 },
	{ "mremap-move-rule09", mremap_move_rule09 },
	{ "mremap-move-and-grow", mremap_move_and_grow },
	{ "mremap-move-part", mremap_move_part },
	{ "mremap-dontunmap", mremap_dontunmap },
	{ "mremap-shrink", mremap_shrink },
	{ "mremap-target-touched-rule08", mremap_target_touched_rule08 },
	{ "munmap-partial", munmap_partial },
	{ "mmap-fixed-over-rule09", mmap_fixed_over_rule09 },
	{ "many-mappings-rule11", many_mappings_rule11 },
	{ "mprotect-ro-none-back", mprotect_ro_none_back },
	{ "mprotect-small-pieces", mprotect_small_pieces },
	{ "guard-reserve-then-commit", guard_reserve_then_commit },
	{ "noreserve-8-gib-sparse", noreserve_8_gib_sparse },
	{ "dontneed", dontneed },
	{ "dontneed-with-readers-rule06", dontneed_with_readers_rule06 },
	{ "dontneed-while-demoted-rule07", dontneed_while_demoted_rule07 },
	{ "madv-free-rule07", madv_free_rule07 },
	{ "hugepage-rule22", hugepage_rule22 },
	{ "guard-install-rule10", guard_install_rule10 },
	{ "odd-mappings-rule14", odd_mappings_rule14 },
	{ "populate", populate },
	{ "madvise-storm-rule12", madvise_storm_rule12 },
	{ "holes-rule15", holes_rule15 },
	{ "kernel-swap-rule16", kernel_swap_rule16 },
	{ "long-runs-rule17", long_runs_rule17 },
	{ "rewritten-after-return-rule19", rewritten_after_return_rule19 },
	{ "first-touch-rule21", first_touch_rule21 },
	{ "brk-grow-shrink-rule11", brk_grow_shrink_rule11 },
	{ "mlock-stays", mlock_stays },
	{ "mincore-answers", mincore_answers },
	{ "reads-every-mapping-rule26", reads_every_mapping_rule26 },
	{ "shared-left-alone", shared_left_alone },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
