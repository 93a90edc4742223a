/* SPDX-License-Identifier: MIT */
/*
 * Survey: which of a program's mappings are to be taken into care.
 *
 * Mappings are found in the maps file, so it does not matter which allocator or call made them. What counts
 * is the run of those that lie side by side: protection, or that one of them is managed already, keeps the
 * kernel from merging them, yet they are one heap. Each is still registered as a whole.
 *
 *   run of 1 MiB and more      taken
 *   64 KiB up to that          taken, the largest first, as far as what is left out would be more than its
 *                              share of the budget; programs share that alike
 *   less                       left alone, and counted
 *
 * A heap of many small mappings (V8 has one of 256 KiB each) is so taken nearly whole, and a program that
 * has a few keeps them for nothing. Registering splits no mapping, and neighbours that are registered alike
 * merge again, so a program comes no nearer to vm.max_map_count than by itself; the tables of small ones
 * share tracts (shelf.c).
 *
 * Which are locked, and which may have huge pages, is read with their flags, for which the kernel walks page
 * tables: the first time, and when as much is no longer locked as it was then. In between those that were locked
 * are known by their bounds, which locking gives a mapping.
 */
#include "survey.h"

#include <errno.h>
#include <stdlib.h>

#include "limit.h"
#include "proc.h"

/* Of the budget, what small mappings may have unmanaged in all programs: the rest can make way for them. */
#define LEFT_SHARE 16u
#define SPARSE_LEAST_PAGES (UINT64_C(64) << 30 >> PAGE_SHIFT) /* below that nobody asks what the machine has */

bool survey_own(const struct program *p, uint64_t start, uint64_t end)
{
	uint64_t huge = 2u << 20, hold_end = p->hold.address + (uint64_t)p->hold.nr_pages * PAGE_BYTES +
					     HELPER_STAGE_BYTES + HELPER_STOCK_BYTES;

	return (p->hold.address && start < hold_end + huge && end > p->hold.address - huge) ||
	       (start < p->area + p->area_bytes && end > p->area) ||
	       (start < p->probe + PAGE_BYTES && end > p->probe);
}

uint64_t survey_uncovered(struct program *p, uint64_t start, uint64_t end,
			  int (*visit)(struct program *p, uint64_t vpn, uint64_t nr_pages))
{
	uint64_t vpn = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT, sum = 0;

	while (vpn < last) {
		const struct extent *e = extent_next(p, vpn);
		if (e && e->vpn <= vpn) {
			vpn = e->vpn + e->nr_pages;
			continue;
		}
		uint64_t to = e && e->vpn < last ? e->vpn : last;
		sum += to - vpn;
		if (visit && visit(p, vpn, to - vpn))
			break;
		vpn = to;
	}
	return sum;
}

bool survey_sparse(uint64_t pages)
{
	uint64_t total_bytes, available_bytes;

	return pages > SPARSE_LEAST_PAGES && !limit_machine("", &total_bytes, &available_bytes) &&
	       pages / 16 > total_bytes >> PAGE_SHIFT;
}

static void locked_keep(struct survey *s, const struct proc_mapping *m)
{
	struct program *p = s->program;
	struct locked *grown = realloc(p->locked, (p->nr_locked + 1) * sizeof *grown);

	if (!grown) {
		s->error = -ENOMEM;
		return;
	}
	p->locked = grown;
	p->locked[p->nr_locked++] = (struct locked){ m->start, m->end };
}

static bool mapping_locked(struct survey *s, const struct proc_mapping *m)
{
	const struct program *p = s->program;

	if (s->flags && m->locked)
		locked_keep(s, m);
	if (s->flags)
		return m->locked;
	for (size_t i = 0; i < p->nr_locked; i++)
		if (p->locked[i].start == m->start && p->locked[i].end == m->end)
			return true;
	return false;
}

/* Whether it can be managed at all; what cannot is counted. */
static bool mapping_fit(struct survey *s, const struct proc_mapping *m)
{
	uint64_t pages = (m->end - m->start) >> PAGE_SHIFT;
	enum unmanaged why;

	if (m->special || m->pinned_kind)
		why = UNMANAGED_SPECIAL;
	else if (m->shared)
		why = UNMANAGED_SHARED;
	else if (!m->anonymous)
		why = UNMANAGED_FILE;
	else if (m->stack)
		why = UNMANAGED_STACK;
	else if (mapping_locked(s, m))
		why = UNMANAGED_LOCKED;
	else if (survey_sparse(pages))
		why = UNMANAGED_SPARSE;
	else
		return true;
	s->unmanaged[why] += pages;
	return false;
}

int survey_add(struct survey *s, uint64_t start, uint64_t end, bool huge)
{
	if (s->nr == s->room) {
		size_t room = s->room ? s->room * 2 : 64;
		struct candidate *grown = realloc(s->list, room * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		s->list = grown;
		s->room = room;
	}
	s->list[s->nr++] = (struct candidate){ .start = start, .end = end, .huge = huge };
	return 0;
}

/* Its neighbours are known: tell all of them. */
static void run_close(struct survey *s)
{
	for (; s->run_first < s->nr; s->run_first++)
		s->list[s->run_first].run_pages = s->run_pages;
	s->run_pages = 0;
}

static int mapping_survey(void *arg, const struct proc_mapping *m)
{
	struct survey *s = arg;
	struct program *p = s->program;

	if (s->nr && s->list[s->nr - 1].end == m->start)
		s->list[s->nr - 1].adjoined = true;
	if (survey_own(p, m->start, m->end) || !mapping_fit(s, m))
		return 0;
	if (m->start != s->run_end)
		run_close(s);
	s->run_end = m->end;
	s->run_pages += (m->end - m->start) >> PAGE_SHIFT;
	program_lock_shared(p);
	bool wanted = !moves_pending(&p->moves, m->start >> PAGE_SHIFT, m->end >> PAGE_SHIFT) &&
		      survey_uncovered(p, m->start, m->end, NULL);
	rwlock_unlock(&p->lock);
	return wanted ? survey_add(s, m->start, m->end, m->thp) : 0;
}

uint64_t survey_least(const uint64_t left[SURVEY_CLASSES], uint64_t most)
{
	uint64_t sum = 0;
	unsigned k = 0;

	while (k < SURVEY_CLASSES && sum + left[k] <= most)
		sum += left[k++];
	return (uint64_t)SURVEY_LEAST_PAGES << k;
}

/* Pages that small mappings of one program may have unmanaged. */
static uint64_t left_most(const struct server *s)
{
	uint64_t nr = 0;

	for (const struct program *p = s->programs; p; p = p->next)
		nr++;
	return atomic_load(&s->limit) / LEFT_SHARE / (nr ? nr : 1);
}

static uint64_t candidate_uncovered(struct program *p, const struct candidate *c)
{
	program_lock_shared(p);
	uint64_t pages = survey_uncovered(p, c->start, c->end, NULL);
	rwlock_unlock(&p->lock);
	return pages;
}

/* Take those out of the list that are to be left alone. */
static void small_leave(struct survey *s)
{
	struct program *p = s->program;
	uint64_t left[SURVEY_CLASSES] = { 0 };
	size_t nr = 0;

	for (size_t i = 0; i < s->nr; i++)
		for (unsigned k = 0; k < SURVEY_CLASSES; k++)
			if (s->list[i].run_pages >> k >= SURVEY_LEAST_PAGES &&
			    s->list[i].run_pages >> k < 2 * SURVEY_LEAST_PAGES)
				left[k] += candidate_uncovered(p, &s->list[i]);
	uint64_t least = survey_least(left, left_most(p->server));
	for (size_t i = 0; i < s->nr; i++) {
		if (s->list[i].run_pages >= least)
			s->list[nr++] = s->list[i];
		else
			s->unmanaged[UNMANAGED_SMALL] += candidate_uncovered(p, &s->list[i]);
	}
	s->nr = nr;
}

int survey_read(struct survey *s)
{
	struct program *p = s->program;
	uint64_t locked_kib = 0;

	(void)proc_status_kib(p->proc_dir, "VmLck", &locked_kib);
	s->flags = !p->surveyed || locked_kib != p->locked_kib;
	if (s->flags)
		p->nr_locked = 0;
	int error = proc_mappings(p->proc_dir, s->flags, mapping_survey, s);
	error = error ? error : s->error;
	/* Once more if it was not read to its end. */
	p->locked_kib = error && s->flags ? UINT64_MAX : locked_kib;
	run_close(s);
	if (!error)
		small_leave(s);
	return error;
}
