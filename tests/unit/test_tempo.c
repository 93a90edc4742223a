/* SPDX-License-Identifier: MIT */
/* How often the sensor goes over everything: what its faults cost, whose they are, and what comes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tempo.h"

#define SECOND_NS UINT64_C(1000000000)
#define BEGIN_NS (100 * SECOND_NS)
#define MOST_NS (16 * SECOND_NS)
#define MILLION 1000000u

static struct tempo tempo;
static struct tiering_counts total;
static struct sense_usage usage;
static uint64_t now_ns;

static int begin(void **state)
{
	(void)state;
	now_ns = BEGIN_NS;
	total = (struct tiering_counts){ 0 };
	usage = (struct sense_usage){ 0 };
	tempo_begin(&tempo, now_ns);
	return 0;
}

/* A pass, in which so much happens. Returns how long the sensor is to wait for the next. */
static uint64_t pass(uint64_t own_faults, uint64_t faults_elsewhere, uint64_t promoted)
{
	usage.nr_passes++;
	usage.nr_own_faults += own_faults;
	usage.nr_faults += own_faults + faults_elsewhere;
	total.promoted += promoted;
	while (!tempo_due(&tempo, &total, now_ns))
		now_ns += SECOND_NS / 10;
	return tempo_look(&tempo, &total, &usage, now_ns);
}

static void nothing_found_is_looked_for_less_often(void **state)
{
	uint64_t before_ns = 0;

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		uint64_t wait_ns = pass(0, 0, 0);
		assert_true(wait_ns >= before_ns && wait_ns <= MOST_NS);
		before_ns = wait_ns;
	}
	assert_int_equal(before_ns, MOST_NS);
	assert_true(pass(0, 0, 1000) <= 2 * SECOND_NS);
}

static void what_its_faults_cost_for_nothing_is_bounded(void **state)
{
	(void)state;
	pass(0, 0, 0);
	/* A million faults take two seconds: a hundredth of 200. */
	assert_int_equal(pass(MILLION, 0, 0), 200 * SECOND_NS);
}

static void faults_that_led_to_moves_cost_nothing(void **state)
{
	(void)state;
	pass(0, 0, 0);
	assert_true(pass(MILLION, 0, MILLION / 2) <= MOST_NS);
}

/* However many they are, a page that is touched all the time is seen twice within ten seconds. */
static void those_of_others_hold_it_up_for_some_seconds(void **state)
{
	(void)state;
	pass(0, 0, 0);
	assert_int_equal(pass(0, MILLION, 1), TEMPO_ELSEWHERE_NS);
	assert_int_equal(pass(0, 100 * MILLION, 1), TEMPO_ELSEWHERE_NS);
	/* Few as much as they cost. */
	assert_int_equal(pass(0, 15000, 1), 3 * SECOND_NS);
	assert_true(2 * TEMPO_ELSEWHERE_NS < 10 * SECOND_NS);
	/* And as it was tuned. */
	scan_bound(&tempo.scan, TEMPO_CPU_PPM / 10, MOST_NS);
	assert_int_equal(pass(0, MILLION, 1), TEMPO_ELSEWHERE_NS);
}

static void both_together(void **state)
{
	(void)state;
	pass(0, 0, 0);
	assert_int_equal(pass(50000, MILLION, 0), 10 * SECOND_NS + TEMPO_ELSEWHERE_NS);
}

static void when_it_stirs_it_is_looked_at_at_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 40; i++)
		pass(0, 0, 0);
	assert_false(tempo_due(&tempo, &total, now_ns));
	now_ns += 2 * SECOND_NS;
	total.touched += 255;
	assert_false(tempo_due(&tempo, &total, now_ns));
	total.touched++;
	assert_true(tempo_due(&tempo, &total, now_ns));
	assert_true(tempo_look(&tempo, &total, &usage, now_ns) <= 2 * SECOND_NS);
	total.touched += 10000;
	assert_false(tempo_due(&tempo, &total, now_ns)); /* not each time */
}

static void after_a_pause_it_begins_as_it_was_tuned(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 40; i++)
		pass(0, 0, 0);
	scan_bound(&tempo.scan, 5000, 8 * SECOND_NS);
	assert_int_equal(tempo_again(&tempo, now_ns), SECOND_NS);
	assert_int_equal(tempo.scan.config.share_ppm, 5000);
	assert_true(tempo_due(&tempo, &total, now_ns));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(nothing_found_is_looked_for_less_often, begin),
		cmocka_unit_test_setup(what_its_faults_cost_for_nothing_is_bounded, begin),
		cmocka_unit_test_setup(faults_that_led_to_moves_cost_nothing, begin),
		cmocka_unit_test_setup(those_of_others_hold_it_up_for_some_seconds, begin),
		cmocka_unit_test_setup(both_together, begin),
		cmocka_unit_test_setup(when_it_stirs_it_is_looked_at_at_once, begin),
		cmocka_unit_test_setup(after_a_pause_it_begins_as_it_was_tuned, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
