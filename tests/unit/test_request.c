/* SPDX-License-Identifier: MIT */
/* The lines of the control socket: what is understood, and what is said of what is not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control.h"
#include "request.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))
#define P "pagetide.control/1 "

static void verbs_without_words(void **state)
{
	static const char *const lines[REQUEST_VERBS - 1] = { P "status", P "pause", P "resume" };

	(void)state;
	for (unsigned i = 0; i < NR(lines); i++) {
		struct request request;
		char message[TIDE_MESSAGE_MAX];
		assert_int_equal(request_parse(lines[i], &request, message), 0);
		assert_int_equal(request.verb, i);
		assert_int_equal(request.nr_changes, 0);
	}
}

static void every_setting(void **state)
{
	static const struct request_change wanted[] = {
		{ REQUEST_RATE, 0, UINT64_C(256) << 20, false }, { REQUEST_RATE, 0, 0, false },
		{ REQUEST_STALL, 0, 5000000, false }, { REQUEST_CPU, 0, 50, false }, { REQUEST_WEIGHT, 4711, 0, false },
		{ REQUEST_WEIGHT, 4711, 10, false }, { REQUEST_FAST_MIN, 1, UINT64_C(1) << 30, false },
		{ REQUEST_FAST_MAX, 2, UINT64_C(2) << 30, false }, { REQUEST_FAST_MAX, 2, UINT64_MAX, false },
	};
	static const enum request_key back[] = { REQUEST_RATE, REQUEST_STALL, REQUEST_CPU, REQUEST_WEIGHT,
						 REQUEST_FAST_MIN, REQUEST_FAST_MAX };
	struct request request;
	char message[TIDE_MESSAGE_MAX];

	(void)state;
	assert_int_equal(request_parse(P "tune rate=256M rate=0 stall=5ms cpu=0.5% weight=4711:0 "
				       "weight=4711:10 fast_min=1:1G fast_max=2:2G fast_max=2:none",
				       &request, message), 0);
	assert_int_equal(request.verb, REQUEST_TUNE);
	assert_int_equal(request.nr_changes, NR(wanted));
	for (size_t i = 0; i < NR(wanted); i++) {
		assert_int_equal(request.changes[i].key, wanted[i].key);
		assert_int_equal(request.changes[i].pid, wanted[i].pid);
		assert_true(request.changes[i].value == wanted[i].value);
		assert_false(request.changes[i].standard);
	}
	/* And taken back. */
	assert_int_equal(request_parse(P "tune rate=default stall=default cpu=default weight=4711:default "
				       "fast_min=4711:default fast_max=4711:default", &request, message), 0);
	assert_int_equal(request.nr_changes, NR(back));
	for (size_t i = 0; i < NR(back); i++) {
		assert_int_equal(request.changes[i].key, back[i]);
		assert_int_equal(request.changes[i].pid, i < 3 ? 0 : 4711);
		assert_true(request.changes[i].standard);
	}
}

static void what_is_wrong_is_said_and_nothing_written(void **state)
{
	static const struct {
		const char *line;
		int error;
		const char *said;
	} cases[] = {
		{ "", -EPROTO, "nothing is not spoken here" },
		{ "status", -EPROTO, "status is not spoken here" },
		{ "pagetide.control/2 status", -EPROTO, "pagetide.control/1 is" },
		{ "GET / HTTP/1.0", -EPROTO, "GET is not spoken" },
		{ P, -EINVAL, "ask for status" },
		{ P "stop", -EINVAL, "ask for status, pause, resume or tune" },
		{ P "pause now", -EINVAL, "pause takes nothing: leave out now" },
		{ P "tune", -EINVAL, "which setting?" },
		{ P "tune rate", -EINVAL, "write KEY=VALUE" },
		{ P "tune =1", -EINVAL, "write KEY=VALUE" },
		{ P "tune rat=1G", -EINVAL, "did you mean rate?" },
		{ P "tune wieght=1:1", -EINVAL, "did you mean weight?" },
		{ P "tune zzzzz=1", -EINVAL, "there are rate, stall, cpu" },
		{ P "tune rate=", -EINVAL, "write rate=512M" },
		{ P "tune rate=fast", -EINVAL, "write rate=512M" },
		{ P "tune rate=1", -EINVAL, "4K to 1024T" },
		{ P "tune rate=65536T", -EINVAL, "4K to 1024T" },
		{ P "tune rate=-1", -EINVAL, "not a value" },
		{ P "tune rate=99999999T", -EINVAL, "not a value" },
		{ P "tune stall=20", -EINVAL, "write stall=20ms" },
		{ P "tune stall=1us", -EINVAL, "100us to 1s" },
		{ P "tune stall=2s", -EINVAL, "100us to 1s" },
		{ P "tune cpu=0%", -EINVAL, "0.01% to 100%" },
		{ P "tune cpu=101%", -EINVAL, "0.01% to 100%" },
		{ P "tune weight=5", -EINVAL, "of which process?" },
		{ P "tune weight=0:5", -EINVAL, "of which process?" },
		{ P "tune weight=-4:5", -EINVAL, "of which process?" },
		{ P "tune weight=99999999999999999999:5", -EINVAL, "of which process?" },
		{ P "tune weight=4711:11", -EINVAL, "0 (leave alone) to 10" },
		{ P "tune weight=4711:", -EINVAL, "0 (leave alone) to 10" },
		{ P "tune weight=4711:5x", -EINVAL, "0 (leave alone) to 10" },
		{ P "tune fast_min=4711:none", -EINVAL, "write fast_min=PID:512M" },
		{ P "tune weight=default", -EINVAL, "of which process?" },
		{ P "tune rate=defualt", -EINVAL, "or default" },
		{ P "tune rate=1G rat=1G", -EINVAL, "did you mean rate?" },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		struct request request = { .verb = REQUEST_VERBS, .nr_changes = 77 };
		char message[TIDE_MESSAGE_MAX] = "";
		assert_int_equal(request_parse(cases[i].line, &request, message), cases[i].error);
		if (!strstr(message, cases[i].said))
			fail_msg("%s: said %s", cases[i].line, message);
		assert_int_equal(request.verb, REQUEST_VERBS);
		assert_int_equal(request.nr_changes, 77);
	}
}

static void long_lines_are_refused(void **state)
{
	char line[3 * REQUEST_BYTES], message[TIDE_MESSAGE_MAX];
	struct request request;

	(void)state;
	memset(line, 'x', sizeof line - 1);
	line[sizeof line - 1] = '\0';
	assert_int_equal(request_parse(line, &request, message), -EINVAL);
	/* A word of any length is cut in what is said of it. */
	memcpy(line, P, strlen(P));
	line[REQUEST_BYTES - 1] = '\0';
	assert_int_equal(request_parse(line, &request, message), -EINVAL);
	strcpy(line, P "tune");
	for (unsigned i = 0; i <= REQUEST_CHANGES_MAX; i++)
		strcat(line, " cpu=1%");
	assert_int_equal(request_parse(line, &request, message), -EINVAL);
	assert_non_null(strstr(message, "in parts"));
}

/* What is quoted may be no text: it is an answer with its reason nevertheless. */
static void any_bytes_are_answered(void **state)
{
	static const char *const lines[] = { "\xff\xfe", P "tune \xc3=1", P "tune rate=\xe2\x82" };

	(void)state;
	for (unsigned i = 0; i < NR(lines); i++) {
		char *text = control_answer(NULL, lines[i]);
		assert_non_null(text);
		json_t *root = json_loads(text, 0, NULL);
		assert_non_null(root);
		assert_non_null(json_string_value(json_object_get(root, "error")));
		json_decref(root);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verbs_without_words),
		cmocka_unit_test(every_setting),
		cmocka_unit_test(what_is_wrong_is_said_and_nothing_written),
		cmocka_unit_test(long_lines_are_refused),
		cmocka_unit_test(any_bytes_are_answered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
