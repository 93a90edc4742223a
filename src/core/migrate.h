/* SPDX-License-Identifier: MIT */
/*
 * Migrate: the moves under way, and how each of them ended.
 *
 * A move is opened when it enters a plan and closed by exactly one completion, whose counts sum to
 * its pages. At any time requested = moved + failed + dropped + pending, in base pages.
 *
 * When the tier has no room or fails, moves to it stop for a while that doubles each time, and begin
 * again with the first one that succeeds. Pages that would not move are put off one by one, in
 * their estimates (engine.c).
 */
#ifndef TIDE_MIGRATE_H
#define TIDE_MIGRATE_H

#include "engine.h"

struct migrate_entry {
	uint64_t id;           /* 0: free */
	struct region *region; /* NULL: its region is gone */
	uint64_t first;
	uint32_t nr_pages;
	enum move_op op;
	uint32_t next_free;
};

struct migrate {
	struct migrate_entry *entries;
	uint32_t max_moves, nr_moves;
	uint32_t free;         /* first free entry; max_moves: none */
	uint64_t serial;
	uint64_t pending[MOVE_OP_COUNT]; /* pages */
	uint64_t requested;
	uint64_t moved[MOVE_OP_COUNT];
	uint64_t ended[MOVE_REASON_COUNT];
	uint64_t delay_ns[MOVE_OP_COUNT], again_ns[MOVE_OP_COUNT];
};

size_t migrate_bytes(uint32_t max_moves);
void migrate_init(struct migrate *migrate, void *zeroed_memory, uint32_t max_moves);

/* There must be room: migrate_room(). */
static inline uint32_t migrate_room(const struct migrate *migrate)
{
	return migrate->max_moves - migrate->nr_moves;
}
struct move migrate_open(struct migrate *migrate, struct region *region, uint64_t first,
			 uint32_t nr_pages, enum move_op op);
/* Returns the move as it was opened, its region NULL when that is gone. */
struct migrate_entry migrate_close(struct migrate *migrate, uint64_t id,
				   const struct move_result *result, uint64_t now_ns);
/* The region goes; its moves stay owed. */
void migrate_disown(struct migrate *migrate, const struct region *region);

/* The tier that such moves go to refused for want of room, or failed. */
void migrate_stop(struct migrate *migrate, enum move_op op, uint64_t now_ns);
bool migrate_may(const struct migrate *migrate, enum move_op op, uint64_t now_ns);

const char *migrate_check(const struct migrate *migrate);

#endif
