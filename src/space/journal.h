/* SPDX-License-Identifier: MIT */
/* What a program's threads changed of its mappings of late, and its children that were born meanwhile. */
#ifndef TIDE_JOURNAL_H
#define TIDE_JOURNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cut.h"
#include "uapi.h"

#define CHANGES_MAX 1024u
#define EARLY_MAX 64u

/* A child whose table may not be that of its mappings yet. */
struct birth {
	/* journal.lock, until `known`: */
	struct birth *next;        /* in journal.young */
	struct journal *journal;   /* its parent's */
	_Atomic bool known;        /* its changes are all that may matter */
	bool doubtful;             /* or are thought to be: its places are to be looked at */
	bool single;               /* its parent has one thread */
	struct change *changes;
	size_t from, nr, at;       /* `at` of the nr are made in its table; until then places in the journal */
	/* program.lock of the child, exclusive: */
	uint64_t since_ns;
	bool placed, settled;      /* its table is right; that is made sure of */
	struct uffd_msg early[EARLY_MAX]; /* of its own, read before its table was right */
	unsigned nr_early;
};

struct journal {
	pthread_mutex_t lock;
	unsigned nr_users;
	int uffd;                  /* its program's; -1: not known, or it has gone */
	struct change *changes;    /* CHANGES_MAX at most */
	size_t room, nr, calm;           /* those from `calm` on may have come after a fork that is not yet told */
	uint64_t limbo, limbo_pages; /* where what is unmapped goes next; how much went there since it was cleared */
	uint64_t since_ns;         /* when the first change came */
	uint32_t told;             /* how many messages were followed, modulo 2^32 */
	/* Since it was last settled zeros may have come where something was: what is there tells nothing. */
	bool filled;
	struct birth *young;       /* not known */
	_Atomic bool open;         /* there are changes from `calm` on */
};

struct program;

/* NULL: no memory. */
struct journal *journal_new(void);
/* Its program goes; its userfaultfd is closed next. */
void journal_end(struct program *program);
/* Before messages are read, and when the table is changed for them. program.lock exclusive. */
void journal_begin(struct program *program);
void journal_done(struct program *program);
/* Whether it waits for a calm moment: messages are to be read soon, even if there are none. Any thread. */
bool journal_open(const struct program *program);
/* Whether a page was unmapped of late, as it was told, and may be there still: it is not to be filled yet. After long
 * it may be, and is taken for gone. program.lock. */
bool journal_doubts(struct program *program, uint64_t vpn);
/* Pages are filled of which the table does not know. program.lock. */
void journal_fill(struct program *program);
/* In between: pages were moved; the old place of some is unmapped now; pages were unmapped, and are to go to limbo,
 * where this says. */
void journal_moved(struct program *program, uint64_t from, uint64_t to, uint64_t nr_pages);
void journal_emptied(struct program *program, uint64_t from, uint64_t nr_pages);
uint64_t journal_unmapped(struct program *program, uint64_t from, uint64_t nr_pages);
/* Something leaves there, or is discarded, of which the table knew nothing: what was unmapped there before has gone,
 * and that has grown. Whether it is unmapped: then that is a change, too. */
void journal_grown(struct program *program, uint64_t vpn, uint64_t nr_pages, bool unmapped);
/* Before an event is followed: what is in limbo is discarded if it is much. Not while its mappings are cut: a tract may
 * have nothing else. */
void journal_bound(struct program *program);
/* In between, a fork: whether its table may be wrong; whether something that was told to be unmapped may be there
 * still, as [vpn, end) is mapped; and the child is to find out. `single`: its parent has one thread. -ENOMEM. */
bool journal_unsure(const struct program *parent);
bool journal_stays(const struct program *parent, uint64_t vpn, uint64_t end);
/* Where what is at a place is, or was before it was kept in limbo. */
uint64_t journal_home(const struct program *parent, uint64_t vpn);
int birth_begin(struct program *child, struct program *parent, bool single);

/* Make a child's table that of its mappings. 0: it is; -EAGAIN: not yet, nothing may be read, served or changed.
 * program.lock exclusive. */
int birth_settle(struct program *child);
/* Of the messages that were read meanwhile; how many. program.lock exclusive. */
size_t birth_early(struct program *child, struct uffd_msg *messages, size_t max);
/* Whether all is known that it needs. Any thread. */
bool birth_known(struct birth *birth);
/* It is no longer asked for. If the child was ended with a fork of its own unfollowed the tree is. */
void birth_free(struct program *child);

#endif
