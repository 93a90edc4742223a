/* SPDX-License-Identifier: MIT */
/*
 * What the files of the process space share. See process.h for what it is.
 */
#ifndef TIDE_PROCESS_INNER_H
#define TIDE_PROCESS_INNER_H

#include "process.h"

struct process_space {
	pid_t pid;
	bool live;                  /* the running system's, not a recorded tree */
	bool all;                   /* we may move what others map, too */
	int pidfd, dir, pagemap;    /* -1 in a recorded tree: pidfd, pagemap */
	uint64_t image;             /* see proc_image() */
	const struct node_map *map;
	const char *root;

	struct process_range *ranges; /* by address, apart from each other */
	size_t nr_ranges, room_ranges;
	uint64_t layout;            /* a sum over all mappings, to see that they changed */
	uint64_t policies_ns;       /* when they were read, and the least time until the next reading */
	uint64_t policies_pause_ns;

	struct move_pace pace;
};

#define PROCESS_PAGE 4096u
#define PROCESS_HUGE (2u << 20)

/* The first range whose end is behind an address; NULL. */
struct process_range *process_range_behind(const struct process_space *space, uint64_t address);

#endif
