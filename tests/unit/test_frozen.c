/* SPDX-License-Identifier: MIT */
/*
 * What a frozen helper has taken of a page is brought back, on a made-up kernel that may be short of memory: the page
 * is in the program or in the hold area then, with every byte, and given up only where nobody can have it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "pagemap.h"
#include "proc.h"
#include "program.h"
#include "uffd.h"

#define NR_PLACES (8u * BLOCK_PAGES)
#define UFFD 7
#define HOLD_UFFD 8
#define HELPER_PID 4711
#define HOLD_ADDRESS UINT64_C(0x7000000000)

/* ---- the kernel ---- */

static const struct helper_run run = { .src = UINT64_C(0x10000000), .dst = HOLD_ADDRESS + 5 * PAGE_BYTES,
				       .bytes = PAGE_BYTES };
static uint64_t where;                  /* the page is; 0: nowhere but in the program */
static uint8_t page[PAGE_BYTES];
static unsigned nr_short;               /* so many copies find no memory */
static int program_error;               /* of the others, into the program */
static uint64_t copied_to;
static uint8_t copied[PAGE_BYTES];
static unsigned nr_copies, nr_sleeps;

int __wrap_pagemap_own(int fd, uint64_t address);
int __wrap_proc_read(pid_t pid, uint64_t address, void *buffer, size_t bytes);
int __wrap_uffd_copy(int fd, uint64_t dst, const void *src, uint64_t bytes, uint64_t *ret_done);
int __wrap_nanosleep(const struct timespec *duration, struct timespec *left);

int __wrap_pagemap_own(int fd, uint64_t address)
{
	(void)fd;
	return address == where;
}

int __wrap_proc_read(pid_t pid, uint64_t address, void *buffer, size_t bytes)
{
	assert_int_equal(pid, HELPER_PID);
	assert_int_equal(address, where);
	memcpy(buffer, page, bytes);
	return 0;
}

int __wrap_uffd_copy(int fd, uint64_t dst, const void *src, uint64_t bytes, uint64_t *ret_done)
{
	nr_copies++;
	assert_int_equal(bytes, PAGE_BYTES);
	if (fd == UFFD)
		assert_int_equal(dst, run.src);
	else
		assert_in_range(dst, HOLD_ADDRESS, HOLD_ADDRESS + (NR_PLACES - 1) * PAGE_BYTES);
	if (nr_short) {
		nr_short--;
		return -ENOMEM;
	}
	if (fd == UFFD && program_error)
		return program_error;
	copied_to = dst;
	memcpy(copied, src, bytes);
	*ret_done = bytes;
	return 0;
}

int __wrap_nanosleep(const struct timespec *duration, struct timespec *left)
{
	(void)left;
	assert_true(duration->tv_nsec > 0);
	nr_sleeps++;
	return 0;
}

/* ---- the program ---- */

static struct program *program;

static int begin(void **state)
{
	static struct server server;

	(void)state;
	program = program_new(&server);
	assert_non_null(program);
	program->uffd = UFFD;
	program->hold_uffd = HOLD_UFFD;
	program->helper_pid = HELPER_PID;
	program->hold.address = HOLD_ADDRESS;
	program->hold.nr_pages = NR_PLACES;
	assert_int_equal(hold_tables_open(&program->hold), 0);
	where = HOLD_ADDRESS + (uint64_t)NR_PLACES * PAGE_BYTES; /* the stage */
	for (size_t i = 0; i < PAGE_BYTES; i++)
		page[i] = (uint8_t)(i * 7 + i / 256);
	nr_short = nr_copies = nr_sleeps = 0;
	program_error = 0;
	copied_to = 0;
	return 0;
}

static int end(void **state)
{
	(void)state;
	program->uffd = -1; /* nobody's */
	program->hold_uffd = -1;
	program_free(program);
	return 0;
}

static enum helper_outcome recall(uint32_t *ret_place)
{
	const struct revocation revocation = { .program = program };

	return page_recall(&revocation, 0, &run, ret_place);
}

static uint32_t places_left(void)
{
	uint32_t place, nr = 0, more;

	while ((more = hold_take(program, 64, &place)))
		nr += more;
	return nr;
}

/* ---- */

static void from_the_stage_it_comes_back(void **state)
{
	uint32_t place;

	(void)state;
	assert_int_equal(recall(&place), HELPER_BUSY);
	assert_int_equal(copied_to, run.src);
	assert_memory_equal(copied, page, PAGE_BYTES);
	assert_int_equal(places_left(), NR_PLACES);
}

static void from_its_place_it_comes_back(void **state)
{
	uint32_t place;

	(void)state;
	where = run.dst;
	assert_int_equal(recall(&place), HELPER_BUSY);
	assert_int_equal(copied_to, run.src);
	assert_memory_equal(copied, page, PAGE_BYTES);
}

static void what_has_not_left_is_where_it_was(void **state)
{
	uint32_t place;

	(void)state;
	where = 0;
	assert_int_equal(recall(&place), HELPER_BUSY);
	assert_int_equal(nr_copies, 0);
}

/* However many copies fail first, of either kind. */
static void memory_that_comes_late_is_early_enough(void **state)
{
	for (unsigned nr = 1; nr < 60; nr++) {
		uint32_t place = NR_PLACES;

		nr_short = nr;
		enum helper_outcome outcome = recall(&place);
		if (outcome == HELPER_MOVED)
			assert_int_equal(copied_to, HOLD_ADDRESS + (uint64_t)place * PAGE_BYTES);
		else
			assert_int_equal(outcome, HELPER_BUSY);
		assert_int_equal(copied_to == run.src, outcome == HELPER_BUSY);
		assert_memory_equal(copied, page, PAGE_BYTES);
		assert_true(nr < 20 || nr_sleeps > 0);
		assert_int_equal(end(state) + begin(state), 0);
	}
}

/* An event is on its way: nothing can be put into the program before it has been read. */
static void beside_an_event_it_is_held(void **state)
{
	uint32_t place = NR_PLACES;

	(void)state;
	program_error = -EAGAIN;
	nr_short = 3;
	assert_int_equal(recall(&place), HELPER_MOVED);
	assert_true(place < NR_PLACES);
	assert_int_equal(copied_to, HOLD_ADDRESS + (uint64_t)place * PAGE_BYTES);
	assert_memory_equal(copied, page, PAGE_BYTES);
}

static void what_is_there_already_is_there(void **state)
{
	uint32_t place;

	(void)state;
	program_error = -EEXIST;
	assert_int_equal(recall(&place), HELPER_BUSY);
	assert_int_equal(copied_to, 0);
}

/* Only then, and its place is nobody's: what was tried is given back to be dropped. */
static void without_memory_it_is_lost_in_the_end(void **state)
{
	uint32_t place = NR_PLACES;

	(void)state;
	nr_short = UINT32_MAX;
	assert_int_equal(recall(&place), HELPER_LOST);
	assert_int_equal(place, NR_PLACES);
	assert_true(nr_sleeps >= 10);
}

static void of_a_program_that_has_ended_nothing_is_waited_for(void **state)
{
	uint32_t place;

	(void)state;
	program_error = -ESRCH;
	(void)places_left(); /* all are taken now */
	assert_int_equal(recall(&place), HELPER_LOST);
	assert_int_equal(nr_sleeps, 0);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, begin, end)
	const struct CMUnitTest tests[] = {
		EACH(from_the_stage_it_comes_back),
		EACH(from_its_place_it_comes_back),
		EACH(what_has_not_left_is_where_it_was),
		EACH(memory_that_comes_late_is_early_enough),
		EACH(beside_an_event_it_is_held),
		EACH(what_is_there_already_is_there),
		EACH(without_memory_it_is_lost_in_the_end),
		EACH(of_a_program_that_has_ended_nothing_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
