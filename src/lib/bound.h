/* SPDX-License-Identifier: MIT */
/*
 * Bounds: what each space may have of fast memory, and what is not taken from it, of the cap and the
 * guarantee of its workload.
 *
 *   process A ── its own memory ─────────┐
 *   process B ── its own memory ─────────┼──► parts of one cap, and of one guarantee (divide.h)
 *   both ─────── a share, counted once ──┘
 *
 * A workload is all processes of a rule. One that was tuned is a workload of its own, and what it may have the
 * others do not divide. A share that several workloads use counts in full in each; it may have the most that
 * one of them gives it (no bound, where one of them has no cap), and keeps the most that one of them guarantees.
 *
 * What must always hold: what the spaces of a workload may have is no more than its cap together, unless they
 * had more before, or another workload gives it to a share.
 *
 * One thread at a time for all watches and shares of an engine.
 */
#ifndef TIDE_BOUND_H
#define TIDE_BOUND_H

#include "watch.h"

/*
 * Divide anew, by what each space has on fast nodes and what was touched of it since the last time; shares as
 * they were told last. `fast_bytes`: of all fast nodes. Without memory for it what was divided before holds.
 */
void bounds_divide(struct watch *first, struct shares *shares, const struct rule *rules, size_t nr_rules,
		   uint64_t fast_bytes);

#endif
