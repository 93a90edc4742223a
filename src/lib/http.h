/* SPDX-License-Identifier: MIT */
/*
 * As much of HTTP/1.0 (RFC 1945) as a scrape needs: GET or HEAD of one path, one answer, the end.
 * Headers of the question are not looked at. Pure.
 */
#ifndef TIDE_HTTP_H
#define TIDE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

enum http_status {
	HTTP_MORE = 0,         /* the question is not whole yet */
	HTTP_OK = 200,
	HTTP_BAD = 400,
	HTTP_NOT_FOUND = 404,
	HTTP_NOT_ALLOWED = 405,
	HTTP_TOO_LARGE = 431,
};

/*
 * What to say to a question that asks for `path`, a query behind it or not. `last`: no more of it will
 * come, so it is not HTTP_MORE. *ret_head: only the head of the answer is wanted.
 */
enum http_status http_look(const char *question, const char *path, bool last, bool *ret_head);

/* An answer to be freed, with a body of this type; of errors the body is the reason. NULL: no memory. */
char *http_answer(enum http_status status, bool head, const char *type, const char *body,
		  size_t nr_body, size_t *ret_bytes);

#endif
