/* SPDX-License-Identifier: MIT */
/*
 * A helper that does not answer: it may stop before any of its steps and go on whenever it likes, that is what
 * interleaving means here. One page is taken out; the server waits, gives up, and revokes (src/space/frozen.c); the
 * program writes, reads, and replaces the mapping by another, which is not managed: of that no touch is told.
 *
 * What is modelled
 *   kernel    moves into the stage only while that is registered with the program's userfaultfd, and nothing while an
 *             event waits; a hole of the managed mapping faults, one of the other reads as zeros
 *   helper    one step a call: into the stage, on to the place, the reply; then the drop
 *   server    the lock from the claim to the last word; events and faults are read by who has it alone
 *
 * `allow` is what the program must read.
 */
#define HOLE 15 /* nothing there */

#define RESIDENT 1
#define HELD 2      /* in the command's place */
#define HELD_APART 3
#define HOLDING 4
#define NOT_OURS 5

byte page = 1, allow = 1;
byte stage = HOLE, place = HOLE, apart = HOLE;
bool stage_ours = true; /* registered with the program's own */
bool changing;          /* an event waits */
bool managed = true;
bool locked;
bool fault;
byte word = RESIDENT;
byte command;           /* 0 none, 1 move, 2 drop; and the replies */
bool replied, moved, frozen, over;

active proctype helper()
{
	bool taken;
end:	do
	:: command == 1 && !replied ->
		taken = false;
		atomic {
			if
			:: stage_ours && !changing && page != HOLE ->
				stage = page;
				page = HOLE;
				taken = true
			:: else
			fi
		}
		atomic {
			if
			:: taken -> place = stage; stage = HOLE
			:: else
			fi
		}
		atomic { moved = taken; replied = true }
	:: command == 2 && !replied ->
		stage = HOLE;
		place = HOLE;
		replied = true
	:: over -> break
	od
}

/* Where the page is, once nothing takes it any more. */
inline look(got)
{
	byte first = HOLE;
#ifdef BAD_PLACE_FIRST
	got = place;
	if
	:: got == HOLE -> got = stage
	:: else
	fi
#else
	first = stage;
	if
	:: first != HOLE ->
		got = stage; /* read */
#ifndef BAD_LOOK_ONCE
		if
		:: stage == HOLE -> got = HOLE
		:: else
		fi
#endif
	:: else
	fi;
#ifdef BAD_LOOK_ONCE
	if
	:: first == HOLE -> got = place
	:: else
	fi
#else
	if
	:: got == HOLE -> got = place
	:: else
	fi
#endif
#endif
}

active proctype server()
{
	byte got = HOLE;

	if
	:: atomic { !locked && word == RESIDENT -> locked = true; word = HOLDING }
	:: word == NOT_OURS -> goto done
	fi;
	command = 1;
	if
	:: replied ->
		atomic {
			word = (moved -> HELD : RESIDENT);
			command = 0;
			replied = false;
			locked = false
		};
		goto done
	:: true /* no reply in time */
	fi;
	frozen = true;
#ifndef BAD_NO_REVOKE
	stage_ours = false;
#endif
	look(got);
	atomic {
		if
		:: got != HOLE && !changing && page == HOLE -> page = got; word = RESIDENT
		:: got != HOLE && changing -> apart = got; word = HELD_APART
		:: else -> word = RESIDENT
		fi;
		locked = false
	};
	replied -> atomic { command = 2; replied = false };
	replied -> atomic { command = 0; replied = false; stage_ours = true; frozen = false };
done:	over = true
}

/* Reads what waits, and serves. */
active proctype handler()
{
end:	do
	:: atomic { !locked && changing -> word = NOT_OURS; changing = false }
	:: atomic { !locked && fault && !changing ->
		if
		:: word == HELD -> page = place; place = HOLE; word = RESIDENT
		:: word == HELD_APART -> page = apart; apart = HOLE; word = RESIDENT
		:: word == RESIDENT && page == HOLE -> page = 0
		:: else
		fi;
		fault = false }
	od
}

inline touch()
{
	do
	:: atomic { page != HOLE -> break }
	:: atomic { page == HOLE && !managed -> page = 0; break }
	:: atomic { page == HOLE && managed && !fault -> fault = true };
		!fault
	od
}

inline read_page()
{
	touch();
	if
	:: atomic { page != HOLE -> v = page; assert(v == allow) }
	:: page == HOLE /* taken again at once: the next read tells */
	fi
}

active proctype program()
{
	byte v;

	read_page();
	touch();
	if
	:: atomic { page != HOLE -> page = 2; allow = 2 }
	:: page == HOLE
	fi;
	read_page();
	/* Another mapping in its place. */
	atomic { changing = true; page = HOLE };
	!changing;
	atomic { managed = false; page = 3; allow = 3 };
	over;
	read_page();
}
