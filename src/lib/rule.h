/* SPDX-License-Identifier: MIT */
/*
 * A rule: which processes are one workload, and what they are worth.
 *
 * Processes are named by number, then their children belong to them; or selected by what /proc says
 * of them: each kind of selector that has words must fit with one of its words, no word to exclude
 * may fit, and RSS must have reached the least. Of several rules the first one that fits has the
 * process. A selected process is judged again at each look, for it may exec or be put into another
 * group; only its RSS is not asked for again.
 *
 * A rule owns its words. What is set is checked at once, with one line that says what is wrong. Not
 * thread-safe.
 */
#ifndef TIDE_RULE_H
#define TIDE_RULE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "pagetide.h"

#define RULE_NAME_BYTES 32
#define RULE_WEIGHT_MAX 10u
#define RULE_NO_MAX UINT64_MAX

enum rule_selector {
	RULE_CGROUP, /* a pattern of group names: cgroup_fits() */
	RULE_UNIT,   /* a pattern of unit names: cgroup_in_unit() */
	RULE_EXE,    /* an extended regular expression, somewhere in the path of the program */
	RULE_SELECTORS
};

struct rule_word;

/* Of fast memory: so many bytes, or a share of all that the fast nodes have. */
struct rule_size {
	uint64_t bytes;
	uint32_t share_bp; /* in 1/10000; 0: `bytes` counts */
};

struct rule {
	char name[RULE_NAME_BYTES];
	const int *pids;         /* instead of selectors; the caller's */
	size_t nr_pids;
	struct rule_word *include[RULE_SELECTORS], *exclude[RULE_SELECTORS];
	uint64_t rss_min_bytes;
	uint32_t weight;         /* 0: left alone .. RULE_WEIGHT_MAX */
	struct rule_size fast_min, fast_max; /* of all its processes together */
};

void rule_init(struct rule *rule, const char *name);
void rule_free(struct rule *rule);

/*
 * Set one key of it: cgroup, unit, exe and exclude_... add a word, or with an empty value drop those
 * so far; rss_min, weight, fast_min, fast_max. `root`: where /proc is, for folders of groups.
 * -EINVAL, with what is wrong; -ENOMEM.
 */
int rule_set(struct rule *rule, const char *root, const char *key, const char *value,
	     char ret_message[TIDE_MESSAGE_MAX]);
/* -EINVAL: it selects nothing, or guarantees more than it allows. */
int rule_finish(const struct rule *rule, char ret_message[TIDE_MESSAGE_MAX]);

/*
 * The first rule that selects process `pid`; NULL. Kernel threads and processes that have ended are
 * selected by none. `has`: the rule that has it now, or NULL.
 */
const struct rule *rule_find(const struct rule *rules, size_t nr, const char *root, pid_t pid,
			     const struct rule *has);

/* The size as bytes, of so much fast memory. */
uint64_t rule_size_bytes(const struct rule_size *size, uint64_t fast_bytes);

/* Write its keys as a section of a configuration. */
void rule_print(const struct rule *rule, FILE *file);
/* The same as an object. */
json_t *rule_json(const struct rule *rule);

#endif
