/* SPDX-License-Identifier: MIT */
/*
 * Locks that keeper and mover share with a program's handlers. A handler may be of the idle class, and
 * where other work never ends it can lose its CPU with a lock in hand and not get it again for long. So
 * who waits longer than anybody holds a lock in earnest makes the handlers hurry first. Handlers among
 * themselves need none of this: the one that waits is of the same class, or has been hurried.
 */
#include <errno.h>
#include <time.h>

#include "program.h"

#define PATIENCE_NS 2000000

static struct timespec patience_end(void)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_nsec += PATIENCE_NS;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	return end;
}

void program_lock_shared(struct program *p)
{
	struct timespec end = patience_end();

	while (pthread_rwlock_timedrdlock(&p->lock, &end) == ETIMEDOUT) {
		handlers_hurry(p);
		end = patience_end();
	}
}

void program_lock_exclusive(struct program *p)
{
	struct timespec end = patience_end();

	while (pthread_rwlock_timedwrlock(&p->lock, &end) == ETIMEDOUT) {
		handlers_hurry(p);
		end = patience_end();
	}
}

void helper_lock_take(struct program *p)
{
	struct timespec end = patience_end();

	while (pthread_mutex_timedlock(&p->helper_lock, &end) == ETIMEDOUT) {
		handlers_hurry(p);
		end = patience_end();
	}
}
