/* SPDX-License-Identifier: MIT */
#include "setting.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

#define STATE_BYTES 1024

static int path_join(char joined[PATH_MAX], const char *root, const char *path)
{
	return snprintf(joined, PATH_MAX, "%s%s", root, path) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

int setting_read(const char *root, const char *path, uint64_t *ret_value)
{
	char joined[PATH_MAX], text[32];
	uint64_t value;
	int used = 0, error = path_join(joined, root, path);

	if (error)
		return error;
	int fd = open(joined, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, text, sizeof text - 1);
	error = n < 0 ? -errno : 0;
	close(fd);
	if (error)
		return error;
	text[n] = '\0';
	if (sscanf(text, "%" SCNu64 " %n", &value, &used) != 1 || text[used])
		return -EINVAL;
	*ret_value = value;
	return 0;
}

int setting_write(const char *root, const char *path, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof text, "%" PRIu64 "\n", value);
	return file_put(root, text, "%s", path);
}

/* What must be stopped for it may have stopped, or be gone; while it runs the value cannot be written. */
static int setting_restore(const char *root, const struct setting *setting, uint64_t value)
{
	if (setting->ours && !setting->ours(root))
		return 0;
	if (setting->stop_path)
		file_put(root, setting->stop_text, "%s", setting->stop_path);
	return setting_write(root, setting->path, value);
}

static const struct setting *setting_find(const struct setting *table, size_t nr, const char *name)
{
	for (size_t i = 0; i < nr; i++)
		if (!strcmp(table[i].name, name))
			return &table[i];
	return NULL;
}

/* Open and lock the state file. */
static int state_lock(const char *root, const char *state_path, bool create, int *ret_fd)
{
	char path[PATH_MAX], *slash;
	struct stat there, ours;
	int error = path_join(path, root, state_path);

	if (error)
		return error;
	slash = strrchr(path, '/');
	if (create && slash && slash != path) {
		*slash = '\0';
		if (mkdir(path, 0755) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB))
		error = errno == EWOULDBLOCK ? -EBUSY : -errno;
	/* Its owner may have removed it between our open and our lock: then it is nobody's. */
	else if (stat(path, &there) || fstat(fd, &ours) || there.st_ino != ours.st_ino)
		error = -EBUSY;
	if (error) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

/* Put back what the file says, in the order of the table. 1: there was something. */
static int state_restore(int fd, const char *root, const struct setting *table, size_t nr)
{
	char text[STATE_BYTES], name[64];
	uint64_t value, values[SETTINGS_MAX];
	bool said[SETTINGS_MAX] = { false };
	int used, result = 0;
	ssize_t n = pread(fd, text, sizeof text - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	for (const char *at = text; sscanf(at, "%63s %" SCNu64 " %n", name, &value, &used) == 2;
	     at += used) {
		const struct setting *setting = setting_find(table, nr, name);
		if (setting) {
			values[setting - table] = value;
			said[setting - table] = true;
		}
	}
	for (size_t i = 0; i < nr; i++) {
		if (!said[i])
			continue;
		int error = setting_restore(root, &table[i], values[i]);
		if (error && result >= 0)
			result = error;
		else if (!error && !result)
			result = 1;
	}
	return result;
}

/* Over what is there, with as many characters each time: a full disk, or a kill, leaves a whole file. */
static int state_write(const struct settings *settings)
{
	char text[STATE_BYTES];
	size_t length = 0;

	for (size_t i = 0; i < settings->nr; i++)
		if (settings->there[i])
			length += (size_t)snprintf(text + length, sizeof text - length,
						   "%s %20" PRIu64 "\n", settings->table[i].name,
						   settings->saved[i]);
	if (length >= sizeof text)
		return -E2BIG;
	errno = 0;
	if (pwrite(settings->lock, text, length, 0) != (ssize_t)length ||
	    ftruncate(settings->lock, (off_t)length) || fsync(settings->lock))
		return errno ? -errno : -EIO;
	return 0;
}

static void state_remove(const char *root, const char *state_path, int fd)
{
	char path[PATH_MAX];

	/* Removed before the lock goes, so that nobody takes it for one of a killed owner. */
	if (!path_join(path, root, state_path))
		unlink(path);
	close(fd);
}

static int values_read(struct settings *settings)
{
	for (size_t i = 0; i < settings->nr; i++) {
		const struct setting *setting = &settings->table[i];
		int error = setting_read(settings->root, setting->path, &settings->saved[i]);

		settings->there[i] = !error;
		settings->known[i] = settings->saved[i];
		if (error && !(setting->optional && error == -ENOENT))
			return error;
	}
	return 0;
}

static void writers_watch(struct settings *settings)
{
	written_begin(&settings->written);
	for (size_t i = 0; i < settings->nr; i++)
		written_add(&settings->written, i, settings->root, settings->table[i].path);
}

int settings_save(struct settings *settings, const char *root, const char *state_path,
		  const struct setting *table, size_t nr)
{
	*settings = (struct settings){
		.table = table, .nr = nr, .root = root, .state_path = state_path, .lock = -1,
	};
	if (nr > SETTINGS_MAX)
		return -E2BIG;
	int fd, error = state_lock(root, state_path, true, &fd);
	if (error)
		return error;
	error = state_restore(fd, root, table, nr);
	if (error < 0) {
		close(fd); /* the file stays: nothing else knows the values */
		return error;
	}
	settings->lock = fd;
	writers_watch(settings);
	error = values_read(settings);
	if (!error)
		error = state_write(settings);
	if (error) {
		written_end(&settings->written);
		state_remove(root, state_path, fd);
		settings->lock = -1;
	}
	return error;
}

/* What it is now is put back in the end. Where that cannot be written the value of before comes back after a kill. */
static void theirs_keep(struct settings *settings, size_t which, uint64_t value)
{
	bool other = settings->saved[which] != value;

	settings->saved[which] = settings->known[which] = value;
	settings->told &= ~(1u << which);
	if (other)
		state_write(settings);
}

int settings_change(struct settings *settings, size_t which, uint64_t value)
{
	if (!settings->there[which])
		return settings->table[which].optional ? 0 : -ENOENT;
	settings->changed = true;
	uint64_t theirs;
	settings->told |= written_take(&settings->written);
	if ((settings->told >> which & 1) &&
	    !setting_read(settings->root, settings->table[which].path, &theirs))
		theirs_keep(settings, which, theirs);
	int error = setting_write(settings->root, settings->table[which].path, value);
	if (!error)
		settings->known[which] = value;
	settings->told |= written_take(&settings->written) & ~(1u << which);
	return error;
}

unsigned int settings_look(struct settings *settings)
{
	unsigned int set = 0;

	if (settings->lock < 0)
		return 0;
	settings->told |= written_take(&settings->written);
	for (size_t i = 0; i < settings->nr; i++) {
		uint64_t value;
		if (!settings->there[i] || setting_read(settings->root, settings->table[i].path, &value))
			continue;
		bool other = value != settings->known[i];
		set |= (unsigned int)other << i;
		if (other || (settings->told >> i & 1))
			theirs_keep(settings, i, value);
	}
	return set;
}

int settings_restore(struct settings *settings)
{
	int error = 0;

	if (settings->lock < 0)
		return 0;
	settings_look(settings);
	for (size_t i = 0; i < settings->nr; i++) {
		int one = settings->there[i] ? setting_restore(settings->root, &settings->table[i],
							       settings->saved[i])
					     : 0;
		if (!one)
			settings->known[i] = settings->saved[i];
		else if (!error)
			error = one;
	}
	written_take(&settings->written); /* ours */
	settings->changed = error != 0;
	return error;
}

void settings_release(struct settings *settings)
{
	if (settings->lock < 0)
		return;
	written_end(&settings->written);
	if (settings->changed)
		close(settings->lock);
	else
		state_remove(settings->root, settings->state_path, settings->lock);
	settings->lock = -1;
}

int settings_repair(const char *root, const char *state_path, const struct setting *table, size_t nr)
{
	int fd, result = state_lock(root, state_path, false, &fd);

	if (result)
		return result == -ENOENT ? 0 : result;
	result = state_restore(fd, root, table, nr);
	if (result < 0)
		close(fd);
	else
		state_remove(root, state_path, fd);
	return result;
}
