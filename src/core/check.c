/* SPDX-License-Identifier: MIT */
/* Check: walks everything the engine keeps and says what does not hold. For tests; it looks at every
 * page, and nobody may touch or mark while it runs. */
#include "inner.h"
#include "occupied.h"

static const char *region_check(const struct engine *engine, const struct region *region)
{
	struct region_private *priv = region->priv;

	if (priv->engine != engine)
		return "a region of the ring is another engine's";
	if (priv->next->priv->previous != region || priv->previous->priv->next != region)
		return "the ring of regions is broken";
	if (!ready_check(&priv->ready))
		return "a ready page is not marked above";
	for (uint64_t idx = 0; idx < region->nr_pages; idx++) {
		uint64_t word = atomic_load_explicit(&region->state[idx], memory_order_acquire);
		uint32_t record = atomic_load_explicit(&region->heat[idx], memory_order_relaxed);
		uint64_t bit = UINT64_C(1) << (idx % 64);
		uint64_t marks = 0;

		if (page_state(word) >= PAGE_STATE_COUNT)
			return "a page is in no known state";
		if (page_state(word) == PAGE_ABSENT && word)
			return "an absent page owns something";
		if (word && !region_occupied(region, idx))
			return "a page is in a block that holds nothing";
		if (!page_has_slot(word) && page_tier(word) > 1)
			return "a page is on no known node";
		for (unsigned c = 0; c < READY_CLASSES; c++)
			marks |= atomic_load(&priv->ready.classes[c].level[0][idx / 64]) & bit;
		if ((record & HEAT_MASK(READY)) && !marks)
			return "a ready record is in no ready class";
	}
	return NULL;
}

static const char *hand_check(const struct engine *engine, const struct hand *hand)
{
	if (!hand->region != !engine->first)
		return "a hand is in no region though there is one";
	if (!hand->region)
		return NULL;
	if (hand->region->priv->engine != engine || hand->idx >= hand->region->nr_pages)
		return "a hand is outside its region";
	return NULL;
}

/* A page is on one way at a time. Two of different kinds may share what neither moves: a run spans what is between. */
static const char *moves_check(const struct migrate *migrate)
{
	for (uint32_t i = 0; i < migrate->max_moves; i++) {
		const struct migrate_entry *one = &migrate->entries[i];
		for (uint32_t k = 0; one->id && one->region && k < i; k++) {
			const struct migrate_entry *other = &migrate->entries[k];
			if (other->id && other->region == one->region && other->op == one->op &&
			    other->first < one->first + one->nr_pages && one->first < other->first + other->nr_pages)
				return "two moves under way have a page in common";
		}
	}
	return NULL;
}

const char *engine_check(const struct engine *engine)
{
	const struct region *region = engine->first;
	uint64_t nr_pages = 0;
	const char *bad = migrate_check(&engine->migrate);

	bad = bad ? bad : moves_check(&engine->migrate);
	for (uint64_t i = 0; !bad && i < engine->nr_regions; i++, region = region->priv->next) {
		bad = region_check(engine, region);
		nr_pages += region->nr_pages;
	}
	if (!bad && region != engine->first)
		bad = "the ring of regions is not as long as its count";
	if (!bad && nr_pages != engine->nr_pages)
		bad = "the pages of all regions are miscounted";
	for (unsigned i = 0; !bad && i < CLOCKS; i++) {
		bad = hand_check(engine, &engine->clocks[i].front);
		bad = bad ? bad : hand_check(engine, &engine->clocks[i].back);
	}
	return bad;
}
