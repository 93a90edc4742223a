#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is installed: which files, for whom, and that they work from there."""

import os
import shutil
import stat
import subprocess
import tempfile

import tool
from tool import Skip, expect, main

DOCS = ('CHANGES.md', 'LICENSE', 'README.md', 'attach-schema.md', 'control.md', 'metrics.md', 'pagetide.conf',
        'requirements.md', 'stats-schema.md')
FILES = {'bin/pagetide', 'pagetide/libpagetide-inject.so', 'share/man/man1/pagetide.1',
         'share/bash-completion/completions/pagetide', 'share/zsh/site-functions/_pagetide',
         'share/fish/vendor_completions.d/pagetide.fish', 'system/pagetide.service'}
FILES |= {'share/doc/pagetide/' + name for name in DOCS}
PROGRAMS = {'bin/pagetide', 'pagetide/libpagetide-inject.so'}


def installed(place):
    """Each file by the end of its name as in FILES, or by all of it."""
    done = subprocess.run(['meson', 'install', '-C', os.path.dirname(tool.PROGRAM), '--no-rebuild', '--quiet',
                           '--destdir', place], capture_output=True, text=True, timeout=300)
    expect(done.returncode == 0, 'meson install', done.stdout + done.stderr)
    found = {}
    for folder, _, names in os.walk(place):
        for name in names:
            path = os.path.join(folder, name)
            found[next((end for end in FILES if path.endswith('/' + end)), path)] = path
    return found


def files_and_modes():
    expect(set(found) == FILES, 'other files: %s' % sorted(set(found) ^ FILES))
    for name, path in found.items():
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        expect(mode in ((0o755, 0o644) if name.endswith('.so') else (0o755 if name in PROGRAMS else 0o644,)),
               '%s: mode %o' % (name, mode))


def it_runs_from_there():
    tool.PROGRAM = found['bin/pagetide']
    tool.need_runtime()
    result = tool.tool('run', '--quiet', 'true')
    expect(result.status == 0 and not result.err, 'installed it does not run', result)


def manual_page():
    if not shutil.which('man'):
        raise Skip('there is no man here: apt install man-db')
    done = subprocess.run(['man', '--warnings', '-l', found['share/man/man1/pagetide.1']], capture_output=True,
                          text=True, env=dict(os.environ, LC_ALL='C.UTF-8', MANWIDTH='80', MANPAGER='cat'))
    expect(done.returncode == 0 and done.stderr == '', 'man has something to say', done.stderr)
    expect('EXIT STATUS' in done.stdout and 'pagetide run' in done.stdout, 'no manual page', done.stdout[:500])


def bash_finds_its_completion():
    script = 'source "$1" && complete -p pagetide'
    done = subprocess.run(['bash', '-c', script, 'bash', found['share/bash-completion/completions/pagetide']],
                          capture_output=True, text=True)
    expect(done.returncode == 0 and '-F _pagetide' in done.stdout, 'not complete', done.stdout + done.stderr)


def unit_starts_what_is_installed():
    with open(found['system/pagetide.service'], encoding='utf-8') as file:
        starts = [line for line in file if line.startswith('ExecStart=')]
    program = found['bin/pagetide'][len(place):]
    expect(len(starts) == 1 and starts[0].startswith('ExecStart=%s daemon' % program), 'it starts %s' % starts)


if not shutil.which('meson'):
    print('1..0 # SKIP there is no meson here: apt install meson')
    raise SystemExit(77)
with tempfile.TemporaryDirectory() as place:
    found = installed(place)
    main([('files_and_modes', files_and_modes), ('it_runs_from_there', it_runs_from_there),
          ('manual_page', manual_page), ('bash_finds_its_completion', bash_finds_its_completion),
          ('unit_starts_what_is_installed', unit_starts_what_is_installed)])
