/* SPDX-License-Identifier: MIT */
#include "others.h"

#include <stddef.h>
#include <stdint.h>

#include "setting.h"
#include "vmstat.h"

unsigned int others_look(const char *root, bool ours)
{
	unsigned int found = 0;
	uint64_t mode;

	if (!ours && !setting_read(root, "/proc/sys/kernel/numa_balancing", &mode))
		found |= (mode & 1 ? OTHERS_BALANCING : 0) | (mode & 2 ? OTHERS_TIERING : 0);
	if (vmstat_demotion_on(root))
		found |= OTHERS_DEMOTION;
	if (vmstat_damon_migrates(root))
		found |= OTHERS_DAMON;
	if (vmstat_large_on(root))
		found |= OTHERS_LARGE;
	return found;
}

const char *others_warning(enum others one)
{
	switch (one) {
	case OTHERS_BALANCING:
		return "the kernel's NUMA balancing moves pages, too: sysctl kernel.numa_balancing=0 stops it";
	case OTHERS_TIERING:
		return "the kernel's own tiering promotes pages, too: sysctl kernel.numa_balancing=0 stops it, and "
		       "--sensor hint takes it over";
	case OTHERS_DEMOTION:
		return "the kernel demotes pages by itself when it is short of memory "
		       "(/sys/kernel/mm/numa/demotion_enabled)";
	case OTHERS_DAMON:
		return "DAMON migrates pages, too: stop it, or us";
	case OTHERS_PAGETIDE:
		return "another pagetide is at work, with the sensor hint: let it look after these processes, too, or "
		       "stop it";
	case OTHERS_LARGE:
		return "huge pages of less than 2 MiB are on (/sys/kernel/mm/transparent_hugepage/hugepages-*kB): the "
		       "kernel moves each whole for one hot page of it, and counts more pages than pagetide asked for";
	case OTHERS_END:
		break;
	}
	return NULL;
}
