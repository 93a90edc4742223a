/* SPDX-License-Identifier: MIT */
/*
 * move_pages(2): where pages of a process are, and moving them to a node.
 *
 * One call ends at the first run of pages in which one could not be moved: the rest was not even
 * tried, and for that run nothing is reported. move_to() sorts that out: it asks where the doubtful
 * pages are now, sets aside those that did not move, and goes on behind them, so that every page has
 * its own result.
 *
 * A call costs a fixed time, in which the kernel waits for all CPUs to empty their lists of pages and the
 * process runs on, and a time for each page, in which pages are unmapped and a thread that touches one
 * waits. struct move_pace learns both and gives the number of pages that keeps the second in bounds: the
 * first from calls of one page now and then, which have to wait for as much as others do (an empty call
 * need not). Huge pages are unmapped and copied one by one, whatever the size of the call, so they
 * teach nothing about small ones.
 *
 * Thread-safe, also for one process; a pace belongs to one thread.
 */
#ifndef TIDE_MOVE_H
#define TIDE_MOVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- pace ------------------------------------------------------------------------------------ */

#define MOVE_CALL_PAGES_MAX 4096u /* pages looked at in one system call */
#define MOVE_STALL_NS UINT64_C(20000000)
#define MOVE_BUCKETS 120u
#define MOVE_CALIBRATIONS 5u

/* Sizes in pages of 4 KiB. */
struct move_pace {
	uint64_t stall_ns;     /* the pages of one call should not be away longer */
	uint32_t pages;        /* for the next call: 2 .. MOVE_CALL_PAGES_MAX */
	bool grown;            /* one call was too long: no more doubling */
	uint64_t page_ps;      /* time for one page, of an undisturbed call; 0: nothing measured yet */
	uint64_t fixed_ns;     /* time of a call of one page: the median of the last ones */
	uint64_t calibrations[MOVE_CALIBRATIONS];
	uint32_t nr_calibrations;
	uint32_t calibrate_in; /* calls until the fixed time is measured again */
	/* What was measured; a stall is the time for which the pages unmapped together are away. */
	uint64_t calls, call_ns, stall_sum_ns, stall_max_ns;
	uint32_t stalls[MOVE_BUCKETS]; /* number of calls, by their stall: move_bucket_end_ns() */
};

void move_pace_init(struct move_pace *pace, uint64_t stall_ns);
/* Begin with what another learned, its calls not counted: the machine is the same. */
void move_pace_inherit(struct move_pace *pace, const struct move_pace *other);
/* How many of `wanted` pages of 4 KiB the next call should have. */
uint32_t move_pace_pages(const struct move_pace *pace, size_t wanted);
/* A call took `ns` for `pages` pages of 4 KiB; 0: an empty one. */
void move_pace_note(struct move_pace *pace, uint32_t pages, uint64_t ns);
/* For `pages` pages in huge ones. */
void move_pace_note_huge(struct move_pace *pace, uint32_t pages, uint64_t ns);
/* Where a bucket of stalls ends: at 250, 500, 750 ns, 1 us, then four for each power of two. */
uint64_t move_bucket_end_ns(unsigned int bucket);
/* What `more` measured is added to what `sum` did; how it paces stays. */
void move_pace_add(struct move_pace *sum, const struct move_pace *more);
/* The same of what was measured between two moments of one pace. A longest stall that is not the longest of all is
 * known as well as its bucket. */
void move_pace_add_between(struct move_pace *sum, const struct move_pace *before, const struct move_pace *after);
/* The stall that `percent` of the calls did not exceed, rounded up to its bucket's end. 0: no calls. */
uint64_t move_pace_stall_ns(const struct move_pace *pace, unsigned int percent);

/* ---- pages ----------------------------------------------------------------------------------- */

/*
 * Where `nr` pages of a process are: a node, or -errno for each: -ENOENT: no page there; -EFAULT: not
 * mapped, or the shared zero page; else as move_pages(2). A present page is not touched by it.
 * 0; -ESRCH: no such process; -EPERM: we may not; -ENOSYS: a kernel without NUMA; -ENOMEM. Asking
 * for no page tells whether we may.
 */
int move_query(pid_t pid, const uint64_t *addresses, size_t nr, int *ret_nodes);

/* Whether we may move what other processes map as well. */
bool move_may_all(void);

/* What one page of move_to() came to. Only MOVE_DONE ones are on the target. */
enum move_status {
	MOVE_NOT_TRIED, /* the call failed as a whole */
	MOVE_DONE,      /* on the target now, or has been before */
	MOVE_NO_PAGE,
	MOVE_NO_RANGE,  /* not mapped, a kind that never moves, or the zero page */
	MOVE_SHARED,    /* others map it, too, and `all` was not asked for */
	MOVE_ISOLATED,  /* somebody else, the kernel included, is just working on it */
	MOVE_HELD,      /* tried many times: somebody holds a reference and does not let go */
	MOVE_NO_MEMORY  /* on the target */
};

/*
 * Move pages (of 4 KiB, or huge ones by any address in them, each named once) to a node, in system
 * calls as large as the pace allows; `all` moves also what other processes map (CAP_SYS_NICE).
 * 0: every page has been tried. Else the pages without a status are MOVE_NOT_TRIED:
 * -ESRCH: no such process; -EPERM: we may not; -EACCES: the target is not in the process's cpuset;
 * -ENODEV: no such node, or it has no memory; -ENOSYS: a kernel without NUMA.
 */
int move_to(pid_t pid, const uint64_t *addresses, size_t nr, uint32_t page_bytes, unsigned int node,
	    bool all, struct move_pace *pace, uint8_t *ret_status);

#endif
