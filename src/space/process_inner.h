/* SPDX-License-Identifier: MIT */
/*
 * What the files of the process space share. See process.h for what it is.
 */
#ifndef TIDE_PROCESS_INNER_H
#define TIDE_PROCESS_INNER_H

#include "process.h"
#include "spend.h"

/* Of a file for which the kernel walks all pages. */
struct reading {
	struct spend spend;
	uint64_t layout;            /* a sum over all mappings then, to see that they changed */
};

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
	struct reading flags, policies; /* of smaps, of numa_maps */
	uint64_t locked_kib;        /* when smaps was read */

	struct move_pace pace;
};

#define PROCESS_PAGE 4096u
#define PROCESS_HUGE (2u << 20)

#endif
