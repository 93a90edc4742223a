# SPDX-License-Identifier: MIT
"""Running pagetide and looking at what came of it; each case is one TAP line."""

import os
import re
import signal
import subprocess
import sys
import traceback

PROGRAM = os.path.abspath(sys.argv[1])


class Skip(Exception):
    pass


class Unexpected(Exception):
    pass


class Result:
    def __init__(self, status, out, err):
        self.status = status
        self.out = out
        self.err = err

    def __str__(self):
        return 'status %d\nstdout: %r\nstderr: %r' % (self.status, self.out, self.err)


def tool(*words, as_user=None, before=(), **more):
    """Run pagetide WORDS, behind other commands; a status below zero is the signal that ended it."""
    def become():
        os.setgroups([])
        os.setgid(as_user)
        os.setuid(as_user)

    if as_user is not None:
        if os.getuid() != 0:
            raise Skip('only root can become another user')
        more['preexec_fn'] = become
    try:
        done = subprocess.run([*before, PROGRAM, *words], stdin=more.pop('stdin', subprocess.DEVNULL),
                              capture_output='stdout' not in more, timeout=300, **more)
    except PermissionError:
        if as_user is None:
            raise
        raise Skip('the build folder is closed to other users')
    return Result(done.returncode, (done.stdout or b'').decode(errors='replace'),
                  (done.stderr or b'').decode(errors='replace'))


def need_runtime():
    """Most of `run` needs a machine on which it works."""
    if tool('check').status != 0:
        raise Skip('pagetide check says that this machine cannot run programs')


def expect(true, what, result=''):
    if not true:
        raise Unexpected('%s\n%s' % (what, result))


def expect_refusal(result, status, pattern):
    """The status, nothing on stdout, and one line on stderr that says this."""
    expect(result.status == status, 'status is not %d' % status, result)
    expect(result.out == '', 'something on stdout', result)
    lines = result.err.split('\n')
    expect(len(lines) == 2 and lines[1] == '', 'stderr is not one line', result)
    expect(lines[0].startswith('pagetide: '), 'the line does not say who speaks', result)
    expect(re.search(pattern, lines[0]), 'the line does not say /%s/' % pattern, result)


def main(cases):
    """cases: (name, function) in order; exits."""
    # Under nohup, or behind a shell's &, signals are ignored, and who is started would inherit that.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    bad = 0
    for number, (name, case) in enumerate(cases, 1):
        try:
            case()
            print('ok %d - %s' % (number, name))
        except Skip as skip:
            print('ok %d - %s # SKIP %s' % (number, name, skip))
        except Exception as error:
            bad += 1
            print('not ok %d - %s' % (number, name))
            known = isinstance(error, Unexpected)
            for line in (str(error) if known else traceback.format_exc()).splitlines():
                print('#   ' + line)
        sys.stdout.flush()
    print('1..%d' % len(cases))
    sys.exit(1 if bad else 0)
