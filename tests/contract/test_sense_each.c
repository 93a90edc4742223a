/* SPDX-License-Identifier: MIT */
/*
 * What each of the other sensors promises beyond the contract.
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

/* The kernel calls all of a mapping written that was made, or has grown, since marks were cleared. */
static void soft_dirty_doubts_new_bounds(void **state)
{
	(void)state;
	ask("soft-dirty");
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
	for (size_t i = 0; i < 2; i++) {
		char stat[512];

		ask(i ? "soft-dirty" : "idle");
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
	ask("idle");
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
	ask("damon");
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
	ask("damon");
	world_lay();
	subject_is_killed();
	damon_give_away();
	assert_int_equal(damon_open(&options, &sense, &why), -EBUSY);
	expect_given_away();
}

static void damon_that_became_anothers_while_we_live_is_left_alone(void **state)
{
	(void)state;
	ask("damon");
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

/* All is as we set it up, but for what is done with what is found. */
static void damon_whose_scheme_became_anothers_is_left_alone(void **state)
{
	(void)state;
	ask("damon");
	begin_added();
	look(4);
	put(DAMON_CONTEXT "schemes/0/action", "pageout\n");
	sense->ops->close(sense);
	assert_true(world_damon_on);
	assert_int_equal(nr_kdamonds(), 1);
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
	const struct trace_options folder = { .root = root, .path = "/" };
	assert_int_equal(trace_open(&folder, &sense, &line), -EEXIST);
}

/* The CPU samples the kernel, too, and what had no address. */
static void perf_passes_over_what_is_not_the_process(void **state)
{
	(void)state;
	ask("perf");
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
	ask("perf");
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
	ask("idle");
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
	const struct CMUnitTest tests[] = {
		TREE_TEST(soft_dirty_doubts_new_bounds),
		TREE_TEST(another_program_is_another_process),
		TREE_TEST(idle_follows_frames),
		TREE_TEST(damon_has_an_owner),
		TREE_TEST(damon_is_taken_down_after_a_kill),
		TREE_TEST(damon_that_became_anothers_after_a_kill_is_left_alone),
		TREE_TEST(damon_that_became_anothers_while_we_live_is_left_alone),
		TREE_TEST(damon_whose_scheme_became_anothers_is_left_alone),
		TREE_TEST(trace_is_played_in_time),
		TREE_TEST(trace_names_the_line_that_is_none),
		TREE_TEST(perf_passes_over_what_is_not_the_process),
		TREE_TEST(perf_rests_while_paused),
		TREE_TEST(what_is_missing_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
