/* SPDX-License-Identifier: MIT */
/* Places of the hold area: each is one page's at most, also where there are more than 32 GiB of them; and how long a
 * helper is waited for. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "proc.h"
#include "program.h"

#define NR_PLACES (PAGE_MARK_MAX + 1 + 8 * BLOCK_PAGES)

static int area_open(void **state)
{
	static struct server server;
	struct program *p = program_new(&server);

	assert_non_null(p);
	p->hold.nr_pages = NR_PLACES;
	assert_int_equal(hold_tables_open(&p->hold), 0);
	*state = p;
	return 0;
}

static int area_close(void **state)
{
	program_free(*state);
	return 0;
}

/* Take all that is left, at most `most` at once; each place must be new. Returns how many. */
static uint32_t take_all(struct program *p, uint32_t most, uint8_t *taken)
{
	uint32_t place, nr, all = 0;

	while ((nr = hold_take(p, most, &place))) {
		assert_true(nr <= most && place + nr <= NR_PLACES);
		for (uint32_t i = place; i < place + nr; i++) {
			assert_int_equal(taken[i], 0);
			taken[i] = 1;
		}
		all += nr;
	}
	return all;
}

static void every_place_once(void **state)
{
	struct program *p = *state;
	uint8_t *taken = calloc(NR_PLACES, 1);
	uint32_t place;

	assert_non_null(taken);
	assert_int_equal(take_all(p, BLOCK_PAGES, taken), NR_PLACES);
	assert_int_equal(p->hold.nr_used, NR_PLACES);
	/* What is given back is had again, and by nobody twice; a whole block where there is one. */
	uint32_t high = PAGE_MARK_MAX + 1 + 3 * BLOCK_PAGES;
	hold_untake(p, high, BLOCK_PAGES);
	hold_untake(p, 5, 3);
	memset(taken + high, 0, BLOCK_PAGES);
	memset(taken + 5, 0, 3);
	assert_int_equal(hold_take(p, BLOCK_PAGES, &place), BLOCK_PAGES);
	assert_int_equal(place, high);
	assert_int_equal(take_all(p, 16, taken), 3);
	assert_int_equal(page_place(page_word_held(page_word(PAGE_HOLDING, 1, 0, 0, false), place)), high);
	free(taken);
}

/* Where address space is limited: no more than half of what is left, or nothing. */
static void the_area_leaves_the_program_half(void **state)
{
	const uint64_t mib = 1 << 20, least = 2 * (HOLD_PAGES_MIN * PAGE_BYTES + 24 * mib);

	(void)state;
	assert_int_equal(hold_fit(65536, UINT64_MAX), 65536);
	assert_int_equal(hold_fit(65536, 2048 * mib), 65536);
	assert_int_equal(hold_fit(65536, 248 * mib), 100 * mib / PAGE_BYTES);
	assert_int_equal(hold_fit(HOLD_PAGES_MIN, least), HOLD_PAGES_MIN);
	assert_int_equal(hold_fit(HOLD_PAGES_MIN, least - 1), 0);
	assert_int_equal(hold_fit(HOLD_PAGES_MIN, 0), 0);
}

/* What the kernel touches at the end of a thread is never taken out: a run ends before it. */
static void what_a_threads_end_needs_stays(void **state)
{
	uint64_t ends[] = { 5, 9, 9, 20 };
	struct program *p = *state;

	assert_int_equal(ends_free(p, 5, 100), 100);
	p->ends = ends;
	p->nr_ends = 4;
	assert_int_equal(ends_free(p, 0, 100), 5);
	assert_int_equal(ends_free(p, 0, 3), 3);
	assert_int_equal(ends_free(p, 5, 10), 0);
	assert_int_equal(ends_free(p, 6, 10), 3);
	assert_int_equal(ends_free(p, 10, 10), 10);
	assert_int_equal(ends_free(p, 20, 1), 0);
	assert_int_equal(ends_free(p, 21, 7), 7);
	p->ends = NULL;
	p->nr_ends = 0;
}

/* A look that took long, for the keeper had no CPU, is not why threads that begin now stay unseen for as long. */
static void the_ends_of_threads_are_looked_at_again_soon(void **state)
{
	struct program *p = *state;
	uint64_t now_ns = clock_now_ns();

	p->pid = getpid();
	p->helper_socket = STDIN_FILENO;
	ends_look(p, now_ns - UINT64_C(1000000000));
	assert_true(p->nr_ends > 0);
	assert_true(p->ends_rest_ns > now_ns && p->ends_rest_ns < clock_now_ns() + UINT64_C(3000000000));
	p->helper_socket = -1;
	p->pid = 0;
}

/* A helper that maps, at an address that nothing can be registered at. */
struct fake_helper {
	int socket;
	uint32_t ops[4];
	unsigned nr;
};

static void *helper_main(void *arg)
{
	struct fake_helper *fake = arg;
	struct helper_command command;

	while (fake->nr < 4 && recv(fake->socket, &command, sizeof command, 0) > 0) {
		struct helper_reply reply = { .seq = command.seq, .result = 1 << 30 };
		fake->ops[fake->nr++] = command.op;
		if (send(fake->socket, &reply, sizeof reply, 0) != sizeof reply)
			break;
	}
	return NULL;
}

static void after_an_error_nothing_is_mapped(void **state)
{
	struct program *p = *state;
	struct fake_helper fake = { 0 };
	int ends[2];
	pthread_t thread;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	fake.socket = ends[1];
	p->helper_socket = ends[0];
	p->uffd = dup(ends[0]); /* none */
	assert_int_equal(proc_open(getpid(), &p->proc_dir), 0);
	assert_int_equal(pthread_create(&thread, NULL, helper_main, &fake), 0);
	uint64_t before = p->hold.address;
	assert_true(hold_open(p, HOLD_PAGES_MIN) < 0);
	assert_int_equal(p->hold.address, before);
	shutdown(ends[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	assert_int_equal(fake.nr, 2);
	assert_int_equal(fake.ops[0], HELPER_MAP);
	assert_int_equal(fake.ops[1], HELPER_UNMAP);
	close(ends[1]);
}

/* What the kernel says of the helper, and how often the time passes without a reply. */
static char helper_state = 'S';
static unsigned nr_silent;

int __wrap_proc_state(pid_t pid, char *ret_state);
int __real_poll(struct pollfd *fds, nfds_t nr, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t nr, int timeout_ms);

int __wrap_proc_state(pid_t pid, char *ret_state)
{
	(void)pid;
	*ret_state = helper_state;
	return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t nr, int timeout_ms)
{
	if (!nr_silent)
		return __real_poll(fds, nr, timeout_ms > 0 ? -1 : 0);
	nr_silent--;
	return 0;
}

/* Order something of a helper that replies when so much time has passed. */
static int answered(struct program *p, char state, unsigned silent)
{
	struct fake_helper fake = { 0 };
	pthread_t thread;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	fake.socket = ends[1];
	p->helper_socket = ends[0];
	assert_int_equal(pthread_create(&thread, NULL, helper_main, &fake), 0);
	p->command.op = HELPER_POPULATE;
	p->command.nr_runs = 0;
	helper_state = state;
	nr_silent = silent;
	int error = helper_call(p);
	assert_int_equal(atomic_load(&p->frozen), error == -EINPROGRESS);
	nr_silent = 0;
	helper_leave(p);
	pthread_join(thread, NULL);
	close(ends[1]);
	return error;
}

/* One that waits for a CPU works on, so it is given much longer; but not for ever, for it keeps others waiting. */
static void a_helper_that_waits_for_a_cpu_is_not_frozen(void **state)
{
	struct program *p = *state;

	assert_int_equal(answered(p, 'S', 2), 0);
	assert_int_equal(answered(p, 'S', 3), -EINPROGRESS);
	assert_int_equal(answered(p, 'R', 14), 0);
	assert_int_equal(answered(p, 'R', 15), -EINPROGRESS);
	assert_int_equal(answered(p, 'T', 3), -EINPROGRESS);
}

/* The pages that a program shares with a child are its own again when that has ended, not before it was counted. */
static void who_was_just_born_shares_pages(void **state)
{
	struct program *p = *state, *child = program_new(p->server);
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	p->helper_socket = ends[0];
	p->nr_family = 1;
	atomic_store(&p->forked, true);
	p->server->newborn = child;
	program_unshare(p);
	assert_true(atomic_load(&p->forked));
	p->server->newborn = NULL;
	program_unshare(p);
	assert_false(atomic_load(&p->forked));
	helper_leave(p);
	close(ends[1]);
	program_free(child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_place_once, area_open, area_close),
		cmocka_unit_test(the_area_leaves_the_program_half),
		cmocka_unit_test_setup_teardown(what_a_threads_end_needs_stays, area_open, area_close),
		cmocka_unit_test_setup_teardown(the_ends_of_threads_are_looked_at_again_soon, area_open, area_close),
		cmocka_unit_test_setup_teardown(after_an_error_nothing_is_mapped, area_open, area_close),
		cmocka_unit_test_setup_teardown(a_helper_that_waits_for_a_cpu_is_not_frozen, area_open, area_close),
		cmocka_unit_test_setup_teardown(who_was_just_born_shares_pages, area_open, area_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
