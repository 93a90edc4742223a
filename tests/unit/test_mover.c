/* SPDX-License-Identifier: MIT */
/*
 * How long the mover sleeps when nobody wakes it, and how often it goes over all pages: its own rounds, on a clock that
 * is ours.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "world.h"

#define RESTS_MAX 16u
#define LIMIT_PAGES UINT64_C(100000)
#define MS UINT64_C(1000000)

static struct world *world;
static long rests_ms[RESTS_MAX];
static unsigned nr_rests;
static void (*meanwhile)(unsigned nr); /* what happens while it sleeps for the time of that number */
static uint64_t slept_ns; /* what passes then, beside what really passes */
static uint64_t walk_ns;  /* what going over all pages takes */
static unsigned nr_walks;

long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	const struct timespec *rest = (const struct timespec *)d;

	if (number != SYS_futex || b != FUTEX_WAIT_PRIVATE || a != (long)&world->server.work)
		return __real_syscall(number, a, b, c, d, e, f);
	rests_ms[nr_rests++] = rest->tv_sec * 1000 + rest->tv_nsec / 1000000;
	if (meanwhile)
		meanwhile(nr_rests);
	if (nr_rests == RESTS_MAX)
		atomic_store(&world->server.stopping, true);
	errno = ETIMEDOUT;
	return -1;
}

static void pass(struct timespec *t, uint64_t ns)
{
	ns += (uint64_t)t->tv_nsec;
	t->tv_sec += (time_t)(ns / 1000000000);
	t->tv_nsec = (long)(ns % 1000000000);
}

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	int error = __real_clock_gettime(clock, t);

	if (!error && clock == CLOCK_MONOTONIC)
		pass(t, slept_ns + nr_walks * walk_ns);
	if (!error && clock == CLOCK_THREAD_CPUTIME_ID)
		pass(t, nr_walks * walk_ns);
	return error;
}

void __wrap_engine_left_alone(const struct engine *engine, uint64_t *ret_resident, uint64_t *ret_left_alone);
void __wrap_engine_left_alone(const struct engine *engine, uint64_t *ret_resident, uint64_t *ret_left_alone)
{
	(void)engine;
	nr_walks++;
	*ret_resident = *ret_left_alone = LIMIT_PAGES;
}

static int begin(void **state)
{
	(void)state;
	world = world_new();
	pthread_mutex_init(&world->server.plan_lock, NULL);
	pthread_mutex_init(&world->server.plan_turn, NULL);
	world->server.wish.dram_bytes = LIMIT_PAGES * PAGE_BYTES;
	world->server.bound_bytes = UINT64_MAX;
	atomic_store(&world->server.unhelped_pages, LIMIT_PAGES - 100);
	nr_rests = nr_walks = 0;
	slept_ns = walk_ns = 0;
	return 0;
}

static int end(void **state)
{
	(void)state;
	world_free(world);
	return 0;
}

static void rests_sharing(uint32_t watch_ppm, void (*what)(unsigned nr))
{
	pthread_t thread;

	meanwhile = what;
	assert_int_equal(mover_start(&world->server, watch_ppm, &thread), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(nr_rests, RESTS_MAX);
}

static void rests(void (*what)(unsigned nr))
{
	rests_sharing(1000000, what);
}

static void it_rests_longer_while_nothing_happens(void **state)
{
	static const long wanted[] = { 10, 20, 40, 80, 80, 80 };

	(void)state;
	rests(NULL);
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		assert_int_equal(rests_ms[i], wanted[i]);
	assert_int_equal(rests_ms[RESTS_MAX - 1], 80);
}

/* What comes before its share allows for it is forced. */
static void with_a_small_share_it_watches_four_times_a_second(void **state)
{
	static const long before[] = { 10, 20, 40 };

	(void)state;
	rests_sharing(1, NULL);
	for (unsigned i = 0; i < RESTS_MAX; i++)
		assert_int_equal(rests_ms[i], i < 3 ? before[i] : 250);
	assert_true(world->server.voluntary_ns > 0 && world->server.forced_ns > 0);
}

static void fill(unsigned nr)
{
	if (nr >= 5 && nr < 9)
		atomic_fetch_add(&world->server.unhelped_pages, 10);
}

/* A share of the time is no reason to let a program fill memory unseen. */
static void what_grows_is_watched_whatever_the_share(void **state)
{
	(void)state;
	rests_sharing(1, fill);
	assert_int_equal(rests_ms[4], 250);
	for (unsigned i = 5; i < 9; i++)
		assert_int_equal(rests_ms[i], 10);
	assert_int_equal(rests_ms[9], 20);
}

/* Its share is that of watching alone. */
static void above_the_budget_a_small_share_does_not_matter(void **state)
{
	(void)state;
	atomic_store(&world->server.unhelped_pages, LIMIT_PAGES);
	rests_sharing(1, NULL);
	for (unsigned i = 0; i < RESTS_MAX; i++)
		assert_int_equal(rests_ms[i], 10);
	assert_true(world->server.voluntary_ns == 0 && world->server.forced_ns > 0);
}

static void grow(unsigned nr)
{
	if (nr == 5)
		atomic_fetch_add(&world->server.unhelped_pages, 1);
}

static void what_grows_is_looked_at_as_often_as_before(void **state)
{
	(void)state;
	rests(grow);
	assert_int_equal(rests_ms[4], 80);
	assert_int_equal(rests_ms[5], 10);
	assert_int_equal(rests_ms[6], 20);
}

static void shrink(unsigned nr)
{
	atomic_store(&world->server.unhelped_pages, LIMIT_PAGES - (nr == 5 ? 200 : 100));
}

static void above_the_budget_it_does_not_rest_longer(void **state)
{
	(void)state;
	atomic_store(&world->server.unhelped_pages, LIMIT_PAGES);
	rests(NULL);
	for (unsigned i = 0; i < RESTS_MAX; i++)
		assert_int_equal(rests_ms[i], 10);
}

static void what_shrinks_is_as_good_as_what_grows(void **state)
{
	(void)state;
	rests(shrink);
	assert_int_equal(rests_ms[4], 80);
	assert_int_equal(rests_ms[5], 10);
	assert_int_equal(rests_ms[6], 10);
	assert_int_equal(rests_ms[7], 20);
}

static void await(unsigned nr)
{
	atomic_store(&world->server.nr_waiting, nr == 5);
}

static void who_waits_for_room_does_not_wait_for_it(void **state)
{
	(void)state;
	rests(await);
	assert_int_equal(rests_ms[4], 80);
	assert_int_equal(rests_ms[5], 1);
}

static void sleep_long(unsigned nr)
{
	(void)nr;
	slept_ns += 20 * MS;
}

/* The more there is, the dearer it is to go over it, and nothing is served meanwhile. */
static void it_does_not_go_over_all_pages_all_the_time(void **state)
{
	(void)state;
	world->server.hard = true;
	atomic_store(&world->server.unhelped_pages, LIMIT_PAGES);
	walk_ns = 10000 * MS; /* whatever this machine takes meanwhile */
	rests(sleep_long);
	assert_true(world->server.all_refused);
	assert_int_equal(nr_walks, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_rests_longer_while_nothing_happens, begin, end),
		cmocka_unit_test_setup_teardown(what_grows_is_looked_at_as_often_as_before, begin, end),
		cmocka_unit_test_setup_teardown(what_shrinks_is_as_good_as_what_grows, begin, end),
		cmocka_unit_test_setup_teardown(above_the_budget_it_does_not_rest_longer, begin, end),
		cmocka_unit_test_setup_teardown(with_a_small_share_it_watches_four_times_a_second, begin, end),
		cmocka_unit_test_setup_teardown(what_grows_is_watched_whatever_the_share, begin, end),
		cmocka_unit_test_setup_teardown(above_the_budget_a_small_share_does_not_matter, begin, end),
		cmocka_unit_test_setup_teardown(who_waits_for_room_does_not_wait_for_it, begin, end),
		cmocka_unit_test_setup_teardown(it_does_not_go_over_all_pages_all_the_time, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
