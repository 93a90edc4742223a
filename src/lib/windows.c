/* SPDX-License-Identifier: MIT */
#include "windows.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "clock.h"

#define WINDOWS_FIRST 4u
#define CENSUS_NS UINT64_C(5000000000)
#define CENSUS_SHARE 1000u /* of one core */
#define SLICE_FIRST 4u /* windows that one slice covers in the first pass */

static const struct scan_config walk_config = {
	.period_ns = 100000000,
	.min_ns = 100000000,
	.max_ns = 4000000000,
	.share_ppm = 2000, /* a five hundredth of one core */
};

/* ---- windows ---- */

int windows_begin(struct tiering *tiering, struct tiering_space *space, void *owner)
{
	struct tiering_window **windows = calloc(WINDOWS_FIRST, sizeof *windows);

	if (!windows)
		return -ENOMEM;
	tiering_space_add(tiering, space, owner, windows, WINDOWS_FIRST);
	return 0;
}

static void window_close(struct tiering *tiering, struct tiering_window *window)
{
	if (!tiering_window_remove(tiering, window))
		munmap(window, tiering_window_bytes());
}

void windows_end(struct tiering *tiering, struct tiering_space *space)
{
	windows_forget(tiering, space, 0, UINT64_MAX);
	tiering_space_remove(tiering, space);
	free(space->windows);
}

static int window_open(struct tiering_space *space, uint64_t first_vpn)
{
	if (tiering_window_find(space, first_vpn))
		return 0;
	if (space->nr_windows == space->max_windows) {
		struct tiering_window **more = calloc(space->max_windows * 2, sizeof *more);
		if (!more)
			return -ENOMEM;
		free(tiering_space_grow(space, more, space->max_windows * 2));
	}
	void *memory = mmap(NULL, tiering_window_bytes(), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -ENOMEM;
	int error = tiering_window_add(space, tiering_window_init(memory, first_vpn));
	if (error)
		munmap(memory, tiering_window_bytes());
	return error;
}

int windows_cover(struct tiering_space *space, uint64_t first_vpn, uint64_t end_vpn)
{
	int error = 0;

	for (uint64_t at = first_vpn & ~(uint64_t)(TIERING_WINDOW_PAGES - 1); at < end_vpn && !error;
	     at += TIERING_WINDOW_PAGES)
		error = window_open(space, at);
	return error;
}

void windows_forget(struct tiering *tiering, struct tiering_space *space, uint64_t first_vpn,
		    uint64_t end_vpn)
{
	for (uint32_t w = 0; w < space->nr_windows;) {
		struct tiering_window *window = space->windows[w];
		uint64_t start = window->first_vpn, end = start + TIERING_WINDOW_PAGES;
		uint64_t low = start > first_vpn ? start : first_vpn;
		uint64_t high = end < end_vpn ? end : end_vpn;

		if (low < high && low == start && high == end) {
			window_close(tiering, window); /* the next one moved up */
			if (w < space->nr_windows && space->windows[w] == window)
				w++; /* not while something of it is under way */
			continue;
		}
		if (low < high)
			tiering_forget(tiering, space, low, high - low);
		w++;
	}
}

/* ---- the census ---- */

const struct tiering_census *census_look(struct census *census, const struct tiering *tiering,
					 const struct tiering_space *space, uint64_t now_ns, uint64_t *all_ns)
{
	uint64_t age_ns = now_ns - census->at_ns;

	if (census->at_ns && (age_ns < CENSUS_NS || age_ns < *all_ns * CENSUS_SHARE))
		return &census->counts;
	uint64_t begin_ns = clock_thread_cpu_ns();
	tiering_census(tiering, space, now_ns, &census->counts);
	*all_ns -= census->cost_ns;
	census->cost_ns = clock_thread_cpu_ns() - begin_ns;
	*all_ns += census->cost_ns;
	census->at_ns = now_ns;
	return &census->counts;
}

void census_forget(struct census *census, uint64_t *all_ns)
{
	*all_ns -= census->cost_ns;
	*census = (struct census){ 0 };
}

/* ---- the walk ---- */

void walk_init(struct walk *walk, uint64_t now_ns)
{
	*walk = (struct walk){ 0 };
	scan_init(&walk->scan, &walk_config, SCAN_WEIGHT_MAX, now_ns);
}

bool walk_slice(struct walk *walk, const struct tiering_space *space,
		void (*look)(void *arg, const struct tiering_window *window), void *arg,
		uint64_t now_ns, uint64_t *cpu_ns)
{
	uint64_t begin_ns = clock_thread_cpu_ns();
	uint32_t w = 0, slices = walk->passes ? 1 : SLICE_FIRST;

	if (!space->nr_windows || (walk->passes && !scan_due(&walk->scan, now_ns)))
		return false;
	while (w < space->nr_windows && space->windows[w]->first_vpn < walk->vpn)
		w++;
	for (; slices && w < space->nr_windows; slices--, w++)
		look(arg, space->windows[w]);
	if (w < space->nr_windows) {
		walk->vpn = space->windows[w]->first_vpn;
	} else {
		walk->vpn = 0;
		walk->passes++;
	}
	uint64_t cost_ns = clock_thread_cpu_ns() - begin_ns;
	*cpu_ns += cost_ns;
	scan_done(&walk->scan, now_ns, cost_ns, 0);
	return !walk->passes;
}
