/* SPDX-License-Identifier: MIT */
/*
 * A block of two pages that comes and goes in one piece, and everybody who may meet on it: a program
 * thread that touches, another that discards, a handler that puts the block back (or fills it), one that
 * serves single pages and reads events, the mover that takes it out whole, stores its pages one by one and
 * drops places. What concerns one page alone is in page.pml.
 *
 * What is modelled beyond that
 *   kernel    a huge page comes apart at any moment; a move of one goes whole, goes in part, does not go,
 *             or goes and answers EAGAIN with no bytes; so does a move of a single page
 *   server    two words claimed one after the other; the lock, shared, from the first claim to the last
 *             word; the helper, which one has at a time and who holds the lock only tries for; places that
 *             are free at once when a block has left them
 *   hold      two places, so that a page of the block taken out again gets what was just given back
 *
 * Contents, `allow`, and what must hold are as in page.pml.
 */
#ifndef OPS_A
#define OPS_A 2
#endif
#ifndef OPS_B
#define OPS_B 1
#endif
#ifndef HOLDS
#define HOLDS 2 /* times the mover may take something out */
#endif

#define HOLE 15 /* nothing there: reading it is an error */

#define ABSENT 0
#define RESIDENT 1
#define HELD 2
#define STORED 3
#define FILLING 4
#define RETURNING 6
#define HOLDING 7
#define STORING 8

/* ---- kernel ---- */
bool mapped[2];
byte content[2];
byte changing;
byte fault[2];     /* of a thread, by its number: 0 none, 1 not yet read, 2 read, it sleeps */
byte fault_page[2];
bool asleep[2];
byte event = 2;    /* a discard that was not read yet: the thread; 2: none */
bool event_page[2];
bool huge;         /* the program's block is one huge page */
bool place_huge;   /* so is what the two places hold */

/* ---- server ---- */
bool exclusive;
byte sharers;
bool helper;       /* somebody has it */
byte state[2], mark[2];
byte stored[2];    /* what the tier holds for a page: HOLE or its content */
byte place_content[2];
byte place_use[2]; /* 0 free, 1 owned by a word, 2 to be dropped */
bool whole;        /* a huge page went to the places; it may be gone again */
byte stage[2];
bool ready = true; /* a block of zeros in the stock */

/* ---- oracle ---- */
byte allow[2];     /* bit set of contents that a read may see */
byte doomed[2];
bool window[2];
byte writes;
byte nr_done;

#define has_place(i) (state[i] == HELD || state[i] == STORING || state[i] == RETURNING)

inline audit()
{
	d_step {
		assert((place_use[0] == 1) == ((has_place(0) && mark[0] == 0) || (has_place(1) && mark[1] == 0)));
		assert((place_use[1] == 1) == ((has_place(0) && mark[0] == 1) || (has_place(1) && mark[1] == 1)));
		assert((state[0] == STORED) == (stored[0] != HOLE));
		assert((state[1] == STORED) == (stored[1] != HOLE))
	}
}

inline wake(i)
{
	if
	:: fault[0] && fault_page[0] == i -> fault[0] = 0; fault_page[0] = 0
	:: else
	fi;
	if
	:: fault[1] && fault_page[1] == i -> fault[1] = 0; fault_page[1] = 0
	:: else
	fi
}

/* ---- the program ---- */

inline touch(t, i, writing)
{
	do
	:: atomic {
		mapped[i] ->
		if
		:: writing ->
			writes++;
			content[i] = writes;
			allow[i] = (1 << content[i]) | (window[i] -> 1 : 0)
		:: else ->
			assert(allow[i] & (1 << content[i]));
			if
			:: content[i] == 0 -> allow[i] = 1
			:: else
			fi
		fi;
		break
	}
	:: atomic { !mapped[i] -> fault[t] = 1; fault_page[t] = i }; fault[t] == 0
	od
}

/* Of one page or of both; the zap comes some time after the event was read. */
inline discard_pages(t, first, last)
{
	atomic {
		event == 2 ->
		changing++;
		for (d : first .. last) {
			window[d] = true;
			doomed[d] = allow[d] & 254;
			allow[d] = allow[d] | 1;
			event_page[d] = true
		}
		asleep[t] = true;
		event = t
	};
	!asleep[t];
	changing--;
	atomic {
		for (d : first .. last) {
			if
			:: mapped[d] -> allow[d] = 1
			:: else -> allow[d] = allow[d] & ~doomed[d]
			fi;
			mapped[d] = false;
			content[d] = 0;
			window[d] = false;
			doomed[d] = 0
		}
		huge = false;
		d = 0
	}
}

proctype thread_a()
{
	byte n = 0, d = 0;

	do
	:: n < OPS_A ->
		n++;
		if
		:: touch(0, 0, true)
		:: touch(0, 1, false)
		:: discard_pages(0, 0, 1)
		:: discard_pages(0, 1, 1)
		fi
	:: else -> break
	od;
	atomic { nr_done++; n = 0 }
}

proctype thread_b()
{
	byte n = 0;

	do
	:: n < OPS_B ->
		n++;
		if
		:: touch(1, 0, false)
		:: touch(1, 1, true)
		fi
	:: else -> break
	od;
	atomic { nr_done++; n = 0 }
}

/* Short of memory: what is one huge page comes apart, whoever has it in hand. */
proctype splitter()
{
end:
	do
	:: huge -> huge = false
	:: place_huge -> place_huge = false
	od
}

/* ---- put: the helper moves a block into the program ---- */

#define NOT 0
#define AGAIN 1
#define DONE 2

/* One page (moved[] is the handler's) from its place, or from the stock, unless something is there. */
inline piece(i, from)
{
	if
	:: !mapped[i] ->
		mapped[i] = true;
		content[i] = (from == 2 -> 0 : place_content[i]);
		if
		:: from != 2 -> place_content[i] = HOLE
		:: else
		fi;
		moved[i] = true
	:: else
	fi
}

/*
 * The answer of the kernel's call, and where the pages are. `from`: 2, the stock; else the places. What a
 * call says of a block that came apart is not looked at; only where its pages are.
 */
inline put(from, how)
{
	atomic {
		if
		:: from != 2 && !place_huge -> how = NOT
		:: !(from != 2 && !place_huge) && changing > 0 -> how = AGAIN
		:: !(from != 2 && !place_huge) && changing == 0 ->
			if
			:: how = NOT
			:: how = AGAIN
			:: !mapped[0] && !mapped[1] -> /* in one piece, whatever it answers */
				piece(0, from);
				piece(1, from);
				huge = true;
				if
				:: from != 2 -> place_huge = false
				:: else
				fi;
#ifdef BAD_TRUST_AGAIN
				if
				:: how = DONE
				:: how = AGAIN; moved[0] = false; moved[1] = false
				fi
#else
				how = DONE
#endif
			:: piece(0, from); /* it comes apart on its way */
				if
				:: from != 2 -> place_huge = false
				:: else
				fi;
				how = DONE
			fi
		fi
	};
	/* What is left, page by page: it goes, or not. */
	if
	:: how == DONE && !moved[1] ->
		atomic {
			if
			:: changing == 0 -> piece(1, from)
			:: skip
			fi
		}
	:: else
	fi
}

inline page_known(i, from)
{
	if
	:: moved[i] && from != 2 ->
		assert(place_use[i] == 1);
		place_use[i] = 0;
		place_content[i] = HOLE;
		state[i] = RESIDENT; mark[i] = 0
	:: moved[i] && from == 2 -> state[i] = RESIDENT
	:: !moved[i] && from != 2 && state[i] == RETURNING -> state[i] = HELD
	:: !moved[i] && from == 2 && state[i] == FILLING -> state[i] = ABSENT
	:: else
	fi;
	wake(i)
}

#ifdef BAD_NO_LOCK
#define LOCK_TAKE skip
#define LOCK_GIVE skip
#else
#define LOCK_TAKE sharers++
#define LOCK_GIVE sharers--
#endif
#define RETURNABLE(i) (state[i] == HELD && mark[i] == i)

/* Serve a fault by a block, if it is one; `blocked` says whether that has settled it. */
inline serve_block(how, from, blocked)
{
	/* The lock, shared; what it is; the first claim. */
	atomic {
		!exclusive ->
		if
		:: state[0] == ABSENT && state[1] == ABSENT && ready && !helper -> from = 2; state[0] = FILLING; ready = false
		:: RETURNABLE(0) && RETURNABLE(1) && whole && !helper -> from = 0; state[0] = RETURNING
		:: ((state[0] == ABSENT && state[1] == ABSENT && ready) || (RETURNABLE(0) && RETURNABLE(1) && whole)) &&
			helper -> blocked = true /* it may wait for our lock */
		:: else
		fi;
		if
		:: from != 3 -> helper = true; LOCK_TAKE
		:: else
		fi
	};
	if
	:: from == 3
	:: else ->
		/* The mover, or who serves a page singly, may come between. */
		atomic {
			if
			:: from == 2 && state[1] == ABSENT -> state[1] = FILLING; claimed = true
			:: from == 0 && RETURNABLE(1) -> state[1] = RETURNING; claimed = true
			:: else
			fi
		};
		if
		:: claimed -> put(from, how)
		:: else
		fi;
		atomic {
			if
			:: from == 0 && how != AGAIN -> whole = false
			:: else
			fi;
#ifdef BAD_KEEP_CLAIM
			if
			:: how == DONE -> page_known(0, from); page_known(1, from)
			:: else
			fi;
#else
			page_known(0, from);
			page_known(1, from);
#endif
			ready = true; /* the helper makes it anew where it did not stay whole */
			blocked = moved[0] || moved[1] || how == AGAIN;
			helper = false;
			LOCK_GIVE;
			moved[0] = false;
			moved[1] = false;
			how = NOT;
			claimed = false;
			from = 3;
			audit()
		}
	fi
}

/* ---- the server's handlers ---- */

/* A single page (later[] is the handler's); one step, for the word is claimed and made known under the lock. */
inline serve_page(i)
{
	atomic {
		!exclusive ->
		if
		:: changing > 0 && state[i] != HOLDING -> later[i] = true
		:: changing == 0 && state[i] == ABSENT ->
			if
			:: mapped[i]
			:: else -> mapped[i] = true; content[i] = 0; state[i] = RESIDENT
			fi;
			wake(i)
		:: changing == 0 && state[i] == RESIDENT ->
			if
			:: mapped[i]
			:: else -> mapped[i] = true; content[i] = 0
			fi;
			wake(i)
		:: changing == 0 && state[i] == STORED ->
			assert(!mapped[i]);
			mapped[i] = true; content[i] = stored[i]; stored[i] = HOLE; state[i] = RESIDENT; wake(i)
		:: changing == 0 && (state[i] == HELD || state[i] == STORING) ->
			assert(!mapped[i] && place_content[mark[i]] != HOLE);
			mapped[i] = true; content[i] = place_content[mark[i]];
			place_use[mark[i]] = 2; state[i] = RESIDENT; mark[i] = 0; wake(i)
		:: state[i] == HOLDING -> wake(i)
		/* The winner wakes everybody when it is done. */
		:: changing == 0 && (state[i] == FILLING || state[i] == RETURNING)
		fi;
		i = 0;
		audit()
	}
}

inline page_discard(i)
{
	if
	:: event_page[i] ->
		if
		:: has_place(i) -> place_use[mark[i]] = 2
		:: else
		fi;
		stored[i] = HOLE;
		state[i] = ABSENT;
		mark[i] = 0;
		event_page[i] = false
	:: else
	fi
}

#define unread(t) (fault[t] == 1)

/* Two: one goes for blocks, for the helper lets only one at a time. */
proctype handler(bool blocks)
{
	byte i = 0, how = NOT, from = 3;
	bool blocked = false, claimed = false;
	bool moved[2], later[2]; /* a fault is to be looked at again */

end:
	do
	:: atomic {
		(unread(0) || unread(1)) && !exclusive && sharers == 0 ->
		if
		:: unread(0) -> fault[0] = 2; i = fault_page[0]
		:: unread(1) -> fault[1] = 2; i = fault_page[1]
		fi
	};
again:
		if
		:: blocks -> serve_block(how, from, blocked)
		:: else
		fi;
		if
		:: atomic { blocked -> later[i] = true; blocked = false; i = 0 }
		:: !blocked -> serve_page(i)
		fi
	:: atomic {
		changing == 0 && (later[0] || later[1]) ->
		if
		:: later[0] -> i = 0
		:: later[1] -> i = 1
		fi;
		later[i] = false
	};
		if
		:: goto again
		:: serve_page(i)
		fi
	:: atomic {
		!unread(0) && !unread(1) && event != 2 && !exclusive && sharers == 0 ->
		exclusive = true;
		asleep[event] = false; /* from here on the program goes on */
		event = 2
	};
		atomic { page_discard(0); page_discard(1); exclusive = false; audit() }
	od
}

/* ---- the mover ---- */

#ifdef BAD_MOVER_TRUSTS_AGAIN
#define LOOKED false
#else
#define LOOKED true /* where the pages are, not what the call said */
#endif

/* The whole block into the stage and on, or one page of it. */
inline hold_block()
{
	atomic {
		!helper && !exclusive ->
		helper = true;
		sharers++;
		if
		:: state[0] == RESIDENT && state[1] == RESIDENT && place_use[0] == 0 && place_use[1] == 0 ->
			state[0] = HOLDING; state[1] = HOLDING
		:: else -> goto held
		fi
	};
	atomic {
		if
		:: changing == 0 && huge && mapped[0] && mapped[1] ->
			stage[0] = content[0]; stage[1] = content[1];
			mapped[0] = false; mapped[1] = false;
			content[0] = 0; content[1] = 0;
			huge = false;
			if
			:: reported = true
			:: reported = LOOKED /* EAGAIN with no bytes */
			fi
		:: skip
		fi
	};
	atomic {
		if
		:: stage[0] != HOLE && reported ->
			place_content[0] = stage[0]; place_content[1] = stage[1];
			place_use[0] = 1; place_use[1] = 1;
			place_huge = true; whole = true;
			state[0] = HELD; mark[0] = 0;
			state[1] = HELD; mark[1] = 1
		:: else -> state[0] = RESIDENT; state[1] = RESIDENT
		fi;
		stage[0] = HOLE; stage[1] = HOLE;
		reported = false;
		audit();
held:
		sharers--;
		helper = false
	}
}

inline hold_page(i, p)
{
	atomic {
		!helper && !exclusive ->
		p = (place_use[0] == 0 -> 0 : (place_use[1] == 0 -> 1 : 2));
		if
		:: p < 2 && state[i] == RESIDENT && mapped[i] && changing == 0 ->
			huge = false;
			place_content[p] = content[i]; place_use[p] = 1;
			mapped[i] = false; content[i] = 0;
			state[i] = HELD; mark[i] = p
		:: else
		fi;
		p = 0;
		audit()
	}
}

inline store_page(i, v, p)
{
	atomic { state[i] == HELD -> state[i] = STORING; p = mark[i] };
	/* Read without the lock: the place is not given to another page meanwhile. */
	atomic {
		v = place_content[p];
		assert(v != HOLE || state[i] != STORING || mark[i] != p)
	};
	atomic {
		!exclusive ->
		if
		:: state[i] == STORING && mark[i] == p ->
			assert(v != HOLE);
			stored[i] = v; place_use[p] = 2; state[i] = STORED; mark[i] = 0
		:: else
		fi;
		v = 0;
		p = 0;
		audit()
	}
}

inline drop_places()
{
	atomic {
		!helper ->
		if
		:: place_use[0] == 2 -> place_use[0] = 0; place_content[0] = HOLE; place_huge = false
		:: else
		fi;
		if
		:: place_use[1] == 2 -> place_use[1] = 0; place_content[1] = HOLE; place_huge = false
		:: else
		fi
	}
}

proctype mover()
{
	byte v = 0, p = 0, holds = 0;
	bool reported = false;

end:
	do
	:: atomic { holds < HOLDS && state[0] == RESIDENT && state[1] == RESIDENT -> holds++ };
		hold_block()
	:: atomic { holds < HOLDS && state[0] == RESIDENT -> holds++ };
		hold_page(0, p)
	:: store_page(0, v, p)
	:: store_page(1, v, p)
	:: place_use[0] == 2 || place_use[1] == 2 -> drop_places()
	od
}

init {
	atomic {
		allow[0] = 1; allow[1] = 1;
		place_content[0] = HOLE; place_content[1] = HOLE;
		stored[0] = HOLE; stored[1] = HOLE;
		stage[0] = HOLE; stage[1] = HOLE;
		run thread_a();
		run thread_b();
		run handler(true);
		run handler(false);
		run mover();
		run splitter()
	}
}

#ifdef LIVE
ltl done { <> (nr_done == 2) }
#endif
