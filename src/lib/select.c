/* SPDX-License-Identifier: MIT */
#include "select.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "bound.h"
#include "clock.h"
#include "family.h"
#include "file.h"
#include "proc.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define CHILDREN_MAX 4096u
#define ENDED_MAX 256u     /* that the report names each */
#define YOUNG_NS UINT64_C(1000000000)
#define CHILDREN_NS UINT64_C(30000000000) /* in which all are looked for at all events */
#define GLANCE_SHARE 3000u /* of the time may go into glances at all that sleep: one part */
#define KIN_SHARE 20u      /* of the time may go into reading who is started: one part */
#define BEGAN_NS UINT64_C(20000000)       /* when a process began is known to a tick or two */

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

/* What the rule says of what is not tuned; its cap and guarantee are divided after that. */
static void rule_give(struct watch *watch, const struct rule *rule)
{
	watch->rule = rule;
	if (!watch->tuned.weight)
		watch->space.weight = rule->weight;
}

/* What its guests touch: it may begin to run some at any time. */
static void guests_look(struct attach *a, struct watch *watch)
{
	const struct sense_ops *ops = a->sense->ops;

	if (watch->nr_vcpus && !watch->guests_told && ops->guests)
		ops->guests(a->sense, watch->pid);
	watch->guests_told = watch->nr_vcpus;
}

/* What calls cost is the machine's: who is new need not find it out again. */
static void pace_give(const struct attach *a, struct watch *watch)
{
	const struct move_pace *best = NULL;

	for (const struct watch *w = a->watches; w; w = w->next) {
		const struct move_pace *pace = process_pace(w->process);
		if (pace->nr_calibrations && (!best || pace->nr_calibrations > best->nr_calibrations))
			best = pace;
	}
	if (best)
		process_set_pace(watch->process, best);
}

static int process_try(struct attach *a, pid_t pid, const struct rule *rule, bool child, uint64_t chosen_ns)
{
	struct watch *watch;
	int error = watch_open(pid, chosen_ns, &a->shares, &a->map, clock_now_ns(), &watch);

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
	guests_look(a, watch);
	process_set_stall(watch->process, a->stall_ns);
	pace_give(a, watch);
	watch->child = child;
	watch->next = a->watches;
	a->watches = watch;
	a->nr_live++;
	return 0;
}

/* Or the first process of a namespace, which waits for us. */
static bool ourselves(pid_t pid)
{
	char first[PATH_MAX], own[PATH_MAX];

	return pid == getpid() || (pid == 1 && !file_link("", first, sizeof first, "/proc/1/exe") &&
				   !file_link("", own, sizeof own, "/proc/self/exe") && !strcmp(first, own));
}

/* That it ended is no loss, nor that it is ourselves, a child of a shell that is looked after, say; what else is in
 * the way its owner should hear, once. `chosen_ns`: the boot clock just before the process was judged; the number may
 * be a stranger's by now. 0: the user named it. */
static int process_add(struct attach *a, pid_t pid, const struct rule *rule, bool child, uint64_t chosen_ns)
{
	int error = ourselves(pid) ? -ESRCH : process_try(a, pid, rule, child, chosen_ns);
	char why[TIDE_MESSAGE_MAX];

	if (!error || ask_refuse(pid, error, why) == -ESRCH)
		return error;
	a->nr_refused++;
	if (!a->warned_refused) {
		a->warned_refused = true;
		snprintf(a->refused_why, sizeof a->refused_why, "not looked after (others may be, too): %s", why);
		attach_warn(a, a->refused_why);
	}
	return error;
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
	/* What waited there waits no longer. */
	windows_forget(&a->tiering, &watch->space, 0, UINT64_MAX);
	tiering_counts_add(&a->gone, &watch->space.counts);
	move_pace_add(&a->gone_stalls, process_pace(watch->process));
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

/* By exec: of a thread that was not the first its events were closed as that thread's; of a privileged program the
 * kernel has removed them. */
static void sensor_renew(struct attach *a, struct watch *watch)
{
	watch->renewed = false;
	a->sense->ops->remove(a->sense, watch->pid);
	int error = a->sense->ops->add(a->sense, watch->pid);
	if (error && error != -ESRCH)
		watch->error = error;
	watch->guests_told = false;
}

static void mappings_look(struct attach *a, struct watch *watch)
{
	watch->error = watch_look(watch);
	if (!watch->ended) {
		if (watch->renewed)
			sensor_renew(a, watch);
		guests_look(a, watch);
		return;
	}
	a->sense->ops->remove(a->sense, watch->pid);
	a->nr_live--;
	a->nr_ended++;
}

static void watches_look(struct attach *a, bool lost)
{
	for (struct watch *w = a->watches; w; w = w->next)
		if (!w->ended && (!lost || w->lost))
			mappings_look(a, w);
	ended_trim(a);
}

/* Others may give who sleeps another group, by which the rules choose, or another cpuset. However many they are, it
 * takes one part of the time to find that out. */
static void sleepers_glance(struct attach *a, uint64_t now_ns)
{
	uint64_t parts = 0;

	for (const struct watch *w = a->watches; w; w = w->next)
		parts += !w->ended && w->asleep ? GLANCE_SHARE : 0;
	for (struct watch *w = a->watches; w; w = w->next) {
		w->glanced = !w->ended && w->asleep && spend_due(&w->glance, parts, now_ns);
		if (!w->glanced)
			continue;
		uint64_t begin_ns = clock_thread_cpu_ns();
		watch_glance(w);
		w->glance = (struct spend){ now_ns, clock_thread_cpu_ns() - begin_ns };
	}
}

void select_look_lost(struct attach *a)
{
	watches_look(a, true);
}

/* ---- who is there ---- */

/*
 * Most of what a busy family starts ends before any page of it could be touched twice: looking after it would
 * cost more than all of its moves save. At the start everybody counts, or there might be nobody.
 */
static bool too_young(const struct attach *a, pid_t pid, uint64_t chosen_ns)
{
	uint64_t started_ns;
	int dir;

	if (!a->at_work || proc_open(pid, &dir))
		return false;
	int error = proc_started(dir, &started_ns);
	close(dir);
	return !error && chosen_ns < started_ns + YOUNG_NS;
}

/* Those that have been told, and are old enough by now. */
static void kin_follow(struct attach *a, const struct rule *rule, uint64_t now_ns)
{
	uint64_t boot_ns = clock_ns(CLOCK_BOOTTIME) - clock_now_ns(); /* the one clock is ahead of the other by that */
	struct kin_start start;

	while (!kin_take(&a->kin, now_ns - YOUNG_NS, &start))
		if (!select_find(a, start.pid))
			process_add(a, start.pid, rule, true, start.time_ns + boot_ns + BEGAN_NS);
}

/* The latest of that number, also if it has ended. */
static struct watch *latest_find(const struct attach *a, pid_t pid)
{
	for (struct watch *w = a->watches; w; w = w->next)
		if (w->pid == pid)
			return w;
	return NULL;
}

/*
 * Who begins with the number of one of ours tells that this one has ended; unless it was found before it was told.
 * One that was found to have ended has those that began before.
 */
static bool kin_ours(void *arg, const struct kin_start *start)
{
	struct attach *a = arg;
	struct watch *before = latest_find(a, start->pid);

	if (before) {
		before->lost = true;
		if (!before->ended)
			a->kin.doubt_ns = clock_now_ns();
	}
	const struct watch *parent = latest_find(a, start->parent);
	return parent && !parent->lost && (!parent->ended || start->time_ns < parent->ended_ns);
}

void select_look_kin(struct attach *a, uint64_t now_ns)
{
	const struct rule *first = &a->config.rules[0];

	if (!first->nr_pids || (a->nr_live && !spend_due(&a->kin_spent, KIN_SHARE, now_ns)))
		return;
	uint64_t begin_ns = clock_thread_cpu_ns();
	kin_read(&a->kin, kin_ours, a, now_ns);
	a->kin_spent = (struct spend){ now_ns, clock_thread_cpu_ns() - begin_ns };
	kin_follow(a, first, now_ns);
}

/* Nobody is overlooked when all were told since all were looked for. Who was too young then is told, or looked for
 * once more. */
static bool children_due(const struct attach *a, uint64_t now_ns)
{
	uint64_t doubt_ns = kin_doubt_ns(&a->kin);

	return a->nr_refused || doubt_ns == UINT64_MAX || a->children_ns < doubt_ns + 2 * YOUNG_NS ||
	       now_ns - a->children_ns >= CHILDREN_NS;
}

/* Of all that live: a number of one that ended may be a stranger's by now, and its children outlive it. */
static void children_follow(struct attach *a, const struct rule *rule)
{
	pid_t pids[CHILDREN_MAX], *roots = calloc(a->nr_live + 1, sizeof *roots);
	size_t nr = 0, nr_roots = 0;
	uint64_t chosen_ns = clock_ns(CLOCK_BOOTTIME);

	if (!roots)
		return; /* they are found the next time */
	for (const struct watch *w = a->watches; w; w = w->next)
		if (!w->ended)
			roots[nr_roots++] = w->pid;
	if (nr_roots && family_descendants("", roots, nr_roots, pids, CHILDREN_MAX, &nr))
		nr = 0;
	free(roots);
	for (size_t i = 0; i < nr && i < CHILDREN_MAX; i++)
		if (!select_find(a, pids[i]) && !too_young(a, pids[i], chosen_ns))
			process_add(a, pids[i], rule, true, chosen_ns);
}

static struct watch **process_place(struct attach *a, const struct watch *watch)
{
	struct watch **at = &a->watches;

	while (*at != watch)
		at = &(*at)->next;
	return at;
}

/* One process of the machine: whose is it now? While it sleeps that is asked at a glance only. */
static int process_judge(void *arg, pid_t pid)
{
	struct attach *a = arg;
	struct watch *watch = select_find(a, pid);
	uint64_t chosen_ns = clock_ns(CLOCK_BOOTTIME);
	const struct rule *rule;

	if (watch && watch->asleep && !watch->glanced)
		return 0;
	uint64_t begin_ns = clock_thread_cpu_ns();
	rule = rule_find(a->config.rules, a->config.nr_rules, "", pid, watch ? watch->rule : NULL);
	if (watch && watch->glanced)
		watch->glance.cost_ns += clock_thread_cpu_ns() - begin_ns;
	if (rule && !rule->weight)
		rule = NULL;
	if (!rule) {
		/* One that cannot be looked at is ending: it keeps what it has until that is seen. */
		if (watch && !process_look(watch->process))
			process_drop(a, process_place(a, watch));
	} else if (!watch) {
		if (!too_young(a, pid, chosen_ns))
			process_add(a, pid, rule, false, chosen_ns); /* as above */
	} else if (watch->rule != rule) {
		rule_give(watch, rule);
	}
	return 0;
}

/* ---- what they may have ---- */

static void fast_divide(struct attach *a)
{
	uint64_t fast_bytes = 0;

	for (size_t i = 0; i < a->map.nr; i++)
		if (nodeset_has(&a->fast, a->map.nodes[i].id))
			fast_bytes += a->map.nodes[i].total_bytes;
	bounds_divide(a->watches, &a->shares, a->config.rules, a->config.nr_rules, fast_bytes);
}

/* ---- all together ---- */

size_t select_look(struct attach *a)
{
	const struct rule *first = &a->config.rules[0];
	uint64_t now_ns = clock_now_ns();
	bool due = children_due(a, now_ns);

	watches_look(a, false);
	sleepers_glance(a, now_ns);
	if (due || !first->nr_pids)
		a->nr_refused = 0;
	if (!first->nr_pids) {
		proc_pids("", process_judge, a);
	} else if (due) {
		a->children_ns = now_ns;
		children_follow(a, first);
	}
	/* What cannot be told now is told the next time. */
	watches_share(a->watches, &a->shares, clock_now_ns());
	fast_divide(a);
	return a->nr_live;
}

static int runs_guests(pid_t pid)
{
	int dir, error = proc_open(pid, &dir);

	if (error)
		return 0;
	bool runs = proc_runs_guests(dir);
	close(dir);
	return runs;
}

static int guests_judge(void *arg, pid_t pid)
{
	const struct attach *a = arg;
	const struct rule *rule = rule_find(a->config.rules, a->config.nr_rules, "", pid, NULL);

	return rule && rule->weight && runs_guests(pid);
}

bool select_runs_guests(const struct attach *a)
{
	const struct rule *first = &a->config.rules[0];

	for (size_t i = 0; i < first->nr_pids; i++)
		if (runs_guests(first->pids[i]))
			return true;
	return !first->nr_pids && proc_pids("", guests_judge, (void *)(uintptr_t)a) > 0;
}

int select_begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct rule *first = &a->config.rules[0];

	kin_begin(&a->kin, "");
	select_look_kin(a, a->start_ns); /* who is started from now on is told */
	if (first->nr_pids && kin_doubt_ns(&a->kin) == UINT64_MAX && !a->options->watch_only)
		attach_warn(a, "the kernel does not tell us who starts whom (that needs CAP_PERFMON): descendants are "
			       "looked for now and then, and not found once all between them and us have ended");
	for (size_t i = 0; i < first->nr_pids; i++) {
		pid_t pid = first->pids[i];
		int error = select_find(a, pid) ? 0 : process_add(a, pid, first, false, 0);

		if (error)
			return ask_refuse(pid, error, ret_message);
	}
	if (!select_look(a) && !a->options->config_path) {
		MESSAGE("no process is selected: name others, or wait for them with pagetide daemon");
		return -ESRCH;
	}
	return 0;
}

void select_tuned(struct attach *a)
{
	for (struct watch *w = a->watches; w; w = w->next)
		if (w->rule)
			rule_give(w, w->rule);
	fast_divide(a);
}

void select_change(struct attach *a, struct config *config)
{
	struct config old = a->config;

	a->config = *config;
	for (struct watch *w = a->watches; w; w = w->next) {
		w->rule = w->rule ? config_rule(&a->config, w->rule->name) : NULL;
		watch_wake(w); /* whose it is is asked anew */
	}
	config_free(&old);
	for (struct watch *w = a->watches; w; w = w->next)
		if (w->rule)
			rule_give(w, w->rule);
	select_look(a);
}

void select_end(struct attach *a)
{
	kin_end(&a->kin);
	shares_close(&a->shares);
	while (a->watches) {
		struct watch *watch = a->watches;
		a->watches = watch->next;
		watch_close(watch);
	}
	a->last = NULL;
}
