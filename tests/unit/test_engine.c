/* SPDX-License-Identifier: MIT */
/* The engine as its callers use it: plans, completions, regions that vanish, threads that touch. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "engine.h"
#include "inner.h"
#include "occupied.h"

#define MS UINT64_C(1000000)
#define MOVES 64u

/* A caller with memory, but without contents. */
struct world {
	struct engine *engine;
	struct engine_config config;
	struct region region[4];
	void *memory[4];
	unsigned nr_regions;
	struct engine_need need;
	uint64_t now_ns;
	struct move plan[MOVES];
	size_t nr_plan;
	bool again;
	enum move_reason store_fails; /* MOVE_OK: it does not */
	enum move_reason hold_fails;
};

static void *memory_new(size_t bytes)
{
	void *memory = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);

	assert_non_null(memory);
	return memset(memory, 0, (bytes + 4095) & ~(size_t)4095);
}

static struct world *world_new(uint64_t limit, uint64_t held_max)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	w->config = (struct engine_config){ .seed = 1, .max_moves = 2 * MOVES };
	w->engine = engine_init(memory_new(engine_bytes(&w->config)), &w->config);
	w->need = (struct engine_need){ .limit = limit, .held_max = held_max };
	return w;
}

static struct region *world_add(struct world *w, uint64_t first_vpn, uint64_t nr_pages,
				uint64_t nr_resident)
{
	struct region *region = &w->region[w->nr_regions];

	w->memory[w->nr_regions] = memory_new(engine_region_bytes(nr_pages));
	engine_region_init(region, w->memory[w->nr_regions++], first_vpn, nr_pages, w);
	region_occupy(region, 0, nr_resident);
	for (uint64_t i = 0; i < nr_resident; i++)
		assert_true(region_change(&region->state[i], 0,
					  page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	engine_region_add(w->engine, region);
	w->need.resident += nr_resident;
	return region;
}

static void world_free(struct world *w)
{
	struct engine_stats stats;
	uint64_t sum = 0;

	assert_null(engine_check(w->engine));
	engine_stats(w->engine, &stats);
	for (unsigned r = 0; r < MOVE_REASON_COUNT; r++)
		sum += stats.ended[r];
	assert_int_equal(sum + stats.pending, stats.requested);
	assert_int_equal(stats.moved[MOVE_HOLD] + stats.moved[MOVE_STORE], stats.ended[MOVE_OK]);
	for (unsigned i = 0; i < w->nr_regions; i++)
		free(w->memory[i]);
	free(w->engine);
	free(w);
}

static enum page_state state_of(const struct region *region, uint64_t idx)
{
	return page_state(atomic_load(&region->state[idx]));
}

static void state_set(struct region *region, uint64_t idx, enum page_state to)
{
	uint64_t word = atomic_load(&region->state[idx]);
	if (!word)
		region_occupy(region, idx, 1);
	assert_true(region_change(&region->state[idx], word, to ? page_word_as(word, to) : 0));
	if (!to)
		region_vacate(region, idx, 1);
}

static void world_plan(struct world *w)
{
	w->now_ns += MS;
	w->nr_plan = engine_step(w->engine, w->now_ns, &w->need, w->plan, MOVES, &w->again);
	w->need.store_full = false;
}

static void world_move(struct world *w, const struct move *m)
{
	struct move_result result = { { 0 } };
	bool hold = m->op == MOVE_HOLD;
	enum move_reason fails = hold ? w->hold_fails : w->store_fails;

	for (uint64_t i = m->first; i < m->first + m->nr_pages; i++) {
		if (state_of(m->region, i) != (hold ? PAGE_RESIDENT : PAGE_HELD)) {
			result.nr_pages[MOVE_DROP_CHANGED]++;
			continue;
		}
		result.nr_pages[fails]++;
		state_set(m->region, i, hold ? PAGE_HOLDING : PAGE_STORING);
		if (fails)
			state_set(m->region, i, hold ? PAGE_RESIDENT : PAGE_HELD);
		else
			state_set(m->region, i, hold ? PAGE_HELD : PAGE_STORED);
		if (!fails) {
			w->need.held += hold ? 1 : -UINT64_C(1);
			w->need.resident -= !hold;
		}
	}
	w->need.store_full |= result.nr_pages[MOVE_FAIL_FULL] > 0;
	engine_complete(w->engine, m->id, &result, w->now_ns);
}

static void world_step(struct world *w)
{
	world_plan(w);
	for (size_t i = 0; i < w->nr_plan; i++)
		world_move(w, &w->plan[i]);
}

/* Touch as a handler would: whatever it takes, the page is resident then. */
static void world_touch(struct world *w, struct region *region, uint64_t idx)
{
	switch (state_of(region, idx)) {
	case PAGE_HELD:
		state_set(region, idx, PAGE_RETURNING);
		state_set(region, idx, PAGE_RESIDENT);
		w->need.held--;
		engine_touch(region, idx, TOUCH_RETURN, HEAT_NO_NODE, w->now_ns);
		break;
	case PAGE_STORED:
		state_set(region, idx, PAGE_LOADING);
		state_set(region, idx, PAGE_RESIDENT);
		w->need.resident++;
		engine_touch(region, idx, TOUCH_LOAD, HEAT_NO_NODE, w->now_ns);
		break;
	case PAGE_ABSENT:
		state_set(region, idx, PAGE_FILLING);
		state_set(region, idx, PAGE_RESIDENT);
		w->need.resident++;
		engine_touch(region, idx, TOUCH_FILL, HEAT_NO_NODE, w->now_ns);
		break;
	case PAGE_RESIDENT:
	case PAGE_FILLING:
	case PAGE_LOADING:
	case PAGE_RETURNING:
	case PAGE_HOLDING:
	case PAGE_STORING:
	case PAGE_STATE_COUNT:
		break;
	}
}

/* ---- sizes ---- */

static void at_most_16_bytes_a_page(void **state)
{
	(void)state;
	for (uint64_t nr = 1; nr <= UINT64_C(1) << 34; nr *= 4)
		assert_true(engine_region_bytes(nr) <= nr * 16 + 8192);
	assert_true(engine_region_bytes(UINT64_C(1) << 28) < (UINT64_C(1) << 28) * 15);
}

/* ---- plans ---- */

static void defect_4a_11_no_work_when_nothing_is_asked(void **state)
{
	struct world *w = world_new(10000, 1000);

	(void)state;
	world_plan(w); /* no region yet */
	assert_int_equal(w->nr_plan, 0);
	assert_false(w->again);
	world_add(w, 0, 8192, 8192);
	for (unsigned i = 0; i < 100; i++) {
		world_plan(w);
		assert_int_equal(w->nr_plan, 0);
		assert_false(w->again);
	}
	world_free(w);
}

static void memory_is_kept_between_the_marks(void **state)
{
	struct world *w = world_new(20000, 4000);
	struct region *region = world_add(w, 0, 50000, 50000);
	uint64_t low, high, rng = 9;

	(void)state;
	place_marks(20000, &low, &high);
	for (unsigned i = 0; i < 2000; i++) {
		world_step(w);
		assert_true(w->need.held <= w->need.held_max);
		if (i < 100)
			continue;
		assert_in_range(w->need.resident, low - 64, high);
		for (unsigned k = 0; k < 16; k++) {
			rng = rng * 6364136223846793005u + 1442695040888963407u;
			world_touch(w, region, (rng >> 33) % 50000);
		}
	}
	assert_true(w->need.held > 500); /* pages wait a while before they are stored */
	world_free(w);
}

static void defect_4a_06_4b_14_whole_cold_blocks_go_as_one(void **state)
{
	struct world *w = world_new(10000, 4096);
	struct region *region = world_add(w, 512 * 77 + 100, 20000, 20000);

	(void)state;
	world_plan(w);
	assert_true(w->nr_plan >= 5);
	for (size_t i = 0; i < w->nr_plan; i++) {
		const struct move *m = &w->plan[i];
		/* By address, not by index: the first block is what is left of one. */
		assert_true(m->first == 0 || (region->first_vpn + m->first) % 512 == 0);
		assert_int_equal(m->op, MOVE_HOLD);
		if (m->first && i + 1 < w->nr_plan)
			assert_int_equal(m->nr_pages, 512);
	}
	for (size_t i = 0; i < w->nr_plan; i++)
		world_move(w, &w->plan[i]);
	world_free(w);
}

static void defect_4a_05_no_move_is_empty_or_too_large(void **state)
{
	struct world *w = world_new(3000, 600);
	struct region *a = world_add(w, 511, 3000, 2000), *b = world_add(w, 1, 5000, 5000);
	uint64_t rng = 1;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		world_plan(w);
		assert_true(w->nr_plan <= MOVES);
		for (size_t k = 0; k < w->nr_plan; k++) {
			const struct move *m = &w->plan[k];
			bool hold = m->op == MOVE_HOLD;
			assert_in_range(m->nr_pages, 1, MOVE_RUN_PAGES);
			assert_true(m->first + m->nr_pages <= m->region->nr_pages);
			/* A run begins and ends with a page that is to move. */
			assert_int_equal(state_of(m->region, m->first), hold ? PAGE_RESIDENT : PAGE_HELD);
			assert_int_equal(state_of(m->region, m->first + m->nr_pages - 1),
					 hold ? PAGE_RESIDENT : PAGE_HELD);
		}
		for (size_t k = 0; k < w->nr_plan; k++)
			world_move(w, &w->plan[k]);
		for (unsigned k = 0; k < 20; k++) {
			rng = rng * 6364136223846793005u + 1442695040888963407u;
			world_touch(w, rng & 1 ? a : b, (rng >> 33) % (rng & 1 ? 3000 : 5000));
		}
	}
	world_free(w);
}

static void defect_4a_04_pages_of_one_region_together(void **state)
{
	struct world *w = world_new(1000, 20000);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		world_add(w, 0, 5000, 5000);
	for (unsigned i = 0; i < 20; i++) {
		unsigned nr_changes = 0;
		world_plan(w);
		for (size_t k = 1; k < w->nr_plan; k++)
			nr_changes += w->plan[k].op == w->plan[k - 1].op &&
				      w->plan[k].region != w->plan[k - 1].region;
		assert_true(nr_changes <= 6); /* each hand comes by each region once, or begins again */
		for (size_t k = 0; k < w->nr_plan; k++)
			world_move(w, &w->plan[k]);
	}
	world_free(w);
}

/* Room is wanted, and of many pages few are cold: each once, however often the hand comes by in the time it has. */
static void a_page_is_held_once(void **state)
{
	struct world *w = world_new(1000, 1000);
	struct region *few = world_add(w, 700, 900, 900), *many = world_add(w, 5000, 1500, 1500);

	(void)state;
	w->need.filling = 1;
	for (uint64_t i = 0; i < 1500; i++)
		estimate_store(many, i, place_estimate_busy(&w->engine->clocks[0].place));
	for (uint64_t i = 0; i < 900; i++)
		if (i % 50)
			estimate_store(few, i, place_estimate_busy(&w->engine->clocks[0].place));
	for (unsigned i = 0; i < 3; i++) {
		world_plan(w);
		assert_true(i || w->nr_plan > 0);
		assert_null(engine_check(w->engine));
		for (size_t k = 0; k < w->nr_plan; k++)
			world_move(w, &w->plan[k]);
	}
	world_free(w);
}

/* Places that are free but not yet dropped count as held: what is held goes on once for all that. */
static void a_page_is_stored_once(void **state)
{
	struct world *w = world_new(1000, 1000);
	struct region *region = world_add(w, 700, 2000, 2000);

	(void)state;
	w->need.filling = 1;
	w->need.held = 600;
	for (uint64_t i = 0; i < 2000; i += 100) {
		state_set(region, i, PAGE_HOLDING);
		state_set(region, i, PAGE_HELD);
	}
	world_plan(w);
	assert_true(w->nr_plan > 0 && w->plan[0].op == MOVE_STORE);
	assert_null(engine_check(w->engine));
	for (size_t k = 0; k < w->nr_plan; k++)
		world_move(w, &w->plan[k]);
	world_free(w);
}

/* Between cold pages of the fast node are pages of the slow one: its own clock holds them, and only that. */
static void a_run_spans_no_page_of_the_other_node(void **state)
{
	struct world *w = world_new(300, 4000);
	struct region *region = world_add(w, 700, 1000, 1000);
	bool slow_held = false;

	(void)state;
	w->need.filling = 1;
	w->need.resident = 400;
	w->need.slow = 900;
	w->need.slow_max = 5000;
	w->need.slow_last = true;
	w->hold_fails = MOVE_DROP_CHANGED; /* all stays where it is */
	for (uint64_t i = 0; i < 1000; i++)
		if (i % 2 || i > 40)
			atomic_store(&region->state[i], page_word_on(atomic_load(&region->state[i]), true));
	for (unsigned i = 0; i < 5; i++) {
		w->now_ns += 100 * MS;
		world_plan(w);
		assert_null(engine_check(w->engine));
		for (size_t k = 0; k < w->nr_plan; k++) {
			slow_held |= w->plan[k].first > 40;
			world_move(w, &w->plan[k]);
		}
	}
	assert_true(slow_held);
	world_free(w);
}

/* Nothing can be moved though memory is over its limit: the step asks to be left alone for a while. */
static void defect_4a_12_never_spins(void **state)
{
	struct world *w = world_new(1000, 500);
	unsigned nr_again = 0;

	(void)state;
	world_add(w, 0, 100000, 0); /* all absent: what is resident is not ours */
	w->need.resident = 5000;
	w->need.filling = 1;
	for (unsigned i = 0; i < 1000; i++) {
		w->now_ns -= MS - 1000; /* one call a microsecond */
		world_plan(w);
		assert_int_equal(w->nr_plan, 0);
		nr_again += w->again;
	}
	assert_true(nr_again < 20);
	world_free(w);
}

/* One step looks at a bounded number of pages, however many there are. */
static void defect_4b_10_a_step_is_bounded(void **state)
{
	struct world *w = world_new(1000, 500);
	uint64_t nr_pages = 2000000, passed;

	(void)state;
	world_add(w, 0, nr_pages, 0);
	w->need.resident = 2000;
	for (unsigned i = 0; i < 50; i++) {
		uint64_t before = w->engine->clocks[0].front.idx;
		world_plan(w);
		passed = (w->engine->clocks[0].front.idx + nr_pages - before) % nr_pages;
		assert_true(passed <= 129 * 512);
	}
	world_free(w);
}

/* Of 64 GiB little is in memory, here and there. To look at all else would take 256 steps a pass. */
static void what_holds_nothing_is_leapt_over(void **state)
{
	const uint64_t nr_pages = UINT64_C(1) << 24, nr_used = 2000, apart = nr_pages / nr_used;
	size_t bytes = engine_region_bytes(nr_pages);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct world *w = world_new(1000, 500);
	struct region *region = &w->region[0];
	unsigned nr_steps = 0;

	(void)state;
	assert_true(memory != MAP_FAILED);
	engine_region_init(region, memory, 77, nr_pages, w);
	engine_region_add(w->engine, region);
	for (uint64_t i = 0; i < nr_used; i++)
		world_touch(w, region, i * apart);
	for (; w->need.resident > 1000; nr_steps++) {
		world_step(w);
		assert_true(nr_steps < 200);
	}
	/* Freed again: nothing is left to look at, and that is soon known. */
	for (uint64_t i = 0; i < nr_used; i++)
		state_set(region, i * apart, PAGE_ABSENT);
	w->need.held = w->need.held_max = 500;
	w->need.resident = 2000;
	for (nr_steps = 0; world_plan(w), w->again; nr_steps++)
		assert_true(nr_steps < 10);
	assert_null(engine_check(w->engine));
	engine_region_remove(w->engine, region);
	munmap(memory, bytes);
	world_free(w);
}

/* ---- what is learnt ---- */

/* Nothing is planned of what is paused; the others make room instead, and it is its turn again later. */
static void of_a_paused_region_nothing_moves(void **state)
{
	struct world *w = world_new(8192, 4096);
	struct region *paused = world_add(w, 0, 8192, 8192), *other = world_add(w, 16384, 8192, 8192);
	_Atomic bool pause = true;

	(void)state;
	paused->paused = &pause;
	for (unsigned i = 0; i < 4000; i++) {
		world_plan(w);
		for (size_t m = 0; m < w->nr_plan; m++)
			assert_ptr_equal(w->plan[m].region, other);
		for (size_t m = 0; m < w->nr_plan; m++)
			world_move(w, &w->plan[m]);
	}
	uint64_t left = 0;
	for (uint64_t i = 0; i < 8192; i++) {
		assert_int_equal(state_of(paused, i), PAGE_RESIDENT);
		left += state_of(other, i) != PAGE_STORED;
	}
	assert_true(left < 1024);
	w->need.limit = 4096;
	atomic_store(&pause, false);
	for (unsigned i = 0; i < 4000; i++)
		world_step(w);
	for (uint64_t i = left = 0; i < 8192; i++)
		left += state_of(paused, i) != PAGE_STORED;
	assert_true(left < 4096 + 1024);
	world_free(w);
}

/* Touch all of a region again and again, beyond what may be in memory, until so many beats have passed. */
static void beats_pass(struct world *w, struct region *region, uint64_t nr)
{
	struct engine_stats stats;
	uint64_t beats = 0;

	for (uint64_t i = 0; beats < nr; i++) {
		for (uint64_t k = 0; k < 100; k++)
			world_touch(w, region, (i * 100 + k) % region->nr_pages);
		world_step(w);
		engine_stats(w->engine, &stats);
		beats = stats.moved[MOVE_STORE] / (w->need.limit / PLACE_BEATS);
		assert_true(i < 1000000);
	}
}

/* However long the pause: what was in use before it is not taken for recently used after it. */
static void stamps_of_a_paused_region_grow_old(void **state)
{
	struct world *w = world_new(8192, 4096);
	struct region *paused = world_add(w, 7, 2000, 2000), *other = world_add(w, 16384, 8192, 8192);
	_Atomic bool pause = true;
	uint64_t stamped = 0;

	(void)state;
	for (uint64_t i = 0; i < 2000; i++)
		world_touch(w, paused, i);
	for (unsigned i = 0; i < 20; i++)
		world_step(w);
	for (uint64_t i = 0; i < 2000; i++)
		stamped += place_stamp(paused->estimate[i]) != 0;
	assert_true(stamped > 1000);
	paused->paused = &pause;
	beats_pass(w, other, 3 * PLACE_STAMPS);
	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(place_stamp(paused->estimate[i]), 0);
	world_free(w);
}

static void hot_pages_are_left_alone_for_longer_and_longer(void **state)
{
	struct world *w = world_new(4000, 400);
	struct region *region = world_add(w, 0, 10000, 10000);
	uint64_t rng = 5, early = 0, returns = 0;
	struct engine_stats stats;

	(void)state;
	for (unsigned i = 0; i < 6000; i++) {
		world_step(w);
		for (unsigned k = 0; k < 500; k++) /* 500 pages in constant use, all over the place */
			world_touch(w, region, k * 20);
		for (unsigned k = 0; k < 8; k++) { /* and now and then any other */
			rng = rng * 6364136223846793005u + 1442695040888963407u;
			world_touch(w, region, (rng >> 33) % 10000);
		}
		engine_stats(w->engine, &stats);
		if (i == 1000)
			early = stats.touches[TOUCH_RETURN] + stats.touches[TOUCH_LOAD];
		if (i == 5000)
			returns = stats.touches[TOUCH_RETURN];
	}
	/* Later, tests of the 500 are rare beside what must be held: fewer than 1 of 4 comes back. */
	assert_true(early > 500);
	uint64_t late = stats.touches[TOUCH_RETURN] - returns;
	assert_true(late * 4 < 1000 * 8);
	world_free(w);
}

/* Blocks without a page in memory are mostly passed over. Their stamps must not wrap meanwhile, or what has long
 * been out would look as if it had just been in use. */
static void pages_long_gone_never_look_young_again(void **state)
{
	struct world *w = world_new(1000, 1000);
	struct region *gone = world_add(w, 7, 2000, 900);
	struct region *busy = world_add(w, 100000, 4000, 0);

	(void)state;
	beats_pass(w, busy, 6000);
	for (uint64_t idx = 0; idx < 900; idx++) {
		assert_int_equal(state_of(gone, idx), PAGE_STORED);
		assert_int_equal(place_stamp(gone->estimate[idx]), 0);
	}
	world_free(w);
}

static void a_page_that_did_not_move_is_put_off(enum move_reason reason, bool store)
{
	struct world *w = world_new(1000, 2000);
	uint64_t nr_tries = 0;

	world_add(w, 0, 2000, 2000);
	if (store)
		w->store_fails = reason;
	else
		w->hold_fails = reason;
	for (unsigned i = 0; i < 200; i++) {
		world_plan(w);
		for (size_t k = 0; k < w->nr_plan; k++) {
			nr_tries += w->plan[k].op == (store ? MOVE_STORE : MOVE_HOLD)
					    ? w->plan[k].nr_pages : 0;
			world_move(w, &w->plan[k]);
		}
	}
	/* Pressed for memory for 200 ms it does try again, but does not hammer. */
	assert_true(nr_tries >= 2000 / 4);
	assert_true(nr_tries < 2000 * 40);
	world_free(w);
}

static void defect_4a_13_failed_pages_back_off(void **state)
{
	(void)state;
	a_page_that_did_not_move_is_put_off(MOVE_FAIL_BUSY, false);
	a_page_that_did_not_move_is_put_off(MOVE_FAIL_DENIED, false);
	a_page_that_did_not_move_is_put_off(MOVE_FAIL_FULL, true);
	a_page_that_did_not_move_is_put_off(MOVE_FAIL_IO, true);
}

/* What would not move now may in a moment. */
static void what_is_denied_is_left_alone(void **state)
{
	static const enum move_reason reasons[] = { MOVE_OK, MOVE_FAIL_BUSY, MOVE_FAIL_DENIED };

	(void)state;
	for (unsigned r = 0; r < 3; r++) {
		struct world *w = world_new(1000, 2000);
		uint64_t resident, left_alone;

		world_add(w, 5, 2000, 2000);
		world_add(w, 9000, 3000, 100);
		engine_left_alone(w->engine, &resident, &left_alone);
		assert_int_equal(resident, 2100);
		assert_int_equal(left_alone, 0);
		w->hold_fails = reasons[r];
		for (unsigned i = 0; i < 20; i++)
			world_step(w);
		engine_left_alone(w->engine, &resident, &left_alone);
		assert_true(resident == 2100 || reasons[r] == MOVE_OK);
		assert_int_equal(left_alone, reasons[r] == MOVE_FAIL_DENIED ? 2100 : 0);
		world_free(w);
	}
}

static void a_busy_page_lets_others_go_first(void **state)
{
	struct world *w = world_new(1000, 2000);
	struct region *region = world_add(w, 0, 1040, 1040);
	struct move_result busy = { { 0 } };
	uint64_t first;

	(void)state;
	world_plan(w);
	assert_true(w->nr_plan >= 1 && w->plan[0].op == MOVE_HOLD);
	first = w->plan[0].first;
	busy.nr_pages[MOVE_FAIL_BUSY] = w->plan[0].nr_pages;
	engine_complete(w->engine, w->plan[0].id, &busy, w->now_ns);
	assert_int_equal(place_level(region->estimate[first]), PLACE_LEVEL_BUSY);
	for (size_t i = 1; i < w->nr_plan; i++)
		world_move(w, &w->plan[i]);
	world_free(w);
}

static void defect_4a_21_a_freed_page_is_forgotten(void **state)
{
	struct world *w = world_new(100000, 1000);
	struct region *region = world_add(w, 0, 4096, 4096);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		engine_touch(region, 700, TOUCH_LOAD, 3, w->now_ns);
	world_plan(w);
	assert_true(region->estimate[700] != 0);
	assert_true(region->heat[700] != 0);
	engine_forget(region, 600, 200);
	assert_int_equal(region->estimate[700], 0);
	assert_int_equal(region->heat[700], 0);

	/* Not told: the hand finds it out when it comes by. */
	engine_touch(region, 701, TOUCH_LOAD, 3, w->now_ns);
	world_plan(w);
	state_set(region, 701, PAGE_ABSENT);
	w->need.limit = 1000;
	for (unsigned i = 0; i < 10; i++)
		world_step(w);
	assert_int_equal(region->estimate[701], 0);
	assert_int_equal(region->heat[701], 0);

	/* Not come by: the first touch of its new life starts from nothing. */
	for (unsigned i = 0; i < 5; i++)
		engine_touch(region, 702, TOUCH_LOAD, 3, w->now_ns);
	engine_touch(region, 702, TOUCH_FILL, 3, w->now_ns);
	assert_int_equal(heat_unpack(region->heat[702]).frequency, 0);
	world_free(w);
}

/* ---- lifetimes ---- */

static void defect_4a_08_15_4b_05_06_a_region_may_go_while_its_pages_move(void **state)
{
	struct world *w = world_new(1000, 20000);
	struct region *gone = world_add(w, 0, 5000, 5000);
	struct engine_stats before, after;

	(void)state;
	world_add(w, 0, 5000, 5000);
	engine_touch(gone, 1, TOUCH_RETURN, 0, 0);
	engine_readahead(gone, 1, TOUCH_LOAD);
	world_plan(w);
	assert_true(w->nr_plan > 2);
	engine_stats(w->engine, &before);
	engine_region_remove(w->engine, gone);
	engine_stats(w->engine, &after);
	assert_memory_equal(&before, &after, sizeof before); /* nothing is lost from the sums */
	free(w->memory[0]); /* the sanitizer sees who looks at it now */
	w->memory[0] = NULL;
	for (size_t i = 0; i < w->nr_plan; i++) {
		struct move_result result = { { [MOVE_DROP_GONE] = w->plan[i].nr_pages } };
		engine_complete(w->engine, w->plan[i].id, &result, w->now_ns);
	}
	engine_stats(w->engine, &after);
	assert_int_equal(after.pending, 0);
	assert_int_equal(after.ended[MOVE_DROP_GONE], after.requested);
	w->need.resident -= 5000;
	for (unsigned i = 0; i < 50; i++)
		world_step(w);
	/* 4b row 7: the other region's pages went on. */
	engine_stats(w->engine, &after);
	assert_true(after.moved[MOVE_STORE] > 3000);
	world_free(w);
}

/* The region goes in which the hands stand: they go on in the others. */
static void defect_4b_09_a_region_goes_from_under_the_hands(void **state)
{
	struct world *w = world_new(2000, 20000);
	struct region *gone;
	struct engine_stats before, after;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		world_add(w, i * 7, 5000, 5000);
	for (unsigned nr = 3; nr > 1; nr--) {
		world_step(w);
		gone = nr == 3 ? w->engine->clocks[0].back.region : w->engine->clocks[0].front.region;
		for (uint64_t i = 0; i < gone->nr_pages; i++) {
			w->need.held -= state_of(gone, i) == PAGE_HELD;
			w->need.resident -= state_of(gone, i) == PAGE_HELD || state_of(gone, i) == PAGE_RESIDENT;
		}
		engine_region_remove(w->engine, gone);
		free(w->memory[gone - w->region]);
		w->memory[gone - w->region] = NULL;
		memset(gone, 0xff, sizeof *gone); /* who looks at it now ends the test */
		assert_null(engine_check(w->engine));
		engine_stats(w->engine, &before);
		for (uint64_t i = 0; i < 5000; i++) /* those that stay are in use again */
			world_touch(w, w->engine->first, i);
		for (unsigned i = 0; i < 100; i++)
			world_step(w);
		engine_stats(w->engine, &after);
		assert_true(after.moved[MOVE_STORE] > before.moved[MOVE_STORE] + 1000);
	}
	world_free(w);
}

static void the_last_region_goes_and_another_comes(void **state)
{
	struct world *w = world_new(100, 1000);

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct region *region = world_add(w, i, 1000, 1000);
		for (unsigned k = 0; k < 5; k++)
			world_step(w);
		assert_null(engine_check(w->engine));
		engine_region_remove(w->engine, region);
		assert_null(engine_check(w->engine));
		w->need.resident = w->need.held = 0;
		world_plan(w);
		assert_int_equal(w->nr_plan, 0);
	}
	world_free(w);
}

/* ---- the same again ---- */

static uint64_t recording(uint8_t *record, size_t size)
{
	struct world *w = world_new(3000, 500);
	struct region *a = world_add(w, 3, 6000, 3000), *b = world_add(w, 900, 4000, 4000);
	uint64_t rng = 77;
	size_t at = 0;

	for (unsigned i = 0; i < 1500; i++) {
		world_plan(w);
		for (size_t k = 0; k < w->nr_plan && at + 40 <= size; k++) {
			const struct move *m = &w->plan[k];
			uint64_t words[4] = { m->id, m->region == a, m->first,
					      (uint64_t)m->nr_pages << 8 | m->op };
			memcpy(record + at, words, sizeof words);
			at += sizeof words;
		}
		for (size_t k = 0; k < w->nr_plan; k++)
			world_move(w, &w->plan[k]);
		for (unsigned k = 0; k < 10; k++) {
			rng = rng * 6364136223846793005u + 1442695040888963407u;
			world_touch(w, rng & 1 ? a : b, (rng >> 33) % (rng & 1 ? 6000 : 4000));
		}
	}
	world_free(w);
	return at;
}

static void same_inputs_same_plans(void **state)
{
	size_t size = 4 << 20;
	uint8_t *one = calloc(1, size), *two = calloc(1, size);

	(void)state;
	size_t nr = recording(one, size);
	assert_true(nr > 32 * 1000);
	assert_int_equal(recording(two, size), nr);
	assert_memory_equal(one, two, nr);
	free(one);
	free(two);
}

/* ---- threads ---- */

#define NR_TOUCHES 100000u
#define NR_TOUCHERS 3u

struct toucher {
	struct region *region;
	_Atomic unsigned *nr_running;
	uint64_t rng;
};

static void *touch_along(void *arg)
{
	struct toucher *t = arg;

	for (uint64_t i = 0; i < NR_TOUCHES; i++) {
		t->rng = t->rng * 6364136223846793005u + 1442695040888963407u;
		uint64_t idx = (t->rng >> 33) % 2000;
		engine_touch(t->region, idx, t->rng >> 60 ? TOUCH_RETURN : TOUCH_LOAD,
			     (uint32_t)idx % 7, i * MS);
		if (i % 16 == 0)
			engine_readahead(t->region, idx, TOUCH_LOAD);
		if (i % 64 == 0)
			engine_forget(t->region, idx, 1);
	}
	atomic_fetch_sub(t->nr_running, 1);
	return NULL;
}

/* Everybody touches while the engine steps: no record is mixed, no ready page is lost. */
static void defect_4a_03_touches_race_with_steps(void **state)
{
	struct world *w = world_new(1500, 300);
	struct region *region = world_add(w, 0, 2000, 2000);
	struct toucher toucher[NR_TOUCHERS];
	_Atomic unsigned nr_running = NR_TOUCHERS;
	pthread_t thread[NR_TOUCHERS];
	struct engine_stats stats;
	bool last;

	(void)state;
	for (unsigned i = 0; i < NR_TOUCHERS; i++) {
		toucher[i] = (struct toucher){ region, &nr_running, i + 1 };
		assert_int_equal(pthread_create(&thread[i], NULL, touch_along, &toucher[i]), 0);
	}
	do {
		last = !atomic_load(&nr_running);
		world_step(w);
		for (uint64_t i = 0; i < 2000; i++) {
			struct heat heat = heat_unpack(atomic_load(&region->heat[i]));
			assert_true(heat.node == i % 7 || !region->heat[i] || !heat.node);
		}
	} while (!last);
	for (unsigned i = 0; i < NR_TOUCHERS; i++)
		pthread_join(thread[i], NULL);
	world_step(w);
	assert_true(ready_empty(&region->priv->ready));
	for (uint64_t i = 0; i < 2000; i++)
		assert_false(heat_unpack(region->heat[i]).ready);
	engine_stats(w->engine, &stats);
	assert_int_equal(stats.touches[TOUCH_RETURN] + stats.touches[TOUCH_LOAD],
			 NR_TOUCHES * NR_TOUCHERS);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_most_16_bytes_a_page),
		cmocka_unit_test(defect_4a_11_no_work_when_nothing_is_asked),
		cmocka_unit_test(memory_is_kept_between_the_marks),
		cmocka_unit_test(defect_4a_06_4b_14_whole_cold_blocks_go_as_one),
		cmocka_unit_test(defect_4a_05_no_move_is_empty_or_too_large),
		cmocka_unit_test(defect_4a_04_pages_of_one_region_together),
		cmocka_unit_test(a_page_is_held_once),
		cmocka_unit_test(a_page_is_stored_once),
		cmocka_unit_test(a_run_spans_no_page_of_the_other_node),
		cmocka_unit_test(defect_4a_12_never_spins),
		cmocka_unit_test(defect_4b_10_a_step_is_bounded),
		cmocka_unit_test(what_holds_nothing_is_leapt_over),
		cmocka_unit_test(of_a_paused_region_nothing_moves),
		cmocka_unit_test(stamps_of_a_paused_region_grow_old),
		cmocka_unit_test(hot_pages_are_left_alone_for_longer_and_longer),
		cmocka_unit_test(pages_long_gone_never_look_young_again),
		cmocka_unit_test(defect_4a_13_failed_pages_back_off),
		cmocka_unit_test(what_is_denied_is_left_alone),
		cmocka_unit_test(a_busy_page_lets_others_go_first),
		cmocka_unit_test(defect_4a_21_a_freed_page_is_forgotten),
		cmocka_unit_test(defect_4a_08_15_4b_05_06_a_region_may_go_while_its_pages_move),
		cmocka_unit_test(defect_4b_09_a_region_goes_from_under_the_hands),
		cmocka_unit_test(the_last_region_goes_and_another_comes),
		cmocka_unit_test(same_inputs_same_plans),
		cmocka_unit_test(defect_4a_03_touches_race_with_steps),
	};

	return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
