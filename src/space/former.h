/* SPDX-License-Identifier: MIT */
/* What was at a place before another mapping was moved there, and is not yet told to have left. Pure. */
#ifndef TIDE_FORMER_H
#define TIDE_FORMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORMERS_MAX 64u

enum former_state {
	FORMER_AWAITED,  /* nothing may be read before it is known that its leaving is queued */
	FORMER_VAGUE,    /* the same, but there may have been none */
	FORMER_QUEUED,   /* the next message that takes its place away is about it */
	FORMER_DOUBTFUL, /* that cannot be known */
};

/* Pages that a thread takes away by the call in which it sleeps; or a place that was told to be left by a move, and
 * whose unmapping is to come. */
struct leaving {
	uint64_t vpn, nr_pages;
	uint64_t to;  /* where they come to be by mremap; 0: its call leaves that to the kernel */
	bool moved;   /* by mremap */
	bool doubted; /* of the latter: the unmapping may never come */
	bool lost;    /* and that cannot be known */
	bool covered; /* something came there, and what may have stayed is a former */
};

struct former {
	uint64_t vpn, nr_pages;
	uint64_t limbo; /* where it is kept meanwhile; 0: there is nothing to be kept */
	/* The move of that which is at its place now: who made it waits until the unmapping of where that was is
	 * read. */
	struct leaving mover;
	enum former_state state;
	struct leaving call; /* queued: by which it leaves */
	bool cleared;        /* of a call that moves: it has told what it took away at the place where it moves to */
};

struct formers {
	struct former list[FORMERS_MAX];
	unsigned nr;
};

/* false: there are too many. */
bool former_add(struct formers *formers, const struct former *former);
/* It is told that `told` leaves, of which [vpn, end) is some: takes that part of a former that it means out of the
 * list. 1, or 0 if it means none there; the rest of [vpn, end) may be others'. -ENOSPC: there are too many. */
int former_take(struct formers *formers, const struct leaving *told, uint64_t vpn, uint64_t end,
		struct former *ret_part);
/* Whether a call has to do with one that is awaited. */
bool formers_concern(const struct formers *formers, const struct leaving *call);
/* Whether an unmapping is that of a former; or as good as that. */
bool formers_unmapped(const struct formers *formers, uint64_t vpn, uint64_t nr_pages);
/* What was at a place to which a former is about to be moved is told to be unmapped. */
void formers_cleared(struct formers *formers, uint64_t vpn);
/* Who moved something here from `from` goes on. */
void formers_release(struct formers *formers, uint64_t from, uint64_t nr_pages);
/* They can wait no longer. */
void formers_doubt(struct formers *formers);
/* Nothing is to come of any. */
void formers_drop(struct formers *formers);
/* Whether there is one in a range that is without pages: it stayed where something had moved away, or was not. */
bool formers_empty(const struct formers *formers, uint64_t vpn, uint64_t nr_pages);
/* Those have not been. */
void formers_drop_empty(struct formers *formers, uint64_t vpn, uint64_t nr_pages);
/* In limbo, up to where from `at` on nothing is kept for a former; *ret_next: behind that. UINT64_MAX: the end. */
uint64_t formers_limbo(const struct formers *formers, uint64_t at, uint64_t *ret_next);
/*
 * Whether all that are awaited are known to be queued, or doubtful, or never to have been. `calls`: of threads that
 * sleep, all that are under way and maybe more; their order is changed. `all`: and none is under way of a thread that
 * does not sleep. `left`: places that were told to have been left, and are still to be told unmapped.
 */
bool formers_queued(struct formers *formers, struct leaving *calls, size_t nr_calls, bool all,
		    const struct leaving *left, size_t nr_left);
/* Whether a message that tells of pages in [vpn, end) may be about one there. */
bool formers_meant(const struct formers *formers, const struct leaving *told, uint64_t vpn, uint64_t end);
/* Calls whose first message has been read take nothing away any more, but may have another to tell: they come last.
 * Returns how many do not. `left`: as above. */
size_t calls_told(struct leaving *calls, size_t nr, const struct leaving *left, size_t nr_left);
/* Whether none is doubted any more: an unmapping that is to come has its call. */
bool leavings_known(struct leaving *left, size_t nr_left, const struct leaving *calls, size_t nr_calls);

#endif
