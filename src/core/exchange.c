/* SPDX-License-Identifier: MIT */
/* What it is for, and why it works this way: exchange.h. */
#include "exchange.h"

#include "heat.h"

#define RATE_FIRST 4096u
#define RATE_MIN 256u
#define RATE_MAX 65536u
#define PROBE_MIN 64u
#define ADAPT_PAGES 512u   /* promotions between two looks at their rate */
#define HOT_SHARE 4u       /* of the pages that leave, one in four: too many */
#define LOOK_MS 250u       /* between two looks at the rate of probes */
#define WAIT_SHARE 4u      /* of the time, a quarter waited: too much */
#define SECOND_NS UINT64_C(1000000000)

void exchange_init(struct exchange *exchange)
{
	*exchange = (struct exchange){
		.promote.rate = RATE_FIRST,
		.probe.rate = RATE_FIRST,
		.window = HEAT_WINDOW_TICKS,
	};
}

static void promote_adapt(struct exchange *e)
{
	uint32_t rate = e->promote.rate;

	if (atomic_load_explicit(&e->promoted, memory_order_relaxed) < ADAPT_PAGES)
		return;
	rate = e->left_hot * HOT_SHARE > e->left ? rate / 2 : rate + rate / 4;
	e->promote.rate = rate < RATE_MIN ? RATE_MIN : rate > RATE_MAX ? RATE_MAX : rate;
	e->left = e->left_hot = 0;
	atomic_store_explicit(&e->promoted, 0, memory_order_relaxed);
}

static void probe_adapt(struct exchange *e, uint64_t now_ns, uint64_t waited_ns)
{
	uint64_t passed_ns = now_ns - e->looked_ns, wait_ns = waited_ns - e->waited_ns;
	uint32_t rate = e->probe.rate;

	if (e->looked_ns && passed_ns < LOOK_MS * SECOND_NS / 1000)
		return;
	if (e->looked_ns && wait_ns * WAIT_SHARE > passed_ns)
		rate /= 2;
	else if (wait_ns * WAIT_SHARE * 2 < passed_ns)
		rate += rate / 4;
	rate = rate < PROBE_MIN ? PROBE_MIN : rate;
	e->probe.rate = rate < e->promote.rate ? rate : e->promote.rate;
	e->looked_ns = now_ns;
	e->waited_ns = waited_ns;
}

/* How much has grown by now. What nobody took within a second is lost. */
static uint64_t flow_grow(struct exchange_flow *flow, uint64_t now_ns)
{
	uint64_t passed_ns = flow->time_ns && now_ns > flow->time_ns ? now_ns - flow->time_ns : 0;

	if (!flow->time_ns || passed_ns > SECOND_NS) {
		flow->time_ns = now_ns - (flow->time_ns ? SECOND_NS : 0);
		passed_ns = now_ns - flow->time_ns;
	}
	uint64_t grown = passed_ns * flow->rate / SECOND_NS;
	flow->time_ns += grown * SECOND_NS / flow->rate;
	return grown;
}

void exchange_refill(struct exchange *e, uint64_t now_ns, uint64_t waited_ns)
{
	promote_adapt(e);
	probe_adapt(e, now_ns, waited_ns);
	e->probes += flow_grow(&e->probe, now_ns);
	if (e->probes > e->probe.rate)
		e->probes = e->probe.rate;
	int64_t grown = (int64_t)flow_grow(&e->promote, now_ns), most = (int64_t)e->promote.rate;
	int64_t has = atomic_load_explicit(&e->promotions, memory_order_relaxed);
	atomic_fetch_add_explicit(&e->promotions, has + grown < most ? grown : most - has,
				  memory_order_relaxed);
}

void exchange_passed(struct exchange *e, uint64_t pages, uint64_t all_pages, uint64_t now_ns)
{
	e->passed += pages;
	if (e->passed < all_pages)
		return;
	uint64_t ticks = 2 * (now_ns - e->pass_ns) >> HEAT_TICK_SHIFT, most = HEAT_MAX(TIME) / 4;

	if (!e->pass_ns || ticks < HEAT_WINDOW_TICKS)
		ticks = HEAT_WINDOW_TICKS;
	atomic_store_explicit(&e->window, (uint32_t)(ticks < most ? ticks : most), memory_order_relaxed);
	e->pass_ns = now_ns;
	e->passed = 0;
}

uint32_t exchange_window(const struct exchange *e)
{
	return atomic_load_explicit(&e->window, memory_order_relaxed);
}

bool exchange_promote(struct exchange *e)
{
	int64_t has = atomic_load_explicit(&e->promotions, memory_order_relaxed);

	do {
		if (has <= 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&e->promotions, &has, has - 1,
							memory_order_relaxed, memory_order_relaxed));
	atomic_fetch_add_explicit(&e->promoted, 1, memory_order_relaxed);
	return true;
}

uint64_t exchange_probes(struct exchange *e, uint64_t want)
{
	uint64_t got = want < e->probes ? want : e->probes;

	e->probes -= got;
	return got;
}

void exchange_left(struct exchange *e, bool hot)
{
	e->left++;
	e->left_hot += hot;
}
