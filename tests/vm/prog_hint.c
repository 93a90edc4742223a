/* SPDX-License-Identifier: MIT */
/*
 * Guest case: NUMA hint faults of another process, read from outside.
 *
 * With kernel.numa_balancing = 2 the kernel makes pages of slower memory tiers inaccessible in
 * turn, and each next touch is a page fault. A software page-fault event on each thread of the
 * process delivers its address, thread, CPU and time. With hot_threshold_ms = 0 the kernel finds
 * no page hot, so it moves nothing as long as the fast node is short of memory, and others may
 * decide.
 *
 * A child touches pages of node 1 with two threads, and some of node 0 too. Its parent reads the
 * events and wants: every page of node 1 seen, nothing of node 0, each by the thread that touches
 * it, and no page moved by the kernel. The settings are put back.
 */
#include "vm.h"

#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NR_THREADS = 2, NR_RING_PAGES = 256, SECONDS_MAX = 120 };
#define SLOW_PAGES (64 * PAGES_PER_MIB)
#define FAST_PAGES (8 * PAGES_PER_MIB)
#define TUNABLES "/sys/kernel/debug/sched/numa_balancing/"

/* What the kernel writes for PERF_SAMPLE_TID | TIME | ADDR | CPU. */
struct sample {
	struct perf_event_header header;
	uint32_t pid, tid;
	uint64_t time_ns;
	uint64_t address;
	uint32_t cpu, reserved;
};

struct ring {
	int fd;
	struct perf_event_mmap_page *meta;
	unsigned char *data;
};

struct shared {
	pid_t tids[NR_THREADS];
	volatile bool stop;
};

static unsigned char *slow, *fast;
static struct shared *shared;

/* ---- the process that is watched ------------------------------------------------------------- */

/* Thread t touches the pages i with i % NR_THREADS == t. */
static void *touch_on(void *argument)
{
	size_t me = (size_t)argument;
	volatile unsigned char *page;

	shared->tids[me] = (pid_t)syscall(SYS_gettid);
	while (!shared->stop) {
		for (size_t i = me; i < SLOW_PAGES && !shared->stop; i += NR_THREADS) {
			page = slow + i * PAGE_BYTES;
			*page = (unsigned char)(*page + 1);
			page = fast + i % FAST_PAGES * PAGE_BYTES;
			*page = (unsigned char)(*page + 1);
		}
	}
	return NULL;
}

static void touch_in_child(void)
{
	pthread_t threads[NR_THREADS];

	for (size_t i = 0; i < NR_THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, touch_on, (void *)i) == 0);
	for (size_t i = 0; i < NR_THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	_exit(0);
}

/* ---- the one that watches -------------------------------------------------------------------- */

static struct ring ring_open(pid_t tid)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR |
			       PERF_SAMPLE_CPU,
	};
	struct ring ring;

	ring.fd = (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	CHECK(ring.fd >= 0);
	ring.meta = mmap(NULL, (1 + NR_RING_PAGES) * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			 ring.fd, 0);
	CHECK(ring.meta != MAP_FAILED);
	ring.data = (unsigned char *)ring.meta + PAGE_BYTES;
	return ring;
}

static void ring_copy(const struct ring *ring, uint64_t at, void *to, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((unsigned char *)to)[i] = ring->data[(at + i) % (NR_RING_PAGES * PAGE_BYTES)];
}

struct found {
	uint64_t nr_slow, nr_fast, nr_other, nr_lost, nr_throttled, nr_wrong_thread;
	size_t nr_seen;
	uint64_t last_ns;
	unsigned char seen[SLOW_PAGES];
};

static void found_add(struct found *found, const struct sample *sample, pid_t tid)
{
	uintptr_t address = (uintptr_t)sample->address;
	size_t page = (address - (uintptr_t)slow) / PAGE_BYTES;

	CHECK(sample->time_ns >= found->last_ns && sample->cpu < 2);
	found->last_ns = sample->time_ns;
	if (address >= (uintptr_t)slow && page < SLOW_PAGES) {
		found->nr_slow++;
		found->nr_seen += !found->seen[page];
		found->seen[page] = 1;
		found->nr_wrong_thread += (pid_t)sample->tid != tid ||
					  shared->tids[page % NR_THREADS] != tid;
	} else if (address >= (uintptr_t)fast &&
		   address < (uintptr_t)fast + FAST_PAGES * PAGE_BYTES) {
		found->nr_fast++;
	} else {
		found->nr_other++;
	}
}

static void ring_read(struct ring *ring, struct found *found, pid_t tid)
{
	uint64_t tail = ring->meta->data_tail;
	/* Pairs with the kernel's release of data_head: what is before it has been written. */
	uint64_t head = __atomic_load_n(&ring->meta->data_head, __ATOMIC_ACQUIRE);
	struct sample sample;
	uint64_t lost[2];

	found->last_ns = 0;
	while (tail < head) {
		ring_copy(ring, tail, &sample.header, sizeof(sample.header));
		if (sample.header.type == PERF_RECORD_SAMPLE) {
			CHECK(sample.header.size == sizeof(sample));
			ring_copy(ring, tail, &sample, sizeof(sample));
			found_add(found, &sample, tid);
		} else if (sample.header.type == PERF_RECORD_LOST) {
			ring_copy(ring, tail + sizeof(sample.header), lost, sizeof(lost));
			found->nr_lost += lost[1];
		} else if (sample.header.type == PERF_RECORD_THROTTLE) {
			found->nr_throttled++;
		}
		tail += sample.header.size;
	}
	__atomic_store_n(&ring->meta->data_tail, tail, __ATOMIC_RELEASE);
}

static void tune(bool on)
{
	static const char *const names[] = { "hot_threshold_ms", "scan_delay_ms",
					     "scan_period_min_ms", "scan_period_max_ms" };
	static const char *const hints[] = { "0", "100", "100", "100" };
	static char before[4][32];
	char path[128];

	for (size_t i = 0; i < 4; i++) {
		FILE *file;

		snprintf(path, sizeof(path), TUNABLES "%s", names[i]);
		if (on) {
			file = fopen(path, "re");
			if (!file)
				live_skip("no %s", path);
			CHECK(fgets(before[i], sizeof(before[i]), file));
			fclose(file);
		}
		CHECK(vm_write(path, on ? hints[i] : before[i]));
	}
	CHECK(vm_write("/proc/sys/kernel/numa_balancing", on ? "2" : "0"));
}

static size_t touch_all(unsigned int node, unsigned char *base, size_t nr)
{
	vm_home(node);
	for (size_t i = 0; i < nr; i++)
		base[i * PAGE_BYTES] = 1;
	vm_home_default();
	return vm_pages_on(base, nr, node);
}

/* Until so many records have come and each page among them, or so many moves; or for long enough. */
static void watch(struct found *found, uint64_t nr_slow, uint64_t nr_moved)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	struct ring rings[NR_THREADS];
	uint64_t start = vm_now_ns();

	for (size_t i = 0; i < NR_THREADS; i++) {
		while (!*(volatile pid_t *)&shared->tids[i])
			nanosleep(&pause, NULL);
		rings[i] = ring_open(shared->tids[i]);
	}
	while ((found->nr_slow < nr_slow || found->nr_seen < SLOW_PAGES) &&
	       vm_counter("pgmigrate_success") < nr_moved &&
	       vm_now_ns() - start < SECONDS_MAX * UINT64_C(1000000000)) {
		for (size_t i = 0; i < NR_THREADS; i++)
			ring_read(&rings[i], found, shared->tids[i]);
		nanosleep(&pause, NULL);
	}
}

/* What was found until so many records have come, or so many pages have moved; those that did go to the result. */
static struct found watched(uint64_t nr_slow, uint64_t nr_moved, uint64_t *ret_moved)
{
	static struct found found;
	uint64_t moved_before, hints_before;
	pid_t child;

	slow = vm_memory(SLOW_PAGES * PAGE_BYTES);
	fast = vm_memory(FAST_PAGES * PAGE_BYTES);
	shared = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED);
	tune(true);
	moved_before = vm_counter("pgmigrate_success");
	hints_before = vm_counter("numa_hint_faults");
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		/* Touched here: a page shared with the parent is never made inaccessible. */
		CHECK(touch_all(1, slow, SLOW_PAGES) == SLOW_PAGES);
		CHECK(touch_all(0, fast, FAST_PAGES) == FAST_PAGES);
		touch_in_child();
	}
	uint64_t start = vm_now_ns();
	watch(&found, nr_slow, moved_before + nr_moved);
	shared->stop = true;
	live_wait(child);
	*ret_moved = vm_counter("pgmigrate_success") - moved_before;
	tune(false);
	printf("%.1f s: hint faults %llu, delivered %llu of node 1, %llu of node 0, %llu elsewhere, "
	       "lost %llu, throttled %llu times; pages seen %zu of %zu; moved by the kernel %llu\n",
	       (double)(vm_now_ns() - start) / 1e9, (unsigned long long)(vm_counter("numa_hint_faults") - hints_before),
	       (unsigned long long)found.nr_slow, (unsigned long long)found.nr_fast,
	       (unsigned long long)found.nr_other, (unsigned long long)found.nr_lost,
	       (unsigned long long)found.nr_throttled, found.nr_seen, SLOW_PAGES,
	       (unsigned long long)*ret_moved);
	CHECK(found.nr_fast == 0);
	CHECK(found.nr_wrong_thread == 0);
	return found;
}

/* The fast node has less than 1 GiB free: nothing moves, so every page faults again and again. */
static void delivered_and_nothing_moves(void)
{
	uint64_t moved;
	struct found found = watched(4 * SLOW_PAGES, SLOW_PAGES, &moved);

	CHECK(moved == 0);
	if (found.nr_seen < SLOW_PAGES)
		live_late("only %zu of %zu pages were delivered", found.nr_seen, (size_t)SLOW_PAGES);
}

/* It has more: then the kernel asks no threshold and moves every page at its first hint fault. */
static void with_room_the_kernel_moves(void)
{
	uint64_t moved;

	watched(UINT64_MAX, SLOW_PAGES / 2 + 1, &moved);
	if (moved <= SLOW_PAGES / 2)
		live_late("the kernel moved %llu pages", (unsigned long long)moved);
}

static const struct live_case cases[] = {
	{ "delivered-and-nothing-moves", delivered_and_nothing_moves },
	{ "with-room-the-kernel-moves", with_room_the_kernel_moves },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
