/* SPDX-License-Identifier: MIT */
/*
 * One process in a recorded tree, and a kernel made up around it: a clock that the test turns, and the
 * few calls of src/os that files alone cannot answer (linked with --wrap). Whoever is touched here is
 * touched in every way at once: marks in page tables, bits of frames, records in rings.
 */
#ifndef TEST_SENSE_WORLD_H
#define TEST_SENSE_WORLD_H

#include <fcntl.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "page_idle.h"
#include "pagemap.h"
#include "perf.h"
#include "tree.h"

#define WORLD_PID 4711
#define WORLD_BASE UINT64_C(0x10000000)
#define WORLD_PAGES 64u
#define WORLD_WORDS 16u /* of the bitmap */
#define WORLD_CPU 1u
#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SOFT_DIRTY (UINT64_C(1) << 55)
#define DAMON_ADMIN "/sys/kernel/mm/damon/admin/kdamonds/"
#define DAMON_CONTEXT DAMON_ADMIN "0/contexts/0/"
#define WORLD_TRACE "/trace"
#define PROC "/proc/4711/"

static uint64_t world_now_ns;
static char *world_ring;       /* of the process's one thread; NULL: none is open */
static size_t world_ring_bytes;
static bool world_guests; /* their touches are in the ring */

#define WORLD_CPUS 2u
static char *world_arms[WORLD_CPUS]; /* their rings of what becomes inaccessible; NULL: none gets any */
static unsigned world_nr_arms;       /* such rings that are open */
static int world_arms_error;         /* of opening the next ones */
static void (*world_probe_visit)(void); /* such a ring is opened, any ring is closed; NULL: nothing to do */
static const char *world_refuses;    /* a file that cannot be written; NULL */

static uint64_t world_hint_faults; /* that the kernel counted */

/* DAMON: whether it runs, and which of its regions of 4 pages were accessed since the last update. */
static bool world_damon_on, world_damon[WORLD_PAGES / 4];

/* ---- files ---- */

static void world_path(char path[PATH_MAX], const char *name)
{
	snprintf(path, PATH_MAX, "%s%s", root, name);
}

static uint64_t word_read(const char *name, uint64_t at)
{
	char path[PATH_MAX];
	uint64_t word = 0;

	world_path(path, name);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && pread(fd, &word, sizeof word, (off_t)(at * sizeof word)) == sizeof word);
	close(fd);
	return word;
}

static void word_write(const char *name, uint64_t at, uint64_t word)
{
	char path[PATH_MAX];

	world_path(path, name);
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0 && pwrite(fd, &word, sizeof word, (off_t)(at * sizeof word)) == sizeof word);
	close(fd);
}

/* Frames lie about: not in the order of addresses, several to a word of the bitmap. */
static uint64_t world_frame(unsigned page)
{
	return 64 + page * 13 % WORLD_PAGES * 7;
}

static uint64_t world_entry(unsigned page)
{
	return WORLD_BASE / 4096 + page;
}

/* `image`: another one is another program. */
static void world_stat(char *text, size_t bytes, int parent, int image)
{
	snprintf(text, bytes, "%d (a (b) c) S %d", WORLD_PID, parent);
	for (int field = 5; field <= 52; field++)
		snprintf(text + strlen(text), bytes - strlen(text), " %d",
			 field == 39 ? 0 : field == 22 ? image : field);
	snprintf(text + strlen(text), bytes - strlen(text), "\n");
}

/* The kernel counts every fault, and of these its own. */
static void world_count(uint64_t nr_hint_faults)
{
	char text[64];

	world_hint_faults = nr_hint_faults;
	snprintf(text, sizeof text, "pgfault %llu\nnuma_hint_faults %llu\n",
		 (unsigned long long)nr_hint_faults + 5000, (unsigned long long)nr_hint_faults);
	put("/proc/vmstat", text);
}

static void world_lay(void)
{
	char stat[512];

	put(PROC "maps", "10000000-10040000 rw-p 00000000 00:00 0 \n"
			 "7ffff000-80000000 r-xp 00000000 00:00 0                    [vdso]\n");
	world_stat(stat, sizeof stat, 1, 22);
	put(PROC "stat", stat);
	put(PROC "task/4711/stat", stat);
	put(PROC "statm", "80 64 0 0 0 0 0\n");
	put(PROC "clear_refs", "");
	put(PROC "pagemap", "");
	put(PAGE_IDLE_PATH, "");
	put(WORLD_TRACE, "");
	world_count(70);
	/* Before anybody cleared the marks all pages have one. */
	for (unsigned page = 0; page < WORLD_PAGES; page++)
		word_write(PROC "pagemap", world_entry(page),
			   ENTRY_PRESENT | ENTRY_SOFT_DIRTY | world_frame(page));
	for (unsigned word = 0; word < WORLD_WORDS; word++)
		word_write(PAGE_IDLE_PATH, word, 0);
	world_now_ns = UINT64_C(1000000000000);
	world_ring = NULL;
	memset(world_arms, 0, sizeof world_arms);
	world_nr_arms = 0;
	world_arms_error = 0;
	put("/sys/devices/system/cpu/online", "0-1\n");
	world_probe_visit = NULL;
	world_refuses = NULL;
	world_damon_on = false;
}

static void world_end(void)
{
	char command[PATH_MAX];

	snprintf(command, sizeof command, "rm -r %s/proc/4711", root);
	assert_int_equal(system(command), 0);
}

/* ---- touches ---- */

/* What a ring has a record of: the kernel's head goes on. */
static void ring_put_to(char *ring, const uint64_t *words, size_t nr)
{
	struct perf_event_mmap_page *control = (void *)ring;

	if (!ring)
		return;
	assert_true(control->data_head + nr * 8 < world_ring_bytes);
	memcpy(ring + 4096 + control->data_head, words, nr * 8);
	__atomic_store_n(&control->data_head, control->data_head + nr * 8, __ATOMIC_RELEASE);
}

static void ring_put(const uint64_t *words, size_t nr)
{
	ring_put_to(world_ring, words, nr);
}

/* The kernel's scanner, on a CPU, comes to a range of the process. */
static void ring_arm(unsigned cpu, uint64_t address, uint64_t end)
{
	const uint64_t sample[] = {
		UINT64_C(88) << 48 | UINT64_C(1) << 32 | PERF_RECORD_SAMPLE, 12,
		(uint64_t)WORLD_PID << 32 | WORLD_PID, world_now_ns, UINT64_C(0xffffffff8a2d2345), cpu,
		2, 0, end, address, 0,
	};

	ring_put_to(world_arms[cpu], sample, sizeof sample / 8);
}

static void ring_touch(uint64_t address)
{
	const uint64_t sample[] = {
		UINT64_C(48) << 48 | UINT64_C(2) << 32 | PERF_RECORD_SAMPLE, 11,
		(uint64_t)WORLD_PID << 32 | WORLD_PID, world_now_ns, address, WORLD_CPU,
	};

	ring_put(sample, sizeof sample / 8);
}

/* Of a guest that the process runs: no fault, and its address is the first argument of a function. That is called
 * twice: KVM tries again when it cannot have the page at once. */
static void ring_guest(uint64_t address)
{
	const uint64_t sample[] = {
		UINT64_C(88) << 48 | UINT64_C(1) << 32 | PERF_RECORD_SAMPLE, 14,
		(uint64_t)WORLD_PID << 32 | WORLD_PID, world_now_ns, UINT64_C(0xffffffff8a2d2345), WORLD_CPU,
		2, 0, 0, 1, address,
	};

	for (unsigned i = 0; i < 2 && world_guests; i++)
		ring_put(sample, sizeof sample / 8);
}

static void ring_lose_to(char *ring, uint64_t nr)
{
	const uint64_t lost[] = { UINT64_C(24) << 48 | PERF_RECORD_LOST, 11, nr };

	ring_put_to(ring, lost, sizeof lost / 8);
}

static void ring_lose(uint64_t nr)
{
	ring_lose_to(world_ring, nr);
}

static void trace_append(const char *text)
{
	char path[PATH_MAX];

	world_path(path, WORLD_TRACE);
	FILE *file = fopen(path, "a");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void trace_lose(uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		trace_append("no access\n");
}

/* By the process itself, or by a guest of KVM that it runs. */
static void world_touch_of(unsigned page, bool guest)
{
	uint64_t frame = world_frame(page), at = world_entry(page);
	char line[64];

	word_write(PROC "pagemap", at, word_read(PROC "pagemap", at) | ENTRY_SOFT_DIRTY);
	word_write(PAGE_IDLE_PATH, frame / 64,
		   word_read(PAGE_IDLE_PATH, frame / 64) & ~(UINT64_C(1) << frame % 64));
	world_damon[page / 4] = true;
	world_count(world_hint_faults + 1);
	if (guest)
		ring_guest(WORLD_BASE + page * 4096);
	else
		ring_touch(WORLD_BASE + page * 4096 + 8);
	snprintf(line, sizeof line, "0 %d %llu %u\n", WORLD_PID,
		 (unsigned long long)WORLD_BASE + page * 4096 + 16, WORLD_CPU);
	trace_append(line);
}

static void world_touch(unsigned page)
{
	world_touch_of(page, false);
}

/* ---- the kernel's side ---- */

/* Names that the linker makes. */
int __wrap_file_put(const char *tree, const char *text, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int __real_file_put(const char *tree, const char *text, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_pagemap_clear_soft_dirty(int dir);
int __real_pagemap_clear_soft_dirty(int dir);
int __wrap_page_idle_mark(int fd, uint64_t first, const uint64_t *words, size_t nr);
int __real_page_idle_mark(int fd, uint64_t first, const uint64_t *words, size_t nr);
int __wrap_perf_ring_open(pid_t tid, size_t bytes, struct perf_ring *ret_ring);
int __wrap_perf_ring_open_memory(pid_t tid, size_t bytes, const struct perf_memory *memory,
				 struct perf_ring *ret_ring);
int __wrap_perf_ring_guests(struct perf_ring *ring, uint32_t probe_type);
int __wrap_perf_ring_open_arms(unsigned int cpu, size_t bytes, uint32_t probe_type, struct perf_ring *ret_ring);
uint64_t __wrap_perf_ring_enabled_ns(const struct perf_ring *ring);
void __wrap_perf_ring_close(struct perf_ring *ring);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	(void)clock;
	*ret = (struct timespec){
		.tv_sec = (time_t)(world_now_ns / 1000000000),
		.tv_nsec = (long)(world_now_ns % 1000000000),
	};
	return 0;
}

int __wrap_pagemap_clear_soft_dirty(int dir)
{
	int error = __real_pagemap_clear_soft_dirty(dir);

	for (unsigned page = 0; !error && page < WORLD_PAGES; page++)
		word_write(PROC "pagemap", world_entry(page),
			   word_read(PROC "pagemap", world_entry(page)) & ~ENTRY_SOFT_DIRTY);
	return error;
}

/* Bits are set, never cleared; and only those of frames that hold a page of the process: the kernel
 * tracks no others. Page 5 is never tracked. */
int __wrap_page_idle_mark(int fd, uint64_t first, const uint64_t *words, size_t nr)
{
	uint64_t now[WORLD_WORDS];

	assert_true(first + nr <= WORLD_WORDS);
	assert_int_equal(page_idle_read(fd, first, now, nr), 0);
	for (unsigned page = 0; page < WORLD_PAGES; page++) {
		uint64_t word = world_frame(page) / 64 - first, bit = UINT64_C(1) << world_frame(page) % 64;
		if (page != 5 && word < nr)
			now[word] |= words[word] & bit;
	}
	return __real_page_idle_mark(fd, first, now, nr);
}

static char *ring_map(size_t bytes)
{
	char *map = mmap(NULL, 4096 + bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(map != MAP_FAILED);
	return map;
}

int __wrap_perf_ring_open(pid_t tid, size_t bytes, struct perf_ring *ret_ring)
{
	assert_true(tid == WORLD_PID || tid == getpid());
	world_ring_bytes = bytes;
	world_ring = ring_map(bytes);
	*ret_ring = (struct perf_ring){
		.fds = { -1, -1, -1, -1 }, .ids = { { 11, 0, 0, 14 } }, .tid = tid, .map = world_ring, .bytes = bytes,
	};
	return 0;
}

int __wrap_perf_ring_open_memory(pid_t tid, size_t bytes, const struct perf_memory *memory,
				 struct perf_ring *ret_ring)
{
	assert_int_equal(memory->type, 4);
	assert_int_equal(memory->config, 0x1cd);
	return __wrap_perf_ring_open(tid, bytes, ret_ring);
}

/* The regions that were accessed, each 9 times of 10; and one that was once. Numbered through all schemes, as
 * Linux 6.12 does: those of other processes come first. */
static void damon_update(void)
{
	char path[PATH_MAX], command[2 * PATH_MAX + 32], text[32];
	unsigned nr = 7;

	world_path(path, DAMON_CONTEXT "schemes/0/tried_regions");
	snprintf(command, sizeof command, "rm -rf %s && mkdir %s", path, path);
	assert_int_equal(system(command), 0);
	for (unsigned i = 0; i < WORLD_PAGES / 4; i++) {
		const uint64_t values[] = {
			WORLD_BASE + i * UINT64_C(16384), WORLD_BASE + (i + 1) * UINT64_C(16384),
			world_damon[i] ? 9 : 1,
		};
		if (!world_damon[i] && !(i && world_damon[i - 1]))
			continue;
		for (unsigned f = 0; f < 3; f++) {
			static const char *const names[] = { "start", "end", "nr_accesses" };
			snprintf(path, sizeof path, DAMON_CONTEXT "schemes/0/tried_regions/%u/%s", nr, names[f]);
			snprintf(text, sizeof text, "%llu\n", (unsigned long long)values[f]);
			put(path, text);
		}
		nr++;
	}
	memset(world_damon, 0, sizeof world_damon);
}

/* A word to DAMON's thread, as the kernel takes it. */
static int damon_word(const char *word)
{
	char path[PATH_MAX], pid[16] = "";

	if (!strcmp(word, "off")) {
		world_damon_on = false;
		return 0;
	}
	if (strcmp(word, "on")) {
		world_path(path, PROC "stat");
		if (!world_damon_on || access(path, F_OK))
			return -EINVAL; /* it ends with its last process */
		damon_update();
		return 0;
	}
	assert_false(world_damon_on);
	assert_int_equal(file_read(root, pid, sizeof pid, DAMON_CONTEXT "targets/0/pid_target"), 0);
	assert_int_equal(atoi(pid), WORLD_PID);
	memset(world_damon, 0, sizeof world_damon);
	world_damon_on = true;
	return 0;
}

/* The folders of DAMON come when they are asked for; here with the first write. */
int __wrap_file_put(const char *tree, const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof path, format, args);
	va_end(args);
	if (world_refuses && !strcmp(path, world_refuses))
		return -EIO;
	if (strncmp(path, DAMON_ADMIN "0/", strlen(DAMON_ADMIN "0/")))
		return __real_file_put(tree, text, "%s", path);
	if (!strcmp(path, DAMON_ADMIN "0/state"))
		return damon_word(text);
	assert_false(world_damon_on); /* what runs is left as it is */
	put(path, text);
	return 0;
}

int __wrap_perf_ring_guests(struct perf_ring *ring, uint32_t probe_type)
{
	if (!probe_type)
		return -EPERM;
	ring->fds[PERF_GUEST] = INT_MAX; /* nobody's */
	world_guests = true;
	return 0;
}

int __wrap_perf_ring_open_arms(unsigned int cpu, size_t bytes, uint32_t probe_type, struct perf_ring *ret_ring)
{
	assert_int_equal(probe_type, 6);
	if (cpu >= WORLD_CPUS || world_arms_error)
		return world_arms_error ? world_arms_error : -ENODEV;
	if (world_probe_visit)
		world_probe_visit();
	assert_null(world_arms[cpu]);
	world_arms[cpu] = ring_map(bytes);
	world_nr_arms++;
	*ret_ring = (struct perf_ring){
		.fds = { -1, -1, -1, -1 }, .ids = { { 0, 12, 13, 0 } }, .tid = -1,
		.map = world_arms[cpu], .bytes = bytes,
	};
	return 0;
}

/* The time of the events of a CPU that was offline stands still. */
uint64_t __wrap_perf_ring_enabled_ns(const struct perf_ring *ring)
{
	for (unsigned cpu = 0; cpu < WORLD_CPUS; cpu++)
		if (world_arms[cpu] == ring->map)
			return world_now_ns;
	return 7;
}

void __wrap_perf_ring_close(struct perf_ring *ring)
{
	if (world_probe_visit)
		world_probe_visit();
	munmap(ring->map, 4096 + ring->bytes);
	for (unsigned cpu = 0; cpu < WORLD_CPUS; cpu++)
		if (world_arms[cpu] == ring->map)
			world_arms[cpu] = NULL;
	world_nr_arms -= ring->tid == -1;
	if (ring->tid == -1)
		return;
	world_guests = false;
	world_ring = NULL;
}

#endif
