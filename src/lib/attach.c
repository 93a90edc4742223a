/* SPDX-License-Identifier: MIT */
/*
 * tide_attach(): sensor -> engine -> process -> engine, in one thread.
 *
 *   read touches ─► engine ─► plan ─► query and move_pages ─► results ─► engine ─► sleep
 *        ▲                                                                          │
 *        └──────── now and then: mappings, threads, children, room, pace ◄──────────┘
 *
 * It sleeps less while there is something to move. The pace of the sensor follows what was found:
 * touches that led to nothing may cost the processes no more than their share.
 */
#include "attach.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "ask.h"
#include "assert.h"
#include "clock.h"
#include "control.h"
#include "daemon.h"
#include "file.h"
#include "hint.h"
#include "json.h"
#include "metrics.h"
#include "others.h"
#include "select.h"
#include "sensing.h"
#include "text.h"
#include "tiers.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)
#define PAGE_BYTES 4096u
#define PLAN_MAX 1024u
#define LOOK_NS UINT64_C(1000000000)
#define LOOK_IDLE_NS UINT64_C(4000000000)
#define ROUND_NS UINT64_C(1000000000)          /* of moving pages, about */
#define LOOK_SHARE 10u                         /* of the time may go into these looks: one part; */
#define LOOK_IDLE_SHARE 66u                    /* while there is nothing to move; */
#define WALKS_IDLE_SHARE 200u                  /* and into looking where pages are */
#define OTHERS_NS UINT64_C(10000000000)
#define ROOM_NS UINT64_C(100000000)
#define ROOM_SHARE 500u                        /* of the time may go into looking for it: one part */
#define SLEEP_BUSY_MS 5
#define SLEEP_TOUCHED_MS 30                    /* what touches left behind fits into the sensor's rings */
#define SLEEP_MS 100
#define SLEEP_IDLE_MS 200
#define RESERVE_SHARE 64u                     /* of a node stays free, beside its watermarks */
#define BUSY_TOUCHES 32u                      /* in a second; or in one round: more are coming */

/* ---- signals ---- */

static volatile sig_atomic_t signalled, hung_up;

static void signal_note(int number)
{
	if (number == SIGHUP)
		hung_up = 1;
	else
		signalled = 1;
}

/* All that ends a process whose settings must be put back first; the reader of what we say may go. */
static const int signals[] = { SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE };
#define NR_SIGNALS (sizeof signals / sizeof *signals)

static void signals_take(bool service, struct sigaction old[NR_SIGNALS])
{
	signalled = hung_up = 0;
	for (size_t i = 0; i < NR_SIGNALS; i++) {
		struct sigaction action = { .sa_handler = signals[i] == SIGPIPE ? SIG_IGN : signal_note };

		sigaction(signals[i], NULL, &old[i]);
		/* nohup(1) means that we go on; to a service SIGHUP means something else. */
		if (signals[i] != SIGHUP || service || old[i].sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
}

static void signals_give_back(const struct sigaction old[NR_SIGNALS])
{
	for (size_t i = 0; i < NR_SIGNALS; i++)
		sigaction(signals[i], &old[i], NULL);
}

/* ---- touches ---- */

static void event_visit(void *arg, const struct sense_event *event)
{
	struct attach *a = arg;
	struct watch *watch = select_find(a, event->pid);

	if (!watch || watch->ended)
		return;
	if (event->kind == SENSE_ARMED) {
		watch_armed(watch, event->address, event->end, event->time_ns);
		return;
	}
	a->nr_touches += (event->end - 1) / PAGE_BYTES - event->address / PAGE_BYTES + 1;
	uint32_t node = watch_node(&a->map, node_of_cpu(&a->map, (int)event->cpu));
	watch_touch(watch, event->address, event->end, node, event->time_ns);
}

/* ---- warnings ---- */

static void warning_print(const struct attach *a, size_t i)
{
	if (!a->options->quiet)
		fprintf(stderr, "pagetide: %s\n", a->warnings[i]);
}

void attach_warn(struct attach *a, const char *warning)
{
	size_t i = 0;

	while (i < a->nr_warnings && a->warnings[i] != warning)
		i++;
	if (i == a->nr_warnings) {
		tide_assert(a->nr_warnings < ATTACH_WARNINGS_MAX);
		a->warnings[a->nr_warnings++] = warning;
	}
	if (a->at_work)
		warning_print(a, i);
}

/* Who else moves pages, when it is first seen. */
static void others_warn(struct attach *a, uint64_t now_ns)
{
	const char *what;
	bool ours = a->sense->ops->kernel_moves && sensing_hold(a, &what) != SENSE_TAKEN;
	bool anothers = !a->sense->ops->kernel_moves && sensors_hint_elsewhere();
	unsigned int new = others_look("", ours || anothers) | (anothers ? OTHERS_PAGETIDE : 0);

	new &= ~a->others;

	a->others |= new;
	a->others_ns = now_ns;
	for (unsigned int one = 1; one < OTHERS_END; one <<= 1)
		if (new & one)
			attach_warn(a, others_warning((enum others)one));
}

/* ---- room ---- */

static void kernel_warn(struct attach *a, const struct node *node, const struct node_room *room)
{
	if (!a->sense->ops->kernel_moves || !nodeset_has(&a->fast, node->id) ||
	    !hint_kernel_moves(room->free_bytes, room->total_bytes))
		return;
	if (a->warned_kernel)
		return;
	a->warned_kernel = true;
	attach_warn(a, "a fast node has more than 1 GiB and a sixteenth of it free: until that is used the kernel "
		       "promotes at the first touch by itself");
}

static void room_look(struct attach *a, uint64_t now_ns)
{
	uint64_t passed_ns = now_ns - a->room_ns, rest_ns = a->room_cost_ns * ROOM_SHARE;

	if (rest_ns > LOOK_NS) /* room may go to others meanwhile */
		rest_ns = LOOK_NS;
	if (passed_ns < (a->busy ? ROOM_NS : LOOK_IDLE_NS) || passed_ns < rest_ns)
		return;
	uint64_t begin_ns = clock_thread_cpu_ns();
	a->room_ns = now_ns;
	for (size_t i = 0; i < a->map.nr; i++) {
		struct node_room room;
		uint64_t *free_pages = &a->need.free_pages[i], *reserve = &a->need.reserve_pages[i];

		*free_pages = *reserve = 0;
		if (node_room_read("", a->map.nodes[i].id, &room))
			continue; /* it went: nothing has room there */
		uint64_t mark = room.promo_bytes > room.high_bytes ? room.promo_bytes : room.high_bytes;
		*free_pages = room.free_bytes / PAGE_BYTES;
		*reserve = (mark + room.total_bytes / RESERVE_SHARE) / PAGE_BYTES;
		kernel_warn(a, &a->map.nodes[i], &room);
	}
	a->room_cost_ns = clock_thread_cpu_ns() - begin_ns;
}

/* ---- one round ---- */

/* As if they had moved, or, by the rate, might not. */
static void moves_pretend(const struct attach *a, struct tiering_move *moves, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		moves[i].reason = a->options->watch_only ? REASON_RATE : REASON_MOVED;
		moves[i].nr_moved = a->options->watch_only ? 0 : moves[i].nr_pages;
	}
}

static void moves_do(struct attach *a, const struct tiering_space *space, struct tiering_move *moves,
		     size_t nr)
{
	if (space->owner)
		watch_move(space->owner, &a->map, &a->slow, moves, nr);
	else
		share_move(&a->map, &a->slow, moves, nr);
}

/*
 * A call costs as much for a few pages as for hundreds: where calls are slow, or processes are many, a plan is of
 * some of them, for who waits for us (the control socket, new processes, the sensor) waits for the whole plan.
 */
static void group_note(struct attach *a, uint64_t ns)
{
	a->group_ns = a->group_ns ? (a->group_ns * 7 + ns) / 8 : ns;
	uint64_t most = ROUND_NS / 2 / (a->group_ns + 1);
	a->need.max_spaces = most < 1 ? 1 : most > UINT32_MAX ? UINT32_MAX : (uint32_t)most;
}

static bool round_move(struct attach *a)
{
	struct tiering_move plan[PLAN_MAX];
	bool again;
	size_t nr = tiering_step(&a->tiering, clock_now_ns(), &a->need, plan, PLAN_MAX, &again);

	for (size_t at = 0, end; at < nr; at = end) {
		struct tiering_space *space = plan[at].window->space;

		for (end = at + 1; end < nr && plan[end].window->space == space &&
				   plan[end].op == plan[at].op && plan[end].to == plan[at].to &&
				   (plan[end].op != TIERING_LOOK || plan[end].from == plan[at].from);)
			end++;
		uint64_t begin_ns = clock_now_ns();
		if (a->options->dry_run && plan[at].op != TIERING_LOOK)
			moves_pretend(a, plan + at, end - at);
		else if (!a->options->dry_run || plan[at].from == TIERING_NODE_UNKNOWN)
			moves_do(a, space, plan + at, end - at);
		if (plan[at].op != TIERING_LOOK)
			group_note(a, clock_now_ns() - begin_ns);
		tiering_complete(&a->tiering, plan + at, end - at, clock_now_ns());
		/* What waits in the rings must not run over while we move. */
		a->sense->ops->read(a->sense, event_visit, a);
	}
	for (size_t i = 0; i < nr; i++) {
		if (plan[i].op == TIERING_LOOK)
			continue;
		uint64_t *from = &a->need.free_pages[plan[i].from], *to = &a->need.free_pages[plan[i].to];
		*from += plan[i].nr_moved;
		*to -= *to < plan[i].nr_moved ? *to : plan[i].nr_moved;
	}
	/* Or what was hot in them would be asked for in each plan until the next look. */
	select_look_lost(a);
	return again;
}

void attach_total(const struct attach *a, struct tiering_counts *ret_total)
{
	shares_total(&a->shares, ret_total);
	tiering_counts_add(ret_total, &a->gone);
}

/* While nobody is looked after nobody's touches are wanted; what others have taken from the sensor stays theirs, as
 * a pause would have it begin anew. Returns whether somebody is. */
static bool rest_look(struct attach *a, uint64_t now_ns)
{
	const char *what;
	bool rest = !a->nr_live;

	if (rest == a->resting)
		return !rest;
	a->resting = rest;
	if (!rest || sensing_hold(a, &what) != SENSE_TAKEN)
		a->sense->ops->pace(a->sense, rest ? 0 : tempo_again(&a->tempo, now_ns));
	return !rest;
}

static void pace_look(struct attach *a, uint64_t now_ns)
{
	struct tiering_counts total;
	struct sense_usage usage;

	if (!rest_look(a, now_ns))
		return;
	attach_total(a, &total);
	if (!tempo_due(&a->tempo, &total, now_ns))
		return;
	sensing_usage(a, &usage);
	a->sense->ops->pace(a->sense, tempo_look(&a->tempo, &total, &usage, now_ns));
}

/* Whether anything was touched lately: then there may be something to do. */
static void busy_look(struct attach *a, uint64_t now_ns)
{
	uint64_t touches = a->nr_touches;

	a->touched = touches - a->round_touches >= BUSY_TOUCHES;
	a->round_touches = touches;
	if (touches - a->busy_touches >= BUSY_TOUCHES || a->start_ns + LOOK_IDLE_NS > now_ns)
		a->busy_ns = now_ns;
	if (now_ns - a->idle_ns >= LOOK_NS) {
		a->idle_ns = now_ns;
		a->busy_touches = touches;
	}
	a->busy = now_ns - a->busy_ns < 2 * LOOK_NS;
}

int attach_pause(struct attach *a, bool paused)
{
	int error = paused ? a->sense->ops->pace(a->sense, 0) : 0;

	if (error || paused == a->paused)
		return error;
	a->paused = paused;
	if (!paused)
		tempo_again(&a->tempo, clock_now_ns());
	return 0;
}

/* Look where pages are: each space has its own pace; while nothing is touched all together have theirs, but for what
 * was begun. Returns whether there is more. */
static bool walks_look(struct attach *a, uint64_t now_ns)
{
	if (!a->busy && !a->walks_more && !spend_due(&a->walks, WALKS_IDLE_SHARE, now_ns))
		return false;
	uint64_t begin_ns = clock_thread_cpu_ns();
	bool more = false;

	for (struct watch *w = a->watches; w; w = w->next)
		more |= (!a->options->dry_run || !w->walk.passes) && watch_walk(w, &a->map, now_ns);
	more |= shares_walk(&a->shares, &a->map, a->options->dry_run, now_ns);
	a->walks = (struct spend){ now_ns, clock_thread_cpu_ns() - begin_ns };
	a->walks_more = more;
	return more;
}

/* Look where pages are and move some; rarely while nothing is touched. Returns whether there is more to do at once. */
static bool round_work(struct attach *a, uint64_t now_ns)
{
	if (!a->busy && !a->more && now_ns - a->round_ns < LOOK_NS)
		return false;
	a->round_ns = now_ns;
	a->more = walks_look(a, now_ns);
	a->more |= round_move(a);
	pace_look(a, now_ns);
	return a->more;
}

/* Whether to go on: a service goes on without processes, and reads its file again at SIGHUP. */
static bool wanted(struct attach *a)
{
	bool service = a->options->config_path;

	if (hung_up && service) {
		hung_up = 0;
		daemon_reload(a);
	}
	if (signalled || hung_up)
		return false;
	if (service || a->nr_live)
		return true;
	/* Whom they started is told, and waits until it is old enough. */
	select_look_kin(a, clock_now_ns());
	return a->nr_live || a->kin.nr;
}

/* As many as they are, and whatever they map. */
static void processes_look(struct attach *a, uint64_t now_ns)
{
	if (now_ns - a->look.at_ns < (a->busy ? LOOK_NS : LOOK_IDLE_NS) ||
	    !spend_due(&a->look, a->busy ? LOOK_SHARE : LOOK_IDLE_SHARE, now_ns))
		return;
	uint64_t begin_ns = clock_thread_cpu_ns();
	select_look(a);
	sensing_look(a);
	a->look = (struct spend){ now_ns, clock_thread_cpu_ns() - begin_ns };
}

static void loop(struct attach *a)
{
	struct door *const doors[] = { &a->control, &a->metrics.door };
	uint64_t for_ns = a->options->duration_ns;
	uint64_t until_ns = for_ns && for_ns < UINT64_MAX - a->start_ns ? a->start_ns + for_ns : UINT64_MAX;

	while (wanted(a)) {
		uint64_t now_ns = clock_now_ns();
		bool again = false;

		if (now_ns >= until_ns)
			break;
		daemon_look(a, now_ns);
		a->sense->ops->read(a->sense, event_visit, a);
		busy_look(a, now_ns);
		select_look_kin(a, now_ns);
		processes_look(a, now_ns);
		tiers_look(a, now_ns);
		if (now_ns - a->others_ns >= OTHERS_NS)
			others_warn(a, now_ns);
		room_look(a, now_ns);
		if (!a->paused)
			again = round_work(a, now_ns);
		metrics_look(a, now_ns);
		uint64_t left_ms = (until_ns - now_ns) / 1000000 + 1;
		uint64_t sleep_ms = again ? SLEEP_BUSY_MS : a->touched ? SLEEP_TOUCHED_MS :
				    a->busy ? SLEEP_MS : SLEEP_IDLE_MS;
		doors_wait(doors, sizeof doors / sizeof *doors, sleep_ms < left_ms ? sleep_ms : left_ms);
	}
}

/* ---- begin and end ---- */

static int begin(struct attach *a, char ret_message[TIDE_MESSAGE_MAX])
{
	const struct tide_attach_options *o = a->options;
	struct rlimit files;
	int error = o->sensor ? sensors_known(o->sensor, ret_message) : 0;

	if (!error)
		error = o->config_path ? config_read(o->config_path, "", &a->config, ret_message)
				       : config_from_options(o, &a->config, ret_message);

	if (!error)
		error = ask_map(&a->map, ret_message);
	if (error)
		return error;
	if (a->map.nr > TIERING_NODES_MAX) {
		MESSAGE("%zu nodes: more than the %u that can be looked after", a->map.nr,
			TIERING_NODES_MAX);
		return -EINVAL;
	}
	if (!o->watch_only)
		error = control_open(a, ret_message);
	if (!error)
		error = metrics_open(a, ret_message);
	if (!error)
		error = tiers_choose(a, ret_message);
	if (error)
		return error;
	tiers_begin(a);
	/* One for each thread: with too few a process is refused, or threads that come later are not seen. */
	(void)file_limit_raise(&files);
	error = sensing_begin(a, ret_message);
	if (!error)
		error = select_begin(a, ret_message);
	if (error)
		return error;
	others_warn(a, a->start_ns);
	vmstat_read("", &a->before);
	tempo_begin(&a->tempo, a->start_ns);
	return 0;
}

/* 0; -errno: not all settings of the kernel are as they were. */
static int end(struct attach *a)
{
	control_close(a);
	metrics_close(a);
	int error = sensing_end(a);
	select_end(a);
	node_map_free(&a->map);
	config_free(&a->config);
	return error;
}

/* When all is over. What could not be put back has to be heard. */
static void rest_say(const struct tide_attach_options *options, const struct tiering_counts *total, int error)
{
	char promoted[TEXT_NUMBER_BYTES], demoted[TEXT_NUMBER_BYTES];

	if (error)
		fprintf(stderr, "pagetide: some settings of the kernel could not be put back: %s: what they were is "
				"kept in /run/pagetide, and the next attach or daemon puts them back\n",
			strerror(-error));
	if (options->quiet || options->watch_only)
		return;
	const char *settings = error ? "" : ", the kernel's settings are put back";
	if (options->dry_run || !total->ended[REASON_MOVED])
		fprintf(stderr, "pagetide: ends: nothing was moved%s\n", settings);
	else
		fprintf(stderr, "pagetide: ends: pages stay where they are (%s promoted, %s demoted)%s\n",
			text_size_format(promoted, total->promoted * PAGE_BYTES),
			text_size_format(demoted, total->demoted * PAGE_BYTES), settings);
}

int tide_attach(const struct tide_attach_options *options, char **ret_json,
		char ret_message[TIDE_MESSAGE_MAX])
{
	struct sigaction old[NR_SIGNALS];
	struct attach *a = calloc(1, sizeof *a); /* too large for a stack */

	*ret_message = '\0';
	if (!a) {
		MESSAGE("no memory");
		return -ENOMEM;
	}
	int error = ask_size(options->size, sizeof *options, ret_message);
	if (!error)
		error = ask_proc(ret_message);
	if (error) {
		free(a);
		return error;
	}
	a->options = options;
	a->start_ns = clock_now_ns();
	a->cpu_start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	a->stall_ns = MOVE_STALL_NS;
	signals_take(options->config_path, old);
	error = begin(a, ret_message);
	if (!error) {
		sensing_say(a);
		for (size_t i = 0; i < a->nr_warnings; i++)
			warning_print(a, i);
		a->at_work = true;
		daemon_begin(a);
		loop(a);
		daemon_end();
		char *json = document_write(attach_report(a, clock_now_ns()));
		if (json)
			*ret_json = json;
		else
			error = -ENOMEM;
	}
	struct tiering_counts total;
	bool worked = a->at_work;
	if (worked)
		attach_total(a, &total);
	int unrestored = end(a);
	free(a);
	if (worked)
		rest_say(options, &total, unrestored);
	signals_give_back(old);
	return error;
}
