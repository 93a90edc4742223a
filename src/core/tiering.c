/* SPDX-License-Identifier: MIT */
/* Spaces, windows and nodes; what is known of them. */
#include "tiering.h"

#include <errno.h>
#include <string.h>

#include "assert.h"
#include "tiering_inner.h"

static size_t round_up(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

void tiering_init(struct tiering *tiering, const struct tiering_config *config)
{
	tide_assert(config->nr_nodes <= TIERING_NODES_MAX);
	memset(tiering, 0, sizeof *tiering);
	tiering->config = *config;
	if (!tiering->config.residence_ns)
		tiering->config.residence_ns = RESIDENCE_NS;
	tiering->cold_ns = COLD_NS;
}

/* ---- spaces and windows ---- */

void tiering_space_add(struct tiering *tiering, struct tiering_space *space, void *owner,
		       struct tiering_window **windows, uint32_t max_windows)
{
	*space = (struct tiering_space){
		.owner = owner,
		.weight = TIERING_WEIGHT_DEFAULT,
		.fast_max_pages = UINT64_MAX,
		.windows = windows,
		.max_windows = max_windows,
	};
	if (tiering->first) {
		space->next = tiering->first;
		space->previous = tiering->first->previous;
		space->previous->next = space;
		space->next->previous = space;
	} else {
		space->next = space->previous = space;
		tiering->first = tiering->reader = tiering->victim = space;
	}
	tiering->nr_spaces++;
}

void tiering_space_remove(struct tiering *tiering, struct tiering_space *space)
{
	struct tiering_space *next = space->next == space ? NULL : space->next;

	tide_assert(!space->nr_windows && !space->counts.pending);
	if (tiering->victim == space) {
		tiering->victim = next;
		tiering->victim_window = tiering->victim_block = 0;
	}
	if (tiering->reader == space)
		tiering->reader = next;
	if (tiering->first == space)
		tiering->first = next;
	space->next->previous = space->previous;
	space->previous->next = space->next;
	tiering->nr_spaces--;
}

struct tiering_window **tiering_space_grow(struct tiering_space *space,
					   struct tiering_window **windows, uint32_t max_windows)
{
	struct tiering_window **old = space->windows;

	tide_assert(max_windows >= space->nr_windows);
	if (space->nr_windows)
		memcpy(windows, old, space->nr_windows * sizeof *windows);
	space->windows = windows;
	space->max_windows = max_windows;
	return old;
}

size_t tiering_window_bytes(void)
{
	return round_up(sizeof(struct tiering_window)) +
	       round_up(TIERING_WINDOW_PAGES * sizeof(uint32_t)) +
	       round_up(TIERING_WINDOW_PAGES * sizeof(struct tiering_page)) +
	       round_up(ready_bytes(TIERING_WINDOW_PAGES));
}

struct tiering_window *tiering_window_init(void *memory, uint64_t first_vpn)
{
	struct tiering_window *window = memory;
	char *at = memory;

	tide_assert(((uintptr_t)memory & 63) == 0 && first_vpn % TIERING_WINDOW_PAGES == 0);
	window->first_vpn = first_vpn;
	at += round_up(sizeof *window);
	window->heat = (void *)at;
	at += round_up(TIERING_WINDOW_PAGES * sizeof(uint32_t));
	window->pages = (void *)at;
	at += round_up(TIERING_WINDOW_PAGES * sizeof(struct tiering_page));
	ready_init(&window->ready, at, TIERING_WINDOW_PAGES);
	return window;
}

uint32_t window_slot(const struct tiering_space *space, uint64_t vpn)
{
	uint32_t low = 0, high = space->nr_windows;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (space->windows[middle]->first_vpn + TIERING_WINDOW_PAGES <= vpn)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct tiering_window *tiering_window_find(const struct tiering_space *space, uint64_t vpn)
{
	uint32_t slot = window_slot(space, vpn);

	if (slot == space->nr_windows || vpn < space->windows[slot]->first_vpn)
		return NULL;
	return space->windows[slot];
}

int tiering_window_add(struct tiering_space *space, struct tiering_window *window)
{
	uint32_t slot = window_slot(space, window->first_vpn);

	if (slot < space->nr_windows && space->windows[slot]->first_vpn == window->first_vpn)
		return -EEXIST;
	if (space->nr_windows == space->max_windows)
		return -ENOSPC;
	memmove(space->windows + slot + 1, space->windows + slot,
		(space->nr_windows - slot) * sizeof *space->windows);
	space->windows[slot] = window;
	space->nr_windows++;
	window->space = space;
	return 0;
}

uint32_t tiering_windows_remove(struct tiering *tiering, struct tiering_space *space, uint64_t first_vpn,
				uint64_t end_vpn, void (*gone)(struct tiering_window *window))
{
	uint32_t slot = window_slot(space, first_vpn), kept = slot, nr = space->nr_windows, removed;

	for (; slot < nr && space->windows[slot]->first_vpn < end_vpn; slot++) {
		struct tiering_window *window = space->windows[slot];

		if (window->first_vpn < first_vpn || end_vpn - window->first_vpn < TIERING_WINDOW_PAGES ||
		    window->nr_moving) {
			space->windows[kept++] = window;
			continue;
		}
		window_forget(tiering, window, 0, TIERING_WINDOW_PAGES);
		window->space = NULL;
		gone(window);
	}
	/* The hands may stand further than they did: nothing is missed for longer than a pass. */
	removed = slot - kept;
	memmove(space->windows + kept, space->windows + slot, (nr - slot) * sizeof *space->windows);
	space->nr_windows -= removed;
	return removed;
}

/* ---- nodes ---- */

/* Pages of nodes that are neither fast nor slow are let go, those of fast ones counted anew. */
static void block_recount(const struct tiering *tiering, struct tiering_window *window, uint32_t block)
{
	uint32_t fast = 0;

	for (uint32_t i = 0; i < HEAT_BLOCK_PAGES; i++) {
		struct tiering_page *page = &window->pages[block * HEAT_BLOCK_PAGES + i];
		uint32_t node = page_node(page), nr = page_pages(page);

		if (node == TIERING_NODE_UNKNOWN)
			continue;
		const struct tiering_node *there = &tiering->config.nodes[node];
		if (!there->fast && !there->slow && !(page->flags & PAGE_MOVING)) {
			window->space->node_pages[node] -= nr;
			page->node = 0;
		}
		fast += there->fast ? nr : 0;
	}
	window->nr_fast[block] = (uint16_t)fast;
}

void tiering_nodes_set(struct tiering *tiering, const struct tiering_node *nodes, uint32_t nr_nodes)
{
	struct tiering_space *space = tiering->first;

	tide_assert(nr_nodes >= tiering->config.nr_nodes && nr_nodes <= TIERING_NODES_MAX);
	tiering->config.nr_nodes = nr_nodes;
	memcpy(tiering->config.nodes, nodes, nr_nodes * sizeof *nodes);
	for (uint32_t i = 0; i < tiering->nr_spaces; i++, space = space->next)
		for (uint32_t w = 0; w < space->nr_windows; w++)
			for (uint32_t block = 0; block < TIERING_BLOCKS; block++)
				if (block_used(space->windows[w], block))
					block_recount(tiering, space->windows[w], block);
}

/* ---- what is known ---- */

uint64_t tiering_fast_pages(const struct tiering *tiering, const struct tiering_space *space)
{
	uint64_t sum = 0;

	for (uint32_t n = 0; n < tiering->config.nr_nodes; n++)
		if (tiering->config.nodes[n].fast)
			sum += space->node_pages[n];
	return sum;
}

void tiering_counts_add(struct tiering_counts *sum, const struct tiering_counts *more)
{
	for (unsigned r = 0; r < REASON_COUNT; r++) {
		sum->ended[r] += more->ended[r];
		sum->refused[r] += more->refused[r];
	}
	sum->requested += more->requested;
	sum->pending += more->pending;
	sum->promoted += more->promoted;
	sum->demoted += more->demoted;
	sum->candidates += more->candidates;
	sum->promotions += more->promotions;
	sum->unpaid += more->unpaid;
	sum->thrash += more->thrash;
	sum->lapsed += more->lapsed;
	sum->waiting += more->waiting;
	sum->pingpong += more->pingpong;
	sum->wasted += more->wasted;
	sum->touches += more->touches;
	sum->strays += more->strays;
	sum->touched += more->touched;
}

static enum tiering_heat page_heat(const struct tiering *tiering, const struct tiering_window *window,
				   uint32_t idx, uint64_t now_ns)
{
	const struct tiering_page *page = &window->pages[idx];
	uint32_t record = atomic_load_explicit(&window->heat[idx], memory_order_relaxed);
	uint64_t age = heat_age_ticks(record, window->block_epoch[idx / HEAT_BLOCK_PAGES],
				      heat_moment_at(now_ns));

	if (tiering->config.nodes[page_node(page)].fast) {
		uint64_t stay = tick_at(now_ns) - page->stamp;
		age = stay < age ? stay : age;
		if (age <= HEAT_WINDOW_TICKS || stay <= residence_ticks(tiering, page))
			return TIERING_HOT;
	}
	if (age <= HEAT_WINDOW_TICKS && heat_class(record) >= CANDIDATE_CLASS)
		return TIERING_HOT;
	return age <= WARM_TICKS ? TIERING_WARM : TIERING_COLD;
}

void tiering_census(const struct tiering *tiering, const struct tiering_space *space, uint64_t now_ns,
		    struct tiering_census *ret_census)
{
	memset(ret_census, 0, sizeof *ret_census);
	for (uint32_t w = 0; w < space->nr_windows; w++) {
		const struct tiering_window *window = space->windows[w];
		for (uint32_t idx = 0; idx < TIERING_WINDOW_PAGES; idx++) {
			if (!block_used(window, idx / HEAT_BLOCK_PAGES)) {
				idx += HEAT_BLOCK_PAGES - 1;
				continue;
			}
			const struct tiering_page *page = &window->pages[idx];
			uint32_t nr = page_pages(page);
			if (page_node(page) != TIERING_NODE_UNKNOWN)
				ret_census->pages[page_node(page)]
						 [page_heat(tiering, window, idx, now_ns)] += nr;
		}
	}
}
