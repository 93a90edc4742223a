/* SPDX-License-Identifier: MIT */
/*
 * Processes that start, fork, exec, unmap and die at random, and compare every byte meanwhile.
 *
 *     vm_storm [SECONDS [SEED [PROCESSES]]]
 *
 * So many workers are kept alive; one of four stays to the end, keeps half of its memory and uses
 * it, or nothing would live long enough to be found hot. Each has some memory, put on the slow node
 * first, and does one thing after the other that its seed says: reads and writes some pages again
 * and again, gives memory back, moves a mapping, forks a child that checks its copy, becomes a new
 * program, starts a thread, ends, or is killed in the middle. Whoever looks after them from outside
 * meets processes that are gone, young, or no longer what they were, all the time.
 *
 * A wrong byte ends its process with MISMATCH and status 1; then the whole ends with status 1.
 * Orphans come to the first process, so nobody's status is lost. At the end one JSON object says
 * how often each thing was done, as the workers counted in shared memory. SIGTERM ends it early.
 */
#include "vm.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOW_NODE = 1, NR_ARENAS = 2, COUNTS_FD = 100 };

enum deed {
	DEED_TOUCH, DEED_NEW, DEED_UNMAP, DEED_DISCARD, DEED_MOVE, DEED_FORK, DEED_THREAD, DEED_EXEC,
	DEED_EXIT, DEED_KILLED, NR_DEEDS
};

static const char *const deed_names[NR_DEEDS] = {
	"touch", "new", "unmap", "discard", "move", "fork", "thread", "exec", "exit", "killed"
};

struct counts {
	atomic_ulong deeds[NR_DEEDS];
	atomic_ulong compared_pages;
	atomic_bool over;
};

struct worker {
	uint64_t random;
	uint64_t end_ns;
	bool stays;
	struct arena arenas[NR_ARENAS];
};

static struct counts *counts;

static void count(enum deed deed)
{
	atomic_fetch_add_explicit(&counts->deeds[deed], 1, memory_order_relaxed);
}

static bool goes_on(uint64_t end_ns)
{
	return vm_now_ns() < end_ns && !atomic_load_explicit(&counts->over, memory_order_relaxed);
}

static void end_note(int number)
{
	(void)number;
	atomic_store_explicit(&counts->over, true, memory_order_relaxed);
}

static void sleep_ms(uint64_t ms)
{
	struct timespec pause = { .tv_sec = (time_t)(ms / 1000),
				  .tv_nsec = (long)(ms % 1000 * 1000000) };

	nanosleep(&pause, NULL);
}

static size_t below(struct worker *worker, size_t limit)
{
	return live_random(&worker->random) % limit;
}

static void compare(const struct arena *arena, size_t from, size_t to)
{
	arena_check(arena, from, to);
	atomic_fetch_add_explicit(&counts->compared_pages, to - from, memory_order_relaxed);
}

/* ---- what a worker does ---------------------------------------------------------------------- */

static void arena_begin(struct worker *worker, struct arena *arena)
{
	*arena = arena_new(256 + below(worker, 512), live_random(&worker->random));
	vm_home(SLOW_NODE);
	arena_fill(arena, 0, arena->nr_pages, 1);
	vm_home_default();
}

/* A few pages are hot for a while: read, compared, and written now and then. */
static void deed_touch(struct worker *worker, struct arena *arena)
{
	size_t nr = 1 + below(worker, arena->nr_pages);
	size_t from = below(worker, arena->nr_pages - nr + 1);

	for (size_t round = 0; round < 8; round++) {
		compare(arena, from, from + nr);
		if (round % 4 == 0)
			arena_fill(arena, from, from + nr, arena->generation[from] + 1);
		/* Who is looked after, and who does it, want the processors as well. */
		sleep_ms(worker->stays ? 15 : 15 + below(worker, 60));
	}
}

static void deed_new(struct worker *worker, struct arena *arena)
{
	compare(arena, 0, arena->nr_pages);
	arena_free(arena);
	arena_begin(worker, arena);
}

static void deed_unmap(struct worker *worker, struct arena *arena)
{
	size_t keep = arena->nr_pages / 2 + 1 + below(worker, arena->nr_pages / 2 + 1);

	if (keep >= arena->nr_pages)
		return;
	CHECK(munmap(arena_page(arena, keep), (arena->nr_pages - keep) * PAGE_BYTES) == 0);
	arena->nr_pages = keep;
	compare(arena, 0, keep);
}

static void deed_discard(struct worker *worker, struct arena *arena)
{
	size_t from = below(worker, arena->nr_pages);
	size_t to = from + 1 + below(worker, arena->nr_pages - from);

	CHECK(madvise(arena_page(arena, from), (to - from) * PAGE_BYTES, MADV_DONTNEED) == 0);
	arena_forget(arena, from, to);
	compare(arena, 0, arena->nr_pages);
}

static void deed_move(struct arena *arena)
{
	size_t bytes = arena->nr_pages * PAGE_BYTES;
	void *there = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(there != MAP_FAILED);
	CHECK(mremap(arena->base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, there) == there);
	arena->base = there;
	compare(arena, 0, arena->nr_pages);
}

/* The child has the same bytes, then others; some parents do not live to see its end. */
static void deed_fork(struct worker *worker)
{
	pid_t child = fork();

	CHECK(child >= 0);
	if (child > 0) {
		if (below(worker, 2))
			live_wait(child);
		return;
	}
	worker->random = pattern_mix(worker->random) | 1;
	for (size_t i = 0; i < NR_ARENAS; i++) {
		struct arena *arena = &worker->arenas[i];

		compare(arena, 0, arena->nr_pages);
		sleep_ms(below(worker, 100));
		arena_fill(arena, 0, arena->nr_pages, arena->generation[0] + 1);
		compare(arena, 0, arena->nr_pages);
	}
	_exit(0);
}

static void *compare_all(void *argument)
{
	struct arena *arena = argument;

	for (size_t round = 0; round < 4; round++) {
		compare(arena, 0, arena->nr_pages);
		sleep_ms(10);
	}
	return NULL;
}

static void deed_thread(struct worker *worker)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, compare_all, &worker->arenas[0]) == 0);
	compare_all(&worker->arenas[1]);
	CHECK(pthread_join(thread, NULL) == 0);
}

static void deed_exec(struct worker *worker)
{
	char seed[32], end[32];
	char *argv[] = { (char *)(uintptr_t)"vm_storm", (char *)(uintptr_t)"worker", seed, end, NULL };

	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)live_random(&worker->random));
	snprintf(end, sizeof(end), "%llu", (unsigned long long)worker->end_ns);
	execv("/proc/self/exe", argv);
	live_fail("exec: errno %d", errno);
}

static void do_deed(struct worker *worker, enum deed deed)
{
	/* The first is kept by who stays. */
	bool keeps = worker->stays && deed >= DEED_NEW && deed <= DEED_MOVE;
	struct arena *arena = &worker->arenas[keeps ? 1 : below(worker, NR_ARENAS)];

	count(deed);
	switch (deed) {
	case DEED_TOUCH: deed_touch(worker, arena); break;
	case DEED_NEW: deed_new(worker, arena); break;
	case DEED_UNMAP: deed_unmap(worker, arena); break;
	case DEED_DISCARD: deed_discard(worker, arena); break;
	case DEED_MOVE: deed_move(arena); break;
	case DEED_FORK: deed_fork(worker); break;
	case DEED_THREAD: deed_thread(worker); break;
	case DEED_EXEC: deed_exec(worker); break;
	case DEED_EXIT: _exit(0);
	case DEED_KILLED: kill(getpid(), SIGKILL); break;
	case NR_DEEDS: break;
	}
}

/* Touching comes most often, so that there is something to find out about. */
static enum deed next_deed(struct worker *worker)
{
	static const unsigned char odds[NR_DEEDS] = { 40, 6, 8, 8, 8, 10, 6, 4, 3, 3 };
	size_t at = below(worker, worker->stays ? 86 : 96);

	for (enum deed deed = 0; deed < NR_DEEDS; deed++) {
		if (at < odds[deed])
			return deed;
		at -= odds[deed];
	}
	return DEED_TOUCH;
}

static void work(uint64_t seed, uint64_t end_ns)
{
	struct worker worker = { .random = pattern_mix(seed) | 1, .end_ns = end_ns,
				 .stays = seed % 4 == 0 };

	for (size_t i = 0; i < NR_ARENAS; i++)
		arena_begin(&worker, &worker.arenas[i]);
	while (goes_on(end_ns)) {
		do_deed(&worker, next_deed(&worker));
		if (!worker.stays)
			sleep_ms(below(&worker, 30));
	}
	for (size_t i = 0; i < NR_ARENAS; i++)
		compare(&worker.arenas[i], 0, worker.arenas[i].nr_pages);
	_exit(0);
}

/* ---- the first process ----------------------------------------------------------------------- */

/* Shared by all, through exec as well. */
static void counts_open(bool first)
{
	if (first) {
		int fd = memfd_create("counts", 0);

		CHECK(fd >= 0 && ftruncate(fd, sizeof(*counts)) == 0);
		CHECK(dup2(fd, COUNTS_FD) == COUNTS_FD && close(fd) == 0);
	}
	counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, COUNTS_FD, 0);
	CHECK(counts != MAP_FAILED);
}

static void start(uint64_t seed, uint64_t end_ns)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		work(seed, end_ns);
}

/* Wait for one, own or orphan: 0 or the first bad status. */
static int reap(bool wait_for_it, pid_t *pid_ret)
{
	int status = 0;

	*pid_ret = waitpid(-1, &status, wait_for_it ? 0 : WNOHANG);
	if (*pid_ret <= 0 || status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
		return 0;
	return status;
}

static void print_counts(unsigned long nr_started, unsigned long nr_ended)
{
	printf("{\"started\": %lu, \"ended\": %lu, \"compared_pages\": %lu, \"deeds\": {", nr_started,
	       nr_ended, (unsigned long)atomic_load(&counts->compared_pages));
	for (size_t i = 0; i < NR_DEEDS; i++)
		printf("%s\"%s\": %lu", i ? ", " : "", deed_names[i],
		       (unsigned long)atomic_load(&counts->deeds[i]));
	printf("}}\n");
}

/*
 * A worker is ended by its deeds, so a new one is started for every process that ends beyond those
 * that were forked: the number alive stays at or above what was asked for.
 */
static int storm(uint64_t seconds, uint64_t seed, unsigned long nr_processes)
{
	uint64_t end_ns = vm_now_ns() + seconds * UINT64_C(1000000000);
	unsigned long nr_started = 0, nr_ended = 0;
	int bad = 0;
	pid_t pid;

	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
	CHECK(signal(SIGTERM, end_note) != SIG_ERR);
	for (; nr_started < nr_processes; nr_started++)
		start(seed + nr_started, end_ns);
	while (!bad && goes_on(end_ns)) {
		bad = reap(false, &pid);
		if (pid > 0) {
			nr_ended++;
			start(seed + nr_started++, end_ns);
		} else {
			sleep_ms(5);
		}
	}
	do {
		int status = reap(true, &pid);

		bad = bad ? bad : status;
		nr_ended += pid > 0;
	} while (pid > 0);
	print_counts(nr_started, nr_ended);
	if (bad)
		live_fail("a process ended with wait status 0x%x", (unsigned int)bad);
	return 0;
}

int main(int argc, char **argv)
{
	bool first = argc < 2 || strcmp(argv[1], "worker") != 0;
	uint64_t given[3] = { 60, 1, 24 };

	counts_open(first);
	for (int i = first ? 1 : 2; i < argc && i < 5; i++)
		given[i - (first ? 1 : 2)] = strtoull(argv[i], NULL, 10);
	if (!first)
		work(given[0], given[1]);
	return storm(given[0], given[1], (unsigned long)given[2]);
}
