/* SPDX-License-Identifier: MIT */
/*
 * The sensors, each opened on the process and the kernel of sense_world.h, and how a test looks with one. A new
 * sensor adds a line to the table.
 */
#ifndef TEST_SENSE_SUBJECT_H
#define TEST_SENSE_SUBJECT_H

#include <sys/wait.h>

#include "damon.h"
#include "hint.h"
#include "idle.h"
#include "sample.h"
#include "sense_world.h"
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

/* The one that is asked from here on. */
static void ask(const char *name)
{
	for (subject = subjects; strcmp(subject->name, name);)
		assert_true(++subject < subjects + sizeof subjects / sizeof *subjects);
}

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

#endif
