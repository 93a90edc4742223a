/* SPDX-License-Identifier: MIT */
/*
 * What every call that names nodes and processes asks for, with its refusals in words.
 */
#ifndef TIDE_ASK_H
#define TIDE_ASK_H

#include "node.h"
#include "pagetide.h"
#include "process.h"

/* Whether the options are those of this version of the header. -EINVAL. */
int ask_size(size_t bytes, size_t wanted, char ret_message[TIDE_MESSAGE_MAX]);

/* Whether /proc has the processes by our numbers. -EOPNOTSUPP. */
int ask_proc(char ret_message[TIDE_MESSAGE_MAX]);

/* Wait for who listens at the other end of a socket to say something. -EBUSY: it is stopped; -ETIMEDOUT: it has done
 * nothing for 10 s, or is busy for 30 s, or for 30 s nobody can tell, for it is of another PID namespace. Both with the
 * words for it. */
int ask_wait(int fd, char ret_message[TIDE_MESSAGE_MAX]);

/* -EIO. The caller frees the map. */
int ask_map(struct node_map *ret_map, char ret_message[TIDE_MESSAGE_MAX]);

/* `option` is what the list was given by, "--from". -EINVAL: no list, or a node without memory. */
int ask_nodes(const char *option, const char *text, const struct node_map *map,
	      struct nodeset *ret_set, char ret_message[TIDE_MESSAGE_MAX]);

/* The words for an error of a process space. Returns the error. */
int ask_refuse(int pid, int error, char ret_message[TIDE_MESSAGE_MAX]);

#endif
