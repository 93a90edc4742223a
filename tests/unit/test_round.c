/* SPDX-License-Identifier: MIT */
/*
 * What the keeper does at its looks at programs, and what that takes: its own rounds, on adoption, advice and a clock
 * that are ours.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include "clock.h"
#include "keeper_inner.h"
#include "world.h"

#define MS UINT64_C(1000000)
#define DEAR_NS (20 * MS) /* of CPU time: after it a survey waits four times as long */
#define ASK_NS (MS / 100) /* so long it takes to ask for the time that was taken */
#define SHARE_PPM 10000u
#define PROGRAMS 31u

static struct world *world;
static struct program *program;
static struct keeper keeper;
static uint64_t wall_ns, cpu_ns, survey_ns;
static unsigned nr_adopted;
static bool advised, fails;

static void work(uint64_t ns)
{
	wall_ns += ns;
	cpu_ns += ns;
}

int __real_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	if (clock != CLOCK_MONOTONIC && clock != CLOCK_THREAD_CPUTIME_ID)
		return __real_clock_gettime(clock, t);
	if (clock == CLOCK_THREAD_CPUTIME_ID)
		work(ASK_NS);
	uint64_t ns = clock == CLOCK_MONOTONIC ? wall_ns : cpu_ns;
	*t = (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
	return 0;
}

/* The first time is dear. */
int __wrap_program_adopt(struct program *p, uint64_t *ret_pages);
int __wrap_program_adopt(struct program *p, uint64_t *ret_pages)
{
	work(p->surveyed ? survey_ns : DEAR_NS);
	nr_adopted++;
	if (fails)
		return -EIO;
	*ret_pages = !p->surveyed;
	p->surveyed = true;
	return 0;
}

bool __wrap_advice_due(const struct program *p, uint64_t now_ns);
bool __wrap_advice_due(const struct program *p, uint64_t now_ns)
{
	(void)p;
	(void)now_ns;
	return advised;
}

void __wrap_advice_read(struct program *p);
void __wrap_advice_read(struct program *p)
{
	(void)p;
	work(DEAR_NS);
}

int __wrap_handlers_start(struct program *p, bool normal);
int __wrap_handlers_start(struct program *p, bool normal)
{
	(void)p;
	(void)normal;
	return 0;
}

void __wrap_programs_reap(struct server *s, uint64_t now_ns, bool some_ended);
void __wrap_programs_reap(struct server *s, uint64_t now_ns, bool some_ended)
{
	(void)s;
	(void)now_ns;
	(void)some_ended;
}

static void grow_to(struct program *p, unsigned pages)
{
	char text[64];
	int n = snprintf(text, sizeof text, "%u 1 0 0 0 0 0\n", pages);

	assert_int_equal(ftruncate(p->statm, 0), 0);
	assert_int_equal(pwrite(p->statm, text, (size_t)n, 0), n);
}

static void program_begin(struct program *p)
{
	p->statm = memfd_create("statm", 0);
	p->helper_socket = memfd_create("helper", 0);
	p->hold.address = 1;
	assert_true(p->statm >= 0 && p->helper_socket >= 0);
	grow_to(p, 1);
}

static void program_end(struct program *p)
{
	close(p->helper_socket);
	p->helper_socket = -1;
	p->hold.address = 0;
}

static void keeper_begin(uint32_t share_ppm)
{
	keeper = (struct keeper){
		.server = &world->server, .mover = pthread_self(), .counted_ns = clock_thread_cpu_ns(),
	};
	pace_open(&keeper.pace, share_ppm, clock_now_ns());
}

static int begin(void **state)
{
	(void)state;
	wall_ns = cpu_ns = 1000 * MS;
	world = world_new();
	program = world->program;
	program_begin(program);
	pthread_mutex_init(&world->server.plan_lock, NULL);
	pthread_mutex_init(&world->server.plan_turn, NULL);
	world->server.programs = program;
	world->server.tight = true;
	world->server.bound_bytes = world->server.spare_bytes = UINT64_MAX;
	atomic_store(&world->server.limit, 100000);
	keeper_begin(SHARE_PPM);
	survey_ns = nr_adopted = 0;
	advised = fails = false;
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (struct program *p = world->server.programs, *next; p != program; p = next) {
		next = p->next;
		program_end(p);
		program_free(p);
	}
	program_end(program);
	world_free(world);
	return 0;
}

/* As when the mover rings. */
static void round_after_growth(unsigned pages)
{
	grow_to(program, pages);
	atomic_store(&program->grown, true);
	programs_round(&keeper);
}

/* In a small control group it would be killed. */
static void what_follows_the_first_survey_is_adopted_at_once(void **state)
{
	(void)state;
	round_after_growth(100);
	assert_int_equal(nr_adopted, 1);
	round_after_growth(200);
	assert_int_equal(nr_adopted, 2);
}

static void growth_is_looked_at_as_soon_as_its_share_allows(void **state)
{
	(void)state;
	round_after_growth(100);
	uint64_t now_ns = clock_now_ns();
	scan_done(&program->survey, now_ns, 1000 * MS, 1);
	round_after_growth(200);
	assert_int_equal(nr_adopted, 1);
	/* No look is due for long, and yet: */
	scan_done(&program->look, now_ns, 1000 * MS, 0);
	scan_done(&program->survey, now_ns, 2 * MS, 1);
	assert_int_equal(pace_wait_ns(&world->server, now_ns), 8 * MS);
}

static void advice_makes_looks_no_rarer(void **state)
{
	(void)state;
	round_after_growth(100);
	advised = true;
	round_after_growth(100);
	assert_true(program->look.cost_ns < DEAR_NS);
}

static void programs_begin(void)
{
	for (unsigned i = 1; i < PROGRAMS; i++) {
		struct program *p = program_new(&world->server);
		assert_non_null(p);
		program_begin(p);
		p->next = world->server.programs;
		world->server.programs = p;
	}
}

/* As the keeper sleeps, wakes up and looks. */
static void rounds_for(uint64_t ns)
{
	for (uint64_t end_ns = wall_ns + ns; wall_ns < end_ns;) {
		uint64_t wait_ns = pace_wait_ns(&world->server, wall_ns);
		wall_ns += wait_ns > MS ? wait_ns : MS;
		programs_round(&keeper);
	}
}

/* However dear they are; and each program has its turn. */
static void surveys_of_programs_at_rest_keep_to_the_share(void **state)
{
	(void)state;
	programs_begin();
	survey_ns = MS;
	rounds_for(60000 * MS);
	uint64_t began_ns = wall_ns, before_ns = atomic_load(&world->server.voluntary_ns);
	for (const struct program *p = world->server.programs; p; p = p->next)
		assert_true(p->surveyed);
	nr_adopted = 0;
	rounds_for(100000 * MS);
	uint64_t took_ns = atomic_load(&world->server.voluntary_ns) - before_ns;
	assert_true(took_ns <= (wall_ns - began_ns) / 1000000 * SHARE_PPM);
	assert_true(nr_adopted >= 2 * PROGRAMS);
	for (const struct program *p = world->server.programs; p; p = p->next)
		assert_true(p->again.done_ns > began_ns);
}

/* As of a child, whose tables are those of its parent before: nothing is taken out of it until one succeeds. */
static void a_survey_that_failed_is_repeated_soon(void **state)
{
	(void)state;
	program->adopted = fails = true;
	round_after_growth(100);
	rounds_for(6000 * MS);
	assert_true(nr_adopted >= 3);
	fails = false;
	rounds_for(2100 * MS);
	assert_true(program->surveyed);
}

static void a_change_is_surveyed_whatever_rest_costs_and_is_forced(void **state)
{
	(void)state;
	round_after_growth(100);
	rounds_for(1000 * MS);
	scan_done(&program->again, wall_ns, 1000 * MS, 0);
	nr_adopted = 0;
	survey_ns = DEAR_NS;
	uint64_t forced_ns = atomic_load(&world->server.forced_ns);
	round_after_growth(200);
	assert_int_equal(nr_adopted, 1);
	assert_true(atomic_load(&world->server.forced_ns) - forced_ns >= DEAR_NS);
}

/* When nothing else would see it become tight. */
static void looks_before_memory_is_tight_are_forced(void **state)
{
	(void)state;
	world->server.tight = false;
	rounds_for(2000 * MS);
	assert_int_equal(atomic_load(&world->server.voluntary_ns), 0);
	assert_true(atomic_load(&world->server.forced_ns) > 0);
}

/* What is left is for seeing in time what the budget forces. */
static void without_a_share_next_to_nothing_is_voluntary(void **state)
{
	(void)state;
	keeper_begin(0);
	rounds_for(2000 * MS);
	uint64_t before_ns = atomic_load(&world->server.voluntary_ns);
	rounds_for(10000 * MS);
	assert_true(atomic_load(&world->server.voluntary_ns) - before_ns <= MS);
	round_after_growth(200);
	assert_int_equal(program->seen_size_pages, 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_follows_the_first_survey_is_adopted_at_once, begin, end),
		cmocka_unit_test_setup_teardown(growth_is_looked_at_as_soon_as_its_share_allows, begin, end),
		cmocka_unit_test_setup_teardown(advice_makes_looks_no_rarer, begin, end),
		cmocka_unit_test_setup_teardown(surveys_of_programs_at_rest_keep_to_the_share, begin, end),
		cmocka_unit_test_setup_teardown(a_survey_that_failed_is_repeated_soon, begin, end),
		cmocka_unit_test_setup_teardown(a_change_is_surveyed_whatever_rest_costs_and_is_forced, begin, end),
		cmocka_unit_test_setup_teardown(looks_before_memory_is_tight_are_forced, begin, end),
		cmocka_unit_test_setup_teardown(without_a_share_next_to_nothing_is_voluntary, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
