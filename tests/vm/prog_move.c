/* SPDX-License-Identifier: MIT */
/*
 * Guest cases: move_pages(2) between real nodes, with every byte compared while pages move.
 *
 * They are the ground the product stands on: if the kernel lost a byte here, or its counters did
 * not agree with its statuses, no figure of ours would mean anything.
 */
#include "vm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define NR_PAGES (48 * PAGES_PER_MIB)

struct reader {
	struct arena *arena;
	atomic_bool stop;
	size_t nr_rounds;
};

/* Compares all of it again and again, and writes some pages anew. */
static void *read_on(void *argument)
{
	struct reader *reader = argument;
	struct arena *arena = reader->arena;
	uint64_t random = 7;

	while (!atomic_load_explicit(&reader->stop, memory_order_relaxed)) {
		size_t page = live_random(&random) % arena->nr_pages;

		arena_check(arena, page, page + 1);
		arena_fill(arena, page, page + 1, arena->generation[page] + 1);
		reader->nr_rounds++;
	}
	return NULL;
}

static struct arena arena_on(unsigned int node, bool huge)
{
	struct arena arena = arena_at(vm_memory(NR_PAGES * PAGE_BYTES), NR_PAGES, 42);

	if (huge)
		CHECK(madvise(arena.base, NR_PAGES * PAGE_BYTES, MADV_HUGEPAGE) == 0);
	vm_home(node);
	arena_fill(&arena, 0, NR_PAGES, 1);
	vm_home_default();
	if (huge && vm_huge_bytes(arena.base) == 0)
		live_skip("no huge pages here");
	CHECK(vm_pages_on(arena.base, NR_PAGES, node) == NR_PAGES);
	return arena;
}

/* Node 1 to node 0 and back while a thread reads and writes. */
static void move_both_ways(bool huge)
{
	struct arena arena = arena_on(1, huge);
	struct reader reader = { .arena = &arena };
	int *status = calloc(NR_PAGES, sizeof(*status));
	uint64_t moved_before = vm_counter("pgmigrate_success");
	uint64_t lost_before = vm_counter("pgmigrate_fail");
	pthread_t thread;

	CHECK(status && pthread_create(&thread, NULL, read_on, &reader) == 0);
	for (unsigned int to = 0; to < 2; to++) {
		size_t nr_moved = 0, tries = 0;

		/* Pages that are being touched may refuse once. */
		for (; nr_moved < NR_PAGES && tries < 10; tries++) {
			vm_move_pages(arena.base, NR_PAGES, to, 512, status);
			nr_moved = vm_pages_on(arena.base, NR_PAGES, to);
		}
		CHECK(nr_moved == NR_PAGES);
		printf("to node %u: %zu pages in %zu rounds\n", to, nr_moved, tries);
	}
	atomic_store_explicit(&reader.stop, true, memory_order_relaxed);
	CHECK(pthread_join(thread, NULL) == 0 && reader.nr_rounds > 0);
	arena_check(&arena, 0, NR_PAGES);
	printf("pgmigrate_success %llu, pgmigrate_fail %llu, pages compared meanwhile %zu\n",
	       (unsigned long long)(vm_counter("pgmigrate_success") - moved_before),
	       (unsigned long long)(vm_counter("pgmigrate_fail") - lost_before), reader.nr_rounds);
	CHECK(vm_counter("pgmigrate_success") - moved_before == 2 * NR_PAGES);
	if (huge)
		CHECK(vm_huge_bytes(arena.base) == NR_PAGES * PAGE_BYTES);
}

static void small_pages(void)
{
	move_both_ways(false);
}

static void huge_pages(void)
{
	move_both_ways(true);
}

/* Nothing there: the status of a page that was never touched, and of one on the node asked for. */
static void statuses(void)
{
	struct arena arena = arena_on(1, false);
	int status[2];

	CHECK(madvise(arena.base, PAGE_BYTES, MADV_DONTNEED) == 0);
	vm_move_pages(arena.base, 2, 1, 2, status);
	CHECK(status[0] == -ENOENT || status[0] == -EFAULT);
	CHECK(status[1] == 1);
	printf("a hole: %d\n", status[0]);
}

static const struct live_case cases[] = {
	{ "small-pages", small_pages },
	{ "huge-pages", huge_pages },
	{ "statuses", statuses },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
