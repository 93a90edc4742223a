/* SPDX-License-Identifier: MIT */
/*
 * The server: the programs, the engine, the pool and the one budget. What the mover and the keeper do for all
 * programs together; handlers take room, and count.
 */
#ifndef TIDE_SERVER_H
#define TIDE_SERVER_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine.h"
#include "table.h"
#include "tier.h"

/* As of nice: see PRIORITY_HANDLER. */
#define PRIORITY_MOVER (-10)

struct intake;

enum unmanaged {
	UNMANAGED_SMALL, UNMANAGED_STACK, UNMANAGED_LOCKED, UNMANAGED_SHARED, UNMANAGED_FILE,
	UNMANAGED_SPECIAL, UNMANAGED_FOREIGN, UNMANAGED_SPARSE, UNMANAGED_NO_HELPER, UNMANAGED_COUNT
};

/* Counts of fault times: 8 buckets for every power of two. */
#define HISTOGRAM_BUCKETS 320u
struct histogram {
	_Atomic uint64_t count[HISTOGRAM_BUCKETS];
	_Atomic uint64_t max_ns, sum_ns;
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
	_Atomic bool all_refused;  /* stuck, as tiers refuse what there is; looked at with --hard only */
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
	/* Processor time: of handlers and helpers that have ended, the mover and the keeper; and of these two, what
	 * they did of their own accord. */
	_Atomic uint64_t forced_ns, voluntary_ns;
	_Atomic uint64_t unmanaged_ended[UNMANAGED_COUNT]; /* of programs that have ended, pages */
	uint64_t peak_managed_pages, peak_resident, peak_unhelped;
	uint64_t excess_unmanaged[UNMANAGED_COUNT]; /* pages; the most at one time above the budget */
	pid_t program_pid;                    /* the one that was started */
	int keeper_bell;                      /* bell: a program has grown */
	int guard_socket;
	_Atomic uint32_t guard_nr;            /* of the guard, by how many were killed before; keeper to change */
	char name[64];                        /* of the socket */
};

/* ---- lock.c: what handlers of the idle class may hold and not give back. Any thread ---- */

/* Who waits for it gets it next. Given back by pthread_mutex_unlock(). */
void plan_lock_take(struct server *server);
/* The same; while it waits, `meanwhile` is called every wait_ns, with the turn held and plan_lock not. */
void plan_lock_watch(struct server *server, uint64_t wait_ns, void (*meanwhile)(void *arg), void *arg);

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
static inline int64_t room_left(const struct server *server)
{
	return atomic_load_explicit(&server->room, memory_order_relaxed);
}
/* Pages that have left the memory that is bounded, to whichever tier. */
static inline uint64_t pages_left(const struct server *server)
{
	return atomic_load(&server->demoted) + atomic_load(&server->lowered);
}

/* ---- mover.c ---- */
/* Keep the mover and the keeper off the CPUs in `used`, unless that is all of them: beside the faulting
 * thread one gets done what on its CPU would have it wait, or woken elsewhere. The scheduler does not know
 * who goes together. */
void mover_place(struct server *server, const cpu_set_t *used);
/* `watch_ppm`: what it may take of one core to watch, while no room is wanted; at least 1. 0 or -errno. */
int mover_start(struct server *server, uint32_t watch_ppm, pthread_t *ret_thread);
void mover_wake(struct server *server);

/* ---- keeper.c ---- */
void server_warn(const char *text);

/* ---- tally.c ---- */
void histogram_add(struct histogram *histogram, uint64_t ns);
uint64_t histogram_count(const struct histogram *histogram);
/* The value below which `per_mille` of 1000 lie, to 1/8 of its power of two. */
uint64_t histogram_quantile(const struct histogram *histogram, unsigned per_mille);

#endif
