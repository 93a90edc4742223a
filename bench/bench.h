/* SPDX-License-Identifier: MIT */
/* What the measuring programs share. */
#ifndef TIDE_BENCH_H
#define TIDE_BENCH_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

_Noreturn static inline void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

#endif
