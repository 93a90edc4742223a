/* SPDX-License-Identifier: MIT */
#include "service.h"

#include <inttypes.h>
#include <stdio.h>

#include "cli.h"
#include "document.h"
#include "text.h"

int service_option_read(int option, const char *value, struct service_words *words)
{
	struct tide_attach_options *attach = &words->attach;

	switch (option) {
	case SERVICE_SENSOR:
		attach->sensor = value;
		return 0;
	case SERVICE_JSON:
		words->json = true;
		return 0;
	case SERVICE_DRY_RUN:
		attach->dry_run = true;
		return 0;
	case SERVICE_QUIET:
		attach->quiet = true;
		return 0;
	case SERVICE_CONTROL:
		attach->control_path = value;
		return 0;
	case SERVICE_METRICS_FILE:
		attach->metrics_file = value;
		return 0;
	case SERVICE_METRICS_LISTEN:
		attach->metrics_listen = value;
		return 0;
	default:
		return EXIT_USAGE;
	}
}

void service_nodes_print(const json_t *space)
{
	const json_t *node;
	const char *id;

	json_object_foreach(json_object_get(space, "nodes"), id, node) {
		uint64_t hot = document_number(node, "hot_bytes"), warm = document_number(node, "warm_bytes");
		uint64_t cold = document_number(node, "cold_bytes");
		char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES], c[TEXT_NUMBER_BYTES];

		if (hot || warm || cold)
			printf("  node %s: hot %s, warm %s, cold %s\n", id, text_size_format(a, hot),
			       text_size_format(b, warm), text_size_format(c, cold));
	}
}

void service_sensor_print(const json_t *report)
{
	const json_t *sensor = json_object_get(report, "sensor");
	char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];

	printf("sensor %s: %" PRIu64 " touches, %" PRIu64 " lost; %s of processor time in %s\n",
	       document_text(sensor, "name"), document_number(sensor, "touches"),
	       document_number(sensor, "lost"), text_time_format(a, document_number(report, "cpu_ns")),
	       text_time_format(b, document_number(report, "wall_ns")));
}
