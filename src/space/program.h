/* SPDX-License-Identifier: MIT */
/*
 * Program: one address space under `pagetide run`, and the server that looks after all of them.
 *
 * The server lives outside. It holds each program's userfaultfd, the tables, the engine and the
 * pool. Inside the program is only a helper (os/helper.h) that moves pages out on command.
 *
 *   handlers (per program and CPU)      read the userfaultfd; events change the table, faults bring
 *                                       pages back
 *   mover (one)                         asks the engine for a plan and carries it out, with the
 *                                       handlers' help (order.c)
 *   keeper (the main thread)            programs coming and going, adoption, signals, statistics
 *
 * Locks, in the order in which they may be taken:
 *   server.plan_lock     the list of programs and their helpers: the mover for a whole plan, the
 *                        keeper to add or free a program. The keeper alone changes the list, so it
 *                        needs no lock to walk it, nor to adopt
 *   program.helper_lock  commands to the helper, and the order that is being carried out; who has
 *                        program.lock may try to take it, but not wait for it
 *   program.lock         exclusive: {read messages from the userfaultfd, change table and extents for
 *                        their events}, adoption, region_vacate(). shared: {check a page's word, install or move the
 *                        page, change the word}. Events reach the program's threads when they are
 *                        read, so whoever reads must already keep everybody else from installing.
 *   server.engine_lock   the engine, but for engine_touch() and engine_readahead(); a recording
 *   program.hold_lock    places of the hold area, blocks of the stock
 *   server.warden_lock   the warden while it reads a hold area's userfaultfd, whoever closes one. Nothing is
 *                        taken under it
 *
 * A helper may stop for ever, with any of its locks asked for: nobody waits for it longer than helper_call() does.
 *
 * What must always hold: a page's content is where its word says; words change by page_change() and
 * page_claim() only; a page of the hold area is dropped only when no word leads to it.
 */
#ifndef TIDE_PROGRAM_H
#define TIDE_PROGRAM_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine.h"
#include "helper.h"
#include "occupied.h"
#include "proc.h"
#include "rwlock.h"
#include "scan.h"
#include "tier.h"

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12
#define FAULT_RUN_PAGES 64u    /* most that a fault fills, or brings back from the hold area: see ahead.h */
#define PIECE_PAGES 16u        /* of the window of a stored page, brought back at once */
#define BLOCK_PAGES 512u
#define TRACT_OWN_PAGES BLOCK_PAGES /* runs below share a tract: no block fits in */
#define HANDLERS_MAX 128u      /* two a CPU */
#define REMAPPED_MAX 64u
#define HANDLER_TIDS 4u
/* As of nice, where that is permitted. Programs wait for faults, and for room: on a busy machine everybody
 * who makes room comes before them, and who serves faults before these. */
#define PRIORITY_HANDLER (-15)
#define PRIORITY_MOVER (-10)

struct server;
struct program;
struct journal;
struct birth;

/* A region with what the space keeps beside it. */
struct tract {
	struct region region;      /* .owner is this */
	struct program *program;
	struct shelf *shelf;       /* NULL: it is one run of pages at first */
	void *memory;
	size_t memory_bytes;
	uint64_t nr_mapped;        /* pages some extent covers; program.lock exclusive */
	uint32_t serial;           /* in a recording */
	_Atomic bool huge;         /* may have huge pages, as far as is known */
	bool located;              /* the words say which node its pages are on: keeper */
	uint8_t advice;            /* while advice is read: enum advice. Keeper */
	_Atomic uint32_t nr_users; /* handlers that hold on to it without the lock; raised under it */
	struct tract *next;        /* in program.tracts or server.dead_tracts */
};

static inline uint64_t word_load(const struct tract *t, uint64_t idx)
{
	return atomic_load_explicit(&t->region.state[idx], memory_order_acquire);
}

static inline uint64_t vpn_address(uint64_t vpn)
{
	return vpn << PAGE_SHIFT;
}

/* Where a run of a tract's pages is mapped now. */
struct extent {
	uint64_t vpn, nr_pages;
	struct tract *tract;
	uint64_t idx;              /* of the first page in the tract */
};

/* Counts of fault times: 8 buckets for every power of two. */
#define HISTOGRAM_BUCKETS 320u
struct histogram {
	_Atomic uint64_t count[HISTOGRAM_BUCKETS];
	_Atomic uint64_t max_ns, sum_ns;
};

struct deferred {
	uint64_t address;
	uint32_t tid;
	bool write;
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

/* Pages that a plan wants held, and pages of the hold area to drop before; how far it is carried out. */
struct order {
	uint32_t nr_drop;
	const struct move *moves;
	struct move_result *results;
	size_t nr, next;           /* moves; the one that is under way */
	uint64_t at;               /* page within that one; 0: its first */
};

/* Hold area: pages taken out of the program wait here, in its own address space. */
struct hold {
	uint64_t address;          /* 0: none yet */
	uint32_t nr_pages;
	_Atomic uint32_t nr_used;  /* hold_lock to change */
	uint32_t cursor;
	uint64_t *used;            /* bitmap */
	uint64_t *whole;           /* bitmap of blocks: a huge page moved in; it may be gone again */
	uint32_t *freed;           /* places to drop; room for all */
	size_t tables_bytes;       /* of these three, which are one mapping */
	uint32_t nr_freed;
};

/* Stock: huge pages of zeros in the program's address space, prepared before they are wanted. */
struct stock {
	_Atomic uint64_t address;  /* 0: none yet */
	int memory;                /* the program's, to read and write; -1. keeper to change */
	uint32_t empty, ready;     /* bitmaps; a block in neither is in somebody's hands. hold_lock */
	_Atomic uint32_t nr_ahead; /* to keep ready: while blocks are asked for */
	_Atomic uint64_t used_ns;  /* when one was taken last */
	_Atomic uint64_t rest_until_ns; /* the system has no huge pages */
};

struct program {
	struct server *server;
	struct program *next;      /* server.programs; plan_lock to change */
	pid_t pid;                 /* 0: unknown (a child made by a raw clone) */
	_Atomic pid_t helper_pid;  /* 0: none */
	int pidfd;                 /* -1: none */
	int proc_dir;              /* /proc of the helper (same memory), or of the program; -1. plan_lock and
				    * lock to change, keeper */
	int statm;                 /* of there, kept open: it is read all the time; as proc_dir */
	int uffd, hold_uffd;       /* -1: none */
	uint32_t guard_nr;         /* of the guard that it was handed over to */
	uint64_t probe, token[2];  /* a page of its helper's, and the bytes put there: who reads them
				    * has this memory */
	uint64_t area, area_bytes; /* of its helper's own */
	uint64_t guards;           /* where it says that it has guard pages: os/helper.h */
	/* It has, or it cannot be asked: nothing is filled ahead of a touch. lock exclusive to change. */
	_Atomic bool guarded;
	int helper_cpu;            /* where it is kept; helper_lock */
	int helper_socket;         /* -1: none; helper_lock to change */

	struct rwlock lock;        /* who reads events must not wait behind a stream of installs */
	struct extent *extents;    /* by vpn; lock */
	size_t nr_extents, room_extents;
	struct tract *tracts;      /* lock */
	struct tract *shelf;       /* of those, where the next small mapping goes; NULL: none. lock */
	_Atomic uint64_t map_seq;  /* changes whenever extents do; lock to change */
	_Atomic bool unknown;      /* a fault came from beyond all extents */
	/* Old places of moved mappings whose UNMAP is still to come: nothing may be adopted there
	 * before. An mremap with DONTUNMAP sends none: its old place leaves the list when it goes, or when
	 * nothing is under way. lock */
	struct { uint64_t vpn, nr_pages; } remapped[REMAPPED_MAX];
	unsigned nr_remapped;
	bool remapped_lost;        /* more than that: adopt nothing more */
	struct journal *journal;       /* journal.h */
	struct birth *_Atomic birth;   /* of a child that may have it all elsewhere; lock to change */
	/* Parts of new places of moved mappings, from which another thread had taken away what was there; it has not
	 * told yet. In limbo: where that is. lock */
	struct { uint64_t vpn, nr_pages, limbo; } replaced[REMAPPED_MAX];
	unsigned nr_replaced;

	pthread_mutex_t helper_lock;   /* one command at a time */
	_Atomic bool populating;       /* its holder waits for a fault of the helper's own; helper_lock to change */
	/* Its helper has not answered the command in `overdue`, and gets no other before it does: frozen.c.
	 * helper_lock to change. */
	_Atomic bool frozen;
	uint64_t helper_seq;
	struct helper_command command, overdue;
	struct helper_reply reply;
	struct order order;
	_Atomic bool ordered;          /* the order is not yet carried out; helper_lock to change */
	_Atomic uint32_t order_seq;    /* futex: changes with each batch of it that a handler did */
	uint64_t nr_served_before;     /* faults, at the last order: mover */

	pthread_mutex_t hold_lock;
	struct hold hold;
	struct stock stock;

	struct handler *handlers;  /* of each CPU the idle one, then the normal one */
	_Atomic unsigned nr_handlers; /* of which some may not run; 0: none has begun */
	_Atomic unsigned nr_reading; /* of which so many read */
	_Atomic bool normal;       /* the class that reads: keeper to change; the next two: keeper */
	uint64_t normal_until_ns;  /* whatever the machine is like, since the idle ones starved */
	uint64_t normal_for_ns;
	_Atomic bool stopping;     /* handlers end */
	_Atomic bool gone;         /* it is no longer on the list, or is being ended */
	/* Its process has ended, or has become another program. Others may still be in its memory: children of
	 * vfork, and of clone. They are served, and nothing is taken out any more. Keeper to change. */
	_Atomic bool deserted;
	uint64_t leave_ns;         /* then `pidfd` is its helper's, who is to have ended by this time: keeper */
	bool adopted;              /* its mappings are registered: keeper */
	/* Its extents are those of its mappings: nothing may be taken out before. A child's are not sure to be.
	 * lock; keeper to change. */
	bool checked;
	bool surveyed;             /* its maps have been read once: keeper, as are the next two */
	uint64_t advice_filled;    /* first touches when advice was read last, and */
	uint64_t advice_rest_ns;   /* not again before */
	/* Pages that the kernel touches when a thread ends, in order: they stay where they are. lock; keeper to
	 * change, as is when it looks at them next. */
	uint64_t *ends;
	size_t nr_ends;
	uint64_t ends_rest_ns;
	/* In a PID namespace of its own: the kernel tells its threads' numbers there, which mean others here. Keeper
	 * to change, at its hello; a child begins with its parent's. */
	_Atomic bool numbered_apart;
	/* Programs that fork made of one another share pages: budgeted by proportional share, and
	 * not to be moved before the others have ended. */
	uint64_t family;
	unsigned nr_family;        /* living members: plan_lock */
	_Atomic bool forked;       /* pages may still be marked shared */
	uint64_t unmanaged[9];     /* pages by enum unmanaged, as of the last adoption: keeper */
	struct scan look, survey;  /* pace.c: keeper, as are the next eight */
	bool looked;               /* in this round, and */
	uint64_t nr_found;         /* how much there was to do */
	uint64_t size_pages, looked_pages; /* of its address space, resident; at the last look */
	uint64_t managed_pages;
	_Atomic uint64_t seen_size_pages; /* at the last survey, and */
	uint64_t seen_map_seq;
	unsigned nr_waiting_looks; /* in a row, at which messages waited and faults were not served */
	uint64_t nr_served_looked, served_looked_ns; /* faults at the last look, and when that was */
	_Atomic uint64_t anon_pages; /* resident, as measured last; plan_lock to change */
	uint64_t measured_size_pages; /* of its address space, when the mover looked last */
	_Atomic bool grown;        /* that has changed: the keeper is to look at it */
	uint64_t looked_ns;
	/* Of a family: what had landed, and left, of all programs when anon_pages was measured; plan_lock. */
	uint64_t looked_landed, looked_left;
};

/* What the user bounds, in bytes; 0: nothing. */
struct budget_wish {
	uint64_t dram_bytes;   /* what the programs have resident */
	uint64_t memory_bytes; /* that, the pool and the tables together */
	uint64_t pool_bytes;
};

/* What the bounds are found from. */
struct budget_reading {
	uint64_t bound_bytes, spare_bytes; /* UINT64_MAX: none */
	uint64_t fast_most, slow_most;     /* pages that there is memory for on the two nodes */
};

struct server {
	struct engine *engine;
	struct intake *intake;     /* NULL: nothing is recorded */
	pthread_mutex_t engine_lock;
	pthread_mutex_t plan_lock, plan_turn; /* by plan_lock_take() and plan_lock_watch() */
	struct tier *pool;
	_Atomic bool pool_bounded; /* what it takes is not there for programs */
	struct program *programs;
	unsigned nr_cpus;
	cpu_set_t cpus;            /* on which the programs may run */
	/* With a slow node the budget below is for the fast one. */
	unsigned nodes[2];         /* the fast and the slow one */
	uint64_t slow_bound;       /* pages; 0: there is no slow node */
	bool slow_last;            /* nothing comes after it */
	_Atomic uint64_t slow_max; /* what of slow_bound there is memory for: keeper */
	_Atomic int64_t slow;      /* pages there by their words: page_change() */
	_Atomic int64_t slow_held; /* of those, in hold areas */
	_Atomic uint64_t slow_wait_ns; /* what touches of pages held there have taken, all together */
	uint64_t peak_slow;        /* mover */
	_Atomic uint64_t raised, lowered; /* pages from the slow node to the fast one, and back */
	pthread_t warden;
	int warden_epoll, warden_stop;
	pthread_mutex_t warden_lock; /* by what is in the epoll: it is open */
	_Atomic uint32_t next_cookie;

	/* The budget: budget.c. */
	struct budget_wish wish;
	uint64_t bound_bytes;      /* on the programs, the pool and the tables; UINT64_MAX: none. plan_lock;
				    * keeper to change */
	uint64_t spare_bytes;      /* above it, before the kernel kills; UINT64_MAX: no group bounds us. Keeper */
	int own_statm;             /* of our own /proc */
	uint64_t fast_most;        /* pages that there is memory for on the fast node; plan_lock */
	_Atomic uint64_t limit;    /* pages; plan_lock to change */
	_Atomic int64_t room;      /* pages that handlers may install */
	int64_t room_base;         /* room, if nothing had ever been taken; plan_lock */
	_Atomic uint64_t landed;   /* pages that were taken from the room and installed */
	_Atomic uint64_t resident; /* pages */
	/* The engine keeps a margin free; two thirds of it left, the mover is woken: it is on another CPU,
	 * dear to wake, and should find a batch to do. */
	_Atomic int64_t wake_room;
	_Atomic uint32_t nr_waiting; /* faults that wait for room */
	_Atomic bool stuck;        /* no room can be made now: run on above the budget */
	_Atomic uint32_t space;    /* futex: changes whenever room was made */
	_Atomic uint32_t work;     /* futex: changes to wake the mover */
	_Atomic bool mover_idle;
	_Atomic int mover_tid;
	_Atomic bool stopping;
	bool hard, quiet;
	bool tight;                /* memory has been short: programs are adopted; keeper */
	bool saturated;            /* all CPUs have something to do; keeper, as are the next two */
	int64_t free_ns;           /* of the CPUs together, when that was looked at last */
	uint64_t weighed_ns;       /* then; 0: never */
	bool warned_uffd;          /* keeper */
	_Atomic uint64_t unhelped_pages; /* resident, of processes without a helper */

	pthread_mutex_t dead_lock;
	struct tract *dead_tracts; /* dead_lock; freed by the mover between plans */
	struct program *newborn;   /* dead_lock; children of fork, joined by the keeper */
	_Atomic bool lost_child;   /* a child without a name must end: the keeper ends the tree */
	_Atomic uint64_t next_family;

	/* Counters. */
	struct histogram fault_times;
	_Atomic uint64_t promoted, demoted;   /* pages */
	_Atomic uint64_t nr_shadows;          /* resident, held or storing pages that keep a slot */
	_Atomic uint64_t shadow_drops;        /* demotions that needed no write */
	_Atomic uint64_t refilled;            /* discarded pages that were touched too early */
	/* Huge pages that moved in one piece: out of the stock, to the hold area and back. */
	_Atomic uint64_t huge_filled, huge_held, huge_returned;
	_Atomic uint64_t vanished;            /* pages that were not where the table said: must be 0 */
	_Atomic uint64_t over_budget;         /* faults served above a full budget */
	_Atomic uint64_t forced_ns;           /* thread time of handlers and mover that has ended */
	_Atomic uint64_t mover_ns;
	_Atomic uint64_t keeper_ns;
	_Atomic uint64_t unmanaged_ended[9];  /* of programs that have ended, pages */
	uint64_t peak_managed_pages, peak_resident, peak_unhelped;
	pid_t program_pid;                    /* the one that was started */
	int keeper_bell;                      /* bell: a program has grown */
	int guard_socket;
	_Atomic uint32_t guard_nr;            /* of the guard, by how many were killed before; keeper to change */
	char name[64];                        /* of the socket */
};

enum unmanaged {
	UNMANAGED_SMALL, UNMANAGED_STACK, UNMANAGED_LOCKED, UNMANAGED_SHARED, UNMANAGED_FILE,
	UNMANAGED_SPECIAL, UNMANAGED_FOREIGN, UNMANAGED_SPARSE, UNMANAGED_NO_HELPER, UNMANAGED_COUNT
};

/* ---- extent.c: where pages are. program.lock held: shared to look, exclusive to change ---- */

/* The extent that holds a page, or NULL. */
const struct extent *extent_find(const struct program *program, uint64_t vpn);
/* The first extent that ends behind a page, or NULL. */
const struct extent *extent_next(const struct program *program, uint64_t vpn);
/* Where page `idx` of a tract is mapped; *ret_run: how many pages follow it there, itself included.
 * False: nowhere any more. */
bool extent_place(const struct program *program, const struct tract *tract, uint64_t idx,
		  uint64_t *ret_vpn, uint64_t *ret_run);
/* Pages of all extents; takes the lock itself. */
uint64_t extents_pages(struct program *program);
int extent_add(struct program *program, struct extent extent);
/* Take everything out of [vpn, vpn + nr): calls `cut` for each piece. */
void extent_cut(struct program *program, uint64_t vpn, uint64_t nr_pages,
		void (*cut)(void *arg, const struct extent *piece), void *arg);

/* A tract of nr_pages, known to the engine, that no extent leads to yet; it is to begin at vpn. -ENOMEM. */
int tract_new(struct program *program, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract);
/* The same with one extent at vpn. */
int tract_add(struct program *program, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract);
/* Put a tract that no extent covers any more aside; the mover frees it. */
void tract_bury(struct tract *tract);
void tract_free(struct tract *tract);

/* ---- shelf.c: tracts for small mappings. program.lock as for extents ---- */

/* An extent for nr_pages at vpn, which none covers, in a tract of its own or beside others. *ret_idx: of its
 * first page there. -ENOMEM. */
int tract_take(struct program *program, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract,
	       uint64_t *ret_idx);
/* What a tract with a shelf has beside its tables. */
size_t shelf_bytes(void);
/* Of a tract with a shelf: where page `idx` was mapped last. */
uint64_t shelf_home(const struct tract *tract, uint64_t idx);
/* Pages from `idx` on are mapped at vpn now. */
void shelf_settle(struct tract *tract, uint64_t vpn, uint64_t idx, uint64_t nr_pages);

/* ---- lock.c: what handlers of the idle class may hold and not give back. Any thread ---- */

/* Who waits for it gets it next. Given back by pthread_mutex_unlock(). */
void plan_lock_take(struct server *server);
/* The same; while it waits, `meanwhile` is called every wait_ns, with the turn held and plan_lock not. */
void plan_lock_watch(struct server *server, uint64_t wait_ns, void (*meanwhile)(void *arg), void *arg);
void program_lock_shared(struct program *program);
void program_lock_exclusive(struct program *program);
void helper_lock_take(struct program *program);

/* ---- page.c ---- */

/* region_change(), with what is on the slow node counted; not from ABSENT. */
bool page_change(struct server *server, _Atomic uint64_t *word, uint64_t from, uint64_t to);
/* The same from ABSENT: its block holds something from now on. program.lock. */
bool page_claim(struct tract *tract, uint64_t idx, uint64_t to);
/* The count alone: for words that appear or end otherwise. */
void page_count(struct server *server, uint64_t from, uint64_t to);
/* Pages that still may go to the slow node; none without one. */
int64_t slow_room(const struct server *server);
/* Find out which node resident pages are on, where the words cannot know: memory that the program had before
 * it was managed, or has shared with a child. Keeper. */
void program_locate(struct program *program);
/* Pages that have left the memory that is bounded, to whichever tier. */
static inline uint64_t pages_left(const struct server *server)
{
	return atomic_load(&server->demoted) + atomic_load(&server->lowered);
}
/* What the calling thread installs from here on is to come from the slow or the fast node. */
void page_source(const struct server *server, bool slow);

/* ---- event.c: releasing what a word owns ---- */

/* The page is discarded: its word becomes ABSENT and gives back slot and hold place.
 * program.lock exclusive. */
void page_discard(struct tract *tract, uint64_t idx);
/* For extent_cut(): all of a piece is discarded, and its tract buried with its last. program.lock exclusive. */
void piece_drop(void *arg, const struct extent *piece);

/* Find out whether it has guard pages. program.lock exclusive. */
void guards_look(struct program *program);

/* ---- hold.c ---- */

/* The thread that fills holes of hold areas when the program itself touches them. */
int warden_start(struct server *server);
void warden_join(struct server *server);

#define HOLD_PAGES_MIN 2048u
#define HOLD_PAGES_MAX (UINT32_MAX / BLOCK_PAGES * BLOCK_PAGES) /* 16 TiB; a place has 32 bits */
/* How many of nr_pages places there may be where the program may map `left_bytes` more; 0: there is no room
 * for an area. */
uint32_t hold_fit(uint32_t nr_pages, uint64_t left_bytes);
/* Ask the helper for the area; it may have fewer places, where the program's address space is limited. After
 * an error nothing is mapped. -ENOMEM: no room for one. Mover or keeper. */
int hold_open(struct program *program, uint32_t nr_pages);
/* The tables for hold.nr_pages places, for hold_open() and tests; hold_close() frees them. Mapped: of an area most of
 * which is never used its tables take no memory either. 0 or -ENOMEM. */
int hold_tables_open(struct hold *hold);
/* Before its program goes: nobody reads hold_uffd any more, which is closed. Keeper. */
void hold_close(struct program *program);
/* How many places may be used for pages to be moved out: some are left for what comes back of a command that is
 * revoked. */
static inline uint32_t hold_room(const struct program *program)
{
	return program->hold.nr_pages ? program->hold.nr_pages - HELPER_PAGES_MAX : 0;
}
/* Take up to nr_pages places in a row (a whole block when 512 are asked for and there is one);
 * returns how many. */
uint32_t hold_take(struct program *program, uint32_t nr_pages, uint32_t *ret_place);
/* Note that a huge page has come to a block of places, or is no longer there. */
void hold_whole(struct program *program, uint32_t place, bool whole);
/* Whether one may be at a place. */
bool hold_may_be_whole(struct program *program, uint32_t place);
/* Places that nothing is in: nothing was moved to them, or all was moved away. */
void hold_untake(struct program *program, uint32_t place, uint32_t nr_pages);
/* A place whose page is no longer needed; it is dropped later. Any thread. */
void hold_release(struct program *program, uint32_t place);
/* Read held pages, at most FAULT_RUN_PAGES, by their words. -EFAULT, -EIO: the memory is gone. */
int held_read(struct program *program, const uint64_t *words, uint32_t nr, void *pages);
/* Drop up to `max` places that were released; how many: fewer than asked when there are no more, or no
 * helper. helper_lock held. */
uint32_t hold_drop(struct program *program, uint32_t max);
static inline uint64_t hold_address(const struct program *program, uint32_t place)
{
	return program->hold.address + ((uint64_t)place << PAGE_SHIFT);
}
/* Run program->command (helper_lock held), reply in program->reply. -ENOTCONN: there is no helper, nothing
 * was done; -EBUSY: nor was it, for an earlier command is outstanding; -EPIPE: it ended over the command, and nobody
 * knows what it did; -EINPROGRESS: no reply yet. Of a move, or a block, the caller then revokes it, before it
 * gives up program.lock. Takes 0.6 s at most. */
int helper_call(struct program *program);
/* Send a command, with a descriptor or NULL, and take a reply with its number. For helper_call() and frozen.c. */
int helper_send(const struct program *program, const struct helper_command *command, const int *fd);
int helper_receive(struct program *program, uint64_t seq);
/* Before the first command: what it is to do should we be killed. Keeper, as it comes. -EPIPE: it has ended. */
int helper_keep(struct program *program);
/* No more commands: it ended, or may. helper_lock held. */
void helper_leave(struct program *program);
/* Bring the helper to the caller's CPU. helper_lock held. */
void helper_follow(struct program *program);

/* ---- frozen.c: a helper that does not answer. helper_lock held ---- */

/* If it was stopped by a signal it goes on. */
void helper_continue(const struct program *program);
/* The command stays outstanding. */
void helper_freeze(struct program *program);
/* Whether there is a helper, and it takes commands. Its late reply is looked for, and what it is about settled. */
bool helper_ready(struct program *program);
/* The same; takes helper_lock. Mover. */
void helper_thaw(struct program *program);

/* After -EINPROGRESS of HELPER_MOVE. */
struct revocation {
	struct program *program;
	int pagemap;
	bool whole; /* it was about a whole block */
};
/* No page leaves the program by the command any more. program.lock shared, held since before its pages were claimed.
 * -errno: that cannot be had, and nobody knows where they are. */
int move_revoke(struct program *program, struct revocation *ret);
void revocation_end(const struct revocation *revocation);
/* Bring back what was taken of page `at` of the command, which was to go from page->src to page->dst. HELPER_BUSY:
 * it is in the program; HELPER_MOVED: held in *ret_place; HELPER_LOST: neither could be had. */
enum helper_outcome page_recall(const struct revocation *revocation, uint32_t at, const struct helper_run *page,
				uint32_t *ret_place);
/* After -EINPROGRESS of HELPER_PUT: no page of the block moves any more; program->reply tells of each. As above. */
int put_revoke(struct program *program);

/* ---- order.c ---- */

static inline struct tract *move_tract(const struct move *m)
{
	return m->region->owner;
}
/* Ask for moves of one program, all MOVE_HOLD, to be carried out, and before that for the dropping of
 * what was released in its hold area. Moves and results stay until order_finish(). Mover. */
void order_post(struct program *program, const struct move *moves, size_t nr,
		struct move_result *results);
/* Carry out a small part of the order, if there is one and nobody else is at it; whether that was so.
 * No lock held. Handlers. */
bool order_work(struct program *program);
/* Wait for the order while the handlers go on with it, and do what they leave. Mover. */
void order_finish(struct program *program);
/* The end of a round, all orders finished: a program that had none in it has what was released in its
 * hold area dropped; the others' goes with their next one. Mover. */
void order_settle(struct program *program);

/* ---- event.c ---- */

/* No event waits, and none is on its way: nothing more is to come of mappings that moved. program.lock exclusive. */
void moves_settle(struct program *program);
/* What is at `from` is at `to` from here on, where nothing is; program.lock exclusive. */
void range_move(struct program *program, uint64_t from, uint64_t to, uint64_t nr_pages);
/* What was unmapped is no longer kept for children; program.lock exclusive. */
void limbo_clear(struct program *program);

/* Read what is waiting; program.lock exclusive. Faults go to `take`. Returns 1 when more may be waiting,
 * 0 when not, or -errno. -EBUSY: nothing is read yet, where a child's memory is has still to be found out. */
int events_read(struct program *program,
		void (*take)(void *arg, uint64_t address, bool write, uint32_t tid), void *arg);

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

/* ---- fault.c ---- */

/* For events_read(): the fault is the handler's (arg) to serve. */
void fault_take(void *arg, uint64_t address, bool write, uint32_t tid);
void fault_serve(struct handler *handler, const struct deferred *fault);
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
static inline int64_t room_left(const struct server *server)
{
	return atomic_load_explicit(&server->room, memory_order_relaxed);
}
/* Whether a page that was elsewhere belongs on the fast node now that it is touched: the engine says so,
 * and it has room. */
bool page_earned(struct tract *tract, uint64_t idx);

/* ---- load.c: pages that come back from the pool ---- */

/* A touch of stored page `idx`, with which `left` pages are left of its extent: bring it back, and those after
 * it that are expected next. program.lock shared; it is given up meanwhile. */
enum served stored_serve(struct handler *h, struct tract *t, uint64_t idx, uint64_t vpn, uint64_t left);
/* Bring back pieces of what others are bringing back, while there are any. No lock held. */
void windows_join(struct handler *h);

/* ---- budget.c ---- */

/* Find out what there is, for the bounds: a look at files for each program and control group. Keeper, once a
 * second; plan_lock not held, or nothing could be planned meanwhile. */
void budget_read(struct server *server, struct budget_reading *ret_reading);
/* The bounds that follow. plan_lock held. */
void budget_renew(struct server *server, const struct budget_reading *reading);
/* Bound the pool by that: it may have all but the least that programs need to run. Takes pool memory back.
 * Keeper; plan_lock not held. */
void budget_pool(struct server *server);
/* The limit from the bound and from what we use ourselves now. plan_lock held. */
void budget_split(struct server *server);
/* The resident pages from which on memory is tight: programs are adopted, and pages moved out. */
uint64_t budget_edge(const struct server *server);
/* Before pages are installed: they use up room. Any thread. */
void room_take(struct server *server, uint64_t pages);
/* Afterwards: how many of those taken were installed. Any thread. */
void room_landed(struct server *server, uint64_t taken, uint64_t landed);
/* A measurement of resident pages begins, and has ended: room is what it leaves. `landed` is what
 * room_begin() gave. plan_lock held. */
uint64_t room_begin(const struct server *server);
void room_measured(struct server *server, uint64_t resident, uint64_t landed);

/* ---- block.c: huge pages, whole. program.lock shared; `vpn` is that of page `idx` in extent `e` ---- */

/* A first write: fill the block around it from the stock. */
enum served block_fill(struct handler *h, const struct extent *e, uint64_t vpn);
/* A touch of the held page with the word `word`: bring back its block, if that is held as one. */
enum served block_return(struct handler *h, const struct extent *e, uint64_t vpn, uint64_t word);
/* The area is mapped. */
void stock_open(struct program *program, uint64_t address);
void stock_close(struct program *program);
/* Prepare one block: false if there is none to prepare, or no huge page to be had. No lock held: it takes
 * as long as fifty faults. */
bool stock_prepare(struct program *program);
/* Prepare blocks ahead, while there is room. No lock held. */
void stock_fill(struct program *program);
/* Take back a block that a command was about, by its address: as one that is prepared, or is not. */
void stock_give(struct program *program, uint64_t address, bool ready);
/* Give up blocks that nobody has asked for lately. Mover. */
void stock_settle(struct program *program, uint64_t now_ns);

/* ---- mover.c ---- */
/* Keep the mover and the keeper off the CPUs in `used`, unless that is all of them: beside the faulting
 * thread one gets done what on its CPU would have it wait, or woken elsewhere. The scheduler does not know
 * who goes together. */
void mover_place(struct server *server, const cpu_set_t *used);
int mover_start(struct server *server, pthread_t *ret_thread);
void mover_wake(struct server *server);

/* ---- advice.c ---- */
/* Whether mappings may have huge pages is read again, if it is worth that. Keeper. */
void program_advice(struct program *program, uint64_t now_ns);

/* ---- ends.c ---- */
/* Find out which pages the kernel touches when threads end, and bring them back. No lock held. Keeper. */
void ends_look(struct program *program, uint64_t now_ns);
/* Of nr_pages from vpn on, how many there are before the first of these. program.lock. */
uint64_t ends_free(const struct program *program, uint64_t vpn, uint64_t nr_pages);

/* ---- adopt.c ---- */
/* Register every mapping that can be managed and is not yet; *ret_pages: of those. Keeper. */
int program_adopt(struct program *program, uint64_t *ret_pages);

/* ---- tree.c: programs ---- */
struct program *program_new(struct server *server);
/* The child of a fork event: tables copied, slots shared. Called with parent->lock exclusive. */
void program_fork(struct program *parent, int uffd);
void program_free(struct program *program);
/* A helper says hello: a new program, or the name of a forked child. Takes the descriptors over. */
int program_hello(struct server *server, int socket, const struct helper_hello *hello,
		  const int fds[HELPER_HELLO_FDS]);
/* The keeper's rounds, plan_lock held. */
void newborn_join(struct server *server);
/* Hand a program over to the guard. 0 or -errno. Keeper, or before the program is on the list. */
int program_guard(struct program *program);
/* Those that are due for a look, or all when `some_ended`. */
void programs_reap(struct server *server, uint64_t now_ns, bool some_ended);
/* Its helper has ended: its number and its /proc are no longer its memory's. plan_lock held, keeper. */
void program_widow(struct program *program);
void program_unshare(struct program *program);
/* Have its helper write to the resident or other pages of `nr` runs (dst, bytes), HELPER_RUNS_MAX at most: their
 * sharing is broken, or they come back. As helper_call(). No lock of the program's held. Keeper. */
int pages_touch(struct program *program, const struct helper_run *runs, uint32_t nr);

/* The bytes of a page are lost (a tier could not give them back): end the program with a line. */
void program_fail(struct program *program, const char *why);

/* ---- pace.c ---- */
/* A program is new: when to look at it. */
void pace_begin(struct program *program, uint64_t now_ns);

/* ---- keeper.c ---- */
void server_warn(const char *text);

/* ---- tally.c ---- */
void histogram_add(struct histogram *histogram, uint64_t ns);
uint64_t histogram_count(const struct histogram *histogram);
/* The value below which `per_mille` of 1000 lie, to 1/8 of its power of two. */
uint64_t histogram_quantile(const struct histogram *histogram, unsigned per_mille);

#endif
