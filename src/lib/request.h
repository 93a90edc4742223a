/* SPDX-License-Identifier: MIT */
/*
 * What may be asked at the control socket: one line of text, docs/control.md.
 *
 *   pagetide.control/1 status|pause|resume
 *   pagetide.control/1 tune KEY=VALUE...
 *
 * Pure: who asks reads it to refuse a mistake before anybody is asked, who answers to obey it.
 */
#ifndef TIDE_REQUEST_H
#define TIDE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pagetide.h"

#define REQUEST_PROTOCOL "pagetide.control/1"
#define REQUEST_CHANGES_MAX 32u
#define REQUEST_BYTES 2048u /* of the line, with its end */

enum request_verb { REQUEST_STATUS, REQUEST_PAUSE, REQUEST_RESUME, REQUEST_TUNE, REQUEST_VERBS };

enum request_key {
	REQUEST_RATE,     /* bytes a second; 0: not bounded */
	REQUEST_STALL,    /* ns */
	REQUEST_CPU,      /* 1/10000 of one core */
	REQUEST_WEIGHT,   /* of a process: 0 .. 10 */
	REQUEST_FAST_MIN, /* of a process: bytes */
	REQUEST_FAST_MAX, /* likewise; UINT64_MAX: no cap */
	REQUEST_KEYS
};

struct request_change {
	enum request_key key;
	int pid;          /* 0: not of a process */
	uint64_t value;
	bool standard;    /* not `value`: what the rule of the process says, or what pagetide began with */
};

struct request {
	enum request_verb verb;
	struct request_change changes[REQUEST_CHANGES_MAX];
	size_t nr_changes; /* of TUNE: at least one */
};

/*
 * Read a line, without its end. -EINVAL: it is wrong, and `ret_message` says what and what to write
 * instead; -EPROTO: it is of another version.
 */
int request_parse(const char *line, struct request *ret_request, char ret_message[TIDE_MESSAGE_MAX]);

#endif
