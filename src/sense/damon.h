/* SPDX-License-Identifier: MIT */
/*
 * The damon sensor: regions in use, as the kernel's DAMON finds them by sampling.
 *
 * One DAMON thread watches all processes (its "vaddr" operations): in every sample it looks at one page
 * of each region, and after ten of them it merges and splits regions so that each is evenly used, as far
 * as their number (10 to 1000) allows. At the end of a period we read the regions that were in use, of
 * each process by a scheme of its own that does nothing but list them. A region in use half as much as
 * the busiest one counts as touched, whole: what it holds of pages not in use comes along.
 *
 *   /sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/targets/I, schemes/I/tried_regions/N
 *
 * DAMON is one for the system. Whoever has it keeps it: when there is any thread of it, or a place for
 * one, nothing is touched and the sensor cannot be had. What we set up is taken down at the end; after
 * our being killed the next one does it (the state file, see setting.h). When it is not as we set it up any
 * more it became somebody else's: then nothing of it is touched, and the sensor sees nothing.
 *
 * Processes that come and go make DAMON begin anew, and forget its regions: at most every two seconds.
 * A reading waits for the end of DAMON's period, half a second at most.
 */
#ifndef TIDE_DAMON_H
#define TIDE_DAMON_H

#include "sense.h"

#define DAMON_STATE_PATH "/run/pagetide/damon"

struct damon_options {
	const char *root;       /* "" for the running system; a tree of files for tests */
	const char *state_path; /* NULL: DAMON_STATE_PATH */
};

/* Whether it can be had, as far as can be told without changing anything. As damon_open(). */
int damon_probe(const struct damon_options *options, const char **ret_why);

/*
 * Probe, take down what a killed predecessor left, and begin. *ret_why (static): why not, and the mend.
 * -EOPNOTSUPP: the kernel has no DAMON, or not for processes; -EPERM: not root; -EBUSY: somebody uses
 * it; -EIO, -ENOMEM.
 */
int damon_open(const struct damon_options *options, struct sense **ret_sense, const char **ret_why);

/* Take down what a killed predecessor left. 1: there was something; 0: nothing; -EBUSY: it lives; -errno. */
int damon_repair(const struct damon_options *options);

#endif
