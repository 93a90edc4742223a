/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "text.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))
#define UNTOUCHED UINT64_C(0x5eed5eed5eed5eed)
#define GIB (UINT64_C(1) << 30)

static void sizes_in_every_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "1K", 1024 },
		{ "512M", UINT64_C(512) << 20 },
		{ "512m", UINT64_C(512) << 20 },
		{ "512MiB", UINT64_C(512) << 20 },
		{ "2G", 2 * GIB },
		{ "1.5G", GIB + GIB / 2 },
		{ "0.5K", 512 },
		{ "0.000000001G", 1 },
		{ "3T", 3 * 1024 * GIB },
		{ "8388607T", UINT64_C(8388607) << 40 },
		{ "9223372036854775807", INT64_MAX },
		{ "40%", 4 * GIB },
		{ "100%", 10 * GIB },
		{ "0.1%", GIB / 100 },
		{ "0%", 0 },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		uint64_t bytes = UNTOUCHED;

		assert_int_equal(text_size_parse(cases[i].text, 10 * GIB, &bytes), 0);
		assert_int_equal(bytes, cases[i].bytes);
	}
}

static void bad_sizes_say_why_and_write_nothing(void **state)
{
	static const struct {
		const char *text;
		int err;
	} cases[] = {
		{ "", -EINVAL },
		{ "M", -EINVAL },
		{ "-1M", -EINVAL },
		{ "+1M", -EINVAL },
		{ " 1M", -EINVAL },
		{ "1.M", -EINVAL },
		{ ".5G", -EINVAL },
		{ "%", -EINVAL },
		{ "0x10", -EDOM },
		{ "1M ", -EDOM },
		{ "1MM", -EDOM },
		{ "1MB", -EDOM },
		{ "1iB", -EDOM },
		{ "1Q", -EDOM },
		{ "40%%", -EDOM },
		{ "1,5G", -EDOM },
		{ "9223372036854775808", -ERANGE },
		{ "18446744073709551616", -ERANGE },
		{ "8388608T", -ERANGE },
		{ "16777216T", -ERANGE },
		{ "99999999999999999999999999", -ERANGE },
		{ "0.0000000001G", -ERANGE },
		{ "101%", -ERANGE },
		{ "100.1%", -ERANGE },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		uint64_t bytes = UNTOUCHED;

		assert_int_equal(text_size_parse(cases[i].text, 10 * GIB, &bytes), cases[i].err);
		assert_int_equal(bytes, UNTOUCHED);
	}
}

static void a_share_of_nothing_known_is_refused(void **state)
{
	uint64_t bytes = UNTOUCHED;

	(void)state;
	assert_int_equal(text_size_parse("40%", 0, &bytes), -ERANGE);
	assert_int_equal(bytes, UNTOUCHED);
	assert_int_equal(text_size_parse("1M", 0, &bytes), 0);
	assert_int_equal(bytes, 1 << 20);
}

static void times_need_a_unit(void **state)
{
	static const struct {
		const char *text;
		int err;
		uint64_t ns;
	} cases[] = {
		{ "250ms", 0, 250000000 },
		{ "30s", 0, UINT64_C(30000000000) },
		{ "1.5us", 0, 1500 },
		{ "7ns", 0, 7 },
		{ "2m", 0, UINT64_C(120000000000) },
		{ "1h", 0, UINT64_C(3600000000000) },
		{ "0s", 0, 0 },
		{ "30", -EDOM, UNTOUCHED },
		{ "30S", -EDOM, UNTOUCHED },
		{ "30sec", -EDOM, UNTOUCHED },
		{ "ms", -EINVAL, UNTOUCHED },
		{ "2562047h", 0, UINT64_C(2562047) * 3600 * 1000000000 },
		{ "2562048h", -ERANGE, UNTOUCHED },
		{ "5124095h", -ERANGE, UNTOUCHED },
		{ "9999999999h", -ERANGE, UNTOUCHED },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		uint64_t ns = UNTOUCHED;

		assert_int_equal(text_time_parse(cases[i].text, &ns), cases[i].err);
		assert_int_equal(ns, cases[i].ns);
	}
}

static void shares_in_hundredths_of_a_percent(void **state)
{
	static const struct {
		const char *text;
		int err;
		uint32_t bp;
	} cases[] = {
		{ "1", 0, 100 },      { "1%", 0, 100 },      { "0.5", 0, 50 },
		{ "0.01%", 0, 1 },    { "100", 0, 10000 },   { "0", 0, 0 },
		{ "101", -ERANGE, 7 }, { "100.5", -ERANGE, 7 }, { "x", -EINVAL, 7 },
		{ "1M", -EDOM, 7 },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		uint32_t bp = 7;

		assert_int_equal(text_share_parse(cases[i].text, &bp), cases[i].err);
		assert_int_equal(bp, cases[i].bp);
	}
}

static void sizes_and_times_as_people_write_them(void **state)
{
	static const struct {
		uint64_t value;
		const char *size;
		const char *time;
	} cases[] = {
		{ 0, "0", "0ns" },
		{ 999, "999", "999ns" },
		{ 1024, "1K", "1us" },
		{ 1536, "1.5K", "1.5us" },
		{ UINT64_C(512) << 20, "512M", "536ms" },
		{ GIB + GIB / 10 * 3, "1.2G", "1.3s" },
		{ UINT64_MAX, "16777215T", "5124095h" },
	};
	char buffer[TEXT_NUMBER_BYTES];

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		assert_string_equal(text_size_format(buffer, cases[i].value), cases[i].size);
		assert_string_equal(text_time_format(buffer, cases[i].value), cases[i].time);
	}
}

/* Over every power of two and its neighbours: reading back loses at most what one decimal hides. */
static void what_is_formatted_parses_again(void **state)
{
	(void)state;
	for (unsigned int bit = 0; bit < 63; bit++) {
		for (int offset = -1; offset <= 1; offset++) {
			uint64_t value = (UINT64_C(1) << bit) + (uint64_t)(int64_t)offset;
			uint64_t again;
			char buffer[TEXT_NUMBER_BYTES];

			assert_int_equal(text_size_parse(text_size_format(buffer, value), 0, &again), 0);
			assert_true(again <= value && value - again <= value / 10);
			assert_int_equal(text_time_parse(text_time_format(buffer, value), &again), 0);
			assert_true(again <= value && value - again <= value / 10);
		}
	}
}

static void distances(void **state)
{
	static const struct {
		const char *a, *b;
		size_t distance;
	} cases[] = {
		{ "", "", 0 },       { "", "abc", 3 },        { "tier", "tier", 0 },
		{ "teir", "tier", 1 }, { "tie", "tier", 1 },  { "tiers", "tier", 1 },
		{ "tyer", "tier", 1 }, { "lz5", "lz4", 1 },   { "memroy", "memory", 1 },
		{ "kitten", "sitting", 3 }, { "abc", "xyz", 3 },
	};
	char long_name[TEXT_NAME_MAX + 2];

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		assert_int_equal(text_distance(cases[i].a, cases[i].b), cases[i].distance);
		assert_int_equal(text_distance(cases[i].b, cases[i].a), cases[i].distance);
	}
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	assert_int_equal(text_distance(long_name, "x"), SIZE_MAX);
	long_name[TEXT_NAME_MAX] = '\0';
	assert_int_equal(text_distance(long_name, "x"), TEXT_NAME_MAX - 1);
}

static void nearest_name_or_none(void **state)
{
	static const char *const names[] = { "tier", "memory", "stats", "summary", "quiet", "hard" };
	static const struct {
		const char *wrong, *nearest;
	} cases[] = {
		{ "teir", "tier" },   { "memry", "memory" }, { "stat", "stats" },
		{ "sumary", "summary" }, { "tier", "tier" }, { "zebra", NULL },
		{ "x", NULL },        { "", NULL },          { "quite", "quiet" },
		{ "herd", "hard" },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		const char *nearest = text_nearest(cases[i].wrong, names, NR(names));

		if (cases[i].nearest)
			assert_string_equal(nearest, cases[i].nearest);
		else
			assert_null(nearest);
	}
}

static void names_of_any_bytes_become_text(void **state)
{
	static const struct {
		const char *bytes, *text;
	} cases[] = {
		{ "", "" },
		{ "redis-server", "redis-server" },
		{ "caf\xc3\xa9", "caf\xc3\xa9" },
		{ "\xe2\x82\xac\xf0\x9f\x90\xa7", "\xe2\x82\xac\xf0\x9f\x90\xa7" },
		{ "\x1b[2J\a\n\x7f", "?[2J???" },  /* what a terminal would obey */
		{ "\xc2\x9b" "2J\xc2\x80\xc2\xa0", "??2J??\xc2\xa0" },
		{ "a\xc3", "a?" },                   /* cut off */
		{ "\xf0\x9f\x90", "???" },
		{ "\xe2\x82z", "??z" },
		{ "\xff\xfe\x80", "???" },
		{ "\xc0\xaf", "??" },               /* longer than needed */
		{ "\xe0\x80\xaf", "???" },
		{ "\xed\xa0\x80", "???" },         /* half a pair */
		{ "\xf4\x90\x80\x80", "????" },    /* beyond the last */
		{ "\xf5\x80\x80\x80", "????" },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		char text[16];

		strcpy(text, cases[i].bytes);
		text_utf8_clean(text);
		assert_string_equal(text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_in_every_unit),
		cmocka_unit_test(bad_sizes_say_why_and_write_nothing),
		cmocka_unit_test(a_share_of_nothing_known_is_refused),
		cmocka_unit_test(times_need_a_unit),
		cmocka_unit_test(shares_in_hundredths_of_a_percent),
		cmocka_unit_test(sizes_and_times_as_people_write_them),
		cmocka_unit_test(what_is_formatted_parses_again),
		cmocka_unit_test(distances),
		cmocka_unit_test(nearest_name_or_none),
		cmocka_unit_test(names_of_any_bytes_become_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
