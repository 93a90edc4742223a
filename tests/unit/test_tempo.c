/* SPDX-License-Identifier: MIT */
/* How often the sensor goes over everything: what its faults cost, whose they are, and what comes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- what cannot be moved ---- */

enum { FAST, SLOW, NR_TOUCHED = 512, SECONDS = 120 };

static void window_free(struct tiering_window *window)
{
	free(window);
}

/* How often it is looked at while all the time so many pages are touched, and who tries to move them hears this. */
static unsigned looks_of(enum reason reason)
{
	static struct tiering_move plan[NR_TOUCHED];
	const struct tiering_config config = {
		.nr_nodes = 2,
		.nodes = { [FAST] = { .fast = true, .latency_ns = 90, .distance = { 10, 30 } },
			   [SLOW] = { .slow = true, .latency_ns = 250, .distance = { 30, 10 } } },
	};
	const struct tiering_need need = { .free_pages = { 100000, 100000 } };
	struct tiering_window *slots[1];
	struct tiering_space space;
	static struct tiering tiering;
	void *memory = aligned_alloc(64, (tiering_window_bytes() + 63) & ~(size_t)63);
	unsigned looks = 0;
	bool again;

	assert_non_null(memory);
	memset(memory, 0, tiering_window_bytes());
	begin(NULL);
	tiering_init(&tiering, &config);
	tiering_space_add(&tiering, &space, NULL, slots, 1);
	assert_int_equal(tiering_window_add(&space, tiering_window_init(memory, 0)), 0);
	tiering_place(&tiering, &space, 0, NR_TOUCHED, SLOW, false, now_ns);
	for (unsigned i = 0; i < SECONDS; i++) {
		now_ns += SECOND_NS;
		tiering_touch_run(&tiering, &space, 0, NR_TOUCHED, TIERING_NODE_UNKNOWN, now_ns);
		size_t nr = tiering_step(&tiering, now_ns, &need, plan, NR_TOUCHED, &again);
		for (size_t k = 0; k < nr; k++) {
			plan[k].reason = reason;
			plan[k].nr_moved = reason == REASON_MOVED ? plan[k].nr_pages : 0;
		}
		tiering_complete(&tiering, plan, nr, now_ns);
		if (!tempo_due(&tempo, &space.counts, now_ns))
			continue;
		tempo_look(&tempo, &space.counts, &usage, now_ns);
		looks++;
	}
	assert_true(space.counts.ended[reason]);
	assert_true(tiering_windows_remove(&tiering, &space, 0, UINT64_MAX, window_free));
	tiering_space_remove(&tiering, &space);
	return looks;
}

static void what_cannot_be_moved_does_not_hasten_it(void **state)
{
	static const enum reason held[] = {
		REASON_POLICY, REASON_LOCKED, REASON_PINNED, REASON_SHARED, REASON_DIRTY_FILE
	};

	(void)state;
	assert_true(looks_of(REASON_MOVED) >= SECONDS * 9 / 10);
	for (size_t i = 0; i < sizeof held / sizeof *held; i++)
		assert_in_range(looks_of(held[i]), SECONDS / 16, SECONDS / 3);
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
		cmocka_unit_test(what_cannot_be_moved_does_not_hasten_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
