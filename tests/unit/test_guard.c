/* SPDX-License-Identifier: MIT */
/* Whom the guard ends when its server has gone: with real processes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guard.h"
#include "pidfd.h"
#include "sock.h"
#include "uffd.h"

static pid_t idler_start(void)
{
	pid_t pid = fork();

	if (!pid)
		for (;;)
			pause();
	assert_true(pid > 0);
	return pid;
}

/* A process with a userfaultfd of its own memory, which we get as well; -1: it may have none. */
static pid_t keeper_start(int *ret_uffd)
{
	int pair[2], fds[SOCK_FDS_MAX] = { -1, -1, -1, -1 };
	size_t bytes;
	char word = 0;

	assert_int_equal(sock_pair(pair), 0);
	pid_t pid = fork();
	if (!pid) {
		int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
		if (uffd >= 0 && uffd_api(uffd, 0))
			_exit(1);
		sock_send(pair[1], &word, sizeof word, &uffd, uffd >= 0);
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	assert_int_equal(sock_receive(pair[0], &word, sizeof word, &bytes, fds), 0);
	close(pair[0]);
	close(pair[1]);
	*ret_uffd = fds[0];
	return pid;
}

static int status_of(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* The number of a process that has ended is free, while its memory lives on with others in it. */
static void a_number_used_again_is_a_strangers(void **state)
{
	pid_t stranger = idler_start(), gone = idler_start();
	int uffd, gone_fd, kept_fd;
	pid_t kept = keeper_start(&uffd);

	(void)state;
	int error = pidfd_get(gone, &gone_fd);
	kill(gone, SIGKILL);
	status_of(gone);
	if (error == -ENOSYS) { /* valgrind does not know the call */
		kill(stranger, SIGKILL);
		kill(kept, SIGKILL);
		skip();
	}
	assert_int_equal(error, 0);
	assert_int_equal(pidfd_get(kept, &kept_fd), 0);
	pid_t server = uffd < 0 ? 0 : fork();
	if (uffd >= 0 && !server) {
		int socket;
		if (guard_start(&socket) || guard_add(socket, stranger, uffd, gone_fd))
			_exit(1);
		_exit(guard_add(socket, kept, uffd, kept_fd) != 0);
	}
	if (uffd < 0) /* nothing can be asked here */
		kill(kept, SIGKILL);
	else
		assert_int_equal(status_of(server), 0);
	assert_int_equal(status_of(kept), SIGKILL);
	kill(stranger, SIGTERM); /* it would have been killed before */
	assert_int_equal(status_of(stranger), SIGTERM);
	close(uffd);
	close(gone_fd);
	close(kept_fd);
	if (uffd < 0)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_number_used_again_is_a_strangers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
