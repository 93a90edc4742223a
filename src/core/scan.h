/* SPDX-License-Identifier: MIT */
/*
 * Scan: when to look at a space again.
 *
 * A look costs time and finds something useful or not. The period follows what was found, in this
 * look (Y) and in the one before (X):
 *
 *     X = 0, Y = 0   nothing ever: 15 % longer        X = 0, Y > 0   it begins: 8 times shorter
 *     X > 0, Y > 0   go on: 15 % shorter              X > 0, Y = 0   it ended: 8 times longer
 *
 * within [min, max]. Whatever it says, looks take no more than their share of one core: a look that
 * cost c waits at least c / share. A weight scales the share: 1 is a tenth of it, 10 is all, 0 means
 * that the space is left alone and never due.
 *
 *     look          max(period, cost / share)          look
 *     ──┴──────────────────────────────────────────────┴──
 *         scan_may(): cost / share is over    scan_due()
 *
 * All times are the caller's. A space that is gone is simply not asked about any more.
 */
#ifndef TIDE_SCAN_H
#define TIDE_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#define SCAN_WEIGHT_MAX 10u

struct scan_config {
	uint64_t start_delay_ns; /* a space that lives shorter is never looked at */
	uint64_t period_ns, min_ns, max_ns;
	uint32_t share_ppm;      /* of one core, for a space of full weight; at least 1 */
};

struct scan {
	struct scan_config config;
	uint64_t period_ns;
	uint64_t done_ns, wait_ns, cost_ns; /* the last look's end, its period, what it cost */
	uint32_t weight;
	bool found_before;
};

void scan_init(struct scan *scan, const struct scan_config *config, uint32_t weight,
	       uint64_t now_ns);
bool scan_due(const struct scan *scan, uint64_t now_ns);
/* Whether its share allows a look that there is a reason for, though none is due. */
bool scan_may(const struct scan *scan, uint64_t now_ns);
/* How long to sleep before it is due, or before there may be one; UINT64_MAX when that never comes. */
uint64_t scan_wait_ns(const struct scan *scan, uint64_t now_ns);
uint64_t scan_may_wait_ns(const struct scan *scan, uint64_t now_ns);
/* A look ended at now_ns, took cost_ns of CPU time and found nr_useful things to do. */
void scan_done(struct scan *scan, uint64_t now_ns, uint64_t cost_ns, uint64_t nr_useful);
/* The share and the longest period change, also for the wait under way. share_ppm is at least 1; a
 * max_ns below the configured min_ns is the period then. */
void scan_bound(struct scan *scan, uint32_t share_ppm, uint64_t max_ns);

#endif
