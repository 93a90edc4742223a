/* SPDX-License-Identifier: MIT */
/*
 * The engine's entry points: regions come and go, touches come in, moves end. What goes into a plan
 * is in plan.c, what pages are worth in place.c.
 */
#include "engine.h"

#include <string.h>

#include "assert.h"
#include "inner.h"
#include "occupied.h"

static size_t round_up(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

static uint64_t nr_blocks(uint64_t nr_pages)
{
	return (nr_pages + HEAT_BLOCK_PAGES - 1) / HEAT_BLOCK_PAGES;
}

/* ---- regions ---- */

size_t engine_region_bytes(uint64_t nr_pages)
{
	return round_up(sizeof(struct region_private)) + round_up(nr_pages * sizeof(uint64_t)) +
	       round_up(nr_pages * sizeof(uint32_t)) + round_up(nr_pages * sizeof(uint16_t)) +
	       round_up(nr_blocks(nr_pages) * sizeof(uint32_t)) +
	       round_up((nr_blocks(nr_pages) + 1) * sizeof(uint32_t)) + round_up(occupied_bytes(nr_pages)) +
	       round_up(ready_bytes(nr_pages));
}

void engine_region_init(struct region *region, void *memory, uint64_t first_vpn, uint64_t nr_pages,
			void *owner)
{
	char *at = memory;

	tide_assert(nr_pages > 0 && ((uintptr_t)memory & 63) == 0);
	*region = (struct region){
		.first_vpn = first_vpn,
		.nr_pages = nr_pages,
		.owner = owner,
		.priv = memory,
	};
	at += round_up(sizeof(struct region_private));
	region->state = (void *)at;
	at += round_up(nr_pages * sizeof(uint64_t));
	region->heat = (void *)at;
	at += round_up(nr_pages * sizeof(uint32_t));
	region->estimate = (void *)at;
	at += round_up(nr_pages * sizeof(uint16_t));
	region->priv->block_epoch = (void *)at;
	at += round_up(nr_blocks(nr_pages) * sizeof(uint32_t));
	region->priv->block_beat = (void *)at;
	at += round_up((nr_blocks(nr_pages) + 1) * sizeof(uint32_t));
	region->occupied = (void *)at;
	at += round_up(occupied_bytes(nr_pages));
	ready_init(&region->priv->ready, at, nr_pages);
}

void engine_region_add(struct engine *engine, struct region *region)
{
	struct region_private *priv = region->priv;

	tide_assert(!priv->engine);
	priv->engine = engine;
	if (engine->first) {
		/* Behind all others: the hands come to it last. */
		priv->next = engine->first;
		priv->previous = engine->first->priv->previous;
		priv->previous->priv->next = region;
		priv->next->priv->previous = region;
	} else {
		priv->next = priv->previous = region;
		engine->first = engine->reader = region;
		for (unsigned i = 0; i < CLOCKS; i++)
			engine->clocks[i].front = engine->clocks[i].back = (struct hand){ region, 0 };
	}
	engine->nr_regions++;
	engine->nr_pages += region->nr_pages;
}

static void hand_leave(struct hand *hand, const struct region *region, struct region *next)
{
	if (hand->region == region)
		*hand = (struct hand){ next, 0 };
}

void engine_region_remove(struct engine *engine, struct region *region)
{
	struct region_private *priv = region->priv;
	struct region *next = priv->next == region ? NULL : priv->next;

	tide_assert(priv->engine == engine);
	migrate_disown(&engine->migrate, region);
	for (unsigned i = 0; i < CLOCKS; i++) {
		hand_leave(&engine->clocks[i].front, region, next);
		hand_leave(&engine->clocks[i].back, region, next);
	}
	if (engine->reader == region)
		engine->reader = next;
	if (engine->first == region)
		engine->first = next;
	priv->next->priv->previous = priv->previous;
	priv->previous->priv->next = priv->next;
	priv->next = priv->previous = NULL;
	priv->engine = NULL;
	engine->nr_regions--;
	engine->nr_pages -= region->nr_pages;
	for (unsigned kind = 0; kind < TOUCH_COUNT; kind++)
		engine->gone_touches[kind] += atomic_load_explicit(&priv->touches[kind],
								   memory_order_relaxed);
	engine->gone_issued += atomic_load_explicit(&priv->ahead.nr_issued, memory_order_relaxed);
	engine->gone_used += atomic_load_explicit(&priv->ahead.nr_used, memory_order_relaxed);
}

/* ---- touches ---- */

void engine_touch(struct region *region, uint64_t idx, enum engine_touch kind, uint32_t node,
		  uint64_t now_ns)
{
	struct region_private *priv = region->priv;
	uint64_t block = idx / HEAT_BLOCK_PAGES, first = block * HEAT_BLOCK_PAGES;
	uint64_t nr = region->nr_pages - first < HEAT_BLOCK_PAGES ? region->nr_pages - first
								  : HEAT_BLOCK_PAGES;
	_Atomic uint32_t *epoch = &priv->block_epoch[block];
	struct heat_moment now = heat_moment_at(now_ns);
	bool raised;

	tide_assert(idx < region->nr_pages && kind < TOUCH_COUNT);
	bool known = heat_block_enter(&region->heat[first], nr, epoch, now);
	uint32_t record = heat_publish(&region->heat[idx],
				       atomic_load_explicit(epoch, memory_order_relaxed), now,
				       known, node, kind == TOUCH_FILL, &raised);
	if (raised)
		ready_mark(&priv->ready, heat_class(record), idx);
	atomic_fetch_add_explicit(&priv->touches[kind], 1, memory_order_relaxed);
}

void engine_forget(struct region *region, uint64_t first, uint64_t nr_pages)
{
	tide_assert(first <= region->nr_pages && nr_pages <= region->nr_pages - first);
	for (uint64_t idx = first; idx < first + nr_pages; idx++) {
		/* Looked at first, so that memory never used stays untouched. */
		if (atomic_load_explicit(&region->heat[idx], memory_order_relaxed))
			heat_forget(&region->heat[idx]);
		if (estimate_load(region, idx))
			estimate_store(region, idx, 0);
	}
}

uint32_t engine_readahead(struct region *region, uint64_t idx, enum engine_touch kind)
{
	uint64_t left = region->nr_pages - idx, most = kind == TOUCH_LOAD ? AHEAD_WINDOW_MAX : AHEAD_COPY_MAX;

	tide_assert(idx < region->nr_pages);
	return ahead_window(&region->priv->ahead, idx, left < most ? left : most);
}

/* ---- the engine ---- */

size_t engine_bytes(const struct engine_config *config)
{
	return round_up(sizeof(struct engine)) + migrate_bytes(config->max_moves);
}

struct engine *engine_init(void *zeroed_memory, const struct engine_config *config)
{
	struct engine *engine = zeroed_memory;

	tide_assert(config->max_moves > 0);
	*engine = (struct engine){ .last_beat = 1 };
	migrate_init(&engine->migrate, (char *)zeroed_memory + round_up(sizeof *engine),
		     config->max_moves);
	for (unsigned i = 0; i < CLOCKS; i++)
		place_init(&engine->clocks[i].place);
	exchange_init(&engine->exchange);
	return engine;
}

void engine_tape_set(struct engine *engine, struct engine_tape *tape)
{
	engine->tape = tape;
}

void engine_left_alone(const struct engine *engine, uint64_t *ret_resident, uint64_t *ret_left_alone)
{
	const struct region *region = engine->first;

	*ret_resident = *ret_left_alone = 0;
	for (uint64_t i = 0; i < engine->nr_regions; i++, region = region->priv->next) {
		for (uint64_t idx = 0; (idx = region_next(region, idx)) < region->nr_pages; idx++) {
			uint64_t word = atomic_load_explicit(&region->state[idx], memory_order_relaxed);
			bool resident = page_state(word) == PAGE_RESIDENT;
			*ret_resident += resident;
			*ret_left_alone += resident && place_level(estimate_load(region, idx)) > PLACE_LEVEL_LEAVE;
		}
	}
}

uint32_t engine_tape_state(struct engine_tape *tape, uint32_t state)
{
	if (tape->replay)
		return tape->at++ < tape->nr ? tape->states[tape->at - 1] : (uint32_t)PAGE_ABSENT;
	tide_assert(tape->nr < ENGINE_TAPE_ROOM);
	tape->states[tape->nr++] = (uint8_t)state;
	return state;
}

/* Digits of two bits, the lowest first; all but the last have the next bit set. */
_Static_assert(SIGHT_COUNT >= 8, "a digit is taken for a state");

uint64_t engine_tape_number(struct engine_tape *tape, uint64_t number)
{
	uint64_t read = 0;
	uint32_t digit, shift = 0;

	do {
		digit = engine_tape_state(tape, (uint32_t)(number & 3) | (number > 3 ? 4u : 0u));
		read |= (uint64_t)(digit & 3) << shift;
		number >>= 2;
		shift += 2;
	} while (digit & 4 && shift < 64);
	return read;
}

/* Put off the pages of a run that are back where they were, though nobody touched them. */
static void run_backoff(struct engine *engine, const struct migrate_entry *move, bool refused)
{
	const struct place *place = &engine->clocks[0].place;

	for (uint64_t idx = move->first; idx < move->first + move->nr_pages; idx++) {
		uint32_t state = state_load(engine->tape, move->region, idx);
		uint32_t record = atomic_load_explicit(&move->region->heat[idx], memory_order_relaxed);
		bool resident = state == PAGE_RESIDENT || state == SIGHT_RESIDENT_SLOW;
		bool held = state == PAGE_HELD || state == SIGHT_HELD_SLOW;
		if ((resident || (held && move->op != MOVE_HOLD)) && !(record & HEAT_MASK(READY)))
			estimate_store(move->region, idx,
				       refused ? place_estimate_refused(place, estimate_load(move->region, idx))
					       : place_estimate_busy(place));
	}
}

void engine_complete(struct engine *engine, uint64_t id, const struct move_result *result,
		     uint64_t now_ns)
{
	const uint32_t *nr = result->nr_pages;
	struct migrate_entry move = migrate_close(&engine->migrate, id, result, now_ns);

	/* The clock of beats goes by what leaves the fast node. */
	if (move.op == MOVE_DEMOTE || (move.op == MOVE_STORE && !engine->slow_node))
		place_stored(&engine->clocks[0].place, nr[MOVE_OK], engine->resident_pages);
	else if (move.op == MOVE_HOLD)
		place_held(&engine->clocks[0].place, nr[MOVE_OK]);
	if (!move.region)
		return;
	if (nr[MOVE_FAIL_DENIED] || nr[MOVE_FAIL_REFUSED])
		run_backoff(engine, &move, true);
	else if (nr[MOVE_FAIL_BUSY] || (move.op == MOVE_HOLD && nr[MOVE_FAIL_IO]))
		run_backoff(engine, &move, false);
}

bool engine_promote(struct region *region, uint64_t idx, uint64_t now_ns)
{
	struct region_private *priv = region->priv;
	uint32_t record = atomic_load_explicit(&region->heat[idx], memory_order_relaxed);
	uint32_t epoch = atomic_load_explicit(&priv->block_epoch[idx / HEAT_BLOCK_PAGES],
					      memory_order_relaxed);

	tide_assert(idx < region->nr_pages);
	/* To have been born is no touch. */
	return heat_class(record) > 0 &&
	       heat_age_ticks(record, epoch, heat_moment_at(now_ns)) <=
		       exchange_window(&priv->engine->exchange) &&
	       exchange_promote(&priv->engine->exchange);
}

void engine_stats(const struct engine *engine, struct engine_stats *ret_stats)
{
	const struct migrate *migrate = &engine->migrate;
	struct engine_stats stats = {
		.requested = migrate->requested,
		.readahead_issued = engine->gone_issued,
		.readahead_used = engine->gone_used,
	};

	for (unsigned op = 0; op < MOVE_OP_COUNT; op++) {
		stats.pending += migrate->pending[op];
		stats.moved[op] = migrate->moved[op];
	}
	memcpy(stats.ended, migrate->ended, sizeof stats.ended);
	memcpy(stats.touches, engine->gone_touches, sizeof stats.touches);
	const struct region *region = engine->first;
	for (uint64_t i = 0; i < engine->nr_regions; i++, region = region->priv->next) {
		struct region_private *priv = region->priv;
		for (unsigned kind = 0; kind < TOUCH_COUNT; kind++)
			stats.touches[kind] += atomic_load_explicit(&priv->touches[kind],
								    memory_order_relaxed);
		stats.readahead_issued += atomic_load_explicit(&priv->ahead.nr_issued,
							       memory_order_relaxed);
		stats.readahead_used += atomic_load_explicit(&priv->ahead.nr_used,
							     memory_order_relaxed);
	}
	*ret_stats = stats;
}
