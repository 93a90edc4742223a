/* SPDX-License-Identifier: MIT */
/*
 * Reading the kernel's records: bytes as a 6.12 kernel wrote them, and bytes that nobody would write.
 * And the faults of this very process, where that is permitted.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "perf.h"
#include "tree.h"

static const struct perf_ids ids = { { 11, 12, 13, 14 } };

/* A fault at 0x7f0c3d2b7000 by thread 161 of process 158 on CPU 1, 21.25 s after boot. */
static const uint64_t fault[] = {
	UINT64_C(48) << 48 | UINT64_C(2) << 32 | 9, 11, UINT64_C(161) << 32 | 158,
	UINT64_C(21250000000), UINT64_C(0x7f0c3d2b7000), 1,
};
/* It makes [0x7f0c3d000000, 0x7f0c41000000) inaccessible: registers ax, dx, si, di. */
static const uint64_t arm_begin[] = {
	UINT64_C(88) << 48 | UINT64_C(1) << 32 | 9, 12, UINT64_C(161) << 32 | 158,
	UINT64_C(21250000100), UINT64_C(0xffffffff8a2c1234), 1, 2, 0,
	UINT64_C(0x7f0c41000000), UINT64_C(0x7f0c3d000000), UINT64_C(0xffff8c1243568000),
};
static const uint64_t arm_end[] = {
	UINT64_C(88) << 48 | UINT64_C(1) << 32 | 9, 13, UINT64_C(161) << 32 | 158,
	UINT64_C(21250002100), UINT64_C(0xffffffff8a2c1234), 1, 2, 16384, 7, 8, 9,
};
/* Its guest touched 0x7f0c3d2b8000. */
static const uint64_t guest[] = {
	UINT64_C(88) << 48 | UINT64_C(1) << 32 | 9, 14, UINT64_C(161) << 32 | 158,
	UINT64_C(21250000200), UINT64_C(0xffffffff8a2d2345), 0, 2, 5, UINT64_C(0xffffa1c2000c3b38), 1,
	UINT64_C(0x7f0c3d2b8000),
};
static const uint64_t lost[] = { UINT64_C(24) << 48 | 2, 11, 4522 };
static const uint64_t forked[] = {
	UINT64_C(32) << 48 | 7, UINT64_C(158) << 32 | 158, UINT64_C(161) << 32 | 170, 21250000000,
};

static struct perf_record decode(const uint64_t *words, size_t bytes)
{
	struct perf_record record;
	size_t used;

	assert_int_equal(perf_decode(words, bytes, &ids, &record, &used), 0);
	assert_int_equal(used, bytes);
	return record;
}

static void what_a_kernel_wrote(void **state)
{
	struct perf_record record = decode(fault, sizeof fault);

	(void)state;
	assert_int_equal(record.kind, PERF_TOUCH);
	assert_int_equal(record.address, 0x7f0c3d2b7000);
	assert_int_equal(record.pid, 158);
	assert_int_equal(record.tid, 161);
	assert_int_equal(record.cpu, 1);
	assert_int_equal(record.time_ns, 21250000000);
	record = decode(arm_begin, sizeof arm_begin);
	assert_int_equal(record.kind, PERF_ARM_BEGIN);
	assert_int_equal(record.address, 0x7f0c3d000000);
	assert_int_equal(record.end, 0x7f0c41000000);
	record = decode(arm_end, sizeof arm_end);
	assert_int_equal(record.kind, PERF_ARM_END);
	assert_int_equal(record.nr_armed, 16384);
	record = decode(guest, sizeof guest);
	assert_int_equal(record.kind, PERF_GUEST);
	assert_int_equal(record.address, 0x7f0c3d2b8000);
	record = decode(lost, sizeof lost);
	assert_int_equal(record.kind, PERF_LOST);
	assert_int_equal(record.nr_lost, 4522);
	record = decode(forked, sizeof forked);
	assert_int_equal(record.kind, PERF_FORK);
	assert_int_equal(record.pid, 158);
	assert_int_equal(record.tid, 170);
	assert_int_equal(record.parent, 158);
	assert_int_equal(record.time_ns, 21250000000);
}

static void what_no_kernel_writes(void **state)
{
	uint64_t words[11];
	struct perf_record record;
	size_t used;

	(void)state;
	/* Not all there, at every length. */
	for (size_t bytes = 0; bytes < sizeof fault; bytes++)
		assert_int_equal(perf_decode(fault, bytes, &ids, &record, &used), -EAGAIN);
	/* Shorter than its own head, or no multiple of 8. */
	words[0] = UINT64_C(4) << 48 | 9;
	assert_int_equal(perf_decode(words, 8, &ids, &record, &used), -EBADMSG);
	words[0] = UINT64_C(13) << 48 | 9;
	assert_int_equal(perf_decode(words, sizeof words, &ids, &record, &used), -EBADMSG);
	words[0] = 0;
	assert_int_equal(perf_decode(words, sizeof words, &ids, &record, &used), -EBADMSG);
	/* Another event's sample, an unknown kind, a sample or a notice that is too short. */
	memcpy(words, fault, sizeof fault);
	words[1] = 99;
	assert_int_equal(decode(words, sizeof fault).kind, PERF_OTHER);
	words[0] = UINT64_C(48) << 48 | 77;
	assert_int_equal(decode(words, sizeof fault).kind, PERF_OTHER);
	words[0] = UINT64_C(16) << 48 | 9;
	assert_int_equal(decode(words, 16).kind, PERF_OTHER);
	words[0] = UINT64_C(16) << 48 | 2;
	assert_int_equal(decode(words, 16).kind, PERF_OTHER);
	/* A touch of a guest without registers, or of a 32-bit program. */
	memcpy(words, guest, sizeof words);
	words[0] = UINT64_C(48) << 48 | 9;
	assert_int_equal(decode(words, 48).kind, PERF_OTHER);
	memcpy(words, guest, sizeof words);
	words[6] = 1;
	assert_int_equal(decode(words, sizeof words).kind, PERF_OTHER);
	/* A range without registers, of a 32-bit program, or backward. */
	memcpy(words, arm_begin, sizeof words);
	words[0] = UINT64_C(48) << 48 | 9;
	assert_int_equal(decode(words, 48).kind, PERF_OTHER);
	memcpy(words, arm_begin, sizeof words);
	words[6] = 1;
	assert_int_equal(decode(words, sizeof words).kind, PERF_OTHER);
	memcpy(words, arm_begin, sizeof words);
	words[8] = words[9];
	assert_int_equal(decode(words, sizeof words).kind, PERF_OTHER);
}

/* An access that was sampled while a guest ran, its kernel or a program of it: the address is not ours. */
static void samples_of_guests_are_not_ours(void **state)
{
	uint64_t words[6];

	(void)state;
	memcpy(words, fault, sizeof fault);
	for (uint64_t mode = 4; mode <= 5; mode++) {
		words[0] = UINT64_C(48) << 48 | mode << 32 | 9;
		assert_int_equal(decode(words, sizeof words).kind, PERF_OTHER);
	}
}

static void probe_type_from_a_tree(void **state)
{
	uint32_t type = 7;

	(void)state;
	assert_int_equal(perf_probe_type(root, &type), -ENOENT);
	put("/sys/bus/event_source/devices/kprobe/type", "none\n");
	assert_int_equal(perf_probe_type(root, &type), -ENOENT);
	assert_int_equal(type, 7);
	put("/sys/bus/event_source/devices/kprobe/type", "9\n");
	assert_int_equal(perf_probe_type(root, &type), 0);
	assert_int_equal(type, 9);
}

/* What machines name: IBS of AMD; PEBS of Intel, also with two kinds of core, and where loads need a
 * second event. */
static void memory_events_from_trees(void **state)
{
	struct perf_memory memory = { .type = 77 };

	(void)state;
	assert_int_equal(perf_memory_find(root, &memory), -ENOENT);
	assert_int_equal(memory.type, 77);
	put("/sys/bus/event_source/devices/cpu_core/type", "4\n");
	put("/sys/bus/event_source/devices/cpu_core/events/mem-loads", "event=0xcd,umask=0x1,ldlat=3\n");
	put("/sys/bus/event_source/devices/cpu_core/events/mem-stores", "event=0xd0,umask=0x82\n");
	assert_int_equal(perf_memory_find(root, &memory), 0);
	assert_int_equal(memory.type, 4);
	assert_int_equal(memory.config, 0x1cd);
	assert_true(memory.precise && !memory.unfiltered && memory.config1 && memory.period > 1);
	put("/sys/bus/event_source/devices/cpu_core/events/mem-loads-aux", "event=0x03,umask=0x82\n");
	assert_int_equal(perf_memory_find(root, &memory), 0);
	assert_int_equal(memory.config, 0x82d0);
	assert_int_equal(memory.config1, 0);
	put("/sys/bus/event_source/devices/ibs_op/type", "11\n");
	assert_int_equal(perf_memory_find(root, &memory), 0);
	assert_int_equal(memory.type, 11);
	assert_int_equal(memory.config, 1 << 19);
	assert_true(memory.unfiltered && !memory.precise && memory.period % 16 == 0);
}

/* A sample that IBS took with no address, or in the kernel, is decoded as it is; who reads it judges. */
static void samples_of_the_cpu(void **state)
{
	uint64_t words[6];

	(void)state;
	memcpy(words, fault, sizeof words);
	words[4] = 0;
	assert_int_equal(decode(words, sizeof words).address, 0);
	words[4] = UINT64_C(0xffff888103a21040);
	words[0] = UINT64_C(48) << 48 | UINT64_C(0x4002) << 32 | 9; /* exact, in user mode */
	assert_int_equal(decode(words, sizeof words).kind, PERF_TOUCH);
	assert_int_equal(decode(words, sizeof words).address, 0xffff888103a21040);
}

#define PAGES 300u

struct seen {
	uint64_t first;
	unsigned faults[PAGES];
};

static void fault_count(void *arg, const struct perf_record *record)
{
	struct seen *seen = arg;
	uint64_t page = (record->address >> 12) - seen->first;

	if (record->kind == PERF_TOUCH && page < PAGES) {
		assert_int_equal(record->tid, syscall(SYS_gettid));
		seen->faults[page]++;
	}
}

static void the_faults_of_this_thread(void **state)
{
	struct perf_ring ring;
	struct seen seen = { 0 };
	volatile char *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
#ifdef __SANITIZE_THREAD__
	print_message("the thread sanitizer's own faults fill the ring\n");
	skip();
#endif
	assert_true(memory != MAP_FAILED);
	madvise((void *)(uintptr_t)memory, PAGES * 4096, MADV_NOHUGEPAGE);
	int error = perf_ring_open((pid_t)syscall(SYS_gettid), 16384, &ring);
	if (error) {
		print_message("no events here: %s\n", strerror(-error));
		skip();
	}
	seen.first = (uint64_t)(uintptr_t)memory >> 12;
	/* Read in two goes: 300 records are more than the ring holds, so its end is passed. */
	for (unsigned i = 0; i < PAGES; i++) {
		memory[i * 4096u] = 1;
		if (i == PAGES / 2)
			assert_true(perf_ring_read(&ring, fault_count, &seen) >= PAGES / 2);
	}
	/* Once more than needed: nothing is told twice. Under valgrind there are faults of its own. */
	perf_ring_read(&ring, fault_count, &seen);
	perf_ring_read(&ring, fault_count, &seen);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(seen.faults[i], 1);
	perf_ring_close(&ring);
	munmap((void *)(uintptr_t)memory, PAGES * 4096);
	assert_int_equal(perf_ring_open(0x7ffffffe, 16384, &ring), -ESRCH);
}

#define CPUS 256u

/* The child's child, which its parent did not wait for. */
struct family {
	pid_t parent, child, grandchild;
	bool child_seen, grandchild_seen;
};

static void start_note(void *arg, const struct perf_record *record)
{
	struct family *family = arg;

	if (record->kind != PERF_FORK)
		return;
	family->child_seen |= (pid_t)record->pid == family->child && (pid_t)record->parent == family->parent;
	family->grandchild_seen |= (pid_t)record->pid == family->grandchild &&
				   (pid_t)record->parent == family->child;
}

static void family_begin(struct family *family)
{
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	family->parent = getpid();
	family->child = fork();
	if (!family->child) {
		pid_t pid = fork();
		if (!pid)
			pid = getpid();
		else
			_exit(0);
		_exit(write(pipes[1], &pid, sizeof pid) != sizeof pid);
	}
	assert_int_equal(waitpid(family->child, NULL, 0), family->child);
	assert_int_equal(read(pipes[0], &family->grandchild, sizeof family->grandchild),
			 sizeof family->grandchild);
	close(pipes[0]);
	close(pipes[1]);
}

/* By whoever on any CPU. */
static void who_starts_whom(void **state)
{
	struct perf_ring rings[CPUS];
	struct family family = { 0 };
	unsigned nr = 0;
	int error = 0;

	(void)state;
	for (unsigned cpu = 0; cpu < CPUS && (!error || error == -ENODEV); cpu++) {
		error = perf_ring_open_starts(cpu, 65536, &rings[nr]);
		nr += !error;
	}
	if (error && error != -ENODEV && error != -EINVAL) {
		while (nr)
			perf_ring_close(&rings[--nr]);
		print_message("no events of CPUs here: %s\n", strerror(-error));
		skip();
	}
	family_begin(&family);
	while (nr) {
		perf_ring_read(&rings[--nr], start_note, &family);
		assert_true(perf_ring_enabled_ns(&rings[nr]) > 0);
		perf_ring_close(&rings[nr]);
	}
	assert_true(family.child_seen && family.grandchild_seen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_kernel_wrote),
		cmocka_unit_test(what_no_kernel_writes),
		cmocka_unit_test(samples_of_guests_are_not_ours),
		TREE_TEST(probe_type_from_a_tree),
		TREE_TEST(memory_events_from_trees),
		cmocka_unit_test(samples_of_the_cpu),
		cmocka_unit_test(the_faults_of_this_thread),
		cmocka_unit_test(who_starts_whom),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
