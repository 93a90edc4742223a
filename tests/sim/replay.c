/* SPDX-License-Identifier: MIT */
/*
 * Replay: put a recorded run (`pagetide run --record FILE`, run/record.h) through the core alone, and
 * compare every plan and every answer with what the live run got.
 *
 *   replay [--without-touches] FILE
 *
 * Exits with 0: all as it was; 1: the core decided otherwise, with what and where; 2: the file is
 * damaged, not whole, or no recording. --without-touches leaves the touches out: to see that the
 * comparison notices.
 *
 * A file is not to be trusted: what would be an assertion in the core is refused here first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pack.h"
#include "record.h"

#define EXIT_DIFFERS 1
#define EXIT_REFUSED 2
#define REGION_PAGES_MAX (UINT64_C(1) << 36)

struct place {
	struct region region;  /* .owner: this */
	void *memory;          /* NULL: removed */
	size_t bytes;
	uint64_t nr;
};

struct open_move {
	uint64_t id;
	uint32_t nr_pages;     /* 0: free */
};

struct replay {
	struct pack in;        /* the frame */
	struct engine *engine;
	struct engine_tape tape;
	struct place **places;
	uint64_t nr_places;
	struct open_move *open;
	uint32_t max_moves;
	uint64_t now_ns, nr_events;
	uint64_t counts[RECORD_EVENT_COUNT], nr_moves;
	struct engine_need slow; /* what the next step needs to know of the slow node */
	bool without_touches, ended;
	struct move plan[RECORD_MOVES_MAX];
};

__attribute__((noreturn, format(printf, 2, 3)))
static void stop(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "replay: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(status);
}

static void refuse_unless(const struct replay *r, bool fine, const char *what)
{
	if (!fine || r->in.bad)
		stop(EXIT_REFUSED, "event %" PRIu64 ": %s", r->nr_events, r->in.bad ? "cut off" : what);
}

static void same(const struct replay *r, const char *what, uint64_t live, uint64_t here)
{
	if (live != here)
		stop(EXIT_DIFFERS, "event %" PRIu64 ": %s: live %" PRIu64 ", here %" PRIu64, r->nr_events, what,
		     live, here);
}

static uint64_t number(struct replay *r)
{
	return unpack_number(&r->in);
}

static struct place *place_read(struct replay *r)
{
	uint64_t nr = number(r);

	refuse_unless(r, nr < r->nr_places && r->places[nr]->memory, "no such region");
	return r->places[nr];
}

static uint64_t time_read(struct replay *r)
{
	return r->now_ns = unpack_change(&r->in, r->now_ns);
}

static void states_read(struct replay *r)
{
	uint64_t nr = number(r), run;

	refuse_unless(r, nr <= ENGINE_TAPE_ROOM, "too many states");
	for (uint64_t i = 0; i < nr; i += run) {
		refuse_unless(r, r->in.at < r->in.end, "cut off");
		uint8_t byte = r->in.data[r->in.at++];
		run = 1 + (byte >> 4);
		if (byte >> 4 == 15)
			run += number(r);
		refuse_unless(r, run <= nr - i && (byte & 15) < SIGHT_COUNT, "no state");
		memset(r->tape.states + i, byte & 15, run);
	}
	r->tape.nr = nr;
	r->tape.at = 0;
}

static void states_compare(const struct replay *r)
{
	same(r, "states looked at", r->tape.nr, r->tape.at);
}

/* ---- events ---- */

static void *memory_map(const struct replay *r, size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	refuse_unless(r, memory != MAP_FAILED, "no memory for its tables");
	return memory;
}

static void replay_begin(struct replay *r)
{
	struct engine_config config = { .seed = number(r) };
	uint64_t max_moves = number(r);

	refuse_unless(r, !r->engine && max_moves && max_moves <= RECORD_MOVES_MAX, "no beginning");
	config.max_moves = r->max_moves = (uint32_t)max_moves;
	r->engine = engine_init(memory_map(r, engine_bytes(&config)), &config);
	engine_tape_set(r->engine, &r->tape);
	r->open = calloc(max_moves, sizeof *r->open);
	refuse_unless(r, r->open, "no memory");
}

static void replay_add(struct replay *r)
{
	uint64_t vpn = number(r), nr_pages = number(r);

	refuse_unless(r, nr_pages && nr_pages <= REGION_PAGES_MAX && vpn <= REGION_PAGES_MAX, "no region");
	struct place *place = calloc(1, sizeof *place);
	struct place **places = realloc(r->places, (r->nr_places + 1) * sizeof *places);
	refuse_unless(r, place && places, "no memory");
	r->places = places;
	*place = (struct place){ .nr = r->nr_places, .bytes = engine_region_bytes(nr_pages) };
	place->memory = memory_map(r, place->bytes);
	places[r->nr_places++] = place;
	engine_region_init(&place->region, place->memory, vpn, nr_pages, place);
	engine_region_add(r->engine, &place->region);
}

static void replay_remove(struct replay *r)
{
	struct place *place = place_read(r);

	engine_region_remove(r->engine, &place->region);
	munmap(place->memory, place->bytes);
	place->memory = NULL;
}

static void replay_touch(struct replay *r)
{
	struct place *place = place_read(r);
	uint64_t idx = number(r), kind = number(r), now_ns = time_read(r);

	refuse_unless(r, idx < place->region.nr_pages && kind < TOUCH_COUNT, "no touch");
	if (!r->without_touches)
		engine_touch(&place->region, idx, (enum engine_touch)kind, HEAT_NO_NODE, now_ns);
}

static void replay_forget(struct replay *r)
{
	struct place *place = place_read(r);
	uint64_t first = number(r), nr = number(r);

	refuse_unless(r, first <= place->region.nr_pages && nr <= place->region.nr_pages - first,
		      "outside its region");
	engine_forget(&place->region, first, nr);
}

static void replay_ahead(struct replay *r)
{
	struct place *place = place_read(r);
	uint64_t idx = number(r), kind = number(r), answer = number(r);

	refuse_unless(r, idx < place->region.nr_pages && kind < TOUCH_COUNT, "no fault");
	same(r, "pages to read ahead", answer,
	     engine_readahead(&place->region, idx, (enum engine_touch)kind));
}

static void move_compare(struct replay *r, const struct move *here)
{
	const struct place *place = here->region->owner;
	uint32_t i = 0;

	same(r, "a move's number", number(r), here->id);
	same(r, "a move's region", number(r), place->nr);
	same(r, "a move's first page", number(r), here->first);
	same(r, "a move's pages", number(r), here->nr_pages);
	same(r, "a move's direction", number(r), here->op);
	while (i < r->max_moves && r->open[i].nr_pages)
		i++;
	refuse_unless(r, i < r->max_moves, "more moves under way than there can be");
	r->open[i] = (struct open_move){ here->id, here->nr_pages };
	r->nr_moves++;
}

static void replay_step(struct replay *r)
{
	uint64_t now_ns = time_read(r);
	struct engine_need need = r->slow;
	bool again;

	r->slow = (struct engine_need){ 0 };

	/* One after the other: the members of an initialiser have no order. */
	need.resident = number(r);
	need.limit = number(r);
	need.held = number(r);
	need.held_max = number(r);
	need.filling = number(r);
	need.store_full = number(r);
	uint64_t max = number(r);
	refuse_unless(r, max <= RECORD_MOVES_MAX, "too large a plan");
	states_read(r);
	refuse_unless(r, true, "");
	size_t nr = engine_step(r->engine, now_ns, &need, r->plan, max, &again);
	same(r, "moves of the plan", number(r), nr);
	same(r, "whether to go on", number(r), again);
	for (size_t i = 0; i < nr; i++)
		move_compare(r, &r->plan[i]);
	states_compare(r);
}

static void replay_slow(struct replay *r)
{
	r->slow.slow = number(r);
	r->slow.slow_held = number(r);
	r->slow.slow_max = number(r);
	r->slow.slow_last = number(r);
	r->slow.slow_wait_ns = number(r);
}

static void replay_promote(struct replay *r)
{
	struct place *place = place_read(r);
	uint64_t idx = number(r), now_ns = time_read(r), answer = number(r);

	refuse_unless(r, idx < place->region.nr_pages, "no page");
	same(r, "whether a page is promoted", answer, engine_promote(&place->region, idx, now_ns));
}

static void replay_complete(struct replay *r)
{
	uint64_t id = number(r), now_ns = time_read(r), sum = 0;
	struct move_result result;
	uint32_t i = 0;

	for (unsigned k = 0; k < MOVE_REASON_COUNT; k++) {
		uint64_t nr = number(r);
		refuse_unless(r, nr <= MOVE_RUN_PAGES, "no result");
		result.nr_pages[k] = (uint32_t)nr;
		sum += nr;
	}
	states_read(r);
	while (i < r->max_moves && (!r->open[i].nr_pages || r->open[i].id != id))
		i++;
	refuse_unless(r, i < r->max_moves && r->open[i].nr_pages == sum, "the end of no move");
	r->open[i].nr_pages = 0;
	engine_complete(r->engine, id, &result, now_ns);
	states_compare(r);
}

static void replay_end(struct replay *r)
{
	refuse_unless(r, number(r) == r->nr_events, "events are missing");
	r->ended = true;
}

static void (*const replays[])(struct replay *r) = {
	[RECORD_BEGIN] = replay_begin, [RECORD_ADD] = replay_add, [RECORD_REMOVE] = replay_remove,
	[RECORD_TOUCH] = replay_touch, [RECORD_FORGET] = replay_forget, [RECORD_AHEAD] = replay_ahead,
	[RECORD_STEP] = replay_step, [RECORD_COMPLETE] = replay_complete, [RECORD_END] = replay_end,
	[RECORD_SLOW] = replay_slow, [RECORD_PROMOTE] = replay_promote,
};

static void frame_replay(struct replay *r)
{
	while (r->in.at < r->in.end) {
		uint64_t event = number(r);
		refuse_unless(r, event < RECORD_EVENT_COUNT && !r->ended && (r->engine || event == RECORD_BEGIN),
			      "no event");
		replays[event](r);
		refuse_unless(r, true, "");
		r->counts[event]++;
		r->nr_events++;
	}
}

/* ---- the file ---- */

static uint64_t little_endian(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

static const uint8_t *file_map(const char *path, size_t *ret_bytes)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st))
		stop(EXIT_REFUSED, "%s: %s", path, strerror(errno));
	if (st.st_size < (off_t)RECORD_MAGIC_BYTES)
		stop(EXIT_REFUSED, "%s: no recording", path);
	const uint8_t *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		stop(EXIT_REFUSED, "%s: %s", path, strerror(errno));
	close(fd);
	*ret_bytes = (size_t)st.st_size;
	return data;
}

static void file_replay(struct replay *r, const char *path)
{
	size_t bytes, at = RECORD_MAGIC_BYTES;
	const uint8_t *data = file_map(path, &bytes);
	uint64_t check = PACK_CHECK;

	if (memcmp(data, RECORD_MAGIC, RECORD_MAGIC_BYTES))
		stop(EXIT_REFUSED, "%s: no recording, or of another version", path);
	while (!r->ended) {
		if (bytes - at < RECORD_HEAD_BYTES)
			stop(EXIT_REFUSED, "%s: not whole: it ends after %" PRIu64 " events", path, r->nr_events);
		uint64_t length = little_endian(data + at, 4), told = little_endian(data + at + 4, 8);
		at += RECORD_HEAD_BYTES;
		if (length > bytes - at)
			stop(EXIT_REFUSED, "%s: damaged or not whole after %" PRIu64 " events", path,
			     r->nr_events);
		check = pack_check(check, data + at, length);
		if (check != told)
			stop(EXIT_REFUSED, "%s: damaged after %" PRIu64 " events", path, r->nr_events);
		/* Only read from. */
		r->in = (struct pack){ .data = (uint8_t *)(uintptr_t)(data + at), .end = length };
		frame_replay(r);
		at += length;
	}
	if (at != bytes)
		stop(EXIT_REFUSED, "%s: goes on behind its end", path);
}

int main(int argc, char **argv)
{
	static struct replay r;

	r.without_touches = argc == 3 && !strcmp(argv[1], "--without-touches");
	if (argc != 2 && !r.without_touches)
		stop(EXIT_REFUSED, "usage: replay [--without-touches] FILE");
	r.tape = (struct engine_tape){ .states = malloc(ENGINE_TAPE_ROOM), .replay = true };
	if (!r.tape.states)
		stop(EXIT_REFUSED, "no memory");
	file_replay(&r, argv[argc - 1]);
	const char *bad = engine_check(r.engine);
	if (bad)
		stop(EXIT_DIFFERS, "at the end: %s", bad);
	printf("same: %" PRIu64 " steps with %" PRIu64 " moves, %" PRIu64 " completions, %" PRIu64
	       " touches, %" PRIu64 " read-ahead answers, %" PRIu64 " forgets, %" PRIu64 " regions\n",
	       r.counts[RECORD_STEP], r.nr_moves, r.counts[RECORD_COMPLETE], r.counts[RECORD_TOUCH],
	       r.counts[RECORD_AHEAD], r.counts[RECORD_FORGET], r.counts[RECORD_ADD]);
	return 0;
}
