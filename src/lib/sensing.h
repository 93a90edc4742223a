/* SPDX-License-Identifier: MIT */
/*
 * The sensor of an attach: chosen at the start, and once more when a process runs guests of KVM whose touches it
 * does not see, or when somebody else insists on kernel settings that it needs.
 *
 * The other one is taken if it sees these and can have all processes that are looked after; then the first is let
 * go. Nobody goes back when the guests end, and there is one change at most, so nothing goes to and fro. A sensor
 * that the user has named stays: a warning says what it does not see, as it does when there is no other.
 */
#ifndef TIDE_SENSING_H
#define TIDE_SENSING_H

#include "attach.h"

/* As sensors_open(), for the processes that are selected. */
int sensing_begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX]);
/* Print which sensor it is, and why no better one, unless the user wants it quiet. */
void sensing_say(const struct attach *a);
/* After each look at the processes: whether it does for them. */
void sensing_look(struct attach *a);
/* 0; -errno: not all settings of the kernel are as they were. */
int sensing_end(struct attach *a);

/* Whether the sensor still has the kernel's settings that it needs; as sense_ops.hold. */
enum sense_hold sensing_hold(const struct attach *a, const char **ret_what);
/* All that was seen, also by the one before; threads: now. */
void sensing_usage(const struct attach *a, struct sense_usage *ret_usage);
/* Processes that run guests of KVM whose touches it does not see. */
size_t sensing_unseen_guests(const struct attach *a);

#endif
