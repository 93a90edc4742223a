/* SPDX-License-Identifier: MIT */
#include "assert.h"

#include <stdio.h>
#include <stdlib.h>

void assert_failed(const char *expression, const char *file, int line)
{
	fprintf(stderr, "pagetide: internal error: %s does not hold at %s:%d\n", expression, file, line);
	abort();
}
