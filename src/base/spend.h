/* SPDX-License-Identifier: MIT */
/*
 * Work that is done again and again and may take one part of so many of the time, however much it is at once:
 * after it has taken a second, nobody does it for that many seconds.
 */
#ifndef TIDE_SPEND_H
#define TIDE_SPEND_H

#include <stdbool.h>
#include <stdint.h>

struct spend {
	uint64_t at_ns, cost_ns; /* the last time: when, and the processor time it took; all zero: never */
};

/* Whether it is time again. */
static inline bool spend_due(const struct spend *spend, uint64_t parts, uint64_t now_ns)
{
	return !spend->at_ns || now_ns - spend->at_ns >= spend->cost_ns * parts;
}

#endif
