/* SPDX-License-Identifier: MIT */
#include "limit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cgroup.h"
#include "file.h"

/* Version 1 says "no limit" with the largest number of pages it can count. */
#define LIMIT_V1_NONE_BYTES (UINT64_C(1) << 62)

struct hierarchy {
	const char *file;      /* name of the limit's file in each group's folder */
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
	ret_hierarchy->file = unified ? "memory.max" : "memory.limit_in_bytes";
	return 0;
}

/* UINT64_MAX when the file says that there is no limit. */
static int limit_read(const char *root, const char *path, uint64_t *ret_bytes)
{
	FILE *file = file_below(root, "%s", path);
	char text[64];
	unsigned long long bytes;
	char *end;

	if (!file)
		return -errno;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
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

/* From our group up to the mount's top; the top of version 2 has no limit file, which is fine. */
static int hierarchy_limit(const char *root, struct hierarchy *hierarchy, uint64_t *ret_bytes,
			   char ret_file[PATH_MAX])
{
	uint64_t least_bytes = UINT64_MAX;
	bool any = false;

	for (;;) {
		char path[PATH_MAX];
		uint64_t bytes = UINT64_MAX;
		char *slash;

		if ((size_t)snprintf(path, sizeof(path), "%s%s/%s", hierarchy->mount,
				     hierarchy->group, hierarchy->file) < sizeof(path) &&
		    limit_read(root, path, &bytes) == 0) {
			if (!any || bytes < least_bytes) {
				least_bytes = bytes;
				memcpy(ret_file, path, sizeof(path));
			}
			any = true;
		}
		slash = strrchr(hierarchy->group, '/');
		if (!slash)
			break;
		*slash = '\0';
	}
	if (!any)
		return -ENOENT;
	*ret_bytes = least_bytes;
	return 0;
}

int limit_cgroup(const char *root, uint64_t *ret_bytes, char ret_file[PATH_MAX])
{
	struct hierarchy hierarchy;
	int err = -ENOENT;

	/* Where both are mounted, the memory controller is in one of them only. */
	for (int unified = 1; err && unified >= 0; unified--) {
		err = hierarchy_find(root, unified, &hierarchy);
		if (!err)
			err = hierarchy_limit(root, &hierarchy, ret_bytes, ret_file);
	}
	return err ? -ENOENT : 0;
}
