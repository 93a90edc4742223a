/* SPDX-License-Identifier: MIT */
/*
 * Peers: who connects to the server's socket. Helpers say hello with the userfaultfds of their programs, and
 * `pagetide stats` asks for statistics. The device goes to our own programs only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "family.h"
#include "keeper_inner.h"
#include "sock.h"

static bool self_is(void *arg, pid_t pid)
{
	(void)arg;
	return pid == getpid();
}

bool process_ours(pid_t pid)
{
	return family_has(pid, self_is, NULL);
}

unsigned pending_free(const struct keeper *k)
{
	unsigned i = 0;

	while (i < PENDING_MAX && k->pending[i] >= 0)
		i++;
	return i;
}

/* Those for whom there is no place now wait in the listener's queue. */
void peer_accept(struct keeper *k)
{
	struct helper_welcome welcome = { .magic = HELPER_MAGIC };
	unsigned i;
	pid_t pid;
	uid_t uid;
	int fd, none = 0;

	while ((i = pending_free(k)) < PENDING_MAX &&
	       !(none = sock_accept(k->listener, &fd, &pid, &uid))) {
		bool ours = process_ours(pid);
		if (!ours && uid != getuid() && uid != 0) {
			close(fd);
			continue;
		}
		/* The device goes to our own programs only. */
		int error = sock_send(fd, &welcome, sizeof welcome, &k->device,
				      ours && k->device >= 0 ? 1 : 0);
		if (error)
			close(fd);
		else
			k->pending[i] = fd;
	}
	bool files = none == -EMFILE || none == -ENFILE;
	k->crowded = files || none == -ENOMEM || none == -ENOBUFS;
	if (!files || k->warned_crowded || k->server->quiet)
		return;
	k->warned_crowded = true;
	server_warn("as many files are open as may be: programs wait to be managed; raise ulimit -Hn");
}

static void stats_answer(struct keeper *k, int fd)
{
	char *text = k->options->report(k->server, k->wait_status, k->ended);

	if (text)
		sock_send(fd, text, strlen(text), NULL, 0);
	free(text);
	close(fd);
}

/* What came with a message and is of no use. */
static void fds_drop(const int fds[SOCK_FDS_MAX], unsigned from)
{
	for (unsigned i = from; i < SOCK_FDS_MAX; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void peer_refuse(struct server *s, int fd, const struct helper_hello *hello)
{
	close(fd);
	if (!hello->error || s->quiet || s->warned_uffd)
		return;
	s->warned_uffd = true;
	server_warn("a process of the tree may not open a userfaultfd: it runs unmanaged");
}

void peer_hear(struct keeper *k, unsigned i)
{
	struct server *s = k->server;
	struct helper_hello hello = { 0 };
	size_t bytes;
	int fds[SOCK_FDS_MAX] = { -1, -1, -1, -1 }, fd = k->pending[i];

	k->pending[i] = -1;
	int error = sock_receive(fd, &hello, sizeof hello, &bytes, fds);
	if (!error && hello.magic == KEEPER_ASK_STATS && bytes >= sizeof hello.magic) {
		fds_drop(fds, 0);
		stats_answer(k, fd);
		return;
	}
	if (error || bytes != sizeof hello || hello.magic != HELPER_MAGIC || fds[HELPER_HELLO_FDS - 1] < 0) {
		fds_drop(fds, 0);
		peer_refuse(s, fd, &hello);
		return;
	}
	fds_drop(fds, HELPER_HELLO_FDS);
	keeper_lock(k);
	/* Whoever reads a fork event now has the lock until its child is on the list. */
	for (struct program *p = s->programs; p; p = p->next) {
		program_lock_shared(p);
		rwlock_unlock(&p->lock);
	}
	newborn_join(s);
	program_hello(s, fd, &hello, fds);
	pthread_mutex_unlock(&s->plan_lock);
}
