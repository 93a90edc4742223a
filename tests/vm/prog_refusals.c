/* SPDX-License-Identifier: MIT */
/*
 * Guest cases: what of another process does not move, each page for its one reason. More reasons, of processes that
 * end, are in prog_space.c.
 */
#include "other.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A page of the program's code, which others run, too. */
static uint64_t code_address(struct process_space *space)
{
	const struct process_range *ranges;
	size_t nr, i = 0;

	CHECK(process_ranges(space, &ranges, &nr) == 0);
	while (i < nr && ranges[i].refusal != REASON_SHARED_EXEC)
		i++;
	CHECK(i < nr && ranges[i].execute && ranges[i].kind == PROCESS_FILE);
	return ranges[i].start;
}

/* Pages are where the call is told that they come from, or they stay; what is not there, runs, or was split
 * stays, too. */
static void from_and_there(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };
	struct nodeset zero = { .bits = { 1 } };

	CHECK(process_move(space, moves, found.nr, &zero, 0, &tally) == 0);
	CHECK(tally_pages(&tally, REASON_NOT_SLOW) == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 1, &tally) == 0);
	CHECK(tally_pages(&tally, REASON_ALREADY) == NR_PAGES);
	CHECK(process_move(space, moves, 10, NULL, 900, &tally) == -ENODEV);
	moves[0].address = 4096;
	CHECK(process_move(space, moves, 1, NULL, 0, &tally) == 0 && moves[0].reason == REASON_RANGE_GONE);
	moves[0].address = code_address(space);
	CHECK(process_move(space, moves, 1, NULL, 1, &tally) == 0 && moves[0].reason == REASON_SHARED_EXEC);
	/* A huge page that was split after it was found: one part moves, the rest may be tried again. */
	uint64_t moved = tally_pages(&tally, REASON_MOVED);
	moves[0].address = (uint64_t)(uintptr_t)other.arena.base;
	moves[0].page_bytes = BLOCK_BYTES;
	CHECK(process_move(space, moves, 1, NULL, 0, &tally) == 0 && moves[0].reason == REASON_BUSY);
	CHECK(tally_pages(&tally, REASON_BUSY) == BLOCK_PAGES - 1);
	CHECK(tally_pages(&tally, REASON_MOVED) - moved == 1);
	/* Pages that were there when they were looked for. */
	uint64_t gone = tally_pages(&tally, REASON_PAGE_GONE);
	found = look(space, &other);
	other_ask(&other, "h");
	CHECK(process_move(space, moves, found.nr, NULL, 1, &tally) == 0);
	CHECK(tally_pages(&tally, REASON_PAGE_GONE) - gone == NR_PAGES / BLOCK_PAGES);
	tally_print(&tally);
	process_close(space);
	other_end(&other, 0);
}

static void bind_prepare(struct arena *arena)
{
	unsigned long one = 2, both = 3;
	size_t quarter = NR_PAGES / 4 * PAGE_BYTES;

	CHECK(syscall(SYS_mbind, arena->base, quarter, MPOL_BIND, &one, 64UL, 0) == 0);
	CHECK(syscall(SYS_mbind, arena->base + quarter, quarter, MPOL_INTERLEAVE, &both, 64UL, 0) == 0);
	CHECK(mlock(arena->base + 2 * quarter, quarter) == 0);
}

/* A quarter bound to node 1, one spread over both, one locked: only the last quarter moves. */
static void forbidden(void)
{
	struct other other = other_begin(false, bind_prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	CHECK(found.nr == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	/* Half of the spread quarter began on node 0. */
	CHECK(tally_pages(&tally, REASON_POLICY) == NR_PAGES / 2);
	CHECK(tally_pages(&tally, REASON_LOCKED) == NR_PAGES / 4);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES / 4);
	found = look(space, &other);
	CHECK(found.on[0] == NR_PAGES / 4 + NR_PAGES / 8);
	process_close(space);
	other_end(&other, 0);
}

/* What this thread may do to what others have mapped as well: CAP_SYS_NICE. */
static void nice_set(bool may)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	CHECK(syscall(SYS_capget, &head, data) == 0);
	data[0].effective &= ~(1u << CAP_SYS_NICE);
	data[0].effective |= may ? 1u << CAP_SYS_NICE : 0;
	CHECK(syscall(SYS_capset, &head, data) == 0);
}

/* Memory that a child has as well: without the right to move it for all it is refused as shared, with it
 * moved once for both. */
static void shared_by_two(void)
{
	struct other other = other_begin(false, other_share);
	struct process_tally tally = { 0 };

	other_ask(&other, "f");
	nice_set(false);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	uint64_t before = vm_counter("pgmigrate_success");
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_SHARED) == NR_PAGES && vm_counter("pgmigrate_success") == before);
	process_close(space);

	nice_set(true);
	tally = (struct process_tally){ 0 };
	space = space_of(other.pid);
	found = look(space, &other);
	CHECK(found.on[1] == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES);
	CHECK(vm_counter("pgmigrate_success") - before == NR_PAGES);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

#define RAM_FILE "/tmp/ram/file"

static void dirty_prepare(struct arena *arena)
{
	CHECK(mkdir("/tmp/ram", 0755) == 0 && mount("none", "/tmp/ram", "ramfs", 0, NULL) == 0);
	int fd = open(RAM_FILE, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0 && ftruncate(fd, (off_t)(NR_PAGES * PAGE_BYTES)) == 0);
	CHECK(mmap(arena->base, NR_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	      arena->base);
}

/* A file that can be written back nowhere: its dirty pages stay, and that is said. */
static void dirty_file(void)
{
	struct other other = other_begin(false, dirty_prepare);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	CHECK(found.on[1] == NR_PAGES);
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_DIRTY_FILE) == NR_PAGES);
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

static void pinned(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	other_ask(&other, "p");
	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_PINNED) == NR_PINNED);
	CHECK(tally_pages(&tally, REASON_MOVED) == NR_PAGES - NR_PINNED);
	for (size_t i = 0; i < found.nr; i++)
		CHECK(moves[i].reason == (i < NR_PINNED ? REASON_PINNED : REASON_MOVED));
	other_ask(&other, "c");
	process_close(space);
	other_end(&other, 0);
}

/* Another user's process is not to be looked at. */
static void stranger(void)
{
	struct other other = other_begin(false, NULL);
	pid_t user = fork();
	int status;

	if (user == 0) {
		struct process_options options = { .root = "" };
		struct process_space *space;
		struct node_map map;

		CHECK(setgid(65534) == 0 && setuid(65534) == 0 && node_map_read("", &map) == 0);
		int error = process_open(other.pid, &options, &map, &space);
		_exit(error != -EPERM && error != -EACCES);
	}
	CHECK(waitpid(user, &status, 0) == user && status == 0);
	other_end(&other, 0);
}

/* Its control group does not let it have memory of node 0. */
static void cpuset(void)
{
	struct other other = other_begin(false, NULL);
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)other.pid);
	if (!vm_write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset") ||
	    mkdir("/sys/fs/cgroup/one", 0755) || !vm_write("/sys/fs/cgroup/one/cpuset.mems", "1") ||
	    !vm_write("/sys/fs/cgroup/one/cgroup.procs", pid))
		live_skip("no cpusets here");
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	CHECK(tally_pages(&tally, REASON_POLICY) == NR_PAGES);
	process_close(space);
	other_end(&other, 0);
	CHECK(rmdir("/sys/fs/cgroup/one") == 0);
}

/* Fill node 0 until so many bytes may still be moved there. Pages that were freed come back from the
 * CPUs' own lists bit by bit, so so look again until it stays. */
static void node_fill(uint64_t wanted)
{
	struct node_room room;

	vm_home(0);
	for (int looks = 0; looks < 10; looks++) {
		CHECK(node_room_read("", 0, &room) == 0);
		uint64_t full = room.high_bytes + wanted;
		size_t bytes = room.free_bytes > full ? (size_t)(room.free_bytes - full) : 0;
		unsigned char *hog = bytes ? vm_memory(bytes) : NULL;

		for (size_t at = 0; at < bytes; at += PAGE_BYTES)
			hog[at] = 1;
		usleep(50000);
	}
	vm_home_default();
}

/* The target is nearly full: what does not fit is refused, and the kernel need not reclaim there. */
static void no_room(void)
{
	struct other other = other_begin(false, NULL);
	struct process_space *space = space_of(other.pid);
	struct found found = look(space, &other);
	struct process_tally tally = { 0 };

	node_fill(NR_PAGES * 5 / 8 * PAGE_BYTES);
	uint64_t reclaimed = vm_counter("pgscan_direct") + vm_counter("pgscan_kswapd");

	CHECK(process_move(space, moves, found.nr, NULL, 0, &tally) == 0);
	tally_print(&tally);
	printf("reclaim looked at %llu pages meanwhile\n",
	       (unsigned long long)(vm_counter("pgscan_direct") + vm_counter("pgscan_kswapd") - reclaimed));
	/* How many of each depends on what the CPUs' lists take and give meanwhile. */
	CHECK(tally_pages(&tally, REASON_NO_ROOM) > 0 && tally_pages(&tally, REASON_MOVED) > 0);
	CHECK(tally_pages(&tally, REASON_MOVED) + tally_pages(&tally, REASON_NO_ROOM) == NR_PAGES);
	process_close(space);
	other_end(&other, 0);
}

static const struct live_case cases[] = {
	{ "from-and-there", from_and_there },
	{ "forbidden", forbidden },
	{ "shared-by-two", shared_by_two },
	{ "dirty-file", dirty_file },
	{ "pinned", pinned },
	{ "stranger", stranger },
	{ "cpuset", cpuset },
	{ "no-room", no_room },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
