/* SPDX-License-Identifier: MIT */
/* How often the keeper looks at programs. The keeper's alone; plan_lock held where programs are. */
#ifndef TIDE_PACE_H
#define TIDE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "scan.h"
#include "spend.h"

struct server;

struct pace {
	uint32_t share_ppm;       /* of one core, for all that is voluntary */
	uint32_t watch_ppm;       /* of that, for the mover to watch programs: at least 1 */
	uint64_t began_ns;
	bool forced;              /* looks are, since the last pace_set() */
	struct scan choose, tree;
	uint64_t bounds_parts;    /* of the time, of which renewing the bounds may take one */
	struct spend bounds;
};

void pace_open(struct pace *pace, uint32_t share_ppm, uint64_t now_ns);
/* What each program's looks may cost, and how rare they may be, while `resident` pages are in memory.
 * From `edge` pages on memory is tight. */
void pace_set(struct pace *pace, struct server *server, uint64_t resident, uint64_t edge);
/* Whether voluntary work has had its share of all the time. */
bool pace_spent(const struct pace *pace, uint64_t voluntary_ns, uint64_t now_ns);
/* How long to sleep until a program is due. */
uint64_t pace_wait_ns(const struct server *server, uint64_t now_ns);

#endif
