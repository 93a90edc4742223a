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

#endif
