/* SPDX-License-Identifier: MIT */
#include "process_inner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "pagemap.h"
#include "pidfd.h"
#include "proc.h"

/* ---- opening, and being the same still -------------------------------------------------------- */

/* The pagemap of a memory map that has ended is empty. A child between vfork(2) and exec uses its
 * parent's map, which does not end with the exec: there it is the image that differs. */
static int map_look(const struct process_space *space)
{
	uint64_t image;

	if (!pagemap_there(space->pagemap))
		return -ESTALE;
	int error = proc_image(space->dir, &image);
	if (error)
		return error;
	return image == space->image ? 0 : -ESTALE;
}

/* A process that is ending gives up its map before its end can be seen, and has none from then on: -ESRCH. */
static int map_any(const struct process_space *space)
{
	int pagemap, error = pagemap_open(space->dir, &pagemap);

	if (error)
		return error;
	bool none = !pagemap_there(pagemap);
	close(pagemap);
	return none ? -ESRCH : 0;
}

int process_look(const struct process_space *space)
{
	int error;

	if (!space->live)
		return 0;
	if (space->pidfd < 0 || pidfd_ended(space->pidfd))
		return -ESRCH;
	error = map_look(space);
	if (error == -ESTALE) {
		int none = map_any(space);
		error = none ? none : error;
	}
	return error;
}

/* The image is read on both sides of the opening, so that both are of one program. */
static int map_bind(struct process_space *space)
{
	uint64_t image = 0, again = 1;

	for (int tries = 0; tries < 16; tries++) {
		int pagemap, error = proc_image(space->dir, &image);

		if (!error)
			error = pagemap_open(space->dir, &pagemap);
		if (error)
			return error;
		if (!proc_image(space->dir, &again) && image == again) {
			if (space->pagemap >= 0)
				close(space->pagemap);
			space->pagemap = pagemap;
			space->image = image;
			return 0;
		}
		close(pagemap);
	}
	return -ESRCH;
}

int process_renew(struct process_space *space)
{
	int error = map_bind(space);

	if (!error)
		error = process_look(space);
	if (error)
		return error;
	free(space->ranges);
	space->ranges = NULL;
	space->nr_ranges = space->room_ranges = 0;
	space->flags = space->policies = (struct reading){ 0 };
	return 0;
}

/* Since it was chosen the number may have become a stranger's. One that began within a tick of that is refused,
 * too. */
static int age_look(const struct process_space *space, uint64_t before_ns)
{
	uint64_t started_ns;
	int error = before_ns ? proc_started(space->dir, &started_ns) : 0;

	return error || !before_ns || started_ns <= before_ns ? error : -ESRCH;
}

static int live_open(struct process_space *space, uint64_t before_ns)
{
	int error = pidfd_get(space->pid, &space->pidfd);

	if (!error)
		error = proc_open(space->pid, &space->dir);
	if (!error)
		error = age_look(space, before_ns);
	if (!error)
		error = map_bind(space);
	if (!error)
		error = process_look(space);
	if (!error)
		error = move_query(space->pid, NULL, 0, NULL);
	space->all = move_may_all();
	return error == -ESTALE ? -ESRCH : error;
}

int process_open(pid_t pid, const struct process_options *options, const struct node_map *map,
		 struct process_space **ret_space)
{
	struct process_space *space = calloc(1, sizeof(*space));

	if (!space)
		return -ENOMEM;
	*space = (struct process_space){
		.pid = pid,
		.live = !*options->root,
		.pidfd = -1,
		.dir = -1,
		.pagemap = -1,
		.map = map,
		.root = options->root,
	};
	move_pace_init(&space->pace, options->stall_ns ? options->stall_ns : MOVE_STALL_NS);
	int error = space->live ? live_open(space, options->before_ns)
				: proc_open_below(space->root, space->pid, &space->dir);
	if (error) {
		process_close(space);
		return error;
	}
	*ret_space = space;
	return 0;
}

static void file_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void process_ended(struct process_space *space)
{
	file_close(&space->pagemap);
	file_close(&space->dir);
	file_close(&space->pidfd);
}

void process_close(struct process_space *space)
{
	process_ended(space);
	free(space->ranges);
	free(space);
}

void process_set_stall(struct process_space *space, uint64_t stall_ns)
{
	space->pace.stall_ns = stall_ns;
}

void process_set_pace(struct process_space *space, const struct move_pace *pace)
{
	move_pace_inherit(&space->pace, pace);
}

const struct move_pace *process_pace(const struct process_space *space)
{
	return &space->pace;
}

/* ---- where it may be, and where it runs ------------------------------------------------------- */

static void node_add(void *arg, unsigned int first, unsigned int last)
{
	for (unsigned int node = first; node <= last; node++)
		nodeset_add(arg, node);
}

int process_allowed(const struct process_space *space, struct nodeset *ret_nodes)
{
	struct nodeset nodes = { 0 };
	char text[4096];
	int error = proc_status_text(space->dir, "Mems_allowed_list", text, sizeof(text));

	/* A kernel without cpusets. */
	if (error == -ENOENT)
		nodes = space->map->memory;
	else if (error)
		return error;
	else if (nodeset_list(text, NODESET_MAX - 1, node_add, &nodes))
		return -EIO;
	*ret_nodes = nodes;
	return 0;
}

struct thread_count {
	const struct node_map *map;
	uint32_t *all;
	uint32_t running[NODESET_MAX], nr_running;
};

static void thread_take(void *arg, pid_t tid, char state, int cpu)
{
	struct thread_count *count = arg;
	const struct node *node = node_find(count->map, node_of_cpu(count->map, cpu));

	(void)tid;
	if (!node)
		return;
	count->all[node - count->map->nodes]++;
	if (state != 'R')
		return;
	count->running[node - count->map->nodes]++;
	count->nr_running++;
}

int process_threads(const struct process_space *space, uint32_t *ret_counts)
{
	struct thread_count count = { .map = space->map, .all = ret_counts };

	memset(ret_counts, 0, space->map->nr * sizeof(*ret_counts));
	int error = proc_threads(space->dir, thread_take, &count);
	if (count.nr_running)
		memcpy(ret_counts, count.running, space->map->nr * sizeof(*ret_counts));
	return error;
}
