/* SPDX-License-Identifier: MIT */
/*
 * What a process maps, from three files of /proc:
 *
 *   maps       always; cheap
 *   smaps      too when status says that something is locked or huge: nothing else tells which range it is
 *   numa_maps  memory policies
 *
 * For the last two the kernel walks all pages. So they are read for at most 1/SAME_SHARE of the time, and
 * 1/CHANGED_SHARE when the mappings changed; what is cheap, at once then. Meanwhile a range is what the one was
 * that was there before, and a new one is left alone until it is known.
 */
#include "process_inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "proc.h"

#define SAME_SHARE 400u
#define SAME_PAUSE_NS UINT64_C(1000000000)
#define CHANGED_SHARE 100u
#define CHEAP_NS UINT64_C(5000000)

const char *process_kind_name(enum process_kind kind)
{
	static const char *const names[PROCESS_KIND_COUNT] = {
		"anon", "heap", "stack", "shared_anon", "file", "hugetlb", "special",
	};

	return names[kind];
}

/* ---- kinds ----------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Shared memory that has a name only for the kernel's sake, or lives in the tmpfs made for it. */
static bool path_is_memory(const char *path)
{
	return begins(path, "/dev/zero") || begins(path, "/memfd:") || begins(path, "/SYSV") ||
	       begins(path, "/dev/shm/") || begins(path, "[anon_shmem:");
}

static bool path_is_device(const char *path)
{
	return (begins(path, "/dev/") && !begins(path, "/dev/hugepages")) || begins(path, "/sys/") ||
	       begins(path, "/proc/") || begins(path, "anon_inode:") || begins(path, "socket:");
}

static enum process_kind kind_of(const struct proc_mapping *mapping)
{
	if (mapping->page_bytes > PROCESS_PAGE)
		return PROCESS_HUGETLB;
	if (mapping->special || mapping->pinned_kind)
		return PROCESS_SPECIAL;
	if (mapping->heap)
		return PROCESS_HEAP;
	if (mapping->stack)
		return PROCESS_STACK;
	if (mapping->anonymous)
		return mapping->shared ? PROCESS_SHARED_ANON : PROCESS_ANON;
	if (path_is_memory(mapping->path))
		return mapping->shared ? PROCESS_SHARED_ANON : PROCESS_ANON;
	if (path_is_device(mapping->path))
		return PROCESS_SPECIAL;
	return mapping->shared || !mapping->write ? PROCESS_FILE : PROCESS_ANON;
}

static enum reason refusal_of(const struct process_range *range)
{
	if (range->kind == PROCESS_SPECIAL)
		return REASON_PINNED;
	if (range->locked)
		return REASON_LOCKED;
	if (range->kind == PROCESS_FILE && range->execute)
		return REASON_SHARED_EXEC;
	if (range->policy == PROCESS_POLICY_SPREAD)
		return REASON_POLICY;
	return REASON_MOVED;
}

/* Segments of System V have the device of all shared memory, but numbers of their own. */
static uint64_t device_of(const struct process_space *space, const struct proc_mapping *mapping)
{
	uint64_t number = 0;

	if (!begins(mapping->path, "/SYSV"))
		return mapping->device;
	proc_ipc_namespace(space->dir, &number);
	return PROCESS_DEVICE_SYSV | number;
}

/*
 * Some file systems (btrfs, overlay) begin with the numbers of files anew in each of their parts, which maps does not
 * tell apart, only stat(2) does. All of these have devices without a major number. What cannot be told is taken for
 * nobody else's: its pages are moved all the same.
 */
static void file_find(const struct process_space *space, struct process_range *range)
{
	if (range->kind == PROCESS_FILE && range->inode && !(range->device >> 32) &&
	    proc_mapping_file(space->dir, range->start, range->end, &range->device, &range->inode))
		range->inode = 0;
}

/* ---- mappings -------------------------------------------------------------------------------- */

struct taking {
	struct process_space *space;
	size_t nr;
	uint64_t layout;
};

static int mapping_take(void *arg, const struct proc_mapping *mapping)
{
	struct taking *taking = arg;
	struct process_space *space = taking->space;

	if (taking->nr == space->room_ranges) {
		size_t room = space->room_ranges ? space->room_ranges * 2 : 64;
		struct process_range *more = realloc(space->ranges, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		space->ranges = more;
		space->room_ranges = room;
	}
	/* The vsyscall page lies in the kernel's half. */
	if (mapping->start >= mapping->end || mapping->end > UINT64_C(1) << 63)
		return 0;
	space->ranges[taking->nr++] = (struct process_range){
		.start = mapping->start,
		.end = mapping->end,
		.kind = kind_of(mapping),
		.shared = mapping->shared,
		.write = mapping->write,
		.execute = mapping->execute,
		.locked = mapping->locked,
		.vcpu = mapping->vcpu,
		.page_bytes = mapping->page_bytes,
		.inode = mapping->inode,
		.offset = mapping->offset,
		.device = device_of(space, mapping),
	};
	file_find(space, &space->ranges[taking->nr - 1]);
	taking->layout = (taking->layout ^ mapping->start) * UINT64_C(0x100000001b3);
	taking->layout = (taking->layout ^ mapping->end) * UINT64_C(0x100000001b3);
	return 0;
}

/* ---- policies -------------------------------------------------------------------------------- */

static void node_add(void *arg, unsigned int first, unsigned int last)
{
	for (unsigned int node = first; node <= last; node++)
		nodeset_add(arg, node);
}

/* "bind:0-1", "prefer=static:1", "prefer (many):0", "weighted interleave:0-1", "default", "local". */
static void policy_parse(char *text, struct process_range *range)
{
	char *nodes = strchr(text, ':');
	struct nodeset set = { 0 };

	if (begins(text, "default") || begins(text, "local"))
		return;
	range->policy = begins(text, "bind") || begins(text, "prefer") ? PROCESS_POLICY_BIND :
									 PROCESS_POLICY_SPREAD;
	if (nodes && !nodeset_list(nodes + 1, NODESET_MAX - 1, node_add, &set))
		range->policy_nodes = set;
}

/* The first range whose end is behind an address; NULL. */
static struct process_range *range_behind(const struct process_space *space, uint64_t address)
{
	size_t low = 0, high = space->nr_ranges;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (space->ranges[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < space->nr_ranges ? &space->ranges[low] : NULL;
}

/* One line of numa_maps: "address policy ... anon=3 ...". The policy ends at the second word, but two
 * of its names have a blank in them. Blanks in names of files are written as octal numbers. */
static void policy_line(struct process_space *space, char *line)
{
	char *policy;
	uint64_t start = strtoull(line, &policy, 16);

	if (policy == line || *policy != ' ')
		return;
	policy++;
	size_t length = begins(policy, "prefer (many)")	     ? strlen("prefer (many)") :
			begins(policy, "weighted interleave") ? strlen("weighted interleave") :
								0;
	length += strcspn(policy + length, " \n");
	struct process_range *range = range_behind(space, start);
	if (!range || range->start > start)
		return;
	range->own_pages = range->inode && !range->shared && strstr(policy, " anon=");
	policy[length] = '\0';
	policy_parse(policy, range);
}

/* What was there before, in part or whole; NULL. *at: where to look, for the ranges in their order. */
static const struct process_range *range_before(const struct process_range *before, size_t nr, size_t *at,
						const struct process_range *range)
{
	while (*at < nr && before[*at].end <= range->start)
		++*at;
	return *at < nr && before[*at].start < range->end ? &before[*at] : NULL;
}

/* Ranges are fresh: no policy in them yet. A kernel without NUMA has no such file, and no policies. */
static int policies_read(struct process_space *space)
{
	FILE *file = proc_file(space->dir, "numa_maps");
	char *line = NULL;
	size_t room = 0;

	if (!file)
		return errno == ENOENT ? 0 : -errno;
	while (getline(&line, &room, file) > 0)
		policy_line(space, line);
	int error = ferror(file) ? -ESRCH : 0;
	free(line);
	fclose(file);
	return error;
}

/* A new range may have any: then it is nothing that we move. */
static void policies_keep(struct process_range *ranges, size_t nr, const struct process_range *before,
			  size_t nr_before)
{
	size_t at = 0;

	for (size_t i = 0; i < nr; i++) {
		const struct process_range *old = range_before(before, nr_before, &at, &ranges[i]);

		ranges[i].policy = old ? old->policy : PROCESS_POLICY_SPREAD;
		if (!old)
			continue;
		ranges[i].policy_nodes = old->policy_nodes;
		ranges[i].own_pages = old->own_pages;
	}
}

/* ---- what is locked or huge ------------------------------------------------------------------- */

/* `more`: is locked than was, so a part of a range may be one because it was locked. */
static void flags_keep(struct process_range *ranges, size_t nr, const struct process_range *before,
		       size_t nr_before, bool more)
{
	size_t at = 0;

	for (size_t i = 0; i < nr; i++) {
		const struct process_range *old = range_before(before, nr_before, &at, &ranges[i]);
		bool part = old && (ranges[i].start != old->start || ranges[i].end < old->end);

		ranges[i].locked = !old || (part && more) || old->locked;
		if (!old)
			continue;
		ranges[i].page_bytes = old->page_bytes;
		if (old->kind == PROCESS_HUGETLB || old->kind == PROCESS_SPECIAL)
			ranges[i].kind = old->kind;
	}
}

static int ranges_take(struct process_space *space, bool flags, uint64_t *ret_layout)
{
	struct taking taking = { .space = space, .layout = UINT64_C(0xcbf29ce484222325) };
	int error = proc_mappings(space->dir, flags, mapping_take, &taking);

	space->nr_ranges = taking.nr;
	*ret_layout = taking.layout;
	return error;
}

/* ---- all together ---------------------------------------------------------------------------- */

static bool reading_due(const struct reading *reading, uint64_t layout)
{
	uint64_t now_ns = clock_now_ns();

	if (layout != reading->layout)
		return reading->spend.cost_ns <= CHEAP_NS || spend_due(&reading->spend, CHANGED_SHARE, now_ns);
	return now_ns - reading->spend.at_ns >= SAME_PAUSE_NS && spend_due(&reading->spend, SAME_SHARE, now_ns);
}

static void reading_done(struct reading *reading, uint64_t layout, uint64_t begin_cpu_ns)
{
	reading->spend = (struct spend){ clock_now_ns(), clock_thread_cpu_ns() - begin_cpu_ns };
	reading->layout = layout;
}

static int policies_update(struct process_space *space, uint64_t layout, const struct process_range *before,
			   size_t nr_before)
{
	uint64_t begin_cpu_ns = clock_thread_cpu_ns();

	if (!reading_due(&space->policies, layout)) {
		policies_keep(space->ranges, space->nr_ranges, before, nr_before);
		return 0;
	}
	int error = policies_read(space);
	if (!error)
		reading_done(&space->policies, layout, begin_cpu_ns);
	return error;
}

/* The amounts stand for what is locked or huge: when they change, so may where. */
static int flags_update(struct process_space *space, uint64_t locked_kib, uint64_t huge_kib, uint64_t *layout,
			const struct process_range *before, size_t nr_before)
{
	uint64_t begin_cpu_ns = clock_thread_cpu_ns();
	uint64_t sum = *layout ^ (locked_kib + (huge_kib << 32)) * UINT64_C(0x9e3779b97f4a7c15);

	if (!locked_kib && !huge_kib)
		return 0;
	if (!reading_due(&space->flags, sum)) {
		flags_keep(space->ranges, space->nr_ranges, before, nr_before, locked_kib > space->locked_kib);
		return 0;
	}
	int error = ranges_take(space, true, layout);
	if (!error)
		reading_done(&space->flags, sum, begin_cpu_ns);
	space->locked_kib = error ? space->locked_kib : locked_kib;
	return error;
}

static int ranges_read(struct process_space *space)
{
	struct process_range *before = space->ranges;
	size_t nr_before = space->nr_ranges, room_before = space->room_ranges;
	uint64_t locked_kib = 0, huge_kib = 0, layout = 0;
	int error = proc_status_kib(space->dir, "VmLck", &locked_kib);

	if (!error)
		error = proc_status_kib(space->dir, "HugetlbPages", &huge_kib);
	space->ranges = NULL;
	space->nr_ranges = space->room_ranges = 0;
	if (!error)
		error = ranges_take(space, false, &layout);
	if (!error)
		error = flags_update(space, locked_kib, huge_kib, &layout, before, nr_before);
	if (!error)
		error = policies_update(space, layout, before, nr_before);
	if (error) {
		free(space->ranges);
		space->ranges = before;
		space->nr_ranges = nr_before;
		space->room_ranges = room_before;
		return error;
	}
	free(before);
	for (size_t i = 0; i < space->nr_ranges; i++)
		space->ranges[i].refusal = refusal_of(&space->ranges[i]);
	return 0;
}

int process_ranges(struct process_space *space, const struct process_range **ret_ranges,
		   size_t *ret_nr)
{
	int error = process_look(space);

	if (!error)
		error = ranges_read(space);
	/* What was read may be the next program's. */
	if (!error)
		error = process_look(space);
	if (error)
		return error;
	*ret_ranges = space->ranges;
	*ret_nr = space->nr_ranges;
	return 0;
}

const struct process_range *process_range_find(const struct process_space *space, uint64_t address)
{
	const struct process_range *range = range_behind(space, address);

	return range && range->start <= address ? range : NULL;
}
