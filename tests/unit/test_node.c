/* SPDX-License-Identifier: MIT */
/*
 * Nodes read from recorded trees: which are slow, why, how far, and how much room they have.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node.h"
#include "tree.h"

#define NODE "/sys/devices/system/node"
#define TIER "/sys/devices/virtual/memory_tiering"

static void node_put(unsigned int id, const char *cpus, unsigned int mib, const char *distance)
{
	char path[128], text[256];

	snprintf(path, sizeof(path), NODE "/node%u/cpulist", id);
	put(path, cpus);
	snprintf(path, sizeof(path), NODE "/node%u/distance", id);
	put(path, distance);
	snprintf(path, sizeof(path), NODE "/node%u/meminfo", id);
	snprintf(text, sizeof(text), "Node %u MemTotal:       %u kB\nNode %u MemFree:        %u kB\n", id,
		 mib * 1024, id, mib * 512);
	put(path, text);
}

static void access_put(unsigned int id, unsigned int class, const char *latency, const char *bandwidth)
{
	char path[128];

	snprintf(path, sizeof(path), NODE "/node%u/access%u/initiators/read_latency", id, class);
	put(path, latency);
	snprintf(path, sizeof(path), NODE "/node%u/access%u/initiators/read_bandwidth", id, class);
	put(path, bandwidth);
	snprintf(path, sizeof(path), NODE "/node%u/access%u/initiators/node0/x", id, class);
	put(path, "");
}

/* Two sockets and a node of CXL memory. */
static void three_put(void)
{
	put(NODE "/online", "0-1,4\n");
	node_put(0, "0-1,4\n", 1024, "10 21 30\n");
	node_put(1, "2-3\n", 1024, "21 10 40\n");
	node_put(4, "\n", 4096, "30 40 10\n");
}

static struct node_map map_read(void)
{
	struct node_map map;

	assert_int_equal(node_map_read(root, &map), 0);
	return map;
}

static void expect_sets(const struct node_map *map, const char *fast, const char *slow)
{
	char text[NODESET_TEXT_BYTES];

	assert_string_equal(nodeset_format(text, &map->fast), fast);
	assert_string_equal(nodeset_format(text, &map->slow), slow);
}

static void memory_without_cpus(void **state)
{
	(void)state;
	three_put();
	struct node_map map = map_read();
	const struct node *node = node_find(&map, 4);

	expect_sets(&map, "0-1", "4");
	assert_int_equal(map.nr, 3);
	assert_true(node && !node->has_cpus && node->slow);
	assert_int_equal(node->total_bytes, UINT64_C(4096) << 20);
	assert_int_equal(node->free_bytes, UINT64_C(2048) << 20);
	assert_non_null(strstr(node->why, "no CPUs"));
	assert_null(node_find(&map, 2));
	assert_int_equal(node_of_cpu(&map, 4), 0);
	assert_int_equal(node_of_cpu(&map, 3), 1);
	assert_int_equal(node_of_cpu(&map, 5), NODE_NONE);
	assert_int_equal(node_of_cpu(&map, -1), NODE_NONE);
	assert_int_equal(node_distance(&map, 1, 4), 40);
	assert_int_equal(node_distance(&map, 1, 2), 255);
	assert_int_equal(map.nodes[0].nr_cpus, 3);
	node_map_free(&map);
}

static void the_kernels_tiers_decide(void **state)
{
	(void)state;
	three_put();
	put(TIER "/memory_tier4/nodelist", "0-1\n");
	put(TIER "/memory_tier22/nodelist", "4\n");
	put(TIER "/uevent", "");
	struct node_map map = map_read();

	expect_sets(&map, "0-1", "4");
	assert_int_equal(node_find(&map, 4)->tier, 22);
	assert_non_null(strstr(node_find(&map, 4)->why, "tier 22 is below tier 4"));
	node_map_free(&map);
}

/* Memory above the tier of the CPUs' own is fast, though it has none. */
static void a_faster_tier(void **state)
{
	(void)state;
	three_put();
	put(TIER "/memory_tier4/nodelist", "0-1\n");
	put(TIER "/memory_tier2/nodelist", "4\n");
	struct node_map map = map_read();

	expect_sets(&map, "0-1,4", "none");
	node_map_free(&map);
}

/* With CPUs in two tiers the slower of them is still fast: so the kernel sees it. */
static void two_tiers_with_cpus(void **state)
{
	(void)state;
	three_put();
	put(TIER "/memory_tier4/nodelist", "0\n");
	put(TIER "/memory_tier5/nodelist", "1\n");
	put(TIER "/memory_tier6/nodelist", "4\n");
	struct node_map map = map_read();

	expect_sets(&map, "0-1", "4");
	node_map_free(&map);
}

static void one_tier_says_nothing(void **state)
{
	(void)state;
	three_put();
	put(TIER "/memory_tier4/nodelist", "0-1,4\n");
	struct node_map map = map_read();

	expect_sets(&map, "0-1", "4");
	node_map_free(&map);
}

/* High-bandwidth memory: a little later, several times as much. */
static void attributes_decide(void **state)
{
	(void)state;
	three_put();
	access_put(0, 1, "100\n", "20480\n");
	access_put(1, 1, "110\n", "20480\n");
	access_put(4, 1, "130\n", "200000\n");
	struct node_map map = map_read();

	expect_sets(&map, "0-1,4", "none");
	assert_int_equal(node_find(&map, 4)->access.read_latency_ns, 130);
	assert_true(nodeset_has(&node_find(&map, 4)->access.initiators, 0));
	assert_false(nodeset_has(&node_find(&map, 4)->access.initiators, 1));
	node_map_free(&map);
	access_put(4, 1, "130\n", "10000\n");
	map = map_read();
	expect_sets(&map, "0-1", "4");
	assert_non_null(strstr(node_find(&map, 4)->why, "130 ns"));
	node_map_free(&map);
	access_put(4, 1, "101\n", "10000\n");
	map = map_read();
	expect_sets(&map, "0-1,4", "none");
	node_map_free(&map);
}

/* What the CPUs see counts, not what some device does. */
static void access_class_1_first(void **state)
{
	(void)state;
	three_put();
	access_put(4, 0, "50\n", "7\n");
	access_put(4, 1, "300\n", "8\n");
	struct node_map map = map_read();

	assert_int_equal(node_find(&map, 4)->access.read_latency_ns, 300);
	node_map_free(&map);
	access_put(4, 1, "none\n", "-\n");
	map = map_read();
	assert_int_equal(node_find(&map, 4)->access.read_latency_ns, 50);
	node_map_free(&map);
}

static void a_node_without_memory(void **state)
{
	char text[NODESET_TEXT_BYTES];

	(void)state;
	put(NODE "/online", "0-1\n");
	node_put(0, "0\n", 0, "10 20\n");
	node_put(1, "1\n", 512, "20 10\n");
	struct node_map map = map_read();

	expect_sets(&map, "1", "none");
	assert_string_equal(nodeset_format(text, &map.memory), "1");
	assert_string_equal(nodeset_format(text, &map.online), "0-1");
	node_map_free(&map);
}

/* CPUs here, memory there: somebody has to be fast. */
static void nobody_has_both(void **state)
{
	(void)state;
	put(NODE "/online", "0-1\n");
	node_put(0, "0\n", 0, "10 20\n");
	node_put(1, "\n", 512, "20 10\n");
	struct node_map map = map_read();

	expect_sets(&map, "1", "none");
	node_map_free(&map);
}

static void a_kernel_without_numa(void **state)
{
	(void)state;
	put("/proc/meminfo", "MemTotal:  2048 kB\nMemFree:   1024 kB\n");
	put("/sys/devices/system/cpu/online", "0-3\n");
	struct node_map map = map_read();

	expect_sets(&map, "0", "none");
	assert_int_equal(map.nodes[0].nr_cpus, 4);
	assert_int_equal(node_of_cpu(&map, 3), 0);
	node_map_free(&map);
}

static void damaged_trees_are_errors(void **state)
{
	struct node_map map;

	(void)state;
	assert_int_equal(node_map_read(root, &map), -EIO);
	put(NODE "/online", "\n");
	assert_int_equal(node_map_read(root, &map), -EIO);
	put(NODE "/online", "0,x\n");
	assert_int_equal(node_map_read(root, &map), -EIO);
	put(NODE "/online", "0-1024\n");
	assert_int_equal(node_map_read(root, &map), -EIO);
	put(NODE "/online", "0\n");
	assert_int_equal(node_map_read(root, &map), -EIO);
	node_put(0, "0\n", 16, "10\n");
	assert_int_equal(node_map_read(root, &map), 0);
	node_map_free(&map);
	put(NODE "/node0/cpulist", "0-99999\n");
	assert_int_equal(node_map_read(root, &map), -EIO);
	node_put(0, "0\n", 16, "near\n");
	assert_int_equal(node_map_read(root, &map), 0);
	assert_int_equal(node_distance(&map, 0, 0), 255);
	node_map_free(&map);
	put(NODE "/node0/meminfo", "Node 0 MemTotal: 1 kB\nNode 0 MemFree: 2 kB\n");
	assert_int_equal(node_map_read(root, &map), -EIO);
}

static void order(void **state)
{
	uint16_t ids[4];

	(void)state;
	three_put();
	struct node_map map = map_read();

	assert_int_equal(node_order(&map, 4, &map.memory, ids, 4), 3);
	assert_true(ids[0] == 4 && ids[1] == 0 && ids[2] == 1);
	assert_int_equal(node_order(&map, 1, &map.fast, ids, 4), 2);
	assert_true(ids[0] == 1 && ids[1] == 0);
	assert_int_equal(node_order(&map, 4, &map.memory, ids, 1), 1);
	assert_int_equal(ids[0], 4);
	assert_int_equal(node_order(&map, 77, &map.memory, ids, 2), 2); /* from nowhere: by number */
	assert_true(ids[0] == 0 && ids[1] == 1);
	node_map_free(&map);
}

static void room(void **state)
{
	struct node_room found;

	(void)state;
	assert_int_equal(node_room_read(root, 0, &found), -ENOENT);
	put("/proc/zoneinfo", "Node 0, zone      DMA\n"
			      "  per-node stats\n      nr_inactive_anon 5\n"
			      "      nr_inactive_file 6\n      nr_active_file 7\n"
			      "  pages free     100\n        boost    0\n        min      1\n"
			      "        low      2\n        high     3\n        promo    4\n"
			      "        spanned  4095\n        managed  200\n"
			      "  pagesets\n    cpu: 0\n              count: 0\n              high:  9\n"
			      "Node 0, zone   Normal\n"
			      "  pages free     1000\n        min      10\n        low      20\n"
			      "        high     30\n        managed  2000\n"
			      "Node 12, zone   Normal\n  pages free     7\n        managed  9\n");
	assert_int_equal(node_room_read(root, 0, &found), 0);
	assert_int_equal(found.free_bytes, 1100 * 4096);
	assert_int_equal(found.file_bytes, 13 * 4096);
	assert_int_equal(found.min_bytes, 11 * 4096);
	assert_int_equal(found.low_bytes, 22 * 4096);
	assert_int_equal(found.high_bytes, 33 * 4096);
	assert_int_equal(found.promo_bytes, 4 * 4096);
	assert_int_equal(found.total_bytes, 2200 * 4096);
	assert_int_equal(node_room_read(root, 12, &found), 0);
	assert_int_equal(found.free_bytes, 7 * 4096);
	assert_int_equal(node_room_read(root, 1, &found), -ENODEV);
}

/* Node 1 loses its memory and its CPUs, and goes; nodes 2 and 3 come; node 1 comes back. */
static void nodes_come_and_go(void **state)
{
	struct node_map first, second, third, fourth;

	(void)state;
	three_put();
	first = map_read();
	assert_int_equal(node_map_renew(root, &first, &second), 0);
	assert_true(node_map_same(&first, &second));
	node_map_free(&second);
	/* It has less memory: the same. None: not the same. */
	node_put(4, "\n", 2048, "30 40 10\n");
	assert_int_equal(node_map_renew(root, &first, &second), 0);
	assert_true(node_map_same(&first, &second));
	node_map_free(&second);

	put(NODE "/online", "0,2-4\n");
	node_put(0, "0-1,4\n", 1024, "10 14 15 30\n");
	node_put(2, "2-3\n", 1024, "14 10 16 31\n");
	node_put(3, "\n", 1024, "15 16 10 32\n");
	node_put(4, "\n", 0, "30 31 32 10\n");
	assert_int_equal(node_map_renew(root, &first, &second), 0);
	assert_false(node_map_same(&first, &second));
	static const uint16_t places[] = { 0, 1, 4, 2, 3 };
	assert_int_equal(second.nr, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(second.nodes[i].id, places[i]);
	assert_false(second.nodes[1].has_memory || second.nodes[1].has_cpus || second.nodes[2].has_memory);
	assert_string_equal(second.nodes[1].why, "it has gone");
	assert_false(nodeset_has(&second.online, 1) || nodeset_has(&second.memory, 1) ||
		     nodeset_has(&second.memory, 4));
	assert_true(nodeset_has(&second.online, 4) && nodeset_has(&second.fast, 2) &&
		    nodeset_has(&second.slow, 3));
	assert_int_equal(node_distance(&second, 2, 3), 16);
	assert_int_equal(node_distance(&second, 4, 2), 31);
	assert_int_equal(node_distance(&second, 0, 1), 255);
	assert_int_equal(node_of_cpu(&second, 3), 2);

	three_put();
	assert_int_equal(node_map_renew(root, &second, &third), 0);
	assert_int_equal(third.nr, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(third.nodes[i].id, places[i]);
	assert_true(third.nodes[1].has_memory && nodeset_has(&third.slow, 4) && !third.nodes[4].has_memory);
	assert_int_equal(node_distance(&third, 1, 4), 40);
	assert_int_equal(node_map_renew(root, &third, &fourth), 0);
	assert_true(node_map_same(&third, &fourth));
	put(NODE "/online", "nonsense\n");
	node_map_free(&first);
	assert_int_equal(node_map_renew(root, &third, &first), -EIO);
	node_map_free(&second);
	node_map_free(&third);
	node_map_free(&fourth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(nodes_come_and_go),
		TREE_TEST(memory_without_cpus),
		TREE_TEST(the_kernels_tiers_decide),
		TREE_TEST(a_faster_tier),
		TREE_TEST(two_tiers_with_cpus),
		TREE_TEST(one_tier_says_nothing),
		TREE_TEST(attributes_decide),
		TREE_TEST(access_class_1_first),
		TREE_TEST(a_node_without_memory),
		TREE_TEST(nobody_has_both),
		TREE_TEST(a_kernel_without_numa),
		TREE_TEST(damaged_trees_are_errors),
		TREE_TEST(order),
		TREE_TEST(room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
