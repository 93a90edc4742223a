/* SPDX-License-Identifier: MIT */
/*
 * vm_notify PATH: be the service manager that a program tells how it is (sd_notify). Prints each line
 * that comes to the socket at PATH, which is there when "listening" has been printed.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "live.h"

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char text[1024];

	CHECK(argc == 2 && strlen(argv[1]) < sizeof address.sun_path);
	strcpy(address.sun_path, argv[1]);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
	setlinebuf(stdout);
	puts("listening");
	for (;;) {
		ssize_t n = recv(fd, text, sizeof text - 1, 0);
		CHECK(n >= 0);
		text[n] = '\0';
		puts(text);
	}
}
