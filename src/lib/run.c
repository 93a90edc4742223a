/* SPDX-License-Identifier: MIT */
/*
 * tide_run(): looks the options over, builds engine and pool, and hands over to the keeper.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ask.h"
#include "budget.h"
#include "clock.h"
#include "cpu.h"
#include "file.h"
#include "image.h"
#include "intake.h"
#include "keeper.h"
#include "pagetide.h"
#include "pool.h"
#include "sock.h"
#include "stats.h"

#define MESSAGE(...) snprintf(ret_message, TIDE_MESSAGE_MAX, __VA_ARGS__)

static int program_look(const char *name, char ret_message[TIDE_MESSAGE_MAX])
{
	char path[PATH_MAX];
	enum image_kind kind;

	int error = image_find(name, &kind, path);
	if (error == -ENOENT) {
		MESSAGE("%s: no such program; give its path, or see PATH", name);
		return error;
	}
	if (error) {
		MESSAGE("%s: not executable; chmod +x it, or run its interpreter", name);
		return -EACCES;
	}
	switch (kind) {
	case IMAGE_DYNAMIC:
	case IMAGE_UNKNOWN: /* exec will say */
		return 0;
	case IMAGE_ORPHAN:
		MESSAGE("%.90s: %.90s, which runs it, is missing; install it, or correct the first line",
			name, path);
		return -ENOENT;
	case IMAGE_STATIC:
		MESSAGE("%s: statically linked, so nothing can be put into it; run a dynamic build", name);
		break;
	case IMAGE_FOREIGN:
		MESSAGE("%s: not a 64-bit x86 program; run a build for this machine", name);
		break;
	case IMAGE_SETUID:
		MESSAGE("%s: who runs it gains rights (setuid), so nothing can be put into it; run it as who has them",
			name);
		break;
	}
	return -ENOEXEC;
}

/* The library beside the program as built, or where it is installed. */
static int inject_find(char path[PATH_MAX], char ret_message[TIDE_MESSAGE_MAX])
{
	static const char *const places[] = { "src/inject", "../lib/pagetide",
					      "../lib/x86_64-linux-gnu/pagetide" };
	char own[PATH_MAX];
	char *slash = file_link("", own, sizeof own, "/proc/self/exe") ? NULL : strrchr(own, '/');

	if (slash)
		*slash = '\0';
	for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
		char joined[PATH_MAX];
		int length = snprintf(joined, sizeof joined, "%s/%s/libpagetide-inject.so", own, places[i]);
		if (length >= (int)sizeof joined || !realpath(joined, path))
			continue;
		if (!strpbrk(path, " :"))
			return 0;
		MESSAGE("%.150s: the loader takes no path with a space or colon; move pagetide", path);
		return -EINVAL;
	}
	MESSAGE("libpagetide-inject.so is neither beside the program nor installed; run `make install`");
	return -ELIBACC;
}

static int features_look(char ret_message[TIDE_MESSAGE_MAX])
{
	struct tide_feature features[TIDE_FEATURE_MAX];
	size_t nr;

	int error = tide_check(features, &nr);
	if (error) {
		MESSAGE("cannot find out what this kernel can do: %s", strerror(-error));
		return error;
	}
	for (size_t i = 0; i < nr; i++) {
		if (!features[i].needed || features[i].present)
			continue;
		MESSAGE("%.40s: %.160s; %.300s", features[i].name, features[i].reason, features[i].mend);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int server_open(struct server *s, const struct budget *b, const char *record_path,
		       char ret_message[TIDE_MESSAGE_MAX])
{
	struct engine_config config = { .seed = clock_now_ns(), .max_moves = 512 };
	size_t bytes = engine_bytes(&config);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	int error = memory == MAP_FAILED ? -ENOMEM : pool_open(b->pool_bytes, b->verify, &s->pool);
	if (error) {
		if (memory != MAP_FAILED)
			munmap(memory, bytes);
		MESSAGE("no memory for the pool: %s; lift ulimit -v and -d", strerror(-error));
		return error;
	}
	s->engine = engine_init(memory, &config);
	error = record_path ? intake_open(s, &config, record_path) : 0;
	if (error) {
		s->pool->ops->close(s->pool);
		MESSAGE("%.150s: cannot be written: %s", record_path, strerror(-error));
		return error;
	}
	/* A page of a node keeps no slot: its word has room for one of the two. */
	s->pool_bounded = b->pool_bytes || b->memory_bytes || b->nr_nodes;
	if (b->nr_nodes) {
		s->nodes[0] = b->nodes[0];
		s->nodes[1] = b->nodes[1];
		s->slow_bound = b->slow_bytes / PAGE_BYTES;
		s->slow_last = !b->pool;
	}
	s->nr_cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	cpu_ours(&s->cpus);
	s->guard_socket = s->keeper_bell = s->own_statm = -1;
	s->wish = (struct budget_wish){ b->dram_bytes, b->memory_bytes, b->pool_bytes };
	atomic_store(&s->next_cookie, 1);
	pthread_mutex_init(&s->engine_lock, NULL);
	pthread_mutex_init(&s->plan_lock, NULL);
	pthread_mutex_init(&s->plan_turn, NULL);
	pthread_mutex_init(&s->warden_lock, NULL);
	pthread_mutex_init(&s->dead_lock, NULL);
	return 0;
}

static int stats_write(struct server *s, const char *path, int wait_status,
		       char ret_message[TIDE_MESSAGE_MAX])
{
	char *text = stats_json(s, wait_status, true), *line;
	int length = text ? asprintf(&line, "%s\n", text) : -1;
	int error = length < 0 ? -ENOMEM : file_save(path, line, (size_t)length);

	if (length >= 0)
		free(line);
	free(text);
	if (error)
		MESSAGE("%s: cannot write the statistics: %s", path, strerror(-error));
	return error;
}

static void dry_run_tell(const struct tide_run_options *o, const struct budget *b)
{
	printf("would run %s\n", o->argv[0]);
	if (b->nr_nodes) {
		printf("node %u: %llu bytes of resident anonymous memory\n", b->nodes[0],
		       (unsigned long long)b->dram_bytes);
		printf("node %u: %llu bytes at most, of what is not in use\n", b->nodes[1],
		       (unsigned long long)b->slow_bytes);
	} else if (b->dram_bytes)
		printf("dram: %llu bytes of resident anonymous memory\n", (unsigned long long)b->dram_bytes);
	else if (b->memory_bytes)
		printf("memory: %llu bytes, split between dram and pool\n",
		       (unsigned long long)b->memory_bytes);
	else
		printf("memory: 90 %% of the control group's limit, or what keeps 5 %% of the machine free\n");
	if (b->pool_bytes)
		printf("lz4: %llu bytes%s\n", (unsigned long long)b->pool_bytes, b->verify ? ", verified" : "");
	else if (!b->nr_nodes || b->pool)
		printf("lz4: not bounded%s\n", b->verify ? ", verified" : "");
	printf("overhead: %u.%02u %% of one core%s\n", o->overhead_bp / 100, o->overhead_bp % 100,
	       o->hard ? "; killed when every tier is full" : "");
}

/* All that can be found wrong while nothing is started. */
static int run_look(const struct tide_run_options *o, struct budget *ret_budget, char ret_inject[PATH_MAX],
		    char ret_message[TIDE_MESSAGE_MAX])
{
	int error = ask_size(o->size, sizeof *o, ret_message);

	if (!error)
		error = budget_look("", o, ret_budget, ret_message);
	if (!error)
		error = program_look(o->argv[0], ret_message);
	if (!error)
		error = ask_proc(ret_message);
	if (!error)
		error = inject_find(ret_inject, ret_message);
	return error ? error : features_look(ret_message);
}

/* The program has ended: what is written of it, for whom that was asked. That it cannot be is said, and its status
 * is the program's all the same. */
static void run_tell(struct server *s, const struct tide_run_options *o, int wait_status, int record_error,
		     char ret_message[TIDE_MESSAGE_MAX])
{
	if (o->summary)
		stats_summary(s);
	if (!o->quiet)
		stats_excess(s);
	if (o->stats_path && stats_write(s, o->stats_path, wait_status, ret_message) && !o->quiet)
		fprintf(stderr, "pagetide: %s\n", ret_message);
	if (record_error && !o->quiet)
		fprintf(stderr, "pagetide: %s: cannot write the recording: %s\n", o->record_path,
			strerror(-record_error));
}

int tide_run(const struct tide_run_options *o, int *ret_wait_status, char ret_message[TIDE_MESSAGE_MAX])
{
	static struct server server; /* once per process, and too large for a stack */
	struct server *s = &server;
	char inject[PATH_MAX];
	struct budget b;

	*ret_message = '\0';
	int error = run_look(o, &b, inject, ret_message);
	if (!error && o->dry_run) {
		dry_run_tell(o, &b);
		*ret_wait_status = 0;
		return 0;
	}
	if (!error)
		error = server_open(s, &b, o->record_path, ret_message);
	if (error)
		return error;
	s->hard = o->hard;
	s->quiet = o->quiet;
	stats_open(&(struct stats_base){ clock_now_ns(), o->argv[0], o });
	struct keeper_options options = {
		.argv = o->argv,
		.inject_path = inject,
		.overhead_bp = o->overhead_bp,
		.live = o->live,
		.report = stats_json,
	};
	error = keeper_run(s, &options, ret_wait_status);
	int record_error = intake_close(s, error);
	if (error == -EMFILE)
		MESSAGE("too few files may be open to look after a program; ulimit -Hn says how many: give 1024");
	else if (error)
		MESSAGE("%s: cannot be started: %s", o->argv[0], strerror(-error));
	if (error)
		return error;
	run_tell(s, o, *ret_wait_status, record_error, ret_message);
	s->pool->ops->close(s->pool);
	return 0;
}

static int packet_receive(int fd, void *data, size_t room, size_t *ret_bytes, char ret_message[TIDE_MESSAGE_MAX])
{
	int fds[SOCK_FDS_MAX], error = ask_wait(fd, ret_message);

	return error ? error : sock_receive(fd, data, room, ret_bytes, fds);
}

int tide_stats_fetch(int pid, char **ret_json, char ret_message[TIDE_MESSAGE_MAX])
{
	struct helper_welcome welcome;
	uint32_t ask = KEEPER_ASK_STATS;
	char name[64];
	size_t bytes;
	int fd;

	keeper_name(pid, name);
	int error = sock_connect(name, &fd);
	if (error) {
		MESSAGE("process %d is not a running `pagetide run`: give the number of that, not of its program", pid);
		return -ESRCH;
	}
	const size_t room = 128u << 10;
	char *text = malloc(room);
	error = text ? packet_receive(fd, &welcome, sizeof welcome, &bytes, ret_message) : -ENOMEM;
	if (!error && bytes != sizeof welcome) {
		MESSAGE("the server of process %d belongs to another user: ask as that user, or as root", pid);
		error = -EACCES;
	}
	if (!error)
		error = sock_send(fd, &ask, sizeof ask, NULL, 0);
	if (!error)
		error = packet_receive(fd, text, room - 1, &bytes, ret_message);
	close(fd);
	if (error) {
		free(text);
		if (!*ret_message)
			MESSAGE("process %d does not answer: %s", pid, strerror(-error));
		return error;
	}
	text[bytes] = '\0';
	*ret_json = text;
	return 0;
}
