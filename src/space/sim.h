/* SPDX-License-Identifier: MIT */
/*
 * Sim: simulated address spaces and the server that looks after them, in steps that can be put in
 * any order.
 *
 * Everything that is one indivisible moment in the real runtime is one step here: a kernel call,
 * a change under the space's lock, a call of a tier. Whoever drives the sim says which step comes
 * next (struct sim_action); sim_do() takes it if it is possible now. So a random order comes from
 * a seed and replays, and a small world can be searched through in every order.
 *
 *   program  threads that read, write, discard, lazily free, unmap, map, move (mremap), fork and exit
 *   kernel   page tables, fault and event queues of the userfaultfd, copy-on-write, late zaps
 *   server   handlers, mover, adoption, reaping: the protocol of tests/model/page.pml, on the real
 *            state words, a real tier and, if there is one, the real engine
 *
 * A page's content is a number; every write makes a new one, 0 is a page of zeros. In a tier a
 * page is 4 KiB made from its number. `now` of a page is what the next read must give.
 *
 * What must always hold is in sim_check.c. The world is one flat block of memory: copied with its
 * tier, and without an engine, it goes on from there.
 */
#ifndef TIDE_SIM_H
#define TIDE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "tier.h"

#define SIM_THREADS 3u
#define SIM_HANDLERS_MAX 3u
#define SIM_PAGES_MAX 64u
#define SIM_RUN_MAX 8u  /* most pages that one fault brings in */
#define SIM_PLAN_MAX 4u

enum sim_act {
	/* program: of thread `who` */
	SIM_READ,      /* page */
	SIM_WRITE,     /* page */
	SIM_DISCARD,   /* page, nr: MADV_DONTNEED */
	SIM_FREE,      /* page, nr: MADV_FREE */
	SIM_UNMAP,     /* page, nr */
	SIM_MAP,       /* page, nr: whatever is unmapped there */
	SIM_REMAP,     /* page, nr: a mapping moves to `to`, where there is none */
	SIM_FORK,
	SIM_THREAD,    /* goes on: after a fault, after an event was read */
	/* program and kernel */
	SIM_START,     /* a new process in this space */
	SIM_EXIT,      /* ends, at any moment */
	SIM_PIN,       /* page: held by I/O, or no longer */
	SIM_DENY,      /* page: not movable (mlock, read-only), or no longer */
	SIM_RECLAIM,   /* page: lazily freed, the kernel takes it */
	SIM_RECLAIM_PLACE, /* page = place: the same in the hold area */
	SIM_SPLIT,     /* page: the huge page around it comes apart; or, nr = 2, around that place */
	/* server */
	SIM_EVENT,     /* the space's oldest event is read, the table changed */
	SIM_FAULT,     /* handler `who` reads a fault of this space, or takes up a deferred one */
	SIM_HANDLER,   /* handler `who` goes on */
	SIM_MOVER,     /* the mover goes on; when it has no plan, asks the engine for one */
	SIM_MOVE,      /* without an engine: plan to move page, nr; op */
	SIM_DROP,      /* the mover, between plans, drops freed places of this space */
	SIM_SHADOW,    /* page: its shadow slot is given up */
	SIM_STOCK,     /* a block is prepared for this space */
	SIM_ADOPT,     /* mappings the server does not know yet */
	SIM_REAP,      /* the server notices that the process has ended */
	SIM_ACT_COUNT
};

struct sim_action {
	enum sim_act act;
	uint32_t space, who;
	uint32_t page, nr, to;
	enum move_op op;
};

/* What can be made to fail beside the tier: the k-th from now on. */
enum sim_failure {
	SIM_FAIL_BUSY, SIM_FAIL_DENIED, SIM_FAIL_AGAIN,
	/* A page, or a block, goes into the stage, and the answer does not say so: it is an error, or EAGAIN
	 * with no bytes moved, and what the next call says is no better. */
	SIM_FAIL_UNREPORTED,
	SIM_FAIL_TOUCHED,    /* the program has read the stage: its page of zeros is in the way */
	SIM_FAIL_STOCK,      /* the system has no huge page */
	SIM_FAIL_HELPER,     /* there is none any more, or it waits for a fault of its own */
	SIM_FAIL_PUT,        /* a block that is put does not move */
	SIM_FAIL_PUT_AGAIN,  /* the same, with EAGAIN */
	SIM_FAIL_PUT_PART,   /* it comes apart when some of it has moved */
	SIM_FAIL_PUT_UNREPORTED, /* it moved in one piece, and the answer is EAGAIN with no bytes */
	SIM_FAIL_PIECE,      /* a page of one that came apart stays */
	SIM_FAIL_PIECE_UNREPORTED, /* it moved, and the answer is an error */
	SIM_FAILURE_COUNT
};

struct sim_config {
	uint32_t nr_spaces, nr_pages, nr_places, nr_slots, nr_handlers;
	uint32_t versions;      /* contents per page before their numbers repeat; 0: never */
	struct tier *tier;      /* the caller's; its slots must stay below nr_slots */
	struct engine *engine;  /* the caller's, or NULL */
	uint64_t limit_pages;   /* for the engine */
	uint32_t block_pages;   /* of a huge page, at most SIM_RUN_MAX; 0: there are none */
	uint64_t slow_pages;    /* room of the slow node; 0: there is none */
};

/* How a block that was to move in one piece ended. */
enum sim_block_end { SIM_BLOCK_WHOLE, SIM_BLOCK_PART, SIM_BLOCK_NOT, SIM_BLOCK_END_COUNT };

struct sim_counts {
	uint64_t steps;
	uint64_t act[SIM_ACT_COUNT];                               /* taken */
	uint64_t change[PAGE_STATE_COUNT][PAGE_STATE_COUNT];       /* of state words */
	uint64_t reason[MOVE_OP_COUNT][MOVE_REASON_COUNT];         /* pages */
	uint64_t failed[SIM_FAILURE_COUNT];                        /* as told */
	uint64_t load_error, compare_error;
	uint64_t moved_claimed;                                    /* pages, while a handler had them */
	uint64_t filled[SIM_BLOCK_END_COUNT], returned[SIM_BLOCK_END_COUNT]; /* blocks */
	uint64_t held_whole, claimed_part;                         /* claims that somebody else spoilt */
	uint64_t vanished[PAGE_STATE_COUNT];                       /* words met as a space ends */
	uint64_t vanished_plan;                                    /* ... with a move under way */
};

struct sim;

/* 0, -ENOMEM. Starts no process. */
int sim_open(const struct sim_config *config, struct sim **ret_sim);
/* Ends all that runs, which gives every slot back. */
void sim_close(struct sim *sim);

/* Take a step, if it is possible now; else nothing changes and it returns false. */
bool sim_do(struct sim *sim, const struct sim_action *action);

/* The k-th (1: the next) gives its error. 0: none. */
void sim_fail(struct sim *sim, enum sim_failure kind, uint32_t k);

/* Walk everything; NULL when all holds, else a static text that names what does not. */
const char *sim_check(struct sim *sim);

/* A page's state word; 0 where there is no process. */
uint64_t sim_look(struct sim *sim, uint32_t space, uint32_t page);

void sim_set_time(struct sim *sim, uint64_t now_ns);
void sim_set_limit(struct sim *sim, uint64_t limit_pages);
struct sim_counts *sim_counts(struct sim *sim);

/* The world as bytes: equal bytes (and an equal tier), equal futures. */
void *sim_state(struct sim *sim, size_t *ret_bytes);

/* The 4 KiB that stand for a content. */
void sim_fill(uint32_t content, void *ret_page);

#endif
