/* SPDX-License-Identifier: MIT */
/*
 * Orders: the pages of one program that a plan wants held, and how they get out of it.
 *
 *   claim RESIDENT pages (HOLDING) ─► helper moves whole runs into the hold area ─► HELD
 *
 * Who moves a page must flush it from the TLB of every CPU that runs the program: an interrupt to
 * each but its own. And while pages move no event is read and so no fault is served. Both cost least
 * on the CPU of the program while it waits for a fault anyway. So the mover only posts the order, and
 * the handler that serves the program's faults carries it out in small batches, one between two
 * faults, with the helper beside it on the same CPU. A program that does not fault is in nobody's way:
 * then the mover does it itself.
 *
 * A batch runs under program.lock shared from claim to result: no event is read meanwhile, so no page
 * is moved that the program has begun to discard. Of a child nothing is moved before its extents were held
 * against its maps (adopt.c).
 *
 * What must always hold: an order is carried out by one at a time (helper_lock), and the moves and
 * results it points to stay until order_finish().
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "assert.h"
#include "clock.h"
#include "futex.h"
#include "number.h"
#include "program.h"
#include "uffd.h"

/*
 * A batch holds up the next fault, and costs two wake-ups beside its pages: single pages 2 us each,
 * runs 0.1 us a page.
 */
#define HANDLER_RUNS 16u
#define MOVER_RUNS 32u
_Static_assert(HANDLER_RUNS <= MOVER_RUNS, "a batch has room for either");
/* Handlers that have not gone on with an order for so long are not coming by. */
#define ORDER_WAIT_MS 1u

struct hold_run {
	struct tract *tract;
	struct move_result *result;
	uint64_t idx;
	uint32_t place, nr_pages;
};

struct hold_batch {
	struct program *program;
	struct hold_run runs[MOVER_RUNS];
	uint32_t nr_runs, nr_pages;
};

/* Claim a stretch from *at on, at most `max` pages, that lies together in the program. */
static uint32_t hold_claim(struct tract *t, uint64_t *at, uint64_t end, uint32_t max,
			   uint64_t *ret_vpn, struct move_result *result)
{
	uint64_t run = 0;
	uint32_t nr = 0;

	for (; *at < end; (*at)++) {
		uint64_t word = atomic_load_explicit(&t->region.state[*at], memory_order_acquire);
		/* Of what was just adopted some may be mapped that tells nothing. */
		bool here = page_state(word) == PAGE_RESIDENT && extent_place(t->program, t, *at, ret_vpn, &run) &&
			    !(t->program->fresh && extent_find(t->program, *ret_vpn)->fresh);
		if (here)
			run = ends_free(t->program, *ret_vpn, run);
		if (here && run)
			break;
		result->nr_pages[here ? MOVE_DROP_TOUCHED : MOVE_DROP_CHANGED]++;
	}
	if (run < max)
		max = (uint32_t)run;
	while (nr < max && *at + nr < end) {
		_Atomic uint64_t *state = &t->region.state[*at + nr];
		uint64_t word = atomic_load_explicit(state, memory_order_acquire);
		if (page_state(word) != PAGE_RESIDENT ||
		    !page_change(t->program->server, state, word, page_word_as(word, PAGE_HOLDING)))
			break;
		nr++;
	}
	return nr;
}

/* Whether the page is held now. */
static bool hold_publish(struct tract *t, uint64_t idx, uint32_t place, enum helper_outcome outcome,
			 struct move_result *result)
{
	struct program *p = t->program;
	_Atomic uint64_t *state = &t->region.state[idx];
	uint64_t word = atomic_load_explicit(state, memory_order_acquire);
	uint64_t to = page_word_as(word, PAGE_RESIDENT);
	enum move_reason reason = MOVE_FAIL_IO;

	tide_assert(page_state(word) == PAGE_HOLDING); /* nobody else changes it under the lock */
	switch (outcome) {
	case HELPER_MOVED:
		to = page_word_held(word, place);
		reason = MOVE_OK;
		break;
	case HELPER_HOLE: /* discarded before it was touched last: the next touch will tell */
		reason = MOVE_DROP_GONE;
		break;
	case HELPER_BUSY:
		reason = MOVE_FAIL_BUSY;
		break;
	case HELPER_AGAIN: /* its mappings were changing: no reason to leave it alone */
		reason = MOVE_DROP_CHANGED;
		break;
	case HELPER_DENIED:
		reason = MOVE_FAIL_DENIED;
		break;
	case HELPER_LOST:
		program_fail(p, "a page was lost on its way out");
		break;
	case HELPER_FAILED:
	case HELPER_OUTCOME_COUNT:
		break;
	}
	bool mine = page_change(p->server, state, word, to);
	tide_assert(mine);
	result->nr_pages[reason]++;
	return reason == MOVE_OK;
}

/* Its helper does not answer. What it has taken is brought back, and it takes no more; the places that it was to
 * use are settled with its reply. */
static void hold_revoke(struct hold_batch *b)
{
	struct program *p = b->program;
	struct revocation r;
	uint32_t page = 0;
	int error = move_revoke(p, &r);

	for (uint32_t i = 0; i < b->nr_runs; i++) {
		const struct hold_run *run = &b->runs[i];
		for (uint32_t k = 0; k < run->nr_pages; k++, page++) {
			const struct helper_run one = {
				.dst = p->overdue.runs[i].dst + (uint64_t)k * PAGE_BYTES,
				.src = p->overdue.runs[i].src + (uint64_t)k * PAGE_BYTES,
			};
			uint32_t place = 0;
			page_source(p->server, page_slow(word_load(run->tract, run->idx + k)));
			enum helper_outcome outcome = error ? HELPER_LOST : page_recall(&r, page, &one, &place);
			if (outcome == HELPER_LOST && !uffd_alive(p->uffd)) /* with all of its memory */
				outcome = HELPER_FAILED;
			hold_publish(run->tract, run->idx + k, place, outcome, run->result);
		}
	}
	if (!error)
		revocation_end(&r);
}

/* Whether no page went because the program was just changing its mappings: nor would any other. */
static bool hold_flush(struct hold_batch *b)
{
	struct program *p = b->program;

	if (!b->nr_runs)
		return false;
	p->command.op = HELPER_MOVE;
	p->command.nr_runs = b->nr_runs;
	int error = helper_call(p);
	if (error == -EINPROGRESS) {
		hold_revoke(b);
		b->nr_runs = b->nr_pages = 0;
		return false;
	}
	/* It died in the middle: nobody knows where these pages are, and whoever is just serving one of
	 * them would take it for a page that was never touched. */
	if (error == -EPIPE && !atomic_load(&p->gone) && uffd_alive(p->uffd))
		program_fail(p, "its helper ended while it moved pages");
	if (!error && p->reply.result)
		error = (int)p->reply.result;
	if (!error && p->reply.whole) {
		hold_whole(p, b->runs[0].place, true);
		atomic_fetch_add_explicit(&p->server->huge_held, 1, memory_order_relaxed);
	}
	uint32_t page = 0;
	bool changing = false, moved = false;
	for (uint32_t i = 0; i < b->nr_runs; i++) {
		const struct hold_run *run = &b->runs[i];
		for (uint32_t k = 0; k < run->nr_pages; k++, page++) {
			enum helper_outcome outcome = error ? HELPER_FAILED : p->reply.outcome[page];
			changing |= outcome == HELPER_AGAIN;
			if (hold_publish(run->tract, run->idx + k, run->place + k, outcome, run->result))
				moved = true;
			else
				hold_untake(p, run->place + k, 1);
		}
	}
	b->nr_runs = b->nr_pages = 0;
	return changing && !moved;
}

/* Add the move's next stretch to the batch, which has room; false when the move is through or no place
 * is left in the hold area. */
static bool hold_add(struct hold_batch *b, const struct move *m, uint64_t *at,
		     struct move_result *result)
{
	struct tract *t = move_tract(m);
	struct program *p = b->program;
	uint64_t vpn, end = m->first + m->nr_pages;
	uint32_t place, want = HELPER_PAGES_MAX - b->nr_pages;

	if (*at == end || !p->checked || !p->hold.address || !helper_ready(p))
		return false;
	if (end - *at < want)
		want = (uint32_t)(end - *at);
	uint64_t left = minus(hold_room(p), atomic_load(&p->hold.nr_used));
	uint32_t room = left ? hold_take(p, want < left ? want : (uint32_t)left, &place) : 0;
	if (!room)
		return false;
	uint32_t nr = hold_claim(t, at, end, room, &vpn, result);
	if (nr < room)
		hold_untake(p, place + nr, room - nr);
	if (!nr)
		return true;
	p->command.runs[b->nr_runs] = (struct helper_run){
		.dst = hold_address(p, place),
		.src = vpn << PAGE_SHIFT,
		.bytes = (uint64_t)nr * PAGE_BYTES,
	};
	b->runs[b->nr_runs++] = (struct hold_run){ t, result, *at, place, nr };
	b->nr_pages += nr;
	*at += nr;
	return true;
}

/* What is left of it is not tried: it would only hold up those whose change is under way. */
static void order_put_off(struct order *o)
{
	for (; o->next < o->nr; o->next++) {
		const struct move *m = &o->moves[o->next];
		uint64_t at = o->at ? o->at : m->first;
		o->results[o->next].nr_pages[MOVE_DROP_CHANGED] += (uint32_t)(m->first + m->nr_pages - at);
		o->at = 0;
	}
}

/* Drop, or fill a batch with the next pages of the order and carry it out. helper_lock held. Returns
 * whether more is left. */
static bool order_batch(struct program *p, bool mover)
{
	uint32_t max_runs = mover ? MOVER_RUNS : HANDLER_RUNS;
	struct order *o = &p->order;
	struct hold_batch b = { .program = p };

	helper_follow(p);
	if (o->nr_drop) {
		uint32_t nr = hold_drop(p, o->nr_drop);
		o->nr_drop = nr ? o->nr_drop - nr : 0;
	}
	program_lock_shared(p);
	for (; o->next < o->nr; o->next++) {
		const struct move *m = &o->moves[o->next];
		struct move_result *result = &o->results[o->next];
		if (!o->at)
			o->at = m->first;
		/* A huge page goes whole, or it is split for 350 us: not behind others. */
		if (m->nr_pages == HELPER_PAGES_MAX && b.nr_runs)
			break;
		while (b.nr_runs < max_runs && b.nr_pages < HELPER_PAGES_MAX &&
		       hold_add(&b, m, &o->at, result))
			;
		if (b.nr_runs == max_runs || b.nr_pages == HELPER_PAGES_MAX)
			break;
		/* What is left has nobody to take it out, must not go yet, or found no place. */
		bool later = !p->checked || atomic_load(&p->frozen);
		enum move_reason why = p->helper_socket < 0 ? MOVE_FAIL_DENIED
				       : later		    ? MOVE_FAIL_BUSY
							    : MOVE_FAIL_FULL;
		result->nr_pages[why] += (uint32_t)(m->first + m->nr_pages - o->at);
		o->at = 0;
	}
	if (hold_flush(&b))
		order_put_off(o);
	rwlock_unlock(&p->lock);
	bool left = o->next < o->nr || o->nr_drop;
	atomic_store_explicit(&p->ordered, left, memory_order_release);
	return left;
}

void order_post(struct program *p, const struct move *moves, size_t nr, struct move_result *results)
{
	order_finish(p);
	helper_lock_take(p);
	p->order = (struct order){ .moves = moves, .results = results, .nr = nr };
	pthread_mutex_lock(&p->hold_lock);
	p->order.nr_drop = p->hold.nr_freed;
	pthread_mutex_unlock(&p->hold_lock);
	atomic_store_explicit(&p->ordered, nr || p->order.nr_drop, memory_order_release);
	pthread_mutex_unlock(&p->helper_lock);
	if (atomic_load(&p->server->nr_waiting))
		futex_signal(&p->server->space);
}

bool order_work(struct program *p)
{
	if (!atomic_load_explicit(&p->ordered, memory_order_relaxed) ||
	    pthread_mutex_trylock(&p->helper_lock))
		return false;
	bool mine = atomic_load_explicit(&p->ordered, memory_order_relaxed);
	bool left = mine && order_batch(p, false);
	pthread_mutex_unlock(&p->helper_lock);
	if (left)
		atomic_fetch_add_explicit(&p->order_seq, 1, memory_order_relaxed);
	else if (mine)
		futex_signal(&p->order_seq);
	return mine;
}

/* Whether the program has faulted since this was asked last. */
static bool faults_flow(struct program *p)
{
	uint64_t served = handlers_served(p);
	bool flow = served != p->nr_served_before;
	p->nr_served_before = served;
	return flow;
}

void order_finish(struct program *p)
{
	/* Acquire: pairs with the release in order_batch(), so the results are all there. */
	while (atomic_load_explicit(&p->ordered, memory_order_acquire)) {
		uint32_t seen = atomic_load(&p->order_seq);
		if (faults_flow(p))
			futex_wait(&p->order_seq, seen, ORDER_WAIT_MS);
		if (atomic_load(&p->order_seq) != seen)
			continue;
		helper_lock_take(p);
		while (atomic_load_explicit(&p->ordered, memory_order_relaxed))
			order_batch(p, true);
		pthread_mutex_unlock(&p->helper_lock);
	}
}

void order_settle(struct program *p)
{
	/* Acquire in order_finish(): nobody else looks at the order any more. */
	bool held = p->order.nr;

	p->order.nr = 0;
	if (held)
		return;
	order_post(p, NULL, 0, NULL);
	order_finish(p);
}
