#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/check counts what really happened: logs of every kind of outcome, and the line they give.

usage: count.py TOOLS_CHECK
"""

import importlib.machinery
import importlib.util
import sys

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader('check', sys.argv[1])
check = importlib.util.module_from_spec(importlib.util.spec_from_loader('check', loader))
loader.exec_module(check)

CMOCKA = """[==========] Running 3 test(s).
[ RUN      ] first_one
[       OK ] first_one
[ RUN      ] second
%s
[ RUN      ] third
[  SKIPPED ] third
[==========] 3 test(s) run.
%s"""
CMOCKA_GOOD = CMOCKA % ('[       OK ] second', '[  PASSED  ] 2 test(s).')
CMOCKA_BAD = CMOCKA % ('[  FAILED  ] second',
                       '[  PASSED  ] 1 test(s).\n[  FAILED  ] 1 test(s), listed below:\n'
                       '[  FAILED  ] second\n\n 1 FAILED TEST(S)\n')
TAP = """TAP version 13
1..4
ok 1 - one
%s 2 - two
#   ok this is only a remark
ok 3 - three # SKIP no device here
okay, this is no result
ok
"""

# (result, stdout, stderr) -> (passed, failed, skipped)
CASES = [
    ('a program that passes', ('OK', 'hello\n', ''), (1, 0, 0)),
    ('a silent program that passes', ('OK', '', ''), (1, 0, 0)),
    ('a program that fails', ('FAIL', 'hello\n', ''), (0, 1, 0)),
    ('a program that hangs', ('TIMEOUT', 'ok 1 - one\n', ''), (1, 1, 0)),
    ('a program that crashes', ('ERROR', '', ''), (0, 1, 0)),
    ('a program that skips', ('SKIP', 'no kernel for it\n', ''), (0, 0, 1)),
    ('cmocka, all good', ('OK', CMOCKA_GOOD, ''), (2, 0, 1)),
    ('cmocka, one bad, named twice', ('FAIL', CMOCKA_BAD, ''), (1, 1, 1)),
    ('cmocka, the end on stderr', ('FAIL', CMOCKA_BAD[:200], CMOCKA_BAD[200:]), (1, 1, 1)),
    ('cmocka, dies in the middle', ('FAIL', CMOCKA_GOOD[:90], ''), (1, 1, 0)),
    ('TAP, all good', ('OK', TAP % 'ok', ''), (3, 0, 1)),
    ('TAP, one bad', ('FAIL', TAP % 'not ok', ''), (2, 1, 1)),
    ('TAP, one bad that the exit status hides', ('OK', TAP % 'not ok', ''), (2, 1, 1)),
    ('TAP, all good but a bad end', ('FAIL', TAP % 'ok', ''), (3, 1, 1)),
]


def count(result, stdout, stderr):
    counts = check.Counts()
    build = check.Build('gcc', 'gcc', [], [])
    check.count_test(build, {'name': 'suite / test', 'result': result, 'stdout': stdout,
                             'stderr': stderr}, counts)
    return counts


bad = 0
for number, (name, log, wanted) in enumerate(CASES, 1):
    counts = count(*log)
    got = (counts.passed, len(counts.failed), len(counts.skipped))
    good = got == wanted and counts.line() == '%d passed, %d failed, %d skipped' % wanted
    bad += not good
    print('%s %d - %s' % ('ok' if good else 'not ok', number, name))
    if not good:
        print('#   wanted %s, got %s' % (wanted, got))
reason = count('SKIP', 'first\nno kernel for it\n\n', '').skipped[0][1]
print('%s %d - the reason of a skip is its last line' % (
    'ok' if reason == 'no kernel for it' else 'not ok', len(CASES) + 1))
bad += reason != 'no kernel for it'

# What is seen last of a run in which tests failed, and others were tried again.
TAP_WITH_REASONS = """1..3
# late has to be tried again: 3 of 4 came
not ok 1 - worse
# Failed: 2 of 3 bytes
# and more
# 4.2 s
ok 2 - good
# peak 3 MiB
not ok 3 - last
#   Traceback (most recent call last):
#     File "x", line 3
#   ValueError: five
"""
CMOCKA_STDERR = """[  ERROR   ] --- 0x1 != 0x2
[   LINE   ] --- test_x.c:3: error: Failure!
[  FAILED  ] second
"""
ENDS = [
    ('why a case failed, and another had to be tried again', ('FAIL', TAP_WITH_REASONS, ''), [
        'tried again:', '  gcc: test: late: 3 of 4 came', '', 'failed:',
        '  gcc: test: worse: Failed: 2 of 3 bytes / and more', '  gcc: test: last: ValueError: five', '',
        '7 s, 1 tried again', '1 passed, 2 failed, 0 skipped']),
    ('why a test failed', ('FAIL', CMOCKA_BAD, CMOCKA_STDERR), [
        'failed:', '  gcc: test: second: 0x1 != 0x2 / test_x.c:3: error: Failure!', '', '7 s, 0 tried again',
        '1 passed, 1 failed, 1 skipped']),
    ('why a program failed', ('ERROR', '', 'lost\n'), [
        'failed:', '  gcc: test: error: lost', '', '7 s, 0 tried again', '0 passed, 1 failed, 0 skipped']),
    ('that nothing failed', ('OK', TAP % 'ok', ''), ['7 s, 0 tried again', '3 passed, 0 failed, 1 skipped']),
]
for number, (name, log, wanted) in enumerate(ENDS, len(CASES) + 2):
    got = check.end_lines(count(*log), 7)
    bad += got != wanted
    print('%s %d - seen at the end: %s' % ('ok' if got == wanted else 'not ok', number, name))
    if got != wanted:
        print('#   wanted %s, got %s' % (wanted, got))
print('1..%d' % (len(CASES) + 1 + len(ENDS)))
sys.exit(1 if bad else 0)
