/* SPDX-License-Identifier: MIT */
/*
 * What several threads tell of their mappings, in every order in which the kernel may tell it: small programs,
 * each searched through to its end.
 *
 * A thread waits for the lock of the mappings, changes them, is held up for as long as it likes, queues what it has to
 * tell, one message after the other, and sleeps until each is read; whenever one is read all that wait are woken, and
 * those whose turn it is not sleep again. Of a discarding the telling comes first. Who has told all may sleep in its
 * call still. A look at the threads shows who sleeps, in which call, and whether until a message is read, but not which
 * of its messages that is. What a thread does outside of its calls may be computing, or sleeping. Memory is taken into
 * care at any time. The real moves.c decides.
 *
 * Where nothing is under way, and only there are pages brought back, every page must be found where the table says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gone.h"
#include "moves.h"
#include "rng.h"

#define THREADS 3u
#define OPS 4u
#define PLACES 6u
#define PAGES 2u
#define CELLS (PLACES * PAGES)
#define BASE 1000u
#define LIMBO 9000u
#define LIMBOS 16u
#define FEW 12u
#define LOG 24u
#define SEEN_BITS 18u

enum kind {
	MOVE,      /* to a hole */
	REPLACE,   /* mremap to a given place, whatever the thread has there */
	COPY,      /* MREMAP_DONTUNMAP */
	UNMAP,
	HALF,      /* the first page is unmapped */
	DISCARD,
	MAP,       /* new memory, filled */
	GROW,      /* in place, over the next place; then it moves, or is unmapped, with that: */
	MOVE_BOTH,
	UNMAP_BOTH,
};

struct op {
	uint8_t kind, from, to;
};

struct script {
	struct op ops[OPS];
	unsigned nr;
};

enum step { IDLE, ENTERED, BUSY, QUEUED, ASLEEP, TELLING, READ, ZAPPING, LINGERING };

/* What is at a page, or is thought to be. */
enum { NONE, ABSENT, RESIDENT, STORED };

#define FRESH 0x80u /* with what is known: taken into care since nothing was under way last */
#define KNOWN 0x7fu

struct thread {
	uint8_t op, step, message, nr_messages;
	bool early, told; /* of the present call: it unmaps what was there first; it has something to tell */
};

struct world {
	/* The kernel: 0: nothing is mapped; else what it is to contain, STORED and more: 0s are ABSENT. */
	uint8_t what[CELLS];
	bool registered[CELLS], present[CELLS];
	uint8_t owner[CELLS]; /* thread */
	uint8_t table[CELLS], limbo[LIMBOS];
	struct thread threads[THREADS];
	uint8_t queue[THREADS];
	uint8_t nr_queue;
	/* The server. */
	uint8_t nr_adoptions, candidate; /* its number and one more, once a survey has found it */
	bool failed, blind;
	bool awaiting, some;
	uint8_t came;
	bool crossed;
	struct leaving unsure;
	uint8_t nr_left, nr_formers;
	struct leaving left[FEW];
	struct former formers[FEW];
	/* Where memory grows: what was told since nothing was under way last. */
	struct change log[LOG];
	uint8_t nr_log, told;
};

static const struct script *scripts;
static unsigned nr_adoptions_most, second;
static bool blind_allowed; /* at any time it may be that nothing can be seen any more, or has been for too long */
/* A thread may sleep on its way out of its call, which it still shows: it is throttled, or stopped. */
static bool lingers;
static bool grows; /* memory, in place: what was told to leave is known until nothing is under way */
static bool hidden; /* the last thread is a process of its own in the same memory, which no look shows */
static uint64_t *seen;
static unsigned nr_states, nr_held, nr_formers, nr_failed;
static struct moves moves; /* of the world that is stepped */
static char trail[4096];
static const char *wrong;

static unsigned cell_of(uint64_t vpn)
{
	return (unsigned)(vpn - BASE);
}

static const struct op *op_of(const struct world *w, unsigned t)
{
	return &scripts[t].ops[w->threads[t].op];
}

static bool op_moves(const struct op *op)
{
	return op->kind == MOVE || op->kind == REPLACE || op->kind == COPY || op->kind == MOVE_BOTH;
}

/* How many pages it takes away. */
static unsigned op_pages(const struct op *op)
{
	return op->kind == HALF ? 1 : op->kind == MOVE_BOTH || op->kind == UNMAP_BOTH ? 2 * PAGES : PAGES;
}

static void log_add(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	if (!grows)
		return;
	assert_true(w->nr_log < LOG);
	w->log[w->nr_log++] = (struct change){ .from = from, .to = to, .nr_pages = nr_pages, .told = w->told };
}

/* Nothing is under way. */
static void log_clear(struct world *w)
{
	memset(w->log, 0, sizeof w->log);
	memset(w->limbo, NONE, grows ? sizeof w->limbo : 0);
	w->nr_log = w->told = 0;
}

/* Where something is known, or kept. */
static uint8_t *known_at(struct world *w, uint64_t vpn)
{
	return vpn >= LIMBO ? &w->limbo[vpn - LIMBO] : &w->table[cell_of(vpn)];
}

/* ---- the table, as moves.c has it ---- */

static void limbo_used(const struct world *w, bool *used)
{
	memset(used, 0, LIMBOS * sizeof *used);
	for (unsigned i = 0; i < LIMBOS; i++)
		used[i] = grows && w->limbo[i];
	for (unsigned i = 0; i < moves.formers.nr; i++)
		for (uint64_t k = 0; k < moves.formers.list[i].nr_pages; k++)
			if (moves.formers.list[i].limbo)
				used[moves.formers.list[i].limbo + k - LIMBO] = true;
}

static void table_replace(void *arg, uint64_t vpn, uint64_t nr_pages, moves_visit *visit, void *visit_arg)
{
	struct world *w = arg;
	bool used[LIMBOS];

	limbo_used(w, used);
	for (uint64_t i = 0, run; i < nr_pages; i += run) {
		uint8_t first = w->table[cell_of(vpn + i)];
		unsigned at = 0;
		for (run = 1; i + run < nr_pages && first; run++) {
			uint8_t next = w->table[cell_of(vpn + i + run)];
			if (!next || (next & FRESH) != (first & FRESH))
				break;
		}
		if (!first)
			continue;
		while (used[at] || used[at + run - 1])
			assert_true(++at + run <= LIMBOS);
		for (uint64_t k = 0; k < run; k++) {
			uint8_t *t = &w->table[cell_of(vpn + i + k)];
			w->limbo[at + k] = (*t & KNOWN) == RESIDENT ? ABSENT | (*t & FRESH) : *t;
			*t = NONE;
			used[at + k] = true;
		}
		log_add(w, vpn + i, LIMBO + at, run);
		visit(visit_arg, vpn + i, run, LIMBO + at, first & FRESH);
	}
}

static void table_move(void *arg, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct world *w = arg;
	uint8_t kept[2 * PAGES];

	log_add(w, from, to, nr_pages);
	for (uint64_t i = 0; i < nr_pages; i++) {
		kept[i] = w->table[cell_of(from + i)];
		w->table[cell_of(from + i)] = NONE;
	}
	for (uint64_t i = 0; i < nr_pages; i++) {
		assert_int_equal(w->table[cell_of(to + i)], NONE);
		w->table[cell_of(to + i)] = kept[i];
	}
}

static void table_come(void *arg, uint64_t limbo, uint64_t to, uint64_t nr_pages)
{
	struct world *w = arg;

	log_add(w, limbo, to, nr_pages);
	for (uint64_t i = 0; i < nr_pages; i++) {
		uint8_t *t = &w->table[cell_of(to + i)], *kept = known_at(w, limbo + i);
		assert_int_equal(*t, NONE);
		*t = *kept;
		*kept = NONE;
		if ((*t & KNOWN) == ABSENT && w->present[cell_of(to + i)])
			*t = RESIDENT | (*t & FRESH);
	}
}

static void table_visit_nothing(void *arg, uint64_t vpn, uint64_t nr_pages, uint64_t limbo, bool vague)
{
	(void)arg, (void)vpn, (void)nr_pages, (void)limbo, (void)vague;
}

static void table_unmap(void *arg, uint64_t vpn, uint64_t nr_pages)
{
	struct world *w = arg;

	if (grows)
		table_replace(arg, vpn, nr_pages, table_visit_nothing, NULL);
	else
		memset(w->table + cell_of(vpn), NONE, nr_pages);
}

static uint64_t table_unknown(void *arg, uint64_t vpn, uint64_t nr_pages)
{
	const struct world *w = arg;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < nr_pages; i++)
		sum += !w->table[cell_of(vpn + i)];
	return sum;
}

static void table_stay(void *arg, uint64_t vpn, uint64_t nr_pages)
{
	struct world *w = arg;

	for (unsigned i = cell_of(vpn); i < cell_of(vpn) + nr_pages; i++)
		if (!w->table[i])
			w->table[i] = FRESH | (w->present[i] ? RESIDENT : ABSENT);
}

static uint64_t table_gone(void *arg, uint64_t first, uint64_t vpn, uint64_t nr_pages, struct moves_gone *ret)
{
	struct world *w = arg;
	struct gone gone;
	bool some = false;

	ret->kind = GONE_NOT;
	while (nr_pages && table_unknown(arg, vpn, nr_pages) < nr_pages)
		nr_pages--;
	if (!nr_pages || !gone_find(w->log, w->nr_log, first, vpn, nr_pages, &gone))
		return nr_pages;
	for (uint64_t i = 0; i < gone.nr_pages; i++)
		some |= (*known_at(w, gone.at + i) & KNOWN) > STORED;
	ret->at = gone.at;
	if (gone.with_below && !w->what[cell_of(first) - 1])
		ret->kind = GONE_TAKEN;
	else if (some)
		ret->kind = GONE_DOUBTFUL;
	return gone.nr_pages;
}

static uint64_t table_came(void *arg, uint64_t first, uint64_t vpn, uint64_t end, struct came *ret_came)
{
	struct world *w = arg;
	uint64_t nr_pages;
	bool some = false;

	for (; (nr_pages = came_find(w->log, w->nr_log, first, vpn, end, ret_came));
	     vpn = ret_came->vpn + nr_pages) {
		for (uint64_t i = 0; i < nr_pages; i++)
			some |= (*known_at(w, ret_came->vpn + i) & KNOWN) > STORED;
		if (some)
			break;
	}
	return nr_pages;
}

static int table_mapped(void *arg, uint64_t vpn)
{
	const struct world *w = arg;

	return w->what[cell_of(vpn)] && w->registered[cell_of(vpn)];
}

static void table_regain(void *arg, uint64_t at, uint64_t to, uint64_t nr_pages)
{
	table_come(arg, at, to, nr_pages);
	if (at < LIMBO)
		table_stay(arg, at, nr_pages);
}

/* What is told to have moved now, and would else be taken for zeros. */
static bool told_loses(const struct world *w)
{
	for (unsigned t = 0; t < THREADS; t++) {
		const struct op *op = op_of(w, t);
		if (!grows || w->threads[t].step != TELLING || !op_moves(op))
			continue;
		for (unsigned i = op->to * PAGES; i < op->to * PAGES + op_pages(op); i++)
			if (w->what[i] > STORED && !w->present[i])
				return true;
	}
	return false;
}

/* What came somewhere has not moved with what was there before, and would else be taken to have. */
static bool unsure_loses(const struct world *w)
{
	for (uint64_t i = 0; i < moves.unsure.nr_pages; i++) {
		uint8_t there = w->table[cell_of(moves.unsure.vpn + i)] & KNOWN;
		if (there > STORED && there != w->what[cell_of(moves.unsure.to + i)])
			return true;
	}
	return false;
}

static void table_fail(void *arg, const char *why)
{
	struct world *w = arg;

	(void)why;
	w->blind |= told_loses(w) || unsure_loses(w);
	w->failed = true;
}

static const struct moves_table operations = {
	.replace = table_replace, .move = table_move, .come = table_come, .unmap = table_unmap,
	.unknown = table_unknown, .stay = table_stay, .fail = table_fail, .gone = table_gone,
	.regain = table_regain, .came = table_came, .mapped = table_mapped,
};

static struct moves_table table_of(struct world *w)
{
	struct moves_table table = operations;

	table.arg = w;
	return table;
}

/* Of moves.c's state the world has what is used. */
static void moves_load(const struct world *w)
{
	memcpy(moves.left, w->left, w->nr_left * sizeof w->left[0]);
	memcpy(moves.formers.list, w->formers, w->nr_formers * sizeof w->formers[0]);
	moves.nr_left = w->nr_left;
	moves.formers.nr = w->nr_formers;
	moves.awaiting = w->awaiting;
	moves.unsure = w->unsure;
	moves.came = w->came;
	moves.unsure_crossed = w->crossed;
	moves.some = w->some;
	moves.left_lost = false;
}

/* States are compared byte by byte, and what lies between fields has no value: the place is all zeros before. */
static void leaving_save(struct leaving *to, const struct leaving *from)
{
	to->vpn = from->vpn;
	to->nr_pages = from->nr_pages;
	to->to = from->to;
	to->moved = from->moved;
	to->doubted = from->doubted;
	to->lost = from->lost;
	to->covered = from->covered;
}

static void former_save(struct former *to, const struct former *from)
{
	to->vpn = from->vpn;
	to->nr_pages = from->nr_pages;
	to->limbo = from->limbo;
	to->state = from->state;
	to->cleared = from->cleared;
	leaving_save(&to->mover, &from->mover);
	leaving_save(&to->call, &from->call);
}

static void moves_save(struct world *w)
{
	bool used[LIMBOS];

	assert_true(moves.nr_left <= FEW && moves.formers.nr <= FEW);
	memset(w->left, 0, sizeof w->left);
	memset(w->formers, 0, sizeof w->formers);
	memset(&w->unsure, 0, sizeof w->unsure);
	for (unsigned i = 0; i < moves.nr_left; i++)
		leaving_save(&w->left[i], &moves.left[i]);
	for (unsigned i = 0; i < moves.formers.nr; i++)
		former_save(&w->formers[i], &moves.formers.list[i]);
	w->nr_left = (uint8_t)moves.nr_left;
	w->nr_formers = (uint8_t)moves.formers.nr;
	w->awaiting = moves.awaiting;
	leaving_save(&w->unsure, &moves.unsure);
	w->came = (uint8_t)moves.came;
	w->crossed = moves.unsure_crossed;
	w->some = moves.some;
	limbo_used(w, used);
	for (unsigned i = 0; i < LIMBOS; i++)
		if (!used[i])
			w->limbo[i] = NONE;
}

/* ---- the kernel ---- */

static unsigned op_first(const struct op *op)
{
	return op->from * PAGES;
}

/* Nothing is under way. */
static bool world_calm(const struct world *w)
{
	for (unsigned t = 0; t < THREADS; t++)
		if (w->threads[t].step >= BUSY && w->threads[t].step <= READ)
			return false;
	return true;
}

static bool some_registered(const struct world *w, unsigned first, unsigned nr)
{
	for (unsigned i = first; i < first + nr; i++)
		if (w->what[i] && w->registered[i])
			return true;
	return false;
}

static void cell_clear(struct world *w, unsigned i)
{
	w->what[i] = w->owner[i] = 0;
	w->registered[i] = w->present[i] = false;
}

static void kernel_move(struct world *w, const struct op *op)
{
	for (unsigned k = 0; k < op_pages(op); k++) {
		unsigned from = op_first(op) + k, to = op->to * PAGES + k;
		w->what[to] = w->what[from];
		w->owner[to] = w->owner[from];
		w->registered[to] = w->registered[from];
		w->present[to] = w->present[from];
		if (op->kind != COPY) {
			cell_clear(w, from);
		} else if (w->what[from]) {
			w->what[from] = ABSENT;
			w->present[from] = false;
		}
	}
}

/* The mapping below comes to lie there, too, of which nothing is told; false: not now. */
static bool kernel_grow(struct world *w, unsigned t, unsigned first)
{
	w->threads[t].nr_messages = 0;
	if (!w->what[first - 1] || w->what[first] || w->what[first + 1])
		return false;
	for (unsigned i = first; i < first + PAGES; i++) {
		w->what[i] = ABSENT;
		w->owner[i] = (uint8_t)t;
		w->registered[i] = w->registered[first - 1];
	}
	return true;
}

/* The mappings are changed; false: not now. */
static bool kernel_change(struct world *w, unsigned t)
{
	const struct op *op = op_of(w, t);
	struct thread *thread = &w->threads[t];
	unsigned first = op_first(op), nr = op_pages(op);

	thread->early = false;
	thread->message = 0;
	thread->told = some_registered(w, first, nr);
	thread->nr_messages = thread->told;
	for (unsigned k = 0; k < nr && op->kind != MAP; k++)
		assert_true(!w->what[first + k] || w->owner[first + k] == t);
	if (op_moves(op)) {
		/* A mapping moves as one. */
		if (memchr(w->what + first, 0, nr))
			return false;
		for (unsigned k = 0; k < nr; k++) {
			unsigned to = op->to * PAGES + k;
			if (w->what[to] && (op->kind != REPLACE || w->owner[to] != t))
				return false;
		}
		thread->early = some_registered(w, op->to * PAGES, nr);
		thread->nr_messages = (uint8_t)(thread->early + (thread->told ? op->kind == COPY ? 1 : 2 : 0));
		kernel_move(w, op);
	} else if (op->kind == GROW) {
		return kernel_grow(w, t, first + PAGES);
	} else if (op->kind == MAP) {
		for (unsigned k = 0; k < PAGES; k++)
			if (w->what[first + k])
				return false;
		for (unsigned k = 0; k < PAGES; k++) {
			w->what[first + k] = (uint8_t)(STORED + 1 + 2 * (8 + t * OPS + thread->op) + k);
			w->owner[first + k] = (uint8_t)t;
			w->present[first + k] = true;
		}
		thread->nr_messages = 0;
	} else if (op->kind != DISCARD) {
		for (unsigned k = 0; k < nr; k++)
			cell_clear(w, first + k);
	}
	return true;
}

static void kernel_zap(struct world *w, const struct op *op)
{
	for (unsigned k = 0; k < PAGES; k++) {
		if (!w->what[op_first(op) + k])
			continue;
		w->what[op_first(op) + k] = ABSENT;
		w->present[op_first(op) + k] = false;
	}
}

static void call_over(struct thread *thread)
{
	*thread = (struct thread){ .op = (uint8_t)(thread->op + 1) };
}

static bool step_thread(struct world *w, unsigned t)
{
	struct thread *thread = &w->threads[t];

	if (thread->op == scripts[t].nr)
		return false;
	const struct op *op = op_of(w, t);
	switch (thread->step) {
	case IDLE:
		thread->step = ENTERED;
		return true;
	case ENTERED:
		if (!kernel_change(w, t))
			return false;
		if (thread->nr_messages) {
			thread->step = BUSY;
		} else {
			if (op->kind == DISCARD)
				kernel_zap(w, op);
			call_over(thread);
		}
		return true;
	case BUSY:
		w->queue[w->nr_queue++] = (uint8_t)t;
		thread->step = QUEUED;
		return true;
	case QUEUED:
		thread->step = ASLEEP;
		return true;
	case READ:
		if (++thread->message < thread->nr_messages) {
			w->queue[w->nr_queue++] = (uint8_t)t;
			thread->step = QUEUED;
		} else if (op->kind == DISCARD) {
			thread->step = ZAPPING;
		} else if (lingers) {
			thread->step = LINGERING;
		} else {
			call_over(thread);
		}
		return true;
	case LINGERING:
		call_over(thread);
		return true;
	case ZAPPING:
		kernel_zap(w, op);
		call_over(thread);
		return true;
	default:
		return false;
	}
}

/* ---- the server ---- */

static bool may_read(struct world *w, bool idle_run, bool blind)
{
	struct moves_look look = { .blind = blind };
	unsigned nr_running = 0;

	for (unsigned t = 0; t < THREADS; t++) {
		const struct op *op = op_of(w, t);
		unsigned step = w->threads[t].step;
		if (!scripts[t].nr || (hidden && t == THREADS - 1))
			continue;
		bool over = w->threads[t].op == scripts[t].nr;
		nr_running += step == BUSY || step == QUEUED || step == READ || step == ZAPPING ||
				   (step == IDLE && idle_run && !over);
		if (step != ASLEEP || op->kind == DISCARD || op->kind == MAP)
			continue;
		struct leaving call = { .vpn = BASE + op_first(op), .nr_pages = op_pages(op),
					.to = op->kind == REPLACE ? BASE + op->to * PAGES : 0,
					.moved = op_moves(op) };
		if (moves_concern(&moves, &call))
			look.calls[look.nr++] = call;
	}
	look.still = !nr_running && !hidden && !blind;
	struct moves_table table = table_of(w);
	bool known = moves_known(&moves, &table, &look);
	nr_held += !known;
	return known;
}

static void unmap_apply(struct world *w, const struct moves_table *table, uint64_t vpn, uint64_t nr_pages)
{
	bool unknown = table_unknown(w, vpn, nr_pages);

	if (!moves_unmapped(&moves, table, vpn, nr_pages) && unknown)
		log_add(w, vpn, NOTHING_VPN, nr_pages);
}

static void message_apply(struct world *w, unsigned t)
{
	const struct op *op = op_of(w, t);
	struct moves_table table = table_of(w);
	unsigned message = w->threads[t].message, first = op_first(op);

	w->told += grows;
	w->threads[t].step = TELLING;
	if (op->kind == DISCARD) {
		moves_discarded(&moves, &table, BASE + first, PAGES);
		for (unsigned k = 0; k < PAGES; k++) {
			uint8_t *cell = &w->table[first + k];
			*cell = w->registered[first + k] || *cell ? ABSENT | (*cell & FRESH) : NONE;
		}
	} else if (op_moves(op) && w->threads[t].early && message == 0) {
		unmap_apply(w, &table, BASE + op->to * PAGES, op_pages(op));
	} else if (op_moves(op) && message == w->threads[t].early) {
		moves_moved(&moves, &table, BASE + first, BASE + op->to * PAGES, op_pages(op));
	} else {
		unmap_apply(w, &table, BASE + first, op_pages(op));
	}
}

static bool step_read(struct world *w, bool idle_run, bool blind)
{
	if (w->failed || (!w->nr_queue && !w->awaiting))
		return false;
	struct moves_table table = table_of(w);
	moves_load(w);
	bool was = w->awaiting, known = may_read(w, idle_run, blind);
	if (!known) {
		moves_save(w);
		return false;
	}
	if (world_calm(w)) {
		moves_settle(&moves, &table);
		log_clear(w);
	}
	if (!moves_go_on(&moves, &table) || w->failed || !w->nr_queue) {
		moves_save(w);
		return was;
	}
	unsigned t = w->queue[0];
	memmove(w->queue, w->queue + 1, --w->nr_queue);
	w->queue[w->nr_queue] = 0;
	message_apply(w, t);
	w->threads[t].step = READ;
	/* All that wait are woken. */
	for (unsigned i = 0; i < THREADS; i++)
		if (w->threads[i].step == ASLEEP)
			w->threads[i].step = QUEUED;
	moves_save(w);
	return true;
}

/* A survey; `place` is found in it. */
static bool step_survey(struct world *w, unsigned place)
{
	unsigned first = place * PAGES;

	if (w->candidate || w->nr_adoptions == nr_adoptions_most || w->failed)
		return false;
	moves_load(w);
	if (!w->what[first] || !w->what[first + 1] || moves_pending(&moves, BASE + first, BASE + first + PAGES) ||
	    !memchr(w->table + first, NONE, PAGES))
		return false;
	w->candidate = (uint8_t)(first + 1);
	w->nr_adoptions++;
	return true;
}

static bool step_adopt(struct world *w)
{
	if (w->failed || !w->candidate || !world_calm(w))
		return false;
	unsigned first = w->candidate - 1u;
	struct moves_table table = table_of(w);
	w->candidate = 0;
	moves_load(w);
	moves_settle(&moves, &table);
	moves_save(w);
	if (!w->what[first] && !w->what[first + 1])
		return true;
	for (unsigned k = 0; k < PAGES; k++) {
		w->registered[first + k] = w->what[first + k];
		if (!w->table[first + k])
			w->table[first + k] = FRESH | (w->present[first + k] ? RESIDENT : ABSENT);
	}
	return true;
}

/* What was taken into care is looked for there. */
static bool step_settle(struct world *w)
{
	bool some = false;

	if (w->failed || !world_calm(w))
		return false;
	for (unsigned i = 0; i < CELLS; i++) {
		if (!(w->table[i] & FRESH))
			continue;
		some = true;
		w->table[i] = w->registered[i] ? w->table[i] & KNOWN : NONE;
	}
	return some;
}

/* What is resident is taken out. */
static bool step_out(struct world *w)
{
	bool some = false;

	if (!world_calm(w) || w->failed)
		return false;
	for (unsigned i = 0; i < CELLS; i++) {
		if ((w->table[i] & KNOWN) != RESIDENT || !w->present[i])
			continue;
		w->table[i] = w->what[i] | (w->table[i] & FRESH);
		w->present[i] = false;
		some = true;
	}
	return some;
}

/* ---- the search ---- */

static bool state_new(const struct world *w)
{
	const uint8_t *bytes = (const uint8_t *)w;
	size_t nr = sizeof *w;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < nr; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	hash |= 1;
	for (size_t at = hash >> (64 - SEEN_BITS);; at = (at + 1) & ((1u << SEEN_BITS) - 1)) {
		if (seen[at] == hash)
			return false;
		if (seen[at])
			continue;
		seen[at] = hash;
		assert_true(++nr_states < 1u << (SEEN_BITS - 1));
		return true;
	}
}

static bool cell_zapped(const struct world *w, unsigned i)
{
	for (unsigned t = 0; t < THREADS; t++)
		if (w->threads[t].step == ZAPPING && op_of(w, t)->from == i / PAGES)
			return true;
	return false;
}

static const char *world_wrong(const struct world *w)
{
	if (w->failed || !world_calm(w))
		return NULL;
	for (unsigned i = 0; i < CELLS; i++) {
		bool fresh = w->table[i] & FRESH;
		uint8_t t = w->table[i] & KNOWN;
		if (cell_zapped(w, i))
			continue;
		if (!w->what[i] && t && !fresh)
			return "known where nothing is";
		if (w->what[i] && !w->registered[i] && t && !fresh)
			return "known where it is not registered";
		if (w->what[i] > STORED && !w->present[i] && t != w->what[i])
			return t > STORED ? "other bytes" : "zeros";
		if ((w->what[i] <= ABSENT || w->present[i]) && t > STORED)
			return "old bytes";
	}
	return NULL;
}

static void trail_print(const struct world *w, size_t at)
{
	static const char *const kinds[] = { "move", "replace", "copy", "unmap", "half", "discard", "map", "grow",
					     "move both", "unmap both" };

	for (unsigned t = 0; t < THREADS; t++) {
		print_message("thread %u:", t);
		for (unsigned i = 0; i < scripts[t].nr; i++)
			print_message(" %s %u>%u", kinds[scripts[t].ops[i].kind], scripts[t].ops[i].from,
				      scripts[t].ops[i].to);
		print_message("\n");
	}
	print_message("%.*s\n%s\n", (int)at, trail, wrong);
	for (unsigned i = 0; i < CELLS; i++)
		print_message(" %u:%u%s%s/%u", i, w->what[i], w->registered[i] ? "" : "u", w->present[i] ? "p" : "",
			      w->table[i]);
	print_message("\n");
}

static bool search(const struct world *w, size_t at);

static bool branch(const struct world *next, size_t at, char who, char what)
{
	trail[at] = who;
	trail[at + 1] = what;
	trail[at + 2] = ' ';
	return search(next, at + 3);
}

/* false: something is wrong. */
static bool search(const struct world *w, size_t at)
{
	static const char names[] = "iebqatrzl";
	bool some = false;
	struct world next;

	assert_true(at + 3 < sizeof trail);
	if (!state_new(w))
		return true;
	nr_failed += w->failed;
	wrong = w->failed && !w->blind ? "ended" : world_wrong(w);
	if (wrong) {
		trail_print(w, at);
		return false;
	}
	if (w->failed)
		return true;
	for (unsigned t = 0; t < THREADS; t++) {
		next = *w;
		if (!step_thread(&next, t))
			continue;
		some = true;
		if (!branch(&next, at, (char)('0' + t), names[next.threads[t].step]))
			return false;
	}
	/* Who is in no call sleeps, or does not. */
	for (unsigned run = 0; run < 2; run++) {
		next = *w;
		bool known = step_read(&next, run, false);
		nr_formers += next.nr_formers > w->nr_formers;
		if (!known && !memcmp(&next, w, sizeof next))
			continue;
		some |= known;
		if (!branch(&next, at, 'S', run ? 'R' : 'r'))
			return false;
	}
	next = *w;
	if (blind_allowed && w->awaiting && step_read(&next, true, true)) {
		next.blind = true;
		if (!branch(&next, at, 'S', 'b'))
			return false;
	}
	for (unsigned place = 0; place < PLACES; place++) {
		next = *w;
		if (step_survey(&next, place) && !branch(&next, at, 'S', 'v'))
			return false;
	}
	next = *w;
	if (step_adopt(&next) && !branch(&next, at, 'S', 'A'))
		return false;
	next = *w;
	if (step_settle(&next) && !branch(&next, at, 'S', 's'))
		return false;
	next = *w;
	if (step_out(&next) && !branch(&next, at, 'S', 'o'))
		return false;
	if (!some && w->nr_queue && !blind_allowed) { /* it is given up waiting */
		wrong = "waits for ever";
		trail_print(w, at);
		return false;
	}
	return true;
}

/* At first each thread has one mapping, and thread 0 another at `second`. */
static bool searched(const struct script all[THREADS])
{
	struct world w;

	memset(&w, 0, sizeof w);
	memset(seen, 0, sizeof *seen << SEEN_BITS);
	nr_states = 0;
	scripts = all;
	for (unsigned t = 0; t <= THREADS; t++)
		for (unsigned k = 0; (t < THREADS ? all[t].nr : second) && k < PAGES; k++) {
			unsigned i = (t < THREADS ? t : second) * PAGES + k;
			w.what[i] = w.table[i] = (uint8_t)(STORED + 1 + 2 * t + k);
			w.registered[i] = true;
			w.owner[i] = (uint8_t)(t % THREADS);
		}
	return search(&w, 0);
}

/* ---- the programs ---- */

static void script_random(struct script *s, unsigned t, unsigned nr, unsigned kinds, uint64_t *rng)
{
	bool held[PLACES] = { false };

	memset(s, 0, sizeof *s);
	held[t] = true;
	if (!t && second)
		held[second] = true;
	while (s->nr < nr) {
		struct op op = { .from = (uint8_t)rng_below(rng, PLACES), .to = (uint8_t)rng_below(rng, PLACES) };
		do
			op.kind = (uint8_t)rng_below(rng, MAP + 1);
		while (!(kinds & 1u << op.kind));
		bool moved = op_moves(&op);
		if (held[op.from] == (op.kind == MAP) || (moved && op.from == op.to))
			continue;
		if (moved && op.kind != REPLACE && held[op.to])
			continue;
		if (!moved)
			op.to = op.from;
		if (moved)
			held[op.to] = true;
		if (op.kind == UNMAP || op.kind == HALF || (moved && op.kind != COPY))
			held[op.from] = false;
		if (op.kind == MAP)
			held[op.from] = true;
		s->ops[s->nr++] = op;
		bool some = false;
		for (unsigned i = 0; i < PLACES; i++)
			some |= held[i];
		if (!some && !(kinds & 1u << MAP))
			break;
	}
}

/* It grows and moves, or the other way round. */
static struct script script_growing(unsigned t, unsigned to, bool grows_first)
{
	struct op move = { .kind = grows_first ? MOVE_BOTH : MOVE, .from = (uint8_t)t, .to = (uint8_t)to };
	struct op grow = { .kind = GROW, .from = (uint8_t)(grows_first ? t : to) };

	return (struct script){ { grows_first ? grow : move, grows_first ? move : grow }, 2 };
}

static void whoever(unsigned nr_programs, unsigned nr_ops, unsigned kinds)
{
	nr_held = nr_formers = 0;
	for (unsigned i = 1; i <= nr_programs; i++) {
		struct script random[THREADS];
		uint64_t rng = i * 7919 + 1;
		for (unsigned t = 0; t < THREADS; t++)
			script_random(&random[t], t, nr_ops, kinds, &rng);
		if (!searched(random))
			fail_msg("program %u", i);
	}
	assert_true(nr_held > 100 && nr_formers > 100);
}

#define PLAIN (1u << MOVE | 1u << UNMAP | 1u << HALF | 1u << DISCARD)

static void rule09_whoever_goes_where(void **state)
{
	(void)state;
	nr_adoptions_most = 0;
	whoever(60, 2, PLAIN);
}

/* Of which an mremap tells before it tells of the move. */
static void rule09_one_moves_over_its_own(void **state)
{
	const struct script moved[THREADS] = {
		{ { { REPLACE, 0, 3 } }, 1 },
		{ { { MOVE, 1, 0 }, { MOVE, 0, 4 } }, 2 },
		{ { { 0 } }, 0 },
	};
	const struct script unmapped[THREADS] = {
		{ { { REPLACE, 0, 3 } }, 1 },
		{ { { REPLACE, 1, 0 }, { UNMAP, 0, 0 } }, 2 },
		{ { { MOVE, 2, 0 }, { MOVE, 0, 4 } }, 2 },
	};

	(void)state;
	nr_adoptions_most = 0;
	second = 3;
	bool right = searched(moved) && searched(unmapped);
	whoever(20, 2, PLAIN | 1u << REPLACE);
	second = 0;
	assert_true(right);
}

/* Whoever cannot see guesses nothing: it ends the program, or nothing depends on it. */
static void rule09_threads_are_seen_for_a_while_only(void **state)
{
	(void)state;
	nr_adoptions_most = 1;
	blind_allowed = true;
	whoever(25, 2, PLAIN | 1u << REPLACE | 1u << MAP);
	hidden = true;
	whoever(20, 2, PLAIN);
	hidden = blind_allowed = false;
	assert_true(nr_failed > 0);
}

/* All that its call has to tell is told, and it still sleeps in it. */
static void rule09_who_has_told_all_lingers(void **state)
{
	const struct script all[THREADS] = {
		{ { { MOVE, 0, 2 }, { MOVE, 2, 4 } }, 2 },
		{ { { MOVE, 1, 2 }, { MOVE, 2, 5 } }, 2 },
		{ { { UNMAP, 2, 2 } }, 1 },
	};

	(void)state;
	nr_adoptions_most = 0;
	lingers = true;
	bool right = searched(all);
	whoever(10, 2, PLAIN);
	lingers = false;
	assert_true(right);
}

/* What MREMAP_DONTUNMAP leaves behind tells of its own changes, and of its mover there is no second message. */
static void rule09_what_is_left_behind_moves_on(void **state)
{
	const struct script once[THREADS] = {
		{ { { COPY, 0, 3 }, { MOVE, 0, 4 } }, 2 },
		{ { { MOVE, 1, 0 } }, 1 },
		{ { { 0 } }, 0 },
	};
	const struct script twice[THREADS] = {
		{ { { COPY, 0, 3 }, { MOVE, 0, 4 }, { MOVE, 4, 5 } }, 3 },
		{ { { MOVE, 1, 4 } }, 1 },
		{ { { 0 } }, 0 },
	};
	const struct script discarded[THREADS] = {
		{ { { COPY, 0, 3 }, { DISCARD, 0, 0 }, { UNMAP, 0, 0 } }, 3 },
		{ { { MOVE, 1, 0 }, { UNMAP, 0, 0 } }, 2 },
		{ { { 0 } }, 0 },
	};

	(void)state;
	nr_adoptions_most = 1;
	blind_allowed = true;
	assert_true(searched(once));
	assert_true(searched(twice));
	assert_true(searched(discarded));
	whoever(6, 2, PLAIN | 1u << COPY | 1u << REPLACE);
	blind_allowed = false;
}

static void rule09_what_is_new_is_taken_into_care(void **state)
{
	(void)state;
	nr_adoptions_most = 1;
	whoever(12, 3, PLAIN | 1u << REPLACE | 1u << MAP);
}

/* What thread 2 has mapped is registered, moved on, and another's is told to be where it was first. */
static void rule09_what_was_just_registered_moves_on(void **state)
{
	const struct script all[THREADS] = {
		{ { { UNMAP, 0, 0 } }, 1 },
		{ { { REPLACE, 1, 3 }, { MOVE, 3, 0 }, { UNMAP, 0, 0 } }, 3 },
		{ { { MAP, 3, 3 }, { MOVE, 3, 4 }, { UNMAP, 4, 4 } }, 3 },
	};

	(void)state;
	nr_adoptions_most = 1;
	assert_true(searched(all));
}

/*
 * What grows over a place of which it is not told yet that it was left, and leaves again, takes along what the table
 * has there: it is had again when that is told to have moved.
 */
static void rule09_what_grows_over_another_s_gives_it_back(void **state)
{
	const struct script moved[THREADS] = {
		{ { { GROW, 0, 0 }, { MOVE_BOTH, 0, 4 } }, 2 },
		{ { { MOVE, 1, 3 } }, 1 },
		{ { { 0 } }, 0 },
	};
	const struct script moved_then_unmapped[THREADS] = {
		{ { { GROW, 0, 0 }, { MOVE_BOTH, 0, 4 }, { UNMAP_BOTH, 4, 4 } }, 3 },
		{ { { MOVE, 1, 3 } }, 1 },
		{ { { 0 } }, 0 },
	};
	const struct script unmapped[THREADS] = {
		{ { { GROW, 0, 0 }, { UNMAP_BOTH, 0, 0 } }, 2 },
		{ { { MOVE, 1, 3 } }, 1 },
		{ { { 0 } }, 0 },
	};

	(void)state;
	nr_adoptions_most = 0;
	grows = true;
	bool right = searched(moved) && searched(moved_then_unmapped) && searched(unmapped);
	grows = false;
	assert_true(right);
}

/* Who makes it smaller again might be who had unmapped that place: nobody can tell, if something would be lost. */
static void rule09_what_grew_over_another_s_and_shrank_is_not_guessed(void **state)
{
	const struct script all[THREADS] = {
		{ { { GROW, 0, 0 }, { UNMAP, 1, 1 } }, 2 },
		{ { { MOVE, 1, 3 } }, 1 },
		{ { { 0 } }, 0 },
	};

	(void)state;
	nr_adoptions_most = nr_failed = 0;
	grows = true;
	bool right = searched(all);
	grows = false;
	assert_true(right && nr_failed > 0);
}

/* Two threads that grow and move what they have, the first to where nothing was, are not ended, and lose nothing. */
static void rule09_whoever_grows_and_moves(void **state)
{
	(void)state;
	nr_adoptions_most = nr_failed = 0;
	grows = true;
	for (unsigned i = 0; i < 2 * 2 * 2 * (PLACES - 1); i++) {
		unsigned to = i / 8;
		bool first = i & 1, second_first = i & 2;
		const struct script both[THREADS] = {
			script_growing(0, i & 4 ? 3 : 4, first),
			script_growing(1, to, second_first),
			{ { { 0 } }, 0 },
		};
		if (to == 1 || (second_first && to < 3))
			continue;
		if (!searched(both))
			fail_msg("program %u", i);
	}
	grows = false;
	assert_int_equal(nr_failed, 0);
}

/*
 * What has grown, untouched, has moved, and another's has come to its place, which is told first: that stays. What its
 * mover knows of moves with the rest.
 */
static void rule09_what_came_where_grown_memory_was_stays(void **state)
{
	const struct script stays[THREADS] = {
		{ { { GROW, 0, 0 }, { MOVE_BOTH, 0, 4 } }, 2 },
		{ { { 0 } }, 0 },
		{ { { MOVE, 2, 1 } }, 1 },
	};
	const struct script goes[THREADS] = {
		{ { { MOVE, 3, 1 }, { MOVE_BOTH, 0, 4 } }, 2 },
		{ { { 0 } }, 0 },
		{ { { MOVE, 2, 3 } }, 1 },
	};

	(void)state;
	nr_adoptions_most = nr_failed = 0;
	grows = true;
	bool right = searched(stays);
	second = 3;
	right = right && searched(goes);
	second = 0;
	grows = false;
	assert_true(right && !nr_failed);
}

static int seen_new(void **state)
{
	(void)state;
	seen = calloc(1u << SEEN_BITS, sizeof *seen);
	return seen ? 0 : -1;
}

static int seen_free(void **state)
{
	(void)state;
	free(seen);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rule09_whoever_goes_where),
		cmocka_unit_test(rule09_one_moves_over_its_own),
		cmocka_unit_test(rule09_threads_are_seen_for_a_while_only),
		cmocka_unit_test(rule09_who_has_told_all_lingers),
		cmocka_unit_test(rule09_what_is_left_behind_moves_on),
		cmocka_unit_test(rule09_what_is_new_is_taken_into_care),
		cmocka_unit_test(rule09_what_was_just_registered_moves_on),
		cmocka_unit_test(rule09_what_grows_over_another_s_gives_it_back),
		cmocka_unit_test(rule09_what_grew_over_another_s_and_shrank_is_not_guessed),
		cmocka_unit_test(rule09_whoever_grows_and_moves),
		cmocka_unit_test(rule09_what_came_where_grown_memory_was_stays),
	};

	return cmocka_run_group_tests(tests, seen_new, seen_free);
}
