/* SPDX-License-Identifier: MIT */
/*
 * Sets of nodes and the lists that people and the kernel write of them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "nodeset.h"

static struct nodeset set_of(const char *text)
{
	struct nodeset set;

	assert_int_equal(nodeset_parse(text, NULL, &set), 0);
	return set;
}

static void good(const char *text, const char *all_text, const char *wanted)
{
	struct nodeset all = set_of(all_text), set;
	char got[NODESET_TEXT_BYTES];

	assert_int_equal(nodeset_parse(text, &all, &set), 0);
	assert_string_equal(nodeset_format(got, &set), wanted);
}

static void lists(void **state)
{
	(void)state;
	good("0", "0-3", "0");
	good("0-1,3", "0-3", "0-1,3");
	good("3,1,0", "0-3", "0-1,3");
	good("1,1-2,2", "0-3", "1-2");
	good("1023", "0", "1023");
	good("7", "0-3", "7"); /* who says that there is no such node is somebody else */
	good("all", "0-1,4", "0-1,4");
	good("!2", "0-3", "0-1,3");
	good("!0-1,3", "0-3", "2");
	good("!all", "0-3", "none");
}

static void bad(const char *text, int wanted)
{
	struct nodeset all = set_of("0-3"), set, before;

	memset(&set, 0x5a, sizeof(set));
	before = set;
	if (nodeset_parse(text, &all, &set) != wanted)
		fail_msg("\"%s\"", text);
	assert_memory_equal(&set, &before, sizeof(set));
}

static void bad_lists(void **state)
{
	(void)state;
	bad("", -EINVAL);
	bad(",", -EINVAL);
	bad("1,", -EINVAL);
	bad(",1", -EINVAL);
	bad("1,,2", -EINVAL);
	bad("1-", -EINVAL);
	bad("-1", -EINVAL);
	bad("1-2-3", -EINVAL);
	bad("!", -EINVAL);
	bad("!!1", -EINVAL);
	bad("a", -EINVAL);
	bad("all,1", -EINVAL);
	bad("1 ", -EINVAL);
	bad("1\n", -EINVAL);
	bad("0x1", -EINVAL);
	bad("+1", -EINVAL);
	bad("1024", -ERANGE);
	bad("0-1024", -ERANGE);
	bad("99999999999999999999", -ERANGE);
	bad("4294967296", -ERANGE);
	bad("3-1", -ERANGE);
}

static void nothing_to_refer_to(void **state)
{
	struct nodeset set;

	(void)state;
	assert_int_equal(nodeset_parse("all", NULL, &set), -EINVAL);
	assert_int_equal(nodeset_parse("!1", NULL, &set), -EINVAL);
}

static void visit_print(void *arg, unsigned int first, unsigned int last)
{
	sprintf((char *)arg + strlen(arg), "[%u %u]", first, last);
}

static void kernel(const char *text, unsigned int max, int error, const char *wanted)
{
	char got[128] = "";

	assert_int_equal(nodeset_list(text, max, visit_print, got), error);
	assert_string_equal(got, wanted);
}

static void lists_of_the_kernel(void **state)
{
	(void)state;
	kernel("0-1,3\n", 8191, 0, "[0 1][3 3]");
	kernel("\n", 8191, 0, "");
	kernel("", 8191, 0, "");
	kernel("\t0\n", 8191, 0, "[0 0]");
	kernel("8191\n", 8191, 0, "[8191 8191]");
	kernel("8192\n", 8191, -ERANGE, "");
	kernel("1,x\n", 8191, -EINVAL, "[1 1]");
	kernel("1 2\n", 8191, -EINVAL, "[1 1]");
}

static void sets(void **state)
{
	struct nodeset a = set_of("0-2,63-65,1023"), b = set_of("2-3,64"), c;
	char text[NODESET_TEXT_BYTES];

	(void)state;
	assert_int_equal(nodeset_count(&a), 7);
	c = nodeset_and(&a, &b);
	assert_string_equal(nodeset_format(text, &c), "2,64");
	c = nodeset_minus(&a, &b);
	assert_string_equal(nodeset_format(text, &c), "0-1,63,65,1023");
	assert_true(nodeset_meet(&a, &b));
	assert_false(nodeset_meet(&c, &b));
	nodeset_remove(&b, 64);
	nodeset_remove(&b, 5000);
	nodeset_add(&b, 5000);
	assert_int_equal(nodeset_count(&b), 2);
	assert_false(nodeset_has(&b, 5000));
	assert_int_equal(nodeset_next(&b, 4), NODE_NONE);
	assert_int_equal(nodeset_next(&a, 66), 1023);
	assert_int_equal(nodeset_next(&a, 1024), NODE_NONE);
	unsigned int sum = 0;
	for nodeset_each(node, &b)
		sum += node;
	assert_int_equal(sum, 5);
}

/* Every second node: more text than there is room. It is cut between two numbers. */
static void long_text_is_cut(void **state)
{
	struct nodeset set = { 0 }, again;
	char text[NODESET_TEXT_BYTES];

	(void)state;
	for (unsigned int node = 0; node < NODESET_MAX; node += 2)
		nodeset_add(&set, node);
	assert_true(strlen(nodeset_format(text, &set)) < NODESET_TEXT_BYTES);
	assert_int_equal(nodeset_parse(text, NULL, &again), 0);
	again = nodeset_minus(&again, &set);
	assert_true(nodeset_empty(&again));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists),
		cmocka_unit_test(bad_lists),
		cmocka_unit_test(nothing_to_refer_to),
		cmocka_unit_test(lists_of_the_kernel),
		cmocka_unit_test(sets),
		cmocka_unit_test(long_text_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
