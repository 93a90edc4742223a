/* SPDX-License-Identifier: MIT */
/*
 * What the simulated programs and their kernel do.
 *
 * A call that raises an event takes three steps: it begins (mmap_changing up, message queued,
 * thread asleep), is woken when the message was read (mmap_changing down), and takes effect,
 * except that unmapping takes effect before its message. The oracle of a page: a read gives
 * `now`, or zeros if `zero_ok`. While a discard is under way zeros are right, and a write may be
 * lost to it.
 */
#include <string.h>

#include "assert.h"
#include "sim_world.h"

static uint32_t content_next(struct sim *sim, uint32_t page, uint32_t now)
{
	uint32_t versions = sim->config.versions, base = page * versions;

	if (!versions)
		return ++sim->world->next_content;
	return now > base && now <= base + versions ? base + 1 + (now - base) % versions : base + 1;
}

/* The huge pages around [page, page + nr) come apart, or go. */
static void huge_split(struct sim *sim, uint32_t space, uint32_t page, uint32_t nr)
{
	for (uint32_t i = page; i < page + nr; i++)
		sim->spaces[space].huge &= ~sim_block_bit(sim, i);
}

static void page_write(struct sim_page *page, uint32_t content)
{
	page->content = content;
	page->now = content;
	page->lazy = false;
	page->cow = false;
	page->zero_ok = page->windows > 0;
	page->written = page->windows > 0;
}

/* The walk after every step has seen that what is mapped is right; a read only narrows it. */
static void page_read(struct sim_page *page)
{
	tide_assert(page->content == page->now || (page->zero_ok && page->content == 0));
	if (page->content == 0) {
		page->now = 0;
		page->zero_ok = false;
	}
}

static void touch(struct sim *sim, uint32_t space, uint32_t who)
{
	struct sim_thread *thread = &sim->spaces[space].threads[who];
	struct sim_page *page = sim_page(sim, space, thread->page);

	if (page->mapping == MAP_FOREIGN && !page->mapped) {
		page->mapped = true; /* the kernel's own zero fill */
		page->content = 0;
	}
	if (page->mapping == MAP_MANAGED && !page->mapped) {
		thread->state = T_FAULT;
		return;
	}
	/* Not mapped at all: the program's own mistake, it does without. */
	if (page->mapping != MAP_NONE && thread->write) {
		if (page->cow)
			huge_split(sim, space, thread->page, 1);
		page_write(page, content_next(sim, thread->page, page->now));
	} else if (page->mapping != MAP_NONE)
		page_read(page);
	memset(thread, 0, sizeof(*thread));
}

static void event_raise(struct sim_space *space, uint32_t who, const struct sim_action *action)
{
	struct sim_thread *thread = &space->threads[who];

	thread->state = T_EVENT;
	thread->act = (uint8_t)action->act;
	thread->page = (uint16_t)action->page;
	thread->nr = (uint16_t)action->nr;
	thread->to = action->act == SIM_REMAP ? (uint16_t)action->to : 0;
	space->changing++;
	if (action->act == SIM_FORK)
		thread->state = T_COPIED; /* the message comes when all locks are given up */
	else
		space->events[space->nr_events++] = (uint8_t)who;
}

static void discard_begin(struct sim *sim, const struct sim_action *action)
{
	for (uint32_t i = 0; i < action->nr; i++) {
		struct sim_page *page = sim_page(sim, action->space, action->page + i);

		page->windows++;
		page->zero_ok = true;
	}
	event_raise(&sim->spaces[action->space], action->who, action);
}

static void unmap_begin(struct sim *sim, const struct sim_action *action)
{
	huge_split(sim, action->space, action->page, action->nr);
	for (uint32_t i = 0; i < action->nr; i++) {
		struct sim_page *page = sim_page(sim, action->space, action->page + i);
		uint8_t windows = page->windows;

		memset(page, 0, sizeof(*page));
		page->windows = windows; /* their threads will count down */
	}
	event_raise(&sim->spaces[action->space], action->who, action);
}

/* Whether pages may move: a fork under way has copied their page tables, and tells of it later. */
static bool movable(struct sim *sim, const struct sim_action *action)
{
	uint32_t page = action->page, to = action->to, nr = action->nr;

	if (to + nr > sim->config.nr_pages || (to < page + nr && page < to + nr))
		return false;
	for (unsigned i = 0; i < SIM_THREADS; i++) {
		const struct sim_thread *thread = &sim->spaces[action->space].threads[i];

		/* What another thread has unmapped or moved, the server is to have heard of. */
		if (thread->state == T_COPIED || (thread->state == T_EVENT && thread->act != SIM_DISCARD &&
						  thread->act != SIM_FREE))
			return false;
	}
	for (uint32_t i = 0; i < nr; i++)
		if (sim_page(sim, action->space, page + i)->mapping != MAP_MANAGED ||
		    sim_page(sim, action->space, to + i)->mapping != MAP_NONE)
			return false;
	return true;
}

/* Huge pages that stay aligned move as they are. */
static void huge_move(struct sim *sim, const struct sim_action *action)
{
	uint32_t nr = sim->config.block_pages, huge = sim->spaces[action->space].huge;

	huge_split(sim, action->space, action->page, action->nr);
	for (uint32_t i = 0; nr && (action->to - action->page) % nr == 0 && i + nr <= action->nr; i++)
		if ((action->page + i) % nr == 0 && huge & sim_block_bit(sim, action->page + i))
			sim->spaces[action->space].huge |= sim_block_bit(sim, action->to + i);
}

static bool remap_begin(struct sim *sim, const struct sim_action *action)
{
	if (!movable(sim, action))
		return false;
	huge_move(sim, action);
	for (uint32_t i = 0; i < action->nr; i++) {
		struct sim_page *from = sim_page(sim, action->space, action->page + i);
		struct sim_page *to = sim_page(sim, action->space, action->to + i);
		uint8_t from_windows = from->windows, to_windows = to->windows;

		*to = *from;
		to->windows = to_windows;
		to->zero_ok |= to_windows > 0;
		to->written = to_windows > 0;
		memset(from, 0, sizeof(*from));
		from->windows = from_windows; /* their threads will count down */
	}
	event_raise(&sim->spaces[action->space], action->who, action);
	return true;
}

static bool map(struct sim *sim, const struct sim_action *action)
{
	bool any = false;

	for (uint32_t i = 0; i < action->nr; i++) {
		struct sim_page *page = sim_page(sim, action->space, action->page + i);

		if (page->mapping != MAP_NONE)
			continue;
		page->mapping = MAP_FOREIGN;
		page->zero_ok = page->windows > 0;
		any = true;
	}
	return any;
}

/* The discard's effect. */
static void zap(struct sim *sim, uint32_t space, struct sim_thread *thread)
{
	huge_split(sim, space, thread->page, thread->nr);
	for (uint32_t i = 0; i < thread->nr; i++) {
		struct sim_page *page = sim_page(sim, space, thread->page + i);

		page->windows--;
		if (page->mapping != MAP_NONE && thread->act == SIM_FREE) {
			page->lazy = page->mapped;
			page->zero_ok = true;
		} else if (page->mapping != MAP_NONE && (page->mapped || !page->written)) {
			page->now = 0;
			page->zero_ok = false;
		}
		if (thread->act == SIM_DISCARD) {
			page->mapped = false;
			page->content = 0;
			page->cow = false;
			page->lazy = false;
		}
		if (page->windows == 0)
			page->written = false;
	}
}

/* The kernel's part of fork: page tables are copied at once, the child waits for the event. */
static bool fork_begin(struct sim *sim, const struct sim_action *action)
{
	struct sim_space *parent = &sim->spaces[action->space];
	uint32_t child = 0;

	while (child < sim->config.nr_spaces && sim->spaces[child].state != SPACE_NONE)
		child++;
	if (child == sim->config.nr_spaces)
		return false;
	memset(&sim->spaces[child], 0, sizeof(sim->spaces[child]));
	sim->spaces[child].state = SPACE_BORN;
	sim->spaces[child].huge = parent->huge;
	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		struct sim_page *from = sim_page(sim, action->space, i);
		struct sim_page *to = sim_page(sim, child, i);

		from->cow = from->mapped;
		*to = *from;
		to->windows = 0;
		to->written = false;
		to->pinned = false;
	}
	event_raise(parent, action->who, action);
	parent->threads[action->who].child = (uint8_t)child;
	return true;
}

static bool thread_go_on(struct sim *sim, uint32_t space, uint32_t who)
{
	struct sim_thread *thread = &sim->spaces[space].threads[who];

	switch ((enum sim_thread_state)thread->state) {
	case T_AGAIN:
		touch(sim, space, who);
		return true;
	case T_COPIED:
		sim->spaces[space].events[sim->spaces[space].nr_events++] = (uint8_t)who;
		thread->state = T_EVENT;
		return true;
	case T_WOKEN:
		sim->spaces[space].changing--;
		if (thread->act == SIM_DISCARD || thread->act == SIM_FREE)
			thread->state = T_ZAP;
		else
			memset(thread, 0, sizeof(*thread));
		return true;
	case T_ZAP:
		zap(sim, space, thread);
		memset(thread, 0, sizeof(*thread));
		return true;
	case T_IDLE:
	case T_FAULT:
	case T_READ:
	case T_DEFERRED:
	case T_EVENT:
		break;
	}
	return false;
}

static bool start(struct sim *sim, uint32_t space)
{
	if (sim->spaces[space].state != SPACE_NONE)
		return false;
	memset(&sim->spaces[space], 0, sizeof(sim->spaces[space]));
	sim->spaces[space].state = SPACE_ALIVE;
	sim->spaces[space].stock_empty = SIM_STOCK_BLOCKS;
	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		struct sim_page *page = sim_page(sim, space, i);

		memset(page, 0, sizeof(*page));
		page->mapping = MAP_MANAGED;
	}
	sim_region_open(sim, space);
	return true;
}

/* A child whose parent dies before its birth was made known is not born. */
static void unborn_forget(struct sim *sim, uint32_t parent)
{
	for (unsigned i = 0; i < SIM_THREADS; i++) {
		struct sim_thread *thread = &sim->spaces[parent].threads[i];

		if ((thread->state != T_EVENT && thread->state != T_COPIED) ||
		    thread->act != SIM_FORK)
			continue;
		memset(&sim->spaces[thread->child], 0, sizeof(struct sim_space));
		for (uint32_t j = 0; j < sim->config.nr_pages; j++)
			memset(sim_page(sim, thread->child, j), 0, sizeof(struct sim_page));
	}
}

static bool end(struct sim *sim, uint32_t space)
{
	if (sim->spaces[space].state != SPACE_ALIVE)
		return false;
	unborn_forget(sim, space);
	memset(&sim->spaces[space], 0, sizeof(sim->spaces[space]));
	sim->spaces[space].state = SPACE_GONE;
	for (uint32_t i = 0; i < sim->config.nr_pages; i++)
		memset(sim_page(sim, space, i), 0, sizeof(struct sim_page));
	return true;
}

static bool reclaim(struct sim *sim, const struct sim_action *action)
{
	if (action->act == SIM_RECLAIM) {
		struct sim_page *page = sim_page(sim, action->space, action->page);

		if (!page->mapped || !page->lazy)
			return false;
		huge_split(sim, action->space, action->page, 1);
		page->mapped = false;
		page->lazy = false;
		page->content = 0;
		return true;
	}
	if (action->page >= sim->config.nr_places)
		return false;
	struct sim_place *place = sim_place(sim, action->space, action->page);

	if (place->use == PLACE_FREE || !place->lazy || place->gone)
		return false;
	place->gone = true;
	sim->spaces[action->space].place_huge &= ~sim_block_bit(sim, action->page);
	return true;
}

/* The system is short of memory: a huge page comes apart, whatever anybody knows of it. */
static bool split(struct sim *sim, const struct sim_action *action)
{
	struct sim_space *space = &sim->spaces[action->space];
	uint32_t *huge = action->nr == 2 ? &space->place_huge : &space->huge;
	uint32_t bit = sim_block_bit(sim, action->page);

	if (!(*huge & bit) || (action->nr == 2 && action->page >= sim->config.nr_places))
		return false;
	*huge &= ~bit;
	return true;
}

static bool kernel_do(struct sim *sim, const struct sim_action *action)
{
	struct sim_page *page = sim_page(sim, action->space, action->page);

	if (action->act == SIM_START)
		return start(sim, action->space);
	if (action->act == SIM_EXIT)
		return end(sim, action->space);
	if (sim->spaces[action->space].state != SPACE_ALIVE)
		return false;
	if (action->act == SIM_RECLAIM || action->act == SIM_RECLAIM_PLACE)
		return reclaim(sim, action);
	if (action->act == SIM_SPLIT)
		return split(sim, action);
	if (page->mapping == MAP_NONE)
		return false;
	if (action->act == SIM_PIN && (page->pinned || page->mapped))
		page->pinned = !page->pinned;
	else if (action->act == SIM_DENY)
		page->denied = !page->denied;
	else
		return false;
	return true;
}

bool sim_do_program(struct sim *sim, const struct sim_action *action)
{
	struct sim_space *space = &sim->spaces[action->space];
	struct sim_thread *thread = &space->threads[action->who];

	if (action->act >= SIM_START)
		return kernel_do(sim, action);
	if (space->state != SPACE_ALIVE)
		return false;
	if (action->act == SIM_THREAD)
		return thread_go_on(sim, action->space, action->who);
	if (thread->state != T_IDLE || action->page + action->nr > sim->config.nr_pages)
		return false;
	if (action->act == SIM_READ || action->act == SIM_WRITE) {
		thread->page = (uint16_t)action->page;
		thread->write = action->act == SIM_WRITE;
		touch(sim, action->space, action->who);
		return true;
	}
	if (action->act == SIM_FORK)
		return fork_begin(sim, action);
	if (action->nr == 0)
		return false;
	if (action->act == SIM_MAP)
		return map(sim, action);
	if (action->act == SIM_REMAP)
		return remap_begin(sim, action);
	if (action->act == SIM_UNMAP)
		unmap_begin(sim, action);
	else
		discard_begin(sim, action);
	return true;
}
