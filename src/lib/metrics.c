/* SPDX-License-Identifier: MIT */
/* When and to whom the metrics go; what they say is in metrics_text.c. */
#include "metrics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "file.h"
#include "http.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define TEXT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Make the text new when it is old. -ENOMEM: there is none. */
static int text_renew(struct attach *a, uint64_t now_ns)
{
	struct metrics *m = &a->metrics;

	if (m->text && now_ns - m->made_ns < METRICS_FRESH_NS)
		return 0;
	free(m->text);
	m->text = metrics_text(a, now_ns, &m->nr_text);
	m->made_ns = now_ns;
	return m->text ? 0 : -ENOMEM;
}

/* ---- the socket ---- */

static char *question_answer(void *arg, const char *question, bool last, size_t *ret_bytes)
{
	static const char why[] = "Only GET /metrics is answered here.\n";
	struct attach *a = arg;
	bool head;
	enum http_status status = http_look(question, "/metrics", last, &head);

	if (status == HTTP_MORE)
		return NULL;
	if (status != HTTP_OK)
		return http_answer(status, head, "text/plain", why, sizeof why - 1, ret_bytes);
	if (text_renew(a, clock_now_ns()))
		return NULL;
	return http_answer(status, head, TEXT_TYPE, a->metrics.text, a->metrics.nr_text, ret_bytes);
}

static int refuse(const char *address, int error, char ret_message[TIDE_MESSAGE_MAX])
{
	switch (error) {
	case -EINVAL:
		MESSAGE("--metrics-listen %.80s: not an address: write 127.0.0.1:9464, [::1]:9464 or unix:PATH",
			address);
		return error;
	case -EPERM:
		MESSAGE("--metrics-listen %.80s: others could reach it: listen at 127.0.0.1 or [::1], and put a "
			"proxy with access control before it", address);
		return -EINVAL;
	case -EEXIST:
		MESSAGE("--metrics-listen %.80s: there is something else than a socket: name another", address);
		return -EINVAL;
	case -EADDRINUSE:
		MESSAGE("--metrics-listen %.80s: somebody else listens there: name another port", address);
		return error;
	default:
		MESSAGE("--metrics-listen %.80s: %s: name another", address, strerror(-error));
		return -EINVAL;
	}
}

static int listener_open(struct attach *a, const char *address, char ret_message[TIDE_MESSAGE_MAX])
{
	struct stream stream;
	/* The folder says who may connect to a path. */
	int error = !strncmp(address, "unix:", 5) ? stream_listen_path(address + 5, 0666, &stream) :
						   stream_listen_loopback(address, &stream);

	if (error)
		return refuse(address, error, ret_message);
	door_open(&a->metrics.door, &stream, false, question_answer, a);
	return 0;
}

/* ---- the file ---- */

static int file_write(struct attach *a, uint64_t now_ns)
{
	int error = text_renew(a, now_ns);

	a->metrics.written_ns = now_ns;
	if (!error)
		error = file_replace(a->options->metrics_file, a->metrics.text, a->metrics.nr_text);
	a->metrics.file_there |= !error;
	return error;
}

void metrics_look(struct attach *a, uint64_t now_ns)
{
	struct metrics *m = &a->metrics;

	if (!a->options->metrics_file || (m->written_ns && now_ns - m->written_ns < METRICS_FILE_NS))
		return;
	int error = file_write(a, now_ns);
	if (error && !m->failed && !a->options->quiet)
		fprintf(stderr, "pagetide: --metrics-file %s: cannot be written: %s\n",
			a->options->metrics_file, strerror(-error));
	m->failed = error;
}

int metrics_open(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct tide_attach_options *o = a->options;
	int error = 0;

	a->metrics.start_ns = clock_ns(CLOCK_REALTIME);
	if (o->metrics_listen)
		error = listener_open(a, o->metrics_listen, ret_message);
	if (error || !o->metrics_file)
		return error;
	/* Whether it can be written should be known now; what another writes there stays until we are at work. */
	error = file_may_replace(o->metrics_file);
	if (error == -EEXIST) {
		MESSAGE("--metrics-file %.120s: it is no plain file: name another", o->metrics_file);
		return -EINVAL;
	}
	if (error) {
		MESSAGE("--metrics-file %.120s: cannot be written: %s: name another", o->metrics_file,
			strerror(-error));
		return -EINVAL;
	}
	return 0;
}

void metrics_close(struct attach *a)
{
	door_close(&a->metrics.door);
	if (a->metrics.file_there)
		file_remove(a->options->metrics_file);
	free(a->metrics.text);
}
