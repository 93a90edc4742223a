/* SPDX-License-Identifier: MIT */
#include "mempolicy.h"

#include <errno.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LONG_BITS (sizeof(long) * CHAR_BIT)

bool mempolicy_default(void)
{
	int mode;

	return syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) || mode == MPOL_DEFAULT;
}

int mempolicy_prefer(unsigned int node)
{
	unsigned long mask[(MEMPOLICY_NODE_MAX + 1) / LONG_BITS] = { 0 };

	if (node > MEMPOLICY_NODE_MAX)
		return -EINVAL;
	mask[node / LONG_BITS] = 1ul << (node % LONG_BITS);
	/* The kernel takes one less than the number of bits that it is told. */
	return syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask, MEMPOLICY_NODE_MAX + 2) ? -errno : 0;
}
