/* SPDX-License-Identifier: MIT */
#include "divide.h"

#include "number.h"

#define EVENLY 16u /* of a cap */

/* whole * part / sum */
static uint64_t share(uint64_t whole, uint64_t part, uint64_t sum)
{
	return sum ? (uint64_t)((unsigned __int128)whole * part / sum) : 0;
}

void divide_max(struct part *parts, size_t nr, uint64_t max_pages)
{
	uint64_t used = 0, has = 0, lacking = 0;

	for (size_t i = 0; i < nr; i++) {
		has += parts[i].has;
		used += parts[i].has + parts[i].touched;
	}
	uint64_t evenly = used ? max_pages / EVENLY : max_pages;
	for (size_t i = 0; i < nr; i++) {
		struct part *part = &parts[i];

		part->max = evenly / nr + share(max_pages - evenly, part->has + part->touched, used);
		lacking += minus(part->max, part->has);
	}
	for (size_t i = 0; i < nr; i++)
		if (parts[i].max > parts[i].has)
			parts[i].max = parts[i].has + share(minus(max_pages, has),
							    parts[i].max - parts[i].has, lacking);
}

void divide_min(struct part *parts, size_t nr, uint64_t min_pages)
{
	uint64_t has = 0;

	for (size_t i = 0; i < nr; i++)
		has += parts[i].has;
	for (size_t i = 0; i < nr; i++)
		parts[i].min = has > min_pages ? share(min_pages, parts[i].has, has)
					       : parts[i].has + (min_pages - has) / nr;
}
