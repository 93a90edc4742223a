/* SPDX-License-Identifier: MIT */
/* Work rests as long as it may take a part of the time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spend.h"

/* On a made-up clock: however much it is at once, it takes a fiftieth. */
static void it_takes_its_part_of_the_time(void **state)
{
	struct spend spend = { 0 };
	uint64_t spent_ns = 0, end_ns = 100000000;

	(void)state;
	for (uint64_t now_ns = 1000; now_ns < end_ns; now_ns += 10) {
		if (!spend_due(&spend, 50, now_ns))
			continue;
		spend = (struct spend){ now_ns, now_ns % 3 ? 2000 : 60000 };
		spent_ns += spend.cost_ns;
	}
	assert_in_range(spent_ns, end_ns / 50 - 2 * 60000, end_ns / 50 + 2 * 60000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_takes_its_part_of_the_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
