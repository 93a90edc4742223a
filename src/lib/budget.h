/* SPDX-License-Identifier: MIT */
/*
 * The budget of a run: what its tiers come to on this machine.
 */
#ifndef TIDE_BUDGET_H
#define TIDE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#include "pagetide.h"

struct budget {
	uint64_t dram_bytes;       /* bound on resident anonymous memory, with nodes on the fast one; 0: none */
	uint64_t memory_bytes;     /* bound on that, pool and metadata together; 0: none */
	uint64_t pool_bytes;       /* 0: not bounded */
	bool verify;
	/* Two nodes, the fast one first; or none. */
	unsigned nr_nodes, nodes[2];
	uint64_t slow_bytes;       /* bound on what is on the slow one */
	bool pool;                 /* a pool was asked for */
};

/*
 * Look the tiers over, and whether the nodes among them are there, are in order and have the memory that
 * is asked of them (read below `root`, "" for the running system). -EINVAL with one line that has the mend;
 * -EIO, -ENOMEM. Thread-safe.
 */
int budget_look(const char *root, const struct tide_run_options *options, struct budget *ret_budget,
		char ret_message[TIDE_MESSAGE_MAX]);

#endif
