/* SPDX-License-Identifier: MIT */
/* Settings first, then a ring for every thread; the idea is in hint.h. */
#include "hint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "cpu_rings.h"
#include "debugfs.h"
#include "file.h"
#include "node.h"
#include "perf.h"
#include "proc.h"
#include "rings.h"
#include "setting.h"
#include "sweep.h"
#include "targets.h"
#include "vmstat.h"

#define BALANCING "/sys/kernel/debug/sched/numa_balancing/"
#define BALANCING_MODE "/proc/sys/kernel/numa_balancing"
#define TIERING_MODE 2u
#define PAGE_SHIFT 12
#define SCAN_PERIOD_MS 1000u       /* of looks at all memory; a thread keeps what it began with */
#define SCAN_DELAY_MS 100u         /* before the first look at a new program; between looks of new threads */
#define PERIOD_LEAST_NS UINT64_C(1000000000)
#define ARMS_RING_BYTES 65536u     /* of each CPU: some hundred ranges */
#define CPUS_LOOK_NS UINT64_C(4000000000)
#define SETTINGS_LOOK_NS UINT64_C(1000000000)

enum { SET_BALANCING, SET_THRESHOLD, SET_LIMIT, SET_PERIOD, SET_SIZE, SET_DELAY, SET_COUNT };

/* In the order in which they are put back: first the kernel stops. */
static const struct setting table[SET_COUNT] = {
	[SET_BALANCING] = { .name = "numa_balancing", .path = BALANCING_MODE },
	[SET_THRESHOLD] = { .name = "hot_threshold_ms", .path = BALANCING "hot_threshold_ms" },
	[SET_LIMIT] = { .name = "promote_rate_limit",
			.path = "/proc/sys/kernel/numa_balancing_promote_rate_limit_MBps",
			.optional = true },
	[SET_PERIOD] = { .name = "scan_period_min_ms", .path = BALANCING "scan_period_min_ms" },
	[SET_SIZE] = { .name = "scan_size_mb", .path = BALANCING "scan_size_mb" },
	[SET_DELAY] = { .name = "scan_delay_ms", .path = BALANCING "scan_delay_ms", .optional = true },
};

struct swept {
	struct followed followed;
	bool guests;                 /* it runs some */
	struct sweep_process sweep;
};

struct hint {
	struct sense sense;
	struct settings settings;
	struct targets targets;      /* of struct swept */
	struct rings rings;          /* of their threads */
	struct cpu_rings arms;       /* none: it cannot be told what becomes inaccessible when */
	uint64_t nr_touches, nr_lost, nr_lost_ranges, cpus_looked_ns;
	/* The kernel's count of hint faults at the start and when the last sweep began; what was delivered then; and
	 * how many of the kernel's may have been those of the processes. */
	uint64_t faults_before, faults_then, delivered_then, own_faults;
	uint32_t probe_type;         /* 0: there are no probes */
	bool sees_guests;            /* what guests touch is told, as far as was tried */
	struct sweep sweep;
	uint64_t period_ns;          /* of sweeps; 0: paused */
	uint64_t size_mb;            /* what is set */
	bool off;                    /* the kernel's scanner does not run at all */
	enum sense_hold hold;        /* TAKEN: it is off */
	const char *set_by_others;   /* a setting */
	uint64_t settings_looked_ns;
	bool mounted;
};

static struct hint *hint_of(struct sense *sense)
{
	return (struct hint *)(void *)sense;
}

/* ---- processes ---- */

static struct swept *swept_of(struct target *target)
{
	return (struct swept *)(void *)target;
}

static struct swept *owner_of(const struct thread_ring *thread)
{
	return swept_of(&thread->owner->target);
}

/* What guests touch, in a ring that has it not yet. */
static void guests_open(struct hint *hint, struct perf_ring *ring)
{
	if (!hint->sees_guests || perf_ring_has_guests(ring))
		return;
	int error = perf_ring_guests(ring, hint->probe_type);
	hint->sees_guests = !error || error == -ESRCH;
}

/* A process that runs no guest has nothing to tell of any. */
static int thread_open(void *arg, struct followed *owner, pid_t tid, size_t ring_bytes, struct perf_ring *ret_ring)
{
	int error = perf_ring_open(tid, ring_bytes, ret_ring);

	if (!error && swept_of(&owner->target)->guests)
		guests_open(arg, ret_ring);
	return error;
}

static int arms_open(void *arg, unsigned int cpu, struct perf_ring *ret_ring)
{
	const struct hint *hint = arg;

	return perf_ring_open_arms(cpu, ARMS_RING_BYTES, hint->probe_type, ret_ring);
}

static void hint_remove(struct sense *sense, pid_t pid)
{
	struct hint *hint = hint_of(sense);
	struct target *target = targets_find(&hint->targets, pid);

	if (!target)
		return;
	rings_drop(&hint->rings, &swept_of(target)->followed);
	targets_drop(&hint->targets, target);
}

static int hint_add(struct sense *sense, pid_t pid)
{
	struct hint *hint = hint_of(sense);
	struct target *target;
	int error = targets_add(&hint->targets, pid, sizeof(struct swept), &target);

	if (error)
		return error;
	error = rings_follow(&hint->rings, &swept_of(target)->followed);
	if (error)
		hint_remove(sense, pid);
	hint->sweep.news |= !error;
	return error;
}

static void hint_guests(struct sense *sense, pid_t pid)
{
	struct hint *hint = hint_of(sense);
	struct target *target = targets_find(&hint->targets, pid);

	if (!target)
		return;
	swept_of(target)->guests = true;
	for (size_t i = 0; i < hint->rings.nr; i++)
		if (owner_of(&hint->rings.list[i]) == swept_of(target))
			guests_open(hint, &hint->rings.list[i].ring);
}

static bool hint_sees_guests(const struct sense *sense)
{
	return ((const struct hint *)(const void *)sense)->sees_guests;
}

/* ---- settings ---- */

/* As it needs them. The kernel begins with the mode: then all is set, and nothing of it is missed. */
static int settings_put(struct hint *hint)
{
	const uint64_t values[SET_COUNT] = {
		[SET_BALANCING] = TIERING_MODE,
		[SET_PERIOD] = SCAN_PERIOD_MS,
		[SET_SIZE] = hint->size_mb,
		[SET_DELAY] = SCAN_DELAY_MS,
	};
	int error = 0;

	for (size_t i = SET_BALANCING + 1; !error && i < SET_COUNT; i++)
		error = settings_change(&hint->settings, i, values[i]);
	return error || hint->off ? error : settings_change(&hint->settings, SET_BALANCING, values[SET_BALANCING]);
}

static void size_set(struct hint *hint, uint64_t size_mb)
{
	if (size_mb != hint->size_mb && !settings_change(&hint->settings, SET_SIZE, size_mb))
		hint->size_mb = size_mb;
}

/* Until the next sweep it is let look at next to nothing. */
static void hint_rest(struct hint *hint)
{
	sweep_end(&hint->sweep);
	size_set(hint, SWEEP_SIZE_LEAST_MB);
}

/* None of them is ours until the next sweep: whatever others set meanwhile, be it what we would, is theirs. */
static int settings_give_back(struct hint *hint)
{
	if (hint->sweep.on)
		hint_rest(hint);
	int error = settings_restore(&hint->settings);
	hint->off |= !error;
	return error;
}

/* Who sets them again after us is right. */
static void settings_let_go(struct hint *hint)
{
	settings_give_back(hint);
	hint->off = true;
	hint->hold = SENSE_TAKEN;
}

static void settings_mind(struct hint *hint)
{
	unsigned int set = settings_look(&hint->settings);

	if (!set || hint->off)
		return;
	hint->set_by_others = table[__builtin_ctz(set)].path;
	if (hint->hold == SENSE_HELD && !settings_put(hint))
		hint->hold = SENSE_DISPUTED;
	else
		settings_let_go(hint);
}

static enum sense_hold hint_hold(const struct sense *sense, const char **ret_what)
{
	const struct hint *hint = (const struct hint *)(const void *)sense;

	if (hint->hold != SENSE_HELD)
		*ret_what = hint->set_by_others;
	return hint->hold;
}

/* ---- faults ---- */

/* As the kernel counts them: of the faults that are delivered most may be first touches and the like, which
 * the process had without us. */
static uint64_t hint_faults(const struct hint *hint)
{
	struct vmstat now = { 0 };

	return vmstat_read(hint->targets.root, &now) ? 0 : now.numa_hint_faults;
}

/* How many since the last sweep began may be those of the processes. */
static uint64_t own_faults(const struct hint *hint, uint64_t faults)
{
	uint64_t delivered = hint->nr_touches + hint->nr_lost - hint->delivered_then;

	faults -= hint->faults_then;
	return faults < delivered ? faults : delivered;
}

static void faults_divide(struct hint *hint)
{
	uint64_t faults = hint_faults(hint);

	hint->own_faults += own_faults(hint, faults);
	hint->faults_then = faults;
	hint->delivered_then = hint->nr_touches + hint->nr_lost;
}

/* ---- sweeps ---- */

static uint64_t resident_mb_of(const struct target *target)
{
	uint64_t size_pages, anon_pages;

	return proc_statm(target->dir, &size_pages, &anon_pages) ? 0 : (anon_pages >> 8) + 1;
}

static void hint_sweep(struct hint *hint, uint64_t now_ns)
{
	uint64_t resident_mb = 0;

	if (hint->off) {
		hint->off = false;
		hint->off = settings_put(hint) != 0;
		if (hint->off)
			return;
	}
	faults_divide(hint);
	for (struct target *target = hint->targets.first; target; target = target->next) {
		struct sweep_process *sweep = &swept_of(target)->sweep;
		sweep->begun = sweep->wrapped = sweep->done = false;
		resident_mb += resident_mb_of(target);
	}
	sweep_begin(&hint->sweep, resident_mb, hint->nr_touches, now_ns);
	size_set(hint, hint->sweep.size_mb);
}

static bool hint_over(const struct hint *hint, uint64_t now_ns)
{
	size_t nr = 0, waiting = 0;

	for (struct target *target = hint->targets.first; target; target = target->next, nr++)
		waiting += !sweep_process_over(&hint->sweep, &swept_of(target)->sweep, hint->arms.nr, now_ns);
	return sweep_over(nr, waiting);
}

/* After a pause nothing was touched because nothing could be seen. */
static bool hint_due(struct hint *hint, uint64_t now_ns)
{
	return hint->period_ns && hint->targets.first && hint->hold != SENSE_TAKEN &&
	       (hint->off || sweep_due(&hint->sweep, hint->period_ns, hint->nr_touches, now_ns));
}

static void sweep_look(struct hint *hint, uint64_t now_ns)
{
	if (hint->sweep.on && hint_over(hint, now_ns))
		hint_rest(hint);
	else if (!hint->sweep.on && hint_due(hint, now_ns))
		hint_sweep(hint, now_ns);
}

/* ---- reading ---- */

struct reading {
	struct hint *hint;
	struct thread_ring *thread; /* whose it is; NULL: a CPU's */
	void (*visit)(void *arg, const struct sense_event *event);
	void *arg;
};

static void touch_visit(struct reading *reading, const struct swept *swept, const struct perf_record *record)
{
	if (!reading->hint->period_ns || reading->hint->hold == SENSE_TAKEN)
		return; /* a fault of another kind: it makes none */
	reading->hint->nr_touches++;
	reading->visit(reading->arg, &(struct sense_event){
		.kind = SENSE_TOUCH,
		.time_ns = record->time_ns,
		.address = record->address,
		.end = record->address + 1,
		.pid = swept->followed.target.pid,
		.cpu = record->cpu,
	});
}

/*
 * KVM may look for a page several times until it has it: that is one touch. It is not made inaccessible again
 * within a period.
 */
static void guest_visit(struct reading *reading, const struct swept *swept, const struct perf_record *record)
{
	struct thread_ring *thread = reading->thread;

	if (!thread)
		return; /* no CPU's ring has such records */
	bool again = record->address == thread->guest_address &&
		     record->time_ns - thread->guest_ns < PERIOD_LEAST_NS / 2;

	thread->guest_address = record->address;
	thread->guest_ns = record->time_ns;
	if (!again)
		touch_visit(reading, swept, record);
}

static void armed_visit(struct reading *reading, struct swept *swept, const struct perf_record *record)
{
	struct hint *hint = reading->hint;

	if (sweep_range(&hint->sweep, &swept->sweep, record->address,
			(record->end - record->address) >> PAGE_SHIFT, record->time_ns))
		size_set(hint, hint->sweep.size_mb);
	reading->visit(reading->arg, &(struct sense_event){
		.kind = SENSE_ARMED,
		.time_ns = record->time_ns,
		.address = record->address,
		.end = record->end,
		.pid = swept->followed.target.pid,
		.cpu = SENSE_CPU_UNKNOWN,
	});
}

/* The end of any range may not be told. */
static void ranges_forget(struct hint *hint)
{
	for (struct target *target = hint->targets.first; target; target = target->next)
		swept_of(target)->sweep.range_ns = 0;
}

/* Of a thread: touches. Of a CPU: the end of anybody's range. */
static void lost_visit(struct reading *reading, uint64_t nr)
{
	if (reading->thread) {
		reading->hint->nr_lost += nr;
		return;
	}
	reading->hint->nr_lost_ranges += nr;
	ranges_forget(reading->hint);
}

static void record_visit(void *arg, const struct perf_record *record)
{
	struct reading *reading = arg;
	struct swept *swept = reading->thread ? owner_of(reading->thread) :
			      swept_of(targets_find(&reading->hint->targets, (pid_t)record->pid));

	if (record->kind == PERF_LOST)
		lost_visit(reading, record->nr_lost);
	if (!swept)
		return; /* a stranger on a CPU */
	if (reading->thread)
		rings_note(&swept->followed, record);
	switch (record->kind) {
	case PERF_TOUCH:
		touch_visit(reading, swept, record);
		break;
	case PERF_GUEST:
		guest_visit(reading, swept, record);
		break;
	case PERF_ARM_BEGIN:
		armed_visit(reading, swept, record);
		break;
	case PERF_ARM_END:
		sweep_range_end(&swept->sweep, record->nr_armed, record->time_ns);
		break;
	case PERF_FORK:
	case PERF_LOST:
	case PERF_OTHER:
	case PERF_KINDS:
		break;
	}
}

static void hint_read(struct sense *sense, void (*visit)(void *arg, const struct sense_event *event),
		      void *arg)
{
	struct hint *hint = hint_of(sense);
	uint64_t now_ns = clock_now_ns();

	/* First what became inaccessible: then its touches. */
	for (size_t i = 0; i < hint->arms.nr; i++) {
		struct reading reading = { hint, NULL, visit, arg };
		perf_ring_read(&hint->arms.list[i].ring, record_visit, &reading);
	}
	for (size_t i = 0; i < hint->rings.nr; i++) {
		struct reading reading = { hint, &hint->rings.list[i], visit, arg };
		perf_ring_read(&hint->rings.list[i].ring, record_visit, &reading);
	}
	if (now_ns - hint->settings_looked_ns >= SETTINGS_LOOK_NS) {
		hint->settings_looked_ns = now_ns;
		settings_mind(hint);
	}
	sweep_look(hint, now_ns);
	if (now_ns - hint->cpus_looked_ns >= CPUS_LOOK_NS) {
		hint->cpus_looked_ns = now_ns;
		if (cpu_rings_look(&hint->arms))
			ranges_forget(hint);
	}
	rings_look(&hint->rings, &hint->targets, now_ns);
}

static int hint_pace(struct sense *sense, uint64_t period_ns)
{
	struct hint *hint = hint_of(sense);

	int error = 0;

	if (!period_ns && !hint->off)
		error = settings_give_back(hint);
	if (!period_ns && hint->hold == SENSE_TAKEN)
		hint->hold = SENSE_DISPUTED;
	hint->period_ns = period_ns && period_ns < PERIOD_LEAST_NS ? PERIOD_LEAST_NS : period_ns;
	return error;
}

static void hint_usage(const struct sense *sense, struct sense_usage *ret_usage)
{
	const struct hint *hint = (const struct hint *)(const void *)sense;
	uint64_t faults = hint_faults(hint);

	*ret_usage = (struct sense_usage){
		.nr_touches = hint->nr_touches,
		.nr_faults = faults - hint->faults_before,
		.nr_own_faults = hint->own_faults + own_faults(hint, faults),
		.nr_lost = hint->nr_lost,
		.nr_lost_ranges = hint->nr_lost_ranges,
		.nr_threads = hint->rings.nr,
		.nr_passes = hint->sweep.nr,
	};
}

/* ---- open and close ---- */

static int hint_close(struct sense *sense)
{
	struct hint *hint = hint_of(sense);

	/* No fault is made that nobody reads, and nobody else begins before our probes are gone. */
	int error = settings_restore(&hint->settings);
	while (hint->targets.first)
		hint_remove(sense, hint->targets.first->pid);
	rings_free(&hint->rings);
	cpu_rings_close(&hint->arms);
	settings_release(&hint->settings);
	if (hint->mounted)
		debugfs_unmount();
	free(hint);
	return error;
}

static const struct sense_ops hint_ops = {
	.name = "hint",
	.cost = "one fault of the process for each page of a slow node that is looked at and in use",
	.grain_bytes = 4096,
	.knows_cpu = true,
	.maps_written_only = true,
	.kernel_moves = true,
	.sees_guests = hint_sees_guests,
	.guests = hint_guests,
	.add = hint_add,
	.remove = hint_remove,
	.read = hint_read,
	.pace = hint_pace,
	.usage = hint_usage,
	.hold = hint_hold,
	.close = hint_close,
};

/* The kernel has at least two tiers of memory, so to it some node is slow. */
static int tiers_look(const char *root)
{
	unsigned nr;
	int error = node_nr_tiers(root, &nr);

	return error ? error : nr >= 2 ? 0 : -ENODEV;
}

static const char *tiers_why_not(int error)
{
	return error == -ENODEV ? "all nodes are in one memory tier of the kernel, so none is slow to it: "
				  "the firmware must say so (HMAT), or a driver (dax/kmem)"
				: "this kernel has no memory tiers: use Linux 6.1 or later with NUMA";
}

static const char *why_not(int error)
{
	switch (error) {
	case -EBUSY:
		return "another pagetide uses it: stop that one first";
	case -EPERM:
	case -EACCES:
		return "it changes settings of the kernel: run as root";
	case -ENOENT:
		return "this kernel has no NUMA balancing, or hides debugfs: Debian's 6.12 has it; "
		       "mount -t debugfs debugfs /sys/kernel/debug";
	case -ENOSPC:
	case -EDQUOT:
		return "there is no room for " HINT_STATE_PATH ", which keeps the settings of the kernel: make some";
	case -EROFS:
	case -ENOTDIR:
	case -EISDIR:
	case -ELOOP:
		return HINT_STATE_PATH ", which keeps the settings of the kernel, cannot be written: mend that";
	case -EINVAL:
		return "the kernel refuses a setting of NUMA balancing, ours or one that a killed pagetide left in "
		       HINT_STATE_PATH ": set it yourself, and remove that file";
	default:
		return "the settings of NUMA balancing cannot be read or saved in " HINT_STATE_PATH;
	}
}

int hint_probe(const struct hint_options *options, const char **ret_why)
{
	uint64_t mode;
	int error = tiers_look(options->root);

	if (error) {
		*ret_why = tiers_why_not(error);
		return -EOPNOTSUPP;
	}
	error = file_may_write(options->root, BALANCING_MODE);
	if (!error)
		error = setting_read(options->root, BALANCING_MODE, &mode);
	if (error)
		*ret_why = why_not(error);
	return error == -ENOENT ? -EOPNOTSUPP : error == -EACCES ? -EPERM : error;
}

int hint_open(const struct hint_options *options, struct sense **ret_sense, const char **ret_why)
{
	const char *state_path = options->state_path ? options->state_path : HINT_STATE_PATH;
	struct hint *hint;
	int error = tiers_look(options->root);

	if (error) {
		*ret_why = tiers_why_not(error);
		return -EOPNOTSUPP;
	}
	hint = calloc(1, sizeof *hint);
	if (!hint) {
		*ret_why = "no memory";
		return -ENOMEM;
	}
	hint->sense.ops = &hint_ops;
	hint->targets.root = options->root;
	hint->rings.open = thread_open;
	hint->rings.arg = hint;
	hint->period_ns = PERIOD_LEAST_NS;
	hint->off = true;
	sweep_init(&hint->sweep);
	hint->size_mb = SWEEP_SIZE_FIRST_MB;
	hint->faults_before = hint->faults_then = hint_faults(hint);
	perf_probe_type(options->root, &hint->probe_type);
	hint->arms = (struct cpu_rings){ options->root, hint->probe_type ? arms_open : NULL, hint, NULL, 0, 0 };
	hint->sees_guests = hint->probe_type != 0;
	hint->settings.lock = -1;
	if (!*options->root)
		hint->mounted = debugfs_mount() == 0;
	/* The lock, the probes, the settings; hint_close() has them in the order back. */
	error = settings_save(&hint->settings, options->root, state_path, table, SET_COUNT);
	if (!error) {
		cpu_rings_look(&hint->arms);
		error = settings_put(hint);
	}
	if (error) {
		*ret_why = why_not(error);
		hint_close(&hint->sense);
		return error == -ENOENT ? -EOPNOTSUPP : error == -EACCES ? -EPERM : error;
	}
	*ret_sense = &hint->sense;
	return 0;
}

int hint_repair(const struct hint_options *options)
{
	const char *state_path = options->state_path ? options->state_path : HINT_STATE_PATH;
	int result = settings_repair(options->root, state_path, table, SET_COUNT);

	/* Some of them are in debugfs. */
	if (result < 0 && result != -EBUSY && !*options->root && !debugfs_mount()) {
		result = settings_repair(options->root, state_path, table, SET_COUNT);
		debugfs_unmount();
	}
	return result;
}
