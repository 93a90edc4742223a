#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Configuration files of the daemon: what is printed of good ones, and the one line about bad ones."""

import json
import os
import tempfile

from tool import expect, expect_refusal, main, tool

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'docs', 'pagetide.conf')


class Files:
    """A configuration and its drop-ins in a folder of their own."""

    def __init__(self, text, **drop_ins):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, 'x.conf')
        self.write(self.path, text)
        for name, drop_in in drop_ins.items():
            os.makedirs(self.path + '.d', exist_ok=True)
            self.write(os.path.join(self.path + '.d', name + '.conf'), drop_in)

    @staticmethod
    def write(path, text):
        with open(path, 'w') as file:
            file.write(text)

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        self.folder.cleanup()


def printed(path):
    result = tool('daemon', '-c', path, '--print-config')
    expect(result.status == 0 and result.err == '', 'refused', result)
    return result.out


def what_is_printed_says_the_same():
    with Files('[rule a]\nunit = web\n', one='[rule a]\nweight = 7\n', two='[tiers]\nslow = 1\n') as path:
        text = printed(path)
    expect(text == '[tiers]\nslow = 1\n\n[rule a]\nunit = web\nweight = 7\n', text)
    with Files(text) as path:
        expect(printed(path) == text, 'not the same again')


def as_json():
    with Files('[rule a]\nunit = web\nexe = \\.x$\nfast_max = 33.3%\nfast_min = 1G\n', two='[tiers]\nslow = 1\n') as path:
        result = tool('daemon', '-c', path, '--print-config', '--json')
    expect(result.status == 0 and result.err == '', 'refused', result)
    said = json.loads(result.out)
    expect(said.pop('version') and said == {
        'schema': 'pagetide.config/1', 'tiers': {'fast': None, 'slow': '1'},
        'rules': [{'name': 'a', 'cgroup': [], 'unit': ['web'], 'exe': ['\\.x$'], 'exclude_cgroup': [],
                   'exclude_unit': [], 'exclude_exe': [], 'rss_min_bytes': 0, 'weight': 5,
                   'fast_min_bytes': 1 << 30, 'fast_max_percent': 33.3}]}, said)
    expect('"fast_max_percent": 33.3\n' in result.out, 'digits that say nothing', result)


def indented_lines_are_lines():
    with Files('[rule db]\n  exe = /redis$\n  weight = 0\n\tfast_max = 1G\n') as path:
        expect(printed(path) == '[rule db]\nexe = /redis$\nweight = 0\nfast_max = 1073741824\n', printed(path))


def the_example_is_good():
    text = printed(EXAMPLE)
    for word in ('[rule batch]', 'weight = 0', 'fast_min = 2147483648', 'fast_max = 40.00%', 'unit = redis-server'):
        expect(word in text, 'the example lacks %s:\n%s' % (word, text))


def bad_files_are_refused():
    for text, pattern in (
            ('', 'x.conf: there is no \\[rule NAME\\], so nobody to look after'),
            ('[rule a]\nexe = x\nfast_mx = 1G\n', 'x.conf:3: unknown key fast_mx: did you mean fast_max\\?'),
            ('[rule a]\nexe = x\nweight = heavy\n', 'x.conf:3: weight = heavy: write 0 \\(leave alone\\) to 10'),
            ('[rule a]\nexe = x\nfast_max = much\n', 'x.conf:3: fast_max = much: not a size'),
            ('[rule a]\nexe = x\nfast_min = 9000000T\n', 'x.conf:3: fast_min = 9000000T: more than any machine'),
            ('[rule a]\nexe = x\nrss_min = 9000000T\n', 'x.conf:3: rss_min = 9000000T: more than any machine'),
            ('[rule a]\n  exe = x\n\tcolour = blue\n', 'x.conf:3: unknown key colour'),
            ('[rule a]\nexe = x\n\nrubbish\n', 'x.conf:4: neither'),
            ('[rul a]\nexe = x\n', 'x.conf:1: unknown section \\[rul a\\]: did you mean \\[rule NAME\\]\\?'),
            ('[tiers]\nfast=0\n[rule a]\nweight = 1\n', 'rule a selects nothing'),
            ('[rule a]\nexe = x\nfast_max = 1G\nfast_min = 2G\n', 'rule a: fast_min is more than fast_max')):
        with Files(text) as path:
            for words in (['--print-config'], []):
                expect_refusal(tool('daemon', '-c', path, *words), 2, pattern)


def bad_drop_ins_are_named():
    with Files('[rule a]\nexe = x\n', bad='[rule a]\n\nexe = (\n') as path:
        expect_refusal(tool('daemon', '-c', path), 2, 'x.conf.d/bad.conf:3: \\(: not an extended')


def what_may_never_end_is_not_read():
    """A pipe or a device instead of a file; a daemon that reads its files again would answer nobody any more."""
    with Files('[rule a]\nexe = x\n', pipe='') as path:
        drop_in = path + '.d/pipe.conf'
        os.remove(drop_in)
        os.mkfifo(drop_in)
        for words in (['--print-config'], []):
            expect_refusal(tool('daemon', '-c', path, *words), 2, 'pipe.conf: it is no plain file: name another')
        expect_refusal(tool('daemon', '-c', '/dev/zero'), 2, '/dev/zero: it is no plain file')
        expect_refusal(tool('daemon', '-c', path + '.d'), 2, 'x.conf.d: it is no plain file')
        expect_refusal(tool('attach', '--exe', 'x', '--tiers', drop_in), 2, 'it is no plain file')


def tiers_of_attach():
    with Files('[tiers]\nfast = 9\nfsat = 1\n') as path:
        expect_refusal(tool('attach', '--exe', 'x', '--tiers', path), 2, 'x.conf:3: unknown key fsat of .tiers.: did you mean fast\\?')
    with Files('[tiers]\nfast = 999\n') as path:
        expect_refusal(tool('attach', '--exe', 'x', '--tiers', path), 2, 'fast 999: node 999 has no memory here')


if __name__ == '__main__':
    main([(case.__name__.replace('_', ' '), case) for case in (
        what_is_printed_says_the_same, as_json, indented_lines_are_lines, the_example_is_good, bad_files_are_refused,
        bad_drop_ins_are_named, what_may_never_end_is_not_read, tiers_of_attach)])
