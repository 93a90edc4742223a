/* SPDX-License-Identifier: MIT */
/*
 * The lock of src/os/rwlock.h: its word, and how who waits falls asleep and is woken. Two that share it and two
 * that want to have it, each a few times. What must hold: nobody is in beside one who has it; all come to their end, though
 * no wait has a limit here.
 */
#ifndef ROUNDS
#define ROUNDS 2
#endif

bool exclusive, sharers_wait;
byte waiting, sharers;
byte turn;         /* changes at every wake-up, and never comes round */
byte asleep;       /* bit of each thread */
byte inside, alone;

#define FREE_SHARED (!exclusive && waiting == 0)
#define FREE_ALONE (!exclusive && sharers == 0)

/* The futex: asleep only if the word is as it was seen; a wake-up reaches all. */
inline wait_turn()
{
	atomic {
		if
		:: turn == seen -> asleep = asleep | (1 << _pid)
		:: else
		fi
	};
	!(asleep & (1 << _pid));
}

inline wake()
{
	atomic { turn = turn + 1 };
	atomic { asleep = 0 }
}

active [2] proctype sharer()
{
	byte n = 0, seen;
	bool had, said;

	do
	:: n < ROUNDS ->
		n++;
		had = false;
		do
		:: had -> break
		:: else ->
			seen = turn;
			atomic {
				if
				:: FREE_SHARED -> sharers++; had = true
#ifdef BAD_NOT_SAID
				:: else
#else
				:: else -> sharers_wait = true
#endif
				fi
			};
			if
			:: !had -> wait_turn()
			:: else
			fi
		od;
		inside++;
		assert(alone == 0);
		inside--;
		/* Given back: the word, then those who wait. */
		atomic { said = waiting > 0 && sharers == 1; sharers-- };
		if
		:: said -> wake()
		:: else
		fi
	:: else -> break
	od
}

active [2] proctype owner()
{
	byte n = 0, seen;
	bool had, said;

	do
	:: n < ROUNDS ->
		n++;
		atomic {
			had = FREE_ALONE;
			if
			:: had -> exclusive = true
			:: else
			fi
		};
		if
		:: !had -> waiting++
		:: else
		fi;
		do
		:: had -> break
		:: else ->
#ifdef BAD_TURN_LATE
			skip;
#else
			seen = turn;
#endif
			atomic {
				if
				:: FREE_ALONE -> waiting--; exclusive = true; had = true
				:: else
				fi
			};
#ifdef BAD_TURN_LATE
			seen = turn;
#endif
			if
			:: !had -> wait_turn()
			:: else
			fi
		od;
		alone++;
		assert(alone == 1 && inside == 0);
		alone--;
		atomic { said = waiting > 0 || sharers_wait; exclusive = false; sharers_wait = false };
		if
		:: said -> wake()
		:: else
		fi
	:: else -> break
	od
}
