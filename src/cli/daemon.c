/* SPDX-License-Identifier: MIT */
/*
 * pagetide daemon: attach by a configuration file, as a service.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "document.h"
#include "pagetide.h"
#include "service.h"

#define CONFIG_PATH "/etc/pagetide/pagetide.conf"

enum { OPT_CONFIG, OPT_PRINT_CONFIG, OPT_SERVICE, OPT_COUNT = OPT_SERVICE + SERVICE_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_CONFIG] = { "config", "FILE", "the rules; " CONFIG_PATH " if not given", 'c' },
	[OPT_PRINT_CONFIG] = { "print-config", NULL, "print what the file and its drop-ins say, and end", 0 },
	SERVICE_OPTIONS(OPT_SERVICE),
};

static int words_read(char **list, struct service_words *words, bool *ret_print_config)
{
	struct option_reader reader = { .verb = &verb_daemon, .words = list };
	int option, status = 0;

	while (!status && (option = option_next(&reader)) != OPTION_END) {
		if (option == OPT_CONFIG)
			words->attach.config_path = reader.value;
		else if (option == OPT_PRINT_CONFIG)
			*ret_print_config = true;
		else
			status = service_option_read(option - OPT_SERVICE, reader.value, words);
	}
	if (!status && reader.words[0]) {
		cli_say("daemon takes no %s: write pagetide daemon -c FILE", reader.words[0]);
		status = EXIT_USAGE;
	}
	return status;
}

static int run(char **list)
{
	struct service_words words = { .attach = { .size = sizeof(struct tide_attach_options),
						   .config_path = CONFIG_PATH } };
	char message[TIDE_MESSAGE_MAX] = "";
	char *text = NULL;
	bool print_config = false;
	int error, status = words_read(list, &words, &print_config);

	if (status || (!print_config && first_waits(&status)))
		return status;
	error = print_config ? tide_config_fetch(words.attach.config_path, words.json, &text, message) :
			       tide_attach(&words.attach, &text, message);
	if (error)
		return cli_refused(error, message);
	if (words.json)
		return document_show(text, true, NULL);
	if (print_config)
		fputs(text, stdout);
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
