/* SPDX-License-Identifier: MIT */
/* One ring for every thread: trees of files say which threads there are, rings are memory of ours. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proc.h"
#include "rings.h"
#include "tree.h"

#define PID 77
#define MIB ((size_t)1 << 20)

static struct rings rings;
static struct followed one, other;

struct opener {
	size_t bytes;         /* of all rings opened */
	pid_t refused, ended; /* threads */
};
static struct opener opener;

static int ring_open(void *arg, struct followed *owner, pid_t tid, size_t bytes, struct perf_ring *ret_ring)
{
	struct opener *o = arg;

	(void)owner;
	if (tid == o->refused || tid == o->ended)
		return tid == o->refused ? -EMFILE : -ESRCH;
	*ret_ring = (struct perf_ring){ .tid = tid, .bytes = bytes };
	for (unsigned i = 0; i < PERF_EVENTS; i++)
		ret_ring->fds[i] = -1;
	ret_ring->fds[PERF_TOUCH] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ret_ring->map = mmap(NULL, 4096 + bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(ret_ring->fds[PERF_TOUCH] >= 0 && ret_ring->map != MAP_FAILED);
	assert_true(bytes >= 65536 && !(bytes & (bytes - 1)));
	o->bytes += bytes;
	return 0;
}

static int begin(void **state)
{
	opener = (struct opener){ 0 };
	rings = (struct rings){ .open = ring_open, .arg = &opener };
	return tree_begin(state);
}

static int end(void **state)
{
	rings_free(&rings);
	return tree_end(state);
}

static void thread_name(char path[64], pid_t pid, pid_t tid)
{
	snprintf(path, 64, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
}

static void thread_begin(pid_t pid, pid_t tid)
{
	char path[64], stat[512];

	snprintf(stat, sizeof stat, "%d (x) S 1", (int)tid);
	for (int field = 5; field <= 52; field++)
		strcat(stat, " 0");
	thread_name(path, pid, tid);
	put(path, stat);
}

static void thread_end(pid_t pid, pid_t tid)
{
	char path[64], full[PATH_MAX];

	thread_name(path, pid, tid);
	snprintf(full, sizeof full, "%s%s", root, path);
	assert_int_equal(unlink(full), 0);
}

static int follow(pid_t pid, struct followed *owner)
{
	assert_int_equal(proc_open_below(root, pid, &owner->target.dir), 0);
	int error = rings_follow(&rings, owner);
	close(owner->target.dir);
	return error;
}

static bool followed(pid_t tid, const struct followed *owner)
{
	for (size_t i = 0; i < rings.nr; i++)
		if (rings.list[i].ring.tid == tid && rings.list[i].owner == owner)
			return true;
	return false;
}

static void threads_come_and_go(void **state)
{
	(void)state;
	thread_begin(PID, 77);
	thread_begin(PID, 78);
	assert_int_equal(follow(PID, &one), 0);
	assert_true(rings.nr == 2 && followed(77, &one) && followed(78, &one));
	size_t before = opener.bytes;
	assert_int_equal(follow(PID, &one), 0);
	assert_true(rings.nr == 2 && opener.bytes == before); /* none of them anew */
	thread_begin(PID, 79);
	thread_end(PID, 77);
	assert_int_equal(follow(PID, &one), 0);
	assert_true(rings.nr == 2 && followed(78, &one) && followed(79, &one));
}

static void of_two_processes_one_goes(void **state)
{
	(void)state;
	thread_begin(PID, 77);
	thread_begin(90, 90);
	assert_int_equal(follow(PID, &one), 0);
	assert_int_equal(follow(90, &other), 0);
	assert_int_equal(follow(PID, &one), 0);
	assert_int_equal(rings.nr, 2);
	rings_drop(&rings, &one);
	assert_true(rings.nr == 1 && followed(90, &other));
}

/* Also when another one has its number by then. */
static void one_that_has_ended_is_told(void **state)
{
	char command[PATH_MAX + 16];

	(void)state;
	thread_begin(PID, 77);
	assert_int_equal(follow(PID, &one), 0);
	assert_int_equal(proc_open_below(root, PID, &one.target.dir), 0);
	snprintf(command, sizeof command, "rm -r %s/proc/%d", root, PID);
	assert_int_equal(system(command), 0);
	thread_begin(PID, 78);
	assert_int_equal(rings_follow(&rings, &one), -ESRCH);
	close(one.target.dir);
	assert_true(rings.nr == 1 && followed(77, &one));
}

static void a_thread_that_has_just_ended_is_passed_over(void **state)
{
	(void)state;
	opener.ended = 78;
	for (pid_t tid = 77; tid < 80; tid++)
		thread_begin(PID, tid);
	assert_int_equal(follow(PID, &one), 0);
	assert_true(rings.nr == 2 && !followed(78, &one));
}

/* Nobody loses a ring because another one cannot be had. */
static void what_is_refused_is_told(void **state)
{
	(void)state;
	thread_begin(PID, 77);
	assert_int_equal(follow(PID, &one), 0);
	opener.refused = 78;
	thread_begin(PID, 78);
	assert_int_equal(follow(PID, &one), -EMFILE);
	assert_true(followed(77, &one) && !followed(78, &one));
	opener.refused = 0;
	assert_int_equal(follow(PID, &one), 0);
	assert_true(followed(77, &one) && followed(78, &one));
}

static void many_threads_share_the_memory(void **state)
{
	(void)state;
	for (pid_t tid = 100; tid < 160; tid++)
		thread_begin(PID, tid);
	assert_int_equal(follow(PID, &one), 0);
	assert_int_equal(rings.nr, 60);
	assert_in_range(opener.bytes, 16 * MIB, 64 * MIB);
}

#define MS_NS UINT64_C(1000000)

/* Of one whose threads come and go all the time, too. */
static void news_is_followed_within_a_share_of_the_time(void **state)
{
	struct targets targets = { .root = root };
	struct target *target;

	(void)state;
	thread_begin(PID, 77);
	assert_int_equal(targets_add(&targets, PID, sizeof(struct followed), &target), 0);
	struct followed *owner = (struct followed *)(void *)target;
	assert_int_equal(rings_follow(&rings, owner), 0);
	const uint64_t begin_ns = rings.looked_ns = 5000 * MS_NS;
	const struct perf_record stranger = { .kind = PERF_FORK, .pid = PID + 1 };
	const struct perf_record news = { .kind = PERF_FORK, .pid = PID }, lost = { .kind = PERF_LOST };

	thread_begin(PID, 78);
	rings_note(owner, &stranger);
	rings_look(&rings, &targets, begin_ns + 999 * MS_NS);
	assert_false(followed(78, owner));
	rings_note(owner, &news);
	rings_look(&rings, &targets, begin_ns + 999 * MS_NS);
	assert_true(followed(78, owner) && !owner->look);
	thread_begin(PID, 79);
	rings_note(owner, &lost);
	rings.spend = (struct spend){ begin_ns, MS_NS };
	rings_look(&rings, &targets, begin_ns + 99 * MS_NS);
	assert_false(followed(79, owner));
	rings_look(&rings, &targets, begin_ns + 100 * MS_NS);
	assert_true(followed(79, owner));
	/* And all now and then. */
	thread_begin(PID, 80);
	rings.spend = (struct spend){ 0 };
	rings_look(&rings, &targets, begin_ns + 4000 * MS_NS);
	assert_true(followed(80, owner));
	rings_drop(&rings, owner);
	targets_drop(&targets, target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(threads_come_and_go, begin, end),
		cmocka_unit_test_setup_teardown(of_two_processes_one_goes, begin, end),
		cmocka_unit_test_setup_teardown(one_that_has_ended_is_told, begin, end),
		cmocka_unit_test_setup_teardown(a_thread_that_has_just_ended_is_passed_over, begin, end),
		cmocka_unit_test_setup_teardown(what_is_refused_is_told, begin, end),
		cmocka_unit_test_setup_teardown(many_threads_share_the_memory, begin, end),
		cmocka_unit_test_setup_teardown(news_is_followed_within_a_share_of_the_time, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
