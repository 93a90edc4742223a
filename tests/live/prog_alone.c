/* SPDX-License-Identifier: MIT */
/*
 * A program that no helper comes into: linked statically, or setuid. usage: MIB FILE
 *
 * Fills its memory, says as whom it runs, waits for the file, compares every byte, and ends with status 7.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pattern.h"

int main(int argc, char **argv)
{
	size_t nr_pages = argc == 3 ? strtoul(argv[1], NULL, 10) * 256 : 0;
	unsigned char *memory = malloc(nr_pages * PAGE_BYTES), page[PAGE_BYTES];

	if (!nr_pages || !memory)
		return 2;
	for (size_t i = 0; i < nr_pages; i++)
		pattern_page(memory + i * PAGE_BYTES, 90, i, 1);
	printf("user %d\n", (int)geteuid());
	fflush(stdout);
	while (access(argv[2], F_OK))
		usleep(10000);
	for (size_t i = 0; i < nr_pages; i++) {
		pattern_page(page, 90, i, 1);
		if (memcmp(memory + i * PAGE_BYTES, page, PAGE_BYTES)) {
			printf("MISMATCH page %zu\n", i);
			return 1;
		}
	}
	return 7;
}
