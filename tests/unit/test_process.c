/* SPDX-License-Identifier: MIT */
/*
 * What a process maps, read from recorded trees: kinds, what may not be moved, policies, cpusets
 * and threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "proc.h"
#include "process.h"
#include "tree.h"

#define PROC "/proc/77"
#define SECOND_NS UINT64_C(1000000000)

static struct node_map map;

/* The clocks of the readings: what is read costs as much processor time as a test says. */
static uint64_t now_ns, cost_ns;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
	static uint64_t cpu_ns;
	uint64_t ns = clock == CLOCK_THREAD_CPUTIME_ID ? (cpu_ns += cost_ns) : now_ns;

	*ret_time = (struct timespec){ (time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS) };
	return 0;
}

static void machine_put(void)
{
	now_ns = 1000 * SECOND_NS;
	cost_ns = 1000;
	put("/sys/devices/system/node/online", "0-1\n");
	put("/sys/devices/system/node/node0/cpulist", "0-1\n");
	put("/sys/devices/system/node/node0/meminfo", "MemTotal: 9 kB\nMemFree: 1 kB\n");
	put("/sys/devices/system/node/node1/cpulist", "2\n");
	put("/sys/devices/system/node/node1/meminfo", "MemTotal: 9 kB\nMemFree: 1 kB\n");
	assert_int_equal(node_map_read(root, &map), 0);
}

static struct process_space *space_open(void)
{
	struct process_options options = { .root = root };
	struct process_space *space;

	machine_put();
	assert_int_equal(process_open(77, &options, &map, &space), 0);
	return space;
}

static void space_end(struct process_space *space)
{
	process_close(space);
	node_map_free(&map);
}

static const struct process_range *ranges_read(struct process_space *space, size_t wanted)
{
	const struct process_range *ranges;
	size_t nr;

	assert_int_equal(process_ranges(space, &ranges, &nr), 0);
	assert_int_equal(nr, wanted);
	return ranges;
}

#define MAPS                                                                                          \
	"1000-2000 r-xp 00000000 fe:01 11    /bin/program\n"                                          \
	"2000-3000 r--p 00001000 fe:01 11    /bin/program\n"                                          \
	"3000-4000 rw-p 00002000 fe:01 11    /bin/program\n"                                          \
	"4000-6000 rw-p 00000000 00:00 0     [heap]\n"                                                \
	"10000-20000 rw-p 00000000 00:00 0 \n"                                                        \
	"20000-30000 rw-s 00000000 00:01 99  /dev/zero (deleted)\n"                                   \
	"30000-40000 rw-s 00004000 00:01 98  /memfd:a b (deleted)\n"                                  \
	"40000-50000 rw-s 00000000 fe:01 12  /var/data with a blank\n"                                \
	"50000-60000 rw-s 00000000 00:05 7   /dev/nvidia0\n"                                          \
	"60000-70000 rw-s 00000000 00:0e 8   anon_inode:[io_uring]\n"                                 \
	"71000-74000 rw-s 00000000 00:0e 8   anon_inode:kvm-vcpu:0\n"                                 \
	"74000-80000 rwxp 00000000 00:00 0   [anon:jit]\n"                                            \
	"80000-90000 rw-s 00000000 00:1a 5   /dev/shm/x\n"                                            \
	"7ffff000-80000000 rw-p 00000000 00:00 0 [stack]\n"                                           \
	"80001000-80002000 r-xp 00000000 00:00 0 [vdso]\n"                                            \
	"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"

static void kinds(void **state)
{
	static const struct {
		enum process_kind kind;
		enum reason refusal;
	} wanted[] = {
		{ PROCESS_FILE, REASON_SHARED_EXEC }, { PROCESS_FILE, REASON_MOVED },
		{ PROCESS_ANON, REASON_MOVED },       { PROCESS_HEAP, REASON_MOVED },
		{ PROCESS_ANON, REASON_MOVED },       { PROCESS_SHARED_ANON, REASON_MOVED },
		{ PROCESS_SHARED_ANON, REASON_MOVED }, { PROCESS_FILE, REASON_MOVED },
		{ PROCESS_SPECIAL, REASON_PINNED },   { PROCESS_SPECIAL, REASON_PINNED },
		{ PROCESS_SPECIAL, REASON_PINNED },
		{ PROCESS_ANON, REASON_MOVED },       { PROCESS_SHARED_ANON, REASON_MOVED },
		{ PROCESS_STACK, REASON_MOVED },      { PROCESS_SPECIAL, REASON_PINNED },
	};
	const size_t nr = sizeof(wanted) / sizeof(*wanted);

	(void)state;
	put(PROC "/maps", MAPS);
	put(PROC "/status", "VmLck:\t       0 kB\nHugetlbPages:\t       0 kB\n");
	struct process_space *space = space_open();
	const struct process_range *ranges = ranges_read(space, nr);
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(ranges[i].kind, wanted[i].kind);
		assert_int_equal(ranges[i].refusal, wanted[i].refusal);
		assert_int_equal(ranges[i].page_bytes, 4096);
		assert_int_equal(ranges[i].policy, PROCESS_POLICY_DEFAULT);
		assert_int_equal(ranges[i].vcpu, i == 10);
	}
	assert_int_equal(ranges[6].inode, 98);
	assert_int_equal(ranges[6].offset, 0x4000);
	assert_int_equal(ranges[6].device, 1);
	assert_true(ranges[6].shared && ranges[6].write && !ranges[6].execute);
	assert_ptr_equal(process_range_find(space, 0x10000), &ranges[4]);
	assert_ptr_equal(process_range_find(space, 0x1ffff), &ranges[4]);
	assert_null(process_range_find(space, 0x6000));
	assert_null(process_range_find(space, 0xfff));
	assert_null(process_range_find(space, 0x80002000));
	space_end(space);
}

#define RUN(start, end) start "000-" end "000 rw-p 00000000 00:00 0 \n"
#define SOME_MAPS                                                                                     \
	RUN("10", "20") "200000-400000 rw-p 00000000 00:10 5    /anon_hugepage (deleted)\n"          \
	RUN("400", "500") "500000-600000 rw-s 00000000 fe:01 6   /somewhere\n"

/* Something is locked, something has large pages: smaps tells which. */
static void locked_and_huge(void **state)
{
	(void)state;
	put(PROC "/maps", SOME_MAPS);
	put(PROC "/status", "VmLck:\t      64 kB\nHugetlbPages:\t    2048 kB\n");
	put(PROC "/smaps",
	    "10000-20000 rw-p 00000000 00:00 0 \nSize: 64 kB\nKernelPageSize:        4 kB\n"
	    "VmFlags: rd wr mr mw me lo ac sd \n"
	    "200000-400000 rw-p 00000000 00:10 5    /anon_hugepage (deleted)\nSize: 2048 kB\n"
	    "KernelPageSize:     2048 kB\nVmFlags: rd wr mr mw me de ht sd \n"
	    "400000-500000 rw-p 00000000 00:00 0 \nKernelPageSize:        4 kB\n"
	    "VmFlags: rd wr mr mw me ac sd \n"
	    "500000-600000 rw-s 00000000 fe:01 6   /somewhere\nKernelPageSize:        4 kB\n"
	    "VmFlags: rd wr sh mr mw me ms pf io de dd \n");
	struct process_space *space = space_open();
	const struct process_range *ranges = ranges_read(space, 4);
	assert_true(ranges[0].locked && ranges[0].refusal == REASON_LOCKED);
	assert_int_equal(ranges[1].kind, PROCESS_HUGETLB);
	assert_int_equal(ranges[1].page_bytes, 2 << 20);
	assert_int_equal(ranges[1].refusal, REASON_MOVED);
	assert_true(!ranges[2].locked && ranges[2].refusal == REASON_MOVED);
	assert_int_equal(ranges[2].page_bytes, 4096);
	assert_int_equal(ranges[3].kind, PROCESS_SPECIAL);
	/* Soon after, nothing else having changed, it is not read again; with a new range it is. */
	put(PROC "/smaps", "10000-20000 rw-p 00000000 00:00 0 \nKernelPageSize: 4 kB\nVmFlags: rd wr\n");
	ranges = ranges_read(space, 4);
	assert_true(ranges[0].locked && ranges[0].refusal == REASON_LOCKED);
	assert_int_equal(ranges[1].kind, PROCESS_HUGETLB);
	assert_int_equal(ranges[1].page_bytes, 2 << 20);
	assert_int_equal(ranges[3].refusal, REASON_PINNED);
	put(PROC "/maps", "10000-20000 rw-p 00000000 00:00 0 \n");
	ranges = ranges_read(space, 1);
	assert_false(ranges[0].locked);
	/* Nor is it trusted for ever. */
	put(PROC "/smaps", "10000-20000 rw-p 00000000 00:00 0 \nKernelPageSize: 4 kB\nVmFlags: rd wr lo\n");
	now_ns += SECOND_NS - 1;
	ranges = ranges_read(space, 1);
	assert_false(ranges[0].locked);
	now_ns++;
	ranges = ranges_read(space, 1);
	assert_true(ranges[0].locked);
	space_end(space);
}

/* Reading it takes so long that it is not read again at once: a grown range is what it was, a new one is left
 * alone, and so is what may be a part that was locked. */
static void what_costs_much_is_read_seldom(void **state)
{
	(void)state;
	put(PROC "/numa_maps", "00001000 default\n");
	put(PROC "/smaps", RUN("1", "3") "VmFlags: rd lo\n" RUN("4", "8") "VmFlags: rd\n"
			   RUN("9", "a") "VmFlags: rd\n");
	put(PROC "/maps", RUN("1", "3") RUN("4", "8") RUN("9", "a"));
	put(PROC "/status", "VmLck:\t8 kB\n");
	struct process_space *space = space_open();
	cost_ns = SECOND_NS / 100;
	const struct process_range *ranges = ranges_read(space, 3);
	assert_int_equal(ranges[0].refusal, REASON_LOCKED);
	assert_int_equal(ranges[1].refusal, REASON_MOVED);
	assert_int_equal(ranges[2].refusal, REASON_MOVED);
	now_ns += SECOND_NS - 1;
	put(PROC "/smaps", "");
	put(PROC "/numa_maps", "");
	put(PROC "/maps", RUN("1", "3") RUN("4", "5") RUN("9", "b") RUN("c", "d"));
	put(PROC "/status", "VmLck:\t12 kB\n");
	ranges = ranges_read(space, 4);
	assert_int_equal(ranges[0].refusal, REASON_LOCKED);
	assert_int_equal(ranges[1].refusal, REASON_LOCKED);
	assert_int_equal(ranges[2].refusal, REASON_MOVED);
	assert_int_equal(ranges[3].refusal, REASON_LOCKED);
	put(PROC "/status", "VmLck:\t0 kB\n");
	ranges = ranges_read(space, 4);
	assert_int_equal(ranges[0].refusal, REASON_MOVED);
	assert_int_equal(ranges[2].refusal, REASON_MOVED);
	assert_int_equal(ranges[3].refusal, REASON_POLICY);
	/* A hundredth of the time is its share. */
	now_ns++;
	put(PROC "/smaps", RUN("1", "3") "VmFlags: rd\n" RUN("4", "5") "VmFlags: rd lo\n"
			   RUN("9", "b") "VmFlags: rd\n" RUN("c", "d") "VmFlags: rd\n");
	put(PROC "/numa_maps", "00009000 bind:1\n");
	put(PROC "/status", "VmLck:\t4 kB\n");
	ranges = ranges_read(space, 4);
	assert_int_equal(ranges[0].refusal, REASON_MOVED);
	assert_int_equal(ranges[1].refusal, REASON_LOCKED);
	assert_int_equal(ranges[2].policy, PROCESS_POLICY_BIND);
	assert_int_equal(ranges[3].refusal, REASON_MOVED);
	space_end(space);
}

static void policies(void **state)
{
	static const struct {
		enum process_policy policy;
		const char *nodes;
		enum reason refusal;
	} wanted[] = {
		{ PROCESS_POLICY_DEFAULT, "none", REASON_MOVED },
		{ PROCESS_POLICY_BIND, "1", REASON_MOVED },
		{ PROCESS_POLICY_BIND, "0-1,3", REASON_MOVED },
		{ PROCESS_POLICY_BIND, "2", REASON_MOVED },
		{ PROCESS_POLICY_BIND, "0", REASON_MOVED },
		{ PROCESS_POLICY_SPREAD, "0-1", REASON_POLICY },
		{ PROCESS_POLICY_SPREAD, "0-1", REASON_POLICY },
		{ PROCESS_POLICY_DEFAULT, "none", REASON_MOVED },
		{ PROCESS_POLICY_SPREAD, "none", REASON_POLICY }, /* one that we do not know */
	};
	char text[NODESET_TEXT_BYTES];

	(void)state;
	put(PROC "/maps", RUN("1", "2") RUN("2", "3") RUN("3", "4") RUN("4", "5") RUN("5", "6")
			  RUN("6", "7") RUN("7", "8") RUN("8", "9") RUN("9", "a"));
	put(PROC "/status", "Name:\tx\n");
	put(PROC "/numa_maps",
	    "00001000 default anon=1 dirty=1 N0=1 kernelpagesize_kB=4\n00002000 bind:1 anon=1 N1=1\n"
	    "00003000 bind=static:0-1,3\n00004000 prefer:2 file=/a\\040b\n"
	    "00005000 prefer (many):0 anon=3\n00006000 interleave:0-1 anon=7\n"
	    "00007000 weighted interleave:0-1 heap anon=7\n00008000 local\n00009000 novel=relative\n"
	    "0000f000 bind:1\nnonsense\n");
	struct process_space *space = space_open();
	const struct process_range *ranges = ranges_read(space, 9);
	for (size_t i = 0; i < 9; i++) {
		assert_int_equal(ranges[i].policy, wanted[i].policy);
		assert_string_equal(nodeset_format(text, &ranges[i].policy_nodes), wanted[i].nodes);
		assert_int_equal(ranges[i].refusal, wanted[i].refusal);
	}
	/* Soon after, nothing else having changed, they are not read again; with a new range they are. */
	put(PROC "/numa_maps", "00001000 bind:0\n");
	ranges = ranges_read(space, 9);
	assert_int_equal(ranges[0].policy, PROCESS_POLICY_DEFAULT);
	assert_int_equal(ranges[1].policy, PROCESS_POLICY_BIND);
	assert_int_equal(ranges[5].refusal, REASON_POLICY);
	put(PROC "/maps", RUN("1", "2") RUN("2", "4"));
	ranges = ranges_read(space, 2);
	assert_int_equal(ranges[0].policy, PROCESS_POLICY_BIND);
	assert_int_equal(ranges[1].policy, PROCESS_POLICY_DEFAULT);
	space_end(space);
}

static void cpuset(void **state)
{
	struct nodeset nodes;
	char text[NODESET_TEXT_BYTES];

	(void)state;
	put(PROC "/status", "Name:\tMems_allowed_list:\nMems_allowed:\t2\nMems_allowed_list:\t1\n");
	struct process_space *space = space_open();
	assert_int_equal(process_allowed(space, &nodes), 0);
	assert_string_equal(nodeset_format(text, &nodes), "1");
	put(PROC "/status", "Mems_allowed_list:\t0-\n");
	assert_int_equal(process_allowed(space, &nodes), -EIO);
	put(PROC "/status", "Name:\tx\n");
	assert_int_equal(process_allowed(space, &nodes), 0);
	assert_string_equal(nodeset_format(text, &nodes), "0-1");
	space_end(space);
}

static void numbers_of_a_pid_namespace_are_told_from_ours(void **state)
{
	char path[PATH_MAX];

	(void)state;
	put(PROC "/status", "Name:\tx\nNSpid:\t77\nNSpgid:\t77\n");
	snprintf(path, sizeof path, "%s%s", root, PROC);
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	assert_false(proc_numbered_apart(dir));
	put(PROC "/status", "Name:\tx\nNSpid:\t77\t2\nNSpgid:\t77\t2\n");
	assert_true(proc_numbered_apart(dir));
	close(dir);
}

static void whose_proc_it_is(void **state)
{
	(void)state;
	assert_true(proc_ours(""));
	assert_false(proc_ours(root)); /* that of a namespace in which we have no number */
	put("/proc/self/status", "Name:\tx\nNSpid:\t77\t2\n");
	assert_false(proc_ours(root));
	put("/proc/self/status", "Name:\tx\nNSpid:\t2\n");
	assert_true(proc_ours(root));
}

/* A line of groups as long as there may be does not hide what comes after it. */
static void all_of_a_status_is_read(void **state)
{
	size_t room = 65536 * 8;
	char path[PATH_MAX], text[16], *status = malloc(room + 64);
	size_t at = (size_t)sprintf(status, "Name:\tx\nGroups:\t");
	uint64_t kib;

	(void)state;
	while (at < room)
		at += (size_t)sprintf(status + at, "65533 ");
	strcpy(status + at, "\nVmLck:\t      64 kB\nMems_allowed_list:\t1\n");
	put(PROC "/status", status);
	free(status);
	snprintf(path, sizeof path, "%s%s", root, PROC);
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	assert_int_equal(proc_status_kib(dir, "VmLck", &kib), 0);
	assert_int_equal(kib, 64);
	assert_int_equal(proc_status_text(dir, "Mems_allowed_list", text, sizeof text), 0);
	assert_string_equal(text, "1");
	assert_int_equal(proc_status_text(dir, "Mems", text, sizeof text), -ENOENT);
	put(PROC "/status", "");
	assert_int_equal(proc_status_text(dir, "Name", text, sizeof text), -ESRCH);
	close(dir);
}

static void threads(void **state)
{
	uint32_t counts[2];

	(void)state;
	stat_put(PROC "/task/77/stat", "a) R 1 (b", 'S', 1, 0);
	stat_put(PROC "/task/78/stat", "x", 'S', 1, 2);
	stat_put(PROC "/task/79/stat", "x", 'S', 1, 1);
	struct process_space *space = space_open();
	assert_int_equal(process_threads(space, counts), 0);
	assert_true(counts[0] == 2 && counts[1] == 1);
	stat_put(PROC "/task/78/stat", "x", 'R', 1, 2);
	stat_put(PROC "/task/80/stat", "x", 'R', 1, 99); /* a CPU of no node */
	assert_int_equal(process_threads(space, counts), 0);
	assert_true(counts[0] == 0 && counts[1] == 1);
	space_end(space);
}

static int mapping_none(void *arg, const struct proc_mapping *mapping)
{
	(void)arg;
	(void)mapping;
	return 0;
}

/* Older kernels give an empty file for who has ended: that is not a process that maps nothing. */
struct taken {
	struct proc_leaving list[8];
	unsigned nr;
};

static void leaving_note(void *arg, const struct proc_leaving *leaving)
{
	struct taken *taken = arg;

	assert_true(taken->nr < 8);
	taken->list[taken->nr++] = *leaving;
}

static void thread_put(const char *thread, const char *call, const char *sleeps_in)
{
	char path[64];

	snprintf(path, sizeof path, PROC "/task/%s/syscall", thread);
	put(path, call);
	snprintf(path, sizeof path, PROC "/task/%s/wchan", thread);
	if (sleeps_in)
		put(path, sleeps_in);
}

static int leavings_read(struct taken *ret_taken, unsigned *ret_nr, unsigned *ret_running)
{
	int dir, error;

	memset(ret_taken, 0, sizeof *ret_taken);
	assert_int_equal(proc_open_below(root, 77, &dir), 0);
	error = proc_leavings(dir, leaving_note, ret_taken, ret_nr, ret_running);
	close(dir);
	return error;
}

#define EVENT "userfaultfd_event_wait_completion"
#define UNMAPS(address) "11 0x" address " 0x1800 0x0 0x0 0x0 0x0 0x7ffc00000000 0x400000\n"
#define MOVES(bytes) "25 0x50000 0x2000 0x" bytes " 0x3 0x90000 0x0 0x7ffc00000000 0x400000\n"

/* A call in which a thread sleeps may be over and told: it is stopped, or held up, on its way out. */
static void who_sleeps_until_it_is_read_has_taken_away(void **state)
{
	struct taken taken;
	unsigned nr, nr_running;

	(void)state;
	thread_put("77", UNMAPS("10000"), EVENT);
	thread_put("78", UNMAPS("20000"), "ptrace_stop");
	thread_put("79", UNMAPS("30000"), "__vm_munmap");
	thread_put("80", "running\n", "0");
	thread_put("81", "-1 0x7ffc00000000 0x400000\n", "handle_userfault");
	thread_put("82", "9 0x40000 0x1000 0x3 0x32 0xffffffff 0x0 0x7ffc00000000 0x400000\n",
		   "userfaultfd_unmap_complete");
	thread_put("83", MOVES("1000"), EVENT);
	thread_put("84", MOVES("2000"), "mem_cgroup_handle_over_high");
	assert_int_equal(leavings_read(&taken, &nr, &nr_running), 0);
	assert_int_equal(nr, 8);
	assert_int_equal(nr_running, 1);
	assert_int_equal(taken.nr, 4);
	uint64_t moved = 0, ends = 0;
	for (unsigned i = 0; i < taken.nr; i++) {
		uint64_t start = taken.list[i].start;
		assert_true(start == 0x10000 || start == 0x40000 || start == 0x50000 || start == 0x51000);
		moved += taken.list[i].moved ? taken.list[i].to : 0;
		ends += taken.list[i].end - start;
	}
	assert_int_equal(moved, 0x90000);
	assert_int_equal(ends, 0x2000 + 0x1000 + 0x1000 + 0x1000);
}

static void who_may_be_about_to_tell_counts_as_running(void **state)
{
	struct taken taken;
	unsigned nr, nr_running;

	(void)state;
	thread_put("77", UNMAPS("10000"), "0"); /* woken between two looks */
	thread_put("78", MOVES("3000"), "folio_wait_bit_common");
	assert_int_equal(leavings_read(&taken, &nr, &nr_running), 0);
	assert_int_equal(nr, 2);
	assert_int_equal(nr_running, 2);
	assert_int_equal(taken.nr, 0);
	/* What is locked is filled first: its fault is read only if it is not waited for. */
	thread_put("78", MOVES("3000"), "handle_userfault");
	assert_int_equal(leavings_read(&taken, &nr, &nr_running), 0);
	assert_int_equal(nr_running, 1);
	assert_int_equal(taken.nr, 1);
	assert_int_equal(taken.list[0].to, 0x90000);
}

static void where_it_sleeps_may_not_be_said(void **state)
{
	struct taken taken;
	unsigned nr, nr_running;

	(void)state;
	thread_put("77", "202 0x1000 0x80 0x0 0x0 0x0 0x0 0x7ffc00000000 0x400000\n", NULL);
	assert_int_equal(leavings_read(&taken, &nr, &nr_running), 0);
	assert_int_equal(nr, 1);
	thread_put("78", UNMAPS("10000"), NULL);
	assert_int_equal(leavings_read(&taken, &nr, &nr_running), -EPERM);
	assert_int_equal(taken.nr, 0);
}

static void who_has_ended_maps_nothing(void **state)
{
	char dir[PATH_MAX];

	(void)state;
	put(PROC "/maps", "");
	put(PROC "/smaps", "");
	snprintf(dir, sizeof dir, "%s%s", root, PROC);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(proc_mappings(fd, false, mapping_none, NULL), -ESRCH);
	assert_int_equal(proc_mappings(fd, true, mapping_none, NULL), -ESRCH);
	put(PROC "/maps", RUN("1", "2"));
	assert_int_equal(proc_mappings(fd, false, mapping_none, NULL), 0);
	close(fd);
}

static void nothing_moves_in_a_recording(void **state)
{
	struct process_move page = { .address = 0x1000, .page_bytes = 4096 };
	struct process_tally tally = { 0 };
	struct process_options options = { .root = root };
	struct process_space *none;

	(void)state;
	put(PROC "/maps", RUN("1", "2"));
	put(PROC "/status", "Name:\tx\n");
	struct process_space *space = space_open();
	assert_int_equal(process_move(space, &page, 1, NULL, 0, &tally), -EOPNOTSUPP);
	assert_int_equal(tally.asked_bytes, 4096);
	assert_int_equal(tally.bytes[page.reason], 4096);
	assert_int_equal(process_open(78, &options, &map, &none), -ESRCH);
	space_end(space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(kinds),
		TREE_TEST(locked_and_huge),
		TREE_TEST(what_costs_much_is_read_seldom),
		TREE_TEST(policies),
		TREE_TEST(cpuset),
		TREE_TEST(all_of_a_status_is_read),
		TREE_TEST(numbers_of_a_pid_namespace_are_told_from_ours),
		TREE_TEST(whose_proc_it_is),
		TREE_TEST(threads),
		TREE_TEST(who_sleeps_until_it_is_read_has_taken_away),
		TREE_TEST(who_may_be_about_to_tell_counts_as_running),
		TREE_TEST(where_it_sleeps_may_not_be_said),
		TREE_TEST(who_has_ended_maps_nothing),
		TREE_TEST(nothing_moves_in_a_recording),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
