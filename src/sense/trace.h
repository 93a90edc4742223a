/* SPDX-License-Identifier: MIT */
/*
 * The trace sensor: recorded accesses, replayed from a file at the speed they were recorded with. For
 * those who have better eyes than this machine: a simulator, an instrumented program, another's samples.
 *
 * One access a line, in the order of time; blank lines and what begins with # are passed over:
 *
 *     TIME PID ADDRESS [CPU]       1250000 4711 0x7f12a4003040 3
 *
 * TIME is in nanoseconds since the trace began, which is when the first process is looked after.
 * PID 0 is that first process. ADDRESS is decimal or, with 0x, hexadecimal. Accesses of processes that
 * are not looked after, and of times when the sensor is paused, are passed over. The file may grow while
 * it is read; a line that is no access is counted as lost then, and refused when it is there from the
 * beginning.
 */
#ifndef TIDE_TRACE_H
#define TIDE_TRACE_H

#include "sense.h"

struct trace_options {
	const char *root; /* "" for the running system; a tree of files for tests */
	const char *path; /* of the trace, below it */
};

/*
 * -ENOENT, -EACCES ...: it cannot be read; -EEXIST: it is no plain file; -EBADMSG: line *ret_line of it is no
 * access; -ENOMEM.
 */
int trace_open(const struct trace_options *options, struct sense **ret_sense, uint64_t *ret_line);

#endif
