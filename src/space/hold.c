/* SPDX-License-Identifier: MIT */
/*
 * The hold area: where pages that were taken out of a program wait, in its own address space.
 *
 * It is mapped by the helper and registered with a second userfaultfd without events. Behind it is the
 * stage that pages pass on their way (os/helper.h), registered with the program's own. A program that
 * looks at all its memory touches holes there: a thread that takes no lock, the warden, fills them with
 * zeros, and the helper clears such a page away when it needs the place. Places are handed out from a
 * bitmap, next fit, so that a run of pages stays a run.
 *
 * What must always hold: a place is used by one page at most, and its page is dropped only after
 * hold_release() said that no word leads to it any more. The mover may still be reading it then; it
 * finds its word changed and throws away what it read.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "assert.h"
#include "bell.h"
#include "limit.h"
#include "number.h"
#include "pagemap.h"
#include "proc.h"
#include "program.h"
#include "sock.h"
#include "thread.h"
#include "uffd.h"

/* Where the program's address space is limited (RLIMIT_AS), the area gets half of what is left of that at
 * most, or the program's next mapping fails. */
#define AREA_SHARE 2u
/* A command takes microseconds, unless it populates; after so long it is looked why there is no reply, and
 * after so many times nobody waits any longer. Several: if all of us were stopped meanwhile, one is over at once. */
#define REPLY_WAIT_MS 200
#define REPLY_WAITS 3u
#define REPLY_WAITS_RUNNING 15u /* one that only waits for a CPU is not frozen, and works on */

/*
 * The helper is to run where its caller is: waking a thread on the same CPU costs 2 us, on another
 * one 60 to 90, and a caller that moves pages holds up the program's events meanwhile.
 */
void helper_follow(struct program *p)
{
	int cpu = sched_getcpu();

	if (cpu < 0 || cpu == p->helper_cpu || p->helper_socket < 0)
		return;
	if (!thread_pin(p->helper_pid, cpu))
		p->helper_cpu = cpu;
}

int helper_send(const struct program *p, const struct helper_command *command, const int *fd)
{
	size_t bytes = offsetof(struct helper_command, runs) + command->nr_runs * sizeof command->runs[0];

	return sock_send(p->helper_socket, command, bytes, fd, fd != NULL);
}

int helper_receive(struct program *p, uint64_t seq)
{
	int fds[SOCK_FDS_MAX];
	size_t got = 0;
	int error = sock_receive(p->helper_socket, &p->reply, sizeof p->reply, &got, fds);

	if (!error && (got < offsetof(struct helper_reply, outcome) || p->reply.seq != seq))
		error = -EPIPE;
	return error;
}

int helper_keep(struct program *p)
{
	p->command.op = HELPER_KEEP;
	p->command.nr_runs = 0;
	return helper_send(p, &p->command, &p->uffd);
}

void helper_leave(struct program *p)
{
	if (p->helper_socket < 0)
		return;
	p->command.op = HELPER_LEAVE;
	p->command.nr_runs = 0;
	(void)helper_send(p, &p->command, NULL); /* it may be that which has ended */
	close(p->helper_socket);
	p->helper_socket = -1;
	atomic_store(&p->frozen, false);
	atomic_store(&p->populating, false);
}

/* Wait for a reply, but not for ever: what this is called with keeps others waiting. */
static bool reply_wait(const struct program *p)
{
	struct pollfd reply = { .fd = p->helper_socket, .events = POLLIN };

	for (unsigned nr = 1;; nr++) {
		if (poll(&reply, 1, REPLY_WAIT_MS) > 0)
			return true;
		if (nr >= (helper_continue(p) == 'R' ? REPLY_WAITS_RUNNING : REPLY_WAITS))
			return false;
	}
}

/* `fd` goes along, or NULL. */
static int call(struct program *p, const int *fd)
{
	if (!helper_ready(p))
		return p->helper_socket < 0 ? -ENOTCONN : -EBUSY;
	p->command.seq = ++p->helper_seq;
	int error = helper_send(p, &p->command, fd);
	if (error) {
		helper_leave(p);
		return -ENOTCONN;
	}
	if (!reply_wait(p)) {
		helper_freeze(p);
		return -EINPROGRESS;
	}
	error = helper_receive(p, p->helper_seq);
	if (error)
		helper_leave(p);
	return error ? -EPIPE : 0;
}

int helper_call(struct program *p)
{
	return call(p, NULL);
}

#define AREA_BESIDE_BYTES (HELPER_STAGE_BYTES + HELPER_STOCK_BYTES + 2 * BLOCK_PAGES * PAGE_BYTES)

uint32_t hold_fit(uint32_t nr_pages, uint64_t left_bytes)
{
	uint64_t most = minus(left_bytes / AREA_SHARE, AREA_BESIDE_BYTES) / PAGE_BYTES / BLOCK_PAGES * BLOCK_PAGES;

	if (most < HOLD_PAGES_MIN)
		return 0;
	return most < nr_pages ? (uint32_t)most : nr_pages;
}

/* What the program may still map: its own limit counts, whatever the helper's is. */
static uint64_t space_left(const struct program *p)
{
	uint64_t limit, size, anon;

	if (limit_address_space(p->pid, &limit) || limit == UINT64_MAX || proc_statm_read(p->statm, &size, &anon))
		return UINT64_MAX;
	return minus(limit, size * PAGE_BYTES);
}

static void area_unmap(struct program *p)
{
	helper_lock_take(p);
	p->command.op = HELPER_UNMAP;
	p->command.nr_runs = 0;
	(void)helper_call(p); /* without a helper there is nobody to take it away */
	pthread_mutex_unlock(&p->helper_lock);
}

/* Have the area mapped; where the kernel has no room for so much, with half as many places, and so on. */
static int area_map(struct program *p, struct hold *hold)
{
	int pagemap, error = pagemap_open(p->proc_dir, &pagemap);

	if (error)
		return error;
	helper_lock_take(p);
	for (;;) {
		p->command.op = HELPER_MAP;
		p->command.nr_runs = 1;
		p->command.runs[0] = (struct helper_run){ .bytes = (uint64_t)hold->nr_pages * PAGE_BYTES };
		error = call(p, &pagemap);
		if (!error && p->reply.result < 0)
			error = (int)p->reply.result;
		if (error != -ENOMEM || hold->nr_pages <= HOLD_PAGES_MIN)
			break;
		hold->nr_pages = hold->nr_pages / 2 / BLOCK_PAGES * BLOCK_PAGES;
	}
	if (!error)
		hold->address = (uint64_t)p->reply.result;
	pthread_mutex_unlock(&p->helper_lock);
	close(pagemap);
	return error;
}

static size_t used_bytes(uint32_t nr_pages)
{
	return nr_pages / 64 * sizeof(uint64_t);
}

static size_t whole_bytes(uint32_t nr_pages)
{
	return (nr_pages / BLOCK_PAGES / 64 + 1) * sizeof(uint64_t);
}

int hold_tables_open(struct hold *hold)
{
	uint32_t nr = hold->nr_pages;
	size_t bytes = used_bytes(nr) + whole_bytes(nr) + nr * sizeof *hold->freed;
	char *tables = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (tables == MAP_FAILED)
		return -ENOMEM;
	hold->tables_bytes = bytes;
	hold->used = (void *)tables;
	hold->whole = (void *)(tables + used_bytes(nr));
	hold->freed = (void *)(tables + used_bytes(nr) + whole_bytes(nr));
	return 0;
}

static void tables_close(const struct hold *hold)
{
	if (hold->used)
		munmap(hold->used, hold->tables_bytes);
}

int hold_open(struct program *p, uint32_t nr_pages)
{
	struct hold hold = { 0 };

	nr_pages = hold_fit((nr_pages + BLOCK_PAGES - 1) / BLOCK_PAGES * BLOCK_PAGES, space_left(p));
	if (!nr_pages)
		return -ENOMEM;
	hold.nr_pages = nr_pages;
	int error = hold_tables_open(&hold);
	if (!error)
		error = area_map(p, &hold);
	uint64_t stage = hold.address + (uint64_t)hold.nr_pages * PAGE_BYTES;
	if (!error)
		error = uffd_register(p->hold_uffd, hold.address, stage - hold.address);
	if (!error)
		error = uffd_register(p->uffd, stage, HELPER_STAGE_BYTES);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = p->hold_uffd };
	if (!error && epoll_ctl(p->server->warden_epoll, EPOLL_CTL_ADD, p->hold_uffd, &event))
		error = -errno;
	if (error && hold.address) {
		/* Or its unmapping would wait for somebody to read of it. */
		(void)uffd_unregister(p->uffd, stage, HELPER_STAGE_BYTES);
		area_unmap(p);
	}
	if (error) {
		tables_close(&hold);
		return error;
	}
	stock_open(p, stage + HELPER_STAGE_BYTES); /* first: through its descriptor held pages may be read */
	/* An order may be under way, or an event of a child: all locks, so that it finds all of the area or nothing. */
	helper_lock_take(p);
	program_lock_exclusive(p);
	pthread_mutex_lock(&p->hold_lock);
	p->hold = hold;
	pthread_mutex_unlock(&p->hold_lock);
	rwlock_unlock(&p->lock);
	pthread_mutex_unlock(&p->helper_lock);
	return 0;
}

/* The helper has the same userfaultfd: ours closed, the epoll would go on naming it by a number that the next
 * descriptor gets. */
void hold_close(struct program *p)
{
	struct server *s = p->server;

	pthread_mutex_lock(&s->warden_lock);
	if (p->hold.address)
		(void)epoll_ctl(s->warden_epoll, EPOLL_CTL_DEL, p->hold_uffd, NULL);
	if (p->hold_uffd >= 0)
		close(p->hold_uffd);
	pthread_mutex_unlock(&s->warden_lock);
	tables_close(&p->hold);
}

static void hole_fill(int uffd)
{
	struct uffd_msg m;
	uint64_t done;

	if (read(uffd, &m, sizeof m) != sizeof m || m.event != UFFD_EVENT_PAGEFAULT)
		return;
	uint64_t address = m.arg.pagefault.address & ~(uint64_t)(PAGE_BYTES - 1);
	if (uffd_zero(uffd, address, PAGE_BYTES, &done))
		uffd_wake(uffd, address, PAGE_BYTES);
}

static void *warden_main(void *arg)
{
	struct server *s = arg;
	struct epoll_event event;

	thread_hurry(0, PRIORITY_MOVER);
	while (epoll_wait(s->warden_epoll, &event, 1, -1) >= 0 || errno == EINTR) {
		if (atomic_load(&s->stopping))
			break;
		/* What was told without the lock may be closed, and its number another's. */
		pthread_mutex_lock(&s->warden_lock);
		if (epoll_wait(s->warden_epoll, &event, 1, 0) == 1 && event.data.fd != s->warden_stop)
			hole_fill(event.data.fd);
		pthread_mutex_unlock(&s->warden_lock);
	}
	return NULL;
}

int warden_start(struct server *s)
{
	struct epoll_event stop = { .events = EPOLLIN };

	s->warden_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->warden_epoll < 0)
		return -errno;
	int error = bell_open(&s->warden_stop);
	if (error) {
		close(s->warden_epoll);
		return error;
	}
	stop.data.fd = s->warden_stop;
	if (epoll_ctl(s->warden_epoll, EPOLL_CTL_ADD, s->warden_stop, &stop))
		error = -errno;
	else
		error = -pthread_create(&s->warden, NULL, warden_main, s);
	if (error) {
		close(s->warden_stop);
		close(s->warden_epoll);
	}
	return error;
}

void warden_join(struct server *s)
{
	if (!bell_ring(s->warden_stop))
		pthread_join(s->warden, NULL);
	close(s->warden_stop);
	close(s->warden_epoll);
	s->warden_epoll = -1;
}

int held_read(struct program *p, const uint64_t *words, uint32_t nr, void *pages)
{
	struct iovec remote[FAULT_RUN_PAGES] = { { 0 } };
	size_t nr_parts = 0;

	tide_assert(nr <= FAULT_RUN_PAGES);
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t address = hold_address(p, page_place(words[i]));
		struct iovec *last = nr_parts ? &remote[nr_parts - 1] : NULL;
		/* Neighbours in one piece. */
		if (last && (uint64_t)(uintptr_t)last->iov_base + last->iov_len == address)
			last->iov_len += PAGE_BYTES;
		else
			remote[nr_parts++] = (struct iovec){ (void *)(uintptr_t)address, PAGE_BYTES };
	}
	int error = proc_readv(p->helper_pid, remote, nr_parts, pages, (size_t)nr * PAGE_BYTES);
	if (error != -ESRCH)
		return error;
	/* The helper was killed. The memory is the same, whoever else is in it. */
	error = 0;
	for (size_t i = 0; i < nr_parts && !error; i++) {
		error = proc_memory_read(p->stock.memory, (uint64_t)(uintptr_t)remote[i].iov_base, pages,
					 remote[i].iov_len);
		pages = (uint8_t *)pages + remote[i].iov_len;
	}
	return error;
}

static bool place_used(const struct hold *h, uint32_t place)
{
	return h->used[place / 64] >> (place % 64) & 1;
}

static void places_mark(struct hold *h, uint32_t place, uint32_t nr, bool used)
{
	for (uint32_t i = place; i < place + nr; i++) {
		tide_assert(place_used(h, i) != used);
		h->used[i / 64] ^= (uint64_t)1 << (i % 64);
	}
	h->nr_used = used ? h->nr_used + nr : h->nr_used - nr;
}

/* A whole free block, so that a huge page can move in whole. */
static bool block_find(const struct hold *h, uint32_t *ret_place)
{
	uint32_t nr = h->nr_pages / BLOCK_PAGES;

	for (uint32_t n = 0; n < nr; n++) {
		uint32_t block = (h->cursor / BLOCK_PAGES + n) % nr;
		uint64_t any = 0;
		for (unsigned i = 0; i < 8; i++)
			any |= h->used[block * 8 + i];
		if (!any) {
			*ret_place = block * 512;
			return true;
		}
	}
	return false;
}

uint32_t hold_room(const struct program *p)
{
	return p->hold.nr_pages ? p->hold.nr_pages - HELPER_PAGES_MAX : 0;
}

uint64_t hold_address(const struct program *p, uint32_t place)
{
	return p->hold.address + ((uint64_t)place << PAGE_SHIFT);
}

uint32_t hold_take(struct program *p, uint32_t nr_pages, uint32_t *ret_place)
{
	struct hold *h = &p->hold;
	uint32_t got = 0;

	pthread_mutex_lock(&p->hold_lock);
	if (h->nr_used < h->nr_pages && nr_pages == 512 && block_find(h, ret_place)) {
		got = 512;
		h->cursor = *ret_place + got;
	} else if (h->nr_used < h->nr_pages) {
		uint32_t at = h->cursor % h->nr_pages;
		while (place_used(h, at)) {
			if (h->used[at / 64] == ~(uint64_t)0)
				at |= 63; /* the whole word is used */
			at = (at + 1) % h->nr_pages;
		}
		*ret_place = at;
		while (got < nr_pages && at + got < h->nr_pages && !place_used(h, at + got))
			got++;
		h->cursor = at + got;
	}
	if (got)
		places_mark(h, *ret_place, got, true);
	pthread_mutex_unlock(&p->hold_lock);
	return got;
}

void hold_whole(struct program *p, uint32_t place, bool whole)
{
	uint32_t block = place / BLOCK_PAGES;
	uint64_t bit = (uint64_t)1 << (block % 64), *word = &p->hold.whole[block / 64];

	pthread_mutex_lock(&p->hold_lock);
	*word = whole ? *word | bit : *word & ~bit;
	pthread_mutex_unlock(&p->hold_lock);
}

bool hold_may_be_whole(struct program *p, uint32_t place)
{
	uint32_t block = place / BLOCK_PAGES;

	pthread_mutex_lock(&p->hold_lock);
	bool may = p->hold.whole[block / 64] >> (block % 64) & 1;
	pthread_mutex_unlock(&p->hold_lock);
	return may;
}

void hold_untake(struct program *p, uint32_t place, uint32_t nr_pages)
{
	pthread_mutex_lock(&p->hold_lock);
	places_mark(&p->hold, place, nr_pages, false);
	pthread_mutex_unlock(&p->hold_lock);
}

void hold_release(struct program *p, uint32_t place)
{
	pthread_mutex_lock(&p->hold_lock);
	tide_assert(place < p->hold.nr_pages && p->hold.nr_freed < p->hold.nr_pages);
	p->hold.freed[p->hold.nr_freed++] = place;
	pthread_mutex_unlock(&p->hold_lock);
}

static int place_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Drop places, which are in order; whether that went well. */
static bool places_drop(struct program *p, const uint32_t *places, uint32_t nr)
{
	p->command.op = HELPER_DROP;
	p->command.nr_runs = 0;
	for (uint32_t at = 0, run; at < nr; at += run) {
		for (run = 1; at + run < nr && places[at + run] == places[at] + run;)
			run++;
		p->command.runs[p->command.nr_runs++] = (struct helper_run){
			.dst = hold_address(p, places[at]),
			.bytes = (uint64_t)run * PAGE_BYTES,
		};
	}
	return !helper_call(p) && !p->reply.result;
}

uint32_t hold_drop(struct program *p, uint32_t max)
{
	struct hold *h = &p->hold;
	uint32_t places[HELPER_RUNS_MAX], nr = max < HELPER_RUNS_MAX ? max : HELPER_RUNS_MAX;

	if (!helper_ready(p))
		return 0;
	pthread_mutex_lock(&p->hold_lock);
	nr = nr < h->nr_freed ? nr : h->nr_freed;
	h->nr_freed -= nr;
	memcpy(places, h->freed + h->nr_freed, nr * sizeof *places);
	pthread_mutex_unlock(&p->hold_lock);
	if (!nr)
		return 0;
	qsort(places, nr, sizeof *places, place_order);
	if (!places_drop(p, places, nr)) /* no helper, or no reply yet: the places stay used, nothing is lost */
		return 0;
	pthread_mutex_lock(&p->hold_lock);
	for (uint32_t i = 0; i < nr; i++)
		places_mark(h, places[i], 1, false);
	pthread_mutex_unlock(&p->hold_lock);
	return nr;
}
