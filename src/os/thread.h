/* SPDX-License-Identifier: MIT */
/* How the system schedules single threads. All return 0 or -errno unless they say otherwise. */
#ifndef TIDE_THREAD_H
#define TIDE_THREAD_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A thread, 0 the calling one, runs on one CPU only. -EINVAL: not online, or not ours; -ESRCH; -EPERM. */
int thread_pin(pid_t tid, int cpu);
/* On any of these: of a process its first thread. */
int thread_spread(pid_t tid, const cpu_set_t *cpus);

/*
 * A thread (0: the calling one) is to run soon after it is woken, and never runs long: a high priority, as of nice,
 * where that is permitted, and a short slice where the kernel (6.12) has such a thing. Only in the normal class.
 * Threads and processes that it starts are the same.
 */
void thread_hurry(pid_t tid, int priority);

/*
 * A thread (0: the calling one) is to run at once when it is woken, before all that is not real-time: of the lowest
 * priority of SCHED_RR, where that is permitted (CAP_SYS_NICE, or its RLIMIT_RTPRIO), the control group has time for it
 * and it has no RLIMIT_RTTIME; else as thread_hurry() does. What it starts is of the normal class again in either case,
 * without a priority in the first. For threads that sleep most of the time.
 */
void thread_urge(pid_t tid, int priority);

/* The head of a thread's list of robust mutexes, which the kernel gives over when it ends: 0 without one. -ESRCH;
 * -EPERM. */
int thread_robust_list(pid_t tid, uint64_t *ret_address);

/* The calling thread is of the idle class from now on; everybody may. It runs while nobody else wants to,
 * and its CPU counts as idle meanwhile. */
int thread_enter_idle(void);
/* A thread of this process leaves the idle class. -EPERM: that needs CAP_SYS_NICE or a bound of nice that
 * allows for 0; -ESRCH. */
int thread_leave_idle(pid_t tid);
/* Whether the calling thread is of the idle class. */
bool thread_is_idle(void);

#endif
