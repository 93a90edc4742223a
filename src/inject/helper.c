/* SPDX-License-Identifier: MIT */
/*
 * The helper: a process inside the program's address space that is not a thread of it.
 *
 * UFFDIO_MOVE only works on the caller's own address space, so somebody must make that call from
 * inside. A thread would be seen by the program (thread count, wait, unshare, seccomp), so it is a
 * process cloned with CLONE_VM and nothing else shared: own descriptors, own session, no exit
 * signal. A first clone starts it and ends at once, so that the helper is nobody's child in the
 * program's eyes; the server, as subreaper, reaps it.
 *
 * What must always hold: this code never touches the program's thread-local data (no errno, no
 * libc call that could set it, own TLS block in case the compiler uses one), never allocates, never
 * takes a lock the program could hold, and keeps no memory of its own but one small mapping.
 */
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../os/helper.h"
#include "../os/uapi.h"

#ifndef __x86_64__
#error "the helper's system calls are written for x86-64"
#endif

#define PAGE 4096u
#define ADVICE_POPULATE_WRITE 23 /* since Linux 5.14 */
#define ADVICE_DROP 24           /* MADV_DONTNEED_LOCKED, since Linux 5.18: also after mlockall() */
#define HUGE ((uint64_t)2 << 20)
#define STACK_BYTES (32u << 10)
#define KNOWN_WAIT_NS 500000000
#define STRETCH_PAUSE_NS 50000
#define GUARD_WAIT_MS 2000
#define TLS_BYTES (8u << 10)

#ifndef HELPER_OWN_SYS6 /* a test brings a kernel of its own */
static long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#endif
/*
 * A process that begins with `begin`, which never returns, on a stack of its own. That of libc may be somebody
 * else's by now: thread sanitizer's takes every clone for a fork.
 */
__attribute__((visibility("hidden"))) long clone_begin(long flags, void *stack, int (*begin)(void *), void *arg,
						       void *tls);

/* `tls` is in r8, as the call wants it; what begins is handed over on its stack. */
__asm__(".text\n"
	".globl clone_begin\n"
	".hidden clone_begin\n"
	".type clone_begin, @function\n"
	"clone_begin:\n\t"
	"and $-16, %rsi\n\t"
	"sub $16, %rsi\n\t"
	"mov %rdx, (%rsi)\n\t"
	"mov %rcx, 8(%rsi)\n\t"
	"xor %edx, %edx\n\t"
	"xor %r10d, %r10d\n\t"
	"mov $56, %eax\n\t" /* SYS_clone */
	"syscall\n\t"
	"test %rax, %rax\n\t"
	"jz 1f\n\t"
	"ret\n"
	"1:\n\t"
	"xor %ebp, %ebp\n\t"
	"pop %rax\n\t"
	"pop %rdi\n\t"
	"call *%rax\n\t"
	"ud2\n"
	".size clone_begin, . - clone_begin\n");

#define SYS(nr, ...) SYS_(nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define SYS_(nr, a, b, c, d, e, f, ...) \
	sys6(SYS_##nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* All that the helper has: lives at the bottom of its one mapping. */
struct helper {
	const char *server;
	int program_pid;
	int socket;
	int uffd;      /* the program's: moves to the stage go through it */
	int hold_uffd; /* the hold area's: moves from the stage */
	int pagemap;   /* of its own memory; comes with HELPER_MAP */
	int self;      /* its own pidfd */
	int program;   /* a pidfd of the program */
	bool kept;     /* HELPER_KEEP: the program has pages with the server */
	_Atomic uint32_t known; /* futex, the program waits: the server knows of it, or never will */
	uint64_t mapped, mapped_bytes; /* HELPER_MAP, guards and all; 0: nothing */
	uint64_t stage, stock;
	struct helper_command command;
	struct helper_reply reply;
	struct iovec parts[HELPER_RUNS_MAX]; /* of the address space, for one call */
	char control[CMSG_SPACE(sizeof(int) * HELPER_HELLO_FDS)] __attribute__((aligned(8)));
	char tls[TLS_BYTES] __attribute__((aligned(64)));
	char stack[STACK_BYTES] __attribute__((aligned(64)));
};
/* That between two guards. */
#define AREA_BYTES ((sizeof(struct helper) + 3 * PAGE - 1) & ~(size_t)(PAGE - 1))

_Atomic uint32_t helper_guards = HELPER_GUARDS - 1;

bool libc_makes_guards(const char *version)
{
	uint32_t parts[2] = { 0 };

	for (unsigned i = 0; *version && i < 2; version++) {
		if (*version < '0' || *version > '9')
			i += *version == '.' ? 1 : 2;
		else
			parts[i] = 10 * parts[i] + (uint32_t)(*version - '0');
	}
	return parts[0] > 2 || (parts[0] == 2 && parts[1] >= 42);
}

static int packet_send(struct helper *h, const void *data, size_t bytes, const int *fds, size_t nr)
{
	struct iovec part = { .iov_base = (void *)(uintptr_t)data, .iov_len = bytes };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (nr) {
		struct cmsghdr *c = (struct cmsghdr *)(void *)h->control;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nr);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nr);
		message.msg_control = h->control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * nr);
	}
	return SYS(sendmsg, h->socket, &message, MSG_NOSIGNAL) == (long)bytes ? 0 : -EPIPE;
}

/* Returns the bytes received, 0 at the end; *ret_fd is the descriptor that came along, or -1. */
static long packet_receive(struct helper *h, void *data, size_t room, int *ret_fd)
{
	struct iovec part = { .iov_base = data, .iov_len = room };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = h->control,
		.msg_controllen = sizeof h->control,
	};

	long n = SYS(recvmsg, h->socket, &message, MSG_CMSG_CLOEXEC);
	*ret_fd = -1;
	const struct cmsghdr *c = (const struct cmsghdr *)(void *)h->control;
	if (n > 0 && message.msg_controllen >= sizeof *c && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return n;
}

static int server_connect(struct helper *h)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = strlen(h->server);

	if (length > sizeof address.sun_path - 2)
		return -EINVAL;
	memcpy(address.sun_path + 1, h->server, length);
	h->socket = (int)SYS(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (h->socket < 0)
		return h->socket;
	return (int)SYS(connect, h->socket, &address,
			offsetof(struct sockaddr_un, sun_path) + 1 + length);
}

/* Through the device if the server could open it, else by the system call. */
static int uffd_open(int device)
{
	long flags = O_CLOEXEC | O_NONBLOCK;

	if (device >= 0)
		return (int)SYS(ioctl, device, USERFAULTFD_IOC_NEW, flags);
	return (int)SYS(userfaultfd, flags);
}

static uint64_t random_address(void)
{
	uint64_t bits = 0;

	SYS(getrandom, &bits, sizeof bits, 0);
	/* 16 TiB .. 80 TiB: clear of programs, heaps and the mmap area's top. */
	return ((uint64_t)16 << 40) + (bits % ((uint64_t)64 << 40) & ~(uint64_t)(PAGE - 1));
}

static int uffds_open(struct helper *h, int device)
{
	h->uffd = uffd_open(device);
	if (h->uffd < 0)
		return h->uffd;
	h->hold_uffd = uffd_open(device);
	if (h->hold_uffd < 0)
		SYS(close, h->uffd);
	return h->hold_uffd < 0 ? h->hold_uffd : 0;
}

/* `error`: why there are no userfaultfds, or 0. */
static int hello_say(struct helper *h, int error)
{
	struct helper_hello hello = {
		.magic = HELPER_MAGIC,
		.error = error,
		.area = (uint64_t)(uintptr_t)h - PAGE,
		.area_bytes = AREA_BYTES,
		.guards = (uint64_t)(uintptr_t)&helper_guards,
	};
	if (error) {
		(void)packet_send(h, &hello, sizeof hello, NULL, 0);
		return error;
	}
	hello.probe = (uint64_t)SYS(mmap, random_address(), PAGE, PROT_READ,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	SYS(madvise, hello.probe, PAGE, MADV_DONTFORK);
	/* A number would mean another process where the server is, if this is a namespace of its own. */
	h->program = (int)SYS(pidfd_open, h->program_pid, 0);
	if (h->program < 0)
		return h->program;
	int fds[HELPER_HELLO_FDS] = { h->uffd, h->hold_uffd, h->program };
	return packet_send(h, &hello, sizeof hello, fds, HELPER_HELLO_FDS);
}

static int welcome_take(struct helper *h, int *ret_device)
{
	struct helper_welcome welcome;

	if (packet_receive(h, &welcome, sizeof welcome, ret_device) != sizeof welcome ||
	    welcome.magic != HELPER_MAGIC)
		return -EPROTO;
	return 0;
}

/* The program may go on: the server knows of it, or never will. */
static void program_release(struct helper *h)
{
	atomic_store(&h->known, 1);
	SYS(futex, &h->known, FUTEX_WAKE_PRIVATE, 1);
}

/* The hello is there for the server to read before the program goes on. Who may open a userfaultfd without
 * the server's device need not wait for the welcome first: at exec that would be most of the time. */
static int server_meet(struct helper *h)
{
	int device = -1, error = server_connect(h);
	bool alone = !error && !uffds_open(h, -1);

	if (alone) {
		error = hello_say(h, 0);
		program_release(h);
	}
	if (!error)
		error = welcome_take(h, &device);
	if (!error && !alone)
		error = hello_say(h, uffds_open(h, device));
	if (device >= 0)
		SYS(close, device);
	return error;
}

static void area_unmap(struct helper *h)
{
	if (!h->mapped)
		return;
	SYS(munmap, h->mapped, h->mapped_bytes);
	h->mapped = 0;
	if (h->pagemap >= 0)
		SYS(close, h->pagemap);
	h->pagemap = -1;
}

/* An own 2 MiB-aligned area between guards, so that it merges with nothing of the program's. */
static int64_t area_map(struct helper *h, uint64_t bytes)
{
	uint64_t all = bytes + HELPER_STAGE_BYTES + HELPER_STOCK_BYTES;
	long base = SYS(mmap, 0, all + 2 * HUGE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base < 0 && base > -4096)
		return base;
	uint64_t start = ((uint64_t)base + HUGE) & ~(HUGE - 1);
	/* After mlockall(MCL_FUTURE) it would be locked and filled, unlike what is to move there. */
	SYS(munlock, base, all + 2 * HUGE);
	long error = SYS(mprotect, start, all, PROT_READ | PROT_WRITE);
	if (!error)
		error = SYS(madvise, base, all + 2 * HUGE, MADV_DONTFORK);
	SYS(madvise, base, all + 2 * HUGE, MADV_DONTDUMP);
	h->stage = start + bytes;
	h->stock = h->stage + HELPER_STAGE_BYTES;
	SYS(madvise, h->stock, HELPER_STOCK_BYTES, MADV_HUGEPAGE);
	if (!error && h->pagemap < 0)
		error = -EBADF;
	h->mapped = (uint64_t)base;
	h->mapped_bytes = all + 2 * HUGE;
	if (error)
		area_unmap(h);
	return error ? error : (int64_t)start;
}

static enum helper_outcome outcome_of(long error)
{
	switch (error) {
	case -ENOENT:
		return HELPER_HOLE;
	case -EBUSY:
		return HELPER_BUSY;
	case -EAGAIN:
		return HELPER_AGAIN;
	case -EINVAL:
		return HELPER_DENIED;
	default:
		return HELPER_FAILED;
	}
}

/* Whether the block at `address` is one huge page. */
static bool block_huge(struct helper *h, uint64_t address)
{
	struct page_region found;
	struct pm_scan_arg scan = {
		.size = sizeof scan,
		.start = address,
		.end = address + HUGE,
		.vec = (uint64_t)(uintptr_t)&found,
		.vec_len = 1,
		.category_mask = PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};

	return SYS(ioctl, h->pagemap, PAGEMAP_SCAN, &scan) == 1 && found.start == address &&
	       found.end == address + HUGE;
}

/* What is at an address. */
enum there { THERE_NOTHING, THERE_ZEROS, THERE_PAGE };

static enum there there_look(struct helper *h, uint64_t address)
{
	struct page_region found;
	struct pm_scan_arg scan = {
		.size = sizeof scan,
		.start = address,
		.end = address + PAGE,
		.vec = (uint64_t)(uintptr_t)&found,
		.vec_len = 1,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO,
	};

	if (SYS(ioctl, h->pagemap, PAGEMAP_SCAN, &scan) != 1)
		return THERE_NOTHING;
	return found.categories & PAGE_IS_PFNZERO ? THERE_ZEROS : THERE_PAGE;
}

/*
 * Whether a page of the program went into the stage, although the call that moves it gave an error.
 * The kernel may move pages, many at once, without reporting them; what it says then and to the next
 * call is EEXIST, EAGAIN when an event is on its way, EINVAL when the mapping has become read-only:
 * anything. Only where pages are tells. The program may have touched the stage, but by reading, which
 * leaves the page of zeros: that is never worth keeping. And behind a page that went, the program may
 * have mapped another.
 */
static bool page_staged(struct helper *h, uint64_t stage, uint64_t src)
{
	struct uffdio_move move = { .dst = stage, .src = src, .len = PAGE,
				    .mode = UFFDIO_MOVE_MODE_DONTWAKE };

	if (there_look(h, stage) != THERE_PAGE)
		return false;
	if (there_look(h, src) == THERE_NOTHING)
		return true;
	/* Both: without an event on its way `src` is what it was, and the program wrote into the stage. */
	return SYS(ioctl, h->uffd, UFFDIO_MOVE, &move) == -EAGAIN;
}

/* The same on the way to the hold area. Nobody maps anything anew here, but reads at either end. */
static bool page_arrived(struct helper *h, uint64_t dst, uint64_t stage)
{
	enum there to = there_look(h, dst), from = there_look(h, stage);

	return to != THERE_NOTHING && (from == THERE_NOTHING || (from == THERE_ZEROS && to == THERE_PAGE));
}

/*
 * Move pages of one run, going on behind every page that will not move; outcome[] tells of each.
 * A partial move reports the bytes done; calling again at the next page tells its true error.
 * EAGAIN without progress is a page locked for a moment, or the program changing its mappings, when none of the
 * others goes either: tried a few times, and then once a page until one goes. EINVAL may come of a run that spans
 * two mappings: then less of it is tried.
 */
static void pages_move(struct helper *h, uint64_t dst, uint64_t src, uint64_t bytes, uint8_t *outcome)
{
	uint64_t len = bytes;
	unsigned tries = 0;

	for (uint64_t at = 0; at < bytes;) {
		struct uffdio_move move = {
			.dst = dst + at,
			.src = src + at,
			.len = len < bytes - at ? len : bytes - at,
			.mode = UFFDIO_MOVE_MODE_DONTWAKE,
		};
		long error = SYS(ioctl, h->uffd, UFFDIO_MOVE, &move);
		uint64_t done = !error ? move.len : move.move > 0 ? (uint64_t)move.move : 0;
		memset(outcome + at / PAGE, HELPER_MOVED, done / PAGE);
		at += done;
		if (done) {
			tries = 0;
			len = len < bytes ? 2 * len : len;
		} else if (error == -EINVAL && move.len > PAGE) {
			len = move.len / 2 & ~(uint64_t)(PAGE - 1);
		} else if (error != -EAGAIN || ++tries >= 8) {
			outcome[at / PAGE] = (uint8_t)outcome_of(error);
			if (page_staged(h, dst + at, src + at))
				outcome[at / PAGE] = HELPER_MOVED;
			at += PAGE;
		}
	}
}

/* Move all of a stretch from the stage on; returns the pages that arrived. Nobody else knows these
 * pages, yet a reader of all memory may hold one for a moment: then try again. */
static uint64_t stretch_move(struct helper *h, uint64_t dst, uint64_t stage, uint64_t pages)
{
	const struct timespec pause = { .tv_nsec = STRETCH_PAUSE_NS };
	uint64_t at = 0;

	for (unsigned tries = 0; at < pages && tries < 10000; tries++) {
		struct uffdio_move move = {
			.dst = dst + at * PAGE,
			.src = stage + at * PAGE,
			.len = (pages - at) * PAGE,
			.mode = UFFDIO_MOVE_MODE_DONTWAKE,
		};
		long error = SYS(ioctl, h->hold_uffd, UFFDIO_MOVE, &move);
		if (!error)
			return pages;
		if (move.move > 0)
			at += (uint64_t)move.move / PAGE;
		else if (error == -EEXIST && page_arrived(h, move.dst, move.src))
			at++;
		else if (error == -EEXIST) { /* the program touched a free place, by mlockall() perhaps all */
			SYS(munlock, h->mapped, h->mapped_bytes);
			SYS(madvise, dst + at * PAGE, PAGE, ADVICE_DROP);
		} else if (error == -ENOENT)
			return at;
		else /* asleep: it may be real-time, and who holds the page wait for its CPU */
			SYS(nanosleep, &pause, NULL);
	}
	return at;
}

/* A page of the command: where it goes. */
static uint64_t page_dst(const struct helper_command *c, uint32_t run, uint64_t page)
{
	return c->runs[run].dst + page * PAGE;
}

/*
 * Bring what reached the stage to the hold area. The stage holds the command's pages in order, and
 * places of the hold area follow one another mostly, so this is a few large moves even where every page
 * came from elsewhere.
 */
static void stage_empty(struct helper *h, uint64_t stage, uint32_t first, uint32_t last)
{
	const struct helper_command *c = &h->command;
	uint8_t *outcome = h->reply.outcome;
	uint64_t start = 0, dst = 0, nr = 0, page = 0;

	for (uint32_t i = 0; i < first; i++)
		page += c->runs[i].bytes / PAGE;
	for (uint32_t i = first; i <= last; i++) {
		uint64_t run_pages = i < last ? c->runs[i].bytes / PAGE : 1;
		for (uint64_t k = 0; k < run_pages; k++, page++) {
			bool moved = i < last && outcome[page] == HELPER_MOVED;
			if (moved && nr && page == start + nr && page_dst(c, i, k) == dst + nr * PAGE) {
				nr++;
				continue;
			}
			/* The stretch ends here. */
			uint64_t arrived = nr ? stretch_move(h, dst, stage + start * PAGE, nr) : 0;
			memset(outcome + start + arrived, HELPER_LOST, nr - arrived);
			nr = moved;
			start = page;
			if (moved)
				dst = page_dst(c, i, k);
			/* The program wrote into the stage itself: out with that page. */
			else if (i < last && outcome[page] == HELPER_FAILED &&
				 stretch_move(h, page_dst(c, i, k), stage + page * PAGE, 1))
				SYS(madvise, page_dst(c, i, k), PAGE, ADVICE_DROP);
		}
	}
}

static void runs_move(struct helper *h)
{
	const struct helper_command *c = &h->command;
	uint64_t page = 0;

	for (uint32_t i = 0; i < c->nr_runs; i++)
		page += c->runs[i].bytes / PAGE;
	if (page > HELPER_PAGES_MAX) {
		h->reply.result = -E2BIG;
		return;
	}
	page = 0;
	for (uint32_t i = 0; i < c->nr_runs; i++) {
		const struct helper_run *run = &c->runs[i];
		uint64_t pages = run->bytes / PAGE;
		/* A whole block alone: a huge page needs a stage without page table, and a place. */
		bool huge = run->bytes == HUGE && block_huge(h, run->src);
		if (huge)
			SYS(madvise, run->dst, HUGE, ADVICE_DROP);
		pages_move(h, h->stage + huge * HUGE + page * PAGE, run->src, run->bytes,
			   h->reply.outcome + page);
		if (huge) {
			stage_empty(h, h->stage + HUGE, 0, 1);
			h->reply.whole = block_huge(h, run->dst);
			return;
		}
		page += pages;
	}
	stage_empty(h, h->stage, 0, c->nr_runs);
}

/* A new, empty block of the stock, without a page table: a huge page fits in again. */
static void stock_renew(struct helper *h, uint64_t block)
{
	if (block < h->stock || block >= h->stock + HELPER_STOCK_BYTES)
		return;
	SYS(mmap, block, HUGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	SYS(munlock, block, HUGE);
	SYS(madvise, block, HUGE, MADV_HUGEPAGE);
	SYS(madvise, block, HUGE, MADV_DONTFORK);
	SYS(madvise, block, HUGE, MADV_DONTDUMP);
}

/*
 * A block came apart on its way: a page table was there already. A page that is no longer in its source has gone,
 * whatever the call says; one that is, stays there. No second call is made for those: the server, when we do not
 * answer, keeps the kernel from moving all of the block, and could not do that for parts.
 */
static void pages_look(struct helper *h, const struct helper_run *run)
{
	for (uint64_t at = 0; at < HUGE; at += PAGE) {
		bool there = there_look(h, run->src + at) == THERE_PAGE;
		h->reply.outcome[at / PAGE] = there ? HELPER_BUSY : HELPER_MOVED;
	}
}

static void block_put(struct helper *h)
{
	const struct helper_run *run = &h->command.runs[0];
	struct uffdio_move move = { .dst = run->dst, .src = run->src, .len = HUGE,
				    .mode = UFFDIO_MOVE_MODE_DONTWAKE };
	long error = -ENODATA;

	if (run->bytes == HUGE && block_huge(h, run->src))
		error = SYS(ioctl, h->uffd, UFFDIO_MOVE, &move);
	else
		stock_renew(h, run->src);
	if (error && (error == -ENODATA || block_huge(h, run->src))) {
		h->reply.result = error;
		return;
	}
	memset(h->reply.outcome, HELPER_MOVED, sizeof h->reply.outcome);
	h->reply.whole = !error && block_huge(h, run->dst);
	if (error)
		pages_look(h, run);
	if (!h->reply.whole)
		stock_renew(h, run->src);
}

/* One call for each run; 0, or the last error. */
static long runs_advise(struct helper *h, long advice)
{
	const struct helper_command *c = &h->command;
	long result = 0;

	for (uint32_t i = 0; i < c->nr_runs; i++) {
		long error = SYS(madvise, c->runs[i].dst, c->runs[i].bytes, advice);
		result = error ? error : result;
	}
	return result;
}

/* All at once, where the kernel takes that from a process about itself (since 6.13): a call for each run
 * flushes the TLB each time, which takes longer than all else about a page. */
static long runs_drop(struct helper *h)
{
	const struct helper_command *c = &h->command;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < c->nr_runs; i++) {
		h->parts[i] = (struct iovec){ (void *)(uintptr_t)c->runs[i].dst, c->runs[i].bytes };
		bytes += c->runs[i].bytes;
	}
	if (SYS(process_madvise, h->self, h->parts, c->nr_runs, ADVICE_DROP, 0) == (long)bytes)
		return 0;
	return runs_advise(h, ADVICE_DROP);
}

static void command_run(struct helper *h)
{
	struct helper_command *c = &h->command;
	struct helper_reply *r = &h->reply;

	r->seq = c->seq;
	r->result = 0;
	r->whole = 0;
	if (c->nr_runs > HELPER_RUNS_MAX) {
		r->result = -E2BIG;
		return;
	}
	if (c->op == HELPER_MOVE)
		runs_move(h);
	if (c->op == HELPER_PUT && c->nr_runs)
		block_put(h);
	if (c->op == HELPER_MAP && c->nr_runs)
		r->result = area_map(h, c->runs[0].bytes);
	if (c->op == HELPER_UNMAP)
		area_unmap(h);
	if (c->op == HELPER_DROP)
		r->result = runs_drop(h);
	if (c->op == HELPER_POPULATE)
		r->result = runs_advise(h, ADVICE_POPULATE_WRITE);
}

static void descriptor_take(struct helper *h, int fd)
{
	int *own = h->command.op == HELPER_MAP ? &h->pagemap : &h->uffd;

	if (*own >= 0)
		SYS(close, *own);
	*own = fd;
}

/*
 * Until the server lets go, or has ended. Not until the program ends: what is in the hold area may still be
 * wanted then by a child it has forked, and lives as long as this address space does.
 */
static void helper_serve(struct helper *h)
{
	for (;;) {
		int fd;
		long bytes = packet_receive(h, &h->command, sizeof h->command, &fd);
		if (bytes < (long)offsetof(struct helper_command, runs))
			return;
		if (fd >= 0)
			descriptor_take(h, fd);
		if (h->command.op == HELPER_LEAVE)
			h->kept = false;
		h->kept |= h->command.op == HELPER_KEEP;
		if (h->command.op == HELPER_LEAVE || h->command.op == HELPER_KEEP)
			continue;
		command_run(h);
		bool told = h->command.op == HELPER_MOVE || h->command.op == HELPER_PUT;
		size_t length = told ? sizeof h->reply : offsetof(struct helper_reply, outcome);
		/* That there is nobody to read it is no word yet of how we were left: that may be there, unread. */
		(void)packet_send(h, &h->reply, length, NULL, 0);
	}
}

/*
 * The server ended without a word. As long as we have the userfaultfd the program waits at its next stored
 * page, instead of going on with zeros. The guard ends it, and says so; but it may have been killed, too.
 */
static void program_end(struct helper *h)
{
	struct pollfd ended = { .fd = h->program, .events = POLLIN };

	if (SYS(poll, &ended, 1, GUARD_WAIT_MS) > 0)
		return;
	SYS(pidfd_send_signal, h->program, SIGKILL, NULL, 0);
	SYS(poll, &ended, 1, -1); /* its threads may not have been told yet */
}

static int helper_main(void *arg)
{
	struct helper *h = arg;

	SYS(setsid, 0);
	SYS(close_range, 0, ~0u, 0);
	/* Not "pagetide": who kills that by its name would kill who sees to it that nobody outlives it. */
	SYS(prctl, PR_SET_NAME, "tide-helper", 0, 0, 0);
	SYS(chdir, "/");
	int error = server_meet(h);
	program_release(h);
	h->self = (int)SYS(pidfd_open, SYS(getpid, 0), 0);
	if (!error)
		helper_serve(h);
	if (h->kept)
		program_end(h);
	/* All of the program's memory may go with it, which takes long: not before everybody else. */
	SYS(sched_setscheduler, 0, SCHED_OTHER, &(const struct sched_param){ 0 });
	SYS(exit_group, 0);
	__builtin_unreachable();
}

/* Runs for a moment with the parent stopped (CLONE_VFORK), on the upper half of the stack. */
static int starter_main(void *arg)
{
	struct helper *h = arg;
	void **tcb = (void **)(void *)(h->tls + TLS_BYTES / 2);

	tcb[0] = tcb; /* the thread pointer points at itself, as the ABI wants */
	tcb[2] = tcb;
	clone_begin(CLONE_VM | CLONE_SETTLS | CLONE_UNTRACED, h->stack + STACK_BYTES / 2, helper_main, h, tcb);
	SYS(exit, 0);
	__builtin_unreachable();
}

/* On a busy machine the program could fill all memory before its helper runs for the first time. */
static void known_wait(struct helper *h)
{
	const struct timespec longest = { .tv_nsec = KNOWN_WAIT_NS };

	while (!atomic_load(&h->known))
		if (SYS(futex, &h->known, FUTEX_WAIT_PRIVATE, 0, &longest) == -ETIMEDOUT)
			return;
}

/*
 * Whether this is the first process of a PID namespace, which every orphan there becomes a child of, the
 * helper as well: it would wait for that one for ever. Or its first child will be the first: that must not
 * be the starter, with which the namespace would end.
 */
static bool namespace_first(void)
{
	char own[64], childrens[64];
	ssize_t a = readlink("/proc/self/ns/pid", own, sizeof own);
	ssize_t b = readlink("/proc/self/ns/pid_for_children", childrens, sizeof childrens);

	/* With no process in it yet there is no name for the children's. */
	return getpid() == 1 || (a > 0 && (a != b || memcmp(own, childrens, (size_t)a) != 0));
}

void helper_start(const char *server, bool wait)
{
	sigset_t all, before;
	int saved_errno = errno;

	/* Under a system call filter the helper's calls could kill it, or the clone the program. */
	if (prctl(PR_GET_SECCOMP) != 0 || namespace_first())
		goto out;
	char *area = mmap(NULL, AREA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		goto out;
	if (mprotect(area + PAGE, AREA_BYTES - 2 * PAGE, PROT_READ | PROT_WRITE) ||
	    madvise(area, AREA_BYTES, MADV_DONTFORK)) {
		munmap(area, AREA_BYTES);
		goto out;
	}
	madvise(area, AREA_BYTES, MADV_DONTDUMP);
	struct helper *h = (struct helper *)(void *)(area + PAGE);
	h->server = server;
	h->program_pid = getpid();
	h->pagemap = -1;
	/* The helper inherits the mask: no signal of the program's is ever its own. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* The program may take in orphans, but not this one. */
	int takes_in = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &takes_in);
	if (takes_in)
		prctl(PR_SET_CHILD_SUBREAPER, 0);
	long starter = clone_begin(CLONE_VM | CLONE_VFORK | CLONE_UNTRACED, h->stack + STACK_BYTES, starter_main, h,
				   NULL);
	if (starter > 0) /* not libc's: fork() would become a place where a thread can be cancelled */
		SYS(wait4, starter, 0, __WALL);
	if (takes_in)
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (starter > 0 && wait)
		known_wait(h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
out:
	errno = saved_errno;
}
