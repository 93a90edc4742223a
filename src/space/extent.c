/* SPDX-License-Identifier: MIT */
/*
 * Extents: which pages of which tract are mapped where.
 *
 * A tract's tables never move or grow; what the program does to its mappings changes extents only.
 *
 *   addresses  ──[ extent A ]──────[ extent B ]──────[ extent C ]──   sorted by vpn, no overlap
 *                   │                  │                  │
 *   tracts        [ tract 1          ][.....]           [ tract 2 ]
 *
 * Small mappings share a tract: shelf.c.
 *
 * What must always hold: extents are sorted and do not overlap; every page of a tract is covered by
 * at most one; a tract that none covers is buried.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "assert.h"
#include "intake.h"
#include "program.h"

#define TABLES_HUGE_BYTES (4u << 20) /* from so many bytes on they may be of huge pages */

/* Index of the first extent that ends after vpn. */
static size_t extent_index(const struct program *p, uint64_t vpn)
{
	size_t low = 0, high = p->nr_extents;

	while (low < high) {
		size_t mid = (low + high) / 2;
		if (p->extents[mid].vpn + p->extents[mid].nr_pages <= vpn)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const struct extent *extent_next(const struct program *p, uint64_t vpn)
{
	size_t i = extent_index(p, vpn);

	return i < p->nr_extents ? &p->extents[i] : NULL;
}

const struct extent *extent_find(const struct program *p, uint64_t vpn)
{
	const struct extent *e = extent_next(p, vpn);

	return e && e->vpn <= vpn ? e : NULL;
}

static bool extent_holds(const struct extent *e, const struct tract *tract, uint64_t idx)
{
	return e->tract == tract && idx >= e->idx && idx < e->idx + e->nr_pages;
}

/* The extent where page `idx` of a tract is, or NULL. */
static const struct extent *extent_of_page(const struct program *p, const struct tract *tract,
					   uint64_t idx)
{
	/* Most never move: look where it began first. */
	uint64_t home = tract->shelf ? shelf_home(tract, idx) : tract->region.first_vpn + idx;
	const struct extent *e = extent_find(p, home);

	if (e && extent_holds(e, tract, idx))
		return e;
	for (size_t i = 0; i < p->nr_extents; i++)
		if (extent_holds(&p->extents[i], tract, idx))
			return &p->extents[i];
	return NULL;
}

bool extent_place(const struct program *p, const struct tract *tract, uint64_t idx,
		  uint64_t *ret_vpn, uint64_t *ret_run)
{
	const struct extent *e = extent_of_page(p, tract, idx);

	if (!e)
		return false;
	*ret_vpn = e->vpn + (idx - e->idx);
	*ret_run = e->nr_pages - (idx - e->idx);
	return true;
}

uint64_t extents_pages(struct program *p)
{
	uint64_t sum = 0;

	program_lock_shared(p);
	for (size_t i = 0; i < p->nr_extents; i++)
		sum += p->extents[i].nr_pages;
	rwlock_unlock(&p->lock);
	return sum;
}

static int extents_reserve(struct program *p, size_t more)
{
	if (p->nr_extents + more <= p->room_extents)
		return 0;
	size_t room = (p->nr_extents + more) * 5 / 4 + 4;
	struct extent *grown = realloc(p->extents, room * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	p->extents = grown;
	p->room_extents = room;
	return 0;
}

int extent_add(struct program *p, struct extent extent)
{
	int error = extents_reserve(p, 1);
	if (error)
		return error;
	size_t i = extent_index(p, extent.vpn);
	tide_assert(i == p->nr_extents || p->extents[i].vpn >= extent.vpn + extent.nr_pages);
	memmove(&p->extents[i + 1], &p->extents[i], (p->nr_extents - i) * sizeof extent);
	p->extents[i] = extent;
	p->nr_extents++;
	extent.tract->nr_mapped += extent.nr_pages;
	p->map_seq++;
	return 0;
}

void extent_doubt(struct program *p, uint64_t vpn)
{
	p->extents[extent_index(p, vpn)].fresh = p->fresh = true;
}

void extent_cut(struct program *p, uint64_t vpn, uint64_t nr_pages,
		void (*cut)(void *arg, const struct extent *piece), void *arg)
{
	uint64_t end = vpn + nr_pages;
	size_t i = extent_index(p, vpn);

	/* A cut in the middle of one extent makes two of it. */
	while (i < p->nr_extents && p->extents[i].vpn < end) {
		struct extent e = p->extents[i];
		uint64_t from = e.vpn > vpn ? e.vpn : vpn;
		uint64_t to = e.vpn + e.nr_pages < end ? e.vpn + e.nr_pages : end;
		struct extent piece = { from, to - from, e.tract, e.idx + (from - e.vpn), e.fresh };
		struct extent left = { e.vpn, from - e.vpn, e.tract, e.idx, e.fresh };
		struct extent right = { to, e.vpn + e.nr_pages - to, e.tract, e.idx + (to - e.vpn), e.fresh };

		if (left.nr_pages && right.nr_pages && extents_reserve(p, 1)) {
			/* Where the right part is nobody can tell from here on. */
			program_fail(p, "no memory to follow a change of its mappings");
			e.tract->nr_mapped -= right.nr_pages;
			piece_drop(NULL, &right); /* the tract is not buried: the rest of it counts */
			right.nr_pages = 0;
		}
		if (left.nr_pages && right.nr_pages) {
			memmove(&p->extents[i + 1], &p->extents[i], (p->nr_extents - i) * sizeof e);
			p->nr_extents++;
			p->extents[i] = left;
			p->extents[i + 1] = right;
			i += 2;
		} else if (left.nr_pages || right.nr_pages) {
			p->extents[i] = left.nr_pages ? left : right;
			i++;
		} else {
			memmove(&p->extents[i], &p->extents[i + 1],
				(p->nr_extents - i - 1) * sizeof e);
			p->nr_extents--;
		}
		e.tract->nr_mapped -= piece.nr_pages;
		p->map_seq++;
		cut(arg, &piece);
	}
}

int tract_new(struct program *p, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract)
{
	struct tract *tract = calloc(1, sizeof *tract);
	if (!tract)
		return -ENOMEM;
	tract->memory_bytes = engine_region_bytes(nr_pages);
	tract->memory = mmap(NULL, tract->memory_bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (tract->memory == MAP_FAILED) {
		free(tract);
		return -ENOMEM;
	}
	/* A fault looks at a few places far apart in them. Where it is refused they are of small pages. */
	if (tract->memory_bytes >= TABLES_HUGE_BYTES)
		(void)madvise(tract->memory, tract->memory_bytes, MADV_HUGEPAGE);
	tract->program = p;
	engine_region_init(&tract->region, tract->memory, vpn, nr_pages, tract);
	tract->region.paused = &p->frozen;
	tract->next = p->tracts;
	p->tracts = tract;
	pthread_mutex_lock(&p->server->engine_lock);
	intake_add(tract);
	pthread_mutex_unlock(&p->server->engine_lock);
	*ret_tract = tract;
	return 0;
}

int tract_add(struct program *p, uint64_t vpn, uint64_t nr_pages, struct tract **ret_tract)
{
	struct tract *t;
	int error = tract_new(p, vpn, nr_pages, &t);

	if (error)
		return error;
	error = extent_add(p, (struct extent){ vpn, nr_pages, t, 0, false });
	if (error)
		tract_bury(t);
	else
		*ret_tract = t;
	return error;
}

void tract_bury(struct tract *tract)
{
	struct program *p = tract->program;
	struct server *s = p->server;

	tide_assert(tract->nr_mapped == 0);
	if (p->shelf == tract)
		p->shelf = NULL;
	for (struct tract **at = &p->tracts; *at; at = &(*at)->next) {
		if (*at != tract)
			continue;
		*at = tract->next;
		break;
	}
	pthread_mutex_lock(&s->engine_lock);
	intake_remove(tract);
	pthread_mutex_unlock(&s->engine_lock);
	/* The mover may have it in the plan it carries out now. */
	pthread_mutex_lock(&s->dead_lock);
	tract->next = s->dead_tracts;
	s->dead_tracts = tract;
	pthread_mutex_unlock(&s->dead_lock);
}

void tract_free(struct tract *tract)
{
	munmap(tract->memory, tract->memory_bytes);
	free(tract->shelf);
	free(tract);
}
