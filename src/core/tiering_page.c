/* SPDX-License-Identifier: MIT */
/* What happens to a page: it is touched, found somewhere, forgotten, moved or not. */
#include <string.h>

#include "assert.h"
#include "tiering_inner.h"

/* ---- what is seen ---- */

static void page_set_node(const struct tiering *tiering, struct tiering_window *window, uint32_t idx,
			  uint32_t nr_pages, uint32_t node)
{
	struct tiering_page *page = &window->pages[idx];
	uint32_t old = page_node(page);
	uint16_t *nr_fast = &window->nr_fast[idx / HEAT_BLOCK_PAGES];

	if (old != TIERING_NODE_UNKNOWN) {
		window->space->node_pages[old] -= nr_pages;
		if (tiering->config.nodes[old].fast)
			*nr_fast = (uint16_t)(*nr_fast - nr_pages);
	}
	if (node != TIERING_NODE_UNKNOWN) {
		window->space->node_pages[node] += nr_pages;
		if (tiering->config.nodes[node].fast)
			*nr_fast = (uint16_t)(*nr_fast + nr_pages);
	}
	page->node = (uint8_t)(TIERING_NODE_UNKNOWN - node);
}

void page_mark_ready(struct tiering_window *window, uint32_t idx, uint32_t class)
{
	ready_mark(&window->ready, class, idx);
	window->nr_ready++;
}

void page_wait_end(struct tiering_window *window, uint32_t idx)
{
	struct tiering_page *page = &window->pages[idx];

	if (page->flags & PAGE_WAITS)
		window->space->counts.waiting -= page_pages(page);
	page->flags &= (uint8_t)~PAGE_WAITS;
}

void page_lapse(struct tiering_window *window, uint32_t idx)
{
	if (window->pages[idx].flags & PAGE_WAITS)
		window->space->counts.lapsed += page_pages(&window->pages[idx]);
	page_wait_end(window, idx);
}

static void block_armed(uint32_t armed[TIERING_ARMS], uint32_t tick)
{
	if (armed[0] == tick)
		return;
	memmove(armed + 1, armed, (TIERING_ARMS - 1) * sizeof *armed);
	armed[0] = tick ? tick : 1;
}

void tiering_armed(struct tiering_space *space, uint64_t vpn, uint64_t nr_pages, uint64_t now_ns)
{
	uint64_t end = vpn + nr_pages;
	uint32_t tick = tick_at(now_ns);

	for (uint32_t slot = window_slot(space, vpn); slot < space->nr_windows; slot++) {
		struct tiering_window *window = space->windows[slot];
		uint64_t start = window->first_vpn;
		if (start >= end)
			return;
		for (uint32_t block = vpn > start ? (uint32_t)(vpn - start) / HEAT_BLOCK_PAGES : 0;
		     block < TIERING_BLOCKS && start + block * HEAT_BLOCK_PAGES < end; block++)
			block_armed(window->armed[block], tick);
	}
}

/*
 * Whether a page, last touched before `age` ticks, became visible only a short while ago: by the
 * first pass after that touch, for later ones found it as it was. With all passes known later than
 * the touch and no older one known it may have been any: then it is not said to be short.
 */
static bool touch_quick(const struct tiering_window *window, uint32_t block, uint64_t age,
			uint64_t now_ns)
{
	const uint32_t *armed = window->armed[block];
	uint32_t since = UINT32_MAX, now = tick_at(now_ns);

	for (unsigned i = 0; i < TIERING_ARMS && armed[i]; i++) {
		if ((int32_t)(now - armed[i]) < 0)
			continue; /* heard of sooner, but later than the touch */
		if (now - armed[i] > age)
			return since <= QUICK_TICKS;
		since = now - armed[i];
	}
	return !armed[TIERING_ARMS - 1] && since <= QUICK_TICKS;
}

void tiering_touch(struct tiering *tiering, struct tiering_space *space, uint64_t vpn, uint32_t node,
		   uint64_t now_ns)
{
	struct tiering_window *window = tiering_window_find(space, vpn);
	struct heat_moment now = heat_moment_at(now_ns);
	bool raised;

	space->counts.touches++;
	if (!window) {
		space->counts.strays++;
		return;
	}
	uint32_t idx = page_head(window, (uint32_t)(vpn - window->first_vpn));
	struct tiering_page *page = &window->pages[idx];
	uint32_t block = idx / HEAT_BLOCK_PAGES;
	window->used |= 1u << block;
	int32_t since = (int32_t)(tick_at(now_ns) - page->stamp);
	if (!page_backs_off(page, since))
		space->counts.touched += page_pages(page);
	/* A touch from before it was known to be there, or one of what is not known to be, may be that
	 * which brought it: seen whether it was armed or not. */
	bool placed = page_node(page) != TIERING_NODE_UNKNOWN;
	if (placed && since < 0)
		return;
	bool known = heat_block_enter(&window->heat[block * HEAT_BLOCK_PAGES], HEAT_BLOCK_PAGES,
				      &window->block_epoch[block], now);
	uint32_t epoch = window->block_epoch[block];
	uint64_t age = heat_age_ticks(atomic_load_explicit(&window->heat[idx], memory_order_relaxed),
				      epoch, now);
	uint32_t record = heat_publish(&window->heat[idx], epoch, now, known, node, false, &raised);
	if (placed && since > 0 && heat_class(record) < CANDIDATE_CLASS && touch_quick(window, block, age, now_ns)) {
		bool too;
		record = heat_publish(&window->heat[idx], epoch, now, known, node, false, &too);
		raised |= too;
	}
	if (page_node(page) != TIERING_NODE_UNKNOWN && tiering->config.nodes[page_node(page)].fast) {
		page->stamp = tick_at(now_ns);
		page->flags &= (uint8_t)~PAGE_UNSEEN;
	}
	/* One touch alone moves nothing. */
	if (raised && heat_class(record) >= CANDIDATE_CLASS)
		page_mark_ready(window, idx, heat_class(record));
}

/* The page behind `vpn` that has a record of its own. */
static uint64_t touch_next(const struct tiering_space *space, uint64_t vpn)
{
	uint32_t slot = window_slot(space, vpn);
	const struct tiering_window *window = slot < space->nr_windows ? space->windows[slot] : NULL;

	if (!window || vpn < window->first_vpn)
		return window ? window->first_vpn : UINT64_MAX;
	uint32_t first = (uint32_t)(vpn - window->first_vpn) / HEAT_BLOCK_PAGES * HEAT_BLOCK_PAGES;
	return window->pages[first].flags & PAGE_HUGE ? window->first_vpn + first + HEAT_BLOCK_PAGES : vpn + 1;
}

void tiering_touch_run(struct tiering *tiering, struct tiering_space *space, uint64_t vpn,
		       uint64_t nr_pages, uint32_t node, uint64_t now_ns)
{
	for (uint64_t at = vpn, end = vpn + nr_pages; at < end; at = touch_next(space, at))
		tiering_touch(tiering, space, at, node, now_ns);
}

/* A page turns out to be mapped huge or not: bring its block into that shape. */
static void block_shape(const struct tiering *tiering, struct tiering_window *window, uint32_t idx,
			bool huge, uint64_t now_ns)
{
	uint32_t first = idx / HEAT_BLOCK_PAGES * HEAT_BLOCK_PAGES;
	uint32_t block = idx / HEAT_BLOCK_PAGES;
	struct tiering_page *head = &window->pages[first];

	if (!!(head->flags & PAGE_HUGE) == huge)
		return;
	if (huge) {
		for (uint32_t i = first; i < first + HEAT_BLOCK_PAGES; i++) {
			page_lapse(window, i);
			page_set_node(tiering, window, i, 1, TIERING_NODE_UNKNOWN);
			window->pages[i] = (struct tiering_page){ 0 };
		}
		heat_join(&window->heat[first], HEAT_BLOCK_PAGES, window->block_epoch[block],
			  heat_moment_at(now_ns));
		head->flags |= PAGE_HUGE;
		return;
	}
	uint32_t node = page_node(head);
	page_lapse(window, first);
	page_set_node(tiering, window, first, HEAT_BLOCK_PAGES, TIERING_NODE_UNKNOWN);
	head->flags &= (uint8_t)~PAGE_HUGE;
	for (uint32_t i = first; i < first + HEAT_BLOCK_PAGES; i++) {
		page_set_node(tiering, window, i, 1, node);
		window->pages[i].stamp = head->stamp;
	}
	heat_split(&window->heat[first], HEAT_BLOCK_PAGES);
}

static bool block_moves(const struct tiering_window *window, uint32_t idx)
{
	uint32_t first = idx / HEAT_BLOCK_PAGES * HEAT_BLOCK_PAGES;

	for (uint32_t i = first; i < first + HEAT_BLOCK_PAGES; i++)
		if (window->pages[i].flags & PAGE_MOVING)
			return true;
	return false;
}

static void page_place(struct tiering *tiering, struct tiering_window *window, uint32_t idx,
		       uint32_t node, bool huge, uint64_t now_ns)
{
	uint32_t first = idx / HEAT_BLOCK_PAGES * HEAT_BLOCK_PAGES;
	bool was_huge = window->pages[first].flags & PAGE_HUGE;
	bool was_known = page_node(&window->pages[page_head(window, idx)]) != TIERING_NODE_UNKNOWN;

	window->used |= 1u << idx / HEAT_BLOCK_PAGES;

	if (was_huge != huge) {
		if (block_moves(window, idx))
			return;
		block_shape(tiering, window, idx, huge, now_ns);
	}
	struct tiering_page *page = &window->pages[idx];
	if (page->flags & PAGE_MOVING)
		return;
	bool asked = page->flags & PAGE_LOOKED;
	page->flags &= (uint8_t)~PAGE_LOOKED;
	if (page_node(page) != node) {
		page_set_node(tiering, window, idx, huge ? TIERING_HUGE_PAGES : 1, node);
		/* Where it came from is unknown, so the time it has is not its own. */
		page->stamp = tick_at(now_ns);
		page->backoff = 0;
	}
	/* The touches so far may have been those that brought it here: now it has to earn its move. */
	uint32_t record = atomic_load_explicit(&window->heat[idx], memory_order_relaxed);
	if (record && !was_known && node != TIERING_NODE_UNKNOWN) {
		heat_forget(&window->heat[idx]);
		record = 0;
	}
	if (asked && node != TIERING_NODE_UNKNOWN && tiering->config.nodes[node].slow &&
	    heat_class(record) >= CANDIDATE_CLASS)
		page_keep_ready(window, idx, record);
}

void tiering_place(struct tiering *tiering, struct tiering_space *space, uint64_t vpn,
		   uint64_t nr_pages, uint32_t node, bool huge, uint64_t now_ns)
{
	uint32_t step = huge ? TIERING_HUGE_PAGES : 1;

	tide_assert(node == TIERING_NODE_UNKNOWN || node < tiering->config.nr_nodes);
	tide_assert(vpn % step == 0 && nr_pages % step == 0);
	while (nr_pages) {
		struct tiering_window *window = tiering_window_find(space, vpn);
		uint64_t in_window = TIERING_WINDOW_PAGES - vpn % TIERING_WINDOW_PAGES;
		uint64_t nr = nr_pages < in_window ? nr_pages : in_window;

		for (uint64_t i = 0; window && i < nr; i += step)
			page_place(tiering, window, (uint32_t)(vpn + i - window->first_vpn), node,
				   huge, now_ns);
		vpn += nr;
		nr_pages -= nr;
	}
}

static void page_forget(const struct tiering *tiering, struct tiering_window *window, uint32_t idx)
{
	struct tiering_page *page = &window->pages[idx];

	/* Looked at first, so that memory never used stays untouched. */
	if (atomic_load_explicit(&window->heat[idx], memory_order_relaxed))
		heat_forget(&window->heat[idx]);
	if (!page->stamp && !page->node && !page->flags)
		return;
	if (page->flags & PAGE_MOVING)
		return; /* its completion says what became of it */
	page_lapse(window, idx);
	page_set_node(tiering, window, idx, page_pages(page), TIERING_NODE_UNKNOWN);
	*page = (struct tiering_page){ 0 };
}

static void block_forget(const struct tiering *tiering, struct tiering_window *window, uint32_t from, uint32_t to)
{
	uint32_t block = from / HEAT_BLOCK_PAGES;
	bool whole = to - from == HEAT_BLOCK_PAGES;

	/* A part of a huge page goes: it is split, so the rest is known to be there. */
	if ((window->pages[block * HEAT_BLOCK_PAGES].flags & (PAGE_HUGE | PAGE_MOVING)) == PAGE_HUGE && !whole)
		block_shape(tiering, window, from, false, 0);
	for (uint32_t idx = from; idx < to; idx++)
		page_forget(tiering, window, idx);
	if (whole && !block_moves(window, from))
		window->used &= ~(1u << block);
}

void window_forget(const struct tiering *tiering, struct tiering_window *window, uint32_t from, uint32_t to)
{
	for (uint32_t next; from < to; from = next) {
		uint32_t block = from / HEAT_BLOCK_PAGES;

		next = (block + 1) * HEAT_BLOCK_PAGES < to ? (block + 1) * HEAT_BLOCK_PAGES : to;
		if (block_used(window, block))
			block_forget(tiering, window, from, next);
	}
}

void tiering_forget(struct tiering *tiering, struct tiering_space *space, uint64_t vpn,
		    uint64_t nr_pages)
{
	uint64_t end = vpn + nr_pages;

	for (uint32_t slot = window_slot(space, vpn); slot < space->nr_windows; slot++) {
		struct tiering_window *window = space->windows[slot];
		uint64_t start = window->first_vpn;

		if (start >= end)
			return;
		window_forget(tiering, window, vpn > start ? (uint32_t)(vpn - start) : 0,
			      end - start < TIERING_WINDOW_PAGES ? (uint32_t)(end - start) : TIERING_WINDOW_PAGES);
	}
}

/* ---- how moves ended ---- */

static void space_ended(struct tiering *tiering, struct tiering_space *space,
			const struct tiering_move *move)
{
	struct tiering_counts *counts = &space->counts;

	counts->pending -= move->nr_pages;
	counts->ended[REASON_MOVED] += move->nr_moved;
	counts->ended[move->reason] += move->nr_pages - move->nr_moved;
	tiering->pair_pages[move->from][move->to] += move->nr_moved;
	if (move->op == TIERING_PROMOTE) {
		counts->promoted += move->nr_moved;
		space->moving_in_pages -= move->nr_pages;
		tiering->judge_promoted += move->nr_moved;
	} else {
		counts->demoted += move->nr_moved;
		space->moving_out_pages -= move->nr_pages;
	}
}

static void page_moved(struct tiering *tiering, const struct tiering_move *move, uint32_t idx,
		       uint64_t now_ns)
{
	struct tiering_window *window = move->window;
	struct tiering_page *page = &window->pages[idx];
	uint32_t age = tick_at(now_ns) - page->stamp;

	if (move->op == TIERING_DEMOTE && page->flags & PAGE_UNSEEN && age < PINGPONG_TICKS)
		window->space->counts.wasted += move->nr_pages;
	page->flags &= (uint8_t)~PAGE_UNSEEN;
	page->flags |= move->op == TIERING_PROMOTE ? PAGE_UNSEEN : 0;
	if (move->op == TIERING_DEMOTE) {
		page->flags |= PAGE_DEMOTED;
	} else if (page->flags & PAGE_DEMOTED) {
		page->flags &= (uint8_t)~PAGE_DEMOTED;
		if (age < PINGPONG_TICKS) {
			if (page->strikes < STRIKES_MAX)
				page->strikes++;
			window->space->counts.pingpong += move->nr_pages;
			tiering->judge_pingpong += move->nr_pages;
		} else {
			page->strikes = 0;
		}
	}
	page->backoff = 0;
	page->stamp = tick_at(now_ns);
	page_set_node(tiering, window, idx, move->nr_pages, move->to);
}

static void page_stayed(struct tiering *tiering, const struct tiering_move *move, uint32_t idx,
			uint64_t now_ns)
{
	struct tiering_page *page = &move->window->pages[idx];

	page->stamp = tick_at(now_ns);
	if (page->backoff < BACKOFF_MAX)
		page->backoff++;
	if (!reason_dropped(move->reason))
		return;
	/* What was known of it is void. */
	page_set_node(tiering, move->window, idx, move->nr_pages,
		      move->reason == REASON_ALREADY ? move->to : TIERING_NODE_UNKNOWN);
	if (move->reason != REASON_ALREADY && move->reason != REASON_NOT_SLOW)
		heat_forget(&move->window->heat[idx]);
}

void tiering_complete(struct tiering *tiering, const struct tiering_move *moves, size_t nr,
		      uint64_t now_ns)
{
	for (size_t i = 0; i < nr; i++) {
		const struct tiering_move *move = &moves[i];
		struct tiering_window *window = move->window;
		uint32_t idx = (uint32_t)(move->vpn - window->first_vpn);

		if (move->op == TIERING_LOOK)
			continue;
		tide_assert(window->pages[idx].flags & PAGE_MOVING);
		tide_assert(move->reason < REASON_COUNT && move->nr_moved <= move->nr_pages);
		tide_assert(move->reason != REASON_MOVED || move->nr_moved == move->nr_pages);
		window->pages[idx].flags &= (uint8_t)~PAGE_MOVING;
		window->nr_moving--;
		space_ended(tiering, window->space, move);
		if (move->nr_moved == move->nr_pages) {
			page_moved(tiering, move, idx, now_ns);
		} else if (move->nr_moved) {
			/* It was split meanwhile, and is now in parts on both: to be looked up. */
			block_shape(tiering, window, idx, false, now_ns);
			for (uint32_t k = idx; k < idx + move->nr_pages; k++)
				page_set_node(tiering, window, k, 1, TIERING_NODE_UNKNOWN);
		} else {
			page_stayed(tiering, move, idx, now_ns);
		}
	}
}
