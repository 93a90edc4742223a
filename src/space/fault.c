/* SPDX-License-Identifier: MIT */
/*
 * The fault service: what a handler does with the messages it has read.
 *
 * Serving looks the page up and acts on its word:
 *
 *   ABSENT     fill a stretch with zeros                (FILLING), or a block (block.c)
 *   STORED     decompress outside the lock, install     (LOADING): load.c
 *   HELD       copy back from the hold area, install    (RETURNING, all under the shared lock), or
 *              move back the block (block.c)
 *   STORING    the same: takes the page from the mover, which finds its word changed
 *   RESIDENT   an old fault, or discarded after all
 *   moving     whoever moves it wakes the waiters
 *
 * A woken thread that finds nothing simply faults again, so a superfluous wake is harmless and a
 * missing one is not: every path that gives a claim back wakes.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "assert.h"
#include "clock.h"
#include "futex.h"
#include "intake.h"
#include "journal.h"
#include "program.h"
#include "uffd.h"

/* Nobody waits for room longer while no page is demoted, whatever the mover is doing. On a busy machine a
 * single round of it may take most of a second. */
#define ROOM_WAIT_NS 5000000000u
#define MESSAGES_WAIT_MS 1 /* nobody tells who waits for room that messages have come */
#define POOL_BLOCK_BYTES (2u << 20)
#define WAKE_SAMPLE 64u
#define GROWTHS_REST 9u

static const uint8_t zeros[FAULT_RUN_PAGES * PAGE_BYTES];

/* ---- how long it takes ---- */

/*
 * A handler of the idle class loses its CPU inside the call that wakes the program, to the program, and returns
 * from it when that waits again. So the call's own time is told by the thread's processor time, which is dear to
 * ask for: once in a while.
 */
void fault_wakes(struct handler *h, uint32_t nr_pages)
{
	if (h->normal || h->waking_ns)
		return;
	h->waking_ns = clock_now_ns();
	h->waking_pages = nr_pages;
	h->waking_cpu_ns = h->nr_wakes++ % WAKE_SAMPLE ? 0 : clock_thread_cpu_ns();
}

/* From its reading on until the program was woken. */
static uint64_t fault_took_ns(struct handler *h)
{
	if (!h->waking_ns)
		return clock_now_ns() - h->began_ns;
	if (h->waking_cpu_ns)
		h->page_wake_ns = (clock_thread_cpu_ns() - h->waking_cpu_ns) / h->waking_pages;
	h->waking_cpu_ns = 0;
	return h->waking_ns - h->began_ns + h->page_wake_ns * h->waking_pages;
}

/* ---- room ---- */

bool page_earned(struct tract *t, uint64_t idx)
{
	const struct server *s = t->program->server;

	return s->slow_bound && room_left(s) > 0 && intake_promote(t, idx);
}

/* No room will come: go on above the budget, or not at all. */
static void room_exceed(struct program *p)
{
	struct server *s = p->server;
	bool first = !atomic_fetch_add(&s->over_budget, 1);
	struct tier_usage u;

	/* Asking the pool is dear, and only the first warning and --hard want to know. */
	if (!s->hard && !first)
		return;
	s->pool->ops->usage(s->pool, &u);
	/* A pool takes memory in blocks. */
	bool full = u.capacity_bytes && u.used_bytes + POOL_BLOCK_BYTES > u.capacity_bytes;
	if (s->hard && (full || s->slow_last || atomic_load(&s->all_refused)))
		program_fail(p, full           ? "tier lz4 is full, and so are the others (--hard)"
				: s->slow_last ? "the slow node is full, and so is the fast one (--hard)"
					       : "tier dram is full, and tier lz4 does not take the rest (--hard)");
	else if (first && !s->quiet)
		server_warn(full           ? "tier lz4 is full: running on above the budget"
			    : s->slow_last ? "the slow node is full: running on above the budget"
					   : "no page can be moved out: running on above the budget");
}

/* ---- ABSENT ---- */

/* Give claims back: the pages are as they were, and who waits there faults again. */
static void unclaim(struct program *p, struct tract *t, uint64_t idx, uint64_t vpn,
		    const uint64_t *words, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		(void)page_change(p->server, &t->region.state[idx + i], words[i], 0);
	uffd_wake(p->uffd, vpn_address(vpn), (uint64_t)nr * PAGE_BYTES);
}

/* Claim up to `max` absent pages in a row. */
static uint32_t claim(struct tract *t, uint64_t idx, uint32_t max, uint32_t cookie, uint64_t *words)
{
	uint32_t nr = 0;

	while (nr < max) {
		uint64_t word = word_load(t, idx + nr);
		if (page_state(word) != PAGE_ABSENT)
			break;
		words[nr] = page_word(PAGE_FILLING, 0, cookie, 0, false);
		if (!page_claim(t, idx + nr, words[nr]))
			break;
		nr++;
	}
	return nr;
}

/* Install zeros over claimed pages; returns how many. */
static uint32_t zeros_install(struct program *p, uint64_t vpn, uint32_t nr, bool write, int *ret_error)
{
	uint64_t done;

	*ret_error = write ? uffd_copy(p->uffd, vpn_address(vpn), zeros, nr * PAGE_BYTES, &done)
			   : uffd_zero(p->uffd, vpn_address(vpn), nr * PAGE_BYTES, &done);
	return (uint32_t)(done / PAGE_BYTES);
}

/* Untouched memory: reads get the shared page of zeros, writes a stretch of fresh pages. */
static enum served serve_absent(struct handler *h, struct tract *t, uint64_t idx, uint64_t vpn,
				uint32_t max, bool write)
{
	struct program *p = h->program;
	uint64_t words[FAULT_RUN_PAGES];
	uint32_t want = intake_ahead(t, idx, TOUCH_FILL);
	uint32_t left = BLOCK_PAGES - (uint32_t)(vpn % BLOCK_PAGES);
	int error;

	if (want < max)
		max = want;
	/* What is copied would replace guard pages. */
	if (write && atomic_load_explicit(&p->guarded, memory_order_relaxed))
		max = 1;
	/* A stretch that ran on would keep the next block from being filled as one. */
	if (left < max && atomic_load_explicit(&t->huge, memory_order_relaxed))
		max = left;
	uint32_t nr = claim(t, idx, max, h->cookie, words);
	if (!nr) {
		uffd_wake(p->uffd, vpn_address(vpn), PAGE_BYTES);
		return SERVED;
	}
	/* The page of zeros is on no node. It becomes another page by a write, which the program's own
	 * policy places. */
	bool slow = write && room_left(p->server) <= 0 && slow_room(p->server) > 0;
	page_source(p->server, slow);
	if (!slow)
		room_take(p->server, nr);
	fault_wakes(h, nr);
	uint32_t filled = zeros_install(p, vpn, nr, write, &error);
	if (!slow)
		room_landed(p->server, nr, filled);
	for (uint32_t i = 0; i < filled; i++)
		(void)page_change(p->server, &t->region.state[idx + i], words[i],
				  page_word(PAGE_RESIDENT, slow, 0, 0, false));
	/* EEXIST: discarded, yet there; it may be on its way out (DONTNEED) or stay (FREE). Nobody
	 * can tell, so it is never made known: it stays ABSENT, and out of our hands. */
	if (filled < nr)
		unclaim(p, t, idx + filled, vpn + filled, words + filled, nr - filled);
	if (!filled)
		return served_as(error);
	intake_touch(t, idx, 1, TOUCH_FILL);
	return SERVED;
}

/*
 * Resident, yet it faults. Mostly the fault is an old one. But a page that was touched between the
 * event of its discarding and the discarding itself is gone now, and its content is zeros.
 */
static enum served serve_resident(struct handler *h, struct tract *t, uint64_t idx, uint64_t vpn,
				  uint64_t word)
{
	struct program *p = h->program;
	uint64_t claimed = page_word(PAGE_FILLING, page_tier(word), h->cookie, page_slot(word),
				     page_shadow(word));
	uint64_t to = page_word(PAGE_RESIDENT, page_tier(word), 0, page_slot(word), page_shadow(word));
	int error;

	if (!page_change(p->server, &t->region.state[idx], word, claimed)) {
		uffd_wake(p->uffd, vpn_address(vpn), PAGE_BYTES);
		return SERVED;
	}
	uint32_t filled = zeros_install(p, vpn, 1, false, &error);
	if (filled)
		to = page_word(PAGE_RESIDENT, 0, 0, 0, false);
	bool mine = page_change(p->server, &t->region.state[idx], claimed, to);
	tide_assert(mine);
	if (filled && page_shadow(word)) {
		p->server->pool->ops->unref(p->server->pool, page_slot(word));
		atomic_fetch_sub_explicit(&p->server->nr_shadows, 1, memory_order_relaxed);
	}
	if (filled)
		atomic_fetch_add(&p->server->refilled, 1);
	uffd_wake(p->uffd, vpn_address(vpn), PAGE_BYTES);
	return served_as(error);
}

/* ---- HELD, STORING ---- */

/* One that was held is in the program again. */
static void held_publish(struct program *p, struct tract *t, uint64_t idx, uint64_t word, bool slow)
{
	uint64_t to = page_word_back(word);

	if (!page_shadow(word))
		to = page_word_on(to, slow);
	bool mine = page_change(p->server, &t->region.state[idx], word, to);
	tide_assert(mine);
	hold_release(p, page_place(word));
}

/* Pages that are claimed stay held. */
static void held_unclaim(struct program *p, struct tract *t, uint64_t idx, uint64_t vpn, const uint64_t *words,
			 uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		bool mine = page_change(p->server, &t->region.state[idx + i], words[i],
					page_word_as(words[i], PAGE_HELD));
		tide_assert(mine);
	}
	uffd_wake(p->uffd, vpn_address(vpn), (uint64_t)nr * PAGE_BYTES);
}

uint32_t held_install(struct program *p, struct tract *t, uint64_t idx, uint64_t vpn, const uint64_t *words,
		      uint32_t nr, const uint8_t *pages, bool slow, int *ret_error)
{
	uint32_t at = 0;
	int error = 0;

	page_source(p->server, slow);
	while (at < nr && !error) {
		uint64_t done;
		if (!slow)
			room_take(p->server, nr - at);
		error = uffd_copy(p->uffd, vpn_address(vpn + at), pages + at * PAGE_BYTES,
				  (nr - at) * PAGE_BYTES, &done);
		uint32_t came = (uint32_t)(done / PAGE_BYTES);
		if (!slow)
			room_landed(p->server, nr - at, came);
		if (error == -EEXIST) {
			atomic_fetch_add(&p->server->vanished, 1);
			uffd_wake(p->uffd, vpn_address(vpn + at + came), PAGE_BYTES);
			came++;
			error = 0;
		}
		for (uint32_t i = at; i < at + came; i++)
			held_publish(p, t, idx + i, words[i], slow);
		at += came;
	}
	if (at < nr)
		held_unclaim(p, t, idx + at, vpn + at, words + at, nr - at);
	*ret_error = error;
	return at;
}

/* Claim a held page, and those behind it that are on the slow node as it is, as far as read-ahead says:
 * what is touched in turn there comes back in one go. */
static uint32_t held_claim(struct tract *t, uint64_t idx, uint32_t max, uint64_t word, uint64_t *words)
{
	uint32_t want = page_slow(word) ? intake_ahead(t, idx, TOUCH_RETURN) : 1, nr = 0;

	while (nr < want && nr < max) {
		words[nr] = page_word_as(word, PAGE_RETURNING);
		if (!page_change(t->program->server, &t->region.state[idx + nr], word, words[nr]))
			break;
		nr++;
		if (nr == max)
			break;
		word = word_load(t, idx + nr);
		if (page_state(word) != PAGE_HELD || !page_slow(word))
			break;
	}
	return nr;
}

/* Pages came back, to the slow node or the fast one. */
static void held_returned(struct tract *t, uint64_t idx, uint32_t nr, bool from_slow, bool to_slow)
{
	struct server *s = t->program->server;

	if (from_slow && !to_slow)
		atomic_fetch_add_explicit(&s->raised, nr, memory_order_relaxed);
	intake_touch(t, idx, nr, TOUCH_RETURN);
}

static enum served serve_held(struct handler *h, struct tract *t, uint64_t idx, uint64_t vpn,
			      uint32_t max, uint64_t word)
{
	struct program *p = h->program;
	uint64_t words[FAULT_RUN_PAGES];
	uint32_t nr = held_claim(t, idx, max, word, words), at = 0, all = 0;
	int error = 0;

	if (!nr) {
		uffd_wake(p->uffd, vpn_address(vpn), PAGE_BYTES);
		return SERVED;
	}
	if (held_read(p, words, nr, h->buffer)) {
		held_unclaim(p, t, idx, vpn, words, nr);
		if (uffd_alive(p->uffd))
			program_fail(p, "a held page cannot be read back");
		return SERVED;
	}
	bool slow = page_slow(word) && !page_earned(t, idx);
	while (at < nr && !error) {
		/* Neighbours that go to the same node go together. */
		bool next = slow;
		uint32_t run = 1;
		while (at + run < nr && (next = !page_earned(t, idx + at + run)) == slow)
			run++;
		fault_wakes(h, run);
		uint32_t came = held_install(p, t, idx + at, vpn + at, words + at, run,
					     h->buffer + at * PAGE_BYTES, slow, &error);
		held_returned(t, idx + at, came, page_slow(word), slow);
		all += came;
		at += run;
		slow = next;
	}
	if (at < nr)
		held_unclaim(p, t, idx + at, vpn + at, words + at, nr - at);
	if (page_slow(word))
		atomic_fetch_add_explicit(&p->server->slow_wait_ns, fault_took_ns(h), memory_order_relaxed);
	return all ? SERVED : served_as(error);
}

/* ---- faults ---- */

/* Beyond all we know: a mapping that grew in place, or one that is just being moved here. */
static enum served serve_unknown(struct program *p, uint64_t vpn, bool write)
{
	uint64_t done;

	if (journal_doubts(p, vpn)) /* it is not to be zeros if it is there still */
		return served_as(-EAGAIN);
	room_take(p->server, 1);
	int error = write ? uffd_copy(p->uffd, vpn_address(vpn), zeros, PAGE_BYTES, &done)
			  : uffd_zero(p->uffd, vpn_address(vpn), PAGE_BYTES, &done);
	room_landed(p->server, 1, !error);
	if (error && error != -EAGAIN)
		uffd_wake(p->uffd, vpn_address(vpn), PAGE_BYTES);
	atomic_store_explicit(&p->unknown, true, memory_order_relaxed);
	return served_as(error);
}

static enum served fault_dispatch(struct handler *h, uint64_t vpn, bool write)
{
	struct program *p = h->program;
	const struct extent *e = extent_find(p, vpn);

	if (!e)
		return serve_unknown(p, vpn, write);
	struct tract *t = e->tract;
	uint64_t idx = e->idx + (vpn - e->vpn);
	uint64_t left = e->vpn + e->nr_pages - vpn;
	uint32_t max = left < FAULT_RUN_PAGES ? (uint32_t)left : FAULT_RUN_PAGES;
	uint64_t word = word_load(t, idx);
	enum served served;

	switch (page_state(word)) {
	case PAGE_ABSENT:
		atomic_fetch_add_explicit(&h->nr_filled, write, memory_order_relaxed);
		served = write ? block_fill(h, e, vpn) : SERVE_SINGLY;
		return served == SERVE_SINGLY ? serve_absent(h, t, idx, vpn, max, write) : served;
	case PAGE_STORED:
		return stored_serve(h, t, idx, vpn, left);
	case PAGE_HELD:
		served = block_return(h, e, vpn, word);
		return served == SERVE_SINGLY ? serve_held(h, t, idx, vpn, max, word) : served;
	case PAGE_STORING:
		return serve_held(h, t, idx, vpn, max, word);
	case PAGE_RESIDENT:
		return serve_resident(h, t, idx, vpn, word);
	case PAGE_HOLDING: /* the mover has it in hand and wakes nobody */
		uffd_wake(p->uffd, vpn_address(vpn), PAGE_BYTES);
		return SERVED;
	case PAGE_FILLING:
	case PAGE_LOADING:
	case PAGE_RETURNING:
	case PAGE_STATE_COUNT:
		break; /* whoever moves it wakes the waiters */
	}
	return SERVED;
}

/*
 * A thread waits in one place at a time: of two faults of one the first is over. Where its number is not known, faults
 * at one page are one. NULL: there is no other.
 */
static struct deferred *deferred_find(struct handler *h, const struct deferred *fault)
{
	for (size_t i = 0; i < h->nr_deferred; i++) {
		struct deferred *d = &h->deferred[i];
		if (d->tid == fault->tid && (d->tid || (d->address == fault->address && d->write == fault->write)))
			return d;
	}
	return NULL;
}

/* One is over; others may have that number, in another namespace. */
static void deferred_drop(struct handler *h, const struct deferred *over, const struct deferred *other)
{
	if (over->address != other->address)
		uffd_wake(h->program->uffd, over->address, PAGE_BYTES);
}

static void defer(struct handler *h, const struct deferred *fault)
{
	if (h->nr_deferred == h->room_deferred) {
		size_t room = h->room_deferred ? h->room_deferred * 2 : 64;
		struct deferred *grown = realloc(h->deferred, room * sizeof *grown);
		if (!grown) { /* let it fault again */
			uffd_wake(h->program->uffd, fault->address, PAGE_BYTES);
			return;
		}
		h->deferred = grown;
		h->room_deferred = room;
	}
	h->deferred[h->nr_deferred++] = *fault;
}

void fault_take(void *arg, uint64_t address, bool write, uint32_t tid)
{
	struct handler *h = arg;
	const struct deferred fault = { address, tid, write, h->program->growth.nr };
	struct deferred *before = deferred_find(h, &fault);

	if (!before) {
		defer(h, &fault);
		return;
	}
	deferred_drop(h, before, &fault);
	*before = fault;
}

bool fault_next(struct handler *h, struct deferred *ret_fault)
{
	if (!h->nr_deferred)
		return false;
	*ret_fault = h->deferred[0];
	memmove(h->deferred, h->deferred + 1, --h->nr_deferred * sizeof *h->deferred);
	return true;
}

/* Of hundreds of threads that wait for room each is to be asked, and few programs have one that grows so: a tenth of
 * the time is enough to ask in vain, or no room would be made. Who is served comes with its next page at once. */
void growths_serve(struct handler *h)
{
	struct deferred fault;
	size_t nr = h->nr_deferred;
	bool some = false;

	if (!nr || clock_now_ns() < h->growths_ns || !uffd_changing(h->program->uffd))
		return;
	uint64_t began_ns = clock_thread_cpu_ns();
	for (; nr && fault_next(h, &fault); nr--) {
		bool served = growth_serve(h->program, &fault);
		if (!served)
			defer(h, &fault);
		some |= served;
	}
	if (!some)
		h->growths_ns = clock_now_ns() + GROWTHS_REST * (clock_thread_cpu_ns() - began_ns);
}

/* Serve a fault for which there is room, or for which none comes. False: none can be served, the mappings change. */
static bool fault_answer(struct handler *h, const struct deferred *fault, uint64_t began_ns)
{
	struct program *p = h->program;
	uint64_t vpn = fault->address >> PAGE_SHIFT;

	/* All are about to be killed, for of one it is no longer known what is to be there. */
	if (atomic_load(&p->server->lost_child))
		return true;
	h->began_ns = began_ns;
	h->waking_ns = h->waking_cpu_ns = 0;
	program_lock_shared(p);
	enum served served = fault_dispatch(h, vpn, fault->write);
	if (served == SERVE_PREPARE) {
		rwlock_unlock(&p->lock);
		stock_prepare(p);
		program_lock_shared(p);
		served = fault_dispatch(h, vpn, fault->write);
	}
	atomic_store_explicit(&h->tids[fault->tid % HANDLER_TIDS], fault->tid, memory_order_relaxed);
	rwlock_unlock(&p->lock);
	if (served != SERVED) {
		const struct deferred *since = deferred_find(h, fault);
		if (since)
			deferred_drop(h, fault, since);
		else
			defer(h, fault);
		return !uffd_changing(p->uffd);
	}
	histogram_add(&p->server->fault_times, fault_took_ns(h));
	atomic_fetch_add_explicit(&h->nr_served, 1, memory_order_relaxed);
	return true;
}

/* ---- waiting for room ---- */

/* By how many pages a fault may go beyond. Memory that is only now touched waits for room; what was there before may
 * pass a little ahead. The helper touches pages on behalf of those who make room. program.lock. */
static int64_t fault_slack(struct program *p, const struct deferred *fault)
{
	uint64_t vpn = fault->address >> PAGE_SHIFT;
	const struct extent *e = extent_find(p, vpn);
	enum page_state state =
		e ? page_state(word_load(e->tract, e->idx + (vpn - e->vpn))) : PAGE_ABSENT;

	if (fault->tid && fault->tid == (uint32_t)atomic_load_explicit(&p->helper_pid, memory_order_relaxed))
		return INT64_MAX;
	if (state == PAGE_ABSENT)
		return 0;
	if (state == PAGE_STORED && slow_room(p->server) < PIECE_PAGES)
		return (int64_t)(atomic_load_explicit(&p->server->limit, memory_order_relaxed) / 32);
	return INT64_MAX;
}

static bool room_for(struct program *p, const struct deferred *fault, int64_t *ret_slack)
{
	int64_t slack = 0;

	if (atomic_load_explicit(&p->server->room, memory_order_relaxed) <= 0) {
		program_lock_shared(p);
		slack = fault_slack(p, fault);
		rwlock_unlock(&p->lock);
	}
	*ret_slack = slack;
	return atomic_load_explicit(&p->server->room, memory_order_relaxed) > -slack;
}

/*
 * Who waits for room reads on: a thread whose event is not read waits in its call, and until it has gone on no page of
 * its program can be moved out, so no room would come. Faults that need none are served, the others wait as well.
 */
static void others_serve(struct handler *h)
{
	struct program *p = h->program;
	struct pollfd messages = { .fd = p->uffd, .events = POLLIN };
	struct deferred fault;
	bool can = true;
	int64_t slack;

	/* Also for a child that waits until nothing is under way here. */
	if (journal_open(p) || poll(&messages, 1, 0) > 0)
		handler_read(h);
	for (size_t nr = h->nr_deferred; can && nr && fault_next(h, &fault); nr--) {
		if (room_for(p, &fault, &slack))
			can = fault_answer(h, &fault, clock_now_ns());
		else
			defer(h, &fault);
	}
	growths_serve(h);
}

/* Wait until memory may grow for a fault; `slack`: pages by which it may go beyond. No lock held. */
static void room_wait(struct handler *h, const struct deferred *fault, int64_t slack)
{
	struct program *p = h->program;
	struct server *s = p->server;
	uint64_t end_ns = clock_now_ns() + ROOM_WAIT_NS, left = pages_left(s);

	atomic_fetch_add(&s->nr_waiting, 1);
	for (;;) {
		uint32_t seen = atomic_load(&s->space);
		uint64_t left_now = pages_left(s);
		if (left_now != left)
			end_ns = clock_now_ns() + ROOM_WAIT_NS;
		left = left_now;
		if (atomic_load(&s->room) > -slack || atomic_load(&p->gone) || atomic_load(&s->stopping))
			break;
		/* Whoever populates has the locks that making room takes, and may wait for a fault behind this. But
		 * nobody waits for a helper that is frozen, which may populate for ever. */
		if (atomic_load(&p->populating) && !atomic_load(&p->frozen))
			break;
		if (growth_awaited(p, fault))
			break;
		if (atomic_load(&s->stuck) || clock_now_ns() > end_ns) {
			if (slow_room(s) <= 0)
				room_exceed(p);
			break;
		}
		if (atomic_load_explicit(&s->mover_idle, memory_order_acquire))
			mover_wake(s);
		others_serve(h);
		if (!order_work(p))
			futex_wait(&s->space, seen, MESSAGES_WAIT_MS);
	}
	atomic_fetch_sub(&s->nr_waiting, 1);
}

bool fault_serve(struct handler *h, const struct deferred *fault)
{
	uint64_t began_ns = clock_now_ns();
	int64_t slack;

	if (!room_for(h->program, fault, &slack))
		room_wait(h, fault, slack);
	return fault_answer(h, fault, began_ns);
}
