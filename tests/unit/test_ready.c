/* SPDX-License-Identifier: MIT */
/* The ready set against a plain model, in order, and with threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "ready.h"
#include "rng.h"

static uint64_t rng_state;

static struct ready *ready_new(uint64_t nr_pages)
{
	struct ready *ready = malloc(sizeof *ready);
	void *memory = calloc(1, ready_bytes(nr_pages));

	assert_non_null(ready);
	assert_non_null(memory);
	ready_init(ready, memory, nr_pages);
	return ready;
}

static void ready_free(struct ready *ready)
{
	free((void *)ready->classes[0].level[0]);
	free(ready);
}

static void sizes(void **state)
{
	static const struct { uint64_t nr_pages; unsigned nr_levels; size_t nr_words; } row[] = {
		{ 1, 1, 1 },	   { 64, 1, 1 },	{ 65, 2, 3 },
		{ 4096, 2, 65 },   { 4097, 3, 65 + 2 + 1 }, { 1 << 18, 3, 4096 + 64 + 1 },
		{ 1 << 24, 4, (1 << 18) + 4096 + 64 + 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		struct ready *ready = ready_new(row[i].nr_pages);
		assert_int_equal(ready->nr_levels, row[i].nr_levels);
		assert_int_equal(ready_bytes(row[i].nr_pages), row[i].nr_words * 8 * READY_CLASSES);
		ready_free(ready);
	}
	/* Well below two bytes a page. */
	assert_true(ready_bytes(1 << 24) < (1 << 24) * 6 / 10);
}

/* Every page of every size up to a little over two levels, one at a time. */
static void every_place(void **state)
{
	static const uint64_t size[] = { 1, 2, 63, 64, 65, 127, 4095, 4096, 4097, 5000 };
	uint64_t idx;
	uint32_t class;

	(void)state;
	for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
		struct ready *ready = ready_new(size[i]);
		for (uint64_t p = 0; p < size[i]; p++) {
			ready_mark(ready, p % READY_CLASSES, p);
			ready_mark(ready, p % READY_CLASSES, p); /* twice is once */
			assert_true(ready_take(ready, &idx, &class));
			assert_int_equal(idx, p);
			assert_int_equal(class, p % READY_CLASSES);
			assert_false(ready_take(ready, &idx, &class));
			assert_true(ready_empty(ready));
			assert_true(ready_check(ready));
		}
		ready_free(ready);
	}
}

static void hottest_class_first(void **state)
{
	static const struct { uint32_t class; uint64_t idx; } in[] = {
		{ 0, 3 }, { 2, 900 }, { 1, 5 }, { 3, 70000 }, { 2, 4 }, { 0, 69999 }, { 3, 1 },
	}, out[] = {
		{ 3, 1 }, { 3, 70000 }, { 2, 4 }, { 2, 900 }, { 1, 5 }, { 0, 3 }, { 0, 69999 },
	};
	struct ready *ready = ready_new(100000);
	uint64_t idx;
	uint32_t class;

	(void)state;
	for (size_t i = 0; i < sizeof in / sizeof *in; i++)
		ready_mark(ready, in[i].class, in[i].idx);
	for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
		assert_true(ready_take(ready, &idx, &class));
		assert_int_equal(class, out[i].class);
		assert_int_equal(idx, out[i].idx);
	}
	assert_false(ready_take(ready, &idx, &class));
	ready_free(ready);
}

/* Pages low down that are marked again at once do not keep those high up waiting. */
static void defect_4a_23_address_does_not_decide_service(void **state)
{
	struct ready *ready = ready_new(1 << 18);
	unsigned served[1024] = { 0 };
	uint64_t idx;
	uint32_t class;

	(void)state;
	for (uint64_t i = 0; i < 1024; i++)
		ready_mark(ready, 1, i * 256);
	for (unsigned i = 0; i < 10240; i++) {
		assert_true(ready_take(ready, &idx, &class));
		served[idx / 256]++;
		ready_mark(ready, 1, idx);
	}
	for (unsigned i = 0; i < 1024; i++)
		assert_int_equal(served[i], 10);
	ready_free(ready);
}

/* A page that was marked twice waits once: the set cannot grow without bound. */
static void defect_4b_15_no_page_waits_twice(void **state)
{
	struct ready *ready = ready_new(1024);
	uint64_t idx;
	uint32_t class;

	(void)state;
	for (unsigned i = 0; i < 512; i++)
		ready_mark(ready, 2, 100);
	assert_true(ready_take(ready, &idx, &class));
	assert_false(ready_take(ready, &idx, &class));
	ready_free(ready);
}

/* What is marked already is looked at and not written: its line stays with every CPU that marks beside it. */
static void defect_4a_19_a_mark_looks_before_it_writes(void **state)
{
	static const uint64_t idx[] = { 0, 63, 64, 70000, 99999 };
	size_t bytes = (ready_bytes(100000) + 4095) & ~(size_t)4095;
	struct ready ready;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(memory != MAP_FAILED);
	ready_init(&ready, memory, 100000);
	for (unsigned i = 0; i < 10; i++) {
		ready_mark(&ready, 2, idx[i % 5]);
		if (i == 4) /* from here on a write ends the test */
			assert_int_equal(mprotect(memory, bytes, PROT_READ), 0);
	}
	assert_false(ready_empty(&ready));
	munmap(memory, bytes);
}

/* The work of a take follows the levels, not the pages: an empty set of 2^24 pages has one word to
 * look at for each class, and a set of one page one word for each level up and down. */
static void defect_4a_09_holes_are_skipped(void **state)
{
	struct ready *ready = ready_new(1 << 24);
	uint64_t idx, nr_set = 0;
	uint32_t class;

	(void)state;
	ready_mark(ready, 0, (1 << 24) - 1);
	for (unsigned l = 0; l < ready->nr_levels; l++)
		for (uint64_t w = 0; w < ready->nr_words[l]; w++)
			nr_set += ready->classes[0].level[l][w] != 0;
	assert_int_equal(nr_set, ready->nr_levels);
	assert_true(ready_take(ready, &idx, &class));
	assert_int_equal(idx, (1 << 24) - 1);
	for (unsigned l = 0; l < ready->nr_levels; l++)
		for (uint64_t w = 0; w < ready->nr_words[l]; w++)
			assert_int_equal(ready->classes[0].level[l][w], 0);
	ready_free(ready);
}

static void as_the_model(void **state)
{
	enum { NR = 20000 };
	static uint8_t model[NR];
	struct ready *ready = ready_new(NR);
	uint64_t idx, nr_marked = 0;
	uint32_t class;

	(void)state;
	rng_state = 7;
	for (unsigned i = 0; i < 300000; i++) {
		if (rng_next(&rng_state) % 5 < (i / 50000 % 2 ? 1u : 3u)) {
			uint32_t c = (uint32_t)(rng_next(&rng_state) % READY_CLASSES);
			idx = rng_next(&rng_state) % NR;
			nr_marked += !(model[idx] >> c & 1);
			model[idx] |= (uint8_t)(1u << c);
			ready_mark(ready, c, idx);
		} else if (ready_take(ready, &idx, &class)) {
			assert_true(model[idx] >> class & 1);
			model[idx] &= (uint8_t)~(1u << class);
			nr_marked--;
			if (i % 1000 == 0) /* nothing hotter was left behind */
				for (unsigned p = 0; p < NR; p++)
					assert_true(model[p] >> (class + 1) == 0);
		} else {
			assert_int_equal(nr_marked, 0);
		}
		if (i % 10000 == 0)
			assert_true(ready_check(ready));
	}
	while (ready_take(ready, &idx, &class)) {
		assert_true(model[idx] >> class & 1);
		nr_marked--;
	}
	assert_int_equal(nr_marked, 0);
	ready_free(ready);
}

/* ---- threads ---- */

#define NR_RACE 9000u   /* three levels, few words: producers and consumer meet all the time */
#define NR_MARKS 150000u

struct race {
	struct ready *ready;
	_Atomic uint32_t owed[NR_RACE]; /* 1: marked, not taken */
	_Atomic unsigned nr_running;
};

static void *race_mark(void *arg)
{
	struct race *race = arg;
	uint64_t rng = (uintptr_t)&rng;

	for (unsigned i = 0; i < NR_MARKS; i++) {
		rng = rng * 6364136223846793005u + 1442695040888963407u;
		uint64_t idx = (rng >> 33) % NR_RACE;
		/* Owed first: a take that finds the page before we return is right. */
		atomic_store(&race->owed[idx], 1);
		ready_mark(race->ready, 1, idx);
	}
	atomic_fetch_sub(&race->nr_running, 1);
	return NULL;
}

static void defect_4a_12_no_mark_is_lost(void **state)
{
	static struct race race;
	uint64_t idx, nr_taken = 0;
	pthread_t thread[3];
	uint32_t class;
	bool last;

	(void)state;
	race.ready = ready_new(NR_RACE);
	race.nr_running = 3;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, race_mark, &race), 0);
	do {
		last = !atomic_load(&race.nr_running);
		while (ready_take(race.ready, &idx, &class)) {
			nr_taken++;
			atomic_store(&race.owed[idx], 0);
		}
	} while (!last);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert_true(nr_taken > 0);
	/* A page marked between a take and its 0 above may look unowed, never the other way round. */
	for (unsigned i = 0; i < NR_RACE; i++)
		assert_int_equal(race.owed[i], 0);
	assert_true(ready_empty(race.ready));
	assert_true(ready_check(race.ready));
	ready_free(race.ready);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(every_place),
		cmocka_unit_test(hottest_class_first),
		cmocka_unit_test(defect_4a_23_address_does_not_decide_service),
		cmocka_unit_test(defect_4b_15_no_page_waits_twice),
		cmocka_unit_test(defect_4a_19_a_mark_looks_before_it_writes),
		cmocka_unit_test(defect_4a_09_holes_are_skipped),
		cmocka_unit_test(as_the_model),
		cmocka_unit_test(defect_4a_12_no_mark_is_lost),
	};

	return cmocka_run_group_tests_name("ready", tests, NULL, NULL);
}
