/* SPDX-License-Identifier: MIT */
/*
 * What kind of file a program is, before it is started.
 */
#ifndef TIDE_IMAGE_H
#define TIDE_IMAGE_H

#include <limits.h>

enum image_kind {
	IMAGE_DYNAMIC,  /* loads libraries, so also one of ours */
	IMAGE_STATIC,
	IMAGE_FOREIGN,  /* another machine's or word size */
	IMAGE_SETUID,   /* who runs it gains rights: the loader ignores LD_PRELOAD */
	IMAGE_ORPHAN,   /* what would run it, a script's interpreter or the loader, is missing */
	IMAGE_UNKNOWN   /* not a program the kernel runs by itself */
};

/*
 * Find `name` as execvp() would and look what it is; of a script, its interpreter. `ret_path` is where it
 * is; of an orphan, what is missing.
 * 0; -ENOENT: none of that name; -EACCES: found, not executable.
 */
int image_find(const char *name, enum image_kind *ret_kind, char ret_path[PATH_MAX]);

#endif
