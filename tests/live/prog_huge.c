/* SPDX-License-Identifier: MIT */
/*
 * Live cases: memory in huge pages, filled, taken out and brought back in one piece.
 *
 * Each case wants huge pages for its arena (MADV_HUGEPAGE) and does to blocks what takes them apart:
 * discards, unmaps, moves, protects or forks a part of one. Every byte is compared. The driver looks at the
 * statistics for whether blocks really went whole.
 */
#include "live.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BLOCK_BYTES (2 * MIB)
#define BLOCK_PAGES (BLOCK_BYTES / PAGE_BYTES)

/* Whole blocks, with a reserved block before and behind. */
static struct arena arena_of_blocks(size_t nr_pages, uint64_t seed)
{
	size_t bytes = nr_pages * PAGE_BYTES;
	uintptr_t space = (uintptr_t)space_reserve(bytes + 3 * BLOCK_BYTES);
	unsigned char *base = (unsigned char *)((space + 2 * BLOCK_BYTES - 1) & ~(uintptr_t)(BLOCK_BYTES - 1));

	CHECK(bytes % BLOCK_BYTES == 0);
	space_commit(base, bytes);
	return arena_at(base, nr_pages, seed);
}

static void arena_advise(const struct arena *arena, int advice)
{
	CHECK(madvise(arena->base, arena->nr_pages * PAGE_BYTES, advice) == 0);
}

static struct arena arena_huge(size_t nr_pages, uint64_t seed)
{
	struct arena arena = arena_of_blocks(nr_pages, seed);

	arena_advise(&arena, MADV_HUGEPAGE);
	return arena;
}

/* Of the mapping that holds an address: whether `word` is in its line `name` of smaps. */
static bool mapping_says(const void *at, const char *name, const char *word)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[512];
	bool inside = false, yes = false;

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		uintptr_t start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = (uintptr_t)at >= start && (uintptr_t)at < end;
		else if (inside && strncmp(line, name, strlen(name)) == 0)
			yes = strstr(line, word) != NULL;
	}
	fclose(file);
	return yes;
}

/* Whether some userfaultfd has it. */
static bool registered(const void *at)
{
	return mapping_says(at, "VmFlags:", " um");
}

/* Make memory tight, until the arena is looked after; nothing of it has been touched. */
static void arena_manage(const struct arena *arena)
{
	live_press();
	for (unsigned round = 0; live_budget_bytes && !registered(arena->base); round++) {
		CHECK(round < PRESS_ROUNDS);
		usleep(10000);
	}
}

static void arena_discard(struct arena *arena, size_t from, size_t nr)
{
	CHECK(madvise(arena_page(arena, from), nr * PAGE_BYTES, MADV_DONTNEED) == 0);
	arena_forget(arena, from, from + nr);
}

/* ---- one thread ---- */

static void huge_half_of_memory(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_huge(nr, 80);
	uint64_t state = 80;

	arena_manage(&arena);
	for (uint32_t round = 1; round <= 2; round++) {
		arena_fill(&arena, 0, nr, round);
		arena_check(&arena, 0, nr);
		for (size_t i = 0; i < nr / 8; i++) {
			size_t page = live_random(&state) % nr;
			arena_check(&arena, page, page + 1);
			if (i % 4 == 0)
				arena_fill(&arena, page, page + 1, round + 10);
		}
	}
	arena_check(&arena, 0, nr);
}

/* A part of the memory is touched again and again while the rest passes by once: what is held of it comes
 * back. */
static void huge_hot_part(void)
{
	size_t nr = live_pages(), hot = nr / 8;
	struct arena arena = arena_huge(nr, 81);

	arena_manage(&arena);
	arena_fill(&arena, 0, hot, 1);
	for (size_t at = hot; at + BLOCK_PAGES <= nr; at += BLOCK_PAGES) {
		arena_fill(&arena, at, at + BLOCK_PAGES, 1);
		for (size_t i = 0; i < hot; i += BLOCK_PAGES)
			arena_check(&arena, i, i + 1);
	}
	arena_check(&arena, 0, nr);
}

/* The same, round and round: blocks go away and come anew, until it is told to end. */
static volatile sig_atomic_t told_to_end;

static void end_note(int signal_number)
{
	told_to_end = signal_number;
}

static void huge_until_signal(void)
{
	size_t nr = live_pages(), hot = nr / 8;
	struct arena arena = arena_huge(nr, 89);
	struct sigaction action = { .sa_handler = end_note, .sa_flags = SA_RESTART };

	CHECK(sigaction(SIGTERM, &action, NULL) == 0);
	arena_manage(&arena);
	arena_fill(&arena, 0, nr, 1);
	for (uint32_t round = 2; !told_to_end; round++)
		for (size_t at = hot; at + BLOCK_PAGES <= nr && !told_to_end; at += BLOCK_PAGES) {
			arena_check(&arena, at, at + BLOCK_PAGES);
			arena_discard(&arena, at, BLOCK_PAGES);
			arena_fill(&arena, at, at + BLOCK_PAGES, round);
			for (size_t i = 0; i < hot; i += BLOCK_PAGES)
				arena_check(&arena, i, i + 1);
		}
	arena_check(&arena, 0, nr);
}

/* New memory comes in huge pages, or not, a while after that was advised. */
static void advice_await(struct arena *arena, bool wanted)
{
	size_t nr = 16 * BLOCK_PAGES;
	bool huge = !wanted;

	for (unsigned round = 1; huge != wanted; round++) {
		CHECK(round < PRESS_ROUNDS);
		usleep(10000);
		arena_discard(arena, 0, nr);
		arena_fill(arena, 0, nr, round);
		huge = !mapping_says(arena->base, "AnonHugePages:", " 0 kB");
	}
	arena_check(arena, 0, arena->nr_pages);
}

/* Memory has long been looked after when the program says what it wants. */
static void huge_advised_late(void)
{
	struct arena arena = arena_of_blocks(live_pages(), 91);

	arena_manage(&arena);
	arena_advise(&arena, MADV_NOHUGEPAGE);
	advice_await(&arena, false);
	arena_advise(&arena, MADV_HUGEPAGE);
	advice_await(&arena, true);
	arena_advise(&arena, MADV_NOHUGEPAGE);
	advice_await(&arena, false);
	arena_advise(&arena, MADV_HUGEPAGE);
	advice_await(&arena, true);
	CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
	advice_await(&arena, false);
}

static void huge_dontneed_part(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_huge(nr, 82);

	arena_manage(&arena);
	arena_fill(&arena, 0, nr, 1);
	for (size_t at = 0; at + 4 * BLOCK_PAGES <= nr; at += 4 * BLOCK_PAGES) {
		arena_discard(&arena, at + 100, 7);
		arena_discard(&arena, at + BLOCK_PAGES, BLOCK_PAGES);
		arena_discard(&arena, at + 2 * BLOCK_PAGES + 300, BLOCK_PAGES);
	}
	arena_check(&arena, 0, nr);
	/* Blocks that were discarded are untouched memory again. */
	for (size_t at = 0; at + 4 * BLOCK_PAGES <= nr; at += 4 * BLOCK_PAGES)
		arena_fill(&arena, at + BLOCK_PAGES, at + 2 * BLOCK_PAGES, 2);
	live_press();
	arena_check(&arena, 0, nr);
}

static void huge_munmap_mid_block(void)
{
	size_t nr = live_pages(), cut = nr / 2 + BLOCK_PAGES / 2;
	struct arena arena = arena_huge(nr, 83);

	arena_manage(&arena);
	arena_fill(&arena, 0, nr, 1);
	CHECK(munmap(arena_page(&arena, cut), 3 * BLOCK_PAGES * PAGE_BYTES) == 0);
	arena_check(&arena, 0, cut);
	/* Something else in half of the hole; the other half is new memory of the same kind. */
	space_commit(arena_page(&arena, cut), 3 * BLOCK_PAGES * PAGE_BYTES);
	CHECK(madvise(arena_page(&arena, cut), 3 * BLOCK_PAGES * PAGE_BYTES, MADV_HUGEPAGE) == 0);
	arena_forget(&arena, cut, cut + 3 * BLOCK_PAGES);
	arena_check(&arena, cut - BLOCK_PAGES, nr);
	arena_fill(&arena, cut, cut + BLOCK_PAGES, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* Blocks move to where they are still whole, and to where they are not. */
static void huge_mremap_block(void)
{
	size_t nr = live_pages(), part = 8 * BLOCK_PAGES;
	struct arena arena = arena_huge(nr, 84);
	unsigned char *space = space_reserve(part * PAGE_BYTES + 2 * BLOCK_BYTES);
	uintptr_t aligned = ((uintptr_t)space + BLOCK_BYTES - 1) & ~(uintptr_t)(BLOCK_BYTES - 1);

	arena_manage(&arena);
	arena_fill(&arena, 0, nr, 1);
	for (unsigned turn = 0; turn < 4; turn++) {
		unsigned char *source = arena_page(&arena, part * turn);
		unsigned char *target = (unsigned char *)aligned + (turn % 2 ? 3 * PAGE_BYTES : 0);
		size_t bytes = part * PAGE_BYTES;

		if (turn > 1)
			arena_cold(&arena, part * turn, part * (turn + 1));
		CHECK(mremap(source, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
		live_press();
		for (size_t i = 0; i < part; i++)
			page_check(target + i * PAGE_BYTES, 84, part * turn + i, 1);
		CHECK(mremap(target, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, source) == source);
		arena_check(&arena, part * turn, part * (turn + 1));
	}
	arena_check(&arena, 0, nr);
}

static void huge_mprotect_part(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_huge(nr, 85);

	arena_manage(&arena);
	arena_fill(&arena, 0, nr / 2, 1);
	for (size_t at = BLOCK_PAGES / 2; at + 5 * BLOCK_PAGES < nr; at += 5 * BLOCK_PAGES)
		CHECK(mprotect(arena_page(&arena, at), 2 * BLOCK_PAGES * PAGE_BYTES, PROT_READ) == 0);
	live_press();
	arena_check(&arena, 0, nr / 2);
	for (size_t at = BLOCK_PAGES / 2; at + 5 * BLOCK_PAGES < nr; at += 5 * BLOCK_PAGES)
		CHECK(mprotect(arena_page(&arena, at), 2 * BLOCK_PAGES * PAGE_BYTES, RW) == 0);
	arena_fill(&arena, nr / 2, nr, 1);
	live_press();
	arena_check(&arena, 0, nr);
}

/* Children made while blocks are whole, held as one and coming back as one. */
static void huge_fork(void)
{
	size_t nr = live_pages() / 2;
	struct arena arena = arena_huge(nr, 86);

	arena_manage(&arena);
	arena_fill(&arena, 0, nr / 2, 1);
	for (uint32_t round = 0; round < 3; round++) {
		pid_t pid;

		live_press();
		arena_check(&arena, 0, nr / 4);
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			arena_check(&arena, 0, nr / 2);
			for (size_t i = 0; i < nr; i += 3)
				arena_fill(&arena, i, i + 1, 10 + round);
			arena_check(&arena, 0, nr);
			_exit(0);
		}
		for (size_t i = 1; i < nr / 2; i += 3)
			arena_fill(&arena, i, i + 1, 20 + round);
		arena_check(&arena, 0, nr / 2);
		live_wait(pid);
	}
	arena_fill(&arena, nr / 2, nr, 2);
	arena_check(&arena, 0, nr);
}

/*
 * Children that end at once, and blocks discarded and written while the sharing that is left of each is
 * undone: the helper writes to all pages then, also to those that are just not there.
 */
static void huge_child_ends(void)
{
	size_t nr = live_pages() / 2;
	struct arena arena = arena_huge(nr, 89);

	arena_manage(&arena);
	arena_fill(&arena, 0, nr, 1);
	for (uint32_t round = 2; round < 8; round++) {
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0)
			_exit(0);
		live_wait(pid);
		for (uint32_t turn = 0; turn < 4; turn++) {
			for (size_t at = nr; at >= BLOCK_PAGES; at -= BLOCK_PAGES) {
				arena_discard(&arena, at - BLOCK_PAGES, BLOCK_PAGES);
				usleep(200);
			}
			for (size_t at = 0; at < nr; at += BLOCK_PAGES)
				arena_fill(&arena, at, at + 1, round * 4 + turn);
		}
		arena_check(&arena, 0, nr);
		arena_fill(&arena, 0, nr, 100 + round);
	}
	arena_check(&arena, 0, nr);
}

/* Its helper is killed while nothing is going on: everything is still there, and new memory comes. */
static void huge_helper_killed(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_huge(nr, 90);

	arena_manage(&arena);
	arena_fill(&arena, 0, nr * 3 / 4, 1);
	live_told("helper-killed");
	arena_check(&arena, 0, nr * 3 / 4);
	arena_fill(&arena, nr / 2, nr, 2);
	arena_check(&arena, 0, nr);
}

/* ---- threads ---- */

#define NR_THREADS 4u

struct worker {
	struct arena arena;
	unsigned number;
};

/* First touches by all threads at once, each of its own pages in the same blocks. */
static void *shared_blocks_fill(void *argument)
{
	struct worker *w = argument;

	for (size_t at = 0; at < w->arena.nr_pages; at += NR_THREADS * 32) {
		size_t from = at + w->number * 32;
		arena_fill(&w->arena, from, from + 32, 1);
		arena_check(&w->arena, from, from + 32);
	}
	return NULL;
}

/* A thread's own blocks: filled, compared, discarded in parts and filled again. */
static void *own_blocks_churn(void *argument)
{
	struct worker *w = argument;
	size_t nr = w->arena.nr_pages / NR_THREADS, first = w->number * nr;
	uint64_t state = 900 + w->number;

	for (uint32_t turn = 1; turn <= 40; turn++) {
		size_t block = first + live_random(&state) % (nr / BLOCK_PAGES) * BLOCK_PAGES;
		size_t at = block + live_random(&state) % BLOCK_PAGES, end = block + BLOCK_PAGES;

		arena_fill(&w->arena, at, end, turn);
		arena_check(&w->arena, block, end);
		if (turn % 2)
			arena_discard(&w->arena, block, BLOCK_PAGES);
		else
			arena_discard(&w->arena, block + turn, BLOCK_PAGES / 2);
		arena_check(&w->arena, block, end);
	}
	return NULL;
}

static void threads_run(void *(*work)(void *argument), uint64_t seed)
{
	struct arena arena = arena_huge(live_pages(), seed);
	struct worker workers[NR_THREADS];
	pthread_t threads[NR_THREADS];

	arena_manage(&arena);
	for (unsigned i = 0; i < NR_THREADS; i++) {
		workers[i] = (struct worker){ arena, i };
		CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
	}
	for (unsigned i = 0; i < NR_THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	live_press();
	arena_check(&arena, 0, arena.nr_pages);
}

static void huge_threads_one_block(void)
{
	threads_run(shared_blocks_fill, 87);
}

static void huge_threads_discard(void)
{
	threads_run(own_blocks_churn, 88);
}

int main(int argc, char **argv)
{
	static const struct live_case cases[] = {
		{ "huge-half-of-memory", huge_half_of_memory },
		{ "huge-hot-part", huge_hot_part },
		{ "huge-until-signal", huge_until_signal },
		{ "huge-advised-late", huge_advised_late },
		{ "huge-dontneed-part", huge_dontneed_part },
		{ "huge-munmap-mid-block", huge_munmap_mid_block },
		{ "huge-mremap-block", huge_mremap_block },
		{ "huge-mprotect-part", huge_mprotect_part },
		{ "huge-fork", huge_fork },
		{ "huge-child-ends", huge_child_ends },
		{ "huge-helper-killed", huge_helper_killed },
		{ "huge-threads-one-block", huge_threads_one_block },
		{ "huge-threads-discard", huge_threads_discard },
		{ 0 },
	};

	return live_main(argc, argv, cases);
}
