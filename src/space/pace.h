/* SPDX-License-Identifier: MIT */
/* How often the keeper looks at programs. The keeper's alone; plan_lock held where programs are. */
#ifndef TIDE_PACE_H
#define TIDE_PACE_H

#include <stdint.h>

#include "scan.h"

struct server;

struct pace {
	uint32_t share_ppm;       /* of one core, for looks at all programs */
	uint32_t watch_ppm;       /* and for the mover to watch them: at least 1 */
	struct scan choose, tree;
};

void pace_open(struct pace *pace, uint32_t share_ppm, uint64_t now_ns);
/* What each program's looks may cost, and how rare they may be, while `resident` pages are in memory.
 * From `edge` pages on memory is tight. */
void pace_set(const struct pace *pace, struct server *server, uint64_t resident, uint64_t edge);
/* How long to sleep until a program is due. */
uint64_t pace_wait_ns(const struct server *server, uint64_t now_ns);

#endif
