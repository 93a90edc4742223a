/* SPDX-License-Identifier: MIT */
/*
 * The contract of a private tier: a place for 4 KiB pages that the CPU cannot address.
 *
 * A tier holds contents in slots. A slot is a 32-bit number, not 0, with a reference count; its
 * content never changes while it has a reference. All calls may come from any thread at once,
 * but not for one slot after its last reference was dropped - except load(), which may race with
 * that: it then gives any bytes or an error, touches nothing outside `ret_page`, and its caller
 * throws the result away (the page's state word tells). That is what lets a fault decompress
 * without a lock.
 */
#ifndef TIDE_TIER_H
#define TIDE_TIER_H

#include <stdbool.h>
#include <stdint.h>

#define TIER_PAGE_BYTES 4096u

struct tier_usage {
	uint64_t capacity_bytes; /* 0: not bounded */
	uint64_t used_bytes;     /* memory taken from the system for slots, free room inside included */
	uint64_t peak_bytes;
	uint64_t stored_bytes;   /* exact sum over slots of what each takes, header and rounding included */
	uint64_t metadata_bytes; /* memory taken beside that */
	uint64_t pages;          /* slots with at least one reference */
};

struct tier;

struct tier_ops {
	const char *name;
	/*
	 * Keep a copy of `page`. 0 and a slot with one reference; -ENOSPC: no room; -E2BIG: refused
	 * by rule, will be refused again unless the content or the bound changes; -EIO: failed. A
	 * failed call changed nothing.
	 */
	int (*store)(struct tier *tier, const void *page, uint32_t *ret_slot);
	/* The same for a page that has no other home: never -E2BIG, however much room it takes, and -ENOSPC only
	 * when the system gives no more: the capacity does not bind. */
	int (*keep)(struct tier *tier, const void *page, uint32_t *ret_slot);
	/* The slot will soon be loaded: what helps may begin. Any slot that load() may be given. */
	void (*expect)(struct tier *tier, uint32_t slot);
	/* Bring the content back. 0; -EIO: failed, or (verify) the content is not what was stored. */
	int (*load)(struct tier *tier, uint32_t slot, void *ret_page);
	/* 0: `page` equals the content; 1: differs; -EIO. The slot has a reference. */
	int (*compare)(struct tier *tier, uint32_t slot, const void *page);
	void (*ref)(struct tier *tier, uint32_t slot);
	/* Drop a reference; the last one frees the slot. */
	void (*unref)(struct tier *tier, uint32_t slot);
	void (*usage)(struct tier *tier, struct tier_usage *ret_usage);
	/* Change the bound (0: none). Below what is used: nothing is lost, store() gives -ENOSPC. */
	void (*set_capacity)(struct tier *tier, uint64_t bytes);
	void (*close)(struct tier *tier); /* NULL is allowed */
};

struct tier {
	const struct tier_ops *ops;
};

#endif
