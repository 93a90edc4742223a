/* SPDX-License-Identifier: MIT */
/*
 * What a service manager hears: the test is one, with sockets of both kinds.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "notify.h"

/* Listen at `name`, "/path" or "@abstract", and be who is told. */
static int listen_at(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	memcpy(address.sun_path, name, strlen(name));
	if (*name == '@')
		address.sun_path[0] = '\0';
	else
		length++;
	assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static void expect(int fd, const char *text)
{
	char got[256] = "";

	assert_true(recv(fd, got, sizeof got - 1, MSG_DONTWAIT) >= 0);
	assert_string_equal(got, text);
}

static void to_a_path_and_to_a_name(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof name, "/tmp/pagetide-notify-%d", (int)getpid());
	int fd = listen_at(name);
	assert_int_equal(notify_send("READY=1\nSTATUS=here"), 0);
	expect(fd, "READY=1\nSTATUS=here");
	close(fd);
	unlink(name);
	assert_int_equal(notify_send("WATCHDOG=1"), -ENOENT);
	name[0] = '@';
	fd = listen_at(name);
	assert_int_equal(notify_send("WATCHDOG=1"), 0);
	expect(fd, "WATCHDOG=1");
	/* Who does not read does not hold us up. */
	int error = 0;
	while (!error)
		error = notify_send("x");
	assert_int_equal(error, -EAGAIN);
	close(fd);
	assert_int_equal(notify_send("x"), -ECONNREFUSED);
}

static void to_nobody(void **state)
{
	char name[200];

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_send("x"), 0);
	setenv("NOTIFY_SOCKET", "", 1);
	assert_int_equal(notify_send("x"), 0);
	setenv("NOTIFY_SOCKET", "vsock:2:1", 1);
	assert_int_equal(notify_send("x"), -EINVAL);
	memset(name, 'x', sizeof name);
	name[0] = '/';
	name[sizeof name - 1] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_send("x"), -EINVAL);
}

static void the_watchdog_is_ours(void **state)
{
	char pid[16];

	(void)state;
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	assert_int_equal(notify_watchdog_ns(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	assert_int_equal(notify_watchdog_ns(), UINT64_C(30000000000));
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(notify_watchdog_ns(), UINT64_C(30000000000));
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(notify_watchdog_ns(), 0);
	setenv("WATCHDOG_PID", pid, 1);
	setenv("WATCHDOG_USEC", "soon", 1);
	assert_int_equal(notify_watchdog_ns(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(to_a_path_and_to_a_name),
		cmocka_unit_test(to_nobody),
		cmocka_unit_test(the_watchdog_is_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
