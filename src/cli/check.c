/* SPDX-License-Identifier: MIT */
/*
 * pagetide check: what this kernel and user can do, with the reason and the mend.
 */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "pagetide.h"

enum { OPT_JSON, OPT_COUNT };

static const struct option options[OPT_COUNT] = {
	[OPT_JSON] = { "json", NULL, "print a JSON document (schema pagetide.check/1)", 0 },
};

static void table_print(const struct tide_feature *features, size_t nr, bool able)
{
	printf("%-18s %-9s %-8s %s\n", "feature", "", "there", "found");
	for (size_t i = 0; i < nr; i++) {
		const struct tide_feature *feature = &features[i];

		printf("%-18s %-9s %-8s %s\n", feature->name, feature->needed ? "needed" : "optional",
		       feature->present ? "yes" : "NO", feature->reason);
		if (feature->mend[0])
			printf("%-18s %-9s %-8s mend: %s\n", "", "", "", feature->mend);
	}
	printf("\npagetide run %s on this machine as this user.\n",
	       able ? "works" : "does NOT work");
}

static int json_print(const struct tide_feature *features, size_t nr, bool able)
{
	json_t *list = json_array();
	json_t *root;

	for (size_t i = 0; i < nr; i++)
		json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:s, s:s}",
						      "name", features[i].name,
						      "needed", features[i].needed,
						      "present", features[i].present,
						      "reason", features[i].reason,
						      "mend", features[i].mend));
	root = json_pack("{s:s, s:s, s:b, s:o}", "schema", "pagetide.check/1", "version", TIDE_VERSION,
			 "able", able, "features", list);
	if (!root || json_array_size(list) != nr ||
	    json_dumpf(root, stdout, JSON_INDENT(2))) {
		cli_say("cannot make the JSON document: out of memory, or the output cannot be written");
		json_decref(root);
		return EXIT_OWN;
	}
	json_decref(root);
	putchar('\n');
	return 0;
}

static int run(char **words)
{
	struct option_reader reader = { .verb = &verb_check, .words = words };
	struct tide_feature features[TIDE_FEATURE_MAX];
	bool json = false, able = true;
	int option, err;
	size_t nr;

	while ((option = option_next(&reader)) != OPTION_END) {
		if (option == OPTION_BAD)
			return EXIT_USAGE;
		json = true;
	}
	if (reader.words[0]) {
		cli_say("check takes no %s: write pagetide check [--json]", reader.words[0]);
		return EXIT_USAGE;
	}
	err = tide_check(features, &nr);
	if (err) {
		cli_say("cannot find out: %s: free memory or processes and try again", strerror(-err));
		return EXIT_OWN;
	}
	for (size_t i = 0; i < nr; i++)
		able = able && (features[i].present || !features[i].needed);
	if (!json)
		table_print(features, nr, able);
	else if (json_print(features, nr, able))
		return EXIT_OWN;
	return cli_finish(able ? 0 : EXIT_UNABLE);
}

const struct verb verb_check = {
	.name = "check",
	.usage = "[--json]",
	.help = "find out what this kernel and user can do",
	.detail =
		"Try every feature of the kernel that pagetide uses, say which are missing, why, and what\n"
		"to do about it. Exits with 1 when pagetide run cannot work.",
	.options = options,
	.nr_options = OPT_COUNT,
	.run = run,
};
