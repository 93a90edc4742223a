#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What works for an ordinary user, by the rights that were given: tried as user nobody.

The rights are given to a copy of the tool (setcap), and /dev/userfaultfd is opened in a mount namespace
of the run's own: nothing of the machine is changed.
"""
import os
import re
import shutil
import stat
import subprocess
import sys
import time

from harness import (MIB, Late, Place, Skipped, check, judge_budget, judge_end, judge_stats, stats_now, tail,
                     tests_main)

NOBODY = 65534
BUDGET_MIB = 32
DEVICE = "/dev/userfaultfd"
# Words: where a node of the device can be made, its numbers, then the command.
OPEN_DEVICE = ('rm -f "$1/device" && mknod -m 666 "$1/device" c $2 $3 && mount --bind "$1/device" ' + DEVICE +
               ' && shift 3 && exec "$@"')


def copied(place, rights):
    """A copy of the tool and of a program that everybody may execute; `rights` as setcap writes them."""
    folder = os.path.join(place.folder, "open")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "src/inject"))
    built = os.path.dirname(place.pagetide)
    tool = shutil.copy(place.pagetide, folder)
    shutil.copy(os.path.join(built, "src/inject/libpagetide-inject.so"), os.path.join(folder, "src/inject"))
    shutil.copy(os.path.join(place.programs, "live_thread"), folder)
    if rights:
        done = subprocess.run(["setcap", rights, tool], stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise Skipped(f"setcap: {tail(done.stderr)}")
        if os.statvfs(folder).f_flag & os.ST_NOSUID:
            raise Skipped(f"{folder} is mounted nosuid: programs there gain no rights")
    return folder


class UserPlace(Place):
    """Runs as nobody; `device`: whether /dev/userfaultfd is open to everybody."""

    def __init__(self, place, device, rights=""):
        if os.getuid() != 0:
            raise Skipped("only root can become another user")
        for needed in ("setcap", "setpriv", "unshare"):
            if not shutil.which(needed):
                raise Skipped(f"{needed} is not installed")
        self.__dict__.update(place.__dict__)
        os.chmod(place.folder, 0o777)
        self.origin = place.programs
        self.programs = copied(place, rights)
        self.pagetide = os.path.join(self.programs, os.path.basename(place.pagetide))
        become = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        self.prefix = become
        if device:
            self.prefix = self.own_device() + become
        elif os.path.exists(DEVICE) and os.stat(DEVICE).st_mode & stat.S_IROTH:
            raise Skipped(f"{DEVICE} is open to everybody here")

    def own_device(self):
        if not os.path.exists(DEVICE):
            raise Skipped(f"no {DEVICE} here")
        number = os.stat(DEVICE).st_rdev
        prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OPEN_DEVICE, "sh",
                  self.programs, str(os.major(number)), str(os.minor(number))]
        # Opened, not asked for the right: where the folder is there may be no devices.
        done = subprocess.run(prefix + ["sh", "-c", ": < " + DEVICE], stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise Skipped(f"no mount namespace of our own: {tail(done.stderr)}")
        return prefix

    def command(self, argv, tiers, options=(), stats=None):
        return self.prefix + super().command(argv, tiers, options, stats)

    def told(self, *words):
        """What the tool says: (exit status, standard output, standard error)."""
        done = subprocess.run(self.prefix + [self.pagetide, *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False,
                              cwd="/")
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def missing(self):
        """Names of needed features that check says are not there."""
        _, output, _ = self.told("check")
        return [line.split()[0] for line in output.splitlines()
                if line.split()[1:3] == ["needed", "NO"]]


def sysctl_on():
    with open("/proc/sys/vm/unprivileged_userfaultfd", encoding="ascii") as file:
        return file.read().strip() != "0"


def works(place):
    """The whole of the main job: bytes, budget, sums; and check says so beforehand."""
    check(place.missing() == [], f"check says that these are missing: {place.missing()}")
    result = place.run([os.path.join(place.programs, "live_thread"), "eight-threads-random"], BUDGET_MIB)
    judge_end(result)
    judge_stats(result.stats)
    judge_budget(result, BUDGET_MIB)
    check(sum(result.stats["unmanaged"].values()) < result.stats["peak_managed_bytes"],
          f"hardly anything was managed: {result.stats['unmanaged']}")
    return f"peak {result.peak_bytes / MIB:.0f} MiB, demoted {result.stats['demoted_pages']}"


def refused(place, name, mend):
    """One line that names what is missing and the mend, and check says the same."""
    check(name in place.missing(), f"check says that only these are missing: {place.missing()}")
    status, output, errors = place.told("run", "/bin/echo", "ran")
    check(status == 125 and output == "", f"status {status}, printed {output!r}")
    check(errors.count("\n") == 1 and re.search(mend, errors), f"said: {errors!r}")
    return errors.strip()


def device_and_right(place):
    return works(UserPlace(place, True, "cap_sys_ptrace+ep"))


def device_without_right(place):
    return refused(UserPlace(place, True), "fork-events", "setcap cap_sys_ptrace")


def right_without_device(place):
    if sysctl_on():
        raise Skipped("vm.unprivileged_userfaultfd is on")
    return refused(UserPlace(place, False, "cap_sys_ptrace+ep"), "userfaultfd",
                   "chmod .*/dev/userfaultfd.*vm.unprivileged_userfaultfd=1")


def right_and_sysctl(place):
    if not sysctl_on():
        raise Skipped("vm.unprivileged_userfaultfd is off, and is not ours to change")
    return works(UserPlace(place, False, "cap_sys_ptrace+ep"))


ALONE_MIB = 20


def child_alone(program, setuid):
    """A child into which no helper comes runs as it would alone, and its memory counts."""
    def run(place):
        place = UserPlace(place, True, "cap_sys_ptrace+ep")
        path = shutil.copy(os.path.join(place.origin, program), place.programs)
        os.chmod(path, 0o4755 if setuid else 0o755)
        go = os.path.join(place.programs, "go")

        def during(process):
            deadline, seen = time.monotonic() + 120, 0
            while time.monotonic() < deadline and seen < ALONE_MIB * MIB:
                time.sleep(0.2)
                stats = stats_now(place, process)
                seen = stats["unmanaged"]["no_helper"] if stats else 0
            with open(go, "w", encoding="ascii"):
                pass

        script = '"$0" "$@" > out; said=$?; cat out; exit $said'
        result = place.run(["sh", "-c", script, path, str(ALONE_MIB), go], BUDGET_MIB, during=during)
        judge_end(result, expected=7)
        wanted = 0 if setuid else NOBODY
        if setuid and result.output == f"user {NOBODY}\n".encode():
            raise Skipped("setuid programs do not become their owner here")
        check(result.output == f"user {wanted}\n".encode(), f"printed: {tail(result.output)}")
        counted = result.stats["unmanaged"]["no_helper"]
        if counted < ALONE_MIB * MIB:
            raise Late(f"{counted} bytes were counted of {ALONE_MIB}M")
    return run


CASES = {
    "user-setuid-child": child_alone("live_alone", True),
    "user-static-child": child_alone("live_alone_static", False),
    "user-with-device-and-right": device_and_right,
    "user-with-device-without-right": device_without_right,
    "user-with-right-without-device": right_without_device,
    "user-with-right-and-sysctl": right_and_sysctl,
}


if __name__ == "__main__":
    sys.exit(tests_main(CASES))
