/* SPDX-License-Identifier: MIT */
/*
 * The perf sensor: accesses to memory that the CPU itself samples, with address, time and CPU: loads that
 * took long on Intel (PEBS), every so many operations on AMD (IBS).
 *
 * A ring for every thread, as the hint sensor has; nothing is changed in the system, no page is made
 * inaccessible. It sees one access in many, so much used pages soon and others late, and what its
 * caches hold not at all (Intel). What the hardware does not say (no address, an address of the kernel)
 * is passed over. Machines without such events, and most virtual ones, do not have it.
 */
#ifndef TIDE_SAMPLE_H
#define TIDE_SAMPLE_H

#include "sense.h"

struct sample_options {
	const char *root; /* "" for the running system; a tree of files for tests */
};

/* Whether it can be had: an event is opened once. As sample_open(). */
int sample_probe(const struct sample_options *options, const char **ret_why);

/* *ret_why (static): why not, and the mend. -EOPNOTSUPP: no such hardware; -EPERM: not permitted;
 * -ENOMEM. */
int sample_open(const struct sample_options *options, struct sense **ret_sense, const char **ret_why);

#endif
