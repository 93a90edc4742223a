#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Who may use whom, and what else holds for all files: read from the sources and the archives.

The build gives each folder only its allowed include folders, but system headers come in all the
same, and so does any symbol of libc; this looks at both. Each rule prints one TAP line, and is first
tried on a small offence made for it, so that a rule that can no longer fail is noticed.

usage: scan.py SOURCE_ROOT LIBCORE LIBBASE [PROGRAM]
"""

import os
import re
import subprocess
import sys
import tempfile

BASE = {'base'}
MAY_INCLUDE = {
    'base': BASE,
    'core': {'core'} | BASE,
    'os': {'os'} | BASE,
    'run': {'run', 'core'} | BASE,
    'tier': {'tier', 'run', 'core', 'os'} | BASE,
    'sense': {'sense', 'run', 'core', 'os'} | BASE,
    'space': {'space', 'run', 'core', 'os'} | BASE,
    'inject': {'inject', 'os'} | BASE,
    'lib': {'lib', 'space', 'sense', 'tier', 'run', 'core', 'os', 'include'} | BASE,
    'cli': {'cli', 'include'} | BASE,
}
# Headers of the language, and the names of errors; everything else brings calls, clocks or the
# system along.
CORE_HEADERS = {'errno.h', 'limits.h', 'stdatomic.h', 'stdbool.h', 'stddef.h', 'stdint.h', 'string.h'}
CORE_SYMBOLS = re.compile(
    r'mem\w+|str\w+|assert_failed|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|__(tsan|asan|ubsan)_\w+'
    r'|__(u?div|u?mod)ti[34]|__popcountdi2|__gcov_\w+')
BASE_SYMBOLS = re.compile(CORE_SYMBOLS.pattern + r'|snprintf|fprintf|stderr|abort|__\w+_chk')

# Whose system calls are not in src/os: what goes into other people's programs makes them by itself, and the
# program decides for its own streams and its own end.
CALLERS = {'os', 'inject', 'cli'}
# What concerns only our own memory, descriptors, signals and share of the CPU.
OWN_CALLS = {'close', 'read', 'write', 'poll', 'epoll_create1', 'epoll_ctl', 'epoll_wait', 'signalfd', 'mmap',
             'munmap', 'madvise', 'getpid', 'gettid', 'getuid', 'getrandom', 'sched_yield', 'exit'}
# Calls that libc has under names of its own.
LIBC_CALLS = {'syscall', 'waitpid', 'opendir', 'fdopendir', 'usleep', 'sleep', 'execv', 'execvp', 'execl',
              'execlp', 'system', 'popen', 'mkstemp', 'shm_open', 'isatty'}

SOURCE_NAMES = ('.c', '.h')
# What is written aims at 100; a little more is no reason to break a line badly.
LINE_COLUMNS = 120
# Written in two parts, so that this file does not offend itself.
PRIVATE_PATHS = re.compile('|'.join('/' + name + r'(/|\b)' for name in ('home/' + r'\w+', 'ro' + 'ot/',
                                                                       'wo' + 'rk', 'Us' + 'ers/')))
TEXT_NAMES = ('.c', '.h', '.py', '.md', '.build', '.txt', '.1', '.sh', '.pml', '.bash', '.fish', '.json')

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def read(path):
    with open(path, errors='replace') as file:
        return file.read()


def sources(root):
    """(folder, path, text) of each C file of the product."""
    for folder in sorted(os.listdir(os.path.join(root, 'src'))):
        place = os.path.join(root, 'src', folder)
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
            if name.endswith(SOURCE_NAMES):
                yield folder, os.path.join('src', folder, name), read(os.path.join(place, name))


def header_owners(root):
    owners = {'pagetide.h': 'include'}
    for folder, path, _ in sources(root):
        if path.endswith('.h'):
            owners[os.path.basename(path)] = folder
    return owners


def include_offences(files, owners):
    for folder, path, text in files:
        allowed = MAY_INCLUDE.get(folder)
        if allowed is None:
            yield '%s: folder %s has no rule' % (path, folder)
            continue
        for mark, name in INCLUDE.findall(text):
            owner = owners.get(os.path.basename(name)) if mark == '"' else None
            if mark == '"' and owner is None:
                yield '%s: "%s" is nobody\'s header' % (path, name)
            elif owner is not None and owner not in allowed:
                yield '%s: %s may not use %s (%s)' % (path, folder, owner, name)


def system_header_offences(files):
    for folder, path, text in files:
        for mark, name in INCLUDE.findall(text) if folder == 'core' else []:
            if mark == '<' and name not in CORE_HEADERS:
                yield '%s: core may not include <%s>' % (path, name)


def symbols(archive):
    """(defined, undefined) names of an archive."""
    defined, undefined = set(), set()
    out = subprocess.run(['nm', archive], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] in ('U', 'w'):
            undefined.add(words[1])
        elif len(words) == 3:
            defined.add(words[2])
    return defined, undefined - defined


def symbol_offences(undefined, provided, allowed, who):
    for name in sorted(undefined - provided):
        if not allowed.fullmatch(name):
            yield '%s calls %s' % (who, name)


def system_calls():
    """Names of all that the headers here know."""
    command = ['gcc', '-E', '-dM', '-x', 'c', '-include', 'sys/syscall.h', os.devnull]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r'^#define SYS_(\w+)', macros, re.M)) | LIBC_CALLS


NOT_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)
CALL = re.compile(r'(?<![\w>.])(\w+)\s*\(')


def system_call_offences(files):
    """By name: a member of that name, as in ops->read(), is none."""
    others = system_calls() - OWN_CALLS
    for folder, path, text in files:
        if folder in CALLERS:
            continue
        text = NOT_CODE.sub(lambda found: re.sub(r'[^\n]', ' ', found.group()), text)
        for found in CALL.finditer(text):
            if found.group(1) in others:
                yield '%s:%d: %s() belongs into src/os' % (path, text.count('\n', 0, found.start()) + 1,
                                                           found.group(1))


def tracked(root):
    """Names of all files of the project: what git knows, or without git all but build folders."""
    try:
        out = subprocess.run(['git', '-C', root, 'ls-files', '-z'], capture_output=True, text=True)
        names = out.stdout.split('\0') if out.returncode == 0 else None
    except OSError:
        names = None
    if names is None:
        names = []
        for folder, inner, files in os.walk(root):
            inner[:] = [name for name in inner if not name.startswith('build') and
                        name not in ('.git', '__pycache__')]
            names += [os.path.relpath(os.path.join(folder, name), root) for name in files]
    return sorted(name for name in names if name and os.path.isfile(os.path.join(root, name)))


def path_offences(named_texts):
    for name, text in named_texts:
        for number, line in enumerate(text.splitlines(), 1):
            if PRIVATE_PATHS.search(line):
                yield '%s:%d: a path of one machine: %s' % (name, number, line.strip())


def form_offences(named_texts):
    for name, text in named_texts:
        lines = text.splitlines()
        if 'SPDX-License-Identifier: MIT' not in '\n'.join(lines[:2]):
            yield '%s: no SPDX line at its head' % name
        for number, line in enumerate(lines, 1):
            if len(line.expandtabs(8)) > LINE_COLUMNS:
                yield '%s:%d: longer than %d columns' % (name, number, LINE_COLUMNS)
            if line != line.rstrip():
                yield '%s:%d: blanks at its end' % (name, number)


def header_alone_offences(header_text):
    """The public header needs nothing before it, as C and as C++."""
    with tempfile.TemporaryDirectory() as folder:
        for compiler, standard, name in (('gcc', 'c11', 'a.c'), ('g++', 'c++11', 'a.cc')):
            path = os.path.join(folder, name)
            with open(os.path.join(folder, 'pagetide.h'), 'w') as file:
                file.write(header_text)
            with open(path, 'w') as file:
                file.write('#include "pagetide.h"\n')
            done = subprocess.run([compiler, '-std=' + standard, '-Wall', '-Wextra', '-Wpedantic',
                                   '-Werror', '-fsyntax-only', path], capture_output=True, text=True)
            if done.returncode:
                yield '%s -std=%s: %s' % (compiler, standard, done.stderr.strip().split('\n')[0])


LONG_OPTION = re.compile(r'(?<![\w-])--([a-z][a-z-]*)')
SHARED_OPTIONS = {'help', 'version'}


def verbs(program):
    """Those that do something: not help and version."""
    text = subprocess.run([program, 'help'], check=True, capture_output=True, text=True).stdout
    return [verb for verb in re.findall(r'^  pagetide (\w+)', text, re.M) if verb not in SHARED_OPTIONS]


def verb_options(program, verb):
    text = subprocess.run([program, 'help', verb], check=True, capture_output=True, text=True).stdout
    start = text.find('\noptions:\n')
    found = re.findall(r'^  (?:-[a-z], )?--([a-z-]+)', text[start:], re.M) if start >= 0 else []
    return set(found)


def man_sections(text):
    """Options named in the section of each verb: .SS headings."""
    text = text.replace('\\-', '-')
    parts = re.split(r'^\.SS (?:pagetide )?(\w+)$', text, flags=re.M)
    sections = {}
    for verb, body in zip(parts[1::2], parts[2::2]):
        body = re.split(r'^\.SH ', body, flags=re.M)[0]
        tags = re.findall(r'^\.TP\n\.(?:B|BI) +(--[a-z-]+)', body, re.M)
        sections[verb] = {tag[2:] for tag in tags}
    return sections


def zsh_options(text):
    """verb -> options: the branches of its case."""
    found = {}
    for names, body in re.findall(r'^\t([a-z][a-z |]*)\)(.*?);;', text, re.M | re.S):
        for verb in names.split(' | '):
            found[verb] = set(LONG_OPTION.findall(body)) - SHARED_OPTIONS
    return found


def fish_options(text):
    """verb -> options: a condition in each line, of several verbs in a loop."""
    text = re.sub(r'^for verb in ([a-z ]+)\n(.*?)^end', lambda loop: ''.join(
        loop.group(2).replace('$verb', verb) for verb in loop.group(1).split()), text, flags=re.M | re.S)
    found = {}
    for verb, words in re.findall(r'^\s*complete -c pagetide -n .__pagetide_verb (\w+).(.*)', text, re.M):
        found.setdefault(verb, set()).update(re.findall(r' -l ([a-z][a-z-]*)', words))
    return found


def example_offences(helps, text):
    """Commands of the README name verbs and options that there are."""
    for verb, words in re.findall(r'pagetide ([a-z]+)((?: [^`\n|#]*)?)[`\n|#]', text):
        options = set(LONG_OPTION.findall(re.split(r' -- ', words)[0]))
        if verb in helps and not options <= helps[verb]:
            yield 'README.md: pagetide %s has no %s' % (verb, ' '.join(sorted(options - helps[verb])))


def door_offences(helps, man, completions):
    """helps: verb -> options; man: text; completions: name -> text. All must name the same. What bash offers
    for each verb test_completion.py asks bash."""
    sections = man_sections(man)
    everything = set().union(*helps.values())
    for verb, options in helps.items():
        if sections.get(verb, set()) != options:
            yield 'man page, %s: %s differ from help' % (
                verb, ' '.join(sorted(sections.get(verb, set()) ^ options)) or 'section')
    for name, text in completions.items():
        if name.endswith('.fish'):
            found = set(re.findall(r'^complete .*? -l ([a-z][a-z-]*)', text, re.M))
        else:
            found = set(LONG_OPTION.findall(text))
        found -= SHARED_OPTIONS
        if found != everything:
            yield '%s: %s differ from help' % (name, ' '.join(sorted(found ^ everything)))
        for verb in helps:
            if not re.search(r'\b%s\b' % verb, text):
                yield '%s: verb %s is missing' % (name, verb)
        read_verbs = {'pagetide.fish': fish_options, '_pagetide': zsh_options}.get(name)
        by_verb = read_verbs(text) if read_verbs else helps
        for verb, options in helps.items():
            if by_verb.get(verb, set()) != options:
                yield '%s, %s: %s differ from help' % (
                    name, verb, ' '.join(sorted(by_verb.get(verb, set()) ^ options)))


NAMED_TEST = re.compile(r'`([a-zA-Z0-9_./-]+)`')


def shown_offences(table, tests):
    """table: docs/shown.md; tests: names and texts of all files below tests. What shows a promise exists."""
    known = ' '.join(name + ' ' + text for name, text in tests)
    words = set(re.findall(r'[a-zA-Z0-9_./-]+', known))
    words |= {part for word in words for part in word.split('/')}
    words |= {name[:-2] for name in words if name.endswith('.c')}
    rows = [line for line in table.splitlines() if line.startswith('|')]
    for row in rows:
        for name in NAMED_TEST.findall(row.split('|')[2]):
            if name not in words and name.rstrip('.') not in words:
                yield 'docs/shown.md: no test %s' % name


def rows_of(name):
    """The rows of the defect tables that are in the name of a test: {('4a', 8), ...}."""
    table, rows = None, set()
    for word in name.split('_'):
        if word in ('4a', '4b'):
            table = word
        elif table and word.isdigit():
            rows.add((table, int(word)))
        else:
            table = None
    return rows


def defect_offences(readme, tests):
    """readme: tests/unit/README.md. Each row that is held off has a test with its number in its name."""
    named = set().union(*(rows_of(name) for text in tests for name in re.findall(r'\bdefect_\w+', text)))
    for table, numbers in re.findall(r'^\| (4[ab]) ([\d, ]+) \|', readme.partition('Not here')[0], re.M):
        for number in numbers.split(','):
            if (table, int(number)) not in named:
                yield 'tests/unit/README.md: row %s %s has no test with its number' % (table, number.strip())


class Report:
    def __init__(self):
        self.number = 0
        self.bad = 0

    def rule(self, name, offences, trial):
        """One rule: nothing may offend, and the offence made for it must be seen."""
        offences = list(offences)
        if not list(trial):
            offences.append('the rule does not see an offence made for it')
        self.number += 1
        self.bad += bool(offences)
        print('%sok %d - %s' % ('not ' if offences else '', self.number, name))
        for offence in offences:
            print('#   ' + offence)


def scan_code(report, root, libcore, libbase):
    files = list(sources(root))
    owners = header_owners(root)
    report.rule('includes follow the layers', include_offences(files, owners),
                include_offences([('core', 'x.c', '#include "uffd.h"\n')], {'uffd.h': 'os'}))
    report.rule('core includes no system header', system_header_offences(files),
                system_header_offences([('core', 'x.c', '#include <unistd.h>\n')]))
    report.rule('system calls are in src/os', system_call_offences(files),
                system_call_offences([('space', 'x.c', 'int f(void) { return kill(1, 9); }\n')]))
    core, base = symbols(libcore), symbols(libbase)
    report.rule('core calls nothing', symbol_offences(core[1], base[0], CORE_SYMBOLS, 'core'),
                symbol_offences({'getpid'}, set(), CORE_SYMBOLS, 'core'))
    report.rule('base calls only text and assertions',
                symbol_offences(base[1], set(), BASE_SYMBOLS, 'base'),
                symbol_offences({'open'}, set(), BASE_SYMBOLS, 'base'))
    header = read(os.path.join(root, 'include', 'pagetide.h'))
    report.rule('the public header stands alone, as C11 and C++11', header_alone_offences(header),
                header_alone_offences('pid_t x;\n'))


def scan_files(report, root):
    names = tracked(root)
    texts = [(name, read(os.path.join(root, name))) for name in names
             if name.endswith(TEXT_NAMES) or '.' not in os.path.basename(name)]
    report.rule('no path of one machine in any file', path_offences(texts),
                path_offences([('x', 'see /ho' + 'me/jane/notes')]))
    report.rule('form of the sources: SPDX line, %d columns, no blanks at line ends' % LINE_COLUMNS,
                form_offences(pair for pair in texts if pair[0].endswith(SOURCE_NAMES)),
                form_offences([('x.c', '/* SPDX-License-Identifier: MIT */\n' + 'x' * (LINE_COLUMNS + 1))]))


def scan_shown(report, root):
    tests = [(name, read(os.path.join(root, name))) for name in tracked(root) if name.startswith('tests/')]
    report.rule('what docs/shown.md names is a test', shown_offences(read(os.path.join(root, 'docs/shown.md')),
                                                                     tests),
                shown_offences('| x | `no-such-test-anywhere` |\n', []))
    texts = [text for name, text in tests if name.endswith('.c')]
    report.rule('each defect held off has a test with its row in its name',
                defect_offences(read(os.path.join(root, 'tests/unit/README.md')), texts),
                defect_offences('| 4a 1, 99 | x | y |\n', texts))


def scan_door(report, root, program):
    helps = {verb: verb_options(program, verb) for verb in verbs(program)}
    man = read(os.path.join(root, 'man', 'pagetide.1'))
    place = os.path.join(root, 'completion')
    completions = {name: read(os.path.join(place, name)) for name in sorted(os.listdir(place))
                   if name != 'meson.build'}
    report.rule('help, man page and completion name the same options',
                door_offences(helps, man, completions),
                door_offences({'run': {'tier', 'new'}}, man, completions))
    report.rule('commands in the README have the options that they name',
                example_offences(helps, read(os.path.join(root, 'README.md'))),
                example_offences({'run': {'tier'}}, '`pagetide run --teir 1`'))


def main():
    root, libcore, libbase = sys.argv[1:4]
    report = Report()
    scan_code(report, root, libcore, libbase)
    scan_files(report, root)
    scan_shown(report, root)
    if len(sys.argv) > 4:
        scan_door(report, root, sys.argv[4])
    print('1..%d' % report.number)
    return 1 if report.bad else 0


if __name__ == '__main__':
    sys.exit(main())
