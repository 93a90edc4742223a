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

static void window_unmap(struct tiering_window *window)
{
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
	tiering_windows_remove(tiering, space, first_vpn, end_vpn, window_unmap);
	/* Those at the ends stay, and those of which something is under way. */
	tiering_forget(tiering, space, first_vpn, end_vpn - first_vpn);
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

bool walk_slice(struct walk *walk, uint64_t (*look)(void *arg, uint64_t vpn), void *arg, uint64_t now_ns,
		uint64_t *cpu_ns)
{
	uint32_t slices = walk->passes ? 1 : SLICE_FIRST;

	if (walk->passes && !scan_due(&walk->scan, now_ns))
		return false;
	uint64_t begin_ns = clock_thread_cpu_ns();
	while (slices-- && walk->vpn != WALK_END)
		walk->vpn = look(arg, walk->vpn);
	if (walk->vpn == WALK_END) {
		walk->vpn = 0;
		walk->passes++;
	}
	uint64_t cost_ns = clock_thread_cpu_ns() - begin_ns;
	*cpu_ns += cost_ns;
	scan_done(&walk->scan, now_ns, cost_ns, 0);
	return !walk->passes;
}
