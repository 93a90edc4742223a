/* SPDX-License-Identifier: MIT */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The words of "GET /path HTTP/1.0". */
struct line {
	const char *method, *target, *version;
	int nr_method, nr_target, nr_version;
};

static bool line_split(const char *text, int length, struct line *ret)
{
	const char *end = text + length;
	const char *first = memchr(text, ' ', (size_t)length);
	const char *second = first ? memchr(first + 1, ' ', (size_t)(end - first - 1)) : NULL;

	if (!second)
		return false;
	*ret = (struct line){
		.method = text, .nr_method = (int)(first - text),
		.target = first + 1, .nr_target = (int)(second - first - 1),
		.version = second + 1, .nr_version = (int)(end - second - 1),
	};
	return ret->nr_method && ret->nr_target && ret->nr_version > 5 && !memcmp(ret->version, "HTTP/", 5);
}

static bool is(const char *text, int length, const char *wanted)
{
	return (size_t)length == strlen(wanted) && !memcmp(text, wanted, (size_t)length);
}

enum http_status http_look(const char *question, const char *path, bool last, bool *ret_head)
{
	bool whole = strstr(question, "\r\n\r\n") || strstr(question, "\n\n");
	struct line line;

	*ret_head = false;
	if (!whole)
		return last ? strchr(question, '\n') ? HTTP_TOO_LARGE : HTTP_BAD : HTTP_MORE;
	if (!line_split(question, (int)strcspn(question, "\r\n"), &line))
		return HTTP_BAD;
	*ret_head = is(line.method, line.nr_method, "HEAD");
	if (!*ret_head && !is(line.method, line.nr_method, "GET"))
		return HTTP_NOT_ALLOWED;
	const char *query = memchr(line.target, '?', (size_t)line.nr_target);
	int nr_target = query ? (int)(query - line.target) : line.nr_target;
	return is(line.target, nr_target, path) ? HTTP_OK : HTTP_NOT_FOUND;
}

static const char *status_text(enum http_status status)
{
	switch (status) {
	case HTTP_OK:
		return "OK";
	case HTTP_NOT_FOUND:
		return "Not Found";
	case HTTP_NOT_ALLOWED:
		return "Method Not Allowed";
	case HTTP_TOO_LARGE:
		return "Request Header Fields Too Large";
	case HTTP_BAD:
	case HTTP_MORE:
		break;
	}
	return "Bad Request";
}

char *http_answer(enum http_status status, bool head, const char *type, const char *body,
		  size_t nr_body, size_t *ret_bytes)
{
	char *answer = NULL;
	FILE *file = open_memstream(&answer, ret_bytes);

	if (!file)
		return NULL;
	fprintf(file, "HTTP/1.0 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%sConnection: close\r\n\r\n",
		(int)status, status_text(status), type, nr_body,
		status == HTTP_NOT_ALLOWED ? "Allow: GET, HEAD\r\n" : "");
	if (!head)
		fwrite(body, 1, nr_body, file);
	if (fclose(file)) {
		free(answer);
		return NULL;
	}
	return answer;
}
