/* SPDX-License-Identifier: MIT */
/*
 * Share: memory that several processes may map at once: shared anonymous memory, shmem, files.
 *
 *   process A   [ range: file pages 0 .. 99 ]──┐     share (device, inode)
 *   process B   [ range: file pages 40 .. 139 ]├──►  one space of the engine, by page of the file
 *   process C   [ range: file pages 40 .. 79 ]─┘     one heat, one place, one move for all of them
 *
 * A share is a space of its own in the engine, its pages named by their number in the file. A touch
 * of any of its users is a touch of the page; when pages became visible to the sensor in one user, that
 * is taken for all. A page is looked up and moved through one user after the other until one has it
 * in its page tables, for all of them at once (MPOL_MF_MOVE_ALL); without the right to do so pages that
 * several map end as "shared".
 *
 *   which     range->inode with a shared mapping, or a file that is mapped to be read only and of which
 *             the process has no pages of its own. A private mapping that may be written belongs to its
 *             process, with the pages of the file that it did not write yet.
 *   weight    the largest of its users', homes those of all of them
 *   cap       and guarantee: its part of those of its users' workloads (bound.h)
 *   rules     what forbids a page to be moved forbids it for all: locked by one, code of another, a
 *             policy or a cpuset of a third.
 *
 * What must always hold: a share has exactly the users that were told in the last round of
 * shares_begin() .. shares_end(), so no process_space is used that has not been told in it or has
 * left since. A share without users goes at the end of the round; what it counted is kept.
 *
 * One thread at a time for all shares and watches of an engine; nothing is under way between calls.
 */
#ifndef TIDE_SHARE_H
#define TIDE_SHARE_H

#include "process.h"
#include "spend.h"
#include "windows.h"

#define SHARE_BUCKETS 1024u
#define SHARE_DEVICE_BYTES 32 /* of a device as text */

/* A process, as far as shares need it. The owner's; stays where it is while it is told of. */
struct share_process {
	struct process_space *process;
	struct nodeset allowed;     /* by its cpuset, as of the last look */
	const struct tiering_space *own; /* the record of what is its alone: weight, homes; owned by a watch */
	struct process_tally tally;
};

/* One mapping of one process. */
struct share_user {
	struct share_process *process;
	struct process_range range;
	uint64_t first, end;        /* pages of the file */
};

struct share {
	struct share *next;         /* of its bucket */
	struct tiering *tiering;
	struct tiering_space space; /* its owner is NULL */
	uint64_t device, inode;
	struct share_user *users;
	size_t nr_users, room_users;
	uint64_t layout;            /* a number made of the pages that are mapped */
	struct walk walk;
	size_t turn;                /* which user is asked first */
	uint64_t touched_before;    /* when bounds were divided last */
	uint64_t cpu_ns;            /* spent on it */
	struct move_pace stalls;    /* of the calls that moved its pages, through whomever */
	struct census census;
};

struct shares {
	struct tiering *tiering;
	struct share *buckets[SHARE_BUCKETS];
	size_t nr;
	uint64_t nr_gone;
	struct tiering_counts gone; /* of those that went, together */
	/* Looking where pages are, for shares and processes that are and were: pages, processor time. */
	uint64_t scanned_pages, scan_ns;
	uint64_t census_ns;         /* what counting the pages of all shares and processes takes */
};

void shares_init(struct shares *shares, struct tiering *tiering);
/* All shares go, whoever uses them. */
void shares_close(struct shares *shares);

/* ---- who uses them ---- */

/* A round begins: shares_add() for each process that is looked after, then shares_end(). */
void shares_begin(struct shares *shares);
/* -ENOMEM: not all of its mappings are known. */
int shares_add(struct shares *shares, struct share_process *process,
	       const struct process_range *ranges, size_t nr, uint64_t now_ns);
void shares_end(struct shares *shares);
/* The process is not looked after any more, from now on. */
void shares_leave(struct shares *shares, const struct share_process *process);

/* Whether the memory of a range is a share's: then it is not its process's alone. */
bool share_has(const struct process_range *range);
/* A device as reports name it: "08:01", "sysv". Returns `text`. */
const char *share_device_format(char text[SHARE_DEVICE_BYTES], uint64_t device);
/* The share of a range, and the page in it of an address there. NULL: it is not known yet. */
struct share *share_find(const struct shares *shares, const struct process_range *range,
			 uint64_t address, uint64_t *ret_vpn);

/* ---- where its pages are, and moving them ---- */

/* Find out where the pages of the next slices are, of those whose time it is; `once`: only in the first
 * pass. Returns whether there is more. */
bool shares_walk(struct shares *shares, const struct node_map *map, bool once, uint64_t now_ns);
/* As watch_move(); the space of the moves has no owner. */
void share_move(const struct node_map *map, const struct nodeset *slow, struct tiering_move *moves,
		size_t nr);

/* Its pages by node and heat: census_look(). */
const struct tiering_census *share_census(struct shares *shares, struct share *share, uint64_t now_ns);

/* Pages on a node, by its place in the map, of shares that none of their users may write. */
uint64_t shares_read_only_pages(const struct shares *shares, size_t node);

/* Of all spaces that the engine has, and of shares that went. */
void shares_total(const struct shares *shares, struct tiering_counts *ret_total);

#endif
