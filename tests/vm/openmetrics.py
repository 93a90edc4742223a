# SPDX-License-Identifier: MIT
"""A strict reader of OpenMetrics text 1.0, as far as pagetide uses it: whatever the format forbids is
an error, and so is what the older text format of Prometheus does not know.

promtool(text) asks the checker of Prometheus as well. read(text) gives {family: Family}; Malformed says the line and what is wrong with it.
"""
import re
import shutil
import subprocess

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?\Z")
WHOLE = re.compile(r"[0-9]+\Z")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
UNITS = ("bytes", "seconds", "pages")


class Malformed(Exception):
    pass


class Family:
    def __init__(self, name):
        self.name = name
        self.kind = self.unit = self.help = None
        self.samples = []  # (suffix, {label: value}, number as text)

    def value(self, **labels):
        """The only sample with exactly these labels, whatever others it has."""
        found = [float(number) for _, has, number in self.samples
                 if labels.items() <= has.items()]
        if len(found) != 1:
            raise Malformed(f"{self.name} {labels}: {len(found)} samples")
        return found[0]

    def total(self, **labels):
        return sum(float(number) for _, has, number in self.samples
                   if labels.items() <= has.items())


def labels_of(text):
    """{label: value} of what stands between braces."""
    labels, at = {}, 0
    while at < len(text):
        found = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"').match(text, at)
        if not found:
            raise Malformed(f"labels: {text[at:]!r}")
        name, value = found.groups()
        if name in labels or name.startswith("__"):
            raise Malformed(f"label {name}")
        labels[name] = re.sub(r'\\(.)', lambda one: "\n" if one[1] == "n" else one[1], value)
        at = found.end()
        if at < len(text):
            if text[at] != "," or at + 1 == len(text):
                raise Malformed(f"after a label: {text[at:]!r}")
            at += 1
    return labels


def sample_of(line):
    found = re.match(r'([a-zA-Z_][a-zA-Z0-9_]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)\Z', line)
    if not found:
        raise Malformed("no sample")
    name, labels, number = found.groups()
    if labels == "":
        raise Malformed("empty braces")
    if not NUMBER.match(number):
        raise Malformed(f"number {number}")
    return name, labels_of(labels or ""), number


def meta(families, family, line):
    """A line that begins with #: it begins a family, or says more of the one under way."""
    words = line.split(" ", 3)
    if len(words) < 4 or words[0] != "#" or words[1] not in ("TYPE", "UNIT", "HELP"):
        raise Malformed("no comment of the format")
    _, what, name, value = words
    if what == "TYPE":
        if not NAME.match(name) or name in families:
            raise Malformed(f"family {name}: twice, or no name")
        if value not in SUFFIXES:
            raise Malformed(f"type {value}")
        if name.endswith(("_total", "_bucket", "_count", "_sum", "_created")):
            raise Malformed(f"family {name} ends as a sample does")
        family = families[name] = Family(name)
        family.kind = value
        return family
    if family is None or name != family.name or family.samples:
        raise Malformed(f"{what} {name} is not at the beginning of its family")
    if what == "UNIT":
        if family.unit or value not in UNITS or not name.endswith("_" + value):
            raise Malformed(f"unit {value} of {name}")
        family.unit = value
    else:
        if family.help or not value or re.search(r'\\(?![\\n"])', value):
            raise Malformed(f"help {value}")
        family.help = value
    return family


def sample(families, family, seen, line):
    name, labels, number = sample_of(line)
    if family is None or not name.startswith(family.name):
        raise Malformed("a sample of another family")
    suffix = name[len(family.name):]
    if suffix not in SUFFIXES[family.kind]:
        raise Malformed(f"a {family.kind} has no {suffix or 'plain sample'}")
    if family.kind != "histogram" and "le" in labels or (suffix == "_bucket") != ("le" in labels):
        raise Malformed("le")
    if suffix in ("_bucket", "_count") and not WHOLE.match(number):
        raise Malformed(f"a count of {number}")
    key = (name, tuple(sorted(labels.items())))
    if key in seen:
        raise Malformed("a series twice")
    seen.add(key)
    if family.samples and suffix != "_bucket" and family.kind != "histogram" and \
            set(family.samples[0][1]) != set(labels):
        raise Malformed("other labels than the sample before")
    family.samples.append((suffix, labels, number))


def histogram(family):
    """Its buckets rise, end at +Inf, and agree with the count; one series, as pagetide has it."""
    buckets = [(labels["le"], int(number)) for suffix, labels, number in family.samples
               if suffix == "_bucket"]
    rest = {suffix: number for suffix, _, number in family.samples if suffix != "_bucket"}
    bounds = [float(bound) for bound, _ in buckets]
    counts = [count for _, count in buckets]
    if not buckets or buckets[-1][0] != "+Inf" or bounds != sorted(set(bounds)) or \
            counts != sorted(counts) or set(rest) != {"_count", "_sum"} or \
            int(rest["_count"]) != counts[-1]:
        raise Malformed(f"histogram {family.name}: {buckets} {rest}")


def read(text):
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    if not text.endswith("# EOF\n"):
        raise Malformed("no # EOF at the end")
    families, family, seen = {}, None, set()
    for number, line in enumerate(text.split("\n")[:-2], 1):
        try:
            if line.startswith("#"):
                family = meta(families, family, line)
            else:
                sample(families, family, seen, line)
        except Malformed as reason:
            raise Malformed(f"line {number}: {reason}: {line}") from None
    for family in families.values():
        if not family.help:
            raise Malformed(f"{family.name} has no help")
        if family.kind == "histogram":
            histogram(family)
        if family.kind == "counter" and family.unit is None and \
                family.name.rpartition("_")[2] in UNITS:
            raise Malformed(f"{family.name}: its unit is not said")
    return families


def promtool(text):
    """What Prometheus' own checker reads of it, where it is installed. To the older format, which it knows, a
    counter's help belongs to a name without "_total"."""
    program = shutil.which("promtool")
    if not program:
        return False
    done = subprocess.run([program, "check", "metrics"], input=text.encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    said = [line for line in done.stdout.decode().splitlines() if not line.endswith("_total no help text")]
    if done.returncode not in (0, 3) or said:
        raise Malformed(f"promtool: {said}")
    return True


# What each of these says is forbidden; the case `metrics` reads them before it believes anything.
GOOD = """# TYPE a_bytes counter
# UNIT a_bytes bytes
# HELP a_bytes What.
a_bytes_total{x="q\\"\\\\\\n{}=,"} 1
a_bytes_total{x=""} 2.5
# TYPE h_seconds histogram
# UNIT h_seconds seconds
# HELP h_seconds What.
h_seconds_bucket{le="0.5"} 1
h_seconds_bucket{le="+Inf"} 3
h_seconds_count 3
h_seconds_sum 9.1
# EOF
"""
BAD = (
    ("# EOF\n", ""), ("# EOF\n", "# EOF\n\n"), ("# EOF\n", "\n# EOF\n"), ("# EOF\n", "# EOF\n# EOF\n"),
    ("# TYPE a_bytes counter\n", ""), ("counter", "untyped"), ("counter", "info"),
    ("UNIT a_bytes bytes", "UNIT a_bytes seconds"), ("# HELP a_bytes What.\n", ""),
    ("# UNIT a_bytes bytes\n", ""), ("# HELP a_bytes What.\n", "# HELP a_bytes What.\n" * 2),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes{x=\"\"} 2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{y=\"\"} 2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=\"\"} -2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=\"\"} NaN"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=\"\"}  2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=\"\",} 2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=\"\",x=\"\"} 2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=\"\\t\"} 2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=''} 2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "a_bytes_total{x=\"\"} 2.5\na_bytes_total{x=\"\"} 2.5"),
    ("a_bytes_total{x=\"\"} 2.5", "h_seconds_sum 2.5"),
    ("{le=\"0.5\"} 1", "{le=\"0.5\"} 4"), ("{le=\"0.5\"} 1", "{le=\"0.5\"} 0.5"),
    ("h_seconds_bucket{le=\"+Inf\"} 3\n", ""), ("h_seconds_count 3", "h_seconds_count 2"),
    ("h_seconds_sum 9.1\n", ""), ("h_seconds_bucket{le=\"0.5\"}", "h_seconds_bucket"),
)


def try_itself():
    """Raises AssertionError when what is forbidden is read."""
    families = read(GOOD)
    assert families["a_bytes"].value(x="q\"\\\n{}=,") == 1
    for old, new in BAD:
        assert old in GOOD, old
        try:
            read(GOOD.replace(old, new, 1))
        except Malformed:
            continue
        raise AssertionError(f"{old!r} -> {new!r} was read")
    if promtool(GOOD):
        try:
            promtool(GOOD.replace('{x="q', "{x=q", 1))
        except Malformed:
            return
        raise AssertionError("promtool read a label without quotes")


if __name__ == "__main__":
    try_itself()
