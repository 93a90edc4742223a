/* SPDX-License-Identifier: MIT */
/* A program whose messages a test writes, and what its kernel has: /proc are files, and its userfaultfd is a pipe. */
#ifndef TESTS_UNIT_EVENT_WORLD_H
#define TESTS_UNIT_EVENT_WORLD_H

#include <fcntl.h>
#include <inttypes.h>
#include <sys/syscall.h>

#include "journal.h"
#include "proc.h"
#include "uffd.h"
#include "world.h"

#include "tree.h"

#define MOVES 1u
#define UNMAPS 2u

static inline void thread_put(unsigned tid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, "/task/%u/%s", tid, name);
	put(path, text);
}

/* A thread sleeps in a call that takes pages away, until a message is read; 0 pages: it runs. */
static inline void sleeps(unsigned tid, unsigned how, uint64_t vpn, uint64_t nr_pages)
{
	char text[256];

	snprintf(text, sizeof text, "%d 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64 " 0x1 0x0 0x0 0x7ffc0 0x7f000\n",
		 how == MOVES ? SYS_mremap : SYS_munmap, vpn << PAGE_SHIFT, nr_pages << PAGE_SHIFT,
		 nr_pages << PAGE_SHIFT);
	thread_put(tid, "wchan", nr_pages ? "userfaultfd_event_wait_completion" : "0");
	thread_put(tid, "syscall", nr_pages ? text : "running\n");
}

/* The same, in an mremap that says where to, and may make it smaller. */
static inline void sleeps_moving(unsigned tid, uint64_t vpn, uint64_t nr_pages, uint64_t kept, uint64_t to)
{
	char text[256];

	snprintf(text, sizeof text,
		 "%d 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64 " 0x3 0x%" PRIx64 " 0x0 0x7ffc0 0x7f000\n", SYS_mremap,
		 vpn << PAGE_SHIFT, nr_pages << PAGE_SHIFT, kept << PAGE_SHIFT, to << PAGE_SHIFT);
	thread_put(tid, "wchan", "userfaultfd_event_wait_completion");
	thread_put(tid, "syscall", text);
}

/* Who lives in the program's memory; none of it is asked of real ones. */
enum { PROGRAM_PID = 1 << 28, HELPER_PID, THREAD_ID };
static pid_t neighbour, living;

bool __wrap_proc_same_memory(pid_t one, pid_t other);
bool __wrap_proc_same_memory(pid_t one, pid_t other)
{
	assert_int_equal(other, HELPER_PID);
	return one == living || (neighbour && one == neighbour);
}

/* What the kernel has, at a moment at which nothing is under way: of the program, and of a child. */
static struct mapped {
	bool calm;
	uint64_t start, end;     /* registered, in one mapping, */
	uint64_t cut;            /* or in two: the second begins there */
	uint64_t present;        /* a page of it; 0: none */
	uint64_t swapped;        /* another */
	unsigned changing_after; /* so many looks something begins; 0: nothing does */
	bool other;              /* all of it is registered with another descriptor */
} mapped, born;
static int born_uffd;

static inline struct mapped *mapped_of(int uffd)
{
	return uffd == born_uffd ? &born : &mapped;
}

/* The program's userfaultfd is the reading end of a pipe, and its threads are files. */
static inline int world_open(void **state)
{
	struct world *w = world_new();
	int ends[2];

	assert_int_equal(tree_begin(state), 0);
	for (unsigned tid = 1; tid <= 3; tid++)
		sleeps(tid, UNMAPS, 0, 0);
	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	w->program->uffd = ends[0];
	w->program->threads_dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w->program->threads_dir >= 0);
	w->tell = ends[1];
	w->program->pid = PROGRAM_PID;
	w->program->helper_pid = HELPER_PID;
	neighbour = 0;
	memset(&mapped, 0, sizeof mapped);
	memset(&born, 0, sizeof born);
	born_uffd = -1;
	living = PROGRAM_PID;
	*state = w;
	return 0;
}

/* One before 6.15 tells of a move that makes smaller the length that it had, one before 6.12 of nothing that it then
 * refuses to unmap. */
#define KERNEL_MINOR 18u
static unsigned kernel_minor = KERNEL_MINOR;

int __wrap_probe_kernel(unsigned *ret_major, unsigned *ret_minor);
int __wrap_probe_kernel(unsigned *ret_major, unsigned *ret_minor)
{
	*ret_major = 6;
	*ret_minor = kernel_minor;
	return 0;
}

bool __wrap_uffd_changing(int fd);
bool __wrap_uffd_changing(int fd)
{
	return !mapped_of(fd)->calm;
}

int __wrap_uffd_registered(int fd, uint64_t address, uint64_t bytes);
int __wrap_uffd_registered(int fd, uint64_t address, uint64_t bytes)
{
	uint64_t vpn = address >> PAGE_SHIFT, end = vpn + (bytes >> PAGE_SHIFT);
	struct mapped *m = mapped_of(fd);

	if (m->changing_after && !--m->changing_after)
		return -EAGAIN;
	return vpn >= m->start && end <= m->end && !(vpn < m->cut && m->cut < end);
}

int __wrap_uffd_register(int fd, uint64_t address, uint64_t bytes);
int __wrap_uffd_register(int fd, uint64_t address, uint64_t bytes)
{
	(void)address;
	(void)bytes;
	return mapped_of(fd)->other ? -EBUSY : 0;
}

int __wrap_proc_present(int dir, uint64_t start, uint64_t end,
			void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);
int __wrap_proc_present(int dir, uint64_t start, uint64_t end,
			void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	uint64_t at = mapped.present << PAGE_SHIFT;

	(void)dir;
	if (at && at >= start && at < end)
		visit(arg, at, at + PAGE_BYTES, false);
	return 0;
}

int __wrap_proc_filled(int dir, uint64_t start, uint64_t end,
		       void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);
int __wrap_proc_filled(int dir, uint64_t start, uint64_t end,
		       void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	uint64_t at = mapped.swapped << PAGE_SHIFT;

	if (at && at >= start && at < end)
		visit(arg, at, at + PAGE_BYTES, false);
	return __wrap_proc_present(dir, start, end, visit, arg);
}

/* A process of one thread, with its helper. */
static inline int world_of_one_open(void **state)
{
	char command[PATH_MAX];

	assert_int_equal(world_open(state), 0);
	snprintf(command, sizeof command, "rm -r %s/task/2 %s/task/3", root, root);
	assert_int_equal(system(command), 0);
	return 0;
}

static inline int world_close(void **state)
{
	world_free(*state);
	return tree_end(NULL);
}

static inline void tell(struct world *w, const struct uffd_msg *message)
{
	assert_int_equal(write(w->tell, message, sizeof *message), sizeof *message);
	assert_int_equal(events_read(w->program, no_fault, NULL), 1);
}

/* Nothing is read before it is known what comes. */
static inline void held(struct world *w)
{
	assert_int_equal(events_read(w->program, no_fault, NULL), -EBUSY);
}

static inline void tell_unmap(struct world *w, uint64_t vpn, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_UNMAP };

	m.arg.remove.start = vpn << PAGE_SHIFT;
	m.arg.remove.end = (vpn + nr_pages) << PAGE_SHIFT;
	tell(w, &m);
}

static inline void tell_remap(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_REMAP };

	m.arg.remap.from = from << PAGE_SHIFT;
	m.arg.remap.to = to << PAGE_SHIFT;
	m.arg.remap.len = nr_pages << PAGE_SHIFT;
	tell(w, &m);
}

/* A move by a thread, which sleeps until the unmapping of the old place that goes with it is read, too. */
static inline void tell_move_by(struct world *w, unsigned tid, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	tell_remap(w, from, to, nr_pages);
	sleeps(tid, MOVES, from, nr_pages);
	tell_unmap(w, from, nr_pages);
	sleeps(tid, MOVES, 0, 0);
}

static inline void tell_move(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	tell_move_by(w, 1, from, to, nr_pages);
}

static inline void extent_is(struct world *w, uint64_t vpn, const struct tract *tract, uint64_t idx)
{
	const struct extent *e = extent_find(w->program, vpn);

	assert_int_equal(e != NULL, tract != NULL);
	if (!tract)
		return;
	assert_ptr_equal(e->tract, tract);
	assert_int_equal(e->idx + (vpn - e->vpn), idx);
}

/* Of which kinds the mappings are that meet where the second begins. */
static inline void kinds_put(const char *first, const char *second)
{
	char text[512];

	snprintf(text, sizeof text,
		 "%" PRIx64 "-%" PRIx64 " rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac um %s\n"
		 "%" PRIx64 "-%" PRIx64 " rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac um %s\n",
		 mapped.start << PAGE_SHIFT, mapped.cut << PAGE_SHIFT, first, mapped.cut << PAGE_SHIFT,
		 mapped.end << PAGE_SHIFT, second);
	put("/smaps", text);
}

static inline void nothing_told(struct world *w)
{
	assert_int_equal(events_read(w->program, no_fault, NULL), -EAGAIN);
}

/* Pages of which the table knows. */
static inline struct tract *tract_at(struct world *w, uint64_t vpn, uint64_t nr_pages)
{
	struct tract *t;

	assert_int_equal(tract_add(w->program, vpn, nr_pages, &t), 0);
	return t;
}

/* 1000 .. 1099 told to be unmapped, of which 1050 was resident; and nothing is under way. */
static inline struct tract *told_to_go(struct world *w, uint64_t start, uint64_t end, uint64_t present)
{
	struct tract *t;

	assert_int_equal(tract_add(w->program, 1000, 100, &t), 0);
	w->program->proc_dir = dup(w->program->threads_dir);
	assert_true(page_claim(t, 50, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	tell_unmap(w, 1000, 100);
	extent_is(w, 1000, NULL, 0);
	mapped.calm = true;
	mapped.start = start;
	mapped.end = end;
	mapped.present = present;
	return t;
}

#define EVENT_TEST(test) cmocka_unit_test_setup_teardown(test, world_open, world_close)
#define EVENT_TEST_OF_ONE(test) cmocka_unit_test_setup_teardown(test, world_of_one_open, world_close)

#endif
