/* SPDX-License-Identifier: MIT */
/* What a scrape may ask, and what anything else that connects is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static void questions(void **state)
{
	static const struct {
		const char *text;
		bool last;
		enum http_status status;
	} cases[] = {
		{ "", false, HTTP_MORE },
		{ "GET /metrics HTTP/1.1\r\nHost: x\r\n", false, HTTP_MORE },
		{ "GET /metrics HTTP/1.0\r\n\r\n", false, HTTP_OK },
		{ "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n", false, HTTP_OK },
		{ "GET /metrics HTTP/1.0\n\n", false, HTTP_OK },
		{ "GET /metrics?name[]=a HTTP/1.0\r\n\r\n", false, HTTP_OK },
		{ "GET / HTTP/1.0\r\n\r\n", false, HTTP_NOT_FOUND },
		{ "GET /metricsx HTTP/1.0\r\n\r\n", false, HTTP_NOT_FOUND },
		{ "GET /metric HTTP/1.0\r\n\r\n", false, HTTP_NOT_FOUND },
		{ "POST /metrics HTTP/1.0\r\n\r\n", false, HTTP_NOT_ALLOWED },
		{ "get /metrics HTTP/1.0\r\n\r\n", false, HTTP_NOT_ALLOWED },
		{ "GET /metrics\r\n\r\n", false, HTTP_BAD },
		{ "GET  /metrics HTTP/1.0\r\n\r\n", false, HTTP_BAD },
		{ " GET /metrics HTTP/1.0\r\n\r\n", false, HTTP_BAD },
		{ "GET /metrics FTP/1.0\r\n\r\n", false, HTTP_BAD },
		{ "GET /metrics HTTP/\r\n\r\n", false, HTTP_BAD },
		{ "\r\n\r\n", false, HTTP_BAD },
		{ "\x16\x03\x01 TLS\n\n", false, HTTP_BAD },
		{ "rubbish", true, HTTP_BAD },
		{ "GET /metrics HTTP/1.0\r\nCookie: endless", true, HTTP_TOO_LARGE },
	};

	(void)state;
	for (size_t i = 0; i < NR(cases); i++) {
		bool head;
		if (http_look(cases[i].text, "/metrics", cases[i].last, &head) != cases[i].status)
			fail_msg("%s: not %d", cases[i].text, (int)cases[i].status);
		assert_false(head);
	}
}

static void answers(void **state)
{
	size_t bytes;
	bool head;

	(void)state;
	char *answer = http_answer(HTTP_OK, false, "text/plain", "body\n", 5, &bytes);
	assert_string_equal(answer, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
				    "Connection: close\r\n\r\nbody\n");
	assert_int_equal(bytes, strlen(answer));
	free(answer);
	assert_int_equal(http_look("HEAD /metrics HTTP/1.0\r\n\r\n", "/metrics", false, &head), HTTP_OK);
	assert_true(head);
	answer = http_answer(HTTP_OK, true, "text/plain", "body\n", 5, &bytes);
	assert_non_null(strstr(answer, "Content-Length: 5\r\n"));
	assert_string_equal(answer + bytes - 4, "\r\n\r\n");
	free(answer);
	answer = http_answer(HTTP_NOT_ALLOWED, false, "text/plain", "no", 2, &bytes);
	assert_non_null(strstr(answer, "405 Method Not Allowed"));
	assert_non_null(strstr(answer, "Allow: GET, HEAD\r\n"));
	free(answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions),
		cmocka_unit_test(answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
