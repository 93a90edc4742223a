/* SPDX-License-Identifier: MIT */
/* See delay.h. */
#include "delay.h"

#include <stdlib.h>

#include "clock.h"
#include "wrap.h"

struct delay {
	struct wrap wrap;
	uint64_t store_ns, load_ns, compare_ns;
};

static const struct delay *delay_of(struct tier *tier)
{
	return (struct delay *)tier; /* the tier is its first member */
}

static int delay_store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	clock_sleep_ns(delay_of(tier)->store_ns);
	return wrap_store(tier, page, ret_slot);
}

static int delay_keep(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	clock_sleep_ns(delay_of(tier)->store_ns);
	return wrap_keep(tier, page, ret_slot);
}

static int delay_load(struct tier *tier, uint32_t slot, void *ret_page)
{
	clock_sleep_ns(delay_of(tier)->load_ns);
	return wrap_load(tier, slot, ret_page);
}

static int delay_compare(struct tier *tier, uint32_t slot, const void *page)
{
	clock_sleep_ns(delay_of(tier)->compare_ns);
	return wrap_compare(tier, slot, page);
}

static const struct tier_ops delay_ops = {
	.name = "delay",
	.store = delay_store,
	.keep = delay_keep,
	.expect = wrap_expect,
	.load = delay_load,
	.compare = delay_compare,
	.ref = wrap_ref,
	.unref = wrap_unref,
	.usage = wrap_usage,
	.set_capacity = wrap_set_capacity,
	.close = wrap_close,
};

int delay_open(struct tier *inner, uint64_t store_ns, uint64_t load_ns, uint64_t compare_ns,
	       struct tier **ret_tier)
{
	struct delay *delay = malloc(sizeof(*delay));

	if (!delay)
		return -ENOMEM;
	*delay = (struct delay){ .wrap = { .tier = { .ops = &delay_ops }, .inner = inner },
				 .store_ns = store_ns,
				 .load_ns = load_ns,
				 .compare_ns = compare_ns };
	*ret_tier = &delay->wrap.tier;
	return 0;
}
