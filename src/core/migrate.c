/* SPDX-License-Identifier: MIT */
/* Opening and closing moves; what must hold is in migrate.h. */
#include "migrate.h"

#include "assert.h"

#define DELAY_MIN_NS UINT64_C(10000000)   /* 10 ms */
#define DELAY_MAX_NS UINT64_C(1000000000) /* 1 s */

size_t migrate_bytes(uint32_t max_moves)
{
	return max_moves * sizeof(struct migrate_entry);
}

void migrate_init(struct migrate *migrate, void *zeroed_memory, uint32_t max_moves)
{
	*migrate = (struct migrate){ .entries = zeroed_memory, .max_moves = max_moves };
	for (uint32_t i = 0; i < max_moves; i++)
		migrate->entries[i].next_free = i + 1;
}

struct move migrate_open(struct migrate *migrate, struct region *region, uint64_t first,
			 uint32_t nr_pages, enum move_op op)
{
	tide_assert(migrate->nr_moves < migrate->max_moves);
	tide_assert(nr_pages > 0 && nr_pages <= MOVE_RUN_PAGES);
	struct migrate_entry *entry = &migrate->entries[migrate->free];

	/* The id leads to the entry, and no two moves have the same. */
	*entry = (struct migrate_entry){
		.id = ++migrate->serial * migrate->max_moves + migrate->free,
		.region = region,
		.first = first,
		.nr_pages = nr_pages,
		.op = op,
		.next_free = entry->next_free,
	};
	migrate->free = entry->next_free;
	migrate->nr_moves++;
	migrate->requested += nr_pages;
	migrate->pending[op] += nr_pages;
	return (struct move){ entry->id, region, first, nr_pages, op };
}

struct migrate_entry migrate_close(struct migrate *migrate, uint64_t id,
				   const struct move_result *result, uint64_t now_ns)
{
	struct migrate_entry *entry = &migrate->entries[id % migrate->max_moves];
	struct migrate_entry was = *entry;
	uint64_t sum = 0;

	tide_assert(id != 0 && entry->id == id);
	for (unsigned r = 0; r < MOVE_REASON_COUNT; r++)
		sum += result->nr_pages[r];
	tide_assert(sum == was.nr_pages);
	for (unsigned r = 0; r < MOVE_REASON_COUNT; r++)
		migrate->ended[r] += result->nr_pages[r];
	migrate->moved[was.op] += result->nr_pages[MOVE_OK];
	migrate->pending[was.op] -= was.nr_pages;
	migrate->nr_moves--;
	*entry = (struct migrate_entry){ .next_free = migrate->free };
	migrate->free = (uint32_t)(id % migrate->max_moves);

	if (was.op != MOVE_HOLD) {
		if (result->nr_pages[MOVE_FAIL_FULL] || result->nr_pages[MOVE_FAIL_IO])
			migrate_stop(migrate, was.op, now_ns);
		else if (result->nr_pages[MOVE_OK])
			migrate->delay_ns[was.op] = migrate->again_ns[was.op] = 0;
	}
	return was;
}

void migrate_disown(struct migrate *migrate, const struct region *region)
{
	for (uint32_t i = 0; i < migrate->max_moves; i++)
		if (migrate->entries[i].region == region)
			migrate->entries[i].region = NULL;
}

void migrate_stop(struct migrate *migrate, enum move_op op, uint64_t now_ns)
{
	uint64_t delay_ns = migrate->delay_ns[op] * 2;

	if (now_ns < migrate->again_ns[op])
		return; /* one failure is not counted twice */
	if (delay_ns < DELAY_MIN_NS)
		delay_ns = DELAY_MIN_NS;
	if (delay_ns > DELAY_MAX_NS)
		delay_ns = DELAY_MAX_NS;
	migrate->delay_ns[op] = delay_ns;
	migrate->again_ns[op] = now_ns + delay_ns;
}

bool migrate_may(const struct migrate *migrate, enum move_op op, uint64_t now_ns)
{
	return now_ns >= migrate->again_ns[op];
}

const char *migrate_check(const struct migrate *migrate)
{
	uint64_t pending[MOVE_OP_COUNT] = { 0 }, ended = 0, moved = 0;
	uint32_t nr_moves = 0, nr_free = 0;

	for (uint32_t i = 0; i < migrate->max_moves; i++) {
		const struct migrate_entry *entry = &migrate->entries[i];
		if (!entry->id)
			continue;
		pending[entry->op] += entry->nr_pages;
		nr_moves++;
	}
	for (uint32_t i = migrate->free; i < migrate->max_moves; i = migrate->entries[i].next_free)
		if (migrate->entries[i].id || ++nr_free > migrate->max_moves)
			return "a move under way is in the list of free entries";
	for (unsigned r = 0; r < MOVE_REASON_COUNT; r++)
		ended += migrate->ended[r];
	for (unsigned op = 0; op < MOVE_OP_COUNT; op++) {
		moved += migrate->moved[op];
		if (pending[op] != migrate->pending[op])
			return "pending pages are not the pages of the moves under way";
		ended += pending[op];
	}
	if (nr_moves != migrate->nr_moves || nr_free != migrate->max_moves - nr_moves)
		return "the moves under way are miscounted";
	if (moved != migrate->ended[MOVE_OK])
		return "moved pages by kind and by reason differ";
	return ended == migrate->requested ? NULL : "requested is not moved + failed + dropped + pending";
}
