/* SPDX-License-Identifier: MIT */
/*
 * Another process with memory on node 1, that cases fork and do something to while they move it through the
 * product's own space; and what they look at it with. They judge by the kernel's counters and by the bytes. All of
 * it fails the program instead of returning an error.
 */
#ifndef OTHER_H
#define OTHER_H

#include "vm.h"

#include "process.h"

#define NR_PAGES (32 * PAGES_PER_MIB)
#define NR_MAX (64 * PAGES_PER_MIB)
#define NR_PINNED 16u

/* Who is moved. */
struct other {
	pid_t pid;
	int words, answers; /* pipes: a letter asks for something, a letter comes when it is done */
	struct arena arena; /* laid out before the fork, filled by the other one */
};

/* `prepare`, in the other one, before its memory is filled; NULL: nothing. Busy, it compares and writes all the
 * time. */
struct other other_begin(bool busy, void (*prepare)(struct arena *arena));
/* To prepare: its memory may be shared. */
void other_share(struct arena *arena);
/* Letters: c: compare all bytes; u: unmap the second half; h: a hole at the end of each huge page; f: a child that has
 * all of it in its page tables; p: pages that a pipe holds on to; e: run this program with "sleep", without an
 * answer; x: exit, likewise. */
void other_ask(struct other *other, const char *word);
void other_end(struct other *other, int wanted_status);

/* ---- this process ---- */

extern struct process_move moves[NR_MAX]; /* what was found */

struct process_space *space_of(pid_t pid);

struct found {
	size_t nr, on[NODESET_MAX];
};

/* Its arena, into `moves`. */
struct found look(struct process_space *space, const struct other *other);

void tally_print(const struct process_tally *tally);
uint64_t tally_pages(const struct process_tally *tally, enum reason reason);
void pace_print(const struct process_space *space);

/* There and back, in pieces of so many pages, every byte compared by its owner meanwhile, and the kernel counts the
 * same. Skips where its memory does not come in such pieces. */
void all_bytes(bool busy, void (*prepare)(struct arena *arena), size_t piece_pages);

#endif
