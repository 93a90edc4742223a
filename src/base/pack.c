/* SPDX-License-Identifier: MIT */
#include "pack.h"

void pack_number(struct pack *pack, uint64_t number)
{
	for (; number >= 0x80; number >>= 7)
		pack->data[pack->at++] = (uint8_t)(number | 0x80);
	pack->data[pack->at++] = (uint8_t)number;
}

uint64_t unpack_number(struct pack *pack)
{
	uint64_t number = 0;

	for (unsigned shift = 0; shift < 64 && pack->at < pack->end && !pack->bad; shift += 7) {
		uint64_t byte = pack->data[pack->at++];
		if (shift == 63 && byte > 1)
			break;
		number |= (byte & 0x7f) << shift;
		if (byte < 0x80)
			return number;
	}
	pack->bad = true;
	return 0;
}

void pack_change(struct pack *pack, uint64_t from, uint64_t to)
{
	uint64_t up = to - from;

	/* The sign goes to the lowest bit. */
	pack_number(pack, up >> 63 ? ~(up << 1) : up << 1);
}

uint64_t unpack_change(struct pack *pack, uint64_t from)
{
	uint64_t number = unpack_number(pack);

	return from + (number & 1 ? ~(number >> 1) : number >> 1);
}

uint64_t pack_check(uint64_t check, const void *data, size_t bytes)
{
	const uint8_t *at = data;

	for (size_t i = 0; i < bytes; i++)
		check = (check ^ at[i]) * UINT64_C(0x100000001b3);
	return check;
}
