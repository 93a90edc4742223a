/* SPDX-License-Identifier: MIT */
/* Set up, read, take down; the idea is in damon.h. */
#include "damon.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "clock.h"
#include "file.h"
#include "proc.h"
#include "setting.h"
#include "targets.h"
#include "vmstat.h"

#define KDAMONDS "/sys/kernel/mm/damon/admin/kdamonds/"
#define STATE KDAMONDS "0/state"
#define CONTEXT KDAMONDS "0/contexts/0/"
#define SAMPLE_US "50000"
#define AGGREGATE_US "500000" /* ten samples */
#define UPDATE_US "2000000"   /* of what is mapped */
#define REGIONS_MIN "10"
#define REGIONS_MAX "1000"
#define ACCESSES_MIN "2"      /* of ten */
#define READ_LEAST_NS UINT64_C(500000000)
#define START_LEAST_NS UINT64_C(2000000000)
#define NO_INDEX UINT32_MAX

/* Of our context. */
static const char *const context_settings[][2] = {
	{ "operations", "vaddr" },
	{ "monitoring_attrs/intervals/sample_us", SAMPLE_US },
	{ "monitoring_attrs/intervals/aggr_us", AGGREGATE_US },
	{ "monitoring_attrs/intervals/update_us", UPDATE_US },
	{ "monitoring_attrs/nr_regions/min", REGIONS_MIN },
	{ "monitoring_attrs/nr_regions/max", REGIONS_MAX },
};
#define NR_CONTEXT_SETTINGS (sizeof context_settings / sizeof *context_settings)

struct watched {
	struct target target;
	uint32_t index;       /* in what runs; NO_INDEX: it is not in it */
};

struct region {
	uint64_t start, end, nr_accesses;
};

struct damon {
	struct sense sense;
	struct settings settings;
	const char *root;
	struct targets targets; /* of struct watched */
	bool on, changed;     /* its thread runs; but not for these processes */
	uint64_t period_ns, read_ns, start_ns; /* 0: paused; of the last reading and start */
	struct region *regions;
	size_t nr_regions, max_regions;
	uint64_t nr_touches, nr_lost, nr_passes;
};

static struct damon *damon_of(struct sense *sense)
{
	return (struct damon *)(void *)sense;
}

static struct watched *watched_of(struct target *target)
{
	return (struct watched *)(void *)target;
}

/* ---- whose it is ---- */

/* Below KDAMONDS: whether a file has that one word. */
__attribute__((format(printf, 3, 4)))
static bool kdamond_says(const char *root, const char *want, const char *format, ...)
{
	char name[128], text[64];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof name, format, args);
	va_end(args);
	if (file_read(root, text, sizeof text, KDAMONDS "%s", name))
		return false;
	text[strcspn(text, "\n")] = '\0';
	return !strcmp(text, want);
}

/* As scheme_put() leaves it, or is about to: we may have been killed in it. */
static bool scheme_ours(const char *root, uint64_t index)
{
	char name[64];

	snprintf(name, sizeof name, "0/contexts/0/schemes/%" PRIu64, index);
	return kdamond_says(root, "stat", "%s/action", name) &&
	       (kdamond_says(root, "0", "%s/filters/nr_filters", name) ||
		(kdamond_says(root, "1", "%s/filters/nr_filters", name) &&
		 kdamond_says(root, "target", "%s/filters/0/type", name)));
}

/*
 * Nothing keeps others from making DAMON's one place theirs, while we live or after our death: before
 * anything of it is changed we see whether it is still as we set it up.
 */
static bool kdamond_ours(const char *root)
{
	uint64_t nr_schemes;

	if (!kdamond_says(root, "1", "nr_kdamonds"))
		return false;
	/* Nothing is in it yet, so nothing of anybody's is lost. */
	if (kdamond_says(root, "0", "0/contexts/nr_contexts"))
		return true;
	if (!kdamond_says(root, "1", "0/contexts/nr_contexts"))
		return false;
	for (size_t i = 0; i < NR_CONTEXT_SETTINGS; i++)
		if (!kdamond_says(root, context_settings[i][1], "0/contexts/0/%s", context_settings[i][0]))
			return false;
	if (setting_read(root, CONTEXT "schemes/nr_schemes", &nr_schemes))
		return false;
	for (uint64_t i = 0; i < nr_schemes; i++)
		if (!scheme_ours(root, i))
			return false;
	return true;
}

static const struct setting table[] = {
	{
		.name = "nr_kdamonds",
		.path = KDAMONDS "nr_kdamonds",
		.stop_path = STATE,
		.stop_text = "off",
		.ours = kdamond_ours,
	},
};

/* ---- set up, and take down ---- */

/* Below CONTEXT. */
__attribute__((format(printf, 3, 4)))
static int context_put(const struct damon *damon, const char *text, const char *format, ...)
{
	char name[128];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof name, format, args);
	va_end(args);
	return file_put(damon->root, text, CONTEXT "%s", name);
}

/* One that lists the regions of one target. */
static int scheme_put(const struct damon *damon, uint32_t index)
{
	static const char *const settings[][2] = {
		{ "action", "stat" },
		{ "access_pattern/sz/min", "0" },
		{ "access_pattern/sz/max", "18446744073709551615" },
		{ "access_pattern/nr_accesses/min", ACCESSES_MIN },
		{ "access_pattern/nr_accesses/max", "4294967295" },
		{ "access_pattern/age/min", "0" },
		{ "access_pattern/age/max", "4294967295" },
		{ "filters/nr_filters", "1" },
		{ "filters/0/type", "target" },
		{ "filters/0/matching", "N" },
	};
	char text[16];
	int error = 0;

	for (size_t i = 0; !error && i < sizeof settings / sizeof *settings; i++)
		error = context_put(damon, settings[i][1], "schemes/%" PRIu32 "/%s", index, settings[i][0]);
	snprintf(text, sizeof text, "%" PRIu32, index);
	if (!error)
		error = context_put(damon, text, "schemes/%" PRIu32 "/filters/0/damon_target_idx", index);
	return error;
}

static int context_begin(const struct damon *damon)
{
	int error = file_put(damon->root, "1", KDAMONDS "0/contexts/nr_contexts");

	for (size_t i = 0; !error && i < NR_CONTEXT_SETTINGS; i++)
		error = context_put(damon, context_settings[i][1], "%s", context_settings[i][0]);
	if (!error)
		error = context_put(damon, "1", "schemes/nr_schemes");
	if (!error)
		error = scheme_put(damon, 0);
	if (error) /* half of it nobody would know for ours */
		file_put(damon->root, "0", KDAMONDS "0/contexts/nr_contexts");
	return error;
}

static void damon_off(struct damon *damon)
{
	if (damon->on && kdamond_ours(damon->root))
		file_put(damon->root, "off", STATE);
	damon->on = false;
}

/* Number those that live; returns how many. */
static uint32_t targets_number(struct damon *damon)
{
	uint32_t nr = 0;

	for (struct target *target = damon->targets.first; target; target = target->next) {
		uint64_t image;
		watched_of(target)->index = proc_image(target->dir, &image) ? NO_INDEX : nr++;
	}
	return nr;
}

static int targets_put(const struct damon *damon, uint32_t nr)
{
	char text[16];

	snprintf(text, sizeof text, "%" PRIu32, nr);
	int error = context_put(damon, text, "targets/nr_targets");
	if (!error)
		error = context_put(damon, text, "schemes/nr_schemes");
	for (struct target *target = damon->targets.first; !error && target; target = target->next) {
		uint32_t index = watched_of(target)->index;
		if (index == NO_INDEX)
			continue;
		snprintf(text, sizeof text, "%d", (int)target->pid);
		error = context_put(damon, text, "targets/%" PRIu32 "/pid_target", index);
		if (!error)
			error = scheme_put(damon, index);
	}
	return error;
}

/* Begin anew with the processes that there are. One that ends meanwhile makes it fail: then later. */
static void damon_start(struct damon *damon, uint64_t now_ns)
{
	damon_off(damon);
	damon->start_ns = now_ns;
	if (!kdamond_ours(damon->root)) {
		damon->nr_lost++;
		return;
	}
	uint32_t nr = targets_number(damon);
	if (nr && (targets_put(damon, nr) || file_put(damon->root, "on", STATE)))
		return;
	damon->on = nr != 0;
	damon->changed = false;
}

/* ---- reading ---- */

static int number_read(const struct damon *damon, uint32_t index, const char *region, const char *name,
		       uint64_t *ret_value)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, CONTEXT "schemes/%" PRIu32 "/tried_regions/%s/%s", index, region, name);
	return setting_read(damon->root, path, ret_value);
}

static int region_add(struct damon *damon, const struct region *region)
{
	struct region *regions = array_room(damon->regions, damon->nr_regions, &damon->max_regions, sizeof *regions);

	if (!regions)
		return -ENOMEM;
	damon->regions = regions;
	regions[damon->nr_regions++] = *region;
	return 0;
}

/* `most`: of those of its target that were read before; and of this one. */
static int region_read(struct damon *damon, uint32_t index, const char *name, uint64_t *most)
{
	struct region region;

	int error = number_read(damon, index, name, "start", &region.start);
	if (!error)
		error = number_read(damon, index, name, "end", &region.end);
	if (!error)
		error = number_read(damon, index, name, "nr_accesses", &region.nr_accesses);
	if (error || region.start >= region.end)
		return error;
	*most = region.nr_accesses > *most ? region.nr_accesses : *most;
	return region_add(damon, &region);
}

/*
 * All of a target; the most accesses that one of them had. Their names are the folder's to tell: Linux 6.12 numbers
 * them through all schemes, later kernels from 0 in each.
 */
static int regions_read(struct damon *damon, uint32_t index, uint64_t *ret_most)
{
	DIR *folder = file_folder(damon->root, CONTEXT "schemes/%" PRIu32 "/tried_regions", index);
	struct dirent *entry;
	int error = 0;

	damon->nr_regions = 0;
	*ret_most = 0;
	if (!folder)
		return -errno;
	while (!error && (entry = readdir(folder)))
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
			error = region_read(damon, index, entry->d_name, ret_most);
	closedir(folder);
	return error;
}

static void target_read(struct damon *damon, struct target *target,
			void (*visit)(void *arg, const struct sense_event *event), void *arg)
{
	uint64_t most, now_ns = clock_now_ns();

	if (regions_read(damon, watched_of(target)->index, &most)) {
		damon->nr_lost++;
		return;
	}
	for (size_t i = 0; i < damon->nr_regions; i++) {
		const struct region *region = &damon->regions[i];
		if (region->nr_accesses * 2 < most)
			continue;
		damon->nr_touches++;
		visit(arg, &(struct sense_event){
			.kind = SENSE_TOUCH,
			.cpu = SENSE_CPU_UNKNOWN,
			.time_ns = now_ns,
			.address = region->start,
			.end = region->end,
			.pid = target->pid,
		});
	}
}

static void damon_read(struct sense *sense, void (*visit)(void *arg, const struct sense_event *event),
		       void *arg)
{
	struct damon *damon = damon_of(sense);
	uint64_t now_ns = clock_now_ns();

	if (!damon->period_ns)
		return;
	if (damon->changed && now_ns - damon->start_ns >= START_LEAST_NS) {
		damon_start(damon, now_ns);
		damon->read_ns = now_ns;
	}
	if (!damon->on || now_ns - damon->read_ns < damon->period_ns)
		return;
	if (!kdamond_ours(damon->root) || file_put(damon->root, "update_schemes_tried_regions", STATE)) {
		/* All its processes have ended, or somebody stopped it, or has it. */
		damon->nr_lost++;
		damon->changed = true;
		return;
	}
	damon->nr_passes++;
	for (struct target *target = damon->targets.first; target; target = target->next)
		if (watched_of(target)->index != NO_INDEX)
			target_read(damon, target, visit, arg);
	damon->read_ns = clock_now_ns();
}

/* ---- processes and pace ---- */

static int damon_add(struct sense *sense, pid_t pid)
{
	struct damon *damon = damon_of(sense);
	struct target *target;
	int error = targets_add(&damon->targets, pid, sizeof(struct watched), &target);

	if (error)
		return error;
	watched_of(target)->index = NO_INDEX;
	damon->changed = true;
	return 0;
}

static void damon_remove(struct sense *sense, pid_t pid)
{
	struct damon *damon = damon_of(sense);
	struct target *target = targets_find(&damon->targets, pid);

	if (!target)
		return;
	/* It goes on to be watched until it is begun anew; nobody hears of it. */
	targets_drop(&damon->targets, target);
	damon->changed = true;
}

static int damon_pace(struct sense *sense, uint64_t period_ns)
{
	struct damon *damon = damon_of(sense);

	damon->period_ns = period_ns && period_ns < READ_LEAST_NS ? READ_LEAST_NS : period_ns;
	if (!period_ns) {
		damon_off(damon);
		damon->changed = true;
	}
	return 0;
}

static void damon_usage(const struct sense *sense, struct sense_usage *ret_usage)
{
	const struct damon *damon = (const struct damon *)(const void *)sense;

	*ret_usage = (struct sense_usage){
		.nr_touches = damon->nr_touches,
		.nr_lost = damon->nr_lost,
		.nr_passes = damon->nr_passes,
	};
}

/* ---- open and close ---- */

static int damon_close(struct sense *sense)
{
	struct damon *damon = damon_of(sense);

	while (damon->targets.first)
		targets_drop(&damon->targets, damon->targets.first);
	damon_off(damon);
	int error = settings_restore(&damon->settings);
	settings_release(&damon->settings);
	free(damon->regions);
	free(damon);
	return error;
}

static const struct sense_ops damon_ops = {
	.name = "damon",
	.cost = "a kernel thread looks at up to 1000 pages 20 times a second; sees regions, not pages",
	.grain_bytes = 4096,
	.regions = true,
	.sees_fast = true,
	.add = damon_add,
	.remove = damon_remove,
	.read = damon_read,
	.pace = damon_pace,
	.usage = damon_usage,
	.close = damon_close,
};

static const char *why_not(int error)
{
	switch (error) {
	case -EBUSY:
		return "DAMON has an owner, who is left alone: stop that one first";
	case -EPERM:
	case -EACCES:
		return "DAMON is root's: run as root";
	case -ENOENT:
		return "this kernel has no DAMON: use one built with CONFIG_DAMON_SYSFS";
	case -EINVAL:
		return "this kernel's DAMON does not tell processes apart: use Linux 6.6 or later, built with "
		       "CONFIG_DAMON_VADDR";
	default:
		return "DAMON cannot be set up, or " DAMON_STATE_PATH " not be written: mend that";
	}
}

static int refuse(int error, const char **ret_why)
{
	*ret_why = why_not(error);
	return error == -ENOENT || error == -EINVAL ? -EOPNOTSUPP : error == -EACCES ? -EPERM : error;
}

int damon_probe(const struct damon_options *options, const char **ret_why)
{
	uint64_t nr;
	int error = setting_read(options->root, table->path, &nr);

	if (!error && (nr || vmstat_damon_thread(options->root)))
		error = -EBUSY;
	if (!error)
		error = file_may_write(options->root, "%s", table->path);
	return error ? refuse(error, ret_why) : 0;
}

/* Nothing is changed before it is clear that it is nobody's. */
static int damon_begin(struct damon *damon, const char *state_path)
{
	int error = settings_save(&damon->settings, damon->root, state_path, table, 1);

	/* Somebody took it just now: the settings that would be put back are his. */
	if (!error && damon->settings.saved[0]) {
		damon->settings.there[0] = false;
		error = -EBUSY;
	}
	if (!error)
		error = settings_change(&damon->settings, 0, 1);
	return error ? error : context_begin(damon);
}

static const char *state_path_of(const struct damon_options *options)
{
	return options->state_path ? options->state_path : DAMON_STATE_PATH;
}

int damon_repair(const struct damon_options *options)
{
	return settings_repair(options->root, state_path_of(options), table, 1);
}

int damon_open(const struct damon_options *options, struct sense **ret_sense, const char **ret_why)
{
	int error = damon_repair(options);

	if (error >= 0)
		error = damon_probe(options, ret_why);
	else
		return refuse(error, ret_why);
	if (error)
		return error;
	struct damon *damon = calloc(1, sizeof *damon);
	if (!damon) {
		*ret_why = "no memory";
		return -ENOMEM;
	}
	damon->sense.ops = &damon_ops;
	damon->root = damon->targets.root = options->root;
	damon->period_ns = READ_LEAST_NS;
	damon->settings.lock = -1;
	error = damon_begin(damon, state_path_of(options));
	if (error) {
		damon_close(&damon->sense);
		return refuse(error, ret_why);
	}
	*ret_sense = &damon->sense;
	return 0;
}
