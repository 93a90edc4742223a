#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""24 processes that start, fork, exec, unmap and die at random while pagetide moves their pages.

    tests/vm/bench_storm.py [--build build] [--seconds N] [--out FILE]

The case `storm` of run.py, five minutes of it unless said, with all that came out of its guest kept: what the
processes did and compared (vm_storm), what was moved to and fro meanwhile (vm_chase), the daemon's report when that
ended and at the end, and what the kernel counted between the two. A wrong byte, or sums that do not agree, end it
without a result.
"""
import argparse
import json
import os
import sys

from guest import ROOT, Missing, kernel, prerequisites
from run import STORM_LONG_S, STORM_MOVES, Place, all_moves, storm_judge, storm_seen

sys.path.insert(0, os.path.join(ROOT, "tools"))

from commit import result_head
from harness import Failed


def short(report):
    """A report with the sums of all processes in the place of each, for they are hundreds."""
    short_report = {name: value for name, value in report.items() if name not in ("spaces", "shared")}
    short_report["moves"] = all_moves(report)
    short_report["processes"] = {"named": len(report["spaces"]), "gone": report["gone"]["processes"],
                                 "live": sum(not space["ended"] for space in report["spaces"])}
    return short_report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "results", "storm.json"))
    parser.add_argument("--force", action="store_true", help="of changed sources, too")
    options = parser.parse_args()
    results = {
        "measure": "storm", "command": "tests/vm/bench_storm.py " + " ".join(sys.argv[1:]),
        **result_head(options.force), "seconds": options.seconds,
    }
    place = Place(os.path.join(options.build, "pagetide"), os.path.join(options.build, "tests", "live"),
                  os.path.join(options.build, "tests", "vm"), options.seconds)
    try:
        prerequisites()
        results["guest_kernel"] = os.path.basename(kernel())
        files = storm_seen(place, options.seconds)
        results["judged"] = storm_judge(files, STORM_MOVES if options.seconds >= STORM_LONG_S else 0).splitlines()
    except (Missing, Failed) as reason:
        sys.exit(f"bench_storm: {reason}")
    for name in ("storm", "chase", "begin", "end"):
        results[name] = json.loads(files[name])
    results["begin"], results["end"] = short(results["begin"]["report"]), short(results["end"])
    results["kernel"] = files["kernel"].splitlines()
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    print("\n".join(results["judged"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
