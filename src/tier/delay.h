/* SPDX-License-Identifier: MIT */
/* A wrapper that takes its time: store, load and compare sleep before they go on. Widens the
 * windows that races need, and stands for a slow tier. */
#ifndef TIDE_DELAY_H
#define TIDE_DELAY_H

#include <stdint.h>

#include "tier.h"

/* Takes `inner` over, on success. 0, -ENOMEM. */
int delay_open(struct tier *inner, uint64_t store_ns, uint64_t load_ns, uint64_t compare_ns,
	       struct tier **ret_tier);

#endif
