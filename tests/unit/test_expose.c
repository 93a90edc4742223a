/* SPDX-License-Identifier: MIT */
/* The text of metrics, letter by letter. That real text keeps the grammar the guest cases see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "expose.h"

static char text[4096];

static FILE *begin(void)
{
	memset(text, 0, sizeof text);
	return fmemopen(text, sizeof text, "w");
}

static void counters_and_gauges(void **state)
{
	static const struct expose_family counter = { "x_bytes", EXPOSE_COUNTER, "bytes", "What it counts." };
	static const struct expose_family gauge = { "y", EXPOSE_GAUGE, NULL, "What it is." };
	FILE *file = begin();

	(void)state;
	expose_begin(file, &counter);
	expose_number(file, &counter, EXPOSE_LABELS({ "from", "0" }, { "to", "1" }), UINT64_MAX);
	expose_begin(file, &gauge);
	expose_number(file, &gauge, NULL, 0, 0);
	expose_end(file);
	fclose(file);
	assert_string_equal(text, "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes What it counts.\n"
				  "x_bytes_total{from=\"0\",to=\"1\"} 18446744073709551615\n"
				  "# TYPE y gauge\n# HELP y What it is.\ny 0\n# EOF\n");
}

static void any_name_is_a_label(void **state)
{
	static const struct expose_family gauge = { "y", EXPOSE_GAUGE, NULL, "What it is." };
	FILE *file = begin();

	(void)state;
	expose_number(file, &gauge, EXPOSE_LABELS({ "name", "a\"b\\c\nd{}=, \xc3\xa9" }), 1);
	expose_number(file, &gauge, EXPOSE_LABELS({ "name", "" }), 2);
	fclose(file);
	assert_string_equal(text, "y{name=\"a\\\"b\\\\c\\nd{}=, \xc3\xa9\"} 1\ny{name=\"\"} 2\n");
}

static void times_are_seconds(void **state)
{
	static const struct expose_family counter = { "t_seconds", EXPOSE_COUNTER, "seconds", "A time." };
	FILE *file = begin();

	(void)state;
	expose_seconds(file, &counter, NULL, 0, 1);
	expose_seconds(file, &counter, NULL, 0, UINT64_C(12345678901234));
	fclose(file);
	assert_string_equal(text, "t_seconds_total 0.000000001\nt_seconds_total 12345.678901234\n");
}

static void buckets_add_up(void **state)
{
	static const struct expose_family histogram = { "h_seconds", EXPOSE_HISTOGRAM, "seconds", "Times." };
	static const uint64_t bounds[] = { 500, 1000000000 }, counts[] = { 3, 0 };
	FILE *file = begin();

	(void)state;
	expose_begin(file, &histogram);
	expose_histogram(file, &histogram, bounds, counts, 2, 4, 1500000000);
	fclose(file);
	assert_string_equal(text, "# TYPE h_seconds histogram\n# UNIT h_seconds seconds\n"
				  "# HELP h_seconds Times.\n"
				  "h_seconds_bucket{le=\"0.000000500\"} 3\n"
				  "h_seconds_bucket{le=\"1.000000000\"} 3\n"
				  "h_seconds_bucket{le=\"+Inf\"} 7\n"
				  "h_seconds_count 7\nh_seconds_sum 1.500000000\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_and_gauges),
		cmocka_unit_test(any_name_is_a_label),
		cmocka_unit_test(times_are_seconds),
		cmocka_unit_test(buckets_add_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
