/* SPDX-License-Identifier: MIT */
/*
 * A lock that many share or one has, for threads of different scheduling classes.
 *
 *   state   | one has it | nr that wait to have it | somebody waits to share it | nr that share it |
 *
 * Who waits to have it comes before all who come to share it later: nobody may take it shared who holds it shared.
 * Who must wait sleeps. Nothing here waits for another thread to get on by turning round: the C library's lock does
 * in two places, and a thread of a real-time class then keeps the one that it waits for from its CPU.
 *
 * Nobody sleeps on: who waits says so in `state`, having looked at `turn` before. Whoever gives the lock back changes
 * `state`, so sees that, and changes `turn`: then who waits does not fall asleep, or is woken. All are, and look again.
 * The model is tests/model/rwlock.pml.
 */
#ifndef TIDE_RWLOCK_H
#define TIDE_RWLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All zeros: nobody has it. */
struct rwlock {
	_Atomic uint32_t state;
	_Atomic uint32_t turn; /* futex */
};

#define RWLOCK_EXCLUSIVE (UINT32_C(1) << 31)
#define RWLOCK_WAITING (UINT32_C(1) << 17)
#define RWLOCK_WAITING_MASK (RWLOCK_EXCLUSIVE - RWLOCK_WAITING)
#define RWLOCK_SHARERS_WAIT (UINT32_C(1) << 16)
#define RWLOCK_SHARERS (RWLOCK_SHARERS_WAIT - 1)

/* Take it if it is to be had at once. */
static inline bool rwlock_try_shared(struct rwlock *lock)
{
	uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

	/* Pairs with the release of who gives it back. */
	while (!(state & (RWLOCK_EXCLUSIVE | RWLOCK_WAITING_MASK)))
		if (atomic_compare_exchange_weak_explicit(&lock->state, &state, state + 1, memory_order_acquire,
							  memory_order_relaxed))
			return true;
	return false;
}

static inline bool rwlock_try_exclusive(struct rwlock *lock)
{
	uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

	while (!(state & (RWLOCK_EXCLUSIVE | RWLOCK_SHARERS)))
		if (atomic_compare_exchange_weak_explicit(&lock->state, &state, state | RWLOCK_EXCLUSIVE,
							  memory_order_acquire, memory_order_relaxed))
			return true;
	return false;
}

/* Take it, and call `meanwhile` every patience_ms while that cannot be. */
void rwlock_shared(struct rwlock *lock, unsigned patience_ms, void (*meanwhile)(void *arg), void *arg);
void rwlock_exclusive(struct rwlock *lock, unsigned patience_ms, void (*meanwhile)(void *arg), void *arg);

/* Somebody waits who may go on now. */
void rwlock_wake(struct rwlock *lock);

/* Give it back, however it was taken. */
static inline void rwlock_unlock(struct rwlock *lock)
{
	uint32_t before;

	/* Only who has it can see that somebody does. */
	if (atomic_load_explicit(&lock->state, memory_order_relaxed) & RWLOCK_EXCLUSIVE) {
		before = atomic_fetch_and_explicit(&lock->state, RWLOCK_WAITING_MASK, memory_order_release);
		if (before & (RWLOCK_WAITING_MASK | RWLOCK_SHARERS_WAIT))
			rwlock_wake(lock);
		return;
	}
	before = atomic_fetch_sub_explicit(&lock->state, 1, memory_order_release);
	if (before & RWLOCK_WAITING_MASK && (before & RWLOCK_SHARERS) == 1)
		rwlock_wake(lock);
}

#endif
