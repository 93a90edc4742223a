/* SPDX-License-Identifier: MIT */
/*
 * What happens to a mapping that changes between the reading of the maps and its registering, or soon after: all that
 * is registered is known to be where it is, and only what is no memory of ours any more, and has nothing of it, is let
 * go. The kernel is made up.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "cut.h"
#include "proc.h"
#include "survey.h"
#include "uffd.h"
#include "world.h"

#define MIB_PAGES 256u
#define AT(mib) ((uint64_t)(mib) << 20)

/* ---- the kernel ---- */

#define MAPPINGS_MAX 8u
static struct proc_mapping before[MAPPINGS_MAX], after[MAPPINGS_MAX];
static unsigned nr_before, nr_after, nr_reads;
static bool changing;             /* a change of a mapping is under way, or */
static bool changes_later;        /* from the second reading on */
static uint64_t registered[64];   /* pages of each MiB */
static unsigned nr_released;
static unsigned nr_told, nr_endless; /* so many more messages come, one as soon as the last is read */

ssize_t __real_read(int fd, void *buffer, size_t bytes);
ssize_t __wrap_read(int fd, void *buffer, size_t bytes);
int __wrap_proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping), void *arg);
int __wrap_proc_present(int dir, uint64_t start, uint64_t end,
			void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);
int __wrap_proc_filled(int dir, uint64_t start, uint64_t end,
		       void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg);
int __wrap_uffd_register(int fd, uint64_t address, uint64_t bytes);
int __wrap_uffd_unregister(int fd, uint64_t address, uint64_t bytes);
bool __wrap_uffd_changing(int fd);
int __wrap_uffd_registered(int fd, uint64_t address, uint64_t bytes);

int __wrap_proc_mappings(int dir, bool flags, int (*visit)(void *arg, const struct proc_mapping *mapping), void *arg)
{
	const struct proc_mapping *list = nr_reads ? after : before;
	unsigned nr = nr_reads++ ? nr_after : nr_before;
	int stop = 0;

	(void)dir;
	(void)flags;
	changing |= changes_later && nr_reads == 2;
	for (unsigned i = 0; i < nr && !stop; i++)
		stop = visit(arg, &list[i]);
	return stop;
}

/* The first page is in memory, the next one swapped out or a guard page. */
int __wrap_proc_present(int dir, uint64_t start, uint64_t end,
			void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	(void)dir;
	(void)end;
	visit(arg, start, start + PAGE_BYTES, false);
	return 0;
}

int __wrap_proc_filled(int dir, uint64_t start, uint64_t end,
		       void (*visit)(void *arg, uint64_t start, uint64_t end, bool huge), void *arg)
{
	(void)dir;
	(void)end;
	visit(arg, start, start + 2 * PAGE_BYTES, false);
	return 0;
}

ssize_t __wrap_read(int fd, void *buffer, size_t bytes)
{
	struct uffd_msg m = { .event = UFFD_EVENT_UNMAP };

	if (nr_told == nr_endless)
		return __real_read(fd, buffer, bytes);
	nr_told++;
	m.arg.remove.start = AT(40);
	m.arg.remove.end = AT(41);
	memcpy(buffer, &m, sizeof m);
	return sizeof m;
}

static void register_set(uint64_t address, uint64_t bytes, uint64_t pages)
{
	assert_int_equal((address | bytes) % AT(1), 0);
	for (uint64_t at = address / AT(1); at < (address + bytes) / AT(1); at++)
		registered[at] = pages;
}

int __wrap_uffd_register(int fd, uint64_t address, uint64_t bytes)
{
	assert_true(fd >= 0);
	register_set(address, bytes, MIB_PAGES);
	return 0;
}

int __wrap_uffd_unregister(int fd, uint64_t address, uint64_t bytes)
{
	assert_true(fd >= 0);
	register_set(address, bytes, 0);
	nr_released++;
	return 0;
}

bool __wrap_uffd_changing(int fd)
{
	assert_true(fd >= 0);
	return changing;
}

int __wrap_uffd_registered(int fd, uint64_t address, uint64_t bytes)
{
	assert_true(fd >= 0);
	if (changing)
		return -EAGAIN;
	for (unsigned i = 0; i < nr_after; i++)
		if (after[i].anonymous && after[i].start <= address && address + bytes <= after[i].end)
			return registered[address / AT(1)] != 0;
	return 0;
}

/* ---- the program ---- */

static int world_open(void **state)
{
	struct world *w = world_new();
	int ends[2];

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	w->program->uffd = ends[0];
	w->tell = ends[1];
	w->program->checked = true;
	w->server.programs = w->program;
	nr_before = nr_after = nr_reads = nr_released = nr_told = nr_endless = 0;
	changing = changes_later = false;
	memset(registered, 0, sizeof registered);
	*state = w;
	return 0;
}

static int world_close(void **state)
{
	world_free(*state);
	return 0;
}

/* A private anonymous mapping of so many MiB, and what is there when its neighbours have been registered. */
static void mapping_add(unsigned mib, unsigned nr_mib)
{
	const struct proc_mapping m = { .start = AT(mib), .end = AT(mib + nr_mib), .read = true, .write = true,
					.anonymous = true, .path = "" };

	before[nr_before++] = after[nr_after++] = m;
}

static struct proc_mapping *last(void)
{
	return &after[nr_after - 1];
}

static uint64_t adopt(struct world *w)
{
	uint64_t pages = 0;

	assert_int_equal(program_adopt(w->program, &pages), 0);
	return pages;
}

static bool managed(struct world *w, unsigned mib)
{
	return extent_find(w->program, AT(mib) >> PAGE_SHIFT) && registered[mib];
}

/* ---- */

static void what_is_as_it_was_is_adopted(void **state)
{
	struct world *w = *state;

	mapping_add(1, 2);
	mapping_add(10, 1);
	assert_int_equal(adopt(w), 3 * MIB_PAGES);
	assert_true(managed(w, 1) && managed(w, 2) && managed(w, 10));
	const struct extent *e = extent_find(w->program, AT(1) >> PAGE_SHIFT);
	assert_int_equal(page_state(word_load(e->tract, e->idx)), PAGE_RESIDENT);
	assert_int_equal(page_state(word_load(e->tract, e->idx + 1)), PAGE_ABSENT);
	assert_int_equal(nr_released, 0);
}

static enum page_state second_state(struct world *w)
{
	const struct extent *e = extent_find(w->program, AT(1) >> PAGE_SHIFT);

	return page_state(word_load(e->tract, e->idx + 1));
}

/* A touch brings it back unseen: nobody would ever take it out again. */
static void what_is_swapped_out_is_adopted(void **state)
{
	struct world *w = *state;
	static uint32_t says;

	says = 0;
	w->program->helper_pid = getpid();
	w->program->guards = (uint64_t)(uintptr_t)&says;
	mapping_add(1, 1);
	assert_int_equal(adopt(w), MIB_PAGES);
	assert_int_equal(second_state(w), PAGE_RESIDENT);
}

static void guard_pages_are_not_taken_for_swapped_ones(void **state)
{
	struct world *w = *state;
	static uint32_t says;

	says = HELPER_GUARDS;
	w->program->helper_pid = getpid();
	w->program->guards = (uint64_t)(uintptr_t)&says;
	mapping_add(1, 1);
	assert_int_equal(adopt(w), MIB_PAGES);
	assert_int_equal(second_state(w), PAGE_ABSENT);
}

/* Registering splits what has grown in place since it was first read, and mremap over the two parts would fail. */
static void what_has_grown_is_adopted_whole(void **state)
{
	struct world *w = *state;

	mapping_add(1, 1);
	mapping_add(2, 2);
	nr_before--;
	mapping_add(10, 1);
	assert_int_equal(adopt(w), 4 * MIB_PAGES);
	assert_true(managed(w, 1) && managed(w, 2) && managed(w, 3) && managed(w, 10));
	assert_false(registered[4] || registered[9]);
}

/* It has grown up to what had been left alone. */
static void what_it_has_grown_up_to_is_left_alone(void **state)
{
	struct world *w = *state;

	mapping_add(1, 1);
	mapping_add(2, 1);
	nr_before--;
	mapping_add(3, 1);
	before[nr_before - 1].shared = true;
	assert_int_equal(adopt(w), 2 * MIB_PAGES);
	assert_true(managed(w, 1) && managed(w, 2));
	assert_false(registered[3]);
}

/* That was no growth: whatever was there was read, and had its reason to be left alone. */
static void what_was_there_before_is_no_growth(void **state)
{
	struct world *w = *state;

	mapping_add(1, 1);
	mapping_add(2, 1);
	before[nr_before - 1].shared = true;
	mapping_add(10, 1);
	mapping_add(11, 1);
	nr_before--;
	last()->shared = true;
	assert_int_equal(adopt(w), 2 * MIB_PAGES);
	assert_true(managed(w, 1) && managed(w, 10));
	assert_false(registered[2] || registered[11]);
}

/* A file in its place, or memory that is shared: no fault there is ours to serve. */
static void what_is_a_file_by_then_is_let_go(void **state)
{
	struct world *w = *state;

	mapping_add(1, 1);
	mapping_add(4, 2);
	last()->anonymous = false;
	last()->path = "/lib/x.so";
	mapping_add(10, 1);
	last()->shared = true;
	assert_int_equal(adopt(w), MIB_PAGES);
	assert_true(managed(w, 1));
	assert_int_equal(nr_released, 2);
	assert_true(!registered[4] && !registered[5] && !registered[10]);
	assert_null(extent_find(w->program, AT(4) >> PAGE_SHIFT));
	assert_null(extent_find(w->program, AT(10) >> PAGE_SHIFT));
}

/* Part of it has gone, or all: what is there stays registered, and nothing is known where nothing is. */
static void what_has_gone_by_then_is_not_adopted(void **state)
{
	struct world *w = *state;

	mapping_add(1, 2);
	last()->start += AT(1);
	mapping_add(10, 1);
	nr_after--;
	adopt(w);
	assert_int_equal(nr_released, 0);
	assert_true(registered[1] && registered[2] && registered[10]);
	assert_true(managed(w, 2));
	assert_null(extent_find(w->program, AT(1) >> PAGE_SHIFT));
	assert_null(extent_find(w->program, AT(10) >> PAGE_SHIFT));
}

/* A file in one part, and in the other what is managed: its events are ours still. */
static void beside_what_is_managed_a_file_stays_registered(void **state)
{
	struct world *w = *state;
	struct tract *t;
	uint64_t idx;

	assert_int_equal(tract_take(w->program, AT(5) >> PAGE_SHIFT, MIB_PAGES, &t, &idx), 0);
	mapping_add(4, 2);
	last()->end = AT(5);
	last()->anonymous = false;
	assert_int_equal(adopt(w), 0);
	assert_int_equal(nr_released, 0);
	assert_true(registered[4] && registered[5]);
}

/* While a change is under way nobody knows what is there: neither is anything adopted nor let go. */
static void while_it_changes_nothing_is_done(void **state)
{
	struct world *w = *state;
	uint64_t pages = 77;

	mapping_add(1, 1);
	mapping_add(4, 1);
	last()->anonymous = false;
	changing = true;
	assert_int_equal(program_adopt(w->program, &pages), -EAGAIN);
	assert_int_equal(pages, 77);
	assert_int_equal(nr_released, 0);
	assert_null(extent_next(w->program, 0));
	/* Then it is asked again, and found as it is. */
	changing = false;
	nr_reads = 0;
	assert_int_equal(adopt(w), MIB_PAGES);
	assert_true(managed(w, 1) && !registered[4]);
}

static void tell(struct world *w, struct uffd_msg m)
{
	assert_int_equal(write(w->tell, &m, sizeof m), sizeof m);
	assert_true(events_read(w->program, no_fault, NULL) >= 0);
}

static void tell_remap(struct world *w, unsigned from, unsigned to)
{
	struct uffd_msg m = { .event = UFFD_EVENT_REMAP };

	m.arg.remap.from = AT(from);
	m.arg.remap.to = AT(to);
	m.arg.remap.len = AT(1);
	tell(w, m);
}

static const struct tract *tract_at(struct world *w, unsigned mib)
{
	const struct extent *e = extent_find(w->program, AT(mib) >> PAGE_SHIFT);

	return e ? e->tract : NULL;
}

static bool fresh_at(struct world *w, unsigned mib)
{
	return extent_find(w->program, AT(mib) >> PAGE_SHIFT)->fresh;
}

/*
 * There is always something under way, from the registering on. One thread moves what has been adopted, and another
 * puts a managed mapping in its place; told is that first.
 */
static void what_is_adopted_is_moved_and_another_comes(void **state)
{
	struct world *w = *state;
	struct tract *managed_before;

	assert_int_equal(tract_add(w->program, AT(20) >> PAGE_SHIFT, MIB_PAGES, &managed_before), 0);
	mapping_add(1, 1);
	changes_later = true;
	assert_int_equal(adopt(w), MIB_PAGES);
	const struct tract *adopted = tract_at(w, 1);
	assert_non_null(adopted);
	tell_remap(w, 20, 1);
	assert_true(w->program->moves.awaiting);
	assert_ptr_equal(tract_at(w, 1), managed_before);
	/* Nothing is known of its threads: of what is there now it is not told. */
	w->program->moves.formers.list[0].state = FORMER_QUEUED;
	w->program->moves.awaiting = false;
	tell_remap(w, 1, 30);
	assert_ptr_equal(tract_at(w, 1), managed_before);
	assert_ptr_equal(tract_at(w, 30), adopted);
}

/* What had left before it was registered has nothing at its place, once nothing is under way. */
static void what_had_left_is_found_out_later(void **state)
{
	struct world *w = *state;
	uint64_t pages;

	mapping_add(1, 2);
	last()->end = AT(2);
	changes_later = true;
	assert_int_equal(adopt(w), 2 * MIB_PAGES);
	assert_true(w->program->fresh && fresh_at(w, 1));
	changes_later = changing = false;
	nr_reads = 0;
	before[0].end = AT(2);
	assert_int_equal(program_adopt(w->program, &pages), 0);
	assert_true(!w->program->fresh && !fresh_at(w, 1));
	assert_null(tract_at(w, 2));
}

/* Before anything is taken out of a child. What it was told to unmap may have stayed: that is known later. */
static void what_a_child_has_in_limbo_stays(void **state)
{
	struct world *w = *state;
	struct tract *kept, *gone;

	assert_int_equal(tract_add(w->program, LIMBO_VPN, 4, &kept), 0);
	assert_int_equal(tract_add(w->program, AT(5) >> PAGE_SHIFT, 4, &gone), 0);
	mapping_add(1, 2);
	before[0].uffd = true;
	w->program->checked = false;
	adopt(w);
	assert_true(w->program->checked);
	assert_null(extent_find(w->program, AT(5) >> PAGE_SHIFT));
	assert_non_null(extent_find(w->program, LIMBO_VPN));
}

/* A thread changes mappings all the time: the keeper has others to look at. */
static void who_changes_all_the_time_is_left_alone(void **state)
{
	struct world *w = *state;
	uint64_t pages;

	mapping_add(1, 1);
	changing = true;
	for (unsigned i = 0; i < 2; i++) {
		w->program->checked = i;
		nr_told = 0;
		nr_endless = 1u << 16;
		assert_int_equal(program_adopt(w->program, &pages), -EAGAIN);
		assert_true(nr_told > 0 && nr_told < nr_endless);
		assert_true(atomic_exchange(&w->program->unknown, false));
	}
	assert_null(tract_at(w, 1));
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, world_open, world_close)
	const struct CMUnitTest tests[] = {
		EACH(what_is_as_it_was_is_adopted),
		EACH(what_has_grown_is_adopted_whole),
		EACH(what_it_has_grown_up_to_is_left_alone),
		EACH(what_was_there_before_is_no_growth),
		EACH(what_is_swapped_out_is_adopted),
		EACH(guard_pages_are_not_taken_for_swapped_ones),
		EACH(what_is_a_file_by_then_is_let_go),
		EACH(what_has_gone_by_then_is_not_adopted),
		EACH(beside_what_is_managed_a_file_stays_registered),
		EACH(while_it_changes_nothing_is_done),
		EACH(what_is_adopted_is_moved_and_another_comes),
		EACH(what_had_left_is_found_out_later),
		EACH(what_a_child_has_in_limbo_stays),
		EACH(who_changes_all_the_time_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
