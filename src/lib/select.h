/* SPDX-License-Identifier: MIT */
/*
 * Who is looked after: finding the processes, following their children, and noticing their ends.
 */
#ifndef TIDE_SELECT_H
#define TIDE_SELECT_H

#include "attach.h"

/* NULL: nobody looks after it. Quick when it is the one of the call before. */
struct watch *select_find(struct attach *a, pid_t pid);

/* Begin with the processes that are named. -ESRCH, -EPERM, -EACCES, -EMFILE, with the reason. */
int select_begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX]);

/* Now and then: who is there, and what do they have mapped. Returns whether anybody is left. */
bool select_look(struct attach *a);

/* Leave everybody alone. */
void select_end(struct attach *a);

#endif
