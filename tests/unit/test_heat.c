/* SPDX-License-Identifier: MIT */
/* The heat record: fields, time over wraps, publish and take with threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "heat.h"

#define TICK_NS (UINT64_C(1) << HEAT_TICK_SHIFT)
#define EPOCH_NS (UINT64_C(1) << HEAT_EPOCH_SHIFT)

/* ---- fields ---- */

static void field_get(uint32_t record, uint32_t ret[4])
{
	struct heat heat = heat_unpack(record);

	ret[0] = heat.ready;
	ret[1] = heat.node;
	ret[2] = heat.frequency;
	ret[3] = heat.time;
}

static uint32_t field_put(const uint32_t field[4])
{
	return heat_pack((struct heat){ field[0] != 0, field[1], field[2], field[3] });
}

static void defect_4a_01_masks_from_width(void **state)
{
	static const uint32_t max[4] = { 1, 1023, 7, 262143 };
	static const uint32_t mask[4] = { 0x00000001, 0x000007fe, 0x00003800, 0xffffc000 };

	(void)state;
	assert_int_equal(HEAT_MASK(READY), mask[0]);
	assert_int_equal(HEAT_MASK(NODE), mask[1]);
	assert_int_equal(HEAT_MASK(FREQUENCY), mask[2]);
	assert_int_equal(HEAT_MASK(TIME), mask[3]);
	for (unsigned f = 0; f < 4; f++) {
		for (uint32_t value = 0; value <= max[f]; value++) {
			for (unsigned ones = 0; ones < 2; ones++) {
				uint32_t in[4], out[4];
				for (unsigned g = 0; g < 4; g++)
					in[g] = g == f ? value : ones ? max[g] : 0;
				uint32_t record = field_put(in);
				field_get(record, out);
				assert_memory_equal(in, out, sizeof in);
				assert_int_equal(record & ~mask[f], ones ? ~mask[f] : 0);
			}
		}
	}
}

static void a_field_too_large_spoils_no_neighbour(void **state)
{
	(void)state;
	assert_int_equal(heat_pack((struct heat){ false, 1024, 8, 1 << 18 }), 0);
	assert_int_equal(heat_pack((struct heat){ true, 1023, 7, 0x3ffff }), 0xffffffff);
	assert_int_equal(heat_pack((struct heat){ true, 5, 3, 2 }), 0x0000980b);
}

static uint32_t touch(_Atomic uint32_t *records, size_t nr, _Atomic uint32_t *epoch, size_t i,
		      uint32_t node, uint64_t now_ns)
{
	struct heat_moment now = heat_moment_at(now_ns);
	bool raised, known = heat_block_enter(records, nr, epoch, now);

	return heat_publish(&records[i], atomic_load(epoch), now, known, node, false, &raised);
}

static void defect_4a_02_no_node_is_its_own_value(void **state)
{
	_Atomic uint32_t record = 0, epoch = 0;

	(void)state;
	touch(&record, 1, &epoch, 0, HEAT_NO_NODE, TICK_NS);
	assert_int_equal(heat_unpack(record).node, HEAT_NO_NODE);
	touch(&record, 1, &epoch, 0, HEAT_NODE_MAX, TICK_NS);
	assert_int_equal(heat_unpack(record).node, 1022);
	touch(&record, 1, &epoch, 0, 0, TICK_NS);
	assert_int_equal(heat_unpack(record).node, 0);
	/* What cannot be a node, -1 among them, is stored as none, not cut to something valid. */
	touch(&record, 1, &epoch, 0, UINT32_MAX, TICK_NS);
	assert_int_equal(heat_unpack(record).node, HEAT_NO_NODE);
	touch(&record, 1, &epoch, 0, 1024, TICK_NS);
	assert_int_equal(heat_unpack(record).node, HEAT_NO_NODE);
}

/* ---- time ---- */

static void time_of_a_moment(void **state)
{
	static const struct { uint64_t now_ns; uint32_t epoch, time; } row[] = {
		{ 0, 1, 1 }, /* 0 is no time */
		{ TICK_NS - 1, 1, 1 },
		{ TICK_NS, 1, 1 },
		{ 2 * TICK_NS, 1, 2 },
		{ EPOCH_NS - 1, 1, 131071 },
		{ EPOCH_NS, 2, 131072 },
		{ 2 * EPOCH_NS - 1, 2, 262143 },
		{ 2 * EPOCH_NS, 3, 1 },
		{ 2 * EPOCH_NS + 5 * TICK_NS, 3, 5 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		struct heat_moment moment = heat_moment_at(row[i].now_ns);
		assert_int_equal(moment.epoch, row[i].epoch);
		assert_int_equal(moment.time, row[i].time);
	}
}

/* Two pages of a block: one touched once, the other again and again. However long the first is idle,
 * and whenever the second is touched, the first is either known to be as old as it is, or unknown. */
static void an_idle_page_never_looks_recent(void **state)
{
	(void)state;
	for (unsigned start = 0; start < 4; start++) {
		for (unsigned busy = 0; busy < 3; busy++) {
			uint64_t born_ns = start * EPOCH_NS / 2 + 77 * TICK_NS;
			_Atomic uint32_t record[2] = { 0 }, epoch = 0;

			touch(record, 2, &epoch, 0, 3, born_ns);
			for (unsigned step = 1; step < 400; step++) {
				/* 24 s short of an eighth of an epoch, so all phases come by: to six wraps */
				uint64_t now_ns = born_ns + step * (EPOCH_NS / 32 - 1431 * TICK_NS / 16);
				uint64_t truth = (now_ns >> HEAT_TICK_SHIFT) -
						 (born_ns >> HEAT_TICK_SHIFT);
				if (busy == 1 || (busy == 2 && step % 97 == 0))
					touch(record, 2, &epoch, 1, 3, now_ns);
				uint64_t age = heat_age_ticks(record[0], epoch, heat_moment_at(now_ns));
				assert_true(age == HEAT_AGE_UNKNOWN || age + 1 >= truth);
				assert_true(age > HEAT_WINDOW_TICKS);
				if (truth < EPOCH_NS >> HEAT_TICK_SHIFT)
					assert_true(age <= truth + 1);
			}
			assert_true(epoch >= 1);
			assert_int_equal(heat_unpack(record[0]).frequency, 1);
		}
	}
}

static void a_late_touch_has_no_time_rather_than_a_wrong_one(void **state)
{
	_Atomic uint32_t record[2] = { 0 }, epoch = 0;

	(void)state;
	touch(record, 2, &epoch, 1, 3, 4 * EPOCH_NS + TICK_NS);
	touch(record, 2, &epoch, 0, 3, 3 * EPOCH_NS + TICK_NS);
	assert_int_equal(heat_age_ticks(record[0], epoch, heat_moment_at(4 * EPOCH_NS + TICK_NS)),
			 EPOCH_NS / TICK_NS);
	touch(record, 2, &epoch, 0, 3, 2 * EPOCH_NS + TICK_NS);
	assert_int_equal(heat_unpack(record[0]).time, 0);
	assert_int_equal(heat_age_ticks(record[0], epoch, heat_moment_at(4 * EPOCH_NS)),
			 HEAT_AGE_UNKNOWN);
}

static void defect_4b_15_two_touches_within_the_window(void **state)
{
	static const struct { uint64_t after_ticks; uint32_t frequency, class; } row[] = {
		{ 0, 1, 1 },
		{ HEAT_WINDOW_TICKS + 1, 1, 1 },
		{ HEAT_WINDOW_TICKS, 2, 2 },
		{ 1, 3, 2 },
		{ 0, 4, 3 },
		{ 1, 5, 3 },
		{ 1, 6, 3 },
		{ 1, 7, 3 },
		{ 1, 7, 3 },
		{ HEAT_WINDOW_TICKS + 1, 1, 1 },
	};
	_Atomic uint32_t record = 0, epoch = 0;
	uint64_t now_ns = 10 * TICK_NS;

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		now_ns += row[i].after_ticks * TICK_NS;
		uint32_t now = touch(&record, 1, &epoch, 0, 1, now_ns);
		assert_int_equal(heat_unpack(now).frequency, row[i].frequency);
		assert_int_equal(heat_class(now), row[i].class);
	}
}

/* ---- life ---- */

static void defect_4a_13_a_refused_page_keeps_its_heat(void **state)
{
	_Atomic uint32_t record = 0, epoch = 0;
	uint32_t taken, hot;

	(void)state;
	touch(&record, 1, &epoch, 0, 9, 100 * TICK_NS);
	hot = touch(&record, 1, &epoch, 0, 9, 101 * TICK_NS);
	assert_true(heat_take(&record, &taken));
	assert_int_equal(taken, hot);
	assert_false(heat_take(&record, &taken));
	assert_int_equal(record, hot & ~HEAT_MASK(READY));
	/* The next touch goes on from there. */
	assert_int_equal(heat_unpack(touch(&record, 1, &epoch, 0, 9, 102 * TICK_NS)).frequency, 3);
}

/* Who is to be woken is told by the touch that makes a page ready, and by those that make it hotter by a class. */
static void defect_4a_19_only_a_change_is_told(void **state)
{
	_Atomic uint32_t record = 0, epoch = 1;
	struct heat_moment now = heat_moment_at(100 * TICK_NS);
	bool raised;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		uint32_t class = UINT32_MAX;

		for (unsigned i = 0; i < 10; i++) {
			uint32_t now_class = heat_class(heat_publish(&record, epoch, now, true, 9, false, &raised));
			assert_int_equal(raised, now_class != class);
			class = now_class;
		}
		assert_true(heat_take(&record, &(uint32_t){ 0 }));
	}
}

static void defect_4a_21_a_freed_page_loses_its_heat(void **state)
{
	_Atomic uint32_t record = 0, epoch = 0;
	struct heat_moment now = heat_moment_at(100 * TICK_NS);
	bool raised;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		touch(&record, 1, &epoch, 0, 9, 100 * TICK_NS);
	heat_forget(&record);
	assert_int_equal(record, 0);
	assert_int_equal(heat_unpack(touch(&record, 1, &epoch, 0, 9, 100 * TICK_NS)).frequency, 1);
	/* A page that is born again without anybody having said that it was freed, too. */
	touch(&record, 1, &epoch, 0, 9, 100 * TICK_NS);
	uint32_t born = heat_publish(&record, epoch, now, true, 2, true, &raised);
	assert_int_equal(heat_unpack(born).frequency, 0);
	assert_int_equal(heat_unpack(born).node, 2);
}

static void defect_4a_07_a_block_has_one_record(void **state)
{
	_Atomic uint32_t record[8] = { 0 }, epoch = 1;
	uint32_t whole = heat_pack((struct heat){ true, 7, 4, 1000 });

	(void)state;
	record[0] = whole;
	heat_split(record, 8);
	assert_int_equal(record[0], whole);
	for (unsigned i = 1; i < 8; i++)
		assert_int_equal(record[i], whole & ~HEAT_MASK(READY));
	record[0] = heat_pack((struct heat){ false, 1, 2, 900 });
	for (unsigned i = 1; i < 8; i++)
		record[i] = heat_pack((struct heat){ i == 6, i, 2, 1000 + i });
	record[3] = heat_pack((struct heat){ false, 3, 5, 17 });
	heat_join(record, 8, epoch, heat_moment_at(2000 * TICK_NS));
	assert_int_equal(record[0], heat_pack((struct heat){ true, 3, 5, 17 }));
	for (unsigned i = 1; i < 8; i++)
		assert_int_equal(record[i], 0);
}

/* ---- threads ---- */

#define NR_TOUCHES 200000u

struct race {
	_Atomic uint32_t record[2], epoch;
	_Atomic unsigned nr_running;
	uint64_t nr_raised[3];
};

struct racer {
	struct race *race;
	uint32_t node;
};

/* Time and node of a record always belong together: node n publishes only in ticks that are n mod 4. */
static void *race_publish(void *arg)
{
	struct racer *racer = arg;

	for (uint64_t i = 0; i < NR_TOUCHES; i++) {
		struct heat_moment now = heat_moment_at((4 * i + 4 + racer->node) * TICK_NS);
		bool raised, known = heat_block_enter(racer->race->record, 2, &racer->race->epoch, now);
		heat_publish(&racer->race->record[0], atomic_load(&racer->race->epoch), now, known,
			     racer->node, false, &raised);
		racer->race->nr_raised[racer->node] += raised;
	}
	atomic_fetch_sub(&racer->race->nr_running, 1);
	return NULL;
}

static void defect_4a_03_a_record_is_never_a_mix_of_two(void **state)
{
	struct race race = { .nr_running = 3 };
	struct racer racer[3] = { { &race, 0 }, { &race, 1 }, { &race, 2 } };
	uint64_t nr_taken = 0, nr_raised = 0;
	pthread_t thread[3];
	uint32_t taken;
	bool last;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, race_publish, &racer[i]), 0);
	do {
		last = !atomic_load(&race.nr_running);
		while (heat_take(&race.record[0], &taken)) {
			struct heat heat = heat_unpack(taken);
			nr_taken++;
			assert_true(heat.ready && heat.node < 3 && heat.frequency > 0);
			if (heat.time > 1) /* 0 and 1 stand for no time, and for 0 */
				assert_int_equal(heat.time % 4, heat.node);
		}
	} while (!last);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(thread[i], NULL);
		nr_raised += race.nr_raised[i];
	}
	/* Every take was announced by a publisher: 0 -> 1 is said each time. */
	assert_true(nr_taken > 0 && nr_taken <= nr_raised);
	assert_false(heat_take(&race.record[0], &taken));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defect_4a_01_masks_from_width),
		cmocka_unit_test(a_field_too_large_spoils_no_neighbour),
		cmocka_unit_test(defect_4a_02_no_node_is_its_own_value),
		cmocka_unit_test(time_of_a_moment),
		cmocka_unit_test(an_idle_page_never_looks_recent),
		cmocka_unit_test(a_late_touch_has_no_time_rather_than_a_wrong_one),
		cmocka_unit_test(defect_4b_15_two_touches_within_the_window),
		cmocka_unit_test(defect_4a_13_a_refused_page_keeps_its_heat),
		cmocka_unit_test(defect_4a_19_only_a_change_is_told),
		cmocka_unit_test(defect_4a_21_a_freed_page_loses_its_heat),
		cmocka_unit_test(defect_4a_07_a_block_has_one_record),
		cmocka_unit_test(defect_4a_03_a_record_is_never_a_mix_of_two),
	};

	return cmocka_run_group_tests_name("heat", tests, NULL, NULL);
}
