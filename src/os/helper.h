/* SPDX-License-Identifier: MIT */
/*
 * What passes between the server and the helper inside a program.
 *
 * The helper is a process that shares the program's address space without being a thread of it. It
 * decides nothing and keeps no tables: it runs single commands, one at a time, and answers each
 * with one reply of the same sequence number. If it dies between commands nothing is lost but the
 * ability to move pages out; in the middle of a move the program is ended. If the server ends without
 * HELPER_LEAVE, the helper of a program that it has taken on (HELPER_KEEP) ends that program.
 *
 *   helper               server
 *     connect  ──────────►
 *              ◄──────────  welcome (+ /dev/userfaultfd, where there is one)
 *     hello    ──────────►  (+ a userfaultfd for the program, one for the hold area, a pidfd of the program);
 *                           before the welcome, where no device is needed
 *              ◄──────────  HELPER_KEEP
 *              ◄──────────  command
 *     reply    ──────────►
 *              ◄──────────  HELPER_LEAVE, and the end
 *
 * Sequenced packets over a UNIX socket; both ends are of one version, checked by `magic`.
 */
#ifndef TIDE_HELPER_H
#define TIDE_HELPER_H

#include <stdint.h>

#define HELPER_MAGIC 0x70740004u

/* Names of the environment variables that carry the way to the server across exec. */
#define HELPER_ENV_SERVER "PAGETIDE_SERVER"
#define HELPER_ENV_PRELOAD "PAGETIDE_PRELOAD"

struct helper_welcome {
	uint32_t magic;
};

struct helper_hello {
	uint32_t magic;
	int32_t error;       /* 0, or -errno of userfaultfd: no descriptors come with this */
	uint64_t probe;      /* a mapped page of nothing, at a random address: tells whose the
				descriptor of a fork event is */
	uint64_t area;       /* the helper's own mapping: must never wait for a fault to be served */
	uint64_t area_bytes;
	uint64_t guards;     /* the address of a uint32_t in a file's mapping: HELPER_GUARDS from the moment on when the
				program begins to have guard pages (MADV_GUARD_INSTALL) */
};

#define HELPER_GUARDS 2u
#define HELPER_HELLO_FDS 3

enum helper_op {
	HELPER_MAP,      /* map a hold area of runs[0].bytes, HELPER_STAGE_BYTES of stage behind it, and
			    HELPER_STOCK_BYTES of stock behind that; reply.result: its address. Comes with the
			    pagemap of the program: where that has given up its rights, or its root has no
			    /proc, the helper cannot open its own */
	HELPER_UNMAP,    /* take all of that away again */
	HELPER_MOVE,     /* move runs out of the program into the hold area: dst <- src, holes and busy
			    pages skipped */
	HELPER_PUT,      /* move runs[0], a block that is one huge page, out of the hold area or the stock
			    into the program: dst <- src. -ENODATA: it is none (in the stock it is made
			    anew). Other errors: nothing was moved. 0: outcome[] tells */
	HELPER_DROP,     /* discard the pages of runs of the hold area or the stock (dst, bytes) */
	HELPER_POPULATE, /* break copy-on-write of present runs (dst, bytes) after a fork has ended */
	HELPER_KEEP,     /* the program is taken on. Comes with the userfaultfd of its mappings: a forked
			    child's is that of the fork's event. Not answered, as the next */
	HELPER_LEAVE,    /* the server is about to hang up in order */
};

#define HELPER_RUNS_MAX 512

/*
 * Pages go through a stage on their way out. The stage is registered with the program's userfaultfd,
 * so that no page moves while an event of the program's is on its way (its mapping may already be
 * another one); the hold area with a second one, which has no events and never makes a reader wait.
 * Two blocks: one for single pages, one for whole huge pages, which need a block without page table.
 */
#define HELPER_STAGE_BYTES (4u << 20)

/* The stock: blocks of zeros that are prepared as huge pages before they are wanted. Registered with
 * nothing: a touch there is an ordinary one. */
#define HELPER_STOCK_BLOCKS 8u
#define HELPER_STOCK_BYTES (HELPER_STOCK_BLOCKS << 21)

struct helper_run {
	uint64_t dst;
	uint64_t src;
	uint64_t bytes;
};

struct helper_command {
	uint32_t op;
	uint32_t nr_runs;
	uint64_t seq;
	struct helper_run runs[HELPER_RUNS_MAX];
};

/* Why a page of a HELPER_MOVE run was not moved. HELPER_PUT: HELPER_MOVED or HELPER_BUSY. */
enum helper_outcome {
	HELPER_MOVED,
	HELPER_HOLE,   /* no page there */
	HELPER_BUSY,   /* pinned, under I/O, or shared since a fork */
	HELPER_AGAIN,  /* nothing about the page: an event is on its way, or somebody had it for a moment */
	HELPER_DENIED, /* the mapping cannot be moved out of */
	HELPER_FAILED,
	HELPER_LOST,   /* left the program and did not arrive: must never be */
	HELPER_OUTCOME_COUNT
};

#define HELPER_PAGES_MAX 512

struct helper_reply {
	uint64_t seq;
	int64_t result;                     /* 0, an address, or -errno */
	uint64_t whole;                     /* HELPER_MOVE, HELPER_PUT: a block moved as one huge page */
	uint8_t outcome[HELPER_PAGES_MAX];  /* of every page of all runs of these, in order */
};

#endif
