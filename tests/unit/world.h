/* SPDX-License-Identifier: MIT */
/* A server with one program, behind which there is no process. */
#ifndef TESTS_UNIT_WORLD_H
#define TESTS_UNIT_WORLD_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "program.h"

struct world {
	struct server server;
	struct program *program;
	int tell; /* where a test writes what the userfaultfd is to say, or -1 */
	void *memory;
};

static inline struct world *world_new(void)
{
	struct engine_config config = { 1, 64 };
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	w->memory = calloc(1, engine_bytes(&config));
	w->server.engine = engine_init(w->memory, &config);
	pthread_mutex_init(&w->server.engine_lock, NULL);
	pthread_mutex_init(&w->server.dead_lock, NULL);
	w->program = program_new(&w->server);
	assert_non_null(w->program);
	w->tell = -1;
	return w;
}

static inline void dead_free(struct world *w)
{
	while (w->server.dead_tracts) {
		struct tract *t = w->server.dead_tracts;
		w->server.dead_tracts = t->next;
		tract_free(t);
	}
}

static inline void world_free(struct world *w)
{
	program_free(w->program);
	dead_free(w);
	if (w->tell >= 0)
		close(w->tell);
	free(w->memory);
	free(w);
}

/* For events_read(), of a program that has no faults. */
static inline void no_fault(void *arg, uint64_t address, bool write, uint32_t tid)
{
	(void)arg;
	(void)address;
	(void)write;
	(void)tid;
	fail();
}

#endif
