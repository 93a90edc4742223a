/* SPDX-License-Identifier: MIT */
#ifndef TIDE_CLOCK_H
#define TIDE_CLOCK_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* 0: there is no such clock, of somebody who has ended. */
static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	return clock_gettime(clock, &t) ? 0 : (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t clock_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
static inline uint64_t clock_thread_cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
/* All of it, whatever signals come. */
static inline void clock_sleep_ns(uint64_t ns)
{
	struct timespec left = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}
/*
 * Of all threads of a process, those that ended included; 0 when it has ended, or may not be told. One that is the
 * same as it was has not run: so it mapped, touched and started nothing.
 */
static inline uint64_t clock_process_cpu_ns(pid_t pid)
{
	clockid_t clock;

	return clock_getcpuclockid(pid, &clock) ? 0 : clock_ns(clock);
}
/* Of another thread that has not been joined; 0 when it has ended. */
static inline uint64_t clock_other_cpu_ns(pthread_t thread)
{
	clockid_t clock;

	return pthread_getcpuclockid(thread, &clock) ? 0 : clock_ns(clock);
}

#endif
