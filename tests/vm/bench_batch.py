#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One page per call against batches: what move_pages costs by the number of pages in a call.

    tests/vm/bench_batch.py [--build build] [--runs N] [--out FILE]

In each run 64 MiB of a process go from the slow node to the fast one in calls of each size (see
prog_batch.c), in one guest while the process sleeps and in one while it writes to its pages at random;
in a third these are huge pages, one to a call. How long its touches take is the stall that a batch causes.
All is emulated: the sizes may be compared with each other and with nothing else.
"""
import argparse
import json
import os
import sys

from guest import ROOT, Guest, Machine, Missing, kernel

sys.path.insert(0, os.path.join(ROOT, "tools"))

from commit import result_head

OWNERS = ("sleeping", "touching", "huge")


def measure(build, owner):
    guest = Guest(Machine(thp="madvise"), [(os.path.join(build, "tests", "vm", "vm_batch"), None)])
    result = guest.run(f"vm_batch {owner}", timeout_s=170)
    if result.status != 0:
        sys.exit(f"bench_batch: {result.reason or result.errors.decode()}")
    return [json.loads(line) for line in result.output.decode().splitlines()]


def show(owner, rows):
    for row in rows:
        if "batch_pages" not in row:
            print(f"{owner}: {row}")
    rows = [row for row in rows if "batch_pages" in row]
    if rows:
        print(f"{owner}: {'pages/call':>10} {'us/page':>8} {'times one':>9} {'longest touch ms':>17}")
    for row in rows:
        print(f"{'':{len(owner)}}  {row['batch_pages']:>10} {row['ns_per_page'] / 1e3:>8.1f}"
              f" {rows[0]['ns_per_page'] / row['ns_per_page']:>9.1f} {row['longest_touch_ns'] / 1e6:>17.1f}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "results", "batch.json"))
    parser.add_argument("--force", action="store_true", help="of changed sources, too")
    options = parser.parse_args()
    results = {
        "measure": "batch", "command": "tests/vm/bench_batch.py " + " ".join(sys.argv[1:]),
        **result_head(options.force), "runs": [],
    }
    try:
        results["guest_kernel"] = os.path.basename(kernel())
        for _ in range(options.runs):
            run = {owner: measure(os.path.realpath(options.build), owner) for owner in OWNERS}
            for owner, rows in run.items():
                show(owner, rows)
            results["runs"].append(run)
    except Missing as reason:
        sys.exit(f"bench_batch: {reason}")
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
