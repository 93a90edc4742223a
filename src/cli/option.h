/* SPDX-License-Identifier: MIT */
/*
 * Reading the words after a verb, by a table of its options.
 *
 * "--name value", "--name=value" and "--name" for switches; "-n value" and "-n" for those that have a
 * letter; "--" or the first word that is no option ends them. Names are never shortened. What is
 * wrong is said once, on one line, with the mend.
 */
#ifndef TIDE_OPTION_H
#define TIDE_OPTION_H

#include <stddef.h>

struct option {
	const char *name;     /* without the dashes */
	const char *argument; /* as help shows it; NULL: a switch */
	const char *help;
	char letter;          /* short form; 0: none */
};

struct verb {
	const char *name;
	const char *usage;  /* what follows the name */
	const char *help;   /* one line for the list of verbs */
	const char *detail; /* the paragraphs of "help VERB" */
	const struct option *options;
	size_t nr_options;
	int (*run)(char **words); /* NULL-terminated; gives the exit status */
};

#define OPTION_END (-1)
#define OPTION_BAD (-2)

struct option_reader {
	const struct verb *verb;
	char **words;      /* those not read yet */
	const char *value; /* of the option read last */
};

/* The index of the next option; OPTION_END: none is left; OPTION_BAD: it was wrong, and said so. */
int option_next(struct option_reader *reader);

/* Print "help VERB" to standard output. */
void option_help(const struct verb *verb);

#endif
