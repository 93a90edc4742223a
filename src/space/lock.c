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

static struct timespec wait_end(uint64_t ns)
{
	uint64_t end_ns = clock_ns(CLOCK_REALTIME) + ns;

	return (struct timespec){ .tv_sec = (time_t)(end_ns / 1000000000u), .tv_nsec = (long)(end_ns % 1000000000u) };
}

/* The mover would take it again before one who waits, and has just been woken, gets a CPU. */
void plan_lock_take(struct server *s)
{
	pthread_mutex_lock(&s->plan_turn);
	pthread_mutex_lock(&s->plan_lock);
	pthread_mutex_unlock(&s->plan_turn);
}

void plan_lock_watch(struct server *s, uint64_t wait_ns, void (*meanwhile)(void *arg), void *arg)
{
	struct timespec end = wait_end(wait_ns);

	/* Who has the turn gets it when the present plan has ended, however long it waits here. */
	for (; pthread_mutex_timedlock(&s->plan_turn, &end) == ETIMEDOUT; end = wait_end(wait_ns))
		meanwhile(arg);
	for (; pthread_mutex_timedlock(&s->plan_lock, &end) == ETIMEDOUT; end = wait_end(wait_ns))
		meanwhile(arg);
	pthread_mutex_unlock(&s->plan_turn);
}

static void lock_lift(void *arg)
{
	handlers_lift(arg);
}

void program_lock_shared(struct program *p)
{
	rwlock_shared(&p->lock, PATIENCE_NS / 1000000, lock_lift, p);
}

void program_lock_exclusive(struct program *p)
{
	rwlock_exclusive(&p->lock, PATIENCE_NS / 1000000, lock_lift, p);
}

void helper_lock_take(struct program *p)
{
	struct timespec end = wait_end(PATIENCE_NS);

	while (pthread_mutex_timedlock(&p->helper_lock, &end) == ETIMEDOUT) {
		handlers_lift(p);
		end = wait_end(PATIENCE_NS);
	}
}
