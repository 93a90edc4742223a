/* SPDX-License-Identifier: MIT */
#include "sensing.h"

#include <errno.h>
#include <stdio.h>

#include "select.h"

#define UNSEEN_PAGES 4096u /* that may lie on slow nodes before it is said */

/* Nodes are slow to us that are fast to the kernel: far ones, or those beside memory of high bandwidth. */
static bool slow_is_named(const struct attach *a)
{
	struct nodeset named = nodeset_minus(&a->slow, &a->map.slow);

	return !nodeset_empty(&named);
}

static void nodes_look(struct attach *a)
{
	if (a->warned_nodes || a->sense->ops->sees_fast || !slow_is_named(a))
		return;
	a->warned_nodes = true;
	attach_warn(a, "a node that is to be slow is fast to the kernel, and this sensor sees nothing there: --sensor "
		       "idle, perf, damon or soft-dirty can");
}

int sensing_begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	int error = sensors_open(a->options->sensor, select_runs_guests(a), slow_is_named(a), &a->sensors, ret_message);

	if (error)
		return error;
	a->sense = a->sensors.sense;
	if (a->sensors.repaired)
		attach_warn(a, "a pagetide that was killed had left settings of the kernel changed: they are put back");
	nodes_look(a);
	return 0;
}

static void sense_close(struct attach *a)
{
	int error = a->sense->ops->close(a->sense);

	if (error)
		a->close_error = error;
	a->sense = NULL;
}

int sensing_end(struct attach *a)
{
	if (a->sense)
		sense_close(a);
	return a->close_error;
}

void sensing_say(const struct attach *a)
{
	if (a->options->quiet)
		return;
	for (size_t i = 0; i < a->sensors.nr_refused; i++)
		fprintf(stderr, "pagetide: not sensor %s: %s\n", a->sensors.refused[i].name,
			a->sensors.refused[i].why);
	fprintf(stderr, "pagetide: sensor %s: %s\n", a->sense->ops->name, a->sense->ops->cost);
}

void sensing_usage(const struct attach *a, struct sense_usage *ret_usage)
{
	const struct sense_usage *before = &a->sensed_before;

	a->sense->ops->usage(a->sense, ret_usage);
	ret_usage->nr_touches += before->nr_touches;
	ret_usage->nr_faults += before->nr_faults;
	ret_usage->nr_own_faults += before->nr_own_faults;
	ret_usage->nr_lost += before->nr_lost;
	ret_usage->nr_lost_ranges += before->nr_lost_ranges;
	ret_usage->nr_passes += before->nr_passes;
}

/* ---- what it does not see ---- */

/* Memory in use that the sensor is blind for would stay where it is for ever. */
static void unseen_warn(struct attach *a)
{
	uint64_t slow = 0;

	if (a->warned_unseen || !a->sense->ops->maps_written_only)
		return;
	for (size_t n = 0; n < a->map.nr; n++)
		if (nodeset_has(&a->slow, a->map.nodes[n].id))
			slow += shares_read_only_pages(&a->shares, n);
	if (slow < UNSEEN_PAGES)
		return;
	a->warned_unseen = true;
	attach_warn(a, "a file that is only read lies on a slow node, and this sensor cannot see its use: --sensor "
		       "idle, perf or damon can");
}

static size_t guests_count(const struct attach *a)
{
	size_t nr = 0;

	for (const struct watch *w = a->watches; w; w = w->next)
		nr += !w->ended && w->nr_vcpus;
	return nr;
}

size_t sensing_unseen_guests(const struct attach *a)
{
	return sensors_see_guests(a->sense) ? 0 : guests_count(a);
}

/* ---- another one ---- */

/* All that are looked after; one that has ended meanwhile is found out by its owner. */
static int processes_add(const struct attach *a, struct sense *sense)
{
	int error = 0;

	for (const struct watch *w = a->watches; w && !error; w = w->next) {
		if (!w->ended)
			error = sense->ops->add(sense, w->pid);
		if (error == -ESRCH)
			error = 0;
	}
	return error;
}

/* Another one, of those that see what guests touch or of all, takes the place of this one; or all is as it was.
 * `why`: not this one. */
static int sensor_change(struct attach *a, bool guests, const char *why)
{
	struct sensors_choice next;
	struct sense_usage seen;
	int error = a->options->sensor || a->nr_sensor_changes ? -EOPNOTSUPP
							       : sensors_again(&a->sensors, guests, why, &next);

	if (error)
		return error;
	error = processes_add(a, next.sense);
	if (!error && a->paused)
		error = next.sense->ops->pace(next.sense, 0);
	if (error) {
		next.sense->ops->close(next.sense);
		return error;
	}
	sensing_usage(a, &seen);
	a->sensed_before = seen;
	sense_close(a);
	a->sensors = next;
	a->sense = next.sense;
	a->nr_sensor_changes++;
	for (struct watch *w = a->watches; w; w = w->next)
		w->guests_told = false;
	sensing_say(a);
	return 0;
}

static void guests_look(struct attach *a)
{
	if (a->warned_guests || !sensing_unseen_guests(a))
		return;
	if (!sensor_change(a, true, SENSORS_BLIND))
		return;
	a->warned_guests = true;
	attach_warn(a, "a process runs guests of KVM, and this sensor cannot see what they touch: --sensor damon "
		       "can");
}

/* ---- what others take from it ---- */

enum sense_hold sensing_hold(const struct attach *a, const char **ret_what)
{
	return a->sense->ops->hold ? a->sense->ops->hold(a->sense, ret_what) : SENSE_HELD;
}

/* The kernel's settings are everybody's: who sets them again after us has them. After a pause we begin anew, and so
 * does what is said. */
static void hold_look(struct attach *a)
{
	const char *what, *name = a->sense->ops->name;
	enum sense_hold hold = sensing_hold(a, &what), said = a->warned_hold;

	a->warned_hold = hold;
	if (hold <= said)
		return;
	char *why = a->hold_why[hold - SENSE_DISPUTED];
	if (hold == SENSE_DISPUTED) {
		snprintf(why, ATTACH_WHY_BYTES, "somebody else set %s, which sensor %s uses: it is set again this "
			 "once, and their value comes back at the end", what, name);
	} else {
		bool changed = !sensor_change(a, guests_count(a) != 0, SENSORS_TAKEN) ||
			       !sensor_change(a, false, SENSORS_TAKEN);
		snprintf(why, ATTACH_WHY_BYTES, "somebody else set %s again: sensor %s leaves it to them%s%s", what,
			 name, changed ? ", and another takes its place: " : " and sees nothing more: pagetide "
			 "pause, then resume, has it begin anew", changed ? a->sense->ops->name : "");
	}
	attach_warn(a, why);
}

void sensing_look(struct attach *a)
{
	hold_look(a);
	guests_look(a);
	nodes_look(a);
	unseen_warn(a);
}
