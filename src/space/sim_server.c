/* SPDX-License-Identifier: MIT */
/*
 * What the simulated server does: the page protocol of tests/model/page.pml for runs of pages. Faults are
 * in sim_fault.c
 * and sim_block.c, events in sim_event.c, moves in sim_mover.c; here mappings come into care, processes are
 * given up, and an action is handed to whoever does it.
 */
#include <string.h>

#include "sim_world.h"

/* After the queue was drained: what is mapped now can have no discard on its way. */
static bool adopt(struct sim *sim, uint32_t at)
{
	bool any = false;

	if (sim->spaces[at].state != SPACE_ALIVE || sim->spaces[at].changing > 0 ||
	    sim_locked(sim, at))
		return false;
	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		struct sim_page *page = sim_page(sim, at, i);

		if (page->mapping != MAP_FOREIGN || page->windows > 0 || *sim_word(sim, at, i) != 0)
			continue;
		page->mapping = MAP_MANAGED;
		any = true;
		if (page->mapped)
			sim_must_change(sim, at, i, 0,
					       page_word(PAGE_RESIDENT, 0, 0, 0, false));
	}
	return any;
}

static bool reap(struct sim *sim, uint32_t at)
{
	struct sim_world *world = sim->world;

	if (sim->spaces[at].state != SPACE_GONE)
		return false;
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++)
		if (world->handlers[i].state != H_IDLE && world->handlers[i].space == at)
			sim_handler_rest(&world->handlers[i]); /* joined */
	for (uint32_t i = world->mover.at; i < world->mover.nr_moves; i++) {
		if (world->mover.moves[i].space != at || world->mover.moves[i].gone)
			continue;
		world->mover.moves[i].gone = true;
		sim->counts.vanished_plan++;
	}
	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		sim->counts.vanished[page_state(*sim_word(sim, at, i))]++;
		sim_discard(sim, at, i);
	}
	for (uint32_t i = 0; i < sim->config.nr_places; i++)
		memset(sim_place(sim, at, i), 0, sizeof(struct sim_place));
	if (sim->config.engine)
		engine_region_remove(sim->config.engine, &sim->regions[at]);
	memset(&sim->spaces[at], 0, sizeof(sim->spaces[at]));
	return true;
}

bool sim_do_server(struct sim *sim, const struct sim_action *action)
{
	struct sim_handler *handler = &sim->world->handlers[action->who];

	if (action->act == SIM_EVENT)
		return sim_event_read(sim, action->space);
	if (action->act == SIM_FAULT)
		return sim_fault_read(sim, handler, action);
	if (action->act == SIM_HANDLER)
		return sim_handler_go_on(sim, handler);
	if (action->act == SIM_MOVER)
		return sim_mover_go_on(sim);
	if (action->act == SIM_MOVE)
		return sim_plan_given(sim, action);
	if (action->act == SIM_DROP)
		return sim_places_drop(sim, action->space);
	if (action->act == SIM_SHADOW)
		return sim->spaces[action->space].state == SPACE_ALIVE && sim_shadow_drop(sim, action);
	if (action->act == SIM_STOCK)
		return sim_stock_prepare(sim, action->space);
	if (action->act == SIM_ADOPT)
		return adopt(sim, action->space);
	return action->act == SIM_REAP && reap(sim, action->space);
}
