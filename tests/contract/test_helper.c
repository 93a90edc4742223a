/* SPDX-License-Identifier: MIT */
/*
 * What the helper promises the server, with a kernel of the test's own under it (fake_kernel.h).
 *
 * The helper is compiled into this program with its system calls replaced. It serves commands as ever:
 * its recvmsg() draws the next one from the seed, its sendmsg() judges what became of it:
 *
 *   every page exists exactly once, and is where the outcome says: in its place of the hold area, or
 *   where it was, or where the program has moved it meanwhile; a place holds the page it was given
 *   for; nothing is left in the stage; in calm weather all that can be moved is moved
 *
 *   test_helper [SEED]     one sequence; without: many, of seeds printed when they fail
 */
#include "fake_kernel.h"

#define HELPER_OWN_SYS6
static long sys6(long nr, long a, long b, long c, long d, long e, long f);
#include "../../src/inject/helper.c"

#define SEQUENCES 400u
#define COMMANDS 60u
#define HOLD_PAGES (4 * FAKE_BLOCK)
#define SERVER_RUNS 32u
#define ENOUGH 1000u /* of each kind of thing in a run */

/* The server's side. */
static struct {
	bool used[HOLD_PAGES];
	uint32_t held[HOLD_PAGES];  /* content; ID_NONE: none */
	bool lets_go;               /* it says so before it hangs up */
	uint32_t nr_commands, nr_moved, nr_kept, nr_sequences;
	struct helper_command command;
	uint32_t before[HELPER_PAGES_MAX]; /* contents of the pages to be moved */
	enum helper_outcome calm[HELPER_PAGES_MAX]; /* what must become of them in calm weather */
	bool is_calm;
	bool was_huge;              /* the block that is to be put */
	uint32_t nr_put, nr_put_whole, nr_put_none;
} server;

/* ---- what goes on between commands ---- */

/*
 * A program that writes into memory that is not its own. It does nothing that would make what it left
 * there look like a page on its way: no change of mappings, no pages of zeros.
 */
static bool scribbler(void)
{
	return kernel.seed % 3 == 0;
}

/* New pages, and huge ones again. */
static void program_grow(void)
{
	for (uint32_t i = 0; i < FAKE_PROGRAM_PAGES; i++) {
		struct fake_page *page = &kernel.program.pages[i];
		if (page->id == ID_NONE && fake_below(3) == 0)
			page->id = scribbler() || fake_below(16) ? kernel.next_id++ : ID_ZERO;
		page->pinned = page->id && fake_below(40) == 0;
		page->swapped = page->id >= ID_FIRST && fake_below(40) == 0;
		page->readonly = fake_below(400) == 0;
	}
	for (uint32_t block = 0; block < FAKE_PROGRAM_PAGES / FAKE_BLOCK; block++) {
		if (fake_below(2))
			continue;
		for (uint32_t i = 0; i < FAKE_BLOCK; i++) {
			struct fake_page *page = &kernel.program.pages[block * FAKE_BLOCK + i];
			if (page->id < ID_FIRST)
				page->id = kernel.next_id++;
			page->pinned = page->swapped = page->readonly = false;
		}
		kernel.program.huge[block] = true;
	}
	fake_must(kernel.next_id + 2 * FAKE_PROGRAM_PAGES < FAKE_IDS, "out of numbers for pages");
}

/* The program writes where nothing is its own: into free places and the empty stage. */
static void program_scribble(void)
{
	for (unsigned i = 0; i < 20; i++) {
		uint64_t address = fake_below(2) ? kernel.stage + fake_below(40) * FAKE_PAGE
						 : kernel.hold + fake_below(HOLD_PAGES) * FAKE_PAGE;
		struct fake_page *page = fake_page_at(address);
		if (page->id == ID_NONE || page->id == ID_ZERO)
			page->id = ID_SCRIBBLE;
		kernel.area.table[fake_block_of(&kernel.area, address)] = true;
	}
}

static void weather_draw(void)
{
	server.is_calm = fake_below(4) == 0;
	memset(&kernel.weather, 0, sizeof kernel.weather);
	if (server.is_calm)
		return;
	kernel.weather = (struct fake_weather){
		.again = fake_below(3) ? fake_below(30) : fake_below(900),
		.partial = fake_below(200),
		.unreported = fake_below(2) ? fake_below(200) : 0,
		.zero_touch = fake_below(2) ? fake_below(400) : 0,
		.pin = fake_below(20),
	};
	if (fake_below(3))
		return;
	if (scribbler())
		program_scribble();
	else
		kernel.weather.event = fake_below(300);
}

/* ---- commands ---- */

static bool block_free(uint32_t place)
{
	for (uint32_t i = 0; i < FAKE_BLOCK; i++)
		if (server.used[place + i])
			return false;
	return true;
}

/* A whole block has a place of its own, the last: the others are hardly ever free. */
static uint32_t places_take(uint32_t want, uint32_t *ret_place)
{
	uint32_t last = HOLD_PAGES - FAKE_BLOCK, nr = 0;
	uint32_t at = want == FAKE_BLOCK && block_free(last) ? last : fake_below(last);

	while (nr < want && at + nr < HOLD_PAGES && !server.used[at + nr])
		server.used[at + nr++] = true;
	*ret_place = at;
	return nr;
}

/* What must become of a page when nothing else happens, whatever its neighbours are. */
static enum helper_outcome calm_outcome(const struct fake_page *page, bool pinned_block)
{
	if (page->readonly)
		return HELPER_DENIED;
	if (!page->id)
		return HELPER_HOLE;
	return page->pinned || pinned_block ? HELPER_BUSY : HELPER_MOVED;
}

/* Add a run from `first` on; false when there is no place for it. */
static bool run_add(uint32_t first, uint32_t want, bool *claimed, uint32_t *nr_pages)
{
	struct helper_command *c = &server.command;
	uint64_t src = FAKE_PROGRAM + first * FAKE_PAGE;
	uint32_t place;

	for (uint32_t i = 0; i < want; i++)
		if (claimed[first + i])
			want = i;
	uint32_t nr = want ? places_take(want, &place) : 0;
	if (!nr)
		return false;
	for (uint32_t k = 0; k < nr; k++) {
		const struct fake_page *pages = &kernel.program.pages[first];
		uint64_t at = src + k * FAKE_PAGE;
		claimed[first + k] = true;
		server.before[*nr_pages + k] = pages[k].id;
		server.calm[*nr_pages + k] =
			calm_outcome(&pages[k], fake_huge(at) && fake_block_pinned(at));
	}
	kernel.move_start[kernel.nr_moves] = src;
	kernel.move_pages[kernel.nr_moves++] = nr;
	c->runs[c->nr_runs++] = (struct helper_run){
		.dst = kernel.hold + place * FAKE_PAGE, .src = src, .bytes = nr * FAKE_PAGE };
	*nr_pages += nr;
	return true;
}

static void draw_move(void)
{
	bool claimed[FAKE_PROGRAM_PAGES] = { false };
	uint32_t nr_pages = 0, nr_runs = 1 + fake_below(fake_below(2) ? 3 : SERVER_RUNS);

	server.command.op = HELPER_MOVE;
	if (fake_below(3) == 0) {
		uint32_t block = fake_below(FAKE_PROGRAM_PAGES / FAKE_BLOCK);
		run_add(block * FAKE_BLOCK, FAKE_BLOCK, claimed, &nr_pages);
		return;
	}
	for (uint32_t i = 0; i < nr_runs; i++) {
		uint32_t first = fake_below(FAKE_PROGRAM_PAGES);
		uint32_t want = 1 + fake_below(fake_below(2) ? 4 : 300);
		if (want > FAKE_PROGRAM_PAGES - first)
			want = FAKE_PROGRAM_PAGES - first;
		if (want > HELPER_PAGES_MAX - nr_pages)
			want = HELPER_PAGES_MAX - nr_pages;
		if (want)
			run_add(first, want, claimed, &nr_pages);
	}
}

/* Places whose pages went back into the program, or are no longer wanted. */
static void draw_drop(void)
{
	struct helper_command *c = &server.command;

	bool all = fake_below(2);

	c->op = HELPER_DROP;
	uint32_t first = fake_below(2) ? HOLD_PAGES - FAKE_BLOCK : fake_below(HOLD_PAGES);
	for (uint32_t place = first; place < HOLD_PAGES && c->nr_runs < HELPER_RUNS_MAX; place++) {
		if (!server.used[place] || (!all && fake_below(2)))
			continue;
		uint32_t id = server.held[place];
		uint32_t back = fake_below(FAKE_PROGRAM_PAGES);
		if (id >= ID_FIRST && !kernel.program.pages[back].id)
			kernel.program.pages[back].id = id;
		else if (id >= ID_FIRST)
			kernel.unmapped[id] = true;
		fake_page_at(kernel.hold + place * FAKE_PAGE)->id = ID_STALE;
		server.held[place] = ID_STALE;
		c->runs[c->nr_runs++] = (struct helper_run){
			.dst = kernel.hold + place * FAKE_PAGE, .bytes = FAKE_PAGE };
	}
}

/* Blocks of the stock are zeros: nobody misses them. */
static void stock_draw(uint64_t block)
{
	bool huge = fake_below(8) > 0;

	if (!fake_huge(block))
		for (uint32_t i = 0; i < (huge ? FAKE_BLOCK : 1); i++) {
			struct fake_page *page = fake_page_at(block + i * FAKE_PAGE);
			page->id = page->id ? page->id : kernel.next_id++;
			kernel.unmapped[page->id] = true;
		}
	if (huge)
		kernel.area.huge[fake_block_of(&kernel.area, block)] = true;
}

/* A block without pages, mostly. */
static void block_clear(uint64_t block)
{
	bool some = fake_below(8) == 0;

	for (uint32_t i = 0; i < FAKE_BLOCK; i++) {
		struct fake_page *page = fake_page_at(block + i * FAKE_PAGE);
		if (page->id >= ID_FIRST)
			kernel.unmapped[page->id] = true;
		*page = (struct fake_page){ .readonly = fake_below(8 * FAKE_BLOCK) == 0 };
		if (some && fake_below(FAKE_BLOCK / 2) == 0)
			page->id = kernel.next_id++;
	}
	kernel.program.huge[fake_block_of(&kernel.program, block)] = false;
	kernel.program.table[fake_block_of(&kernel.program, block)] = some || fake_below(4) == 0;
}

/* Whether the server would ask for the block of places to be put back. */
static bool places_held(uint32_t place)
{
	for (uint32_t i = 0; i < FAKE_BLOCK; i++)
		if (server.held[place + i] < ID_FIRST)
			return false;
	return true;
}

/* A block from the stock, or one that is held, goes into an empty one of the program. */
static void draw_put(void)
{
	struct helper_command *c = &server.command;
	uint64_t dst = FAKE_PROGRAM + fake_below(FAKE_PROGRAM_PAGES / FAKE_BLOCK) * FAKE_BLOCK_BYTES;
	uint64_t src = kernel.stage_end + fake_below(HELPER_STOCK_BLOCKS) * FAKE_BLOCK_BYTES;
	uint32_t last = HOLD_PAGES - FAKE_BLOCK;

	c->op = HELPER_PUT;
	block_clear(dst);
	if (places_held(last))
		src = kernel.hold + last * FAKE_PAGE;
	else
		stock_draw(src);
	for (uint32_t i = 0; i < FAKE_BLOCK; i++)
		server.before[i] = fake_page_at(src + i * FAKE_PAGE)->id;
	kernel.move_start[kernel.nr_moves] = dst;
	kernel.move_pages[kernel.nr_moves++] = FAKE_BLOCK;
	c->runs[c->nr_runs++] = (struct helper_run){ .dst = dst, .src = src, .bytes = FAKE_BLOCK_BYTES };
	server.was_huge = fake_huge(src);
}

static void draw_populate(void)
{
	server.command.op = HELPER_POPULATE;
	server.command.nr_runs = 1;
	server.command.runs[0] = (struct helper_run){ .dst = FAKE_PROGRAM, .bytes = 64 * FAKE_PAGE };
}

static void command_draw(void)
{
	server.command.nr_runs = 0;
	server.command.seq++;
	kernel.nr_moves = kernel.nr_elsewhere = 0;
	kernel.changing = false;
	if (!kernel.hold) {
		server.command.op = HELPER_MAP;
		server.command.nr_runs = 1;
		server.command.runs[0] = (struct helper_run){ .bytes = HOLD_PAGES * FAKE_PAGE };
		return;
	}
	program_grow();
	weather_draw();
	uint32_t kind = fake_below(12);
	if (kind < 6)
		draw_move();
	else if (kind < 8)
		draw_put();
	else if (kind < 11)
		draw_drop();
	else
		draw_populate();
}

/* ---- judgement ---- */

/* `whole`: the run is a whole block, which has a stage of its own if it is a huge page. */
static void page_judge(uint32_t k, uint32_t place, enum helper_outcome outcome, bool whole)
{
	uint32_t before = server.before[k], there = fake_page_at(kernel.hold + place * FAKE_PAGE)->id;

	kernel.subject = before;
	fake_must(outcome < HELPER_LOST, "a page is told to be lost");
	if (server.is_calm && outcome != server.calm[k])
		fake_fail("a page that could be moved was not, or the other way round");
	if (outcome == HELPER_MOVED) {
		/* Of a hole only that it is nobody's page. */
		fake_must(there == before || (!before && there && there < ID_FIRST),
			  "a moved page is not in its place");
		server.held[place] = there;
		server.nr_moved++;
		return;
	}
	fake_must(there < ID_FIRST, "a page that was not moved is in the hold area");
	/* It would be left alone for long. */
	fake_must(outcome != HELPER_BUSY || server.calm[k] == HELPER_BUSY || kernel.weather.pin,
		  "a page is told to be in use, and nobody uses it");
	if (outcome == HELPER_FAILED && !whole)
		fake_must(fake_page_at(kernel.stage + k * FAKE_PAGE)->id != ID_SCRIBBLE,
			  "what the program wrote into the stage is still there");
	server.used[place] = false;
	server.nr_kept++;
}

static void count_window(const struct fake_window *w, uint8_t *counts)
{
	for (uint32_t i = 0; i < w->nr_pages; i++)
		if (w->pages[i].id >= ID_FIRST && counts[w->pages[i].id] < 2)
			counts[w->pages[i].id]++;
}

/* Each page is there once; one that the program has given up at most once. */
static void world_judge(void)
{
	static uint8_t counts[FAKE_IDS];

	memset(counts, 0, kernel.next_id);
	count_window(&kernel.program, counts);
	count_window(&kernel.area, counts);
	for (uint32_t i = 0; i < kernel.nr_elsewhere; i++)
		counts[kernel.elsewhere[i]]++;
	for (uint32_t id = ID_FIRST; id < kernel.next_id; id++) {
		kernel.subject = id;
		fake_must(counts[id] < 2, "a page is there twice");
		fake_must(counts[id] || kernel.unmapped[id], "a page is lost");
	}
	for (uint64_t at = kernel.stage; at < kernel.stage_end; at += FAKE_PAGE)
		fake_must(fake_page_at(at)->id < ID_FIRST, "a page was left in the stage");
	for (uint32_t place = 0; place < HOLD_PAGES; place++) {
		uint32_t there = fake_page_at(kernel.hold + place * FAKE_PAGE)->id;
		kernel.subject = server.held[place];
		if (server.held[place])
			fake_must(there == server.held[place], "a held page is another one now");
		else
			fake_must(there < ID_FIRST, "a page is where no place was given");
	}
	/* What the program moved away is of no more concern. */
	for (uint32_t i = 0; i < kernel.nr_elsewhere; i++)
		kernel.unmapped[kernel.elsewhere[i]] = true;
	kernel.nr_elsewhere = 0;
}

/* A block that was to be put into the program: each page is where the reply says. */
static void put_judge(const struct helper_reply *reply)
{
	const struct helper_run *run = &server.command.runs[0];
	bool held = run->src < kernel.stage, again = kernel.changing || kernel.weather.again;

	server.nr_put++;
	server.nr_put_none += reply->result != 0;
	server.nr_put_whole += (uint32_t)reply->whole;
	fake_must(!reply->whole || kernel.changing || fake_huge(run->dst),
		  "a block is told to be whole, and is not");
	fake_must(server.was_huge || reply->result == -ENODATA, "a block of single pages was moved");
	fake_must(!server.was_huge || reply->result != -ENODATA, "a huge page was not seen");
	for (uint32_t i = 0; i < FAKE_BLOCK; i++) {
		uint32_t there = fake_page_at(run->dst + i * FAKE_PAGE)->id;
		uint32_t here = fake_page_at(run->src + i * FAKE_PAGE)->id;
		uint32_t place = (uint32_t)((run->src - kernel.hold) / FAKE_PAGE) + i;
		kernel.subject = server.before[i];
		bool moved = !reply->result && reply->outcome[i] == HELPER_MOVED;
		fake_must(!moved || kernel.changing || there == server.before[i],
			  "a page is told to have come, and is not there");
		fake_must(moved || !server.before[i] || there != server.before[i],
			  "a page has come that is not told of");
		if (held)
			fake_must(moved ? here < ID_FIRST : here == server.before[i],
				  "a page that stays is not in its place, or one that went is");
		if (held && moved) {
			server.used[place] = false;
			server.held[place] = ID_NONE;
		}
	}
	if (!server.was_huge || again || reply->result)
		return;
	fake_must(!server.is_calm || !kernel.program.table[fake_block_of(&kernel.program, run->dst)] ||
			  !reply->whole, "a huge page went where it does not fit");
}

static bool stage_clean(void)
{
	for (uint64_t at = kernel.stage; at < kernel.stage_end; at += FAKE_PAGE)
		if (fake_page_at(at)->id)
			return false;
	return true;
}

static void reply_judge(const struct helper_reply *reply, size_t bytes)
{
	const struct helper_command *c = &server.command;
	uint32_t k = 0;

	fake_must(reply->seq == c->seq, "a reply to another command");
	bool told = c->op == HELPER_MOVE || c->op == HELPER_PUT;
	fake_must(c->op != HELPER_KEEP && c->op != HELPER_LEAVE, "a reply to what has none");
	fake_must(bytes == (told ? sizeof *reply : offsetof(struct helper_reply, outcome)),
		  "a reply of another length");
	if (c->op == HELPER_MAP) {
		fake_must(reply->result > 0 && (uint64_t)reply->result == kernel.hold,
			  "the hold area is not where the reply says");
		return;
	}
	if (c->op == HELPER_PUT) {
		put_judge(reply);
		world_judge();
		return;
	}
	fake_must(!reply->result, "a command failed");
	for (uint32_t i = 0; i < c->nr_runs; i++) {
		uint32_t place = (uint32_t)((c->runs[i].dst - kernel.hold) / FAKE_PAGE);
		if (c->op == HELPER_DROP) {
			server.used[place] = false;
			server.held[place] = ID_NONE;
		}
		if (c->op == HELPER_MOVE)
			for (uint32_t n = 0; n < c->runs[i].bytes / FAKE_PAGE; n++, k++)
				page_judge(k, place + n, (enum helper_outcome)reply->outcome[k],
					   c->runs[i].bytes == FAKE_BLOCK_BYTES);
	}
	world_judge();
}

/* ---- the helper's system calls ---- */

static long call_receive(struct msghdr *message)
{
	struct cmsghdr *c = message->msg_control;
	message->msg_controllen = 0;
	if (server.nr_commands == COMMANDS + server.lets_go)
		return 0;
	if (server.nr_commands++ == COMMANDS)
		server.command = (struct helper_command){ .op = HELPER_LEAVE };
	else if (server.nr_commands == 1)
		server.command = (struct helper_command){ .op = HELPER_KEEP };
	else
		command_draw();
	if (server.is_calm && kernel.hold)
		server.is_calm = stage_clean();
	size_t bytes = offsetof(struct helper_command, runs) +
		       server.command.nr_runs * sizeof server.command.runs[0];
	fake_must(message->msg_iov->iov_len >= bytes, "no room for a command");
	memcpy(message->msg_iov->iov_base, &server.command, bytes);
	int fd = server.command.op == HELPER_MAP ? FAKE_PAGEMAP : FAKE_UFFD;
	if (server.command.op == HELPER_KEEP || server.command.op == HELPER_MAP) {
		*c = (struct cmsghdr){ CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		message->msg_controllen = CMSG_SPACE(sizeof fd);
	}
	return (long)bytes;
}

static long call_send(const struct msghdr *message)
{
	kernel.nr_moves = 0; /* nothing happens while we look */
	reply_judge(message->msg_iov->iov_base, message->msg_iov->iov_len);
	return (long)message->msg_iov->iov_len;
}

/* A new block in the place of one of the stock. */
static long call_map_over(uint64_t address, uint64_t bytes)
{
	fake_must(fake_inside(address, bytes, kernel.stage_end, kernel.stock_end) &&
			  bytes == FAKE_BLOCK_BYTES && !(address % FAKE_BLOCK_BYTES),
		  "a mapping over something else than a block of the stock");
	for (uint64_t at = 0; at < bytes; at += FAKE_PAGE)
		*fake_page_at(address + at) = (struct fake_page){ 0 };
	kernel.area.huge[fake_block_of(&kernel.area, address)] = false;
	kernel.area.table[fake_block_of(&kernel.area, address)] = false;
	return (long)address;
}

static long call_map(uint64_t address, uint64_t bytes)
{
	if (address)
		return call_map_over(address, bytes);
	fake_must(bytes <= FAKE_AREA_PAGES * FAKE_PAGE, "a mapping that nobody wants");
	return (long)FAKE_AREA;
}

static long call_protect(uint64_t address, uint64_t bytes)
{
	uint64_t all = HOLD_PAGES * FAKE_PAGE + HELPER_STAGE_BYTES + HELPER_STOCK_BYTES;

	fake_must(!(address % FAKE_BLOCK_BYTES) && bytes == all && address > FAKE_AREA &&
			  address + bytes < FAKE_AREA + FAKE_AREA_PAGES * FAKE_PAGE,
		  "the area has no guards, or is not of whole blocks");
	kernel.hold = address;
	kernel.stage = address + HOLD_PAGES * FAKE_PAGE;
	kernel.stage_end = kernel.stage + HELPER_STAGE_BYTES;
	kernel.stock_end = kernel.stage_end + HELPER_STOCK_BYTES;
	return 0;
}

static long sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	(void)e;
	(void)f;
	fake_meanwhile();
	switch (nr) {
	case SYS_recvmsg:
		return call_receive((struct msghdr *)(uintptr_t)b);
	case SYS_sendmsg:
		return call_send((const struct msghdr *)(uintptr_t)b);
	case SYS_ioctl:
		if ((unsigned long)b == UFFDIO_MOVE)
			return fake_move((int)a, (struct uffdio_move *)(uintptr_t)c);
		fake_must((unsigned long)b == PAGEMAP_SCAN, "an ioctl that nobody knows");
		return fake_scan((int)a, (const struct pm_scan_arg *)(uintptr_t)c);
	case SYS_madvise:
		return fake_advise((uint64_t)a, (uint64_t)b, (int)c);
	case SYS_process_madvise:
		return fake_advise_all((int)a, (const struct iovec *)(uintptr_t)b, (size_t)c, (int)d);
	case SYS_mmap:
		return call_map((uint64_t)a, (uint64_t)b);
	case SYS_mprotect:
		return call_protect((uint64_t)a, (uint64_t)b);
	case SYS_close:
	case SYS_munlock:
	case SYS_nanosleep:
		return 0;
	default:
		fake_fail("a system call that the helper should not make here");
	}
}

/* ---- sequences ---- */

static void sequence_run(uint64_t seed, struct helper *h)
{
	memset(&server, 0, sizeof server);
	memset(h, 0, sizeof *h);
	h->hold_uffd = FAKE_HOLD_UFFD;
	h->self = FAKE_SELF;
	h->uffd = h->pagemap = -1; /* they come with commands */
	fake_open(seed);
	server.lets_go = seed % 2;
	helper_serve(h);
	fake_must(server.nr_commands == COMMANDS + server.lets_go, "the helper stopped before its time");
	fake_must(h->kept != server.lets_go, "the helper takes a server that lets go for one that was killed");
}

static bool versions_told(void)
{
	static const char *const with[] = { "2.42", "2.42.9000", "2.100", "3.0" };
	static const char *const without[] = { "2.36", "2.41.42", "2.5", "2", "1.99", "", "stable" };

	for (unsigned i = 0; i < sizeof with / sizeof with[0]; i++)
		if (!libc_makes_guards(with[i]))
			return false;
	for (unsigned i = 0; i < sizeof without / sizeof without[0]; i++)
		if (libc_makes_guards(without[i]))
			return false;
	return true;
}

int main(int argc, char **argv)
{
	static const char *const names[10] = {
		"moved", "kept", "huge pages", "moves unreported", "events", "touches of ours", "put",
		"put whole", "not put", "dropped at once",
	};
	struct helper *h = calloc(1, sizeof *h);
	uint64_t nr[10] = { 0 };
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;

	if (!h || !versions_told())
		return 1;
	for (uint64_t seed = first; seed < first + (argc > 1 ? 1 : SEQUENCES); seed++) {
		sequence_run(seed, h);
		const uint64_t more[10] = { server.nr_moved, server.nr_kept, kernel.nr_huge,
					   kernel.nr_unreported, kernel.nr_events, kernel.nr_touches,
					   server.nr_put, server.nr_put_whole, server.nr_put_none,
					    kernel.nr_advised };
		for (unsigned i = 0; i < 10; i++)
			nr[i] += more[i];
		fake_close();
	}
	free(h);
	printf("%llu sequences", argc > 1 ? 1ull : SEQUENCES);
	for (unsigned i = 0; i < 10; i++)
		printf(", %s %llu", names[i], (unsigned long long)nr[i]);
	printf("\n");
	/* A kernel that is never unkind proves nothing. */
	for (unsigned i = 0; i < 10; i++)
		if (argc <= 1 && nr[i] < ENOUGH)
			return 1;
	return 0;
}
