#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Live tests: programs that compare every byte of their memory while it comes and goes.

Without --native they run under `pagetide run` with a third of the memory they use. With it they
run by themselves: a case that fails there is a wrong test.
"""
import contextlib
import ctypes
import errno
import glob
import json
import os
import pty
import random
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import time

from harness import (Late, MIB, Skipped, Unproved, alive, check, descendants, gave_up, judge_budget, judge_end,
                     judge_stats, kill_all, libc, process_stat, resident_bytes, resident_sum_bytes,
                     same_memory, stats_now, tail, tests_main)

BUDGET_MIB = 32
PROGRAMS = ("map", "advice", "page", "fork", "change", "churn", "exec", "io", "thread", "rights", "hold", "process")

# The sum over a family of processes counts the pages they share more than once; what is locked or
# read-only cannot be moved out.
NO_BUDGET = {"fork", "change", "guards-before-first-touch", "huge-fork", "huge-child-ends",
             "huge-helper-killed", "huge-mprotect-part",
             "address-space-reserved", "mprotect-small-pieces", "pid-namespace", "pid-namespace-then-exec",
             "takes-in-orphans", "helper-unseen-rule02", "limits-lowered", "mlock-stays", "mlockall-later",
             "process-vm-readv-rule24", "close-everything-rule05", "rights-dropped", "streams-beside-changes",
             "streams-then-moved", "fork-and-exec-while-cancelled"}
# Cases whose program is made for another test below.
NOT_ALONE = {"hold", "unmanaged-until-signal", "hold-until-signal", "hold-family", "changes-until-signal", "fits-rule23",
             "memory-of-two", "many-variables",
             "killed-while-faulting", "wrong-byte-is-seen", "grows-when-told", "exec-then-rest", "rest-after-pressure", "address-space-limited",
             "fill-beside", "dumps-core", "stack-as-laid-out", "child-changes-at-once-full",
             "orphans-taken-in", "is-managed", "pid-namespace-begins", "exit-with-seven", "many-programs"}
# Cases whose helper is killed once nothing moves any more.
HELPER_KILLED = {"helper-killed-fork", "helper-killed-counts"}
# Cases that mostly read stored memory in order: a fault brings back many pages.
READ_IN_ORDER = {"streams-beside-changes", "streams-then-moved"}
# Cases that change their mappings all the time: there is room to be made all the same.
CHANGES_ALL_THE_TIME = {"discards-beside-allocations"}
# Cases in which other processes than the one asked for must say that all is well.
OUTPUT = {"fork-program-exits-first-rule04": b"child ok\n"}


def program_case(program, name):
    def run(place):
        during = helper_kill(place) if name in HELPER_KILLED and not place.native else None
        result = place.run([os.path.join(place.programs, f"live_{program}"), name], BUDGET_MIB, during=during)
        if place.sanitized and b"nobody can tell where it is now" in result.errors:
            raise Unproved("the server was too slow to be told all in time, and ended the child, as it is to")
        judge_end(result)
        if place.native:
            return None
        check(result.output == OUTPUT.get(name, b""), f"printed: {tail(result.output)}")
        judge_stats(result.stats)
        if not NO_BUDGET & {program, name}:
            judge_budget(result, BUDGET_MIB)
        if name in CHANGES_ALL_THE_TIME:
            judge_room(result)
        if name in READ_IN_ORDER:
            promoted, faults = result.stats["promoted_pages"], result.stats["faults"]["count"]
            if promoted < 2 * faults:
                raise Late(f"{faults} faults for {promoted} pages")
        return (f"peak {result.peak_bytes / MIB:.0f} MiB, demoted "
                f"{result.stats['demoted_pages']}, faults {result.stats['faults']['count']}, "
                f"p50 {result.stats['faults']['p50_ns'] / 1000:.0f} us, "
                f"p99 {result.stats['faults']['p99_ns'] / 1000:.0f} us")
    return run


# By case: which counts of huge pages must not be zero. A block needs a larger budget to be a small part.
HUGE_BUDGET_MIB = 128
HUGE_CASES = {
    "huge-half-of-memory": ("filled", "held"),
    "huge-hot-part": ("filled", "held", "returned"),
    "huge-advised-late": ("filled",),
    "huge-dontneed-part": ("filled", "held"),
    "huge-munmap-mid-block": ("filled", "held"),
    "huge-mremap-block": ("filled", "held"),
    "huge-mprotect-part": ("filled", "held"),
    "huge-fork": ("filled",),
    "huge-child-ends": ("filled",),
    "huge-helper-killed": ("filled", "held"),
    "huge-threads-one-block": ("filled", "held"),
    "huge-threads-discard": ("filled",),
}
THP_MODE = "/sys/kernel/mm/transparent_hugepage/enabled"


def helpers_below(process):
    found = []
    for pid in descendants(process.pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="latin-1") as file:
            if file.read().strip() == "tide-helper":
                found.append(pid)
    return found


def helper_kill(place):
    """Kill the helper when nothing has moved for a while, then let the program go on."""
    path = os.path.join(place.folder, "helper-killed")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)

    before = None

    def rests(process):
        nonlocal before
        time.sleep(0.5)
        stats, last = stats_now(place, process), before
        before = stats and (stats["demoted_pages"], stats["huge_pages"], stats["moves"]["requested"])
        return before and before[0] and before == last and not stats["moves"]["pending"]

    def during(process):
        in_time(lambda: rests(process), "pages have not come to rest")
        helpers = helpers_below(process)
        check(len(helpers) == 1, f"helpers: {helpers}")
        os.kill(helpers[0], signal.SIGKILL)
        time.sleep(0.3)
        with open(path, "w", encoding="ascii"):
            pass
    return during


def only_with_huge_pages():
    if not os.path.exists(THP_MODE) or "[never]" in open(THP_MODE, encoding="ascii").read():
        raise Skipped("transparent huge pages are off: echo madvise > " + THP_MODE)


def huge_counted(huge, counted):
    """Each of these was done at least once; the kernel has not always a huge page to give."""
    for count in counted:
        if not huge[count]:
            raise Unproved(f"no huge page was {count}: {huge}")


def huge_case(name, counted):
    def run(place):
        only_with_huge_pages()
        kill = name == "huge-helper-killed" and not place.native
        during = helper_kill(place) if kill else None
        result = place.run([os.path.join(place.programs, "live_huge"), name], HUGE_BUDGET_MIB,
                           during=during)
        judge_end(result)
        if place.native:
            return None
        judge_stats(result.stats)
        if name not in NO_BUDGET:
            judge_budget(result, HUGE_BUDGET_MIB)
        huge = result.stats["huge_pages"]
        huge_counted(huge, counted)
        check(result.stats["vanished_pages"] == 0, "pages vanished")
        return f"peak {result.peak_bytes / MIB:.0f} MiB, huge pages {huge}"
    return run


def judge_room(result):
    """Who grows waits for room, but not for ever: it may have been the machine that made none for so long."""
    if b"above the budget" in result.errors:
        raise Late(f"said: {tail(result.errors)}")


def thread_program(place):
    return os.path.join(place.programs, "live_thread")


def hold_program(place):
    return os.path.join(place.programs, "live_hold")


def only_with_tool(place):
    if place.native:
        raise Skipped("is about the tool itself")


# ---- what a program sees of itself ---------------------------------------------------------------

def both(place, argv, **more):
    """The same command by itself and under the tool."""
    only_with_tool(place)
    env = dict(more.pop("env", {}), LIVE_BUDGET_MIB=str(BUDGET_MIB))
    return (place.alone().run(argv, BUDGET_MIB, env=env, **more),
            place.run(argv, BUDGET_MIB, env=env, **more))


def environment_as_without(place):
    for argv in (["env", "-0"], ["sh", "-c", "exec env -0"], ["sh", "-c", "env -0; true"]):
        alone, under = both(place, argv, env={"LIVE_ODD": "two\nlines", "LIVE_EMPTY": ""})
        alone = sorted(alone.output.split(b"\0"))
        under = sorted(under.output.split(b"\0"))
        check(alone == under, f"{argv}: differs in "
              f"{sorted(set(alone) ^ set(under))}")


def environment_emptied(place):
    for argv in (["env", "-i", "env", "-0"], ["env", "-i", "A=1", "sh", "-c", "env"]):
        alone, under = both(place, argv)
        check(alone.output == under.output, f"{argv}: {alone.output} and {under.output}")


def preload_of_the_user_kept(place):
    library = subprocess.run(["gcc", "-print-file-name=libm.so.6"], stdout=subprocess.PIPE,
                             check=False).stdout.decode().strip()
    if not os.path.isabs(library):
        raise Skipped("no library to preload was found")
    library = os.path.realpath(library)
    for argv in (["env", "-0"], ["sh", "-c", "env -0; true"]):
        alone, under = both(place, argv, env={"LD_PRELOAD": library})
        check(sorted(alone.output.split(b"\0")) == sorted(under.output.split(b"\0")),
              f"{argv}: the environment differs with LD_PRELOAD set")
        check(b"LD_PRELOAD=" + library.encode() in under.output, "LD_PRELOAD was lost")
    _, under = both(place, ["cat", "/proc/self/maps"], env={"LD_PRELOAD": library})
    check(library.encode() in under.output, "the user's library was not loaded")


def stack_as_laid_out(place):
    """Who reads the stack without libc, as Go programs do, finds there what belongs there, and no word of ours."""
    program = [os.path.join(place.programs, "live_process"), "stack-as-laid-out"]
    library = os.path.realpath(os.path.join(os.path.dirname(place.pagetide), "src/inject/libpagetide-inject.so"))
    for argv in (program, ["sh", "-c", 'exec "$@"', "sh", *program], ["env", "-i", "A=1", *program],
                 ["env", "-i", *program], ["env", "LD_PRELOAD=" + library, *program]):
        alone, under = both(place, argv)
        judge_end(alone)
        judge_end(under)
        check(sorted(alone.output.splitlines()) == sorted(under.output.splitlines()),
              f"{argv}: {alone.output} and {under.output}")


def another_root(place):
    """A program that cannot see our library runs as it would alone, and nothing complains."""
    if os.getuid() != 0:
        raise Skipped("only root can change the root")
    root = os.path.join(place.folder, "root")
    program = os.path.join(place.programs, "live_process")
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, check=True).stdout.decode()
    for path in [program, *re.findall(r"(/\S+) \(", listed)]:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        shutil.copy(path, root + path)
    for argv in (["chroot", root, program, "stack-as-laid-out"],
                 ["chroot", root, program, "stack-as-laid-out-again"]):
        alone, under = both(place, argv)
        check(alone.errors == under.errors, f"said: {tail(under.errors)}")
        check(alone.status == under.status, f"status {under.status}, not {alone.status}")
        check(sorted(alone.output.splitlines()) == sorted(under.output.splitlines()),
              f"{alone.output} and {under.output}")


def narrow_child(place):
    """A 32-bit program cannot load our library, and does not complain."""
    path = os.path.join(place.folder, "narrow")
    done = subprocess.run(["gcc", "-m32", "-x", "c", "-o", path, "-"], input=b"int main(void) { return 5; }",
                          stderr=subprocess.DEVNULL, check=False)
    if done.returncode or subprocess.run([path], check=False).returncode != 5:
        raise Skipped("no 32-bit programs here: apt install gcc-multilib")
    for script in (path, f"exec {path}", f"PATH={place.folder} narrow", f"exec env {path}"):
        alone, under = both(place, ["sh", "-c", script])
        check(alone.status == under.status == 5, f"{script}: status {under.status}")
        check(under.errors == alone.errors, f"{script}: said: {tail(under.errors)}")


def under_valgrind(place):
    if not shutil.which("valgrind"):
        raise Skipped("valgrind is not installed")
    library = os.path.join(os.path.dirname(place.pagetide), "src/inject/libpagetide-inject.so")
    if subprocess.run(["valgrind", "-q", "true"], env=dict(os.environ, LD_PRELOAD=library), stderr=subprocess.DEVNULL,
                      check=False).returncode:
        raise Skipped("this valgrind does not read what the compiler has written")
    for argv in (["true"], ["sh", "-c", "(env -0); true"]):
        alone, under = both(place, ["valgrind", "-q", *argv])
        check(alone.status == under.status == 0, f"{argv}: status {under.status}")
        check(under.errors == alone.errors, f"{argv}: said: {tail(under.errors)}")


def arguments_as_without(place):
    odd = ["", "--tier", "-h", "a b", "\n", "*", "--", "é", "x" * 50000]
    alone, under = both(place, ["sh", "-c", r'printf "<%s>" "$0" "$@"', *odd])
    check(alone.output == under.output and len(under.output) > 50000, "arguments differ")
    alone, under = both(place, ["cat", "/proc/self/cmdline"])
    check(alone.output == under.output, f"{alone.output} and {under.output}")


def streams_are_the_programs(place):
    path = os.path.join(place.folder, "input")
    with open(path, "wb") as file:
        file.write(os.urandom(3 * MIB))
    with open(path, "rb") as file:
        _, under = both(place, ["true"])
        under = place.run(["sh", "-c", "cat; echo only this >&2"], BUDGET_MIB, stdin=file)
    with open(path, "rb") as file:
        check(under.output == file.read(), "standard output is not what the program wrote")
    check(under.errors == b"only this\n", f"standard error: {tail(under.errors)}")


def exit_status_kept(place):
    for code in (0, 1, 3, 77, 125, 255):
        alone, under = both(place, ["sh", "-c", f"exit {code}"])
        check(alone.status == under.status == code, f"exit {code} gave {under.status}")
        check(under.stats and under.stats["exit_status"] == code,
              f"exit {code}: the statistics say {under.stats and under.stats['exit_status']}")


def death_by_signal_kept(place):
    for name in ("SEGV", "TERM", "KILL", "ABRT", "USR1"):
        number = getattr(signal, "SIG" + name)
        _, under = both(place, ["sh", "-c", f"ulimit -c 0; kill -{name} $$"])
        check(under.status in (-number, 128 + number), f"SIG{name} gave {under.status}")


def terminate_is_passed_on(place):
    only_with_tool(place)

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
        process.send_signal(signal.SIGTERM)

    result = place.run([hold_program(place), "hold-until-signal"], BUDGET_MIB, during=during)
    judge_end(result)
    check(result.output.endswith(b"terminated\n"), f"printed: {tail(result.output, 100)}")


# ---- terminals -----------------------------------------------------------------------------------

class Terminal:
    """A shell with job control on a terminal of its own."""

    def __init__(self):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="", TERM="dumb", HISTFILE="", LC_ALL="C")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.start = process_stat(self.pid)[2]
        self.write("stty -echo; PS1=; PS2=; echo set''up\n")
        self.wait("setup")

    def write(self, text):
        os.write(self.fd, text.encode())

    def read_some(self, timeout_s):
        if not select.select([self.fd], [], [], timeout_s)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def wait(self, pattern, timeout_s=60):
        """Until the pattern is seen; what came up to its end is taken away."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end():]
                return found
            self.read_some(0.2)
        gave_up(f"the terminal never showed {pattern!r}, but: {self.text[-400:]!r}", None, self.text.encode())
        return None

    def close(self):
        kill_all(descendants(self.pid) | {self.pid: self.start})
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def with_terminal(place, name, act):
    only_with_tool(place)
    command = place.command([hold_program(place), name], [f"dram:{BUDGET_MIB}M", "lz4"],
                            ["--quiet"])
    terminal = Terminal()
    try:
        terminal.write(f"LIVE_BUDGET_MIB={BUDGET_MIB} " + " ".join(command) +
                       "; echo status=$?\n")
        terminal.wait("ready")
        terminal.wait("round")
        act(terminal)
        check("MISMATCH" not in terminal.text, terminal.text[-400:])
    finally:
        terminal.close()


def ctrl_c_handled(place):
    def act(terminal):
        terminal.write("\x03")
        terminal.wait("interrupted")
        terminal.wait("status=0")
    with_terminal(place, "hold-until-signal", act)


def ctrl_c_kills(place):
    def act(terminal):
        below = descendants(terminal.pid)
        terminal.write("\x03\n")
        # bash may give up the rest of the line as well, then there is a prompt only.
        deadline = time.monotonic() + 60
        while any(alive(*one) for one in below.items()) and time.monotonic() < deadline:
            terminal.read_some(0.1)
        check(not any(alive(*one) for one in below.items()), "still there after Ctrl-C")
        terminal.write("echo was''=$?\n")
        terminal.wait("was=")
    with_terminal(place, "hold", act)


def ctrl_z_stops_and_fg_goes_on(place):
    def act(terminal):
        below = descendants(terminal.pid)
        terminal.write("\x1a")
        terminal.wait("Stopped")
        in_time(lambda: [pid for pid in below if (process_stat(pid) or "?")[0] == "T"], "nothing is stopped")
        # What was said before, and by bash, is on its way; who runs on is not silent for a second.
        check(any(not terminal.read_some(1.0) for _ in range(60)), f"ran on after Ctrl-Z: {terminal.text[-200:]!r}")
        terminal.text = ""
        states = {pid: (process_stat(pid) or ("gone",))[0] for pid in below}
        check("T" in states.values(), f"nothing is stopped: {states}")
        terminal.write("fg\n")
        terminal.wait("round")
        terminal.write("\x03")
        terminal.wait("interrupted")
    with_terminal(place, "hold-until-signal", act)


def next_status(pid):
    """What becomes of a child: stopped, goes on, or how it ended."""
    def changed():
        found, status = os.waitpid(pid, os.WUNTRACED | os.WCONTINUED | os.WNOHANG)
        return found and [status]

    status, = in_time(changed, f"nothing becomes of {pid}, which should be seen stopped, to go on, or to end")
    return "stopped" if os.WIFSTOPPED(status) else "goes on" if os.WIFCONTINUED(status) else \
        os.waitstatus_to_exitcode(status)


def stops_as_alone(place):
    """Who waits for a program that stops, itself or on a signal, sees that; and continues it, by the one number that
    he has. What it sends to all of its group it gets once."""
    only_with_tool(place)
    for stop in ("kill -TSTP $$", "kill -TTIN $$", "echo go"):
        for one in (place.alone(), place):
            # It does not end before it is told to: of who has ended nobody hears that it went on.
            command = one.command(["sh", "-c", f"{stop}; read word; exit 3"], [f"dram:{BUDGET_MIB}M", "lz4"])
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  process_group=0) as process:
                try:
                    if stop == "echo go":
                        process.stdout.readline()
                        process.send_signal(signal.SIGTSTP)
                    seen = [next_status(process.pid)]
                    process.send_signal(signal.SIGCONT)
                    seen.append(next_status(process.pid))
                    process.stdin.close()
                    seen.append(next_status(process.pid))
                    process.returncode = seen[-1]
                    check(seen == ["stopped", "goes on", 3], f"{stop}: {seen}")
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
    script = "import os, signal, time; signal.signal(10, lambda *_: print('got')); os.kill(0, 10); time.sleep(1)"
    for one in (place.alone(), place):
        command = one.command(["python3", "-c", script], [f"dram:{BUDGET_MIB}M", "lz4"])
        with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
            got = process.communicate()[0].split()
        check(got == [b"got"], f"{command}: {got}")


# ---- the tool itself -----------------------------------------------------------------------------

def guards_of(place):
    """Those of what runs in this place: all processes that have its environment and are no program."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ, \
                open(f"/proc/{pid}/comm", encoding="latin-1") as comm:
            if "guard" in comm.read() and f"LIVE_TMP={place.folder}\0".encode() in environ.read():
                found.append(pid)
    return found


def kill_alone(_place, process):
    process.kill()


def kill_with_guards(place, process):
    """The server is stopped first: it is not to start another guard."""
    in_time(lambda: len(guards_of(place)) == 2, "there is no guard")
    process.send_signal(signal.SIGSTOP)
    for pid in guards_of(place):
        os.kill(pid, signal.SIGKILL)
    process.kill()


# Much more than anything takes, on a machine with much else to do.
def in_time(found, why, limit_s=60):
    """What found() returns, once that is something. `why` may be a function that says it in the end."""
    deadline = time.monotonic() + limit_s
    while not (result := found()):
        if time.monotonic() > deadline:
            raise Late(why() if callable(why) else why)
        time.sleep(0.02)
    return result


def wards_of(pid):
    """The userfaultfds that a process has."""
    with contextlib.suppress(OSError):
        return [fd for fd in os.listdir(f"/proc/{pid}/fd")
                if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:[userfaultfd]"]
    return []


def kill_after_guard(place, process):
    """The guard is killed, and its successor knows the programs; then who started both; then the server."""
    first = in_time(lambda: [pid for pid in guards_of(place) if wards_of(pid)], "there is no guard")
    guardian = [pid for pid in guards_of(place) if pid not in first]
    nr_wards = len(helpers_below(process))
    os.kill(first[0], signal.SIGKILL)
    in_time(lambda: [pid for pid in guards_of(place) if len(wards_of(pid)) >= nr_wards and pid not in first],
            f"no guard has {nr_wards} programs again")
    os.kill(guardian[0], signal.SIGKILL)
    process.kill()


def guards_killed(place):
    """Without guards programs go on, and fork. That is said."""
    only_with_tool(place)
    go = os.path.join(place.folder, "go")

    def during(process):
        in_time(lambda: len(guards_of(place)) == 2, "there is no guard")
        while guards := guards_of(place): # in any order: one may start another meanwhile
            for pid in guards:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with open(go, "w", encoding="ascii"):
            pass
        process.wait()

    tests = os.path.join(place.programs, "live_fork")
    result = place.run(["sh", "-c", f"until test -e {go}; do sleep 0.1; done; exec {tests} fork-then-both-write"],
                       BUDGET_MIB, during=during)
    os.unlink(go)
    judge_end(result)
    check(b"guard was killed" in result.errors, f"said: {tail(result.errors)}")


def kill_by_name(place, process):
    """As by pkill -9 pagetide: a name matches that has the word in it. In the worst order."""
    process.send_signal(signal.SIGSTOP)
    for pid in [*guards_of(place), *descendants(process.pid), process.pid]:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="latin-1") as comm:
            if "pagetide" in comm.read():
                os.kill(pid, signal.SIGKILL)


def killed_tool(name, nr_programs=1, kill=kill_alone):
    def run(place):
        only_with_tool(place)
        below, path = {}, os.path.join(place.folder, "said")

        def output():
            with open(path, "rb") as said:
                return said.read()

        def during(process):
            # Then pages are stored and being faulted in.
            in_time(lambda: output().count(b"ready") == nr_programs, "was not under pressure yet")
            below.update(descendants(process.pid))
            kill(place, process)
            deadline = time.monotonic() + 60
            while any(alive(*one) for one in below.items()) and time.monotonic() < deadline:
                time.sleep(0.02)

        with open(path, "wb") as said:
            result = place.run([hold_program(place), name], BUDGET_MIB, during=during, stdout=said)
        survivors = [pid for pid, start in below.items() if alive(pid, start)]
        kill_all(below)
        printed = output()
        os.unlink(path)
        check(b"MISMATCH" not in result.errors + printed, tail(result.errors))
        check(not survivors, f"{len(survivors)} processes ran on 60 s after the tool was killed")
        check(kill == kill_with_guards or re.search(rb"pagetide.*", result.errors),
              f"no line says why: {tail(result.errors)}")
        return tail(result.errors, 200)
    return run


# A process of the tree that says what its helper would say, but that it is process argv[1].
LIAR = r"""
import ctypes, mmap, os, re, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
pid = os.getpid()
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
while server.connect_ex("\0pagetide-%d-%s" % (pid, os.readlink("/proc/self/ns/pid"))):
    pid = int(re.search(r"PPid:\s*(\d+)", open(f"/proc/{pid}/status").read()).group(1))
welcome = socket.recv_fds(server, 4, 1)[0]
fds = [libc.syscall(323, os.O_CLOEXEC | os.O_NONBLOCK) for _ in range(2)] # userfaultfd
assert min(fds) >= 0, ctypes.get_errno()
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
probe = ctypes.addressof(ctypes.c_char.from_buffer(page))
fds.append(os.pidfd_open(int(sys.argv[1])))
socket.send_fds(server, [welcome + struct.pack("<iQQQ", 0, probe, 0, 0)], fds)
# It hangs up on who is not believed.
print("said", len(server.recv(4096)), flush=True)
time.sleep(3600)
"""


def lies_are_not_believed(place):
    """Somebody in the tree says that it is a process outside: that one must not be taken for one of ours."""
    only_with_tool(place)
    if os.uname().machine != "x86_64":
        raise Skipped("it makes a system call by its number on x86-64")
    stranger = subprocess.Popen(["sleep", "600"])
    path = os.path.join(place.folder, "said")

    def during(process):
        in_time(lambda: os.path.getsize(path), "it says nothing")
        below = descendants(process.pid)
        process.kill()
        deadline = time.monotonic() + 10
        while any(alive(*one) for one in below.items()) and time.monotonic() < deadline:
            time.sleep(0.02)

    try:
        with open(path, "w+b") as said:
            place.run([sys.executable, "-c", LIAR, str(stranger.pid)], BUDGET_MIB, during=during, stdout=said)
            said.seek(0)
            check(said.read() == b"said 0\n", "it was not hung up on")
        check(stranger.poll() is None, "a process that is none of the tree's was ended with it")
    finally:
        stranger.kill()
        stranger.wait()


def stats_while_running(place):
    only_with_tool(place)
    seen = []

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("promoted_pages"), "nothing was brought back")
        answer = subprocess.run([place.pagetide, "stats", "--json", str(process.pid)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                                check=False)
        seen.append(answer)
        process.send_signal(signal.SIGINT)

    result = place.run([hold_program(place), "hold-until-signal"], BUDGET_MIB, during=during)
    judge_end(result)
    check(seen[0].returncode == 0, f"pagetide stats: {tail(seen[0].stderr)}")
    judge_stats(json.loads(seen[0].stdout))


def exec_frees_the_old_image(place):
    only_with_tool(place)
    path, found, wanted = os.path.join(place.folder, "said"), {}, {"stored": 0, "helpers": 1}

    def freed(process):
        """Stored pages come before the exec, and must be gone soon after it; then the new one says that it is there."""
        stats = stats_now(place, process) or {}
        found.update(stored=stats.get("stored_pages"), helpers=len(helpers_below(process)))
        return stats.get("demoted_pages") and found == wanted and os.path.getsize(path)

    def during(process):
        in_time(lambda: freed(process), lambda: f"what the old image had is still there: {found}")
        process.send_signal(signal.SIGTERM)

    with open(path, "w+b") as said:
        result = place.run([os.path.join(place.programs, "live_exec"), "exec-then-rest"], BUDGET_MIB,
                           during=during, stdout=said)
        said.seek(0)
        check(said.read() == b"rest\n" and result.stats["demoted_pages"] > 0, f"said: {tail(result.errors)}")
    os.unlink(path)


def fits_rule23(place):
    if place.native:
        judge_end(place.run([hold_program(place), "fits-rule23"], 0))
        return
    result = place.run([hold_program(place), "fits-rule23"], BUDGET_MIB,
                       tiers=["dram:1G", "lz4"])
    judge_end(result)
    judge_stats(result.stats, moved=False)
    check(result.stats["faults"]["count"] == 0, f"faults were served: {result.stats['faults']}")
    check(result.stats["peak_managed_bytes"] == 0, "memory was adopted though all of it fits")
    check(result.stats["demoted_pages"] == 0, "pages were demoted though all of them fit")


def memory_of_two(place):
    """What two processes live in, as after vfork, counts once."""
    result = place.run([os.path.join(place.programs, "live_fork"), "memory-of-two"], BUDGET_MIB)
    judge_end(result)
    if not place.native:
        check(result.stats["demoted_pages"] == 0, "pages were demoted though all of them fit")
        check(result.stats["unmanaged"]["no_helper"] < 8 * MIB, f"counted: {result.stats['unmanaged']}")


def server_own_mib(process):
    """Its memory, the pool left out, in MiB; and how many threads it has."""
    with open(f"/proc/{process.pid}/smaps", encoding="latin-1") as file:
        sizes = re.findall(r"^Size: *(\d+) kB(?:\n(?![0-9a-f]+-).*)*?\nRss: *(\d+) kB", file.read(), re.M)
    own_kib = sum(int(rss) for size, rss in sizes if int(size) < 1 << 20)
    return own_kib / 1024, len(os.listdir(f"/proc/{process.pid}/task"))


MANY = 60
# What a program that is quiet costs the server: one thread, its tables, and those of its hold area.
MANY_EACH_MIB = 0.25


def quiet_programs_cost_little(place):
    """Of programs whose pages are stored and that do nothing, each keeps one thread, and no buffer."""
    only_with_tool(place)
    text = ""

    def cheap(process):
        nonlocal text
        time.sleep(0.2)
        stats, (own_mib, threads) = stats_now(place, process) or {}, server_own_mib(process)
        text = f"{MANY} quiet programs: {own_mib:.0f} MiB and {threads} threads of the server"
        return stats.get("stored_pages", 0) > MANY * 256 and threads <= MANY + 6 and \
            own_mib < 12 + MANY * MANY_EACH_MIB

    def during(process):
        in_time(lambda: cheap(process), lambda: text, 120)
        for pid in descendants(process.pid):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if file.read().endswith(b"\0many-programs\0"):
                        os.kill(pid, signal.SIGINT)

    result = place.run([os.path.join(place.programs, "live_exec"), "many-programs"], MANY, during=during,
                       env={"LIVE_MANY": str(MANY), "LIVE_MIB": "3", "LIVE_WAIT": "1"})
    judge_end(result)
    return text


def killed_while_faulting(place):
    result = place.run([thread_program(place), "killed-while-faulting"], BUDGET_MIB)
    check(result.status in (-signal.SIGKILL, 128 + signal.SIGKILL),
          f"exit status {result.status}, not killed")
    check(b"MISMATCH" not in result.errors, tail(result.errors))
    check(not result.left_behind, f"left processes behind: {result.left_behind}")


def core_dump_lacks(place):
    """It is said when a core dump has zeros for what was stored, and only then."""
    only_with_tool(place)

    def dumped(dram_mib, options=()):
        for path in glob.glob(os.path.join(place.folder, "core*")):
            os.unlink(path)
        # Where all of it fits nothing is waited for.
        env = {"LIVE_BUDGET_MIB": str(BUDGET_MIB if dram_mib == BUDGET_MIB else 0)}
        result = place.run([hold_program(place), "dumps-core"], BUDGET_MIB, options=options, env=env,
                           tiers=[f"dram:{dram_mib}M", "lz4"])
        judge_end(result, -signal.SIGABRT)
        if not glob.glob(os.path.join(place.folder, "core*")):
            raise Skipped("no core dump in this folder: core_pattern or ulimit -Hc")
        return result.errors

    said = dumped(BUDGET_MIB)
    found = re.search(rb"^pagetide: the core dump has zeros for (\d+) KiB that were stored", said, re.M)
    check(found and int(found[1]) >= BUDGET_MIB * 512, f"said: {tail(said)}")
    for said in dumped(BUDGET_MIB, ["--quiet"]), dumped(8 * BUDGET_MIB):
        check(b"core dump" not in said, f"said: {tail(said)}")


def wrong_byte_is_seen(place):
    result = place.run([hold_program(place), "wrong-byte-is-seen"], BUDGET_MIB)
    check(result.status == 1 and b"MISMATCH" in result.errors and
          b"page 100 generation 1 offset 4000" in result.errors,
          f"status {result.status}: {tail(result.errors)}")


def work_is_counted_rule27(place):
    only_with_tool(place)
    result = place.run([hold_program(place), "allocates-fast"], BUDGET_MIB,
                       options=["--overhead", "1"])
    judge_end(result)
    judge_stats(result.stats)
    overhead = result.stats["overhead"]
    check(overhead["forced_cpu_ns"] > 0, f"forced work is not counted: {overhead}")
    check(0 <= overhead["share"] <= 1, f"no share of a core: {overhead}")


def cpu_ns(pid):
    """Processor time of a process with all threads that it had."""
    with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10 ** 9 // os.sysconf("SC_CLK_TCK")


def all_work_is_counted(place):
    """What the tool says that it took is what the kernel says, that of its helpers too."""
    only_with_tool(place)
    said = []

    def took_ns(process):
        return cpu_ns(process.pid) + sum(map(cpu_ns, helpers_below(process)))

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
        # The kernel tells it in hundredths of a second.
        in_time(lambda: cpu_ns(process.pid) > 8 * 10 ** 8, "it does next to nothing")
        before_ns = took_ns(process)
        overhead = stats_now(place, process)["overhead"]
        said.extend((before_ns, overhead["voluntary_cpu_ns"] + overhead["forced_cpu_ns"], took_ns(process)))
        process.send_signal(signal.SIGINT)

    result = place.run([hold_program(place), "hold-until-signal"], BUDGET_MIB, during=during)
    judge_end(result)
    before_ms, told_ms, after_ms = (ns / 1e6 for ns in said)
    text = f"{told_ms:.0f} ms are told of {before_ms:.0f}, or of {after_ms:.0f} a moment later"
    check(0.95 * before_ms <= told_ms <= 1.1 * after_ms, text)
    overhead = result.stats["overhead"]
    check(overhead["voluntary_cpu_ns"] + overhead["forced_cpu_ns"] >= said[1], f"less at the end: {overhead}")
    return text


def helper_is_real_time(place):
    """On a busy machine everybody waits for it: it runs before all that is not real-time, where that is permitted, and
    where nothing kills it for that."""
    only_with_tool(place)
    if subprocess.run(["chrt", "--rr", "1", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skipped("nothing may be real-time here: CAP_SYS_NICE is missing")

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
        helper, = helpers_below(process)
        policies.append(os.sched_getscheduler(helper) & ~os.SCHED_RESET_ON_FORK)
        process.send_signal(signal.SIGINT)

    policies = []
    for prefix in ([], ["prlimit", "--rttime=200000"]):
        judge_end(place.run([hold_program(place), "hold-until-signal"], BUDGET_MIB, during=during, prefix=prefix))
    check(policies == [os.SCHED_RR, os.SCHED_OTHER], f"the helper's policies are {policies}")


# Percent of a core. The bound is 1, and what is done once a second whatever it costs comes on top; where looks have
# three times their share it is 1.85. A busy machine makes single windows dearer, looks that are too many each.
LOOKING_MOST, FORCED_MOST, WINDOWS = 1.6, 0.5, 8


def looking_keeps_to_its_share(place):
    """Thirty programs that rest cost no more than one: what looking may take is shared out."""
    only_with_tool(place)
    least = {"voluntary": 100, "forced": 100} # of all windows

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "was not under pressure")
        time.sleep(3)
        before = stats_now(place, process)
        for _ in range(WINDOWS):
            time.sleep(4)
            after = stats_now(place, process)
            for kind in least:
                spent_ns = after["overhead"][kind + "_cpu_ns"] - before["overhead"][kind + "_cpu_ns"]
                least[kind] = min(least[kind], 100 * spent_ns / (after["wall_ns"] - before["wall_ns"]))
            if kept():
                break
            before = after
        kill_all(descendants(process.pid))

    def kept():
        # Nothing forces anything while they rest: to watch them is voluntary.
        return least["voluntary"] <= LOOKING_MOST and least["forced"] <= FORCED_MOST

    script = f"for i in $(seq 30); do sleep 600 & done; {hold_program(place)} rest-after-pressure"
    place.run(["sh", "-c", script], BUDGET_MIB, during=during, options=["--overhead", "1%"])
    text = f"voluntary work: {least['voluntary']:.2f} % of a core, forced: {least['forced']:.3f} %"
    check(kept(), text)
    return text


def handlers_turns(process):
    """{"n": ..., "i": ...}: how often handlers of the normal and of the idle class were put on a CPU;
    and whether each thread is of the class that its name says. One that just ends is left out."""
    turns, right = {"n": 0, "i": 0}, True
    for task in os.listdir(f"/proc/{process.pid}/task"):
        folder = f"/proc/{process.pid}/task/{task}"
        with contextlib.suppress(OSError), open(f"{folder}/comm", encoding="latin-1") as comm, \
                open(f"{folder}/schedstat", encoding="latin-1") as schedstat:
            name = comm.read().strip()
            if name.startswith("handler-"):
                turns[name[8]] += int(schedstat.read().split()[2])
                right &= name[8] == "i" or os.sched_getscheduler(int(task)) == os.SCHED_OTHER
    return turns, right


def handlers_wait(process, wanted, timeout_s=60):
    """Wait until handlers of the class `wanted` serve the faults, and those of the other do not."""
    other = "i" if wanted == "n" else "n"
    deadline = time.monotonic() + timeout_s
    before, _ = handlers_turns(process)
    while time.monotonic() < deadline:
        time.sleep(0.3)
        now, right = handlers_turns(process)
        check(right, "a normal handler is of the idle class")
        grown = {kind: now[kind] - before[kind] for kind in now}
        before = now
        if grown[wanted] > 50 and grown[other] * 10 < grown[wanted]:
            return True
    return False


def machine_idle_share(seconds):
    """How many CPUs had nothing to do."""
    def idle():
        with open("/proc/stat", encoding="latin-1") as file:
            fields = file.readline().split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    before = idle()
    time.sleep(seconds)
    return (idle() - before) / seconds


def class_by_load(prefix=()):
    """All CPUs busy: the handlers of the normal class serve. A CPU free again: those of the idle class do,
    with and without the right to leave it."""
    def run(place):
        only_with_tool(place)
        if not os.path.exists(f"/proc/{os.getpid()}/schedstat"):
            raise Skipped("the kernel does not count how often a thread was put on a CPU")
        said = []

        def during(process):
            hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
                    for _ in os.sched_getaffinity(0)]
            try:
                in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
                said.append(handlers_wait(process, "n"))
                if not said[0] and machine_idle_share(1.0) > 0.1:
                    raise Skipped("CPUs are idle beside as many programs that never wait")
            finally:
                for hog in hogs:
                    hog.kill()
                    hog.wait()
            # The program itself takes one CPU at most; others may use this machine, too.
            said.append(handlers_wait(process, "i", timeout_s=30) or
                        machine_idle_share(1.0) < 0.9)
            process.send_signal(signal.SIGINT)

        result = place.run([hold_program(place), "hold-until-signal"], BUDGET_MIB, during=during,
                           prefix=prefix)
        judge_end(result)
        check(said[0], "beside busy CPUs handlers of the idle class went on serving")
        check(said[1], "with a CPU free handlers of the normal class went on serving")
        return None
    return run


def replay(place, path, *options):
    """(exit status, what it said) of a recording put through the core alone."""
    program = os.path.join(os.path.dirname(place.programs), "sim", "replay")
    done = subprocess.run([program, *options, path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120, check=False)
    return done.returncode, done.stdout.decode(errors="replace").strip()


PYTHON_CHURN = """
table = {}
for turn in range(3):
    for i in range(turn * 120000, turn * 120000 + 120000):
        table[i] = [i, str(i) * 20]
    for i in range(0, turn * 120000, 3):
        table.pop(i, None)
print(len(table), sum(value[0] for value in table.values()))
"""


def recorded_replays(argv, least, nr_bits=1):
    """`argv`: a command, or the name of a live program and a case of it. `nr_bits`: so many damaged recordings; each
    is played up to its damage."""
    def run(place):
        only_with_tool(place)
        path = os.path.join(place.folder, "record")
        own = os.path.join(place.programs, argv[0])
        result = place.run([own if os.path.exists(own) else argv[0], *argv[1:]], BUDGET_MIB,
                           options=["--record", path])
        judge_end(result)
        judge_stats(result.stats)
        status, said = replay(place, path)
        check(status == 0, f"the core decides otherwise: {said}")
        found = re.match(r"same: (\d+) steps with (\d+) moves.* (\d+) touches", said)
        # A step is made for a batch of moves.
        check(found, said)
        if any(int(number) < floor for number, floor in zip(found.groups(), (least // 10, least, least))):
            raise Unproved(f"that proves little: {said}")
        status, heard = replay(place, path, "--without-touches")
        check(status == 1, f"nothing noticed with the touches left out: {heard}")
        damaged_is_refused(place, path, nr_bits)
        return f"{os.path.getsize(path)} bytes; {said}"
    return run


def damaged_is_refused(place, path, nr_bits):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    dice = random.Random(1)
    for at in [0, 20, len(data) - 1, *(dice.randrange(len(data)) for _ in range(nr_bits))]:
        bit = 1 << dice.randrange(8)
        data[at] ^= bit
        with open(path, "wb") as file:
            file.write(data)
        data[at] ^= bit
        status, said = replay(place, path)
        check(status == 2, f"byte {at} changed by {bit}: exit {status}: {said}")
    for length in (0, 5, 18, 25, len(data) // 2, len(data) - 1):
        with open(path, "wb") as file:
            file.write(data[:length])
        status, said = replay(place, path)
        check(status == 2, f"cut to {length} bytes: exit {status}: {said}")
    with open(path, "wb") as file:
        file.write(data + b"x")
    check(replay(place, path)[0] == 2, "a byte behind the end was not noticed")


def record_cut_off(place):
    """No room for all of it: nothing is lost but the recording, and that is said."""
    only_with_tool(place)
    result = place.run(["true"], BUDGET_MIB, options=["--record", "/dev/full"])
    check(result.status == 125 and b"/dev/full: cannot be written: No space" in result.errors,
          f"{result.status}: {tail(result.errors)}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600 << 10, before[1]))
    try:
        result = place.run([thread_program(place), "eight-threads-random"], BUDGET_MIB,
                           options=["--record", "cut"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    judge_end(result)
    check(b"cut: cannot write the recording: File too large" in result.errors, tail(result.errors))
    left = [name for name in os.listdir(place.folder) if "cut" in name]
    check(not left, f"left there: {left}")


def stats_cut_off(place):
    """No room for the statistics: the program's own status stays, and a line says so."""
    only_with_tool(place)
    done = subprocess.run([place.pagetide, "run", "--stats", "/dev/full", "sh", "-c", "exit 3"],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, check=False)
    check(done.returncode == 3, f"exit status {done.returncode}, not the program's")
    check(done.stderr == b"pagetide: /dev/full: cannot write the statistics: No space left on device\n",
          tail(done.stderr))


FULL_DISK = """
mount -t tmpfs -o size=16k none "$0" && cd "$0" || exit 77
[ -z "$1" ] || echo "$1" > file || exit 77
cat /dev/zero > filler 2> filler.said
shift
"$@"
status=$?
rm -f filler filler.said
ls -A
[ ! -e file ] || cat file
exit $status
"""


def on_a_full_disk(option, status, said):
    """What was there stays whole, and where nothing was there is nothing."""
    def run(place):
        only_with_tool(place)
        if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL,
                                              check=False).returncode:
            raise Skipped("only root can mount a small disk in a namespace of its own")
        folder = os.path.join(place.folder, "disk")
        os.makedirs(folder, exist_ok=True)
        for before in ("", "old"):
            done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", FULL_DISK,
                                   folder, before, place.pagetide, "run", option, "file", "sh", "-c", "exit 3"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=60, check=False)
            if done.returncode == 77:
                raise Skipped(f"no small disk could be mounted: {tail(done.stderr)}")
            check(done.returncode == status, f"exit status {done.returncode}: {tail(done.stderr)}")
            check(done.stderr.decode() == f"pagetide: file: {said}: No space left on device\n",
                  tail(done.stderr))
            check(done.stdout == (b"file\nold\n" if before else b""), f"left there: {tail(done.stdout)}")
    return run


def verify_option(place):
    only_with_tool(place)
    result = place.run([thread_program(place), "eight-threads-random"], BUDGET_MIB,
                       tiers=[f"dram:{BUDGET_MIB}M", "lz4,verify"])
    judge_end(result)
    judge_stats(result.stats)
    judge_budget(result, BUDGET_MIB)


def memory_option(place):
    """The program, its compressed pages and the tables of the tool keep to it together."""
    only_with_tool(place)
    result = place.run([thread_program(place), "eight-threads-random"], 64, tiers=[],
                       options=["--memory", "96M"], limit_mib=96, with_tool=True)
    judge_end(result)
    judge_stats(result.stats)
    judge_budget(result, 96)
    pool = result.stats["tiers"][-1]["peak_bytes"]
    if pool <= 24 * MIB:
        raise Unproved(f"the pool had {pool / MIB:.0f} MiB only, too little to be missed")
    return f"peak {result.peak_bytes / MIB:.0f} MiB, of which the pool {pool / MIB:.0f}"


class SmallMachine:
    """What /proc/meminfo says to those that are started with `prefix`: the machine of its size, of which we and ours
    may have so much before less than 5 % of it is available, `mib` at first."""

    def __init__(self, place, mib):
        self.path = os.path.join(place.folder, "meminfo")
        self.tool = place.pagetide
        with open("/proc/meminfo", encoding="ascii") as file:
            self.total = int(re.search(r"MemTotal: *(\d+) kB", file.read())[1]) << 10
        with open(self.path, "w", encoding="ascii") as file:
            file.write(self.text(self.total // 20 + mib * MIB))
        self.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                       'mount --bind "$0" /proc/meminfo && exec "$@"', self.path]
        if os.getuid() != 0 or subprocess.run([*self.prefix, "true"], stderr=subprocess.DEVNULL,
                                              check=False).returncode:
            raise Skipped("only root can mount over /proc/meminfo in a namespace of its own")

    def text(self, available):
        return f"MemTotal: {self.total >> 10:12} kB\nMemAvailable: {available >> 10:12} kB\n"

    def give(self, process, mib):
        """Say what is available where we and ours may have so much; what they have now."""
        ours = resident_sum_bytes([process.pid, *descendants(process.pid)])
        with open(self.path, "r+", encoding="ascii") as file: # never shorter: it may just be read
            file.write(self.text(max(0, self.total // 20 + mib * MIB - ours)))
        return ours


def machine_runs_short(place):
    """Without any bound nothing is done while the machine has memory; when others take it, room is made, and when they
    have gone the program may have it again."""
    only_with_tool(place)
    machine = SmallMachine(place, 512)

    def wait_for(process, mib, why, wanted):
        text = why

        def found():
            nonlocal text
            time.sleep(0.1)
            ours, stats = machine.give(process, mib), stats_now(place, process)
            text = f"{why}: {ours / MIB:.0f} MiB, {stats and stats['tiers']}"
            return stats and wanted(stats, ours)

        in_time(found, lambda: text)

    def during(process):
        wait_for(process, 512, "it did not begin", lambda stats, ours: ours > 70 * MIB and stats["wall_ns"] > 3e9)
        stats = stats_now(place, process)
        if stats["tiers"][0]["capacity_bytes"] < 400 * MIB:
            raise Skipped("a control group bounds it")
        check(stats["tiers"][0]["capacity_bytes"] < 600 * MIB, f"not bounded by the machine: {stats['tiers']}")
        check(stats["managed_bytes"] == 0 and stats["demoted_pages"] == 0, "something was done with memory to spare")
        wait_for(process, 48, "no room was made", lambda stats, ours: stats["demoted_pages"] and ours < 52 * MIB)
        wait_for(process, 512, "the room was not used again", lambda stats, ours: ours > 70 * MIB)
        process.send_signal(signal.SIGINT)

    result = place.run([hold_program(place), "hold-until-signal"], 512, tiers=[], during=during, prefix=machine.prefix,
                       env={"LIVE_BUDGET_MIB": "0"})
    judge_end(result)
    judge_stats(result.stats)


def budget_beside_hogs(nr_for_each_cpu):
    """Others want every CPU: what is allocated waits for room, however long that takes to be made."""
    def run(place):
        only_with_tool(place)
        hogs = [subprocess.Popen(["sh", "-c", "while :; do :; done"])
                for _ in range(nr_for_each_cpu * len(os.sched_getaffinity(0)))]
        try:
            result = place.run([hold_program(place), "allocates-fast"], BUDGET_MIB)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        judge_end(result)
        judge_stats(result.stats)
        judge_budget(result, BUDGET_MIB)
        judge_room(result)
        return f"peak {result.peak_bytes / MIB:.0f} MiB, over for {result.longest_excess_s:.2f} s"
    return run


RANDOM_BYTES = """
import hashlib, random
r = random.Random(3)
parts = [r.randbytes(1 << 20) for _ in range(96)]
sums = []
for _ in range(3):
    h = hashlib.blake2b()
    for part in parts:
        h.update(part)
    sums.append(h.hexdigest())
print(sums)
"""


def incompressible_goes_too(place):
    """Where nothing but dram is bounded, what does not compress makes room like all else."""
    alone, under = both(place, [sys.executable, "-c", RANDOM_BYTES])
    check(alone.output == under.output and len(under.output) > 300, "other bytes than without the tool")
    judge_budget(under, BUDGET_MIB)
    judge_stats(under.stats)
    check(under.stats["moves"]["failed"]["refused"] == 0 and under.stats["demoted_pages"] > 96 * 256 // 2,
          f"{under.stats['moves']}")
    judge_room(under)


def judge_excess(result, reason):
    """The last line names it."""
    *_, last = [line for line in result.errors.decode().splitlines() if line.startswith("pagetide: ")]
    check("what stayed above the budget: " in last and f" {reason} " in last, last)


# Holds more than its budget that nobody may take, and touches more, until it is told that this was seen.
LOCKS = """
import ctypes, mmap, os, sys, time
memory = mmap.mmap(-1, 48 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
if ctypes.CDLL(None).mlock(ctypes.c_void_p(start), ctypes.c_size_t(len(memory))):
    print("SKIP so much may not be locked here", file=sys.stderr)
    sys.exit(77)
more, at = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), 0
while not os.path.exists(sys.argv[1]):
    more[at % len(more)] = 1
    at += 4096
    time.sleep(0.001)
"""


def locked_exceeds(place):
    only_with_tool(place)
    seen = os.path.join(place.folder, "seen")
    with contextlib.suppress(FileNotFoundError): # of the try before
        os.unlink(seen)

    def is_seen(process):
        stats = stats_now(place, process)
        return process.poll() is not None or (stats and stats["over_budget_faults"] and stats["unmanaged"]["locked"])

    def wait(process):
        in_time(lambda: is_seen(process), "nothing was found to be locked")
        with open(seen, "w", encoding="ascii"):
            pass

    result = place.run([sys.executable, "-c", LOCKS, seen], BUDGET_MIB, during=wait)
    judge_end(result)
    judge_excess(result, "locked")


def full_tiers_exceeded(place):
    only_with_tool(place)
    result = place.run([hold_program(place), "allocates-fast"], BUDGET_MIB,
                       tiers=[f"dram:{BUDGET_MIB}M", "lz4:16M"])
    judge_end(result)
    judge_stats(result.stats)
    warnings = [line for line in result.errors.splitlines() if b"is full" in line]
    check(len(warnings) == 1 and b"lz4" in warnings[0],
          f"not one warning that names the full tier: {tail(result.errors)}")
    check(result.stats["over_budget_faults"] > 0, "what passed the bound is not counted")
    if result.stats["moves"]["failed"]["full"]:
        judge_excess(result, "full")
    if result.peak_bytes <= 2 * BUDGET_MIB * MIB: # looked at 20 times a second
        raise Unproved(f"the bound was not passed: {result.peak_bytes / MIB:.0f} MiB")


def judge_killed(result):
    """It was killed for memory; who is soon through may be so before that is seen."""
    check(b"MISMATCH" not in result.errors, tail(result.errors))
    if result.status == 0:
        raise Late("it was through before it was killed")
    check(result.status in (-signal.SIGKILL, 128 + signal.SIGKILL),
          f"exit status {result.status}, not killed: {tail(result.errors)}")


def full_tiers_hard(place):
    only_with_tool(place)
    result = place.run([hold_program(place), "allocates-fast"], BUDGET_MIB,
                       tiers=[f"dram:{BUDGET_MIB}M", "lz4:16M"], options=["--hard"])
    judge_killed(result)
    check(b"lz4" in result.errors, f"no line names the full tier: {tail(result.errors)}")
    # It fills 8 budgets, unless it is stopped; the first may pass before anything is adopted.
    if result.peak_bytes >= 4 * BUDGET_MIB * MIB:
        raise Late(f"went far over the budget first: {result.peak_bytes / MIB:.0f} MiB")


def refused_hard(place):
    """--hard keeps the bound of what a bounded pool does not take, too; and lets go on who finds room there."""
    only_with_tool(place)
    tiers = [f"dram:{BUDGET_MIB}M", f"lz4:{16 * BUDGET_MIB}M"]
    result = place.run([sys.executable, "-c", RANDOM_BYTES], BUDGET_MIB, tiers=tiers, options=["--hard"])
    judge_killed(result)
    check(b"dram is full" in result.errors and b"lz4" in result.errors, f"no line names the tiers: {tail(result.errors)}")
    result = place.run([hold_program(place), "allocates-fast"], BUDGET_MIB, tiers=tiers, options=["--hard"])
    judge_end(result)
    judge_stats(result.stats)


def fork_with_full_pool(place):
    """A child that changes its mappings at once, and no room in the pool for what its parent holds."""
    only_with_tool(place)
    for options in ({"tiers": ["dram:16M", "lz4:8M"]}, {"tiers": [], "options": ["--memory", "40M"]}):
        result = place.run([os.path.join(place.programs, "live_change"), "child-changes-at-once-full"],
                           BUDGET_MIB, **options)
        judge_end(result)
        judge_stats(result.stats)


def few_files(place):
    """The server may open more files than its program; with too few to go on nobody waits for ever."""
    only_with_tool(place)
    argv = [os.path.join(place.programs, "live_fork"), "many-children-at-once"]
    result = place.run(argv, BUDGET_MIB, prefix=["prlimit", "--nofile=64:4096"])
    judge_end(result)
    judge_stats(result.stats)
    result = place.run(argv, BUDGET_MIB, prefix=["prlimit", "--nofile=256:256"])
    check(result.status in (0, -signal.SIGKILL), f"exit status {result.status}: {tail(result.errors)}")
    check(result.status == 0 or b"raise ulimit -Hn" in result.errors, tail(result.errors))
    check(not result.left_behind, f"left processes behind: {result.left_behind}")
    result = place.run(["true"], BUDGET_MIB, prefix=["prlimit", "--nofile=64:64"])
    check(result.status == 125 and b"ulimit -Hn" in result.errors,
          f"exit status {result.status}: {tail(result.errors)}")

APART = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
# PR_SET_CHILD_SUBREAPER
TAKES_IN = [sys.executable, "-c", "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); "
            "os.execvp(sys.argv[1], sys.argv[1:])"]


TELLS_ITS_GROUP = """
import os, signal, time
signal.signal(signal.SIGUSR1, lambda *_: print("got"))
os.kill(0, signal.SIGUSR1)
time.sleep(1)
"""


def first_of_a_namespace(place):
    """As in a container: orphans become its children, its own guard as well, and no signal ends it. Or it takes in
    orphans, because who executed it did."""
    only_with_tool(place)
    if subprocess.run([*APART, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skipped("no PID namespace can be made here")
    up = os.path.join(place.folder, "up")
    with contextlib.suppress(FileNotFoundError): # of the try before
        os.unlink(up)

    def terminate(process):
        in_time(lambda: os.path.exists(up), "the program did not begin")
        first, = [pid for pid in descendants(process.pid) if process_stat(pid)[1] == process.pid]
        os.kill(first, signal.SIGTERM)

    for prefix in (APART, TAKES_IN):
        judge_end(place.run(["sh", "-c", "(sleep 0.2 &); exit 7"], BUDGET_MIB, prefix=prefix), 7)
    judge_end(place.run(["sh", "-c", "kill -KILL $$"], BUDGET_MIB, prefix=APART), 128 + signal.SIGKILL)
    wait = f"trap 'exit 5' TERM; : > {up}; while :; do sleep 0.1; done"
    judge_end(place.run(["sh", "-c", wait], BUDGET_MIB, during=terminate, prefix=APART), 5)
    # Of a group, as a container's first process is; what it sends to that it gets once.
    result = place.run([sys.executable, "-c", TELLS_ITS_GROUP], BUDGET_MIB, prefix=[*APART, "setsid"])
    judge_end(result)
    check(result.output.split() == [b"got"], f"got {result.output}")
    result = place.run(["true"], BUDGET_MIB, prefix=["unshare", "--pid", "--fork", "--kill-child"])
    check(result.status == 125 and b"--mount-proc" in result.errors,
          f"exit status {result.status}: {tail(result.errors)}")
    result = place.run([os.path.join(place.programs, "live_fork"), "fork-then-both-write"], BUDGET_MIB, prefix=APART)
    judge_end(result)
    judge_stats(result.stats)


def two_of_one_number(place):
    """Tools in PID namespaces of their own have the same numbers, and may have their sockets in one network."""
    only_with_tool(place)
    if subprocess.run([*APART, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skipped("no PID namespace can be made here")
    folder = os.path.join(place.folder, "other")
    os.makedirs(folder, exist_ok=True)

    def beside(_process):
        in_time(lambda: os.path.exists(up), "the first did not begin")
        other = subprocess.run([*APART, place.pagetide, "run", "sh", "-c", "exit 7"], stderr=subprocess.PIPE,
                               timeout=60, check=False)
        with open(up + ".go", "w", encoding="ascii"):
            pass
        check(other.returncode == 7, f"exit status {other.returncode}: {tail(other.stderr)}")

    up = os.path.join(folder, "up")
    wait = f": > {up}; while ! [ -e {up}.go ]; do sleep 0.1; done"
    judge_end(place.run(["sh", "-c", wait], BUDGET_MIB, during=beside, prefix=APART))


def child_signals_ignored(place):
    """Who starts it may ignore SIGCHLD: it waits for its children all the same, and its program ignores it."""
    only_with_tool(place)
    argv, prefix = ["sh", "-c", "grep SigIgn /proc/self/status; exit 7"], ["env", "--ignore-signal=CHLD"]
    alone = place.alone().run(argv, BUDGET_MIB, prefix=prefix)
    under = place.run(argv, BUDGET_MIB, prefix=prefix)
    judge_end(alone, 7)
    judge_end(under, 7)
    check(alone.output == under.output, f"{tail(under.output)}, not {tail(alone.output)}")


def guard_lets_go(place):
    """The guard keeps descriptors of who is there, not of each child that ever was."""
    only_with_tool(place)
    most = 0

    def during(process):
        nonlocal most
        guard = None
        while process.poll() is None:
            guard = guard or next((pid for pid in guards_of(place) if wards_of(pid)), None)
            try:
                most = max(most, len(os.listdir(f"/proc/{guard}/fd")) if guard else 0)
            except OSError:
                pass
            time.sleep(0.02)

    result = place.run([os.path.join(place.programs, "live_fork"), "many-short-children"], BUDGET_MIB,
                       during=during)
    judge_end(result)
    check(most < 64, f"the guard had {most} files open for at most four processes at a time")
    if most <= 3:
        raise Unproved(f"the guard was seen with {most} files open")


def handlers_on_our_cpus(place):
    """Faults are served on the CPUs that the program may use, and no thread is kept for others."""
    only_with_tool(place)
    cpu = max(os.sched_getaffinity(0))
    seen = []

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
        for task in map(int, os.listdir(f"/proc/{process.pid}/task")):
            with contextlib.suppress(OSError), open(f"/proc/{task}/comm", encoding="latin-1") as comm:
                if comm.read().startswith("handler-"):
                    seen.append(os.sched_getaffinity(task))

    result = place.run([thread_program(place), "eight-threads-random"], BUDGET_MIB, during=during,
                       prefix=["taskset", "-c", str(cpu)])
    judge_end(result)
    check(all(one == {cpu} for one in seen), f"handlers on {seen}, the program on {cpu}")
    if not seen:
        raise Unproved("no handler was seen")
    check(len(seen) <= 2, f"{len(seen)} handlers for one CPU")


def helpers_stopped(place):
    """Whoever stops helpers does not stop their programs."""
    only_with_tool(place)
    nr_stopped = 0

    def during(process):
        nonlocal nr_stopped
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
        while process.poll() is None and nr_stopped < 8:
            time.sleep(0.05)
            for pid in helpers_below(process):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    nr_stopped += 1

    result = place.run([thread_program(place), "eight-threads-random"], BUDGET_MIB, during=during)
    judge_end(result)
    if not nr_stopped:
        raise Unproved("no helper was stopped")


def command_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        return " ".join(file.read().split("\0")[:-1])
    return None


PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, PTRACE_SYSCALL, PTRACE_SYSCALL_INFO = 0x4206, 0x4207, 17, 24, 0x420e
PTRACE_O_TRACESYSGOOD, WALL = 1, 0x40000000
SYS_IOCTL, SYS_SENDMSG, SYS_RECVMSG, UFFDIO_MOVE = 16, 46, 47, 0xc028aa05
SYS_MADVISE, POPULATE_WRITE = 28, 23


class ChildEnded(Exception):
    """What is traced is no more."""


class Traced:
    """A process that goes on only as far as it is let."""

    def __init__(self, pid):
        self.pid = pid
        self.nr_bytes = 0 # of the last move
        self.call = None # the system call that it is in
        self.ptrace(PTRACE_SEIZE, 0, PTRACE_O_TRACESYSGOOD)
        self.ptrace(PTRACE_INTERRUPT)
        self.stopped()

    def ptrace(self, request, address=0, data=0):
        result = libc.ptrace(request, self.pid, ctypes.c_void_p(address),
                             data if isinstance(data, ctypes.Array) else ctypes.c_void_p(data))
        if result < 0 and ctypes.get_errno() == errno.ESRCH:
            raise ChildEnded
        check(result >= 0, f"ptrace {request:#x}: {os.strerror(ctypes.get_errno())}")

    def stopped(self):
        def told():
            done = os.waitpid(self.pid, WALL | os.WNOHANG)
            return done if done[0] else None

        pid, status = in_time(told, "a traced helper does nothing", 60)
        if pid != self.pid or not os.WIFSTOPPED(status):
            raise ChildEnded
        return os.WSTOPSIG(status)

    def step(self):
        """To where its next system call begins or ends: what it is, with arguments, and which of the two."""
        self.ptrace(PTRACE_SYSCALL)
        while self.stopped() != signal.SIGTRAP | 0x80:
            self.ptrace(PTRACE_SYSCALL)
        info = ctypes.create_string_buffer(96)
        self.ptrace(PTRACE_SYSCALL_INFO, len(info), info)
        if info.raw[0] == 1:
            self.call = struct.unpack_from("7Q", info.raw, 24)
        return self.call, info.raw[0]

    def until(self, wanted, nr_bytes=0):
        """To the beginning ("in") or the end ("out") of the next such call; of a move, of at least so much."""
        deadline = time.monotonic() + 120
        while True:
            check(time.monotonic() < deadline, f"a traced helper comes to no {wanted}")
            call, at = self.step()
            name = call and {SYS_SENDMSG: "reply", SYS_RECVMSG: "command"}.get(call[0])
            if call and call[0] == SYS_IOCTL and call[2] == UFFDIO_MOVE:
                with open(f"/proc/{self.pid}/mem", "rb") as memory:
                    memory.seek(call[3])
                    self.nr_bytes = struct.unpack("3Q", memory.read(24))[2]
                    name = "move" if self.nr_bytes >= nr_bytes else None
            if call and call[0] == SYS_MADVISE and call[3] == POPULATE_WRITE:
                name = "populate"
            if (name, {1: "in", 2: "out"}.get(at)) == wanted:
                return

    def ended(self):
        pid, status = os.waitpid(self.pid, WALL | os.WNOHANG)
        return pid and not os.WIFSTOPPED(status)

    def let_go(self):
        """Only who is stopped can be let go. Of one that has ended its parent is told once we were."""
        if libc.ptrace(PTRACE_DETACH, self.pid, None, None) == 0:
            return
        libc.ptrace(PTRACE_INTERRUPT, self.pid, None, None)
        with contextlib.suppress(ChildProcessError):
            if os.WIFSTOPPED(os.waitpid(self.pid, WALL)[1]):
                libc.ptrace(PTRACE_DETACH, self.pid, None, None)


def family_of(process):
    """The program that the tool has started, and its child; nothing before there are both."""
    below = {pid: process_stat(pid) for pid in descendants(process.pid) if pid not in helpers_below(process)}
    pairs = [(stat[1], pid) for pid, stat in below.items() if stat and stat[1] in below]
    return pairs[0] if pairs else None


NR_MOVES = 16


def moves_are_batches_rule17(place):
    """What lies together goes in one call: alone each page would cost twenty times as much."""
    only_with_tool(place)
    sizes = []

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
        traced = Traced(helper_of(process, f"{hold_program(place)} hold-until-signal"))
        try:
            while len(sizes) < NR_MOVES:
                traced.until(("move", "in"))
                sizes.append(traced.nr_bytes >> 12)
        finally:
            traced.let_go()
            process.send_signal(signal.SIGINT)

    result = place.run([hold_program(place), "hold-until-signal"], BUDGET_MIB, during=during)
    judge_end(result)
    mean = sum(sizes) / len(sizes)
    if mean < 8:
        raise Late(f"{mean:.1f} pages a call: {sizes}")
    return f"{mean:.1f} pages a call"


def helper_of(process, command):
    """The helper of the program that was started so."""
    return in_time(lambda: [pid for pid in helpers_below(process) if command_of(pid) == command],
                   "the program has no helper")[0]


def beside_frozen(place, freezes):
    """Two programs, of which one's helper is frozen each time that freezes(helper, program) comes up to a yield: pages
    are taken out of the other one then, and in the end every byte of both is right."""
    only_with_tool(place)
    numbers = os.path.join(place.folder, "numbers")
    one, other = f"{hold_program(place)} changes-until-signal", f"{hold_program(place)} hold-until-signal"

    def programs():
        return [int(pid) for pid in open(numbers, encoding="ascii").read().split()]

    def demoted(process):
        return (stats_now(place, process) or {}).get("demoted_pages", 0)

    def during(process):
        in_time(lambda: os.path.exists(numbers) and demoted(process), "nothing was moved out")
        try:
            for _ in freezes(helper_of(process, one), programs()[0]):
                time.sleep(1.5) # it is taken for frozen after 0.6 s: what moves from here on is the other's
                before = demoted(process)
                in_time(lambda before=before: demoted(process) > before + 500,
                        "nothing is taken out of the other program")
                in_time(lambda: sum(map(resident_bytes, programs())) < BUDGET_MIB * MIB * 105 // 100,
                        "the budget is not kept")
        finally:
            for pid in programs():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    script = f"{one} & a=$!; {other} & b=$!; echo $a $b > {numbers}; wait $a; s=$?; wait $b && exit $s"
    result = place.run(["sh", "-c", script], BUDGET_MIB, during=during)
    os.unlink(numbers)
    judge_end(result)
    judge_stats(result.stats)


def helper_frozen(place):
    """A helper stops over a command, at any of its steps, and goes on later."""
    def freezes(helper, _):
        traced = Traced(helper)
        try:
            for steps in (("move", "in"),), (("move", "out"),), (("move", "out"),) * 2, (("reply", "in"),), ():
                traced.until(("command", "out"))
                for step in steps:
                    traced.until(step)
                yield
        finally:
            traced.let_go()

    beside_frozen(place, freezes)


FREEZER = "/sys/fs/cgroup/freezer"


def removed(group):
    """Who has ended may be in its control group a moment longer."""
    with contextlib.suppress(OSError):
        os.rmdir(group)
    return not os.path.exists(group)


def program_frozen(place):
    """A program stops with all that is in its control group, its helper too, as a container that is paused."""
    group = os.path.join(FREEZER, f"pagetide-{os.getpid()}")

    def write(name, text):
        with open(os.path.join(group, name), "w", encoding="ascii") as file:
            file.write(text)

    def freezes(helper, program):
        for pid in (helper, program):
            write("cgroup.procs", str(pid))
        try:
            for _ in range(3):
                write("freezer.state", "FROZEN")
                yield
                write("freezer.state", "THAWED")
                time.sleep(0.2)
        finally:
            write("freezer.state", "THAWED")

    only_with_tool(place)
    try:
        os.mkdir(group)
    except OSError as error:
        raise Skipped(f"no control group of the freezer can be made: {error}") from None
    try:
        beside_frozen(place, freezes)
    finally:
        with contextlib.suppress(Late): # it would hide what failed
            in_time(lambda: removed(group), "")
        check(not os.path.exists(group), f"{group} cannot be removed")


def huge_helper_frozen(place):
    """A helper stops while it moves blocks, out and back and from the stock: all bytes are right."""
    only_with_tool(place)
    only_with_huge_pages()
    argv = [os.path.join(place.programs, "live_huge"), "huge-until-signal"]

    def during(process):
        nr_seen = lambda: (stats_now(place, process) or {}).get("huge_pages", {}).get("held", 0)
        in_time(nr_seen, "no huge page was moved out")
        traced = Traced(helper_of(process, " ".join(argv)))
        try:
            for at in ("in", "out", "in", "in", "out", "in"):
                traced.until(("move", at), 2 * MIB)
                time.sleep(1)
        finally:
            traced.let_go()
            process.send_signal(signal.SIGTERM)

    result = place.run(argv, HUGE_BUDGET_MIB, during=during)
    judge_end(result)
    judge_stats(result.stats)
    huge_counted(result.stats["huge_pages"], ("filled", "held"))
    check(result.stats["vanished_pages"] == 0, "pages vanished")


def populating_helper_frozen(place):
    """Faults do not wait for room while their helper populates, which may wait for them; of one that is frozen over it
    nobody waits. So who grows meanwhile has no room to wait for, and that is said and counted."""
    only_with_tool(place)

    def over_budget(process):
        return (stats_now(place, process) or {}).get("over_budget_faults", 0)

    def during(process):
        program, child = in_time(lambda: family_of(process), "the program does not fork")
        helper = in_time(lambda: [pid for pid in helpers_below(process) if same_memory(pid, program)],
                         "the program has no helper")[0]
        traced = Traced(helper)
        try:
            os.kill(child, signal.SIGTERM)
            traced.until(("populate", "in"))
            time.sleep(1.5) # it is taken for frozen after 0.6 s
            before = over_budget(process)
            os.kill(program, signal.SIGTERM)
            in_time(lambda: over_budget(process) > before, "it grew beyond its budget, and nobody said so")
        finally:
            traced.let_go()

    result = place.run([hold_program(place), "grows-when-told"], BUDGET_MIB, during=during)
    judge_end(result)
    check(result.output == b"grown\n", f"printed: {tail(result.output)}")
    check(b"no page can be moved out" in result.errors, f"said: {tail(result.errors)}")


def helper_frozen_ends(place):
    """A helper stops over a command, and never goes on: what is sent to the tool ends all there is."""
    only_with_tool(place)
    command = f"{hold_program(place)} hold"

    def during(process):
        in_time(lambda: (stats_now(place, process) or {}).get("demoted_pages"), "nothing was moved out")
        traced = Traced(helper_of(process, command))
        try:
            traced.until(("move", "out"))
            time.sleep(1.5)
            process.send_signal(signal.SIGTERM)
            in_time(traced.ended, "the helper does not end") # of a process that is traced its parent hears later
            in_time(lambda: process.poll() is not None, "the tree does not end")
        finally:
            traced.let_go()

    result = place.run(command.split(), BUDGET_MIB, during=during)
    judge_end(result, -signal.SIGTERM)


def many_programs_at_once(place):
    """More programs start, while the server is stopped, than it hears at a time: all are managed in the end."""
    only_with_tool(place)
    tests = os.path.join(place.programs, "live_exec")
    begun, start, go = (os.path.join(place.folder, name) for name in ("begun", "start", "go"))
    for path in (begun, start, go): # they stay where a first try was late
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def note(path):
        with open(path, "w", encoding="ascii"):
            pass

    def kept(process):
        resident = resident_sum_bytes([process.pid, *descendants(process.pid)], place.pagetide)
        managed = (stats_now(place, process) or {}).get("managed_bytes", 0)
        seen[:] = resident // MIB, managed // MIB
        return resident < 100 * MIB and managed >= 300 * MIB

    def during(process):
        in_time(lambda: os.path.exists(begun), "nothing was started")
        process.send_signal(signal.SIGSTOP)
        note(start)
        try:
            # Their helpers have their command lines.
            in_time(lambda: sum(command_of(pid) == f"{tests} full" for pid in
                                set(descendants(process.pid)) - set(helpers_below(process))) >= 100,
                    "they do not start")
        finally:
            process.send_signal(signal.SIGCONT)
        try:
            in_time(lambda: kept(process), lambda: f"is not kept: {seen[0]} MiB, of {seen[1]} managed", 120)
        finally:
            note(go)

    seen = []
    script = f"echo > {begun}; until test -e {start}; do sleep 0.1; done; for i in $(seq 100); do {tests} full & done; wait"
    result = place.run(["sh", "-c", script], 96, during=during)
    for path in (begun, start, go):
        os.unlink(path)
    judge_end(result)
    check(result.output.count(b"full") == 100, f"{result.output.count(b'full')} of 100 ended well")


def reserved_is_left_alone(place):
    """Address space far beyond the machine's memory is counted, and nothing of it is managed."""
    only_with_tool(place)
    result = place.run([os.path.join(place.programs, "live_map"), "address-space-reserved"], BUDGET_MIB)
    judge_end(result)
    sparse, managed = result.stats["unmanaged"]["sparse"], result.stats["peak_managed_bytes"]
    check(sparse >= 1 << 44, f"{sparse} bytes of 16 TiB are counted")
    check(managed < 1 << 40, f"{managed} bytes were managed")


# MiB, at least and at most, of what the program has of each kind; it has some that nobody asked for.
UNMANAGED_MIB = {"locked": (8, 9), "shared": (12, 13), "file": (24, 48), "foreign": (6, 7), "stack": (3, 8),
                 "small": (0.25, 4), "sparse": (0, 0), "no_helper": (0, 0)}


def unmanaged_is_counted(place):
    """What is left alone is counted, each by its reason, while the program runs and at its end."""
    only_with_tool(place)

    def wrong(stats):
        return [f"{why}: {stats['unmanaged'][why] / MIB:.1f} MiB" for why, (least, most) in UNMANAGED_MIB.items()
                if not least <= stats["unmanaged"][why] / MIB <= most]

    def during(process):
        found = ["nothing"]

        def right():
            stats = stats_now(place, process)
            found[:] = wrong(stats) if stats and stats["demoted_pages"] else found
            return not found

        in_time(right, lambda: f"is not counted right: {', '.join(found)}")
        process.send_signal(signal.SIGINT)

    result = place.run([hold_program(place), "unmanaged-until-signal"], BUDGET_MIB, during=during)
    judge_end(result)
    check(not wrong(result.stats), f"at the end: {', '.join(wrong(result.stats))}")
    return ", ".join(f"{why} {size / MIB:.1f} MiB" for why, size in result.stats["unmanaged"].items())


def time_of_the_tool(place):
    """The limit is for each process: when the tool has used what it may, that is no signal to the program."""
    only_with_tool(place)
    enough = os.path.join(place.folder, "enough")

    def during(process):
        in_time(lambda: cpu_ns(process.pid) > 13 * 10 ** 8, "it does next to nothing")
        with open(enough, "w", encoding="ascii"):
            pass

    script = f"ulimit -St 1000; until test -e {enough}; do {thread_program(place)} eight-threads-random || exit; done"
    result = place.run(["sh", "-c", script], BUDGET_MIB, prefix=["prlimit", "--cpu=1:1000"], during=during)
    os.unlink(enough)
    judge_end(result)


def address_space_limited(place):
    """Its budget is not kept: there is no room for what moves pages out. That is said."""
    path = os.path.join(place.folder, "limit-is-said")

    def is_said(process):
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/fd/2", "rb") as errors:
            return b"raise ulimit -v" in errors.read()
        return False

    def during(process):
        in_time(lambda: is_said(process), "nothing is said")
        with open(path, "w", encoding="ascii"):
            pass

    result = place.run([os.path.join(place.programs, "live_map"), "address-space-limited"], BUDGET_MIB,
                       during=None if place.native else during)
    if not place.native:
        os.unlink(path)
    judge_end(result)


def every_rule_has_a_test(place):
    """The rules of a userfaultfd runtime are numbered: a test has its rule's number in its name."""
    named = {int(number) for name in all_cases(place) for number in re.findall(r"rule(\d+)", name)}
    missing = sorted(set(range(1, 28)) - named)
    check(not missing, f"no test for the rules {missing}")


TOOL_CASES = {
    "environment-as-without": environment_as_without,
    "environment-emptied": environment_emptied,
    "preload-of-the-user-kept": preload_of_the_user_kept,
    "stack-as-laid-out": stack_as_laid_out,
    "another-root": another_root,
    "narrow-child": narrow_child,
    "under-valgrind": under_valgrind,
    "arguments-as-without": arguments_as_without,
    "streams-are-the-programs": streams_are_the_programs,
    "exit-status-kept": exit_status_kept,
    "death-by-signal-kept": death_by_signal_kept,
    "child-signals-ignored": child_signals_ignored,
    "first-of-a-namespace": first_of_a_namespace,
    "two-of-one-number": two_of_one_number,
    "terminate-is-passed-on": terminate_is_passed_on,
    "ctrl-c-handled": ctrl_c_handled,
    "ctrl-c-kills": ctrl_c_kills,
    "ctrl-z-stops-and-fg-goes-on": ctrl_z_stops_and_fg_goes_on,
    "stops-as-alone": stops_as_alone,
    "tool-killed-program-ends-rule04": killed_tool("hold"),
    "tool-killed-family-ends-rule04": killed_tool("hold-family", 3),
    "tool-and-guard-killed-rule04": killed_tool("hold-family", 3, kill_with_guards),
    "tool-killed-after-guard-rule04": killed_tool("hold-family", 3, kill_after_guard),
    "guards-killed": guards_killed,
    "tool-killed-by-name-rule04": killed_tool("hold", 1, kill_by_name),
    "lies-are-not-believed": lies_are_not_believed,
    "stats-while-running": stats_while_running,
    "exec-frees-the-old-image": exec_frees_the_old_image,
    "fits-rule23": fits_rule23,
    "memory-of-two": memory_of_two,
    "every-rule-has-a-test": every_rule_has_a_test,
    "killed-while-faulting": killed_while_faulting,
    "quiet-programs-cost-little": quiet_programs_cost_little,
    "core-dump-lacks": core_dump_lacks,
    "wrong-byte-is-seen": wrong_byte_is_seen,
    "work-is-counted-rule27": work_is_counted_rule27,
    "all-work-is-counted": all_work_is_counted,
    "helper-is-real-time": helper_is_real_time,
    "looking-keeps-to-its-share": looking_keeps_to_its_share,
    "handler-class-by-load-rule20": class_by_load(),
    "handler-class-without-right": class_by_load(
        ["prlimit", "--nice=0:0", "setpriv", "--bounding-set", "-sys_nice"]),
    "recorded-threads-replay": recorded_replays(["live_thread", "eight-threads-random"], 500),
    "recorded-family-replays": recorded_replays(["live_fork", "fork-then-both-write"], 500),
    "recorded-discards-replay": recorded_replays(["live_advice", "dontneed"], 100, 12),
    "recorded-python-replays": recorded_replays([sys.executable, "-c", PYTHON_CHURN], 100),
    "record-cut-off": record_cut_off,
    "stats-cut-off": stats_cut_off,
    "stats-on-a-full-disk": on_a_full_disk("--stats", 3, "cannot write the statistics"),
    "record-on-a-full-disk": on_a_full_disk("--record", 125, "cannot be written"),
    "verify-option": verify_option,
    "memory-option": memory_option,
    "machine-runs-short": machine_runs_short,
    "budget-beside-hogs": budget_beside_hogs(1),
    "budget-beside-many-hogs": budget_beside_hogs(4),
    "incompressible-goes-too": incompressible_goes_too,
    "full-tiers-exceeded": full_tiers_exceeded,
    "full-tiers-hard": full_tiers_hard,
    "locked-exceeds": locked_exceeds,
    "refused-hard": refused_hard,
    "fork-with-full-pool": fork_with_full_pool,
    "few-files": few_files,
    "guard-lets-go": guard_lets_go,
    "reserved-is-left-alone": reserved_is_left_alone,
    "handlers-on-our-cpus": handlers_on_our_cpus,
    "helpers-stopped": helpers_stopped,
    "helper-frozen": helper_frozen,
    "program-frozen": program_frozen,
    "helper-frozen-ends": helper_frozen_ends,
    "populating-helper-frozen": populating_helper_frozen,
    "huge-helper-frozen": huge_helper_frozen,
    "moves-are-batches-rule17": moves_are_batches_rule17,
    "many-programs-at-once": many_programs_at_once,
    "unmanaged-is-counted": unmanaged_is_counted,
    "time-of-the-tool": time_of_the_tool,
    "address-space-limited": address_space_limited,
}


def all_cases(place):
    cases = {}
    for program in PROGRAMS:
        names = subprocess.run([os.path.join(place.programs, f"live_{program}"), "list"],
                               stdout=subprocess.PIPE, check=True).stdout.decode().split()
        for name in names:
            if name not in NOT_ALONE:
                cases[name] = program_case(program, name)
    for name, counted in HUGE_CASES.items():
        cases[name] = huge_case(name, counted)
    cases.update(TOOL_CASES)
    return cases


if __name__ == "__main__":
    sys.exit(tests_main(all_cases))
