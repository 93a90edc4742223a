/* SPDX-License-Identifier: MIT */
/* How long who does not answer is waited for, and what is said of it. On a kernel of its own. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ask.h"
#include "proc.h"
#include "sock.h"

#define SERVER 42
#define SERVER_CLOCK ((clockid_t)(1 << 20))

/* The server by the numbers here, whether /proc has these, what it does, and the turn in which it answers. */
static struct {
	pid_t pid;
	bool ours, works;
	char state;
	unsigned answer, turns;
} fake;

int __wrap_poll(struct pollfd *fds, nfds_t nr, int timeout_ms);
int __wrap_sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid);
bool __wrap_proc_ours(const char *root);
int __wrap_proc_state(pid_t pid, char *ret_state);
int __wrap_clock_getcpuclockid(pid_t pid, clockid_t *ret_clock);
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_poll(struct pollfd *fds, nfds_t nr, int timeout_ms)
{
	(void)fds;
	assert_int_equal(nr, 1);
	assert_true(timeout_ms > 0);
	return ++fake.turns == fake.answer;
}

int __wrap_sock_peer(int fd, pid_t *ret_pid, uid_t *ret_uid)
{
	(void)fd;
	*ret_pid = fake.pid;
	*ret_uid = 0;
	return 0;
}

bool __wrap_proc_ours(const char *root)
{
	assert_string_equal(root, "");
	return fake.ours;
}

int __wrap_proc_state(pid_t pid, char *ret_state)
{
	assert_int_equal(pid, SERVER);
	*ret_state = fake.state;
	return 0;
}

int __wrap_clock_getcpuclockid(pid_t pid, clockid_t *ret_clock)
{
	assert_int_equal(pid, SERVER); /* 0 were ourselves */
	*ret_clock = SERVER_CLOCK;
	return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
	if (clock != SERVER_CLOCK)
		return __real_clock_gettime(clock, ret);
	*ret = (struct timespec){ .tv_sec = 7, .tv_nsec = fake.works ? fake.turns : 0 };
	return 0;
}

/* Ask it; `says`: what is in the words for the error, NULL: none. */
static int asked(const char *says)
{
	char message[TIDE_MESSAGE_MAX] = "";

	fake.turns = 0;
	int error = ask_wait(-1, message);
	if (says ? !strstr(message, says) : *message)
		fail_msg("'%s', not '%s'", message, says ? says : "");
	if (!fake.pid || !fake.ours)
		assert_null(strstr(message, "kill"));
	return error;
}

static void who_does_nothing_is_waited_for_less_long(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof fake);
	fake.pid = SERVER;
	fake.ours = true;
	fake.state = 'S';
	assert_int_equal(asked("kill -KILL 42"), -ETIMEDOUT);
	assert_int_equal(fake.turns, 100);
	fake.answer = 100;
	assert_int_equal(asked(NULL), 0);
	fake.works = true;
	fake.answer = 300;
	assert_int_equal(asked(NULL), 0);
	fake.answer = 0;
	assert_int_equal(asked("kill -KILL 42"), -ETIMEDOUT);
	assert_int_equal(fake.turns, 300);
}

/* Who is traced is so at each of its calls, and works on. */
static void stopped_is_who_does_nothing_meanwhile(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof fake);
	fake.pid = SERVER;
	fake.ours = true;
	for (const char *stop = "Tt"; *stop; stop++) {
		fake.state = *stop;
		fake.works = false;
		fake.answer = 0;
		assert_int_equal(asked("kill -CONT 42"), -EBUSY);
		assert_int_equal(fake.turns, 2);
		fake.works = true;
		fake.answer = 7;
		assert_int_equal(asked(NULL), 0);
	}
}

/* Its number is 0 here, or another's in /proc: whose state and time these are nobody knows, and none is to be ended. */
static void who_is_of_another_namespace_has_no_number(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof fake);
	fake.state = 'T';
	for (unsigned i = 0; i < 3; i++) {
		fake.pid = i == 2 ? SERVER : 0;
		fake.ours = i == 1;
		fake.answer = 0;
		assert_int_equal(asked("another PID namespace"), -ETIMEDOUT);
		assert_int_equal(fake.turns, 300);
		fake.answer = 300;
		assert_int_equal(asked(NULL), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_does_nothing_is_waited_for_less_long),
		cmocka_unit_test(stopped_is_who_does_nothing_meanwhile),
		cmocka_unit_test(who_is_of_another_namespace_has_no_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
