/* SPDX-License-Identifier: MIT */
/*
 * The contract of a sensor (sense.h), asked of every sensor in the table below, on the process and the
 * kernel of sense_world.h. A new sensor adds a line there.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "damon.h"
#include "hint.h"
#include "idle.h"
#include "sample.h"
#include "sense_world.h"
#include "setting.h"
#include "soft_dirty.h"
#include "trace.h"

/* ---- who is asked ----------------------------------------------------------------------------- */

#define BALANCING "/sys/kernel/debug/sched/numa_balancing/"
#define KPROBE_TYPE "/sys/bus/event_source/devices/kprobe/type"

static int open_hint(struct sense **ret_sense, const char **ret_why)
{
	const struct hint_options options = { .root = root };

	put(KPROBE_TYPE, "6\n");
	put("/sys/devices/virtual/memory_tiering/memory_tier4/nodelist", "0\n");
	put("/sys/devices/virtual/memory_tiering/memory_tier961/nodelist", "1\n");
	put("/proc/sys/kernel/numa_balancing", "0\n");
	put(BALANCING "hot_threshold_ms", "1000\n");
	put(BALANCING "scan_period_min_ms", "1000\n");
	put(BALANCING "scan_size_mb", "256\n");
	put("/run/x", "");
	return hint_open(&options, ret_sense, ret_why);
}

static int open_idle(struct sense **ret_sense, const char **ret_why)
{
	const struct idle_options options = { .root = root };

	return idle_open(&options, ret_sense, ret_why);
}

static int open_soft_dirty(struct sense **ret_sense, const char **ret_why)
{
	const struct soft_dirty_options options = { .root = root };

	return soft_dirty_open(&options, ret_sense, ret_why);
}

static int open_damon(struct sense **ret_sense, const char **ret_why)
{
	const struct damon_options options = { .root = root };

	put("/run/x", "");
	put(DAMON_ADMIN "nr_kdamonds", "0\n");
	return damon_open(&options, ret_sense, ret_why);
}

static int open_perf(struct sense **ret_sense, const char **ret_why)
{
	const struct sample_options options = { .root = root };

	put("/sys/bus/event_source/devices/cpu/type", "4\n");
	put("/sys/bus/event_source/devices/cpu/events/mem-loads", "event=0xcd,umask=0x1,ldlat=3\n");
	return sample_open(&options, ret_sense, ret_why);
}

/* What is touched is written to the end of the file. */
static int open_trace(struct sense **ret_sense, const char **ret_why)
{
	const struct trace_options options = { .root = root, .path = WORLD_TRACE };
	uint64_t line;

	*ret_why = "no trace";
	return trace_open(&options, ret_sense, &line);
}

struct subject {
	const char *name;
	int (*open)(struct sense **ret_sense, const char **ret_why);
	void (*lose)(uint64_t nr); /* NULL: nothing can be lost */
	unsigned blind;            /* a page whose touches it cannot see; WORLD_PAGES: none */
	bool faults;               /* it sees touches by faults, which it causes */
};

static const struct subject subjects[] = {
	{ "hint", open_hint, ring_lose, WORLD_PAGES, true },
	{ "idle", open_idle, NULL, 5, false },
	{ "damon", open_damon, NULL, WORLD_PAGES, false },
	{ "soft-dirty", open_soft_dirty, NULL, WORLD_PAGES, true },
	{ "perf", open_perf, ring_lose, WORLD_PAGES, false },
	{ "trace", open_trace, trace_lose, WORLD_PAGES, false },
};

static const struct subject *subject;

/* ---- looking ---------------------------------------------------------------------------------- */

static bool touched[WORLD_PAGES]; /* since anybody looked last */
static unsigned seen[WORLD_PAGES];
static uint64_t nr_seen, nr_armed;
static struct sense *sense;

static void touch(unsigned page)
{
	touched[page] = true;
	world_touch(page);
}

/* Who is said to be touched was; a region when one of its pages was. */
static void event_visit(void *arg, const struct sense_event *event)
{
	bool any = false;

	(void)arg;
	assert_int_equal(event->pid, WORLD_PID);
	assert_true(event->address < event->end);
	assert_true(event->time_ns <= world_now_ns);
	if (event->kind == SENSE_ARMED) {
		nr_armed++;
		return;
	}
	assert_int_equal(event->kind, SENSE_TOUCH);
	assert_int_equal(event->cpu, sense->ops->knows_cpu ? WORLD_CPU : SENSE_CPU_UNKNOWN);
	for (unsigned page = 0; page < WORLD_PAGES; page++) {
		uint64_t address = WORLD_BASE + page * 4096;
		if (address + 4096 <= event->address || address >= event->end)
			continue;
		any |= touched[page];
		seen[page]++;
	}
	assert_true(any);
	nr_seen++;
}

/* Time goes by; the sensor is read some times in every second. */
static void look(unsigned seconds)
{
	memset(seen, 0, sizeof seen);
	for (unsigned i = 0; i < 4 * seconds; i++) {
		world_now_ns += 250000000;
		sense->ops->read(sense, event_visit, NULL);
	}
	memset(touched, 0, sizeof touched);
}

static unsigned nr_pages_seen(void)
{
	unsigned nr = 0;

	for (unsigned page = 0; page < WORLD_PAGES; page++)
		nr += seen[page] > 0;
	return nr;
}

static void begin(void)
{
	const char *why = "";

	world_lay();
	nr_seen = 0;
	memset(touched, 0, sizeof touched);
	int error = subject->open(&sense, &why);
	if (error)
		fail_msg("%s", why);
	assert_int_equal(sense->ops->pace(sense, 1000000000), 0);
}

/* With the process; its first pass sets what marks there are. */
static void begin_added(void)
{
	begin();
	assert_int_equal(sense->ops->add(sense, WORLD_PID), 0);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
}

static struct sense_usage usage(void)
{
	struct sense_usage found;

	sense->ops->usage(sense, &found);
	return found;
}

/* ---- what it promises ------------------------------------------------------------------------- */

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

/* ---- what one of them promises beyond it ------------------------------------------------------ */

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

/* Without probes hint does not see them, and knows it from the start. */
static void hint_without_probes_sees_no_guests(void **state)
{
	const struct hint_options options = { .root = root };
	const char *why = "";
	char path[PATH_MAX];

	(void)state;
	subject = &subjects[0];
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

/* In the middle: its process is gone, what it changed is not. */
static void subject_is_killed(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		begin_added();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
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
	subject = &subjects[0];
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
	subject = &subjects[0];
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
	subject = &subjects[0];
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
	subject = &subjects[0];
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

/* While it stands still the settings are anybody's. */
static void hint_paused_leaves_the_settings_alone(void **state)
{
	const char *what;

	(void)state;
	subject = &subjects[0];
	begin_added();
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
	subject = &subjects[0];
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

/* The kernel calls all of a mapping written that was made, or has grown, since marks were cleared. */
static void soft_dirty_doubts_new_bounds(void **state)
{
	(void)state;
	subject = &subjects[3];
	begin_added();
	put(PROC "maps", "10000000-10030000 rw-p 00000000 00:00 0 \n10030000-10040000 rw-p 00000000 00:00 0 \n");
	world_touch(1);
	world_touch(60);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	touch(60);
	look(4);
	assert_true(seen[60]);
	sense->ops->close(sense);
}

/* Another program at the same addresses: its marks are not those that we know. */
static void another_program_is_another_process(void **state)
{
	(void)state;
	for (size_t i = 1; i < 4; i += 2) {
		char stat[512];

		subject = &subjects[i];
		begin_added();
		world_stat(stat, sizeof stat, 1, 99);
		put(PROC "stat", stat);
		world_touch(2);
		look(4);
		assert_int_equal(nr_pages_seen(), 0);
		touch(2);
		look(4);
		assert_true(seen[2]);
		sense->ops->close(sense);
		assert_int_equal(tree_end(state), 0);
		assert_int_equal(tree_begin(state), 0);
	}
}

/* A page that is in another frame is another page, whatever the bit of its frame says. */
static void idle_follows_frames(void **state)
{
	(void)state;
	subject = &subjects[1];
	begin_added();
	uint64_t frame = word_read(PROC "pagemap", world_entry(8));
	word_write(PROC "pagemap", world_entry(8), word_read(PROC "pagemap", world_entry(5)));
	word_write(PROC "pagemap", world_entry(5), frame);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	sense->ops->close(sense);
}

static uint64_t nr_kdamonds(void)
{
	uint64_t nr = 99;

	assert_int_equal(setting_read(root, DAMON_ADMIN "nr_kdamonds", &nr), 0);
	return nr;
}

/* Whoever has DAMON keeps it, with a place for a thread or with a thread that a module started. */
static void damon_has_an_owner(void **state)
{
	const struct damon_options options = { .root = root };
	const char *why = "";
	char stat[512];

	(void)state;
	world_lay();
	put("/run/x", "");
	put(DAMON_ADMIN "nr_kdamonds", "1\n");
	assert_int_equal(damon_probe(&options, &why), -EBUSY);
	assert_int_equal(damon_open(&options, &sense, &why), -EBUSY);
	assert_non_null(strstr(why, "left alone"));
	assert_int_equal(nr_kdamonds(), 1);
	put(DAMON_ADMIN "nr_kdamonds", "0\n");
	world_stat(stat, sizeof stat, 2, 22);
	put("/proc/77/stat", stat);
	put("/proc/77/comm", "kdamond.0\n");
	assert_int_equal(damon_open(&options, &sense, &why), -EBUSY);
	assert_int_equal(nr_kdamonds(), 0);
	put("/proc/77/comm", "kswapd0\n");
	assert_int_equal(damon_open(&options, &sense, &why), 0);
	assert_int_equal(nr_kdamonds(), 1);
	sense->ops->close(sense);
	assert_int_equal(nr_kdamonds(), 0);
}

/* Killed in the middle; the next one takes down what was set up, and then has it. */
static void damon_is_taken_down_after_a_kill(void **state)
{
	(void)state;
	subject = &subjects[2];
	subject_is_killed();
	assert_int_equal(nr_kdamonds(), 1);
	const char *why = "";
	const struct damon_options options = { .root = root };
	assert_int_equal(damon_open(&options, &sense, &why), 0);
	sense->ops->close(sense);
	assert_int_equal(nr_kdamonds(), 0);
}

/* Somebody watches physical memory with DAMON now, and it runs. */
static void damon_give_away(void)
{
	put(DAMON_CONTEXT "operations", "paddr\n");
	world_damon_on = true;
}

static void expect_given_away(void)
{
	char path[PATH_MAX], text[16] = "";

	assert_true(world_damon_on);
	assert_int_equal(nr_kdamonds(), 1);
	assert_int_equal(file_read(root, text, sizeof text, DAMON_CONTEXT "operations"), 0);
	assert_string_equal(text, "paddr\n");
	world_path(path, DAMON_STATE_PATH);
	assert_int_equal(access(path, F_OK), -1);
}

static void damon_that_became_anothers_after_a_kill_is_left_alone(void **state)
{
	const struct damon_options options = { .root = root };
	const char *why = "";

	(void)state;
	subject = &subjects[2];
	world_lay();
	subject_is_killed();
	damon_give_away();
	assert_int_equal(damon_open(&options, &sense, &why), -EBUSY);
	expect_given_away();
}

static void damon_that_became_anothers_while_we_live_is_left_alone(void **state)
{
	(void)state;
	subject = &subjects[2];
	begin_added();
	look(4);
	damon_give_away();
	touch(9);
	look(4);
	assert_int_equal(nr_pages_seen(), 0);
	/* Begun anew it would be taken from him; so would it by a pause. */
	sense->ops->remove(sense, WORLD_PID);
	assert_int_equal(sense->ops->add(sense, WORLD_PID), 0);
	look(4);
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	sense->ops->close(sense);
	expect_given_away();
}

static struct sense_event played[8];
static size_t nr_played;

static void played_note(void *arg, const struct sense_event *event)
{
	(void)arg;
	assert_true(nr_played < 8);
	played[nr_played++] = *event;
}

/* At its own times, from when the first process is there; process 0 is that one. */
static void trace_is_played_in_time(void **state)
{
	const char *why;

	(void)state;
	world_lay();
	put(WORLD_TRACE, "# a trace\n0 0 4096\n\n1000000000 4711 0x2010 3\n1500000000 9 0x3000 1\n"
			 "2000000000 4711 12288 1\n3000000000 4711 0x");
	assert_int_equal(open_trace(&sense, &why), 0);
	nr_played = 0;
	sense->ops->read(sense, played_note, NULL);
	assert_int_equal(nr_played, 0);
	world_now_ns += 5000000000;
	uint64_t begin = world_now_ns;
	assert_int_equal(sense->ops->add(sense, WORLD_PID), 0);
	sense->ops->read(sense, played_note, NULL);
	assert_int_equal(nr_played, 1);
	assert_int_equal(played[0].pid, WORLD_PID);
	assert_int_equal(played[0].address, 4096);
	assert_int_equal(played[0].cpu, SENSE_CPU_UNKNOWN);
	world_now_ns = begin + 1999999999;
	sense->ops->read(sense, played_note, NULL);
	assert_int_equal(nr_played, 2);
	assert_int_equal(played[1].address, 0x2010);
	assert_int_equal(played[1].cpu, 3);
	assert_int_equal(played[1].time_ns, begin + 1000000000);
	world_now_ns = begin + 9000000000;
	sense->ops->read(sense, played_note, NULL);
	assert_int_equal(nr_played, 3);
	/* The last line was not whole; it is now. */
	trace_append("4010 0\n");
	sense->ops->read(sense, played_note, NULL);
	assert_int_equal(nr_played, 4);
	assert_int_equal(played[3].address, 0x4010);
	sense->ops->close(sense);
}

static void trace_names_the_line_that_is_none(void **state)
{
	const struct trace_options options = { .root = root, .path = WORLD_TRACE };
	static const char *const bad[] = { "1 2", "x 2 3", "1 2 3 4 5", "1 -2 3", "-1 2 3", "1 2 z" };
	uint64_t line = 0;
	char text[64];

	(void)state;
	world_lay();
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, "1 2 3\n# x\n%s\n", bad[i]);
		put(WORLD_TRACE, text);
		assert_int_equal(trace_open(&options, &sense, &line), -EBADMSG);
		assert_int_equal(line, 3);
	}
	const struct trace_options none = { .root = root, .path = "/none" };
	assert_int_equal(trace_open(&none, &sense, &line), -ENOENT);
}

/* The CPU samples the kernel, too, and what had no address. */
static void perf_passes_over_what_is_not_the_process(void **state)
{
	(void)state;
	subject = &subjects[4];
	assert_string_equal(subject->name, "perf");
	begin_added();
	ring_touch(0);
	ring_touch(UINT64_C(0xffff888103a21040));
	touch(12);
	look(1);
	assert_int_equal(nr_seen, 1);
	assert_int_equal(seen[12], 1);
	sense->ops->close(sense);
}

/* Of a process that comes during a pause nothing is recorded before it is over. */
static void perf_rests_while_paused(void **state)
{
	(void)state;
	subject = &subjects[4];
	begin();
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	assert_int_equal(sense->ops->add(sense, WORLD_PID), 0);
	look(1);
	assert_null(world_ring);
	assert_int_equal(sense->ops->pace(sense, 1000000000), 0);
	look(1);
	assert_non_null(world_ring);
	touch(12);
	look(1);
	assert_int_equal(seen[12], 1);
	sense->ops->close(sense);
}

static void what_is_missing_is_said(void **state)
{
	const char *why = "";
	char path[PATH_MAX];

	(void)state;
	subject = &subjects[1];
	world_lay();
	world_path(path, PAGE_IDLE_PATH);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(subject->open(&sense, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why, "CONFIG_IDLE_PAGE_TRACKING"));
	const struct sample_options options = { .root = root };
	assert_int_equal(sample_open(&options, &sense, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why, "PEBS, IBS"));
}

int main(void)
{
	const struct CMUnitTest beyond[] = {
		TREE_TEST(hint_without_probes_sees_no_guests),
		TREE_TEST(hint_has_its_probes_around_its_settings),
		TREE_TEST(hint_follows_cpus),
		TREE_TEST(hint_has_probes_of_all_cpus_or_none),
		TREE_TEST(hint_gives_way_to_who_insists),
		TREE_TEST(hint_paused_leaves_the_settings_alone),
		TREE_TEST(hint_tells_its_own_from_others),
		TREE_TEST(soft_dirty_doubts_new_bounds),
		TREE_TEST(another_program_is_another_process),
		TREE_TEST(idle_follows_frames),
		TREE_TEST(damon_has_an_owner),
		TREE_TEST(damon_is_taken_down_after_a_kill),
		TREE_TEST(damon_that_became_anothers_after_a_kill_is_left_alone),
		TREE_TEST(damon_that_became_anothers_while_we_live_is_left_alone),
		TREE_TEST(trace_is_played_in_time),
		TREE_TEST(trace_names_the_line_that_is_none),
		TREE_TEST(perf_passes_over_what_is_not_the_process),
		TREE_TEST(perf_rests_while_paused),
		TREE_TEST(what_is_missing_is_said),
	};
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

	for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
		subject = &subjects[i];
		failed += cmocka_run_group_tests_name(subject->name, tests, NULL, NULL);
	}
	return failed + cmocka_run_group_tests_name("beyond", beyond, NULL, NULL);
}
