/* SPDX-License-Identifier: MIT */
/* Who descends from whom: rings of two CPUs, into which the kernel's records are laid. */
#include <errno.h>
#include <linux/perf_event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "kin.h"
#include "tree.h"

#define NR_CPUS 2u
#define RING_BYTES 65536u
#define OURS 100
#define SECOND_NS UINT64_C(1000000000)

static struct kin kin;
static char *maps[NR_CPUS];
static uint64_t now_ns;
static int open_error;

/* What the kernel says of how long events have been there: more each time. */
static int times_open(void)
{
	int fd = memfd_create("times", MFD_CLOEXEC);

	assert_true(fd >= 0);
	for (uint64_t i = 1; i < 64; i++)
		assert_int_equal(write(fd, (const uint64_t[]){ 0, i }, 16), 16);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static int ring_open(void *arg, unsigned int cpu, struct perf_ring *ret_ring)
{
	(void)arg;
	assert_true(cpu < NR_CPUS);
	if (open_error)
		return open_error;
	maps[cpu] = mmap(NULL, 4096 + RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(maps[cpu] != MAP_FAILED);
	*ret_ring = (struct perf_ring){ .tid = -1, .map = maps[cpu], .bytes = RING_BYTES };
	for (unsigned i = 0; i < PERF_EVENTS; i++)
		ret_ring->fds[i] = -1;
	ret_ring->fds[PERF_TOUCH] = times_open();
	return 0;
}

static int begin(void **state)
{
	int error = tree_begin(state);

	put("/sys/devices/system/cpu/online", "0-1\n");
	now_ns = 10 * SECOND_NS;
	open_error = 0;
	kin_begin(&kin, root);
	kin.rings.open = ring_open;
	return error;
}

static int end(void **state)
{
	kin_end(&kin);
	return tree_end(state);
}

static void put_words(unsigned cpu, const uint64_t *words, size_t nr)
{
	struct perf_event_mmap_page *control = (void *)maps[cpu];

	memcpy(maps[cpu] + 4096 + control->data_head, words, nr * 8);
	control->data_head += nr * 8;
}

/* `tid`: of a new thread, else pid. */
static void start_thread(unsigned cpu, pid_t parent, pid_t pid, pid_t tid, uint64_t time_ns)
{
	const uint64_t words[] = {
		UINT64_C(32) << 48 | PERF_RECORD_FORK, (uint64_t)parent << 32 | (uint32_t)pid,
		(uint64_t)parent << 32 | (uint32_t)tid, time_ns,
	};

	put_words(cpu, words, sizeof words / 8);
}

static void start(unsigned cpu, pid_t parent, pid_t pid, uint64_t time_ns)
{
	start_thread(cpu, parent, pid, pid, time_ns);
}

static bool ours(void *arg, const struct kin_start *one)
{
	(void)arg;
	return one->parent == OURS;
}

static void read_all(void)
{
	kin_read(&kin, ours, NULL, now_ns);
}

static void expect(pid_t pid, uint64_t before_ns)
{
	struct kin_start one;

	assert_int_equal(kin_take(&kin, before_ns, &one), 0);
	assert_int_equal(one.pid, pid);
}

static void expect_none(uint64_t before_ns)
{
	struct kin_start one;

	assert_int_equal(kin_take(&kin, before_ns, &one), -ENOENT);
}

/* A helper that starts a helper that starts a service; each on another CPU, told in the wrong order. */
static void grandchildren_of_who_has_ended(void **state)
{
	(void)state;
	read_all();
	start(0, 50, 60, 3);       /* strangers */
	start(0, 102, 103, 4);
	start(0, OURS, 101, 1);
	start(1, 60, 61, 5);
	start(1, 101, 102, 2);
	read_all();
	start(1, 103, 104, 6);
	read_all();
	for (pid_t pid = 101; pid <= 104; pid++)
		expect(pid, UINT64_MAX);
	expect_none(UINT64_MAX);
}

static void they_wait_until_they_are_old_enough(void **state)
{
	(void)state;
	read_all();
	start(0, OURS, 101, 1000);
	start(1, OURS, 102, 2000);
	read_all();
	expect_none(1000);
	expect(101, 1500);
	expect_none(1500);
	expect(102, 2001);
}

static void threads_are_nobody_new(void **state)
{
	(void)state;
	read_all();
	start_thread(0, OURS, OURS, 105, 1);
	read_all();
	expect_none(UINT64_MAX);
}

/* The number of one of them is a stranger's now, and so is who that one starts. */
static void a_number_that_is_given_anew(void **state)
{
	(void)state;
	read_all();
	start(0, OURS, 101, 1);
	start(0, 50, 101, 2);
	start(1, 101, 102, 3);
	read_all();
	expect_none(UINT64_MAX);
	/* And the other way round. */
	start(0, 50, 110, 4);
	start(1, 110, 111, 5);
	start(0, OURS, 110, 6);
	start(1, 110, 112, 7);
	read_all();
	expect(110, UINT64_MAX);
	expect(112, UINT64_MAX);
	expect_none(UINT64_MAX);
}

static void what_was_not_told_is_in_doubt(void **state)
{
	const uint64_t lost[] = { UINT64_C(24) << 48 | PERF_RECORD_LOST, 0, 7 };

	(void)state;
	assert_int_equal(kin_doubt_ns(&kin), UINT64_MAX);
	read_all();
	uint64_t begin_ns = now_ns;
	assert_int_equal(kin_doubt_ns(&kin), begin_ns);
	now_ns += SECOND_NS;
	start(0, OURS, 101, 1);
	read_all();
	assert_int_equal(kin_doubt_ns(&kin), begin_ns);
	put_words(1, lost, 3);
	read_all();
	assert_int_equal(kin_doubt_ns(&kin), now_ns);
	uint64_t lost_ns = now_ns;
	now_ns += 5 * SECOND_NS;
	read_all();
	assert_int_equal(kin_doubt_ns(&kin), lost_ns);
	put("/sys/devices/system/cpu/online", "0\n");
	now_ns += 5 * SECOND_NS;
	read_all();
	assert_int_equal(kin_doubt_ns(&kin), now_ns);
}

/* However many are started the work for each has a bound: they are in doubt, and looked for otherwise. */
static void too_many_are_in_doubt(void **state)
{
	struct kin_start one;
	pid_t pid = 1000;
	size_t nr = 0;

	(void)state;
	read_all();
	uint64_t begin_ns = now_ns;
	now_ns += SECOND_NS;
	for (; pid < 2000; pid++)
		start(0, OURS, pid, (uint64_t)pid);
	read_all();
	assert_int_equal(kin_doubt_ns(&kin), begin_ns);
	for (; pid < 3000; pid++)
		start(1, OURS, pid, (uint64_t)pid);
	read_all();
	assert_int_equal(kin_doubt_ns(&kin), now_ns);
	while (!kin_take(&kin, UINT64_MAX, &one))
		nr++;
	assert_true(nr <= 1024);
}

static void where_it_is_not_permitted_everything_is(void **state)
{
	(void)state;
	open_error = -EACCES;
	for (unsigned i = 0; i < 3; i++) {
		read_all();
		assert_int_equal(kin_doubt_ns(&kin), UINT64_MAX);
		now_ns += 5 * SECOND_NS;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(grandchildren_of_who_has_ended, begin, end),
		cmocka_unit_test_setup_teardown(they_wait_until_they_are_old_enough, begin, end),
		cmocka_unit_test_setup_teardown(threads_are_nobody_new, begin, end),
		cmocka_unit_test_setup_teardown(a_number_that_is_given_anew, begin, end),
		cmocka_unit_test_setup_teardown(what_was_not_told_is_in_doubt, begin, end),
		cmocka_unit_test_setup_teardown(too_many_are_in_doubt, begin, end),
		cmocka_unit_test_setup_teardown(where_it_is_not_permitted_everything_is, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
