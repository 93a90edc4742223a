/* SPDX-License-Identifier: MIT */
#include "idle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "page_idle.h"
#include "pagemap.h"
#include "pass.h"

#define WORDS_MAX 64u /* of the bitmap in one call: 4096 frames */
#define WORDS_GAP 1u  /* a word of others between two of ours is read along */

/* A page of the window under way. */
struct page {
	uint64_t address, pfn;
	uint32_t bytes;
	bool known;  /* the pass before saw it idle */
	bool armed;  /* this one did */
};

/* A page that was seen idle, in that frame. */
struct idle_page {
	uint64_t address, pfn;
};

struct idle_pages {
	struct idle_page *list; /* by address */
	size_t nr, max;
};

struct marked {
	struct idle_pages before, now; /* by the last pass, and by this one so far */
	size_t at;                     /* of `before`: what comes next */
};

struct idle {
	struct pass pass;
	int bitmap;
	struct page *pages;    /* of one window */
	struct page **order;   /* by frame */
	size_t nr, max;
	int error;
};

/* ---- the pages of a window ---- */

static int pages_grow(struct idle *idle)
{
	size_t max = idle->max ? idle->max * 2 : 4096;
	struct page *more = reallocarray(idle->pages, max, sizeof *more);

	if (!more)
		return -ENOMEM;
	idle->pages = more;
	struct page **order = reallocarray(idle->order, max, sizeof(struct page *));
	if (!order)
		return -ENOMEM;
	idle->order = order;
	idle->max = max;
	return 0;
}

static void page_visit(void *arg, const struct pagemap_page *page)
{
	struct idle *idle = arg;

	if (!page->pfn || idle->error)
		return;
	if (idle->nr == idle->max)
		idle->error = pages_grow(idle);
	if (!idle->error)
		idle->pages[idle->nr++] = (struct page){
			.address = page->address, .pfn = page->pfn, .bytes = page->bytes,
		};
}

/* Both lists are by address. A page that is in another frame now is another page. */
static void pages_know(struct idle *idle, struct marked *marked)
{
	const struct idle_pages *before = &marked->before;

	for (size_t i = 0; i < idle->nr; i++) {
		struct page *page = &idle->pages[i];

		while (marked->at < before->nr && before->list[marked->at].address < page->address)
			marked->at++;
		page->known = marked->at < before->nr &&
			      before->list[marked->at].address == page->address &&
			      before->list[marked->at].pfn == page->pfn;
	}
}

static int frame_order(const void *a, const void *b)
{
	const struct page *x = *(struct page *const *)a, *y = *(struct page *const *)b;

	return x->pfn < y->pfn ? -1 : x->pfn > y->pfn;
}

static void pages_sort(struct idle *idle)
{
	for (size_t i = 0; i < idle->nr; i++)
		idle->order[i] = &idle->pages[i];
	qsort(idle->order, idle->nr, sizeof *idle->order, frame_order);
}

/* ---- the bitmap ---- */

static uint64_t word_of(const struct page *page)
{
	return page->pfn / PAGE_IDLE_BITS;
}

static uint64_t bit_of(const struct page *page)
{
	return UINT64_C(1) << page->pfn % PAGE_IDLE_BITS;
}

/* The pages from order[from] on whose words are read in one call; returns the first behind them. */
static size_t run_end(const struct idle *idle, size_t from)
{
	uint64_t first = word_of(idle->order[from]);
	size_t end = from + 1;

	while (end < idle->nr && word_of(idle->order[end]) - first < WORDS_MAX &&
	       word_of(idle->order[end]) - word_of(idle->order[end - 1]) <= 1 + WORDS_GAP)
		end++;
	return end;
}

/* Look at a run, tell what was touched, mark what is not idle, and see which marks took. */
static int run_look(struct idle *idle, const struct pass_process *process, struct page **pages, size_t nr)
{
	uint64_t words[WORDS_MAX], marks[WORDS_MAX] = { 0 }, first = word_of(pages[0]);
	size_t nr_words = (size_t)(word_of(pages[nr - 1]) - first) + 1;
	bool any = false;
	int error = page_idle_read(idle->bitmap, first, words, nr_words);

	for (size_t i = 0; !error && i < nr; i++) {
		struct page *page = pages[i];

		page->armed = words[word_of(page) - first] & bit_of(page);
		if (page->armed)
			continue;
		if (page->known)
			pass_touched(&idle->pass, process, page->address, page->bytes);
		marks[word_of(page) - first] |= bit_of(page);
		any = true;
	}
	if (error || !any)
		return error;
	error = page_idle_mark(idle->bitmap, first, marks, nr_words);
	if (!error)
		error = page_idle_read(idle->bitmap, first, words, nr_words);
	for (size_t i = 0; !error && i < nr; i++)
		pages[i]->armed = words[word_of(pages[i]) - first] & bit_of(pages[i]);
	return error;
}

/* ---- passes ---- */

static int idle_page_add(struct idle_pages *pages, const struct page *page)
{
	struct idle_page *list = array_room(pages->list, pages->nr, &pages->max, sizeof *list);

	if (!list)
		return -ENOMEM;
	pages->list = list;
	list[pages->nr++] = (struct idle_page){ page->address, page->pfn };
	return 0;
}

static int marked_look(struct pass *pass, struct pass_process *process, const struct pass_range *range,
		       uint64_t start, uint64_t end)
{
	struct idle *idle = (struct idle *)(void *)pass;
	struct marked *marked = process->own;

	(void)range;
	idle->nr = 0;
	idle->error = 0;
	int error = pagemap_walk(process->target.dir, start, end, page_visit, idle);
	if (!error)
		error = idle->error;
	if (error || !idle->nr)
		return error;
	pages_know(idle, marked);
	pages_sort(idle);
	for (size_t at = 0, next; at < idle->nr; at = next) {
		next = run_end(idle, at);
		/* Frames that the bitmap does not know (devices' memory) are passed over. */
		error = run_look(idle, process, idle->order + at, next - at);
		if (error && error != -ENXIO)
			return error;
	}
	error = 0;
	for (size_t i = 0; !error && i < idle->nr; i++)
		if (idle->pages[i].armed)
			error = idle_page_add(&marked->now, &idle->pages[i]);
	return error;
}

static int marked_finish(struct pass *pass, struct pass_process *process)
{
	struct marked *marked = process->own;
	struct idle_pages spare = marked->before;

	marked->before = marked->now;
	marked->now = spare;
	marked->now.nr = 0;
	marked->at = 0;
	pass_armed(pass, process, &process->ranges);
	return 0;
}

static void marked_forget(struct pass *pass, struct pass_process *process)
{
	struct marked *marked = process->own;

	(void)pass;
	free(marked->before.list);
	free(marked->now.list);
	*marked = (struct marked){ 0 };
}

static void idle_end(struct pass *pass)
{
	struct idle *idle = (struct idle *)(void *)pass;

	close(idle->bitmap);
	free(idle->pages);
	free(idle->order);
}

static const struct pass_ops marked_ops = {
	.own_bytes = sizeof(struct marked),
	.look = marked_look,
	.finish = marked_finish,
	.forget = marked_forget,
	.close = idle_end,
};

static const struct sense_ops idle_ops = {
	.name = "idle",
	.cost = "no fault; processor time of pagetide for each page in memory, twice for those in use",
	.grain_bytes = 4096,
	.sees_fast = true,
	.add = pass_add,
	.remove = pass_remove,
	.read = pass_read,
	.pace = pass_pace,
	.usage = pass_usage,
	.close = pass_close,
};

static int bitmap_open(const struct idle_options *options, int *ret_fd, const char **ret_why)
{
	int error = page_idle_open(options->root, ret_fd);

	if (!error)
		return 0;
	if (error == -EACCES || error == -EPERM) {
		*ret_why = "the kernel's bitmap of idle pages is root's: run as root";
		return -EPERM;
	}
	*ret_why = "this kernel has no bitmap of idle pages: use one built with CONFIG_IDLE_PAGE_TRACKING";
	return -EOPNOTSUPP;
}

int idle_probe(const struct idle_options *options, const char **ret_why)
{
	int fd, error = bitmap_open(options, &fd, ret_why);

	if (!error)
		close(fd);
	return error;
}

int idle_open(const struct idle_options *options, struct sense **ret_sense, const char **ret_why)
{
	int fd, error = bitmap_open(options, &fd, ret_why);

	if (error)
		return error;
	struct idle *idle = calloc(1, sizeof *idle);
	if (!idle) {
		close(fd);
		*ret_why = "no memory";
		return -ENOMEM;
	}
	idle->bitmap = fd;
	pass_init(&idle->pass, &idle_ops, &marked_ops, options->root);
	*ret_sense = &idle->pass.sense;
	return 0;
}
