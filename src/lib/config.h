/* SPDX-License-Identifier: MIT */
/*
 * What pagetide attach and pagetide daemon go by: rules, and which nodes are fast. From the words of a
 * command line, which make one rule, or from a file and its drop-ins:
 *
 *     [tiers]               both optional: else as the machine says
 *     fast = 0
 *     slow = 1
 *
 *     [rule NAME]           as many as you like; the first that fits a process has it
 *     unit = redis-server   a key of a rule, see rule_set()
 *
 * After FILE the files FILE.d/ *.conf are read, in the order of their names; what they say of a section
 * is added to it, or replaces it. One that is not understood makes the whole void: then a line says
 * which file, which line, and what is wrong. Not thread-safe.
 */
#ifndef TIDE_CONFIG_H
#define TIDE_CONFIG_H

#include "rule.h"

struct config {
	char *fast, *slow;  /* nodes as numactl writes them; NULL: as the machine says */
	struct rule *rules;
	size_t nr_rules;
};

/* `root`: where /proc is. -EINVAL: it cannot be read or understood; -ENOMEM. */
int config_read(const char *path, const char *root, struct config *ret_config,
		char ret_message[TIDE_MESSAGE_MAX]);
/* The same without a file. */
int config_from_options(const struct tide_attach_options *options, struct config *ret_config,
			char ret_message[TIDE_MESSAGE_MAX]);
void config_free(struct config *config);

/* The rule of that name; NULL. */
struct rule *config_rule(const struct config *config, const char *name);

/* As a file that says the same, which the caller frees. NULL: no memory. */
char *config_text(const struct config *config);
/* The same as a JSON document: schema pagetide.config/1. */
char *config_json(const struct config *config);

#endif
