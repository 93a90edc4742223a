/* SPDX-License-Identifier: MIT */
/*
 * pagetide run: put a program on tiered memory.
 *
 * Everything about the command line is checked before tide_run() is called, everything about the
 * program and the machine by tide_run() before it starts anything: a bad input leaves nothing
 * half done.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "pagetide.h"
#include "text.h"

#define TIER_FORMS "tiers are dram:SIZE, node:N[,size=SIZE] and lz4[:SIZE][,verify]"
#define SIZE_FORMS "write 512M, 2G, 40%%" /* for formats */
#define TIER_TEXT_MAX 64u

enum {
	OPT_TIER,
	OPT_MEMORY,
	OPT_OVERHEAD,
	OPT_HARD,
	OPT_STATS,
	OPT_RECORD,
	OPT_LIVE,
	OPT_SUMMARY,
	OPT_QUIET,
	OPT_DRY_RUN,
	OPT_COUNT
};

static const struct option options[OPT_COUNT] = {
	[OPT_TIER] = { "tier", "SPEC", "a place for pages; repeat it, fastest first", 0 },
	[OPT_MEMORY] = { "memory", "SIZE", "bound for the program, its compressed pages and our tables", 0 },
	[OPT_OVERHEAD] = { "overhead", "PCT", "processor time for voluntary work, of one core (1%)", 0 },
	[OPT_HARD] = { "hard", NULL, "kill the program rather than pass the bound", 0 },
	[OPT_STATS] = { "stats", "FILE", "write statistics there at the end, as JSON", 0 },
	[OPT_RECORD] = { "record", "FILE", "write there what the decisions were made from", 0 },
	[OPT_LIVE] = { "live", NULL, "show one refreshed line on standard error", 0 },
	[OPT_SUMMARY] = { "summary", NULL, "print the summary even when standard error is no terminal", 0 },
	[OPT_QUIET] = { "quiet", NULL, "no warnings, and no summary unless --summary asks for it", 0 },
	[OPT_DRY_RUN] = { "dry-run", NULL, "say what would be set up, start nothing", 0 },
};

static const char *const tier_names[TIDE_TIER_KIND_COUNT] = {
	[TIDE_TIER_DRAM] = "dram",
	[TIDE_TIER_LZ4] = "lz4",
	[TIDE_TIER_NODE] = "node",
};

/* 0, or an exit status after saying why. `what` names the size for the message. */
static int size_read(const char *what, const char *text, uint64_t *ret_bytes)
{
	char whole[TEXT_NUMBER_BYTES];
	uint64_t whole_bytes, bytes;
	int err = tide_memory_fetch(&whole_bytes);

	if (err) {
		cli_say("cannot find out how much memory there is: %s: mount /proc", strerror(-err));
		return EXIT_OWN;
	}
	err = text_size_parse(text, whole_bytes, &bytes);
	if (err == -EINVAL)
		cli_say("%s %s: not a size: " SIZE_FORMS, what, text);
	else if (err == -EDOM)
		cli_say("%s %s: unknown unit: " SIZE_FORMS, what, text);
	else if (err || bytes > whole_bytes)
		cli_say("%s %s: more than there is: at most %s (100%%)", what, text,
			text_size_format(whole, whole_bytes));
	else if (bytes == 0)
		cli_say("%s %s: nothing would fit: " SIZE_FORMS, what, text);
	else
		*ret_bytes = bytes;
	return err || bytes == 0 || bytes > whole_bytes ? EXIT_USAGE : 0;
}

static int tier_size_read(const char *spec, const char *text, struct tide_tier_spec *tier)
{
	char what[TIER_TEXT_MAX + 16];

	snprintf(what, sizeof(what), "--tier %s: size", spec);
	return size_read(what, text, &tier->size_bytes);
}

/* The flags after the first comma. 0 or an exit status. */
static int tier_flags_read(const char *spec, char *flags, struct tide_tier_spec *tier)
{
	static const char *const names[] = { [TIDE_TIER_LZ4] = "verify", [TIDE_TIER_NODE] = "size" };
	char *flag;

	while ((flag = strsep(&flags, ","))) {
		const char *nearest;

		if (tier->kind == TIDE_TIER_LZ4 && strcmp(flag, "verify") == 0) {
			tier->verify = true;
			continue;
		}
		if (tier->kind == TIDE_TIER_NODE && strncmp(flag, "size=", 5) == 0) {
			int status = tier_size_read(spec, flag + 5, tier);

			if (status)
				return status;
			continue;
		}
		if (tier->kind == TIDE_TIER_NODE)
			flag[strcspn(flag, "=")] = '\0';
		nearest = tier->kind == TIDE_TIER_DRAM ? NULL : text_nearest(flag, &names[tier->kind], 1);
		if (tier->kind == TIDE_TIER_DRAM)
			cli_say("--tier %s: dram has no flags: write dram:SIZE", spec);
		else if (nearest)
			cli_say("--tier %s: unknown flag %s: did you mean %s?", spec, flag, nearest);
		else
			cli_say("--tier %s: unknown flag %s: " TIER_FORMS, spec, flag);
		return EXIT_USAGE;
	}
	return 0;
}

static int tier_kind_read(const char *spec, const char *name, struct tide_tier_spec *tier)
{
	const char *nearest;

	for (size_t i = 0; i < TIDE_TIER_KIND_COUNT; i++) {
		if (strcmp(name, tier_names[i]) == 0) {
			tier->kind = (enum tide_tier_kind)i;
			return 0;
		}
	}
	nearest = text_nearest(name, tier_names, TIDE_TIER_KIND_COUNT);
	if (nearest)
		cli_say("--tier %s: unknown tier: did you mean %s? " TIER_FORMS, spec, nearest);
	else
		cli_say("--tier %s: unknown tier: " TIER_FORMS, spec);
	return EXIT_USAGE;
}

/* The number of a node; `text` may be NULL. */
static int tier_node_read(const char *spec, const char *text, uint32_t *ret_node)
{
	char *end = NULL;
	unsigned long node = text && *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : 0;

	if (end && !*end && node <= UINT16_MAX) {
		*ret_node = (uint32_t)node;
		return 0;
	}
	cli_say("--tier %s: no number of a node: write node:0,size=2G; pagetide topo shows them", spec);
	return EXIT_USAGE;
}

/* KIND[:SIZE][,FLAG]..., and node:N[,size=SIZE] */
static int tier_read(const char *spec, struct tide_tier_spec *ret_tier)
{
	struct tide_tier_spec tier = { 0 };
	char text[TIER_TEXT_MAX], *flags, *size;
	int status;

	if (strlen(spec) >= sizeof(text)) {
		cli_say("--tier %.40s...: too long: " TIER_FORMS, spec);
		return EXIT_USAGE;
	}
	strcpy(text, spec);
	flags = strchr(text, ',');
	if (flags)
		*flags++ = '\0';
	size = strchr(text, ':');
	if (size)
		*size++ = '\0';
	status = tier_kind_read(spec, text, &tier);
	if (!status && tier.kind == TIDE_TIER_NODE)
		status = tier_node_read(spec, size, &tier.node);
	else if (!status && size)
		status = tier_size_read(spec, size, &tier);
	if (!status && flags)
		status = tier_flags_read(spec, flags, &tier);
	if (!status && tier.kind == TIDE_TIER_DRAM && !size) {
		cli_say("--tier %s: dram needs a size: write dram:2G or dram:40%%", spec);
		status = EXIT_USAGE;
	}
	if (!status)
		*ret_tier = tier;
	return status;
}

static int tier_add(struct tide_run_options *run, const char *spec)
{
	struct tide_tier_spec tier;
	int status = tier_read(spec, &tier);

	if (status)
		return status;
	for (size_t i = 0; i < run->nr_tiers; i++) {
		if (run->tiers[i].kind == tier.kind &&
		    (tier.kind != TIDE_TIER_NODE || run->tiers[i].node == tier.node)) {
			cli_say("--tier %s: a second %s: name each tier once", spec,
				tier_names[tier.kind]);
			return EXIT_USAGE;
		}
	}
	if (tier.kind == TIDE_TIER_DRAM && run->nr_tiers > 0) {
		cli_say("--tier %s: comes after %s: name the fastest tier first", spec,
			tier_names[run->tiers[0].kind]);
		return EXIT_USAGE;
	}
	if (run->nr_tiers == TIDE_TIERS_MAX) {
		cli_say("--tier %s: too many tiers: at most %d", spec, TIDE_TIERS_MAX);
		return EXIT_USAGE;
	}
	run->tiers[run->nr_tiers++] = tier;
	return 0;
}

static int overhead_read(const char *text, uint32_t *ret_bp)
{
	int err = text_share_parse(text, ret_bp);

	if (!err)
		return 0;
	cli_say("--overhead %s: not a share of one core: write 0.5%% or 1%%, at most 100%%", text);
	return EXIT_USAGE;
}

static int option_take(struct tide_run_options *run, int option, const char *value)
{
	switch (option) {
	case OPT_TIER:
		return tier_add(run, value);
	case OPT_MEMORY:
		return size_read("--memory", value, &run->memory_bytes);
	case OPT_OVERHEAD:
		return overhead_read(value, &run->overhead_bp);
	case OPT_HARD:
		run->hard = true;
		return 0;
	case OPT_STATS:
		run->stats_path = value;
		return 0;
	case OPT_RECORD:
		run->record_path = value;
		return 0;
	case OPT_LIVE:
		run->live = true;
		return 0;
	case OPT_SUMMARY:
		run->summary = true;
		return 0;
	case OPT_QUIET:
		run->quiet = true;
		return 0;
	case OPT_DRY_RUN:
		run->dry_run = true;
		return 0;
	default:
		return EXIT_USAGE;
	}
}

/* A file that cannot be written at the end is better refused before the start. */
static int file_check(const char *option, const char *path)
{
	char folder[4096];
	struct stat there;
	const char *slash;
	size_t len;

	if (!path)
		return 0;
	slash = strrchr(path, '/');
	len = slash ? (size_t)(slash - path) : 0;
	if (*path == '\0' || (slash && slash[1] == '\0') || len >= sizeof(folder) ||
	    (!stat(path, &there) && S_ISDIR(there.st_mode))) {
		cli_say("%s %s: not a file name: write %s FILE", option, path, option);
		return EXIT_USAGE;
	}
	if (slash == path)
		strcpy(folder, "/");
	else if (slash)
		snprintf(folder, sizeof(folder), "%.*s", (int)len, path);
	else
		strcpy(folder, ".");
	if (access(path, F_OK) == 0 ? access(path, W_OK) : access(folder, W_OK)) {
		cli_say("%s %s: cannot be written: %s: name another file", option, path,
			strerror(errno));
		return EXIT_USAGE;
	}
	return 0;
}

/* What only the whole command line shows. */
static int options_check(const struct tide_run_options *run)
{
	bool dram = run->nr_tiers > 0 && run->tiers[0].kind == TIDE_TIER_DRAM;

	if (run->memory_bytes && dram) {
		cli_say("--memory and --tier dram:SIZE both bound the memory: leave out one of them");
		return EXIT_USAGE;
	}
	if (!run->argv[0]) {
		cli_say("no program to run: write pagetide run [OPTIONS] [--] PROGRAM [ARG...]");
		return EXIT_USAGE;
	}
	if (run->argv[0][0] == '\0') {
		cli_say("the program's name is empty: write pagetide run [OPTIONS] [--] PROGRAM [ARG...]");
		return EXIT_NOT_FOUND;
	}
	int status = file_check("--stats", run->stats_path);
	return status ? status : file_check("--record", run->record_path);
}

/* Die as the program did, so that our parent sees the same; the core dump was the program's. */
static int die_of(int sig)
{
	const struct rlimit none = { 0, 0 };
	sigset_t set;

	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
	/* Only a signal that kills nobody gets here; a shell would show it like this. */
	return 128 + sig;
}

static int failure_status(int err)
{
	switch (err) {
	case -ENOENT:
		return EXIT_NOT_FOUND;
	case -EACCES:
	case -ENOEXEC:
		return EXIT_NOT_EXECUTABLE;
	case -EINVAL:
		return EXIT_USAGE;
	default:
		return EXIT_OWN;
	}
}

static int run(char **words)
{
	struct option_reader reader = { .verb = &verb_run, .words = words };
	struct tide_run_options run = { .size = sizeof(run), .overhead_bp = 100 };
	char message[TIDE_MESSAGE_MAX] = "";
	int option, status, wait_status, err;

	while ((option = option_next(&reader)) != OPTION_END) {
		status = option == OPTION_BAD ? EXIT_USAGE : option_take(&run, option, reader.value);
		if (status)
			return status;
	}
	run.argv = reader.words;
	status = options_check(&run);
	if (status)
		return status;
	run.summary = run.summary || (!run.quiet && isatty(STDERR_FILENO));
	/* A program that is only given a bound for memory still has somewhere to put the rest. */
	if (run.nr_tiers == 1 && run.tiers[0].kind == TIDE_TIER_DRAM)
		run.tiers[run.nr_tiers++] = (struct tide_tier_spec){ .kind = TIDE_TIER_LZ4 };

	if (!run.dry_run && first_waits(&status))
		return status;
	err = tide_run(&run, &wait_status, message);
	if (err) {
		cli_say("%s", message[0] ? message : strerror(-err));
		return failure_status(err);
	}
	if (run.dry_run)
		return cli_finish(0);
	if (WIFSIGNALED(wait_status) && first_is_above())
		return EXIT_SIGNAL + WTERMSIG(wait_status);
	if (WIFSIGNALED(wait_status))
		return die_of(WTERMSIG(wait_status));
	return WEXITSTATUS(wait_status);
}

const struct verb verb_run = {
	.name = "run",
	.usage = "[OPTIONS] [--] PROGRAM [ARG...]",
	.help = "run a program on tiered memory",
	.detail =
		"Run a program on tiered memory: pages in use stay in memory, pages not in use are\n"
		"compressed, and come back when they are touched. The exit status is the program's.\n"
		"\n"
		"SPEC is dram:SIZE, which bounds the program's memory, or lz4[:SIZE][,verify], which holds\n"
		"compressed pages (verify keeps a checksum of each). dram alone brings an unbounded lz4\n"
		"with it. node:0,size=SIZE and then node:1[,size=SIZE] bound the memory on a fast node and\n"
		"put what is not in use on a slow one; lz4 may follow, for what does not fit there.\n"
		"--memory instead bounds all of it together and splits it itself; with neither,\n"
		"the bound is 90% of the control group's limit, or what keeps 5% of the machine available.\n"
		"SIZE is bytes, 512M, 2G, or 40% of the machine or control group, whichever is less.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
