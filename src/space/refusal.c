/* SPDX-License-Identifier: MIT */
/*
 * Refusal: what was told to be unmapped, and was not.
 *
 * The kernel (6.12 and later) tells of what an mmap() in its place was to unmap although it has refused that mmap(),
 * and all is as before, only that the mappings are cut at both ends of the place. That is known when nothing is under
 * way: what is registered there, and not in the table, is either that, or the neighbour below has grown there. What has
 * grown has no page before we fill it, and that waits for this moment (journal_doubts(); if it could not, nothing is
 * put back), and it is one with what it has grown from, until the program cuts it; then the two are of different kinds.
 * Of different kinds they may have been before, too: then nobody can tell.
 *
 *   told to be unmapped   [ A          | B   | C         ]   one message
 *   told since                         |--B--|               to be unmapped, and nobody knew of anything there
 *
 * What was refused is there as long as nothing else is told: A and C whole, or it was not refused. B may have gone, and
 * something have grown there; or that was refused as well. It is put back only if it shows by itself that it is B.
 * Where something was told to move to or from, or to be discarded, nothing is put back.
 *
 * All under program.lock, exclusive. Looks take their time, and the program runs on: what was seen holds if nothing has
 * begun by the end.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "journal.h"
#include "probe.h"
#include "proc.h"
#include "program.h"
#include "survey.h"
#include "uffd.h"

struct refusal {
	struct program *program;
	const struct change *changes;
	size_t first, since, nr;      /* the message's, those told after it, and all */
	uint64_t vpn, end;            /* side by side, what was told to be unmapped and was known; */
	uint64_t limbo;               /* where that is */
	uint64_t told_vpn, told_end;  /* all that the message was about: the kernel cuts at its ends */
	bool whole, lacking;          /* nothing was told since of some of it; and some of that is not there */
	bool present, unseen;         /* a page of it is there; it could not be seen */
};

enum since {
	SINCE_NOTHING,
	SINCE_UNMAPPED, /* it was to be, without anything being known there */
	SINCE_CHANGED,
};

/* Whether a page is in a range; *end: at most where that changes. */
static bool range_includes(uint64_t first, uint64_t nr_pages, uint64_t vpn, uint64_t *end)
{
	uint64_t next = vpn < first ? first : first + nr_pages;

	if (vpn < next && next < *end)
		*end = next;
	return vpn >= first && vpn - first < nr_pages;
}

/* What was told later of a page, and of those up to *end; by the last that was told to unmap it. */
static enum since place_since(const struct refusal *r, uint64_t vpn, uint64_t *end, const struct change **ret_again)
{
	const struct extent *e = extent_next(r->program, vpn);
	enum since since = e && range_includes(e->vpn, e->nr_pages, vpn, end) ? SINCE_CHANGED : SINCE_NOTHING;

	for (size_t i = r->since; i < r->nr; i++) {
		const struct change *c = &r->changes[i];
		bool from = range_includes(c->from, c->nr_pages, vpn, end);
		bool to = range_includes(c->to, c->nr_pages, vpn, end);
		if (to || (from && c->to < NOTHING_VPN))
			since = SINCE_CHANGED;
		else if (from && since == SINCE_NOTHING)
			since = SINCE_UNMAPPED;
		if (from)
			*ret_again = c;
	}
	return since;
}

static void page_left(void *arg, uint64_t start, uint64_t end, bool huge)
{
	struct refusal *r = arg;

	(void)start;
	(void)end;
	(void)huge;
	r->present = true;
}

/* An error that may not be there at the next try. */
static bool look_failed(int error)
{
	return error < 0 && error != -EACCES && error != -EPERM;
}

/* Whether all of a run is registered, and with our descriptor, for programs have their own: 1, 0, -EAGAIN. */
static int run_there(struct program *p, uint64_t vpn, uint64_t end)
{
	int yes = range_registered(p, vpn, end - vpn, NULL);
	bool other = yes > 0 && uffd_register(p->uffd, vpn_address(vpn), (end - vpn) * PAGE_BYTES) == -EBUSY;

	return other ? 0 : yes;
}

/* The same, and whether pages are there. Then it is what was told to go: what has come since was told, or has none. */
static int run_look(struct refusal *r, uint64_t vpn, uint64_t end)
{
	struct program *p = r->program;
	int yes = run_there(p, vpn, end);

	if (yes > 0 && p->proc_dir >= 0)
		r->unseen |= look_failed(pages_find(p, vpn, end - vpn, page_left, r));
	return yes;
}

/* Whether one of some changes came to what is below, or left there, or came to [vpn, end). */
static bool changes_reach(const struct change *changes, size_t nr, uint64_t vpn, uint64_t end)
{
	bool some = false;

	for (size_t i = 0; i < nr; i++)
		some |= (changes[i].to < end && vpn - 1 < changes[i].to + changes[i].nr_pages) ||
			(changes[i].from < vpn && vpn - 1 < changes[i].from + changes[i].nr_pages);
	return some;
}

/* Whether something was told since of a page, but that it was discarded: that leaves the mappings as they are. */
static bool place_changed(const struct refusal *r, uint64_t vpn)
{
	return changes_reach(r->changes + r->since, r->nr - r->since, vpn + 1, vpn + 1);
}

struct seam {
	uint64_t address;
	uint64_t end, kind; /* of the mapping before */
	char name[96];
	bool alike;
};

static int seam_look(void *arg, const struct proc_mapping *m)
{
	struct seam *seam = arg;

	seam->alike = m->start == seam->address && seam->end == m->start && seam->kind == m->kind &&
		      !strncmp(seam->name, m->path, sizeof seam->name - 1);
	seam->end = m->end;
	seam->kind = m->kind;
	snprintf(seam->name, sizeof seam->name, "%s", m->path);
	return m->end > seam->address;
}

/* Whether two mappings meet there that are of one kind: the kernel joins those, but for what it has cut in vain. If it
 * was to be cut once more that tells nothing of the first time. */
static bool place_cut_in_vain(struct refusal *r)
{
	struct seam seam = { .address = vpn_address(r->told_vpn) };

	if (r->program->proc_dir < 0 || place_changed(r, r->told_vpn))
		return false;
	int error = proc_mappings(r->program->proc_dir, true, seam_look, &seam);
	r->unseen |= look_failed(error);
	return error >= 0 && seam.alike;
}

/* One thread tells in order; of several what is told before may be later. */
static bool place_reached(const struct refusal *r)
{
	return changes_reach(r->changes + r->since, r->nr - r->since, r->vpn, r->end) ||
	       (changes_reach(r->changes, r->first, r->vpn, r->vpn) && !calls_alone(r->program));
}

/* Whether it is one mapping with what is beyond an end of the message's place: then it has grown. But where just that
 * end was told to be unmapped once more the growing may have come after that. */
static int place_joined(const struct refusal *r, uint64_t vpn, uint64_t nr_pages, uint64_t edge)
{
	int yes = uffd_registered(r->program->uffd, vpn_address(vpn), vpn_address(nr_pages));

	return yes > 0 && r->whole && place_changed(r, edge) ? -EUCLEAN : yes;
}

/* Of what is without pages: 1, 0, -EAGAIN, or -EUCLEAN: nobody can tell. */
static int place_cut(struct refusal *r)
{
	int below = place_joined(r, r->told_vpn - 1, r->vpn - r->told_vpn + 2, r->told_vpn);
	int above = place_joined(r, r->end - 1, r->told_end - r->end + 2, r->told_end - 1);
	int next = uffd_registered(r->program->uffd, vpn_address(r->vpn - 1), PAGE_BYTES);

	if (below == -EAGAIN || above == -EAGAIN || next < 0)
		return -EAGAIN;
	if (!next && !place_reached(r)) /* there is nothing that could have grown, but a stack */
		return above ? -EUCLEAN : 1;
	if (below > 0 || above > 0)
		return 0;
	return !below && !above && place_cut_in_vain(r) ? 1 : -EUCLEAN;
}

/* What was seen holds if nothing has begun meanwhile. What could not be seen is to be looked at again. */
static int place_sure(const struct refusal *r, int yes)
{
	int now = uffd_registered(r->program->uffd, vpn_address(r->vpn), PAGE_BYTES);

	return now < 0 ? now : yes == -EUCLEAN && r->unseen ? -EAGAIN : yes;
}

/* 1, 0, -EAGAIN, -EUCLEAN. */
static int place_refused(struct refusal *r)
{
	bool some = false;
	const struct change *again;

	for (uint64_t vpn = r->vpn, to; vpn < r->end; vpn = to) {
		to = r->end;
		enum since since = place_since(r, vpn, &to, &again);
		int yes = since == SINCE_CHANGED ? 0 : run_look(r, vpn, to);
		if (yes < 0)
			return yes;
		some |= yes;
		r->whole |= since == SINCE_NOTHING;
		r->lacking |= !yes && since == SINCE_NOTHING;
	}
	if (!r->present && (!some || r->lacking))
		return 0;
	if (!r->whole) /* each part is asked by itself */
		return some;
	return place_sure(r, r->present ? 1 : place_cut(r));
}

/* Before 6.12 what was told to be unmapped was, nearly always. */
static bool kernel_refuses(void)
{
	unsigned major, minor;

	return probe_kernel(&major, &minor) || major > 6 || (major == 6 && minor >= 12);
}

/* Nobody can tell whether it is there. */
static void place_doubt(const struct refusal *r)
{
	bool matters = false;
	const struct change *again;

	for (uint64_t vpn = r->vpn, to; vpn < r->end; vpn = to) {
		to = r->end;
		if (place_since(r, vpn, &to, &again) != SINCE_CHANGED)
			matters |= range_holds(r->program, r->limbo + (vpn - r->vpn), r->limbo + (to - r->vpn));
	}
	if (matters && kernel_refuses())
		program_fail(r->program, "an mmap was refused, or memory has grown there: nobody can tell which");
}

/* Whether a part of what was refused is there that was told to be unmapped once more. */
static int part_refused(const struct refusal *whole, uint64_t vpn, uint64_t end, const struct change *again)
{
	struct refusal r = *whole;

	r.vpn = vpn;
	r.end = end;
	r.limbo += vpn - whole->vpn;
	r.told_vpn = again->from;
	r.told_end = again->from + again->nr_pages;
	r.whole = r.present = r.unseen = false;
	int yes = run_look(&r, vpn, end);
	if (yes > 0)
		yes = place_sure(&r, r.present ? 1 : place_cut(&r));
	if (yes == -EUCLEAN)
		place_doubt(&r);
	return yes == -EUCLEAN ? 0 : yes;
}

/* It was refused: put back what is there of that of which so much was told since. -EAGAIN: not all yet; never of what
 * nothing was told of, for what else is there may be known by that. */
static int place_restore(struct refusal *r, enum since which)
{
	const struct change *again;

	for (uint64_t vpn = r->vpn, to; vpn < r->end; vpn = to) {
		to = r->end;
		if (place_since(r, vpn, &to, &again) != which)
			continue;
		int yes = which == SINCE_UNMAPPED ? part_refused(r, vpn, to, again)
						  : !r->lacking || run_there(r->program, vpn, to);
		if (yes < 0)
			return yes;
		if (yes)
			range_return(r->program, r->limbo + (vpn - r->vpn), vpn, to - vpn);
	}
	return 0;
}

/* Of what was not refused: whether other memory is there; not what was put back when this was looked at before, and
 * something began in the middle of it. */
static int place_grown(const struct refusal *r, struct change *changes, size_t nr)
{
	int yes = uffd_registered(r->program->uffd, vpn_address(r->vpn), PAGE_BYTES);

	for (size_t i = 0; i < nr && yes > 0; i++)
		changes[i].emptied &= changes[i].refused && extent_find(r->program, changes[i].from);
	return yes < 0 ? yes : 0;
}

static int place_settle(struct refusal *r, struct change *changes, size_t nr, bool telling)
{
	int yes = telling ? place_refused(r) : 0;

	if (yes == -EUCLEAN)
		place_doubt(r);
	if (!yes || yes == -EUCLEAN)
		return place_grown(r, changes, nr);
	for (size_t i = 0; i < nr && yes > 0; i++)
		changes[i].refused |= r->whole && !r->lacking;
	if (yes > 0)
		yes = place_restore(r, SINCE_NOTHING);
	return yes ? yes : place_restore(r, SINCE_UNMAPPED);
}

static bool message_same(const struct change *one, const struct change *other)
{
	return one->told == other->told && other->to >= LIMBO_VPN && other->from < LIMBO_VPN;
}

/* Of change i on, side by side; returns the next that is not. */
static size_t refusal_find(struct refusal *r, size_t i)
{
	const struct change *c = r->changes;
	size_t to = i + 1;

	r->vpn = r->told_vpn = c[i].from;
	r->end = c[i].from + c[i].nr_pages;
	r->limbo = c[i].to;
	for (; to < r->nr && message_same(&c[i], &c[to]) && change_unmaps(&c[to]) && c[to].from == r->end; to++)
		r->end += c[to].nr_pages;
	r->told_end = r->end;
	for (r->first = i; r->first > 0 && message_same(&c[i], &c[r->first - 1]); r->first--)
		;
	for (r->since = r->first; r->since < r->nr && message_same(&c[i], &c[r->since]); r->since++) {
		uint64_t from = c[r->since].from, end = from + c[r->since].nr_pages;
		r->told_vpn = from < r->told_vpn ? from : r->told_vpn;
		r->told_end = end > r->told_end ? end : r->told_end;
	}
	return to;
}

int limbo_settle(struct program *p, struct change *changes, size_t nr, bool telling)
{
	int error = 0;

	for (size_t i = 0, to; i < nr && !error; i = to) {
		struct refusal r = { .program = p, .changes = changes, .nr = nr };
		to = i + 1;
		if (!change_unmaps(&changes[i]))
			continue;
		to = refusal_find(&r, i);
		if (!survey_own(p, vpn_address(r.vpn), vpn_address(r.end)) &&
		    survey_uncovered(p, vpn_address(r.vpn), vpn_address(r.end), NULL))
			error = place_settle(&r, changes + i, to - i, telling);
	}
	return error;
}
