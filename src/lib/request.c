/* SPDX-License-Identifier: MIT */
#include "request.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"
#include "tiering.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define PAGE_BYTES 4096u
#define RATE_MOST_BYTES (UINT64_C(1) << 50)
#define STALL_LEAST_NS UINT64_C(100000)
#define STALL_MOST_NS UINT64_C(1000000000)

static const char *const verb_names[REQUEST_VERBS] = {
	[REQUEST_STATUS] = "status",
	[REQUEST_PAUSE] = "pause",
	[REQUEST_RESUME] = "resume",
	[REQUEST_TUNE] = "tune",
};

/* 0: within what the key allows. */
static int rate_read(const char *text, uint64_t *ret)
{
	int error = text_size_parse(text, 0, ret);

	return error ? error : (*ret && *ret < PAGE_BYTES) || *ret > RATE_MOST_BYTES ? -ERANGE : 0;
}

static int stall_read(const char *text, uint64_t *ret)
{
	int error = text_time_parse(text, ret);

	return error ? error : *ret < STALL_LEAST_NS || *ret > STALL_MOST_NS ? -ERANGE : 0;
}

static int cpu_read(const char *text, uint64_t *ret)
{
	uint32_t share_bp;
	int error = text_share_parse(text, &share_bp);

	if (error)
		return error;
	*ret = share_bp;
	return share_bp ? 0 : -ERANGE;
}

static int weight_read(const char *text, uint64_t *ret)
{
	char *end;
	unsigned long weight = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end)
		return -EINVAL;
	*ret = weight;
	return weight > TIERING_WEIGHT_MAX ? -ERANGE : 0;
}

static int size_read(const char *text, uint64_t *ret)
{
	return text_size_parse(text, 0, ret);
}

static int cap_read(const char *text, uint64_t *ret)
{
	if (strcmp(text, "none"))
		return text_size_parse(text, 0, ret);
	*ret = UINT64_MAX;
	return 0;
}

static const struct key {
	const char *name;
	bool of_process;
	int (*read)(const char *text, uint64_t *ret);
	const char *form; /* what to write */
} keys[REQUEST_KEYS] = {
	[REQUEST_RATE] = { "rate", false, rate_read, "rate=512M, bytes a second, 4K to 1024T; 0: no bound" },
	[REQUEST_STALL] = { "stall", false, stall_read, "stall=20ms, 100us to 1s" },
	[REQUEST_CPU] = { "cpu", false, cpu_read, "cpu=1%, 0.01% to 100% of one core" },
	[REQUEST_WEIGHT] = { "weight", true, weight_read, "weight=PID:5, 0 (leave alone) to 10" },
	[REQUEST_FAST_MIN] = { "fast_min", true, size_read, "fast_min=PID:512M" },
	[REQUEST_FAST_MAX] = { "fast_max", true, cap_read, "fast_max=PID:2G, or fast_max=PID:none" },
};

static int key_find(const char *name, enum request_key *ret_key, char ret_message[TIDE_MESSAGE_MAX])
{
	const char *names[REQUEST_KEYS], *nearest;

	for (unsigned i = 0; i < REQUEST_KEYS; i++) {
		names[i] = keys[i].name;
		if (!strcmp(name, names[i])) {
			*ret_key = (enum request_key)i;
			return 0;
		}
	}
	nearest = text_nearest(name, names, REQUEST_KEYS);
	if (nearest)
		MESSAGE("unknown key %.40s: did you mean %s?", name, nearest);
	else
		MESSAGE("unknown key %.40s: there are rate, stall, cpu, weight, fast_min and fast_max", name);
	return -EINVAL;
}

static int change_parse(char *word, struct request_change *ret, char ret_message[TIDE_MESSAGE_MAX])
{
	char *equal = strchr(word, '='), *value, *colon;
	struct request_change change = { .pid = 0 };

	if (!equal || equal == word) {
		MESSAGE("%.80s: no setting: write KEY=VALUE, rate=512M for one", word);
		return -EINVAL;
	}
	*equal = '\0';
	value = equal + 1;
	if (key_find(word, &change.key, ret_message))
		return -EINVAL;
	const struct key *key = &keys[change.key];
	if (key->of_process) {
		long pid = strtol(value, &colon, 10);
		if (*value < '0' || *value > '9' || *colon != ':' || pid < 1 || pid > INT_MAX) {
			MESSAGE("%s=%.60s: of which process? write %s", key->name, value, key->form);
			return -EINVAL;
		}
		change.pid = (int)pid;
		value = colon + 1;
	}
	change.standard = !strcmp(value, "default");
	if (!change.standard && key->read(value, &change.value)) {
		MESSAGE("%s: %.60s is not a value for it: write %s, or default", key->name, value, key->form);
		return -EINVAL;
	}
	*ret = change;
	return 0;
}

static int verb_find(const char *name, enum request_verb *ret_verb, char ret_message[TIDE_MESSAGE_MAX])
{
	for (unsigned i = 0; i < REQUEST_VERBS; i++) {
		if (!strcmp(name, verb_names[i])) {
			*ret_verb = (enum request_verb)i;
			return 0;
		}
	}
	MESSAGE("%.40s: ask for status, pause, resume or tune", name);
	return -EINVAL;
}

static int words_parse(char *words, struct request *ret, char ret_message[TIDE_MESSAGE_MAX])
{
	char *rest, *word = strtok_r(words, " ", &rest);
	int error = 0;

	if (!word || strcmp(word, REQUEST_PROTOCOL)) {
		MESSAGE("%.40s is not spoken here, " REQUEST_PROTOCOL " is: use programs of one version",
			word ? word : "nothing");
		return -EPROTO;
	}
	word = strtok_r(NULL, " ", &rest);
	error = verb_find(word ? word : "nothing", &ret->verb, ret_message);
	while (!error && (word = strtok_r(NULL, " ", &rest))) {
		if (ret->verb != REQUEST_TUNE) {
			MESSAGE("%s takes nothing: leave out %.80s", verb_names[ret->verb], word);
			return -EINVAL;
		}
		if (ret->nr_changes == REQUEST_CHANGES_MAX) {
			MESSAGE("more than %u settings: change them in parts", REQUEST_CHANGES_MAX);
			return -EINVAL;
		}
		error = change_parse(word, &ret->changes[ret->nr_changes++], ret_message);
	}
	if (!error && ret->verb == REQUEST_TUNE && !ret->nr_changes) {
		MESSAGE("which setting? write tune rate=512M, or stall=, cpu=, weight=, fast_min=, fast_max=");
		return -EINVAL;
	}
	return error;
}

int request_parse(const char *line, struct request *ret_request, char ret_message[TIDE_MESSAGE_MAX])
{
	struct request request = { .nr_changes = 0 };
	char words[REQUEST_BYTES];

	if (strlen(line) >= sizeof words) {
		MESSAGE("more than %u bytes: ask in parts", REQUEST_BYTES - 1);
		return -EINVAL;
	}
	strcpy(words, line);
	int error = words_parse(words, &request, ret_message);
	if (!error)
		*ret_request = request;
	return error;
}
