/* SPDX-License-Identifier: MIT */
/*
 * Advice: whether a tract may have huge pages, when that changes after it was adopted.
 *
 * No event tells of madvise(MADV_HUGEPAGE, MADV_NOHUGEPAGE) or prctl(PR_SET_THP_DISABLE), and the maps do not
 * show it: smaps does, for which the kernel walks page tables. What they say matters where memory is touched
 * first, so they are read again when FILLED_LEAST first touches have been served since, as its share allows
 * (pace.c). A program that does not come by new memory costs nothing.
 *
 * A tract may have huge pages if any of its mappings may.
 */
#include "proc.h"
#include "program.h"

#define FILLED_LEAST 16u /* two blocks by single pages */

enum advice { ADVICE_UNSEEN, ADVICE_SMALL, ADVICE_HUGE };

static int mapping_advice(void *arg, const struct proc_mapping *m)
{
	struct program *p = arg;
	uint8_t advice = m->thp ? ADVICE_HUGE : ADVICE_SMALL;

	program_lock_shared(p);
	const struct extent *e = extent_next(p, m->start >> PAGE_SHIFT);
	for (; e && e < p->extents + p->nr_extents && e->vpn < m->end >> PAGE_SHIFT; e++)
		if (e->tract->advice < advice)
			e->tract->advice = advice;
	rwlock_unlock(&p->lock);
	return 0;
}

static void advice_begin(struct program *p)
{
	program_lock_shared(p);
	for (struct tract *t = p->tracts; t; t = t->next)
		t->advice = ADVICE_UNSEEN;
	rwlock_unlock(&p->lock);
}

static void advice_take(struct program *p)
{
	program_lock_shared(p);
	for (struct tract *t = p->tracts; t; t = t->next)
		if (t->advice != ADVICE_UNSEEN)
			atomic_store_explicit(&t->huge, t->advice == ADVICE_HUGE, memory_order_relaxed);
	rwlock_unlock(&p->lock);
}

bool advice_due(const struct program *p, uint64_t now_ns)
{
	return p->proc_dir >= 0 && handlers_filled(p) - p->advice_filled >= FILLED_LEAST &&
	       scan_due(&p->advice, now_ns);
}

void advice_done(struct program *p, uint64_t now_ns, uint64_t cost_ns)
{
	p->advice_filled = handlers_filled(p);
	scan_done(&p->advice, now_ns, cost_ns, 0);
}

void advice_read(struct program *p)
{
	advice_begin(p);
	if (!proc_mappings(p->proc_dir, true, mapping_advice, p))
		advice_take(p);
}
