/* SPDX-License-Identifier: MIT */
/*
 * What a guest does, once in each interval, until it is ended: vm_sample [INTERVAL_MS].
 *
 * One JSON object a line: the clock that vm_hot reports by, the counters of moved pages and hint
 * faults, and the CPU time used so far by programs and by kernel threads, by name (kswapd0 and
 * kswapd1 are one). CPU time is the scheduler's own, in ns, of threads that still live: the tick
 * would miss those that sleep most of the time. What the kernel does in a program's name is the
 * program's.
 */
#include "vm.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_NAMES = 128, NAME_BYTES = 32 };
#define PF_KTHREAD 0x00200000u

struct sum {
	char name[NAME_BYTES];
	bool kernel;
	uint64_t ns;
};

static struct sum sums[MAX_NAMES];
static size_t nr_sums;

static void add(const char *name, bool kernel, uint64_t ns)
{
	size_t i = 0;

	while (i < nr_sums && (sums[i].kernel != kernel || strcmp(sums[i].name, name) != 0))
		i++;
	if (i == MAX_NAMES)
		return;
	if (i == nr_sums) {
		snprintf(sums[i].name, NAME_BYTES, "%s", name);
		sums[i].kernel = kernel;
		sums[i].ns = 0;
		nr_sums++;
	}
	sums[i].ns += ns;
}

/* kworker/0:1-events is kworker, kswapd1 is kswapd. What would not do in JSON is left out. */
static void shorten(char *name, bool kernel)
{
	size_t length = 0;

	for (const char *from = name; *from && !(kernel && (*from == '/' || isdigit(*from))); from++)
		if (isalnum((unsigned char)*from) || strchr("_-.:+ ", *from))
			name[length++] = *from;
	name[length] = '\0';
}

static uint64_t threads_ns(const char *pid)
{
	char path[320];
	uint64_t total = 0, ns;
	struct dirent *entry;
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%s/task", pid);
	threads = opendir(path);
	while (threads && (entry = readdir(threads))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/task/%s/schedstat", pid, entry->d_name);
		file = isdigit((unsigned char)entry->d_name[0]) ? fopen(path, "re") : NULL;
		if (!file)
			continue;
		if (fscanf(file, "%" SCNu64, &ns) == 1)
			total += ns;
		fclose(file);
	}
	if (threads)
		closedir(threads);
	return total;
}

static void add_process(const char *pid)
{
	char path[320], line[512];
	char *open, *close;
	unsigned int flags;
	size_t length;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return;
	length = fread(line, 1, sizeof(line) - 1, file);
	fclose(file);
	line[length] = '\0';
	open = strchr(line, '(');
	close = strrchr(line, ')');
	/* After the name: state, parent, group, session, terminal, its group, flags. */
	if (!open || !close || sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
		return;
	*close = '\0';
	shorten(open + 1, flags & PF_KTHREAD);
	add(open + 1, flags & PF_KTHREAD, threads_ns(pid));
}

static void add_processes(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	CHECK(proc);
	nr_sums = 0;
	while ((entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]))
			add_process(entry->d_name);
	closedir(proc);
}

static void print_sums(const char *key, bool kernel)
{
	const char *separator = "";

	printf(", \"%s\": {", key);
	for (size_t i = 0; i < nr_sums; i++) {
		if (sums[i].kernel != kernel || sums[i].ns == 0)
			continue;
		printf("%s\"%s\": %" PRIu64, separator, sums[i].name, sums[i].ns);
		separator = ", ";
	}
	printf("}");
}

static void print_counters(void)
{
	static const char *const names[] = { "pgmigrate_success", "pgmigrate_fail",
					     "pgpromote_success", "pgdemote_kswapd",
					     "pgdemote_direct", "pgdemote_khugepaged",
					     "compact_migrate_scanned", "numa_hint_faults",
					     "numa_pte_updates" };

	printf(", \"vmstat\": {");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		printf("%s\"%s\": %" PRIu64, i ? ", " : "", names[i], vm_counter(names[i]));
	printf("}");
}

int main(int argc, char **argv)
{
	unsigned long interval_ms = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
	uint64_t next = vm_now_ns();

	CHECK(interval_ms > 0);
	for (;;) {
		struct timespec at;

		add_processes();
		printf("{\"now_ns\": %" PRIu64, vm_now_ns());
		print_counters();
		print_sums("cpu_ns", false);
		print_sums("kernel_cpu_ns", true);
		printf("}\n");
		fflush(stdout);
		next += interval_ms * UINT64_C(1000000);
		at = (struct timespec){ .tv_sec = (time_t)(next / 1000000000),
					.tv_nsec = (long)(next % 1000000000) };
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	}
}
