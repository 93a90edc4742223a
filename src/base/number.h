/* SPDX-License-Identifier: MIT */
/* Numbers of things, of which there is never less than none. */
#ifndef TIDE_NUMBER_H
#define TIDE_NUMBER_H

#include <stdint.h>

static inline uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* a - b; 0 where b is more. */
static inline uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

#endif
