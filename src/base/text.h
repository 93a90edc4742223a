/* SPDX-License-Identifier: MIT */
/*
 * Text that people write and read: sizes, times, shares, and names they misspell.
 *
 * Every parser takes the whole text or nothing: no leading or trailing blanks, no sign, no rest.
 * A number is digits with an optional fraction of up to nine digits ("1.5G"); arithmetic is exact,
 * results are rounded down. What is formatted can be parsed again, below 2^63.
 *
 * All parsers return 0, or
 *   -EINVAL  there is no number where one belongs
 *   -EDOM    the unit is unknown
 *   -ERANGE  the value does not fit: sizes and times are below 2^63, so that sums of two fit, and JSON has them
 * and write their result on success only.
 */
#ifndef TIDE_TEXT_H
#define TIDE_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Enough for any formatted size or time, with its end. */
#define TEXT_NUMBER_BYTES 24

/*
 * A size: bytes without a unit, or K M G T in powers of 1024, small letters and a trailing "iB"
 * allowed; or a share of `whole_bytes`, "40%". A share above 100 % is -ERANGE, and so is any share
 * when whole_bytes is 0.
 */
int text_size_parse(const char *text, uint64_t whole_bytes, uint64_t *ret_bytes);

/* A time with its unit: ns us ms s m h. */
int text_time_parse(const char *text, uint64_t *ret_ns);

/* A share in percent, with or without the sign, in 1/10000: "1", "0.5%", at most 100. */
int text_share_parse(const char *text, uint32_t *ret_bp);

/* The shortest text with at most one decimal: "512M", "1.5G", "0". Returns `buffer`. */
const char *text_size_format(char buffer[TEXT_NUMBER_BYTES], uint64_t bytes);
/* Likewise: "250ms", "4.3us", "30s". */
const char *text_time_format(char buffer[TEXT_NUMBER_BYTES], uint64_t ns);

/*
 * Put a question mark for each byte that is not part of UTF-8 or is one of a control character: a
 * process may have any name, and terminals obey these.
 */
void text_utf8_clean(char *text);

/*
 * The number of single letters to insert, drop, replace or swap with their neighbour to turn one
 * name into the other. Names longer than TEXT_NAME_MAX count as entirely different: SIZE_MAX.
 */
#define TEXT_NAME_MAX 32u
size_t text_distance(const char *a, const char *b);

/*
 * The name nearest to `wrong` that could well have been meant (at most a third of its letters
 * wrong, and at least one letter right), or NULL. Of equally near ones the first.
 */
const char *text_nearest(const char *wrong, const char *const *names, size_t nr_names);

#endif
