/* SPDX-License-Identifier: MIT */
/*
 * Page: its word changes, its memory is counted, and new memory is taken from the right node.
 *
 * With a slow node the budget is for what is on the fast one. The kernel tells only how much a process
 * has in all, so what is on the slow node is counted here, by words.
 */
#include "assert.h"
#include "mempolicy.h"
#include "move.h"
#include "program.h"

#define LOCATE_PAGES 512u /* asked for at once: 50 us */

void page_count(struct server *s, uint64_t from, uint64_t to)
{
	int64_t slow = (int64_t)page_slow(to) - page_slow(from);
	int64_t held = (int64_t)(page_slow(to) && page_has_hold(to)) -
		       (page_slow(from) && page_has_hold(from));

	if (slow)
		atomic_fetch_add_explicit(&s->slow, slow, memory_order_relaxed);
	if (held)
		atomic_fetch_add_explicit(&s->slow_held, held, memory_order_relaxed);
}

bool page_change(struct server *s, _Atomic uint64_t *word, uint64_t from, uint64_t to)
{
	tide_assert(from); /* page_claim() */
	if (!region_change(word, from, to))
		return false;
	page_count(s, from, to);
	return true;
}

bool page_claim(struct tract *t, uint64_t idx, uint64_t to)
{
	region_occupy(&t->region, idx, 1);
	if (!region_change(&t->region.state[idx], 0, to))
		return false;
	page_count(t->program->server, 0, to);
	return true;
}

int64_t slow_room(const struct server *s)
{
	return (int64_t)atomic_load_explicit(&s->slow_max, memory_order_relaxed) -
	       atomic_load_explicit(&s->slow, memory_order_relaxed);
}

void page_source(const struct server *s, bool slow)
{
	static _Thread_local int preferred = -1;

	if (!s->slow_bound || preferred == slow)
		return;
	/* Where it fails the kernel takes pages from wherever it likes: that is slower, not wrong. */
	preferred = mempolicy_prefer(s->nodes[slow]) ? -1 : slow;
}

/* The same for up to LOCATE_PAGES pages of an extent, from its page `at` on; returns the one behind them.
 * program.lock held shared, so none is mapped elsewhere meanwhile; one that is discarded or moved, and
 * touched again, is at worst counted wrong. */
static uint64_t extent_locate(struct program *p, const struct extent *e, uint64_t at)
{
	const struct region *region = &e->tract->region;
	_Atomic uint64_t *state = &region->state[e->idx];
	uint64_t addresses[LOCATE_PAGES], idx[LOCATE_PAGES];
	int nodes[LOCATE_PAGES];
	size_t nr = 0;

	for (; at < e->nr_pages && nr < LOCATE_PAGES; at = region_next(region, e->idx + at + 1) - e->idx) {
		if (page_state(atomic_load_explicit(&state[at], memory_order_acquire)) != PAGE_RESIDENT)
			continue;
		addresses[nr] = (e->vpn + at) << PAGE_SHIFT;
		idx[nr++] = at;
	}
	if (!nr || move_query(p->helper_pid, addresses, nr, nodes))
		return at;
	for (size_t i = 0; i < nr; i++) {
		uint64_t word = atomic_load_explicit(&state[idx[i]], memory_order_acquire);
		bool slow = nodes[i] == (int)p->server->nodes[1];
		if (nodes[i] >= 0 && page_state(word) == PAGE_RESIDENT && page_slow(word) != slow)
			(void)page_change(p->server, &state[idx[i]], word, page_word_on(word, slow));
	}
	return at;
}

void program_locate(struct program *p)
{
	/* Pages shared within a family are counted by share, and by the words of one member. */
	if (!p->server->slow_bound || !p->helper_pid || p->nr_family > 1 || atomic_load(&p->forked))
		return;
	program_lock_shared(p);
	uint64_t seq = atomic_load(&p->map_seq);
	/* Once the mappings change: the next time. */
	for (size_t i = 0; seq == atomic_load(&p->map_seq) && i < p->nr_extents; i++) {
		uint64_t at = 0;
		while (seq == atomic_load(&p->map_seq) && !p->extents[i].tract->located &&
		       at < p->extents[i].nr_pages) {
			at = extent_locate(p, &p->extents[i], at);
			/* Let events be read in between. */
			rwlock_unlock(&p->lock);
			program_lock_shared(p);
		}
	}
	for (struct tract *t = p->tracts; seq == atomic_load(&p->map_seq) && t; t = t->next)
		t->located = true;
	rwlock_unlock(&p->lock);
}
