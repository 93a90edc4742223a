/* SPDX-License-Identifier: MIT */
#include "pass.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "clock.h"
#include "proc.h"

static struct pass *pass_of(struct sense *sense)
{
	return (struct pass *)(void *)sense;
}

/* ---- ranges ---- */

static int mapping_take(void *arg, const struct proc_mapping *mapping)
{
	struct pass_ranges *ranges = arg;

	if (mapping->special)
		return 0;
	struct pass_range *list = array_room(ranges->list, ranges->nr, &ranges->max, sizeof *list);
	if (!list)
		return -ENOMEM;
	ranges->list = list;
	list[ranges->nr++] = (struct pass_range){ mapping->start, mapping->end };
	return 0;
}

int pass_ranges_read(const struct pass_process *process, struct pass_ranges *ranges)
{
	ranges->nr = 0;
	return proc_mappings(process->target.dir, false, mapping_take, ranges);
}

static int range_order(const void *a, const void *b)
{
	const struct pass_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

bool pass_ranges_have(const struct pass_ranges *ranges, const struct pass_range *range)
{
	const struct pass_range *found =
		ranges->nr ? bsearch(range, ranges->list, ranges->nr, sizeof *range, range_order) : NULL;

	return found && found->end == range->end;
}

void pass_ranges_free(struct pass_ranges *ranges)
{
	free(ranges->list);
	*ranges = (struct pass_ranges){ 0 };
}

/* ---- processes ---- */

static struct pass_process *process_of(struct target *target)
{
	return (struct pass_process *)(void *)target;
}

int pass_add(struct sense *sense, pid_t pid)
{
	struct pass *pass = pass_of(sense);
	struct target *target;
	int error = targets_add(&pass->targets, pid, sizeof(struct pass_process) + pass->ops->own_bytes, &target);

	if (error)
		return error;
	struct pass_process *process = process_of(target);
	process->own = process + 1;
	error = pass_ranges_read(process, &process->ranges);
	/* The first pass only sets marks; what it says when it cannot, is said here. */
	if (!error)
		error = pass->ops->finish(pass, process);
	if (!error)
		error = proc_image(target->dir, &process->image);
	if (error)
		pass_remove(sense, pid);
	return error;
}

/* Where the pass goes on behind a process. */
static void process_next(struct pass *pass)
{
	pass->at = process_of(pass->at->target.next);
	pass->range = 0;
	pass->address = 0;
}

void pass_remove(struct sense *sense, pid_t pid)
{
	struct pass *pass = pass_of(sense);
	struct target *target = targets_find(&pass->targets, pid);

	if (!target)
		return;
	if (pass->at == process_of(target))
		process_next(pass);
	pass->ops->forget(pass, process_of(target));
	pass_ranges_free(&process_of(target)->ranges);
	targets_drop(&pass->targets, target);
}

/* ---- passes ---- */

void pass_touched(struct pass *pass, const struct pass_process *process, uint64_t address, uint32_t bytes)
{
	pass->nr_touches++;
	pass->visit(pass->arg, &(struct sense_event){
		.kind = SENSE_TOUCH,
		.cpu = SENSE_CPU_UNKNOWN,
		.time_ns = clock_now_ns(),
		.address = address,
		.end = address + bytes,
		.pid = process->target.pid,
	});
}

void pass_armed(struct pass *pass, const struct pass_process *process, const struct pass_ranges *ranges)
{
	for (size_t i = 0; pass->visit && i < ranges->nr; i++)
		pass->visit(pass->arg, &(struct sense_event){
			.kind = SENSE_ARMED,
			.cpu = SENSE_CPU_UNKNOWN,
			.time_ns = clock_now_ns(),
			.address = ranges->list[i].start,
			.end = ranges->list[i].end,
			.pid = process->target.pid,
		});
}

static int process_begin(struct pass *pass, struct pass_process *process)
{
	uint64_t image;
	int error = proc_image(process->target.dir, &image);

	if (!error && image != process->image) {
		pass->ops->forget(pass, process);
		process->image = image;
	}
	return error ? error : pass_ranges_read(process, &process->ranges);
}

/* Returns whether the process is done with: else time is up. */
static bool process_slice(struct pass *pass, uint64_t until_ns)
{
	struct pass_process *process = pass->at;
	int error = pass->range || pass->address ? 0 : process_begin(pass, process);

	while (!error && pass->range < process->ranges.nr && clock_now_ns() < until_ns) {
		const struct pass_range *range = &process->ranges.list[pass->range];
		uint64_t start = pass->address > range->start ? pass->address : range->start;
		uint64_t end = (start & ~(PASS_WINDOW_BYTES - 1)) + PASS_WINDOW_BYTES;

		if (end > range->end)
			end = range->end;
		error = pass->ops->look(pass, process, range, start, end);
		pass->range += end == range->end;
		pass->address = end;
	}
	if (!error && pass->ops->slice_end)
		error = pass->ops->slice_end(pass, process);
	if (!error && pass->range < process->ranges.nr)
		return false;
	if (!error)
		error = pass->ops->finish(pass, process);
	/* It has ended, its owner finds out; or memory was short: what is marked now is not known. */
	if (error)
		pass->ops->forget(pass, process);
	return true;
}

void pass_read(struct sense *sense, void (*visit)(void *arg, const struct sense_event *event), void *arg)
{
	struct pass *pass = pass_of(sense);
	uint64_t now_ns = clock_now_ns(), until_ns = now_ns + PASS_SLICE_NS;
	uint64_t cpu_ns = clock_thread_cpu_ns();

	if (!pass->period_ns || !pass->targets.first)
		return;
	if (!pass->at && now_ns - pass->begun_ns >= pass->period_ns &&
	    now_ns - pass->begun_ns >= pass->cost_ns * PASS_REST) {
		pass->begun_ns = now_ns;
		pass->cost_ns = 0;
		pass->nr_passes++;
		pass->at = process_of(pass->targets.first);
		pass->range = 0;
		pass->address = 0;
	}
	pass->visit = visit;
	pass->arg = arg;
	while (pass->at && process_slice(pass, until_ns))
		process_next(pass);
	pass->visit = NULL;
	pass->cost_ns += clock_thread_cpu_ns() - cpu_ns;
}

int pass_pace(struct sense *sense, uint64_t period_ns)
{
	struct pass *pass = pass_of(sense);

	pass->period_ns = period_ns && period_ns < PASS_LEAST_NS ? PASS_LEAST_NS : period_ns;
	if (!period_ns) {
		pass->at = NULL;
		for (struct target *target = pass->targets.first; target; target = target->next)
			pass->ops->forget(pass, process_of(target));
	}
	return 0;
}

void pass_usage(const struct sense *sense, struct sense_usage *ret_usage)
{
	const struct pass *pass = (const struct pass *)(const void *)sense;

	*ret_usage = (struct sense_usage){
		.nr_touches = pass->nr_touches,
		.nr_faults = pass->ops->faults ? pass->nr_touches : 0, /* at most */
		.nr_own_faults = pass->ops->faults ? pass->nr_touches : 0,
		.nr_lost = pass->nr_lost,
		.nr_passes = pass->nr_passes,
	};
}

/* ---- open and close ---- */

void pass_init(struct pass *pass, const struct sense_ops *sense_ops, const struct pass_ops *ops,
	       const char *root)
{
	pass->sense.ops = sense_ops;
	pass->ops = ops;
	pass->targets.root = root;
	pass->period_ns = PASS_LEAST_NS;
}

int pass_close(struct sense *sense)
{
	struct pass *pass = pass_of(sense);

	while (pass->targets.first)
		pass_remove(sense, pass->targets.first->pid);
	if (pass->ops->close)
		pass->ops->close(pass);
	free(pass);
	return 0;
}
