/* SPDX-License-Identifier: MIT */
/*
 * One page, and everybody who may meet on it: two program threads, two fault handlers, the mover,
 * the kernel that zaps and reclaims, and a forked child. Checked exhaustively by spin (see `run`).
 *
 * What is modelled
 *   kernel    a page table entry (mapped or not, content, shared by fork, lazily freed), the queues
 *             of the userfaultfd (faults are read before events), `changing` (raised with an event,
 *             lowered by the program thread after it was read: installs and moves fail meanwhile)
 *   server    the page's state word, slots with counts, places of the hold area, one lock per space:
 *             exclusive for {read a message, change the table}, shared for {check the word, act,
 *             change the word}
 *   contents  every write has its own number; 0 is a page of zeros. `allow` is the set of contents
 *             that a read may see now; it is what a machine without us would allow, except that a
 *             write by another thread while DONTNEED is under way may be lost until that returns.
 *
 * What must hold: a read sees an allowed content; no slot or place is dropped twice or leaked
 * (audit()); no content is read from a place that was dropped; nobody waits for ever (no invalid end
 * state; with LIVE: every thread ends under weak fairness, once the mover has used up its moves).
 *
 * Scenarios: FREE (default), FORK, UNMAP. Each BAD_* leaves out one rule; `run` proves that the model
 * then fails, so that a passing model means something.
 */

#ifndef OPS_A
#define OPS_A 3
#endif
#ifndef OPS_B
#define OPS_B 2
#endif
#ifndef HOLDS
#define HOLDS 3 /* times the mover may take the page out */
#endif

#define NR_SLOTS 3
#define NR_PLACES 2
#define HOLE 15 /* nothing there: reading it is an error */
#define GONE 14 /* reclaimed by the kernel after a lazy free: reads as zeros */

/* states of the word, as in region.h */
#define ABSENT 0
#define RESIDENT 1
#define HELD 2
#define STORED 3
#define FILLING 4
#define LOADING 5
#define RETURNING 6
#define HOLDING 7
#define STORING 8

/* messages */
#define REMOVE 1
#define FORKED 2

/* ---- kernel: the program's page ---- */
bool mapped;         /* the page table entry is set */
byte content;        /* valid while mapped */
bool cow;            /* mapped in the child too, not written since: cannot be moved */
bool lazy;           /* MADV_FREE, not written since: may vanish */
bool foreign;        /* UNMAP: the address belongs to another, unregistered mapping now */
byte changing;       /* mmap_changing */
byte fault[2];       /* a thread's fault: 0 none, 1 not yet read, 2 read, thread sleeps */
bool asleep[2];      /* thread sleeps until its event was read */
chan events = [2] of { byte, byte };

/* ---- kernel: the child's page ---- */
bool kid_mapped;
byte kid_content;
byte kid_fault;
byte kid_allow;

/* ---- server ---- */
bool exclusive;
byte sharers;
byte state, mark, slot;  /* the word; mark: place or cookie */
bool shadow;
byte kid_state, kid_slot, kid_cookie;
byte slot_content[NR_SLOTS];
byte slot_refs[NR_SLOTS];
byte place_content[NR_PLACES];
bool place_lazy[NR_PLACES];
byte place_use[NR_PLACES]; /* 0 free, 1 owned by the word, 2 to be dropped by the mover */
byte new_slot = NR_SLOTS;  /* the mover's own reference: stored, not yet published */
byte stage = HOLE;         /* what is on its way out */
bool stage_lazy;

/* ---- oracle ---- */
byte allow = 1;      /* bit set of contents that a read may see */
byte doomed;         /* contents that end when the DONTNEED under way ends */
bool window;         /* a DONTNEED or FREE is under way */
byte writes;         /* numbers given out */
byte nr_done;

#define has_slot (state == STORED || state == LOADING || shadow)
#define has_place (state == HELD || state == STORING || state == RETURNING)
#define kid_has_slot (kid_state == STORED || kid_state == LOADING)

/* Everything the word names is counted once, and nothing else is. Called inside atomic. */
inline audit()
{
	d_step {
		byte i = 0;
		do
		:: i < NR_SLOTS ->
			assert(slot_refs[i] == (has_slot && slot == i) + (kid_has_slot && kid_slot == i) + (new_slot == i));
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < NR_PLACES ->
			assert((place_use[i] == 1) == (has_place && mark == i));
			assert(place_use[i] == 0 || place_content[i] != HOLE);
			i++
		:: else -> break
		od;
		i = 0
	}
}

/*
 * A shared section of one step is just atomic { !exclusive -> ... }: that others may come in before
 * and after the step adds nothing. Longer ones take the lock.
 */
inline lock_shared() { atomic { !exclusive -> sharers++ } }
inline unlock_shared() { sharers-- }

inline wake()
{
	fault[0] = 0;
	fault[1] = 0
}

inline unref(s)
{
	assert(slot_refs[s] > 0);
	slot_refs[s]--;
	if
	:: slot_refs[s] == 0 -> slot_content[s] = HOLE
	:: else
	fi
}

inline place_done(p)
{
	assert(place_use[p] == 1);
	place_use[p] = 2
}

/* REMOVE or UNMAP was read: from any state to ABSENT. */
inline discard()
{
	if
	:: has_slot -> unref(slot)
	:: else
	fi;
	if
	:: has_place -> place_done(mark)
	:: else
	fi;
	state = ABSENT;
	mark = 0;
	slot = 0;
	shadow = false
}

/* ---- the program ---- */


inline read_page(t)
{
	do
	:: atomic {
		mapped ->
		assert(allow & (1 << content));
		if
		:: content == 0 -> allow = 1
		:: else
		fi;
		break
	}
	:: atomic { !mapped && foreign -> mapped = true; content = 0 }
	:: atomic { !mapped && !foreign -> fault[t] = 1 }; fault[t] == 0
	od
}

inline write_page(t)
{
	do
	:: atomic {
		mapped ->
		writes++;
		content = writes;
		lazy = false;
		cow = false;
		allow = (1 << content) | (window -> 1 : 0);
		break
	}
	:: atomic { !mapped && foreign -> mapped = true; content = 0 }
	:: atomic { !mapped && !foreign -> fault[t] = 1 }; fault[t] == 0
	od
}

/* The event comes first, the zap some time after it was read. */
inline discard_page(t)
{
	atomic {
		changing++;
		window = true;
		doomed = allow & 254;
		allow = allow | 1;
		asleep[t] = true;
		events!REMOVE,t
	};
	!asleep[t];
	changing--;
	atomic {
		if
		:: mapped -> allow = 1
		:: else -> allow = allow & ~doomed
		fi;
		mapped = false;
		content = 0;
		cow = false;
		lazy = false;
		window = false;
		doomed = 0
	}
}

/* The same event, but the page stays until the kernel wants its memory. */
inline free_page(t)
{
	atomic {
		changing++;
		window = true;
		allow = allow | 1;
		asleep[t] = true;
		events!REMOVE,t
	};
	!asleep[t];
	changing--;
	atomic {
		lazy = mapped;
		window = false;
		allow = allow | 1
	}
}

#ifdef FORK
inline fork_program(t)
{
	atomic {
		changing++;
		kid_mapped = mapped;
		kid_content = content;
		kid_allow = allow;
		cow = mapped;
		asleep[t] = true;
		events!FORKED,t
	};
	!asleep[t];
	changing--;
	run child()
}
#endif

#ifdef UNMAP
/* Unmapped at once, then the event; the address may be given to another thread meanwhile. */
inline unmap_page(t)
{
	atomic {
		changing++;
		mapped = false;
		content = 0;
		foreign = true;
		allow = 1;
		asleep[t] = true;
		events!REMOVE,t
	};
	!asleep[t];
	changing--
}
#endif

proctype thread_a()
{
	byte n = 0;
	bool forked = false;

	do
	:: n < OPS_A ->
		n++;
		if
#ifdef UNMAP
		:: n == OPS_A -> unmap_page(0)
		:: n < OPS_A -> read_page(0)
		:: n < OPS_A -> write_page(0)
#else
		:: read_page(0)
		:: write_page(0)
#ifdef FORK
		:: !forked -> forked = true; fork_program(0)
#else
		:: free_page(0)
#endif
		:: discard_page(0)
#endif
		fi
	:: else -> break
	od;
#ifdef FORK
	if
	:: forked
	:: else -> nr_done++
	fi;
#endif
	nr_done++
}

proctype thread_b()
{
	byte n = 0;

#ifdef UNMAP
	/* The other thread that the kernel gives the address to. */
	foreign;
#endif
	do
	:: n < OPS_B ->
		n++;
		if
		:: read_page(1)
		:: write_page(1)
		fi
	:: else -> break
	od;
	nr_done++
}

#ifndef FORK
/* The kernel may take a lazily freed page at any time, in the hold area too. */
proctype reclaim()
{
end:
	do
	:: atomic { mapped && lazy -> mapped = false; lazy = false; content = 0 }
	:: atomic { place_use[0] && place_lazy[0] && place_content[0] != GONE ->
		place_content[0] = GONE; place_lazy[0] = false }
	:: atomic { place_use[1] && place_lazy[1] && place_content[1] != GONE ->
		place_content[1] = GONE; place_lazy[1] = false }
	od
}
#endif

#ifdef FORK
proctype child()
{
	byte n = 0;

	do
	:: n < 2 ->
		n++;
		do
		:: atomic { kid_mapped -> assert(kid_allow & (1 << kid_content)); break }
		:: atomic { !kid_mapped -> kid_fault = 1 }; kid_fault == 0
		od;
		if
		:: atomic { kid_mapped -> kid_content = 7; kid_allow = 128 }
		:: skip
		fi
	:: else -> break
	od;
	/* Exit: the table goes, with what it names. */
	atomic {
		sharers == 0 && !exclusive && kid_state != LOADING && kid_state != FILLING ->
		if
		:: kid_has_slot -> unref(kid_slot)
		:: else
		fi;
		kid_state = ABSENT;
		kid_slot = 0;
		kid_mapped = false;
		kid_content = 0;
		audit()
	};
	nr_done++
}

/* FORK was read, lock held: the child's table from the parent's. */
inline fork_table(v)
{
	if
	:: atomic { state == RESIDENT || state == HOLDING -> kid_state = RESIDENT }
	:: atomic { state == STORED || state == LOADING ->
		kid_state = STORED; kid_slot = slot; slot_refs[slot]++ }
	:: atomic { state == ABSENT || state == FILLING -> kid_state = ABSENT }
	:: atomic { has_place -> v = mark };
		/* The place is read a while after it was looked up; the mover must not drop it. */
		atomic {
			assert(place_content[v] != HOLE);
			if
			:: !kid_mapped -> kid_mapped = true; kid_content = place_content[v]
			:: else /* it has the page, by the kernel's copy */
			fi;
			kid_state = RESIDENT;
			v = 0
		}
	fi
}

inline serve_child(me, v)
{
	atomic {
		if
		:: kid_state == STORED -> kid_state = LOADING; kid_cookie = me; v = slot_content[kid_slot]
		:: kid_state == ABSENT -> kid_state = FILLING; kid_cookie = me; v = 0
		:: kid_state == RESIDENT ->
			if
			:: !kid_mapped -> kid_mapped = true; kid_content = 0
			:: else
			fi;
			kid_fault = 0; v = HOLE
		fi
	};
	if
	:: v == HOLE
	:: else ->
		atomic {
			if
			:: !kid_mapped -> kid_mapped = true; kid_content = v
			:: else
			fi;
			if
			:: kid_state == LOADING -> unref(kid_slot); kid_slot = 0
			:: else
			fi;
			kid_state = RESIDENT; kid_cookie = 0; kid_fault = 0
		}
	fi;
	v = 0
}
#endif

/* ---- the server's fault handlers ---- */

/*
 * Serve a fault, or a deferred one. `ret_defer`: the kernel said EAGAIN; the claim was given back and
 * the fault must be looked at afresh later.
 */
inline serve(me, v, s, ret_defer)
{
	if
	:: atomic { state == ABSENT -> state = FILLING; mark = me };
		atomic {
			!exclusive ->
			if
			:: !(state == FILLING && mark == me) -> wake()
			:: else ->
				if
				:: changing > 0 ->
#ifndef BAD_KEEP_CLAIM
					state = ABSENT; mark = 0;
#endif
					ret_defer = true
				:: changing == 0 && mapped ->
					/* Whose page that is, nobody knows: it may be about to be zapped. */
#ifdef BAD_EEXIST_RESIDENT
					state = RESIDENT;
#else
					state = ABSENT;
#endif
					mark = 0; wake()
				:: changing == 0 && !mapped ->
					mapped = true; content = 0; lazy = false; cow = false;
					state = RESIDENT; mark = 0; wake()
				fi
			fi;
			audit()
		}
	:: atomic { state == STORED -> state = LOADING; mark = me; s = slot };
		/* Decompressed without a lock: the slot may go meanwhile, the bytes are then thrown away. */
		v = slot_content[s];
		atomic {
			!exclusive ->
			if
			:: !(state == LOADING && mark == me && slot == s) -> wake()
			:: else ->
				if
				:: changing > 0 ->
#ifndef BAD_KEEP_CLAIM
					state = STORED; mark = 0;
#endif
					ret_defer = true
				:: changing == 0 ->
					assert(!mapped);
					mapped = true; content = v; lazy = false; cow = false;
					state = RESIDENT; mark = 0; shadow = true; wake()
				fi
			fi;
			audit()
		};
		v = 0;
		s = 0
	:: atomic { state == HELD || state == STORING ->
		state = RETURNING; s = mark
#ifdef BAD_READ_UNLOCKED
		};
		atomic { v = place_content[s]
#endif
		};
		lock_shared();
		if
		:: atomic { !(state == RETURNING && mark == s) -> wake() }
		:: atomic { state == RETURNING && mark == s ->
#ifndef BAD_READ_UNLOCKED
			v = place_content[s];
			assert(v != HOLE);
#endif
			};
			atomic {
				if
				:: v == GONE -> v = 0
				:: else
				fi;
				if
				:: !(state == RETURNING && mark == s) -> wake()
				:: else ->
					if
					:: changing > 0 ->
#ifndef BAD_KEEP_CLAIM
						state = HELD;
#endif
						ret_defer = true
					:: changing == 0 ->
						assert(!mapped);
						mapped = true; content = v; lazy = false; cow = false;
						place_done(s);
						state = RESIDENT; mark = 0; wake()
					fi
				fi;
				audit()
			}
		fi;
		unlock_shared();
		v = 0;
		s = 0
	:: atomic { state == RESIDENT ->
#ifdef BAD_RESIDENT_WAKE
		wake() }
#else
		};
		/* Missing though it is RESIDENT: zapped after its event was read, so it is zeros. */
		atomic {
			!exclusive ->
			if
			:: state != RESIDENT || (changing == 0 && mapped) -> wake()
			:: state == RESIDENT && changing > 0 -> ret_defer = true
			:: state == RESIDENT && changing == 0 && !mapped ->
				mapped = true; content = 0; lazy = false; cow = false; wake()
			fi
		}
#endif
#ifdef BAD_HOLDING_WAIT
	:: state == HOLDING
#else
	:: atomic { state == HOLDING -> wake() }
#endif
	/* The winner wakes everybody when it is done. */
	:: state == FILLING || state == LOADING || state == RETURNING
	fi
}

/* A fault, not an event, is read if there is one. */
#define fault_unread (fault[0] == 1 || fault[1] == 1)

proctype handler(byte me)
{
	byte v = 0, s = 0, kind = 0, who = 0;
	bool defer = false;

end:
	do
	:: atomic {
		fault_unread && !exclusive && sharers == 0 ->
		if
		:: fault[0] == 1 -> fault[0] = 2
		:: fault[1] == 1 -> fault[1] = 2
		fi
	};
		serve(me, v, s, defer)
#ifdef BAD_NO_EXCLUSIVE
	:: atomic { !fault_unread && nempty(events) -> events?kind,who; asleep[who] = false };
#else
	:: atomic {
		!fault_unread && nempty(events) && !exclusive && sharers == 0 ->
		exclusive = true;
		events?kind,who;
		asleep[who] = false /* from here on the program goes on */
	};
#endif
#ifdef FORK
		if
		:: kind == FORKED -> fork_table(v)
		:: else -> atomic { discard(); audit() }
		fi;
#else
		atomic { discard(); audit() };
#endif
		atomic { kind = 0; who = 0; exclusive = false }
	:: atomic { defer && changing == 0 -> defer = false };
		serve(me, v, s, defer)
#ifdef FORK
	/* The child's userfaultfd is shown to the handlers once its table is made. */
	:: atomic { kid_fault == 1 && !exclusive -> kid_fault = 2 };
		serve_child(me, v)
#endif
	od
}

/* ---- the mover ---- */

/*
 * Out of the program: with the lock held shared, into the stage, a look where the page is if the answer
 * does not say that it went, and from the stage into the hold area. The kernel may move a page and
 * answer EEXIST; it answers that as well when the program has read the stage, which leaves zeros there. It may
 * also move it and answer EAGAIN, with no bytes, as it does when it has moved nothing.
 */
#define STAYS 0
#define WENT 1
#define EEXIST 2
#define AGAIN 3

#ifdef BAD_NO_STAGE
/* Straight into the hold area, whose userfaultfd has no events. */
#define MOVE_MAY true
#else
#define MOVE_MAY changing == 0
#endif
#ifdef BAD_MOVE_NO_CHECK
#define STILL_MINE true
#else
#define STILL_MINE state == HOLDING /* else an event took it */
#endif

inline leave(p, how)
{
	atomic {
		if
		:: place_use[0] == 0 -> p = 0
		:: place_use[0] != 0 && place_use[1] == 0 -> p = 1
		:: else -> p = NR_PLACES
		fi;
		how = STAYS;
		if
		:: STILL_MINE && p < NR_PLACES && MOVE_MAY ->
			if
			:: mapped && !cow ->
				stage = content; stage_lazy = lazy;
				mapped = false; content = 0; lazy = false;
				if
				:: how = WENT
				:: how = EEXIST
				:: how = AGAIN
				fi
			:: !mapped || cow
			:: !mapped || cow -> how = AGAIN
			:: stage = 0; stage_lazy = false; how = EEXIST /* read by the program before */
			fi
		:: else -> how = AGAIN
		fi
	}
}

/* Where is it? A page at its old place is the same one, unless an event waits for us. */
inline look(how)
{
	atomic {
		if
		:: how == EEXIST ->
#ifdef BAD_EEXIST_DROP
			stage = HOLE; how = STAYS
#else
			if
			:: stage == 0 -> stage = HOLE; how = STAYS /* zeros are worth nothing */
			:: stage != 0 ->
				assert(!mapped || changing > 0);
				how = WENT
			fi
#endif
		:: how == AGAIN ->
#ifdef BAD_AGAIN_STAYS
			stage = HOLE; how = STAYS
#else
			if
			:: stage == HOLE -> how = STAYS
			:: stage != HOLE ->
				assert(!mapped || changing > 0);
				how = WENT
			fi
#endif
		:: else
		fi
	}
}

inline arrive(p, how)
{
	atomic {
		if
		:: how == WENT ->
#ifdef BAD_MOVE_NO_CHECK
			discard();
#endif
			assert(stage != HOLE);
			place_use[p] = 1;
			place_content[p] = stage;
			place_lazy[p] = stage_lazy;
			stage = HOLE; stage_lazy = false;
			state = HELD; mark = p
		:: how != WENT && state == HOLDING -> state = RESIDENT
		:: else
		fi;
		sharers--;
		p = 0;
		how = STAYS;
		audit()
	}
}

inline take_out(p, how)
{
	lock_shared();
	leave(p, how);
	look(how);
	arrive(p, how)
}

#ifdef BAD_PUBLISH_UNLOCKED
#define MOVER_MAY true
#else
#define MOVER_MAY !exclusive
#endif

inline publish(v, p)
{
#ifdef BAD_FREE_FIRST
	atomic { if :: state == STORING && mark == p -> place_use[p] = 0; place_content[p] = HOLE
		    :: else fi };
#endif
	atomic {
		MOVER_MAY ->
		if
		:: new_slot == NR_SLOTS -> /* no room: it stays where it is, if it is still there */
			if
			:: state == STORING && mark == p -> state = HELD
			:: else
			fi
		:: new_slot < NR_SLOTS && state == STORING && mark == p ->
			if
			:: shadow && slot_content[slot] == v -> unref(new_slot) /* proved unwritten */
			:: shadow && slot_content[slot] != v -> unref(slot); slot = new_slot
			:: !shadow -> slot = new_slot
			fi;
#ifndef BAD_FREE_FIRST
			place_done(p);
#endif
			state = STORED; mark = 0; shadow = false; new_slot = NR_SLOTS
		:: new_slot < NR_SLOTS && !(state == STORING && mark == p) ->
#ifndef BAD_KEEP_CANCELLED
			unref(new_slot);
#endif
			new_slot = NR_SLOTS
		fi;
		audit()
	}
}

inline drop_places()
{
	atomic {
		MOVER_MAY ->
		if
		:: place_use[0] == 2 -> place_use[0] = 0; place_content[0] = HOLE; place_lazy[0] = false
		:: else
		fi;
		if
		:: place_use[1] == 2 -> place_use[1] = 0; place_content[1] = HOLE; place_lazy[1] = false
		:: else
		fi
	}
}

proctype mover()
{
	byte v = 0, p = 0, holds = 0, how = STAYS;

end:
	do
	:: atomic { state == RESIDENT && holds < HOLDS -> state = HOLDING; holds++ };
		take_out(p, how)
#ifdef BAD_RESCAN
	/* "It is mapped, so it is resident": adopted although a zap may be on its way. */
	:: atomic { state == ABSENT && mapped && holds < HOLDS -> state = RESIDENT }
#endif
	:: atomic { state == HELD -> state = STORING; p = mark };
		atomic {
			v = place_content[p];
			assert(v != HOLE);
			if
			:: v == GONE -> v = 0
			:: else
			fi
		};
		atomic {
			if
			:: slot_refs[0] == 0 -> new_slot = 0
			:: slot_refs[0] != 0 && slot_refs[1] == 0 -> new_slot = 1
			:: slot_refs[0] != 0 && slot_refs[1] != 0 && slot_refs[2] == 0 -> new_slot = 2
			:: else
			fi;
			if
			:: new_slot < NR_SLOTS -> slot_refs[new_slot] = 1; slot_content[new_slot] = v
			:: else
			fi
		};
		publish(v, p);
		v = 0;
		p = 0
	:: place_use[0] == 2 || place_use[1] == 2 -> drop_places()
	od
}

init {
	atomic {
		place_content[0] = HOLE;
		place_content[1] = HOLE;
		slot_content[0] = HOLE;
		slot_content[1] = HOLE;
		slot_content[2] = HOLE;
		run thread_a();
		run thread_b();
		run handler(1);
		run handler(2);
		run mover()
#ifndef FORK
		;
		run reclaim()
#endif
	}
}

#ifdef LIVE
#ifdef FORK
ltl done { <> (nr_done == 3) }
#else
ltl done { <> (nr_done == 2) }
#endif
#endif
