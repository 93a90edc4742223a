/* SPDX-License-Identifier: MIT */
/*
 * Door: a socket at which outsiders ask one question each and get one answer.
 *
 *   accept ─► read until the question is whole ─► answer ─► write ─► wait for the peer to close
 *                                                                     └─ discard what it still sends
 *
 * The loop that moves pages serves it, so nobody may hold that up: no call blocks, a door has few
 * places, a question is short, and a peer has DOOR_PEER_NS to ask it and as long to read the answer,
 * be it slow, silent or flooding. One wait serves at most DOOR_WAKES times, so that no number of askers takes the CPU.
 * Who finds no place waits in the kernel's queue, which is short, too.
 *
 * One thread at a time for all doors of a loop.
 */
#ifndef TIDE_DOOR_H
#define TIDE_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stream.h"

#define DOOR_PEERS 8u
#define DOOR_QUESTION_BYTES 4096u
#define DOOR_PEER_NS UINT64_C(2000000000)
#define DOOR_WAKES 32u

/*
 * The answer to a question, to be freed by the door. NULL: it is not whole yet; `last`: no more of it
 * will come, NULL then ends the talk. The question is text that ends with a zero.
 */
typedef char *door_answer(void *arg, const char *question, bool last, size_t *ret_bytes);

struct door_peer {
	int fd;                /* -1: the place is free */
	uint64_t until_ns;
	size_t nr_read;
	char question[DOOR_QUESTION_BYTES];
	char *answer;          /* NULL: not yet */
	size_t nr_answer, nr_written;
	bool finished;         /* all is written */
};

struct door {
	bool open;
	struct stream stream;
	bool owner_only;       /* root and who runs us; others are not even answered */
	door_answer *answer;
	void *arg;
	struct door_peer peers[DOOR_PEERS];
};

/* Takes over the stream. */
void door_open(struct door *door, const struct stream *stream, bool owner_only, door_answer *answer,
	       void *arg);
/* A door that is not open may be closed. */
void door_close(struct door *door);

/* Serve the doors that are open until the time is over or a signal came. */
void doors_wait(struct door *const *doors, size_t nr, uint64_t wait_ms);

#endif
