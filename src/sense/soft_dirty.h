/* SPDX-License-Identifier: MIT */
/*
 * The soft-dirty sensor: who was written, by the kernel's marks in the page tables.
 *
 * A pass reads which pages are marked, and clears all marks of the process. Reading is of no effect on
 * it; clearing makes the next write of every page a fault. Writes between the two are not seen. Reads
 * never are: memory that is only read counts as not in use.
 *
 * The kernel also calls all pages of a mapping marked that was made, has grown or was joined with
 * another since the last clearing. So only mappings are believed that have the same bounds as then; a
 * mapping that grows all the time is not seen. (One that was moved by mremap(2) to just where another
 * of its size was is not told apart from that one.)
 *
 * A process has one set of marks: who else clears them (checkpoints by CRIU) sees no writes of before
 * our clearing, and we none of before his.
 */
#ifndef TIDE_SOFT_DIRTY_H
#define TIDE_SOFT_DIRTY_H

#include "sense.h"

struct soft_dirty_options {
	const char *root; /* "" for the running system; a tree of files for tests */
};

/* Whether it can be had. *ret_why (static): why not, and the mend. -EOPNOTSUPP: the kernel lacks it. */
int soft_dirty_probe(const struct soft_dirty_options *options, const char **ret_why);
/* Probe, and begin. As above; -ENOMEM. */
int soft_dirty_open(const struct soft_dirty_options *options, struct sense **ret_sense,
		    const char **ret_why);

#endif
