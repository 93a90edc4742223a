/* SPDX-License-Identifier: MIT */
/*
 * Range: what the table has at ranges of addresses, as messages change it: discarded, moved, unmapped, kept.
 *
 * moves.c says which of these a message means. All under program.lock, exclusive.
 */
#include <stdlib.h>

#include "gone.h"
#include "intake.h"
#include "journal.h"
#include "proc.h"
#include "program.h"
#include "survey.h"
#include "uffd.h"

void page_discard(struct tract *tract, uint64_t idx)
{
	struct program *p = tract->program;
	_Atomic uint64_t *at = &tract->region.state[idx];
	uint64_t word = atomic_load_explicit(at, memory_order_acquire);

	/* Only claims race with us (a handler or the mover taking the page): try again. */
	while (page_state(word) != PAGE_ABSENT && !page_change(p->server, at, word, 0))
		word = atomic_load_explicit(at, memory_order_acquire);
	if (page_shadow(word))
		atomic_fetch_sub_explicit(&p->server->nr_shadows, 1, memory_order_relaxed);
	if (page_has_slot(word))
		p->server->pool->ops->unref(p->server->pool, page_slot(word));
	/* Who takes a word out of a state that owns a place releases it; STORING: the mover may still
	 * read there, yet it drops places only when it has done. */
	if (page_has_hold(word))
		hold_release(p, page_place(word));
	intake_forget(tract, idx, 1);
}

static void tract_discard(struct tract *t, uint64_t first, uint64_t nr_pages)
{
	struct region *region = &t->region;
	uint64_t end = first + nr_pages;

	for (uint64_t idx = region_next(region, first); idx < end; idx = region_next(region, idx + 1))
		if (atomic_load_explicit(&region->state[idx], memory_order_relaxed))
			page_discard(t, idx);
	region_vacate(region, first, nr_pages);
}

void range_discard(struct program *p, uint64_t vpn, uint64_t end)
{
	while (vpn < end) {
		const struct extent *e = extent_next(p, vpn);
		if (!e || e->vpn >= end)
			break;
		if (vpn < e->vpn)
			vpn = e->vpn;
		uint64_t to = e->vpn + e->nr_pages < end ? e->vpn + e->nr_pages : end;
		tract_discard(e->tract, e->idx + (vpn - e->vpn), to - vpn);
		vpn = to;
	}
}

void piece_drop(void *arg, const struct extent *piece)
{
	(void)arg;
	tract_discard(piece->tract, piece->idx, piece->nr_pages);
	if (!piece->tract->nr_mapped)
		tract_bury(piece->tract);
}

/* The moved pages' bytes could no longer be found. */
static void pieces_lost(struct program *p)
{
	program_fail(p, "no memory to follow a moved mapping");
}

/* What is in the program's memory is gone. What we have goes to limbo: a child that was forked before has it
 * still. Where it is there. */
static uint64_t piece_limbo(struct program *p, const struct extent *piece)
{
	struct extent kept = *piece;

	for (uint64_t idx = region_next(&piece->tract->region, piece->idx); idx < piece->idx + piece->nr_pages;
	     idx = region_next(&piece->tract->region, idx + 1)) {
		enum page_state state = page_state(word_load(piece->tract, idx));
		if (state == PAGE_RESIDENT || state == PAGE_HOLDING || state == PAGE_FILLING)
			page_discard(piece->tract, idx);
	}
	kept.vpn = journal_unmapped(p, piece->vpn, piece->nr_pages);
	if (extent_add(p, kept))
		pieces_lost(p);
	else if (kept.tract->shelf)
		shelf_settle(kept.tract, kept.vpn, kept.idx, kept.nr_pages);
	return kept.vpn;
}

int range_registered(struct program *p, uint64_t vpn, uint64_t nr_pages, void (*gone)(struct program *p, uint64_t vpn))
{
	int yes = uffd_registered(p->uffd, vpn_address(vpn), nr_pages * PAGE_BYTES);

	if (!yes && nr_pages == 1 && gone)
		gone(p, vpn);
	if (yes || nr_pages == 1)
		return yes;
	/* It may lie in several mappings. */
	yes = range_registered(p, vpn, nr_pages / 2, gone);
	if (yes < 0 || (!yes && !gone))
		return yes;
	int rest = range_registered(p, vpn + nr_pages / 2, nr_pages - nr_pages / 2, gone);
	return rest < 0 ? rest : yes && rest;
}

/* ---- as moves.c has it ---- */

struct replacement {
	struct program *program;
	moves_visit *visit;
	void *arg;
};

/* A mapping is told to be moved to where another is in the table; one that was just adopted may be that very one. */
static void piece_replace(void *arg, const struct extent *piece)
{
	const struct replacement *r = arg;
	r->visit(r->arg, piece->vpn, piece->nr_pages, piece_limbo(r->program, piece), piece->fresh);
}

static void range_replace(void *arg, uint64_t vpn, uint64_t nr_pages, moves_visit *visit, void *visit_arg)
{
	struct replacement r = { arg, visit, visit_arg };

	extent_cut(arg, vpn, nr_pages, piece_replace, &r);
}

struct relocation {
	uint64_t from, to;
	struct extent *pieces;
	size_t nr;
};

static void piece_relocate(void *arg, const struct extent *piece)
{
	struct relocation *r = arg;

	r->pieces[r->nr] = *piece;
	r->pieces[r->nr++].vpn = piece->vpn - r->from + r->to;
}

void range_move(struct program *p, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct relocation r = { .from = from, .to = to };
	int error = 0;

	r.pieces = calloc(p->nr_extents + 1, sizeof *r.pieces);
	if (!r.pieces) {
		pieces_lost(p);
		return;
	}
	extent_cut(p, from, nr_pages, piece_relocate, &r);
	for (size_t i = 0; i < r.nr && !error; i++) {
		const struct extent *piece = &r.pieces[i];
		error = extent_add(p, *piece);
		if (piece->tract->shelf)
			shelf_settle(piece->tract, piece->vpn, piece->idx, piece->nr_pages);
	}
	if (error)
		pieces_lost(p);
	free(r.pieces);
}

int pages_find(struct program *p, uint64_t vpn, uint64_t nr_pages,
	       void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	uint64_t start = vpn_address(vpn), end = vpn_address(vpn + nr_pages);

	/* The kernel tells guard pages and swapped ones as the same. */
	if (atomic_load_explicit(&p->guarded, memory_order_relaxed))
		return proc_present(p->proc_dir, start, end, visit, arg);
	return proc_filled(p->proc_dir, start, end, visit, arg);
}

static void page_found(void *arg, uint64_t start, uint64_t end, bool huge)
{
	struct program *p = arg;

	(void)huge;
	for (uint64_t vpn = start >> PAGE_SHIFT; vpn < end >> PAGE_SHIFT; vpn++) {
		const struct extent *e = extent_find(p, vpn);
		if (e)
			page_claim(e->tract, e->idx + (vpn - e->vpn), page_word(PAGE_RESIDENT, 0, 0, 0, false));
	}
}

static void range_follow(void *arg, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	range_move(arg, from, to, nr_pages);
	journal_moved(arg, from, to, nr_pages);
}

void range_return(struct program *p, uint64_t limbo, uint64_t to, uint64_t nr_pages)
{
	range_move(p, limbo, to, nr_pages);
	if (p->proc_dir >= 0)
		(void)pages_find(p, to, nr_pages, page_found, p);
}

/* Its thread waits in its call. */
static void range_come(void *arg, uint64_t limbo, uint64_t to, uint64_t nr_pages)
{
	range_return(arg, limbo, to, nr_pages);
	journal_moved(arg, limbo, to, nr_pages);
}

static void piece_unmap(void *arg, const struct extent *piece)
{
	piece_limbo(arg, piece);
}

static void range_unmap(void *arg, uint64_t vpn, uint64_t nr_pages)
{
	extent_cut(arg, vpn, nr_pages, piece_unmap, arg);
}

static uint64_t unknown_pages(void *arg, uint64_t vpn, uint64_t nr_pages)
{
	return survey_uncovered(arg, vpn_address(vpn), vpn_address(vpn + nr_pages), NULL);
}

bool range_unknown(struct program *p, uint64_t vpn, uint64_t nr_pages)
{
	return unknown_pages(p, vpn, nr_pages);
}

static void range_stay(void *arg, uint64_t vpn, uint64_t nr_pages)
{
	struct program *p = arg;

	if (p->proc_dir >= 0 && !survey_own(p, vpn_address(vpn), vpn_address(vpn + nr_pages)))
		(void)survey_uncovered(p, vpn_address(vpn), vpn_address(vpn + nr_pages), stretch_take);
}

bool range_holds(const struct program *p, uint64_t vpn, uint64_t end)
{
	const struct extent *e;

	for (; vpn < end && (e = extent_next(p, vpn)) && e->vpn < end; vpn = e->vpn + e->nr_pages) {
		const struct region *region = &e->tract->region;
		uint64_t idx = e->idx + (vpn > e->vpn ? vpn - e->vpn : 0), last = e->idx + e->nr_pages;
		last = last - e->idx < end - e->vpn ? last : e->idx + (end - e->vpn);
		for (idx = region_next(region, idx); idx < last; idx = region_next(region, idx + 1)) {
			enum page_state state = page_state(word_load(e->tract, idx));
			if (state != PAGE_ABSENT && state != PAGE_RESIDENT)
				return true;
		}
	}
	return false;
}

static uint64_t range_gone(void *arg, uint64_t first, uint64_t vpn, uint64_t nr_pages, struct moves_gone *ret)
{
	struct program *p = arg;
	const struct journal *j = p->journal;
	const struct extent *e = extent_next(p, vpn);
	struct gone gone;

	ret->kind = GONE_NOT;
	if (e && e->vpn < vpn + nr_pages)
		nr_pages = e->vpn > vpn ? e->vpn - vpn : 0;
	if (!nr_pages || !gone_find(j->changes + j->calm, j->nr - j->calm, first, vpn, nr_pages, &gone))
		return nr_pages;
	ret->at = gone.at;
	if (gone.with_below && !ret->looked) {
		ret->looked = true;
		ret->below_there = page_mapped(p, first - 1);
	}
	if (gone.with_below && !ret->below_there)
		ret->kind = GONE_TAKEN;
	else if (range_holds(p, gone.at, gone.at + gone.nr_pages) && !calls_alone(p))
		ret->kind = GONE_DOUBTFUL;
	return gone.nr_pages;
}

static void range_regain(void *arg, uint64_t at, uint64_t to, uint64_t nr_pages)
{
	range_come(arg, at, to, nr_pages);
	if (at < LIMBO_VPN)
		range_stay(arg, at, nr_pages);
}

static uint64_t range_came(void *arg, uint64_t first, uint64_t vpn, uint64_t end, struct came *ret_came)
{
	struct program *p = arg;
	const struct journal *j = p->journal;
	uint64_t nr_pages;

	while ((nr_pages = came_find(j->changes + j->calm, j->nr - j->calm, first, vpn, end, ret_came)) &&
	       !range_holds(p, ret_came->vpn, ret_came->vpn + nr_pages))
		vpn = ret_came->vpn + nr_pages;
	return nr_pages;
}

static int page_there(void *arg, uint64_t vpn)
{
	return page_mapped(arg, vpn);
}

static void program_lose(void *arg, const char *why)
{
	program_fail(arg, why);
}

struct moves_table range_table(struct program *p)
{
	return (struct moves_table){ .arg = p, .replace = range_replace, .move = range_follow, .come = range_come,
				     .unmap = range_unmap, .unknown = unknown_pages, .stay = range_stay,
				     .gone = range_gone, .regain = range_regain, .came = range_came,
				     .mapped = page_there, .fail = program_lose };
}

/* What waits there for its message stays. */
void limbo_clear(struct program *p)
{
	for (uint64_t vpn = LIMBO_VPN, to; vpn < UINT64_MAX; vpn = to) {
		uint64_t end = formers_limbo(&p->moves.formers, vpn, &to);
		if (end > vpn)
			extent_cut(p, vpn, end - vpn, piece_drop, NULL);
	}
}
