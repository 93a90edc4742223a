#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The live and the guest tests say what really happened (tests/live/harness.py): made-up cases of every kind, and
what is printed of them.

usage: tap.py HARNESS
"""

import contextlib
import io
import os
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import harness  # pylint: disable=wrong-import-position


class Place:
    """Where cases need nothing."""

    sanitized = False

    def __init__(self, reason=None):
        self.reason = reason

    def why_not(self):
        return self.reason

    def close(self):
        pass


class Words(io.StringIO):
    """Lets other threads print between any two pieces of what one prints."""

    def write(self, text):
        for letter in text:
            super().write(letter)
            time.sleep(0)
        return len(text)


def ran(cases, place=None, jobs=1):
    """(exit status, what was printed)"""
    with contextlib.redirect_stdout(Words()) as out:
        status = harness.tap_main(cases, place or Place(), jobs=jobs)
    return status, out.getvalue()


def raising(*errors):
    """A case that ends with these in turn, then well."""
    left = list(errors)

    def case(_place):
        if left:
            raise left.pop(0)
    return case


def noted(number):
    def case(_place):
        harness.say(f"# remark of {number}")
        return "\n".join(f"note {number}.{line}" for line in range(9))
    return case


def lines_of_threads_are_whole():
    """Each verdict has its own notes behind it, whoever prints meanwhile."""
    status, text = ran({f"case-{number}": noted(number) for number in range(16)}, jobs=8)
    found = re.findall(r"^ok \d+ - case-(\d+)\n((?:# note .*\n){9})# \d+\.\d s$", text, re.M)
    return status == 0 and len(found) == 16 and len(re.findall(r"^# remark of \d+$", text, re.M)) == 16 and all(
        notes == "".join(f"# note {number}.{line}\n" for line in range(9)) for number, notes in found)


def late_once_is_tried_again():
    status, text = ran({"late": raising(harness.Late("slow")), "good": raising()})
    return status == 0 and text.count("ok 1 - good") == 1 and "ok 2 - late" in text and \
        "# tried again: 1 late" in text


def late_twice_fails():
    status, text = ran({"late": raising(harness.Late("slow"), harness.Late("slow again"))})
    return status == 1 and "not ok 1 - late\n# slow again\n" in text


def many_late_ones_fail():
    """As many as may be get their second try, and the next one none."""
    status, text = ran({f"late-{number}": raising(harness.Late("slow")) for number in range(5)}, jobs=5)
    return status == 1 and text.count("\nok ") == 3 and text.count("\nnot ok ") == 2 and "# tried again: 3 " in text


def a_wrong_byte_is_not_tried_again():
    status, text = ran({"bad": raising(harness.Failed("MISMATCH")), "odd": raising(KeyError("moves"))})
    return status == 1 and "not ok 1 - bad\n# Failed: MISMATCH\n" in text and \
        "not ok 2 - odd\n# KeyError: 'moves'\n" in text


def giving_up(status, *said):
    """A case whose guest ends so the first time, and says that."""
    left = [said]

    def case(_place):
        if left:
            harness.gave_up("gave up\nok 9 - another", status, *left.pop(0))
    return case


def a_guest_that_only_gave_up_is_tried_again():
    """It ran out of time or its script gave up: three at most, each named with the reason."""
    status, text = ran({"hung": giving_up(None, b"begun\n", b""), "slow": giving_up(3, b"only 5 of 8 are fast\n"),
                        "locked": giving_up(143, b"LATE only 0 of 64 pages left memory under pressure",
                                            b"[ 60.1] watchdog: BUG: soft lockup - CPU#1 stuck for 26s!")})
    return status == 0 and "# tried again: 3 hung slow locked\n" in text and text.count("\nok ") == 3 and \
        text.count("has to be tried again: gave up / ok 9 - another\n") == 3


def a_guest_where_something_was_wrong_is_not():
    """Whoever says so, wherever it says so, and who died of a signal."""
    wrong = (b"MISMATCH page 7 word 0 expected 1 got 0", b"FAILED prog.c:7: not true: nr > 0 (errno 0)",
             b"pagetide: internal error: x does not hold", b"ERROR: AddressSanitizer: heap-use-after-free",
             b"WARNING: ThreadSanitizer: data race", b"[ 9.1] Oops: general protection fault",
             b"[ 9.1] BUG: Bad page state", b"[ 9.1] Out of memory: Killed process 7",
             b"pagetide: ending the program: its server cannot wait", b"Segmentation fault")
    cases = {f"wrong-{number}": giving_up(1, b"", said) for number, said in enumerate(wrong)}
    cases |= {f"died-{number}": giving_up(128 + number) for number in (6, 9, 11)}
    status, text = ran(cases)
    return status == 1 and text.count("\nnot ok ") == len(cases) and "# tried again: 0\n" in text


def waited_for(script):
    """How a case ends that waits until its program has begun, and then in vain."""
    place = harness.Place(sys.executable, os.curdir, native=True)

    def during(process):
        for _ in range(6000):
            if process.poll() is not None or harness.descendants(process.pid):
                break
            time.sleep(0.01)
        raise harness.Late("it did not come so far")
    try:
        place.run(["sh", "-c", script], 0, during=during)
    except harness.Failed as reason:
        return type(reason), str(reason)
    finally:
        place.close()
    return None, ""


def who_is_waited_for_in_vain_may_have_been_wrong():
    """It is late while nothing is wrong; not with a wrong byte seen, and not when it has ended."""
    return waited_for("sleep 600") == (harness.Late, "it did not come so far") and \
        waited_for("echo MISMATCH page 7 >&2; sleep 600")[0] is harness.Failed and \
        waited_for("exit 1")[0] is harness.Failed


def a_skip_has_its_reason():
    status, text = ran({"none": raising(harness.Skipped("no such device"))})
    return status == 0 and "ok 1 - none # SKIP no such device\n" in text and \
        ran({}, Place("not built")) == (0, "1..0 # SKIP not built\n")


TESTS = [lines_of_threads_are_whole, late_once_is_tried_again, late_twice_fails, many_late_ones_fail,
         a_wrong_byte_is_not_tried_again, a_guest_that_only_gave_up_is_tried_again,
         a_guest_where_something_was_wrong_is_not, who_is_waited_for_in_vain_may_have_been_wrong, a_skip_has_its_reason]
bad = 0
for index, test in enumerate(TESTS, 1):
    good = test()
    bad += not good
    print("%s %d - %s" % ("ok" if good else "not ok", index, test.__name__))
print("1..%d" % len(TESTS))
sys.exit(1 if bad else 0)
