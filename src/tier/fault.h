/* SPDX-License-Identifier: MIT */
/*
 * A wrapper that fails on demand: the k-th call of a kind gives an error of the caller's choice.
 *
 * A call that fails here never reaches the inner tier, so it changed nothing, as the contract asks.
 */
#ifndef TIDE_FAULT_H
#define TIDE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "tier.h"

enum fault_call { FAULT_STORE, FAULT_LOAD, FAULT_COMPARE, FAULT_CALL_COUNT };

/* Takes `inner` over, on success. 0, -ENOMEM. */
int fault_open(struct tier *inner, struct tier **ret_tier);

/*
 * From now on the k-th `call` (1: the next one) gives `error`, a negative errno value, and with
 * `forever` every later one too. k = 0: none. Not while other threads use the tier.
 */
void fault_plan(struct tier *tier, enum fault_call call, uint64_t k, int error, bool forever);

/* Calls since the open or the last plan for this kind, and how many of them were failed. */
uint64_t fault_calls(struct tier *tier, enum fault_call call);
uint64_t fault_failed(struct tier *tier, enum fault_call call);

#endif
