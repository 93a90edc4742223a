/* SPDX-License-Identifier: MIT */
#include "image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define INTERPRETERS_MAX 4

static int path_find(const char *name, char path[PATH_MAX])
{
	const char *list = getenv("PATH");
	int error = -ENOENT;

	if (strchr(name, '/')) {
		if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
			return -ENAMETOOLONG;
		return access(path, X_OK) ? -errno : 0;
	}
	if (!list)
		list = "/bin:/usr/bin";
	for (const char *at = list; at; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
		int length = (int)strcspn(at, ":");
		struct stat st;
		if (snprintf(path, PATH_MAX, "%.*s/%s", length, length ? at : ".", name) >= PATH_MAX ||
		    stat(path, &st) || S_ISDIR(st.st_mode))
			continue;
		if (!access(path, X_OK))
			return 0;
		error = -EACCES;
	}
	return error;
}

/* Of an orphan the loader's path goes to `path`. */
static enum image_kind elf_kind(int fd, const Elf64_Ehdr *head, char path[PATH_MAX])
{
	if (head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_machine != EM_X86_64)
		return IMAGE_FOREIGN;
	for (unsigned i = 0; i < head->e_phnum; i++) {
		Elf64_Phdr part;
		off_t at = (off_t)(head->e_phoff + (uint64_t)i * head->e_phentsize);
		if (pread(fd, &part, sizeof part, at) != sizeof part)
			return IMAGE_UNKNOWN;
		if (part.p_type != PT_INTERP)
			continue;
		char loader[PATH_MAX] = "";
		size_t length = part.p_filesz < PATH_MAX - 1 ? part.p_filesz : PATH_MAX - 1;
		if (pread(fd, loader, length, (off_t)part.p_offset) <= 0 || !access(loader, F_OK))
			return IMAGE_DYNAMIC;
		snprintf(path, PATH_MAX, "%s", loader);
		return IMAGE_ORPHAN;
	}
	return IMAGE_STATIC;
}

/* By who runs it: another user's or group's, or, but for root, capabilities of the file's own. */
static bool rights_gained(int fd, const struct stat *st)
{
	return (st->st_mode & S_ISUID && st->st_uid != geteuid()) ||
	       (st->st_mode & S_ISGID && st->st_mode & S_IXGRP && st->st_gid != getegid()) ||
	       (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0);
}

/* The kind of one file; for a script its interpreter's path goes to `path`, and *ret_script is set. */
static int file_kind(char path[PATH_MAX], enum image_kind *ret_kind, bool *ret_script)
{
	union {
		Elf64_Ehdr elf;
		char text[256];
	} head;
	struct stat st;

	*ret_script = false;
	*ret_kind = IMAGE_UNKNOWN;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) { /* may run all the same: executable, not readable */
		*ret_kind = errno == ENOENT || errno == ENOTDIR ? IMAGE_ORPHAN : IMAGE_DYNAMIC;
		return 0;
	}
	memset(&head, 0, sizeof head);
	ssize_t n = read(fd, head.text, sizeof head.text - 1);
	if (n < 0 || fstat(fd, &st)) {
		close(fd);
		return -EACCES;
	}
	if (n >= (ssize_t)sizeof head.elf && !memcmp(head.elf.e_ident, ELFMAG, SELFMAG)) {
		*ret_kind = rights_gained(fd, &st) ? IMAGE_SETUID : elf_kind(fd, &head.elf, path);
	} else if (!strncmp(head.text, "#!", 2)) {
		char *at = head.text + 2 + strspn(head.text + 2, " \t");
		at[strcspn(at, " \t\n")] = '\0';
		snprintf(path, PATH_MAX, "%s", at);
		*ret_script = true;
	}
	close(fd);
	return 0;
}

int image_find(const char *name, enum image_kind *ret_kind, char ret_path[PATH_MAX])
{
	char path[PATH_MAX];
	bool script = true;

	int error = path_find(name, path);
	if (error)
		return error;
	struct stat st;
	if (stat(path, &st) || !S_ISREG(st.st_mode))
		return -EACCES;
	snprintf(ret_path, PATH_MAX, "%s", path);
	for (int depth = 0; script && depth < INTERPRETERS_MAX && !error; depth++)
		error = file_kind(path, ret_kind, &script);
	if (!error && *ret_kind == IMAGE_ORPHAN)
		snprintf(ret_path, PATH_MAX, "%s", path);
	return error;
}
