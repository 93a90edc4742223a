/* SPDX-License-Identifier: MIT */
/*
 * Spaces on made-up nodes under the engine for nodes: random touches, places, unmaps, windows and
 * spaces that come and go, nodes too, caps, weights, full nodes, moves that end in every way. The truth (where
 * each page is) is kept beside the engine, which is told of it only as a caller would: by looks and
 * results. tiering_check() after every step; every outcome must have come often, or the run fails.
 *
 * usage: tiering [--steps N] [--seed N]; a failure prints both.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiering.h"

enum { NODES = 4, SPACES = 3, WINDOWS = 2, PLAN = 256, CHECK_EVERY = 16 };
#define PAGES ((uint64_t)WINDOWS * TIERING_WINDOW_PAGES)
#define NOWHERE 0xff
#define LEAST 100u

struct space {
	struct tiering_space space;
	struct tiering_window *slots[WINDOWS];
	bool here;
	uint8_t node[WINDOWS * TIERING_WINDOW_PAGES]; /* the truth */
};

static struct tiering tiering;
static struct space spaces[SPACES];
static uint64_t seed, state, step_nr, now_ns = UINT64_C(1000000000000);
static uint64_t room[NODES] = { 3000, 40000, 2000, 60000 }; /* free pages */
static uint64_t kept_room[NODES]; /* of a node that is not there: what it would have free */
static bool gone[NODES];
static uint64_t nodes_changed;
static uint64_t outcomes[REASON_COUNT], ops[TIERING_PROMOTE + 1], huge_moves;

static void fail(const char *what)
{
	printf("FAILED: %s: --seed %" PRIu64 " --steps %" PRIu64 "\n", what, seed, step_nr);
	exit(1);
}

static uint64_t any(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void window_new(struct space *s, uint64_t first_vpn)
{
	void *memory = aligned_alloc(64, (tiering_window_bytes() + 63) & ~(size_t)63);

	if (!memory)
		exit(2);
	memset(memory, 0, tiering_window_bytes());
	if (tiering_window_add(&s->space, tiering_window_init(memory, first_vpn)))
		fail("a window cannot be added");
}

static void page_free(struct space *s, uint64_t vpn)
{
	if (s->node[vpn] != NOWHERE)
		room[s->node[vpn]]++; /* of one that went nothing is left here */
	s->node[vpn] = NOWHERE;
}

/* Nodes 2 and 3 come and go. What is on one that goes the kernel puts on another, or it is lost. */
static void node_change(void)
{
	struct tiering_node nodes[NODES];
	unsigned n = 2 + (unsigned)any(2);

	gone[n] = !gone[n];
	nodes_changed++;
	for (unsigned i = 0; gone[n] && i < SPACES; i++) {
		for (uint64_t vpn = 0; spaces[i].here && vpn < PAGES; vpn++) {
			if (spaces[i].node[vpn] != n)
				continue;
			page_free(&spaces[i], vpn);
			uint8_t to = (uint8_t)any(2);
			if (!room[to])
				continue;
			spaces[i].node[vpn] = to;
			room[to]--;
		}
	}
	if (gone[n])
		kept_room[n] = room[n];
	room[n] = gone[n] ? 0 : kept_room[n];
	memcpy(nodes, tiering.config.nodes, sizeof nodes);
	nodes[n].fast = !gone[n] && n % 2 == 0;
	nodes[n].slow = !gone[n] && n % 2;
	tiering_nodes_set(&tiering, nodes, NODES);
}

/* A run of pages is born, mostly on slow nodes, and sometimes as a huge page. */
static void pages_born(struct space *s)
{
	bool huge = !any(3);
	uint64_t nr = huge ? TIERING_HUGE_PAGES : any(300) + 1, vpn = any(PAGES - nr);
	uint8_t node = (uint8_t)(any(4) ? 1 + 2 * any(2) : 2 * any(2));

	if (huge)
		vpn -= vpn % TIERING_HUGE_PAGES;
	for (uint64_t i = vpn; i < vpn + nr; i++) {
		page_free(s, i);
		if (!room[node])
			node = 3;
		if (!room[node])
			continue;
		s->node[i] = node;
		room[node]--;
	}
	/* Told, or to be found out. */
	uint8_t first = s->node[vpn];
	for (uint64_t i = vpn; huge && i < vpn + nr; i++)
		huge = s->node[i] == first && first != NOWHERE;
	if (huge)
		tiering_place(&tiering, &s->space, vpn, nr, first, true, now_ns);
	else if (any(2))
		for (uint64_t i = vpn; i < vpn + nr; i++)
			tiering_place(&tiering, &s->space, i, 1,
				      s->node[i] == NOWHERE ? TIERING_NODE_UNKNOWN : s->node[i], false,
				      now_ns);
}

static void pages_unmapped(struct space *s)
{
	uint64_t nr = any(1000) + 1, vpn = any(PAGES - nr);

	for (uint64_t i = vpn; i < vpn + nr; i++)
		page_free(s, i);
	if (any(4)) /* else the engine finds out by itself */
		tiering_forget(&tiering, &s->space, vpn, nr);
}

static void pages_touched(struct space *s)
{
	uint64_t nr = any(200) + 1, vpn = any(4) ? any(2000) : any(PAGES - nr);

	if (!any(8))
		tiering_armed(&s->space, vpn, nr + 600, now_ns - any(7) * 1000000000);
	for (uint64_t i = vpn; i < vpn + nr && i < PAGES; i++)
		if (s->node[i] != NOWHERE)
			tiering_touch(&tiering, &s->space, i,
				      any(2) ? (uint32_t)any(NODES) : TIERING_NODE_UNKNOWN, now_ns);
}

/* How a move ends: mostly as the truth has it, sometimes for a reason of somebody else's. */
static void move_end(struct space *s, struct tiering_move *move)
{
	static const enum reason others[] = {
		REASON_SHARED, REASON_SHARED_EXEC, REASON_DIRTY_FILE, REASON_PINNED,    REASON_LOCKED,
		REASON_POLICY, REASON_BUSY,        REASON_NO_ROOM,    REASON_RANGE_GONE,
	};

	move->nr_moved = 0;
	if (!any(12)) {
		move->reason = others[any(sizeof others / sizeof *others)];
		return;
	}
	if (s->node[move->vpn] == NOWHERE)
		move->reason = REASON_PAGE_GONE;
	else if (s->node[move->vpn] == move->to)
		move->reason = REASON_ALREADY;
	else if (s->node[move->vpn] != move->from)
		move->reason = REASON_NOT_SLOW;
	else if (room[move->to] < move->nr_pages)
		move->reason = REASON_NO_ROOM;
	else
		move->reason = REASON_MOVED;
	for (uint64_t i = move->vpn; move->reason == REASON_MOVED && i < move->vpn + move->nr_pages; i++) {
		if (s->node[i] != move->from)
			continue; /* a part of what was huge is gone */
		s->node[i] = move->to;
		room[move->from]++;
		room[move->to]--;
		move->nr_moved++;
	}
	if (move->reason == REASON_MOVED && move->nr_moved != move->nr_pages)
		move->reason = REASON_PAGE_GONE;
}

static struct space *space_of(const struct tiering_window *window)
{
	return (struct space *)(void *)window->space;
}

static void look_answer(const struct tiering_move *move)
{
	struct space *s = space_of(move->window);
	uint8_t node = s->node[move->vpn];

	if (move->nr_pages == 1)
		tiering_place(&tiering, &s->space, move->vpn, 1,
			      node == NOWHERE ? TIERING_NODE_UNKNOWN : node, false, now_ns);
}

static void plan_check(const struct tiering_move *plan, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		const struct tiering_node *from = &tiering.config.nodes[plan[i].from % NODES];
		const struct tiering_node *to = &tiering.config.nodes[plan[i].to % NODES];

		if (plan[i].op == TIERING_PROMOTE && (!from->slow || !to->fast))
			fail("a promotion is not from slow to fast");
		if (plan[i].op == TIERING_DEMOTE && (!from->fast || !to->slow))
			fail("a demotion is not from fast to slow");
		if (!plan[i].window->space->weight)
			fail("a space of weight 0 is not left alone");
		if (i && plan[i].op == TIERING_DEMOTE && plan[i - 1].op != TIERING_DEMOTE)
			fail("a demotion stands behind a promotion");
	}
}

static void engine_run(void)
{
	static struct tiering_move plan[PLAN];
	struct tiering_need need = { 0 };
	bool again;

	for (unsigned n = 0; n < NODES; n++) {
		need.free_pages[n] = room[n];
		need.reserve_pages[n] = n % 2 ? 0 : 100;
	}
	size_t nr = tiering_step(&tiering, now_ns, &need, plan, PLAN, &again);
	plan_check(plan, nr);
	/* The world goes on while they move. */
	for (unsigned i = 0; i < 3 && spaces[0].here; i++)
		any(2) ? pages_touched(&spaces[0]) : pages_unmapped(&spaces[0]);
	for (size_t i = 0; i < nr; i++) {
		ops[plan[i].op]++;
		if (plan[i].op == TIERING_LOOK) {
			look_answer(&plan[i]);
			continue;
		}
		move_end(space_of(plan[i].window), &plan[i]);
		outcomes[plan[i].reason]++;
		huge_moves += plan[i].nr_pages > 1;
	}
	tiering_complete(&tiering, plan, nr, now_ns);
}

static void window_free(struct tiering_window *window)
{
	free(window);
}

static void space_end(struct space *s)
{
	for (uint64_t i = 0; i < PAGES; i++)
		page_free(s, i);
	tiering_windows_remove(&tiering, &s->space, 0, UINT64_MAX, window_free);
	if (s->space.nr_windows)
		fail("a window that nothing moves in cannot be removed");
	tiering_space_remove(&tiering, &s->space);
	s->here = false;
}

static void space_begin(struct space *s)
{
	memset(s->node, NOWHERE, sizeof s->node);
	tiering_space_add(&tiering, &s->space, s, s->slots, WINDOWS);
	for (uint64_t w = 0; w < WINDOWS; w++)
		window_new(s, w * TIERING_WINDOW_PAGES);
	s->space.weight = (uint32_t)any(TIERING_WEIGHT_MAX + 1);
	if (!any(3))
		s->space.fast_max_pages = any(3000);
	if (!any(3))
		s->space.fast_min_pages = any(1000);
	s->here = true;
}

static void step(void)
{
	struct space *s = &spaces[any(SPACES)];

	now_ns += any(any(50) ? 200000000 : UINT64_C(60000000000));
	if (!s->here)
		space_begin(s);
	if (!any(700))
		node_change();
	switch (any(400) ? any(6) : 6) {
	case 0:
		pages_born(s);
		break;
	case 1:
		if (!any(6))
			pages_unmapped(s);
		break;
	case 2:
	case 3:
	case 4:
		pages_touched(s);
		break;
	case 5:
		engine_run();
		break;
	case 6:
		space_end(s);
		break;
	}
	const char *bad = step_nr % CHECK_EVERY ? NULL : tiering_check(&tiering);
	if (bad)
		fail(bad);
}

int main(int argc, char **argv)
{
	struct tiering_config config = { .nr_nodes = NODES, .rate_pages_per_s = 20000 };
	uint64_t steps = 20000;

	seed = 1;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--steps"))
			steps = strtoull(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 10);
	}
	state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	for (unsigned n = 0; n < NODES; n++) {
		config.nodes[n] = (struct tiering_node){ .fast = !(n % 2), .slow = n % 2,
							 .latency_ns = n % 2 ? 300 : 100 };
		for (unsigned k = 0; k < NODES; k++)
			config.nodes[n].distance[k] = n == k ? 10 : n / 2 == k / 2 ? 20 : 40;
	}
	tiering_init(&tiering, &config);
	for (step_nr = 0; step_nr < steps; step_nr++)
		step();
	for (unsigned r = 0; r < REASON_COUNT; r++) {
		bool by_engine = r == REASON_RATE || r == REASON_SPACE_GONE; /* never a result here */
		printf("%-20s %" PRIu64 "\n", reason_name((enum reason)r), outcomes[r]);
		if (!by_engine && outcomes[r] < LEAST && r != REASON_NOT_SLOW)
			fail("an outcome came too seldom");
	}
	printf("looks %" PRIu64 ", demotions %" PRIu64 ", promotions %" PRIu64 ", huge %" PRIu64 "\n",
	       ops[TIERING_LOOK], ops[TIERING_DEMOTE], ops[TIERING_PROMOTE], huge_moves);
	printf("nodes came or went %" PRIu64 " times\n", nodes_changed);
	if (ops[TIERING_LOOK] < LEAST || ops[TIERING_DEMOTE] < LEAST || huge_moves < LEAST)
		fail("an operation came too seldom");
	for (unsigned i = 0; i < SPACES; i++)
		if (spaces[i].here)
			space_end(&spaces[i]);
	return 0;
}
