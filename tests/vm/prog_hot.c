/* SPDX-License-Identifier: MIT */
/*
 * A process with a hot set: it touches some of its memory all the time and the rest never.
 *
 *     vm_hot [--size MIB] [--hot MIB] [--pattern contiguous|runs16|huge|pages] [--seed N]
 *            [--slow NODE] [--fast NODE] [--threads N] [--seconds N] [--report-ms N] [--fill MIB]
 *            [--reserve GIB]
 *
 * All memory starts on the slow node; after that the default policy is in force. Which pages are
 * hot follows from the seed: units (a page, a run of 16, a block of 2 MiB) are put into an order,
 * the first of them are hot, and SIGUSR1 makes the ones after them hot instead. `huge` asks for
 * huge pages. SIGTERM or the time ends it.
 *
 * With --fill another thread takes so much new memory of the slow node, in small steps, and touches
 * each page of it once in its life, by one access. With --reserve it has so much address space beside, and a
 * page of it in memory here and there.
 *
 * One touch reads a page's counter, wants the value that was written there last, and writes the
 * next. The rest of each page follows from seed and page number and is compared at the end. So a
 * page that is lost, stale, or taken for another ends the program with a line MISMATCH and status
 * 1.
 *
 * Its speed must not depend on what others did to it before. The emulator caches translations of
 * addresses in a table that grows only when it is flushed while full, so whoever makes the kernel
 * flush it makes a program several times faster for a while. Where there are protection keys each
 * thread has it flushed once in every round over its pages: the emulator does that when a key's
 * rights are written, a real CPU does not. So each touch costs a walk through the page tables, as
 * on a CPU whose own table is smaller than the hot set.
 *
 * Standard output has one JSON object a line: "ready", then a "report" each interval and at each
 * SIGUSR1, then "end".
 * Bytes on nodes are what the kernel says (move_pages). `ops` are touches. A stall is one touch that
 * took long: the clock is looked at after each, for a thread that waits for one page again and again
 * may wait for the next one right after. `stalls` counts those over 1, 5, 10, 25, 50 and 100 ms, each of
 * them in all it exceeds, and the longest since the last report is named.
 */
#include "vm.h"

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { GROUP = 64, MAX_THREADS = 16, NR_STALLS = 6 };

static const uint64_t stall_ns[NR_STALLS] = { 1000000, 5000000, 10000000, 25000000, 50000000,
					      100000000 };

struct settings {
	size_t size_mib, hot_mib, fill_mib, reserve_gib, unit_pages;
	unsigned int slow, fast, nr_threads, seconds, report_ms;
	uint64_t seed;
	bool shuffled, huge;
	const char *pattern;
};

/* The pages one thread touches now; a new one is published when the hot set moves. */
struct hot_list {
	size_t nr_pages;
	uint32_t pages[];
};

struct worker {
	pthread_t thread;
	_Atomic(struct hot_list *) list;
	atomic_bool stop;
	atomic_uint_fast64_t ops, longest_ns;
	atomic_uint_fast64_t stalls[NR_STALLS];
};

static struct settings set = {
	.size_mib = 1024, .hot_mib = 260, .unit_pages = BLOCK_PAGES, .slow = 1, .fast = 0,
	.nr_threads = 1, .seconds = 3600, .report_ms = 1000, .seed = 1, .pattern = "contiguous",
};
static unsigned char *memory;
static size_t nr_pages;
/* What the counter of each page must be. Units belong to one thread for ever, so nobody races. */
static uint32_t *counters;
static uint32_t *order; /* of units */
static size_t nr_units, hot_units, generation;
static struct hot_list *all_hot;
static struct worker workers[MAX_THREADS];
static int protection_key;

/* ---- contents -------------------------------------------------------------------------------- */

/* Word 0 is the counter. */
static uint64_t word_of(size_t page, size_t word)
{
	return pattern_mix(set.seed ^ pattern_mix(page)) + word * UINT64_C(0x9e3779b97f4a7c15);
}

static void fill(size_t page)
{
	uint64_t *words = (uint64_t *)(void *)(memory + page * PAGE_BYTES);
	uint64_t value = word_of(page, 1);

	words[0] = 0;
	for (size_t i = 1; i < PAGE_WORDS; i++, value += UINT64_C(0x9e3779b97f4a7c15))
		words[i] = value;
}

static void compare(size_t page)
{
	const uint64_t *words = (const uint64_t *)(void *)(memory + page * PAGE_BYTES);
	uint64_t value = word_of(page, 1);

	for (size_t i = 1; i < PAGE_WORDS; i++, value += UINT64_C(0x9e3779b97f4a7c15)) {
		if (words[i] == value)
			continue;
		dprintf(2, "MISMATCH page %zu word %zu expected %llx got %llx\n", page, i,
			(unsigned long long)value, (unsigned long long)words[i]);
		_exit(1);
	}
}

/* Wants that word 0 is the last value written there, and writes the next. */
static inline void touch(size_t page)
{
	volatile uint64_t *counter = (uint64_t *)(void *)(memory + page * PAGE_BYTES);
	uint64_t value = *counter;

	if (value != counters[page]) {
		dprintf(2, "MISMATCH page %zu counter %llu, last written %u\n", page,
			(unsigned long long)value, counters[page]);
		_exit(1);
	}
	*counter = ++counters[page];
}

/* ---- which pages are hot --------------------------------------------------------------------- */

static void make_order(void)
{
	uint64_t random = pattern_mix(set.seed) | 1;

	nr_units = nr_pages / set.unit_pages;
	hot_units = set.hot_mib * PAGES_PER_MIB / set.unit_pages;
	order = calloc(nr_units, sizeof(*order));
	CHECK(order && hot_units >= set.nr_threads && hot_units < nr_units);
	for (size_t i = 0; i < nr_units; i++)
		order[i] = (uint32_t)i;
	for (size_t i = nr_units - 1; set.shuffled && i > 0; i--) {
		size_t other = live_random(&random) % (i + 1);
		uint32_t unit = order[i];

		order[i] = order[other];
		order[other] = unit;
	}
}

/* The unit at this place of the present hot set. Its place in the order names its thread. */
static size_t hot_place(size_t i)
{
	return (generation * hot_units + i) % nr_units;
}

static struct hot_list *list_new(void)
{
	struct hot_list *list = calloc(1, sizeof(*list) + hot_units * set.unit_pages *
						 sizeof(*list->pages));

	CHECK(list);
	return list;
}

static void publish_lists(void)
{
	struct hot_list *lists[MAX_THREADS];

	all_hot = list_new();
	for (unsigned int i = 0; i < set.nr_threads; i++)
		lists[i] = list_new();
	for (size_t i = 0; i < hot_units; i++) {
		size_t place = hot_place(i);
		struct hot_list *list = lists[place % set.nr_threads];

		for (size_t j = 0; j < set.unit_pages; j++) {
			uint32_t page = (uint32_t)(order[place] * set.unit_pages + j);

			list->pages[list->nr_pages++] = page;
			all_hot->pages[all_hot->nr_pages++] = page;
		}
	}
	/* The lists before are left alone: a thread may be reading one. */
	for (unsigned int i = 0; i < set.nr_threads; i++)
		atomic_store_explicit(&workers[i].list, lists[i], memory_order_release);
}

/* ---- touching -------------------------------------------------------------------------------- */

static void note_stall(struct worker *worker, uint64_t ns)
{
	for (size_t i = 0; i < NR_STALLS && ns > stall_ns[i]; i++)
		atomic_fetch_add_explicit(&worker->stalls[i], 1, memory_order_relaxed);
	if (ns > atomic_load_explicit(&worker->longest_ns, memory_order_relaxed))
		atomic_store_explicit(&worker->longest_ns, ns, memory_order_relaxed);
}

/* Every page of the list once in each round, in an order that no read-ahead follows. */
static void *work(void *argument)
{
	struct worker *worker = argument;
	uint64_t before = vm_now_ns();
	size_t at = 0, since_flush = 0;

	while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
		/* Pairs with the release in publish_lists(). */
		const struct hot_list *list =
			atomic_load_explicit(&worker->list, memory_order_acquire);

		for (size_t i = 0; i < GROUP; i++) {
			uint64_t now;

			/* A prime larger than any list divides none of them. */
			at = (at + 1000003) % list->nr_pages;
			touch(list->pages[at]);
			now = vm_now_ns();
			note_stall(worker, now - before);
			before = now;
		}
		atomic_fetch_add_explicit(&worker->ops, GROUP, memory_order_relaxed);
		since_flush += GROUP;
		if (since_flush >= list->nr_pages && protection_key >= 0) {
			CHECK(pkey_set(protection_key, 0) == 0);
			since_flush = 0;
		}
	}
	return NULL;
}

/* ---- memory that is touched once -------------------------------------------------------------- */

static unsigned char *fresh;
static atomic_size_t nr_fresh; /* pages of it that were touched */
static pthread_t filler;
static atomic_bool fill_stop;

static void *fill_fresh(void *argument)
{
	size_t nr = set.fill_mib * PAGES_PER_MIB;

	(void)argument;
	vm_home(set.slow);
	for (size_t i = 0; i < nr && !atomic_load_explicit(&fill_stop, memory_order_relaxed); i++) {
		*(volatile unsigned char *)(fresh + i * PAGE_BYTES) = 1;
		atomic_store_explicit(&nr_fresh, i + 1, memory_order_relaxed);
		if (i % 4 == 0)
			usleep(10000);
	}
	return NULL;
}

static void fill_begin(void)
{
	if (!set.fill_mib)
		return;
	fresh = vm_memory(set.fill_mib * PAGES_PER_MIB * PAGE_BYTES);
	CHECK(madvise(fresh, set.fill_mib * PAGES_PER_MIB * PAGE_BYTES, MADV_NOHUGEPAGE) == 0);
	CHECK(pthread_create(&filler, NULL, fill_fresh, NULL) == 0);
}

static void fill_end(void)
{
	if (!set.fill_mib)
		return;
	atomic_store_explicit(&fill_stop, true, memory_order_relaxed);
	CHECK(pthread_join(filler, NULL) == 0);
}

/* ---- telling --------------------------------------------------------------------------------- */

static size_t hot_bytes_on(unsigned int node)
{
	return vm_listed_pages_on(memory, all_hot->pages, all_hot->nr_pages, node) * PAGE_BYTES;
}

static void print_stalls(void)
{
	uint64_t longest = 0, total[NR_STALLS] = { 0 };

	for (unsigned int i = 0; i < set.nr_threads; i++) {
		uint64_t ns = atomic_exchange_explicit(&workers[i].longest_ns, 0,
						       memory_order_relaxed);

		longest = ns > longest ? ns : longest;
		for (size_t j = 0; j < NR_STALLS; j++)
			total[j] += atomic_load_explicit(&workers[i].stalls[j],
							 memory_order_relaxed);
	}
	printf(", \"longest_stall_ns\": %llu, \"stalls\": {", (unsigned long long)longest);
	for (size_t j = 0; j < NR_STALLS; j++)
		printf("%s\"%llu\": %llu", j ? ", " : "",
		       (unsigned long long)(stall_ns[j] / 1000000), (unsigned long long)total[j]);
	printf("}");
}

static uint64_t total_ops(void)
{
	uint64_t ops = 0;

	for (unsigned int i = 0; i < set.nr_threads; i++)
		ops += atomic_load_explicit(&workers[i].ops, memory_order_relaxed);
	return ops;
}

/* `huge_bytes` is asked for only where the answer can be something. */
static void report(uint64_t start_ns)
{
	static uint64_t last_ns, last_ops;
	uint64_t now = vm_now_ns(), ops = total_ops();
	uint64_t since = now - (last_ns ? last_ns : start_ns);

	printf("{\"what\": \"report\", \"now_ns\": %llu, \"since_start_ns\": %llu, \"ops\": %llu, "
	       "\"ops_per_s\": %.0f, \"generation\": %zu, \"hot_fast_bytes\": %zu, "
	       "\"hot_slow_bytes\": %zu",
	       (unsigned long long)now, (unsigned long long)(now - start_ns),
	       (unsigned long long)ops, (double)(ops - last_ops) * 1e9 / (double)since, generation,
	       hot_bytes_on(set.fast), hot_bytes_on(set.slow));
	if (set.huge)
		printf(", \"huge_bytes\": %zu", vm_huge_bytes(memory));
	if (set.fill_mib) {
		size_t nr = atomic_load_explicit(&nr_fresh, memory_order_relaxed);

		printf(", \"fresh_bytes\": %zu, \"fresh_fast_bytes\": %zu", nr * PAGE_BYTES,
		       vm_pages_on(fresh, nr, set.fast) * PAGE_BYTES);
	}
	print_stalls();
	printf("}\n");
	fflush(stdout);
	last_ns = now;
	last_ops = ops;
}

/* Until time is up or somebody ends it. Signals are taken here, no thread is interrupted. */
static void report_until_end(const sigset_t *signals)
{
	uint64_t start = vm_now_ns(), end = start + set.seconds * UINT64_C(1000000000);
	uint64_t next = start, now;

	while ((now = vm_now_ns()) < end) {
		struct timespec left;
		uint64_t wait;
		int got;

		if (now >= next) {
			report(start);
			next += set.report_ms * UINT64_C(1000000);
			continue;
		}
		wait = next < end ? next - now : end - now;
		left = (struct timespec){ .tv_sec = (time_t)(wait / 1000000000),
					  .tv_nsec = (long)(wait % 1000000000) };
		got = sigtimedwait(signals, NULL, &left);
		if (got == SIGUSR1) {
			/* Where the others are before anybody can have moved them. */
			generation++;
			publish_lists();
			report(start);
		} else if (got > 0) {
			break;
		}
	}
	report(start);
}

static void finish(void)
{
	for (unsigned int i = 0; i < set.nr_threads; i++)
		atomic_store_explicit(&workers[i].stop, true, memory_order_relaxed);
	for (unsigned int i = 0; i < set.nr_threads; i++)
		CHECK(pthread_join(workers[i].thread, NULL) == 0);
	fill_end();
	printf("{\"what\": \"end\", \"now_ns\": %llu, \"ops\": %llu, \"fast_bytes\": %zu, "
	       "\"slow_bytes\": %zu", (unsigned long long)vm_now_ns(),
	       (unsigned long long)total_ops(), vm_pages_on(memory, nr_pages, set.fast) * PAGE_BYTES,
	       vm_pages_on(memory, nr_pages, set.slow) * PAGE_BYTES);
	for (size_t i = 0; i < nr_pages; i++) {
		touch(i);
		compare(i);
	}
	print_stalls();
	printf(", \"verified_bytes\": %zu}\n", nr_pages * PAGE_BYTES);
}

/* ---- beginning ------------------------------------------------------------------------------- */

static bool set_pattern(const char *name)
{
	static const struct {
		const char *name;
		size_t unit_pages;
		bool shuffled, huge;
	} patterns[] = {
		{ "contiguous", BLOCK_PAGES, false, false },
		{ "runs16", 16, true, false },
		{ "huge", BLOCK_PAGES, true, true },
		{ "pages", 1, true, false },
	};

	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		if (strcmp(name, patterns[i].name) != 0)
			continue;
		set.pattern = patterns[i].name;
		set.unit_pages = patterns[i].unit_pages;
		set.shuffled = patterns[i].shuffled;
		set.huge = patterns[i].huge;
		return true;
	}
	return false;
}

static bool set_option(int option, const char *text)
{
	char *end;
	unsigned long long value;

	if (option == 'P')
		return set_pattern(text);
	value = strtoull(text, &end, 10);
	if (*text == '\0' || *end || value > 1u << 20)
		return false;
	switch (option) {
	case 'S': set.size_mib = value; return value > 0;
	case 'H': set.hot_mib = value; return value > 0;
	case 'r': set.seed = value; return true;
	case 's': set.slow = (unsigned int)value; return value < 64;
	case 'f': set.fast = (unsigned int)value; return value < 64;
	case 't': set.nr_threads = (unsigned int)value; return value > 0 && value <= MAX_THREADS;
	case 'T': set.seconds = (unsigned int)value; return true;
	case 'F': set.fill_mib = value; return value > 0;
	case 'A': set.reserve_gib = value; return value > 0;
	case 'R': set.report_ms = (unsigned int)value; return value > 0;
	default: return false;
	}
}

static bool parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 'S' },
		{ "hot", required_argument, NULL, 'H' },
		{ "pattern", required_argument, NULL, 'P' },
		{ "seed", required_argument, NULL, 'r' },
		{ "slow", required_argument, NULL, 's' },
		{ "fast", required_argument, NULL, 'f' },
		{ "threads", required_argument, NULL, 't' },
		{ "seconds", required_argument, NULL, 'T' },
		{ "report-ms", required_argument, NULL, 'R' },
		{ "fill", required_argument, NULL, 'F' },
		{ "reserve", required_argument, NULL, 'A' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (!set_option(option, optarg ? optarg : ""))
			return false;
	return optind == argc;
}

static void reserve(void)
{
	size_t bytes = set.reserve_gib << 30;
	char *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	CHECK(area != MAP_FAILED);
	for (size_t at = 0; at < bytes; at += bytes / 8)
		area[at] = 1;
}

static void prepare(void)
{
	if (set.reserve_gib)
		reserve();
	nr_pages = set.size_mib * PAGES_PER_MIB;
	memory = vm_memory(nr_pages * PAGE_BYTES);
	CHECK(madvise(memory, nr_pages * PAGE_BYTES,
		      set.huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0);
	counters = calloc(nr_pages, sizeof(*counters));
	CHECK(counters);
	make_order();
	protection_key = pkey_alloc(0, 0);
	vm_home(set.slow);
	for (size_t i = 0; i < nr_pages; i++)
		fill(i);
	vm_home_default();
	/* Under `pagetide run` some may be held by now, and so on no node that the kernel tells. */
	CHECK(getenv("LIVE_BUDGET_MIB") || vm_pages_on(memory, nr_pages, set.slow) == nr_pages);
}

int main(int argc, char **argv)
{
	sigset_t signals;

	if (!parse(argc, argv)) {
		dprintf(2, "usage: see the head of prog_hot.c\n");
		return 2;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	CHECK(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
	prepare();
	publish_lists();
	printf("{\"what\": \"ready\", \"pid\": %d, \"pattern\": \"%s\", \"bytes\": %zu, "
	       "\"hot_bytes\": %zu, \"address\": %llu, \"huge_bytes\": %zu}\n", (int)getpid(),
	       set.pattern, nr_pages * PAGE_BYTES, hot_units * set.unit_pages * PAGE_BYTES,
	       (unsigned long long)(uintptr_t)memory, vm_huge_bytes(memory));
	fflush(stdout);
	for (unsigned int i = 0; i < set.nr_threads; i++)
		CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
	fill_begin();
	report_until_end(&signals);
	finish();
	return 0;
}
