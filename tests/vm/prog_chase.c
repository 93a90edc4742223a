/* SPDX-License-Identifier: MIT */
/*
 * Moves all memory of a family of processes to and fro, whatever they do meanwhile: vm_chase PID
 * SECONDS.
 *
 * The product's own space for other processes, driven as hard as it goes and with no sense at
 * all: every page of every descendant that may be moved goes to the other node, again and again.
 * A space stays open from one round to the next, so that its process may exec or die in between.
 * The processes (vm_storm) compare their bytes; here every page asked for must have ended with
 * exactly one reason, and no error may come but that a process is gone or another.
 *
 * Prints one JSON object: pages by reason, and what the kernel's counter says.
 */
#include "vm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "family.h"
#include "process.h"

enum { MAX_SPACES = 256, MAX_MOVES = 4096 };

struct chased {
	pid_t pid;
	struct process_space *space;
};

struct chase {
	struct node_map map;
	struct chased chased[MAX_SPACES];
	size_t nr_chased;
	unsigned int to;
	struct process_move moves[MAX_MOVES];
	size_t nr_moves;
	struct process_tally tally;
	unsigned long nr_opened, nr_renewed, nr_gone;
};

static bool gone(int error)
{
	if (error && error != -ESRCH && error != -ESTALE)
		live_fail("error %d", error);
	return error == -ESRCH;
}

static void run_note(void *arg, const struct process_run *run)
{
	struct chase *chase = arg;

	for (uint64_t at = run->start; at < run->end && run->node != chase->to;
	     at += run->page_bytes)
		if (chase->nr_moves < MAX_MOVES)
			chase->moves[chase->nr_moves++] = (struct process_move){
				.address = at, .page_bytes = run->page_bytes };
}

/* Everything of one process. -ESRCH when it is not there any more. */
static int chase_one(struct chase *chase, struct process_space *space)
{
	const struct process_range *ranges;
	size_t nr;
	int error = process_look(space);

	if (error == -ESTALE) {
		chase->nr_renewed++;
		error = process_renew(space);
	}
	error = error ? error : process_ranges(space, &ranges, &nr);
	for (size_t i = 0; !error && i < nr; i++) {
		if (ranges[i].refusal != REASON_MOVED)
			continue;
		chase->nr_moves = 0;
		error = process_where(space, ranges[i].start, ranges[i].end, run_note, chase);
		if (!error && chase->nr_moves)
			error = process_move(space, chase->moves, chase->nr_moves, NULL, chase->to,
					     &chase->tally);
	}
	return gone(error) ? -ESRCH : 0;
}

static bool known(const struct chase *chase, pid_t pid)
{
	for (size_t i = 0; i < chase->nr_chased; i++)
		if (chase->chased[i].pid == pid)
			return true;
	return false;
}

static void find(struct chase *chase, pid_t root)
{
	static const struct process_options options = { .root = "" };
	pid_t pids[MAX_SPACES];
	size_t nr;

	CHECK(family_descendants("", &root, 1, pids, MAX_SPACES, &nr) == 0);
	for (size_t i = 0; i < nr && chase->nr_chased < MAX_SPACES; i++) {
		struct chased *next = &chase->chased[chase->nr_chased];

		if (known(chase, pids[i]) ||
		    gone(process_open(pids[i], &options, &chase->map, &next->space)))
			continue;
		next->pid = pids[i];
		chase->nr_chased++;
		chase->nr_opened++;
	}
}

static void chase_all(struct chase *chase, uint64_t end_ns)
{
	for (size_t i = 0; i < chase->nr_chased && vm_now_ns() < end_ns;) {
		if (chase_one(chase, chase->chased[i].space) == 0) {
			i++;
			continue;
		}
		chase->nr_gone++;
		process_close(chase->chased[i].space);
		chase->chased[i] = chase->chased[--chase->nr_chased];
	}
}

static void print(const struct chase *chase, uint64_t kernel_moved)
{
	uint64_t sum = 0;

	printf("{\"opened\": %lu, \"renewed\": %lu, \"gone\": %lu, \"kernel_moved\": %" PRIu64
	       ", \"asked\": %" PRIu64, chase->nr_opened, chase->nr_renewed, chase->nr_gone,
	       kernel_moved, chase->tally.asked_bytes / PAGE_BYTES);
	for (unsigned int i = 0; i < REASON_COUNT; i++) {
		sum += chase->tally.bytes[i];
		printf(", \"%s\": %" PRIu64, reason_name(i), chase->tally.bytes[i] / PAGE_BYTES);
	}
	printf("}\n");
	CHECK(sum == chase->tally.asked_bytes);
}

int main(int argc, char **argv)
{
	static struct chase chase;
	uint64_t before = vm_counter("pgmigrate_success");
	uint64_t end_ns;
	pid_t root;

	CHECK(argc == 3);
	root = (pid_t)strtol(argv[1], NULL, 10);
	end_ns = vm_now_ns() + strtoull(argv[2], NULL, 10) * UINT64_C(1000000000);
	CHECK(node_map_read("", &chase.map) == 0);
	for (; vm_now_ns() < end_ns; chase.to = !chase.to) {
		find(&chase, root);
		chase_all(&chase, end_ns);
	}
	for (size_t i = 0; i < chase.nr_chased; i++)
		process_close(chase.chased[i].space);
	print(&chase, vm_counter("pgmigrate_success") - before);
	return 0;
}
