#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Completion: what bash offers after some words; for zsh and fish that the file can be read."""

import os
import re
import shutil
import subprocess

from tool import Skip, expect, main, tool

PLACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'completion')


def offers(*words):
    """What bash offers for the last of the words."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pagetide; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(['bash', '-c', script, 'bash', os.path.join(PLACE, 'pagetide.bash'),
                           'pagetide'] + list(words), capture_output=True, text=True)
    expect(done.returncode == 0 and done.stderr == '', done.stderr)
    return [line for line in done.stdout.split('\n') if line]


def verbs():
    expect(offers('') == ['run', 'attach', 'daemon', 'status', 'pause', 'resume', 'tune', 'check', 'topo',
                         'pages', 'migrate', 'stats', 'help', 'version', '--help', '--version'],
           offers(''))
    expect(offers('ch') == ['check'], offers('ch'))
    expect(offers('help', 'st') == ['status', 'stats'], 'help')
    expect(offers('tune', 'r') == ['rate='], offers('tune', 'r'))


def options_of_each_verb():
    """Those that help names, and help itself."""
    text = tool('help').out
    for verb in re.findall(r'^  pagetide (\w+)', text, re.M):
        said = re.findall(r'^  (?:-[a-z], )?(--[a-z-]+)', tool('help', verb).out, re.M)
        offered = offers(verb, '--')
        expect(verb in ('help', 'version') or sorted(offered) == sorted(said + ['--help']),
               '%s: %s' % (verb, offered))


def options():
    expect(offers('run', '--s') == ['--stats', '--summary'], offers('run', '--s'))
    expect(offers('run', '--hard', '--t') == ['--tier'], 'after a switch')
    expect(offers('stats', '--') == ['--json', '--help'], 'stats')
    expect(offers('migrate', '-p', '1', '--f') == ['--from'], 'migrate')
    expect(offers('pages', '--') == ['--pid', '--for', '--control', '--json', '--help'], 'pages')


def values():
    expect(offers('run', '--tier', 'd') == ['dram:'], offers('run', '--tier', 'd'))
    expect(str(os.getpid()) in offers('pages', '-p', ''), 'a process')
    expect('all' in offers('migrate', '--from', ''), 'nodes')
    expect(offers('run', '--memory', '') == [], 'a size cannot be guessed')
    expect('/etc/' in [name + '/' for name in offers('run', '--stats', '/et')], 'a file')


def the_programs_own_words():
    """From the program on options are not ours, even those of the same name."""
    expect(offers('run', '--tier', 'lz4', 'ls', '--t') == [], 'options of the program')
    expect('/etc' in offers('run', '--', 'ls', '/et'), 'files after --')
    expect('bash' in offers('run', 'bas'), 'a program')


def readable(shell, name):
    def case():
        if not shutil.which(shell):
            raise Skip('no ' + shell)
        done = subprocess.run([shell, '-n', os.path.join(PLACE, name)], capture_output=True,
                              text=True)
        expect(done.returncode == 0 and done.stderr == '', done.stderr)
    return case


if __name__ == '__main__':
    main([('bash: ' + case.__name__.replace('_', ' '), case)
          for case in (verbs, options_of_each_verb, options, values, the_programs_own_words)] +
         [('zsh can read it', readable('zsh', '_pagetide')),
          ('fish can read it', readable('fish', 'pagetide.fish'))])
