/* SPDX-License-Identifier: MIT */
/*
 * What the sensors share that read marks in page tables: the processes, and passes over them.
 *
 *   begin ─► look ─► look ─► slice_end ┄┄► look ─► slice_end ─► finish ─► next process
 *            └ a window of 64 MiB ┘   └ the next call of read()
 *
 * A pass goes over what each process maps, once in a period, and no sooner than 50 times what the one
 * before it cost has passed: it takes 2 % of one core at most. It is cut into slices, so that no call
 * takes much longer than PASS_SLICE_NS. What it finds was touched at some time since the pass before;
 * the time that is told is that of finding it. After a pause, and when another program runs in the
 * process, all marks are old: the first pass only sets them.
 */
#ifndef TIDE_PASS_H
#define TIDE_PASS_H

#include "sense.h"
#include "targets.h"

#define PASS_WINDOW_BYTES (UINT64_C(64) << 20)
#define PASS_SLICE_NS UINT64_C(10000000)
#define PASS_LEAST_NS UINT64_C(250000000)
#define PASS_REST 50u /* times its cost */

struct pass_range {
	uint64_t start, end; /* addresses */
};

struct pass_ranges {
	struct pass_range *list; /* by address */
	size_t nr, max;
};

struct pass_process {
	struct target target;
	uint64_t image;            /* see proc_image() */
	struct pass_ranges ranges; /* what it mapped when the pass came to it */
	void *own;                 /* the sensor's */
};

struct pass;
struct pass_ops {
	size_t own_bytes; /* zeroed memory for `own` */
	bool faults;      /* each touch that is seen was a fault for our sake */
	/* A part of a range, at most a window. The first error ends the pass of this process. */
	int (*look)(struct pass *pass, struct pass_process *process, const struct pass_range *range,
		    uint64_t start, uint64_t end);
	/* The last look for now; NULL: nothing to do. */
	int (*slice_end)(struct pass *pass, struct pass_process *process);
	/* All was looked at. */
	int (*finish)(struct pass *pass, struct pass_process *process);
	/* All marks are old; also before `own` is freed. */
	void (*forget)(struct pass *pass, struct pass_process *process);
	void (*close)(struct pass *pass); /* NULL: nothing to do */
};

/* The first member of a sensor. */
struct pass {
	struct sense sense;
	const struct pass_ops *ops;
	struct targets targets;          /* of struct pass_process */
	struct pass_process *at;         /* NULL between passes */
	size_t range;                    /* of `at`, where the next slice goes on */
	uint64_t address;
	uint64_t period_ns, begun_ns;    /* 0: paused */
	uint64_t cost_ns;                /* processor time of the pass under way, or the last one */
	uint64_t nr_touches, nr_lost, nr_passes;
	void (*visit)(void *arg, const struct sense_event *event); /* of the call under way */
	void *arg;
};

void pass_init(struct pass *pass, const struct sense_ops *sense_ops, const struct pass_ops *ops,
	       const char *root);

/* What it maps now, without what is none of its memory. `ranges` is filled anew. */
int pass_ranges_read(const struct pass_process *process, struct pass_ranges *ranges);
/* Whether exactly this range is among them. */
bool pass_ranges_have(const struct pass_ranges *ranges, const struct pass_range *range);
void pass_ranges_free(struct pass_ranges *ranges);

/* For `look` and `finish`: pages were seen to be touched; from now on touches of a range are seen. */
void pass_touched(struct pass *pass, const struct pass_process *process, uint64_t address,
		  uint32_t bytes);
void pass_armed(struct pass *pass, const struct pass_process *process,
		const struct pass_ranges *ranges);

/* For the sensor's table. */
int pass_add(struct sense *sense, pid_t pid);
void pass_remove(struct sense *sense, pid_t pid);
void pass_read(struct sense *sense, void (*visit)(void *arg, const struct sense_event *event), void *arg);
int pass_pace(struct sense *sense, uint64_t period_ns);
void pass_usage(const struct sense *sense, struct sense_usage *ret_usage);
int pass_close(struct sense *sense);

#endif
