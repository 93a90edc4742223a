/* SPDX-License-Identifier: MIT */
/*
 * Who else moves pages between nodes, as the kernel's settings say: its NUMA balancing, its tiering, its
 * demotion, DAMON, and by moving more than was asked for. They are warned of and left alone. Reads below a root
 * folder; thread-safe.
 */
#ifndef TIDE_OTHERS_H
#define TIDE_OTHERS_H

#include <stdbool.h>

enum others {
	OTHERS_BALANCING = 1u << 0, /* pages follow the threads that use them */
	OTHERS_TIERING = 1u << 1,   /* pages in use are promoted */
	OTHERS_DEMOTION = 1u << 2,  /* reclaim demotes instead of swapping out */
	OTHERS_DAMON = 1u << 3,
	OTHERS_PAGETIDE = 1u << 4,  /* not found by others_look(): who has the sensor hint knows */
	OTHERS_LARGE = 1u << 5,     /* each move: of huge pages of other sizes all goes with one page of them */
	OTHERS_END = 1u << 6
};

/* Those that are at work. `ours`: NUMA balancing is under control of a sensor, and does not count. */
unsigned int others_look(const char *root, bool ours);

/* One of them, as a warning with the mend; static. */
const char *others_warning(enum others one);

#endif
