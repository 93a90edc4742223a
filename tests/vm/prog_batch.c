/* SPDX-License-Identifier: MIT */
/*
 * What a batch of move_pages costs and does to who owns the pages, by its size; for bench_batch.py.
 *
 *     vm_batch OWNER     OWNER: sleeping | touching
 *
 * A process with 64 MiB on node 1; for each number of pages a call, its pages go to node 0 and back in
 * calls of that size. "touching": it writes to its pages at random meanwhile, and notes how long a
 * touch ever takes. One JSON object for each size on standard output.
 */
#include "vm.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "move.h"

#define NR_PAGES (64 * PAGES_PER_MIB)
#define NR_SINGLE 512u  /* calls, at least, for sizes below this many pages */
#define NR_BUCKETS 32u

/* How long touches took: [2^i, 2^(i+1)) us. Shared with the owner. */
struct touches {
	_Atomic uint64_t buckets[NR_BUCKETS];
	_Atomic uint64_t longest_ns;
};

static void touch_note(struct touches *touches, uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned int bucket = us ? 63u - (unsigned int)__builtin_clzll(us) : 0;

	atomic_fetch_add(&touches->buckets[bucket < NR_BUCKETS ? bucket : NR_BUCKETS - 1], 1);
	if (ns > atomic_load(&touches->longest_ns))
		atomic_store(&touches->longest_ns, ns);
}

_Noreturn static void owner_live(unsigned char *memory, bool touching, struct touches *touches)
{
	uint64_t random = 5;

	while (!touching)
		pause();
	for (;;) {
		uint64_t begin = vm_now_ns();

		memory[live_random(&random) % NR_PAGES * PAGE_BYTES]++;
		touch_note(touches, vm_now_ns() - begin);
	}
}

/* The touches that took this long at least. */
static uint64_t touches_from(struct touches *touches, unsigned int bucket)
{
	uint64_t sum = 0;

	for (; bucket < NR_BUCKETS; bucket++)
		sum += atomic_load(&touches->buckets[bucket]);
	return sum;
}

static void touches_clear(struct touches *touches)
{
	for (unsigned int i = 0; i < NR_BUCKETS; i++)
		atomic_store(&touches->buckets[i], 0);
	atomic_store(&touches->longest_ns, 0);
}

/* All of `nr` pages to a node; how many moved. */
static size_t move_all(pid_t pid, const uint64_t *addresses, size_t nr, uint32_t batch, unsigned int node)
{
	static uint8_t status[NR_PAGES];
	size_t moved = 0;

	for (size_t at = 0; at < nr; at += batch) {
		struct move_pace pace = { .stall_ns = UINT64_MAX, .pages = batch, .calibrate_in = 2 };
		size_t some = nr - at < batch ? nr - at : batch;

		CHECK(move_to(pid, addresses + at, some, PAGE_BYTES, node, false, &pace, status) == 0);
		for (size_t i = 0; i < some; i++)
			moved += status[i] == MOVE_DONE;
	}
	return moved;
}

static void size_measure(pid_t pid, const uint64_t *addresses, uint32_t batch, struct touches *touches)
{
	size_t nr = (size_t)batch * NR_SINGLE < NR_PAGES ? (size_t)batch * NR_SINGLE : NR_PAGES;

	touches_clear(touches);
	uint64_t begin = vm_now_ns();
	size_t moved = move_all(pid, addresses, nr, batch, 0);
	uint64_t ns = vm_now_ns() - begin;
	uint64_t nr_touches = touches_from(touches, 0), longest = atomic_load(&touches->longest_ns);

	printf("{\"batch_pages\": %u, \"pages\": %zu, \"moved\": %zu, \"ns_per_page\": %llu, "
	       "\"ns_per_call\": %llu, \"touches\": %llu, \"longest_touch_ns\": %llu, "
	       "\"touches_over_1ms\": %llu, \"touches_over_4ms\": %llu, \"touches_over_16ms\": %llu}\n",
	       batch, nr, moved, (unsigned long long)(ns / nr),
	       (unsigned long long)(ns / ((nr + batch - 1) / batch)), (unsigned long long)nr_touches,
	       (unsigned long long)longest, (unsigned long long)touches_from(touches, 10),
	       (unsigned long long)touches_from(touches, 12),
	       (unsigned long long)touches_from(touches, 14));
	fflush(stdout);
	move_all(pid, addresses, nr, 512, 1);
}

int main(int argc, char **argv)
{
	static const uint32_t sizes[] = { 1, 8, 32, 64, 128, 256, 512, 1024, 4096 };
	static uint64_t addresses[NR_PAGES];
	unsigned char *memory = vm_memory(NR_PAGES * PAGE_BYTES);
	struct touches *touches = mmap(NULL, sizeof(*touches), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(argc == 2 && touches != MAP_FAILED);
	vm_home(1);
	memset(memory, 1, NR_PAGES * PAGE_BYTES);
	vm_home_default();
	/* What the child does not share with us is its own to move. */
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		owner_live(memory, strcmp(argv[1], "touching") == 0, touches);
	CHECK(munmap(memory, NR_PAGES * PAGE_BYTES) == 0);
	for (size_t i = 0; i < NR_PAGES; i++)
		addresses[i] = (uint64_t)(uintptr_t)memory + i * PAGE_BYTES;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		size_measure(pid, addresses, sizes[i], touches);
	kill(pid, SIGKILL);
	return waitpid(pid, NULL, 0) != pid;
}
