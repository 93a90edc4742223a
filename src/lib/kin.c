/* SPDX-License-Identifier: MIT */
#include "kin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"

#define RING_BYTES 65536u /* some thousand of them */
#define WAITING_MAX 1024u  /* at once; more are in doubt */
#define CPUS_LOOK_NS UINT64_C(4000000000)

static int ring_open(void *arg, unsigned int cpu, struct perf_ring *ret_ring)
{
	(void)arg;
	return perf_ring_open_starts(cpu, RING_BYTES, ret_ring);
}

void kin_begin(struct kin *kin, const char *root)
{
	*kin = (struct kin){ .rings = { .root = root, .open = ring_open } };
}

struct reading {
	struct kin *kin;
	uint64_t now_ns;
};

/* A new thread is nobody new. */
static void record_visit(void *arg, const struct perf_record *record)
{
	struct reading *reading = arg;
	struct kin *kin = reading->kin;
	bool start = record->kind == PERF_FORK && record->pid != record->parent;

	if (!start && record->kind != PERF_LOST)
		return;
	struct kin_start *news = array_room(kin->news, kin->nr_news, &kin->max_news, sizeof *news);
	if (!start || !news) {
		kin->doubt_ns = reading->now_ns;
		return;
	}
	kin->news = news;
	news[kin->nr_news++] = (struct kin_start){ (pid_t)record->pid, (pid_t)record->parent, record->time_ns };
}

static int by_time(const void *one, const void *other)
{
	const struct kin_start *a = one, *b = other;

	return a->time_ns < b->time_ns ? -1 : a->time_ns > b->time_ns;
}

static struct kin_start *waiting(struct kin *kin, pid_t pid)
{
	for (size_t i = 0; i < kin->nr; i++)
		if (kin->list[i].pid == pid)
			return &kin->list[i];
	return NULL;
}

static void drop(struct kin *kin, struct kin_start *start)
{
	kin->nr--;
	memmove(start, start + 1, (size_t)(kin->list + kin->nr - start) * sizeof *start);
}

/* Whoever had its number before has ended. */
static void start_judge(struct kin *kin, const struct kin_start *start, bool ours, uint64_t now_ns)
{
	struct kin_start *before = waiting(kin, start->pid);

	if (before)
		drop(kin, before);
	if (!ours)
		return;
	struct kin_start *list =
		kin->nr < WAITING_MAX ? array_room(kin->list, kin->nr, &kin->max, sizeof *list) : NULL;
	if (!list) {
		kin->nr = 0;
		kin->doubt_ns = now_ns;
		return;
	}
	kin->list = list;
	list[kin->nr++] = *start;
}

/* CPU after CPU, so by time only when all are read: who was started by one of these comes behind it. */
void kin_read(struct kin *kin, bool (*ours)(void *arg, const struct kin_start *start), void *arg, uint64_t now_ns)
{
	struct reading reading = { kin, now_ns };

	for (size_t i = 0; i < kin->rings.nr; i++)
		perf_ring_read(&kin->rings.list[i].ring, record_visit, &reading);
	if (kin->nr_news)
		qsort(kin->news, kin->nr_news, sizeof *kin->news, by_time);
	for (size_t i = 0; i < kin->nr_news; i++) {
		const struct kin_start *start = &kin->news[i];
		bool child = ours(arg, start);
		start_judge(kin, start, child || waiting(kin, start->parent), now_ns);
	}
	kin->nr_news = 0;
	if (kin->cpus_looked_ns && now_ns - kin->cpus_looked_ns < CPUS_LOOK_NS)
		return;
	kin->cpus_looked_ns = now_ns;
	if (cpu_rings_look(&kin->rings))
		kin->doubt_ns = now_ns;
}

int kin_take(struct kin *kin, uint64_t before_ns, struct kin_start *ret_start)
{
	if (!kin->nr || kin->list->time_ns >= before_ns)
		return -ENOENT;
	*ret_start = *kin->list;
	drop(kin, kin->list);
	return 0;
}

uint64_t kin_doubt_ns(const struct kin *kin)
{
	return kin->rings.nr ? kin->doubt_ns : UINT64_MAX;
}

void kin_end(struct kin *kin)
{
	cpu_rings_close(&kin->rings);
	free(kin->news);
	free(kin->list);
	*kin = (struct kin){ 0 };
}
