/* SPDX-License-Identifier: MIT */
/*
 * Live cases: threads that change their mappings all the time, each into the holes that the others leave.
 *
 * What one thread has moved away or unmapped is told to the server in some order with what another puts there.
 */
#include "live.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define THREADS_MAX 8u
#define SLOTS 32u
#define ROUNDS 640u /* of all threads together */
#define MOVES 16u

struct churn {
	unsigned int index;
	unsigned int nr_rounds;
	size_t slot_pages;
	struct arena slots[SLOTS];
};

/* A mapping is filled, moved, in part given up, and unmapped again, some rounds later. */
static void churn_turn(struct churn *churn, unsigned int round, uint64_t *state)
{
	struct arena *slot = &churn->slots[live_random(state) % SLOTS];
	size_t bytes = churn->slot_pages * PAGE_BYTES, part = churn->slot_pages / 8;

	if (slot->base && round % 3) {
		for (unsigned int i = 0; i < MOVES; i++) {
			unsigned char *to = mmap(NULL, bytes, PROT_NONE, ANON, -1, 0);
			CHECK(to != MAP_FAILED);
			CHECK(mremap(slot->base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
			slot->base = to;
		}
		size_t from = live_random(state) % 7 * part;
		arena_check(slot, from, from + part / 4);
		CHECK(madvise(arena_page(slot, from), part * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(slot, from, from + part);
		arena_check(slot, from, from + part / 4);
		return;
	}
	if (slot->base) {
		arena_check(slot, 0, slot->nr_pages);
		CHECK(munmap(slot->base, bytes) == 0);
		free(slot->generation);
	}
	*slot = arena_new(churn->slot_pages, churn->index * 1000 + round);
	arena_fill(slot, 0, slot->nr_pages, 1);
}

static void *churn_run(void *argument)
{
	struct churn *churn = argument;
	uint64_t state = 90 + churn->index;

	for (unsigned int round = 0; round < churn->nr_rounds; round++)
		churn_turn(churn, round, &state);
	for (unsigned int i = 0; i < SLOTS; i++)
		if (churn->slots[i].base)
			arena_check(&churn->slots[i], 0, churn->slots[i].nr_pages);
	return NULL;
}

/* There is hardly a moment at which no thread changes mappings. */
static void change_all_the_time(unsigned int nr_threads)
{
	static struct churn churns[THREADS_MAX];
	pthread_t threads[THREADS_MAX];

	for (unsigned int i = 0; i < nr_threads; i++) {
		churns[i] = (struct churn){ .index = i, .nr_rounds = ROUNDS / nr_threads,
					    .slot_pages = 2 * live_pages() / nr_threads / SLOTS };
		CHECK(pthread_create(&threads[i], NULL, churn_run, &churns[i]) == 0);
	}
	for (unsigned int i = 0; i < nr_threads; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void mappings_change_all_the_time(void)
{
	change_all_the_time(4);
}

static void mappings_change_in_8_threads(void)
{
	change_all_the_time(8);
}

/* ---- locked memory that grows and moves ---- */

#define PIECE 16u
#define PIECES 48u

/* Pieces of memory that is mostly out are locked, grow and so move, one to a given place, the next to any. */
static void *locked_run(void *argument)
{
	struct arena all = arena_new((size_t)PIECES * PIECE, 500 + (uintptr_t)argument);

	arena_fill(&all, 0, all.nr_pages, 1);
	for (unsigned int i = 0; i < PIECES; i++) {
		unsigned char *from = arena_page(&all, (size_t)i * PIECE), *to = NULL;
		size_t bytes = PIECE * PAGE_BYTES;
		if (i % 2)
			CHECK((to = mmap(NULL, 4 * bytes, PROT_NONE, ANON, -1, 0)) != MAP_FAILED);
		CHECK(mlock(from, bytes) == 0);
		unsigned char *at = mremap(from, bytes, 4 * bytes, MREMAP_MAYMOVE | (to ? MREMAP_FIXED : 0), to);
		CHECK(at != MAP_FAILED && (!to || at == to));
		for (size_t k = 0; k < 4 * PIECE; k++)
			page_check(at + k * PAGE_BYTES, all.seed, i * PIECE + k, k < PIECE);
		arena_forget(&all, (size_t)i * PIECE, (size_t)(i + 1) * PIECE);
		CHECK(munmap(at, 4 * bytes) == 0);
		if (i + 1 < PIECES)
			arena_check(&all, (size_t)(i + 1) * PIECE, all.nr_pages);
	}
	return NULL;
}

/* Two threads do that while others move mappings, and touch what has just come. */
static void locked_grows_in_threads(void)
{
	static struct churn churns[2];
	pthread_t threads[4];

	for (uintptr_t i = 0; i < 2; i++) {
		churns[i] = (struct churn){ .index = (unsigned int)i, .nr_rounds = ROUNDS / 8,
					    .slot_pages = 2 * live_pages() / 4 / SLOTS };
		CHECK(pthread_create(&threads[i], NULL, churn_run, &churns[i]) == 0);
		CHECK(pthread_create(&threads[2 + i], NULL, locked_run, (void *)i) == 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- arrays that grow -------------------------------------------------------------------------- */

#define ARRAYS 8u
#define GROWTHS 250u

/* What realloc() has in hand: words that tell where they are, and whose. */
struct array {
	uint64_t *words, seed;
	size_t nr;
};

static void array_check(const struct array *a)
{
	for (size_t i = 0; i < a->nr; i++)
		if (a->words[i] != a->seed + i * 0x9e3779b97f4a7c15u)
			live_fail("MISMATCH word %zu of %zu: %llx", i, a->nr, (unsigned long long)a->words[i]);
}

static void array_grow(struct array *a, size_t nr)
{
	uint64_t *grown = realloc(a->words, nr * sizeof *grown);

	CHECK(grown);
	a->words = grown;
	for (size_t i = a->nr; i < nr; i++)
		grown[i] = a->seed + i * 0x9e3779b97f4a7c15u;
	a->nr = nr;
}

/* Arrays of 200 KiB to 8 MiB that grow by half, and are given up when they are large. */
static void *arrays_run(void *argument)
{
	struct array arrays[ARRAYS] = { { 0 } };
	uint64_t state = 70 + (uintptr_t)argument;

	for (unsigned int i = 0; i < GROWTHS; i++) {
		struct array *a = &arrays[live_random(&state) % ARRAYS];
		if (a->nr * sizeof *a->words > 8 * MIB) {
			array_check(a);
			free(a->words);
			*a = (struct array){ .nr = 0 };
		}
		if (!a->words)
			a->seed = live_random(&state);
		array_grow(a, a->nr ? a->nr + a->nr / 2 : 25600 + live_random(&state) % 4096);
		if (i % 8 == 0)
			array_check(a);
	}
	for (unsigned int i = 0; i < ARRAYS; i++) {
		array_check(&arrays[i]);
		free(arrays[i].words);
	}
	return NULL;
}

static void arrays_grow_in_threads(void)
{
	pthread_t threads[4];

	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, arrays_run, (void *)i) == 0);
	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static const struct live_case cases[] = {
	{ "mappings-change-all-the-time", mappings_change_all_the_time },
	{ "mappings-change-in-8-threads", mappings_change_in_8_threads },
	{ "locked-grows-in-threads", locked_grows_in_threads },
	{ "arrays-grow-in-threads", arrays_grow_in_threads },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
