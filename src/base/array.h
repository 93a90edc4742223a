/* SPDX-License-Identifier: MIT */
/* Arrays that grow. */
#ifndef TIDE_ARRAY_H
#define TIDE_ARRAY_H

#include <stddef.h>
#include <stdlib.h>

/*
 * Room for one more than `nr`, in an array that has room for *max: a full one becomes twice as long. Returns the
 * array, which may have moved; NULL: no memory, and it is as it was.
 */
static inline void *array_room(void *array, size_t nr, size_t *max, size_t one_bytes)
{
	if (nr < *max)
		return array;
	size_t more = *max ? *max * 2 : 4;
	void *grown = reallocarray(array, more, one_bytes);
	if (grown)
		*max = more;
	return grown;
}

#endif
