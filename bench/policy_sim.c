/* SPDX-License-Identifier: MIT */
/*
 * What the engine's choices cost, against LRU, CLOCK and the best static choice, on page accesses
 * made from a seed. No memory is moved; faults are counted and priced in microseconds:
 *
 *   return 4.5   load 5, plus 2 for the page that must be stored in its stead
 *   hold   by the length of the run (1.247 for one page, 0.047 a page for 512)
 *
 * LRU and CLOCK see every access for nothing, and pay loads only. All have the same memory; the
 * engine's margin below the limit and its held pages are inside it.
 *
 *   policy_sim [PAGES [ACCESSES [WORKLOAD]]]
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "inner.h"
#include "occupied.h"
#include "rng.h"

#define US_RETURN 4.5
#define US_LOAD 5.0
#define US_STORE 2.0
#define NS_ACCESS 1000u
#define MOVES 256u

static void *zeroed(size_t bytes)
{
	void *p = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);
	if (!p)
		abort();
	return memset(p, 0, (bytes + 4095) & ~(size_t)4095);
}

/* ---- accesses ---- */

struct source {
	uint64_t rng, nr_pages, nr_memory, count, shift_every, scan_at, loop_pages;
	uint32_t *page_of;         /* rank -> page */
	double *chance;            /* alias table */
	uint32_t *other;
	double *weight;            /* by rank */
	unsigned scan_percent;
	bool uniform;
	uint32_t per_page;         /* records that lie on one page, each with its own weight */
};

static void source_shuffle(struct source *s, bool blocks)
{
	uint32_t unit = blocks ? 64 : 1, nr = (uint32_t)(s->nr_pages * s->per_page / unit);
	uint32_t *order = zeroed(nr * sizeof *order);

	for (uint32_t i = 0; i < nr; i++)
		order[i] = i;
	for (uint32_t i = nr - 1; i; i--) {
		uint32_t j = (uint32_t)(rng_next(&s->rng) % (i + 1)), t = order[i];
		order[i] = order[j];
		order[j] = t;
	}
	for (uint32_t i = 0; i < nr * unit; i++)
		s->page_of[i] = order[i / unit] * unit + i % unit;
	free(order);
}

static void source_zipf(struct source *s, double theta)
{
	uint32_t n = (uint32_t)s->nr_pages * s->per_page, nr_small = 0, nr_large = 0;
	uint32_t *small = zeroed(n * sizeof *small), *large = zeroed(n * sizeof *large);
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += s->weight[i] = pow(i + 1.0, -theta);
	for (uint32_t i = 0; i < n; i++) {
		s->chance[i] = (s->weight[i] /= sum) * n;
		if (s->chance[i] < 1)
			small[nr_small++] = i;
		else
			large[nr_large++] = i;
	}
	while (nr_small && nr_large) {
		uint32_t a = small[--nr_small], b = large[nr_large - 1];
		s->other[a] = b;
		s->chance[b] -= 1 - s->chance[a];
		if (s->chance[b] < 1) {
			nr_large--;
			small[nr_small++] = b;
		}
	}
	while (nr_small)
		s->chance[small[--nr_small]] = 1;
	while (nr_large)
		s->chance[large[--nr_large]] = 1;
	free(small);
	free(large);
}

static uint32_t source_next(struct source *s)
{
	s->count++;
	if (s->loop_pages)
		return (uint32_t)(s->count % s->loop_pages);
	if (s->shift_every && s->count % s->shift_every == 0)
		source_shuffle(s, false);
	uint64_t r = rng_next(&s->rng);
	if (s->scan_percent && r % 100 < s->scan_percent)
		return (uint32_t)(s->scan_at++ % s->nr_pages);
	uint32_t i = (uint32_t)((r >> 8) % (s->nr_pages * s->per_page));
	double u = (double)(rng_next(&s->rng) >> 11) * 0x1p-53;
	if (!s->uniform && u >= s->chance[i])
		i = s->other[i];
	return s->page_of[i] / s->per_page;
}

static void source_open(struct source *s, const char *name, uint64_t nr_pages, uint64_t nr_memory,
			uint64_t nr_accesses)
{
	*s = (struct source){ .rng = 42, .nr_pages = nr_pages, .nr_memory = nr_memory, .per_page = 1 };
	if (!strcmp(name, "records"))
		s->per_page = 4;
	uint64_t nr_records = nr_pages * s->per_page;
	s->page_of = zeroed(nr_records * sizeof *s->page_of);
	s->chance = zeroed(nr_records * sizeof *s->chance);
	s->other = zeroed(nr_records * sizeof *s->other);
	s->weight = zeroed(nr_records * sizeof *s->weight);
	source_zipf(s, 0.99);
	source_shuffle(s, !strcmp(name, "blocks"));
	if (!strcmp(name, "shift"))
		s->shift_every = nr_accesses / 4;
	else if (!strcmp(name, "scan"))
		s->scan_percent = 10;
	else if (!strcmp(name, "loop"))
		s->loop_pages = nr_memory + nr_memory / 10;
	else if (!strcmp(name, "uniform"))
		s->uniform = true;
}

static void source_close(struct source *s)
{
	free(s->page_of);
	free(s->chance);
	free(s->other);
	free(s->weight);
}

/* ---- rivals ---- */

static uint64_t run_lru(struct source *s, uint64_t warm, uint64_t measure)
{
	uint32_t n = (uint32_t)s->nr_pages, *next = zeroed((n + 1) * sizeof *next);
	uint32_t *prev = zeroed((n + 1) * sizeof *prev);
	uint64_t used = 0, misses = 0;
	bool *in = zeroed(n);

	next[n] = prev[n] = n;
	for (uint64_t i = 0; i < warm + measure; i++) {
		uint32_t p = source_next(s);
		if (in[p]) {
			next[prev[p]] = next[p];
			prev[next[p]] = prev[p];
		} else {
			misses += i >= warm;
			if (used == s->nr_memory) {
				uint32_t victim = prev[n];
				in[victim] = false;
				next[prev[victim]] = n;
				prev[n] = prev[victim];
			} else {
				used++;
			}
			in[p] = true;
		}
		next[p] = next[n];
		prev[p] = n;
		prev[next[n]] = p;
		next[n] = p;
	}
	free(next);
	free(prev);
	free(in);
	return misses;
}

static uint64_t run_clock(struct source *s, uint64_t warm, uint64_t measure)
{
	uint32_t *slot = zeroed(s->nr_memory * sizeof *slot);
	uint8_t *in = zeroed(s->nr_pages); /* 1 in memory, 2 referenced */
	uint64_t used = 0, hand = 0, misses = 0;

	for (uint64_t i = 0; i < warm + measure; i++) {
		uint32_t p = source_next(s);
		if (in[p]) {
			in[p] = 2;
			continue;
		}
		misses += i >= warm;
		if (used < s->nr_memory) {
			slot[used++] = p;
		} else {
			for (; in[slot[hand]] == 2; hand = (hand + 1) % s->nr_memory)
				in[slot[hand]] = 1;
			in[slot[hand]] = 0;
			slot[hand] = p;
			hand = (hand + 1) % s->nr_memory;
		}
		in[p] = 1;
	}
	free(slot);
	free(in);
	return misses;
}

static int weight_order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x < y) - (x > y);
}

static double records_static(const struct source *s, uint64_t measure)
{
	double *page = zeroed(s->nr_pages * sizeof *page), miss = 0;

	for (uint64_t i = 0; i < s->nr_pages * s->per_page; i++)
		page[s->page_of[i] / s->per_page] += s->weight[i];
	qsort(page, s->nr_pages, sizeof *page, weight_order);
	for (uint64_t i = s->nr_memory; i < s->nr_pages; i++)
		miss += page[i];
	free(page);
	return miss * (double)measure;
}

/* The most used pages stay, as if known beforehand; for the loop any fixed choice. */
static double run_static(const struct source *s, uint64_t measure)
{
	double miss = 0;

	if (s->per_page > 1)
		return records_static(s, measure);
	if (s->loop_pages)
		return (double)measure * (double)(s->loop_pages - s->nr_memory) / (double)s->loop_pages;
	if (s->uniform)
		return (double)measure * (double)(s->nr_pages - s->nr_memory) / (double)s->nr_pages;
	for (uint64_t i = s->nr_memory; i < s->nr_pages; i++)
		miss += s->weight[i];
	miss = miss * (100 - s->scan_percent) / 100;
	miss += s->scan_percent / 100.0 * (double)(s->nr_pages - s->nr_memory) / (double)s->nr_pages;
	return miss * (double)measure;
}

/* ---- the engine ---- */

struct world {
	struct engine *engine;
	struct region region;
	uint64_t resident, held, held_max, limit, now_ns, stall;
	uint64_t returns, loads, stores, holds, runs;
	double us_hold;
	struct move plan[MOVES];
};

static void page_set(struct world *w, uint64_t idx, enum page_state state)
{
	uint64_t word = atomic_load(&w->region.state[idx]);
	if (!region_change(&w->region.state[idx], word, page_word_as(word, state)))
		abort();
}

static double us_hold_run(uint32_t nr)
{
	static const struct { uint32_t nr; double us; } cost[] = {
		{ 1, 1.247 }, { 8, 0.359 }, { 32, 0.229 }, { 64, 0.067 }, { 512, 0.047 },
	};
	unsigned i = 0;

	while (i < 3 && nr >= cost[i + 1].nr)
		i++;
	double share = ((double)nr - cost[i].nr) / (cost[i + 1].nr - cost[i].nr);
	return nr * (cost[i].us + share * (cost[i + 1].us - cost[i].us));
}

static void move_run(struct world *w, const struct move *m)
{
	enum page_state from = m->op == MOVE_HOLD ? PAGE_RESIDENT : PAGE_HELD;
	struct move_result result = { { 0 } };
	uint32_t run = 0;

	for (uint64_t idx = m->first; idx < m->first + m->nr_pages; idx++) {
		if (page_state(atomic_load(&w->region.state[idx])) != from) {
			result.nr_pages[MOVE_DROP_CHANGED]++;
			w->us_hold += run ? us_hold_run(run) : 0;
			run = 0;
			continue;
		}
		result.nr_pages[MOVE_OK]++;
		if (m->op == MOVE_HOLD) {
			page_set(w, idx, PAGE_HOLDING);
			page_set(w, idx, PAGE_HELD);
			w->held++;
			w->holds++;
			run++;
		} else {
			page_set(w, idx, PAGE_STORING);
			page_set(w, idx, PAGE_STORED);
			w->held--;
			w->resident--;
			w->stores++;
		}
	}
	w->us_hold += run ? us_hold_run(run) : 0;
	w->runs += m->op == MOVE_HOLD;
	engine_complete(w->engine, m->id, &result, w->now_ns);
}

static void world_step(struct world *w, uint64_t filling)
{
	struct engine_need need = {
		.resident = w->resident, .limit = w->limit, .held = w->held, .held_max = w->held_max,
		.filling = filling,
	};
	bool again = true;

	for (unsigned i = 0; again && i < 64; i++) {
		size_t nr = engine_step(w->engine, w->now_ns, &need, w->plan, MOVES, &again);
		for (size_t k = 0; k < nr; k++)
			move_run(w, &w->plan[k]);
		again |= nr > 0;
		need.resident = w->resident;
		need.held = w->held;
	}
}

static void world_access(struct world *w, uint64_t idx)
{
	enum page_state state = page_state(atomic_load(&w->region.state[idx]));

	w->now_ns += NS_ACCESS;
	if (state == PAGE_RESIDENT)
		return;
	w->now_ns += 5000;
	if (state == PAGE_HELD) {
		page_set(w, idx, PAGE_RETURNING);
		w->held--;
		w->returns++;
		page_set(w, idx, PAGE_RESIDENT);
		engine_touch(&w->region, idx, TOUCH_RETURN, HEAT_NO_NODE, w->now_ns);
		return;
	}
	if (w->resident >= w->limit) {
		w->stall++;
		world_step(w, 1);
	}
	w->resident++;
	if (state == PAGE_ABSENT) {
		region_occupy(&w->region, idx, 1);
		page_set(w, idx, PAGE_FILLING);
		page_set(w, idx, PAGE_RESIDENT);
		engine_touch(&w->region, idx, TOUCH_FILL, HEAT_NO_NODE, w->now_ns);
	} else {
		page_set(w, idx, PAGE_LOADING);
		w->loads++;
		page_set(w, idx, PAGE_RESIDENT);
		engine_touch(&w->region, idx, TOUCH_LOAD, HEAT_NO_NODE, w->now_ns);
	}
}

static void run_engine(struct source *s, uint64_t warm, uint64_t measure, struct world *w)
{
	struct engine_config config = { 1, 2 * MOVES };
	void *memory = zeroed(engine_region_bytes(s->nr_pages)), *home = zeroed(engine_bytes(&config));

	*w = (struct world){ .limit = s->nr_memory, .held_max = s->nr_memory / 4 };
	w->engine = engine_init(home, &config);
	engine_region_init(&w->region, memory, 0, s->nr_pages, w);
	engine_region_add(w->engine, &w->region);
	for (uint64_t i = 0; i < s->nr_pages; i++) { /* the program fills its memory first */
		world_access(w, i);
		if (i % 64 == 0)
			world_step(w, 0);
	}
	uint64_t faults = 0;
	for (uint64_t i = 0; i < warm + measure; i++) {
		if (i == warm) {
			w->returns = w->loads = w->stores = w->holds = w->runs = w->stall = 0;
			w->us_hold = 0;
			faults = 0;
		}
		world_access(w, source_next(s));
		if (getenv("TRACE") && i % (measure / 10) == 0)
			fprintf(stderr, "  %9" PRIu64 " returns %" PRIu64 " loads %" PRIu64
				" threshold %d gap %u beat %" PRIu64 " held %" PRIu64 "\n", i,
				w->returns, w->loads, w->engine->clocks[0].place.threshold_q8 / 256,
				w->engine->clocks[0].place.gap_q8,
				w->engine->clocks[0].place.beat, w->held);
		if (w->returns + w->loads >= faults + 64) { /* the mover comes by */
			faults = w->returns + w->loads;
			world_step(w, 0);
		}
	}
	const char *bad = engine_check(w->engine);
	if (bad) {
		fprintf(stderr, "policy_sim: %s\n", bad);
		exit(1);
	}
	free(memory);
	free(home);
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "zipf", "records", "blocks", "shift", "scan", "loop", "uniform" };
	uint64_t nr_pages = argc > 1 ? strtoull(argv[1], NULL, 0) : 1u << 17;
	uint64_t measure = argc > 2 ? strtoull(argv[2], NULL, 0) : 20000000;
	uint64_t warm = measure / 2, nr_memory = nr_pages * 2 / 5;
	static struct world world;
	struct source s;

	printf("%" PRIu64 " pages, %" PRIu64 " in memory, %" PRIu64 " accesses after %" PRIu64
	       "; us per 1000 accesses\n", nr_pages, nr_memory, measure, warm);
	printf("%-8s %8s %8s %8s %8s | %8s %8s %8s %8s %8s | %s\n", "", "static", "lru", "clock",
	       "engine", "loads%", "lru%", "returns%", "hold us", "pg/run", "lru/engine");
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		if (argc > 3 && strcmp(argv[3], names[i]))
			continue;
		double per_1000 = 1000.0 / (double)measure, load = US_LOAD + US_STORE;
		source_open(&s, names[i], nr_pages, nr_memory, measure);
		double fixed = run_static(&s, measure);
		uint64_t lru = run_lru(&s, warm, measure);
		source_close(&s);
		source_open(&s, names[i], nr_pages, nr_memory, measure);
		uint64_t clock = run_clock(&s, warm, measure);
		source_close(&s);
		source_open(&s, names[i], nr_pages, nr_memory, measure);
		run_engine(&s, warm, measure, &world);
		source_close(&s);
		double cost = (double)world.returns * US_RETURN + (double)world.loads * US_LOAD +
			      (double)world.stores * US_STORE + world.us_hold;
		printf("%-8s %8.1f %8.1f %8.1f %8.1f | %8.2f %8.2f %8.2f %8.1f %8.2f | %.3f\n", names[i],
		       fixed * load * per_1000, (double)lru * load * per_1000,
		       (double)clock * load * per_1000, cost * per_1000,
		       (double)world.loads * per_1000 / 10, (double)lru * per_1000 / 10,
		       (double)world.returns * per_1000 / 10, world.us_hold * per_1000,
		       world.runs ? (double)world.holds / (double)world.runs : 0.0,
		       (double)lru * load / cost);
		fflush(stdout);
	}
	return 0;
}
