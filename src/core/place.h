/* SPDX-License-Identifier: MIT */
/*
 * Place: which pages are worth their memory.
 *
 * The only thing that can be seen of a page is a fault, so a page is seen only while it is unmapped.
 * From unmapping to its next touch is one honest sample of how often it is used, whether it was only
 * held (the touch costs a fault) or already stored (the touch costs a load as well).
 *
 * Time here is not seconds but pages stored: a *beat* is 1/64 of a turnover of memory. A program
 * that sleeps ages nothing, and samples compare however fast it runs.
 *
 * Estimate, 16 bits a page:
 *
 *     15     8 7      0
 *    +--------+--------+    level  how often it is used: 16 for each doubling; 0 unknown
 *    | level  | stamp  |    stamp  the beat of the last thing known: resident: its touch;
 *    +--------+--------+           held or stored: its unmapping. 0: nothing, or long ago
 *
 *   score = level - fade * beats since the stamp      the lower, the sooner it goes
 *
 * Fade is what a level loses while nobody looks, so that pages thought hot are tested again; a fixed
 * number. Two numbers adapt. The *threshold*: pages with a score up to it are cold; it follows the
 * share of pages that a pass should find. The *gap*, how many pages are held: it halves when most
 * held pages come back, and grows again when few do.
 *
 * What must always hold: stamps are never more than 254 beats old (the hand passes often enough and
 * forgets the old ones), so a stamp never looks younger than it is.
 *
 * Sources of the method: second chance and its two hands (BSD), greedy-dual's aging by evictions,
 * LFU with aging; the rate estimate from unmapped time is our own.
 */
#ifndef TIDE_PLACE_H
#define TIDE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#define PLACE_BEATS 64u            /* a turnover */
#define PLACE_STAMPS 255u          /* stamps run 1 .. 255 and wrap */
#define PLACE_FORGET_BEATS 190u    /* older stamps become 0 when the hand passes */
#define PLACE_SWEEP_BEATS 32u      /* the hand passes everything at least this often */
#define PLACE_AGE_MAX 255u         /* the age of stamp 0 */
#define PLACE_OCTAVE 16u
#define PLACE_LEVEL_BORN 56u       /* about as good as the pages at the threshold */
#define PLACE_LEVEL_TOP 160u       /* touched at once */
#define PLACE_LEVEL_BUSY 176u      /* busy: look again later */
#define PLACE_LEVEL_LEAVE 191u     /* above: refused or denied, leave it alone for long */
#define PLACE_TRIES_MAX 5u         /* then the wait is 32 times as long, and grows no more */

static inline uint32_t place_level(uint16_t estimate) { return estimate >> 8; }
static inline uint32_t place_stamp(uint16_t estimate) { return estimate & 0xffu; }
static inline uint16_t place_estimate(uint32_t level, uint32_t stamp)
{
	return (uint16_t)(level << 8 | stamp);
}

struct place {
	/* The clock of beats. */
	uint64_t beat;
	uint64_t stored_pages;        /* since the last beat */
	uint64_t beat_pages;          /* one beat */
	uint64_t starve_progress, starve_time_ns;
	/* What adapts. Fixed point: 256 is 1. */
	int32_t threshold_q8;
	uint32_t gap_q8;              /* share of the largest gap */
	/* What they adapt to, since the last adaptation. */
	uint32_t seen_pages, cold_pages;
	uint64_t held_pages, came_back_pages;
	/* Storing, until the low mark is reached. */
	bool draining;
	bool pressed;         /* so near the low mark that held pages should be at hand */
	bool urgent;          /* above the high mark, or somebody waits */
	/* Tokens for voluntary holds, in pages. */
	uint64_t tokens_q20;
	uint64_t token_time_ns;
};

void place_init(struct place *place);

/* ---- time ---- */

/* nr pages were stored while `resident` pages fill memory. */
void place_stored(struct place *place, uint64_t nr_pages, uint64_t resident);
/* While memory is short and nothing can be stored, beats go by the clock, or what was put off would
 * never be tried again. */
void place_starve(struct place *place, uint64_t now_ns);
static inline uint32_t place_stamp_now(const struct place *place)
{
	return (uint32_t)(place->beat % PLACE_STAMPS) + 1;
}
/* Beats since the stamp, PLACE_AGE_MAX for stamp 0. */
static inline uint32_t place_age(const struct place *place, uint32_t stamp)
{
	uint32_t now = place_stamp_now(place);

	if (!stamp)
		return PLACE_AGE_MAX;
	return now >= stamp ? now - stamp : now + PLACE_STAMPS - stamp;
}
/* A page that would not move has waited for PLACE_FORGET_BEATS: it goes on waiting, or is tried again. */
uint16_t place_estimate_waited(const struct place *place, uint32_t level);
/* Forget a stamp that will soon be too old to tell. What kept a page from moving may have ended by then: it is
 * tried again. Here, because the hand does it to every page that it passes. */
static inline uint16_t place_estimate_forget(const struct place *place, uint16_t estimate)
{
	uint32_t level = place_level(estimate);

	if (place_age(place, place_stamp(estimate)) < PLACE_FORGET_BEATS)
		return estimate;
	return level > PLACE_LEVEL_TOP ? place_estimate_waited(place, level) : place_estimate(level, 0);
}

/* ---- estimates ---- */

/* A page was born: nothing is known but that it is in use. */
uint16_t place_estimate_born(const struct place *place);
/* It was touched after having been unmapped at its stamp. */
uint16_t place_estimate_touched(const struct place *place, uint16_t estimate);
/* It is being unmapped. */
uint16_t place_estimate_unmapped(const struct place *place, uint16_t estimate);
/* It is busy and would not move now. */
uint16_t place_estimate_busy(const struct place *place);
/* It was refused or denied: what that depends on changes seldom, so each time it waits twice as long. */
uint16_t place_estimate_refused(const struct place *place, uint16_t estimate);

int32_t place_score(const struct place *place, uint16_t estimate);

enum place_verdict {
	PLACE_KEEP,
	PLACE_NEAR,  /* not cold, yet cheap enough to take along between two cold ones */
	PLACE_COLD,
};
/* Nothing is spared for having only just come while `urgent`. */
enum place_verdict place_judge(const struct place *place, uint16_t estimate);

/* A part of a pass saw `seen` resident pages, `cold` of them cold: adapt the threshold. */
void place_seen(struct place *place, uint32_t seen, uint32_t cold);
/* nr pages were held; adapts the gap. */
void place_held(struct place *place, uint32_t nr_pages);
/* nr held pages were touched and came back. */
void place_returned(struct place *place, uint64_t nr_pages);

/* ---- how much ---- */

/* Resident pages must stay between low and high; high is a little below the limit. */
void place_marks(uint64_t limit, uint64_t *ret_low, uint64_t *ret_high);
/* Pages to store now. Hysteresis: begins a little above the low mark, ends at it. Sets `pressed` and
 * `urgent`. */
uint64_t place_excess(struct place *place, uint64_t resident, uint64_t limit, uint64_t filling);
/* Pages that should be held, so that each waits a while for a touch before it is stored. */
uint64_t place_gap(const struct place *place, uint64_t limit, uint64_t held_max);
/* Take up to `want` tokens for holds that nobody waits for; returns how many there were. */
uint64_t place_tokens(struct place *place, uint64_t want, uint64_t now_ns);

#endif
