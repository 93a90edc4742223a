/* SPDX-License-Identifier: MIT */
/*
 * The budget: how many pages the programs may have in memory, and what is left of it.
 *
 *   control group, --memory, machine ─► bound ─ pool, tables ─► limit ─ resident ─ granted ─► room
 *
 *   bound   on all memory, ours too. Found anew each second: limits change, and so does what others in the
 *           group have.
 *   limit   on what the programs have resident; --tier dram: bounds it too. While pages go out the pool
 *           grows by hundreds of MiB a second: the bound is split anew with each measurement.
 *   room    what handlers may still install. A handler takes it before it installs pages, and says
 *           afterwards how many landed. A measurement counts as resident what landed before it began;
 *           what was taken and has not landed by then is counted beside it, twice if it lands meanwhile.
 *           So however late a measurement comes, nobody is given the same room twice.
 *
 * What must hold: the bound and the limit change under plan_lock only, the bound by the keeper.
 */
#include <limits.h>

#include "limit.h"
#include "node.h"
#include "number.h"
#include "place.h"
#include "proc.h"
#include "program.h"

#define NODE_KEPT_BYTES (8u << 20)
#define LEAST_PAGES 1024u /* however little there is: nothing runs in less */
/* A pool that eats everything would leave no room to run at all. */
#define LEAST_SHARE 8u
/* Of a control group's limit this is spare, as the kernel's own memory is charged too, and as new memory
 * fills for some milliseconds before it is adopted; in a small group at most a quarter. */
#define GROUP_SPARE_SHARE 10u
#define GROUP_SPARE_BYTES (64u << 20)
#define MACHINE_FREE_SHARE 20u
/* From so far below the limit on memory is tight; with a small limit half of it. */
#define EDGE_SHARE 8u
#define EDGE_PAGES 8192u

/* The counts of other threads may come in any order. */
static uint64_t slow_pages(const struct server *s)
{
	int64_t slow = atomic_load(&s->slow);

	return s->slow_bound && slow > 0 ? (uint64_t)slow : 0;
}

/* ---- the bound ---- */

/* Our own memory: the pool, the tables, and the rest of us. */
static uint64_t own_bytes(const struct server *s)
{
	uint64_t size, anon;

	return proc_statm_read(s->own_statm, &size, &anon) ? 0 : anon * PAGE_BYTES;
}

/* All that is charged for us and the programs, as of now. Keeper. */
static uint64_t ours_bytes(const struct server *s)
{
	uint64_t pages = atomic_load(&s->unhelped_pages);

	for (const struct program *p = s->programs; p; p = p->next) {
		uint64_t size, anon = p->anon_pages;
		/* Shared pages of a family count once: as they were measured. */
		if (p->statm >= 0 && p->nr_family < 2)
			(void)proc_statm_read(p->statm, &size, &anon);
		pages += anon;
	}
	return own_bytes(s) + pages * PAGE_BYTES;
}

struct group_look {
	const struct server *server;
	struct budget_reading *reading;
};

static uint64_t group_spare(uint64_t limit)
{
	uint64_t most = least(GROUP_SPARE_BYTES, limit / 4);

	return limit / GROUP_SPARE_SHARE > most ? limit / GROUP_SPARE_SHARE : most;
}

/* What we and the programs may have in a group: 90 % of its limit, unless what others in it have leaves
 * less; half of what is spare is never given up. */
static void group_take(void *arg, const struct limit_group *group)
{
	const struct group_look *groups = arg;
	struct budget_reading *reading = groups->reading;
	uint64_t limit = group->limit_bytes, used;

	if (limit == UINT64_MAX)
		return;
	uint64_t spare = group_spare(limit), bound = limit - spare;
	/* In this order: what we grow by meanwhile must not pass for somebody else's. */
	if (!limit_group_used("", group, &used)) {
		uint64_t others = minus(used, ours_bytes(groups->server));
		bound = least(bound, minus(limit - spare / 2, others));
		if (bound < limit / LEAST_SHARE)
			bound = limit / LEAST_SHARE;
	}
	reading->bound_bytes = least(reading->bound_bytes, bound);
	reading->spare_bytes = least(reading->spare_bytes, spare);
}

static uint64_t machine_bound(const struct server *s)
{
	uint64_t total, available;

	if (limit_machine("", &total, &available))
		return UINT64_MAX;
	return minus(ours_bytes(s) + available, total / MACHINE_FREE_SHARE);
}

/*
 * What a node may have, where the programs have `used`: no more than there is memory for, some left to the
 * kernel. Of the file cache half counts as free: the kernel gives that up when it has to.
 */
static uint64_t node_most(unsigned node, uint64_t used)
{
	struct node_room room;

	if (node_room_read("", node, &room))
		return UINT64_MAX;
	uint64_t there = room.free_bytes + room.file_bytes / 2;
	return used + minus(there, room.high_bytes + NODE_KEPT_BYTES) / PAGE_BYTES;
}

void budget_pool(struct server *s)
{
	uint64_t capacity = s->wish.pool_bytes;

	if (s->bound_bytes != UINT64_MAX) {
		struct tier_usage u;
		s->pool->ops->usage(s->pool, &u);
		uint64_t beside = minus(own_bytes(s), u.used_bytes) + s->bound_bytes / LEAST_SHARE;
		uint64_t most = minus(s->bound_bytes, beside);
		most = most ? most : 1; /* 0 is no bound */
		capacity = capacity ? least(capacity, most) : most;
	}
	s->pool->ops->set_capacity(s->pool, capacity);
}

void budget_read(struct server *s, struct budget_reading *ret_reading)
{
	struct budget_reading reading = { .bound_bytes = UINT64_MAX, .spare_bytes = UINT64_MAX };
	struct group_look groups = { .server = s, .reading = &reading };

	(void)limit_groups("", group_take, &groups);
	/* Within a group, or with a bound on all, shadows are paid for by the programs. */
	if (reading.bound_bytes != UINT64_MAX)
		atomic_store(&s->pool_bounded, true);
	if (s->wish.memory_bytes)
		reading.bound_bytes = least(reading.bound_bytes, s->wish.memory_bytes);
	if (reading.bound_bytes == UINT64_MAX && !s->wish.dram_bytes)
		reading.bound_bytes = machine_bound(s);
	if (s->slow_bound) {
		reading.fast_most = node_most(s->nodes[0], atomic_load(&s->resident));
		reading.slow_most = least(node_most(s->nodes[1], slow_pages(s)), s->slow_bound);
	}
	*ret_reading = reading;
}

void budget_renew(struct server *s, const struct budget_reading *reading)
{
	s->bound_bytes = reading->bound_bytes;
	s->spare_bytes = reading->spare_bytes;
	if (s->slow_bound) {
		s->fast_most = reading->fast_most;
		atomic_store(&s->slow_max, reading->slow_most ? reading->slow_most : 1);
	}
	budget_split(s);
}

/* ---- the limit ---- */

void budget_split(struct server *s)
{
	uint64_t limit = s->wish.dram_bytes ? s->wish.dram_bytes : UINT64_MAX, low, high;

	if (s->bound_bytes != UINT64_MAX) {
		uint64_t left = minus(s->bound_bytes, own_bytes(s) + slow_pages(s) * PAGE_BYTES);
		if (left < s->bound_bytes / LEAST_SHARE)
			left = s->bound_bytes / LEAST_SHARE;
		limit = least(limit, left);
	}
	limit /= PAGE_BYTES;
	if (s->slow_bound)
		limit = least(limit, s->fast_most);
	if (limit < LEAST_PAGES)
		limit = LEAST_PAGES;
	if (limit == atomic_load(&s->limit))
		return;
	atomic_store(&s->limit, limit);
	place_marks(limit, &low, &high);
	atomic_store(&s->wake_room, (int64_t)((limit - low) * 2 / 3));
}

uint64_t budget_edge(const struct server *s)
{
	uint64_t limit = atomic_load(&s->limit);
	uint64_t margin = limit / EDGE_SHARE;

	if (margin < EDGE_PAGES)
		margin = least(limit / 2, EDGE_PAGES);
	return limit - margin;
}

/* ---- room ---- */

void room_take(struct server *s, uint64_t pages)
{
	int64_t left = atomic_fetch_sub_explicit(&s->room, (int64_t)pages, memory_order_relaxed) -
		       (int64_t)pages;

	if (left < atomic_load_explicit(&s->wake_room, memory_order_relaxed) &&
	    atomic_load_explicit(&s->mover_idle, memory_order_acquire))
		mover_wake(s);
}

void room_landed(struct server *s, uint64_t taken, uint64_t landed)
{
	if (taken != landed)
		atomic_fetch_add_explicit(&s->room, (int64_t)(taken - landed), memory_order_relaxed);
	/* Release: pairs with the load in room_begin(). */
	atomic_fetch_add_explicit(&s->landed, landed, memory_order_release);
}

uint64_t room_begin(const struct server *s)
{
	return atomic_load_explicit(&s->landed, memory_order_acquire);
}

void room_measured(struct server *s, uint64_t resident, uint64_t landed)
{
	int64_t base = (int64_t)(atomic_load(&s->limit) + landed - resident);

	/* room = base - all that was ever taken. */
	atomic_fetch_add(&s->room, base - s->room_base);
	s->room_base = base;
	atomic_store(&s->resident, resident);
	if (resident > s->peak_resident)
		s->peak_resident = resident;
}
