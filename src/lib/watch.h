/* SPDX-License-Identifier: MIT */
/*
 * Watch: one process that is looked after, joined from its two halves: the space (whose pages they
 * are, where, and how they move) and the engine's record of it.
 *
 * The record has a window of 64 MiB wherever something is mapped that may be moved; windows come and
 * go with the mappings. Where pages are is found out in slices, at the start without delay, later
 * within a small share of the processor.
 *
 * One thread at a time for all watches of an engine.
 */
#ifndef TIDE_WATCH_H
#define TIDE_WATCH_H

#include "process.h"
#include "scan.h"
#include "tiering.h"

struct watch {
	struct watch *next;
	pid_t pid;
	char name[64];              /* of its program, as it was when it was added */
	bool child;                 /* found, not asked for */
	bool ended;
	int error;                  /* why we left it alone; 0 */
	struct process_space *process;
	struct tiering *tiering;
	struct tiering_space space;
	struct process_tally tally;
	const struct process_range *ranges; /* as of the last look */
	size_t nr_ranges;
	uint64_t mappings_hash;     /* of them */
	struct scan walk;           /* looking where pages are */
	uint64_t walk_at;           /* address where it goes on */
	bool walked;                /* once all over */
	uint64_t cpu_ns;            /* spent on it */
	uint64_t execs;
};

/* -ESRCH; -EPERM, -EACCES; -ENOMEM. */
int watch_open(pid_t pid, struct tiering *tiering, const struct node_map *map, uint64_t now_ns,
	       struct watch **ret_watch);
void watch_close(struct watch *watch);

/* Look at the mappings and threads again. 0; -ESRCH: it ended, and everything of it was let go. */
int watch_look(struct watch *watch);
/* Find out where the pages of the next slice are, if it is time. Returns whether there is more. */
bool watch_walk(struct watch *watch, const struct node_map *map, uint64_t now_ns);

/*
 * Carry out moves of one op and target, and give each its result. `slow`: promotions only from
 * there. LOOKs are answered in the engine. Not completed yet.
 */
void watch_move(struct watch *watch, const struct node_map *map, const struct nodeset *slow,
		struct tiering_move *moves, size_t nr, uint64_t now_ns);

/* The engine's number of a node: its place in the map; TIERING_NODE_UNKNOWN. */
uint32_t watch_node(const struct node_map *map, unsigned int id);

#endif
