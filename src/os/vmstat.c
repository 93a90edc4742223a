/* SPDX-License-Identifier: MIT */
#include "vmstat.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "file.h"
#include "proc.h"

#define DAMON "/sys/kernel/mm/damon/admin/kdamonds/"

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
		else if (!strcmp(name, "numa_pages_migrated"))
			found.numa_pages_migrated = value;
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

/* How many of something a folder of DAMON's has: 0, too, when there is no such folder. */
__attribute__((format(printf, 2, 3)))
static unsigned damon_number(const char *root, const char *format, ...)
{
	char name[128], text[32];
	va_list args;
	unsigned nr = 0;

	va_start(args, format);
	vsnprintf(name, sizeof name, format, args);
	va_end(args);
	if (file_read(root, text, sizeof text, DAMON "%s", name) || sscanf(text, "%u", &nr) != 1)
		return 0;
	return nr;
}

static bool context_migrates(const char *root, unsigned kdamond, unsigned context)
{
	unsigned nr = damon_number(root, "%u/contexts/%u/schemes/nr_schemes", kdamond, context);
	char text[32];

	for (unsigned i = 0; i < nr; i++)
		if (!file_read(root, text, sizeof text, DAMON "%u/contexts/%u/schemes/%u/action", kdamond, context,
			       i) && !strncmp(text, "migrate_", strlen("migrate_")))
			return true;
	return false;
}

bool vmstat_damon_migrates(const char *root)
{
	unsigned nr = damon_number(root, "nr_kdamonds");
	char text[32];

	for (unsigned i = 0; i < nr; i++) {
		unsigned contexts = damon_number(root, "%u/contexts/nr_contexts", i);
		if (file_read(root, text, sizeof text, DAMON "%u/state", i) || strncmp(text, "on", 2))
			continue;
		for (unsigned k = 0; k < contexts; k++)
			if (context_migrates(root, i, k))
				return true;
	}
	return false;
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

/* One of several words, in brackets. */
static bool word_chosen(const char *root, const char *word, const char *below)
{
	char text[128];

	return !file_read(root, text, sizeof text, "/sys/kernel/mm/transparent_hugepage/%senabled", below) &&
	       strstr(text, word);
}

bool vmstat_large_on(const char *root)
{
	bool inherit = !word_chosen(root, "[never]", "");

	for (unsigned int kib = 8; kib < 2048; kib *= 2) {
		char below[32];

		snprintf(below, sizeof below, "hugepages-%ukB/", kib);
		if (word_chosen(root, "[always]", below) || word_chosen(root, "[madvise]", below) ||
		    (inherit && word_chosen(root, "[inherit]", below)))
			return true;
	}
	return false;
}

bool vmstat_demotion_on(const char *root)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/sys/kernel/mm/numa/demotion_enabled", root);
	return word_is(path, "true") || word_is(path, "1");
}
