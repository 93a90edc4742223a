/* SPDX-License-Identifier: MIT */
/*
 * Any text into every parser: a result is written on success only, and what is formatted parses
 * again to no more than was formatted, and no less than one decimal hides.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define UNTOUCHED UINT64_C(0x5eed5eed5eed5eed)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
	if (!holds)
		abort();
}

static void again(uint64_t value)
{
	char buffer[TEXT_NUMBER_BYTES];
	uint64_t parsed;

	must(text_size_parse(text_size_format(buffer, value), 0, &parsed) == 0);
	must(parsed <= value && value - parsed <= value / 10);
	must(text_time_parse(text_time_format(buffer, value), &parsed) == 0);
	must(parsed <= value && value - parsed <= value / 10);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "tier", "memory", "overhead", "stats" };
	char *text = malloc(size + 1);
	uint64_t bytes = UNTOUCHED, ns = UNTOUCHED;
	uint32_t bp = 7;
	int err;

	must(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';

	err = text_size_parse(text, UINT64_C(24) << 30, &bytes);
	must(err == 0 || (err < 0 && bytes == UNTOUCHED));
	if (!err)
		again(bytes);
	err = text_time_parse(text, &ns);
	must(err == 0 || (err < 0 && ns == UNTOUCHED));
	if (!err)
		again(ns);
	err = text_share_parse(text, &bp);
	must(err == 0 ? bp <= 10000 : bp == 7);

	text_nearest(text, names, sizeof(names) / sizeof(names[0]));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		must(text_distance(text, names[i]) == text_distance(names[i], text));
	free(text);
	return 0;
}
