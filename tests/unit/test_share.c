/* SPDX-License-Identifier: MIT */
/*
 * Memory that several processes map, from recorded trees of two: what belongs to a share, that it is one
 * population however its users map it, whose weight and rules hold, and that it goes with its last user.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "share.h"
#include "tree.h"

enum { FIRST, SECOND, NR_PROCESSES };

struct world {
	struct node_map map;
	struct tiering tiering;
	struct shares shares;
	struct share_process processes[NR_PROCESSES];
	struct tiering_space own[NR_PROCESSES]; /* what is known of their own memory */
};

static struct world w;

static void machine_put(void)
{
	put("/sys/devices/system/node/online", "0-1\n");
	for (unsigned int node = 0; node < 2; node++) {
		char path[64];

		snprintf(path, sizeof path, "/sys/devices/system/node/node%u/cpulist", node);
		put(path, node ? "\n" : "0-1\n");
		snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", node);
		put(path, "MemTotal: 9 kB\nMemFree: 1 kB\n");
	}
}

static void process_put(int pid, const char *maps)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/maps", pid);
	put(path, maps);
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	put(path, "VmLck:\t0 kB\nHugetlbPages:\t0 kB\n");
}

static void file_put(int pid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	put(path, text);
}

static void world_open(const char *first_maps, const char *second_maps)
{
	const struct process_options options = { .root = root };
	struct tiering_config config = {
		.nr_nodes = 2,
		.nodes = { { .fast = true, .latency_ns = 90 }, { .slow = true, .latency_ns = 250 } },
	};

	machine_put();
	process_put(70, first_maps);
	process_put(71, second_maps);
	w = (struct world){ 0 };
	assert_int_equal(node_map_read(root, &w.map), 0);
	tiering_init(&w.tiering, &config);
	shares_init(&w.shares, &w.tiering);
	for (int i = 0; i < NR_PROCESSES; i++) {
		w.processes[i].allowed = w.map.memory;
		w.processes[i].own = &w.own[i];
		w.own[i].weight = 5;
		assert_int_equal(process_open(70 + i, &options, &w.map, &w.processes[i].process), 0);
	}
}

static void world_close(void)
{
	assert_null(tiering_check(&w.tiering));
	shares_close(&w.shares);
	assert_int_equal(w.tiering.nr_spaces, 0);
	for (int i = 0; i < NR_PROCESSES; i++)
		process_close(w.processes[i].process);
	node_map_free(&w.map);
}

static const struct process_range *ranges_of(int i, size_t *ret_nr)
{
	const struct process_range *ranges;

	assert_int_equal(process_ranges(w.processes[i].process, &ranges, ret_nr), 0);
	return ranges;
}

/* A round in which some of the two are told of. */
static void round_of(bool first, bool second)
{
	shares_begin(&w.shares);
	for (int i = 0; i < NR_PROCESSES; i++) {
		size_t nr;
		const struct process_range *ranges = ranges_of(i, &nr);

		if (i == FIRST ? first : second)
			assert_int_equal(shares_add(&w.shares, &w.processes[i], ranges, nr, 0), 0);
	}
	shares_end(&w.shares);
}

static struct share *find(int i, uint64_t address, uint64_t *ret_vpn)
{
	const struct process_range *range = process_range_find(w.processes[i].process, address);

	assert_non_null(range);
	return share_find(&w.shares, range, address, ret_vpn);
}

static void what_is_shared(void **state)
{
	static const bool wanted[] = {
		true, true, false, false, true, true, true, false, true, false, true, true,
	};
	size_t nr;

	(void)state;
	world_open("1000-2000 r-xp 00000000 fe:01 11    /bin/program\n"
		   "2000-3000 r--p 00001000 fe:01 11    /bin/program\n"
		   "3000-4000 rw-p 00002000 fe:01 11    /bin/program\n"
		   "10000-20000 rw-p 00000000 00:00 0 \n"
		   "20000-30000 rw-s 00000000 00:01 99  /dev/zero (deleted)\n"
		   "30000-40000 rw-s 00004000 00:01 98  /memfd:a (deleted)\n"
		   "40000-50000 rw-s 00000000 fe:01 12  /var/data\n"
		   "50000-60000 rw-s 00000000 00:05 7   /dev/nvidia0\n"
		   "60000-70000 r--s 00000000 00:1a 5   /dev/shm/x\n"
		   "70000-80000 r--p 00003000 fe:01 11  /bin/program\n"
		   "80000-90000 rw-s 00000000 00:01 0   /SYSV00000000 (deleted)\n"
		   "90000-a0000 rw-s 00000000 00:01 97  [anon_shmem:named]\n", "");
	/* The second part of the program was written before it became read only: these pages are its own. */
	file_put(70, "numa_maps", "00002000 default file=/bin/program mapped=1 N0=1\n"
				  "00070000 default file=/bin/program anon=2 dirty=2 N0=2\n");
	const struct process_range *ranges = ranges_of(FIRST, &nr);
	assert_int_equal(nr, sizeof wanted);
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(share_has(&ranges[i]), wanted[i]);
	world_close();
}

static void same_file(int pid, const char *name, int other, const char *others_name)
{
	char path[PATH_MAX], others[PATH_MAX];

	file_put(pid, name, "");
	snprintf(path, sizeof path, "%s/proc/%d/%s", root, pid, name);
	snprintf(others, sizeof others, "%s/proc/%d/%s", root, other, others_name);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(link(others, path), 0);
}

/* Two subvolumes of one file system have a file 257 each: maps says the same of both, stat(2) does not. */
static void subvolumes(void **state)
{
	size_t nr;
	uint64_t vpn;

	(void)state;
	world_open("40000-50000 rw-s 00000000 00:2a 257 /one/a\n"
		   "50000-60000 rw-s 00000000 00:2a 257 /two/b\n",
		   "70000-80000 rw-s 00000000 00:2a 257 /two/b\n"
		   "90000-a0000 rw-s 00000000 00:2a 257 /who/knows\n");
	file_put(70, "map_files/40000-50000", "a");
	file_put(70, "map_files/50000-60000", "b");
	same_file(71, "map_files/70000-80000", 70, "map_files/50000-60000");
	round_of(true, true);
	assert_int_equal(w.shares.nr, 2);
	assert_ptr_not_equal(find(FIRST, 0x40000, &vpn), find(FIRST, 0x50000, &vpn));
	assert_ptr_equal(find(SECOND, 0x70000, &vpn), find(FIRST, 0x50000, &vpn));
	assert_false(share_has(&ranges_of(SECOND, &nr)[1]));
	world_close();
}

/* As the walk does that found pages there. */
static void place(struct tiering_space *space, uint64_t vpn, uint64_t nr_pages, uint32_t node, uint64_t now_ns)
{
	assert_int_equal(windows_cover(space, vpn, vpn + nr_pages), 0);
	tiering_place(&w.tiering, space, vpn, nr_pages, node, false, now_ns);
}

#define AT_ONE "10000000-18000000 rw-s 00000000 00:01 98  /memfd:a (deleted)\n"
#define AT_TWO "7000000-c000000 rw-s 04000000 00:01 98  /memfd:a (deleted)\n"

/* At other addresses and from another page of the file on: the same page, one heat, one candidate. */
static void one_population(void **state)
{
	struct tiering_move plan[4];
	struct tiering_need need = { .free_pages = { 1000, 1000 } };
	struct tiering_counts total;
	uint64_t one, two, now_ns = UINT64_C(1000000000000);
	bool again;

	(void)state;
	world_open(AT_ONE, AT_TWO);
	round_of(true, true);
	assert_int_equal(w.shares.nr, 1);
	struct share *share = find(FIRST, 0x14005000, &one);
	assert_non_null(share);
	assert_ptr_equal(find(SECOND, 0x7005000, &two), share);
	assert_int_equal(one, two);
	assert_int_equal(one, 0x4005);
	/* 0 .. 0x8000 by the first, 0x4000 .. 0x9000 by the second, in memory all of it: three windows. */
	assert_int_equal(share->space.nr_windows, 0);
	assert_int_equal(windows_cover(&share->space, 0, 0x9000), 0);
	assert_int_equal(share->space.nr_windows, 3);

	place(&share->space, one, 1, 1, now_ns);
	tiering_touch(&w.tiering, &share->space, one, 0, now_ns);
	tiering_touch(&w.tiering, &share->space, two, 0, now_ns + 1000000000);
	size_t nr = tiering_step(&w.tiering, now_ns + 2000000000, &need, plan, 4, &again);
	assert_int_equal(nr, 1);
	assert_int_equal(plan[0].op, TIERING_PROMOTE);
	assert_int_equal(plan[0].vpn, one);
	assert_ptr_equal(plan[0].window->space, &share->space);
	assert_null(share->space.owner);
	plan[0].reason = REASON_MOVED;
	plan[0].nr_moved = 1;
	tiering_complete(&w.tiering, plan, 1, now_ns + 2000000000);

	/* One goes: its part is let go. Both gone: so is the share, but not what it counted. */
	round_of(false, true);
	assert_int_equal(share->space.nr_windows, 2);
	round_of(false, false);
	assert_int_equal(w.shares.nr, 0);
	assert_int_equal(w.shares.nr_gone, 1);
	shares_total(&w.shares, &total);
	assert_int_equal(total.promoted, 1);
	assert_int_equal(total.touches, 2);
	world_close();
}

static void weight_and_homes(void **state)
{
	uint64_t vpn;

	(void)state;
	world_open(AT_ONE, AT_TWO);
	w.own[FIRST].weight = 0;
	w.own[FIRST].homes = 1;
	w.own[SECOND].weight = 7;
	w.own[SECOND].homes = 2;
	round_of(true, true);
	struct share *share = find(FIRST, 0x14005000, &vpn);
	assert_int_equal(share->space.weight, 7);
	assert_int_equal(share->space.homes, 3);
	round_of(true, false);
	assert_int_equal(share->space.weight, 0);
	assert_int_equal(share->space.homes, 1);
	world_close();
}

/* The reason why a page is not moved to node 0. A recorded process cannot be moved: then it is BUSY. */
static enum reason move_of(uint64_t vpn)
{
	uint64_t found;
	struct share *share = find(FIRST, 0x10000000, &found);
	struct tiering_move move = {
		.vpn = vpn,
		.nr_pages = 1,
		.op = TIERING_PROMOTE,
		.from = 1,
		.to = 0,
	};

	assert_int_equal(windows_cover(&share->space, vpn, vpn + 1), 0);
	move.window = tiering_window_find(&share->space, vpn);
	share_move(&w.map, &w.map.memory, &move, 1);
	assert_int_equal(move.nr_moved, 0);
	return move.reason;
}

static void what_one_forbids_holds_for_all(void **state)
{
	(void)state;
	world_open(AT_ONE, AT_TWO);
	round_of(true, true);
	assert_int_equal(move_of(0x4005), REASON_BUSY);
	/* A policy of the second: only where it has the page. */
	file_put(71, "maps", "7000000-c000000 rw-s 04000000 00:01 98  /memfd:a (deleted)\n"
			     "d000000-d001000 rw-p 00000000 00:00 0 \n");
	file_put(71, "numa_maps", "07000000 bind:1 file=/memfd:a\n");
	round_of(true, true);
	assert_int_equal(move_of(0x4005), REASON_POLICY);
	assert_int_equal(move_of(0x3005), REASON_BUSY);
	/* Its code. */
	file_put(71, "maps", "7000000-c000000 r-xs 04000000 fe:01 98  /x\n");
	file_put(70, "maps", "10000000-18000000 rw-s 00000000 fe:01 98  /x\n");
	file_put(71, "numa_maps", "");
	round_of(true, true);
	assert_int_equal(move_of(0x4005), REASON_SHARED_EXEC);
	/* Its cpuset. */
	file_put(71, "maps", AT_TWO);
	file_put(70, "maps", AT_ONE);
	round_of(true, true);
	w.processes[SECOND].allowed = w.map.slow;
	assert_int_equal(move_of(0x4005), REASON_POLICY);
	shares_leave(&w.shares, &w.processes[SECOND]);
	assert_int_equal(move_of(0x4005), REASON_BUSY);
	shares_leave(&w.shares, &w.processes[FIRST]);
	assert_int_equal(move_of(0x4005), REASON_PAGE_GONE);
	world_close();
}

/* What nobody may write, of each node. */
static void read_only(void **state)
{
	uint64_t vpn;

	(void)state;
	world_open("10000000-18000000 r--s 00000000 fe:01 98  /x\n20000000-20100000 rw-s 00000000 fe:01 97  /y\n",
		   "7000000-c000000 r--p 04000000 fe:01 98  /x\n");
	round_of(true, true);
	struct share *share = find(FIRST, 0x14005000, &vpn), *other = find(FIRST, 0x20000000, &vpn);
	place(&share->space, 0x4000, 30, 1, 0);
	place(&share->space, 0x5000, 7, 0, 0);
	place(&other->space, 0, 50, 1, 0);
	assert_int_equal(shares_read_only_pages(&w.shares, 1), 30);
	assert_int_equal(shares_read_only_pages(&w.shares, 0), 7);
	/* One of its users may write it: that one's faults are seen. */
	file_put(71, "maps", "7000000-c000000 rw-s 04000000 fe:01 98  /x\n");
	round_of(true, true);
	assert_int_equal(shares_read_only_pages(&w.shares, 1), 0);
	world_close();
}

/* Segments of System V have numbers of their own in each namespace. */
static void segments(void **state)
{
	char path[sizeof root + 32];
	uint64_t one, two;

	(void)state;
	for (int pid = 70; pid < 72; pid++) {
		file_put(pid, "ns/x", "");
		snprintf(path, sizeof path, "%s/proc/%d/ns/ipc", root, pid);
		assert_int_equal(symlink(pid == 70 ? "ipc:[4026531839]" : "ipc:[4026532000]", path), 0);
	}
	world_open("10000-20000 rw-s 00000000 00:01 3  /SYSV00000000 (deleted)\n",
		   "10000-20000 rw-s 00000000 00:01 3  /SYSV00000000 (deleted)\n"
		   "30000-40000 rw-s 00000000 00:01 3  /memfd:a (deleted)\n");
	round_of(true, true);
	assert_int_equal(w.shares.nr, 3);
	assert_ptr_not_equal(find(FIRST, 0x10000, &one), find(SECOND, 0x10000, &two));
	world_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(what_is_shared),
		TREE_TEST(subvolumes),
		TREE_TEST(one_population),
		TREE_TEST(weight_and_homes),
		TREE_TEST(what_one_forbids_holds_for_all),
		TREE_TEST(read_only),
		TREE_TEST(segments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
