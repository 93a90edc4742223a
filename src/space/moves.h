/* SPDX-License-Identifier: MIT */
/* Which mappings the messages of a program's threads mean, when these move mappings into each other's places. Pure. */
#ifndef TIDE_MOVES_H
#define TIDE_MOVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "former.h"

struct came; /* gone.h */

#define LEFT_MAX 1024u /* each of so many threads may have one to come */

struct moves {
	/* Old places of moved mappings whose UNMAP is still to come: nothing may be adopted there
	 * before. An mremap with DONTUNMAP sends none: its old place leaves the list when it goes, or when
	 * nothing is under way, and is in the table from then on. */
	struct leaving left[LEFT_MAX];
	unsigned nr_left;
	bool left_lost;          /* more than that: adopt nothing more */
	struct formers formers;
	bool some;               /* a mapping has been moved: messages are read one by one */
	bool awaiting;           /* it is not known of whom the next message tells, or what the last one means: */
	/* It is told to have moved, and not followed yet; no pages: there is none. What came there may stay. */
	struct leaving unsure;
	bool unsure_crossed;     /* whatever is seen, nobody can tell whether it stays */
	enum { CAME_UNKNOWN, CAME_STAYS } came;
};

/* Of what is told to move, and of which nothing is known where it was. */
enum gone_kind {
	GONE_NOT,      /* nobody has told that anything had left there, or no bytes are lost with that */
	GONE_TAKEN,    /* what grew over it has taken it along */
	GONE_DOUBTFUL, /* or that was another, which had left before */
};

struct moves_gone {
	enum gone_kind kind;
	uint64_t at; /* where it is by now */
	bool looked, below_there; /* that takes long, and is asked once for a message */
};

typedef void moves_visit(void *arg, uint64_t vpn, uint64_t nr_pages, uint64_t limbo, bool vague);

/* What is known of pages, by address, and is changed as the messages say. */
struct moves_table {
	void *arg;
	/* Take out what is in a range, and keep it; visit each part, with where. `vague`: it may never have been. */
	void (*replace)(void *arg, uint64_t vpn, uint64_t nr_pages, moves_visit *visit, void *visit_arg);
	/* From one place to another, at which nothing is. */
	void (*move)(void *arg, uint64_t from, uint64_t to, uint64_t nr_pages);
	/* The same, from where it was kept. */
	void (*come)(void *arg, uint64_t limbo, uint64_t to, uint64_t nr_pages);
	void (*unmap)(void *arg, uint64_t vpn, uint64_t nr_pages);
	/* Of how many pages in a range nothing is known. */
	uint64_t (*unknown)(void *arg, uint64_t vpn, uint64_t nr_pages);
	/* Of what is unknown in a range it is to be known that something may be there, fresh. */
	void (*stay)(void *arg, uint64_t vpn, uint64_t nr_pages);
	/* Of what is told to move from `first` on, at `vpn`: up to nr_pages in a row of which nothing is known, and to
	 * which the same happened. 0: something is known of that page. */
	uint64_t (*gone)(void *arg, uint64_t first, uint64_t vpn, uint64_t nr_pages, struct moves_gone *ret_gone);
	/* Move what was taken along from where it is to a place; what took it along stays. */
	void (*regain)(void *arg, uint64_t at, uint64_t to, uint64_t nr_pages);
	/* Of [vpn, end), which is told to have moved with `first`: the next pages that came there since, not with that,
	 * and of which something would be lost; how many, and where. 0: none. */
	uint64_t (*came)(void *arg, uint64_t first, uint64_t vpn, uint64_t end, struct came *ret_came);
	/* Whether something is mapped at a page; negative: nobody can tell. */
	int (*mapped)(void *arg, uint64_t vpn);
	/* Nobody can tell where its bytes are. */
	void (*fail)(void *arg, const char *why);
};

/* What threads do, as seen while nothing is read. */
struct moves_look {
	struct leaving calls[FORMERS_MAX]; /* those that matter, of who sleeps in them; their order is changed */
	size_t nr;
	bool still;              /* nobody else runs who could tell of anything */
	bool alone;              /* nobody else tells but one thread */
	bool blind;              /* nothing could be seen, or has for long */
};

/* Told: a mapping was moved. */
void moves_moved(struct moves *moves, const struct moves_table *table, uint64_t from, uint64_t to, uint64_t nr_pages);
/* Told: pages were unmapped. true: what was there had been told to have moved away before. */
bool moves_unmapped(struct moves *moves, const struct moves_table *table, uint64_t vpn, uint64_t nr_pages);
/* Told: pages are about to be discarded, of which some may be unknown. */
void moves_discarded(struct moves *moves, const struct moves_table *table, uint64_t vpn, uint64_t nr_pages);
/* Whether a call that takes pages away matters for what is awaited. */
bool moves_concern(const struct moves *moves, const struct leaving *call);
/* Whether the next message may be read: it is known of whom it tells; and moves_go_on() says so. */
bool moves_known(struct moves *moves, const struct moves_table *table, struct moves_look *look);
/* Whether one is unsure, and nobody can tell. */
bool moves_unknown(const struct moves *moves);
/* Follow what is unsure, before the next message, as is known by now. Whether that may be read. */
bool moves_go_on(struct moves *moves, const struct moves_table *table);
/* Nothing is under way: nothing more is to come of what has moved. */
void moves_settle(struct moves *moves, const struct moves_table *table);
/* Whether a mapping that moved away from [vpn, end) has still to be unmapped there. */
bool moves_pending(const struct moves *moves, uint64_t vpn, uint64_t end);

#endif
