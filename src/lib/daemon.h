/* SPDX-License-Identifier: MIT */
/*
 * What makes the loop of attach a service: the manager is told how we are, and SIGHUP brings the
 * configuration anew. A configuration that is not understood, or would change which nodes are fast, is
 * refused with a line, and the one in force stays.
 */
#ifndef TIDE_DAEMON_H
#define TIDE_DAEMON_H

#include "attach.h"

/* We are at work. */
void daemon_begin(struct attach *a);
/* To be called several times a second. */
void daemon_look(struct attach *a, uint64_t now_ns);
/* Read the configuration again. */
void daemon_reload(struct attach *a);
/* We end. */
void daemon_end(void);

#endif
