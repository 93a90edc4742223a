/* SPDX-License-Identifier: MIT */
#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "notify.h"
#include "select.h"

static void status_tell(struct attach *a, const char *first)
{
	char text[160];

	a->told_live = a->nr_live;
	snprintf(text, sizeof text, "%sSTATUS=%zu processes of %zu rules", first, a->nr_live,
		 a->config.nr_rules);
	notify_send(text); /* nobody to tell whom we cannot tell */
}

void daemon_begin(struct attach *a)
{
	/* Half of the time, so that one look may come late. */
	a->watchdog_ns = notify_watchdog_ns() / 2;
	status_tell(a, "READY=1\n");
}

void daemon_look(struct attach *a, uint64_t now_ns)
{
	if (a->told_live != a->nr_live)
		status_tell(a, "");
	if (!a->watchdog_ns || now_ns - a->watched_ns < a->watchdog_ns)
		return;
	a->watched_ns = now_ns;
	notify_send("WATCHDOG=1");
}

static bool same(const char *one, const char *other)
{
	return one && other ? !strcmp(one, other) : one == other;
}

void daemon_reload(struct attach *a)
{
	char message[TIDE_MESSAGE_MAX];
	struct config config;

	snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (unsigned long long)(clock_now_ns() / 1000));
	notify_send(message);
	int error = config_read(a->options->config_path, "", &config, message);
	if (!error && (!same(config.fast, a->config.fast) || !same(config.slow, a->config.slow))) {
		snprintf(message, sizeof message, "[tiers] changed: that takes a restart");
		config_free(&config);
		error = -EBUSY;
	}
	if (error) {
		fprintf(stderr, "pagetide: not reloaded: %s\n", message);
	} else {
		select_change(a, &config);
		if (!a->options->quiet)
			fprintf(stderr, "pagetide: reloaded: %zu processes of %zu rules\n", a->nr_live,
				a->config.nr_rules);
	}
	status_tell(a, "READY=1\n");
}

void daemon_end(void)
{
	notify_send("STOPPING=1");
}
