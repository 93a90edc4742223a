/* SPDX-License-Identifier: MIT */
/*
 * A compressor for pages: it writes the block format of LZ4, which LZ4_decompress_safe() reads.
 *
 * What a page is like is known: 4 KiB that begin from nothing, mostly structures of one size one behind the
 * other. So before the table is asked, a match is looked for at the distance of the last one, and the table
 * is small enough to be cleared at once.
 */
#ifndef TIDE_PACKER_H
#define TIDE_PACKER_H

#include <stdint.h>

#include "tier.h"

#define PACKER_LOG 12u

/* A thread's own; needs no beginning. */
struct packer {
	uint16_t table[1u << PACKER_LOG];
};

/* What may be written past the packed bytes. */
#define PACKER_SPILL_BYTES 32u

/* Pack a page that does not change meanwhile. Returns how many bytes it takes, 0 when they would be more than
 * `max_bytes`. `packed` has room for `max_bytes` and PACKER_SPILL_BYTES behind. */
uint32_t packer_pack(struct packer *packer, const void *page, void *packed, uint32_t max_bytes);

#endif
