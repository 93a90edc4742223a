/* SPDX-License-Identifier: MIT */
/*
 * Exchange: how fast pages of the slow node that proved hot may change places with cold ones.
 *
 * A page that is mapped on the slow node is seen only once it is unmapped again, which costs a fault;
 * and when it comes back to the fast node another one must go. So both are given out at a rate:
 * *probes*, pages of the slow node to be held, and *promotions*.
 *
 * The rate of promotions adapts to whether it pays. When of the pages that have to leave the fast node many
 * were in use not long ago, the fast node is too small for what is in use and pages only change places: the
 * rate halves. When few were, it grows. That of probes is the same, but for the time that the program waits
 * for pages that were held: when that is more than a share of a processor's time, it halves.
 *
 * To be promoted a page must be touched twice within a window: two passes of the hand that holds it, or a
 * least time, whichever is longer.
 *
 * exchange_promote(), exchange_window(): any thread, lock-free; everything else under the engine lock.
 */
#ifndef TIDE_EXCHANGE_H
#define TIDE_EXCHANGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What grows at a rate. */
struct exchange_flow {
	uint32_t rate;             /* pages a second */
	uint64_t time_ns;          /* tokens are given out up to here; 0: never yet */
};

struct exchange {
	struct exchange_flow promote, probe;
	uint64_t probes;           /* tokens, in pages */
	_Atomic int64_t promotions;
	/* Since the rate of promotions adapted last, in pages. */
	_Atomic uint64_t promoted;
	uint64_t left, left_hot;   /* that left the fast node; of those, in use not long before */
	/* When that of probes adapted last, and how long touches had taken by then. */
	uint64_t looked_ns, waited_ns;
	uint64_t passed;           /* pages, by the hand in this pass */
	uint64_t pass_ns;          /* when that began */
	_Atomic uint32_t window;
};

void exchange_init(struct exchange *exchange);
/* Give out what has grown until now, and adapt. `waited_ns`: how long touches of pages held on the slow node
 * have taken, from the beginning, all threads together. Once a step. */
void exchange_refill(struct exchange *exchange, uint64_t now_ns, uint64_t waited_ns);
/* The hand that holds pages of the slow node went over some, of so many in all. */
void exchange_passed(struct exchange *exchange, uint64_t pages, uint64_t all_pages, uint64_t now_ns);
/* Two touches within so many ticks of heat: a page has earned its promotion. */
uint32_t exchange_window(const struct exchange *exchange);
/* Take a token for a promotion, if there is one. */
bool exchange_promote(struct exchange *exchange);
/* Take up to `want` tokens for probes; returns how many there were. */
uint64_t exchange_probes(struct exchange *exchange, uint64_t want);
/* A page leaves the fast node. */
void exchange_left(struct exchange *exchange, bool hot);

#endif
