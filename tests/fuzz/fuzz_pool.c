/* SPDX-License-Identifier: MIT */
/*
 * The pool against a naive model, driven by libFuzzer: the input is a program of operations.
 *
 *   byte 0         capacity in 2 MiB blocks (0: not bounded) and, its high bit, verify
 *   then, each     operation, and a byte or two of arguments
 *
 * The model keeps a full copy of each page and a count of references. Whatever the program does,
 * pages come back as they were, the count of pages is right, and the bounds hold.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

#define NR_HELD 64
#define BLOCK ((uint64_t)2 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct held {
	uint32_t slot;
	unsigned nr_refs; /* 0: none */
	unsigned char page[TIER_PAGE_BYTES];
};

struct input {
	const uint8_t *at, *end;
};

static void must(bool holds)
{
	if (!holds)
		abort();
}

static uint8_t input_byte(struct input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

/* A page made of the input's own bytes, so that the fuzzer shapes what lz4 sees. */
static void input_page(struct input *input, unsigned char *page)
{
	size_t have = (size_t)(input->end - input->at), nr = input_byte(input) * 17u;
	uint8_t fill = input_byte(input);
	uint32_t noise = fill * 2654435761u + (uint32_t)have;

	memset(page, fill & 0xf, TIER_PAGE_BYTES);
	if (fill & 0x80) {
		for (size_t i = 0; i < nr && i < TIER_PAGE_BYTES; i++) {
			noise = noise * 1664525u + 1013904223u;
			page[i] = (unsigned char)(noise >> 24);
		}
		return;
	}
	for (size_t i = 0; i < nr && i < TIER_PAGE_BYTES && input->at < input->end; i++)
		page[i] = *input->at++;
}

static void fuzz_check(struct tier *tier, const struct held *held)
{
	struct tier_usage usage;
	unsigned nr_slots = 0;

	for (unsigned i = 0; i < NR_HELD; i++) {
		bool first = held[i].nr_refs > 0;

		for (unsigned j = 0; j < i; j++)
			if (held[j].nr_refs && held[j].slot == held[i].slot)
				first = false;
		nr_slots += first;
	}
	tier->ops->usage(tier, &usage);
	must(usage.pages == nr_slots);
	must(usage.stored_bytes <= usage.used_bytes && usage.used_bytes <= usage.peak_bytes);
	must(nr_slots || usage.stored_bytes == 0);
	must(usage.used_bytes <= usage.pages * BLOCK + POOL_KEEP_BYTES);
}

static void fuzz_store(struct tier *tier, struct input *input, struct held *held)
{
	uint32_t slot = 0xdead;
	int err;

	if (held->nr_refs)
		return;
	input_page(input, held->page);
	err = tier->ops->store(tier, held->page, &slot);
	must(err == 0 || err == -E2BIG || err == -ENOSPC);
	must((err == 0) == (slot != 0xdead));
	if (err == -E2BIG) {
		err = tier->ops->keep(tier, held->page, &slot);
		must(err == 0 || err == -ENOSPC);
	}
	held->slot = slot;
	held->nr_refs = err == 0;
}

static void fuzz_load(struct tier *tier, struct held *held, uint8_t byte)
{
	unsigned char page[TIER_PAGE_BYTES];

	if (!held->nr_refs) {
		/* A slot that is gone, or never was: any outcome, no harm. */
		(void)tier->ops->load(tier, held->slot ^ byte, page);
		return;
	}
	must(tier->ops->load(tier, held->slot, page) == 0);
	must(memcmp(page, held->page, TIER_PAGE_BYTES) == 0);
	must(tier->ops->compare(tier, held->slot, page) == 0);
	page[byte * 16u] ^= 1;
	must(tier->ops->compare(tier, held->slot, page) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct held held[NR_HELD];
	static struct tier *tiers[2]; /* plain, verify: emptied by each run, opened once */
	struct input input = { data, data + size };
	uint8_t first = input_byte(&input);
	struct tier **tier_at = &tiers[first >> 7], *tier;

	memset(held, 0, sizeof(held));
	must(*tier_at || pool_open(0, first >> 7, tier_at) == 0);
	tier = *tier_at;
	tier->ops->set_capacity(tier, (first & 7) * BLOCK);
	while (input.at < input.end) {
		uint8_t what = input_byte(&input);
		struct held *one = &held[input_byte(&input) % NR_HELD];

		switch (what % 6) {
		case 0:
		case 1:
			fuzz_store(tier, &input, one);
			break;
		case 2:
			fuzz_load(tier, one, input_byte(&input));
			break;
		case 3:
			if (one->nr_refs) {
				tier->ops->ref(tier, one->slot);
				one->nr_refs++;
			}
			break;
		case 4:
			if (one->nr_refs) {
				tier->ops->unref(tier, one->slot);
				one->nr_refs--;
			}
			break;
		case 5:
			if (what & 0x40)
				tier->ops->set_capacity(tier, (what >> 4 & 3) * BLOCK);
			fuzz_check(tier, held);
			break;
		}
	}
	for (unsigned i = 0; i < NR_HELD; i++)
		while (held[i].nr_refs) {
			tier->ops->unref(tier, held[i].slot);
			held[i].nr_refs--;
		}
	fuzz_check(tier, held);
	return 0;
}
