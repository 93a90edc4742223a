/* SPDX-License-Identifier: MIT */
/*
 * The plain tier: pages uncompressed in this process's memory, one page a slot.
 *
 * It gains nothing by itself. It is the simplest thing that keeps the contract: what others are
 * compared with, and the store behind a tier that is reached over a wire. Memory is given back with
 * each freed page, so used bytes equal stored bytes.
 */
#ifndef TIDE_RAM_H
#define TIDE_RAM_H

#include <stdint.h>

#include "tier.h"

/* `capacity_bytes`: 0 for no bound (but 64 GiB). 0, -ENOMEM. */
int ram_open(uint64_t capacity_bytes, struct tier **ret_tier);

#endif
