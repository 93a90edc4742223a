/* SPDX-License-Identifier: MIT */
/*
 * What the sensor hint promises beyond the contract: its probes, its settings, whose faults it counts, and CPUs that
 * come and go.
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
#include "setting.h"

/* Without probes hint does not see them, and knows it from the start. */
static void hint_without_probes_sees_no_guests(void **state)
{
	const struct hint_options options = { .root = root };
	const char *why = "";
	char path[PATH_MAX];

	(void)state;
	ask("hint");
	begin();
	assert_true(sense->ops->sees_guests(sense));
	sense->ops->close(sense);
	world_path(path, KPROBE_TYPE);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(hint_open(&options, &sense, &why), 0);
	assert_false(sense->ops->sees_guests(sense));
	assert_int_equal(sense->ops->add(sense, WORLD_PID), 0);
	sense->ops->guests(sense, WORLD_PID);
	assert_false(sense->ops->sees_guests(sense));
	sense->ops->close(sense);
}

static unsigned nr_probe_visits;

/* Nobody else begins, and the kernel's settings are as they were. */
static void probe_visit(void)
{
	const struct hint_options options = { .root = root };
	uint64_t mode, threshold_ms;

	nr_probe_visits++;
	assert_int_equal(hint_repair(&options), -EBUSY);
	assert_int_equal(setting_read(root, "/proc/sys/kernel/numa_balancing", &mode), 0);
	assert_int_equal(setting_read(root, BALANCING "hot_threshold_ms", &threshold_ms), 0);
	assert_int_equal(mode, 0);
	assert_int_equal(threshold_ms, 1000);
}

static void hint_is_killed(void)
{
	uint64_t threshold_ms;

	subject_is_killed();
	assert_int_equal(setting_read(root, BALANCING "hot_threshold_ms", &threshold_ms), 0);
	assert_int_equal(threshold_ms, 0);
}

/* The lock, the probes, the settings; and back. So no fault is made that nobody reads, also where it was
 * killed, or fails in the middle; and who is refused has opened nothing. */
static void hint_has_its_probes_around_its_settings(void **state)
{
	const struct hint_options options = { .root = root };
	const char *why = "";
	struct sense *other;

	(void)state;
	ask("hint");
	world_lay();
	hint_is_killed();
	nr_probe_visits = 0;
	world_probe_visit = probe_visit;
	assert_int_equal(hint_open(&options, &sense, &why), 0);
	assert_int_equal(nr_probe_visits, WORLD_CPUS);
	assert_int_equal(hint_open(&options, &other, &why), -EBUSY);
	assert_int_equal(nr_probe_visits, WORLD_CPUS);
	assert_int_equal(sense->ops->add(sense, WORLD_PID), 0);
	look(4);
	nr_probe_visits = 0;
	sense->ops->close(sense);
	assert_int_equal(nr_probe_visits, WORLD_CPUS + 1);
	assert_int_equal(hint_repair(&options), 0);
	world_refuses = BALANCING "scan_size_mb";
	nr_probe_visits = 0;
	assert_int_equal(hint_open(&options, &sense, &why), -EIO);
	assert_int_equal(nr_probe_visits, 2 * WORLD_CPUS);
	/* That could not be put back either. */
	world_refuses = NULL;
	assert_int_equal(hint_repair(&options), 1);
}

/* Whether what becomes inaccessible on a CPU is told. */
static bool armed_is_told(unsigned cpu)
{
	uint64_t before = nr_armed;

	ring_arm(cpu, WORLD_BASE, WORLD_BASE + 16 * 4096);
	look(1);
	return nr_armed == before + 1;
}

/* The events of a CPU end with it. It goes, comes, and goes and comes between two looks. */
static void hint_follows_cpus(void **state)
{
	(void)state;
	ask("hint");
	begin_added();
	assert_int_equal(world_nr_arms, 2);
	assert_true(armed_is_told(0) && armed_is_told(1));
	put("/sys/devices/system/cpu/online", "0\n");
	world_arms[1] = NULL;
	look(8);
	assert_int_equal(world_nr_arms, 1);
	assert_true(armed_is_told(0) && !armed_is_told(1));
	put("/sys/devices/system/cpu/online", "0-1\n");
	look(8);
	assert_int_equal(world_nr_arms, 2);
	assert_true(armed_is_told(0) && armed_is_told(1));
	world_arms[1] = NULL;
	look(8);
	assert_int_equal(world_nr_arms, 2);
	assert_true(armed_is_told(0) && armed_is_told(1));
	sense->ops->close(sense);
	assert_int_equal(world_nr_arms, 0);
}

/* One that cannot be had makes the others worthless: passes go by the clock then, and see what is touched. */
static void hint_has_probes_of_all_cpus_or_none(void **state)
{
	uint64_t nr_passes;

	(void)state;
	ask("hint");
	begin_added();
	world_arms[1] = NULL;
	world_arms_error = -EMFILE;
	look(8);
	assert_int_equal(world_nr_arms, 0);
	world_arms_error = 0;
	nr_passes = usage().nr_passes;
	for (unsigned i = 0; i < 8; i++) {
		for (unsigned page = 0; page < WORLD_PAGES; page++)
			touch(page);
		look(4);
		assert_int_equal(nr_pages_seen(), WORLD_PAGES);
	}
	assert_true(usage().nr_passes > nr_passes + 1);
	assert_int_equal(world_nr_arms, 0);
	sense->ops->close(sense);
}

/* Then memory that nobody uses costs nothing. By the clock here, as no range is told. */
static void hint_lets_the_kernel_look_at_little_between_sweeps(void **state)
{
	bool little = false, more = false;

	(void)state;
	ask("hint");
	world_arms_error = -EMFILE;
	begin_added();
	for (unsigned i = 0; i < 64; i++) {
		uint64_t size_mb;

		touch(i % WORLD_PAGES);
		look(1);
		assert_int_equal(setting_read(root, BALANCING "scan_size_mb", &size_mb), 0);
		little |= size_mb == 1;
		more |= size_mb > 1;
	}
	assert_true(little && more);
	assert_true(usage().nr_passes > 1);
	sense->ops->close(sense);
}

#define MODE "/proc/sys/kernel/numa_balancing"

static uint64_t setting(const char *path)
{
	uint64_t value = UINT64_MAX;

	assert_int_equal(setting_read(root, path, &value), 0);
	return value;
}

/* Who sets what hint needs is heard once; then he has it, until the next pause is over. In the end he has it, too. */
static void hint_gives_way_to_who_insists(void **state)
{
	const char *what = NULL;

	(void)state;
	ask("hint");
	begin_added();
	assert_int_equal(sense->ops->hold(sense, &what), SENSE_HELD);
	assert_int_equal(setting(MODE), 2);
	put(MODE, "1\n");
	look(2);
	assert_int_equal(sense->ops->hold(sense, &what), SENSE_DISPUTED);
	assert_string_equal(what, MODE);
	assert_int_equal(setting(MODE), 2);
	touch(3);
	look(2);
	assert_true(seen[3]);
	put(BALANCING "hot_threshold_ms", "500\n");
	look(2);
	assert_int_equal(sense->ops->hold(sense, &what), SENSE_TAKEN);
	assert_string_equal(what, BALANCING "hot_threshold_ms");
	assert_int_equal(setting(MODE), 1);
	assert_int_equal(setting(BALANCING "hot_threshold_ms"), 500);
	assert_int_equal(setting(BALANCING "scan_size_mb"), 256);
	touched[4] = true;
	world_touch(4);
	look(20);
	assert_int_equal(nr_pages_seen(), 0);
	assert_int_equal(setting(MODE), 1);
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	assert_int_equal(sense->ops->pace(sense, 1000000000), 0);
	look(2);
	assert_int_equal(setting(MODE), 2);
	assert_int_equal(setting(BALANCING "hot_threshold_ms"), 0);
	touch(5);
	look(2);
	assert_true(seen[5]);
	sense->ops->close(sense);
	assert_int_equal(setting(MODE), 1);
	assert_int_equal(setting(BALANCING "hot_threshold_ms"), 500);
	assert_int_equal(setting(BALANCING "scan_period_min_ms"), 1000);
}

/* While it stands still all settings are as it found them: so what others set then is theirs, also the very value
 * that it sets. */
static void hint_paused_leaves_the_settings_alone(void **state)
{
	const char *what;

	(void)state;
	ask("hint");
	begin_added();
	assert_int_equal(setting(MODE), 2);
	assert_int_equal(setting(BALANCING "hot_threshold_ms"), 0);
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	assert_int_equal(setting(MODE), 0);
	assert_int_equal(setting(BALANCING "hot_threshold_ms"), 1000);
	assert_int_equal(setting(BALANCING "scan_size_mb"), 256);
	put(MODE, "2\n");
	look(4);
	assert_int_equal(setting(MODE), 2);
	assert_int_equal(sense->ops->pace(sense, 1000000000), 0);
	look(2);
	assert_int_equal(setting(BALANCING "hot_threshold_ms"), 0);
	assert_int_equal(sense->ops->hold(sense, &what), SENSE_HELD);
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	assert_int_equal(setting(MODE), 2);
	put(MODE, "0\n");
	look(4);
	assert_int_equal(sense->ops->pace(sense, 1000000000), 0);
	look(2);
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	assert_int_equal(setting(MODE), 0);
	put(MODE, "1\n");
	look(4);
	assert_int_equal(setting(MODE), 1);
	assert_int_equal(sense->ops->pace(sense, 1000000000), 0);
	look(2);
	assert_int_equal(setting(MODE), 2);
	assert_int_equal(sense->ops->hold(sense, &what), SENSE_HELD);
	sense->ops->close(sense);
	assert_int_equal(setting(MODE), 1);
}

/* Faults of others are not taken for those of the process, and what they lose is no touch of it. */
static void hint_tells_its_own_from_others(void **state)
{
	(void)state;
	ask("hint");
	begin_added();
	world_count(world_hint_faults + 1000);
	look(20);
	for (unsigned page = 0; page < WORLD_PAGES; page++)
		touch(page);
	look(20);
	assert_int_equal(usage().nr_faults, 1000 + WORLD_PAGES);
	assert_int_equal(usage().nr_own_faults, WORLD_PAGES);
	ring_lose_to(world_arms[1], 55);
	look(1);
	assert_int_equal(usage().nr_lost_ranges, 55);
	assert_int_equal(usage().nr_lost, 0);
	sense->ops->close(sense);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(hint_without_probes_sees_no_guests),
		TREE_TEST(hint_has_its_probes_around_its_settings),
		TREE_TEST(hint_follows_cpus),
		TREE_TEST(hint_has_probes_of_all_cpus_or_none),
		TREE_TEST(hint_lets_the_kernel_look_at_little_between_sweeps),
		TREE_TEST(hint_gives_way_to_who_insists),
		TREE_TEST(hint_paused_leaves_the_settings_alone),
		TREE_TEST(hint_tells_its_own_from_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
