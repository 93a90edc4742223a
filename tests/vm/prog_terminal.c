/* SPDX-License-Identifier: MIT */
/*
 * vm_terminal FILE [-i TEXT] COMMAND...: run a command whose standard error is a terminal. What it says there is
 * written to FILE; with -i it is interrupted as soon as that has TEXT. The exit status is the command's.
 */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "live.h"

int main(int argc, char **argv)
{
	int ours, theirs, status;
	char text[4096], said[65536] = "";
	const char *interrupt = NULL;
	size_t nr = 0;
	ssize_t n;

	CHECK(argc > 2);
	char **command = argv + 2;
	if (!strcmp(*command, "-i")) {
		CHECK(argc > 4);
		interrupt = command[1];
		command += 2;
	}
	int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	CHECK(file >= 0 && openpty(&ours, &theirs, NULL, NULL, NULL) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		CHECK(dup2(theirs, STDERR_FILENO) == STDERR_FILENO);
		close(ours);
		execvp(*command, command);
		_exit(127);
	}
	close(theirs);
	/* EIO: nobody has the terminal's other end any more. */
	while ((n = read(ours, text, sizeof text)) > 0 || (n < 0 && errno == EINTR)) {
		CHECK(n < 0 || write(file, text, (size_t)n) == n);
		if (n < 0 || !interrupt || nr + (size_t)n >= sizeof said)
			continue;
		memcpy(said + nr, text, (size_t)n);
		nr += (size_t)n;
		said[nr] = '\0';
		if (!strstr(said, interrupt))
			continue;
		CHECK(kill(pid, SIGINT) == 0);
		interrupt = NULL;
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}
