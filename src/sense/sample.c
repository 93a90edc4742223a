/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "clock.h"
#include "perf.h"
#include "rings.h"
#include "targets.h"

#define PERIOD_FIRST_NS UINT64_C(1000000000)
#define PROBE_RING_BYTES 4096u
#define ADDRESS_USER_END (UINT64_C(1) << 63)

struct sample {
	struct sense sense;
	struct perf_memory event;
	struct rings rings;     /* none while paused */
	struct targets targets; /* of struct followed */
	uint64_t period_ns, nr_touches, nr_lost;
};

struct reading {
	struct sample *sample;
	struct followed *followed;
	void (*visit)(void *arg, const struct sense_event *event);
	void *arg;
};

static struct sample *sample_of(struct sense *sense)
{
	return (struct sample *)(void *)sense;
}

static int thread_open(void *arg, struct followed *owner, pid_t tid, size_t ring_bytes, struct perf_ring *ret_ring)
{
	const struct sample *sample = arg;

	(void)owner;
	return perf_ring_open_memory(tid, ring_bytes, &sample->event, ret_ring);
}

static struct followed *followed_of(struct target *target)
{
	return (struct followed *)(void *)target;
}

static void sample_remove(struct sense *sense, pid_t pid)
{
	struct sample *sample = sample_of(sense);
	struct target *target = targets_find(&sample->targets, pid);

	if (!target)
		return;
	rings_drop(&sample->rings, followed_of(target));
	targets_drop(&sample->targets, target);
}

static int sample_add(struct sense *sense, pid_t pid)
{
	struct sample *sample = sample_of(sense);
	struct target *target;
	int error = targets_add(&sample->targets, pid, sizeof(struct followed), &target);

	if (error)
		return error;
	followed_of(target)->look = true;
	if (!sample->period_ns)
		return 0; /* paused: looked at when it goes on */
	error = rings_follow(&sample->rings, followed_of(target));
	if (error)
		sample_remove(sense, pid);
	return error;
}

static void record_visit(void *arg, const struct perf_record *record)
{
	struct reading *reading = arg;
	struct sample *sample = reading->sample;

	rings_note(reading->followed, record);
	if (record->kind == PERF_LOST) {
		sample->nr_lost += record->nr_lost;
	} else if (record->kind == PERF_TOUCH && record->address && record->address < ADDRESS_USER_END) {
		sample->nr_touches++;
		reading->visit(reading->arg, &(struct sense_event){
			.kind = SENSE_TOUCH,
			.cpu = record->cpu,
			.time_ns = record->time_ns,
			.address = record->address,
			.end = record->address + 1,
			.pid = reading->followed->target.pid,
		});
	}
}

static void sample_read(struct sense *sense, void (*visit)(void *arg, const struct sense_event *event),
			void *arg)
{
	struct sample *sample = sample_of(sense);

	if (!sample->period_ns)
		return;
	for (size_t i = 0; i < sample->rings.nr; i++) {
		struct thread_ring *thread = &sample->rings.list[i];
		struct reading reading = { sample, thread->owner, visit, arg };
		perf_ring_read(&thread->ring, record_visit, &reading);
	}
	rings_look(&sample->rings, &sample->targets, clock_now_ns());
}

/* Samples come by themselves: only a pause changes anything. */
static int sample_pace(struct sense *sense, uint64_t period_ns)
{
	struct sample *sample = sample_of(sense);

	for (struct target *target = sample->targets.first; target; target = target->next) {
		if (!period_ns)
			rings_drop(&sample->rings, followed_of(target));
		followed_of(target)->look |= !sample->period_ns;
	}
	sample->period_ns = period_ns;
	return 0;
}

static void sample_usage(const struct sense *sense, struct sense_usage *ret_usage)
{
	const struct sample *sample = (const struct sample *)(const void *)sense;

	*ret_usage = (struct sense_usage){
		.nr_touches = sample->nr_touches,
		.nr_lost = sample->nr_lost,
		.nr_threads = sample->rings.nr,
	};
}

static int sample_close(struct sense *sense)
{
	struct sample *sample = sample_of(sense);

	while (sample->targets.first)
		sample_remove(sense, sample->targets.first->pid);
	rings_free(&sample->rings);
	free(sample);
	return 0;
}

/* What a guest touches has addresses of the guest, if the CPU samples it at all. */
static bool sample_sees_guests(const struct sense *sense)
{
	(void)sense;
	return false;
}

static const struct sense_ops sample_ops = {
	.name = "perf",
	.cost = "an interrupt of the process for each access that is sampled, one in many",
	.grain_bytes = 4096,
	.knows_cpu = true,
	.sees_fast = true,
	.sees_guests = sample_sees_guests,
	.add = sample_add,
	.remove = sample_remove,
	.read = sample_read,
	.pace = sample_pace,
	.usage = sample_usage,
	.close = sample_close,
};

/* Find the event, and open it on ourselves: a machine may name what it has not. */
static int event_find(const struct sample_options *options, struct perf_memory *ret_event,
		      const char **ret_why)
{
	struct perf_ring ring;
	int error = perf_memory_find(options->root, ret_event);

	if (!error)
		error = perf_ring_open_memory(getpid(), PROBE_RING_BYTES, ret_event, &ring);
	if (!error) {
		perf_ring_close(&ring);
		return 0;
	}
	if (error == -EACCES || error == -EPERM) {
		*ret_why = "its events may not be read: run as root, or sysctl kernel.perf_event_paranoid=1";
		return -EPERM;
	}
	*ret_why = "this machine has no events that sample accesses to memory (PEBS, IBS): use a real one of "
		   "Intel or AMD";
	return error == -ENOMEM ? error : -EOPNOTSUPP;
}

int sample_probe(const struct sample_options *options, const char **ret_why)
{
	struct perf_memory event;

	return event_find(options, &event, ret_why);
}

int sample_open(const struct sample_options *options, struct sense **ret_sense, const char **ret_why)
{
	struct perf_memory event;
	int error = event_find(options, &event, ret_why);

	if (error)
		return error;
	struct sample *sample = calloc(1, sizeof *sample);
	if (!sample) {
		*ret_why = "no memory";
		return -ENOMEM;
	}
	sample->sense.ops = &sample_ops;
	sample->targets.root = options->root;
	sample->event = event;
	sample->rings.open = thread_open;
	sample->rings.arg = sample;
	sample->period_ns = PERIOD_FIRST_NS;
	*ret_sense = &sample->sense;
	return 0;
}
