/* SPDX-License-Identifier: MIT */
#include "rwlock.h"

#include <limits.h>

#include "futex.h"

void rwlock_wake(struct rwlock *lock)
{
	futex_signal(&lock->turn);
}

/* Whether it was taken, or that somebody waits to share it is said. */
static bool shared_or_said(struct rwlock *lock, bool *ret_taken)
{
	uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);
	bool free = !(state & (RWLOCK_EXCLUSIVE | RWLOCK_WAITING_MASK));

	*ret_taken = free;
	return atomic_compare_exchange_strong_explicit(&lock->state, &state,
						       free ? state + 1 : state | RWLOCK_SHARERS_WAIT,
						       memory_order_acquire, memory_order_relaxed);
}

void rwlock_shared(struct rwlock *lock, unsigned patience_ms, void (*meanwhile)(void *arg), void *arg)
{
	while (!rwlock_try_shared(lock)) {
		/* Pairs with the change in futex_signal(): the state is then that after it, or later. */
		uint32_t turn = atomic_load_explicit(&lock->turn, memory_order_acquire);
		bool taken;
		if (!shared_or_said(lock, &taken))
			continue; /* somebody else got on */
		if (taken)
			return;
		if (futex_wait(&lock->turn, turn, patience_ms))
			meanwhile(arg);
	}
}

/* For one that waits: the number of those that do falls with it. */
static bool exclusive_waited(struct rwlock *lock)
{
	uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

	while (!(state & (RWLOCK_EXCLUSIVE | RWLOCK_SHARERS)))
		if (atomic_compare_exchange_weak_explicit(&lock->state, &state,
							  (state - RWLOCK_WAITING) | RWLOCK_EXCLUSIVE,
							  memory_order_acquire, memory_order_relaxed))
			return true;
	return false;
}

void rwlock_exclusive(struct rwlock *lock, unsigned patience_ms, void (*meanwhile)(void *arg), void *arg)
{
	if (rwlock_try_exclusive(lock))
		return;
	atomic_fetch_add_explicit(&lock->state, RWLOCK_WAITING, memory_order_relaxed);
	for (;;) {
		uint32_t turn = atomic_load_explicit(&lock->turn, memory_order_acquire);
		if (exclusive_waited(lock))
			return;
		if (futex_wait(&lock->turn, turn, patience_ms))
			meanwhile(arg);
	}
}
