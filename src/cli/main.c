/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "pagetide.h"
#include "text.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

static int help_run(char **words);
static int version_run(char **words);

static const struct verb verb_help = {
	.name = "help",
	.usage = "[VERB]",
	.help = "say what pagetide, or one verb of it, can do",
	.detail = "Say what pagetide, or one verb of it, can do.",
	.run = help_run,
};

static const struct verb verb_version = {
	.name = "version",
	.usage = "",
	.help = "print the version",
	.detail = "Print the version.",
	.run = version_run,
};

static const struct verb *const verbs[] = {
	&verb_run,   &verb_attach, &verb_daemon, &verb_status,  &verb_pause, &verb_resume, &verb_tune,
	&verb_check, &verb_topo,   &verb_pages,  &verb_migrate, &verb_stats, &verb_help,   &verb_version,
};

void cli_say(const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	for (char *at = line; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	fprintf(stderr, "pagetide: %s\n", line);
}

int cli_pid_read(const char *word, const char *usage, int *ret_pid)
{
	char *end;
	long pid;

	errno = 0;
	pid = strtol(word, &end, 10);
	if (errno || end == word || *end || word[0] < '0' || word[0] > '9' || pid < 1 ||
	    pid > INT32_MAX) {
		cli_say("%s is no process number: write pagetide %s", word, usage);
		return EXIT_USAGE;
	}
	*ret_pid = (int)pid;
	return 0;
}

int cli_time_read(const char *word, uint64_t *ret_ns)
{
	uint64_t ns;
	int error = text_time_parse(word, &ns);

	if (error || !ns) {
		cli_say(error == -ERANGE ? "--for %s: too long: leave it out, it ends at Ctrl-C"
					 : "--for %s: not a time: write 30s, 5m, 1h", word);
		return EXIT_USAGE;
	}
	*ret_ns = ns;
	return 0;
}

int cli_refused(int error, const char *message)
{
	cli_say("%s", *message ? message : strerror(-error));
	return error == -EINVAL ? EXIT_USAGE : EXIT_OWN;
}

int cli_finish(int status)
{
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	cli_say("cannot write to standard output: %s", strerror(errno));
	return EXIT_OWN;
}

static const struct verb *verb_find(const char *name)
{
	const char *names[NR(verbs)], *nearest;

	for (size_t i = 0; i < NR(verbs); i++) {
		names[i] = verbs[i]->name;
		if (strcmp(name, verbs[i]->name) == 0)
			return verbs[i];
	}
	nearest = text_nearest(name, names, NR(names));
	if (nearest)
		cli_say("unknown verb %s: did you mean pagetide %s?", name, nearest);
	else
		cli_say("unknown verb %s: to run a program write pagetide run PROGRAM, "
			"pagetide help lists the verbs", name);
	return NULL;
}

static int help_run(char **words)
{
	const struct verb *verb;

	if (words[0] && words[1]) {
		cli_say("help takes one verb: leave out %s", words[1]);
		return EXIT_USAGE;
	}
	if (words[0]) {
		verb = verb_find(words[0]);
		if (!verb)
			return EXIT_USAGE;
		option_help(verb);
		return cli_finish(0);
	}
	printf("pagetide puts the memory of a program where it should be: pages in use in memory,\n"
	       "pages not in use compressed.\n\n");
	for (size_t i = 0; i < NR(verbs); i++)
		printf("  pagetide %-8s %-36s %s\n", verbs[i]->name, verbs[i]->usage, verbs[i]->help);
	printf("\npagetide help VERB says more, and so does the manual page pagetide(1).\n"
	       "First steps: pagetide check, then pagetide run --memory 40%% PROGRAM.\n");
	return cli_finish(0);
}

static int version_run(char **words)
{
	if (words[0]) {
		cli_say("version takes nothing: leave out %s", words[0]);
		return EXIT_USAGE;
	}
	printf("pagetide %s\n", TIDE_VERSION);
	return cli_finish(0);
}

/* "pagetide VERB --help" is "pagetide help VERB". */
static bool asks_for_help(const char *word)
{
	return word && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0);
}

/*
 * A standard stream that we were started without must not become one of our descriptors: what is printed
 * would go there. For reading only, so that printing fails as it did; closed again for a program.
 */
static void streams_occupy(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	const struct verb *verb;

	streams_occupy();
	if (argc < 2) {
		cli_say("nothing to do: write pagetide run PROGRAM, or pagetide help");
		return EXIT_USAGE;
	}
	if (asks_for_help(argv[1]))
		return help_run(argv + 2);
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return version_run(argv + 2);
	verb = verb_find(argv[1]);
	if (!verb)
		return EXIT_USAGE;
	if (asks_for_help(argv[2])) {
		option_help(verb);
		return cli_finish(0);
	}
	return verb->run(argv + 2);
}
