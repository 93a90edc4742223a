/* SPDX-License-Identifier: MIT */
/*
 * How long a load from a node's memory takes: measured, because firmware says nothing or guesses.
 *
 * A walk along pointers laid through memory of that node in random order, so that each load waits
 * for the one before and no prefetcher helps. The shortest of several walks is taken: everything
 * that disturbs makes it longer.
 */
#ifndef TIDE_LATENCY_H
#define TIDE_LATENCY_H

#include <stdint.h>

#include "node.h"

/*
 * The time of one load by a CPU of node `from` (NODE_NONE: any CPU) from memory on node `to`, in
 * 1/10 ns. Uses twice the last cache, at most a quarter of what is free there, for about a second;
 * the calling thread is bound to that CPU meanwhile.
 * -ENODEV: no such node, no CPU or no memory there; -ENOMEM: too little is free;
 * -EPERM: memory or CPU may not be used; -ENOSYS: a kernel without NUMA.
 */
int latency_measure(const struct node_map *map, unsigned int from, unsigned int to,
		    uint32_t *ret_tenths_ns);

#endif
