/* SPDX-License-Identifier: MIT */
/*
 * Page: its word changes, its memory is counted, and new memory is taken from the right node.
 *
 * With a slow node the budget is for what is on the fast one. The kernel tells only how much a process
 * has in all, so what is on the slow node is counted here, by words.
 */
#include "mempolicy.h"
#include "program.h"

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
	if (!region_change(word, from, to))
		return false;
	page_count(s, from, to);
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
