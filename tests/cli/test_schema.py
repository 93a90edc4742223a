#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The statistics are what docs/stats-schema.md says: every member, its type, and the sums."""

import json
import os
import re
import sys
import tempfile

from tool import expect, main, need_runtime, tool

DOCUMENT = sys.argv[2]

# Touches 96 MiB again and again, until it has been found three times that no more than so many of it are resident: then
# pages have gone and come back.
BUSY = """
import mmap, sys
turn = nr_small = 0
memory = mmap.mmap(-1, 96 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while nr_small < 3:
    for page in range(0, len(memory), 4096):
        if turn == 0:
            memory[page:page + 64] = b'%063d ' % page
        assert memory[page:page + 64] == b'%063d ' % page
    turn += 1
    with open('/proc/self/statm') as statm:
        nr_small += int(statm.read().split()[1]) * 4096 < int(sys.argv[1]) << 20
"""


def documented():
    """member -> type, from the table."""
    with open(DOCUMENT) as file:
        rows = re.findall(r'^\| `([^`]+)` \| ([^|]+?) \|', file.read(), re.M)
    return dict(rows)


def members(value, path=''):
    """(member, value) of all that is in the document."""
    for name, inner in value.items():
        here = path + name
        yield here, inner
        if isinstance(inner, dict):
            yield from members(inner, here + '.')
        elif isinstance(inner, list):
            for item in inner:
                yield from members(item, here + '[].')


def is_of_type(value, kind):
    if kind == 'text':
        return isinstance(value, str) and value != ''
    if kind == 'array':
        return isinstance(value, list) and value != []
    if kind == 'object':
        return isinstance(value, dict)
    if kind == 'fraction':
        return isinstance(value, float) and value >= 0
    if kind == 'number or null':
        return value is None or is_of_type(value, 'number')
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def run_busy(resident_mib, *options):
    need_runtime()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'stats.json')
        result = tool('run', *options, '--stats', path, sys.executable, '-c', BUSY, str(resident_mib))
        expect(result.status == 0, 'the program failed', result)
        with open(path) as file:
            return json.load(file)


def check_document(stats):
    kinds = documented()
    found = dict(members(stats))
    implied = {name.rpartition('.')[0] for name in kinds if '.' in name}
    missing = [name for name in kinds if name not in found]
    unknown = [name for name in found if name not in kinds and name not in implied]
    expect(not missing, 'documented, but not there: %s' % missing)
    expect(not unknown, 'there, but not documented: %s' % unknown)
    for name, value in members(stats):
        if name in kinds:
            expect(is_of_type(value, kinds[name].split(',')[0]), '%s is %r' % (name, value))


def check_sums(stats):
    moves = stats['moves']
    expect(moves['requested'] == moves['moved'] + sum(moves['failed'].values()) +
           sum(moves['dropped'].values()) + moves['pending'], 'moves: %s' % moves)
    expect(moves['moved'] == moves['held'] + moves['stored'] + moves['demoted'], 'moved: %s' % moves)
    expect(stats['demoted_pages'] == moves['stored'], '%d demoted, %s' % (stats['demoted_pages'], moves))
    faults = stats['faults']
    expect(faults['p50_ns'] <= faults['p99_ns'], 'faults: %s' % faults)
    expect(stats['read_ahead']['used'] <= stats['read_ahead']['issued'], 'read ahead')
    expect(stats['unwritten_demotions'] <= stats['demoted_pages'], 'unwritten')
    for tier in stats['tiers']:
        expect(tier['used_bytes'] <= tier['peak_bytes'], 'tier: %s' % tier)


def with_a_dram_bound():
    stats = run_busy(64, '--tier', 'dram:32M', '--tier', 'lz4,verify')
    check_document(stats)
    check_sums(stats)
    expect(stats['schema'] == 'pagetide.stats/1', 'schema')
    expect(stats['tiers'][0]['kind'] == 'dram', 'the first tier')
    expect(stats['tiers'][0]['capacity_bytes'] == 32 << 20, 'capacity %s' % stats['tiers'][0])
    expect(stats['demoted_pages'] > 0 and stats['promoted_pages'] > 0 and
           stats['faults']['count'] > 0, 'nothing moved: %s' % stats)
    # After its first turn the program only reads, and in order: slots are kept until a page proves changed.
    expect(stats['unwritten_demotions'] > 0, 'no slot was of use again: %s' % stats)
    expect(stats['read_ahead']['used'] > 0, 'nothing was read ahead: %s' % stats)


def with_a_bound_on_all():
    stats = run_busy(64, '--memory', '48M')
    check_document(stats)
    check_sums(stats)


def with_memory_to_spare():
    stats = run_busy(1024, '--tier', 'dram:1G')
    check_document(stats)
    check_sums(stats)
    expect(stats['faults']['count'] == 0, 'faults although all fits')
    expect(stats['managed_bytes'] == 0, 'managed although all fits')


if __name__ == '__main__':
    main([(case.__name__.replace('_', ' '), case) for case in
          (with_a_dram_bound, with_a_bound_on_all, with_memory_to_spare)])
