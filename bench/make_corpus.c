/* SPDX-License-Identifier: MIT */
/* Write PAGES pages of a corpus to standard output: make_corpus NAME PAGES. */
#include <stdio.h>
#include <stdlib.h>

#include "corpus.h"

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	unsigned char *pages = nr ? aligned_alloc(4096, nr * CORPUS_PAGE_BYTES) : NULL;

	if (!pages) {
		fputs("usage: make_corpus NAME PAGES\n", stderr);
		return 2;
	}
	if (!corpus_fill(argv[1], pages, nr)) {
		fprintf(stderr, "make_corpus: %s: unknown, or its source is not here\n", argv[1]);
		return 1;
	}
	return fwrite(pages, CORPUS_PAGE_BYTES, nr, stdout) == nr && !fflush(stdout) ? 0 : 1;
}
