/* SPDX-License-Identifier: MIT */
/* The hint sensor on trees of files: when it can be had, what it sets, and that all comes back. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hint.h"
#include "tree.h"

#define SECOND_NS UINT64_C(1000000000)
#define BALANCING "/sys/kernel/debug/sched/numa_balancing/"
#define MODE "/proc/sys/kernel/numa_balancing"
#define LIMIT "/proc/sys/kernel/numa_balancing_promote_rate_limit_MBps"
#define TIERS "/sys/devices/virtual/memory_tiering/"

static void machine_lay(void)
{
	put(TIERS "memory_tier4/nodelist", "0\n");
	put(TIERS "memory_tier961/nodelist", "1\n");
	put(MODE, "1\n");
	put(LIMIT, "65536\n");
	put(BALANCING "hot_threshold_ms", "1000\n");
	put(BALANCING "scan_period_min_ms", "1000\n");
	put(BALANCING "scan_size_mb", "256\n");
	put(BALANCING "scan_delay_ms", "1000\n");
	put("/run/x", "");
}

static void expect(const char *path, const char *want)
{
	char full[PATH_MAX], text[64] = "";

	snprintf(full, sizeof full, "%s%s", root, path);
	FILE *file = fopen(full, "r");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof text, file));
	fclose(file);
	assert_string_equal(text, want);
}

static void never(void *arg, const struct sense_event *event)
{
	(void)arg;
	(void)event;
	fail_msg("a touch out of nowhere");
}

static void settings_are_set_and_come_back(void **state)
{
	const struct hint_options options = { .root = root };
	struct sense *sense;
	const char *why = NULL;

	(void)state;
	machine_lay();
	assert_int_equal(hint_open(&options, &sense, &why), 0);
	expect(BALANCING "hot_threshold_ms", "0\n");
	expect(LIMIT, "0\n");
	expect(BALANCING "scan_delay_ms", "100\n");
	expect(MODE, "1\n"); /* not before there is somebody to look at */
	sense->ops->read(sense, never, NULL);
	expect(MODE, "1\n");
	sense->ops->close(sense);
	expect(MODE, "1\n");
	expect(LIMIT, "65536\n");
	expect(BALANCING "hot_threshold_ms", "1000\n");
	expect(BALANCING "scan_size_mb", "256\n");
	expect(BALANCING "scan_delay_ms", "1000\n");
	assert_int_equal(hint_repair(&options), 0);
}

/* Paused, the settings are as they were found; then it begins at once, however long its period is. */
static void paused_and_on_again(void **state)
{
	const struct hint_options options = { .root = root };
	const pid_t nobody = 1 << 30;
	struct sense *sense;
	const char *why = NULL;

	(void)state;
	machine_lay();
	put("/proc/1073741824/task/1073741824/x", "");
	assert_int_equal(hint_open(&options, &sense, &why), 0);
	if (sense->ops->add(sense, nobody)) {
		sense->ops->close(sense);
		skip(); /* no perf events here */
	}
	assert_int_equal(sense->ops->pace(sense, 3600 * SECOND_NS), 0);
	sense->ops->read(sense, never, NULL);
	expect(MODE, "2\n");
	assert_int_equal(sense->ops->pace(sense, 0), 0);
	expect(MODE, "1\n");
	sense->ops->read(sense, never, NULL);
	expect(MODE, "1\n");
	assert_int_equal(sense->ops->pace(sense, 3600 * SECOND_NS), 0);
	sense->ops->read(sense, never, NULL);
	expect(MODE, "2\n");
	sense->ops->close(sense);
	expect(MODE, "1\n");
}

static void one_at_a_time(void **state)
{
	const struct hint_options options = { .root = root };
	struct sense *sense, *other;
	const char *why = NULL;

	(void)state;
	machine_lay();
	assert_int_equal(hint_open(&options, &sense, &why), 0);
	assert_int_equal(hint_open(&options, &other, &why), -EBUSY);
	assert_non_null(strstr(why, "stop that one first"));
	assert_int_equal(hint_repair(&options), -EBUSY);
	sense->ops->close(sense);
}

static void what_is_missing_is_said(void **state)
{
	const struct hint_options options = { .root = root };
	struct sense *sense;
	const char *why = NULL;

	(void)state;
	assert_int_equal(hint_open(&options, &sense, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why, "no memory tiers"));
	put(TIERS "memory_tier4/nodelist", "0-1\n");
	assert_int_equal(hint_open(&options, &sense, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why, "all nodes are in one memory tier"));
	put(TIERS "memory_tier961/nodelist", "1\n");
	put(MODE, "0\n");
	put("/run/x", "");
	assert_int_equal(hint_open(&options, &sense, &why), -EOPNOTSUPP);
	assert_non_null(strstr(why, "debugfs"));
	expect(MODE, "0\n");
	/* A kernel without the limit works without it. */
	machine_lay();
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s%s", root, LIMIT);
	unlink(path);
	assert_int_equal(hint_open(&options, &sense, &why), 0);
	sense->ops->close(sense);
}

/* Where its file cannot be, or has what cannot be put back. */
static void the_file_in_the_way_is_named(void **state)
{
	struct hint_options options = { .root = root, .state_path = MODE "/hint" };
	struct sense *sense;
	const char *why = NULL;

	(void)state;
	machine_lay();
	assert_int_equal(hint_open(&options, &sense, &why), -ENOTDIR);
	assert_non_null(strstr(why, HINT_STATE_PATH ", which keeps the settings"));
	options.state_path = "/proc/sys/kernel";
	assert_int_equal(hint_open(&options, &sense, &why), -EISDIR);
	assert_non_null(strstr(why, HINT_STATE_PATH ", which keeps the settings"));
	put(MODE, "none\n");
	options.state_path = NULL;
	assert_int_equal(hint_open(&options, &sense, &why), -EINVAL);
	assert_non_null(strstr(why, "remove that file"));
}

static void when_the_kernel_moves_by_itself(void **state)
{
	const uint64_t gib = UINT64_C(1) << 30;

	(void)state;
	assert_false(hint_kernel_moves(gib, 4 * gib));
	assert_true(hint_kernel_moves(gib + 1, 4 * gib));
	assert_false(hint_kernel_moves(2 * gib, 64 * gib));
	assert_true(hint_kernel_moves(5 * gib, 64 * gib));
}

/* What it costs is what the kernel counts of its faults, not all that processes have. */
static void its_faults_are_the_kernels(void **state)
{
	const struct hint_options options = { .root = root };
	struct sense_usage usage;
	struct sense *sense;
	const char *why = NULL;

	(void)state;
	machine_lay();
	put("/proc/vmstat", "pgfault 1000\nnuma_hint_faults 100\n");
	assert_int_equal(hint_open(&options, &sense, &why), 0);
	sense->ops->usage(sense, &usage);
	assert_int_equal(usage.nr_faults, 0);
	put("/proc/vmstat", "pgfault 900000\nnuma_hint_faults 150\n");
	sense->ops->usage(sense, &usage);
	assert_int_equal(usage.nr_faults, 50);
	assert_int_equal(usage.nr_own_faults, 0); /* nobody's that it was given */
	sense->ops->close(sense);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(its_faults_are_the_kernels),
		TREE_TEST(settings_are_set_and_come_back),
		TREE_TEST(paused_and_on_again),
		TREE_TEST(one_at_a_time),
		TREE_TEST(what_is_missing_is_said),
		TREE_TEST(the_file_in_the_way_is_named),
		cmocka_unit_test(when_the_kernel_moves_by_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
