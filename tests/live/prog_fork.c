/* SPDX-License-Identifier: MIT */
/*
 * Live cases: how processes come and go while their pages are stored.
 *
 * A child must find every byte as its parent had it, whichever of them writes, moves out or exits
 * first, and however it was made: fork, or a raw clone that no library sees.
 */
#include "live.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- fork ------------------------------------------------------------------------------------ */

static void write_every_other(struct arena *arena, size_t first, uint32_t generation)
{
	for (size_t i = first; i < arena->nr_pages; i += 2)
		arena_fill(arena, i, i + 1, generation);
}

static void fork_then_both_write(void)
{
	struct arena arena = arena_new(live_pages(), 1);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (uint32_t round = 0; round < 2; round++) {
		pid_t pid;

		arena_cold(&arena, 0, arena.nr_pages / 2);
		pid = child_start();
		if (pid == 0) {
			arena_check(&arena, 0, arena.nr_pages / 3);
			write_every_other(&arena, 0, 10 + round);
			live_press();
			arena_check(&arena, 0, arena.nr_pages);
			_exit(0);
		}
		write_every_other(&arena, 1, 20 + round);
		live_press();
		arena_check(&arena, 0, arena.nr_pages);
		live_wait(pid);
		arena_check(&arena, 0, arena.nr_pages);
		arena_fill(&arena, 0, arena.nr_pages, 30 + round);
	}
}

/* After a fork unwritten pages cannot be moved for a while; afterwards all must be as before. */
static void fork_then_pressure_rule18(void)
{
	struct arena arena = arena_new(live_pages(), 2);
	int gate[2];
	char byte;
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(pipe(gate) == 0);
	pid = child_start();
	if (pid == 0) {
		close(gate[1]);
		CHECK(read(gate[0], &byte, 1) == 0);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	close(gate[0]);
	live_press();
	arena_check(&arena, 0, arena.nr_pages);
	write_every_other(&arena, 0, 2);
	live_press();
	arena_check(&arena, 0, arena.nr_pages);
	close(gate[1]);
	live_wait(pid);
	/* The child is gone: pages must leave memory again, also those never written since. */
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
}

/* Once `parent` is gone: check everything, write, move out, check again. */
static void orphan_work(struct arena *arena, pid_t parent)
{
	while (getppid() == parent)
		usleep(1000);
	usleep(50000);
	arena_check(arena, 0, arena->nr_pages);
	arena_fill(arena, 0, arena->nr_pages / 2, 7);
	live_press();
	arena_check(arena, 0, arena->nr_pages);
}

static void fork_parent_exits_first_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 3);
	int report[2];
	char word[3] = "";
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	CHECK(pipe(report) == 0);
	pid = child_start();
	if (pid == 0) {
		arena_fill(&arena, 0, arena.nr_pages / 2, 2);
		arena_cold(&arena, 0, arena.nr_pages / 2);
		pid = getpid();
		if (child_start() != 0)
			_exit(0);
		/* Nobody waits for the orphan, so it answers through the pipe. */
		orphan_work(&arena, pid);
		CHECK(write(report[1], "ok", 2) == 2);
		_exit(0);
	}
	close(report[1]);
	live_wait(pid);
	CHECK(read(report[0], word, 2) == 2 && strcmp(word, "ok") == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

/* A process whose last deed is a fork, many times: what was moved out of it may go with it at once. */
static void fork_and_end_rule04(void)
{
	struct arena arena = arena_new(live_pages() / 2, 5);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned i = 0; i < 5; i++) {
		int report[2];
		char word;
		CHECK(pipe(report) == 0);
		pid_t pid = child_start();
		if (pid == 0) {
			arena_fill(&arena, 0, arena.nr_pages, i + 2);
			arena_cold(&arena, 0, arena.nr_pages);
			if (child_start() != 0)
				_exit(0);
			arena_check(&arena, 0, arena.nr_pages);
			CHECK(write(report[1], "k", 1) == 1);
			_exit(0);
		}
		close(report[1]);
		live_wait(pid);
		CHECK(read(report[0], &word, 1) == 1 && word == 'k');
		close(report[0]);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* The first process of all exits; the driver reads the child's word from standard output. */
static void fork_program_exits_first_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 4);
	pid_t parent = getpid();

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	if (child_start() != 0)
		_exit(0);
	orphan_work(&arena, parent);
	CHECK(write(1, "child ok\n", 9) == 9);
	_exit(0);
}

static void generations_below(struct arena *arena, uint32_t depth)
{
	size_t part = arena->nr_pages / 8;
	pid_t pid;

	if (depth == 5)
		return;
	pid = child_start();
	if (pid == 0) {
		arena_fill(arena, depth * part, (depth + 1) * part, 10 + depth);
		generations_below(arena, depth + 1);
		live_press();
		arena_check(arena, 0, arena->nr_pages);
		_exit(0);
	}
	arena_fill(arena, (depth + 2) * part, (depth + 3) * part, 20 + depth);
	live_wait(pid);
	arena_check(arena, 0, arena->nr_pages);
}

static void grandchildren_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 5);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	generations_below(&arena, 0);
	arena_check(&arena, 0, arena.nr_pages);
}

static void child_is_demoted_too_rule03(void)
{
	struct arena arena = arena_new(live_pages() / 2, 6);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 4);
	child_grows(&arena, 7);
}

static void many_short_children(void)
{
	struct arena arena = arena_new(live_pages(), 8);
	uint64_t state = 8;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	for (unsigned int round = 0; round < 60; round++) {
		pid_t pids[3];

		for (unsigned int i = 0; i < 3; i++) {
			size_t from = live_random(&state) % (arena.nr_pages - 300);

			pids[i] = child_start();
			if (pids[i] == 0) {
				arena_check(&arena, from, from + 200);
				arena_fill(&arena, from + 100, from + 300, 5);
				arena_check(&arena, from, from + 300);
				_exit(0);
			}
			arena_fill(&arena, from + 50, from + 150, 100 + round);
		}
		for (unsigned int i = 0; i < 3; i++)
			live_wait(pids[i]);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* All of them there at the same time. */
static void many_children_at_once(void)
{
	struct arena arena = arena_new(live_pages(), 9);
	pid_t pids[40];
	int gate[2];

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(pipe(gate) == 0);
	for (size_t i = 0; i < 40; i++) {
		char byte;

		pids[i] = child_start();
		if (pids[i])
			continue;
		CHECK(close(gate[1]) == 0 && read(gate[0], &byte, 1) == 0);
		arena_check(&arena, i * 50, i * 50 + 50);
		_exit(0);
	}
	CHECK(close(gate[1]) == 0);
	for (size_t i = 0; i < 40; i++)
		live_wait(pids[i]);
	arena_check(&arena, 0, arena.nr_pages);
}

struct fork_racer {
	struct arena arena;
	atomic_bool *stop;
	pthread_t thread;
};

static void *fork_racer_run(void *argument)
{
	struct fork_racer *racer = argument;
	uint64_t state = racer->arena.seed;
	uint32_t round = 2;

	while (!atomic_load(racer->stop)) {
		size_t from = live_random(&state) % (racer->arena.nr_pages - 64);

		arena_check(&racer->arena, from, from + 64);
		arena_fill(&racer->arena, from, from + 32, round++);
		if (round % 8 == 0) {
			CHECK(madvise(arena_page(&racer->arena, from), 16 * PAGE_BYTES,
				      MADV_DONTNEED) == 0);
			arena_forget(&racer->arena, from, from + 16);
		}
	}
	return NULL;
}

/* Fork while other threads fault, write and discard: the child checks memory that is at rest. */
static void fork_beside_busy_threads(void)
{
	struct arena still = arena_new(live_pages() / 2, 9);
	struct fork_racer racers[3];
	atomic_bool stop = false;

	arena_fill(&still, 0, still.nr_pages, 1);
	for (unsigned int i = 0; i < 3; i++) {
		racers[i].arena = arena_new(live_pages() / 4, 90 + i);
		racers[i].stop = &stop;
		arena_fill(&racers[i].arena, 0, racers[i].arena.nr_pages, 1);
	}
	arena_cold(&still, 0, still.nr_pages);
	for (unsigned int i = 0; i < 3; i++)
		CHECK(pthread_create(&racers[i].thread, NULL, fork_racer_run, &racers[i]) == 0);
	for (unsigned int round = 0; round < 8; round++) {
		pid_t pid = child_start();

		if (pid == 0) {
			arena_check(&still, 0, still.nr_pages);
			arena_fill(&still, 0, still.nr_pages / 4, 3);
			arena_check(&still, 0, still.nr_pages);
			_exit(0);
		}
		arena_check(&still, 0, still.nr_pages / 4);
		live_wait(pid);
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < 3; i++) {
		CHECK(pthread_join(racers[i].thread, NULL) == 0);
		arena_check(&racers[i].arena, 0, racers[i].arena.nr_pages);
	}
	arena_check(&still, 0, still.nr_pages);
}

static void fork_keeps_advice(void)
{
	size_t nr = live_pages(), quarter = nr / 4;
	struct arena arena = arena_new(nr, 10);
	unsigned char seen[1];
	pid_t pid;

	CHECK(madvise(arena_page(&arena, quarter), quarter * PAGE_BYTES, MADV_DONTFORK) == 0);
	CHECK(madvise(arena_page(&arena, 2 * quarter), quarter * PAGE_BYTES, MADV_WIPEONFORK) == 0);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	pid = child_start();
	if (pid == 0) {
		arena_check(&arena, 0, quarter);
		CHECK(mincore(arena_page(&arena, quarter), PAGE_BYTES, seen) < 0 &&
		      errno == ENOMEM);
		arena_forget(&arena, 2 * quarter, 3 * quarter);
		arena_check(&arena, 2 * quarter, nr);
		arena_fill(&arena, 2 * quarter, nr, 2);
		arena_check(&arena, 2 * quarter, nr);
		_exit(0);
	}
	live_wait(pid);
	arena_check(&arena, 0, nr);
}

/* Pages that are just going out or coming in at the fork are as empty in the child as all others. */
static void wiped_while_held(void)
{
	struct arena arena = arena_new(live_pages(), 11);

	CHECK(madvise(arena.base, arena.nr_pages * PAGE_BYTES, MADV_WIPEONFORK) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (uint32_t round = 2; round < 10; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		pid_t pid = child_start();
		if (pid == 0) {
			arena_forget(&arena, 0, arena.nr_pages);
			arena_check(&arena, 0, arena.nr_pages);
			_exit(0);
		}
		live_wait(pid);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* Its helper was killed: its child still gets empty what is to be empty, and the rest as it was. */
static void helper_killed_fork(void)
{
	struct arena arena = arena_new(live_pages(), 12);
	size_t half = arena.nr_pages / 2;
	pid_t pid;

	CHECK(madvise(arena.base, half * PAGE_BYTES, MADV_WIPEONFORK) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, half);
	live_helper_killed();
	pid = child_start();
	if (pid == 0) {
		arena_forget(&arena, 0, half);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
}

static pid_t clone_raw(void)
{
	long pid = syscall(SYS_clone, (unsigned long)SIGCHLD, 0ul, 0ul, 0ul, 0ul);

	CHECK(pid >= 0);
	return (pid_t)pid;
}

/* ---- fork beside moves ----------------------------------------------------------------------- */

#define MOVED_PAGES 256u
#define NR_MOVERS 2u

/* Memory that a thread moves to and fro between two places. */
struct moved {
	pthread_t thread;
	struct arena arena;
	unsigned char *places[2];
};
static _Atomic bool moves_end;

static void *moved_run(void *arg)
{
	struct moved *m = arg;
	size_t bytes = MOVED_PAGES * PAGE_BYTES;

	for (unsigned at = 0; !atomic_load(&moves_end); at ^= 1)
		CHECK(mremap(m->places[at], bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, m->places[at ^ 1]) ==
		      m->places[at ^ 1]);
	return NULL;
}

/* Where a child has it: at one of the two. */
static void moved_check(struct moved *m)
{
	unsigned char seen[MOVED_PAGES];
	unsigned nr = 0;

	for (unsigned i = 0; i < 2; i++) {
		if (mincore(m->places[i], MOVED_PAGES * PAGE_BYTES, seen))
			continue;
		m->arena.base = m->places[i];
		nr++;
	}
	CHECK(nr == 1);
	arena_check(&m->arena, 0, MOVED_PAGES);
	/* It is the child's own from here on. */
	arena_fill(&m->arena, 0, MOVED_PAGES / 2, 3);
	arena_check(&m->arena, 0, MOVED_PAGES);
}

/*
 * Memory that other threads move just while a process forks: the child has it at one place or the other, whole.
 * Both places are far from where the kernel puts anything.
 */
static void fork_beside_moves(void)
{
	struct moved movers[NR_MOVERS];

	for (unsigned i = 0; i < NR_MOVERS; i++) {
		struct moved *m = &movers[i];
		m->places[0] = (unsigned char *)((uintptr_t)0x100000000000 + i * 64 * MIB);
		m->places[1] = m->places[0] + 32 * MIB;
		CHECK(mmap(m->places[0], MOVED_PAGES * PAGE_BYTES, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) ==
		      m->places[0]);
		m->arena = arena_at(m->places[0], MOVED_PAGES, 30 + i);
		arena_fill(&m->arena, 0, MOVED_PAGES, 1);
		arena_cold(&m->arena, 0, MOVED_PAGES);
	}
	for (unsigned i = 0; i < NR_MOVERS; i++)
		CHECK(pthread_create(&movers[i].thread, NULL, moved_run, &movers[i]) == 0);
	for (unsigned round = 0; round < 150; round++) {
		pid_t pid = child_start();
		if (pid == 0) {
			for (unsigned i = 0; i < NR_MOVERS; i++)
				moved_check(&movers[(i + round) % NR_MOVERS]);
			_exit(0);
		}
		live_wait(pid);
	}
	atomic_store(&moves_end, true);
	for (unsigned i = 0; i < NR_MOVERS; i++) {
		CHECK(pthread_join(movers[i].thread, NULL) == 0);
		moved_check(&movers[i]);
	}
}

/*
 * The same in an order of our choice. A second userfaultfd, of a few pages, holds a thread up between its deed and
 * telling of it: the kernel tells one after the other, and waits for each.
 */
struct hold_up {
	int fd;
	unsigned char *memory;
};

static struct hold_up hold_up_new(uintptr_t at, uint64_t feature)
{
	struct hold_up h = { .memory = (unsigned char *)at };
	struct uffdio_api api = { .api = UFFD_API, .features = feature };
	struct uffdio_register reg = { { at, 4 * PAGE_BYTES }, UFFDIO_REGISTER_MODE_MISSING, 0 };

	h.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (h.fd < 0 || ioctl(h.fd, UFFDIO_API, &api))
		live_skip("no userfaultfd of our own with events");
	CHECK(mmap(h.memory, 4 * PAGE_BYTES, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == h.memory);
	CHECK(ioctl(h.fd, UFFDIO_REGISTER, &reg) == 0);
	return h;
}

/* Until somebody is held up, and let them go on. */
static void hold_up_wait(const struct hold_up *h)
{
	struct pollfd wait = { .fd = h->fd, .events = POLLIN };

	while (poll(&wait, 1, -1) < 1)
		;
}

static void hold_up_end(const struct hold_up *h)
{
	struct uffd_msg message;

	CHECK(read(h->fd, &message, sizeof message) == sizeof message);
}

#define MOVED_BYTES (MOVED_PAGES * PAGE_BYTES)

static struct moved moved_new(void)
{
	struct moved m = { .places = { (unsigned char *)0x100000000000, (unsigned char *)0x100000000000 + 32 * MIB } };

	CHECK(mmap(m.places[0], MOVED_BYTES, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == m.places[0]);
	m.arena = arena_at(m.places[0], MOVED_PAGES, 40);
	arena_fill(&m.arena, 0, MOVED_PAGES, 1);
	arena_cold(&m.arena, 0, MOVED_PAGES);
	return m;
}

static void moved_to(struct moved *m, unsigned at)
{
	CHECK(mremap(m->places[at ^ 1], MOVED_BYTES, MOVED_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, m->places[at]) ==
	      m->places[at]);
}

static void *forks_and_waits(void *arg)
{
	pid_t pid = clone_raw();

	if (pid == 0) {
		moved_check(arg);
		_exit(0);
	}
	live_wait(pid);
	return NULL;
}

/* Forked, then changed `moves` times (0: unmapped), and only then told of the fork. */
static void fork_told_after(unsigned moves)
{
	struct moved m = moved_new();
	struct hold_up h = hold_up_new(0x0f0000000000, UFFD_FEATURE_EVENT_FORK);
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, forks_and_waits, &m) == 0);
	hold_up_wait(&h);
	if (!moves)
		CHECK(munmap(m.places[0], MOVED_BYTES) == 0);
	for (unsigned i = 1; i <= moves; i++)
		moved_to(&m, i % 2);
	hold_up_end(&h);
	CHECK(pthread_join(thread, NULL) == 0);
	if (moves)
		moved_check(&m);
}

static void fork_told_after_a_move(void)
{
	fork_told_after(1);
}

static void fork_told_after_two_moves(void)
{
	fork_told_after(2);
}

static void fork_told_after_unmapping(void)
{
	fork_told_after(0);
}

static void *moves_at_last(void *arg)
{
	moved_to(arg, 1);
	return NULL;
}

/* Moved, then forked; the fork is told first. */
static void fork_told_before_a_move(void)
{
	struct moved m = moved_new();
	/* Where it is to go: that is unmapped first, which is told first. */
	struct hold_up h = hold_up_new((uintptr_t)m.places[1], UFFD_FEATURE_EVENT_UNMAP);
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, moves_at_last, &m) == 0);
	hold_up_wait(&h);
	pid_t pid = clone_raw();
	if (pid == 0) {
		moved_check(&m);
		_exit(0);
	}
	usleep(50000);
	hold_up_end(&h);
	CHECK(pthread_join(thread, NULL) == 0);
	live_wait(pid);
	moved_check(&m);
}

/* Memory was moved away and another mapping put there, and the latter is told first. */
static void moves_told_the_other_way_round(void)
{
	struct moved m = moved_new();
	struct arena other = arena_new(MOVED_PAGES, 41);
	struct hold_up h = hold_up_new((uintptr_t)m.places[1], UFFD_FEATURE_EVENT_UNMAP);
	pthread_t thread;

	arena_fill(&other, 0, MOVED_PAGES, 1);
	arena_cold(&other, 0, MOVED_PAGES);
	CHECK(pthread_create(&thread, NULL, moves_at_last, &m) == 0);
	hold_up_wait(&h);
	CHECK(mremap(other.base, MOVED_BYTES, MOVED_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, m.places[0]) == m.places[0]);
	other.base = m.places[0];
	hold_up_end(&h);
	CHECK(pthread_join(thread, NULL) == 0);
	m.arena.base = m.places[1];
	arena_check(&m.arena, 0, MOVED_PAGES);
	arena_check(&other, 0, MOVED_PAGES);
	arena_cold(&other, 0, MOVED_PAGES);
	arena_check(&m.arena, 0, MOVED_PAGES);
	arena_check(&other, 0, MOVED_PAGES);
}

/* A parent that has just changed a mapping, and a child whose first deed is at the very place, or many deeds. */
static void child_deed(unsigned kind, const struct arena *arena, unsigned char *moved, size_t bytes)
{
	if (kind == 0)
		CHECK(munmap(moved, bytes) == 0);
	else if (kind == 1)
		CHECK(mremap(moved, bytes, 2 * bytes, MREMAP_MAYMOVE) != MAP_FAILED);
	else if (kind == 2)
		CHECK(munmap(moved + bytes / 2, bytes / 2) == 0);
	else
		for (size_t i = 0; i < 200; i++)
			CHECK(madvise(arena_page(arena, i), PAGE_BYTES, MADV_FREE) == 0);
}

static void changed_then_forked(unsigned kind)
{
	struct arena arena = arena_new(live_pages(), 43);
	const size_t bytes = MOVED_BYTES;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned round = 0; round < 3; round++) {
		unsigned char *memory = mmap(NULL, bytes, RW, ANON, -1, 0);
		unsigned char *far = mmap(NULL, bytes, PROT_NONE, ANON, -1, 0);

		memset(memory, 7, bytes);
		live_press();
		memset(memory, 8, bytes);
		memory = mremap(memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, far);
		CHECK(memory == far);
		pid_t pid = child_start();
		if (pid == 0) {
			child_deed(kind, &arena, memory, bytes);
			_exit(0);
		}
		live_wait(pid);
		arena_check(&arena, 0, arena.nr_pages);
		CHECK(memory[0] == 8 && memory[bytes - 1] == 8 && munmap(memory, bytes) == 0);
	}
	arena_free(&arena);
}

/* Unmapped, then forked twice, as a daemon does; the one in the middle is gone at once. */
static void changed_then_a_daemon(void)
{
	struct arena arena = arena_new(live_pages(), 44);
	int report[2];
	char byte;

	CHECK(pipe(report) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	CHECK(munmap(arena_page(&arena, arena.nr_pages / 2), arena.nr_pages / 4 * PAGE_BYTES) == 0);
	pid_t pid = child_start();
	if (pid == 0) {
		if (child_start() != 0)
			_exit(0);
		arena_check(&arena, 0, arena.nr_pages / 2);
		CHECK(write(report[1], "k", 1) == 1);
		_exit(0);
	}
	close(report[1]);
	live_wait(pid);
	CHECK(read(report[0], &byte, 1) == 1);
	close(report[0]);
	arena_check(&arena, 0, arena.nr_pages / 2);
	munmap(arena.base, arena.nr_pages * PAGE_BYTES);
}

/* Many unmapped pieces, memory moved over them all, forked. */
static void changed_in_pieces(void)
{
	const size_t piece = 1u << 20, bytes = 16 * piece;
	struct arena arena = arena_new(bytes / PAGE_BYTES, 45);
	unsigned char *hole = mmap(NULL, bytes, RW, ANON, -1, 0);

	memset(hole, 3, bytes);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	live_press();
	for (size_t at = 0; at < bytes; at += piece)
		CHECK(munmap(hole + at, piece) == 0);
	CHECK(mremap(arena.base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, hole) == hole);
	arena.base = hole;
	pid_t pid = child_start();
	if (pid == 0) {
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
	arena_free(&arena);
}

static void changed_then_forked_all(void)
{
	for (unsigned kind = 0; kind < 4; kind++)
		changed_then_forked(kind);
	changed_then_a_daemon();
	changed_in_pieces();
}

static void *rests(void *arg)
{
	pause();
	return arg;
}

/* The same beside a thread that does nothing: who has changed what is not known for sure. */
static void changed_then_forked_threaded(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, rests, NULL) == 0);
	changed_then_forked_all();
	_exit(0);
}

/* ---- clone ------------------------------------------------------------------------------------ */

/* Children that change their mappings before anything else. */
static void child_changes_at_once(void)
{
	struct arena arena = arena_new(live_pages(), 13);
	size_t part = arena.nr_pages / 8;

	for (uint32_t round = 1; round < 9; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		pid_t pid = round % 2 ? clone_raw() : child_start();
		if (pid == 0) {
			size_t from = round % 7 * part + part;
			CHECK(madvise(arena_page(&arena, from), part * PAGE_BYTES, MADV_DONTNEED) == 0);
			CHECK(munmap(arena.base, part * PAGE_BYTES) == 0);
			arena_forget(&arena, from, from + part);
			arena_check(&arena, part, arena.nr_pages);
			_exit(0);
		}
		live_wait(pid);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* The same while the pool has no room: pages that compress by half at most, and many held ones. */
static void child_changes_at_once_full(void)
{
	const size_t small = (8u << 20) / PAGE_BYTES, large = (64u << 20) / PAGE_BYTES;
	struct arena arena = arena_new(small, 14);
	unsigned char *noise = mmap(NULL, large * PAGE_BYTES, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t seed = 15;

	CHECK(noise != MAP_FAILED && madvise(noise, large * PAGE_BYTES, MADV_NOHUGEPAGE) == 0);
	arena_fill(&arena, 0, small, 1);
	for (uint32_t round = 0; round < 4; round++) {
		for (size_t i = 0; i < large * PAGE_BYTES; i += 16) {
			uint64_t word = live_random(&seed);
			memcpy(noise + i, &word, sizeof word);
		}
		pid_t pid = child_start();
		if (pid == 0) {
			for (size_t i = 0; i < small; i++)
				CHECK(madvise(arena_page(&arena, i), PAGE_BYTES, MADV_DONTNEED) == 0);
			CHECK(munmap(arena.base, small * PAGE_BYTES) == 0);
			_exit(0);
		}
		live_wait(pid);
	}
	arena_check(&arena, 0, small);
}

/*
 * Children that unmap whatever lies where the helper puts its page, some time in the first milliseconds: the
 * server may just be finding out whose memory that is. Nothing is managed yet, so nobody else reads their events.
 */
static void child_unmaps_all(void)
{
	const uintptr_t from = (uintptr_t)16 << 40, bytes = (uintptr_t)64 << 40;
	uint64_t seed = 37;

	for (int i = 0; i < 500; i++) {
		uint64_t bits = live_random(&seed);
		pid_t pid = child_start();
		for (int j = 0; pid == 0 && j < 8; j++, bits >>= 8) {
			usleep(bits % 256);
			CHECK(munmap((void *)from, bytes) == 0);
		}
		if (pid == 0)
			_exit(0);
		live_wait(pid);
	}
	live_press();
}

static void clone_raw_rule01_rule04(void)
{
	struct arena arena = arena_new(live_pages(), 20);
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	pid = clone_raw();
	if (pid == 0) {
		arena_check(&arena, 0, arena.nr_pages);
		write_every_other(&arena, 0, 2);
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	write_every_other(&arena, 1, 3);
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
}

/* A grandchild by raw clone whose parents are gone: no hook of ours has run in any of them. */
static void clone_raw_orphan_rule01(void)
{
	struct arena arena = arena_new(live_pages(), 21);
	int report[2];
	char word[3] = "";
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(pipe(report) == 0);
	pid = clone_raw();
	if (pid == 0) {
		write_every_other(&arena, 0, 2);
		if (clone_raw() != 0)
			_exit(0);
		usleep(50000);
		arena_check(&arena, 0, arena.nr_pages);
		write_every_other(&arena, 1, 3);
		arena_check(&arena, 0, arena.nr_pages);
		CHECK(write(report[1], "ok", 2) == 2);
		_exit(0);
	}
	close(report[1]);
	live_wait(pid);
	arena_fill(&arena, 0, arena.nr_pages / 2, 4);
	CHECK(read(report[0], word, 2) == 2 && strcmp(word, "ok") == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

struct survivor {
	struct arena arena;
	pid_t maker;
	int report;
};

static int survivor_main(void *arg)
{
	const struct survivor *survivor = arg;

	while (getppid() == survivor->maker)
		usleep(1000);
	usleep(300000);
	arena_check(&survivor->arena, 0, survivor->arena.nr_pages / 2);
	CHECK(write(survivor->report, "ok", 2) == 2);
	_exit(0);
}

/* A process is killed while another lives in its memory, as a child of vfork does until it execs. */
static void memory_outlives_its_process(void)
{
	static char stack[64 << 10] __attribute__((aligned(64)));
	int report[2], status;
	char word[3] = "";

	CHECK(pipe(report) == 0);
	pid_t pid = child_start();
	if (pid == 0) {
		struct survivor survivor = { arena_new(live_pages(), 36), getpid(), report[1] };
		arena_fill(&survivor.arena, 0, survivor.arena.nr_pages, 1);
		arena_cold(&survivor.arena, 0, survivor.arena.nr_pages / 2);
		CHECK(clone(survivor_main, stack + sizeof(stack), CLONE_VM | SIGCHLD, &survivor) > 0);
		raise(SIGKILL);
	}
	close(report[1]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK(read(report[0], word, 2) == 2 && strcmp(word, "ok") == 0);
}

static const struct live_case cases[] = {
	{ "fork-then-both-write", fork_then_both_write },
	{ "fork-then-pressure-rule18", fork_then_pressure_rule18 },
	{ "fork-parent-exits-first-rule04", fork_parent_exits_first_rule04 },
	{ "fork-and-end-rule04", fork_and_end_rule04 },
	{ "fork-program-exits-first-rule04", fork_program_exits_first_rule04 },
	{ "grandchildren-rule04", grandchildren_rule04 },
	{ "child-is-demoted-too-rule03", child_is_demoted_too_rule03 },
	{ "many-short-children", many_short_children },
	{ "many-children-at-once", many_children_at_once },
	{ "fork-beside-busy-threads", fork_beside_busy_threads },
	{ "fork-beside-moves", fork_beside_moves },
	{ "fork-told-after-a-move", fork_told_after_a_move },
	{ "fork-told-after-two-moves", fork_told_after_two_moves },
	{ "fork-told-after-unmapping", fork_told_after_unmapping },
	{ "fork-told-before-a-move", fork_told_before_a_move },
	{ "moves-told-the-other-way-round", moves_told_the_other_way_round },
	{ "changed-then-forked", changed_then_forked_all },
	{ "changed-then-forked-threaded", changed_then_forked_threaded },
	{ "fork-keeps-advice", fork_keeps_advice },
	{ "wiped-while-held", wiped_while_held },
	{ "helper-killed-fork", helper_killed_fork },
	{ "child-changes-at-once", child_changes_at_once },
	{ "child-changes-at-once-full", child_changes_at_once_full },
	{ "child-unmaps-all", child_unmaps_all },
	{ "clone-raw-rule01-rule04", clone_raw_rule01_rule04 },
	{ "clone-raw-orphan-rule01", clone_raw_orphan_rule01 },
	{ "memory-outlives-its-process", memory_outlives_its_process },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
