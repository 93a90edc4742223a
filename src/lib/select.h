/* SPDX-License-Identifier: MIT */
/*
 * Who is looked after: the processes that the rules select, as they come, go, exec and are put into
 * other groups; children of those that are named by number.
 *
 * A rule is one workload: what it may have of fast memory is divided among its processes and what they
 * share (bound.h).
 */
#ifndef TIDE_SELECT_H
#define TIDE_SELECT_H

#include "attach.h"

/* Who lives; NULL: nobody looks after it. Quick when it is the one of the call before. */
struct watch *select_find(struct attach *a, pid_t pid);

/*
 * Begin. Processes that are named must be there, and of those that are selected some, unless the rules are
 * a file's. -ESRCH, -EPERM, -EACCES, -EMFILE, with the reason.
 */
int select_begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX]);

/* Whether one of those that are selected, children not looked for, runs guests of KVM. Needs no sensor. */
bool select_runs_guests(const struct attach *a);

/* Now and then: who is there, and what do they have mapped. Returns how many. */
size_t select_look(struct attach *a);
/* In every round, in the midst of which nothing is: who was started by one of ours, and is old enough by now. */
void select_look_kin(struct attach *a, uint64_t now_ns);
/* At those alone of which a move found that they are not what they were. Nothing of them is under way. */
void select_look_lost(struct attach *a);

/* What is tuned has changed: give everybody what the rules say of the rest. */
void select_tuned(struct attach *a);

/* From now on these rules, which become ours; nobody is let go that they select too. */
void select_change(struct attach *a, struct config *config);

/* Leave everybody alone. */
void select_end(struct attach *a);

#endif
