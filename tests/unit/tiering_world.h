/* SPDX-License-Identifier: MIT */
/* The engine for nodes with one space, on two fast nodes and two slow ones, and a time that tests set. */
#ifndef TESTS_UNIT_TIERING_WORLD_H
#define TESTS_UNIT_TIERING_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiering.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define PLAN 4096u

enum { FAST, SLOW, FAST_FAR, SLOW_FAR, NR_NODES };

struct world {
	struct tiering tiering;
	struct tiering_space space;
	struct tiering_window *slots[8];
	struct tiering_window *window;
	struct tiering_need need;
	struct tiering_move plan[PLAN];
	uint64_t now_ns;
};

static inline struct tiering_window *window_new(struct tiering_space *space, uint64_t first_vpn)
{
	void *memory = aligned_alloc(64, (tiering_window_bytes() + 63) & ~(size_t)63);

	assert_non_null(memory);
	memset(memory, 0, tiering_window_bytes());
	struct tiering_window *window = tiering_window_init(memory, first_vpn);
	assert_int_equal(tiering_window_add(space, window), 0);
	return window;
}

static inline void window_free(struct tiering_window *window)
{
	free(window);
}

static inline int world_open(void **state)
{
	struct tiering_config config = { .nr_nodes = NR_NODES };
	struct world *w = calloc(1, sizeof *w);

	for (unsigned n = 0; n < NR_NODES; n++) {
		config.nodes[n].fast = n == FAST || n == FAST_FAR;
		config.nodes[n].slow = !config.nodes[n].fast;
		config.nodes[n].latency_ns = config.nodes[n].fast ? 90 : 250;
		for (unsigned k = 0; k < NR_NODES; k++)
			config.nodes[n].distance[k] = n == k ? 10 : n / 2 == k / 2 ? 15 : 30;
		w->need.free_pages[n] = 100000;
	}
	tiering_init(&w->tiering, &config);
	tiering_space_add(&w->tiering, &w->space, w, w->slots, 8);
	w->window = window_new(&w->space, 0);
	w->now_ns = 1000 * SECOND;
	*state = w;
	return 0;
}

static inline int world_close(void **state)
{
	struct world *w = *state;

	assert_null(tiering_check(&w->tiering));
	while (w->space.nr_windows) {
		assert_true(tiering_windows_remove(&w->tiering, &w->space, 0, UINT64_MAX, window_free));
	}
	tiering_space_remove(&w->tiering, &w->space);
	free(w);
	return 0;
}

static inline void touch_twice(struct world *w, uint64_t vpn, uint64_t nr)
{
	for (unsigned i = 0; i < 2; i++, w->now_ns += SECOND)
		for (uint64_t k = 0; k < nr; k++)
			tiering_touch(&w->tiering, &w->space, vpn + k, TIERING_NODE_UNKNOWN, w->now_ns);
}

/* A plan, after what is gathered has waited long enough. */
static inline size_t step(struct world *w)
{
	bool again;
	size_t nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);

	w->now_ns += SECOND;
	if (!nr)
		nr = tiering_step(&w->tiering, w->now_ns, &w->need, w->plan, PLAN, &again);
	assert_null(tiering_check(&w->tiering));
	return nr;
}

static inline void complete(struct world *w, size_t nr, enum reason reason)
{
	for (size_t i = 0; i < nr; i++) {
		w->plan[i].reason = reason;
		w->plan[i].nr_moved = reason == REASON_MOVED ? w->plan[i].nr_pages : 0;
	}
	tiering_complete(&w->tiering, w->plan, nr, w->now_ns);
	assert_null(tiering_check(&w->tiering));
}

static inline void place(struct world *w, uint64_t vpn, uint64_t nr, uint32_t node, bool huge)
{
	tiering_place(&w->tiering, &w->space, vpn, nr, node, huge, w->now_ns);
}

#endif
