/* SPDX-License-Identifier: MIT */
/*
 * What is ours in a program's memory: the hold area, where pages wait that were taken out of the program, and the
 * stock of huge pages; the helper that moves them, by command; and orders, which are many commands.
 *
 * The mover takes pages out; handlers help it, and bring them back. Places and blocks: program.hold_lock. Commands
 * and the order: program.helper_lock.
 */
#ifndef TIDE_HOLD_H
#define TIDE_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "helper.h"
#include "table.h"

/* Hold area: pages taken out of the program wait here, in its own address space. */
struct hold {
	uint64_t address;          /* 0: none yet */
	uint32_t nr_pages;
	_Atomic uint32_t nr_used;  /* hold_lock to change */
	uint32_t cursor;
	uint64_t *used;            /* bitmap */
	uint64_t *whole;           /* bitmap of blocks: a huge page moved in; it may be gone again */
	uint32_t *freed;           /* places to drop; room for all */
	size_t tables_bytes;       /* of these three, which are one mapping */
	uint32_t nr_freed;
};

/* Pages that a plan wants held, and pages of the hold area to drop before; how far it is carried out. */
struct order {
	uint32_t nr_drop;
	const struct move *moves;
	struct move_result *results;
	size_t nr, next;           /* moves; the one that is under way */
	uint64_t at;               /* page within that one; 0: its first */
};

/* Stock: huge pages of zeros in the program's address space, prepared before they are wanted. */
struct stock {
	_Atomic uint64_t address;  /* 0: none yet */
	int memory;                /* the program's, to read and write; -1. keeper to change */
	uint32_t empty, ready;     /* bitmaps; a block in neither is in somebody's hands. hold_lock */
	_Atomic uint32_t nr_ahead; /* to keep ready: while blocks are asked for */
	_Atomic uint64_t used_ns;  /* when one was taken last */
	_Atomic uint64_t rest_until_ns; /* the system has no huge pages */
};

/* ---- hold.c ---- */

/* The thread that fills holes of hold areas when the program itself touches them. */
int warden_start(struct server *server);
void warden_join(struct server *server);

#define HOLD_PAGES_MIN 2048u
#define HOLD_PAGES_MAX (UINT32_MAX / BLOCK_PAGES * BLOCK_PAGES) /* 16 TiB; a place has 32 bits */
/* How many of nr_pages places there may be where the program may map `left_bytes` more; 0: there is no room
 * for an area. */
uint32_t hold_fit(uint32_t nr_pages, uint64_t left_bytes);
/* Ask the helper for the area; it may have fewer places, where the program's address space is limited. After
 * an error nothing is mapped. -ENOMEM: no room for one. Mover or keeper. */
int hold_open(struct program *program, uint32_t nr_pages);
/* The tables for hold.nr_pages places, for hold_open() and tests; hold_close() frees them. Mapped: of an area most of
 * which is never used its tables take no memory either. 0 or -ENOMEM. */
int hold_tables_open(struct hold *hold);
/* Before its program goes: nobody reads hold_uffd any more, which is closed. Keeper. */
void hold_close(struct program *program);
/* How many places may be used for pages to be moved out: some are left for what comes back of a command that is
 * revoked. */
uint32_t hold_room(const struct program *program);
/* Take up to nr_pages places in a row (a whole block when 512 are asked for and there is one);
 * returns how many. */
uint32_t hold_take(struct program *program, uint32_t nr_pages, uint32_t *ret_place);
/* Note that a huge page has come to a block of places, or is no longer there. */
void hold_whole(struct program *program, uint32_t place, bool whole);
/* Whether one may be at a place. */
bool hold_may_be_whole(struct program *program, uint32_t place);
/* Places that nothing is in: nothing was moved to them, or all was moved away. */
void hold_untake(struct program *program, uint32_t place, uint32_t nr_pages);
/* A place whose page is no longer needed; it is dropped later. Any thread. */
void hold_release(struct program *program, uint32_t place);
/* Read held pages, at most FAULT_RUN_PAGES, by their words. -EFAULT, -EIO: the memory is gone. */
int held_read(struct program *program, const uint64_t *words, uint32_t nr, void *pages);
/* Drop up to `max` places that were released; how many: fewer than asked when there are no more, or no
 * helper. helper_lock held. */
uint32_t hold_drop(struct program *program, uint32_t max);
uint64_t hold_address(const struct program *program, uint32_t place);
/* Run program->command (helper_lock held), reply in program->reply. -ENOTCONN: there is no helper, nothing
 * was done; -EBUSY: nor was it, for an earlier command is outstanding; -EPIPE: it ended over the command, and nobody
 * knows what it did; -EINPROGRESS: no reply yet. Of a move, or a block, the caller then revokes it, before it
 * gives up program.lock. Takes 0.6 s at most, 3 s where the helper could run but
 * has no CPU. */
int helper_call(struct program *program);
/* Send a command, with a descriptor or NULL, and take a reply with its number. For helper_call() and frozen.c. */
int helper_send(const struct program *program, const struct helper_command *command, const int *fd);
int helper_receive(struct program *program, uint64_t seq);
/* Before the first command: what it is to do should we be killed. Keeper, as it comes. -EPIPE: it has ended. */
int helper_keep(struct program *program);
/* No more commands: it ended, or may. helper_lock held. */
void helper_leave(struct program *program);
/* Bring the helper to the caller's CPU. helper_lock held. */
void helper_follow(struct program *program);

/* ---- frozen.c: a helper that does not answer. helper_lock held ---- */

/* If it was stopped by a signal it goes on. Its state before, a letter as in ps; 0: it has ended. */
char helper_continue(const struct program *program);
/* The command stays outstanding. */
void helper_freeze(struct program *program);
/* Whether there is a helper, and it takes commands. Its late reply is looked for, and what it is about settled. */
bool helper_ready(struct program *program);
/* The same; takes helper_lock. Mover. */
void helper_thaw(struct program *program);

/* After -EINPROGRESS of HELPER_MOVE. */
struct revocation {
	struct program *program;
	int pagemap;
	bool whole; /* it was about a whole block */
};
/* No page leaves the program by the command any more. program.lock shared, held since before its pages were claimed.
 * -errno: that cannot be had, and nobody knows where they are. */
int move_revoke(struct program *program, struct revocation *ret);
void revocation_end(const struct revocation *revocation);
/* Bring back what was taken of page `at` of the command, which was to go from page->src to page->dst. HELPER_BUSY:
 * it is in the program; HELPER_MOVED: held in *ret_place; HELPER_LOST: neither could be had. */
enum helper_outcome page_recall(const struct revocation *revocation, uint32_t at, const struct helper_run *page,
				uint32_t *ret_place);
/* After -EINPROGRESS of HELPER_PUT: no page of the block moves any more; program->reply tells of each. As above. */
int put_revoke(struct program *program);

/* ---- order.c ---- */

static inline struct tract *move_tract(const struct move *m)
{
	return m->region->owner;
}
/* Ask for moves of one program, all MOVE_HOLD, to be carried out, and before that for the dropping of
 * what was released in its hold area. Moves and results stay until order_finish(). Mover. */
void order_post(struct program *program, const struct move *moves, size_t nr,
		struct move_result *results);
/* Carry out a small part of the order, if there is one and nobody else is at it; whether that was so.
 * No lock held. Handlers. */
bool order_work(struct program *program);
/* Wait for the order while the handlers go on with it, and do what they leave. Mover. */
void order_finish(struct program *program);
/* The end of a round, all orders finished: a program that had none in it has what was released in its
 * hold area dropped; the others' goes with their next one. Mover. */
void order_settle(struct program *program);

/* ---- block.c: the stock ---- */

/* The area is mapped. */
void stock_open(struct program *program, uint64_t address);
void stock_close(struct program *program);
/* Prepare one block: false if there is none to prepare, or no huge page to be had. No lock held: it takes
 * as long as fifty faults. */
bool stock_prepare(struct program *program);
/* Prepare blocks ahead, while there is room. No lock held. */
void stock_fill(struct program *program);
/* Take back a block that a command was about, by its address: as one that is prepared, or is not. */
void stock_give(struct program *program, uint64_t address, bool ready);
/* Give up blocks that nobody has asked for lately. Mover. */
void stock_settle(struct program *program, uint64_t now_ns);

#endif
