#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Guest tests: the product and what it stands on, on a stock kernel with real NUMA nodes.

Each case starts one guest or more (see guest.py) and judges what came out of it. Where QEMU, the
kernel or busybox is not there, the whole suite is skipped with the reason.
"""
import argparse
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "live"))

# pylint: disable=wrong-import-position
from guest import Guest, Machine, Missing, kernel, prerequisites, product
from harness import Late, Skipped, check, gave_up, judge_stats, say, tail, tap_main, total
import openmetrics


def in_time(condition, text):
    """Like check(), of how far things got: not for bytes, sums or what must hold at any time."""
    if not condition:
        raise Late(text)


# Much more than any guest takes, on a machine with much else to do.
GUEST_S = 600
TIERS = "/sys/devices/virtual/memory_tiering"


# For every guest's script.
TOOLS = """
alive() { # PID: else nobody waits any longer for what it was to do
	! kill -0 $1 2> /dev/null || return 0
	wait $1
	status=$?
	echo "what was waited for ended with $status" >&2
	exit $((status ? status : 90))
}
hot_bytes() { # FILE: what is fast of the hot set, by the last whole line that vm_hot wrote there
	sed -n 's/.*"hot_fast_bytes": \\([0-9]*\\),.*}$/\\1/p' $1 | tail -n 1
}
"""


class Place:
    """Where the tool and the programs for the guests are."""

    sanitized = False

    def __init__(self, pagetide, live_programs, vm_programs, storm_seconds):
        self.pagetide = os.path.realpath(pagetide)
        self.build = os.path.dirname(self.pagetide)
        self.storm_seconds = storm_seconds
        self.live_programs = os.path.realpath(live_programs)
        self.vm_programs = os.path.realpath(vm_programs)

    def why_not(self):
        try:
            prerequisites()
        except Missing as reason:
            return str(reason)
        return None

    def close(self):
        pass

    def run(self, command, machine=None, programs=(), files=(), timeout_s=GUEST_S):
        """A guest's result; a case fails here when the guest did not come to its end."""
        carried = [(os.path.join(self.vm_programs, name), None) for name in programs]
        try:
            result = Guest(machine, carried + list(files)).run(TOOLS + command, timeout_s)
        except Missing as reason: # some modules of the kernel; the rest was looked for at the start
            raise Skipped(reason) from reason
        if result.attempts > 1:
            say(f"# the emulator failed {result.attempts - 1} times")
        # Before anything else is judged that may be only late.
        wrong = re.search(rb"MISMATCH[^\n]*", b"\n".join(said_in(result)))
        check(not wrong, wrong and tail(wrong[0]))
        if result.status is None:
            gave_up(f"{result.reason}; the last it said: {tail(result.output + result.errors)}", None, *said_in(result))
        check(not re.search(r"^\[.*\] (BUG: (?!workqueue lockup)|WARNING|Oops)", result.console, re.M),
              f"its kernel said: {result.console[-1500:]}")
        return result

    def lines(self, command, machine=None, **more):
        """What a command printed, which must go well."""
        result = self.run(command, machine, **more)
        judge_script(result)
        return result.output.decode().split("\n")[:-1]


def said_in(result):
    """All that a guest has said, its files with it: they come in an archive that is not compressed."""
    return result.output, result.errors, result.results, result.console.encode()


def judge_script(result, more=""):
    """The guest's script came to its end; each of its other ends has a status of its own."""
    if result.status != 0:
        gave_up(f"exit status {result.status}: {more}{tail(result.errors)}", result.status, *said_in(result))


def results_of(result):
    """What a command left in /results, by file name."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(result.results)) as archive:
        for member in archive.getmembers():
            if member.isfile():
                files[os.path.basename(member.name)] = archive.extractfile(member).read()
    return files


# ---- the guest itself ----------------------------------------------------------------------------

def comes_back(place):
    """Output, errors, exit status and files are the command's; who is left does not hold it up."""
    result = place.run("echo out; echo err >&2; sleep 1000 & cp /guest/guest.py $RESULTS/back;"
                       "exit 7", files=[(os.path.join(HERE, "guest.py"), None)])
    check((result.status, result.output, result.errors) == (7, b"out\n", b"err\n"),
          f"{result.status} {result.output} {result.errors}")
    with open(os.path.join(HERE, "guest.py"), "rb") as file:
        check(results_of(result)["back"] == file.read(), "the file came back changed")
    return f"boot, run, end: {result.seconds:.1f} s; {os.path.basename(kernel())}"


def death_is_told(_place):
    dead = Guest().run("echo c > /proc/sysrq-trigger", timeout_s=GUEST_S)
    in_time(dead.status is not None or "no end after" not in dead.reason, f"it did not come so far: {dead.reason}")
    check(dead.status is None and "the guest died" in dead.reason,
          f"a panic gave {dead.status}: {dead.reason}")
    for timeout_s in (8, 30, 120): # it has to come as far as that
        late = Guest().run("echo begun; sleep 1000", timeout_s=timeout_s)
        if late.output:
            break
    in_time(late.output, f"it did not come so far: {late.reason}")
    check(late.status is None and "no end after" in late.reason and late.output == b"begun\n",
          f"out of time gave {late.status} {late.output}")


def two_tiers(place):
    lines = place.lines(f"cat /sys/devices/system/node/online; cat {TIERS}/memory_tier*/nodelist;"
                        "cat /sys/devices/system/node/node1/cpulist;"
                        "cat /sys/devices/system/node/node*/access0/initiators/read_latency;"
                        "cat /proc/sys/kernel/numa_balancing")
    check(lines == ["0-1", "0", "1", "", "100", "300", "0"], str(lines))


def one_tier_without_hmat(place):
    lines = place.lines(f"cat {TIERS}/memory_tier*/nodelist", Machine(hmat=False))
    check(lines == ["0-1"], str(lines))


# ---- what the kernel does ------------------------------------------------------------------------

def move_pages(place):
    said = place.lines("for c in $(vm_move list); do vm_move $c || exit; done",
                       Machine(thp="madvise"), programs=["vm_move"])
    return "\n".join(said)


def hint_faults(place):
    return "\n".join(
        place.lines("vm_hint delivered-and-nothing-moves && vm_cpus cpus-come-and-go",
                    programs=["vm_hint", "vm_cpus"]) +
        place.lines("vm_hint with-room-the-kernel-moves", Machine(memory_mib=[3072, 512]),
                    programs=["vm_hint"]))


def reports(lines):
    """What vm_hot said: ready, the reports, end."""
    said = [json.loads(line) for line in lines]
    check(said[0]["what"] == "ready" and said[-1]["what"] == "end", "vm_hot did not end well")
    check(said[-1]["verified_bytes"] == said[0]["bytes"], "not every page was compared")
    return said[0], said[1:-1], said[-1]


def wrong_byte_is_seen(place):
    """What the workload says of its memory is worth something: one byte changed behind its back."""
    result = place.run("vm_hot --size 64 --hot 16 > /tmp/said 2> /tmp/errors &\nhot=$!\n"
                       "until grep -q report /tmp/said; do alive $hot; sleep 0.2; done\n"
                       "address=$(sed -n 's/.*\"address\": \\([0-9]*\\).*/\\1/p' /tmp/said)\n"
                       "printf X | dd of=/proc/$hot/mem bs=1 seek=$((address + 50000001)) "
                       "conv=notrunc\nkill -TERM $hot\nwait $hot\necho $?\nsed s/MISMATCH/seen/ /tmp/errors",
                       programs=["vm_hot"])
    said = result.output.decode()
    check(said.startswith(f"1\nseen page {50000001 // 4096} "), f"{said} {tail(result.errors)}")


# Until nine tenths of the hot set are fast, or for some minutes; then other memory becomes hot.
TIERING_SCRIPT = """
for pattern in pages huge; do
	vm_hot --size 128 --hot 32 --pattern $pattern --threads 2 > $RESULTS/$pattern &
	hot=$!
	until grep -q report $RESULTS/$pattern; do alive $hot; sleep 0.2; done
	echo 2 > /proc/sys/kernel/numa_balancing
	for i in $(seq 150); do
		sleep 1
		fast=$(hot_bytes $RESULTS/$pattern)
		[ $fast -lt $((29 << 20)) ] || break
	done
	kill -USR1 $hot
	until grep -q '"generation": 1' $RESULTS/$pattern; do alive $hot; sleep 0.2; done
	kill -TERM $hot
	wait $hot || exit
	echo 0 > /proc/sys/kernel/numa_balancing
done
"""


def kernel_tiering(place):
    """The workload, and the kernel's own tiering of it: what is hot moves, and another set is not."""
    notes = []
    result = place.run(TIERING_SCRIPT, Machine(thp="madvise"), programs=["vm_hot"])
    judge_script(result)
    for pattern, said in texts_of(result).items():
        ready, seen, _ = reports(said.splitlines())
        hot = ready["hot_bytes"]
        check(seen[0]["hot_slow_bytes"] == hot == 32 << 20, "the hot set does not start slow")
        in_time(ready["huge_bytes"] == (ready["bytes"] if pattern == "huge" else 0),
                f"{pattern}: {ready['huge_bytes']} bytes of huge pages")
        check(seen[-1]["generation"] == 1, "the hot set did not move on")
        before = [one for one in seen if one["generation"] == 0][-1]
        after = [one for one in seen if one["generation"] == 1][0]
        in_time(before["hot_fast_bytes"] > hot * 9 // 10, f"{pattern}: the kernel moved {before}")
        in_time(after["hot_fast_bytes"] < before["hot_fast_bytes"], f"{pattern}: the same set again")
        notes.append(f"{pattern}: {before['hot_fast_bytes'] / hot:.0%} fast after "
                     f"{before['since_start_ns'] / 1e9:.0f} s, {before['ops_per_s']:.0f} touches/s")
    return "\n".join(notes)


def process_space(place):
    """Another process's pages moved by the product, watched by their owner."""
    programs = ["vm_space", "vm_refusals", "vm_huge"]
    said = place.lines(f"for p in {' '.join(programs)}; do for c in $($p list); do $p $c || exit; done; done",
                       Machine(thp="madvise"), programs=programs)
    return "\n".join(said)


# Everybody at once: a daemon looks after the family, and vm_chase moves all of it to and fro. That takes from
# the sensor what it made inaccessible; so it goes on for a part of the time only, and in the rest what is hot is
# found. Paused, the daemon moves nothing: then its counts and the kernel's are of the same moves. The cap is so
# low that something of what came has to go again. The family takes all the processors there are, so these two
# come before it.
STORM_SCRIPT = """
printf '[rule family]\\nexe = vm_storm\\nfast_max = 6M\\n' > /tmp/conf
pagetide daemon -c /tmp/conf --json > $RESULTS/end 2> $RESULTS/daemon.errors &
daemon=$!
renice -n -15 $daemon > /dev/null
until pagetide status > /dev/null 2>&1; do alive $daemon; sleep 0.2; done
vm_storm $((@ALL + @PATIENCE + 60)) > $RESULTS/storm 2> $RESULTS/storm.errors &
storm=$!
kernel() { grep -E "@COUNTERS" /proc/vmstat; }
moved() { # promoted and demoted as many pages as are asked for, all processes together
	for way in promoted demoted; do
		bytes=0
		for one in $(sed -n "s/.*\"${way}_bytes\": \([0-9]*\).*/\1/p" $RESULTS/end.status); do
			bytes=$((bytes + one))
		done
		[ $bytes -ge $((@ENOUGH * 4096)) ] || return
	done
}
sleep 1
vm_chase $storm @CHASE > $RESULTS/chase &
chase=$!
renice -n -15 $chase > /dev/null
wait $chase || exit
alive $daemon
pagetide pause > /dev/null || exit 6
pagetide status --json > $RESULTS/begin
kernel > $RESULTS/kernel
alive $daemon
pagetide resume > /dev/null || exit 6
sleep @REST
for i in $(seq $((@PATIENCE / 2))); do
	pagetide status --json > $RESULTS/end.status
	! moved || break
	sleep 2
done
pagetide pause > /dev/null
kernel >> $RESULTS/kernel
kill -TERM $storm
wait $storm || exit
kill -INT $daemon
wait $daemon || exit
"""
COUNTERS = "pgmigrate_success|compact_isolated|numa_pages_migrated"
STORM_MOVES = 100  # pages promoted, and as many demoted
STORM_LONG_S = 60
STORM_NEW = 32  # or a tenth: pages that were on the target from their beginning


def kernel_moves(text):
    """How many pages were moved between the first and the last look at COUNTERS, but for those that NUMA balancing
    moves by itself: at the faults that a sensor leaves behind when it stops. And whether compaction, before or after
    anybody looked, moved some as well."""
    looks = {}
    for line in text.splitlines():
        name, count = line.split()
        looks.setdefault(name, []).append(int(count))
    grew = {name: counts[-1] - counts[0] for name, counts in looks.items()}
    return grew["pgmigrate_success"] - grew["numa_pages_migrated"], grew["compact_isolated"] != 0


def all_moves(report):
    """Of all that a report counts, also of who is gone: outcomes by name, pages promoted and demoted."""
    sums = {}
    for one in populations(report) + [report["gone"]]:
        moves = one["moves"]
        check(moves["requested"] == moves["moved"] + total(moves["failed"]) +
              total(moves["dropped"]) + moves["pending"], f"{one}: {moves}")
        for name, pages in (("moved", moves["moved"]), ("promoted", one["promoted_bytes"] >> 12),
                            ("demoted", one["demoted_bytes"] >> 12), *moves["failed"].items(),
                            *moves["dropped"].items()):
            sums[name] = sums.get(name, 0) + pages
    check(sums["moved"] == sums["promoted"] + sums["demoted"], str(sums))
    return sums


def storm_seen(place, seconds):
    """What a storm of so many seconds left, by file name. A long one has patience, in which what is hot is promoted,
    and goes for others: in emulation that takes minutes."""
    patience, enough = (90, STORM_MOVES) if seconds >= STORM_LONG_S else (0, 0)
    chase_s = max(seconds // 3, min(seconds, 15))
    script = STORM_SCRIPT
    for word, value in (("@COUNTERS", COUNTERS), ("@ALL", seconds), ("@CHASE", chase_s), ("@REST", seconds - chase_s),
                        ("@PATIENCE", patience), ("@ENOUGH", enough)):
        script = script.replace(word, str(value))
    result = place.run(script, programs=["vm_storm", "vm_chase"], files=product(place.build),
                       timeout_s=2 * seconds + patience + GUEST_S)
    files = texts_of(result)
    said = " / ".join(tail(files[name].encode()) for name in ("storm.errors", "daemon.errors"))
    judge_script(result, f"{said} ")
    return files


def storm_judge(files, enough):
    """No byte is wrong (or the guest's script had failed), each page asked for has one end, and the kernel counted
    as many."""
    family, chase = json.loads(files["storm"]), json.loads(files["chase"])
    in_time(chase["moved"] > 1000 and chase["gone"] > 0, f"this proved nothing: {chase}")
    report = json.loads(files["end"])
    before, after = (all_moves(one) for one in (json.loads(files["begin"])["report"], report))
    in_time(min(after["promoted"], after["demoted"]) >= enough, f"not moved for its heat: {after}")
    # Without the chase nobody else moves. What was on its way when its process ended or unmapped it may have
    # moved; and what was written meanwhile after a fork, or touched again after it was discarded, is a new page that
    # was on the target from its beginning: to us one that moved.
    kernel_moved, compacted = kernel_moves(files["kernel"])
    ours = after["moved"] - before["moved"]
    unsure = sum(after.get(name, 0) - before.get(name, 0)
                 for name in ("space_gone", "page_gone", "range_gone", "busy"))
    check(compacted or ours - max(ours // 10, STORM_NEW) <= kernel_moved <= ours + unsure,
          f"we say {ours} and at most {unsure} more, the kernel {kernel_moved}: {before} {after}")
    processes = len(report["spaces"]) + report["gone"]["processes"]
    return (f"{family}\n{chase}\n{processes} processes met, {after}; without the chase {ours} pages, the kernel "
            f"says {kernel_moved}")


def storm(place):
    """24 processes that start, fork, exec, unmap and die while their pages move."""
    seconds = place.storm_seconds
    return storm_judge(storm_seen(place, seconds), STORM_MOVES if seconds >= STORM_LONG_S else 0)


# ---- attach: hot pages of running processes ------------------------------------------------------

SETTINGS = ("/proc/sys/kernel/numa_balancing /sys/kernel/debug/sched/numa_balancing/*_m[sb] "
            "/proc/sys/kernel/numa_balancing_promote_rate_limit_MBps")
# One pattern after the other. Half way the hot set becomes another one, and @HALF_WAY comes to pass. What the kernel
# counted is looked at from outside, too.
ATTACH_SCRIPT = f"""
settle() {{ # until so many MiB of this generation's hot set are fast, or so many seconds have passed
	until grep -q '"generation": '$1, $to.hot; do alive $hot; sleep 0.2; done
	for i in $(seq @SECONDS); do
		sleep 1
		fast=$(hot_bytes $to.hot)
		[ $fast -lt $((@ENOUGH << 20)) ] || break
	done
}}
for pattern in @PATTERNS; do
	to=$RESULTS/$pattern
	vm_hot --size @SIZE --hot @HOT --pattern $pattern @HOT_WORDS > $to.hot &
	hot=$!
	until grep -q report $to.hot; do alive $hot; sleep 0.2; done
	mount -t debugfs debugfs /sys/kernel/debug
	grep . {SETTINGS} > $to.before
	umount /sys/kernel/debug
	grep -E "{COUNTERS}" /proc/vmstat > $to.success
	pagetide attach -p $hot @WORDS --json > $to.json &
	attach=$!
	settle 0
	@HALF_WAY
	kill -USR1 $hot
	settle 1
	sed -n 's/VmHWM://p' /proc/$attach/status > $to.peak
	kill -INT $attach
	wait $attach
	echo $? > $to.status
	grep -E "{COUNTERS}" /proc/vmstat >> $to.success
	[ -e /sys/kernel/debug/sched ] && echo still mounted >> $to.before
	mount -t debugfs debugfs /sys/kernel/debug
	grep . {SETTINGS} > $to.after
	kill $hot
	wait $hot || exit
done
"""


def texts_of(result):
    return {name: data.decode() for name, data in results_of(result).items()}


def judge_moves(space):
    """Requests are as many as outcomes, candidates too, and what moved was promoted or demoted."""
    moves = space["moves"]
    ended = moves["moved"] + sum(moves["failed"].values()) + sum(moves["dropped"].values())
    check(moves["requested"] == ended + moves["pending"] and moves["pending"] == 0, str(moves))
    refused = moves["refused"]
    check(moves["candidates"] == moves["promotions"] + moves["waiting"] + refused["unpaid"] + refused["thrash"] +
          refused["lapsed"], str(moves))
    check(moves["moved"] * 4096 == space["promoted_bytes"] + space["demoted_bytes"], str(space))


def names_in(value):
    """Names of all members below, but for those that are numbers of nodes."""
    found = set()
    if isinstance(value, dict):
        found |= {name for name in value if not name.isdigit()}
        value = value.values()
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        for one in value:
            found |= names_in(one)
    return found


def judge_fields(report):
    """The report has what docs/attach-schema.md says, and nothing else."""
    with open(os.path.join(HERE, "..", "..", "docs", "attach-schema.md"), encoding="ascii") as file:
        text = file.read()
    named = set(re.findall(r"`([a-z0-9_]+)`", text))
    rows = set(re.findall(r"[a-z0-9_]+", " ".join(
        "".join(re.findall(r"`[^`]*`", row)) for row in re.findall(r"^\| (`[^|]*)\|", text, re.M))))
    found = names_in(report)
    check(found <= named | rows, f"not documented: {found - named - rows}")
    # A cap is in daemon-fast-max.
    check(rows - found == {"fast_max_bytes"}, f"documented and not there: {rows - found}")


def populations(report):
    """All that counts moves: processes, shared memory and files, and what is gone of these."""
    return report["spaces"] + report["shared"] + [report["shared_gone"]]


def judge_attached(files):
    """One turn of ATTACH_SCRIPT, its files by name: the report, and what vm_hot said."""
    check(files["status"] == "0\n", f"attach ended with {files['status']}")
    check(files["before"] == files["after"],
          f"settings changed: {files['before']} now {files['after']}")
    peak = int(files["peak"].split()[0])
    check(peak < 65536, f"attach had {peak} KiB in memory")
    report = json.loads(files["json"])
    for population in populations(report):
        judge_moves(population)
    kernel_moved, compacted = kernel_moves(files["success"])
    moved = sum(one["moves"]["moved"] for one in populations(report))
    if not compacted and not report["dry_run"]:
        check(kernel_moved == moved,
              f"the kernel counted {kernel_moved} pages, pagetide {moved}: {report['kernel']}")
    return report, reports(files["hot"].splitlines())


def attached(place, patterns, words="", size=384, hot=96, share=95, seconds=120,
             machine=None, hot_words="", half_way=""):
    """By pattern: the report, and what vm_hot said."""
    script = ATTACH_SCRIPT
    for name, value in (("HALF_WAY", half_way), ("HOT_WORDS", hot_words), ("SIZE", size), ("HOT", hot),
                        ("PATTERNS", " ".join(patterns)), ("WORDS", words), ("ENOUGH", hot * share // 100 + 1), ("SECONDS", seconds)):
        script = script.replace("@" + name, str(value))
    result = place.run(script, machine or Machine(thp="madvise"), programs=["vm_hot"],
                       files=[(place.pagetide, None)], timeout_s=seconds * 2 * len(patterns) + GUEST_S)
    judge_script(result)
    files = texts_of(result)
    return {pattern: judge_attached({name.partition(".")[2]: text for name, text in files.items()
                                     if name.startswith(pattern + ".")}) for pattern in patterns}


# Another process, in the turn with huge pages, with faults from before the hot set changes.
BESIDE_HUGE = """
	if [ $pattern = huge ]; then
		vm_hot --size 256 --hot 240 > /tmp/beside &
		beside=$!
		until [ $(grep -c report /tmp/beside) -ge 4 ]; do alive $beside; sleep 0.2; done
	fi
"""


def attach_converges(place):
    """What is hot goes to the fast node, each page once, and again when other memory is hot. New
    memory, whose first touch is a page fault as well, stays where it is. Faults of a process that is not watched
    hold nobody up."""
    notes = []
    every = attached(place, ("runs16", "huge"), size=256, hot=64, hot_words="--fill 32", half_way=BESIDE_HUGE)
    for pattern, (report, (ready, seen, _)) in every.items():
        elsewhere = report["sensor"]["faults"] - report["sensor"]["own_faults"]
        in_time(pattern != "huge" or elsewhere > 20000, f"beside it there were only {elsewhere} faults")
        hot = ready["hot_bytes"]
        for generation in (0, 1):
            last = [one for one in seen if one["generation"] == generation][-1]
            in_time(last["hot_fast_bytes"] >= hot * 95 // 100, f"{pattern}: only {last}")
        in_time(seen[-1]["fresh_bytes"] >= 4 << 20, f"{pattern}: hardly filled {seen[-1]}")
        check(seen[-1]["fresh_fast_bytes"] == 0, f"{pattern}: new memory was moved: {seen[-1]}")
        moved = sum(space["promoted_bytes"] + space["demoted_bytes"] for space in report["spaces"])
        in_time(moved <= 2 * hot * 12 // 10, f"{pattern}: {moved} bytes moved for {2 * hot}")
        begin = seen[0]["since_start_ns"]
        right = [one["since_start_ns"] for one in seen if one["hot_fast_bytes"] >= hot * 95 // 100]
        notes.append(f"{pattern}: {(right[0] - begin) / 1e9:.0f} s, {moved / (2 * hot):.2f}x, "
                     f"{elsewhere} faults beside it")
    return "; ".join(notes)


# Somebody else sets the kernel's mode, and wants to find it again.
SET_BY_OTHERS = """
echo 1 > /proc/sys/kernel/numa_balancing
for i in $(seq 300); do [ $(cat /proc/sys/kernel/numa_balancing) != 2 ] || break; sleep 0.2; done
[ $i != 300 ] || exit 9
sed -i 's/numa_balancing:0$/numa_balancing:1/' $to.before
[ -e /sys/kernel/debug/sched ] || exit 10
ours=/sys/kernel/debug/sched/numa_balancing/scan_delay_ms
echo $(cat $ours) > $ours
sed -i "s/scan_delay_ms:.*/scan_delay_ms:$(cat $ours)/" $to.before
limit=/proc/sys/kernel/numa_balancing_promote_rate_limit_MBps
echo $(cat $limit) > $limit
sed -i "s/rate_limit_MBps:.*/rate_limit_MBps:$(cat $limit)/" $to.before
"""


def attach_dry_run(place):
    """Nothing moves. And terabytes that the process only reserves cost nothing. Somebody else who sets what the sensor
    needs is said, and has his value in the end."""
    (report, (ready, seen, _)), = attached(place, ["runs16"], "--dry-run", size=128, hot=32, seconds=5,
                                           hot_words="--reserve 16384", half_way=SET_BY_OTHERS).values()
    warned = [one for one in report["warnings"] if "somebody else set /proc/sys/kernel/numa_balancing" in one]
    check(len(warned) == 1, str(report["warnings"]))
    kernel = report["kernel"]
    check(report["dry_run"] and (kernel["pgmigrate_success"] == 0 or kernel["compact_isolated"]), str(kernel))
    check(seen[-1]["hot_fast_bytes"] == 0, "it moved something")
    would = report["spaces"][0]["promoted_bytes"]
    in_time(ready["hot_bytes"] // 2 <= would <= 2 * ready["hot_bytes"] * 12 // 10,
            f"it would move {would} bytes")


# Four pairs of processes at once, each pair with one memory. The last may only read it.
SHARED_SCRIPT = """
pagetide check --json > $RESULTS/check
for kind in anon file private copy; do
	size=64
	[ $kind != copy ] || size=24
	vm_share $kind $size 1 /tmp/$kind > $RESULTS/$kind &
	echo $! >> /tmp/shares
	until grep -q ready $RESULTS/$kind; do alive $!; sleep 0.2; done
done
pids=$(sed -n 's/.*\\[\\(.*\\), \\(.*\\)\\].*/\\1,\\2/p' $RESULTS/anon $RESULTS/file $RESULTS/private \\
	$RESULTS/copy | tr '\\n' ',')
pagetide attach -p ${pids%,} --json > $RESULTS/json &
attach=$!
slow() { # bytes of the hot half that are slow still
	sed -n 's/.*"hot_slow_bytes": \\([0-9]*\\).*}$/\\1/p' $RESULTS/$1 | tail -n 1
}
for i in $(seq 120); do
	sleep 1
	[ $(($(slow anon) + $(slow file) + $(slow private))) -gt $((17 << 20)) ] || break
done
kill -INT $attach
wait $attach || exit
for one in $(cat /tmp/shares); do kill $one; done
for one in $(cat /tmp/shares); do wait $one || exit; done
"""


def attach_shared(place):
    """What two processes map and one uses is one population: each page moves once, for both, and the
    kernel counts the same; both compare every byte. A private mapping's own pages are its own."""
    result = place.run(SHARED_SCRIPT, programs=["vm_share"], files=[(place.pagetide, None)])
    judge_script(result)
    files = texts_of(result)
    said = {kind: [json.loads(line) for line in files[kind].splitlines()]
            for kind in ("anon", "file", "private", "copy")}
    report = json.loads(files["json"])
    judge_fields(report)
    for population in populations(report):
        judge_moves(population)
    for kind in ("anon", "file"):
        ready, end = said[kind][0], said[kind][-1]
        in_time(end["hot_slow_bytes"] <= ready["hot_bytes"] // 20, f"{kind}: {end}")
        check(end["slow_bytes"] >= ready["bytes"] - ready["hot_bytes"], f"{kind}: {end}")
    # The kernel's faults tell nothing of what is mapped to be read only: that is said, also before.
    hint, = (one for one in json.loads(files["check"])["features"] if one["name"] == "sensor-hint")
    check(hint["present"] and "only read it sees nothing" in hint["reason"], str(hint))
    only_read = said["copy"][0]["bytes"]
    check(said["copy"][-1]["slow_bytes"] == only_read, f"moved without being seen: {said['copy'][-1]}")
    check(report["sensor"]["unseen_bytes"] >= only_read, str(report["sensor"]))
    check([one for one in report["warnings"] if "only read lies on a slow node" in one], str(report["warnings"]))
    hot = said["anon"][0]["hot_bytes"]
    shared = sorted((one for one in report["shared"] if one["promoted_bytes"]),
                    key=lambda one: one["promoted_bytes"])[-2:]
    for one in shared:
        in_time(hot * 95 // 100 <= one["promoted_bytes"] <= hot and one["mappings"] >= 2, str(one))
        check(one["stall_ns"]["calls"] and one["stall_ns"]["p50"] <= one["stall_ns"]["max"] and
              one["sensor"] == report["sensor"]["name"], str(one))
    check(len(shared) == 2, str(report["shared"]))
    check(b"pagetide: ends: pages stay where they are (" in result.errors, tail(result.errors))
    # Of the private one a quarter had been written: pages of its own, moved in its own space.
    own = {space["pid"]: space["promoted_bytes"] for space in report["spaces"]}
    in_time(own[said["private"][0]["pids"][0]] >= hot // 2 * 9 // 10, str(own))
    for kind in ("anon", "file"):
        check(all(own[pid] <= 1 << 20 for pid in said[kind][0]["pids"]), f"moved twice: {own}")
    moved = sum(one["moves"]["moved"] for one in populations(report))
    kernel = report["kernel"]
    kernel_moved = kernel["pgmigrate_success"] - kernel["numa_pages_migrated"]
    check(kernel["compact_isolated"] or moved == kernel_moved, f"{moved}: {kernel}")
    return f"moved {moved} pages, the kernel counted {kernel_moved}"


# Two groups; of the second, node 1 is all that is allowed.
GROUPS_SCRIPT = """
cd /sys/fs/cgroup
echo "+cpuset +memory" > cgroup.subtree_control
for group in one two; do
	mkdir $group
	[ $group = one ] || echo 1 > two/cpuset.mems
	echo $$ > $group/cgroup.procs
	vm_hot --size 48 --hot 16 --pattern runs16 > $RESULTS/$group &
	echo $! > /tmp/$group
	echo $$ > cgroup.procs
done
for group in one two; do until grep -q report $RESULTS/$group; do alive $(cat /tmp/$group); sleep 0.2; done; done
read one < /tmp/one
read two < /tmp/two
for group in one two; do grep ^anon $group/memory.numa_stat; done > $RESULTS/before
pagetide attach -p $one,$two --json > $RESULTS/json &
attach=$!
for i in $(seq 120); do
	sleep 1
	fast=$(hot_bytes $RESULTS/one)
	[ $fast -lt $((16 << 20)) ] || break
done
sleep 2
kill -INT $attach
wait $attach || exit
for group in one two; do grep ^anon $group/memory.numa_stat; done > $RESULTS/after
for group in one two; do grep ^numa_hint_faults $group/memory.stat; done > $RESULTS/faults
kill $one $two
wait
"""


def attach_groups(place):
    """What the report says of the processes of a group is what the kernel counts for the group."""
    result = place.run(GROUPS_SCRIPT, programs=["vm_hot"], files=[(place.pagetide, None)])
    judge_script(result)
    files = texts_of(result)
    report = json.loads(files["json"])
    before, after = ([[int(number) for number in re.findall(r"N[01]=(\d+)", line)]
                      for line in files[name].splitlines()] for name in ("before", "after"))
    pids = [reports(files[group].splitlines())[0]["pid"] for group in ("one", "two")]
    spaces = {space["pid"]: space for space in report["spaces"]}
    grown = [after[i][0] - before[i][0] for i in (0, 1)]
    said = [spaces[pid]["promoted_bytes"] - spaces[pid]["demoted_bytes"] for pid in pids]
    for space in report["spaces"]:
        judge_moves(space)
    # Pages that a process has newly got meanwhile, for its own records, count there and not here.
    in_time(said[0] >= 15 << 20 and 0 <= grown[0] - said[0] <= 1 << 19, f"one: {said}, {grown}")
    check(said[1] == 0 and abs(grown[1]) <= 1 << 19, f"two: {said}, {grown}")
    shrunk = before[0][1] - after[0][1]
    check(abs(shrunk - said[0]) <= 1 << 19, f"one: {said}, node 1 lost {shrunk}")
    in_time(spaces[pids[1]]["moves"]["failed"]["policy"] > 0, str(spaces[pids[1]]["moves"]))
    return f"promoted {said}, the kernel says {grown}; {files['faults'].split()}"


# Node 2 comes, is used, and goes with all that is on it, while attach looks after our children. Its memory comes
# as that of CXL does: a driver (kmem) has a device of memory (dax), gives it to the kernel, and takes it back.
COMING_SCRIPT = """
memory_state() { # of all blocks of memory that come late
	for block in $blocks; do
		[ $(cat $block/state) = ${1%_movable} ] || echo $1 > $block/state || return
	done
}
sleep 1000 & # somebody to look after
pagetide attach -p $$ --json > $RESULTS/json &
attach=$!
until pagetide status > /dev/null 2>&1; do alive $attach; sleep 0.2; done
cd /sys/bus/nd/devices
cat /proc/sys/kernel/random/uuid > dax0.0/uuid
echo ram > dax0.0/mode
echo namespace0.0 > dax0.0/namespace
echo dax0.0 > ../drivers/dax_pmem/bind || exit 3
cd /sys/bus/dax/drivers/kmem
echo dax0.0 > new_id || exit 3
blocks=$(grep -l offline /sys/devices/system/memory/memory*/state | sed 's,/state,,')
memory_state online_movable || exit 3
vm_hot --size 64 --hot 16 --slow 2 --pattern runs16 > $RESULTS/hot &
hot=$!
until grep -q report $RESULTS/hot; do alive $hot; sleep 0.2; done
for i in $(seq 120); do
	fast=$(hot_bytes $RESULTS/hot)
	[ $fast -lt $((12 << 20)) ] || break
	sleep 1
done
for i in $(seq 60); do memory_state offline && break; sleep 1; done 2> /dev/null
echo dax0.0 > unbind
cat /sys/devices/system/node/online > $RESULTS/online
# The hot set becomes another one; where it is now the kernel chose.
kill -USR1 $hot
for i in $(seq 60); do # until it knows that the node has gone, and longer
	sleep 2
	! pagetide status --json | grep -q '"slow": "1"' || [ $i -lt 3 ] || break
done
kill -TERM $hot
wait $hot || exit
kill -INT $attach
wait $attach || exit
"""


def attach_nodes_change(place):
    """A node that comes is slow as the machine says, and its hot pages leave it; when it goes attach
    goes on, asks for nothing there, and every byte is what it was."""
    machine = Machine(nodes=3, memory_mib=[1024, 512, 512], late=True)
    result = place.run(COMING_SCRIPT, machine, programs=["vm_hot"], files=[(place.pagetide, None)])
    judge_script(result)
    files = texts_of(result)
    in_time(files["online"] == "0-1\n", f"node 2 is still there: {files['online']}")
    ready, seen, _ = reports(files["hot"].splitlines())
    report = json.loads(files["json"])
    for population in populations(report):
        judge_moves(population)
    moved = {(one["from"], one["to"]): one["bytes"] for one in report["moved_bytes"]}
    in_time(moved.get((2, 0), 0) >= ready["hot_bytes"] // 2, f"{moved} {seen[-1]}")
    check(all(to != 2 for _, to in moved), f"it was moved to a node that goes: {moved}")
    in_time((report["fast"], report["slow"]) == ("0", "1"), f"{report['fast']} {report['slow']}")
    return f"moved {moved}"


# Its programs say when the emulated processor was at fault.
KVM_ATTEMPTS = 3
# Two processes that run a guest of KVM each, one with huge pages. First there are no probes in the kernel, and
# somebody else is looked after when they begin.
KVM_SCRIPT = """
mount -t tmpfs tmpfs /sys/bus/event_source/devices/kprobe
sleep 1000 &
pagetide attach -p $$ --dry-run --json > $RESULTS/changed 2> $RESULTS/said &
attach=$!
until grep -q 'sensor hint:' $RESULTS/said; do sleep 0.2; done
for kind in huge small; do
	vm_kvm 32 $kind > $RESULTS/$kind &
	echo $! > /tmp/$kind
done
both_alive() { for kind in huge small; do alive $(cat /tmp/$kind); done; }
for kind in huge small; do until grep -q report $RESULTS/$kind; do both_alive; sleep 0.2; done; done
pids=$(cat /tmp/huge),$(cat /tmp/small)
until grep -q 'sensor damon:' $RESULTS/said; do both_alive; sleep 0.2; done
kill -INT $attach
wait $attach || exit
both_alive
pagetide attach -p $pids --for 1s --json > $RESULTS/chosen || exit 3
both_alive
pagetide attach -p $pids --for 5s --sensor hint --json > $RESULTS/blind || exit 3
umount /sys/bus/event_source/devices/kprobe
pagetide attach -p $pids --json > $RESULTS/json &
attach=$!
for i in $(seq 120); do
	sleep 1
	both_alive
	[ $(hot_bytes $RESULTS/huge) -lt $((8 << 20)) ] || [ $(hot_bytes $RESULTS/small) -lt $((8 << 20)) ] || break
done
kill -INT $attach
wait $attach || exit
for kind in huge small; do
	kill -TERM $(cat /tmp/$kind)
	wait $(cat /tmp/$kind) || exit
done
"""


def attach_kvm(place):
    """What a guest of KVM has in use goes to the fast node, huge pages whole, and it goes on with every byte.
    Where the best sensor cannot see that another is taken, also when the guests begin later, or it is said."""
    for attempt in range(1, KVM_ATTEMPTS + 1):
        result = place.run(KVM_SCRIPT, Machine(thp="madvise", modules=["kvm_amd"]), programs=["vm_kvm"],
                           files=[(place.pagetide, None)])
        if result.status == 0 or b"no guest:" not in result.errors or b"MISMATCH" in result.errors:
            break
        say(f"# the emulator failed in attempt {attempt}: {tail(result.errors)}")
    judge_script(result)
    files = texts_of(result)
    changed, chosen, blind, report = (json.loads(files[name]) for name in ("changed", "chosen", "blind", "json"))
    check((changed["sensor"]["name"], changed["sensor"]["changes"], changed["sensor"]["unseen_guests"])
          == ("damon", 1, 0), str(changed["sensor"]))
    said = re.findall(r"^pagetide: ((?:not )?sensor [a-z-]+)", files["said"], re.M)
    check([one for one in said if not re.search("idle|perf", one)]
          == ["sensor hint", "not sensor hint", "sensor damon"], files["said"])
    check("not sensor hint: it cannot see what guests of KVM touch" in files["said"], files["said"])
    check(not [one for one in changed["warnings"] if "guests" in one], str(changed["warnings"]))
    check(chosen["sensor"]["name"] == "damon" and chosen["sensor"]["unseen_guests"] == 0, str(chosen["sensor"]))
    check("guests of KVM" in chosen["sensor"]["refused"][0]["reason"], str(chosen["sensor"]))
    check((blind["sensor"]["unseen_guests"], blind["sensor"]["changes"]) == (2, 0), str(blind["sensor"]))
    # It ends after five seconds, looked or not.
    in_time([one for one in blind["warnings"] if "guests of KVM" in one], str(blind["warnings"]))
    check(report["sensor"]["name"] == "hint" and report["sensor"]["unseen_guests"] == 0, str(report["sensor"]))
    check(not [one for one in report["warnings"] if "guests" in one], str(report["warnings"]))
    spaces = {space["pid"]: space for space in report["spaces"]}
    notes = []
    for kind in ("huge", "small"):
        ready, seen, _ = reports(files[kind].splitlines())
        space = spaces[ready["pid"]]
        judge_moves(space)
        check(space["vcpus"] == 1, str(space))
        in_time(seen[-1]["hot_fast_bytes"] >= ready["hot_bytes"] * 95 // 100, f"{kind}: only {seen[-1]}")
        check(ready["huge_bytes"] == seen[-1]["huge_bytes"] == (ready["bytes"] if kind == "huge" else 0),
              f"{kind}: {ready['huge_bytes']} bytes of huge pages, then {seen[-1]['huge_bytes']}")
        in_time(space["promoted_bytes"] <= ready["hot_bytes"] * 12 // 10, f"{kind}: {space}")
        notes.append(f"{kind}: {space['promoted_bytes'] / ready['hot_bytes']:.2f}x the bytes")
    return f"{'; '.join(notes)}; {result.seconds:.0f} s"


KILLED_SCRIPT = f"""
mount -t debugfs debugfs /sys/kernel/debug
grep . {SETTINGS} > /tmp/before
vm_hot --size 64 --hot 16 > /tmp/hot &
hot=$!
until grep -q report /tmp/hot; do alive $hot; sleep 0.2; done
pagetide attach -p $hot > /tmp/said 2>&1 &
attach=$!
changed() {{ while kill -0 $attach && grep . {SETTINGS} | cmp -s - /tmp/before; do sleep 0.2; done; }}
changed
kill -9 $attach
wait $attach
grep . {SETTINGS} | cmp -s - /tmp/before && echo unchanged by attach
[ -s /run/pagetide/hint ] || echo no state file
pagetide attach -p $$ --sensor soft-dirty --for 2s --json > /tmp/next 2> /dev/null || echo the next one failed
grep -q 'was killed had left settings' /tmp/next || echo not said that settings are put back
grep -q '"name": "vm_hot"' /tmp/next || echo a child is not looked after
! grep '"name": "pagetide"' /tmp/next
grep . {SETTINGS} | diff /tmp/before -
[ ! -e /run/pagetide/hint ] || echo a state file stays
(trap '' HUP; exec pagetide attach -p $hot > /tmp/said 2>&1) &
attach=$!
changed
kill -PIPE $attach
kill -HUP $attach
sleep 2
kill -0 $attach || echo ended by a signal that was to be ignored
kill -QUIT $attach
wait $attach || echo SIGQUIT: status $?
grep . {SETTINGS} | diff /tmp/before -
pagetide attach -p $hot --quiet > /dev/null 2> /tmp/said &
attach=$!
changed
mount --bind /proc/sys/kernel /proc/sys/kernel
mount -o remount,bind,ro /proc/sys/kernel
kill -QUIT $attach
wait $attach || echo without a right to write: status $?
umount /proc/sys/kernel
grep -q "could not be put back: Read-only file system" /tmp/said || cat /tmp/said
grep . {SETTINGS} | cmp -s - /tmp/before && echo put back without a right
mode=/proc/sys/kernel/numa_balancing
turns() {{ # into this
	for i in $(seq 300); do [ $(cat $mode) != $1 ] || return; sleep 0.2; done
	echo late: mode $(cat $mode), not $1
}}
printf '[rule hot]\nexe = vm_hot\n' > /tmp/conf
pagetide daemon -c /tmp/conf --sensor hint > /dev/null 2> /tmp/said &
daemon=$!
until grep -q "sensor hint:" /tmp/said; do alive $daemon; sleep 0.2; done
pagetide attach -p $hot --sensor soft-dirty --for 1s 2>&1 | grep -q "another pagetide is at work" || echo no warning
for i in 1 2; do
	turns 2
	echo 1 > $mode
done
for i in $(seq 300); do ! grep -q "leaves it to them" /tmp/said || break; sleep 0.2; done
grep -q "leaves it to them" /tmp/said || echo late: not left to them
kill $hot
wait $hot
until pagetide status --json | grep -q '"ended": true'; do alive $daemon; sleep 0.2; done
vm_hot --size 64 --hot 16 > /tmp/hot &
hot=$!
until pagetide status --json | grep -q "pid.: $hot,"; do alive $daemon; sleep 0.2; done
sleep 2
turns 1
pagetide pause > /dev/null
pagetide resume > /dev/null
turns 2
kill -INT $daemon
wait $daemon || echo daemon: status $?
[ $(cat $mode) = 1 ] || echo not put back: $(cat $mode)
kill $hot
"""


# Its root ends; what a child of it starts later is looked after as well, and what makes itself a daemon, and nobody
# else; but for those that end at once, of which there are plenty. The last one may not be told who starts whom.
ORPHANS_SCRIPT = """
has() { # what is looked after
	for i in $(seq 200); do pagetide status --json 2> /dev/null | grep -q "$1" && return; sleep 0.3; done
	echo not looked after: $1 >&2
	exit 7
}
sh -c '(until pagetide status --json 2> /dev/null | grep -q "ended.: true"; do sleep 0.3; done
		vm_hot --size 16 --hot 4 --seconds 600 > /tmp/hot & echo $! > /tmp/pid; wait) &
	for i in 1 2 3 4; do (for j in $(seq 30); do sleep 0.3; done) & done
	until pagetide status > /dev/null 2>&1; do sleep 0.3; done
	sh -c "(vm_hot --size 8 --hot 2 --seconds 600 > /tmp/daemon & echo \\$! > /tmp/daemon.pid)"' &
root=$!
pagetide attach -p $root --json > $RESULTS/json &
attach=$!
until [ -s /tmp/pid ] && [ -s /tmp/daemon.pid ]; do alive $attach; sleep 0.2; done
for pid in $(cat /tmp/pid /tmp/daemon.pid); do has "pid.: $pid,"; done
kill -INT $attach
wait $attach || exit
cat /tmp/pid /tmp/daemon.pid
kill $(cat /tmp/pid /tmp/daemon.pid)
rm /tmp/pid
sh -c 'until pagetide status > /dev/null 2>&1; do sleep 0.2; done; sleep 1000 & echo $! > /tmp/pid' &
pagetide attach -p $! --json > $RESULTS/last &
attach=$!
until [ -s /tmp/pid ]; do alive $attach; sleep 0.2; done
has "pid.: $(cat /tmp/pid),"
kill $(cat /tmp/pid)
wait $attach || exit
cp /tmp/pid $RESULTS/last.pid
sh -c 'vm_hot --size 16 --hot 8 --pattern runs16 --threads 16 --seconds 600 > /tmp/many & echo $! > /tmp/pid; wait' &
root=$!
until grep -q report /tmp/many; do alive $root; sleep 0.2; done
(ulimit -n 24; pagetide attach -p $root --for 3s --json > $RESULTS/few 2> $RESULTS/errors) || exit
/guest/setpriv --bounding-set=-perfmon,-sys_admin pagetide attach -p $root --sensor soft-dirty --for 1s --json \\
	> $RESULTS/untold 2> /dev/null || exit
cp /tmp/pid $RESULTS/many.pid
kill $(cat /tmp/pid)
"""


def attach_follows_orphans(place):
    """Children are followed whose named ancestor has ended, also when all between them ended at once, or when nobody
    else is left, but not those that end within a second. Those that cannot be looked after are counted and the reason
    is said, and so is that nobody tells who starts whom."""
    setpriv = shutil.which("setpriv")
    check(setpriv, "no setpriv here: it is part of util-linux")
    result = place.run(ORPHANS_SCRIPT, programs=["vm_hot"], files=[(place.pagetide, None), (setpriv, None)])
    judge_script(result)
    report = json.loads(texts_of(result)["json"])
    children = {one["pid"] for one in report["spaces"] if one["child"]}
    check({int(pid) for pid in result.output.split()} <= children, f"{result.output}: {report['spaces']}")
    check(report["refused_processes"] == 0 and not any("looked after" in one for one in report["warnings"]),
          str(report["warnings"]))
    names = [one["name"] for one in report["spaces"]]
    in_time(names.count("sleep") <= 12, f"met who ends at once: {names}") # four at each of its looks
    last, pid = (texts_of(result)[name] for name in ("last", "last.pid"))
    check(int(pid) in {one["pid"] for one in json.loads(last)["spaces"]}, f"ended before {pid}: {last}")
    few, errors = (texts_of(result)[name] for name in ("few", "errors"))
    report = json.loads(few)
    check(report["refused_processes"] == 1 and len(report["spaces"]) == 1, few)
    check(errors.count("more threads than files may be open: raise ulimit -n") == 1, errors)
    untold = json.loads(texts_of(result)["untold"])
    check([one for one in untold["warnings"] if "CAP_PERFMON" in one], str(untold["warnings"]))
    check(int(texts_of(result)["many.pid"]) in {one["pid"] for one in untold["spaces"]}, str(untold["spaces"]))
    check(not [one for one in report["warnings"] if "CAP_PERFMON" in one], str(report["warnings"]))


# Hundreds of processes of which none runs: as soon as that is known hardly anything of them is looked at. The clock
# of this guest counts instructions, so times are counted work.
SLEEPERS_SCRIPT = """
for i in $(seq 200); do sleep 1000 & done
pagetide attach --exe busybox --quiet --json > $RESULTS/json &
attach=$!
work() { # reads, ticks of 10 ms it ran, and when, in such ticks
	sed -n 's/^syscr: //p' /proc/$attach/io
	sed 's/.*) //' /proc/$attach/stat | awk '{ print $12 + $13 }'
	awk '{ print int($1 * 100) }' /proc/uptime
}
sleep 12
before=$(work | tr '\\n' ' ')
for i in $(seq 10); do
	sleep 10
	after=$(work | tr '\\n' ' ')
	echo "$before $after"
	[ $(echo $before $after | awk '{ print $4 - $1 }') -ge 1000 ] || break
	before=$after
done
kill -INT $attach
wait $attach
"""


def attach_looks_at_sleepers(place):
    """200 processes that sleep cost two hundredths of a core at most, also of one that is slow."""
    result = place.run(SLEEPERS_SCRIPT, Machine(icount=2), files=[(place.pagetide, None)])
    judge_script(result)
    spaces = json.loads(texts_of(result)["json"])["spaces"]
    check(len(spaces) >= 200, f"only {len(spaces)} were looked after")
    reads, ticks, when = ([int(word) for word in result.output.decode().split("\n")[-2].split()[i::3]] for i in range(3))
    share = (ticks[1] - ticks[0]) / (when[1] - when[0])
    check(reads[1] - reads[0] < 1000, f"it goes on reading: {result.output.decode()}")
    check(share <= 0.02, f"{share:.3f} of a core: {result.output.decode()}")
    return f"{share * 100:.1f} % of a core, {reads[1] - reads[0]} reads in {(when[1] - when[0]) / 100:.0f} s"


def attach_killed(place):
    """After kill -9 the next one, with another sensor, puts back what was changed, and says so; other signals end it in
    order, or not at all. What cannot be put back is said, and put back by the next one. What somebody else insists
    on is theirs until a pause, also when nobody is looked after meanwhile."""
    said = place.lines(KILLED_SCRIPT, programs=["vm_hot"], files=[(place.pagetide, None)])
    check(all(line.startswith("late: ") for line in said), str(said))
    in_time(not said, str(said))


FIRST_SCRIPT = """
begin() { # the words of pagetide; an orphan is there before it
	unshare --pid --fork --mount-proc sh -c '(sleep 1000 &)
		until grep -qsx sleep /proc/[0-9]*/comm; do :; done
		exec pagetide "$@"' first "$@" > /tmp/said 2>&1 &
	unshare=$!
	first=
	until [ "$first" ]; do alive $unshare; first=$(cat /proc/$unshare/task/$unshare/children 2> /dev/null); done
	first=${first% }
}
orphan() { for pid in $(cat /proc/$first/task/$first/children); do grep -lsx sleep /proc/$pid/comm; done; }
printf '[rule nobody]\\nexe = /no/such/program\\n' > /tmp/conf
begin daemon -c /tmp/conf
until pagetide status > /dev/null 2>&1; do alive $unshare; sleep 0.2; done
orphan=$(orphan | cut -d / -f 3)
kill $orphan
while [ -e /proc/$orphan ]; do sleep 0.1; done
kill -TERM $first
wait $unshare
echo daemon $?
begin attach --exe 'busybox|pagetide'
until pagetide status --json 2> /dev/null | grep -q '"name": "sleep"'; do alive $unshare; sleep 0.2; done
pagetide status --json > $RESULTS/status
kill $(orphan | cut -d / -f 3)
wait $unshare
echo attach $?
begin attach --exe busybox
# What comes before this is nobody's.
until grep -qsx tide-first /proc/$first/comm; do alive $unshare; done
kill -TERM $first
wait $unshare
status=$?
[ $status -eq 0 ] || [ $status -eq 143 ] || echo ended with $status
"""


def attach_first_of_a_namespace(place):
    """As in a container: orphans are waited for, signals reach it from its first moments on, and it does not look
    after itself."""
    unshare = shutil.which("unshare")
    check(unshare, "no unshare here: it is part of util-linux")
    result = place.run(FIRST_SCRIPT, files=[(place.pagetide, None), (unshare, None)])
    check((result.status, result.output) == (0, b"daemon 0\nattach 0\n"),
          f"exit status {result.status}: {result.output} {tail(result.errors)}")
    report = json.loads(texts_of(result)["status"])["report"]
    check([one["name"] for one in report["spaces"]] == ["sleep"], str(report["spaces"]))


TARGET_SCRIPT = """
for node in 0 1; do
	taskset $((node + 1)) vm_hot --size 96 --hot 24 --slow 3 --fast $node > $RESULTS/$node &
	echo $! >> /tmp/pids
done
for node in 0 1; do
	until grep -q report $RESULTS/$node; do alive $(sed -n $((node + 1))p /tmp/pids); sleep 0.2; done
done
pagetide attach -p $(tr '\\n' , < /tmp/pids | sed 's/,$//') --json > $RESULTS/json &
attach=$!
for i in $(seq 120); do
	sleep 1
	[ $(hot_bytes $RESULTS/0) -lt $((23 << 20)) ] || [ $(hot_bytes $RESULTS/1) -lt $((23 << 20)) ] || break
done
kill -INT $attach
wait $attach || exit
kill $(cat /tmp/pids)
for pid in $(cat /tmp/pids); do wait $pid || exit; done
"""


def attach_follows_the_accessor(place):
    """Of two fast nodes it is the one where the threads run, never a fixed one."""
    result = place.run(TARGET_SCRIPT, Machine(nodes=4, cpu_nodes=2, memory_mib=[512]), programs=["vm_hot"],
                       files=[(place.pagetide, None)])
    judge_script(result)
    files = texts_of(result)
    moved = {(one["from"], one["to"]): one["bytes"] for one in json.loads(files["json"])["moved_bytes"]}
    check(set(moved) <= {(3, 0), (3, 1)}, str(moved))
    for node in (0, 1):
        _, seen, _ = reports(files[str(node)].splitlines())
        in_time(seen[-1]["hot_fast_bytes"] >= 23 << 20, f"CPU {node}: {seen[-1]}")
        # Each has its own: had one gone to the other's node, that one would have more.
        check(moved[3, node] <= 26 << 20, f"{moved}")


def attach_makes_room(place):
    """The fast node holds one hot set, not two: the old one is demoted for the new one."""
    (report, (ready, seen, _)), = attached(place, ["contiguous"], size=512, hot=160, share=80, seconds=150,
                                           machine=Machine(memory_mib=[304, 1024])).values()
    last = seen[-1]
    in_time(report["spaces"][0]["demoted_bytes"] > 0, "nothing was demoted")
    in_time(last["generation"] == 1 and last["hot_fast_bytes"] >= ready["hot_bytes"] * 8 // 10,
            str(last))
    return f"demoted {report['spaces'][0]['demoted_bytes'] >> 20} MiB"


# Converges; is paused while other memory becomes hot, goes on; is tuned; and is scraped at rest.
CONTROL_SCRIPT = """
mkdir /tmp/metrics
vm_hot --size 128 --hot 32 --pattern runs16 > $RESULTS/hot &
hot=$!
until grep -q report $RESULTS/hot; do alive $hot; sleep 0.2; done
settle() {
	for i in $(seq 120); do
		sleep 1
		alive $attach
		[ $(hot_bytes $RESULTS/hot) -lt $((30 << 20)) ] || return 0
	done
	echo "only $(hot_bytes $RESULTS/hot) bytes of the hot set are fast" >&2
	exit 3
}
quiet() { # what was prepared before a pause faults once more
	for i in $(seq 20); do
		last=$(grep "^numa_hint_faults " /proc/vmstat)
		sleep 3
		[ "$(grep "^numa_hint_faults " /proc/vmstat)" != "$last" ] || return 0
	done
}
counts() { grep -E "^(pgmigrate_success|numa_hint_faults|compact_isolated) " /proc/vmstat; }
pagetide attach -p $hot --json --metrics-listen 127.0.0.1:9464 --metrics-file /tmp/metrics/pagetide.prom \
	> $RESULTS/json &
attach=$!
settle
alive $attach
pagetide pause > $RESULTS/said || exit 4
kill -USR1 $hot
quiet
echo fast $(hot_bytes $RESULTS/hot) > $RESULTS/before
counts >> $RESULTS/before
echo balancing $(cat /proc/sys/kernel/numa_balancing) >> $RESULTS/before
sleep 4
echo fast $(hot_bytes $RESULTS/hot) > $RESULTS/after
counts >> $RESULTS/after
echo balancing $(cat /proc/sys/kernel/numa_balancing) >> $RESULTS/after
heat() { grep -oE '"(hot|warm|cold)_bytes": [0-9]*' $RESULTS/$1; }
for i in $(seq 20); do # it is counted anew after a while: all three are to be of one count
	pagetide status --json > $RESULTS/paused || { tail -n 2 $RESULTS/hot >&2; exit 5; }
	pagetide pages -p $hot --json > $RESULTS/pages || exit 6
	pagetide status --json > $RESULTS/still || exit 5
	[ "$(heat paused)" != "$(heat still)" ] || break
done
pagetide tune rate=8M > /dev/null || exit 17
cut -d " " -f 1 /proc/uptime > $RESULTS/begun
pagetide resume > /dev/null || exit 6
for i in $(seq 120); do # until something has to wait
	pagetide status --json > $RESULTS/rated || exit 17
	! grep -q '"rate": [1-9]' $RESULTS/rated || break
	sleep 0.5
done
cut -d " " -f 1 /proc/uptime > $RESULTS/rated_at
pagetide tune rate=default > /dev/null || exit 17
settle
pagetide tune rate=64M stall=10ms cpu=2% weight=$hot:7 fast_min=$hot:8M fast_max=$hot:96M >> $RESULTS/said || exit 7
pagetide tune rate=1G weight=1:1 2> $RESULTS/refused && exit 8
pagetide status --json > $RESULTS/tuned || exit 9
pagetide tune rate=default stall=default cpu=default weight=$hot:default fast_min=$hot:default \
	fast_max=$hot:default > /dev/null || exit 14
pagetide status --json > $RESULTS/back || exit 15
pagetide tune rate=64M weight=$hot:7 stall=10ms cpu=2% > /dev/null || exit 16
pagetide pause > /dev/null
quiet
wget -q -O $RESULTS/metrics http://127.0.0.1:9464/metrics || exit 10
wget -q -O /dev/null http://127.0.0.1:9464/ && exit 11
cp /tmp/metrics/pagetide.prom $RESULTS/file || exit 12
stat -c "%a %U %F" /run/pagetide/control > $RESULTS/socket
pagetide status >> $RESULTS/said
kill -INT $attach
wait $attach || exit
ls -A /tmp/metrics /run/pagetide > $RESULTS/left
kill $hot
wait $hot
"""


def judge_metrics(metrics, report):
    """What was scraped is what the report says of the same moment."""
    space, = report["spaces"]
    every = [space, *report["shared"], report["shared_gone"]]
    moves = [one["moves"] for one in every]
    for name, wanted in (("sensor_touches", report["sensor"]["touches"]),
                         ("sensor_own_faults", report["sensor"]["own_faults"]),
                         ("sensor_lost_ranges", report["sensor"]["lost_ranges"]),
                         ("migrate_requested_pages", sum(one["requested"] for one in moves)),
                         ("candidate_pages", sum(one["candidates"] for one in moves)),
                         ("pingpong_pages", sum(one["ping_pong"] for one in moves)),
                         ("wasted_pages", sum(one["wasted"] for one in moves)),
                         ("process_promoted_bytes", space["promoted_bytes"]),
                         ("process_demoted_bytes", space["demoted_bytes"])):
        found = metrics["pagetide_" + name].value()
        check(found == wanted, f"{name} is {found}, the report says {wanted}")
    for key in ("failed", "dropped", "refused"):
        for reason in moves[0][key]:
            wanted = sum(one[key][reason] for one in moves)
            found = metrics[f"pagetide_migrate_{key}_pages"].value(reason=reason)
            check(found == wanted, f"{key} {reason}: {found}, the report says {wanted}")
    migrated = metrics["pagetide_migrated_bytes"]
    for pair in report["moved_bytes"]:
        found = migrated.value(**{"from": str(pair["from"]), "to": str(pair["to"])})
        check(found == pair["bytes"], f"{pair}: {found}")
    for reason, key in (("promotion", "promoted_bytes"), ("demotion", "demoted_bytes")):
        check(migrated.total(reason=reason) == sum(one[key] for one in every), reason)
    used, cold, both = (metrics[f"pagetide_{name}_bytes"].total() for name in ("working_set", "cold", "heat"))
    check(used + cold == both > 0, f"{used} + {cold} is not {both}")
    stall = space["stall_ns"]
    calls = {suffix: float(number) for suffix, _, number in
             metrics["pagetide_move_call_seconds"].samples if suffix != "_bucket"}
    check(calls["_count"] == stall["calls"] and
          stall["max"] <= calls["_sum"] * 1e9 <= stall["max"] * stall["calls"], f"{calls}: {stall}")


def control(place):
    """pause, resume and tune do what they say while it runs, and the metrics agree with the report."""
    openmetrics.try_itself()
    result = place.run(CONTROL_SCRIPT, programs=["vm_hot"],
                       files=[(place.pagetide, None)])
    judge_script(result)
    files = texts_of(result)
    reports(files["hot"].splitlines())
    before, after = (dict(line.split() for line in files[name].splitlines())
                     for name in ("before", "after"))
    if before["compact_isolated"] != after["compact_isolated"]:
        del before["pgmigrate_success"], after["pgmigrate_success"] # within a node, by compaction
    for name in set(before) - {"compact_isolated"}:
        check(before[name] == after[name], f"paused, {name} was {before[name]}, is {after[name]}")
    check(before["balancing"] == "0", "NUMA balancing is on")
    paused, tuned = json.loads(files["paused"]), json.loads(files["tuned"])
    check((paused["schema"], paused["state"]) == ("pagetide.status/1", "paused"), files["paused"])
    check(tuned["state"] == "running" and tuned["settings"] ==
          {"rate_bytes_per_s": 64 << 20, "stall_ns": 10000000, "cpu_ppm": 20000}, str(tuned["settings"]))
    pages, nodes = json.loads(files["pages"]), paused["report"]["spaces"][0]["nodes"]
    still, heats = json.loads(files["still"])["report"]["spaces"][0]["nodes"], ("hot_bytes", "warm_bytes", "cold_bytes")
    in_time(all(nodes[number][name] == still[number][name] for number in nodes for name in heats),
            f"counted anew each time: {nodes} {still}")
    check(pages["heat"] == "hint" and all(node[name] == nodes[str(node["node"])][name] for node in pages["nodes"]
                                          for name in heats),
          f"pages: {files['pages']} status: {nodes}")
    (was,), (space,) = (one["report"]["spaces"] for one in (paused, json.loads(files["rated"])))
    check(was["moves"]["refused"]["rate"] == 0, f"waits by a rate that nobody set: {was['moves']}")
    in_time(space["moves"]["refused"]["rate"] > 0, f"the rate held up nothing: {space['moves']}")
    seconds = float(files["rated_at"]) - float(files["begun"])
    check(space["promoted_bytes"] - was["promoted_bytes"] <= (8 << 20) * seconds + (2 << 20),
          f"of 8M a second in {seconds} s {was['promoted_bytes']} became {space['promoted_bytes']}")
    space, = tuned["report"]["spaces"]
    check((space["weight"], space["fast_min_bytes"], space["fast_max_bytes"], space["tuned"]) ==
          (7, 8 << 20, 96 << 20, ["weight", "fast_min", "fast_max"]), str(space))
    back = json.loads(files["back"])
    space, = back["report"]["spaces"]
    check(back["settings"] == paused["settings"] and space["tuned"] == [] and space["weight"] == 5 and
          space["fast_min_bytes"] == 0 and "fast_max_bytes" not in space, f"taken back: {back['settings']} {space}")
    check("process 1 is not looked after" in files["refused"], files["refused"])
    check(files["socket"] == "600 root socket\n", files["socket"])
    check(files["left"].split() == ["/run/pagetide:", "/tmp/metrics:"], f"left: {files['left']}")
    report = json.loads(files["json"])
    for text in (files["metrics"], files["file"]):
        metrics = openmetrics.read(text)
        openmetrics.promtool(text)
        check(metrics["pagetide_processes"].value(state="watched") == 1, "processes")
    metrics = openmetrics.read(files["metrics"])
    judge_metrics(metrics, report)
    with open(os.path.join(HERE, "..", "..", "docs", "metrics.md"), encoding="ascii") as file:
        documented = re.findall(r"^\| `(pagetide_\w+?)(?:_total)?` \| (\w+) \|", file.read(), re.M)
    check(sorted(documented) == sorted((one.name, one.kind) for one in metrics.values()),
          f"documented: {documented}")
    check(metrics["pagetide_paused"].value() == 1, "paused")
    check(metrics["pagetide_resident_bytes"].total(name="vm_hot") >= 128 << 20, "resident")
    for word in ("is paused", "is running", "rate 64M a second, stall 10ms, cpu 2.00%", "weight 7"):
        check(word in files["said"], f"{word}: {files['said']}")
    return f"{len(metrics)} families, {report['spaces'][0]['promoted_bytes'] >> 20} MiB promoted"


# ---- daemon: what the rules select ---------------------------------------------------------------

# hot NAME GROUP WORDS: a workload that begins in a group. fast, all_fast GROUP: its anonymous bytes on node 0.
DAEMON_TOOLS = """
cd /sys/fs/cgroup
echo +memory > cgroup.subtree_control
hot() {
	name=$1; group=$2; shift 2
	mkdir -p $group
	[ $group = ${group%/*} ] || echo +memory > ${group%/*}/cgroup.subtree_control
	sh -c 'echo $$ > /sys/fs/cgroup/$0/cgroup.procs; exec "$@"' $group \
		vm_hot "$@" > $RESULTS/$name &
	until grep -qs report $RESULTS/$name; do alive $!; sleep 0.2; done
}
all_fast() { # with what is shared
	sum=0
	for bytes in $(grep -E "^(anon|shmem) " $1/memory.numa_stat | sed 's/.* N0=\\([0-9]*\\).*/\\1/'); do
		sum=$((sum + bytes))
	done
	echo $sum
}
fast() { grep "^anon " $1/memory.numa_stat | sed 's/.* N0=\\([0-9]*\\).*/\\1/'; }
daemon() {
	pagetide daemon -c /tmp/conf --json > $RESULTS/json 2> $RESULTS/said &
	daemon=$!
}
finish() {
	kill -TERM $daemon
	wait $daemon || echo "the daemon ended with $?" >&2
	for pid in $(pidof vm_hot); do kill $pid; done
	wait
}
until_fast() { # GROUP BYTES SECONDS
	for i in $(seq $(($3 * 5))); do
		[ $(fast $1) -lt $2 ] || break
		sleep 0.2
	done
}
"""

DAEMON_SCRIPT = DAEMON_TOOLS + """
cat > /tmp/conf <<'.'
[rule left]
cgroup = /jobs/left
weight = 0

[rule jobs]
cgroup = /jobs
.
daemon
mkdir -p jobs/still other
sleep 1000 &
sleeper=$!
echo $sleeper > jobs/still/cgroup.procs
until pagetide status > /dev/null 2>&1; do alive $daemon; sleep 0.2; done
hot new jobs/deep --size 32 --hot 24 --pattern runs16
listed() { pagetide status --json | grep -c "\\"pid\\": $sleeper,"; }
for i in $(seq 60); do [ $(listed) -eq 0 ] || break; sleep 1; done
found=$(listed)
echo $sleeper > other/cgroup.procs
hot left jobs/left --size 32 --hot 24 --pattern runs16
hot other other --size 32 --hot 24 --pattern runs16
until_fast jobs/deep 25000000 60
for i in $(seq 60); do [ $(listed) -ne 0 ] || break; sleep 1; done
echo new $(fast jobs/deep) left $(fast jobs/left) other $(fast other) found $found kept $(listed)
kill $sleeper
printf '[rule left]\\ncgruop = /other\\n' >> /tmp/conf
kill -HUP $daemon
until grep -q cgruop $RESULTS/said; do alive $daemon; sleep 0.2; done
cat > /tmp/conf <<'.'
[rule jobs]
cgroup = /jobs/left
.
kill -HUP $daemon
until_fast jobs/left 25000000 60
echo new $(fast jobs/deep) left $(fast jobs/left) other $(fast other)
finish
"""


# Four processes of one rule that share 48 MiB, of which one touches 24; they may have 16. Then one comes that
# wants 24 of its own; then the four go.
CAP_SCRIPT = DAEMON_TOOLS + """
mkdir -p jobs/four
echo +memory > jobs/cgroup.subtree_control
sh -c 'echo $$ > /sys/fs/cgroup/jobs/four/cgroup.procs; exec vm_share anon 48 1 /tmp/none 3' > $RESULTS/share &
share=$!
until grep -qs ready $RESULTS/share; do alive $share; sleep 0.2; done
printf '[rule jobs]\\ncgroup = /jobs\\nfast_max = 16M\\n' > /tmp/conf
most=0
seen() { # CONDITION: until it holds of `four` and `one` for the third time
	held=0
	for i in $(seq 150); do
		four=$(all_fast jobs/four)
		one=$(all_fast jobs/one 2> /dev/null)
		one=$((one + 0))
		less=$(all_fast jobs/four) # what has gone from them meanwhile may be in the other's by now
		[ $less -ge $four ] || four=$less
		[ $((four + one)) -le $most ] || most=$((four + one))
		[ $(($1)) = 0 ] || held=$((held + 1))
		[ $held -lt 3 ] || break
		sleep 0.2
	done
	echo four $four one $one most $most
}
daemon
seen 'four >= 15100000'
pagetide status --json > $RESULTS/status
hot one jobs/one --size 32 --hot 24 --pattern runs16
seen 'one >= 4200000 && four >= 4200000 && one + four >= 12600000'
kill $share
wait $share || echo "the four ended with $?" >&2
seen 'one >= 15100000'
finish
"""

# Two groups have 64 MiB each on the fast node and hardly use them, one of them is guaranteed 56, of which half
# is memory that two processes share; a third group wants more than is free.
FLOOR_SCRIPT = DAEMON_TOOLS + """
printf '[rule kept]\\ncgroup = /kept\\nfast_min = 56M\\n[rule rest]\\ncgroup = /\\nexe = vm_hot\\n' > /tmp/conf
hot kept kept --size 32 --hot 2 --slow 0 --fast 1
sh -c 'echo $$ > /sys/fs/cgroup/kept/cgroup.procs; exec vm_share anon 32 0' > $RESULTS/share &
share=$!
until grep -qs ready $RESULTS/share; do alive $share; sleep 0.2; done
hot lost lost --size 64 --hot 2 --slow 0 --fast 1
hot greedy greedy --size 192 --hot 184 --pattern runs16
echo kept $(all_fast kept) lost $(all_fast lost) greedy $(all_fast greedy)
daemon
for i in $(seq 150); do
	[ $(all_fast lost) -ge 48000000 ] || break
	sleep 0.2
done
echo kept $(all_fast kept) lost $(all_fast lost) greedy $(all_fast greedy)
kill $share
finish
"""

# The service manager's view, with no more than the capabilities of the unit.
SERVICE_SCRIPT = DAEMON_TOOLS + """
caps=$(sed -n 's/^CapabilityBoundingSet=//p' /guest/pagetide.service.in | tr 'A-Z' 'a-z' |
	sed 's/cap_/+/g; s/ /,/g')
vm_notify /run/notify > $RESULTS/notify &
notify=$!
until grep -qs listening $RESULTS/notify; do alive $notify; sleep 0.1; done
hot one jobs/one --size 32 --hot 24 --pattern runs16
printf '[rule jobs]\\ncgroup = /jobs\\n' > /tmp/conf
NOTIFY_SOCKET=/run/notify WATCHDOG_USEC=2000000 /guest/setpriv --bounding-set=-all,$caps --no-new-privs \\
	pagetide daemon -c /tmp/conf --json > $RESULTS/json 2> $RESULTS/said &
daemon=$!
until_fast jobs/one 24000000 60
grep CapBnd /proc/$daemon/status
until grep -q WATCHDOG $RESULTS/notify; do alive $daemon; sleep 0.2; done
kill -HUP $daemon
until grep -q RELOADING $RESULTS/notify; do alive $daemon; sleep 0.2; done
kill $(pidof vm_hot)
until sed '1,/^STATUS=0 processes/d' $RESULTS/notify | grep -q WATCHDOG; do alive $daemon; sleep 0.2; done
kill -TERM $daemon
wait $daemon || echo "the daemon ended with $?" >&2
until grep -q STOPPING $RESULTS/notify; do alive $notify; sleep 0.1; done
cat /proc/sys/kernel/numa_balancing
ls /run/pagetide
kill $notify
"""


def numbers(line):
    words = line.split()
    return {name: int(value) for name, value in zip(words[::2], words[1::2])}


def daemon_result(place, script, machine=None, **more):
    """The lines a script printed, the daemon's report and what it said."""
    result = place.run(script, machine or Machine(thp="madvise"), programs=["vm_hot", "vm_share", "vm_notify"],
                       files=[(place.pagetide, None)] + more.pop("files", []), **more)
    judge_script(result)
    check(not result.errors, tail(result.errors))
    files = texts_of(result)
    report = json.loads(files["json"])
    for space in report["spaces"]:
        judge_moves(space)
    return result.output.decode().splitlines(), report, files


def daemon_selects(place):
    """Who starts later in a group that a rule names is found, weight 0 and others are left alone;
    who sleeps is let go when it is put into another group; a bad file is refused, a good one changes who is
    looked after."""
    lines, report, files = daemon_result(place, DAEMON_SCRIPT)
    before, after = numbers(lines[0]), numbers(lines[1])
    in_time((before["found"], before["kept"]) == (1, 0), f"who sleeps: {before}")
    in_time(before["new"] >= 25000000, f"not found: {before}")
    check(before["left"] < 1 << 20 and before["other"] < 1 << 20, f"not left alone: {before}")
    said = files["said"].splitlines()
    check("/tmp/conf:8: unknown key cgruop: did you mean cgroup?" in files["said"], files["said"])
    check(any(line.startswith("pagetide: reloaded: 1 processes of 1 rules") for line in said),
          files["said"])
    in_time(after["left"] >= 25000000 and after["other"] < 1 << 20, f"not reloaded: {after}")
    check([space["rule"] for space in report["spaces"]] == ["jobs"], str(report["spaces"]))
    in_time(report["gone"]["processes"] == 2 and report["gone"]["promoted_bytes"] > 23 << 20,
            str(report["gone"]))


def daemon_fast_max(place):
    """All processes of a rule together stay below its cap and use it, however many share what they have;
    who comes gets a part, and all of it when the others go."""
    lines, report, files = daemon_result(place, CAP_SCRIPT)
    cap = 16 << 20
    four, both, one = (numbers(line) for line in lines)
    check(one["most"] <= cap * 105 // 100, f"above the cap: {lines}")
    in_time(four["four"] >= cap * 9 // 10, f"not used by those that share: {four}")
    in_time(min(both["one"], both["four"]) >= cap // 4 and both["one"] + both["four"] >= cap * 3 // 4,
            f"not shared with who came: {both}")
    in_time(one["one"] >= cap * 9 // 10, f"not used by who is left: {one}")
    status = json.loads(files["status"])["report"]
    bounds = [space["fast_max_bytes"] for space in status["spaces"] + status["shared"]]
    check(len(status["spaces"]) == 4 and cap * 9 // 10 <= sum(bounds) <= cap, f"{bounds}")
    check(sum(space["fast_max_bytes"] for space in report["spaces"]) <= cap, str(report["spaces"]))
    return " / ".join(lines)


def daemon_fast_min(place):
    """What is guaranteed, shared memory with it, is not taken for others: they get it from who is not
    guaranteed anything."""
    lines, _, _ = daemon_result(place, FLOOR_SCRIPT, Machine(memory_mib=[304, 1024]))
    begin, end = (numbers(line) for line in lines)
    floor = 56 << 20
    in_time(min(begin["kept"], begin["lost"]) >= 62 << 20, f"they begin without: {begin}")
    check(end["kept"] >= floor * 95 // 100, f"guaranteed {floor}: {end}")
    in_time(end["lost"] < floor * 95 // 100, f"nothing was wanted: {end}")
    return " / ".join(lines)


def daemon_as_a_service(place):
    """READY, WATCHDOG, RELOADING and STOPPING arrive, and the unit's capabilities are enough."""
    setpriv = shutil.which("setpriv")
    check(setpriv, "no setpriv here: it is part of util-linux")
    unit = os.path.join(HERE, os.pardir, os.pardir, "systemd", "pagetide.service.in")
    lines, report, files = daemon_result(place, SERVICE_SCRIPT, files=[(setpriv, None), (unit, None)])
    check(bin(int(lines[0].split()[1], 16)).count("1") == 7, f"capabilities: {lines[0]}")
    check(lines[1:] == ["0"], f"left behind: {lines[1:]}")
    said = files["notify"].splitlines()
    check(said[1:3] == ["READY=1", "STATUS=1 processes of 1 rules"], str(said))
    begin = said.index("RELOADING=1")
    check(said[begin + 1].startswith("MONOTONIC_USEC=") and "READY=1" in said[begin:], str(said))
    check("WATCHDOG=1" in said[:begin] and said[-1] == "STOPPING=1", str(said))
    # It waits when nobody is left, and says that it lives.
    check("WATCHDOG=1" in said[said.index("STATUS=0 processes of 1 rules"):], str(said))
    in_time(report["spaces"][0]["promoted_bytes"] > 23 << 20, str(report["spaces"]))
    check("settings are put back" in files["said"], files["said"])


DAEMON_CONTROL_SCRIPT = DAEMON_TOOLS + """
scrape() { wget -q -O $RESULTS/$1 http://127.0.0.1:9464/metrics || echo no metrics >&2; }
jobs='jobs/a"b\\c' # a name that has to be quoted in metrics
printf '[rule jobs]\\ncgroup = /jobs\\nweight = 3\\nfast_max = 64M\\n' > /tmp/conf
pagetide daemon -c /tmp/conf --json --metrics-listen 127.0.0.1:9464 > $RESULTS/json 2> $RESULTS/said &
daemon=$!
until pagetide pause > /dev/null 2>&1; do alive $daemon; sleep 0.2; done
hot new $jobs --size 32 --hot 24 --pattern runs16
until pagetide status --json | grep -q '"name": "vm_hot"'; do alive $daemon; sleep 0.2; done
sleep 4
pagetide status --json > $RESULTS/paused
echo paused $(fast $jobs)
pagetide resume > /dev/null
until_fast $jobs 25000000 60
echo new $(fast $jobs)
pagetide pause > /dev/null
pid=$(pidof vm_hot)
pagetide tune weight=$pid:7 fast_max=$pid:40M > /dev/null || echo not tuned >&2
printf '[rule jobs]\\ncgroup = /jobs\\nweight = 4\\nfast_max = 48M\\n' > /tmp/conf
kill -HUP $daemon
until grep -q "reloaded" $RESULTS/said; do alive $daemon; sleep 0.2; done
pagetide status --json > $RESULTS/tuned
scrape with
pagetide tune weight=$pid:default fast_max=$pid:default > /dev/null || echo not taken back >&2
pagetide status --json > $RESULTS/back
printf '[rule jobs]\\ncgroup = /others\\n' > /tmp/conf
kill -HUP $daemon
for i in $(seq 60); do
	sleep 1
	scrape without
	grep -q 'processes{state="watched"} 0' $RESULTS/without && break
done
finish
"""


def daemon_control(place):
    """A paused daemon finds processes and leaves them where they are; what is tuned holds when the rules
    are read again, until it is taken back; what was counted stays counted when they are no longer its own."""
    lines, _, files = daemon_result(place, DAEMON_CONTROL_SCRIPT)
    check(numbers(lines[0])["paused"] < 1 << 20, f"it moved: {lines[0]}")
    in_time(numbers(lines[1])["new"] >= 25000000, f"it did not go on: {lines[1]}")
    paused = json.loads(files["paused"])
    check(paused["state"] == "paused" and
          [(space["name"], space["weight"]) for space in paused["report"]["spaces"]] == [("vm_hot", 3)],
          files["paused"])
    # What it was told, all of it; of its rule's cap a part is for the files that it maps, by what is in use of them.
    for name, cap, wanted in (("tuned", [40 << 20], (7, ["weight", "fast_max"])),
                              ("back", range(44 << 20, (48 << 20) + 1), (4, []))):
        space, = json.loads(files[name])["report"]["spaces"]
        check(space["fast_max_bytes"] in cap and (space["weight"], space["tuned"]) == wanted, f"{name}: {space}")
        check(space["cgroup"] == '/jobs/a"b\\c', space["cgroup"])
    before, after = (openmetrics.read(files[name]) for name in ("with", "without"))
    openmetrics.promtool(files["with"]) # with the quotes in the name of the group
    for name in ("resident_bytes", "heat_bytes", "working_set_bytes", "cold_bytes", "process_weight"):
        family = before["pagetide_" + name]
        check(family.samples and all(has["cgroup"] == '/jobs/a"b\\c' for _, has, _ in family.samples),
              f"{name}: {family.samples}")
    for metrics, states in ((before, (1, 0)), (after, (0, 1))):
        found = tuple(metrics["pagetide_processes"].value(state=state) for state in ("watched", "gone"))
        in_time(found == states, f"processes: {found}")
    in_time(before["pagetide_migrated_bytes"].total(reason="promotion") > 23 << 20, "promoted")
    check(not after["pagetide_resident_bytes"].samples, "a process that is not watched")
    for name, family in before.items():
        for suffix, labels, number in family.samples:
            if family.kind == "gauge" or "pid" in labels:
                continue
            now = [float(one) for other, has, one in after[name].samples
                   if (other, has) == (suffix, labels)]
            check(len(now) == 1 and now[0] >= float(number), f"{name}{suffix} {labels}: {number}, then {now}")


# ---- other sensors -------------------------------------------------------------------------------

def sensed(place, sensor, patterns, share, most):
    """The hot set is promoted by a sensor that is asked for; moved at most `most` times its bytes."""
    every = attached(place, patterns, f"--sensor {sensor}", size=192, hot=48, share=share)
    notes = []
    for pattern, (report, (ready, seen, _)) in every.items():
        check(report["sensor"]["name"] == sensor and report["spaces"][0]["sensor"] == sensor,
              str(report["sensor"]))
        hot = ready["hot_bytes"]
        for generation in (0, 1):
            last = [one for one in seen if one["generation"] == generation][-1]
            in_time(last["hot_fast_bytes"] >= hot * share // 100, f"{pattern}, {generation}: only {last}")
        moved = report["spaces"][0]["promoted_bytes"] + report["spaces"][0]["demoted_bytes"]
        in_time(moved <= 2 * hot * most, f"{pattern}: {moved} bytes moved for {2 * hot}")
        notes.append(f"{pattern}: {moved / (2 * hot):.2f}x")
    return "; ".join(notes)


def sensor_soft_dirty(place):
    """Who is written is found by the kernel's own marks: pages, and huge ones."""
    return sensed(place, "soft-dirty", ["runs16", "huge"], 95, 1.2)


def sensor_damon(place):
    """Regions in use are found by DAMON, of several processes at once, which is nobody's before and afterwards;
    with an owner it is refused, and the owner goes on."""
    note = sensed(place, "damon", ["contiguous"], 80, 2.5)
    result = place.run(DAMON_SCRIPT, programs=["vm_hot"], files=[(place.pagetide, None)])
    judge_script(result)
    files = texts_of(result)
    in_time("seen" in files, "no status came in the whole time")
    spaces = json.loads(files["seen"])["report"]["spaces"]
    hot = [sum(node["hot_bytes"] for node in space["nodes"].values()) for space in spaces]
    check(len(hot) == 2, str(spaces))
    in_time(min(hot) >= 2000000, f"in use as DAMON saw it, of 4 MiB each: {hot}")
    said = result.output.decode().split("\n")[:-1]
    check(said[0] == "125" and "DAMON has an owner" in said[1] and said[2:] == ["1", "on"], str(said))
    return note


# Which node is fast only the file says; who is looked after, the group and the program.
TRACE_SCRIPT = """
vm_hot --size 32 --hot 4 --slow 0 --fast 1 > /tmp/hot &
hot=$!
until grep -q report /tmp/hot; do alive $hot; sleep 0.2; done
address=$(sed -n 's/.*"address": \\([0-9]*\\).*/\\1/p' /tmp/hot)
for second in 1 2 3; do
	page=2048
	while [ $page -lt 3072 ]; do
		echo ${second}000000000 0 $((address + page * 4096)) 0
		page=$((page + 1))
	done
done > /tmp/trace
printf '[tiers]\\nfast = 1\\nslow = 0\\n' > /tmp/tiers
pagetide attach --cgroup / --exe 'vm_h[o]t$' --tiers /tmp/tiers --sensor trace:/tmp/trace --json &
attach=$!
for i in $(seq 300); do # until the whole trace has been played, and all of its pages are there
	pagetide status --json > /tmp/status 2> /dev/null
	! grep -q '"touches": 3072' /tmp/status || ! grep -q '"promoted_bytes": 4194304' /tmp/status || break
	sleep 0.2
done
sleep 1
kill -INT $attach
wait $attach
kill $hot
"""


def sensor_trace(place):
    """What is moved is what the trace says, whatever the program really touches; to the node of a file."""
    report = json.loads("\n".join(place.lines(TRACE_SCRIPT, programs=["vm_hot"],
                                              files=[(place.pagetide, None)])))
    space, = report["spaces"]
    in_time(report["sensor"]["touches"] >= 3 * 1024 and space["promoted_bytes"] >= 1024 * 4096, str(report))
    check(report["sensor"]["touches"] == 3 * 1024, str(report["sensor"]))
    check(space["name"] == "vm_hot" and space["promoted_bytes"] == 1024 * 4096, str(space))
    check(report["moved_bytes"] == [{"from": 0, "to": 1, "bytes": 1024 * 4096}], str(report["moved_bytes"]))


DAMON_SCRIPT = """
cd /sys/kernel/mm/damon/admin/kdamonds
vm_hot --size 16 --hot 4 > /tmp/hot &
hot=$!
vm_hot --size 16 --hot 4 > /tmp/other &
other=$!
until grep -q report /tmp/hot && grep -q report /tmp/other; do alive $hot; alive $other; sleep 0.2; done
pagetide attach -p $hot,$other --dry-run --sensor damon > /dev/null 2>&1 &
attach=$!
for i in $(seq 240); do # until 2 MB of each are seen in use
	pagetide status --json > /tmp/seen 2> /dev/null && cp /tmp/seen $RESULTS/seen
	sed '/"shared": \\[/,$d' /tmp/seen > /tmp/spaces
	[ $(grep -cE '"hot_bytes": ([2-9]|[0-9]{2})[0-9]{6}' /tmp/spaces) -lt 2 ] || break
	sleep 0.5
done
kill -INT $attach
wait $attach || exit
kill $other
echo 1 > nr_kdamonds
echo 1 > 0/contexts/nr_contexts
echo vaddr > 0/contexts/0/operations
echo 1 > 0/contexts/0/targets/nr_targets
echo $hot > 0/contexts/0/targets/0/pid_target
echo on > 0/state
pagetide attach -p $hot --sensor damon --for 2s > /tmp/said 2>&1
echo $?
head -n 1 /tmp/said
cat nr_kdamonds 0/state
kill $hot
"""


# ---- the runtime ---------------------------------------------------------------------------------

# Of the live programs what differs most from kernel to kernel; the host runs them all, and nodes() two more.
RUNTIME = ("map mremap-move-rule09", "map munmap-partial", "advice dontneed", "fork clone-raw-rule01-rule04",
           "exec exec-then-pressure", "io pipe-stored-pages", "io io-uring-plain",
           "thread threads-come-and-go", "rights seccomp-rule01",
           "map mremap-shrink-to-a-place")
# Small, because everything takes ten times as long.
RUNTIME_MIB = 8
RUNTIME_TIERS = f"--tier dram:{RUNTIME_MIB}M --tier lz4"
SWAP_ON = "{ echo 64M > /sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0; } > /dev/null || exit 98"


def runtime(place):
    """The main job on Debian's own kernel: programs that compare every byte of tiered memory."""
    return live_on_nodes(place, RUNTIME, RUNTIME_MIB, RUNTIME_TIERS)[1]


def runtime_swapped(place):
    """The same beside the kernel's own swap; skipped with a guests' kernel that was fetched without zram."""
    return live_on_nodes(place, ["page kernel-swap-rule16"], RUNTIME_MIB, RUNTIME_TIERS,
                         Machine(thp="madvise", modules=["zram"]), SWAP_ON)[1]


# ---- the runtime on two nodes --------------------------------------------------------------------

NODES_SCRIPT = """
@BEFORE
export LIVE_BUDGET_MIB=@BUDGET LIVE_TMP=/tmp
pagetide check > $RESULTS/check || exit 99
while read program name; do
	begin=$(cut -d. -f1 /proc/uptime)
	timeout 250 pagetide run @TIERS --stats $RESULTS/$name.json -- \\
		/guest/live_$program $name > $RESULTS/$name.out 2>&1
	echo $name $? $(($(cut -d. -f1 /proc/uptime) - begin))
done < /guest/cases
"""


def live_on_nodes(place, cases, budget, tiers, machine=None, before=""):
    """Live programs in these tiers; returns the statistics of each by its name, and how long they took."""
    script = NODES_SCRIPT.replace("@BUDGET", str(budget)).replace("@TIERS", tiers).replace("@BEFORE", before)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "cases")
        with open(path, "w", encoding="ascii") as file:
            file.write("\n".join(cases) + "\n")
        result = place.run(script, machine or Machine(thp="madvise"), programs=[],
                           files=[*product(place.build), (path, None)] +
                           [(os.path.join(place.live_programs, "live_" + name), None)
                            for name in sorted({case.split()[0] for case in cases})])
    judge_script(result)
    files = results_of(result)
    ended = {words[0]: words[1:] for words in map(str.split, result.output.decode().splitlines())}
    stats = {}
    for case in cases:
        name = case.split()[1]
        said = files[name + ".out"]
        check(b"MISMATCH" not in said, f"{name}: {tail(said)}")
        status = int(ended[name][0])
        if status != 0: # 143: its time was over
            gave_up(f"{name}: exit status {status} after {ended[name][1]} s: {tail(said)}", status, said)
        stats[name] = json.loads(files[name + ".json"])
        judge_stats(stats[name])
    return stats, ", ".join(f"{name} {words[1]} s" for name, words in ended.items())


def nodes(place):
    """Programs that compare every byte, on a fast node too small for them and a slow one."""
    stats, notes = live_on_nodes(place, ("fork fork-then-both-write", "advice hugepage-rule22"), 8,
                                 "--tier node:0,size=8M --tier node:1")
    for name, one in stats.items():
        fast, slow = one["tiers"]
        check((fast["name"], fast["kind"], slow["name"], slow["kind"]) ==
              ("node:0", "node", "node:1", "node"), str(one["tiers"]))
        check(fast["capacity_bytes"] == 8 << 20 and one["moves"]["stored"] == 0, f"{one['tiers']} {one['moves']}")
        in_time(one["moves"]["demoted"] > 1000 and slow["peak_bytes"] > 4 << 20,
                f"{name}: {one['tiers']} {one['moves']}")
    return notes


def nodes_then_lz4(place):
    """A slow node that is too small as well: what is least in use is compressed; also across exec."""
    stats, notes = live_on_nodes(place, ("page rewritten-after-return-rule19", "exec exec-then-pressure"),
                                 8, "--tier node:0,size=8M --tier node:1,size=4M --tier lz4,verify")
    one = stats["rewritten-after-return-rule19"]
    slow, pool = one["tiers"][1:]
    check((slow["kind"], pool["kind"]) == ("node", "lz4"), str(one["tiers"]))
    moves = one["moves"]
    in_time(moves["demoted"] > 500 and moves["stored"] > 500, str(moves))
    # Faults of several threads may pass the bound together, each by what it brings in.
    in_time(slow["peak_bytes"] <= (4 << 20) + (1 << 20), str(slow))
    return f"{notes}; {moves['demoted']} pages to the slow node, {moves['stored']} compressed"


# Adopted where it is, all on the slow node; the hot set must come to the fast one.
NODES_HOT = """
export LIVE_BUDGET_MIB=32
pagetide run --tier node:0,size=32M --tier node:1 --stats $RESULTS/stats -- \\
	vm_hot --size 80 --hot 12 --pattern runs16 > $RESULTS/hot 2> $RESULTS/errors &
run=$!
for i in $(seq 120); do
	sleep 1
	hot=$(pidof vm_hot | sed 's/.* //')
	fast=$(hot_bytes $RESULTS/hot)
	[ "${fast:-0}" -lt $((10 << 20)) ] || break
done
for i in $(seq 20); do # faults may pass the bound for a moment
	all=0
	for n in $(sed -n 's/.*anon=.* N0=\\([0-9]*\\).*/\\1/p' /proc/$hot/numa_maps); do
		all=$((all + n))
	done
	echo $all > $RESULTS/fast
	[ $all -gt $((32 * 256 * 105 / 100)) ] || break
	sleep 0.2
done
kill -TERM $run
wait $run
echo $? > $RESULTS/status
"""


def nodes_hot_set(place):
    """What is used again and again comes to the fast node, which holds no more than it may."""
    result = place.run(NODES_HOT, Machine(thp="madvise"), programs=["vm_hot"],
                       files=product(place.build))
    files = texts_of(result)
    check(files["status"] == "0\n", f"{files['status']}: {files['errors']}")
    ready, seen, _ = reports(files["hot"].splitlines())
    in_time(seen[0]["hot_fast_bytes"] < ready["hot_bytes"] // 2, f"it begins fast: {seen[0]}")
    in_time(seen[-1]["hot_fast_bytes"] >= ready["hot_bytes"] * 8 // 10, f"{seen[-1]} {files['stats']}")
    in_time(1 << 20 < int(files["fast"]) << 12 <= (32 << 20) * 105 // 100, f"{files['fast']} pages on the fast node")
    took_ns = seen[-1]["since_start_ns"] - seen[0]["since_start_ns"]
    return f"{seen[-1]['hot_fast_bytes'] / ready['hot_bytes']:.0%} fast after {took_ns / 1e9:.0f} s"


# Wrong choices of nodes first; then the tool is killed while pages lie on the slow node, held and mapped.
NODES_KILLED = """
for tiers in "node:1,size=16M node:0" "node:0,size=16M node:1,size=2500M" "node:0,size=1200M node:1" \
		"node:0,size=16M node:2"; do
	pagetide run $(for tier in $tiers; do echo --tier $tier; done) touch /tmp/ran 2>> $RESULTS/refused
	echo $? >> $RESULTS/refused
done
[ ! -e /tmp/ran ] || exit 9
export LIVE_BUDGET_MIB=16
# There is no address space for a hold area as large as the node: a smaller one does.
(ulimit -v 1200000; exec pagetide run --tier node:0,size=16M --tier node:1 -- vm_hot --size 48 --hot 6 \
	--pattern runs16) > $RESULTS/hot 2> $RESULTS/errors &
run=$!
until [ "$(grep -c report $RESULTS/hot)" -ge 5 ]; do alive $run; sleep 0.5; done
hot=$(pidof vm_hot | sed 's/.* //')
kill -STOP $hot
used() { grep used_bytes $RESULTS/stats; }
for i in $(seq 60); do # what was on its way has come there
	cat /proc/$hot/numa_maps > $RESULTS/numa_maps
	pagetide stats --json $run > $RESULTS/stats
	[ "$before" != "$(used)" ] || break
	before=$(used)
	sleep 1
done
kill -CONT $hot
kill -KILL $run
for i in $(seq 240); do
	grep -q "State:.*[RSDTt] " /proc/$hot/status || break
	sleep 0.5
done 2> /dev/null
grep -s State: /proc/$hot/status > $RESULTS/left
exit 0
"""


def anon_pages_on(numa_maps, node):
    """Anonymous pages on a node; of private file mappings those that were written to count as on node 0."""
    pages = 0
    for line in numa_maps.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "anon" not in words:
            continue
        if "file" in words:
            pages += int(words["anon"]) if node == 0 else 0
        else:
            pages += int(words.get(f"N{node}", 0))
    return pages


def nodes_killed(place):
    """Wrong nodes are refused; used_bytes are what the kernel says; with the tool the program ends."""
    result = place.run(NODES_KILLED, Machine(thp="madvise"), programs=["vm_hot"],
                       files=product(place.build))
    files = texts_of(result)
    judge_script(result)
    refused = files["refused"].splitlines()
    for said, status, what in zip(refused[::2], refused[1::2],
                                  ("node:1: slower than node 0: name the fastest tier first",
                                   "node:1: it has only", "node:0: it has only",
                                   "node:2: no such node with memory; here there is 0-1")):
        check(what in said and status == "2", f"{refused}")
    check(len(refused) == 8, f"{refused}")
    used = [tier["used_bytes"] >> 12 for tier in json.loads(files["stats"])["tiers"]]
    there = [anon_pages_on(files["numa_maps"], node) for node in (0, 1)]
    in_time(there[1] > 16 << 8, f"{there} pages on the nodes")
    for node in (0, 1):
        check(abs(used[node] - there[node]) <= 256, f"node {node}: {used} pages by us, {there} by the kernel")
    check(not files["left"] or re.search("[ZX]", files["left"]), f"it runs on: {files['left']}")
    check("pagetide: the server ended; ending the program" in files["errors"], files["errors"])
    check("MISMATCH" not in files["errors"], files["errors"])
    return f"{used} pages by us, {there} by the kernel"


# All but some 60 MiB of the fast node are taken by others.
NODES_FULL = """
mkdir /tmp/hog
mount -t tmpfs -o mpol=bind:0,size=1G tmpfs /tmp/hog
free=$(sed -n 's/.*MemFree: *\\([0-9]*\\) kB/\\1/p' /sys/devices/system/node/node0/meminfo)
dd if=/dev/zero of=/tmp/hog/file bs=1M count=$((free / 1024 - 60)) 2> /dev/null
export LIVE_BUDGET_MIB=64
pagetide run --tier node:0,size=64M --tier node:1 --stats $RESULTS/stats -- \
	vm_hot --size 72 --hot 4 --pattern runs16 --seconds 4 > $RESULTS/hot 2> $RESULTS/errors
echo $? > $RESULTS/status
"""


def nodes_full(place):
    """A fast node that others fill: less of it is used, and nothing goes wrong."""
    result = place.run(NODES_FULL, Machine(memory_mib=[384, 512], thp="madvise"), programs=["vm_hot"],
                       files=product(place.build))
    judge_script(result)
    files = texts_of(result)
    check(files["status"] == "0\n", f"{files['status']}: {files['errors']}")
    reports(files["hot"].splitlines())
    fast, slow = json.loads(files["stats"])["tiers"]
    in_time(slow["peak_bytes"] > 16 << 20 and fast["capacity_bytes"] < 64 << 20, f"{fast} {slow}")
    return f"{fast['capacity_bytes'] >> 20} MiB of it, {slow['peak_bytes'] >> 20} MiB of the slow one"


VERBS = """
vm_hot --size 96 --hot 32 --pattern pages --threads 1 > /tmp/hot & hot=$!
until grep -q report /tmp/hot; do alive $hot; sleep 0.2; done
count() { grep "^$1 " /proc/vmstat | cut -d' ' -f2; }
pagetide topo --json > $RESULTS/topo
for seconds in 8 30 60; do # on a busy machine not all that is in use is touched so soon
	pagetide pages -p $hot --for ${seconds}s --json > $RESULTS/before || exit
	used=0
	for bytes in $(grep -oE '"(hot|warm)_bytes": [0-9]+' $RESULTS/before | grep -oE '[0-9]+$'); do
		used=$((used + bytes))
	done
	[ $used -lt $((32 << 20)) ] || break
done
pagetide migrate -p $hot --from 1 --to 0 --dry-run --json > $RESULTS/dry || exit
before=$(count pgmigrate_success)
pagetide migrate -p $hot --from 1 --to 0 --json > $RESULTS/migrate || exit
echo $(($(count pgmigrate_success) - before)) > $RESULTS/kernel
pagetide pages -p $hot --json > $RESULTS/after
pagetide pages -p $hot; vm_terminal $RESULTS/progress pagetide migrate -p $hot --from 0 --to 1
# It says so when a part is done; on a busy machine it may be through before it is interrupted.
for i in $(seq 5); do
	pagetide migrate -p $hot --from 1 --to 0 --json > /dev/null || exit
	before=$(count pgmigrate_success)
	vm_terminal $RESULTS/cut -i '%, 16M of' pagetide migrate -p $hot --from 0 --to 1 --json > $RESULTS/stopped
	status=$?
	echo $(($(count pgmigrate_success) - before)) > $RESULTS/kernel_stopped
	[ $status = 0 ] || break
done
echo $status > $RESULTS/status
kill -TERM $hot; wait $hot || exit
cp /tmp/hot $RESULTS/hot
"""


def verbs(place):
    """topo, pages and migrate, with its progress, of a process in use, which compares its bytes at the end."""
    result = place.run(VERBS, Machine(thp="madvise"), programs=["vm_hot", "vm_terminal"],
                       files=[(place.pagetide, None)])
    judge_script(result)
    with tarfile.open(fileobj=io.BytesIO(result.results)) as archive:
        text = {name: archive.extractfile("./" + name).read().decode() for name in
                ("topo", "before", "dry", "migrate", "kernel", "after", "hot", "progress", "cut", "stopped",
                 "kernel_stopped", "status")}
    topo, before, dry, moved, after, stopped = (json.loads(text[name]) for name in
                                                ("topo", "before", "dry", "migrate", "after", "stopped"))
    check((topo["fast"], topo["slow"]) == ("0", "1"), text["topo"])
    pages = 96 << 20 >> 12
    check(before["nodes"][1]["kinds"]["anon"] == 96 << 20, text["before"])
    slow = before["nodes"][1]
    check(before["heat"] == "hint" and slow["bytes"] >= 96 << 20, text["before"])
    in_time(slow["hot_bytes"] + slow["warm_bytes"] >= 32 << 20, f"not all of 32 MiB in use: {text['before']}")
    check(slow["hot_bytes"] + slow["warm_bytes"] + slow["cold_bytes"] <= slow["bytes"], text["before"])
    check(before["nodes"][0]["hot_bytes"] is None, text["before"]) # the sensor sees nothing there
    check(dry["moves"]["would_move"] == pages and dry["moves"]["moved"] == 0, text["dry"])
    in_time(not moved["moves"]["failed"].get("busy"), text["migrate"]) # it is in use
    check(moved["moves"]["moved"] == moved["moves"]["requested"] == pages, text["migrate"])
    check(int(text["kernel"]) == pages, f"the kernel counted {text['kernel']}")
    check(after["nodes"][1]["bytes"] == 0, text["after"])
    shown = [int(percent) for percent in re.findall(r"\rpagetide: +(\d+)%, ", text["progress"])]
    check(len(shown) > 2 and shown == sorted(shown) and shown[-1] >= 99, repr(text["progress"]))
    in_time(text["status"] != "0\n", f"it was through each time: {text['cut']!r}")
    check(text["status"] == "130\n" and stopped["stopped"], f"{text['status']} {text['stopped']}, {text['cut']!r}")
    moves = stopped["moves"]
    ended = moves["moved"] + moves["pending"] + total(moves["failed"]) + total(moves["dropped"])
    in_time(moves["pending"], f"it was nearly through: {text['stopped']}")
    check(moves["requested"] == ended and moves["moved"], text["stopped"])
    check(int(text["kernel_stopped"]) == moves["moved"], f"the kernel counted {text['kernel_stopped']}: {text['stopped']}")
    reports(text["hot"].splitlines())
    return (f"{pages} pages in {moved['wall_ns'] / 1e9:.1f} s, {moved['stall_ns']['calls']} calls\n"
            + result.output.decode())


FOUR = f"""
cd /sys/devices/system/node
echo $(cat online {TIERS}/memory_tier*/nodelist node*/cpulist node2/distance)
cat > /tmp/wait <<'.'
dd if=/dev/zero of=/dev/shm/file bs=1M count=1 2>/dev/null
exec sleep 1000
.
sh /tmp/wait & other=$!
until grep -q "(sleep) S" /proc/$other/stat; do alive $other; sleep 0.2; done
pagetide topo
pagetide migrate -p $other --from 2-3 --to 4 && exit 1
pagetide migrate -p $other --from all --to 2 --json | grep '"to"'
pagetide pages -p $other --json | grep -c bytes
pagetide migrate -p $other --from !3 --to 3 > /dev/null; echo $?
pagetide pages -p $other
for sensor in "" "--sensor hint"; do
	pagetide attach -p $other --fast 0 --slow 1 $sensor --for 1s 2>&1 > /dev/null | grep -E "sensor (hint|damon)|to be slow"
done
kill $other
"""


def four_nodes(place):
    """Two nodes of each tier; lists of nodes; what is moved is on the node that was asked for. Of a slow node that is
    fast to the kernel the best sensor sees nothing: another is taken, or it is said."""
    said = place.lines(FOUR, Machine(nodes=4, cpu_nodes=2, memory_mib=[512]),
                       files=[(place.pagetide, None)])
    check(said[0] == "0-3 0-1 2-3 0 1 30 40 10 40", said[0])
    check("fast by default: 0-1; slow: 2-3" in said, str(said))
    check('  "to": "2",' in said, str(said))
    rows = {line.split()[0]: line for line in said if re.match(r" +\d (fast|slow) ", line)}
    # Of what stays where it was, all is code that others run, too.
    sensors = [line for line in said if "sensor" in line]
    check(sensors[0].startswith("pagetide: not sensor hint: it sees nothing of nodes that are fast to the kernel") and
          [line.split(":")[1] for line in sensors[1:3]] == [" sensor damon", " sensor hint"] and
          "sees nothing there" in sensors[3], str(sensors))
    check("anon" in rows["3"] and not re.search("anon|heap|stack", rows["0"] + rows["1"] + rows["2"]),
          "\n".join(said))
    return "\n".join(said)


CASES = {
    "comes-back": comes_back,
    "death-is-told": death_is_told,
    "two-tiers": two_tiers,
    "one-tier-without-hmat": one_tier_without_hmat,
    "move-pages": move_pages,
    "hint-faults": hint_faults,
    "wrong-byte-is-seen": wrong_byte_is_seen,
    "kernel-tiering": kernel_tiering,
    "process-space": process_space,
    "storm": storm,
    "attach-converges": attach_converges,
    "attach-dry-run": attach_dry_run,
    "attach-shared": attach_shared,
    "attach-groups": attach_groups,
    "attach-nodes-change": attach_nodes_change,
    "attach-kvm": attach_kvm,
    "attach-looks-at-sleepers": attach_looks_at_sleepers,
    "attach-killed": attach_killed,
    "attach-first-of-a-namespace": attach_first_of_a_namespace,
    "attach-follows-orphans": attach_follows_orphans,
    "attach-follows-the-accessor": attach_follows_the_accessor,
    "attach-makes-room": attach_makes_room,
    "control": control,
    "sensor-damon": sensor_damon,
    "sensor-soft-dirty": sensor_soft_dirty,
    "sensor-trace": sensor_trace,
    "daemon-selects": daemon_selects,
    "daemon-fast-max": daemon_fast_max,
    "daemon-fast-min": daemon_fast_min,
    "daemon-as-a-service": daemon_as_a_service,
    "daemon-control": daemon_control,
    "runtime": runtime,
    "runtime-swapped": runtime_swapped,
    "nodes": nodes,
    "nodes-then-lz4": nodes_then_lz4,
    "nodes-hot-set": nodes_hot_set,
    "nodes-killed": nodes_killed,
    "nodes-full": nodes_full,
    "verbs": verbs,
    "four-nodes": four_nodes,
}
# They take all the CPUs there are.
ALONE = ("storm",)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pagetide", required=True, help="the program to test")
    parser.add_argument("--programs", required=True, help="folder of the live_* programs")
    parser.add_argument("--vm-programs", required=True, help="folder of the vm_* programs")
    parser.add_argument("--only", help="a pattern that the names must match")
    parser.add_argument("--storm-seconds", type=int, default=15, help="of the case storm (15)")
    # A guest keeps little more than one CPU of ours busy.
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count()), help="guests side by side (2)")
    options = parser.parse_args()
    place = Place(options.pagetide, options.programs, options.vm_programs, options.storm_seconds)
    return tap_main(CASES, place, options.only, options.jobs, ALONE)


if __name__ == "__main__":
    sys.exit(main())
