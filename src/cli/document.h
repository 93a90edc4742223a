/* SPDX-License-Identifier: MIT */
/*
 * Reading the JSON documents of the library, to print them for people.
 */
#ifndef TIDE_DOCUMENT_H
#define TIDE_DOCUMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Parse what the library gave and free it. NULL, and said: it is no document of ours. */
json_t *document_read(char *text);

/* 0 when there is no such member, or it is no number. */
uint64_t document_number(const json_t *object, const char *key);
/* "" likewise. */
const char *document_text(const json_t *object, const char *key);

/* One line, "title name 12, name 3", of what is not zero. */
void document_counts_print(const char *title, const json_t *counts);

/* Answer with what the library gave, as it is or printed for people, and free it; the exit status. */
int document_show(char *text, bool json, void (*print)(const json_t *root));

#endif
