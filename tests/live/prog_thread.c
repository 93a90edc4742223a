/* SPDX-License-Identifier: MIT */
/*
 * Live cases: threads, signals, descriptors and rights while pages are stored.
 *
 * Also the programs that the driver interrupts, stops, or robs of their server.
 */
#include "live.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void threads_join(pthread_t *threads, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- threads --------------------------------------------------------------------------------- */

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

/* ---- signals --------------------------------------------------------------------------------- */

static struct arena handler_arena;
static volatile sig_atomic_t nr_alarms;

static void alarm_handler(int signal_number)
{
	static uint64_t state = 7;
	int saved = errno;
	size_t i = live_random(&state) % handler_arena.nr_pages;

	(void)signal_number;
	nr_alarms++;
	arena_check(&handler_arena, i, i + 1);
	arena_fill(&handler_arena, i, i + 1, (uint32_t)nr_alarms % 1000 + 1);
	errno = saved;
}

static void alarm_every(long microseconds)
{
	struct itimerval timer = { .it_interval.tv_usec = microseconds,
				   .it_value.tv_usec = microseconds };

	CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void alarm_storm(int flags)
{
	struct sigaction action = { .sa_handler = alarm_handler, .sa_flags = flags };
	struct arena arena = arena_new(live_pages(), 10);
	int fds[2];

	handler_arena = arena_new(live_pages() / 2, 11);
	arena_fill(&handler_arena, 0, handler_arena.nr_pages, 1);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(pipe(fds) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
	alarm_every(500);
	for (uint32_t round = 2; round < 6; round++) {
		arena_check(&arena, 0, arena.nr_pages);
		for (size_t i = 0; i < arena.nr_pages; i += 3) {
			ssize_t out = write(fds[1], arena_page(&arena, i), PAGE_BYTES), in;

			/* Nothing blocks here, so nothing may be cut short by a handler. */
			CHECK(out == PAGE_BYTES);
			in = read(fds[0], arena_page(&arena, i), PAGE_BYTES);
			CHECK(in == PAGE_BYTES);
		}
		arena_fill(&arena, 0, arena.nr_pages / 3, round);
	}
	alarm_every(0);
	CHECK(nr_alarms > 20);
	arena_check(&arena, 0, arena.nr_pages);
	arena_check(&handler_arena, 0, handler_arena.nr_pages);
}

static void signals_restarting_rule25(void)
{
	alarm_storm(SA_RESTART);
}

static void signals_interrupting_rule25(void)
{
	alarm_storm(0);
}

/* The kernel itself writes the frame of a signal into a stored page. */
static void signal_stack_stored(void)
{
	struct arena arena = arena_new(live_pages(), 12);
	struct sigaction action = { .sa_handler = alarm_handler, .sa_flags = SA_ONSTACK };
	stack_t stack = { .ss_sp = arena_page(&arena, 0), .ss_size = 64 * PAGE_BYTES };

	handler_arena = arena_new(live_pages() / 4, 13);
	arena_fill(&handler_arena, 0, handler_arena.nr_pages, 1);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGALRM, &action, NULL) == 0);
	for (unsigned int i = 0; i < 20; i++) {
		arena_cold(&arena, 0, 64);
		CHECK(raise(SIGALRM) == 0);
	}
	CHECK(nr_alarms == 20);
	stack.ss_flags = SS_DISABLE;
	CHECK(sigaltstack(&stack, NULL) == 0);
	arena_check(&arena, 64, arena.nr_pages);
	arena_check(&handler_arena, 0, handler_arena.nr_pages);
}

/* ---- descriptors and rights ------------------------------------------------------------------ */

static void close_everything_rule05(void)
{
	struct arena arena = arena_new(live_pages(), 20);
	pid_t pid;

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages / 2);
	CHECK(syscall(SYS_close_range, 0u, ~0u, 0u) == 0);
	arena_check(&arena, 0, arena.nr_pages);
	arena_fill(&arena, 0, arena.nr_pages, 2);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	/* And a daemon of the old kind, one number after the other, in a child. */
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		for (int fd = 0; fd < 4096; fd++)
			close(fd);
		arena_check(&arena, 0, arena.nr_pages);
		arena_fill(&arena, 0, arena.nr_pages, 3);
		live_press();
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_wait(pid);
}

/* No descriptor of ours is in the program's table, before or after pages are stored. */
static void descriptors_own_rule05(void)
{
	struct arena arena = arena_new(live_pages(), 21);

	for (unsigned int round = 0; round < 2; round++) {
		DIR *folder = opendir("/proc/self/fd");
		struct dirent *entry;

		CHECK(folder);
		while ((entry = readdir(folder))) {
			int fd = atoi(entry->d_name);

			if (entry->d_name[0] != '.' && fd > 2 && fd != dirfd(folder))
				live_fail("descriptor %d is not the program's", fd);
		}
		closedir(folder);
		arena_fill(&arena, 0, arena.nr_pages, 1);
		arena_cold(&arena, 0, arena.nr_pages);
	}
	arena_check(&arena, 0, arena.nr_pages);
}

/* A program that may do little more than compute: what we need must not be done in its name. */
static void seccomp_rule01(void)
{
	static const unsigned int allowed[] = {
		SYS_read,    SYS_write,	    SYS_pread64,   SYS_openat,		SYS_close,
		SYS_mmap,    SYS_munmap,    SYS_brk,	   SYS_clock_nanosleep, SYS_futex,
		SYS_exit,    SYS_exit_group, SYS_nanosleep, SYS_rt_sigreturn,	SYS_madvise,
		SYS_newfstatat, SYS_lseek,
	};
	enum { NR = sizeof(allowed) / sizeof(allowed[0]) };
	struct sock_filter filter[NR + 3];
	struct sock_fprog program = { .len = NR + 3, .filter = filter };
	struct arena arena = arena_new(live_pages(), 22);

	filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (unsigned int i = 0; i < NR; i++)
		filter[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i],
							     (uint8_t)(NR - i), 0);
	filter[NR + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	filter[NR + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	live_press();
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) ==
	      0);
	arena_cold(&arena, 0, arena.nr_pages);
	arena_check(&arena, 0, arena.nr_pages);
	arena_fill(&arena, 0, arena.nr_pages, 2);
	arena_cold(&arena, 0, arena.nr_pages);
	CHECK(madvise(arena.base, arena.nr_pages / 2 * PAGE_BYTES, MADV_DONTNEED) == 0);
	arena_forget(&arena, 0, arena.nr_pages / 2);
	arena_check(&arena, 0, arena.nr_pages);
}

static void rights_dropped(void)
{
	struct arena arena = arena_new(live_pages(), 23);
	pid_t pid;

	if (geteuid() != 0)
		live_skip("only root has rights to drop");
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
	arena_check(&arena, 0, arena.nr_pages);
	arena_fill(&arena, 0, arena.nr_pages, 2);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		arena_check(&arena, 0, arena.nr_pages);
		arena_fill(&arena, 0, arena.nr_pages / 2, 3);
		live_press();
		arena_check(&arena, 0, arena.nr_pages);
		_exit(0);
	}
	live_press();
	arena_check(&arena, 0, arena.nr_pages);
	live_wait(pid);
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- a userfaultfd of the program's own ------------------------------------------------------ */

struct own_faults {
	int fd;
	struct arena *arena;
	atomic_size_t nr_served;
	atomic_bool stop;
};

static void *own_faults_serve(void *argument)
{
	struct own_faults *own = argument;
	unsigned char *page = aligned_alloc(PAGE_BYTES, PAGE_BYTES);

	CHECK(page);
	while (!atomic_load(&own->stop)) {
		struct pollfd wait = { .fd = own->fd, .events = POLLIN };
		struct uffdio_copy copy = { .len = PAGE_BYTES, .src = (uintptr_t)page };
		struct uffd_msg message;

		if (poll(&wait, 1, 20) <= 0 ||
		    read(own->fd, &message, sizeof(message)) != sizeof(message))
			continue;
		CHECK(message.event == UFFD_EVENT_PAGEFAULT);
		copy.dst = message.arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1);
		pattern_page(page, own->arena->seed,
			     (copy.dst - (uintptr_t)own->arena->base) / PAGE_BYTES, 1);
		/* Counted first: the copy lets the toucher run on, to where it reads the count. */
		atomic_fetch_add(&own->nr_served, 1);
		CHECK(ioctl(own->fd, UFFDIO_COPY, &copy) == 0);
	}
	free(page);
	return NULL;
}

static void foreign_userfaultfd_left_alone(void)
{
	size_t nr = live_pages() / 4;
	struct arena arena = arena_new(live_pages(), 30), foreign = arena_new(nr, 31);
	struct own_faults own = { .arena = &foreign };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = { .range = { (uintptr_t)foreign.base, nr * PAGE_BYTES },
					.mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t server;

	own.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (own.fd < 0)
		live_skip("no userfaultfd for programs here");
	CHECK(ioctl(own.fd, UFFDIO_API, &api) == 0);
	CHECK(ioctl(own.fd, UFFDIO_REGISTER, &area) == 0);
	CHECK(pthread_create(&server, NULL, own_faults_serve, &own) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	for (size_t i = 0; i < nr; i++)
		foreign.generation[i] = 1;
	arena_check(&foreign, 0, nr);
	CHECK(atomic_load(&own.nr_served) == nr);
	arena_cold(&arena, 0, arena.nr_pages);
	CHECK(arena_absent_pages(&foreign, 0, nr) == 0);
	arena_check(&foreign, 0, nr);
	CHECK(atomic_load(&own.nr_served) == nr);
	atomic_store(&own.stop, true);
	CHECK(pthread_join(server, NULL) == 0);
	arena_check(&arena, 0, arena.nr_pages);
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

/* A proof that the comparison sees a single wrong bit. */
static void wrong_byte_is_seen(void)
{
	struct arena arena = arena_new(live_pages(), 37);

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	*(arena_page(&arena, 100) + 4000) ^= 1;
	arena_check(&arena, 0, arena.nr_pages);
}

/* ---- programs for the driver ----------------------------------------------------------------- */

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

/* Twice its budget; the driver gives it more, too. */
static void dumps_core(void)
{
	struct rlimit limit;
	struct arena arena = arena_new(live_pages(), 43);

	CHECK(getrlimit(RLIMIT_CORE, &limit) == 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
	arena_fill(&arena, 0, arena.nr_pages, 1);
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
	threads_join(&thread, 1);
	arena_check(&looked, 0, looked.nr_pages);
	arena_check(&changed, 0, changed.nr_pages);
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

static const struct live_case cases[] = {
	{ "threads-come-and-go", threads_come_and_go },
	{ "many-faulting-threads-rule20", many_faulting_threads_rule20 },
	{ "streams-beside-changes", streams_beside_changes },
	{ "streams-then-moved", streams_then_moved },
	{ "first-thread-ends-first", first_thread_ends_first },
	{ "eight-threads-random", eight_threads_random },
	{ "thread-stacks", thread_stacks },
	{ "locks-in-stored-pages", locks_in_stored_pages },
	{ "robust-mutex-of-the-killed", robust_mutex_of_the_killed },
	{ "signals-restarting-rule25", signals_restarting_rule25 },
	{ "signals-interrupting-rule25", signals_interrupting_rule25 },
	{ "signal-stack-stored", signal_stack_stored },
	{ "close-everything-rule05", close_everything_rule05 },
	{ "descriptors-own-rule05", descriptors_own_rule05 },
	{ "seccomp-rule01", seccomp_rule01 },
	{ "rights-dropped", rights_dropped },
	{ "foreign-userfaultfd-left-alone", foreign_userfaultfd_left_alone },
	{ "exit-while-faulting", exit_while_faulting },
	{ "dumps-core", dumps_core },
	{ "killed-while-faulting", killed_while_faulting },
	{ "wrong-byte-is-seen", wrong_byte_is_seen },
	{ "allocates-fast", allocates_fast },
	{ "allocates-after-rest", allocates_after_rest },
	{ "rest-after-pressure", rest_after_pressure },
	{ "fits-rule23", fits_rule23 },
	{ "hold", hold },
	{ "hold-until-signal", hold_until_signal },
	{ "hold-family", hold_family },
	{ "changes-until-signal", changes_until_signal },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
