#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Results of benches name the commit that was measured, and nothing is measured that is none."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

from commit import commit_name  # noqa: E402 (its folder is known only now)


def write(root, name, text):
    os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
    with open(os.path.join(root, name), "w", encoding="ascii") as file:
        file.write(text)


def refused(root):
    try:
        commit_name(False, root)
    except SystemExit as reason:
        return "commit them, or say --force" in str(reason)
    return False


def main():
    if not shutil.which("git"):
        print("no git here")
        return 77
    with tempfile.TemporaryDirectory() as root:
        def git(*words):
            subprocess.run(["git", "-C", root, "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True,
                           stdout=subprocess.DEVNULL)
        write(root, "src/a.c", "one\n")
        write(root, "bench/results/a.json", "one\n")
        git("init", "-q")
        git("add", ".")
        git("commit", "-m", "one")
        name = commit_name(False, root)
        assert re.fullmatch("[0-9a-f]{12}", name), name
        write(root, "bench/results/a.json", "two\n")
        write(root, "new", "not known to git\n")
        assert commit_name(False, root) == name, "a new result is no change"
        write(root, "src/a.c", "two\n")
        assert refused(root), "measured what is no commit"
        assert commit_name(True, root) == name + " and changes", commit_name(True, root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
