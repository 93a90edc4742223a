/* SPDX-License-Identifier: MIT */
/* What the parts of a map of the nodes share. */
#ifndef TIDE_NODE_INNER_H
#define TIDE_NODE_INNER_H

#include "node.h"

/* A file that holds a list of nodes, below the root. -errno of reading it; -EIO: it is none. */
int node_set_read(const char *root, const char *path, struct nodeset *ret_set);

/* The kernel's memory tier of each node that has one. */
void node_tiers_read(const char *root, struct node_map *map);

/* Which nodes are slow, and why, by what is known of them; and so the map's sets of memory. */
void node_map_judge(struct node_map *map);

#endif
