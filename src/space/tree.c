/* SPDX-License-Identifier: MIT */
/*
 * Programs of the tree: coming by the hello of their helper or by a fork event, going by exit or exec.
 *
 * A forked child comes twice, in any order of its own: by its parent's fork event, with the
 * userfaultfd of its mappings but no name, and by its helper, with a name but another userfaultfd.
 * The two are joined by a probe page that the helper mapped at a random address: the descriptor that
 * can write to that page is the child's.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "guard.h"
#include "intake.h"
#include "journal.h"
#include "pidfd.h"
#include "proc.h"
#include "program.h"
#include "sock.h"
#include "survey.h"
#include "thread.h"
#include "uffd.h"

#define PROGRAM_FEATURES                                                                           \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
	 UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_MOVE)
#define HOLD_FEATURES UFFD_FEATURE_MOVE
#define PROBE_TRIES 400u
#define PROBE_PAUSE_NS 50000 /* asleep: to a thread of the real-time class yielding lets nobody run */

struct program *program_new(struct server *s)
{
	struct program *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->journal = journal_new();
	if (!p->journal) {
		free(p);
		return NULL;
	}
	p->server = s;
	pace_begin(p, clock_now_ns());
	p->pidfd = p->leaving_pidfd = p->proc_dir = p->statm = p->stock.memory = p->uffd = -1;
	atomic_init(&p->hold_uffd, -1);
	p->helper_socket = p->helper_cpu = p->threads_dir = -1;
	p->family = atomic_fetch_add(&s->next_family, 1);
	pthread_mutex_init(&p->helper_lock, NULL);
	pthread_mutex_init(&p->hold_lock, NULL);
	return p;
}

static void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void slots_release(struct program *p, struct tract *t)
{
	struct tier *pool = p->server->pool;

	for (uint64_t i = region_next(&t->region, 0); i < t->region.nr_pages; i = region_next(&t->region, i + 1)) {
		uint64_t word = atomic_load_explicit(&t->region.state[i], memory_order_acquire);
		if (page_shadow(word))
			atomic_fetch_sub_explicit(&p->server->nr_shadows, 1, memory_order_relaxed);
		if (page_has_slot(word))
			pool->ops->unref(pool, page_slot(word));
		page_count(p->server, word, 0);
	}
}

uint64_t helper_cpu_ns(const struct program *p)
{
	pid_t pid = atomic_load(&p->helper_pid);

	return pid && pid != p->pid ? clock_process_cpu_ns(pid) : 0;
}

void program_free(struct program *p)
{
	struct server *s = p->server;

	handlers_stop(p);
	atomic_fetch_add(&s->forced_ns, helper_cpu_ns(p));
	for (unsigned i = 0; i < UNMANAGED_COUNT; i++)
		atomic_fetch_add(&s->unmanaged_ended[i], p->unmanaged[i]);
	for (struct tract *t = p->tracts, *next; t; t = next) {
		next = t->next;
		pthread_mutex_lock(&s->engine_lock);
		intake_remove(t);
		pthread_mutex_unlock(&s->engine_lock);
		slots_release(p, t);
		tract_free(t);
	}
	journal_end(p);
	if (p->birth)
		birth_free(p);
	fd_close(p->pidfd);
	fd_close(p->leaving_pidfd);
	fd_close(p->proc_dir);
	fd_close(p->statm);
	fd_close(p->threads_dir);
	fd_close(p->uffd);
	hold_close(p);
	helper_leave(p);
	pthread_mutex_destroy(&p->helper_lock);
	pthread_mutex_destroy(&p->hold_lock);
	stock_close(p);
	free(p->extents);
	free(p->locked);
	free(p->ends);
	free(p);
}

void program_fail(struct program *p, const char *why)
{
	if (atomic_exchange(&p->gone, true))
		return;
	fprintf(stderr, "pagetide: ending process %d: %s\n", (int)p->pid, why);
	if (p->pidfd >= 0 && !atomic_load(&p->deserted))
		pidfd_signal(p->pidfd, SIGKILL);
	else
		atomic_store(&p->server->lost_child, true); /* no name: the keeper ends the tree */
}

/* First by which guard that is: if it is another one by then, or is killed, the program is handed over again. */
int program_guard(struct program *p)
{
	p->guard_nr = atomic_load(&p->server->guard_nr);
	return guard_add(p->server->guard_socket, p->pid, p->uffd, p->pidfd);
}

/* ---- fork ---- */

/* The child's word for a page, from the parent's. Slots gain a reference; what is in the hold area is
 * in the parent's memory only, and is copied into the child. */
static uint64_t word_forked(struct program *child, const struct tract *t, uint64_t vpn,
			    uint64_t word)
{
	struct program *parent = t->program;
	struct tier *pool = parent->server->pool;
	uint8_t page[PAGE_BYTES];
	uint32_t slot;
	uint64_t done;
	int error;

	switch (page_state(word)) {
	case PAGE_RESIDENT:
	case PAGE_HOLDING:
		return page_word(PAGE_RESIDENT, 0, 0, 0, false);
	case PAGE_STORED:
	case PAGE_LOADING:
		pool->ops->ref(pool, page_slot(word));
		return page_word(PAGE_STORED, page_tier(word), 0, page_slot(word), false);
	case PAGE_HELD:
	case PAGE_STORING:
	case PAGE_RETURNING:
		error = held_read(parent, &word, 1, page);
		/* Two of the coldest are no reason to fill the fast node. */
		page_source(parent->server, page_slow(word));
		if (!error) {
			/* Who may have it elsewhere finds it later. */
			error = child->birth ? -EAGAIN
					     : uffd_copy(child->uffd, vpn << PAGE_SHIFT, page, sizeof page, &done);
			/* Mostly it changes its mappings already, and its handlers, which are to read of that, wait
			 * for this table. Or there is no memory. */
			if (error && error != -EEXIST && error != -ENOENT && !pool->ops->keep(pool, page, &slot))
				return page_word(PAGE_STORED, 0, 0, slot, false);
		}
		/* EEXIST: the child has its own copy of the page as it was. ENOENT: it has not got the
		 * mapping (MADV_DONTFORK). */
		if (error == -ENOENT)
			return 0;
		if (error && error != -EEXIST && uffd_alive(child->uffd)) {
			program_fail(parent, "a held page cannot be read for a child");
			atomic_store(&parent->server->lost_child, true);
		}
		return page_word(PAGE_RESIDENT, page_slow(word) && !error, 0, 0, false);
	case PAGE_ABSENT:
	case PAGE_FILLING:
	case PAGE_STATE_COUNT:
		break;
	}
	/* FILLING over a resident page: somebody looks whether it is there; it may be. */
	return page_shadow(word) ? page_word(PAGE_RESIDENT, 0, 0, 0, false) : 0;
}

/* What the parent's maps tell. */
struct legacy {
	const struct program *parent, *child;
	/* What a child gets empty, or not at all, whatever its parent has there: by address. */
	struct { uint64_t vpn, end; } *list;
	size_t nr, room;
	size_t at;        /* of an extent pages are asked for in order: those before are done with */
	uint64_t covered; /* pages of extents that are mapped and registered */
	bool differs;     /* more is, and */
	bool stays;       /* some where memory was told to be unmapped */
};

static int legacy_wipe(struct legacy *l, const struct proc_mapping *m)
{
	if (l->nr == l->room) {
		size_t room = l->room * 2 + 16;
		void *grown = realloc(l->list, room * sizeof *l->list);
		if (!grown)
			return -ENOMEM;
		l->list = grown;
		l->room = room;
	}
	l->list[l->nr].vpn = m->start >> PAGE_SHIFT;
	l->list[l->nr++].end = m->end >> PAGE_SHIFT;
	return 0;
}

static int mapping_legacy(void *arg, const struct proc_mapping *m)
{
	struct legacy *l = arg;
	const struct program *p = l->parent;
	uint64_t vpn = m->start >> PAGE_SHIFT, end = m->end >> PAGE_SHIFT, covered = 0;

	if (m->uffd && !m->shared && !survey_own(p, m->start, m->end)) {
		const struct extent *e = extent_next(p, vpn);
		for (; e && e < p->extents + p->nr_extents && e->vpn < end; e++) {
			uint64_t last = e->vpn + e->nr_pages;
			covered += (last < end ? last : end) - (e->vpn > vpn ? e->vpn : vpn);
		}
		l->covered += covered;
		l->differs |= covered != end - vpn;
		l->stays |= journal_stays(p, vpn, end);
	}
	/* It may have been said of it since. */
	bool absent = m->kept && !uffd_registered(l->child->uffd, m->start, PAGE_BYTES);
	return m->wiped || absent ? legacy_wipe(l, m) : 0;
}

static bool page_wiped(struct legacy *l, uint64_t vpn)
{
	while (l->at < l->nr && l->list[l->at].end <= vpn)
		l->at++;
	return l->at < l->nr && l->list[l->at].vpn <= vpn;
}

static int extent_fork(struct program *child, const struct extent *e, struct legacy *legacy)
{
	const struct region *from = &e->tract->region;
	struct tract *t;
	uint64_t idx, home = journal_home(legacy->parent, e->vpn);
	int error = tract_take(child, e->vpn, e->nr_pages, &t, &idx);

	legacy->at = home == e->vpn ? legacy->at : 0;
	if (!error && e->fresh)
		extent_doubt(child, e->vpn);
	for (uint64_t at = region_next(from, e->idx); !error && at < e->idx + e->nr_pages;
	     at = region_next(from, at + 1)) {
		uint64_t word = word_load(e->tract, at), i = at - e->idx;
		if (!word || page_wiped(legacy, home + i))
			continue;
		word = word_forked(child, e->tract, e->vpn + i, word);
		region_occupy(&t->region, idx + i, 1);
		atomic_store_explicit(&t->region.state[idx + i], word, memory_order_release);
		page_count(child->server, 0, word);
	}
	return error;
}

/* A parent that has not yet got its own name has just been forked itself. */
static int legacy_find(struct legacy *l)
{
	const struct program *p = l->parent;
	int dir, error = p->proc_dir < 0 ? 0 : proc_mappings(p->proc_dir, true, mapping_legacy, l);

	if (error != -ESRCH)
		return error;
	if (!uffd_alive(p->uffd)) /* it was killed meanwhile */
		return 0;
	/* Its helper was, a moment ago. */
	*l = (struct legacy){ .parent = p, .child = l->child, .list = l->list, .room = l->room };
	error = proc_open(p->pid, &dir);
	if (error)
		return error;
	error = proc_mappings(dir, true, mapping_legacy, l);
	close(dir);
	return error;
}

/* Whether a process has one thread: what that tells comes in the order in which it was done. */
static bool process_single(const struct program *p)
{
	char text[16];
	int dir;

	if (!p->pid || atomic_load(&p->deserted) || proc_open(p->pid, &dir))
		return false;
	bool yes = !proc_status_text(dir, "Threads", text, sizeof text) && !strcmp(text, "1") && !pidfd_ended(p->pidfd);
	close(dir);
	return yes;
}

/* Whether the parent's mappings are not as its table has them, or were not of late: then nobody knows yet which
 * the child has. Of a parent without a name the maps cannot be read; mostly it has just been forked itself. */
static bool legacy_differs(const struct legacy *l)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < l->parent->nr_extents; i++)
		pages += l->parent->extents[i].nr_pages;
	bool differs = l->parent->proc_dir >= 0 && (l->differs || l->covered != pages);
	return differs || journal_unsure(l->parent);
}

/* What the child cannot be given yet it is given later. */
static int legacy_wait(const struct legacy *l, struct program *child, struct program *parent)
{
	if (!legacy_differs(l))
		return 0;
	bool single = process_single(parent);
	return single && !l->stays ? 0 : birth_begin(child, parent, single);
}

void program_fork(struct program *parent, int uffd)
{
	struct server *s = parent->server;
	struct program *child = program_new(s);
	int error = child ? 0 : -ENOMEM;
	struct legacy legacy = { .parent = parent, .child = child };

	if (child) {
		child->uffd = uffd;
		child->family = parent->family;
		atomic_store(&child->numbered_apart, atomic_load(&parent->numbered_apart));
		child->guards = parent->guards;
		child->guarded = atomic_load(&parent->guarded);
		atomic_store(&child->forked, true);
		atomic_store(&parent->forked, true);
		child->adopted = true;
		error = program_guard(child);
	}
	if (!error) /* first of all: what is copied into the child stays there */
		error = legacy_find(&legacy);
	if (!error)
		error = legacy_wait(&legacy, child, parent);
	/* What is in limbo only a child needs that may have it. */
	for (size_t i = 0; !error && i < parent->nr_extents; i++)
		if (parent->extents[i].vpn < LIMBO_VPN || child->birth)
			error = extent_fork(child, &parent->extents[i], &legacy);
	free(legacy.list);
	if (!error)
		error = handlers_start(child, parent->normal && !thread_is_idle());
	if (error) {
		/* Without tables the child would read zeros: neither may go on. */
		bool files = error == -EMFILE || error == -ENFILE;
		program_fail(parent, files ? "no file to follow a fork with; raise ulimit -Hn"
					   : "no memory to follow a fork");
		atomic_store(&s->lost_child, true);
	}
	if (!child)
		return;
	pthread_mutex_lock(&s->dead_lock);
	child->next = s->newborn;
	s->newborn = child;
	pthread_mutex_unlock(&s->dead_lock);
}

/* ---- hello ---- */

/*
 * Mark the probe page through the program's userfaultfd, and see whether the helper reads the mark: then
 * the descriptor is that of the helper's address space, and the mark tells that memory from others.
 */
static bool probe_mark(struct program *p, const struct helper_hello *hello, pid_t helper_pid)
{
	uint64_t token[PAGE_BYTES / 8], seen[2], done;
	int error;

	if (getrandom(token, sizeof token, 0) != sizeof token ||
	    uffd_register(p->uffd, hello->probe, PAGE_BYTES))
		return false;
	/* A child may be changing its mappings just now; its handlers read on, as soon as its table is settled. */
	for (unsigned tries = 0; tries < PROBE_TRIES; tries += !atomic_load(&p->birth) || atomic_load(&p->gone)) {
		error = uffd_copy(p->uffd, hello->probe, token, sizeof token, &done);
		if (error != -EAGAIN)
			break;
		clock_sleep_ns(PROBE_PAUSE_NS);
	}
	bool yes = !error && !proc_read(helper_pid, hello->probe, seen, sizeof seen) &&
		   !memcmp(seen, token, sizeof seen);
	uffd_unregister(p->uffd, hello->probe, PAGE_BYTES);
	if (yes) {
		program_lock_exclusive(p); /* a child's handlers look what is ours */
		p->probe = hello->probe;
		rwlock_unlock(&p->lock);
		memcpy(p->token, token, sizeof p->token);
	}
	return yes;
}

static struct program *forked_find(struct server *s, const struct helper_hello *hello, pid_t helper_pid)
{
	for (struct program *p = s->programs; p; p = p->next)
		if (!p->pid && !atomic_load(&p->gone) && probe_mark(p, hello, helper_pid))
			return p;
	return NULL;
}

/*
 * The process whose memory was marked. A helper hands over a pidfd of it, as numbers may mean others here, and
 * anybody could hand over anything: it will be sent signals, so it is believed only when the mark is read there,
 * and the descriptor means the same process from before to after. Takes the descriptor over on success.
 */
static int program_name(struct program *p, int pidfd)
{
	uint64_t seen[2];
	pid_t pid;
	int error = pidfd_pid(pidfd, &pid);

	if (!error)
		error = proc_read(pid, p->probe, seen, sizeof seen);
	if (!error && (memcmp(seen, p->token, sizeof seen) != 0 || pidfd_ended(pidfd)))
		error = -ESRCH;
	if (error)
		return error;
	p->pidfd = pidfd;
	p->pid = pid;
	return 0;
}

/* Whose helper it is, and what is asked of both from here on. Takes the descriptor over. */
static int hello_believe(struct program *p, pid_t helper_pid, int pidfd)
{
	int error = program_name(p, pidfd), dir = -1, statm = -1;

	if (error) {
		close(pidfd);
		return error;
	}
	error = uffd_api(p->hold_uffd, HOLD_FEATURES);
	if (!error)
		error = proc_open(helper_pid, &dir);
	if (!error)
		error = proc_statm_open(dir, &statm);
	program_lock_exclusive(p);
	p->proc_dir = dir;
	p->statm = statm;
	rwlock_unlock(&p->lock);
	return error ? error : program_guard(p);
}

/* It is known by now to be the helper. */
static void helper_begin(struct program *p, const struct helper_hello *hello, pid_t helper_pid, int socket)
{
	atomic_store(&p->numbered_apart, proc_numbered_apart(p->proc_dir));
	/* In a session, and so in a group of the scheduler, of its own a priority as of nice says nothing: on a busy
	 * machine it would get no CPU for seconds, and everybody else waits for it. */
	thread_urge(helper_pid, PRIORITY_MOVER);
	helper_lock_take(p);
	p->helper_pid = helper_pid;
	p->helper_socket = socket;
	(void)helper_keep(p); /* without it the guard alone keeps the program; its end is seen later */
	pthread_mutex_unlock(&p->helper_lock);
	program_lock_exclusive(p);
	p->guards = hello->guards;
	p->guarded = false; /* a child could not be asked before */
	guards_look(p);
	rwlock_unlock(&p->lock);
}

int program_hello(struct server *s, int socket, const struct helper_hello *hello, const int fds[HELPER_HELLO_FDS])
{
	int uffd = fds[0], hold_uffd = fds[1];
	pid_t helper_pid = 0;
	uid_t uid;
	int error = sock_peer(socket, &helper_pid, &uid);
	struct program *p = error ? NULL : forked_find(s, hello, helper_pid);

	if (p) {
		close(uffd); /* not the one its mappings are registered with */
	} else {
		if (!error)
			error = uffd_api(uffd, PROGRAM_FEATURES);
		p = error ? NULL : program_new(s);
		if (!p) {
			for (unsigned i = 0; i < HELPER_HELLO_FDS; i++)
				close(fds[i]);
			close(socket);
			return error ? error : -ENOMEM;
		}
		p->uffd = uffd;
		p->checked = true;
		p->next = s->programs;
		s->programs = p;
		if (!probe_mark(p, hello, helper_pid))
			error = -ESRCH;
	}
	program_lock_exclusive(p);
	p->area = hello->area;
	p->area_bytes = hello->area_bytes;
	rwlock_unlock(&p->lock);
	p->hold_uffd = hold_uffd;
	if (error)
		close(fds[2]);
	else
		error = hello_believe(p, helper_pid, fds[2]);
	if (error && !p->adopted) {
		/* Nobody would read of the probe page's unmapping, for which its program waits. */
		s->programs = p->next;
		program_free(p);
	}
	if (error) { /* a child with tables is served; never demoted */
		close(socket);
		return error;
	}
	helper_begin(p, hello, helper_pid, socket);
	return 0;
}

void newborn_join(struct server *s)
{
	pthread_mutex_lock(&s->dead_lock);
	struct program *born = s->newborn;
	s->newborn = NULL;
	pthread_mutex_unlock(&s->dead_lock);
	while (born) {
		struct program *next = born->next;
		born->next = s->programs;
		s->programs = born;
		born = next;
	}
}

/* ---- the end of a program ---- */

void program_widow(struct program *p)
{
	int dir = -1, statm = -1;

	helper_lock_take(p);
	helper_leave(p); /* before its number is not its own: nobody is to order it about */
	bool alone = p->pidfd < 0 || atomic_load(&p->deserted);
	if (!alone && !proc_open(p->pid, &dir) && (pidfd_ended(p->pidfd) || proc_statm_open(dir, &statm))) {
		close(dir); /* of whoever has the number now */
		dir = -1;
	}
	program_lock_exclusive(p);
	atomic_fetch_add(&p->server->forced_ns, helper_cpu_ns(p));
	fd_close(p->proc_dir);
	fd_close(p->statm);
	p->proc_dir = dir;
	p->statm = statm;
	p->helper_pid = alone ? 0 : p->pid;
	if (dir < 0)
		p->anon_pages = p->looked_pages = 0; /* counted as that of a process without a helper */
	rwlock_unlock(&p->lock);
	pthread_mutex_unlock(&p->helper_lock);
}

/* Whether a process has other memory than the program had. An error that may come of other things (its
 * first thread has ended, its rights have changed) says nothing. */
static bool memory_differs(const struct program *p, pid_t pid)
{
	uint64_t seen[2];
	int error = proc_read(pid, p->probe, seen, sizeof seen);

	return error ? error == -EFAULT : memcmp(seen, p->token, sizeof seen) != 0;
}

/*
 * Whether its process has ended, or has left for another image by exec, of which nobody tells us: its helper
 * alone has the old address space then, and reads the probe page there.
 */
static bool process_left(const struct program *p)
{
	struct pollfd end[2] = {
		{ .fd = p->pidfd, .events = POLLIN },
		{ .fd = p->helper_socket, .events = POLLRDHUP },
	};

	if (p->pidfd < 0 || poll(end, 2, 0) < 0)
		return false;
	if (end[0].revents)
		return true;
	return p->helper_socket >= 0 && !end[1].revents && memory_differs(p, p->pid) &&
	       !memory_differs(p, p->helper_pid);
}

/*
 * Hung up on, a helper ends by itself, unless it is frozen: then it is killed, for it would keep the memory, and the
 * tree, for as long. One that is only slow is given time: it may be the child of somebody who asks how it ended.
 */
#define LEAVE_NS UINT64_C(2000000000)

/* Where its helper is one, and not yet gone. */
static void helper_watch(struct program *p, bool frozen, uint64_t now_ns)
{
	uint64_t seen[2];
	int fd;

	p->leave_ns = now_ns + (frozen ? 0 : LEAVE_NS);
	if (pidfd_get(p->helper_pid, &fd))
		return;
	/* Its number may be another's by now: not if that has this memory, and had it from before to after. */
	if (!proc_read(p->helper_pid, p->probe, seen, sizeof seen) && !memcmp(seen, p->token, sizeof seen) &&
	    !pidfd_ended(fd))
		p->leaving_pidfd = fd;
	else
		close(fd);
}

static void helper_kill(struct program *p)
{
	if (!pidfd_ended(p->leaving_pidfd))
		pidfd_signal(p->leaving_pidfd, SIGKILL);
	fd_close(p->leaving_pidfd);
	p->leaving_pidfd = -1;
}

/*
 * A program has ended when nobody has its address space. That may be long after its process has: who was
 * made by vfork or clone lives there, too. The helper goes when it is hung up on; the keeper is told of that
 * end.
 */
static bool program_ended(struct program *p, uint64_t now_ns)
{
	if (!atomic_load(&p->deserted) && process_left(p)) {
		atomic_store(&p->deserted, true);
		/* Its last deed may have been a fork: whoever has read of it copies held pages out of the memory
		 * that the helper alone keeps now. Messages are read and followed under the lock. */
		program_lock_shared(p);
		rwlock_unlock(&p->lock);
		if (p->helper_pid == p->pid) { /* it was killed before */
			program_widow(p);
		} else {
			helper_lock_take(p);
			bool frozen = atomic_load(&p->frozen);
			helper_leave(p);
			helper_watch(p, frozen, now_ns);
			pthread_mutex_unlock(&p->helper_lock);
		}
	}
	if (p->leaving_pidfd >= 0 && now_ns >= p->leave_ns)
		helper_kill(p);
	/* It may have forked before its table was settled: that is still to be followed. */
	return !uffd_alive(p->uffd) && (!atomic_load(&p->birth) || atomic_load(&p->gone));
}

void programs_reap(struct server *s, uint64_t now_ns, bool some_ended)
{
	for (struct program **at = &s->programs; *at;) {
		struct program *p = *at;
		if (!(some_ended || scan_due(&p->look, now_ns)) || !program_ended(p, now_ns)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		atomic_store(&p->gone, true);
		program_free(p);
	}
	for (struct program *p = s->programs; p; p = p->next) {
		p->nr_family = 0;
		for (struct program *q = s->programs; q; q = q->next)
			p->nr_family += q->family == p->family;
	}
}

/* In one command: the program waits for the helper meanwhile. */
#define POPULATE_PAGES 8192u

/* How many pages from vpn on are resident, of nr at most; *ret_pass: how many there are to pass if that one is not. */
static uint64_t resident_run(struct program *p, uint64_t vpn, uint64_t nr, uint64_t *ret_pass)
{
	uint64_t run = 0, pass = 1;

	program_lock_shared(p);
	const struct extent *e = extent_find(p, vpn);
	if (e) {
		uint64_t idx = e->idx + (vpn - e->vpn), left = e->vpn + e->nr_pages - vpn;
		nr = nr < left ? nr : left;
		while (run < nr && run < POPULATE_PAGES && page_state(word_load(e->tract, idx + run)) == PAGE_RESIDENT)
			run++;
		pass = region_next(&e->tract->region, idx + 1) - idx;
		pass = pass < nr ? pass : nr;
	}
	rwlock_unlock(&p->lock);
	*ret_pass = pass;
	return run;
}

int pages_touch(struct program *p, const struct helper_run *runs, uint32_t nr)
{
	helper_lock_take(p);
	if (!helper_ready(p)) {
		pthread_mutex_unlock(&p->helper_lock);
		return -EBUSY;
	}
	p->command.op = HELPER_POPULATE;
	p->command.nr_runs = nr;
	memcpy(p->command.runs, runs, nr * sizeof *runs);
	atomic_store(&p->populating, true);
	int error = helper_call(p);
	if (error != -EINPROGRESS) /* else with its reply */
		atomic_store(&p->populating, false);
	pthread_mutex_unlock(&p->helper_lock);
	return error;
}

/* Break the sharing of resident pages in [vpn, vpn + nr). No lock of the program's is held during the
 * call: a page may be discarded, and fault, meanwhile, and the fault is served without the helper. Returns
 * 0, or as helper_call(); -EAGAIN: it has forked meanwhile. */
static int stretch_unshare(struct program *p, uint64_t vpn, uint64_t nr)
{
	while (nr) {
		uint64_t pass, run = resident_run(p, vpn, nr, &pass);
		if (atomic_load(&p->forked))
			return -EAGAIN;
		if (run) {
			const struct helper_run pages = { .dst = vpn << PAGE_SHIFT, .bytes = run * PAGE_BYTES };
			int error = pages_touch(p, &pages, 1);
			if (error)
				return error;
			pass = run;
		}
		vpn += pass;
		nr -= pass;
	}
	return 0;
}

static bool newborn_some(struct server *s)
{
	pthread_mutex_lock(&s->dead_lock);
	bool some = s->newborn;
	pthread_mutex_unlock(&s->dead_lock);
	return some;
}

/* The others of its family have ended: its pages are still marked shared, and cannot be moved, until
 * they are written. */
void program_unshare(struct program *p)
{
	if (!atomic_load(&p->forked) || p->nr_family > 1 || p->helper_socket < 0 || atomic_load(&p->frozen))
		return;
	/* Whoever reads a fork event now has the lock until its child is among the newborn, whom nobody has counted. */
	program_lock_shared(p);
	bool alone = !newborn_some(p->server);
	size_t nr = p->nr_extents;
	struct extent *extents = alone && nr ? calloc(nr, sizeof *extents) : NULL;
	if (extents)
		memcpy(extents, p->extents, nr * sizeof *extents);
	if (alone)
		atomic_store(&p->forked, false);
	rwlock_unlock(&p->lock);
	if (!alone)
		return;
	for (size_t i = 0; extents && i < nr; i++)
		if (stretch_unshare(p, extents[i].vpn, extents[i].nr_pages)) {
			atomic_store(&p->forked, true); /* once more, if it has one then */
			break;
		}
	free(extents);
	/* Who wrote first has got the new copy, and the other one kept the old. */
	program_lock_shared(p);
	for (struct tract *t = p->tracts; t; t = t->next)
		t->located = false;
	rwlock_unlock(&p->lock);
}
