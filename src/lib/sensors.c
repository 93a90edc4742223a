/* SPDX-License-Identifier: MIT */
#include "sensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "damon.h"
#include "hint.h"
#include "idle.h"
#include "sample.h"
#include "soft_dirty.h"
#include "text.h"
#include "trace.h"

#define TRACE "trace:"
#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)

static const struct hint_options hint_here = { .root = "" };
static const struct idle_options idle_here = { .root = "" };
static const struct sample_options sample_here = { .root = "" };
static const struct damon_options damon_here = { .root = "" };
static const struct soft_dirty_options soft_dirty_here = { .root = "" };

static int hint_try(struct sense **ret_sense, const char **ret_why)
{
	return ret_sense ? hint_open(&hint_here, ret_sense, ret_why) : hint_probe(&hint_here, ret_why);
}

static int idle_try(struct sense **ret_sense, const char **ret_why)
{
	return ret_sense ? idle_open(&idle_here, ret_sense, ret_why) : idle_probe(&idle_here, ret_why);
}

static int sample_try(struct sense **ret_sense, const char **ret_why)
{
	return ret_sense ? sample_open(&sample_here, ret_sense, ret_why) : sample_probe(&sample_here, ret_why);
}

static int damon_try(struct sense **ret_sense, const char **ret_why)
{
	return ret_sense ? damon_open(&damon_here, ret_sense, ret_why) : damon_probe(&damon_here, ret_why);
}

static int soft_dirty_try(struct sense **ret_sense, const char **ret_why)
{
	return ret_sense ? soft_dirty_open(&soft_dirty_here, ret_sense, ret_why)
			 : soft_dirty_probe(&soft_dirty_here, ret_why);
}

/* The best first. */
static const struct kind {
	const char *name;
	/* Open it; without ret_sense only see whether it could be opened. */
	int (*try)(struct sense **ret_sense, const char **ret_why);
} kinds[] = {
	{ "hint", hint_try },
	{ "idle", idle_try },
	{ "perf", sample_try },
	{ "damon", damon_try },
	{ "soft-dirty", soft_dirty_try },
};
#define NR_KINDS (sizeof kinds / sizeof *kinds)
_Static_assert(NR_KINDS <= SENSORS_MAX, "every refusal has its place");

static const struct kind *kind_find(const char *name)
{
	for (size_t i = 0; i < NR_KINDS; i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

int sensors_known(const char *name, char ret_message[TIDE_MESSAGE_MAX])
{
	const char *names[NR_KINDS + 1];

	if (kind_find(name) || !strncmp(name, TRACE, strlen(TRACE)))
		return 0;
	for (size_t i = 0; i < NR_KINDS; i++)
		names[i] = kinds[i].name;
	names[NR_KINDS] = TRACE "FILE";
	const char *nearest = text_nearest(name, names, NR_KINDS + 1);
	if (nearest)
		MESSAGE("--sensor %.40s: unknown: did you mean %s?", name, nearest);
	else
		MESSAGE("--sensor %.40s: unknown: write hint, idle, perf, damon, soft-dirty or " TRACE "FILE", name);
	return -EINVAL;
}

static int trace_named_open(const char *path, struct sense **ret_sense, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct trace_options options = { .root = "", .path = path };
	uint64_t line;
	int error = trace_open(&options, ret_sense, &line);

	if (error == -EBADMSG)
		MESSAGE("%.150s, line %" PRIu64 ": no access: write TIME PID ADDRESS [CPU]", path, line);
	else if (error)
		MESSAGE("%.150s: %s: name another", path, error == -EEXIST ? "it is no plain file" : strerror(-error));
	return error == -EBADMSG || error == -EEXIST ? -EINVAL : error;
}

static int named_open(const char *name, struct sense **ret_sense, char ret_message[TIDE_MESSAGE_MAX])
{
	const char *why = "";
	int error = sensors_known(name, ret_message);

	if (error)
		return error;
	const struct kind *kind = kind_find(name);
	if (!kind)
		return trace_named_open(name + strlen(TRACE), ret_sense, ret_message);
	error = kind->try(ret_sense, &why);
	if (error)
		MESSAGE("sensor %s: %.200s", name, why);
	return error;
}

bool sensors_see_guests(const struct sense *sense)
{
	return !sense->ops->sees_guests || sense->ops->sees_guests(sense);
}

struct wanted {
	bool guests;          /* it sees what they touch */
	bool all_nodes;       /* and nodes that are fast to the kernel */
	const char *not;      /* its name; NULL */
	const char *why_not;
};

static int wanted_open(const struct kind *kind, const struct wanted *wanted, struct sense **ret_sense,
		       const char **ret_why)
{
	struct sense *sense;

	if (wanted->not && !strcmp(kind->name, wanted->not)) {
		*ret_why = wanted->why_not;
		return -EOPNOTSUPP;
	}
	int error = kind->try(&sense, ret_why);
	if (error)
		return error;
	if (wanted->guests && !sensors_see_guests(sense)) {
		sense->ops->close(sense);
		*ret_why = SENSORS_BLIND;
		return -EOPNOTSUPP;
	}
	if (wanted->all_nodes && !sense->ops->sees_fast) {
		sense->ops->close(sense);
		*ret_why = "it sees nothing of nodes that are fast to the kernel, and one of these is to be a slow one";
		return -EOPNOTSUPP;
	}
	*ret_sense = sense;
	return 0;
}

/* The error of the best one that is refused. */
static int best_open(const struct wanted *wanted, struct sensors_choice *choice)
{
	int first = 0;

	*choice = (struct sensors_choice){ 0 };
	for (size_t i = 0; !choice->sense && i < NR_KINDS; i++) {
		struct sensors_refusal *refused = &choice->refused[choice->nr_refused];
		int error = wanted_open(&kinds[i], wanted, &choice->sense, &refused->why);

		refused->name = kinds[i].name;
		choice->nr_refused += error != 0;
		if (!first)
			first = error;
	}
	return choice->sense ? 0 : first;
}

int sensors_open(const char *name, bool guests, bool all_nodes, struct sensors_choice *ret_choice,
		 char ret_message[TIDE_MESSAGE_MAX])
{
	struct sensors_choice choice = { 0 };
	int error;

	/* What a killed one changed goes back, whichever sensor is next. Errors: its owner lives, or we are not
	 * root; or it stays for the next, and who needs it says why. */
	bool hint_repaired = hint_repair(&hint_here) > 0, damon_repaired = damon_repair(&damon_here) > 0;
	if (name)
		error = named_open(name, &choice.sense, ret_message);
	else
		error = best_open(&(struct wanted){ .guests = guests, .all_nodes = all_nodes }, &choice);
	if (error && !name && (guests || all_nodes)) /* better one that sees the rest than none */
		error = best_open(&(struct wanted){ 0 }, &choice);
	choice.repaired = hint_repaired || damon_repaired;
	if (!error)
		*ret_choice = choice;
	else if (!name)
		MESSAGE("cannot see which pages are in use; the best sensor, %s: %.200s", kinds[0].name,
			choice.refused[0].why);
	return error;
}

int sensors_again(const struct sensors_choice *choice, bool guests, const char *why,
		  struct sensors_choice *ret_choice)
{
	const struct wanted wanted = { .guests = guests, .not = choice->sense->ops->name, .why_not = why };
	struct sensors_choice next;
	int error = best_open(&wanted, &next);

	if (!error)
		*ret_choice = next;
	return error;
}

int sensors_probe(const char *name, const char **ret_why)
{
	const struct kind *kind = kind_find(name);

	return kind ? kind->try(NULL, ret_why) : -EINVAL;
}

bool sensors_hint_elsewhere(void)
{
	return hint_repair(&hint_here) == -EBUSY;
}
