/* SPDX-License-Identifier: MIT */
/* The kernel's folder of settings for developers, which not every system mounts. */
#ifndef TIDE_DEBUGFS_H
#define TIDE_DEBUGFS_H

#include <errno.h>
#include <sys/mount.h>
#include <unistd.h>

/* Mount it where it belongs. -EEXIST: it is there already; -EPERM ... */
static inline int debugfs_mount(void)
{
	if (access("/sys/kernel/debug/sched", F_OK) == 0)
		return -EEXIST;
	return mount("debugfs", "/sys/kernel/debug", "debugfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)
		       ? -errno
		       : 0;
}
/* Undo a mount of ours; who is in it keeps it for the time being. */
static inline void debugfs_unmount(void)
{
	umount2("/sys/kernel/debug", MNT_DETACH);
}

#endif
