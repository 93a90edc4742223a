/* SPDX-License-Identifier: MIT */
/*
 * Settings of the kernel that are changed for a while: files that hold one number.
 *
 * Before the first change the old values go into a state file, which stays locked while we live. The
 * lock goes with the process, the file does not: whoever finds it without a lock puts back what it
 * says. So a setting survives our being killed, and two of us never save each other's values.
 *
 * All paths are below a root folder ("" for the running system). Not thread-safe.
 */
#ifndef TIDE_SETTING_H
#define TIDE_SETTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "written.h"

struct setting {
	const char *name;  /* in the state file: no blanks */
	const char *path;
	bool optional;     /* not every kernel has it */
	/* Written before the old value is put back: what uses it must stop. NULL: nothing does. */
	const char *stop_path, *stop_text;
	/* Whether what is there is what we made. Else nothing is stopped or put back: it is another's by
	 * now. NULL: it is. */
	bool (*ours)(const char *root);
};

#define SETTINGS_MAX WRITTEN_MAX

struct settings {
	const struct setting *table; /* put back in this order */
	size_t nr;
	const char *root, *state_path;
	int lock;                    /* the state file; -1: nothing is saved */
	bool changed;                /* something is not as it was */
	uint64_t saved[SETTINGS_MAX]; /* what is put back */
	uint64_t known[SETTINGS_MAX]; /* what was read or written last */
	bool there[SETTINGS_MAX];
	struct written written;
	unsigned int told;           /* bits: others wrote to it, and it was not read since */
};

/* -EINVAL: no number in it. */
int setting_read(const char *root, const char *path, uint64_t *ret_value);
int setting_write(const char *root, const char *path, uint64_t value);

/*
 * Lock the state file, put back what a killed predecessor left, and save the values as they are now.
 * -EBUSY: its owner lives; -ENOENT: a setting that is needed does not exist; -EACCES, -EIO ...
 * What cannot be put back stays in the file.
 * The strings and the table are used until settings_release().
 */
int settings_save(struct settings *settings, const char *root, const char *state_path,
		  const struct setting *table, size_t nr);
/* Change one of the table; an optional one that is not there is passed over. What others have set until then is theirs,
 * as in settings_look(). */
int settings_change(struct settings *settings, size_t which, uint64_t value);
/*
 * Which of them somebody else has set since to another value: a bit for each place in the table. Their value is the one
 * that is put back from now on, also after a kill; also where it is the one that it has, if the kernel tells of that.
 */
unsigned int settings_look(struct settings *settings);
/* Put all back, but for what somebody else has set meanwhile. The lock stays: nobody else begins while what they
 * were changed for is taken down. The first error; all are tried. */
int settings_restore(struct settings *settings);
/* Give the lock up. The state file goes with it, unless something is still to be put back: the next one tries. */
void settings_release(struct settings *settings);

/* Only put back what a killed predecessor left. 1: there was something; 0; -EBUSY: its owner lives. */
int settings_repair(const char *root, const char *state_path, const struct setting *table, size_t nr);

#endif
