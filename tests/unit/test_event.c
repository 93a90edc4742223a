/* SPDX-License-Identifier: MIT */
/* What was told to be unmapped and is there, or other memory is; and what is discarded. */
#include <sys/ioctl.h>

#include "event_world.h"

static void what_the_kernel_refused_to_replace_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 1000, 1100, 0);

	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
}

/* In the middle of a mapping a page shows it; it is known to be resident. */
static void what_was_refused_in_the_middle_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1200, 1050);

	mapped.changing_after = 2;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
	assert_int_equal(page_state(word_load(t, 50)), PAGE_RESIDENT);
	assert_int_equal(page_state(word_load(t, 51)), PAGE_ABSENT);
}

/* A page that the kernel has swapped out shows it as well: it comes back by itself. */
static void what_was_refused_and_is_swapped_out_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1200, 0);

	mapped.swapped = 1050;
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
	assert_int_equal(page_state(word_load(t, 50)), PAGE_RESIDENT);
}

/* Guard pages look like that, and are left by what has gone. */
static void guard_pages_show_nothing(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1200, 0);
	atomic_store(&w->program->guarded, true);
	mapped.swapped = 1050;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
}

/* The kernel cuts what it was to replace off, and does not join it again. */
static void what_was_cut_in_vain_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1100, 0);

	mapped.cut = 1000;
	kinds_put("", "");
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
}

/* What has grown there, and was cut by mprotect or madvise just where it was before, might be that: it is not put back,
 * and if something is stored that might be meant the program is ended. */
static void what_has_grown_and_was_cut_is_not_guessed(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1100, 0);
	mapped.cut = 1000;
	kinds_put("", "hg");
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_false(w->program->gone);
}

/* Or named. */
static void what_has_grown_and_was_named_is_not_guessed(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1100, 0);
	mapped.cut = 1000;
	put("/smaps", "384000-3e8000 rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac um\n"
		      "3e8000-44c000 rw-p 00000000 00:00 0 [anon:new]\nVmFlags: rd wr mr mw me ac um\n");
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
}

static void what_may_be_either_is_ended_if_it_matters(void **state)
{
	struct world *w = *state;
	uint32_t freed[1];
	struct tract *t;

	w->program->hold.nr_pages = 1;
	w->program->hold.freed = freed;
	assert_int_equal(tract_add(w->program, 1000, 100, &t), 0);
	assert_true(page_claim(t, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&t->region.state[7], page_word(PAGE_HELD, 0, 0, 0, false));
	tell_unmap(w, 1000, 100);
	mapped.calm = true;
	mapped.start = 900;
	mapped.end = 1100;
	mapped.cut = 1000;
	w->program->proc_dir = dup(w->program->threads_dir);
	kinds_put("", "hg");
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* 1000 .. 1099 told to be unmapped with a page that is stored; something is there, and nothing is left below. */
static void stored_told_to_go(struct world *w)
{
	static uint32_t freed[1];
	struct tract *t;

	w->program->hold.nr_pages = 1;
	w->program->hold.freed = freed;
	assert_int_equal(tract_add(w->program, 1000, 100, &t), 0);
	assert_true(page_claim(t, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&t->region.state[7], page_word(PAGE_HELD, 0, 0, 0, false));
	tell_unmap(w, 1000, 100);
	w->program->proc_dir = dup(w->program->threads_dir);
	mapped.start = 1000;
	mapped.end = 1100;
	mapped.cut = 1050;
	kinds_put("", "hg");
	mapped.cut = 0;
}

/* By two threads: what is below grew into it, and was unmapped, which is told first. */
static void what_grew_from_what_was_told_first_is_not_guessed(void **state)
{
	struct world *w = *state;
	struct tract *below;

	assert_int_equal(tract_add(w->program, 900, 100, &below), 0);
	tell_unmap(w, 900, 100);
	stored_told_to_go(w);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* What is below grew through a gap, and the gap was unmapped again: of that the table knew nothing. */
static void what_grew_over_a_gap_is_not_guessed(void **state)
{
	struct world *w = *state;

	stored_told_to_go(w);
	tell_unmap(w, 990, 10);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* What was refused has nothing to do with what was unmapped before beside it. */
static void what_was_refused_beside_what_has_gone_is_there(void **state)
{
	struct world *w = *state;
	struct tract *below;

	assert_int_equal(tract_add(w->program, 900, 100, &below), 0);
	tell_unmap(w, 900, 100);
	struct tract *t = told_to_go(w, 1000, 1100, 0);
	nothing_told(w);
	extent_is(w, 999, NULL, 0);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
}

/* Of what was refused a part is unmapped before anything is known of the rest. */
static void what_is_left_of_what_was_refused_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 1010, 1100, 0);

	mapped.calm = false;
	tell_unmap(w, 1000, 10);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1010, t, 10);
	extent_is(w, 1099, t, 99);
	extent_is(w, 1000, NULL, 0);
	extent_is(w, 1009, NULL, 0);
}

/* The same, and what is below has grown there: that is new, whenever it is found out. */
static void what_grew_into_a_part_of_what_was_refused_is_new(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1100, 1050);

	mapped.calm = false;
	tell_unmap(w, 1000, 10);
	mapped.calm = true;
	mapped.cut = 1010;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	extent_is(w, 1009, NULL, 0);
	extent_is(w, 1010, t, 10);
	extent_is(w, 1099, t, 99);
	assert_false(w->program->gone);
}

/* The same without a page: it may have grown there before, and be what is left of that. */
static void what_grew_into_a_part_may_have_grown_before(void **state)
{
	struct world *w = *state;

	stored_told_to_go(w);
	tell_unmap(w, 1000, 5);
	mapped.start = 900;
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1007, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* But what was all told to be unmapped again is not looked for. */
static void what_grows_and_shrinks_is_new(void **state)
{
	struct world *w = *state;

	stored_told_to_go(w);
	tell_unmap(w, 1000, 100);
	mapped.start = 900;
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_false(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* Nothing had come to light by then but that nothing is left on either side. */
static void the_middle_of_what_was_refused_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 1010, 1090, 0);

	mapped.calm = false;
	tell_unmap(w, 1000, 10);
	tell_unmap(w, 1090, 10);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1009, NULL, 0);
	extent_is(w, 1010, t, 10);
	extent_is(w, 1089, t, 89);
	extent_is(w, 1090, NULL, 0);
}

/* A program that is refused it tries once more. */
static void what_was_refused_twice_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 900, 1200, 1050);

	mapped.calm = false;
	tell_unmap(w, 1000, 100);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1099, t, 99);
}

/* Something else was moved to a part of it. */
static void what_was_not_moved_over_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t = told_to_go(w, 1000, 1100, 1050), *moved;

	mapped.calm = false;
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_move(w, 5000, 1000, 10);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, moved, 0);
	extent_is(w, 1010, t, 10);
	extent_is(w, 1099, t, 99);
}

/* The message was of memory, too, that had grown before, of which nobody knew: the kernel cuts it off behind that. */
static void what_was_refused_with_what_had_grown_is_there(void **state)
{
	struct world *w = *state;
	struct tract *t;

	assert_int_equal(tract_add(w->program, 1000, 50, &t), 0);
	w->program->proc_dir = dup(w->program->threads_dir);
	tell_unmap(w, 1000, 100);
	mapped.calm = true;
	mapped.start = 900;
	mapped.end = 1100;
	mapped.cut = 1000;
	kinds_put("", "");
	nothing_told(w);
	extent_is(w, 1000, t, 0);
	extent_is(w, 1049, t, 49);
	extent_is(w, 1050, NULL, 0);
}

/* What is below has grown into a part of it, and the rest is memory that tells nothing: a page there shows nothing. */
static void what_is_beside_other_memory_is_new(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1050, 1060);
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	extent_is(w, 1060, NULL, 0);
}

/* With a userfaultfd of its own the program serves what it has mapped there since. */
static void what_another_userfaultfd_has_is_not_ours(void **state)
{
	struct world *w = *state;

	told_to_go(w, 1000, 1100, 1050);
	mapped.other = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_false(w->program->gone);
}

/* Kernels that tell of nothing that they refuse have done what they tell. */
static void what_was_told_to_go_has_gone_before_6_12(void **state)
{
	struct world *w = *state;

	stored_told_to_go(w);
	mapped.end = 1200;
	mapped.calm = true;
	kernel_minor = 11;
	nothing_told(w);
	kernel_minor = KERNEL_MINOR;
	extent_is(w, 1000, NULL, 0);
	assert_false(w->program->gone);
}

/* A stack grows down; but then what was refused may have been made one with what is above it. */
static void what_may_have_grown_down_is_not_guessed(void **state)
{
	struct world *w = *state;

	stored_told_to_go(w);
	mapped.end = 1200;
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	assert_true(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* To look at the mappings takes long. What could not be seen, or while something began, is looked at once more. */
static void nobody_is_ended_for_a_look_that_failed(void **state)
{
	struct world *w = *state;

	stored_told_to_go(w);
	mapped.start = 900;
	mapped.cut = 1000;
	mapped.calm = true;
	kinds_put("", "hg");
	assert_int_equal(unlinkat(w->program->proc_dir, "smaps", 0), 0);
	nothing_told(w);
	assert_false(w->program->gone);
	kinds_put("", "hg");
	mapped.changing_after = 5;
	nothing_told(w);
	assert_int_equal(mapped.changing_after, 0);
	assert_false(w->program->gone);
	extent_is(w, 1000, NULL, 0);
	kinds_put("", "");
	nothing_told(w);
	assert_non_null(extent_find(w->program, 1000));
	assert_false(w->program->gone);
	w->program->hold.nr_pages = 0;
}

/* Where we ourselves have mapped something since. */
static void what_is_our_own_is_not_the_program_s(void **state)
{
	struct world *w = *state;

	w->program->area = UINT64_C(1000) << PAGE_SHIFT;
	w->program->area_bytes = UINT64_C(100) << PAGE_SHIFT;
	told_to_go(w, 1000, 1100, 1050);
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
}

static void what_has_grown_there_is_new(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1100, 0);
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	extent_is(w, 1099, NULL, 0);
}

/* Who waits for long is given zeros, of which the table knows nothing: so a page there no longer shows anything. */
static void what_was_filled_in_doubt_is_new(void **state)
{
	struct world *w = *state;

	told_to_go(w, 900, 1200, 1050);
	mapped.calm = false;
	nothing_told(w);
	assert_true(journal_doubts(w->program, 1050));
	assert_false(journal_doubts(w->program, 1100));
	w->program->journal->since_ns -= UINT64_C(3000000000);
	assert_false(journal_doubts(w->program, 1050));
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
	extent_is(w, 1050, NULL, 0);
}

/* Memory that grows while it moves is filled before any of that is told, and before what was there is. */
static void what_was_filled_before_all_is_told_is_new(void **state)
{
	struct world *w = *state;

	journal_fill(w->program);
	told_to_go(w, 900, 1200, 1050);
	nothing_told(w);
	extent_is(w, 1050, NULL, 0);
	assert_false(w->program->journal->filled);
}

static void what_is_not_there_has_gone(void **state)
{
	struct world *w = *state;

	told_to_go(w, 0, 0, 0);
	nothing_told(w);
	extent_is(w, 1000, NULL, 0);
}

/* A mapping has come there, and left by MREMAP_DONTUNMAP: what it left is none that was there before. */
static void what_is_left_of_another_is_new(void **state)
{
	struct world *w = *state;
	struct tract *old = told_to_go(w, 1000, 1100, 0), *moved;

	mapped.calm = false;
	assert_int_equal(tract_add(w->program, 5000, 100, &moved), 0);
	tell_move(w, 5000, 1000, 100);
	tell_remap(w, 1000, 7000, 100);
	mapped.calm = true;
	nothing_told(w);
	extent_is(w, 7000, moved, 0);
	const struct extent *left = extent_find(w->program, 1000);
	assert_true(left && left->tract != old && left->tract != moved && left->fresh);
	/* That has still to be surveyed, and when that was done is the keeper's alone to say. */
	assert_int_equal(w->program->seen_map_seq, 0);
	assert_int_equal(page_state(word_load(left->tract, left->idx + 50)), PAGE_ABSENT);
}

/* Of small mappings, which share a tract: what is left of the one is in doubt and looked at soon, the other is not. */
static void what_is_left_of_one_says_nothing_of_its_neighbours(void **state)
{
	struct world *w = *state;
	struct tract *shelf, *moved;
	uint64_t idx;

	w->program->proc_dir = dup(w->program->threads_dir);
	assert_int_equal(tract_take(w->program, 1000, 10, &shelf, &idx), 0);
	assert_int_equal(tract_take(w->program, 3000, 10, &moved, &idx), 0);
	assert_ptr_equal(moved, shelf);
	assert_int_equal(tract_add(w->program, 5000, 10, &moved), 0);
	tell_remap(w, 1000, 7000, 10);
	w->program->seen_map_seq = w->program->map_seq;
	mapped.calm = true;
	nothing_told(w);
	assert_true(w->program->fresh && extent_find(w->program, 1000));
	assert_int_not_equal(w->program->seen_map_seq, w->program->map_seq);
	mapped.calm = false;
	tell_remap(w, 5000, 3000, 10);
	assert_int_equal(w->program->moves.formers.list[0].state, FORMER_AWAITED);
}

/* Memory has grown behind what is known, which is not told. */
static void rule07_what_is_discarded_unseen_is_never_found(void **state)
{
	struct world *w = *state;
	struct uffd_msg m = { .event = UFFD_EVENT_REMOVE };
	struct tract *known;

	assert_int_equal(tract_add(w->program, 1000, 10, &known), 0);
	m.arg.remove.start = UINT64_C(1005) << PAGE_SHIFT;
	m.arg.remove.end = UINT64_C(1020) << PAGE_SHIFT;
	assert_int_equal(write(w->tell, &m, sizeof m), sizeof m);
	assert_true(events_read(w->program, no_fault, NULL) >= 0);
	extent_is(w, 1009, known, 9);
	assert_null(extent_find(w->program, 1020));
	for (uint64_t vpn = 1010; vpn < 1020; vpn++) {
		const struct extent *e = extent_find(w->program, vpn);
		assert_non_null(e);
		assert_int_equal(word_load(e->tract, e->idx + (vpn - e->vpn)), 0);
	}
}

/* A program that tells all the time would be read for ever: others are to have its lock meanwhile. */
static void who_reads_gives_way(void **state)
{
	struct world *w = *state;
	struct uffd_msg m = { .event = UFFD_EVENT_REMOVE };
	int left, before;

	tract_at(w, 1000, 10);
	m.arg.remove.start = UINT64_C(1000) << PAGE_SHIFT;
	m.arg.remove.end = UINT64_C(1010) << PAGE_SHIFT;
	w->program->moves.some = true;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(write(w->tell, &m, sizeof m), sizeof m);
	assert_int_equal(ioctl(w->program->uffd, FIONREAD, &before), 0);
	for (unsigned changing = 0; changing < 2; changing++, before = left) {
		struct handler h = { .program = w->program, .changing = changing };
		handler_read(&h);
		assert_int_equal(ioctl(w->program->uffd, FIONREAD, &left), 0);
		assert_true(left > 0 && left < before);
	}
}

static bool memory_full;

void *__real_realloc(void *memory, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes)
{
	return memory_full ? NULL : __real_realloc(memory, bytes);
}

/* Of a mapping the middle goes, and there is no memory to keep the rest as two: that program alone is ended. */
static void who_cannot_be_followed_is_ended(void **state)
{
	struct world *w = *state;
	struct program *p = w->program;
	uint64_t vpn = 1000;

	do
		tract_at(w, vpn += 100, 100);
	while (p->nr_extents < p->room_extents);
	memory_full = true;
	tell_unmap(w, vpn + 50, 10);
	memory_full = false;
	assert_true(p->gone);
}

static unsigned nr_filled;

int __wrap_uffd_zero(int fd, uint64_t address, uint64_t bytes, uint64_t *ret_done);
int __wrap_uffd_zero(int fd, uint64_t address, uint64_t bytes, uint64_t *ret_done)
{
	(void)fd;
	(void)address;
	nr_filled++;
	*ret_done = bytes;
	return 0;
}

/* Nobody knows what it has where; one without a name is killed only when the keeper comes to it. */
static void who_is_to_be_killed_is_given_nothing(void **state)
{
	struct world *w = *state;
	struct handler h = { .program = w->program };
	const struct deferred fault = { .address = UINT64_C(1000) << PAGE_SHIFT };

	atomic_store(&w->server.room, 10);
	nr_filled = 0;
	assert_true(fault_serve(&h, &fault));
	assert_int_equal(nr_filled, 1);
	program_fail(w->program, "a test");
	assert_true(fault_serve(&h, &fault));
	assert_int_equal(nr_filled, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVENT_TEST(what_the_kernel_refused_to_replace_is_there),
		EVENT_TEST(what_was_refused_in_the_middle_is_there),
		EVENT_TEST(what_was_refused_and_is_swapped_out_is_there),
		EVENT_TEST(guard_pages_show_nothing),
		EVENT_TEST(what_has_grown_there_is_new),
		EVENT_TEST(what_was_filled_in_doubt_is_new),
		EVENT_TEST(what_was_cut_in_vain_is_there),
		EVENT_TEST(what_has_grown_and_was_cut_is_not_guessed),
		EVENT_TEST(what_has_grown_and_was_named_is_not_guessed),
		EVENT_TEST(what_may_be_either_is_ended_if_it_matters),
		EVENT_TEST(what_grew_from_what_was_told_first_is_not_guessed),
		EVENT_TEST_OF_ONE(what_grew_over_a_gap_is_not_guessed),
		EVENT_TEST_OF_ONE(what_was_refused_beside_what_has_gone_is_there),
		EVENT_TEST(what_is_left_of_what_was_refused_is_there),
		EVENT_TEST(what_grew_into_a_part_of_what_was_refused_is_new),
		EVENT_TEST(what_grew_into_a_part_may_have_grown_before),
		EVENT_TEST(what_grows_and_shrinks_is_new),
		EVENT_TEST(the_middle_of_what_was_refused_is_there),
		EVENT_TEST(what_was_refused_twice_is_there),
		EVENT_TEST(what_was_not_moved_over_is_there),
		EVENT_TEST(what_was_refused_with_what_had_grown_is_there),
		EVENT_TEST(what_is_beside_other_memory_is_new),
		EVENT_TEST(what_another_userfaultfd_has_is_not_ours),
		EVENT_TEST(what_may_have_grown_down_is_not_guessed),
		EVENT_TEST(what_was_told_to_go_has_gone_before_6_12),
		EVENT_TEST(nobody_is_ended_for_a_look_that_failed),
		EVENT_TEST(what_is_our_own_is_not_the_program_s),
		EVENT_TEST(what_was_filled_before_all_is_told_is_new),
		EVENT_TEST(what_is_not_there_has_gone),
		EVENT_TEST(what_is_left_of_another_is_new),
		EVENT_TEST(what_is_left_of_one_says_nothing_of_its_neighbours),
		EVENT_TEST(rule07_what_is_discarded_unseen_is_never_found),
		EVENT_TEST(who_reads_gives_way),
		EVENT_TEST(who_cannot_be_followed_is_ended),
		EVENT_TEST(who_is_to_be_killed_is_given_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
