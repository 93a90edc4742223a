/* SPDX-License-Identifier: MIT */
/*
 * The idle sensor: who was accessed, by the CPU's own accessed bits, as the kernel's bitmap of idle pages
 * tells them (the method of the first ancestor, from outside).
 *
 *   address ─ pagemap ─► frame ─► bit     set: idle since it was marked     gone: accessed
 *
 * A pass looks at the bit of each page that is in memory: gone, and it was seen set by the pass before,
 * is a touch. Then the page is marked again, and the bit is looked at once more: only what is seen set
 * is known to be marked, for pages that the kernel does not track have no bit at all. So the fault-free
 * price of a touch is two looks, and of a page that stays idle one.
 *
 * Frames are looked at in their own order, and neighbouring words of the bitmap in one call: memory that
 * was allocated together is looked at together. Only words with pages of the process are read; a bit of
 * another's page among them is looked at, and never set.
 *
 * A page that several processes map is touched when one of them touches it. Of a large page that is
 * mapped in pieces only the first piece has a bit, which speaks for all.
 */
#ifndef TIDE_IDLE_H
#define TIDE_IDLE_H

#include "sense.h"

struct idle_options {
	const char *root; /* "" for the running system; a tree of files for tests */
};

/* Whether it can be had. *ret_why (static): why not, and the mend. -EOPNOTSUPP: the kernel lacks it;
 * -EPERM: not root. */
int idle_probe(const struct idle_options *options, const char **ret_why);
/* Probe, and begin. As above; -ENOMEM. */
int idle_open(const struct idle_options *options, struct sense **ret_sense, const char **ret_why);

#endif
