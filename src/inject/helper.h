/* SPDX-License-Identifier: MIT */
#ifndef TIDE_INJECT_HELPER_H
#define TIDE_INJECT_HELPER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Start a helper for the calling process. Where it cannot be started the program runs on without one.
 * `wait`: until the server knows of it, half a second at most. Safe in a fork handler of the child; not in
 * a signal handler. `server` must stay as it is.
 */
void helper_start(const char *server, bool wait);

/* HELPER_GUARDS: it has guard pages, or is about to. Of the initialized data, so that it is always there: the server
 * reads it while it serves nothing. */
extern _Atomic uint32_t helper_guards;

/* Whether a glibc of this version, as "2.42", ends the stacks of its threads in guard pages, by calls that nobody else
 * sees. */
bool libc_makes_guards(const char *version);

#endif
