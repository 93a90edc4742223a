/* SPDX-License-Identifier: MIT */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "uapi.h"

#define PAGE 4096u

int proc_open(pid_t pid, int *ret_dir)
{
	char path[32];

	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	*ret_dir = fd;
	return 0;
}

static FILE *file_in(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	FILE *file = fdopen(fd, "r");
	if (!file)
		close(fd);
	return file;
}

static int read_small(int dir, const char *name, char *text, size_t bytes)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	ssize_t n = read(fd, text, bytes - 1);
	int error = n < 0 ? -errno : n == 0 ? -ESRCH : 0;
	close(fd);
	if (!error)
		text[n] = '\0';
	return error;
}

/* One line of maps: "start-end perms offset dev inode   path". */
static bool mapping_parse(const char *line, struct proc_mapping *ret)
{
	unsigned long start, end, inode;
	char perms[8];
	int path_at = 0;

	if (sscanf(line, "%lx-%lx %7s %*s %*s %lu %n", &start, &end, perms, &inode, &path_at) < 4 ||
	    !path_at)
		return false;
	const char *path = line + path_at;
	*ret = (struct proc_mapping){
		.start = start,
		.end = end,
		.read = perms[0] == 'r',
		.write = perms[1] == 'w',
		.execute = perms[2] == 'x',
		.shared = perms[3] == 's',
		.stack = !strncmp(path, "[stack]", 7),
	};
	bool heap = !strncmp(path, "[heap]", 6);
	bool named = !strncmp(path, "[anon:", 6);
	ret->anonymous = inode == 0 && (*path == '\0' || *path == '\n' || heap || named || ret->stack);
	ret->special = *path == '[' && !heap && !named && !ret->stack;
	return true;
}

static void mapping_flags(const char *line, struct proc_mapping *mapping)
{
	for (const char *p = line + strlen("VmFlags:"); *p; p++) {
		if (*p == ' ' || *p == '\n')
			continue;
		if (!strncmp(p, "lo", 2))
			mapping->locked = true;
		else if (!strncmp(p, "um", 2) || !strncmp(p, "uw", 2) || !strncmp(p, "ui", 2))
			mapping->uffd = true;
		else if (!strncmp(p, "hg", 2))
			mapping->huge = true;
		else if (!strncmp(p, "wf", 2))
			mapping->wiped = true;
		else if (!strncmp(p, "io", 2) || !strncmp(p, "pf", 2) || !strncmp(p, "ht", 2) ||
			 !strncmp(p, "mm", 2))
			mapping->pinned_kind = true;
		p++;
	}
}

int proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping),
		  void *arg)
{
	FILE *file = file_in(dir, flags ? "smaps" : "maps");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;
	char *line = NULL;
	size_t room = 0;
	int result = 0;
	struct proc_mapping mapping = { 0 };
	while (!result && getline(&line, &room, file) > 0) {
		if (flags && !strncmp(line, "VmFlags:", 8)) {
			mapping_flags(line, &mapping);
			result = visit(arg, &mapping);
		} else if (mapping_parse(line, &mapping) && !flags) {
			result = visit(arg, &mapping);
		}
	}
	if (!result && ferror(file))
		result = -ESRCH;
	free(line);
	fclose(file);
	return result;
}

int proc_statm(int dir, uint64_t *ret_size_pages, uint64_t *ret_anon_pages)
{
	char text[128];
	unsigned long size, resident, shared;

	int error = read_small(dir, "statm", text, sizeof text);
	if (error)
		return error;
	if (sscanf(text, "%lu %lu %lu", &size, &resident, &shared) != 3)
		return -EINVAL;
	*ret_size_pages = size;
	*ret_anon_pages = resident > shared ? resident - shared : 0;
	return 0;
}

int proc_pss_anon(int dir, uint64_t *ret_bytes)
{
	char text[2048];

	int error = read_small(dir, "smaps_rollup", text, sizeof text);
	if (error)
		return error;
	const char *at = strstr(text, "Pss_Anon:");
	unsigned long kib;
	if (!at || sscanf(at, "Pss_Anon: %lu", &kib) != 1)
		return -EINVAL;
	*ret_bytes = (uint64_t)kib * 1024;
	return 0;
}

struct stat_fields {
	char state;
	int parent, cpu;
};

static int stat_read(pid_t pid, struct stat_fields *ret)
{
	char text[1024];
	int dir = -1;

	int error = proc_open(pid, &dir);
	if (error)
		return error;
	error = read_small(dir, "stat", text, sizeof text);
	close(dir);
	if (error)
		return error;
	/* The name may hold spaces and brackets: the fields start after the last ')'. The state is the
	 * third of all, the parent the fourth, the processor the 39th. */
	const char *at = strrchr(text, ')');
	struct stat_fields fields;
	if (!at || sscanf(at + 1, " %c %d", &fields.state, &fields.parent) != 2)
		return -EINVAL;
	at += 2;
	for (int field = 3; field < 39 && at; field++) {
		at = strchr(at, ' ');
		at += at != NULL;
	}
	if (!at)
		return -EINVAL;
	fields.cpu = atoi(at);
	*ret = fields;
	return 0;
}

int proc_parent(pid_t pid, pid_t *ret_parent)
{
	struct stat_fields fields;

	int error = stat_read(pid, &fields);
	if (!error)
		*ret_parent = fields.parent;
	return error;
}

int proc_state(pid_t pid, char *ret_state)
{
	struct stat_fields fields;

	int error = stat_read(pid, &fields);
	if (!error)
		*ret_state = fields.state;
	return error;
}

int proc_cpu(pid_t tid, int *ret_cpu)
{
	struct stat_fields fields;

	int error = stat_read(tid, &fields);
	if (!error)
		*ret_cpu = fields.cpu;
	return error;
}

int proc_present(int dir, uint64_t start, uint64_t end,
		 void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	struct page_region found[256];
	int fd = openat(dir, "pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	int error = 0;
	while (start < end) {
		struct pm_scan_arg scan = {
			.size = sizeof scan,
			.start = start,
			.end = end,
			.vec = (uint64_t)(uintptr_t)found,
			.vec_len = sizeof found / sizeof *found,
			.category_mask = PAGE_IS_PRESENT,
			.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
		};
		int n = ioctl(fd, PAGEMAP_SCAN, &scan);
		if (n < 0) {
			error = -errno;
			break;
		}
		for (int i = 0; i < n; i++)
			visit(arg, found[i].start, found[i].end, found[i].categories & PAGE_IS_HUGE);
		if (scan.walk_end <= start)
			break;
		start = scan.walk_end;
	}
	close(fd);
	return error;
}

int proc_readv(pid_t pid, const struct iovec *remote, size_t nr, void *buffer, size_t bytes)
{
	struct iovec local = { .iov_base = buffer, .iov_len = bytes };

	ssize_t n = process_vm_readv(pid, &local, 1, remote, nr, 0);
	if (n < 0)
		return -errno;
	return (size_t)n == bytes ? 0 : -EFAULT;
}

int proc_read(pid_t pid, uint64_t address, void *buffer, size_t bytes)
{
	struct iovec remote = { .iov_base = (void *)(uintptr_t)address, .iov_len = bytes };

	return proc_readv(pid, &remote, 1, buffer, bytes);
}

int proc_same_memory(pid_t a, pid_t b)
{
	long r = syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0);

	return r < 0 ? -errno : r == 0;
}
