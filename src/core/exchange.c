/* SPDX-License-Identifier: MIT */
/* What it is for, and why it works this way: exchange.h. */
#include "exchange.h"

#define RATE_FIRST 4096u
#define RATE_MIN 256u
#define RATE_MAX 65536u
#define ADAPT_PAGES 512u   /* promotions between two looks at the rate */
#define HOT_SHARE 4u       /* of the pages that leave, one in four: too many */

void exchange_init(struct exchange *exchange)
{
	*exchange = (struct exchange){ .rate = RATE_FIRST };
}

static void rate_adapt(struct exchange *e)
{
	if (atomic_load_explicit(&e->promoted, memory_order_relaxed) < ADAPT_PAGES)
		return;
	if (e->left_hot * HOT_SHARE > e->left)
		e->rate /= 2;
	else
		e->rate += e->rate / 4;
	e->rate = e->rate < RATE_MIN ? RATE_MIN : e->rate > RATE_MAX ? RATE_MAX : e->rate;
	e->left = e->left_hot = 0;
	atomic_store_explicit(&e->promoted, 0, memory_order_relaxed);
}

void exchange_refill(struct exchange *e, uint64_t now_ns)
{
	/* What nobody took within a second is lost. */
	uint64_t second_ns = 1000000000u;
	uint64_t passed_ns = e->time_ns && now_ns > e->time_ns ? now_ns - e->time_ns : 0;

	if (!e->time_ns || passed_ns > second_ns) {
		e->time_ns = now_ns - (e->time_ns ? second_ns : 0);
		passed_ns = now_ns - e->time_ns;
	}
	rate_adapt(e);
	uint64_t grown = passed_ns * e->rate / second_ns;
	if (!grown)
		return;
	e->time_ns += grown * second_ns / e->rate;
	e->probes = e->probes + grown < e->rate ? e->probes + grown : e->rate;
	int64_t has = atomic_load_explicit(&e->promotions, memory_order_relaxed);
	int64_t gets = has + (int64_t)grown < (int64_t)e->rate ? (int64_t)grown
							       : (int64_t)e->rate - has;
	atomic_fetch_add_explicit(&e->promotions, gets, memory_order_relaxed);
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
