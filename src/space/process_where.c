/* SPDX-License-Identifier: MIT */
/*
 * Where the pages of a process are: pagemap names the present ones, cheaply also in sparse terabytes,
 * move_pages(2) tells the node of each; of a huge page only its start is asked for.
 */
#include "process_inner.h"

#include <errno.h>
#include <stdlib.h>

#include "pagemap.h"
#include "proc.h"

#define BATCH 1024u

/* Addresses that wait for their node, and the run that grows of the answers. */
struct asking {
	struct process_space *space;
	void (*visit)(void *arg, const struct process_run *run);
	void *arg;
	uint64_t addresses[BATCH];
	int nodes[BATCH];
	size_t nr;
	uint32_t page_bytes;      /* of all that wait */
	struct process_run run;   /* end 0: none yet */
	int error;
};

static void run_end(struct asking *asking)
{
	if (asking->run.end)
		asking->visit(asking->arg, &asking->run);
	asking->run.end = 0;
}

static void page_place(struct asking *asking, uint64_t address, int node)
{
	struct process_run *run = &asking->run;

	if (node < 0 || node >= (int)NODESET_MAX)
		return;
	if (run->end != address || run->node != (uint16_t)node || run->page_bytes != asking->page_bytes) {
		run_end(asking);
		*run = (struct process_run){
			.start = address,
			.page_bytes = asking->page_bytes,
			.node = (uint16_t)node,
		};
	}
	run->end = address + asking->page_bytes;
}

static void ask(struct asking *asking)
{
	if (!asking->nr || asking->error)
		return;
	asking->error = move_query(asking->space->pid, asking->addresses, asking->nr, asking->nodes);
	for (size_t i = 0; i < asking->nr && !asking->error; i++)
		page_place(asking, asking->addresses[i], asking->nodes[i]);
	asking->nr = 0;
}

static void present_take(void *arg, uint64_t start, uint64_t end, bool huge)
{
	struct asking *asking = arg;
	const struct process_range *range = process_range_find(asking->space, start);
	uint32_t page_bytes = range && range->page_bytes > PROCESS_PAGE ? range->page_bytes :
			      huge					 ? PROCESS_HUGE :
									   PROCESS_PAGE;

	if (page_bytes != asking->page_bytes)
		ask(asking);
	asking->page_bytes = page_bytes;
	for (uint64_t at = start & ~(uint64_t)(page_bytes - 1); at < end && !asking->error; at += page_bytes) {
		asking->addresses[asking->nr++] = at;
		if (asking->nr == BATCH)
			ask(asking);
	}
}

int process_where(struct process_space *space, uint64_t start, uint64_t end,
		  void (*visit)(void *arg, const struct process_run *run), void *arg)
{
	struct asking *asking = malloc(sizeof(*asking));
	int error = process_look(space);

	if (asking && !error) {
		asking->space = space;
		asking->visit = visit;
		asking->arg = arg;
		asking->nr = 0;
		asking->page_bytes = PROCESS_PAGE;
		asking->run.end = 0;
		asking->error = 0;
		error = proc_present(space->dir, start, end, present_take, asking);
		ask(asking);
		run_end(asking);
		if (!error)
			error = asking->error;
		/* What was asked by number may have been another's. */
		if (!error || error == -ESRCH)
			error = process_look(space);
	}
	if (!asking)
		error = -ENOMEM;
	free(asking);
	return error;
}

int process_first_present(const struct process_space *space, uint64_t start, uint64_t end, uint64_t *ret_address)
{
	return pagemap_first(space->pagemap, start, end, ret_address);
}

int process_query(struct process_space *space, const uint64_t *addresses, size_t nr, int *ret_nodes)
{
	int error = process_look(space);

	if (!error)
		error = move_query(space->pid, addresses, nr, ret_nodes);
	return error ? error : process_look(space);
}
