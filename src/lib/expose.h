/* SPDX-License-Identifier: MIT */
/*
 * OpenMetrics text (version 1.0 of that format): families of samples, written in order.
 *
 * Only types that the older text format of Prometheus knows as well are used, because the textfile
 * collector of its node exporter reads that one: to it a unit is a comment.
 *
 * A family is begun once, then come all its samples. The text ends with expose_end().
 */
#ifndef TIDE_EXPOSE_H
#define TIDE_EXPOSE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum expose_type { EXPOSE_GAUGE, EXPOSE_COUNTER, EXPOSE_HISTOGRAM };

struct expose_family {
	const char *name;     /* without "_total"; ends in "_" and the unit when there is one */
	enum expose_type type;
	const char *unit;     /* base units in the plural: "bytes"; NULL: a plain number */
	const char *help;     /* a sentence without line ends, quotes or backslashes */
};

struct expose_label {
	const char *name;
	const char *value;    /* UTF-8; escaped here */
};

/* In an expression: the array of labels and their number. */
#define EXPOSE_LABELS(...)                                 \
	(const struct expose_label[]){ __VA_ARGS__ },      \
		sizeof((const struct expose_label[]){ __VA_ARGS__ }) / sizeof(struct expose_label)

void expose_begin(FILE *file, const struct expose_family *family);
/* A sample of a gauge or counter: a whole number, or for seconds a number of nanoseconds. */
void expose_number(FILE *file, const struct expose_family *family, const struct expose_label *labels,
		   size_t nr_labels, uint64_t value);
void expose_seconds(FILE *file, const struct expose_family *family, const struct expose_label *labels,
		    size_t nr_labels, uint64_t value_ns);
/*
 * The samples of a histogram in seconds: bounds_ns[i] is the upper end of counts[i], rising; what is
 * above the last of them is in `over`.
 */
void expose_histogram(FILE *file, const struct expose_family *family, const uint64_t *bounds_ns,
		      const uint64_t *counts, size_t nr, uint64_t over, uint64_t sum_ns);
void expose_end(FILE *file);

#endif
