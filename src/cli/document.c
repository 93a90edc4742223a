/* SPDX-License-Identifier: MIT */
#include "document.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

json_t *document_read(char *text)
{
	json_t *root = json_loads(text, 0, NULL);

	free(text);
	if (!root)
		cli_say("the answer is no JSON: are the program and the library of one version?");
	return root;
}

uint64_t document_number(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

const char *document_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

void document_counts_print(const char *title, const json_t *counts)
{
	const char *name, *gap = " ";
	json_t *count;

	printf("%-15s", title);
	json_object_foreach((json_t *)(uintptr_t)counts, name, count) {
		if (!json_integer_value(count))
			continue;
		printf("%s%s %" JSON_INTEGER_FORMAT, gap, name, json_integer_value(count));
		gap = ", ";
	}
	printf("%s\n", *gap == ' ' ? " none" : "");
}

int document_show(char *text, bool json, void (*print)(const json_t *root))
{
	if (json) {
		puts(text);
		free(text);
		return cli_finish(0);
	}
	json_t *root = document_read(text);
	if (!root)
		return EXIT_OWN;
	print(root);
	json_decref(root);
	return cli_finish(0);
}
