/* SPDX-License-Identifier: MIT */
#include "proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "number.h"
#include "uapi.h"

#define PAGE 4096u

int proc_open_below(const char *root, pid_t pid, int *ret_dir)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s/proc/%d", root, (int)pid) >= (int)sizeof path)
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	*ret_dir = fd;
	return 0;
}

int proc_open(pid_t pid, int *ret_dir)
{
	return proc_open_below("", pid, ret_dir);
}

FILE *proc_file(int dir, const char *name)
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
	unsigned long start, end, offset, inode;
	unsigned int major, minor;
	char perms[8];
	int path_at = 0;

	if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu %n", &start, &end, perms, &offset, &major, &minor,
		   &inode, &path_at) < 7 ||
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
		.heap = !strncmp(path, "[heap]", 6),
		.vcpu = !strncmp(path, "anon_inode:kvm-vcpu", 19),
		.offset = inode || *path == '/' ? offset : 0, /* System V's first segment is number 0 */
		.device = (uint64_t)major << 32 | minor,
		.inode = inode,
		.path = path,
		.page_bytes = PAGE,
	};
	bool heap = ret->heap;
	bool named = !strncmp(path, "[anon:", 6) || !strncmp(path, "[anon_shmem:", 12);
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
		else if (!strncmp(p, "dc", 2))
			mapping->kept = true;
		else if (!strncmp(p, "io", 2) || !strncmp(p, "pf", 2) || !strncmp(p, "ht", 2) ||
			 !strncmp(p, "mm", 2))
			mapping->pinned_kind = true;
		mapping->kind = mapping->kind * 65599 + ((uint64_t)(unsigned char)p[0] << 8 | (unsigned char)p[1]);
		p++;
	}
}

int proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping),
		  void *arg)
{
	FILE *file = proc_file(dir, flags ? "smaps" : "maps");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;
	char *line = NULL, *path = NULL;
	size_t room = 0;
	int result = 0;
	bool any = false;
	struct proc_mapping mapping = { 0 };
	while (!result && getline(&line, &room, file) > 0) {
		if (flags && !strncmp(line, "VmFlags:", 8)) {
			mapping_flags(line, &mapping);
			mapping.path = path ? path : "";
			result = visit(arg, &mapping);
		} else if (flags && !strncmp(line, "THPeligible:", 12)) {
			mapping.thp = strtoul(line + 12, NULL, 10);
		} else if (flags && !strncmp(line, "KernelPageSize:", 15)) {
			mapping.page_bytes = (uint32_t)strtoul(line + 15, NULL, 10) * 1024;
		} else if (mapping_parse(line, &mapping)) {
			any = true;
			line[strcspn(line, "\n")] = '\0';
			if (!flags) {
				result = visit(arg, &mapping);
			} else {
				free(path);
				path = strdup(mapping.path);
			}
		}
	}
	/* Of one that has ended kernels before 6.16 give an empty file, and no process is without mappings. */
	if (!result && (ferror(file) || !any))
		result = -ESRCH;
	free(path);
	free(line);
	fclose(file);
	return result;
}

static int vcpu_visit(void *arg, const struct proc_mapping *mapping)
{
	(void)arg;
	return mapping->vcpu;
}

int proc_mapping_file(int dir, uint64_t start, uint64_t end, uint64_t *ret_device, uint64_t *ret_inode)
{
	char name[64];
	struct statx file;

	snprintf(name, sizeof name, "map_files/%llx-%llx", (unsigned long long)start, (unsigned long long)end);
	if (statx(dir, name, AT_STATX_DONT_SYNC, STATX_INO, &file))
		return -errno;
	*ret_device = (uint64_t)file.stx_dev_major << 32 | file.stx_dev_minor;
	*ret_inode = file.stx_ino;
	return 0;
}

bool proc_runs_guests(int dir)
{
	return proc_mappings(dir, false, vcpu_visit, NULL) > 0;
}

int proc_statm_open(int dir, int *ret_file)
{
	int file = openat(dir, "statm", O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	*ret_file = file;
	return 0;
}

int proc_statm_read(int file, uint64_t *ret_size_pages, uint64_t *ret_anon_pages)
{
	char text[128];
	unsigned long size, resident, shared;

	ssize_t n = pread(file, text, sizeof text - 1, 0);
	if (n <= 0)
		return n ? -errno : -ESRCH;
	text[n] = '\0';
	if (sscanf(text, "%lu %lu %lu", &size, &resident, &shared) != 3)
		return -EINVAL;
	*ret_size_pages = size;
	*ret_anon_pages = minus(resident, shared);
	return 0;
}

int proc_statm(int dir, uint64_t *ret_size_pages, uint64_t *ret_anon_pages)
{
	int file = -1, error = proc_statm_open(dir, &file);

	if (error)
		return error;
	error = proc_statm_read(file, ret_size_pages, ret_anon_pages);
	close(file);
	return error;
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
	uint64_t image, started; /* in ticks */
};

/* The name may hold spaces and brackets: the fields start after the last ')', with the third. The
 * parent is the fourth; start of the process, its code, its stack and its heap, and the processor
 * have these numbers. */
static int stat_parse(const char *text, struct stat_fields *ret)
{
	enum { START = 22, CODE = 26, STACK = 28, CPU = 39, HEAP = 47 };
	const char *at = strrchr(text, ')');
	struct stat_fields fields = { .image = UINT64_C(0xcbf29ce484222325) };

	if (!at || sscanf(at + 1, " %c %d", &fields.state, &fields.parent) != 2)
		return -EINVAL;
	at += 2;
	for (int field = 3; field <= HEAP; field++) {
		uint64_t value = strtoull(at, NULL, 10);

		if (field == START || field == CODE || field == STACK || field == HEAP)
			fields.image = (fields.image ^ value) * UINT64_C(0x100000001b3);
		if (field == START)
			fields.started = value;
		if (field == CPU)
			fields.cpu = (int)value;
		at = strchr(at, ' ');
		if (!at)
			return -EINVAL;
		at++;
	}
	*ret = fields;
	return 0;
}

static int stat_read_in(int dir, const char *name, struct stat_fields *ret)
{
	char text[1024];
	int error = read_small(dir, name, text, sizeof text);

	return error ? error : stat_parse(text, ret);
}

static int stat_read(pid_t pid, struct stat_fields *ret)
{
	int dir = -1;
	int error = proc_open(pid, &dir);

	if (error)
		return error;
	error = stat_read_in(dir, "stat", ret);
	close(dir);
	return error;
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

bool proc_same_memory(pid_t one, pid_t other)
{
	return !syscall(SYS_kcmp, one, other, KCMP_VM, 0, 0);
}

int proc_cpu(pid_t tid, int *ret_cpu)
{
	struct stat_fields fields;

	int error = stat_read(tid, &fields);
	if (!error)
		*ret_cpu = fields.cpu;
	return error;
}

int proc_pids(const char *root, int (*visit)(void *arg, pid_t pid), void *arg)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int error = 0;

	if ((size_t)snprintf(path, sizeof path, "%s/proc", root) >= sizeof path)
		return -ENAMETOOLONG;
	DIR *folder = opendir(path);
	if (!folder)
		return -errno;
	while (!error && (entry = readdir(folder)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			error = visit(arg, atoi(entry->d_name));
	closedir(folder);
	return error;
}

struct parent_walk {
	const char *root;
	int (*visit)(void *arg, pid_t pid, pid_t parent);
	void *arg;
};

static int parent_visit(void *arg, pid_t pid)
{
	const struct parent_walk *walk = arg;
	struct stat_fields fields;
	char path[PATH_MAX];

	/* Who ends meanwhile is nobody's child any more. */
	if ((size_t)snprintf(path, sizeof path, "%s/proc/%d/stat", walk->root, (int)pid) >= sizeof path ||
	    stat_read_in(AT_FDCWD, path, &fields))
		return 0;
	return walk->visit(walk->arg, pid, fields.parent);
}

int proc_parents(const char *root, int (*visit)(void *arg, pid_t pid, pid_t parent), void *arg)
{
	struct parent_walk walk = { root, visit, arg };

	return proc_pids(root, parent_visit, &walk);
}

/* Call `look` with the name of a file of each thread. -EMFILE, -ENFILE of it end the walk; with any other error that
 * thread has ended. */
static int tasks_walk(int dir, const char *file, int (*look)(void *arg, int tasks, pid_t tid, const char *name),
		      void *arg)
{
	int fd = openat(dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *tasks = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int error = 0;

	if (!tasks) {
		error = errno == ENOENT ? -ESRCH : -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	while (error != -EMFILE && error != -ENFILE && (entry = readdir(tasks))) {
		char name[sizeof entry->d_name + 16];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", entry->d_name, file);
		error = look(arg, dirfd(tasks), atoi(entry->d_name), name);
	}
	closedir(tasks);
	return error == -EMFILE || error == -ENFILE ? error : 0;
}

struct thread_walk {
	void (*visit)(void *arg, pid_t tid, char state, int cpu);
	void *arg;
};

static int thread_look(void *arg, int tasks, pid_t tid, const char *name)
{
	const struct thread_walk *walk = arg;
	struct stat_fields fields;
	int error = stat_read_in(tasks, name, &fields);

	if (!error)
		walk->visit(walk->arg, tid, fields.state, fields.cpu);
	return error;
}

int proc_threads(int dir, void (*visit)(void *arg, pid_t tid, char state, int cpu), void *arg)
{
	return tasks_walk(dir, "stat", thread_look, &(struct thread_walk){ visit, arg });
}

struct leaving_walk {
	void (*visit)(void *arg, const struct proc_leaving *leaving);
	void *arg;
	unsigned nr, nr_running;
	bool denied;
};

static uint64_t page_up(uint64_t bytes)
{
	return (bytes + 4095) & ~UINT64_C(4095);
}

struct thread_call {
	long number;
	uint64_t a[6], stack;
};

/* "number argument … stack instruction"; "running"; "-1 …" in a fault. Whether it is the first. */
static bool call_parse(const char *text, struct thread_call *ret_call)
{
	uint64_t *a = ret_call->a;

	return sscanf(text, "%ld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64,
		      &ret_call->number, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &ret_call->stack) == 8;
}

/* -EAGAIN: it runs. One in a fault of its own is in call -1. */
static int call_read(int tasks, const char *name, struct thread_call *ret_call)
{
	char text[256];
	int error = read_small(tasks, name, text, sizeof text);

	if (error)
		return error;
	if (!strncmp(text, "running", strlen("running")))
		return -EAGAIN;
	if (!call_parse(text, ret_call))
		ret_call->number = -1;
	return 0;
}

static bool call_leaves(const struct thread_call *call)
{
	return call->number == SYS_munmap || call->number == SYS_mremap ||
	       (call->number == SYS_mmap && call->a[3] & MAP_FIXED);
}

static bool call_grows(const struct thread_call *call)
{
	return call->number == SYS_mremap && page_up(call->a[2]) > page_up(call->a[1]);
}

/*
 * Whether a thread sleeps until its message is read: in the kernel's "userfaultfd_event_wait_completion", or who calls
 * that. What grows and is locked is filled before it is told: who waits for a page of it ("handle_userfault") counts as
 * well, for while one is waited for no fault is read. -EAGAIN: "0", it runs. Any other error: nobody says.
 */
static int thread_tells(int tasks, pid_t tid, bool grows, bool *ret_tells)
{
	char name[32], text[128];

	snprintf(name, sizeof name, "%d/wchan", (int)tid);
	int error = read_small(tasks, name, text, sizeof text);
	if (!error && !strcmp(text, "0"))
		error = -EAGAIN;
	if (!error)
		*ret_tells = strstr(text, grows ? "userfault" : "userfaultfd");
	return error;
}

/* The call in which a thread sleeps, and whether it tells: who does stays in it until a message is read, so it is read
 * again which call that is. */
static int call_look(int tasks, pid_t tid, const char *name, struct thread_call *ret_call, bool *ret_tells)
{
	int error = call_read(tasks, name, ret_call);

	if (error || !call_leaves(ret_call))
		return error;
	int unknown = thread_tells(tasks, tid, call_grows(ret_call), ret_tells);
	error = call_read(tasks, name, ret_call);
	return error ? error : unknown == -ESRCH ? -EPERM : unknown;
}

static int leaving_look(void *arg, int tasks, pid_t tid, const char *name)
{
	struct leaving_walk *walk = arg;
	struct thread_call call;
	bool tells = false;

	int error = call_look(tasks, tid, name, &call, &tells);
	walk->nr += !error || error == -EAGAIN;
	walk->nr_running += error == -EAGAIN;
	walk->denied |= error == -EPERM || error == -EACCES;
	if (error || !call_leaves(&call))
		return error;
	if (!tells) {
		walk->nr_running += call_grows(&call); /* it may be about to tell */
		return 0;
	}
	const uint64_t *a = call.a;
	uint64_t end = a[0] + page_up(a[1]), kept = a[0] + page_up(a[2]);
	bool moves = call.number == SYS_mremap, smaller = moves && kept < end, fixed = moves && a[3] & MREMAP_FIXED;
	if (!moves)
		walk->visit(walk->arg, &(struct proc_leaving){ a[0], end, 0, false });
	if (smaller)
		walk->visit(walk->arg, &(struct proc_leaving){ kept, end, 0, false });
	if (moves && (fixed || !smaller))
		walk->visit(walk->arg, &(struct proc_leaving){ a[0], smaller ? kept : end, fixed ? a[4] : 0, true });
	return 0;
}

int proc_leavings(int dir, void (*visit)(void *arg, const struct proc_leaving *leaving), void *arg, unsigned *ret_nr,
		  unsigned *ret_running)
{
	struct leaving_walk walk = { .visit = visit, .arg = arg };
	int error = tasks_walk(dir, "syscall", leaving_look, &walk);

	if (!error && walk.denied)
		error = -EPERM;
	if (!error) {
		*ret_nr = walk.nr;
		*ret_running = walk.nr_running;
	}
	return error;
}

int proc_remap(pid_t tid, struct proc_remap *ret_call)
{
	struct thread_call call;
	char name[32], text[256];

	snprintf(name, sizeof name, "/proc/%d/syscall", (int)tid);
	int error = read_small(AT_FDCWD, name, text, sizeof text);
	if (error)
		return error;
	if (!call_parse(text, &call) || call.number != SYS_mremap)
		return -ENOENT;
	*ret_call = (struct proc_remap){ call.a[0], page_up(call.a[1]), page_up(call.a[2]), call.a[3], call.a[4],
					 call.stack };
	return 0;
}

int proc_image(int dir, uint64_t *ret_image)
{
	struct stat_fields fields;
	int error = stat_read_in(dir, "stat", &fields);

	if (!error)
		*ret_image = fields.image;
	return error;
}

int proc_started(int dir, uint64_t *ret_ns)
{
	struct stat_fields fields;
	uint64_t tick_ns = UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK);
	int error = stat_read_in(dir, "stat", &fields);

	if (!error)
		*ret_ns = (fields.started + 1) * tick_ns; /* it is rounded down */
	return error;
}

int proc_ipc_namespace(int dir, uint64_t *ret_number)
{
	char text[64] = "";
	unsigned long long number;

	if (readlinkat(dir, "ns/ipc", text, sizeof text - 1) < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (sscanf(text, "ipc:[%llu]", &number) != 1)
		return -EIO;
	*ret_number = number;
	return 0;
}

static int line_value(const char *line, const char *name, char *text, size_t bytes)
{
	size_t length = strlen(name);

	if (strncmp(line, name, length) || line[length] != ':')
		return -ENOENT;
	line += length + 1;
	line += strspn(line, " \t");
	length = strcspn(line, "\n");
	if (length >= bytes)
		return -EFBIG;
	memcpy(text, line, length);
	text[length] = '\0';
	return 0;
}

/* A process may be in 65536 groups: that line alone may be longer than any buffer of ours. */
int proc_status_text(int dir, const char *name, char *text, size_t bytes)
{
	int fd = openat(dir, "status", O_RDONLY | O_CLOEXEC), error = -ENOENT;
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	FILE *file = fdopen(fd, "r");
	char *line = NULL;
	size_t room = 0;

	if (!file) {
		close(fd);
		return -ENOMEM;
	}
	if (getline(&line, &room, file) <= 0)
		error = -ESRCH;
	else
		do
			error = line_value(line, name, text, bytes);
		while (error == -ENOENT && getline(&line, &room, file) > 0);
	free(line);
	fclose(file);
	return error;
}

int proc_status_kib(int dir, const char *name, uint64_t *ret_kib)
{
	char text[64];
	int error = proc_status_text(dir, name, text, sizeof text);

	if (error && error != -ENOENT)
		return error;
	*ret_kib = error ? 0 : strtoull(text, NULL, 10);
	return 0;
}

bool proc_numbered_apart(int dir)
{
	char text[256];

	return !proc_status_text(dir, "NSpid", text, sizeof text) && strpbrk(text, "\t ");
}

bool proc_ours(const char *root)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s/proc/self", root) >= (int)sizeof path)
		return false;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ours = dir >= 0 && !proc_numbered_apart(dir);
	if (dir >= 0)
		close(dir);
	return ours;
}

bool proc_environ_has(pid_t pid, const char *entry)
{
	char path[64], *line = NULL;
	size_t room = 0;
	bool found = false;

	snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
	FILE *file = fopen(path, "re");
	while (file && !found && getdelim(&line, &room, '\0', file) > 0)
		found = !strcmp(line, entry);
	free(line);
	if (file)
		fclose(file);
	return found;
}

/* Runs of pages of any of the categories. */
static int pages_visit(int dir, uint64_t start, uint64_t end, uint64_t categories,
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
			.category_anyof_mask = categories,
			.return_mask = categories | PAGE_IS_HUGE,
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

int proc_present(int dir, uint64_t start, uint64_t end,
		 void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	return pages_visit(dir, start, end, PAGE_IS_PRESENT, visit, arg);
}

int proc_filled(int dir, uint64_t start, uint64_t end,
		void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	return pages_visit(dir, start, end, PAGE_IS_PRESENT | PAGE_IS_SWAPPED, visit, arg);
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

int proc_memory_open(int dir, int *ret_fd)
{
	int fd = openat(dir, "mem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	*ret_fd = fd;
	return 0;
}

int proc_memory_read(int fd, uint64_t address, void *buffer, size_t bytes)
{
	ssize_t n = pread(fd, buffer, bytes, (off_t)address);

	if (n < 0)
		return -errno;
	return (size_t)n == bytes ? 0 : -EFAULT;
}

int proc_memory_write(int fd, uint64_t address, const void *buffer, size_t bytes)
{
	ssize_t n = pwrite(fd, buffer, bytes, (off_t)address);

	if (n < 0)
		return -errno;
	return (size_t)n == bytes ? 0 : -EFAULT;
}
