#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""status, pause, resume and tune where something is wrong; and attach with wrong sockets and metrics.
What they do when all is right is tested in guests (tests/vm)."""

import ctypes
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading

from tool import expect, expect_refusal, main, tool

VERBS = [['status'], ['pause'], ['resume'], ['tune', 'rate=1G']]


def nobody_there():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'control')
        for verb in VERBS:
            expect_refusal(tool(verb[0], '--control', path, *verb[1:]), 125,
                           'no pagetide answers at .*start pagetide attach .*--control PATH')
        # What a killed one leaves.
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        expect_refusal(tool('status', '--control', path), 125, 'no pagetide answers at')
        expect_refusal(tool('status', '--control', os.path.join(folder, 'x' * 108)), 2, 'too long')
        with open(os.path.join(folder, 'file'), 'w'):
            pass
        for name in ('file', 'file/control'):
            expect_refusal(tool('status', '--control', os.path.join(folder, name)), 125, 'no pagetide answers at')


def wrong_words():
    """Said without asking anybody."""
    for words, pattern in (
            (['tune'], 'which setting'),
            (['tune', 'rat=1G'], 'unknown key rat: did you mean rate'),
            (['tune', 'zzz=1'], 'unknown key zzz: there are rate, stall'),
            (['tune', 'rate=1G', 'stal=1ms'], 'did you mean stall'),
            (['tune', 'rate'], 'KEY=VALUE'),
            (['tune', 'stall=20'], 'stall: 20 is not a value for it: write stall=20ms'),
            (['tune', 'weight=5'], 'of which process'),
            (['tune', 'weight=1:11'], '0 .leave alone. to 10'),
            (['tune', 'rate=1G\nstatus'], 'blank'),
            (['pause', 'now'], 'pause takes nothing: leave out now'),
            (['status', 'x'], 'status takes nothing: leave out x'),
            (['status', '--jason'], 'did you mean --json'),
            (['tune', '--contrl', 'x'], 'did you mean --control'),
            (['statsu'], 'did you mean pagetide stat'),
            (['rezume'], 'did you mean pagetide resume')):
        expect_refusal(tool(*words), 2, pattern)


class Impostor:
    """Somebody else's socket, who says `answer` whatever is asked."""

    def __init__(self, path, answer):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        self.answer = answer
        self.asked = b''
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        peer, _ = self.socket.accept()
        with peer:
            while not self.asked.endswith(b'\n'):
                self.asked += peer.recv(4096)
            peer.sendall(self.answer)

    def close(self):
        self.thread.join()
        self.socket.close()


def strange_answers():
    for answer, status, pattern in (
            (b'', 125, 'only its owner and root'),
            (b'{"schema": "pagetide.sta', 125, 'not whole'),
            (b'HTTP/1.0 400 Bad Request\r\n\r\n', 125, 'not whole'),
            (b'{"schema": "pagetide.control/2", "error": "speak %d of me"}', 2, 'speak %d of me')):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'control')
            impostor = Impostor(path, answer)
            result = tool('tune', '--control', path, 'rate=1G', 'weight=1:3')
            impostor.close()
            expect(impostor.asked == b'pagetide.control/1 tune rate=1G weight=1:3\n', impostor.asked)
            expect_refusal(result, status, pattern)


# Listens where attach and run would, and never says a word.
SILENT = """
import os, signal, socket, sys
control, stats = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.bind(sys.argv[1])
stats.bind('\\0pagetide-%d-%s' % (os.getpid(), os.readlink('/proc/self/ns/pid')))
control.listen()
stats.listen()
print('up', flush=True)
signal.pause()
"""


def who_does_not_answer():
    """Nobody waits for one that is stopped, nor for long for one that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'control')
        with subprocess.Popen([sys.executable, '-c', SILENT, path], stdout=subprocess.PIPE) as silent:
            try:
                expect(silent.stdout.readline() == b'up\n', 'nobody listens')
                questions = [[verb[0], '--control', path, *verb[1:]] for verb in VERBS] + [['stats', str(silent.pid)]]
                for words in (questions[0], questions[-1]):
                    expect_refusal(tool(*words), 125, 'process %d does not answer: .*kill -KILL %d ' % (
                        silent.pid, silent.pid))
                silent.send_signal(signal.SIGSTOP)
                for words in questions:
                    expect_refusal(tool(*words), 125, 'process %d is stopped .*kill -CONT %d' % (
                        silent.pid, silent.pid))
            finally:
                silent.kill()


def all_that_moved_is_shown():
    """Also what no single process has, and of processes that are gone."""
    def space(promoted, **more):
        return {'promoted_bytes': promoted << 20, 'demoted_bytes': 0, 'touches': 1, **more}

    def nodes(fast, slow):
        return {'0': {'hot_bytes': fast << 20, 'warm_bytes': 0, 'cold_bytes': 0},
                '1': {'hot_bytes': 0, 'warm_bytes': 0, 'cold_bytes': slow << 20}}
    report = {'spaces': [space(1, pid=7, name='one', weight=5, nodes=nodes(1, 2))],
              'shared': [space(16, nodes=nodes(16, 4)), space(32, nodes=nodes(32, 1))],
              'shared_gone': space(8, number=1), 'gone': space(4, processes=3), 'sensor': {'name': 'hint'}}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'control')
        for left_out, wanted in (((), True), (('shared', 'shared_gone', 'gone'), False)):
            known = {'schema': 'pagetide.status/1',
                     'report': {name: value for name, value in report.items() if name not in left_out}}
            impostor = Impostor(path, json.dumps(known).encode())
            said = tool('status', '--control', path)
            impostor.close()
            os.remove(path)
            expect(said.status == 0 and 'process 7 (one), weight 5: promoted 1M, demoted 0' in said.out, said)
            for line in ('shared memory and files: promoted 56M, demoted 0\n'
                         '  node 0: hot 48M, warm 0, cold 0\n  node 1: hot 0, warm 0, cold 5M\n',
                         'processes that are gone (3): promoted 4M, demoted 0\n'):
                expect((line in said.out) == wanted, line, said)


def pages_ask_where_they_are_told():
    """What the process shares counts in full, and once, though it has two pieces of it; what others share does not."""
    pid = os.getpid()
    shared = mmap.mmap(-1, 3 << 20)
    shared[0] = shared[-1] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(shared))
    expect(not ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + (1 << 20)), 1 << 20, 0), 'mprotect')
    with open('/proc/self/maps') as maps:
        pieces = {tuple(line.split()[3:5]) for line in maps if line.startswith('%x-' % address)}
    (device, inode), = pieces

    def nodes(hot):
        return {'0': {'hot_bytes': hot, 'warm_bytes': 0, 'cold_bytes': 8192}}
    known = {'schema': 'pagetide.status/1', 'report': {'spaces': [
        {'pid': pid, 'ended': True, 'sensor': 'old', 'nodes': {}},
        {'pid': pid, 'sensor': 'named', 'nodes': nodes(4096)}], 'shared': [
            {'device': 'ff:ff', 'inode': 1, 'sensor': 'named', 'nodes': nodes(1 << 30)},
            {'device': device, 'inode': int(inode), 'sensor': 'named', 'nodes': nodes(65536)}]}}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'control')
        expect_refusal(tool('pages', '-p', str(pid), '--control', path), 125, 'no pagetide answers at')
        impostor = Impostor(path, json.dumps(known).encode())
        result = tool('pages', '-p', str(pid), '--control', path, '--json')
        impostor.close()
        expect(impostor.asked == b'pagetide.control/1 status\n', impostor.asked)
        if result.status:  # no NUMA in this kernel, or no right to look
            expect_refusal(result, 125, 'NUMA|allowed|right')
            return
        said = json.loads(result.out)
        expect(said['heat'] == 'named' and said['nodes'][0]['cold_bytes'] == 16384 and
               said['nodes'][0]['hot_bytes'] == 4096 + 65536, said)


def wrong_places():
    """attach says so before it begins."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as taken, \
            socket.socket(socket.AF_UNIX) as living:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        living.bind(os.path.join(folder, 'living'))
        living.listen()
        with open(os.path.join(folder, 'file'), 'w') as file:
            file.write('kept')
        with open(os.path.join(folder, 'conf'), 'w') as file:
            file.write('[rule nobody]\nexe = /no/such/program\n')
        os.mkfifo(folder + '/pipe')
        os.symlink('file', folder + '/link')
        for words, status, pattern in (
                (['--control', folder + '/file'], 2, 'something else than a socket'),
                (['--control', folder + '/living'], 125, 'another pagetide answers there: name another'),
                (['--control', folder], 2, 'something else than a socket: name another path'),
                (['--control', folder + '/a/b/c'], 2, 'cannot be made: No such file or directory: name another path'),
                (['--control', folder + '/file/c'], 2, 'cannot be made: Not a directory: name another path'),
                (['--control', folder + '/file/b/c'], 2, 'cannot be made: Not a directory'),
                (['--control', '/proc/self/c'], 2, 'cannot be made: .*: name another path'),
                (['--control', folder + '/a' * 3000], 2, 'too long'),
                (['--control', ''], 2, 'cannot be made: No such file'),
                (['--control', folder + '/' + 'x' * 108], 2, 'too long'),
                (['--metrics-file', folder + '/nowhere/x.prom'], 2, 'cannot be written: No such file'),
                (['--metrics-file', folder], 2, 'cannot be written: Is a directory: name another'),
                (['--metrics-file', folder + '/file/x'], 2, 'cannot be written: Not a directory: name another'),
                (['--metrics-file', '/proc/self/x'], 2, 'cannot be written: .*: name another'),
                (['--metrics-file', folder + '/' + 'x' * 300], 2, 'cannot be written: File name too long: name'),
                (['--metrics-file', ''], 2, 'cannot be written: No such file'),
                (['--metrics-file', folder + '/pipe'], 2, 'no plain file: name another'),
                (['--metrics-file', folder + '/link'], 2, 'no plain file: name another'),
                (['--metrics-listen', '0.0.0.0:9464'], 2, 'others could reach it: listen at 127.0.0.1'),
                (['--metrics-listen', '[::]:9464'], 2, 'others could reach it'),
                (['--metrics-listen', ':9464'], 2, 'not an address: write 127.0.0.1:9464'),
                (['--metrics-listen', '9464'], 2, 'not an address'),
                (['--metrics-listen', '127.0.0.1:99999'], 2, 'not an address'),
                (['--metrics-listen', 'unix:'], 2, 'No such file'),
                (['--metrics-listen', 'unix:%s/a/b/c' % folder], 2, 'No such file or directory: name another'),
                (['--metrics-listen', 'unix:%s/file/c' % folder], 2, 'Not a directory: name another'),
                (['--metrics-listen', 'unix:%s/file' % folder], 2, 'something else than a socket'),
                (['--metrics-listen', 'unix:%s/%s' % (folder, 'x' * 108)], 2, 'too long'),
                (['--metrics-listen', 'unix:%s/living' % folder], 125, 'somebody else listens there'),
                (['--metrics-listen', '127.0.0.1:%d' % taken.getsockname()[1]], 125,
                 'somebody else listens there')):
            control = [] if words[0] == '--control' else ['--control', folder + '/control']
            for verb in (['attach', '-p', str(os.getpid())], ['daemon', '-c', folder + '/conf']):
                expect_refusal(tool(*verb, *control, *words), status, pattern)
        expect(sorted(os.listdir(folder)) == ['conf', 'file', 'link', 'living', 'pipe'], os.listdir(folder))
        with open(os.path.join(folder, 'file')) as file:
            expect(file.read() == 'kept', 'the file changed')


if __name__ == '__main__':
    main([(case.__name__.replace('_', ' '), case)
          for case in (nobody_there, wrong_words, strange_answers, who_does_not_answer, all_that_moved_is_shown,
                       pages_ask_where_they_are_told, wrong_places)])
