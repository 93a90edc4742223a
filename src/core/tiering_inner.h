/* SPDX-License-Identifier: MIT */
/* What the files of tiering share. */
#ifndef TIDE_TIERING_INNER_H
#define TIDE_TIERING_INNER_H

#include "tiering.h"

#define PAGE_MOVING 1u   /* in a plan that is not completed */
#define PAGE_HUGE 2u     /* the first of a huge page; the other 511 have no record of their own */
#define PAGE_DEMOTED 4u  /* it is where it is because we demoted it */
#define PAGE_NO_ROOM 8u  /* a candidate that waits, counted as refused for want of room */
#define PAGE_RATE 64u    /* the same, by the rate */
#define PAGE_WAITS (PAGE_NO_ROOM | PAGE_RATE)
#define PAGE_LOOKED 16u  /* its place was asked for */
#define PAGE_UNSEEN 32u  /* we promoted it, and it was not seen in use since */

#define CANDIDATE_CLASS 2u
#define QUICK_TICKS (HEAT_WINDOW_TICKS / 2)
#define STRIKES_MAX 5u
#define BACKOFF_MAX 6u

#define TICK_NS (UINT64_C(1) << HEAT_TICK_SHIFT)
#define SECOND_NS UINT64_C(1000000000)
#define RESIDENCE_NS (5 * SECOND_NS)
#define COLD_NS (30 * SECOND_NS)
#define BACKOFF_TICKS ((uint32_t)(SECOND_NS / TICK_NS))
#define PINGPONG_TICKS ((uint32_t)(120 * SECOND_NS / TICK_NS))
#define WARM_TICKS (60 * SECOND_NS / TICK_NS)

/* Ticks of 16.8 ms; 32 bits last for two years, and differences wrap. */
static inline uint32_t tick_at(uint64_t now_ns)
{
	return (uint32_t)(now_ns >> HEAT_TICK_SHIFT);
}

static inline uint32_t page_node(const struct tiering_page *page)
{
	return TIERING_NODE_UNKNOWN - page->node;
}

/* That its record is of. */
static inline uint32_t page_pages(const struct tiering_page *page)
{
	return page->flags & PAGE_HUGE ? TIERING_HUGE_PAGES : 1;
}

/* The page that has the record: the first one of a huge page. */
static inline uint32_t page_head(const struct tiering_window *window, uint32_t idx)
{
	uint32_t first = idx / HEAT_BLOCK_PAGES * HEAT_BLOCK_PAGES;

	return window->pages[first].flags & PAGE_HUGE ? first : idx;
}

/* It stayed when it was to move, so many ticks ago: the more often in a row, the longer nothing is tried. */
static inline bool page_backs_off(const struct tiering_page *page, int64_t age)
{
	return page->backoff && age < (int64_t)(BACKOFF_TICKS << page->backoff);
}

static inline uint64_t residence_ticks(const struct tiering *tiering, const struct tiering_page *page)
{
	return (tiering->config.residence_ns / TICK_NS) << page->strikes;
}

static inline bool block_used(const struct tiering_window *window, uint32_t block)
{
	return window->used >> block & 1;
}

/* The number of windows that lie before the one of `vpn`. */
uint32_t window_slot(const struct tiering_space *space, uint64_t vpn);
void page_mark_ready(struct tiering_window *window, uint32_t idx, uint32_t class);
/* It waits no longer, whatever comes of it. */
void page_wait_end(struct tiering_window *window, uint32_t idx);
/* If it waits, it does so no longer: it is no candidate any more. */
void page_lapse(struct tiering_window *window, uint32_t idx);
/* The pages [from, to) of a window, as tiering_forget(). */
void window_forget(const struct tiering *tiering, struct tiering_window *window, uint32_t from, uint32_t to);

/* Its record was taken, but the page stays a candidate. */
static inline void page_keep_ready(struct tiering_window *window, uint32_t idx, uint32_t record)
{
	atomic_fetch_or_explicit(&window->heat[idx], HEAT_MASK(READY), memory_order_relaxed);
	page_mark_ready(window, idx, heat_class(record));
}

/* ---- a step ---- */

struct step {
	struct tiering *tiering;
	const struct tiering_need *need;
	uint64_t now_ns;
	struct tiering_move *plan;
	size_t nr, max;
	size_t promote_at;                       /* where promotions begin: room for demotions before */
	uint64_t room[TIERING_NODES_MAX];        /* pages that may still come to a node */
	uint64_t lacking[TIERING_NODES_MAX];     /* pages that waited for room there */
	uint64_t tokens;
	uint32_t judged;
	bool again;
};

static inline const struct tiering_node *node_at(const struct step *step, uint32_t node)
{
	return &step->tiering->config.nodes[node];
}

/* One more of the plan, which has room for it. */
void move_open(struct step *step, struct tiering_window *window, uint32_t idx, enum tiering_op op,
	       uint32_t to);
/* Pages of a space on fast nodes when all that is under way has arrived. */
uint64_t fast_pages(const struct tiering *tiering, const struct tiering_space *space);

/* Pages that should leave each fast node: for what waits for room there, and to keep its reserve. Whether
 * there are any, or a space is above its cap. */
bool excess_look(const struct step *step, uint64_t *ret_excess);
/* Cold pages for the plan, until that many go. */
void demotions_plan(struct step *step, uint64_t *excess);

#endif
