/* SPDX-License-Identifier: MIT */
/*
 * How often the sensor goes over everything: less and less often while nothing comes of it; at once when pages
 * that were quiet are touched again.
 *
 * Touches of pages whose move was refused lately (tiering.h: touched) bring nothing, so they do not hasten it: where
 * all that is found cannot be moved it is as if nothing were found, until it is time to try these again.
 *
 * What its faults cost that led to nothing is bounded, by a share of one core. Whether those of a pass did only the
 * next one shows, in which what is in use is touched again: so they are judged when that is under way, against all
 * that was promoted since. Faults that the processes have anyway, and be it millions, slow it down no more.
 *
 * Faults that it causes in processes that are not looked after lead to nothing ever, and there may be any number of
 * them: for their sake a pass waits TEMPO_ELSEWHERE_NS at most, so that what is touched twice within heat's window of
 * ten seconds is still seen twice.
 *
 * Pure: times and counts in, times out.
 */
#ifndef TIDE_TEMPO_H
#define TIDE_TEMPO_H

#include "scan.h"
#include "sense.h"
#include "tiering.h"

#define TEMPO_CPU_PPM 10000u                          /* of one core */
#define TEMPO_ELSEWHERE_NS UINT64_C(4000000000)

struct tempo {
	struct scan scan; /* its config: as it was tuned */
	uint64_t at_ns, touched, promoted; /* when it was looked at last, and what had been until then */
	/* When the sensor began its last pass, and the one before. */
	struct tempo_mark { uint64_t passes, faults, own_faults, promoted; } now, before;
};

void tempo_begin(struct tempo *tempo, uint64_t now_ns);
/* After a pause: as at the beginning, but as it was tuned. Returns the sensor's period. */
uint64_t tempo_again(struct tempo *tempo, uint64_t now_ns);
/* Whether it is time to look at it. */
bool tempo_due(const struct tempo *tempo, const struct tiering_counts *total, uint64_t now_ns);
/* Returns the sensor's period from now on. */
uint64_t tempo_look(struct tempo *tempo, const struct tiering_counts *total, const struct sense_usage *usage,
		   uint64_t now_ns);

#endif
