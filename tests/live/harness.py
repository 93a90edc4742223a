# SPDX-License-Identifier: MIT
"""What the live drivers share: start a program under pagetide, watch it, judge it, clean up.

A case passes only if the program says that every byte was right, the statistics say that pages
really went out and came back, their sums agree, and the resident memory kept to the budget.
Only processes that this driver started are ever signalled: they are found below its own child.
"""
import argparse
import concurrent.futures
import ctypes
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1 << 20
SKIP = 77
KCMP_VM = 1
SYS_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


class Late(Failed):
    """Not so far as asked, in the time it had. In an emulated guest time passes as the host lets it."""


class Unproved(Late):
    """Nothing was wrong, and nothing happened either."""


def check(condition, text):
    if not condition:
        raise Failed(text)


# What programs, the tool, sanitizers, the C library, shells and kernels say when something is wrong: none of it is
# said of what is only too slow. A CPU that got no time from the host is called locked up by an emulated kernel.
WRONG = re.compile(rb"MISMATCH|FAILED|internal error|ending the program|[Ss]anitizer|Oops|Kernel panic|"
                   rb"BUG: (?!soft lockup|workqueue lockup)|\] WARNING|Out of memory|Killed|core dumped|Aborted|"
                   rb"Segmentation fault|Bus error|Illegal instruction|stack smashing|corrupt|double free")

# A shell's status of who died of a signal that no test sends to who is to go on.
CRASHED = [128 + number for number in (signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE,
                                       signal.SIGKILL, signal.SIGSEGV, signal.SIGSYS)]


def gave_up(text, status, *said):
    """What ran in an emulated guest came to an end that it was not to come to, or to none (status None). Where it
    crashed, or anybody has said that something is wrong, the case fails at once; else it was only late."""
    if status in CRASHED or any(WRONG.search(one) for one in said):
        raise Failed(text)
    raise Late(text)


def process_stat(pid):
    """(state, parent, start time) of a process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def descendants(root):
    """Every process below `root` as {pid: start time}."""
    children = {}
    starts = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = process_stat(int(name))
            if stat and stat[0] != "Z":
                children.setdefault(stat[1], []).append(int(name))
                starts[int(name)] = stat[2]
    found = {}
    left = [root]
    while left:
        for child in children.get(left.pop(), []):
            if child not in found:
                found[child] = starts[child]
                left.append(child)
    return found


def alive(pid, start):
    stat = process_stat(pid)
    return stat is not None and stat[2] == start and stat[0] != "Z"


def kill_all(processes):
    for pid, start in processes.items():
        if alive(pid, start):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def same_memory(one, other):
    return SYS_KCMP is not None and libc.syscall(SYS_KCMP, one, other, KCMP_VM, 0, 0) == 0


def resident_bytes(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="latin-1") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def resident_sum_bytes(processes, tool=None):
    """Resident anonymous memory: each address space once, that of `tool` left out."""
    total = 0
    counted = []
    for pid in processes:
        try:
            if os.path.realpath(f"/proc/{pid}/exe") == tool:
                continue
        except OSError:
            continue
        if not any(same_memory(pid, other) for other in counted):
            counted.append(pid)
            total += resident_bytes(pid)
    return total


# On a busy machine looks come late. What was over at both ends of a longer gap may have been below between.
WATCH_GAP_S = 0.25


class Watch(threading.Thread):
    """Looks 20 times a second: peak and longest excess of resident memory, that of `tool` left out; processes seen."""

    def __init__(self, root, tool, limit_bytes):
        super().__init__(daemon=True)
        self.root, self.tool, self.limit_bytes = root, tool, limit_bytes
        self.peak_bytes = 0
        self.longest_excess_s = 0.0
        self.seen = {}
        self.done = threading.Event()
        self.start()

    def run(self):
        over_since = None
        now = time.monotonic()
        while not self.done.wait(0.05):
            before, now = now, time.monotonic()
            below = descendants(self.root)
            self.seen.update(below)
            resident = resident_sum_bytes([self.root, *below], self.tool)
            self.peak_bytes = max(self.peak_bytes, resident)
            if resident <= self.limit_bytes:
                over_since = None
                continue
            if over_since is None or now - before > WATCH_GAP_S:
                over_since = now
            self.longest_excess_s = max(self.longest_excess_s, now - over_since)

    def finish(self):
        self.done.set()
        self.join()


class Result:
    def __init__(self):
        self.status = None
        self.output = b""
        self.errors = b""
        self.stats = None
        self.peak_bytes = 0
        self.longest_excess_s = 0.0
        self.seconds = 0.0
        self.left_behind = []
        self.slow = False


class Place:
    """Where the tool and the test programs are, and a folder that goes away with us.

    `sanitized`: the tool is built with the thread sanitizer. It is slow then: the budget is not judged,
    and time limits are wide; but a single report of it fails the case.
    """

    def __init__(self, pagetide, programs, native=False, sanitized=False):
        self.pagetide = os.path.realpath(pagetide)
        self.programs = os.path.realpath(programs)
        self.native = native
        self.sanitized = sanitized
        self.folder = tempfile.mkdtemp(prefix="pagetide-live-")

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def why_not(self):
        """Why nothing can run here, or None."""
        if self.native:
            return None
        if not os.access(self.pagetide, os.X_OK):
            return f"{self.pagetide} is not built"
        probe = subprocess.run([self.pagetide, "check"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                               check=False)
        if probe.returncode != 0:
            lines = probe.stdout.decode(errors="replace").strip().splitlines()
            missing = [line for line in lines if re.search(r"\b(no|missing|absent)\b", line)]
            return "pagetide check: " + " | ".join((missing or lines or ["failed"])[:3])
        return None

    def command(self, argv, tiers, options=(), stats=None):
        if self.native:
            return list(argv)
        command = [self.pagetide, "run", *options]
        for tier in tiers:
            command += ["--tier", tier]
        if stats:
            command += ["--stats", stats]
        return command + ["--"] + list(argv)

    def alone(self):
        """The same place without the tool."""
        place = Place.__new__(Place)
        place.__dict__.update(self.__dict__, native=True)
        return place

    def linger(self, processes):
        """Those still there a while after the tool has ended, helpers of ours among them."""
        deadline = time.monotonic() + 60
        while True:
            left = [pid for pid, start in processes.items() if alive(pid, start)]
            if not left or self.native or time.monotonic() > deadline:
                return [] if self.native else left
            time.sleep(0.02)

    def sanitizer_reports(self):
        """What the sanitizer has written down since it was asked last."""
        text = ""
        for path in glob.glob(os.path.join(self.folder, "report.*")):
            with open(path, encoding="utf-8", errors="replace") as file:
                text += file.read()
            os.unlink(path)
        return text

    def run(self, argv, budget_mib, timeout_s=300, tiers=None, options=(), env=None, stdin=None,
            during=None, stdout=None, limit_mib=None, prefix=(), with_tool=False):
        """Run to the end. `during(process)` is called while it runs. `prefix`: a command that ends by
        executing the rest of its arguments.

        The program is told `budget_mib`; `limit_mib` is what it is held to if that is another, `with_tool`: it
        and the tool together.
        """
        result = Result()
        stats_path = os.path.join(self.folder, "stats.json")
        if os.path.exists(stats_path):
            os.unlink(stats_path)
        tiers = [f"dram:{budget_mib}M", "lz4"] if tiers is None else tiers
        environment = dict(os.environ, LIVE_TMP=self.folder)
        environment.pop("LIVE_BUDGET_MIB", None)
        if not self.native:
            environment["LIVE_BUDGET_MIB"] = str(budget_mib)
        if self.sanitized:
            environment["TSAN_OPTIONS"] = "exitcode=0 log_path=" + os.path.join(self.folder, "report")
            timeout_s *= 5
            result.slow = True
        environment.update(env or {})
        started, late = time.monotonic(), None
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen([*prefix, *self.command(argv, tiers, options, stats_path)],
                                       stdin=stdin or subprocess.DEVNULL,
                                       stdout=stdout or output, stderr=errors, env=environment,
                                       cwd=self.folder)
            watch = Watch(process.pid, None if with_tool else self.pagetide,
                          (limit_mib or budget_mib) * MIB * 105 // 100)
            try:
                if during:
                    during(process)
                result.status = process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                result.status = None
            except Late as reason:
                late = reason
            finally:
                ended = process.poll() is not None
                left = descendants(process.pid)
                if process.poll() is None:
                    process.kill()
                    process.wait()
                kill_all(left)
                watch.finish()
                result.left_behind = self.linger(watch.seen)
                kill_all(watch.seen)
            output.seek(0)
            errors.seek(0)
            result.output = output.read()
            result.errors = errors.read()
        reports = self.sanitizer_reports()
        check(not reports, reports[:4000])
        if late: # also because of who has ended, or has seen a wrong byte
            check(not ended, f"{late}; ended with {process.returncode}: {tail(result.errors)}")
            said = result.output + result.errors
            check(not WRONG.search(said), f"{late}; said: {tail(said)}")
            raise late
        result.seconds = time.monotonic() - started
        result.peak_bytes = watch.peak_bytes
        result.longest_excess_s = watch.longest_excess_s
        if os.path.exists(stats_path):
            with open(stats_path, encoding="utf-8") as file:
                result.stats = json.load(file)
        return result


def stats_now(place, process):
    """What `pagetide stats` tells of a run, or None."""
    done = subprocess.run([place.pagetide, "stats", "--json", str(process.pid)], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=60, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def tail(data, length=600):
    return data.decode(errors="replace").strip()[-length:].replace("\n", " / ")


def judge_end(result, expected=0):
    """How it ended, and that no wrong byte was seen on the way."""
    check(result.status is not None, f"timed out; said: {tail(result.errors)}")
    check(b"MISMATCH" not in result.errors + result.output, tail(result.errors + result.output))
    if result.status == SKIP:
        raise Skipped(tail(result.errors).removeprefix("SKIP "))
    check(result.status == expected,
          f"exit status {result.status}, not {expected}; said: {tail(result.errors)}")
    check(not result.left_behind, f"left processes behind: {result.left_behind}")


def total(value):
    """A count, or the sum over the reasons of one."""
    return sum(total(part) for part in value.values()) if isinstance(value, dict) else value


def judge_stats(stats, moved=True):
    """Pages went out and came back, and what was asked for is accounted for."""
    check(stats is not None, "no statistics were written")
    for key in ("schema", "version", "program", "exit_status", "wall_ns", "page_size", "tiers",
                "managed_bytes", "peak_managed_bytes", "stored_pages", "faults", "moves",
                "promoted_pages", "demoted_pages", "read_ahead", "overhead", "unmanaged"):
        check(key in stats, f"the statistics have no {key}")
    moves = stats["moves"]
    ended = total(moves["moved"]) + total(moves["failed"]) + total(moves["dropped"]) + \
        moves["pending"]
    check(moves["requested"] == ended,
          f"moves requested {moves['requested']} but ended or pending {ended}: {moves}")
    check(moves["moved"] == moves["held"] + moves["stored"] + moves["demoted"], f"moves: {moves}")
    check(stats["exit_status"] is None or stats["demoted_pages"] == moves["stored"],
          f"{stats['demoted_pages']} pages demoted, {moves['stored']} stored")
    if moved:
        demoted = stats["demoted_pages"] + moves["demoted"]
        for count, text in ((demoted, "no page was demoted"),
                            (stats["faults"]["count"], "no fault was served")):
            if count <= 0:
                raise Unproved(text + ": this run proved nothing")
        check(stats["faults"]["p50_ns"] <= stats["faults"]["p99_ns"] <=
              stats["faults"]["max_ns"], f"fault times are not in order: {stats['faults']}")


def judge_budget(result, budget_mib):
    """The only thing that is judged by time: so who fails it may have had too little of a busy machine."""
    if not result.slow and result.longest_excess_s > 1.0:
        raise Late(f"resident memory was over {budget_mib} MiB + 5 % for {result.longest_excess_s:.1f} s "
                   f"(peak {result.peak_bytes / MIB:.1f} MiB)")


SAID = threading.Lock()


def say(*lines):
    """Print these lines in one go: threads that have cases at once do not run into each other's."""
    with SAID:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()


# A machine with much else to do makes one or two of a hundred cases late; more of them it is not the machine.
AGAIN_AT_MOST = 3


class Tap:
    """Test Anything Protocol on standard output, with what each case took. Threads may have cases at once."""

    def __init__(self, names):
        self.number = self.nr_failed = 0
        self.lock = threading.Lock()
        self.took = []
        say(f"1..{len(names)}")

    def case(self, name, function, place, late=None):
        """With a list `late`, who was late, or proved nothing, is put there and nothing is judged yet, as long as
        these are few."""
        started = time.monotonic()
        note = ""
        try:
            note = function(place) or ""
            verdict, suffix = "ok", ""
        except Skipped as reason:
            verdict, suffix = "ok", f" # SKIP {reason}"
        except Late as reason:
            if late is not None and self.may_try_again(name, late):
                said = str(reason).replace("\n", " / ") # one line, or what a guest said could be read as results
                say(f"# {name} has to be tried again: {said}")
                return
            # A sanitizer's server may be too slow for a program that is soon through.
            slow = isinstance(reason, Unproved) and place is not None and place.sanitized
            verdict, suffix = ("ok", f" # SKIP {reason}") if slow else ("not ok", "")
            note = "" if slow else str(reason)
        except Exception as reason: # pylint: disable=broad-except # of a case: the others go on
            verdict, suffix = "not ok", ""
            note = f"{type(reason).__name__}: {reason}"
        with self.lock:
            self.number += 1
            self.nr_failed += verdict != "ok"
            self.took.append((time.monotonic() - started, name))
            say(f"{verdict} {self.number} - {name}{suffix}", *(f"# {line}" for line in note.splitlines()),
                f"# {self.took[-1][0]:.1f} s")

    def may_try_again(self, name, late):
        with self.lock:
            if len(late) == AGAIN_AT_MOST:
                return False
            late.append(name)
            return True

    def end(self, again):
        say("# slowest: " + ", ".join(f"{name} {seconds:.0f} s"
                                      for seconds, name in sorted(self.took, reverse=True)[:12]),
            f"# tried again: {len(again)}" + "".join(f" {name}" for name in again))


def end_on_signals(places):
    """Told to end: everything that was started goes, and the folders."""
    def stop(number, _frame):
        # No exception: it could come while a lock is held that the clean-up needs.
        kill_all(descendants(os.getpid()))
        for place in places:
            place.close()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def tests_main(cases):
    """Read the command line, run {name: function(place)}, or what cases(place) gives, as TAP; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pagetide", required=True, help="the program to test")
    parser.add_argument("--programs", required=True, help="folder of the live_* programs")
    parser.add_argument("--native", action="store_true", help="without pagetide")
    parser.add_argument("--sanitized", action="store_true",
                        help="pagetide is built with the thread sanitizer: any report fails")
    parser.add_argument("--only", help="a pattern that the names must match")
    options = parser.parse_args()
    place = Place(options.pagetide, options.programs, options.native, options.sanitized)
    return tap_main(cases(place) if callable(cases) else cases, place, options.only)


def tap_main(cases, place, only=None, jobs=1, alone=()):
    """Run {name: function(place)}, so many at once but for those that are to be alone, and return the exit status.
    A case that was late, or proved nothing, gets a second try at the end, by itself; but not more than a few."""
    names = [name for name in cases if not only or re.search(only, name)]
    reason = place.why_not()
    if reason:
        print(f"1..0 # SKIP {reason}")
        return 0

    end_on_signals([place])
    try:
        tap, late = Tap(names), []
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            each = pool.map if jobs > 1 else map
            list(each(lambda name: tap.case(name, cases[name], place, late),
                      [name for name in names if name not in alone]))
        for name in [name for name in names if name in alone]:
            tap.case(name, cases[name], place, late)
        for name in late:
            tap.case(name, cases[name], place)
        tap.end(late)
    finally:
        kill_all(descendants(os.getpid()))
        place.close()
    return 1 if tap.nr_failed else 0
