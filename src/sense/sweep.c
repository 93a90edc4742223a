/* SPDX-License-Identifier: MIT */
#include "sweep.h"

#define SIZE_MAX_MB 1024u
#define MB_PAGES 256u
#define EMPTY_SHARE 8u               /* ranges without a page to change count that much less */
#define LOOK_LEAST_PAGES 512u        /* shorter ones say nothing about others */
#define LOOK_GAP_NS 1000000u         /* ranges that follow each other sooner are of one look */
#define SWEEP_WANT_NS UINT64_C(2000000000)
#define SWEEP_LEAST_NS UINT64_C(1000000000)
#define SWEEP_BEGIN_NS UINT64_C(5000000000)
#define SWEEP_MOST_NS UINT64_C(30000000000)
#define SWEEP_ANYWAY 16u             /* after that many periods */
#define WAITING_SHARE 4u             /* of the processes: fewer than one part do not hold up the others */
#define WINDOW_NS UINT64_C(100000000)
#define BURST_MOST_NS UINT64_C(1500000000)

void sweep_init(struct sweep *sweep)
{
	*sweep = (struct sweep){ .size_mb = SWEEP_SIZE_FIRST_MB };
}

/* ---- when ---- */

static bool burst(struct sweep *sweep, uint64_t nr_touches, uint64_t now_ns)
{
	uint64_t passed_ns = now_ns - sweep->window_ns;

	if (passed_ns >= WINDOW_NS) {
		sweep->rate = (nr_touches - sweep->window_touches) * WINDOW_NS / passed_ns;
		sweep->window_ns = now_ns;
		sweep->window_touches = nr_touches;
	}
	return sweep->rate >= SWEEP_BURST_TOUCHES;
}

bool sweep_due(struct sweep *sweep, uint64_t period_ns, uint64_t nr_touches, uint64_t now_ns)
{
	uint64_t passed_ns = now_ns - sweep->begun_ns, touches = nr_touches - sweep->touches;
	bool hold = burst(sweep, nr_touches, now_ns);

	if (!sweep->nr)
		return true;
	if (passed_ns < period_ns ||
	    (!sweep->news && touches < SWEEP_TOUCHES && passed_ns < period_ns * SWEEP_ANYWAY)) {
		sweep->due_ns = 0;
		return false;
	}
	if (!sweep->due_ns) {
		/* Whether it is the beginning of a burst the next window will tell. */
		sweep->due_ns = now_ns;
		return sweep->news || touches < SWEEP_TOUCHES;
	}
	return now_ns - sweep->due_ns >= (hold ? BURST_MOST_NS : WINDOW_NS);
}

void sweep_begin(struct sweep *sweep, uint64_t resident_mb, uint64_t nr_touches, uint64_t now_ns)
{
	sweep->on = true;
	sweep->nr++;
	sweep->begun_ns = now_ns;
	sweep->touches = nr_touches;
	sweep->news = false;
	sweep->resident_mb = resident_mb;
	sweep->due_ns = 0;
}

bool sweep_process_over(const struct sweep *sweep, const struct sweep_process *process, bool told,
			uint64_t now_ns)
{
	uint64_t passed_ns = now_ns - sweep->begun_ns;

	if (!told)
		return passed_ns >= SWEEP_LEAST_NS;
	/* Who sleeps does not look at itself: those that have not begun are not waited for. */
	return process->done || passed_ns >= (process->begun ? SWEEP_MOST_NS : SWEEP_BEGIN_NS);
}

/* Of many there is always one that came just now, or has next to no processor time to look at itself: it goes
 * on where it is in the next one, for which the others do not wait for it. */
bool sweep_over(size_t nr_processes, size_t waiting)
{
	return waiting == 0 || waiting * WAITING_SHARE < nr_processes;
}

void sweep_end(struct sweep *sweep)
{
	sweep->on = false;
}

/* ---- how much ---- */

/* Looks that were disturbed are longer, none is ever shorter: so down at once, and up slowly. */
static uint64_t learn(uint64_t old, uint64_t value)
{
	if (!old || value < old)
		return (old + value) / (old ? 2 : 1);
	uint64_t more = value - old < old ? value - old : old;
	return old + more / 8;
}

static bool size_adapt(struct sweep *sweep)
{
	uint64_t want = sweep->resident_mb * sweep->interval_ns / SWEEP_WANT_NS;
	uint64_t look_ns = sweep->interval_ns / SWEEP_LOOK_SHARE;

	if (look_ns < SWEEP_LOOK_LEAST_NS)
		look_ns = SWEEP_LOOK_LEAST_NS;
	if (look_ns > SWEEP_LOOK_MOST_NS)
		look_ns = SWEEP_LOOK_MOST_NS;
	uint64_t most = sweep->mb_ns ? look_ns / sweep->mb_ns : SWEEP_SIZE_FIRST_MB;
	if (want > most)
		want = most;
	if (want < SWEEP_SIZE_LEAST_MB)
		want = SWEEP_SIZE_LEAST_MB;
	if (want > SIZE_MAX_MB)
		want = SIZE_MAX_MB;
	/* Not for every wave. */
	if (want >= sweep->size_mb - sweep->size_mb / 4 && want <= sweep->size_mb + sweep->size_mb / 4)
		return false;
	sweep->size_mb = want;
	return true;
}

/* A look begins: what did the last one say? Between sweeps they are so small that what they cost at all
 * events says nothing of larger ones. */
static bool look_judge(struct sweep *sweep, const struct sweep_process *process, uint64_t now_ns)
{
	uint64_t pages = process->nr_pages / EMPTY_SHARE, between_ns = now_ns - process->begin_ns;

	if (pages < process->nr_armed_pages)
		pages = process->nr_armed_pages;
	if (!sweep->on || process->begin_ns <= sweep->begun_ns || between_ns >= SWEEP_MOST_NS)
		return false;
	if (process->nr_pages >= LOOK_LEAST_PAGES)
		sweep->mb_ns = learn(sweep->mb_ns, process->look_ns * MB_PAGES / pages + 1);
	sweep->interval_ns = sweep->interval_ns ? (sweep->interval_ns * 3 + between_ns) / 4 : between_ns;
	return size_adapt(sweep);
}

/* Where it has come to. The same address again: there is nothing else. */
static void process_advance(struct sweep_process *process, uint64_t address)
{
	if (!process->begun) {
		process->begun = true;
		process->first_address = address;
	} else if (address <= process->last_address) {
		process->wrapped = true;
	}
	process->last_address = address;
	process->done |= process->wrapped && address >= process->first_address;
}

bool sweep_range(struct sweep *sweep, struct sweep_process *process, uint64_t address, uint64_t nr_pages,
		 uint64_t now_ns)
{
	bool changed = false;

	/* Threads look one after the other, but what they tell comes CPU by CPU: this one is late. One that is
	 * still under way stays awaited. */
	if (now_ns < process->range_ns)
		return false;
	if (now_ns < process->end_ns) {
		process->range_ns = 0;
		return false;
	}
	process_advance(process, address);
	if (now_ns - process->end_ns >= LOOK_GAP_NS) {
		changed = look_judge(sweep, process, now_ns);
		process->begin_ns = now_ns;
		process->look_ns = process->nr_pages = process->nr_armed_pages = 0;
	}
	process->range_ns = now_ns;
	process->range_pages = nr_pages;
	return changed;
}

void sweep_range_end(struct sweep_process *process, uint64_t nr_armed, uint64_t now_ns)
{
	if (!process->range_ns || now_ns < process->range_ns) /* the latter: of one that came late */
		return;
	process->look_ns += now_ns - process->range_ns;
	process->nr_pages += process->range_pages;
	process->nr_armed_pages += nr_armed ? process->range_pages : 0;
	process->end_ns = now_ns;
	process->range_ns = 0;
}
