/* SPDX-License-Identifier: MIT */
/*
 * Handlers: the threads that serve faults. There are two for each CPU, pinned to it, for waking a thread
 * on another CPU costs ten times what the service costs:
 *
 *   idle     of the idle class. A CPU with only idle-class work counts as idle, so the program's thread
 *            is woken where it was, and runs at once. Where other work never ends it starves.
 *   normal   gets its share of a busy CPU. But as long as another CPU has nothing to do, the program's
 *            thread is woken there.
 *
 *   wait ─► lock exclusive: read messages, apply events ─► serve each fault ─► wait
 *
 * Every reader is woken for every fault, so only those read whose CPU runs the program; the others are
 * parked. The keeper chooses, and of the two of a CPU it chooses the normal one when all CPUs have
 * something to do, or when messages wait because an idle one starves. Nobody changes its class by
 * itself, for who has entered the idle class may need a right to leave it.
 *
 *   NONE ──keeper──► READS ◄──keeper, others──► PARKED ──itself──► NONE
 *
 * A program that is served begins with one handler; others are started where its faults come from. Of a program
 * without faults for a while all but one leave again, and that one gives its buffer back: of hundreds of small
 * programs each costs a thread. Who reads never leaves, so there is always one.
 *
 * A handler of the idle class stops wherever another thread wants its CPU, with program.lock held too.
 * So the keeper lifts it out of the class when it parks it; where that is not permitted, the others wait
 * for what little time an idle thread gets.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "assert.h"
#include "bell.h"
#include "clock.h"
#include "cpu.h"
#include "futex.h"
#include "journal.h"
#include "proc.h"
#include "program.h"
#include "thread.h"

#define MS UINT64_C(1000000)
/* Idle time is told to 10 ms a CPU: not to be compared over less. */
#define WEIGH_NS (60 * MS)
/* After an idle handler has starved; twice that each time it happens again soon. */
#define NORMAL_NS (250 * MS)
#define NORMAL_MAX_NS (4000 * MS)
#define DEFERRED_MAX 64u /* served before more is read */
#define READS_MAX 256u
/* Faults before each of which it slept, how long they took each, and how long not to ask again: that takes
 * longer than a fault. */
#define FOLLOW_TURNS 8u
#define FOLLOW_FAULT_NS 25000u
#define FOLLOW_AGAIN_NS (4 * MS)
#define VAIN_TURNS 4u
#define GROWTH_TURNS 4u /* a change is mostly told by then */
#define READ_PAUSE_NS 20000u
#define CALM_MS 1
#define REST_MS 1000
#define BUFFER_BYTES ((size_t)FAULT_RUN_PAGES * PAGE_BYTES)
#define STACK_BYTES ((size_t)256 << 10)

/* ---- one handler ---- */

static bool handler_parked(const struct handler *h)
{
	return atomic_load(&h->state) == HANDLER_PARKED;
}

static void handler_ring(struct handler *h)
{
	int error = bell_ring(h->bell);

	tide_assert(!error);
}

/* Take an idle handler out of its class, as far as that is permitted; it goes back when it is needed. */
static void handler_lift(struct handler *h)
{
	pid_t tid = atomic_load(&h->tid);

	if (!h->normal && tid && !thread_leave_idle(tid))
		atomic_store(&h->lifted, true);
}

static void handler_park(struct handler *h, bool park)
{
	uint32_t from = park ? HANDLER_READS : HANDLER_PARKED;

	if (!atomic_compare_exchange_strong(&h->state, &from, park ? HANDLER_PARKED : HANDLER_READS))
		return;
	if (park)
		atomic_fetch_sub(&h->program->nr_reading, 1);
	else
		atomic_fetch_add(&h->program->nr_reading, 1);
	if (park)
		handler_lift(h);
	handler_ring(h);
}

/* Woken in vain time and again: others read what it is woken for. */
static void handler_retire(struct handler *h)
{
	struct program *p = h->program;
	uint32_t reads = HANDLER_READS, parked = HANDLER_PARKED;

	if (atomic_load(&p->nr_reading) < 2 ||
	    !atomic_compare_exchange_strong(&h->state, &reads, HANDLER_PARKED))
		return;
	/* Somebody must read. The keeper looks for the same after it has parked. */
	if (atomic_fetch_sub(&p->nr_reading, 1) > 1)
		handler_lift(h);
	else if (atomic_compare_exchange_strong(&h->state, &parked, HANDLER_READS))
		atomic_fetch_add(&p->nr_reading, 1);
}

/*
 * It has had nothing to do for a while. If nor had the others, it gives up what it has, and itself when another one
 * reads; false: it leaves. A last one that was called meanwhile is not missed, and who is to read is not called.
 */
static bool handler_rest(struct handler *h)
{
	uint64_t nr_served = handlers_served(h->program);
	uint32_t parked = HANDLER_PARKED;

	h->rests = nr_served == h->nr_served_before;
	h->nr_served_before = nr_served;
	if (!h->rests)
		return true;
	madvise(h->buffer, BUFFER_BYTES, MADV_DONTNEED);
	handler_retire(h);
	if (!atomic_compare_exchange_strong(&h->state, &parked, HANDLER_NONE))
		return true;
	(void)thread_leave_idle(0); /* it is waited for */
	atomic_store(&h->tid, 0);
	return false;
}

static void handler_begin(struct handler *h)
{
	char name[16];

	snprintf(name, sizeof name, "handler-%c%u", h->normal ? 'n' : 'i', (unsigned)h->cpu % 10000);
	pthread_setname_np(pthread_self(), name);
	thread_pin(0, h->cpu);
	/* The idle class keeps the short slice. */
	thread_hurry(0, PRIORITY_HANDLER);
	/* Who is to be called first works beside the program. */
	bool parked = handler_parked(h);
	if (!h->normal && !parked)
		thread_enter_idle();
	atomic_store(&h->lifted, !h->normal && parked);
	atomic_store(&h->tid, gettid());
}

/* Wait until there may be something to do; false: never again. `served`: the last turn served a fault. */
static bool handler_wait(struct handler *h, bool served)
{
	bool parked = handler_parked(h);
	struct pollfd wait[2] = {
		{ .fd = parked ? -1 : h->program->uffd, .events = POLLIN },
		{ .fd = h->bell, .events = POLLIN },
	};

	/* The program's thread has run since, as it is let run before an idle handler; now it waits again,
	 * mostly for its next page. */
	h->slept = !served || h->normal || parked || h->nr_deferred;
	if (!h->slept)
		return true;
	/* Deferred faults are waiting for a thread of the program to run: let it. */
	if (h->nr_deferred)
		sched_yield();
	bool unsettled = journal_open(h->program) || atomic_load(&h->program->birth);
	int wait_ms = h->nr_deferred ? 0 : !parked && unsettled ? CALM_MS : h->rests ? -1 : REST_MS;
	int nr = poll(wait, 2, wait_ms);
	if (nr < 0 && errno != EINTR)
		return false;
	if (!nr && wait_ms == REST_MS)
		return handler_rest(h);
	h->rests = false;
	if (wait[1].revents && bell_hear(h->bell))
		return false;
	/* In this order: who lifts it in between finds it lifted, and if it is not, tries again soon. */
	if (!handler_parked(h) && atomic_load(&h->lifted)) {
		thread_enter_idle();
		atomic_store(&h->lifted, false);
	}
	return true;
}

/* Others have the lock for some microseconds, and being woken from another CPU takes longer. */
#define LOCK_SPINS 1000u

static void lock_exclusive(struct program *p)
{
	for (unsigned i = 0; i < LOCK_SPINS; i++) {
		if (rwlock_try_exclusive(&p->lock))
			return;
		cpu_pause();
	}
	program_lock_exclusive(p);
}

void handler_read(struct handler *h)
{
	struct program *p = h->program;
	unsigned nr = 0;

	lock_exclusive(p);
	/* The event for which all faults wait comes behind those that are queued: one of each thread at most. But
	 * threads that change mappings all the time would be read for ever, and others need the lock. */
	while (events_read(p, fault_take, h) > 0 && ++nr < READS_MAX && (h->nr_deferred < DEFERRED_MAX || h->changing))
		;
	rwlock_unlock(&p->lock);
	if (atomic_load(&p->birth) || atomic_load(&p->held)) /* the messages wait on */
		clock_sleep_ns(READ_PAUSE_NS);
}

/* A handler that sleeps before each fault, which then takes long, may not be on the CPU of the program any
 * more. Have the one there read as well; the superfluous one retires. */
static void handler_follow(struct handler *h, uint32_t tid)
{
	struct program *p = h->program;
	int cpu;

	if (!h->slept) {
		h->nr_woken = 0;
		return;
	}
	if (h->nr_woken++ % FOLLOW_TURNS)
		return;
	uint64_t now_ns = clock_now_ns(), took_ns = now_ns - h->woken_ns;
	h->woken_ns = now_ns;
	if (h->nr_woken == 1 || took_ns < FOLLOW_TURNS * FOLLOW_FAULT_NS ||
	    now_ns - h->followed_ns < FOLLOW_AGAIN_NS)
		return;
	h->followed_ns = now_ns;
	if (proc_cpu((pid_t)tid, &cpu) || cpu == h->cpu)
		return;
	for (unsigned i = h->normal; i < p->nr_handlers; i += 2)
		if (p->handlers[i].cpu == cpu && atomic_load(&p->handlers[i].tid))
			handler_park(&p->handlers[i], false);
}

/* Serve what has been read; whether there was anything. */
static bool handler_serve(struct handler *h)
{
	size_t nr = h->nr_deferred < DEFERRED_MAX ? h->nr_deferred : DEFERRED_MAX;
	uint32_t tid = nr ? h->deferred[0].tid : 0;
	struct deferred fault;

	/* While the mappings change each try is in vain, and lets its thread fault again: before any event is read. */
	h->changing = false;
	for (size_t i = 0; i < nr && !h->changing && fault_next(h, &fault); i++)
		h->changing = !fault_serve(h, &fault);
	h->nr_changing = h->changing ? h->nr_changing + 1 : 0;
	if (h->nr_changing && !(h->nr_changing % GROWTH_TURNS))
		growths_serve(h);
	if (nr)
		handler_follow(h, tid);
	h->nr_vain = nr || !h->slept ? 0 : h->nr_vain + 1;
	if (h->nr_vain == VAIN_TURNS) {
		h->nr_vain = 0;
		handler_retire(h);
	}
	return nr;
}

void handlers_call(const struct handler *h)
{
	struct program *p = h->program;
	unsigned nr = p->nr_handlers / 2, own = (unsigned)(h - p->handlers) / 2;

	/* Those of the normal class read when no CPU is idle. */
	for (unsigned i = 1; i < nr && !atomic_load(&p->normal); i++) {
		struct handler *other = &p->handlers[2 * ((own + i) % nr)];
		if (!atomic_load(&other->tid) || !handler_parked(other))
			continue;
		handler_ring(other);
		return;
	}
}

static void *handler_main(void *arg)
{
	struct handler *h = arg;
	struct program *p = h->program;
	bool served = false;

	handler_begin(h);
	while (handler_wait(h, served) && !atomic_load(&p->stopping)) {
		bool parked = handler_parked(h);
		if (parked) {
			windows_join(h);
			stock_fill(p);
		} else {
			handler_read(h);
		}
		served = handler_serve(h);
		if (!parked) /* elsewhere the helper would have to follow */
			order_work(p);
	}
	atomic_fetch_add(&p->server->forced_ns, clock_thread_cpu_ns());
	return NULL;
}

/* What stays until the program ends: others may ring, or look, whenever they like. */
static int handler_open(struct handler *h)
{
	void *buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int error = buffer == MAP_FAILED ? -ENOMEM : bell_open(&h->bell);

	if (!error)
		h->buffer = buffer;
	else if (buffer != MAP_FAILED)
		munmap(buffer, BUFFER_BYTES);
	return error;
}

/* A small stack: of hundreds of threads each would have a page table for a large one, too. */
static int handler_run(struct handler *h)
{
	pthread_attr_t attr;
	int error = -pthread_attr_init(&attr);

	if (error)
		return error;
	error = -pthread_attr_setstacksize(&attr, STACK_BYTES);
	if (!error)
		error = -pthread_create(&h->thread, &attr, handler_main, h);
	pthread_attr_destroy(&attr);
	return error;
}

/* Whether no thread is left of one that has left. */
static bool handler_over(struct handler *h)
{
	if (h->runs && atomic_load(&h->state) == HANDLER_NONE && !pthread_tryjoin_np(h->thread, NULL))
		h->runs = false;
	return !h->runs;
}

/* One that is none is to be, parked. -EBUSY: it is just leaving. */
static int handler_start(struct handler *h)
{
	if (!handler_over(h))
		return -EBUSY;
	int error = h->buffer ? 0 : handler_open(h);
	if (error)
		return error;
	h->rests = false;
	atomic_store(&h->state, HANDLER_PARKED);
	error = handler_run(h);
	h->runs = !error;
	if (error)
		atomic_store(&h->state, HANDLER_NONE);
	return error;
}

/* It is to read. */
static int handler_use(struct handler *h)
{
	int error = atomic_load(&h->state) == HANDLER_NONE ? handler_start(h) : 0;

	handler_park(h, false);
	return error;
}

/* ---- those of a program ---- */

static struct handler *handler_at(struct program *p, int cpu, bool normal)
{
	for (unsigned i = normal; i < p->nr_handlers; i += 2)
		if (p->handlers[i].cpu == cpu)
			return &p->handlers[i];
	return &p->handlers[normal];
}

/* Handlers ring each other: only when all have ended. */
static void handlers_close(struct program *p)
{
	for (unsigned i = 0; i < p->nr_handlers; i++) {
		struct handler *h = &p->handlers[i];
		if (!h->buffer)
			continue;
		close(h->bell);
		munmap(h->buffer, BUFFER_BYTES);
		free(h->deferred);
	}
	p->nr_handlers = 0;
	free(p->handlers);
	p->handlers = NULL;
}

int handlers_start(struct program *p, bool normal)
{
	struct server *s = p->server;
	/* On the CPUs that are the programs'; where nobody could say which, those there are. */
	bool some = CPU_COUNT(&s->cpus);
	unsigned nr = 0, most = 2 * (some ? (unsigned)CPU_COUNT(&s->cpus) : s->nr_cpus);
	int at;

	p->handlers = calloc(most, sizeof *p->handlers);
	if (!p->handlers)
		return -ENOMEM;
	p->normal = normal;
	for (unsigned cpu = 0; cpu < (some ? CPU_SETSIZE : s->nr_cpus); cpu++)
		for (unsigned k = 0; k < 2 && nr < HANDLERS_MAX && (!some || CPU_ISSET(cpu, &s->cpus)); k++) {
			struct handler *h = &p->handlers[nr++];
			h->program = p;
			h->cpu = (int)cpu;
			h->normal = k;
			h->cookie = atomic_fetch_add(&s->next_cookie, 1) & PAGE_MARK_MAX;
		}
	p->nr_handlers = nr; /* before the first one can ask */
	/* A child is mostly where its parent is, and so are we. */
	if (!p->pid || proc_cpu(p->pid, &at))
		at = sched_getcpu();
	int error = handler_use(handler_at(p, at, normal));
	if (error)
		handlers_close(p);
	return error;
}

void handlers_stop(struct program *p)
{
	atomic_store(&p->stopping, true);
	for (unsigned i = 0; i < p->nr_handlers; i++) {
		struct handler *h = &p->handlers[i];
		if (!h->runs)
			continue;
		handler_lift(h);
		handler_ring(h);
		pthread_join(h->thread, NULL);
	}
	handlers_close(p);
}

uint64_t handlers_served(const struct program *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->nr_handlers; i++)
		sum += atomic_load_explicit(&p->handlers[i].nr_served, memory_order_relaxed);
	return sum;
}

uint64_t handlers_filled(const struct program *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->nr_handlers; i++)
		sum += atomic_load_explicit(&p->handlers[i].nr_filled, memory_order_relaxed);
	return sum;
}

uint64_t handlers_cpu_ns(const struct program *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->nr_handlers; i++)
		if (p->handlers[i].runs)
			sum += clock_other_cpu_ns(p->handlers[i].thread);
	return sum;
}

/* Have the handlers of one class read on the CPUs in `used`, and nobody else. */
static void handlers_select(struct program *p, const cpu_set_t *used, bool normal)
{
	int nr_reading = 0;

	for (unsigned i = normal; i < p->nr_handlers; i += 2) {
		struct handler *h = &p->handlers[i];
		nr_reading += CPU_ISSET((unsigned)h->cpu, used) && !handler_use(h);
	}
	/* A CPU without a handler is served by all there are. */
	bool lacking = nr_reading < CPU_COUNT(used);
	for (unsigned i = 0; i < p->nr_handlers; i++) {
		struct handler *h = &p->handlers[i];
		if (h->normal != normal || !CPU_ISSET((unsigned)h->cpu, used))
			handler_park(h, !lacking);
	}
	p->normal = normal;
	/* All that were to read have just retired in favour of one that has been parked here. */
	for (unsigned i = 0; !atomic_load(&p->nr_reading); i = (i + 1) % p->nr_handlers)
		handler_use(&p->handlers[i]);
}

/* Have one parked, to be called. */
static void spare_start(struct program *p)
{
	struct handler *spare = NULL;

	for (unsigned i = p->normal; i < p->nr_handlers; i += 2) {
		struct handler *h = &p->handlers[i];
		if (handler_parked(h))
			return;
		if (atomic_load(&h->state) == HANDLER_NONE)
			spare = h;
	}
	if (spare)
		handler_start(spare);
}

/* CPUs on which handlers read. */
static void cpus_read(const struct program *p, cpu_set_t *ret_cpus)
{
	CPU_ZERO(ret_cpus);
	for (unsigned i = 0; i < p->nr_handlers; i++)
		if (atomic_load(&p->handlers[i].state) == HANDLER_READS)
			CPU_SET((unsigned)p->handlers[i].cpu, ret_cpus);
}

/* CPUs of the threads that faulted since this was asked last. */
static void cpus_faulted(struct program *p, cpu_set_t *ret_cpus)
{
	CPU_ZERO(ret_cpus);
	for (unsigned i = 0; i < p->nr_handlers; i++)
		for (unsigned k = 0; k < HANDLER_TIDS; k++) {
			uint32_t tid = atomic_exchange(&p->handlers[i].tids[k], 0);
			int cpu;
			if (tid && !proc_cpu((pid_t)tid, &cpu) && cpu < CPU_SETSIZE)
				CPU_SET((unsigned)cpu, ret_cpus);
		}
}

void handlers_choose(struct program *p, uint64_t now_ns, cpu_set_t *add_used)
{
	bool normal = p->server->saturated || now_ns < p->normal_until_ns;
	cpu_set_t used;

	if (!p->nr_handlers)
		return;
	cpus_faulted(p, &used);
	CPU_OR(add_used, add_used, &used);
	bool faulted = CPU_COUNT(&used);
	for (unsigned i = 0; i < p->nr_handlers; i++)
		handler_over(&p->handlers[i]);
	if (!faulted && normal == p->normal)
		return; /* leave it as it is */
	if (!faulted)
		cpus_read(p, &used);
	handlers_select(p, &used, normal);
	if (faulted)
		spare_start(p);
}

void handlers_lift(struct program *p)
{
	for (unsigned i = 0; i < p->nr_handlers; i++) {
		struct handler *h = &p->handlers[i];
		if (h->normal || atomic_load(&h->lifted) || !atomic_load(&h->tid))
			continue;
		handler_lift(h);
		handler_ring(h); /* to go back */
	}
}

void handlers_hurry(struct program *p)
{
	uint64_t now_ns = clock_now_ns();
	cpu_set_t used;

	if (now_ns > p->normal_until_ns + NORMAL_MAX_NS)
		p->normal_for_ns = NORMAL_NS;
	else if (now_ns > p->normal_until_ns && p->normal_for_ns < NORMAL_MAX_NS)
		p->normal_for_ns *= 2;
	p->normal_until_ns = now_ns + p->normal_for_ns;
	cpus_read(p, &used);
	handlers_select(p, &used, true);
}

/* ---- the machine ---- */

void handlers_weigh(struct server *s, uint64_t now_ns, uint64_t mover_ns)
{
	uint64_t idle_ns, span_ns = now_ns - s->weighed_ns;

	if (span_ns < WEIGH_NS || cpu_idle("", &s->cpus, &idle_ns))
		return;
	/* The mover works beside the program, and gets out of its way. */
	int64_t free_ns = (int64_t)(idle_ns + mover_ns);
	int64_t more_ns = free_ns - s->free_ns;
	if (s->weighed_ns && more_ns < (int64_t)(span_ns / 4))
		s->saturated = true;
	else if (more_ns > (int64_t)(span_ns / 2))
		s->saturated = false;
	s->free_ns = free_ns;
	s->weighed_ns = now_ns;
}
