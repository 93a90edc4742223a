/* SPDX-License-Identifier: MIT */
/* What the words mean, and why it works this way: place.h. */
#include "place.h"

/* Measured with bench/policy_sim.c, see bench/results/policy_sim.txt. */
#define WEIGHT 2u                   /* a new sample counts a half */
#define SEEN_PAGES 2048u            /* adapt the threshold that often */
#define COLD_SHARE 30u              /* a pass should find 1/30 of resident pages cold */
#define THRESHOLD_MIN (-64 * 256)
#define THRESHOLD_MAX ((int32_t)PLACE_LEVEL_TOP * 256)
#define FADE_Q8 16u                 /* a quarter of an octave each turnover */
#define SLACK_Q8 ((int32_t)PLACE_OCTAVE / 2 * 256)
#define RESIDENCE_BEATS 1u          /* a page that came back stays at least that long */
#define BEAT_PAGES_MIN 16u
#define STARVE_BEAT_NS 2000000u     /* pages put off are tried again after half a second */
#define HELD_WINDOW 4096u
#define GAP_SHARE 64u               /* at most 1/64 of memory is held */
#define GAP_MIN_Q8 16u
/* Kept free, so that faults find room while the mover is woken: a share, but some MiB where there is that
 * much at all. */
#define MARGIN_SHARE 128u
#define MARGIN_MIN_PAGES 1024u
#define MARGIN_MAX_PAGES 16384u
#define TOKENS_PER_S 65536u
#define TOKENS_MAX 16384u

void place_init(struct place *place)
{
	*place = (struct place){
		.beat = 1,
		.beat_pages = BEAT_PAGES_MIN,
		.threshold_q8 = 48 * 256,
		.gap_q8 = 256,
		.tokens_q20 = (uint64_t)TOKENS_MAX << 20,
	};
}

/* ---- time ---- */

void place_stored(struct place *place, uint64_t nr_pages, uint64_t resident)
{
	place->beat_pages = resident / PLACE_BEATS;
	if (place->beat_pages < BEAT_PAGES_MIN)
		place->beat_pages = BEAT_PAGES_MIN;
	place->stored_pages += nr_pages;
	place->tokens_q20 += nr_pages << 20; /* to hold another in its stead is no luxury */
	/* One beat a call at most: a pass must keep up with the stamps. */
	if (place->stored_pages >= place->beat_pages) {
		place->beat++;
		place->stored_pages -= place->beat_pages;
		if (place->stored_pages > place->beat_pages)
			place->stored_pages = place->beat_pages;
	}
}

void place_starve(struct place *place, uint64_t now_ns)
{
	uint64_t progress = place->beat * UINT32_MAX + place->stored_pages;

	if (!place->urgent || progress != place->starve_progress) {
		place->starve_progress = progress;
		place->starve_time_ns = now_ns;
	} else if (now_ns - place->starve_time_ns >= STARVE_BEAT_NS) {
		place->beat++;
		place->starve_time_ns = now_ns;
		place->starve_progress = place->beat * UINT32_MAX + place->stored_pages;
	}
}

/* ---- estimates ---- */

/*
 * Level and interval: level = 160 - 16 * log2(interval), the interval in 1/32 of a beat above half a
 * beat: 16 is touched at once, 16 * (2 * 255 + 1) long ago. Linear between octaves.
 */
static uint32_t interval_of(uint32_t level)
{
	uint32_t down = PLACE_LEVEL_TOP - level;
	return (PLACE_OCTAVE + down % PLACE_OCTAVE) << (down / PLACE_OCTAVE);
}

static uint32_t level_of(uint32_t interval)
{
	uint32_t octave = 31u - (uint32_t)__builtin_clz(interval / PLACE_OCTAVE);
	uint32_t part = (interval >> octave) - PLACE_OCTAVE;

	return PLACE_LEVEL_TOP - octave * PLACE_OCTAVE - part;
}

uint16_t place_estimate_born(const struct place *place)
{
	return place_estimate(PLACE_LEVEL_BORN, place_stamp_now(place));
}

uint16_t place_estimate_touched(const struct place *place, uint16_t estimate)
{
	uint32_t sample = PLACE_OCTAVE * (2 * place_age(place, place_stamp(estimate)) + 1);
	uint32_t level = place_level(estimate);

	/* The mean of exponential intervals tells their rate best; a new one weighs a half. */
	if (level && level <= PLACE_LEVEL_TOP) {
		uint32_t mean = interval_of(level);
		sample = mean - mean / WEIGHT + sample / WEIGHT;
	}
	level = level_of(sample);
	return place_estimate(level ? level : 1, place_stamp_now(place));
}

uint16_t place_estimate_unmapped(const struct place *place, uint16_t estimate)
{
	return place_estimate(place_level(estimate), place_stamp_now(place));
}

uint16_t place_estimate_busy(const struct place *place)
{
	return place_estimate(PLACE_LEVEL_BUSY, place_stamp_now(place));
}

/*
 * Waits of a page that is refused: 1, 2, 4 .. 32 times PLACE_FORGET_BEATS, all of them numbered in one row.
 *
 *   above PLACE_LEVEL_LEAVE:  1 | 2 3 | 4 5 6 7 | 8 .. 15 | 16 .. 31 | 32 .. 63     each counts down to a power of two
 *
 * While it is tried again its level tells how often it was: so much below that of a page just born. A page that got
 * there otherwise waits a little longer than need be.
 */
uint16_t place_estimate_refused(const struct place *place, uint16_t estimate)
{
	uint32_t tries = PLACE_LEVEL_BORN - place_level(estimate);

	if (tries > PLACE_TRIES_MAX) /* or its level is above: it was not tried before */
		tries = 0;
	return place_estimate(PLACE_LEVEL_LEAVE + (2u << tries) - 1, place_stamp_now(place));
}

uint16_t place_estimate_waited(const struct place *place, uint32_t level)
{
	uint32_t wait = level > PLACE_LEVEL_LEAVE ? level - PLACE_LEVEL_LEAVE : 0;

	if (wait & (wait - 1))
		return place_estimate(level - 1, place_stamp_now(place));
	if (!wait)
		return place_estimate(PLACE_LEVEL_BORN, 0);
	uint32_t tries = 1 + (uint32_t)__builtin_ctz(wait);
	return place_estimate(PLACE_LEVEL_BORN - (tries < PLACE_TRIES_MAX ? tries : PLACE_TRIES_MAX), 0);
}

int32_t place_score(const struct place *place, uint16_t estimate)
{
	uint32_t age = place_age(place, place_stamp(estimate));
	return (int32_t)place_level(estimate) - (int32_t)((FADE_Q8 * age) >> 8);
}

enum place_verdict place_judge(const struct place *place, uint16_t estimate)
{
	int32_t score_q8 = place_score(place, estimate) * 256;

	if (!place->urgent && place_age(place, place_stamp(estimate)) < RESIDENCE_BEATS)
		return PLACE_KEEP;
	if (score_q8 <= place->threshold_q8)
		return PLACE_COLD;
	return score_q8 <= place->threshold_q8 + SLACK_Q8 ? PLACE_NEAR : PLACE_KEEP;
}

void place_returned(struct place *place, uint64_t nr_pages)
{
	place->came_back_pages += nr_pages;
}

void place_seen(struct place *place, uint32_t seen, uint32_t cold)
{
	place->seen_pages += seen;
	place->cold_pages += cold;
	if (place->seen_pages < SEEN_PAGES)
		return;
	/* The step is the error: finding nothing raises it by 1/2 octave, finding all lowers it by
	 * as much a tenth. */
	int32_t want = (int32_t)(place->seen_pages / COLD_SHARE), found = (int32_t)place->cold_pages;
	int32_t error_q8 = (want - found) * 256 / (want > found ? want : found);
	place->threshold_q8 += error_q8 * 4;
	if (place->threshold_q8 < THRESHOLD_MIN)
		place->threshold_q8 = THRESHOLD_MIN;
	if (place->threshold_q8 > THRESHOLD_MAX)
		place->threshold_q8 = THRESHOLD_MAX;
	place->seen_pages = place->cold_pages = 0;
}

void place_held(struct place *place, uint32_t nr_pages)
{
	place->held_pages += nr_pages;
	if (place->held_pages < HELD_WINDOW)
		return;
	if (place->came_back_pages > place->held_pages / 2)
		place->gap_q8 /= 2;
	else if (place->came_back_pages < place->held_pages / 4)
		place->gap_q8 += place->gap_q8 / 2;
	if (place->gap_q8 < GAP_MIN_Q8)
		place->gap_q8 = GAP_MIN_Q8;
	if (place->gap_q8 > 256)
		place->gap_q8 = 256;
	place->held_pages = place->came_back_pages = 0;
}

/* ---- how much ---- */

void place_marks(uint64_t limit, uint64_t *ret_low, uint64_t *ret_high)
{
	uint64_t margin = limit / MARGIN_SHARE;

	if (margin < MARGIN_MIN_PAGES)
		margin = limit / 32 < MARGIN_MIN_PAGES ? limit / 32 : MARGIN_MIN_PAGES;
	if (margin > MARGIN_MAX_PAGES)
		margin = MARGIN_MAX_PAGES;
	*ret_low = limit - margin;
	*ret_high = limit - margin / 2;
}

uint64_t place_excess(struct place *place, uint64_t resident, uint64_t limit, uint64_t filling)
{
	uint64_t low, high;

	place_marks(limit, &low, &high);
	resident += filling;
	place->urgent = filling || resident > high;
	place->pressed = resident + (high - low) > low;
	if (resident > low + (high - low) / 8)
		place->draining = true;
	if (resident <= low)
		place->draining = false;
	return place->draining ? resident - low : 0;
}

uint64_t place_gap(const struct place *place, uint64_t limit, uint64_t held_max)
{
	uint64_t most = limit / GAP_SHARE;

	if (most > held_max / 2)
		most = held_max / 2;
	return most * place->gap_q8 >> 8;
}

uint64_t place_tokens(struct place *place, uint64_t want, uint64_t now_ns)
{
	uint64_t passed_ns = now_ns > place->token_time_ns ? now_ns - place->token_time_ns : 0;

	/* Q20 pages a nanosecond fit: 65536 / 1e9 = 68.7 in Q20. */
	if (passed_ns > 1000000000u)
		passed_ns = 1000000000u;
	place->tokens_q20 += passed_ns * ((uint64_t)TOKENS_PER_S * (1u << 20) / 1000000000u);
	if (place->tokens_q20 > (uint64_t)TOKENS_MAX << 20)
		place->tokens_q20 = (uint64_t)TOKENS_MAX << 20;
	place->token_time_ns = now_ns;
	uint64_t got = place->tokens_q20 >> 20;
	if (got > want)
		got = want;
	place->tokens_q20 -= got << 20;
	return got;
}
