/* SPDX-License-Identifier: MIT */
#include "select.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "ask.h"
#include "clock.h"
#include "proc.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define PAGE_BYTES 4096u
#define CHILDREN_MAX 4096u
#define ENDED_MAX 256u     /* that the report names each */
#define FOOTHOLD 16u       /* of a cap, so much is divided evenly: who has nothing can begin */

struct watch *select_find(struct attach *a, pid_t pid)
{
	if (a->last && a->last->pid == pid && !a->last->ended)
		return a->last;
	for (struct watch *w = a->watches; w; w = w->next)
		if (w->pid == pid && !w->ended)
			return a->last = w;
	return NULL;
}

/* ---- coming and going ---- */

static void rule_give(struct watch *watch, const struct rule *rule)
{
	watch->rule = rule;
	watch->space.weight = rule->weight;
	watch->space.fast_min_pages = 0;
	watch->space.fast_max_pages = UINT64_MAX;
}

static int process_add(struct attach *a, pid_t pid, const struct rule *rule, bool child)
{
	struct watch *watch;
	int error = watch_open(pid, &a->shares, &a->map, clock_now_ns(), &watch);

	if (error)
		return error;
	rule_give(watch, rule);
	error = watch_look(watch);
	if (!error)
		error = a->sense->ops->add(a->sense, pid);
	if (error) {
		watch_close(watch);
		return error;
	}
	process_set_stall(watch->process, a->stall_ns);
	watch->child = child;
	watch->next = a->watches;
	a->watches = watch;
	a->nr_live++;
	return 0;
}

/* Its place in the list is *at. */
static void process_drop(struct attach *a, struct watch **at)
{
	struct watch *watch = *at;

	*at = watch->next;
	a->last = NULL;
	if (!watch->ended) {
		a->sense->ops->remove(a->sense, watch->pid);
		a->nr_live--;
	} else {
		a->nr_ended--;
	}
	a->nr_gone++;
	tiering_counts_add(&a->gone, &watch->space.counts);
	watch_close(watch);
}

/* The list has the latest first: of those that ended the earliest are only counted. */
static void ended_trim(struct attach *a)
{
	size_t nr = 0;

	if (a->nr_ended <= ENDED_MAX)
		return;
	for (struct watch **at = &a->watches; *at;) {
		if ((*at)->ended && ++nr > ENDED_MAX)
			process_drop(a, at);
		else
			at = &(*at)->next;
	}
}

static void mappings_look(struct attach *a)
{
	for (struct watch *w = a->watches; w; w = w->next) {
		if (w->ended)
			continue;
		w->error = watch_look(w);
		if (!w->ended)
			continue;
		a->sense->ops->remove(a->sense, w->pid);
		a->nr_live--;
		a->nr_ended++;
	}
	ended_trim(a);
}

/* ---- who is there ---- */

static void children_follow(struct attach *a, const struct rule *rule)
{
	pid_t pids[CHILDREN_MAX];
	size_t nr;

	if (process_children("", rule->pids, rule->nr_pids, pids, CHILDREN_MAX, &nr))
		return;
	for (size_t i = 0; i < nr && i < CHILDREN_MAX; i++)
		if (!select_find(a, pids[i]))
			process_add(a, pids[i], rule, true); /* it may have ended: then it is no loss */
}

static struct watch **process_place(struct attach *a, const struct watch *watch)
{
	struct watch **at = &a->watches;

	while (*at != watch)
		at = &(*at)->next;
	return at;
}

/* One process of the machine: whose is it now? */
static int process_judge(void *arg, pid_t pid)
{
	struct attach *a = arg;
	struct watch *watch = select_find(a, pid);
	const struct rule *rule;

	if (pid == getpid())
		return 0;
	rule = rule_find(a->config.rules, a->config.nr_rules, "", pid, watch ? watch->rule : NULL);
	if (rule && !rule->weight)
		rule = NULL;
	if (!watch && rule)
		process_add(a, pid, rule, false); /* as above */
	else if (watch && !rule && !process_look(watch->process)) /* else it is ending */
		process_drop(a, process_place(a, watch));
	else if (watch && watch->rule != rule)
		rule_give(watch, rule);
	return 0;
}

/* ---- what they may have ---- */

static uint64_t fast_pages(const struct attach *a, const struct watch *watch)
{
	uint64_t sum = 0;

	for (uint32_t n = 0; n < a->tiering.config.nr_nodes; n++)
		if (a->tiering.config.nodes[n].fast)
			sum += watch->space.node_pages[n];
	return sum;
}

static uint64_t share(uint64_t whole, uint64_t part, uint64_t sum)
{
	return sum ? (uint64_t)((unsigned __int128)whole * part / sum) : 0;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* What of a cap is its part, of `used` pages in all. */
static uint64_t max_part(const struct attach *a, const struct watch *w, uint64_t max_pages, uint64_t used,
			 uint64_t nr)
{
	uint64_t evenly = used ? max_pages / FOOTHOLD : max_pages;

	return evenly / nr + share(max_pages - evenly, fast_pages(a, w) + w->touched_lately, used);
}

/* Who has more than his part gives it up over time; others get only what is free by then. */
static void max_divide(const struct attach *a, const struct rule *rule, uint64_t max_pages)
{
	uint64_t used = 0, nr = 0, has = 0, lacking = 0;

	for (const struct watch *w = a->watches; w; w = w->next) {
		if (w->rule != rule || w->ended)
			continue;
		has += fast_pages(a, w);
		used += fast_pages(a, w) + w->touched_lately;
		nr++;
	}
	for (const struct watch *w = a->watches; w; w = w->next)
		if (w->rule == rule && !w->ended)
			lacking += minus(max_part(a, w, max_pages, used, nr), fast_pages(a, w));
	for (struct watch *w = a->watches; w; w = w->next) {
		if (w->rule != rule || w->ended)
			continue;
		uint64_t own = fast_pages(a, w), part = max_part(a, w, max_pages, used, nr);
		w->space.fast_max_pages = part <= own ? part :
			own + share(minus(max_pages, has), part - own, lacking);
	}
}

static void min_divide(const struct attach *a, const struct rule *rule, uint64_t min_pages)
{
	uint64_t has = 0, nr = 0;

	for (const struct watch *w = a->watches; w; w = w->next) {
		if (w->rule != rule || w->ended)
			continue;
		has += fast_pages(a, w);
		nr++;
	}
	for (struct watch *w = a->watches; w; w = w->next) {
		if (w->rule != rule || w->ended)
			continue;
		uint64_t own = fast_pages(a, w);
		w->space.fast_min_pages = has > min_pages ? share(min_pages, own, has)
							  : own + (min_pages - has) / nr;
	}
}

static void shares_divide(struct attach *a)
{
	uint64_t fast_bytes = 0;

	for (size_t i = 0; i < a->map.nr; i++)
		if (nodeset_has(&a->fast, a->map.nodes[i].id))
			fast_bytes += a->map.nodes[i].total_bytes;
	for (struct watch *w = a->watches; w; w = w->next) {
		w->touched_lately = w->space.counts.touched - w->touched_before;
		w->touched_before = w->space.counts.touched;
	}
	for (size_t i = 0; i < a->config.nr_rules; i++) {
		const struct rule *rule = &a->config.rules[i];
		uint64_t max = rule_size_bytes(&rule->fast_max, fast_bytes);
		uint64_t min = rule_size_bytes(&rule->fast_min, fast_bytes);

		/* Without a rule's word what a process was tuned to holds. */
		if (max != RULE_NO_MAX)
			max_divide(a, rule, max / PAGE_BYTES);
		if (min)
			min_divide(a, rule, (min < max ? min : max) / PAGE_BYTES);
	}
}

/* ---- all together ---- */

size_t select_look(struct attach *a)
{
	const struct rule *first = &a->config.rules[0];

	mappings_look(a);
	if (first->nr_pids)
		children_follow(a, first);
	else
		proc_pids("", process_judge, a);
	shares_divide(a);
	return a->nr_live;
}

int select_begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct rule *first = &a->config.rules[0];

	for (size_t i = 0; i < first->nr_pids; i++) {
		pid_t pid = first->pids[i];
		int error = select_find(a, pid) ? 0 : process_add(a, pid, first, false);

		if (error == -EMFILE) {
			MESSAGE("process %d: more threads than files may be open: raise ulimit -n", pid);
			return error;
		}
		if (error)
			return ask_refuse(pid, error, ret_message);
	}
	if (!select_look(a) && !a->options->config_path) {
		MESSAGE("no process is selected: name others, or wait for them with pagetide daemon");
		return -ESRCH;
	}
	return 0;
}

void select_change(struct attach *a, struct config *config)
{
	struct config old = a->config;

	a->config = *config;
	for (struct watch *w = a->watches; w; w = w->next)
		w->rule = w->rule ? config_rule(&a->config, w->rule->name) : NULL;
	config_free(&old);
	for (struct watch *w = a->watches; w; w = w->next)
		if (w->rule)
			rule_give(w, w->rule);
	select_look(a);
}

void select_end(struct attach *a)
{
	shares_close(&a->shares);
	while (a->watches) {
		struct watch *watch = a->watches;
		a->watches = watch->next;
		watch_close(watch);
	}
	a->last = NULL;
}
