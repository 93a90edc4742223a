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

/* Each number below `sum` and that below `one` of the same name. */
static void numbers_add(json_t *sum, const json_t *one)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)one, name, value) {
		json_t *have = json_object_get(sum, name);

		if (json_is_integer(value))
			json_object_set_new(sum, name,
					    json_integer(json_integer_value(have) + json_integer_value(value)));
		if (!json_is_object(value))
			continue;
		if (!have)
			json_object_set_new(sum, name, json_object());
		numbers_add(json_object_get(sum, name), value);
	}
}

json_t *service_shared_sum(const json_t *report)
{
	json_t *sum = json_object();
	const json_t *share;
	size_t i;

	json_array_foreach(json_object_get(report, "shared"), i, share)
		numbers_add(sum, share);
	numbers_add(sum, json_object_get(report, "shared_gone"));
	if (document_number(sum, "touches") || document_number(json_object_get(sum, "moves"), "requested"))
		return sum;
	json_decref(sum);
	return NULL;
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
