/* SPDX-License-Identifier: MIT */
/*
 * The contents that are measured, by name.
 *
 *   zero     pages of zeros
 *   python   a real heap: python3 builds dictionaries and lists and writes its own heap out
 *   elf      the largest of a few programs that are there
 *   redis    records as an application would keep, made from a seed
 *   random   pages that nothing can compress, made from a seed
 */
#ifndef TIDE_BENCH_CORPUS_H
#define TIDE_BENCH_CORPUS_H

#include <stdbool.h>
#include <stddef.h>

#define CORPUS_PAGE_BYTES 4096u
#define CORPUS_KINDS 5u

extern const char *const corpus_names[CORPUS_KINDS];

/* Fill nr_pages pages; false when the name is unknown or the source is not on this machine. */
bool corpus_fill(const char *name, unsigned char *pages, size_t nr_pages);

#endif
