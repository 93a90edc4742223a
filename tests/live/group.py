#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs in a control group whose limit is less than they need: nobody is killed for memory there.

Each case makes a group of its own below ours, version 1 or 2, whichever has the memory controller, and
removes it again however the case ends. Where no group can be made the cases are skipped.
"""
import contextlib
import os
import signal
import subprocess
import sys
import time

from harness import MIB, Failed, Late, Skipped, check, judge_end, judge_stats, stats_now, tail, tests_main

LIMIT_MIB = 384
# What programs fill eight of.
PIECE_MIB = 78
# For those that go on until they are stopped, and use two and a little more of these.
SMALL_MIB = 128
HELD_MIB = 48
JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
FILES = {
    1: {"limit": "memory.limit_in_bytes", "used": "memory.usage_in_bytes", "killed": "memory.oom_control"},
    2: {"limit": "memory.max", "used": "memory.current", "killed": "memory.events"},
}


class Killed(Late):
    """The kernel killed in a group. New memory fills for some milliseconds before it is seen, on a busy machine for
    more."""


def our_group():
    """(version, folder) of the group of this process with a memory controller."""
    mounts = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            left, _, right = line.rstrip("\n").partition(" - ")
            kind, _, options = right.split(" ")[:3] # what is mounted may have no name
            if kind == "cgroup" and "memory" in options.split(","):
                mounts[1] = left.split()[4]
            elif kind == "cgroup2":
                mounts[2] = left.split()[4]
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, name = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(",") and 1 in mounts:
                return 1, mounts[1] + name.rstrip("/")
            if not controllers and 2 in mounts and 1 not in mounts:
                return 2, mounts[2] + name.rstrip("/")
    raise Skipped("no control group with a memory controller is mounted")


class Group:
    """A control group that goes away with the `with` block, and its processes with it."""

    def __init__(self, name, above=None):
        self.version, folder = (above.version, above.folder) if above else our_group()
        self.files = FILES[self.version]
        if self.version == 2:
            with contextlib.suppress(OSError), \
                    open(os.path.join(folder, "cgroup.subtree_control"), "w", encoding="ascii") as file:
                file.write("+memory")
        self.folder = os.path.join(folder, f"pagetide-{name}-{os.getpid()}")
        try:
            os.mkdir(self.folder)
        except OSError as error:
            raise Skipped(f"no control group can be made: {error}") from error
        if not os.access(os.path.join(self.folder, self.files["limit"]), os.W_OK):
            os.rmdir(self.folder)
            raise Skipped("a new control group has no memory limit to set")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for pid in self.read("cgroup.procs").split():
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                os.rmdir(self.folder)
                return
            except OSError:
                time.sleep(0.1)
        raise Failed(f"{self.folder} cannot be removed")

    def read(self, name):
        with open(os.path.join(self.folder, name), encoding="ascii") as file:
            return file.read()

    def limit(self, mib):
        """Set it; the kernel refuses what it cannot make room for (version 1), so that is tried again."""
        deadline = time.monotonic() + 60
        while True:
            try:
                with open(os.path.join(self.folder, self.files["limit"]), "w", encoding="ascii") as file:
                    file.write(str(mib * MIB))
                return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Late(f"limit {mib}M: {error}, {self.used_mib():.0f}M used") from error
            time.sleep(0.1)

    def used_mib(self):
        return int(self.read(self.files["used"])) / MIB

    def killed(self):
        """How often the kernel killed for want of memory here."""
        return sum(int(line.split()[1]) for line in self.read(self.files["killed"]).splitlines()
                   if line.split()[0] == "oom_kill")

    def prefix(self):
        return ["sh", "-c", JOIN, self.folder]


def bound_mib(stats):
    """What it gives the programs, and what it has itself in its pool and its tables."""
    dram, pool = stats["tiers"]
    return dram["capacity_bytes"] / MIB, (pool["used_bytes"] + pool["metadata_bytes"]) / MIB


def judge_bytes(result):
    """A wrong byte is told before anything that is only late."""
    said = result.errors + result.output
    check(b"MISMATCH" not in said, tail(said))


def judge_group(result, group):
    judge_bytes(result)
    if group.killed():
        raise Killed(f"the kernel killed in the group: {tail(result.errors)}")
    judge_end(result)
    judge_stats(result.stats)


def run_in(place, group, case, tiers=(), options=(), piece_mib=PIECE_MIB, **more):
    try:
        return place.run([os.path.join(place.programs, "live_hold"), case], piece_mib, tiers=list(tiers),
                         options=options, prefix=group.prefix(), limit_mib=LIMIT_MIB, **more)
    except Failed as reason: # who was waited for may be gone
        if group.killed() and "MISMATCH" not in str(reason):
            raise Killed(f"the kernel killed in the group: {reason}") from reason
        raise


def needs_more(tiers=(), options=()):
    """Needs half as much again as the group may have; every byte is compared."""
    def run(place):
        with Group("more") as group:
            group.limit(LIMIT_MIB)
            result = run_in(place, group, "allocates-fast", tiers, options)
            judge_group(result, group)
            given, own = bound_mib(result.stats)
            check(given + own <= bound_of(LIMIT_MIB) + 1,
                  f"{given:.0f}M and {own:.0f}M of our own")
            return f"{given:.0f}M for the program, {own:.0f}M of our own in {LIMIT_MIB}M"
    return run


def nested(place):
    with Group("above") as above:
        above.limit(LIMIT_MIB)
        with Group("below", above) as group:
            group.limit(8 * LIMIT_MIB)
            result = run_in(place, group, "allocates-fast")
            judge_bytes(result)
            if above.killed():
                raise Killed("the kernel killed in the group above")
            judge_group(result, group)


def wait_for(place, process, what, true):
    """Until `true` of the statistics."""
    deadline, seen = time.monotonic() + 60, None
    while time.monotonic() < deadline:
        seen = stats_now(place, process)
        if seen and true(seen):
            return seen
        time.sleep(0.1)
    raise Late(f"{what}: {seen and seen['tiers']}")


def bound_of(limit_mib):
    """90 %, or in a small group what leaves some to new memory."""
    return limit_mib - max(limit_mib / 10, min(64, limit_mib / 4))


def between(least_mib, most_mib):
    """Whether what the programs and we may have together lies there."""
    def true(stats):
        return stats["demoted_pages"] > 0 and least_mib < sum(bound_mib(stats)) < most_mib
    return true


def bounded_by(mib):
    """90 % of a limit; a little less where the kernel itself has much."""
    return between(bound_of(mib) * 0.88, bound_of(mib) + 0.5)


def limit_changes(place):
    """Lower by steps, as far as what is charged allows for, and higher again, while it runs."""
    # What is charged stays until room is made below the limit as it was.
    steps = (122, 116, 110, 104, 150)

    def during(process):
        wait_for(place, process, f"the bound is not 90 % of {SMALL_MIB}M", bounded_by(SMALL_MIB))
        for mib in steps:
            group.limit(mib)
            wait_for(place, process, f"the bound did not follow to {mib}M", bounded_by(mib))
        process.send_signal(signal.SIGINT)

    with Group("changes") as group:
        group.limit(SMALL_MIB)
        judge_group(run_in(place, group, "hold-until-signal", piece_mib=HELD_MIB, during=during), group)
    return "followed to " + ", ".join(f"{mib}M" for mib in steps)


HOARD_MIB = 30
HOARD = f"""
import sys, time
hoard = []
while len(hoard) < {HOARD_MIB}:
    hoard.append(b"x" * (1 << 20))
    time.sleep(0.15)
print(len(hoard), flush=True)
sys.stdin.read()
"""


def others_in_it(place):
    """What others in the group have is not there for the program; it is again when they have gone."""
    def during(process):
        before = wait_for(place, process, "the bound is not 90 %", bounded_by(SMALL_MIB))
        other = subprocess.Popen([*group.prefix(), sys.executable, "-c", HOARD], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        try:
            check(int(other.stdout.readline() or 0) == HOARD_MIB, "the other one did not get its memory")
            wait_for(place, process, f"no room was made: {bound_mib(before)}", between(40, bound_of(SMALL_MIB) - 8))
        finally:
            other.communicate()
        wait_for(place, process, "the room was not used again", bounded_by(SMALL_MIB))
        process.send_signal(signal.SIGINT)

    with Group("others") as group:
        group.limit(SMALL_MIB)
        judge_group(run_in(place, group, "hold-until-signal", piece_mib=HELD_MIB, during=during), group)


CASES = {
    "group-default-bound": needs_more(),
    "group-dram-bound-above-it": needs_more(["dram:370M", "lz4"]),
    "group-memory-bound": needs_more(options=["--memory", f"{LIMIT_MIB}M"]),
    "group-above-is-tighter": nested,
    "group-limit-changes": limit_changes,
    "group-with-others": others_in_it,
}


if __name__ == "__main__":
    sys.exit(tests_main(CASES))
