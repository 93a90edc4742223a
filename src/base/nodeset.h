/* SPDX-License-Identifier: MIT */
/*
 * A set of NUMA nodes, as a bitmap, and its text.
 *
 * The text is numactl's: numbers and ranges with commas ("0-1,3"), "all", and a leading "!" for all
 * but those ("!2"). The kernel writes the plain form in its files.
 */
#ifndef TIDE_NODESET_H
#define TIDE_NODESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODESET_MAX 1024u /* nodes are numbered 0 .. NODESET_MAX - 1, as in the kernel */
#define NODE_NONE UINT16_MAX

struct nodeset {
	uint64_t bits[NODESET_MAX / 64];
};

static inline bool nodeset_has(const struct nodeset *set, unsigned int node)
{
	return node < NODESET_MAX && set->bits[node / 64] >> (node % 64) & 1;
}

static inline void nodeset_add(struct nodeset *set, unsigned int node)
{
	if (node < NODESET_MAX)
		set->bits[node / 64] |= UINT64_C(1) << (node % 64);
}

static inline void nodeset_remove(struct nodeset *set, unsigned int node)
{
	if (node < NODESET_MAX)
		set->bits[node / 64] &= ~(UINT64_C(1) << (node % 64));
}

/* The first node of the set that is not below `from`; NODE_NONE: there is none. */
unsigned int nodeset_next(const struct nodeset *set, unsigned int from);
#define nodeset_each(node, set) \
	(unsigned int node = nodeset_next(set, 0); node != NODE_NONE; node = nodeset_next(set, node + 1))

unsigned int nodeset_count(const struct nodeset *set);
static inline bool nodeset_empty(const struct nodeset *set)
{
	return nodeset_next(set, 0) == NODE_NONE;
}
bool nodeset_meet(const struct nodeset *a, const struct nodeset *b);
struct nodeset nodeset_and(const struct nodeset *a, const struct nodeset *b);
struct nodeset nodeset_minus(const struct nodeset *a, const struct nodeset *b);

/*
 * Read a user's list; `all` is what "all" and "!" refer to (NULL: they are -EINVAL). An empty list
 * is -EINVAL, a node from NODESET_MAX on or a backward range -ERANGE; nodes outside of `all` are
 * taken as they are, the caller says what is wrong with them. Writes on success only.
 */
int nodeset_parse(const char *text, const struct nodeset *all, struct nodeset *ret_set);

/* The plain form, "0-1,3"; "none" for the empty set; cut short for want of room. Returns `buffer`. */
#define NODESET_TEXT_BYTES 256
const char *nodeset_format(char buffer[NODESET_TEXT_BYTES], const struct nodeset *set);

/*
 * Numbers and ranges as the kernel lists CPUs and nodes, "0-1,3", blanks and a line end allowed
 * after it, nothing at all too: calls `visit` for each range, last included. 0; -EINVAL; -ERANGE:
 * a number above `max`, or a range that runs backward. Ranges before the fault were visited.
 */
int nodeset_list(const char *text, unsigned int max,
		 void (*visit)(void *arg, unsigned int first, unsigned int last), void *arg);

#endif
