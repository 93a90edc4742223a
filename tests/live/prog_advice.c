/* SPDX-License-Identifier: MIT */
/*
 * Live cases: what a program says of its memory by madvise while its pages are stored elsewhere.
 *
 * Each case brings pages out of memory first, then discards, frees or advises, and compares every byte
 * with what the kernel alone would have given.
 */
#include "live.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* ---- madvise --------------------------------------------------------------------------------- */

static void dontneed(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_new(nr, 40);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(madvise(arena_page(&arena, nr / 4), nr / 4 * PAGE_BYTES, MADV_DONTNEED) == 0);
	arena_forget(&arena, nr / 4, nr / 2);
	for (size_t i = nr / 2; i + 8 <= nr; i += 32) {
		CHECK(madvise(arena_page(&arena, i), 8 * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, i, i + 8);
	}
	arena_check(&arena, 0, nr);
	live_press();
	arena_check(&arena, 0, nr);
	arena_fill(&arena, nr / 4, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* Readers touch the same pages while they are thrown away; once thrown away they are zeros. */
struct drop_race {
	struct arena *arena;
	atomic_size_t at;    /* pages below were dropped before this was published */
	atomic_size_t limit; /* touch pages below this only; 0: rest */
	atomic_uint nr_inside;
	atomic_bool stop;
};

/* One touch close around the place where pages are being dropped now. */
static void drop_touch(const struct drop_race *race, uint64_t *state)
{
	size_t dropped = atomic_load(&race->at), limit = atomic_load(&race->limit);
	size_t i = dropped + live_random(state) % 64;

	i = i < 24 ? 0 : i - 24;
	if (i >= limit)
		return;
	if (i < dropped)
		page_check(arena_page(race->arena, i), 41, i, 0);
	else
		(void)*(volatile unsigned char *)(arena_page(race->arena, i) +
						  live_random(state) % PAGE_BYTES);
}

static void *drop_reader(void *argument)
{
	struct drop_race *race = argument;
	uint64_t state = 41;

	while (!atomic_load(&race->stop)) {
		atomic_fetch_add(&race->nr_inside, 1);
		drop_touch(race, &state);
		atomic_fetch_sub(&race->nr_inside, 1);
		if (atomic_load(&race->limit) == 0)
			usleep(100);
	}
	return NULL;
}

static void dontneed_with_readers_rule06(void)
{
	size_t nr = live_pages(), piece = 8;
	struct arena arena = arena_new(nr, 41);
	struct drop_race race = { .arena = &arena };
	pthread_t readers[4];

	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_create(&readers[i], NULL, drop_reader, &race) == 0);
	for (uint32_t round = 1; round < 4; round++) {
		arena_fill(&arena, 0, nr, round);
		arena_cold(&arena, 0, nr / 2);
		atomic_store(&race.at, 0);
		atomic_store(&race.limit, nr);
		for (size_t i = 0; i + piece <= nr; i += piece) {
			CHECK(madvise(arena_page(&arena, i), piece * PAGE_BYTES, MADV_DONTNEED) == 0);
			arena_forget(&arena, i, i + piece);
			atomic_store(&race.at, i + piece);
			arena_check(&arena, i, i + piece);
		}
		arena_check(&arena, 0, nr);
		atomic_store(&race.limit, 0);
		/* Readers still at the last pages must be out before these are written. */
		while (atomic_load(&race.nr_inside))
			usleep(100);
	}
	atomic_store(&race.stop, true);
	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_join(readers[i], NULL) == 0);
}

static void *press_until(void *argument)
{
	atomic_bool *stop = argument;

	while (!atomic_load(stop))
		live_press();
	return NULL;
}

/*
 * Who changes protections has the lock of all mappings for as long as that takes. A discarding that has been told of
 * waits for it before it is done, and the helper, which needs it not, moves pages meanwhile.
 */
static void *protect_until(void *argument)
{
	atomic_bool *stop = argument;
	size_t bytes = 64 * MIB;
	unsigned char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE,
				     -1, 0);

	CHECK(memory != MAP_FAILED);
	while (!atomic_load(stop)) {
		CHECK(mprotect(memory, bytes, PROT_READ) == 0);
		CHECK(mprotect(memory, bytes, PROT_READ | PROT_WRITE) == 0);
		usleep(100);
	}
	CHECK(munmap(memory, bytes) == 0);
	return NULL;
}

/* Pages are thrown away just when they are the ones being moved out. */
static void dontneed_while_demoted_rule07(void)
{
	size_t nr = live_pages(), chunk = 256;
	struct arena arena = arena_new(nr, 42);
	atomic_bool stop = false;
	uint64_t state = 42;
	pthread_t presser, protecter;

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	CHECK(pthread_create(&presser, NULL, press_until, &stop) == 0);
	CHECK(pthread_create(&protecter, NULL, protect_until, &stop) == 0);
	for (uint32_t round = 2; round < 300; round++) {
		size_t from = live_random(&state) % (nr / chunk) * chunk;
		size_t some = 1 + live_random(&state) % chunk;

		if (round % 2) /* else pages are the older, and the more likely to be on their way out */
			arena_check(&arena, from, from + chunk);
		CHECK(madvise(arena_page(&arena, from), some * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, from, from + some);
		arena_check(&arena, from, from + chunk);
		if (round % 4)
			arena_fill(&arena, from, from + chunk, round);
	}
	atomic_store(&stop, true);
	CHECK(pthread_join(presser, NULL) == 0);
	CHECK(pthread_join(protecter, NULL) == 0);
	arena_check(&arena, 0, nr);
}

/* After MADV_FREE a page is old or zeros, whole; once written again it stays. */
static void madv_free_rule07(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_new(nr, 43);

	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, nr / 2, nr / 2 + nr / 8);
	CHECK(madvise(arena_page(&arena, nr / 4), nr / 2 * PAGE_BYTES, MADV_FREE) == 0);
	arena_fill(&arena, nr / 4, nr / 4 + nr / 8, 2);
	live_press();
	arena_check(&arena, 0, nr / 4 + nr / 8);
	arena_check(&arena, nr / 4 + nr / 2, nr);
	for (size_t i = nr / 4 + nr / 8; i < nr / 4 + nr / 2; i++) {
		const unsigned char *page = arena_page(&arena, i);
		unsigned char zeros[PAGE_BYTES] = { 0 };

		page_check(page, 43, i, memcmp(page, zeros, PAGE_BYTES) == 0 ? 0 : 1);
	}
	arena_fill(&arena, nr / 4 + nr / 8, nr / 4 + nr / 2, 3);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void hugepage_rule22(void)
{
	size_t nr = live_pages(), block = 2 * PAGES_PER_MIB;
	unsigned char *space = space_reserve((nr + block) * PAGE_BYTES);
	size_t over = (size_t)(uintptr_t)space % (block * PAGE_BYTES);
	struct arena arena = arena_at(space + (block * PAGE_BYTES - over), nr, 44);

	space_commit(arena.base, nr * PAGE_BYTES);
	CHECK(madvise(arena.base, nr * PAGE_BYTES, MADV_HUGEPAGE) == 0);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	/* One page of a huge page is thrown away, one written, one block collapsed by hand. */
	for (size_t i = 0; i < nr; i += block) {
		CHECK(madvise(arena_page(&arena, i + 7), PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, i + 7, i + 8);
		arena_fill(&arena, i + 9, i + 10, 2);
		(void)madvise(arena_page(&arena, i), block * PAGE_BYTES, MADV_COLLAPSE);
	}
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	CHECK(madvise(arena.base, nr / 2 * PAGE_BYTES, MADV_NOHUGEPAGE) == 0);
	arena_fill(&arena, 0, nr, 3);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void guard_install_rule10(void)
{
	size_t nr = live_pages(), piece = 64;
	struct arena arena = arena_new(nr, 45);

	segv_catch();
	arena_fill(&arena, 0, nr, 1);
	if (madvise(arena.base, PAGE_BYTES, MADV_GUARD_INSTALL) != 0)
		live_skip("this kernel has no MADV_GUARD_INSTALL");
	CHECK(madvise(arena.base, PAGE_BYTES, MADV_GUARD_REMOVE) == 0);
	arena_forget(&arena, 0, 1);
	arena_cold(&arena, 0, nr);
	for (size_t i = piece; i + piece <= nr; i += 4 * piece) {
		CHECK(madvise(arena_page(&arena, i), piece * PAGE_BYTES, MADV_GUARD_INSTALL) == 0);
		arena_forget(&arena, i, i + piece);
		CHECK(access_fault(arena_page(&arena, i), false));
		CHECK(access_fault(arena_page(&arena, i + piece - 1), true));
	}
	live_press();
	for (size_t i = piece; i + piece <= nr; i += 4 * piece) {
		CHECK(access_fault(arena_page(&arena, i), false));
		CHECK(madvise(arena_page(&arena, i), piece * PAGE_BYTES, MADV_GUARD_REMOVE) == 0);
	}
	arena_check(&arena, 0, nr);
	arena_fill(&arena, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

/* The same by the other call, which takes many ranges at once. */
static void guard_install_of_own_process(void)
{
	size_t nr = live_pages(), piece = 64;
	struct arena arena = arena_new(nr, 73);
	struct iovec parts[4];
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);

	segv_catch();
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	for (size_t i = 0; i < 4; i++)
		parts[i] = (struct iovec){ arena_page(&arena, (2 * i + 1) * piece), piece * PAGE_BYTES };
	if (process_madvise(self, parts, 4, MADV_GUARD_INSTALL, 0) < 0)
		live_skip("this kernel takes no such advice from a process about itself");
	for (size_t i = 0; i < 4; i++) {
		CHECK(access_fault(parts[i].iov_base, false));
		arena_forget(&arena, (2 * i + 1) * piece, (2 * i + 2) * piece);
	}
	CHECK(process_madvise(self, parts, 4, MADV_GUARD_REMOVE, 0) == (ssize_t)(4 * piece * PAGE_BYTES));
	arena_check(&arena, 0, nr);
	CHECK(close(self) == 0);
}

/* What cannot have guards loses nothing: what comes behind it in one call, and all on a kernel without them. */
static void guard_install_refused(void)
{
	struct sock_filter without[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_GUARD_INSTALL, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { .len = sizeof without / sizeof without[0], .filter = without };
	size_t nr = live_pages(), piece = 64;
	struct arena arena = arena_new(nr, 75);
	struct iovec parts[] = {
		{ arena_page(&arena, piece), piece * PAGE_BYTES },
		{ (void *)getauxval(AT_SYSINFO_EHDR), PAGE_BYTES },
		{ arena_page(&arena, 3 * piece), piece * PAGE_BYTES },
	};
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);

	segv_catch();
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	ssize_t done = process_madvise(self, parts, 3, MADV_GUARD_INSTALL, 0);
	CHECK(done == -1 || done == (ssize_t)parts[0].iov_len);
	if (done > 0) {
		CHECK(access_fault(parts[0].iov_base, false));
		CHECK(madvise(parts[0].iov_base, parts[0].iov_len, MADV_GUARD_REMOVE) == 0);
		arena_forget(&arena, piece, 2 * piece);
	}
	arena_check(&arena, 0, nr);
	arena_cold(&arena, 0, nr);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
	errno = 0;
	CHECK(madvise(arena.base, nr * PAGE_BYTES, MADV_GUARD_INSTALL) == -1 && errno == EINVAL);
	arena_check(&arena, 0, nr);
	CHECK(close(self) == 0);
}

/* What is filled ahead of first touches leaves guards alone, those of a child as well. */
static void guards_among_first_touches(struct arena *arena, size_t from, size_t to)
{
	for (size_t i = from; i + 64 <= to; i += 64) {
		CHECK(madvise(arena_page(arena, i + 20), 4 * PAGE_BYTES, MADV_GUARD_INSTALL) == 0);
		arena_fill(arena, i, i + 20, 1);
		for (size_t k = 20; k < 24; k++)
			CHECK(access_fault(arena_page(arena, i + k), true));
	}
}

static void guards_before_first_touch(void)
{
	size_t nr = live_pages(), half = nr / 2;
	struct arena arena = arena_new(nr, 74);
	int status;

	segv_catch();
	arena_fill(&arena, half, nr, 1);
	arena_cold(&arena, half, nr); /* it is managed by now */
	if (madvise(arena.base, PAGE_BYTES, MADV_GUARD_INSTALL) != 0)
		live_skip("this kernel has no MADV_GUARD_INSTALL");
	CHECK(madvise(arena.base, PAGE_BYTES, MADV_GUARD_REMOVE) == 0);
	guards_among_first_touches(&arena, 0, half / 2);
	pid_t pid = fork();
	if (pid == 0) {
		guards_among_first_touches(&arena, half / 2, half);
		arena_check(&arena, half, nr);
		_exit(0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	arena_check(&arena, half, nr);
}

static void odd_mappings_rule14(void)
{
	static const int advice[] = { MADV_DONTFORK, MADV_MERGEABLE, MADV_DONTDUMP,
				      MADV_WIPEONFORK, MADV_RANDOM, MADV_SEQUENTIAL };
	size_t nr = live_pages(), part = nr / 8;
	struct arena arena = arena_new(nr, 46);

	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++)
		/* KSM may be missing from the kernel; the rest must work. */
		CHECK(madvise(arena_page(&arena, (i + 1) * part), part * PAGE_BYTES, advice[i]) ==
			      0 || advice[i] == MADV_MERGEABLE);
	arena_fill(&arena, 0, nr, 1);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
	CHECK(madvise(arena_page(&arena, part), part * PAGE_BYTES, MADV_DOFORK) == 0);
	CHECK(madvise(arena_page(&arena, 4 * part), part * PAGE_BYTES, MADV_KEEPONFORK) == 0);
	arena_fill(&arena, 0, nr, 2);
	arena_cold(&arena, 0, nr);
	arena_check(&arena, 0, nr);
}

static void populate(void)
{
	size_t nr = live_pages(), part = nr / 8;
	struct arena arena = arena_new(nr, 47);

	arena_fill(&arena, 0, nr / 2, 1);
	arena_cold(&arena, 0, nr / 2);
	CHECK(madvise(arena.base, part * PAGE_BYTES, MADV_POPULATE_READ) == 0);
	CHECK(madvise(arena_page(&arena, part), part * PAGE_BYTES, MADV_POPULATE_WRITE) == 0);
	CHECK(madvise(arena_page(&arena, 6 * part), part * PAGE_BYTES, MADV_POPULATE_WRITE) == 0);
	(void)madvise(arena.base, nr * PAGE_BYTES, MADV_WILLNEED);
	(void)madvise(arena.base, part * PAGE_BYTES, MADV_COLD);
	arena_check(&arena, 0, nr);
}

/* Several threads throw away, map and move at once; nothing may hang and nothing may mix. */
static void *storm(void *argument)
{
	size_t nr = 512;
	uint64_t seed = (uint64_t)(uintptr_t)argument, state = seed;
	struct arena arena = arena_new(nr, seed);

	for (uint32_t round = 1; round < 150; round++) {
		size_t from = live_random(&state) % (nr - 16);
		unsigned char *target;

		arena_fill(&arena, 0, nr, round);
		CHECK(madvise(arena_page(&arena, from), 16 * PAGE_BYTES, MADV_DONTNEED) == 0);
		arena_forget(&arena, from, from + 16);
		arena_check(&arena, 0, nr);
		if (round % 5)
			continue;
		target = space_reserve(nr * PAGE_BYTES);
		CHECK(mremap(arena.base, nr * PAGE_BYTES, nr * PAGE_BYTES,
			     MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
		arena.base = target;
		arena_check(&arena, 0, nr);
	}
	arena_free(&arena);
	return NULL;
}

static void madvise_storm_rule12(void)
{
	struct arena arena = arena_new(live_pages(), 48);
	pthread_t threads[4];

	arena_fill(&arena, 0, arena.nr_pages, 1);
	arena_cold(&arena, 0, arena.nr_pages);
	for (uintptr_t i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, storm, (void *)(480 + i)) == 0);
	arena_check(&arena, 0, arena.nr_pages);
	for (unsigned int i = 0; i < 4; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	arena_check(&arena, 0, arena.nr_pages);
}

static const struct live_case cases[] = {
	{ "dontneed", dontneed },
	{ "dontneed-with-readers-rule06", dontneed_with_readers_rule06 },
	{ "dontneed-while-demoted-rule07", dontneed_while_demoted_rule07 },
	{ "madv-free-rule07", madv_free_rule07 },
	{ "hugepage-rule22", hugepage_rule22 },
	{ "guard-install-rule10", guard_install_rule10 },
	{ "guards-before-first-touch", guards_before_first_touch },
	{ "guard-install-of-own-process", guard_install_of_own_process },
	{ "guard-install-refused", guard_install_refused },
	{ "odd-mappings-rule14", odd_mappings_rule14 },
	{ "populate", populate },
	{ "madvise-storm-rule12", madvise_storm_rule12 },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
