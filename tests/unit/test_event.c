/* SPDX-License-Identifier: MIT */
/* Events of a program's mappings, in the orders in which the kernel may tell them. */
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

static void thread_put(unsigned tid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, "/task/%u/%s", tid, name);
	put(path, text);
}

/* A thread sleeps in a call that takes pages away, until a message is read; 0 pages: it runs. */
static void sleeps(unsigned tid, unsigned how, uint64_t vpn, uint64_t nr_pages)
{
	char text[256];

	snprintf(text, sizeof text, "%d 0x%" PRIx64 " 0x%" PRIx64 " 0x%" PRIx64 " 0x1 0x0 0x0 0x7ffc0 0x7f000\n",
		 how == MOVES ? SYS_mremap : SYS_munmap, vpn << PAGE_SHIFT, nr_pages << PAGE_SHIFT,
		 nr_pages << PAGE_SHIFT);
	thread_put(tid, "wchan", nr_pages ? "userfaultfd_event_wait_completion" : "0");
	thread_put(tid, "syscall", nr_pages ? text : "running\n");
}

/* The same, in an mremap that says where to, and may make it smaller. */
static void sleeps_moving(unsigned tid, uint64_t vpn, uint64_t nr_pages, uint64_t kept, uint64_t to)
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

/* What the kernel has, at a moment at which nothing is under way. */
static struct {
	bool calm;
	uint64_t start, end;     /* registered, in one mapping, */
	uint64_t cut;            /* or in two: the second begins there */
	uint64_t present;        /* a page of it; 0: none */
	uint64_t swapped;        /* another */
	unsigned changing_after; /* so many looks something begins; 0: nothing does */
} mapped;

/* The program's userfaultfd is the reading end of a pipe, and its threads are files. */
static int world_open(void **state)
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
	living = PROGRAM_PID;
	*state = w;
	return 0;
}

/* One before 6.15 tells of a move that makes smaller the length that it had. */
static bool old_kernel;

int __wrap_probe_kernel(unsigned *ret_major, unsigned *ret_minor);
int __wrap_probe_kernel(unsigned *ret_major, unsigned *ret_minor)
{
	*ret_major = 6;
	*ret_minor = old_kernel ? 12 : 18;
	return 0;
}

bool __wrap_uffd_changing(int fd);
bool __wrap_uffd_changing(int fd)
{
	(void)fd;
	return !mapped.calm;
}

int __wrap_uffd_registered(int fd, uint64_t address, uint64_t bytes);
int __wrap_uffd_registered(int fd, uint64_t address, uint64_t bytes)
{
	uint64_t vpn = address >> PAGE_SHIFT, end = vpn + (bytes >> PAGE_SHIFT);

	(void)fd;
	if (mapped.changing_after && !--mapped.changing_after)
		return -EAGAIN;
	return vpn >= mapped.start && end <= mapped.end && !(vpn < mapped.cut && mapped.cut < end);
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
static int world_of_one_open(void **state)
{
	char command[PATH_MAX];

	assert_int_equal(world_open(state), 0);
	snprintf(command, sizeof command, "rm -r %s/task/2 %s/task/3", root, root);
	assert_int_equal(system(command), 0);
	return 0;
}

static int world_close(void **state)
{
	world_free(*state);
	return tree_end(NULL);
}

static void tell(struct world *w, const struct uffd_msg *message)
{
	assert_int_equal(write(w->tell, message, sizeof *message), sizeof *message);
	assert_int_equal(events_read(w->program, no_fault, NULL), 1);
}

/* Nothing is read before it is known what comes. */
static void held(struct world *w)
{
	assert_int_equal(events_read(w->program, no_fault, NULL), -EBUSY);
}

static void tell_unmap(struct world *w, uint64_t vpn, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_UNMAP };

	m.arg.remove.start = vpn << PAGE_SHIFT;
	m.arg.remove.end = (vpn + nr_pages) << PAGE_SHIFT;
	tell(w, &m);
}

static void tell_remap(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_REMAP };

	m.arg.remap.from = from << PAGE_SHIFT;
	m.arg.remap.to = to << PAGE_SHIFT;
	m.arg.remap.len = nr_pages << PAGE_SHIFT;
	tell(w, &m);
}

/* A move by thread 1, which sleeps until the unmapping of the old place that goes with it is read, too. */
static void tell_move(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	tell_remap(w, from, to, nr_pages);
	sleeps(1, MOVES, from, nr_pages);
	tell_unmap(w, from, nr_pages);
	sleeps(1, MOVES, 0, 0);
}

static void extent_is(struct world *w, uint64_t vpn, const struct tract *tract, uint64_t idx)
{
	const struct extent *e = extent_find(w->program, vpn);

	assert_int_equal(e != NULL, tract != NULL);
	if (!tract)
		return;
	assert_ptr_equal(e->tract, tract);
	assert_int_equal(e->idx + (vpn - e->vpn), idx);
}

static void a_move_takes_its_pages_along(void **state)
{
	struct world *w = *state;
	struct tract *t;

	assert_int_equal(tract_add(w->program, 1000, 100, &t), 0);
	tell_move(w, 1020, 5000, 10);
	extent_is(w, 1019, t, 19);
	extent_is(w, 1020, NULL, 0);
	extent_is(w, 5000, t, 20);
	extent_is(w, 5009, t, 29);
	extent_is(w, 1030, t, 30);
}

/* 1000 .. 1099 told to be unmapped, of which 1050 was resident; and nothing is under way. */
static struct tract *told_to_go(struct world *w, uint64_t start, uint64_t end, uint64_t present)
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

/* Of which kinds the mappings are that meet where the second begins. */
static void kinds_put(const char *first, const char *second)
{
	char text[512];

	snprintf(text, sizeof text,
		 "%" PRIx64 "-%" PRIx64 " rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac um %s\n"
		 "%" PRIx64 "-%" PRIx64 " rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac um %s\n",
		 mapped.start << PAGE_SHIFT, mapped.cut << PAGE_SHIFT, first, mapped.cut << PAGE_SHIFT,
		 mapped.end << PAGE_SHIFT, second);
	put("/smaps", text);
}

static void nothing_told(struct world *w)
{
	assert_int_equal(events_read(w->program, no_fault, NULL), -EAGAIN);
}

static void what_the_kernel_refused_to_replace_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 1000, 1100, 0);

	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
}

/* In the middle of a mapping a page shows it; it is known to be resident. */
static void what_was_refused_in_the_middle_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1200, 1050);

	mapped.changing_after = 2;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
	assert_int_equal(page_state(word_load(t, 50)), PAGE_RESIDENT);
	assert_int_equal(page_state(word_load(t, 51)), PAGE_ABSENT);
}

/* A page that the kernel has swapped out shows it as well: it comes back by itself. */
static void what_was_refused_and_is_swapped_out_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1200, 0);

	mapped.swapped = 1050;
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
	assert_int_equal(page_state(word_load(t, 50)), PAGE_RESIDENT);
}

/* Guard pages look like that, and are left by what has gone. */
static void guard_pages_show_nothing(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1200, 0);
	atomic_store(&w->program->guarded, true);
	mapped.swapped = 1050;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
}

/* The kernel cuts what it was to replace off, and does not join it again. */
static void what_was_cut_in_vain_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1100, 0);

	mapped.cut = 1000;
	kinds_put("", "");
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
}

/* What has grown there, and was cut by mprotect or madvise just where it was before, might be that: it is not put back,
 * and if something is stored that might be meant the program is ended. */
static void what_has_grown_and_was_cut_is_not_guessed(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1100, 0);
	mapped.cut = 1000;
	kinds_put("", "hg");
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_false(w->program->gone);
}

static void what_may_be_either_is_ended_if_it_matters(void **state)
{
	struct world *w = *state;
	uint32_t freed[1];
	struct tract *t;

	w->program->hold.nr_pages = 1;
	w->program->hold.freed = freed;
	assert_int_equal(tract_add(w->program, 1000, 100, &t), 0);
	assert_true(page_claim(t, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&t->region.state[7], page_word(PAGE_HELD, 0, 0, 0, false));
	tell_unmap(w, 1000, 100);
	mapped.calm = true;
	mapped.start = 900;
	mapped.end = 1100;
	mapped.cut = 1000;
	w->program->proc_dir = dup(w->program->threads_dir);
	kinds_put("", "hg");
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* 1000 .. 1099 told to be unmapped with a page that is stored; something is there, and nothing is left below. */
static void stored_told_to_go(struct world *w)
{
	static uint32_t freed[1];
	struct tract *t;

	w->program->hold.nr_pages = 1;
	w->program->hold.freed = freed;
	assert_int_equal(tract_add(w->program, 1000, 100, &t), 0);
	assert_true(page_claim(t, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&t->region.state[7], page_word(PAGE_HELD, 0, 0, 0, false));
	tell_unmap(w, 1000, 100);
	w->program->proc_dir = dup(w->program->threads_dir);
	mapped.cut = 0;
	mapped.start = 1000;
	mapped.end = 1100;
}

/* By two threads: what is below grew into it, and was unmapped, which is told first. */
static void what_grew_from_what_was_told_first_is_not_guessed(void **state)
{
	struct world *w = *state;
	struct tract *below;

	assert_int_equal(tract_add(w->program, 900, 100, &below), 0);
	tell_unmap(w, 900, 100);
	stored_told_to_go(w);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* What is below grew through a gap, and the gap was unmapped again: of that the table knew nothing. */
static void what_grew_over_a_gap_is_not_guessed(void **state)
{
	struct world *w = *state;

	stored_told_to_go(w);
	tell_unmap(w, 990, 10);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* What was refused has nothing to do with what was unmapped before beside it. */
static void what_was_refused_beside_what_has_gone_is_there(void **state)
{
	struct world *w = *state;
	struct tract *below;

	assert_int_equal(tract_add(w->program, 900, 100, &below), 0);
	tell_unmap(w, 900, 100);
	struct tract *t = told_to_go(w, 1000, 1100, 0);
	nothing_told(w);
	extent_is(w, 999, NULL, 0);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
}

/* Of what was refused a part is unmapped before anything is known of the rest. */
static void what_is_left_of_what_was_refused_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 1010, 1100, 0);

	mapped.calm = false;
	tell_unmap(w, 1000, 10);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1010, t, 10);
	extent_is(w, 1099, t, 99);
	/* What is not there is found out before anything is taken out. */
	assert_true(w->program->fresh && t->fresh);
}

/* Where we ourselves have mapped something since. */
static void what_is_our_own_is_not_the_program_s(void **state)
{
	struct world *w = *state;

	w->program->area = UINT64_C(1000) << PAGE_SHIFT;
	w->program->area_bytes = UINT64_C(100) << PAGE_SHIFT;
	told_to_go(w, 1000, 1100, 1050);
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
}

static void what_has_grown_there_is_new(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1100, 0);
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	extent_is(w, 1099, NULL, 0);
}

/* Who waits for long is given zeros, of which the table knows nothing: so a page there no longer shows anything. */
static void what_was_filled_in_doubt_is_new(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1200, 1050);
	mapped.calm = false;
	nothing_told(w);
	assert_true(journal_doubts(w->program, 1050));
	assert_false(journal_doubts(w->program, 1100));
	w->program->journal->since_ns -= UINT64_C(3000000000);
	assert_false(journal_doubts(w->program, 1050));
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	extent_is(w, 1050, NULL, 0);
}

/* Memory that grows while it moves is filled before any of that is told, and before what was there is. */
static void what_was_filled_before_all_is_told_is_new(void **state)
{
	struct world *w = *state;

	journal_fill(w->program);
	told_to_go(w, 900, 1200, 1050);
	nothing_told(w);
	extent_is(w, 1050, NULL, 0);
	assert_false(w->program->journal->filled);
}

static void what_is_not_there_has_gone(void **state)
{
	struct world *w = *state;

	told_to_go(w, 0, 0, 0);
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
}

/* A mapping has come there, and left by MREMAP_DONTUNMAP: what it left is none that was there before. */
static void what_is_left_of_another_is_new(void **state)
{
	struct world *w = *state;
	struct tract *old = told_to_go(w, 1000, 1100, 0), *moved;

	mapped.calm = false;
	assert_int_equal(tract_add(w->program, 5000, 100, &moved), 0);
	tell_move(w, 5000, 1000, 100);
	tell_remap(w, 1000, 7000, 100);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 7000, moved, 0);
	const struct extent *left = extent_find(w->program, 1000);
	assert_true(left && left->tract != old && left->tract != moved && left->tract->fresh);
	assert_int_equal(page_state(word_load(left->tract, left->idx + 50)), PAGE_ABSENT);
}

/* One thread has unmapped 1000 .. 1099 and not yet told; others have moved mappings there. */
static void rule09_a_move_overtakes_an_unmap(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 100, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 100, &moved), 0);
	sleeps(2, UNMAPS, 1000, 100);
	tell_move(w, 5000, 1010, 10);
	tell_move(w, 5050, 1040, 20);
	extent_is(w, 1009, old, 9);
	extent_is(w, 1010, moved, 0);
	extent_is(w, 1059, moved, 69);
	tell_unmap(w, 1000, 100);
	for (uint64_t vpn = 1000; vpn < 1100; vpn++) {
		bool first = vpn >= 1010 && vpn < 1020, second = vpn >= 1040 && vpn < 1060;
		extent_is(w, vpn, first || second ? moved : NULL, first ? vpn - 1010 : vpn - 1040 + 50);
	}
	/* What comes after that is meant. */
	tell_unmap(w, 1000, 100);
	extent_is(w, 1010, NULL, 0);
	extent_is(w, 1059, NULL, 0);
}

/* The same, but the old place went in parts. */
static void rule09_a_move_overtakes_two_unmaps(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 100, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 20, &moved), 0);
	sleeps(2, UNMAPS, 1000, 50);
	sleeps(3, UNMAPS, 1050, 50);
	tell_move(w, 5000, 1040, 20);
	tell_unmap(w, 1000, 50);
	extent_is(w, 1039, NULL, 0);
	extent_is(w, 1040, moved, 0);
	tell_unmap(w, 1050, 50);
	extent_is(w, 1040, moved, 0);
	extent_is(w, 1059, moved, 19);
	extent_is(w, 1060, NULL, 0);
	tell_unmap(w, 1040, 20);
	extent_is(w, 1040, NULL, 0);
	extent_is(w, 1059, NULL, 0);
}

/* Two threads: one moves X to F, the other A to X and on to E; told is A to X, X to F at last, and X to E. */
static void rule09_a_move_waits_for_the_former(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_remap(w, 5000, 1000, 10);
	held(w);
	sleeps(1, MOVES, 5000, 10);
	held(w);
	sleeps(2, MOVES, 1000, 10);
	tell_unmap(w, 5000, 10);
	tell_remap(w, 1000, 7000, 10);
	extent_is(w, 7000, old, 0);
	extent_is(w, 1000, moved, 0);
	tell_remap(w, 1000, 9000, 10);
	extent_is(w, 9000, moved, 0);
	extent_is(w, 1000, NULL, 0);
	tell_unmap(w, 1000, 10);
	tell_unmap(w, 1000, 10);
	extent_is(w, 7009, old, 9);
	extent_is(w, 9009, moved, 9);
}

/* Who is stopped at the end of its call takes nothing away any more. */
static void rule09_who_is_on_its_way_out_is_none(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_remap(w, 5000, 1000, 10);
	sleeps(1, MOVES, 5000, 10);
	sleeps(3, UNMAPS, 1000, 10);
	thread_put(3, "wchan", "ptrace_stop");
	held(w);
	sleeps(2, MOVES, 1000, 10);
	tell_unmap(w, 5000, 10);
	tell_remap(w, 1000, 7000, 10);
	extent_is(w, 7000, old, 0);
	extent_is(w, 1000, moved, 0);
}

static void put_remap(struct world *w, uint64_t from, uint64_t to, uint64_t nr_pages)
{
	struct uffd_msg m = { .event = UFFD_EVENT_REMAP };

	m.arg.remap.from = from << PAGE_SHIFT;
	m.arg.remap.to = to << PAGE_SHIFT;
	m.arg.remap.len = nr_pages << PAGE_SHIFT;
	assert_int_equal(write(w->tell, &m, sizeof m), sizeof m);
}

/* What is queued behind a move that has to wait is not read with it, in a program that has moved before. */
static void rule09_what_is_queued_behind_waits_as_well(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved, *before;

	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	assert_int_equal(tract_add(w->program, 3000, 10, &before), 0);
	tell_move(w, 3000, 4000, 10);
	put_remap(w, 5000, 1000, 10);
	put_remap(w, 1000, 7000, 10);
	assert_int_equal(events_read(w->program, no_fault, NULL), 1);
	held(w);
	extent_is(w, 7000, NULL, 0);
	sleeps(1, MOVES, 5000, 10);
	sleeps(2, MOVES, 1000, 10);
	assert_int_equal(events_read(w->program, no_fault, NULL), 1);
	extent_is(w, 7000, old, 0);
	extent_is(w, 1000, moved, 0);
}

/* Nobody waits for who left nothing to be told: all sleep, and none in a call that takes the place away. */
static void rule09_what_is_left_of_a_move_holds_up_nobody(void **state)
{
	struct world *w = *state;
	struct tract *first, *second;

	assert_int_equal(tract_add(w->program, 1000, 10, &first), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &second), 0);
	tell_remap(w, 1000, 7000, 10); /* with MREMAP_DONTUNMAP */
	for (unsigned tid = 1; tid <= 3; tid++)
		sleeps(tid, UNMAPS, 9000, 1);
	tell_unmap(w, 1000, 5);
	tell_move(w, 5000, 8000, 10);
	extent_is(w, 7000, first, 0);
	extent_is(w, 8000, second, 0);
}

/* A first thread that has ended has no memory: another is asked for whose it is. */
static void rule09_the_first_thread_has_ended(void **state)
{
	char text[256] = "1 (x) Z 1", path[64];

	for (unsigned field = 5; field <= 52; field++)
		strcat(text, " 0");
	put("/task/1/stat", text);
	memcpy(text, "2 (x) S", strlen("2 (x) S"));
	living = THREAD_ID;
	snprintf(path, sizeof path, "/task/%d/stat", living);
	put(path, text);
	rule09_what_is_left_of_a_move_holds_up_nobody(state);
}

/* But where another process lives in that memory, that one may have made the move, and be about to tell the rest. */
static void rule09_what_is_left_may_be_of_a_process_beside(void **state)
{
	struct world *w = *state;
	struct tract *first;

	neighbour = getpid();
	assert_int_equal(tract_add(w->program, 1000, 10, &first), 0);
	tell_remap(w, 1000, 7000, 10);
	for (unsigned tid = 1; tid <= 3; tid++)
		sleeps(tid, UNMAPS, 9000, 1);
	tell_unmap(w, 1000, 5);
	held(w);
}

/* Thread 2 has moved X to F, and its unmapping is still to be told: not it has taken away what came then. */
static void rule09_who_has_told_is_not_the_former(void **state)
{
	struct world *w = *state;
	struct tract *old, *second, *third;

	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &second), 0);
	assert_int_equal(tract_add(w->program, 6000, 10, &third), 0);
	tell_remap(w, 1000, 7000, 10);
	sleeps(2, MOVES, 1000, 10);
	tell_move(w, 5000, 1000, 10);
	tell_remap(w, 6000, 1000, 10);
	sleeps(1, MOVES, 6000, 10);
	held(w);
	sleeps(3, MOVES, 1000, 10);
	tell_unmap(w, 1000, 10);
	tell_unmap(w, 6000, 10);
	tell_remap(w, 1000, 8000, 10);
	extent_is(w, 7000, old, 0);
	extent_is(w, 8000, second, 0);
	extent_is(w, 1000, third, 0);
}

/* A call makes smaller what it moves: it is told with the length that is left. */
static void rule09_a_mover_makes_smaller(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 20, &moved), 0);
	tell_remap(w, 5000, 1000, 10);
	sleeps_moving(1, 5000, 20, 10, 1000);
	held(w);
	sleeps(2, UNMAPS, 1000, 10);
	tell_unmap(w, 5010, 10);
	tell_unmap(w, 5000, 10);
	tell_unmap(w, 1000, 10);
	extent_is(w, 1000, moved, 0);
	extent_is(w, 5010, NULL, 0);
}

/* One call takes away what two others come to, both before it has told. */
static void rule09_a_former_leaves_in_parts_by_one_call(void **state)
{
	struct world *w = *state;
	struct tract *old, *first, *second;

	assert_int_equal(tract_add(w->program, 1000, 40, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 20, &first), 0);
	assert_int_equal(tract_add(w->program, 6000, 20, &second), 0);
	sleeps_moving(2, 1000, 40, 40, 9000);
	tell_remap(w, 5000, 1000, 20);
	sleeps_moving(1, 5000, 20, 20, 1000);
	tell_remap(w, 6000, 1020, 20);
	sleeps_moving(3, 6000, 20, 20, 1020);
	tell_remap(w, 1000, 9000, 40);
	extent_is(w, 9000, old, 0);
	extent_is(w, 9039, old, 39);
	extent_is(w, 1019, first, 19);
	extent_is(w, 1020, second, 0);
}

static void *sleeps_late(void *arg)
{
	(void)arg;
	usleep(50000);
	sleeps_moving(1, 5000, 20, 10, 1000);
	return NULL;
}

/* The kernel tells the length that it had, and the mover gets its CPU late. */
static void rule09_a_mover_that_makes_smaller_is_waited_for(void **state)
{
	struct world *w = *state;
	struct tract *moved, *behind;
	pthread_t thread;

	assert_int_equal(tract_add(w->program, 5000, 20, &moved), 0);
	assert_int_equal(tract_add(w->program, 1010, 10, &behind), 0);
	old_kernel = true;
	assert_int_equal(pthread_create(&thread, NULL, sleeps_late, NULL), 0);
	tell_remap(w, 5000, 1000, 20);
	old_kernel = false;
	pthread_join(thread, NULL);
	extent_is(w, 1009, moved, 9);
	extent_is(w, 1010, behind, 0);
	extent_is(w, 5010, moved, 10);
}

/* Moves of a hundred threads are told before the unmapping of any. */
static void rule09_many_unmappings_are_to_come(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 1000, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	for (unsigned i = 0; i < 100; i++)
		tell_remap(w, 1000 + 10 * i, 20000 + 10 * i, 10);
	tell_remap(w, 5000, 1990, 10);
	sleeps(1, MOVES, 5000, 10);
	held(w); /* the last may have left its old place mapped, and move that on */
	sleeps(2, MOVES, 1990, 10);
	tell_unmap(w, 5000, 10);
	extent_is(w, 1990, moved, 0);
	tell_unmap(w, 1990, 10);
	extent_is(w, 1990, moved, 0);
	extent_is(w, 20999, old, 999);
}

/*
 * A mapping that was registered and not adopted came to a place that had been moved away from, and leaves it: the
 * unmapping that is still to come of the first must not hit what comes next.
 */
static void rule09_an_unmapping_is_to_come_still(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_remap(w, 1000, 7000, 10);
	tell_remap(w, 1000, 8000, 10);
	sleeps(1, MOVES, 1000, 10);
	held(w);
	sleeps(2, MOVES, 1000, 10);
	tell_unmap(w, 1000, 10);
	sleeps(1, MOVES, 0, 0);
	tell_move(w, 5000, 1000, 10);
	extent_is(w, 1000, moved, 0);
	tell_unmap(w, 1000, 10);
	extent_is(w, 1000, moved, 0);
	extent_is(w, 7000, old, 0);
}

/* What is told by one thread is told in order: of what was at the place of a move nothing is to come. */
static void rule09_one_thread_tells_in_order(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_move(w, 5000, 1000, 10);
	tell_remap(w, 1000, 9000, 10);
	extent_is(w, 9000, moved, 0);
	assert_false(w->server.lost_child);
}

/* But whose memory another process lives in, made by clone with CLONE_VM: that one may have moved away what was there,
 * and be about to tell. Which of the two the next message means nobody knows. */
static void rule09_a_process_beside_tells_as_well(void **state)
{
	struct world *w = *state;
	struct tract *old, *moved;

	neighbour = getpid();
	assert_int_equal(tract_add(w->program, 1000, 10, &old), 0);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_move(w, 5000, 1000, 10);
	assert_false(w->server.lost_child);
	tell_remap(w, 1000, 9000, 10);
	assert_true(w->server.lost_child);
}

/* Memory has grown behind what is known, which is not told. */
static void rule07_what_is_discarded_unseen_is_never_found(void **state)
{
	struct world *w = *state;
	struct uffd_msg m = { .event = UFFD_EVENT_REMOVE };
	struct tract *known;

	assert_int_equal(tract_add(w->program, 1000, 10, &known), 0);
	m.arg.remove.start = UINT64_C(1005) << PAGE_SHIFT;
	m.arg.remove.end = UINT64_C(1020) << PAGE_SHIFT;
	assert_int_equal(write(w->tell, &m, sizeof m), sizeof m);
	assert_true(events_read(w->program, no_fault, NULL) >= 0);
	extent_is(w, 1009, known, 9);
	assert_null(extent_find(w->program, 1020));
	for (uint64_t vpn = 1010; vpn < 1020; vpn++) {
		const struct extent *e = extent_find(w->program, vpn);
		assert_non_null(e);
		assert_int_equal(word_load(e->tract, e->idx + (vpn - e->vpn)), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_the_kernel_refused_to_replace_is_there, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_was_refused_in_the_middle_is_there, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_was_refused_and_is_swapped_out_is_there, world_open, world_close),
		cmocka_unit_test_setup_teardown(guard_pages_show_nothing, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_has_grown_there_is_new, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_was_filled_in_doubt_is_new, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_was_cut_in_vain_is_there, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_has_grown_and_was_cut_is_not_guessed, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(what_may_be_either_is_ended_if_it_matters, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(what_grew_from_what_was_told_first_is_not_guessed, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(what_grew_over_a_gap_is_not_guessed, world_of_one_open, world_close),
		cmocka_unit_test_setup_teardown(what_was_refused_beside_what_has_gone_is_there, world_of_one_open,
						world_close),
		cmocka_unit_test_setup_teardown(what_is_left_of_what_was_refused_is_there, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(what_is_our_own_is_not_the_program_s, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(what_was_filled_before_all_is_told_is_new, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_is_not_there_has_gone, world_open, world_close),
		cmocka_unit_test_setup_teardown(what_is_left_of_another_is_new, world_open, world_close),
		cmocka_unit_test_setup_teardown(a_move_takes_its_pages_along, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_move_overtakes_an_unmap, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_move_overtakes_two_unmaps, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_move_waits_for_the_former, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_who_is_on_its_way_out_is_none, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_what_is_queued_behind_waits_as_well, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_the_first_thread_has_ended, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_what_is_left_of_a_move_holds_up_nobody, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_what_is_left_may_be_of_a_process_beside, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(rule09_who_has_told_is_not_the_former, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_an_unmapping_is_to_come_still, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_mover_makes_smaller, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_former_leaves_in_parts_by_one_call, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(rule09_a_mover_that_makes_smaller_is_waited_for, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(rule07_what_is_discarded_unseen_is_never_found, world_open,
						world_close),
		cmocka_unit_test_setup_teardown(rule09_many_unmappings_are_to_come, world_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_one_thread_tells_in_order, world_of_one_open, world_close),
		cmocka_unit_test_setup_teardown(rule09_a_process_beside_tells_as_well, world_of_one_open, world_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
