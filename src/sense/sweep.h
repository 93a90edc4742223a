/* SPDX-License-Identifier: MIT */
/*
 * Sweeps: how much of its memory a process is to make inaccessible at a time, and when all of it once more.
 *
 * The kernel's scanner is run by the threads of a process themselves, in looks: ranges one after the other,
 * until pages were made inaccessible in ranges of `size_mb` together, or until eight times as much was gone
 * over. A sweep goes once over everything:
 *
 *     look  look  look ...                        begin: at some address, none is the first
 *      ──── ──── ────►       ─────► over           over: the scanner came round to where it began
 *
 * How often a thread looks is fixed when it starts: the first of a process as often as the size of the
 * process asks for, then each 60 ms or so; the others once a second of their time, or ten times when they
 * started while the sensor was there (scan_delay_ms). How long a look may be follows from that. The kernel
 * lets a thread rest for 32 times the processor time that it has counted for a look, and it counts in ticks:
 * so frequent looks are shorter than a tick, 4 ms with 250 of them a second, which holds the thread up less
 * and gets through more memory. Where looks are rare they take up to 20 ms.
 *
 * Pages of another part of memory that become hot are touched all at once, since they are inaccessible from
 * a sweep before. One that begins meanwhile finds them as they were, and their next touch is not seen: so a
 * sweep waits until touches come slower.
 *
 * Pure: times and events in, numbers out. One thread at a time.
 */
#ifndef TIDE_SWEEP_H
#define TIDE_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SWEEP_LOOK_LEAST_NS UINT64_C(3000000) /* how long a look may be: */
#define SWEEP_LOOK_MOST_NS UINT64_C(20000000)
#define SWEEP_LOOK_SHARE 50u                  /* of the time between them */
#define SWEEP_SIZE_LEAST_MB 1u           /* 0 would make the kernel divide by it */
#define SWEEP_SIZE_FIRST_MB 64u          /* a quarter of the kernel's own default */
#define SWEEP_TOUCHES 32u                /* with fewer since the last one there is nothing to look for */
#define SWEEP_BURST_TOUCHES 256u         /* in a tenth of a second: it goes on */

/* Of one process; begins zeroed. */
struct sweep_process {
	/* The sweep under way: over when the scanner comes by where it began. */
	bool begun, wrapped, done;
	uint64_t first_address, last_address;
	/* The look under way or the last one: when it began and its last range ended, how long its ranges
	 * took, their pages, and those of ranges in which some were made inaccessible. */
	uint64_t begin_ns, end_ns, look_ns, nr_pages, nr_armed_pages;
	uint64_t range_ns, range_pages; /* the last one; 0: its end is not awaited */
};

struct sweep {
	bool on;
	uint64_t nr;                 /* sweeps begun */
	uint64_t begun_ns;           /* the last one */
	uint64_t touches;            /* of all, then */
	bool news;                   /* somebody came since */
	uint64_t resident_mb;        /* of all processes, then */
	uint64_t size_mb;            /* of a look, while a sweep is on */
	uint64_t mb_ns, interval_ns; /* as measured: of a look for one MiB; between looks */
	/* Bursts of touches. */
	uint64_t due_ns;             /* since when only a burst is waited for; 0 */
	uint64_t window_ns, window_touches, rate; /* rate: of the last window that is over */
};

void sweep_init(struct sweep *sweep);

/* Whether the next one is due: at most one in a period, and only for something new. `nr_touches`: so far. */
bool sweep_due(struct sweep *sweep, uint64_t period_ns, uint64_t nr_touches, uint64_t now_ns);
void sweep_begin(struct sweep *sweep, uint64_t resident_mb, uint64_t nr_touches, uint64_t now_ns);
/* Whether nothing of a process has to be waited for any more. `told`: ranges are told, by sweep_range(). */
bool sweep_process_over(const struct sweep *sweep, const struct sweep_process *process, bool told,
			uint64_t now_ns);
/* Whether the whole of it is, when `waiting` of so many processes are waited for. */
bool sweep_over(size_t nr_processes, size_t waiting);
void sweep_end(struct sweep *sweep);

/* The scanner of a process goes over a range. One from before the end of the last is passed over. Returns
 * whether size_mb changed. */
bool sweep_range(struct sweep *sweep, struct sweep_process *process, uint64_t address, uint64_t nr_pages,
		 uint64_t now_ns);
/* It is through with it, and made nr_armed pages inaccessible. */
void sweep_range_end(struct sweep_process *process, uint64_t nr_armed, uint64_t now_ns);

#endif
