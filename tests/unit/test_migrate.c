/* SPDX-License-Identifier: MIT */
/* Opening and closing moves: sums, reasons, back-off, vanishing regions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "migrate.h"

#define MS UINT64_C(1000000)
#define MAX_MOVES 8u

static struct migrate *migrate_new(void)
{
	struct migrate *migrate = malloc(sizeof *migrate);
	void *memory = calloc(1, migrate_bytes(MAX_MOVES));

	assert_non_null(migrate);
	assert_non_null(memory);
	migrate_init(migrate, memory, MAX_MOVES);
	return migrate;
}

static void migrate_free(struct migrate *migrate)
{
	free(migrate->entries);
	free(migrate);
}

static uint64_t ended_sum(const struct migrate *migrate)
{
	uint64_t sum = 0;

	for (unsigned r = 0; r < MOVE_REASON_COUNT; r++)
		sum += migrate->ended[r];
	return sum;
}

/* Each page of each move ends as exactly one reason, and only that reason is counted. */
static void defect_4b_08_21_4a_16_one_counter_for_each_reason(void **state)
{
	struct migrate *migrate = migrate_new();
	uint64_t want[MOVE_REASON_COUNT] = { 0 };

	(void)state;
	for (unsigned op = 0; op < MOVE_OP_COUNT; op++) {
		for (unsigned r = 0; r < MOVE_REASON_COUNT; r++) {
			struct move_result result = { { 0 } };
			struct move move = migrate_open(migrate, NULL, 5, 7 + r, (enum move_op)op);
			result.nr_pages[r] = 7 + r;
			want[r] += 7 + r;
			assert_int_equal(migrate->pending[op], 7 + r);
			migrate_close(migrate, move.id, &result, 0);
			for (unsigned k = 0; k < MOVE_REASON_COUNT; k++)
				assert_int_equal(migrate->ended[k], want[k]);
			assert_null(migrate_check(migrate));
		}
	}
	assert_int_equal(migrate->moved[MOVE_HOLD], 7);
	assert_int_equal(migrate->moved[MOVE_STORE], 7);
	migrate_free(migrate);
}

static void defect_4a_13_4b_11_sums_are_exact_at_any_time(void **state)
{
	struct migrate *migrate = migrate_new();
	uint64_t rng = 1, id[MAX_MOVES], requested = 0;
	uint32_t pages[MAX_MOVES];
	unsigned nr = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		rng = rng * 6364136223846793005u + 1442695040888963407u;
		if (nr < MAX_MOVES && rng >> 63) {
			pages[nr] = (uint32_t)(rng >> 20) % MOVE_RUN_PAGES + 1;
			struct move move = migrate_open(migrate, NULL, 0, pages[nr],
							(enum move_op)(rng >> 40 & 1));
			requested += pages[nr];
			id[nr++] = move.id;
		} else if (nr) {
			unsigned k = (unsigned)(rng >> 33) % nr;
			struct move_result result = { { 0 } };
			uint32_t a = (uint32_t)(rng >> 10) % (pages[k] + 1);
			result.nr_pages[rng >> 50 & 7] += a;
			result.nr_pages[rng >> 53 & 7] += pages[k] - a;
			migrate_close(migrate, id[k], &result, i * MS);
			id[k] = id[--nr];
			pages[k] = pages[nr];
		}
		assert_null(migrate_check(migrate));
		assert_int_equal(migrate->requested, requested);
		assert_int_equal(ended_sum(migrate) + migrate->pending[0] + migrate->pending[1],
				 requested);
		assert_int_equal(migrate_room(migrate), MAX_MOVES - nr);
	}
	migrate_free(migrate);
}

/* A huge page is 512 pages of a batch, not one; and a move is never empty nor larger. */
static void defect_4a_06_batches_are_counted_in_base_pages(void **state)
{
	struct migrate *migrate = migrate_new();

	(void)state;
	struct move move = migrate_open(migrate, NULL, 0, MOVE_RUN_PAGES, MOVE_HOLD);
	assert_int_equal(migrate->requested, 512);
	assert_int_equal(migrate->pending[MOVE_HOLD], 512);
	struct move_result result = { { [MOVE_OK] = 512 } };
	migrate_close(migrate, move.id, &result, 0);
	assert_int_equal(migrate->moved[MOVE_HOLD], 512);
	migrate_free(migrate);
}

static void ids_are_never_used_again(void **state)
{
	struct migrate *migrate = migrate_new();
	uint64_t last = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		struct move_result result = { { [MOVE_OK] = 1 } };
		struct move move = migrate_open(migrate, NULL, 0, 1, MOVE_HOLD);
		assert_true(move.id > last);
		last = move.id;
		migrate_close(migrate, move.id, &result, 0);
	}
	migrate_free(migrate);
}

/* A region that goes while its pages are on their way: moves are still taken, its memory unread. */
static void defect_4b_05_07_a_vanished_region_owes_nothing_but_its_moves(void **state)
{
	struct migrate *migrate = migrate_new();
	struct region gone, stays;
	struct move_result result = { { [MOVE_DROP_GONE] = 3 } };

	(void)state;
	struct move a = migrate_open(migrate, &gone, 1, 3, MOVE_HOLD);
	struct move b = migrate_open(migrate, &stays, 1, 3, MOVE_STORE);
	struct move c = migrate_open(migrate, &gone, 9, 3, MOVE_STORE);
	/* 4b row 7: exactly its own entries are let go. */
	migrate_disown(migrate, &gone);
	assert_null(migrate_close(migrate, a.id, &result, 0).region);
	assert_null(migrate_close(migrate, c.id, &result, 0).region);
	assert_ptr_equal(migrate_close(migrate, b.id, &result, 0).region, &stays);
	assert_int_equal(migrate->ended[MOVE_DROP_GONE], 9);
	assert_int_equal(ended_sum(migrate), migrate->requested);
	migrate_free(migrate);
}

static void store_once(struct migrate *migrate, enum move_reason reason, uint64_t now_ns)
{
	struct move_result result = { { 0 } };
	struct move move = migrate_open(migrate, NULL, 0, 4, MOVE_STORE);

	result.nr_pages[reason] = 4;
	migrate_close(migrate, move.id, &result, now_ns);
}

static void a_full_tier_is_tried_again_later_and_later(void **state)
{
	static const uint64_t delay_ms[] = { 10, 20, 40, 80, 160, 320, 640, 1000, 1000 };
	struct migrate *migrate = migrate_new();
	uint64_t now_ns = 5 * MS;

	(void)state;
	assert_true(migrate_may(migrate, MOVE_STORE, now_ns));
	for (size_t i = 0; i < sizeof delay_ms / sizeof *delay_ms; i++) {
		store_once(migrate, i % 2 ? MOVE_FAIL_IO : MOVE_FAIL_FULL, now_ns);
		store_once(migrate, MOVE_FAIL_FULL, now_ns); /* of the same plan: one failure */
		now_ns += delay_ms[i] * MS;
		assert_false(migrate_may(migrate, MOVE_STORE, now_ns - 1));
		assert_true(migrate_may(migrate, MOVE_STORE, now_ns));
	}
	store_once(migrate, MOVE_OK, now_ns);
	assert_true(migrate_may(migrate, MOVE_STORE, now_ns));
	store_once(migrate, MOVE_FAIL_FULL, now_ns);
	assert_true(migrate_may(migrate, MOVE_STORE, now_ns + 10 * MS)); /* and from the start */
	/* What a page does of its own is no failure of the tier. */
	struct migrate *other = migrate_new();
	store_once(other, MOVE_DROP_TOUCHED, 0);
	store_once(other, MOVE_FAIL_REFUSED, 0);
	assert_true(migrate_may(other, MOVE_STORE, 0));
	migrate_free(other);
	migrate_free(migrate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defect_4b_08_21_4a_16_one_counter_for_each_reason),
		cmocka_unit_test(defect_4a_13_4b_11_sums_are_exact_at_any_time),
		cmocka_unit_test(defect_4a_06_batches_are_counted_in_base_pages),
		cmocka_unit_test(ids_are_never_used_again),
		cmocka_unit_test(defect_4b_05_07_a_vanished_region_owes_nothing_but_its_moves),
		cmocka_unit_test(a_full_tier_is_tried_again_later_and_later),
	};

	return cmocka_run_group_tests_name("migrate", tests, NULL, NULL);
}
