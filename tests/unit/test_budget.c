/* SPDX-License-Identifier: MIT */
/*
 * Tiers that name nodes, against recorded machines: what they come to, and what they are refused for.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "budget.h"
#include "tree.h"

#define NODE "/sys/devices/system/node"
#define MIB (UINT64_C(1) << 20)

static void node_put(unsigned id, const char *cpus, unsigned mib, const char *distance)
{
	char path[128], text[256];

	snprintf(path, sizeof path, NODE "/node%u/cpulist", id);
	put(path, cpus);
	snprintf(path, sizeof path, NODE "/node%u/distance", id);
	put(path, distance);
	snprintf(path, sizeof path, NODE "/node%u/meminfo", id);
	snprintf(text, sizeof text, "Node %u MemTotal:       %u kB\nNode %u MemFree:        %u kB\n", id,
		 mib * 1024, id, mib * 512);
	put(path, text);
}

/* Two sockets, a node of CXL memory, and one that has only CPUs. */
static int machine_begin(void **state)
{
	int error = tree_begin(state);

	put(NODE "/online", "0-1,4-5\n");
	node_put(0, "0-1\n", 64, "10 21 30 21\n");
	node_put(1, "2-3\n", 64, "21 10 40 21\n");
	node_put(4, "\n", 256, "30 40 10 30\n");
	node_put(5, "4-5\n", 0, "21 21 30 10\n");
	return error;
}

static struct tide_tier_spec node(unsigned id, unsigned mib)
{
	return (struct tide_tier_spec){ .kind = TIDE_TIER_NODE, .node = id, .size_bytes = mib * MIB };
}

static struct tide_run_options tiers(const struct tide_tier_spec *specs, size_t nr)
{
	struct tide_run_options options = { .size = sizeof options, .nr_tiers = nr };

	memcpy(options.tiers, specs, nr * sizeof *specs);
	return options;
}
#define TIERS(...)                                                                                 \
	tiers((struct tide_tier_spec[]){ __VA_ARGS__ },                                            \
	      sizeof((struct tide_tier_spec[]){ __VA_ARGS__ }) / sizeof(struct tide_tier_spec))

static struct budget taken(struct tide_run_options options)
{
	struct budget budget;
	char message[TIDE_MESSAGE_MAX] = "";

	if (budget_look(root, &options, &budget, message))
		fail_msg("refused: %s", message);
	assert_string_equal(message, "");
	return budget;
}

static void refused(struct tide_run_options options, const char *says)
{
	struct budget budget = { .nr_nodes = 7 };
	char message[TIDE_MESSAGE_MAX] = "";

	assert_int_equal(budget_look(root, &options, &budget, message), -EINVAL);
	if (!strstr(message, says) || strchr(message, '\n'))
		fail_msg("said \"%s\", not \"%s\"", message, says);
	assert_int_equal(budget.nr_nodes, 7);
}

static void two_nodes_and_a_pool(void **state)
{
	struct tide_tier_spec pool = { .kind = TIDE_TIER_LZ4, .size_bytes = 8 * MIB, .verify = true };
	struct budget b = taken(TIERS(node(0, 32), node(4, 0)));

	(void)state;
	assert_int_equal(b.nr_nodes, 2);
	assert_int_equal(b.nodes[0], 0);
	assert_int_equal(b.nodes[1], 4);
	assert_int_equal(b.dram_bytes, 32 * MIB);
	assert_int_equal(b.slow_bytes, 256 * MIB); /* all of it */
	assert_false(b.pool);
	b = taken(TIERS(node(1, 64), node(4, 16), pool));
	assert_int_equal(b.slow_bytes, 16 * MIB);
	assert_int_equal(b.pool_bytes, 8 * MIB);
	assert_true(b.pool && b.verify);
	/* Two that are equally fast: who names them knows why. */
	assert_int_equal(taken(TIERS(node(1, 32), node(0, 32))).nodes[0], 1);
}

static void nodes_that_will_not_do(void **state)
{
	(void)state;
	refused(TIERS(node(0, 32), node(3, 0)), "node:3: no such node with memory; here there is 0-1,4");
	refused(TIERS(node(7, 32), node(4, 0)), "node:7: no such node with memory; here there is 0-1,4");
	refused(TIERS(node(5, 32), node(4, 0)), "node:5: no such node with memory; here there is 0-1,4");
	refused(TIERS(node(0, 65), node(4, 0)), "node:0: it has only 64M; give a smaller size");
	refused(TIERS(node(0, 32), node(4, 257)), "node:4: it has only 256M; give a smaller size");
	refused(TIERS(node(4, 32), node(0, 0)), "node:4: slower than node 0: name the fastest tier first");
	refused(TIERS(node(0, 32), node(0, 0)), "node:0: a second time: name each tier once");
	refused(TIERS(node(0, 3), node(4, 0)), "give at least 4M");
	refused(TIERS(node(0, 32), node(4, 3)), "give at least 4M");
}

static void what_does_not_go_with_nodes(void **state)
{
	struct tide_tier_spec pool = { .kind = TIDE_TIER_LZ4 };
	struct tide_tier_spec dram = { .kind = TIDE_TIER_DRAM, .size_bytes = 32 * MIB };
	struct tide_run_options options = TIERS(node(0, 32), node(4, 0));

	(void)state;
	options.memory_bytes = 64 * MIB;
	refused(options, "leave out --memory");
	refused(TIERS(node(0, 32)), "nodes come in twos");
	refused(TIERS(node(0, 32), node(1, 32), node(4, 0)), "nodes come in twos");
	refused(TIERS(node(0, 0), node(4, 0)), "node:0: the fast node needs a size");
	refused(TIERS(dram, node(4, 0)), "--tier dram and nodes");
	refused(TIERS(node(0, 32), node(4, 0), dram), "--tier dram and nodes");
	refused(TIERS(pool, node(0, 32), node(4, 0)), "lz4 comes before a node");
	refused(TIERS(node(0, 32), pool, node(4, 0)), "lz4 comes before a node");
	refused(TIERS(node(0, 32), node(4, 0), pool, pool), "nodes come in twos");
}

#define MACHINE_TEST(test) cmocka_unit_test_setup_teardown(test, machine_begin, tree_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MACHINE_TEST(two_nodes_and_a_pool),
		MACHINE_TEST(nodes_that_will_not_do),
		MACHINE_TEST(what_does_not_go_with_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
