/* SPDX-License-Identifier: MIT */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pagemap.h"
#include "proc.h"
#include "thread.h"
#include "uapi.h"
#include "uffd.h"

#define PAGE_BYTES ((size_t)4096)
#define DEADLINE_S 10u
#define WRONG (-ENOTRECOVERABLE)

void *probe_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

void probe_memory_free(void *memory, size_t bytes)
{
	munmap(memory, bytes);
}

/* ---- children --------------------------------------------------------------------------------- */

static int reap(pid_t pid, int *ret_status)
{
	while (waitpid(pid, ret_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int probe_in_child(void (*work)(void *arg), void *arg)
{
	struct sigaction ignored;
	sigset_t all, before;
	int status, err;
	pid_t pid;

	/* Where it is ignored there would be nobody to wait for. */
	sigaction(SIGCHLD, NULL, &ignored);
	if (ignored.sa_handler == SIG_IGN)
		signal(SIGCHLD, SIG_DFL);
	/* The child must not run the caller's handlers, nor we lose its end to one of them. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid = fork();
	if (pid == 0) {
		for (int sig = 1; sig < NSIG; sig++)
			signal(sig, SIG_DFL);
		signal(SIGPIPE, SIG_IGN);
		sigemptyset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		alarm(DEADLINE_S);
		work(arg);
		_exit(0);
	}
	err = pid < 0 ? -errno : reap(pid, &status);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (ignored.sa_handler == SIG_IGN)
		sigaction(SIGCHLD, &ignored, NULL);
	if (err)
		return err;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return -ETIMEDOUT;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECANCELED;
}

/* A child that has written `value` to *cell in its own memory and now waits for its end. */
struct waiter {
	pid_t pid;
	int hold; /* closing it lets the child end */
};

static int waiter_begin(volatile uint64_t *cell, uint64_t value, struct waiter *ret_waiter)
{
	int ends[2], err = 0;
	char byte = 0;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		*cell = value;
		if (write(ends[1], &byte, 1) != 1 || read(ends[1], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}
	if (pid < 0)
		err = -errno;
	close(ends[1]);
	if (!err && read(ends[0], &byte, 1) != 1)
		err = -ECANCELED;
	if (err) {
		close(ends[0]);
		if (pid > 0)
			reap(pid, &(int){ 0 });
		return err;
	}
	*ret_waiter = (struct waiter){ .pid = pid, .hold = ends[0] };
	return 0;
}

static void waiter_end(struct waiter *waiter)
{
	if (waiter->hold >= 0)
		close(waiter->hold);
	reap(waiter->pid, &(int){ 0 });
}

/* ---- kernel ----------------------------------------------------------------------------------- */

int probe_kernel(unsigned int *ret_major, unsigned int *ret_minor)
{
	struct utsname name;

	if (uname(&name))
		return -errno;
	return sscanf(name.release, "%u.%u", ret_major, ret_minor) == 2 ? 0 : -EIO;
}

/* ---- userfaultfd ------------------------------------------------------------------------------ */

int probe_uffd_device(int *ret_fd)
{
	int device = -1, fd, err = uffd_device_open(&device);

	if (err)
		return err;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		err = -errno;
	else
		*ret_fd = fd;
	close(device);
	return err;
}

/* Give the right up that a program which we execute would not have; *ret_before is for rights_put(). */
static int rights_lower(struct __user_cap_data_struct ret_before[2])
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct lower[2];

	if (syscall(SYS_capget, &header, ret_before))
		return -errno;
	memcpy(lower, ret_before, sizeof(lower));
	/* Root's programs have what root has; others inherit only what is ambient. */
	if (geteuid() != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_PTRACE, 0, 0) != 1)
		lower[CAP_TO_INDEX(CAP_SYS_PTRACE)].effective &= ~CAP_TO_MASK(CAP_SYS_PTRACE);
	return syscall(SYS_capset, &header, lower) ? -errno : 0;
}

static void rights_put(const struct __user_cap_data_struct before[2])
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	syscall(SYS_capset, &header, before);
}

int probe_uffd_call(int *ret_fd)
{
	struct __user_cap_data_struct before[2];
	int err = rights_lower(before);
	long fd;

	if (err)
		return err;
	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		err = -errno;
	else
		*ret_fd = (int)fd;
	rights_put(before);
	return err;
}

int probe_uffd_features(int fd, uint64_t features)
{
	return uffd_api(fd, features);
}

static void *pages_map(size_t nr_pages)
{
	void *pages = mmap(NULL, nr_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return pages == MAP_FAILED ? NULL : pages;
}

static void pages_unmap(void *pages, size_t nr_pages)
{
	if (pages)
		munmap(pages, nr_pages * PAGE_BYTES);
}

static bool page_is(const volatile uint8_t *page, uint8_t value)
{
	for (size_t i = 0; i < PAGE_BYTES; i++)
		if (page[i] != value)
			return false;
	return true;
}

/* Pages are read back only after they were installed: a touch before that would wait for ever. */
int probe_uffd_missing(int fd)
{
	static uint8_t source[PAGE_BYTES];
	uint8_t *pages = pages_map(2);
	uint64_t at = (uint64_t)(uintptr_t)pages, done;
	int err = pages ? uffd_api(fd, 0) : -ENOMEM;

	memset(source, 0xa5, sizeof(source));
	if (!err)
		err = uffd_register(fd, at, 2 * PAGE_BYTES);
	if (!err)
		err = uffd_copy(fd, at, source, PAGE_BYTES, &done);
	if (!err)
		err = uffd_zero(fd, at + PAGE_BYTES, PAGE_BYTES, &done);
	if (!err)
		err = uffd_wake(fd, at, 2 * PAGE_BYTES);
	if (!err && !(page_is(pages, 0xa5) && page_is(pages + PAGE_BYTES, 0)))
		err = WRONG;
	pages_unmap(pages, 2);
	return err;
}

int probe_uffd_move(int fd)
{
	uint8_t *from = pages_map(1), *to = pages_map(1);
	struct uffdio_move move = {
		.src = (uint64_t)(uintptr_t)from,
		.dst = (uint64_t)(uintptr_t)to,
		.len = PAGE_BYTES,
	};
	int err = from && to ? uffd_api(fd, 0) : -ENOMEM;

	if (!err) {
		memset(from, 0x5a, PAGE_BYTES);
		err = uffd_register(fd, move.dst, PAGE_BYTES);
	}
	if (!err && ioctl(fd, UFFDIO_MOVE, &move))
		err = -errno;
	if (!err && !(move.move == PAGE_BYTES && page_is(to, 0x5a) && page_is(from, 0)))
		err = WRONG;
	pages_unmap(from, 1);
	pages_unmap(to, 1);
	return err;
}

/* The touch is made by a system call, which answers EFAULT where a load would raise SIGBUS. */
int probe_uffd_sigbus(int fd)
{
	uint8_t *page = pages_map(1);
	int ends[2] = { -1, -1 };
	int err = page ? uffd_api(fd, UFFD_FEATURE_SIGBUS) : -ENOMEM;

	if (!err && pipe2(ends, O_CLOEXEC))
		err = -errno;
	if (!err)
		err = uffd_register(fd, (uint64_t)(uintptr_t)page, PAGE_BYTES);
	if (!err && !(write(ends[1], page, 1) < 0 && errno == EFAULT))
		err = WRONG;
	if (ends[0] >= 0) {
		close(ends[0]);
		close(ends[1]);
	}
	pages_unmap(page, 1);
	return err;
}

/* ---- other processes and our own pages -------------------------------------------------------- */

int probe_pagemap_scan(void)
{
	uint8_t *pages = pages_map(2);
	struct page_region found[2] = { 0 };
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = (uint64_t)(uintptr_t)pages,
		.end = (uint64_t)(uintptr_t)pages + 2 * PAGE_BYTES,
		.vec = (uint64_t)(uintptr_t)found,
		.vec_len = 2,
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT,
	};
	int fd, err = 0;
	long nr;

	if (!pages)
		return -ENOMEM;
	*(volatile uint8_t *)(pages + PAGE_BYTES) = 1;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	nr = fd < 0 ? -1 : ioctl(fd, PAGEMAP_SCAN, &scan);
	if (nr < 0)
		err = -errno;
	else if (nr != 1 || found[0].start != scan.start + PAGE_BYTES || found[0].end != scan.end)
		err = WRONG;
	if (fd >= 0)
		close(fd);
	pages_unmap(pages, 2);
	return err;
}

static void dirty_note(void *arg, const struct pagemap_page *page)
{
	*(bool *)arg |= page->soft_dirty;
}

static int dirty_look(int dir, uint8_t *page, bool *ret_dirty)
{
	uint64_t address = (uint64_t)(uintptr_t)page;

	*ret_dirty = false;
	return pagemap_walk(dir, address, address + PAGE_BYTES, dirty_note, ret_dirty);
}

/* Our own marks are cleared for it, which nobody looks at. */
int probe_soft_dirty(void)
{
	uint8_t *page = pages_map(1);
	bool before = false, after = false;
	int dir, err = page ? proc_open(getpid(), &dir) : -ENOMEM;

	if (!page || err)
		goto out;
	*(volatile uint8_t *)page = 1;
	err = pagemap_clear_soft_dirty(dir);
	if (!err)
		err = dirty_look(dir, page, &before);
	*(volatile uint8_t *)page = 2;
	if (!err)
		err = dirty_look(dir, page, &after);
	if (!err && (before || !after))
		err = -ENOTSUP;
	close(dir);
out:
	if (page)
		pages_unmap(page, 1);
	return err;
}

int probe_read_child(void)
{
	volatile uint64_t cell = 1;
	uint64_t seen = 0;
	struct iovec to = { &seen, sizeof(seen) };
	struct iovec from = { (void *)(uintptr_t)&cell, sizeof(cell) };
	struct waiter waiter;
	int err = waiter_begin(&cell, 2, &waiter);

	if (err)
		return err;
	if (process_vm_readv(waiter.pid, &to, 1, &from, 1, 0) < 0)
		err = -errno;
	else if (seen != 2)
		err = WRONG;
	waiter_end(&waiter);
	return err;
}

int probe_pidfd(void)
{
	volatile uint64_t cell = 0;
	struct waiter waiter;
	struct pollfd ended = { .events = POLLIN };
	int err = waiter_begin(&cell, 0, &waiter);

	if (err)
		return err;
	ended.fd = (int)syscall(SYS_pidfd_open, waiter.pid, 0);
	if (ended.fd < 0) {
		err = -errno;
	} else {
		if (poll(&ended, 1, 0) != 0)
			err = WRONG;
		close(waiter.hold);
		waiter.hold = -1;
		if (!err && poll(&ended, 1, -1) != 1)
			err = WRONG;
		close(ended.fd);
	}
	waiter_end(&waiter);
	return err;
}

static void enter_idle(void *arg)
{
	int *ret_error = arg;

	*ret_error = thread_enter_idle();
}

int probe_idle_class(void)
{
	int *error = mmap(NULL, sizeof(*error), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int err;

	if (error == MAP_FAILED)
		return -errno;
	/* In a child: who has entered it may not be permitted to leave it. */
	err = probe_in_child(enter_idle, error);
	if (!err)
		err = *error;
	munmap(error, sizeof(*error));
	return err;
}

/* ---- files ------------------------------------------------------------------------------------ */

static int line_read(const char *root, const char *path, char *ret_line, size_t bytes)
{
	char full[PATH_MAX];
	FILE *file;
	int err = 0;

	if ((size_t)snprintf(full, sizeof(full), "%s%s", root, path) >= sizeof(full))
		return -ENAMETOOLONG;
	file = fopen(full, "re");
	if (!file)
		return -errno;
	if (!fgets(ret_line, (int)bytes, file))
		err = -EIO;
	fclose(file);
	return err;
}

int probe_huge_pages(const char *root, char ret_mode[16])
{
	char line[128];
	char *start, *end;
	int err = line_read(root, "/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line));

	if (err)
		return err;
	/* The mode in force stands in brackets: "always [madvise] never". */
	start = strchr(line, '[');
	end = start ? strchr(start, ']') : NULL;
	if (!end || end - start > 15)
		return -EIO;
	*end = '\0';
	memcpy(ret_mode, start + 1, (size_t)(end - start));
	return 0;
}

int probe_overcommit(const char *root, int *ret_mode)
{
	char line[32];
	int err = line_read(root, "/proc/sys/vm/overcommit_memory", line, sizeof(line));

	if (err)
		return err;
	if (line[0] < '0' || line[0] > '2')
		return -EIO;
	*ret_mode = line[0] - '0';
	return 0;
}

int probe_rlimits(uint64_t *ret_address_space_bytes, uint64_t *ret_nr_files)
{
	struct rlimit space, files;

	if (getrlimit(RLIMIT_AS, &space) || getrlimit(RLIMIT_NOFILE, &files))
		return -errno;
	*ret_address_space_bytes = space.rlim_cur == RLIM_INFINITY ? UINT64_MAX : space.rlim_cur;
	*ret_nr_files = files.rlim_max == RLIM_INFINITY ? UINT64_MAX : files.rlim_max;
	return 0;
}
