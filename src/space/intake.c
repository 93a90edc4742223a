/* SPDX-License-Identifier: MIT */
/* Writing down what enters the core. Everything here is under server.engine_lock. */
#include "intake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "pack.h"
#include "record.h"

#define BUFFER_BYTES RECORD_FRAME_MAX
#define FRAME_BYTES (256u << 10) /* a frame is written when it is as long */

_Static_assert(FRAME_BYTES + RECORD_EVENT_MAX + RECORD_HEAD_BYTES <= BUFFER_BYTES,
	       "whatever event comes next, the frame has room for it");

struct intake {
	struct file_saving file;
	int error;             /* the first: nothing is written any more */
	struct pack frame;     /* RECORD_HEAD_BYTES free at its head */
	uint64_t check;
	uint64_t before_ns;    /* the last time written */
	uint64_t nr_events;
	uint32_t nr_tracts;
	struct engine_tape tape;
};

static void bytes_write(struct intake *in, const uint8_t *data, size_t bytes)
{
	while (bytes && !in->error) {
		ssize_t n = write(in->file.fd, data, bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			in->error = n ? -errno : -EIO;
			return;
		}
		data += n;
		bytes -= (size_t)n;
	}
}

static void frame_write(struct intake *in)
{
	size_t bytes = in->frame.at - RECORD_HEAD_BYTES;

	in->check = pack_check(in->check, in->frame.data + RECORD_HEAD_BYTES, bytes);
	for (unsigned i = 0; i < 4; i++)
		in->frame.data[i] = (uint8_t)(bytes >> 8 * i);
	for (unsigned i = 0; i < 8; i++)
		in->frame.data[4 + i] = (uint8_t)(in->check >> 8 * i);
	bytes_write(in, in->frame.data, in->frame.at);
	in->frame.at = RECORD_HEAD_BYTES;
}

static struct pack *event_begin(struct intake *in, enum record_event event)
{
	if (in->frame.at >= FRAME_BYTES)
		frame_write(in);
	in->nr_events++;
	pack_number(&in->frame, event);
	return &in->frame;
}

static void time_pack(struct intake *in, uint64_t now_ns)
{
	pack_change(&in->frame, in->before_ns, now_ns);
	in->before_ns = now_ns;
}

/* What the engine read in the call that has just ended. */
static void states_pack(struct intake *in)
{
	const uint8_t *states = in->tape.states;
	size_t nr = in->tape.nr, run;

	pack_number(&in->frame, nr);
	for (size_t i = 0; i < nr; i += run) {
		for (run = 1; i + run < nr && states[i + run] == states[i];)
			run++;
		size_t more = run - 1 < 15 ? run - 1 : 15;
		in->frame.data[in->frame.at++] = (uint8_t)(states[i] | more << 4);
		if (more == 15)
			pack_number(&in->frame, run - 1 - 15);
	}
	in->tape.nr = 0;
}

static uint32_t move_serial(const struct move *move)
{
	const struct tract *tract = move->region->owner;

	return tract->serial;
}

static void intake_free(struct intake *in)
{
	free(in->frame.data);
	free(in->tape.states);
	free(in);
}

int intake_open(struct server *s, const struct engine_config *config, const char *path)
{
	struct intake *in = calloc(1, sizeof *in);

	if (!in)
		return -ENOMEM;
	in->frame = (struct pack){ .data = malloc(BUFFER_BYTES), .at = RECORD_HEAD_BYTES };
	in->tape.states = malloc(ENGINE_TAPE_ROOM);
	in->check = PACK_CHECK;
	int error = in->frame.data && in->tape.states ? file_save_begin(path, &in->file) : -ENOMEM;
	if (error) {
		intake_free(in);
		return error;
	}
	s->intake = in;
	bytes_write(in, (const uint8_t *)RECORD_MAGIC, RECORD_MAGIC_BYTES);
	if (in->error)
		return intake_close(s, 0);
	engine_tape_set(s->engine, &in->tape);
	pack_number(event_begin(in, RECORD_BEGIN), config->seed);
	pack_number(&in->frame, config->max_moves);
	return 0;
}

int intake_close(struct server *s, int error)
{
	struct intake *in = s->intake;

	if (!in)
		return 0;
	s->intake = NULL;
	engine_tape_set(s->engine, NULL);
	if (!in->error) {
		uint64_t nr = in->nr_events;
		pack_number(event_begin(in, RECORD_END), nr);
		frame_write(in);
	}
	error = file_save_end(&in->file, error ? error : in->error);
	intake_free(in);
	return error;
}

static void touch_pack(struct intake *in, const struct tract *t, uint64_t idx, enum engine_touch kind,
		       uint64_t now_ns)
{
	struct pack *frame = event_begin(in, RECORD_TOUCH);

	pack_number(frame, t->serial);
	pack_number(frame, idx);
	pack_number(frame, kind);
	time_pack(in, now_ns);
}

void intake_touch(struct tract *t, uint64_t idx, uint64_t nr_pages, enum engine_touch kind)
{
	struct server *s = t->program->server;
	uint64_t now_ns = clock_now_ns();

	if (s->intake)
		pthread_mutex_lock(&s->engine_lock);
	for (uint64_t i = idx; i < idx + nr_pages; i++) {
		engine_touch(&t->region, i, kind, HEAT_NO_NODE, now_ns);
		if (s->intake)
			touch_pack(s->intake, t, i, kind, now_ns);
	}
	if (s->intake)
		pthread_mutex_unlock(&s->engine_lock);
}

uint32_t intake_ahead(struct tract *t, uint64_t idx, enum engine_touch kind)
{
	struct server *s = t->program->server;

	if (!s->intake)
		return engine_readahead(&t->region, idx, kind);
	pthread_mutex_lock(&s->engine_lock);
	uint32_t answer = engine_readahead(&t->region, idx, kind);
	struct pack *frame = event_begin(s->intake, RECORD_AHEAD);
	pack_number(frame, t->serial);
	pack_number(frame, idx);
	pack_number(frame, kind);
	pack_number(frame, answer);
	pthread_mutex_unlock(&s->engine_lock);
	return answer;
}

bool intake_promote(struct tract *t, uint64_t idx)
{
	struct server *s = t->program->server;
	uint64_t now_ns = clock_now_ns();

	if (!s->intake)
		return engine_promote(&t->region, idx, now_ns);
	pthread_mutex_lock(&s->engine_lock);
	bool answer = engine_promote(&t->region, idx, now_ns);
	struct pack *frame = event_begin(s->intake, RECORD_PROMOTE);
	pack_number(frame, t->serial);
	pack_number(frame, idx);
	time_pack(s->intake, now_ns);
	pack_number(frame, answer);
	pthread_mutex_unlock(&s->engine_lock);
	return answer;
}

void intake_forget(struct tract *t, uint64_t first, uint64_t nr_pages)
{
	struct server *s = t->program->server;

	if (!s->intake) {
		engine_forget(&t->region, first, nr_pages);
		return;
	}
	pthread_mutex_lock(&s->engine_lock);
	engine_forget(&t->region, first, nr_pages);
	struct pack *frame = event_begin(s->intake, RECORD_FORGET);
	pack_number(frame, t->serial);
	pack_number(frame, first);
	pack_number(frame, nr_pages);
	pthread_mutex_unlock(&s->engine_lock);
}

void intake_add(struct tract *t)
{
	struct server *s = t->program->server;

	engine_region_add(s->engine, &t->region);
	if (!s->intake)
		return;
	t->serial = s->intake->nr_tracts++;
	pack_number(event_begin(s->intake, RECORD_ADD), t->region.first_vpn);
	pack_number(&s->intake->frame, t->region.nr_pages);
}

void intake_remove(struct tract *t)
{
	struct server *s = t->program->server;

	engine_region_remove(s->engine, &t->region);
	if (s->intake)
		pack_number(event_begin(s->intake, RECORD_REMOVE), t->serial);
}

static void step_pack(struct intake *in, uint64_t now_ns, const struct engine_need *need, size_t max,
		      const struct move *plan, size_t nr, bool again)
{
	if (need->slow_max) {
		struct pack *slow = event_begin(in, RECORD_SLOW);
		pack_number(slow, need->slow);
		pack_number(slow, need->slow_held);
		pack_number(slow, need->slow_max);
		pack_number(slow, need->slow_last);
		pack_number(slow, need->slow_wait_ns);
	}
	struct pack *frame = event_begin(in, RECORD_STEP);

	time_pack(in, now_ns);
	pack_number(frame, need->resident);
	pack_number(frame, need->limit);
	pack_number(frame, need->held);
	pack_number(frame, need->held_max);
	pack_number(frame, need->filling);
	pack_number(frame, need->store_full);
	pack_number(frame, max);
	states_pack(in);
	pack_number(frame, nr);
	pack_number(frame, again);
	for (size_t i = 0; i < nr; i++) {
		pack_number(frame, plan[i].id);
		pack_number(frame, move_serial(&plan[i]));
		pack_number(frame, plan[i].first);
		pack_number(frame, plan[i].nr_pages);
		pack_number(frame, plan[i].op);
	}
}

size_t intake_step(struct server *s, const struct engine_need *need, struct move *plan, size_t max,
		   bool *ret_again)
{
	uint64_t now_ns = clock_now_ns();
	size_t nr = engine_step(s->engine, now_ns, need, plan, max, ret_again);

	if (s->intake)
		step_pack(s->intake, now_ns, need, max, plan, nr, *ret_again);
	return nr;
}

void intake_complete(struct server *s, uint64_t id, const struct move_result *result)
{
	uint64_t now_ns = clock_now_ns();

	engine_complete(s->engine, id, result, now_ns);
	if (!s->intake)
		return;
	pack_number(event_begin(s->intake, RECORD_COMPLETE), id);
	time_pack(s->intake, now_ns);
	for (unsigned i = 0; i < MOVE_REASON_COUNT; i++)
		pack_number(&s->intake->frame, result->nr_pages[i]);
	states_pack(s->intake);
}
