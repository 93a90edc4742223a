/* SPDX-License-Identifier: MIT */
#include "keeper.h"

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
#include "file.h"
#include "futex.h"
#include "guard.h"
#include "mempolicy.h"
#include "pace.h"
#include "proc.h"
#include "sock.h"
#include "thread.h"
#include "uffd.h"

#define PENDING_MAX 64u
#define PROGRAMS_AT (2 + PENDING_MAX + 1) /* among what is waited for: signals, listener, peers, bell */
#define SECOND_NS 1000000000u
/* What is waited for, the server's own files, and a few programs with a handler for each CPU. */
#define FILES_MIN 256u

struct keeper {
	struct server *server;
	const struct keeper_options *options;
	int listener, signals, device;
	sigset_t mask_before;
	struct rlimit files_before;
	struct sigaction pipe_before;
	int pending[PENDING_MAX]; /* connected, not yet said hello; -1: free */
	pthread_t mover;
	bool mover_runs;
	bool ended;               /* the program; its status is known */
	bool orphaned;            /* nobody left to wait for */
	bool some_ended;          /* programs of the tree, since the last round */
	bool crowded;             /* no descriptor for a peer: in a second there may be one */
	bool warned_crowded;
	int wait_status;
	uint64_t second_ns;       /* of the last once-a-second round */
	uint64_t live_faults;
	struct pace pace;
	uint64_t counted_ns;      /* thread time that is accounted for */
	uint64_t looks_ns;        /* thread time for looks, in this round */
};

void keeper_name(pid_t pid, char name[64])
{
	snprintf(name, 64, "pagetide-%d", (int)pid);
}

void server_warn(const char *text)
{
	fprintf(stderr, "pagetide: %s\n", text);
}

/* Whether the process is ours: descends from us. */
static bool peer_ours(pid_t pid)
{
	for (int depth = 0; depth < 256 && pid > 1; depth++) {
		if (pid == getpid())
			return true;
		if (proc_parent(pid, &pid))
			return false;
	}
	return false;
}

/* ---- adoption ---- */

static uint32_t hold_pages(const struct server *s)
{
	uint64_t pages = atomic_load(&s->limit) / 8;

	pages = pages < HOLD_PAGES_MIN ? HOLD_PAGES_MIN : pages > 65536 ? 65536 : pages;
	/* All that is on the slow node may be held. */
	pages += s->slow_bound;
	return (uint32_t)(pages < HOLD_PAGES_MAX ? pages : HOLD_PAGES_MAX);
}

/* Thread time since the last call. What is forced by the budget is counted as such here, the rest is
 * voluntary. */
static uint64_t time_count(struct keeper *k, bool forced)
{
	uint64_t cpu_ns = clock_thread_cpu_ns(), took_ns = cpu_ns - k->counted_ns;

	k->counted_ns = cpu_ns;
	atomic_fetch_add(forced ? &k->server->forced_ns : &k->server->keeper_ns, took_ns);
	return took_ns;
}

/* Adopt what there is to adopt; returns how many pages that were. */
static uint64_t program_survey(struct keeper *k, struct program *p)
{
	uint64_t pages = 0, now_ns = clock_now_ns();
	bool changed = !p->adopted || p->size_pages != p->seen_size_pages ||
		       atomic_load(&p->unknown) || atomic_load(&p->map_seq) != p->seen_map_seq;

	if (p->helper_socket < 0 ||
	    !(changed ? scan_may(&p->survey, now_ns) : scan_due(&p->survey, now_ns)))
		return 0;
	k->looks_ns += time_count(k, false);
	if (!p->hold.address && hold_open(p, hold_pages(k->server)))
		return 0;
	/* Registered and nobody to serve it, the program would hang at its next touch. */
	if (!p->nr_handlers && handlers_start(p, k->server->saturated))
		return 0;
	atomic_store(&p->unknown, false);
	p->seen_size_pages = p->size_pages;
	p->seen_map_seq = atomic_load(&p->map_seq);
	p->adopted |= !program_adopt(p, &pages);
	p->managed_pages = extents_pages(p);
	program_locate(p);
	scan_done(&p->survey, clock_now_ns(), time_count(k, changed), pages);
	return pages;
}

/* Until memory is tight for the first time there is no thread but the keeper. */
static void threads_start(struct keeper *k)
{
	if (k->mover_runs || warden_start(k->server))
		return;
	k->mover_runs = !mover_start(k->server, &k->mover);
	if (!k->mover_runs)
		warden_join(k->server);
}

/* A handler that waits for its CPU cannot know it; it may even hold the lock. Returns whether messages
 * wait. */
static bool program_hurry(struct program *p)
{
	struct pollfd messages = { .fd = p->uffd, .events = POLLIN };

	if (!p->nr_handlers || poll(&messages, 1, 0) < 1)
		p->nr_waiting_looks = 0;
	else if (++p->nr_waiting_looks > 1)
		handlers_hurry(p);
	return p->nr_waiting_looks;
}

/* Read the sizes of the programs that are due. */
static void programs_look(struct server *s, uint64_t now_ns)
{
	for (struct program *p = s->programs; p; p = p->next) {
		bool grown = atomic_exchange(&p->grown, false);
		p->looked = grown || scan_due(&p->look, now_ns);
		if (p->looked && p->proc_dir >= 0)
			(void)proc_statm(p->proc_dir, &p->size_pages, &p->looked_pages);
	}
}

/* Adopt what the looks found, or look everywhere. Without plan_lock: new memory fills unseen while a plan
 * is carried out, and that takes long where the machine is busy. */
static void programs_adopt(struct keeper *k, bool all)
{
	for (struct program *p = k->server->programs; p; p = p->next)
		if (p->looked || all)
			p->nr_found = program_survey(k, p) + program_hurry(p);
}

/* The resident anonymous pages of all programs that are not on the slow node, as of the last look at each;
 * the mover measures those of families. plan_lock held. */
static uint64_t programs_measure(struct server *s)
{
	uint64_t sum = atomic_load(&s->unhelped_pages);

	for (struct program *p = s->programs; p; p = p->next) {
		if (p->looked && p->nr_family < 2)
			p->anon_pages = p->looked_pages;
		sum += p->anon_pages;
	}
	int64_t slow = atomic_load(&s->slow);
	return slow > 0 && s->slow_bound ? sum - ((uint64_t)slow < sum ? (uint64_t)slow : sum) : sum;
}

/* Choose who waits for faults, and keep the mover off their CPUs. */
static void programs_choose(struct keeper *k, uint64_t now_ns)
{
	struct server *s = k->server;
	cpu_set_t used;

	if (!scan_due(&k->pace.choose, now_ns))
		return;
	k->looks_ns += time_count(k, false);
	CPU_ZERO(&used);
	handlers_weigh(s, now_ns, clock_other_cpu_ns(k->mover));
	for (struct program *p = s->programs; p; p = p->next)
		handlers_choose(p, now_ns, &used);
	/* Where every CPU has something to do, one is as good as another. */
	if (s->saturated)
		CPU_ZERO(&used);
	if (s->saturated || CPU_COUNT(&used))
		mover_place(s, &used);
	scan_done(&k->pace.choose, now_ns, time_count(k, false), (uint64_t)CPU_COUNT(&used));
}

/* What came with the looks, waking up for them and all, is part of their cost: an equal part of each. */
static void looks_done(struct keeper *k, uint64_t now_ns)
{
	uint64_t nr = 0;

	for (const struct program *p = k->server->programs; p; p = p->next)
		nr += p->looked;
	k->looks_ns += time_count(k, false);
	if (!nr)
		return;
	for (struct program *p = k->server->programs; p; p = p->next)
		if (p->looked)
			scan_done(&p->look, now_ns, k->looks_ns / nr, p->nr_found);
	k->looks_ns = 0;
}

static void programs_round(struct keeper *k)
{
	struct server *s = k->server;
	uint64_t now_ns = clock_now_ns(), managed = 0;

	for (struct program *p = s->programs; p; p = p->next)
		p->nr_found = 0;
	programs_look(s, now_ns);
	if (s->tight)
		programs_adopt(k, false);
	plan_lock_take(s);
	newborn_join(s);
	programs_reap(s, now_ns, k->some_ended);
	uint64_t resident = programs_measure(s);
	/* When memory is tight the mover measures, and more often. */
	if (!s->tight)
		atomic_store(&s->resident, resident);
	else if (atomic_load(&s->resident) > resident)
		resident = atomic_load(&s->resident);
	if (resident > s->peak_resident)
		s->peak_resident = resident;
	bool begins = !s->tight && resident > budget_edge(s);
	if (begins) {
		threads_start(k);
		time_count(k, true);
	}
	s->tight |= begins && k->mover_runs;
	if (begins && s->tight)
		programs_adopt(k, true);
	for (struct program *p = s->programs; p; p = p->next) {
		if (s->tight)
			program_unshare(p);
		managed += p->managed_pages;
	}
	if (s->tight)
		programs_choose(k, now_ns);
	if (managed > s->peak_managed_pages)
		s->peak_managed_pages = managed;
	looks_done(k, now_ns);
	pace_set(&k->pace, s, resident, budget_edge(s));
	pthread_mutex_unlock(&s->plan_lock);
	if (s->tight && resident > atomic_load(&s->limit))
		mover_wake(s);
}

/* ---- the socket ---- */

/* A free place for a peer; PENDING_MAX: none. */
static unsigned pending_free(const struct keeper *k)
{
	unsigned i = 0;

	while (i < PENDING_MAX && k->pending[i] >= 0)
		i++;
	return i;
}

/* Those for whom there is no place now wait in the listener's queue. */
static void peer_accept(struct keeper *k)
{
	struct helper_welcome welcome = { .magic = HELPER_MAGIC };
	unsigned i;
	pid_t pid;
	uid_t uid;
	int fd, none = 0;

	while ((i = pending_free(k)) < PENDING_MAX &&
	       !(none = sock_accept(k->listener, &fd, &pid, &uid))) {
		bool ours = peer_ours(pid);
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
	k->crowded = none == -EMFILE || none == -ENFILE;
	if (!k->crowded || k->warned_crowded || k->server->quiet)
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

static void peer_hear(struct keeper *k, unsigned i)
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
	if (error || bytes != sizeof hello || hello.magic != HELPER_MAGIC || fds[1] < 0) {
		fds_drop(fds, 0);
		peer_refuse(s, fd, &hello);
		return;
	}
	fds_drop(fds, 2);
	plan_lock_take(s);
	/* Whoever reads a fork event now has the lock until its child is on the list. */
	for (struct program *p = s->programs; p; p = p->next) {
		program_lock_shared(p);
		pthread_rwlock_unlock(&p->lock);
	}
	newborn_join(s);
	program_hello(s, fd, &hello, fds[0], fds[1]);
	pthread_mutex_unlock(&s->plan_lock);
}

/* ---- signals ---- */

/*
 * A helper has died. Its number is free for another process as soon as it is waited for; nobody may
 * read held pages by it from then on. The program has the same memory.
 */
static void helper_mourn(struct server *s, pid_t pid)
{
	plan_lock_take(s);
	for (struct program *p = s->programs; p; p = p->next) {
		if (p->helper_pid != pid)
			continue;
		helper_lock_take(p);
		helper_leave(p); /* before its number is not its own: nobody is to order it about */
		program_lock_exclusive(p);
		p->helper_pid = p->pid;
		pthread_rwlock_unlock(&p->lock);
		pthread_mutex_unlock(&p->helper_lock);
	}
	pthread_mutex_unlock(&s->plan_lock);
}

static void program_waited(struct keeper *k, int status)
{
	if (WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status);
		/* Job control stops us both; whoever continues the job continues both. */
		if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU) {
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
			helper_mourn(k->server, pid);
		if (child_take(pid, &status))
			break;
		if (pid == k->server->program_pid)
			program_waited(k, status);
	}
	k->orphaned = error == -ECHILD;
}

static void signal_pass(struct keeper *k, const struct signalfd_siginfo *info)
{
	int sig = (int)info->ssi_signo;

	if (sig == SIGCHLD || sig == SIGCONT || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
		return;
	/* From the terminal the program has got it already. */
	if ((sig == SIGINT || sig == SIGQUIT || sig == SIGWINCH) && info->ssi_code == SI_KERNEL)
		return;
	/* What we did ourselves: to a pipe without a reader, or beyond a limit that we have from our parent. */
	if (info->ssi_pid == (uint32_t)getpid() ||
	    ((sig == SIGXCPU || sig == SIGXFSZ) && info->ssi_code == SI_KERNEL))
		return;
	if (!k->ended) {
		child_signal(k->server->program_pid, sig);
		return;
	}
	for (struct program *p = k->server->programs; p; p = p->next)
		if (p->pid > 0)
			child_signal(p->pid, sig);
}

static void signals_take(struct keeper *k)
{
	struct signalfd_siginfo info;

	while (read(k->signals, &info, sizeof info) == sizeof info)
		signal_pass(k, &info);
	children_reap(k);
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

static void live_show(struct keeper *k, bool last)
{
	struct server *s = k->server;
	struct tier_usage u;
	uint64_t faults = histogram_count(&s->fault_times);

	s->pool->ops->usage(s->pool, &u);
	fprintf(stderr, "\r\033[Kresident %llu M of %llu M | stored %llu M in %llu M | %llu faults/s, p99 %.1f us%s",
		(unsigned long long)(atomic_load(&s->resident) * PAGE_BYTES >> 20),
		(unsigned long long)(atomic_load(&s->limit) * PAGE_BYTES >> 20),
		(unsigned long long)(u.pages * PAGE_BYTES >> 20),
		(unsigned long long)(u.used_bytes >> 20), (unsigned long long)(faults - k->live_faults),
		(double)histogram_quantile(&s->fault_times, 990) / 1000, last ? "\n" : "");
	k->live_faults = faults;
}

static bool pid_known(const struct server *s, pid_t pid)
{
	for (const struct program *p = s->programs; p; p = p->next)
		if (p->pid == pid || p->helper_pid == pid)
			return true;
	return false;
}

static bool descends(pid_t pid)
{
	return pid > 1 && pid != getpid() && peer_ours(pid);
}

static int descendant_kill(void *arg, pid_t pid)
{
	(void)arg;
	if (descends(pid))
		child_signal(pid, SIGKILL);
	return 0;
}

struct unhelped {
	struct server *server;
	uint64_t pages;
};

/* Processes without a helper (static, setuid, under a filter) count as well; they cannot be moved. */
static int unhelped_count(void *arg, pid_t pid)
{
	struct unhelped *unhelped = arg;
	uint64_t size, anon;
	int dir;

	if (!descends(pid) || pid_known(unhelped->server, pid) || proc_open(pid, &dir))
		return 0;
	if (!proc_statm(dir, &size, &anon))
		unhelped->pages += anon;
	close(dir);
	return 0;
}

static void tree_count(struct keeper *k, uint64_t now_ns)
{
	struct unhelped unhelped = { .server = k->server };

	if (!scan_due(&k->pace.tree, now_ns))
		return;
	k->looks_ns += time_count(k, false);
	proc_pids("", unhelped_count, &unhelped); /* a look at all of /proc */
	atomic_store(&k->server->unhelped_pages, unhelped.pages);
	if (unhelped.pages > k->server->peak_unhelped)
		k->server->peak_unhelped = unhelped.pages;
	scan_done(&k->pace.tree, now_ns, time_count(k, false), unhelped.pages);
}

static void second_round(struct keeper *k)
{
	struct server *s = k->server;
	uint64_t now_ns = clock_now_ns();

	if (now_ns - k->second_ns < SECOND_NS)
		return;
	k->second_ns = now_ns;
	k->crowded = false;
	budget_renew(s);
	tree_count(k, now_ns);
	if (k->options->live)
		live_show(k, false);
}

/* Wait for a signal, a peer, the mover's bell, the end of a program, or the next round. */
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
	w[PROGRAMS_AT - 1] = (struct pollfd){ .fd = k->server->keeper_bell, .events = POLLIN };
	nr = PROGRAMS_AT;
	for (const struct program *p = k->server->programs; p; p = p->next)
		w[nr++] = (struct pollfd){ .fd = p->pidfd, .events = POLLIN };
	uint64_t wait_ms = (pace_wait_ns(k->server, clock_now_ns()) + 999999) / 1000000;
	if (poll(w, nr, (int)wait_ms) < 0 && errno != EINTR)
		return -errno;
	k->some_ended = false;
	if (w[PROGRAMS_AT - 1].revents)
		(void)bell_hear(k->server->keeper_bell);
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

	while (!(k->ended && k->orphaned)) {
		int error = keeper_wait(k, &wait);
		if (error) {
			tree_give_up(k, error);
			continue;
		}
		k->looks_ns += time_count(k, false);
		signals_take(k);
		if (wait[1].revents)
			peer_accept(k);
		for (unsigned i = 0; i < PENDING_MAX; i++)
			if (k->pending[i] >= 0 && wait[2 + i].fd == k->pending[i] && wait[2 + i].revents)
				peer_hear(k, i);
		time_count(k, false);
		programs_round(k);
		second_round(k);
		if (atomic_load(&s->lost_child))
			proc_pids("", descendant_kill, NULL);
		k->looks_ns += time_count(k, false);
	}
	free(wait);
}

static int keeper_open(struct keeper *k)
{
	struct server *s = k->server;
	sigset_t all;

	for (unsigned i = 0; i < PENDING_MAX; i++)
		k->pending[i] = -1;
	int error = file_limit_raise(&k->files_before);
	if (!error && k->files_before.rlim_max < FILES_MIN)
		error = -EMFILE;
	if (!error)
		error = guard_start(&s->guard_socket);
	if (!error)
		error = proc_open(getpid(), &s->own_dir);
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
	if (s->own_dir >= 0)
		close(s->own_dir);
	sigprocmask(SIG_SETMASK, &k->mask_before, NULL);
}

int keeper_run(struct server *s, const struct keeper_options *options, int *ret_wait_status)
{
	struct keeper k = {
		.server = s, .options = options, .listener = -1, .signals = -1, .device = -1,
	};

	int error = keeper_open(&k);
	if (!error) {
		budget_renew(s);
		k.second_ns = clock_now_ns();
		pace_open(&k.pace, options->overhead_bp * 100, k.second_ns);
		error = program_start(&k);
	}
	thread_hurry(0, PRIORITY_MOVER); /* not the program, but those that we start from here on */
	if (!error) {
		keeper_loop(&k);
		if (options->live)
			live_show(&k, true);
		*ret_wait_status = k.wait_status;
	}
	keeper_close(&k);
	return error;
}
