/* SPDX-License-Identifier: MIT */
#include "written.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

void written_begin(struct written *written)
{
	written->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	for (size_t i = 0; i < WRITTEN_MAX; i++)
		written->watches[i] = written->held[i] = -1;
}

void written_add(struct written *written, size_t which, const char *root, const char *path)
{
	char joined[PATH_MAX];

	if (written->fd < 0 || snprintf(joined, sizeof joined, "%s%s", root, path) >= (int)sizeof joined)
		return;
	/* Of proc the kernel makes a file anew, which nobody watches, for who opens it when it has forgotten it. */
	if (!strncmp(joined, "/proc/", 6))
		written->held[which] = open(joined, O_PATH | O_CLOEXEC);
	written->watches[which] = inotify_add_watch(written->fd, joined, IN_MODIFY);
}

static unsigned int place_of(const struct written *written, int watch)
{
	for (unsigned int i = 0; i < WRITTEN_MAX; i++)
		if (written->watches[i] == watch)
			return 1u << i;
	return 0;
}

unsigned int written_take(const struct written *written)
{
	char events[4096] __attribute__((aligned(8)));
	const struct inotify_event *event;
	unsigned int places = 0;
	ssize_t n;

	while (written->fd >= 0 && (n = read(written->fd, events, sizeof events)) > 0) {
		for (char *at = events; at < events + n; at += sizeof *event + event->len) {
			event = (const struct inotify_event *)(const void *)at;
			if (event->mask & IN_MODIFY)
				places |= place_of(written, event->wd);
		}
	}
	return places;
}

void written_end(struct written *written)
{
	for (size_t i = 0; i < WRITTEN_MAX; i++)
		if (written->held[i] >= 0)
			close(written->held[i]);
	if (written->fd >= 0)
		close(written->fd);
}
