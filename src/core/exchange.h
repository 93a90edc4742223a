/* SPDX-License-Identifier: MIT */
/*
 * Exchange: how fast pages of the slow node that proved hot may change places with cold ones.
 *
 * A page that is mapped on the slow node is seen only once it is unmapped again, which costs a fault;
 * and when it comes back to the fast node another one must go. So both are given out at a rate:
 * *probes*, pages of the slow node to be held, and *promotions*.
 *
 * The rate adapts to whether it pays. When of the pages that have to leave the fast node many were in
 * use not long ago, the fast node is too small for what is in use and pages only change places: the
 * rate halves. When few were, it grows.
 *
 * exchange_promote(): any thread, lock-free; everything else under the engine lock.
 */
#ifndef TIDE_EXCHANGE_H
#define TIDE_EXCHANGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct exchange {
	uint32_t rate;             /* pages a second */
	uint64_t time_ns;          /* tokens are given out up to here; 0: never yet */
	uint64_t probes;           /* tokens, in pages */
	_Atomic int64_t promotions;
	/* Since the rate adapted last, in pages. */
	_Atomic uint64_t promoted;
	uint64_t left, left_hot;   /* that left the fast node; of those, in use not long before */
};

void exchange_init(struct exchange *exchange);
/* Give out what has grown until now, and adapt. Once a step. */
void exchange_refill(struct exchange *exchange, uint64_t now_ns);
/* Take a token for a promotion, if there is one. */
bool exchange_promote(struct exchange *exchange);
/* Take up to `want` tokens for probes; returns how many there were. */
uint64_t exchange_probes(struct exchange *exchange, uint64_t want);
/* A page leaves the fast node. */
void exchange_left(struct exchange *exchange, bool hot);

#endif
