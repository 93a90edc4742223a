/* SPDX-License-Identifier: MIT */
/*
 * What a touch costs, and how long the consumer looks for the next ready page.
 *
 *   record   heat record and ready mark of random pages of one block, by one thread and by two, in
 *            the CPU time of the thread; another drains them now and then, untimed
 *   next     the next ready page out of 2^28 (or as many as asked for), at densities 1e-8 .. 1e-1:
 *            p50 and p99, and the time by decile of the address; the order of classes is checked.
 *            The clock's own cost is measured and taken off.
 *   rivals   what else could be done: scan every record; one list behind one lock; a queue for each
 *            CPU. Marking, and finding the next page.
 *
 *   engine_bench [LOG2_PAGES]
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "clock.h"
#include "engine.h"
#include "inner.h"
#include "rng.h"

#define BLOCK 512u
#define HUGE_BYTES ((size_t)2 << 20)
#define NR_SAMPLES 200000u

static void *memory_new(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		perror("engine_bench: mmap");
		exit(1);
	}
	/* As the tables of a large mapping are. */
	if (bytes >= HUGE_BYTES)
		madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* ---- record ---- */

struct marker {
	_Atomic uint32_t *records, *epoch;
	struct ready *ready;
	uint64_t seed;
	double ns;
};

#define NR_MARKS (1u << 22)
#define BATCH 256u
#define STRETCH 256u

static void pages_drain(struct marker *m)
{
	uint32_t class, record;
	uint64_t taken;

	while (ready_take(m->ready, &taken, &class))
		heat_take(&m->records[taken], &record);
}

static void *mark_pages(void *arg)
{
	struct marker *m = arg;
	uint64_t rng = m->seed, spent_ns = 0;

	for (uint64_t i = 0; i < NR_MARKS; i += BATCH) {
		uint64_t begin_ns = clock_thread_cpu_ns();
		for (uint64_t k = 0; k < BATCH; k++) {
			uint64_t idx = rng_next(&rng) % BLOCK;
			struct heat_moment now = heat_moment_at((i + k) * 1000);
			bool raised, known = heat_block_enter(m->records, BLOCK, m->epoch, now);
			uint32_t epoch = atomic_load_explicit(m->epoch, memory_order_relaxed);
			uint32_t record = heat_publish(&m->records[idx], epoch, now, known,
						       (uint32_t)m->seed, false, &raised);
			if (raised)
				ready_mark(m->ready, heat_class(record), idx);
		}
		spent_ns += clock_thread_cpu_ns() - begin_ns;
		if (m->seed == 1) /* so that marks are made, and not only found made */
			pages_drain(m);
	}
	m->ns = (double)spent_ns / NR_MARKS;
	return NULL;
}

static double record_ns(unsigned nr_threads)
{
	void *memory = memory_new(ready_bytes(BLOCK) + 4096);
	_Atomic uint32_t *records = memory_new(BLOCK * sizeof *records + 4096);
	_Atomic uint32_t *epoch = memory_new(4096);
	struct marker marker[2];
	struct ready ready;
	pthread_t thread[2];
	double worst = 0;

	ready_init(&ready, memory, BLOCK);
	for (unsigned i = 0; i < nr_threads; i++) {
		marker[i] = (struct marker){ records, epoch, &ready, i + 1, 0 };
		pthread_create(&thread[i], NULL, mark_pages, &marker[i]);
	}
	for (unsigned i = 0; i < nr_threads; i++) {
		pthread_join(thread[i], NULL);
		worst = marker[i].ns > worst ? marker[i].ns : worst;
	}
	return worst;
}

/* ---- next ---- */

static uint32_t sample_ns[NR_SAMPLES];

/* The clock's own price: the least time between two readings, seen often. */
static uint32_t clock_price_ns(void)
{
	for (unsigned i = 0; i < NR_SAMPLES; i++) {
		uint64_t begin_ns = clock_now_ns();
		sample_ns[i] = (uint32_t)(clock_now_ns() - begin_ns);
	}
	qsort(sample_ns, NR_SAMPLES, sizeof *sample_ns, by_value);
	return sample_ns[NR_SAMPLES / 2];
}

struct deciles {
	uint64_t sum_ns[10], nr[10];
};

/* Sum up `nr_samples` takes among nr_ready random pages; returns how often a colder class came first. */
static uint32_t next_round(struct ready *ready, uint64_t nr_pages, uint64_t nr_ready, uint64_t seed,
			   uint32_t *samples, uint32_t nr_samples, uint32_t price_ns,
			   struct deciles *deciles)
{
	uint64_t rng = seed, idx;
	uint32_t class, colder = 0;

	for (uint64_t i = 0; i < nr_ready; i++)
		ready_mark(ready, 1 + (uint32_t)(i & 1), rng_next(&rng) % nr_pages);
	for (uint32_t i = 0; i < nr_samples; i++) {
		if (i % STRETCH == 0) {
			/* From all over the address space. The jump is ours, no take makes one, so
			 * the first take behind it does not count. */
			ready->classes[2].cursor = rng_next(&rng) % nr_pages;
			ready->classes[1].cursor = rng_next(&rng) % nr_pages;
			if (ready_take(ready, &idx, &class))
				ready_mark(ready, class, idx);
		}
		uint64_t begin_ns = clock_now_ns();
		bool found = ready_take(ready, &idx, &class);
		uint32_t took_ns = (uint32_t)(clock_now_ns() - begin_ns);
		if (!found)
			exit(1);
		samples[i] = took_ns > price_ns ? took_ns - price_ns : 0;
		if (took_ns < 10000) { /* else the scheduler's */
			deciles->sum_ns[idx * 10 / nr_pages] += samples[i];
			deciles->nr[idx * 10 / nr_pages]++;
		}
		colder += class == 1 && atomic_load(&ready->classes[2].level[ready->nr_levels - 1][0]);
		ready_mark(ready, class, idx); /* so that the density stays */
	}
	while (ready_take(ready, &idx, &class))
		;
	return colder;
}

static void next_row(struct ready *ready, uint64_t nr_pages, double density, uint32_t price_ns)
{
	uint64_t nr_ready = (uint64_t)((double)nr_pages * density);
	struct deciles deciles = { { 0 }, { 0 } };
	uint32_t colder = 0, nr = 0;
	double best = 0, worst = 0;

	nr_ready = nr_ready ? nr_ready : 1;
	/* Few pages say little about addresses, so other ones are drawn again and again. */
	uint32_t nr_rounds = nr_ready < 100000 ? 40 : 1, each = NR_SAMPLES / nr_rounds;
	for (uint32_t r = 0; r < nr_rounds; r++, nr += each)
		colder += next_round(ready, nr_pages, nr_ready, r + 1, sample_ns + nr, each, price_ns,
				     &deciles);
	qsort(sample_ns, nr, sizeof *sample_ns, by_value);
	for (unsigned d = 0; d < 10; d++) {
		if (deciles.nr[d] < 100)
			continue;
		double mean = (double)deciles.sum_ns[d] / (double)deciles.nr[d];
		best = best > 0 && best < mean ? best : mean;
		worst = mean > worst ? mean : worst;
	}
	printf("next     density %.0e  ready %9" PRIu64 "  p50 %4u ns  p99 %4u ns  worst/best decile %.2f"
	       "  colder first %u\n", density, nr_ready, sample_ns[nr / 2], sample_ns[nr / 100 * 99],
	       best > 0 ? worst / best : 1.0, colder);
	fflush(stdout);
}

static void next_table(uint64_t nr_pages)
{
	size_t bytes = ready_bytes(nr_pages);
	void *memory = memory_new(bytes);
	uint32_t price_ns = clock_price_ns();
	struct ready ready;

	ready_init(&ready, memory, nr_pages);
	printf("next     %" PRIu64 " pages, %u levels, clock %u ns taken off\n", nr_pages,
	       ready.nr_levels, price_ns);
	static const double density[] = { 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1 };
	for (unsigned i = 0; i < sizeof density / sizeof *density; i++)
		next_row(&ready, nr_pages, density[i], price_ns);
	munmap(memory, bytes);
}

/* ---- rivals ---- */

#define QUEUE_SIZE (1u << 20)

struct queue {
	pthread_mutex_t lock;
	_Alignas(64) uint64_t head, tail;
	uint64_t *pages;
};

static void queue_put(struct queue *q, uint64_t page)
{
	pthread_mutex_lock(&q->lock);
	q->pages[q->tail++ % QUEUE_SIZE] = page;
	pthread_mutex_unlock(&q->lock);
}

static bool queue_get(struct queue *q, uint64_t *ret_page)
{
	pthread_mutex_lock(&q->lock);
	bool any = q->head != q->tail;
	if (any)
		*ret_page = q->pages[q->head++ % QUEUE_SIZE];
	pthread_mutex_unlock(&q->lock);
	return any;
}

struct putter {
	struct queue *queue;
	uint64_t seed;
	double ns;
};

static void *put_pages(void *arg)
{
	struct putter *p = arg;
	uint64_t rng = p->seed, begin_ns = clock_thread_cpu_ns();

	for (uint64_t i = 0; i < NR_MARKS; i++)
		queue_put(p->queue, rng_next(&rng) % BLOCK);
	p->ns = (double)(clock_thread_cpu_ns() - begin_ns) / NR_MARKS;
	return NULL;
}

static void queue_row(const char *name, bool shared)
{
	struct queue queue[2] = { { .lock = PTHREAD_MUTEX_INITIALIZER },
				  { .lock = PTHREAD_MUTEX_INITIALIZER } };
	struct putter putter[2];
	pthread_t thread[2];
	uint64_t page, nr = 0;

	for (unsigned i = 0; i < 2; i++)
		queue[i].pages = memory_new(QUEUE_SIZE * sizeof(uint64_t));
	for (unsigned i = 0; i < 2; i++) {
		putter[i] = (struct putter){ &queue[shared ? 0 : i], i + 1, 0 };
		pthread_create(&thread[i], NULL, put_pages, &putter[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	uint64_t waiting = queue[0].tail + queue[1].tail, begin_ns = clock_now_ns();
	for (unsigned i = 0; i < 1000000; i++)
		nr += queue_get(&queue[i & !shared], &page);
	double get_ns = (double)(clock_now_ns() - begin_ns) / 1000000;
	printf("rival    %-24s mark %6.1f ns (two threads)  next %6.1f ns  entries for 512 pages %" PRIu64
	       "  (no order by heat)\n", name, putter[0].ns > putter[1].ns ? putter[0].ns : putter[1].ns,
	       get_ns, waiting);
	if (!nr)
		exit(1);
	for (unsigned i = 0; i < 2; i++)
		munmap(queue[i].pages, QUEUE_SIZE * sizeof(uint64_t));
}

/* Look at every record for one that is ready. */
static void scan_row(uint64_t nr_pages, double density)
{
	uint64_t sample = nr_pages < 1u << 26 ? nr_pages : 1u << 26, found = 0;
	_Atomic uint32_t *records = memory_new(sample * sizeof *records);

	/* Written once: untouched memory would all be the same page of zeros. */
	memset((void *)records, 0xfe, sample * sizeof *records);
	uint64_t begin_ns = clock_now_ns();
	for (uint64_t i = 0; i < sample; i++)
		found += atomic_load_explicit(&records[i], memory_order_relaxed) & HEAT_MASK(READY);
	double ns = (double)(clock_now_ns() - begin_ns) / (double)sample;
	double distance = 1 / density < (double)nr_pages ? 1 / density : (double)nr_pages;
	printf("rival    scan every record        %.2f ns a record: next at density %.0e %14.0f ns%s\n",
	       ns, density, ns * distance, found ? " ?" : "");
	munmap((void *)records, sample * sizeof *records);
}

int main(int argc, char **argv)
{
	unsigned log2_pages = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 28;
	uint64_t nr_pages = UINT64_C(1) << log2_pages;

	if (log2_pages < 10 || log2_pages > 32) {
		fprintf(stderr, "usage: engine_bench [LOG2_PAGES]   (10 .. 32)\n");
		return 2;
	}
	printf("record   one thread  %6.1f ns\n", record_ns(1));
	printf("record   two threads %6.1f ns, one block\n", record_ns(2));
	next_table(nr_pages);
	scan_row(nr_pages, 1e-8);
	scan_row(nr_pages, 1e-4);
	scan_row(nr_pages, 1e-1);
	queue_row("one list, one lock", true);
	queue_row("a queue for each CPU", false);
	printf("bytes    %.3f a page: state 8, heat 4, estimate 2, ready %.3f, epochs %.3f\n",
	       (double)engine_region_bytes(nr_pages) / (double)nr_pages,
	       (double)ready_bytes(nr_pages) / (double)nr_pages, 4.0 / HEAT_BLOCK_PAGES);
	return 0;
}
