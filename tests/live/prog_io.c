/* SPDX-License-Identifier: MIT */
/*
 * Live cases: the kernel reads from and writes into stored pages on the program's behalf.
 *
 * System calls fault in the kernel, direct and ring input and output pin pages and write them
 * behind the page table, and vmsplice lends them to a pipe. Every byte on both sides is compared.
 */
#include "live.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#ifdef LIVE_HAVE_LIBURING
#include <liburing.h>
#endif

struct sender {
	int fd;
	uint64_t seed;
	size_t nr_pages;
	const struct arena *from; /* NULL: make the pages up */
	pthread_t thread;
};

static void write_all(int fd, const unsigned char *at, size_t length)
{
	while (length > 0) {
		ssize_t done = write(fd, at, length);

		CHECK(done > 0);
		at += done;
		length -= (size_t)done;
	}
}

static void read_all(int fd, unsigned char *at, size_t length)
{
	while (length > 0) {
		ssize_t done = read(fd, at, length);

		CHECK(done > 0);
		at += done;
		length -= (size_t)done;
	}
}

static void *sender_run(void *argument)
{
	struct sender *sender = argument;
	unsigned char page[PAGE_BYTES];

	for (size_t i = 0; i < sender->nr_pages && !sender->from; i++) {
		pattern_page(page, sender->seed, i, 1);
		write_all(sender->fd, page, PAGE_BYTES);
	}
	/* Pieces of no round size, so that a call ends in the middle of pages. */
	for (size_t at = 0; sender->from && at < sender->nr_pages * PAGE_BYTES;) {
		size_t left = sender->nr_pages * PAGE_BYTES - at;
		size_t length = left < 50001 ? left : 50001;

		write_all(sender->fd, sender->from->base + at, length);
		at += length;
	}
	return NULL;
}

static void sender_start(struct sender *sender)
{
	CHECK(pthread_create(&sender->thread, NULL, sender_run, sender) == 0);
}

/* Stored pages go out through one descriptor and come in, over other stored pages, by another. */
static void stream_through(int in, int out)
{
	size_t nr = live_pages() / 2;
	struct arena source = arena_new(nr, 1), target = arena_new(nr, 2);
	struct sender sender = { .fd = out, .nr_pages = nr, .from = &source };

	arena_fill(&source, 0, nr, 1);
	arena_fill(&target, 0, nr, 1);
	arena_cold(&target, 0, nr);
	arena_cold(&source, 0, nr);
	sender_start(&sender);
	for (size_t at = 0; at < nr * PAGE_BYTES;) {
		size_t left = nr * PAGE_BYTES - at, length = left < 77777 ? left : 77777;

		read_all(in, target.base + at, length);
		at += length;
	}
	CHECK(pthread_join(sender.thread, NULL) == 0);
	target.seed = 1;
	arena_check(&target, 0, nr);
	arena_check(&source, 0, nr);
	arena_cold(&target, 0, nr);
	arena_check(&target, 0, nr);
}

static void pipe_stored_pages(void)
{
	int fds[2];

	CHECK(pipe(fds) == 0);
	stream_through(fds[0], fds[1]);
}

static void socket_stored_pages(void)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	stream_through(fds[0], fds[1]);
}

/* Scattered pieces in one call, each on a stored page of its own. */
static void scattered_pieces(void)
{
	size_t nr = live_pages();
	struct arena arena = arena_new(nr, 3);
	struct iovec pieces[64];
	struct sender sender = { .seed = 30, .nr_pages = 64 };
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	sender.fd = fds[1];
	arena_fill(&arena, 0, nr, 1);
	for (size_t round = 0; round < 20; round++) {
		size_t step = nr / 64, got = 0, i = 0;

		arena_cold(&arena, 0, nr);
		sender_start(&sender);
		for (size_t j = 0; j < 64; j++)
			pieces[j] = (struct iovec){ arena_page(&arena, j * step + round),
						    PAGE_BYTES };
		while (i < 64) {
			struct msghdr message = { .msg_iov = pieces + i, .msg_iovlen = 64 - i };
			ssize_t done = recvmsg(fds[0], &message, 0);

			CHECK(done > 0);
			got += (size_t)done;
			for (; i < 64 && (size_t)done >= pieces[i].iov_len; i++)
				done -= (ssize_t)pieces[i].iov_len;
			if (i < 64) {
				pieces[i].iov_base = (char *)pieces[i].iov_base + done;
				pieces[i].iov_len -= (size_t)done;
			}
		}
		CHECK(got == 64 * PAGE_BYTES && pthread_join(sender.thread, NULL) == 0);
		for (size_t j = 0; j < 64; j++)
			page_check(arena_page(&arena, j * step + round), 30, j, 1);
		for (size_t j = 0; j < 64; j++)
			arena_fill(&arena, j * step + round, j * step + round + 1, 1);
	}
	arena_check(&arena, 0, nr);
}

/* Calls that take small structures by pointer, each pointer into a page that is not there. */
static void calls_with_stored_structures_rule25(void)
{
	size_t nr = live_pages(), at = 0;
	struct arena arena = arena_new(nr, 4);
	struct stat *status;
	struct pollfd *poll_fd;
	struct timespec *now, past;
	unsigned char *noise, zeros[256] = { 0 };
	char *path;
	int fd;

	arena_fill(&arena, 0, nr, 1);
	for (unsigned int round = 0; round < 10; round++) {
		arena_cold(&arena, 0, nr);
		path = (char *)arena_page(&arena, at++);
		strcpy(path, "/dev/null");
		fd = open(path, O_RDWR | O_CLOEXEC);
		CHECK(fd >= 0);
		status = (struct stat *)(void *)arena_page(&arena, at++);
		CHECK(fstat(fd, status) == 0 && S_ISCHR(status->st_mode));
		poll_fd = (struct pollfd *)(void *)arena_page(&arena, at++);
		*poll_fd = (struct pollfd){ .fd = fd, .events = POLLOUT };
		CHECK(poll(poll_fd, 1, 0) == 1 && poll_fd->revents & POLLOUT);
		now = (struct timespec *)(void *)arena_page(&arena, at++);
		clock_gettime(CLOCK_MONOTONIC, &past);
		CHECK(clock_gettime(CLOCK_MONOTONIC, now) == 0 && now->tv_sec >= past.tv_sec);
		/* Across a page border, both sides stored. */
		noise = arena_page(&arena, at + 1) - 128;
		memset(noise, 0, 256);
		CHECK(getrandom(noise, 256, 0) == 256 && memcmp(noise, zeros, 256) != 0);
		at += 2;
		CHECK(readlink("/proc/self/exe", (char *)arena_page(&arena, at++), 4096) > 0);
		close(fd);
		arena_check(&arena, at, nr);
	}
	arena_fill(&arena, 0, at, 1);
	arena_check(&arena, 0, nr);
}

/* ---- files ----------------------------------------------------------------------------------- */

static int file_open_unnamed(int flags)
{
	const char *folder = getenv("LIVE_TMP");
	int fd = open(folder ? folder : ".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);

	if (fd < 0 && (errno == EINVAL || errno == EOPNOTSUPP))
		live_skip("the file system of the test folder has no %s",
			  flags & O_DIRECT ? "O_DIRECT" : "O_TMPFILE");
	CHECK(fd >= 0);
	return fd;
}

static void file_there_and_back(int fd)
{
	size_t nr = live_pages() / 2, run = 96;
	struct arena source = arena_new(nr, 10), target = arena_new(nr, 11);

	arena_fill(&source, 0, nr, 1);
	arena_fill(&target, 0, nr, 1);
	for (uint32_t round = 2; round < 4; round++) {
		arena_cold(&source, 0, nr);
		for (size_t i = 0; i < nr; i += run) {
			size_t length = (nr - i < run ? nr - i : run) * PAGE_BYTES;

			CHECK(pwrite(fd, arena_page(&source, i), length,
				     (off_t)(i * PAGE_BYTES)) == (ssize_t)length);
		}
		arena_cold(&target, 0, nr);
		for (size_t i = 0; i < nr; i += run) {
			size_t length = (nr - i < run ? nr - i : run) * PAGE_BYTES;

			CHECK(pread(fd, arena_page(&target, i), length,
				    (off_t)(i * PAGE_BYTES)) == (ssize_t)length);
		}
		target.seed = source.seed;
		memcpy(target.generation, source.generation, nr * sizeof(uint32_t));
		live_press();
		arena_check(&target, 0, nr);
		arena_check(&source, 0, nr);
		arena_fill(&source, 0, nr / 2, round);
	}
}

static void file_buffered(void)
{
	file_there_and_back(file_open_unnamed(0));
}

static void file_direct_rule13(void)
{
	file_there_and_back(file_open_unnamed(O_DIRECT));
}

static void *press_until(void *argument)
{
	atomic_bool *stop = argument;

	while (!atomic_load(stop))
		live_press();
	return NULL;
}

/* Direct reads land in pages that pressure is moving out at the same time. */
static void file_direct_under_pressure_rule13(void)
{
	size_t nr = live_pages() / 4, run = 16;
	int fd = file_open_unnamed(O_DIRECT);
	struct arena arena = arena_new(nr, 12);
	atomic_bool stop = false;
	pthread_t presser;
	uint64_t state = 12;

	arena_fill(&arena, 0, nr, 1);
	CHECK(pwrite(fd, arena.base, nr * PAGE_BYTES, 0) == (ssize_t)(nr * PAGE_BYTES));
	arena_cold(&arena, 0, nr);
	CHECK(pthread_create(&presser, NULL, press_until, &stop) == 0);
	for (unsigned int round = 0; round < 400; round++) {
		size_t i = live_random(&state) % (nr - run);

		for (size_t j = i; j < i + run; j++)
			memset(arena_page(&arena, j), 0xee, PAGE_BYTES);
		CHECK(pread(fd, arena_page(&arena, i), run * PAGE_BYTES,
			    (off_t)(i * PAGE_BYTES)) == (ssize_t)(run * PAGE_BYTES));
		arena_check(&arena, i, i + run);
	}
	atomic_store(&stop, true);
	CHECK(pthread_join(presser, NULL) == 0);
	arena_check(&arena, 0, nr);
}

/* ---- io_uring -------------------------------------------------------------------------------- */

#ifdef LIVE_HAVE_LIBURING
static void ring_open(struct io_uring *ring)
{
	int error = io_uring_queue_init(64, ring, 0);

	if (error)
		live_skip("io_uring is not allowed here: %s", strerror(-error));
}

static void ring_wait(struct io_uring *ring, unsigned int nr, int expected)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct io_uring_cqe *cqe;

		CHECK(io_uring_wait_cqe(ring, &cqe) == 0);
		if (cqe->res != expected)
			live_fail("io_uring gave %d, not %d", cqe->res, expected);
		io_uring_cqe_seen(ring, cqe);
	}
}

static void ring_pass(struct io_uring *ring, int fd, struct arena *arena, bool write, bool fixed)
{
	unsigned int run = 16, bytes = run * PAGE_BYTES, nr_queued = 0;

	for (size_t i = 0; i + run <= arena->nr_pages; i += run) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
		unsigned char *at = arena_page(arena, i);
		uint64_t offset = i * PAGE_BYTES;

		CHECK(sqe);
		if (fixed && write)
			io_uring_prep_write_fixed(sqe, fd, at, bytes, offset, 0);
		else if (fixed)
			io_uring_prep_read_fixed(sqe, fd, at, bytes, offset, 0);
		else if (write)
			io_uring_prep_write(sqe, fd, at, bytes, offset);
		else
			io_uring_prep_read(sqe, fd, at, bytes, offset);
		/* Off to a kernel thread, so that its faults are not the caller's. */
		io_uring_sqe_set_flags(sqe, i / run % 3 == 0 ? IOSQE_ASYNC : 0);
		if (++nr_queued == 32 || i + 2 * run > arena->nr_pages) {
			CHECK(io_uring_submit(ring) == (int)nr_queued);
			ring_wait(ring, nr_queued, (int)bytes);
			nr_queued = 0;
		}
	}
}

static void ring_there_and_back(int flags, bool fixed)
{
	size_t nr = fixed ? live_pages() / 8 : live_pages() / 2;
	int fd = file_open_unnamed(flags);
	struct arena source = arena_new(nr, 20), target = arena_new(nr, 21);
	struct arena other = arena_new(live_pages(), 22);
	struct iovec buffer = { target.base, nr * PAGE_BYTES };
	struct io_uring ring;

	ring_open(&ring);
	arena_fill(&other, 0, other.nr_pages, 1);
	arena_fill(&source, 0, nr, 1);
	arena_fill(&target, 0, nr, 1);
	arena_cold(&source, 0, nr);
	arena_cold(&target, 0, nr);
	if (fixed)
		CHECK(io_uring_register_buffers(&ring, &buffer, 1) == 0);
	for (uint32_t round = 2; round < 5; round++) {
		ring_pass(&ring, fd, &source, true, false);
		live_press();
		ring_pass(&ring, fd, &target, false, fixed);
		target.seed = source.seed;
		memcpy(target.generation, source.generation, nr * sizeof(uint32_t));
		live_press();
		arena_check(&target, 0, nr);
		arena_check(&source, 0, nr);
		arena_fill(&source, nr / 4, nr, round);
		arena_cold(&source, 0, nr);
	}
	/* Written through the fixed buffer what the program itself put there. */
	arena_fill(&target, 0, nr, 9);
	live_press();
	ring_pass(&ring, fd, &target, true, fixed);
	ring_pass(&ring, fd, &source, false, false);
	source.seed = target.seed;
	memcpy(source.generation, target.generation, nr * sizeof(uint32_t));
	arena_check(&source, 0, nr);
	io_uring_queue_exit(&ring);
	arena_cold(&target, 0, nr);
	arena_check(&target, 0, nr);
	arena_check(&other, 0, other.nr_pages);
}

static void io_uring_plain(void)
{
	ring_there_and_back(0, false);
}

static void io_uring_direct(void)
{
	ring_there_and_back(O_DIRECT, false);
}

static void io_uring_fixed_buffers_rule13(void)
{
	ring_there_and_back(O_DIRECT, true);
}
#else
static void io_uring_plain(void)
{
	live_skip("built without liburing");
}
#define io_uring_direct io_uring_plain
#define io_uring_fixed_buffers_rule13 io_uring_plain
#endif

/* ---- vmsplice -------------------------------------------------------------------------------- */

/* Pages lent to a pipe leave memory meanwhile; the pipe must still hold what was put in. */
static void vmsplice_rule13(void)
{
	enum { NR_PIPES = 8 };
	size_t nr = live_pages(), nr_lent = 64;
	struct arena arena = arena_new(nr, 40);
	int pipes[NR_PIPES][2];

	arena_fill(&arena, 0, nr, 1);
	for (uint32_t round = 0; round < 3; round++) {
		arena_cold(&arena, 0, nr);
		for (size_t p = 0; p < NR_PIPES; p++) {
			struct iovec piece = { arena_page(&arena, p * 777), nr_lent * PAGE_BYTES };

			CHECK(pipe(pipes[p]) == 0);
			CHECK(fcntl(pipes[p][1], F_SETPIPE_SZ, nr_lent * PAGE_BYTES) > 0);
			CHECK(vmsplice(pipes[p][1], &piece, 1, 0) == (ssize_t)piece.iov_len);
		}
		arena_cold(&arena, 0, NR_PIPES * 777);
		for (size_t p = 0; p < NR_PIPES; p++) {
			for (size_t j = 0; j < nr_lent; j++) {
				unsigned char page[PAGE_BYTES];

				read_all(pipes[p][0], page, PAGE_BYTES);
				page_check(page, 40, p * 777 + j,
					   arena.generation[p * 777 + j]);
			}
			close(pipes[p][0]);
			close(pipes[p][1]);
		}
		arena_check(&arena, 0, nr);
		arena_fill(&arena, round, nr / 2, round + 2);
	}
}

static const struct live_case cases[] = {
	{ "pipe-stored-pages", pipe_stored_pages },
	{ "socket-stored-pages", socket_stored_pages },
	{ "scattered-pieces", scattered_pieces },
	{ "calls-with-stored-structures-rule25", calls_with_stored_structures_rule25 },
	{ "file-buffered", file_buffered },
	{ "file-direct-rule13", file_direct_rule13 },
	{ "file-direct-under-pressure-rule13", file_direct_under_pressure_rule13 },
	{ "io-uring-plain", io_uring_plain },
	{ "io-uring-direct", io_uring_direct },
	{ "io-uring-fixed-buffers-rule13", io_uring_fixed_buffers_rule13 },
	{ "vmsplice-rule13", vmsplice_rule13 },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return live_main(argc, argv, cases);
}
