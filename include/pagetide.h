/* SPDX-License-Identifier: MIT */
/*
 * pagetide: page placement for Linux from userspace.
 *
 * Every call returns 0 or a negative errno value unless it says otherwise; results named ret_ are
 * written on success only. The library prints nothing unless a call says so.
 */
#ifndef PAGETIDE_H
#define PAGETIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TIDE_API __attribute__((visibility("default")))

#define TIDE_VERSION "0.1.0"
#define TIDE_MESSAGE_MAX 512

/* ---- what this kernel and user can do -------------------------------------------------------- */

struct tide_feature {
	const char *name;    /* short and stable, e.g. "userfaultfd", "uffdio-move" */
	bool needed;         /* the main job cannot run without it */
	bool present;
	char reason[TIDE_MESSAGE_MAX]; /* why it is absent; when present what was found, or empty */
	char mend[TIDE_MESSAGE_MAX];   /* what to do about it; empty when present */
};
#define TIDE_FEATURE_MAX 32

/*
 * Probe every feature by using it, in a short-lived child where it could disturb the caller.
 * Writes at most TIDE_FEATURE_MAX entries and their number. Not thread-safe (forks).
 * Returns 0, also when features are missing; -ENOMEM, -EAGAIN when the probe itself failed.
 */
TIDE_API int tide_check(struct tide_feature features[TIDE_FEATURE_MAX], size_t *ret_nr);

/*
 * The memory that a share of memory ("40%") is a share of: the machine's, or the limit of the
 * caller's control group where that is less. Thread-safe.
 * Returns 0; -ENOENT, -EIO when /proc/meminfo cannot be read.
 */
TIDE_API int tide_memory_fetch(uint64_t *ret_bytes);

/* ---- nodes, and the memory of processes on them ---------------------------------------------- */

/*
 * The machine's NUMA nodes as JSON text (schema pagetide.topo/1), which the caller frees: memory,
 * CPUs, tiers, distances, and which are fast or slow and why. `measure`: also the time of a load,
 * about a second for each pair of a node with CPUs and one with memory; the calling thread is bound
 * to a CPU of each meanwhile. Thread-safe.
 * Returns -EIO when /sys or /proc cannot be read, with a one-line reason in `ret_message`.
 */
TIDE_API int tide_topo_fetch(bool measure, char **ret_json, char ret_message[TIDE_MESSAGE_MAX]);

/*
 * On which nodes the memory of process `pid` is, by kind, as JSON text (schema pagetide.pages/1),
 * which the caller frees. The process runs on; takes about 0.1 us for each of its pages.
 *
 * What of it is hot, warm and cold is as who looks after the process by now says (tide_attach(), asked
 * at `control_path`; NULL: at TIDE_CONTROL_PATH, and that nobody answers there is no error). With nobody who
 * knows the process, and `watch_ns` not 0, the process is watched for so long
 * first, as by tide_attach() with `dry_run`, whose rights that needs. Otherwise it is not known.
 * Thread-safe where `watch_ns` is 0, else as tide_attach().
 *
 * Returns -ESRCH (it has ended), -EPERM or -EACCES (it is another user's), -EOPNOTSUPP (a kernel
 * without NUMA), with `control_path` what tide_control() returns, with `watch_ns` what tide_attach() does;
 * with a one-line reason in `ret_message`.
 */
TIDE_API int tide_pages_fetch(int pid, const char *control_path, uint64_t watch_ns, char **ret_json,
			      char ret_message[TIDE_MESSAGE_MAX]);

struct tide_migrate_options {
	size_t size;            /* sizeof(struct tide_migrate_options); another is -EINVAL */
	int pid;
	const char *from, *to;  /* nodes as numactl writes them: "0-1,3", "!2", "all" */
	bool dry_run;           /* say what would move, move nothing */
	/* Called now and then from the calling thread; NULL: not. The sum may grow meanwhile. */
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t sum_bytes);
	void *progress_arg;
	/* Asked between batches, from the calling thread; true: end now, the rest stays. NULL: goes on to the end. */
	bool (*stop)(void *arg);
	void *stop_arg;
};

/*
 * Move what process `pid` has on some nodes to others, nearest first, where there is room; what is
 * locked, bound by a policy or not allowed there by its cpuset stays. The process runs on. Returns
 * when every page was tried, busy ones several times, or as `stop` says, and the outcome as JSON text (schema
 * pagetide.migrate/1), which the caller frees. A process that ends meanwhile is no error. Thread-safe.
 * Returns, nothing having been moved, with a one-line reason that names the mend in `ret_message`:
 *   -EINVAL                  nodes that do not exist or have no memory, or nothing to move between
 *   -ESRCH, -EPERM, -EACCES, -EOPNOTSUPP  as tide_pages_fetch()
 */
TIDE_API int tide_migrate(const struct tide_migrate_options *options, char **ret_json,
			  char ret_message[TIDE_MESSAGE_MAX]);

/* ---- pagetide run ---------------------------------------------------------------------------- */

enum tide_tier_kind { TIDE_TIER_DRAM, TIDE_TIER_LZ4, TIDE_TIER_NODE, TIDE_TIER_KIND_COUNT };

struct tide_tier_spec {
	enum tide_tier_kind kind;
	uint64_t size_bytes; /* 0: not bounded; a first TIDE_TIER_NODE needs one */
	bool verify;         /* private tiers: keep and test a checksum per page */
	uint32_t node;       /* TIDE_TIER_NODE: its number */
};
#define TIDE_TIERS_MAX 8

struct tide_run_options {
	size_t size; /* sizeof(struct tide_run_options); another is -EINVAL */
	/*
	 * Fastest first. None: dram of `memory_bytes` (below) and an unbounded lz4. Nodes: two, the fast
	 * one and the slow one, no dram or memory_bytes beside them, and lz4 behind them or not.
	 */
	struct tide_tier_spec tiers[TIDE_TIERS_MAX];
	size_t nr_tiers;
	uint64_t memory_bytes; /* bound on resident + pool + metadata together; 0: the default rule */
	uint32_t overhead_bp;  /* voluntary work, in 1/10000 of one core; default 100 (1 %) */
	bool hard;             /* kill the allocating process when every tier is full */
	bool live;             /* one refreshed line on standard error */
	bool quiet;            /* no warnings */
	bool dry_run;          /* say what would be set up, start nothing */
	bool summary;          /* the summary on standard error at the end */
	const char *stats_path; /* JSON at exit; NULL: none */
	const char *record_path; /* all that enters the engine, to be replayed; NULL: none */
	char *const *argv;      /* the program and its arguments, NULL-terminated */
};

/*
 * Run a program on tiered memory and wait until its process tree has ended.
 * Becomes the server of the tree: blocks signals, starts threads, is child subreaper meanwhile.
 * RLIMIT_NOFILE is at its hard limit and SIGPIPE ignored from then on; the program has both as they were.
 * Prints warnings and the live line on standard error unless `quiet`.
 * Returns 0 and the program's wait status (as from waitpid); -errno with a one-line reason, which
 * names the mend, in `ret_message` when nothing was started:
 *   -ENOENT, -EACCES, -ENOEXEC   the program is missing, not executable, static or setuid
 *   -EINVAL                      a budget that cannot work
 *   -EPERM, -EOPNOTSUPP, -ENOMEM the kernel or the user's rights are not enough
 * Not thread-safe; once per process.
 */
TIDE_API int tide_run(const struct tide_run_options *options, int *ret_wait_status,
		      char ret_message[TIDE_MESSAGE_MAX]);

/*
 * Ask the server `pid` (a running `pagetide run`) for its statistics: the same JSON text as
 * --stats writes at exit. The caller frees *ret_json.
 * Returns -ESRCH when there is no such server, -EACCES when it is another user's, -EBUSY when it is stopped,
 * -ETIMEDOUT when it does not answer.
 */
TIDE_API int tide_stats_fetch(int pid, char **ret_json, char ret_message[TIDE_MESSAGE_MAX]);

/* ---- pagetide attach and daemon --------------------------------------------------------------- */

struct tide_attach_options {
	size_t size;            /* sizeof(struct tide_attach_options); another is -EINVAL */
	/*
	 * Who: processes by number, then their children are followed; or those that fit one of the
	 * patterns of groups and one of the regular expressions of programs, where there are any; or as
	 * a configuration file says, which is read again at SIGHUP.
	 */
	const int *pids;
	size_t nr_pids;
	const char *const *cgroups; /* "/system.slice/web*", with all groups below */
	size_t nr_cgroups;
	const char *const *exes;    /* extended, somewhere in the path of the program */
	size_t nr_exes;
	const char *config_path;    /* with its drop-ins; nothing of the above, and no nodes, then */
	const char *fast, *slow; /* nodes as numactl writes them; NULL: as the machine says */
	const char *tiers_path; /* a file that says so in its section [tiers]; NULL: none */
	uint64_t duration_ns;   /* 0: until the last of them ends (not with a file), or a signal */
	bool dry_run;           /* sense and decide, move nothing: counters say what would move */
	/* With dry_run: as if no move were allowed, so that pages stay in the report, too; no control socket. */
	bool watch_only;
	bool quiet;             /* no warnings */
	const char *control_path;   /* of its control socket; NULL: TIDE_CONTROL_PATH, if it can be had */
	const char *metrics_file;   /* OpenMetrics text, replaced every 15 s, removed at the end; NULL: none */
	const char *metrics_listen; /* the same by HTTP: "127.0.0.1:9464", "unix:PATH"; NULL: none */
	const char *sensor;     /* hint, idle, perf, damon, soft-dirty, trace:FILE; NULL: the best that works */
};
#define TIDE_CONTROL_PATH "/run/pagetide/control"

/*
 * Look after running processes: pages in use on slow nodes go to fast ones, cold ones make room.
 * Returns when the time is over, all processes have ended, or SIGINT, SIGTERM, SIGQUIT or SIGHUP came (which
 * it handles meanwhile; SIGPIPE it ignores, and SIGHUP, too, where it was ignored before); whatever it
 * changed in the kernel's settings is put back by then.
 * Pages stay where they are then. With a configuration file it goes on without processes and waits for
 * some, and tells a service manager ($NOTIFY_SOCKET) how it is. Prints warnings on standard error unless
 * `quiet`, and in any case why a file was not read again.
 * Returns 0 and the report as JSON text (schema pagetide.attach/1), which the caller frees; -errno
 * with a one-line reason, which names the mend, in `ret_message`, nothing having been changed:
 *   -EINVAL           nodes that do not exist, have no memory, or are named as both; a pattern or a
 *                     file that is not understood; an address for metrics that is none, or that other
 *                     machines could reach; a path where no socket or file can be made; no such sensor
 *   -ESRCH            no such process
 *   -EPERM, -EACCES   needs to be root
 *   -ENODEV           there is no slow node
 *   -EOPNOTSUPP       the kernel cannot tell which pages are in use
 *   -EBUSY            another pagetide does this already
 * Not thread-safe; once at a time.
 */
TIDE_API int tide_attach(const struct tide_attach_options *options, char **ret_json,
			 char ret_message[TIDE_MESSAGE_MAX]);

/*
 * Ask who runs tide_attach() with the control socket `path` (NULL: TIDE_CONTROL_PATH), for its owner
 * and root. `verb`: "status"; "pause", "resume": it neither scans nor moves meanwhile; "tune" with
 * words "KEY=VALUE": all are changed, or none. Waits for the answer, some tenths of a second, at most
 * 30 s while it is busy, or of another PID namespace, and 10 s while it does nothing. Thread-safe.
 * Returns 0 and JSON text, which the caller frees (schema pagetide.status/1 for status, else
 * pagetide.control/1); -errno with a one-line reason, which names the mend, in `ret_message`:
 *   -EINVAL           an unknown verb or key, a wrong value, a process that is not looked after
 *   -ESRCH            nobody answers there
 *   -EACCES           it is another user's
 *   -EBUSY            it is stopped
 *   -ETIMEDOUT        it does not answer
 */
TIDE_API int tide_control(const char *path, const char *verb, const char *const *words, size_t nr_words,
			  char **ret_json, char ret_message[TIDE_MESSAGE_MAX]);

/*
 * Read a configuration file with its drop-ins; the result as one file that says the same, or `json`: as a JSON
 * document (schema pagetide.config/1), which the caller frees. Returns -EINVAL with what is wrong in
 * `ret_message`. Thread-safe.
 */
TIDE_API int tide_config_fetch(const char *path, bool json, char **ret_text, char ret_message[TIDE_MESSAGE_MAX]);

#ifdef __cplusplus
}
#endif
#endif
