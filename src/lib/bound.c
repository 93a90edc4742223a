/* SPDX-License-Identifier: MIT */
#include "bound.h"

#include <stdlib.h>

#include "divide.h"
#include "number.h"
#include "rule.h"

#define PAGE_BYTES 4096u

struct bounds {
	struct watch *first;
	struct shares *shares;
	uint64_t fast_bytes;
	struct part *parts; /* room for all spaces */
};

static uint64_t rule_max(const struct bounds *b, const struct rule *rule)
{
	uint64_t bytes = rule ? rule_size_bytes(&rule->fast_max, b->fast_bytes) : RULE_NO_MAX;

	return bytes == RULE_NO_MAX ? UINT64_MAX : bytes / PAGE_BYTES;
}

static bool capped(const struct bounds *b, const struct watch *watch)
{
	return (watch->tuned.fast_max ? watch->tuned.fast_max_pages : rule_max(b, watch->rule)) != UINT64_MAX;
}

static bool max_tuned(const struct watch *watch)
{
	return watch->tuned.fast_max;
}

static bool min_tuned(const struct watch *watch)
{
	return watch->tuned.fast_min;
}

/* Those that divide one bound: one that is tuned, or all of a rule that are not. */
struct workload {
	const struct rule *rule;
	const struct watch *alone;
	bool (*tuned)(const struct watch *watch);
};

static bool belongs(const struct workload *to, const struct watch *watch)
{
	if (to->alone)
		return watch == to->alone;
	return watch->rule == to->rule && !watch->ended && !to->tuned(watch);
}

static const struct watch *user_watch(const struct share_user *user)
{
	return user->process->own->owner;
}

static bool uses(const struct workload *workload, const struct share *share)
{
	for (size_t i = 0; i < share->nr_users; i++)
		if (belongs(workload, user_watch(&share->users[i])))
			return true;
	return false;
}

static struct part part_of(const struct bounds *b, struct tiering_space *space, uint64_t touched_before)
{
	return (struct part){
		.space = space,
		.has = tiering_fast_pages(b->shares->tiering, space),
		.touched = space->counts.touched - touched_before,
	};
}

static size_t parts_gather(const struct bounds *b, const struct workload *workload)
{
	size_t nr = 0;

	for (struct watch *w = b->first; w; w = w->next)
		if (belongs(workload, w))
			b->parts[nr++] = part_of(b, &w->space, w->touched_before);
	for (size_t i = 0; i < SHARE_BUCKETS; i++)
		for (struct share *s = b->shares->buckets[i]; s; s = s->next)
			if (uses(workload, s))
				b->parts[nr++] = part_of(b, &s->space, s->touched_before);
	return nr;
}

static void max_divide(const struct bounds *b, const struct workload *workload, uint64_t max_pages)
{
	size_t nr = parts_gather(b, workload);

	divide_max(b->parts, nr, max_pages);
	for (size_t i = 0; i < nr; i++) {
		uint64_t *max = &b->parts[i].space->fast_max_pages;
		*max = *max > b->parts[i].max ? *max : b->parts[i].max;
	}
}

static void min_divide(const struct bounds *b, const struct workload *workload, uint64_t min_pages)
{
	size_t nr = parts_gather(b, workload);

	divide_min(b->parts, nr, min_pages);
	for (size_t i = 0; i < nr; i++) {
		uint64_t *min = &b->parts[i].space->fast_min_pages;
		*min = *min > b->parts[i].min ? *min : b->parts[i].min;
	}
}

/* What those that are tuned leave of the rule's is for the others. */
static void rule_divide(const struct bounds *b, const struct rule *rule)
{
	const struct workload capped = { .rule = rule, .tuned = max_tuned };
	const struct workload guaranteed = { .rule = rule, .tuned = min_tuned };
	uint64_t max = rule_max(b, rule), min = rule_size_bytes(&rule->fast_min, b->fast_bytes) / PAGE_BYTES;
	bool bounded = max != UINT64_MAX;

	min = min < max ? min : max;
	for (const struct watch *w = b->first; w; w = w->next) {
		if (w->rule != rule || w->ended)
			continue;
		if (w->tuned.fast_max && w->tuned.fast_max_pages != UINT64_MAX)
			max = minus(max, w->tuned.fast_max_pages);
		if (w->tuned.fast_min)
			min = minus(min, w->tuned.fast_min_pages);
	}
	if (bounded)
		max_divide(b, &capped, max);
	if (min)
		min_divide(b, &guaranteed, min);
}

static void tuned_divide(const struct bounds *b, const struct watch *watch)
{
	const struct workload one = { .alone = watch };

	if (watch->tuned.fast_max && watch->tuned.fast_max_pages != UINT64_MAX)
		max_divide(b, &one, watch->tuned.fast_max_pages);
	if (watch->tuned.fast_min)
		min_divide(b, &one, watch->tuned.fast_min_pages);
}

/* Nothing for anybody, but for those without a cap. */
static void bounds_begin(const struct bounds *b)
{
	for (struct watch *w = b->first; w; w = w->next) {
		w->space.fast_max_pages = capped(b, w) ? 0 : UINT64_MAX;
		w->space.fast_min_pages = 0;
	}
	for (size_t i = 0; i < SHARE_BUCKETS; i++) {
		for (struct share *s = b->shares->buckets[i]; s; s = s->next) {
			s->space.fast_max_pages = s->space.fast_min_pages = 0;
			for (size_t u = 0; u < s->nr_users; u++)
				if (!capped(b, user_watch(&s->users[u])))
					s->space.fast_max_pages = UINT64_MAX;
		}
	}
}

/* From here on what is touched counts for the next time. */
static void bounds_end(const struct bounds *b)
{
	for (struct watch *w = b->first; w; w = w->next)
		w->touched_before = w->space.counts.touched;
	for (size_t i = 0; i < SHARE_BUCKETS; i++)
		for (struct share *s = b->shares->buckets[i]; s; s = s->next)
			s->touched_before = s->space.counts.touched;
}

void bounds_divide(struct watch *first, struct shares *shares, const struct rule *rules, size_t nr_rules,
		   uint64_t fast_bytes)
{
	struct bounds b = { .first = first, .shares = shares, .fast_bytes = fast_bytes };
	size_t nr = shares->nr + 1;

	for (const struct watch *w = first; w; w = w->next)
		nr++;
	b.parts = calloc(nr, sizeof *b.parts);
	if (!b.parts)
		return;
	bounds_begin(&b);
	for (size_t i = 0; i < nr_rules; i++)
		rule_divide(&b, &rules[i]);
	for (const struct watch *w = first; w; w = w->next)
		if (!w->ended)
			tuned_divide(&b, w);
	bounds_end(&b);
	free(b.parts);
}
