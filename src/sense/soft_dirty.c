/* SPDX-License-Identifier: MIT */
#include "soft_dirty.h"

#include <errno.h>
#include <stdlib.h>

#include "array.h"
#include "pagemap.h"
#include "pass.h"
#include "probe.h"

/* A page that was seen marked: believed when its range is still there at the end of the slice. */
struct found {
	uint64_t address;
	struct pass_range range;
	uint32_t bytes;
};

struct marks {
	struct pass_ranges known, now; /* when they were cleared; at the end of a slice */
	struct found *found;
	size_t nr_found, max_found;
};

struct looking {
	struct marks *marks;
	const struct pass_range *range;
	int error;
};

static void page_visit(void *arg, const struct pagemap_page *page)
{
	struct looking *looking = arg;
	struct marks *marks = looking->marks;

	if (!page->soft_dirty || looking->error)
		return;
	struct found *found = array_room(marks->found, marks->nr_found, &marks->max_found, sizeof *found);
	if (!found) {
		looking->error = -ENOMEM;
		return;
	}
	marks->found = found;
	found[marks->nr_found++] = (struct found){ page->address, *looking->range, page->bytes };
}

static int marks_look(struct pass *pass, struct pass_process *process, const struct pass_range *range,
		      uint64_t start, uint64_t end)
{
	struct marks *marks = process->own;
	struct looking looking = { .marks = marks, .range = range };

	(void)pass;
	if (!pass_ranges_have(&marks->known, range))
		return 0;
	int error = pagemap_walk(process->target.dir, start, end, page_visit, &looking);
	return error ? error : looking.error;
}

static int marks_slice_end(struct pass *pass, struct pass_process *process)
{
	struct marks *marks = process->own;
	int error = marks->nr_found ? pass_ranges_read(process, &marks->now) : 0;

	for (size_t i = 0; !error && i < marks->nr_found; i++) {
		const struct found *found = &marks->found[i];
		if (pass_ranges_have(&marks->now, &found->range))
			pass_touched(pass, process, found->address, found->bytes);
	}
	marks->nr_found = 0;
	return error;
}

static int marks_finish(struct pass *pass, struct pass_process *process)
{
	struct marks *marks = process->own;
	int error = pass_ranges_read(process, &marks->known);

	if (!error)
		error = pagemap_clear_soft_dirty(process->target.dir);
	if (!error)
		pass_armed(pass, process, &marks->known);
	return error;
}

static void marks_forget(struct pass *pass, struct pass_process *process)
{
	struct marks *marks = process->own;

	(void)pass;
	pass_ranges_free(&marks->known);
	pass_ranges_free(&marks->now);
	free(marks->found);
	*marks = (struct marks){ 0 };
}

static const struct pass_ops marks_ops = {
	.own_bytes = sizeof(struct marks),
	.faults = true,
	.look = marks_look,
	.slice_end = marks_slice_end,
	.finish = marks_finish,
	.forget = marks_forget,
};

static const struct sense_ops soft_dirty_ops = {
	.name = "soft-dirty",
	.cost = "one fault of the process for each page that it writes between two passes",
	.grain_bytes = 4096,
	.writes_only = true,
	.sees_fast = true,
	.add = pass_add,
	.remove = pass_remove,
	.read = pass_read,
	.pace = pass_pace,
	.usage = pass_usage,
	.close = pass_close,
};

int soft_dirty_probe(const struct soft_dirty_options *options, const char **ret_why)
{
	int error = *options->root ? 0 : probe_soft_dirty();

	if (!error)
		return 0;
	*ret_why = "this kernel does not mark written pages: use one built with CONFIG_MEM_SOFT_DIRTY, such "
		   "as Debian's";
	return -EOPNOTSUPP;
}

int soft_dirty_open(const struct soft_dirty_options *options, struct sense **ret_sense,
		    const char **ret_why)
{
	int error = soft_dirty_probe(options, ret_why);

	if (error)
		return error;
	struct pass *pass = calloc(1, sizeof *pass);
	if (!pass) {
		*ret_why = "no memory";
		return -ENOMEM;
	}
	pass_init(pass, &soft_dirty_ops, &marks_ops, options->root);
	*ret_sense = &pass->sense;
	return 0;
}
