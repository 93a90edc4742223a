/* SPDX-License-Identifier: MIT */
/*
 * What every live program shares: memory whose every byte is known, and a way to make it leave.
 *
 * A case is a function that runs natively as well as under `pagetide run`. It keeps its data in
 * arenas, asks with arena_cold() that a range be out of memory, does something to it, and compares
 * every byte. Under pagetide (LIVE_BUDGET_MIB is set) arena_cold() looks into pagemap and fails the
 * case when the range stays: a test of stored pages that met none would prove nothing.
 *
 * A wrong byte ends the process at once with status 1 and a line that begins with MISMATCH.
 */
#ifndef LIVE_H
#define LIVE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pattern.h"

#define LIVE_SKIP 77
#define MIB ((size_t)1 << 20)
#define PAGES_PER_MIB (MIB / PAGE_BYTES)
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

/* How often memory is made tight before that has had no effect: many more than are needed, however busy the machine. */
#define PRESS_ROUNDS 2000u

/* generation[i] is what page i must hold now; 0 is zeros. */
struct arena {
	unsigned char *base;
	size_t nr_pages;
	uint64_t seed;
	uint32_t *generation;
};

struct live_case {
	const char *name;
	void (*run)(void);
};

/* The dram budget this program runs under, 0 natively. */
extern size_t live_budget_bytes;
/* The path by which this program can be started again. */
extern const char *live_self;

/* These end the process: status 1, or 77 for what this machine cannot do. Late is what did not come in all the time
 * it had, when nothing else is wrong. */
void live_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void live_late(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void live_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#define CHECK(condition)                                                                      \
	do {                                                                                  \
		if (!(condition))                                                             \
			live_fail("%s:%d: not true: %s (errno %d)", __FILE__, __LINE__,       \
				  #condition, errno);                                         \
	} while (0)

/* The usual size of a test arena: twice the budget. */
size_t live_pages(void);

struct arena arena_new(size_t nr_pages, uint64_t seed);
struct arena arena_at(void *base, size_t nr_pages, uint64_t seed);
/* Unmap the memory and forget the record. */
void arena_free(struct arena *arena);

unsigned char *arena_page(const struct arena *arena, size_t index);
/* Write pages [from, to) with a generation, and record it. */
void arena_fill(struct arena *arena, size_t from, size_t to, uint32_t generation);
/* Record that pages [from, to) now read as zeros. */
void arena_forget(struct arena *arena, size_t from, size_t to);
/* Compare every byte of pages [from, to). */
void arena_check(const struct arena *arena, size_t from, size_t to);
/* Use other memory until at least half of the written pages in [from, to) are out of memory. */
void arena_cold(const struct arena *arena, size_t from, size_t to);
/* Pages of [from, to) that are not present in the page table, never written ones left out. */
size_t arena_absent_pages(const struct arena *arena, size_t from, size_t to);

/* Address space that nothing else has; nobody may touch it. */
unsigned char *space_reserve(size_t bytes);
/* Readable and writable zeros at a place of our own choice. */
void space_commit(void *base, size_t bytes);

/* After segv_catch(): the si_code of the SIGSEGV that touching a byte is answered with, 0 when it is not.
 * One thread. */
void segv_catch(void);
int access_fault(volatile unsigned char *at, bool write);

/* Compare one page; ends the process when a byte differs. */
void page_check(const void *page, uint64_t seed, uint64_t index, uint32_t generation);

/* Touch a ballast larger than the budget, every byte checked, so that other memory goes cold. */
void live_press(void);

/* Wait until the driver has made a file of that name: it has done its part. Without one not at all. */
void live_told(const char *name);

/* fork(), or fail. */
pid_t child_start(void);
/* The same by the system call itself, which no library sees. */
pid_t clone_raw(void);
/* Wait for a child and fail unless it exited with 0. */
void live_wait(pid_t pid);
/* A child with memory of its own that outgrows the budget; both find all of theirs right. */
void child_grows(struct arena *arena, uint64_t seed);

/* A small generator per thread, from a seed. */
static inline uint64_t live_random(uint64_t *state)
{
	return pattern_next(state);
}

/* PROGRAM list | PROGRAM CASE */
int live_main(int argc, char **argv, const struct live_case *cases);

#endif
