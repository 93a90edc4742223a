/* SPDX-License-Identifier: MIT */
/*
 * Moves: of what was moved, what is still to be told.
 *
 *   told    X moved to F        what is in the table at X goes to F; `left`: the unmapping of X is to come
 *           A moved to X        what is in the table at X is a former (former.c)
 *           X unmapped          of what moved away, if that is in `left`: nothing is done; else of what is there
 *
 * What each message does to the table, and whether one may be read at all, is decided here and in former.c alone,
 * so that a test has the kernel tell it in every order.
 */
#include "moves.h"

#include "gone.h"

#define NOBODY_KNOWS "its threads move mappings over each other, and nobody can tell which was first"
#define NOBODY_KNOWS_WHOSE "its memory grew where other memory was just moved away, and nobody can tell whose is what"

static bool leaving_meets(const struct leaving *left, uint64_t vpn, uint64_t end)
{
	return left->vpn < end && vpn < left->vpn + left->nr_pages;
}

bool moves_pending(const struct moves *m, uint64_t vpn, uint64_t end)
{
	for (unsigned i = 0; i < m->nr_left; i++)
		if (leaving_meets(&m->left[i], vpn, end))
			return true;
	return m->left_lost;
}

/* An UNMAP is to come, of a mapping that has moved away. */
static void left_add(struct moves *m, const struct leaving *moved)
{
	if (m->nr_left == LEFT_MAX)
		m->left_lost = true;
	else
		m->left[m->nr_left++] = *moved;
}

static void left_drop(struct moves *m, unsigned i)
{
	m->left[i] = m->left[--m->nr_left];
}

/*
 * Of a mapping that moved with MREMAP_DONTUNMAP its old place stays, without pages and unknown, and no
 * UNMAP is to come. Nothing in the REMAP says so. But whatever takes that place away later finds nothing there:
 * then nothing of it is waited for any more, unless its thread is still about to tell.
 */
static void left_doubt(struct moves *m, const struct moves_table *table, uint64_t vpn, uint64_t nr_pages)
{
	for (unsigned i = 0; i < m->nr_left; i++) {
		struct leaving *left = &m->left[i];
		uint64_t end = left->vpn + left->nr_pages, first = left->vpn > vpn ? left->vpn : vpn;
		end = end < vpn + nr_pages ? end : vpn + nr_pages;
		if (first >= end || !table->unknown(table->arg, first, end - first))
			continue;
		left->doubted = m->awaiting = true;
	}
}

/* What has not gone of it is there still, without pages. */
static void left_stays(struct moves *m, const struct moves_table *table, unsigned i)
{
	struct leaving left = m->left[i];

	left_drop(m, i);
	table->stay(table->arg, left.vpn, left.nr_pages);
}

static void left_drop_doubted(struct moves *m, const struct moves_table *table)
{
	for (unsigned i = m->nr_left; i-- > 0;)
		if (m->left[i].doubted)
			left_stays(m, table, i);
}

/* Nor can that be found out. */
static void left_lose_doubted(struct moves *m)
{
	for (unsigned i = 0; i < m->nr_left; i++) {
		m->left[i].lost |= m->left[i].doubted;
		m->left[i].doubted = false;
	}
}

/* One to whose place something has come; nr_left: none. */
static unsigned left_covered(const struct moves *m, uint64_t vpn, uint64_t end)
{
	unsigned i = 0;

	while (i < m->nr_left && !(m->left[i].covered && leaving_meets(&m->left[i], vpn, end)))
		i++;
	return i;
}

/* Of what has moved away and something has come to its place: it is known whether it had stayed. */
static void left_drop_covered(struct moves *m)
{
	for (unsigned i = m->nr_left; i-- > 0;)
		if (m->left[i].covered && !formers_empty(&m->formers, m->left[i].vpn, m->left[i].nr_pages))
			left_drop(m, i);
}

void moves_settle(struct moves *m, const struct moves_table *table)
{
	while (m->nr_left)
		left_stays(m, table, m->nr_left - 1);
	m->left_lost = m->awaiting = false;
	formers_drop(&m->formers);
}

/* ---- what is told ---- */

/* What is moved to where it is told to be. */
struct arrival {
	struct moves *moves;
	const struct moves_table *table;
	struct leaving moved;
};

static void former_new(void *arg, uint64_t vpn, uint64_t nr_pages, uint64_t limbo, bool vague)
{
	const struct arrival *arrival = arg;
	struct former former = { .vpn = vpn, .nr_pages = nr_pages, .limbo = limbo, .mover = arrival->moved,
				 .state = vague ? FORMER_VAGUE : FORMER_AWAITED };

	arrival->moves->awaiting = true;
	if (!former_add(&arrival->moves->formers, &former))
		arrival->table->fail(arrival->table->arg, "too many mappings moved at once");
}

/* Take one that is told to leave out of [vpn, end), as long as there is any. */
static bool former_leaves(struct moves *m, const struct moves_table *table, const struct leaving *told,
			  uint64_t vpn, uint64_t end, struct former *ret_part)
{
	int some = former_take(&m->formers, told, vpn, end, ret_part);

	if (some < 0)
		table->fail(table->arg, "too many mappings moved at once");
	if (some > 0 && ret_part->state != FORMER_QUEUED)
		table->fail(table->arg, NOBODY_KNOWS);
	if (some > 0 && !ret_part->limbo) { /* that had stayed, so no other unmapping is to come */
		unsigned i = left_covered(m, ret_part->vpn, ret_part->vpn + ret_part->nr_pages);
		if (i < m->nr_left)
			left_drop(m, i);
	}
	return some > 0;
}

/*
 * Memory that grows in place tells of nothing. It may grow into what another thread has left, of which it has still to
 * tell, and leave again:
 *
 *   1 ─── moves X to F ─ ─ ─ held up ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ queues ▼
 *   2 ──────────────────── W grows over X ─ moves W and X to Y ▼ ────│── told: what the table has at X goes to Y
 *
 * Then of the very beginning of what 1 moves nothing is known, though what was there was told to have left. Until 1 has
 * told nothing is brought back anywhere, so it is in time to have it back. It is sure if the page below left
 * with it and nothing is mapped there by now: who has grown up to here from below, and moves only the end of that,
 * sleeps in its call, and has the rest still. Returns up to where it was had.
 */
static uint64_t range_regain(struct moves *m, const struct moves_table *table, const struct leaving *told,
			     uint64_t end)
{
	struct moves_gone gone = { 0 };
	uint64_t vpn = told->vpn, nr_pages;

	while (vpn < end && (nr_pages = table->gone(table->arg, told->vpn, vpn, end - vpn, &gone))) {
		if (gone.kind == GONE_DOUBTFUL && !moves_pending(m, vpn, vpn + nr_pages))
			table->fail(table->arg, NOBODY_KNOWS_WHOSE);
		if (gone.kind != GONE_TAKEN)
			break;
		table->regain(table->arg, gone.at, told->to + (vpn - told->vpn), nr_pages);
		vpn += nr_pages;
	}
	return vpn;
}

/* Of what is told to have moved, [vpn, end), without a former: all but what came there since, if that stays. */
static void range_follow(struct moves *m, const struct moves_table *table, const struct leaving *told,
			 uint64_t vpn, uint64_t end)
{
	while (vpn < end) {
		struct came came;
		uint64_t nr_pages = 0;
		if (m->came == CAME_STAYS)
			nr_pages = table->came(table->arg, told->vpn, vpn, end, &came);
		uint64_t at = nr_pages ? came.vpn : end;
		if (vpn < at)
			table->move(table->arg, vpn, told->to + (vpn - told->vpn), at - vpn);
		vpn = at + nr_pages;
	}
}

/* Of what is told to have moved, [vpn, end). */
static void range_remap(struct moves *m, const struct moves_table *table, const struct leaving *told,
			uint64_t vpn, uint64_t end)
{
	uint64_t to = told->to + (vpn - told->vpn);
	struct former part;

	if (vpn >= end)
		return;
	if (!former_leaves(m, table, told, vpn, end, &part)) {
		range_follow(m, table, told, vpn == told->vpn ? range_regain(m, table, told, end) : vpn, end);
		return;
	}
	if (part.limbo)
		table->come(table->arg, part.limbo, to + (part.vpn - vpn), part.nr_pages);
	range_remap(m, table, told, vpn, part.vpn);
	range_remap(m, table, told, part.vpn + part.nr_pages, end);
}

static void range_unmap(struct moves *m, const struct moves_table *table, const struct leaving *told,
			uint64_t vpn, uint64_t end)
{
	struct former part;

	if (former_leaves(m, table, told, vpn, end, &part)) {
		range_unmap(m, table, told, vpn, part.vpn);
		range_unmap(m, table, told, part.vpn + part.nr_pages, end);
	} else if (vpn < end) {
		table->unmap(table->arg, vpn, end - vpn);
	}
}

/* To a place of which nothing is known, where something may have stayed without pages. */
static void arrival_cover(struct arrival *a, uint64_t vpn, uint64_t end)
{
	uint64_t unknown = vpn < end ? a->table->unknown(a->table->arg, vpn, end - vpn) : 0;

	if (unknown && unknown < end - vpn) {
		uint64_t middle = vpn + (end - vpn) / 2;
		arrival_cover(a, vpn, middle);
		arrival_cover(a, middle, end);
	} else if (unknown && !formers_empty(&a->moves->formers, vpn, end - vpn)) {
		former_new(a, vpn, end - vpn, 0, true);
	}
}

static void arrival_covers(struct arrival *a)
{
	uint64_t to = a->moved.to, last = to + a->moved.nr_pages;

	for (unsigned i = 0; i < a->moves->nr_left; i++) {
		struct leaving *left = &a->moves->left[i];
		uint64_t end = left->vpn + left->nr_pages;
		if (!leaving_meets(left, to, last))
			continue;
		arrival_cover(a, left->vpn > to ? left->vpn : to, end < last ? end : last);
		left->covered = formers_empty(&a->moves->formers, left->vpn, left->nr_pages);
	}
}

static void told_follow(struct moves *m, const struct moves_table *table, struct leaving told)
{
	struct arrival arrival = { m, table, told };

	left_doubt(m, table, told.vpn, told.nr_pages);
	arrival_covers(&arrival);
	table->replace(table->arg, told.to, told.nr_pages, former_new, &arrival);
	range_remap(m, table, &told, told.vpn, told.vpn + told.nr_pages);
	table->stay(table->arg, told.to, told.nr_pages); /* it tells, so it is there */
	if (told.nr_pages)
		left_add(m, &told);
}

/*
 * Memory that has grown, untouched, is in no table. It may leave, and other memory come to its place, which is told
 * first:
 *
 *   1 ─── W grows over X ─ moves W and X to Y ─ ─ ─ held up ─ ─ ─ ─ ─ queues ▼
 *   2 ─────────────────────────────────────── moves A to X ▼ ────────────────│── told: the table's A goes to Y with W
 *
 * Then A is at X still, and nothing is where W was. If A had come before, and 1 knew, it has moved to Y, and nothing is
 * at X but what has come there since: who brought that, or unmapped what then grew where W was, has still to tell, and
 * is in that call until it is read. So it is looked who is, while 1 waits for its second message to be read. That is
 * not so of who has told since of what came, or left, between the two: then nobody can tell. What is at the beginning
 * has come since, where a former is meant there.
 */
static bool told_unsure(struct moves *m, const struct moves_table *table, const struct leaving *told)
{
	uint64_t vpn = told->vpn, end = vpn + told->nr_pages, nr_pages;
	bool some = false, left = formers_meant(&m->formers, told, vpn, vpn + 1);
	struct came came;

	m->unsure_crossed = false;
	for (; (nr_pages = table->came(table->arg, told->vpn, vpn, end, &came)); vpn = came.vpn + nr_pages) {
		if (formers_meant(&m->formers, told, came.vpn, came.vpn + nr_pages))
			continue;
		if ((!some && !left && table->mapped(table->arg, told->vpn)) ||
		    table->mapped(table->arg, came.vpn) <= 0)
			return false;
		some = true;
		m->unsure_crossed |= came.crossed;
	}
	return some;
}

void moves_moved(struct moves *m, const struct moves_table *table, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct leaving told = { .vpn = from, .nr_pages = nr_pages, .to = to, .moved = true };

	m->some = true;
	if (told_unsure(m, table, &told)) {
		m->unsure = told;
		m->awaiting = true;
	} else {
		told_follow(m, table, told);
	}
}

bool moves_unknown(const struct moves *m)
{
	return m->unsure.nr_pages && m->came == CAME_UNKNOWN;
}

bool moves_go_on(struct moves *m, const struct moves_table *table)
{
	struct leaving told = m->unsure;

	if (!told.nr_pages)
		return true;
	if (m->came == CAME_UNKNOWN)
		table->fail(table->arg, NOBODY_KNOWS_WHOSE);
	m->awaiting = false;
	told_follow(m, table, told);
	m->unsure = (struct leaving){ 0 };
	m->came = CAME_UNKNOWN;
	return !m->awaiting;
}

bool moves_unmapped(struct moves *m, const struct moves_table *table, uint64_t vpn, uint64_t nr_pages)
{
	bool former = formers_unmapped(&m->formers, vpn, nr_pages);
	struct leaving told = { .vpn = vpn, .nr_pages = nr_pages };

	for (unsigned i = 0; i < m->nr_left && !former; i++) {
		if (m->left[i].vpn != vpn || m->left[i].nr_pages != nr_pages)
			continue;
		if (m->left[i].lost && table->unknown(table->arg, vpn, nr_pages) < nr_pages)
			table->fail(table->arg, NOBODY_KNOWS);
		left_drop(m, i);
		if (left_covered(m, vpn, vpn + nr_pages) == m->nr_left)
			formers_drop_empty(&m->formers, vpn, nr_pages);
		formers_release(&m->formers, vpn, nr_pages);
		return true;
	}
	formers_cleared(&m->formers, vpn);
	if (!former)
		left_doubt(m, table, vpn, nr_pages);
	range_unmap(m, table, &told, vpn, vpn + nr_pages);
	return false;
}

void moves_discarded(struct moves *m, const struct moves_table *table, uint64_t vpn, uint64_t nr_pages)
{
	left_doubt(m, table, vpn, nr_pages);
}

/* ---- what comes next ---- */

/* Whether a call may have brought something to where it is unsure what there is, or taken something away. */
static bool unsure_concerns(const struct leaving *unsure, const struct leaving *call)
{
	uint64_t end = unsure->vpn + unsure->nr_pages;

	return unsure->nr_pages && (leaving_meets(unsure, call->vpn, call->vpn + call->nr_pages) ||
				    (call->moved && (!call->to || (call->to >= unsure->vpn && call->to < end))));
}

/* Whether that is known, or never will be. */
static bool unsure_known(struct moves *m, struct moves_look *look)
{
	size_t nr = calls_told(look->calls, look->nr, &m->unsure, 1);

	/* Who brought it may have ended since. */
	if ((look->still || look->alone) && !m->unsure_crossed && !calls_told(look->calls, nr, m->left, m->nr_left))
		m->came = CAME_STAYS;
	m->awaiting = !look->alone && !look->still && !look->blind;
	return !m->awaiting;
}

bool moves_concern(const struct moves *m, const struct leaving *call)
{
	bool some = formers_concern(&m->formers, call) || unsure_concerns(&m->unsure, call);

	for (unsigned i = 0; i < m->nr_left && !some; i++)
		some = m->left[i].doubted && m->left[i].vpn == call->vpn;
	return some;
}

bool moves_known(struct moves *m, const struct moves_table *table, struct moves_look *look)
{
	if (!m->awaiting)
		return true;
	if (m->unsure.nr_pages)
		return unsure_known(m, look);
	if (look->alone) { /* in order: what was there nobody is to have */
		formers_drop(&m->formers);
		left_drop_doubted(m, table);
	}
	if (look->blind) {
		formers_doubt(&m->formers);
		left_lose_doubted(m);
	}
	bool left_known = leavings_known(m->left, m->nr_left, look->calls, look->nr);
	if (!left_known && look->still) { /* nobody is about to tell of them */
		left_drop_doubted(m, table);
		left_known = true;
	}
	m->awaiting = !left_known || !formers_queued(&m->formers, look->calls, look->nr, look->still, m->left,
						     m->nr_left);
	left_drop_covered(m);
	return !m->awaiting;
}
