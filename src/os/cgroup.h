/* SPDX-License-Identifier: MIT */
/*
 * Control groups: which ones a process is in, and where their hierarchies are mounted.
 *
 * There may be several hierarchies at a time: the one of version 2, and any number of version 1,
 * of which two matter to us. All read files below a root folder ("" for the running system); 0 or
 * -errno; thread-safe.
 */
#ifndef TIDE_CGROUP_H
#define TIDE_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum cgroup_hierarchy {
	CGROUP_UNIFIED, /* version 2 */
	CGROUP_MEMORY,  /* version 1, with the memory controller */
	CGROUP_SYSTEMD, /* version 1, where systemd keeps its units when version 2 is not mounted */
	CGROUP_HIERARCHIES
};

/* The names of the groups of a process, "/a/b"; "" in a hierarchy where it has none. */
struct cgroup_names {
	char name[CGROUP_HIERARCHIES][PATH_MAX];
};

/* `pid` 0: our own. -ENOENT: there is no such process. */
int cgroup_names_read(const char *root, pid_t pid, struct cgroup_names *ret_names);

/*
 * Where a hierarchy is mounted, and the name of the group that is the mount's top: "/", in a container
 * often the container's own. -ENOENT: it is not mounted.
 */
int cgroup_mount_read(const char *root, enum cgroup_hierarchy hierarchy, char ret_mount[PATH_MAX],
		      char ret_top[PATH_MAX]);

/* What of a path lies below `top`, "/b" or ""; NULL: it lies elsewhere. */
const char *cgroup_below(const char *path, const char *top);

/*
 * Whether a group, or one above it, is named by a pattern as of a shell: "/system.slice/web*" names
 * "/system.slice/web.service/worker". A star does not pass a slash.
 */
bool cgroup_fits(const char *name, const char *pattern);

/*
 * Whether a group lies in a unit of systemd, named by a pattern: "ssh", which is "ssh.service",
 * "user-*.slice".
 */
bool cgroup_in_unit(const char *name, const char *pattern);

/*
 * The pattern of names for what a user writes: the name of a group, with or without the first slash, or
 * its folder, as it is mounted. -ENAMETOOLONG.
 */
int cgroup_pattern(const char *root, const char *text, char ret_pattern[PATH_MAX]);

#endif
