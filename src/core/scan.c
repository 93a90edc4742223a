/* SPDX-License-Identifier: MIT */
/* The rules of the pace are in scan.h. */
#include "scan.h"

#include "assert.h"

void scan_init(struct scan *scan, const struct scan_config *config, uint32_t weight,
	       uint64_t now_ns)
{
	tide_assert(weight <= SCAN_WEIGHT_MAX && config->share_ppm > 0);
	tide_assert(config->min_ns > 0 && config->min_ns <= config->max_ns);
	*scan = (struct scan){
		.config = *config,
		.period_ns = config->period_ns,
		.done_ns = now_ns,
		.wait_ns = config->start_delay_ns,
		.weight = weight,
	};
}

/* The least wait after the last look. */
static uint64_t share_wait_ns(const struct scan *scan)
{
	uint64_t share_ppm = (uint64_t)scan->config.share_ppm * scan->weight / SCAN_WEIGHT_MAX;

	return scan->cost_ns * 1000000 / (share_ppm ? share_ppm : 1);
}

static uint64_t due_ns(const struct scan *scan)
{
	uint64_t least_ns = share_wait_ns(scan);

	return scan->done_ns + (scan->wait_ns > least_ns ? scan->wait_ns : least_ns);
}

static uint64_t may_ns(const struct scan *scan)
{
	return scan->done_ns + share_wait_ns(scan);
}

bool scan_due(const struct scan *scan, uint64_t now_ns)
{
	return scan->weight && now_ns >= due_ns(scan);
}

bool scan_may(const struct scan *scan, uint64_t now_ns)
{
	return scan->weight && now_ns >= may_ns(scan);
}

static uint64_t until_ns(const struct scan *scan, uint64_t at_ns, uint64_t now_ns)
{
	if (!scan->weight)
		return UINT64_MAX;
	return at_ns > now_ns ? at_ns - now_ns : 0;
}

uint64_t scan_wait_ns(const struct scan *scan, uint64_t now_ns)
{
	return until_ns(scan, due_ns(scan), now_ns);
}

uint64_t scan_may_wait_ns(const struct scan *scan, uint64_t now_ns)
{
	return until_ns(scan, may_ns(scan), now_ns);
}

static uint64_t period_clamp(const struct scan *scan, uint64_t period_ns)
{
	if (period_ns < scan->config.min_ns)
		period_ns = scan->config.min_ns;
	return period_ns < scan->config.max_ns ? period_ns : scan->config.max_ns;
}

void scan_done(struct scan *scan, uint64_t now_ns, uint64_t cost_ns, uint64_t nr_useful)
{
	uint64_t period_ns = scan->period_ns;

	if (nr_useful)
		period_ns = scan->found_before ? period_ns - period_ns / 100 * 15 : period_ns / 8;
	else
		period_ns = scan->found_before ? period_ns * 8 : period_ns + period_ns / 100 * 15;
	scan->period_ns = scan->wait_ns = period_clamp(scan, period_ns);
	scan->found_before = nr_useful > 0;
	scan->done_ns = now_ns;
	scan->cost_ns = cost_ns;
}

void scan_bound(struct scan *scan, uint32_t share_ppm, uint64_t max_ns)
{
	tide_assert(share_ppm > 0);
	scan->config.share_ppm = share_ppm;
	scan->config.max_ns = max_ns;
	scan->period_ns = period_clamp(scan, scan->period_ns);
	if (scan->wait_ns > max_ns)
		scan->wait_ns = max_ns;
}
