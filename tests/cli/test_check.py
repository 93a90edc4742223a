#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pagetide check tells the truth: on this machine as it is, and where something is taken away."""

import ctypes
import json
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys

from tool import PROGRAM, Skip, expect, expect_refusal, main, need_runtime, tool

NOBODY = 65534
NEEDED = {'kernel', 'userfaultfd', 'fork-events', 'map-events', 'uffdio-missing', 'uffdio-move',
          'pagemap-scan', 'read-child', 'pidfd'}
OPTIONAL = {'thread-id', 'sigbus', 'idle-class', 'memory-limit', 'huge-pages', 'overcommit',
            'process-limits', 'sensor-hint', 'sensor-idle', 'sensor-perf', 'sensor-damon', 'sensor-soft-dirty'}
EPERM, EINVAL, ENOSYS = 1, 22, 38

# System call numbers of x86-64; the ioctl numbers are the same everywhere.
CALLS = {'ioctl': 16, 'userfaultfd': 323, 'process_vm_readv': 310, 'pidfd_open': 434,
         'sched_setscheduler': 144, 'openat': 257}
UFFDIO_MOVE = 0xC028AA05
UFFDIO_API = 0xC018AA3F
PAGEMAP_SCAN = 0xC0606610
USERFAULTFD_IOC_NEW = 0xAA00


def read_check(**more):
    result = tool('check', '--json', **more)
    expect(result.status in (0, 1), 'status', result)
    expect(result.err == '', 'a word on stderr', result)
    document = json.loads(result.out)
    expect(document['able'] == (result.status == 0), 'status and "able" differ', result)
    return document, {feature['name']: feature for feature in document['features']}


def forbid(*rules):
    """For preexec_fn: a seccomp filter. rules: (call, errno) or (call, ioctl request, errno)."""
    def jump(code, value, yes, no):
        return struct.pack('HBBI', code, yes, no, value)

    program = b''
    for rule in rules:
        call, error = CALLS[rule[0]], rule[-1]
        body = struct.pack('HBBI', 0x06, 0, 0, 0x00050000 | error)
        if len(rule) == 3:
            body = (struct.pack('HBBI', 0x20, 0, 0, 24) + jump(0x15, rule[1], 0, 1) + body)
        program += struct.pack('HBBI', 0x20, 0, 0, 0) + jump(0x15, call, 0, len(body) // 8) + body
    program += struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)

    def install():
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(program)
        filters = struct.pack('HxxxxxxP', len(program) // 8, ctypes.addressof(buffer))
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(filters), 0, 0):
            os._exit(99)

    if platform.machine() != 'x86_64':
        raise Skip('the filter is written for x86-64')
    return install


def document_is_whole():
    document, features = read_check()
    expect(document['schema'] == 'pagetide.check/1', 'schema')
    expect(set(features) == NEEDED | OPTIONAL, 'features: %s' % sorted(set(features) ^
                                                                      (NEEDED | OPTIONAL)))
    for name, feature in features.items():
        expect(set(feature) == {'name', 'needed', 'present', 'reason', 'mend'}, name)
        expect(feature['needed'] == (name in NEEDED), name + ': needed')
        expect(feature['present'] or (feature['reason'] and feature['mend']),
               name + ' is absent without a reason or a mend')
        expect(not feature['present'] or not feature['mend'], name + ' is there, what to mend?')
    expect(document['able'] == all(f['present'] for f in features.values() if f['needed']), 'able')


def table_says_the_same():
    document, features = read_check()
    result = tool('check')
    expect(result.status == (0 if document['able'] else 1), 'status', result)
    rows = {line.split()[0]: line.split() for line in result.out.splitlines()
            if line.split() and line.split()[0] in features}
    expect(set(rows) == set(features), 'rows', result)
    for name, row in rows.items():
        expect(row[1] == ('needed' if features[name]['needed'] else 'optional'), name, result)
        expect(row[2] == ('yes' if features[name]['present'] else 'NO'), name, result)


def without(name, pattern, *rules, others=()):
    """With a call taken away, this feature is absent, says why, and the verdict follows."""
    def case():
        _, before = read_check()
        if not before[name]['present']:
            raise Skip(name + ' is absent here anyway')
        document, after = read_check(preexec_fn=forbid(*rules))
        feature = after[name]
        expect(not feature['present'], name + ' is said to be there')
        expect(pattern in feature['reason'], '%s: %s' % (name, feature['reason']))
        expect(feature['mend'], name + ': no mend')
        expect(document['able'] == (not any(f['needed'] and not f['present']
                                            for f in after.values())), 'able')
        if feature['needed']:
            expect(not document['able'], 'able without ' + name)
        for other in NEEDED - {name} - set(others):
            expect(after[other]['present'] == before[other]['present'], other + ' went as well')
    return case


ALL_UFFD = {'fork-events', 'map-events', 'uffdio-missing', 'uffdio-move'}


def the_device_alone():
    if not os.access('/dev/userfaultfd', os.R_OK | os.W_OK):
        raise Skip('no /dev/userfaultfd that we may open')
    _, features = read_check(preexec_fn=forbid(('userfaultfd', EPERM)))
    expect(features['userfaultfd']['present'], 'not found: %s' % features['userfaultfd'])


def the_call_alone():
    if os.getuid() != 0:
        raise Skip('only root surely has the right')
    _, features = read_check(preexec_fn=forbid(('ioctl', USERFAULTFD_IOC_NEW, EPERM)))
    expect(features['userfaultfd']['present'], 'not found: %s' % features['userfaultfd'])


def ordinary_user():
    """Reasons that name the right or the sysctl; or it works, where the machine allows it."""
    _, features = read_check(as_user=NOBODY, cwd='/')
    feature = features['userfaultfd']
    if feature['present']:
        raise Skip('userfaultfd is open to everybody here')
    expect('denied' in feature['reason'] or 'permitted' in feature['reason'], feature['reason'])
    expect('vm.unprivileged_userfaultfd' in feature['mend'] or 'root' in feature['mend'],
           feature['mend'])


def few_files():
    """What fails for want of descriptors needs no other kernel; a soft limit is lifted, as run lifts it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    _, before = read_check()
    # Standard streams and one more: the least with which the program itself is loaded.
    _, few = read_check(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4)))
    gone = [few[name] for name in NEEDED if before[name]['present'] and not few[name]['present']]
    expect(gone, 'four descriptors are enough for all')
    for feature in gone:
        expect('Too many open files' in feature['reason'] and feature['mend'] == 'ulimit -Hn 1024', feature)
    if hard < 256:
        raise Skip('the hard limit is %d here' % hard)
    _, lifted = read_check(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4, hard)))
    expect(lifted == before, 'with a soft limit: %s' % lifted)


def run_refuses(pattern, *rules):
    """What check calls impossible, run refuses before it starts anything."""
    def case():
        need_runtime()
        expect_refusal(tool('run', '/bin/echo', 'ran', preexec_fn=forbid(*rules)), 125, pattern)
    return case


def old_kernel():
    """For preexec_fn: the kernel says that it is 2.6, as it does to programs that could not bear a 3."""
    libc = ctypes.CDLL(None)
    if libc.personality(libc.personality(0xffffffff) | 0x20000) < 0:
        os._exit(99)


def kernel_too_old():
    """What to install is said by check, by run in its one line, and by the demo before it starts anything."""
    mend = 'apt install -t bookworm-backports linux-image-amd64'
    document, features = read_check(preexec_fn=old_kernel)
    kernel = features['kernel']
    expect(not document['able'] and not kernel['present'], 'able on Linux 2.6')
    expect(kernel['reason'].startswith('this is Linux 2.6, 6.8 or later is needed'), kernel['reason'])
    expect(mend in kernel['mend'], kernel['mend'])
    expect_refusal(tool('run', '/bin/echo', 'ran', preexec_fn=old_kernel), 125, 'Linux 2.6, 6.8 .*; .*' + mend)
    if not shutil.which('redis-server'):
        raise Skip('no redis-server for the demo')
    demo = os.path.join(os.path.dirname(__file__), '../../tools/demo')
    done = subprocess.run([sys.executable, demo, '--mib', '16', PROGRAM], preexec_fn=old_kernel,
                          capture_output=True, text=True, timeout=300)
    expect(done.returncode == 1 and mend in done.stdout and done.stderr == '', 'the demo', done)
    expect('redis-server with' not in done.stdout, 'the demo began', done)


def harmless():
    """Checking leaves no process behind, and can be done again and again."""
    before = sorted(os.listdir('/proc/self/fd'))
    for _ in range(5):
        read_check()
    expect(sorted(os.listdir('/proc/self/fd')) == before, 'descriptors')
    children = open('/proc/thread-self/children').read() if os.path.exists(
        '/proc/thread-self/children') else ''
    expect(children.strip() == '', 'children left: ' + children)


if __name__ == '__main__':
    main([
        ('the JSON document is whole', document_is_whole),
        ('the table says the same', table_says_the_same),
        ('without UFFDIO_MOVE', without('uffdio-move', 'UFFDIO_MOVE',
                                        ('ioctl', UFFDIO_MOVE, EINVAL))),
        ('without userfaultfd', without('userfaultfd', 'built without',
                                        ('ioctl', USERFAULTFD_IOC_NEW, EINVAL),
                                        ('userfaultfd', ENOSYS), others=ALL_UFFD)),
        ('userfaultfd forbidden', without('userfaultfd', 'not permitted',
                                          ('ioctl', USERFAULTFD_IOC_NEW, EPERM),
                                          ('userfaultfd', EPERM), others=ALL_UFFD)),
        ('without PAGEMAP_SCAN', without('pagemap-scan', 'PAGEMAP_SCAN',
                                         ('ioctl', PAGEMAP_SCAN, 25))),
        ('without process_vm_readv', without('read-child', 'process_vm_readv',
                                             ('process_vm_readv', EPERM))),
        ('without pidfd_open', without('pidfd', 'pidfd_open', ('pidfd_open', ENOSYS))),
        ('without SCHED_IDLE', without('idle-class', 'SCHED_IDLE', ('sched_setscheduler', EPERM))),
        ('the device alone is enough', the_device_alone),
        ('the system call alone is enough', the_call_alone),
        ('an ordinary user', ordinary_user),
        ('few files', few_files),
        ('run refuses without userfaultfd', run_refuses(
            'userfaultfd', ('ioctl', USERFAULTFD_IOC_NEW, EPERM), ('userfaultfd', EPERM))),
        ('run refuses without UFFDIO_MOVE', run_refuses(
            'UFFDIO_MOVE|6\\.8', ('ioctl', UFFDIO_MOVE, EINVAL))),
        ('the kernel is too old', kernel_too_old),
        ('checking is harmless', harmless),
    ])
