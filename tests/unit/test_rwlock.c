/* SPDX-License-Identifier: MIT */
/* The lock that many share or one has. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rng.h"
#include "rwlock.h"

#define THREADS 12u
#define TURNS 4000u

static struct rwlock lock;
static uint64_t first, second; /* alike, but while somebody has it */
static _Atomic unsigned nr_inside;

static void nothing(void *arg)
{
	(void)arg;
}

static void leave(void)
{
	atomic_fetch_sub(&nr_inside, 1);
	rwlock_unlock(&lock);
}

static void alone(uint64_t *random)
{
	assert_int_equal(atomic_fetch_add(&nr_inside, 1), 0);
	first++;
	if (!rng_below(random, 16))
		sched_yield();
	second++;
	assert_int_equal(first, second);
	leave();
}

static void together(uint64_t *random)
{
	atomic_fetch_add(&nr_inside, 1);
	uint64_t seen = first;
	if (!rng_below(random, 16))
		sched_yield();
	assert_int_equal(seen, second);
	leave();
}

/* One in four, and some of the others do not wait. */
static void *thread_run(void *arg)
{
	uint64_t random = (uintptr_t)arg, nr = 0;

	for (unsigned i = 0; i < TURNS; i++) {
		switch (rng_below(&random, 8)) {
		case 0:
			if (!rwlock_try_exclusive(&lock))
				continue;
			alone(&random);
			nr++;
			break;
		case 1:
			rwlock_exclusive(&lock, 1, nothing, NULL);
			alone(&random);
			nr++;
			break;
		case 2:
			if (rwlock_try_shared(&lock))
				together(&random);
			break;
		default:
			rwlock_shared(&lock, 1, nothing, NULL);
			together(&random);
			break;
		}
	}
	return (void *)(uintptr_t)nr;
}

static void one_or_many(void **state)
{
	pthread_t threads[THREADS];
	uint64_t sum = 0;

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, thread_run, (void *)(i + 1)), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		void *nr;
		assert_int_equal(pthread_join(threads[i], &nr), 0);
		sum += (uintptr_t)nr;
	}
	assert_int_equal(first, sum);
	assert_int_equal(atomic_load(&lock.state), 0);
}

static void what_is_to_be_had(void **state)
{
	struct rwlock l = { 0 };

	(void)state;
	assert_true(rwlock_try_shared(&l));
	assert_true(rwlock_try_shared(&l));
	assert_false(rwlock_try_exclusive(&l));
	rwlock_unlock(&l);
	assert_false(rwlock_try_exclusive(&l));
	rwlock_unlock(&l);
	assert_true(rwlock_try_exclusive(&l));
	assert_false(rwlock_try_exclusive(&l));
	assert_false(rwlock_try_shared(&l));
	rwlock_unlock(&l);
	assert_int_equal(atomic_load(&l.state), 0);
}

static void *waits_to_have_it(void *arg)
{
	rwlock_exclusive(arg, 1, nothing, NULL);
	rwlock_unlock(arg);
	return NULL;
}

/* Who waits to have it comes before who comes to share it. */
static void who_waits_to_have_it_is_next(void **state)
{
	struct rwlock l = { 0 };
	pthread_t thread;

	(void)state;
	assert_true(rwlock_try_shared(&l));
	assert_int_equal(pthread_create(&thread, NULL, waits_to_have_it, &l), 0);
	while (rwlock_try_shared(&l)) {
		rwlock_unlock(&l);
		sched_yield();
	}
	rwlock_unlock(&l);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(atomic_load(&l.state), 0);
	assert_true(rwlock_try_shared(&l));
	rwlock_unlock(&l);
}

/* Who holds it gives it back when the patience of who waits is at an end. */
static void give_back(void *arg)
{
	struct rwlock **held = arg;

	if (*held)
		rwlock_unlock(*held);
	*held = NULL;
}

static void patience_ends(void **state)
{
	struct rwlock l = { 0 }, *held = &l;

	(void)state;
	assert_true(rwlock_try_exclusive(&l));
	rwlock_shared(&l, 1, give_back, &held);
	assert_null(held);
	held = &l;
	rwlock_exclusive(&l, 1, give_back, &held);
	assert_null(held);
	rwlock_unlock(&l);
	assert_int_equal(atomic_load(&l.state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_to_be_had),
		cmocka_unit_test(one_or_many),
		cmocka_unit_test(who_waits_to_have_it_is_next),
		cmocka_unit_test(patience_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
