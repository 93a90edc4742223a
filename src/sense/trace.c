/* SPDX-License-Identifier: MIT */
#include "trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "file.h"
#include "targets.h"

struct access {
	uint64_t time_ns; /* since the trace began */
	uint64_t address;
	uint32_t cpu;
	pid_t pid;        /* 0: the first process */
};

struct trace {
	struct sense sense;
	FILE *file;
	char *line;
	size_t room;
	struct targets targets;
	pid_t first;                 /* 0: nobody was looked after yet */
	struct access next;
	bool waiting;                /* `next` is read, its time has not come */
	uint64_t begun_ns, period_ns; /* period_ns 0: paused */
	uint64_t nr_touches, nr_lost;
};

static struct trace *trace_of(struct sense *sense)
{
	return (struct trace *)(void *)sense;
}

/* ---- the file ---- */

/* 0; -EAGAIN: nothing to play in this line; -EBADMSG. */
static int access_parse(const char *line, struct access *ret)
{
	struct access access = { .cpu = SENSE_CPU_UNKNOWN };
	int64_t address;
	char more;

	line += strspn(line, " \t\r\n");
	if (!*line || *line == '#')
		return -EAGAIN;
	int nr = sscanf(line, "%" SCNu64 " %d %" SCNi64 " %" SCNu32 " %c", &access.time_ns, &access.pid,
			&address, &access.cpu, &more);
	if (nr < 3 || nr > 4 || strchr(line, '-'))
		return -EBADMSG;
	access.address = (uint64_t)address;
	*ret = access;
	return 0;
}

/* The next line that is whole; the end of one that is being written is left for the next time. */
static bool line_read(struct trace *trace)
{
	long at = ftell(trace->file);
	ssize_t length;

	clearerr(trace->file);
	length = getline(&trace->line, &trace->room, trace->file);
	if (length > 0 && trace->line[length - 1] == '\n')
		return true;
	if (length > 0)
		fseek(trace->file, at, SEEK_SET);
	return false;
}

static bool access_next(struct trace *trace)
{
	while (!trace->waiting && line_read(trace)) {
		int error = access_parse(trace->line, &trace->next);

		trace->waiting = !error;
		trace->nr_lost += error == -EBADMSG;
	}
	return trace->waiting;
}

/* Every line is an access, or none on purpose. Then back to the beginning. */
static int lines_check(struct trace *trace, uint64_t *ret_line)
{
	struct access access;
	uint64_t line = 1;

	for (; line_read(trace); line++) {
		if (access_parse(trace->line, &access) == -EBADMSG) {
			*ret_line = line;
			return -EBADMSG;
		}
	}
	return fseek(trace->file, 0, SEEK_SET) ? -errno : 0;
}

/* ---- processes ---- */

static int trace_add(struct sense *sense, pid_t pid)
{
	struct trace *trace = trace_of(sense);
	struct target *target;
	int error = targets_add(&trace->targets, pid, sizeof *target, &target);

	if (!error && !trace->first) {
		trace->first = pid;
		trace->begun_ns = clock_now_ns();
	}
	return error;
}

static void trace_remove(struct sense *sense, pid_t pid)
{
	struct trace *trace = trace_of(sense);
	struct target *target = targets_find(&trace->targets, pid);

	if (target)
		targets_drop(&trace->targets, target);
}

/* ---- playing ---- */

static void trace_read(struct sense *sense, void (*visit)(void *arg, const struct sense_event *event),
		       void *arg)
{
	struct trace *trace = trace_of(sense);
	uint64_t now_ns = clock_now_ns();

	while (trace->first && access_next(trace) && trace->begun_ns + trace->next.time_ns <= now_ns) {
		const struct access *access = &trace->next;
		pid_t pid = access->pid ? access->pid : trace->first;

		trace->waiting = false;
		if (!trace->period_ns || !targets_find(&trace->targets, pid))
			continue;
		trace->nr_touches++;
		visit(arg, &(struct sense_event){
			.kind = SENSE_TOUCH,
			.cpu = access->cpu,
			.time_ns = trace->begun_ns + access->time_ns,
			.address = access->address,
			.end = access->address + 1,
			.pid = pid,
		});
	}
}

static int trace_pace(struct sense *sense, uint64_t period_ns)
{
	trace_of(sense)->period_ns = period_ns;
	return 0;
}

static void trace_usage(const struct sense *sense, struct sense_usage *ret_usage)
{
	const struct trace *trace = (const struct trace *)(const void *)sense;

	*ret_usage = (struct sense_usage){
		.nr_touches = trace->nr_touches,
		.nr_lost = trace->nr_lost,
	};
}

/* ---- open and close ---- */

static int trace_close(struct sense *sense)
{
	struct trace *trace = trace_of(sense);

	while (trace->targets.first)
		targets_drop(&trace->targets, trace->targets.first);
	if (trace->file)
		fclose(trace->file);
	free(trace->line);
	free(trace);
	return 0;
}

static const struct sense_ops trace_ops = {
	.name = "trace",
	.cost = "nothing is looked at: accesses are played from a file",
	.grain_bytes = 4096,
	.knows_cpu = true,
	.sees_fast = true,
	.add = trace_add,
	.remove = trace_remove,
	.read = trace_read,
	.pace = trace_pace,
	.usage = trace_usage,
	.close = trace_close,
};

int trace_open(const struct trace_options *options, struct sense **ret_sense, uint64_t *ret_line)
{
	struct trace *trace = calloc(1, sizeof *trace);

	if (!trace)
		return -ENOMEM;
	trace->sense.ops = &trace_ops;
	trace->targets.root = options->root;
	trace->period_ns = UINT64_MAX;
	int error = file_plain(options->root, options->path, &trace->file);
	if (!error)
		error = lines_check(trace, ret_line);
	if (error)
		trace_close(&trace->sense);
	else
		*ret_sense = &trace->sense;
	return error;
}
