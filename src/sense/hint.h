/* SPDX-License-Identifier: MIT */
/*
 * The hint sensor: the kernel's own NUMA hint faults, read from outside.
 *
 * With kernel.numa_balancing = 2 the kernel makes pages of slower memory tiers inaccessible in turn;
 * the next touch of each is a fault that makes it accessible again. A page-fault event on every
 * thread of a process delivers address, thread, CPU and time of each fault: hint faults, and also
 * first touches and copies after a fork, which happen once in a page's life.
 *
 * The kernel would move such pages by itself. It is kept from that by a hot threshold of 0 and a
 * promotion limit of 0, as long as its fast nodes have less than 1 GiB, or 1/16 of them, free; while
 * they have more it promotes at the first touch, whatever we set (hint_kernel_moves()).
 *
 * It works in sweeps (sweep.h). In a sweep the kernel's scanner, which the threads run themselves, goes once
 * over each process; until the next is due it is let look at next to nothing (1 MiB each time), and nothing
 * is due when nothing was touched: pages stay inaccessible until they are. So memory that nobody uses costs
 * nothing. The mode itself is not switched between sweeps: that patches the kernel's code.
 *
 * The scanner passes over mappings of files and shared memory that may only be read, as it takes them for
 * libraries: what is read there, and be it a database, is never seen.
 *
 * A probe at the kernel's function, of every CPU that is online (cpu_rings.h), tells which range became inaccessible
 * when, so the time from then to the touch is known, and when a sweep is over. Without it sweeps go by the clock.
 *
 * A guest of KVM touches memory of the process that runs it without a fault of any thread, so no event tells
 * of it; but the kernel looks for the page as if there had been one. A probe at that function, in processes
 * that run guests alone, tells the address. Without it their touches are not seen.
 *
 * Somebody else may set what we have set. That is seen within a second: theirs is what comes back at the end. Once
 * ours is set again; who sets his a second time has it, and the sensor stands still until the next pause is over.
 * While it stands still the settings are anybody's.
 *
 * All processes of the machine have such faults, not only those that are watched. How many were whose the kernel
 * does not say: between two sweeps those of the watched are at most as many as all faults that they had; the
 * others are elsewhere.
 *
 * Settings are saved in a file, locked while we live, before they are changed. Whoever finds the
 * file without its lock puts back what it says: the settings survive our being killed. The lock comes first and
 * goes last, and the probes of CPUs are there while the settings are: no fault is made that nobody reads.
 */
#ifndef TIDE_HINT_H
#define TIDE_HINT_H

#include "sense.h"

#define HINT_STATE_PATH "/run/pagetide/hint"

struct hint_options {
	const char *root;        /* "" for the running system; a tree of files for tests */
	const char *state_path;  /* NULL: HINT_STATE_PATH */
};

/* Whether it can be had, as far as can be told without changing anything. As hint_open(). */
int hint_probe(const struct hint_options *options, const char **ret_why);

/*
 * Probe, repair what a predecessor left, and begin. *ret_why (static) says in one line why
 * not, and the mend.
 * -EOPNOTSUPP: the kernel has no memory tiering or no such settings; -EPERM: not root;
 * -EBUSY: another pagetide has it; -EIO.
 */
int hint_open(const struct hint_options *options, struct sense **ret_sense, const char **ret_why);

/* Put back what a killed predecessor changed. 1: there was something; 0: nothing; -EBUSY: it lives;
 * -errno. */
int hint_repair(const struct hint_options *options);

/* The kernel promotes by itself to a node that has so much free of so much in all. */
static inline bool hint_kernel_moves(uint64_t free_bytes, uint64_t total_bytes)
{
	uint64_t enough = total_bytes / 16 > (UINT64_C(1) << 30) ? total_bytes / 16
								 : UINT64_C(1) << 30;
	return free_bytes > enough;
}

#endif
