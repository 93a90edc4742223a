/* SPDX-License-Identifier: MIT */
/*
 * What attach and daemon have in common, and what status prints of both: the options of looking after
 * processes, and the parts of the report.
 */
#ifndef TIDE_SERVICE_H
#define TIDE_SERVICE_H

#include <jansson.h>
#include <stdbool.h>

#include "option.h"
#include "pagetide.h"

/* Places in a verb's table, from its first one on that is not the verb's own. */
enum {
	SERVICE_SENSOR,
	SERVICE_JSON,
	SERVICE_DRY_RUN,
	SERVICE_QUIET,
	SERVICE_CONTROL,
	SERVICE_METRICS_FILE,
	SERVICE_METRICS_LISTEN,
	SERVICE_COUNT
};

#define SERVICE_OPTIONS(first) \
	[(first) + SERVICE_SENSOR] = { "sensor", "NAME", \
				       "who tells which pages are in use; else the best that works", 0 }, \
	[(first) + SERVICE_JSON] = { "json", NULL, \
				     "print the report as JSON at the end (schema pagetide.attach/1)", 0 }, \
	[(first) + SERVICE_DRY_RUN] = { "dry-run", NULL, "move nothing, count what would move", 0 }, \
	[(first) + SERVICE_QUIET] = { "quiet", NULL, "no warnings", 0 }, \
	[(first) + SERVICE_CONTROL] = { "control", "PATH", \
					"its control socket, if not " TIDE_CONTROL_PATH, 0 }, \
	[(first) + SERVICE_METRICS_FILE] = { "metrics-file", "PATH", "write metrics there, every 15 s", 0 }, \
	[(first) + SERVICE_METRICS_LISTEN] = { "metrics-listen", "ADDR", \
					       "serve metrics: 127.0.0.1:PORT or unix:PATH", 0 }

struct service_words {
	struct tide_attach_options attach;
	bool json;
};

/* `option` counts from the verb's first one on; EXIT_USAGE when it is none of these. */
int service_option_read(int option, const char *value, struct service_words *words);

/* "  node 0: hot 1G, warm 0, cold 3M" for each node on which a space has anything. */
void service_nodes_print(const json_t *space);
/* What several processes may map, all of it together as one more space. Each number is a sum, which of `stall_ns` means
 * nothing. The caller lets it go; NULL: nothing was seen of any. */
json_t *service_shared_sum(const json_t *report);
/* The line of the sensor, and what the whole cost. */
void service_sensor_print(const json_t *report);

#endif
