/* SPDX-License-Identifier: MIT */
/*
 * Finding our control group takes two files. /proc/self/cgroup names the group ("4:memory:/a/b"),
 * /proc/self/mountinfo says where that hierarchy is mounted and which group is the mount's top:
 *
 *     36 32 0:29 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
 *                ^  ^                          ^             ^
 *               top mount point              v1 or v2     v1: controllers
 *
 * so the group's folder is the mount point plus what of "/a/b" lies below "/a". In a container the
 * name may lie outside of what is mounted; then the mount point itself is the group.
 */
#include "limit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

/* Version 1 says "no limit" with the largest number of pages it can count. */
#define LIMIT_V1_NONE_BYTES (UINT64_C(1) << 62)

struct hierarchy {
	bool unified;          /* version 2 */
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

/* Whether `word` is one of the words of a comma-separated list. */
static bool list_has(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += len)
		if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

/* The path of our group, from the "ID:CONTROLLERS:PATH" line of its hierarchy. */
static int group_name(const char *root, bool unified, char ret_name[PATH_MAX])
{
	FILE *file = file_below(root, "/proc/self/cgroup");
	char *line = NULL;
	size_t room = 0;
	int err = -ENOENT;

	if (!file)
		return -errno;
	while (err && getline(&line, &room, file) > 0) {
		char *controllers = strchr(line, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		controllers++;
		path[strcspn(path, "\n")] = '\0';
		if (unified ? *controllers != '\0' : !list_has(controllers, "memory"))
			continue;
		if (strlen(path) >= PATH_MAX)
			continue;
		memcpy(ret_name, path, strlen(path) + 1);
		err = 0;
	}
	free(line);
	fclose(file);
	return err;
}

/* mountinfo writes blanks, tabs, line ends and backslashes as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
		    from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* One line of mountinfo: is it the hierarchy we look for? `top` and `mount` point into the line. */
static bool mount_matches(char *line, bool unified, char **ret_top, char **ret_mount)
{
	char *rest = strstr(line, " - ");
	char *save = NULL;
	char *word = strtok_r(line, " ", &save);
	char *kind, *options;

	if (!rest)
		return false;
	for (int field = 0; word && field < 5; field++, word = strtok_r(NULL, " ", &save)) {
		if (field == 3)
			*ret_top = word;
		if (field == 4)
			*ret_mount = word;
	}
	if (!word)
		return false;
	kind = strtok_r(rest + 3, " ", &save);
	if (!kind || !strtok_r(NULL, " ", &save))
		return false;
	options = strtok_r(NULL, " \n", &save);
	if (strcmp(kind, unified ? "cgroup2" : "cgroup") != 0)
		return false;
	if (!unified && (!options || !list_has(options, "memory")))
		return false;
	unescape(*ret_top);
	unescape(*ret_mount);
	return true;
}

/* What of `name` lies below `top`; "" when it lies elsewhere. */
static const char *below(const char *name, const char *top)
{
	size_t len = strcmp(top, "/") == 0 ? 0 : strlen(top);

	if (strncmp(name, top, len) != 0 || (name[len] != '/' && name[len] != '\0'))
		return "";
	return strcmp(name + len, "/") == 0 ? "" : name + len;
}

static int hierarchy_find(const char *root, bool unified, struct hierarchy *ret_hierarchy)
{
	FILE *file;
	char *line = NULL;
	char name[PATH_MAX];
	size_t room = 0;
	int err = group_name(root, unified, name);

	if (err)
		return err;
	file = file_below(root, "/proc/self/mountinfo");
	if (!file)
		return -errno;
	err = -ENOENT;
	while (err && getline(&line, &room, file) > 0) {
		char *top = line, *mount = line;

		if (!mount_matches(line, unified, &top, &mount))
			continue;
		ret_hierarchy->unified = unified;
		ret_hierarchy->file = unified ? "memory.max" : "memory.limit_in_bytes";
		snprintf(ret_hierarchy->mount, PATH_MAX, "%s", mount);
		snprintf(ret_hierarchy->group, PATH_MAX, "%s", below(name, top));
		err = 0;
	}
	free(line);
	fclose(file);
	return err;
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
