/* SPDX-License-Identifier: MIT */
/*
 * Kernel interfaces newer than Debian 12's headers: UFFDIO_MOVE (Linux 6.8), PAGEMAP_SCAN (6.7).
 * Numbers and layouts are the kernel's binary interface, written out from its documentation.
 */
#ifndef TIDE_UAPI_H
#define TIDE_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>

#ifndef UFFDIO_MOVE
#define UFFDIO_MOVE_MODE_DONTWAKE ((__u64)1 << 0)
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move; /* out: bytes moved, or -errno when none was */
};
#define _UFFDIO_MOVE 0x05
#define UFFDIO_MOVE _IOWR(UFFDIO, _UFFDIO_MOVE, struct uffdio_move)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE ((__u64)1 << 16)
#endif

#ifndef PAGEMAP_SCAN
#define PAGE_IS_PRESENT ((__u64)1 << 3)
#define PAGE_IS_SWAPPED ((__u64)1 << 4)
#define PAGE_IS_PFNZERO ((__u64)1 << 5)
#define PAGE_IS_HUGE ((__u64)1 << 6)
struct page_region {
	__u64 start;
	__u64 end;
	__u64 categories;
};
struct pm_scan_arg {
	__u64 size;
	__u64 flags;
	__u64 start;
	__u64 end;
	__u64 walk_end;
	__u64 vec;
	__u64 vec_len;
	__u64 max_pages;
	__u64 category_inverted;
	__u64 category_mask;
	__u64 category_anyof_mask;
	__u64 return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif

#endif
