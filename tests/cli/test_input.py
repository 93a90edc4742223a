#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bad input: each gives its exit status and one line that names the mend, and nothing is half done."""

import os
import shutil
import signal
import struct
import subprocess
import tempfile

from tool import PROGRAM, Result, Skip, expect, expect_refusal, main, need_runtime, tool

NOBODY = 65534
HUGE = '99999999999999999999999999'

# (words, status, what the line must say); `run` cases get a program that would leave a mark.
USAGE = [
    ([], 'pagetide run PROGRAM'),
    (['rum'], 'unknown verb rum: did you mean pagetide run\\?'),
    (['zebra'], 'unknown verb zebra.*pagetide help'),
    (['--zebra'], 'unknown verb --zebra'),
    (['help', 'rum'], 'did you mean pagetide run\\?'),
    (['help', 'run', 'check'], 'leave out check'),
    (['version', 'x'], 'leave out x'),
    (['check', 'x'], 'pagetide check \\[--json\\]'),
    (['check', '--jsn'], 'did you mean --json\\?'),
    (['check', '--json=yes'], 'takes no value'),
    (['topo', '0'], 'pagetide topo \\[--json\\] \\[--measure\\]'),
    (['topo', '--mesure'], 'did you mean --measure\\?'),
    (['pages'], 'whose pages\\? write pagetide pages -p PID'),
    (['pages', '1'], 'takes no 1: write pagetide pages -p PID'),
    (['pages', '-p'], '--pid needs a value'),
    (['pages', '-p', '1', '--for', 'ever'], '--for ever: not a time: write 30s, 5m, 1h'),
    (['pages', '-p', 'me'], 'me is no process number: write pagetide pages -p PID'),
    (['pages', '-p', '-1'], 'no process number'),
    (['pages', '-p1'], 'unknown option -p1'),
    (['pages', '-q', '1'], 'unknown option -q: pagetide help pages'),
    (['pages', '--pid=' + HUGE], 'no process number'),
    (['migrate'], '--pid is missing: write pagetide migrate -p PID --from NODES --to NODES'),
    (['migrate', '-p', '1'], '--from is missing'),
    (['migrate', '-p', '1', '--from', '0'], '--to is missing'),
    (['migrate', '-p', '1', '--from', '0', '--to', '0', '1'], 'takes no 1'),
    (['migrate', '--form', '0'], 'did you mean --from\\?'),
    (['stats'], 'pagetide stats PID'),
    (['stats', 'me'], 'me is no process number'),
    (['stats', '0'], '0 is no process number'),
    (['stats', '+1'], 'no process number'),
    (['stats', '1x'], 'no process number'),
    (['stats', HUGE], 'no process number'),
    (['stats', '1', '2'], 'leave out 2'),
    (['stats', '--jason', '1'], 'did you mean --json\\?'),
    (['attach'], 'which processes\\? write pagetide attach -p PID, --cgroup PATH or --exe REGEX'),
    (['attach', '-p', '1', '--exe', 'x'], 'leave out --cgroup and --exe, or --pid'),
    (['attach', '--exe', ''], '--exe is empty: leave it out'),
    (['attach'] + ['--exe', 'x'] * 40, '--exe: more than 32: write a file for pagetide daemon'),
    (['attach', '--exe', 'a(b'], 'a\\(b: not an extended regular expression'),
    (['attach', '--cgroup'], '--cgroup needs a value'),
    (['attach', '--exe', 'x', '--tiers', 'y', '--slow', '1'], 'leave out --fast and --slow, or --tiers'),
    (['attach', '--exe', 'x', '--tiers', '/no/such'], '/no/such: No such file'),
    (['daemon', 'x'], 'daemon takes no x: write pagetide daemon -c FILE'),
    (['daemon', '-c'], '--config needs a value'),
    (['daemon', '--print-confg'], 'did you mean --print-config\\?'),
    (['daemon', '-c', '/no/such'], '/no/such: No such file.*: write it .*, or name another'),
    (['daemon', '-c', '/no/such', '--print-config'], '/no/such: No such file.*: write it .*, or name another'),
    (['attach', '-p', '1', '--tiers', '/no/such'], '/no/such: No such file.*: write it .*, or name another'),
    (['attach', '-p'], '--pid needs a value'),
    (['attach', '-p', 'me'], 'me: not a list of process numbers: write 1234'),
    (['attach', '-p', '0'], 'not a list of process numbers'),
    (['attach', '-p', '1,'], 'not a list of process numbers'),
    (['attach', '-p', '1,,2'], 'not a list of process numbers'),
    (['attach', '-p', '-1'], 'not a list of process numbers'),
    (['attach', '-p', HUGE], 'not a list of process numbers'),
    (['attach', '-p', ','.join(['1'] * 300)], 'more than 256 processes'),
    (['attach', '-p', '1', '2'], 'attach takes no 2'),
    (['attach', '--pid=1', '--for', 'soon'], '--for soon: not a time: write 30s'),
    (['attach', '--pid=1', '--for', '0s'], 'not a time'),
    (['attach', '--pid=1', '--for', '5124095h'], '--for 5124095h: too long: leave it out'),
    (['attach', '--pid=1', '--for', '10'], 'not a time'),
    (['attach', '--pid=1', '--json=yes'], 'takes no value'),
    (['attach', '--pid=1', '--fats', '0'], 'did you mean --fast\\?'),
    (['attach', '--pid=1', '--sensor', 'soft'], 'unknown: write hint'),
    (['attach', '--pid=1', '--sensor', 'trace'], 'write hint, idle, .*trace:FILE'),
    (['attach', '--pid=1', '--sensor', 'idel'], 'did you mean idle\\?'),
    (['attach', '--pid=1', '--fast', 'x'], '--fast x: not a list of nodes: write 0'),
    (['attach', '--pid=1', '--slow', '999'], 'node 999 has no memory here'),
    (['attach', '--pid=1', '--fast', '0', '--slow', '0'], 'node 0 is named both fast and slow'),
    (['run'], 'no program to run: write pagetide run'),
    (['run', '--'], 'no program to run'),
    (['run', '--hard'], 'no program to run'),
    (['run', '--tier'], '--tier needs a value: --tier SPEC'),
]
USAGE_RUN = [
    (['--teir', 'lz4'], 'unknown option --teir: did you mean --tier\\?'),
    (['--zebra'], 'unknown option --zebra: pagetide help run'),
    (['--memry=1G'], 'unknown option --memry: did you mean --memory\\?'),
    (['-t', 'lz4'], 'unknown option -t: pagetide help run'),
    (['-'], ''),
    (['--hard=yes'], '--hard takes no value: leave out =yes'),
    (['--tier', 'lz5'], 'unknown tier: did you mean lz4\\?'),
    (['--tier', 'darm:1G'], 'unknown tier: did you mean dram\\?'),
    (['--tier', 'floppy:1G'], 'unknown tier: tiers are dram:SIZE, node:N\\[,size=SIZE\\] and lz4'),
    (['--tier', ''], 'unknown tier: tiers are'),
    (['--tier', 'lz4' + 'x' * 100], 'too long: tiers are'),
    (['--tier', 'LZ4'], 'unknown tier'),
    (['--tier', 'dram'], 'dram needs a size: write dram:2G'),
    (['--tier', 'dram:'], 'not a size: write 512M'),
    (['--tier', 'dram:1G,verify'], 'dram has no flags'),
    (['--tier', 'lz4,verfy'], 'unknown flag verfy: did you mean verify\\?'),
    (['--tier', 'lz4,zebra'], 'unknown flag zebra: tiers are'),
    (['--tier', 'lz4,'], 'unknown flag'),
    (['--tier', 'lz4:1M'], 'lz4: .* give at least 4M'),
    (['--tier', 'lz4:1G,verify,'], 'unknown flag'),
    (['--tier', 'nod:1'], 'unknown tier: did you mean node\\?'),
    (['--tier', 'node'], 'no number of a node: write node:0,size=2G'),
    (['--tier', 'node:one'], 'no number of a node'),
    (['--tier', 'node:-1'], 'no number of a node'),
    (['--tier', 'node:70000'], 'no number of a node'),
    (['--tier', 'node:0,siz=1G'], 'unknown flag siz: did you mean size\\?'),
    (['--tier', 'node:0,size=lots'], 'size lots: not a size: write 512M'),
    (['--tier', 'node:0,size=8M', '--tier', 'node:0'], 'a second node'),
    (['--tier', 'node:0,size=8M'], 'nodes come in twos, a fast one and a slow one: write --tier node:0'),
    (['--tier', 'node:0,size=8M', '--tier', 'lz4'], 'nodes come in twos'),
    (['--tier', 'node:0,size=8M', '--tier', 'node:1', '--tier', 'node:2'], 'nodes come in twos'),
    (['--tier', 'node:0', '--tier', 'node:1'], 'node:0: the fast node needs a size: write node:0,size=2G'),
    (['--tier', 'node:0,size=8M', '--tier', 'node:1,size=1M'], 'node:1: .* give at least 4M'),
    (['--tier', 'node:0,size=1M', '--tier', 'node:1'], 'give at least 4M'),
    (['--tier', 'node:0,size=900000T', '--tier', 'node:1'], 'more than there is: at most'),
    (['--tier', 'dram:64M', '--tier', 'node:1'], 'dram and nodes both bound the memory: write --tier node:0'),
    (['--tier', 'lz4', '--tier', 'node:0,size=8M', '--tier', 'node:1'], 'lz4 comes before a node'),
    (['--tier', 'node:0,size=8M', '--tier', 'lz4', '--tier', 'node:1'], 'lz4 comes before a node'),
    (['--memory', '64M', '--tier', 'node:0,size=8M', '--tier', 'node:1'], 'leave out --memory'),
    (['--tier', 'node:0,size=8M', '--tier', 'node:1000'],
     '--tier node:1000: no such node with memory; here there is [0-9,-]+$'),
    (['--tier', 'lz4', '--tier', 'lz4'], 'a second lz4: name each tier once'),
    (['--tier', 'dram:64M', '--tier', 'dram:64M'], 'a second dram'),
    (['--tier', 'lz4', '--tier', 'dram:64M'], 'comes after lz4: name the fastest tier first'),
    (['--tier', 'dram:64Q'], 'unknown unit: write 512M, 2G, 40%'),
    (['--tier', 'dram:64MB'], 'unknown unit'),
    (['--tier', 'lz4:abc'], 'not a size'),
    (['--tier', 'lz4:0'], 'nothing would fit'),
    (['--tier', 'dram:0%'], 'nothing would fit'),
    (['--tier', 'dram:-1G'], 'not a size'),
    (['--tier', 'dram:101%'], 'more than there is: at most'),
    (['--tier', 'dram:' + HUGE], 'more than there is'),
    (['--tier', 'lz4:16777215T'], 'more than there is'),
    (['--memory', '900000T'], 'more than there is: at most .* \\(100%\\)'),
    (['--memory', '512Q'], 'unknown unit: write 512M, 2G, 40%'),
    (['--memory', 'lots'], 'not a size: write 512M, 2G, 40%'),
    (['--memory', ''], 'not a size'),
    (['--memory', '0'], 'nothing would fit'),
    (['--memory', ' 1G'], 'not a size'),
    (['--memory', '1G\n2G'], 'unknown unit'),
    (['--memory', '64M', '--tier', 'dram:64M'], 'both bound the memory: leave out one'),
    (['--overhead', 'x'], 'not a share of one core: write 0.5% or 1%'),
    (['--overhead', '101'], 'at most 100%'),
    (['--overhead', '-1'], 'not a share'),
    (['--overhead', '1G'], 'not a share'),
    (['--stats', '/nowhere/at/all'], '--stats /nowhere/at/all: cannot be written: .*name another'),
    (['--stats', '/tmp/'], 'not a file name'),
    (['--stats', '/tmp'], '--stats /tmp: not a file name: write --stats FILE'),
    (['--record', '/tmp'], 'not a file name'),
    (['--stats', ''], 'not a file name'),
]
# Budgets that no program can start in.
TOO_SMALL = [['--tier', 'dram:1'], ['--tier', 'dram:4K'], ['--tier', 'dram:64K'], ['--memory', '4K'],
             ['--memory', '256K'], ['--memory', '8M'], ['--memory', '15M']]


class Folder:
    """A folder with programs that nobody can run, and a mark that a started program would leave."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix='pagetide-cli-')
        os.chmod(self.path, 0o755)

    def name(self, name):
        return os.path.join(self.path, name)

    def program(self):
        """Words of a program that leaves the mark."""
        return ['/bin/sh', '-c', 'echo ran > %s; echo ran' % self.name('mark')]

    def expect_untouched(self, before):
        expect(sorted(os.listdir(self.path)) == before, 'the folder changed: %s' %
               os.listdir(self.path))

    def copy(self, name, mode, source='/bin/true'):
        shutil.copyfile(source, self.name(name))
        os.chmod(self.name(name), mode)
        return self.name(name)

    def remove(self):
        shutil.rmtree(self.path)


def usage_case(words, pattern):
    return lambda: expect_refusal(tool(*words), 2, pattern)


def run_case(words, pattern, status=2):
    def case():
        folder = Folder()
        stats = ['--stats', folder.name('stats.json')] if '--stats' not in words else []
        try:
            if words == ['-']:
                # A lone dash is a word, so it is the program, and there is none of that name.
                need_runtime()
                expect_refusal(tool('run', *stats, '-'), 127, '')
            else:
                expect_refusal(tool('run', *stats, *words, *folder.program()), status, pattern)
            folder.expect_untouched([])
        finally:
            folder.remove()
    return case


def program_case(make, status, pattern):
    """`make` puts a program into a folder and gives its name."""
    def case():
        need_runtime()
        folder = Folder()
        try:
            name = make(folder)
            before = sorted(os.listdir(folder.path))
            expect_refusal(tool('run', '--stats', folder.name('stats.json'), name, 'x'), status,
                           pattern)
            folder.expect_untouched(before)
        finally:
            folder.remove()
    return case


def make_script(folder, text, mode=0o755):
    with open(folder.name('script'), 'w') as file:
        file.write(text)
    os.chmod(folder.name('script'), mode)
    return folder.name('script')


def make_static(folder):
    with open(folder.name('a.c'), 'w') as file:
        file.write('int main(void) { return 0; }\n')
    done = subprocess.run(['gcc', '-static', '-o', folder.name('static'), folder.name('a.c')],
                          capture_output=True)
    if done.returncode:
        raise Skip('no static C library here')
    return folder.name('static')


def make_setuid(folder):
    if os.getuid() != 0:
        raise Skip('only root can make another user\'s setuid program')
    path = folder.copy('setuid', 0o755)
    os.chown(path, NOBODY, NOBODY)
    os.chmod(path, 0o4755)
    return path


def make_setgid(folder):
    if os.getuid() != 0:
        raise Skip('only root can make another group\'s setgid program')
    path = folder.copy('setgid', 0o755)
    os.chown(path, -1, NOBODY)
    os.chmod(path, 0o2755)
    return path


def capable_program():
    """One with capabilities of its own, as ping has in places: root gains nothing by them, others do."""
    need_runtime()
    folder = Folder()
    try:
        path = folder.copy('capable', 0o755)
        try:
            # Revision 2, effective: net_raw.
            os.setxattr(path, 'security.capability', struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0))
        except OSError as error:
            raise Skip('files get no capabilities here: %s' % error)
        expect_refusal(tool('run', path, as_user=NOBODY, cwd='/'), 126, 'capable: who runs it gains rights')
        expect(tool('run', '--quiet', path).status == 0, 'root is refused')
    finally:
        folder.remove()


def make_truncated(folder):
    path = folder.copy('truncated', 0o755)
    os.truncate(path, 40)
    return path


def make_orphan(folder):
    """A program whose loader's name is changed to one that is not there."""
    path = folder.copy('orphan', 0o755)
    with open(path, 'rb') as file:
        data = file.read()
    loader = b'/lib64/ld-linux-x86-64.so.2'
    if data.count(loader) != 1:
        raise Skip('programs have another loader here')
    with open(path, 'wb') as file:
        file.write(data.replace(loader, b'/lib64/ld-nowhere-x86-64'.ljust(len(loader), b'\0')))
    return path


PROGRAMS = [
    ('missing program, by path', lambda folder: folder.name('missing'), 127, 'missing'),
    ('missing program, by name', lambda folder: 'no-such-program-here', 127, 'no-such-program-here'),
    ('missing folder', lambda folder: folder.name('a/b'), 127, 'a/b'),
    ('not executable', lambda folder: folder.copy('plain', 0o644), 126, 'plain'),
    ('a folder', lambda folder: folder.path, 126, 'pagetide-cli-'),
    ('below a file', lambda folder: folder.copy('plain', 0o755) + '/x', 126, 'plain/x'),
    ('static program', make_static, 126, 'static'),
    ('setuid program', make_setuid, 126, 'setuid: who runs it gains rights'),
    ('setgid program', make_setgid, 126, 'setgid: who runs it gains rights'),
    ('script without its interpreter', lambda folder: make_script(folder, '#!/nowhere/sh\n'),
     127, 'script: /nowhere/sh, which runs it, is missing; install it'),
    ('script whose interpreter is below a file', lambda folder: make_script(folder, '#!/bin/sh/x -e\n'),
     127, 'script: /bin/sh/x, which runs it, is missing'),
    ('program without its loader', make_orphan, 127, 'orphan: /lib64/ld-nowhere-x86-64, which runs it'),
]
# What is no program format a shell gets, as execvp(3) and env do it; the status is theirs.
SHELL_PROGRAMS = [
    ('script without a first line', lambda folder: make_script(folder, 'exit 7\n')),
    ('rubbish', lambda folder: make_script(folder, '\0\1\2\3')),
    ('truncated program', make_truncated),
]


def as_env_case(make):
    def case():
        need_runtime()
        folder = Folder()
        try:
            name = make(folder)
            # In the folder: a shell may take bytes of a program for a redirection.
            wanted = subprocess.run(['env', name], capture_output=True, cwd=folder.path).returncode
            result = tool('run', name, cwd=folder.path)
            expect(result.status == wanted, 'env ends with %d' % wanted, result)
        finally:
            folder.remove()
    return case


def empty_program():
    expect_refusal(tool('run', ''), 127, 'empty')


def bytes_that_break_lines():
    expect_refusal(tool('run', '--ti\ner', 'x'), 2, 'unknown option --ti\\?er')


def no_permission():
    """An ordinary user gets the reason and the mend, not a half-started program."""
    if os.path.exists('/proc/sys/vm/unprivileged_userfaultfd'):
        with open('/proc/sys/vm/unprivileged_userfaultfd') as file:
            if file.read().strip() != '0':
                raise Skip('vm.unprivileged_userfaultfd is on')
    if os.access('/dev/userfaultfd', os.F_OK) and os.stat('/dev/userfaultfd').st_mode & 0o006:
        raise Skip('/dev/userfaultfd is open to everybody')
    need_runtime()
    expect_refusal(tool('run', '/bin/echo', 'ran', as_user=NOBODY, cwd='/'), 125,
                   'root|unprivileged_userfaultfd|/dev/userfaultfd|CAP_SYS_PTRACE')


def half_an_installation():
    """The program without the library that it puts into others is our own failure, not theirs."""
    need_runtime()
    folder = Folder()
    try:
        alone = folder.copy('pagetide', 0o755, PROGRAM)
        done = subprocess.run([alone, 'run', '/bin/echo', 'ran'], capture_output=True)
        expect_refusal(Result(done.returncode, done.stdout.decode(), done.stderr.decode()), 125,
                       'libpagetide-inject.so.*install')
    finally:
        folder.remove()


def stats_of_a_stranger():
    expect_refusal(tool('stats', str(os.getpid())), 125, '%d .*: give the number of that, not of its program' % os.getpid())


def stats_of_another_user():
    need_runtime()
    child = subprocess.Popen([PROGRAM, 'run', '/bin/sh', '-c', 'echo up; exec sleep 60'], stdout=subprocess.PIPE)
    try:
        expect(child.stdout.readline() == b'up\n', 'the program did not start')
        expect_refusal(tool('stats', str(child.pid), as_user=NOBODY, cwd='/'), 125,
                       '%d belongs to another user: ask as that user, or as root' % child.pid)
        expect(tool('stats', str(child.pid)).status == 0, 'nor is its own user answered')
    finally:
        child.terminate()
        child.wait()


def stats_of_one_that_is_stopped():
    """As after Ctrl-Z: it cannot answer, and nobody waits for it."""
    need_runtime()
    child = subprocess.Popen([PROGRAM, 'run', '/bin/sh', '-c', 'echo up; exec sleep 60'], stdout=subprocess.PIPE)
    try:
        expect(child.stdout.readline() == b'up\n', 'the program did not start')
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        expect_refusal(tool('stats', str(child.pid)), 125, '%d is stopped.*kill -CONT' % child.pid)
        os.kill(child.pid, signal.SIGCONT)
        expect(tool('stats', str(child.pid)).status == 0, 'it goes on, and does not answer')
    finally:
        os.kill(child.pid, signal.SIGCONT)
        child.terminate()
        child.wait()


def stats_of_a_missing_process():
    child = subprocess.Popen(['true'])
    child.wait()
    expect_refusal(tool('stats', str(child.pid), '--json'), 125, '%d' % child.pid)


def full_output(*words):
    def case():
        with open('/dev/full', 'w') as full:
            result = tool(*words, stdout=full, stderr=subprocess.PIPE)
        expect_refusal(result, 125, 'standard output|cannot be written')
    return case


if __name__ == '__main__':
    cases = [('usage: pagetide ' + ' '.join(words), usage_case(words, pattern))
             for words, pattern in USAGE]
    cases += [('run ' + ' '.join(words).replace('\n', '\\n')[:60], run_case(words, pattern))
              for words, pattern in USAGE_RUN]
    cases += [('budget too small: ' + ' '.join(words), run_case(words, 'at least|too small|need'))
              for words in TOO_SMALL]
    cases += [(name, program_case(make, status, pattern))
              for name, make, status, pattern in PROGRAMS]
    cases += [('as env: ' + name, as_env_case(make)) for name, make in SHELL_PROGRAMS]
    cases += [('program with capabilities', capable_program),
              ('empty program name', empty_program),
              ('line breaks in words', bytes_that_break_lines),
              ('no permission', no_permission),
              ('the library is missing', half_an_installation),
              ('stats of a process that is no server', stats_of_a_stranger),
              ('stats of another user', stats_of_another_user),
              ('stats of one that is stopped', stats_of_one_that_is_stopped),
              ('stats of a process that is gone', stats_of_a_missing_process),
              ('help to a full disk', full_output('help')),
              ('check --json to a full disk', full_output('check', '--json'))]
    main(cases)
