/* SPDX-License-Identifier: MIT */
/*
 * Demotion: which pages leave the fast nodes.
 *
 * The hand that looks for them goes round all windows of all spaces, past blocks that have nothing on fast
 * nodes, and takes pages not seen in use for `cold`. A pass that finds less than is asked for halves that
 * time, down to the least residence; while nothing is asked for it grows back.
 */
#include "number.h"
#include "tiering_inner.h"

#define LOOK_BLOCKS 512u             /* blocks with something fast that the hand judges in a step */
#define PASS_WINDOWS 4096u           /* windows it goes by in a step */

static uint32_t demotion_target(const struct step *step, uint32_t from, uint32_t nr_pages)
{
	const uint16_t *distance = node_at(step, from)->distance;
	uint32_t best = TIERING_NODE_UNKNOWN;

	for (uint32_t n = 0; n < step->tiering->config.nr_nodes; n++)
		if (node_at(step, n)->slow && step->room[n] >= nr_pages &&
		    (best == TIERING_NODE_UNKNOWN || distance[n] < distance[best]))
			best = n;
	return best;
}

static bool page_cold(const struct step *step, const struct tiering_window *window, uint32_t idx)
{
	const struct tiering *t = step->tiering;
	const struct tiering_page *page = &window->pages[idx];
	uint32_t age = tick_at(step->now_ns) - page->stamp;
	/* The heavier the space, the longer its pages may stay. */
	uint64_t cold = t->cold_ns / TICK_NS * (window->space->weight + 1) /
			(TIERING_WEIGHT_DEFAULT + 1);

	if (page_backs_off(page, age))
		return false;
	return age >= cold && age >= residence_ticks(t, page);
}

/* Demote cold pages of one block; `excess`: pages to go from each node. */
static void block_demote(struct step *step, struct tiering_window *window, uint32_t block,
			 uint64_t *excess)
{
	struct tiering_space *space = window->space;
	uint32_t first = block * HEAT_BLOCK_PAGES;
	uint64_t fast = fast_pages(step->tiering, space);

	for (uint32_t idx = first; idx < first + HEAT_BLOCK_PAGES; idx++) {
		struct tiering_page *page = &window->pages[idx];
		uint32_t node = page_node(page);
		uint32_t nr = page_pages(page);

		if (step->nr == step->max)
			return;
		if (node == TIERING_NODE_UNKNOWN || !node_at(step, node)->fast ||
		    (!excess[node] && !space->exchange_pages) || (page->flags & PAGE_MOVING) ||
		    !page_cold(step, window, idx))
			continue;
		if (!space->exchange_pages && fast < space->fast_min_pages + nr)
			return;
		uint32_t to = demotion_target(step, node, nr);
		if (to == TIERING_NODE_UNKNOWN)
			return;
		move_open(step, window, idx, TIERING_DEMOTE, to);
		fast -= nr;
		if (space->exchange_pages)
			space->exchange_pages = minus(space->exchange_pages, nr);
		else
			excess[node] = minus(excess[node], nr);
		step->tiering->pass_found += nr;
	}
}

static bool excess_any(const struct tiering *t, const uint64_t *excess)
{
	const struct tiering_space *space = t->first;

	for (uint32_t n = 0; n < t->config.nr_nodes; n++)
		if (excess[n])
			return true;
	for (uint32_t i = 0; i < t->nr_spaces; i++, space = space->next)
		if (space->exchange_pages)
			return true;
	return false;
}

/* The hand has been everywhere: did it find what was asked for? */
static void pass_end(struct tiering *t)
{
	if (t->pass_wanted && t->pass_found * 16 < t->pass_blocks * HEAT_BLOCK_PAGES)
		t->cold_ns /= 2;
	if (t->cold_ns < t->config.residence_ns)
		t->cold_ns = t->config.residence_ns;
	t->pass_blocks = t->pass_found = 0;
	t->pass_wanted = false;
}

static void hand_advance(struct tiering *t)
{
	t->victim_block = 0;
	if (++t->victim_window < t->victim->nr_windows)
		return;
	t->victim_window = 0;
	t->victim = t->victim->next;
	if (t->victim == t->first)
		pass_end(t);
}

void demotions_plan(struct step *step, uint64_t *excess)
{
	struct tiering *t = step->tiering;
	const struct tiering_space *begin = t->victim;
	const struct tiering_space *last = NULL; /* that demotes something */
	uint32_t blocks = 0, begin_window = t->victim_window, spaces = 0;

	for (uint32_t w = 0; w < PASS_WINDOWS && blocks < LOOK_BLOCKS; w++) {
		/* Nothing twice in one step. */
		if (w && t->victim == begin && t->victim_window == begin_window)
			break;
		struct tiering_space *space = t->victim;
		if (t->victim_window >= space->nr_windows || !space->weight) {
			t->victim_window = space->nr_windows;
			hand_advance(t);
			continue;
		}
		if (step->need->max_spaces && spaces == step->need->max_spaces && space != last)
			return;
		struct tiering_window *window = space->windows[t->victim_window];
		size_t nr = step->nr;
		for (; t->victim_block < TIERING_BLOCKS; t->victim_block++) {
			if (!window->nr_fast[t->victim_block])
				continue;
			block_demote(step, window, t->victim_block, excess);
			if (step->nr == step->max || !excess_any(t, excess))
				return;
			blocks++;
			t->pass_blocks++;
		}
		if (step->nr > nr && space != last) {
			last = space;
			spaces++;
		}
		hand_advance(t);
	}
}

/* Pages that should leave each fast node: for what waits for room there, and to keep its reserve. */
bool excess_look(const struct step *step, uint64_t *excess)
{
	struct tiering *t = step->tiering;
	struct tiering_space *space = t->first;

	for (uint32_t n = 0; n < t->config.nr_nodes; n++) {
		excess[n] = 0;
		if (!node_at(step, n)->fast)
			continue;
		excess[n] = minus(step->lacking[n], step->room[n]);
		t->pass_wanted |= excess[n] > 0;
		excess[n] += minus(step->need->reserve_pages[n], step->need->free_pages[n]);
	}
	for (uint32_t i = 0; i < t->nr_spaces; i++, space = space->next) {
		uint64_t over = minus(fast_pages(t, space), space->fast_max_pages);
		space->exchange_pages += over;
		t->pass_wanted |= space->exchange_pages > 0;
	}
	return excess_any(t, excess);
}
