/* SPDX-License-Identifier: MIT */
/*
 * Pace: how often the keeper looks, by the rules of scan.h.
 *
 *   look     at one program: its size, whether it became another; when memory is tight also whether
 *            there may be mappings to adopt, and whether its faults wait for a handler that does not run
 *   survey   its maps, which cost much more: when its size or its mappings have changed
 *   again    the same after a while, since a mapping replaced by another of the same size shows nowhere
 *   advice   which of its mappings may have huge pages (advice.c)
 *   choose   which handlers wait for faults
 *   tree     processes without a helper, in all of /proc
 *   watch    the mover's looks while no room is wanted (mover.c)
 *
 * All of that shares what --overhead allows: three eighths for looks, a tenth each for surveys again and for advice,
 * programs alike, an eighth for each of the last three; the bounds, once a second, have the rest. It is forced, and
 * not counted there: a survey because of a change, for what is not adopted cannot be held to the budget; looks and
 * surveys while memory is above the budget, or not tight yet, when nothing else would see it fill; and what has to be
 * seen in time though the share is used up (looks are rarer for that all the same). Forced looking has a share of its
 * own. The first survey of a program costs most by far and is not counted there either: what comes right after it fills
 * as fast.
 *
 * What must hold: before memory is tight, no program has time to reach the budget between two looks;
 * when it is, new mappings fill for LOOK_MAX_NS at most, unless looking were to cost more than its share.
 */
#include "pace.h"

#include "number.h"
#include "program.h"

#define MS UINT64_C(1000000)
#define FORCED_PPM 250000u
/* No program fills memory faster than this. */
#define FILL_PAGES_PER_MS ((8u << 20) / PAGE_BYTES)
#define LOOK_LONGEST_NS (1000 * MS)
#define LOOK_MAX_NS (10 * MS) /* a fast allocator fills 30 MiB meanwhile */
#define SURVEY_FORCED_NS (250 * MS)
#define SURVEY_MAX_NS (2000 * MS)

/* Shares are set by pace_set(). */
static const struct scan_config look_config = {
	.start_delay_ns = 3 * MS, /* many live no longer, or exec at once */
	.period_ns = 5 * MS, .min_ns = 4 * MS, .max_ns = LOOK_LONGEST_NS, .share_ppm = 1,
};
static const struct scan_config survey_config = {
	.period_ns = SURVEY_FORCED_NS, .min_ns = SURVEY_FORCED_NS, .max_ns = SURVEY_MAX_NS,
	.share_ppm = 1,
};
static const struct scan_config advice_config = {
	.period_ns = 1000 * MS, .min_ns = 1000 * MS, .max_ns = 1000 * MS, .share_ppm = 1,
};
static const struct scan_config choose_config = {
	.period_ns = 20 * MS, .min_ns = 20 * MS, .max_ns = 40 * MS, .share_ppm = 1,
};
static const struct scan_config tree_config = {
	.period_ns = 1000 * MS, .min_ns = 1000 * MS, .max_ns = 5000 * MS, .share_ppm = 1,
};

static uint32_t share_least(uint64_t ppm)
{
	return ppm ? (uint32_t)ppm : 1;
}

void pace_open(struct pace *pace, uint32_t share_ppm, uint64_t now_ns)
{
	*pace = (struct pace){
		.share_ppm = share_ppm,
		.watch_ppm = share_least(share_ppm / 8),
		.bounds_parts = 1000000 / share_least(share_ppm / 20),
		.began_ns = now_ns,
		.forced = true,
	};
	scan_init(&pace->choose, &choose_config, SCAN_WEIGHT_MAX, now_ns);
	scan_init(&pace->tree, &tree_config, SCAN_WEIGHT_MAX, now_ns);
	scan_bound(&pace->choose, share_least(share_ppm / 8), choose_config.max_ns);
	scan_bound(&pace->tree, share_least(share_ppm / 8), tree_config.max_ns);
}

bool pace_spent(const struct pace *pace, uint64_t voluntary_ns, uint64_t now_ns)
{
	return voluntary_ns > (now_ns - pace->began_ns) / 1000000 * pace->share_ppm;
}

void pace_begin(struct program *p, uint64_t now_ns)
{
	scan_init(&p->look, &look_config, SCAN_WEIGHT_MAX, now_ns);
	scan_init(&p->survey, &survey_config, SCAN_WEIGHT_MAX, now_ns);
	scan_init(&p->again, &survey_config, SCAN_WEIGHT_MAX, now_ns);
	scan_init(&p->advice, &advice_config, SCAN_WEIGHT_MAX, now_ns);
}

/* When memory is tight: a program may fill no more than a quarter of what is spare in a group meanwhile. */
static uint64_t look_ns_tight(const struct server *s)
{
	uint64_t ns = s->spare_bytes / 4 / PAGE_BYTES * MS / FILL_PAGES_PER_MS;

	return ns < look_config.min_ns ? look_config.min_ns : ns > LOOK_MAX_NS ? LOOK_MAX_NS : ns;
}

/* How long nothing can go wrong for: until memory could be tight. */
static uint64_t fill_ns(uint64_t resident, uint64_t edge)
{
	uint64_t ns = resident < edge ? (edge - resident) * MS / FILL_PAGES_PER_MS : 0;

	return ns < MS ? MS : ns > LOOK_LONGEST_NS ? LOOK_LONGEST_NS : ns;
}

void pace_set(struct pace *pace, struct server *s, uint64_t resident, uint64_t edge)
{
	uint64_t look_ns = s->tight ? look_ns_tight(s) : fill_ns(resident, edge), nr = 0;

	pace->forced = !s->tight || resident > atomic_load(&s->limit);
	uint64_t look_ppm = pace->forced ? FORCED_PPM : pace->share_ppm * 3 / 8;
	uint64_t again_ppm = pace->forced ? FORCED_PPM : pace->share_ppm / 10;
	for (const struct program *p = s->programs; p; p = p->next)
		nr++;
	for (struct program *p = s->programs; p; p = p->next) {
		scan_bound(&p->look, share_least(look_ppm / nr), look_ns);
		scan_bound(&p->survey, share_least(FORCED_PPM / nr), survey_config.max_ns);
		scan_bound(&p->again, share_least(again_ppm / nr), pace->forced ? SURVEY_FORCED_NS : SURVEY_MAX_NS);
		scan_bound(&p->advice, share_least(pace->share_ppm / 10 / nr), advice_config.max_ns);
	}
}

uint64_t pace_wait_ns(const struct server *s, uint64_t now_ns)
{
	/* Whatever looks cost: whether they have become forced is seen in time. */
	uint64_t wait_ns = !s->programs ? 20 * MS : s->tight ? 2 * LOOK_MAX_NS : LOOK_LONGEST_NS;

	for (const struct program *p = s->programs; p; p = p->next) {
		wait_ns = least(wait_ns, scan_wait_ns(&p->look, now_ns));
		if (atomic_load(&p->grown))
			wait_ns = least(wait_ns, scan_may_wait_ns(&p->survey, now_ns));
	}
	return wait_ns;
}
