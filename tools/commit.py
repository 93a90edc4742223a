# SPDX-License-Identifier: MIT
"""Which commit a result of a bench is of, and when it was measured."""

import datetime
import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def commit_name(force, root=ROOT):
    """The name of the commit that is measured. Where files differ from it none is: that is refused, or, with
    `force`, said in the name. Results do not count, for they are what is written."""
    def git(*words):
        return subprocess.run(["git", "-C", root, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=False).stdout.strip()
    name = git("rev-parse", "--short=12", "HEAD")
    if not git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results"):
        return name
    if not force:
        raise SystemExit(f"files are not as in commit {name}, which the result would name: commit them, or say "
                         "--force and have the result say so")
    return name + " and changes"


def result_head(force):
    """What a result of a bench says of its circumstances."""
    return {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "load_before": round(os.getloadavg()[0], 2), "commit": commit_name(force)}
