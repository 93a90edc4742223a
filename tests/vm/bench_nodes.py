#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`pagetide run` on two nodes: beside the others who can tier, and with other constants.

    tests/vm/bench_nodes.py [--build build] [--pattern P]... [--mover M]... [--sweep NAME=A,B,...]...
                            [--add] [--out FILE]

One guest per pattern, in which the movers take their turns: nothing, the kernel's NUMA balancing by
tiers, pagetide attach, and pagetide run, which has FAST MiB of the fast node. Each turn is a new
vm_hot, all of it on the slow node; CONVERGE seconds after it is ready its hot set becomes another
one, for MOVED seconds. --sweep adds a turn for each value of a constant of the
engine or of attach's sensor (see CONSTANTS), built for it in a folder of its own. With --add the runs that are
in the file stay: a sweep that takes too long for one go is made in pieces, a few values with a turn of the
present ones in each, against which they are read.

All is emulated: touches of the slow node cost no more there than those of the fast one, so speed
says what a mover costs and not what it gains. Figures of one guest may be compared with each other
and with nothing else. Every byte is compared at the end of a turn; a wrong one fails it.
"""
import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

from bench_tiering import (FAST, MIB, MOVERS, SECOND, SLOW, between, counted, json_lines, result_head,
                           results_write, seconds_until, worked_ns)
from guest import ROOT, Guest, Machine, Missing, kernel, product

PATTERNS = ("contiguous", "pages")
OTHERS = ("none", "kernel", "pagetide")
# Constants that may be swept: whose they are, and where.
CONSTANTS = {
    "RATE_FIRST": ("run", "src/core/exchange.c"), "HOT_SHARE": ("run", "src/core/exchange.c"),
    "WAIT_SHARE": ("run", "src/core/exchange.c"), "LOOK_MS": ("run", "src/core/exchange.c"),
    "HEAT_WINDOW_TICKS": ("run", "src/core/heat.h"), "SLOW_LOOK_BLOCKS": ("run", "src/core/plan.c"),
    "HANDLER_RUNS": ("run", "src/space/order.c"), "SWEEP_WANT_NS": ("pagetide", "src/sense/sweep.c"),
    "AHEAD_COPY_MAX": ("run", "src/core/ahead.h"), "GATHER_NS": ("pagetide", "src/core/tiering_plan.c"),
}
RUN = """
@PATH@pagetide run --quiet --tier node:@FAST@,size=@BUDGET@M --tier node:@SLOW@ \\
	--stats $RESULTS/@NAME@.stats -- vm_hot @HOT@ > $RESULTS/@NAME@.hot 2> $RESULTS/@NAME@.errors &
"""
ALONE = "vm_hot @HOT@ > $RESULTS/@NAME@.hot 2> $RESULTS/@NAME@.errors &\n"
TURN = """
now() { cut -d ' ' -f 1 /proc/uptime; }
@START@
hot=$!
until grep -q ready $RESULTS/@NAME@.hot || ! kill -0 $hot; do sleep 0.1; done
vm_sample 1000 > $RESULTS/@NAME@.samples &
sample=$!
on=$(now)
@ON@
sleep @CONVERGE@
kill -USR1 $hot
moved=$(now)
sleep @MOVED@
off=$(now)
kill -TERM $hot
@OFF@
kill $sample
wait $hot
echo "{\\"status\\": $?, \\"on\\": $on, \\"moved\\": $moved, \\"off\\": $off, \\"ended\\": $(now)}" \\
	> $RESULTS/@NAME@.turn
wait $sample
"""


def sweep_source(options):
    """A copy of the source, set up to be built; made once."""
    source = os.path.join(options.build, "sweep", "source")
    if not os.path.exists(os.path.join(source, "build", "build.ninja")):
        shutil.copytree(ROOT, source, symlinks=True, dirs_exist_ok=True,
                        ignore=lambda where, names: [one for one in names if one in (".git", "shared")
                                                     or where == ROOT and one.startswith("build")])
        subprocess.run(["meson", "setup", os.path.join(source, "build"), source], check=True,
                       stdout=subprocess.DEVNULL)
    return source


def product_with(options, name, value):
    """The product with one constant changed, in a folder of its own."""
    folder = os.path.join(options.build, "sweep", f"{name}-{value}")
    source = sweep_source(options)
    build = os.path.join(source, "build")
    path = os.path.join(source, CONSTANTS[name][1])
    with open(path, encoding="utf-8") as file:
        before = file.read()
    text, nr = re.subn(rf"(#define {name} (?:UINT64_C\()?)\d+", rf"\g<1>{value}", before)
    if nr != 1:
        raise ValueError(f"{name} is not one constant of {CONSTANTS[name][1]}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    subprocess.run(["ninja", "-C", build, "pagetide", "src/inject/libpagetide-inject.so"], check=True,
                   stdout=subprocess.DEVNULL)
    for one, _ in product(build):
        to = os.path.join(folder, os.path.relpath(one, build))
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(one, to)
    with open(path, "w", encoding="utf-8") as file:
        file.write(before)
    return folder


class Turn:
    """One mover; `constant`: (name, value), or None."""

    def __init__(self, mover, constant=None):
        self.mover, self.constant = mover, constant
        self.name = mover if not constant else "-".join((mover, *map(str, constant)))

    def script(self, options, pattern):
        on, off = MOVERS.get(self.mover, ("", ""))
        if self.mover == "pagetide" and self.constant:
            on = on.replace("pagetide attach", f"/guest/{self.name}/pagetide attach")
        on = on.replace("/pagetide.said", f"/{self.name}.said")
        words = {"START": RUN if self.mover == "run" else ALONE,
                 "ON": f"seconds={options.converge + options.moved}\n" + on, "OFF": off,
                 "PATH": f"/guest/{self.name}/" if self.constant else "", "NAME": self.name,
                 "CONVERGE": options.converge, "MOVED": options.moved, "BUDGET": options.budget,
                 "HOT": f"--size {options.size} --hot {options.hot} --pattern {pattern} --slow {SLOW}"
                        f" --fast {FAST} --seconds 1000", "FAST": FAST, "SLOW": SLOW}
        if self.mover == "run":
            words["ON"] = words["OFF"] = ""
        text = TURN
        for key, value in words.items():
            text = text.replace(f"@{key}@", str(value))
        # vm_hot asks for it: some of its pages are on no node that the kernel tells.
        return ("export LIVE_BUDGET_MIB=1\n" if self.mover == "run" else "unset LIVE_BUDGET_MIB\n") + text

    def files(self, options):
        """The product as it is built for this turn, in a folder of its own."""
        if not self.constant:
            return []
        folder = os.path.join(options.build, "sweep", "-".join(map(str, self.constant)))
        if not os.path.exists(folder):
            folder = product_with(options, *self.constant)
        return [(one, os.path.join("/guest", self.name, os.path.relpath(one, folder)))
                for one, _ in product(folder)]


# ---- reading what came back ----------------------------------------------------------------------

def speed(reports, start_ns, end_ns):
    rows = between(reports, start_ns, end_ns)
    first, last = rows[0], rows[-1]
    return (last["ops"] - first["ops"]) * SECOND / ((last["now_ns"] - first["now_ns"]) or 1)


def calls_of(attached):
    """The calls of move_pages(2) that a report of attach counted, and what it took for its processes."""
    spaces = attached["spaces"]
    calls = sum(space["stall_ns"]["calls"] for space in spaces)
    return {"move_calls": calls,
            "pages_per_call": round(sum(space["moves"]["moved"] for space in spaces) / (calls or 1), 1),
            "stall_p99_ms": round(max(space["stall_ns"]["p99"] for space in spaces) / 1e6, 1)}


def summary(said, samples, turn, stats):
    """What one turn says. `moved_ratio` is what came to the fast node and what left it (by the kernel's
    count of migrations, or of pagetide run's by its own) against the bytes that became hot twice."""
    ready, reports = said[0], [row for row in said if row["what"] == "report"]
    on, moved, off = (int(turn[key] * SECOND) for key in ("on", "moved", "off"))
    hot = ready["hot_bytes"]
    second = [row for row in between(reports, moved, off) if row["generation"] == 1]
    rows = between(samples, on, off)
    cpu = worked_ns(rows[0], rows[-1])
    late = between(samples, moved - 5 * SECOND, moved)
    settled = worked_ns(late[0], late[-1])
    if stats:
        bytes_moved = (stats["node_promoted_pages"] + stats["moves"]["demoted"]) * 4096
    else:
        bytes_moved = counted(samples, on, off, "pgmigrate_success") * 4096
    first = between(reports, on, moved)
    return {
        "verified": turn["status"] == 0,
        "seconds_to_read_all": round(turn["ended"] - turn["off"], 1),
        "seconds_to_95_percent": seconds_until(first, on, 0.95, hot),
        "hot_fast_share": round(max(row["hot_fast_bytes"] for row in first) / hot, 4),
        "seconds_to_90_percent_after_move": seconds_until(second, moved, 0.90, hot),
        "hot_fast_share_after_move": round(max(row["hot_fast_bytes"] for row in second) / hot, 4),
        "moved_ratio": round(bytes_moved / hot / 2, 3),
        "touches_per_s": round(speed(reports, on, off)),
        "touches_per_s_settled": round(speed(reports, moved - 5 * SECOND, moved)),
        "cpu_share": round(sum(cpu.values()) * SECOND / (off - on) / SECOND, 4),
        "cpu_share_settled": round(sum(settled.values()) / (late[-1]["now_ns"] - late[0]["now_ns"]), 4),
        "faults": stats["faults"]["count"] if stats else None,
        "longest_stall_ms": round(max(row["longest_stall_ns"]
                                      for row in between(reports, on, off)) / 1e6, 1),
    }


def read_turn(files, turn):
    times = json.loads(files[f"{turn.name}.turn"])
    said = json_lines(files[f"{turn.name}.hot"])
    stats = json.loads(files[f"{turn.name}.stats"]) if turn.mover == "run" else None
    start = int(times["on"] * SECOND)
    reports = [row for row in said if row["what"] == "report"]
    found = summary(said, json_lines(files[f"{turn.name}.samples"]), times, stats)
    if turn.mover == "pagetide":
        found.update(calls_of(json.loads(files[f"{turn.name}.said"])))
    return {"mover": turn.mover, "constant": turn.constant, "summary": found,
            "stats": stats,
            "rows": {"s": [round((row["now_ns"] - start) / SECOND, 2) for row in reports],
                     **{key: [row[key] for row in reports]
                        for key in ("generation", "hot_fast_bytes", "ops", "longest_stall_ns")}}}


def measure(options, pattern, turns):
    """All turns of one pattern, in one guest."""
    programs = os.path.join(options.build, "tests", "vm")
    files = [(os.path.join(programs, name), None) for name in ("vm_hot", "vm_sample")]
    for turn in turns:
        files += turn.files(options)
    slower = 1 if options.icount is None else 5
    result = Guest(Machine(memory_mib=[1024, 2 * options.size], thp="madvise", icount=options.icount),
                   files + product(options.build)).run(
                       "".join(turn.script(options, pattern) for turn in turns),
                       timeout_s=slower * (30 + (options.converge + options.moved + 60) * len(turns)))
    if result.status is None:
        raise OSError(result.reason)
    found = {}
    with tarfile.open(fileobj=io.BytesIO(result.results)) as archive:
        for member in archive.getmembers():
            if member.isfile():
                found[os.path.basename(member.name)] = archive.extractfile(member).read()
    done = []
    for turn in turns:
        try:
            done.append(read_turn(found, turn))
        except (KeyError, ValueError, IndexError) as reason:
            done.append({"mover": turn.mover, "constant": turn.constant,
                         "failed": f"{type(reason).__name__}: {reason}",
                         "errors": found.get(f"{turn.name}.errors", b"").decode()[-500:] +
                                   result.errors.decode()[-500:]})
    return {"pattern": pattern, "guest_seconds": round(result.seconds, 1), "turns": done}


# ---- the command line ----------------------------------------------------------------------------

COLUMNS = (("to 95 %", "seconds_to_95_percent"), ("best", "hot_fast_share"),
           ("again", "seconds_to_90_percent_after_move"), ("best", "hot_fast_share_after_move"),
           ("moved", "moved_ratio"), ("touches/s", "touches_per_s"), ("settled", "touches_per_s_settled"),
           ("CPU", "cpu_share"), ("settled", "cpu_share_settled"), ("faults", "faults"),
           ("stall ms", "longest_stall_ms"), ("p99", "stall_p99_ms"), ("read all", "seconds_to_read_all"),
           ("calls", "move_calls"))


def show(run):
    print(f"{run['pattern']:<28}" + "".join(f"{title:>10}" for title, _ in COLUMNS))
    for turn in run["turns"]:
        name = " ".join([turn["mover"], *map(str, turn["constant"] or ())])
        if "failed" in turn:
            print(f"  {name:<26}  {turn['failed']}: {turn['errors']}")
            continue
        values = [turn["summary"].get(key) for _, key in COLUMNS]
        print(f"  {name:<26}" + "".join(
            f"{'never' if value is None else f'{value:g}' if value < 1e4 else f'{value:.0f}':>10}"
            for value in values), flush=True)


def command_of(options):
    """What was asked for, without where it went."""
    words = [f"--{key} {value}" for key in ("pattern", "mover", "sweep") for value in getattr(options, key)]
    given = ("size", "hot", "budget", "converge", "moved", "icount")
    words += [f"--{key} {getattr(options, key)}" for key in given if getattr(options, key) is not None]
    return " ".join(["tests/vm/bench_nodes.py", *words])


def parse():
    parser = argparse.ArgumentParser(description="pagetide run on two nodes, in guests.")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--pattern", action="append", choices=PATTERNS)
    parser.add_argument("--mover", action="append", choices=(*OTHERS, "run"))
    parser.add_argument("--sweep", action="append", default=[], metavar="NAME=A,B,...")
    parser.add_argument("--size", type=int, default=128, help="MiB of the process (128)")
    parser.add_argument("--hot", type=int, default=32, help="MiB touched all the time (32)")
    parser.add_argument("--budget", type=int, default=64, help="MiB of the fast node for run (64)")
    parser.add_argument("--converge", type=int, default=20, help="seconds until the hot set moves (20)")
    parser.add_argument("--moved", type=int, default=15, help="seconds after that (15)")
    parser.add_argument("--icount", type=int, metavar="N", help="the clock counts instructions, 2^N ns each")
    parser.add_argument("--only-build", action="store_true", help="of the sweeps, and end")
    parser.add_argument("--force", action="store_true", help="of changed sources, too")
    parser.add_argument("--add", action="store_true", help="to the runs of FILE")
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "results", "nodes.json"))
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.pattern = options.pattern or list(PATTERNS)
    # By a clock that counts instructions one guest's figures may be compared with another's.
    alone = options.sweep and options.icount is not None
    options.mover = options.mover or ([] if alone else [*OTHERS, "run"])
    options.turns = [Turn(mover) for mover in options.mover]
    for words in options.sweep:
        name, _, values = words.partition("=")
        if name not in CONSTANTS or not values:
            parser.error(f"--sweep {words}: the constants are {', '.join(CONSTANTS)}")
        options.turns += [Turn(CONSTANTS[name][0], (name, int(value))) for value in values.split(",")]
    return options


def main():
    options = parse()
    if options.only_build:
        for turn in options.turns:
            turn.files(options)
        return 0
    results = {"measure": "nodes", "runs": []}
    if options.add and os.path.exists(options.out):
        with open(options.out, encoding="utf-8") as file:
            results["runs"] = json.load(file)["runs"]
    head = {
        "command": command_of(options),
        **result_head(options.force), "icount": options.icount,
        "size_mib": options.size, "hot_mib": options.hot, "budget_mib": options.budget,
    }
    try:
        head["guest_kernel"] = os.path.basename(kernel())
        for pattern in options.pattern:
            results["runs"].append({**head, **measure(options, pattern, options.turns)})
            show(results["runs"][-1])
    except Missing as reason:
        sys.exit(f"bench_nodes: {reason}")
    except OSError as reason:
        sys.exit(f"bench_nodes: the guest failed: {reason}")
    results_write(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
