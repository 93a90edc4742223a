/* SPDX-License-Identifier: MIT */
/*
 * What a call of move_pages(2) leaves behind, seen in a kernel of 2024 and known from its manual:
 *
 *   status  [ node | -errno | node | ?  ?  ? | -errno | ?  ?  ?  ? ]
 *                                    ^^^^^^^            ^^^^^^^^^^
 *                                    a run of which     not tried any more
 *                                    some did not move
 *
 * Pages are collected in runs that end where one cannot be taken (its status says why) or at the
 * end. When pages of a run do not move, the call ends with their number and leaves the statuses
 * behind the run's beginning as they were - so they are set to a value before that no kernel gives.
 */
#include "move.h"

#include <errno.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "number.h"

#define PAGE 4096u
#define UNKNOWN INT_MAX
#define CALL_SHARE 8u
#define CALIBRATE_FIRST_CALLS 2u
#define CALIBRATE_CALLS 32u
/* However many pages a call has, the kernel unmaps no more at once: they are away for a part of it. */
#define KERNEL_BATCH_PAGES 512u
#define PAGES_FIRST 64u
/* The bound is for the worst call, so aim lower. */
#define AIM_PERCENT 50u

/* ---- pace ------------------------------------------------------------------------------------ */

void move_pace_init(struct move_pace *pace, uint64_t stall_ns)
{
	*pace = (struct move_pace){ .stall_ns = stall_ns, .pages = PAGES_FIRST };
}

void move_pace_inherit(struct move_pace *pace, const struct move_pace *other)
{
	pace->pages = other->pages;
	pace->grown = other->grown;
	pace->page_ps = other->page_ps;
	pace->fixed_ns = other->fixed_ns;
	memcpy(pace->calibrations, other->calibrations, sizeof pace->calibrations);
	pace->nr_calibrations = other->nr_calibrations;
	pace->calibrate_in = other->calibrate_in;
}

static unsigned int bucket_of(uint64_t ns)
{
	uint64_t quarters = ns / 250; /* of a microsecond */
	unsigned int power = quarters < 4 ? 1 : 63u - (unsigned int)__builtin_clzll(quarters);
	unsigned int bucket = quarters < 4 ? (unsigned int)quarters :
					     4 * (power - 1) + (quarters >> (power - 2) & 3);

	return bucket < MOVE_BUCKETS ? bucket : MOVE_BUCKETS - 1;
}

uint64_t move_bucket_end_ns(unsigned int bucket)
{
	return bucket < 4 ? UINT64_C(250) * (bucket + 1) : UINT64_C(250) * (bucket % 4 + 5) << (bucket / 4 - 1);
}

/*
 * The time for a page is one that a quarter or so of the calls stay below: the others were disturbed,
 * by whoever else wants the CPU, and a disturbance is no longer for more pages - an average would
 * shrink the calls, and what disturbs them would weigh the more for that.
 */
static void page_time_learn(struct move_pace *pace, uint64_t page_ps, bool too_long)
{
	if (!pace->page_ps)
		pace->page_ps = page_ps;
	if (page_ps < pace->page_ps) {
		pace->page_ps -= (pace->page_ps - page_ps) / 4;
	} else {
		uint64_t step = page_ps - pace->page_ps;

		pace->page_ps += (step < pace->page_ps ? step : pace->page_ps) / (too_long ? 4 : 16);
	}
}

/*
 * Twice as many until a call was too long; from then on half after such a one, and slowly up again. A
 * call of fewer pages says nothing about larger ones, but that it was too long.
 */
static void pace_learn(struct move_pace *pace, uint32_t pages, uint64_t stall_ns)
{
	uint32_t away = pages < KERNEL_BATCH_PAGES ? pages : KERNEL_BATCH_PAGES;
	uint32_t usual = pace->pages < KERNEL_BATCH_PAGES ? pace->pages : KERNEL_BATCH_PAGES;
	/* Of one page the time is taken for the call's. */
	uint64_t page_ps = (stall_ns < UINT64_MAX / 1000 ? stall_ns * 1000 : UINT64_MAX) / (away - 1) + 1;
	uint64_t aim_ns = pace->stall_ns / 100 * AIM_PERCENT, next = pace->pages;
	bool too_long = stall_ns > pace->stall_ns, fewer = pages < usual / 2;

	if (fewer && (!too_long || pages < PAGES_FIRST))
		return;
	if (!fewer)
		page_time_learn(pace, page_ps, too_long);
	pace->grown |= too_long;
	if (too_long)
		next = pages / 2;
	else
		next += pace->grown ? next / 8 + 1 : next;
	uint64_t per_page = pace->page_ps ? pace->page_ps : 1; /* it never is 0 */
	uint64_t most = aim_ns < UINT64_MAX / 1000 ? aim_ns * 1000 / per_page : MOVE_CALL_PAGES_MAX;
	if (most >= KERNEL_BATCH_PAGES)
		most = MOVE_CALL_PAGES_MAX;
	/* Calls that are too long however few pages they have are not made better by fewer. */
	if (next < PAGES_FIRST)
		next = PAGES_FIRST;
	if (next > most)
		next = most;
	pace->pages = next < 2 ? 2 : next > MOVE_CALL_PAGES_MAX ? MOVE_CALL_PAGES_MAX : (uint32_t)next;
}

/* One call may wait for another CPU as long as it likes, so the median. */
static void pace_calibrate(struct move_pace *pace, uint64_t ns)
{
	uint64_t sorted[MOVE_CALIBRATIONS] = { 0 };
	uint32_t nr;

	pace->calibrations[pace->nr_calibrations++ % MOVE_CALIBRATIONS] = ns;
	nr = pace->nr_calibrations < MOVE_CALIBRATIONS ? pace->nr_calibrations : MOVE_CALIBRATIONS;
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t at = i;

		for (; at > 0 && sorted[at - 1] > pace->calibrations[i]; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = pace->calibrations[i];
	}
	pace->fixed_ns = sorted[(nr - 1) / 2];
	pace->calibrate_in = nr < MOVE_CALIBRATIONS ? CALIBRATE_FIRST_CALLS : CALIBRATE_CALLS;
}

static void call_count(struct move_pace *pace, uint64_t stall_ns, uint64_t ns)
{
	pace->calls++;
	pace->call_ns += ns;
	pace->stalls[bucket_of(stall_ns)]++;
	pace->stall_sum_ns += stall_ns;
	if (stall_ns > pace->stall_max_ns)
		pace->stall_max_ns = stall_ns;
}

/* The part of a call that was for its pages, as far as these were away together. */
static uint64_t call_stall(const struct move_pace *pace, uint32_t pages, uint64_t ns)
{
	uint64_t stall = minus(ns, pace->fixed_ns);

	/* The fixed part varies: of a call that was not longer, some was for its pages all the same. */
	if (stall < ns / CALL_SHARE)
		stall = ns / CALL_SHARE;
	return pages <= KERNEL_BATCH_PAGES ? stall :
		       (uint64_t)((unsigned __int128)stall * KERNEL_BATCH_PAGES / pages);
}

void move_pace_note(struct move_pace *pace, uint32_t pages, uint64_t ns)
{
	if (pages <= 1)
		pace_calibrate(pace, ns);
	if (pages == 0)
		return;
	uint64_t stall = call_stall(pace, pages, ns);

	call_count(pace, stall, ns);
	if (pages == 1)
		return;
	if (pace->calibrate_in)
		pace->calibrate_in--;
	pace_learn(pace, pages, stall);
}

void move_pace_note_huge(struct move_pace *pace, uint32_t pages, uint64_t ns)
{
	call_count(pace, call_stall(pace, pages, ns), ns);
}

uint32_t move_pace_pages(const struct move_pace *pace, size_t wanted)
{
	uint32_t pages = pace->calibrate_in ? pace->pages : 1;

	return wanted < pages ? (uint32_t)wanted : pages;
}

void move_pace_add(struct move_pace *sum, const struct move_pace *more)
{
	sum->calls += more->calls;
	sum->call_ns += more->call_ns;
	sum->stall_sum_ns += more->stall_sum_ns;
	if (more->stall_max_ns > sum->stall_max_ns)
		sum->stall_max_ns = more->stall_max_ns;
	for (unsigned int i = 0; i < MOVE_BUCKETS; i++)
		sum->stalls[i] += more->stalls[i];
}

void move_pace_add_between(struct move_pace *sum, const struct move_pace *before, const struct move_pace *after)
{
	uint64_t longest = after->stall_max_ns;

	sum->calls += after->calls - before->calls;
	sum->call_ns += after->call_ns - before->call_ns;
	sum->stall_sum_ns += after->stall_sum_ns - before->stall_sum_ns;
	for (unsigned int i = 0; i < MOVE_BUCKETS; i++) {
		uint32_t more = after->stalls[i] - before->stalls[i];

		sum->stalls[i] += more;
		uint64_t end = move_bucket_end_ns(i) - 1;
		if (more && after->stall_max_ns == before->stall_max_ns && end < after->stall_max_ns)
			longest = end;
	}
	if (after->calls > before->calls && longest > sum->stall_max_ns)
		sum->stall_max_ns = longest;
}

uint64_t move_pace_stall_ns(const struct move_pace *pace, unsigned int percent)
{
	uint64_t seen = 0;

	for (unsigned int i = 0; i < MOVE_BUCKETS; i++) {
		uint64_t end = move_bucket_end_ns(i) - 1;

		seen += pace->stalls[i];
		if (seen && seen * 100 >= pace->calls * percent)
			return end < pace->stall_max_ns ? end : pace->stall_max_ns;
	}
	return 0;
}

/* ---- pages ----------------------------------------------------------------------------------- */

static long call(pid_t pid, size_t nr, const uint64_t *addresses, const int *nodes, int *status,
		 int flags)
{
	long left = syscall(SYS_move_pages, pid, nr, addresses, nodes, status, flags);

	/* EINVAL: its first thread has ended, and with it went its memory for this call. */
	return left >= 0 ? left : errno == EINVAL ? -ESRCH : -errno;
}

int move_query(pid_t pid, const uint64_t *addresses, size_t nr, int *ret_nodes)
{
	return (int)call(pid, nr, addresses, NULL, ret_nodes, 0);
}

bool move_may_all(void)
{
	return call(0, 0, NULL, (int[]){ 0 }, NULL, MPOL_MF_MOVE_ALL) == 0;
}

static enum move_status status_of(int status)
{
	switch (status) {
	case -ENOENT:
		return MOVE_NO_PAGE;
	case -EFAULT:
		return MOVE_NO_RANGE;
	case -EACCES:
		return MOVE_SHARED;
	case -ENOMEM:
		return MOVE_NO_MEMORY;
	default:
		return status >= 0 ? MOVE_DONE : MOVE_ISOLATED;
	}
}

/* The run of which some did not move: which of them are on the target now? */
static int run_settle(pid_t pid, const uint64_t *addresses, size_t nr, unsigned int node,
		      enum move_status stuck, int *status, uint8_t *ret_status)
{
	int error = nr ? move_query(pid, addresses, nr, status) : 0;

	for (size_t i = 0; i < nr && !error; i++)
		ret_status[i] = (uint8_t)(status[i] < 0		       ? status_of(status[i]) :
					  (unsigned int)status[i] == node ? MOVE_DONE :
									    stuck);
	return error;
}

/* A page that is part of a larger one is reported as isolated when that was taken with another of
 * its pages, and has moved all the same. */
static int isolated_settle(pid_t pid, const uint64_t *addresses, size_t nr, unsigned int node,
			   int *status, uint8_t *ret_status)
{
	if (!memchr(ret_status, MOVE_ISOLATED, nr))
		return 0;
	int error = move_query(pid, addresses, nr, status);
	for (size_t i = 0; i < nr && !error; i++)
		if (ret_status[i] == MOVE_ISOLATED && status[i] >= 0 && (unsigned int)status[i] == node)
			ret_status[i] = MOVE_DONE;
	return error;
}

/* One system call for up to MOVE_CALL_PAGES_MAX pages; *ret_tried of them have a status then. */
static int call_settle(pid_t pid, const uint64_t *addresses, size_t nr, uint32_t page_bytes,
		       unsigned int node, bool all, struct move_pace *pace, uint8_t *ret_status,
		       size_t *ret_tried)
{
	int nodes[MOVE_CALL_PAGES_MAX], status[MOVE_CALL_PAGES_MAX];
	size_t first = 0, end;

	for (size_t i = 0; i < nr; i++) {
		nodes[i] = (int)node;
		status[i] = UNKNOWN;
	}
	uint64_t begin = clock_now_ns();
	long left = call(pid, nr, addresses, nodes, status, all ? MPOL_MF_MOVE_ALL : MPOL_MF_MOVE);
	uint64_t ns = clock_now_ns() - begin;

	if (left < 0 && left != -ENOMEM && left != -EBUSY && left != -EAGAIN)
		return (int)left;
	for (; first < nr && status[first] != UNKNOWN; first++)
		ret_status[first] = (uint8_t)status_of(status[first]);
	for (end = first; end < nr && status[end] == UNKNOWN;)
		end++;
	if (page_bytes > PAGE)
		move_pace_note_huge(pace, (uint32_t)(end * (page_bytes / PAGE)), ns);
	else
		move_pace_note(pace, (uint32_t)end, ns);
	*ret_tried = end;
	int error = run_settle(pid, addresses + first, end - first, node,
			       left == -ENOMEM ? MOVE_NO_MEMORY : MOVE_HELD, status, ret_status + first);
	return error ? error : isolated_settle(pid, addresses, end, node, status, ret_status);
}

/* An empty call, where there is no small page to begin with. */
static int calibrate(pid_t pid, struct move_pace *pace)
{
	uint64_t address = 0, begin = clock_now_ns();
	int node = 0, status;
	long error = call(pid, 0, &address, &node, &status, MPOL_MF_MOVE);

	if (!error)
		move_pace_note(pace, 0, clock_now_ns() - begin);
	return (int)error;
}

int move_to(pid_t pid, const uint64_t *addresses, size_t nr, uint32_t page_bytes, unsigned int node,
	    bool all, struct move_pace *pace, uint8_t *ret_status)
{
	size_t done = 0;
	int error = 0;

	memset(ret_status, MOVE_NOT_TRIED, nr);
	while (done < nr && !error) {
		size_t batch = page_bytes > PAGE ? pace->pages / (page_bytes / PAGE) :
						   move_pace_pages(pace, nr - done);
		size_t tried = 0;

		if (batch == 0)
			batch = 1; /* of huge pages one at least */
		if (batch > nr - done)
			batch = nr - done;
		if (page_bytes > PAGE && !pace->nr_calibrations)
			error = calibrate(pid, pace);
		if (!error)
			error = call_settle(pid, addresses + done, batch, page_bytes, node, all, pace,
					    ret_status + done, &tried);
		done += tried;
	}
	return error;
}
