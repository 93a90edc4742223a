/* SPDX-License-Identifier: MIT */
/* Children of a program whose threads change its mappings meanwhile: what they have where. */
#include <errno.h>

#include "event_world.h"

int __wrap_guard_add(int socket, pid_t pid, int uffd, int pidfd);
int __wrap_guard_add(int socket, pid_t pid, int uffd, int pidfd)
{
	(void)socket;
	(void)pid;
	(void)uffd;
	(void)pidfd;
	return 0;
}

int __wrap_handlers_start(struct program *program, bool normal);
int __wrap_handlers_start(struct program *program, bool normal)
{
	(void)program;
	(void)normal;
	return 0;
}

static bool files_full;

ssize_t __real_read(int fd, void *buffer, size_t bytes);
ssize_t __wrap_read(int fd, void *buffer, size_t bytes);
ssize_t __wrap_read(int fd, void *buffer, size_t bytes)
{
	if (!files_full || fd != born_uffd)
		return __real_read(fd, buffer, bytes);
	errno = EMFILE;
	return -1;
}

/* A child with its userfaultfd, and where a test writes what that is to say. */
struct child {
	struct program *program;
	int tell;
};

/* Told: a fork. What is mapped in the child is [start, end). */
static struct child fork_told(struct world *w, uint64_t start, uint64_t end)
{
	struct uffd_msg m = { .event = UFFD_EVENT_FORK };
	int ends[2];

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	born_uffd = ends[0];
	born = (struct mapped){ .calm = true, .start = start, .end = end };
	m.arg.fork.ufd = (uint32_t)ends[0];
	tell(w, &m);
	struct program *child = w->server.newborn;
	assert_non_null(child);
	w->server.newborn = NULL;
	return (struct child){ child, ends[1] };
}

static void child_free(struct child *child)
{
	program_free(child->program);
	close(child->tell);
}

/* Nothing is under way in the parent any more, of which [start, end) is mapped; then the child is asked. */
static void all_told(struct world *w, const struct child *child, uint64_t start, uint64_t end)
{
	mapped.calm = true;
	mapped.start = start;
	mapped.end = end;
	nothing_told(w);
	assert_int_equal(events_read(child->program, no_fault, NULL), -EAGAIN);
	assert_null(child->program->birth);
}

static bool child_has(const struct child *child, uint64_t vpn)
{
	return extent_find(child->program, vpn);
}

static void what_moved_after_the_fork_is_where_it_was(void **state)
{
	struct world *w = *state;

	tract_at(w, 1000, 100);
	tell_move(w, 1000, 5000, 100);
	struct child child = fork_told(w, 1000, 1100);
	all_told(w, &child, 5000, 5100);
	assert_true(child_has(&child, 1000) && child_has(&child, 1099));
	assert_false(child_has(&child, 5000));
	child_free(&child);
}

/* Moved away and unmapped there, and then a neighbour grew into the place: that is not what was there. */
static void what_grew_where_something_moved_away_is_new(void **state)
{
	struct world *w = *state;

	tract_at(w, 1000, 100);
	tell_move(w, 1000, 5000, 100);
	tell_unmap(w, 5000, 100);
	struct child child = fork_told(w, 1000, 1100);
	all_told(w, &child, 1000, 1100);
	assert_false(child_has(&child, 1000));
	child_free(&child);
}

/* The same, and what grew has gone again before the fork was told. */
static void what_grew_there_and_has_gone_is_new(void **state)
{
	struct world *w = *state;

	tract_at(w, 1000, 100);
	tell_move(w, 1000, 5000, 100);
	tell_unmap(w, 5000, 100);
	tell_unmap(w, 1000, 100);
	struct child child = fork_told(w, 1000, 1100);
	all_told(w, &child, 0, 0);
	assert_false(child_has(&child, 1000));
	child_free(&child);
}

static void slot_count(struct tier *tier, uint32_t slot)
{
	(void)tier;
	assert_int_equal(slot, 1);
}

static const struct tier_ops pool_ops = { .ref = slot_count, .unref = slot_count };
static struct tier pool = { &pool_ops };

static enum page_state child_state(const struct child *child, uint64_t vpn)
{
	const struct extent *e = extent_find(child->program, vpn);

	assert_non_null(e);
	return page_state(word_load(e->tract, e->idx + (vpn - e->vpn)));
}

/* One thread, an mmap that is refused though what is there is told to go, and a fork: the child has it, too. */
static struct child refused_then_forked(struct world *w, const char *advice)
{
	struct tract *t = tract_at(w, 1000, 100);

	assert_true(page_claim(t, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&t->region.state[7], page_word(PAGE_STORED, 0, 0, 1, false));
	w->server.pool = &pool;
	w->program->proc_dir = dup(w->program->threads_dir);
	w->program->pid = getpid();
	tract_at(w, 900, 100);
	tell_unmap(w, 1000, 100);
	mapped = (struct mapped){ .start = 900, .cut = 1000, .end = 1100 };
	kinds_put(advice, advice);
	return fork_told(w, 900, 1100);
}

static void what_was_refused_to_go_is_the_child_s(void **state)
{
	struct world *w = *state;
	struct child child = refused_then_forked(w, "");

	all_told(w, &child, 900, 1100);
	assert_true(child_has(&child, 1000) && child_has(&child, 1099));
	assert_int_equal(child_state(&child, 1007), PAGE_STORED);
	child_free(&child);
}

/* Whatever else was unmapped before, and something has come there since. */
static void what_was_refused_is_the_child_s_beside_what_has_come(void **state)
{
	struct world *w = *state;

	tract_at(w, 3000, 50);
	tract_at(w, 4000, 50);
	tell_unmap(w, 3000, 50);
	tell_move(w, 4000, 3000, 50);
	tell_unmap(w, 4000, 50);
	struct child child = refused_then_forked(w, "");

	all_told(w, &child, 900, 1100);
	assert_int_equal(child_state(&child, 1007), PAGE_STORED);
	child_free(&child);
}

/* With MADV_WIPEONFORK a child has zeros there. */
static void what_was_refused_to_go_may_be_wiped(void **state)
{
	struct world *w = *state;
	struct child child = refused_then_forked(w, "wf");

	all_told(w, &child, 900, 1100);
	assert_int_equal(child_state(&child, 1007), PAGE_ABSENT);
	child_free(&child);
}

/* But not if what is there has grown; or was unmapped at once, after the fork. */
static void what_has_grown_is_not_what_was_refused(void **state)
{
	struct world *w = *state;
	struct child child = refused_then_forked(w, "");

	mapped.cut = 0;
	all_told(w, &child, 900, 1100);
	assert_false(child_has(&child, 1000));
	assert_true(child_has(&child, 999));
	child_free(&child);
}

/* Half of what was refused is unmapped at once. When the other half is put back something begins, and the rest is
 * looked at once more: what is there by now is what was put back, and has not grown. */
static void what_was_put_back_before_is_the_child_s(void **state)
{
	struct world *w = *state;
	struct tract *kept = tract_at(w, 1000, 50);

	tract_at(w, 1050, 50);
	assert_true(page_claim(kept, 7, page_word(PAGE_RESIDENT, 0, 0, 0, false)));
	atomic_store(&kept->region.state[7], page_word(PAGE_STORED, 0, 0, 1, false));
	w->server.pool = &pool;
	w->program->proc_dir = dup(w->program->threads_dir);
	w->program->pid = getpid();
	tell_unmap(w, 1000, 100);
	tell_unmap(w, 1050, 50);
	mapped = (struct mapped){ .start = 1000, .cut = 1050, .end = 1050, .present = 1010 };
	kinds_put("", "");
	struct child child = fork_told(w, 1000, 1050);
	mapped.calm = true;
	mapped.changing_after = 9;
	nothing_told(w);
	assert_int_equal(mapped.changing_after, 0);
	extent_is(w, 1000, kept, 0);
	assert_true(journal_open(w->program));
	all_told(w, &child, 1000, 1050);
	assert_true(child_has(&child, 1000) && child_has(&child, 1049));
	assert_false(child_has(&child, 1050));
	assert_int_equal(child_state(&child, 1007), PAGE_STORED);
	child_free(&child);
}

static void what_has_grown_and_gone_is_not_what_was_refused(void **state)
{
	struct world *w = *state;
	struct child child = refused_then_forked(w, "");

	tell_unmap(w, 1000, 100);
	all_told(w, &child, 900, 1000);
	assert_false(child_has(&child, 1000));
	child_free(&child);
}

/* A child that tells of changes of its own before it can be asked. */
static struct child child_told_early(struct world *w, const struct uffd_msg *messages, size_t nr)
{
	tract_at(w, 1000, 100);
	tell_move(w, 1000, 5000, 100);
	struct child child = fork_told(w, 1000, 1100);
	mapped.calm = true;
	nothing_told(w);
	born.calm = false;
	born.changing_after = 1;
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(write(child.tell, &messages[i], sizeof messages[i]), sizeof messages[i]);
	assert_int_equal(events_read(child.program, no_fault, NULL), -EBUSY);
	return child;
}

static void what_was_told_early_is_followed_in_turn(void **state)
{
	struct uffd_msg messages[2] = { { .event = UFFD_EVENT_UNMAP }, { .event = UFFD_EVENT_UNMAP } };

	messages[0].arg.remove.start = UINT64_C(9000) << PAGE_SHIFT;
	messages[0].arg.remove.end = UINT64_C(9010) << PAGE_SHIFT;
	messages[1].arg.remove.start = UINT64_C(9010) << PAGE_SHIFT;
	messages[1].arg.remove.end = UINT64_C(9020) << PAGE_SHIFT;
	struct child child = child_told_early(*state, messages, 2);
	child.program->moves.some = true;
	for (unsigned i = 0; i < 2; i++) {
		assert_non_null(child.program->birth);
		assert_int_equal(events_read(child.program, no_fault, NULL), 1);
		assert_int_equal(child.program->journal->nr, i + 1);
	}
	assert_null(child.program->birth);
	child_free(&child);
}

/* Its child would find zeros where it had pages. */
static void who_is_ended_with_a_fork_untold_ends_the_tree(void **state)
{
	struct world *w = *state;
	struct uffd_msg m = { .event = UFFD_EVENT_FORK };
	int ends[2];

	assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
	m.arg.fork.ufd = (uint32_t)ends[0];
	struct child child = child_told_early(w, &m, 1);
	atomic_store(&child.program->gone, true);
	assert_false(w->server.lost_child);
	child_free(&child);
	assert_true(w->server.lost_child);
	close(ends[1]);
}

/* It waits in its fork, and nobody could ever follow that. */
static void who_forks_without_a_file_left_is_ended(void **state)
{
	files_full = true;
	struct child child = child_told_early(*state, NULL, 0);
	files_full = false;
	assert_true(child.program->gone);
	child_free(&child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVENT_TEST(what_moved_after_the_fork_is_where_it_was),
		EVENT_TEST(what_grew_where_something_moved_away_is_new),
		EVENT_TEST(what_grew_there_and_has_gone_is_new),
		EVENT_TEST_OF_ONE(what_was_refused_to_go_is_the_child_s),
		EVENT_TEST_OF_ONE(what_was_refused_is_the_child_s_beside_what_has_come),
		EVENT_TEST_OF_ONE(what_was_refused_to_go_may_be_wiped),
		EVENT_TEST_OF_ONE(what_has_grown_is_not_what_was_refused),
		EVENT_TEST_OF_ONE(what_was_put_back_before_is_the_child_s),
		EVENT_TEST_OF_ONE(what_has_grown_and_gone_is_not_what_was_refused),
		EVENT_TEST(what_was_told_early_is_followed_in_turn),
		EVENT_TEST(who_is_ended_with_a_fork_untold_ends_the_tree),
		EVENT_TEST(who_forks_without_a_file_left_is_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
