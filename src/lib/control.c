/* SPDX-License-Identifier: MIT */
#include "control.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assert.h"
#include "clock.h"
#include "json.h"
#include "request.h"
#include "select.h"
#include "text.h"
#include "tiers.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define PAGE_BYTES 4096u
#define PPM_OF_BP 100u

static json_t *settings_json(const struct attach *a)
{
	json_t *settings = json_object();

	number_set(settings, "rate_bytes_per_s", a->tiering.config.rate_pages_per_s * PAGE_BYTES);
	number_set(settings, "stall_ns", a->stall_ns);
	number_set(settings, "cpu_ppm", a->tempo.scan.config.share_ppm);
	return settings;
}

static json_t *head_json(const struct attach *a, const char *schema)
{
	json_t *root = json_object();

	json_object_set_new(root, "schema", json_string(schema));
	json_object_set_new(root, "version", json_string(TIDE_VERSION));
	number_set(root, "pid", (uint64_t)getpid());
	json_object_set_new(root, "state", json_string(a->paused ? "paused" : "running"));
	json_object_set_new(root, "settings", settings_json(a));
	return root;
}

/* It may quote what was asked, in any bytes, and be cut. */
static json_t *error_json(char *message)
{
	json_t *root = json_object();

	text_utf8_clean(message);
	json_object_set_new(root, "schema", json_string(REQUEST_PROTOCOL));
	json_object_set_new(root, "error", json_string(message));
	return root;
}

/* ---- what is asked ---- */

static int changes_look(struct attach *a, const struct request *request,
			char ret_message[TIDE_MESSAGE_MAX])
{
	for (size_t i = 0; i < request->nr_changes; i++) {
		int pid = request->changes[i].pid;
		const struct watch *watch = pid ? select_find(a, pid) : NULL;

		if (pid && (!watch || watch->ended)) {
			MESSAGE("process %d is not looked after: pagetide status lists those that are", pid);
			return -ESRCH;
		}
	}
	return 0;
}

static void stall_change(struct attach *a, uint64_t stall_ns)
{
	a->stall_ns = stall_ns;
	for (struct watch *w = a->watches; w; w = w->next)
		process_set_stall(w->process, stall_ns);
}

/* What is taken back select_tuned() gives. */
static void process_change(struct watch *watch, const struct request_change *change)
{
	uint64_t pages = change->value == UINT64_MAX ? UINT64_MAX : change->value / PAGE_BYTES;
	bool tuned = !change->standard;

	tide_assert(watch); /* such a key names a process, and changes_look() has found it */
	if (change->key == REQUEST_WEIGHT) {
		watch->tuned.weight = tuned;
		if (tuned)
			watch->space.weight = (uint32_t)change->value;
	} else if (change->key == REQUEST_FAST_MIN) {
		watch->tuned.fast_min = tuned;
		watch->tuned.fast_min_pages = pages;
	} else {
		watch->tuned.fast_max = tuned;
		watch->tuned.fast_max_pages = pages;
	}
}

static void change_make(struct attach *a, const struct request_change *change)
{
	bool standard = change->standard;

	switch (change->key) {
	case REQUEST_RATE:
		a->tiering.config.rate_pages_per_s = standard ? TIERS_RATE_PAGES_PER_S
							      : change->value / PAGE_BYTES;
		break;
	case REQUEST_STALL:
		stall_change(a, standard ? MOVE_STALL_NS : change->value);
		break;
	case REQUEST_CPU:
		scan_bound(&a->tempo.scan, standard ? TEMPO_CPU_PPM : (uint32_t)change->value * PPM_OF_BP,
			   a->tempo.scan.config.max_ns);
		break;
	case REQUEST_WEIGHT:
	case REQUEST_FAST_MIN:
	case REQUEST_FAST_MAX:
		process_change(select_find(a, change->pid), change);
		break;
	case REQUEST_KEYS:
		break;
	}
}

static json_t *request_obey(struct attach *a, const struct request *request)
{
	char message[TIDE_MESSAGE_MAX];
	json_t *root;
	int error;

	switch (request->verb) {
	case REQUEST_STATUS:
		root = head_json(a, "pagetide.status/1");
		json_object_set_new(root, "report", attach_report(a, clock_now_ns()));
		return root;
	case REQUEST_PAUSE:
	case REQUEST_RESUME:
		error = attach_pause(a, request->verb == REQUEST_PAUSE);
		if (error) {
			snprintf(message, sizeof message, "cannot pause: the sensor: %s", strerror(-error));
			return error_json(message);
		}
		break;
	case REQUEST_TUNE:
		if (changes_look(a, request, message))
			return error_json(message);
		for (size_t i = 0; i < request->nr_changes; i++)
			change_make(a, &request->changes[i]);
		select_tuned(a);
		break;
	case REQUEST_VERBS:
		break;
	}
	return head_json(a, REQUEST_PROTOCOL);
}

char *control_answer(struct attach *a, const char *line)
{
	struct request request;
	char message[TIDE_MESSAGE_MAX];
	json_t *root = request_parse(line, &request, message) ? error_json(message) :
								request_obey(a, &request);

	return document_write(root);
}

/* ---- the socket ---- */

static char *question_answer(void *arg, const char *question, bool last, size_t *ret_bytes)
{
	const char *end = strchr(question, '\n');
	char line[DOOR_QUESTION_BYTES];

	if (!end && !last)
		return NULL;
	snprintf(line, sizeof line, "%.*s", end ? (int)(end - question) : -1, question);
	char *text = control_answer(arg, line);
	*ret_bytes = text ? strlen(text) : 0;
	return text;
}

static int refuse(const char *path, int error, char ret_message[TIDE_MESSAGE_MAX])
{
	switch (error) {
	case -EADDRINUSE:
		MESSAGE("%.120s: another pagetide answers there: name another with --control PATH", path);
		return -EBUSY;
	case -EEXIST:
		MESSAGE("--control %.120s: there is something else than a socket: name another path", path);
		return -EINVAL;
	case -ENAMETOOLONG:
		MESSAGE("--control %.80s...: too long for a socket: at most 107 bytes", path);
		return -EINVAL;
	default:
		MESSAGE("--control %.120s: cannot be made: %s: name another path", path, strerror(-error));
		return -EINVAL;
	}
}

int control_open(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const char *path = a->options->control_path;
	struct stream stream;
	int error = stream_listen_path(path ? path : TIDE_CONTROL_PATH, 0600, &stream);

	if (error && !path) {
		attach_warn(a, "no control socket: " TIDE_CONTROL_PATH " cannot be made, or another "
			       "pagetide has it: --control PATH names another");
		return 0;
	}
	if (error)
		return refuse(path, error, ret_message);
	door_open(&a->control, &stream, true, question_answer, a);
	return 0;
}

void control_close(struct attach *a)
{
	door_close(&a->control);
}
