/* SPDX-License-Identifier: MIT */
/*
 * What this kernel and user can do, put into words: one line of the table below for each feature,
 * one function that tries it and says why not and what helps.
 *
 * The trying is src/os/probe.c's; here is only what an answer means. All of it runs in one child,
 * which writes its answers to memory it shares with us: a probe that hangs or dies takes nothing
 * with it, and what it did not get to is reported as not tried.
 */
#include "pagetide.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "file.h"
#include "limit.h"
#include "probe.h"
#include "sensors.h"
#include "text.h"
#include "uapi.h"

#include <unistd.h>

#define KERNEL_MAJOR 6u
#define KERNEL_MINOR 8u
#define KERNEL_MEND \
	"install a newer kernel, on Debian 12: apt install -t bookworm-backports linux-image-amd64"

#define NR_FILES_WANTED 256u

__attribute__((format(printf, 2, 3)))
static void reason_set(struct tide_feature *feature, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(feature->reason, TIDE_MESSAGE_MAX, format, args);
	va_end(args);
}

__attribute__((format(printf, 2, 3)))
static void mend_set(struct tide_feature *feature, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(feature->mend, TIDE_MESSAGE_MAX, format, args);
	va_end(args);
}

/* What helps where no feature is missing, only something to try it with; NULL: that is not it. */
static const char *shortage_mend(int err)
{
	switch (err) {
	case -EMFILE:
		return "ulimit -Hn 1024";
	case -ENFILE:
	case -ENOMEM:
	case -EAGAIN:
		return "free what is short and try again";
	default:
		return NULL;
	}
}

/* What nearly every refusal comes down to. */
static void refusal_mend_set(struct tide_feature *feature, int err)
{
	const char *mend = shortage_mend(err);

	if (mend)
		mend_set(feature, "%s", mend);
	else if (err == -EPERM || err == -EACCES)
		mend_set(feature, "run as root, or lift the container's seccomp rule against it");
	else
		mend_set(feature, KERNEL_MEND);
}

/* `what` did not work with `err`. */
static void refusal_set(struct tide_feature *feature, const char *what, int err)
{
	if (err == -ENOTRECOVERABLE)
		reason_set(feature, "%s succeeds but does the wrong thing", what);
	else
		reason_set(feature, "%s: %s", what, strerror(-err));
	refusal_mend_set(feature, err);
}

/* ---- the probes: true when present, else reason and mend are set ------------------------------- */

static bool try_kernel(struct tide_feature *feature)
{
	unsigned int major, minor;
	int err = probe_kernel(&major, &minor);

	if (err) {
		reason_set(feature, "the kernel's release cannot be read: %s", strerror(-err));
		mend_set(feature, KERNEL_MEND);
		return false;
	}
	if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR))
		return true;
	reason_set(feature, "this is Linux %u.%u, %u.%u or later is needed to move pages out (UFFDIO_MOVE)",
		   major, minor, KERNEL_MAJOR, KERNEL_MINOR);
	mend_set(feature, KERNEL_MEND);
	return false;
}

/* As pagetide run opens it: the device first, then the call. */
static int uffd_open(int *ret_device_err, int *ret_fd)
{
	*ret_device_err = probe_uffd_device(ret_fd);
	return *ret_device_err ? probe_uffd_call(ret_fd) : 0;
}

static bool try_uffd(struct tide_feature *feature)
{
	int device_err, fd;
	int err = uffd_open(&device_err, &fd);

	if (!err) {
		close(fd);
		return true;
	}
	if (err == -ENOSYS) {
		reason_set(feature, "the kernel is built without it (CONFIG_USERFAULTFD)");
		mend_set(feature, KERNEL_MEND);
		return false;
	}
	reason_set(feature, "/dev/userfaultfd: %s; the system call: %s", strerror(-device_err),
		   strerror(-err));
	if (device_err == -EACCES)
		mend_set(feature, "run as root, or give your group the device: chgrp GROUP /dev/userfaultfd "
				  "&& chmod g+rw /dev/userfaultfd; or sysctl vm.unprivileged_userfaultfd=1");
	else if (err == -EPERM)
		mend_set(feature, "run as root, or sysctl vm.unprivileged_userfaultfd=1; in a container "
				  "also add --device /dev/userfaultfd");
	else
		refusal_mend_set(feature, err);
	return false;
}

static bool outcome_set(struct tide_feature *feature, const char *what, int err)
{
	if (err)
		refusal_set(feature, what, err);
	return !err;
}

/* Call `use` with a fresh descriptor. *ret_err is the outcome, which is also put into words. */
static bool uffd_use(struct tide_feature *feature, const char *what, int (*use)(int fd), int *ret_err)
{
	int device_err, fd;

	if (uffd_open(&device_err, &fd)) {
		reason_set(feature, "not tried: no userfaultfd");
		mend_set(feature, "mend userfaultfd first");
		*ret_err = -ENODEV;
		return false;
	}
	*ret_err = use(fd);
	close(fd);
	return outcome_set(feature, what, *ret_err);
}

static int use_fork_events(int fd)
{
	return probe_uffd_features(fd, UFFD_FEATURE_EVENT_FORK);
}

static bool try_fork_events(struct tide_feature *feature)
{
	int err;

	if (uffd_use(feature, "the fork event", use_fork_events, &err))
		return true;
	if (err == -EPERM)
		mend_set(feature, "run as root, or give the tool the right: setcap cap_sys_ptrace+ep "
				  "/path/to/pagetide");
	return false;
}

static int use_map_events(int fd)
{
	return probe_uffd_features(fd, UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
				       UFFD_FEATURE_EVENT_UNMAP);
}

static bool try_map_events(struct tide_feature *feature)
{
	return uffd_use(feature, "the remap, remove and unmap events", use_map_events, &(int){ 0 });
}

static int use_thread_id(int fd)
{
	return probe_uffd_features(fd, UFFD_FEATURE_THREAD_ID);
}

static bool try_thread_id(struct tide_feature *feature)
{
	return uffd_use(feature, "thread numbers in faults", use_thread_id, &(int){ 0 });
}

static bool try_uffd_missing(struct tide_feature *feature)
{
	return uffd_use(feature, "UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_WAKE", probe_uffd_missing,
			&(int){ 0 });
}

static bool try_uffd_move(struct tide_feature *feature)
{
	return uffd_use(feature, "UFFDIO_MOVE", probe_uffd_move, &(int){ 0 });
}

static bool try_uffd_sigbus(struct tide_feature *feature)
{
	return uffd_use(feature, "the SIGBUS feature", probe_uffd_sigbus, &(int){ 0 });
}

static bool try_pagemap_scan(struct tide_feature *feature)
{
	return outcome_set(feature, "the PAGEMAP_SCAN ioctl of /proc/self/pagemap", probe_pagemap_scan());
}

static bool try_read_child(struct tide_feature *feature)
{
	int err = probe_read_child();

	if (outcome_set(feature, "process_vm_readv on a child", err))
		return true;
	if (err == -EPERM)
		mend_set(feature, "run as root, or sysctl kernel.yama.ptrace_scope=1, or in a container add "
				  "--cap-add SYS_PTRACE");
	return false;
}

static bool try_pidfd(struct tide_feature *feature)
{
	return outcome_set(feature, "pidfd_open", probe_pidfd());
}

static bool try_idle_class(struct tide_feature *feature)
{
	return outcome_set(feature, "SCHED_IDLE", probe_idle_class());
}

static bool try_memory_limit(struct tide_feature *feature)
{
	uint64_t bytes;
	char file[PATH_MAX], size[TEXT_NUMBER_BYTES];
	int err = limit_cgroup("", &bytes, file);

	if (err) {
		reason_set(feature, "no memory controller of a control group can be seen");
		mend_set(feature, "mount one, or set the bound with --memory or --tier dram:SIZE");
		return false;
	}
	if (bytes == UINT64_MAX)
		reason_set(feature, "%.200s: no limit set", file);
	else
		reason_set(feature, "%.200s: %s", file, text_size_format(size, bytes));
	return true;
}

static bool try_huge_pages(struct tide_feature *feature)
{
	char mode[16];
	int err = probe_huge_pages("", mode);

	if (err) {
		reason_set(feature, "the mode of transparent huge pages cannot be read: %s",
			   strerror(-err));
		mend_set(feature, "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE");
		return false;
	}
	reason_set(feature, "mode %s", mode);
	if (strcmp(mode, "never") != 0)
		return true;
	mend_set(feature, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
	return false;
}

static bool try_overcommit(struct tide_feature *feature)
{
	int mode;
	int err = probe_overcommit("", &mode);

	if (!err && mode != 2)
		return true;
	if (err)
		reason_set(feature, "vm.overcommit_memory cannot be read: %s", strerror(-err));
	else
		reason_set(feature, "strict accounting (vm.overcommit_memory=2) counts the pool and its "
				    "tables in full before they are used");
	mend_set(feature, "sysctl vm.overcommit_memory=0");
	return false;
}

static bool try_limits(struct tide_feature *feature)
{
	uint64_t space_bytes, nr_files;
	char size[TEXT_NUMBER_BYTES];
	int err = probe_rlimits(&space_bytes, &nr_files);

	if (err) {
		reason_set(feature, "the process limits cannot be read: %s", strerror(-err));
		mend_set(feature, "lift what forbids getrlimit");
		return false;
	}
	if (space_bytes != UINT64_MAX) {
		reason_set(feature, "address space is limited to %s, and the pool takes much of it unused",
			   text_size_format(size, space_bytes));
		mend_set(feature, "ulimit -v unlimited");
		return false;
	}
	if (nr_files < NR_FILES_WANTED) {
		reason_set(feature, "only %llu files may be open, a large process tree needs more",
			   (unsigned long long)nr_files);
		mend_set(feature, "ulimit -Hn 1024");
		return false;
	}
	return true;
}

/* Its reason is "what is wrong: what helps"; of one that is there, what it never sees. */
static bool try_sensor(struct tide_feature *feature, const char *name, const char *blind)
{
	const char *why = "";
	int err = sensors_probe(name, &why);

	if (!err) {
		reason_set(feature, "%s", blind);
		return true;
	}
	const char *mend = strstr(why, ": ");
	reason_set(feature, "%.*s", mend ? (int)(mend - why) : (int)strlen(why), why);
	mend_set(feature, "%s", mend ? mend + 2 : "none is known: attach takes another sensor");
	return false;
}

static bool try_hint(struct tide_feature *feature)
{
	return try_sensor(feature, "hint",
			  "but of files and shared memory that are only read it sees nothing: idle, perf, damon do");
}

static bool try_idle(struct tide_feature *feature)
{
	return try_sensor(feature, "idle", "");
}

static bool try_perf(struct tide_feature *feature)
{
	return try_sensor(feature, "perf", "but what guests of KVM touch it does not see");
}

static bool try_damon(struct tide_feature *feature)
{
	return try_sensor(feature, "damon", "");
}

static bool try_soft_dirty(struct tide_feature *feature)
{
	return try_sensor(feature, "soft-dirty", "but reads it does not see");
}

static const struct probe {
	const char *name;
	bool needed;
	bool (*try)(struct tide_feature *feature);
} probes[] = {
	{ "kernel", true, try_kernel },
	{ "userfaultfd", true, try_uffd },
	{ "fork-events", true, try_fork_events },
	{ "map-events", true, try_map_events },
	{ "uffdio-missing", true, try_uffd_missing },
	{ "uffdio-move", true, try_uffd_move },
	{ "thread-id", false, try_thread_id },
	{ "sigbus", false, try_uffd_sigbus },
	{ "pagemap-scan", true, try_pagemap_scan },
	{ "read-child", true, try_read_child },
	{ "pidfd", true, try_pidfd },
	{ "idle-class", false, try_idle_class },
	{ "memory-limit", false, try_memory_limit },
	{ "huge-pages", false, try_huge_pages },
	{ "overcommit", false, try_overcommit },
	{ "process-limits", false, try_limits },
	{ "sensor-hint", false, try_hint },
	{ "sensor-idle", false, try_idle },
	{ "sensor-perf", false, try_perf },
	{ "sensor-damon", false, try_damon },
	{ "sensor-soft-dirty", false, try_soft_dirty },
};
#define NR_PROBES (sizeof(probes) / sizeof(probes[0]))
_Static_assert(NR_PROBES <= TIDE_FEATURE_MAX, "the caller's array holds every feature");

/* In the child. */
static void try_all(void *arg)
{
	struct tide_feature *features = arg;
	struct rlimit files;

	file_limit_raise(&files); /* as pagetide run has them; if not, the probes say what is missing */
	for (size_t i = 0; i < NR_PROBES; i++) {
		struct tide_feature found = { .name = probes[i].name, .needed = probes[i].needed };

		/* Said before the probe runs, so that it stands if the probe does not come back. */
		reason_set(&features[i], "trying it did not come back");
		mend_set(&features[i], "report this with the output of uname -a");
		found.present = probes[i].try(&found);
		features[i] = found;
	}
}

int tide_check(struct tide_feature features[TIDE_FEATURE_MAX], size_t *ret_nr)
{
	size_t bytes = NR_PROBES * sizeof(features[0]);
	struct tide_feature *shared = probe_memory(bytes);
	int err;

	if (!shared)
		return -ENOMEM;
	for (size_t i = 0; i < NR_PROBES; i++) {
		shared[i].name = probes[i].name;
		shared[i].needed = probes[i].needed;
		reason_set(&shared[i], "not tried: a probe before it did not come back");
		mend_set(&shared[i], "mend what stands above it first");
	}
	err = probe_in_child(try_all, shared);
	if (err == -ETIMEDOUT || err == -ECANCELED)
		err = 0;
	if (!err) {
		memcpy(features, shared, bytes);
		*ret_nr = NR_PROBES;
	}
	probe_memory_free(shared, bytes);
	return err;
}

int tide_memory_fetch(uint64_t *ret_bytes)
{
	uint64_t total_bytes, available_bytes, group_bytes;
	char file[PATH_MAX];
	int err = limit_machine("", &total_bytes, &available_bytes);

	if (err)
		return err;
	if (limit_cgroup("", &group_bytes, file) == 0 && group_bytes < total_bytes)
		total_bytes = group_bytes;
	*ret_bytes = total_bytes;
	return 0;
}
