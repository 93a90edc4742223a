/* SPDX-License-Identifier: MIT */
/* Events of a program's mappings, in the orders in which the kernel may tell them. */
#include "uffd.h"
#include "world.h"

/* The program's userfaultfd is the reading end of a pipe. */
static int world_open(void **state)
{
	struct world *w = world_new();
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	w->program->uffd = ends[0];
	w->tell = ends[1];
	*state = w;
	return 0;
}

static int world_close(void **state)
{
	world_free(*state);
	return 0;
}

static void no_fault(void *arg, uint64_t address, bool write, uint32_t tid)
{
	(void)arg;
	(void)address;
	(void)write;
	(void)tid;
	fail();
}

static void tell(struct world *w, const struct uffd_msg *message)
{
	assert_int_equal(write(w->tell, message, sizeof *message), sizeof *message);
	assert_int_equal(events_read(w->program, no_fault, NULL), 0);
}

static void tell_unmap(struct world *w, uint64_t vpn, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_UNMAP };

	m.arg.remove.start = vpn << PAGE_SHIFT;
	m.arg.remove.end = (vpn + nr_pages) << PAGE_SHIFT;
	tell(w, &m);
}

/* A move, and the unmapping of the old place that goes with it. */
static void tell_move(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_REMAP };

	m.arg.remap.from = from << PAGE_SHIFT;
	m.arg.remap.to = to << PAGE_SHIFT;
	m.arg.remap.len = nr_pages << PAGE_SHIFT;
	tell(w, &m);
	tell_unmap(w, from, nr_pages);
}

static void extent_is(struct world *w, uint64_t vpn, const struct tract *tract, uint64_t idx)
{
	const struct extent *e = extent_find(w->program, vpn);

	assert_int_equal(e != NULL, tract != NULL);
	if (!tract)
		return;
	assert_ptr_equal(e->tract, tract);
	assert_int_equal(e->idx + (vpn - e->vpn), idx);
}

static void a_move_takes_its_pages_along(void **state)
{
	struct world *w = *state;
	struct tract *t;

	assert_int_equal(tract_add(w->program, 1000, 100, &t), 0);
	tell_move(w, 1020, 5000, 10);
	extent_is(w, 1019, t, 19);
	extent_is(w, 1020, NULL, 0);
	extent_is(w, 5000, t, 20);
	extent_is(w, 5009, t, 29);
	extent_is(w, 1030, t, 30);
}

/* One thread has unmapped 1000 .. 1099 and not yet told; others have moved mappings there. */
static void rule09_a_move_overtakes_an_unmap(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 100, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 100, &moved), 0);
	tell_move(w, 5000, 1010, 10);
	tell_move(w, 5050, 1040, 20);
	extent_is(w, 1009, old, 9);
	extent_is(w, 1010, moved, 0);
	extent_is(w, 1059, moved, 69);
	tell_unmap(w, 1000, 100);
	for (uint64_t vpn = 1000; vpn < 1100; vpn++) {
		bool first = vpn >= 1010 && vpn < 1020, second = vpn >= 1040 && vpn < 1060;
		extent_is(w, vpn, first || second ? moved : NULL, first ? vpn - 1010 : vpn - 1040 + 50);
	}
	/* What comes after that is meant. */
	tell_unmap(w, 1000, 100);
	extent_is(w, 1010, NULL, 0);
	extent_is(w, 1059, NULL, 0);
}

/* The same, but the old place went in parts. */
static void rule09_a_move_overtakes_two_unmaps(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 100, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 20, &moved), 0);
	tell_move(w, 5000, 1040, 20);
	tell_unmap(w, 1000, 50);
	extent_is(w, 1039, NULL, 0);
	extent_is(w, 1040, moved, 0);
	tell_unmap(w, 1050, 50);
	extent_is(w, 1040, moved, 0);
	extent_is(w, 1059, moved, 19);
	extent_is(w, 1060, NULL, 0);
	tell_unmap(w, 1040, 20);
	extent_is(w, 1040, NULL, 0);
	extent_is(w, 1059, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_move_takes_its_pages_along, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_move_overtakes_an_unmap, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_move_overtakes_two_unmaps, world_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
