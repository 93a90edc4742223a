#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Soak: the programs of run.py that are hardest on the page protocol, over and over, side by side.

Several copies share the CPUs, so that threads of the server and of the programs are stopped at places
where they never are when they run alone. Each copy goes through all cases in its own order until the
time is up. Every byte is compared by the programs themselves; the budget is not judged, as nothing here
gets the CPU it needs. One TAP line a case, with what it did in all.
"""
import argparse
import os
import random
import re
import sys
import threading
import time

from harness import (Failed, Place, Skipped, Tap, Unproved, check, end_on_signals, judge_end,
                     judge_stats, tail)

BUDGET_MIB = 32
TIERS = [f"dram:{BUDGET_MIB}M", "lz4"]
# (program, case): storms of events, forks, threads, moved mappings.
CASES = [
    ("advice", "madvise-storm-rule12"), ("advice", "dontneed-while-demoted-rule07"),
    ("advice", "dontneed-with-readers-rule06"), ("advice", "madv-free-rule07"),
    ("map", "mremap-move-part"), ("map", "mremap-target-touched-rule08"),
    ("map", "munmap-partial"), ("map", "mmap-fixed-over-rule09"),
    ("fork", "fork-beside-busy-threads"), ("fork", "grandchildren-rule04"),
    ("fork", "fork-parent-exits-first-rule04"), ("fork", "many-short-children"),
    ("change", "changed-then-forked-threaded"),
    ("thread", "threads-come-and-go"), ("thread", "eight-threads-random"),
    ("thread", "many-faulting-threads-rule20"),
]
# Other processes than the one asked for may say that all is well.
OUTPUT = (b"", b"child ok\n")


class Count:
    """What became of all runs of one case."""

    def __init__(self):
        self.runs = self.idle = self.demoted = self.promoted = self.faults = 0
        self.failures = []
        self.skipped = None

    def text(self):
        return (f"{self.runs} runs, {len(self.failures)} failed, {self.idle} proved nothing; "
                f"pages demoted {self.demoted}, brought back {self.promoted}, faults {self.faults}")


def run_once(place, program, name, count, lock):
    result = place.run([os.path.join(place.programs, f"live_{program}"), name], BUDGET_MIB,
                       timeout_s=300, tiers=TIERS)
    # Side by side it may come to nothing: what is to be out of memory stays where others press harder.
    if result.status == 1 and b"left memory under pressure" in result.errors:
        raise Unproved(tail(result.errors))
    judge_end(result)
    check(result.output in OUTPUT, f"printed: {result.output[:200]}")
    judge_stats(result.stats)
    with lock:
        count.demoted += result.stats["demoted_pages"]
        count.promoted += result.stats["promoted_pages"]
        count.faults += result.stats["faults"]["count"]


def copy_main(place, cases, counts, end_s, lock, seed):
    order = list(cases)
    random.Random(seed).shuffle(order)
    at = 0
    while time.monotonic() < end_s:
        program, name = order[at % len(order)]
        at += 1
        count = counts[name]
        try:
            run_once(place, program, name, count, lock)
        except Skipped as reason:
            count.skipped = str(reason)
        except Unproved:
            with lock:
                count.idle += 1
        except (Failed, OSError, KeyError, ValueError) as reason:
            with lock:
                count.failures.append(f"{type(reason).__name__}: {reason}")
        with lock:
            count.runs += 1


def judge(count):
    if count.skipped:
        raise Skipped(count.skipped)
    check(not count.failures, count.text() + "\n" + "\n".join(count.failures[:5]))
    check(not count.runs or count.idle < count.runs, count.text())
    return count.text() if count.runs else "the time was up before its turn"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pagetide", required=True, help="the program to test")
    parser.add_argument("--programs", required=True, help="folder of the live_* programs")
    parser.add_argument("--minutes", type=float, default=5, help="how long")
    parser.add_argument("--copies", type=int, default=3, help="how many side by side")
    parser.add_argument("--seed", type=int, default=1, help="of the orders")
    parser.add_argument("--only", default="", help="a pattern that the names must match")
    options = parser.parse_args()
    cases = [case for case in CASES if re.search(options.only, case[1])]
    places = [Place(options.pagetide, options.programs) for _ in range(options.copies)]
    reason = places[0].why_not()
    if reason or not cases:
        print(f"1..0 # SKIP {reason or 'no such case'}")
        return 0
    end_on_signals(places)
    counts = {name: Count() for _, name in cases}
    lock = threading.Lock()
    end_s = time.monotonic() + options.minutes * 60
    copies = [threading.Thread(target=copy_main, daemon=True,
                               args=(place, cases, counts, end_s, lock, options.seed + i))
              for i, place in enumerate(places)]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join()
    tap = Tap(counts)
    for name, count in counts.items():
        tap.case(name, lambda _, count=count: judge(count), None)
    print(f"# {options.copies} copies, {options.minutes:g} minutes, "
          f"{sum(count.runs for count in counts.values())} runs")
    for place in places:
        place.close()
    return 1 if tap.nr_failed else 0


if __name__ == "__main__":
    sys.exit(main())
