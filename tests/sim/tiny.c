/* SPDX-License-Identifier: MIT */
/*
 * Tiny worlds, searched through breadth-first until no new state is found: every step that is
 * possible in a state is taken, in every order, and every state is walked.
 *
 *   tiny [--all] [NAME...]     --all: also the worlds that take minutes
 *
 * A world is a simulated space (or two, with fork) without an engine, so any page may be moved
 * at any time, and a tier of a few slots. States that differ only in which slot or place of the
 * hold area was given to whom, or in which page is which, are one: slots and places are renamed
 * in the order in which pages name them, pages are sorted by all that is known of them but their
 * number. A state is remembered by 128 bits of hash; only the states still to be looked at are
 * kept whole.
 *
 * With one version per page a stale copy shows only as content where zeros should be, or the
 * other way round; with two, also as the content before.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"
#include "sim_world.h"

#define NR_SLOTS 12u
#define STATES_MAX UINT64_C(20000000)

/* ---- a tier that can be copied ------------------------------------------------------------- */

struct tiny_tier {
	struct tier tier;
	struct sim_slot slots[NR_SLOTS]; /* part of the state */
	int store_error, load_error;     /* of the next call */
	bool failed;
};

static struct tiny_tier *tiny_of(struct tier *tier)
{
	return (struct tiny_tier *)tier; /* its first member */
}

static int tiny_store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	struct tiny_tier *tiny = tiny_of(tier);

	if (tiny->store_error) {
		tiny->failed = true;
		return tiny->store_error;
	}
	for (uint32_t slot = 1; slot < NR_SLOTS; slot++) {
		if (tiny->slots[slot].refs)
			continue;
		memcpy(&tiny->slots[slot].content, page, sizeof(uint32_t));
		tiny->slots[slot].refs = 1;
		*ret_slot = slot;
		return 0;
	}
	return -ENOSPC;
}

static int tiny_load(struct tier *tier, uint32_t slot, void *ret_page)
{
	struct tiny_tier *tiny = tiny_of(tier);

	if (tiny->load_error) {
		tiny->failed = true;
		return tiny->load_error;
	}
	sim_fill(tiny->slots[slot].content, ret_page);
	return 0;
}

static int tiny_compare(struct tier *tier, uint32_t slot, const void *page)
{
	return memcmp(&tiny_of(tier)->slots[slot].content, page, sizeof(uint32_t)) != 0;
}

static void tiny_ref(struct tier *tier, uint32_t slot)
{
	tiny_of(tier)->slots[slot].refs++;
}

static void tiny_unref(struct tier *tier, uint32_t slot)
{
	struct sim_slot *own = &tiny_of(tier)->slots[slot];

	if (--own->refs == 0)
		own->content = 0;
}

static void tiny_usage(struct tier *tier, struct tier_usage *ret_usage)
{
	memset(ret_usage, 0, sizeof(*ret_usage));
	for (uint32_t slot = 1; slot < NR_SLOTS; slot++)
		ret_usage->pages += tiny_of(tier)->slots[slot].refs > 0;
}

static const struct tier_ops tiny_ops = {
	.name = "tiny",
	.store = tiny_store,
	.load = tiny_load,
	.compare = tiny_compare,
	.ref = tiny_ref,
	.unref = tiny_unref,
	.usage = tiny_usage,
};

/* ---- worlds -------------------------------------------------------------------------------- */

#define ACT(name) (1u << SIM_##name)
#define ACT_SERVER (ACT(THREAD) | ACT(EVENT) | ACT(FAULT) | ACT(HANDLER) | ACT(MOVER) | \
		    ACT(MOVE) | ACT(DROP))
#define ACT_BASE (ACT_SERVER | ACT(READ) | ACT(WRITE) | ACT(DISCARD))

struct world {
	const char *name;
	uint32_t nr_spaces, nr_pages, nr_places, nr_threads, nr_handlers, versions;
	uint32_t acts;
	bool failures, slow;
	bool demotes; /* there is a slow node, too */
};

static const struct world worlds[] = {
	{ "three", 1, 3, 2, 1, 1, 1, ACT_BASE | ACT(SHADOW), false, false, false },
	{ "race", 1, 1, 2, 2, 2, 1, ACT_BASE, false, false, false },
	{ "lazy", 1, 1, 2, 2, 1, 1, ACT_BASE | ACT(FREE) | ACT(RECLAIM) | ACT(RECLAIM_PLACE), false,
	  false, false },
	{ "stale", 1, 1, 1, 1, 1, 2, ACT_BASE | ACT(SHADOW), true, false, false },
	{ "unmap", 1, 1, 2, 2, 1, 1, ACT_BASE | ACT(UNMAP) | ACT(MAP) | ACT(ADOPT), false, false, false },
	{ "end", 1, 2, 2, 1, 1, 1, ACT_BASE | ACT(EXIT) | ACT(REAP) | ACT(START), true, false, false },
	{ "fork", 2, 1, 1, 1, 1, 1, ACT_BASE | ACT(FORK) | ACT(EXIT) | ACT(REAP), false, false, false },
	{ "pages", 1, 4, 2, 1, 1, 1, ACT_BASE, false, false, false },
	{ "node", 1, 1, 2, 2, 1, 1, ACT_BASE | ACT(SHADOW), false, false, true },
	{ "nodes", 1, 2, 2, 1, 1, 1, ACT_BASE | ACT(EXIT) | ACT(REAP) | ACT(START), true, false, true },
	/* Of three pages 20 million states are not all. */
	{ "shadows", 1, 2, 2, 1, 1, 2, ACT_BASE | ACT(SHADOW), true, true, false },
};

/* ---- states -------------------------------------------------------------------------------- */

struct search {
	const struct world *world;
	struct sim *sim;
	struct tiny_tier tier;
	size_t sim_bytes, bytes;    /* of a state: the sim's world, then the tier's slots */
	uint64_t (*seen)[2];        /* hashes, open addressing; at most half full */
	uint64_t nr_seen, room_seen; /* room: a power of two */
	uint8_t *queue;             /* states to be looked at, read from the front */
	uint64_t head, tail, room;
	uint64_t nr_steps;
};

static void state_out(struct search *search, uint8_t *to)
{
	size_t bytes;

	memcpy(to, sim_state(search->sim, &bytes), search->sim_bytes);
	memcpy(to + search->sim_bytes, search->tier.slots, sizeof(search->tier.slots));
}

static void state_in(struct search *search, const uint8_t *from)
{
	size_t bytes;

	memcpy(sim_state(search->sim, &bytes), from, search->sim_bytes);
	memcpy(search->tier.slots, from + search->sim_bytes, sizeof(search->tier.slots));
}

/* Give slots and places new names, in the order in which they are met. */
struct renaming {
	uint32_t to[NR_SLOTS * 2], next;
};

static uint32_t renamed(struct renaming *names, uint32_t old)
{
	if (!names->to[old])
		names->to[old] = ++names->next;
	return names->to[old];
}

static uint64_t word_renamed(uint64_t word, struct renaming *slots, struct renaming *places)
{
	uint32_t slot = page_slot(word), mark = page_mark(word);

	if (page_has_slot(word))
		slot = renamed(slots, slot);
	if (page_has_hold(word))
		mark = renamed(places, mark) - 1;
	return page_word(page_state(word), page_tier(word), mark, slot, page_shadow(word));
}

static void places_sort(struct sim *sim, uint32_t space, struct renaming *names)
{
	struct sim_place sorted[NR_SLOTS];

	memset(sorted, 0, sizeof(sorted));
	for (uint32_t i = 0; i < sim->config.nr_places; i++) {
		const struct sim_place *from = sim_place(sim, space, i);
		struct sim_place *to;

		if (from->use == PLACE_FREE)
			continue;
		to = &sorted[renamed(names, i) - 1];
		to->use = from->use;
		if (from->use == PLACE_DROP)
			continue; /* nobody reads it any more */
		to->content = from->content;
		to->lazy = from->lazy && !from->gone;
		to->gone = from->gone;
	}
	memcpy(sim_place(sim, space, 0), sorted, sim->config.nr_places * sizeof(sorted[0]));
}

static void slots_sort(struct search *search, struct renaming *names)
{
	struct sim_slot sorted[NR_SLOTS];

	memset(sorted, 0, sizeof(sorted));
	for (uint32_t i = 1; i < NR_SLOTS; i++)
		if (search->tier.slots[i].refs)
			sorted[renamed(names, i)] = search->tier.slots[i];
	memcpy(search->tier.slots, sorted, sizeof(sorted));
	memcpy(search->sim->slots, sorted, sizeof(sorted));
}

/*
 * What there is to know of a page but for its number. In a world of one space and one version a
 * page holds zeros or its own content, so pages with one key can change places.
 */
static uint64_t page_key(struct sim *sim, uint32_t at)
{
	const struct sim_page *page = sim_page(sim, 0, at);
	const struct sim_mover *mover = &sim->world->mover;
	uint64_t word = *sim_word(sim, 0, at), key = page_state(word);
	const uint64_t bits[] = {
		page_shadow(word), page->content != 0, page->now != 0, page->windows & 1,
		page->windows >> 1, page->mapping & 1, page->mapping >> 1, page->mapped, page->cow,
		page->lazy, page->zero_ok, page->written,
		page_has_slot(word) && sim->slots[page_slot(word)].content,
		page_has_hold(word) && sim_place(sim, 0, page_place(word))->content,
		page_has_hold(word) && sim_place(sim, 0, page_place(word))->lazy,
		page_has_hold(word) && sim_place(sim, 0, page_place(word))->gone,
		sim->spaces[0].threads[0].state != T_IDLE && sim->spaces[0].threads[0].page == at,
		sim->spaces[0].threads[1].state != T_IDLE && sim->spaces[0].threads[1].page == at,
		sim->world->handlers[0].state != H_IDLE && sim->world->handlers[0].page == at,
		sim->world->handlers[1].state != H_IDLE && sim->world->handlers[1].page == at,
		mover->state != M_IDLE && mover->moves[0].first == at,
	};

	for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		key = key << 1 | bits[i];
	return key;
}

static uint32_t content_moved(uint32_t content, const uint32_t *to)
{
	return content ? to[content - 1] + 1 : 0;
}

static void contents_move(struct search *search, const uint32_t *to)
{
	struct sim *sim = search->sim;

	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		sim->pages[i].content = content_moved(sim->pages[i].content, to);
		sim->pages[i].now = content_moved(sim->pages[i].now, to);
	}
	for (uint32_t i = 0; i < sim->config.nr_places; i++)
		sim->places[i].content = content_moved(sim->places[i].content, to);
	for (uint32_t i = 0; i < sim->config.nr_pages; i++)
		sim->stage[i].content = content_moved(sim->stage[i].content, to);
	for (uint32_t i = 0; i < NR_SLOTS; i++) {
		sim->slots[i].content = content_moved(sim->slots[i].content, to);
		search->tier.slots[i].content = content_moved(search->tier.slots[i].content, to);
	}
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++)
		for (uint32_t j = 0; j < sim->world->handlers[i].nr; j++)
			sim->world->handlers[i].contents[j] =
				content_moved(sim->world->handlers[i].contents[j], to);
}

/* Sort the pages by key, and let everything that names a page follow. */
static void pages_sort(struct search *search)
{
	struct sim *sim = search->sim;
	struct sim_page pages[SIM_PAGES_MAX];
	uint64_t words[SIM_PAGES_MAX], keys[SIM_PAGES_MAX];
	uint32_t to[SIM_PAGES_MAX];

	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		keys[i] = page_key(sim, i);
		words[i] = *sim_word(sim, 0, i);
		pages[i] = sim->pages[i];
	}
	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		to[i] = 0;
		for (uint32_t j = 0; j < sim->config.nr_pages; j++)
			to[i] += keys[j] < keys[i] || (keys[j] == keys[i] && j < i);
	}
	for (uint32_t i = 0; i < sim->config.nr_pages; i++) {
		sim->pages[to[i]] = pages[i];
		*sim_word(sim, 0, to[i]) = words[i];
	}
	contents_move(search, to);
	for (uint32_t i = 0; i < SIM_THREADS; i++)
		if (sim->spaces[0].threads[i].state != T_IDLE)
			sim->spaces[0].threads[i].page =
				(uint16_t)to[sim->spaces[0].threads[i].page];
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++) {
		struct sim_handler *handler = &sim->world->handlers[i];

		if (handler->state != H_IDLE)
			handler->page = handler->asked = (uint16_t)to[handler->page];
		handler->idx = handler->nr ? handler->page : 0; /* nothing moves here */
	}
	if (sim->world->mover.state != M_IDLE)
		sim->world->mover.moves[0].first =
			(uint16_t)to[sim->world->mover.moves[0].first];
}

/* Two states that differ in names only become one. */
static void state_rename(struct search *search)
{
	struct sim *sim = search->sim;
	struct sim_mover *mover = &sim->world->mover;
	struct renaming slots = { .next = 0 }, places[2];

	if (sim->config.nr_spaces == 1 && sim->config.versions == 1 && sim->config.nr_pages > 1)
		pages_sort(search);
	memset(places, 0, sizeof(places));
	for (uint32_t i = 0; i < sim->config.nr_spaces; i++)
		for (uint32_t j = 0; j < sim->config.nr_pages; j++) {
			_Atomic uint64_t *word = sim_word(sim, i, j);

			*word = word_renamed(*word, &slots, &places[i]);
		}
	for (uint32_t i = 0; i < sim->config.nr_handlers; i++) {
		struct sim_handler *handler = &sim->world->handlers[i];

		for (uint32_t j = 0; j < handler->nr; j++)
			handler->words[j] = word_renamed(handler->words[j], &slots,
							 &places[handler->space]);
	}
	if (mover->state == M_PUBLISH && mover->store_reason == MOVE_OK && !mover->same)
		mover->slot = renamed(&slots, mover->slot);
	if ((mover->state == M_PUBLISH || mover->state == M_DEMOTED) && !mover->moves[mover->at].gone)
		mover->place = renamed(&places[mover->moves[mover->at].space], mover->place) - 1;
	for (uint32_t i = 0; i < sim->config.nr_spaces; i++)
		places_sort(sim, i, &places[i]);
	slots_sort(search, &slots);
}

/* ---- the set of states seen ---------------------------------------------------------------- */

static void state_hash(const uint8_t *state, size_t bytes, uint64_t ret_hash[2])
{
	uint64_t a = 0x243f6a8885a308d3, b = 0x13198a2e03707344, word;

	for (size_t i = 0; i + 8 <= bytes; i += 8) {
		memcpy(&word, state + i, 8);
		a = (a ^ word) * 0x9fb21c651e98df25;
		a ^= a >> 32;
		b = (b + word) * 0xd6e8feb86659fd93;
		b ^= b >> 29;
	}
	ret_hash[0] = a | 1; /* 0 is an empty place in the table */
	ret_hash[1] = b;
}

/* Whether the state is new; then it is remembered. */
static bool state_add(struct search *search, const uint64_t hash[2])
{
	uint64_t mask = search->room_seen - 1, at = hash[1] & mask;

	for (; search->seen[at][0]; at = (at + 1) & mask)
		if (search->seen[at][0] == hash[0] && search->seen[at][1] == hash[1])
			return false;
	search->seen[at][0] = hash[0];
	search->seen[at][1] = hash[1];
	search->nr_seen++;
	return true;
}

static int seen_grow(struct search *search)
{
	uint64_t(*old)[2] = search->seen, room = search->room_seen;

	search->room_seen = room ? room * 2 : 1 << 16;
	search->seen = calloc(search->room_seen, sizeof(*search->seen));
	search->nr_seen = 0;
	for (uint64_t i = 0; i < room && search->seen; i++)
		if (old[i][0])
			state_add(search, old[i]);
	free(old);
	return search->seen ? 0 : -ENOMEM;
}

static int state_queue(struct search *search)
{
	uint64_t hash[2];

	if (search->nr_seen * 2 >= search->room_seen && seen_grow(search))
		return -ENOMEM;
	if ((search->tail + 1) * search->bytes > search->room) {
		/* What was looked at already makes room first. */
		uint64_t left = search->tail - search->head;
		uint64_t room = left * search->bytes * 2 + (UINT64_C(1) << 20);
		uint8_t *queue = malloc(room);

		if (!queue)
			return -ENOMEM;
		if (left)
			memcpy(queue, search->queue + search->head * search->bytes,
			       left * search->bytes);
		free(search->queue);
		search->queue = queue;
		search->room = room;
		search->head = 0;
		search->tail = left;
	}
	uint8_t *state = search->queue + search->tail * search->bytes;

	state_out(search, state);
	state_hash(state, search->bytes, hash);
	search->tail += state_add(search, hash);
	return 0;
}

/* ---- the search ---------------------------------------------------------------------------- */

enum failure {
	FAIL_NONE, FAIL_AGAIN, FAIL_BUSY, FAIL_UNREPORTED, FAIL_TOUCHED, FAIL_LOAD, FAIL_FULL,
	FAIL_REFUSED, FAILURE_COUNT
};

static void failure_arm(struct search *search, enum failure failure)
{
	search->tier.failed = false;
	search->tier.store_error = failure == FAIL_FULL ? -ENOSPC :
				   failure == FAIL_REFUSED ? -E2BIG : 0;
	search->tier.load_error = failure == FAIL_LOAD ? -EIO : 0;
	sim_fail(search->sim, SIM_FAIL_AGAIN, failure == FAIL_AGAIN);
	sim_fail(search->sim, SIM_FAIL_BUSY, failure == FAIL_BUSY);
	sim_fail(search->sim, SIM_FAIL_UNREPORTED, failure == FAIL_UNREPORTED);
	sim_fail(search->sim, SIM_FAIL_TOUCHED, failure == FAIL_TOUCHED);
}

/* For the abort handler: what was being tried. */
static struct {
	const struct search *search;
	struct sim_action action;
	enum failure failure;
} trying;

static void failed(const char *what)
{
	const struct sim_action *action = &trying.action;

	printf("FAILED: %s\nworld %s, state %" PRIu64 ": act %d space %u who %u page %u op %d "
	       "failure %d\n", what, trying.search->world->name, trying.search->nr_seen,
	       (int)action->act, action->space, action->who, action->page, (int)action->op,
	       (int)trying.failure);
	fflush(stdout);
}

static void aborted(int number)
{
	(void)number;
	failed("an assertion, see above");
	_exit(1);
}

/* Take one step from `state`; 1 when the walk found something, -errno when memory is out. */
static int step_try(struct search *search, const uint8_t *state, const struct sim_action *action,
		    enum failure failure)
{
	const char *wrong;

	state_in(search, state);
	failure_arm(search, failure);
	trying.search = search;
	trying.action = *action;
	trying.failure = failure;
	if (!sim_do(search->sim, action))
		return 0;
	search->nr_steps++;
	wrong = sim_check(search->sim);
	if (wrong) {
		failed(wrong);
		return 1;
	}
	state_rename(search);
	return state_queue(search);
}

static uint32_t range_who(const struct world *world, enum sim_act act)
{
	if (act == SIM_FAULT || act == SIM_HANDLER)
		return world->nr_handlers;
	return act < SIM_START ? world->nr_threads : 1;
}

static uint32_t range_page(const struct world *world, enum sim_act act)
{
	switch (1u << act & (ACT(FORK) | ACT(THREAD) | ACT(START) | ACT(EXIT) | ACT(EVENT) |
			     ACT(FAULT) | ACT(HANDLER) | ACT(MOVER) | ACT(DROP) |
			     ACT(ADOPT) | ACT(REAP))) {
	case 0:
		return act == SIM_RECLAIM_PLACE ? world->nr_places : world->nr_pages;
	default:
		return 1;
	}
}

/* Every way in which an action can be taken. */
static int act_try(struct search *search, const uint8_t *state, enum sim_act act)
{
	const struct world *world = search->world;
	bool fails = world->failures && (act == SIM_HANDLER || act == SIM_MOVER);
	uint32_t spaces = act == SIM_HANDLER || act == SIM_MOVER ? 1 : world->nr_spaces;
	uint32_t ops = act == SIM_MOVE ? (world->demotes ? MOVE_OP_COUNT : MOVE_DEMOTE) : 1;
	struct sim_action action = { .act = act, .nr = 1 };

	for (action.space = 0; action.space < spaces; action.space++)
		for (action.who = 0; action.who < range_who(world, act); action.who++)
			for (action.page = 0; action.page < range_page(world, act); action.page++)
				for (unsigned i = 0; i < ops * (fails ? FAILURE_COUNT : 1); i++) {
					int err;

					action.op = (enum move_op)(i % ops);
					err = step_try(search, state, &action,
						       (enum failure)(i / ops));
					if (err)
						return err;
				}
	return 0;
}

static int search_run(struct search *search)
{
	uint8_t *state = malloc(search->bytes);
	int err = state ? state_queue(search) : -ENOMEM;

	while (!err && search->head < search->tail) {
		memcpy(state, search->queue + search->head++ * search->bytes, search->bytes);
		for (unsigned act = 0; act < SIM_ACT_COUNT && !err; act++)
			if (search->world->acts >> act & 1)
				err = act_try(search, state, (enum sim_act)act);
		if (search->nr_seen > STATES_MAX)
			err = -E2BIG;
	}
	free(state);
	return err;
}

static int world_search(const struct world *world)
{
	struct search search = { .world = world, .tier.tier.ops = &tiny_ops };
	struct sim_config config = {
		.nr_spaces = world->nr_spaces, .nr_pages = world->nr_pages,
		.nr_places = world->nr_places, .nr_slots = NR_SLOTS,
		.nr_handlers = world->nr_handlers, .versions = world->versions,
		.tier = &search.tier.tier,
	};
	const struct sim_action start = { .act = SIM_START };
	uint8_t *first;
	int err = sim_open(&config, &search.sim);

	if (err)
		return err;
	sim_do(search.sim, &start);
	sim_state(search.sim, &search.sim_bytes);
	search.bytes = search.sim_bytes + sizeof(search.tier.slots);
	first = malloc(search.bytes);
	err = first ? 0 : -ENOMEM;
	if (!err) {
		state_out(&search, first);
		err = search_run(&search);
		state_in(&search, first);
		failure_arm(&search, FAIL_NONE);
	}
	if (err < 0)
		printf("FAILED: world %s did not close within %" PRIu64 " states: %s\n",
		       world->name, search.nr_seen, strerror(-err));
	else if (!err)
		printf("%-7s %u pages, %u spaces: closed, %" PRIu64 " states, %" PRIu64 " steps\n",
		       world->name, world->nr_pages, world->nr_spaces, search.nr_seen,
		       search.nr_steps);
	fflush(stdout);
	free(search.queue);
	free(search.seen);
	free(first);
	sim_close(search.sim);
	return err;
}

int main(int argc, char **argv)
{
	bool all = argc > 1 && strcmp(argv[1], "--all") == 0, named = argc > 1 && !all;

	signal(SIGABRT, aborted);
	for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++) {
		bool wanted = !named && (all || !worlds[i].slow);

		for (int j = 1; j < argc; j++)
			wanted |= strcmp(argv[j], worlds[i].name) == 0;
		if (wanted && world_search(&worlds[i]))
			return 1;
	}
	return 0;
}
