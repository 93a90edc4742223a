/* SPDX-License-Identifier: MIT */
/*
 * A kernel of our own for the helper: two windows of an address space with what is in each page, and
 * the system calls that move, drop and look at pages there. It is as unkind as the real one may be.
 *
 *   UFFDIO_MOVE   moves a part; gives EAGAIN or EINTR for nothing; moves pages that it does not report,
 *                 one or many (Linux 6.18: after an EAGAIN inside the call, the next batch goes over and
 *                 the answer is EEXIST); all EAGAIN while an event of the program's is on its way
 *   MADV_DONTNEED of many ranges in one call: does a part, or is an older kernel and does none
 *   meanwhile     the program pins pages, reads our area (which fills its holes with the page of
 *                 zeros), unmaps or moves what is being moved out and maps something new there
 *
 * A page's content is a number: one of the program's pages each, or one of the few below. What the
 * real kernel forbids, or the helper has no business to do, ends the test.
 */
#ifndef TIDE_TEST_FAKE_KERNEL_H
#define TIDE_TEST_FAKE_KERNEL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "../../src/os/uapi.h"
#include "rng.h"

#define FAKE_PAGE ((uint64_t)4096)
#define FAKE_BLOCK 512u /* pages of a huge page */
#define FAKE_BLOCK_BYTES (FAKE_BLOCK * FAKE_PAGE)
#define FAKE_PROGRAM ((uint64_t)1 << 40)
#define FAKE_PROGRAM_PAGES (4 * FAKE_BLOCK)
#define FAKE_AREA (((uint64_t)2 << 40) + 5 * FAKE_PAGE) /* not on a 2 MiB line */
#define FAKE_AREA_PAGES (16 * FAKE_BLOCK)
#define FAKE_IDS (1u << 20)

enum fake_fd { FAKE_UFFD = 70, FAKE_HOLD_UFFD, FAKE_PAGEMAP, FAKE_SELF };

/* Contents. From ID_FIRST on every number is one page of the program's. */
enum { ID_NONE, ID_ZERO, ID_SCRIBBLE, ID_STALE, ID_FIRST };

struct fake_page {
	uint32_t id;
	bool pinned, swapped;
	bool readonly; /* of the mapping */
};

struct fake_window {
	uint64_t start;
	uint32_t nr_pages;
	struct fake_page *pages;
	bool *huge;   /* a whole block is one page */
	bool *table;  /* a block has a page table: no huge page fits in */
};

/* How often what happens, in 1000 calls. */
struct fake_weather {
	uint32_t again, partial, unreported, event, zero_touch, pin;
};

static struct {
	uint64_t rng, seed;
	struct fake_window program, area;
	uint64_t hold, stage, stage_end, stock_end; /* addresses; 0 before the area is mapped */
	struct fake_weather weather;
	bool changing;        /* an event waits to be read */
	uint64_t move_start[64], move_pages[64]; /* what is being moved out now */
	uint32_t nr_moves;
	uint32_t next_id;
	uint8_t *unmapped;    /* [id]: the program gave the page up */
	uint32_t *elsewhere;  /* ids of pages that the program moved away */
	uint32_t nr_elsewhere;
	uint32_t subject;     /* the page that is being judged */
	uint64_t nr_unreported, nr_events, nr_huge, nr_touches, nr_advised;
} kernel;

static uint32_t fake_below(uint32_t bound)
{
	return rng_below(&kernel.rng, bound);
}

static bool fake_happens(uint32_t per_mille)
{
	return per_mille && fake_below(1000) < per_mille;
}

static void fake_where(const char *name, const struct fake_window *w)
{
	for (uint32_t i = 0; i < w->nr_pages; i++)
		if (w->pages[i].id == kernel.subject)
			printf("page %u is at %s + %u\n", kernel.subject, name, i);
}

static _Noreturn void fake_fail(const char *what)
{
	const struct fake_weather *now = &kernel.weather;

	printf("FAILED: %s\nseed %llu; replay: test_helper %llu\n", what,
	       (unsigned long long)kernel.seed, (unsigned long long)kernel.seed);
	printf("in 1000: again %u, partial %u, unreported %u, events %u, touches %u; an event waits: %d\n",
	       now->again, now->partial, now->unreported, now->event, now->zero_touch, kernel.changing);
	if (kernel.subject >= ID_FIRST) {
		fake_where("program", &kernel.program);
		fake_where("hold area", &kernel.area);
	}
	fflush(stdout);
	abort();
}

static void fake_must(bool holds, const char *what)
{
	if (!holds)
		fake_fail(what);
}

static struct fake_window fake_window_open(uint64_t start, uint32_t nr_pages)
{
	struct fake_window w = { .start = start, .nr_pages = nr_pages };
	uint32_t nr_blocks = nr_pages / FAKE_BLOCK + 1;

	w.pages = calloc(nr_pages, sizeof *w.pages);
	w.huge = calloc(nr_blocks, sizeof *w.huge);
	w.table = calloc(nr_blocks, sizeof *w.table);
	fake_must(w.pages && w.huge && w.table, "no memory");
	return w;
}

static void fake_window_close(struct fake_window *w)
{
	free(w->pages);
	free(w->huge);
	free(w->table);
}

static struct fake_window *fake_window_of(uint64_t address, uint64_t bytes)
{
	struct fake_window *windows[] = { &kernel.program, &kernel.area };

	for (unsigned i = 0; i < 2; i++)
		if (address >= windows[i]->start &&
		    address + bytes <= windows[i]->start + windows[i]->nr_pages * FAKE_PAGE)
			return windows[i];
	fake_fail("a call on memory that is nobody's");
}

static struct fake_page *fake_page_at(uint64_t address)
{
	struct fake_window *w = fake_window_of(address, FAKE_PAGE);

	return &w->pages[(address - w->start) / FAKE_PAGE];
}

/* The 2 MiB block of an address; windows need not begin on one. */
static uint32_t fake_block_of(const struct fake_window *w, uint64_t address)
{
	return (uint32_t)(address / FAKE_BLOCK_BYTES - w->start / FAKE_BLOCK_BYTES);
}

static bool fake_huge(uint64_t address)
{
	struct fake_window *w = fake_window_of(address, FAKE_PAGE);

	return w->huge[fake_block_of(w, address)];
}

static void fake_split(uint64_t address)
{
	struct fake_window *w = fake_window_of(address, FAKE_PAGE);

	w->huge[fake_block_of(w, address)] = false;
	w->table[fake_block_of(w, address)] = true;
}

static void fake_page_drop(uint64_t address)
{
	struct fake_page *page = fake_page_at(address);

	if (page->id && fake_huge(address))
		fake_split(address);
	*page = (struct fake_page){ .readonly = page->readonly };
}

/* ---- the program, between two calls of the helper ---- */

/* Reading our area where nothing is fills in the page of zeros. */
static void fake_zero_touch(void)
{
	/* What is read in the stage of huge pages gives it a page table for good: not in every sequence. */
	uint64_t end = kernel.seed % 4 ? kernel.stage + FAKE_BLOCK_BYTES : kernel.stage_end;
	uint32_t nr = (uint32_t)((end - kernel.hold) / FAKE_PAGE);

	/* Mostly where something is going on: the stage's first pages. */
	uint64_t address = fake_below(2) ? kernel.stage + fake_below(64) * FAKE_PAGE
					 : kernel.hold + fake_below(nr) * FAKE_PAGE;
	struct fake_page *page = fake_page_at(address);

	if (page->id != ID_NONE)
		return;
	page->id = ID_ZERO;
	kernel.area.table[fake_block_of(&kernel.area, address)] = true;
	kernel.nr_touches++;
}

/* The program unmaps or moves away a part of what is being moved out. The event waits until the
 * command is over; the place may belong to another mapping at once. */
static void fake_event(void)
{
	uint32_t move = fake_below(kernel.nr_moves);
	uint32_t from = fake_below((uint32_t)kernel.move_pages[move]);
	uint32_t nr = 1 + fake_below((uint32_t)kernel.move_pages[move] - from);
	bool remap = fake_below(2), refill = fake_below(2);

	kernel.changing = true;
	kernel.nr_events++;
	if (fake_below(4) == 0)
		return; /* a discard: takes effect after its event was read */
	for (uint32_t i = from; i < from + nr; i++) {
		uint64_t address = kernel.move_start[move] + i * FAKE_PAGE;
		struct fake_page *page = fake_page_at(address);

		if (page->id >= ID_FIRST && remap)
			kernel.elsewhere[kernel.nr_elsewhere++] = page->id;
		else if (page->id >= ID_FIRST)
			kernel.unmapped[page->id] = true;
		fake_page_drop(address);
		if (refill && fake_below(4))
			page->id = fake_below(4) ? kernel.next_id++ : ID_ZERO;
	}
}

static void fake_meanwhile(void)
{
	if (!kernel.nr_moves)
		return;
	if (fake_happens(kernel.weather.zero_touch))
		fake_zero_touch();
	if (!kernel.changing && fake_happens(kernel.weather.event))
		fake_event();
	if (fake_happens(kernel.weather.pin)) {
		struct fake_page *page = &kernel.program.pages[fake_below(FAKE_PROGRAM_PAGES)];
		page->pinned = page->id && !page->pinned;
	}
}

/* ---- UFFDIO_MOVE ---- */

static bool fake_inside(uint64_t address, uint64_t bytes, uint64_t start, uint64_t end)
{
	return address >= start && address + bytes <= end;
}

static bool fake_readonly(uint64_t address, uint64_t bytes)
{
	const struct fake_page *first = fake_page_at(address);

	(void)fake_window_of(address, bytes);
	for (uint64_t at = 0; at < bytes / FAKE_PAGE; at++)
		if (first[at].readonly)
			return true;
	return false;
}

/* What is refused before anything moves. */
static long fake_move_check(int fd, const struct uffdio_move *m)
{
	bool from_program = m->src < FAKE_AREA, to_program = m->dst < FAKE_AREA;

	fake_must(m->len && !((m->dst | m->src | m->len) % FAKE_PAGE), "a move is not of whole pages");
	fake_must(m->mode == UFFDIO_MOVE_MODE_DONTWAKE, "a move wakes, or takes holes for pages");
	if (from_program)
		fake_must(fd == FAKE_UFFD &&
				  fake_inside(m->dst, m->len, kernel.stage, kernel.stage_end),
			  "pages leave the program past the stage");
	else if (to_program)
		fake_must(fd == FAKE_UFFD &&
				  (fake_inside(m->src, m->len, kernel.hold, kernel.stage) ||
				   fake_inside(m->src, m->len, kernel.stage_end, kernel.stock_end)),
			  "pages come from neither the hold area nor the stock");
	else
		fake_must(fd == FAKE_HOLD_UFFD &&
				  fake_inside(m->src, m->len, kernel.stage, kernel.stage_end) &&
				  fake_inside(m->dst, m->len, kernel.hold, kernel.stage),
			  "a move that is neither into nor out of the stage");
	if ((from_program || to_program) && kernel.changing)
		return -EAGAIN;
	/* Spans mappings, or the one mapping may not be moved from, or to. */
	return fake_readonly(m->src, m->len) || fake_readonly(m->dst, m->len) ? -EINVAL : 0;
}

static bool fake_block_pinned(uint64_t src)
{
	const struct fake_page *page = fake_page_at(src & ~(FAKE_BLOCK_BYTES - 1));

	for (uint32_t i = 0; i < FAKE_BLOCK; i++)
		if (page[i].pinned)
			return true;
	return false;
}

static void fake_page_go(uint64_t dst, uint64_t src)
{
	struct fake_page *from = fake_page_at(src), *to = fake_page_at(dst);
	bool readonly = from->readonly, to_readonly = to->readonly;

	*to = *from;
	to->readonly = to_readonly;
	*from = (struct fake_page){ .readonly = readonly };
}

/* One step: a huge page if it can stay one, else a page. */
static long fake_step(uint64_t dst, uint64_t src, uint64_t left, uint64_t *ret_bytes)
{
	struct fake_window *to = fake_window_of(dst, FAKE_PAGE), *from = fake_window_of(src, FAKE_PAGE);
	uint32_t dst_block = fake_block_of(to, dst), src_block = fake_block_of(from, src);

	*ret_bytes = FAKE_PAGE;
	if (to->huge[dst_block] || fake_page_at(dst)->id)
		return -EEXIST;
	if (from->huge[src_block]) {
		if (fake_block_pinned(src))
			return -EBUSY;
		bool whole = !((dst | src) % FAKE_BLOCK_BYTES) && left >= FAKE_BLOCK_BYTES;
		if (whole && !to->table[dst_block]) {
			*ret_bytes = FAKE_BLOCK_BYTES;
			from->huge[src_block] = false;
			to->huge[dst_block] = true;
			kernel.nr_huge++;
		} else {
			fake_split(src);
			to->table[dst_block] = true;
		}
	}
	if (!fake_page_at(src)->id)
		return -ENOENT;
	if (fake_page_at(src)->pinned)
		return -EBUSY;
	for (uint64_t at = 0; at < *ret_bytes; at += FAKE_PAGE)
		fake_page_go(dst + at, src + at);
	if (*ret_bytes == FAKE_PAGE)
		to->table[dst_block] = true;
	return 0;
}

/* Pages go over, and the answer does not say so. */
static long fake_unreported(uint64_t dst, uint64_t src, uint64_t left)
{
	uint32_t nr = 1 + fake_below(fake_below(2) ? 1 : 40);
	uint64_t bytes, done = 0;
	long error = 0;

	while (done < left && nr-- && !error) {
		error = fake_step(dst + done, src + done, left - done, &bytes);
		done += error ? 0 : bytes;
	}
	if (!done)
		return error;
	kernel.nr_unreported++;
	return fake_below(2) ? -EEXIST : -EAGAIN;
}

static long fake_move(int fd, struct uffdio_move *m)
{
	long error = fake_move_check(fd, m);
	uint64_t moved = 0, bytes;

	while (!error && moved < m->len) {
		if (!fake_page_at(m->dst + moved)->id && fake_happens(kernel.weather.again))
			error = fake_below(16) ? -EAGAIN : -EINTR; /* it looks at dst first */
		else if (fake_happens(kernel.weather.unreported))
			error = fake_unreported(m->dst + moved, m->src + moved, m->len - moved);
		else
			error = fake_step(m->dst + moved, m->src + moved, m->len - moved, &bytes);
		if (error)
			break;
		moved += bytes;
		if (fake_happens(kernel.weather.partial))
			break;
	}
	m->move = moved ? (int64_t)moved : error;
	return moved == m->len ? 0 : moved ? -EAGAIN : error;
}

/* ---- PAGEMAP_SCAN, madvise ---- */

static uint64_t fake_categories(uint64_t address)
{
	const struct fake_page *page = fake_page_at(address);

	if (!page->id)
		return 0;
	return (page->swapped ? PAGE_IS_SWAPPED : PAGE_IS_PRESENT) |
	       (page->id == ID_ZERO ? PAGE_IS_PFNZERO : 0) | (fake_huge(address) ? PAGE_IS_HUGE : 0);
}

static long fake_scan(int fd, const struct pm_scan_arg *scan)
{
	struct page_region *found = (struct page_region *)(uintptr_t)scan->vec;
	uint64_t nr = 0;

	fake_must(fd == FAKE_PAGEMAP, "a scan of what is no page map");
	for (uint64_t at = scan->start; at < scan->end; at += FAKE_PAGE) {
		uint64_t has = fake_categories(at);
		uint64_t told = has & scan->return_mask;
		if ((has & scan->category_mask) != scan->category_mask ||
		    (scan->category_anyof_mask && !(has & scan->category_anyof_mask)))
			continue;
		if (nr && found[nr - 1].end == at && found[nr - 1].categories == told) {
			found[nr - 1].end += FAKE_PAGE;
			continue;
		}
		if (nr == scan->vec_len)
			break;
		found[nr++] = (struct page_region){ at, at + FAKE_PAGE, told };
	}
	return (long)nr;
}

#define FAKE_DONTNEED_LOCKED 24

static long fake_advise(uint64_t address, uint64_t bytes, int advice)
{
	if (advice != FAKE_DONTNEED_LOCKED)
		return 0;
	/* With events of its own it would wait for itself to be read (rule 12). */
	fake_must(fake_inside(address, bytes, kernel.hold, kernel.stage) ||
			  fake_inside(address, bytes, kernel.stage_end, kernel.stock_end),
		  "what is outside the hold area and the stock was dropped");
	for (uint64_t at = 0; at < bytes; at += FAKE_PAGE)
		fake_page_drop(address + at);
	if (!(address % FAKE_BLOCK_BYTES) && bytes == FAKE_BLOCK_BYTES)
		kernel.area.table[fake_block_of(&kernel.area, address)] = false;
	return 0;
}

static long fake_advise_all(int fd, const struct iovec *parts, size_t nr, int advice)
{
	long done = 0;

	fake_must(fd == FAKE_SELF && nr <= 1024, "advice about another process, or too much of it");
	if (kernel.seed % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < nr; i++) {
		if (fake_happens(kernel.weather.partial))
			return done ? done : -EINTR;
		fake_advise((uint64_t)(uintptr_t)parts[i].iov_base, parts[i].iov_len, advice);
		done += (long)parts[i].iov_len;
	}
	kernel.nr_advised++;
	return done;
}

/* ---- life of a kernel ---- */

static void fake_open(uint64_t seed)
{
	memset(&kernel, 0, sizeof kernel);
	kernel.seed = kernel.rng = seed;
	kernel.program = fake_window_open(FAKE_PROGRAM, FAKE_PROGRAM_PAGES);
	kernel.area = fake_window_open(FAKE_AREA, FAKE_AREA_PAGES);
	kernel.unmapped = calloc(FAKE_IDS, 1);
	kernel.elsewhere = calloc(FAKE_PROGRAM_PAGES * 2, sizeof *kernel.elsewhere);
	fake_must(kernel.unmapped && kernel.elsewhere, "no memory");
	kernel.next_id = ID_FIRST;
}

static void fake_close(void)
{
	fake_window_close(&kernel.program);
	fake_window_close(&kernel.area);
	free(kernel.unmapped);
	free(kernel.elsewhere);
}

#endif
