/* SPDX-License-Identifier: MIT */
/* Every call of the contract, handed on as it is. */
#include "wrap.h"

#include <stdlib.h>

static struct tier *inner_of(struct tier *tier)
{
	return ((struct wrap *)tier)->inner; /* the tier is its first member */
}

int wrap_store(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	struct tier *inner = inner_of(tier);

	return inner->ops->store(inner, page, ret_slot);
}

int wrap_keep(struct tier *tier, const void *page, uint32_t *ret_slot)
{
	struct tier *inner = inner_of(tier);

	return inner->ops->keep(inner, page, ret_slot);
}

void wrap_expect(struct tier *tier, uint32_t slot)
{
	struct tier *inner = inner_of(tier);

	inner->ops->expect(inner, slot);
}

int wrap_load(struct tier *tier, uint32_t slot, void *ret_page)
{
	struct tier *inner = inner_of(tier);

	return inner->ops->load(inner, slot, ret_page);
}

int wrap_compare(struct tier *tier, uint32_t slot, const void *page)
{
	struct tier *inner = inner_of(tier);

	return inner->ops->compare(inner, slot, page);
}

void wrap_ref(struct tier *tier, uint32_t slot)
{
	struct tier *inner = inner_of(tier);

	inner->ops->ref(inner, slot);
}

void wrap_unref(struct tier *tier, uint32_t slot)
{
	struct tier *inner = inner_of(tier);

	inner->ops->unref(inner, slot);
}

void wrap_usage(struct tier *tier, struct tier_usage *ret_usage)
{
	struct tier *inner = inner_of(tier);

	inner->ops->usage(inner, ret_usage);
}

void wrap_set_capacity(struct tier *tier, uint64_t bytes)
{
	struct tier *inner = inner_of(tier);

	inner->ops->set_capacity(inner, bytes);
}

void wrap_close(struct tier *tier)
{
	struct tier *inner;

	if (!tier)
		return;
	inner = inner_of(tier);
	inner->ops->close(inner);
	free((struct wrap *)tier);
}
