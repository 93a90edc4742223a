/* SPDX-License-Identifier: MIT */
/*
 * What /proc tells about another process, and reading its memory.
 *
 * Every reader takes an open directory descriptor of /proc/PID (or of a recorded copy of one), so
 * that it keeps meaning the same process when a PID is reused, and tests can feed files.
 * All return 0 or -errno; -ESRCH when the process is gone. Thread-safe.
 */
#ifndef TIDE_PROC_H
#define TIDE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

int proc_open(pid_t pid, int *ret_dir);
/* Below a root folder ("" for the running system). */
int proc_open_below(const char *root, pid_t pid, int *ret_dir);

/* One of the files in it: "numa_maps". NULL and errno. */
FILE *proc_file(int dir, const char *name);

struct proc_mapping {
	uint64_t start, end; /* addresses */
	bool read, write, execute, shared;
	bool anonymous;      /* no file behind it */
	bool stack;          /* the main stack */
	bool special;        /* [vdso] and its like */
	bool heap;
	bool vcpu;           /* what KVM shares of a virtual CPU: the process runs a guest */
	uint64_t offset, device, inode; /* of the file, 0 without one */
	const char *path;    /* as the kernel names it, "" without one; until `visit` returns */
	/* From smaps only: */
	bool locked;         /* mlock */
	bool uffd;           /* registered with some userfaultfd */
	bool huge;           /* MADV_HUGEPAGE */
	bool thp;            /* may get huge pages, all settings considered */
	bool wiped;          /* MADV_WIPEONFORK: empty in a child */
	bool kept;           /* MADV_DONTFORK: not in a child */
	bool pinned_kind;    /* VM_IO, VM_PFNMAP, hugetlb: nothing we may move */
	uint32_t page_bytes; /* what the kernel maps it with at least; more than 4096: hugetlb */
	uint64_t kind;       /* of its flags: the same for two that have the same */
};

/*
 * Call `visit` for each mapping in address order; a non-zero return of it ends the walk and is
 * returned. `flags`: read smaps (slower: it walks page tables) to learn the fields so marked. -ESRCH: it has
 * ended.
 */
int proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping),
		  void *arg);

/*
 * Which file a mapping from `start` to `end` has, as stat(2) says, by its device (as above) and inode; a file system
 * is asked for what it knows without asking a server. -ENOENT: there is no such mapping of a file; -EPERM: it needs
 * CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
 */
int proc_mapping_file(int dir, uint64_t start, uint64_t end, uint64_t *ret_device, uint64_t *ret_inode);

/* Whether it runs a guest of KVM; false also when it cannot be looked at. */
bool proc_runs_guests(int dir);

/* Pages of address space, and resident anonymous pages (swap not counted). */
int proc_statm(int dir, uint64_t *ret_size_pages, uint64_t *ret_anon_pages);
/* For who asks often: opening the file takes longer than reading it does. The caller closes it. */
int proc_statm_open(int dir, int *ret_file);
int proc_statm_read(int file, uint64_t *ret_size_pages, uint64_t *ret_anon_pages);

/* Proportional share of resident anonymous memory, in bytes: exact with forked children. Slow. */
int proc_pss_anon(int dir, uint64_t *ret_bytes);

/* Parent process; state letter as in ps (T: stopped). */
int proc_parent(pid_t pid, pid_t *ret_parent);
int proc_state(pid_t pid, char *ret_state);
/* Whether two processes share their memory, as after vfork. False where that cannot be asked. */
bool proc_same_memory(pid_t one, pid_t other);
/* Call `visit` for each process below a root folder (see file.h) until it returns non-zero, which is
 * returned. */
int proc_pids(const char *root, int (*visit)(void *arg, pid_t pid), void *arg);
/* The same with its parent. */
int proc_parents(const char *root, int (*visit)(void *arg, pid_t pid, pid_t parent), void *arg);
/* The CPU that a thread ran on last. */
int proc_cpu(pid_t tid, int *ret_cpu);
/* Call `visit` for each thread: its state letter, and the CPU that it ran on last. -EMFILE, -ENFILE: not all
 * could be looked at. */
int proc_threads(int dir, void (*visit)(void *arg, pid_t tid, char state, int cpu), void *arg);

struct proc_leaving {
	uint64_t start, end;
	uint64_t to;   /* where that is, if the caller says so; 0: it does not */
	bool moved;    /* to be had elsewhere (mremap) */
};

/*
 * Call `visit` for what each thread has taken away from it by the system call in which it sleeps until that is known to
 * whom it concerns (an event of a userfaultfd): one that makes smaller and moves takes two. Who sleeps in such a call
 * for anything else has not taken it yet, or has told all.
 * *ret_nr, *ret_running: how many threads there are, and of them do not sleep, or may be about to tell. -EPERM: it may
 * not be looked at, or the kernel does not say what they sleep for.
 */
int proc_leavings(int dir, void (*visit)(void *arg, const struct proc_leaving *leaving), void *arg,
		  unsigned *ret_nr, unsigned *ret_running);

/* An mremap in which a thread sleeps: its arguments, the lengths as whole pages, and where its stack is. */
struct proc_remap {
	uint64_t from, old_bytes, bytes, flags, to, stack;
};
/* -ENOENT: it runs, or sleeps in something else. */
int proc_remap(pid_t tid, struct proc_remap *ret_call);

/* What tells the program in a process from the one before an exec: a number made of its start time
 * and of where its code and stack begin. */
int proc_image(int dir, uint64_t *ret_image);

/* When it was started, on the clock CLOCK_BOOTTIME: not later than that, and within a tick of it. */
int proc_started(int dir, uint64_t *ret_ns);

/* The number of its namespace of System V IPC: in each, segments of shared memory are numbered anew. */
int proc_ipc_namespace(int dir, uint64_t *ret_number);

/* The value of a line of status, "VmLck", in kB, or 0 when there is no such line. */
int proc_status_kib(int dir, const char *name, uint64_t *ret_kib);
/* The text behind the name of a line of status: "Mems_allowed_list". -ENOENT: no such line. */
int proc_status_text(int dir, const char *name, char *text, size_t bytes);
/* Whether a process has more numbers than the one it has here: it is in a PID namespace below ours. */
bool proc_numbered_apart(int dir);
/* Whether the numbers of processes in /proc, below a root folder, are ours: it is that of our PID namespace. */
bool proc_ours(const char *root);

/* Whether the environment that the process's program began with has the entry "NAME=value". */
bool proc_environ_has(pid_t pid, const char *entry);

/*
 * Call `visit` for each run of present pages (in memory now, whether huge or not) in
 * [start, end) addresses of the process, in order.
 */
int proc_present(int dir, uint64_t start, uint64_t end,
		 void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);

/* The same of all pages that have something in them, also swapped out or just migrating; and of guard pages. */
int proc_filled(int dir, uint64_t start, uint64_t end,
		void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);

/* Copy from another process' memory; all bytes or an error. -EFAULT: not mapped. */
int proc_read(pid_t pid, uint64_t address, void *buffer, size_t bytes);

/* The memory of a process: it stays the same memory, whatever becomes of the process's number.
 * -EIO, -EFAULT: not mapped, or the memory is gone. */
int proc_memory_open(int dir, int *ret_fd);
int proc_memory_read(int fd, uint64_t address, void *buffer, size_t bytes);
int proc_memory_write(int fd, uint64_t address, const void *buffer, size_t bytes);

struct iovec;
int proc_readv(pid_t pid, const struct iovec *remote, size_t nr, void *buffer, size_t bytes);

#endif
