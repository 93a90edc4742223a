/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a running pagetide: what is asked there is in request.h and docs/control.md,
 * who is let in, in door.h. Questions are answered between two rounds of the loop, by its thread, so
 * nothing changes in the middle of one.
 */
#ifndef TIDE_CONTROL_H
#define TIDE_CONTROL_H

#include "attach.h"

/*
 * Open it at a->options->control_path. Where the default one cannot be had, because another pagetide
 * has it or for want of rights, that is a warning; of a path that was asked for it is an error, with the
 * reason: -EBUSY, somebody answers there; -EINVAL, no socket can be made there.
 */
int control_open(struct attach *attach, char ret_message[TIDE_MESSAGE_MAX]);
void control_close(struct attach *attach);

/* Answer one line; a text to be freed, NULL without memory. */
char *control_answer(struct attach *attach, const char *line);

#endif
