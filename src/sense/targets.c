/* SPDX-License-Identifier: MIT */
#include "targets.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "proc.h"

int targets_add(struct targets *targets, pid_t pid, size_t bytes, struct target **ret_target)
{
	struct target *target = calloc(1, bytes);
	int error = target ? proc_open_below(targets->root, pid, &target->dir) : -ENOMEM;

	if (error) {
		free(target);
		return error;
	}
	target->pid = pid;
	target->next = targets->first;
	targets->first = target;
	*ret_target = target;
	return 0;
}

struct target *targets_find(const struct targets *targets, pid_t pid)
{
	struct target *target = targets->first;

	while (target && target->pid != pid)
		target = target->next;
	return target;
}

void targets_drop(struct targets *targets, struct target *target)
{
	struct target **at = &targets->first;

	while (*at != target)
		at = &(*at)->next;
	*at = target->next;
	close(target->dir);
	free(target);
}
