/* SPDX-License-Identifier: MIT */
/* What the CPUs of the machine do. Thread-safe. */
#ifndef TIDE_CPU_H
#define TIDE_CPU_H

#include <sched.h>
#include <stdint.h>

#define CPUS_MAX 8192u /* they are numbered below it, as in the kernel */

/*
 * The time that the CPUs in `cpus` had nothing to do, together, since the machine was started; those that
 * are not online count as none. To 10 ms for each CPU. Below a root folder ("" for the running system).
 * -ENOENT, -EIO: not what /proc/stat looks like.
 */
int cpu_idle(const char *root, const cpu_set_t *cpus, uint64_t *ret_idle_ns);

/* The CPUs that the calling thread may run on. None: there are more in the machine than such a set holds. */
void cpu_ours(cpu_set_t *ret_cpus);

#endif
