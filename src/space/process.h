/* SPDX-License-Identifier: MIT */
/*
 * Another process as a space: what it maps, where its pages are, and moving them between nodes.
 *
 * The process knows nothing of it and changes at any moment: it unmaps, executes another program,
 * exits, its number is given to a stranger. So a space is bound to one process *and* one memory map:
 * a pidfd tells whether the process lives, a descriptor of its pagemap belongs to the map that was
 * there when it was opened and ends with it. Both are looked at before and after each call that
 * moves; results of a map that has gone are "space gone". (The kernel's call takes a number, not a
 * descriptor: between look and call the number would have to be given away, wrap round and be given
 * to a stranger. That takes the creation of pid_max processes within the microsecond.)
 *
 * A page is named by its address: of the page, or of a huge page's start. What must always hold:
 * each page given to process_move() gets exactly one reason. Nothing is moved that a rule forbids:
 * mlocked, special or executable shared memory, ranges with a memory policy that names other nodes,
 * nodes outside the process's cpuset.
 *
 * One thread at a time per space. 0 or -errno; -ESRCH: the process has ended; -ESTALE: it lives, but
 * with another memory map (exec): process_renew().
 */
#ifndef TIDE_PROCESS_H
#define TIDE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "move.h"
#include "node.h"
#include "reason.h"

enum process_kind {
	PROCESS_ANON,         /* private anonymous, and the private pages of private file mappings */
	PROCESS_HEAP,
	PROCESS_STACK,
	PROCESS_SHARED_ANON,  /* shared anonymous, shmem, memfd, tmpfs */
	PROCESS_FILE,
	PROCESS_HUGETLB,
	PROCESS_SPECIAL,      /* vdso, devices: never moved */
	PROCESS_KIND_COUNT
};
const char *process_kind_name(enum process_kind kind); /* short and stable: "anon", "shared_anon" ... */

enum process_policy {
	PROCESS_POLICY_DEFAULT, /* also "local": where the first touch was */
	PROCESS_POLICY_BIND,    /* bind, preferred, preferred many: only `policy_nodes` */
	PROCESS_POLICY_SPREAD,  /* interleave and its weighted form: its own business */
};

/* A device's number for what has none: segments of System V; with that of their namespace. */
#define PROCESS_DEVICE_SYSV (UINT64_C(1) << 63)

struct process_range {
	uint64_t start, end;     /* addresses */
	enum process_kind kind;
	bool shared, write, execute, locked;
	uint32_t page_bytes;     /* 4096, or what hugetlb uses */
	uint64_t inode, offset;  /* of a file or shmem: with device, who else maps it; else 0 */
	uint64_t device;         /* major << 32 | minor, or PROCESS_DEVICE_SYSV | namespace */
	bool vcpu;               /* of a guest of KVM, see proc.h */
	bool own_pages;          /* of a private mapping of a file: it has pages that nobody else has */
	enum process_policy policy;
	struct nodeset policy_nodes;
	enum reason refusal;     /* REASON_MOVED: it may be moved (to where policy allows); else why never */
};

struct process_space;

struct process_options {
	const char *root;        /* "" for the running system; a recorded tree can be read, not moved */
	uint64_t stall_ns;       /* bound on one call; 0: MOVE_STALL_NS */
	uint64_t before_ns;      /* CLOCK_BOOTTIME; who began later is another with its number: -ESRCH; 0: anybody */
};

/*
 * Open process `pid`. `map` is used until the space is closed; it may be written anew between calls.
 * -ESRCH; -EPERM, -EACCES: its memory may not be looked at (needs its user, or CAP_SYS_PTRACE).
 */
int process_open(pid_t pid, const struct process_options *options, const struct node_map *map,
		 struct process_space **ret_space);
void process_close(struct process_space *space);
/* It has ended: give its descriptors back. What was counted stays; all else gives -ESRCH from now on. */
void process_ended(struct process_space *space);

/* 0: the process lives and has the memory map that we know; -ESRCH, -ESTALE. About 10 us. -EMFILE, -ENFILE, -EACCES:
 * that cannot be told now. */
int process_look(const struct process_space *space);
/* After -ESTALE: bind to the map it has now. All addresses known before mean nothing any more. */
int process_renew(struct process_space *space);

/*
 * What it maps now, in address order, adjacent or not; valid until the next call of this or
 * process_renew(). Policies are read again when the mappings changed, else from time to time only:
 * the kernel walks all pages for them.
 */
int process_ranges(struct process_space *space, const struct process_range **ret_ranges,
		   size_t *ret_nr);
/* The range of the last reading that holds an address; NULL. */
const struct process_range *process_range_find(const struct process_space *space, uint64_t address);

/*
 * Call `visit` for each run of present pages in [start, end) on one node, in address order: 4 KiB
 * pages, or huge pages, each whole (their run starts and ends at multiples of its page_bytes, also
 * outside of [start, end)). About 0.1 us a page. Pages that are gone in between are left out, and so
 * is the zero page.
 */
struct process_run {
	uint64_t start, end;
	uint32_t page_bytes;   /* 4096; 2 MiB: mapped by one entry; hugetlb: its size */
	uint16_t node;
};
int process_where(struct process_space *space, uint64_t start, uint64_t end,
		  void (*visit)(void *arg, const struct process_run *run), void *arg);
/* The first page in [start, end), multiples of 4096, that is in memory. Next to nothing for what is not there.
 * -ENOENT: none; or the map that we know has gone. */
int process_first_present(const struct process_space *space, uint64_t start, uint64_t end, uint64_t *ret_address);
/* For single addresses: the node of each, or -errno as move_query(). */
int process_query(struct process_space *space, const uint64_t *addresses, size_t nr, int *ret_nodes);

/* One page to move. */
struct process_move {
	uint64_t address;      /* of a 4 KiB page, or the start of a huge one */
	uint32_t page_bytes;   /* 4096 or a huge page's */
	uint8_t reason;        /* out: enum reason */
	uint32_t moved_bytes;  /* out: all of it with REASON_MOVED; with another, parts of a huge page that was split
				* meanwhile: the reason is that of the rest */
};

/* What a process_move() came to, in bytes; reasons sum to the bytes asked for. Added to. */
struct process_tally {
	uint64_t asked_bytes;
	uint64_t bytes[REASON_COUNT];  /* [REASON_MOVED]: moved */
};

/*
 * Move pages to node `to`. Every page gets its reason, also when an error is returned; pages that
 * are on `to` already are ALREADY. With `from` not NULL a page on none of its nodes is NOT_SLOW.
 * Takes as many system calls as the bound on one needs. Never fills the target below its high
 * watermark: NO_ROOM. The rules are those of the last process_ranges().
 * Returns 0, or -ESRCH, -ESTALE (then what was not moved is SPACE_GONE), -EPERM, -ENODEV.
 */
int process_move(struct process_space *space, struct process_move *pages, size_t nr,
		 const struct nodeset *from, unsigned int to, struct process_tally *tally);
/* Change the bound on one call. */
void process_set_stall(struct process_space *space, uint64_t stall_ns);
/* Calls like those that another process's were like: before the first one. */
void process_set_pace(struct process_space *space, const struct move_pace *pace);
/* The calls so far: number, time, longest. */
const struct move_pace *process_pace(const struct process_space *space);

/* The nodes that the process's cpuset allows. */
int process_allowed(const struct process_space *space, struct nodeset *ret_nodes);
/*
 * Where its threads run: for each node of the map (by its index in map->nodes) the number of threads
 * that were last on one of its CPUs; running and runnable ones count alone when there are any.
 */
int process_threads(const struct process_space *space, uint32_t *ret_counts);

#endif
