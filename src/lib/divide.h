/* SPDX-License-Identifier: MIT */
/*
 * Dividing what a workload may have of fast memory among its spaces (bound.h), anew at each look.
 *
 * A cap goes by use: the pages that a space has there, and those of it that were touched elsewhere since the
 * last look. A sixteenth is divided evenly, so that who has nothing can begin. A space that wants more gets it
 * in a few looks from those that do not use theirs. What one still has above its part nobody gets before
 * it is given up, so all together never have more than the cap, unless they had it before.
 *
 * A guarantee goes by what each has there.
 *
 * Pure: numbers in, numbers out.
 */
#ifndef TIDE_DIVIDE_H
#define TIDE_DIVIDE_H

#include <stddef.h>
#include <stdint.h>

struct tiering_space;

struct part { /* of one space, in pages */
	struct tiering_space *space; /* for the caller */
	uint64_t has, touched;
	uint64_t max, min; /* what comes out */
};

void divide_max(struct part *parts, size_t nr, uint64_t max_pages);
void divide_min(struct part *parts, size_t nr, uint64_t min_pages);

#endif
