/* SPDX-License-Identifier: MIT */
/*
 * Handlers: threads that read a program's userfaultfd and serve its faults. Two for each CPU, of the idle class and
 * of the normal one; one class at a time reads.
 *
 * A handler's fields are its own, but for those that are atomic and where it says whose they are.
 */
#ifndef TIDE_HANDLER_H
#define TIDE_HANDLER_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table.h"

#define FAULT_RUN_PAGES 64u    /* most that a fault fills, or brings back from the hold area: see ahead.h */
#define PIECE_PAGES 16u        /* of the window of a stored page, brought back at once */
#define HANDLERS_MAX 128u      /* two a CPU */
#define HANDLER_TIDS 4u
/* As of nice, where that is permitted. Programs wait for faults, and for room: on a busy machine everybody
 * who makes room comes before them, and who serves faults before these. */
#define PRIORITY_HANDLER (-15)

struct deferred {
	uint64_t address;
	uint32_t tid;
	bool write;
	uint32_t growth;           /* growth.nr of its program when it was read */
};

enum handler_state {
	HANDLER_NONE,              /* no thread, or one that has left */
	HANDLER_READS,             /* waits for messages */
	HANDLER_PARKED,            /* waits for its bell alone */
};

struct handler {
	struct program *program;
	pthread_t thread;
	int cpu;
	bool normal;               /* its class; else idle */
	bool runs;                 /* a thread is to be joined; keeper alone, once the program is on the list */
	uint32_t cookie;           /* in the words of pages it is bringing in */
	uint8_t *buffer;           /* FAULT_RUN_PAGES pages; NULL: it has never run, and has no bell */
	/* The rest of the window of the fault that it is serving, page number << 12 | pages, for whoever takes
	 * a piece of it first; and how many others have one in hand. load.c */
	_Atomic uint64_t window;
	_Atomic uint32_t nr_joined;
	_Atomic uint64_t nr_served, nr_filled; /* faults; first touches that write */
	uint64_t began_ns;         /* to serve the present fault, and */
	uint64_t waking_ns;        /* to wake the program; 0: not yet, or it keeps its CPU meanwhile */
	uint64_t waking_cpu_ns;    /* processor time by then; 0: it is not asked for this time */
	uint32_t waking_pages;     /* that come with it */
	uint32_t nr_wakes;
	uint64_t page_wake_ns;     /* what that took the last time it was asked for, a page */
	struct deferred *deferred; /* faults to look at again after reading on */
	size_t nr_deferred, room_deferred;
	bool changing;             /* in the last turn the mappings were, so none could be served, and */
	unsigned nr_changing;      /* turns in a row */
	uint64_t growths_ns;       /* not to look before for who makes locked memory larger */
	/* The keeper parks and lifts, other handlers have it read, and who does so rings the bell: then the
	 * handler looks at these, and at program.stopping. */
	_Atomic uint32_t state;    /* enum handler_state */
	_Atomic bool lifted;       /* an idle one out of its class */
	int bell;
	_Atomic int tid;           /* 0: has not begun, or has left */
	bool rests;                /* it has waited for long, and is to wait until it is woken */
	uint64_t nr_served_before; /* by all of them, when it had waited last */
	bool slept;                /* before this turn, and */
	unsigned nr_woken;         /* so many faults in a row */
	uint64_t woken_ns;         /* when that was counted last, and */
	uint64_t followed_ns;      /* when it asked where the program runs */
	unsigned nr_vain;          /* turns in a row in which it found nothing */
	_Atomic uint32_t tids[HANDLER_TIDS]; /* threads that faulted last; 0: none */
};

/* ---- handler.c ---- */

/* One of a class; a thread starts others of its own class only, or it may not get them there. */
int handlers_start(struct program *program, bool normal);
/* Choose who waits for faults, from where the program's faulting threads run and what the machine is
 * like; adds their CPUs to *add_used. Keeper. */
void handlers_choose(struct program *program, uint64_t now_ns, cpu_set_t *add_used);
/* Messages have waited for long: who reads does not get to run. Keeper. */
void handlers_hurry(struct program *program);
/* A lock has been waited for for long: who holds it does not get to run. Takes the idle handlers out of their
 * class, until they have nothing to do. Any thread. */
void handlers_lift(struct program *program);
/* Look whether the machine's CPUs all have something to do; the mover, with its processor time so far, does
 * not count as that. Keeper. */
void handlers_weigh(struct server *server, uint64_t now_ns, uint64_t mover_ns);
/* Tell them to end and wait for it. */
void handlers_stop(struct program *program);
/* Faults that they have served so far, and first touches that wrote. Any thread. */
uint64_t handlers_served(const struct program *program);
uint64_t handlers_filled(const struct program *program);
/* Processor time so far of those that run. Keeper. */
uint64_t handlers_cpu_ns(const struct program *program);
/* Have a handler of another CPU prepare blocks or join windows, if one is idle. Handlers. */
void handlers_call(const struct handler *handler);
/* Read what messages wait, follow the events, and defer the faults. No lock held. The handler itself. */
void handler_read(struct handler *handler);

/* ---- fault.c ---- */

/* For events_read(): the fault is the handler's (arg) to serve. */
void fault_take(void *arg, uint64_t address, bool write, uint32_t tid);
/* The next of those; false: there is none. */
bool fault_next(struct handler *handler, struct deferred *ret_fault);
/* False: it is kept, and no other could be served, for the program is changing its mappings. */
bool fault_serve(struct handler *handler, const struct deferred *fault);
/* The program is changing its mappings, as seen for a while: serve those faults that hold this up. */
void growths_serve(struct handler *handler);
/* The call that comes next wakes the program, for nr_pages: to be told before it, for the time a fault takes. */
void fault_wakes(struct handler *handler, uint32_t nr_pages);
/* Bring pages in a row that were held back into the program: RETURNING -> RESIDENT, on the slow node or the
 * fast one; after a failure the rest is HELD. Returns how many came. program.lock shared; `words` are their
 * RETURNING words, `pages` what is in them. */
uint32_t held_install(struct program *program, struct tract *tract, uint64_t idx, uint64_t vpn,
		      const uint64_t *words, uint32_t nr, const uint8_t *pages, bool slow, int *ret_error);

/* How a touch was served. */
enum served {
	SERVED,
	SERVE_AGAIN,   /* the mappings are changing, or the helper is busy: read on first */
	SERVE_SINGLY,  /* not as a block: by pages */
	SERVE_PREPARE, /* a block, once the stock has one: see stock_prepare() */
};
/* How an install ended, for the one who called for it. */
static inline enum served served_as(int error)
{
	return error == -EAGAIN ? SERVE_AGAIN : SERVED;
}
/* Whether a page that was elsewhere belongs on the fast node now that it is touched: the engine says so,
 * and it has room. */
bool page_earned(struct tract *tract, uint64_t idx);

/* ---- growth.c ---- */
/* Whether a fault may be of locked memory that grows while it is moved: while that is under way no room can be made. */
bool growth_awaited(const struct program *program, const struct deferred *fault);
/* Serve such a fault, or let it come again. False: it is none, or is not its turn. No lock held. */
bool growth_serve(struct program *program, const struct deferred *fault);
/* A move from there is told: its thread may go on. program.lock, exclusive. */
void growth_told(struct program *program, uint64_t from);

/* ---- load.c: pages that come back from the pool ---- */

/* A touch of stored page `idx`, with which `left` pages are left of its extent: bring it back, and those after
 * it that are expected next. program.lock shared; it is given up meanwhile. */
enum served stored_serve(struct handler *h, struct tract *t, uint64_t idx, uint64_t vpn, uint64_t left);
/* Bring back pieces of what others are bringing back, while there are any. No lock held. */
void windows_join(struct handler *h);

/* ---- block.c: huge pages, whole. program.lock shared; `vpn` is that of page `idx` in extent `e` ---- */

/* A first write: fill the block around it from the stock. */
enum served block_fill(struct handler *h, const struct extent *e, uint64_t vpn);
/* A touch of the held page with the word `word`: bring back its block, if that is held as one. */
enum served block_return(struct handler *h, const struct extent *e, uint64_t vpn, uint64_t word);

#endif
