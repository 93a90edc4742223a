/* SPDX-License-Identifier: MIT */
#include "thread.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FLAG_RESET_ON_FORK 1u /* SCHED_FLAG_RESET_ON_FORK */
#define SLICE_NS 100000u /* the least that the kernel takes */

/* Of sched_setattr(2), as it was in the first kernel that had it. */
struct thread_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

int thread_pin(pid_t tid, int cpu)
{
	cpu_set_t cpus;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&cpus);
	CPU_SET((unsigned)cpu, &cpus);
	return thread_spread(tid, &cpus);
}

int thread_spread(pid_t tid, const cpu_set_t *cpus)
{
	return sched_setaffinity(tid, sizeof *cpus, cpus) ? -errno : 0;
}

void thread_hurry(pid_t tid, int priority)
{
	struct thread_attr attr = { .size = sizeof attr, .policy = SCHED_OTHER, .runtime = SLICE_NS };

	setpriority(PRIO_PROCESS, (id_t)tid, priority);
	attr.nice = getpriority(PRIO_PROCESS, (id_t)tid);
	/* An older kernel knows no slice, and ignores it. */
	syscall(SYS_sched_setattr, tid, &attr, 0);
}

void thread_urge(pid_t tid, int priority)
{
	struct thread_attr attr = {
		.size = sizeof attr, .policy = SCHED_RR, .flags = FLAG_RESET_ON_FORK, .priority = 1,
	};

	struct rlimit most;

	/* Who has such a limit is killed for running too long without a sleep, if it is real-time. */
	bool limited = prlimit(tid, RLIMIT_RTTIME, NULL, &most) || most.rlim_cur != RLIM_INFINITY;
	if (limited || syscall(SYS_sched_setattr, tid, &attr, 0))
		thread_hurry(tid, priority);
}

int thread_robust_list(pid_t tid, uint64_t *ret_address)
{
	size_t bytes;
	void *head;

	if (syscall(SYS_get_robust_list, tid, &head, &bytes))
		return -errno;
	*ret_address = (uint64_t)(uintptr_t)head;
	return 0;
}

int thread_enter_idle(void)
{
	struct sched_param param = { 0 };

	return sched_setscheduler(0, SCHED_IDLE, &param) ? -errno : 0;
}

int thread_leave_idle(pid_t tid)
{
	struct sched_param param = { 0 };

	return sched_setscheduler(tid, SCHED_OTHER, &param) ? -errno : 0;
}

bool thread_is_idle(void)
{
	return sched_getscheduler(0) == SCHED_IDLE;
}
