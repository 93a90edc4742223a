/* SPDX-License-Identifier: MIT */
/* What the keeper does at its looks at a program that grows: its own rounds, on adoption and advice that are ours. */
#include <stdio.h>
#include <sys/mman.h>

#include "clock.h"
#include "keeper_inner.h"
#include "world.h"

#define MS UINT64_C(1000000)
#define DEAR_NS (20 * MS) /* of CPU time: after it a survey waits four times as long */

static struct world *world;
static struct program *program;
static struct keeper keeper;
static unsigned nr_adopted;
static bool advised;

static void work(uint64_t cpu_ns)
{
	for (uint64_t began_ns = clock_thread_cpu_ns(); clock_thread_cpu_ns() - began_ns < cpu_ns;)
		;
}

/* The first time is dear. */
int __wrap_program_adopt(struct program *p, uint64_t *ret_pages);
int __wrap_program_adopt(struct program *p, uint64_t *ret_pages)
{
	if (!nr_adopted++)
		work(DEAR_NS);
	p->surveyed = true;
	*ret_pages = 1;
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

static void grow_to(unsigned pages)
{
	char text[64];
	int n = snprintf(text, sizeof text, "%u 1 0 0 0 0 0\n", pages);

	assert_int_equal(ftruncate(program->statm, 0), 0);
	assert_int_equal(pwrite(program->statm, text, (size_t)n, 0), n);
}

static int begin(void **state)
{
	(void)state;
	world = world_new();
	program = world->program;
	program->statm = memfd_create("statm", 0);
	program->helper_socket = memfd_create("helper", 0);
	program->hold.address = 1;
	assert_true(program->statm >= 0 && program->helper_socket >= 0);
	pthread_mutex_init(&world->server.plan_lock, NULL);
	pthread_mutex_init(&world->server.plan_turn, NULL);
	world->server.programs = program;
	world->server.tight = true;
	world->server.bound_bytes = world->server.spare_bytes = UINT64_MAX;
	atomic_store(&world->server.limit, 100000);
	keeper = (struct keeper){
		.server = &world->server, .mover = pthread_self(), .counted_ns = clock_thread_cpu_ns(),
	};
	pace_open(&keeper.pace, 10000, clock_now_ns());
	nr_adopted = 0;
	advised = false;
	return 0;
}

static int end(void **state)
{
	(void)state;
	close(program->helper_socket);
	program->helper_socket = -1;
	program->hold.address = 0;
	world_free(world);
	return 0;
}

/* As when the mover rings. */
static void round_after_growth(unsigned pages)
{
	grow_to(pages);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_follows_the_first_survey_is_adopted_at_once, begin, end),
		cmocka_unit_test_setup_teardown(growth_is_looked_at_as_soon_as_its_share_allows, begin, end),
		cmocka_unit_test_setup_teardown(advice_makes_looks_no_rarer, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
