/* SPDX-License-Identifier: MIT */
/*
 * The metrics of a running pagetide: docs/metrics.md names each. They are written to a file, and given
 * to whoever scrapes the socket; both only when asked for.
 *
 * The file is replaced whole by rename, every METRICS_FILE_NS, and removed at the end: nobody keeps
 * it true then. The text is made at most once a second, however many scrape. What it costs to count
 * pages by heat is bounded by the watch (watch_census()).
 */
#ifndef TIDE_METRICS_H
#define TIDE_METRICS_H

#include "attach.h"

#define METRICS_FILE_NS UINT64_C(15000000000)
#define METRICS_FRESH_NS UINT64_C(1000000000)

/*
 * Begin as a->options asks. With the reason: -EINVAL, an address of no form that is known, or that other machines
 * reach, or a place where nothing can be made or written; -EADDRINUSE, somebody listens there.
 */
int metrics_open(struct attach *attach, char ret_message[TIDE_MESSAGE_MAX]);
/* Write the file if it is time, for the first time at once. A failure is said once, with the path; the loop goes on. */
void metrics_look(struct attach *attach, uint64_t now_ns);
void metrics_close(struct attach *attach);

/* The text as of now, to be freed; NULL without memory. */
char *metrics_text(struct attach *attach, uint64_t now_ns, size_t *ret_bytes);

#endif
