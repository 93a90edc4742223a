/* SPDX-License-Identifier: MIT */
/*
 * The keeper: the main thread of the server. Starts the program, sees programs come and go, adopts
 * them when memory is tight, sets the budget, passes signals on, answers for statistics.
 */
#ifndef TIDE_KEEPER_H
#define TIDE_KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "program.h"

struct keeper_options {
	char *const *argv;
	const char *inject_path;  /* the library that goes into programs */
	uint32_t overhead_bp;     /* share of one core for voluntary work, in 1/10000 */
	bool live;
	/* Statistics as text, to be freed; `exit_status`: -1 while running. */
	char *(*report)(struct server *server, int wait_status, bool ended);
};

/* What a client of the socket sends instead of a helper's hello. */
#define KEEPER_ASK_STATS 0x70740002u
_Static_assert(KEEPER_ASK_STATS != HELPER_MAGIC, "a helper's hello is not a client's question");

/*
 * Run the program and wait for its tree. The server's pool and engine are set up; threads are not.
 * Returns 0 and the wait status of the program, or -errno when it could not be started: -ENOENT,
 * -EACCES, -ENOEXEC from exec; -EMFILE: fewer files may be open than any program needs.
 */
int keeper_run(struct server *server, const struct keeper_options *options, int *ret_wait_status);

/* The name of the socket of a server in our PID namespace. */
void keeper_name(pid_t pid, char name[64]);

#endif
