/* SPDX-License-Identifier: MIT */
/* What the loop of `pagetide attach` keeps, and its report. */
#ifndef TIDE_ATTACH_H
#define TIDE_ATTACH_H

#include <jansson.h>

#include "config.h"
#include "door.h"
#include "kin.h"
#include "node.h"
#include "pagetide.h"
#include "sensors.h"
#include "spend.h"
#include "tempo.h"
#include "vmstat.h"
#include "watch.h"

#define ATTACH_WARNINGS_MAX 16u
#define ATTACH_WHY_BYTES (TIDE_MESSAGE_MAX + 64)

/* Who gets the metrics: metrics.h. */
struct metrics {
	struct door door;
	uint64_t start_ns;            /* since 1970 */
	char *text;                   /* as of made_ns */
	size_t nr_text;
	uint64_t made_ns, written_ns; /* written: the file */
	bool file_there, failed;      /* there: it is ours */
};

struct attach {
	const struct tide_attach_options *options;
	struct config config;         /* the rules; changed at a look only */
	struct node_map map;
	struct nodeset fast, slow;
	struct nodeset named_fast, named_slow; /* by the user; empty: not named */
	uint64_t tiers_ns;            /* when the nodes were looked at last */
	struct tiering tiering;
	struct tiering_need need;
	struct sense *sense;          /* = sensors.sense; sensing.h */
	struct sensors_choice sensors;
	size_t nr_sensor_changes;
	struct sense_usage sensed_before; /* by the one before it */
	int close_error;              /* of a sensor: some setting of the kernel is not as it was */
	struct shares shares;
	struct watch *watches, *last; /* the latest first; `last`: whose touch it was */
	size_t nr_live, nr_ended;     /* of them */
	size_t nr_gone;               /* no longer among them, and what they came to */
	struct tiering_counts gone;
	struct move_pace gone_stalls;
	struct tempo tempo;            /* of the sensor's passes */
	uint64_t start_ns, room_ns, room_cost_ns, cpu_start_ns;
	struct spend look, walks;     /* at who is there and what they map; where pages are */
	bool walks_more;              /* the last one was not through */
	struct kin kin;               /* of processes that were named */
	struct spend kin_spent;       /* looking who they start */
	uint64_t children_ns;         /* when all were looked for last */
	uint64_t group_ns;            /* what moving pages of one process takes, about */
	bool busy, resting;           /* something may be to do; nobody is there */
	bool touched;                 /* a lot, in the last round */
	uint64_t nr_touches;          /* pages, of those that are looked after */
	uint64_t busy_ns, idle_ns, busy_touches, round_touches;
	uint64_t round_ns;            /* when pages were moved last */
	bool more;                    /* then there was more to do at once */
	struct vmstat before;         /* the kernel's counters at the start */
	bool warned_kernel, warned_refused, warned_unseen, warned_guests, warned_nodes;
	enum sense_hold warned_hold;  /* what of it was said */
	char hold_why[2][ATTACH_WHY_BYTES]; /* what was */
	unsigned int others;          /* that were warned of: enum others */
	uint64_t others_ns;           /* when they were looked for last */
	size_t nr_refused;            /* processes that could not be taken, at the last look */
	char refused_why[ATTACH_WHY_BYTES]; /* the first of all */
	uint64_t watchdog_ns, watched_ns; /* when the service manager wants to hear of us; heard */
	size_t told_live;             /* what it was told last */
	const char *warnings[ATTACH_WARNINGS_MAX];
	size_t nr_warnings;
	bool at_work;                 /* what was warned of before was printed then */
	uint64_t stall_ns;            /* how long a call may hold a process up */
	bool paused;
	struct door control;          /* control.h */
	struct metrics metrics;
};

/* Neither scan nor move, or go on. 0; -errno: the sensor could not be stopped. */
int attach_pause(struct attach *attach, bool paused);

/* For the report, once, and printed each time unless the user wants it quiet. The text stays the caller's. */
void attach_warn(struct attach *attach, const char *warning);

/* What all spaces counted, also those that are gone. */
void attach_total(const struct attach *attach, struct tiering_counts *ret_total);

/* The report so far, schema pagetide.attach/1. */
json_t *attach_report(struct attach *attach, uint64_t now_ns);

#endif
