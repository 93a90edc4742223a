/* SPDX-License-Identifier: MIT */
/*
 * What a process maps, read from recorded trees: kinds, what may not be moved, policies, cpusets,
 * threads and children.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "proc.h"
#include "process.h"
#include "tree.h"

#define PROC "/proc/77"

static struct node_map map;

static void machine_put(void)
{
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
	space_end(space);
}

/* Reading it takes so long that it is not read again at once: a grown range is what it was, a new one is left
 * alone, and so is what may be a part that was locked. */
static void what_costs_much_is_read_seldom(void **state)
{
	const size_t nr = 200000;
	char *text = malloc(nr * 64), *end;

	(void)state;
	assert_non_null(text);
	end = text;
	for (size_t i = 0; i < nr; i++)
		end += sprintf(end, "%zx interleave:0-1 anon=1 dirty=1 N0=1\n", (i + 0x10) << 12);
	put(PROC "/numa_maps", text);
	end = text + sprintf(text, RUN("1", "3") "VmFlags: rd lo\n" RUN("4", "8") "VmFlags: rd\n"
				   RUN("9", "a") "VmFlags: rd\n");
	for (size_t i = 0; i < nr; i++)
		end += sprintf(end, "Private_Dirty:       0 kB\n");
	put(PROC "/smaps", text);
	free(text);
	put(PROC "/maps", RUN("1", "3") RUN("4", "8") RUN("9", "a"));
	put(PROC "/status", "VmLck:\t8 kB\n");
	struct process_space *space = space_open();
	const struct process_range *ranges = ranges_read(space, 3);
	assert_int_equal(ranges[0].refusal, REASON_LOCKED);
	assert_int_equal(ranges[1].refusal, REASON_MOVED);
	assert_int_equal(ranges[2].refusal, REASON_MOVED);
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

static void stat_put(const char *path, const char *name, char state, int parent, int cpu)
{
	char text[1024];
	int used = snprintf(text, sizeof(text), "1 (%s) %c %d", name, state, parent);

	for (int field = 5; field <= 52; field++)
		used += snprintf(text + used, sizeof(text) - (size_t)used, " %d", field == 39 ? cpu : 0);
	snprintf(text + used, sizeof(text) - (size_t)used, "\n");
	put(path, text);
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

static int pid_compare(const void *a, const void *b)
{
	return *(const pid_t *)a - *(const pid_t *)b;
}

static void children(void **state)
{
	static const struct {
		const char *path;
		int parent;
	} all[] = {
		{ "/proc/1/stat", 0 },  { "/proc/77/stat", 1 },  { "/proc/80/stat", 77 },
		{ "/proc/12/stat", 80 }, { "/proc/9/stat", 12 }, { "/proc/81/stat", 1 },
		{ "/proc/82/stat", 81 }, { "/proc/90/stat", 77 },
	};
	pid_t pids[8];
	size_t nr;

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		stat_put(all[i].path, "x", 'S', all[i].parent, 0);
	put("/proc/meminfo", "");
	assert_int_equal(process_children(root, (pid_t[]){ 77 }, 1, pids, 8, &nr), 0);
	assert_int_equal(nr, 4);
	qsort(pids, nr, sizeof(*pids), pid_compare);
	assert_true(pids[0] == 9 && pids[1] == 12 && pids[2] == 80 && pids[3] == 90);
	assert_int_equal(process_children(root, (pid_t[]){ 77 }, 1, pids, 1, &nr), 0);
	assert_int_equal(nr, 4);
	assert_int_equal(process_children(root, (pid_t[]){ 9 }, 1, pids, 8, &nr), 0);
	assert_int_equal(nr, 0);
	/* Who is named himself is nobody's child. */
	assert_int_equal(process_children(root, (pid_t[]){ 81, 77, 80 }, 3, pids, 8, &nr), 0);
	assert_int_equal(nr, 4);
	qsort(pids, nr, sizeof(*pids), pid_compare);
	assert_true(pids[0] == 9 && pids[1] == 12 && pids[2] == 82 && pids[3] == 90);
}

static int mapping_none(void *arg, const struct proc_mapping *mapping)
{
	(void)arg;
	(void)mapping;
	return 0;
}

/* Older kernels give an empty file for who has ended: that is not a process that maps nothing. */
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
		TREE_TEST(threads),
		TREE_TEST(children),
		TREE_TEST(who_has_ended_maps_nothing),
		TREE_TEST(nothing_moves_in_a_recording),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
