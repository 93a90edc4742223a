/* SPDX-License-Identifier: MIT */
/*
 * The contract of a sensor: it tells who touched which page of the processes it is given, when, and,
 * where it can know, on which CPU.
 *
 * It sees part of all touches and never one that was not. It changes nothing in the process but the
 * time its touches take. What it changes in the system it puts back when it is closed, and when it
 * dies, the next one does. Its work follows the pace it is given; what is lost is counted.
 *
 * One thread at a time per sensor.
 */
#ifndef TIDE_SENSE_H
#define TIDE_SENSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SENSE_CPU_UNKNOWN UINT32_MAX

enum sense_kind {
	SENSE_TOUCH,
	SENSE_ARMED, /* from now on the next touch of each page of a range will be seen */
};

struct sense_event {
	enum sense_kind kind;
	uint32_t cpu;          /* TOUCH; SENSE_CPU_UNKNOWN */
	uint64_t time_ns;      /* CLOCK_MONOTONIC; TOUCH: when, or when it was found out */
	uint64_t address, end; /* [address, end); TOUCH: pages, or a region, that the sensor takes as one */
	pid_t pid;             /* as it was added */
};

struct sense_usage {
	uint64_t nr_touches;   /* delivered */
	uint64_t nr_faults;    /* page faults that it caused, in whatever process: what it cost them */
	uint64_t nr_own_faults; /* of them in the processes that it was given: at most so many */
	uint64_t nr_lost;      /* touches */
	uint64_t nr_lost_ranges; /* events of ranges that became visible, in whatever process */
	uint64_t nr_threads;   /* followed now */
	uint64_t nr_passes;    /* over all memory */
};

/* Whether it still has what it set up in the system. */
enum sense_hold {
	SENSE_HELD,
	SENSE_DISPUTED, /* somebody else changed it: it was set up again, once */
	SENSE_TAKEN,    /* and again: it is theirs, and nothing is seen */
};

struct sense;

struct sense_ops {
	const char *name;       /* short and stable */
	const char *cost;       /* one sentence: what it costs whom */
	uint32_t grain_bytes;   /* of the finest it can tell apart */
	bool knows_cpu;
	bool writes_only;
	bool maps_written_only; /* it sees nothing of files and shared memory in mappings that may only be read */
	bool regions;           /* it tells regions that it takes for evenly used, not pages */
	bool sees_fast;         /* also touches of pages on fast nodes */
	bool kernel_moves;      /* with room on fast nodes the kernel promotes what it sees by itself */
	/* Whether it sees what guests of KVM touch in the memory of the process that runs them. NULL: yes. */
	bool (*sees_guests)(const struct sense *sense);
	/* That process runs guests: see their touches, too, where it can. NULL: nothing is needed for that. */
	void (*guests)(struct sense *sense, pid_t pid);
	/* Begin with a process. -ESRCH; -EPERM; -ENOMEM, -EMFILE: too many threads. */
	int (*add)(struct sense *sense, pid_t pid);
	/* Its process ended, or shall be left alone. */
	void (*remove)(struct sense *sense, pid_t pid);
	/* Hand over what was seen since the last call; to be called some times a second. */
	void (*read)(struct sense *sense, void (*visit)(void *arg, const struct sense_event *event),
		     void *arg);
	/* Look at everything once in this time, as far as there is something to look for. 0: pause. */
	int (*pace)(struct sense *sense, uint64_t period_ns);
	void (*usage)(const struct sense *sense, struct sense_usage *ret_usage);
	/* ret_what (static): the file that somebody else wrote; not set while it is held. After a pause it is set up
	 * again. NULL: it sets nothing up. */
	enum sense_hold (*hold)(const struct sense *sense, const char **ret_what);
	/* 0; -errno: something that it changed in the system is not as it was; the next one tries again. */
	int (*close)(struct sense *sense);
};

struct sense {
	const struct sense_ops *ops;
};

#endif
