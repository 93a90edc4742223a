/* SPDX-License-Identifier: MIT */
/*
 * Watch: one process that is looked after, joined from its two halves: the space (whose pages they
 * are, where, and how they move) and the engine's record of it (windows.h). The record is of what is the
 * process's alone; what others may map as well is in the records of shares (share.h).
 *
 * One thread at a time for all watches of an engine.
 */
#ifndef TIDE_WATCH_H
#define TIDE_WATCH_H

#include "share.h"

struct rule;

struct watch {
	struct watch *next;
	pid_t pid;
	char name[64];              /* of its program, as it was when it was added */
	char *cgroup;               /* its control group, as of watch_cgroup(); NULL: not asked for yet */
	const struct rule *rule;    /* that it is looked after by */
	/* What was said of this process: it holds until it is taken back, whatever the rule says. */
	struct {
		bool weight, fast_min, fast_max;
		uint64_t fast_min_pages, fast_max_pages; /* its own and what it shares; UINT64_MAX: no cap */
	} tuned;
	bool child;                 /* found, not asked for */
	bool ended;
	uint64_t ended_ns;          /* when that was found; 0: it lives */
	bool asleep;                /* it did not run: the last look left it at that, */
	bool glanced;               /* but for what others may change of it */
	struct spend glance;
	uint64_t ran_ns;            /* its CPU clock, just before that look */
	uint64_t looked_ns;         /* when it was looked at really */
	uint64_t looked_passes;     /* of its walk, then */
	bool lost;                  /* a move found that it ended, or is another program: to be looked at */
	bool renewed;               /* by exec since the last look: what a sensor has of it may have gone */
	bool guests_told;           /* the sensor knows that it runs guests */
	int error;                  /* why we left it alone; 0 */
	struct process_space *process;
	struct tiering *tiering;
	struct tiering_space space;
	struct shares *shares;
	struct share_process sharer;
	const struct process_range *ranges; /* as of the last look */
	size_t nr_ranges;
	size_t nr_vcpus;            /* among them: of guests of KVM that it runs */
	uint64_t mappings_hash;     /* of them */
	struct walk walk;           /* looking where pages are */
	struct spend homes;         /* looking where its threads run */
	uint64_t touched_before;    /* when bounds were divided last */
	uint64_t cpu_ns;            /* spent on it */
	struct census census;
};

/* `before_ns`: when the process was chosen, see process_open(). -ESRCH; -EPERM, -EACCES; -ENOMEM. */
int watch_open(pid_t pid, uint64_t before_ns, struct shares *shares, const struct node_map *map, uint64_t now_ns,
	       struct watch **ret_watch);
void watch_close(struct watch *watch);

/* Look at the mappings and threads again, if it ran since, or after minutes. 0; -ESRCH: it ended, and everything of it
 * was let go. */
int watch_look(struct watch *watch);
/* What others may give one that sleeps: the nodes that its cpuset allows. Takes some 50 us. */
void watch_glance(struct watch *watch);
/* The next look is a real one. */
void watch_wake(struct watch *watch);
/* Tell the shares who uses them: after each look at the watches of a list. -ENOMEM: not of all. */
int watches_share(struct watch *first, struct shares *shares, uint64_t now_ns);
/* The name of its control group now, or when it lived: that of version 2, else of the memory controller. "": none. */
const char *watch_cgroup(struct watch *watch);
/* Find out where the pages of the next slice are, if it is time. Returns whether there is more. */
bool watch_walk(struct watch *watch, const struct node_map *map, uint64_t now_ns);

/* Pages were touched, as one, by a CPU at `node` (TIERING_NODE_UNKNOWN); pages of a range became visible
 * to the sensor. Of this process or of a share. */
void watch_touch(struct watch *watch, uint64_t address, uint64_t end, uint32_t node, uint64_t time_ns);
void watch_armed(struct watch *watch, uint64_t address, uint64_t end, uint64_t time_ns);

/*
 * Carry out moves of one op and target, and give each its result. `slow`: promotions only from
 * there. LOOKs are answered in the engine. Not completed yet.
 */
void watch_move(struct watch *watch, const struct node_map *map, const struct nodeset *slow,
		struct tiering_move *moves, size_t nr);

/* Its pages by node and heat: census_look(). */
const struct tiering_census *watch_census(struct watch *watch, uint64_t now_ns);

/* The engine's number of a node: its place in the map; TIERING_NODE_UNKNOWN. */
uint32_t watch_node(const struct node_map *map, unsigned int id);

#endif
