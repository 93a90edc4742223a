/* SPDX-License-Identifier: MIT */
/*
 * Formers, each rule by itself: what was at a place to which something else was moved, by which call it leaves, and
 * which message tells of that. test_moves.c searches through what comes of all of them together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "former.h"

#define NR(list) (sizeof(list) / sizeof *(list))

enum { PLACE = 1000, ELSEWHERE = 3000, THERE = 5000, SOURCE = 8000, OTHER_SOURCE = 9000, LIMBO = 500 };

static const struct leaving mover = { .vpn = SOURCE, .nr_pages = 20, .to = PLACE, .moved = true };

static struct leaving moves(uint64_t vpn, uint64_t nr_pages, uint64_t to)
{
	return (struct leaving){ .vpn = vpn, .nr_pages = nr_pages, .to = to, .moved = true };
}

static struct leaving unmaps(uint64_t vpn, uint64_t nr_pages)
{
	return (struct leaving){ .vpn = vpn, .nr_pages = nr_pages };
}

/* One of nr_pages at PLACE, to which something was moved from SOURCE. */
static void former_at(struct formers *formers, uint64_t nr_pages, enum former_state state)
{
	const struct former former = { .vpn = PLACE, .nr_pages = nr_pages, .limbo = LIMBO, .mover = mover,
				       .state = state };

	assert_true(former_add(formers, &former));
}

/* Whether what is told takes `nr_pages` of a former from `vpn` on. */
static bool taken(struct formers *formers, struct leaving told, uint64_t vpn, uint64_t nr_pages)
{
	struct former part;

	int found = former_take(formers, &told, told.vpn, told.vpn + told.nr_pages, &part);
	assert_true(found >= 0);
	if (!found)
		return false;
	assert_int_equal(part.vpn, vpn);
	assert_int_equal(part.nr_pages, nr_pages);
	assert_int_equal(part.limbo, LIMBO + (vpn - PLACE));
	return true;
}

static bool queued(struct formers *formers, const struct leaving *calls, size_t nr, bool all)
{
	struct leaving own[FORMERS_MAX];

	memcpy(own, calls, nr * sizeof *calls);
	return formers_queued(formers, own, nr, all, &mover, 1);
}

static void what_is_taken_of_the_middle_leaves_both_ends(void **state)
{
	struct formers formers = { 0 };
	uint64_t next;

	(void)state;
	former_at(&formers, 30, FORMER_DOUBTFUL);
	assert_true(taken(&formers, unmaps(PLACE + 10, 10), PLACE + 10, 10));
	assert_int_equal(formers_limbo(&formers, 0, &next), LIMBO);
	assert_int_equal(next, LIMBO + 10);
	assert_int_equal(formers_limbo(&formers, next, &next), LIMBO + 20);
	assert_int_equal(next, LIMBO + 30);
	assert_false(taken(&formers, unmaps(PLACE + 10, 10), 0, 0));
	assert_true(taken(&formers, unmaps(PLACE, 15), PLACE, 10));
	assert_true(taken(&formers, unmaps(PLACE, 30), PLACE + 20, 10));
	assert_false(taken(&formers, unmaps(PLACE, 30), 0, 0));
}

/* Nothing is known before the mover of what came sleeps until its second message is read. */
static void the_mover_is_waited_for(void **state)
{
	struct formers formers = { 0 };
	struct leaving calls[] = { unmaps(PLACE, 20), mover };

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_false(queued(&formers, calls, 1, true));
	assert_true(queued(&formers, calls, NR(calls), false));
	assert_true(formers_unmapped(&formers, PLACE, 20));
	assert_false(formers_unmapped(&formers, PLACE, 10));
	assert_true(taken(&formers, unmaps(PLACE, 20), PLACE, 20));
}

/* Each page of it is taken away by one call, of which there may be several. */
static void who_takes_it_away_is_waited_for(void **state)
{
	struct formers formers = { 0 };
	struct leaving calls[] = { mover, moves(PLACE, 10, THERE), unmaps(PLACE + 10, 10) };

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_false(queued(&formers, calls, 2, true));
	assert_true(queued(&formers, calls, NR(calls), false));
	assert_false(taken(&formers, moves(PLACE, 10, ELSEWHERE), 0, 0));
	assert_true(taken(&formers, moves(PLACE, 10, THERE), PLACE, 10));
	assert_true(taken(&formers, unmaps(PLACE + 10, 10), PLACE + 10, 10));
}

/* Two that take the same pages away: of one of them it is not known what it is about. */
static void of_two_nobody_can_tell(void **state)
{
	struct formers formers = { 0 };
	struct leaving calls[] = { mover, moves(PLACE, 20, THERE), unmaps(PLACE, 20) };

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_true(queued(&formers, calls, NR(calls), true));
	assert_int_equal(formers.nr, 1);
	assert_int_equal(formers.list[0].state, FORMER_DOUBTFUL);
}

/* There may have been none. That none takes it away shows it only when nobody is under way. */
static void who_is_vague_may_not_have_been(void **state)
{
	struct formers formers = { 0 };
	struct leaving calls[] = { mover };

	(void)state;
	former_at(&formers, 20, FORMER_VAGUE);
	assert_false(queued(&formers, calls, 1, false));
	assert_true(queued(&formers, calls, 1, true));
	assert_int_equal(formers.nr, 0);
}

/* A call whose first message is read takes nothing away any more; which of two that is, their ends say. */
static void a_call_that_has_told_is_not_the_formers(void **state)
{
	struct formers formers = { 0 };
	struct leaving calls[] = { moves(PLACE, 20, THERE), moves(PLACE, 20, ELSEWHERE), mover };
	const struct leaving left[] = { mover, moves(PLACE, 20, THERE) };

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_true(formers_queued(&formers, calls, NR(calls), true, left, NR(left)));
	assert_false(taken(&formers, moves(PLACE, 20, THERE), 0, 0));
	assert_true(taken(&formers, moves(PLACE, 20, ELSEWHERE), PLACE, 20));
}

/* One that leaves its end to the kernel may be any; one that names it is the more likely. */
static void rather_the_call_that_names_the_end_has_told(void **state)
{
	struct formers formers = { 0 };
	struct leaving calls[] = { moves(PLACE, 20, 0), moves(PLACE, 20, THERE), mover };
	const struct leaving left[] = { mover, moves(PLACE, 20, THERE) };

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_true(formers_queued(&formers, calls, NR(calls), true, left, NR(left)));
	assert_true(taken(&formers, moves(PLACE, 20, ELSEWHERE), PLACE, 20));
}

/* One former was at half of the place of another, and its call takes away the whole of that place: of the other it may
 * be the rest. */
static void a_call_is_of_one_former_in_each_place(void **state)
{
	struct formers formers = { 0 };
	struct leaving whole = moves(PLACE, 20, THERE);
	struct leaving calls[] = { mover, whole, moves(PLACE, 10, ELSEWHERE) };

	(void)state;
	former_at(&formers, 10, FORMER_QUEUED);
	formers.list[0].call = whole;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_true(queued(&formers, calls, NR(calls), true));
	for (unsigned i = 0; i < formers.nr; i++)
		assert_int_equal(formers.list[i].state, FORMER_QUEUED);
	assert_true(taken(&formers, moves(PLACE, 10, ELSEWHERE), PLACE, 10));
	assert_int_equal(formers.nr, 2);
	assert_true(taken(&formers, whole, PLACE, 10));
	assert_true(taken(&formers, whole, PLACE + 10, 10));
}

/* A move to a given place first tells what it has unmapped there: unmappings after that are others'. */
static void who_has_cleared_the_way_unmaps_no_more(void **state)
{
	struct formers formers = { 0 };
	struct leaving calls[] = { mover, moves(PLACE, 20, THERE) };

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_true(queued(&formers, calls, NR(calls), true));
	formers_cleared(&formers, ELSEWHERE);
	struct formers as_well = formers;
	assert_true(taken(&as_well, unmaps(PLACE, 20), PLACE, 20));
	formers_cleared(&formers, THERE);
	assert_false(taken(&formers, unmaps(PLACE, 20), 0, 0));
	assert_true(taken(&formers, moves(PLACE, 20, THERE), PLACE, 20));
}

/* Its mover goes on, and from then on may do anything with what it has moved there. */
static void after_the_mover_nobody_can_tell(void **state)
{
	struct formers formers = { 0 };

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	formers_release(&formers, OTHER_SOURCE, 20);
	assert_int_equal(formers.list[0].state, FORMER_AWAITED);
	formers_release(&formers, SOURCE, 20);
	assert_int_equal(formers.list[0].state, FORMER_DOUBTFUL);
}

static void calls_at_its_place_concern_it_and_its_movers(void **state)
{
	struct formers formers = { 0 };
	struct leaving beside = unmaps(PLACE + 20, 5), last = unmaps(PLACE + 19, 5);

	(void)state;
	former_at(&formers, 20, FORMER_AWAITED);
	assert_false(formers_concern(&formers, &beside));
	assert_true(formers_concern(&formers, &last));
	assert_true(formers_concern(&formers, &mover));
	formers_doubt(&formers);
	assert_false(formers_concern(&formers, &last));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_taken_of_the_middle_leaves_both_ends),
		cmocka_unit_test(the_mover_is_waited_for),
		cmocka_unit_test(who_takes_it_away_is_waited_for),
		cmocka_unit_test(of_two_nobody_can_tell),
		cmocka_unit_test(who_is_vague_may_not_have_been),
		cmocka_unit_test(a_call_that_has_told_is_not_the_formers),
		cmocka_unit_test(rather_the_call_that_names_the_end_has_told),
		cmocka_unit_test(a_call_is_of_one_former_in_each_place),
		cmocka_unit_test(who_has_cleared_the_way_unmaps_no_more),
		cmocka_unit_test(after_the_mover_nobody_can_tell),
		cmocka_unit_test(calls_at_its_place_concern_it_and_its_movers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
