/* SPDX-License-Identifier: MIT */
/* The engine with a slow node: what goes there, what goes on from there, and what comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine.h"
#include "occupied.h"
#include "exchange.h"

#define MS UINT64_C(1000000)
#define SECOND_NS (1000 * MS)
#define MOVES 64u
#define NR_PAGES 4096u
#define LIMIT 2048u

/* One region, resident on the fast node at first, of a caller that can move everything. */
struct world {
	struct engine *engine;
	struct region region;
	void *memory;
	uint64_t slow_max, now_ns;
	bool slow_last;
	uint64_t nr_planned[MOVE_OP_COUNT], most_slow;
};

static void *memory_new(size_t bytes)
{
	void *memory = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);

	assert_non_null(memory);
	return memset(memory, 0, (bytes + 4095) & ~(size_t)4095);
}

static struct world *world_new(uint64_t slow_max, bool slow_last)
{
	const struct engine_config config = { .max_moves = 2 * MOVES };
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	w->engine = engine_init(memory_new(engine_bytes(&config)), &config);
	w->memory = memory_new(engine_region_bytes(NR_PAGES));
	w->slow_max = slow_max;
	w->slow_last = slow_last;
	engine_region_init(&w->region, w->memory, 512, NR_PAGES, w);
	engine_region_add(w->engine, &w->region);
	region_occupy(&w->region, 0, NR_PAGES);
	for (uint64_t i = 0; i < NR_PAGES; i++)
		assert_true(region_change(&w->region.state[i], 0, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	return w;
}

static void world_free(struct world *w)
{
	assert_null(engine_check(w->engine));
	free(w->memory);
	free(w->engine);
	free(w);
}

static uint64_t word_of(const struct world *w, uint64_t idx)
{
	return atomic_load(&w->region.state[idx]);
}

static void word_set(struct world *w, uint64_t idx, uint64_t to)
{
	assert_true(region_change(&w->region.state[idx], word_of(w, idx), to));
}

static uint64_t count(const struct world *w, enum page_state state, bool slow)
{
	uint64_t nr = 0;

	for (uint64_t i = 0; i < NR_PAGES; i++)
		nr += page_state(word_of(w, i)) == state && page_slow(word_of(w, i)) == slow;
	return nr;
}

static uint64_t slow_pages(const struct world *w)
{
	return count(w, PAGE_RESIDENT, true) + count(w, PAGE_HELD, true);
}

/* Whether a page moved as the operation says. */
static bool page_go(struct world *w, uint64_t idx, enum move_op op)
{
	uint64_t word = word_of(w, idx);

	if (page_state(word) != (op == MOVE_HOLD ? PAGE_RESIDENT : PAGE_HELD))
		return false;
	if (op == MOVE_HOLD) {
		word_set(w, idx, page_word_as(word, PAGE_HOLDING));
		word_set(w, idx, page_word_as(word, PAGE_HELD));
	} else if (op == MOVE_DEMOTE) {
		if (page_slow(word))
			return false;
		word_set(w, idx, page_word_on(word, true));
	} else {
		assert_true(page_slow(word)); /* nothing passes over the slow node */
		word_set(w, idx, page_word_as(word, PAGE_STORING));
		word_set(w, idx, page_word(PAGE_STORED, 0, 0, (uint32_t)idx + 1, false));
	}
	return true;
}

static void world_step(struct world *w)
{
	uint64_t slow_held = count(w, PAGE_HELD, true), held = count(w, PAGE_HELD, false);
	struct engine_need need = {
		.resident = count(w, PAGE_RESIDENT, false) + held, .limit = LIMIT,
		.held = held, .held_max = NR_PAGES - slow_held,
		.slow = slow_pages(w), .slow_held = slow_held,
		.slow_max = w->slow_max, .slow_last = w->slow_last,
	};
	struct move plan[MOVES];
	bool again;

	w->now_ns += 10 * MS;
	size_t nr = engine_step(w->engine, w->now_ns, &need, plan, MOVES, &again);
	for (size_t i = 0; i < nr; i++) {
		struct move_result result = { { 0 } };
		w->nr_planned[plan[i].op] += plan[i].nr_pages;
		for (uint64_t k = plan[i].first; k < plan[i].first + plan[i].nr_pages; k++)
			result.nr_pages[page_go(w, k, plan[i].op) ? MOVE_OK : MOVE_DROP_CHANGED]++;
		engine_complete(w->engine, plan[i].id, &result, w->now_ns);
	}
	if (slow_pages(w) > w->most_slow)
		w->most_slow = slow_pages(w);
}

static void world_steps(struct world *w, unsigned nr)
{
	while (nr--)
		world_step(w);
}

/* The program touches a page that is held; whether it came back to the fast node. */
static bool page_touch(struct world *w, uint64_t idx)
{
	uint64_t word = word_of(w, idx);
	bool fast = !page_slow(word) || engine_promote(&w->region, idx, w->now_ns);

	assert_int_equal(page_state(word), PAGE_HELD);
	word_set(w, idx, page_word_as(word, PAGE_RETURNING));
	word_set(w, idx, page_word(PAGE_RESIDENT, !fast, 0, 0, false));
	engine_touch(&w->region, idx, TOUCH_RETURN, HEAT_NO_NODE, w->now_ns);
	return fast;
}

static uint64_t slow_held_find(const struct world *w)
{
	for (uint64_t i = 0; i < NR_PAGES; i++)
		if (page_state(word_of(w, i)) == PAGE_HELD && page_slow(word_of(w, i)))
			return i;
	fail_msg("nothing is held on the slow node");
	return 0;
}

static void what_is_too_much_goes_to_the_slow_node(void **state)
{
	struct world *w = world_new(NR_PAGES, false);

	(void)state;
	world_steps(w, 400);
	assert_true(count(w, PAGE_RESIDENT, false) + count(w, PAGE_HELD, false) <= LIMIT);
	assert_true(count(w, PAGE_RESIDENT, false) + count(w, PAGE_HELD, false) > LIMIT / 2);
	assert_int_equal(w->nr_planned[MOVE_STORE], 0); /* there is room */
	world_free(w);
}

static void a_full_slow_node_takes_no_more(void **state)
{
	struct world *w = world_new(512, true);

	(void)state;
	world_steps(w, 400);
	assert_true(w->most_slow <= 512 && w->most_slow > 400);
	assert_int_equal(w->nr_planned[MOVE_STORE], 0); /* there is nothing behind it */
	world_free(w);
}

static void what_the_slow_node_has_no_room_for_goes_on(void **state)
{
	struct world *w = world_new(512, false);

	(void)state;
	world_steps(w, 2000);
	assert_true(count(w, PAGE_RESIDENT, false) + count(w, PAGE_HELD, false) <= LIMIT);
	assert_true(w->most_slow <= 512);
	assert_true(count(w, PAGE_STORED, false) >= NR_PAGES - LIMIT - 512);
	world_free(w);
}

/* Also when all of it is mapped there: then it must be held first. */
static void mapped_pages_of_a_full_slow_node_go_on_too(void **state)
{
	struct world *w = world_new(512, false);

	(void)state;
	for (uint64_t i = 0; i < 512; i++)
		word_set(w, i, page_word(PAGE_RESIDENT, 1, 0, 0, false));
	world_steps(w, 2000);
	assert_true(count(w, PAGE_RESIDENT, false) + count(w, PAGE_HELD, false) <= LIMIT);
	assert_true(w->most_slow <= 512);
	world_free(w);
}

static void the_second_touch_in_a_window_brings_a_page_back(void **state)
{
	struct world *w = world_new(NR_PAGES, true);

	(void)state;
	world_steps(w, 400);
	uint64_t idx = slow_held_find(w);
	assert_false(page_touch(w, idx));
	/* Mapped there it is held again, to be seen. */
	for (unsigned i = 0; i < 500 && page_state(word_of(w, idx)) != PAGE_HELD; i++)
		world_step(w);
	assert_true(page_touch(w, idx));

	idx = slow_held_find(w);
	assert_false(page_touch(w, idx));
	for (unsigned i = 0; i < 500 && page_state(word_of(w, idx)) != PAGE_HELD; i++)
		world_step(w);
	w->now_ns += 11 * SECOND_NS;
	assert_false(page_touch(w, idx)); /* that was long ago */
	world_free(w);
}

static void promotions_and_probes_come_at_a_rate(void **state)
{
	struct exchange e;
	uint64_t promoted = 0, probed = 0;

	(void)state;
	exchange_init(&e);
	assert_false(exchange_promote(&e)); /* nothing was given out yet */
	for (uint64_t now_ns = SECOND_NS; now_ns <= 2 * SECOND_NS; now_ns += MS / 4) {
		exchange_refill(&e, now_ns, 0);
		probed += exchange_probes(&e, 100);
	}
	assert_in_range(probed, 4090, 4097);
	while (exchange_promote(&e))
		promoted++;
	assert_in_range(promoted, 4090, 4097);
	/* What nobody takes for long is not saved up. */
	exchange_refill(&e, 100 * SECOND_NS, 0);
	assert_in_range(exchange_probes(&e, UINT64_MAX), 1, 65536);
}

static void it_slows_down_when_pages_only_change_places(void **state)
{
	struct exchange e;
	uint64_t now_ns = SECOND_NS;

	(void)state;
	exchange_init(&e);
	uint32_t first = e.promote.rate;
	for (bool hot = true;; hot = false) {
		uint32_t before = e.promote.rate;
		for (unsigned i = 0; i < 200; i++) {
			exchange_refill(&e, now_ns += SECOND_NS, 0);
			while (exchange_promote(&e))
				exchange_left(&e, hot);
		}
		if (!hot) {
			assert_true(e.promote.rate > before); /* and faster again when it pays */
			break;
		}
		assert_true(e.promote.rate < first && e.promote.rate > 0);
	}
}

/* However slow faults are, the program is not kept waiting for what was held for most of its time. */
static void probes_cost_a_share_of_the_time(void **state)
{
	struct exchange e;
	uint64_t now_ns = SECOND_NS, waited_ns = 0, probed = 0;

	(void)state;
	exchange_init(&e);
	for (unsigned i = 0; i < 3000; i++) {
		exchange_refill(&e, now_ns += 10 * MS, waited_ns);
		uint64_t nr = exchange_probes(&e, 1000);
		/* Each is touched, which takes a millisecond. */
		waited_ns += nr * MS;
		probed += i >= 1000 ? nr : 0;
	}
	assert_in_range(probed, 20 * 100, 20 * 300); /* 0.1 to 0.3 of 20 s */
	/* And they go on at the rate of promotions where touches are fast. */
	for (unsigned i = 0; i < 3000; i++)
		exchange_refill(&e, now_ns += 10 * MS, waited_ns);
	assert_int_equal(e.probe.rate, e.promote.rate);
}

/* The window is never shorter than it takes to see a page twice. */
static void the_window_is_two_passes(void **state)
{
	struct exchange e;

	(void)state;
	exchange_init(&e);
	uint32_t least = exchange_window(&e);
	exchange_passed(&e, 50, 100, SECOND_NS);
	exchange_passed(&e, 50, 100, 2 * SECOND_NS);
	exchange_passed(&e, 100, 100, 3 * SECOND_NS);
	assert_int_equal(exchange_window(&e), least);
	exchange_passed(&e, 60, 100, 30 * SECOND_NS);
	assert_int_equal(exchange_window(&e), least);
	exchange_passed(&e, 60, 100, 63 * SECOND_NS);
	assert_in_range(exchange_window(&e), 119 * SECOND_NS >> 24, 121 * SECOND_NS >> 24);
	exchange_passed(&e, 1000, 100, 100000 * SECOND_NS);
	assert_true(exchange_window(&e) < 2 * 3600 * SECOND_NS >> 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_too_much_goes_to_the_slow_node),
		cmocka_unit_test(a_full_slow_node_takes_no_more),
		cmocka_unit_test(what_the_slow_node_has_no_room_for_goes_on),
		cmocka_unit_test(mapped_pages_of_a_full_slow_node_go_on_too),
		cmocka_unit_test(the_second_touch_in_a_window_brings_a_page_back),
		cmocka_unit_test(promotions_and_probes_come_at_a_rate),
		cmocka_unit_test(probes_cost_a_share_of_the_time),
		cmocka_unit_test(the_window_is_two_passes),
		cmocka_unit_test(it_slows_down_when_pages_only_change_places),
	};

	return cmocka_run_group_tests_name("exchange", tests, NULL, NULL);
}
