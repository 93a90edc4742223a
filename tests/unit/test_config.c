/* SPDX-License-Identifier: MIT */
/*
 * Configuration files with drop-ins: what they come to, and what they are refused for.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config.h"
#include "tree.h"

static char path[PATH_MAX];

static int begin(void **state)
{
	int error = tree_begin(state);

	snprintf(path, sizeof path, "%s/etc/p.conf", root);
	return error;
}

/* What the files come to, printed and read again. */
static void expect(const char *wanted)
{
	struct config config;
	char message[TIDE_MESSAGE_MAX] = "";

	if (config_read(path, root, &config, message))
		fail_msg("refused: %s", message);
	char *text = config_text(&config), *again;
	assert_string_equal(text, wanted);
	config_free(&config);
	put("/etc/again.conf", text);
	snprintf(message, sizeof message, "%s/etc/again.conf", root);
	assert_int_equal(config_read(message, root, &config, message), 0);
	again = config_text(&config);
	assert_string_equal(again, wanted);
	config_free(&config);
	free(text);
	free(again);
}

static void refuse(const char *text, const char *says)
{
	struct config config = { .nr_rules = 7 };
	char message[TIDE_MESSAGE_MAX] = "";

	put("/etc/p.conf", text);
	if (config_read(path, root, &config, message) != -EINVAL)
		fail_msg("taken: %s", text);
	if (!strstr(message, says) || strchr(message, '\n'))
		fail_msg("%s\nsaid \"%s\", not \"%s\"", text, message, says);
	assert_int_equal(config.nr_rules, 7); /* nothing half done */
}

static void all_keys(void **state)
{
	(void)state;
	put("/etc/p.conf", "# a comment\n; another\n[tiers]\nfast=0\nslow = 1-2,4\n\n"
			   "[rule web]\nunit = web   ; at the end\nunit = php-*\ncgroup: a/b\n"
			   "exe = ^/usr/(s?)bin/x{1,2}$\n"
			   "exclude_exe = worker$\nexclude_unit=old\nexclude_cgroup=/a/b/c\nrss_min = 64M\nweight = 7\n"
			   "fast_min = 12.5%\nfast_max = 1.5G\n[rule rest]\nrss_min = 1G\nfast_max = 0\n");
	expect("[tiers]\nfast = 0\nslow = 1-2,4\n\n"
	       "[rule web]\ncgroup = /a/b\nunit = web\nunit = php-*\nexe = ^/usr/(s?)bin/x{1,2}$\n"
	       "exclude_cgroup = /a/b/c\nexclude_unit = old\nexclude_exe = worker$\nrss_min = 67108864\nweight = 7\n"
	       "fast_min = 12.50%\nfast_max = 1610612736\n\n"
	       "[rule rest]\nrss_min = 1073741824\nweight = 5\nfast_max = 0\n");
}

static void drop_ins_add_and_replace(void **state)
{
	(void)state;
	put("/etc/p.conf", "[tiers]\nfast = 0\n[rule one]\nunit = a\nweight = 3\n");
	put("/etc/p.conf.d/20-x.conf", "[rule one]\nweight = 9\nunit =\nunit = c\n[rule two]\nexe = x\n");
	put("/etc/p.conf.d/10-x.conf", "[rule one]\nweight = 8\nunit = b\n[tiers]\nfast =\n");
	put("/etc/p.conf.d/30-x.conf~", "rubbish");
	put("/etc/p.conf.d/.40.conf", "rubbish");
	expect("[rule one]\nunit = c\nweight = 9\n\n[rule two]\nexe = x\nweight = 5\n");
	put("/etc/p.conf.d/30.conf", "\n[rule two]\nwieght = 1\n");
	refuse("[rule one]\nunit = a\n", "/etc/p.conf.d/30.conf:3: unknown key wieght: did you mean weight?");
}

static void bad_files(void **state)
{
	char line[300];

	(void)state;
	refuse("", "there is no [rule NAME]");
	refuse("[rule a]\n", "there is no [rule NAME]");
	refuse("[rule a]\nweight = 3\n", "rule a selects nothing");
	refuse("[rule a]\nexe = x\n\nweight = 30\n", "p.conf:4: weight = 30: write 0");
	refuse("[rule a]\nexe = x\nfats_max = 1G\n", "p.conf:3: unknown key fats_max: did you mean fast_max?");
	refuse("exe = x\n", "p.conf:1: unknown section []");
	refuse("[rule a]\nexe = x\nnonsense\n", "p.conf:3: neither [section] nor key = value");
	refuse("[rule a\nexe = x\n", "p.conf:1: neither [section]");
	refuse("[rule a]\nexe x\n[tires]\n", "p.conf:2: neither [section]");
	refuse("[rule a]\nexe = x\n[tires]\n", "p.conf:3: unknown section [tires]: did you mean [tiers]?");
	refuse("[rules a]\nexe = x\n", "p.conf:1: unknown section [rules a]: did you mean [rule NAME]?");
	refuse("[rule]\nexe = x\n", "p.conf:1: [rule]: name the rule");
	refuse("[rule a b]\nexe = x\n", "p.conf:1: [rule a b]: name the rule");
	refuse("[rule a123456789b123456789c123456789d1]\nexe = x\n", "name the rule with up to 31");
	refuse("[zebra]\n", "p.conf:1: unknown section [zebra]: there are [tiers] and [rule NAME]");
	refuse("[tiers]\nfats = 0\n", "p.conf:2: unknown key fats of [tiers]: did you mean fast");
	snprintf(line, sizeof line, "[rule a]\nexe = %0250d\n", 7);
	refuse(line, "p.conf:2: the line is longer than");
	snprintf(path, sizeof path, "%s/etc/none.conf", root);
	refuse("", "none.conf: No such file or directory");
	snprintf(path, sizeof path, "%s/etc", root);
	refuse("", "/etc: ");
}

static void the_last_line_needs_no_end(void **state)
{
	(void)state;
	put("/etc/p.conf", "[rule a]\r\nexe = x\r\nweight = 2");
	expect("[rule a]\nexe = x\nweight = 2\n");
}

static void a_command_line_is_one_rule(void **state)
{
	const char *exes[] = { "x", "y" }, *cgroups[] = { "/a" };
	struct tide_attach_options options = { .exes = exes, .nr_exes = 2, .cgroups = cgroups,
					       .nr_cgroups = 1, .slow = "1" };
	struct config config;
	char message[TIDE_MESSAGE_MAX] = "";

	(void)state;
	assert_int_equal(config_from_options(&options, &config, message), 0);
	char *text = config_text(&config);
	assert_string_equal(text, "[tiers]\nslow = 1\n\n[rule command-line]\ncgroup = /a\nexe = x\nexe = y\n"
				  "weight = 5\n");
	free(text);
	config_free(&config);
}

static void a_file_of_tiers(void **state)
{
	const char *exes[] = { "x" };
	struct tide_attach_options options = { .exes = exes, .nr_exes = 1, .tiers_path = path };
	struct config config;
	char message[TIDE_MESSAGE_MAX] = "";

	(void)state;
	put("/etc/p.conf", "[tiers]\nfast = 0,2\nslow = 1\n");
	assert_int_equal(config_from_options(&options, &config, message), 0);
	assert_string_equal(config.fast, "0,2");
	assert_string_equal(config.slow, "1");
	config_free(&config);
	put("/etc/p.conf", "[tiers]\nfast = 0\n[rule x]\nexe = y\n");
	assert_int_equal(config_from_options(&options, &config, message), -EINVAL);
	assert_non_null(strstr(message, "p.conf:3: [rule x] does not belong here"));
}

#define CONFIG_TEST(test) cmocka_unit_test_setup_teardown(test, begin, tree_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONFIG_TEST(all_keys),
		CONFIG_TEST(drop_ins_add_and_replace),
		CONFIG_TEST(bad_files),
		CONFIG_TEST(the_last_line_needs_no_end),
		CONFIG_TEST(a_command_line_is_one_rule),
		CONFIG_TEST(a_file_of_tiers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
