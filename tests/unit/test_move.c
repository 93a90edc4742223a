/* SPDX-License-Identifier: MIT */
/*
 * The pace of move_pages: on a made-up machine whose calls cost a fixed time and a time a page, calls
 * become as long as they may and no longer, also when the machine changes or one call is disturbed.
 * And on the machine that the test runs on: what a call says of pages of our own.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "move.h"

#define MS UINT64_C(1000000)
#define PAGE 4096u

struct machine {
	uint64_t fixed_ns, page_ns;
};

/* As move_to() does it; gives the longest stall. */
static uint64_t calls(struct move_pace *pace, const struct machine *machine, int nr)
{
	uint64_t longest = 0;

	for (int i = 0; i < nr; i++) {
		uint32_t pages = move_pace_pages(pace, MOVE_CALL_PAGES_MAX);

		assert_in_range(pages, 1, MOVE_CALL_PAGES_MAX);
		uint64_t stall = machine->page_ns * (pages < 512 ? pages : 512);
		longest = stall > longest ? stall : longest;
		move_pace_note(pace, pages, machine->fixed_ns + machine->page_ns * pages);
	}
	return longest;
}

static void settles_below_the_bound(void **state)
{
	static const struct machine machines[] = {
		{ 0, 1000 }, { 5 * MS, 1000 }, { 5 * MS, 40000 }, { 100 * MS, 20000 }, { 0, 3 * MS },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(machines) / sizeof(*machines); i++) {
		struct move_pace pace;

		move_pace_init(&pace, 20 * MS);
		calls(&pace, &machines[i], 100);
		uint64_t stall = calls(&pace, &machines[i], 200);
		assert_true(stall <= 20 * MS);
		/* And not far below, unless a call cannot hold more. */
		assert_true(stall >= 5 * MS || pace.pages == MOVE_CALL_PAGES_MAX || pace.pages == 2);
	}
}

/* Nothing to move within the bound: two pages at a time all the same. One could not tell the time of a
 * page from that of a call. */
static void two_pages_are_the_least(void **state)
{
	struct move_pace pace;
	struct machine slow = { 0, 500 * MS };

	(void)state;
	move_pace_init(&pace, 20 * MS);
	calls(&pace, &slow, 50);
	assert_int_equal(pace.pages, 2);
}

static void follows_a_machine_that_slows_down(void **state)
{
	struct move_pace pace;
	struct machine machine = { MS, 10000 };

	(void)state;
	move_pace_init(&pace, 20 * MS);
	calls(&pace, &machine, 100);
	machine.page_ns = 100000;
	calls(&pace, &machine, 8); /* so many may be too long */
	assert_true(calls(&pace, &machine, 100) <= 23 * MS);
	assert_true(calls(&pace, &machine, 100) <= 20 * MS);
	machine.page_ns = 10000;
	calls(&pace, &machine, 100);
	assert_true(pace.pages > 500);
}

/* A process that is new begins with what is known of calls, and with a count of its own. */
static void what_was_learned_is_inherited(void **state)
{
	struct move_pace pace, next;
	struct machine machine = { 5 * MS, 40000 };

	(void)state;
	move_pace_init(&pace, 20 * MS);
	calls(&pace, &machine, 100);
	move_pace_init(&next, 20 * MS);
	uint32_t first = move_pace_pages(&next, 4096);
	move_pace_inherit(&next, &pace);
	assert_int_equal(first, 1);
	assert_int_equal(next.calls, 0);
	assert_true(next.fixed_ns == pace.fixed_ns && next.pages == pace.pages);
	assert_true(calls(&next, &machine, 100) <= 20 * MS);
	/* The bound is its own. */
	move_pace_init(&next, 5 * MS);
	move_pace_inherit(&next, &pace);
	calls(&next, &machine, 60);
	assert_true(calls(&next, &machine, 100) <= 5 * MS);
}

/* One call that took a second must not make all calls small for long. */
static void one_disturbed_call(void **state)
{
	struct move_pace pace;
	struct machine machine = { MS, 10000 };

	(void)state;
	move_pace_init(&pace, 20 * MS);
	calls(&pace, &machine, 100);
	uint32_t before = pace.pages;
	move_pace_note(&pace, pace.pages, 1000 * MS);
	assert_true(pace.pages < before);
	calls(&pace, &machine, 60);
	assert_true(pace.pages > before / 2);
	/* Nor one calibration. */
	uint64_t fixed_ns = pace.fixed_ns;
	move_pace_note(&pace, 1, 1000 * MS);
	assert_int_equal(pace.fixed_ns, fixed_ns);
}

/* Every third call is disturbed for longer than the bound, whatever its size: the calls must not become
 * so small that the fixed time is all there is. */
static void disturbed_all_the_time(void **state)
{
	struct move_pace pace;
	struct machine machine = { MS, 10000 };
	uint64_t pages = 0;

	(void)state;
	move_pace_init(&pace, 20 * MS);
	for (int i = 0; i < 300; i++) {
		calls(&pace, &machine, 2);
		pages += pace.pages;
		move_pace_note(&pace, pace.pages, 30 * MS);
	}
	assert_true(pages / 300 > 10);
	/* Every tenth: that is only noise. */
	pages = 0;
	for (int i = 0; i < 100; i++) {
		calls(&pace, &machine, 9);
		pages += pace.pages;
		move_pace_note(&pace, pace.pages, 30 * MS);
	}
	assert_true(pages / 100 > 300);
}

/* A kernel whose calls cost more than an empty one, by what it has to wait for before it takes pages; a
 * third of that varies from call to call, and one call in eight is disturbed for longer than the bound. */
struct kernel {
	uint64_t empty_ns, fixed_ns, page_ns, disturbance_ns;
	uint64_t random;
};

static uint64_t kernel_call(struct kernel *kernel, uint32_t pages)
{
	kernel->random = kernel->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	uint64_t number = kernel->random >> 33;

	if (!pages)
		return kernel->empty_ns;
	return kernel->fixed_ns * 5 / 6 + kernel->fixed_ns / 3 * (number % 1000) / 1000 +
	       (number % 8 ? 0 : kernel->disturbance_ns) + kernel->page_ns * pages;
}

/* As move_to() with so many pages to move at a time; the average of what it would take in one call. */
static uint64_t kernel_calls(struct move_pace *pace, struct kernel *kernel, uint32_t wanted, int nr)
{
	uint64_t sum = 0;

	for (int i = 0; i < nr; i++) {
		uint32_t pages = move_pace_pages(pace, wanted);

		assert_in_range(pages, 1, wanted);
		sum += pace->pages;
		move_pace_note(pace, pages, kernel_call(kernel, pages));
	}
	return sum / (uint64_t)nr;
}

/* The time that a call takes however few pages it has is no reason for fewer. */
static void fixed_time_is_no_stall(void **state)
{
	(void)state;
	for (uint64_t fixed_ms = 1; fixed_ms <= 64; fixed_ms *= 2) {
		struct kernel kernel = { MS / 10, fixed_ms * MS, 10000, 25 * MS, 1 };
		struct move_pace pace;

		move_pace_init(&pace, 20 * MS);
		kernel_calls(&pace, &kernel, MOVE_CALL_PAGES_MAX, 200);
		/* 10 ms of pages, as far as the noise lets it be known. */
		assert_in_range(kernel_calls(&pace, &kernel, MOVE_CALL_PAGES_MAX, 400), 250, MOVE_CALL_PAGES_MAX);
		/* Few pages at a time, as they become hot: that teaches nothing about many. */
		kernel_calls(&pace, &kernel, 4, 400);
		assert_in_range(kernel_calls(&pace, &kernel, MOVE_CALL_PAGES_MAX, 40), 64, MOVE_CALL_PAGES_MAX);
	}
}

/* Pages that take long by themselves: few a call, whatever the fixed time. */
static void slow_pages_are_few(void **state)
{
	(void)state;
	for (uint64_t fixed_ms = 1; fixed_ms <= 64; fixed_ms *= 8) {
		struct kernel kernel = { MS / 10, fixed_ms * MS, MS, 0, 1 };
		struct move_pace pace;

		move_pace_init(&pace, 20 * MS);
		kernel_calls(&pace, &kernel, MOVE_CALL_PAGES_MAX, 200);
		assert_in_range(kernel_calls(&pace, &kernel, MOVE_CALL_PAGES_MAX, 400), 2, 24);
	}
}

/* Huge pages, of which each is copied by itself, say nothing about batches of small ones. */
static void huge_pages_teach_nothing(void **state)
{
	struct kernel kernel = { MS / 10, MS, 60000, 0, 1 };
	struct move_pace pace;

	(void)state;
	move_pace_init(&pace, 20 * MS);
	kernel_calls(&pace, &kernel, MOVE_CALL_PAGES_MAX, 100);
	uint32_t before = pace.pages;
	for (int i = 0; i < 100; i++)
		move_pace_note_huge(&pace, 512, 2 * MS);
	assert_int_equal(pace.pages, before);
	assert_in_range(pace.stall_max_ns, 2 * MS - MS, 40 * MS);
}

/* Small batches tell nothing about large ones. */
static void small_batches_do_not_grow_it(void **state)
{
	struct move_pace pace;

	(void)state;
	move_pace_init(&pace, 20 * MS);
	uint32_t before = pace.pages;
	for (int i = 0; i < 100; i++)
		move_pace_note(&pace, 2, 1000);
	assert_int_equal(pace.pages, before);
}

static void quantiles(void **state)
{
	struct move_pace pace;

	(void)state;
	move_pace_init(&pace, 20 * MS);
	assert_int_equal(move_pace_stall_ns(&pace, 50), 0);
	for (int i = 0; i < 99; i++)
		move_pace_note(&pace, 2, 1000);
	move_pace_note(&pace, 2, 70 * MS);
	assert_int_equal(pace.calls, 100);
	assert_in_range(move_pace_stall_ns(&pace, 50), 1000, 1250);
	assert_in_range(move_pace_stall_ns(&pace, 99), 1000, 1250);
	for (unsigned int i = 1; i < MOVE_BUCKETS; i++) {
		uint64_t begin = move_bucket_end_ns(i - 1), end = move_bucket_end_ns(i);
		assert_true(end > begin && end <= begin * 2);
		assert_true(begin < 1000 || end <= begin + begin / 4);
	}
	/* Just inside and just outside of a bucket. */
	struct move_pace one;
	move_pace_init(&one, 20 * MS);
	move_pace_note(&one, 2, 20 * MS);
	assert_in_range(move_pace_stall_ns(&one, 50), 20 * MS, 20 * MS);
	move_pace_note(&one, 2, 60 * MS);
	assert_in_range(move_pace_stall_ns(&one, 50), 20 * MS, 25 * MS);
	assert_int_equal(move_pace_stall_ns(&pace, 100), 70 * MS);
	assert_int_equal(pace.stall_max_ns, 70 * MS);
	assert_int_equal(pace.stall_sum_ns, 99 * 1000 + 70 * MS);
	struct move_pace sum = { .stall_max_ns = 1 };
	move_pace_add(&sum, &pace);
	move_pace_add(&sum, &pace);
	assert_int_equal(sum.calls, 200);
	assert_int_equal(sum.stall_sum_ns, 2 * pace.stall_sum_ns);
	assert_int_equal(sum.stall_max_ns, 70 * MS);
	assert_int_equal(move_pace_stall_ns(&sum, 99), move_pace_stall_ns(&pace, 99));
	move_pace_note(&pace, 2, UINT64_MAX);
	assert_in_range(pace.pages, 1, MOVE_CALL_PAGES_MAX);
}

/* Pages of our own on node 0 of this machine: there, absent, and not mapped. */
static void statuses(void **state)
{
	unsigned char *memory = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t addresses[4];
	struct move_pace pace;
	uint8_t status[4];
	int nodes[4];

	(void)state;
	assert_ptr_not_equal(memory, MAP_FAILED);
	memory[0] = 1;
	memory[2 * PAGE] = 1;
	for (size_t i = 0; i < 4; i++)
		addresses[i] = (uint64_t)(uintptr_t)memory + i * PAGE;
	assert_int_equal(munmap(memory + 3 * PAGE, PAGE), 0);
	int error = move_query(getpid(), addresses, 4, nodes);
	if (error == -ENOSYS || error == -EPERM)
		skip(); /* no NUMA in this kernel, or a container that forbids the call */
	assert_int_equal(error, 0);
	assert_true(nodes[0] >= 0 && nodes[2] >= 0);
	assert_int_equal(nodes[1], -ENOENT);
	assert_int_equal(nodes[3], -EFAULT);
	assert_int_equal(move_query(getpid(), NULL, 0, NULL), 0);
	assert_int_equal(move_query(0x7ffffff0, addresses, 1, nodes), -ESRCH);
	move_pace_init(&pace, MOVE_STALL_NS);
	error = move_to(getpid(), addresses, 4, PAGE, (unsigned int)nodes[0], false, &pace, status);
	assert_int_equal(error, 0);
	assert_int_equal(status[0], MOVE_DONE);
	assert_int_equal(status[1], MOVE_NO_PAGE);
	assert_int_equal(status[2], MOVE_DONE);
	assert_int_equal(status[3], MOVE_NO_RANGE);
	assert_int_equal(move_to(getpid(), addresses, 4, PAGE, 1000, false, &pace, status), -ENODEV);
	assert_int_equal(status[0], MOVE_NOT_TRIED);
	munmap(memory, 3 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settles_below_the_bound),
		cmocka_unit_test(two_pages_are_the_least),
		cmocka_unit_test(follows_a_machine_that_slows_down),
		cmocka_unit_test(what_was_learned_is_inherited),
		cmocka_unit_test(one_disturbed_call),
		cmocka_unit_test(disturbed_all_the_time),
		cmocka_unit_test(small_batches_do_not_grow_it),
		cmocka_unit_test(fixed_time_is_no_stall),
		cmocka_unit_test(slow_pages_are_few),
		cmocka_unit_test(huge_pages_teach_nothing),
		cmocka_unit_test(quantiles),
		cmocka_unit_test(statuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
