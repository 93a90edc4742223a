/* SPDX-License-Identifier: MIT */
/*
 * What threads do with their page tables, as the kernel's events tell it: every page fault of a thread,
 * with address, processor and time; and, of all that run on a CPU, every time when one makes pages
 * inaccessible for NUMA balancing (the kernel lets a process do that to itself), with the range. In rings
 * that the kernel writes and we read.
 *
 * Beside faults, accesses that the CPU samples by itself (PEBS, IBS), where it can: the process's own.
 * Those of a guest that it runs have addresses of the guest, and are passed over.
 *
 * Faults are a software event of period 1: no hardware is needed, and the kernel does not throttle
 * it. Ranges come from a probe at the kernel's function (kprobe), where that is permitted: one for each
 * CPU and not for each thread, for the kernel lets wait whoever closes one for several tens of
 * milliseconds, and calls all that there are. When a ring is full records are lost, and their number is
 * told. That a thread starts another is told in the ring of its faults.
 *
 * A ring is read by one thread at a time.
 */
#ifndef TIDE_PERF_H
#define TIDE_PERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum perf_kind {
	PERF_TOUCH,
	PERF_ARM_BEGIN, /* [address, end) becomes inaccessible */
	PERF_ARM_END,   /* it is done, for so many pages (huge ones count as one) */
	PERF_GUEST,     /* a guest that the thread runs touched a page that the kernel then looked for */
	PERF_FORK,
	PERF_LOST,
	PERF_OTHER,
	PERF_KINDS
};

struct perf_record {
	enum perf_kind kind;
	uint64_t time_ns;       /* TOUCH, GUEST, ARM, FORK: CLOCK_MONOTONIC */
	uint64_t address, end;  /* TOUCH, GUEST: address (of the process); ARM_BEGIN: both */
	uint64_t nr_lost;       /* LOST */
	uint64_t nr_armed;      /* ARM_END */
	uint32_t pid, tid;      /* TOUCH, GUEST, ARM: who; FORK: the new thread */
	uint32_t parent;        /* FORK: the process that began it */
	uint32_t cpu;           /* TOUCH, GUEST */
};

#define PERF_EVENTS (PERF_GUEST + 1)
/* What the kernel calls the events of one ring; 0: there is none. */
struct perf_ids {
	uint64_t id[PERF_EVENTS];
};

/*
 * Read the record at the start of `bytes`, and how long it is. -EAGAIN: it is not all there;
 * -EBADMSG: this is no record. Records of kinds or lengths that we do not know are PERF_OTHER.
 */
int perf_decode(const void *data, size_t bytes, const struct perf_ids *ids,
		struct perf_record *ret_record, size_t *ret_bytes);

/* An event of the CPU that samples accesses to memory, with their addresses. */
struct perf_memory {
	uint32_t type;
	uint64_t config, config1, period;
	bool precise;    /* PEBS: asked for as such */
	bool unfiltered; /* IBS: samples the kernel, too, and cannot be told not to */
};

/* The one that this machine names in sysfs. -ENOENT: none. */
int perf_memory_find(const char *root, struct perf_memory *ret_memory);

struct perf_ring {
	int fds[PERF_EVENTS]; /* -1: none */
	struct perf_ids ids;
	pid_t tid;       /* -1: of a CPU */
	char *map;       /* a page of control, then the data */
	size_t bytes;    /* of data: a power of two */
	uint64_t tail;
};

/*
 * Begin to record thread `tid`: faults in user and, where permitted, in kernel mode. ring_bytes: a power of
 * two of at least a page.
 * -ESRCH: it ended; -EACCES, -EPERM: needs CAP_PERFMON, or its user and perf_event_paranoid <= 2;
 * -EMFILE, -ENOMEM (also: more locked memory than permitted); -ENOENT, -ENOSYS: the kernel cannot.
 */
int perf_ring_open(pid_t tid, size_t ring_bytes, struct perf_ring *ret_ring);
/* Begin to record the ranges that become inaccessible on a CPU, whoever runs there: PERF_ARM_BEGIN, and
 * PERF_ARM_END, which may come to another CPU. -ENODEV: the CPU is not online; else as above. */
int perf_ring_open_arms(unsigned int cpu, size_t ring_bytes, uint32_t probe_type, struct perf_ring *ret_ring);
/* Begin to record who begins a process or a thread on a CPU, whoever it is: PERF_FORK. Errors as above. */
int perf_ring_open_starts(unsigned int cpu, size_t ring_bytes, struct perf_ring *ret_ring);
/*
 * For how long the events of a CPU's ring have been there, ns. It stands still from when the CPU goes offline, and
 * does not go on when that is back: its ring stays without records. 0: it cannot be told, or so it is.
 */
uint64_t perf_ring_enabled_ns(const struct perf_ring *ring);
/*
 * Have what guests of KVM touch in the same ring: for such a touch the kernel takes the path of a fault,
 * but tells no fault, for it is none of the thread's. Only what is inaccessible or not there is looked
 * for, and several times while it cannot be had. Errors as above; with probe_type 0, -ENOENT.
 */
int perf_ring_guests(struct perf_ring *ring, uint32_t probe_type);
static inline bool perf_ring_has_guests(const struct perf_ring *ring)
{
	return ring->fds[PERF_GUEST] >= 0;
}
/* Begin to record what an event samples of a thread: PERF_TOUCH. As above; -ENOENT, -EOPNOTSUPP,
 * -EINVAL, -ENODATA: the machine names the event, but has it not. */
int perf_ring_open_memory(pid_t tid, size_t ring_bytes, const struct perf_memory *memory,
			  struct perf_ring *ret_ring);
void perf_ring_close(struct perf_ring *ring);

/* Hand every record to `visit`. Returns how many there were; a ring that makes no sense is emptied. */
size_t perf_ring_read(struct perf_ring *ring, void (*visit)(void *arg, const struct perf_record *record),
		      void *arg);

/* The number of the kernel's source of events for probes. -ENOENT: it has none. */
int perf_probe_type(const char *root, uint32_t *ret_type);

#endif
