/* SPDX-License-Identifier: MIT */
/* Statistics of a server as JSON text; the schema is in docs/stats-schema.md. */
#ifndef TIDE_STATS_H
#define TIDE_STATS_H

#include "pagetide.h"
#include "program.h"

struct stats_base {
	uint64_t start_ns;
	const char *program;
	const struct tide_run_options *options;
};
/* What the text says of the whole run; set once, before the server starts. */
void stats_open(const struct stats_base *base);

/* To be freed; NULL without memory. */
char *stats_json(struct server *server, int wait_status, bool ended);
void stats_summary(struct server *server);
/* When all is over, and the budget was passed: a line that says what was left alone and why moves failed. */
void stats_excess(struct server *server);

#endif
