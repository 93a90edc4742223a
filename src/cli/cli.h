/* SPDX-License-Identifier: MIT */
/*
 * The program pagetide: one file for each verb, and what they share.
 *
 * Exit status: the program's own under `run`; else 0, 1 (`check`: the main job cannot run), 2 (the
 * command line is wrong), 125 (pagetide failed), 126 (the program cannot be executed), 127 (it was
 * not found).
 */
#ifndef TIDE_CLI_H
#define TIDE_CLI_H

#include "option.h"

enum {
	EXIT_UNABLE = 1,
	EXIT_USAGE = 2,
	EXIT_OWN = 125,
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
};

extern const struct verb verb_run, verb_check, verb_stats;

/* One line on standard error, whatever bytes the text holds. */
__attribute__((format(printf, 1, 2)))
void cli_say(const char *format, ...);

/* Whether all output reached standard output; if not, that is said. Gives `status` or EXIT_OWN. */
int cli_finish(int status);

#endif
