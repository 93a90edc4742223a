/* SPDX-License-Identifier: MIT */
/*
 * Live cases: threads that come and go, wait for pages and lock what is stored, and how they end.
 */
#include "live.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void threads_join(pthread_t *threads, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

struct slice {
	struct arena *arena;
	size_t from, to;
	uint32_t generation; /* 0: check only */
	unsigned int index;
	pthread_barrier_t *barrier;
};

static void *slice_run(void *argument)
{
	struct slice *slice = argument;

	if (slice->barrier)
		pthread_barrier_wait(slice->barrier);
	arena_check(slice->arena, slice->from, slice->to);
	if (slice->generation) {
		arena_fill(slice->arena, slice->from, slice->to, slice->generation);
		arena_check(slice->arena, slice->from, slice->to);
	}
	return NULL;
}

static void threads_come_and_go(void)
{
	enum { NR = 12 };
	struct arena arena = arena_new(live_pages(), 1);
	size_t part = arena.nr_pages / NR;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	for (uint32_t round = 2; round < 10; round++) {
		struct slice slices[NR];
		pthread_t threads[NR];

		for (unsigned int i = 0; i < NR; i++) {
			/* Half of each part, so that most threads are short lived. */
			slices[i] = (struct slice){ .arena = &arena, .from = i * part,
						    .to = i * part + part / (2 + i % 5),
						    .generation = round };
			CHECK(pthread_create(&threads[i], NULL, slice_run, &slices[i]) == 0);
		}
		threads_join(threads, NR);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* All threads wait at once for different pages, then all for the same ones. */
static void many_faulting_threads_rule20(void)
{
	enum { NR = 64 };
	struct arena arena = arena_new(live_pages(), 2);
	size_t part = arena.nr_pages / NR;
	struct slice slices[NR];
	pthread_t threads[NR];
	pthread_barrier_t barrier;

	CHECK(pthread_barrier_init(&barrier, NULL, NR) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned int same = 0; same < 2; same++) {
		arena_cold(&arena, 0, arena.nr_pages);
		for (unsigned int i = 0; i < NR; i++) {
			slices[i] = (struct slice){ .arena = &arena, .barrier = &barrier,
						    .from = same ? 0 : i * part,
						    .to = same ? part : (i + 1) * part };
			CHECK(pthread_create(&threads[i], NULL, slice_run, &slices[i]) == 0);
		}
		threads_join(threads, NR);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* The same of a program that has moved memory before, whose messages are read one by one. */
static void many_faulting_threads_then_moved(void)
{
	struct arena arena = arena_new(live_pages() / 8, 3);
	unsigned char *to = space_reserve(arena.nr_pages * PAGE_BYTES);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	CHECK(mremap(arena.base, arena.nr_pages * PAGE_BYTES, arena.nr_pages * PAGE_BYTES,
		     MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	arena.base = to;
	many_faulting_threads_rule20();
	arena_check(&arena, 0, arena.nr_pages);
}

/*
 * Read-ahead meets changes: one thread reads every other group of pages in order, and what is brought in ahead
 * of it are the groups of the other thread, which discards and writes them meanwhile. A child reads all of it
 * in order, too.
 */
#define GROUP 16u

static _Atomic bool streams_end;

static void *groups_change(void *argument)
{
	struct arena *arena = argument;
	size_t nr_groups = arena->nr_pages / GROUP;
	uint64_t state = 71;

	for (uint32_t round = 2; !atomic_load(&streams_end); round++) {
		size_t from = (live_random(&state) % (nr_groups / 2) * 2 + 1) * GROUP;
		size_t half = from + live_random(&state) % GROUP;

		CHECK(madvise(arena_page(arena, half), (from + GROUP - half) * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(arena, half, from + GROUP);
		arena_check(arena, from, from + GROUP);
		if (round % 2)
			arena_fill(arena, from, from + GROUP, round);
	}
	return NULL;
}

/* Have an arena out of memory, and room to bring it back. */
static void arena_out(const struct arena *arena)
{
	size_t bytes = live_pages() * PAGE_BYTES;
	unsigned char *ballast = mmap(NULL, bytes, RW, ANON, -1, 0);

	CHECK(ballast != MAP_FAILED);
	for (size_t i = 0; i < bytes; i += PAGE_BYTES)
		memset(ballast + i, (int)(i / PAGE_BYTES), PAGE_BYTES);
	arena_cold(arena, 0, arena->nr_pages);
	CHECK(munmap(ballast, bytes) == 0);
}

static void streams_beside_changes(void)
{
	struct arena arena = arena_new(live_pages() / 4, 6);
	pthread_t thread;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned int round = 0; round < 6; round++) {
		arena_out(&arena);
		atomic_store(&streams_end, false);
		CHECK(pthread_create(&thread, NULL, groups_change, &arena) == 0);
		for (size_t i = 0; i < arena.nr_pages; i += 2 * GROUP)
			arena_check(&arena, i, i + GROUP);
		atomic_store(&streams_end, true);
		threads_join(&thread, 1);
		if (round % 3 == 2) {
			arena_out(&arena);
			pid_t child = fork();
			CHECK(child >= 0);
			if (!child) {
				arena_check(&arena, 0, arena.nr_pages);
				_exit(0);
			}
			live_wait(child);
		}
		arena_check(&arena, 0, arena.nr_pages);
	}
}

/*
 * Memory is read in order and moved in the middle of it, as a growing realloc() does. What others still have
 * in hand of the window must come to who touches it at its new place.
 */
static void streams_then_moved(void)
{
	struct arena arena = arena_new(live_pages() / 4, 9);
	size_t bytes = arena.nr_pages * PAGE_BYTES;
	uint64_t state = 17;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned int round = 0; round < 10; round++) {
		arena_out(&arena);
		for (size_t i = 0; i < arena.nr_pages;) {
			size_t end = i + 1 + live_random(&state) % (8 * GROUP);

			end = end < arena.nr_pages ? end : arena.nr_pages;
			arena_check(&arena, i, end);
			unsigned char *to = mmap(NULL, bytes, PROT_NONE, ANON, -1, 0);
			CHECK(to != MAP_FAILED);
			CHECK(mremap(arena_page(&arena, 0), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
			arena.base = to;
			i = end;
		}
		arena_check(&arena, 0, arena.nr_pages);
	}
}

/* The first thread has ended before the others go on: what /proc tells of the process is then empty. */
static void *outlive_first(void *argument)
{
	struct arena *arena = argument;

	usleep(300000);
	for (uint32_t round = 2; round < 5; round++) {
		arena_check(arena, 0, arena->nr_pages);
		arena_fill(arena, 0, arena->nr_pages, round);
	}
	arena_check(arena, 0, arena->nr_pages);
	exit(0);
}

static void first_thread_ends_first(void)
{
	static struct arena arena;
	pthread_t thread;

	arena = arena_new(live_pages(), 5);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(pthread_create(&thread, NULL, outlive_first, &arena) == 0);
	pthread_exit(NULL);
}

#define NR_RANDOM 8

/* Pages are shared out page by page, so every block belongs to all threads. */
static void *random_run(void *argument)
{
	struct slice *slice = argument;
	struct arena *arena = slice->arena;
	uint64_t state = 1000 + slice->index;

	for (uint32_t i = 0; i < slice->to; i++) {
		size_t page = live_random(&state) % (arena->nr_pages / NR_RANDOM) * NR_RANDOM +
			      slice->index;

		arena_check(arena, page, page + 1);
		if (live_random(&state) % 3 == 0)
			arena_fill(arena, page, page + 1, i + 2);
	}
	return NULL;
}

static void eight_threads_random(void)
{
	struct arena arena = arena_new(live_pages() * 3 / 2, 3);
	struct slice slices[NR_RANDOM];
	pthread_t threads[NR_RANDOM];

	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned int i = 0; i < NR_RANDOM; i++) {
		slices[i] = (struct slice){ .arena = &arena, .index = i, .to = 8000 };
		CHECK(pthread_create(&threads[i], NULL, random_run, &slices[i]) == 0);
	}
	threads_join(threads, NR_RANDOM);
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- an allocator that gives back what it can, all the time ------------------------------------- */

#define NR_ALLOCATING 4u
#define PIECES 6000u
#define PIECE_BYTES_MAX 61440u

struct piece {
	unsigned char *bytes;
	size_t nr;
	uint64_t seed;
};

/* Of each of its pages one word is written, and known: what matters is how many there are. */
static void piece_write(struct piece *piece, size_t from)
{
	for (size_t at = (from + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES; at + 8 <= piece->nr; at += PAGE_BYTES) {
		uint64_t word = pattern_mix(piece->seed + at);
		memcpy(piece->bytes + at, &word, sizeof word);
	}
}

static void piece_check(const struct piece *piece)
{
	for (size_t at = 0; at + 8 <= piece->nr; at += PAGE_BYTES) {
		uint64_t word;
		memcpy(&word, piece->bytes + at, sizeof word);
		if (word != pattern_mix(piece->seed + at))
			live_fail("MISMATCH at %zu of %zu bytes", at, piece->nr);
	}
}

static void piece_resize(struct piece *piece, size_t nr)
{
	size_t before = piece->nr, known = before < nr ? before : nr;

	piece->bytes = realloc(piece->bytes, nr);
	CHECK(piece->bytes);
	piece->nr = known;
	piece_check(piece);
	piece->nr = nr;
	piece_write(piece, known >= 8 ? known - 7 : 0);
}

static void *allocate_run(void *argument)
{
	struct piece *pieces = calloc(PIECES, sizeof *pieces);
	const unsigned int *index = argument;
	uint64_t state = 70 + *index;

	CHECK(pieces);
	for (unsigned int round = 0; round < 3000; round++) {
		struct piece *piece = &pieces[live_random(&state) % PIECES];
		size_t nr = 8 + live_random(&state) % PIECE_BYTES_MAX;
		if (!piece->bytes || live_random(&state) % 4 == 0) {
			piece->seed = piece->bytes ? piece->seed : live_random(&state);
			piece_resize(piece, nr);
		} else {
			piece_check(piece);
			free(piece->bytes);
			*piece = (struct piece){ 0 };
		}
		if (live_random(&state) % 64 == 0)
			malloc_trim(0);
	}
	for (unsigned int i = 0; i < PIECES; i++) {
		piece_check(&pieces[i]);
		free(pieces[i].bytes);
	}
	free(pieces);
	return NULL;
}

/* There is hardly a moment in which none of the threads waits for an event of its own to be read. */
static void discards_beside_allocations(void)
{
	pthread_t threads[NR_ALLOCATING];
	unsigned int index[NR_ALLOCATING];

	for (unsigned int i = 0; i < NR_ALLOCATING; i++) {
		index[i] = i;
		CHECK(pthread_create(&threads[i], NULL, allocate_run, &index[i]) == 0);
	}
	threads_join(threads, NR_ALLOCATING);
}

struct stack_user {
	pthread_barrier_t *barrier;
	uint64_t seed;
};

/* Most of a thread's stack is filled, grows cold, and is read again. */
static void *stack_run(void *argument)
{
	struct stack_user *user = argument;
	enum { NR = 1000 };
	unsigned char pages[NR][PAGE_BYTES];

	for (size_t i = 0; i < NR; i++)
		pattern_page(pages[i], user->seed, i, 1);
	pthread_barrier_wait(user->barrier);
	pthread_barrier_wait(user->barrier);
	for (size_t i = 0; i < NR; i++)
		page_check(pages[i], user->seed, i, 1);
	return NULL;
}

static void thread_stacks(void)
{
	enum { NR = 10 };
	struct arena arena = arena_new(live_pages(), 4);
	struct stack_user users[NR];
	pthread_t threads[NR];
	pthread_attr_t attributes;
	pthread_barrier_t barrier;

	CHECK(pthread_barrier_init(&barrier, NULL, NR + 1) == 0);
	CHECK(pthread_attr_init(&attributes) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	for (unsigned int i = 0; i < NR; i++) {
		void *stack = mmap(NULL, 5 * MIB, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

		CHECK(stack != MAP_FAILED);
		CHECK(pthread_attr_setstack(&attributes, stack, 5 * MIB) == 0);
		users[i] = (struct stack_user){ &barrier, 400 + i };
		CHECK(pthread_create(&threads[i], &attributes, stack_run, &users[i]) == 0);
	}
	pthread_barrier_wait(&barrier);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	live_press();
	pthread_barrier_wait(&barrier);
	threads_join(threads, NR);
	arena_check(&arena, 0, arena.nr_pages);
}

struct locked {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	unsigned int turn, nr_turns;
};

struct turner {
	struct locked *locked;
	unsigned int index;
};

static void *turns_run(void *argument)
{
	struct turner *turner = argument;
	struct locked *locked = turner->locked;

	for (unsigned int i = 0; i < 500; i++) {
		CHECK(pthread_mutex_lock(&locked->mutex) == 0);
		while (locked->turn != turner->index)
			CHECK(pthread_cond_wait(&locked->changed, &locked->mutex) == 0);
		locked->turn = (locked->turn + 1) % 4;
		locked->nr_turns++;
		CHECK(pthread_cond_broadcast(&locked->changed) == 0);
		CHECK(pthread_mutex_unlock(&locked->mutex) == 0);
	}
	return NULL;
}

/* Futexes are looked up by page: a lock must work while its page goes and comes. */
static void locks_in_stored_pages(void)
{
	struct arena arena = arena_new(live_pages(), 5);
	struct locked *locked = (struct locked *)(void *)arena_page(&arena, 100);
	struct turner turners[4];
	pthread_t threads[4];

	arena_fill(&arena, 0, arena.nr_pages, 1);
	memset(locked, 0, PAGE_BYTES);
	CHECK(pthread_mutex_init(&locked->mutex, NULL) == 0);
	CHECK(pthread_cond_init(&locked->changed, NULL) == 0);
	arena_cold(&arena, 0, 512);
	for (unsigned int i = 0; i < 4; i++) {
		turners[i] = (struct turner){ locked, i };
		CHECK(pthread_create(&threads[i], NULL, turns_run, &turners[i]) == 0);
	}
	for (unsigned int i = 0; i < 10; i++)
		live_press();
	threads_join(threads, 4);
	CHECK(locked->nr_turns == 2000);
	arena_check(&arena, 0, 100);
	arena_check(&arena, 101, arena.nr_pages);
}

/* A mutex that other processes wait for. Its owner waits for long: what libc has of that thread is not touched. */
struct handed_over {
	pthread_mutex_t mutex;
	atomic_bool locked;
};

static void *owner_run(void *arg)
{
	struct handed_over *handed = arg;

	CHECK(pthread_mutex_lock(&handed->mutex) == 0);
	handed->locked = true;
	for (;;)
		pause();
}

/* Whether the page is in memory that the kernel reads and writes at the end of a thread. */
static bool end_there(pthread_t thread)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	CHECK(fd >= 0 && pread(fd, &entry, 8, (off_t)(thread / PAGE_BYTES * 8)) == 8);
	close(fd);
	return entry >> 62;
}

/* The kernel itself gives over what a killed thread had locked. */
static void robust_mutex_of_the_killed(void)
{
	struct handed_over *handed = mmap(NULL, PAGE_BYTES, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct timespec end;
	pthread_mutexattr_t kind;
	int status;

	CHECK(handed != MAP_FAILED && pthread_mutexattr_init(&kind) == 0);
	CHECK(pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST) == 0);
	CHECK(pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED) == 0);
	CHECK(pthread_mutex_init(&handed->mutex, &kind) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct arena arena = arena_new(live_pages(), 72);
		pthread_t owner;

		CHECK(pthread_create(&owner, NULL, owner_run, handed) == 0);
		while (!handed->locked)
			sched_yield();
		/* Time enough for it to be seen: it is there, and stays so. */
		for (uint32_t round = 1, seen = 0; round < 100 && (round < 5 || seen < 3); round++) {
			arena_fill(&arena, 0, arena.nr_pages, round);
			arena_cold(&arena, 0, arena.nr_pages / 2);
			seen = end_there(owner) ? seen + 1 : 0;
		}
		raise(SIGKILL);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(clock_gettime(CLOCK_REALTIME, &end) == 0);
	end.tv_sec += 20;
	CHECK(pthread_mutex_timedlock(&handed->mutex, &end) == EOWNERDEAD);
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void *check_forever(void *argument)
{
	struct slice *slice = argument;

	for (;;)
		arena_check(slice->arena, slice->from, slice->to);
	return NULL;
}

static void threads_keep_faulting(struct arena *arena)
{
	enum { NR = 8 };
	static struct slice slices[NR];
	size_t part = arena->nr_pages / NR;
	pthread_t thread;

	arena_fill(arena, 0, arena->nr_pages, 1);
	arena_cold(arena, 0, arena->nr_pages / 2);
	for (unsigned int i = 0; i < NR; i++) {
		slices[i] = (struct slice){ .arena = arena, .from = i * part,
					    .to = (i + 1) * part };
		CHECK(pthread_create(&thread, NULL, check_forever, &slices[i]) == 0);
	}
	usleep(300000);
}

/* The process ends while its threads wait for pages. */
static void exit_while_faulting(void)
{
	struct arena arena = arena_new(live_pages(), 35);

	threads_keep_faulting(&arena);
	exit(0);
}

static void killed_while_faulting(void)
{
	struct arena arena = arena_new(live_pages(), 36);

	threads_keep_faulting(&arena);
	raise(SIGKILL);
}

static const struct live_case cases[] = {
	{ "threads-come-and-go", threads_come_and_go },
	{ "many-faulting-threads-rule20", many_faulting_threads_rule20 },
	{ "many-faulting-threads-then-moved", many_faulting_threads_then_moved },
	{ "streams-beside-changes", streams_beside_changes },
	{ "streams-then-moved", streams_then_moved },
	{ "first-thread-ends-first", first_thread_ends_first },
	{ "eight-threads-random", eight_threads_random },
	{ "discards-beside-allocations", discards_beside_allocations },
	{ "thread-stacks", thread_stacks },
	{ "locks-in-stored-pages", locks_in_stored_pages },
	{ "robust-mutex-of-the-killed", robust_mutex_of_the_killed },
	{ "exit-while-faulting", exit_while_faulting },
	{ "killed-while-faulting", killed_while_faulting },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
