/* SPDX-License-Identifier: MIT */
#include "option.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "text.h"

#define OPTIONS_MAX 16

static int option_unknown(const struct verb *verb, const char *word, size_t len)
{
	const char *names[OPTIONS_MAX], *nearest = NULL;
	char wrong[TEXT_NAME_MAX + 1];

	if (word[0] == '-' && word[1] == '-' && len - 2 < sizeof(wrong)) {
		memcpy(wrong, word + 2, len - 2);
		wrong[len - 2] = '\0';
		for (size_t i = 0; i < verb->nr_options; i++)
			names[i] = verb->options[i].name;
		nearest = text_nearest(wrong, names, verb->nr_options);
	}
	if (nearest)
		cli_say("unknown option %.*s: did you mean --%s?", (int)len, word, nearest);
	else
		cli_say("unknown option %.*s: pagetide help %s lists the options", (int)len, word,
			verb->name);
	return OPTION_BAD;
}

static int option_find(const struct verb *verb, const char *name, size_t len)
{
	for (size_t i = 0; i < verb->nr_options; i++)
		if (strlen(verb->options[i].name) == len &&
		    memcmp(verb->options[i].name, name, len) == 0)
			return (int)i;
	return OPTION_BAD;
}

static int option_find_letter(const struct verb *verb, char letter)
{
	for (size_t i = 0; i < verb->nr_options; i++)
		if (letter && verb->options[i].letter == letter)
			return (int)i;
	return OPTION_BAD;
}

int option_next(struct option_reader *reader)
{
	const struct verb *verb = reader->verb;
	const char *word = reader->words[0];
	const struct option *option;
	size_t len;
	int index;

	if (!word || word[0] != '-' || word[1] == '\0')
		return OPTION_END;
	reader->words++;
	if (strcmp(word, "--") == 0)
		return OPTION_END;
	len = strcspn(word, "=");
	if (word[1] == '-')
		index = len > 2 ? option_find(verb, word + 2, len - 2) : OPTION_BAD;
	else
		index = word[2] ? OPTION_BAD : option_find_letter(verb, word[1]);
	if (index == OPTION_BAD)
		return option_unknown(verb, word, len);
	option = &verb->options[index];
	reader->value = word[len] ? word + len + 1 : NULL;
	if (!option->argument && reader->value) {
		cli_say("--%s takes no value: leave out =%s", option->name, reader->value);
		return OPTION_BAD;
	}
	if (option->argument && !reader->value) {
		reader->value = reader->words[0];
		if (!reader->value) {
			cli_say("--%s needs a value: --%s %s", option->name, option->name,
				option->argument);
			return OPTION_BAD;
		}
		reader->words++;
	}
	return index;
}

void option_help(const struct verb *verb)
{
	printf("usage: pagetide %s %s\n\n%s\n", verb->name, verb->usage, verb->detail);
	if (verb->nr_options)
		printf("\noptions:\n");
	for (size_t i = 0; i < verb->nr_options; i++) {
		const struct option *option = &verb->options[i];
		char head[40];

		snprintf(head, sizeof(head), "%.2s%s--%s%s%s",
			 option->letter ? (const char[]){ '-', option->letter, '\0' } : "",
			 option->letter ? ", " : "", option->name, option->argument ? " " : "",
			 option->argument ? option->argument : "");
		printf("  %-18s %s\n", head, option->help);
	}
}
