/* SPDX-License-Identifier: MIT */
/*
 * The least that a fault served from another process can cost: who is woken by it installs a page that
 * lies ready, and does nothing else.
 *
 *   fault_floor TOUCHES read|poll|poll2 idle|normal same|free|other
 *
 *   read, poll, poll2   the handler blocks in read; or in poll of the userfaultfd; or in poll of it and
 *                       of an eventfd, by which others could call it
 *   idle, normal        scheduling class of the handler
 *   same, free, other   handler and program pinned to one CPU; the program free to run where it is woken;
 *                       each pinned to a CPU of its own
 *
 * A child serves the memory of its parent, so that address spaces are switched as they are between a
 * program and the server. Each touch is of a page never touched before. Prints one JSON line.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAGE_BYTES 4096u

enum wait_kind { WAIT_READ, WAIT_POLL, WAIT_POLL2 };

struct floor_run {
	enum wait_kind wait;
	bool idle;
	enum { PLACE_SAME, PLACE_FREE, PLACE_OTHER } place;
	int uffd, bell;
	int cpu, handler_cpu;
	uint8_t *pages;
	uint32_t *times_ns;
	size_t nr_touches;
};

static void pin(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET((unsigned)cpu, &cpus);
	if (sched_setaffinity(0, sizeof cpus, &cpus))
		die("sched_setaffinity");
}

static void *memory(size_t bytes, int flags)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void uffd_open(struct floor_run *f)
{
	int flags = O_CLOEXEC | (f->wait == WAIT_READ ? 0 : O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uint64_t)(uintptr_t)f->pages, f->nr_touches * PAGE_BYTES },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	f->uffd = (int)syscall(SYS_userfaultfd, flags);
	if (f->uffd < 0)
		die("userfaultfd");
	if (ioctl(f->uffd, UFFDIO_API, &api) || ioctl(f->uffd, UFFDIO_REGISTER, &reg))
		die("registering memory");
}

/* The handler, until its parent ends. */
static _Noreturn void serve(const struct floor_run *f)
{
	static uint8_t page[PAGE_BYTES] = { 1 };
	struct sched_param param = { 0 };
	struct pollfd wait[2] = { { .fd = f->uffd, .events = POLLIN }, { .fd = f->bell, .events = POLLIN } };
	struct uffd_msg message;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(f->handler_cpu);
	if (f->idle && sched_setscheduler(0, SCHED_IDLE, &param))
		die("sched_setscheduler");
	for (;;) {
		if (f->wait != WAIT_READ && poll(wait, f->wait == WAIT_POLL ? 1 : 2, -1) < 0)
			die("poll");
		if (read(f->uffd, &message, sizeof message) != sizeof message)
			continue;
		struct uffdio_copy copy = {
			.dst = message.arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1),
			.src = (uint64_t)(uintptr_t)page,
			.len = PAGE_BYTES,
		};
		if (ioctl(f->uffd, UFFDIO_COPY, &copy))
			die("UFFDIO_COPY");
	}
}

static void touch(struct floor_run *f)
{
	uint64_t before_ns = clock_now_ns();

	for (size_t i = 0; i < f->nr_touches; i++) {
		if (*(volatile uint8_t *)(f->pages + i * PAGE_BYTES) != 1)
			die("a wrong byte");
		uint64_t after_ns = clock_now_ns();
		f->times_ns[i] = (uint32_t)(after_ns - before_ns);
		before_ns = after_ns;
	}
}

static int time_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void print(struct floor_run *f)
{
	static const unsigned per_10000[] = { 100, 1000, 2500, 5000, 7500, 9000, 9900, 9990 };

	qsort(f->times_ns, f->nr_touches, sizeof *f->times_ns, time_compare);
	printf("{\"touches\": %zu, \"ns\": {", f->nr_touches);
	for (size_t i = 0; i < sizeof per_10000 / sizeof *per_10000; i++)
		printf("\"p%g\": %u, ", per_10000[i] / 100.0,
		       f->times_ns[f->nr_touches * per_10000[i] / 10000]);
	printf("\"max\": %u}}\n", f->times_ns[f->nr_touches - 1]);
}

static bool word_read(const char *word, const char *const *known, unsigned nr, unsigned *ret_at)
{
	for (unsigned i = 0; i < nr; i++)
		if (!strcmp(word, known[i])) {
			*ret_at = i;
			return true;
		}
	return false;
}

static bool options_read(struct floor_run *f, int argc, char **argv)
{
	static const char *const waits[] = { "read", "poll", "poll2" }, *const classes[] = { "normal", "idle" },
				 *const places[] = { "same", "free", "other" };
	unsigned wait, idle, place;

	if (argc != 5 || !word_read(argv[2], waits, 3, &wait) || !word_read(argv[3], classes, 2, &idle) ||
	    !word_read(argv[4], places, 3, &place))
		return false;
	f->nr_touches = strtoul(argv[1], NULL, 10);
	f->wait = (enum wait_kind)wait;
	f->idle = idle;
	f->place = place;
	return f->nr_touches > 0;
}

int main(int argc, char **argv)
{
	struct floor_run f = { 0 };
	cpu_set_t all;

	if (!options_read(&f, argc, argv)) {
		fputs("usage: fault_floor TOUCHES read|poll|poll2 idle|normal same|free|other\n", stderr);
		return 2;
	}
	if (sched_getaffinity(0, sizeof all, &all))
		die("sched_getaffinity");
	f.cpu = sched_getcpu();
	f.handler_cpu = f.cpu;
	while (f.place == PLACE_OTHER &&
	       (f.handler_cpu == f.cpu || !CPU_ISSET((unsigned)f.handler_cpu, &all)))
		f.handler_cpu = (f.handler_cpu + 1) % CPU_SETSIZE;
	pin(f.cpu);
	f.pages = memory(f.nr_touches * PAGE_BYTES, 0);
	madvise(f.pages, f.nr_touches * PAGE_BYTES, MADV_NOHUGEPAGE);
	f.times_ns = memory(f.nr_touches * sizeof *f.times_ns, MAP_POPULATE);
	f.bell = eventfd(0, EFD_CLOEXEC);
	uffd_open(&f);
	pid_t handler = fork();
	if (handler < 0)
		die("fork");
	if (!handler)
		serve(&f);
	if (f.place == PLACE_FREE && sched_setaffinity(0, sizeof all, &all))
		die("sched_setaffinity");
	usleep(20000);
	touch(&f);
	print(&f);
	kill(handler, SIGKILL);
	waitpid(handler, NULL, 0);
	return 0;
}
