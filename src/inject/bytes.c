/* SPDX-License-Identifier: MIT */
/*
 * Bytes: what the compiler and the helper call memcpy, memset and strlen, here, and not the program's.
 *
 * A program may bring its own, as the sanitizers do, and these use its memory and its thread-local data. The
 * helper would wait there for a page that is out of memory, and it is the helper that brings room for it. Hidden,
 * so that all calls in this library come here and no others do.
 */
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

void *memset(void *to, int byte, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(byte) : "memory");
	return to;
}

size_t strlen(const char *text)
{
	const volatile char *at = text; /* or the compiler would make a call of strlen() of it */

	while (*at)
		at++;
	return (size_t)(at - text);
}
