/* SPDX-License-Identifier: MIT */
/*
 * Guest cases: huge pages of another process, which move whole; or are split, or lose parts, before they do.
 */
#include "other.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "pagetide.h"

#define HUGE_SWITCH "/sys/kernel/mm/transparent_hugepage/enabled"

static void huge_prepare(struct arena *arena)
{
	CHECK(vm_write(HUGE_SWITCH, "madvise"));
	CHECK(madvise(arena->base, NR_PAGES * PAGE_BYTES, MADV_HUGEPAGE) == 0);
}

static void huge_bytes(void)
{
	all_bytes(true, huge_prepare, BLOCK_PAGES);
}

/* The huge pages there are stay, and none is made again of parts: that is done by a thread of the kernel, whenever it
 * comes to it. */
static void huge_make_no_more(void)
{
	CHECK(vm_write(HUGE_SWITCH, "never"));
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
	huge_make_no_more();
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

/* It asks whether to stop before each range is looked at, first to find what is there, then to move it; and once
 * more when all has been looked at and the first batch is to be moved: then huge pages are split. */
struct splitter {
	struct other *other;
	unsigned int nr_ranges, nr_asked;
	bool moving, split;
};

static void splitter_progress(void *arg, uint64_t done_bytes, uint64_t sum_bytes)
{
	struct splitter *splitter = arg;

	(void)done_bytes;
	(void)sum_bytes;
	splitter->moving = true;
}

static bool splitter_stop(void *arg)
{
	struct splitter *splitter = arg;

	splitter->nr_ranges += !splitter->moving;
	splitter->nr_asked += splitter->moving;
	if (splitter->nr_asked > splitter->nr_ranges && !splitter->split) {
		half_split(splitter->other);
		splitter->split = true;
	}
	return false;
}

/* Of what was huge when it was found, and is not when it is moved, each part is tried by itself: none stays, and
 * what counts as moved is what the kernel moved. */
static void migrate_split(void)
{
	struct other other = other_begin(false, huge_prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct splitter splitter = { .other = &other };
	const struct tide_migrate_options options = {
		.size = sizeof options, .pid = other.pid, .from = "1", .to = "0",
		.progress = splitter_progress, .progress_arg = &splitter,
		.stop = splitter_stop, .stop_arg = &splitter,
	};
	char message[TIDE_MESSAGE_MAX], *text = NULL;
	unsigned long long counted = 0;

	if (found.nr != NR_PAGES / BLOCK_PAGES)
		live_skip("no huge pages here");
	huge_make_no_more();
	uint64_t before = vm_counter("pgmigrate_success");
	CHECK(tide_migrate(&options, &text, message) == 0);
	uint64_t moved = vm_counter("pgmigrate_success") - before;
	const char *at = strstr(text, "\"moved\": ");
	CHECK(at && sscanf(at, "\"moved\": %llu", &counted) == 1);
	found = look(space, &other);
	printf("the kernel moved %llu pages, %zu are on the target, in now %zu pieces\n", (unsigned long long)moved,
	       found.on[0], found.nr);
	CHECK(splitter.split);
	if (counted != moved || found.on[0] != NR_PAGES || found.nr <= NR_PAGES / 2)
		live_fail("%s", text);
	free(text);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
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

static const struct live_case cases[] = {
	{ "huge-bytes", huge_bytes },
	{ "huge-with-holes", huge_with_holes },
	{ "huge-split", huge_split },
	{ "migrate-split", migrate_split },
	{ "hugetlb", hugetlb },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
