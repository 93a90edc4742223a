/* SPDX-License-Identifier: MIT */
/*
 * Signals: what we get is meant for the program, and is passed on to it; children that have ended are waited
 * for, the program among them.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "guard.h"
#include "keeper_inner.h"
#include "pidfd.h"
#include "proc.h"

/* A helper has died. Its number is free for another process as soon as it is waited for. */
static void helper_mourn(struct keeper *k, pid_t pid)
{
	struct server *s = k->server;
	bool known = false;

	/* Who is whose helper only the keeper changes; and most who end are nobody's. */
	for (const struct program *p = s->programs; p; p = p->next)
		known |= p->helper_pid == pid;
	if (!known)
		return;
	keeper_lock(k);
	for (struct program *p = s->programs; p; p = p->next) {
		if (p->helper_pid != pid)
			continue;
		program_widow(p);
		k->some_ended = true; /* nobody else may be in its memory */
	}
	pthread_mutex_unlock(&s->plan_lock);
}

/* Pages of a process that were elsewhere when it ended. */
static uint64_t pages_elsewhere(struct server *s, pid_t pid)
{
	uint64_t nr = 0;

	for (struct program *p = s->programs; p; p = p->next) {
		if (p->pid != pid)
			continue;
		program_lock_shared(p);
		for (const struct tract *t = p->tracts; t; t = t->next)
			for (uint64_t i = 0; i < t->region.nr_pages; i++) {
				uint64_t word = word_load(t, i);
				nr += page_has_hold(word) || page_state(word) == PAGE_STORED;
			}
		rwlock_unlock(&p->lock);
	}
	return nr;
}

/* The kernel asks nobody for pages that it dumps, and tells nobody of those that it leaves out. */
static void core_warn(const struct server *s, uint64_t nr_pages)
{
	char text[128];

	if (!nr_pages || s->quiet)
		return;
	snprintf(text, sizeof text,
		 "the core dump has zeros for %llu KiB that were stored: it is whole without a bound",
		 (unsigned long long)nr_pages * PAGE_BYTES / 1024);
	server_warn(text);
}

/*
 * Whether we stop as the program has, so that who waits for it sees that. Job control stops all of a job, and
 * whoever continues the job continues us both. SIGSTOP is of one process: others go on that we serve, known to us or
 * not, and may be the ones who continue it.
 */
static bool stops_all(int sig)
{
	return sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

static void program_waited(struct keeper *k, int status)
{
	if (WIFSIGNALED(status) && WCOREDUMP(status))
		core_warn(k->server, pages_elsewhere(k->server, k->server->program_pid));
	if (WIFSTOPPED(status)) {
		if (stops_all(WSTOPSIG(status))) {
			guard_stopping(k->server->guard_socket, k->server->program_pid);
			raise(SIGSTOP);
		}
		return;
	}
	k->wait_status = status;
	k->ended = true;
}

static void children_reap(struct keeper *k)
{
	int status, error;
	bool ended;
	pid_t pid;

	while (!(error = child_peek(&pid, &ended)) && pid) {
		if (ended)
			helper_mourn(k, pid);
		if (child_take(pid, &status))
			break;
		if (!ended && !WIFSTOPPED(status)) /* it had stopped, and ended meanwhile */
			helper_mourn(k, pid);
		if (pid == k->server->program_pid)
			program_waited(k, status);
	}
	k->orphaned = error == -ECHILD;
}

/* From the terminal the program has got it already; a limit that we have from our parent is ours. */
static bool kernel_means_us(int sig)
{
	switch (sig) {
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGWINCH:
	case SIGXCPU:
	case SIGXFSZ:
		return true;
	default:
		return false;
	}
}

static bool program_stopped(const struct keeper *k)
{
	char state;

	return !k->ended && !proc_state(k->server->program_pid, &state) && state == 'T';
}

static void signal_pass(struct keeper *k, const struct signalfd_siginfo *info)
{
	int sig = (int)info->ssi_signo;
	pid_t program = k->server->program_pid;

	if (sig == SIGCHLD)
		return;
	if (info->ssi_code == SI_KERNEL && kernel_means_us(sig))
		return;
	/* What we did ourselves, to a pipe without a reader; what the program sends to all of its group, itself too. */
	if (info->ssi_pid == (uint32_t)getpid() || info->ssi_pid == (uint32_t)program)
		return;
	/* Who continues all of a job has continued it already; the guard means us alone. */
	if (sig == SIGCONT && (info->ssi_code == SI_QUEUE || !program_stopped(k)))
		return;
	if (!k->ended) {
		child_signal(program, sig);
		return;
	}
	for (struct program *p = k->server->programs; p; p = p->next)
		if (p->pidfd >= 0 && !atomic_load(&p->deserted))
			pidfd_signal(p->pidfd, sig);
}

void signals_pass(struct keeper *k)
{
	struct signalfd_siginfo info;

	while (read(k->signals, &info, sizeof info) == sizeof info)
		signal_pass(k, &info);
}

void signals_take(struct keeper *k)
{
	signals_pass(k);
	children_reap(k);
}
