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
#include <sys/types.h>

int proc_open(pid_t pid, int *ret_dir);

struct proc_mapping {
	uint64_t start, end; /* addresses */
	bool read, write, execute, shared;
	bool anonymous;      /* no file behind it */
	bool stack;          /* the main stack */
	bool special;        /* [vdso] and its like */
	/* From smaps only: */
	bool locked;         /* mlock */
	bool uffd;           /* registered with some userfaultfd */
	bool huge;           /* MADV_HUGEPAGE */
	bool wiped;          /* MADV_WIPEONFORK: empty in a child */
	bool pinned_kind;    /* VM_IO, VM_PFNMAP, hugetlb: nothing we may move */
};

/*
 * Call `visit` for each mapping in address order; a non-zero return of it ends the walk and is
 * returned. `flags`: read smaps (slower: it walks page tables) to learn the fields so marked.
 */
int proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping),
		  void *arg);

/* Pages of address space, and resident anonymous pages (swap not counted). */
int proc_statm(int dir, uint64_t *ret_size_pages, uint64_t *ret_anon_pages);

/* Proportional share of resident anonymous memory, in bytes: exact with forked children. Slow. */
int proc_pss_anon(int dir, uint64_t *ret_bytes);

/* Parent process; state letter as in ps (T: stopped). */
int proc_parent(pid_t pid, pid_t *ret_parent);
int proc_state(pid_t pid, char *ret_state);
/* The CPU that a thread ran on last. */
int proc_cpu(pid_t tid, int *ret_cpu);

/*
 * Call `visit` for each run of present pages (in memory now, whether huge or not) in
 * [start, end) addresses of the process, in order.
 */
int proc_present(int dir, uint64_t start, uint64_t end,
		 void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);

/* Copy from another process' memory; all bytes or an error. -EFAULT: not mapped. */
int proc_read(pid_t pid, uint64_t address, void *buffer, size_t bytes);

struct iovec;
int proc_readv(pid_t pid, const struct iovec *remote, size_t nr, void *buffer, size_t bytes);

/* Whether two processes share their address space. -EPERM, -ENOSYS. 1, 0. */
int proc_same_memory(pid_t a, pid_t b);

#endif
