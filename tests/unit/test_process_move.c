/* SPDX-License-Identifier: MIT */
/*
 * What is said of a huge page that is split on its way, on a made-up kernel: of each of its 512 parts it
 * knows where it is, and how many it has moved. Our sums must be that number, whatever it did.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "pidfd.h"
#include "watch.h"

#define PAGE 4096u
#define PARTS TIERING_HUGE_PAGES
#define HUGE_BYTES (PARTS * PAGE)
#define NR_HUGE 3u
#define GONE (-ENOENT)

/* ---- the kernel ---- */

static char *memory;                    /* ours, so that it is mapped; what is where the tables say */
static int where[NR_HUGE][PARTS];       /* a node, GONE */
static bool whole[NR_HUGE];             /* mapped by one entry */
static uint64_t nr_moved;
static void (*meanwhile)(void);         /* between the last look and the move */
static unsigned int kernel_parts;       /* of a huge page that has to be split in its move so many go */

static int *part(uint64_t address)
{
	uint64_t at = (address - (uintptr_t)memory) / PAGE;

	assert_in_range(address, (uintptr_t)memory, (uintptr_t)memory + NR_HUGE * HUGE_BYTES - 1);
	return &where[at / PARTS][at % PARTS];
}

int __wrap_move_query(pid_t pid, const uint64_t *addresses, size_t nr, int *ret_nodes);
int __wrap_move_query(pid_t pid, const uint64_t *addresses, size_t nr, int *ret_nodes)
{
	assert_int_equal(pid, getpid());
	for (size_t i = 0; i < nr; i++)
		ret_nodes[i] = *part(addresses[i]);
	return 0;
}

bool __wrap_pagemap_huge(int fd, uint64_t address);
bool __wrap_pagemap_huge(int fd, uint64_t address)
{
	assert_true(fd >= 0);
	return whole[(address - (uintptr_t)memory) / HUGE_BYTES];
}

int __wrap_node_room_read(const char *root, unsigned int id, struct node_room *ret_room);
int __wrap_node_room_read(const char *root, unsigned int id, struct node_room *ret_room)
{
	(void)root;
	(void)id;
	*ret_room = (struct node_room){ .total_bytes = 1u << 30, .free_bytes = 1u << 30 };
	return 0;
}

/* The parts [0, nr) of a huge page that are there. */
static void parts_go(size_t huge, unsigned int nr, unsigned int node)
{
	for (unsigned int i = 0; i < nr; i++)
		if (where[huge][i] >= 0 && where[huge][i] != (int)node) {
			where[huge][i] = (int)node;
			nr_moved++;
		}
}

int __wrap_move_to(pid_t pid, const uint64_t *addresses, size_t nr, uint32_t page_bytes, unsigned int node, bool all,
		   struct move_pace *pace, uint8_t *ret_status);
int __wrap_move_to(pid_t pid, const uint64_t *addresses, size_t nr, uint32_t page_bytes, unsigned int node, bool all,
		   struct move_pace *pace, uint8_t *ret_status)
{
	(void)pid;
	(void)page_bytes;
	(void)all;
	(void)pace;
	if (meanwhile)
		meanwhile();
	meanwhile = NULL;
	for (size_t i = 0; i < nr; i++) {
		size_t huge = (addresses[i] - (uintptr_t)memory) / HUGE_BYTES;

		if (!whole[huge]) {
			parts_go(huge, 1, node);
		} else if (kernel_parts < PARTS) {
			whole[huge] = false;
			parts_go(huge, kernel_parts, node);
		} else {
			parts_go(huge, PARTS, node);
		}
		ret_status[i] = where[huge][0] == (int)node ? MOVE_DONE : where[huge][0] < 0 ? MOVE_NO_PAGE : MOVE_HELD;
	}
	return 0;
}

/* ---- the process: this one ---- */

static struct node nodes[2] = { { .id = 0, .has_memory = true }, { .id = 1, .has_memory = true, .slow = true } };
static struct node_map map = { .nr = 2, .nodes = nodes };
static struct watch watch;
static struct nodeset slow;
static struct tiering_move moves[NR_HUGE];

static int begin(void **state)
{
	const struct process_options options = { .root = "" };
	const struct process_range *ranges;
	size_t nr;
	char *at = mmap(NULL, (NR_HUGE + 1) * (size_t)HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);

	(void)state;
	assert_true(at != MAP_FAILED);
	memory = (char *)(((uintptr_t)at + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	nodeset_add(&map.memory, 0);
	nodeset_add(&map.memory, 1);
	nodeset_add(&slow, 1);
	assert_int_equal(process_open(getpid(), &options, &map, &watch.process), 0);
	assert_int_equal(process_ranges(watch.process, &ranges, &nr), 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	process_close(watch.process);
	return 0;
}

/* All of it on node 1, in huge pages; then it is promoted. */
static void promote(unsigned int parts, void (*change)(void))
{
	for (size_t h = 0; h < NR_HUGE; h++) {
		for (unsigned int i = 0; i < PARTS; i++)
			where[h][i] = 1;
		whole[h] = true;
		moves[h] = (struct tiering_move){ .vpn = ((uintptr_t)memory >> 12) + h * PARTS, .nr_pages = PARTS,
						  .op = TIERING_PROMOTE, .from = 1, .to = 0 };
	}
	nr_moved = 0;
	kernel_parts = parts;
	meanwhile = change;
	watch.sharer.tally = (struct process_tally){ 0 };
	watch_move(&watch, &map, &slow, moves, NR_HUGE);
}

/* What we say has moved is what the kernel moved; and all that was asked for has ended. */
static void sums_check(void)
{
	const struct process_tally *tally = &watch.sharer.tally;
	uint64_t said = 0, ended = 0;

	for (size_t h = 0; h < NR_HUGE; h++) {
		said += moves[h].nr_moved;
		assert_true((moves[h].reason == REASON_MOVED) == (moves[h].nr_moved == PARTS));
	}
	for (unsigned int reason = 0; reason < REASON_COUNT; reason++)
		ended += tally->bytes[reason];
	assert_int_equal(said, nr_moved);
	assert_int_equal(tally->bytes[REASON_MOVED], nr_moved * PAGE);
	assert_int_equal(ended, tally->asked_bytes);
	assert_int_equal(tally->asked_bytes, NR_HUGE * HUGE_BYTES);
}

static void whole_pages_move_whole(void **state)
{
	(void)state;
	promote(PARTS, NULL);
	sums_check();
	assert_int_equal(nr_moved, NR_HUGE * PARTS);
}

static void second_is_split(void)
{
	whole[1] = false;
}

/* Before its move: the kernel moves the one part that it was asked for. */
static void split_before(void **state)
{
	(void)state;
	promote(PARTS, second_is_split);
	sums_check();
	assert_int_equal(moves[0].nr_moved, PARTS);
	assert_int_equal(moves[1].nr_moved, 1);
	assert_int_equal(moves[1].reason, REASON_BUSY);
	assert_int_equal(moves[2].nr_moved, PARTS);
}

/* In it, and not all parts went. Also when the very first one did not. */
static void split_in_it(void **state)
{
	static const unsigned int some[] = { 0, 1, 7, 511 };

	(void)state;
	for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
		promote(some[i], NULL);
		sums_check();
		assert_int_equal(moves[1].nr_moved, some[i]);
	}
}

/* As if the kernel had been before us with all but the first part, which was freed. */
static void first_goes(void)
{
	whole[2] = false;
	where[2][0] = GONE;
	parts_go(2, PARTS, 0);
}

static void defect_4b_02_first_has_gone(void **state)
{
	(void)state;
	promote(PARTS, first_goes);
	sums_check();
	assert_int_equal(moves[2].nr_moved, PARTS - 1);
	assert_int_equal(moves[2].reason, REASON_PAGE_GONE);
}

static void third_has_holes(void)
{
	where[2][3] = where[2][PARTS - 1] = GONE;
	whole[2] = false;
	parts_go(2, PARTS, 0);
	nr_moved += 2;
}

/* Some of it was freed: the kernel splits it, moves the others, and counts those that went, too. */
static void holes(void **state)
{
	(void)state;
	promote(PARTS, third_has_holes);
	sums_check();
	assert_int_equal(moves[2].nr_moved, PARTS);
}

static void third_has_holes_and_stays(void)
{
	where[2][0] = where[2][3] = where[2][PARTS - 1] = GONE;
	whole[2] = false;
	parts_go(2, 5, 0);
}

static void holes_and_some_left(void **state)
{
	(void)state;
	promote(PARTS, third_has_holes_and_stays);
	sums_check();
	assert_int_equal(moves[2].nr_moved, 3);
	assert_int_equal(moves[2].reason, REASON_PAGE_GONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_pages_move_whole), cmocka_unit_test(split_before),
		cmocka_unit_test(split_in_it),            cmocka_unit_test(defect_4b_02_first_has_gone),
		cmocka_unit_test(holes),                  cmocka_unit_test(holes_and_some_left),
	};
	int fd, error = pidfd_get(getpid(), &fd);

	if (error == -ENOSYS) {
		puts("no pidfd_open, as under valgrind");
		return 77;
	}
	if (!error)
		close(fd);
	return cmocka_run_group_tests(tests, begin, end);
}
