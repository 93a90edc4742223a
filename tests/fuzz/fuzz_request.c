/* SPDX-License-Identifier: MIT */
/*
 * Any text to the control socket and to the metrics listener: a refusal says why and writes nothing,
 * what is understood is within its bounds, and more of a question never takes an answer back.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void request_try(const char *line)
{
	struct request request = { .verb = REQUEST_VERBS, .nr_changes = 77 };
	char message[TIDE_MESSAGE_MAX] = "";

	if (request_parse(line, &request, message)) {
		must(request.verb == REQUEST_VERBS && request.nr_changes == 77);
		must(message[0] && strlen(message) < sizeof message);
		return;
	}
	must(request.verb < REQUEST_VERBS && request.nr_changes <= REQUEST_CHANGES_MAX);
	must((request.verb == REQUEST_TUNE) == (request.nr_changes > 0));
	for (size_t i = 0; i < request.nr_changes; i++) {
		const struct request_change *change = &request.changes[i];
		must(change->key < REQUEST_KEYS && (change->pid > 0) == (change->key >= REQUEST_WEIGHT));
		if (change->standard) /* whatever that is */
			continue;
		must(change->key != REQUEST_WEIGHT || change->value <= 10);
		must(change->key != REQUEST_CPU || (change->value && change->value <= 10000));
	}
}

static void http_try(char *question, size_t size)
{
	bool head;
	enum http_status whole = http_look(question, "/metrics", true, &head);
	enum http_status first = http_look(question, "/metrics", false, &head);

	must(whole != HTTP_MORE && (first == HTTP_MORE || first == whole));
	question[size / 2] = '\0';
	enum http_status half = http_look(question, "/metrics", false, &head);
	must(half == HTTP_MORE || half == first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char protocol[] = REQUEST_PROTOCOL " ";
	char *text = malloc(sizeof protocol + size);

	must(text != NULL);
	memcpy(text, protocol, sizeof protocol - 1);
	memcpy(text + sizeof protocol - 1, data, size);
	text[sizeof protocol - 1 + size] = '\0';
	request_try(text);
	request_try(text + sizeof protocol - 1);
	http_try(text + sizeof protocol - 1, size);
	free(text);
	return 0;
}
