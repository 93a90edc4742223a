#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What belongs to the program is the program's own, and what is pagetide's stays out of its way."""

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time

from tool import PROGRAM, Skip, expect, main, need_runtime, tool

SH = '/bin/sh'
# A bound that the small programs here never reach.
BOUND = ['--tier', 'dram:256M']


def sh(text, *options, **more):
    need_runtime()
    return tool('run', *BOUND, *options, '--', SH, '-c', text, **more)


def exit_statuses():
    for status in (0, 1, 2, 42, 125, 126, 127, 128, 255):
        result = sh('exit %d' % status)
        expect(result.status == status, 'status is not %d' % status, result)
        expect(result.err == '', 'a word on stderr without a terminal', result)


def death_by_signal():
    for name in ('TERM', 'KILL', 'SEGV', 'HUP', 'INT', 'PIPE', 'USR1', 'ABRT'):
        result = sh('kill -%s $$' % name)
        expect(result.status == -getattr(signal, 'SIG' + name), 'not dead of SIG' + name, result)


def no_core_of_our_own():
    """The program's core is its own affair; the tool, dying of the same signal, leaves none."""
    with tempfile.TemporaryDirectory() as folder:
        def allow():
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

        need_runtime()
        done = subprocess.run([PROGRAM, 'run', *BOUND, '--', SH, '-c', 'ulimit -c 0; kill -ABRT $$'],
                              cwd=folder, preexec_fn=allow, capture_output=True)
        expect(done.returncode == -signal.SIGABRT, 'status %d' % done.returncode)
        expect(os.listdir(folder) == [], 'left behind: %s' % os.listdir(folder))


def streams():
    need_runtime()
    done = subprocess.run([PROGRAM, 'run', *BOUND, SH, '-c', 'cat; echo err >&2'],
                          input=b'one\0two\n' * 10000, capture_output=True)
    expect(done.stdout == b'one\0two\n' * 10000, 'stdin did not pass through')
    expect(done.stderr == b'err\n', 'stderr is %r' % done.stderr)


def closed_streams():
    """Closed for the tool, closed for the program; and what the tool has to say goes nowhere else."""
    script = 'import os, sys; open(sys.argv[1], "w").write(str([os.path.exists("/proc/self/fd/%d" % i) ' \
             'for i in range(3)]))'
    need_runtime()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'seen')
        for closed in ((0,), (1,), (2,), (0, 1, 2)):
            seen = []
            for words in ([], [PROGRAM, 'run', *BOUND, '--summary', '--']):
                done = subprocess.run(words + [sys.executable, '-c', script, path], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      preexec_fn=lambda: [os.close(fd) for fd in closed])
                expect(done.returncode == 0, 'status %d without %s' % (done.returncode, closed))
                with open(path) as file:
                    seen.append(file.read())
            expect(seen[0] == seen[1], 'without %s: %s under the tool, not %s' % (closed, seen[1], seen[0]))
    done = subprocess.run([PROGRAM, 'run', *BOUND, '--dry-run', 'true'], stderr=subprocess.PIPE,
                          preexec_fn=lambda: os.close(1))
    expect(done.returncode == 125 and b'standard output' in done.stderr, 'nobody was told: %s' % done)


def arguments():
    words = ['', 'a b', "'", '$HOME', '--tier', '--', '\n', '\udcff']
    need_runtime()
    done = subprocess.run([PROGRAM, 'run', *BOUND, sys.executable, '-c',
                           'import sys; sys.stdout.write(ascii(sys.argv[1:]))'] + words,
                          capture_output=True)
    expect(done.stdout.decode() == ascii(words), 'arguments changed: %r' % done.stdout, done.stderr)


def options_after_the_program_are_its_own():
    result = tool('run', *BOUND, '/bin/echo', '--zebra', '--tier', 'lz9')
    expect(result.status == 0 and result.out == '--zebra --tier lz9\n', 'not passed on', result)


def environment():
    """All that was there is there; what we add does not show in the values of others."""
    script = ('import os, json; print(json.dumps({k: v for k, v in os.environ.items() '
              'if k.startswith("PT_TEST")}))')
    need_runtime()
    env = dict(os.environ, PT_TEST_A='1', PT_TEST_B='two words\n', PT_TEST_EMPTY='')
    result = tool('run', *BOUND, sys.executable, '-c', script, env=env)
    expect(json.loads(result.out) == {'PT_TEST_A': '1', 'PT_TEST_B': 'two words\n',
                                      'PT_TEST_EMPTY': ''}, 'environment changed', result)


def limits():
    """The tool may raise its own; the program gets those it would have."""
    need_runtime()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    seen = [subprocess.run([*words, SH, '-c', 'ulimit -Sn; ulimit -Hn; ulimit -a'], capture_output=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard)))
            for words in ([], [PROGRAM, 'run', *BOUND, '--'])]
    expect(seen[0].stdout.startswith(b'300\n'), 'the limit could not be set', seen[0])
    expect(seen[0].stdout == seen[1].stdout, 'other limits', seen[1])


def search_path():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'greet')
        with open(path, 'w') as file:
            file.write('#!/bin/sh\necho hello\n')
        os.chmod(path, 0o755)
        need_runtime()
        result = tool('run', *BOUND, 'greet', env=dict(os.environ, PATH=folder + ':/usr/bin:/bin'))
        expect(result.out == 'hello\n', 'not found on PATH', result)


def summary_when_asked():
    expect(sh('exit 3', '--summary').err.strip() != '', 'no summary')
    expect(sh('exit 3', '--summary').status == 3, 'the summary changed the status')
    quiet = sh('exit 0', '--summary', '--quiet')
    expect(quiet.err.strip() != '', 'no summary although asked for', quiet)


def on_terminal(*words, program=('true',), enough=lambda text: True):
    """What a run writes to a terminal on standard error. Once that is enough its standard input ends."""
    need_runtime()
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        raise Skip('no terminal to be had: %s' % error)
    child = subprocess.Popen([PROGRAM, 'run', *BOUND, *words, *program], stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    text = b''
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if enough(text):
            child.stdin.close()
        if select.select([ours], [], [], 0.1)[0]:
            try:
                piece = os.read(ours, 4096)
            except OSError:
                break
            if not piece:
                break
            text += piece
    os.close(ours)
    child.stdin.close()
    child.wait()
    return text.decode()


def summary_on_a_terminal():
    expect(on_terminal().strip() != '', 'no summary on a terminal')
    expect(on_terminal('--quiet').strip() == '', 'a summary although quiet')


def live_line_is_one_line():
    """Written over again and again, narrower than any terminal, and ended when the program has."""
    text = on_terminal('--live', '--quiet', program=('cat',), enough=lambda text: text.count(b'\r') > 3)
    expect(text.endswith('\n') and text.count('\n') == 1, 'lines', repr(text))
    first, *shown = text.rstrip('\r\n').split('\r\033[K')
    expect(first == '' and len(shown) >= 3, 'not refreshed', repr(text))
    for one in shown:
        expect(re.fullmatch(r'resident [0-9.]+[KMGT]? of 256M \| stored 0 in 0 \| 0 faults/s, p99 0ns', one),
               'shows', repr(one))


def live_line_without_reader():
    """That nobody reads what the tool says is not the program's affair."""
    need_runtime()
    theirs, ours = os.pipe()
    os.close(theirs)
    result = sh('sleep 2.5; exit 7', '--live', stderr=ours, stdout=subprocess.PIPE)
    os.close(ours)
    expect(result.status == 7, 'status', result)


def dry_run_starts_nothing():
    with tempfile.TemporaryDirectory() as folder:
        need_runtime()
        result = tool('run', *BOUND, '--dry-run', 'touch', os.path.join(folder, 'mark'))
        expect(result.status == 0, 'status', result)
        expect(os.listdir(folder) == [], 'the program ran')
        expect('lz4: not bounded' in result.out and 'overhead: 1.00 %' in result.out and
               'killed' not in result.out, 'what it would do', result)
        result = tool('run', '--tier', 'dram:64M', '--tier', 'lz4:8M,verify', '--hard', '--overhead', '0.5',
                      '--dry-run', 'true')
        expect('lz4: 8388608 bytes, verified' in result.out and 'overhead: 0.50 %' in result.out and
               'killed when every tier is full' in result.out, 'what it would do', result)
        result = tool('run', *BOUND, '--dry-run', os.path.join(folder, 'missing'))
        expect(result.status == 127, 'a missing program is not found out', result)


def statistics_at_the_end():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'stats.json')
        result = sh('exit 5', '--stats', path)
        expect(result.status == 5, 'status', result)
        with open(path) as file:
            stats = json.load(file)
        expect(stats['schema'] == 'pagetide.stats/1', 'schema %s' % stats['schema'])
        expect(stats['exit_status'] == 5, 'exit_status %s' % stats['exit_status'])
        expect(SH in stats['program'] or 'sh' in stats['program'], 'program %s' % stats['program'])


def statistics_of_an_odd_name():
    """A program may have any bytes for a name; the document is JSON all the same."""
    need_runtime()
    with tempfile.TemporaryDirectory() as folder:
        name = os.fsencode(folder) + b'/odd\xff\n"'
        path = os.path.join(folder, 'stats.json')
        os.symlink('/bin/true', name)
        result = tool('run', *BOUND, '--stats', path, '--', name)
        expect(result.status == 0, 'status', result)
        with open(path, encoding='utf-8') as file:
            stats = json.load(file)
        expect(stats['program'] == folder + '/odd??"', 'program %r' % stats.get('program'))


def statistics_while_running():
    need_runtime()
    child = subprocess.Popen([PROGRAM, 'run', *BOUND, SH, '-c', 'echo up; exec sleep 60'],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        expect(child.stdout.readline() == b'up\n', 'the program did not start')
        result = tool('stats', str(child.pid), '--json')
        expect(result.status == 0, 'status', result)
        stats = json.loads(result.out)
        expect(stats['schema'] == 'pagetide.stats/1', 'schema %s' % stats['schema'])
        before = tool('stats', '--json', str(child.pid))
        expect(json.loads(before.out)['wall_ns'] > stats['wall_ns'], 'the clock stands', before)
        table = tool('stats', str(child.pid))
        expect(table.status == 0 and 'faults' in table.out and 'tier' in table.out, 'table', table)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()
    expect(child.returncode == -signal.SIGTERM, 'SIGTERM did not reach the program: %d' %
           child.returncode)


def nothing_left_behind():
    """When the tool has ended no process of its tree is left, and no file in its folder."""
    with tempfile.TemporaryDirectory() as folder:
        result = sh('true', cwd=folder)
        expect(result.status == 0 and os.listdir(folder) == [], 'left: %s' % os.listdir(folder))


if __name__ == '__main__':
    main([(case.__name__.replace('_', ' '), case) for case in (
        exit_statuses, death_by_signal, no_core_of_our_own, streams, closed_streams, arguments,
        options_after_the_program_are_its_own, environment, limits, search_path, summary_when_asked,
        summary_on_a_terminal, live_line_is_one_line, live_line_without_reader, dry_run_starts_nothing, statistics_at_the_end,
        statistics_of_an_odd_name, statistics_while_running, nothing_left_behind)])
