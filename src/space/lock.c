/* SPDX-License-Identifier: MIT */
/*
 * Locks that a handler may hold. One of the idle class loses its CPU with a lock in hand as soon as the
 * program's own thread is woken there, and where other work never ends does not get it again for long. So
 * who waits longer than anybody holds a lock in earnest lifts the handlers out of that class.
 */
#include <errno.h>
#include <time.h>

#include "clock.h"
#include "program.h"

#define PATIENCE_NS 2000000

/* The mover would take it again before one who waits, and has just been woken, gets a CPU. */
void plan_lock_take(struct server *s)
{
	pthread_mutex_lock(&s->plan_turn);
	pthread_mutex_lock(&s->plan_lock);
	pthread_mutex_unlock(&s->plan_turn);
}

static struct timespec patience_end(void)
{
	uint64_t end_ns = clock_ns(CLOCK_REALTIME) + PATIENCE_NS;

	return (struct timespec){ .tv_sec = (time_t)(end_ns / 1000000000u), .tv_nsec = (long)(end_ns % 1000000000u) };
}

void program_lock_shared(struct program *p)
{
	if (!pthread_rwlock_tryrdlock(&p->lock))
		return;
	struct timespec end = patience_end();

	while (pthread_rwlock_timedrdlock(&p->lock, &end) == ETIMEDOUT) {
		handlers_lift(p);
		end = patience_end();
	}
}

void program_lock_exclusive(struct program *p)
{
	struct timespec end = patience_end();

	while (pthread_rwlock_timedwrlock(&p->lock, &end) == ETIMEDOUT) {
		handlers_lift(p);
		end = patience_end();
	}
}

void helper_lock_take(struct program *p)
{
	struct timespec end = patience_end();

	while (pthread_mutex_timedlock(&p->helper_lock, &end) == ETIMEDOUT) {
		handlers_lift(p);
		end = patience_end();
	}
}
