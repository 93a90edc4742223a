/* SPDX-License-Identifier: MIT */
/*
 * What this kernel and user can do, each found out by doing it once on memory, descriptors and
 * processes made for that.
 *
 * Asking by version or by a list of features is not enough: containers forbid calls that the kernel
 * has, and distributions add or drop features. Every probe puts back what it changed, as far as it
 * can; run them in a child all the same (probe_in_child()).
 * All return 0 when it works, else -errno; -ENOTRECOVERABLE: the call succeeded and did the wrong
 * thing.
 */
#ifndef TIDE_PROBE_H
#define TIDE_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory that a child shares with us. NULL when there is none. */
void *probe_memory(size_t bytes);
void probe_memory_free(void *memory, size_t bytes);

/*
 * Run `work` in a child and wait for it. -ETIMEDOUT: not done within ten seconds, and ended;
 * -EAGAIN, -ENOMEM: no child; -ECANCELED: the child died. Not thread-safe.
 */
int probe_in_child(void (*work)(void *arg), void *arg);

/* Release of the running kernel. */
int probe_kernel(unsigned int *ret_major, unsigned int *ret_minor);

/*
 * A userfaultfd that also sees faults inside system calls, made through /dev/userfaultfd, or by the
 * system call. Device: -ENOENT none, -EACCES no right. Call: -EPERM neither CAP_SYS_PTRACE nor
 * vm.unprivileged_userfaultfd = 1, or forbidden by a container; -ENOSYS not built in. The call is made
 * with the rights that a program has which we execute: not those of our own file (setcap).
 */
int probe_uffd_device(int *ret_fd);
int probe_uffd_call(int *ret_fd);

/* With a descriptor fresh from above; the handshake is made here, once for each descriptor. */
int probe_uffd_features(int fd, uint64_t features);
/* Install a copy, install zeros, wake: and the bytes are right. */
int probe_uffd_missing(int fd);
/* A page moved from one mapping to another: it is there, and gone from here. */
int probe_uffd_move(int fd);
/* A touch of a missing page fails instead of waiting. */
int probe_uffd_sigbus(int fd);

/* PAGEMAP_SCAN tells the touched page of two from the untouched one. */
int probe_pagemap_scan(void);
/* The kernel marks who was written since marks were cleared. -ENOTSUP: it does not. */
int probe_soft_dirty(void);
/* process_vm_readv() of a child's memory gives the child's bytes. */
int probe_read_child(void);
/* pidfd_open() of a child; the descriptor becomes readable when it ends. */
int probe_pidfd(void);
/* SCHED_IDLE can be entered. */
int probe_idle_class(void);

/* Files of the kernel, below a root folder ("" for the running system). */
/* The mode of transparent huge pages: always, madvise or never. */
int probe_huge_pages(const char *root, char ret_mode[16]);
/* vm.overcommit_memory: 0 by heuristic, 1 always, 2 strictly accounted. */
int probe_overcommit(const char *root, int *ret_mode);

/* The soft bound of this process on address space, and the hard one on open files, as far as we go;
 * UINT64_MAX for none. */
int probe_rlimits(uint64_t *ret_address_space_bytes, uint64_t *ret_nr_files);

#endif
