/* SPDX-License-Identifier: MIT */
#include "cpu.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "file.h"

/* /proc/stat counts in hundredths of a second, whatever the clock of the kernel is. */
#define TICK_NS 10000000u

int cpu_idle(const char *root, const cpu_set_t *cpus, uint64_t *ret_idle_ns)
{
	FILE *file = file_below(root, "/proc/stat");
	uint64_t idle, waiting, ticks = 0;
	unsigned cpu, nr = 0;
	char line[256];

	if (!file)
		return -errno;
	/* "cpu0 user nice system idle iowait ...", after a line "cpu" of them all. */
	while (fgets(line, sizeof line, file) && !strncmp(line, "cpu", 3)) {
		if (sscanf(line, "cpu%u %*u %*u %*u %" SCNu64 " %" SCNu64, &cpu, &idle, &waiting) != 3)
			continue;
		nr++;
		if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, cpus))
			ticks += idle + waiting;
	}
	fclose(file);
	if (!nr)
		return -EIO;
	*ret_idle_ns = ticks * TICK_NS;
	return 0;
}

void cpu_ours(cpu_set_t *ret_cpus)
{
	CPU_ZERO(ret_cpus);
	sched_getaffinity(0, sizeof *ret_cpus, ret_cpus);
}
