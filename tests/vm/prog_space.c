/* SPDX-License-Identifier: MIT */
/*
 * Guest cases: another process as a space. Each forks a process that has memory on node 1 and does
 * something to it while this one moves it, through the product's own space, and judges by the
 * kernel's counters and by the bytes.
 */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"

#define NR_PAGES (32 * PAGES_PER_MIB)
#define NR_MAX (64 * PAGES_PER_MIB)
#define NR_PINNED 16u

/* ---- the other process ------------------------------------------------------------------------ */

/* Who is moved. */
struct other {
	pid_t pid;
	int words, answers; /* pipes: a letter asks for something, a letter comes when it is done */
	struct arena arena; /* laid out before the fork, filled by the other one */
};

static void answer(int answers)
{
	CHECK(write(answers, "!", 1) == 1);
}

static void pin(struct arena *arena)
{
	struct iovec pages = { .iov_base = arena->base, .iov_len = NR_PINNED * PAGE_BYTES };
	int pipe_ends[2];

	CHECK(pipe(pipe_ends) == 0);
	CHECK(vmsplice(pipe_ends[1], &pages, 1, 0) == (ssize_t)pages.iov_len);
}

static void other_fork(const struct arena *arena)
{
	int ready[2];
	char back;

	CHECK(pipe(ready) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		arena_check(arena, 0, arena->nr_pages);
		answer(ready[1]);
		pause();
		_exit(0);
	}
	CHECK(read(ready[0], &back, 1) == 1);
	close(ready[0]);
	close(ready[1]);
}

/* Answers to letters: c: compare all bytes; u: unmap the second half; e: run another program; x: exit;
 * h, f, p: see there. Busy, it compares and writes all the time. */
static void other_live(struct other *other, int words, int answers, bool busy)
{
	struct arena *arena = &other->arena;
	size_t page = 0;

	answer(answers);
	for (;;) {
		struct pollfd one = { .fd = words, .events = POLLIN };
		char word = 0;

		if (poll(&one, 1, busy ? 0 : -1) > 0 && read(words, &word, 1) != 1)
			_exit(3);
		switch (word) {
		case 0:
			arena_check(arena, page, page + 1);
			arena_fill(arena, page, page + 1, arena->generation[page] + 1);
			page = (page + 7) % arena->nr_pages;
			continue;
		case 'c':
			arena_check(arena, 0, arena->nr_pages);
			break;
		case 'u':
			CHECK(munmap(arena->base + NR_PAGES / 2 * PAGE_BYTES, NR_PAGES / 2 * PAGE_BYTES) == 0);
			arena->nr_pages = NR_PAGES / 2;
			page = 0;
			break;
		case 'h': /* a hole at the end of each huge page */
			for (size_t at = BLOCK_PAGES - 1; at < NR_PAGES; at += BLOCK_PAGES)
				CHECK(madvise(arena->base + at * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED) == 0);
			break;
		case 'f': /* a child has all of it in its page tables */
			other_fork(arena);
			break;
		case 'p': /* pages that a pipe holds on to */
			pin(arena);
			break;
		case 'e':
			execl("/proc/self/exe", "vm_space", "sleep", NULL);
			_exit(4);
		default:
			_exit(0);
		}
		answer(answers);
	}
}

static void other_ask(struct other *other, const char *word)
{
	char back;

	CHECK(write(other->words, word, 1) == 1 && read(other->answers, &back, 1) == 1);
}

/* `prepare`, in the other one, before its memory is filled; NULL: nothing. */
static struct other other_begin(bool busy, void (*prepare)(struct arena *arena))
{
	struct other other = { .arena = arena_at(vm_memory(NR_PAGES * PAGE_BYTES), NR_PAGES, 11) };
	int words[2], answers[2];
	char back;

	CHECK(pipe2(words, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0);
	other.pid = fork();
	CHECK(other.pid >= 0);
	if (other.pid == 0) {
		vm_home(1);
		if (prepare)
			prepare(&other.arena);
		arena_fill(&other.arena, 0, NR_PAGES, 1);
		vm_home_default();
		other_live(&other, words[0], answers[1], busy);
	}
	other.words = words[1];
	other.answers = answers[0];
	close(words[0]);
	close(answers[1]);
	CHECK(read(other.answers, &back, 1) == 1);
	return other;
}

static void other_end(struct other *other, int wanted_status)
{
	int status;

	CHECK(wanted_status || write(other->words, "x", 1) == 1);
	CHECK(waitpid(other->pid, &status, 0) == other->pid);
	if (status != wanted_status)
		live_fail("the other process ended with %#x", status);
	close(other->words);
	close(other->answers);
}

/* ---- this one --------------------------------------------------------------------------------- */

static struct node_map map;
static struct process_move moves[NR_MAX];

static struct process_space *space_of(pid_t pid)
{
	struct process_options options = { .root = "" };
	const struct process_range *ranges;
	struct process_space *space;
	size_t nr;

	CHECK(map.nr || node_map_read("", &map) == 0);
	int error = process_open(pid, &options, &map, &space);
	if (error)
		live_fail("process_open: %s", strerror(-error));
	CHECK(process_ranges(space, &ranges, &nr) == 0 && nr > 0);
	return space;
}

struct found {
	size_t nr, on[NODESET_MAX];
	uint32_t page_bytes;
};

static void run_count(void *arg, const struct process_run *run)
{
	struct found *found = arg;

	found->on[run->node] += (run->end - run->start) / PAGE_BYTES;
	for (uint64_t at = run->start; at < run->end; at += run->page_bytes) {
		CHECK(found->nr < NR_MAX);
		moves[found->nr++] = (struct process_move){ .address = at, .page_bytes = run->page_bytes };
	}
}

static struct found look(struct process_space *space, const struct other *other)
{
	struct found found = { 0 };
	uint64_t base = (uint64_t)(uintptr_t)other->arena.base;

	CHECK(process_where(space, base, base + NR_PAGES * PAGE_BYTES, run_count, &found) == 0);
	return found;
}

static void tally_print(const struct process_tally *tally)
{
	uint64_t sum = 0;

	printf("asked %llu pages:", (unsigned long long)tally->asked_bytes / PAGE_BYTES);
	for (unsigned int i = 0; i < REASON_COUNT; i++) {
		sum += tally->bytes[i];
		if (tally->bytes[i])
			printf(" %s %llu", reason_name(i), (unsigned long long)tally->bytes[i] / PAGE_BYTES);
	}
	printf("\n");
	CHECK(sum == tally->asked_bytes);
}

static uint64_t tally_pages(const struct process_tally *tally, enum reason reason)
{
	return tally->bytes[reason] / PAGE_BYTES;
}

static void pace_print(const struct process_space *space)
{
	const struct move_pace *pace = process_pace(space);

	printf("%llu calls, %llu us in all; fixed %llu us, page %llu ns, %u pages a call; "
	       "stall p50 %llu us, p99 %llu us, longest %llu us\n",
	       (unsigned long long)pace->calls, (unsigned long long)pace->call_ns / 1000,
	       (unsigned long long)pace->fixed_ns / 1000, (unsigned long long)pace->page_ps / 1000,
	       pace->pages, (unsigned long long)move_pace_stall_ns(pace, 50) / 1000,
	       (unsigned long long)move_pace_stall_ns(pace, 99) / 1000,
	       (unsigned long long)pace->stall_max_ns / 1000);
}

/* ---- cases ------------------------------------------------------------------------------------ */

static void huge_prepare(struct arena *arena)
{
	CHECK(madvise(arena->base, NR_PAGES * PAGE_BYTES, MADV_HUGEPAGE) == 0);
}

/* There and back, every byte compared by its owner meanwhile, and the kernel counts the same. */
static void all_bytes(bool busy, void (*prepare)(struct arena *arena))
{
	struct other other = other_begin(busy, prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	bool huge = prepare == huge_prepare;

	if (huge && found.nr != NR_PAGES / BLOCK_PAGES)
		live_skip("no huge pages here");
	CHECK(found.on[1] == NR_PAGES && (huge || found.nr == NR_PAGES));
	for (unsigned int to = 0; to < 2; to++) {
		struct process_tally tally = { 0 };
		uint64_t before = vm_counter("pgmigrate_success");

		/* A page that its owner is just writing to may be busy. */
		for (int tries = 0; tries < 10 && found.nr && found.on[to] < NR_PAGES; tries++) {
			CHECK(process_move(space, moves, found.nr, NULL, to, &tally) == 0);
			found = look(space, &other);
		}
		tally_print(&tally);
		CHECK(found.on[to] == NR_PAGES && found.nr == (huge ? NR_PAGES / BLOCK_PAGES : NR_PAGES));
		CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES);
		CHECK(vm_counter("pgmigrate_success") - before == NR_PAGES);
	}
	pace_print(space);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

static void quiet_bytes(void)
{
	all_bytes(false, NULL);
}

static void busy_bytes(void)
{
	all_bytes(true, NULL);
}

static void huge_bytes(void)
{
	all_bytes(true, huge_prepare);
}

/* A page of the program's code, which others run, too. */
static uint64_t code_address(struct process_space *space)
{
	const struct process_range *ranges;
	size_t nr, i = 0;

	CHECK(process_ranges(space, &ranges, &nr) == 0);
	while (i < nr && ranges[i].refusal != REASON_SHARED_EXEC)
		i++;
	CHECK(i < nr && ranges[i].execute && ranges[i].kind == PROCESS_FILE);
	return ranges[i].start;
}

/* Pages are where the call is told that they come from, or they stay; what is not there, runs, or was split
 * stays, too. */
static void from_and_there(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };
	struct nodeset zero = { .bits = { 1 } };

	CHECK(process_move(space, moves, found.nr, &zero, 0, &tally) == 0);
	CHECK(tally_pages(&tally, REASON_NOT_SLOW) == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 1, &tally) == 0);
	CHECK(tally_pages(&tally, REASON_ALREADY) == NR_PAGES);
	CHECK(process_move(space, moves, 10, NULL, 900, &tally) == -ENODEV);
	moves[0].address = 4096;
	CHECK(process_move(space, moves, 1, NULL, 0, &tally) == 0 && moves[0].reason == REASON_RANGE_GONE);
	moves[0].address = code_address(space);
	CHECK(process_move(space, moves, 1, NULL, 1, &tally) == 0 && moves[0].reason == REASON_SHARED_EXEC);
	/* A huge page that was split after it was found: one part moves, the rest may be tried again. */
	uint64_t moved = tally_pages(&tally, REASON_MOVED);
	moves[0].address = (uint64_t)(uintptr_t)other.arena.base;
	moves[0].page_bytes = BLOCK_BYTES;
	CHECK(process_move(space, moves, 1, NULL, 0, &tally) == 0 && moves[0].reason == REASON_BUSY);
	CHECK(tally_pages(&tally, REASON_BUSY) == BLOCK_PAGES - 1);
	CHECK(tally_pages(&tally, REASON_MOVED) - moved == 1);
	/* Pages that were there when they were looked for. */
	uint64_t gone = tally_pages(&tally, REASON_PAGE_GONE);
	found = look(space, &other);
	other_ask(&other, "h");
	CHECK(process_move(space, moves, found.nr, NULL, 1, &tally) == 0);
	CHECK(tally_pages(&tally, REASON_PAGE_GONE) - gone == NR_PAGES / BLOCK_PAGES);
	tally_print(&tally);
	process_close(space);
	other_end(&other, 0);
}

/* Half of it is unmapped after the ranges were read. */
static void unmapped(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	other_ask(&other, "u");
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES / 2);
	CHECK(tally_pages(&tally, REASON_RANGE_GONE) + tally_pages(&tally, REASON_PAGE_GONE) == NR_PAGES / 2);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

/* It is killed while its pages move: no result is missing, and soon. */
static void killed(void)
{
	for (unsigned int delay_us = 0; delay_us < 400000; delay_us += 50000) {
		struct other other = other_begin(true, NULL);
		struct process_space *space = space_of(other.pid);
		struct found found = look(space, &other);
		struct process_tally tally = { 0 };
		pid_t killer = fork();

		if (killer == 0) {
			usleep(delay_us);
			_exit(kill(other.pid, SIGKILL) != 0);
		}
		int error = process_move(space, moves, found.nr, NULL, 0, &tally);
		tally_print(&tally);
		CHECK(error == 0 || error == -ESRCH);
		CHECK(error == -ESRCH || tally_pages(&tally, REASON_MOVED) > NR_PAGES / 2);
		CHECK(waitpid(killer, NULL, 0) == killer);
		other_end(&other, SIGKILL);
		CHECK(process_look(space) == -ESRCH);
		CHECK(process_move(space, moves, found.nr, NULL, 1, &tally) == -ESRCH);
		process_close(space);
	}
}

static pid_t fork_with(pid_t pid)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&pid,
		.set_tid_size = 1,
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* A stranger with the number of one who died is left alone. */
static void number_used_again(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };
	int *status = calloc(NR_PAGES, sizeof(*status));
	uint64_t *addresses = calloc(NR_PAGES, sizeof(*addresses));

	other_end(&other, 0);
	vm_home(1);
	arena_fill(&other.arena, 0, NR_PAGES, 1); /* the same addresses, the stranger's by fork */
	vm_home_default();
	pid_t stranger = fork_with(other.pid);
	if (stranger == 0) {
		pause();
		_exit(0);
	}
	CHECK(stranger == other.pid && status && addresses);
	uint64_t before = vm_counter("pgmigrate_success");
	CHECK(process_look(space) == -ESRCH);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == -ESRCH);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_SPACE_GONE) == NR_PAGES);
	CHECK(vm_counter("pgmigrate_success") == before);
	for (size_t i = 0; i < NR_PAGES; i++)
		addresses[i] = (uint64_t)(uintptr_t)other.arena.base + i * PAGE_BYTES;
	CHECK(syscall(SYS_move_pages, stranger, NR_PAGES, addresses, NULL, status, 0) == 0);
	for (size_t i = 0; i < NR_PAGES; i++)
		CHECK(status[i] == 1);
	kill(stranger, SIGKILL);
	CHECK(waitpid(stranger, NULL, 0) == stranger);
	process_close(space);
	free(status);
	free(addresses);
}

/* Another program by exec: what was known of the old one moves nothing in the new one. */
static void executed(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	const struct process_range *ranges;
	struct process_tally tally = { 0 };
	size_t nr;
	int tries = 0;

	CHECK(write(other.words, "e", 1) == 1);
	while (process_look(space) == 0 && tries++ < 1000)
		usleep(10000);
	CHECK(process_look(space) == -ESTALE);
	CHECK(process_ranges(space, &ranges, &nr) == -ESTALE);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == -ESTALE);
	CHECK(tally_pages(&tally, REASON_SPACE_GONE) == NR_PAGES);
	/* The loader may still be at work, and the image not be what it will be. */
	for (tries = 0; tries < 1000 && (process_renew(space) || process_ranges(space, &ranges, &nr)); tries++)
		usleep(10000);
	CHECK(process_look(space) == 0 && nr > 0);
	CHECK(process_move(space, moves, 1, NULL, 0, &tally) == 0);
	CHECK(moves[0].reason == REASON_RANGE_GONE || moves[0].reason == REASON_PAGE_GONE);
	kill(other.pid, SIGKILL);
	process_close(space);
	other_end(&other, SIGKILL);
}

static void bind_prepare(struct arena *arena)
{
	unsigned long one = 2, both = 3;
	size_t quarter = NR_PAGES / 4 * PAGE_BYTES;

	CHECK(syscall(SYS_mbind, arena->base, quarter, MPOL_BIND, &one, 64UL, 0) == 0);
	CHECK(syscall(SYS_mbind, arena->base + quarter, quarter, MPOL_INTERLEAVE, &both, 64UL, 0) == 0);
	CHECK(mlock(arena->base + 2 * quarter, quarter) == 0);
}

/* A quarter bound to node 1, one spread over both, one locked: only the last quarter moves. */
static void forbidden(void)
{
	struct other other = other_begin(false, bind_prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	CHECK(found.nr == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	/* Half of the spread quarter began on node 0. */
	CHECK(tally_pages(&tally, REASON_POLICY) == NR_PAGES / 2);
	CHECK(tally_pages(&tally, REASON_LOCKED) == NR_PAGES / 4);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES / 4);
	found = look(space, &other);
	CHECK(found.on[0] == NR_PAGES / 4 + NR_PAGES / 8);
	process_close(space);
	other_end(&other, 0);
}

static void shared_prepare(struct arena *arena)
{
	CHECK(mmap(arena->base, NR_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == arena->base);
}

static void shared(void)
{
	struct other other = other_begin(true, shared_prepare);
	struct process_space *space = space_of(other.pid);
	const struct process_range *range;
	struct process_tally tally = { 0 };
	struct found found = look(space, &other);

	range = process_range_find(space, (uint64_t)(uintptr_t)other.arena.base);
	CHECK(range && range->kind == PROCESS_SHARED_ANON && range->inode != 0);
	for (int tries = 0; tries < 10 && found.on[0] < NR_PAGES; tries++) {
		CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
		found = look(space, &other);
	}
	tally_print(&tally);
	CHECK(found.on[0] == NR_PAGES);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

/* What this thread may do to what others have mapped as well: CAP_SYS_NICE. */
static void nice_set(bool may)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	CHECK(syscall(SYS_capget, &head, data) == 0);
	data[0].effective &= ~(1u << CAP_SYS_NICE);
	data[0].effective |= may ? 1u << CAP_SYS_NICE : 0;
	CHECK(syscall(SYS_capset, &head, data) == 0);
}

/* Memory that a child has as well: without the right to move it for all it is refused as shared, with it
 * moved once for both. */
static void shared_by_two(void)
{
	struct other other = other_begin(false, shared_prepare);
	struct process_tally tally = { 0 };

	other_ask(&other, "f");
	nice_set(false);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	uint64_t before = vm_counter("pgmigrate_success");
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_SHARED) == NR_PAGES && vm_counter("pgmigrate_success") == before);
	process_close(space);

	nice_set(true);
	tally = (struct process_tally){ 0 };
	space = space_of(other.pid);
	found = look(space, &other);
	CHECK(found.on[1] == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES);
	CHECK(vm_counter("pgmigrate_success") - before == NR_PAGES);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

#define RAM_FILE "/tmp/ram/file"

static void dirty_prepare(struct arena *arena)
{
	CHECK(mkdir("/tmp/ram", 0755) == 0 && mount("none", "/tmp/ram", "ramfs", 0, NULL) == 0);
	int fd = open(RAM_FILE, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)(NR_PAGES * PAGE_BYTES)) == 0);
	CHECK(mmap(arena->base, NR_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	      arena->base);
}

/* A file that can be written back nowhere: its dirty pages stay, and that is said. */
static void dirty_file(void)
{
	struct other other = other_begin(false, dirty_prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	CHECK(found.on[1] == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_DIRTY_FILE) == NR_PAGES);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

static void pinned(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	other_ask(&other, "p");
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_PINNED) == NR_PINNED);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES - NR_PINNED);
	for (size_t i = 0; i < found.nr; i++)
		CHECK(moves[i].reason == (i < NR_PINNED ? REASON_PINNED : REASON_MOVED));
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

/* Huge pages change between look and move: what counts as moved is what the kernel moved; it takes what was
 * freed meanwhile for moved, too. */
static void huge_changed(void (*change)(struct other *other), size_t freed)
{
	struct other other = other_begin(false, huge_prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	if (found.nr != NR_PAGES / BLOCK_PAGES)
		live_skip("no huge pages here");
	change(&other);
	uint64_t before = vm_counter("pgmigrate_success");
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	uint64_t moved = vm_counter("pgmigrate_success") - before;
	tally_print(&tally);
	found = look(space, &other);
	printf("the kernel moved %llu pages, %zu are on the target\n", (unsigned long long)moved, found.on[0]);
	CHECK(moved && tally_pages(&tally, REASON_MOVED) == moved && found.on[0] + freed == moved);
	process_close(space);
	other_end(&other, 0);
}

static void last_parts_free(struct other *other)
{
	other_ask(other, "h");
}

static void huge_with_holes(void)
{
	huge_changed(last_parts_free, NR_PAGES / BLOCK_PAGES);
}

/* The kernel does it for who asks. */
static void half_split(struct other *other)
{
	uint64_t base = (uint64_t)(uintptr_t)other->arena.base;
	char words[64];

	snprintf(words, sizeof(words), "%d,%#llx,%#llx", (int)other->pid, (unsigned long long)base,
		 (unsigned long long)(base + NR_PAGES / 2 * PAGE_BYTES));
	CHECK(mount("none", "/sys/kernel/debug", "debugfs", 0, NULL) == 0 || errno == EBUSY);
	if (!vm_write("/sys/kernel/debug/split_huge_pages", words))
		live_skip("no debugfs with split_huge_pages");
}

static void huge_split(void)
{
	huge_changed(half_split, 0);
}

static void hugetlb_prepare(struct arena *arena)
{
	CHECK(mmap(arena->base, NR_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, -1, 0) == arena->base);
}

static void hugetlb(void)
{
	for (unsigned int node = 0; node < 2; node++) {
		char path[128];

		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/hugepages/hugepages-2048kB/"
			 "nr_hugepages", node);
		if (!vm_write(path, "20"))
			live_skip("no pages for hugetlb");
	}
	struct other other = other_begin(false, hugetlb_prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	CHECK(found.nr == NR_PAGES / BLOCK_PAGES && found.on[1] == NR_PAGES);
	CHECK(moves[0].page_bytes == BLOCK_BYTES);
	CHECK(process_range_find(space, moves[0].address)->kind == PROCESS_HUGETLB);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	found = look(space, &other);
	CHECK(found.on[0] == NR_PAGES && tally_pages(&tally, REASON_MOVED) == NR_PAGES);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

/* Another user's process is not to be looked at. */
static void stranger(void)
{
	struct other other = other_begin(false, NULL);
	pid_t user = fork();
	int status;

	if (user == 0) {
		struct process_options options = { .root = "" };
		struct process_space *space;

		CHECK(setgid(65534) == 0 && setuid(65534) == 0 && node_map_read("", &map) == 0);
		int error = process_open(other.pid, &options, &map, &space);
		_exit(error != -EPERM && error != -EACCES);
	}
	CHECK(waitpid(user, &status, 0) == user && status == 0);
	other_end(&other, 0);
}

/* Its control group does not let it have memory of node 0. */
static void cpuset(void)
{
	struct other other = other_begin(false, NULL);
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)other.pid);
	if (!vm_write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset") ||
	    mkdir("/sys/fs/cgroup/one", 0755) || !vm_write("/sys/fs/cgroup/one/cpuset.mems", "1") ||
	    !vm_write("/sys/fs/cgroup/one/cgroup.procs", pid))
		live_skip("no cpusets here");
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_POLICY) == NR_PAGES);
	process_close(space);
	other_end(&other, 0);
	CHECK(rmdir("/sys/fs/cgroup/one") == 0);
}

/* Fill node 0 until so many bytes may still be moved there. Pages that were freed come back from the
 * CPUs' own lists bit by bit, so so look again until it stays. */
static void node_fill(uint64_t wanted)
{
	struct node_room room;

	vm_home(0);
	for (int looks = 0; looks < 10; looks++) {
		CHECK(node_room_read("", 0, &room) == 0);
		uint64_t full = room.high_bytes + wanted;
		size_t bytes = room.free_bytes > full ? (size_t)(room.free_bytes - full) : 0;
		unsigned char *hog = bytes ? vm_memory(bytes) : NULL;

		for (size_t at = 0; at < bytes; at += PAGE_BYTES)
			hog[at] = 1;
		usleep(50000);
	}
	vm_home_default();
}

/* The target is nearly full: what does not fit is refused, and the kernel need not reclaim there. */
static void no_room(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	node_fill(NR_PAGES * 5 / 8 * PAGE_BYTES);
	uint64_t reclaimed = vm_counter("pgscan_direct") + vm_counter("pgscan_kswapd");

	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	printf("reclaim looked at %llu pages meanwhile\n",
	       (unsigned long long)(vm_counter("pgscan_direct") + vm_counter("pgscan_kswapd") - reclaimed));
	/* How many of each depends on what the CPUs' lists take and give meanwhile. */
	CHECK(tally_pages(&tally, REASON_NO_ROOM) > 0 && tally_pages(&tally, REASON_MOVED) > 0);
	CHECK(tally_pages(&tally, REASON_MOVED) + tally_pages(&tally, REASON_NO_ROOM) == NR_PAGES);
	process_close(space);
	other_end(&other, 0);
}

/* A batch against one page per call: the time for a page, while its owner runs on another CPU. */
static void batched(void)
{
	struct other other = other_begin(true, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };
	struct move_pace pace;
	const size_t nr_single = NR_PAGES / 16;

	CHECK(found.nr == NR_PAGES);
	move_pace_init(&pace, MOVE_STALL_NS);
	uint64_t begin = vm_now_ns();
	for (size_t i = 0; i < nr_single; i++) {
		uint8_t status;

		CHECK(move_to(other.pid, &moves[i].address, 1, PAGE_BYTES, 0, false, &pace, &status) == 0);
	}
	uint64_t single = (vm_now_ns() - begin) / nr_single;
	begin = vm_now_ns();
	CHECK(process_move(space, moves + nr_single, found.nr - nr_single, NULL, 0, &tally) == 0);
	uint64_t batch = (vm_now_ns() - begin) / (found.nr - nr_single);
	tally_print(&tally);
	printf("one page a call %llu ns a page, in batches %llu ns a page, ratio %.1f\n",
	       (unsigned long long)single, (unsigned long long)batch, (double)single / (double)batch);
	pace_print(space);
	process_close(space);
	other_end(&other, 0);
}

static const struct live_case cases[] = {
	{ "quiet-bytes", quiet_bytes },
	{ "busy-bytes", busy_bytes },
	{ "huge-bytes", huge_bytes },
	{ "from-and-there", from_and_there },
	{ "unmapped", unmapped },
	{ "killed", killed },
	{ "number-used-again", number_used_again },
	{ "executed", executed },
	{ "forbidden", forbidden },
	{ "shared", shared },
	{ "shared-by-two", shared_by_two },
	{ "dirty-file", dirty_file },
	{ "pinned", pinned },
	{ "huge-with-holes", huge_with_holes },
	{ "huge-split", huge_split },
	{ "hugetlb", hugetlb },
	{ "stranger", stranger },
	{ "cpuset", cpuset },
	{ "no-room", no_room },
	{ "batched", batched },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "sleep") == 0)
		return pause();
	return live_main(argc, argv, cases);
}
