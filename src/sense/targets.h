/* SPDX-License-Identifier: MIT */
/*
 * The processes that a sensor looks at. A record of the sensor's begins with a struct target; the latest is
 * the first. One thread at a time.
 */
#ifndef TIDE_TARGETS_H
#define TIDE_TARGETS_H

#include <stddef.h>
#include <sys/types.h>

struct target {
	pid_t pid;
	int dir; /* of /proc/PID; it means this process also when the number is reused */
	struct target *next;
};

struct targets {
	const char *root; /* where /proc is */
	struct target *first;
};

/* A zeroed record of so many bytes. -ESRCH: there is no such process; -ENOMEM, -EMFILE. */
int targets_add(struct targets *targets, pid_t pid, size_t bytes, struct target **ret_target);
/* NULL: it is not among them. */
struct target *targets_find(const struct targets *targets, pid_t pid);
/* One of them goes, with its memory. */
void targets_drop(struct targets *targets, struct target *target);

#endif
