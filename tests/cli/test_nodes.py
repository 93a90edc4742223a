#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""topo, pages and migrate: what they say of this machine, and what they refuse. That pages really move
is tested in guests with several nodes (tests/vm)."""

import json
import mmap
import os
import re
import subprocess
import sys
import tempfile

from tool import Skip, expect, expect_refusal, main, tool

NOBODY = 65534
SIZE = 16 << 20
# Touches its memory, says so, and waits until its input ends.
SLEEPER = """
import mmap, sys
memory = mmap.mmap(-1, %d, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(memory), 4096):
    memory[at] = 1
print('ready', flush=True)
sys.stdin.read()
""" % SIZE


class Sleeper:
    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, '-c', SLEEPER], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        expect(self.process.stdout.readline() == b'ready\n', 'the sleeper did not start')
        return str(self.process.pid)

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def topo():
    result = tool('topo', '--json')
    expect(result.status == 0 and result.err == '', 'topo', result)
    return json.loads(result.out)


def nodes_of(text):
    """The numbers of a list "0-1,3"."""
    numbers = []
    for part in text.split(',') if text != 'none' else []:
        first, _, last = part.partition('-')
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def nodes_with_memory():
    return [node['node'] for node in topo()['nodes'] if node['speed']]


def need_numa():
    if not os.path.exists('/sys/devices/system/node'):
        raise Skip('a kernel without NUMA')


def topo_is_whole():
    document = topo()
    expect(document['schema'] == 'pagetide.topo/1', 'schema')
    nodes = document['nodes']
    expect(sum(node['cpus'] for node in nodes) >= len(os.sched_getaffinity(0)), 'CPUs')
    fast, slow = nodes_of(document['fast']), nodes_of(document['slow'])
    expect(sorted(fast + slow) == nodes_with_memory(), 'fast and slow are not all')
    expect(fast, 'no node is fast')
    # Not compared with /proc/meminfo: on some virtual machines the kernel's two counts differ.
    expect(all(node['total_bytes'] >= node['free_bytes'] for node in nodes), 'memory')
    expect(sum(node['free_bytes'] for node in nodes) > 0, 'no memory')
    for node in nodes:
        expect(node['why'], 'no reason')
        expect((node['speed'] == 'slow') == (node['node'] in slow), 'speed')
        expect(len(node['distances']) == len(nodes), 'distances')
        expect('measured_ns' not in node, 'measured without being asked')


def table_of_nodes():
    result = tool('topo')
    expect(result.status == 0 and result.err == '', 'topo', result)
    rows = [line for line in result.out.splitlines() if ' fast ' in line or ' slow ' in line]
    expect(len(rows) == len(nodes_with_memory()), 'rows', result)


def measuring():
    result = tool('topo', '--json', '--measure')
    expect(result.status == 0, 'measure', result)
    for node in json.loads(result.out)['nodes']:
        for value in node['measured_ns'].values():
            expect(value is None or 1 < value < 100000, 'a load in %s ns' % value)
    for value in re.findall(r'\d+\.\d+', re.sub('"version".*', '', result.out)):
        expect(re.fullmatch(r'\d+\.\d', value), 'digits that say nothing: ' + value, result)


def pages_are_counted():
    need_numa()
    with Sleeper() as pid:
        result = tool('pages', '-p', pid, '--json')
        table = tool('pages', '--pid=' + pid)
    expect(result.status == 0 and result.err == '', 'pages', result)
    document = json.loads(result.out)
    expect(document['schema'] == 'pagetide.pages/1' and document['pid'] == int(pid), 'head')
    anon = sum(node['kinds'].get('anon', 0) for node in document['nodes'])
    expect(SIZE <= anon <= SIZE + (64 << 20), 'anonymous: %d' % anon)
    expect(document['bytes'] == sum(node['bytes'] for node in document['nodes']), 'sum')
    for node in document['nodes']:
        expect(node['bytes'] == sum(node['kinds'].values()), 'kinds')
        expect(node['hot_bytes'] is None, 'hot, and nobody watched')
    expect(sum(node['threads'] for node in document['nodes']) == 1, 'threads')
    expect(table.status == 0 and 'anon' in table.out and 'unknown' in table.out, 'table', table)


def locked_pages_are_said():
    need_numa()
    code = SLEEPER.replace("print(", "import ctypes; address = ctypes.addressof(ctypes.c_char.from_buffer"
                           "(memory)); assert ctypes.CDLL(None).mlock(ctypes.c_void_p(address), "
                           "ctypes.c_size_t(%d)) == 0\nprint(" % mmap.PAGESIZE)
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        expect(process.stdout.readline() == b'ready\n', 'the sleeper did not start')
        result = tool('pages', '-p', str(process.pid), '--json')
        process.stdin.close()
    expect(json.loads(result.out)['refused_bytes'].get('locked') == mmap.PAGESIZE, 'locked', result)


def missing_process():
    need_numa()
    child = subprocess.Popen(['true'])
    child.wait()
    for words in (['pages', '-p', str(child.pid)], ['pages', '--json', '-p', str(child.pid)]):
        expect_refusal(tool(*words), 125, 'process %d: there is none' % child.pid)


def kernel_threads_have_none():
    need_numa()
    if not os.path.exists('/proc/2/stat') or '(kthreadd)' not in open('/proc/2/stat').read():
        raise Skip('no kernel threads to be seen')
    expect_refusal(tool('pages', '-p', '2'), 125, 'process 2: ')


def foreign_process():
    need_numa()
    with Sleeper() as pid:
        expect_refusal(tool('pages', '-p', pid, as_user=NOBODY, cwd='/'), 125,
                       'run as its user or as root')


def unknown_nodes():
    with Sleeper() as pid:
        absent = max(nodes_with_memory()) + 1
        here = str(nodes_with_memory()[0])
        for words, pattern in (
                (['--from', str(absent), '--to', here], '--from %d: node %d has no memory' % (
                    absent, absent)),
                (['--from', here, '--to', str(absent)], '--to %d: node %d has no memory here: the nodes '
                 'with memory are' % (absent, absent)),
                (['--from', 'x', '--to', here], 'not a list of nodes: write 0, 0-1,3, !2 or all'),
                (['--from', '', '--to', here], 'not a list of nodes'),
                (['--from', '0-', '--to', here], 'not a list of nodes'),
                (['--from', '9999', '--to', here], 'not a list of nodes'),
                (['--from', '!all', '--to', here], 'not a list of nodes'),
                (['--from', here, '--to', here], 'nothing to move between: name other nodes'),
                (['--from', 'all', '--to', 'all'], 'nothing to move between')):
            expect_refusal(tool('migrate', '-p', pid, *words), 2, pattern)


def processes_of_others():
    """/proc has the processes by other numbers than ours: none is taken for another."""
    apart = ['unshare', '--pid', '--fork', '--kill-child']
    if subprocess.run([*apart, 'true'], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Skip('no PID namespace can be made here')
    with tempfile.NamedTemporaryFile('w') as rules:
        rules.write('[rule nobody]\nexe = /no/such/program\n')
        rules.flush()
        for words in (['attach', '-p', '1'], ['daemon', '-c', rules.name], ['pages', '-p', '1'],
                      ['migrate', '-p', '1', '--from', '0', '--to', '0'], ['run', 'true']):
            expect_refusal(tool(*words, before=apart), 125, '/proc is not that of this PID namespace.*--mount-proc')


if __name__ == '__main__':
    main([(case.__name__.replace('_', ' '), case) for case in (
        topo_is_whole, table_of_nodes, measuring, pages_are_counted, locked_pages_are_said,
        missing_process, kernel_threads_have_none, foreign_process, unknown_nodes, processes_of_others)])
