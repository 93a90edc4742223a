/* SPDX-License-Identifier: MIT */
/*
 * The keeper: starts the server's side and the program, waits for what happens, and takes everything down in
 * the end. What it does then is in round.c, peer.c and signal.c.
 */
#include "keeper_inner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bell.h"
#include "child.h"
#include "clock.h"
#include "family.h"
#include "file.h"
#include "futex.h"
#include "guard.h"
#include "mempolicy.h"
#include "pace.h"
#include "proc.h"
#include "sock.h"
#include "text.h"
#include "thread.h"
#include "uffd.h"

/* Among what is waited for: signals, listener, peers, bell, guard. */
#define BELL_AT (2 + PENDING_MAX)
#define GUARD_AT (BELL_AT + 1)
#define PROGRAMS_AT (GUARD_AT + 1)
#define SECOND_NS 1000000000u
/* What is waited for, the server's own files, and a few programs with a handler for each CPU. */
#define FILES_MIN 256u

void keeper_name(pid_t pid, char name[64])
{
	char space[32] = "";

	/* Numbers are of a PID namespace; these names are of a network namespace, which may have several of those. */
	(void)file_link("", space, sizeof space, "/proc/self/ns/pid");
	snprintf(name, 64, "pagetide-%d-%s", (int)pid, space);
}

void server_warn(const char *text)
{
	fprintf(stderr, "pagetide: %s\n", text);
}

/* ---- the program ---- */

/* Put our library first in LD_PRELOAD, in place, so that the order of variables stays. */
static int environment_set(const struct keeper_options *o, const char *server_name)
{
	const char *theirs = getenv("LD_PRELOAD");
	char *value;

	if (asprintf(&value, "%s%s%s", o->inject_path, theirs ? ":" : "", theirs ? theirs : "") < 0)
		return -ENOMEM;
	int error = setenv("LD_PRELOAD", value, 1) || setenv(HELPER_ENV_SERVER, server_name, 1) ||
				    setenv(HELPER_ENV_PRELOAD, o->inject_path, 1)
			    ? -errno
			    : 0;
	free(value);
	return error;
}

/* In the new process. What it has before it is managed is to be on the fast node, too; its own policy, or who
 * started us, knows better. */
static int program_prepare(void *arg)
{
	const struct keeper *k = arg;

	sigaction(SIGPIPE, &k->pipe_before, NULL);
	sigaction(SIGCHLD, &k->child_before, NULL);
	(void)file_limit_set(&k->files_before);
	if (k->server->slow_bound && mempolicy_default())
		(void)mempolicy_prefer(k->server->nodes[0]);
	return environment_set(k->options, k->server->name);
}

static int program_start(struct keeper *k)
{
	const struct child_program program = {
		.argv = k->options->argv, .mask = &k->mask_before, .prepare = program_prepare, .arg = k,
	};

	return child_start(&program, &k->server->program_pid);
}

/* One line, and no more than 80 columns: one that wraps could not be written over. */
static void live_show(struct keeper *k, bool last)
{
	struct server *s = k->server;
	uint64_t faults = histogram_count(&s->fault_times), now_ns = clock_now_ns();
	char resident[TEXT_NUMBER_BYTES], limit[TEXT_NUMBER_BYTES], stored[TEXT_NUMBER_BYTES], pool[TEXT_NUMBER_BYTES],
		p99[TEXT_NUMBER_BYTES];
	struct tier_usage u;

	s->pool->ops->usage(s->pool, &u);
	fprintf(stderr, "\r\033[Kresident %s of %s | stored %s in %s | %.0f faults/s, p99 %s%s",
		text_size_format(resident, atomic_load(&s->resident) * PAGE_BYTES),
		text_size_format(limit, atomic_load(&s->limit) * PAGE_BYTES),
		text_size_format(stored, u.pages * PAGE_BYTES), text_size_format(pool, u.used_bytes),
		(double)(faults - k->live_faults) * 1e9 / (double)(now_ns - k->live_ns),
		text_time_format(p99, histogram_quantile(&s->fault_times, 990)), last ? "\n" : "");
	k->live_faults = faults;
	k->live_ns = now_ns;
}

static bool pid_known(const struct server *s, pid_t pid)
{
	for (const struct program *p = s->programs; p; p = p->next)
		if ((p->pid == pid && !atomic_load(&p->deserted)) || p->helper_pid == pid)
			return true;
	return false;
}

static bool descends(pid_t pid)
{
	return pid > 1 && pid != getpid() && process_ours(pid);
}

static int descendant_kill(void *arg, pid_t pid)
{
	(void)arg;
	if (descends(pid))
		child_signal(pid, SIGKILL);
	return 0;
}

/* A process without a helper (static, setuid, under a filter) counts as well; it cannot be moved. Not who lives in
 * the memory of its parent, as after vfork: that counts already. */
static uint64_t unhelped_pages(const struct server *s, pid_t pid)
{
	uint64_t size, anon = 0;
	pid_t parent;
	int dir;

	if (pid_known(s, pid) || (!proc_parent(pid, &parent) && proc_same_memory(pid, parent)) ||
	    proc_open(pid, &dir))
		return 0;
	int error = proc_statm(dir, &size, &anon);
	close(dir);
	return error ? 0 : anon;
}

/* A look at all of /proc. */
static int unhelped_count(const struct server *s, uint64_t *ret_pages)
{
	pid_t self = getpid(), *pids = NULL;
	size_t room = 0, nr = 64;
	uint64_t pages = 0;

	while (room < nr) {
		room = nr + nr / 4;
		free(pids);
		pids = calloc(room, sizeof *pids);
		int error = pids ? family_descendants("", &self, 1, pids, room, &nr) : -ENOMEM;
		if (error) {
			free(pids);
			return error;
		}
	}
	for (size_t i = 0; i < nr; i++)
		pages += unhelped_pages(s, pids[i]);
	free(pids);
	*ret_pages = pages;
	return 0;
}

static void tree_count(struct keeper *k, uint64_t now_ns)
{
	struct server *s = k->server;
	uint64_t pages = atomic_load(&s->unhelped_pages);

	if (!scan_due(&k->pace.tree, now_ns))
		return;
	looks_count(k);
	(void)unhelped_count(s, &pages); /* else as it was */
	atomic_store(&s->unhelped_pages, pages);
	if (pages > s->peak_unhelped)
		s->peak_unhelped = pages;
	scan_done(&k->pace.tree, now_ns, time_count(k, false), pages);
}

/* What is left alone while the budget is passed, all programs together, the most at one time: it may be why. */
static void excess_note(struct server *s)
{
	if (!atomic_load(&s->over_budget))
		return;
	for (unsigned i = 0; i < UNMANAGED_COUNT; i++) {
		uint64_t pages = i == UNMANAGED_NO_HELPER ? atomic_load(&s->unhelped_pages) : 0;
		for (const struct program *p = s->programs; p; p = p->next)
			pages += p->unmanaged[i];
		if (pages > s->excess_unmanaged[i])
			s->excess_unmanaged[i] = pages;
	}
}

static void bounds_renew(struct keeper *k)
{
	struct budget_reading reading;

	budget_read(k->server, &reading);
	keeper_lock(k);
	budget_renew(k->server, &reading);
	pthread_mutex_unlock(&k->server->plan_lock);
	budget_pool(k->server);
}

/* Each second, whatever it costs. */
static void bounds_follow(struct keeper *k, uint64_t now_ns)
{
	struct pace *pace = &k->pace;
	bool forced = !spend_due(&pace->bounds, pace->bounds_parts, now_ns);

	looks_count(k);
	bounds_renew(k);
	uint64_t took_ns = time_count(k, forced);
	if (!forced)
		pace->bounds = (struct spend){ now_ns, took_ns };
}

static void second_round(struct keeper *k)
{
	uint64_t now_ns = clock_now_ns();

	if (now_ns - k->second_ns < SECOND_NS)
		return;
	k->second_ns = now_ns;
	k->crowded = false;
	bounds_follow(k, now_ns);
	tree_count(k, now_ns);
	if (!k->options->live)
		return;
	live_show(k, false);
	time_count(k, true);
}

/* The guard was killed. Who was handed over before, or is just being, is handed over again: twice does no harm. */
static void guard_hear(struct keeper *k)
{
	struct server *s = k->server;

	k->unguarded = guard_lost(s->guard_socket);
	if (!k->unguarded)
		atomic_fetch_add(&s->guard_nr, 1);
	else if (!s->quiet)
		server_warn("its guard was killed: if this process is killed as well, a child of a program that "
			    "has no helper may see zeros");
}

static void guard_tell(struct server *s)
{
	for (struct program *p = s->programs; p; p = p->next)
		if (p->guard_nr != atomic_load(&s->guard_nr))
			program_guard(p);
}

/* Wait for a signal, a peer, the mover's bell, the guard, the end of a program, or the next round. */
static int keeper_wait(struct keeper *k, struct pollfd **wait)
{
	nfds_t nr = PROGRAMS_AT;

	for (const struct program *p = k->server->programs; p; p = p->next)
		nr++;
	struct pollfd *w = realloc(*wait, nr * sizeof *w);
	if (!w)
		return -ENOMEM;
	*wait = w;
	w[0] = (struct pollfd){ .fd = k->signals, .events = POLLIN };
	bool room = !k->crowded && pending_free(k) < PENDING_MAX;
	w[1] = (struct pollfd){ .fd = room ? k->listener : -1, .events = POLLIN };
	for (unsigned i = 0; i < PENDING_MAX; i++)
		w[2 + i] = (struct pollfd){ .fd = k->pending[i], .events = POLLIN };
	w[BELL_AT] = (struct pollfd){ .fd = k->server->keeper_bell, .events = POLLIN };
	w[GUARD_AT] = (struct pollfd){ .fd = k->unguarded ? -1 : k->server->guard_socket, .events = POLLIN };
	nr = PROGRAMS_AT;
	for (const struct program *p = k->server->programs; p; p = p->next)
		w[nr++] = (struct pollfd){ .fd = atomic_load(&p->deserted) ? -1 : p->pidfd, .events = POLLIN };
	uint64_t wait_ms = (pace_wait_ns(k->server, clock_now_ns()) + 999999) / 1000000;
	if (poll(w, nr, (int)wait_ms) < 0 && errno != EINTR)
		return -errno;
	k->some_ended = k->asked = false;
	if (w[BELL_AT].revents)
		(void)bell_hear(k->server->keeper_bell);
	for (nfds_t i = 0; i < PROGRAMS_AT; i++)
		k->asked |= i != BELL_AT && w[i].revents;
	for (nfds_t i = PROGRAMS_AT; i < nr; i++)
		k->some_ended |= w[i].revents;
	return 0;
}

/* Who cannot wait cannot look after anybody either: the tree may not go on without its pages. */
static void tree_give_up(struct keeper *k, int error)
{
	if (!atomic_exchange(&k->server->lost_child, true))
		fprintf(stderr, "pagetide: ending the program: its server cannot wait: %s\n", strerror(-error));
	proc_pids("", descendant_kill, NULL);
	clock_sleep_ns(10000000);
	signals_take(k);
}

static void keeper_loop(struct keeper *k)
{
	struct server *s = k->server;
	struct pollfd *wait = NULL;

	time_count(k, true); /* to start */
	while (!(k->ended && k->orphaned)) {
		int error = keeper_wait(k, &wait);
		if (error) {
			tree_give_up(k, error);
			continue;
		}
		looks_count(k);
		signals_take(k);
		if (wait[1].revents)
			peer_accept(k);
		for (unsigned i = 0; i < PENDING_MAX; i++)
			if (k->pending[i] >= 0 && wait[2 + i].fd == k->pending[i] && wait[2 + i].revents)
				peer_hear(k, i);
		if (wait[GUARD_AT].revents)
			guard_hear(k);
		if (k->asked)
			time_count(k, true);
		excess_note(s);
		programs_round(k);
		guard_tell(s);
		second_round(k);
		if (atomic_load(&s->lost_child))
			proc_pids("", descendant_kill, NULL);
		looks_count(k);
	}
	free(wait);
}

static int own_statm_open(int *ret_file)
{
	int dir, error = proc_open(getpid(), &dir);

	if (error)
		return error;
	error = proc_statm_open(dir, ret_file);
	close(dir);
	return error;
}

static int keeper_open(struct keeper *k)
{
	struct server *s = k->server;
	sigset_t all;

	for (unsigned i = 0; i < PENDING_MAX; i++)
		k->pending[i] = -1;
	/* Who started us may ignore it: then nobody could be waited for. */
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_DFL }, &k->child_before);
	int error = file_limit_raise(&k->files_before);
	if (!error && k->files_before.rlim_max < FILES_MIN)
		error = -EMFILE;
	if (!error)
		error = guard_start(&s->guard_socket);
	if (!error)
		error = own_statm_open(&s->own_statm);
	if (error)
		return error;
	keeper_name(getpid(), s->name);
	error = sock_listen(s->name, &k->listener);
	if (error)
		return error;
	error = bell_open(&s->keeper_bell);
	if (error)
		return error;
	(void)uffd_device_open(&k->device); /* its programs may have a right of their own */
	child_adopt();
	/* That nobody reads what we say is no reason to end; neither is it later. */
	sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, &k->pipe_before);
	sigfillset(&all);
	/* Ours to die of, as of any program. */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigprocmask(SIG_SETMASK, &all, &k->mask_before);
	k->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->signals < 0 ? -errno : 0;
}

static void keeper_close(struct keeper *k)
{
	struct server *s = k->server;

	atomic_store(&s->stopping, true);
	if (k->mover_runs) {
		mover_wake(s);
		pthread_join(k->mover, NULL);
		warden_join(s);
	}
	plan_lock_take(s);
	newborn_join(s);
	while (s->programs) {
		struct program *p = s->programs;
		s->programs = p->next;
		program_free(p);
	}
	pthread_mutex_unlock(&s->plan_lock);
	guard_leave(s->guard_socket);
	for (unsigned i = 0; i < PENDING_MAX; i++)
		if (k->pending[i] >= 0)
			close(k->pending[i]);
	close(k->listener);
	close(k->signals);
	if (s->keeper_bell >= 0)
		close(s->keeper_bell);
	if (k->device >= 0)
		close(k->device);
	if (s->own_statm >= 0)
		close(s->own_statm);
	sigprocmask(SIG_SETMASK, &k->mask_before, NULL);
}

int keeper_run(struct server *s, const struct keeper_options *options, int *ret_wait_status)
{
	struct keeper k = {
		.server = s, .options = options, .listener = -1, .signals = -1, .device = -1,
	};

	int error = keeper_open(&k);
	if (!error) {
		bounds_renew(&k);
		k.second_ns = k.live_ns = clock_now_ns();
		pace_open(&k.pace, options->overhead_bp * 100, k.second_ns);
		error = program_start(&k);
	}
	thread_urge(0, PRIORITY_MOVER); /* not the program, nor those that we start from here on */
	if (!error) {
		keeper_loop(&k);
		if (options->live)
			live_show(&k, true);
		*ret_wait_status = k.wait_status;
	}
	keeper_close(&k);
	return error;
}
