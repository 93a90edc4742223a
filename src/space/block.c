/* SPDX-License-Identifier: MIT */
/*
 * Blocks: huge pages of a program that come and go in one piece.
 *
 *   fill     the first write to a block that nothing is in: a huge page of zeros, prepared before it was
 *            wanted, is moved to it
 *   return   the first touch of a block that is held as one: it is moved back as one
 *
 * Page by page a block is eight faults or more, and a huge page that is taken out or brought in by parts
 * comes apart, which costs more than to move all of it. States still change page by page: a block is 512
 * words claimed under one hold of program.lock, one move by the helper, and 512 words published. Each page
 * of it counts as touched, so that it is judged, and held again, as a whole.
 *
 * The stock is where huge pages are prepared: a few blocks of the program's address space.
 *
 *   empty ─► a byte is written to it from here; the kernel puts a huge page there ─► ready ─► moved away
 *
 * Preparing takes as long as fifty faults. So another handler of the program does it, one whose CPU has
 * nothing to do, while the program writes to the last block; or the one that serves the fault, without
 * the lock. What is ready counts as resident. Where huge pages cannot be had, or there is no room for one,
 * pages are filled in singly, as everywhere else.
 *
 * What must always hold: a block of the stock is in the hands of one thread, or in one of the two
 * bitmaps; one in `ready` was not touched by us since it was prepared, so all of it is zeros.
 */
#include <errno.h>
#include <unistd.h>

#include "assert.h"
#include "clock.h"
#include "intake.h"
#include "proc.h"
#include "program.h"
#include "uffd.h"

#define REST_NS 1000000000u   /* without huge pages: ask again after so long */
#define UNUSED_NS 1000000000u /* blocks that nobody has asked for so long are given up */
#define AHEAD_SHARE 32u       /* of the budget, at most: what is kept ready */
#define OVER_SHARE 64u        /* of the budget: by so much a block may go beyond it */

_Static_assert(BLOCK_PAGES == HELPER_PAGES_MAX, "a reply tells of a block");

static uint64_t block_address(const struct program *p, uint32_t block)
{
	return atomic_load(&p->stock.address) + ((uint64_t)block * BLOCK_PAGES << PAGE_SHIFT);
}

/* ---- the stock ---- */

void stock_open(struct program *p, uint64_t address)
{
	struct stock *stock = &p->stock;

	if (proc_memory_open(p->proc_dir, &stock->memory))
		return;
	pthread_mutex_lock(&p->hold_lock);
	stock->empty = (1u << HELPER_STOCK_BLOCKS) - 1;
	pthread_mutex_unlock(&p->hold_lock);
	atomic_store(&stock->address, address);
}

void stock_close(struct program *p)
{
	if (p->stock.memory >= 0)
		close(p->stock.memory);
}

/* Whether a block may be had: there is a stock, huge pages, and room. */
static bool stock_may(struct program *p)
{
	struct server *s = p->server;
	int64_t over = (int64_t)(atomic_load_explicit(&s->limit, memory_order_relaxed) / OVER_SHARE);

	return atomic_load(&p->stock.address) &&
	       atomic_load_explicit(&s->room, memory_order_relaxed) + over >= (int64_t)BLOCK_PAGES &&
	       atomic_load_explicit(&p->stock.rest_until_ns, memory_order_relaxed) < clock_now_ns();
}

static bool bit_take(struct program *p, uint32_t *bits, uint32_t *ret_block)
{
	pthread_mutex_lock(&p->hold_lock);
	bool any = *bits;
	if (any) {
		*ret_block = (uint32_t)__builtin_ctz(*bits);
		*bits &= *bits - 1;
	}
	pthread_mutex_unlock(&p->hold_lock);
	return any;
}

static void bit_give(struct program *p, uint32_t *bits, uint32_t block)
{
	pthread_mutex_lock(&p->hold_lock);
	*bits |= 1u << block;
	pthread_mutex_unlock(&p->hold_lock);
}

void stock_give(struct program *p, uint64_t address, bool ready)
{
	uint64_t block = (address - atomic_load(&p->stock.address)) / ((uint64_t)BLOCK_PAGES * PAGE_BYTES);

	tide_assert(block < HELPER_STOCK_BLOCKS);
	bit_give(p, ready ? &p->stock.ready : &p->stock.empty, (uint32_t)block);
}

bool stock_prepare(struct program *p)
{
	struct stock *stock = &p->stock;
	uint32_t block;
	uint8_t zero = 0;

	if (!bit_take(p, &stock->empty, &block))
		return false;
	page_source(p->server, false);
	room_take(p->server, BLOCK_PAGES);
	int error = proc_memory_write(stock->memory, block_address(p, block), &zero, sizeof zero);
	room_landed(p->server, BLOCK_PAGES, error ? 0 : BLOCK_PAGES);
	if (error)
		atomic_store(&stock->rest_until_ns, clock_now_ns() + REST_NS);
	bit_give(p, error ? &stock->empty : &stock->ready, block);
	return !error;
}

static uint32_t stock_ready(struct program *p)
{
	pthread_mutex_lock(&p->hold_lock);
	uint32_t nr = (uint32_t)__builtin_popcount(p->stock.ready);
	pthread_mutex_unlock(&p->hold_lock);
	return nr;
}

void stock_fill(struct program *p)
{
	while (!atomic_load(&p->stopping) && stock_may(p) &&
	       stock_ready(p) < atomic_load(&p->stock.nr_ahead) && stock_prepare(p))
		;
}

/* A block was asked for: there may be more to come. */
static void stock_used(struct handler *h)
{
	struct program *p = h->program;
	uint64_t most = atomic_load(&p->server->limit) / AHEAD_SHARE / BLOCK_PAGES;

	atomic_store(&p->stock.used_ns, clock_now_ns());
	atomic_store(&p->stock.nr_ahead, most < HELPER_STOCK_BLOCKS ? (uint32_t)most : HELPER_STOCK_BLOCKS);
	if (stock_ready(p) < atomic_load(&p->stock.nr_ahead))
		handlers_call(h);
}

void stock_settle(struct program *p, uint64_t now_ns)
{
	struct stock *stock = &p->stock;
	uint32_t block;

	if (!atomic_load(&stock->nr_ahead) || now_ns - atomic_load(&stock->used_ns) < UNUSED_NS)
		return;
	atomic_store(&stock->nr_ahead, 0);
	helper_lock_take(p);
	while (helper_ready(p) && bit_take(p, &stock->ready, &block)) {
		p->command.op = HELPER_DROP;
		p->command.nr_runs = 1;
		p->command.runs[0] = (struct helper_run){
			.dst = block_address(p, block),
			.bytes = (uint64_t)BLOCK_PAGES * PAGE_BYTES,
		};
		if (helper_call(p)) /* no helper: nobody will want it; or it is given back with the reply */
			break;
		bit_give(p, &stock->empty, block);
	}
	pthread_mutex_unlock(&p->helper_lock);
}

/* ---- moving ---- */

/* The block around a page, all of it in the page's extent. */
struct block {
	struct program *program;
	struct tract *tract;
	uint64_t vpn, idx; /* of its first page */
};

static bool block_around(struct program *p, const struct extent *e, uint64_t vpn, struct block *ret)
{
	uint64_t first = vpn & ~(uint64_t)(BLOCK_PAGES - 1);

	if (first < e->vpn || first + BLOCK_PAGES > e->vpn + e->nr_pages)
		return false;
	*ret = (struct block){ p, e->tract, first, e->idx + (first - e->vpn) };
	return true;
}

static _Atomic uint64_t *block_state(const struct block *b, uint32_t i)
{
	return &b->tract->region.state[b->idx + i];
}

static uint64_t block_word(const struct block *b, uint32_t i)
{
	return atomic_load_explicit(block_state(b, i), memory_order_acquire);
}

static bool block_change(const struct block *b, uint32_t i, uint64_t from, uint64_t to)
{
	return page_change(b->program->server, block_state(b, i), from, to);
}

/* Have the huge page at `src` moved to a block whose pages are claimed. helper_lock held; afterwards
 * p->reply tells of each page. An error: nothing was moved. */
static int block_move(const struct block *b, uint64_t src)
{
	struct program *p = b->program;

	helper_follow(p);
	p->command.op = HELPER_PUT;
	p->command.nr_runs = 1;
	p->command.runs[0] = (struct helper_run){
		.dst = b->vpn << PAGE_SHIFT,
		.src = src,
		.bytes = (uint64_t)BLOCK_PAGES * PAGE_BYTES,
	};
	int error = helper_call(p);
	bool overdue = error == -EINPROGRESS;
	if (overdue)
		error = put_revoke(p);
	/* It died in the middle, or cannot be kept from going on: nobody knows where these pages are. */
	if ((error == -EPIPE || (overdue && error)) && !atomic_load(&p->gone) && uffd_alive(p->uffd))
		program_fail(p, overdue ? "its helper is frozen while it moves a block"
					: "its helper ended while it moved a block");
	return error ? error : (int)p->reply.result;
}

/*
 * Have the helper, or what becomes of the fault without it: SERVED is not among that. Only tried: who has
 * it may be waiting for our lock. Whoever populates waits for a fault of the helper's own, mostly this one.
 */
static bool block_helper(struct program *p, enum served *ret_without)
{
	if (pthread_mutex_trylock(&p->helper_lock)) {
		*ret_without = atomic_load(&p->populating) ? SERVE_SINGLY : SERVE_AGAIN;
		return false;
	}
	if (helper_ready(p))
		return true;
	pthread_mutex_unlock(&p->helper_lock);
	*ret_without = SERVE_SINGLY;
	return false;
}

static void block_wake(struct handler *h, const struct block *b)
{
	fault_wakes(h, 1);
	uffd_wake(b->program->uffd, b->vpn << PAGE_SHIFT, (uint64_t)BLOCK_PAGES * PAGE_BYTES);
}

static bool page_moved(const struct program *p, int error, uint32_t i)
{
	return !error && p->reply.outcome[i] == HELPER_MOVED;
}

/* ---- fill ---- */

static bool block_absent(const struct block *b)
{
	for (uint32_t i = 0; i < BLOCK_PAGES; i++)
		if (page_state(block_word(b, i)) != PAGE_ABSENT)
			return false;
	return true;
}

/* Claim the pages of an absent block: all, or how many. */
static uint32_t block_claim(const struct block *b, uint64_t filling)
{
	uint32_t nr = 0;

	while (nr < BLOCK_PAGES && !block_word(b, nr) && page_claim(b->tract, b->idx + nr, filling))
		nr++;
	return nr;
}

/* Words of a block that was filled as far as the reply says; its first `nr` pages are claimed. Returns
 * how many pages came. */
static uint32_t fill_publish(const struct block *b, uint64_t filling, uint32_t nr, int error)
{
	uint64_t resident = page_word(PAGE_RESIDENT, 0, 0, 0, false);
	uint32_t came = 0;

	for (uint32_t i = 0; i < nr; i++) {
		bool moved = page_moved(b->program, error, i);
		bool mine = block_change(b, i, filling, moved ? resident : 0);
		tide_assert(mine); /* nobody else changes it under the lock */
		came += moved;
	}
	return came;
}

/* Where a block of the stock is after the move ended so. */
static void stock_back(struct program *p, struct tract *t, uint32_t block, int error)
{
	struct stock *stock = &p->stock;

	if (error == -EINVAL) /* a mapping that nothing is moved to: another protection, mlock */
		atomic_store_explicit(&t->huge, false, memory_order_relaxed);
	if (error == -ENODATA)
		atomic_store(&stock->rest_until_ns, clock_now_ns() + REST_NS);
	bit_give(p, !error || error == -ENODATA ? &stock->empty : &stock->ready, block);
}

enum served block_fill(struct handler *h, const struct extent *e, uint64_t vpn)
{
	struct program *p = h->program;
	struct block b;
	enum served without;
	uint32_t block, came = 0;
	uint64_t filling = page_word(PAGE_FILLING, 0, h->cookie, 0, false);
	int error = -EBUSY;

	if (!atomic_load_explicit(&e->tract->huge, memory_order_relaxed) ||
	    !block_around(p, e, vpn, &b) || !block_absent(&b) || !stock_may(p))
		return SERVE_SINGLY;
	if (!bit_take(p, &p->stock.ready, &block))
		return SERVE_PREPARE;
	if (!block_helper(p, &without)) {
		bit_give(p, &p->stock.ready, block);
		return without;
	}
	stock_used(h);
	uint32_t nr = block_claim(&b, filling);
	if (nr == BLOCK_PAGES)
		error = block_move(&b, block_address(p, block));
	came = fill_publish(&b, filling, nr, error);
	bool whole = came && p->reply.whole, here = page_moved(p, error, (uint32_t)(vpn - b.vpn));
	bool frozen = atomic_load(&p->frozen); /* with the reply it is given back */
	pthread_mutex_unlock(&p->helper_lock);
	if (!frozen)
		stock_back(p, b.tract, block, error);
	atomic_fetch_add_explicit(&p->server->huge_filled, whole, memory_order_relaxed);
	if (came) /* what was taken from the room in stock_prepare() */
		intake_touch(b.tract, b.idx, BLOCK_PAGES, TOUCH_FILL);
	block_wake(h, &b);
	return here ? SERVED : error == -EAGAIN ? SERVE_AGAIN : SERVE_SINGLY;
}

/* ---- return ---- */

/* Whether page i of a block is held in its place of the block of places from `place` on. */
static bool page_held(uint64_t word, uint32_t place, uint32_t i)
{
	return page_state(word) == PAGE_HELD && page_place(word) == place + i;
}

static bool block_held(const struct block *b, uint32_t place)
{
	for (uint32_t i = 0; i < BLOCK_PAGES; i++)
		if (!page_held(block_word(b, i), place, i))
			return false;
	return true;
}

static uint32_t held_claim(const struct block *b, uint32_t place)
{
	uint32_t nr = 0;

	for (; nr < BLOCK_PAGES; nr++) {
		uint64_t word = block_word(b, nr);
		/* The mover may be at it: it begins to store. */
		if (!page_held(word, place, nr) ||
		    !block_change(b, nr, word, page_word_as(word, PAGE_RETURNING)))
			break;
	}
	return nr;
}

static uint32_t held_publish(const struct block *b, uint32_t place, uint32_t nr, int error)
{
	uint32_t came = 0;

	for (uint32_t i = 0; i < nr; i++) {
		uint64_t word = block_word(b, i), to = page_word_as(word, PAGE_HELD);
		bool moved = page_moved(b->program, error, i);
		if (moved)
			to = page_word_back(word);
		bool mine = block_change(b, i, word, to);
		tide_assert(mine); /* nobody else changes it under the lock */
		if (moved)
			hold_untake(b->program, place + i, 1);
		came += moved;
	}
	return came;
}

enum served block_return(struct handler *h, const struct extent *e, uint64_t vpn, uint64_t word)
{
	struct program *p = h->program;
	struct block b;
	enum served without;
	uint32_t at = (uint32_t)(vpn % BLOCK_PAGES), place = page_place(word) - at;
	int error = -EBUSY;

	/* One on the slow node is looked at singly: it may have earned a place on the fast one. */
	if (page_slow(word) || page_place(word) % BLOCK_PAGES != at || !block_around(p, e, vpn, &b) ||
	    !hold_may_be_whole(p, place) || !block_held(&b, place))
		return SERVE_SINGLY;
	if (!block_helper(p, &without))
		return without;
	uint32_t nr = held_claim(&b, place);
	if (nr == BLOCK_PAGES)
		error = block_move(&b, hold_address(p, place));
	uint32_t came = held_publish(&b, place, nr, error);
	bool whole = came && p->reply.whole, here = page_moved(p, error, at);
	if (error != -EAGAIN) /* before another huge page can come there */
		hold_whole(p, place, false);
	pthread_mutex_unlock(&p->helper_lock);
	atomic_fetch_add_explicit(&p->server->huge_returned, whole, memory_order_relaxed);
	if (came)
		intake_touch(b.tract, b.idx, BLOCK_PAGES, TOUCH_RETURN);
	block_wake(h, &b);
	return here ? SERVED : error == -EAGAIN ? SERVE_AGAIN : SERVE_SINGLY;
}
