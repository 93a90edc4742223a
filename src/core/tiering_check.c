/* SPDX-License-Identifier: MIT */
/* Walks everything that tiering keeps and says what does not hold. For tests: it looks at every page. */
#include <string.h>

#include "tiering_inner.h"

struct sums {
	uint64_t node_pages[TIERING_NODES_MAX];
	uint64_t moving_pages, waiting_pages;
};

static const char *page_check(const struct tiering *tiering, const struct tiering_window *window,
			      uint32_t idx, struct sums *sums, uint32_t *fast, uint32_t *moving)
{
	const struct tiering_page *page = &window->pages[idx];
	uint32_t node = page_node(page);
	uint32_t nr = page_pages(page);

	if ((page->flags & PAGE_HUGE) && idx % HEAT_BLOCK_PAGES)
		return "a huge page does not begin at its block";
	if (page_head(window, idx) != idx)
		return page->node || (page->flags & (PAGE_MOVING | PAGE_HUGE | PAGE_WAITS))
			       ? "a page inside a huge one has a life of its own"
			       : NULL;
	if (page->flags & PAGE_MOVING) {
		++*moving;
		sums->moving_pages += nr;
	}
	sums->waiting_pages += page->flags & PAGE_WAITS ? nr : 0;
	if (node == TIERING_NODE_UNKNOWN)
		return NULL;
	if (node >= tiering->config.nr_nodes)
		return "a page is on no node of the table";
	sums->node_pages[node] += nr;
	*fast += tiering->config.nodes[node].fast ? nr : 0;
	return NULL;
}

static bool block_empty(const struct tiering_window *window, uint32_t block)
{
	for (uint32_t idx = block * HEAT_BLOCK_PAGES; idx < (block + 1) * HEAT_BLOCK_PAGES; idx++)
		if (window->pages[idx].node || window->pages[idx].flags || window->heat[idx])
			return false;
	return true;
}

static const char *window_check(const struct tiering *tiering, const struct tiering_window *window,
				struct sums *sums)
{
	uint32_t moving = 0;

	if (!ready_check(&window->ready))
		return "a ready page is not marked above";
	for (uint32_t block = 0; block < TIERING_BLOCKS; block++) {
		uint32_t fast = 0;
		if (!block_used(window, block) && !block_empty(window, block))
			return "something is known of a block that is not used";
		for (uint32_t i = 0; i < HEAT_BLOCK_PAGES; i++) {
			const char *bad = page_check(tiering, window, block * HEAT_BLOCK_PAGES + i,
						     sums, &fast, &moving);
			if (bad)
				return bad;
		}
		if (fast != window->nr_fast[block])
			return "the fast pages of a block are miscounted";
	}
	return moving == window->nr_moving ? NULL : "the moves of a window are miscounted";
}

static const char *space_check(const struct tiering *tiering, const struct tiering_space *space)
{
	const struct tiering_counts *counts = &space->counts;
	struct sums sums = { 0 };
	uint64_t ended = 0;

	for (uint32_t w = 0; w < space->nr_windows; w++) {
		const struct tiering_window *window = space->windows[w];
		if (window->space != space)
			return "a window is another space's";
		if (w && window->first_vpn <= space->windows[w - 1]->first_vpn)
			return "windows are not in order";
		const char *bad = window_check(tiering, window, &sums);
		if (bad)
			return bad;
	}
	if (memcmp(sums.node_pages, space->node_pages, sizeof sums.node_pages) != 0)
		return "the pages of a space on a node are miscounted";
	if (sums.moving_pages != counts->pending)
		return "pending pages are not the pages of the moves under way";
	if (sums.waiting_pages != counts->waiting)
		return "waiting pages are miscounted";
	if (counts->candidates !=
	    counts->promotions + counts->unpaid + counts->thrash + counts->lapsed + counts->waiting)
		return "a candidate has no end, or two";
	for (unsigned r = 0; r < REASON_COUNT; r++)
		ended += counts->ended[r];
	if (counts->ended[REASON_MOVED] != counts->promoted + counts->demoted)
		return "moved pages are not promoted + demoted";
	return ended + counts->pending == counts->requested
		       ? NULL
		       : "requested is not moved + failed + dropped + pending";
}

const char *tiering_check(const struct tiering *tiering)
{
	const struct tiering_space *space = tiering->first;
	const char *bad = NULL;

	for (uint32_t i = 0; !bad && i < tiering->nr_spaces; i++, space = space->next) {
		if (space->next->previous != space)
			return "the ring of spaces is broken";
		bad = space_check(tiering, space);
	}
	return bad || space == tiering->first ? bad : "the ring of spaces is not as long as its count";
}
