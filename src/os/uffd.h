/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: every ioctl once. Addresses are those of the process the descriptor belongs to;
 * all calls but uffd_move() work from any process that holds the descriptor.
 * All return 0 or -errno unless they say otherwise. Thread-safe.
 */
#ifndef TIDE_UFFD_H
#define TIDE_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uapi.h"

/* The device from which one userfaultfd after another is had; whoever has it needs no other right.
 * -ENOENT, -EACCES. */
int uffd_device_open(int *ret_fd);

/* Shake hands. -EPERM: a feature needs CAP_SYS_PTRACE (fork events); -EINVAL: not known here. */
int uffd_api(int fd, uint64_t features);

/* Ask for missing-page faults on a whole mapping. -EBUSY: another userfaultfd has it. What is registered so already
 * stays as it is. */
int uffd_register(int fd, uint64_t address, uint64_t bytes);
int uffd_unregister(int fd, uint64_t address, uint64_t bytes);

/*
 * Install a copy of [src, src + bytes) at dst and wake who waits there. *ret_done is always set:
 * the bytes that were installed, also when an error ended the call.
 * -EAGAIN: the mappings are changing (an event waits to be read); -EEXIST: a page is there already;
 * -ENOENT: no such mapping; -ESRCH: the process is gone; -ENOMEM.
 */
int uffd_copy(int fd, uint64_t dst, const void *src, uint64_t bytes, uint64_t *ret_done);
/* The same, and nobody is woken. */
int uffd_copy_quietly(int fd, uint64_t dst, const void *src, uint64_t bytes, uint64_t *ret_done);
/* uffd_copy() with the shared page of zeros, which counts as no memory until it is written. */
int uffd_zero(int fd, uint64_t dst, uint64_t bytes, uint64_t *ret_done);
/* Let who waits in the range fault again. */
int uffd_wake(int fd, uint64_t address, uint64_t bytes);

/* Whether the process is just changing its mappings: an event waits to be read, is about to be sent, or its
 * thread has not woken yet. */
bool uffd_changing(int fd);

/* Whether a range lies in one mapping of anonymous memory that is registered, with this descriptor or another: 1
 * or 0. -EAGAIN: the mappings are changing; -ESRCH: the process is gone. Leaves everything as it is. */
int uffd_registered(int fd, uint64_t address, uint64_t bytes);

/* Whether the process (its address space) still exists. */
bool uffd_alive(int fd);

#endif
