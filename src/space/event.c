/* SPDX-License-Identifier: MIT */
/*
 * Events: what the program does to its mappings, as the kernel tells it through the userfaultfd.
 *
 * The program's thread waits in its system call until its event has been read, and goes on the
 * moment it is. So the table must be right before anybody can act on the old state: reading and
 * changing happen under program.lock, exclusive. While an event is waiting to be read, or its thread
 * has not yet woken, every install gives EAGAIN; the fault is then looked at again later.
 *
 *   REMOVE  comes before the pages go (madvise DONTNEED), or without their going (FREE):
 *           discarded either way
 *   UNMAP   after the fact
 *   REMAP   after the fact; an UNMAP of the old place follows, which must not hit what has been
 *           mapped there since. It may overtake another thread's UNMAP of the new place.
 *           Both wake who sleeps in a fault there: a handler that has the page in hand wakes where it
 *           found it and where it is by then, not where it was in between
 *   FORK    brings the child's userfaultfd; its tables start as ours are now
 */
#include <errno.h>
#include <unistd.h>

#include "journal.h"
#include "proc.h"
#include "program.h"
#include "survey.h"
#include "uffd.h"

#define EVENTS_MAX 16u

void guards_look(struct program *p)
{
	uint32_t seen;
	pid_t pid = atomic_load(&p->helper_pid);

	if (!p->guarded)
		p->guarded = !pid || proc_read(pid, p->guards, &seen, sizeof seen) || seen == HELPER_GUARDS;
}

/* Where that fails it is found when it is adopted, as if it had not been told of. */
static int absent_take(struct program *p, uint64_t vpn, uint64_t nr_pages)
{
	struct tract *tract;
	uint64_t idx;

	return tract_take(p, vpn, nr_pages, &tract, &idx);
}

/*
 * What is discarded may get guard pages, before which a program says so. Its thread goes on when this was read, and
 * only then discards it, when it comes to it: of memory that has grown and is not yet managed pages may be found
 * there for as long. They are not to be taken for what there is: from now on there is nothing.
 */
static void event_remove(struct program *p, uint64_t vpn, uint64_t end)
{
	struct moves_table table = range_table(p);

	guards_look(p);
	journal_bound(p);
	if (journal_open(p) && range_unknown(p, vpn, end - vpn))
		journal_grown(p, vpn, end - vpn, false);
	moves_discarded(&p->moves, &table, vpn, end - vpn);
	range_discard(p, vpn, end);
	if (!survey_own(p, vpn_address(vpn), vpn_address(end)))
		(void)survey_uncovered(p, vpn_address(vpn), vpn_address(end), absent_take);
}

static void event_unmap(struct program *p, uint64_t vpn, uint64_t nr_pages)
{
	struct moves_table table = range_table(p);

	uffd_wake(p->uffd, vpn_address(vpn), nr_pages * PAGE_BYTES);
	journal_bound(p);
	bool unknown = range_unknown(p, vpn, nr_pages);
	if (moves_unmapped(&p->moves, &table, vpn, nr_pages))
		journal_emptied(p, vpn, nr_pages);
	else if (unknown)
		journal_grown(p, vpn, nr_pages, true);
}

static void event_remap(struct program *p, uint64_t from, uint64_t to, uint64_t told_pages)
{
	uint64_t nr_pages = calls_pages(p, from, to, told_pages);
	struct moves_table table = range_table(p);

	growth_told(p, from);
	uffd_wake(p->uffd, vpn_address(from), nr_pages * PAGE_BYTES);
	journal_bound(p);
	if (journal_open(p) && range_unknown(p, from, nr_pages))
		journal_grown(p, from, nr_pages, false);
	moves_moved(&p->moves, &table, from, to, nr_pages);
}

/* ---- reading ---- */

static bool read_singly(const struct program *p)
{
	return p->moves.some || journal_open(p);
}

ssize_t messages_fetch(struct program *p, struct uffd_msg *messages, size_t max)
{
	ssize_t bytes = read(p->uffd, messages, max * sizeof *messages);

	if (bytes < 0 && (errno == EMFILE || errno == ENFILE)) {
		/* It would wait in its fork for ever. */
		program_fail(p, "no file descriptor left to follow a fork; raise ulimit -Hn");
		return -EMFILE;
	}
	if (bytes < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return bytes / (ssize_t)sizeof *messages;
}

/* Messages that wait; how many, or -errno. */
static ssize_t messages_read(struct program *p, struct uffd_msg *messages)
{
	/* While changes are under way, and of who moves at all, one by one: what comes next may have to wait, and
	 * who has been told of goes on while the next is read. */
	size_t max = read_singly(p) ? 1 : EVENTS_MAX, nr_early = birth_early(p, messages, max);

	return nr_early ? (ssize_t)nr_early : messages_fetch(p, messages, max);
}

/*
 * What was read with a move that is unsure is followed after that. Faults change no table, and are served when nothing
 * is under way: no message is to come then.
 */
static void unsure_end(struct program *p, const struct uffd_msg *m)
{
	struct moves_table table = range_table(p);
	bool unknown = moves_unknown(&p->moves);

	if (m->event != UFFD_EVENT_PAGEFAULT || (unknown && !uffd_changing(p->uffd)))
		(void)moves_go_on(&p->moves, &table);
	if (m->event == UFFD_EVENT_FORK && unknown) /* who was to be killed may have come through its fork */
		atomic_store(&p->server->lost_child, true);
}

static int messages_take(struct program *p,
			 void (*take)(void *arg, uint64_t address, bool write, uint32_t tid), void *arg)
{
	struct uffd_msg messages[EVENTS_MAX];
	ssize_t nr = messages_read(p, messages);

	for (ssize_t i = 0; i < nr; i++) {
		const struct uffd_msg *m = &messages[i];
		if (p->moves.unsure.nr_pages)
			unsure_end(p, m);
		switch (m->event) {
		case UFFD_EVENT_PAGEFAULT:
			take(arg, m->arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1),
			     m->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE,
			     atomic_load_explicit(&p->numbered_apart, memory_order_relaxed)
				     ? 0 : m->arg.pagefault.feat.ptid);
			break;
		case UFFD_EVENT_FORK:
			program_fork(p, (int)m->arg.fork.ufd);
			break;
		case UFFD_EVENT_REMAP:
			event_remap(p, m->arg.remap.from >> PAGE_SHIFT, m->arg.remap.to >> PAGE_SHIFT,
				    m->arg.remap.len >> PAGE_SHIFT);
			break;
		case UFFD_EVENT_REMOVE:
			event_remove(p, m->arg.remove.start >> PAGE_SHIFT,
				     m->arg.remove.end >> PAGE_SHIFT);
			break;
		case UFFD_EVENT_UNMAP:
			event_unmap(p, m->arg.remove.start >> PAGE_SHIFT,
				    (m->arg.remove.end - m->arg.remove.start) >> PAGE_SHIFT);
			break;
		default:
			break;
		}
	}
	return nr < 0 ? (int)nr : nr == EVENTS_MAX || (nr && read_singly(p));
}

int events_read(struct program *p,
		void (*take)(void *arg, uint64_t address, bool write, uint32_t tid), void *arg)
{
	if (birth_settle(p) || !calls_known(p))
		return -EBUSY;
	journal_begin(p);
	struct moves_table table = range_table(p);
	/* What nobody can tell matters when the next message comes: who has ended, or executed another, has none. */
	int result = moves_unknown(&p->moves) || moves_go_on(&p->moves, &table) ? messages_take(p, take, arg) : -EBUSY;
	journal_done(p);
	return result;
}
