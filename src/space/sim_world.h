/* SPDX-License-Identifier: MIT */
/* The inside of the sim, shared by its files only. */
#ifndef TIDE_SIM_WORLD_H
#define TIDE_SIM_WORLD_H

#include "sim.h"

#define SIM_TIER 1u
#define SIM_STOCK_BLOCKS 2u

enum sim_mapping { MAP_NONE, MAP_MANAGED, MAP_FOREIGN };

/* A page as the kernel and the program see it. */
struct sim_page {
	uint32_t content;   /* valid while mapped */
	uint32_t now;       /* what a read must give */
	uint8_t mapping;
	uint8_t windows;    /* discards and lazy frees under way */
	bool mapped, cow, lazy, pinned, denied;
	bool zero_ok;       /* a read may also give zeros */
	bool written;       /* since the first of the windows opened */
};

enum sim_thread_state {
	T_IDLE,
	T_FAULT,    /* sleeps, its message not yet read */
	T_READ,     /* sleeps, a handler looks at it, or another will wake it */
	T_DEFERRED, /* sleeps, to be looked at again */
	T_AGAIN,    /* woken: touches again */
	T_COPIED,   /* fork: page tables copied, event not yet queued */
	T_EVENT,    /* sleeps until its event was read */
	T_WOKEN,    /* its event was read */
	T_ZAP       /* mmap_changing lowered, pages still there */
};

struct sim_thread {
	uint8_t state, act, child;
	bool write;
	uint16_t page, nr, to;
};

enum sim_place_use { PLACE_FREE, PLACE_OWNED, PLACE_DROP };

struct sim_place {
	uint32_t content;
	uint8_t use;
	bool lazy, gone; /* gone: the kernel reclaimed it, zeros */
};

enum sim_space_state { SPACE_NONE, SPACE_BORN, SPACE_ALIVE, SPACE_GONE };

struct sim_space {
	uint8_t state;
	uint8_t changing;   /* mmap_changing */
	uint8_t nr_events;
	uint8_t events[SIM_THREADS]; /* threads, oldest first */
	uint8_t stock_empty, stock_ready; /* blocks; the others are in the hands of handlers */
	/* A bit for each block: mapped as one huge page; places that hold one; what the server knows of that. */
	uint32_t huge, place_huge, place_whole;
	struct sim_thread threads[SIM_THREADS];
};

/*
 * A block: its pages are claimed one by one (CLAIM), moved by the helper at once (PUT) or, when the huge
 * page has come apart, page by page (PIECES), and made known (KNOWN), all with the space's lock held
 * shared; the mover may take pages of it meanwhile.
 */
enum sim_handler_state {
	H_IDLE, H_READ, H_ZERO, H_FILL, H_LOAD, H_LOADED, H_RETURN,
	H_CLAIM, H_PUT, H_PIECES, H_KNOWN
};

enum sim_put_end { PUT_DONE, PUT_NOT, PUT_AGAIN, PUT_NONE };

struct sim_handler {
	uint8_t state, space, thread, nr;
	uint16_t page, asked;        /* first of the run; the page of the fault */
	uint16_t idx;                /* of the run's first word: the page may move, the word is found */
	uint8_t mine;                /* bit per page of the run: claimed */
	uint8_t moved;               /* of a block: gone from where they were */
	uint8_t at;                  /* H_PIECES: the next page */
	uint8_t put;                 /* enum sim_put_end: how the helper's command ended */
	bool fills, whole;           /* a block: from the stock; went in one piece */
	bool singly;                 /* what could not go as a block goes by pages */
	uint32_t place;              /* of the block's first page */
	uint64_t words[SIM_RUN_MAX];
	uint32_t contents[SIM_RUN_MAX];
};

/*
 * Taking out: CLAIMED, then with the space's lock held shared page by page into the stage (STAGE; LOOK:
 * where is it now?), and all of them from there into the hold area (HOLD), which ends it.
 */
enum sim_mover_state {
	M_IDLE, M_BEGIN, M_CLAIMED, M_STAGE, M_LOOK, M_HOLD, M_STORE, M_PUBLISH,
	M_DEMOTE, M_DEMOTED /* a page stays where it is, claimed by nobody; M_DEMOTED: on the slow node */
};

struct sim_move {
	uint64_t id;
	uint16_t first, nr;  /* words; where their pages are may change */
	uint8_t space, op;
	bool gone;          /* its space was reaped meanwhile */
};

struct sim_mover {
	uint8_t state, nr_moves, at;
	uint8_t store_reason;
	uint16_t page;               /* M_STAGE to M_PUBLISH: the page's number in the move */
	bool same;                   /* the shadow slot holds the same content */
	uint32_t slot, place;
	uint64_t mine;               /* bit per page of the move */
	struct sim_move moves[SIM_PLAN_MAX];
	struct move_result result;
};

/* A page on its way out; its number is that in the move. */
struct sim_stage {
	uint32_t content;
	bool used, lazy;
	bool zeros; /* not the page, but what the program left by reading here */
	bool unsure; /* the answer did not say that it went */
	bool whole; /* came here in one piece with its block */
};

struct sim_slot {
	uint32_t content, refs;
};

/* The head of the world; the arrays of struct sim follow it in the same block. */
struct sim_world {
	struct sim_mover mover;
	struct sim_handler handlers[SIM_HANDLERS_MAX];
	uint32_t next_content;
	bool store_full;
};

struct sim {
	struct sim_world *world;
	size_t world_bytes;
	struct sim_space *spaces;    /* [nr_spaces] */
	struct sim_page *pages;      /* [nr_spaces][nr_pages] */
	struct sim_place *places;    /* [nr_spaces][nr_places] */
	struct sim_slot *slots;      /* [nr_slots] what the tier should hold */
	struct sim_stage *stage;     /* [nr_pages] of the space that a page is moved out of */
	/*
	 * The server's table, as of the events that it has read: the number of a page's word, and where
	 * the page of a word is. A mapping that moves takes its words along.
	 */
	uint8_t *idx, *at;           /* [nr_spaces][nr_pages] */
	_Atomic uint64_t *words;     /* [nr_spaces][nr_pages], without an engine */

	struct sim_config config;
	struct region *regions;      /* [nr_spaces] */
	void *region_memory;
	size_t region_bytes;
	uint32_t *seen;              /* [nr_slots] for the walk */
	uint32_t fail[SIM_FAILURE_COUNT];
	uint64_t now_ns;
	struct sim_counts counts;
	uint8_t buffer[TIER_PAGE_BYTES], expect[TIER_PAGE_BYTES];
};

static inline struct sim_page *sim_page(struct sim *sim, uint32_t space, uint32_t page)
{
	return &sim->pages[space * sim->config.nr_pages + page];
}

static inline struct sim_place *sim_place(struct sim *sim, uint32_t space, uint32_t place)
{
	return &sim->places[space * sim->config.nr_places + place];
}

static inline uint32_t sim_idx(const struct sim *sim, uint32_t space, uint32_t page)
{
	return sim->idx[space * sim->config.nr_pages + page];
}

static inline uint32_t sim_at(const struct sim *sim, uint32_t space, uint32_t idx)
{
	return sim->at[space * sim->config.nr_pages + idx];
}

/* Whether the server takes `nr` pages for a part of one mapping: their words follow one another. */
bool sim_in_a_row(const struct sim *sim, uint32_t space, uint32_t page, uint32_t nr);
/* Pages move to where there are none, their words with them. */
void sim_table_move(struct sim *sim, uint32_t space, const struct sim_thread *thread);
_Atomic uint64_t *sim_word(struct sim *sim, uint32_t space, uint32_t page);
/* A page of a child, as the fork's event says. */
void sim_give(struct sim *sim, uint32_t space, uint32_t page, uint64_t word);
/* region_change(), counted. */
bool sim_change(struct sim *sim, uint32_t space, uint32_t page, uint64_t from, uint64_t to);
/* The same where nobody can have come between. */
void sim_must_change(struct sim *sim, uint32_t space, uint32_t page, uint64_t from, uint64_t to);
/* Any state to ABSENT, giving up what the word names. */
void sim_discard(struct sim *sim, uint32_t space, uint32_t page);
void sim_unref(struct sim *sim, uint32_t slot);
/* Threads that sleep on these pages touch again. */
void sim_wake(struct sim *sim, uint32_t space, uint32_t page, uint32_t nr);
/* Whether the operation that was told to fail is this one. */
bool sim_fails(struct sim *sim, enum sim_failure kind);
uint32_t sim_place_content(const struct sim_place *place);
/* Whether the mover is taking pages out, and has the helper; whether a handler that moves a block has it. */
bool sim_mover_helped(const struct sim *sim, uint32_t space);
bool sim_handler_helped(const struct sim *sim, uint32_t space);
/* Whether one of them holds the space's lock, shared: nobody has it exclusive, so no event is read. */
bool sim_locked(const struct sim *sim, uint32_t space);
/* The page on its way, if it has left and not arrived; else NULL. */
const struct sim_stage *sim_staged(const struct sim *sim, uint32_t space, uint32_t page);

bool sim_do_program(struct sim *sim, const struct sim_action *action);
bool sim_do_server(struct sim *sim, const struct sim_action *action);
/* Whether the kernel says EAGAIN now to who installs or moves a page. */
bool sim_again(struct sim *sim, uint32_t space);
/* Of the server; each returns whether there was anything to do. */
bool sim_fault_read(struct sim *sim, struct sim_handler *handler, const struct sim_action *action);
/* Later again: its thread sleeps on, if it still waits for this page. */
void sim_fault_defer(struct sim *sim, const struct sim_handler *handler);
bool sim_handler_go_on(struct sim *sim, struct sim_handler *handler);
void sim_handler_rest(struct sim_handler *handler);
bool sim_event_read(struct sim *sim, uint32_t space);
bool sim_plan_given(struct sim *sim, const struct sim_action *action);
bool sim_mover_go_on(struct sim *sim);
bool sim_places_drop(struct sim *sim, uint32_t space);
bool sim_shadow_drop(struct sim *sim, const struct sim_action *action);
/* Blocks: a write to a block that is all absent, or a touch of one held in one piece, begins a claim. */
bool sim_block_begin(struct sim *sim, struct sim_handler *handler, uint64_t word);
/* Its steps. */
void sim_block_claim(struct sim *sim, struct sim_handler *handler);
void sim_block_put(struct sim *sim, struct sim_handler *handler);
void sim_block_piece(struct sim *sim, struct sim_handler *handler);
void sim_block_known(struct sim *sim, struct sim_handler *handler);
bool sim_stock_prepare(struct sim *sim, uint32_t space);
/* The handler that moved this page and has not made it known; else NULL. */
const struct sim_handler *sim_put(const struct sim *sim, uint32_t space, uint32_t page);
/* The block around a page, or around a place: its bit. 0 without blocks. */
uint32_t sim_block_bit(const struct sim *sim, uint32_t at);
/* Whether the pages from `page` on are a block in one piece that can be held as one. */
bool sim_block_holdable(struct sim *sim, uint32_t space, uint32_t page, uint64_t mine);
/* The first place of a block of free ones; false: there is none. */
bool sim_block_place(struct sim *sim, uint32_t space, uint32_t *ret_place);
/* Make a space's region known: words all ABSENT. */
void sim_region_open(struct sim *sim, uint32_t space);

#endif
