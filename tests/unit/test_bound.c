/* SPDX-License-Identifier: MIT */
/*
 * What the memory of each process alone and what they share may have of the cap and the guarantee of their
 * workload, over several looks, while processes come and go and some are tuned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bound.h"
#include "rule.h"

#define PAGE_BYTES 4096u
#define CAP 1600u
#define WINDOW_PAGES ((uint64_t)TIERING_WINDOW_PAGES)
#define SECOND_NS 1000000000u

enum { JOBS, REST, NR_RULES };
enum { NR_PROCESSES = 5 };

struct world {
	struct tiering tiering;
	struct shares shares;
	struct rule rules[NR_RULES];
	struct watch watches[NR_PROCESSES];
	struct process_range ranges[NR_PROCESSES][2];
	uint64_t now_ns;
};

static struct world w;

static int world_open(void **state)
{
	struct tiering_config config = {
		.nr_nodes = 2,
		.nodes = { { .fast = true, .latency_ns = 90 }, { .slow = true, .latency_ns = 250 } },
	};

	(void)state;
	w = (struct world){ .now_ns = SECOND_NS };
	tiering_init(&w.tiering, &config);
	shares_init(&w.shares, &w.tiering);
	rule_init(&w.rules[JOBS], "jobs");
	rule_init(&w.rules[REST], "rest");
	for (int i = 0; i < NR_PROCESSES; i++) {
		struct watch *watch = &w.watches[i];

		watch->next = i + 1 < NR_PROCESSES ? watch + 1 : NULL;
		watch->rule = &w.rules[JOBS];
		watch->space.owner = watch;
		watch->sharer.own = &watch->space;
		watch->ranges = w.ranges[i];
		watch->ended = true;
	}
	return 0;
}

static int world_close(void **state)
{
	(void)state;
	assert_null(tiering_check(&w.tiering));
	shares_close(&w.shares);
	return 0;
}

/* A process comes; of each file that is not 0 it maps one window. */
static struct watch *process_new(int i, uint64_t inode, uint64_t other_inode)
{
	const uint64_t inodes[] = { inode, other_inode };
	struct watch *watch = &w.watches[i];

	watch->ended = false;
	for (size_t r = 0; r < 2; r++)
		if (inodes[r])
			w.ranges[i][watch->nr_ranges++] = (struct process_range){
				.start = (r + 1) << 30,
				.end = ((r + 1) << 30) + WINDOW_PAGES * PAGE_BYTES,
				.kind = PROCESS_SHARED_ANON,
				.shared = true,
				.refusal = REASON_MOVED,
				.inode = inodes[r],
			};
	return watch;
}

static void process_end(struct watch *watch)
{
	shares_leave(&w.shares, &watch->sharer);
	watch->ended = true;
	watch->space.node_pages[0] = 0;
}

static void look(void)
{
	w.now_ns += SECOND_NS;
	assert_int_equal(watches_share(w.watches, &w.shares, w.now_ns), 0);
	bounds_divide(w.watches, &w.shares, w.rules, NR_RULES, 0);
}

static struct tiering_space *share_space(uint64_t inode)
{
	for (size_t b = 0; b < SHARE_BUCKETS; b++)
		for (struct share *s = w.shares.buckets[b]; s; s = s->next)
			if (s->inode == inode)
				return &s->space;
	fail_msg("no share");
	return NULL;
}

/* So many pages of a share are fast, as many were touched. */
static void share_use(uint64_t inode, uint64_t fast, uint64_t touched)
{
	struct tiering_space *space = share_space(inode);

	assert_int_equal(windows_cover(space, 0, WINDOW_PAGES), 0);
	if (fast)
		tiering_place(&w.tiering, space, 0, fast, 0, false, w.now_ns);
	tiering_place(&w.tiering, space, fast, WINDOW_PAGES - fast, 1, false, w.now_ns);
	space->counts.touched += touched;
}

static void cap_set(int rule, uint64_t pages)
{
	w.rules[rule].fast_max = (struct rule_size){ .bytes = pages * PAGE_BYTES };
}

static void guarantee_set(int rule, uint64_t pages)
{
	w.rules[rule].fast_min = (struct rule_size){ .bytes = pages * PAGE_BYTES };
}

/* What all spaces of processes that live, and shares, may have. */
static uint64_t max_sum(void)
{
	uint64_t sum = 0;

	for (const struct watch *watch = w.watches; watch; watch = watch->next)
		sum += watch->ended ? 0 : watch->space.fast_max_pages;
	for (size_t b = 0; b < SHARE_BUCKETS; b++)
		for (const struct share *s = w.shares.buckets[b]; s; s = s->next)
			sum += s->space.fast_max_pages;
	return sum;
}

/* However many map it: what they share alone has nearly all of their cap, from the first look on. */
static void sharers_have_all_of_their_cap(void **state)
{
	(void)state;
	cap_set(JOBS, CAP);
	for (int i = 0; i < NR_PROCESSES; i++)
		process_new(i, 7, 0);
	look();
	assert_in_range(max_sum(), 1, CAP);
	share_use(7, share_space(7)->fast_max_pages, 3000);
	for (int i = 0; i < 3; i++) {
		look();
		assert_in_range(max_sum(), CAP * 95 / 100, CAP);
		share_use(7, share_space(7)->fast_max_pages, 3000);
	}
	assert_in_range(share_space(7)->fast_max_pages, CAP * 15 / 16, CAP);
}

/* One that maps it twice, or with others, counts it once. */
static void each_page_counts_once(void **state)
{
	(void)state;
	cap_set(JOBS, CAP);
	process_new(0, 7, 7);
	process_new(1, 7, 8);
	look();
	share_use(7, 800, 0);
	share_use(8, 400, 0);
	w.watches[0].space.node_pages[0] = 200;
	w.watches[1].space.node_pages[0] = 200;
	w.watches[1].space.node_pages[1] = 5000; /* slow: that is not what is capped */
	look();
	assert_in_range(share_space(7)->fast_max_pages, 750, 800);
	assert_in_range(share_space(8)->fast_max_pages, 375, 400);
	assert_in_range(w.watches[1].space.fast_max_pages, 188, 213);
	assert_in_range(max_sum(), CAP * 9 / 10, CAP);
}

/* A process with memory of its own beside four that share: it comes and gets its part, it has all when they
 * go; together they never have more than the cap. */
static void they_come_and_go(void **state)
{
	struct watch *hog = &w.watches[4];

	(void)state;
	cap_set(JOBS, CAP);
	for (int i = 0; i < 4; i++)
		process_new(i, 7, 0);
	look();
	for (int i = 0; i < 40; i++) {
		uint64_t shared = i < 25 ? share_space(7)->fast_max_pages : 0;

		if (i < 25)
			share_use(7, shared, 2000);
		assert_in_range(shared + hog->space.node_pages[0], 0, CAP);
		if (i == 10)
			process_new(4, 0, 0);
		hog->space.counts.touched += i > 10 ? 2000 : 0;
		if (i == 9)
			assert_in_range(shared, CAP * 9 / 10, CAP);
		if (i == 24) {
			assert_in_range(shared, CAP / 4, CAP * 3 / 4);
			assert_in_range(hog->space.node_pages[0], CAP / 4, CAP * 3 / 4);
			for (int j = 0; j < 4; j++)
				process_end(&w.watches[j]);
		}
		look();
		assert_int_equal(w.shares.nr, i < 24);
		hog->space.node_pages[0] = hog->ended ? 0 : hog->space.fast_max_pages;
	}
	assert_in_range(hog->space.node_pages[0], CAP * 9 / 10, CAP);
}

/* What is mapped by processes of two rules counts for both, and may have the more that one of them gives. */
static void of_two_workloads(void **state)
{
	(void)state;
	process_new(0, 7, 0);
	process_new(1, 7, 0)->rule = &w.rules[REST];
	look();
	assert_true(share_space(7)->fast_max_pages == UINT64_MAX);
	cap_set(JOBS, CAP);
	look();
	assert_true(share_space(7)->fast_max_pages == UINT64_MAX);
	assert_true(w.watches[1].space.fast_max_pages == UINT64_MAX);
	share_use(7, 1000, 0);
	w.watches[0].space.node_pages[0] = 1000;
	look();
	/* Of 2000 each of both has half. */
	assert_in_range(w.watches[0].space.fast_max_pages, CAP * 45 / 100, CAP / 2);
	cap_set(REST, 900);
	look();
	assert_in_range(share_space(7)->fast_max_pages, 850, 900);
	cap_set(REST, 0);
	look();
	assert_in_range(share_space(7)->fast_max_pages, CAP * 45 / 100, CAP / 2);
	assert_int_equal(w.watches[1].space.fast_max_pages, 0);
}

/* By what each space has; the same page may be guaranteed to two workloads, and is kept once. */
static void guarantee(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		process_new(i, 7, 0);
	process_new(3, 7, 0)->rule = &w.rules[REST];
	look();
	share_use(7, 900, 0);
	w.watches[0].space.node_pages[0] = 300;
	look();
	assert_int_equal(share_space(7)->fast_min_pages, 0);
	guarantee_set(JOBS, 800);
	look();
	assert_int_equal(share_space(7)->fast_min_pages, 600);
	assert_int_equal(w.watches[0].space.fast_min_pages, 200);
	assert_int_equal(w.watches[1].space.fast_min_pages, 0);
	guarantee_set(REST, 500);
	look();
	assert_int_equal(share_space(7)->fast_min_pages, 600);
	guarantee_set(REST, 700);
	look();
	assert_int_equal(share_space(7)->fast_min_pages, 700);
	/* More than there is: all of it, and room to grow into. */
	guarantee_set(JOBS, 1600);
	look();
	assert_int_equal(share_space(7)->fast_min_pages, 1000);
	assert_int_equal(w.watches[0].space.fast_min_pages, 400);
	assert_int_equal(w.watches[1].space.fast_min_pages, 100);
	/* No more than is allowed. */
	cap_set(JOBS, 400);
	guarantee_set(REST, 0);
	look();
	assert_int_equal(share_space(7)->fast_min_pages, 300);
}

/* Who is tuned has its own bounds, for what it shares, too; the others divide what that leaves. */
static void who_is_tuned(void **state)
{
	(void)state;
	cap_set(JOBS, CAP);
	guarantee_set(JOBS, 800);
	struct watch *one = process_new(0, 7, 0), *two = process_new(1, 0, 0);
	look();
	share_use(7, 100, 0);
	one->tuned.fast_max = one->tuned.fast_min = true;
	one->tuned.fast_max_pages = 400;
	one->tuned.fast_min_pages = 80;
	one->space.node_pages[0] = 300;
	two->space.node_pages[0] = 2000;
	look();
	assert_int_equal(two->space.fast_max_pages, CAP - 400);
	assert_int_equal(two->space.fast_min_pages, 800 - 80);
	assert_in_range(one->space.fast_max_pages + share_space(7)->fast_max_pages, 390, 400);
	assert_in_range(share_space(7)->fast_max_pages, 95, 110);
	assert_int_equal(one->space.fast_min_pages, 60);
	assert_int_equal(share_space(7)->fast_min_pages, 20);
	one->tuned.fast_max_pages = UINT64_MAX;
	look();
	assert_true(one->space.fast_max_pages == UINT64_MAX);
	assert_true(share_space(7)->fast_max_pages == UINT64_MAX);
	assert_int_equal(two->space.fast_max_pages, CAP);
	/* Taken back. */
	one->tuned.fast_max = one->tuned.fast_min = false;
	look();
	assert_in_range(max_sum(), CAP * 9 / 10, CAP);
}

#define WORLD_TEST(test) cmocka_unit_test_setup_teardown(test, world_open, world_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(sharers_have_all_of_their_cap),
		WORLD_TEST(each_page_counts_once),
		WORLD_TEST(they_come_and_go),
		WORLD_TEST(of_two_workloads),
		WORLD_TEST(guarantee),
		WORLD_TEST(who_is_tuned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
