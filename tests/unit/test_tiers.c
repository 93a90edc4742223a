/* SPDX-License-Identifier: MIT */
/* What the engine is told of nodes: how long a load takes from each decides whether a move pays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tiers.h"

#define NR 3u /* two sockets, and memory without CPUs that is slow to the kernel */

static struct node nodes[NR];
static uint8_t distances[NR * NR] = { 10, 21, 30, 21, 10, 40, 30, 40, 10 };
static struct attach *attach;

static int begin(void **state)
{
	static const uint32_t latency_ns[NR] = { 100, 100, 130 };

	(void)state;
	attach = calloc(1, sizeof *attach);
	assert_non_null(attach);
	attach->map = (struct node_map){ .nr = NR, .nodes = nodes, .distances = distances };
	for (size_t i = 0; i < NR; i++) {
		nodes[i] = (struct node){ .id = (uint16_t)i, .access.read_latency_ns = latency_ns[i] };
		nodeset_add(&attach->map.online, (unsigned int)i);
	}
	nodeset_add(&attach->map.slow, 2);
	nodeset_add(&attach->fast, 0);
	nodeset_add(&attach->slow, 1);
	nodeset_add(&attach->slow, 2);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	shares_close(&attach->shares);
	free(attach);
	return 0;
}

static uint32_t latency_of(size_t node)
{
	return attach->tiering.config.nodes[node].latency_ns;
}

static void what_the_machine_says_holds(void **state)
{
	(void)state;
	tiers_begin(attach);
	assert_int_equal(latency_of(0), 100);
	assert_int_equal(latency_of(2), 130);
}

/* To its own CPUs a far socket is as near as ours to us, and no move from there would ever pay. */
static void who_names_a_node_as_slow_says_that_moves_pay(void **state)
{
	(void)state;
	tiers_begin(attach);
	assert_true(latency_of(1) >= 2 * latency_of(0));
}

static void of_which_nothing_is_known(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR; i++)
		nodes[i].access.read_latency_ns = 0;
	tiers_begin(attach);
	for (size_t i = 1; i < NR; i++)
		assert_true(latency_of(0) && latency_of(i) >= 2 * latency_of(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_the_machine_says_holds, begin, finish),
		cmocka_unit_test_setup_teardown(who_names_a_node_as_slow_says_that_moves_pay, begin, finish),
		cmocka_unit_test_setup_teardown(of_which_nothing_is_known, begin, finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
