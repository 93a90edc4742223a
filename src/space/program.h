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
 * This is what concerns a program as one; its table is in table.h, what is ours in its memory in hold.h, its
 * handlers in handler.h, and what there is of all programs together in server.h.
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
#include "handler.h"
#include "helper.h"
#include "hold.h"
#include "moves.h"
#include "proc.h"
#include "rwlock.h"
#include "scan.h"
#include "server.h"
#include "table.h"
#include "tier.h"

struct journal;
struct birth;
struct survey;
struct uffd_msg;

struct program {
	struct server *server;
	struct program *next;      /* server.programs; plan_lock to change */
	_Atomic pid_t pid;         /* 0: unknown (a child made by a raw clone). Keeper to set, once, after its pidfd:
				    * handlers run before */
	_Atomic int pidfd;         /* of `pid`; -1: none */
	_Atomic pid_t helper_pid;  /* 0: none */
	int proc_dir;              /* /proc of the helper (same memory), or of the program; -1. plan_lock and
				    * lock to change, keeper */
	int statm;                 /* of there, kept open: it is read all the time; as proc_dir */
	int uffd;                  /* -1: none */
	_Atomic int hold_uffd;     /* the same; a child that was forked gets it when it says hello */
	uint32_t guard_nr;         /* of the guard that it was handed over to */
	uint64_t probe, token[2];  /* a page of its helper's, and the bytes put there: who reads them
				    * has this memory */
	uint64_t area, area_bytes; /* of its helper's own */
	uint64_t guards;           /* where it says that it has guard pages: os/helper.h */
	/* It has, or it cannot be asked: nothing is filled ahead of a touch. lock exclusive to change. */
	_Atomic bool guarded;
	int helper_cpu;            /* where it is kept; helper_lock */
	_Atomic int helper_socket; /* -1: none; helper_lock to change */

	struct rwlock lock;        /* who reads events must not wait behind a stream of installs */
	struct extent *extents;    /* by vpn; lock */
	size_t nr_extents, room_extents;
	struct tract *tracts;      /* lock */
	struct tract *shelf;       /* of those, where the next small mapping goes; NULL: none. lock */
	_Atomic uint64_t map_seq;  /* changes whenever extents do; lock to change */
	_Atomic bool unknown;      /* a fault came from beyond all extents */
	struct journal *journal;       /* journal.h */
	struct birth *_Atomic birth;   /* of a child that may have it all elsewhere; lock to change */
	struct growth {                /* of locked memory that moves: growth.c. lock, exclusive */
		uint32_t tid;          /* 0: of none */
		uint32_t nr;           /* how often one was begun, modulo 2^32 */
		uint64_t address;      /* where it was let fault again */
		struct proc_remap call;
	} growth;
	struct moves moves;            /* lock; exclusive the next three as well */
	uint64_t held_since_ns;        /* since when nothing is read, and */
	uint64_t held_cpu_ns;          /* what the program's threads had run by then */
	int threads_dir;               /* /proc of the program itself, once its threads were looked at; -1 */
	_Atomic bool held;             /* nothing is read for now; lock to change */

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
	int leaving_pidfd;         /* of its helper then, who is to have ended by leave_ns; -1: none. keeper */
	uint64_t leave_ns;
	bool adopted;              /* its mappings are registered: keeper */
	/* Its extents are those of its mappings: nothing may be taken out before. A child's are not sure to be.
	 * lock; keeper to change. */
	bool checked;
	bool fresh;                /* some of its extents are; lock, exclusive to change */
	struct locked { uint64_t start, end; } *locked; /* mappings that are: keeper, as are the next four */
	size_t nr_locked;
	uint64_t locked_kib;       /* as the kernel told when these were read */
	bool surveyed;             /* its maps have been read once: keeper, as is the next one */
	uint64_t advice_filled;    /* first touches when advice was read last */
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
	uint64_t unmanaged[UNMANAGED_COUNT]; /* pages by enum unmanaged, as of the last adoption: keeper */
	struct scan look, survey, again, advice; /* pace.c: keeper, as are the next eight */
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

/* ---- lock.c: as plan_lock_take() ---- */

void program_lock_shared(struct program *program);
void program_lock_exclusive(struct program *program);
void helper_lock_take(struct program *program);

/* ---- calls.c: program.lock exclusive ---- */

/* Whether the next message may be read: it is known of whom it tells. */
bool calls_known(struct program *program);
/* Whether all that is told is of one thread. */
bool calls_alone(struct program *program);
/* Whether memory of ours is mapped at a page by now: 1, 0 or -errno. */
int page_mapped(const struct program *program, uint64_t vpn);
/* How many pages a move is about that is told to be one of `told_pages`. Its message has just been read. */
uint64_t calls_pages(struct program *program, uint64_t from, uint64_t to, uint64_t told_pages);

/* ---- event.c ---- */

/* Find out whether it has guard pages. program.lock exclusive. */
void guards_look(struct program *program);

/* Take `max` messages at most from its userfaultfd, and do nothing with them; how many, or -errno. -EMFILE: that ends
 * the program. program.lock exclusive. */
ssize_t messages_fetch(struct program *program, struct uffd_msg *messages, size_t max);
/* Read what is waiting; program.lock exclusive. Faults go to `take`. Returns 1 when more may be waiting,
 * 0 when not, or -errno. -EBUSY: nothing is read yet, where a child's memory is has still to be found out. */
int events_read(struct program *program,
		void (*take)(void *arg, uint64_t address, bool write, uint32_t tid), void *arg);

/* ---- advice.c ---- */
/* Whether it is worth reading again which mappings may have huge pages; read that; it has been read, and took cost_ns.
 * Keeper. */
bool advice_due(const struct program *program, uint64_t now_ns);
void advice_read(struct program *program);
void advice_done(struct program *program, uint64_t now_ns, uint64_t cost_ns);

/* ---- ends.c ---- */
/* Find out which pages the kernel touches when threads end, and bring them back. No lock held. Keeper. */
void ends_look(struct program *program, uint64_t now_ns);
/* Of nr_pages from vpn on, how many there are before the first of these. program.lock. */
uint64_t ends_free(const struct program *program, uint64_t vpn, uint64_t nr_pages);

/* ---- adopt.c ---- */

/* What may be registered, and of which nothing is known, gets an extent: fresh. -ENOMEM, or nobody can tell what is
 * there. program.lock exclusive. */
int stretch_take(struct program *program, uint64_t vpn, uint64_t nr_pages);
/* Register every mapping that can be managed and is not yet; *ret_pages: of those. Keeper. */
int program_adopt(struct program *program, uint64_t *ret_pages);

/* ---- tree.c: programs ---- */
struct program *program_new(struct server *server);
/* The child of a fork event: tables copied, slots shared. Called with parent->lock exclusive. */
void program_fork(struct program *parent, int uffd);
void program_free(struct program *program);
/* Processor time of its helper; 0 without one. Keeper, or plan_lock held. */
uint64_t helper_cpu_ns(const struct program *program);
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

#endif
