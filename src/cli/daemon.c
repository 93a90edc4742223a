/* SPDX-License-Identifier: MIT */
/*
 * pagetide daemon: attach by a configuration file, as a service.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"

#define CONFIG_PATH "/etc/pagetide/pagetide.conf"

enum { OPT_CONFIG, OPT_PRINT_CONFIG, OPT_SENSOR, OPT_DRY_RUN, OPT_JSON, OPT_QUIET, OPT_CONTROL,
       OPT_METRICS_FILE, OPT_METRICS_LISTEN, OPT_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_CONFIG] = { "config", "FILE", "the rules; " CONFIG_PATH " if not given", 'c' },
	[OPT_PRINT_CONFIG] = { "print-config", NULL, "print what the file and its drop-ins say, and end", 0 },
	[OPT_SENSOR] = { "sensor", "NAME", "who tells which pages are in use; else the best that works", 0 },
	[OPT_DRY_RUN] = { "dry-run", NULL, "move nothing, count what would move", 0 },
	[OPT_JSON] = { "json", NULL, "print a report as JSON at the end (schema pagetide.attach/1)", 0 },
	[OPT_QUIET] = { "quiet", NULL, "no warnings", 0 },
	[OPT_CONTROL] = { "control", "PATH", "its control socket, if not " TIDE_CONTROL_PATH, 0 },
	[OPT_METRICS_FILE] = { "metrics-file", "PATH", "write metrics there, every 15 s", 0 },
	[OPT_METRICS_LISTEN] = { "metrics-listen", "ADDR", "serve metrics: 127.0.0.1:PORT or unix:PATH", 0 },
};

struct words {
	struct tide_attach_options attach;
	bool json, print_config;
};

static int words_read(char **list, struct words *words)
{
	struct option_reader reader = { .verb = &verb_daemon, .words = list };
	int option;

	while ((option = option_next(&reader)) != OPTION_END) {
		switch (option) {
		case OPT_CONFIG:
			words->attach.config_path = reader.value;
			break;
		case OPT_PRINT_CONFIG:
			words->print_config = true;
			break;
		case OPT_SENSOR:
			words->attach.sensor = reader.value;
			break;
		case OPT_DRY_RUN:
			words->attach.dry_run = true;
			break;
		case OPT_JSON:
			words->json = true;
			break;
		case OPT_QUIET:
			words->attach.quiet = true;
			break;
		case OPT_CONTROL:
			words->attach.control_path = reader.value;
			break;
		case OPT_METRICS_FILE:
			words->attach.metrics_file = reader.value;
			break;
		case OPT_METRICS_LISTEN:
			words->attach.metrics_listen = reader.value;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (reader.words[0]) {
		cli_say("daemon takes no %s: write pagetide daemon -c FILE", reader.words[0]);
		return EXIT_USAGE;
	}
	return 0;
}

static int run(char **list)
{
	struct words words = { .attach = { .size = sizeof(struct tide_attach_options),
					   .config_path = CONFIG_PATH } };
	char message[TIDE_MESSAGE_MAX] = "";
	char *text = NULL;
	int err, status = words_read(list, &words);

	if (status)
		return status;
	if (words.print_config)
		err = tide_config_fetch(words.attach.config_path, &text, message);
	else
		err = tide_attach(&words.attach, &text, message);
	if (err) {
		cli_say("%s", message[0] ? message : strerror(-err));
		return err == -EINVAL ? EXIT_USAGE : EXIT_OWN;
	}
	if (words.print_config)
		fputs(text, stdout);
	else if (words.json)
		return document_show(text, true, NULL);
	free(text);
	return cli_finish(0);
}

const struct verb verb_daemon = {
	.name = "daemon",
	.usage = "[-c FILE] [OPTIONS]",
	.help = "look after the processes that rules select, as a service",
	.detail =
		"Do what attach does for the processes that the rules of a file select, as they come and go,\n"
		"until it is ended. The files FILE.d/*.conf are read after FILE. SIGHUP reads them again; a\n"
		"file that is not understood is refused, and what was in force stays. Pages stay where they\n"
		"are when it ends, and the kernel's settings are put back. pagetide(1) tells the keys.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
