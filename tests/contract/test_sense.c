/* SPDX-License-Identifier: MIT */
/*
 * The contract of a sensor (sense.h), asked of every sensor of sense_subject.h.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sense_subject.h"

static void it_says_what_it_is(void **state)
{
	(void)state;
	begin();
	assert_string_equal(sense->ops->name, subject->name);
	assert_true(strlen(sense->ops->cost) > 20);
	assert_true(sense->ops->grain_bytes >= 4096 && sense->ops->grain_bytes % 4096 == 0);
	sense->ops->close(sense);
}

static void a_touch_is_seen_and_none_that_was_not(void **state)
{
	(void)state;
	begin_added();
	touch(3);
	touch(17);
	touch(63);
	look(4);
	assert_true(seen[3] && seen[17] && seen[63]);
	if (!sense->ops->regions)
		assert_int_equal(nr_pages_seen(), 3);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	/* Again, and one that nobody can see. */
	touch(17);
	if (subject->blind < WORLD_PAGES)
		touch(subject->blind);
	look(4);
	assert_true(seen[17]);
	if (subject->blind < WORLD_PAGES)
		assert_int_equal(seen[subject->blind], 0);
	assert_int_equal(usage().nr_touches, nr_seen);
	assert_int_equal(usage().nr_lost, 0);
	sense->ops->close(sense);
}

static void paused_it_is_silent(void **state)
{
	(void)state;
	begin_added();
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	touch(9);
	look(8);
	assert_int_equal(nr_pages_seen(), 0);
	/* What was touched meanwhile is old news. */
	assert_int_equal(sense->ops->pace(sense, 1000000000), 0);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	touch(9);
	look(4);
	assert_true(seen[9]);
	sense->ops->close(sense);
}

static void removed_it_is_left_alone(void **state)
{
	(void)state;
	begin_added();
	sense->ops->remove(sense, WORLD_PID);
	touch(20);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	sense->ops->remove(sense, WORLD_PID);
	sense->ops->remove(sense, 1);
	/* And taken up again. */
	assert_int_equal(sense->ops->add(sense, WORLD_PID), 0);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	touch(21);
	look(4);
	assert_true(seen[21]);
	sense->ops->close(sense);
}

static void a_process_may_vanish(void **state)
{
	(void)state;
	begin_added();
	assert_int_equal(sense->ops->add(sense, WORLD_PID + 1), -ESRCH);
	world_end();
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	sense->ops->remove(sense, WORLD_PID);
	assert_int_equal(sense->ops->add(sense, WORLD_PID), -ESRCH);
	look(1);
	sense->ops->close(sense);
}

/* It ended, and its number is a stranger's before anybody found out: that one is left alone. */
static void a_number_used_again_is_a_strangers(void **state)
{
	char command[PATH_MAX], stat[512];

	(void)state;
	begin_added();
	uint64_t now_ns = world_now_ns;
	world_end();
	world_lay();
	world_now_ns = now_ns;
	snprintf(command, sizeof command, "rm -r %s%s", root, PROC "task");
	assert_int_equal(system(command), 0);
	world_stat(stat, sizeof stat, 1, 99);
	put(PROC "task/4799/stat", stat);
	for (unsigned i = 0; i < 3; i++) {
		look(4);
		assert_int_equal(nr_pages_seen(), 0);
		assert_null(world_ring);
		assert_false(world_damon_on);
		if (strcmp(subject->name, "trace")) /* which plays what it has of a number */
			world_touch(3);
	}
	sense->ops->close(sense);
}

/* What it costs the process: a fault for each touch that it sees by one, and none by which it sees nothing;
 * what the process touches anyway is no cost of the sensor's. */
static void faults_are_counted(void **state)
{
	(void)state;
	begin_added();
	uint64_t before = usage().nr_faults;
	touch(11);
	touch(12);
	touch(40);
	look(4);
	assert_true(seen[11] && seen[12] && seen[40]);
	assert_int_equal(usage().nr_faults - before, subject->faults ? 3 : 0);
	assert_int_equal(usage().nr_own_faults, usage().nr_faults);
	/* One that would have been without us: the page is new. */
	touched[50] = true;
	ring_touch(WORLD_BASE + 50 * 4096);
	look(4);
	assert_int_equal(usage().nr_faults - before, subject->faults ? 3 : 0);
	sense->ops->close(sense);
}

static void what_is_lost_is_counted(void **state)
{
	(void)state;
	begin_added();
	if (subject->lose)
		subject->lose(1234);
	touch(30);
	look(4);
	assert_true(seen[30]);
	assert_int_equal(usage().nr_lost, subject->lose ? 1234 : 0);
	sense->ops->close(sense);
}

/* Guests touch memory without faults of the process; who cannot see that says so. */
static void guests_are_seen_or_not_as_it_says(void **state)
{
	(void)state;
	begin_added();
	if (sense->ops->guests)
		sense->ops->guests(sense, WORLD_PID);
	for (unsigned i = 0; i < 2; i++) {
		touched[21] = true;
		world_touch_of(21, true);
		look(4);
		unsigned found = sense->ops->regions ? seen[21] > 0 : seen[21];
		assert_int_equal(found, !sense->ops->sees_guests || sense->ops->sees_guests(sense));
	}
	sense->ops->close(sense);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(it_says_what_it_is),
		TREE_TEST(a_touch_is_seen_and_none_that_was_not),
		TREE_TEST(paused_it_is_silent),
		TREE_TEST(removed_it_is_left_alone),
		TREE_TEST(a_process_may_vanish),
		TREE_TEST(a_number_used_again_is_a_strangers),
		TREE_TEST(faults_are_counted),
		TREE_TEST(what_is_lost_is_counted),
		TREE_TEST(guests_are_seen_or_not_as_it_says),
	};
	int failed = 0;

	for (subject = subjects; subject < subjects + sizeof subjects / sizeof *subjects; subject++)
		failed += cmocka_run_group_tests_name(subject->name, tests, NULL, NULL);
	return failed;
}
