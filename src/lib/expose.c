/* SPDX-License-Identifier: MIT */
#include "expose.h"

#include <inttypes.h>

#define SECOND_NS UINT64_C(1000000000)

static const char *const type_names[] = {
	[EXPOSE_GAUGE] = "gauge", [EXPOSE_COUNTER] = "counter", [EXPOSE_HISTOGRAM] = "histogram",
};

void expose_begin(FILE *file, const struct expose_family *family)
{
	fprintf(file, "# TYPE %s %s\n", family->name, type_names[family->type]);
	if (family->unit)
		fprintf(file, "# UNIT %s %s\n", family->name, family->unit);
	fprintf(file, "# HELP %s %s\n", family->name, family->help);
}

static void labels_write(FILE *file, const struct expose_label *labels, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		fprintf(file, "%s%s=\"", i ? "," : "{", labels[i].name);
		for (const char *at = labels[i].value; *at; at++) {
			if (*at == '\n')
				fputs("\\n", file);
			else if (*at == '"' || *at == '\\')
				fprintf(file, "\\%c", *at);
			else
				fputc(*at, file);
		}
		fputc('"', file);
	}
	fputs(nr ? "} " : " ", file);
}

static void seconds_write(FILE *file, uint64_t ns)
{
	fprintf(file, "%" PRIu64 ".%09" PRIu64 "\n", ns / SECOND_NS, ns % SECOND_NS);
}

static void name_write(FILE *file, const struct expose_family *family)
{
	fprintf(file, "%s%s", family->name, family->type == EXPOSE_COUNTER ? "_total" : "");
}

void expose_number(FILE *file, const struct expose_family *family, const struct expose_label *labels,
		   size_t nr_labels, uint64_t value)
{
	name_write(file, family);
	labels_write(file, labels, nr_labels);
	fprintf(file, "%" PRIu64 "\n", value);
}

void expose_seconds(FILE *file, const struct expose_family *family, const struct expose_label *labels,
		    size_t nr_labels, uint64_t value_ns)
{
	name_write(file, family);
	labels_write(file, labels, nr_labels);
	seconds_write(file, value_ns);
}

void expose_histogram(FILE *file, const struct expose_family *family, const uint64_t *bounds_ns,
		      const uint64_t *counts, size_t nr, uint64_t over, uint64_t sum_ns)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < nr; i++) {
		seen += counts[i];
		fprintf(file, "%s_bucket{le=\"%" PRIu64 ".%09" PRIu64 "\"} %" PRIu64 "\n", family->name,
			bounds_ns[i] / SECOND_NS, bounds_ns[i] % SECOND_NS, seen);
	}
	seen += over;
	fprintf(file, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", family->name, seen);
	fprintf(file, "%s_count %" PRIu64 "\n%s_sum ", family->name, seen, family->name);
	seconds_write(file, sum_ns);
}

void expose_end(FILE *file)
{
	fputs("# EOF\n", file);
}
