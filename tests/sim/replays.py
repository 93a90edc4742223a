#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The simulation by its seed: the same again, told when it fails, and failed when it met too little.

usage: replays.py SIM
"""
import re
import signal
import subprocess
import sys
import time

SIM = sys.argv[1]


def sim(*words):
    done = subprocess.run([SIM, *words], stdout=subprocess.PIPE, check=False)
    return done.returncode, done.stdout.decode()


def check(true, what):
    if not true:
        sys.exit("not ok: " + what)


def the_same_again():
    first, again, other = (sim("--seed", seed, "--steps", "4000", "--trace") for seed in ("7", "7", "8"))
    check(first[0] == 0 and first == again, "one seed, two runs")
    check(first[1] != other[1], "another seed, the same run")
    steps = re.findall(r"^(\d+): act ", first[1], re.M)
    check(steps == [str(step) for step in range(4000)], "steps are missing in the trace")


def catches(process, number):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"^SigCgt:\s*(\w+)$", file.read(), re.M)[1], 16) >> (number - 1) & 1


def a_failure_says_how_to_replay_it():
    """It fails here when it is told to, at no step that anybody chose."""
    process = subprocess.Popen([SIM, "--seed", "9", "--steps", "1000000000"], stdout=subprocess.PIPE)
    while not catches(process, signal.SIGABRT) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(1)
    process.send_signal(signal.SIGABRT)
    said = process.communicate()[0].decode()
    check(process.returncode == 1, f"it ended with {process.returncode}")
    found = re.search(r"^FAILED: .*\nseed 9 step (\d+); replay: (--seed 9 --steps (\d+) --trace)$", said, re.M)
    check(found and int(found[3]) == int(found[1]) + 1, f"said: {said[-300:]}")
    status, trace = sim(*found[2].split())
    # Where it meets nothing, all that is left to say against it is that so few steps have met too little.
    check(status == 0 or "too rarely" in trace, trace[-300:])
    steps = re.findall(r"^(\d+): act .*$", trace, re.M)
    check(steps and steps[-1] == found[1], f"the replay ends with step {steps[-1:]}, not {found[1]}")


def too_little_is_a_failure():
    status, said = sim("--seed", "3", "--steps", "500000")
    check(status == 1 and re.search(r"^RARE ", said, re.M), "so few steps have met all there is")
    check(re.search(r"^FAILED: \d+ things were met too rarely; seed 3$", said, re.M), said[-300:])


if __name__ == "__main__":
    the_same_again()
    a_failure_says_how_to_replay_it()
    too_little_is_a_failure()
