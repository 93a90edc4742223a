/* SPDX-License-Identifier: MIT */
/*
 * The sim's frame: memory, state words, contents, and who takes which step. The steps themselves
 * are in sim_program.c (program and kernel), and of the server in sim_fault.c, sim_block.c, sim_event.c,
 * sim_mover.c and sim_server.c.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "assert.h"
#include "occupied.h"
#include "sim_world.h"

#define MIX 0x9e3779b97f4a7c15u

_Atomic uint64_t *sim_word(struct sim *sim, uint32_t space, uint32_t page)
{
	return &sim->regions[space].state[sim_idx(sim, space, page)];
}

static void table_set(struct sim *sim, uint32_t space, uint32_t page, uint32_t idx)
{
	sim->idx[space * sim->config.nr_pages + page] = (uint8_t)idx;
	sim->at[space * sim->config.nr_pages + idx] = (uint8_t)page;
}

bool sim_in_a_row(const struct sim *sim, uint32_t space, uint32_t page, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		if (sim_idx(sim, space, page + i) != sim_idx(sim, space, page) + i)
			return false;
	return true;
}

void sim_table_move(struct sim *sim, uint32_t space, const struct sim_thread *thread)
{
	for (uint32_t i = 0; i < thread->nr; i++) {
		uint32_t from = thread->page + i, to = thread->to + i;
		uint32_t moved = sim_idx(sim, space, from), left = sim_idx(sim, space, to);

		sim_discard(sim, space, to);
		if (sim->config.engine)
			engine_forget(&sim->regions[space], left, 1);
		table_set(sim, space, to, moved);
		table_set(sim, space, from, left);
	}
}

static void sim_occupy(struct sim *sim, uint32_t space, uint32_t page)
{
	if (sim->config.engine)
		region_occupy(&sim->regions[space], sim_idx(sim, space, page), 1);
}

void sim_give(struct sim *sim, uint32_t space, uint32_t page, uint64_t word)
{
	sim_occupy(sim, space, page);
	*sim_word(sim, space, page) = word;
}

bool sim_change(struct sim *sim, uint32_t space, uint32_t page, uint64_t from, uint64_t to)
{
	if (!from)
		sim_occupy(sim, space, page);
	if (!region_change(sim_word(sim, space, page), from, to))
		return false;
	sim->counts.change[page_state(from)][page_state(to)]++;
	return true;
}

void sim_must_change(struct sim *sim, uint32_t space, uint32_t page, uint64_t from, uint64_t to)
{
	bool changed = sim_change(sim, space, page, from, to);

	tide_assert(changed);
}

void sim_unref(struct sim *sim, uint32_t slot)
{
	struct sim_slot *own = &sim->slots[slot];

	tide_assert(slot < sim->config.nr_slots && own->refs > 0);
	sim->config.tier->ops->unref(sim->config.tier, slot);
	if (--own->refs == 0)
		own->content = 0;
}

void sim_discard(struct sim *sim, uint32_t space, uint32_t page)
{
	uint64_t word = *sim_word(sim, space, page);

	if (page_state(word) == PAGE_ABSENT)
		return;
	sim_must_change(sim, space, page, word, 0);
	if (sim->config.engine)
		region_vacate(&sim->regions[space], sim_idx(sim, space, page), 1);
	if (page_has_slot(word))
		sim_unref(sim, page_slot(word));
	if (page_has_hold(word))
		sim_place(sim, space, page_place(word))->use = PLACE_DROP;
}

void sim_wake(struct sim *sim, uint32_t space, uint32_t page, uint32_t nr)
{
	for (unsigned i = 0; i < SIM_THREADS; i++) {
		struct sim_thread *thread = &sim->spaces[space].threads[i];

		if ((thread->state == T_FAULT || thread->state == T_READ ||
		     thread->state == T_DEFERRED) &&
		    thread->page >= page && thread->page < page + nr)
			thread->state = T_AGAIN;
	}
}

bool sim_fails(struct sim *sim, enum sim_failure kind)
{
	if (sim->fail[kind] == 0 || --sim->fail[kind] > 0)
		return false;
	sim->counts.failed[kind]++;
	return true;
}

void sim_fail(struct sim *sim, enum sim_failure kind, uint32_t k)
{
	sim->fail[kind] = k;
}

uint32_t sim_place_content(const struct sim_place *place)
{
	return place->gone ? 0 : place->content;
}

bool sim_locked(const struct sim *sim, uint32_t space)
{
	return sim_mover_helped(sim, space) || sim_handler_helped(sim, space);
}

bool sim_handler_helped(const struct sim *sim, uint32_t space)
{
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++)
		if (sim->world->handlers[i].state >= H_CLAIM && sim->world->handlers[i].space == space)
			return true;
	return false;
}

bool sim_mover_helped(const struct sim *sim, uint32_t space)
{
	const struct sim_mover *mover = &sim->world->mover;
	const struct sim_move *move = &mover->moves[mover->at];

	return mover->state >= M_STAGE && mover->state <= M_HOLD && !move->gone &&
	       move->space == space;
}

const struct sim_stage *sim_staged(const struct sim *sim, uint32_t space, uint32_t page)
{
	const struct sim_mover *mover = &sim->world->mover;
	const struct sim_move *move = &mover->moves[mover->at];
	const struct sim_stage *stage;
	uint32_t idx = sim_idx(sim, space, page);

	if (!sim_mover_helped(sim, space) || idx < move->first || idx >= (uint32_t)move->first + move->nr)
		return NULL;
	stage = &sim->stage[idx - move->first];
	return stage->used && !stage->zeros ? stage : NULL;
}

void sim_fill(uint32_t content, void *ret_page)
{
	uint64_t *word = ret_page;

	if (content == 0) {
		memset(ret_page, 0, TIER_PAGE_BYTES);
		return;
	}
	for (unsigned i = 0; i < TIER_PAGE_BYTES / sizeof(*word); i++)
		word[i] = content + (i & 3) * MIX;
}

void sim_region_open(struct sim *sim, uint32_t space)
{
	struct region *region = &sim->regions[space];
	uint32_t nr = sim->config.nr_pages;

	for (uint32_t i = 0; i < nr; i++)
		table_set(sim, space, i, i);
	if (!sim->region_memory) { /* no engine */
		memset(region, 0, sizeof(*region));
		region->state = sim->words + (size_t)space * nr;
		region->nr_pages = nr;
		for (uint32_t i = 0; i < nr; i++)
			region->state[i] = 0;
		return;
	}
	void *memory = (char *)sim->region_memory + space * sim->region_bytes;

	memset(memory, 0, sim->region_bytes);
	memset(region, 0, sizeof(*region));
	/* Not on a 2 MiB line, and not at the same distance from it in every space. */
	engine_region_init(region, memory, 0x7f000 + space * 0x1000 + space * 31, nr, NULL);
	engine_region_add(sim->config.engine, region);
}

/* Cut the next `bytes` from a block; with no block, only add them up. */
static void *cut(char *block, size_t *at, size_t bytes)
{
	void *here = block ? block + *at : NULL;

	*at += (bytes + 15) & ~(size_t)15;
	return here;
}

static size_t world_lay_out(struct sim *sim, char *block)
{
	const struct sim_config *config = &sim->config;
	size_t spaces = config->nr_spaces, pages = spaces * config->nr_pages, at = 0;

	sim->world = cut(block, &at, sizeof(*sim->world));
	sim->spaces = cut(block, &at, spaces * sizeof(*sim->spaces));
	sim->pages = cut(block, &at, pages * sizeof(*sim->pages));
	sim->places = cut(block, &at, spaces * config->nr_places * sizeof(*sim->places));
	sim->slots = cut(block, &at, config->nr_slots * sizeof(*sim->slots));
	sim->stage = cut(block, &at, config->nr_pages * sizeof(*sim->stage));
	sim->idx = cut(block, &at, pages * sizeof(*sim->idx));
	sim->at = cut(block, &at, pages * sizeof(*sim->at));
	sim->words = cut(block, &at, config->engine ? 0 : pages * sizeof(*sim->words));
	return at;
}

int sim_open(const struct sim_config *config, struct sim **ret_sim)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	void *block;

	if (!sim)
		return -ENOMEM;
	sim->config = *config;
	sim->world_bytes = world_lay_out(sim, NULL);
	block = calloc(1, sim->world_bytes);
	sim->regions = calloc(config->nr_spaces, sizeof(*sim->regions));
	sim->seen = calloc(config->nr_slots, sizeof(*sim->seen));
	if (config->engine)
		sim->region_bytes = (engine_region_bytes(config->nr_pages) + 4095) & ~(size_t)4095;
	sim->region_memory = config->engine ?
		aligned_alloc(4096, config->nr_spaces * sim->region_bytes) : NULL;
	if (!block || !sim->regions || !sim->seen || (config->engine && !sim->region_memory)) {
		free(block);
		free(sim->regions);
		free(sim->seen);
		free(sim->region_memory);
		free(sim);
		return -ENOMEM;
	}
	world_lay_out(sim, block);
	if (!config->engine)
		for (uint32_t i = 0; i < config->nr_spaces; i++)
			sim_region_open(sim, i);
	*ret_sim = sim;
	return 0;
}

void sim_close(struct sim *sim)
{
	if (!sim)
		return;
	for (uint32_t i = 0; i < sim->config.nr_spaces; i++) {
		struct sim_action end = { .act = SIM_EXIT, .space = i };

		sim_do(sim, &end);
		end.act = SIM_REAP;
		sim_do(sim, &end);
	}
	while (sim->world->mover.state != M_IDLE)
		sim_do(sim, &(struct sim_action){ .act = SIM_MOVER });
	free(sim->world);
	free(sim->regions);
	free(sim->region_memory);
	free(sim->seen);
	free(sim);
}

bool sim_do(struct sim *sim, const struct sim_action *action)
{
	bool taken = action->act < SIM_EVENT ? sim_do_program(sim, action) :
					       sim_do_server(sim, action);

	if (taken) {
		sim->counts.steps++;
		sim->counts.act[action->act]++;
	}
	return taken;
}

uint64_t sim_look(struct sim *sim, uint32_t space, uint32_t page)
{
	return sim->spaces[space].state == SPACE_ALIVE ? *sim_word(sim, space, page) : 0;
}

void sim_set_time(struct sim *sim, uint64_t now_ns)
{
	sim->now_ns = now_ns;
}

void sim_set_limit(struct sim *sim, uint64_t limit_pages)
{
	sim->config.limit_pages = limit_pages;
}

struct sim_counts *sim_counts(struct sim *sim)
{
	return &sim->counts;
}

void *sim_state(struct sim *sim, size_t *ret_bytes)
{
	*ret_bytes = sim->world_bytes;
	return sim->world;
}
