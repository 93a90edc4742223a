/* SPDX-License-Identifier: MIT */
/*
 * Intake: the way of the runtime's calls into the core. With a recording open each call is written down
 * as run/record.h says.
 *
 * While recording, calls that need no lock otherwise take the engine's, so that there is one order to
 * write down; a fault may then wait for a step to end. Without, the price is one look at a pointer.
 */
#ifndef TIDE_INTAKE_H
#define TIDE_INTAKE_H

#include "program.h"

/* Write all that enters the server's engine to `path`. Before the first call below. */
int intake_open(struct server *server, const struct engine_config *config, const char *path);
/*
 * End the recording, if there is one: it takes its place as a whole. With `error`, -errno of the run, or when it
 * could not be written, which is returned, nothing comes of it (src/os/file.h).
 */
int intake_close(struct server *server, int error);

/* No lock held of server.engine_lock or below. */
void intake_touch(struct tract *tract, uint64_t idx, uint64_t nr_pages, enum engine_touch kind);
uint32_t intake_ahead(struct tract *tract, uint64_t idx, enum engine_touch kind);
bool intake_promote(struct tract *tract, uint64_t idx);
void intake_forget(struct tract *tract, uint64_t first, uint64_t nr_pages);

/* server.engine_lock held. */
void intake_add(struct tract *tract);
void intake_remove(struct tract *tract);
size_t intake_step(struct server *server, const struct engine_need *need, struct move *plan, size_t max,
		   bool *ret_again);
void intake_complete(struct server *server, uint64_t id, const struct move_result *result);

#endif
