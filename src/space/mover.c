/* SPDX-License-Identifier: MIT */
/*
 * The mover: one thread that measures memory, asks the engine for a plan and carries it out.
 *
 *   hold   pages leave the program for the hold area: posted as an order (order.c), which the program's
 *          handlers carry out meanwhile; what they leave undone is done here
 *   store  claim HELD pages (STORING) ─► read them from the hold area ─► pool ─► STORED
 *          a page with a shadow is compared with it first: unchanged, it needs no write
 *   demote HELD pages move from the fast node to the slow one where they are, in the hold area; a touch
 *          meanwhile waits for the kernel and takes its page back, and the mover finds that out
 *   drop   what is no longer needed in the hold area, in one command
 *
 * A store reads and compresses without program.lock; a touch takes the page back by changing its word,
 * and the store then finds that out. It publishes under the lock, so that a fork sees a page either in
 * the hold area or in the pool. No place of the hold area is given to another page during store and
 * demote: they come first in a plan, and places are dropped by orders only.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "assert.h"
#include "bell.h"
#include "clock.h"
#include "futex.h"
#include "intake.h"
#include "move.h"
#include "proc.h"
#include "number.h"
#include "program.h"
#include "spend.h"
#include "thread.h"
#include "uffd.h"

#define PLAN_MOVES 256u
/* Without a page demoted for so long there is no room to wait for. A round counts for an eighth of that at most: on a
 * busy machine a single one may take as long. Where mappings were just changing, an eighth of it counts: a thread that
 * has an event behind it and waits for its CPU ends that soon. */
#define STUCK_NS 100000000u
#define STUCK_ROUNDS 8u
#define LEFT_SHARE 8u /* of the limit */
#define LEFT_PARTS 10u /* of the time, of which looking what is left may take one: handlers wait meanwhile */
#define REST_MS 10u
#define REST_MS_MAX 80u /* what grows unmanaged meanwhile is over the budget for no longer */
#define WATCH_MS_MAX 250u /* once nothing grows, however little of the time watching may take */
#define STORE_CHUNK 32u /* pages read at once: 128 KiB stay in the second-level cache */
#define DEMOTE_CHUNK MOVE_CALL_PAGES_MAX

/* A page on its way to the slow node. */
struct demoting {
	struct tract *tract;
	struct move_result *result;
	uint64_t idx, word;
};

struct mover {
	struct server *server;
	struct move plan[PLAN_MOVES];
	struct move_result results[PLAN_MOVES];
	uint8_t *buffer; /* STORE_CHUNK pages */
	struct move_pace pace;
	struct demoting demoting[DEMOTE_CHUNK];
	uint64_t addresses[DEMOTE_CHUNK];
	uint8_t status[DEMOTE_CHUNK];
	uint32_t nr_demoting;
	bool refused;    /* the last round met a full pool */
	bool unsettled;  /* in it pages were no longer, or just not then, as the plan had them */
	uint64_t round_ns; /* when the last one ended, and */
	uint64_t vain_ns;  /* for how long no page was demoted, and there was no room anyway */
	uint64_t resident; /* pages, at the last round */
	unsigned rest_ms;  /* until the next one, if nobody wakes it */
	struct spend left; /* looking whether hardly a page is left, and */
	bool none_left;    /* what that told */
	uint32_t watch_ppm; /* of one core, for watching; not before this: */
	uint64_t watch_ns;
	uint64_t counted_ns; /* thread time that is accounted for */
};

void mover_wake(struct server *s)
{
	futex_signal(&s->work);
}

void mover_place(struct server *s, const cpu_set_t *used)
{
	cpu_set_t cpus;
	pid_t tid = atomic_load(&s->mover_tid);

	CPU_ZERO(&cpus);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &s->cpus) && !CPU_ISSET(cpu, used))
			CPU_SET(cpu, &cpus);
	if (!CPU_COUNT(&cpus))
		cpus = s->cpus;
	if (tid)
		thread_spread(tid, &cpus);
	thread_spread(getpid(), &cpus);
}

/* ---- store ---- */

struct storing {
	struct tract *tract;
	struct move_result *result;
	uint64_t idx, word;
};

/* Claim pages of a move from *at on into claimed[nr ..]; returns how many there are then. */
static uint32_t store_claim(const struct move *m, uint64_t *at, struct storing *claimed, uint32_t nr,
			    struct move_result *result)
{
	struct tract *t = move_tract(m);

	for (; *at < m->first + m->nr_pages && nr < STORE_CHUNK; (*at)++) {
		_Atomic uint64_t *state = &t->region.state[*at];
		uint64_t word = atomic_load_explicit(state, memory_order_acquire);
		uint64_t storing = page_word_as(word, PAGE_STORING);
		if (page_state(word) == PAGE_HELD && page_change(t->program->server, state, word, storing))
			claimed[nr++] = (struct storing){ t, result, *at, storing };
		else
			result->nr_pages[page_state(word) == PAGE_RESIDENT ? MOVE_DROP_TOUCHED
									   : MOVE_DROP_CHANGED]++;
	}
	return nr;
}

/* Bring a page that the pool refused back into the program. */
static void store_refused(const struct storing *c, const void *page)
{
	struct tract *t = c->tract;
	struct program *p = t->program;
	_Atomic uint64_t *state = &t->region.state[c->idx];
	uint64_t vpn, run, returning = page_word_as(c->word, PAGE_RETURNING);
	int error;

	/* Under the lock; an event that was read meanwhile has changed the word. */
	if (!page_change(p->server, state, c->word, returning))
		return;
	if (extent_place(p, t, c->idx, &vpn, &run)) {
		held_install(p, t, c->idx, vpn, &returning, 1, page, page_slow(c->word), &error);
	} else {
		bool mine = page_change(p->server, state, returning, page_word_as(c->word, PAGE_HELD));
		tide_assert(mine);
	}
}

/* Publish one stored page, or give it back. program.lock shared. */
static enum move_reason store_publish(const struct storing *c, int error, uint32_t slot,
				      const void *page)
{
	struct tract *t = c->tract;
	struct program *p = t->program;
	struct tier *pool = p->server->pool;
	_Atomic uint64_t *state = &t->region.state[c->idx];

	if (!error) {
		bool same = page_shadow(c->word) && slot == page_slot(c->word);
		if (!page_change(p->server, state, c->word, page_word(PAGE_STORED, 0, 0, slot, false))) {
			if (!same)
				pool->ops->unref(pool, slot);
			return MOVE_DROP_TOUCHED;
		}
		hold_release(p, page_place(c->word));
		if (page_shadow(c->word))
			atomic_fetch_sub_explicit(&p->server->nr_shadows, 1, memory_order_relaxed);
		if (page_shadow(c->word) && !same)
			pool->ops->unref(pool, page_slot(c->word));
		return MOVE_OK;
	}
	if (error == -E2BIG) {
		store_refused(c, page);
		return MOVE_FAIL_REFUSED;
	}
	/* Touched meanwhile: then there is nothing to give back. */
	if (!page_change(p->server, state, c->word, page_word_as(c->word, PAGE_HELD)))
		return MOVE_DROP_TOUCHED;
	return error == -ENOSPC ? MOVE_FAIL_FULL : MOVE_FAIL_IO;
}

static void store_chunk(struct mover *v, struct program *p, const struct storing *claimed, uint32_t nr)
{
	struct server *s = v->server;
	uint64_t words[STORE_CHUNK] = { 0 };
	uint32_t slots[STORE_CHUNK];
	int errors[STORE_CHUNK];

	for (uint32_t i = 0; i < nr; i++)
		words[i] = claimed[i].word;
	int unread = held_read(p, words, nr, v->buffer);
	for (uint32_t i = 0; i < nr; i++) {
		const uint8_t *page = v->buffer + i * PAGE_BYTES;
		errors[i] = unread;
		slots[i] = page_slot(claimed[i].word);
		if (unread)
			continue;
		/* The shadow's reference is the word's: good until the word changes, and if it has, the
		 * answer is thrown away. */
		if (page_shadow(claimed[i].word) && !s->pool->ops->compare(s->pool, slots[i], page))
			atomic_fetch_add_explicit(&s->shadow_drops, 1, memory_order_relaxed);
		else
			errors[i] = s->pool->ops->store(s->pool, page, &slots[i]);
	}
	program_lock_shared(p);
	for (uint32_t i = 0; i < nr; i++)
		claimed[i].result->nr_pages[store_publish(&claimed[i], errors[i], slots[i],
							  v->buffer + i * PAGE_BYTES)]++;
	rwlock_unlock(&p->lock);
}

/* Carry out store moves of one program. */
static void store_group(struct mover *v, const struct move *moves, size_t nr,
			struct move_result *results)
{
	struct program *p = move_tract(moves)->program;
	struct storing claimed[STORE_CHUNK];
	uint32_t nr_claimed = 0;

	for (size_t i = 0; i < nr; i++) {
		uint64_t at = moves[i].first;
		while (at < moves[i].first + moves[i].nr_pages) {
			nr_claimed = store_claim(&moves[i], &at, claimed, nr_claimed, &results[i]);
			if (nr_claimed < STORE_CHUNK)
				break;
			store_chunk(v, p, claimed, nr_claimed);
			nr_claimed = 0;
		}
	}
	if (nr_claimed)
		store_chunk(v, p, claimed, nr_claimed);
}

/* ---- demote ---- */

static enum move_reason demote_reason(enum move_status status)
{
	switch (status) {
	case MOVE_DONE:
	case MOVE_NO_RANGE: /* the page of zeros: no memory of any node */
		return MOVE_OK;
	case MOVE_NO_PAGE:
		return MOVE_DROP_GONE;
	case MOVE_NO_MEMORY:
		return MOVE_FAIL_FULL;
	case MOVE_SHARED:
	case MOVE_ISOLATED:
	case MOVE_HELD:
		return MOVE_FAIL_BUSY;
	case MOVE_NOT_TRIED:
		break;
	}
	return MOVE_FAIL_IO;
}

static void demote_flush(struct mover *v, struct program *p)
{
	struct server *s = v->server;

	/* Whatever it says, the pages' contents are where they were: in the hold area. */
	(void)move_to(p->helper_pid, v->addresses, v->nr_demoting, PAGE_BYTES, s->nodes[1], false, &v->pace,
		      v->status);
	program_lock_shared(p);
	for (uint32_t i = 0; i < v->nr_demoting; i++) {
		const struct demoting *d = &v->demoting[i];
		enum move_reason reason = demote_reason((enum move_status)v->status[i]);
		if (reason == MOVE_OK && !page_change(s, &d->tract->region.state[d->idx], d->word,
						      page_word_on(d->word, true)))
			reason = MOVE_DROP_TOUCHED;
		d->result->nr_pages[reason]++;
	}
	rwlock_unlock(&p->lock);
	v->nr_demoting = 0;
}

/* Carry out demote moves of one program. */
static void demote_group(struct mover *v, const struct move *moves, size_t nr, struct move_result *results)
{
	struct program *p = move_tract(moves)->program;

	for (size_t i = 0; i < nr; i++) {
		struct tract *t = move_tract(&moves[i]);
		for (uint64_t at = moves[i].first; at < moves[i].first + moves[i].nr_pages; at++) {
			uint64_t word = atomic_load_explicit(&t->region.state[at], memory_order_acquire);
			if (page_state(word) != PAGE_HELD || page_slow(word) || page_shadow(word)) {
				results[i].nr_pages[MOVE_DROP_CHANGED]++;
				continue;
			}
			v->addresses[v->nr_demoting] = hold_address(p, page_place(word));
			v->demoting[v->nr_demoting++] = (struct demoting){ t, &results[i], at, word };
			if (v->nr_demoting == DEMOTE_CHUNK)
				demote_flush(v, p);
		}
	}
	if (v->nr_demoting)
		demote_flush(v, p);
}

/* ---- measure, plan, carry out ---- */

/* New memory of a program fills unseen until it is adopted: the keeper is not to wait for its next look. */
static void growth_tell(struct program *p, uint64_t size_pages)
{
	if (p->measured_size_pages == size_pages)
		return;
	p->measured_size_pages = size_pages;
	bool grown = size_pages != atomic_load(&p->seen_size_pages);
	atomic_store(&p->grown, grown);
	if (grown)
		(void)bell_ring(p->server->keeper_bell); /* else at its next look */
}

/* Resident anonymous pages of a program; with forked children, pages shared are counted once. */
static uint64_t program_measure(struct program *p, uint64_t now_ns)
{
	uint64_t size, anon, bytes;

	if (p->statm < 0 || atomic_load(&p->gone) || proc_statm_read(p->statm, &size, &anon))
		return 0;
	growth_tell(p, size);
	if (p->nr_family > 1) {
		/* Walks page tables: not more than ten times a second. */
		uint64_t landed = room_begin(p->server);
		if (now_ns - p->looked_ns > 100000000 && !proc_pss_anon(p->proc_dir, &bytes)) {
			p->anon_pages = bytes / PAGE_BYTES;
			p->looked_ns = now_ns;
			p->looked_landed = landed;
			p->looked_left = pages_left(p->server);
		}
		return p->anon_pages;
	}
	p->anon_pages = anon;
	return anon;
}

/* A family is measured now and then: how much more it may have by now, if all that came since is its own. */
static uint64_t program_since(const struct program *p, uint64_t landed, uint64_t left)
{
	if (p->nr_family < 2 || !p->looked_ns || p->proc_dir < 0)
		return 0;
	return minus(minus(landed, p->looked_landed), minus(left, p->looked_left));
}

static void server_measure(struct server *s, uint64_t now_ns, struct engine_need *need)
{
	uint64_t left = pages_left(s), landed = room_begin(s), since = 0;
	uint64_t resident = atomic_load(&s->unhelped_pages);

	int64_t slow = atomic_load(&s->slow), slow_held = atomic_load(&s->slow_held);

	budget_split(s);
	*need = (struct engine_need){ .limit = atomic_load(&s->limit) };
	for (struct program *p = s->programs; p; p = p->next) {
		resident += program_measure(p, now_ns);
		uint64_t one = program_since(p, landed, left);
		since = one > since ? one : since;
		if (atomic_load(&p->frozen)) /* nothing comes or goes there: its pages just have to stay */
			continue;
		pthread_mutex_lock(&p->hold_lock); /* the keeper may be opening it */
		need->held += p->hold.nr_used;
		need->held_max += hold_room(p);
		pthread_mutex_unlock(&p->hold_lock);
	}
	/* The counts of other threads may come in any order. */
	if (s->slow_bound) {
		need->slow = slow > 0 ? (uint64_t)slow : 0;
		need->slow_held = slow_held > 0 ? (uint64_t)slow_held : 0;
		need->slow_max = atomic_load(&s->slow_max);
		need->slow_wait_ns = atomic_load(&s->slow_wait_ns);
		need->slow_last = s->slow_last;
		need->held -= need->slow_held < need->held ? need->slow_held : need->held;
		need->held_max -= need->slow_held < need->held_max ? need->slow_held : need->held_max;
		resident -= need->slow < resident ? need->slow : resident;
		if (need->slow > s->peak_slow)
			s->peak_slow = need->slow;
	}
	resident += since;
	need->resident = resident;
	need->filling = atomic_load(&s->nr_waiting);
	room_measured(s, resident, landed);
}

/* How many moves from the first on are alike: same program, same operation. */
static size_t group_length(const struct move *moves, size_t nr)
{
	size_t n = 1;

	while (n < nr && moves[n].op == moves[0].op &&
	       move_tract(&moves[n])->program == move_tract(&moves[0])->program)
		n++;
	return n;
}

/* What a plan has for programs that have ended, or of which nothing can be taken out or dropped just now. */
static void group_leave(const struct move *moves, size_t nr, struct move_result *results, enum move_reason why)
{
	for (size_t i = 0; i < nr; i++)
		results[i].nr_pages[why] = moves[i].nr_pages;
}

/* Returns whether any page moved. */
static bool plan_run(struct mover *v, size_t nr, struct engine_need *need)
{
	struct server *s = v->server;
	struct move_result *results = v->results;
	bool moved = false;

	v->unsettled = false;
	memset(results, 0, nr * sizeof *results);
	for (size_t i = 0, group; i < nr; i += group) {
		struct move *moves = &v->plan[i];
		struct program *p = move_tract(moves)->program;
		group = group_length(moves, nr - i);
		/* Pages are moved between nodes by the number of somebody who has them. */
		if (atomic_load(&p->gone) || (moves->op == MOVE_DEMOTE && !p->helper_pid))
			group_leave(moves, group, &results[i], MOVE_DROP_GONE);
		else if (atomic_load(&p->frozen) && moves->op != MOVE_DEMOTE)
			group_leave(moves, group, &results[i], MOVE_FAIL_BUSY);
		else if (moves->op == MOVE_STORE)
			store_group(v, moves, group, &results[i]);
		else if (moves->op == MOVE_DEMOTE)
			demote_group(v, moves, group, &results[i]);
		else
			order_post(p, moves, group, &results[i]);
	}
	/* By the moves: a child just forked is not yet on the list of programs. */
	for (size_t i = 0; i < nr; i++)
		order_finish(move_tract(&v->plan[i])->program);
	for (struct program *p = s->programs; p; p = p->next)
		order_settle(p);
	pthread_mutex_lock(&s->engine_lock);
	for (size_t i = 0; i < nr; i++) {
		if (v->plan[i].op == MOVE_STORE) {
			atomic_fetch_add_explicit(&s->demoted, results[i].nr_pages[MOVE_OK],
						  memory_order_relaxed);
			need->store_full |= results[i].nr_pages[MOVE_FAIL_FULL] > 0;
		}
		if (v->plan[i].op == MOVE_DEMOTE)
			atomic_fetch_add_explicit(&s->lowered, results[i].nr_pages[MOVE_OK],
						  memory_order_relaxed);
		moved |= results[i].nr_pages[MOVE_OK] > 0;
		v->unsettled |= results[i].nr_pages[MOVE_DROP_CHANGED] > 0;
		intake_complete(s, v->plan[i].id, &results[i]);
	}
	pthread_mutex_unlock(&s->engine_lock);
	return moved;
}

static void server_tidy(struct server *s)
{
	pthread_mutex_lock(&s->dead_lock);
	for (struct tract **at = &s->dead_tracts; *at;) {
		struct tract *t = *at;
		/* Pairs with the end of serve_stored(). No extent leads to it: none can begin. */
		if (atomic_load_explicit(&t->nr_users, memory_order_acquire)) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		tract_free(t);
	}
	pthread_mutex_unlock(&s->dead_lock);
}

/*
 * Who asks for room wakes the mover; between that it watches by itself, for memory that is not managed yet tells
 * nothing. While nothing is planned and nothing grows it looks less and less often: programs may be asleep. Watching
 * is voluntary, and once nothing has grown for a while it keeps to its share of the time; what fills memory after
 * that the keeper sees. What else the mover does, and a look before its share allows for it, is forced.
 */
static void rest_settle(struct mover *v, size_t nr_planned, const struct engine_need *need, uint64_t now_ns)
{
	struct server *s = v->server;
	uint64_t cpu_ns = clock_thread_cpu_ns(), took_ns = cpu_ns - v->counted_ns;
	bool watched = !nr_planned && !need->filling && need->resident < need->limit;
	bool quiet = watched && need->resident == v->resident;

	v->counted_ns = cpu_ns;
	atomic_fetch_add(watched && now_ns >= v->watch_ns ? &s->voluntary_ns : &s->forced_ns, took_ns);
	v->resident = need->resident;
	v->rest_ms = quiet ? (unsigned)least(2 * v->rest_ms, REST_MS_MAX) : REST_MS;
	if (!watched)
		return;
	uint64_t wait_ns = took_ns * 1000000 / v->watch_ppm;
	v->watch_ns = now_ns + wait_ns;
	if (v->rest_ms == REST_MS_MAX && wait_ns > REST_MS_MAX * UINT64_C(1000000))
		v->rest_ms = (unsigned)least(wait_ns / 1000000 + 1, WATCH_MS_MAX);
}

/* Whether hardly a page is left that would move: then it is no use to wait for one. plan_lock held. */
static bool hardly_any_left(struct server *s)
{
	uint64_t resident, left_alone;

	pthread_mutex_lock(&s->engine_lock);
	engine_left_alone(s->engine, &resident, &left_alone);
	pthread_mutex_unlock(&s->engine_lock);
	return left_alone && resident - left_alone < atomic_load(&s->limit) / LEFT_SHARE;
}

/* With --hard, while it is stuck. plan_lock held. */
static bool none_left(struct mover *v)
{
	struct server *s = v->server;
	uint64_t now_ns = clock_now_ns(), began_ns = clock_thread_cpu_ns();

	if (!s->hard || !atomic_load(&s->stuck))
		v->none_left = false;
	else if (spend_due(&v->left, LEFT_PARTS, now_ns)) {
		v->none_left = hardly_any_left(s);
		v->left = (struct spend){ clock_now_ns(), clock_thread_cpu_ns() - began_ns };
	}
	return v->none_left;
}

/*
 * One round: measure, plan, carry out, tidy, measure again if there was a plan. Returns whether to go on at once.
 */
static bool mover_round(struct mover *v)
{
	struct server *s = v->server;
	struct engine_need need;
	bool again = false;

	plan_lock_take(s);
	server_measure(s, clock_now_ns(), &need);
	need.store_full = v->refused;
	pthread_mutex_lock(&s->engine_lock);
	size_t nr = intake_step(s, &need, v->plan, PLAN_MOVES, &again);
	pthread_mutex_unlock(&s->engine_lock);
	need.store_full = false;
	uint64_t left = pages_left(s);
	bool moved = plan_run(v, nr, &need);
	bool progress = pages_left(s) != left;
	v->refused = need.store_full;
	server_tidy(s);
	for (struct program *p = s->programs; p; p = p->next) {
		helper_thaw(p);
		stock_settle(p, clock_now_ns());
	}
	if (nr)
		server_measure(s, clock_now_ns(), &need);
	atomic_store(&s->all_refused, none_left(v));
	pthread_mutex_unlock(&s->plan_lock);

	uint64_t now_ns = clock_now_ns(), took_ns = now_ns - v->round_ns;
	v->round_ns = now_ns;
	rest_settle(v, nr, &need, now_ns);
	if (took_ns > STUCK_NS / STUCK_ROUNDS)
		took_ns = STUCK_NS / STUCK_ROUNDS;
	v->vain_ns += v->unsettled ? took_ns / STUCK_ROUNDS : took_ns;
	if (progress || need.resident < need.limit)
		v->vain_ns = 0;
	atomic_store(&s->stuck, v->vain_ns > STUCK_NS);
	futex_signal(&s->space);
	/* A round in vain is not repeated at once: nothing has changed. What little is left to do within
	 * the budget waits until it makes a batch. But while room is wanted, the search for pages goes on until
	 * the engine has looked everywhere. */
	if (!nr)
		return again && (need.filling || need.resident > need.limit);
	return (again || need.resident > need.limit) && moved;
}

static void *mover_main(void *arg)
{
	struct mover *v = arg;
	struct server *s = v->server;

	thread_hurry(0, PRIORITY_MOVER);
	atomic_store(&s->mover_tid, gettid());
	while (!atomic_load(&s->stopping)) {
		uint32_t seen = atomic_load(&s->work);
		bool again = mover_round(v);
		if (again)
			continue;
		atomic_store(&s->mover_idle, true);
		futex_wait(&s->work, seen, atomic_load(&s->nr_waiting) ? 1 : v->rest_ms);
		atomic_store(&s->mover_idle, false);
	}
	munmap(v->buffer, STORE_CHUNK * PAGE_BYTES);
	free(v);
	return NULL;
}

int mover_start(struct server *s, uint32_t watch_ppm, pthread_t *ret_thread)
{
	struct mover *v = calloc(1, sizeof *v);
	if (!v)
		return -ENOMEM;
	v->server = s;
	v->round_ns = clock_now_ns();
	v->rest_ms = REST_MS;
	v->watch_ppm = watch_ppm;
	move_pace_init(&v->pace, MOVE_STALL_NS);
	v->buffer = mmap(NULL, STORE_CHUNK * PAGE_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int error = v->buffer == MAP_FAILED ? ENOMEM : pthread_create(ret_thread, NULL, mover_main, v);
	if (error) {
		if (v->buffer != MAP_FAILED)
			munmap(v->buffer, STORE_CHUNK * PAGE_BYTES);
		free(v);
	}
	return -error;
}
