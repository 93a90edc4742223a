/* SPDX-License-Identifier: MIT */
/*
 * Two or more processes with one memory, on the slow node to begin with. The first touches the first half of
 * it all the time, the others have all of it mapped and do nothing. On SIGTERM all compare every
 * byte.
 *
 *     vm_share anon|file|private|sysv|copy [MIB [SLOW-NODE [PATH [OTHERS]]]]
 *
 * anon: shared anonymous memory; sysv: a segment; file: a file on a tmpfs (or at PATH) that the others
 * map from its second quarter on; private: the same file, mapped privately by all, and the first has
 * written the first quarter; copy: the same, but it may be read only.
 *
 * Standard output has a JSON object "ready" with the pids, a "report" each second and an "end" with where
 * the pages are.
 */
#include "vm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED = 7, MAX_OTHERS = 16 };

static volatile sig_atomic_t ended;
static const char *kind = "anon", *path = "/tmp/vm_share";
static unsigned int slow = 1;
static size_t nr_pages = 64 * PAGES_PER_MIB, nr_others = 1;

static void note_end(int number)
{
	(void)number;
	ended = 1;
}

static bool is(const char *name)
{
	return strcmp(kind, name) == 0;
}

static void file_write(void)
{
	unsigned char *memory;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)(nr_pages * PAGE_BYTES)) == 0);
	memory = mmap(NULL, nr_pages * PAGE_BYTES, RW, MAP_SHARED, fd, 0);
	CHECK(memory != MAP_FAILED);
	struct arena arena = arena_at(memory, nr_pages, SEED);
	arena_fill(&arena, 0, nr_pages, 1);
	arena_free(&arena);
	close(fd);
}

static unsigned char *file_map(size_t first_page)
{
	int fd = open(path, O_RDWR);
	void *memory = mmap(NULL, (nr_pages - first_page) * PAGE_BYTES, is("copy") ? PROT_READ : RW,
			    is("file") ? MAP_SHARED : MAP_PRIVATE, fd, (off_t)(first_page * PAGE_BYTES));

	CHECK(fd >= 0 && memory != MAP_FAILED);
	close(fd);
	return memory;
}

static unsigned char *memory_new(void)
{
	void *memory;

	if (is("anon")) {
		memory = mmap(NULL, nr_pages * PAGE_BYTES, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		CHECK(memory != MAP_FAILED);
		return memory;
	}
	if (is("sysv")) {
		int id = shmget(IPC_PRIVATE, nr_pages * PAGE_BYTES, IPC_CREAT | 0600);

		CHECK(id >= 0);
		memory = shmat(id, NULL, 0);
		CHECK(memory != (void *)-1 && shmctl(id, IPC_RMID, NULL) == 0);
		return memory;
	}
	file_write();
	return file_map(0);
}

/* Another process: at another address, and from another page of the file on. */
static void other_live(unsigned char *memory)
{
	size_t first = is("anon") || is("sysv") ? 0 : nr_pages / 4;

	/* As the file has them, whatever the first one wrote into its own copies. */
	if (first)
		memory = file_map(first) - first * PAGE_BYTES;
	struct arena arena = arena_at(memory, nr_pages, SEED);
	for (size_t i = 0; i < nr_pages; i++)
		arena.generation[i] = 1;
	arena_check(&arena, first, nr_pages);
	CHECK(kill(getppid(), SIGUSR1) == 0);
	while (!ended)
		pause();
	arena_check(&arena, first, nr_pages);
	_exit(0);
}

/* Where the pages are. */
static void report(const char *what, const unsigned char *memory)
{
	printf("{\"what\": \"%s\", \"slow_bytes\": %zu, \"hot_slow_bytes\": %zu}\n", what,
	       vm_pages_on(memory, nr_pages, slow) * PAGE_BYTES,
	       vm_pages_on(memory, nr_pages / 2, slow) * PAGE_BYTES);
	fflush(stdout);
}

static void touch(unsigned char *memory)
{
	volatile unsigned char *bytes = memory;
	uint64_t next_ns = 0;

	while (!ended) {
		if (vm_now_ns() >= next_ns) {
			report("report", memory);
			next_ns = vm_now_ns() + 1000000000;
		}
		for (size_t i = 0; i < nr_pages / 2 && !ended; i++) {
			unsigned char byte = bytes[i * PAGE_BYTES];

			/* The same again: a write, which copies nothing that was not copied before. */
			if (!is("copy") && (!is("private") || i < nr_pages / 4))
				bytes[i * PAGE_BYTES] = byte;
		}
		usleep(1000);
	}
}

static pid_t other_start(unsigned char *memory)
{
	sigset_t ready;
	int number;
	pid_t other = fork();

	CHECK(other >= 0);
	if (other == 0)
		other_live(memory);
	sigemptyset(&ready);
	sigaddset(&ready, SIGUSR1);
	CHECK(sigwait(&ready, &number) == 0);
	return other;
}

int main(int argc, char **argv)
{
	pid_t others[MAX_OTHERS];
	sigset_t ready;

	kind = argc > 1 ? argv[1] : kind;
	nr_pages = argc > 2 ? strtoul(argv[2], NULL, 10) * PAGES_PER_MIB : nr_pages;
	slow = argc > 3 ? (unsigned int)strtoul(argv[3], NULL, 10) : slow;
	path = argc > 4 ? argv[4] : path;
	nr_others = argc > 5 ? strtoul(argv[5], NULL, 10) : nr_others;
	CHECK(nr_others <= MAX_OTHERS);
	CHECK(is("anon") || is("file") || is("private") || is("sysv") || is("copy"));
	sigemptyset(&ready);
	sigaddset(&ready, SIGUSR1);
	CHECK(sigprocmask(SIG_BLOCK, &ready, NULL) == 0);
	signal(SIGTERM, note_end);

	vm_home(slow);
	struct arena arena = arena_at(memory_new(), nr_pages, SEED);
	if (is("anon") || is("sysv"))
		arena_fill(&arena, 0, nr_pages, 1);
	for (size_t i = 0; i < nr_pages; i++)
		arena.generation[i] = 1;
	/* What it wrote shall not be copied once more for the fork. */
	if (is("private")) {
		arena_fill(&arena, 0, nr_pages / 4, 2);
		CHECK(madvise(arena.base, nr_pages * PAGE_BYTES, MADV_DONTFORK) == 0);
	}
	vm_home_default();
	arena_check(&arena, 0, nr_pages);
	CHECK(vm_pages_on(arena.base, nr_pages, slow) == nr_pages);
	for (size_t i = 0; i < nr_others; i++)
		others[i] = other_start(arena.base);
	printf("{\"what\": \"ready\", \"pids\": [%d", (int)getpid());
	for (size_t i = 0; i < nr_others; i++)
		printf(", %d", (int)others[i]);
	printf("], \"bytes\": %zu, \"hot_bytes\": %zu}\n", nr_pages * PAGE_BYTES, nr_pages / 2 * PAGE_BYTES);
	fflush(stdout);
	touch(arena.base);
	report("end", arena.base);
	arena_check(&arena, 0, nr_pages);
	for (size_t i = 0; i < nr_others; i++) {
		CHECK(kill(others[i], SIGTERM) == 0);
		live_wait(others[i]);
	}
	return 0;
}
