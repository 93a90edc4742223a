/* SPDX-License-Identifier: MIT */
#include "limit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cgroup.h"
#include "file.h"

/* Version 1 says "no limit" with the largest number of pages it can count. */
#define LIMIT_V1_NONE_BYTES (UINT64_C(1) << 62)

struct hierarchy {
	bool unified;          /* version 2 */
	char mount[PATH_MAX];  /* below the root */
	char group[PATH_MAX];  /* below the mount, "" for its top */
};

int limit_machine(const char *root, uint64_t *ret_total_bytes, uint64_t *ret_available_bytes)
{
	FILE *file = file_below(root, "/proc/meminfo");
	unsigned long long total_kib = 0, available_kib = 0;
	char line[256];

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "MemTotal: %llu kB", &total_kib);
		sscanf(line, "MemAvailable: %llu kB", &available_kib);
	}
	fclose(file);
	if (total_kib == 0 || total_kib > UINT64_MAX / 1024 || available_kib > total_kib)
		return -EIO;
	*ret_total_bytes = total_kib * 1024;
	*ret_available_bytes = available_kib * 1024;
	return 0;
}

int limit_address_space(pid_t pid, uint64_t *ret_bytes)
{
	struct rlimit space;

	if (prlimit(pid, RLIMIT_AS, NULL, &space))
		return -errno;
	*ret_bytes = space.rlim_cur == RLIM_INFINITY ? UINT64_MAX : space.rlim_cur;
	return 0;
}

/* In a container our name may lie outside of what is mounted; then the mount point itself is the group. */
static int hierarchy_find(const char *root, bool unified, struct hierarchy *ret_hierarchy)
{
	enum cgroup_hierarchy which = unified ? CGROUP_UNIFIED : CGROUP_MEMORY;
	struct cgroup_names names;
	char top[PATH_MAX];
	int err = cgroup_names_read(root, 0, &names);

	if (!err)
		err = names.name[which][0] ? cgroup_mount_read(root, which, ret_hierarchy->mount, top)
					   : -ENOENT;
	if (err)
		return err;
	const char *below = cgroup_below(names.name[which], top);
	strcpy(ret_hierarchy->group, below ? below : "");
	ret_hierarchy->unified = unified;
	return 0;
}

/* A file with one number; UINT64_MAX when it says that there is no limit. */
static int number_read(const char *root, const char *folder, const char *name, uint64_t *ret_bytes)
{
	char text[64], *end;
	unsigned long long bytes;
	int error = file_read(root, text, sizeof(text), "%s/%s", folder, name);

	if (error)
		return error;
	if (strcmp(text, "max\n") == 0) {
		*ret_bytes = UINT64_MAX;
		return 0;
	}
	errno = 0;
	bytes = strtoull(text, &end, 10);
	if (errno || end == text)
		return -EIO;
	*ret_bytes = bytes >= LIMIT_V1_NONE_BYTES ? UINT64_MAX : bytes;
	return 0;
}

/* The limit in one folder, and the name of its file. */
static int folder_limit(const char *root, const char *folder, bool unified, uint64_t *ret_bytes,
			const char **ret_name)
{
	uint64_t high_bytes;

	*ret_name = unified ? "memory.max" : "memory.limit_in_bytes";
	int error = number_read(root, folder, *ret_name, ret_bytes);
	/* Above this its programs are slowed down as if it were full. */
	if (!error && unified && !number_read(root, folder, "memory.high", &high_bytes) &&
	    high_bytes < *ret_bytes) {
		*ret_bytes = high_bytes;
		*ret_name = "memory.high";
	}
	return error;
}

/* From our group up to the mount's top; the top of version 2 has no limit file, which is fine. */
static int hierarchy_walk(const char *root, struct hierarchy *hierarchy,
			  void (*visit)(void *arg, const struct limit_group *group), void *arg)
{
	bool any = false;

	for (;;) {
		char folder[PATH_MAX], file[PATH_MAX];
		struct limit_group group = { .file = file, .folder = folder, .unified = hierarchy->unified };
		const char *name;
		int length = snprintf(folder, sizeof(folder), "%s%s", hierarchy->mount, hierarchy->group);

		if (length < PATH_MAX &&
		    !folder_limit(root, folder, group.unified, &group.limit_bytes, &name) &&
		    snprintf(file, sizeof(file), "%s/%s", folder, name) < PATH_MAX) {
			visit(arg, &group);
			any = true;
		}
		char *slash = strrchr(hierarchy->group, '/');
		if (!slash)
			return any ? 0 : -ENOENT;
		*slash = '\0';
	}
}

int limit_groups(const char *root, void (*visit)(void *arg, const struct limit_group *group), void *arg)
{
	struct hierarchy hierarchy;
	int error = -ENOENT;

	/* Where both are mounted, the memory controller is in one of them only. */
	for (int unified = 1; error && unified >= 0; unified--) {
		error = hierarchy_find(root, unified, &hierarchy);
		if (!error)
			error = hierarchy_walk(root, &hierarchy, visit, arg);
	}
	return error ? -ENOENT : 0;
}

/* Version 1 counts the groups below only where the name says so. */
static uint64_t stat_reclaimable(FILE *file, bool unified)
{
	static const char *const names[][3] = {
		{ "total_active_file", "total_inactive_file" },
		{ "active_file", "inactive_file", "slab_reclaimable" },
	};
	char line[128], name[64];
	uint64_t bytes, sum = 0;

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %" SCNu64, name, &bytes) != 2)
			continue;
		for (size_t i = 0; i < 3 && names[unified][i]; i++)
			sum += strcmp(name, names[unified][i]) ? 0 : bytes;
	}
	return sum;
}

int limit_group_used(const char *root, const struct limit_group *group, uint64_t *ret_bytes)
{
	uint64_t charged;
	int error = number_read(root, group->folder,
				group->unified ? "memory.current" : "memory.usage_in_bytes", &charged);

	if (error)
		return error;
	FILE *file = file_below(root, "%s/memory.stat", group->folder);
	if (!file)
		return -errno;
	uint64_t reclaimable = stat_reclaimable(file, group->unified);
	fclose(file);
	*ret_bytes = charged > reclaimable ? charged - reclaimable : 0;
	return 0;
}

struct least {
	bool any;
	uint64_t bytes;
	char *file;
};

static void least_take(void *arg, const struct limit_group *group)
{
	struct least *least = arg;

	if (least->any && group->limit_bytes >= least->bytes)
		return;
	least->any = true;
	least->bytes = group->limit_bytes;
	strcpy(least->file, group->file);
}

int limit_cgroup(const char *root, uint64_t *ret_bytes, char ret_file[PATH_MAX])
{
	struct least least = { .file = ret_file };
	int error = limit_groups(root, least_take, &least);

	if (!error)
		*ret_bytes = least.bytes;
	return error;
}
