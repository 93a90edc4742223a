/* SPDX-License-Identifier: MIT */
/*
 * Arenas, their checks, and the pressure that makes them leave. See live.h.
 *
 * Messages go out with dprintf and the process ends with _exit: a check may fail in a signal
 * handler, in a vfork child, or in one of many threads.
 */
#include "live.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

size_t live_budget_bytes;
const char *live_self;

static struct arena ballast;

static void __attribute__((format(printf, 2, 0)))
live_say(const char *prefix, const char *format, va_list args)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, args);
	dprintf(2, "%s %s\n", prefix, text);
}

void live_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	live_say("FAILED", format, args);
	va_end(args);
	_exit(1);
}

void live_late(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	live_say("LATE", format, args);
	va_end(args);
	_exit(1);
}

void live_skip(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	live_say("SKIP", format, args);
	va_end(args);
	_exit(LIVE_SKIP);
}

size_t live_pages(void)
{
	return (live_budget_bytes ? 2 * live_budget_bytes : 64 * MIB) / PAGE_BYTES;
}

struct arena arena_at(void *base, size_t nr_pages, uint64_t seed)
{
	struct arena arena = { .base = base, .nr_pages = nr_pages, .seed = seed };

	arena.generation = calloc(nr_pages, sizeof(*arena.generation));
	CHECK(arena.generation);
	return arena;
}

struct arena arena_new(size_t nr_pages, uint64_t seed)
{
	void *base = mmap(NULL, nr_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(base != MAP_FAILED);
	return arena_at(base, nr_pages, seed);
}

void arena_free(struct arena *arena)
{
	CHECK(munmap(arena->base, arena->nr_pages * PAGE_BYTES) == 0);
	free(arena->generation);
	arena->base = NULL;
}

unsigned char *arena_page(const struct arena *arena, size_t index)
{
	return arena->base + index * PAGE_BYTES;
}

void arena_fill(struct arena *arena, size_t from, size_t to, uint32_t generation)
{
	for (size_t i = from; i < to; i++) {
		pattern_page(arena_page(arena, i), arena->seed, i, generation);
		arena->generation[i] = generation;
	}
}

void arena_forget(struct arena *arena, size_t from, size_t to)
{
	memset(arena->generation + from, 0, (to - from) * sizeof(*arena->generation));
}

void arena_check(const struct arena *arena, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		page_check(arena_page(arena, i), arena->seed, i, arena->generation[i]);
}

/* Say what a wrong page holds instead, when that is something we once wrote. */
static const char *page_guess(const unsigned char *page, uint64_t seed, uint64_t index,
			      uint32_t generation)
{
	unsigned char other[PAGE_BYTES];

	for (uint32_t g = 0; g < generation + 8; g++) {
		pattern_page(other, seed, index, g);
		if (memcmp(page, other, PAGE_BYTES) == 0)
			return g == 0 ? "page is zeros" :
			       g < generation ? "page is of an older generation" :
						"page is of a newer generation";
	}
	return "page is none of this index";
}

void page_check(const void *page, uint64_t seed, uint64_t index, uint32_t generation)
{
	const unsigned char *got = page;
	unsigned char expected[PAGE_BYTES];
	unsigned char copy[PAGE_BYTES];
	size_t at = 0;

	pattern_page(expected, seed, index, generation);
	if (memcmp(got, expected, PAGE_BYTES) == 0)
		return;
	memcpy(copy, got, PAGE_BYTES);
	while (at < PAGE_BYTES && copy[at] == expected[at])
		at++;
	if (at == PAGE_BYTES) {
		dprintf(2, "MISMATCH address %p page %llu: differed once, equal on a second look\n",
			page, (unsigned long long)index);
		_exit(1);
	}
	dprintf(2, "MISMATCH address %p page %llu generation %u offset %zu expected %02x got %02x: "
		"%s\n", page, (unsigned long long)index, generation, at, expected[at], copy[at],
		page_guess(copy, seed, index, generation));
	_exit(1);
}

size_t arena_absent_pages(const struct arena *arena, size_t from, size_t to)
{
	uint64_t entries[512];
	size_t nr_absent = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	for (size_t i = from; i < to;) {
		size_t nr = to - i < 512 ? to - i : 512;
		off_t offset = (off_t)((uintptr_t)arena_page(arena, i) / PAGE_BYTES * 8);

		CHECK(pread(fd, entries, nr * 8, offset) == (ssize_t)(nr * 8));
		for (size_t j = 0; j < nr; j++)
			/* Neither present (bit 63) nor in the kernel's swap (bit 62). */
			nr_absent += arena->generation[i + j] != 0 && entries[j] >> 62 == 0;
		i += nr;
	}
	close(fd);
	return nr_absent;
}

void live_press(void)
{
	size_t nr_pages = (live_budget_bytes ? live_budget_bytes * 5 / 4 : 16 * MIB) / PAGE_BYTES;

	if (!ballast.base) {
		ballast = arena_new(nr_pages, 0xba11a57);
		arena_fill(&ballast, 0, nr_pages, 1);
	}
	arena_check(&ballast, 0, nr_pages);
}

void arena_cold(const struct arena *arena, size_t from, size_t to)
{
	struct timespec pause = { .tv_nsec = 5000000 };
	size_t nr_written = 0, nr_absent = 0;

	live_press();
	if (!live_budget_bytes)
		return;
	for (size_t i = from; i < to; i++)
		nr_written += arena->generation[i] != 0;
	for (unsigned int round = 0; round < PRESS_ROUNDS; round++) {
		nr_absent = arena_absent_pages(arena, from, to);
		if (nr_absent * 2 >= nr_written)
			return;
		nanosleep(&pause, NULL);
		live_press();
	}
	live_late("only %zu of %zu pages left memory under pressure", nr_absent, nr_written);
}

void live_told(const char *name)
{
	const char *folder = getenv("LIVE_TMP");
	char path[4096];

	CHECK(folder && snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path));
	while (live_budget_bytes && access(path, F_OK) != 0)
		usleep(20000);
}

pid_t child_start(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	return pid;
}

pid_t clone_raw(void)
{
	long pid = syscall(SYS_clone, (unsigned long)SIGCHLD, 0ul, 0ul, 0ul, 0ul);

	CHECK(pid >= 0);
	return (pid_t)pid;
}

void live_wait(pid_t pid)
{
	int status = 0;
	pid_t got;

	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	CHECK(got == pid);
	if (status == LIVE_SKIP << 8)
		_exit(LIVE_SKIP);
	if (status != 0)
		live_fail("child %d ended with wait status 0x%x", (int)pid, (unsigned int)status);
}

void child_grows(struct arena *arena, uint64_t seed)
{
	pid_t pid = child_start();

	if (pid == 0) {
		struct arena own = arena_new(live_pages(), seed);

		arena_fill(&own, 0, own.nr_pages, 1);
		arena_cold(&own, 0, own.nr_pages);
		arena_check(&own, 0, own.nr_pages);
		arena_check(arena, 0, arena->nr_pages);
		_exit(0);
	}
	live_wait(pid);
	arena_check(arena, 0, arena->nr_pages);
}

unsigned char *space_reserve(size_t bytes)
{
	void *base = mmap(NULL, bytes, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);

	CHECK(base != MAP_FAILED);
	return base;
}

void space_commit(void *base, size_t bytes)
{
	CHECK(mmap(base, bytes, RW, ANON | MAP_FIXED, -1, 0) == base);
}

static sigjmp_buf segv_jump;
static volatile sig_atomic_t segv_code;

static void segv_note(int signal_number, siginfo_t *info, void *context)
{
	(void)signal_number;
	(void)context;
	segv_code = info->si_code;
	siglongjmp(segv_jump, 1);
}

int access_fault(volatile unsigned char *at, bool write)
{
	if (sigsetjmp(segv_jump, 1))
		return segv_code;
	if (write)
		*at = *at;
	else
		(void)*at;
	return 0;
}

void segv_catch(void)
{
	struct sigaction action = { .sa_sigaction = segv_note, .sa_flags = SA_SIGINFO };

	CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
}

int live_main(int argc, char **argv, const struct live_case *cases)
{
	const char *budget = getenv("LIVE_BUDGET_MIB");

	live_self = argv[0];
	if (budget)
		live_budget_bytes = (size_t)strtoul(budget, NULL, 10) * MIB;
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (const struct live_case *c = cases; c->name; c++)
			puts(c->name);
		return 0;
	}
	for (const struct live_case *c = cases; argc >= 2 && c->name; c++) {
		if (strcmp(argv[1], c->name) == 0) {
			c->run();
			return 0;
		}
	}
	dprintf(2, "usage: %s list | CASE\n", argv[0]);
	return 2;
}
