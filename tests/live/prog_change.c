/* SPDX-License-Identifier: MIT */
/*
 * Live cases: mappings that change beside a fork.
 *
 * What was moved or unmapped shortly before a fork, beside it in another thread, or as the first deed of the
 * child is told to the server in another order than it was done in. Parent and child must find every byte where
 * each of them has it.
 */
#include "live.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- told in some order -------------------------------------------------------------------------- */

#define MOVED_PAGES 256u
#define MOVED_BYTES (MOVED_PAGES * PAGE_BYTES)

/* Memory that is moved to and fro between two places, which are far from where the kernel puts anything. */
struct moved {
	struct arena arena;
	unsigned char *places[2];
};

/* Where a child has it: at one of the two. */
static void moved_check(struct moved *m)
{
	unsigned char seen[MOVED_PAGES];
	unsigned nr = 0;

	for (unsigned i = 0; i < 2; i++) {
		if (mincore(m->places[i], MOVED_BYTES, seen))
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
 * Memory that one thread moves or unmaps just while another forks: the child has it at one place or the other, whole.
 * Left to chance hardly anything is told in another order than it was done in. So a second userfaultfd, of a few
 * pages, holds a thread up between its deed and telling of it: the kernel tells one after the other, and waits for
 * each.
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
	unsigned char *before = other.base;
	pthread_t thread;

	arena_fill(&other, 0, MOVED_PAGES, 1);
	arena_cold(&other, 0, MOVED_PAGES);
	/* What a very first move tells next may be read with it, and then nobody can tell: it is not the first. */
	other.base = space_reserve(MOVED_BYTES);
	CHECK(mremap(before, MOVED_BYTES, MOVED_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, other.base) == other.base);
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

/*
 * What lies below has grown into the place that was left, untouched, and has left again, all of which is told first.
 * Both are whole; what has grown is zeros.
 */
static void grown_over_and(bool moved)
{
	struct moved m = moved_new();
	unsigned char *below = m.places[0] - MOVED_BYTES, *there = m.places[0] - 64 * MIB;
	struct hold_up h = hold_up_new((uintptr_t)m.places[1], UFFD_FEATURE_EVENT_UNMAP);
	pthread_t thread;

	CHECK(mmap(below, MOVED_BYTES, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) == below);
	struct arena other = arena_at(below, 2 * MOVED_PAGES, 42);
	arena_fill(&other, 0, MOVED_PAGES, 1);
	arena_cold(&other, 0, MOVED_PAGES);
	CHECK(pthread_create(&thread, NULL, moves_at_last, &m) == 0);
	hold_up_wait(&h);
	CHECK(mremap(below, MOVED_BYTES, 2 * MOVED_BYTES, 0) == below);
	if (moved)
		CHECK(mremap(below, 2 * MOVED_BYTES, 2 * MOVED_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
	else
		CHECK(munmap(below, 2 * MOVED_BYTES) == 0);
	other.base = there;
	hold_up_end(&h);
	CHECK(pthread_join(thread, NULL) == 0);
	m.arena.base = m.places[1];
	for (unsigned round = 0; round < 2; round++) {
		arena_check(&m.arena, 0, MOVED_PAGES);
		if (moved)
			arena_check(&other, 0, 2 * MOVED_PAGES);
		arena_cold(&m.arena, 0, MOVED_PAGES);
	}
}

static void grown_over_and_moved(void)
{
	grown_over_and(true);
}

static void grown_over_and_unmapped(void)
{
	grown_over_and(false);
}

static void *both_move_at_last(void *arg)
{
	struct moved *m = arg;

	CHECK(mremap(m->places[0], 2 * MOVED_BYTES, 2 * MOVED_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, m->places[1]) ==
	      m->places[1]);
	return NULL;
}

/*
 * What was moved had grown behind, untouched. Before that is told another thread moves memory of its own to where that
 * was: it is told first, and is not taken along.
 */
static void moved_to_where_grown_memory_was(void)
{
	struct moved m = moved_new();
	unsigned char *behind = m.places[0] + MOVED_BYTES;
	struct arena other = arena_new(MOVED_PAGES, 43);
	struct hold_up h = hold_up_new((uintptr_t)m.places[1] + MOVED_BYTES, UFFD_FEATURE_EVENT_UNMAP);
	pthread_t thread;

	arena_fill(&other, 0, MOVED_PAGES, 1);
	arena_cold(&other, 0, MOVED_PAGES);
	/* What a program's first move tells may be read with what comes next, and nobody can tell then. */
	unsigned char *before = other.base;
	other.base = space_reserve(MOVED_BYTES);
	CHECK(mremap(before, MOVED_BYTES, MOVED_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, other.base) == other.base);
	CHECK(mremap(m.places[0], MOVED_BYTES, 2 * MOVED_BYTES, 0) == m.places[0]);
	CHECK(pthread_create(&thread, NULL, both_move_at_last, &m) == 0);
	hold_up_wait(&h);
	CHECK(mremap(other.base, MOVED_BYTES, MOVED_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, behind) == behind);
	other.base = behind;
	hold_up_end(&h);
	CHECK(pthread_join(thread, NULL) == 0);
	m.arena.base = m.places[1];
	arena_check(&m.arena, 0, MOVED_PAGES);
	arena_check(&other, 0, MOVED_PAGES);
}

/* ---- changed, then forked ------------------------------------------------------------------- */

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

/* Unmapped, what is below grown into it, forked: what has grown is new, for the child as well. */
static void grown_then_forked(void)
{
	struct arena arena = arena_new(live_pages(), 46);
	const size_t part = arena.nr_pages / 4, bytes = part * PAGE_BYTES;

	for (unsigned round = 1; round <= 3; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		live_press();
		CHECK(munmap(arena_page(&arena, part), bytes) == 0);
		CHECK(mremap(arena.base, bytes, 2 * bytes, 0) == arena.base);
		pid_t pid = child_start();
		if (pid != 0 && round == 3)
			CHECK(munmap(arena_page(&arena, part), bytes) == 0);
		if (pid != 0 && round == 2)
			CHECK(madvise(arena_page(&arena, part), bytes, MADV_DONTNEED) == 0);
		for (size_t at = bytes; at < 2 * bytes && (pid == 0 || round != 3); at++)
			CHECK(arena.base[at] == 0);
		arena_check(&arena, 0, part);
		arena_check(&arena, 2 * part, arena.nr_pages);
		if (pid == 0)
			_exit(0);
		live_wait(pid);
	}
	arena_free(&arena);
}

/* An mmap that the kernel refuses, though it tells that what is there goes; forked: that is there, and the child's. */
static void refused_then_forked(void)
{
	struct arena arena = arena_new(live_pages(), 47);
	const size_t half = arena.nr_pages / 2, bytes = (arena.nr_pages + half) * PAGE_BYTES;
	struct rlimit limit, none;

	CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
	none = (struct rlimit){ MIB, limit.rlim_max };
	for (unsigned round = 1; round <= 3; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		arena_cold(&arena, 0, half);
		CHECK(setrlimit(RLIMIT_DATA, &none) == 0);
		CHECK(mmap(arena.base, bytes, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED);
		pid_t pid = child_start();
		CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
		arena_check(&arena, 0, arena.nr_pages);
		if (pid == 0)
			_exit(0);
		live_wait(pid);
	}
	arena_free(&arena);
}

static void changed_then_forked_all(void)
{
	for (unsigned kind = 0; kind < 4; kind++)
		changed_then_forked(kind);
	changed_then_a_daemon();
	changed_in_pieces();
	grown_then_forked();
	refused_then_forked();
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

/* ---- children that change at once -------------------------------------------------------------- */

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
	struct arena arena = arena_new(live_pages(), 38);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
}

static const struct live_case cases[] = {
	{ "fork-told-after-a-move", fork_told_after_a_move },
	{ "fork-told-after-two-moves", fork_told_after_two_moves },
	{ "fork-told-after-unmapping", fork_told_after_unmapping },
	{ "fork-told-before-a-move", fork_told_before_a_move },
	{ "moves-told-the-other-way-round", moves_told_the_other_way_round },
	{ "grown-over-and-moved", grown_over_and_moved },
	{ "grown-over-and-unmapped", grown_over_and_unmapped },
	{ "moved-to-where-grown-memory-was", moved_to_where_grown_memory_was },
	{ "changed-then-forked", changed_then_forked_all },
	{ "changed-then-forked-threaded", changed_then_forked_threaded },
	{ "child-changes-at-once", child_changes_at_once },
	{ "child-changes-at-once-full", child_changes_at_once_full },
	{ "child-unmaps-all", child_unmaps_all },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
