/* SPDX-License-Identifier: MIT */
#include "text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define BILLION UINT64_C(1000000000)

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "K", UINT64_C(1) << 10 },
	{ "M", UINT64_C(1) << 20 },
	{ "G", UINT64_C(1) << 30 },
	{ "T", UINT64_C(1) << 40 },
};

static const struct unit time_units[] = {
	{ "ns", 1 },
	{ "us", 1000 },
	{ "ms", 1000000 },
	{ "s", BILLION },
	{ "m", 60 * BILLION },
	{ "h", 3600 * BILLION },
};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

/* whole + billionths / 1e9 */
struct decimal {
	uint64_t whole;
	uint32_t billionths;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads digits[.digits]; *ret_rest is what follows. */
static int decimal_parse(const char *text, struct decimal *ret_number, const char **ret_rest)
{
	struct decimal number = { 0, 0 };
	uint32_t scale = (uint32_t)BILLION;

	if (!is_digit(*text))
		return -EINVAL;
	for (; is_digit(*text); text++) {
		uint64_t digit = (uint64_t)(*text - '0');

		if (number.whole > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		number.whole = number.whole * 10 + digit;
	}
	if (*text == '.') {
		text++;
		if (!is_digit(*text))
			return -EINVAL;
		for (; is_digit(*text); text++) {
			scale /= 10;
			if (scale == 0)
				return -ERANGE;
			number.billionths += scale * (uint32_t)(*text - '0');
		}
	}
	*ret_number = number;
	*ret_rest = text;
	return 0;
}

/* number * factor, rounded down, below 2^63. */
static int decimal_times(struct decimal number, uint64_t factor, uint64_t *ret_value)
{
	unsigned __int128 value = (unsigned __int128)number.whole * factor +
				  (unsigned __int128)number.billionths * factor / BILLION;

	if (value > INT64_MAX)
		return -ERANGE;
	*ret_value = (uint64_t)value;
	return 0;
}

static char to_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* 0 when the unit is unknown. */
static uint64_t size_factor(const char *unit)
{
	if (*unit == '\0')
		return 1;
	for (size_t i = 0; i < NR(size_units); i++)
		if (to_upper(unit[0]) == size_units[i].name[0] &&
		    (unit[1] == '\0' || strcmp(unit + 1, "iB") == 0))
			return size_units[i].factor;
	return 0;
}

int text_size_parse(const char *text, uint64_t whole_bytes, uint64_t *ret_bytes)
{
	struct decimal number;
	const char *unit;
	uint64_t factor;
	int err = decimal_parse(text, &number, &unit);

	if (err)
		return err;
	if (strcmp(unit, "%") == 0) {
		uint64_t hundredfold;

		if (number.whole > 100 || (number.whole == 100 && number.billionths) || !whole_bytes ||
		    whole_bytes > UINT64_MAX / 100)
			return -ERANGE;
		err = decimal_times(number, whole_bytes, &hundredfold);
		if (!err)
			*ret_bytes = hundredfold / 100;
		return err;
	}
	factor = size_factor(unit);
	return factor ? decimal_times(number, factor, ret_bytes) : -EDOM;
}

int text_time_parse(const char *text, uint64_t *ret_ns)
{
	struct decimal number;
	const char *unit;
	int err = decimal_parse(text, &number, &unit);

	if (err)
		return err;
	for (size_t i = 0; i < NR(time_units); i++)
		if (strcmp(unit, time_units[i].name) == 0)
			return decimal_times(number, time_units[i].factor, ret_ns);
	return -EDOM;
}

int text_share_parse(const char *text, uint32_t *ret_bp)
{
	struct decimal number;
	const char *unit;
	uint64_t bp;
	int err = decimal_parse(text, &number, &unit);

	if (err)
		return err;
	if (*unit != '\0' && strcmp(unit, "%") != 0)
		return -EDOM;
	if (number.whole > 100 || (number.whole == 100 && number.billionths))
		return -ERANGE;
	err = decimal_times(number, 100, &bp);
	if (!err)
		*ret_bp = (uint32_t)bp;
	return err;
}

/* The largest unit that leaves at least one; one decimal if it says more. */
static const char *number_format(char buffer[TEXT_NUMBER_BYTES], uint64_t value,
				 const struct unit *units, size_t nr_units, const char *smallest)
{
	size_t i = nr_units;
	uint64_t whole, tenths;

	while (i > 0 && value < units[i - 1].factor)
		i--;
	if (i == 0) {
		snprintf(buffer, TEXT_NUMBER_BYTES, "%llu%s", (unsigned long long)value, smallest);
		return buffer;
	}
	whole = value / units[i - 1].factor;
	tenths = (uint64_t)((unsigned __int128)(value % units[i - 1].factor) * 10 /
			    units[i - 1].factor);
	if (tenths == 0 || whole >= 100)
		snprintf(buffer, TEXT_NUMBER_BYTES, "%llu%s", (unsigned long long)whole,
			 units[i - 1].name);
	else
		snprintf(buffer, TEXT_NUMBER_BYTES, "%llu.%llu%s", (unsigned long long)whole,
			 (unsigned long long)tenths, units[i - 1].name);
	return buffer;
}

const char *text_size_format(char buffer[TEXT_NUMBER_BYTES], uint64_t bytes)
{
	return number_format(buffer, bytes, size_units, NR(size_units), "");
}

const char *text_time_format(char buffer[TEXT_NUMBER_BYTES], uint64_t ns)
{
	return number_format(buffer, ns, time_units, NR(time_units), "ns");
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/*
 * The usual table of prefix against prefix, three rows of it at a time: the third one back is
 * needed for two swapped letters.
 */
size_t text_distance(const char *a, const char *b)
{
	size_t rows[3][TEXT_NAME_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];
	size_t a_len = strlen(a), b_len = strlen(b);

	if (a_len > TEXT_NAME_MAX || b_len > TEXT_NAME_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_len; j++)
		above[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t *oldest = before;

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			row[j] = min3(above[j] + 1, row[j - 1] + 1,
				      above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = above;
		above = row;
		row = oldest;
	}
	return above[b_len];
}

const char *text_nearest(const char *wrong, const char *const *names, size_t nr_names)
{
	size_t len = strlen(wrong);
	size_t limit = (len + 2) / 3;
	const char *nearest = NULL;

	for (size_t i = 0; i < nr_names; i++) {
		size_t distance = text_distance(wrong, names[i]);

		if (distance <= limit && distance < len && distance < strlen(names[i])) {
			nearest = names[i];
			limit = distance ? distance - 1 : 0;
			if (distance == 0)
				break;
		}
	}
	return nearest;
}

/* Length of the character at `at`; 0: there is none. */
static size_t utf8_length(const char *at)
{
	const unsigned char *c = (const unsigned char *)at;
	size_t length = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < length; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than needed, a surrogate, or beyond the last character. */
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
	    (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	return length;
}

/* U+0000 to U+001F, U+007F to U+009F. */
static bool utf8_control(const char *at)
{
	const unsigned char *c = (const unsigned char *)at;

	return c[0] < 0x20 || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0);
}

void text_utf8_clean(char *text)
{
	while (*text) {
		size_t length = utf8_length(text);

		if (!length || utf8_control(text))
			memset(text, '?', length ? length : 1);
		text += length ? length : 1;
	}
}
