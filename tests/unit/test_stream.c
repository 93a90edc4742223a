/* SPDX-License-Identifier: MIT */
/* Sockets for outsiders: who may connect, what becomes of a dead one's path, and what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "stream.h"
#include "tree.h"

#define SECOND_NS UINT64_C(1000000000)

static const char *below(const char *name)
{
	static char path[2][PATH_MAX];
	static unsigned turn;

	turn = !turn;
	snprintf(path[turn], PATH_MAX, "%s/%s", root, name);
	return path[turn];
}

static void talks_on_a_path(void **state)
{
	struct stream stream;
	struct stat there;
	char text[8] = "";
	uid_t uid = 77;
	int asker, fd;

	(void)state;
	/* The folder is made, one level of it. */
	assert_int_equal(stream_listen_path(below("run/control"), 0600, &stream), 0);
	assert_int_equal(stat(below("run/control"), &there), 0);
	assert_true(S_ISSOCK(there.st_mode));
	assert_int_equal(there.st_mode & 0777, 0600);
	assert_int_equal(stream_accept(&stream, &fd, &uid), -EAGAIN);
	assert_int_equal(stream_connect(below("run/control"), SECOND_NS, &asker), 0);
	assert_int_equal(stream_accept(&stream, &fd, &uid), 0);
	assert_int_equal(uid, getuid());
	assert_int_equal(stream_read(fd, text, sizeof text), -EAGAIN);
	assert_int_equal(stream_write(asker, "ask", 3), 3);
	stream_finish(asker);
	assert_int_equal(stream_read(fd, text, sizeof text), 3);
	assert_string_equal(text, "ask");
	assert_int_equal(stream_read(fd, text, sizeof text), 0);
	close(fd);
	/* No signal for who writes to nobody. */
	stream_write(asker, "more", 4);
	close(asker);
	stream_close(&stream);
	assert_int_equal(access(below("run/control"), F_OK), -1);
}

/* What a killed process leaves. */
static void corpse(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 1), 0);
	close(fd);
}

static void a_dead_ones_path_is_taken_and_a_living_ones_not(void **state)
{
	struct stream first, second = { .fd = -77 };
	int asker;

	(void)state;
	corpse(below("control"));
	assert_int_equal(stream_connect(below("control"), SECOND_NS, &asker), -ECONNREFUSED);
	assert_int_equal(stream_listen_path(below("control"), 0600, &first), 0);
	assert_int_equal(stream_listen_path(below("control"), 0600, &second), -EADDRINUSE);
	assert_int_equal(second.fd, -77);
	assert_int_equal(stream_connect(below("control"), SECOND_NS, &asker), 0);
	close(asker);
	/* Whoever took the path meanwhile keeps it. */
	assert_int_equal(unlink(below("control")), 0);
	assert_int_equal(stream_listen_path(below("control"), 0600, &second), 0);
	stream_close(&first);
	assert_int_equal(access(below("control"), F_OK), 0);
	stream_close(&second);
	assert_int_equal(access(below("control"), F_OK), -1);
}

/* Who can read the folder can lock it, and keeps nobody out by that. */
static void a_locked_folder_keeps_nobody_out(void **state)
{
	struct stream stream;
	int folder = open(root, O_RDONLY | O_DIRECTORY);

	(void)state;
	assert_true(folder >= 0);
	assert_int_equal(flock(folder, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(stream_listen_path(below("control"), 0600, &stream), 0);
	stream_close(&stream);
	close(folder);
}

static void of_two_who_start_at_once_one_has_the_path(void **state)
{
	struct stream stream;
	int lock;

	(void)state;
	put("/control.lock", "");
	lock = open(below("control.lock"), O_RDWR);
	assert_true(lock >= 0);
	assert_int_equal(flock(lock, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(stream_listen_path(below("control"), 0600, &stream), -EADDRINUSE);
	assert_int_equal(access(below("control"), F_OK), -1);
	/* It was killed: its lock goes, and the file with the next one. */
	close(lock);
	assert_int_equal(stream_listen_path(below("control"), 0600, &stream), 0);
	assert_int_equal(access(below("control.lock"), F_OK), -1);
	stream_close(&stream);
	/* A file of the user's is no lock. */
	put("/control.lock", "kept");
	assert_int_equal(stream_listen_path(below("control"), 0600, &stream), -EEXIST);
	assert_int_equal(access(below("control.lock"), F_OK), 0);
	assert_int_equal(unlink(below("control.lock")), 0);
	assert_int_equal(symlink("control", below("control.lock")), 0);
	assert_int_equal(stream_listen_path(below("control"), 0600, &stream), -ELOOP);
	assert_int_equal(access(below("control"), F_OK), -1);
}

static bool meddled; /* the folder's owner is quick: right after bind() the path is a link to his aim */

/* In the place of libc's. */
int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	const char *path = ((const struct sockaddr_un *)(const void *)address)->sun_path;
	int result = (int)syscall(SYS_bind, fd, address, length);

	if (!result && meddled) {
		assert_int_equal(unlink(path), 0);
		assert_int_equal(symlink("aim", path), 0);
	}
	return result;
}

static void the_mode_is_that_of_the_socket_and_of_no_other_file(void **state)
{
	struct stream stream;
	struct stat there;

	(void)state;
	assert_int_equal(stream_listen_path(below("open"), 0666, &stream), 0);
	assert_int_equal(stat(below("open"), &there), 0);
	assert_int_equal(there.st_mode & 0777, 0666);
	stream_close(&stream);
	put("/aim", "kept");
	assert_int_equal(chmod(below("aim"), 0600), 0);
	meddled = true;
	int error = stream_listen_path(below("open"), 0666, &stream);
	meddled = false;
	assert_int_equal(stat(below("aim"), &there), 0);
	assert_int_equal(there.st_mode & 0777, 0600);
	assert_int_equal(error, -EADDRINUSE);
}

static void paths_that_cannot_be(void **state)
{
	struct stream stream;
	char name[200];
	int asker;

	(void)state;
	put("/file", "kept");
	assert_int_equal(stream_listen_path(below("file"), 0600, &stream), -EEXIST);
	assert_int_equal(access(below("file"), F_OK), 0);
	assert_int_equal(stream_listen_path(below("file/control"), 0600, &stream), -ENOTDIR);
	assert_int_equal(stream_listen_path(below("a/b/control"), 0600, &stream), -ENOENT);
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	assert_int_equal(stream_listen_path(name, 0600, &stream), -ENAMETOOLONG);
	assert_int_equal(stream_connect(name, SECOND_NS, &asker), -ENAMETOOLONG);
	assert_int_equal(stream_connect(below("nobody"), SECOND_NS, &asker), -ENOENT);
	assert_int_equal(stream_connect("", SECOND_NS, &asker), -ENOENT);
}

static void an_asker_does_not_wait_for_ever(void **state)
{
	struct stream stream;
	char text[8];
	int asker;

	(void)state;
	assert_int_equal(stream_listen_path(below("control"), 0600, &stream), 0);
	assert_int_equal(stream_connect(below("control"), 1000000, &asker), 0);
	assert_int_equal(stream_read(asker, text, sizeof text), -EAGAIN);
	close(asker);
	stream_close(&stream);
}

static void only_loopback(void **state)
{
	static const char *const nonsense[] = {
		"", ":", "9100", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536",
		"127.0.0.1:1 ", ":9100", "example.org:80", "[::1:80", "[x]:80", "127.1:80", "[]:80", "]:80", "[:80",
	};
	static const char *const public[] = { "0.0.0.0:0", "192.0.2.1:0", "126.255.255.255:0", "128.0.0.1:0",
					      "[::]:0", "[2001:db8::1]:0", "[::ffff:127.0.0.1]:0" };
	struct stream stream, second;
	char head[] = "127.0.0.1:";

	(void)state;
	for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++)
		assert_int_equal(stream_listen_loopback(nonsense[i], &stream), -EINVAL);
	for (size_t i = 0; i < sizeof public / sizeof *public; i++)
		assert_int_equal(stream_listen_loopback(public[i], &stream), -EPERM);
	assert_int_equal(stream_listen_loopback("localhost:0", &stream), 0);
	assert_memory_equal(stream.address, head, sizeof head - 1);
	assert_int_not_equal(atoi(stream.address + sizeof head - 1), 0);
	assert_int_equal(stream_listen_loopback(stream.address, &second), -EADDRINUSE);
	stream_close(&stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(talks_on_a_path),
		TREE_TEST(a_dead_ones_path_is_taken_and_a_living_ones_not),
		TREE_TEST(a_locked_folder_keeps_nobody_out),
		TREE_TEST(of_two_who_start_at_once_one_has_the_path),
		TREE_TEST(the_mode_is_that_of_the_socket_and_of_no_other_file),
		TREE_TEST(paths_that_cannot_be),
		TREE_TEST(an_asker_does_not_wait_for_ever),
		TREE_TEST(only_loopback),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
