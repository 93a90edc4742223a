/* SPDX-License-Identifier: MIT */
#include "guard.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"
#include "keeper.h"
#include "proc.h"
#include "sock.h"
#include "uffd.h"

struct ward {
	pid_t pid; /* 0: unknown */
	int uffd, pidfd;
};

enum guard_word { GUARD_ADD, GUARD_STOPPING, GUARD_LEAVE };

struct guard_message {
	enum guard_word word;
	pid_t pid;
};

struct wards {
	struct ward *list;
	size_t nr, room;
};

static bool ward_ended(const struct ward *w)
{
	struct pollfd end = { .fd = w->pidfd, .events = POLLIN };

	return w->pidfd >= 0 && poll(&end, 1, 0) == 1;
}

static void wards_prune(struct wards *wards)
{
	size_t kept = 0;

	for (size_t i = 0; i < wards->nr; i++) {
		struct ward *w = &wards->list[i];
		if (!ward_ended(w)) {
			wards->list[kept++] = *w;
			continue;
		}
		close(w->pidfd);
		close(w->uffd);
	}
	wards->nr = kept;
}

static bool descends(pid_t pid, const struct wards *wards)
{
	for (int depth = 0; depth < 64 && pid > 1; depth++) {
		for (size_t i = 0; i < wards->nr; i++)
			if (wards->list[i].pid == pid)
				return true;
		if (proc_parent(pid, &pid))
			return false;
	}
	return false;
}

/* Children of a raw clone have no pid with us: found as descendants before their parents go, and later
 * by the environment that they have from the program. */
static void descendants_kill(const struct wards *wards, pid_t server)
{
	char name[64], entry[128];

	keeper_name(server, name);
	snprintf(entry, sizeof entry, HELPER_ENV_SERVER "=%s", name);
	DIR *proc = opendir("/proc");
	if (!proc)
		return;
	for (struct dirent *d; (d = readdir(proc));) {
		pid_t pid = (pid_t)strtol(d->d_name, NULL, 10);
		if (pid > 1 && pid != getpid() && (descends(pid, wards) || proc_environ_has(pid, entry)))
			kill(pid, SIGKILL);
	}
	closedir(proc);
}

static bool wards_left(struct wards *wards)
{
	wards_prune(wards);
	for (size_t i = 0; i < wards->nr; i++)
		if (wards->list[i].pidfd >= 0 || uffd_alive(wards->list[i].uffd))
			return true;
	return false;
}

static void wards_kill(struct wards *wards, pid_t server)
{
	static const char line[] = "pagetide: the server ended; ending the program, whose pages it kept\n";
	useconds_t pause_us = 10000;

	if (!wards_left(wards))
		return;
	ssize_t told = write(STDERR_FILENO, line, sizeof line - 1);
	(void)told; /* with nobody to tell, the rest must still be done */
	/* A child that cannot be found waits at its next stored page for as long as we are here. */
	do {
		descendants_kill(wards, server);
		for (size_t i = 0; i < wards->nr; i++)
			if (wards->list[i].pidfd >= 0)
				syscall(SYS_pidfd_send_signal, wards->list[i].pidfd, SIGKILL, NULL, 0);
		usleep(pause_us);
		if (pause_us < 1000000)
			pause_us += pause_us / 4;
	} while (wards_left(wards));
}

/* Until the server runs again, and so says something, or ends: see whether `pid` runs alone. */
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
			kill(server, SIGCONT);
		if (was_stopped && us != 'T')
			return;
	}
}

static _Noreturn void guard_main(int socket, pid_t server)
{
	struct wards wards = { 0 };

	setsid();
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	prctl(PR_SET_NAME, "pagetide-guard");
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_IGN);
	for (;;) {
		struct guard_message m;
		size_t bytes;
		int fds[SOCK_FDS_MAX];
		if (sock_receive(socket, &m, sizeof m, &bytes, fds) || bytes != sizeof m)
			break;
		if (m.word == GUARD_LEAVE)
			_exit(0);
		if (m.word == GUARD_STOPPING) {
			stop_watch(socket, m.pid, server);
			continue;
		}
		wards_prune(&wards);
		if (wards.nr == wards.room) {
			wards.room = wards.room * 2 + 16;
			wards.list = realloc(wards.list, wards.room * sizeof *wards.list);
			if (!wards.list)
				_exit(1);
		}
		wards.list[wards.nr++] = (struct ward){ m.pid, fds[0], fds[1] };
	}
	wards_kill(&wards, server);
	_exit(0);
}

/* The guard is nobody's child, so that the server can wait for "no children left". */
int guard_start(int *ret_socket)
{
	int pair[2];
	int error = sock_pair(pair);
	if (error)
		return error;
	pid_t server = getpid();
	pid_t pid = fork();
	if (!pid) {
		close(pair[0]);
		pid_t guard = fork();
		if (!guard)
			guard_main(pair[1], server);
		_exit(guard < 0);
	}
	int status = 0;
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		error = pid < 0 ? -errno : -EAGAIN;
	close(pair[1]);
	if (error)
		close(pair[0]);
	else
		*ret_socket = pair[0];
	return error;
}

static int message_send(int socket, enum guard_word word, pid_t pid, const int *fds, size_t nr)
{
	struct guard_message m = { word, pid };

	return sock_send(socket, &m, sizeof m, fds, nr);
}

int guard_add(int socket, pid_t pid, int uffd, int pidfd)
{
	int fds[2] = { uffd, pidfd };

	return message_send(socket, GUARD_ADD, pid, fds, pidfd < 0 ? 1 : 2);
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
