/* SPDX-License-Identifier: MIT */
/*
 * Load: pages come back from the pool, the touched one and those that are expected next.
 *
 *   window   what one fault is to bring back: as many pages as the engine's read-ahead says. Pages in it
 *            that are elsewhere are left as they are
 *   piece    a part of it that one thread brings back at once:
 *            claim (LOADING) ─► decompress without program.lock ─► install under it, publish RESIDENT
 *
 *        fault
 *          │
 *      ┌───▼───┬───────┬───────┬───────┐
 *      │ first │ piece │ piece │ piece │   the rest lies in handler.window: a piece goes to whoever takes
 *      └───────┴───────┴───────┴───────┘   it first, the handler or another that has nothing to do
 *
 * The program's thread waits until no piece of the window is left, so it is woken once, and on its CPU:
 * a page that another CPU has in hand is soon there, and a thread that sleeps until then has to be woken
 * from there.
 *
 * What is brought back by others than the handler of the fault is claimed, checked and published like any
 * other page (docs/page-protocol.md). Nothing is owed for a piece: who takes it finds its place by
 * address afresh, and what has changed there since is left alone.
 */
#include <errno.h>

#include "assert.h"
#include "clock.h"
#include "futex.h"
#include "intake.h"
#include "program.h"
#include "uffd.h"

#define SHADOW_SHARE 16u  /* of the budget in pages, at most */
#define JOINED_NS 100000u /* wait for the pieces of others no longer: they may have lost their CPU */
#define OWN_PIECES 4u     /* of a window, besides the first: other faults wait for the handler */
#define WINDOW_SHIFT 12
#define WINDOW_MASK ((UINT64_C(1) << WINDOW_SHIFT) - 1)

_Static_assert(PIECE_PAGES <= FAULT_RUN_PAGES, "a handler's buffer has room for a piece");

/* Pages of a tract in one thread's hands, mapped in a row. words[i] is 0 where a page is not. */
struct piece {
	struct tract *tract;
	uint64_t idx, vpn;
	uint32_t nr;
	uint64_t words[PIECE_PAGES];
	bool quiet; /* wakes nobody: that is done for the whole window */
};

/* ---- one piece ---- */

/* Claim the stored pages of a piece; whether there are any. */
static bool piece_claim(const struct handler *h, struct piece *piece)
{
	struct tract *t = piece->tract;
	uint32_t nr = 0;

	for (uint32_t i = 0; i < piece->nr; i++) {
		uint64_t word = word_load(t, piece->idx + i);
		uint64_t claimed = page_word(PAGE_LOADING, page_tier(word), h->cookie, page_slot(word), false);
		piece->words[i] = 0;
		if (page_state(word) != PAGE_STORED ||
		    !page_change(h->program->server, &t->region.state[piece->idx + i], word, claimed))
			continue;
		piece->words[i] = claimed;
		nr = i + 1;
	}
	piece->nr = nr;
	return nr;
}

/*
 * Give claims back from page `from` on: the pages are as they were, and who waits there faults again.
 * A page may have moved while it was ours, and been discarded there: who touched it before that was not
 * answered and waits where it is now.
 */
static void piece_unclaim(struct program *p, const struct piece *piece, uint32_t from)
{
	for (uint32_t i = from; i < piece->nr; i++) {
		uint64_t word = piece->words[i], vpn, run;
		if (!word)
			continue;
		(void)page_change(p->server, &piece->tract->region.state[piece->idx + i], word,
				  page_word(PAGE_STORED, page_tier(word), 0, page_slot(word), false));
		if (extent_place(p, piece->tract, piece->idx + i, &vpn, &run) && vpn != piece->vpn + i)
			uffd_wake(p->uffd, vpn_address(vpn), PAGE_BYTES);
	}
	uffd_wake(p->uffd, vpn_address(piece->vpn + from), (uint64_t)(piece->nr - from) * PAGE_BYTES);
}

/* A shadow saves 3 us when its page is taken out again unchanged, and costs a third of a page until then:
 * worth it for a few only. */
static bool shadow_wanted(const struct server *s)
{
	return !s->pool_bounded &&
	       atomic_load_explicit(&s->nr_shadows, memory_order_relaxed) <
		       atomic_load_explicit(&s->limit, memory_order_relaxed) / SHADOW_SHARE;
}

/* Publish pages [at, at + nr) of a piece as resident. `shadow`: keep their slots, so that taking them out
 * again unchanged is a drop. */
static void piece_publish(struct program *p, const struct piece *piece, uint32_t at, uint32_t nr, bool shadow,
			  bool slow)
{
	struct server *s = p->server;

	for (uint32_t i = at; i < at + nr; i++) {
		uint64_t word = piece->words[i];
		uint64_t to = shadow ? page_word(PAGE_RESIDENT, page_tier(word), 0, page_slot(word), true)
				     : page_word(PAGE_RESIDENT, slow, 0, 0, false);
		bool mine = page_change(s, &piece->tract->region.state[piece->idx + i], word, to);
		tide_assert(mine); /* checked under the same hold of the lock */
		if (!shadow)
			s->pool->ops->unref(s->pool, page_slot(word));
	}
	if (shadow)
		atomic_fetch_add_explicit(&s->nr_shadows, nr, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->promoted, nr, memory_order_relaxed);
}

/* How many pages from `at` on are still in our hands. */
static uint32_t piece_run(const struct piece *piece, uint32_t at)
{
	uint32_t run = 0;

	while (at + run < piece->nr && piece->words[at + run] &&
	       word_load(piece->tract, piece->idx + at + run) == piece->words[at + run])
		run++;
	return run;
}

/* Install what was decompressed: program.lock shared, mappings unchanged. */
static int piece_install(struct handler *h, const struct piece *piece)
{
	struct program *p = h->program;
	uint32_t at = 0;
	bool slow = !page_earned(piece->tract, piece->idx) && slow_room(p->server) >= piece->nr;

	page_source(p->server, slow);
	while (at < piece->nr) {
		uint64_t done, address = vpn_address(piece->vpn + at);
		uint32_t run = piece_run(piece, at);
		if (!run) { /* not ours, or discarded meanwhile: nothing of ours is left in that word */
			if (piece->words[at])
				uffd_wake(p->uffd, address, PAGE_BYTES);
			at++;
			continue;
		}
		if (!slow)
			room_take(p->server, run);
		if (!piece->quiet)
			fault_wakes(h, run);
		int error = (piece->quiet ? uffd_copy_quietly : uffd_copy)(
			p->uffd, address, h->buffer + at * PAGE_BYTES, run * PAGE_BYTES, &done);
		uint32_t installed = (uint32_t)(done / PAGE_BYTES);
		if (!slow)
			room_landed(p->server, run, installed);
		piece_publish(p, piece, at, installed, shadow_wanted(p->server), slow);
		at += installed;
		if (!error)
			continue;
		if (error == -EEXIST) {
			/* In a child of fork: its copy of a page that left the parent meanwhile. What it
			 * sees is right, and need not be what the slot holds. */
			piece_publish(p, piece, at, 1, false, false);
			uffd_wake(p->uffd, vpn_address(piece->vpn + at), PAGE_BYTES);
			at++;
			continue;
		}
		piece_unclaim(p, piece, at);
		return at ? 0 : error;
	}
	return 0;
}

/* What was decompressed into the buffer, the first `loaded` pages, goes into the program. */
static int piece_finish(struct handler *h, struct piece *piece, uint32_t loaded, uint64_t seq)
{
	struct program *p = h->program;
	bool moved = atomic_load_explicit(&p->map_seq, memory_order_relaxed) != seq;

	if (loaded < piece->nr) {
		/* A slot that does not load: lost, unless the page was discarded while we read. */
		if (!moved && word_load(piece->tract, piece->idx + loaded) == piece->words[loaded])
			program_fail(p, "the pool gave back other bytes than it was given");
		piece_unclaim(p, piece, loaded);
		piece->nr = loaded;
	}
	if (moved) { /* the pages may be elsewhere now */
		piece_unclaim(p, piece, 0);
		return -EAGAIN;
	}
	return loaded ? piece_install(h, piece) : -EAGAIN;
}

/* Bring claimed pages in. program.lock shared; it is given up meanwhile. -EAGAIN: not all, look afresh. */
static int piece_load(struct handler *h, struct piece *piece)
{
	struct program *p = h->program;
	struct tier *pool = p->server->pool;
	uint64_t seq = atomic_load_explicit(&p->map_seq, memory_order_relaxed);
	uint32_t loaded = 0;

	/* Its mapping may go meanwhile; the tract's words are to stay until we have seen that. */
	atomic_fetch_add_explicit(&piece->tract->nr_users, 1, memory_order_relaxed);
	rwlock_unlock(&p->lock);
	while (loaded < piece->nr &&
	       (!piece->words[loaded] || !pool->ops->load(pool, page_slot(piece->words[loaded]),
							  h->buffer + loaded * PAGE_BYTES)))
		loaded++;
	program_lock_shared(p);
	int error = piece_finish(h, piece, loaded, seq);
	/* Pairs with the load in server_tidy(). */
	atomic_fetch_sub_explicit(&piece->tract->nr_users, 1, memory_order_release);
	return error;
}

/* ---- windows ---- */

/* Take the next piece of a handler's window; false: nothing is left of it. */
static bool window_take(struct handler *h, uint64_t *ret_vpn, uint32_t *ret_nr)
{
	uint64_t window = atomic_load(&h->window), vpn, rest;
	uint32_t nr;

	do {
		nr = (uint32_t)(window & WINDOW_MASK);
		if (!nr)
			return false;
		vpn = window >> WINDOW_SHIFT;
		rest = nr > PIECE_PAGES ? (vpn + PIECE_PAGES) << WINDOW_SHIFT | (nr - PIECE_PAGES) : 0;
	} while (!atomic_compare_exchange_weak(&h->window, &window, rest));
	*ret_vpn = vpn;
	*ret_nr = nr < PIECE_PAGES ? nr : PIECE_PAGES;
	return true;
}

/* Bring back a piece that was taken. No lock held. */
static int window_load(struct handler *h, uint64_t vpn, uint32_t nr, bool quiet)
{
	struct program *p = h->program;
	int error = 0;

	program_lock_shared(p);
	const struct extent *e = extent_find(p, vpn);
	if (e && room_left(p->server) > 0) {
		uint64_t left = e->vpn + e->nr_pages - vpn;
		struct piece piece = {
			.tract = e->tract,
			.idx = e->idx + (vpn - e->vpn),
			.vpn = vpn,
			.nr = left < nr ? (uint32_t)left : nr,
			.quiet = quiet,
		};
		if (piece_claim(h, &piece))
			error = piece_load(h, &piece);
	}
	rwlock_unlock(&p->lock);
	return error;
}

/* The rest of a window, with whoever joins. No lock held. */
static void window_finish(struct handler *h)
{
	uint64_t vpn;
	uint32_t nr;

	for (unsigned i = 0; i < OWN_PIECES && window_take(h, &vpn, &nr); i++)
		if (window_load(h, vpn, nr, true))
			break;
	atomic_store(&h->window, 0);
	uint64_t end_ns = clock_now_ns() + JOINED_NS;
	while (atomic_load(&h->nr_joined) && clock_now_ns() < end_ns)
		cpu_pause();
}

void windows_join(struct handler *h)
{
	struct program *p = h->program;
	uint64_t vpn;
	uint32_t nr;

	/* One of the idle class may lose its CPU with pages in hand that the program wants next. */
	if (!h->normal && !atomic_load(&h->lifted))
		return;
	for (unsigned i = 0; i < p->nr_handlers; i++) {
		struct handler *other = &p->handlers[i];
		/* Joined before taking: who finds nothing left sees that we have it. */
		while (other != h && atomic_load_explicit(&other->window, memory_order_relaxed)) {
			atomic_fetch_add(&other->nr_joined, 1);
			if (window_take(other, &vpn, &nr))
				window_load(h, vpn, nr, false);
			atomic_fetch_sub(&other->nr_joined, 1);
		}
	}
}

/* Of two CPUs the other one is the mover's, while it makes room. */
static bool other_cpu_free(const struct server *s)
{
	return s->nr_cpus > 2 || atomic_load_explicit(&s->mover_idle, memory_order_relaxed);
}

enum served stored_serve(struct handler *h, struct tract *t, uint64_t idx, uint64_t vpn, uint64_t left)
{
	struct program *p = h->program;
	struct tier *pool = p->server->pool;

	pool->ops->expect(pool, page_slot(word_load(t, idx)));
	uint32_t window = intake_ahead(t, idx, TOUCH_LOAD);
	if (window > left)
		window = (uint32_t)left;
	struct piece first = {
		.tract = t,
		.idx = idx,
		.vpn = vpn,
		.nr = window < PIECE_PAGES ? window : PIECE_PAGES,
		.quiet = window > PIECE_PAGES,
	};
	piece_claim(h, &first);
	if (!first.words[0]) { /* somebody was faster */
		first.nr += !first.nr;
		piece_unclaim(p, &first, 0);
		return SERVED;
	}
	if (first.quiet) {
		atomic_store(&h->window, (vpn + PIECE_PAGES) << WINDOW_SHIFT | (window - PIECE_PAGES));
		if (other_cpu_free(p->server))
			handlers_call(h);
	}
	int error = piece_load(h, &first);
	if (!error)
		intake_touch(t, idx, 1, TOUCH_LOAD);
	else
		atomic_store(&h->window, 0);
	if (first.quiet) {
		rwlock_unlock(&p->lock);
		window_finish(h);
		fault_wakes(h, 1);
		uffd_wake(p->uffd, vpn_address(vpn), (uint64_t)window * PAGE_BYTES);
		program_lock_shared(p);
	}
	return served_as(error);
}
