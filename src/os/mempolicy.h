/* SPDX-License-Identifier: MIT */
/* Memory policies: which node the kernel takes new pages from. */
#ifndef TIDE_MEMPOLICY_H
#define TIDE_MEMPOLICY_H

#include <stdbool.h>

#define MEMPOLICY_NODE_MAX 1023u

/* Whether the calling thread has no policy of its own: its pages come from where it runs. */
bool mempolicy_default(void);
/*
 * Take what the calling thread allocates from here on from `node`, while there is room, then from others.
 * Threads and processes that it creates inherit that. -EINVAL: no such node or not allowed; -ENOSYS.
 */
int mempolicy_prefer(unsigned int node);

#endif
