/* SPDX-License-Identifier: MIT */
/*
 * Assertions that stay on in release builds.
 *
 * tide_assert() is for what only a bug in pagetide can break; it is never used on data that came
 * from the kernel, a file, another process or a user: such data is checked and gives an error.
 * NDEBUG does not remove it. A failed assertion ends the process at once, because running on with
 * a broken table could lose bytes.
 */
#ifndef TIDE_ASSERT_H
#define TIDE_ASSERT_H

_Noreturn void assert_failed(const char *expression, const char *file, int line);

#define tide_assert(x) ((x) ? (void)0 : assert_failed(#x, __FILE__, __LINE__))

#endif
