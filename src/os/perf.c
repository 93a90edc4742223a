/* SPDX-License-Identifier: MIT */
#include "perf.h"

#include <asm/perf_regs.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

#define PAGE 4096u
#define SAMPLE_TYPE \
	(PERF_SAMPLE_IDENTIFIER | PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR | PERF_SAMPLE_CPU)
#define ARM_FUNCTION "change_prot_numa" /* (mapping, start, end) */
#define GUEST_FUNCTION "get_user_pages_unlocked" /* (address, ...): KVM calls it, and hardly anybody else */
#define PROBE_AT_RETURN 1u
#define DEVICES "/sys/bus/event_source/devices/"
#define LOAD_LATENCY 64u           /* cycles: what the near caches hold is not asked for */
#define PEBS_PERIOD 997u           /* events between two samples */
#define IBS_COUNT_OPS (1u << 19)   /* operations, not cycles */
#define IBS_PERIOD 262144u         /* a multiple of 16 */
/* The result, and the third, second and first argument of a function, as registers are numbered. */
#define REGISTERS \
	(1u << PERF_REG_X86_AX | 1u << PERF_REG_X86_DX | 1u << PERF_REG_X86_SI | 1u << PERF_REG_X86_DI)

/* What SAMPLE_TYPE makes of a sample: the order is the kernel's. */
struct sample {
	struct perf_event_header header;
	uint64_t id;
	uint32_t pid, tid;
	uint64_t time_ns;
	uint64_t address;
	uint32_t cpu, reserved;
};

struct sample_registers {
	struct sample sample;
	uint64_t abi, ax, dx, si, di;
};

struct lost {
	struct perf_event_header header;
	uint64_t id, nr;
};

struct fork {
	struct perf_event_header header;
	uint32_t pid, parent_pid, tid, parent_tid;
	uint64_t time_ns;
};

static enum perf_kind kind_of(uint64_t id, const struct perf_ids *ids)
{
	for (unsigned kind = 0; kind < PERF_EVENTS; kind++)
		if (ids->id[kind] == id)
			return (enum perf_kind)kind;
	return PERF_OTHER;
}

/* While a guest ran: the addresses are its own. */
static bool guest_mode(uint16_t misc)
{
	unsigned mode = misc & PERF_RECORD_MISC_CPUMODE_MASK;

	return mode == PERF_RECORD_MISC_GUEST_KERNEL || mode == PERF_RECORD_MISC_GUEST_USER;
}

static struct perf_record sample_decode(const void *data, size_t bytes, const struct perf_ids *ids)
{
	struct sample_registers whole = { 0 };
	const struct sample *sample = &whole.sample;

	memcpy(&whole, data, bytes < sizeof whole ? bytes : sizeof whole);
	struct perf_record record = {
		.kind = kind_of(sample->id, ids),
		.time_ns = sample->time_ns,
		.address = sample->address,
		.pid = sample->pid,
		.tid = sample->tid,
		.cpu = sample->cpu,
	};
	if (guest_mode(sample->header.misc))
		record.kind = PERF_OTHER;
	if (record.kind == PERF_TOUCH || record.kind == PERF_OTHER)
		return record;
	bool begin = record.kind == PERF_ARM_BEGIN;
	if (bytes < sizeof whole || whole.abi != PERF_SAMPLE_REGS_ABI_64 ||
	    (begin && whole.si >= whole.dx))
		record.kind = PERF_OTHER;
	record.address = begin ? whole.si : record.kind == PERF_GUEST ? whole.di : 0;
	record.end = begin ? whole.dx : 0;
	record.nr_armed = record.kind == PERF_ARM_END ? whole.ax : 0;
	return record;
}

int perf_decode(const void *data, size_t bytes, const struct perf_ids *ids,
		struct perf_record *ret_record, size_t *ret_bytes)
{
	struct perf_event_header header;
	struct perf_record record = { .kind = PERF_OTHER };

	if (bytes < sizeof header)
		return -EAGAIN;
	memcpy(&header, data, sizeof header);
	if (header.size < sizeof header || header.size % 8)
		return -EBADMSG;
	if (header.size > bytes)
		return -EAGAIN;
	if (header.type == PERF_RECORD_SAMPLE && header.size >= sizeof(struct sample)) {
		record = sample_decode(data, header.size, ids);
	} else if (header.type == PERF_RECORD_LOST && header.size >= sizeof(struct lost)) {
		struct lost lost;
		memcpy(&lost, data, sizeof lost);
		record.kind = PERF_LOST;
		record.nr_lost = lost.nr;
	} else if (header.type == PERF_RECORD_FORK && header.size >= sizeof(struct fork)) {
		struct fork fork;
		memcpy(&fork, data, sizeof fork);
		record.kind = PERF_FORK;
		record.pid = fork.pid;
		record.tid = fork.tid;
		record.parent = fork.parent_pid;
		record.time_ns = fork.time_ns;
	}
	*ret_record = record;
	*ret_bytes = header.size;
	return 0;
}

/* The number of a source of events. -ENOENT: there is none. */
static int type_read(const char *root, const char *device, uint32_t *ret_type)
{
	char text[32];
	unsigned type;

	if (file_read(root, text, sizeof text, DEVICES "%s/type", device) ||
	    sscanf(text, "%u", &type) != 1 || !type)
		return -ENOENT;
	*ret_type = type;
	return 0;
}

int perf_probe_type(const char *root, uint32_t *ret_type)
{
	return type_read(root, "kprobe", ret_type);
}

/* Of a thread wherever it runs, or, tid -1, of all that run on a CPU. */
static int event_open(pid_t tid, int cpu, struct perf_event_attr *attr)
{
	attr->size = sizeof *attr;
	if (!attr->sample_period)
		attr->sample_period = 1;
	attr->sample_type |= SAMPLE_TYPE;
	attr->use_clockid = 1;
	attr->clockid = CLOCK_MONOTONIC;
	long fd = syscall(SYS_perf_event_open, attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : (int)fd;
}

static void event_close(struct perf_ring *ring, enum perf_kind kind)
{
	if (ring->fds[kind] >= 0)
		close(ring->fds[kind]);
	ring->fds[kind] = -1;
}

/* The ring of an event that is open; it is closed when there can be none. */
static int ring_make(pid_t tid, int fd, enum perf_kind kind, size_t ring_bytes, struct perf_ring *ret_ring)
{
	struct perf_ring ring = { .fds = { -1, -1, -1, -1 }, .tid = tid, .bytes = ring_bytes };

	ring.map = mmap(NULL, PAGE + ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring.map == MAP_FAILED || ioctl(fd, PERF_EVENT_IOC_ID, &ring.ids.id[kind])) {
		int error = errno == EPERM ? -ENOMEM : -errno;
		if (ring.map != MAP_FAILED)
			munmap(ring.map, PAGE + ring_bytes);
		close(fd);
		return error;
	}
	ring.fds[kind] = fd;
	*ret_ring = ring;
	return 0;
}

/* Have the records of another event, or of none if `fd` is an error, in the ring that `first` has. */
static int ring_join(struct perf_ring *ring, enum perf_kind first, enum perf_kind kind, int fd)
{
	if (fd < 0)
		return fd;
	ring->fds[kind] = fd;
	if (!ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, ring->fds[first]) &&
	    !ioctl(fd, PERF_EVENT_IOC_ID, &ring->ids.id[kind]))
		return 0;
	int error = -errno;
	event_close(ring, kind);
	return error;
}

static int faults_open(pid_t tid, bool kernel_too, size_t ring_bytes)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.exclude_kernel = !kernel_too,
		.exclude_hv = 1,
		.task = 1,
		.watermark = 1,
		.wakeup_watermark = (uint32_t)(ring_bytes / 2),
	};
	return event_open(tid, -1, &attr);
}

int perf_ring_open(pid_t tid, size_t ring_bytes, struct perf_ring *ret_ring)
{
	int fd = faults_open(tid, true, ring_bytes);

	if (fd == -EACCES || fd == -EPERM)
		fd = faults_open(tid, false, ring_bytes);
	return fd < 0 ? fd : ring_make(tid, fd, PERF_TOUCH, ring_bytes, ret_ring);
}

static int probe_open(pid_t tid, int cpu, uint32_t type, const char *function, bool at_return)
{
	struct perf_event_attr attr = {
		.type = type,
		.config = at_return ? PROBE_AT_RETURN : 0,
		.kprobe_func = (uintptr_t)function,
		.exclude_hv = 1,
		.sample_type = PERF_SAMPLE_REGS_INTR,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED,
		.sample_regs_intr = REGISTERS,
	};
	return event_open(tid, cpu, &attr);
}

int perf_ring_open_arms(unsigned int cpu, size_t ring_bytes, uint32_t probe_type, struct perf_ring *ret_ring)
{
	struct perf_ring ring;
	int fd = probe_open(-1, (int)cpu, probe_type, ARM_FUNCTION, false);
	int error = fd < 0 ? fd : ring_make(-1, fd, PERF_ARM_BEGIN, ring_bytes, &ring);

	if (error)
		return error;
	error = ring_join(&ring, PERF_ARM_BEGIN, PERF_ARM_END,
			  probe_open(-1, (int)cpu, probe_type, ARM_FUNCTION, true));
	if (error)
		perf_ring_close(&ring);
	else
		*ret_ring = ring;
	return error;
}

int perf_ring_open_starts(unsigned int cpu, size_t ring_bytes, struct perf_ring *ret_ring)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.exclude_kernel = 1,
		.exclude_hv = 1,
		.task = 1,
		.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED,
	};
	int fd = event_open(-1, (int)cpu, &attr);

	return fd < 0 ? fd : ring_make(-1, fd, PERF_TOUCH, ring_bytes, ret_ring);
}

uint64_t perf_ring_enabled_ns(const struct perf_ring *ring)
{
	int fd = ring->fds[PERF_TOUCH] >= 0 ? ring->fds[PERF_TOUCH] : ring->fds[PERF_ARM_BEGIN];
	struct {
		uint64_t count, enabled_ns;
	} now;

	return read(fd, &now, sizeof now) == sizeof now ? now.enabled_ns : 0;
}

int perf_ring_guests(struct perf_ring *ring, uint32_t probe_type)
{
	return ring_join(ring, PERF_TOUCH, PERF_GUEST,
			 probe_type ? probe_open(ring->tid, -1, probe_type, GUEST_FUNCTION, false) : -ENOENT);
}

/* ---- accesses that the CPU samples ---- */

/* "event=0xcd,umask=0x1,ldlat=3": where the terms go is the same on all CPUs that have PEBS. */
static int pebs_find(const char *root, const char *device, struct perf_memory *ret_memory)
{
	char text[128];
	unsigned event, umask;
	uint32_t type;

	if (type_read(root, device, &type))
		return -ENOENT;
	/* Where loads need a second event beside them only stores are sampled. */
	bool loads = file_read(root, text, sizeof text, DEVICES "%s/events/mem-loads-aux", device) != 0;
	if (file_read(root, text, sizeof text, DEVICES "%s/events/%s", device,
		      loads ? "mem-loads" : "mem-stores"))
		return -ENOENT;
	if (sscanf(text, "event=%x,umask=%x", &event, &umask) != 2)
		return -ENOENT;
	*ret_memory = (struct perf_memory){
		.type = type,
		.config = event | umask << 8,
		.config1 = loads ? LOAD_LATENCY : 0,
		.period = PEBS_PERIOD,
		.precise = true,
	};
	return 0;
}

int perf_memory_find(const char *root, struct perf_memory *ret_memory)
{
	uint32_t type;

	if (!type_read(root, "ibs_op", &type)) {
		*ret_memory = (struct perf_memory){
			.type = type,
			.config = IBS_COUNT_OPS,
			.period = IBS_PERIOD,
			.unfiltered = true,
		};
		return 0;
	}
	return pebs_find(root, "cpu", ret_memory) ? pebs_find(root, "cpu_core", ret_memory) : 0;
}

int perf_ring_open_memory(pid_t tid, size_t ring_bytes, const struct perf_memory *memory,
			  struct perf_ring *ret_ring)
{
	struct perf_event_attr attr = {
		.type = memory->type,
		.config = memory->config,
		.config1 = memory->config1,
		.sample_period = memory->period,
		.precise_ip = memory->precise ? 2 : 0,
		.exclude_kernel = !memory->unfiltered,
		.exclude_hv = !memory->unfiltered,
		.exclude_guest = !memory->unfiltered,
		.task = 1,
		.watermark = 1,
		.wakeup_watermark = (uint32_t)(ring_bytes / 2),
	};
	int fd = event_open(tid, -1, &attr);

	return fd < 0 ? fd : ring_make(tid, fd, PERF_TOUCH, ring_bytes, ret_ring);
}

void perf_ring_close(struct perf_ring *ring)
{
	for (unsigned kind = PERF_EVENTS; kind-- > 0;)
		event_close(ring, (enum perf_kind)kind);
	munmap(ring->map, PAGE + ring->bytes);
}

/* Copy what may wrap round the end of the ring. */
static void ring_copy(const struct perf_ring *ring, uint64_t at, void *to, size_t bytes)
{
	const char *data = ring->map + PAGE;
	size_t from = (size_t)(at & (ring->bytes - 1));
	size_t first = ring->bytes - from < bytes ? ring->bytes - from : bytes;

	memcpy(to, data + from, first);
	memcpy((char *)to + first, data, bytes - first);
}

size_t perf_ring_read(struct perf_ring *ring, void (*visit)(void *arg, const struct perf_record *record),
		      void *arg)
{
	struct perf_event_mmap_page *control = (void *)ring->map;
	/* Acquire: pairs with the kernel's release of data_head. */
	uint64_t head = __atomic_load_n(&control->data_head, __ATOMIC_ACQUIRE);
	size_t nr = 0;

	while (ring->tail < head) {
		struct perf_record record;
		char buffer[256];
		size_t left = (size_t)(head - ring->tail), used;
		size_t bytes = left < sizeof buffer ? left : sizeof buffer;

		ring_copy(ring, ring->tail, buffer, bytes);
		if (perf_decode(buffer, bytes, &ring->ids, &record, &used)) {
			/* Longer than anything we asked for, or broken: begin again at the head. */
			ring->tail = head;
			break;
		}
		ring->tail += used;
		visit(arg, &record);
		nr++;
	}
	/* Release: the kernel may write there only after we have read. */
	__atomic_store_n(&control->data_tail, ring->tail, __ATOMIC_RELEASE);
	return nr;
}
