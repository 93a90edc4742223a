/* SPDX-License-Identifier: MIT */
#include "nodeset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WORDS (NODESET_MAX / 64)

unsigned int nodeset_next(const struct nodeset *set, unsigned int from)
{
	for (unsigned int word = from / 64; word < WORDS; word++) {
		uint64_t bits = set->bits[word];

		if (word == from / 64)
			bits &= UINT64_MAX << (from % 64);
		if (bits)
			return word * 64 + (unsigned int)__builtin_ctzll(bits);
	}
	return NODE_NONE;
}

unsigned int nodeset_count(const struct nodeset *set)
{
	unsigned int count = 0;

	for (unsigned int word = 0; word < WORDS; word++)
		count += (unsigned int)__builtin_popcountll(set->bits[word]);
	return count;
}

struct nodeset nodeset_and(const struct nodeset *a, const struct nodeset *b)
{
	struct nodeset both;

	for (unsigned int word = 0; word < WORDS; word++)
		both.bits[word] = a->bits[word] & b->bits[word];
	return both;
}

struct nodeset nodeset_minus(const struct nodeset *a, const struct nodeset *b)
{
	struct nodeset rest;

	for (unsigned int word = 0; word < WORDS; word++)
		rest.bits[word] = a->bits[word] & ~b->bits[word];
	return rest;
}

bool nodeset_meet(const struct nodeset *a, const struct nodeset *b)
{
	struct nodeset both = nodeset_and(a, b);

	return !nodeset_empty(&both);
}

/* Digits, at most `max`; *text moves behind them. */
static int number_read(const char **text, unsigned int max, unsigned int *ret_number)
{
	unsigned int number = 0;
	const char *at = *text;

	if (*at < '0' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		unsigned int digit = (unsigned int)(*at - '0');

		if (digit > max || number > (max - digit) / 10)
			return -ERANGE;
		number = number * 10 + digit;
	}
	*text = at;
	*ret_number = number;
	return 0;
}

/* The text ends at *ret_rest, behind the last range; no blanks are taken. */
static int list_read(const char *text, unsigned int max,
		     void (*visit)(void *arg, unsigned int first, unsigned int last), void *arg,
		     const char **ret_rest)
{
	for (;; text++) {
		unsigned int first, last;
		int error = number_read(&text, max, &first);

		if (error)
			return error;
		last = first;
		if (*text == '-') {
			text++;
			error = number_read(&text, max, &last);
			if (error)
				return error;
		}
		if (last < first)
			return -ERANGE;
		visit(arg, first, last);
		if (*text != ',')
			break;
	}
	*ret_rest = text;
	return 0;
}

static const char *blanks_skip(const char *text)
{
	return text + strspn(text, " \t\n");
}

int nodeset_list(const char *text, unsigned int max,
		 void (*visit)(void *arg, unsigned int first, unsigned int last), void *arg)
{
	const char *rest = blanks_skip(text);
	int error;

	if (*rest == '\0')
		return 0;
	error = list_read(rest, max, visit, arg, &rest);
	if (error)
		return error;
	return *blanks_skip(rest) ? -EINVAL : 0;
}

static void range_add(void *arg, unsigned int first, unsigned int last)
{
	for (unsigned int node = first; node <= last; node++)
		nodeset_add(arg, node);
}

int nodeset_parse(const char *text, const struct nodeset *all, struct nodeset *ret_set)
{
	struct nodeset set = { 0 };
	bool others = *text == '!';
	const char *rest;
	int error;

	text += others;
	if (strcmp(text, "all") == 0) {
		if (!all)
			return -EINVAL;
		set = *all;
	} else {
		error = list_read(text, NODESET_MAX - 1, range_add, &set, &rest);
		if (error)
			return error;
		if (*rest != '\0' || (others && !all))
			return -EINVAL;
	}
	*ret_set = others ? nodeset_minus(all, &set) : set;
	return 0;
}

const char *nodeset_format(char buffer[NODESET_TEXT_BYTES], const struct nodeset *set)
{
	size_t used = 0;
	unsigned int first = nodeset_next(set, 0);

	snprintf(buffer, NODESET_TEXT_BYTES, "none");
	while (first != NODE_NONE) {
		unsigned int last = first;
		char range[16];
		int length;

		while (nodeset_has(set, last + 1))
			last++;
		length = last > first ? snprintf(range, sizeof(range), "%u-%u", first, last) :
					snprintf(range, sizeof(range), "%u", first);
		if (used + (size_t)length + 2 > NODESET_TEXT_BYTES)
			break;
		used += (size_t)snprintf(buffer + used, NODESET_TEXT_BYTES - used, "%s%s",
					 used ? "," : "", range);
		first = nodeset_next(set, last + 1);
	}
	return buffer;
}
