/* SPDX-License-Identifier: MIT */
/* Small mappings: which are taken, and what their tables cost. */
#include "survey.h"
#include "world.h"

#define NR_SMALL 4096u
#define SMALL_PAGES 64u
#define SMALL_STEP (3 * SMALL_PAGES) /* from one to the next: no neighbours */

static int world_open(void **state)
{
	*state = world_new();
	return 0;
}

static int world_close(void **state)
{
	world_free(*state);
	return 0;
}

static uint64_t small_vpn(uint64_t i)
{
	return 100000 + i * SMALL_STEP;
}

static void small_take(struct world *w, uint64_t vpn)
{
	struct tract *t;
	uint64_t idx, there, run;

	assert_int_equal(tract_take(w->program, vpn, SMALL_PAGES, &t, &idx), 0);
	assert_int_equal(page_state(word_load(t, idx)), PAGE_ABSENT);
	assert_true(extent_place(w->program, t, idx + 5, &there, &run));
	assert_int_equal(there, vpn + 5);
	assert_int_equal(run, SMALL_PAGES - 5);
}

static void piece_gone(void *arg, const struct extent *piece)
{
	(void)arg;
	if (!piece->tract->nr_mapped)
		tract_bury(piece->tract);
}

static void small_drop(struct world *w, uint64_t vpn)
{
	extent_cut(w->program, vpn, SMALL_PAGES, piece_gone, NULL);
}

/* All that is kept for the program's pages. */
static uint64_t tables_bytes(struct world *w)
{
	uint64_t bytes = w->program->room_extents * sizeof(struct extent);

	for (const struct tract *t = w->program->tracts; t; t = t->next)
		bytes += t->memory_bytes + sizeof *t + (t->shelf ? shelf_bytes() : 0);
	return bytes;
}

static void small_mappings_are_at_most_16_bytes_a_page(void **state)
{
	struct world *w = *state;

	for (uint64_t i = 0; i < NR_SMALL; i++)
		small_take(w, small_vpn(i));
	assert_true(tables_bytes(w) <= 16 * NR_SMALL * SMALL_PAGES);
}

/* As V8 does with its young generation: what comes and goes takes no more than what is there. */
static void places_of_what_is_unmapped_are_used_again(void **state)
{
	struct world *w = *state;
	uint64_t nr_live = NR_SMALL / 8, most;

	for (uint64_t i = 0; i < nr_live; i++)
		small_take(w, small_vpn(i));
	most = 2 * tables_bytes(w);
	/* Every eighth stays for good. */
	for (uint64_t round = 1; round < 40; round++) {
		for (uint64_t i = 0; i < nr_live; i++)
			if (i % 8)
				small_drop(w, small_vpn((round - 1) * nr_live + i));
		for (uint64_t i = 0; i < nr_live; i++)
			if (i % 8)
				small_take(w, small_vpn(round * nr_live + i));
		dead_free(w);
		assert_true(tables_bytes(w) <= most);
	}
	for (uint64_t i = 0; i < nr_live; i += 8)
		assert_non_null(extent_find(w->program, small_vpn(i)));
	assert_int_equal(extents_pages(w->program), nr_live * SMALL_PAGES);
}

static void what_holds_nothing_is_buried(void **state)
{
	struct world *w = *state;

	for (uint64_t i = 0; i < NR_SMALL; i++)
		small_take(w, small_vpn(i));
	for (uint64_t i = 0; i < NR_SMALL; i++)
		small_drop(w, small_vpn(i));
	assert_null(w->program->tracts);
	small_take(w, 77);
}

static void large_ones_stand_alone(void **state)
{
	struct world *w = *state;
	struct tract *one, *other;
	uint64_t idx;

	assert_int_equal(tract_take(w->program, 1000, TRACT_OWN_PAGES, &one, &idx), 0);
	assert_int_equal(idx, 0);
	assert_int_equal(tract_take(w->program, 9000, TRACT_OWN_PAGES, &other, &idx), 0);
	assert_ptr_not_equal(one, other);
	assert_int_equal(one->region.nr_pages, TRACT_OWN_PAGES);
}

/* What of small mappings is taken: the largest first, until the rest is no more than its share. */
static void small_ones_are_taken_when_they_are_much(void **state)
{
	uint64_t few[SURVEY_CLASSES] = { 50, 50, 50, 50 }, many[SURVEY_CLASSES] = { 16, 32, 33000, 200 };

	(void)state;
	assert_int_equal(survey_least(few, 200), SURVEY_TAKEN_PAGES);
	assert_int_equal(survey_least(few, 199), SURVEY_TAKEN_PAGES / 2);
	assert_int_equal(survey_least(few, 99), SURVEY_TAKEN_PAGES / 8);
	assert_int_equal(survey_least(few, 49), SURVEY_LEAST_PAGES);
	assert_int_equal(survey_least(many, 1000), 64);
	assert_int_equal(survey_least(many, 47), 32);
	assert_int_equal(survey_least(many, 0), SURVEY_LEAST_PAGES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(small_mappings_are_at_most_16_bytes_a_page, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(places_of_what_is_unmapped_are_used_again, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(what_holds_nothing_is_buried, world_open, world_close),
		cmocka_unit_test_setup_teardown(large_ones_stand_alone, world_open, world_close),
		cmocka_unit_test(small_ones_are_taken_when_they_are_much),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
