/* SPDX-License-Identifier: MIT */
/* Which of its parent's changes a child has, whatever the order in which all was told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cut.h"
#include "rng.h"

#define PLACES 6u
#define OPS 8u
#define PIECE_PAGES 4u

/* What is at each place, 0: nothing; then, for each change, limbo. */
struct memory {
	unsigned at[PLACES + OPS];
};

static uint64_t place_vpn(unsigned place)
{
	return place < PLACES ? 1000 + 100 * place : LIMBO_VPN + 100 * place;
}

static int has_memory(void *arg, uint64_t vpn)
{
	const struct memory *child = arg;

	for (unsigned i = 0; i < PLACES; i++)
		if (vpn >= place_vpn(i) && vpn < place_vpn(i) + PIECE_PAGES)
			return child->at[i] != 0;
	return 0;
}

/* A change in the order of the kernel. */
struct op {
	unsigned from, to, told;
};

static void op_make(struct memory *m, const struct op *op, bool undo)
{
	unsigned from = undo ? op->to : op->from, to = undo ? op->from : op->to;

	assert_int_equal(m->at[to], 0);
	m->at[to] = m->at[from];
	m->at[from] = 0;
}

static bool ops_meet(const struct op *a, const struct op *b)
{
	return a->from == b->from || a->from == b->to || a->to == b->from || a->to == b->to;
}

static int op_compare(const void *a, const void *b)
{
	const struct op *x = a, *y = b;

	return (x->told > y->told) - (x->told < y->told);
}

/* Random moves and unmappings; some are told late, though never before what they follow from. */
static void ops_random(uint64_t *rng, struct memory *m, struct op *ops)
{
	struct memory now = *m;

	for (unsigned i = 0; i < OPS; i++) {
		struct op *op = &ops[i];
		unsigned tries = 0;
		do {
			op->from = rng_below(rng, PLACES);
			op->to = rng_below(rng, 4) ? rng_below(rng, PLACES) : PLACES + i;
		} while (op->from == op->to || now.at[op->to] || (!now.at[op->from] && ++tries < 100));
		op_make(&now, op, false);
		op->told = 10 * i + rng_below(rng, 3) * 25 + 1;
		for (unsigned k = 0; k < i; k++)
			if (ops_meet(op, &ops[k]) && op->told <= ops[k].told)
				op->told = ops[k].told + 1;
	}
}

/* Whether it could be told; what was told is right. */
static bool trial(uint64_t *rng)
{
	struct memory table = { { 0 } }, child;
	struct op ops[OPS];
	struct change changes[OPS];
	struct place places[PLACES + OPS];
	bool made[OPS];
	size_t at = 0, nr_places = 0;

	for (unsigned i = 0; i < PLACES; i++)
		table.at[i] = rng_below(rng, 2) ? i + 1 : 0;
	child = table;
	ops_random(rng, &table, ops);
	unsigned forked = rng_below(rng, OPS + 1), told = 10 * forked + rng_below(rng, 40);
	for (unsigned i = 0; i < forked; i++)
		op_make(&child, &ops[i], false);
	qsort(ops, OPS, sizeof *ops, op_compare);
	for (unsigned i = 0; i < OPS; i++) {
		changes[i] = (struct change){ .from = place_vpn(ops[i].from), .to = place_vpn(ops[i].to),
					      .nr_pages = PIECE_PAGES, .emptied = true };
		if (ops[i].told >= told)
			continue;
		op_make(&table, &ops[i], false);
		at++;
	}
	for (unsigned i = 0; i < PLACES + OPS; i++)
		if (table.at[i])
			places[nr_places++] = (struct place){ place_vpn(i), PIECE_PAGES };
	int error = cut_find(changes, OPS, at, places, nr_places, has_memory, &child, made);
	if (error) {
		assert_int_equal(error, -EUCLEAN);
		return false;
	}
	for (size_t i = at; i-- > 0;)
		if (!made[i])
			op_make(&table, &ops[i], true);
	for (size_t i = at; i < OPS; i++)
		if (made[i])
			op_make(&table, &ops[i], false);
	assert_memory_equal(table.at, child.at, PLACES * sizeof table.at[0]);
	return true;
}

static void what_is_found_is_right(void **state)
{
	uint64_t rng = 7;
	unsigned nr = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++)
		nr += trial(&rng);
	/* Most can be told. */
	assert_in_range(nr, 10000, 20000);
}

/* One that was moved there and back is where it was. */
static void there_and_back(void **state)
{
	struct change changes[] = { { 1000, 1100, 4, true, false, 0 }, { 1100, 1000, 4, true, false, 0 } };
	struct place place = { 1000, 4 };
	struct memory child = { { 1 } };
	bool made[2];

	(void)state;
	assert_int_equal(cut_find(changes, 2, 2, &place, 1, has_memory, &child, made), 0);
	assert_int_equal(made[0], made[1]);
	child = (struct memory){ { 0, 1 } };
	assert_int_equal(cut_find(changes, 2, 2, &place, 1, has_memory, &child, made), 0);
	assert_true(made[0] && !made[1]);
}

/* The old place stays mapped, and empty. */
static void left_mapped(void **state)
{
	struct change change = { 1000, 1100, 4, false, false, 0 };
	struct place place = { 1000, 4 };
	struct memory child = { { 1, 1 } };
	bool made;

	(void)state;
	assert_int_equal(cut_find(&change, 1, 0, &place, 1, has_memory, &child, &made), 0);
	assert_true(made);
	child = (struct memory){ { 1 } };
	assert_int_equal(cut_find(&change, 1, 0, &place, 1, has_memory, &child, &made), 0);
	assert_false(made);
}

/* What the child has there may have grown there. */
static void grown_where_unmapped(void **state)
{
	struct change changes[] = { { 1000, LIMBO_VPN, 4, false, false, 0 }, { 1200, 1300, 4, true, false, 0 } };
	struct place places[] = { { LIMBO_VPN, 4 }, { 1300, 4 } };
	struct memory child = { { 1, 0, 2, 0 } };
	bool made[2];

	(void)state;
	assert_int_equal(cut_find(changes, 2, 2, places, 2, has_memory, &child, made), 0);
	assert_true(made[0] && !made[1]);
	changes[0].emptied = true;
	assert_int_equal(cut_find(changes, 2, 2, places, 2, has_memory, &child, made), 0);
	assert_true(!made[0] && !made[1]);
}

/* Two that have changed places by way of a third: where there is memory does not say which is where. */
static void exchanged(void **state)
{
	struct change changes[] = { { 1000, 1200, 4, true, false, 0 }, { 1100, 1000, 4, true, false, 0 },
				    { 1200, 1100, 4, true, false, 0 } };
	struct place places[] = { { 1000, 4 }, { 1100, 4 } };
	struct memory child = { { 1, 2 } };
	bool made[3];

	(void)state;
	assert_int_equal(cut_find(changes, 3, 0, places, 2, has_memory, &child, made), -EUCLEAN);
	child = (struct memory){ { 0, 2, 1 } };
	assert_int_equal(cut_find(changes, 3, 0, places, 2, has_memory, &child, made), 0);
	assert_true(made[0] && !made[1] && !made[2]);
}

static int changes_now(void *arg, uint64_t vpn)
{
	(void)arg;
	(void)vpn;
	return -EAGAIN;
}

static void who_cannot_be_asked(void **state)
{
	struct change change = { 1000, 1100, 4, true, false, 0 };
	struct place place = { 1000, 4 };
	bool made;

	(void)state;
	assert_int_equal(cut_find(&change, 1, 0, &place, 1, changes_now, NULL, &made), -EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_found_is_right),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(left_mapped),
		cmocka_unit_test(grown_where_unmapped),
		cmocka_unit_test(exchanged),
		cmocka_unit_test(who_cannot_be_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
