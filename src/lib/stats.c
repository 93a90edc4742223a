/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "clock.h"
#include "json.h"
#include "text.h"

#define EXCESS_SHARE 16u /* of the bound */

static struct stats_base base;

void stats_open(const struct stats_base *b)
{
	base = *b;
}

/* Pages by state, over all programs. */
struct census {
	uint64_t managed, stored, held, shadows;
};

static void census_take(struct server *s, struct census *c)
{
	*c = (struct census){ 0 };
	plan_lock_take(s);
	for (struct program *p = s->programs; p; p = p->next) {
		program_lock_shared(p);
		for (size_t i = 0; i < p->nr_extents; i++) {
			const struct extent *e = &p->extents[i];
			c->managed += e->nr_pages;
			const struct region *r = &e->tract->region;
			for (uint64_t k = region_next(r, e->idx); k < e->idx + e->nr_pages; k = region_next(r, k + 1)) {
				uint64_t word = atomic_load_explicit(&r->state[k], memory_order_relaxed);
				c->stored += page_state(word) == PAGE_STORED;
				c->held += page_has_hold(word);
				c->shadows += page_shadow(word);
			}
		}
		rwlock_unlock(&p->lock);
	}
	pthread_mutex_unlock(&s->plan_lock);
}

/* A tier that the CPU addresses. All in pages. */
static void memory_append(const struct server *s, json_t *tiers, unsigned which, uint64_t capacity,
			  uint64_t used, uint64_t peak)
{
	json_t *tier = json_object();
	char name[32] = "dram";

	if (s->slow_bound)
		snprintf(name, sizeof name, "node:%u", s->nodes[which]);
	json_object_set_new(tier, "name", json_string(name));
	json_object_set_new(tier, "kind", json_string(s->slow_bound ? "node" : "dram"));
	number_set(tier, "capacity_bytes", capacity * PAGE_BYTES);
	number_set(tier, "used_bytes", used * PAGE_BYTES);
	number_set(tier, "peak_bytes", (peak > used ? peak : used) * PAGE_BYTES);
	number_set(tier, "pages", used);
	json_array_append_new(tiers, tier);
}

static json_t *tiers_json(struct server *s)
{
	struct tier_usage u;
	json_t *tiers = json_array(), *pool = json_object();
	int64_t slow = atomic_load(&s->slow);

	memory_append(s, tiers, 0, atomic_load(&s->limit), atomic_load(&s->resident), s->peak_resident);
	if (s->slow_bound)
		memory_append(s, tiers, 1, s->slow_bound, slow > 0 ? (uint64_t)slow : 0, s->peak_slow);
	if (s->slow_last) {
		json_decref(pool);
		return tiers;
	}
	s->pool->ops->usage(s->pool, &u);
	json_object_set_new(pool, "name", json_string(s->pool->ops->name));
	json_object_set_new(pool, "kind", json_string("lz4"));
	number_set(pool, "capacity_bytes", u.capacity_bytes);
	number_set(pool, "used_bytes", u.used_bytes);
	number_set(pool, "peak_bytes", u.peak_bytes);
	number_set(pool, "stored_bytes", u.stored_bytes);
	number_set(pool, "metadata_bytes", u.metadata_bytes);
	number_set(pool, "pages", u.pages);
	json_array_append_new(tiers, pool);
	return tiers;
}

static const char *const reason_names[MOVE_REASON_COUNT] = {
	[MOVE_OK] = "moved",
	[MOVE_DROP_GONE] = "gone",
	[MOVE_DROP_TOUCHED] = "touched",
	[MOVE_DROP_CHANGED] = "changed",
	[MOVE_FAIL_BUSY] = "busy",
	[MOVE_FAIL_DENIED] = "denied",
	[MOVE_FAIL_FULL] = "full",
	[MOVE_FAIL_REFUSED] = "refused",
	[MOVE_FAIL_IO] = "io",
};

static json_t *moves_json(const struct engine_stats *e)
{
	json_t *moves = json_object(), *failed = json_object(), *dropped = json_object();

	number_set(moves, "requested", e->requested);
	number_set(moves, "moved", e->ended[MOVE_OK]);
	number_set(moves, "held", e->moved[MOVE_HOLD]);
	number_set(moves, "stored", e->moved[MOVE_STORE]);
	number_set(moves, "demoted", e->moved[MOVE_DEMOTE]);
	for (unsigned r = MOVE_DROP_GONE; r < MOVE_REASON_COUNT; r++)
		number_set(r < MOVE_FAIL_BUSY ? dropped : failed, reason_names[r], e->ended[r]);
	json_object_set_new(moves, "failed", failed);
	json_object_set_new(moves, "dropped", dropped);
	number_set(moves, "pending", e->pending);
	return moves;
}

static uint64_t forced_cpu_ns(struct server *s)
{
	uint64_t sum = atomic_load(&s->forced_ns);

	plan_lock_take(s);
	for (struct program *p = s->programs; p; p = p->next)
		sum += handlers_cpu_ns(p) + helper_cpu_ns(p);
	pthread_mutex_unlock(&s->plan_lock);
	return sum;
}

static json_t *overhead_json(struct server *s, uint64_t wall_ns)
{
	json_t *o = json_object();
	uint64_t voluntary = atomic_load(&s->voluntary_ns);

	number_set(o, "voluntary_cpu_ns", voluntary);
	number_set(o, "forced_cpu_ns", forced_cpu_ns(s));
	json_object_set_new(o, "share", json_real(wall_ns ? (double)voluntary / (double)wall_ns : 0));
	return o;
}

static const char *const unmanaged_names[UNMANAGED_COUNT] = {
	"small", "stack", "locked", "shared", "file", "special", "foreign", "sparse", "no_helper",
};

static json_t *unmanaged_json(struct server *s)
{
	json_t *o = json_object();

	for (unsigned i = 0; i < UNMANAGED_COUNT; i++) {
		uint64_t pages = i == UNMANAGED_NO_HELPER ? s->peak_unhelped
							  : atomic_load(&s->unmanaged_ended[i]);
		plan_lock_take(s);
		for (struct program *p = s->programs; p; p = p->next)
			pages += p->unmanaged[i];
		pthread_mutex_unlock(&s->plan_lock);
		number_set(o, unmanaged_names[i], pages * PAGE_BYTES);
	}
	return o;
}

static void faults_set(json_t *root, struct server *s)
{
	json_t *faults = json_object();

	uint64_t count = histogram_count(&s->fault_times);

	number_set(faults, "count", count);
	number_set(faults, "mean_ns", count ? atomic_load(&s->fault_times.sum_ns) / count : 0);
	number_set(faults, "p50_ns", histogram_quantile(&s->fault_times, 500));
	number_set(faults, "p99_ns", histogram_quantile(&s->fault_times, 990));
	number_set(faults, "max_ns", atomic_load(&s->fault_times.max_ns));
	json_object_set_new(root, "faults", faults);
}

static void huge_set(json_t *root, struct server *s)
{
	json_t *huge = json_object();

	number_set(huge, "filled", atomic_load(&s->huge_filled));
	number_set(huge, "held", atomic_load(&s->huge_held));
	number_set(huge, "returned", atomic_load(&s->huge_returned));
	json_object_set_new(root, "huge_pages", huge);
}

/* As it was called; a name may be of any bytes, JSON is not. */
static json_t *program_json(void)
{
	char *name = strdup(base.program);

	if (!name)
		return NULL;
	text_utf8_clean(name);
	json_t *json = json_string(name);
	free(name);
	return json;
}

char *stats_json(struct server *s, int status, bool ended)
{
	struct engine_stats e;
	struct census c;
	json_t *root = json_object(), *ahead = json_object();
	uint64_t wall_ns = clock_now_ns() - base.start_ns;

	census_take(s, &c);
	pthread_mutex_lock(&s->engine_lock);
	engine_stats(s->engine, &e);
	pthread_mutex_unlock(&s->engine_lock);
	json_object_set_new(root, "schema", json_string("pagetide.stats/1"));
	json_object_set_new(root, "version", json_string(TIDE_VERSION));
	json_object_set_new(root, "program", program_json());
	json_object_set_new(root, "exit_status",
			    !ended ? json_null()
				   : json_integer(WIFEXITED(status) ? WEXITSTATUS(status)
								    : 128 + WTERMSIG(status)));
	number_set(root, "wall_ns", wall_ns);
	number_set(root, "page_size", PAGE_BYTES);
	json_object_set_new(root, "tiers", tiers_json(s));
	number_set(root, "managed_bytes", c.managed * PAGE_BYTES);
	number_set(root, "peak_managed_bytes", s->peak_managed_pages * PAGE_BYTES);
	number_set(root, "stored_pages", c.stored);
	number_set(root, "held_pages", c.held);
	number_set(root, "shadow_pages", c.shadows);
	faults_set(root, s);
	json_object_set_new(root, "moves", moves_json(&e));
	huge_set(root, s);
	number_set(root, "promoted_pages", atomic_load(&s->promoted));
	number_set(root, "demoted_pages", atomic_load(&s->demoted));
	number_set(root, "node_promoted_pages", atomic_load(&s->raised));
	number_set(root, "unwritten_demotions", atomic_load(&s->shadow_drops));
	number_set(root, "over_budget_faults", atomic_load(&s->over_budget));
	number_set(root, "refilled_pages", atomic_load(&s->refilled));
	number_set(root, "vanished_pages", atomic_load(&s->vanished));
	number_set(ahead, "issued", e.readahead_issued);
	number_set(ahead, "used", e.readahead_used);
	json_object_set_new(root, "read_ahead", ahead);
	json_object_set_new(root, "overhead", overhead_json(s, wall_ns));
	json_object_set_new(root, "unmanaged", unmanaged_json(s));
	return document_write(root);
}

void stats_summary(struct server *s)
{
	struct tier_usage u;
	double mib = 1048576.0;

	if (s->slow_bound)
		fprintf(stderr, "pagetide: %llu pages went to node %u (%.1f MiB at most), %llu came back\n",
			(unsigned long long)atomic_load(&s->lowered), s->nodes[1],
			(double)s->peak_slow * PAGE_BYTES / mib,
			(unsigned long long)atomic_load(&s->raised));
	s->pool->ops->usage(s->pool, &u);
	fprintf(stderr,
		"pagetide: resident memory peaked at %.1f MiB (budget %.1f MiB); the pool at %.1f MiB\n"
		"pagetide: %llu pages demoted, %llu brought back, in %llu faults of p50 %.1f us, p99 %.1f us\n",
		(double)s->peak_resident * PAGE_BYTES / mib,
		(double)atomic_load(&s->limit) * PAGE_BYTES / mib, (double)u.peak_bytes / mib,
		(unsigned long long)atomic_load(&s->demoted),
		(unsigned long long)atomic_load(&s->promoted),
		(unsigned long long)histogram_count(&s->fault_times),
		(double)histogram_quantile(&s->fault_times, 500) / 1000,
		(double)histogram_quantile(&s->fault_times, 990) / 1000);
}

/* What is shared, of files or the kernel's own does not count against the bound; what is little is no reason. */
static bool unmanaged_exceeds(const struct server *s, enum unmanaged why)
{
	bool counts = why != UNMANAGED_SHARED && why != UNMANAGED_FILE && why != UNMANAGED_SPECIAL;

	return counts && s->excess_unmanaged[why] > atomic_load(&s->limit) / EXCESS_SHARE;
}

void stats_excess(struct server *s)
{
	char text[512], size[TEXT_NUMBER_BYTES];
	struct engine_stats e;
	int length = 0;

	if (!atomic_load(&s->over_budget))
		return;
	for (unsigned i = 0; i < UNMANAGED_COUNT; i++)
		if (unmanaged_exceeds(s, i))
			length += sprintf(text + length, ", %s %s", unmanaged_names[i],
					  text_size_format(size, s->excess_unmanaged[i] * PAGE_BYTES));
	engine_stats(s->engine, &e);
	for (unsigned r = MOVE_FAIL_BUSY; r < MOVE_REASON_COUNT; r++)
		if (e.ended[r])
			length += sprintf(text + length, ", moves %s %llu times", reason_names[r],
					  (unsigned long long)e.ended[r]);
	if (length)
		fprintf(stderr, "pagetide: what stayed above the budget: %s\n", text + 2);
}
