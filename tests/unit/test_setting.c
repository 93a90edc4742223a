/* SPDX-License-Identifier: MIT */
/* Settings that are changed for a while come back, also when their owner was killed. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "setting.h"
#include "tree.h"

#define STATE "/run/pagetide/test"

enum { FIRST, SECOND, ABSENT, NR };
static const struct setting table[NR] = {
	[FIRST] = { .name = "first", .path = "/first" },
	[SECOND] = { .name = "second", .path = "/second" },
	[ABSENT] = { .name = "absent", .path = "/absent", .optional = true },
};

static void values_lay(void)
{
	put("/first", "1\n");
	put("/second", "1000\n");
	put("/run/x", "");
}

static uint64_t value(size_t which)
{
	uint64_t found = UINT64_MAX;

	assert_int_equal(setting_read(root, table[which].path, &found), 0);
	return found;
}

static bool state_there(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s%s", root, STATE);
	return access(path, F_OK) == 0;
}

static void values_come_back(void **state)
{
	struct settings settings;

	(void)state;
	values_lay();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_true(state_there());
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	assert_int_equal(settings_change(&settings, SECOND, 0), 0);
	assert_int_equal(settings_change(&settings, ABSENT, 5), 0); /* optional */
	assert_int_equal(value(FIRST), 2);
	assert_int_equal(settings_restore(&settings), 0);
	assert_int_equal(value(FIRST), 1);
	assert_int_equal(value(SECOND), 1000);
	/* What they were changed for is taken down now: nobody else begins. */
	assert_int_equal(settings_repair(root, STATE, table, NR), -EBUSY);
	settings_release(&settings);
	assert_false(state_there());
}

/* Theirs comes back, also when they set it just before the end, and after a kill. */
static void what_others_set_is_theirs(void **state)
{
	struct settings settings;

	(void)state;
	values_lay();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_look(&settings), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	assert_int_equal(settings_change(&settings, SECOND, 0), 0);
	assert_int_equal(settings_look(&settings), 0);
	put("/first", "7\n");
	assert_int_equal(settings_look(&settings), 1u << FIRST);
	assert_int_equal(settings_look(&settings), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	put("/second", "500\n");
	assert_int_equal(settings_restore(&settings), 0);
	assert_int_equal(value(FIRST), 7);
	assert_int_equal(value(SECOND), 500);
	settings_release(&settings);
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	put("/first", "8\n");
	assert_int_equal(settings_look(&settings), 1u << FIRST);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	settings_release(&settings); /* as if it was killed */
	assert_int_equal(settings_repair(root, STATE, table, NR), 1);
	assert_int_equal(value(FIRST), 8);
}

/* Be it the very value that we have set: at any time but in a pause, in which it is theirs already. */
static void what_others_set_to_our_value_is_theirs(void **state)
{
	struct settings settings;

	(void)state;
	values_lay();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	assert_int_equal(settings_change(&settings, SECOND, 0), 0);
	put("/first", "2\n");
	assert_int_equal(settings_look(&settings), 0); /* nothing is in our way */
	assert_int_equal(settings_change(&settings, FIRST, 3), 0);
	assert_int_equal(settings_change(&settings, FIRST, 4), 0);
	/* Just before we set it anew, and just before the end. */
	assert_int_equal(settings_restore(&settings), 0);
	assert_int_equal(value(FIRST), 2);
	assert_int_equal(value(SECOND), 1000);
	assert_int_equal(settings_change(&settings, FIRST, 3), 0);
	assert_int_equal(settings_change(&settings, SECOND, 0), 0);
	put("/first", "3\n");
	assert_int_equal(settings_change(&settings, FIRST, 5), 0);
	put("/second", "0\n");
	assert_int_equal(settings_restore(&settings), 0);
	assert_int_equal(value(FIRST), 3);
	assert_int_equal(value(SECOND), 0);
	settings_release(&settings);
}

static void our_value_set_by_others_is_theirs_after_a_kill(void **state)
{
	struct settings settings;

	(void)state;
	values_lay();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	put("/first", "2\n");
	assert_int_equal(settings_look(&settings), 0);
	assert_int_equal(settings_change(&settings, FIRST, 6), 0);
	settings_release(&settings); /* as if it was killed */
	assert_int_equal(settings_repair(root, STATE, table, NR), 1);
	assert_int_equal(value(FIRST), 2);
}

/* What they were before comes back after a kill where theirs could not be written down. */
static void a_full_disk_leaves_what_was_saved(void **state)
{
	struct rlimit before, none;
	struct settings settings;

	(void)state;
	values_lay();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	assert_int_equal(settings_change(&settings, SECOND, 0), 0);
	put("/first", "7\n");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = (struct rlimit){ 0, before.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	assert_int_equal(settings_look(&settings), 1u << FIRST);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_DFL);
	settings_release(&settings); /* as if it was killed */
	assert_int_equal(settings_repair(root, STATE, table, NR), 1);
	assert_int_equal(value(FIRST), 1);
	assert_int_equal(value(SECOND), 1000);
}

/* Given up without: the next one puts them back. */
static void what_was_not_put_back_is_left_to_the_next(void **state)
{
	struct settings settings;

	(void)state;
	values_lay();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	settings_release(&settings);
	assert_false(state_there()); /* nothing was changed */
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	settings_release(&settings);
	assert_int_equal(value(FIRST), 2);
	assert_int_equal(settings_repair(root, STATE, table, NR), 1);
	assert_int_equal(value(FIRST), 1);
	assert_false(state_there());
}

static void one_owner_at_a_time(void **state)
{
	struct settings settings, other;

	(void)state;
	values_lay();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_change(&settings, FIRST, 2), 0);
	assert_int_equal(settings_save(&other, root, STATE, table, NR), -EBUSY);
	assert_int_equal(settings_repair(root, STATE, table, NR), -EBUSY);
	assert_int_equal(value(FIRST), 2);
	assert_int_equal(settings_restore(&settings), 0);
	assert_int_equal(settings_save(&other, root, STATE, table, NR), -EBUSY);
	settings_release(&settings);
	assert_int_equal(settings_save(&other, root, STATE, table, NR), 0);
	settings_release(&other);
}

/* A child saves, changes, and dies without a word. */
static void die_with_changes(void)
{
	struct settings settings;
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		if (settings_save(&settings, root, STATE, table, NR) ||
		    settings_change(&settings, FIRST, 2) || settings_change(&settings, SECOND, 0))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(value(FIRST), 2);
	assert_true(state_there());
}

static void the_next_one_repairs(void **state)
{
	struct settings settings;

	(void)state;
	values_lay();
	die_with_changes();
	assert_int_equal(settings_repair(root, STATE, table, NR), 1);
	assert_int_equal(value(FIRST), 1);
	assert_int_equal(value(SECOND), 1000);
	assert_int_equal(settings_repair(root, STATE, table, NR), 0);
	/* And who wants to change them itself does so first: what it saves is what was there before. */
	die_with_changes();
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), 0);
	assert_int_equal(settings_change(&settings, FIRST, 3), 0);
	assert_int_equal(settings_restore(&settings), 0);
	settings_release(&settings);
	assert_int_equal(value(FIRST), 1);
	assert_int_equal(value(SECOND), 1000);
}

static void what_cannot_be_put_back_is_not_forgotten(void **state)
{
	struct settings settings;
	char path[PATH_MAX];

	(void)state;
	values_lay();
	die_with_changes();
	snprintf(path, sizeof path, "%s/first", root);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), -ENOENT);
	assert_int_equal(settings_restore(&settings), 0); /* nothing was saved */
	assert_true(state_there());
	put("/first", "2\n");
	assert_int_equal(settings_repair(root, STATE, table, NR), 1);
	assert_int_equal(value(FIRST), 1);
	assert_int_equal(value(SECOND), 1000);
}

static void a_state_file_of_somebody_else_does_no_harm(void **state)
{
	(void)state;
	values_lay();
	put(STATE, "evil 7\nfirst\nsecond -3\n\n\xff\xfe first 9\n");
	assert_int_equal(settings_repair(root, STATE, table, NR), 0);
	assert_int_equal(value(FIRST), 1);
	assert_int_equal(value(SECOND), 1000);
}

static void what_is_no_number_is_told(void **state)
{
	struct settings settings;
	uint64_t found;

	(void)state;
	values_lay();
	put("/first", "always\n");
	assert_int_equal(setting_read(root, "/first", &found), -EINVAL);
	assert_int_equal(settings_save(&settings, root, STATE, table, NR), -EINVAL);
	assert_false(state_there());
	assert_int_equal(setting_read(root, "/nothing", &found), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(values_come_back),
		TREE_TEST(what_others_set_is_theirs),
		TREE_TEST(what_others_set_to_our_value_is_theirs),
		TREE_TEST(our_value_set_by_others_is_theirs_after_a_kill),
		TREE_TEST(a_full_disk_leaves_what_was_saved),
		TREE_TEST(what_was_not_put_back_is_left_to_the_next),
		TREE_TEST(one_owner_at_a_time),
		TREE_TEST(the_next_one_repairs),
		TREE_TEST(what_cannot_be_put_back_is_not_forgotten),
		TREE_TEST(a_state_file_of_somebody_else_does_no_harm),
		TREE_TEST(what_is_no_number_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
