/* SPDX-License-Identifier: MIT */
/* The engine for nodes: what a space may have, by its cap, guarantee and weight, and all together by the rate. */
#include "tiering_world.h"

static void the_cap_of_a_space_is_kept(void **state)
{
	struct world *w = *state;

	w->space.fast_max_pages = 50;
	place(w, 0, 100, SLOW, false);
	touch_twice(w, 0, 100);
	size_t nr = step(w);
	assert_int_equal(nr, 50);
	complete(w, nr, REASON_MOVED);
	assert_int_equal(w->space.node_pages[FAST], 50);
	assert_int_equal(step(w), 0);
	/* Lowered: what is above has to go, for its own. */
	w->space.fast_max_pages = 20;
	w->now_ns += 100 * SECOND;
	nr = step(w);
	assert_int_equal(nr, 30);
	assert_int_equal(w->plan[0].op, TIERING_DEMOTE);
	complete(w, nr, REASON_MOVED);
}

static void the_guarantee_of_a_space_is_kept(void **state)
{
	struct world *w = *state;

	w->space.fast_min_pages = 80;
	place(w, 0, 100, FAST, false);
	w->now_ns += 1000 * SECOND;
	w->need.free_pages[FAST] = w->need.free_pages[FAST_FAR] = 0;
	w->need.reserve_pages[FAST] = 1000;
	size_t nr = step(w);
	assert_int_equal(nr, 20);
	complete(w, nr, REASON_MOVED);
	assert_int_equal(step(w), 0);
}

static void weight_0_is_left_alone(void **state)
{
	struct world *w = *state;

	w->space.weight = 0;
	place(w, 0, 100, SLOW, false);
	place(w, 512, 100, FAST, false);
	touch_twice(w, 0, 100);
	w->now_ns += 5 * SECOND;
	w->need.reserve_pages[FAST] = 200000;
	assert_int_equal(step(w), 0);
}

static void shares_follow_the_weights(void **state)
{
	struct world *w = *state;
	struct tiering_space other;
	struct tiering_window *slots[4];
	uint64_t nr[2] = { 0 };
	bool again;

	tiering_space_add(&w->tiering, &other, NULL, slots, 4);
	window_new(&other, 0);
	w->space.weight = 9;
	other.weight = 1;
	place(w, 0, 4000, SLOW, false);
	tiering_place(&w->tiering, &other, 0, 4000, SLOW, false, w->now_ns);
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND) {
		for (uint64_t k = 0; k < 4000; k++) {
			tiering_touch(&w->tiering, &w->space, k, 0, w->now_ns);
			tiering_touch(&w->tiering, &other, k, 0, w->now_ns);
		}
	}
	size_t moves = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, 2000, &again);
	assert_true(again);
	for (size_t i = 0; i < moves; i++)
		nr[w->plan[i].window->space == &other]++;
	assert_true(nr[0] >= 8 * nr[1] && nr[1] > 50);
	complete(w, moves, REASON_MOVED);
	assert_int_equal(tiering_windows_remove(&w->tiering, &other, 0, UINT64_MAX, window_free), 1);
	tiering_space_remove(&w->tiering, &other);
}

enum { MANY = 7 };

/* The spaces of a plan that moves everything, as bits. */
static unsigned spaces_of_plan(struct world *w, const struct tiering_space *spaces, enum tiering_op op,
			       unsigned *moved)
{
	unsigned found = 0;
	bool again;
	size_t nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);

	for (size_t i = 0; i < nr; i++) {
		unsigned which = (unsigned)(w->plan[i].window->space - spaces);
		assert_true(which < MANY && w->plan[i].op == op);
		found |= 1u << which;
		moved[which]++;
	}
	complete(w, nr, REASON_MOVED);
	return found;
}

/* Where calls are slow a plan is of a few spaces, and all of them have their turn without waiting once more. */
static void a_plan_is_of_few_spaces(void **state)
{
	struct world *w = *state;
	struct tiering_space spaces[MANY];
	struct tiering_window *slots[MANY][4];
	unsigned up[MANY] = { 0 }, down[MANY] = { 0 }, plans = 0;

	for (unsigned s = 0; s < MANY; s++) {
		tiering_space_add(&w->tiering, &spaces[s], NULL, slots[s], 4);
		window_new(&spaces[s], 0);
		tiering_place(&w->tiering, &spaces[s], 0, 20, SLOW, false, w->now_ns);
	}
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND)
		for (unsigned s = 0; s < MANY; s++)
			for (uint64_t k = 0; k < 20; k++)
				tiering_touch(&w->tiering, &spaces[s], k, 0, w->now_ns);
	w->need.max_spaces = 2;
	for (unsigned all = 0; all != (1u << MANY) - 1 && plans < 10; plans++) {
		unsigned found = spaces_of_plan(w, spaces, TIERING_PROMOTE, up);
		assert_true(__builtin_popcount(found) <= 2 && !(found & all));
		all |= found;
	}
	assert_int_equal(plans, (MANY + 1) / 2);
	/* Each has to give up what is above its cap. */
	w->now_ns += 600 * SECOND;
	for (unsigned s = 0; s < MANY; s++) {
		assert_int_equal(up[s], 20);
		spaces[s].fast_max_pages = 5;
	}
	for (plans = 0; plans < 10; plans++)
		assert_true(__builtin_popcount(spaces_of_plan(w, spaces, TIERING_DEMOTE, down)) <= 2);
	for (unsigned s = 0; s < MANY; s++) {
		assert_int_equal(down[s], 15);
		assert_int_equal(tiering_windows_remove(&w->tiering, &spaces[s], 0, UINT64_MAX, window_free), 1);
		tiering_space_remove(&w->tiering, &spaces[s]);
	}
}

static void defect_4a_24_the_rate_is_kept(void **state)
{
	struct world *w = *state;
	uint64_t moved = 0;
	bool again;

	w->tiering.config.rate_pages_per_s = 1000;
	place(w, 0, 8000, SLOW, false);
	uint64_t begin_ns = w->now_ns;
	for (unsigned i = 0; i < 50; i++, w->now_ns += 100 * MS) {
		for (uint64_t k = 0; k < 8000; k++)
			tiering_touch(&w->tiering, &w->space, k, 0, w->now_ns);
		size_t nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);
		complete(w, nr, REASON_MOVED);
		moved += nr;
	}
	uint64_t seconds = (w->now_ns - begin_ns) / SECOND;
	assert_true(moved <= 1000 * seconds + 1000 && moved >= 1000 * (seconds - 1));
	assert_true(w->space.counts.refused[REASON_RATE] > 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)
	const struct CMUnitTest tests[] = {
		CASE(the_cap_of_a_space_is_kept),
		CASE(the_guarantee_of_a_space_is_kept),
		CASE(weight_0_is_left_alone),
		CASE(shares_follow_the_weights),
		CASE(a_plan_is_of_few_spaces),
		CASE(defect_4a_24_the_rate_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
