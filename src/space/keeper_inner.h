/* SPDX-License-Identifier: MIT */
/* What keeper.c, round.c, peer.c and signal.c share. The keeper's thread alone, all of it. */
#ifndef TIDE_KEEPER_INNER_H
#define TIDE_KEEPER_INNER_H

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "keeper.h"
#include "pace.h"

#define PENDING_MAX 64u

struct keeper {
	struct server *server;
	const struct keeper_options *options;
	int listener, signals, device;
	sigset_t mask_before;
	struct rlimit files_before;
	struct sigaction pipe_before, child_before;
	int pending[PENDING_MAX]; /* connected, not yet said hello; -1: free */
	pthread_t mover;
	bool mover_runs;
	bool ended;               /* the program; its status is known */
	bool orphaned;            /* nobody left to wait for */
	bool some_ended;          /* programs of the tree, since the last round */
	bool asked;               /* something of us, by a signal, a peer or the guard, since then */
	bool crowded;             /* no descriptor for a peer: in a second there may be one */
	bool warned_crowded;
	bool unguarded;           /* no guard is left */
	bool warned_space;
	int wait_status;
	uint64_t second_ns;       /* of the last once-a-second round */
	uint64_t live_faults, live_ns; /* as the live line told them last */
	struct pace pace;
	uint64_t counted_ns;      /* thread time that is accounted for */
	uint64_t looks_ns;        /* thread time for looks since any were due */
	uint64_t uncounted_ns;    /* of that, what is not accounted for */
};

/* ---- round.c ---- */

/* The thread time since the last call of this or the next. What is forced by the budget, or asked for by programs or
 * users, is counted as forced, the rest is voluntary. */
uint64_t time_count(struct keeper *keeper, bool forced);
/* The same, for looks: the round counts it in its end. */
void looks_count(struct keeper *keeper);
/* plan_lock, as plan_lock_take(). Where memory is tight programs are looked at while it waits: their new
 * memory fills unseen meanwhile. */
void keeper_lock(struct keeper *keeper);
/* Look at the programs that are due, and do what that tells. */
void programs_round(struct keeper *keeper);

/* ---- peer.c ---- */

/* Somebody connects; says hello, or asks. `i`: in pending[]. */
void peer_accept(struct keeper *keeper);
/* A free place for a peer; PENDING_MAX: none. */
unsigned pending_free(const struct keeper *keeper);
void peer_hear(struct keeper *keeper, unsigned i);
/* Whether a process descends from us, or is us. */
bool process_ours(pid_t pid);

/* ---- signal.c ---- */

/* Pass on what has come. No lock needed. */
void signals_pass(struct keeper *keeper);
/* The same, and wait for children that have ended. */
void signals_take(struct keeper *keeper);

#endif
