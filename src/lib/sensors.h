/* SPDX-License-Identifier: MIT */
/*
 * Which sensor to take: the best one that works here, or the one that is asked for.
 *
 * Tried in the order of what they tell: hint (every touch of slow memory, with its CPU and time), idle
 * (every page, by accessed bits), perf (samples), damon (regions), soft-dirty (writes only). trace is
 * taken only when it is asked for.
 */
#ifndef TIDE_SENSORS_H
#define TIDE_SENSORS_H

#include "pagetide.h"
#include "sense.h"

#define SENSORS_MAX 8u

struct sensors_refusal {
	const char *name, *why; /* static; why: with the mend */
};

struct sensors_choice {
	struct sense *sense;
	struct sensors_refusal refused[SENSORS_MAX]; /* those that were tried before */
	size_t nr_refused;
	bool repaired; /* settings of the kernel that a killed one had changed were put back before */
};

/*
 * `name`: the sensor to take, "trace:FILE", or NULL for the best; with `guests` the best that sees what
 * guests of KVM touch, with `all_nodes` the best that sees use of nodes that are fast to the kernel as well, if there
 * is one. -EINVAL: there is no such sensor; else the error of the one that
 * was asked for, or of the best one; the reason in `ret_message`.
 */
int sensors_open(const char *name, bool guests, bool all_nodes, struct sensors_choice *ret_choice,
		 char ret_message[TIDE_MESSAGE_MAX]);

/*
 * The best of the others, with `guests` of those that see what guests of KVM touch, in the place of one that will not
 * do any more, and `why` (static): it is opened beside that one, which its owner closes then. The error of the best
 * that is refused: there is none.
 */
int sensors_again(const struct sensors_choice *choice, bool guests, const char *why,
		  struct sensors_choice *ret_choice);
#define SENSORS_BLIND "it cannot see what guests of KVM touch, and one of the processes runs some"
#define SENSORS_TAKEN "somebody else sets the kernel's settings that it needs"

/* Whether it sees what guests of KVM touch, as far as it knows by now. */
bool sensors_see_guests(const struct sense *sense);

/* 0: there is such a sensor; else -EINVAL, and the message names the nearest. */
int sensors_known(const char *name, char ret_message[TIDE_MESSAGE_MAX]);

/* Whether another pagetide has the sensor hint. What a killed one left is put back by this. */
bool sensors_hint_elsewhere(void);

/* Whether one that is tried could be had; changes nothing. *ret_why (static): why not, and the mend. */
int sensors_probe(const char *name, const char **ret_why);

#endif
