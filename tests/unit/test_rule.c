/* SPDX-License-Identifier: MIT */
/*
 * Which rule selects which of some recorded processes, and which keys and values are refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "rule.h"
#include "tree.h"

#define MIB (UINT64_C(1) << 20)
#define MAX_RULES 4

static struct rule rules[MAX_RULES];
static size_t nr;

/* A process with its program, group and resident MiB. */
static void process_put(pid_t pid, const char *exe, const char *cgroup, unsigned rss_mib)
{
	char path[PATH_MAX], text[256];

	snprintf(path, sizeof path, "/proc/%d/cgroup", (int)pid);
	put(path, cgroup);
	snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	snprintf(text, sizeof text, "%u %u 100 1 0 50 0\n", rss_mib * 512, rss_mib * 256);
	put(path, text);
	snprintf(path, sizeof path, "%s/proc/%d/exe", root, (int)pid);
	if (*exe)
		assert_int_equal(symlink(exe, path), 0);
}

static int begin(void **state)
{
	tree_begin(state);
	nr = 0;
	process_put(10, "/usr/bin/redis-server", "0::/system.slice/redis.service\n", 900);
	process_put(11, "/usr/sbin/nginx (deleted)", "0::/system.slice/web.service/workers\n", 20);
	process_put(12, "/usr/bin/python3.11",
		    "5:memory:/batch/one\n1:name=systemd:/user.slice/u-1.scope\n0::/\n", 300);
	process_put(13, "", "0::/\n", 0); /* a kernel thread */
	return 0;
}

static int end(void **state)
{
	for (size_t i = 0; i < nr; i++)
		rule_free(&rules[i]);
	return tree_end(state);
}

static struct rule *rule(const char *name)
{
	rule_init(&rules[nr], name);
	return &rules[nr++];
}

static void set(struct rule *one, const char *key, const char *value)
{
	char message[TIDE_MESSAGE_MAX] = "";

	assert_int_equal(rule_set(one, root, key, value, message), 0);
	assert_int_equal(rule_finish(one, message), 0);
	assert_string_equal(message, "");
}

static void expect(pid_t pid, const struct rule *one)
{
	assert_ptr_equal(rule_find(rules, nr, root, pid, NULL), one);
}

static void by_program(void **state)
{
	(void)state;
	struct rule *one = rule("one");
	set(one, "exe", "redis|nginx$"); /* its file was replaced: it is the same program */
	expect(10, one);
	expect(11, one);
	expect(12, NULL);
	expect(13, NULL);
	expect(14, NULL); /* there is none */
}

static void by_group_of_either_version(void **state)
{
	(void)state;
	struct rule *one = rule("one"), *two = rule("two");
	set(one, "cgroup", "/system.slice/web*");
	set(two, "cgroup", "/batch");
	expect(10, NULL);
	expect(11, one);
	expect(12, two);
}

static void by_unit(void **state)
{
	(void)state;
	struct rule *one = rule("one"), *two = rule("two");
	set(one, "unit", "redis");
	set(two, "unit", "user.slice");
	expect(10, one);
	expect(11, NULL);
	expect(12, two);
}

static void by_least_rss(void **state)
{
	(void)state;
	struct rule *one = rule("one");
	set(one, "rss_min", "300M");
	expect(10, one);
	expect(11, NULL);
	expect(12, one);
	expect(13, NULL);
	set(one, "rss_min", "301M");
	expect(12, NULL);
	/* Who was taken is not let go because he gave memory back. */
	assert_ptr_equal(rule_find(rules, nr, root, 12, one), one);
}

static void kinds_must_all_fit_and_words_may(void **state)
{
	(void)state;
	struct rule *one = rule("one");
	set(one, "unit", "redis");
	set(one, "unit", "web");
	set(one, "exe", "^/usr/bin/");
	expect(10, one);
	expect(11, NULL);
	expect(12, NULL);
	set(one, "exe", "nginx");
	expect(11, one);
	set(one, "exe", ""); /* drops the words so far */
	expect(10, one);
	expect(11, one);
	set(one, "rss_min", "100M");
	expect(11, NULL);
}

static void what_is_excluded(void **state)
{
	(void)state;
	struct rule *one = rule("one");
	set(one, "cgroup", "/");
	expect(10, one);
	expect(11, one);
	expect(12, one);
	expect(13, NULL);
	set(one, "exclude_exe", "python");
	set(one, "exclude_unit", "web");
	expect(10, one);
	expect(11, NULL);
	expect(12, NULL);
	set(one, "exclude_cgroup", "/system.slice/*");
	expect(10, NULL);
}

static void the_first_that_fits(void **state)
{
	(void)state;
	struct rule *one = rule("one"), *two = rule("two"), *three = rule("three");
	set(one, "exe", "redis");
	set(one, "weight", "0");
	set(two, "exe", "/usr/bin");
	set(three, "rss_min", "1M");
	expect(10, one);
	expect(12, two);
	expect(11, three);
}

static void refuse(const char *key, const char *value, const char *says)
{
	struct rule one;
	char message[TIDE_MESSAGE_MAX] = "";

	rule_init(&one, "one");
	assert_int_equal(rule_set(&one, root, key, value, message), -EINVAL);
	if (!strstr(message, says))
		fail_msg("%s = %s: said \"%s\", not \"%s\"", key, value, message, says);
	rule_free(&one);
}

static void bad_keys_and_values(void **state)
{
	(void)state;
	refuse("fast_mx", "1G", "did you mean fast_max?");
	refuse("exclud_unit", "x", "did you mean exclude_unit?");
	refuse("zebra", "x", "unknown key zebra of a rule");
	refuse("weight", "11", "write 0 (leave alone) to 10");
	refuse("weight", "-1", "write 0");
	refuse("weight", "5x", "write 0");
	refuse("weight", "", "write 0");
	refuse("fast_max", "lots", "not a size: write 512M");
	refuse("fast_max", "101%", "not a size");
	refuse("fast_min", "0%", "not a size");
	refuse("rss_min", "40%", "not a size: write 64M");
	refuse("exe", "a(b", "not an extended regular expression");
}

static void a_rule_must_select_and_agree(void **state)
{
	struct rule one;
	char message[TIDE_MESSAGE_MAX] = "";

	(void)state;
	rule_init(&one, "one");
	assert_int_equal(rule_set(&one, root, "exclude_exe", "x", message), 0);
	assert_int_equal(rule_finish(&one, message), -EINVAL);
	assert_non_null(strstr(message, "rule one selects nothing"));
	assert_int_equal(rule_set(&one, root, "exe", "x", message), 0);
	assert_int_equal(rule_set(&one, root, "fast_min", "2G", message), 0);
	assert_int_equal(rule_finish(&one, message), 0);
	assert_int_equal(rule_set(&one, root, "fast_max", "1G", message), 0);
	assert_int_equal(rule_finish(&one, message), -EINVAL);
	assert_non_null(strstr(message, "fast_min is more than fast_max"));
	assert_int_equal(rule_set(&one, root, "fast_max", "50%", message), 0);
	assert_int_equal(rule_finish(&one, message), 0);
	assert_int_equal(rule_set(&one, root, "fast_min", "60%", message), 0);
	assert_int_equal(rule_finish(&one, message), -EINVAL);
	rule_free(&one);
}

static void sizes(void **state)
{
	struct rule *one = rule("one");

	(void)state;
	set(one, "exe", "x");
	assert_true(rule_size_bytes(&one->fast_max, 1000 * MIB) == RULE_NO_MAX);
	assert_int_equal(rule_size_bytes(&one->fast_min, 1000 * MIB), 0);
	set(one, "fast_max", "12.5%");
	assert_int_equal(rule_size_bytes(&one->fast_max, 8000 * MIB), 1000 * MIB);
	set(one, "fast_max", "64M");
	assert_int_equal(rule_size_bytes(&one->fast_max, 8000 * MIB), 64 * MIB);
}

#define RULE_TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RULE_TEST(by_program),
		RULE_TEST(by_group_of_either_version),
		RULE_TEST(by_unit),
		RULE_TEST(by_least_rss),
		RULE_TEST(kinds_must_all_fit_and_words_may),
		RULE_TEST(what_is_excluded),
		RULE_TEST(the_first_that_fits),
		RULE_TEST(bad_keys_and_values),
		RULE_TEST(a_rule_must_select_and_agree),
		RULE_TEST(sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
