/* SPDX-License-Identifier: MIT */
/* Moves of a program's mappings, in the orders in which the kernel may tell them. */
#include "event_world.h"

static unsigned nr_maps_read;

int __real_proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping), void *arg);
int __wrap_proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping), void *arg);
int __wrap_proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping), void *arg)
{
	nr_maps_read++;
	return __real_proc_mappings(dir, flags, visit, arg);
}

static void a_move_takes_its_pages_along(void **state)
{
	struct world *w = *state;
	struct tract *t = tract_at(w, 1000, 100);

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
	struct tract *old = tract_at(w, 1000, 100), *moved = tract_at(w, 5000, 100);

	sleeps(2, UNMAPS, 1000, 100);
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
	struct tract *moved = tract_at(w, 5000, 20);

	tract_at(w, 1000, 100);
	sleeps(2, UNMAPS, 1000, 50);
	sleeps(3, UNMAPS, 1050, 50);
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

/* Two threads: one moves X to F, the other A to X and on to E; told is A to X, X to F at last, and X to E. */
static void rule09_a_move_waits_for_the_former(void **state)
{
	struct world *w = *state;
	struct tract *old = tract_at(w, 1000, 10), *moved = tract_at(w, 5000, 10);

	tell_remap(w, 5000, 1000, 10);
	held(w);
	sleeps(1, MOVES, 5000, 10);
	held(w);
	sleeps(2, MOVES, 1000, 10);
	tell_unmap(w, 5000, 10);
	tell_remap(w, 1000, 7000, 10);
	extent_is(w, 7000, old, 0);
	extent_is(w, 1000, moved, 0);
	tell_remap(w, 1000, 9000, 10);
	extent_is(w, 9000, moved, 0);
	extent_is(w, 1000, NULL, 0);
	tell_unmap(w, 1000, 10);
	tell_unmap(w, 1000, 10);
	extent_is(w, 7009, old, 9);
	extent_is(w, 9009, moved, 9);
}

/* Who is stopped at the end of its call takes nothing away any more. */
static void rule09_who_is_on_its_way_out_is_none(void **state)
{
	struct world *w = *state;
	struct tract *old = tract_at(w, 1000, 10), *moved = tract_at(w, 5000, 10);

	tell_remap(w, 5000, 1000, 10);
	sleeps(1, MOVES, 5000, 10);
	sleeps(3, UNMAPS, 1000, 10);
	thread_put(3, "wchan", "ptrace_stop");
	held(w);
	sleeps(2, MOVES, 1000, 10);
	tell_unmap(w, 5000, 10);
	tell_remap(w, 1000, 7000, 10);
	extent_is(w, 7000, old, 0);
	extent_is(w, 1000, moved, 0);
}

static void put_remap(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_REMAP };

	m.arg.remap.from = from << PAGE_SHIFT;
	m.arg.remap.to = to << PAGE_SHIFT;
	m.arg.remap.len = nr_pages << PAGE_SHIFT;
	assert_int_equal(write(w->tell, &m, sizeof m), sizeof m);
}

/* What is queued behind a move that has to wait is not read with it, in a program that has moved before. */
static void rule09_what_is_queued_behind_waits_as_well(void **state)
{
	struct world *w = *state;
	struct tract *old = tract_at(w, 1000, 10), *moved = tract_at(w, 5000, 10);

	tract_at(w, 3000, 10);
	tell_move(w, 3000, 4000, 10);
	put_remap(w, 5000, 1000, 10);
	put_remap(w, 1000, 7000, 10);
	assert_int_equal(events_read(w->program, no_fault, NULL), 1);
	held(w);
	extent_is(w, 7000, NULL, 0);
	sleeps(1, MOVES, 5000, 10);
	sleeps(2, MOVES, 1000, 10);
	assert_int_equal(events_read(w->program, no_fault, NULL), 1);
	extent_is(w, 7000, old, 0);
	extent_is(w, 1000, moved, 0);
}

/* Nobody waits for who left nothing to be told: all sleep, and none in a call that takes the place away. */
static void rule09_what_is_left_of_a_move_holds_up_nobody(void **state)
{
	struct world *w = *state;
	struct tract *first = tract_at(w, 1000, 10), *second = tract_at(w, 5000, 10);

	tell_remap(w, 1000, 7000, 10); /* with MREMAP_DONTUNMAP */
	for (unsigned tid = 1; tid <= 3; tid++)
		sleeps(tid, UNMAPS, 9000, 1);
	tell_unmap(w, 1000, 5);
	tell_move(w, 5000, 8000, 10);
	extent_is(w, 7000, first, 0);
	extent_is(w, 8000, second, 0);
}

/* A first thread that has ended has no memory: another is asked for whose it is. */
static void rule09_the_first_thread_has_ended(void **state)
{
	char text[256] = "1 (x) Z 1", path[64];

	for (unsigned field = 5; field <= 52; field++)
		strcat(text, " 0");
	put("/task/1/stat", text);
	memcpy(text, "2 (x) S", strlen("2 (x) S"));
	living = THREAD_ID;
	snprintf(path, sizeof path, "/task/%d/stat", living);
	put(path, text);
	rule09_what_is_left_of_a_move_holds_up_nobody(state);
}

/* But where another process lives in that memory, that one may have made the move, and be about to tell the rest. */
static void rule09_what_is_left_may_be_of_a_process_beside(void **state)
{
	struct world *w = *state;
	struct tract *first;

	neighbour = getpid();
	assert_int_equal(tract_add(w->program, 1000, 10, &first), 0);
	tell_remap(w, 1000, 7000, 10);
	for (unsigned tid = 1; tid <= 3; tid++)
		sleeps(tid, UNMAPS, 9000, 1);
	tell_unmap(w, 1000, 5);
	held(w);
}

/* Thread 2 has moved X to F, and its unmapping is still to be told: not it has taken away what came then. */
static void rule09_who_has_told_is_not_the_former(void **state)
{
	struct world *w = *state;
	struct tract *old = tract_at(w, 1000, 10), *second = tract_at(w, 5000, 10), *third = tract_at(w, 6000, 10);

	tell_remap(w, 1000, 7000, 10);
	sleeps(2, MOVES, 1000, 10);
	tell_move(w, 5000, 1000, 10);
	tell_remap(w, 6000, 1000, 10);
	sleeps(1, MOVES, 6000, 10);
	held(w);
	sleeps(3, MOVES, 1000, 10);
	tell_unmap(w, 1000, 10);
	tell_unmap(w, 6000, 10);
	tell_remap(w, 1000, 8000, 10);
	extent_is(w, 7000, old, 0);
	extent_is(w, 8000, second, 0);
	extent_is(w, 1000, third, 0);
}

/* A call makes smaller what it moves: it is told with the length that is left. */
static void rule09_a_mover_makes_smaller(void **state)
{
	struct world *w = *state;
	struct tract *moved = tract_at(w, 5000, 20);

	tract_at(w, 1000, 10);
	tell_remap(w, 5000, 1000, 10);
	sleeps_moving(1, 5000, 20, 10, 1000);
	held(w);
	sleeps(2, UNMAPS, 1000, 10);
	tell_unmap(w, 5010, 10);
	tell_unmap(w, 5000, 10);
	tell_unmap(w, 1000, 10);
	extent_is(w, 1000, moved, 0);
	extent_is(w, 5010, NULL, 0);
}

/* One call takes away what two others come to, both before it has told. */
static void rule09_a_former_leaves_in_parts_by_one_call(void **state)
{
	struct world *w = *state;
	struct tract *old = tract_at(w, 1000, 40), *first = tract_at(w, 5000, 20), *second = tract_at(w, 6000, 20);

	sleeps_moving(2, 1000, 40, 40, 9000);
	tell_remap(w, 5000, 1000, 20);
	sleeps_moving(1, 5000, 20, 20, 1000);
	tell_remap(w, 6000, 1020, 20);
	sleeps_moving(3, 6000, 20, 20, 1020);
	tell_remap(w, 1000, 9000, 40);
	extent_is(w, 9000, old, 0);
	extent_is(w, 9039, old, 39);
	extent_is(w, 1019, first, 19);
	extent_is(w, 1020, second, 0);
}

static void *sleeps_late(void *arg)
{
	(void)arg;
	usleep(50000);
	sleeps_moving(1, 5000, 20, 10, 1000);
	return NULL;
}

/* The kernel tells the length that it had, and the mover gets its CPU late. */
static void rule09_a_mover_that_makes_smaller_is_waited_for(void **state)
{
	struct world *w = *state;
	struct tract *moved = tract_at(w, 5000, 20), *behind = tract_at(w, 1010, 10);
	pthread_t thread;

	kernel_minor = 12;
	assert_int_equal(pthread_create(&thread, NULL, sleeps_late, NULL), 0);
	tell_remap(w, 5000, 1000, 20);
	kernel_minor = KERNEL_MINOR;
	pthread_join(thread, NULL);
	extent_is(w, 1009, moved, 9);
	extent_is(w, 1010, behind, 0);
	extent_is(w, 5010, moved, 10);
}

/* Moves of a hundred threads are told before the unmapping of any. */
static void rule09_many_unmappings_are_to_come(void **state)
{
	struct world *w = *state;
	struct tract *old = tract_at(w, 1000, 1000), *moved = tract_at(w, 5000, 10);

	for (unsigned i = 0; i < 100; i++)
		tell_remap(w, 1000 + 10 * i, 20000 + 10 * i, 10);
	tell_remap(w, 5000, 1990, 10);
	sleeps(1, MOVES, 5000, 10);
	held(w); /* the last may have left its old place mapped, and move that on */
	sleeps(2, MOVES, 1990, 10);
	tell_unmap(w, 5000, 10);
	extent_is(w, 1990, moved, 0);
	tell_unmap(w, 1990, 10);
	extent_is(w, 1990, moved, 0);
	extent_is(w, 20999, old, 999);
}

/*
 * A mapping that was registered and not adopted came to a place that had been moved away from, and leaves it: the
 * unmapping that is still to come of the first must not hit what comes next.
 */
static void rule09_an_unmapping_is_to_come_still(void **state)
{
	struct world *w = *state;
	struct tract *old = tract_at(w, 1000, 10), *moved = tract_at(w, 5000, 10);

	tell_remap(w, 1000, 7000, 10);
	tell_remap(w, 1000, 8000, 10);
	sleeps(1, MOVES, 1000, 10);
	held(w);
	sleeps(2, MOVES, 1000, 10);
	tell_unmap(w, 1000, 10);
	sleeps(1, MOVES, 0, 0);
	tell_move(w, 5000, 1000, 10);
	extent_is(w, 1000, moved, 0);
	tell_unmap(w, 1000, 10);
	extent_is(w, 1000, moved, 0);
	extent_is(w, 7000, old, 0);
}

/* A mapping is somewhere, with pages of ours. */
static void mapped_at(struct world *w, uint64_t start, uint64_t end)
{
	mapped.start = start;
	mapped.cut = end;
	mapped.end = end;
	w->program->proc_dir = dup(w->program->threads_dir);
	kinds_put("", "");
}

/* Told is that 900 .. 1099 moves to 5000, and last that 1000 .. 1099 had moved before: what was below grew there. */
static void rule09_what_grew_over_another_s_gives_it_back(void **state)
{
	struct world *w = *state;
	struct tract *below, *old;

	assert_int_equal(tract_add(w->program, 900, 100, &below), 0);
	assert_int_equal(tract_add(w->program, 1000, 100, &old), 0);
	mapped_at(w, 5000, 5200);
	tell_move(w, 900, 5000, 200);
	extent_is(w, 5100, old, 0);
	tell_remap(w, 1000, 7000, 100);
	extent_is(w, 5099, below, 99);
	extent_is(w, 7000, old, 0);
	extent_is(w, 7099, old, 99);
	const struct extent *grown = extent_find(w->program, 5100);
	assert_true(grown && grown->fresh);
	assert_false(w->program->gone);
}

/* The same where it was unmapped again, in two steps. */
static void rule09_what_grew_over_another_s_and_was_unmapped(void **state)
{
	struct world *w = *state;
	struct tract *below, *old;

	assert_int_equal(tract_add(w->program, 900, 100, &below), 0);
	assert_int_equal(tract_add(w->program, 1000, 100, &old), 0);
	mapped_at(w, 7000, 7100);
	tell_move(w, 900, 5000, 200);
	tell_unmap(w, 5000, 150);
	nr_maps_read = 0;
	tell_remap(w, 1000, 7000, 100);
	assert_int_equal(nr_maps_read, 1); /* for both parts: that takes long, and the program waits */
	extent_is(w, 7000, old, 0);
	extent_is(w, 7049, old, 49);
	extent_is(w, 7050, old, 50);
	assert_null(extent_find(w->program, 5149));
	assert_false(w->program->gone);
}

/* What is mapped below may have grown up to there, and move only that. 1007 is held. */
static void grew_and_shrank(struct world *w, bool below_there)
{
	static uint32_t freed[1];
	struct tract *old;

	w->program->hold.nr_pages = 1;
	w->program->hold.freed = freed;
	assert_int_equal(tract_add(w->program, 1000, 100, &old), 0);
	assert_true(page_claim(old, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&old->region.state[7], page_word(PAGE_HELD, 0, 0, 0, false));
	mapped_at(w, below_there ? 900 : 5000, below_there ? 1000 : 5100);
	if (below_there)
		tell_move(w, 900, 5000, 200);
	else
		tell_unmap(w, 1000, 100);
	assert_false(w->program->gone);
	tell_remap(w, 1000, 7000, 100);
	w->program->hold.nr_pages = 0;
}

static void rule09_what_grew_and_may_be_there_is_not_guessed(void **state)
{
	struct world *w = *state;

	grew_and_shrank(w, true);
	assert_true(w->program->gone);
}

static void rule09_what_grew_and_shrank_is_not_guessed(void **state)
{
	struct world *w = *state;

	grew_and_shrank(w, false);
	assert_true(w->program->gone);
}

/* Memory at 900 .. 999, and at 3000 .. 3099, of which a page is held. */
static struct tract *two_tracts(struct world *w, struct tract **ret_first)
{
	static uint32_t freed[1];
	struct tract *came;

	w->program->hold.nr_pages = 1;
	w->program->hold.freed = freed;
	assert_int_equal(tract_add(w->program, 900, 100, ret_first), 0);
	assert_int_equal(tract_add(w->program, 3000, 100, &came), 0);
	assert_true(page_claim(came, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&came->region.state[7], page_word(PAGE_HELD, 0, 0, 0, false));
	return came;
}

/*
 * Told is that 3000 .. 3099, of which a page is held, has come to 1000, and last that 900 .. 1099 moves to 5000, where
 * thread 1 waits for its second message to be read; 1000 .. 1099 is mapped, or nothing is.
 */
static struct tract *came_behind(struct world *w, struct tract **ret_first, bool there)
{
	struct tract *came = two_tracts(w, ret_first);

	mapped_at(w, there ? 1000 : 5000, there ? 1100 : 5200);
	tell_move(w, 3000, 1000, 100);
	tell_remap(w, 900, 5000, 200);
	sleeps(1, MOVES, 900, 200);
	return came;
}

static void came_is(struct world *w, const struct tract *came, uint64_t vpn)
{
	extent_is(w, vpn, came, 0);
	extent_is(w, vpn + 99, came, 99);
	w->program->hold.nr_pages = 0;
}

/* What was below had grown there, untouched, and nobody else is about to tell of anything. */
static void rule09_what_came_where_grown_memory_was_stays(void **state)
{
	struct world *w = *state;
	struct tract *first, *came = came_behind(w, &first, true);

	held(w);
	sleeps(2, UNMAPS, 9000, 1);
	held(w);
	sleeps(3, UNMAPS, 9000, 1);
	tell_unmap(w, 900, 200);
	extent_is(w, 900, NULL, 0);
	extent_is(w, 5000, first, 0);
	extent_is(w, 5099, first, 99);
	const struct extent *grown = extent_find(w->program, 5100);
	assert_true(!grown || grown->tract != came);
	came_is(w, came, 1000);
	assert_false(w->program->gone);
}

/* But who sleeps in an mremap of which nothing was told may have brought what is there now. */
static void rule09_what_came_and_may_have_gone_is_not_guessed(void **state)
{
	struct world *w = *state;
	struct tract *first, *came = came_behind(w, &first, true);

	sleeps(2, UNMAPS, 9000, 1);
	sleeps(3, MOVES, 9000, 1);
	tell_unmap(w, 900, 200);
	came_is(w, came, 5100);
	assert_true(w->program->gone);
}

/*
 * Other memory came to the beginning as well. If it came first, what came behind it stays: who brought that would have
 * told of its leaving. If it came last, it may have gone with what was there, and another's be mapped.
 */
static void came_on_both(struct world *w, bool behind_first)
{
	struct tract *first, *came = two_tracts(w, &first), *below = tract_at(w, 2000, 100);

	mapped_at(w, 900, 1100);
	sleeps(1, MOVES, 900, 200);
	if (behind_first)
		tell_move_by(w, 2, 3000, 1000, 100);
	tell_move_by(w, 2, 2000, 900, 100);
	if (!behind_first)
		tell_move_by(w, 2, 3000, 1000, 100);
	tell_remap(w, 900, 5000, 200);
	sleeps(2, UNMAPS, 9000, 1);
	sleeps(3, UNMAPS, 9000, 1);
	tell_unmap(w, 900, 200);
	extent_is(w, 900, below, 0);
	extent_is(w, 5000, first, 0);
	if (!behind_first)
		extent_is(w, 1000, came, 0);
	assert_int_equal(w->program->gone, behind_first);
	w->program->hold.nr_pages = 0;
}

static void rule09_what_came_behind_what_came_stays(void **state)
{
	came_on_both(*state, false);
}

static void rule09_what_came_behind_before_is_not_guessed(void **state)
{
	came_on_both(*state, true);
}

/* Who brought it has ended. */
static void rule09_what_came_stays_when_its_bringer_has_ended(void **state)
{
	struct world *w = *state;
	struct tract *first, *came = came_behind(w, &first, true);

	tell_unmap(w, 900, 200);
	came_is(w, came, 1000);
	assert_false(w->program->gone);
}

/* One thread has brought it, and takes it along. */
static void rule09_what_one_thread_brought_goes_along(void **state)
{
	struct world *w = *state;
	struct tract *first, *came = came_behind(w, &first, false);

	tell_unmap(w, 900, 200);
	came_is(w, came, 5100);
	assert_false(w->program->gone);
}

/* One thread tells in order. */
static void rule09_what_one_thread_unmapped_is_gone(void **state)
{
	struct world *w = *state;

	grew_and_shrank(w, false);
	assert_false(w->program->gone);
}

/* What is told by one thread is told in order: of what was at the place of a move nothing is to come. */
static void rule09_one_thread_tells_in_order(void **state)
{
	struct world *w = *state;
	struct tract *moved = tract_at(w, 5000, 10);

	tract_at(w, 1000, 10);
	tell_move(w, 5000, 1000, 10);
	tell_remap(w, 1000, 9000, 10);
	extent_is(w, 9000, moved, 0);
	assert_false(w->server.lost_child);
}

/* But whose memory another process lives in, made by clone with CLONE_VM: that one may have moved away what was there,
 * and be about to tell. Which of the two the next message means nobody knows. */
static void rule09_a_process_beside_tells_as_well(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	neighbour = getpid();
	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_move(w, 5000, 1000, 10);
	assert_false(w->server.lost_child);
	tell_remap(w, 1000, 9000, 10);
	assert_true(w->server.lost_child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVENT_TEST(a_move_takes_its_pages_along),
		EVENT_TEST(rule09_a_move_overtakes_an_unmap),
		EVENT_TEST(rule09_a_move_overtakes_two_unmaps),
		EVENT_TEST(rule09_a_move_waits_for_the_former),
		EVENT_TEST(rule09_who_is_on_its_way_out_is_none),
		EVENT_TEST(rule09_what_is_queued_behind_waits_as_well),
		EVENT_TEST(rule09_the_first_thread_has_ended),
		EVENT_TEST(rule09_what_is_left_of_a_move_holds_up_nobody),
		EVENT_TEST(rule09_what_is_left_may_be_of_a_process_beside),
		EVENT_TEST(rule09_who_has_told_is_not_the_former),
		EVENT_TEST(rule09_an_unmapping_is_to_come_still),
		EVENT_TEST(rule09_a_mover_makes_smaller),
		EVENT_TEST(rule09_a_former_leaves_in_parts_by_one_call),
		EVENT_TEST(rule09_a_mover_that_makes_smaller_is_waited_for),
		EVENT_TEST(rule09_many_unmappings_are_to_come),
		EVENT_TEST(rule09_what_grew_over_another_s_gives_it_back),
		EVENT_TEST(rule09_what_grew_over_another_s_and_was_unmapped),
		EVENT_TEST(rule09_what_grew_and_may_be_there_is_not_guessed),
		EVENT_TEST(rule09_what_grew_and_shrank_is_not_guessed),
		EVENT_TEST(rule09_what_came_where_grown_memory_was_stays),
		EVENT_TEST(rule09_what_came_and_may_have_gone_is_not_guessed),
		EVENT_TEST_OF_ONE(rule09_what_one_thread_unmapped_is_gone),
		EVENT_TEST(rule09_what_came_behind_what_came_stays),
		EVENT_TEST(rule09_what_came_behind_before_is_not_guessed),
		EVENT_TEST_OF_ONE(rule09_what_came_stays_when_its_bringer_has_ended),
		EVENT_TEST_OF_ONE(rule09_what_one_thread_brought_goes_along),
		EVENT_TEST_OF_ONE(rule09_one_thread_tells_in_order),
		EVENT_TEST_OF_ONE(rule09_a_process_beside_tells_as_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
