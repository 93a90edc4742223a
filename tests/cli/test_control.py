#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""status, pause, resume and tune where something is wrong; and attach with wrong sockets and metrics.
What they do when all is right is tested in guests (tests/vm)."""

import json
import os
import socket
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
        expect_refusal(tool('status', '--control', os.path.join(folder, 'file')), 125,
                       'no pagetide answers at')


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


def pages_ask_where_they_are_told():
    pid = os.getpid()
    known = {'schema': 'pagetide.status/1', 'report': {'spaces': [
        {'pid': pid, 'ended': True, 'sensor': 'old', 'nodes': {}},
        {'pid': pid, 'sensor': 'named', 'nodes': {'0': {'hot_bytes': 4096, 'warm_bytes': 0, 'cold_bytes': 8192}}}]}}
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
        expect(said['heat'] == 'named' and said['nodes'][0]['cold_bytes'] == 8192, said)


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
        for words, status, pattern in (
                (['--control', folder + '/file'], 2, 'something else than a socket'),
                (['--control', folder + '/living'], 125, 'another pagetide answers there: name another'),
                (['--control', folder + '/a/b/c'], 125, 'cannot be made'),
                (['--control', folder + '/' + 'x' * 108], 2, 'too long'),
                (['--metrics-file', folder + '/nowhere/x.prom'], 125, 'cannot be written: No such file'),
                (['--metrics-file', folder], 125, 'cannot be written'),
                (['--metrics-listen', '0.0.0.0:9464'], 2, 'others could reach it: listen at 127.0.0.1'),
                (['--metrics-listen', '[::]:9464'], 2, 'others could reach it'),
                (['--metrics-listen', ':9464'], 2, 'not an address: write 127.0.0.1:9464'),
                (['--metrics-listen', '9464'], 2, 'not an address'),
                (['--metrics-listen', '127.0.0.1:99999'], 2, 'not an address'),
                (['--metrics-listen', 'unix:'], 125, 'No such file'),
                (['--metrics-listen', 'unix:%s/living' % folder], 125, 'somebody else listens there'),
                (['--metrics-listen', '127.0.0.1:%d' % taken.getsockname()[1]], 125,
                 'somebody else listens there')):
            control = [] if words[0] == '--control' else ['--control', folder + '/control']
            expect_refusal(tool('attach', '-p', str(os.getpid()), *control, *words), status, pattern)
        expect(sorted(os.listdir(folder)) == ['file', 'living'], os.listdir(folder))
        with open(os.path.join(folder, 'file')) as file:
            expect(file.read() == 'kept', 'the file changed')


if __name__ == '__main__':
    main([(case.__name__.replace('_', ' '), case)
          for case in (nobody_there, wrong_words, strange_answers, pages_ask_where_they_are_told, wrong_places)])
