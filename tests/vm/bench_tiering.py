#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tiering side by side: the same process, the same hot set, moved by whoever can move it.

    tests/vm/bench_tiering.py [--build build] [--pattern P]... [--mover M]... [--add] [--out FILE]

One guest per pattern, in which the movers take their turns: nothing, the kernel's NUMA balancing by
tiers, DAMON's migrate_hot and migrate_cold, and pagetide attach. Each turn is a new vm_hot, all of
it on the slow node: BASE seconds alone, then the mover for CONVERGE seconds, then the hot set is
another one for MOVED seconds. Every second it says where its hot bytes are, and vm_sample says what
the kernel moved and who used the CPUs. Every byte is compared at the end of a turn; a wrong one
fails it.

All is emulated: figures of one guest may be compared with each other and with nothing else. The raw
rows and what is read from them (see summary()) go to one JSON file; with --add other patterns that are in
it stay, for a machine that cannot be had long enough for all in one go.
"""
import argparse
import io
import json
import os
import sys
import tarfile

from guest import ROOT, Guest, Machine, Missing, kernel, product

sys.path.insert(0, os.path.join(ROOT, "tools"))

from commit import result_head

MIB = 1 << 20
SECOND = 1_000_000_000
SLOW, FAST = 1, 0
PATTERNS = ("contiguous", "runs16", "huge", "pages")
# Kernel threads that work for everybody all the time; what they do is not put on a mover's account.
HOUSEKEEPING = ("rcu_preempt", "ksoftirqd", "kworker", "cpuhp", "init", "kdevtmpfs")

# How a mover is turned on ($hot is the process, $seconds how long) and off. DAMON is set up as its
# authors do for two tiers: one thread for each node, young pages up, pages not young down.
DAMON_ON = """
admin=/sys/kernel/mm/damon/admin/kdamonds
block=$((0x$(cat /sys/devices/system/memory/block_size_bytes)))
damon() { # thread node action target least-accesses most-accesses least-age only-young
	context=$admin/$1/contexts/0
	echo 1 > $admin/$1/contexts/nr_contexts
	echo paddr > $context/operations
	echo 100000 > $context/monitoring_attrs/intervals/sample_us
	echo 2000000 > $context/monitoring_attrs/intervals/aggr_us
	echo 20000000 > $context/monitoring_attrs/intervals/update_us
	echo 10 > $context/monitoring_attrs/nr_regions/min
	echo 1000 > $context/monitoring_attrs/nr_regions/max
	first=$(ls -d /sys/devices/system/node/node$2/memory[0-9]* | sed 's/.*memory//' | sort -n |
		head -n 1)
	last=$(ls -d /sys/devices/system/node/node$2/memory[0-9]* | sed 's/.*memory//' | sort -n |
		tail -n 1)
	echo 1 > $context/targets/nr_targets
	echo 1 > $context/targets/0/regions/nr_regions
	echo $((first * block)) > $context/targets/0/regions/0/start
	echo $(((last + 1) * block)) > $context/targets/0/regions/0/end
	echo 1 > $context/schemes/nr_schemes
	scheme=$context/schemes/0
	echo $3 > $scheme/action
	echo $4 > $scheme/target_nid
	echo 4096 > $scheme/access_pattern/sz/min
	echo 18446744073709551615 > $scheme/access_pattern/sz/max
	echo $5 > $scheme/access_pattern/nr_accesses/min
	echo $6 > $scheme/access_pattern/nr_accesses/max
	echo $7 > $scheme/access_pattern/age/min
	echo 4294967295 > $scheme/access_pattern/age/max
	echo 1 > $scheme/filters/nr_filters
	echo young > $scheme/filters/0/type
	echo $8 > $scheme/filters/0/matching
	echo on > $admin/$1/state
}
echo 2 > $admin/nr_kdamonds
damon 0 @FAST@ migrate_cold @SLOW@ 0 0 15 Y
damon 1 @SLOW@ migrate_hot @FAST@ 1 20 0 N
"""
MOVERS = {
    "none": ("", ""),
    "kernel": ("echo 1 > /sys/kernel/mm/numa/demotion_enabled\n"
               "echo 2 > /proc/sys/kernel/numa_balancing\n",
               "echo 0 > /proc/sys/kernel/numa_balancing\n"
               "echo 0 > /sys/kernel/mm/numa/demotion_enabled\n"),
    "damon": (DAMON_ON, "for n in 0 1; do echo off > $admin/$n/state; done; "
                        "echo 0 > $admin/nr_kdamonds\n"),
    "pagetide": ("pagetide attach -p $hot --fast @FAST@ --slow @SLOW@ --for ${seconds}s --json "
                 "> $RESULTS/pagetide.said 2> $RESULTS/pagetide.errors &\nmover=$!\n",
                 "wait $mover; echo $? > $RESULTS/pagetide.status\n"),
}
TURN = """
now() { cut -d ' ' -f 1 /proc/uptime; }
vm_hot @HOT@ > $RESULTS/@NAME@.hot 2> $RESULTS/@NAME@.errors &
hot=$!
until grep -q ready $RESULTS/@NAME@.hot || ! kill -0 $hot; do sleep 0.1; done
vm_sample 1000 > $RESULTS/@NAME@.samples &
sample=$!
sleep @BASE@
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
echo "{\\"status\\": $?, \\"on\\": $on, \\"moved\\": $moved, \\"off\\": $off}" \\
	> $RESULTS/@NAME@.turn
wait $sample
"""


def script(options, pattern):
    """The whole of what a guest does: one turn per mover."""
    hot = (f"--size {options.size} --hot {options.hot} --pattern {pattern} --seed {options.seed} "
           f"--slow {SLOW} --fast {FAST} --threads {options.threads} --seconds 1000")
    text = ""
    for name in options.mover:
        on, off = MOVERS[name]
        words = {"HOT": hot, "NAME": name, "ON": f"seconds={options.converge + options.moved}\n"
                 + on, "OFF": off, "BASE": options.base, "CONVERGE": options.converge,
                 "MOVED": options.moved}
        turn = TURN
        for key, value in {**words, "FAST": FAST, "SLOW": SLOW}.items():
            turn = turn.replace(f"@{key}@", str(value))
        text += turn
    return text


# ---- reading what came back ----------------------------------------------------------------------

def json_lines(data):
    return [json.loads(line) for line in data.decode().splitlines() if line.endswith("}")]


def between(rows, start_ns, end_ns):
    return [row for row in rows if start_ns <= row["now_ns"] <= end_ns]


def worked_ns(first, last):
    """CPU time that programs and kernel threads used between two samples, by name, without the
    workload, ourselves and the housekeeping."""
    used = {}
    for key in ("cpu_ns", "kernel_cpu_ns"):
        for name, ns in last[key].items():
            spent = ns - first[key].get(name, 0)
            if spent > 0 and name not in HOUSEKEEPING + ("vm_hot", "vm_sample", "sh", "sleep"):
                used[name] = spent
    return used


def seconds_until(reports, start_ns, share, hot_bytes):
    """Seconds from start until so much of the hot set is fast and stays so, or None."""
    reached = None
    for row in reports:
        if row["hot_fast_bytes"] >= share * hot_bytes:
            reached = reached or row["now_ns"]
        else:
            reached = None
    return None if reached is None else round((reached - start_ns) / SECOND, 1)


def counted(samples, start_ns, end_ns, name):
    rows = between(samples, start_ns, end_ns)
    return rows[-1]["vmstat"][name] - rows[0]["vmstat"][name] if rows else 0


def summary(ready, reports, samples, turn):
    """What one turn says. `ops_kept` is the speed in the last 10 s before the hot set moves against
    the speed in the base time, which includes what faster memory gives on a real machine (nothing
    here). `moved_ratio` is bytes moved by the kernel against the bytes that became hot. Stalls are the
    workload's own: GROUP touches that took long together (prog_hot.c), for whatever reason, so also because
    the machine below was busy; `batch_stall_p99_ms` is what pagetide found its calls to take of the process's
    time, and `batches` how many there were: as few as one in 100 of them may stall for more than 25 ms."""
    on, moved, off = (int(turn[key] * SECOND) for key in ("on", "moved", "off"))
    hot = ready["hot_bytes"]
    late = moved - 10 * SECOND
    settled = between(samples, late, moved)
    cpu = worked_ns(settled[0], settled[-1])
    span = (settled[-1]["now_ns"] - settled[0]["now_ns"]) or 1
    all_rows = between(samples, on, off)
    first = between(reports, on, moved)
    second = [row for row in between(reports, moved, off) if row["generation"] == 1]
    base = [row["ops_per_s"] for row in reports if row["ops"] and row["now_ns"] < on]
    kept = [row["ops_per_s"] for row in between(reports, late, moved)]
    work = between(reports, on, off)
    long_stalls = work[-1]["stalls"]["25"] - work[0]["stalls"]["25"]
    page = 4096
    return {
        "verified": turn["status"] == 0,
        "seconds_to_95_percent": seconds_until(first, on, 0.95, hot),
        "hot_fast_share": round(max(row["hot_fast_bytes"] for row in first) / hot, 4),
        "moved_ratio": round(counted(samples, on, moved, "pgmigrate_success") * page / hot, 3),
        "seconds_to_90_percent_after_move": seconds_until(second, moved, 0.90, hot),
        "hot_fast_share_after_move": round(max(row["hot_fast_bytes"] for row in second) / hot, 4),
        "moved_ratio_after_move":
            round(counted(samples, moved, off, "pgmigrate_success") * page / hot, 3),
        "hint_faults": counted(samples, on, off, "numa_hint_faults"),
        "cpu_share_settled": round(sum(cpu.values()) / span, 4),
        "cpu_settled_ns": cpu,
        "cpu_all_ns": worked_ns(all_rows[0], all_rows[-1]),
        "ops_kept": round(sum(kept) / len(kept) / (sum(base) / len(base)), 4),
        "longest_stall_ms": round(max(row["longest_stall_ns"] for row in work) / 1e6, 1),
        "stalls_over_25_ms": long_stalls,
    }


def rows_of(reports, samples, turn):
    """The raw rows, without what repeats: one list for each column."""
    start = int(turn["on"] * SECOND)
    stamp = lambda row: round((row["now_ns"] - start) / SECOND, 3)
    return {
        "reports": {"s": [stamp(row) for row in reports],
                    **{key: [row[key] for row in reports]
                       for key in ("generation", "hot_fast_bytes", "ops", "longest_stall_ns")}},
        "samples": {"s": [stamp(row) for row in samples],
                    **{key: [row["vmstat"][key] for row in samples]
                       for key in ("pgmigrate_success", "pgmigrate_fail", "numa_hint_faults")},
                    "mover_cpu_ns": [sum(worked_ns(samples[0], row).values())
                                     for row in samples]},
    }


def read_turn(files, name):
    turn = json.loads(files[f"{name}.turn"])
    said = json_lines(files[f"{name}.hot"])
    samples = json_lines(files[f"{name}.samples"])
    reports = [row for row in said if row["what"] == "report"]
    found = {"mover": name, "turn": turn, "errors": files[f"{name}.errors"].decode()}
    found["summary"] = summary(said[0], reports, samples, turn)
    if name == "pagetide":
        space, = json.loads(files["pagetide.said"])["spaces"]
        found["summary"]["batches"] = space["stall_ns"]["calls"]
        found["summary"]["batch_stall_p99_ms"] = round(space["stall_ns"]["p99"] / 1e6, 1)
        found["said"] = files["pagetide.said"].decode()
        found["status"] = int(files["pagetide.status"])
        found["errors"] += files["pagetide.errors"].decode()
    found["rows"] = rows_of(reports, samples, turn)
    return found


def measure(options, pattern):
    """All turns of one pattern, in one guest."""
    here = result_head(options.force)
    programs = os.path.join(options.build, "tests", "vm")
    machine = Machine(memory_mib=[options.fast_mib, 2 * options.size], thp="madvise")
    files = [(os.path.join(programs, name), None) for name in ("vm_hot", "vm_sample")]
    turn_s = options.base + options.converge + options.moved + 60
    result = Guest(machine, files + product(options.build)).run(
        script(options, pattern), timeout_s=30 + turn_s * len(options.mover))
    if result.status is None:
        raise OSError(result.reason)
    found = {}
    with tarfile.open(fileobj=io.BytesIO(result.results)) as archive:
        for member in archive.getmembers():
            if member.isfile():
                found[os.path.basename(member.name)] = archive.extractfile(member).read()
    if options.keep:
        with open(f"{options.keep}-{pattern}.tar", "wb") as file:
            file.write(result.results)
    turns = []
    for name in options.mover:
        try:
            turns.append(read_turn(found, name))
        except (KeyError, ValueError, IndexError) as reason:
            errors = found.get(f"{name}.errors", b"").decode()
            turns.append({"mover": name, "failed": f"{type(reason).__name__}: {reason}",
                          "errors": errors + result.errors.decode()[-1000:]})
    return {"pattern": pattern, **here, "guest_seconds": round(result.seconds, 1),
            "attempts": result.attempts, "turns": turns}


# ---- the command line ----------------------------------------------------------------------------

COLUMNS = (("to 95 %", "seconds_to_95_percent", "s"), ("best", "hot_fast_share", ""),
           ("moved", "moved_ratio", "x"), ("again", "seconds_to_90_percent_after_move", "s"),
           ("moved", "moved_ratio_after_move", "x"), ("CPU", "cpu_share_settled", ""),
           ("speed", "ops_kept", ""), ("longest", "longest_stall_ms", "ms"),
           (">25 ms", "stalls_over_25_ms", ""), ("batches", "batches", ""),
           ("p99", "batch_stall_p99_ms", "ms"))


def show(run):
    print(f"{run['pattern']:<12}" + "".join(f"{title:>10}" for title, _, _ in COLUMNS))
    for turn in run["turns"]:
        if "failed" in turn:
            print(f"  {turn['mover']:<10}  {turn['failed']}: {turn['errors'][-300:]}")
            continue
        values = [turn["summary"].get(key, "-") for _, key, _ in COLUMNS]
        print(f"  {turn['mover']:<10}" + "".join(
            f"{'never' if value is None else value if value == '-' else f'{value:g} {unit}':>10}"
            for value, (_, _, unit) in zip(values, COLUMNS)), flush=True)


def command_of(options):
    """What was asked for, without where it went."""
    words = [f"--{key} {value}" for key in ("pattern", "mover") for value in getattr(options, key)]
    words += [f"--{key.replace('_', '-')} {getattr(options, key)}"
              for key in ("size", "hot", "fast_mib", "threads", "seed", "base", "converge", "moved")]
    return "tests/vm/bench_tiering.py " + " ".join(words)


def parse():
    parser = argparse.ArgumentParser(description="Movers side by side in guests with two tiers.")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--pattern", action="append", choices=PATTERNS)
    parser.add_argument("--mover", action="append", choices=MOVERS)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the process (1024)")
    parser.add_argument("--hot", type=int, default=260, help="MiB touched all the time (260)")
    parser.add_argument("--fast-mib", type=int, default=1024, help="of the fast node (1024)")
    parser.add_argument("--threads", type=int, default=1, help="of the process (1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--base", type=int, default=6, help="seconds without a mover (6)")
    parser.add_argument("--converge", type=int, default=40, help="seconds until the hot set moves")
    parser.add_argument("--moved", type=int, default=25, help="seconds after that")
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "results", "tiering.json"))
    parser.add_argument("--force", action="store_true", help="of changed sources, too")
    parser.add_argument("--add", action="store_true", help="keep other patterns of that file")
    parser.add_argument("--keep", metavar="PREFIX", help="also keep what the guests wrote")
    options = parser.parse_args()
    options.pattern = options.pattern or list(PATTERNS)
    options.mover = options.mover or list(MOVERS)
    if options.converge < 12:
        parser.error("--converge: the last 10 s of it are taken for settled")
    return options


def results_write(path, results):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(results, file, separators=(",", ":"))
        file.write("\n")


def main():
    options = parse()
    results = {"measure": "tiering", "command": command_of(options), "runs": []}
    if options.add and os.path.exists(options.out):
        with open(options.out, encoding="utf-8") as file:
            results["runs"] = [run for run in json.load(file)["runs"]
                               if run["pattern"] not in options.pattern]
    try:
        results["guest_kernel"] = os.path.basename(kernel())
        for pattern in options.pattern:
            results["runs"].append(measure(options, pattern))
            show(results["runs"][-1])
        results["runs"].sort(key=lambda run: PATTERNS.index(run["pattern"]))
    except Missing as reason:
        sys.exit(f"bench_tiering: {reason}")
    except OSError as reason:
        sys.exit(f"bench_tiering: the guest failed: {reason}")
    results_write(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
