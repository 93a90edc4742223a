/* SPDX-License-Identifier: MIT */
#ifndef TIDE_INJECT_HELPER_H
#define TIDE_INJECT_HELPER_H

/*
 * Start a helper for the calling process; returns at once. Where it cannot be started the program
 * runs on without one. Safe in a fork handler of the child; not in a signal handler.
 * `server` must stay as it is.
 */
void helper_start(const char *server);

#endif
