/* SPDX-License-Identifier: MIT */
/* Sleep until a word changes. Private to this process. */
#ifndef TIDE_FUTEX_H
#define TIDE_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* For loops that wait for another CPU. */
static inline void cpu_pause(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

/* Returns when the word is no longer `seen`, after at most timeout_ms, or for no reason; whether it was the time. */
static inline bool futex_wait(_Atomic uint32_t *word, uint32_t seen, unsigned timeout_ms)
{
	struct timespec t = { timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000 };

	return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &t, NULL, 0) && errno == ETIMEDOUT;
}
/* Change the word and wake all that sleep on it. */
static inline void futex_signal(_Atomic uint32_t *word)
{
	atomic_fetch_add(word, 1);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

#endif
