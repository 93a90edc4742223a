/* SPDX-License-Identifier: MIT */
/*
 * The table: where each page of a program is. Extents tell which pages of which tract are mapped where, and a
 * tract has a word for each of its pages.
 *
 * Extents change with events, which handlers read, and with adoption: program.lock exclusive. Words change by
 * page_change() and page_claim(), by handlers, the mover and the keeper: program.lock shared.
 */
#ifndef TIDE_TABLE_H
#define TIDE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "occupied.h"

#define PAGE_BYTES 4096u
#define PAGE_SHIFT 12
#define BLOCK_PAGES 512u
#define TRACT_OWN_PAGES BLOCK_PAGES /* runs below share a tract: no block fits in */

struct server;
struct program;
struct change;

/* A region with what the space keeps beside it. */
struct tract {
	struct region region;      /* .owner is this */
	struct program *program;
	struct shelf *shelf;       /* NULL: it is one run of pages at first */
	void *memory;
	size_t memory_bytes;
	uint64_t nr_mapped;        /* pages some extent covers; program.lock exclusive */
	uint32_t serial;           /* in a recording */
	_Atomic bool huge;         /* may have huge pages, as far as is known */
	bool located;              /* the words say which node its pages are on: keeper */
	uint8_t advice;            /* while advice is read: enum advice. Keeper */
	_Atomic uint32_t nr_users; /* handlers that hold on to it without the lock; raised under it */
	struct tract *next;        /* in program.tracts or server.dead_tracts */
};

static inline uint64_t word_load(const struct tract *t, uint64_t idx)
{
	return atomic_load_explicit(&t->region.state[idx], memory_order_acquire);
}

static inline uint64_t vpn_address(uint64_t vpn)
{
	return vpn << PAGE_SHIFT;
}

/* Where a run of a tract's pages is mapped now. */
struct extent {
	uint64_t vpn, nr_pages;
	struct tract *tract;
	uint64_t idx;              /* of the first page in the tract */
	bool fresh;                /* it was just adopted, and may be elsewhere; program.lock exclusive */
};

/* ---- extent.c: where pages are. program.lock held: shared to look, exclusive to change ---- */

/* The extent that holds a page, or NULL. */
const struct extent *extent_find(const struct program *program, uint64_t vpn);
/* The first extent that ends behind a page, or NULL. */
const struct extent *extent_next(const struct program *program, uint64_t vpn);
/* Where page `idx` of a tract is mapped; *ret_run: how many pages follow it there, itself included.
 * False: nowhere any more. */
bool extent_place(const struct program *program, const struct tract *tract, uint64_t idx,
		  uint64_t *ret_vpn, uint64_t *ret_run);
/* Pages of all extents; takes the lock itself. */
uint64_t extents_pages(struct program *program);
int extent_add(struct program *program, struct extent extent);
/* The extent that holds a page is fresh. */
void extent_doubt(struct program *program, uint64_t vpn);
/* Take everything out of [vpn, vpn + nr): calls `cut` for each piece. */
void extent_cut(struct program *program, uint64_t vpn, uint64_t nr_pages,
		void (*cut)(void *arg, const struct extent *piece), void *arg);

/* A tract of nr_pages, known to the engine, that no extent leads to yet; it is to begin at vpn. -ENOMEM. */
int tract_new(struct program *program, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract);
/* The same with one extent at vpn. */
int tract_add(struct program *program, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract);
/* Put a tract that no extent covers any more aside; the mover frees it. */
void tract_bury(struct tract *tract);
void tract_free(struct tract *tract);

/* ---- shelf.c: tracts for small mappings. program.lock as for extents ---- */

/* An extent for nr_pages at vpn, which none covers, in a tract of its own or beside others. *ret_idx: of its
 * first page there. -ENOMEM. */
int tract_take(struct program *program, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract,
	       uint64_t *ret_idx);
/* What a tract with a shelf has beside its tables. */
size_t shelf_bytes(void);
/* Of a tract with a shelf: where page `idx` was mapped last. */
uint64_t shelf_home(const struct tract *tract, uint64_t idx);
/* Pages from `idx` on are mapped at vpn now. */
void shelf_settle(struct tract *tract, uint64_t vpn, uint64_t idx, uint64_t nr_pages);

/* ---- page.c ---- */

/* region_change(), with what is on the slow node counted; not from ABSENT. */
bool page_change(struct server *server, _Atomic uint64_t *word, uint64_t from, uint64_t to);
/* The same from ABSENT: its block holds something from now on. program.lock. */
bool page_claim(struct tract *tract, uint64_t idx, uint64_t to);
/* The count alone: for words that appear or end otherwise. */
void page_count(struct server *server, uint64_t from, uint64_t to);
/* Pages that still may go to the slow node; none without one. */
int64_t slow_room(const struct server *server);
/* Find out which node resident pages are on, where the words cannot know: memory that the program had before
 * it was managed, or has shared with a child. Keeper. */
void program_locate(struct program *program);
/* What the calling thread installs from here on is to come from the slow or the fast node. */
void page_source(const struct server *server, bool slow);

/* ---- range.c: program.lock exclusive ---- */

/*
 * Call `visit` for each run of pages that have something in them. What the kernel has swapped out counts: a touch
 * brings it back without a word to us. Not so of a program with guard pages. -errno: not all.
 */
int pages_find(struct program *program, uint64_t vpn, uint64_t nr_pages,
	       void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);

/* The page is discarded: its word becomes ABSENT and gives back slot and hold place. */
void page_discard(struct tract *tract, uint64_t idx);
/* For extent_cut(): all of a piece is discarded, and its tract buried with its last. */
void piece_drop(void *arg, const struct extent *piece);
/* Pages that are gone, or about to go. */
void range_discard(struct program *program, uint64_t vpn, uint64_t end);
/* Whether there are pages of which the table knows nothing. program.lock. */
bool range_unknown(struct program *program, uint64_t vpn, uint64_t nr_pages);
/* Whether all of them are registered, in whatever mappings: 1 or 0, -EAGAIN, -ESRCH. Without `gone` it ends at the
 * first that is not, else visits each. */
int range_registered(struct program *program, uint64_t vpn, uint64_t nr_pages,
		     void (*gone)(struct program *program, uint64_t vpn));
/* What is at `from` is at `to` from here on, where nothing is. */
void range_move(struct program *program, uint64_t from, uint64_t to, uint64_t nr_pages);
/* The same from limbo, where what was in memory all the time is not known any more. */
void range_return(struct program *program, uint64_t limbo, uint64_t to, uint64_t nr_pages);
/* Whether any bytes of a range are not where it is mapped. */
bool range_holds(const struct program *program, uint64_t vpn, uint64_t end);
/* refusal.c: put back what was told to be unmapped and has stayed, of a program of which nothing is under way, unless
 * what is there is not `telling`; and mark where other memory has grown. -EAGAIN: something is under way. */
int limbo_settle(struct program *program, struct change *changes, size_t nr, bool telling);
/* What was unmapped is no longer kept for children. */
void limbo_clear(struct program *program);
struct moves_table range_table(struct program *program);

#endif
