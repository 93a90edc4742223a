/* SPDX-License-Identifier: MIT */
/*
 * Calls: in which of them a program's threads sleep that take memory away, and so of whom the next message tells.
 */
#include <errno.h>

#include "clock.h"
#include "probe.h"
#include "proc.h"
#include "program.h"

#define SECOND UINT64_C(1000000000)
/* A mover goes from its first message to its second: if it has no other, its old place is there still after so many. */
#define MOVER_TRIES 50u
#define MOVER_PAUSE_NS 20000u
/* For so long nothing is read because of a former: its thread has only to be let run. That needs some microseconds, for
 * which it may wait much longer: whoever runs must have had time to, so much each. */
#define HELD_LEAST_NS (2 * SECOND)
#define HELD_RUN_NS SECOND
#define HELD_MOST_NS (20 * SECOND)

static int threads_look(struct program *p, void (*visit)(void *arg, const struct proc_leaving *leaving), void *arg,
			unsigned *ret_nr, unsigned *ret_running)
{
	int error = 0;

	if (p->threads_dir < 0)
		error = p->pid ? proc_open(p->pid, &p->threads_dir) : -ESRCH;
	return error ? error : proc_leavings(p->threads_dir, visit, arg, ret_nr, ret_running);
}

struct shortening {
	uint64_t from, to, nr_pages;
	bool met;
};

static void move_shorten(void *arg, const struct proc_leaving *l)
{
	struct shortening *s = arg;
	uint64_t nr_pages = (l->end - l->start) >> PAGE_SHIFT;

	if (!l->moved || l->start != vpn_address(s->from))
		return;
	s->met = true;
	if (l->to == vpn_address(s->to) && nr_pages < s->nr_pages)
		s->nr_pages = nr_pages;
}

struct presence {
	uint64_t address;
	bool there, any; /* mappings; whose first thread has ended shows none */
};

static int mapping_seek(void *arg, const struct proc_mapping *m)
{
	struct presence *seek = arg;

	seek->any = true;
	seek->there |= m->start <= seek->address && seek->address < m->end && m->uffd;
	return m->end > seek->address;
}

int page_mapped(const struct program *p, uint64_t vpn)
{
	struct presence seek = { .address = vpn_address(vpn) };
	int error = p->proc_dir < 0 ? -ESRCH : proc_mappings(p->proc_dir, true, mapping_seek, &seek);

	return error < 0 ? error : seek.any ? seek.there : -ESRCH;
}

/*
 * Kernels before 6.15 tell of a move that also makes smaller the length it had. What is behind it at its new place
 * is others', and the rest is told to be unmapped. The mover sleeps in its call again, or is about to, when it is let
 * run; but for one that leaves its old place mapped (MREMAP_DONTUNMAP), which may not make smaller.
 */
uint64_t calls_pages(struct program *p, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct shortening s = { .from = from, .to = to, .nr_pages = nr_pages };
	unsigned major, minor, nr, nr_running = 1;

	if (probe_kernel(&major, &minor) || major > 6 || (major == 6 && minor >= 15))
		return nr_pages;
	uint64_t end_ns = clock_now_ns() + HELD_MOST_NS;
	for (unsigned tries = 1; !threads_look(p, move_shorten, &s, &nr, &nr_running); tries++) {
		bool stays = tries == MOVER_TRIES && page_mapped(p, from) > 0;
		if (s.met || !nr_running || stays || clock_now_ns() > end_ns)
			break;
		clock_sleep_ns(MOVER_PAUSE_NS);
	}
	return s.nr_pages;
}

struct sight {
	const struct moves *moves;
	struct moves_look look;
	bool lacking;
};

/* Of hundreds of threads few sleep in a call that matters. */
static void leaving_take(void *arg, const struct proc_leaving *l)
{
	struct sight *sight = arg;
	struct leaving call = { .vpn = l->start >> PAGE_SHIFT, .nr_pages = (l->end - l->start) >> PAGE_SHIFT,
				.to = l->to >> PAGE_SHIFT, .moved = l->moved };

	if (!moves_concern(sight->moves, &call))
		return;
	if (sight->look.nr == FORMERS_MAX)
		sight->lacking = true;
	else
		sight->look.calls[sight->look.nr++] = call;
}

struct neighbours {
	const struct program *program;
	pid_t memory; /* who is known to live in it */
	bool some;
};

static int neighbour_seek(void *arg, pid_t pid)
{
	struct neighbours *n = arg;
	const struct program *p = n->program;

	n->some = pid != p->pid && pid != p->helper_pid && proc_same_memory(pid, n->memory);
	return n->some;
}

static void living_take(void *arg, pid_t tid, char state, int cpu)
{
	pid_t *living = arg;

	(void)cpu;
	if (state != 'Z' && state != 'X')
		*living = tid;
}

/* Whether all messages are of its threads: no other process lives in the memory, which they do not show. A first
 * thread that has ended has no memory any more; if the other has ended, too, nothing was compared. */
static bool threads_tell(const struct program *p)
{
	pid_t helper = atomic_load(&p->helper_pid), living = p->pid;

	(void)proc_threads(p->threads_dir, living_take, &living);
	struct neighbours n = { .program = p, .memory = helper > 0 ? helper : living };
	return proc_pids("", neighbour_seek, &n) >= 0 && !n.some && proc_same_memory(living, n.memory);
}

static void leaving_skip(void *arg, const struct proc_leaving *l)
{
	(void)arg;
	(void)l;
}

bool calls_alone(struct program *p)
{
	unsigned nr_threads, nr_running;

	return !threads_look(p, leaving_skip, NULL, &nr_threads, &nr_running) && nr_threads == 1 && threads_tell(p);
}

/* Who was about to tell when nothing was read any more has told by now, if it ever will. */
static bool held_long(const struct program *p, unsigned nr_running)
{
	uint64_t held_ns = clock_now_ns() - p->held_since_ns, cpu_ns = clock_process_cpu_ns(p->pid);

	return held_ns > HELD_MOST_NS ||
	       (held_ns > HELD_LEAST_NS && (!cpu_ns || cpu_ns - p->held_cpu_ns >= nr_running * HELD_RUN_NS));
}

bool calls_known(struct program *p)
{
	struct sight sight = { .moves = &p->moves };
	struct moves_look *look = &sight.look;
	struct moves_table table = range_table(p);
	unsigned nr_threads = 0, nr_running = 0;

	if (!p->moves.awaiting)
		return true;
	if (!atomic_load(&p->held)) {
		p->held_since_ns = clock_now_ns();
		p->held_cpu_ns = clock_process_cpu_ns(p->pid);
	}
	int error = threads_look(p, leaving_take, &sight, &nr_threads, &nr_running);
	look->alone = !error && nr_threads == 1 && threads_tell(p);
	look->blind = error || sight.lacking || (nr_threads == 1 && !look->alone) || held_long(p, nr_running);
	struct moves_look still = *look;
	bool known = moves_known(&p->moves, &table, look);
	/* Who else lives there takes long to find out, and matters seldom. */
	still.still = !known && !look->blind && !nr_running && threads_tell(p);
	known |= still.still && moves_known(&p->moves, &table, &still);
	atomic_store(&p->held, !known);
	return known;
}
