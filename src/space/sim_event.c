/* SPDX-License-Identifier: MIT */
/*
 * The simulated reading of events: each is read and applied in one step (the exclusive section), and only
 * then does its thread go on.
 */
#include <string.h>

#include "assert.h"
#include "sim_world.h"

/* A page that is in the hold area goes into the child by copy; what it has already stays. */
static void fork_page(struct sim *sim, uint32_t parent, uint32_t child, uint32_t at)
{
	uint64_t word = *sim_word(sim, parent, at);
	uint64_t resident = page_word(PAGE_RESIDENT, 0, 0, 0, false);
	struct sim_page *page = sim_page(sim, child, at);

	switch (page_state(word)) {
	case PAGE_ABSENT:
	case PAGE_FILLING:
	case PAGE_STATE_COUNT:
		return;
	case PAGE_RESIDENT:
	case PAGE_HOLDING:
		sim_give(sim, child, at, resident);
		return;
	case PAGE_STORED:
	case PAGE_LOADING:
		sim->config.tier->ops->ref(sim->config.tier, page_slot(word));
		sim->slots[page_slot(word)].refs++;
		sim_give(sim, child, at, page_word(PAGE_STORED, page_tier(word), 0, page_slot(word), false));
		return;
	case PAGE_HELD:
	case PAGE_STORING:
	case PAGE_RETURNING:
		sim_give(sim, child, at, resident);
		if (page->mapping != MAP_MANAGED || page->mapped)
			return;
		page->mapped = true;
		page->content = sim_place_content(sim_place(sim, parent, page_place(word)));
	}
}

static void fork_read(struct sim *sim, uint32_t parent, uint32_t child)
{
	tide_assert(sim->spaces[child].state == SPACE_BORN);
	sim_region_open(sim, child);
	for (uint32_t i = 0; i < sim->config.nr_pages; i++)
		fork_page(sim, parent, child, i);
	sim->spaces[child].state = SPACE_ALIVE;
	sim->spaces[child].stock_empty = SIM_STOCK_BLOCKS;
}

/* Events that are read between a fork's copy and its own event take pages from the child too: what
 * another thread discards while fork is under way may be zeros in the child. */
static void fork_blur(struct sim *sim, uint32_t space, const struct sim_thread *event)
{
	for (unsigned i = 0; i < SIM_THREADS; i++) {
		struct sim_thread *thread = &sim->spaces[space].threads[i];

		if ((thread->state != T_EVENT && thread->state != T_COPIED) ||
		    thread->act != SIM_FORK)
			continue;
		for (uint32_t j = 0; j < event->nr; j++)
			sim_page(sim, thread->child, event->page + j)->zero_ok = true;
	}
}

/* The oldest event: the table changes with the reading, before its thread can go on. */
bool sim_event_read(struct sim *sim, uint32_t at)
{
	struct sim_space *space = &sim->spaces[at];
	struct sim_thread *thread;

	if (space->state != SPACE_ALIVE || space->nr_events == 0 || sim_locked(sim, at))
		return false;
	for (unsigned i = 0; i < SIM_THREADS; i++)
		if (space->threads[i].state == T_FAULT)
			return false; /* faults are read first */
	thread = &space->threads[space->events[0]];
	space->nr_events--;
	memmove(space->events, space->events + 1, sizeof(space->events) - 1);
	space->events[SIM_THREADS - 1] = 0;
	if (thread->act == SIM_FORK) {
		fork_read(sim, at, thread->child);
	} else if (thread->act == SIM_REMAP) {
		sim_table_move(sim, at, thread);
	} else {
		fork_blur(sim, at, thread);
		for (uint32_t i = 0; i < thread->nr; i++) {
			sim_discard(sim, at, thread->page + i);
			if (sim->config.engine)
				engine_forget(&sim->regions[at], sim_idx(sim, at, thread->page + i), 1);
		}
	}
	if (thread->act == SIM_REMAP || thread->act == SIM_UNMAP)
		sim_wake(sim, at, thread->page, thread->nr);
	thread->state = T_WOKEN;
	return true;
}
