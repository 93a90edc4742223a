/* SPDX-License-Identifier: MIT */
/*
 * Two files tell it all. /proc/PID/cgroup names the groups ("4:memory:/a/b"), /proc/self/mountinfo
 * says where each hierarchy is mounted and which group is the mount's top:
 *
 *     36 32 0:29 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
 *                ^  ^                          ^             ^
 *               top mount point              v1 or v2     v1: controllers
 *
 * so a group's folder is the mount point plus what of "/a/b" lies below "/a".
 */
#include "cgroup.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

/* Whether `word` is one of the words of a comma-separated list. */
static bool list_has(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += len)
		if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

/* Both files list controllers and names in the same way; version 2 has none. */
static enum cgroup_hierarchy hierarchy_of(const char *controllers)
{
	if (list_has(controllers, "memory"))
		return CGROUP_MEMORY;
	return list_has(controllers, "name=systemd") ? CGROUP_SYSTEMD : CGROUP_HIERARCHIES;
}

/* One line "ID:CONTROLLERS:NAME". */
static void name_take(char *line, struct cgroup_names *names)
{
	char *controllers = strchr(line, ':');
	char *name = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!name)
		return;
	*name++ = '\0';
	controllers++;
	name[strcspn(name, "\n")] = '\0';
	enum cgroup_hierarchy which = *controllers ? hierarchy_of(controllers) : CGROUP_UNIFIED;
	if (which < CGROUP_HIERARCHIES && strlen(name) < PATH_MAX)
		memcpy(names->name[which], name, strlen(name) + 1);
}

int cgroup_names_read(const char *root, pid_t pid, struct cgroup_names *ret_names)
{
	FILE *file = pid ? file_below(root, "/proc/%d/cgroup", (int)pid)
			 : file_below(root, "/proc/self/cgroup");
	char *line = NULL;
	size_t room = 0;

	if (!file)
		return -errno;
	for (unsigned h = 0; h < CGROUP_HIERARCHIES; h++)
		ret_names->name[h][0] = '\0';
	while (getline(&line, &room, file) > 0)
		name_take(line, ret_names);
	free(line);
	fclose(file);
	return 0;
}

/* ---- mounts ---- */

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
static bool mount_matches(char *line, enum cgroup_hierarchy hierarchy, char **ret_top, char **ret_mount)
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
	if (strcmp(kind, hierarchy == CGROUP_UNIFIED ? "cgroup2" : "cgroup") != 0)
		return false;
	if (hierarchy != CGROUP_UNIFIED && (!options || hierarchy_of(options) != hierarchy))
		return false;
	unescape(*ret_top);
	unescape(*ret_mount);
	return true;
}

int cgroup_mount_read(const char *root, enum cgroup_hierarchy hierarchy, char ret_mount[PATH_MAX],
		      char ret_top[PATH_MAX])
{
	FILE *file = file_below(root, "/proc/self/mountinfo");
	char *line = NULL;
	size_t room = 0;
	int error = -ENOENT;

	if (!file)
		return -errno;
	while (error && getline(&line, &room, file) > 0) {
		char *top = line, *mount = line;

		if (!mount_matches(line, hierarchy, &top, &mount) || strlen(mount) >= PATH_MAX ||
		    strlen(top) >= PATH_MAX)
			continue;
		strcpy(ret_mount, mount);
		strcpy(ret_top, top);
		error = 0;
	}
	free(line);
	fclose(file);
	return error;
}

const char *cgroup_below(const char *path, const char *top)
{
	size_t len = strcmp(top, "/") == 0 ? 0 : strlen(top);

	if (strncmp(path, top, len) != 0 || (path[len] != '/' && path[len] != '\0'))
		return NULL;
	return strcmp(path + len, "/") == 0 ? "" : path + len;
}

/* ---- patterns ---- */

bool cgroup_fits(const char *name, const char *pattern)
{
	char part[PATH_MAX];

	if (!*name || strlen(name) >= sizeof part)
		return false;
	strcpy(part, name);
	for (;;) {
		if (!fnmatch(pattern, part, FNM_PATHNAME | FNM_NOESCAPE)) /* systemd's names have backslashes */
			return true;
		char *slash = strrchr(part, '/');
		if (!slash || !part[1])
			return false;
		slash[slash == part] = '\0'; /* the group above; of "/a" it is "/" */
	}
}

static bool ends_with(const char *text, size_t length, const char *end)
{
	return length >= strlen(end) && !memcmp(text + length - strlen(end), end, strlen(end));
}

bool cgroup_in_unit(const char *name, const char *pattern)
{
	char part[NAME_MAX + 1], full[NAME_MAX + 1];
	bool plain = !strchr(pattern, '.');

	if ((size_t)snprintf(full, sizeof full, "%s%s", pattern, plain ? ".service" : "") >= sizeof full)
		return false;
	for (const char *at = name; *at; at += strcspn(at, "/")) {
		at += strspn(at, "/");
		size_t length = strcspn(at, "/");
		if (!length || length >= sizeof part)
			continue;
		memcpy(part, at, length);
		part[length] = '\0';
		if (!fnmatch(full, part, FNM_NOESCAPE))
			return true;
		/* What is below its unit, a process may have named itself: a user's manager, a container. */
		if (ends_with(part, length, ".service") || ends_with(part, length, ".scope"))
			break;
	}
	return false;
}

int cgroup_pattern(const char *root, const char *text, char ret_pattern[PATH_MAX])
{
	char mount[PATH_MAX], top[PATH_MAX];
	const char *name = text, *above = *text == '/' ? "" : "/";
	size_t longest = 0;

	top[0] = '\0';
	for (unsigned h = 0; h < CGROUP_HIERARCHIES; h++) {
		char here[PATH_MAX];
		const char *below;

		if (cgroup_mount_read(root, (enum cgroup_hierarchy)h, mount, here))
			continue;
		below = cgroup_below(text, mount);
		/* One may be mounted below the other. */
		if (!below || strlen(mount) < longest)
			continue;
		longest = strlen(mount);
		strcpy(top, strcmp(here, "/") ? here : "");
		above = top;
		name = below;
	}
	int length = snprintf(ret_pattern, PATH_MAX, "%s%s", above, name);
	if (length >= PATH_MAX)
		return -ENAMETOOLONG;
	if (!length)
		strcpy(ret_pattern, "/");
	else if (length > 1 && ret_pattern[length - 1] == '/')
		ret_pattern[length - 1] = '\0';
	return 0;
}
