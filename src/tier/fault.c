/* SPDX-License-Identifier: MIT */
/* See fault.h. The counters are atomic, so that exactly one of many threads meets the k-th call. */
#include "fault.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "wrap.h"

struct plan {
	uint64_t k;
	int error;
	bool forever;
	_Atomic uint64_t nr_calls, nr_failed;
};

struct fault {
	struct wrap wrap;
	struct plan plans[FAULT_CALL_COUNT];
};

static struct plan *plan_of(struct tier *tier, enum fault_call call)
{
	return &((struct fault *)tier)->plans[call]; /* the tier is its first member */
}

/* Counts the call; the error it shall give, or 0. */
static int fault_next(struct tier *tier, enum fault_call call)
{
	struct plan *plan = plan_of(tier, call);
	uint64_t number = atomic_fetch_add_explicit(&plan->nr_calls, 1, memory_order_relaxed) + 1;

	if (plan->k == 0 || number < plan->k || (number > plan->k && !plan->forever))
		return 0;
	atomic_fetch_add_explicit(&plan->nr_failed, 1, memory_order_relaxed);
	return plan->error;
}

static int fault_store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	int err = fault_next(tier, FAULT_STORE);

	return err ? err : wrap_store(tier, page, ret_slot);
}

/* Counts as a store. */
static int fault_keep(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	int err = fault_next(tier, FAULT_STORE);

	return err ? err : wrap_keep(tier, page, ret_slot);
}

static int fault_load(struct tier *tier, uint32_t slot, void *ret_page)
{
	int err = fault_next(tier, FAULT_LOAD);

	return err ? err : wrap_load(tier, slot, ret_page);
}

static int fault_compare(struct tier *tier, uint32_t slot, const void *page)
{
	int err = fault_next(tier, FAULT_COMPARE);

	return err ? err : wrap_compare(tier, slot, page);
}

void fault_plan(struct tier *tier, enum fault_call call, uint64_t k, int error, bool forever)
{
	struct plan *plan = plan_of(tier, call);

	plan->k = k;
	plan->error = error;
	plan->forever = forever;
	atomic_store_explicit(&plan->nr_calls, 0, memory_order_relaxed);
	atomic_store_explicit(&plan->nr_failed, 0, memory_order_relaxed);
}

uint64_t fault_calls(struct tier *tier, enum fault_call call)
{
	return atomic_load_explicit(&plan_of(tier, call)->nr_calls, memory_order_relaxed);
}

uint64_t fault_failed(struct tier *tier, enum fault_call call)
{
	return atomic_load_explicit(&plan_of(tier, call)->nr_failed, memory_order_relaxed);
}

static const struct tier_ops fault_ops = {
	.name = "fault",
	.store = fault_store,
	.keep = fault_keep,
	.expect = wrap_expect,
	.load = fault_load,
	.compare = fault_compare,
	.ref = wrap_ref,
	.unref = wrap_unref,
	.usage = wrap_usage,
	.set_capacity = wrap_set_capacity,
	.close = wrap_close,
};

int fault_open(struct tier *inner, struct tier **ret_tier)
{
	struct fault *fault = calloc(1, sizeof(*fault));

	if (!fault)
		return -ENOMEM;
	fault->wrap.tier.ops = &fault_ops;
	fault->wrap.inner = inner;
	*ret_tier = &fault->wrap.tier;
	return 0;
}
