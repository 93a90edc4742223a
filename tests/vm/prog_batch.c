/* SPDX-License-Identifier: MIT */
/*
 * What a batch of move_pages costs and does to who owns the pages, by its size; for bench_batch.py.
 *
 *     vm_batch OWNER     OWNER: sleeping | touching | huge
 *
 * A process with 64 MiB on node 1; for each number of pages a call, its pages go to node 0 and back in
 * calls of that size. "touching": it writes to its pages at random meanwhile, and notes how long a
 * touch ever takes. "huge": the same with huge pages, one to a call. One JSON object for each size on
 * standard output.
 *
 * "sleeping" says two things more: what it costs to copy a page, by words and by bytes, and to clear it,
 * which the kernel does for each page that moves, whatever the batch; and what a page costs by the way that
 * `pagetide attach` takes, process_move(), which looks at the process, its rules, the room and where the
 * page is before each call.
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

#include "process.h"

#define NR_PAGES (64 * PAGES_PER_MIB)
#define NR_SINGLE 512u  /* calls, at least, for sizes below this many pages */
#define NR_BUCKETS 32u
#define NR_COPIED (8 * BLOCK_PAGES)

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

/* ---- huge pages ------------------------------------------------------------------------------- */

static int ns_compare(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

	return (one > other) - (one < other);
}

/* Each huge page to the fast node and back, by a call of its own. */
static void huge_measure(pid_t pid, const uint64_t *addresses, struct touches *touches)
{
	enum { ROUNDS = 6, NR_HUGE = NR_PAGES / BLOCK_PAGES };
	static uint64_t took_ns[ROUNDS * NR_HUGE];
	size_t nr = 0, moved = 0;

	for (size_t i = 0; i < ROUNDS * NR_HUGE; i++) {
		struct move_pace pace = { .stall_ns = UINT64_MAX, .pages = 1, .nr_calibrations = 1 };
		uint8_t status;
		uint64_t begin = vm_now_ns();

		CHECK(move_to(pid, addresses + i % NR_HUGE * BLOCK_PAGES, 1, BLOCK_BYTES,
			      i / NR_HUGE % 2, false, &pace, &status) == 0);
		took_ns[nr++] = vm_now_ns() - begin;
		moved += status == MOVE_DONE;
	}
	qsort(took_ns, nr, sizeof(*took_ns), ns_compare);
	printf("{\"huge_calls\": %zu, \"moved\": %zu, \"p50_ns\": %llu, \"p99_ns\": %llu, \"max_ns\": %llu, "
	       "\"longest_touch_ns\": %llu}\n", nr, moved, (unsigned long long)took_ns[nr / 2],
	       (unsigned long long)took_ns[nr * 99 / 100], (unsigned long long)took_ns[nr - 1],
	       (unsigned long long)atomic_load(&touches->longest_ns));
}

/* ---- what no batch saves, and what attach does beside ------------------------------------------ */

static uint64_t copy_measure(unsigned char *to, const unsigned char *from, bool bytes)
{
	uint64_t begin = vm_now_ns();

	for (size_t i = 0; i < NR_COPIED; i++) {
		const void *source = from + i * PAGE_BYTES;
		void *target = to + i * PAGE_BYTES;
		size_t nr = bytes ? PAGE_BYTES : PAGE_BYTES / 8;

		if (bytes)
			__asm__ volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(nr) : : "memory");
		else
			__asm__ volatile("rep movsq" : "+S"(source), "+D"(target), "+c"(nr) : : "memory");
	}
	return (vm_now_ns() - begin) / NR_COPIED;
}

/* Pages of two aligned blocks share their place in the emulator's table of translations, as those of a huge
 * page that moves do; `apart` are pages that do not. */
static void floor_measure(void)
{
	size_t bytes = (NR_COPIED + 1) * PAGE_BYTES;
	unsigned char *from = vm_memory(bytes), *to = vm_memory(bytes);

	memset(from, 1, bytes);
	memset(to, 1, bytes);
	printf("{\"copy_ns_per_page\": %llu, ", (unsigned long long)copy_measure(to, from, false));
	printf("\"copy_apart_ns_per_page\": %llu, ",
	       (unsigned long long)copy_measure(to + PAGE_BYTES, from, false));
	printf("\"copy_bytes_ns_per_page\": %llu, ", (unsigned long long)copy_measure(to, from, true));
	printf("\"copy_bytes_apart_ns_per_page\": %llu, ",
	       (unsigned long long)copy_measure(to + PAGE_BYTES, from, true));
	uint64_t begin = vm_now_ns();
	for (size_t i = 0; i < NR_COPIED; i++) {
		void *target = to + i * PAGE_BYTES;
		size_t words = PAGE_BYTES / 8;

		__asm__ volatile("rep stosq" : "+D"(target), "+c"(words) : "a"(0) : "memory");
	}
	printf("\"clear_ns_per_page\": %llu}\n", (unsigned long long)((vm_now_ns() - begin) / NR_COPIED));
}

/* `batch` pages at a time by the whole way; the fewest of them are enough for a figure. */
static void way_measure(pid_t pid, const uint64_t *addresses, size_t batch)
{
	static const struct process_options options = { .root = "", .stall_ns = UINT64_MAX };
	static struct process_move moves[NR_PAGES];
	const struct process_range *ranges;
	struct process_tally tally = { 0 };
	struct process_space *space;
	struct node_map map;
	size_t nr_ranges, nr = batch * NR_SINGLE < NR_PAGES ? batch * NR_SINGLE : NR_PAGES;

	CHECK(node_map_read("", &map) == 0 && process_open(pid, &options, &map, &space) == 0);
	CHECK(process_ranges(space, &ranges, &nr_ranges) == 0);
	for (size_t i = 0; i < nr; i++)
		moves[i] = (struct process_move){ .address = addresses[i], .page_bytes = PAGE_BYTES };
	uint64_t begin = vm_now_ns();
	for (size_t at = 0; at < nr; at += batch)
		CHECK(process_move(space, moves + at, nr - at < batch ? nr - at : batch, NULL, 0, &tally) == 0);
	uint64_t ns = vm_now_ns() - begin;
	printf("{\"way_pages\": %zu, \"pages\": %zu, \"moved\": %llu, \"ns_per_page\": %llu}\n", batch, nr,
	       (unsigned long long)(tally.bytes[REASON_MOVED] / PAGE_BYTES), (unsigned long long)(ns / nr));
	process_close(space);
	node_map_free(&map);
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
	bool huge = strcmp(argv[1], "huge") == 0, sleeping = strcmp(argv[1], "sleeping") == 0;
	CHECK(madvise(memory, NR_PAGES * PAGE_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0);
	vm_home(1);
	memset(memory, 1, NR_PAGES * PAGE_BYTES);
	vm_home_default();
	/* What the child does not share with us is its own to move. */
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		owner_live(memory, !sleeping, touches);
	CHECK(munmap(memory, NR_PAGES * PAGE_BYTES) == 0);
	for (size_t i = 0; i < NR_PAGES; i++)
		addresses[i] = (uint64_t)(uintptr_t)memory + i * PAGE_BYTES;
	if (huge)
		huge_measure(pid, addresses, touches);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes) && !huge; i++)
		size_measure(pid, addresses, sizes[i], touches);
	if (sleeping) {
		way_measure(pid, addresses, 1);
		way_measure(pid, addresses, 512);
		floor_measure();
	}
	kill(pid, SIGKILL);
	return waitpid(pid, NULL, 0) != pid;
}
