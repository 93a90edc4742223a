/* SPDX-License-Identifier: MIT */
#include "ask.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "proc.h"
#include "sock.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define TURN_MS 100
#define IDLE_MAX 100u
#define TURNS_MAX 300u /* a round of the loop, on a machine that is very busy */

int ask_size(size_t bytes, size_t wanted, char ret_message[TIDE_MESSAGE_MAX])
{
	if (bytes == wanted)
		return 0;
	MESSAGE("options of %zu bytes, not %zu: set `size`, and build with the header of this library", bytes, wanted);
	return -EINVAL;
}

int ask_proc(char ret_message[TIDE_MESSAGE_MAX])
{
	if (proc_ours(""))
		return 0;
	MESSAGE("/proc is not that of this PID namespace; mount it, or start this with unshare --mount-proc");
	return -EOPNOTSUPP;
}

/*
 * Turns are counted, not seconds: on a machine that stands still we do, too. Who is traced is stopped at each of its
 * calls, and goes on: stopped is who has had no processor time for a turn, too.
 */
int ask_wait(int fd, char ret_message[TIDE_MESSAGE_MAX])
{
	struct pollfd answer = { .fd = fd, .events = POLLIN };
	uint64_t cpu_ns, before_ns = 0;
	char state;
	pid_t pid;
	uid_t uid;
	int error = sock_peer(fd, &pid, &uid);

	if (error)
		return error;
	bool known = pid && proc_ours(""); /* else its number is nobody's, or another's, here */
	for (unsigned turns = 0, idle = 0; turns < TURNS_MAX && idle < IDLE_MAX; turns++, idle++) {
		if (poll(&answer, 1, TURN_MS) > 0)
			return 0;
		cpu_ns = known ? clock_process_cpu_ns(pid) : before_ns + 1;
		idle = cpu_ns == before_ns ? idle : 0;
		before_ns = cpu_ns;
		if (known && idle && !proc_state(pid, &state) && (state == 'T' || state == 't')) {
			MESSAGE("process %d is stopped and cannot answer: kill -CONT %d, or fg", pid, pid);
			return -EBUSY;
		}
	}
	if (!known) {
		MESSAGE("who listens there does not answer, and it or /proc is of another PID namespace: ask where it "
			"runs");
		return -ETIMEDOUT;
	}
	MESSAGE("process %d does not answer: /proc/%d/stack tells where it waits, kill -KILL %d ends it, and what it "
		"runs", pid, pid, pid);
	return -ETIMEDOUT;
}

int ask_map(struct node_map *ret_map, char ret_message[TIDE_MESSAGE_MAX])
{
	int error = node_map_read("", ret_map);

	if (error)
		MESSAGE("the machine's nodes cannot be read: %s: are /proc and /sys mounted?",
			strerror(-error));
	return error;
}

int ask_nodes(const char *option, const char *text, const struct node_map *map,
	      struct nodeset *ret_set, char ret_message[TIDE_MESSAGE_MAX])
{
	char there[NODESET_TEXT_BYTES], wrong[NODESET_TEXT_BYTES];
	struct nodeset set;

	if (nodeset_parse(text, &map->memory, &set) || nodeset_empty(&set)) {
		MESSAGE("%s %.40s: not a list of nodes: write 0, 0-1,3, !2 or all", option, text);
		return -EINVAL;
	}
	struct nodeset outside = nodeset_minus(&set, &map->memory);
	if (!nodeset_empty(&outside)) {
		MESSAGE("%s %.40s: node %.40s has no memory here: the nodes with memory are %.80s", option,
			text, nodeset_format(wrong, &outside), nodeset_format(there, &map->memory));
		return -EINVAL;
	}
	*ret_set = set;
	return 0;
}

int ask_refuse(int pid, int error, char ret_message[TIDE_MESSAGE_MAX])
{
	switch (error) {
	case -ESRCH:
	case -ESTALE:
		MESSAGE("process %d: there is none with memory, or its first thread has ended: ps -e lists them", pid);
		return -ESRCH;
	case -EPERM:
	case -EACCES:
		MESSAGE("process %d: its memory may not be looked at: run as its user or as root", pid);
		return error;
	case -EMFILE:
		MESSAGE("process %d: more threads than files may be open: raise ulimit -n", pid);
		return error;
	case -ENOSYS:
		MESSAGE("this kernel has no NUMA: boot one built with CONFIG_NUMA");
		return -EOPNOTSUPP;
	default:
		MESSAGE("process %d: %s", pid, strerror(-error));
		return error;
	}
}
