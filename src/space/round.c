/* SPDX-License-Identifier: MIT */
/*
 * Rounds: what the keeper does whenever a program is due for a look (pace.c).
 *
 *   look at sizes ─► adopt new mappings ─► [plan_lock] who came, who has gone, how much is resident, is
 *   memory tight ─► who waits for faults ─► when to look again
 *
 * New memory fills unseen until it is adopted, in a control group up to the limit, where the kernel kills. So
 * nothing keeps the keeper from looking for longer than LOOK_WAIT_NS: while it waits for a plan to end it
 * looks and adopts on.
 */
#include <errno.h>
#include <poll.h>

#include "clock.h"
#include "keeper_inner.h"
#include "proc.h"

#define LOOK_WAIT_NS 4000000u
/* A fault that takes longer was not served by one who has a CPU, or waited for room. */
#define SERVED_NS 1000000u

static uint32_t hold_pages(const struct server *s)
{
	uint64_t pages = atomic_load(&s->limit) / 8;

	pages = pages < HOLD_PAGES_MIN ? HOLD_PAGES_MIN : pages > 65536 ? 65536 : pages;
	/* All that is on the slow node may be held. */
	pages += s->slow_bound;
	return (uint32_t)(pages < HOLD_PAGES_MAX ? pages : HOLD_PAGES_MAX);
}

static uint64_t time_take(struct keeper *k)
{
	uint64_t cpu_ns = clock_thread_cpu_ns(), took_ns = cpu_ns - k->counted_ns;

	k->counted_ns = cpu_ns;
	return took_ns;
}

static void time_add(struct server *s, bool forced, uint64_t took_ns)
{
	atomic_fetch_add(forced ? &s->forced_ns : &s->voluntary_ns, took_ns);
}

uint64_t time_count(struct keeper *k, bool forced)
{
	uint64_t took_ns = time_take(k);

	time_add(k->server, forced, took_ns);
	return took_ns;
}

void looks_count(struct keeper *k)
{
	uint64_t took_ns = time_take(k);

	k->looks_ns += took_ns;
	k->uncounted_ns += took_ns;
}

/* Before anything of a program can be adopted; false: it cannot be now. */
static bool program_ready(struct keeper *k, struct program *p)
{
	struct server *s = k->server;
	int error = p->hold.address ? 0 : hold_open(p, hold_pages(s));

	if (error == -ENOMEM && !k->warned_space && !s->quiet) {
		k->warned_space = true;
		server_warn("a process has too little address space left to be managed; raise ulimit -v");
	}
	/* Registered and nobody to serve it, the program would hang at its next touch. */
	return !error && (p->nr_handlers || !handlers_start(p, s->saturated));
}

/* Adopt what there is to adopt; returns how many pages that were. */
static uint64_t program_survey(struct keeper *k, struct program *p)
{
	uint64_t pages = 0, now_ns = clock_now_ns();
	bool first = !p->surveyed;
	bool changed = !p->adopted || p->size_pages != p->seen_size_pages ||
		       atomic_load(&p->unknown) || atomic_load(&p->map_seq) != p->seen_map_seq;

	if (p->helper_socket < 0)
		return 0;
	if (!(changed ? scan_may(&p->survey, now_ns) : scan_due(&p->again, now_ns))) {
		/* As soon as its share allows for it, not at some later look. */
		if (p->size_pages != p->seen_size_pages)
			atomic_store(&p->grown, true);
		return 0;
	}
	looks_count(k);
	if (!program_ready(k, p))
		return 0;
	atomic_store(&p->unknown, false);
	p->seen_size_pages = p->size_pages;
	p->seen_map_seq = atomic_load(&p->map_seq);
	int error = program_adopt(p, &pages);
	p->adopted |= !error;
	p->managed_pages = extents_pages(p);
	program_locate(p);
	uint64_t took_ns = time_count(k, changed || k->pace.forced);
	now_ns = clock_now_ns();
	if (first && p->surveyed) {
		/* It costs most by far, and once: no reason to leave alone what comes just after it. */
		took_ns = 0;
		advice_done(p, now_ns, 0); /* it has read that as well */
	}
	scan_done(&p->survey, now_ns, took_ns, pages);
	/* What failed does not wait for its share: of a child nothing is taken out before. */
	scan_done(&p->again, now_ns, error ? 0 : took_ns, pages);
	return pages;
}

/* Until memory is tight for the first time there is no thread but the keeper. */
static void threads_start(struct keeper *k)
{
	if (k->mover_runs || warden_start(k->server))
		return;
	k->mover_runs = !mover_start(k->server, k->pace.watch_ppm, &k->mover);
	if (!k->mover_runs)
		warden_join(k->server);
}

/* Whether faults have been served since this was asked last, as many as by one who has a CPU. */
static bool faults_served(struct program *p)
{
	uint64_t now_ns = clock_now_ns(), nr = handlers_served(p);
	bool served = nr - p->nr_served_looked > (now_ns - p->served_looked_ns) / SERVED_NS;

	p->nr_served_looked = nr;
	p->served_looked_ns = now_ns;
	return served;
}

/* A handler that waits for its CPU cannot know it; it may even hold the lock. That a message waits says little:
 * while fault follows fault one mostly does. Returns whether messages wait and are not read. */
static bool program_hurry(struct program *p)
{
	struct pollfd messages = { .fd = p->uffd, .events = POLLIN };

	if (faults_served(p) || !p->nr_handlers || poll(&messages, 1, 0) < 1)
		p->nr_waiting_looks = 0;
	else if (++p->nr_waiting_looks > 1)
		handlers_hurry(p);
	return p->nr_waiting_looks;
}

/* Read the sizes of the programs that are due. */
static void programs_look(struct server *s, uint64_t now_ns)
{
	for (struct program *p = s->programs; p; p = p->next) {
		bool grown = atomic_exchange(&p->grown, false);
		p->looked = grown || scan_due(&p->look, now_ns);
		if (p->looked && p->statm >= 0)
			(void)proc_statm_read(p->statm, &p->size_pages, &p->looked_pages);
	}
}

/* It has a share of its own: looks are no rarer for it. */
static void program_advice(struct keeper *k, struct program *p)
{
	if (!advice_due(p, clock_now_ns()))
		return;
	looks_count(k);
	advice_read(p);
	advice_done(p, clock_now_ns(), time_count(k, false));
}

/* Adopt what the looks found, or look everywhere. Without plan_lock: new memory fills unseen while a plan
 * is carried out, and that takes long where the machine is busy. */
static void programs_adopt(struct keeper *k, bool all)
{
	for (struct program *p = k->server->programs; p; p = p->next)
		if (p->looked || all) {
			ends_look(p, clock_now_ns()); /* before anything is taken out */
			p->nr_found = program_survey(k, p) + program_hurry(p);
			program_advice(k, p);
		}
}

/*
 * What came with the looks, waking up for them and all, is part of their cost: an equal part of each. Waking up is
 * forced when the share is used up and none is due: it is for seeing in time whether they have become forced.
 */
static void looks_done(struct keeper *k, uint64_t now_ns)
{
	struct server *s = k->server;
	uint64_t nr = 0;

	for (const struct program *p = s->programs; p; p = p->next)
		nr += p->looked;
	looks_count(k);
	bool spent = !nr && pace_spent(&k->pace, atomic_load(&s->voluntary_ns), now_ns);
	time_add(s, k->pace.forced || spent, k->uncounted_ns);
	k->uncounted_ns = 0;
	if (!nr)
		return;
	for (struct program *p = s->programs; p; p = p->next)
		if (p->looked)
			scan_done(&p->look, now_ns, k->looks_ns / nr, p->nr_found);
	k->looks_ns = 0;
}

static void programs_watch(void *arg)
{
	struct keeper *k = arg;

	signals_pass(k); /* it may take as long as a helper is frozen */
	if (!k->server->tight)
		return;
	programs_look(k->server, clock_now_ns());
	programs_adopt(k, false);
	/* The round that this is part of counts what it cost. */
}

void keeper_lock(struct keeper *k)
{
	plan_lock_watch(k->server, LOOK_WAIT_NS, programs_watch, k);
}

/* The resident anonymous pages of all programs that are not on the slow node, as of the last look at each;
 * the mover measures those of families. plan_lock held. */
static uint64_t programs_measure(struct server *s)
{
	uint64_t sum = atomic_load(&s->unhelped_pages);

	for (struct program *p = s->programs; p; p = p->next) {
		if (p->looked && p->nr_family < 2)
			p->anon_pages = p->looked_pages;
		sum += p->anon_pages;
	}
	int64_t slow = atomic_load(&s->slow);
	return slow > 0 && s->slow_bound ? sum - ((uint64_t)slow < sum ? (uint64_t)slow : sum) : sum;
}

/* Choose who waits for faults, and keep the mover off their CPUs. */
static void programs_choose(struct keeper *k, uint64_t now_ns)
{
	struct server *s = k->server;
	cpu_set_t used;

	if (!scan_due(&k->pace.choose, now_ns))
		return;
	looks_count(k);
	CPU_ZERO(&used);
	handlers_weigh(s, now_ns, clock_other_cpu_ns(k->mover));
	for (struct program *p = s->programs; p; p = p->next)
		handlers_choose(p, now_ns, &used);
	/* Where every CPU has something to do, one is as good as another. */
	if (s->saturated)
		CPU_ZERO(&used);
	if (s->saturated || CPU_COUNT(&used))
		mover_place(s, &used);
	scan_done(&k->pace.choose, now_ns, time_count(k, false), (uint64_t)CPU_COUNT(&used));
}

void programs_round(struct keeper *k)
{
	struct server *s = k->server;
	uint64_t now_ns = clock_now_ns(), managed = 0;

	for (struct program *p = s->programs; p; p = p->next)
		p->nr_found = 0;
	programs_look(s, now_ns);
	if (s->tight)
		programs_adopt(k, false);
	keeper_lock(k);
	newborn_join(s);
	programs_reap(s, now_ns, k->some_ended);
	uint64_t resident = programs_measure(s);
	/* When memory is tight the mover measures, and more often. */
	if (!s->tight)
		atomic_store(&s->resident, resident);
	else if (atomic_load(&s->resident) > resident)
		resident = atomic_load(&s->resident);
	if (resident > s->peak_resident)
		s->peak_resident = resident;
	bool begins = !s->tight && resident > budget_edge(s);
	if (begins) {
		threads_start(k);
		time_count(k, true);
	}
	s->tight |= begins && k->mover_runs;
	if (begins && s->tight)
		programs_adopt(k, true);
	for (struct program *p = s->programs; p; p = p->next) {
		if (s->tight)
			program_unshare(p);
		managed += p->managed_pages;
	}
	if (s->tight)
		programs_choose(k, now_ns);
	if (managed > s->peak_managed_pages)
		s->peak_managed_pages = managed;
	looks_done(k, now_ns);
	pace_set(&k->pace, s, resident, budget_edge(s));
	pthread_mutex_unlock(&s->plan_lock);
	if (s->tight && resident > atomic_load(&s->limit))
		mover_wake(s);
}
