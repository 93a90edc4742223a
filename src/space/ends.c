/* SPDX-License-Identifier: MIT */
/*
 * Ends: pages that the kernel touches when a thread ends.
 *
 * It takes the thread's list of robust mutexes and gives them over to others, and clears the thread's number for
 * who waits for its end. By then the thread is no longer one whose faults are served: of a page that is not there
 * the kernel reads and writes nothing, and others would wait for ever, in other processes as well. libc keeps the
 * list's head and the number side by side, with the rest that it has of a thread. So the pages around the heads of
 * all threads stay where they are.
 *
 * Nobody tells of new threads: they are looked at again whenever the keeper looks at their program, but not for
 * more than a hundredth of the time, unless so many are there that they would be unsafe for long. A page that was
 * out of memory before it was seen is brought back.
 *
 * The list of pages is the keeper's to change, under program.lock exclusive; who takes pages out reads it.
 */
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "proc.h"
#include "program.h"
#include "thread.h"

#define REST_SHARE 100u
#define REST_MIN_NS 250000000u
#define REST_MAX_NS 2000000000u
#define TOUCH_RUNS 64u /* pages in one command */
#define BEFORE_BYTES 512u /* the number lies so near, before the head */
#define HEAD_BYTES 24u

struct ends {
	uint64_t *vpns;
	size_t nr, room;
	bool lacking; /* no memory: not all are in it */
};

static void thread_look(void *arg, pid_t tid, char state, int cpu)
{
	struct ends *ends = arg;
	uint64_t head;

	(void)state;
	(void)cpu;
	if (thread_robust_list(tid, &head) || !head)
		return;
	if (ends->room < ends->nr + 2) {
		size_t room = 2 * ends->room + 64;
		uint64_t *grown = realloc(ends->vpns, room * sizeof *grown);
		if (!grown) {
			ends->lacking = true;
			return;
		}
		ends->vpns = grown;
		ends->room = room;
	}
	uint64_t first = (head - BEFORE_BYTES) >> PAGE_SHIFT, last = (head + HEAD_BYTES - 1) >> PAGE_SHIFT;
	ends->vpns[ends->nr++] = first;
	if (last != first)
		ends->vpns[ends->nr++] = last;
}

static int vpn_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* How many of the list are below a page. */
static size_t ends_below(const struct program *p, uint64_t vpn)
{
	size_t first = 0, last = p->nr_ends;

	while (first < last) {
		size_t mid = first + (last - first) / 2;
		if (p->ends[mid] < vpn)
			first = mid + 1;
		else
			last = mid;
	}
	return first;
}

uint64_t ends_free(const struct program *p, uint64_t vpn, uint64_t nr_pages)
{
	size_t at = ends_below(p, vpn);

	return at < p->nr_ends && p->ends[at] - vpn < nr_pages ? p->ends[at] - vpn : nr_pages;
}

/* Whether a page is out of memory. From here on it is not taken out any more. */
static bool page_out(struct program *p, uint64_t vpn)
{
	program_lock_shared(p);
	const struct extent *e = extent_find(p, vpn);
	enum page_state state = e ? page_state(word_load(e->tract, e->idx + (vpn - e->vpn))) : PAGE_ABSENT;
	rwlock_unlock(&p->lock);
	return state != PAGE_ABSENT && state != PAGE_RESIDENT;
}

/* Bring back what is out. The rest is for the next look, if the helper does not answer. */
static void ends_touch(struct program *p)
{
	struct helper_run runs[TOUCH_RUNS];
	uint32_t nr = 0;

	for (size_t i = 0; i < p->nr_ends; i++) {
		if (page_out(p, p->ends[i]))
			runs[nr++] = (struct helper_run){ .dst = p->ends[i] << PAGE_SHIFT, .bytes = PAGE_BYTES };
		if (nr == TOUCH_RUNS && pages_touch(p, runs, nr))
			return;
		nr %= TOUCH_RUNS;
	}
	if (nr)
		(void)pages_touch(p, runs, nr);
}

void ends_look(struct program *p, uint64_t now_ns)
{
	uint64_t began_ns = clock_thread_cpu_ns();
	struct ends ends = { 0 };
	int dir;

	if (!p->pid || p->helper_socket < 0 || atomic_load(&p->deserted) || now_ns < p->ends_rest_ns ||
	    proc_open(p->pid, &dir))
		return;
	int error = proc_threads(dir, thread_look, &ends);
	close(dir);
	if (error || ends.lacking) { /* those that were known stay */
		free(ends.vpns);
		return;
	}
	if (ends.nr)
		qsort(ends.vpns, ends.nr, sizeof *ends.vpns, vpn_order);
	uint64_t *before = p->ends;
	program_lock_exclusive(p);
	p->ends = ends.vpns;
	p->nr_ends = ends.nr;
	rwlock_unlock(&p->lock);
	free(before);
	/* Of its CPU time alone: on a busy machine a look takes long, and threads begin all the same. */
	uint64_t rest_ns = (clock_thread_cpu_ns() - began_ns) * REST_SHARE;
	rest_ns = rest_ns < REST_MAX_NS ? rest_ns : REST_MAX_NS;
	p->ends_rest_ns = clock_now_ns() + (rest_ns > REST_MIN_NS ? rest_ns : REST_MIN_NS);
	ends_touch(p);
}
