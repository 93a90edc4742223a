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


def a_skip_has_its_reason():
    status, text = ran({"none": raising(harness.Skipped("no such device"))})
    return status == 0 and "ok 1 - none # SKIP no such device\n" in text and \
        ran({}, Place("not built")) == (0, "1..0 # SKIP not built\n")


TESTS = [lines_of_threads_are_whole, late_once_is_tried_again, late_twice_fails, many_late_ones_fail,
         a_wrong_byte_is_not_tried_again, a_skip_has_its_reason]
bad = 0
for index, test in enumerate(TESTS, 1):
    good = test()
    bad += not good
    print("%s %d - %s" % ("ok" if good else "not ok", index, test.__name__))
print("1..%d" % len(TESTS))
sys.exit(1 if bad else 0)
