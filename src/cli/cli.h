/* SPDX-License-Identifier: MIT */
/*
 * The program pagetide: one file for each verb, and what they share.
 *
 * Exit status: the program's own under `run`; else 0, 1 (`check`: the main job cannot run; `migrate`:
 * some pages did not move), 2 (the command line is wrong), 125 (pagetide failed), 126 (the program
 * cannot be executed), 127 (it was not found), 128 + N (`migrate`: signal N ended it before all was tried).
 */
#ifndef TIDE_CLI_H
#define TIDE_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "option.h"

enum {
	EXIT_UNABLE = 1,
	EXIT_USAGE = 2,
	EXIT_OWN = 125,
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL = 128,
};

extern const struct verb verb_run, verb_attach, verb_daemon, verb_check, verb_migrate, verb_pages,
	verb_pause, verb_resume, verb_stats, verb_status, verb_topo, verb_tune;

/* One line on standard error, whatever bytes the text holds. */
__attribute__((format(printf, 1, 2)))
void cli_say(const char *format, ...);

/* The number of a process. EXIT_USAGE: it is none; then what to write (`usage`) is said. */
int cli_pid_read(const char *word, const char *usage, int *ret_pid);

/* How long, of --for: "30s". EXIT_USAGE: it is no time; then what to write is said. */
int cli_time_read(const char *word, uint64_t *ret_ns);

/* Say why the library refused: its message, or the error's name if it had none. The exit status. */
int cli_refused(int error, const char *message);

/* In the first process of a PID namespace the tool goes on in a child, and the first process waits for it: true once it
 * has ended, with the status to exit with. False: go on. */
bool first_waits(int *ret_status);

/* Whether the first process waits for us. A tool that dies of a signal was killed, to it. */
bool first_is_above(void);

/* Whether all output reached standard output; if not, that is said. Gives `status` or EXIT_OWN. */
int cli_finish(int status);

#endif
