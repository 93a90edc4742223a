/* SPDX-License-Identifier: MIT */
/*
 * Programs for the driver, which interrupts them, stops them, or robs them of their server; and those whose memory it
 * watches: what they have is theirs for as long as they are.
 */
#include "live.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A proof that the comparison sees a single wrong bit. */
static void wrong_byte_is_seen(void)
{
	struct arena arena = arena_new(live_pages(), 37);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	*(arena_page(&arena, 100) + 4000) ^= 1;
	arena_check(&arena, 0, arena.nr_pages);
}

static volatile sig_atomic_t interrupted;

static void interrupt_note(int signal_number)
{
	interrupted = signal_number;
}

static void say(const char *line)
{
	CHECK(write(1, line, strlen(line)) == (ssize_t)strlen(line));
}

/* Goes round its memory, a line each round, until it is interrupted or killed. */
static void hold_rounds(unsigned int seed)
{
	struct arena arena = arena_new(live_pages(), seed);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	say("ready\n");
	for (uint32_t round = 2; !interrupted; round++) {
		arena_check(&arena, 0, arena.nr_pages);
		arena_fill(&arena, 0, arena.nr_pages / 4, round);
		live_press();
		say("round\n");
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* Twice its budget, of which half is elsewhere; the driver gives it more, too. */
static void dumps_core(void)
{
	struct rlimit limit;
	struct arena arena = arena_new(live_pages(), 43);

	CHECK(getrlimit(RLIMIT_CORE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	abort();
}

static void hold(void)
{
	hold_rounds(40);
}

static void hold_until_signal(void)
{
	struct sigaction action = { .sa_handler = interrupt_note, .sa_flags = SA_RESTART };

	CHECK(sigaction(SIGINT, &action, NULL) == 0 && sigaction(SIGTERM, &action, NULL) == 0);
	hold_rounds(41);
	say(interrupted == SIGINT ? "interrupted\n" : "terminated\n");
}

#define GROUP 16u /* pages that change at a time */

/* One thread looks at all of an arena, and writes parts of it; another changes the mappings of a second one: pages go
 * away, and others come in their place, or move to and fro. Until it is interrupted; then all is compared. */
static void *arena_look(void *argument)
{
	struct arena *arena = argument;

	for (uint32_t round = 2; !interrupted; round++) {
		arena_check(arena, 0, arena->nr_pages);
		arena_fill(arena, 0, arena->nr_pages / 8, round);
	}
	return NULL;
}

static void mapping_change(struct arena *arena, size_t from, size_t to, unsigned int kind)
{
	unsigned char *base = arena_page(arena, from), *away;
	size_t bytes = (to - from) * PAGE_BYTES;

	if (kind == 0) {
		CHECK(madvise(base, bytes, MADV_DONTNEED) == 0);
		arena_forget(arena, from, to);
	} else if (kind == 1) {
		CHECK(mmap(base, bytes, RW, ANON | MAP_FIXED, -1, 0) == base);
		arena_forget(arena, from, to);
	} else if (kind == 2) {
		away = mremap(base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, space_reserve(bytes));
		CHECK(away != MAP_FAILED);
		CHECK(mremap(away, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, base) == base);
	}
}

static void changes_until_signal(void)
{
	struct sigaction action = { .sa_handler = interrupt_note, .sa_flags = SA_RESTART };
	struct arena looked = arena_new(live_pages() / 8, 46), changed = arena_new(live_pages() / 8, 47);
	uint64_t state = 48;
	pthread_t thread;

	CHECK(sigaction(SIGTERM, &action, NULL) == 0);
	arena_fill(&looked, 0, looked.nr_pages, 1);
	CHECK(pthread_create(&thread, NULL, arena_look, &looked) == 0);
	for (uint32_t round = 1; !interrupted; round++) {
		size_t from = live_random(&state) % (changed.nr_pages / GROUP) * GROUP;
		mapping_change(&changed, from, from + GROUP, live_random(&state) % 4);
		arena_check(&changed, from, from + GROUP);
		arena_fill(&changed, from, from + GROUP, round);
		usleep(200);
	}
	CHECK(pthread_join(thread, NULL) == 0);
	arena_check(&looked, 0, looked.nr_pages);
	arena_check(&changed, 0, changed.nr_pages);
}

/* It has forked, and its child ends when it is told to: its pages are its own again, and its helper is asked to see to
 * that. Told to itself, it grows to more than its budget. */
static void grows_when_told(void)
{
	struct sigaction action = { .sa_handler = interrupt_note };
	struct arena first = arena_new(live_pages() / 4, 49), more = arena_new(live_pages(), 50);

	CHECK(sigaction(SIGTERM, &action, NULL) == 0);
	arena_fill(&first, 0, first.nr_pages, 1);
	live_press();
	arena_check(&first, 0, first.nr_pages);
	pid_t child = fork();
	CHECK(child >= 0);
	while (!interrupted)
		usleep(1000);
	if (!child)
		_exit(0);
	arena_fill(&more, 0, more.nr_pages, 1);
	say("grown\n");
	live_wait(child);
	arena_check(&first, 0, first.nr_pages);
	arena_check(&more, 0, more.nr_pages);
}

static void hold_family(void)
{
	if (fork() == 0)
		hold_rounds(42);
	if (fork() == 0)
		hold_rounds(43);
	hold_rounds(44);
}

/* All memory fits: nothing of ours may be felt. The driver reads the statistics. */
static void fits_rule23(void)
{
	struct arena arena = arena_new(live_pages(), 45);

	for (uint32_t round = 1; round < 5; round++) {
		arena_fill(&arena, 0, arena.nr_pages, round);
		arena_check(&arena, 0, arena.nr_pages);
		CHECK(madvise(arena.base, MIB, MADV_DONTNEED) == 0);
		arena_forget(&arena, 0, PAGES_PER_MIB);
		CHECK(arena_absent_pages(&arena, 0, arena.nr_pages) == 0);
	}
}

/* As fast as it can, to more than three times the budget. */
static void allocates_fast(void)
{
	size_t nr = live_pages() / 2;
	struct arena arenas[8];

	for (unsigned int i = 0; i < 8; i++) {
		arenas[i] = arena_new(nr, 50 + i);
		arena_fill(&arenas[i], 0, nr, 1);
	}
	for (unsigned int i = 0; i < 8; i++)
		arena_check(&arenas[i], 0, nr);
}

/* Nothing happens for a while, so nobody looks often; then as fast as it can again. */
static void allocates_after_rest(void)
{
	struct arena arenas[4];

	for (unsigned int i = 0; i < 4; i++) {
		usleep(1500000);
		arenas[i] = arena_new(live_pages(), 60 + i);
		arena_fill(&arenas[i], 0, arenas[i].nr_pages, 1);
	}
	for (unsigned int i = 0; i < 4; i++)
		arena_check(&arenas[i], 0, arenas[i].nr_pages);
}

/* Under pressure once, then nothing to do for anybody. */
static void rest_after_pressure(void)
{
	struct arena arena = arena_new(live_pages(), 64);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	pause();
}

static unsigned char *mapped(size_t bytes, int flags, int fd)
{
	unsigned char *at = mmap(NULL, bytes, RW, flags, fd, 0);

	CHECK(at != MAP_FAILED);
	return at;
}

/* Some of each kind of memory that is left alone; how much, the driver knows. */
static void unmanaged_until_signal(void)
{
	struct sigaction action = { .sa_handler = interrupt_note };
	struct arena arena = arena_new(live_pages(), 46);
	struct uffdio_api api = { .api = UFFD_API };
	volatile unsigned char stack[3 * MIB];
	int fd = memfd_create("live", MFD_CLOEXEC), own;

	CHECK(sigaction(SIGINT, &action, NULL) == 0);
	memset((void *)(uintptr_t)stack, 1, sizeof stack);
	CHECK(mlock(memset(mapped(8 * MIB, ANON, -1), 1, 8 * MIB), 8 * MIB) == 0);
	memset(mapped(12 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1), 1, 12 * MIB);
	CHECK(fd >= 0 && ftruncate(fd, 24 * (off_t)MIB) == 0);
	memset(mapped(24 * MIB, MAP_PRIVATE, fd), 1, MIB);
	own = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_register area = { .range = { (uintptr_t)mapped(6 * MIB, ANON, -1), 6 * MIB },
					.mode = UFFDIO_REGISTER_MODE_MISSING };
	if (own < 0 || ioctl(own, UFFDIO_API, &api))
		live_skip("no userfaultfd for programs here");
	CHECK(ioctl(own, UFFDIO_REGISTER, &area) == 0);
	for (unsigned int i = 0; i < 32; i++) { /* each between two that nobody may touch */
		unsigned char *at = space_reserve(6 * PAGE_BYTES);
		space_commit(at + 2 * PAGE_BYTES, 2 * PAGE_BYTES);
	}
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	while (!interrupted)
		usleep(20000);
	arena_check(&arena, 0, arena.nr_pages);
	CHECK(stack[MIB] == 1);
}

static const struct live_case cases[] = {
	{ "dumps-core", dumps_core },
	{ "wrong-byte-is-seen", wrong_byte_is_seen },
	{ "allocates-fast", allocates_fast },
	{ "allocates-after-rest", allocates_after_rest },
	{ "rest-after-pressure", rest_after_pressure },
	{ "fits-rule23", fits_rule23 },
	{ "hold", hold },
	{ "hold-until-signal", hold_until_signal },
	{ "hold-family", hold_family },
	{ "unmanaged-until-signal", unmanaged_until_signal },
	{ "grows-when-told", grows_when_told },
	{ "changes-until-signal", changes_until_signal },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
