/* SPDX-License-Identifier: MIT */
#include "other.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the other process ------------------------------------------------------------------------ */

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
		case 'h':
			for (size_t at = BLOCK_PAGES - 1; at < NR_PAGES; at += BLOCK_PAGES)
				CHECK(madvise(arena->base + at * PAGE_BYTES, PAGE_BYTES, MADV_DONTNEED) == 0);
			break;
		case 'f':
			other_fork(arena);
			break;
		case 'p':
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

void other_ask(struct other *other, const char *word)
{
	char back;

	CHECK(write(other->words, word, 1) == 1 && read(other->answers, &back, 1) == 1);
}

struct other other_begin(bool busy, void (*prepare)(struct arena *arena))
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

void other_end(struct other *other, int wanted_status)
{
	int status;

	CHECK(wanted_status || write(other->words, "x", 1) == 1);
	CHECK(waitpid(other->pid, &status, 0) == other->pid);
	if (status != wanted_status)
		live_fail("the other process ended with %#x", status);
	close(other->words);
	close(other->answers);
}

void other_share(struct arena *arena)
{
	CHECK(mmap(arena->base, NR_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == arena->base);
}

/* ---- this one --------------------------------------------------------------------------------- */

static struct node_map map;
struct process_move moves[NR_MAX];

struct process_space *space_of(pid_t pid)
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

static void run_count(void *arg, const struct process_run *run)
{
	struct found *found = arg;

	found->on[run->node] += (run->end - run->start) / PAGE_BYTES;
	for (uint64_t at = run->start; at < run->end; at += run->page_bytes) {
		CHECK(found->nr < NR_MAX);
		moves[found->nr++] = (struct process_move){ .address = at, .page_bytes = run->page_bytes };
	}
}

struct found look(struct process_space *space, const struct other *other)
{
	struct found found = { 0 };
	uint64_t base = (uint64_t)(uintptr_t)other->arena.base;

	CHECK(process_where(space, base, base + NR_PAGES * PAGE_BYTES, run_count, &found) == 0);
	return found;
}

void tally_print(const struct process_tally *tally)
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

uint64_t tally_pages(const struct process_tally *tally, enum reason reason)
{
	return tally->bytes[reason] / PAGE_BYTES;
}

void pace_print(const struct process_space *space)
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

void all_bytes(bool busy, void (*prepare)(struct arena *arena), size_t piece_pages)
{
	struct other other = other_begin(busy, prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	const size_t nr_pieces = NR_PAGES / piece_pages;

	if (found.nr != nr_pieces && piece_pages > 1)
		live_skip("no huge pages here");
	CHECK(found.on[1] == NR_PAGES && found.nr == nr_pieces);
	for (unsigned int to = 0; to < 2; to++) {
		struct process_tally tally = { 0 };
		uint64_t before = vm_counter("pgmigrate_success");

		/* A page that its owner is just writing to may be busy. */
		for (int tries = 0; tries < 10 && found.nr && found.on[to] < NR_PAGES; tries++) {
			CHECK(process_move(space, moves, found.nr, NULL, to, &tally) == 0);
			found = look(space, &other);
		}
		tally_print(&tally);
		CHECK(found.on[to] == NR_PAGES && found.nr == nr_pieces);
		CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES);
		CHECK(vm_counter("pgmigrate_success") - before == NR_PAGES);
	}
	pace_print(space);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}
