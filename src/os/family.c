/* SPDX-License-Identifier: MIT */
#include "family.h"

#include <errno.h>
#include <stdlib.h>

#include "array.h"
#include "proc.h"

#define DEPTH_MAX 256 /* a number that is given anew meanwhile could lead round for ever */

bool family_has(pid_t pid, bool (*is)(void *arg, pid_t pid), void *arg)
{
	for (int depth = 0; depth < DEPTH_MAX && pid > 1; depth++) {
		if (is(arg, pid))
			return true;
		if (proc_parent(pid, &pid))
			return false;
	}
	return false;
}

struct kin {
	pid_t pid, parent;
	bool ours;   /* an ancestor, or descends from one */
};

struct family {
	struct kin *kin;
	size_t nr, room;
};

static int kin_take(void *arg, pid_t pid, pid_t parent)
{
	struct family *family = arg;
	struct kin *kin = array_room(family->kin, family->nr, &family->room, sizeof *kin);

	if (!kin)
		return -ENOMEM;
	family->kin = kin;
	kin[family->nr++] = (struct kin){ .pid = pid, .parent = parent };
	return 0;
}

static int kin_compare(const void *a, const void *b)
{
	pid_t one = ((const struct kin *)a)->pid, other = ((const struct kin *)b)->pid;

	return (one > other) - (one < other);
}

static bool kin_ours(const struct family *family, pid_t pid)
{
	struct kin key = { .pid = pid };
	const struct kin *kin = family->nr ? bsearch(&key, family->kin, family->nr, sizeof key,
						     kin_compare) : NULL;

	return kin && kin->ours;
}

static bool listed(const pid_t *pids, size_t nr, pid_t pid)
{
	while (nr && pids[nr - 1] != pid)
		nr--;
	return nr;
}

/* Mark who has a parent that is ours until nobody is added: a child may have a lower number. */
static void family_mark(struct family *family, const pid_t *pids, size_t nr)
{
	bool more = true;

	if (family->nr)
		qsort(family->kin, family->nr, sizeof *family->kin, kin_compare);
	for (size_t i = 0; i < family->nr; i++)
		family->kin[i].ours = listed(pids, nr, family->kin[i].pid);
	while (more) {
		more = false;
		for (size_t i = 0; i < family->nr; i++) {
			struct kin *one = &family->kin[i];

			if (one->ours || !kin_ours(family, one->parent))
				continue;
			one->ours = true;
			more = true;
		}
	}
}

int family_descendants(const char *root, const pid_t *pids, size_t nr, pid_t *ret_pids, size_t max, size_t *ret_nr)
{
	struct family family = { 0 };
	size_t found = 0;
	int error = proc_parents(root, kin_take, &family);

	if (!error) {
		family_mark(&family, pids, nr);
		for (size_t i = 0; i < family.nr; i++) {
			if (!family.kin[i].ours || listed(pids, nr, family.kin[i].pid))
				continue;
			if (found < max)
				ret_pids[found] = family.kin[i].pid;
			found++;
		}
		*ret_nr = found;
	}
	free(family.kin);
	return error;
}
