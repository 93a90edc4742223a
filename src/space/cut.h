/* SPDX-License-Identifier: MIT */
/* Which of its parent's changes of mappings a child has. Pure: no lock, no system call but through `registered`. */
#ifndef TIDE_CUT_H
#define TIDE_CUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From here on there are no addresses: memory that was unmapped is kept there until nobody can want it. */
#define LIMBO_VPN (UINT64_C(1) << 46)
/* Where memory goes that was unmapped, and of which the table knew nothing. */
#define NOTHING_VPN (UINT64_C(1) << 62)

/* Pages that were moved, or unmapped: moved to LIMBO_VPN or beyond. */
struct change {
	uint64_t from, to, nr_pages;
	bool emptied; /* nothing is mapped at the old place; else it was left mapped, or other memory has grown there */
	bool refused; /* it was told to be unmapped, is known not to have been, and is put back */
	uint32_t told; /* by which message, modulo 2^32 */
};

static inline bool change_unmaps(const struct change *change)
{
	return change->to >= LIMBO_VPN && change->to < NOTHING_VPN && change->from < LIMBO_VPN;
}

/* An address is left, and nothing is mapped there, as far as is known. */
static inline bool change_empties(const struct change *change)
{
	return change->emptied && change->from < LIMBO_VPN && change->to < NOTHING_VPN;
}

struct place {
	uint64_t vpn, nr_pages;
};

/*
 * `changes`, in the order in which they were told, of which the first `at` are made in the table that has pages
 * at `places`. registered(arg, vpn): whether the child has registered memory there: 1, 0 or -errno.
 * made[i]: whether the child has change i. -EUCLEAN: that cannot be told; -ENOMEM; what `registered` said.
 */
int cut_find(const struct change *changes, size_t nr, size_t at, const struct place *places,
	     size_t nr_places, int (*registered)(void *arg, uint64_t vpn), void *arg, bool *made);

#endif
