/* SPDX-License-Identifier: MIT */
/*
 * A tier around a tier: what a wrapper does not care about goes through to the inner one.
 *
 * A wrapper starts with struct wrap, copies wrap_ops and puts its own calls in. It owns the inner
 * tier from a successful open on. Wrappers stack.
 */
#ifndef TIDE_WRAP_H
#define TIDE_WRAP_H

#include "tier.h"

struct wrap {
	struct tier tier;
	struct tier *inner;
};

int wrap_store(struct tier *tier, const void *page, uint32_t *ret_slot);
int wrap_keep(struct tier *tier, const void *page, uint32_t *ret_slot);
void wrap_expect(struct tier *tier, uint32_t slot);
int wrap_load(struct tier *tier, uint32_t slot, void *ret_page);
int wrap_compare(struct tier *tier, uint32_t slot, const void *page);
void wrap_ref(struct tier *tier, uint32_t slot);
void wrap_unref(struct tier *tier, uint32_t slot);
void wrap_usage(struct tier *tier, struct tier_usage *ret_usage);
void wrap_set_capacity(struct tier *tier, uint64_t bytes);
/* Closes the inner tier and frees the wrapper, which was malloc()ed. */
void wrap_close(struct tier *tier);

#endif
