/* SPDX-License-Identifier: MIT */
/*
 * Which nodes are fast and which are slow, and what the engine is told of each.
 */
#ifndef TIDE_TIERS_H
#define TIDE_TIERS_H

#include "attach.h"

#define TIERS_RATE_PAGES_PER_S (UINT64_C(1) << 18) /* of promotions, until it is tuned: 1 GiB/s */

/*
 * Set a->fast and a->slow from the map and what the user said: one list given, the other is all the
 * rest. -EINVAL: nodes that do not exist or are named twice; -ENODEV: none is fast, or none slow.
 */
int tiers_choose(struct attach *a, char ret_message[TIDE_MESSAGE_MAX]);

/* Begin the engine with these nodes. */
void tiers_begin(struct attach *a);

/*
 * Now and then: nodes that came and went. A new one is fast or slow as the machine says, or, where one
 * list is named, by not being on it; one that went is neither until it is back.
 */
void tiers_look(struct attach *a, uint64_t now_ns);

#endif
