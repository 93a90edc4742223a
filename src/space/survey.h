/* SPDX-License-Identifier: MIT */
/* Which mappings of a program are to be taken into care. The keeper's alone. */
#ifndef TIDE_SURVEY_H
#define TIDE_SURVEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "program.h"

struct candidate {
	uint64_t start, end;       /* a mapping */
	uint64_t run_pages;        /* of it and those that it adjoins */
	bool huge;                 /* may have huge pages */
	bool adjoined;             /* another mapping began where it ends */
	bool registered;
	bool foreign;              /* what is there by now is not ours to have */
};

struct survey {
	struct program *program;
	struct candidate *list;    /* in the order of addresses; the caller frees it */
	size_t nr, room;
	size_t run_first;          /* the first of the run that is being read */
	uint64_t run_end, run_pages; /* that run, all that could be managed */
	uint64_t unmanaged[UNMANAGED_COUNT]; /* pages */
	uint64_t taken;            /* pages */
	bool flags;                /* those of mappings are being read */
	int error;                 /* -ENOMEM */
};

/* Runs of fewer pages are left alone whatever they come to together; runs of so many are always taken. */
#define SURVEY_LEAST_PAGES 16u
#define SURVEY_TAKEN_PAGES 256u
#define SURVEY_CLASSES 4u /* powers of two from the first to the second */

/*
 * How large a run must be to be taken, in pages, so that no more than `most` are left out of runs of
 * SURVEY_LEAST_PAGES and more. `left[k]`: pages not yet managed in runs of SURVEY_LEAST_PAGES << k and more,
 * and less than twice that.
 */
uint64_t survey_least(const uint64_t left[SURVEY_CLASSES], uint64_t most);

/* List the mappings that are to be taken, count the others. -ESRCH, -ENOMEM. */
int survey_read(struct survey *survey);

/* Add a mapping to the list. -ENOMEM. */
int survey_add(struct survey *survey, uint64_t start, uint64_t end, bool huge);

/* Whether the helper has it in the program: whoever serves its faults may be waiting for it. */
bool survey_own(const struct program *program, uint64_t start, uint64_t end);

/*
 * Address space that is reserved, and not memory (shadows of sanitizers, cages of interpreters): some of it is
 * more than the machine could ever have. To walk the tables of such a mapping, as at its end or at a fork, would
 * take seconds.
 */
bool survey_sparse(uint64_t pages);

/* Pages of addresses [start, end) that no extent covers; visits each such stretch when asked to.
 * program.lock. */
uint64_t survey_uncovered(struct program *program, uint64_t start, uint64_t end,
			  int (*visit)(struct program *program, uint64_t vpn, uint64_t nr_pages));

#endif
