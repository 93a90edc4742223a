/* SPDX-License-Identifier: MIT */
/*
 * A fresh folder for each test, into which it lays the files of one kind of machine.
 */
#ifndef TEST_TREE_H
#define TEST_TREE_H

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char root[] = "/tmp/pagetide-tree-XXXXXX";

static int tree_begin(void **state)
{
	(void)state;
	strcpy(root + sizeof(root) - 7, "XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int tree_end(void **state)
{
	char command[sizeof(root) + 16];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", root);
	return system(command);
}

static void put(const char *path, const char *text)
{
	char full[PATH_MAX];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
		*at = '/';
	}
	file = fopen(full, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* A file "stat" of a process or thread. */
static inline void stat_put(const char *path, const char *name, char state, int parent, int cpu)
{
	char text[1024];
	int used = snprintf(text, sizeof(text), "1 (%s) %c %d", name, state, parent);

	for (int field = 5; field <= 52; field++)
		used += snprintf(text + used, sizeof(text) - (size_t)used, " %d", field == 39 ? cpu : 0);
	snprintf(text + used, sizeof(text) - (size_t)used, "\n");
	put(path, text);
}

#define TREE_TEST(test) cmocka_unit_test_setup_teardown(test, tree_begin, tree_end)

#endif
