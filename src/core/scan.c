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
		.next_ns = now_ns + config->start_delay_ns,
		.weight = weight,
	};
}

bool scan_due(const struct scan *scan, uint64_t now_ns)
{
	return scan->weight && now_ns >= scan->next_ns;
}

uint64_t scan_wait_ns(const struct scan *scan, uint64_t now_ns)
{
	if (!scan->weight)
		return UINT64_MAX;
	return scan->next_ns > now_ns ? scan->next_ns - now_ns : 0;
}

void scan_done(struct scan *scan, uint64_t now_ns, uint64_t cost_ns, uint64_t nr_useful)
{
	uint64_t period_ns = scan->period_ns, share_ppm, least_ns;

	if (nr_useful)
		period_ns = scan->found_before ? period_ns - period_ns / 100 * 15 : period_ns / 8;
	else
		period_ns = scan->found_before ? period_ns * 8 : period_ns + period_ns / 100 * 15;
	if (period_ns < scan->config.min_ns)
		period_ns = scan->config.min_ns;
	if (period_ns > scan->config.max_ns)
		period_ns = scan->config.max_ns;
	scan->period_ns = period_ns;
	scan->found_before = nr_useful > 0;

	share_ppm = (uint64_t)scan->config.share_ppm * scan->weight / SCAN_WEIGHT_MAX;
	least_ns = cost_ns * 1000000 / (share_ppm ? share_ppm : 1);
	scan->next_ns = now_ns + (period_ns > least_ns ? period_ns : least_ns);
}
