/* SPDX-License-Identifier: MIT */
/*
 * Random programs on simulated spaces: everything drawn from one seed, everything walked after
 * every step, and at the end a count of what was met: every legal transition of a page's word,
 * every reason a move ends for, every point of failure, each at least COVER_MIN times, or the
 * run fails.
 *
 *   sim [--seed N] [--steps N] [--trace]
 *
 * A run is a sequence of worlds. Each has its own shape, weather (how often what happens,
 * changed every PHASE_STEPS steps) and planner: the engine, or moves at random, which reach
 * corners that a sensible engine leaves alone. A failure prints the seed and the step; the same
 * arguments replay it.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "ram.h"
#include "rng.h"
#include "sim.h"
#include "sim_world.h"

#define NR_SPACES 3u
#define NR_SLOTS 1024u
#define WORLD_STEPS 20000u
#define PHASE_STEPS 500u
#define COVER_MIN 100u
#define COVER_MIN_STEP 20u /* a kind of step is no transition, reason or point of failure */
#define COVER_STEPS 500000u /* shorter runs are not held to it */
#define STEPS 2500000u /* enough to meet all there is */

struct run {
	uint64_t rng, seed, steps, done;
	bool trace;
	struct sim *sim;
	struct tier *tier;
	struct engine *engine;
	uint64_t now_ns, tick_ns;
	uint32_t weight[SIM_ACT_COUNT], weight_sum;
	uint32_t hot[NR_SPACES]; /* first page of where the space is busy now */
	uint32_t nr_pages, nr_places, block_pages, hot_pages, fail_every;
	uint32_t aims; /* steps of four that go for a block */
	struct sim_action last;
	struct sim_counts total;
	uint64_t moved[MOVE_OP_COUNT], touched[TOUCH_COUNT], ahead; /* by the engine's plans */
};

static struct run run; /* one, so that the abort handler finds it */

/* ---- randomness ---------------------------------------------------------------------------- */

static uint32_t below(uint32_t bound)
{
	return rng_below(&run.rng, bound);
}

/* ---- weather ------------------------------------------------------------------------------- */

static const uint16_t usual[SIM_ACT_COUNT] = {
	[SIM_READ] = 200, [SIM_WRITE] = 200, [SIM_DISCARD] = 12, [SIM_FREE] = 70, [SIM_UNMAP] = 4,
	[SIM_MAP] = 60, [SIM_REMAP] = 60, [SIM_FORK] = 6, [SIM_THREAD] = 300, [SIM_START] = 120,
	[SIM_EXIT] = 1,
	[SIM_PIN] = 2, [SIM_DENY] = 2, [SIM_RECLAIM] = 40, [SIM_RECLAIM_PLACE] = 3000,
	[SIM_EVENT] = 120, [SIM_FAULT] = 150, [SIM_HANDLER] = 70, [SIM_MOVER] = 300,
	[SIM_MOVE] = 200, [SIM_DROP] = 60, [SIM_SHADOW] = 40, [SIM_SPLIT] = 20,
	[SIM_STOCK] = 100, [SIM_ADOPT] = 10, [SIM_REAP] = 60,
};

#define APART (1u << SIM_DISCARD | 1u << SIM_FREE | 1u << SIM_UNMAP | 1u << SIM_FORK | 1u << SIM_PIN | \
	       1u << SIM_DENY | 1u << SIM_MOVE | 1u << SIM_SPLIT)
#define SERVING (1u << SIM_HANDLER | 1u << SIM_FAULT | 1u << SIM_EVENT | 1u << SIM_MOVER | \
		 1u << SIM_THREAD)

/* Some things become much rarer or much more frequent for a while. */
static void phase_begin(void)
{
	static const uint16_t factor[] = { 1, 1, 1, 1, 2, 8 };

	bool quiet = below(4);

	run.aims = run.engine ? 1 : 3;

	run.weight_sum = 0;
	for (unsigned i = 0; i < SIM_ACT_COUNT; i++) {
		uint32_t weight = usual[i] * 4u * factor[below(6)];

		if (below(5) == 0 || i == SIM_EXIT)
			weight /= 10;
		/* Blocks last only where little is taken apart, and take many steps. */
		if (run.block_pages && quiet && (1u << i & APART))
			weight /= 16;
		if (run.block_pages && 1u << i & SERVING)
			weight *= i == SIM_HANDLER ? 20 : 5;
		run.weight[i] = weight;
		run.weight_sum += run.weight[i];
	}
	for (unsigned i = 0; i < NR_SPACES; i++)
		run.hot[i] = below(run.nr_pages);
	run.hot_pages = 2 + below(below(2) ? 6 : 40);
	run.fail_every = 10 + below(80);
	run.tick_ns = UINT64_C(1) << (10 + below(18));
	sim_set_limit(run.sim, 4 + below(NR_SPACES * run.nr_pages / 3));
	run.tier->ops->set_capacity(run.tier, below(4) ? 0 : (1 + below(60)) * TIER_PAGE_BYTES);
	fault_plan(run.tier, FAULT_STORE, 0, 0, false);
	if (below(16) == 0)
		fault_plan(run.tier, FAULT_STORE, 1, below(2) ? -EIO : -E2BIG, true);
}

static void fail_something(void)
{
	static const int store_errors[] = { -ENOSPC, -E2BIG, -EIO };
	uint32_t k = 1 + below(6), kind = below(SIM_FAIL_STOCK + 3);

	if (run.block_pages && below(2)) {
		kind = SIM_FAIL_STOCK + below(SIM_FAILURE_COUNT - SIM_FAIL_STOCK);
		sim_fail(run.sim, (enum sim_failure)kind, k);
		return;
	}
	switch (kind) {
	case SIM_FAIL_BUSY:
	case SIM_FAIL_DENIED:
	case SIM_FAIL_AGAIN:
	case SIM_FAIL_UNREPORTED:
	case SIM_FAIL_TOUCHED:
		sim_fail(run.sim, (enum sim_failure)kind, k);
		break;
	case SIM_FAIL_STOCK: /* and behind it: of the tier */
		fault_plan(run.tier, FAULT_STORE, k, store_errors[below(3)], false);
		break;
	case SIM_FAIL_STOCK + 1:
		fault_plan(run.tier, FAULT_LOAD, k, -EIO, false);
		break;
	default:
		fault_plan(run.tier, FAULT_COMPARE, 1, -EIO, false);
	}
}

/* Races need steps at one place: often the next thing happens where the last one did. */
static void chase(struct sim_action *action)
{
	static const enum sim_act rivals[] = {
		SIM_READ, SIM_WRITE, SIM_DISCARD, SIM_FREE,
		SIM_EVENT, SIM_THREAD, SIM_FAULT, SIM_FORK,
	};

	if (below(3))
		return;
	action->space = run.last.space;
	/* It may have been a place, or a page of a larger world. */
	action->page = run.last.page % run.nr_pages;
	if (below(4) == 0)
		action->act = rivals[below(sizeof(rivals) / sizeof(rivals[0]))];
	action->who = below(SIM_THREADS);
}

/* A hole, if there is one, for pages to move to. */
static uint32_t hole_find(uint32_t space)
{
	uint32_t at = below(run.nr_pages), left = run.nr_pages;

	while (left-- && sim_page(run.sim, space, at)->mapping != MAP_NONE)
		at = (at + 1) % run.nr_pages;
	return at;
}

static void action_draw(struct sim_action *ret_action)
{
	uint32_t at = below(run.weight_sum), act = 0, space = below(NR_SPACES);

	while (at >= run.weight[act])
		at -= run.weight[act++];
	memset(ret_action, 0, sizeof(*ret_action));
	ret_action->act = (enum sim_act)act;
	ret_action->space = space;
	ret_action->who = act >= SIM_EVENT ? below(SIM_HANDLERS_MAX) : below(SIM_THREADS);
	ret_action->page = below(8) ? (run.hot[space] + below(run.hot_pages)) % run.nr_pages :
				      below(run.nr_pages);
	chase(ret_action);
	ret_action->op = below(8) == 0 ? MOVE_DEMOTE : below(2) ? MOVE_HOLD : MOVE_STORE;
	act = ret_action->act;
	ret_action->nr = act == SIM_READ || act == SIM_WRITE ? 1 : 1 + below(below(8) ? 3 : 30);
	if (act == SIM_FREE)
		ret_action->nr = 1 + below(run.nr_pages);
	if (run.block_pages && (act == SIM_MOVE || act == SIM_DISCARD) && below(3) == 0) {
		ret_action->page -= ret_action->page % run.block_pages;
		ret_action->nr = run.block_pages;
	}
	if (ret_action->nr > run.nr_pages - ret_action->page)
		ret_action->nr = run.nr_pages - ret_action->page;
	if (act == SIM_SPLIT)
		ret_action->nr = 1 + below(2);
	if (act == SIM_REMAP)
		ret_action->to = hole_find(ret_action->space);
	if (act == SIM_RECLAIM_PLACE || (act == SIM_SPLIT && ret_action->nr == 2))
		ret_action->page = below(run.nr_places);
}

/* ---- worlds -------------------------------------------------------------------------------- */

static void fail(const char *what)
{
	printf("FAILED: %s\nseed %" PRIu64 " step %" PRIu64 "; replay: --seed %" PRIu64
	       " --steps %" PRIu64 " --trace\n",
	       what, run.seed, run.done, run.seed, run.done + 1);
	fflush(stdout);
	_exit(1);
}

static void aborted(int number)
{
	(void)number;
	fail("an assertion, see above");
}

static void must(int err, const char *what)
{
	if (err)
		fail(what);
}

static void world_open(bool with_engine)
{
	const struct engine_config engine_config = { .seed = rng_next(&run.rng), .max_moves = 4 };
	struct sim_config config = {
		.nr_spaces = NR_SPACES, .nr_slots = NR_SLOTS, .nr_handlers = SIM_HANDLERS_MAX,
	};
	struct tier *ram;
	unsigned shape = below(3);

	must(ram_open(0, &ram), "cannot open a tier");
	must(fault_open(ram, &run.tier), "cannot open a tier");
	run.engine = NULL;
	if (with_engine) {
		void *memory = calloc(1, engine_bytes(&engine_config));

		must(!memory, "no memory");
		run.engine = engine_init(memory, &engine_config);
	}
	run.nr_pages = (const uint32_t[]){ 6, 16, 64 }[shape];
	run.nr_places = (const uint32_t[]){ 4, 8, 24 }[shape];
	run.block_pages = 0;
	config.nr_pages = run.nr_pages;
	config.nr_places = run.nr_places;
	config.tier = run.tier;
	config.engine = run.engine;
	if (below(2)) {
		config.block_pages = run.block_pages = 4;
		config.nr_places = run.nr_places *= 2;
	}
	/* One in four worlds with an engine has a slow node. */
	if (with_engine && below(4) == 0)
		config.slow_pages = 1 + below(NR_SPACES * run.nr_pages);
	must(sim_open(&config, &run.sim), "no memory");
}

static void add(uint64_t *to, const uint64_t *from, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(*to); i++)
		to[i] += from[i];
}

static void world_close(void)
{
	struct tier_usage usage;
	struct engine_stats stats;

	if (run.engine) {
		engine_stats(run.engine, &stats);
		add(run.moved, stats.moved, sizeof(run.moved));
		add(run.touched, stats.touches, sizeof(run.touched));
		run.ahead += stats.readahead_issued;
	}
	add((uint64_t *)&run.total, (const uint64_t *)sim_counts(run.sim), sizeof(run.total));
	sim_close(run.sim);
	run.tier->ops->usage(run.tier, &usage);
	if (usage.pages != 0 || usage.stored_bytes != 0)
		fail("slots are left when every space has ended");
	run.tier->ops->close(run.tier);
	free(run.engine);
}

/* Something happens just where a page is on its way: mostly the rarer ways. */
static bool aim(struct sim_action *action)
{
	static const enum sim_act rivals[] = {
		SIM_DISCARD, SIM_DISCARD, SIM_EVENT, SIM_EVENT,
		SIM_EVENT, SIM_READ, SIM_EXIT, SIM_EXIT, SIM_EXIT, SIM_REMAP, SIM_REMAP,
	};
	static const enum page_state wanted[] = {
		PAGE_LOADING, PAGE_RETURNING, PAGE_HOLDING, PAGE_STORING, PAGE_STORING, PAGE_STORING,
	};
	enum page_state want = wanted[below(sizeof(wanted) / sizeof(wanted[0]))];
	uint32_t nr = NR_SPACES * run.nr_pages, at = below(nr), left = nr;

	while (left && page_state(sim_look(run.sim, at / run.nr_pages, at % run.nr_pages)) != want) {
		at = (at + 1) % nr;
		left--;
	}
	if (!left)
		return false;
	*action = (struct sim_action){ .act = rivals[below(sizeof(rivals) / sizeof(rivals[0]))],
				       .space = at / run.nr_pages, .who = below(SIM_THREADS),
				       .page = at % run.nr_pages, .nr = 1,
				       .to = hole_find(at / run.nr_pages) };
	return true;
}

/* A page that a handler has in hand, and which has moved; SIM_RUN_MAX: none. */
static uint32_t moved_in_hand(const struct sim_handler *handler)
{
	for (uint32_t i = 0; i < handler->nr && handler->state < H_CLAIM; i++)
		if (sim_at(run.sim, handler->space, handler->idx + i) != handler->page + i)
			return i;
	return SIM_RUN_MAX;
}

/* What a handler has in hand moves; then it is touched and discarded where it is now. */
static bool aim_moved(struct sim_action *action)
{
	static const enum sim_act before[] = {
		SIM_REMAP, SIM_REMAP, SIM_REMAP, SIM_EVENT, SIM_EVENT, SIM_UNMAP, SIM_UNMAP,
	};
	static const enum sim_act after[] = {
		SIM_READ, SIM_READ, SIM_THREAD, SIM_FAULT, SIM_FAULT, SIM_HANDLER, SIM_HANDLER,
		SIM_DISCARD, SIM_EVENT, SIM_EVENT,
	};
	uint32_t which = below(SIM_HANDLERS_MAX);
	const struct sim_handler *handler = &run.sim->world->handlers[which];
	uint32_t i = moved_in_hand(handler);
	bool moved = i < SIM_RUN_MAX;

	if (!handler->nr || handler->state >= H_CLAIM || below(moved ? 4 : 8) < (moved ? 1 : 7))
		return false;
	i = moved ? i : below(handler->nr);
	*action = (struct sim_action){ .space = handler->space, .nr = 1, .to = hole_find(handler->space),
				       .page = sim_at(run.sim, handler->space, handler->idx + i) };
	action->act = moved ? after[below(sizeof(after) / sizeof(after[0]))] :
			      before[below(sizeof(before) / sizeof(before[0]))];
	if (action->act == SIM_UNMAP) /* a hole */
		action->page = below(run.nr_pages);
	action->who = action->act < SIM_EVENT ? below(SIM_THREADS) : (which + 1 + below(2)) % SIM_HANDLERS_MAX;
	return true;
}

/* Whether all pages of a block are in one state, and one huge page if they are anywhere. */
static bool block_in(uint32_t space, uint32_t first, enum page_state state)
{
	uint32_t place = page_place(sim_look(run.sim, space, first));

	for (uint32_t i = 0; i < run.block_pages; i++)
		if (page_state(sim_look(run.sim, space, first + i)) != state)
			return false;
	if (state == PAGE_RESIDENT)
		return run.sim->spaces[space].huge & sim_block_bit(run.sim, first);
	return state != PAGE_HELD || run.sim->spaces[space].place_huge & sim_block_bit(run.sim, place);
}

/* The same for blocks: out whole, touched, and disturbed when they are on their way. */
static void aim_block(struct sim_action *ret_action)
{
	static const enum sim_act rivals[] = { SIM_DISCARD, SIM_UNMAP, SIM_FREE, SIM_FORK, SIM_MOVE, SIM_READ };
	uint32_t nr = run.nr_pages / run.block_pages, at = below(nr * NR_SPACES), left = nr * NR_SPACES;
	enum page_state want = below(2) ? PAGE_HELD : below(4) ? PAGE_RESIDENT : PAGE_ABSENT;

	while (below(8) && --left && !block_in(at / nr, at % nr * run.block_pages, want))
		at = (at + 1) % (nr * NR_SPACES);
	struct sim_action block = { .act = SIM_MOVE, .space = at / nr, .who = below(SIM_THREADS),
				    .page = at % nr * run.block_pages, .nr = run.block_pages };

	if (block_in(block.space, block.page, PAGE_RESIDENT)) {
		block.op = MOVE_HOLD;
	} else if (block_in(block.space, block.page, PAGE_HELD)) {
		block.op = MOVE_STORE;
		if (below(100))
			block.act = below(2) ? SIM_READ : SIM_WRITE;
		block.page += block.act == SIM_MOVE ? 0 : below(run.block_pages);
	} else if (block_in(block.space, block.page, PAGE_ABSENT)) {
		block.act = below(2) ? SIM_STOCK : SIM_WRITE;
	} else {
		block.act = rivals[below(sizeof(rivals) / sizeof(rivals[0]))];
		block.op = MOVE_STORE;
		block.nr = 1 + below(run.block_pages);
	}
	*ret_action = block;
}

/* A block that is about to return often comes apart: else that would be rare. */
static void fail_return(const struct sim_action *action)
{
	const struct sim_handler *handler = &run.sim->world->handlers[action->who];

	if (action->act == SIM_HANDLER && handler->state == H_PUT && !handler->fills && below(2))
		sim_fail(run.sim, below(2) ? SIM_FAIL_PUT_PART : SIM_FAIL_PUT_UNREPORTED, 1);
}

static const char *const act_names[SIM_ACT_COUNT] = {
	"read", "write", "discard", "free", "unmap", "map", "remap", "fork", "thread", "start", "exit",
	"pin", "deny", "reclaim", "reclaim place", "split", "event", "fault", "handler", "mover", "move",
	"drop", "shadow", "stock", "adopt", "reap",
};

static void step(void)
{
	struct sim_action action;
	const char *wrong;
	unsigned tries = 0;

	run.now_ns += rng_next(&run.rng) % run.tick_ns;
	sim_set_time(run.sim, run.now_ns);
	if (below(run.fail_every) == 0)
		fail_something();
	do {
		if (++tries > 100000)
			fail("nothing can go on");
		if (tries == 1 && run.block_pages && below(4) < run.aims)
			aim_block(&action);
		else if (tries > 1 || (!aim_moved(&action) && (below(3) || !aim(&action))))
			action_draw(&action);
	} while (!sim_do(run.sim, &action));
	if (run.trace)
		printf("%" PRIu64 ": act %s space %u who %u page %u nr %u to %u op %d\n", run.done,
		       act_names[action.act], action.space, action.who, action.page, action.nr,
		       action.to, (int)action.op);
	run.last = action;
	fail_return(&action);
	wrong = sim_check(run.sim);
	if (wrong)
		fail(wrong);
	run.done++;
}

/* ---- what was met -------------------------------------------------------------------------- */

static const char *const state_names[PAGE_STATE_COUNT] = {
	"ABSENT", "RESIDENT", "HELD", "STORED", "FILLING", "LOADING", "RETURNING", "HOLDING",
	"STORING",
};
static const char *const reason_names[MOVE_REASON_COUNT] = {
	"ok", "gone", "touched", "changed", "busy", "denied", "full", "refused", "io",
};

static const char *const end_names[SIM_BLOCK_END_COUNT] = { "whole", "in part", "not" };

static unsigned nr_rare;

static void covered_by(uint64_t min, const char *what, const char *from, const char *to,
		       uint64_t count)
{
	bool rare = count < min;

	nr_rare += rare;
	printf("%s%-10s %-10s %-10s %" PRIu64 "\n", rare ? "RARE " : "     ", what, from, to,
	       count);
}

static void covered(const char *what, const char *from, const char *to, uint64_t count)
{
	covered_by(COVER_MIN, what, from, to, count);
}

static void coverage(void)
{
	const struct sim_counts *total = &run.total;

	for (unsigned i = 0; i < PAGE_STATE_COUNT; i++) {
		for (unsigned j = 0; j < PAGE_STATE_COUNT; j++) {
			/* A shadow may be lost on the way, never gained; a held page changes its node. */
			uint64_t from = page_word((enum page_state)i, 0, 0, 0, i == j && i != PAGE_HELD);
			uint64_t to = page_word((enum page_state)j, i == j && i == PAGE_HELD, 0, 0, false);

			if (region_may_change(from, to))
				covered("change", state_names[i], state_names[j],
					total->change[i][j]);
		}
		covered("vanished", state_names[i], "", total->vanished[i]);
	}
	for (unsigned i = 0; i < MOVE_REASON_COUNT; i++) {
		uint64_t sum = 0;

		for (unsigned j = 0; j < MOVE_OP_COUNT; j++)
			sum += total->reason[j][i];
		covered("move ended", reason_names[i], "", sum);
	}
	covered("failed", "move", "busy", total->failed[SIM_FAIL_BUSY]);
	covered("failed", "move", "denied", total->failed[SIM_FAIL_DENIED]);
	covered("failed", "install", "again", total->failed[SIM_FAIL_AGAIN]);
	covered("failed", "move", "unreported", total->failed[SIM_FAIL_UNREPORTED]);
	covered("failed", "stage", "touched", total->failed[SIM_FAIL_TOUCHED]);
	covered("failed", "stock", "no page", total->failed[SIM_FAIL_STOCK]);
	covered("failed", "block", "no helper", total->failed[SIM_FAIL_HELPER]);
	covered("failed", "put", "", total->failed[SIM_FAIL_PUT]);
	covered("failed", "put", "again", total->failed[SIM_FAIL_PUT_AGAIN]);
	covered("failed", "put", "in part", total->failed[SIM_FAIL_PUT_PART]);
	covered("failed", "put", "unreported", total->failed[SIM_FAIL_PUT_UNREPORTED]);
	covered("failed", "piece", "", total->failed[SIM_FAIL_PIECE]);
	covered("failed", "piece", "unreported", total->failed[SIM_FAIL_PIECE_UNREPORTED]);
	for (unsigned i = 0; i < SIM_BLOCK_END_COUNT; i++) {
		covered("block", "filled", end_names[i], total->filled[i]);
		covered("block", "returned", end_names[i], total->returned[i]);
	}
	covered("block", "held", "whole", total->held_whole);
	covered("block", "claimed", "in part", total->claimed_part);
	covered("moved", "while", "claimed", total->moved_claimed);
	covered("failed", "load", "io", total->load_error);
	covered("failed", "compare", "io", total->compare_error);
	covered("vanished", "under a", "move", total->vanished_plan);
	covered("engine", "held", "", run.moved[MOVE_HOLD]);
	covered("engine", "stored", "", run.moved[MOVE_STORE]);
	covered("engine", "demoted", "", run.moved[MOVE_DEMOTE]);
	covered("engine", "filled", "", run.touched[TOUCH_FILL]);
	covered("engine", "returned", "", run.touched[TOUCH_RETURN]);
	covered("engine", "loaded", "", run.touched[TOUCH_LOAD]);
	covered("engine", "read ahead", "", run.ahead);
	for (unsigned i = 0; i < SIM_ACT_COUNT; i++)
		covered_by(COVER_MIN_STEP, "step", act_names[i], "", total->act[i]);
}

static int usage_error(void)
{
	fprintf(stderr, "usage: sim [--seed N] [--steps N] [--trace]\n");
	return 2;
}

int main(int argc, char **argv)
{
	run.seed = 1;
	run.steps = STEPS;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--trace") == 0)
			run.trace = true;
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			run.seed = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc)
			run.steps = strtoull(argv[++i], NULL, 0);
		else
			return usage_error();
	}
	signal(SIGABRT, aborted);
	printf("seed %" PRIu64 ", %" PRIu64 " steps\n", run.seed, run.steps);
	run.rng = run.seed;
	for (unsigned world = 0; run.done < run.steps; world++) {
		world_open(world % 2 == 0);
		for (unsigned i = 0; i < WORLD_STEPS && run.done < run.steps; i++) {
			if (i % PHASE_STEPS == 0)
				phase_begin();
			step();
		}
		world_close();
	}
	coverage();
	if (nr_rare && run.steps >= COVER_STEPS)
		printf("FAILED: %u things were met too rarely; seed %" PRIu64 "\n", nr_rare,
		       run.seed);
	return nr_rare && run.steps >= COVER_STEPS;
}
