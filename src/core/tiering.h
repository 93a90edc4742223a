/* SPDX-License-Identifier: MIT */
/*
 * Tiering: which pages of running processes should be on which node.
 *
 * Nodes are fast or slow, and the CPU reaches them all. A page on a slow node that was touched twice
 * within a window is a candidate for promotion; a page on a fast node that was not seen in use for
 * long may be demoted when room is needed there. That a page is touched is told by some sensor; where
 * a page is, by the caller.
 *
 *   touches ─► heat record ─► ready set ─► step ─► LOOK     where is this page? ─► tiering_place()
 *                                             ├──► DEMOTE   make room first    ─┐
 *                                             └──► PROMOTE                     ─┴► tiering_complete()
 *
 * An address space is cut into aligned windows of 64 MiB. A window is what has tables, at most 16
 * bytes a page, in memory of the caller; sparse spaces of any size cost what they use. What is mapped
 * and what not the engine does not know: a page that is not there ends its move with a reason.
 * A page mapped huge has one record, that of its first page, and moves whole.
 *
 * How it decides
 *   candidate   touched twice within HEAT_WINDOW_TICKS, or once soon after it became visible to the
 *               sensor, or once beside (in 64 KiB) such a page, each since it was known to be there: a
 *               page's first touch, which brings it, says nothing; on a slow node, and what it saves in the time
 *               it may be expected to stay is more than what its move costs, and that of the page
 *               that has to go for it; hottest class first, each space by its weight
 *   target      where the accessor runs, when the sensor knows; else the nodes where threads of the
 *               space run; then the nearest other fast node with room
 *   room        free pages above the reserve of the node. Without it pages wait while others are
 *               demoted: those not seen in use for `cold` long, a time that follows the demand
 *   hysteresis  a page stays its least residence; each return soon after a demotion doubles that, and
 *               asks for more touches
 *   thrash      when half of what is promoted had only just been demoted, promotion pauses, longer
 *               each time, and begins again with what pays
 *   refused     a page that would not move is left alone for a while that doubles; its heat is kept
 *
 * What must always hold: every page of a plan ends with exactly one reason, and
 * requested = moved + failed + dropped + pending. A page is in at most one plan at a time. Each candidate is
 * counted once, and so is what becomes of it.
 *
 * One thread at a time. The engine calls nothing; time comes in as an argument.
 */
#ifndef TIDE_TIERING_H
#define TIDE_TIERING_H

#include "heat.h"
#include "ready.h"
#include "reason.h"

#define TIERING_NODES_MAX 64u
#define TIERING_NODE_UNKNOWN 0xffu
#define TIERING_WINDOW_SHIFT 14u
#define TIERING_WINDOW_PAGES (1u << TIERING_WINDOW_SHIFT)
#define TIERING_HUGE_PAGES HEAT_BLOCK_PAGES
#define TIERING_BLOCKS (TIERING_WINDOW_PAGES / HEAT_BLOCK_PAGES)
#define TIERING_ARMS 4u
#define TIERING_WEIGHT_MAX 10u
#define TIERING_WEIGHT_DEFAULT 5u

/* A node is named by its place in this table, everywhere in the engine. */
struct tiering_node {
	bool fast;
	bool slow;           /* neither: left alone */
	uint32_t latency_ns; /* of a read from the CPUs nearest to it */
	uint16_t distance[TIERING_NODES_MAX]; /* to the others, as the kernel gives it */
};

struct tiering_config {
	uint32_t nr_nodes;
	struct tiering_node nodes[TIERING_NODES_MAX];
	uint64_t rate_pages_per_s; /* of promotions, at most 2^40; 0: not bounded */
	uint64_t residence_ns;     /* least time on a fast node; 0: the default */
};

/* What the caller measured just before it asks for a plan. */
struct tiering_need {
	uint64_t free_pages[TIERING_NODES_MAX];
	uint64_t reserve_pages[TIERING_NODES_MAX]; /* to be left free */
	uint64_t page_cost_ns, huge_cost_ns;       /* of a move, as measured; 0: the default */
	uint32_t max_spaces;                       /* that promote, and that demote, in one plan; 0: all */
};

struct tiering_page {
	uint32_t stamp;   /* tick: fast: arrival or last known use; slow: the last try or arrival */
	uint8_t node;     /* TIERING_NODE_UNKNOWN - its place: so 0 is unknown */
	uint8_t flags;
	uint8_t strikes;  /* times it came back soon after it was demoted */
	uint8_t backoff;  /* refusals in a row */
};

struct tiering_space;

struct tiering_window {
	uint64_t first_vpn; /* a multiple of TIERING_WINDOW_PAGES */
	struct tiering_space *space;
	_Atomic uint32_t *heat;
	struct tiering_page *pages;
	uint32_t nr_moving;                  /* moves under way */
	uint32_t nr_ready;                   /* marks, at most; for a quick look */
	uint32_t used;                       /* bit b: something was seen of block b; else it is all zero */
	uint16_t nr_fast[TIERING_BLOCKS];    /* pages known to be on a fast node */
	_Atomic uint32_t block_epoch[TIERING_BLOCKS];
	uint32_t armed[TIERING_BLOCKS][TIERING_ARMS]; /* ticks, the latest first; 0: none */
	struct ready ready;
};

struct tiering_counts { /* pages, since the space began */
	uint64_t requested, pending;
	uint64_t ended[REASON_COUNT];
	uint64_t promoted, demoted;
	/* What became of candidates: promotions + unpaid + thrash + lapsed + waiting. */
	uint64_t candidates;            /* found on a slow node with two touches; each time once */
	uint64_t promotions;            /* of those requested */
	uint64_t unpaid;                /* that were not worth their move */
	uint64_t thrash;                /* while promotion paused */
	uint64_t lapsed;                /* that cooled or went while they waited */
	uint64_t waiting;               /* now */
	uint64_t refused[REASON_COUNT]; /* that had to wait, for room or by the rate; some for both */
	uint64_t pingpong;              /* promoted again soon after they were demoted */
	uint64_t wasted;                /* demoted soon after they were promoted, not seen in use since */
	uint64_t touches, strays;       /* times; strays: where no window is */
	uint64_t touched;               /* pages, a huge one as 512, each time; but those that back off */
};

/* All of `more` is added to `sum`. */
void tiering_counts_add(struct tiering_counts *sum, const struct tiering_counts *more);

struct tiering_space {
	/* The caller's; may be changed between calls. */
	void *owner;
	uint32_t weight;           /* 0 .. TIERING_WEIGHT_MAX; 0: left alone */
	uint64_t fast_min_pages;   /* is not demoted below, for others */
	uint64_t fast_max_pages;   /* is not promoted above; UINT64_MAX: no cap */
	uint64_t homes;            /* bit n: threads of it run at node n; 0: unknown */
	/* The engine's; the array of windows, sorted, is memory of the caller. */
	struct tiering_window **windows;
	uint32_t nr_windows, max_windows;
	uint32_t read_window;      /* where the search for candidates goes on */
	uint64_t node_pages[TIERING_NODES_MAX]; /* known to be there */
	uint64_t moving_in_pages, moving_out_pages; /* promotions, demotions under way */
	uint64_t exchange_pages;   /* to go for others of its own: it is at its cap */
	struct tiering_counts counts;
	struct tiering_space *next, *previous;
};

enum tiering_op { TIERING_LOOK, TIERING_DEMOTE, TIERING_PROMOTE };

/* One page, or one huge page, of a plan. A plan is grouped by space, op and target. */
struct tiering_move {
	struct tiering_window *window;
	uint64_t vpn;
	uint32_t nr_pages;    /* 1 or TIERING_HUGE_PAGES */
	enum tiering_op op;
	uint8_t from, to;     /* places in the table of nodes; LOOK: none */
	/* Filled in by the caller. */
	uint32_t nr_moved;    /* of nr_pages; the rest ended with the reason */
	enum reason reason;   /* REASON_MOVED: all were moved */
};

struct tiering {
	struct tiering_config config;
	struct tiering_space *first, *reader, *victim;
	uint32_t victim_window, victim_block;
	uint32_t nr_spaces;
	uint64_t tokens_q20, token_time_ns;
	uint64_t gather_ns;        /* since when candidates are gathered for the next batch */
	/* What is demoted: pages not seen in use for this long. */
	uint64_t cold_ns;
	uint64_t pass_blocks, pass_found; /* since the hand began its pass */
	bool pass_wanted;                 /* and pages waited for what it finds */
	/* Thrash. */
	uint64_t judge_ns, judge_promoted, judge_pingpong;
	uint64_t pause_ns, pause_until_ns;
	uint64_t pair_pages[TIERING_NODES_MAX][TIERING_NODES_MAX]; /* moved from, to */
};

void tiering_init(struct tiering *tiering, const struct tiering_config *config);
/*
 * Nodes came, went, or are fast or slow now and were not before. Each keeps its place, new ones come
 * behind: nr_nodes never falls. One that went is neither fast nor slow; what was known to be there is
 * unknown now, and looked for when it is touched. Moves under way end as ever. Looks at every page.
 */
void tiering_nodes_set(struct tiering *tiering, const struct tiering_node *nodes, uint32_t nr_nodes);

/* ---- spaces and windows ---- */

/* `windows`: room for max_windows pointers. */
void tiering_space_add(struct tiering *tiering, struct tiering_space *space, void *owner,
		       struct tiering_window **windows, uint32_t max_windows);
/* All its windows are removed, so nothing of it is under way. */
void tiering_space_remove(struct tiering *tiering, struct tiering_space *space);
/* Give it a larger array; it is copied. Returns the old one. */
struct tiering_window **tiering_space_grow(struct tiering_space *space,
					   struct tiering_window **windows, uint32_t max_windows);

size_t tiering_window_bytes(void);
/* Zeroed, 64-byte aligned memory; nothing is written there that the use of its pages does not need. */
struct tiering_window *tiering_window_init(void *memory, uint64_t first_vpn);
/* -EEXIST, or -ENOSPC when the array is full. */
int tiering_window_add(struct tiering_space *space, struct tiering_window *window);
struct tiering_window *tiering_window_find(const struct tiering_space *space, uint64_t vpn);
/*
 * The windows wholly in [first, end) go, but those of which something is under way: what they knew is
 * forgotten, and each is given to `gone`, whose memory it is again. In one pass over them. Returns their number.
 */
uint32_t tiering_windows_remove(struct tiering *tiering, struct tiering_space *space, uint64_t first_vpn,
				uint64_t end_vpn, void (*gone)(struct tiering_window *window));

/* ---- what is seen ---- */

/* A page was touched, by a CPU at `node` (TIERING_NODE_UNKNOWN). */
void tiering_touch(struct tiering *tiering, struct tiering_space *space, uint64_t vpn, uint32_t node,
		   uint64_t now_ns);
/* A run was seen touched as one: each of its pages, a huge one once. */
void tiering_touch_run(struct tiering *tiering, struct tiering_space *space, uint64_t vpn,
		       uint64_t nr_pages, uint32_t node, uint64_t now_ns);
/*
 * From now on the sensor sees the next touch of each page of a range. A touch soon after that is
 * worth two: had the page not been in use, it would have come late or never. (Not of a page that
 * was not known to be anywhere yet.)
 */
void tiering_armed(struct tiering_space *space, uint64_t vpn, uint64_t nr_pages, uint64_t now_ns);
/*
 * nr_pages from `vpn` on are at `node`; TIERING_NODE_UNKNOWN: nothing is there. `huge`: they are
 * whole huge pages, aligned. Pages where no window is, or on the move, are left out. The heat of a
 * page that was not known to be anywhere before begins now. `now_ns` is not before it was found out.
 */
void tiering_place(struct tiering *tiering, struct tiering_space *space, uint64_t vpn,
		   uint64_t nr_pages, uint32_t node, bool huge, uint64_t now_ns);
/* They were freed or unmapped: their heat is lost. */
void tiering_forget(struct tiering *tiering, struct tiering_space *space, uint64_t vpn,
		    uint64_t nr_pages);

/* ---- what to do ---- */

/*
 * At most `max` moves, demotions before promotions; spaces that do not come into this plan are the first of
 * the next. Bounded work; *ret_again: there is more to do
 * at once. Looks are answered with tiering_place(); the others must come back to
 * tiering_complete(), each once.
 */
size_t tiering_step(struct tiering *tiering, uint64_t now_ns, const struct tiering_need *need,
		    struct tiering_move *plan, size_t max, bool *ret_again);
/* LOOKs among them are passed over. */
void tiering_complete(struct tiering *tiering, const struct tiering_move *moves, size_t nr,
		      uint64_t now_ns);

/* ---- what is known ---- */

/* Pages of a space that are known to be on fast nodes now. */
uint64_t tiering_fast_pages(const struct tiering *tiering, const struct tiering_space *space);

enum tiering_heat { TIERING_HOT, TIERING_WARM, TIERING_COLD, TIERING_HEATS };
struct tiering_census {
	uint64_t pages[TIERING_NODES_MAX][TIERING_HEATS];
};
/* Hot: two touches in the window and the last within it, or fast and within its residence; warm: seen
 * in use within a minute. Looks at every page. */
void tiering_census(const struct tiering *tiering, const struct tiering_space *space, uint64_t now_ns,
		    struct tiering_census *ret_census);

/* Walks everything; NULL when all holds, else a static text that names what does not. */
const char *tiering_check(const struct tiering *tiering);

#endif
