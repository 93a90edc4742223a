/* SPDX-License-Identifier: MIT */
/* What the writers of JSON documents share. */
#ifndef TIDE_JSON_H
#define TIDE_JSON_H

#include <jansson.h>
#include <stdint.h>

/* Without memory the member is missing. */
static inline void number_set(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

/*
 * The text of a document, which is let go; to be freed, NULL without memory. Of what has a fraction six digits: with
 * all that a double keeps, 177.3 ns would be 177.30000000000001.
 */
static inline char *document_write(json_t *root)
{
	char *text = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));

	json_decref(root);
	return text;
}

#endif
