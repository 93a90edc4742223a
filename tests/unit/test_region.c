/* SPDX-License-Identifier: MIT */
/* The state table, pair by pair, and the word's fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "region.h"

/* Row: from; column: to. x: legal. A R H S F L T O U =
 * absent resident held stored filling loading reTurning hOlding storing(U). */
static const char *const table[PAGE_STATE_COUNT] = {
	/*                 ARHSFLTOU */
	[PAGE_ABSENT]    = ".x..x....",
	[PAGE_RESIDENT]  = "xx..x..x.",
	[PAGE_HELD]      = "x.....x.x",
	[PAGE_STORED]    = "x....x...",
	[PAGE_FILLING]   = "xx.......",
	[PAGE_LOADING]   = "xx.x.....",
	[PAGE_RETURNING] = "xxx......",
	[PAGE_HOLDING]   = "xxx......",
	[PAGE_STORING]   = "x.xx..x..",
};

static void every_pair(void **state)
{
	(void)state;
	for (unsigned from = 0; from < PAGE_STATE_COUNT; from++) {
		for (unsigned to = 0; to < PAGE_STATE_COUNT; to++) {
			/* A resident page may only become resident by losing its shadow. */
			bool shadow = from == PAGE_RESIDENT;
			uint64_t a = page_word((enum page_state)from, 0, 0, 0, shadow);
			uint64_t b = page_word((enum page_state)to, 0, 0, 0, false);
			if (!from)
				a = 0;
			assert_int_equal(region_may_change(a, b), table[from][to] == 'x');
		}
	}
}

static void special_rules(void **state)
{
	uint64_t plain = page_word(PAGE_RESIDENT, 0, 0, 0, false);
	uint64_t shadow = page_word(PAGE_RESIDENT, 1, 0, 77, true);

	(void)state;
	assert_true(region_may_change(shadow, plain));
	assert_false(region_may_change(plain, shadow));
	assert_false(region_may_change(plain, plain));
	assert_false(region_may_change(shadow, shadow));
	/* Nothing is left behind by an absent page. */
	assert_true(region_may_change(shadow, 0));
	assert_false(region_may_change(shadow, page_word(PAGE_ABSENT, 0, 0, 77, false)));
	assert_false(region_may_change(shadow, page_word(PAGE_ABSENT, 0, 0, 0, true)));
	/* No state at all. */
	for (uint64_t bad = PAGE_STATE_COUNT; bad < 16; bad++) {
		assert_false(region_may_change(bad, 0));
		assert_false(region_may_change(0, bad));
	}
}

static void fields_round_trip(void **state)
{
	(void)state;
	for (unsigned ones = 0; ones < 2; ones++) {
		for (unsigned bit = 0; bit < 32; bit++) {
			uint32_t slot = ones ? ~(1u << bit) : 1u << bit;
			uint32_t mark = ones ? ~(1u << bit % 23) & PAGE_MARK_MAX : 1u << bit % 23;
			uint32_t tier = ones ? ~(1u << bit % 4) & PAGE_TIER_MAX : 1u << bit % 4;
			uint64_t word = page_word(PAGE_STORING, tier, mark, slot, ones);
			assert_int_equal(page_state(word), PAGE_STORING);
			assert_int_equal(page_tier(word), tier);
			assert_int_equal(page_mark(word), mark);
			assert_int_equal(page_slot(word), slot);
			assert_int_equal(page_shadow(word), ones);
			uint64_t as = page_word_as(word, PAGE_HELD);
			assert_int_equal(page_state(as), PAGE_HELD);
			assert_int_equal(as >> 4, word >> 4);
		}
	}
	assert_int_equal(page_word(PAGE_STORED, 2, 3, 4, true), 0x0000000400000653);
}

/* A place above the mark's bits goes on in the field of the slot, and leaves nothing there. */
static void a_place_has_32_bits(void **state)
{
	uint64_t resident = page_word(PAGE_RESIDENT, 1, 0, 0, false);
	uint64_t shadowed = page_word(PAGE_RESIDENT, 0, 0, 77, true);

	(void)state;
	for (unsigned bit = 0; bit < 32; bit++) {
		uint64_t held = page_word_held(resident, ~(1u << bit));
		assert_int_equal(page_state(held), PAGE_HELD);
		assert_int_equal(page_place(held), ~(1u << bit));
		assert_int_equal(page_place(page_word_as(held, PAGE_RETURNING)), ~(1u << bit));
		assert_false(page_has_slot(held));
		assert_true(page_slow(held));
		assert_int_equal(page_word_back(held), resident);
		held = page_word_held(shadowed, 1u << bit % PAGE_MARK_BITS);
		assert_int_equal(page_place(held), 1u << bit % PAGE_MARK_BITS);
		assert_int_equal(page_slot(held), 77);
		assert_int_equal(page_word_back(held), shadowed);
	}
}

static void only_the_expected_word_changes(void **state)
{
	uint64_t resident = page_word(PAGE_RESIDENT, 0, 0, 0, false);
	_Atomic uint64_t word = resident;

	(void)state;
	assert_false(region_change(&word, page_word(PAGE_RESIDENT, 0, 0, 9, true), 0));
	assert_int_equal(word, resident);
	assert_true(region_change(&word, resident, page_word_as(resident, PAGE_HOLDING)));
	assert_int_equal(page_state(word), PAGE_HOLDING);
}

/* What owns what follows from the state alone. */
static void owners(void **state)
{
	static const struct { bool moving, slot, hold; } row[PAGE_STATE_COUNT] = {
		[PAGE_ABSENT] = { 0, 0, 0 },  [PAGE_RESIDENT] = { 0, 0, 0 },
		[PAGE_HELD] = { 0, 0, 1 },    [PAGE_STORED] = { 0, 1, 0 },
		[PAGE_FILLING] = { 1, 0, 0 }, [PAGE_LOADING] = { 1, 1, 0 },
		[PAGE_RETURNING] = { 1, 0, 1 }, [PAGE_HOLDING] = { 1, 0, 0 },
		[PAGE_STORING] = { 1, 0, 1 },
	};

	(void)state;
	for (unsigned s = 0; s < PAGE_STATE_COUNT; s++) {
		uint64_t word = page_word((enum page_state)s, 0, 0, 0, false);
		assert_int_equal(page_moving(word), row[s].moving);
		assert_int_equal(page_has_slot(word), row[s].slot);
		assert_int_equal(page_has_hold(word), row[s].hold);
	}
	assert_true(page_has_slot(page_word(PAGE_RESIDENT, 0, 0, 5, true)));
}

static void a_page_in_memory_changes_its_node_and_nothing_else(void **state)
{
	const enum page_state where[] = { PAGE_RESIDENT, PAGE_HELD };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t fast = page_word(where[i], 0, 7, 0, false), slow = page_word_on(fast, true);

		assert_true(page_slow(slow) && !page_slow(fast) && page_word_on(slow, false) == fast);
		assert_true(region_may_change(fast, slow) && region_may_change(slow, fast));
		assert_false(region_may_change(fast, fast));
		assert_false(region_may_change(fast, page_word(where[i], 1, 8, 0, false)));
	}
	/* With a slot the tier is the slot's. */
	assert_false(page_slow(page_word(PAGE_STORED, 1, 0, 9, false)));
	assert_false(page_slow(page_word(PAGE_HELD, 1, 7, 9, true)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pair),
		cmocka_unit_test(special_rules),
		cmocka_unit_test(fields_round_trip),
		cmocka_unit_test(a_place_has_32_bits),
		cmocka_unit_test(only_the_expected_word_changes),
		cmocka_unit_test(owners),
		cmocka_unit_test(a_page_in_memory_changes_its_node_and_nothing_else),
	};

	return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}
