/* SPDX-License-Identifier: MIT */
/*
 * Pack: numbers in few bytes, 7 bits each, lowest first; the top bit says that more follow. And a
 * checksum for what was packed. Pure.
 */
#ifndef TIDE_PACK_H
#define TIDE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACK_NUMBER_MAX 10u /* bytes of the largest number */

/* A piece of memory and how far it has been written or read. */
struct pack {
	uint8_t *data;
	size_t at, end;
	bool bad; /* read past the end, or something that is no number; reads give 0 from then on */
};

/* There must be room for PACK_NUMBER_MAX bytes. */
void pack_number(struct pack *pack, uint64_t number);
uint64_t unpack_number(struct pack *pack);
/* A difference that may be negative, as a small number. */
void pack_change(struct pack *pack, uint64_t from, uint64_t to);
uint64_t unpack_change(struct pack *pack, uint64_t from);

/* FNV-1a, going on from `check`; begins with PACK_CHECK. Any one changed byte changes it. */
#define PACK_CHECK UINT64_C(0xcbf29ce484222325)
uint64_t pack_check(uint64_t check, const void *data, size_t bytes);

#endif
