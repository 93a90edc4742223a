/* SPDX-License-Identifier: MIT */
/*
 * A door answers whoever asks properly, whatever others do meanwhile: be silent, send without end,
 * not read what they get, ask as fast as they can. The askers are in this process, but the fast one.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "door.h"

#define SECOND_NS UINT64_C(1000000000)
#define LARGE (4u << 20)
#define TURNS 3000

static struct door door;
static char folder[32], path[64];
static unsigned nr_answers;

/* "large\n" has a large answer, any other line itself. */
static char *answer(void *arg, const char *question, bool last, size_t *ret_bytes)
{
	const char *end = strchr(question, '\n');
	bool large = !strcmp(question, "large\n");

	(void)arg;
	if (!end && !last)
		return NULL;
	*ret_bytes = large ? LARGE : end ? (size_t)(end - question) : 4;
	char *text = malloc(*ret_bytes + 1);
	memset(text, 'x', *ret_bytes);
	if (!large)
		memcpy(text, end ? question : "LAST", *ret_bytes);
	nr_answers++;
	return text;
}

static int begin(void **state)
{
	struct stream stream;

	(void)state;
	strcpy(folder, "/tmp/pagetide-door-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/door", folder);
	if (stream_listen_path(path, 0666, &stream))
		return -1;
	nr_answers = 0;
	door_open(&door, &stream, false, answer, NULL);
	return 0;
}

static int end(void **state)
{
	(void)state;
	door_close(&door);
	door_close(&door);
	return rmdir(folder); /* nothing was left in it */
}

static void serve(uint64_t wait_ms)
{
	struct door closed = { .open = false }, *const doors[] = { &closed, &door };

	doors_wait(doors, 2, wait_ms);
}

static int asker(const char *question)
{
	int fd;

	assert_int_equal(stream_connect(path, SECOND_NS, &fd), 0);
	assert_int_equal(stream_write(fd, question, strlen(question)), strlen(question));
	return fd;
}

/* Serve until the peer is through. The bytes it got, the first of them in `text`. */
static size_t hear(int fd, char *text, size_t room)
{
	size_t bytes = 0;
	char rest[65536];

	for (int turn = 0; turn < TURNS; turn++) {
		ssize_t n = recv(fd, rest, sizeof rest, MSG_DONTWAIT);
		if (!n || (n < 0 && errno != EAGAIN)) {
			close(fd);
			return bytes;
		}
		if (n < 0) {
			serve(5);
			continue;
		}
		for (ssize_t i = 0; i < n && bytes + (size_t)i + 1 < room; i++)
			text[bytes + (size_t)i] = rest[i];
		bytes += (size_t)n;
	}
	fail_msg("no end after %zu bytes", bytes);
	return 0;
}

static void expect(int fd, const char *wanted)
{
	char text[64] = "";

	assert_int_equal(hear(fd, text, sizeof text), strlen(wanted));
	assert_string_equal(text, wanted);
}

static void a_question_may_come_in_parts(void **state)
{
	int fd = asker("he");

	(void)state;
	serve(5);
	assert_int_equal(stream_write(fd, "ll", 2), 2);
	serve(5);
	assert_int_equal(nr_answers, 0);
	assert_int_equal(stream_write(fd, "o\n", 2), 2);
	expect(fd, "hello");
	/* What ends without its end is heard as it is. */
	fd = asker("hello");
	stream_finish(fd);
	expect(fd, "LAST");
}

static void the_silent_lose_their_places(void **state)
{
	int silent[DOOR_PEERS + 3];

	(void)state;
	for (unsigned i = 0; i < DOOR_PEERS + 3; i++)
		silent[i] = asker("hm");
	expect(asker("hello\n"), "hello");
	for (unsigned i = 0; i < DOOR_PEERS + 3; i++)
		close(silent[i]);
}

static void who_sends_without_end_is_cut_off(void **state)
{
	char chunk[4096], text[64] = "";
	ssize_t n = 0;
	int fd = asker("");

	(void)state;
	memset(chunk, 'y', sizeof chunk);
	for (int turn = 0; turn < TURNS && (n >= 0 || n == -EAGAIN); turn++) {
		n = send(fd, chunk, sizeof chunk, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 1;
		serve(5);
	}
	assert_true(n == -EPIPE || n == -ECONNRESET);
	assert_int_equal(nr_answers, 1);
	/* Its answer waits for it all the same. */
	assert_int_equal(recv(fd, text, sizeof text, 0), 4);
	assert_string_equal(text, "LAST");
	close(fd);
	expect(asker("hello\n"), "hello");
}

static void large_answers_come_whole_and_hold_nobody_up(void **state)
{
	int large = asker("large\n");
	char text[8];

	(void)state;
	for (int turn = 0; turn < TURNS && !nr_answers; turn++)
		serve(5);
	assert_int_equal(nr_answers, 1);
	expect(asker("hello\n"), "hello");
	assert_int_equal(hear(large, text, sizeof text), LARGE);
}

static void who_does_not_read_loses_its_place(void **state)
{
	int large[DOOR_PEERS];

	(void)state;
	for (unsigned i = 0; i < DOOR_PEERS; i++)
		large[i] = asker("large\n");
	serve(5);
	expect(asker("hello\n"), "hello");
	for (unsigned i = 0; i < DOOR_PEERS; i++)
		close(large[i]);
}

static void who_goes_at_once_is_no_harm(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3 * DOOR_PEERS; i++) {
		close(asker(i % 2 ? "large\n" : ""));
		if (i % 5 == 0)
			serve(0);
	}
	expect(asker("hello\n"), "hello");
}

static void fast_askers_do_not_keep_the_loop(void **state)
{
	pid_t child = fork();

	(void)state;
	if (!child) {
		for (;;) {
			int fd;
			if (!stream_connect(path, SECOND_NS, &fd)) {
				stream_write(fd, "hello\n", 6);
				close(fd);
			}
		}
	}
	/* However many ask: what one wait answers is bounded. */
	for (int turn = 0; turn < 3; turn++) {
		nr_answers = 0;
		serve(300);
		assert_true(nr_answers <= DOOR_WAKES * DOOR_PEERS);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* Of another user the question is not even read. */
static void others_are_turned_away(void **state)
{
	int status;

	(void)state;
	if (getuid())
		skip();
	assert_int_equal(chmod(folder, 0755), 0);
	door.owner_only = true;
	pid_t child = fork();
	if (!child) {
		char text[8];
		int fd;
		if (setuid(65534) || stream_connect(path, 20 * SECOND_NS, &fd))
			_exit(2);
		stream_write(fd, "hello\n", 6);
		_exit(stream_read(fd, text, sizeof text) > 0);
	}
	while (waitpid(child, &status, WNOHANG) != child)
		serve(5);
	assert_int_equal(status, 0);
	assert_int_equal(nr_answers, 0);
	expect(asker("hello\n"), "hello");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_question_may_come_in_parts, begin, end),
		cmocka_unit_test_setup_teardown(the_silent_lose_their_places, begin, end),
		cmocka_unit_test_setup_teardown(who_sends_without_end_is_cut_off, begin, end),
		cmocka_unit_test_setup_teardown(large_answers_come_whole_and_hold_nobody_up, begin, end),
		cmocka_unit_test_setup_teardown(who_does_not_read_loses_its_place, begin, end),
		cmocka_unit_test_setup_teardown(who_goes_at_once_is_no_harm, begin, end),
		cmocka_unit_test_setup_teardown(fast_askers_do_not_keep_the_loop, begin, end),
		cmocka_unit_test_setup_teardown(others_are_turned_away, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
