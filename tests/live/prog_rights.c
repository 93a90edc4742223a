/* SPDX-License-Identifier: MIT */
/*
 * Live cases: signals, descriptors, filters and rights, and a userfaultfd of the program's own, while pages are
 * stored.
 */
#include "live.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- signals --------------------------------------------------------------------------------- */

static struct arena handler_arena;
static volatile sig_atomic_t nr_alarms, alarm_us;

/* 0: no more. */
static void alarm_in(long microseconds)
{
	struct itimerval timer = { .it_value.tv_usec = microseconds };

	CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* The next one comes a while after this one is done: on a slow machine, too, something is done in between. */
static void alarm_handler(int signal_number)
{
	static uint64_t state = 7;
	int saved = errno;
	size_t i = live_random(&state) % handler_arena.nr_pages;

	(void)signal_number;
	nr_alarms++;
	arena_check(&handler_arena, i, i + 1);
	arena_fill(&handler_arena, i, i + 1, (uint32_t)nr_alarms % 1000 + 1);
	if (alarm_us)
		alarm_in(alarm_us);
	errno = saved;
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
	alarm_us = 500;
	alarm_in(alarm_us);
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
	alarm_us = 0;
	alarm_in(0);
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

static const struct live_case cases[] = {
	{ "signals-restarting-rule25", signals_restarting_rule25 },
	{ "signals-interrupting-rule25", signals_interrupting_rule25 },
	{ "signal-stack-stored", signal_stack_stored },
	{ "close-everything-rule05", close_everything_rule05 },
	{ "descriptors-own-rule05", descriptors_own_rule05 },
	{ "seccomp-rule01", seccomp_rule01 },
	{ "rights-dropped", rights_dropped },
	{ "foreign-userfaultfd-left-alone", foreign_userfaultfd_left_alone },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
