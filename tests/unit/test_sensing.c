/* SPDX-License-Identifier: MIT */
/* When the sensor of an attach is changed, and what is left when it is not; on sensors that only count. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sensing.h"

#define PID_ENDED 12

struct fake {
	struct sense sense;
	bool sees, closed, paused;
	enum sense_hold hold;
	unsigned nr_added;
	int add_error, close_error;
	uint64_t nr_touches;
};

static struct fake first, second;
static unsigned nr_asked;   /* for another one */
static int asked_error;
static struct watch watches[3]; /* a process that runs guests, one that ended just now, and another */
static struct attach *attach;
static struct tide_attach_options options;

static struct fake *fake_of(struct sense *sense)
{
	return (struct fake *)(void *)sense;
}

static int fake_add(struct sense *sense, pid_t pid)
{
	fake_of(sense)->nr_added++;
	return pid == PID_ENDED ? -ESRCH : fake_of(sense)->add_error;
}

static int fake_pace(struct sense *sense, uint64_t period_ns)
{
	fake_of(sense)->paused = !period_ns;
	return 0;
}

static void fake_usage(const struct sense *sense, struct sense_usage *ret_usage)
{
	uint64_t nr = ((const struct fake *)(const void *)sense)->nr_touches;

	*ret_usage = (struct sense_usage){ nr, nr, nr, nr, nr, 1, nr };
}

static int fake_close(struct sense *sense)
{
	assert_false(fake_of(sense)->closed);
	fake_of(sense)->closed = true;
	return fake_of(sense)->close_error;
}

static bool fake_sees(const struct sense *sense)
{
	return ((const struct fake *)(const void *)sense)->sees;
}

static enum sense_hold fake_hold(const struct sense *sense, const char **ret_what)
{
	*ret_what = "/proc/sys/kernel/numa_balancing";
	return ((const struct fake *)(const void *)sense)->hold;
}

static const struct sense_ops fake_ops = {
	.name = "fake",
	.cost = "nothing",
	.sees_guests = fake_sees,
	.add = fake_add,
	.pace = fake_pace,
	.usage = fake_usage,
	.hold = fake_hold,
	.close = fake_close,
};

/* A name that the linker makes. */
int __wrap_sensors_again(const struct sensors_choice *choice, bool guests, const char *why,
			 struct sensors_choice *ret_choice);

int __wrap_sensors_again(const struct sensors_choice *choice, bool guests, const char *why,
			 struct sensors_choice *ret_choice)
{
	assert_true(!strcmp(why, SENSORS_BLIND) == guests);
	assert_ptr_equal(choice->sense, &first.sense);
	nr_asked++;
	if (!asked_error)
		*ret_choice = (struct sensors_choice){ .sense = &second.sense };
	return asked_error;
}

static int begin(void **state)
{
	(void)state;
	first = (struct fake){ .sense.ops = &fake_ops, .nr_touches = 7 };
	second = (struct fake){ .sense.ops = &fake_ops, .nr_touches = 3, .sees = true };
	nr_asked = 0;
	asked_error = 0;
	memset(watches, 0, sizeof watches);
	for (size_t i = 0; i < 3; i++) {
		watches[i].pid = 11 + (pid_t)i;
		watches[i].next = i < 2 ? &watches[i + 1] : NULL;
	}
	watches[0].guests_told = true;
	options = (struct tide_attach_options){ .quiet = true };
	attach = calloc(1, sizeof *attach);
	assert_non_null(attach);
	attach->options = &options;
	attach->watches = watches;
	attach->sense = attach->sensors.sense = &first.sense;
	return 0;
}

static int finish(void **state)
{
	(void)state;
	assert_int_equal(sensing_end(attach), first.close_error);
	assert_int_equal(first.closed + second.closed, attach->nr_sensor_changes + 1);
	free(attach);
	return 0;
}

static void guests_begin(void)
{
	sensing_look(attach);
	assert_int_equal(nr_asked, 0);
	watches[0].nr_vcpus = 2;
	sensing_look(attach);
}

static void expect_the_first(void)
{
	assert_ptr_equal(attach->sense, &first.sense);
	assert_false(first.closed);
	assert_int_equal(attach->nr_warnings, 1);
	assert_non_null(strstr(attach->warnings[0], "guests of KVM"));
	assert_int_equal(sensing_unseen_guests(attach), 1);
}

static void one_that_sees_guests_takes_its_place(void **state)
{
	struct sense_usage usage;

	(void)state;
	guests_begin();
	assert_ptr_equal(attach->sense, &second.sense);
	assert_ptr_equal(attach->sensors.sense, &second.sense);
	assert_true(first.closed && !second.closed && !second.paused);
	assert_int_equal(second.nr_added, 3);
	assert_false(watches[0].guests_told);
	assert_int_equal(attach->nr_warnings, 0);
	assert_int_equal(sensing_unseen_guests(attach), 0);
	/* What the first saw is not forgotten. */
	sensing_usage(attach, &usage);
	assert_int_equal(usage.nr_touches, 10);
	assert_int_equal(usage.nr_faults, 10);
	assert_int_equal(usage.nr_own_faults, 10);
	assert_int_equal(usage.nr_lost, 10);
	assert_int_equal(usage.nr_lost_ranges, 10);
	assert_int_equal(usage.nr_passes, 10);
	assert_int_equal(usage.nr_threads, 1);
	/* And nobody goes back. */
	watches[0].nr_vcpus = 0;
	sensing_look(attach);
	second.sees = false;
	watches[0].nr_vcpus = 2;
	sensing_look(attach);
	sensing_look(attach);
	assert_ptr_equal(attach->sense, &second.sense);
	assert_int_equal(nr_asked, 1);
	assert_int_equal(attach->nr_warnings, 1);
}

static void in_a_pause_it_is_paused_too(void **state)
{
	(void)state;
	attach->paused = true;
	guests_begin();
	assert_ptr_equal(attach->sense, &second.sense);
	assert_true(second.paused);
}

static void without_another_it_stays_and_that_is_said_once(void **state)
{
	(void)state;
	asked_error = -EOPNOTSUPP;
	guests_begin();
	expect_the_first();
	sensing_look(attach);
	assert_int_equal(nr_asked, 1);
	assert_int_equal(attach->nr_warnings, 1);
}

static void one_that_cannot_have_all_processes_is_let_go(void **state)
{
	(void)state;
	second.add_error = -EMFILE;
	guests_begin();
	expect_the_first();
	assert_true(second.closed);
	second.closed = false;
}

static void one_that_was_named_stays(void **state)
{
	(void)state;
	options.sensor = "fake";
	guests_begin();
	expect_the_first();
	assert_int_equal(nr_asked, 0);
}

/* Far sockets, say: whoever names them as slow hears that they are not seen, and once. */
static void nodes_that_it_does_not_see_are_said(void **state)
{
	(void)state;
	nodeset_add(&attach->slow, 1);
	nodeset_add(&attach->map.slow, 1);
	sensing_look(attach);
	assert_int_equal(attach->nr_warnings, 0);
	nodeset_add(&attach->slow, 2);
	sensing_look(attach);
	sensing_look(attach);
	assert_int_equal(attach->nr_warnings, 1);
	assert_non_null(strstr(attach->warnings[0], "fast to the kernel"));
}

/* ---- somebody else has its settings ---- */

static void expect_warned(size_t nr, const char *words)
{
	sensing_look(attach);
	sensing_look(attach);
	assert_int_equal(attach->nr_warnings, nr);
	assert_non_null(strstr(attach->warnings[nr - 1], "/proc/sys/kernel/numa_balancing"));
	assert_non_null(strstr(attach->warnings[nr - 1], words));
}

static void who_sets_its_settings_twice_has_them(void **state)
{
	(void)state;
	sensing_look(attach);
	assert_int_equal(attach->nr_warnings, 0);
	first.hold = SENSE_DISPUTED;
	expect_warned(1, "it is set again this once");
	assert_ptr_equal(attach->sense, &first.sense);
	first.hold = SENSE_TAKEN;
	expect_warned(2, "another takes its place: fake");
	assert_ptr_equal(attach->sense, &second.sense);
	assert_true(first.closed && !second.closed);
	assert_int_equal(second.nr_added, 3);
}

/* The one before is not forgotten: finish() hears of it. */
static void what_was_not_put_back_is_told_in_the_end(void **state)
{
	(void)state;
	first.close_error = -EROFS;
	first.hold = SENSE_TAKEN;
	sensing_look(attach);
	assert_true(first.closed);
}

static void without_another_it_says_how_to_go_on(void **state)
{
	(void)state;
	options.sensor = "fake";
	first.hold = SENSE_TAKEN;
	expect_warned(1, "sees nothing more: pagetide pause, then resume");
	assert_ptr_equal(attach->sense, &first.sense);
	assert_int_equal(nr_asked, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_that_sees_guests_takes_its_place, begin, finish),
		cmocka_unit_test_setup_teardown(in_a_pause_it_is_paused_too, begin, finish),
		cmocka_unit_test_setup_teardown(without_another_it_stays_and_that_is_said_once, begin, finish),
		cmocka_unit_test_setup_teardown(one_that_cannot_have_all_processes_is_let_go, begin, finish),
		cmocka_unit_test_setup_teardown(one_that_was_named_stays, begin, finish),
		cmocka_unit_test_setup_teardown(nodes_that_it_does_not_see_are_said, begin, finish),
		cmocka_unit_test_setup_teardown(who_sets_its_settings_twice_has_them, begin, finish),
		cmocka_unit_test_setup_teardown(what_was_not_put_back_is_told_in_the_end, begin, finish),
		cmocka_unit_test_setup_teardown(without_another_it_says_how_to_go_on, begin, finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
