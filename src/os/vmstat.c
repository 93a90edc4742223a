/* SPDX-License-Identifier: MIT */
#include "vmstat.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "file.h"
#include "proc.h"

int vmstat_read(const char *root, struct vmstat *ret_vmstat)
{
	struct vmstat found = { 0 };
	char path[PATH_MAX], name[64];
	uint64_t value;

	snprintf(path, sizeof path, "%s/proc/vmstat", root);
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fscanf(file, "%63s %" SCNu64, name, &value) == 2) {
		if (!strcmp(name, "pgmigrate_success"))
			found.pgmigrate_success = value;
		else if (!strcmp(name, "pgmigrate_fail"))
			found.pgmigrate_fail = value;
		else if (!strcmp(name, "pgpromote_success"))
			found.pgpromote_success = value;
		else if (!strncmp(name, "pgdemote_", 9))
			found.pgdemote += value;
		else if (!strcmp(name, "numa_hint_faults"))
			found.numa_hint_faults = value;
		else if (!strcmp(name, "compact_isolated"))
			found.compact_isolated = value;
	}
	int error = ferror(file) ? -EIO : 0;
	fclose(file);
	if (!error)
		*ret_vmstat = found;
	return error;
}

static bool word_is(const char *path, const char *word)
{
	char text[32] = "";
	FILE *file = fopen(path, "re");

	if (!file)
		return false;
	bool same = fscanf(file, "%31s", text) == 1 && !strcmp(text, word);
	fclose(file);
	return same;
}

bool vmstat_damon_on(const char *root)
{
	char path[PATH_MAX];
	struct dirent *entry;
	bool on = false;

	snprintf(path, sizeof path, "%s/sys/kernel/mm/damon/admin/kdamonds", root);
	DIR *dir = opendir(path);
	while (dir && !on && (entry = readdir(dir))) {
		snprintf(path, sizeof path, "%s/sys/kernel/mm/damon/admin/kdamonds/%.20s/state", root,
			 entry->d_name);
		on = word_is(path, "on");
	}
	if (dir)
		closedir(dir);
	return on;
}

static int kdamond_find(void *arg, pid_t pid, pid_t parent)
{
	enum { KTHREADD = 2 };
	char name[32];

	return parent == KTHREADD && !file_read(arg, name, sizeof name, "/proc/%d/comm", (int)pid) &&
	       !strncmp(name, "kdamond", strlen("kdamond"));
}

bool vmstat_damon_thread(const char *root)
{
	return proc_parents(root, kdamond_find, (void *)(uintptr_t)root) == 1;
}

bool vmstat_demotion_on(const char *root)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/sys/kernel/mm/numa/demotion_enabled", root);
	return word_is(path, "true") || word_is(path, "1");
}
