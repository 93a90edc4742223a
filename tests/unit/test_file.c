/* SPDX-License-Identifier: MIT */
/* A file that others read is replaced as a whole. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "file.h"
#include "tree.h"

static unsigned entries(void)
{
	DIR *dir = opendir(root);
	unsigned nr = 0;

	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr - 2;
}

static void readers_find_the_old_or_the_new(void **state)
{
	char path[PATH_MAX], text[16] = "";

	(void)state;
	snprintf(path, sizeof path, "%s/metrics.prom", root);
	assert_int_equal(file_may_replace(path), 0);
	assert_int_equal(entries(), 0);
	assert_int_equal(file_replace(path, "old\n", 4), 0);
	int reader = open(path, O_RDONLY);
	assert_int_equal(file_replace(path, "new one\n", 8), 0);
	assert_int_equal(read(reader, text, sizeof text), 4);
	assert_string_equal(text, "old\n");
	close(reader);
	assert_int_equal(file_may_replace(path), 0);
	assert_int_equal(file_read(root, text, sizeof text, "/metrics.prom"), 0);
	assert_string_equal(text, "new one\n");
	assert_int_equal(entries(), 1);
}

static void nothing_stays_of_a_failure(void **state)
{
	char path[PATH_MAX];

	(void)state;
	put("/folder/file", "");
	snprintf(path, sizeof path, "%s/folder", root);
	assert_int_equal(file_replace(path, "x", 1), -EISDIR);
	assert_int_equal(file_may_replace(path), -EISDIR);
	assert_int_equal(entries(), 1);
	snprintf(path, sizeof path, "%s/nowhere/metrics.prom", root);
	assert_int_equal(file_replace(path, "x", 1), -ENOENT);
	assert_int_equal(file_may_replace(path), -ENOENT);
	memset(path, 'x', sizeof path - 1);
	path[sizeof path - 1] = '\0';
	assert_int_equal(file_replace(path, "x", 1), -ENAMETOOLONG);
}

/* Whoever may write into the folder could lay a link where we write. */
static void a_link_is_not_followed(void **state)
{
	char path[PATH_MAX], beside[PATH_MAX], target[PATH_MAX];

	(void)state;
	snprintf(path, sizeof path, "%s/m", root);
	snprintf(beside, sizeof beside, "%s/.m.%d", root, (int)getpid());
	snprintf(target, sizeof target, "%s/victim", root);
	put("/victim", "kept");
	assert_int_equal(symlink(target, beside), 0);
	assert_int_equal(file_replace(path, "x", 1), 0);
	assert_int_equal(file_read(root, path, sizeof path, "/victim"), 0);
	assert_string_equal(path, "kept");
}

/* A device, a pipe or a link would be gone. */
static void only_a_plain_file_is_replaced(void **state)
{
	char path[PATH_MAX], text[16];
	struct stat there;

	(void)state;
	snprintf(path, sizeof path, "%s/pipe", root);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(file_may_replace(path), -EEXIST);
	assert_int_equal(file_replace(path, "x", 1), -EEXIST);
	assert_int_equal(stat(path, &there), 0);
	assert_true(S_ISFIFO(there.st_mode));
	put("/real", "kept");
	snprintf(path, sizeof path, "%s/link", root);
	assert_int_equal(symlink("real", path), 0);
	assert_int_equal(file_may_replace(path), -EEXIST);
	assert_int_equal(file_replace(path, "x", 1), -EEXIST);
	assert_true(readlink(path, text, sizeof text) == 4);
	assert_int_equal(file_may_replace(""), -ENOENT);
	assert_int_equal(entries(), 3);
}

static void what_is_written_is_whole_or_as_before(void **state)
{
	char path[PATH_MAX], link[PATH_MAX], text[16] = "";

	(void)state;
	put("/real", "old");
	snprintf(path, sizeof path, "%s/real", root);
	snprintf(link, sizeof link, "%s/link", root);
	assert_int_equal(symlink("real", link), 0);
	/* Behind a link: the link stays one. */
	assert_int_equal(file_save(link, "new", 3), 0);
	assert_int_equal(file_read(root, text, sizeof text, "/real"), 0);
	assert_string_equal(text, "new");
	assert_true(readlink(link, text, sizeof text) == 4);
	assert_int_equal(entries(), 2);
	struct stat now;
	assert_int_equal(chmod(link, 0600), 0);
	assert_int_equal(file_save(link, "secret", 6), 0);
	assert_int_equal(stat(link, &now), 0);
	assert_int_equal(now.st_mode & 07777, 0600);
	snprintf(path, sizeof path, "%s/real/file", root);
	assert_int_equal(file_save(path, "x", 1), -ENOTDIR);
	/* Too long for a name beside it, not for itself. */
	snprintf(path, sizeof path, "%s/%0250d", root, 0);
	assert_int_equal(file_save(path, "x", 1), 0);
	unlink(path);
	assert_int_equal(entries(), 2);
	assert_int_equal(file_save("/dev/null", "x", 1), 0);
	assert_int_equal(file_save("/dev/full", "x", 1), -ENOSPC);
	snprintf(path, sizeof path, "%s/nowhere/file", root);
	assert_int_equal(file_save(path, "x", 1), -ENOENT);
}

static void pieces_are_put_there_as_a_whole(void **state)
{
	struct file_saving saving;
	char path[PATH_MAX], text[16] = "";

	(void)state;
	put("/real", "old");
	snprintf(path, sizeof path, "%s/real", root);
	for (int error = -ENOSPC; error <= 0; error += ENOSPC) {
		assert_int_equal(file_save_begin(path, &saving), 0);
		assert_int_equal(write(saving.fd, "new", 3), 3);
		assert_int_equal(file_read(root, text, sizeof text, "/real"), 0);
		assert_string_equal(text, "old");
		assert_int_equal(file_save_end(&saving, error), error);
		assert_int_equal(entries(), 1);
	}
	assert_int_equal(file_read(root, text, sizeof text, "/real"), 0);
	assert_string_equal(text, "new");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(readers_find_the_old_or_the_new),
		TREE_TEST(nothing_stays_of_a_failure),
		TREE_TEST(a_link_is_not_followed),
		TREE_TEST(only_a_plain_file_is_replaced),
		TREE_TEST(what_is_written_is_whole_or_as_before),
		TREE_TEST(pieces_are_put_there_as_a_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
