/* SPDX-License-Identifier: MIT */
/* Places of the hold area: each is one page's at most, also where there are more than 32 GiB of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "program.h"

#define NR_PLACES (PAGE_MARK_MAX + 1 + 8 * BLOCK_PAGES)

static int area_open(void **state)
{
	static struct server server;
	struct program *p = program_new(&server);

	assert_non_null(p);
	p->hold.nr_pages = NR_PLACES;
	p->hold.used = calloc(NR_PLACES / 64, sizeof *p->hold.used);
	p->hold.whole = calloc(NR_PLACES / BLOCK_PAGES / 64 + 1, sizeof *p->hold.whole);
	p->hold.freed = calloc(NR_PLACES, sizeof *p->hold.freed);
	assert_true(p->hold.used && p->hold.whole && p->hold.freed);
	*state = p;
	return 0;
}

static int area_close(void **state)
{
	program_free(*state);
	return 0;
}

/* Take all that is left, at most `most` at once; each place must be new. Returns how many. */
static uint32_t take_all(struct program *p, uint32_t most, uint8_t *taken)
{
	uint32_t place, nr, all = 0;

	while ((nr = hold_take(p, most, &place))) {
		assert_true(nr <= most && place + nr <= NR_PLACES);
		for (uint32_t i = place; i < place + nr; i++) {
			assert_int_equal(taken[i], 0);
			taken[i] = 1;
		}
		all += nr;
	}
	return all;
}

static void every_place_once(void **state)
{
	struct program *p = *state;
	uint8_t *taken = calloc(NR_PLACES, 1);
	uint32_t place;

	assert_non_null(taken);
	assert_int_equal(take_all(p, BLOCK_PAGES, taken), NR_PLACES);
	assert_int_equal(p->hold.nr_used, NR_PLACES);
	/* What is given back is had again, and by nobody twice; a whole block where there is one. */
	uint32_t high = PAGE_MARK_MAX + 1 + 3 * BLOCK_PAGES;
	hold_untake(p, high, BLOCK_PAGES);
	hold_untake(p, 5, 3);
	memset(taken + high, 0, BLOCK_PAGES);
	memset(taken + 5, 0, 3);
	assert_int_equal(hold_take(p, BLOCK_PAGES, &place), BLOCK_PAGES);
	assert_int_equal(place, high);
	assert_int_equal(take_all(p, 16, taken), 3);
	assert_int_equal(page_place(page_word_held(page_word(PAGE_HOLDING, 1, 0, 0, false), place)), high);
	free(taken);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_place_once, area_open, area_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
