/* SPDX-License-Identifier: MIT */
/*
 * What `pagetide run` puts into a program: it starts the helper, and sees to it that the programs
 * this one executes get theirs.
 *
 * The way in is LD_PRELOAD and one variable that names the server. Both are taken out of the
 * environment before the program's own code runs, so it sees the environment the user gave, and
 * put back into the environment of every exec. The wrappers of exec may run in a child of vfork:
 * they allocate on the stack only and change no memory of the parent's.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../os/helper.h"
#include "helper.h"

#define EXPORT __attribute__((visibility("default")))
#define PRELOAD "LD_PRELOAD="
#define ADVICE_GUARD_INSTALL 102
#define ARGUMENT_MAX (128 << 10) /* bytes of one argument of an exec, as the kernel bounds it */

static char server[128];          /* empty: not under a server */
static char server_variable[160]; /* as put into the environment of an exec */
static char own_path[PATH_MAX];

static int (*real_execve)(const char *, char *const[], char *const[]);
static int (*real_execvpe)(const char *, char *const[], char *const[]);
static int (*real_fexecve)(int, char *const[], char *const[]);
static int (*real_execveat)(int, const char *, char *const[], char *const[], int);
static int (*real_spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
			 const posix_spawnattr_t *, char *const[], char *const[]);
static int (*real_spawnp)(pid_t *, const char *, const posix_spawn_file_actions_t *,
			  const posix_spawnattr_t *, char *const[], char *const[]);
static int (*real_system)(const char *);
static FILE *(*real_popen)(const char *, const char *);
static int (*real_madvise)(void *, size_t, int);
static ssize_t (*real_process_madvise)(int, const struct iovec *, size_t, int, unsigned int);

extern char **environ;

static bool variable_is(const char *entry, const char *name)
{
	size_t length = strlen(name);

	return !strncmp(entry, name, length) && entry[length] == '=';
}

/* Valgrind runs the program's code on a processor of its own, which has no second process in the same memory. */
static bool under_valgrind(void)
{
	const char *libraries = getenv("LD_PRELOAD");

	return libraries && strstr(libraries, "/vgpreload_core");
}

static void forked(void)
{
	helper_start(server, false);
}

/*
 * Take our library out of the value of LD_PRELOAD; true if nothing is left of it. It is the first; but
 * valgrind puts its own in front.
 */
static bool preload_strip(char *entry)
{
	char *value = entry + strlen(PRELOAD), *at = value;
	size_t own = strlen(own_path);

	while (strncmp(at, own_path, own) || (at[own] && at[own] != ':')) {
		at = strchr(at, ':');
		if (!at++)
			return false;
	}
	if (at[own])
		memmove(at, at + own + 1, strlen(at + own + 1) + 1);
	else
		at[at > value ? -1 : 0] = '\0';
	return !*value;
}

/*
 * Take our variables out. The rest stays at the end: who has no libc, as a Go program, goes on behind the
 * environment to find the auxiliary vector. What becomes free in front repeats a variable.
 */
static void environment_clean(void)
{
	char **end = environ;

	while (*end)
		end++;
	char **to = end;
	for (char **from = end; from-- > environ;) {
		if (variable_is(*from, HELPER_ENV_SERVER) || variable_is(*from, HELPER_ENV_PRELOAD))
			continue;
		if (!strncmp(*from, PRELOAD, strlen(PRELOAD)) && preload_strip(*from))
			continue;
		*--to = *from;
	}
	static char nothing[] = "";
	for (char **at = environ; at < to; at++)
		*at = *to ? *to : nothing;
	environ = to;
}

/* Whether this kernel has guard pages: of no page it is asked for some. */
static bool guards_known(void)
{
	int saved_errno = errno;

	if (!real_madvise) /* called by another library's constructor, before ours */
		*(void **)&real_madvise = dlsym(RTLD_NEXT, "madvise");
	bool known = !real_madvise(NULL, 0, ADVICE_GUARD_INSTALL);
	errno = saved_errno;
	return known;
}

__attribute__((constructor(101))) static void inject_start(void)
{
	const char *name = getenv(HELPER_ENV_SERVER);
	const char *path = getenv(HELPER_ENV_PRELOAD);

	/* glibc declares these as functions; ISO C has no cast from an object pointer. */
	*(void **)&real_execve = dlsym(RTLD_NEXT, "execve");
	*(void **)&real_execvpe = dlsym(RTLD_NEXT, "execvpe");
	*(void **)&real_fexecve = dlsym(RTLD_NEXT, "fexecve");
	*(void **)&real_execveat = dlsym(RTLD_NEXT, "execveat");
	*(void **)&real_spawn = dlsym(RTLD_NEXT, "posix_spawn");
	*(void **)&real_spawnp = dlsym(RTLD_NEXT, "posix_spawnp");
	*(void **)&real_system = dlsym(RTLD_NEXT, "system");
	*(void **)&real_popen = dlsym(RTLD_NEXT, "popen");
	*(void **)&real_madvise = dlsym(RTLD_NEXT, "madvise");
	*(void **)&real_process_madvise = dlsym(RTLD_NEXT, "process_madvise");
	if (!name || !path || strlen(name) >= sizeof server || strlen(path) >= sizeof own_path)
		return;
	strcpy(server, name);
	strcpy(own_path, path);
	snprintf(server_variable, sizeof server_variable, HELPER_ENV_SERVER "=%s", server);
	if (libc_makes_guards(gnu_get_libc_version()) && guards_known())
		helper_guards = HELPER_GUARDS;
	bool whole = !under_valgrind();
	environment_clean();
	if (!whole)
		return;
	pthread_atfork(NULL, NULL, forked);
	helper_start(server, true);
}

/* ---- carrying our variables across exec ---- */

/*
 * Whether the loader of a program would take our library: not that of a 32-bit program, nor where the library is
 * not to be seen, as below another root. It would complain on standard error, and go on. Errors of `path` are for
 * the exec to tell.
 */
static bool loads_us(const char *path)
{
	static const char narrow[] = ELFMAG "\001"; /* ELFCLASS32 */
	char head[sizeof narrow - 1] = "";
	int saved_errno = errno;
	bool readable = !faccessat(AT_FDCWD, own_path, R_OK, AT_EACCESS);
	/* Not libc's: an exec is no place where a thread can be cancelled. */
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = readable ? (int)syscall(SYS_openat, AT_FDCWD, path, flags) : -1;
	bool foreign = fd >= 0 && syscall(SYS_read, fd, head, sizeof head) == sizeof head &&
		       !memcmp(head, narrow, sizeof head);

	if (fd >= 0)
		syscall(SYS_close, fd);
	errno = saved_errno;
	return readable && !foreign;
}

/* The same, of what is searched for in PATH. */
static bool found_loads_us(const char *file)
{
	const char *list = strchr(file, '/') ? NULL : getenv("PATH");
	int saved_errno = errno;
	char path[PATH_MAX];

	for (const char *at = list, *end; at; at = *end ? end + 1 : NULL) {
		end = at + strcspn(at, ":");
		int length = snprintf(path, sizeof path, "%.*s/%s", (int)(end - at), end > at ? at : ".", file);
		if (length < PATH_MAX && !access(path, X_OK)) {
			file = path;
			break;
		}
	}
	errno = saved_errno;
	return loads_us(file);
}

static size_t count(char *const list[])
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* Room that env_with_us() needs beside the pointers: the two variables that it writes. */
static size_t text_bytes(char *const env[])
{
	size_t bytes = strlen(PRELOAD) + strlen(HELPER_ENV_PRELOAD) + 2 * strlen(own_path) + 4;

	for (size_t i = 0; env && env[i]; i++)
		if (!strncmp(env[i], PRELOAD, strlen(PRELOAD)))
			bytes += strlen(env[i]);
	return bytes;
}

/* What the program is to have: `env`, with us if it loads us. `out` has room for count(env) + 4 pointers, `text`
 * for text_bytes(env). */
static char *const *env_with_us(bool loads, char *const env[], char **out, char *text)
{
	bool preloaded = false;
	size_t n = 0;

	if (!loads)
		return env;
	char *path_variable = text;
	text = stpcpy(stpcpy(stpcpy(text, HELPER_ENV_PRELOAD), "="), own_path) + 1;
	for (size_t i = 0; env && env[i]; i++) {
		if (variable_is(env[i], HELPER_ENV_SERVER) || variable_is(env[i], HELPER_ENV_PRELOAD))
			continue;
		out[n++] = env[i];
		if (strncmp(env[i], PRELOAD, strlen(PRELOAD)) || preloaded)
			continue;
		out[n - 1] = text;
		text = stpcpy(stpcpy(stpcpy(stpcpy(text, PRELOAD), own_path), ":"),
			      env[i] + strlen(PRELOAD)) + 1;
		preloaded = true;
	}
	if (!preloaded) {
		out[n++] = text;
		stpcpy(stpcpy(text, PRELOAD), own_path);
	}
	out[n++] = path_variable;
	out[n++] = server_variable;
	out[n] = NULL;
	return out;
}

/* alloca: an exec in a vfork child may use no heap; the kernel bounds argument sizes by the stack. */
#define ENV_WITH_US(loads, env)                                                                    \
	env_with_us(*server && (loads), env, __builtin_alloca((count(env) + 4) * sizeof(char *)),  \
		    __builtin_alloca(text_bytes(env)))

EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
	return real_execve(path, argv, ENV_WITH_US(loads_us(path), env));
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const env[])
{
	return real_execvpe(file, argv, ENV_WITH_US(found_loads_us(file), env));
}

EXPORT int fexecve(int fd, char *const argv[], char *const env[])
{
	return real_fexecve(fd, argv, ENV_WITH_US(loads_us(""), env));
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const env[], int flags)
{
	if (!real_execveat) {
		errno = ENOSYS;
		return -1;
	}
	return real_execveat(dir, path, argv, ENV_WITH_US(loads_us(""), env), flags);
}

/* Number of arguments of an execl-like call, the ending NULL not counted. */
static size_t count_variadic(const char *first, va_list list)
{
	size_t n = 0;

	for (const char *arg = first; arg; arg = va_arg(list, const char *))
		n++;
	return n;
}

static void collect(char **argv, size_t n, const char *first, va_list list)
{
	for (size_t i = 0; i < n; i++)
		argv[i] = (char *)(uintptr_t)(i ? va_arg(list, const char *) : first);
	argv[n] = NULL;
}

#define COLLECT(argv, first)                                                                       \
	va_list list;                                                                              \
	va_start(list, first);                                                                     \
	size_t n = count_variadic(first, list);                                                    \
	va_end(list);                                                                              \
	char **argv = __builtin_alloca((n + 1) * sizeof(char *));                                  \
	va_start(list, first);                                                                     \
	collect(argv, n, first, list)

EXPORT int execl(const char *path, const char *first, ...)
{
	COLLECT(argv, first);
	va_end(list);
	return execv(path, argv);
}

EXPORT int execlp(const char *file, const char *first, ...)
{
	COLLECT(argv, first);
	va_end(list);
	return execvp(file, argv);
}

EXPORT int execle(const char *path, const char *first, ...)
{
	COLLECT(argv, first);
	if (n) /* the NULL; without arguments it was read as `first` */
		(void)va_arg(list, char *);
	char *const *env = va_arg(list, char *const *);
	va_end(list);
	return execve(path, argv, env);
}

/* Spawning, unlike an exec, may be called where the stack is small, and is not in a child of vfork. */
static int spawn(__typeof__(real_spawn) real, pid_t *pid, const char *path,
		 const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr, char *const argv[],
		 char *const env[])
{
	size_t pointers = (count(env) + 4) * sizeof(char *), bytes = pointers + text_bytes(env);
	int saved_errno = errno;
	char *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	errno = saved_errno;
	if (room == MAP_FAILED)
		return ENOMEM;
	int error = real(pid, path, actions, attr, argv,
			 env_with_us(true, env, (char **)(void *)room, room + pointers));
	munmap(room, bytes);
	return error;
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	if (!*server || !loads_us(path))
		return real_spawn(pid, path, actions, attr, argv, env);
	return spawn(real_spawn, pid, path, actions, attr, argv, env);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	if (!*server || !found_loads_us(file))
		return real_spawnp(pid, file, actions, attr, argv, env);
	return spawn(real_spawnp, pid, file, actions, attr, argv, env);
}

/* ---- system() and popen() ---- */

/* Between single quotes, as a shell reads it; returns the end. */
static char *quote(char *to, const char *text)
{
	*to++ = '\'';
	for (; *text; text++)
		if (*text == '\'')
			to = stpcpy(to, "'\\''");
		else
			*to++ = *text;
	return stpcpy(to, "'");
}

/*
 * These two start a shell inside libc, with `environ` as it is, and that is not ours to change even for a
 * moment: other threads read it, change it, and call these as well. So that shell is told to take our
 * variables and to become the one that was asked for, "sh" as before in what it complains of. Freed by the
 * caller; NULL: the shell and what it starts do without us.
 */
static char *shell_command(const char *command)
{
	const char *theirs = getenv("LD_PRELOAD");
	int saved_errno = errno;

	if (!*server || !command || !loads_us("/bin/sh"))
		return NULL;
	if (!theirs)
		theirs = "";
	char *text = malloc(4 * (2 * strlen(own_path) + strlen(theirs) + strlen(server) + strlen(command)) + 160);
	errno = saved_errno;
	if (!text)
		return NULL;
	char *to = quote(stpcpy(text, "export LD_PRELOAD="), own_path);
	if (*theirs)
		to = quote(stpcpy(to, ":"), theirs);
	to = quote(stpcpy(to, " " HELPER_ENV_PRELOAD "="), own_path);
	to = quote(stpcpy(to, " " HELPER_ENV_SERVER "="), server);
	to = quote(stpcpy(to, "; exec /bin/sh -c -- "), command);
	to = stpcpy(to, " sh");
	if (to - text < ARGUMENT_MAX)
		return text;
	free(text);
	return NULL;
}

static void shell_command_free(void *text)
{
	int saved_errno = errno;

	free(text);
	errno = saved_errno;
}

EXPORT int system(const char *command)
{
	char *text = shell_command(command);
	int status;

	pthread_cleanup_push(shell_command_free, text); /* it may be cancelled while it waits */
	status = real_system(text ? text : command);
	pthread_cleanup_pop(1);
	return status;
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	char *text = shell_command(command);
	FILE *stream = real_popen(text ? text : command, mode);

	shell_command_free(text);
	return stream;
}

/*
 * Guard pages (Linux 6.13) drop what they cover without an event. So it is discarded as well, which has one; but only
 * where there are guards already, for kernels and mappings that can have none must lose nothing. Until that event has
 * been read the server may bring back pages there ahead of a touch, which replaces guards: they are made once more
 * behind it. And a stretch that it fills ahead of a touch would replace them later: it fills none once it has read at
 * that event that there are any.
 */
EXPORT int madvise(void *address, size_t bytes, int advice)
{
	bool guards = advice == ADVICE_GUARD_INSTALL && guards_known();

	if (guards)
		helper_guards = HELPER_GUARDS;
	else if (!real_madvise)
		*(void **)&real_madvise = dlsym(RTLD_NEXT, "madvise");
	int error = real_madvise(address, bytes, advice);
	/* ENOMEM: a part is not mapped, the rest has guards. Of other errors nobody can tell which parts have. */
	if (!*server || !guards || (error && errno != ENOMEM))
		return error;
	int saved_errno = errno;
	(void)real_madvise(address, bytes, MADV_DONTNEED);
	errno = saved_errno;
	return real_madvise(address, bytes, advice);
}

/* A process may give it about itself, for many ranges at once. */
EXPORT ssize_t process_madvise(int pidfd, const struct iovec *parts, size_t nr, int advice, unsigned int flags)
{
	bool guards = advice == ADVICE_GUARD_INSTALL && guards_known();

	if (!real_process_madvise)
		*(void **)&real_process_madvise = dlsym(RTLD_NEXT, "process_madvise");
	if (!real_process_madvise) {
		errno = ENOSYS;
		return -1;
	}
	if (guards)
		helper_guards = HELPER_GUARDS;
	ssize_t done = real_process_madvise(pidfd, parts, nr, advice, flags);
	int saved_errno = errno;
	size_t left = *server && guards && done > 0 ? (size_t)done : 0;
	for (size_t i = 0; left; i++) { /* it ends at the first that cannot have any */
		struct iovec part = { parts[i].iov_base, parts[i].iov_len < left ? parts[i].iov_len : left };
		(void)real_process_madvise(pidfd, &part, 1, MADV_DONTNEED, flags);
		(void)real_process_madvise(pidfd, &part, 1, advice, flags);
		left -= part.iov_len;
	}
	errno = saved_errno;
	return done;
}
