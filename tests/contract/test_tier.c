/* SPDX-License-Identifier: MIT */
/*
 * The contract of a private tier (tier.h), asked of every tier and stack of tiers in the table
 * below. A new tier adds a line there.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "delay.h"
#include "fault.h"
#include "pages.h"
#include "pool.h"
#include "ram.h"

/* ---- who is asked ----------------------------------------------------------------------------- */

static int open_pool(uint64_t capacity_bytes, struct tier **ret_tier)
{
	return pool_open(capacity_bytes, false, ret_tier);
}

static int open_pool_verify(uint64_t capacity_bytes, struct tier **ret_tier)
{
	return pool_open(capacity_bytes, true, ret_tier);
}

static int open_fault_pool(uint64_t capacity_bytes, struct tier **ret_tier)
{
	struct tier *inner;
	int err = pool_open(capacity_bytes, true, &inner);

	return err ? err : fault_open(inner, ret_tier);
}

static int open_delay_fault_ram(uint64_t capacity_bytes, struct tier **ret_tier)
{
	struct tier *ram, *fault;
	int err = ram_open(capacity_bytes, &ram);

	if (!err)
		err = fault_open(ram, &fault);
	return err ? err : delay_open(fault, 1000, 1000, 1000, ret_tier);
}

struct subject {
	const char *name;
	int (*open)(uint64_t capacity_bytes, struct tier **ret_tier);
	uint64_t floor_bytes; /* what may stay used with no page stored */
	unsigned rounds;      /* fewer for those that sleep */
};

static const struct subject subjects[] = {
	{ "pool", open_pool, POOL_KEEP_BYTES, 20000 },
	{ "pool,verify", open_pool_verify, POOL_KEEP_BYTES, 20000 },
	{ "ram", ram_open, 0, 20000 },
	{ "fault(pool,verify)", open_fault_pool, POOL_KEEP_BYTES, 5000 },
	{ "delay(fault(ram))", open_delay_fault_ram, 0, 500 },
};

static const struct subject *subject;

static struct tier *tier_of(uint64_t capacity_bytes)
{
	struct tier *tier = NULL;

	assert_int_equal(subject->open(capacity_bytes, &tier), 0);
	assert_non_null(tier);
	return tier;
}

static struct tier_usage usage_of(struct tier *tier)
{
	struct tier_usage usage;

	tier->ops->usage(tier, &usage);
	assert_true(usage.stored_bytes <= usage.used_bytes);
	assert_true(usage.used_bytes <= usage.peak_bytes);
	assert_true(usage.metadata_bytes > 0);
	return usage;
}

static void assert_holds(struct tier *tier, uint32_t slot, const unsigned char *page)
{
	unsigned char loaded[TIER_PAGE_BYTES + 16];

	memset(loaded, 0xa5, sizeof(loaded));
	assert_int_equal(tier->ops->load(tier, slot, loaded + 8), 0);
	assert_memory_equal(loaded + 8, page, TIER_PAGE_BYTES);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(loaded[i], 0xa5);
		assert_int_equal(loaded[TIER_PAGE_BYTES + 8 + i], 0xa5);
	}
	assert_int_equal(tier->ops->compare(tier, slot, page), 0);
}

/* With every slot gone, nothing is stored, and memory went back. */
static void assert_empty(struct tier *tier)
{
	struct tier_usage usage = usage_of(tier);

	assert_int_equal(usage.pages, 0);
	assert_int_equal(usage.stored_bytes, 0);
	assert_true(usage.used_bytes <= subject->floor_bytes);
}

/* A store that must fail with `error` and change nothing. */
static void assert_store_fails(struct tier *tier, const void *page, int error)
{
	struct tier_usage before = usage_of(tier), after;
	uint32_t slot = 0xdead;

	assert_int_equal(tier->ops->store(tier, page, &slot), error);
	assert_int_equal(slot, 0xdead);
	after = usage_of(tier);
	assert_int_equal(after.pages, before.pages);
	assert_int_equal(after.stored_bytes, before.stored_bytes);
	assert_true(after.used_bytes <= before.used_bytes || !after.capacity_bytes ||
		    after.used_bytes <= after.capacity_bytes);
}

/* ---- one thread ------------------------------------------------------------------------------- */

static void every_kind_of_page_comes_back(void **state)
{
	struct tier *tier = tier_of(0);
	unsigned char page[TIER_PAGE_BYTES];
	uint32_t slot;
	unsigned nr_stored[KIND_COUNT] = { 0 };

	(void)state;
	for (int kind = 0; kind < KIND_COUNT; kind++) {
		for (uint64_t seed = 0; seed < 120; seed++) {
			int err;

			page_make_kind(page, (enum page_kind)kind, seed);
			err = tier->ops->store(tier, page, &slot);
			if (err == -E2BIG) {
				assert_store_fails(tier, page, -E2BIG);
				continue;
			}
			assert_int_equal(err, 0);
			assert_int_not_equal(slot, 0);
			assert_holds(tier, slot, page);
			page[seed * 34] ^= 0x10;
			assert_int_equal(tier->ops->compare(tier, slot, page), 1);
			tier->ops->unref(tier, slot);
			nr_stored[kind]++;
		}
		/* Only content that hardly compresses may be refused. */
		if (kind != KIND_PREFIX && kind != KIND_EDGE && kind != KIND_RANDOM)
			assert_int_equal(nr_stored[kind], 120);
	}
	assert_true(nr_stored[KIND_PREFIX] > 60 && nr_stored[KIND_EDGE] > 0);
	assert_empty(tier);
	tier->ops->close(tier);
}

static void each_byte_counts_in_compare(void **state)
{
	struct tier *tier = tier_of(0);
	unsigned char page[TIER_PAGE_BYTES];
	uint32_t text, zero;

	(void)state;
	page_make_kind(page, KIND_ZERO, 0);
	assert_int_equal(tier->ops->store(tier, page, &zero), 0);
	page_make_kind(page, KIND_TEXT, 7);
	assert_int_equal(tier->ops->store(tier, page, &text), 0);
	for (size_t i = 0; i < TIER_PAGE_BYTES; i += subject->rounds < 1000 ? 97 : 1) {
		page[i] ^= 1;
		assert_int_equal(tier->ops->compare(tier, text, page), 1);
		page[i] ^= 1;
	}
	assert_int_equal(tier->ops->compare(tier, text, page), 0);
	page_make_kind(page, KIND_ZERO, 0);
	page[TIER_PAGE_BYTES - 1] = 1;
	assert_int_equal(tier->ops->compare(tier, zero, page), 1);
	tier->ops->close(tier);
}

static void a_slot_lives_until_its_last_reference(void **state)
{
	struct tier *tier = tier_of(0);
	unsigned char page[TIER_PAGE_BYTES];

	(void)state;
	for (int kind = 0; kind < KIND_RANDOM; kind++) {
		struct tier_usage one;
		uint32_t slot;

		if (kind == KIND_PREFIX || kind == KIND_EDGE)
			continue;
		page_make_kind(page, (enum page_kind)kind, 99);
		assert_int_equal(tier->ops->store(tier, page, &slot), 0);
		one = usage_of(tier);
		assert_int_equal(one.pages, 1);
		for (int i = 0; i < 300; i++)
			tier->ops->ref(tier, slot);
		for (int i = 0; i < 300; i++) {
			tier->ops->unref(tier, slot);
			assert_int_equal(usage_of(tier).stored_bytes, one.stored_bytes);
		}
		assert_int_equal(usage_of(tier).pages, 1);
		assert_holds(tier, slot, page);
		tier->ops->unref(tier, slot);
		assert_empty(tier);
	}
	tier->ops->close(tier);
}

/* A page that takes about 2/3 of its size anywhere, the same for the same seed. */
static void bulky_page(unsigned char *page, uint64_t seed)
{
	uint64_t state = seed;

	memset(page, 0, TIER_PAGE_BYTES);
	page_random(page, 2600, &state);
}

#define FULL_MAX 8192

static void capacity_binds_and_nothing_is_lost(void **state)
{
	const uint64_t capacity = subject->rounds < 1000 ? 1 << 20 : 6 << 20;
	struct tier *tier = tier_of(capacity);
	unsigned char page[TIER_PAGE_BYTES];
	uint32_t *slots = calloc(FULL_MAX, sizeof(*slots)), slot;
	unsigned nr = 0, err = 0;

	(void)state;
	while (!err) {
		assert_true(nr < FULL_MAX);
		bulky_page(page, nr);
		err = (unsigned)-tier->ops->store(tier, page, &slots[nr]);
		assert_true(usage_of(tier).used_bytes <= capacity);
		nr += !err;
	}
	assert_int_equal(err, ENOSPC);
	assert_store_fails(tier, page, -ENOSPC);
	assert_true(usage_of(tier).stored_bytes > capacity * 9 / 10);

	/* Room that was made is room. */
	for (unsigned i = 0; i < 10; i++)
		tier->ops->unref(tier, slots[--nr]);
	for (unsigned i = 0; i < 10; i++, nr++) {
		bulky_page(page, nr);
		assert_int_equal(tier->ops->store(tier, page, &slots[nr]), 0);
	}

	/* Below what is used nothing is lost; without a bound there is room again. */
	tier->ops->set_capacity(tier, capacity / 2);
	assert_int_equal(usage_of(tier).capacity_bytes, capacity / 2);
	bulky_page(page, 1 << 20);
	assert_store_fails(tier, page, -ENOSPC);
	tier->ops->set_capacity(tier, 0);
	assert_int_equal(tier->ops->store(tier, page, &slot), 0);
	assert_holds(tier, slot, page);
	tier->ops->unref(tier, slot);

	for (unsigned i = 0; i < nr; i++) {
		bulky_page(page, i);
		assert_holds(tier, slots[i], page);
		tier->ops->unref(tier, slots[i]);
	}
	assert_empty(tier);
	tier->ops->close(tier);
	free(slots);
}

/* What a test knows of the pages it stored. */
#define LIVE_MAX 600
struct live {
	uint32_t slot;
	uint64_t seed;
};

static int slot_order(const void *a, const void *b)
{
	uint32_t x = ((const struct live *)a)->slot, y = ((const struct live *)b)->slot;

	return (x > y) - (x < y);
}

static unsigned distinct_slots(struct live *live, unsigned nr)
{
	unsigned distinct = 0;

	qsort(live, nr, sizeof(*live), slot_order);
	for (unsigned i = 0; i < nr; i++)
		distinct += i == 0 || live[i].slot != live[i - 1].slot;
	return distinct;
}

/* Random stores, loads, references and frees; pages counted and compared with what was stored. */
static void a_long_random_life(void **state)
{
	struct tier *tier = tier_of(0);
	struct live live[LIVE_MAX];
	unsigned char page[TIER_PAGE_BYTES];
	uint64_t rng = 2024;
	unsigned nr = 0;

	(void)state;
	for (unsigned round = 0; round < subject->rounds; round++) {
		unsigned pick = nr ? (unsigned)(rng_next(&rng) % nr) : 0;
		unsigned what = (unsigned)(rng_next(&rng) % 8);

		if (what < 4 && nr < LIVE_MAX) {
			uint64_t seed = rng_next(&rng);
			int err;

			page_make(page, seed);
			err = tier->ops->store(tier, page, &live[nr].slot);
			assert_true(err == 0 || err == -E2BIG);
			live[nr].seed = seed;
			nr += !err;
		} else if (what == 4 && nr && nr < LIVE_MAX) {
			tier->ops->ref(tier, live[pick].slot);
			live[nr++] = live[pick];
		} else if (what == 5 && nr) {
			page_make(page, live[pick].seed);
			assert_holds(tier, live[pick].slot, page);
		} else if (nr) {
			tier->ops->unref(tier, live[pick].slot);
			live[pick] = live[--nr];
		}
		if (round % 50 == 0)
			assert_int_equal(usage_of(tier).pages, distinct_slots(live, nr));
	}
	while (nr--) {
		page_make(page, live[nr].seed);
		assert_holds(tier, live[nr].slot, page);
		tier->ops->unref(tier, live[nr].slot);
	}
	assert_empty(tier);
	tier->ops->close(tier);
}

/* What a store adds to the stored bytes its last unref takes away, in whatever order. */
static void usage_is_exact(void **state)
{
	struct tier *tier = tier_of(0);
	unsigned char page[TIER_PAGE_BYTES];
	uint64_t bytes[200], sum = 0, rng = 5;
	uint32_t slots[200];
	unsigned nr = 0;

	(void)state;
	for (uint64_t seed = 0; nr < 200; seed++) {
		page_make_kind(page, KIND_PREFIX, seed);
		if (tier->ops->store(tier, page, &slots[nr]) == -E2BIG)
			continue;
		bytes[nr] = usage_of(tier).stored_bytes - sum;
		sum += bytes[nr++];
		assert_int_equal(usage_of(tier).pages, nr);
	}
	while (nr) {
		unsigned pick = (unsigned)(rng_next(&rng) % nr);

		tier->ops->unref(tier, slots[pick]);
		sum -= bytes[pick];
		slots[pick] = slots[--nr];
		bytes[pick] = bytes[nr];
		assert_int_equal(usage_of(tier).stored_bytes, sum);
		assert_int_equal(usage_of(tier).pages, nr);
	}
	assert_empty(tier);
	tier->ops->close(tier);
}

/* What has no other home is taken whatever it is, and takes at most a page, a header and what lz4 adds. */
static void what_must_be_kept_is_kept(void **state)
{
	struct tier *tier = tier_of(0);
	unsigned char page[TIER_PAGE_BYTES];
	uint32_t slots[300];

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		uint64_t before = usage_of(tier).stored_bytes;
		page_make_kind(page, (enum page_kind)(i % KIND_COUNT), i);
		assert_int_equal(tier->ops->keep(tier, page, &slots[i]), 0);
		assert_true(usage_of(tier).stored_bytes - before <= TIER_PAGE_BYTES + 64);
	}
	for (unsigned i = 0; i < 300; i++) {
		page_make_kind(page, (enum page_kind)(i % KIND_COUNT), i);
		assert_holds(tier, slots[i], page);
		tier->ops->ref(tier, slots[i]);
		tier->ops->unref(tier, slots[i]);
		assert_holds(tier, slots[i], page);
		tier->ops->unref(tier, slots[i]);
	}
	assert_empty(tier);
	tier->ops->close(tier);
}

/* Nor does the capacity bind it. */
static void what_must_be_kept_is_kept_above_the_capacity(void **state)
{
	struct tier *tier = tier_of(4 << 20);
	unsigned char page[TIER_PAGE_BYTES];
	uint32_t slots[3000];

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		page_make_kind(page, KIND_RANDOM, i);
		assert_int_equal(tier->ops->keep(tier, page, &slots[i]), 0);
	}
	for (unsigned i = 0; i < 3000; i++) {
		page_make_kind(page, KIND_RANDOM, i);
		assert_holds(tier, slots[i], page);
		tier->ops->unref(tier, slots[i]);
	}
	assert_empty(tier);
	tier->ops->close(tier);
}

/* Numbers that were never given out, or whose slot is gone, are an error or any bytes. */
static void loading_nonsense_is_safe(void **state)
{
	struct tier *tier = tier_of(0);
	const struct tier_ops *ops = tier->ops;
	unsigned char page[TIER_PAGE_BYTES + 16];
	uint32_t slots[64];
	uint64_t rng = 77;

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		page_make_kind(page, KIND_TEXT, i);
		assert_int_equal(tier->ops->store(tier, page, &slots[i]), 0);
	}
	for (unsigned i = 0; i < 64; i += 2)
		tier->ops->unref(tier, slots[i]);
	memset(page, 0x5a, sizeof(page));
	assert_int_equal(tier->ops->load(tier, 0, page + 8), -EIO);
	for (unsigned i = 0; i < subject->rounds; i++) {
		uint32_t near = slots[i % 64] + (uint32_t)(rng_next(&rng) % 100) - 50;
		uint32_t any = i % 2 ? near : (uint32_t)rng_next(&rng);

		tier->ops->expect(tier, any);
		(void)tier->ops->load(tier, any, page + 8);
	}
	tier->ops->expect(tier, UINT32_MAX);
	(void)tier->ops->load(tier, UINT32_MAX, page + 8);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(page[i], 0x5a);
		assert_int_equal(page[TIER_PAGE_BYTES + 8 + i], 0x5a);
	}
	for (unsigned i = 1; i < 64; i += 2) {
		page_make_kind(page, KIND_TEXT, i);
		assert_holds(tier, slots[i], page);
		tier->ops->unref(tier, slots[i]);
	}
	assert_empty(tier);
	ops->close(tier);
	ops->close(NULL);
}

/* ---- injected failure ------------------------------------------------------------------------- */

/* A fixed life of 24 pages: each is stored, loaded, compared, every third freed. Counts failures,
 * and requires that a failure is `error` and changed nothing. */
static unsigned life_with_failures(struct tier *tier, int error)
{
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];
	uint32_t slots[24];
	unsigned nr_failed = 0;

	for (unsigned i = 0; i < 24; i++) {
		struct tier_usage before = usage_of(tier), after;
		uint32_t slot = 0xdead;
		int err;

		page_make_kind(page, i % 2 ? KIND_TEXT : KIND_MANY_WORDS, i);
		err = tier->ops->store(tier, page, &slot);
		if (err) {
			assert_int_equal(err, error);
			assert_int_equal(slot, 0xdead);
			after = usage_of(tier);
			assert_int_equal(after.pages, before.pages);
			assert_int_equal(after.stored_bytes, before.stored_bytes);
			nr_failed++;
			assert_int_equal(tier->ops->store(tier, page, &slot), 0);
		}
		slots[i] = slot;
		err = tier->ops->load(tier, slot, loaded);
		if (err) {
			assert_int_equal(err, error);
			nr_failed++;
			assert_int_equal(tier->ops->load(tier, slot, loaded), 0);
		}
		assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
		err = tier->ops->compare(tier, slot, page);
		if (err) {
			assert_int_equal(err, error);
			nr_failed++;
		}
	}
	for (unsigned i = 0; i < 24; i++) {
		page_make_kind(page, i % 2 ? KIND_TEXT : KIND_MANY_WORDS, i);
		assert_int_equal(tier->ops->load(tier, slots[i], loaded) == 0 ||
					 tier->ops->load(tier, slots[i], loaded) == 0, 1);
		assert_memory_equal(loaded, page, TIER_PAGE_BYTES);
		tier->ops->unref(tier, slots[i]);
	}
	assert_empty(tier);
	return nr_failed;
}

static void each_call_in_turn_fails(void **state)
{
	static const int errors[FAULT_CALL_COUNT][2] = { { -ENOSPC, -E2BIG },
							 { -EIO, -EIO },
							 { -EIO, -EIO } };
	(void)state;
	for (int call = 0; call < FAULT_CALL_COUNT; call++) {
		uint64_t k = 0, nr_hit;

		do {
			struct tier *inner = tier_of(0), *tier;
			int error = errors[call][++k % 2];

			assert_int_equal(fault_open(inner, &tier), 0);
			fault_plan(tier, (enum fault_call)call, k, error, false);
			life_with_failures(tier, error);
			nr_hit = fault_failed(tier, (enum fault_call)call);
			assert_int_equal(nr_hit, fault_calls(tier, (enum fault_call)call) >= k);
			tier->ops->close(tier);
		} while (nr_hit);
		/* Every one of the 24 calls of this kind, at least, had its turn. */
		assert_true(k > 24);
	}
}

static void a_tier_that_fails_for_ever_keeps_what_it_has(void **state)
{
	struct tier *inner = tier_of(0), *tier;
	unsigned char page[TIER_PAGE_BYTES];
	uint32_t slots[10];

	(void)state;
	assert_int_equal(fault_open(inner, &tier), 0);
	fault_plan(tier, FAULT_STORE, 11, -ENOSPC, true);
	for (unsigned i = 0; i < 10; i++) {
		page_make_kind(page, KIND_TEXT, i);
		assert_int_equal(tier->ops->store(tier, page, &slots[i]), 0);
	}
	for (unsigned i = 0; i < 10; i++)
		assert_store_fails(tier, page, -ENOSPC);
	assert_int_equal(fault_failed(tier, FAULT_STORE), 10);
	for (unsigned i = 0; i < 10; i++) {
		page_make_kind(page, KIND_TEXT, i);
		assert_holds(tier, slots[i], page);
		tier->ops->unref(tier, slots[i]);
	}
	assert_empty(tier);
	tier->ops->close(tier);
}

/* ---- threads ---------------------------------------------------------------------------------- */

/*
 * As a page of the program: one word says where it is. An owner stores, publishes, takes back and
 * frees without caring who loads. A reader that finds the word unchanged after its load must have
 * the right bytes; any other load must only be harmless.
 */
struct race {
	struct tier *tier;
	_Atomic uint64_t word; /* number of the content << 32 | slot; 0: none */
	_Atomic bool stop;
	_Atomic unsigned nr_wrong, nr_right, nr_late;
};

static void race_page(unsigned char *page, uint64_t number)
{
	page_make_kind(page, (enum page_kind)(number % KIND_RANDOM), number);
}

static void *race_reader(void *arg)
{
	struct race *race = arg;
	unsigned char loaded[TIER_PAGE_BYTES + 16], page[TIER_PAGE_BYTES];

	memset(loaded, 0x77, sizeof(loaded));
	while (!atomic_load(&race->stop)) {
		uint64_t word = atomic_load_explicit(&race->word, memory_order_acquire);
		int err;

		if (!word)
			continue;
		err = race->tier->ops->load(race->tier, (uint32_t)word, loaded + 8);
		for (unsigned i = 0; i < 8; i++)
			if (loaded[i] != 0x77 || loaded[TIER_PAGE_BYTES + 8 + i] != 0x77)
				atomic_fetch_add(&race->nr_wrong, 1);
		if (!atomic_compare_exchange_strong(&race->word, &word, word)) {
			atomic_fetch_add(&race->nr_late, 1);
			continue;
		}
		race_page(page, word >> 32);
		if (err || memcmp(loaded + 8, page, TIER_PAGE_BYTES) != 0)
			atomic_fetch_add(&race->nr_wrong, 1);
		else
			atomic_fetch_add(&race->nr_right, 1);
	}
	return NULL;
}

static void load_may_race_with_the_last_unref(void **state)
{
	struct race race = { .tier = tier_of(0) };
	unsigned char page[TIER_PAGE_BYTES];
	pthread_t readers[2];
	uint32_t number = 1;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&readers[i], NULL, race_reader, &race), 0);
	/* On until both outcomes were really met, on a machine with one CPU too. */
	while (number < subject->rounds / 4 || atomic_load(&race.nr_right) < 50 ||
	       atomic_load(&race.nr_late) < 5) {
		uint32_t slot;
		int err;

		race_page(page, ++number);
		err = race.tier->ops->store(race.tier, page, &slot);
		if (err == -E2BIG)
			continue;
		assert_int_equal(err, 0);
		atomic_store_explicit(&race.word, (uint64_t)number << 32 | slot,
				      memory_order_release);
		/* Let readers finish now and then; else take it from under them. */
		for (unsigned right = atomic_load(&race.nr_right), i = 0;
		     number % 16 == 0 && i < 50 && atomic_load(&race.nr_right) == right; i++)
			sched_yield();
		atomic_exchange(&race.word, 0);
		race.tier->ops->unref(race.tier, slot);
		if (number % 1024 == 0)
			(void)usage_of(race.tier); /* memory goes back meanwhile */
	}
	atomic_store(&race.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	assert_int_equal(atomic_load(&race.nr_wrong), 0);
	assert_empty(race.tier);
	race.tier->ops->close(race.tier);
}

#define CREW 4
#define CREW_LIVE 200
struct crew {
	struct tier *tier;
	_Atomic uint64_t mail[CREW]; /* a slot with a reference, for another thread: seed << 32 | slot */
	_Atomic unsigned nr_wrong, nr_mailed;
};

struct member {
	struct crew *crew;
	unsigned number;
};

static void crew_check(struct crew *crew, uint32_t slot, uint64_t seed)
{
	unsigned char page[TIER_PAGE_BYTES], loaded[TIER_PAGE_BYTES];

	page_make(page, seed);
	if (crew->tier->ops->load(crew->tier, slot, loaded) ||
	    memcmp(page, loaded, TIER_PAGE_BYTES) != 0 ||
	    crew->tier->ops->compare(crew->tier, slot, page) != 0)
		atomic_fetch_add(&crew->nr_wrong, 1);
}

/* Take what a neighbour left, look whether it is right, and let it go. */
static void crew_read_mail(struct crew *crew, unsigned number)
{
	uint64_t mail = atomic_exchange_explicit(&crew->mail[number], 0, memory_order_acq_rel);

	if (!mail)
		return;
	crew_check(crew, (uint32_t)mail, mail >> 32);
	crew->tier->ops->unref(crew->tier, (uint32_t)mail);
	atomic_fetch_add(&crew->nr_mailed, 1);
}

static void *crew_work(void *arg)
{
	struct member *member = arg;
	struct crew *crew = member->crew;
	struct tier *tier = crew->tier;
	struct live live[CREW_LIVE];
	unsigned char page[TIER_PAGE_BYTES];
	uint64_t rng = member->number;
	unsigned nr = 0;

	for (unsigned round = 0; round < subject->rounds; round++) {
		unsigned pick = nr ? (unsigned)(rng_next(&rng) % nr) : 0;
		unsigned what = (unsigned)(rng_next(&rng) % 8);

		if (what < 4 && nr < CREW_LIVE) {
			live[nr].seed = (uint32_t)rng_next(&rng);
			page_make(page, live[nr].seed);
			nr += tier->ops->store(tier, page, &live[nr].slot) == 0;
		} else if (what == 4 && nr) {
			uint64_t mail = live[pick].seed << 32 | live[pick].slot, none = 0;
			unsigned to = (unsigned)(rng_next(&rng) % CREW);

			tier->ops->ref(tier, live[pick].slot);
			if (!atomic_compare_exchange_strong(&crew->mail[to], &none, mail))
				tier->ops->unref(tier, live[pick].slot);
		} else if (what == 5 && nr) {
			crew_check(crew, live[pick].slot, live[pick].seed);
		} else if (what == 6) {
			crew_read_mail(crew, member->number);
		} else if (nr) {
			tier->ops->unref(tier, live[pick].slot);
			live[pick] = live[--nr];
		}
	}
	while (nr--) {
		crew_check(crew, live[nr].slot, live[nr].seed);
		tier->ops->unref(tier, live[nr].slot);
	}
	return NULL;
}

static void four_threads_share_a_tier(void **state)
{
	struct crew crew = { .tier = tier_of(0) };
	struct member members[CREW];
	pthread_t threads[CREW];

	(void)state;
	for (unsigned i = 0; i < CREW; i++) {
		members[i] = (struct member){ &crew, i };
		assert_int_equal(pthread_create(&threads[i], NULL, crew_work, &members[i]), 0);
	}
	for (unsigned i = 0; i < CREW; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < CREW; i++)
		crew_read_mail(&crew, i);
	assert_int_equal(atomic_load(&crew.nr_wrong), 0);
	assert_true(atomic_load(&crew.nr_mailed) > 0);
	assert_empty(crew.tier);
	crew.tier->ops->close(crew.tier);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_page_comes_back),
		cmocka_unit_test(each_byte_counts_in_compare),
		cmocka_unit_test(a_slot_lives_until_its_last_reference),
		cmocka_unit_test(capacity_binds_and_nothing_is_lost),
		cmocka_unit_test(a_long_random_life),
		cmocka_unit_test(usage_is_exact),
		cmocka_unit_test(what_must_be_kept_is_kept),
		cmocka_unit_test(what_must_be_kept_is_kept_above_the_capacity),
		cmocka_unit_test(loading_nonsense_is_safe),
		cmocka_unit_test(each_call_in_turn_fails),
		cmocka_unit_test(a_tier_that_fails_for_ever_keeps_what_it_has),
		cmocka_unit_test(load_may_race_with_the_last_unref),
		cmocka_unit_test(four_threads_share_a_tier),
	};
	int failed = 0;

	for (size_t i = 0; i < sizeof(subjects) / sizeof(*subjects); i++) {
		subject = &subjects[i];
		failed += cmocka_run_group_tests_name(subject->name, tests, NULL, NULL);
	}
	return failed != 0;
}
