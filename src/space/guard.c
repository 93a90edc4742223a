/* SPDX-License-Identifier: MIT */
#include "guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "family.h"
#include "helper.h"
#include "keeper.h"
#include "pidfd.h"
#include "proc.h"
#include "sock.h"
#include "uffd.h"

struct ward {
	pid_t pid; /* 0: unknown, or ended: the number may be another's by now */
	int uffd, pidfd;
};

/* From the guard: GUARD_ANEW. */
enum guard_word { GUARD_ADD, GUARD_STOPPING, GUARD_LEAVE, GUARD_ANEW };

struct guard_message {
	enum guard_word word;
	pid_t pid;
};

struct wards {
	struct ward *list;
	size_t nr, room;
	pid_t server;
	char entry[128]; /* of the environment of all that the server started */
};

/* A process ends before its memory does, if others are in it. Who has no name is known by that alone. */
static bool ward_left(const struct ward *w)
{
	return (w->pidfd >= 0 && !pidfd_ended(w->pidfd)) || uffd_alive(w->uffd);
}

static void wards_prune(struct wards *wards)
{
	size_t kept = 0;

	for (size_t i = 0; i < wards->nr; i++) {
		struct ward *w = &wards->list[i];
		if (w->pidfd >= 0 && pidfd_ended(w->pidfd))
			w->pid = 0;
		if (ward_left(w)) {
			wards->list[kept++] = *w;
			continue;
		}
		if (w->pidfd >= 0)
			close(w->pidfd);
		close(w->uffd);
	}
	wards->nr = kept;
}

static bool ward_is(void *arg, pid_t pid)
{
	const struct wards *wards = arg;

	for (size_t i = 0; i < wards->nr; i++)
		if (wards->list[i].pid == pid)
			return true;
	return false;
}

static int descendant_kill(void *arg, pid_t pid)
{
	struct wards *wards = arg;

	if (pid > 1 && pid != getpid() && (family_has(pid, ward_is, wards) || proc_environ_has(pid, wards->entry)))
		child_signal(pid, SIGKILL);
	return 0;
}

/* Children of a raw clone have no pid with us: found as descendants before their parents go, and later
 * by the environment that they have from the program. */
static void descendants_kill(struct wards *wards)
{
	proc_pids("", descendant_kill, wards);
}

static bool wards_left(struct wards *wards)
{
	wards_prune(wards);
	return wards->nr;
}

static void wards_kill(struct wards *wards)
{
	static const char line[] = "pagetide: the server ended; ending the program, whose pages it kept\n";
	uint64_t pause_ns = 10000000;

	if (!wards_left(wards))
		return;
	ssize_t told = write(STDERR_FILENO, line, sizeof line - 1);
	(void)told; /* with nobody to tell, the rest must still be done */
	/* A child that cannot be found waits at its next stored page for as long as we are here. */
	do {
		descendants_kill(wards);
		for (size_t i = 0; i < wards->nr; i++)
			if (wards->list[i].pidfd >= 0)
				pidfd_signal(wards->list[i].pidfd, SIGKILL);
		clock_sleep_ns(pause_ns);
		if (pause_ns < 1000000000)
			pause_ns += pause_ns / 4;
	} while (wards_left(wards));
}

/* Until the server runs again, and so says something, or ends: see whether `pid` runs alone. Nothing tells of a stop of
 * somebody else's child: it is looked for. */
static void stop_watch(int socket, pid_t pid, pid_t server)
{
	struct pollfd word = { .fd = socket, .events = POLLIN };
	bool was_stopped = false;

	while (!poll(&word, 1, 50)) {
		char program = '?', us = '?';
		if (proc_state(server, &us) || proc_state(pid, &program))
			return;
		was_stopped |= us == 'T';
		if (us == 'T' && program != 'T' && program != 't')
			child_continue(server);
		if (was_stopped && us != 'T')
			return;
	}
}

struct charge {
	int pair[2]; /* the server's end, the guard's */
	pid_t server;
	bool anew;   /* the guard before was killed, and its wards are not known here */
};

static int message_send(int socket, enum guard_word word, pid_t pid, const int *fds, size_t nr)
{
	struct guard_message m = { word, pid };

	return sock_send(socket, &m, sizeof m, fds, nr);
}

static int guard_main(void *arg)
{
	const struct charge *charge = arg;
	struct wards wards = { .server = charge->server };
	int socket = charge->pair[1];
	char name[64];

	keeper_name(wards.server, name);
	snprintf(wards.entry, sizeof wards.entry, HELPER_ENV_SERVER "=%s", name);
	if (charge->anew)
		(void)message_send(socket, GUARD_ANEW, 0, NULL, 0); /* the server may have ended */
	for (;;) {
		struct guard_message m;
		size_t bytes;
		int fds[SOCK_FDS_MAX];
		if (sock_receive(socket, &m, sizeof m, &bytes, fds) || bytes != sizeof m)
			break;
		if (m.word == GUARD_LEAVE) {
			free(wards.list);
			return 0;
		}
		if (m.word == GUARD_STOPPING) {
			stop_watch(socket, m.pid, wards.server);
			continue;
		}
		wards_prune(&wards);
		if (wards.nr == wards.room) {
			wards.room = wards.room * 2 + 16;
			wards.list = realloc(wards.list, wards.room * sizeof *wards.list);
			if (!wards.list)
				return 1;
		}
		wards.list[wards.nr++] = (struct ward){ m.pid, fds[0], fds[1] };
	}
	wards_kill(&wards);
	free(wards.list);
	return 0;
}

/* Keeps the guard's end of the socket, so that nothing that is sent to it is lost. */
static int guardian_main(void *arg)
{
	struct charge *charge = arg;
	int status;

	close(charge->pair[0]);
	while (!child_call(guard_main, charge, &status) && status)
		charge->anew = true;
	return 0;
}

/* The guardian is nobody's child, so that the server can wait for "no children left". */
int guard_start(int *ret_socket)
{
	struct charge charge = { .server = getpid() };
	int error = sock_pair(charge.pair);

	if (error)
		return error;
	error = child_apart("tide-guard", guardian_main, &charge);
	close(charge.pair[1]);
	if (error)
		close(charge.pair[0]);
	else
		*ret_socket = charge.pair[0];
	return error;
}

int guard_add(int socket, pid_t pid, int uffd, int pidfd)
{
	int fds[2] = { uffd, pidfd };
	int error = message_send(socket, GUARD_ADD, pid, fds, pidfd < 0 ? 1 : 2);

	return error == -EPIPE || error == -ECONNRESET ? 0 : error;
}

bool guard_lost(int socket)
{
	struct guard_message m;
	size_t bytes;
	int fds[SOCK_FDS_MAX];

	return sock_receive(socket, &m, sizeof m, &bytes, fds) || bytes != sizeof m;
}

int guard_stopping(int socket, pid_t pid)
{
	return message_send(socket, GUARD_STOPPING, pid, NULL, 0);
}

void guard_leave(int socket)
{
	message_send(socket, GUARD_LEAVE, 0, NULL, 0);
	close(socket);
}
