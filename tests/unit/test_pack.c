/* SPDX-License-Identifier: MIT */
/* Numbers come back as they were packed; what is cut off or no number is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pack.h"

static const uint64_t numbers[] = {
	0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_C(1) << 62, UINT64_C(1) << 63, UINT64_MAX,
};
#define NR (sizeof numbers / sizeof *numbers)

static void numbers_and_changes_come_back(void **state)
{
	uint8_t data[(NR + NR * NR) * PACK_NUMBER_MAX];
	struct pack pack = { .data = data };

	(void)state;
	for (size_t i = 0; i < NR; i++) {
		pack_number(&pack, numbers[i]);
		for (size_t k = 0; k < NR; k++)
			pack_change(&pack, numbers[i], numbers[k]);
	}
	pack.end = pack.at;
	pack.at = 0;
	for (size_t i = 0; i < NR; i++) {
		assert_true(unpack_number(&pack) == numbers[i]);
		for (size_t k = 0; k < NR; k++)
			assert_true(unpack_change(&pack, numbers[i]) == numbers[k]);
	}
	assert_int_equal(pack.at, pack.end);
	assert_false(pack.bad);
}

static void small_changes_are_small(void **state)
{
	uint8_t data[PACK_NUMBER_MAX];
	static const int64_t changes[] = { 0, 1, -1, 63, -64 };

	(void)state;
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct pack pack = { .data = data };
		pack_change(&pack, 1000, 1000 + (uint64_t)changes[i]);
		assert_int_equal(pack.at, 1);
	}
}

static void what_is_no_number_is_noticed(void **state)
{
	uint8_t data[PACK_NUMBER_MAX + 1], too_long[11];

	(void)state;
	for (size_t i = 0; i < NR; i++) {
		struct pack pack = { .data = data };
		pack_number(&pack, numbers[i]);
		pack.end = pack.at - 1;
		pack.at = 0;
		assert_true(unpack_number(&pack) == 0 && pack.bad);
		assert_true(unpack_number(&pack) == 0 && pack.bad);
	}
	memset(too_long, 0x80, sizeof too_long);
	struct pack pack = { .data = too_long, .end = sizeof too_long };
	assert_true(unpack_number(&pack) == 0 && pack.bad);
	/* A tenth byte has one bit. */
	memset(too_long, 0xff, sizeof too_long);
	too_long[9] = 2;
	pack = (struct pack){ .data = too_long, .end = sizeof too_long };
	assert_true(unpack_number(&pack) == 0 && pack.bad);
}

static void any_changed_byte_changes_the_check(void **state)
{
	uint8_t data[64];

	(void)state;
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 37);
	uint64_t check = pack_check(PACK_CHECK, data, sizeof data);
	for (size_t i = 0; i < sizeof data; i++)
		for (unsigned change = 1; change < 256; change++) {
			data[i] ^= (uint8_t)change;
			assert_true(pack_check(PACK_CHECK, data, sizeof data) != check);
			data[i] ^= (uint8_t)change;
		}
	/* In two pieces as in one. */
	assert_true(pack_check(pack_check(PACK_CHECK, data, 20), data + 20, 44) == check);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_and_changes_come_back),
		cmocka_unit_test(small_changes_are_small),
		cmocka_unit_test(what_is_no_number_is_noticed),
		cmocka_unit_test(any_changed_byte_changes_the_check),
	};

	return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
