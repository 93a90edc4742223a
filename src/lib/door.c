/* SPDX-License-Identifier: MIT */
#include "door.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assert.h"
#include "clock.h"

#define DOORS_MAX 4u
#define DOOR_FDS (1 + DOOR_PEERS)

void door_open(struct door *door, const struct stream *stream, bool owner_only, door_answer *answer,
	       void *arg)
{
	door->stream = *stream;
	door->owner_only = owner_only;
	door->answer = answer;
	door->arg = arg;
	for (unsigned i = 0; i < DOOR_PEERS; i++)
		door->peers[i].fd = -1;
	door->open = true;
}

static void peer_close(struct door_peer *peer)
{
	close(peer->fd);
	free(peer->answer);
	peer->fd = -1;
	peer->answer = NULL;
}

void door_close(struct door *door)
{
	if (!door->open)
		return;
	for (unsigned i = 0; i < DOOR_PEERS; i++)
		if (door->peers[i].fd >= 0)
			peer_close(&door->peers[i]);
	stream_close(&door->stream);
	door->open = false;
}

/* ---- one peer ---- */

static void peer_write(struct door_peer *peer)
{
	ssize_t n = stream_write(peer->fd, peer->answer + peer->nr_written,
				 peer->nr_answer - peer->nr_written);

	if (n < 0 && n != -EAGAIN) {
		peer_close(peer);
		return;
	}
	peer->nr_written += n > 0 ? (size_t)n : 0;
	if (peer->nr_written < peer->nr_answer)
		return;
	/* Closed at once, what it still sends would make the kernel throw away what it has not read. */
	stream_finish(peer->fd);
	peer->finished = true;
}

static void peer_hear(struct door *door, struct door_peer *peer, uint64_t now_ns)
{
	size_t room = sizeof peer->question - 1 - peer->nr_read;
	ssize_t n = stream_read(peer->fd, peer->question + peer->nr_read, room);

	if (n == -EAGAIN)
		return;
	if (n < 0) {
		peer_close(peer);
		return;
	}
	peer->nr_read += (size_t)n;
	peer->question[peer->nr_read] = '\0';
	bool last = !n || (size_t)n == room;
	peer->answer = door->answer(door->arg, peer->question, last, &peer->nr_answer);
	peer->until_ns = peer->answer ? now_ns + DOOR_PEER_NS : peer->until_ns;
	if (peer->answer)
		peer_write(peer);
	else if (last)
		peer_close(peer);
}

static void peer_discard(struct door_peer *peer)
{
	char rest[4096];
	ssize_t n = stream_read(peer->fd, rest, sizeof rest);

	if (n <= 0 && n != -EAGAIN)
		peer_close(peer);
}

static void peer_serve(struct door *door, struct door_peer *peer, uint64_t now_ns)
{
	if (peer->finished)
		peer_discard(peer);
	else if (peer->answer)
		peer_write(peer);
	else
		peer_hear(door, peer, now_ns);
}

/* ---- the door ---- */

static struct door_peer *place_find(struct door *door)
{
	for (unsigned i = 0; i < DOOR_PEERS; i++)
		if (door->peers[i].fd < 0)
			return &door->peers[i];
	return NULL;
}

static void peers_accept(struct door *door, uint64_t now_ns)
{
	struct door_peer *peer;
	uid_t uid;
	int fd;

	while ((peer = place_find(door)) && !stream_accept(&door->stream, &fd, &uid)) {
		if (door->owner_only && uid != 0 && uid != getuid()) {
			close(fd);
			continue;
		}
		peer->fd = fd;
		peer->until_ns = now_ns + DOOR_PEER_NS;
		peer->nr_read = peer->nr_answer = peer->nr_written = 0;
		peer->finished = false;
	}
}

static nfds_t door_watch(struct door *door, struct pollfd *fds)
{
	fds[0] = (struct pollfd){ .fd = place_find(door) ? door->stream.fd : -1, .events = POLLIN };
	for (unsigned i = 0; i < DOOR_PEERS; i++) {
		const struct door_peer *peer = &door->peers[i];
		fds[1 + i] = (struct pollfd){
			.fd = peer->fd,
			.events = peer->answer && !peer->finished ? POLLOUT : POLLIN,
		};
	}
	return DOOR_FDS;
}

static void door_serve(struct door *door, const struct pollfd *fds, uint64_t now_ns)
{
	for (unsigned i = 0; i < DOOR_PEERS; i++) {
		struct door_peer *peer = &door->peers[i];
		if (peer->fd >= 0 && fds[1 + i].revents)
			peer_serve(door, peer, now_ns);
		if (peer->fd >= 0 && now_ns >= peer->until_ns)
			peer_close(peer);
	}
	if (fds[0].revents)
		peers_accept(door, now_ns);
}

void doors_wait(struct door *const *doors, size_t nr, uint64_t wait_ms)
{
	struct pollfd fds[DOORS_MAX * DOOR_FDS];
	uint64_t now_ns = clock_now_ns(), until_ns = now_ns + wait_ms * 1000000;

	tide_assert(nr <= DOORS_MAX);
	for (unsigned wakes = 0; now_ns < until_ns || !wakes; wakes++) {
		nfds_t nr_fds = 0;
		uint64_t left_ms = now_ns < until_ns ? (until_ns - now_ns + 999999) / 1000000 : 0;

		for (size_t i = 0; i < nr && wakes < DOOR_WAKES; i++)
			if (doors[i]->open)
				nr_fds += door_watch(doors[i], fds + nr_fds);
		if (poll(fds, nr_fds, (int)left_ms) < 0)
			return;
		now_ns = clock_now_ns();
		nr_fds = 0;
		for (size_t i = 0; i < nr && wakes < DOOR_WAKES; i++) {
			if (!doors[i]->open)
				continue;
			door_serve(doors[i], fds + nr_fds, now_ns);
			nr_fds += DOOR_FDS;
		}
	}
}
